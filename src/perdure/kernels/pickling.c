/* Values to pickles of protocol 5: byte for byte what C pickle writes of them, in a third of its time; of plain values,
   less what perdure leaves out.

   - Builtin values of their exact types, and what instances.c knows. For anything else, and for what is large or deep,
     the caller begins again with C pickle: nothing of the user's has been run by then, and nothing was changed.
   - Whoever refers to a record asks Python for its entry, and Python may run anything: what is gone through is held,
     and a container that has changed meanwhile is not usual. */

#include "pickling.h"

#include <stddef.h>

enum {
    MOST_BYTES = 60000, /* below the size of a frame, and of a large piece */
    DEEPEST = 60,
    BATCH = 1000, /* from here on there are several batches */
    START = 11,   /* PROTO and its byte, FRAME and its eight */
    MEMOIZE = 0x94,
};

/* -- bytes ----------------------------------------------------------------------------------------------------- */

int
grow(Pickle *pickle, size_t size)
{
    size_t room = pickle->room * 4 < MOST_BYTES ? pickle->room * 4 : MOST_BYTES;
    if (size > MOST_BYTES - pickle->used) {
        return UNUSUAL;
    }
    if (room - pickle->used < size) {
        room = MOST_BYTES;
    }
    unsigned char *before = pickle->bytes == pickle->few_bytes ? NULL : pickle->bytes;
    unsigned char *bytes = PyMem_Realloc(before, room);
    if (bytes == NULL) {
        return UNUSUAL;
    }
    if (before == NULL) {
        memcpy(bytes, pickle->few_bytes, pickle->used);
    }
    pickle->bytes = bytes, pickle->room = room;
    return SAVED;
}

static inline void
put_number(unsigned char *at, uint64_t number, int size)
{
    for (int place = 0; place < size; place++) {
        at[place] = (unsigned char)(number >> (8 * place));
    }
}

/* An opcode with a number behind it, and bytes behind that. */
static int
put_sized(Pickle *pickle, unsigned char opcode, int width, const void *bytes, size_t size)
{
    unsigned char *at = place_for(pickle, 1 + (size_t)width + size);
    if (at == NULL) {
        return UNUSUAL;
    }
    at[0] = opcode;
    put_number(at + 1, size, width);
    memcpy(at + 1 + width, bytes, size);
    return SAVED;
}

/* -- the memo -------------------------------------------------------------------------------------------------- */

static inline size_t
slot_for(const Pickle *pickle, const PyObject *obj)
{
    size_t at = (size_t)(((uint64_t)(uintptr_t)obj >> 4) * 0x9E3779B97F4A7C15u >> 40) & pickle->mask;
    while (pickle->slots[at] && pickle->objects[pickle->slots[at] - 1] != obj) {
        at = (at + 1) & pickle->mask;
    }
    return at;
}

static int
grow_memo(Pickle *pickle)
{
    size_t most = pickle->most * 4, size = most * 2;
    PyObject **objects = PyMem_Malloc(most * sizeof(PyObject *));
    uint16_t *slots = PyMem_Calloc(size, sizeof(uint16_t));
    if (objects == NULL || slots == NULL) {
        PyMem_Free(objects);
        PyMem_Free(slots);
        return UNUSUAL;
    }
    memcpy(objects, pickle->objects, pickle->count * sizeof(PyObject *));
    if (pickle->objects != pickle->few_objects) {
        PyMem_Free(pickle->objects);
        PyMem_Free(pickle->slots);
    }
    pickle->objects = objects, pickle->most = most, pickle->slots = slots, pickle->mask = size - 1;
    for (size_t number = 0; number < pickle->count; number++) {
        if (objects[number] != NULL) {
            slots[slot_for(pickle, objects[number])] = (uint16_t)(number + 1);
        }
    }
    return SAVED;
}

