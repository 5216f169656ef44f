/* A view: where a tensor's numbers are and what shape they have. Views never own memory. Row-major, dense. *local* */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum dtype { DT_F32, DT_F64, DT_BF16, DT_I32, DT_U64 } dtype_t;

static inline size_t dtype_size(dtype_t t) {
    return t == DT_F64 || t == DT_U64 ? 8 : t == DT_BF16 ? 2 : 4;
}

enum { VIEW_MAX_RANK = 3 };

typedef struct view {
    void *data; /* NULL: absent (optional input, gradient not wanted) */
    dtype_t dtype;
    int32_t rank;
    int64_t dim[VIEW_MAX_RANK];
} view_t;

static inline int64_t view_count(const view_t *v) {
    int64_t n = 1;
    for (int i = 0; i < v->rank; i++) n *= v->dim[i];
    return n;
}
static inline size_t view_bytes(const view_t *v) {
    return (size_t)view_count(v) * dtype_size(v->dtype);
}
