/* New objects of simple classes to drafts: `Worklist.add_kept` and `Worklist._write_new`, for many at a time.

   - `Saving(worklist)` reads once what a commit works with. `add_kept(objects)` names, enrols and drafts what is usual;
     for anything else it calls `add_other` of the worklist, in its turn. `write_new(queue, position)` goes on in the
     queue as long as what it meets is new and usual, and gives the position of what is not.
   - Steps that call the user's state methods stand in the order of those in Python: an object is enlisted, and in the
     list of those that are new, before it is pickled. It dozes in one go, which nothing can interrupt. */

#include "saving.h"

#include <structmember.h>

static PyTypeObject *id_type;
static PyObject *add_other_name, *left_name;

/* -- what is saved by name ------------------------------------------------------------------------------------- */

/* The id with that number, a new reference. */
static PyObject *
named(PyObject *prefix, PyObject *number)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(prefix, &size);
    char buffer[160];
    if (text == NULL || size > 120) {
        return text == NULL ? NULL : PyUnicode_FromFormat("%U.%S", prefix, number);
    }
    memcpy(buffer, text, (size_t)size);
    int length = snprintf(buffer + size, sizeof(buffer) - (size_t)size, ".%lld", PyLong_AsLongLong(number));
    return PyErr_Occurred() ? NULL : PyUnicode_FromStringAndSize(buffer, size + length);
}

/* The entry of a new object, which is enlisted and in the list of those that are new; NULL with an exception. */
static PyObject *
enrolled(Saving *self, PyObject *obj, PyObject *facts, PyObject *number)
{
    PyObject *text = named(slot_of(facts, in_facts.prefix), number), *id = NULL, *entry = NULL, *flags = NULL;
    PyObject *arguments = text == NULL ? NULL : PyTuple_Pack(1, text);
    if (arguments != NULL) {
        id = PyUnicode_Type.tp_new(id_type, arguments, NULL);
        flags = id == NULL ? NULL : PyLong_FromLong(as_long(slot_of(facts, in_facts.flags)) | KEPT);
    }
    if (flags != NULL) {
        entry = make_entry(obj, self->view, facts, id, number, AWAKE, flags);
    }
    if (entry != NULL
        && (PyDict_SetItem(self->numbered, number, entry) < 0 || PyDict_SetItem(self->by_id, id, entry) < 0
            || PyDict_SetItem(self->enlisted, slot_of(entry, in_entry.address), obj) < 0
            || PyList_Append(self->added, entry) < 0)) {
        Py_CLEAR(entry);
    }
    if (entry != NULL) {
        set_slot(entry, in_entry.listed, self->number);
    }
    Py_XDECREF(text);
    Py_XDECREF(arguments);
    Py_XDECREF(id);
    Py_XDECREF(flags);
    return entry;
}

/* The next number of those that the store has reserved; NULL, maybe with an exception. */
static PyObject *
next_number(Saving *self)
{
    PyObject *numbers = PyObject_GetAttrString(self->naming, "numbers");
    PyObject *left = numbers == NULL ? NULL : PyObject_GetAttr(numbers, left_name), *number = NULL;
    if (left != NULL && PyIter_Check(left)) {
        number = PyIter_Next(left);
    }
    Py_XDECREF(numbers);
    Py_XDECREF(left);
    if (number != NULL && !PyLong_CheckExact(number)) {
        Py_CLEAR(number);
    }
    return number;
}

/* The facts of the class of a new, simple object that the counter names, borrowed; NULL, maybe with an exception. */
static PyObject *
facts_if_usual(Saving *self, PyObject *obj)
{
    if (!self->names_all || entry_at(obj) != NULL || PyErr_Occurred()) {
        return NULL;
    }
    PyObject *address = PyLong_FromVoidPtr(Py_TYPE(obj));
    PyObject *facts = address == NULL ? NULL : PyDict_GetItemWithError(known_facts, address);
    Py_XDECREF(address);
    if (!are_facts(facts) || slot_of(facts, in_facts.simple) != Py_True || slot_of(facts, in_facts.guest) != Py_False
        || slot_of(facts, in_facts.cls) != (PyObject *)Py_TYPE(obj)
        || !PyUnicode_Check(slot_of(facts, in_facts.prefix))) {
        return NULL;
    }
    return facts;
}

/* One object that is saved by name; -1 with an exception. */
static int
add(Saving *self, PyObject *obj)
{
    PyObject *facts = facts_if_usual(self, obj);
    PyObject *number = facts == NULL ? NULL : next_number(self);
    if (number == NULL) {
        if (PyErr_Occurred()) {
            return -1;
        }
        PyObject *none = PyObject_CallMethodOneArg(self->worklist, add_other_name, obj);
        Py_XDECREF(none);
        return none == NULL ? -1 : 0;
    }
    PyObject *entry = enrolled(self, obj, facts, number);
    int written = entry == NULL ? -1 : write_one(self, entry, obj, facts);
    if (written == 0) {
        PyObject *pair = PyTuple_Pack(2, entry, obj);
        written = pair == NULL ? -1 : PyList_Append(self->queue, pair);
        Py_XDECREF(pair);
    }
    Py_DECREF(number);
    Py_XDECREF(entry);
    return written < 0 ? -1 : 0;
}

