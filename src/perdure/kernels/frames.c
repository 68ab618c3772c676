/* Drafts of usual records sealed: the short way of `encoder` in perdure/records/frame.py (`decoder`: opening.c), and
   the rows of a bulk: `row_values` of perdure/backends/sqlite/writing.py.

   - Usual are narrow heads, payloads that are not compressed, good seals. Whatever else comes is given to the function
     in Python, which does the whole work again, and raises the errors.
   - Nothing in a frame is believed before its seal was found good, and no length in it before it was compared.
   - Checksums are in crc32.c, seals in sealing.c; those of rows are made several at a time. */

#include "frames.h"

#include "drafts.h"

#include <structmember.h>

#define KINDS 8 /* of heads that are remembered; many records share one */

/* -- drafts to frames ---------------------------------------------------------------------------------------- */

typedef struct {
    Py_ssize_t id_size;
    long flags, version;
    PyObject *class_name, *code; /* held, so that the same address is the same text */
    PyObject *head, *names;      /* bytes: the head up to its lengths, of any revision; code and class */
} Kind;

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    Sealing sealing;
    PyObject *begin, *slow, *as_json;
    Py_ssize_t limit; /* bytes of a payload from which on it may be compressed */
    int next;
    Kind kinds[KINDS];
} FrameEncoder;

static void
forget_kind(Kind *kind)
{
    Py_CLEAR(kind->class_name);
    Py_CLEAR(kind->code);
    Py_CLEAR(kind->head);
    Py_CLEAR(kind->names);
}

/* A number that must fit four bytes; -1 where it does not. No exception is left. */
static long long
as_four_bytes(PyObject *number)
{
    long long value = PyLong_AsLongLong(number);
    PyErr_Clear();
    return value < 0 || value > 0xFFFFFFFFll ? -1 : value;
}

/* The kind of a draft, made if it is new; NULL with an exception, or without one if it takes the longer way. */
static Kind *
kind_of(FrameEncoder *self, PyObject *draft, Py_ssize_t id_size, PyObject *revision)
{
    PyObject *class_name = PyTuple_GET_ITEM(draft, CLASS_NAME), *code = PyTuple_GET_ITEM(draft, CODE);
    long flags = PyLong_AsLong(PyTuple_GET_ITEM(draft, FLAGS));
    long version = PyLong_AsLong(PyTuple_GET_ITEM(draft, CLASS_VERSION));
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return NULL;
    }
    for (int place = 0; place < KINDS; place++) {
        Kind *kind = &self->kinds[place];
        if (kind->class_name == class_name && kind->code == code && kind->flags == flags && kind->id_size == id_size
            && kind->version == version) {
            return kind;
        }
    }
    PyObject *size = PyLong_FromSsize_t(id_size);
    PyObject *begun = size == NULL ? NULL
                                   : PyObject_CallFunctionObjArgs(self->begin, draft, size, revision, NULL);
    Py_XDECREF(size);
    if (begun == NULL) {
        return NULL;
    }
    Kind *kind = NULL;
    if (PyTuple_CheckExact(begun) && PyTuple_GET_SIZE(begun) == 2 && PyBytes_CheckExact(PyTuple_GET_ITEM(begun, 0))
        && PyBytes_GET_SIZE(PyTuple_GET_ITEM(begun, 0)) == HEAD - LENGTHS
        && PyBytes_CheckExact(PyTuple_GET_ITEM(begun, 1))) {
        kind = &self->kinds[self->next];
        self->next = (self->next + 1) % KINDS;
        forget_kind(kind);
        kind->id_size = id_size, kind->flags = flags, kind->version = version;
        kind->class_name = Py_NewRef(class_name), kind->code = Py_NewRef(code);
        kind->head = Py_NewRef(PyTuple_GET_ITEM(begun, 0)), kind->names = Py_NewRef(PyTuple_GET_ITEM(begun, 1));
    }
    Py_DECREF(begun);
    return kind;
}

/* How many bytes the references take, joined by line feeds; -1 if they take the longer way. */
static Py_ssize_t
size_of_references(PyObject *references)
{
    Py_ssize_t count = PyTuple_GET_SIZE(references), size = count ? count - 1 : 0;
    for (Py_ssize_t place = 0; place < count; place++) {
        Py_ssize_t length;
        PyObject *text = PyTuple_GET_ITEM(references, place);
        if (!PyUnicode_Check(text) || PyUnicode_AsUTF8AndSize(text, &length) == NULL) {
            PyErr_Clear();
            return -1;
        }
        size += length;
    }
    return size;
}

