/* Pickles of plain values read: numbers, texts, bytes, None, lists, tuples, dicts and sets.

   C pickle makes an unpickler for each call, which takes longer than to read a small record. This does what is usual of
   what our picklers write (see pickling.c), in the same order, and begins nothing that is seen elsewhere: whatever is
   not usual, or is wrong, is read by C pickle from the beginning. Nothing is called but hashes of plain values. */

#include "unpickling.h"

#define MOST_VALUES 256 /* on the stack; in the memo */
#define MOST_MARKS 32
#define MOST_BYTES 4096 /* values are not deeper than their pickle is long: hashes of tuples go down without a limit */
#define SHORT_TEXT 32
#define MOST_USES 64

typedef struct {
    const unsigned char *at, *end;
    Texts *texts;
    PyObject **top;            /* behind the last value */
    PyObject **fence;          /* the first value above the last mark */
    int marks, notes;
    PyObject *stack[MOST_VALUES], *memo[MOST_VALUES], **marked[MOST_MARKS]; /* marked: fences below */
} Reading;

enum { RAISED = -1, UNUSUAL = 0, DONE = 1 }; /* what came of an opcode; only RAISED leaves an exception */

/* -- texts ------------------------------------------------------------------------------------------------------- */

/* Where a text is looked for: the highest bits of a product, as many as there are places. */
static size_t
place_of(const unsigned char *data, Py_ssize_t size)
{
    uint64_t first = 0, last = 0;
    size_t part = size < 8 ? (size_t)size : 8;
    memcpy(&first, data, part);
    memcpy(&last, data + size - part, part);
    return (size_t)((first * 31 + last + (uint64_t)size) * 0x9E3779B97F4A7C15u >> 55) % KNOWN_TEXTS;
}

static PyObject *
text_of(Texts *texts, const unsigned char *data, Py_ssize_t size)
{
    if (texts == NULL || size < 2 || size > SHORT_TEXT) { /* Python has those of one character once only */
        return PyUnicode_DecodeUTF8((const char *)data, size, "surrogatepass");
    }
    size_t place = place_of(data, size);
    PyObject *text = texts->known[place].text;
    int is_same = text != NULL && PyUnicode_GET_LENGTH(text) == size
                  && memcmp(PyUnicode_1BYTE_DATA(text), data, (size_t)size) == 0;
    if (is_same && texts->known[place].record != texts->record) {
        texts->known[place].record = texts->record;
        texts->known[place].uses += texts->known[place].uses < MOST_USES;
        return Py_NewRef(text);
    }
    PyObject *made = PyUnicode_DecodeUTF8((const char *)data, size, "surrogatepass");
    if (made == NULL || is_same || !PyUnicode_IS_ASCII(made)) {
        return made;
    }
    if (texts->known[place].uses) {
        texts->known[place].uses--; /* one that many share stays */
        return made;
    }
    texts->known[place].record = texts->record;
    Py_XSETREF(texts->known[place].text, Py_NewRef(made));
    return made;
}

void
forget_texts(Texts *texts)
{
    for (int place = 0; place < KNOWN_TEXTS; place++) {
        Py_CLEAR(texts->known[place].text);
        texts->known[place].uses = 0;
    }
}

/* -- numbers, and what has its length before it -------------------------------------------------------------------- */

static uint64_t
take_little(Reading *self, int bytes)
{
    uint64_t number = 0;
    for (int place = 0; place < bytes; place++) {
        number |= (uint64_t)self->at[place] << 8 * place;
    }
    self->at += bytes;
    return number;
}

static PyObject *
take_float(Reading *self)
{
    uint64_t bits = 0;
    double value;
    for (int place = 0; place < 8; place++) {
        bits = bits << 8 | *self->at++;
    }
    memcpy(&value, &bits, sizeof(value));
    return PyFloat_FromDouble(value);
}

/* A signed number of up to eight bytes. */
static PyObject *
take_long(Reading *self, int bytes)
{
    uint64_t number = take_little(self, bytes);
    if (bytes && bytes < 8 && number >> (8 * bytes - 1)) {
        number |= ~(uint64_t)0 << 8 * bytes;
    }
    return PyLong_FromLongLong((long long)number);
}

/* A text or bytes whose length has that many bytes; NULL, maybe without an exception. */
static PyObject *
take_sized(Reading *self, int bytes, int is_text)
{
    if (self->end - self->at < bytes) {
        return NULL;
    }
    Py_ssize_t size = (Py_ssize_t)take_little(self, bytes);
    const unsigned char *data = self->at;
    if (self->end - data < size) {
        return NULL;
    }
    self->at += size;
    if (is_text) {
        return text_of(self->texts, data, size);
    }
    PyObject *made = PyBytes_FromStringAndSize(NULL, size); /* not what Python has for each byte: C pickle does so */
    if (made != NULL) {
        memcpy(PyBytes_AS_STRING(made), data, (size_t)size);
    }
    return made;
}

