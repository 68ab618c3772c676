/* Records that were read ahead, taken one at a time. */

#ifndef PERDURE_WAITING_H
#define PERDURE_WAITING_H

#include "kernels.h"

/* The object of that id from the record that waits for it: 1 if it has its state, and is a new reference in `*object`;
   0 if there is none or Python has to see to it, and nothing was done; -1 with an exception. */
int take_waiting(PyObject *view, PyObject *attributes, PyObject *id, PyObject **object);

#endif
