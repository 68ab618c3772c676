/* Plain values from their pickles. */

#ifndef PERDURE_UNPICKLING_H
#define PERDURE_UNPICKLING_H

#include "kernels.h"

enum { KNOWN_TEXTS = 512 };

/* Short texts that the records of a bulk have in common: one object for all of them. Within a record a text is given
   once only, so that what it holds is as much the same object as C pickle makes it: that shows when it is saved. */
typedef struct {
    uint32_t record; /* the number of the one that is being read */
    struct {
        PyObject *text;
        uint32_t record, uses; /* of the last that it was given to; more than it was missed */
    } known[KNOWN_TEXTS];
} Texts;

/* The value of a pickle, a new reference; NULL with an exception, or without one if C pickle is to read it: nothing has
   been done. `texts` may be NULL. */
PyObject *unpickled(const unsigned char *data, Py_ssize_t size, Texts *texts);

/* Let go of all texts. */
void forget_texts(Texts *texts);

#endif