static unsigned char *
put_references(unsigned char *at, PyObject *references)
{
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(references); place++) {
        Py_ssize_t length;
        const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(references, place), &length); /* made before */
        if (place) {
            *at++ = '\n';
        }
        at = put(at, text, length);
    }
    return at;
}

/* The fields as JSON: a new text, or None where there are none; NULL with an exception. */
static PyObject *
fields_told(FrameEncoder *self, PyObject *fields)
{
    int any = PyObject_IsTrue(fields);
    if (any <= 0) {
        return any < 0 ? NULL : Py_NewRef(Py_None);
    }
    return PyObject_CallOneArg(self->as_json, fields);
}

/* The frame of a draft with these parts; NULL with an exception, or without one if it takes the longer way. Bytes; or,
   with `later`, a bytearray, which has its seal if nothing is put there that the caller is to seal. */
static PyObject *
framed(FrameEncoder *self, PyObject *draft, PyObject *revision, PyObject *fields, Piece *later)
{
    PyObject *references = PyTuple_GET_ITEM(draft, REFERENCES), *payload = PyTuple_GET_ITEM(draft, PAYLOAD);
    Py_ssize_t id_size, fields_size = 0, refs_size = size_of_references(references);
    const char *id = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(draft, ID), &id_size);
    const char *told = fields == Py_None ? "" : PyUnicode_AsUTF8AndSize(fields, &fields_size);
    if (id == NULL || told == NULL) {
        PyErr_Clear();
        return NULL;
    }
    long long number = as_four_bytes(revision);
    if (refs_size < 0 || refs_size > 0xFFFF || fields_size > 0xFFFF || PyBytes_GET_SIZE(payload) > 0xFFFFFFFFll
        || number < 0) {
        return NULL;
    }
    Kind *kind = kind_of(self, draft, id_size, revision);
    if (kind == NULL) {
        return NULL;
    }
    Py_ssize_t names_size = PyBytes_GET_SIZE(kind->names);
    Py_ssize_t size = HEAD + id_size + names_size + refs_size + fields_size + PyBytes_GET_SIZE(payload) + CRC;
    PyObject *frame = later != NULL ? PyByteArray_FromStringAndSize(NULL, size + TAG)
                                    : PyBytes_FromStringAndSize(NULL, size + TAG);
    if (frame == NULL) {
        return NULL;
    }
    unsigned char *start = (unsigned char *)(later != NULL ? PyByteArray_AS_STRING(frame) : PyBytes_AS_STRING(frame));
    unsigned char *at = start;
    at = put(at, PyBytes_AS_STRING(kind->head), HEAD - LENGTHS);
    put_little(start + REVISION_AT, (uint64_t)number, 4);
    put_little(at, (uint64_t)refs_size, 2);
    put_little(at + 2, (uint64_t)fields_size, 2);
    put_little(at + 4, (uint64_t)PyBytes_GET_SIZE(payload), 4);
    at = put(at + LENGTHS, id, id_size);
    at = put(at, PyBytes_AS_STRING(kind->names), names_size);
    at = put_references(at, references);
    at = put(at, told, fields_size);
    at = put(at, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload));
    put_little(at, crc32_of(start, at - start), CRC);
    if (later != NULL && self->sealing.is_ours) {
        *later = (Piece){start, (size_t)size, start + size};
    } else if (sealed(&self->sealing, start, size, start + size) < 0) {
        Py_CLEAR(frame);
    }
    return frame;
}

static int
is_usual(FrameEncoder *self, PyObject *draft)
{
    return PyTuple_Check(draft) && PyTuple_GET_SIZE(draft) == PARTS && PyUnicode_Check(PyTuple_GET_ITEM(draft, ID))
        && PyLong_Check(PyTuple_GET_ITEM(draft, FLAGS)) && PyLong_Check(PyTuple_GET_ITEM(draft, CLASS_VERSION))
        && PyTuple_CheckExact(PyTuple_GET_ITEM(draft, REFERENCES))
        && PyBytes_CheckExact(PyTuple_GET_ITEM(draft, PAYLOAD))
        && PyBytes_GET_SIZE(PyTuple_GET_ITEM(draft, PAYLOAD)) < self->limit;
}

