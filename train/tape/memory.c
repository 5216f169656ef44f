/* Where a tape's memory is: the host's, or a device's with a staging block on the host for what goes up in every step.
 */
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/half.h"
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

enum { UP_ALIGN = 256 };

/* What kernels read of a step besides inputs; at the start of the block that is uploaded. */
typedef struct head {
    op_step_t step;
    double loss_grad;
} head_t;

status_t tape_memory_get(const tape_t *t, size_t bytes, const char *what, void **out) {
    return device_alloc(t->device, bytes, what, out);
}

static size_t rounded_up(size_t bytes) {
    return (bytes + UP_ALIGN - 1) / UP_ALIGN * UP_ALIGN;
}

/* Kept values of bfloat16 come to the host as float. */
static size_t mirror_bytes(const view_t *v) {
    return (size_t)view_count(v) * (v->dtype == DT_BF16 ? sizeof(float) : dtype_size(v->dtype));
}

static size_t capacity_bytes(const tape_t *t, const tape_val_t *v) {
    view_t full = tape_shape_at(&v->shape, t->capacity);
    return view_bytes(&full);
}

/* Two staging blocks in turn: one is filled while the other may still be read by its upload. */
static status_t open_inputs(tape_t *t) {
    t->up_bytes = rounded_up(sizeof(head_t));
    for (int64_t i = 0; i < t->n_val; i++)
        if (t->val[i].kind == VAL_INPUT) t->up_bytes += rounded_up(capacity_bytes(t, &t->val[i]));
    TRY(device_alloc(t->device, t->up_bytes, "inputs", &t->up));
    for (int k = 0; k < 2; k++) TRY(device_alloc_pinned(t->device, t->up_bytes, "inputs", &t->staging[k]));
    size_t offset = rounded_up(sizeof(head_t));
    for (int64_t i = 0; i < t->n_val; i++) {
        tape_val_t *v = &t->val[i];
        if (v->kind != VAL_INPUT) continue;
        v->offset = offset;
        v->at = (char *)t->up + offset;
        offset += rounded_up(capacity_bytes(t, v));
    }
    return ST_OK;
}

static status_t open_value(const tape_t *t, tape_val_t *v) {
    size_t bytes = capacity_bytes(t, v);
    if (t->device && v->kind == VAL_STATE) return device_alloc(t->device, bytes, v->name, &v->at);
    if (t->device && v->kind == VAL_NODE && v->keep) {
        view_t full = tape_shape_at(&v->shape, t->capacity);
        return device_alloc_pinned(t->device, mirror_bytes(&full), t->node[v->node].site, &v->data);
    }
    if (t->device || (v->kind != VAL_INPUT && v->kind != VAL_STATE)) return ST_OK;
    return buf_pages(&v->data, bytes, v->name);
}

status_t tape_memory_open(tape_t *t) {
    if (t->device) TRY(open_inputs(t));
    for (int64_t i = 0; i < t->n_val; i++) TRY(open_value(t, &t->val[i]));
    return tape_memory_get(t, t->arena_bytes, "activations", &t->arena);
}

void tape_memory_close(tape_t *t) {
    for (int64_t i = 0; i < t->n_val; i++) {
        tape_val_t *v = &t->val[i];
        if (t->device) {
            device_release_pinned(t->device, v->data);
            if (v->kind == VAL_STATE) device_release(t->device, v->at);
        } else if (v->kind != VAL_NODE) {
            free(v->data);
        }
    }
    if (!t->borrows_arena) device_release(t->device, t->arena);
    if (!t->borrows_scratch) device_release(t->device, t->scratch);
    device_release(t->device, t->up);
    for (int k = 0; k < 2; k++) device_release_pinned(t->device, t->staging[k]);
}

const void *tape_memory_step(const tape_t *t) {
    return t->device ? t->up : NULL;
}

const void *tape_memory_loss_grad(const tape_t *t) {
    return t->device ? (const void *)((const char *)t->up + offsetof(head_t, loss_grad)) : (const void *)&t->loss_grad;
}

/* What inputs hold stays until it is written anew, so the block that is filled next begins as the one that went up. Its
 * own last upload has to be over; an error here comes up again in the next wait. */
void tape_memory_upload(tape_t *t) {
    if (!t->device) return;
    const head_t head = {t->step, t->loss_grad};
    memcpy(t->staging[t->turn], &head, sizeof head);
    device_upload(t->device, t->up, t->staging[t->turn], t->up_bytes);
    device_mark(t->device, t->turn);
    t->turn = !t->turn;
    if (device_wait(t->device, t->turn, "inputs") != ST_OK) st_clear();
    memcpy(t->staging[t->turn], t->staging[!t->turn], t->up_bytes);
}

bool tape_on_device(const tape_t *t) {
    return t->device != NULL;
}

void *tape_data(const tape_t *t, val_t v) {
    const tape_val_t *x = &t->val[v.id];
    if (x->kind == VAL_PARAM) return t->params->item[x->param].value.data;
    if (x->kind == VAL_INPUT && t->device) return (char *)t->staging[t->turn] + x->offset;
    if (x->kind != VAL_NODE) return x->data;
    return t->device ? NULL : (char *)t->arena + t->buffer[x->buffer[0]].offset;
}

void *tape_address(const tape_t *t, val_t v) {
    const tape_val_t *x = &t->val[v.id];
    if (!t->device) return tape_data(t, v);
    if (x->kind == VAL_PARAM) return t->params->item[x->param].at;
    return x->kind == VAL_NODE ? (char *)t->arena + t->buffer[x->buffer[0]].offset : x->at;
}

view_t tape_view(const tape_t *t, val_t v) {
    view_t out = tape_shape_at(&t->val[v.id].shape, t->sizes);
    out.data = tape_data(t, v);
    return out;
}

/* n bfloat16 numbers in the upper half of the memory become as many floats in all of it. */
static void widen(void *memory, int64_t n) {
    const uint16_t *from = (const uint16_t *)memory + n;
    for (int64_t i = 0; i < n; i++) {
        float x = f32_from_bf16(from[i]);
        memcpy((float *)memory + i, &x, sizeof x);
    }
}

status_t tape_fetch(const tape_t *t, val_t v, void **out) {
    const tape_val_t *x = &t->val[v.id];
    *out = x->kind == VAL_NODE && t->device ? x->data : tape_data(t, v);
    if (!*out) return st_raise(ST_INTERNAL, "tape_fetch", "the value was not kept");
    if (!t->device || x->kind != VAL_NODE) return ST_OK;
    view_t now = tape_shape_at(&x->shape, t->sizes);
    size_t half = mirror_bytes(&now) - view_bytes(&now);
    device_download(t->device, (char *)*out + half, tape_address(t, v), view_bytes(&now));
    TRY(device_sync(t->device, t->node[x->node].site));
    if (half) widen(*out, view_count(&now));
    return ST_OK;
}
