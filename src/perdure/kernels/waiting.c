/* Single objects from records that were read ahead: `Reader.read_one` and `Reader._load_state`, where the frame waits.

   - Usual is a frame of the view's revision, of an object that refers only to what is in memory. It is opened and
     unpickled before anything is done, so that the reference finds nothing begun where that fails.
   - Who calls this keeps other threads out of the view. */

#include "waiting.h"

#include "entries.h"
#include "loading.h"
#include "views.h"

/* 0 where Python is to say what is wrong, -1 for what goes to the caller at once. */
static int
left_to_python(void)
{
    if (!PyErr_Occurred()) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* The frames that wait, a new reference to their dict; NULL, maybe with an exception, if none is of this revision. */
static PyObject *
waiting_in(PyObject *attributes)
{
    PyObject *ahead = Py_NewRef(attribute_of(attributes, of_view.ahead)), *at = NULL;
    PyObject *frames = PyObject_GetAttr(ahead, of_view.frames);
    int is_current = frames != NULL && PyDict_CheckExact(frames) && PyDict_GET_SIZE(frames);
    if (is_current) {
        at = PyObject_GetAttr(ahead, of_view.at);
        is_current = at != NULL && PyObject_RichCompareBool(at, attribute_of(attributes, of_view.revision), Py_EQ) == 1;
    }
    Py_XDECREF(at);
    Py_DECREF(ahead);
    if (!is_current) {
        Py_CLEAR(frames);
    }
    return frames;
}

/* The objects that a record refers to, a new dict by ids; NULL, maybe with an exception, if one is not in memory. */
static PyObject *
held_of(PyObject *by_id, PyObject *references)
{
    PyObject *held = PyDict_New();
    for (Py_ssize_t place = 0; held != NULL && place < PyTuple_GET_SIZE(references); place++) {
        PyObject *id = PyTuple_GET_ITEM(references, place), *entry = PyDict_GetItemWithError(by_id, id);
        PyObject *obj = is_entry(entry) ? alive(entry) : NULL;
        if (obj == NULL || PyDict_SetItem(held, id, obj) < 0) {
            Py_CLEAR(held);
        }
        Py_XDECREF(obj);
    }
    return held;
}

/* Whether what is in memory of that id, if anything, is a ghost of the class that the record names. */
static int
is_expected(PyObject *by_id, PyObject *parts)
{
    PyObject *entry = PyDict_GetItemWithError(by_id, PyTuple_GET_ITEM(parts, ID));
    if (entry == NULL) {
        return !PyErr_Occurred();
    }
    PyObject *facts = is_entry(entry) ? slot_of(entry, in_entry.facts) : NULL;
    PyObject *name = are_facts(facts) ? slot_of(facts, in_facts.name) : NULL;
    PyObject *told = PyTuple_GET_ITEM(parts, CLASS_NAME);
    return name != NULL && PyUnicode_Check(name) && PyUnicode_Check(told) && PyUnicode_Compare(name, told) == 0;
}

/* `take_waiting`, for a frame that is there. */
static int
take_frame(PyObject *view, PyObject *attributes, PyObject *id, PyObject *frame, PyObject **object)
{
    PyObject *by_id = attribute_of(attributes, of_view.by_id), *numbered = attribute_of(attributes, of_view.entries);
    PyObject *classes = attribute_of(attributes, of_view.classes), *append = NULL, *held = NULL;
    PyObject *decoders = attribute_of(attributes, of_view.decoders);
    if (!PyDict_CheckExact(by_id) || !PyDict_CheckExact(numbered) || !PyDict_CheckExact(classes)
        || !PyDict_CheckExact(decoders)) {
        return 0;
    }
    PyObject *decoder = PyDict_GetItemWithError(decoders, attribute_of(attributes, of_view.trust_all));
    PyObject *parts = decoder == NULL ? NULL : parts_if_usual(decoder, frame);
    if (parts != NULL && is_expected(by_id, parts)) {
        held = held_of(by_id, PyTuple_GET_ITEM(parts, REFERENCES));
    }
    int taken = 0;
    if (held != NULL) {
        append = PyObject_GetAttr(attribute_of(attributes, of_view.loaded), of_view.append);
    }
    if (append != NULL) {
        const Into into = {view, held, NULL, by_id, numbered, classes, append, NULL};
        taken = PyUnicode_Compare(PyTuple_GET_ITEM(parts, ID), id) == 0
                    ? take(&into, PyTuple_GET_ITEM(parts, ID), parts, object)
                    : 0;
    }
    Py_XDECREF(append);
    Py_XDECREF(held);
    Py_XDECREF(parts);
    return taken ? taken : left_to_python();
}

int
take_waiting(PyObject *view, PyObject *attributes, PyObject *id, PyObject **object)
{
    PyObject *frames = waiting_in(attributes);
    PyObject *frame = frames == NULL ? NULL : PyDict_GetItemWithError(frames, id);
    if (frame == NULL) {
        Py_XDECREF(frames);
        return left_to_python();
    }
    Py_INCREF(frame);
    int taken = take_frame(view, attributes, id, frame, object);
    if (taken == 1 && PyDict_DelItem(frames, id) < 0) {
        PyErr_Clear(); /* it was let go of meanwhile */
    }
    Py_DECREF(frame);
    Py_DECREF(frames);
    return taken;
}

int
add_waiting(PyObject *module)
{
    return 0;
}
