/* What saving.c, drafting.c and changing.c share. */

#ifndef PERDURE_SAVING_H
#define PERDURE_SAVING_H

#include "drafts.h"
#include "encoding.h"

typedef struct {
    PyObject_HEAD
    PyObject *worklist, *encoder, *view;
    PyObject *of_numbers;                                    /* the attributes of those that naming gives */
    PyObject *by_id, *numbered, *enlisted, *codes, *modules; /* dicts */
    PyObject *queue, *created, *drafts, *added, *looked_at;  /* lists */
    PyObject *written, *doubtful;                            /* lists */
    PyObject *number;                                        /* that what is on the list bears */
    PyObject *named, *module, *code;                         /* of the last draft that names modules, or NULL */
    int has_fields;                                          /* extra ones, of the store */
    int names_all;                                           /* ids come from the store's counter */
    int everything;                                          /* what is enlisted is on the list from the beginning */
    int refers_to_stored;                                    /* as the worklist has it, where `meet` has seen to it */
} Saving;

/* The draft of a new object: 1 if it was made, 0 if the object takes the longer way, -1 with an exception. Unless
   `is_enlisted`, the caller enlists it if it stays awake. */
int write_one(Saving *self, PyObject *entry, PyObject *obj, PyObject *facts, int is_enlisted);

/* What the encoder gives for an object of a simple class, a new reference; None if it takes the longer way. */
PyObject *usually_encoded(Saving *self, PyObject *obj, PyObject *facts);

/* The draft of an object that was encoded, new or changed, and what the entry learns by it; -1 with an exception. */
int draft_encoded(Saving *self, PyObject *entry, PyObject *obj, PyObject *facts, PyObject *encoded);

/* Whether somebody else holds a container that is an attribute: `is_held` of perdure/objects/instances/states.py. */
int is_held(PyObject *graph);

/* Whether what was touched looks usual: it is an entry and an object that is stored, of its simple class. */
int is_usual_change(PyObject *entry, PyObject *obj);

/* A draft of it, if it differs, or if its record has to tell: 1 if that is done, 0 if it takes the longer way, -1. */
int look_at(Saving *self, PyObject *entry, PyObject *obj);

/* Whether `bind_drafts` was called. */
int are_drafts_bound(void);

#endif
