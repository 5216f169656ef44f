/* The tape: a model as a straight list of ops, emitted once, planned once, executed every step (DESIGN 4).
 *
 * It knows no method, model, file or rank. There is no autograd: backward is the list walked from the end, each op's
 * hand-written bwd called with the gradients that are wanted. Errors while emitting are sticky: emits on a failed tape
 * return an invalid value and do nothing, and tape_plan returns the first error, so that builders read as mathematics.
 *
 * Shapes: the first dimension of a value may be one of four step sizes (N rows, M loss rows, S sequences, P prefix
 * rows). Memory is
 * planned for their capacities; a step sets the present sizes and allocates nothing. All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "kernels/op.h"
#include "train/tape/param.h"

typedef struct tape tape_t;
typedef struct val {
    int32_t id; /* -1: absent or invalid */
} val_t;
#define VAL_NONE ((val_t){-1})

/* Step sizes, used as negative dimensions when declaring inputs. */
enum { DIM_N = -1, DIM_M = -2, DIM_S1 = -3, DIM_S = -4, DIM_P = -5 }; /* S1 = S + 1, the length of cu_seqlens */
typedef struct tape_sizes {
    int64_t n, m, s, p; /* rows (tokens and slots), loss rows, sequences, prefix rows */
} tape_sizes_t;

/* A tape over the parameters of `params` (kept, not owned) for a backend; one whose kernels are on a device works on
 * the parameters' copy there (param_set_place). */
status_t tape_open(const backend_t *backend, param_set_t *params, tape_t **out);
void tape_close(tape_t *t);

/* A parameter's value. */
val_t tape_param(tape_t *t, int index);
/* A per-step input filled by the caller before tape_forward: tape_input_data gives its memory after planning. */
val_t tape_input(tape_t *t, const char *name, dtype_t dtype, int rank, const int64_t *dim);
/* Memory that outlives steps (a key/value cache), zeroed when planned, no gradient. */
val_t tape_state(tape_t *t, const char *name, dtype_t dtype, int rank, const int64_t *dim);
/* Emits one op. `attr` is copied (attr_size bytes). Inputs beyond n_in are absent. Returns out[0]; *aux, when not NULL,
 * receives out[1]. `site` names the node in reports and errors. */
val_t tape_emit(tape_t *t, op_t op, const char *site, int n_in, const val_t *in, const void *attr, size_t attr_size,
                val_t *aux);
/* Records a failure found by a builder. */
void tape_fail(tape_t *t, status_t st);
/* Nodes between begin and end form a segment; with recompute its activations are not kept but replayed in backward. */
void tape_segment_begin(tape_t *t, bool recompute);
void tape_segment_end(tape_t *t);
/* Marks a value that the caller reads after tape_forward (its buffer stays until the end of forward). */
void tape_keep(tape_t *t, val_t v);
/* A further loss [1] beside the one that tape_plan is given: the gradients are those of the sum of all. */
void tape_loss(tape_t *t, val_t v);
/* The type of the backend's activations. */
dtype_t tape_real(const tape_t *t);
/* Static shape of a value as declared (negative dims are step sizes). */
const view_t *tape_shape(const tape_t *t, val_t v);

/* Plans for at most `capacity` sizes: who needs gradients, what is kept, the schedule, one arena. `loss` is the value
 * whose gradient is 1, VAL_NONE for a forward-only tape. `with_grad` false plans forward alone. */
status_t tape_plan(tape_t *t, tape_sizes_t capacity, val_t loss, bool with_grad);

/* After planning: sets the sizes of this step (<= capacity), then forward, then backward. Parameter gradients are
 * added to the memory given by tape_grad_base. */
void tape_set_sizes(tape_t *t, tape_sizes_t sizes);
void tape_set_step(tape_t *t, op_step_t step);
/* Where parameter gradients go: a blob laid out as the trainable blob (params->grad by default). */
void tape_set_grad(tape_t *t, void *blob);
void tape_forward(tape_t *t);
void tape_backward(tape_t *t);
/* Backward in parts, in order, which together are all its events: 0 .. tape_backward_events - 1. The bits are those of
 * one pass. After the first tape_gradient_done events nothing is added any more to the gradient of that parameter; 0:
 * it has none. */
int64_t tape_backward_events(const tape_t *t);
int64_t tape_gradient_done(const tape_t *t, int param);
void tape_backward_part(tape_t *t, int64_t first, int64_t end);
/* Memory on the host: of an input, to be written before tape_forward, of a parameter, and without a device of a state
 * or kept value. */
void *tape_data(const tape_t *t, val_t v);
view_t tape_view(const tape_t *t, val_t v); /* the same with the present shape */
/* A kept value after forward, on the host, bfloat16 as float: from a device it is fetched after a wait, whose errors
 * are returned. */
status_t tape_fetch(const tape_t *t, val_t v, void **out);
bool tape_on_device(const tape_t *t);
/* Where kernels find the value. */
void *tape_address(const tape_t *t, val_t v);

/* Whether a device's passes are recorded when sizes come again (the default) or always run op by op. The bits are the
 * same. Nothing without a device. */
void tape_set_recording(tape_t *t, bool on);
/* How many passes are recorded now: for reports and tests. */
int tape_recorded(const tape_t *t);

/* Lets n planned tapes of which one is at work at a time use the largest arena and the largest scratch among them; the
 * others are freed. No tape runs after one of them was closed, and what was kept stands until another one runs. Once
 * for a tape. */
void tape_share_memory(tape_t *const *t, int n);
/* Bytes of the arena and scratch that the tape needs, for `plan` and tests. */
size_t tape_arena_bytes(const tape_t *t);
/* Writes one line per node with its shapes: for people. */
void tape_print(const tape_t *t, FILE *f);
