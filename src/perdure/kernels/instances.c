/* Instances to pickles: those that refer to records, and those of which Python has said that pickle runs nothing of the
   user's for them. See perdure/objects/payloads/usual.py, which is asked once for each class.

   - What is known of a class holds as long as its version tag: nobody has changed it, or one of its bases.
   - Whether a class is what is found under its name is looked at each time, as pickle does it. */

#include "encoding.h"
#include "pickling.h"

enum { PLAIN, MEMBER, REDUCED, STATED, NAMED };                /* the kinds of usual.py */
enum { KIND, ARGS, MODULE, QUALNAME, NAME, IS_NOTED, STATE, TOLD }; /* what it tells of a class */
enum { CLASSES = 256, TRIES = 3 };

static struct {
    PyTypeObject *type, *meta; /* compared only */
    unsigned int tag;
    PyObject *qualname; /* the same */
    PyObject *told;
} known[CLASSES];

typedef struct {
    PyObject *function, *module, *qualname;
} Function;

static Function reference, shape, member;
static PyObject *ask;                                             /* what tells of a class */
static PyObject *kind_of;                                         /* what is registered for the class of an object */
static PyObject *dispatch_table, *extensions, *aside, *registered; /* dicts of what is declared */
static PyObject *five, *name_name, *reduce_name, *value_name;

/* -- classes --------------------------------------------------------------------------------------------------- */

static inline unsigned int
tag_of(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030D0000
    if (!(type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG)) {
        return 0;
    }
#endif
    return type->tp_version_tag;
}

static inline PyObject *
qualname_of(PyTypeObject *type)
{
    return type->tp_flags & Py_TPFLAGS_HEAPTYPE ? ((PyHeapTypeObject *)type)->ht_qualname : NULL;
}

/* Whether what Python tells of a class is as it is read here. */
static int
is_told(PyObject *told)
{
    if (!PyTuple_CheckExact(told) || PyTuple_GET_SIZE(told) != TOLD || !PyLong_CheckExact(PyTuple_GET_ITEM(told, KIND))
        || (PyTuple_GET_ITEM(told, ARGS) != Py_None && !PyTuple_CheckExact(PyTuple_GET_ITEM(told, ARGS)))) {
        return 0;
    }
    for (int place = MODULE; place <= NAME; place++) {
        if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(told, place))) {
            return 0;
        }
    }
    return 1;
}

/* What is known of a class, a new reference: None where nothing is usual; NULL with an exception. */
static PyObject *
told_of(PyTypeObject *type)
{
    size_t place = ((uintptr_t)type >> 4) % CLASSES;
    unsigned int tag = tag_of(type);
    if (known[place].type == type && known[place].tag == tag && tag && known[place].qualname == qualname_of(type)
        && known[place].meta == Py_TYPE(type)) {
        return Py_NewRef(known[place].told);
    }
    for (int tries = 0; tries < TRIES; tries++) {
        PyObject *told = PyObject_CallOneArg(ask, (PyObject *)type);
        if (told == NULL || !is_told(told)) {
            Py_XSETREF(told, told == NULL ? NULL : Py_NewRef(Py_None));
        }
        if (told == NULL || (tag && tag == tag_of(type))) {
            if (told != NULL) {
                known[place].type = type, known[place].tag = tag, known[place].qualname = qualname_of(type);
                known[place].meta = Py_TYPE(type);
                Py_XSETREF(known[place].told, Py_NewRef(told));
            }
            return told;
        }
        Py_DECREF(told);
        tag = tag_of(type); /* it gets one when it is looked into */
    }
    Py_RETURN_NONE;
}

/* Whether a class is what is found under its name. */
static int
is_found(PyTypeObject *type, PyObject *told)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed, as all of these */
    PyObject *module = PyDict_CheckExact(modules)
        ? PyDict_GetItemWithError(modules, PyTuple_GET_ITEM(told, MODULE)) : NULL;
    PyObject *found = module != NULL && PyModule_CheckExact(module)
        ? PyDict_GetItemWithError(PyModule_GetDict(module), PyTuple_GET_ITEM(told, QUALNAME)) : NULL;
    if (found == NULL) {
        PyErr_Clear();
    }
    return found == (PyObject *)type;
}

