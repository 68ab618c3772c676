/* Objects filled from their records: the loop of `Reader._made`, and `fill_directly`.

   - `Filling(view, records, held, made)` is an iterator: it fills what is usual, puts it into `made`, and gives the
     other pairs of id and parts, which Python fills.
   - Usual are whole records of plain values with a shape, whose class is known and filled without detours. They are
     unpickled before anything else is done, so that the reference finds nothing begun where that fails.
   - Nothing of the user's is called on the way: an interruption finds an object filled or a ghost. */

#include "loading.h"

#include "entries.h"

#include <structmember.h>

#define PLAIN 0x0020
#define NOT_USUAL (0x0003 | 0x0010 | 0x0100 | 0x0200 | 0x0400 | 0x1000) /* kinds, LINKED, OUTSIDE, BUFFERED … FOREIGN */

#define FEW_BYTES 1024

#if PY_VERSION_HEX >= 0x030E0000
#define hash_of_bytes Py_HashBuffer
#else
#define hash_of_bytes _Py_HashBytes
#if PY_VERSION_HEX >= 0x030D0000
PyAPI_FUNC(Py_hash_t) _Py_HashBytes(const void *, Py_ssize_t); /* it is there, but not in the headers for others */
#endif
#endif

enum { NAMES, LINKS, SHAPE_HEAD }; /* of a shape */

static PyObject *loads, *no_arguments;

typedef struct {
    PyObject_HEAD
    Into into;
    PyObject *records;
    Py_ssize_t position;
    Texts texts;
} Filling;

static int
is_shape(PyObject *shape)
{
    return PyTuple_Check(shape) && PyTuple_GET_SIZE(shape) == 3 && PyTuple_CheckExact(PyTuple_GET_ITEM(shape, NAMES))
        && PyTuple_CheckExact(PyTuple_GET_ITEM(shape, LINKS))
        && PyBytes_CheckExact(PyTuple_GET_ITEM(shape, SHAPE_HEAD));
}

/* Whether the parts are those of a usual record under that id. */
static int
are_usual(PyObject *id, PyObject *parts)
{
    if (!PyTuple_CheckExact(parts) || PyTuple_GET_SIZE(parts) != PARTS || !PyUnicode_Check(id)) {
        return 0;
    }
    PyObject *own = PyTuple_GET_ITEM(parts, ID), *flags = PyTuple_GET_ITEM(parts, FLAGS);
    if (!PyUnicode_CheckExact(own) || (own != id && PyUnicode_Compare(own, id) != 0) || !PyLong_CheckExact(flags)) {
        return 0;
    }
    long told = PyLong_AsLong(flags);
    if (told < 0 || told & NOT_USUAL || !(told & PLAIN)) {
        PyErr_Clear();
        return 0;
    }
    return is_shape(PyTuple_GET_ITEM(parts, SHAPE)) && PyBytes_CheckExact(PyTuple_GET_ITEM(parts, PAYLOAD))
        && PyTuple_CheckExact(PyTuple_GET_ITEM(parts, REFERENCES));
}

/* Whether objects of that class are filled from such a record without detours. */
static int
is_direct(PyObject *facts, PyObject *parts)
{
    PyObject *ghost, *shape = PyTuple_GET_ITEM(parts, SHAPE);
    if (!are_facts(facts)) {
        return 0;
    }
    ghost = slot_of(facts, in_facts.ghost);
    if (!PyType_Check(ghost) || slot_of(facts, in_facts.guest) != Py_False) {
        return 0;
    }
    if (PyTuple_GET_SIZE(PyTuple_GET_ITEM(shape, LINKS)) && slot_of(facts, in_facts.links_to_learn) != small[0]
        && PyObject_IsTrue(slot_of(facts, in_facts.links)) != 1) {
        return 0; /* there is something to learn */
    }
    if (slot_of(facts, in_facts.direct) == Py_True) {
        return 1;
    }
    return slot_of(facts, in_facts.fit) == shape
        && PyObject_RichCompareBool(PyTuple_GET_ITEM(parts, VERSION), slot_of(facts, in_facts.fit_version), Py_EQ) == 1;
}

