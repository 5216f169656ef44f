#include "train/run/match.h"
#include <stdlib.h>
#include <string.h>
#include "train/run/generate.h"

enum { AT_ONCE = 8 };

typedef struct matcher {
    loaded_t *loaded;
    const match_options_t *o;
    generator_t generator;
    int64_t labels;     /* prompts of one example */
    int64_t most, n;    /* examples at once; present ones */
    sequence_t *prompt; /* [most * labels] */
    i32buf_t *want;     /* [most] */
    i32buf_t *got;      /* [most * labels] */
    double *weight;     /* [labels] */
    strbuf_t a, b;
    match_result_t result;
} matcher_t;

static status_t matcher_open(loaded_t *l, const dataset_t *d, const match_options_t *o, matcher_t *m) {
    int64_t places = dataset_max_tokens(d) + virtual_tokens(&l->layout) + 2, limit = l->model.config.max_positions;
    memset(m, 0, sizeof *m);
    m->loaded = l;
    m->o = o;
    m->labels = o->kind == MATCH_EACH ? 1 : l->layout.field[o->field].n;
    m->most = m->labels < AT_ONCE ? AT_ONCE / m->labels : 1;
    void *p;
    TRY(buf_calloc(&p, m->most * m->labels, sizeof *m->prompt, "prompts"));
    m->prompt = p;
    TRY(buf_calloc(&p, m->most, sizeof *m->want, "answers"));
    m->want = p;
    TRY(buf_calloc(&p, m->most * m->labels, sizeof *m->got, "answers"));
    m->got = p;
    TRY(buf_calloc(&p, m->labels, sizeof *m->weight, "weights"));
    m->weight = p;
    for (int64_t i = 0; i < m->labels; i++) m->weight[i] = 1.0 / (double)m->labels;
    return generator_open(l, m->most * m->labels, places < limit ? places : limit, &m->generator);
}

static void matcher_close(matcher_t *m) {
    if (m->generator.past) generator_close(&m->generator);
    for (int64_t i = 0; i < m->most * m->labels; i++) {
        if (m->prompt) sequence_release(&m->prompt[i]);
        if (m->got) i32buf_release(&m->got[i]);
    }
    for (int64_t i = 0; m->want && i < m->most; i++) i32buf_release(&m->want[i]);
    free(m->prompt);
    free(m->got);
    free(m->want);
    free(m->weight);
    strbuf_release(&m->a);
    strbuf_release(&m->b);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Both texts without white space at their ends. */
static bool same_text(const strbuf_t *a, const strbuf_t *b) {
    size_t i = 0, n = a->len, k = 0, m = b->len;
    while (i < n && is_blank(a->data[i])) i++;
    while (n > i && is_blank(a->data[n - 1])) n--;
    while (k < m && is_blank(b->data[k])) k++;
    while (m > k && is_blank(b->data[m - 1])) m--;
    return n - i == m - k && (n == i || !memcmp(a->data + i, b->data + k, n - i));
}

static bool same_ids(const i32buf_t *a, const i32buf_t *b) {
    return a->len == b->len && (!a->len || !memcmp(a->data, b->data, (size_t)a->len * sizeof *a->data));
}

/* The answer that most labels give; of several the one that comes first. */
static const i32buf_t *majority(const i32buf_t *answer, int64_t n) {
    int64_t best = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t votes = 0;
        for (int64_t k = 0; k < n; k++) votes += same_ids(&answer[i], &answer[k]);
        if (votes > most) {
            most = votes;
            best = i;
        }
    }
    return &answer[best];
}

static status_t judge(matcher_t *m, const i32buf_t *want, const i32buf_t *got) {
    strbuf_clear(&m->a);
    strbuf_clear(&m->b);
    TRY(tokenizer_decode(m->loaded->tokenizer, want->data, want->len, true, &m->a));
    TRY(tokenizer_decode(m->loaded->tokenizer, got->data, got->len, true, &m->b));
    m->result.right += same_text(&m->a, &m->b);
    m->result.asked += 1;
    return ST_OK;
}

static status_t flush(matcher_t *m) {
    int64_t longest = 0;
    const bool mean = m->o->kind == MATCH_MEAN;
    for (int64_t i = 0; i < m->n; i++)
        if (m->want[i].len > longest) longest = m->want[i].len;
    /* one token more than the longest answer: a continuation that goes on is no match */
    const generate_options_t o = {.max_new_tokens = longest + 1,
                                  .top_p = 1.0,
                                  .streams = mean ? m->labels : 1,
                                  .weight = mean ? m->weight : NULL};
    int64_t answers = mean ? m->n : m->n * m->labels;
    if (m->n) TRY(generator_run(&m->generator, m->prompt, answers, 0, &o, NULL, NULL, m->got));
    for (int64_t i = 0; i < m->n; i++) {
        TRY(judge(m, &m->want[i], mean ? &m->got[i] : majority(&m->got[i * m->labels], m->labels)));
        i32buf_clear(&m->want[i]);
    }
    for (int64_t i = 0; i < answers; i++) i32buf_clear(&m->got[i]);
    m->n = 0;
    return ST_OK;
}

static bool has_answer(const sequence_t *s) {
    return (s->format == FORMAT_PROMPT_COMPLETION || s->format == FORMAT_ALPACA) && s->n_prompt > 0 &&
           s->n_prompt < s->ids.len;
}

/* The prompts of an example and its completion. */
static status_t add(matcher_t *m, const sequence_t *s) {
    int64_t end = s->ids.len, eos = tokenizer_eos(m->loaded->tokenizer);
    if (eos >= 0 && m->o->append_eos && s->ids.data[end - 1] == eos) end--;
    TRY(i32buf_add(&m->want[m->n], s->ids.data + s->n_prompt, end - s->n_prompt));
    for (int64_t k = 0; k < m->labels; k++) {
        sequence_t *p = &m->prompt[m->n * m->labels + k];
        sequence_clear(p);
        TRY(sequence_add(p, s->ids.data, s->n_prompt, 0.0f));
        p->n_prefix = s->n_prefix;
        p->n_prompt = s->n_prompt;
        memcpy(p->label, s->label, sizeof p->label);
        if (m->o->kind != MATCH_EACH) p->label[m->o->field] = (int32_t)k;
    }
    return ++m->n == m->most ? flush(m) : ST_OK;
}

static status_t match_share(matcher_t *m, const dataset_t *d, const comm_t *comm) {
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    status_t st = ST_OK;
    for (int64_t i = comm_rank(comm); i < dataset_sequences(d) && st == ST_OK; i += comm_size(comm)) {
        st = dataset_sequence(d, i, -1, &scratch, &s);
        if (st == ST_OK && has_answer(&s)) st = add(m, &s);
    }
    if (st == ST_OK) st = flush(m);
    sequence_release(&s);
    dataset_scratch_release(&scratch);
    return st;
}

status_t match_run(loaded_t *l, const dataset_t *d, const comm_t *comm, const match_options_t *o, match_result_t *out) {
    matcher_t m;
    status_t st = matcher_open(l, d, o, &m);
    if (st == ST_OK) st = match_share(&m, d, comm);
    *out = m.result;
    matcher_close(&m);
    return st;
}
