/* A run on one backend compared with the double reference, or with another run bit by bit. *local* */
#pragma once
#include "tests/op/common_case.h"

/* Largest error relative to the largest number of the tensor; docs/numerics.md says why. */
extern const double check_limit_float[OP_COUNT];
enum { CHECK_BF16_PER_MILLE = 10 };

/* A table's type is an attribute, float in the cases. */
bool op_has_other_type(const op_case_t *c, const backend_t *b);

/* `started`: got holds the sum of run_start_value and what is wanted. */
void check_close(const op_case_t *c, const char *what, int place, const view_t *got, const view_t *want, double limit,
                 bool started);
void check_same_bits(const op_case_t *c, const char *what, int place, const view_t *a, const view_t *b);
void check_same_run(const run_t *a, const run_t *b);

/* Outputs and gradients of a run with all gradients against the double reference, and gradients added to. */
void check_run(const run_t *got, dtypes_t types);
/* The same of one case on one backend. */
void check_case(const op_case_t *c, const backend_t *backend);
/* Outputs that can be made anew (op_def_t.remake) get the bits they had, from what the op says this takes. */
void check_remake(const op_case_t *c, const backend_t *backend, const run_options_t *options);
