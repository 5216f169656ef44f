/* The reference kernels: the specification of every op in plain loops. Each file here is compiled twice, with
 * GRAFT_REF_f32 and with GRAFT_REF_f64; REF(name) gives a symbol its suffix. Tensors are real_t, arithmetic inside an
 * op is double in both, so the float version differs from the double one by the rounding of stored numbers only.
 * Speed is of no concern, clarity is. ids are int32, loss weights and nll float, the loss double. *local* */
#pragma once
#include <math.h>
#include <string.h>
#include "kernels/op.h"

#if defined(GRAFT_REF_f32)
typedef float real_t;
#define REF(name) name##_f32
#elif defined(GRAFT_REF_f64)
typedef double real_t;
#define REF(name) name##_f64
#else
#error "define GRAFT_REF_f32 or GRAFT_REF_f64"
#endif

#define OP(NAME, name)                                                                                                 \
    void REF(ref_##name##_fwd)(const op_io_t *io);                                                                     \
    void REF(ref_##name##_bwd)(const op_io_t *io);                                                                     \
    size_t REF(ref_##name##_scratch)(const op_io_t *io);
#include "kernels/ops.def"
#undef OP

/* Stores a gradient: adds to what is there or overwrites it. */
static inline void ref_put(real_t *dst, bool acc, double value) {
    *dst = (real_t)(acc ? (double)*dst + value : value);
}
