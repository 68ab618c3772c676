/* What saving.c and drafting.c share. */

#ifndef PERDURE_SAVING_H
#define PERDURE_SAVING_H

#include "drafts.h"
#include "encoding.h"

typedef struct {
    PyObject_HEAD
    PyObject *worklist, *encoder, *view, *naming;
    PyObject *by_id, *numbered, *enlisted, *codes;               /* dicts */
    PyObject *queue, *created, *drafts, *added, *looked_at;      /* lists */
    PyObject *number;                                            /* that what is on the list bears */
    int has_fields;                                              /* extra ones, of the store */
    int names_all;                                               /* ids come from the store's counter */
} Saving;

/* The draft of a new object: 1 if it was made, 0 if the object takes the longer way, -1 with an exception. */
int write_one(Saving *self, PyObject *entry, PyObject *obj, PyObject *facts);

/* Whether `bind_drafts` was called. */
int are_drafts_bound(void);

#endif