/* The frame of a draft, whatever way it takes, as `framed` gives it; NULL with an exception. */
static PyObject *
frame_of(FrameEncoder *self, PyObject *draft, PyObject *revision, Piece *later)
{
    if (is_usual(self, draft)) {
        PyObject *fields = fields_told(self, PyTuple_GET_ITEM(draft, FIELDS));
        if (fields == NULL) {
            return NULL;
        }
        PyObject *frame = framed(self, draft, revision, fields, later);
        Py_DECREF(fields);
        if (frame != NULL || PyErr_Occurred()) {
            return frame;
        }
    }
    PyObject *frame = PyObject_CallFunctionObjArgs(self->slow, draft, revision, NULL);
    if (frame != NULL && later != NULL) {
        Py_SETREF(frame, PyByteArray_FromObject(frame));
    }
    return frame;
}

static PyObject *
encode(PyObject *encoder, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    FrameEncoder *self = (FrameEncoder *)encoder;
    if (PyVectorcall_NARGS(nargsf) == 2 && kwnames == NULL && PyLong_Check(args[1])) {
        return frame_of(self, args[0], args[1], NULL);
    }
    return PyObject_Vectorcall(self->slow, args, nargsf, kwnames);
}

static int
clear_encoder(PyObject *encoder)
{
    FrameEncoder *self = (FrameEncoder *)encoder;
    Py_CLEAR(self->sealing.fork);
    Py_CLEAR(self->begin);
    Py_CLEAR(self->slow);
    Py_CLEAR(self->as_json);
    for (int place = 0; place < KINDS; place++) {
        forget_kind(&self->kinds[place]);
    }
    return 0;
}

static int
traverse_encoder(PyObject *encoder, visitproc visit, void *arg)
{
    FrameEncoder *self = (FrameEncoder *)encoder;
    Py_VISIT(self->sealing.fork);
    Py_VISIT(self->begin);
    Py_VISIT(self->slow);
    Py_VISIT(self->as_json);
    return 0;
}

static void
free_encoder(PyObject *encoder)
{
    PyObject_GC_UnTrack(encoder);
    clear_encoder(encoder);
    Py_TYPE(encoder)->tp_free(encoder);
}

static PyObject *
new_encoder(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *secret, *fork, *begin, *slow, *as_json;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "OOOOOn", &secret, &fork, &begin, &slow, &as_json, &limit)) {
        return NULL;
    }
    FrameEncoder *self = (FrameEncoder *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->call = encode;
        self->begin = Py_NewRef(begin);
        self->slow = Py_NewRef(slow), self->as_json = Py_NewRef(as_json);
        self->limit = limit;
        if (begin_sealing(&self->sealing, secret, fork) < 0) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

static PyTypeObject FrameEncoderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.FrameEncoder",
    .tp_doc = "FrameEncoder(secret, fork, begin, slow, as_json, limit)(draft, revision) gives the frame.",
    .tp_basicsize = sizeof(FrameEncoder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = new_encoder,
    .tp_dealloc = free_encoder,
    .tp_traverse = traverse_encoder,
    .tp_clear = clear_encoder,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(FrameEncoder, call),
};

/* -- rows of frames ------------------------------------------------------------------------------------------ */

#define COLUMNS 4 /* number, revision, class, frame */

/* The number of the class of a draft, borrowed; NULL with an exception. That of `before` has `number`. */
static PyObject *
class_number(PyObject *known, PyObject *draft, PyObject *before, PyObject *number)
{
    if (!PyTuple_Check(draft) || PyTuple_GET_SIZE(draft) != PARTS || !PyLong_Check(PyTuple_GET_ITEM(draft, FLAGS))) {
        PyErr_SetString(PyExc_TypeError, "row_values takes drafts");
        return NULL;
    }
    if (before != NULL && PyTuple_GET_ITEM(draft, FLAGS) == PyTuple_GET_ITEM(before, FLAGS)
        && PyTuple_GET_ITEM(draft, CLASS_NAME) == PyTuple_GET_ITEM(before, CLASS_NAME)) {
        return number;
    }
    PyObject *internal = PyLong_FromLong(PyLong_AsLong(PyTuple_GET_ITEM(draft, FLAGS)) & INTERNAL);
    PyObject *kind = internal == NULL ? NULL : PyTuple_Pack(2, PyTuple_GET_ITEM(draft, CLASS_NAME), internal);
    number = kind == NULL ? NULL : PyDict_GetItemWithError(known, kind);
    if (number == NULL && kind != NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, kind);
    }
    Py_XDECREF(internal);
    Py_XDECREF(kind);
    return number;
}