/* The values of the attributes, a new list; NULL, and no exception, if Python is to say what is wrong with them. */
static PyObject *
values_of(PyObject *held, PyObject *parts, Texts *texts)
{
    PyObject *shape = PyTuple_GET_ITEM(parts, SHAPE), *references = PyTuple_GET_ITEM(parts, REFERENCES);
    PyObject *links = PyTuple_GET_ITEM(shape, LINKS), *payload = PyTuple_GET_ITEM(parts, PAYLOAD);
    PyObject *values = unpickled((unsigned char *)PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), texts);
    if (values == NULL && !PyErr_Occurred()) {
        values = PyObject_CallOneArg(loads, payload);
    }
    if (values == NULL) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_Clear();
        }
        return NULL;
    }
    if (!PyList_CheckExact(values) || PyList_GET_SIZE(values) != PyTuple_GET_SIZE(PyTuple_GET_ITEM(shape, NAMES))) {
        Py_DECREF(values);
        return NULL;
    }
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(links); place++) {
        Py_ssize_t at = PyLong_AsSsize_t(PyTuple_GET_ITEM(links, place)), target = -1;
        if (at >= 0 && at < PyList_GET_SIZE(values) && PyLong_CheckExact(PyList_GET_ITEM(values, at))) {
            target = PyLong_AsSsize_t(PyList_GET_ITEM(values, at));
        }
        PyObject *obj = NULL;
        if (target >= 0 && target < PyTuple_GET_SIZE(references)) {
            obj = PyDict_GetItemWithError(held, PyTuple_GET_ITEM(references, target));
        }
        if (obj == NULL) {
            PyErr_Clear();
            Py_DECREF(values);
            return NULL;
        }
        PyList_SetItem(values, at, Py_NewRef(obj));
    }
    return values;
}

/* What an entry notes of the payload: the hash of its bytes, names and values. NULL with an exception. */
static PyObject *
digest_of(PyObject *parts)
{
    PyObject *head = PyTuple_GET_ITEM(PyTuple_GET_ITEM(parts, SHAPE), SHAPE_HEAD);
    PyObject *payload = PyTuple_GET_ITEM(parts, PAYLOAD), *whole = NULL;
    size_t first = (size_t)PyBytes_GET_SIZE(head), size = first + (size_t)PyBytes_GET_SIZE(payload);
    char few[FEW_BYTES], *bytes = few;
    if (size > FEW_BYTES) {
        whole = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (whole == NULL) {
            return NULL;
        }
        bytes = PyBytes_AS_STRING(whole);
    }
    memcpy(bytes, PyBytes_AS_STRING(head), first);
    memcpy(bytes + first, PyBytes_AS_STRING(payload), size - first);
    PyObject *digest = PyLong_FromSsize_t(hash_of_bytes(bytes, (Py_ssize_t)size));
    Py_XDECREF(whole);
    return digest;
}

/* Give the object its attributes, and the entry what is stored; -1 with an exception, and a ghost.

   Nothing is done where the object got its state since it was looked at: by a `__del__` that touches it, called by the
   collector of garbage. From the question on no code of the user's runs. */
static int
fill(PyObject *entry, PyObject *obj, PyObject *parts, PyObject *values)
{
    PyObject *shape = PyTuple_GET_ITEM(parts, SHAPE), *names = PyTuple_GET_ITEM(shape, NAMES);
    PyObject *into = dict_of(obj), *digest = into == NULL ? NULL : digest_of(parts);
    if (digest != NULL && !is_in_state(entry, GHOST)) {
        Py_DECREF(into);
        Py_DECREF(digest);
        return 0;
    }
    set_slot(entry, in_entry.state, small[LOADING]);
    int filled = digest != NULL;
    if (filled && PyDict_GET_SIZE(into)) {
        PyDict_Clear(into); /* what an interruption has left there */
    }
    for (Py_ssize_t place = 0; filled && place < PyTuple_GET_SIZE(names); place++) {
        filled = PyDict_SetItem(into, PyTuple_GET_ITEM(names, place), PyList_GET_ITEM(values, place)) == 0;
    }
    if (filled) {
        set_slot(entry, in_entry.revision, PyTuple_GET_ITEM(parts, REVISION));
        set_slot(entry, in_entry.flags, PyTuple_GET_ITEM(parts, FLAGS));
        set_slot(entry, in_entry.references, PyTuple_GET_ITEM(parts, REFERENCES));
        set_slot(entry, in_entry.digest, digest);
        set_slot(entry, in_entry.state, small[DOZING]);
    } else {
        set_slot(entry, in_entry.state, small[GHOST]);
        if (into != NULL) {
            PyDict_Clear(into);
        }
    }
    Py_XDECREF(into);
    Py_XDECREF(digest);
    return filled ? 0 : -1;
}

/* A ghost with its entry; `*obj` and what it returns are new references, NULL with an exception.

   They are new, unless the id has got its object while they were made: by a `__del__` that loads it. */
