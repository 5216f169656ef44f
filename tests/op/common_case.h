/* One execution of one op on one backend, with every buffer between sentinels. *local*
 *
 * A case is data: shapes, attributes and the integers an op reads. Reals are drawn from a fixed stream and are exact in
 * float, so all backends see the same numbers. Outputs, gradients and scratch start as NaN: what a kernel forgets to
 * write, or reads before writing, shows. */
#pragma once
#include "kernels/op.h"

typedef struct op_case {
    const char *name;
    op_t op;
    const void *attr;
    struct {
        char kind; /* 0 absent, 'r' real, 'i' int32, 'w' float32, 'k' uint64, 'v' rows of input 1 */
        int rank;
        int64_t dim[VIEW_MAX_RANK];
        const void *data; /* of kinds i and k; of w: NULL draws from [0, 1); of v: int64_t, the first row */
    } in[OP_MAX_IN];
    bool training;
} op_case_t;

/* All cases, over the lists of the files common_cases*.c. */
typedef struct op_cases {
    const op_case_t *item;
    int count;
} op_cases_t;
extern const op_cases_t op_cases_main, op_cases_rows, op_cases_routed, op_cases_attention, op_cases_objective,
    op_cases_even, op_cases_products, op_cases_tall;
int op_case_count(void);
const op_case_t *op_case_at(int n);

enum { CASE_BUFFERS = OP_MAX_IN + OP_MAX_OUT + OP_MAX_IN + 3 };

typedef struct run {
    op_io_t io;
    op_step_t step;
    const op_case_t *c;
    const backend_t *backend;
    struct run_buffer {
        unsigned char *block;
        size_t bytes;
    } buffer[CASE_BUFFERS];
    int buffers;
} run_t;

/* The types that a backend for bfloat16 sees; others have one type. The reference is given the same, so that it draws
 * the same numbers: those of bfloat16 tensors are exact in bfloat16. */
typedef struct dtypes {
    dtype_t real, weight; /* of activations, of parameters: DT_F32 or DT_BF16; the latter are frozen */
} dtypes_t;

/* What is unusual about a run. */
typedef struct run_options {
    dtypes_t types;
    struct device *device;
    bool inplace, passthrough;
    bool acc;           /* gradients start from known numbers and are added to */
    uint32_t gradients; /* bit i: input i's gradient is wanted */
    uint32_t missing;   /* bit o: no gradient arrives at output o, of an op with two */
    bool only_needed;   /* inputs and outputs that the op says backward does not read are gone in backward */
} run_options_t;

/* The op's shape rules allow these types. */
bool run_is_legal(const op_case_t *c, const backend_t *backend, dtypes_t types);

/* Allocates and fills everything, runs forward and, when gradients are wanted and the op has them, backward. */
void run_make(run_t *r, const op_case_t *c, const backend_t *backend, const run_options_t *options);
/* Forward alone, once more, with the present inputs. */
void run_forward(run_t *r);
/* Element i of an input, output or gradient is `value` from now on. */
void view_put(const view_t *v, int64_t i, double value);
void run_release(run_t *r); /* checks the sentinels first */

/* Element i of a view as a double. */
double view_at(const view_t *v, int64_t i);

/* The number that an accumulated gradient starts from. */
double run_start_value(int64_t i);
