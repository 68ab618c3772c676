/* What encoding.c gives to saving.c. */

#ifndef PERDURE_ENCODING_H
#define PERDURE_ENCODING_H

#include "entries.h"

extern struct InEncoder {
    Py_ssize_t enrol, giving, itself, mark, modules, names, outside, parts, pickler, places, protocol;
} in_encoder;

/* What a payload refers to. Most refer to one record, or to none, and need no dict. */
typedef struct {
    PyObject *encoder; /* borrowed: whom references are told to */
    PyObject *first;   /* the id that is referred to first, held, or NULL */
    PyObject *all;     /* places by ids, which the encoder has as well; NULL as long as nobody asks for more than one */
} Places;

/* The place of a record of its own among the references, a new number; NULL, maybe with an exception. */
PyObject *place_of(Places *places, PyObject *obj);

/* Whether an object is built on Persistable. */
int is_persistable(PyObject *obj);

extern PyTypeObject *encoder_type; /* NULL as long as it is not bound */

/* What `Encoder.encode_simple` in Python gives, or NotImplemented where that has to do it; NULL with an exception. */
PyObject *encoded_simple(PyObject *encoder, PyObject *obj, PyObject *facts);

#endif