/* The value of an opcode that makes one; NULL, maybe without an exception. */
static PyObject *
made_by(Reading *self, unsigned char opcode)
{
    Py_ssize_t left = self->end - self->at;
    switch (opcode) {
    case 'K':
        return left < 1 ? NULL : PyLong_FromLong(*self->at++);
    case 'M':
        return left < 2 ? NULL : PyLong_FromLong((long)take_little(self, 2));
    case 'J':
        return left < 4 ? NULL : take_long(self, 4);
    case 0x8a:
        return left < 1 || *self->at > 8 || left - 1 < *self->at ? NULL : (self->at++, take_long(self, self->at[-1]));
    case 'G':
        return left < 8 ? NULL : take_float(self);
    case 0x8c:
        return take_sized(self, 1, 1);
    case 'X':
        return take_sized(self, 4, 1);
    case 'C':
        return take_sized(self, 1, 0);
    case 'B':
        return take_sized(self, 4, 0);
    case 'N':
        return Py_NewRef(Py_None);
    case 0x88:
        return Py_NewRef(Py_True);
    case 0x89:
        return Py_NewRef(Py_False);
    case ']':
        return PyList_New(0);
    case '}':
        return PyDict_New();
    case ')':
        return PyTuple_New(0);
    case 0x8f:
        return PySet_New(NULL);
    case 'h':
        return left < 1 || *self->at >= self->notes ? NULL : Py_NewRef(self->memo[*self->at++]);
    default:
        return NULL;
    }
}

/* -- what takes values from the stack ------------------------------------------------------------------------------ */

static int
push(Reading *self, PyObject *value)
{
    if (value == NULL) {
        return PyErr_Occurred() ? RAISED : UNUSUAL;
    }
    if (self->top == self->stack + MOST_VALUES) {
        Py_DECREF(value);
        return UNUSUAL;
    }
    *self->top++ = value;
    return DONE;
}

static void
drop_from(Reading *self, PyObject **from)
{
    while (self->top > from) {
        PyObject *value = *--self->top;
        Py_DECREF(value);
    }
}

/* A tuple of the values from there on, in their place. */
static int
join(Reading *self, PyObject **from)
{
    PyObject *tuple = PyTuple_New(self->top - from);
    if (tuple == NULL) {
        return RAISED;
    }
    for (Py_ssize_t place = 0; from + place < self->top; place++) {
        PyTuple_SET_ITEM(tuple, place, from[place]);
    }
    self->top = from;
    return push(self, tuple);
}

/* The values from there on go into the list before them. */
static int
append(Reading *self, PyObject **from)
{
    PyObject *list = from[-1];
    Py_ssize_t count = self->top - from;
    if (!PyList_CheckExact(list)) {
        return UNUSUAL;
    }
    if (PyList_GET_SIZE(list) == 0 && Py_REFCNT(list) == 1 && count) { /* nobody has it: one without room to spare */
        PyObject *whole = PyList_New(count);
        if (whole == NULL) {
            return RAISED;
        }
        for (Py_ssize_t place = 0; place < count; place++) {
            PyList_SET_ITEM(whole, place, from[place]);
        }
        self->top = from;
        Py_SETREF(from[-1], whole);
        return DONE;
    }
    for (PyObject **value = from; value < self->top; value++) {
        if (PyList_Append(list, *value) < 0) {
            return RAISED;
        }
    }
    drop_from(self, from);
    return DONE;
}

/* The keys and values from there on go into the dict before them. */
static int
set_items(Reading *self, PyObject **from)
{
    if (!PyDict_CheckExact(from[-1]) || (self->top - from) % 2) {
        return UNUSUAL;
    }
    for (PyObject **pair = from; pair < self->top; pair += 2) {
        if (PyDict_SetItem(from[-1], pair[0], pair[1]) < 0) {
            return RAISED;
        }
    }
    drop_from(self, from);
    return DONE;
}

static int
add_items(Reading *self, PyObject **from)
{
    if (!PySet_CheckExact(from[-1])) {
        return UNUSUAL;
    }
    for (PyObject **value = from; value < self->top; value++) {
        if (PySet_Add(from[-1], *value) < 0) {
            return RAISED;
        }
    }
    drop_from(self, from);
    return DONE;
}