static PyObject *
add_kept(PyObject *saving, PyObject *objects)
{
    if (!PyList_CheckExact(objects)) {
        PyErr_SetString(PyExc_TypeError, "add_kept takes a list");
        return NULL;
    }
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(objects); place++) {
        PyObject *obj = Py_NewRef(PyList_GET_ITEM(objects, place));
        int added = add((Saving *)saving, obj);
        Py_DECREF(obj);
        if (added < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

/* -- what is on the list --------------------------------------------------------------------------------------- */

/* Whether a pair of the queue is a new object, awake, of its simple class. */
static int
is_new(PyObject *pair)
{
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 || !is_entry(PyTuple_GET_ITEM(pair, 0))) {
        return 0;
    }
    PyObject *entry = PyTuple_GET_ITEM(pair, 0), *facts = slot_of(entry, in_entry.facts);
    return slot_of(entry, in_entry.revision) == small[0] && is_in_state(entry, AWAKE) && are_facts(facts)
        && slot_of(facts, in_facts.simple) == Py_True
        && slot_of(facts, in_facts.cls) == (PyObject *)Py_TYPE(PyTuple_GET_ITEM(pair, 1));
}

static PyObject *
write_new(PyObject *saving, PyObject *position)
{
    Saving *self = (Saving *)saving;
    Py_ssize_t place = PyLong_AsSsize_t(position);
    if (place < 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a position is not below 0");
    }
    for (; place < PyList_GET_SIZE(self->queue); place++) {
        PyObject *pair = Py_NewRef(PyList_GET_ITEM(self->queue, place));
        int written = 0;
        if (is_new(pair)) {
            PyObject *entry = PyTuple_GET_ITEM(pair, 0);
            written = write_one(self, entry, PyTuple_GET_ITEM(pair, 1), slot_of(entry, in_entry.facts));
        }
        Py_DECREF(pair);
        if (written < 0) {
            return NULL;
        }
        if (written == 0) {
            break;
        }
    }
    return PyLong_FromSsize_t(place);
}

/* -- the type -------------------------------------------------------------------------------------------------- */

#define OBJECTS 13

static PyObject **
objects_of(Saving *self, int place)
{
    PyObject **all[OBJECTS] = {
        &self->worklist, &self->encoder, &self->view,    &self->naming, &self->by_id, &self->numbered,  &self->enlisted,
        &self->codes,    &self->queue,   &self->created, &self->drafts, &self->added, &self->looked_at,
    };
    return all[place];
}

static int
clear_saving(PyObject *saving)
{
    for (int place = 0; place < OBJECTS; place++) {
        Py_CLEAR(*objects_of((Saving *)saving, place));
    }
    Py_CLEAR(((Saving *)saving)->number);
    return 0;
}

static int
traverse_saving(PyObject *saving, visitproc visit, void *arg)
{
    for (int place = 0; place < OBJECTS; place++) {
        Py_VISIT(*objects_of((Saving *)saving, place));
    }
    return 0;
}

static void
free_saving(PyObject *saving)
{
    PyObject_GC_UnTrack(saving);
    clear_saving(saving);
    Py_TYPE(saving)->tp_free(saving);
}

static PyObject *
new_saving(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *given[OBJECTS], *number;
    int has_fields, names_all, fits = 1;
    if (!PyArg_ParseTuple(args, "OOOO(OOOO)(OOOOO)Opp", &given[0], &given[1], &given[2], &given[3], &given[4],
                          &given[5], &given[6], &given[7], &given[8], &given[9], &given[10], &given[11], &given[12],
                          &number, &has_fields, &names_all)) {
        return NULL;
    }
    for (int place = 4; place < OBJECTS; place++) {
        fits = fits && (place < 8 ? PyDict_CheckExact(given[place]) : PyList_CheckExact(given[place]));
    }
    if (!fits || encoder_type == NULL || !PyObject_TypeCheck(given[1], encoder_type) || !are_drafts_bound()
        || id_type == NULL) {
        PyErr_SetString(PyExc_TypeError, "Saving takes the encoder, four dicts and five lists of a worklist");
        return NULL;
    }
    Saving *self = (Saving *)type->tp_alloc(type, 0);
    if (self != NULL) {
        for (int place = 0; place < OBJECTS; place++) {
            *objects_of(self, place) = Py_NewRef(given[place]);
        }
        self->number = Py_NewRef(number);
        self->has_fields = has_fields, self->names_all = names_all;
    }
    return (PyObject *)self;
}

static PyMethodDef saving_methods[] = {
    {"add_kept", add_kept, METH_O, "Draft a list of objects that are saved by name."},
    {"write_new", write_new, METH_O, "Draft what is new in the queue, from a position on; gives that of what is not."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject SavingType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.Saving",
    .tp_doc = "What one commit works with; see perdure/objects/transactions/worklist.py.",
    .tp_basicsize = sizeof(Saving),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = new_saving,
    .tp_dealloc = free_saving,
    .tp_traverse = traverse_saving,
    .tp_clear = clear_saving,
    .tp_methods = saving_methods,
};

static PyObject *
bind_ids(PyObject *module, PyObject *type)
{
    if (!PyType_Check(type) || !PyType_FastSubclass((PyTypeObject *)type, Py_TPFLAGS_UNICODE_SUBCLASS)) {
        PyErr_SetString(PyExc_TypeError, "ids are texts");
        return NULL;
    }
    id_type = (PyTypeObject *)Py_NewRef(type);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind_ids", bind_ids, METH_O, "bind_ids(Id)"},
    {NULL, NULL, 0, NULL},
};

int
add_saving(PyObject *module)
{
    add_other_name = PyUnicode_InternFromString("add_other");
    left_name = PyUnicode_InternFromString("_left");
    if (add_other_name == NULL || left_name == NULL || PyModule_AddFunctions(module, methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &SavingType);
}
