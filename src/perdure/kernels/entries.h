/* Entries and facts of classes, seen from C: their slots, by the offsets that their descriptors tell.

   The classes are written in Python, in perdure/objects/instances; `bind_entries` and `bind_facts` give them to us. A
   slot is only looked at in an object whose type was compared with the class. */

#ifndef PERDURE_ENTRIES_H
#define PERDURE_ENTRIES_H

#include "kernels.h"

enum { GHOST, DOZING, AWAKE, LOADING }; /* states of an entry */

extern PyTypeObject *entry_type, *facts_type; /* NULL as long as they are not bound */
extern PyObject *entries;                     /* dict: address -> entry */
extern PyObject *known_facts;                 /* dict: address of a class -> its facts */
extern PyObject *small[4];                    /* the numbers from 0 to 3, which are also the states */

extern struct InEntry {
    Py_ssize_t address, digest, facts, flags, forced, id, listed, mark, number, references, revision, sample, state;
    Py_ssize_t view;
} in_entry;

extern struct InFacts {
    Py_ssize_t cls, direct, fields, fit, fit_version, flags, ghost, guest, links, links_to_learn, module, name, opaque;
    Py_ssize_t prefix, shapes, simple, version;
} in_facts;

/* A slot of a class and where its offset goes. */
typedef struct {
    const char *name;
    Py_ssize_t *offset;
} Slot;

/* Learn the offsets of the slots, up to one without a name; -1 with an exception. */
int find_slots(PyTypeObject *type, const Slot *slots);

/* The value of a slot, borrowed; None if it is not set. */
static inline PyObject *
slot_of(PyObject *obj, Py_ssize_t offset)
{
    PyObject *value = *(PyObject **)((char *)obj + offset);
    return value == NULL ? Py_None : value;
}

/* Set a slot; takes the reference. */
static inline void
put_slot(PyObject *obj, Py_ssize_t offset, PyObject *value)
{
    PyObject **at = (PyObject **)((char *)obj + offset), *before = *at;
    *at = value;
    Py_XDECREF(before);
}

static inline void
set_slot(PyObject *obj, Py_ssize_t offset, PyObject *value)
{
    put_slot(obj, offset, Py_NewRef(value));
}

static inline int
is_entry(PyObject *obj)
{
    return obj != NULL && entry_type != NULL && Py_TYPE(obj) == entry_type;
}

static inline int
are_facts(PyObject *obj)
{
    return obj != NULL && facts_type != NULL && Py_TYPE(obj) == facts_type;
}

static inline int
is_in_state(PyObject *entry, int state)
{
    return slot_of(entry, in_entry.state) == small[state];
}

/* A number of an object, -1 if it is none; no exception is left. */
static inline long
as_long(PyObject *number)
{
    long value = PyLong_Check(number) ? PyLong_AsLong(number) : -1;
    if (value == -1) {
        PyErr_Clear();
    }
    return value;
}

/* The number at the end of an id, a text; -1 if it has none. */
long long number_in(PyObject *id);

/* The object of an entry, a new reference; NULL without an exception where it is gone. */
PyObject *alive(PyObject *entry);

/* Whether an entry is that of this object, not of one that was at its address before. */
static inline int
is_of(PyObject *entry, PyObject *obj)
{
    PyObject *own = alive(entry);
    Py_XDECREF(own);
    return own == obj;
}

/* Give an object another class, as `object.__class__` does it; -1 with an exception. */
int assign_class(PyObject *obj, PyObject *cls);

/* The entry at an address, borrowed; NULL, maybe with an exception. */
PyObject *entry_at(PyObject *obj);

/* What `new_entry` in Python gives; `references` to all arguments are borrowed. */
PyObject *make_entry(PyObject *obj, PyObject *view, PyObject *facts, PyObject *id, PyObject *number, int state,
                     PyObject *flags);

/* Whether a value can be compared with any other: exactly a text, a number, a truth value or None. */
static inline int
is_plain(PyObject *value)
{
    return PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value)
        || value == Py_None;
}

/* The dict of an object's attributes, a new reference; NULL with an exception. No class of the user's is asked. */
static inline PyObject *
dict_of(PyObject *obj)
{
    return PyObject_GenericGetDict(obj, NULL);
}

#endif
