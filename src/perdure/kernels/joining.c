/* New objects that a transaction is asked to save, one by one: `Store.save` inside of a transaction's block.

   `Joining(desk, transaction, step, naming, view, dicts)` is called with an object, and gives its id; or None, and has
   done nothing, where anything is not as it mostly is: then Python looks at everything, and says what is wrong. */

#include "naming.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *desk, *transaction, *step, *naming, *view;
    PyObject *by_id, *numbered, *enlisted; /* of the view */
} Joining;

static PyObject *block_name, *closed_name, *inherited_name, *looking_name, *saved_name, *transaction_name,
    *unfinished_name, *worklist_name;

/* Whether an attribute is just that object; no exception is left. */
static int
is(PyObject *obj, PyObject *name, PyObject *value)
{
    PyObject *found = PyObject_GetAttr(obj, name);
    if (found == NULL) {
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(found); /* `value` is held by others */
    return found == value;
}

/* Whether the block is still running, as far as that is known: `Blocked.is_left`. */
static int
is_running(Joining *self)
{
    PyObject *block = PyObject_GetAttr(self->transaction, block_name), *method = NULL;
    if (block != NULL && block != Py_None && PyWeakref_Check(block)) {
        method = alive(block);
    }
    int running = block == Py_None || method != NULL;
    PyErr_Clear();
    Py_XDECREF(block);
    Py_XDECREF(method);
    return running;
}

static int
is_usual(Joining *self)
{
    PyObject *unfinished = PyObject_GetAttr(self->view, unfinished_name);
    int nothing = unfinished != NULL && PyList_Check(unfinished) && PyList_GET_SIZE(unfinished) == 0;
    PyErr_Clear();
    Py_XDECREF(unfinished);
    return nothing && is(self->desk, transaction_name, self->transaction) && is(self->desk, worklist_name, Py_None)
        && is(self->desk, looking_name, Py_False) && is(self->transaction, inherited_name, Py_False)
        && is(self->view, closed_name, Py_False) && is_running(self);
}

/* The id of a new object, which is enrolled and on the list; NULL with an exception. */
static PyObject *
joined(Joining *self, PyObject *saved, PyObject *obj, PyObject *facts, PyObject *number)
{
    const Into into = {self->view, self->by_id, self->numbered, self->enlisted};
    PyObject *entry = enrol_new(&into, obj, facts, number, 0), *id = NULL;
    if (entry != NULL && PyList_Append(saved, obj) == 0) {
        id = Py_NewRef(slot_of(entry, in_entry.id));
    }
    Py_XDECREF(entry);
    return id;
}

static PyObject *
join(PyObject *joining, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Joining *self = (Joining *)joining;
    if (PyVectorcall_NARGS(nargsf) != 1 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "Joining is called with an object");
        return NULL;
    }
    PyObject *facts = is_usual(self) ? facts_if_new(args[0]) : NULL;
    PyObject *saved = facts == NULL ? NULL : PyObject_GetAttr(self->step, saved_name), *id = NULL;
    PyObject *number = saved == NULL || !PyList_CheckExact(saved) ? NULL : next_number(self->naming);
    if (number != NULL) {
        id = joined(self, saved, args[0], facts, number);
    }
    Py_XDECREF(saved);
    Py_XDECREF(number);
    return id != NULL || PyErr_Occurred() ? id : Py_NewRef(Py_None);
}

#define OBJECTS 8

static PyObject **
objects_of(Joining *self, int place)
{
    PyObject **all[OBJECTS] = {&self->desk, &self->transaction, &self->step,     &self->naming,
                               &self->view, &self->by_id,       &self->numbered, &self->enlisted};
    return all[place];
}

static int
clear_joining(PyObject *joining)
{
    for (int place = 0; place < OBJECTS; place++) {
        Py_CLEAR(*objects_of((Joining *)joining, place));
    }
    return 0;
}

static int
traverse_joining(PyObject *joining, visitproc visit, void *arg)
{
    for (int place = 0; place < OBJECTS; place++) {
        Py_VISIT(*objects_of((Joining *)joining, place));
    }
    return 0;
}

static void
free_joining(PyObject *joining)
{
    PyObject_GC_UnTrack(joining);
    clear_joining(joining);
    Py_TYPE(joining)->tp_free(joining);
}

static PyObject *
new_joining(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *given[OBJECTS];
    if (!PyArg_ParseTuple(args, "OOOOO(O!O!O!)", &given[0], &given[1], &given[2], &given[3], &given[4], &PyDict_Type,
                          &given[5], &PyDict_Type, &given[6], &PyDict_Type, &given[7])) {
        return NULL;
    }
    if (entry_type == NULL || facts_type == NULL || !are_ids_bound()) {
        PyErr_SetString(PyExc_TypeError, "entries, facts and ids are bound first");
        return NULL;
    }
    Joining *self = (Joining *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->call = join;
        for (int place = 0; place < OBJECTS; place++) {
            *objects_of(self, place) = Py_NewRef(given[place]);
        }
    }
    return (PyObject *)self;
}

static PyTypeObject JoiningType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.Joining",
    .tp_doc = "Joining(desk, transaction, step, naming, view, dicts)(obj): the id of a new object, or None.",
    .tp_basicsize = sizeof(Joining),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = new_joining,
    .tp_dealloc = free_joining,
    .tp_traverse = traverse_joining,
    .tp_clear = clear_joining,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Joining, call),
};

int
add_joining(PyObject *module)
{
    const struct {
        PyObject **at;
        const char *name;
    } names[] = {
        {&block_name, "block"},         {&closed_name, "closed"},         {&inherited_name, "is_inherited"},
        {&looking_name, "is_looking"},  {&saved_name, "saved"},           {&transaction_name, "transaction"},
        {&worklist_name, "worklist"},   {&unfinished_name, "unfinished"},
    };
    for (size_t place = 0; place < sizeof(names) / sizeof(names[0]); place++) {
        if ((*names[place].at = PyUnicode_InternFromString(names[place].name)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddType(module, &JoiningType);
}
