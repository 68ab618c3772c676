/* Views, seen from C: their attributes, their lock, and the room that they make. */

#ifndef PERDURE_VIEWS_H
#define PERDURE_VIEWS_H

#include "kernels.h"

/* Names of attributes and methods. */
extern struct Names {
    PyObject *ahead, *append, *at, *by_id, *classes, *closed, *decoders, *enlisted, *enlisted_limit, *entries, *frames;
    PyObject *loaded, *loaded_limit, *lock, *make_room, *mark, *napping, *owns, *retired, *revision;
    PyObject *trust_all, *watch;
} of_view;

/* An attribute in the dict of a view, borrowed; None, and no exception, if it is not there. */
PyObject *attribute_of(PyObject *attributes, PyObject *name);

/* Keep other threads out of a view: 1 if they are, 0 if one of them is in it, -1 with an exception. `*lock` is for
   `let_go_of_view`; it is NULL where there was no need. */
int hold_view(PyObject *attributes, PyObject **lock);

/* Let them in again. An exception that is there stays; -1 if there is one by now. */
int let_go_of_view(PyObject *lock);

/* Whether this thread runs a loop of asyncio, whose tasks have views of their own; -1 with an exception. */
int is_in_loop(void);

/* A round of rest, if more is in memory than should be; `woken` is an entry, or NULL. -1 with an exception. */
int make_room(PyObject *view, PyObject *attributes, PyObject *woken);

#endif
