/* New objects that a transaction is asked to save, one by one: `Store.save` inside of a transaction's block.

   `Joining(desk, transaction, naming, view, lists, dicts)` is called with an object, and gives its id; or None, and has
   done nothing, where anything is not as it mostly is: then Python looks at everything, and says what is wrong. The
   view lets go of it when the transaction ends, or is another process's. */

#include "naming.h"
#include "views.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *view, *saved, *unfinished;                       /* lists, of the step and the view */
    PyObject *of_desk, *of_transaction, *of_numbers, *of_view; /* attributes */
    PyObject *by_id, *numbered, *enlisted;                     /* of the view */
} Joining;

static PyObject *block_name, *looking_name, *worklist_name;

/* Whether the block is still running, as far as that is known: `Blocked.is_left`. */
static int
is_running(Joining *self)
{
    PyObject *block = attribute_of(self->of_transaction, block_name); /* None is the class's */
    PyObject *method = PyWeakref_Check(block) ? alive(block) : NULL;
    Py_XDECREF(method);
    return block == Py_None || method != NULL;
}

static int
is_usual(Joining *self)
{
    return PyList_GET_SIZE(self->unfinished) == 0 && attribute_of(self->of_desk, worklist_name) == Py_None
        && attribute_of(self->of_desk, looking_name) == Py_False
        && attribute_of(self->of_view, of_view.closed) == Py_False && is_running(self) && !is_in_loop();
}

/* The id of a new object, which is enrolled and on the list; NULL with an exception. */
static PyObject *
joined(Joining *self, PyObject *obj, PyObject *facts, PyObject *number)
{
    const Into into = {self->view, self->by_id, self->numbered, self->enlisted};
    PyObject *entry = enrol_new(&into, obj, facts, number, 0);
    PyObject *id = entry == NULL ? NULL : as_id(slot_of(entry, in_entry.id));
    if (id != NULL && PyList_Append(self->saved, obj) < 0) {
        Py_CLEAR(id);
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
    PyObject *number = facts == NULL ? NULL : next_number(self->of_numbers), *id = NULL;
    if (number != NULL) {
        id = joined(self, args[0], facts, number);
        Py_DECREF(number);
    }
    return id != NULL || PyErr_Occurred() ? id : Py_NewRef(Py_None);
}

#define OBJECTS 10

static PyObject **
objects_of(Joining *self, int place)
{
    PyObject **all[OBJECTS] = {
        &self->view,       &self->saved,   &self->unfinished, &self->of_desk,  &self->of_transaction,
        &self->of_numbers, &self->of_view, &self->by_id,      &self->numbered, &self->enlisted,
    };
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
    PyObject *desk, *transaction, *naming, *view, *saved, *unfinished, *by_id, *numbered, *enlisted;
    if (!PyArg_ParseTuple(args, "OOOO(O!O!)(O!O!O!)", &desk, &transaction, &naming, &view, &PyList_Type, &saved,
                          &PyList_Type, &unfinished, &PyDict_Type, &by_id, &PyDict_Type, &numbered, &PyDict_Type,
                          &enlisted)) {
        return NULL;
    }
    if (entry_type == NULL || facts_type == NULL || !are_ids_bound()) {
        PyErr_SetString(PyExc_TypeError, "entries, facts and ids are bound first");
        return NULL;
    }
    Joining *self = (Joining *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->call = join;
    self->view = Py_NewRef(view), self->saved = Py_NewRef(saved), self->unfinished = Py_NewRef(unfinished);
    self->by_id = Py_NewRef(by_id), self->numbered = Py_NewRef(numbered), self->enlisted = Py_NewRef(enlisted);
    self->of_desk = dict_of(desk), self->of_transaction = dict_of(transaction);
    self->of_numbers = numbers_of(naming), self->of_view = dict_of(view);
    for (int place = 0; place < OBJECTS; place++) {
        if (*objects_of(self, place) == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyTypeObject JoiningType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.Joining",
    .tp_doc = "Joining(desk, transaction, naming, view, lists, dicts)(obj): the id of a new object, or None.",
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
        {&block_name, "block"},
        {&looking_name, "is_looking"},
        {&worklist_name, "worklist"},
    };
    for (size_t place = 0; place < sizeof(names) / sizeof(names[0]); place++) {
        if ((*names[place].at = PyUnicode_InternFromString(names[place].name)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddType(module, &JoiningType);
}
