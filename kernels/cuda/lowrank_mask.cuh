/* Pieces of rows and their dropout masks, for the kernels of lowrank.h. */
#pragma once
#include <string.h>
#include "kernels/cuda/lowrank.h"
extern "C" {
#include "kernels/ops/lowrank.h"
#include "kernels/philox.h"
}

/* Eight neighbouring bfloat16, the lower index in the lower half. */
struct eight_t {
    uint32_t u[4];
};

/* Columns col .. col+7 of a row of `cols`; zeroes beyond it. wide: whole pieces of 16 bytes are aligned. */
__device__ __forceinline__ eight_t load_eight(const bf16_t *row, int64_t col, int64_t cols, bool wide) {
    pack_t<bf16_t> p;
    if (wide && col + 8 <= cols)
        p = load_pack(row + col);
    else
        for (int i = 0; i < 8; i++) p.v[i] = col + i < cols ? row[col + i] : from_float<bf16_t>(0.0f);
    eight_t e;
    memcpy(&e, &p, sizeof e);
    return e;
}

__device__ __forceinline__ eight_t no_eight() {
    eight_t e = {{0, 0, 0, 0}};
    return e;
}

/* What a thread keeps of a mask: drop is false where all elements stay. */
struct dropper_t {
    uint64_t seed, step;
    bool drop;
};

__device__ __forceinline__ dropper_t dropper_of(const lowrank_mask_t &m) {
    dropper_t d = {0, 0, false};
    if (!m.keys || !m.step->training) return d;
    d.seed = m.step->seed;
    d.step = m.step->step;
    d.drop = true;
    return d;
}

/* Bit i: element 4 * group + i of the row of `key` stays. */
__device__ __forceinline__ uint32_t kept(const lowrank_mask_t &m, const dropper_t &d, uint64_t key, int64_t group) {
    uint32_t word[4], bits = 0;
    rng_words(d.seed, RNG_DROPOUT, d.step, lowrank_dropout_index(key, m.site, group), word);
    for (int i = 0; i < 4; i++) bits |= (uint32_t)((int32_t)(word[i] >> 8) >= m.threshold) << i;
    return bits;
}

/* Clears what row n's mask drops of its columns col .. col+7; col is a multiple of 8. */
__device__ __forceinline__ void drop_eight(const lowrank_mask_t &m, const dropper_t &d, int64_t n, int64_t col,
                                           eight_t &e) {
    for (int half = 0; half < 2; half++) {
        const uint32_t bits = kept(m, d, m.keys[n], col / 4 + half);
        for (int i = 0; i < 2; i++)
            e.u[2 * half + i] &= (bits >> (2 * i) & 1 ? 0xffffu : 0u) | (bits >> (2 * i + 1) & 1 ? 0xffff0000u : 0u);
    }
}
