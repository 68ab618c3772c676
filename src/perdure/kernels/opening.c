/* Frames opened: the short way of `decoder` in perdure/records/frame.py. See frames.c for what holds for both. */

#include "frames.h"
#include "loading.h"

#include <structmember.h>

#define MOST_MIDDLES 1000
#define MIDDLE 6 /* class name, version, code, references, fields, shape */
#define RECENT 256
#define LONGEST_KEY 4096

typedef struct {
    PyObject *key, *told;
} Recent;

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Sealing sealing;
    PyObject *middle, *slow;
    PyObject *middles; /* dict: version, lengths and bytes from code to shape -> what `middle` told of them */
    Recent recent[RECENT]; /* some of them */
} FrameDecoder;

/* Where a key is looked for first: 8 bytes at a time are multiplied, and the highest bits tell. */
static size_t
place_of(const unsigned char *key, size_t size)
{
    uint64_t mixed = size, part;
    for (; size > 8; size -= 8, key += 8) {
        memcpy(&part, key, 8);
        mixed = (mixed ^ part) * 0x9E3779B97F4A7C15u;
        mixed ^= mixed >> 32;
    }
    part = 0;
    memcpy(&part, key, size);
    return (size_t)((mixed ^ part) * 0x9E3779B97F4A7C15u >> 32) % RECENT;
}

/* What `middle` has told of a key, or tells of the frame, a new reference; NULL with an exception, or without one for
   the longer way. */
static PyObject *
told_of(FrameDecoder *self, PyObject *frame, PyObject *key)
{
    PyObject *told = Py_XNewRef(PyDict_GetItemWithError(self->middles, key));
    if (told != NULL || PyErr_Occurred()) {
        return told;
    }
    told = PyObject_CallOneArg(self->middle, frame);
    if (told == NULL || !PyTuple_CheckExact(told) || PyTuple_GET_SIZE(told) != MIDDLE) {
        Py_XDECREF(told);
        return NULL;
    }
    if (PyDict_GET_SIZE(self->middles) > MOST_MIDDLES) {
        PyDict_Clear(self->middles);
    }
    if (PyDict_SetItem(self->middles, key, told) < 0) {
        Py_CLEAR(told);
    }
    return told;
}

/* What the bytes between id and values say, a new reference; NULL with an exception, or without one for the longer way.

   Most frames of a bulk have the same there, or the same as one of the last: these are found without an object made. */
static PyObject *
middle_of(FrameDecoder *self, PyObject *frame, const unsigned char *data, Py_ssize_t from, Py_ssize_t to)
{
    unsigned char key[LONGEST_KEY];
    size_t size = 16 + (size_t)(to - from);
    if (size > LONGEST_KEY) {
        return NULL;
    }
    memcpy(key, data + 4, 4);         /* flags and version */
    memcpy(key + 4, data + 17, 7);    /* lengths of code, class, references and fields */
    memset(key + 11, 0, 5);
    memcpy(key + 16, data + from, size - 16);
    Recent *recent = &self->recent[place_of(key, size)];
    if (recent->key != NULL && (size_t)PyBytes_GET_SIZE(recent->key) == size
        && memcmp(PyBytes_AS_STRING(recent->key), key, size) == 0) {
        return Py_NewRef(recent->told);
    }
    PyObject *bytes = PyBytes_FromStringAndSize((char *)key, (Py_ssize_t)size);
    PyObject *told = bytes == NULL ? NULL : told_of(self, frame, bytes);
    if (told == NULL) {
        Py_XDECREF(bytes);
        return NULL;
    }
    Py_XSETREF(recent->key, bytes);
    Py_XSETREF(recent->told, Py_NewRef(told));
    return told;
}

