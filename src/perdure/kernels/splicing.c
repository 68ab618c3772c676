/* Stored frames with another class name: the loop of `Splicer.drafts` in perdure/records/splicing.py, the reference.

   Nothing of a frame is used before its seal was found good, but for the beginning that finds its head. */

#define _GNU_SOURCE /* memmem */

#include "frames.h"

enum { FITS, CODE_AT, CLASS_AT, CLASS_END, FLAGS, VERSION, NAMES, HEAD_PARTS };  /* of a head */
enum { OLD, NEW, ENCODED, LENGTHS_TOLD, TELLS, NAME_PARTS };                     /* of what is known of a class name */
enum { D_ID, D_BASE, D_FLAGS, D_CLASS, D_VERSION, D_CODE, D_REFERENCES, D_FIELDS, D_PAYLOAD, D_PARTS }; /* a draft */

typedef struct {
    Sealing sealing;
    PyObject *heads, *signs, *learn, *named, *fields, *no_fields;
    PyTypeObject *draft;
    const char *revision; /* four bytes */
} Splicer;

/* What is known of frames that begin alike, new; NULL with an exception. */
static PyObject *
head_of(Splicer *self, PyObject *frame)
{
    char kind[16] = {0};
    const char *data = PyBytes_AS_STRING(frame);
    Py_ssize_t size = PyBytes_GET_SIZE(frame), first = size < 12 ? size : 12, second = size < 16 ? 0 : size - 16;
    second = second > 4 ? 4 : second;
    memcpy(kind, data, (size_t)first);
    memcpy(kind + first, data + 16, (size_t)second);
    PyObject *key = PyBytes_FromStringAndSize(kind, first + second);
    if (key == NULL) {
        return NULL;
    }
    PyObject *head = PyDict_GetItemWithError(self->heads, key);
    if (head != NULL) {
        Py_INCREF(head);
    } else if (!PyErr_Occurred()) {
        head = PyObject_CallFunctionObjArgs(self->learn, key, frame, NULL);
    }
    Py_DECREF(key);
    if (head != NULL && (!PyTuple_Check(head) || PyTuple_GET_SIZE(head) < HEAD_PARTS)) {
        PyErr_SetString(PyExc_TypeError, "a head is a tuple");
        Py_CLEAR(head);
    }
    return head;
}

/* What is known of a class name, new; NULL with an exception. */
static PyObject *
names_of(Splicer *self, PyObject *head, PyObject *name)
{
    PyObject *known = PyDict_GetItemWithError(PyTuple_GET_ITEM(head, NAMES), name);
    if (known != NULL) {
        Py_INCREF(known);
    } else if (!PyErr_Occurred()) {
        known = PyObject_CallFunctionObjArgs(self->named, head, name, NULL);
    }
    if (known != NULL && (!PyTuple_Check(known) || PyTuple_GET_SIZE(known) != NAME_PARTS
                          || !PyBytes_CheckExact(PyTuple_GET_ITEM(known, ENCODED))
                          || !PyBytes_CheckExact(PyTuple_GET_ITEM(known, LENGTHS_TOLD)))) {
        PyErr_SetString(PyExc_TypeError, "what is known of a name is a tuple");
        Py_CLEAR(known);
    }
    return known;
}

/* Whether one of the signs stands in the frame between two places. */
static int
has_sign(PyObject *signs, const char *data, Py_ssize_t from, Py_ssize_t to)
{
    for (Py_ssize_t place = 0; from < to && place < PyTuple_GET_SIZE(signs); place++) {
        PyObject *sign = PyTuple_GET_ITEM(signs, place);
        if (memmem(data + from, (size_t)(to - from), PyBytes_AS_STRING(sign), (size_t)PyBytes_GET_SIZE(sign)) != NULL) {
            return 1;
        }
    }
    return 0;
}

