/* What naming.c gives to saving.c and joining.c. */

#ifndef PERDURE_NAMING_H
#define PERDURE_NAMING_H

#include "entries.h"

/* Where a view keeps its entries. */
typedef struct {
    PyObject *view, *by_id, *numbered, *enlisted; /* `enlisted` is NULL where the caller sees to that */
} Into;

/* The facts of a simple class of an object, if it is the user's own, borrowed; NULL, maybe with an exception. */
PyObject *usual_facts(PyObject *obj);

/* The same, for an object that has no entry. */
PyObject *facts_if_new(PyObject *obj);

/* The attributes of the numbers that `naming` gives, a new reference; NULL with an exception. */
PyObject *numbers_of(PyObject *naming);

/* The next of the numbers that are reserved there; NULL, maybe with an exception, if there is none. */
PyObject *next_number(PyObject *numbers);

/* Let a view hold an object as one that may have been changed; -1 with an exception. */
int enlist(PyObject *enlisted, PyObject *entry, PyObject *obj);

/* The entry of a new object, which is enlisted, with `more` flags; NULL with an exception. */
PyObject *enrol_new(const Into *into, PyObject *obj, PyObject *facts, PyObject *number, long more);

/* An id of its class, a new reference; NULL with an exception. */
PyObject *as_id(PyObject *text);

/* Whether `bind_ids` was called. */
int are_ids_bound(void);

#endif
