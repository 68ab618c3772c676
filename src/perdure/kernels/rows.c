/* Ids, their numbers, and the frames that have them: what backends do for each row of a bulk. */

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

static PyMethodDef methods[] = {
    {"frames_by_id", frames_by_id, METH_O, "frames_by_id(rows): frames by their ids, or NotImplemented"},
    {"numbers_in", numbers_in, METH_O, "numbers_in(ids): their numbers, or NotImplemented"},
    {"plain_texts", plain_texts, METH_O, "plain_texts(ids): a list of them as texts of no subclass"},
    {NULL, NULL, 0, NULL},
};

int
add_rows(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
