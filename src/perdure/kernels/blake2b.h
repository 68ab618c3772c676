/* What blake2b.c gives to frames.c and opening.c. */

#ifndef PERDURE_BLAKE2B_H
#define PERDURE_BLAKE2B_H

#include "kernels.h"

#include <stdint.h>

#define BLOCK 128
#define SECRET 32
#define TAG 16

/* The state that has taken a key. */
typedef struct {
    uint64_t state[8];
} Seal;

void take_key(Seal *seal, const unsigned char *secret);

/* The tag of at least one byte. */
void seal_bytes(const Seal *seal, const unsigned char *data, size_t size, unsigned char *tag);

/* Something that is to be sealed, at least one byte, and where its tag goes. */
typedef struct {
    const unsigned char *data;
    size_t size;
    unsigned char *tag;
} Piece;

/* The tags of many pieces. */
void seal_many(const Seal *seal, const Piece *pieces, size_t count);

extern const uint64_t blake2b_start[8];

#endif
