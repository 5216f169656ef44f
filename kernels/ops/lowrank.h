/* LoRA's term added to a linear's output (Hu et al. 2021, eq. 3): y' = y + s * t B^T, t = drop(x) A^T.
 * Backward: dt = s * dy' B, dB = s * dy'^T t, dA = dt^T drop(x), dx = drop^T(dt A), dy = dy'.
 * drop(x) zeroes an element with probability p and scales the rest by 1/(1-p); identity when step->training is false or
 * p = 0. The mask of element (n, i) is word (i % 4) of rng_words(seed, RNG_DROPOUT, step, index) with
 * index = hash of (site, key[n], i / 4) as lowrank_dropout_index below: it depends on the token's place in the step,
 * not on its micro-batch; the element is kept when rng_unit(word) >= p. in: y [N,m], x [N,k], A [r,k], B [m,r], key [N]
 * u64 (optional when p = 0); out: y' [N,m], t [N,r]. In place on y; y's gradient may share dy's buffer. t is
 * recomputable but small, so it is kept. */
#pragma once
#include <stdint.h>
#include "kernels/host_device.h"
enum { LOWRANK_Y, LOWRANK_X, LOWRANK_A, LOWRANK_B, LOWRANK_KEY };
enum { LOWRANK_OUT, LOWRANK_T };
typedef struct lowrank_attr {
    double scale;
    double dropout;
    uint32_t site; /* unique per use in a model */
} lowrank_attr_t;

/* key = ordinal of the sequence in the step << 32 | position; group = i / 4. A mixing step of splitmix64 keeps
 * (site, group) apart from the key; equal indices of two elements would only repeat a mask bit. */
static inline HOST_DEVICE uint64_t lowrank_dropout_index(uint64_t key, uint32_t site, int64_t group) {
    uint64_t z = ((uint64_t)site << 32) + (uint64_t)group + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return key ^ (z ^ (z >> 31));
}
