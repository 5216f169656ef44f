/* A named tensor inside a mapped weight file, whatever the container. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"

struct strbuf;

/* Storage types that can be read (formats.md 2.4); the values are our own, not a file's. */
#define STORE_LIST(X)                                                                                                  \
    X(STORE_F64, "F64", 1, 8)                                                                                          \
    X(STORE_F32, "F32", 1, 4)                                                                                          \
    X(STORE_F16, "F16", 1, 2)                                                                                          \
    X(STORE_BF16, "BF16", 1, 2)                                                                                        \
    X(STORE_Q4_0, "Q4_0", 32, 18)                                                                                      \
    X(STORE_Q4_1, "Q4_1", 32, 20)                                                                                      \
    X(STORE_Q5_0, "Q5_0", 32, 22)                                                                                      \
    X(STORE_Q5_1, "Q5_1", 32, 24)                                                                                      \
    X(STORE_Q8_0, "Q8_0", 32, 34)                                                                                      \
    X(STORE_Q2_K, "Q2_K", 256, 84)                                                                                     \
    X(STORE_Q3_K, "Q3_K", 256, 110)                                                                                    \
    X(STORE_Q4_K, "Q4_K", 256, 144)                                                                                    \
    X(STORE_Q5_K, "Q5_K", 256, 176)                                                                                    \
    X(STORE_Q6_K, "Q6_K", 256, 210)                                                                                    \
    X(STORE_OTHER, "other", 1, 0) /* legal in the file, not convertible here (integers, fp8, IQ*) */

#define STORE_ENUM(name, text, elements, bytes) name,
typedef enum store { STORE_LIST(STORE_ENUM) STORE_COUNT } store_t;
#undef STORE_ENUM

typedef struct tensor_info {
    const char *name; /* NUL-terminated, owned by the file handle */
    store_t store;
    const char *dtype; /* the container's own name of the type, for messages */
    int rank;          /* 0..8 */
    int64_t dim[8];    /* row-major as in torch: dim[rank-1] is the fastest, also for GGUF (its ne reversed) */
    const void *data;  /* any alignment */
    size_t bytes;
    const char *file; /* path of the file it is in */
} tensor_info_t;

/* Product of the dims (1 for rank 0); validated not to overflow when the file was opened. */
int64_t tensor_info_count(const tensor_info_t *t);

/* Converts elements [first, first+n) in row-major order to float32, exactly as ggml and IEEE define it (bit-exact).
 * For block types first and n must be multiples of the block. ST_INPUT for STORE_OTHER, naming file and tensor. */
status_t tensor_info_read_f32(const tensor_info_t *t, int64_t first, int64_t n, float *out);
