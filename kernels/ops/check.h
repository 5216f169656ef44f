/* Shape checks shared by the infer functions of all ops. An absent optional input has rank 0 here (its data pointer
 * tells nothing, because shapes are inferred before buffers are placed). A wrong shape is an error of the code that
 * emitted the op, hence ST_INTERNAL. *local* */
#pragma once
#include "kernels/op.h"

/* v is a dense tensor of `rank` axes and of type `dtype`. */
status_t check_tensor(const char *op, const char *name, const view_t *v, int rank, dtype_t dtype);

/* The same for real numbers: float, double or bfloat16. All activations of one op have the type of its first. */
status_t check_real(const char *op, const char *name, const view_t *v, int rank, dtype_t real);

/* The same for a parameter, or what a method makes of its parameters, beside activations of type `real`: trained ones
 * stay float where activations are bfloat16. */
status_t check_weight(const char *op, const char *name, const view_t *v, int rank, dtype_t real);

/* The type of statistics (norms, log-sum-exps, inner products of rank r) beside activations of type `real`. */
static inline dtype_t dtype_of_statistics(dtype_t real) {
    return real == DT_BF16 ? DT_F32 : real;
}

/* v->dim[axis] == want */
status_t check_dim(const char *op, const char *name, const view_t *v, int axis, int64_t want);

/* a and b have the same shape. */
status_t check_same(const char *op, const char *name, const view_t *v, const view_t *like);

/* value > 0 */
status_t check_positive(const char *op, const char *name, int64_t value);

static inline bool view_absent(const view_t *v) {
    return v->rank == 0;
}

/* Gives v a shape without touching its data. */
void view_set1(view_t *v, dtype_t dtype, int64_t d0);
void view_set2(view_t *v, dtype_t dtype, int64_t d0, int64_t d1);
