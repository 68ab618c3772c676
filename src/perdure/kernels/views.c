/* What of a view is looked at for each object: `Resting.make_room`, and `with view.lock`. */

#include "views.h"

#include "entries.h"

struct Names of_view;

static PyObject *acquire_name, *release_name, *at_once; /* at_once: the arguments (False,) */

PyObject *
attribute_of(PyObject *attributes, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(attributes, name);
    return value == NULL ? Py_None : value; /* names are texts: there is no exception */
}

/* Whether no other thread runs Python code, so that none can be between two lines of it. */
static int
is_alone(void)
{
    PyThreadState *own = PyThreadState_Get();
    return PyInterpreterState_ThreadHead(PyThreadState_GetInterpreter(own)) == own && PyThreadState_Next(own) == NULL;
}

int
hold_view(PyObject *attributes, PyObject **lock)
{
    *lock = NULL;
    if (is_alone()) { /* acquiring would take as long as all the rest of a touch */
        return 1;
    }
    PyObject *held = Py_NewRef(attribute_of(attributes, of_view.lock)), *acquired = NULL;
    PyObject *acquire = PyObject_GetAttr(held, acquire_name);
    if (acquire != NULL) {
        acquired = PyObject_Call(acquire, at_once, NULL);
    }
    int is_held = acquired == NULL ? -1 : acquired == Py_True;
    if (is_held == 1) {
        *lock = Py_NewRef(held);
    }
    Py_XDECREF(acquired);
    Py_XDECREF(acquire);
    Py_DECREF(held);
    return is_held;
}

int
let_go_of_view(PyObject *lock)
{
    PyObject *kind, *error, *trace;
    if (lock == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyErr_Fetch(&kind, &error, &trace);
    PyObject *released = PyObject_CallMethodNoArgs(lock, release_name);
    if (kind != NULL) {
        PyErr_Clear();
        PyErr_Restore(kind, error, trace);
    }
    int done = PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(released);
    Py_DECREF(lock);
    return done;
}

static int
is_beyond(PyObject *attributes, PyObject *name, PyObject *limit_name)
{
    Py_ssize_t count = PyObject_Size(attribute_of(attributes, name));
    Py_ssize_t most = count < 0 ? -1 : PyLong_AsSsize_t(attribute_of(attributes, limit_name));
    return most == -1 && PyErr_Occurred() ? -1 : count > most;
}

int
make_room(PyObject *view, PyObject *attributes, PyObject *woken)
{
    int beyond = is_beyond(attributes, of_view.enlisted, of_view.enlisted_limit);
    beyond = beyond ? beyond : is_beyond(attributes, of_view.loaded, of_view.loaded_limit);
    if (beyond <= 0) {
        return beyond;
    }
    PyObject *none = PyObject_CallMethodOneArg(view, of_view.make_room, woken == NULL ? Py_None : woken);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

int
add_views(PyObject *module)
{
    const struct {
        PyObject **at;
        const char *name;
    } names[] = {
        {&acquire_name, "acquire"},
        {&release_name, "release"},
        {&of_view.ahead, "_ahead"},
        {&of_view.append, "append"},
        {&of_view.at, "_at"},
        {&of_view.by_id, "by_id"},
        {&of_view.classes, "_classes"},
        {&of_view.closed, "closed"},
        {&of_view.decoders, "_decoders"},
        {&of_view.enlisted, "enlisted"},
        {&of_view.enlisted_limit, "_enlisted_limit"},
        {&of_view.entries, "_entries"},
        {&of_view.frames, "_frames"},
        {&of_view.loaded, "loaded"},
        {&of_view.loaded_limit, "_cache_limit"},
        {&of_view.lock, "lock"},
        {&of_view.make_room, "make_room"},
        {&of_view.mark, "mark"},
        {&of_view.napping, "_napping"},
        {&of_view.owns, "owns"},
        {&of_view.retired, "retired"},
        {&of_view.revision, "revision"},
        {&of_view.trust_all, "trust_all"},
        {&of_view.watch, "watch"},
    };
    for (size_t place = 0; place < sizeof(names) / sizeof(names[0]); place++) {
        if ((*names[place].at = PyUnicode_InternFromString(names[place].name)) == NULL) {
            return -1;
        }
    }
    at_once = PyTuple_Pack(1, Py_False);
    return at_once == NULL ? -1 : 0;
}
