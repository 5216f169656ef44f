/* The device's copy of a parameter set. */
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/tape/param.h"

enum { PIECE = 1 << 22 }; /* elements converted at a time */

dtype_t param_dtype(const param_t *p, const backend_t *backend) {
    if (!backend->on_device) return p->value.dtype;
    return p->trainable ? DT_F32 : backend->weight;
}

/* bfloat16 by rounding to nearest, ties to even, as the device's own conversion; NaN stays NaN. */
static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static status_t upload_frozen(param_set_t *s, dtype_t weight) {
    if (weight == DT_F32) {
        device_upload(s->device, s->device_frozen, s->frozen, (size_t)s->n_frozen * sizeof(float));
        return device_sync(s->device, "frozen weights");
    }
    void *p;
    status_t st = ST_OK;
    TRY(device_alloc_pinned(s->device, PIECE * sizeof(uint16_t), "frozen weights", &p));
    uint16_t *piece = p;
    for (int64_t at = 0; at < s->n_frozen && st == ST_OK; at += PIECE) {
        int64_t n = s->n_frozen - at < PIECE ? s->n_frozen - at : PIECE;
        for (int64_t i = 0; i < n; i++) piece[i] = to_bf16(((const float *)s->frozen)[at + i]);
        device_upload(s->device, (uint16_t *)s->device_frozen + at, piece, (size_t)n * sizeof *piece);
        st = device_sync(s->device, "frozen weights");
    }
    device_release_pinned(s->device, p);
    return st;
}

/* A window has the memory of the rows it is, so both must be of one type. */
static status_t point(param_set_t *s, dtype_t weight) {
    for (int64_t i = 0; i < s->count; i++) {
        param_t *p = &s->item[i];
        size_t size = p->trainable ? sizeof(float) : dtype_size(weight);
        if (p->window_of >= 0) {
            if (weight != DT_F32)
                return st_raise(ST_USAGE, "model.dtype",
                                "added tokens are trained in place, which needs float32 weights; take float32");
            p->at = (char *)s->item[p->window_of].at + (size_t)(p->window_first * p->value.dim[1]) * size;
        } else if (p->shared) {
            p->at = p->owner->at;
        } else {
            p->at = (char *)(p->trainable ? s->device_trainable : s->device_frozen) + (size_t)p->offset * size;
        }
    }
    return ST_OK;
}

status_t param_set_place(param_set_t *s, device_t *d, dtype_t weight) {
    if (!d) return ST_OK;
    if (s->real != DT_F32) return st_raise(ST_INTERNAL, "device", "parameters that are not float32");
    s->device = d;
    TRY(device_alloc(d, (size_t)s->n_trainable * sizeof(float), "trainable weights", &s->device_trainable));
    TRY(device_alloc(d, (size_t)s->n_frozen * dtype_size(weight), "frozen weights", &s->device_frozen));
    if (s->grad) TRY(device_alloc(d, (size_t)s->n_trainable * sizeof(float), "gradients", &s->device_grad));
    TRY(point(s, weight));
    TRY(upload_frozen(s, weight));
    return param_upload(s);
}

/* Trainable tensors outside of the blob. */
static void copy_windows(const param_set_t *s, void (*copy)(device_t *, void *, const void *, size_t), bool up) {
    for (int64_t i = 0; i < s->count; i++) {
        const param_t *p = &s->item[i];
        if (p->window_of >= 0)
            copy(s->device, up ? p->at : p->value.data, up ? p->value.data : p->at, view_bytes(&p->value));
    }
}

status_t param_upload(const param_set_t *s) {
    if (!s->device) return ST_OK;
    device_upload(s->device, s->device_trainable, s->trainable, (size_t)s->n_trainable * sizeof(float));
    copy_windows(s, device_upload, true);
    return device_sync(s->device, "trainable weights");
}

status_t param_download(const param_set_t *s) {
    if (!s->device) return ST_OK;
    device_download(s->device, s->trainable, s->device_trainable, (size_t)s->n_trainable * sizeof(float));
    copy_windows(s, device_download, false);
    return device_sync(s->device, "trainable weights");
}

void param_set_unplace(param_set_t *s) {
    device_release(s->device, s->device_trainable);
    device_release(s->device, s->device_frozen);
    device_release(s->device, s->device_grad);
    s->device_trainable = s->device_frozen = s->device_grad = NULL;
    s->device = NULL;
}
