/* Philox4x32-10, the only source of randomness (Salmon et al., SC'11). Counter-based: a value depends on its counter
 * and key alone, so it is the same on every rank, thread and recomputation. *local* */
#pragma once
#include <math.h>
#include <stdint.h>
#include "kernels/host_device.h"

static inline HOST_DEVICE void philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Streams: what a random value is for. One row per purpose, so that no two purposes share values. */
typedef enum rng_stream {
    RNG_INIT = 1,      /* initial values of a trainable tensor */
    RNG_DROPOUT = 2,   /* dropout masks */
    RNG_SHUFFLE = 3,   /* order of the training stream */
    RNG_SAMPLE = 4,    /* sampling of generated tokens */
    RNG_CONDITION = 5, /* which slots of a template are left out */
} rng_stream_t;

/* Philox's key for a seed and a stream. */
static inline HOST_DEVICE void rng_key(uint64_t seed, rng_stream_t stream, uint32_t key[2]) {
    key[0] = (uint32_t)seed;
    key[1] = (uint32_t)(seed >> 32) ^ ((uint32_t)stream * 0x85EBCA6Bu);
}

/* Four 32-bit words for (seed, stream, step, index). */
static inline HOST_DEVICE void rng_words(uint64_t seed, rng_stream_t stream, uint64_t step, uint64_t index,
                                         uint32_t out[4]) {
    uint32_t key[2];
    rng_key(seed, stream, key);
    const uint32_t ctr[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)step, (uint32_t)(step >> 32)};
    philox4x32(ctr, key, out);
}

/* Uniform in [0, 1) with 24 bits, exact in float. */
static inline HOST_DEVICE float rng_unit(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}

/* Standard normal number i of the four words (Box and Muller 1958): words 2k and 2k+1 give numbers 2k and 2k+1. u1 is
 * in (0, 1], so that the logarithm is finite. */
static inline HOST_DEVICE double rng_normal(const uint32_t word[4], int i) {
    int pair = i & ~1;
    double radius = sqrt(-2.0 * log(((double)word[pair] + 1.0) * 0x1p-32)),
           angle = 6.283185307179586 * (double)word[pair + 1] * 0x1p-32;
    return radius * (i % 2 ? sin(angle) : cos(angle));
}
