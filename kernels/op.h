/* The op contract: how every differentiable operation looks to the tape and to a backend.
 *
 * An op is one row in ops.def, one header with its mathematics (kernels/ops/<op>.h), its shape rules
 * (kernels/ops/<op>.c), a reference in float and double (kernels/ref/<op>.c, the specification), a CPU version
 * (kernels/cpu/<op>.c) and a test (tests/op). Its backward is written by hand beside its forward.
 *
 * Kernels never allocate, never fail on valid shapes and never read a clock or an environment variable. Their work is
 * cut into tiles whose size and order depend on shapes alone, so any number of threads gives the same bits. *local* */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"
#include "kernels/vector.h"
#include "kernels/view.h"

enum { OP_MAX_IN = 9, OP_MAX_OUT = 3 };

typedef enum op {
#define OP(NAME, name) OP_##NAME,
#include "kernels/ops.def"
#undef OP
    OP_COUNT
} op_t;

/* What a step gives to kernels besides tensors. */
typedef struct op_step {
    uint64_t seed, step; /* of the Philox counters */
    bool training;       /* false: dropout is the identity */
} op_step_t;

/* Everything one execution of an op reads and writes. Gradients of an input are wanted when gin[i].data is not NULL;
 * acc[i] tells whether to add to it or to overwrite it. out[0] has a gradient (gout), and out[1] of an op that says so
 * (gout1); other outputs are kept for backward. Of two gradients one may be absent: its data is NULL, its shape is
 * there. An in-place op may find out[0].data == in[i].data, a pass-through gin[i].data == gout.data. */
typedef struct op_io {
    view_t in[OP_MAX_IN], out[OP_MAX_OUT];
    view_t gin[OP_MAX_IN], gout, gout1;
    bool acc[OP_MAX_IN];
    bool want_grad; /* forward: a backward will follow, so the outputs kept for it are needed */
    void *scratch;
    const void *attr; /* the op's <op>_attr_t */
    const op_step_t *step;
    struct device *device;           /* whose memory the views are in (kernels/device.h); NULL: the host's */
    const op_step_t *step_on_device; /* *step in that memory: it changes while the call stands in a recorded graph */
} op_io_t;

typedef void (*op_fn)(const op_io_t *io);

/* need[i]: what backward READS to make input i's gradient: bit k = in[k], bit 16+k = out[k]. */
#define NEED_IN(k)  (1u << (k))
#define NEED_OUT(k) (1u << (16 + (k)))
static_assert(OP_MAX_IN <= 16, "bits of inputs and outputs must not meet");

typedef struct op_def {
    const char *name;
    int n_in, n_out;
    uint32_t optional;       /* bit i: input i may be absent */
    uint32_t differentiable; /* bit i: input i has a gradient */
    uint32_t need[OP_MAX_IN];
    /* bit k: out[k] costs no product, and where backward reads it, it is made anew rather than kept: forward is called
     * again, with the data of what remake_reads names (a mask like need) and of all outputs, NULL for other inputs */
    uint32_t remake, remake_reads;
    int inplace;     /* the input whose buffer out[0] may take over, -1: none */
    int passthrough; /* the input whose gradient may share gout's buffer, -1: none */
    bool second;     /* out[1] has a gradient, too */
    /* Sets rank, dims and dtype of every output; in[].data may be NULL. First dims may be unknown step sizes, for which
     * the tape puts large numbers (train/tape/tape.c): they are compared and passed on, never computed with beyond +-1.
     * Says by name what is wrong. */
    status_t (*infer)(const void *attr, const view_t *in, view_t *out);
} op_def_t;

extern const op_def_t *const op_defs[OP_COUNT];

/* One kernel of a backend. scratch gives the bytes needed for the shapes in io (the larger of forward and backward);
 * NULL means none. bwd NULL: the op has no gradient. fwd NULL: the backend lacks the op (an error when planning). */
typedef struct op_kernel {
    op_fn fwd, bwd;
    size_t (*scratch)(const op_io_t *io);
} op_kernel_t;

typedef struct backend {
    const char *name;
    dtype_t real;                 /* of activations; statistics of bfloat16 ones are float (kernels/ops/check.h) */
    dtype_t weight;               /* of frozen weights; trained ones are float beside bfloat16 activations */
    bool on_device;               /* kernels work in a device's memory */
    const vector_calls_t *vector; /* NULL: of a reference backend in double, which trains nothing */
    op_kernel_t kernel[OP_COUNT];
    int64_t head_dim_max; /* of attention; 0: any */
} backend_t;

extern const backend_t backend_ref_f32; /* kernels/ref in float */
extern const backend_t backend_ref_f64; /* kernels/ref in double: the specification */
extern const backend_t backend_cpu;     /* kernels/cpu, float32, OpenMP */
/* backend_cuda_f32 and backend_cuda_bf16 are in kernels/cuda.h. */
