/* Objects that doze are woken: `View.wake`, for a touch that only reads, as each object of a bulk gets one.

   `awaken(obj)` tells whether it has done so. It has done nothing where anything is not as it mostly is, or where
   another thread has the view's lock: then Python waits for that, and looks at everything. */

#include "entries.h"

static PyObject *acquire_name, *enlisted_name, *enlisted_limit_name, *loaded_name, *loaded_limit_name, *lock_name,
    *make_room_name, *release_name, *retired_name;

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

/* Enlist the object and make an ordinary one of it; 0 if that is not usual, -1 with an exception.

   Another thread that looks at it sees the ordinary object only once it is enlisted. */
static int
enlist(PyObject *view, PyObject *entry, PyObject *obj)
{
    PyObject *retired = PyObject_GetAttr(view, retired_name), *enlisted = PyObject_GetAttr(view, enlisted_name);
    PyObject *cls = slot_of(slot_of(entry, in_entry.facts), in_facts.cls);
    int done = retired == NULL || enlisted == NULL ? -1 : retired == Py_False && PyDict_CheckExact(enlisted);
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
wake_in(PyObject *view, PyObject *entry, PyObject *obj)
{
    PyObject *lock = PyObject_GetAttr(view, lock_name);
    PyObject *acquired = lock == NULL ? NULL : PyObject_CallMethodOneArg(lock, acquire_name, Py_False);
    if (acquired != Py_True) {
        Py_XDECREF(acquired);
        Py_XDECREF(lock);
        return acquired == NULL ? -1 : 0;
    }
    int woken = is_in_state(entry, DOZING) ? enlist(view, entry, obj) : 0;
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

static PyObject *
awaken(PyObject *module, PyObject *obj)
{
    PyObject *entry = entries == NULL ? NULL : entry_at(obj);
    if (!is_entry(entry) || !is_in_state(entry, DOZING) || !is_of(entry, obj)
        || !are_facts(slot_of(entry, in_entry.facts))) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    PyObject *view = Py_NewRef(slot_of(entry, in_entry.view));
    Py_INCREF(entry);
    int woken = wake_in(view, entry, obj);
    Py_DECREF(entry);
    Py_DECREF(view);
    return woken < 0 ? NULL : PyBool_FromLong(woken);
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
    {"awaken", awaken, METH_O, "awaken(obj): whether a dozing object was made an ordinary one"},
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
        {&enlisted_name, "enlisted"},
        {&enlisted_limit_name, "_enlisted_limit"},
        {&loaded_name, "loaded"},
        {&loaded_limit_name, "_cache_limit"},
        {&lock_name, "lock"},
        {&make_room_name, "make_room"},
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
