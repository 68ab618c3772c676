/* Ids, their numbers, and the frames that have them: what backends do for each row of a bulk. */

#include "drafts.h"
#include "frames.h"

#include "entries.h"

long long
number_in(PyObject *id)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(id, &size);
    if (text == NULL) {
        PyErr_Clear();
        return -1;
    }
    Py_ssize_t start = size;
    while (start > 0 && text[start - 1] >= '0' && text[start - 1] <= '9') {
        start--;
    }
    if (start == size || size - start > 18 || start == 0 || text[start - 1] != '.') {
        return -1;
    }
    long long number = 0;
    for (; start < size; start++) {
        number = 10 * number + (text[start] - '0');
    }
    return number;
}

/* numbers_in(ids): the numbers of a list of ids; NotImplemented if one of them has none, or is no text. */
static PyObject *
numbers_in(PyObject *module, PyObject *ids)
{
    if (!PyList_CheckExact(ids)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *numbers = PyList_New(PyList_GET_SIZE(ids));
    for (Py_ssize_t place = 0; numbers != NULL && place < PyList_GET_SIZE(numbers); place++) {
        PyObject *id = PyList_GET_ITEM(ids, place);
        long long number = PyUnicode_Check(id) ? number_in(id) : -1;
        if (number < 0) {
            Py_DECREF(numbers);
            Py_RETURN_NOTIMPLEMENTED;
        }
        PyObject *told = PyLong_FromLongLong(number);
        if (told == NULL) {
            Py_CLEAR(numbers);
        } else {
            PyList_SET_ITEM(numbers, place, told);
        }
    }
    return numbers;
}

/* Note flags and class of a draft, unless they are those of the draft before; -1 with an exception. */
static int
note_kind(PyObject *kinds, PyObject *draft, PyObject *before)
{
    PyObject *flags = PyTuple_GET_ITEM(draft, FLAGS), *name = PyTuple_GET_ITEM(draft, CLASS_NAME);
    if (before != NULL && flags == PyTuple_GET_ITEM(before, FLAGS) && name == PyTuple_GET_ITEM(before, CLASS_NAME)) {
        return 0;
    }
    PyObject *kind = PyTuple_Pack(2, flags, name);
    int added = kind == NULL ? -1 : PySet_Add(kinds, kind);
    Py_XDECREF(kind);
    return added;
}

/* Put the number of a draft where it belongs; 0 if it has none, -1 with an exception. */
static int
note_number(PyObject *numbers, PyObject *replaced, PyObject *draft)
{
    PyObject *id = PyTuple_GET_ITEM(draft, ID);
    long long number = PyUnicode_Check(id) ? number_in(id) : -1;
    PyObject *told = number < 0 ? NULL : PyLong_FromLongLong(number);
    if (told == NULL) {
        return number < 0 ? 0 : -1;
    }
    int is_new = PyObject_Not(PyTuple_GET_ITEM(draft, BASE));
    int added = is_new < 0 ? -1 : PyList_Append(numbers, told);
    if (added == 0 && !is_new) {
        added = PyList_Append(replaced, told);
    }
    Py_DECREF(told);
    return added < 0 ? -1 : 1;
}

/* drafted(drafts): numbers, those of them that are replaced, and a set of flags and classes; NotImplemented if a number
   is not to be found, or anything else is no list of drafts. */
static PyObject *
drafted(PyObject *module, PyObject *drafts)
{
    PyObject *numbers = PyList_New(0), *replaced = PyList_New(0), *kinds = PySet_New(NULL), *before = NULL;
    int noted = numbers != NULL && replaced != NULL && kinds != NULL ? 1 : -1;
    if (noted > 0 && !PyList_CheckExact(drafts)) {
        noted = 0;
    }
    for (Py_ssize_t place = 0; noted > 0 && place < PyList_GET_SIZE(drafts); place++) {
        PyObject *draft = PyList_GET_ITEM(drafts, place);
        noted = PyTuple_Check(draft) && PyTuple_GET_SIZE(draft) == PARTS ? note_number(numbers, replaced, draft) : 0;
        if (noted > 0 && note_kind(kinds, draft, before) < 0) {
            noted = -1;
        }
        before = draft;
    }
    PyObject *result = noted < 0   ? NULL
                     : noted == 0 ? Py_NewRef(Py_NotImplemented)
                                  : PyTuple_Pack(3, numbers, replaced, kinds);
    Py_XDECREF(numbers);
    Py_XDECREF(replaced);
    Py_XDECREF(kinds);
    return result;
}

/* plain_texts(ids): a list of ids as texts of no subclass. The ids keep their hashes for whoever looks them up next. */
static PyObject *
plain_texts(PyObject *module, PyObject *ids)
{
    if (!PyList_CheckExact(ids)) {
        PyErr_SetString(PyExc_TypeError, "plain_texts takes a list");
        return NULL;
    }
    PyObject *texts = PyList_New(PyList_GET_SIZE(ids));
    for (Py_ssize_t place = 0; texts != NULL && place < PyList_GET_SIZE(texts); place++) {
        PyObject *id = PyList_GET_ITEM(ids, place);
        PyObject *text = PyObject_Hash(id) == -1 ? NULL : PyUnicode_FromObject(id);
        if (text == NULL) {
            Py_CLEAR(texts);
        } else {
            PyList_SET_ITEM(texts, place, text);
        }
    }
    return texts;
}

/* The id that a narrow frame begins with, a new reference; NULL, maybe with an exception. */
static PyObject *
id_in(PyObject *frame)
{
    if (!PyBytes_CheckExact(frame) || PyBytes_GET_SIZE(frame) < HEAD) {
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(frame);
    if (data[5] & 0x80 || HEAD + data[16] > PyBytes_GET_SIZE(frame)) {
        return NULL;
    }
    return PyUnicode_DecodeUTF8((const char *)data + HEAD, data[16], NULL);
}

/* frames_by_id(rows): frames in a list of tuples of one, by their ids; NotImplemented if one of them is not usual. */
static PyObject *
frames_by_id(PyObject *module, PyObject *rows)
{
    if (!PyList_CheckExact(rows)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *found = PyDict_New();
    for (Py_ssize_t place = 0; found != NULL && place < PyList_GET_SIZE(rows); place++) {
        PyObject *row = PyList_GET_ITEM(rows, place);
        PyObject *frame = PyTuple_CheckExact(row) && PyTuple_GET_SIZE(row) == 1 ? PyTuple_GET_ITEM(row, 0) : NULL;
        PyObject *id = frame == NULL ? NULL : id_in(frame);
        if (id == NULL) {
            PyErr_Clear();
            Py_DECREF(found);
            Py_RETURN_NOTIMPLEMENTED;
        }
        if (PyDict_SetItem(found, id, frame) < 0) {
            Py_CLEAR(found);
        }
        Py_DECREF(id);
    }
    return found;
}

/* names_by_id(rows, names, wanted): names of classes, by the ids in rows of number and head of a frame, where these are
   wanted; NotImplemented if one of them is not usual. */
static PyObject *
names_by_id(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) || !PySet_CheckExact(args[2])) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *rows = args[0], *names = args[1], *wanted = args[2], *found = PyDict_New();
    for (Py_ssize_t place = 0; found != NULL && place < PyList_GET_SIZE(rows); place++) {
        PyObject *row = PyList_GET_ITEM(rows, place), *name = NULL, *id = NULL;
        if (PyTuple_CheckExact(row) && PyTuple_GET_SIZE(row) == 2 && PyLong_CheckExact(PyTuple_GET_ITEM(row, 0))) {
            name = PyDict_GetItemWithError(names, PyTuple_GET_ITEM(row, 0));
            id = name == NULL ? NULL : id_in(PyTuple_GET_ITEM(row, 1));
        }
        int is_wanted = id == NULL ? -1 : PySet_Contains(wanted, id);
        if (is_wanted < 0) {
            PyErr_Clear();
            Py_XDECREF(id);
            Py_DECREF(found);
            Py_RETURN_NOTIMPLEMENTED;
        }
        if (is_wanted && PyDict_SetItem(found, id, name) < 0) {
            Py_CLEAR(found);
        }
        Py_DECREF(id);
    }
    return found;
}

/* The digits of a number; gives where they end. */
static char *
put_digits(char *at, long long number)
{
    char digits[20];
    int count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
    } while (number /= 10);
    while (count) {
        *at++ = digits[--count];
    }
    return at;
}

