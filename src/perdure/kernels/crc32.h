/* What crc32.c gives to all that makes frames. */

#ifndef PERDURE_CRC32_H
#define PERDURE_CRC32_H

#include "kernels.h"

#include <stdint.h>

/* CRC-32 as zlib has it. */
uint32_t crc32_of(const unsigned char *data, Py_ssize_t size);

/* Make the tables; before anything is asked. */
void make_crc_tables(void);

#endif