/* The sealed frame with another class name; NULL with an exception. */
static PyObject *
spliced(Splicer *self, PyObject *old, Py_ssize_t class_at, Py_ssize_t class_end, PyObject *known)
{
    PyObject *name = PyTuple_GET_ITEM(known, ENCODED);
    const char *data = PyBytes_AS_STRING(old);
    Py_ssize_t size = PyBytes_GET_SIZE(old), body = class_at + PyBytes_GET_SIZE(name) + size - TAG - class_end;
    PyObject *frame = PyBytes_FromStringAndSize(NULL, body + TAG);
    if (frame == NULL) {
        return NULL;
    }
    unsigned char *start = (unsigned char *)PyBytes_AS_STRING(frame), *at = start;
    at = put(at, data, 12);
    at = put(at, self->revision, 4);
    at = put(at, PyBytes_AS_STRING(PyTuple_GET_ITEM(known, LENGTHS_TOLD)), 4);
    at = put(at, data + 20, class_at - 20);
    at = put(at, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name));
    at = put(at, data + class_end, size - TAIL - class_end);
    put_little(at, crc32_of(start, at - start), CRC);
    if (sealed(&self->sealing, start, body, start + body) < 0) {
        Py_CLEAR(frame);
    }
    return frame;
}

/* The draft of a frame with a good seal; NULL with an exception. */
static PyObject *
draft_of(Splicer *self, PyObject *frame, PyObject *head, PyObject *known, Py_ssize_t class_at, Py_ssize_t class_end)
{
    const char *data = PyBytes_AS_STRING(frame);
    Py_ssize_t code_at = PyLong_AsSsize_t(PyTuple_GET_ITEM(head, CODE_AT));
    int tells = PyObject_IsTrue(PyTuple_GET_ITEM(known, TELLS));
    PyObject *parts[D_PARTS] = {NULL}, *draft = NULL;
    if (tells < 0 || (parts[D_ID] = PyUnicode_DecodeUTF8(data + HEAD, code_at - HEAD, NULL)) == NULL
        || (parts[D_BASE] = PyLong_FromUnsignedLong(get_little((const unsigned char *)data + 12, 4))) == NULL
        || (parts[D_REFERENCES] = PyTuple_New(0)) == NULL
        || (parts[D_FIELDS] = tells ? PyObject_CallFunctionObjArgs(self->fields, head, frame, NULL)
                                    : Py_NewRef(self->no_fields)) == NULL
        || (parts[D_PAYLOAD] = spliced(self, frame, class_at, class_end, known)) == NULL
        || (draft = self->draft->tp_alloc(self->draft, D_PARTS)) == NULL) {
        for (int part = 0; part < D_PARTS; part++) {
            Py_XDECREF(parts[part]);
        }
        return NULL;
    }
    parts[D_FLAGS] = Py_NewRef(PyTuple_GET_ITEM(head, FLAGS));
    parts[D_CLASS] = Py_NewRef(PyTuple_GET_ITEM(known, NEW));
    parts[D_VERSION] = Py_NewRef(PyTuple_GET_ITEM(head, VERSION));
    parts[D_CODE] = Py_NewRef(PyTuple_GET_ITEM(known, OLD));
    for (int part = 0; part < D_PARTS; part++) {
        PyTuple_SET_ITEM(draft, part, parts[part]);
    }
    return draft;
}

