/* Objects filled from their records: what many at a time and one at a time share. */

#ifndef PERDURE_LOADING_H
#define PERDURE_LOADING_H

#include "unpickling.h"

#define PARTS 10

enum { ID, REVISION, FLAGS, CLASS_NAME, VERSION, CODE, REFERENCES, FIELDS, PAYLOAD, SHAPE }; /* of parts */

/* Where objects that are loaded go to. */
typedef struct {
    PyObject *view, *held, *made;                  /* made: a dict, or NULL */
    PyObject *by_id, *numbered, *classes, *append; /* of the view: dicts, and the method of its deque */
    Texts *texts;                                  /* those of the bulk, or NULL */
} Into;

/* 1 if the object of that id has its state, 0 if Python has to see to it, -1 with an exception. Where `object` is not
   NULL, and it is 1, that is a new reference. */
int take(const Into *into, PyObject *id, PyObject *parts, PyObject **object);

/* The parts of a frame as a decoder gives them; NULL with an exception, or without one where it or the frame is not
   usual. */
PyObject *parts_if_usual(PyObject *decoder, PyObject *frame);

#endif
