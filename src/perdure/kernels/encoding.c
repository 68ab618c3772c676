/* Objects of simple classes to payloads: `Encoder.encode_simple` of perdure/objects/payloads/encoding.py.

   What is usual is pickled by pickling.c; else by C pickle, with the hooks in Python. A shape that is not known, or an
   attribute that was a reference and is none, is left to Python from the beginning. */

#include "encoding.h"
#include "pickling.h"
#include "shapes.h"

struct InEncoder in_encoder;
PyTypeObject *encoder_type;

static PyTypeObject *persistable_type;
static PyObject *perdure_error, *shaped, *shaped_plain; /* the flags, as numbers */
static Py_ssize_t large_payload;
static PyObject *asked_name, *clear_memo_name, *dump_name, *flat_name, *id_name, *mark_name, *new_pickler_name,
    *noted_name, *small_name;

enum { FEW_VALUES = 64 }; /* more take memory */

static PyObject *
not_usual(void)
{
    return Py_NewRef(Py_NotImplemented);
}

/* After an exception in pickling: None where the longer way is to say what it means; NULL, and the exception, else. */
static PyObject *
failed(PyObject *encoder)
{
    PyObject *kind, *error, *trace;
    PyErr_Fetch(&kind, &error, &trace);
    set_slot(encoder, in_encoder.pickler, Py_None); /* may free it */
    PyErr_Restore(kind, error, trace);
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(perdure_error)
        && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return NULL;
}

int
is_persistable(PyObject *obj)
{
    return PyType_IsSubtype(Py_TYPE(obj), persistable_type);
}

/* The id of what an attribute refers to, a new reference; NULL, maybe with an exception. */
static PyObject *
target_of(PyObject *encoder, PyObject *value)
{
    PyObject *entry = entry_at(value), *mark = slot_of(encoder, in_encoder.mark), *id = NULL;
    if (entry != NULL && is_entry(entry) && slot_of(entry, in_entry.mark) == mark) {
        return Py_NewRef(slot_of(entry, in_entry.id));
    }
    if (PyErr_Occurred() || (entry != NULL && !is_entry(entry))
        || !is_persistable(value)) {
        return NULL;
    }
    entry = PyObject_CallOneArg(slot_of(encoder, in_encoder.enrol), value);
    if (entry != NULL && is_entry(entry)) {
        set_slot(entry, in_entry.mark, mark);
        id = Py_NewRef(slot_of(entry, in_entry.id));
    } else if (entry != NULL && PyObject_SetAttr(entry, mark_name, mark) == 0) {
        id = PyObject_GetAttr(entry, id_name);
    }
    Py_XDECREF(entry);
    return id;
}

/* Put what is referred to so far into a dict that the encoder has too; -1 with an exception. */
static int
need_dict(Places *places)
{
    if (places->all != NULL) {
        return 0;
    }
    if ((places->all = PyDict_New()) == NULL
        || (places->first != NULL && PyDict_SetItem(places->all, places->first, small[0]) < 0)) {
        return -1;
    }
    set_slot(places->encoder, in_encoder.places, places->all);
    return 0;
}

/* The place of an id in the dict, a new number; NULL with an exception. */
static PyObject *
place_in_dict(Places *places, PyObject *id)
{
    PyObject *place = need_dict(places) < 0 ? NULL : PyDict_GetItemWithError(places->all, id);
    if (place != NULL) {
        return Py_NewRef(place);
    }
    if (!PyErr_Occurred() && (place = PyLong_FromSsize_t(PyDict_GET_SIZE(places->all))) != NULL
        && PyDict_SetItem(places->all, id, place) < 0) {
        Py_CLEAR(place);
    }
    return place;
}

PyObject *
place_of(Places *places, PyObject *obj)
{
    PyObject *id = target_of(places->encoder, obj), *place;
    if (id == NULL) {
        return NULL;
    }
    if (places->all == NULL && places->first == NULL) {
        places->first = id;
        return Py_NewRef(small[0]);
    }
    place = places->all == NULL && places->first == id ? Py_NewRef(small[0]) : place_in_dict(places, id);
    Py_DECREF(id);
    return place;
}

