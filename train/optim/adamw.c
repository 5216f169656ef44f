#include "train/optim/adamw.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

/* The tiles of one tensor that are in the share, or only their number. */
static int64_t tensor_tiles(const adamw_t *a, const param_t *p, float *x, vector_tile_t *tile) {
    int64_t lo = p->offset, hi = lo + view_count(&p->value), end = a->first + a->n, count = 0;
    if (lo < a->first) lo = a->first;
    if (hi > end) hi = end;
    for (int64_t at = lo; at < hi; at += VECTOR_BLOCK) {
        int64_t n = hi - at < VECTOR_BLOCK ? hi - at : VECTOR_BLOCK;
        if (tile) tile[count] = (vector_tile_t){x + (at - p->offset), at, n, p->lr_scale, p->decay};
        count++;
    }
    return count;
}

static int64_t all_tiles(const adamw_t *a, const param_set_t *params, vector_tile_t *tile) {
    int64_t count = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const param_t *p = &params->item[i];
        void *x = params->device ? p->at : p->value.data;
        if (p->trainable) count += tensor_tiles(a, p, x, tile ? tile + count : NULL);
    }
    return count;
}

static status_t alloc(adamw_t *a, int64_t n, size_t size, void **out) {
    return device_alloc(a->device, (size_t)n * size, "optimiser state", out);
}

static status_t upload_tiles(adamw_t *a, const param_set_t *params) {
    void *host, *tile;
    a->own.n_tile = all_tiles(a, params, NULL);
    size_t bytes = (size_t)a->own.n_tile * sizeof(vector_tile_t);
    TRY(alloc(a, a->own.n_tile, sizeof(vector_tile_t), &tile));
    a->own.tile = tile;
    TRY(buf_calloc(&host, a->own.n_tile, sizeof(vector_tile_t), "optimiser state"));
    all_tiles(a, params, host);
    device_upload(a->device, tile, host, bytes);
    status_t st = device_sync(a->device, "optimiser state");
    free(host);
    return st;
}

static status_t alloc_state(adamw_t *a) {
    void *p;
    TRY(alloc(a, a->n, sizeof(float), &p));
    a->own.exp_avg = p;
    TRY(alloc(a, a->n, sizeof(float), &p));
    a->own.exp_avg_sq = p;
    TRY(alloc(a, vector_blocks(a->n_all), sizeof(double), &p));
    a->partial = p;
    TRY(alloc(a, (int64_t)a->n_share * ADAMW_APART, sizeof(double), &p));
    a->squares = p;
    TRY(alloc(a, 1, sizeof(vector_step_t), &p));
    a->now = p;
    TRY(alloc(a, 1, sizeof(vector_outcome_t), &p));
    a->outcome = p;
    TRY(device_alloc_pinned(a->device, ADAMW_SLOTS * sizeof(vector_step_t), "optimiser state", &p));
    a->sent = p;
    TRY(device_alloc_pinned(a->device, ADAMW_SLOTS * sizeof(vector_outcome_t), "optimiser state", &p));
    a->seen = p;
    return ST_OK;
}

status_t adamw_open(const vector_calls_t *vector, const param_set_t *params, const adamw_options_t *o, adamw_t *out) {
    memset(out, 0, sizeof *out);
    out->vector = vector;
    out->device = params->device;
    out->n_all = params->n_trainable;
    out->is_share = o->is_share;
    out->first = o->is_share ? o->first : 0;
    out->n = o->is_share ? o->n : out->n_all;
    out->n_share = o->is_share ? o->n_share : 0;
    out->share = o->share;
    assert(out->first >= 0 && out->n >= 0 && out->first <= out->n_all - out->n);
    out->own = (vector_adamw_t){.first = out->first,
                                .beta1 = o->beta1,
                                .beta2 = o->beta2,
                                .epsilon = o->epsilon,
                                .weight_decay = o->weight_decay};
    TRY(alloc_state(out));
    return upload_tiles(out, params);
}

void adamw_close(adamw_t *a) {
    device_release(a->device, a->own.exp_avg);
    device_release(a->device, a->own.exp_avg_sq);
    device_release(a->device, (void *)a->own.tile);
    device_release(a->device, a->partial);
    device_release(a->device, a->squares);
    device_release(a->device, a->now);
    device_release(a->device, a->outcome);
    device_release_pinned(a->device, a->sent);
    device_release_pinned(a->device, a->seen);
    memset(a, 0, sizeof *a);
}

static int64_t slot(int64_t step) {
    return step % ADAMW_SLOTS;
}

static void begin(adamw_t *a, double scale, double max_norm, double lr) {
    vector_step_t *sent = &a->sent[slot(++a->step)];
    *sent = (vector_step_t){.scale = scale,
                            .max_norm = max_norm,
                            .rate = lr,
                            .correction1 = 1.0 - pow(a->own.beta1, (double)a->step),
                            .correction2 = 1.0 - pow(a->own.beta2, (double)a->step)};
    device_upload(a->device, a->now, sent, sizeof *sent);
}

/* `squares`: n sums that make the whole gradient's. */
static void finish(adamw_t *a, const float *grad, const double *squares, int64_t n) {
    a->vector->norm(a->device, squares, n, a->now, a->outcome);
    a->vector->adamw(a->device, &a->own, grad, a->now, a->outcome);
    device_download(a->device, &a->seen[slot(a->step)], a->outcome, sizeof *a->outcome);
}

void adamw_update(adamw_t *a, const float *grad, double scale, double max_norm, double lr) {
    begin(a, scale, max_norm, lr);
    a->vector->squares(a->device, grad, a->n_all, a->now, a->partial);
    finish(a, grad, a->partial, vector_blocks(a->n_all));
}

void adamw_measure(adamw_t *a, const float *grad, double scale, double max_norm, double lr) {
    assert(a->is_share && a->share < a->n_share);
    begin(a, scale, max_norm, lr);
    a->vector->squares(a->device, grad + a->first, a->n, a->now, a->partial);
    a->vector->sum(a->device, a->partial, vector_blocks(a->n), a->squares + (ptrdiff_t)a->share * ADAMW_APART);
}

void adamw_apply(adamw_t *a, const float *grad) {
    finish(a, grad, a->squares, (int64_t)a->n_share * ADAMW_APART);
}

const vector_outcome_t *adamw_outcome(const adamw_t *a, int64_t step) {
    assert(step <= a->step && step > a->step - ADAMW_SLOTS);
    return &a->seen[slot(step)];
}

status_t adamw_fetch(const adamw_t *a, float *exp_avg, float *exp_avg_sq) {
    size_t bytes = (size_t)a->n * sizeof(float);
    device_download(a->device, exp_avg, a->own.exp_avg, bytes);
    device_download(a->device, exp_avg_sq, a->own.exp_avg_sq, bytes);
    return device_sync(a->device, "optimiser state");
}

void adamw_load(adamw_t *a, int64_t at, int64_t n, const float *exp_avg, const float *exp_avg_sq) {
    assert(at >= a->first && n >= 0 && at + n <= a->first + a->n);
    device_upload(a->device, a->own.exp_avg + (at - a->first), exp_avg, (size_t)n * sizeof(float));
    device_upload(a->device, a->own.exp_avg_sq + (at - a->first), exp_avg_sq, (size_t)n * sizeof(float));
}
