#include "train/methods/prompt_encoder.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/ops/activation.h"
#include "kernels/ops/lstm.h"
#include "train/tape/initial.h"

#define PREFIX "prompt_encoder.default."

static status_t declare_linear(prompt_encoder_t *e, model_t *m, int64_t in, int64_t out) {
    prompt_linear_t *l = &e->linear[e->n_linear];
    char name[96];
    const int64_t dim[2] = {out, in};
    /* the activations between are modules of PEFT's sequence, too */
    snprintf(name, sizeof name, PREFIX "mlp_head.%d.weight", 2 * e->n_linear);
    TRY(param_declare(&m->params, name, 2, dim, true, true, &l->weight));
    snprintf(name, sizeof name, PREFIX "mlp_head.%d.bias", 2 * e->n_linear);
    TRY(param_declare(&m->params, name, 1, dim, true, false, &l->bias));
    e->n_linear++;
    return ST_OK;
}

static status_t declare_direction(prompt_encoder_t *e, model_t *m, int layer, int back, int64_t in) {
    static const char *const part[4] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const int64_t width[4] = {in, e->hidden, 0, 0};
    for (int i = 0; i < 4; i++) {
        char name[96];
        const int64_t dim[2] = {4 * e->hidden, width[i]};
        snprintf(name, sizeof name, PREFIX "lstm_head.%s_l%d%s", part[i], layer, back ? "_reverse" : "");
        TRY(param_declare(&m->params, name, width[i] ? 2 : 1, dim, true, width[i] > 0, &e->weight[layer][back][i]));
    }
    return ST_OK;
}

static status_t declare_lstm(prompt_encoder_t *e, model_t *m) {
    for (int layer = 0; layer < e->layers; layer++)
        for (int back = 0; back < 2; back++)
            TRY(declare_direction(e, m, layer, back, layer ? 2 * e->hidden : m->config.hidden));
    return ST_OK;
}

status_t prompt_encoder_declare(prompt_encoder_t *e, model_t *m, int64_t rows) {
    const int64_t d = m->config.hidden, h = e->hidden, table[2] = {rows, d};
    TRY(param_declare(&m->params, PREFIX "embedding.weight", 2, table, true, true, &e->embedding));
    if (e->lstm) {
        TRY(declare_lstm(e, m));
        TRY(declare_linear(e, m, 2 * h, 2 * h));
        return declare_linear(e, m, 2 * h, d);
    }
    TRY(declare_linear(e, m, d, h));
    TRY(declare_linear(e, m, h, h));
    return declare_linear(e, m, h, d);
}

void prompt_encoder_init(const prompt_encoder_t *e, const model_t *m, uint64_t seed) {
    const param_t *p = m->params.item;
    initial_normal(&p[e->embedding], 1.0, seed);
    for (int layer = 0; e->lstm && layer < e->layers; layer++)
        for (int back = 0; back < 2; back++)
            for (int i = 0; i < 4; i++)
                initial_uniform(&p[e->weight[layer][back][i]], 1.0 / sqrt((double)e->hidden), seed);
    for (int i = 0; i < e->n_linear; i++) {
        double bound = 1.0 / sqrt((double)p[e->linear[i].weight].value.dim[1]);
        initial_uniform(&p[e->linear[i].weight], bound, seed);
        initial_uniform(&p[e->linear[i].bias], bound, seed);
    }
}

static val_t direction(const prompt_encoder_t *e, tape_t *t, int layer, int back, val_t x) {
    const int *w = e->weight[layer][back];
    const lstm_attr_t attr = {back == 1};
    const val_t in[] = {x, tape_param(t, w[0]), tape_param(t, w[1]), tape_param(t, w[2]), tape_param(t, w[3])};
    return tape_emit(t, OP_LSTM, "prompt lstm", 5, in, &attr, sizeof attr, NULL);
}

val_t prompt_encoder_emit(const prompt_encoder_t *e, tape_t *t) {
    const activation_attr_t relu = {ACTIVATION_RELU};
    val_t x = tape_param(t, e->embedding);
    for (int layer = 0; e->lstm && layer < e->layers; layer++) {
        const val_t both[] = {direction(e, t, layer, 0, x), direction(e, t, layer, 1, x)};
        x = tape_emit(t, OP_CONCAT, "prompt lstm", 2, both, NULL, 0, NULL);
    }
    for (int i = 0; i < e->n_linear; i++) {
        const val_t in[] = {x, tape_param(t, e->linear[i].weight), tape_param(t, e->linear[i].bias)};
        x = tape_emit(t, OP_LINEAR, "prompt mlp", 3, in, NULL, 0, NULL);
        if (i + 1 < e->n_linear) x = tape_emit(t, OP_ACTIVATION, "prompt mlp", 1, &x, &relu, sizeof relu, NULL);
    }
    return x;
}

static status_t run(const prompt_encoder_t *e, tape_t *t, float **rows) {
    val_t x = prompt_encoder_emit(e, t);
    tape_keep(t, x);
    TRY(tape_plan(t, (tape_sizes_t){1, 1, 1, 1}, VAL_NONE, false));
    tape_set_sizes(t, (tape_sizes_t){1, 1, 1, 1});
    tape_set_step(t, (op_step_t){0, 0, false});
    tape_forward(t);
    view_t v = tape_view(t, x);
    void *memory;
    TRY(buf_calloc(&memory, view_count(&v), sizeof **rows, "prompt"));
    *rows = memcpy(memory, v.data, view_bytes(&v));
    return ST_OK;
}

status_t prompt_encoder_fold(const prompt_encoder_t *e, model_t *m, float **rows) {
    tape_t *t;
    TRY(tape_open(&backend_cpu, &m->params, &t));
    status_t st = run(e, t, rows);
    tape_close(t);
    return st;
}
