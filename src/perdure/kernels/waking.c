/* Objects that doze are woken: `wake` of perdure/objects/instances/ghosts.py, as each object of a bulk needs it once.

   - `awaken(obj, name, writing)` tells whether it has done so. It has done nothing where anything is not as it mostly
     is, or where another thread has the view's lock: then Python waits for that, and looks at everything.
   - Ghost classes have `__getattribute__` and `__setattr__` from here. What is not usual they leave to the functions in
     Python; so they do with everything as long as the compiled part is not used. */

#include "entries.h"

static PyObject *acquire_name, *compiled_name, *enlisted_name, *enlisted_limit_name, *loaded_name, *loaded_limit_name,
    *lock_name, *make_room_name, *napping_name, *owns_name, *release_name, *retired_name;
static PyObject *settings, *get_in_python, *set_in_python, *unwoken; /* dict of the package, functions, frozenset */

/* Whether a view has more objects under `name` than under the name of its limit; -1 with an exception. */
static int
is_beyond(PyObject *view, PyObject *name, PyObject *limit_name)
{
    PyObject *objects = PyObject_GetAttr(view, name), *limit = PyObject_GetAttr(view, limit_name);
    Py_ssize_t count = objects == NULL || limit == NULL ? -1 : PyObject_Size(objects);
    Py_ssize_t most = count < 0 ? -1 : PyLong_AsSsize_t(limit);
    Py_XDECREF(objects);
    Py_XDECREF(limit);
    return PyErr_Occurred() ? -1 : count > most;
}

static int
is_plain(PyObject *value)
{
    return PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value)
        || value == Py_None;
}

/* Note an attribute as the record has it, if it is plain (`_sample_of` in Python); -1 with an exception. */
static int
take_sample(PyObject *view, PyObject *entry, PyObject *obj, PyObject *name)
{
    if (!PyUnicode_CheckExact(name) || slot_of(slot_of(entry, in_entry.facts), in_facts.simple) != Py_True) {
        return 0;
    }
    PyObject *napping = PyObject_GetAttr(view, napping_name), *state = NULL, *value = NULL, *sample = NULL;
    if (napping != NULL && PyDict_Check(napping)
        && PyDict_GetItemWithError(napping, slot_of(entry, in_entry.address)) == NULL && !PyErr_Occurred()) {
        state = dict_of(obj);
        value = state == NULL ? NULL : PyDict_GetItemWithError(state, name);
    }
    if (value != NULL && is_plain(value)
        && (sample = PyTuple_Pack(3, slot_of(entry, in_entry.revision), name, value)) != NULL) {
        put_slot(entry, in_entry.sample, sample);
    }
    Py_XDECREF(napping);
    Py_XDECREF(state);
    return PyErr_Occurred() ? -1 : 0;
}

/* Enlist the object and make an ordinary one of it; 0 if that is not usual, -1 with an exception.

   Another thread that looks at it sees the ordinary object only once it is enlisted. */
static int
enlist(PyObject *view, PyObject *entry, PyObject *obj, PyObject *name)
{
    PyObject *retired = PyObject_GetAttr(view, retired_name), *enlisted = PyObject_GetAttr(view, enlisted_name);
    PyObject *cls = slot_of(slot_of(entry, in_entry.facts), in_facts.cls);
    int done = retired == NULL || enlisted == NULL ? -1 : retired == Py_False && PyDict_CheckExact(enlisted);
    if (done == 1 && take_sample(view, entry, obj, name) < 0) {
        done = -1;
    }
    if (done == 1) {
        done = PyDict_SetItem(enlisted, slot_of(entry, in_entry.address), obj);
        done = done < 0 || assign_class(obj, cls) < 0 ? -1 : 1;
    }
    if (done == 1) {
        set_slot(entry, in_entry.state, small[AWAKE]);
    }
    Py_XDECREF(retired);
    Py_XDECREF(enlisted);
    return done;
}

