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

/* Piece by piece through a float buffer on the device, where its own kernel converts. */
static status_t upload_frozen(param_set_t *s, const backend_t *backend) {
    size_t size = dtype_size(backend->weight);
    void *buffer;
    status_t st = ST_OK;
    TRY(device_alloc(s->device, PIECE * sizeof(float), "frozen weights", &buffer));
    for (int64_t at = 0; at < s->n_frozen && st == ST_OK; at += PIECE) {
        int64_t n = s->n_frozen - at < PIECE ? s->n_frozen - at : PIECE;
        device_upload(s->device, buffer, (const float *)s->frozen + at, (size_t)n * sizeof(float));
        backend->vector->convert(s->device, (char *)s->device_frozen + (size_t)at * size, backend->weight, buffer, n);
        st = device_sync(s->device, "frozen weights");
    }
    device_release(s->device, buffer);
    return st;
}

/* The rows of a window in the tensor that they belong to. */
static void *window_rows(const param_set_t *s, const param_t *p) {
    size_t first = (size_t)(p->window_first * p->value.dim[1]);
    return (char *)s->item[p->window_of].at + first * dtype_size(s->device_weight);
}

bool param_in_blob(const param_set_t *s, const param_t *p) {
    return p->trainable && (p->window_of < 0 || (s->device && s->device_weight != DT_F32));
}

/* A window has the memory of the rows it is, where both are of one type. */
static void point(param_set_t *s) {
    for (int64_t i = 0; i < s->count; i++) {
        param_t *p = &s->item[i];
        size_t size = p->trainable ? sizeof(float) : dtype_size(s->device_weight);
        if (p->window_of >= 0 && !param_in_blob(s, p))
            p->at = window_rows(s, p);
        else if (p->shared)
            p->at = p->owner->at;
        else
            p->at = (char *)(p->trainable ? s->device_trainable : s->device_frozen) + (size_t)p->offset * size;
    }
}

void param_settle(const param_set_t *s) {
    for (int64_t i = 0; i < s->count; i++) {
        const param_t *p = &s->item[i];
        if (p->window_of >= 0 && param_in_blob(s, p))
            s->vector->convert(s->device, window_rows(s, p), s->device_weight, p->at, view_count(&p->value));
    }
}

status_t param_set_place(param_set_t *s, device_t *d, const backend_t *backend) {
    if (!d) return ST_OK;
    if (s->real != DT_F32) return st_raise(ST_INTERNAL, "device", "parameters that are not float32");
    s->device = d;
    s->device_weight = backend->weight;
    s->vector = backend->vector;
    TRY(device_alloc(d, (size_t)s->n_trainable * sizeof(float), "trainable weights", &s->device_trainable));
    TRY(device_alloc(d, (size_t)s->n_frozen * dtype_size(backend->weight), "frozen weights", &s->device_frozen));
    if (s->grad) TRY(device_alloc(d, (size_t)s->n_trainable * sizeof(float), "gradients", &s->device_grad));
    point(s);
    TRY(upload_frozen(s, backend));
    return param_upload(s);
}

/* Windows, whose values on the host lie outside of the blob. */
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
    param_settle(s);
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