/* Put places among the references where attributes are just references; 0 if that is not usual, -1: exception. */
static int
put_places(Places *places, PyObject *links, Values *values)
{
    for (Py_ssize_t number = 0; number < PyTuple_GET_SIZE(links); number++) {
        Py_ssize_t at = PyLong_AsSsize_t(PyTuple_GET_ITEM(links, number));
        if (at < 0 || at >= values->count) {
            PyErr_Clear();
            return 0;
        }
        PyObject *place = place_of(places, values->all[at]);
        if (place == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        Py_SETREF(values->all[at], place);
    }
    return 1;
}

/* The pickler of an encoder, which has no parts and was asked nothing; NULL with an exception. */
static PyObject *
ready_pickler(PyObject *encoder)
{
    PyObject *pickler = Py_NewRef(slot_of(encoder, in_encoder.pickler));
    if (pickler == Py_None) {
        Py_SETREF(pickler, PyObject_CallMethodNoArgs(encoder, new_pickler_name));
    }
    PyObject *parts = slot_of(encoder, in_encoder.parts);
    if (pickler != NULL && !PyList_CheckExact(parts)) {
        PyErr_SetString(PyExc_TypeError, "the parts of a payload are a list");
        Py_CLEAR(pickler);
    } else if (pickler != NULL
               && (PyList_SetSlice(parts, 0, PyList_GET_SIZE(parts), NULL) < 0
                   || PyObject_SetAttr(pickler, asked_name, Py_False) < 0)) {
        Py_CLEAR(pickler);
    }
    return pickler;
}

/* What the pickler writes of the values, bytes; NULL with an exception. */
static PyObject *
pickled(PyObject *encoder, PyObject *pickler, PyObject *obj, PyObject *values)
{
    PyObject *none = PyObject_CallMethodOneArg(pickler, dump_name, values);
    if (none == NULL) {
        return NULL;
    }
    Py_DECREF(none);
    none = PyObject_CallMethodNoArgs(pickler, clear_memo_name); /* at once: what it holds would seem to be held */
    if (none == NULL) {
        return NULL;
    }
    Py_DECREF(none);
    PyObject *parts = slot_of(encoder, in_encoder.parts);
    if (PyList_CheckExact(parts) && PyList_GET_SIZE(parts) == 1 && PyBytes_CheckExact(PyList_GET_ITEM(parts, 0))) {
        return Py_NewRef(PyList_GET_ITEM(parts, 0));
    }
    PyObject *rest = PyObject_CallMethodOneArg(encoder, small_name, obj);
    if (rest != NULL && !PyBytes_CheckExact(rest)) {
        PyErr_SetString(PyExc_TypeError, "a payload is bytes");
        Py_CLEAR(rest);
    }
    return rest;
}

#define START 11 /* PROTO and its byte, FRAME and its eight */

/* What of a pickle of plain values is left out: `without_start` of perdure/records/shape.py. */
static Py_ssize_t
start_of(PyObject *pickled)
{
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(pickled);
    Py_ssize_t size = PyBytes_GET_SIZE(pickled);
    uint64_t told = 0;
    if (size < START || at[0] != 0x80 || at[1] != 5 || at[2] != 0x95) {
        return 0;
    }
    for (int place = START - 1; place > 2; place--) {
        told = told << 8 | at[place];
    }
    return told == (uint64_t)(size - START) ? START : 0;
}

/* The payload: a shape, and the pickle of its values from a place on. */
static PyObject *
joined(PyObject *head, PyObject *rest, Py_ssize_t start)
{
    Py_ssize_t first = PyBytes_GET_SIZE(head), second = PyBytes_GET_SIZE(rest) - start;
    PyObject *whole = PyBytes_FromStringAndSize(NULL, first + second);
    if (whole != NULL) {
        memcpy(PyBytes_AS_STRING(whole), PyBytes_AS_STRING(head), (size_t)first);
        memcpy(PyBytes_AS_STRING(whole) + first, PyBytes_AS_STRING(rest) + start, (size_t)second);
    }
    return whole;
}

/* Whether anything was just pickled that is no plain value; -1 with an exception. */
static int
was_asked(PyObject *pickler)
{
    PyObject *asked = PyObject_GetAttr(pickler, asked_name);
    if (asked == NULL) {
        return -1;
    }
    Py_DECREF(asked); /* True or False, which stay */
    return asked != Py_False;
}

/* Put the pickle without a memo in the place of that of plain values, if they do without; -1 with an exception. */
static int
leave_out_memo(PyObject *encoder, PyObject *values, PyObject **rest)
{
    PyObject *flat = PyObject_CallMethodOneArg(encoder, flat_name, values);
    if (flat != NULL && PyBytes_CheckExact(flat)) {
        Py_SETREF(*rest, flat);
    } else {
        Py_XDECREF(flat);
    }
    return flat == NULL ? -1 : 0;
}

/* Values as a list; NULL with an exception. */
static PyObject *
list_of(const Values *all)
{
    PyObject *values = PyList_New(all->count);
    for (Py_ssize_t place = 0; values != NULL && place < all->count; place++) {
        PyList_SET_ITEM(values, place, Py_NewRef(all->all[place]));
    }
    return values;
}

/* The payload as C pickle makes it; NULL with an exception. */
static PyObject *
payload_by_pickler(PyObject *encoder, PyObject *obj, PyObject *head, const Values *all, int *asked)
{
    PyObject *pickler = ready_pickler(encoder), *values = pickler == NULL ? NULL : list_of(all), *payload = NULL;
    PyObject *rest = values == NULL ? NULL : pickled(encoder, pickler, obj, values);
    if (rest != NULL && (*asked = was_asked(pickler)) >= 0 && (*asked || leave_out_memo(encoder, values, &rest) == 0)) {
        payload = joined(head, rest, *asked ? 0 : start_of(rest));
    }
    if (payload != NULL && PyBytes_GET_SIZE(payload) > large_payload) {
        set_slot(encoder, in_encoder.pickler, Py_None);
    }
    Py_XDECREF(rest);
    Py_XDECREF(values);
    Py_XDECREF(pickler);
    return payload;
}

/* The flags of what was just pickled, a new reference. */
static PyObject *
flags_for(PyObject *encoder, int asked, PyObject *facts, PyObject *graph)
{
    if (!asked) {
        return Py_NewRef(shaped_plain);
    }
    if (slot_of(facts, in_facts.links_to_learn) == small[0] && slot_of(encoder, in_encoder.outside) == Py_False) {
        return Py_NewRef(shaped);
    }
    return PyObject_CallMethodObjArgs(encoder, noted_name, facts, graph, NULL);
}

/* Let the encoder begin with a payload; -1 with an exception. */
static int
begin(PyObject *encoder)
{
    set_slot(encoder, in_encoder.itself, Py_None);
    PyObject *modules = slot_of(encoder, in_encoder.modules);
    if (!PySet_Check(modules) || PySet_GET_SIZE(modules)) {
        if ((modules = PySet_New(NULL)) == NULL) {
            return -1;
        }
        put_slot(encoder, in_encoder.modules, modules);
    }
    return 0;
}

/* `encoded_simple`, once the shape is there; references to all arguments are held by the caller. */
static PyObject *
encoded_in_shape(PyObject *encoder, PyObject *obj, PyObject *facts, PyObject *graph, PyObject *shape, Values *values)
{
    PyObject *head = PyTuple_GET_ITEM(shape, SHAPE_HEAD), *payload = NULL, *flags = NULL, *told = NULL, *result = NULL;
    Places places = {encoder, NULL, NULL};
    int asked = 0, linked = -1;
    if (begin(encoder) < 0) {
        goto end;
    }
    linked = put_places(&places, PyTuple_GET_ITEM(shape, LINKS), values);
    if (linked == 0) {
        goto end;
    }
    if (linked > 0 && as_long(slot_of(encoder, in_encoder.protocol)) == 5) {
        payload = payload_of(&places, head, values, &asked);
    }
    if (linked > 0 && payload == NULL && !PyErr_Occurred() && need_dict(&places) == 0) {
        payload = payload_by_pickler(encoder, obj, head, values, &asked);
    }
    if (payload == NULL) {
        result = failed(encoder);
        goto end;
    }
    flags = flags_for(encoder, asked, facts, graph);
    told = flags == NULL ? NULL : ids_in(&places);
    result = told == NULL ? NULL : PyTuple_Pack(4, payload, told, graph, flags);
end:
    Py_XDECREF(places.first);
    Py_XDECREF(places.all);
    Py_XDECREF(payload);
    Py_XDECREF(flags);
    Py_XDECREF(told);
    return result == NULL && !PyErr_Occurred() ? not_usual() : result;
}

/* The same, with room for that many values. */
static PyObject *
encoded_with(PyObject *encoder, PyObject *obj, PyObject *facts, PyObject *graph, Values *values)
{
    PyObject *shape = shape_for(graph, facts, values);
    if (shape == NULL) {
        return PyErr_Occurred() ? NULL : not_usual();
    }
    Py_INCREF(shape);
    for (Py_ssize_t place = 0; place < values->count; place++) {
        Py_INCREF(values->all[place]); /* whoever is asked for a reference may take it out of the object */
    }
    PyObject *result = encoded_in_shape(encoder, obj, facts, graph, shape, values);
    for (Py_ssize_t place = 0; place < values->count; place++) {
        Py_DECREF(values->all[place]);
    }
    Py_DECREF(shape);
    return result;
}

PyObject *
encoded_simple(PyObject *encoder, PyObject *obj, PyObject *facts)
{
    if (encoder_type == NULL || !PyObject_TypeCheck(encoder, encoder_type) || !are_facts(facts)) {
        return not_usual();
    }
    PyObject *graph = dict_of(obj), *few[FEW_VALUES], *result = NULL;
    if (graph == NULL) {
        return PyErr_Occurred() ? NULL : not_usual();
    }
    Values values = {few, PyDict_GET_SIZE(graph)};
    if (values.count > FEW_VALUES) {
        values.all = PyMem_New(PyObject *, values.count);
    }
    result = values.all == NULL ? PyErr_NoMemory() : encoded_with(encoder, obj, facts, graph, &values);
    if (values.all != few) {
        PyMem_Free(values.all);
    }
    Py_DECREF(graph);
    return result;
}

static PyObject *
encode_simple(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "encode_simple takes an encoder, an object and the facts of its class");
        return NULL;
    }
    return encoded_simple(args[0], args[1], args[2]);
}

