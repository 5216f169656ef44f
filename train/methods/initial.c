#include "train/methods/initial.h"
#include <math.h>
#include <string.h>
#include <xxhash.h>
#include "kernels/philox.h"

uint64_t initial_stream(const param_t *p) {
    return XXH64(p->own, strlen(p->own), 0);
}

void initial_set(const param_t *p, int64_t i, double value) {
    if (p->value.dtype == DT_F64)
        ((double *)p->value.data)[i] = (double)(float)value;
    else
        ((float *)p->value.data)[i] = (float)value;
}

void initial_uniform(const param_t *p, double bound, uint64_t seed) {
    const uint64_t stream = initial_stream(p);
    int64_t n = view_count(&p->value);
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(seed, RNG_INIT, stream, (uint64_t)(i / 4), w);
        initial_set(p, i, (2.0 * (double)rng_unit(w[i % 4]) - 1.0) * bound);
    }
}

/* Words 2k and 2k+1 of an index give elements 2k and 2k+1 of its four. */
void initial_normal(const param_t *p, double deviation, uint64_t seed) {
    const double turn = 6.283185307179586;
    const uint64_t stream = initial_stream(p);
    int64_t n = view_count(&p->value);
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(seed, RNG_INIT, stream, (uint64_t)(i / 4), w);
        int pair = (int)(i % 4) & ~1;
        double radius = sqrt(-2.0 * log(((double)w[pair] + 1.0) * 0x1p-32)),
               angle = turn * (double)w[pair + 1] * 0x1p-32;
        initial_set(p, i, deviation * radius * (i % 2 ? sin(angle) : cos(angle)));
    }
}
