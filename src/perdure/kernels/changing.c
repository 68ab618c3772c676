/* Objects that were touched to drafts, and at rest again: `_look_at` and `rest` of the worklist, for many at a time.

   What is done here is what `Worklist` in perdure/objects/transactions/worklist.py does for an object of a simple class
   that is stored, awake, and of its own class. Any other is left to that. */

#include "saving.h"

int
is_usual_change(PyObject *entry, PyObject *obj)
{
    if (!is_entry(entry)) {
        return 0;
    }
    PyObject *facts = slot_of(entry, in_entry.facts), *revision = slot_of(entry, in_entry.revision);
    return PyLong_CheckExact(revision) && revision != small[0] && is_in_state(entry, AWAKE) && are_facts(facts)
        && slot_of(facts, in_facts.simple) == Py_True
        && slot_of(facts, in_facts.cls) == (PyObject *)Py_TYPE(obj);
}

/* Whether a plain value is another than it was: `differs_from_sample` of perdure/objects/views/comparing.py. */
static int
is_another(PyObject *before, PyObject *now)
{
    if (Py_TYPE(before) != Py_TYPE(now)) {
        return 1;
    }
    if (PyFloat_CheckExact(now) && PyFloat_AS_DOUBLE(now) != PyFloat_AS_DOUBLE(now)) {
        return 0; /* not a number: the record tells */
    }
    return PyObject_RichCompareBool(before, now, Py_NE);
}

/* Whether the attribute that there is a sample of is another one now; -1 with an exception. */
static int
differs_from_sample(PyObject *entry, PyObject *graph)
{
    PyObject *sample = slot_of(entry, in_entry.sample);
    if (!PyTuple_CheckExact(sample) || PyTuple_GET_SIZE(sample) != 3 || !PyDict_CheckExact(graph)) {
        return 0;
    }
    int is_of_record = PyObject_RichCompareBool(PyTuple_GET_ITEM(sample, 0), slot_of(entry, in_entry.revision), Py_EQ);
    if (is_of_record <= 0) {
        return is_of_record;
    }
    PyObject *now = PyDict_GetItemWithError(graph, PyTuple_GET_ITEM(sample, 1));
    if (now == NULL || !is_plain(now)) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return is_another(PyTuple_GET_ITEM(sample, 2), now);
}

/* Whether the payload has the bytes of the record, and its places mean the same objects; -1 with an exception. */
static int
is_as_stored(PyObject *entry, PyObject *encoded)
{
    PyObject *digest = PyLong_FromSsize_t(PyObject_Hash(PyTuple_GET_ITEM(encoded, 0)));
    int same = digest == NULL ? -1 : PyObject_RichCompareBool(digest, slot_of(entry, in_entry.digest), Py_EQ);
    Py_XDECREF(digest);
    if (same != 1) {
        return same;
    }
    return PyObject_RichCompareBool(PyTuple_GET_ITEM(encoded, 1), slot_of(entry, in_entry.references), Py_EQ);
}

/* Let the record tell whether the object differs; -1 with an exception. */
static int
doubt(Saving *self, PyObject *entry, PyObject *encoded)
{
    PyObject *told = PyTuple_Pack(2, entry, encoded);
    int noted = told == NULL ? -1 : PyList_Append(self->doubtful, told);
    Py_XDECREF(told);
    PyObject *named = slot_of(self->encoder, in_encoder.modules);
    if (noted < 0 || !PySet_Check(named) || PySet_GET_SIZE(named) == 0) {
        return noted;
    }
    return PyDict_SetItem(self->modules, slot_of(entry, in_entry.id), named);
}

int
look_at(Saving *self, PyObject *entry, PyObject *obj)
{
    PyObject *facts = slot_of(entry, in_entry.facts), *encoded = usually_encoded(self, obj, facts);
    if (encoded == NULL || encoded == Py_None) {
        Py_XDECREF(encoded);
        return encoded == NULL ? -1 : 0;
    }
    PyObject *pair = PyTuple_Pack(2, entry, obj);
    int done = pair == NULL ? -1 : PyList_Append(self->looked_at, pair);
    Py_XDECREF(pair);
    if (done == 0) {
        int forced = slot_of(entry, in_entry.forced) == Py_True;
        int differs = forced ? 1 : differs_from_sample(entry, PyTuple_GET_ITEM(encoded, 2));
        int same = differs == 0 ? is_as_stored(entry, encoded) : 0;
        if (differs < 0 || same < 0) {
            done = -1;
        } else if (differs) {
            done = draft_encoded(self, entry, obj, facts, encoded);
        } else if (!same) {
            done = doubt(self, entry, encoded);
        }
    }
    Py_DECREF(encoded);
    return done < 0 ? -1 : 1;
}

