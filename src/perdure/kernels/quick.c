/* `Store.load` of what is in memory, or was read ahead and is usual: the usual call, with an id alone, in C.

   `Quick(function, settings)` is a method that does this. Everything else it leaves to the function; so it does with
   all as long as the compiled part is not used. To call a function in Python takes longer than what is done here. */

#include <stddef.h>

#include "entries.h"
#include "views.h"
#include "waiting.h"

static PyObject *compiled_name, *threads_name, *view_name;

/* The object of that id, a new reference, if its state is in memory and it is no opaque one; NULL, maybe with an
   exception. */
static PyObject *
loaded_under(PyObject *by_id, PyObject *id)
{
    PyObject *entry = PyDict_Check(by_id) ? PyDict_GetItemWithError(by_id, id) : NULL;
    if (!is_entry(entry) || !(is_in_state(entry, DOZING) || is_in_state(entry, AWAKE))
        || !are_facts(slot_of(entry, in_entry.facts))
        || slot_of(slot_of(entry, in_entry.facts), in_facts.opaque) != Py_False) {
        return NULL;
    }
    return alive(entry);
}

/* Whether nobody has committed since a view was last seen to be at the newest revision; -1 with an exception. */
static int
is_newest(PyObject *attributes)
{
    PyObject *told = PyObject_CallNoArgs(attribute_of(attributes, of_view.watch));
    int same = told == NULL ? -1 : PyObject_RichCompareBool(told, attribute_of(attributes, of_view.mark), Py_EQ);
    Py_XDECREF(told);
    return same;
}

/* The object of that id, a new reference, if it is in memory, or its record was read ahead and is usual; NULL, maybe
   with an exception. */
static PyObject *
found_in(PyObject *view, PyObject *attributes, PyObject *id)
{
    PyObject *obj = loaded_under(attribute_of(attributes, of_view.by_id), id), *lock;
    if (obj != NULL || PyErr_Occurred() || hold_view(attributes, &lock) != 1) {
        return obj;
    }
    if (take_waiting(view, attributes, id, &obj) == 1 && make_room(view, attributes, NULL) < 0) {
        Py_CLEAR(obj);
    }
    if (let_go_of_view(lock) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* What is there of that id in the thread's view, a new reference; NULL, maybe with an exception. */
static PyObject *
found_by(PyObject *views, PyObject *id)
{
    PyObject *obj = NULL;
    if (!PyUnicode_Check(id) || is_in_loop()) {
        return NULL;
    }
    PyObject *view = PyObject_GetAttr(views, view_name);
    PyObject *attributes = view == NULL || view == Py_None ? NULL : dict_of(view);
    if (attributes != NULL && is_newest(attributes) == 1) {
        obj = found_in(view, attributes, id);
    }
    Py_XDECREF(attributes);
    Py_XDECREF(view);
    return obj;
}

/* -- the method -------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *function, *settings, *attributes; /* settings: the dict of the package */
} Quick;

static PyObject *
call_quick(PyObject *callable, PyObject *const *args, size_t flagged, PyObject *names)
{
    Quick *self = (Quick *)callable;
    PyObject *used = PyDict_GetItemWithError(self->settings, compiled_name);
    if (used != NULL && used != Py_None && PyVectorcall_NARGS(flagged) == 2 && names == NULL) {
        PyObject *views = PyObject_GetAttr(args[0], threads_name), *obj = NULL;
        if (views != NULL) {
            obj = found_by(views, args[1]);
            Py_DECREF(views);
        } else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear(); /* no store: the function says so */
        }
        if (obj != NULL) {
            return obj;
        }
    }
    return PyErr_Occurred() ? NULL : PyObject_Vectorcall(self->function, args, flagged, names);
}

static PyObject *
bind_quick(PyObject *quick, PyObject *obj, PyObject *type)
{
    return obj == NULL || obj == Py_None ? Py_NewRef(quick) : PyMethod_New(quick, obj);
}

static int
clear_quick(PyObject *quick)
{
    Py_CLEAR(((Quick *)quick)->attributes);
    return 0;
}

static int
traverse_quick(PyObject *quick, visitproc visit, void *arg)
{
    Quick *self = (Quick *)quick;
    Py_VISIT(self->function);
    Py_VISIT(self->settings);
    Py_VISIT(self->attributes);
    return 0;
}

static void
free_quick(PyObject *quick)
{
    PyObject_GC_UnTrack(quick);
    clear_quick(quick);
    Py_CLEAR(((Quick *)quick)->function);
    Py_CLEAR(((Quick *)quick)->settings);
    Py_TYPE(quick)->tp_free(quick);
}

static PyObject *
new_quick(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *function, *settings;
    if (!PyArg_ParseTuple(args, "OO!", &function, &PyDict_Type, &settings)) {
        return NULL;
    }
    Quick *self = (Quick *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->call = call_quick;
        self->function = Py_NewRef(function);
        self->settings = Py_NewRef(settings);
    }
    return (PyObject *)self;
}

static PyGetSetDef properties[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject QuickType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.Quick",
    .tp_basicsize = sizeof(Quick),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = new_quick,
    .tp_dealloc = free_quick,
    .tp_traverse = traverse_quick,
    .tp_clear = clear_quick,
    .tp_vectorcall_offset = offsetof(Quick, call),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = bind_quick,
    .tp_dictoffset = offsetof(Quick, attributes),
    .tp_getset = properties,
};

int
add_quick(PyObject *module)
{
    compiled_name = PyUnicode_InternFromString("compiled");
    threads_name = PyUnicode_InternFromString("_threads");
    view_name = PyUnicode_InternFromString("view");
    if (compiled_name == NULL || threads_name == NULL || view_name == NULL) {
        return -1;
    }
    return PyModule_AddType(module, &QuickType);
}