/* Put the opcodes where they belong that were left out so far; each that follows is put at once. */
static int
need_memo(Pickle *pickle)
{
    if (pickle->needs_memo) {
        return SAVED;
    }
    size_t number = pickle->count < MOST_FLAT ? pickle->count : MOST_FLAT, end = pickle->used;
    if (place_for(pickle, number) == NULL) {
        return UNUSUAL;
    }
    pickle->needs_memo = 1;
    while (number) {
        size_t begin = pickle->notes[number - 1];
        memmove(pickle->bytes + begin + number, pickle->bytes + begin, end - begin);
        number--, end = begin;
        pickle->bytes[begin + number] = MEMOIZE;
    }
    return SAVED;
}

int
memoize(Pickle *pickle, PyObject *obj)
{
    if (pickle->count == pickle->most && !grow_memo(pickle)) {
        return UNUSUAL;
    }
    if (obj != NULL) {
        pickle->slots[slot_for(pickle, obj)] = (uint16_t)(pickle->count + 1);
        Py_INCREF(obj);
    }
    size_t number = pickle->count++; /* each takes a byte at least: there are fewer than MOST_BYTES */
    pickle->objects[number] = obj;
    if (!pickle->needs_memo && number < MOST_FLAT) {
        pickle->notes[number] = (uint16_t)pickle->used;
        return SAVED;
    }
    return need_memo(pickle) && put_byte(pickle, MEMOIZE);
}

int
put_known(Pickle *pickle, PyObject *obj)
{
    size_t known = pickle->slots[slot_for(pickle, obj)];
    if (!known || !need_memo(pickle)) {
        return UNUSUAL;
    }
    unsigned char told[5] = {known <= 256 ? 'h' : 'j'};
    put_number(told + 1, known - 1, 4);
    return put(pickle, told, known <= 256 ? 2 : 5);
}

/* -- atoms ----------------------------------------------------------------------------------------------------- */

static int
save_int(Pickle *pickle, PyObject *obj)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    if (overflow) {
        return UNUSUAL;
    }
    unsigned char told[11];
    uint64_t bits = (uint64_t)value;
    put_number(told + 1, bits, 4);
    if (value >= INT32_MIN && value <= INT32_MAX) {
        int size = bits >> 16 ? 5 : bits >> 8 ? 3 : 2;
        told[0] = size == 5 ? 'J' : size == 3 ? 'M' : 'K';
        return put(pickle, told, (size_t)size);
    }
    int size = 5; /* as many bytes as hold the value and its sign */
    while (size < 8 && (value >> (8 * size - 1)) != (value < 0 ? -1 : 0)) {
        size++;
    }
    told[0] = 0x8a, told[1] = (unsigned char)size;
    put_number(told + 2, bits, size);
    return put(pickle, told, 2 + (size_t)size);
}

static int
save_float(Pickle *pickle, PyObject *obj)
{
    double value = PyFloat_AS_DOUBLE(obj);
    uint64_t bits;
    unsigned char told[9] = {'G'};
    memcpy(&bits, &value, 8);
    for (int place = 0; place < 8; place++) {
        told[8 - place] = (unsigned char)(bits >> (8 * place));
    }
    return put(pickle, told, 9);
}

static int
save_text(Pickle *pickle, PyObject *obj)
{
    Py_ssize_t size;
    const char *text;
    if (PyUnicode_IS_COMPACT_ASCII(obj)) {
        text = (const char *)PyUnicode_DATA(obj), size = PyUnicode_GET_LENGTH(obj);
    } else if ((text = PyUnicode_AsUTF8AndSize(obj, &size)) == NULL) {
        PyErr_Clear(); /* a surrogate, or no memory */
        return UNUSUAL;
    }
    int is_short = size < 256;
    return put_sized(pickle, is_short ? 0x8c : 'X', is_short ? 1 : 4, text, (size_t)size) && memoize(pickle, obj);
}

static int
save_bytes(Pickle *pickle, PyObject *obj)
{
    size_t size = (size_t)PyBytes_GET_SIZE(obj);
    int is_short = size < 256;
    return need_memo(pickle) && put_sized(pickle, is_short ? 'C' : 'B', is_short ? 1 : 4, PyBytes_AS_STRING(obj), size)
        && memoize(pickle, obj);
}