static PyObject *
new_ghost(const Into *into, PyObject *facts, PyObject *id, PyObject **obj)
{
    PyObject *entry = NULL, *number = PyLong_FromLongLong(number_in(id));
    *obj = number == NULL
               ? NULL
               : PyBaseObject_Type.tp_new((PyTypeObject *)slot_of(facts, in_facts.ghost), no_arguments, NULL);
    if (*obj != NULL) {
        entry = make_entry(*obj, into->view, facts, id, number, GHOST, small[0]);
    }
    PyObject *other = entry == NULL ? NULL : PyDict_GetItemWithError(into->by_id, id);
    PyObject *others = is_entry(other) ? alive(other) : NULL;
    if (others != NULL) {
        Py_DECREF(number);
        Py_SETREF(entry, Py_NewRef(other));
        Py_SETREF(*obj, others);
        return entry;
    }
    if (entry != NULL
        && (PyDict_SetItem(into->numbered, number, entry) < 0 || PyDict_SetItem(into->by_id, id, entry) < 0)) {
        Py_CLEAR(entry);
    }
    if (entry == NULL) {
        Py_CLEAR(*obj);
    }
    Py_XDECREF(number);
    return entry;
}

int
take(const Into *into, PyObject *id, PyObject *parts, PyObject **taken_object)
{
    if (!are_usual(id, parts)) {
        return 0;
    }
    PyObject *entry = PyDict_GetItemWithError(into->by_id, id), *obj = NULL, *facts;
    if (entry == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (entry != NULL) {
        obj = is_entry(entry) ? alive(entry) : NULL;
        if (obj == NULL || !is_in_state(entry, GHOST)) {
            Py_XDECREF(obj);
            return 0;
        }
        facts = slot_of(entry, in_entry.facts);
    } else {
        facts = PyDict_GetItemWithError(into->classes, PyTuple_GET_ITEM(parts, CLASS_NAME));
        if (facts == NULL && PyErr_Occurred()) {
            return -1;
        }
        if (number_in(id) < 0) {
            return 0;
        }
    }
    PyObject *values = is_direct(facts, parts) ? values_of(into->held, parts, into->texts) : NULL;
    if (values == NULL) {
        Py_XDECREF(obj);
        return PyErr_Occurred() ? -1 : 0;
    }
    entry = entry != NULL ? Py_NewRef(entry) : new_ghost(into, facts, id, &obj);
    int taken = entry != NULL && (into->made == NULL || PyDict_SetItem(into->made, id, obj) == 0) ? 1 : -1;
    PyObject *none = taken < 0 ? NULL : PyObject_CallOneArg(into->append, entry);
    if (none == NULL || fill(entry, obj, parts, values) < 0) {
        taken = -1;
    }
    if (taken == 1 && taken_object != NULL) {
        *taken_object = Py_NewRef(obj);
    }
    Py_XDECREF(none);
    Py_XDECREF(entry);
    Py_XDECREF(obj);
    Py_DECREF(values);
    return taken;
}

/* make_ghosts(view, by_id, entries, facts, made): ghosts for ids with the facts of their classes, which have no object
   in memory, into `made`; gives a list of the ids that are for Python. */
static PyObject *
make_ghosts(PyObject *module, PyObject *args)
{
    PyObject *view, *by_id, *numbered, *wanted, *made, *id, *facts, *left = PyList_New(0);
    Py_ssize_t position = 0;
    if (left == NULL || !PyArg_ParseTuple(args, "OO!O!O!O!", &view, &PyDict_Type, &by_id, &PyDict_Type, &numbered,
                                          &PyDict_Type, &wanted, &PyDict_Type, &made)) {
        Py_XDECREF(left);
        return NULL;
    }
    const Into into = {.view = view, .by_id = by_id, .numbered = numbered};
    while (PyDict_Next(wanted, &position, &id, &facts)) {
        PyObject *obj = NULL, *entry = NULL;
        int is_usual = are_facts(facts) && slot_of(facts, in_facts.guest) == Py_False
                       && PyType_Check(slot_of(facts, in_facts.ghost)) && PyUnicode_Check(id) && number_in(id) >= 0;
        if (is_usual) {
            entry = new_ghost(&into, facts, id, &obj);
        }
        int done = is_usual ? (entry == NULL ? -1 : PyDict_SetItem(made, id, obj)) : PyList_Append(left, id);
        Py_XDECREF(entry);
        Py_XDECREF(obj);
        if (done < 0) {
            Py_DECREF(left);
            return NULL;
        }
    }
    return left;
}

/* fill_one(entry, obj, parts, held): whether a ghost got its state; if not, nothing was done. */
static PyObject *
fill_one(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !is_entry(args[0]) || !PyDict_Check(args[3]) || !is_of(args[0], args[1])) {
        Py_RETURN_FALSE;
    }
    PyObject *entry = args[0], *parts = args[2], *id = slot_of(entry, in_entry.id);
    if (!is_in_state(entry, GHOST) || !are_usual(id, parts) || !is_direct(slot_of(entry, in_entry.facts), parts)) {
        Py_RETURN_FALSE;
    }
    PyObject *values = values_of(args[3], parts, NULL);
    if (values == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    int filled = fill(entry, args[1], parts, values);
    Py_DECREF(values);
    return filled < 0 ? NULL : Py_NewRef(Py_True);
}

/* The next pair that is for Python. */
static PyObject *
next_unusual(PyObject *filling)
{
    Filling *self = (Filling *)filling;
    PyObject *id, *parts;
    while (PyDict_Next(self->records, &self->position, &id, &parts)) {
        Py_INCREF(id);
        Py_INCREF(parts);
        int taken = take(&self->into, id, parts, NULL);
        PyObject *pair = taken ? NULL : PyTuple_Pack(2, id, parts);
        Py_DECREF(id);
        Py_DECREF(parts);
        if (taken <= 0) {
            return pair;
        }
    }
    return NULL;
}

static int
clear_filling(PyObject *filling)
{
    Filling *self = (Filling *)filling;
    Py_CLEAR(self->into.view);
    Py_CLEAR(self->records);
    Py_CLEAR(self->into.held);
    Py_CLEAR(self->into.made);
    Py_CLEAR(self->into.by_id);
    Py_CLEAR(self->into.numbered);
    Py_CLEAR(self->into.classes);
    Py_CLEAR(self->into.append);
    forget_texts(&self->texts);
    return 0;
}

static int
traverse_filling(PyObject *filling, visitproc visit, void *arg)
{
    Filling *self = (Filling *)filling;
    Py_VISIT(self->into.view);
    Py_VISIT(self->records);
    Py_VISIT(self->into.held);
    Py_VISIT(self->into.made);
    Py_VISIT(self->into.by_id);
    Py_VISIT(self->into.numbered);
    Py_VISIT(self->into.classes);
    Py_VISIT(self->into.append);
    return 0;
}

static void
free_filling(PyObject *filling)
{
    PyObject_GC_UnTrack(filling);
    clear_filling(filling);
    Py_TYPE(filling)->tp_free(filling);
}

static PyObject *
new_filling(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *view, *records, *held, *made, *by_id, *numbered, *classes, *append;
    if (!PyArg_ParseTuple(args, "OO!O!O!O!O!O!O", &view, &PyDict_Type, &records, &PyDict_Type, &held, &PyDict_Type,
                          &made, &PyDict_Type, &by_id, &PyDict_Type, &numbered, &PyDict_Type, &classes, &append)) {
        return NULL;
    }
    Filling *self = (Filling *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->records = Py_NewRef(records);
        self->into = (Into){Py_NewRef(view),     Py_NewRef(held),    Py_NewRef(made),   Py_NewRef(by_id),
                            Py_NewRef(numbered), Py_NewRef(classes), Py_NewRef(append), &self->texts};
        self->position = 0; /* the texts are zeroed, as all that `tp_alloc` gives */
    }
    return (PyObject *)self;
}

static PyTypeObject FillingType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "perdure.kernels._compiled.Filling",
    .tp_doc = "Filling(view, records, held, made, by_id, numbered, classes, append): pairs that are for Python.",
    .tp_basicsize = sizeof(Filling),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = new_filling,
    .tp_dealloc = free_filling,
    .tp_traverse = traverse_filling,
    .tp_clear = clear_filling,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = next_unusual,
};

static PyMethodDef functions[] = {
    {"make_ghosts", make_ghosts, METH_VARARGS,
     "make_ghosts(view, by_id, entries, facts, made): the ids that are for Python"},
    {"fill_one", (PyCFunction)(void (*)(void))fill_one, METH_FASTCALL, "fill_one(entry, obj, parts, held)"},
    {NULL, NULL, 0, NULL},
};

int
add_loading(PyObject *module)
{
    PyObject *pickle = PyImport_ImportModule("_pickle");
    loads = pickle == NULL ? NULL : PyObject_GetAttrString(pickle, "loads");
    Py_XDECREF(pickle);
    no_arguments = PyTuple_New(0);
    if (loads == NULL || no_arguments == NULL || PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    return PyModule_AddType(module, &FillingType);
}