/* The number at a place of a list; below 0, and no exception, if that is not usual. */
static long long
number_at(PyObject *numbers, Py_ssize_t place)
{
    PyObject *number = PyList_GET_ITEM(numbers, place);
    long long value = PyLong_CheckExact(number) ? PyLong_AsLongLong(number) : -1;
    if (value < 0 || value == LLONG_MAX) {
        PyErr_Clear();
        return -1;
    }
    return value;
}

/* runs_of(numbers): a sorted list of them as text, runs shortened; NotImplemented if one of them is not usual. */
static PyObject *
runs_of(PyObject *module, PyObject *numbers)
{
    Py_ssize_t count = PyList_CheckExact(numbers) ? PyList_GET_SIZE(numbers) : 0, place = 0;
    if (count == 0 || count > PY_SSIZE_T_MAX / 21) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    char *text = PyMem_Malloc((size_t)count * 21), *at = text; /* a sign and up to 20 digits each */
    if (text == NULL) {
        return PyErr_NoMemory();
    }
    while (place < count) {
        long long first = number_at(numbers, place++), last = first;
        while (last >= 0 && place < count && number_at(numbers, place) == last + 1) {
            last++, place++;
        }
        if (first < 0) {
            PyMem_Free(text);
            Py_RETURN_NOTIMPLEMENTED;
        }
        if (at != text) {
            *at++ = ',';
        }
        at = put_digits(at, first);
        if (last != first) {
            *at++ = '-';
            at = put_digits(at, last);
        }
    }
    PyObject *runs = PyUnicode_FromStringAndSize(text, at - text);
    PyMem_Free(text);
    return runs;
}