static PyObject *
bind_encoder(PyObject *module, PyObject *args)
{
    PyObject *type, *persistable, *error, *flags, *plain;
    Py_ssize_t large;
    if (!PyArg_ParseTuple(args, "O!O!OO!O!n", &PyType_Type, &type, &PyType_Type, &persistable, &error, &PyLong_Type,
                          &flags, &PyLong_Type, &plain, &large)) {
        return NULL;
    }
    const Slot slots[] = {
        {"enrol", &in_encoder.enrol},      {"giving", &in_encoder.giving},   {"_itself", &in_encoder.itself},
        {"_mark", &in_encoder.mark},       {"modules", &in_encoder.modules}, {"names", &in_encoder.names},
        {"_outside", &in_encoder.outside}, {"_parts", &in_encoder.parts},    {"_pickler", &in_encoder.pickler},
        {"_places", &in_encoder.places},   {"_protocol", &in_encoder.protocol},
        {NULL, NULL},
    };
    if (find_slots((PyTypeObject *)type, slots) < 0) {
        return NULL;
    }
    persistable_type = (PyTypeObject *)Py_NewRef(persistable);
    perdure_error = Py_NewRef(error), shaped = Py_NewRef(flags), shaped_plain = Py_NewRef(plain);
    large_payload = large;
    encoder_type = (PyTypeObject *)Py_NewRef(type);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind_encoder", bind_encoder, METH_VARARGS,
     "bind_encoder(Encoder, Persistable, PerdureError, SHAPED, SHAPED_PLAIN, LARGE_PAYLOAD)"},
    {"encode_simple", (PyCFunction)(void (*)(void))encode_simple, METH_FASTCALL,
     "encode_simple(encoder, obj, facts): what Encoder.encode_simple gives, or NotImplemented"},
    {NULL, NULL, 0, NULL},
};

int
add_encoding(PyObject *module)
{
    const struct {
        PyObject **at;
        const char *name;
    } names[] = {
        {&asked_name, "asked"}, {&clear_memo_name, "clear_memo"},     {&dump_name, "dump"},   {&flat_name, "_flat"},
        {&id_name, "id"},       {&mark_name, "mark"},                 {&new_pickler_name, "_new_pickler"},
        {&noted_name, "_noted"}, {&small_name, "_small"},
    };
    for (size_t place = 0; place < sizeof(names) / sizeof(names[0]); place++) {
        if ((*names[place].at = PyUnicode_InternFromString(names[place].name)) == NULL) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, methods);
}
