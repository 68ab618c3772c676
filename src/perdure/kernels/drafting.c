/* One object to a draft: `_write_new` and `_write` of perdure/objects/transactions/worklist.py. See saving.c. */

#include "saving.h"

static PyTypeObject *draft_type;
static PyObject *no_fields;
static PyObject *code_for_name, *fields_name, *simple_name;

int
is_held(PyObject *graph)
{
    PyObject *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(graph, &position, NULL, &value)) {
        if ((PyList_CheckExact(value) || PyDict_CheckExact(value) || PySet_CheckExact(value)
             || PyByteArray_CheckExact(value))
            && Py_REFCNT(value) > 1) {
            return 1;
        }
    }
    return 0;
}

/* The code record for a module and those that a payload names, a new reference; NULL with an exception.

   Objects of a class mostly name the same: the last answer is kept, as Python keeps all. A set of modules is never
   changed any more when the next payload is begun. */
static PyObject *
code_naming(Saving *self, PyObject *named, PyObject *module, PyObject *flags)
{
    if (self->code != NULL && self->module == module) {
        int same = PyObject_RichCompareBool(named, self->named, Py_EQ);
        if (same) {
            return same < 0 ? NULL : Py_NewRef(self->code);
        }
    }
    PyObject *kept = Py_NewRef(named);
    PyObject *code = PyObject_CallMethodObjArgs(self->worklist, code_for_name, module, flags, NULL);
    if (code != NULL) {
        Py_XSETREF(self->named, Py_NewRef(kept));
        Py_XSETREF(self->module, Py_NewRef(module));
        Py_XSETREF(self->code, Py_NewRef(code));
    }
    Py_DECREF(kept);
    return code;
}