/* -- containers ------------------------------------------------------------------------------------------------ */

static int
save_held(Pickle *pickle, PyObject *value)
{
    Py_INCREF(value);
    int saved = save(pickle, value);
    Py_DECREF(value);
    return saved;
}

static int
save_list(Pickle *pickle, PyObject *list)
{
    Py_ssize_t size = PyList_GET_SIZE(list);
    if (size >= BATCH || !put_byte(pickle, ']') || !memoize(pickle, list) || (size > 1 && !put_byte(pickle, '('))) {
        return UNUSUAL;
    }
    for (Py_ssize_t place = 0; place < size; place++) {
        int saved = place < PyList_GET_SIZE(list) ? save_held(pickle, PyList_GET_ITEM(list, place)) : UNUSUAL;
        if (saved != SAVED) {
            return saved;
        }
    }
    return PyList_GET_SIZE(list) == size && (!size || put_byte(pickle, size > 1 ? 'e' : 'a'));
}

static int
save_tuple(Pickle *pickle, PyObject *tuple)
{
    static const unsigned char opcodes[] = {')', 0x85, 0x86, 0x87, 't'};
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (size == 0 || (size > 3 && !put_byte(pickle, '('))) {
        return size == 0 && put_byte(pickle, opcodes[0]);
    }
    for (Py_ssize_t place = 0; place < size; place++) {
        int saved = save(pickle, PyTuple_GET_ITEM(tuple, place));
        if (saved != SAVED) {
            return saved;
        }
    }
    if (pickle->slots[slot_for(pickle, tuple)]) {
        return UNUSUAL; /* it holds itself */
    }
    return put_byte(pickle, opcodes[size > 3 ? 4 : size]) && memoize(pickle, tuple)
        && (size < BATCH || need_memo(pickle)); /* it is not flat */
}

static int
save_dict(Pickle *pickle, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t position = 0, size = PyDict_GET_SIZE(dict), met = 0;
    if (size >= BATCH || !put_byte(pickle, '}') || !memoize(pickle, dict) || (size > 1 && !put_byte(pickle, '('))) {
        return UNUSUAL;
    }
    for (; PyDict_Next(dict, &position, &key, &value); met++) {
        Py_INCREF(value);
        int saved = save_held(pickle, key);
        saved = saved == SAVED ? save(pickle, value) : saved;
        Py_DECREF(value);
        if (saved != SAVED) {
            return saved;
        }
    }
    return met == size && PyDict_GET_SIZE(dict) == size && (!size || put_byte(pickle, size > 1 ? 'u' : 's'));
}

static int
save_members(Pickle *pickle, PyObject *set)
{
    PyObject *each = PyObject_GetIter(set), *member;
    int saved = each != NULL && need_memo(pickle) ? SAVED : UNUSUAL;
    while (saved == SAVED && (member = PyIter_Next(each)) != NULL) {
        saved = save(pickle, member);
        Py_DECREF(member);
    }
    Py_XDECREF(each);
    if (saved != RAISED && PyErr_Occurred()) {
        PyErr_Clear(); /* it has changed meanwhile, or there is no memory */
        return UNUSUAL;
    }
    return saved;
}

static int
save_set(Pickle *pickle, PyObject *set)
{
    Py_ssize_t size = PySet_GET_SIZE(set);
    if (size >= BATCH || !put_byte(pickle, 0x8f) || !memoize(pickle, set) || (size && !put_byte(pickle, '('))) {
        return UNUSUAL;
    }
    int saved = save_members(pickle, set);
    return saved != SAVED || !size ? saved : PySet_GET_SIZE(set) == size && put_byte(pickle, 0x90);
}

static int
save_frozenset(Pickle *pickle, PyObject *set)
{
    int saved = put_byte(pickle, '(') ? save_members(pickle, set) : UNUSUAL;
    if (saved != SAVED || pickle->slots[slot_for(pickle, set)]) {
        return saved == SAVED ? UNUSUAL : saved;
    }
    return put_byte(pickle, 0x91) && memoize(pickle, set);
}