static int
save_global(Pickle *pickle, PyObject *module, PyObject *qualname, PyObject *obj)
{
    return save(pickle, module) == SAVED && save(pickle, qualname) == SAVED && put_byte(pickle, 0x93)
        && memoize(pickle, obj);
}

static int
save_function(Pickle *pickle, const Function *told)
{
    return put_known(pickle, told->function) || save_global(pickle, told->module, told->qualname, told->function);
}

/* Note the name of a class, and its module where a code record tells of it. */
static int
note(Pickle *pickle, PyObject *told)
{
    PyObject *names = slot_of(pickle->encoder, in_encoder.names);
    PyObject *modules = slot_of(pickle->encoder, in_encoder.modules);
    if (!PySet_Check(names) || !PySet_Check(modules) || PySet_Add(names, PyTuple_GET_ITEM(told, NAME)) < 0
        || (PyTuple_GET_ITEM(told, IS_NOTED) == Py_True && PySet_Add(modules, PyTuple_GET_ITEM(told, MODULE)) < 0)) {
        PyErr_Clear();
        return UNUSUAL;
    }
    return SAVED;
}

static int
save_class(Pickle *pickle, PyTypeObject *type, PyObject *told)
{
    PyObject *args = PyTuple_GET_ITEM(told, ARGS);
    if (put_known(pickle, (PyObject *)type)) {
        return SAVED;
    }
    if (!is_found(type, told) || !note(pickle, told)) {
        return UNUSUAL;
    }
    if (args == Py_None) {
        return save_global(pickle, PyTuple_GET_ITEM(told, MODULE), PyTuple_GET_ITEM(told, QUALNAME), (PyObject *)type);
    }
    return save_function(pickle, &shape) && save(pickle, args) == SAVED && put_byte(pickle, 'R')
        && memoize(pickle, (PyObject *)type);
}

/* -- instances ------------------------------------------------------------------------------------------------- */

/* One that has a record of its own: a call of `reference` with its place. */
static int
save_record(Pickle *pickle, PyObject *obj)
{
    PyObject *place = place_of(pickle->places, obj);
    if (place == NULL) {
        return PyErr_Occurred() ? RAISED : UNUSUAL;
    }
    int saved = save_function(pickle, &reference) && save(pickle, place) == SAVED && put_byte(pickle, 0x85)
        && memoize(pickle, NULL) && put_byte(pickle, 'R') && memoize(pickle, obj);
    Py_DECREF(place);
    return saved;
}

/* Append a bare instance, and then its state, if it has one; takes no reference. */
static int
save_with_state(Pickle *pickle, PyObject *obj, PyObject *told, PyObject *state)
{
    if (!save_class(pickle, Py_TYPE(obj), told) || !put(pickle, ")\x81", 2) || !memoize(pickle, obj)) {
        return UNUSUAL;
    }
    if (state == NULL) {
        return SAVED;
    }
    int saved = save(pickle, state);
    return saved == SAVED ? put_byte(pickle, 'b') : saved;
}

/* Whether an attribute may be one that pickle looks for in the instance. */
static int
has_odd_names(PyObject *dict)
{
    PyObject *name;
    Py_ssize_t position = 0;
    while (PyDict_Next(dict, &position, &name, NULL)) {
        if (!PyUnicode_CheckExact(name) || (PyUnicode_GET_LENGTH(name) > 1 && PyUnicode_READ_CHAR(name, 0) == '_'
                                            && PyUnicode_READ_CHAR(name, 1) == '_')) {
            return 1;
        }
    }
    return 0;
}

