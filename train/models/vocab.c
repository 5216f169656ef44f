/* Tokens that the base does not have: room for them, their initial rows, and training of these rows alone. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "kernels/buf.h"
#include "kernels/philox.h"
#include "train/models/model.h"

enum { MOST_IDS = 1 << 24 };

status_t model_grow(model_t *m, int64_t first, int64_t n) {
    if (first < 1 || n < 0 || first > m->config.vocab || n > MOST_IDS - first)
        return st_raise(ST_USAGE, m->path, "%lld tokens cannot be added behind id %lld; a model has at most %d ids",
                        (long long)n, (long long)(first - 1), MOST_IDS);
    m->new_first = first;
    m->n_new = n;
    if (!n) return ST_OK;
    if (first + n > m->config.vocab) m->config.vocab = first + n;
    m->params.item[m->embed].value.dim[0] = m->config.vocab;
    m->params.item[m->head].value.dim[0] = m->config.vocab;
    return ST_OK;
}

status_t model_train_new(model_t *m) {
    param_set_t *p = &m->params;
    if (!m->n_new) return ST_OK;
    if (!p->item[m->embed].trainable)
        TRY(param_declare_window(p, MODEL_NEW_EMBED, m->embed, m->new_first, m->n_new, &m->new_embed));
    if (m->head == m->embed)
        m->new_head = m->new_embed;
    else if (!p->item[m->head].trainable)
        TRY(param_declare_window(p, MODEL_NEW_HEAD, m->head, m->new_first, m->n_new, &m->new_head));
    return ST_OK;
}

static double at(const view_t *v, int64_t i) {
    return v->dtype == DT_F64 ? ((const double *)v->data)[i] : (double)((const float *)v->data)[i];
}

static void put(const view_t *v, int64_t i, double value) {
    if (v->dtype == DT_F64)
        ((double *)v->data)[i] = (double)(float)value;
    else
        ((float *)v->data)[i] = (float)value;
}

/* `which` keeps the values of embedding and head apart. */
static void init_rows(const model_t *m, const view_t *v, const char *const *text, uint64_t seed, uint64_t which) {
    int64_t d = v->dim[1];
    for (int64_t c = 0; c < d; c++) {
        double mean = 0;
        for (int64_t r = 0; r < m->new_first; r++) mean += at(v, r * d + c);
        mean /= (double)m->new_first;
        for (int64_t i = 0; i < m->n_new; i++) {
            uint32_t word[4];
            rng_words(seed, RNG_INIT, XXH64(text[i], strlen(text[i]), which), (uint64_t)(c / 4), word);
            put(v, (m->new_first + i) * d + c, mean + 0.01 * rng_normal(word, (int)(c % 4)));
        }
    }
}

void model_init_new(model_t *m, const char *const *text, uint64_t seed) {
    init_rows(m, &m->params.item[m->embed].value, text, seed, 1);
    if (m->head != m->embed) init_rows(m, &m->params.item[m->head].value, text, seed, 2);
}