/* The parts of a frame, as `decoder` gives them; NULL with an exception, or without one for the longer way. */
static PyObject *
opened(FrameDecoder *self, PyObject *frame)
{
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(frame);
    Py_ssize_t size = PyBytes_GET_SIZE(frame), code_at, shape_at, values_at;
    if (size < HEAD + TAIL || memcmp(data, "\xb7PD", 3) || data[3] < 1 || data[3] > NEWEST) {
        return NULL;
    }
    uint32_t flags = get_little(data + 4, 2), revision = get_little(data + 12, 4);
    if (flags & (WIDE | COMPRESSED | ENCRYPTED | FOREIGN)) {
        return NULL;
    }
    code_at = HEAD + data[16];
    shape_at = code_at + data[17] + get_little(data + 18, 2) + get_little(data + 20, 2) + get_little(data + 22, 2);
    if (shape_at + (Py_ssize_t)get_little(data + 24, 4) + TAIL != size) {
        return NULL;
    }
    values_at = shape_at;
    if (flags & SHAPED) {
        if (shape_at + 2 > size - TAIL) {
            return NULL;
        }
        values_at += 2 + get_little(data + shape_at, 2);
        if (values_at > size - TAIL) {
            return NULL;
        }
    }
    if (is_sealed(&self->sealing, data, size) <= 0) {
        return NULL;
    }
    PyObject *middle = middle_of(self, frame, data, code_at, values_at);
    if (middle == NULL) {
        return NULL;
    }
    PyObject *id = PyUnicode_DecodeUTF8((const char *)data + HEAD, code_at - HEAD, NULL);
    PyObject *values = PyBytes_FromStringAndSize((const char *)data + values_at, size - TAIL - values_at);
    PyObject *revision_told = PyLong_FromUnsignedLong(revision), *flags_told = PyLong_FromUnsignedLong(flags);
    PyObject *parts = NULL;
    if (id != NULL && values != NULL && revision_told != NULL && flags_told != NULL) {
        parts = PyTuple_Pack(10, id, revision_told, flags_told, PyTuple_GET_ITEM(middle, 0),
                             PyTuple_GET_ITEM(middle, 1), PyTuple_GET_ITEM(middle, 2), PyTuple_GET_ITEM(middle, 3),
                             PyTuple_GET_ITEM(middle, 4), values, PyTuple_GET_ITEM(middle, 5));
    }
    Py_XDECREF(id);
    Py_XDECREF(values);
    Py_XDECREF(revision_told);
    Py_XDECREF(flags_told);
    Py_DECREF(middle);
    return parts;
}

static PyObject *
decode(PyObject *decoder, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    FrameDecoder *self = (FrameDecoder *)decoder;
    if (PyVectorcall_NARGS(nargsf) == 1 && kwnames == NULL && PyBytes_CheckExact(args[0])) {
        PyObject *parts = opened(self, args[0]);
        if (parts != NULL || PyErr_Occurred()) {
            return parts;
        }
    }
    return PyObject_Vectorcall(self->slow, args, nargsf, kwnames);
}

static int
clear_decoder(PyObject *decoder)
{
    FrameDecoder *self = (FrameDecoder *)decoder;
    Py_CLEAR(self->sealing.fork);
    Py_CLEAR(self->middle);
    Py_CLEAR(self->slow);
    Py_CLEAR(self->middles);
    for (int place = 0; place < RECENT; place++) {
        Py_CLEAR(self->recent[place].key);
        Py_CLEAR(self->recent[place].told);
    }
    return 0;
}

static int
traverse_decoder(PyObject *decoder, visitproc visit, void *arg)
{
    FrameDecoder *self = (FrameDecoder *)decoder;
    Py_VISIT(self->sealing.fork);
    Py_VISIT(self->middle);
    Py_VISIT(self->slow);
    Py_VISIT(self->middles);
    return 0;
}

static void
free_decoder(PyObject *decoder)
{
    PyObject_GC_UnTrack(decoder);
    clear_decoder(decoder);
    Py_TYPE(decoder)->tp_free(decoder);
}

static PyObject *
new_decoder(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *secret, *fork, *middle, *slow;
    if (!PyArg_ParseTuple(args, "OOOO", &secret, &fork, &middle, &slow)) {
        return NULL;
    }
    FrameDecoder *self = (FrameDecoder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->call = decode;
    self->middle = Py_NewRef(middle), self->slow = Py_NewRef(slow);
    self->middles = PyDict_New();
    if (self->middles == NULL || begin_sealing(&self->sealing, secret, fork) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyTypeObject FrameDecoderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.FrameDecoder",
    .tp_doc = "FrameDecoder(secret, fork, middle, slow)(frame) gives the parts of its record.",
    .tp_basicsize = sizeof(FrameDecoder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = new_decoder,
    .tp_dealloc = free_decoder,
    .tp_traverse = traverse_decoder,
    .tp_clear = clear_decoder,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(FrameDecoder, call),
};

PyObject *
parts_if_usual(PyObject *decoder, PyObject *frame)
{
    int is_usual = Py_TYPE(decoder) == &FrameDecoderType && PyBytes_CheckExact(frame);
    return is_usual ? opened((FrameDecoder *)decoder, frame) : NULL;
}

int
add_opening(PyObject *module)
{
    return PyModule_AddType(module, &FrameDecoderType);
}
