/* Copies base weights from mapped files into the frozen blob: conversion, transposition, row order. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/models/model.h"

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

static void store(view_t *v, int64_t at, int64_t stride, const float *src, int64_t n) {
    if (v->dtype == DT_F64) {
        double *d = v->data;
        for (int64_t i = 0; i < n; i++) d[at + i * stride] = (double)src[i];
    } else {
        float *d = v->data;
        if (stride == 1)
            memcpy(d + at, src, (size_t)n * sizeof *d);
        else
            for (int64_t i = 0; i < n; i++) d[at + i * stride] = src[i];
    }
}

static status_t load_one(const model_t *m, const weights_t *w, const model_weight_t *mw, const tensor_info_t *t,
                         float *row) {
    view_t *v = &m->params.item[mw->param].value;
    bool gguf = weights_gguf(w) != NULL, transposed = !gguf && (mw->flags & WEIGHT_TRANSPOSED);
    bool vocabulary = mw->param == m->embed || mw->param == m->head;
    TRY(check_shape(t, v, vocabulary ? m->file_vocab : v->dim[0], transposed));
    int64_t rows = v->rank == 2 ? t->dim[0] : 1, cols = v->rank == 2 ? t->dim[1] : t->dim[0];
    if (v->rank == 1 && gguf && (mw->flags & (WEIGHT_PERMUTED_Q | WEIGHT_PERMUTED_K))) {
        rows = cols; /* a bias is permuted element by element */
        cols = 1;
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = gguf ? model_gguf_row(m, mw->flags, r) : r;
        TRY(tensor_info_read_f32(t, from * cols, cols, row));
        for (int64_t i = 0; i < cols; i++)
            if (!isfinite(row[i]))
                return st_raise(ST_INPUT, t->file, "tensor '%s' has a non-finite value at element %lld", t->name,
                                (long long)(from * cols + i));
        if (transposed)
            store(v, r, rows, row, cols);
        else
            store(v, r * cols, 1, row, cols);
    }
    return ST_OK;
}

status_t model_load(model_t *m, const weights_t *w) {
    int64_t widest = 0;
    for (int64_t i = 0; i < m->n_weight; i++) {
        const view_t *v = &m->params.item[m->weight[i].param].value;
        for (int k = 0; k < v->rank; k++)
            if (v->dim[k] > widest) widest = v->dim[k];
    }
    void *row;
    TRY(buf_calloc(&row, widest, sizeof(float), "weight row"));
    status_t st = ST_OK;
    for (int64_t i = 0; i < m->n_weight && st == ST_OK; i++) {
        if (m->params.item[m->weight[i].param].shared) continue; /* its owner has loaded it */
        const tensor_info_t *t = find(w, &m->weight[i]);
        st = t ? load_one(m, w, &m->weight[i], t, row)
               : st_raise(ST_INPUT, weights_path(w), "tensor '%s' is missing",
                          weights_gguf(w) ? m->weight[i].gguf : m->weight[i].hf);
    }
    free(row);
    if (st == ST_OK) m->fingerprint = weights_fingerprint(w);
    return st;
}
