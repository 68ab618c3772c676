/* What shapes.c gives to encoding.c. */

#ifndef PERDURE_SHAPES_H
#define PERDURE_SHAPES_H

#include "entries.h"
#include "pickling.h"

enum { NAMES, LINKS, SHAPE_HEAD }; /* of a shape */

/* The shape for the names in a dict of `values->count` items, borrowed, and its values, borrowed; NULL, maybe with an
   exception. */
PyObject *shape_for(PyObject *graph, PyObject *facts, Values *values);

/* The ids that a payload refers to, in their order, a tuple; NULL with an exception. Where it is one only, as mostly,
   objects that refer to the same share the tuple. */
PyObject *ids_in(const Places *places);

#endif