/* Whose state is its `__dict__`. */
static int
save_plain(Pickle *pickle, PyObject *obj, PyObject *told)
{
    PyObject *dict = dict_of(obj);
    if (dict == NULL || !PyDict_CheckExact(dict) || has_odd_names(dict)) {
        PyErr_Clear();
        Py_XDECREF(dict);
        return UNUSUAL;
    }
    int saved = save_with_state(pickle, obj, told, PyDict_GET_SIZE(dict) ? dict : NULL);
    Py_DECREF(dict);
    return saved;
}

/* What came of asking: an exception that the longer way is to explain is none. */
static int
not_had(void)
{
    if (PyErr_Occurred() && (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError))) {
        return RAISED;
    }
    PyErr_Clear();
    return UNUSUAL;
}

/* Whose state is what `object` or a frozen dataclass makes of its slots. */
static int
save_stated(Pickle *pickle, PyObject *obj, PyObject *told)
{
    PyObject *state = PyObject_CallOneArg(PyTuple_GET_ITEM(told, STATE), obj);
    if (state == NULL) {
        return not_had();
    }
    int saved = save_with_state(pickle, obj, told, state == Py_None ? NULL : state);
    Py_DECREF(state);
    return saved;
}

/* Append the call that gives an object, which is not usual if its arguments hold it. */
static int
put_called(Pickle *pickle, PyObject *obj)
{
    return !put_known(pickle, obj) && put_byte(pickle, 'R') && memoize(pickle, obj);
}

/* A member of an enumeration: a call of `member` with the class, its name and its value. */
static int
save_member(Pickle *pickle, PyObject *obj, PyObject *told)
{
    PyObject *dict = dict_of(obj);
    PyObject *name = dict == NULL ? NULL : PyDict_GetItemWithError(dict, name_name);
    PyObject *value = name == NULL ? NULL : PyDict_GetItemWithError(dict, value_name);
    int saved = UNUSUAL;
    if (value != NULL && PyUnicode_CheckExact(name)) {
        Py_INCREF(name);
        Py_INCREF(value);
        saved = save_function(pickle, &member) && save_class(pickle, Py_TYPE(obj), told) && save(pickle, name) == SAVED;
        saved = saved == SAVED ? save(pickle, value) : saved;
        saved = saved == SAVED ? put_byte(pickle, 0x87) && memoize(pickle, NULL) && put_called(pickle, obj) : saved;
        Py_DECREF(name);
        Py_DECREF(value);
    } else {
        PyErr_Clear();
    }
    Py_XDECREF(dict);
    return saved;
}

/* One of Python's own, which tells its class and the arguments to call it with. */
static int
save_reduced(Pickle *pickle, PyObject *obj, PyObject *told)
{
    PyObject *parts = PyObject_CallMethodOneArg(obj, reduce_name, five);
    if (parts == NULL) {
        return not_had();
    }
    int saved = UNUSUAL;
    Py_ssize_t size = PyTuple_CheckExact(parts) ? PyTuple_GET_SIZE(parts) : 0;
    if ((size == 2 || (size == 3 && PyTuple_GET_ITEM(parts, 2) == Py_None))
        && PyTuple_GET_ITEM(parts, 0) == (PyObject *)Py_TYPE(obj) && PyTuple_CheckExact(PyTuple_GET_ITEM(parts, 1))
        && save_class(pickle, Py_TYPE(obj), told)) {
        saved = save(pickle, PyTuple_GET_ITEM(parts, 1));
        saved = saved == SAVED ? put_called(pickle, obj) : saved;
    }
    Py_DECREF(parts);
    return saved;
}

/* A named tuple: the arguments of `__new__` are its fields. */
static int
save_named(Pickle *pickle, PyObject *obj, PyObject *told)
{
    PyObject *fields = PyTuple_GetSlice(obj, 0, PyTuple_GET_SIZE(obj));
    int saved = fields == NULL ? not_had() : save_class(pickle, Py_TYPE(obj), told);
    saved = saved == SAVED ? save(pickle, fields) : saved;
    Py_XDECREF(fields);
    if (saved == SAVED && put_known(pickle, obj)) {
        return UNUSUAL; /* it holds itself */
    }
    return saved == SAVED ? put_byte(pickle, 0x81) && memoize(pickle, obj) : saved;
}

