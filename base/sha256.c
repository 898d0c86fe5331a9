/* SHA-256: see sha256.h. Names as in FIPS 180-4, section 6.2. */
#include "base/sha256.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t state[8], const uint8_t *p)
{
    uint32_t w[64];
    for (int t = 0; t < 16; t++, p += 4)
        w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; t++) {
        uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                      sha256_k[t] + w[t];
        uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void agon_sha256_init(struct agon_sha256 *h)
{
    *h = (struct agon_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                        0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void agon_sha256_add(struct agon_sha256 *h, const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t used = h->n_bytes % 64;
    h->n_bytes += size;
    while (size > 0) {
        if (used == 0 && size >= 64) {
            sha256_block(h->state, p);
            p += 64, size -= 64;
            continue;
        }
        size_t n = size < 64 - used ? size : 64 - used;
        memcpy(h->block + used, p, n);
        used += n, p += n, size -= n;
        if (used == 64) {
            sha256_block(h->state, h->block);
            used = 0;
        }
    }
}

void agon_sha256_hex(struct agon_sha256 *h, char ret_hex[AGON_SHA256_HEX])
{
    static const uint8_t pad[64] = {0x80};
    uint8_t length[8];
    uint64_t n_bits = h->n_bytes * 8;
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(n_bits >> (56 - 8 * i));
    size_t used = h->n_bytes % 64;
    agon_sha256_add(h, pad, used < 56 ? 56 - used : 120 - used);
    agon_sha256_add(h, length, sizeof(length));
    for (int i = 0; i < 64; i++)
        ret_hex[i] = "0123456789abcdef"[h->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    ret_hex[64] = '\0';
}

void agon_sha256_of(struct agon_str s, char ret_hex[AGON_SHA256_HEX])
{
    struct agon_sha256 h;
    agon_sha256_init(&h);
    agon_sha256_add(&h, s.data, s.size);
    agon_sha256_hex(&h, ret_hex);
}

int agon_sha256_file(const char *path, char ret_hex[AGON_SHA256_HEX], struct agon_err *err)
{
    int fd AGON_AUTO(agon_fd_closep) = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return agon_fail(err, AGON_ESYS, "%s: %s", path, strerror(errno));
    struct agon_sha256 h;
    agon_sha256_init(&h);
    for (;;) {
        char chunk[64 << 10];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return agon_fail(err, AGON_ESYS, "%s: %s", path, strerror(errno));
        if (n == 0)
            break;
        agon_sha256_add(&h, chunk, (size_t)n);
    }
    agon_sha256_hex(&h, ret_hex);
    return 0;
}
