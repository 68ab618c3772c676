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

#endif