/* `enlist` under the lock of the view, and a round of rest if there is too much. */
static int
wake_in(PyObject *view, PyObject *entry, PyObject *obj, PyObject *name)
{
    PyObject *lock = PyObject_GetAttr(view, lock_name);
    PyObject *acquired = lock == NULL ? NULL : PyObject_CallMethodOneArg(lock, acquire_name, Py_False);
    if (acquired != Py_True) {
        Py_XDECREF(acquired);
        Py_XDECREF(lock);
        return acquired == NULL ? -1 : 0;
    }
    int woken = is_in_state(entry, DOZING) ? enlist(view, entry, obj, name) : 0;
    if (woken == 1) {
        int beyond = is_beyond(view, enlisted_name, enlisted_limit_name);
        beyond = beyond ? beyond : is_beyond(view, loaded_name, loaded_limit_name);
        PyObject *none = beyond == 1 ? PyObject_CallMethodOneArg(view, make_room_name, entry) : NULL;
        Py_XDECREF(none);
        woken = PyErr_Occurred() ? -1 : 1;
    }
    PyObject *kind, *error, *trace;
    PyErr_Fetch(&kind, &error, &trace);
    PyObject *released = PyObject_CallMethodNoArgs(lock, release_name);
    if (kind != NULL) {
        PyErr_Clear();
        PyErr_Restore(kind, error, trace);
    } else if (released == NULL) {
        woken = -1;
    }
    Py_XDECREF(released);
    Py_DECREF(acquired);
    Py_DECREF(lock);
    return woken;
}

/* Whether the caller is the thread or task that the view belongs to, as far as `owns` tells; -1 with an exception. */
static int
is_owned(PyObject *view)
{
    PyObject *told = PyObject_CallMethodNoArgs(view, owns_name);
    Py_XDECREF(told);
    return told == NULL ? -1 : told == Py_True;
}

/* 1 if the object was made an ordinary one, 0 if Python has to see to it, -1 with an exception. */
static int
woken(PyObject *obj, PyObject *name, int writing)
{
    PyObject *entry = entries == NULL ? NULL : entry_at(obj);
    if (!is_entry(entry) || !is_in_state(entry, DOZING) || !is_of(entry, obj)
        || !are_facts(slot_of(entry, in_entry.facts))) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *view = Py_NewRef(slot_of(entry, in_entry.view));
    Py_INCREF(entry);
    int done = writing ? is_owned(view) : 1;
    if (done == 1) {
        done = wake_in(view, entry, obj, name);
    }
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

/* in_memory(by_id, id): the object of that id, if its state is in memory and it is no opaque one; else None. */
static PyObject *
in_memory(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *entry = NULL, *obj = NULL;
    if (count == 2 && PyDict_Check(args[0]) && PyUnicode_Check(args[1])) {
        entry = PyDict_GetItemWithError(args[0], args[1]);
    }
    if (is_entry(entry) && (is_in_state(entry, DOZING) || is_in_state(entry, AWAKE))
        && are_facts(slot_of(entry, in_entry.facts))
        && slot_of(slot_of(entry, in_entry.facts), in_facts.opaque) == Py_False) {
        obj = alive(entry);
    }
    return obj != NULL || PyErr_Occurred() ? obj : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"in_memory", (PyCFunction)(void (*)(void))in_memory, METH_FASTCALL, "in_memory(by_id, id): the object, or None"},
    {"awaken", (PyCFunction)(void (*)(void))awaken, METH_FASTCALL,
     "awaken(obj, name, writing): whether a dozing object was made an ordinary one"},
    {"bind_ghosts", bind_ghosts, METH_VARARGS, "bind_ghosts(settings, get, set, unwoken): methods of ghost classes"},
    {NULL, NULL, 0, NULL},
};

int
add_waking(PyObject *module)
{
    const struct {
        PyObject **at;
        const char *name;
    } names[] = {
        {&acquire_name, "acquire"},
        {&compiled_name, "compiled"},
        {&enlisted_name, "enlisted"},
        {&enlisted_limit_name, "_enlisted_limit"},
        {&loaded_name, "loaded"},
        {&loaded_limit_name, "_cache_limit"},
        {&lock_name, "lock"},
        {&make_room_name, "make_room"},
        {&napping_name, "_napping"},
        {&owns_name, "owns"},
        {&release_name, "release"},
        {&retired_name, "retired"},
    };
    for (size_t place = 0; place < sizeof(names) / sizeof(names[0]); place++) {
        if ((*names[place].at = PyUnicode_InternFromString(names[place].name)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, methods);
}
