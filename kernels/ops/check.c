#include "kernels/ops/check.h"

static const char *dtype_text(dtype_t t) {
    switch (t) {
    case DT_F32:
        return "f32";
    case DT_F64:
        return "f64";
    case DT_BF16:
        return "bf16";
    case DT_I32:
        return "i32";
    case DT_U64:
        return "u64";
    }
    return "unknown";
}

status_t check_tensor(const char *op, const char *name, const view_t *v, int rank, dtype_t dtype) {
    if (v->rank != rank)
        return st_raise(ST_INTERNAL, op, "input %s has %d axes, not %d; pass another tensor", name, v->rank, rank);
    if (v->dtype != dtype)
        return st_raise(ST_INTERNAL, op, "input %s is %s, not %s; pass another tensor", name, dtype_text(v->dtype),
                        dtype_text(dtype));
    for (int i = 0; i < rank; i++)
        if (v->dim[i] < 0)
            return st_raise(ST_INTERNAL, op, "input %s has %lld places on axis %d; pass another tensor", name,
                            (long long)v->dim[i], i);
    return ST_OK;
}

status_t check_real(const char *op, const char *name, const view_t *v, int rank, dtype_t real) {
    if (real != DT_F32 && real != DT_F64 && real != DT_BF16)
        return st_raise(ST_INTERNAL, op, "input %s is %s, no real type; pass another tensor", name, dtype_text(real));
    return check_tensor(op, name, v, rank, real);
}

status_t check_weight(const char *op, const char *name, const view_t *v, int rank, dtype_t real) {
    return check_real(op, name, v, rank, real == DT_BF16 && v->dtype == DT_F32 ? DT_F32 : real);
}

status_t check_dim(const char *op, const char *name, const view_t *v, int axis, int64_t want) {
    if (v->dim[axis] == want) return ST_OK;
    return st_raise(ST_INTERNAL, op, "input %s has %lld places on axis %d, not %lld; make the shapes agree", name,
                    (long long)v->dim[axis], axis, (long long)want);
}

status_t check_same(const char *op, const char *name, const view_t *v, const view_t *like) {
    TRY(check_tensor(op, name, v, like->rank, like->dtype));
    for (int i = 0; i < like->rank; i++) TRY(check_dim(op, name, v, i, like->dim[i]));
    return ST_OK;
}

status_t check_positive(const char *op, const char *name, int64_t value) {
    if (value > 0) return ST_OK;
    return st_raise(ST_INTERNAL, op, "%s is %lld; it must be positive", name, (long long)value);
}

void view_set1(view_t *v, dtype_t dtype, int64_t d0) {
    v->dtype = dtype;
    v->rank = 1;
    v->dim[0] = d0;
}

void view_set2(view_t *v, dtype_t dtype, int64_t d0, int64_t d1) {
    v->dtype = dtype;
    v->rank = 2;
    v->dim[0] = d0;
    v->dim[1] = d1;
}
