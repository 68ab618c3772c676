/* New objects named and enrolled: `Naming.new` and `Reader.enrol`, for simple classes and the store's own counter. */

#include "naming.h"

static PyTypeObject *id_type;
static richcmpfunc order_ids; /* what ids are compared by in Python */
static PyObject *left_name, *numbers_name;
static PyObject *last_facts; /* that `usual_facts` gave */

/* The text of the id with that number, a new reference. */
static PyObject *
named(PyObject *prefix, PyObject *number)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(prefix, &size);
    char buffer[160], *start = buffer + sizeof(buffer);
    long long left = PyLong_AsLongLong(number);
    if (text == NULL || (left == -1 && PyErr_Occurred())) {
        return NULL;
    }
    if (size > 120 || left < 0) {
        return PyUnicode_FromFormat("%U.%S", prefix, number);
    }
    do {
        *--start = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    *--start = '.';
    start -= size;
    memcpy(start, text, (size_t)size);
    return PyUnicode_FromStringAndSize(start, buffer + sizeof(buffer) - start);
}

int
enlist(PyObject *enlisted, PyObject *entry, PyObject *obj)
{
    return PyDict_SetItem(enlisted, slot_of(entry, in_entry.address), obj);
}

PyObject *
enrol_new(const Into *into, PyObject *obj, PyObject *facts, PyObject *number, long more)
{
    PyObject *id = named(slot_of(facts, in_facts.prefix), number), *entry = NULL;
    PyObject *flags = id == NULL ? NULL : PyLong_FromLong(as_long(slot_of(facts, in_facts.flags)) | more);
    if (flags != NULL) {
        entry = make_entry(obj, into->view, facts, id, number, AWAKE, flags);
    }
    if (entry != NULL
        && (PyDict_SetItem(into->numbered, number, entry) < 0 || PyDict_SetItem(into->by_id, id, entry) < 0
            || (into->enlisted != NULL && enlist(into->enlisted, entry, obj) < 0))) {
        Py_CLEAR(entry);
    }
    Py_XDECREF(id);
    Py_XDECREF(flags);
    return entry;
}

PyObject *
numbers_of(PyObject *naming)
{
    PyObject *numbers = PyObject_GetAttr(naming, numbers_name);
    PyObject *attributes = numbers == NULL ? NULL : dict_of(numbers);
    Py_XDECREF(numbers);
    return attributes;
}

PyObject *
next_number(PyObject *numbers)
{
    PyObject *left = Py_XNewRef(PyDict_GetItemWithError(numbers, left_name)), *number = NULL;
    if (left != NULL && PyIter_Check(left)) {
        number = PyIter_Next(left);
    }
    Py_XDECREF(left);
    if (number != NULL && !PyLong_CheckExact(number)) {
        Py_CLEAR(number);
    }
    return number;
}

PyObject *
usual_facts(PyObject *obj)
{
    if (are_facts(last_facts) && slot_of(last_facts, in_facts.cls) == (PyObject *)Py_TYPE(obj)) {
        return last_facts;
    }
    PyObject *address = PyLong_FromVoidPtr(Py_TYPE(obj));
    PyObject *facts = address == NULL ? NULL : PyDict_GetItemWithError(known_facts, address);
    Py_XDECREF(address);
    if (!are_facts(facts) || slot_of(facts, in_facts.simple) != Py_True || slot_of(facts, in_facts.guest) != Py_False
        || slot_of(facts, in_facts.cls) != (PyObject *)Py_TYPE(obj)
        || !PyUnicode_Check(slot_of(facts, in_facts.prefix))) {
        return NULL;
    }
    Py_XSETREF(last_facts, Py_NewRef(facts));
    return facts;
}

PyObject *
facts_if_new(PyObject *obj)
{
    return entry_at(obj) != NULL || PyErr_Occurred() ? NULL : usual_facts(obj);
}

PyObject *
as_id(PyObject *text)
{
    PyObject *arguments = Py_TYPE(text) == id_type ? NULL : PyTuple_Pack(1, text);
    if (arguments == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(text);
    }
    PyObject *id = PyUnicode_Type.tp_new(id_type, arguments, NULL);
    Py_DECREF(arguments);
    if (id != NULL && PyObject_GC_IsTracked(id)) {
        PyObject_GC_UnTrack(id); /* it holds nothing: the collector of garbage need not look at it */
    }
    return id;
}

/* ids_of(objects): the ids of a list of objects; NotImplemented if one of them has no entry. */
static PyObject *
ids_of(PyObject *module, PyObject *objects)
{
    if (!PyList_CheckExact(objects) || id_type == NULL) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *ids = PyList_New(PyList_GET_SIZE(objects));
    for (Py_ssize_t place = 0; ids != NULL && place < PyList_GET_SIZE(ids); place++) {
        PyObject *entry = entry_at(PyList_GET_ITEM(objects, place));
        PyObject *id = is_entry(entry) ? as_id(slot_of(entry, in_entry.id)) : NULL;
        if (id == NULL) {
            Py_DECREF(ids);
            return PyErr_Occurred() ? NULL : Py_NewRef(Py_NotImplemented);
        }
        PyList_SET_ITEM(ids, place, id);
    }
    return ids;
}

int
are_ids_bound(void)
{
    return id_type != NULL;
}

/* Ids have an order of their own, so Python would look for `__eq__` each time that one is compared with a text, as in
   each look-up of one in a dict: here that is what texts do. */
static PyObject *
compare_ids(PyObject *one, PyObject *other, int operation)
{
    if (operation == Py_EQ || operation == Py_NE) {
        return PyUnicode_Type.tp_richcompare(one, other, operation);
    }
    return order_ids(one, other, operation);
}

static PyObject *
bind_ids(PyObject *module, PyObject *type)
{
    if (!PyType_Check(type) || !PyType_FastSubclass((PyTypeObject *)type, Py_TPFLAGS_UNICODE_SUBCLASS)) {
        PyErr_SetString(PyExc_TypeError, "ids are texts");
        return NULL;
    }
    id_type = (PyTypeObject *)Py_NewRef(type);
    if (id_type->tp_richcompare != compare_ids) {
        order_ids = id_type->tp_richcompare;
        id_type->tp_richcompare = compare_ids;
        PyType_Modified(id_type);
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind_ids", bind_ids, METH_O, "bind_ids(Id)"},
    {"ids_of", ids_of, METH_O, "ids_of(objects): a list of their ids, or NotImplemented"},
    {NULL, NULL, 0, NULL},
};

int
add_naming(PyObject *module)
{
    left_name = PyUnicode_InternFromString("_left");
    numbers_name = PyUnicode_InternFromString("numbers");
    return left_name == NULL || numbers_name == NULL ? -1 : PyModule_AddFunctions(module, methods);
}
