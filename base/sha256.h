#pragma once
/* SHA-256 (FIPS 180-4), for hashes that someone may wish to forge. */
#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

struct agon_sha256 {
    uint32_t state[8];
    uint64_t n_bytes;
    uint8_t block[64];
};
enum { AGON_SHA256_HEX = 65 }; /* 64 digits and a NUL */

void agon_sha256_init(struct agon_sha256 *h);
void agon_sha256_add(struct agon_sha256 *h, const void *data, size_t size);
void agon_sha256_hex(struct agon_sha256 *h, char ret_hex[AGON_SHA256_HEX]);
void agon_sha256_of(struct agon_str s, char ret_hex[AGON_SHA256_HEX]);
int agon_sha256_file(const char *path, char ret_hex[AGON_SHA256_HEX],
                     struct agon_err *err) AGON_MUST_USE;
