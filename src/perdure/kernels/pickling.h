/* What pickling.c and instances.c share: a pickle that is being made. */

#ifndef PERDURE_PICKLING_H
#define PERDURE_PICKLING_H

#include "encoding.h"

enum { RAISED = -1, UNUSUAL = 0, SAVED = 1 }; /* what came of saving a value; only RAISED leaves an exception */
enum { FEW_BYTES = 1024, FEW_OBJECTS = 128, FEW_SLOTS = 256, MOST_FLAT = 100 };

typedef struct {
    PyObject *encoder; /* borrowed */
    Places *places;
    int asked;                  /* whether anything was saved that is no plain value */
    int needs_memo;             /* whether these opcodes are there: it is not flat, see perdure/pickling/flat.py */
    int depth;
    unsigned char *bytes;
    size_t used, room;
    PyObject **objects; /* the memo, by number; NULL for what nobody else has */
    size_t count, most;
    uint16_t *slots; /* numbers + 1, by addresses */
    size_t mask;
    unsigned char few_bytes[FEW_BYTES];
    PyObject *few_objects[FEW_OBJECTS];
    uint16_t few_slots[FEW_SLOTS];
    uint16_t notes[MOST_FLAT]; /* where the first opcodes belong that note something in the memo */
} Pickle;

/* The values of attributes, held, in their order. */
typedef struct {
    PyObject **all;
    Py_ssize_t count;
} Values;

/* Append the pickle of a value, without PROTO, FRAME and STOP. */
int save(Pickle *pickle, PyObject *value);

/* Append an instance of a class that is not one of the builtin values. */
int save_instance(Pickle *pickle, PyObject *obj);

/* Make room for that many bytes; 0 where they do not fit. */
int grow(Pickle *pickle, size_t size);

/* Where that many bytes are to be put; NULL where they do not fit. */
static inline unsigned char *
place_for(Pickle *pickle, size_t size)
{
    if (pickle->room - pickle->used < size && !grow(pickle, size)) {
        return NULL;
    }
    unsigned char *at = pickle->bytes + pickle->used;
    pickle->used += size;
    return at;
}

static inline int
put(Pickle *pickle, const void *bytes, size_t size)
{
    unsigned char *at = place_for(pickle, size);
    if (at == NULL) {
        return UNUSUAL;
    }
    memcpy(at, bytes, size);
    return SAVED;
}

static inline int
put_byte(Pickle *pickle, unsigned char byte)
{
    return put(pickle, &byte, 1);
}

/* Append what is fetched from the memo; UNUSUAL if it is not there. */
int put_known(Pickle *pickle, PyObject *obj);

/* Give an object, or something that nobody can refer to (NULL), the next number in the memo. */
int memoize(Pickle *pickle, PyObject *obj);

/* The payload: a head, and the pickle of values as `Encoder.encode_simple_in_python` makes it of a list of them, new
   bytes. NULL without an exception: not usual. */
PyObject *payload_of(Places *places, PyObject *head, const Values *values, int *asked);

#endif
