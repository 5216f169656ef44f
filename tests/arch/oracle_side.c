#include "tests/arch/oracle_side.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static bool stored_turned(const model_t *m, int index) {
    for (int64_t i = 0; i < m->n_weight; i++)
        if (m->weight[i].param == index) return m->weight[i].flags & WEIGHT_TRANSPOSED;
    return false;
}

double *oracle_side_file(const model_t *m, int index, const void *data, dtype_t real) {
    const view_t *v = &m->params.item[index].value;
    int64_t n = view_count(v), rows = v->dim[0], cols = n / rows;
    bool turn = stored_turned(m, index);
    double *out = calloc((size_t)n, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++) out[turn ? i % cols * rows + i / cols : i] = tiny_at(data, real, i);
    return out;
}

void oracle_side_open(oracle_side_t *o, const tiny_t *t, double lora_scale, int64_t more) {
    static const char prefix[] = "base_model.model.";
    const param_set_t *s = &t->model.params;
    o->n = s->count;
    o->cap = s->count + more;
    o->tensor = calloc((size_t)o->cap, sizeof *o->tensor);
    o->grad = calloc((size_t)s->n_trainable, sizeof(double));
    assert_true(o->tensor && o->grad);
    for (int i = 0; i < s->count; i++) {
        const param_t *p = &s->item[i];
        const char *name = strncmp(p->name, prefix, strlen(prefix)) ? p->name : p->name + strlen(prefix);
        o->tensor[i] = (oracle_tensor_t){name, view_count(&p->value),
                                         oracle_side_file(&t->model, i, p->value.data, p->value.dtype),
                                         p->trainable ? o->grad + p->offset : NULL, lora_scale};
    }
}

void oracle_side_close(oracle_side_t *o) {
    for (int64_t i = 0; i < o->n; i++) free((double *)(uintptr_t)o->tensor[i].value);
    free(o->tensor);
    free(o->grad);
}

double oracle_side_run(const oracle_side_t *o, const oracle_case_t *c, const model_config_t *mc, const batch_t *b) {
    int32_t *targets = calloc((size_t)b->n_tokens, sizeof *targets);
    double *weights = calloc((size_t)b->n_tokens, sizeof *weights), inv_freq[16];
    assert_true(targets && weights);
    for (int64_t i = 0; i < b->n_tokens; i++) targets[i] = -1;
    for (int64_t i = 0; i < b->n_loss; i++) {
        targets[b->loss_row[i]] = b->targets[i];
        weights[b->loss_row[i]] = (double)b->loss_weight[i];
    }
    const oracle_weights_t w = {o->tensor, o->n};
    const oracle_batch_t batch = {.n_tokens = b->n_tokens,
                                  .n_seqs = b->n_seqs,
                                  .ids = b->ids,
                                  .cu_seqlens = b->cu_seqlens,
                                  .targets = targets,
                                  .weights = weights,
                                  .cu_prefix = b->n_prefix ? b->cu_prefix : NULL,
                                  .slot = b->slot};
    oracle_result_t r = {0};
    if (c->gpt2) {
        const oracle_gpt2_t g = {mc->vocab, mc->max_positions, mc->hidden, mc->layers, mc->heads,
                                 mc->ff,    mc->eps,           c->tied};
        oracle_gpt2_run(&g, &w, &batch, &r);
    } else {
        oracle_rope_frequencies(&c->rope, mc->head_dim, inv_freq);
        const oracle_llama_t l = {mc->vocab, mc->hidden, mc->layers,        mc->heads,   mc->kv_heads, mc->head_dim,
                                  mc->ff,    mc->eps,    c->attention_bias, c->mlp_bias, c->tied,      inv_freq};
        oracle_llama_run(&l, &w, &batch, &r);
    }
    free(targets);
    free(weights);
    return r.loss_sum;
}
