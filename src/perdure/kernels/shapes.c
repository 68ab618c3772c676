/* Which shape the attributes of an object have, and what its payload refers to. */

#include "shapes.h"

enum {
    FEW = 4,      /* shapes that are looked at before a dict of them is asked */
    SHARED = 128, /* tuples of references */
};

static int
is_shape(PyObject *shape)
{
    return shape != NULL && PyTuple_Check(shape) && PyTuple_GET_SIZE(shape) == 3
        && PyTuple_CheckExact(PyTuple_GET_ITEM(shape, LINKS))
        && PyBytes_CheckExact(PyTuple_GET_ITEM(shape, SHAPE_HEAD));
}

/* Whether a dict has just those keys, the very same objects in the same order; puts its values, borrowed, into
   `values`. */
static int
has_names(PyObject *graph, PyObject *names, PyObject **values)
{
    PyObject *name;
    Py_ssize_t position = 0, place = 0;
    if (!PyTuple_CheckExact(names) || PyTuple_GET_SIZE(names) != PyDict_GET_SIZE(graph)) {
        return 0;
    }
    while (place < PyTuple_GET_SIZE(names) && PyDict_Next(graph, &position, &name, &values[place])
           && name == PyTuple_GET_ITEM(names, place)) {
        place++;
    }
    return place == PyTuple_GET_SIZE(names);
}

PyObject *
shape_for(PyObject *graph, PyObject *facts, Values *values)
{
    PyObject *name, *names, *shapes = slot_of(facts, in_facts.shapes), *shape;
    Py_ssize_t position = 0, place = 0;
    if (!PyDict_CheckExact(shapes)) {
        return NULL;
    }
    for (int tried = 0; tried < FEW && PyDict_Next(shapes, &position, &names, &shape); tried++) {
        if (is_shape(shape) && has_names(graph, names, values->all)) {
            return shape;
        }
    }
    position = 0;
    if ((names = PyTuple_New(values->count)) == NULL) { /* what garbage is collected here may change the dict */
        return NULL;
    }
    while (place < values->count && PyDict_Next(graph, &position, &name, &values->all[place])
           && PyUnicode_CheckExact(name)) {
        PyTuple_SET_ITEM(names, place++, Py_NewRef(name));
    }
    if (place < values->count || PyDict_GET_SIZE(graph) != place) {
        Py_DECREF(names);
        return NULL;
    }
    shape = PyDict_GetItemWithError(shapes, names);
    Py_DECREF(names);
    return is_shape(shape) ? shape : NULL;
}

/* A tuple of one id. */
static PyObject *
only(PyObject *id)
{
    static PyObject *last[SHARED]; /* of one text each */
    PyObject **shared = PyUnicode_CheckExact(id) ? &last[((uintptr_t)id >> 6) % SHARED] : NULL, *ids;
    if (shared != NULL && *shared != NULL && PyTuple_GET_ITEM(*shared, 0) == id) {
        return Py_NewRef(*shared);
    }
    if ((ids = PyTuple_Pack(1, id)) != NULL && shared != NULL) {
        Py_XSETREF(*shared, Py_NewRef(ids));
    }
    return ids;
}

PyObject *
ids_in(const Places *places)
{
    PyObject *ids, *id;
    Py_ssize_t position = 0, place = 0;
    if (places->all == NULL) {
        return places->first == NULL ? PyTuple_New(0) : only(places->first);
    }
    if ((ids = PyTuple_New(PyDict_GET_SIZE(places->all))) != NULL) {
        while (place < PyTuple_GET_SIZE(ids) && PyDict_Next(places->all, &position, &id, NULL)) {
            PyTuple_SET_ITEM(ids, place++, Py_NewRef(id));
        }
    }
    return ids;
}