/* Let an object doze after its commit, if it is usual and nobody could change it unseen: 1 if that is settled, 0 if
   Python has to see to it, -1 with an exception. */
static int
let_rest(PyObject *pair, PyObject *enlisted)
{
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2
        || !is_usual_change(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1))) {
        return 0;
    }
    PyObject *entry = PyTuple_GET_ITEM(pair, 0), *obj = PyTuple_GET_ITEM(pair, 1);
    PyObject *ghost = slot_of(slot_of(entry, in_entry.facts), in_facts.ghost), *state = dict_of(obj);
    if (state == NULL || !PyType_Check(ghost)) {
        Py_XDECREF(state);
        return state == NULL ? -1 : 0;
    }
    int held = is_held(state);
    Py_DECREF(state);
    if (held) {
        return 1;
    }
    if (assign_class(obj, ghost) < 0) {
        return -1;
    }
    set_slot(entry, in_entry.state, small[DOZING]);
    if (PyDict_DelItem(enlisted, slot_of(entry, in_entry.address)) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 1;
}

/* rest(pairs, enlisted): let those doze that can; a list of those which Python has to see to. */
static PyObject *
rest(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "rest takes a list of pairs and a dict");
        return NULL;
    }
    PyObject *left = PyList_New(0);
    for (Py_ssize_t place = 0; left != NULL && place < PyList_GET_SIZE(args[0]); place++) {
        PyObject *pair = Py_NewRef(PyList_GET_ITEM(args[0], place));
        int settled = let_rest(pair, args[1]);
        if (settled < 0 || (settled == 0 && PyList_Append(left, pair) < 0)) {
            Py_CLEAR(left);
        }
        Py_DECREF(pair);
    }
    return left;
}

/* Whether all that is written is told of by usual entries. */
static int
are_usual(PyObject *created, PyObject *written)
{
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(created); place++) {
        if (!is_entry(PyList_GET_ITEM(created, place))) {
            return 0;
        }
    }
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(written); place++) {
        PyObject *told = PyList_GET_ITEM(written, place);
        if (!PyTuple_CheckExact(told) || PyTuple_GET_SIZE(told) != 3 || !is_entry(PyTuple_GET_ITEM(told, 0))) {
            return 0;
        }
    }
    return 1;
}

/* finish(created, written, revision): entries learn what is stored; False, and nothing is done, if Python has to. */
static PyObject *
finish(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_CheckExact(args[0]) || !PyList_CheckExact(args[1]) || !PyLong_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "finish takes two lists and a revision");
        return NULL;
    }
    if (!are_usual(args[0], args[1])) {
        Py_RETURN_FALSE;
    }
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(args[0]); place++) {
        set_slot(PyList_GET_ITEM(args[0], place), in_entry.revision, args[2]);
        set_slot(PyList_GET_ITEM(args[0], place), in_entry.forced, Py_False);
    }
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(args[1]); place++) {
        PyObject *told = PyList_GET_ITEM(args[1], place), *entry = PyTuple_GET_ITEM(told, 0);
        set_slot(entry, in_entry.revision, args[2]);
        set_slot(entry, in_entry.digest, PyTuple_GET_ITEM(told, 1));
        set_slot(entry, in_entry.references, PyTuple_GET_ITEM(told, 2));
        set_slot(entry, in_entry.forced, Py_False);
    }
    Py_RETURN_TRUE;
}

static PyMethodDef methods[] = {
    {"finish", (PyCFunction)(void (*)(void))finish, METH_FASTCALL,
     "finish(created, written, revision): whether entries have learnt what is stored"},
    {"rest", (PyCFunction)(void (*)(void))rest, METH_FASTCALL,
     "rest(pairs, enlisted): let objects doze; a list of those that Python has to see to"},
    {NULL, NULL, 0, NULL},
};

int
add_changing(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
