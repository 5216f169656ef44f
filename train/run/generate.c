#include "train/run/generate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/philox.h"

enum { PREFILL_TOKENS = 512 };

status_t generator_open(loaded_t *l, int64_t slots, int64_t places, generator_t *g) {
    memset(g, 0, sizeof *g);
    g->loaded = l;
    g->slots = slots;
    g->places = places;
    g->capacity = places > PREFILL_TOKENS ? places : PREFILL_TOKENS;
    void *p;
    TRY(buf_calloc(&p, 2 * slots, sizeof(int32_t), "generation"));
    g->past = p;
    g->fed = g->past + slots;
    TRY(buf_calloc(&p, l->model.config.vocab, sizeof(float), "sampling"));
    g->work = p;
    TRY(buf_calloc(&p, l->model.config.vocab, sizeof(int32_t), "sampling"));
    g->index = p;
    const build_options_t o = {
        .tail = TAIL_LOGITS, .cached = true, .slots = slots, .places = places, .capacity = {g->capacity, slots, slots}};
    return build_open(&l->model, &backend_cpu, &l->hook, l->n_hook, o, &g->build);
}

void generator_close(generator_t *g) {
    build_close(&g->build);
    free(g->past);
    free(g->work);
    free(g->index);
    memset(g, 0, sizeof *g);
}

/* One pass: sequence s of n feeds g->fed[s] tokens of next(s); the last row of each that feeds any gives logits. */
static void pass(generator_t *g, int64_t n, const int32_t *const *next) {
    tape_t *t = g->build.tape;
    int32_t *ids = tape_data(t, g->build.ids), *pos = tape_data(t, g->build.positions), *cu = tape_data(t, g->build.cu);
    int32_t *past = tape_data(t, g->build.past), *rows = tape_data(t, g->build.rows), at = 0, m = 0;
    cu[0] = 0;
    for (int64_t s = 0; s < n; s++) {
        past[s] = g->past[s];
        for (int32_t k = 0; k < g->fed[s]; k++, at++) {
            ids[at] = next[s][k];
            pos[at] = g->past[s] + k;
        }
        if (g->fed[s]) rows[m++] = at - 1;
        cu[s + 1] = at;
        g->past[s] += g->fed[s];
    }
    tape_set_sizes(t, (tape_sizes_t){at, m, n});
    tape_forward(t);
}

static int32_t greedy(const float *z, int64_t v) {
    int64_t best = 0;
    for (int64_t i = 1; i < v; i++)
        if (z[i] > z[best]) best = i;
    return (int32_t)best;
}

/* Max-heap order on (value, lower index first): a total order, so the result is one of mathematics alone. */
static bool above(const float *z, int32_t a, int32_t b) {
    return z[a] > z[b] || (z[a] == z[b] && a < b);
}

static void sift(const float *z, int32_t *heap, int64_t n, int64_t i) {
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && above(z, heap[child + 1], heap[child])) child++;
        if (!above(z, heap[child], heap[i])) return;
        int32_t x = heap[i];
        heap[i] = heap[child];
        heap[child] = x;
        i = child;
    }
}

/* Temperature, then top_k, then top_p, as transformers orders its warpers; takes tokens from the likeliest down. */
static int32_t sample(generator_t *g, const float *z, const generate_options_t *o, uint64_t prompt, uint64_t place) {
    int64_t v = g->loaded->model.config.vocab, keep = o->top_k > 0 && o->top_k < v ? o->top_k : v;
    float top = z[greedy(z, v)];
    for (int64_t i = 0; i < v; i++) {
        g->work[i] = (float)exp((double)(z[i] - top) / o->temperature);
        g->index[i] = (int32_t)i;
    }
    for (int64_t i = v / 2 - 1; i >= 0; i--) sift(g->work, g->index, v, i);
    double total = 0, mass = 0;
    int64_t taken = 0, left = v;
    /* the k likeliest move to the end of the array */
    while (taken < keep) {
        int32_t x = g->index[0];
        g->index[0] = g->index[--left];
        g->index[left] = x;
        sift(g->work, g->index, left, 0);
        total += (double)g->work[x];
        taken++;
    }
    int64_t nucleus = 0;
    for (; nucleus < taken && (nucleus == 0 || mass < o->top_p * total); nucleus++)
        mass += (double)g->work[g->index[v - 1 - nucleus]];
    uint32_t w[4];
    rng_words(o->seed, RNG_SAMPLE, place, prompt, w);
    double draw = (double)rng_unit(w[0]) * mass;
    for (int64_t i = 0; i < nucleus; i++) {
        draw -= (double)g->work[g->index[v - 1 - i]];
        if (draw < 0) return g->index[v - 1 - i];
    }
    return g->index[v - nucleus];
}

