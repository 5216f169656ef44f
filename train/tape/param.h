/* Parameters: named tensors of the base model (frozen) and of the methods (trainable).
 *
 * Trainable tensors lie back to back in one float32 blob, in the order they were declared, and their gradients in a
 * second blob of the same layout, so that zeroing, clipping and reducing are one call over one array.
 * Frozen tensors own their memory in one blob of the backend's dtype. A window is a trainable tensor that is some rows
 * of a frozen one: it has a gradient like any other, but its values are the frozen tensor's own (its place in the
 * trainable blob stays 0). So what reads the whole tensor needs not know that some of it is trained. On a device whose
 * frozen weights are bfloat16 the window has its place in the blob, as float, and param_settle rounds it into them.
 *
 * A set may have a copy in a device's memory (param_set_place), which kernels read and updates change there. The
 * host's values stay, for everything that is not a step: initial values, files, exports. They are the same after
 * param_upload and param_download; in between, the device's are the newer ones. *local* */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/status.h"
#include "kernels/device.h"
#include "kernels/op.h"
#include "kernels/view.h"

typedef struct param {
    char *name;      /* scope and own name; unique */
    const char *own; /* the PEFT or Hugging Face parameter name */
    view_t value;    /* on the host, of the set's dtype */
    void *at;        /* on the set's device; NULL without one */
    int64_t offset;  /* first element in the trainable blob, or in the frozen blob; set by param_set_alloc */
    bool trainable;
    bool idle;                 /* no pass reads it: param_train does not count */
    bool shared;               /* frozen, and its memory is another set's */
    const struct param *owner; /* the other set's, which outlives this one */
    bool decay;                /* weight decay applies (not for biases and norm weights) */
    double lr_scale;           /* learning rate as a multiple of the run's; 1 */
    int window_of;             /* parameter whose rows these are, -1: none */
    int64_t window_first;
} param_t;

typedef struct param_set {
    param_t *item;
    int64_t count, cap;
    int64_t n_trainable, n_frozen; /* elements; set by param_set_alloc; shared ones are not counted */
    int64_t n_shared;
    const char *scope;               /* put in front of the names declared from now on; NULL: nothing */
    dtype_t real;                    /* dtype of every value: float32, double for the oracle's tests */
    void *trainable, *frozen, *grad; /* blobs, NULL until param_set_alloc */
    device_t *device;                /* NULL: the host alone */
    dtype_t device_weight;           /* of frozen tensors there */
    const vector_calls_t *vector;    /* of its backend */
    void *device_trainable, *device_frozen, *device_grad;
} param_set_t;

void param_set_init(param_set_t *s, dtype_t real);
void param_set_release(param_set_t *s);
/* Declares a tensor (rank 1 or 2) before param_set_alloc; *index is its place for param_set_at. ST_INTERNAL on a
 * repeated name. */
status_t param_declare(param_set_t *s, const char *name, int rank, const int64_t *dim, bool trainable, bool decay,
                       int *index);
/* Declares rows first .. first+rows of the frozen matrix `of` as a trainable tensor. ST_INTERNAL when they are not all
 * in it, or when it is trainable itself by the time of param_set_alloc. */
status_t param_declare_window(param_set_t *s, const char *name, int of, int64_t first, int64_t rows, int *index);
/* Makes a declared tensor trainable (full fine-tuning of base weights). Before param_set_alloc. */
void param_train(param_set_t *s, int index);
/* Says that a method computes with other tensors in the place of this one, which therefore stays frozen even where it
 * is asked for with param_train. Before param_set_alloc. */
void param_idle(param_set_t *s, int index);
/* Lets a tensor use the memory of the same one in `owner`, which has been allocated and must outlive s; nothing happens
 * where it is not frozen, without windows and of one shape, in both. Right before param_set_alloc, when everything is
 * declared. */
void param_share(param_set_t *s, int index, const param_set_t *owner);
/* Places all tensors and allocates the blobs (aligned, zeroed) and points every value into them. with_grad:
 * also the gradient blob. */
status_t param_set_alloc(param_set_t *s, bool with_grad);
/* Gives the set its copy on a device, frozen weights in the type that the backend takes, trainable ones and gradients
 * as float; d NULL: nothing. Once, when all values are there and after the owner of shared ones. Errors: ST_NOMEM, what
 * the device says. */
status_t param_set_place(param_set_t *s, device_t *d, const backend_t *backend);
/* Gives up that copy. */
void param_set_unplace(param_set_t *s);
/* The trainable tensors from the host to the device, and back; nothing without a device. They wait. */
status_t param_upload(const param_set_t *s);
status_t param_download(const param_set_t *s);
/* After trained values changed on the device: brings windows into the tensors whose rows they are, where those are of
 * another type. Does not wait. */
void param_settle(const param_set_t *s);
/* Whether the values that updates change lie in the trainable blob, at the parameter's offset. */
bool param_in_blob(const param_set_t *s, const param_t *p);
/* The type in which a backend's kernels read the parameter. */
dtype_t param_dtype(const param_t *p, const backend_t *backend);
/* Index by name, -1 if none. Linear in the number of tensors: for set-up only. */
int param_find(const param_set_t *s, const char *name);
/* The gradient of a trainable parameter as a view. */
view_t param_grad(const param_set_t *s, int index);