/* -- any value ------------------------------------------------------------------------------------------------- */

static int
save_container(Pickle *pickle, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyList_Type) {
        return save_list(pickle, value);
    }
    if (type == &PyDict_Type) {
        return save_dict(pickle, value);
    }
    if (type == &PyTuple_Type) {
        return save_tuple(pickle, value);
    }
    if (type == &PySet_Type) {
        return save_set(pickle, value);
    }
    if (type == &PyFrozenSet_Type) {
        return save_frozenset(pickle, value);
    }
    return need_memo(pickle) ? save_instance(pickle, value) : UNUSUAL;
}

int
save(Pickle *pickle, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None || type == &PyBool_Type) {
        return put_byte(pickle, value == Py_None ? 'N' : value == Py_True ? 0x88 : 0x89);
    }
    if (type == &PyLong_Type) {
        return save_int(pickle, value);
    }
    if (type == &PyFloat_Type) {
        return save_float(pickle, value);
    }
    if (pickle->slots[slot_for(pickle, value)]) {
        return put_known(pickle, value);
    }
    if (type == &PyUnicode_Type) {
        return save_text(pickle, value);
    }
    if (type == &PyBytes_Type) {
        return save_bytes(pickle, value);
    }
    if (pickle->depth == DEEPEST) {
        return UNUSUAL;
    }
    pickle->depth++;
    int saved = save_container(pickle, value);
    pickle->depth--;
    return saved;
}

static void
let_go(Pickle *pickle)
{
    for (size_t number = 0; number < pickle->count; number++) {
        Py_XDECREF(pickle->objects[number]);
    }
    if (pickle->objects != pickle->few_objects) {
        PyMem_Free(pickle->objects);
        PyMem_Free(pickle->slots);
    }
    if (pickle->bytes != pickle->few_bytes) {
        PyMem_Free(pickle->bytes);
    }
}

/* A list of values; the list itself is nobody else's. */
static int
save_values(Pickle *pickle, const Values *values)
{
    if (values->count >= BATCH || !put_byte(pickle, ']') || !memoize(pickle, NULL)
        || (values->count > 1 && !put_byte(pickle, '('))) {
        return UNUSUAL;
    }
    for (Py_ssize_t place = 0; place < values->count; place++) {
        int saved = save(pickle, values->all[place]);
        if (saved != SAVED) {
            return saved;
        }
    }
    return !values->count || put_byte(pickle, values->count > 1 ? 'e' : 'a');
}

PyObject *
payload_of(Places *places, PyObject *head, const Values *values, int *asked)
{
    Pickle pickle;
    memset(&pickle, 0, offsetof(Pickle, few_bytes));
    memset(pickle.few_slots, 0, sizeof(pickle.few_slots));
    pickle.encoder = places->encoder, pickle.places = places;
    pickle.bytes = pickle.few_bytes, pickle.room = FEW_BYTES;
    pickle.objects = pickle.few_objects, pickle.most = FEW_OBJECTS;
    pickle.slots = pickle.few_slots, pickle.mask = FEW_SLOTS - 1;
    size_t first = (size_t)PyBytes_GET_SIZE(head), start = first + START;
    PyObject *payload = NULL;
    if (put(&pickle, PyBytes_AS_STRING(head), first) && place_for(&pickle, START) != NULL
        && save_values(&pickle, values) == SAVED && put_byte(&pickle, '.')) {
        unsigned char *at = pickle.bytes;
        if (pickle.asked) {
            at[first] = 0x80, at[first + 1] = 5, at[first + 2] = 0x95;
            put_number(at + first + 3, pickle.used - start, 8);
        } else {
            at = memmove(at + START, at, first); /* as `without_start` of perdure/records/shape.py */
        }
        payload = PyBytes_FromStringAndSize((const char *)at, pickle.bytes + pickle.used - at);
    }
    *asked = pickle.asked;
    let_go(&pickle);
    return payload;
}
