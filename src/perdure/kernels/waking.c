/* Objects that doze are woken: `wake` of perdure/objects/instances/ghosts.py, as each object of a bulk needs it once;
   also ghosts whose records were read ahead.

   - `awaken(obj, name, writing)` tells whether it has done so. It has done nothing where anything is not as it mostly
     is, or where another thread has the view's lock: then Python waits for that, and looks at everything.
   - Ghost classes have `__getattribute__` and `__setattr__` from here. What is not usual they leave to the functions in
     Python; so they do with everything as long as the compiled part is not used.
   - `quicken(ghost class)` lets the interpreter come to the first of them without looking it up. */

#include "entries.h"
#include "views.h"
#include "waiting.h"

static PyObject *asyncio_name, *compiled_name, *owner_name, *running_name;
static PyObject *settings, *get_in_python, *set_in_python, *unwoken; /* dict of the package, functions, frozenset */

/* Note an attribute as the record has it, if it is plain (`_sample_of` in Python); -1 with an exception. */
static int
take_sample(PyObject *attributes, PyObject *entry, PyObject *obj, PyObject *name)
{
    if (name == NULL || !PyUnicode_CheckExact(name)
        || slot_of(slot_of(entry, in_entry.facts), in_facts.simple) != Py_True) {
        return 0;
    }
    PyObject *napping = attribute_of(attributes, of_view.napping), *state = NULL, *value = NULL, *sample = NULL;
    if (PyDict_Check(napping)
        && PyDict_GetItemWithError(napping, slot_of(entry, in_entry.address)) == NULL && !PyErr_Occurred()) {
        state = dict_of(obj);
        value = state == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(state, name));
    }
    if (value != NULL && is_plain(value)
        && (sample = PyTuple_Pack(3, slot_of(entry, in_entry.revision), name, value)) != NULL) {
        put_slot(entry, in_entry.sample, sample);
    }
    Py_XDECREF(value);
    Py_XDECREF(state);
    return PyErr_Occurred() ? -1 : 0;
}

/* Enlist the object and make an ordinary one of it; 0 if that is not usual, -1 with an exception.

   Another thread that looks at it sees the ordinary object only once it is enlisted. */
static int
enlist(PyObject *attributes, PyObject *entry, PyObject *obj, PyObject *name)
{
    PyObject *enlisted = attribute_of(attributes, of_view.enlisted);
    PyObject *cls = slot_of(slot_of(entry, in_entry.facts), in_facts.cls);
    if (attribute_of(attributes, of_view.retired) != Py_False || !PyDict_CheckExact(enlisted)) {
        return 0;
    }
    if (take_sample(attributes, entry, obj, name) < 0
        || PyDict_SetItem(enlisted, slot_of(entry, in_entry.address), obj) < 0 || assign_class(obj, cls) < 0) {
        return -1;
    }
    set_slot(entry, in_entry.state, small[AWAKE]);
    return 1;
}

/* Whether the caller is the thread or task that the view belongs to, as far as `owns` tells; -1 with an exception.

   Where no task can be running, the thread that was found to be the owner stays it: its number is given only once. */
static int
is_owned(PyObject *attributes)
{
    PyObject *modules = PyImport_GetModuleDict();
    int may_have_tasks = modules == NULL || PyDict_GetItemWithError(modules, asyncio_name) != NULL;
    PyObject *own = may_have_tasks ? NULL : PyLong_FromUnsignedLongLong(PyThreadState_GetID(PyThreadState_Get()));
    int is_own = own == NULL ? 0 : PyObject_RichCompareBool(own, attribute_of(attributes, owner_name), Py_EQ);
    if (is_own == 0 && !PyErr_Occurred()) {
        PyObject *told = PyObject_CallNoArgs(attribute_of(attributes, of_view.owns));
        is_own = told == NULL ? -1 : told == Py_True;
        if (is_own == 1 && own != NULL && PyDict_SetItem(attributes, owner_name, own) < 0) {
            is_own = -1;
        }
        Py_XDECREF(told);
    }
    Py_XDECREF(own);
    return PyErr_Occurred() ? -1 : is_own;
}

/* 1 if a ghost was filled with what waits for it, 0 if Python has to see to it, -1 with an exception. */
static int
fill_ghost(PyObject *view, PyObject *attributes, PyObject *entry)
{
    PyObject *id = slot_of(entry, in_entry.id), *by_id = attribute_of(attributes, of_view.by_id), *same = NULL;
    if (attribute_of(attributes, of_view.closed) != Py_False || !PyDict_CheckExact(by_id)
        || PyDict_GetItemWithError(by_id, id) != entry) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int filled = take_waiting(view, attributes, id, &same);
    Py_XDECREF(same);
    return filled;
}

/* `enlist` under the lock of the view, once the state is there, and a round of rest if there is too much. */
static int
wake_in(PyObject *view, PyObject *attributes, PyObject *entry, PyObject *obj, PyObject *name)
{
    PyObject *lock;
    int done = hold_view(attributes, &lock);
    if (done <= 0) {
        return done;
    }
    if (is_in_state(entry, GHOST)) {
        done = fill_ghost(view, attributes, entry);
        name = NULL; /* samples are taken of what was there before the touch */
    }
    if (done == 1) {
        done = is_in_state(entry, DOZING) ? enlist(attributes, entry, obj, name) : 0;
    }
    if (done == 1 && make_room(view, attributes, entry) < 0) {
        done = -1;
    }
    return let_go_of_view(lock) < 0 ? -1 : done;
}

