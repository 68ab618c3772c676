/* Objects of simple classes to drafts: `Worklist.add_kept`, `_write_new` and `_look_at`, for many at a time.

   - `Saving(worklist)` reads once what a commit works with. `add_kept(objects)` names, enrols and drafts what is usual;
     for anything else it calls `add_other` of the worklist, in its turn. `write_usual(position)` goes on in the queue
     as long as what it meets is usual, new or touched, and gives the position of what is not.
   - `meet(obj)` is asked by the encoder about what is referred to: `_meet` of the worklist, for what is usual.
   - Steps that call the user's state methods stand in the order of those in Python: an object is in the list of those
     that are new before it is pickled. It dozes in one go, which nothing can interrupt; what does not is enlisted,
     whatever comes between. */

#include "naming.h"
#include "saving.h"

#include <structmember.h>

static PyObject *add_other_name, *jar_name, *meet_name, *refers_name;

/* Put an object at the end of the list, behind its entry; -1 with an exception. */
static int
put_last(Saving *self, PyObject *entry, PyObject *obj)
{
    if (PyList_Append(self->queue, entry) < 0) {
        return -1;
    }
    if (PyList_Append(self->queue, obj) < 0) {
        PyObject *kind, *error, *trace;
        PyErr_Fetch(&kind, &error, &trace);
        Py_ssize_t last = PyList_GET_SIZE(self->queue) - 1;
        PyList_SetSlice(self->queue, last, last + 1, NULL);
        PyErr_Restore(kind, error, trace);
        return -1;
    }
    return 0;
}

/* Put an object on the list, unless it is there; -1 with an exception. */
static int
enqueue(Saving *self, PyObject *entry, PyObject *obj)
{
    PyObject *listed = slot_of(entry, in_entry.listed);
    if (listed == self->number || PyObject_RichCompareBool(listed, self->number, Py_EQ) == 1) {
        return 0;
    }
    set_slot(entry, in_entry.listed, self->number);
    return put_last(self, entry, obj);
}

/* -- what is saved by name ------------------------------------------------------------------------------------- */

/* Enlist a new object unless it dozes, as most do by now; gives `written`, or -1 with an exception.

   Whatever interrupts its pickling comes here. */
static int
enlisted_if_awake(Saving *self, PyObject *entry, PyObject *obj, int written)
{
    PyObject *kind, *error, *trace;
    if (is_in_state(entry, DOZING)) {
        return written;
    }
    PyErr_Fetch(&kind, &error, &trace);
    if (enlist(self->enlisted, entry, obj) < 0) {
        Py_XDECREF(kind);
        Py_XDECREF(error);
        Py_XDECREF(trace);
        return -1;
    }
    PyErr_Restore(kind, error, trace);
    return written;
}

/* The entry of a new object, which is in the list of those that are new; NULL with an exception. */
static PyObject *
enrolled(Saving *self, PyObject *obj, PyObject *facts, PyObject *number)
{
    const Into into = {self->view, self->by_id, self->numbered, NULL};
    PyObject *entry = enrol_new(&into, obj, facts, number, KEPT);
    if (entry != NULL && PyList_Append(self->added, entry) < 0) {
        Py_CLEAR(entry);
    }
    if (entry != NULL) {
        set_slot(entry, in_entry.listed, self->number);
    }
    return entry;
}

/* One that has an entry: 1 if it is saved by name from now on, 0 if Python has to see to it, -1 with an exception. */
static int
keep(Saving *self, PyObject *entry, PyObject *obj)
{
    if (!is_entry(entry) || slot_of(entry, in_entry.view) != self->view || is_in_state(entry, GHOST)
        || !is_of(entry, obj)) {
        return 0;
    }
    long flags = as_long(slot_of(entry, in_entry.flags));
    if (!(flags & KEPT)) {
        PyObject *kept = PyLong_FromLong(flags | KEPT);
        if (kept == NULL) {
            return -1;
        }
        put_slot(entry, in_entry.flags, kept);
        set_slot(entry, in_entry.forced, Py_True);
    }
    return enqueue(self, entry, obj) < 0 ? -1 : 1;
}

/* The entry of an object, borrowed; NULL, maybe with an exception. It is in the list at a place, or behind it, where
   what is saved was enlisted in the same order: there it costs no look-up. */
