/* Seals of frames, for all that makes or opens them.

   A `Key` of ours seals by blake2b.c; one of another kind by its own `fork`. */

#include "frames.h"

static PyObject *update_name, *digest_name;

int
begin_sealing(Sealing *sealing, PyObject *secret, PyObject *fork)
{
    sealing->fork = Py_NewRef(fork);
    sealing->is_ours = secret != Py_None;
    if (sealing->is_ours && (!PyBytes_CheckExact(secret) || PyBytes_GET_SIZE(secret) != SECRET)) {
        PyErr_SetString(PyExc_TypeError, "a secret is 32 bytes");
        return -1;
    }
    if (sealing->is_ours) {
        take_key(&sealing->seal, (const unsigned char *)PyBytes_AS_STRING(secret));
    }
    return 0;
}

/* What the state of another kind of key says, a new reference; NULL with an exception. */
static PyObject *
told_by(PyObject *fork, PyObject *body)
{
    PyObject *state = PyObject_CallNoArgs(fork), *digest = NULL;
    PyObject *none = state == NULL ? NULL : PyObject_CallMethodOneArg(state, update_name, body);
    if (none != NULL) {
        digest = PyObject_CallMethodNoArgs(state, digest_name);
    }
    Py_XDECREF(none);
    Py_XDECREF(state);
    return digest;
}

int
sealed(const Sealing *sealing, const unsigned char *data, Py_ssize_t size, unsigned char *tag)
{
    if (sealing->is_ours) {
        seal_bytes(&sealing->seal, data, (size_t)size, tag);
        return 0;
    }
    PyObject *body = PyBytes_FromStringAndSize((const char *)data, size);
    PyObject *digest = body == NULL ? NULL : told_by(sealing->fork, body);
    Py_XDECREF(body);
    if (digest != NULL && (!PyBytes_CheckExact(digest) || PyBytes_GET_SIZE(digest) != TAG)) {
        PyErr_SetString(PyExc_TypeError, "a seal is 16 bytes");
        Py_CLEAR(digest);
    }
    if (digest == NULL) {
        return -1;
    }
    memcpy(tag, PyBytes_AS_STRING(digest), TAG);
    Py_DECREF(digest);
    return 0;
}

static int
is_same(const unsigned char *one, const unsigned char *other)
{
    volatile unsigned char differing = 0; /* as long for any two tags */
    for (int place = 0; place < TAG; place++) {
        differing |= one[place] ^ other[place];
    }
    return !differing;
}

int
is_sealed(const Sealing *sealing, const unsigned char *frame, Py_ssize_t size)
{
    unsigned char tag[TAG];
    if (size <= TAG) {
        return 0;
    }
    return sealed(sealing, frame, size - TAG, tag) < 0 ? -1 : is_same(tag, frame + size - TAG);
}

int
add_sealing(PyObject *module)
{
    make_crc_tables();
    update_name = PyUnicode_InternFromString("update");
    digest_name = PyUnicode_InternFromString("digest");
    return update_name == NULL || digest_name == NULL ? -1 : 0;
}