/* Put the frame's draft into `found`, or the frame into `rest`, or neither; -1 with an exception. */
static int
sort_in(Splicer *self, PyObject *frame, PyObject *head, PyObject *found, PyObject *rest)
{
    const char *data = PyBytes_AS_STRING(frame);
    Py_ssize_t size = PyBytes_GET_SIZE(frame), class_at = PyLong_AsSsize_t(PyTuple_GET_ITEM(head, CLASS_AT)),
               class_end = PyLong_AsSsize_t(PyTuple_GET_ITEM(head, CLASS_END));
    if (PyTuple_GET_ITEM(head, FITS) != Py_True || has_sign(self->signs, data, class_end, size - TAIL)) {
        return PyList_Append(rest, frame);
    }
    Py_ssize_t end = class_end < size ? class_end : size, start = class_at < end ? class_at : end;
    PyObject *name = PyBytes_FromStringAndSize(data + start, end - start), *draft;
    PyObject *known = name == NULL ? NULL : names_of(self, head, name);
    int done = -1;
    if (known != NULL) {
        PyObject *encoded = PyTuple_GET_ITEM(known, ENCODED);
        int is_named = PyBytes_GET_SIZE(name) > 0;
        if (is_named && PyBytes_GET_SIZE(encoded) == end - start
            && !memcmp(PyBytes_AS_STRING(encoded), data + start, (size_t)(end - start))) {
            done = 0; /* it keeps its name */
        } else if (!is_named || PyBytes_GET_SIZE(PyTuple_GET_ITEM(known, LENGTHS_TOLD)) != 4
                   || class_end > size - TAIL) {
            done = PyList_Append(rest, frame);
        } else {
            int good = is_sealed(&self->sealing, (const unsigned char *)data, size);
            if (good > 0) {
                draft = draft_of(self, frame, head, known, class_at, class_end);
                done = draft == NULL ? -1 : PyList_Append(found, draft);
                Py_XDECREF(draft);
            } else if (good == 0) {
                done = PyList_Append(rest, frame);
            }
        }
    }
    Py_XDECREF(known);
    Py_XDECREF(name);
    return done;
}

/* splice(frames, revision, secret, fork, heads, signs, learn, named, fields, no_fields, draft): drafts, and the frames
   that must be looked at as a whole. */
static PyObject *
splice(PyObject *module, PyObject *args)
{
    Splicer self;
    PyObject *frames, *revision, *secret, *fork;
    if (!PyArg_ParseTuple(args, "O!SOOO!O!OOOOO!", &PyList_Type, &frames, &revision, &secret, &fork, &PyDict_Type,
                          &self.heads, &PyTuple_Type, &self.signs, &self.learn, &self.named, &self.fields,
                          &self.no_fields, &PyType_Type, &self.draft)) {
        return NULL;
    }
    int usual = PyBytes_GET_SIZE(revision) == 4 && PyType_IsSubtype(self.draft, &PyTuple_Type);
    for (Py_ssize_t place = 0; usual && place < PyTuple_GET_SIZE(self.signs); place++) {
        usual = PyBytes_CheckExact(PyTuple_GET_ITEM(self.signs, place));
    }
    if (!usual) {
        PyErr_SetString(PyExc_TypeError, "signs are bytes, a revision has four, and drafts are tuples");
        return NULL;
    }
    if (begin_sealing(&self.sealing, secret, fork) < 0) {
        Py_DECREF(self.sealing.fork);
        return NULL;
    }
    self.revision = PyBytes_AS_STRING(revision);
    PyObject *found = PyList_New(0), *rest = PyList_New(0), *both = NULL;
    int done = found == NULL || rest == NULL ? -1 : 0;
    for (Py_ssize_t place = 0; done == 0 && place < PyList_GET_SIZE(frames); place++) {
        PyObject *frame = Py_NewRef(PyList_GET_ITEM(frames, place)); /* what is called could change the list */
        PyObject *head = NULL;
        if (!PyBytes_CheckExact(frame)) {
            PyErr_SetString(PyExc_TypeError, "a frame is bytes");
        } else {
            head = head_of(&self, frame);
        }
        done = head == NULL ? -1 : sort_in(&self, frame, head, found, rest);
        Py_XDECREF(head);
        Py_DECREF(frame);
    }
    if (done == 0) {
        both = PyTuple_Pack(2, found, rest);
    }
    Py_XDECREF(found);
    Py_XDECREF(rest);
    Py_DECREF(self.sealing.fork);
    return both;
}

static PyMethodDef functions[] = {
    {"splice", splice, METH_VARARGS, "Drafts of frames with other class names, and the frames that are left."},
    {NULL, NULL, 0, NULL},
};

int
add_splicing(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
