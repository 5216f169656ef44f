/* Inside of the tape, shared by tape.c (emit), plan.c and exec.c. */
#pragma once
#include "kernels/buf.h"
#include "train/tape/tape.h"

typedef enum val_kind { VAL_PARAM, VAL_INPUT, VAL_STATE, VAL_NODE } val_kind_t;

typedef struct tape_val {
    val_kind_t kind;
    view_t shape;      /* declared: negative first dim is a step size; data NULL */
    const char *name;  /* owned for inputs and states */
    int32_t param;     /* VAL_PARAM */
    int32_t node, out; /* VAL_NODE: producer and which output */
    bool needs_grad;
    bool keep;         /* read by the caller after forward */
    bool loss;         /* its gradient is 1 */
    bool remade;       /* backward reads a second instance, made anew before its first reader */
    int32_t buffer[2]; /* of the forward instance and of the replayed or remade one, -1 none */
    int32_t grad;      /* buffer of the gradient, -1 none */
    void *data;        /* on the host: inputs and states; with a device the copy of a kept value */
    void *at;          /* on the device: inputs and states */
    size_t offset;     /* of an input in the staging blocks */
} tape_val_t;

typedef struct tape_node {
    op_t op;
    const op_def_t *def;
    char *site;
    int n_in;
    int32_t in[OP_MAX_IN], out[OP_MAX_OUT];
    void *attr;
    int32_t segment; /* -1: none */
    bool inplace;    /* out[0] lives in the buffer of in[def->inplace] */
    bool needs_grad;
    bool replayed;
} tape_node_t;

/* REPLAY: forward once more inside a recomputed segment. REMAKE: forward once more for outputs that op_def_t.remake
 * names. */
typedef enum event_kind { EVENT_FORWARD, EVENT_REPLAY, EVENT_REMAKE, EVENT_BACKWARD } event_kind_t;

typedef struct tape_event {
    event_kind_t kind;
    int32_t node;
    op_io_t io; /* pointers fixed by the plan, dims refreshed when sizes change */
    /* for the gradients of parameters: element offset in the gradient blob, -1 if not one */
    int64_t grad_offset[OP_MAX_IN];
} tape_event_t;

typedef struct tape_buffer {
    size_t bytes, offset;
    int32_t first, last; /* events between which it is alive */
} tape_buffer_t;

typedef struct tape_segment {
    bool recompute;
    int32_t first, last; /* nodes */
} tape_segment_t;

/* Work of a device as it was recorded for one set of sizes; see record.c. */
typedef struct tape_record {
    int64_t first, end; /* its events */
    bool training;
    tape_sizes_t sizes;
    const void *grad;      /* where a backward pass puts gradients of parameters */
    device_graph_t *graph; /* NULL: such a pass was there once */
} tape_record_t;
enum { TAPE_RECORDS = 256 };

struct tape {
    const backend_t *backend;
    device_t *device; /* the parameters', for a backend that has its kernels there; else NULL */
    param_set_t *params;
    status_t error;
    char *error_text;
    tape_val_t *val;
    int64_t n_val, cap_val;
    tape_node_t *node;
    int64_t n_node, cap_node;
    tape_segment_t *segment;
    int64_t n_segment, cap_segment;
    bool in_segment;
    tape_event_t *event;
    int64_t n_event, cap_event, n_forward; /* events [0, n_forward) are forward */
    tape_buffer_t *buffer;
    int64_t n_buffer, cap_buffer;
    tape_sizes_t capacity, sizes;
    val_t loss;
    bool planned;
    void *arena, *scratch, *grad_blob;
    bool borrows_arena, borrows_scratch; /* of another tape */
    size_t arena_bytes, scratch_bytes;
    double loss_grad; /* gout of the loss */
    op_step_t step;
    void *up, *staging[2]; /* a device's block of inputs, and what goes into it next and went into it last */
    size_t up_bytes;
    int turn; /* the staging block that is filled now */
    tape_record_t record[TAPE_RECORDS];
    int n_record;
    bool no_records;
};

/* memory.c: everything of a planned tape but its scratch. */
status_t tape_memory_open(tape_t *t);
void tape_memory_close(tape_t *t);
status_t tape_memory_get(const tape_t *t, size_t bytes, const char *what, void **out);
/* Where kernels of a device find the step (NULL without one), and any kernel the gradient of a loss. */
const void *tape_memory_step(const tape_t *t);
const void *tape_memory_loss_grad(const tape_t *t);
/* Puts the inputs and the step on the device; nothing without one. */
void tape_memory_upload(tape_t *t);

/* Events first .. end - 1, one by one. */
void tape_run_events(const tape_t *t, int64_t first, int64_t end);
/* record.c: events first .. end - 1 of a pass, as a whole where they were recorded. */
void tape_run_pass(tape_t *t, int64_t first, int64_t end);
/* Recorded passes hold addresses: none is left after this. */
void tape_forget_records(tape_t *t);

/* The shape with step sizes put in. */
view_t tape_shape_at(const view_t *shape, tape_sizes_t sizes);
