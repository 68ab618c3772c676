/* Keyed BLAKE2b with tags of 16 bytes (RFC 7693), as `hashlib.blake2b(key=…, digest_size=16)` computes it.

   Hashlib's calls cost as much as hashing a small record. Here the block with the key is compressed once for a key. */

#include "blake2b.h"
#include "rounds.h"

const uint64_t blake2b_start[8] = {
    0x6A09E667F3BCC908u, 0xBB67AE8584CAA73Bu, 0x3C6EF372FE94F82Bu, 0xA54FF53A5F1D36F1u,
    0x510E527FADE682D1u, 0x9B05688C2B3E6C1Fu, 0x1F83D9ABFB41BD6Bu, 0x5BE0CD19137E2179u,
};

#define ROTATED(word, bits) ((word) >> (bits) | (word) << (64 - (bits)))

/* Take a block of 128 bytes into the state; `count` bytes have been taken with it. */
static void
compress(uint64_t h[8], const unsigned char *block, uint64_t count, int is_last)
{
    uint64_t m[16];
    for (int word = 0; word < 16; word++) {
        const unsigned char *at = block + 8 * word;
        m[word] = (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24
                | (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56;
    }
    uint64_t v0 = h[0], v1 = h[1], v2 = h[2], v3 = h[3], v4 = h[4], v5 = h[5], v6 = h[6], v7 = h[7];
    const uint64_t *begin = blake2b_start;
    uint64_t v8 = begin[0], v9 = begin[1], v10 = begin[2], v11 = begin[3], v12 = begin[4] ^ count, v13 = begin[5];
    uint64_t v14 = is_last ? ~begin[6] : begin[6], v15 = begin[7];
    ALL_ROUNDS();
    h[0] ^= v0 ^ v8, h[1] ^= v1 ^ v9, h[2] ^= v2 ^ v10, h[3] ^= v3 ^ v11;
    h[4] ^= v4 ^ v12, h[5] ^= v5 ^ v13, h[6] ^= v6 ^ v14, h[7] ^= v7 ^ v15;
}

void
take_key(Seal *seal, const unsigned char *secret)
{
    unsigned char block[BLOCK] = {0};
    memcpy(block, secret, SECRET);
    memcpy(seal->state, blake2b_start, sizeof(blake2b_start));
    seal->state[0] ^= 0x01010000u ^ (uint64_t)SECRET << 8 ^ TAG; /* fan-out and depth 1; sizes of key and tag */
    compress(seal->state, block, BLOCK, 0);
}

void
seal_bytes(const Seal *seal, const unsigned char *data, size_t size, unsigned char *tag)
{
    uint64_t h[8], count = BLOCK;
    unsigned char last[BLOCK] = {0};
    memcpy(h, seal->state, sizeof(h));
    for (; size > BLOCK; data += BLOCK, size -= BLOCK) {
        compress(h, data, count += BLOCK, 0);
    }
    memcpy(last, data, size);
    compress(h, last, count + size, 1);
    for (int place = 0; place < TAG; place++) {
        tag[place] = (unsigned char)(h[place / 8] >> 8 * (place % 8));
    }
}

/* blake2b(secret, data): for the tests that compare it with hashlib. */
static PyObject *
blake2b(PyObject *module, PyObject *args)
{
    Py_buffer secret, data;
    PyObject *tag = NULL;
    if (!PyArg_ParseTuple(args, "y*y*", &secret, &data)) {
        return NULL;
    }
    if (secret.len == SECRET && data.len > 0) {
        Seal seal;
        unsigned char bytes[TAG];
        take_key(&seal, secret.buf);
        seal_bytes(&seal, data.buf, (size_t)data.len, bytes);
        tag = PyBytes_FromStringAndSize((const char *)bytes, TAG);
    } else {
        PyErr_SetString(PyExc_ValueError, "blake2b takes 32 bytes, and one or more");
    }
    PyBuffer_Release(&secret);
    PyBuffer_Release(&data);
    return tag;
}

static PyMethodDef methods[] = {
    {"blake2b", blake2b, METH_VARARGS, "blake2b(secret, data): the tag of 16 bytes"},
    {NULL, NULL, 0, NULL},
};

int
add_seals(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