/* The code record for a module, a new reference; NULL with an exception. */
static PyObject *
code_of(Saving *self, PyObject *module, PyObject *flags, long told)
{
    PyObject *named = slot_of(self->encoder, in_encoder.modules);
    if (PySet_Check(named) && PySet_GET_SIZE(named)) {
        return code_naming(self, named, module, flags);
    }
    if (!(told & INTERNAL) && PySet_Check(named)) {
        PyObject *known = PyDict_GetItemWithError(self->codes, module);
        if (known != NULL && PyUnicode_Check(known) && PyUnicode_GET_LENGTH(known)) {
            return Py_NewRef(known);
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    return PyObject_CallMethodObjArgs(self->worklist, code_for_name, module, flags, NULL);
}

static PyObject *
fields_of(Saving *self, PyObject *obj, PyObject *facts)
{
    if (slot_of(facts, in_facts.fields) == Py_None && !self->has_fields) {
        return Py_NewRef(no_fields);
    }
    return PyObject_CallMethodObjArgs(self->worklist, fields_name, obj, facts, NULL);
}

/* Append the draft of an object; takes none of the references; -1 with an exception. */
static int
draft(Saving *self, PyObject *entry, PyObject *facts, PyObject *flags, PyObject *code, PyObject *fields,
      PyObject *payload, PyObject *references)
{
    PyObject *parts[] = {slot_of(entry, in_entry.id), slot_of(entry, in_entry.revision), flags,
                         slot_of(facts, in_facts.name), slot_of(facts, in_facts.version), code, references, fields,
                         payload};
    Py_ssize_t count = sizeof(parts) / sizeof(parts[0]);
    PyObject *made = draft_type->tp_alloc(draft_type, count);
    if (made == NULL) {
        return -1;
    }
    for (Py_ssize_t place = 0; place < count; place++) {
        PyTuple_SET_ITEM(made, place, Py_NewRef(parts[place]));
    }
    int appended = PyList_Append(self->drafts, made);
    Py_DECREF(made);
    return appended;
}

/* Let a new object doze before it is stored, unless somebody could change it unseen; -1 with an exception. */
static int
let_doze(Saving *self, PyObject *entry, PyObject *obj, PyObject *facts, PyObject *graph, int is_enlisted)
{
    PyObject *giving = slot_of(self->encoder, in_encoder.giving), *ghost = slot_of(facts, in_facts.ghost);
    PyObject *address = slot_of(entry, in_entry.address);
    if (PySet_Check(giving) && PySet_GET_SIZE(giving)) {
        int gives = PySet_Contains(giving, address);
        if (gives) {
            PyObject *pair = gives < 0 ? NULL : PyTuple_Pack(2, entry, obj);
            int appended = pair == NULL ? -1 : PyList_Append(self->looked_at, pair);
            Py_XDECREF(pair);
            return appended;
        }
    }
    if (!PyType_Check(ghost) || is_held(graph)) {
        return 0;
    }
    if (assign_class(obj, ghost) < 0) {
        return -1;
    }
    set_slot(entry, in_entry.state, small[DOZING]);
    if (is_enlisted && PyDict_DelItem(self->enlisted, address) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

PyObject *
usually_encoded(Saving *self, PyObject *obj, PyObject *facts)
{
    PyObject *encoded = encoded_simple(self->encoder, obj, facts); /* facts are kept for ever */
    if (encoded == Py_NotImplemented) {
        Py_SETREF(encoded, PyObject_CallMethodObjArgs(self->encoder, simple_name, obj, facts, NULL));
    }
    if (encoded != NULL && (!PyTuple_CheckExact(encoded) || PyTuple_GET_SIZE(encoded) != 4)) {
        Py_SETREF(encoded, Py_NewRef(Py_None));
    }
    return encoded;
}

/* Note that the object is written, with the hash of its payload: for the receipt, if it is stored; -1: exception. */
static int
note_written(Saving *self, PyObject *entry, PyObject *digest, PyObject *references)
{
    if (slot_of(entry, in_entry.revision) == small[0]) {
        if (PyList_Append(self->created, entry) < 0) {
            return -1;
        }
        set_slot(entry, in_entry.digest, digest);
        set_slot(entry, in_entry.references, references);
        return 0;
    }
    PyObject *told = PyTuple_Pack(3, entry, digest, references);
    int appended = told == NULL ? -1 : PyList_Append(self->written, told);
    Py_XDECREF(told);
    return appended;
}

int
draft_encoded(Saving *self, PyObject *entry, PyObject *obj, PyObject *facts, PyObject *encoded)
{
    PyObject *payload = PyTuple_GET_ITEM(encoded, 0), *references = PyTuple_GET_ITEM(encoded, 1);
    PyObject *code = NULL, *fields = NULL;
    long told = as_long(slot_of(facts, in_facts.flags)) | as_long(PyTuple_GET_ITEM(encoded, 3))
              | (as_long(slot_of(entry, in_entry.flags)) & KEPT);
    PyObject *flags = PyLong_FromLong(told), *digest = PyLong_FromSsize_t(PyObject_Hash(payload));
    int drafted = -1;
    if (flags != NULL && digest != NULL && note_written(self, entry, digest, references) == 0) {
        set_slot(entry, in_entry.flags, flags);
        code = code_of(self, slot_of(facts, in_facts.module), flags, told);
        fields = code == NULL ? NULL : fields_of(self, obj, facts);
    }
    if (fields != NULL) {
        drafted = draft(self, entry, facts, flags, code, fields, payload, references);
    }
    Py_XDECREF(flags);
    Py_XDECREF(digest);
    Py_XDECREF(code);
    Py_XDECREF(fields);
    return drafted;
}

int
write_one(Saving *self, PyObject *entry, PyObject *obj, PyObject *facts, int is_enlisted)
{
    PyObject *encoded = usually_encoded(self, obj, facts);
    if (encoded == NULL || encoded == Py_None) {
        Py_XDECREF(encoded);
        return encoded == NULL ? -1 : 0;
    }
    PyObject *graph = PyTuple_GET_ITEM(encoded, 2);
    int drafted = draft_encoded(self, entry, obj, facts, encoded);
    if (drafted == 0 && PyDict_Check(graph)) {
        drafted = let_doze(self, entry, obj, facts, graph, is_enlisted);
    }
    Py_DECREF(encoded);
    return drafted < 0 ? -1 : 1;
}

int
are_drafts_bound(void)
{
    return draft_type != NULL;
}

static PyObject *
bind_drafts(PyObject *module, PyObject *args)
{
    PyObject *type, *fields;
    if (!PyArg_ParseTuple(args, "O!O", &PyType_Type, &type, &fields)) {
        return NULL;
    }
    if (!PyType_FastSubclass((PyTypeObject *)type, Py_TPFLAGS_TUPLE_SUBCLASS)) {
        PyErr_SetString(PyExc_TypeError, "drafts are tuples");
        return NULL;
    }
    no_fields = Py_NewRef(fields);
    draft_type = (PyTypeObject *)Py_NewRef(type);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind_drafts", bind_drafts, METH_VARARGS, "bind_drafts(Draft, NO_FIELDS)"},
    {NULL, NULL, 0, NULL},
};

int
add_drafting(PyObject *module)
{
    code_for_name = PyUnicode_InternFromString("_code_for");
    fields_name = PyUnicode_InternFromString("_fields");
    simple_name = PyUnicode_InternFromString("encode_simple_in_python");
    if (code_for_name == NULL || fields_name == NULL || simple_name == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, methods);
}