static PyObject *
entry_near(Saving *self, PyObject *obj, Py_ssize_t *place)
{
    if (*place + 1 < PyList_GET_SIZE(self->queue) && PyList_GET_ITEM(self->queue, *place + 1) == obj) {
        *place += 2;
        return PyList_GET_ITEM(self->queue, *place - 2);
    }
    return entry_at(obj);
}

/* One object that is saved by name; -1 with an exception. */
static int
add(Saving *self, PyObject *obj, Py_ssize_t *near)
{
    PyObject *known = entry_near(self, obj, near);
    int kept = known != NULL ? keep(self, known, obj) : PyErr_Occurred() ? -1 : 0;
    if (kept) {
        return kept < 0 ? -1 : 0;
    }
    PyObject *facts = self->names_all && known == NULL ? usual_facts(obj) : NULL;
    PyObject *number = facts == NULL ? NULL : next_number(self->of_numbers);
    if (number == NULL) {
        if (PyErr_Occurred()) {
            return -1;
        }
        PyObject *none = PyObject_CallMethodOneArg(self->worklist, add_other_name, obj);
        Py_XDECREF(none);
        return none == NULL ? -1 : 0;
    }
    PyObject *entry = enrolled(self, obj, facts, number);
    int written = entry == NULL ? -1 : enlisted_if_awake(self, entry, obj, write_one(self, entry, obj, facts, 0));
    if (written == 0) {
        written = put_last(self, entry, obj);
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
    for (Py_ssize_t place = 0, near = 0; place < PyList_GET_SIZE(objects); place++) {
        PyObject *obj = Py_NewRef(PyList_GET_ITEM(objects, place));
        int added = add((Saving *)saving, obj, &near);
        Py_DECREF(obj);
        if (added < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

/* -- what is on the list --------------------------------------------------------------------------------------- */

/* Whether what the queue has is a new object, awake, of its simple class. */
static int
is_new(PyObject *entry, PyObject *obj)
{
    if (!is_entry(entry)) {
        return 0;
    }
    PyObject *facts = slot_of(entry, in_entry.facts);
    return slot_of(entry, in_entry.revision) == small[0] && is_in_state(entry, AWAKE) && are_facts(facts)
        && slot_of(facts, in_facts.simple) == Py_True && slot_of(facts, in_facts.cls) == (PyObject *)Py_TYPE(obj);
}

/* Whether what the queue has needs no look: it is not loaded, or dozes as it was, and leads to nothing that was
   touched, since nothing was, or all that was is on the list. -1 with an exception. */
static int
needs_nothing(Saving *self, PyObject *entry)
{
    if (!is_entry(entry)) {
        return 0;
    }
    if (is_in_state(entry, GHOST)) {
        return 1;
    }
    if (!is_in_state(entry, DOZING) || slot_of(entry, in_entry.forced) != Py_False) {
        return 0;
    }
    if (self->everything) {
        return 1;
    }
    if (PyDict_GET_SIZE(self->enlisted)) {
        return 0;
    }
    PyObject *jar = PyObject_GetAttr(self->view, jar_name); /* guests are enlisted there */
    Py_XDECREF(jar);
    return jar == NULL ? -1 : jar == Py_None;
}

static PyObject *
write_usual(PyObject *saving, PyObject *position)
{
    Saving *self = (Saving *)saving;
    Py_ssize_t place = PyLong_AsSsize_t(position);
    if (place < 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a position is not below 0");
    }
    for (; place + 1 < PyList_GET_SIZE(self->queue); place += 2) {
        PyObject *entry = Py_NewRef(PyList_GET_ITEM(self->queue, place));
        PyObject *obj = Py_NewRef(PyList_GET_ITEM(self->queue, place + 1));
        int written = 0;
        if (is_new(entry, obj)) {
            written = write_one(self, entry, obj, slot_of(entry, in_entry.facts), 1);
        } else if (is_usual_change(entry, obj)) {
            written = look_at(self, entry, obj);
        } else {
            written = needs_nothing(self, entry);
        }
        Py_DECREF(entry);
        Py_DECREF(obj);
        if (written < 0) {
            return NULL;
        }
        if (written == 0) {
            break;
        }
    }
    return PyLong_FromSsize_t(place);
}

/* Note that something is referred to that was stored before; -1 with an exception. */
static int
note_stored(Saving *self, PyObject *entry)
{
    if (self->refers_to_stored || (!is_in_state(entry, GHOST) && slot_of(entry, in_entry.revision) == small[0])) {
        return 0;
    }
    self->refers_to_stored = 1;
    return PyObject_SetAttr(self->worklist, refers_name, Py_True);
}

/* The entry of what is referred to, which is on the list if it is to be looked at. */
static PyObject *
meet(PyObject *saving, PyObject *obj)
{
    Saving *self = (Saving *)saving;
    PyObject *entry = entry_at(obj);
    if (!is_entry(entry) || slot_of(entry, in_entry.view) != self->view || !is_of(entry, obj)) {
        return PyErr_Occurred() ? NULL : PyObject_CallMethodOneArg(self->worklist, meet_name, obj);
    }
    Py_INCREF(entry);
    int looked_at = self->everything || is_in_state(entry, GHOST);
    if ((!looked_at && enqueue(self, entry, obj) < 0) || note_stored(self, entry) < 0) {
        Py_CLEAR(entry);
    }
    return entry;
}

/* Put all that is enlisted on the list. */
static PyObject *
add_enlisted(PyObject *saving, PyObject *unused)
{
    Saving *self = (Saving *)saving;
    PyObject *address, *obj;
    Py_ssize_t position = 0;
    while (PyDict_Next(self->enlisted, &position, &address, &obj)) {
        PyObject *entry = PyDict_GetItemWithError(entries, address);
        if ((entry == NULL && PyErr_Occurred()) || (entry != NULL && !is_entry(entry))
            || (entry != NULL && enqueue(self, entry, obj) < 0)) {
            return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "%R is no entry", entry);
        }
    }
    Py_RETURN_NONE;
}

/* -- the type -------------------------------------------------------------------------------------------------- */

#define OBJECTS 16

static PyObject **
objects_of(Saving *self, int place)
{
    PyObject **all[OBJECTS] = {
        &self->worklist, &self->encoder,  &self->view,    &self->of_numbers, &self->by_id,   &self->numbered,
        &self->enlisted, &self->codes,    &self->modules, &self->queue,      &self->created, &self->drafts,
        &self->added,    &self->looked_at, &self->written, &self->doubtful,
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
    Py_CLEAR(((Saving *)saving)->named);
    Py_CLEAR(((Saving *)saving)->module);
    Py_CLEAR(((Saving *)saving)->code);
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
    int fits = kwargs == NULL && PyTuple_GET_SIZE(args) == OBJECTS + 4;
    PyObject **given = &PyTuple_GET_ITEM(args, 0); /* a format for so many of them takes as long as all of the rest */
    for (int place = 4; fits && place < OBJECTS; place++) {
        fits = place < 9 ? PyDict_CheckExact(given[place]) : PyList_CheckExact(given[place]);
    }
    if (!fits || encoder_type == NULL || !PyObject_TypeCheck(given[1], encoder_type) || !are_drafts_bound()
        || !are_ids_bound()) {
        PyErr_SetString(PyExc_TypeError, "Saving takes the encoder, five dicts and seven lists of a worklist");
        return NULL;
    }
    Saving *self = (Saving *)type->tp_alloc(type, 0);
    if (self != NULL) {
        for (int place = 0; place < OBJECTS; place++) {
            *objects_of(self, place) = Py_NewRef(given[place]);
        }
        self->number = Py_NewRef(given[OBJECTS]);
        self->has_fields = given[OBJECTS + 1] == Py_True, self->names_all = given[OBJECTS + 2] == Py_True;
        self->everything = given[OBJECTS + 3] == Py_True;
        Py_SETREF(self->of_numbers, numbers_of(given[3]));
        if (self->of_numbers == NULL) {
            Py_CLEAR(self);
        }
    }
    return (PyObject *)self;
}

static PyMethodDef saving_methods[] = {
    {"add_enlisted", add_enlisted, METH_NOARGS, "Put all that is enlisted on the list."},
    {"add_kept", add_kept, METH_O, "Draft a list of objects that are saved by name."},
    {"meet", meet, METH_O, "The entry of an object that is referred to, when the encoder meets it for the first time."},
    {"write_usual", write_usual, METH_O, "Draft what is usual in the queue, from a position on; gives that of others."},
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

int
add_saving(PyObject *module)
{
    add_other_name = PyUnicode_InternFromString("add_other");
    jar_name = PyUnicode_InternFromString("jar");
    meet_name = PyUnicode_InternFromString("_meet");
    refers_name = PyUnicode_InternFromString("refers_to_stored");
    if (add_other_name == NULL || jar_name == NULL || meet_name == NULL || refers_name == NULL) {
        return -1;
    }
    return PyModule_AddType(module, &SavingType);
}