/* Prompts go in as many passes as the capacity asks for; each prompt whole in one of them. */
static void prefill(generator_t *g, const i32buf_t *prompt, int64_t n, const int32_t **next, float **logits) {
    int64_t v = g->loaded->model.config.vocab, from = 0;
    memset(g->past, 0, (size_t)g->slots * sizeof *g->past);
    while (from < n) {
        int64_t to = from, tokens = 0;
        memset(g->fed, 0, (size_t)g->slots * sizeof *g->fed);
        for (; to < n && tokens + prompt[to].len <= g->capacity; to++) {
            tokens += prompt[to].len;
            g->fed[to] = (int32_t)prompt[to].len;
            next[to] = prompt[to].data;
        }
        pass(g, n, next);
        const float *z = tape_data(g->build.tape, g->build.logits);
        for (int64_t s = from; s < to; s++) memcpy(logits[s], z + (s - from) * v, (size_t)v * sizeof *z);
        from = to;
    }
}

typedef struct decode {
    const generate_options_t *o;
    const i32buf_t *prompt;
    int64_t n, first;
    bool (*stop)(void *, int64_t, const i32buf_t *);
    void *arg;
    i32buf_t *out;
    bool *done;
    int32_t *last;
    const int32_t **next;
    float **logits;
} decode_t;

static status_t choose(generator_t *g, decode_t *d) {
    int32_t eos = tokenizer_eos(g->loaded->tokenizer);
    for (int64_t s = 0; s < d->n; s++) {
        if (d->done[s]) continue;
        const float *z = d->logits[s];
        int32_t id = d->o->temperature > 0 ? sample(g, z, d->o, (uint64_t)(d->first + s), (uint64_t)d->out[s].len)
                                           : greedy(z, g->loaded->model.config.vocab);
        if (id == eos && !d->o->ignore_eos) {
            d->done[s] = true;
            continue;
        }
        TRY(i32buf_push(&d->out[s], id));
        d->last[s] = id;
        d->done[s] = d->out[s].len >= d->o->max_new_tokens || d->prompt[s].len + d->out[s].len >= g->places ||
                     (d->stop && d->stop(d->arg, s, &d->out[s]));
    }
    return ST_OK;
}

static status_t loop(generator_t *g, decode_t *d) {
    int64_t v = g->loaded->model.config.vocab;
    prefill(g, d->prompt, d->n, d->next, d->logits);
    for (;;) {
        TRY(choose(g, d));
        int64_t active = 0;
        for (int64_t s = 0; s < d->n; s++) {
            g->fed[s] = !d->done[s];
            d->next[s] = &d->last[s];
            active += g->fed[s];
        }
        if (!active) return ST_OK;
        pass(g, d->n, d->next);
        float *z = tape_data(g->build.tape, g->build.logits);
        for (int64_t s = 0, m = 0; s < d->n; s++)
            if (g->fed[s]) memcpy(d->logits[s], z + m++ * v, (size_t)v * sizeof *z);
    }
}

status_t generator_run(generator_t *g, const i32buf_t *prompt, int64_t n, int64_t first, const generate_options_t *o,
                       bool (*stop)(void *, int64_t, const i32buf_t *), void *arg, i32buf_t *out) {
    for (int64_t s = 0; s < n; s++)
        if (prompt[s].len < 1 || prompt[s].len >= g->places)
            return st_raise(ST_INTERNAL, "generate", "a prompt of %lld tokens does not fit %lld places",
                            (long long)prompt[s].len, (long long)g->places);
    int64_t v = g->loaded->model.config.vocab;
    void *done = NULL, *last = NULL, *next = NULL, *logits = NULL, *memory = NULL;
    status_t st = ST_OK;
    TRY_GOTO(buf_calloc(&done, n, sizeof(bool), "generation"), end);
    TRY_GOTO(buf_calloc(&last, n, sizeof(int32_t), "generation"), end);
    TRY_GOTO(buf_calloc(&next, g->slots, sizeof(int32_t *), "generation"), end);
    TRY_GOTO(buf_calloc(&logits, n, sizeof(float *), "generation"), end);
    TRY_GOTO(buf_calloc(&memory, n * v, sizeof(float), "logits"), end);
    for (int64_t s = 0; s < n; s++) ((float **)logits)[s] = (float *)memory + s * v;
    decode_t d = {o, prompt, n, first, stop, arg, out, done, last, next, logits};
    st = loop(g, &d);
end:
    free(done);
    free(last);
    free(next);
    free(logits);
    free(memory);
    return st;
}