/* 1 if the object was made an ordinary one, 0 if Python has to see to it, -1 with an exception. */
static int
woken(PyObject *obj, PyObject *name, int writing)
{
    PyObject *entry = entries == NULL ? NULL : entry_at(obj);
    if (!is_entry(entry) || !(is_in_state(entry, DOZING) || is_in_state(entry, GHOST)) || !is_of(entry, obj)
        || !are_facts(slot_of(entry, in_entry.facts))) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *view = Py_NewRef(slot_of(entry, in_entry.view)), *attributes = dict_of(view);
    Py_INCREF(entry);
    int done = attributes == NULL ? -1 : 1;
    if (done == 1 && (writing || is_in_state(entry, GHOST))) {
        done = is_owned(attributes);
    }
    if (done == 1) {
        done = wake_in(view, attributes, entry, obj, name);
    }
    Py_XDECREF(attributes);
    Py_DECREF(entry);
    Py_DECREF(view);
    return done;
}

/* awaken(obj, name, writing): whether the object, of which an attribute is asked for or assigned, was woken. */
static PyObject *
awaken(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "awaken takes an object, a name or None, and whether it is written to");
        return NULL;
    }
    int done = woken(args[0], args[1], args[2] == Py_True);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* -- methods of ghost classes ---------------------------------------------------------------------------------- */

/* Whether the object was woken for a usual attribute; -1 with an exception. */
static int
woken_for(PyObject *obj, PyObject *name, int writing)
{
    PyObject *used = PyDict_GetItemWithError(settings, compiled_name);
    int is_usual = used != NULL && used != Py_None && PyUnicode_CheckExact(name) ? PySet_Contains(unwoken, name) : 1;
    return PyErr_Occurred() ? -1 : is_usual ? 0 : woken(obj, name, writing);
}

static PyObject *
get_attribute(PyObject *obj, PyObject *name)
{
    int done = woken_for(obj, name, 0);
    if (done) {
        return done < 0 ? NULL : PyObject_GetAttr(obj, name);
    }
    return PyObject_CallFunctionObjArgs(get_in_python, obj, name, NULL);
}

static PyObject *
set_attribute(PyObject *obj, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "expected 2 arguments, got %zd", count);
    }
    int done = woken_for(obj, args[0], 1);
    if (done < 0 || (done && PyObject_SetAttr(obj, args[0], args[1]) < 0)) {
        return NULL;
    }
    return done ? Py_NewRef(Py_None) : PyObject_CallFunctionObjArgs(set_in_python, obj, args[0], args[1], NULL);
}

static PyMethodDef of_ghosts[] = {
    {"__getattribute__", get_attribute, METH_O, "The attribute, once the object is woken."},
    {"__setattr__", (PyCFunction)(void (*)(void))set_attribute, METH_FASTCALL, "Woken, and the attribute assigned."},
    {NULL, NULL, 0, NULL},
};

/* bind_ghosts(settings, get, set, unwoken): what these methods leave to Python; gives them in a dict for a body. */
static PyObject *
bind_ghosts(PyObject *module, PyObject *args)
{
    PyObject *package, *get, *set, *names, *body;
    if (!PyArg_ParseTuple(args, "O!OOO!", &PyDict_Type, &package, &get, &set, &PyFrozenSet_Type, &names)
        || (body = PyDict_New()) == NULL) {
        return NULL;
    }
    settings = Py_NewRef(package), get_in_python = Py_NewRef(get), set_in_python = Py_NewRef(set);
    unwoken = Py_NewRef(names);
    for (PyMethodDef *each = of_ghosts; each->ml_name != NULL; each++) {
        PyObject *method = PyDescr_NewMethod(&PyBaseObject_Type, each);
        if (method == NULL || PyDict_SetItemString(body, each->ml_name, method) < 0) {
            Py_XDECREF(method);
            Py_DECREF(body);
            return NULL;
        }
        Py_DECREF(method);
    }
    return body;
}

/* quicken(ghost class): the interpreter calls `get_attribute` without looking up what is in the class. */
static PyObject *
quicken(PyObject *module, PyObject *type)
{
    if (!PyType_Check(type) || !PyType_HasFeature((PyTypeObject *)type, Py_TPFLAGS_HEAPTYPE)) {
        PyErr_SetString(PyExc_TypeError, "quicken takes a ghost class");
        return NULL;
    }
    ((PyTypeObject *)type)->tp_getattro = get_attribute;
    PyType_Modified((PyTypeObject *)type);
    Py_RETURN_NONE;
}

int
is_in_loop(void)
{
    PyObject *asyncio = PyDict_GetItemWithError(PyImport_GetModuleDict(), asyncio_name);
    if (asyncio == NULL || asyncio == Py_None) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *loop = PyObject_CallMethodNoArgs(asyncio, running_name);
    Py_XDECREF(loop);
    return loop == NULL ? -1 : loop != Py_None;
}

static PyMethodDef methods[] = {
    {"awaken", (PyCFunction)(void (*)(void))awaken, METH_FASTCALL,
     "awaken(obj, name, writing): whether it was made an ordinary object"},
    {"bind_ghosts", bind_ghosts, METH_VARARGS, "bind_ghosts(settings, get, set, unwoken): methods of ghost classes"},
    {"quicken", quicken, METH_O, "quicken(ghost class): touches are quicker"},
    {NULL, NULL, 0, NULL},
};

int
add_waking(PyObject *module)
{
    asyncio_name = PyUnicode_InternFromString("asyncio");
    compiled_name = PyUnicode_InternFromString("compiled");
    owner_name = PyUnicode_InternFromString("_owner");
    running_name = PyUnicode_InternFromString("_get_running_loop");
    if (asyncio_name == NULL || compiled_name == NULL || owner_name == NULL || running_name == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, methods);
}