/* Whether pickle, or perdure, was told how objects of a class are stored; -1 with an exception. */
static int
is_declared(PyObject *obj)
{
    if (PyDict_GET_SIZE(aside) || PyDict_GET_SIZE(extensions)) {
        return 1;
    }
    if (PyDict_GET_SIZE(registered)) {
        PyObject *kind = PyObject_CallOneArg(kind_of, obj);
        Py_XDECREF(kind);
        if (kind != Py_None) {
            return kind == NULL ? -1 : 1;
        }
    }
    PyTypeObject *type = Py_TYPE(obj), *meta = Py_TYPE(type); /* pickle asks for that of `type` nowhere */
    int is_there = PyDict_Contains(dispatch_table, (PyObject *)type);
    return is_there || meta == &PyType_Type ? is_there : PyDict_Contains(dispatch_table, (PyObject *)meta);
}

int
save_instance(Pickle *pickle, PyObject *obj)
{
    static int (*const ways[])(Pickle *, PyObject *, PyObject *) = {
        [PLAIN] = save_plain, [MEMBER] = save_member, [REDUCED] = save_reduced, [STATED] = save_stated,
        [NAMED] = save_named,
    };
    if (ask == NULL) {
        return UNUSUAL;
    }
    pickle->asked = 1;
    if (is_persistable(obj)) {
        return save_record(pickle, obj);
    }
    PyObject *told = told_of(Py_TYPE(obj));
    if (told == NULL) {
        return not_had();
    }
    int saved = UNUSUAL, declared = told == Py_None ? 1 : is_declared(obj);
    if (declared < 0) {
        saved = not_had();
    } else if (!declared) {
        long kind = PyLong_AsLong(PyTuple_GET_ITEM(told, KIND));
        saved = kind >= PLAIN && kind <= NAMED ? ways[kind](pickle, obj, told) : UNUSUAL;
    }
    Py_DECREF(told);
    return saved;
}

/* -- the module ------------------------------------------------------------------------------------------------ */

static int
learn_function(Function *into, PyObject *function)
{
    PyObject *module = PyObject_GetAttrString(function, "__module__");
    PyObject *qualname = module == NULL ? NULL : PyObject_GetAttrString(function, "__qualname__");
    if (qualname == NULL) {
        Py_XDECREF(module);
        return -1;
    }
    *into = (Function){Py_NewRef(function), module, qualname};
    return 0;
}

static PyObject *
bind_usual(PyObject *module, PyObject *args)
{
    PyObject *told, *kind, *functions[3], *dicts[4];
    if (!PyArg_ParseTuple(args, "OO(OOO)(O!O!O!O!)", &told, &kind, &functions[0], &functions[1], &functions[2],
                          &PyDict_Type, &dicts[0], &PyDict_Type, &dicts[1], &PyDict_Type, &dicts[2], &PyDict_Type,
                          &dicts[3])
        || learn_function(&reference, functions[0]) < 0 || learn_function(&shape, functions[1]) < 0
        || learn_function(&member, functions[2]) < 0) {
        return NULL;
    }
    dispatch_table = Py_NewRef(dicts[0]), extensions = Py_NewRef(dicts[1]);
    aside = Py_NewRef(dicts[2]), registered = Py_NewRef(dicts[3]);
    ask = Py_NewRef(told), kind_of = Py_NewRef(kind);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"bind_usual", bind_usual, METH_VARARGS,
     "bind_usual(told, kind_of, (reference, shape, member), (dispatch_table, extension_registry, ASIDE, REGISTERED))"},
    {NULL, NULL, 0, NULL},
};

int
add_instances(PyObject *module)
{
    five = PyLong_FromLong(5);
    name_name = PyUnicode_InternFromString("_name_");
    value_name = PyUnicode_InternFromString("_value_");
    reduce_name = PyUnicode_InternFromString("__reduce_ex__");
    if (five == NULL || name_name == NULL || value_name == NULL || reduce_name == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, methods);
}
