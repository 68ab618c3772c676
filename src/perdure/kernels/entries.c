/* Entries made and found: `new_entry` and `entry_of` of perdure/objects/instances/persistable.py. */

#include "entries.h"

#include <structmember.h>

PyTypeObject *entry_type, *facts_type;
PyObject *entries, *known_facts, *small[4];
struct InEntry in_entry;
struct InFacts in_facts;

static PyObject *gone;     /* called with an entry whose object is gone */
static PyObject *class_of; /* the descriptor of object.__class__ */

int
find_slots(PyTypeObject *type, const Slot *slots)
{
    for (; slots->name != NULL; slots++) {
        PyObject *descriptor = PyObject_GetAttrString((PyObject *)type, slots->name);
        if (descriptor == NULL) {
            return -1;
        }
        if (Py_TYPE(descriptor) != &PyMemberDescr_Type || PyDescr_TYPE(descriptor) != type) {
            PyErr_Format(PyExc_TypeError, "%s has no slot %s", type->tp_name, slots->name);
            Py_DECREF(descriptor);
            return -1;
        }
        *slots->offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
        Py_DECREF(descriptor);
    }
    return 0;
}

PyObject *
alive(PyObject *entry)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *obj;
    return PyWeakref_GetRef(entry, &obj) == 1 ? obj : NULL;
#else
    PyObject *obj = PyWeakref_GET_OBJECT(entry);
    return obj == Py_None ? NULL : Py_NewRef(obj);
#endif
}

PyObject *
entry_at(PyObject *obj)
{
    PyObject *address = PyLong_FromVoidPtr(obj);
    PyObject *entry = address == NULL ? NULL : PyDict_GetItemWithError(entries, address);
    Py_XDECREF(address);
    return entry;
}

int
assign_class(PyObject *obj, PyObject *cls)
{
    return Py_TYPE(class_of)->tp_descr_set(class_of, obj, cls);
}

PyObject *
make_entry(PyObject *obj, PyObject *view, PyObject *facts, PyObject *id, PyObject *number, int state, PyObject *flags)
{
    PyObject *arguments = PyTuple_Pack(2, obj, gone), *address = PyLong_FromVoidPtr(obj), *nothing = PyTuple_New(0);
    PyObject *entry = NULL;
    if (arguments != NULL && address != NULL && nothing != NULL) {
        entry = entry_type->tp_new(entry_type, arguments, NULL); /* there is nothing that __init__ would do */
    }
    if (entry != NULL) {
        set_slot(entry, in_entry.address, address);
        set_slot(entry, in_entry.view, view);
        set_slot(entry, in_entry.facts, facts);
        set_slot(entry, in_entry.id, id);
        set_slot(entry, in_entry.number, number);
        set_slot(entry, in_entry.state, small[state]);
        set_slot(entry, in_entry.revision, small[0]);
        set_slot(entry, in_entry.flags, flags);
        set_slot(entry, in_entry.digest, small[0]);
        set_slot(entry, in_entry.forced, Py_False);
        set_slot(entry, in_entry.references, nothing);
        set_slot(entry, in_entry.mark, small[0]);
        set_slot(entry, in_entry.listed, small[0]);
        set_slot(entry, in_entry.sample, Py_None);
        if (PyDict_SetItem(entries, address, entry) < 0) {
            Py_CLEAR(entry);
        }
    }
    Py_XDECREF(arguments);
    Py_XDECREF(address);
    Py_XDECREF(nothing);
    return entry;
}

/* What a collection of garbage asks of an entry. But for its view, all that it refers to is plain, or there for ever:
   to go through it would take a tenth of the time in which many objects are saved one by one. */
static int
traverse_entry(PyObject *entry, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(entry));
    Py_VISIT(*(PyObject **)((char *)entry + in_entry.view));
    return 0;
}

/* new_entry(obj, view, facts, id, number, state, flags): the entry of a new object, or of one that is to be read. */
static PyObject *
new_entry(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    long state = count == 7 && entry_type != NULL ? as_long(args[5]) : -1;
    if (state < GHOST || state > LOADING) {
        PyErr_SetString(PyExc_TypeError, "new_entry takes what the function in Python takes");
        return NULL;
    }
    return make_entry(args[0], args[1], args[2], args[3], args[4], (int)state, args[6]);
}

static PyObject *
bind_entries(PyObject *module, PyObject *args)
{
    PyObject *type, *by_address, *called;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyType_Type, &type, &PyDict_Type, &by_address, &called)) {
        return NULL;
    }
    const Slot slots[] = {
        {"address", &in_entry.address}, {"digest", &in_entry.digest},         {"facts", &in_entry.facts},
        {"flags", &in_entry.flags},     {"forced", &in_entry.forced},         {"id", &in_entry.id},
        {"listed", &in_entry.listed},   {"mark", &in_entry.mark},             {"number", &in_entry.number},
        {"view", &in_entry.view},       {"references", &in_entry.references}, {"revision", &in_entry.revision},
        {"sample", &in_entry.sample},   {"state", &in_entry.state},           {NULL, NULL},
    };
    if (find_slots((PyTypeObject *)type, slots) < 0) {
        return NULL;
    }
    entry_type = (PyTypeObject *)Py_NewRef(type);
    entry_type->tp_traverse = traverse_entry;
    entries = Py_NewRef(by_address);
    gone = Py_NewRef(called);
    Py_RETURN_NONE;
}

static PyObject *
bind_facts(PyObject *module, PyObject *args)
{
    PyObject *type, *by_address;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &type, &PyDict_Type, &by_address)) {
        return NULL;
    }
    const Slot slots[] = {
        {"cls", &in_facts.cls},         {"direct", &in_facts.direct}, {"fields", &in_facts.fields},
        {"fit", &in_facts.fit},         {"flags", &in_facts.flags},   {"fit_version", &in_facts.fit_version},
        {"ghost", &in_facts.ghost},     {"guest", &in_facts.guest},   {"links_to_learn", &in_facts.links_to_learn},
        {"links", &in_facts.links},     {"module", &in_facts.module}, {"name", &in_facts.name},
        {"prefix", &in_facts.prefix},   {"shapes", &in_facts.shapes}, {"simple", &in_facts.simple},
        {"version", &in_facts.version}, {"opaque", &in_facts.opaque}, {NULL, NULL},
    };
    if (find_slots((PyTypeObject *)type, slots) < 0) {
        return NULL;
    }
    facts_type = (PyTypeObject *)Py_NewRef(type);
    known_facts = Py_NewRef(by_address);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind_entries", bind_entries, METH_VARARGS, "bind_entries(Entry, ENTRIES, gone)"},
    {"bind_facts", bind_facts, METH_VARARGS, "bind_facts(ClassFacts, facts by addresses of classes)"},
    {"new_entry", (PyCFunction)(void (*)(void))new_entry, METH_FASTCALL,
     "new_entry(obj, view, facts, id, number, state, flags)"},
    {NULL, NULL, 0, NULL},
};

int
add_entries(PyObject *module)
{
    for (int number = 0; number < 4; number++) {
        if ((small[number] = PyLong_FromLong(number)) == NULL) { /* those that Python has once only */
            return -1;
        }
    }
    PyObject *of_object = PyObject_GetAttrString((PyObject *)&PyBaseObject_Type, "__dict__");
    class_of = of_object == NULL ? NULL : PyMapping_GetItemString(of_object, "__class__");
    Py_XDECREF(of_object);
    return class_of == NULL ? -1 : PyModule_AddFunctions(module, methods);
}
