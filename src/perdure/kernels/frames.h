/* The layout of narrow heads (see perdure/records/frame.py), and what sealing and opening share. */

#ifndef PERDURE_FRAMES_H
#define PERDURE_FRAMES_H

#include "blake2b.h"
#include "crc32.h"

#define HEAD 28   /* bytes of a narrow head */
#define REVISION_AT 12
#define LENGTHS 8 /* its end: the lengths of references, fields and payload */
#define CRC 4
#define TAIL (CRC + TAG)
#define NEWEST 2 /* format */

#define SHAPED 0x0040u
#define COMPRESSED 0x0400u
#define ENCRYPTED 0x0800u
#define FOREIGN 0x1000u
#define WIDE 0x8000u

/* What seals with a key: in C, or as another kind of key does it. */
typedef struct {
    int is_ours;
    Seal seal;
    PyObject *fork; /* gives a state as those of hashlib, which has taken the key */
} Sealing;

/* Take what Python gives: a secret of 32 bytes or None, and `fork`, which is held; -1 with an exception. */
int begin_sealing(Sealing *sealing, PyObject *secret, PyObject *fork);

/* The tag of `size` bytes at `data`, of which there are some, into `tag`; -1 with an exception. */
int sealed(const Sealing *sealing, const unsigned char *data, Py_ssize_t size, unsigned char *tag);

/* 1 if the tag at the end of a frame is good, 0 if not, -1 with an exception. */
int is_sealed(const Sealing *sealing, const unsigned char *frame, Py_ssize_t size);

/* A little-endian number of up to four bytes. */
static inline uint32_t
get_little(const unsigned char *at, int bytes)
{
    uint32_t number = 0;
    for (int place = 0; place < bytes; place++) {
        number |= (uint32_t)at[place] << 8 * place;
    }
    return number;
}

static inline void
put_little(unsigned char *at, uint64_t number, int bytes)
{
    for (int place = 0; place < bytes; place++) {
        at[place] = (unsigned char)(number >> 8 * place);
    }
}

static inline unsigned char *
put(unsigned char *at, const void *data, Py_ssize_t size)
{
    memcpy(at, data, (size_t)size);
    return at + size;
}

#endif
