/* The factors of dropout, 0 or 1/(1-p), as every backend draws them: element i of a row is kept when the 24 upper bits
 * of word i % 4 of Philox's block i / 4 reach a threshold (kernels/ops/lowrank.h says which counter a block has).
 * *local* */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Blocks are drawn this many at a time: rows of counters and factors have room for whole lots. */
enum { DROPOUT_LOT = 8 };

typedef struct dropout {
    uint32_t key[2]; /* rng_key */
    uint64_t step;
    int32_t threshold; /* p 2^24, rounded up */
    float keep_scale;  /* 1/(1-p) */
} dropout_t;

/* The factors of a row: factor[4 * blocks] from the counters row ^ block[i], i < blocks, a multiple of DROPOUT_LOT. */
typedef void dropout_row_t(const dropout_t *d, uint64_t row, const uint64_t *block, int64_t blocks, float *factor);

/* The same for several instruction sets, bit for bit. */
typedef struct dropout_set {
    const char *name;
    bool (*present)(void);
    dropout_row_t *row;
} dropout_set_t;
extern const dropout_set_t dropout_sets[]; /* the fastest first, the last present everywhere; then one without a name */
const dropout_set_t *dropout_set(void);    /* the first that is present */
