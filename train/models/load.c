/* Copies base weights from mapped files into the frozen blob: conversion, transposition, row order. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/models/model.h"

enum { PIECE = 1 << 16 }; /* elements that a thread takes at a time */

int64_t model_gguf_row(const model_t *m, int flags, int64_t row) {
    if (!(flags & (WEIGHT_PERMUTED_Q | WEIGHT_PERMUTED_K))) return row;
    int64_t h = m->config.head_dim, head = row / h, r = row % h; /* r = s * h/2 + j is at 2j + s (formats.md 2.7) */
    return head * h + 2 * (r % (h / 2)) + r / (h / 2);
}

/* Hub files of GPT-2 lack the `transformer.` prefix that models saved by transformers have. */
static const tensor_info_t *find(const weights_t *w, const model_weight_t *mw) {
    if (weights_gguf(w)) return weights_find(w, mw->gguf);
    const tensor_info_t *t = weights_find(w, mw->hf);
    const char *dot = strchr(mw->hf, '.');
    if (!t && dot && !strncmp(mw->hf, "transformer.", 12)) t = weights_find(w, dot + 1);
    return t;
}

/* `first` is the number of rows in the file. */
static status_t check_shape(const tensor_info_t *t, const view_t *v, int64_t first, bool transposed) {
    int64_t want[2] = {first, v->dim[1]};
    if (transposed) {
        want[0] = v->dim[1];
        want[1] = first;
    }
    bool same = t->rank == v->rank;
    for (int i = 0; same && i < v->rank; i++) same = t->dim[i] == want[i];
    if (same) return ST_OK;
    char got[160] = "";
    for (int i = 0, n = 0; i < t->rank && n < 140; i++)
        n += snprintf(got + n, sizeof got - (size_t)n, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    if (v->rank == 1)
        return st_raise(ST_INPUT, t->file, "tensor '%s' has shape [%s]; the configuration asks for [%lld]", t->name,
                        got, (long long)want[0]);
    return st_raise(ST_INPUT, t->file, "tensor '%s' has shape [%s]; the configuration asks for [%lld, %lld]", t->name,
                    got, (long long)want[0], (long long)want[1]);
}

/* One tensor on its way: rows of the file to rows, or columns, of the blob. */
typedef struct job {
    const model_t *m;
    const tensor_info_t *from;
    const view_t *to;
    int flags;
    bool gguf, transposed;
    int64_t rows, cols;
} job_t;

static bool all_finite(const float *x, int64_t n) {
    int32_t most = 0; /* without a branch, so that many are looked at together */
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return most < 0x7f800000;
}

static void store(const view_t *v, int64_t at, int64_t stride, const float *src, int64_t n) {
    if (v->dtype == DT_F64) {
        double *d = v->data;
        for (int64_t i = 0; i < n; i++) d[at + i * stride] = (double)src[i];
    } else {
        float *d = v->data;
        for (int64_t i = 0; i < n; i++) d[at + i * stride] = src[i];
    }
}

/* `row` is used where the row cannot be converted into its place. */
static status_t load_row(const job_t *x, int64_t r, float *row) {
    const int64_t from = x->gguf ? model_gguf_row(x->m, x->flags, r) : r, cols = x->cols;
    const bool in_place = !x->transposed && x->to->dtype == DT_F32;
    if (in_place) row = (float *)x->to->data + r * cols;
    TRY(tensor_info_read_f32(x->from, from * cols, cols, row));
    if (!all_finite(row, cols)) {
        int64_t i = 0;
        while (isfinite(row[i])) i++;
        return st_raise(ST_INPUT, x->from->file, "tensor '%s' has a non-finite value at element %lld", x->from->name,
                        (long long)(from * cols + i));
    }
    if (x->transposed)
        store(x->to, r, x->rows, row, cols);
    else if (!in_place)
        store(x->to, r * cols, 1, row, cols);
    return ST_OK;
}

static status_t prepare(const model_t *m, const weights_t *w, const model_weight_t *mw, job_t *out) {
    const view_t *v = &m->params.item[mw->param].value;
    const tensor_info_t *t = find(w, mw);
    bool gguf = weights_gguf(w) != NULL, transposed = !gguf && (mw->flags & WEIGHT_TRANSPOSED);
    bool vocabulary = mw->param == m->embed || mw->param == m->head;
    if (!t) return st_raise(ST_INPUT, weights_path(w), "tensor '%s' is missing", gguf ? mw->gguf : mw->hf);
    TRY(check_shape(t, v, vocabulary ? m->file_vocab : v->dim[0], transposed));
    int64_t rows = v->rank == 2 ? t->dim[0] : 1, cols = v->rank == 2 ? t->dim[1] : t->dim[0];
    if (v->rank == 1 && gguf && (mw->flags & (WEIGHT_PERMUTED_Q | WEIGHT_PERMUTED_K))) {
        rows = cols; /* a bias is permuted element by element */
        cols = 1;
    }
    *out = (job_t){m, t, v, mw->flags, gguf, transposed, rows, cols};
    return ST_OK;
}

/* All jobs' rows, which are independent. Of several that fail the first is reported, by another look at it: a status's
 * message belongs to its thread. */
static status_t load_rows(const job_t *job, int64_t n) {
    int64_t widest = 0, bad_job = n, bad_row = 0;
    void *row;
    for (int64_t i = 0; i < n; i++)
        if (job[i].cols > widest) widest = job[i].cols;
    TRY(buf_calloc(&row, omp_get_max_threads() * widest, sizeof(float), "weight rows"));
#pragma omp parallel
    for (int64_t i = 0; i < n; i++) {
        const job_t *x = &job[i];
        const int64_t piece = 1 + PIECE / x->cols;
#pragma omp for schedule(dynamic, piece) nowait
        for (int64_t r = 0; r < x->rows; r++) {
            if (load_row(x, r, (float *)row + omp_get_thread_num() * widest) == ST_OK) continue;
            st_clear();
#pragma omp critical(load_rows)
            if (i < bad_job || (i == bad_job && r < bad_row)) {
                bad_job = i;
                bad_row = r;
            }
        }
    }
    status_t st = bad_job < n ? load_row(&job[bad_job], bad_row, row) : ST_OK;
    free(row);
    return st;
}

status_t model_load(model_t *m, const weights_t *w) {
    void *p;
    int64_t n = 0;
    TRY(buf_calloc(&p, m->n_weight, sizeof(job_t), "weights"));
    job_t *job = p;
    status_t st = ST_OK;
    for (int64_t i = 0; i < m->n_weight && st == ST_OK; i++)
        if (!m->params.item[m->weight[i].param].shared) /* its owner has loaded it */
            st = prepare(m, w, &m->weight[i], &job[n++]);
    if (st == ST_OK) st = load_rows(job, n);
    free(job);
    if (st == ST_OK) m->fingerprint = weights_fingerprint(w);
    weights_forget(w); /* a step does not read them, and they would count as its memory */
    return st;
}