/* Whether numbers between two others, hardly further apart than there are numbers, are there twice; -1: exception. */
static int
are_dense_twice(PyObject *numbers, long long first, long long last)
{
    unsigned char *seen = PyMem_Calloc((size_t)(last - first) / 8 + 1, 1); /* a bit for each */
    if (seen == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int twice = 0;
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(numbers) && !twice; place++) {
        size_t at = (size_t)(number_at(numbers, place) - first);
        twice = seen[at / 8] >> at % 8 & 1;
        seen[at / 8] |= (unsigned char)(1 << at % 8);
    }
    PyMem_Free(seen);
    return twice;
}

/* any_twice(numbers): whether a number is in a list twice; NotImplemented if that takes a set. */
static PyObject *
any_twice(PyObject *module, PyObject *numbers)
{
    Py_ssize_t count = PyList_CheckExact(numbers) ? PyList_GET_SIZE(numbers) : 0;
    long long first = LLONG_MAX, last = -1;
    for (Py_ssize_t place = 0; place < count; place++) {
        long long number = number_at(numbers, place);
        if (number < 0) {
            Py_RETURN_NOTIMPLEMENTED;
        }
        first = number < first ? number : first, last = number > last ? number : last;
    }
    if (count == 0 || (last - first) / 64 > count) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int twice = are_dense_twice(numbers, first, last);
    return twice < 0 ? NULL : PyBool_FromLong(twice);
}

static PyMethodDef methods[] = {
    {"any_twice", any_twice, METH_O, "any_twice(numbers): whether one is in a list twice, or NotImplemented"},
    {"drafted", drafted, METH_O, "drafted(drafts): numbers, replaced ones, and kinds; or NotImplemented"},
    {"frames_by_id", frames_by_id, METH_O, "frames_by_id(rows): frames by their ids, or NotImplemented"},
    {"names_by_id", (PyCFunction)(void (*)(void))names_by_id, METH_FASTCALL,
     "names_by_id(rows, names, wanted): names of classes by ids, or NotImplemented"},
    {"numbers_in", numbers_in, METH_O, "numbers_in(ids): their numbers, or NotImplemented"},
    {"runs_of", runs_of, METH_O, "runs_of(numbers): those of a sorted list as text, runs shortened; or NotImplemented"},
    {"plain_texts", plain_texts, METH_O, "plain_texts(ids): a list of them as texts of no subclass"},
    {NULL, NULL, 0, NULL},
};

int
add_rows(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