static int
freeze(Reading *self, PyObject **from)
{
    PyObject *set = join(self, from) == DONE ? PyFrozenSet_New(from[0]) : NULL;
    if (set == NULL) {
        return RAISED;
    }
    Py_SETREF(from[0], set);
    return DONE;
}

/* What follows a mark; the values above it are of no use to anything else. */
static int
end_mark(Reading *self, unsigned char opcode)
{
    if (self->marks == 0) {
        return UNUSUAL;
    }
    PyObject **from = self->fence;
    self->fence = self->marked[--self->marks];
    if (opcode == 't') {
        return join(self, from);
    }
    if (opcode == 0x91) {
        return freeze(self, from);
    }
    if (from <= self->fence) {
        return UNUSUAL; /* what it goes into is below another mark */
    }
    return opcode == 'e' ? append(self, from) : opcode == 'u' ? set_items(self, from) : add_items(self, from);
}

static int
memoize(Reading *self)
{
    if (self->top == self->fence || self->notes == MOST_VALUES) {
        return UNUSUAL;
    }
    self->memo[self->notes++] = Py_NewRef(self->top[-1]);
    return DONE;
}

static int
step(Reading *self, unsigned char opcode)
{
    Py_ssize_t there = self->top - self->fence;
    switch (opcode) {
    case '(':
        if (self->marks == MOST_MARKS) {
            return UNUSUAL;
        }
        self->marked[self->marks++] = self->fence;
        self->fence = self->top;
        return DONE;
    case 'e':
    case 'u':
    case 't':
    case 0x90:
    case 0x91:
        return end_mark(self, opcode);
    case 'a':
        return there < 2 ? UNUSUAL : append(self, self->top - 1);
    case 's':
        return there < 3 ? UNUSUAL : set_items(self, self->top - 2);
    case 0x85:
    case 0x86:
    case 0x87:
        return there < opcode - 0x84 ? UNUSUAL : join(self, self->top - (opcode - 0x84));
    case 0x94:
        return memoize(self);
    default:
        return push(self, made_by(self, opcode));
    }
}

PyObject *
unpickled(const unsigned char *data, Py_ssize_t size, Texts *texts)
{
    Reading self;
    PyObject *value = NULL;
    int done = size > 0 && size <= MOST_BYTES && data[size - 1] == '.' ? DONE : UNUSUAL;
    self.at = data, self.end = data + size - 1, self.texts = texts;
    self.top = self.fence = self.stack;
    self.marks = self.notes = 0;
    if (texts != NULL) {
        texts->record++;
    }
    while (done == DONE && self.at < self.end) {
        unsigned char opcode = *self.at++;
        done = step(&self, opcode);
    }
    if (done == DONE && self.marks == 0 && self.top == self.stack + 1) {
        value = *--self.top;
    }
    drop_from(&self, self.stack);
    while (self.notes) {
        PyObject *noted = self.memo[--self.notes];
        Py_DECREF(noted);
    }
    if (done == RAISED && (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear(); /* a key without a hash, no UTF-8: C pickle says so */
    }
    return value;
}

/* unpickled(data): the value, or NotImplemented. */
static PyObject *
unpickled_alone(PyObject *module, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *value = unpickled((const unsigned char *)PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL);
    return value != NULL || PyErr_Occurred() ? value : Py_NewRef(Py_NotImplemented);
}

/* unpickled_together(pickles): a list of what each of them is; NotImplemented if one is not usual. */
static PyObject *
unpickled_together(PyObject *module, PyObject *pickles)
{
    if (!PyList_CheckExact(pickles)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Texts *texts = PyMem_Calloc(1, sizeof(Texts));
    if (texts == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *values = PyList_New(0);
    for (Py_ssize_t place = 0; values != NULL && place < PyList_GET_SIZE(pickles); place++) {
        PyObject *data = PyList_GET_ITEM(pickles, place), *value = NULL;
        if (PyBytes_CheckExact(data)) {
            value = unpickled((const unsigned char *)PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), texts);
        }
        int added = value != NULL && PyList_Append(values, value) == 0;
        Py_XDECREF(value);
        if (!added) {
            Py_SETREF(values, PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented));
            break;
        }
    }
    forget_texts(texts);
    PyMem_Free(texts);
    return values;
}

static PyMethodDef methods[] = {
    {"unpickled", unpickled_alone, METH_O, "unpickled(data): the plain value of a pickle, or NotImplemented"},
    {"unpickled_together", unpickled_together, METH_O, "unpickled_together(pickles): their values, or NotImplemented"},
    {NULL, NULL, 0, NULL},
};

int
add_unpickling(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
