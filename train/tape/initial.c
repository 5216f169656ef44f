#include "train/tape/initial.h"
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

void initial_normal(const param_t *p, double deviation, uint64_t seed) {
    const uint64_t stream = initial_stream(p);
    int64_t n = view_count(&p->value);
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < (n + 3) / 4; block++) {
        uint32_t w[4];
        rng_words(seed, RNG_INIT, stream, (uint64_t)block, w);
        for (int k = 0; k < 4 && 4 * block + k < n; k++) initial_set(p, 4 * block + k, deviation * rng_normal(w, k));
    }
}