/* The frame of a draft by whatever function seals, a bytearray, maybe to be sealed; NULL with an exception. */
static PyObject *
array_of(PyObject *encoder, PyObject *draft, PyObject *revision, Piece *later)
{
    if (Py_TYPE(encoder) == &FrameEncoderType) {
        return frame_of((FrameEncoder *)encoder, draft, revision, later);
    }
    PyObject *arguments[] = {draft, revision}, *frame = PyObject_Vectorcall(encoder, arguments, 2, NULL);
    if (frame != NULL) {
        Py_SETREF(frame, PyByteArray_FromObject(frame));
    }
    return frame;
}

/* The values of rows, as `row_values` gives them; frames are put into `later` that are still to be sealed. */
static PyObject *
values_of(PyObject *const given[], Py_ssize_t start, Py_ssize_t stop, Piece *later)
{
    PyObject *encoder = given[0], *drafts = given[1], *numbers = given[2], *known = given[3], *revision = given[4];
    PyObject *values = PyTuple_New(COLUMNS * (stop - start)), *class = NULL, *before = NULL;
    for (Py_ssize_t row = start, at = 0; values != NULL && row < stop; row++) {
        PyObject *draft = row < PyList_GET_SIZE(drafts) ? PyList_GET_ITEM(drafts, row) : Py_None, *frame = NULL;
        class = class_number(known, draft, before, class);
        if (class == NULL || (frame = array_of(encoder, draft, revision, &later[row - start])) == NULL) {
            Py_CLEAR(values);
            break;
        }
        before = draft;
        PyTuple_SET_ITEM(values, at++, Py_NewRef(PyList_GET_ITEM(numbers, row)));
        PyTuple_SET_ITEM(values, at++, Py_NewRef(revision));
        PyTuple_SET_ITEM(values, at++, Py_NewRef(class));
        PyTuple_SET_ITEM(values, at++, frame);
    }
    return values;
}

/* row_values(encode, drafts, numbers, known, revision, start, stop): number, revision, class and frame, a bytearray, of
   the drafts from `start` on, one after the other in a tuple. */
static PyObject *
row_values(PyObject *module, PyObject *args)
{
    PyObject *given[5];
    Py_ssize_t start, stop, sealed_later = 0;
    if (!PyArg_ParseTuple(args, "OO!O!O!O!nn", &given[0], &PyList_Type, &given[1], &PyList_Type, &given[2],
                          &PyDict_Type, &given[3], &PyLong_Type, &given[4], &start, &stop)) {
        return NULL;
    }
    if (start < 0 || stop < start || stop > PyList_GET_SIZE(given[1]) || stop > PyList_GET_SIZE(given[2])) {
        return PyErr_Format(PyExc_IndexError, "there are no drafts from %zd to %zd", start, stop);
    }
    Piece *later = PyMem_Calloc((size_t)(stop - start) + 1, sizeof(Piece));
    if (later == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *values = values_of(given, start, stop, later);
    for (Py_ssize_t row = 0; values != NULL && row < stop - start; row++) {
        if (later[row].data != NULL) {
            later[sealed_later++] = later[row];
        }
    }
    if (sealed_later) {
        seal_many(&((FrameEncoder *)given[0])->sealing.seal, later, (size_t)sealed_later);
    }
    PyMem_Free(later);
    return values;
}

static PyMethodDef methods[] = {
    {"row_values", row_values, METH_VARARGS, "row_values(encode, drafts, numbers, known, revision, start, stop)"},
    {NULL, NULL, 0, NULL},
};

int
add_frames(PyObject *module)
{
    return PyModule_AddType(module, &FrameEncoderType) < 0 ? -1 : PyModule_AddFunctions(module, methods);
}
