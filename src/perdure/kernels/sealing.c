/* Checksums and seals of frames, for all that makes or opens them.

   A `Key` of ours seals by blake2b.c; one of another kind by its own `fork`. */

#include "frames.h"

static PyObject *update_name, *digest_name;
static uint32_t crc_tables[8][256];

/* -- checksum and seal --------------------------------------------------------------------------------------- */

static void
make_crc_tables(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        }
        crc_tables[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t before = crc_tables[table - 1][byte];
            crc_tables[table][byte] = before >> 8 ^ crc_tables[0][before & 0xFF];
        }
    }
}

/* CRC-32 as zlib has it, eight bytes at a time ("slicing by 8", Kounavis and Berry 2005). */
uint32_t
crc32_of(const unsigned char *data, Py_ssize_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t first = crc ^ (data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24);
        crc = crc_tables[7][first & 0xFF] ^ crc_tables[6][first >> 8 & 0xFF] ^ crc_tables[5][first >> 16 & 0xFF]
            ^ crc_tables[4][first >> 24] ^ crc_tables[3][data[4]] ^ crc_tables[2][data[5]] ^ crc_tables[1][data[6]]
            ^ crc_tables[0][data[7]];
    }
    for (; size > 0; data++, size--) {
        crc = crc >> 8 ^ crc_tables[0][(crc ^ *data) & 0xFF];
    }
    return crc ^ 0xFFFFFFFFu;
}

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
