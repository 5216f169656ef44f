#include "train/run/generate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/philox.h"
#include "train/run/micro.h"

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
    const build_options_t o = {.tail = TAIL_LOGITS,
                               .cached = true,
                               .slots = slots,
                               .places = places,
                               .capacity = {g->capacity, slots, slots, micro_prefix_capacity(&l->layout, g->capacity)}};
    TRY(batch_init(&g->batch, g->capacity));
    return build_open(&l->model, loaded_backend(l), l->hook, l->n_method, o, &g->build);
}

void generator_close(generator_t *g) {
    build_close(&g->build);
    batch_release(&g->batch);
    free(g->past);
    free(g->work);
    free(g->index);
    memset(g, 0, sizeof *g);
}

/* Runs g->batch; the last row of every sequence that has any gives logits. */
static void pass(generator_t *g) {
    batch_t *b = &g->batch;
    b->n_loss = 0;
    for (int64_t s = 0; s < b->n_seqs; s++) {
        int32_t rows = b->cu_seqlens[s + 1] - b->cu_seqlens[s];
        g->fed[s] = rows > 0;
        if (rows) b->loss_row[b->n_loss++] = b->cu_seqlens[s + 1] - 1;
    }
    memcpy(tape_data(g->build.tape, g->build.past), g->past, (size_t)b->n_seqs * sizeof *g->past);
    micro_load(&g->build, b);
    tape_forward(g->build.tape);
    for (int64_t s = 0; s < b->n_seqs; s++)
        g->past[s] += b->cu_seqlens[s + 1] - b->cu_seqlens[s] + b->cu_prefix[s + 1] - b->cu_prefix[s];
}

/* A sequence that takes no part in the pass. */
static void skip(batch_t *b) {
    b->n_seqs++;
    b->cu_seqlens[b->n_seqs] = (int32_t)b->n_tokens;
    b->cu_prefix[b->n_seqs] = (int32_t)b->n_prefix;
}

/* The token that was chosen last. */
static void feed(generator_t *g, int64_t s, int32_t id) {
    batch_t *b = &g->batch;
    b->ids[b->n_tokens] = id;
    b->positions[b->n_tokens] = g->past[s];
    b->slot[b->n_tokens++] = -1;
    skip(b);
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

/* The logits of the sequences of the last pass. */
static status_t take_logits(generator_t *g, int64_t n, float **logits) {
    int64_t v = g->loaded->model.config.vocab;
    void *fetched;
    TRY(tape_fetch(g->build.tape, g->build.logits, &fetched));
    const float *z = fetched;
    for (int64_t s = 0, m = 0; s < n; s++)
        if (g->fed[s]) memcpy(logits[s], z + m++ * v, (size_t)v * sizeof *z);
    return ST_OK;
}

/* Prompts go in as many passes as the capacity asks for; each prompt whole in one of them. */
static status_t prefill(generator_t *g, const sequence_t *prompt, int64_t n, float **logits) {
    int64_t from = 0, extra = virtual_tokens(&g->loaded->layout);
    memset(g->past, 0, (size_t)g->slots * sizeof *g->past);
    while (from < n) {
        int64_t to = from, used = 0;
        batch_clear(&g->batch);
        for (int64_t s = 0; s < from; s++) skip(&g->batch);
        for (; to < n && used + prompt[to].n_prompt + extra <= g->capacity; to++) {
            used += prompt[to].n_prompt + extra;
            sequence_t s = prompt[to];
            s.ids.len = s.n_prompt;
            TRY(batch_add(&g->batch, &g->loaded->layout, &s, to));
        }
        for (int64_t s = to; s < n; s++) skip(&g->batch);
        pass(g);
        TRY(take_logits(g, n, logits));
        from = to;
    }
    return ST_OK;
}

typedef struct decode {
    const generate_options_t *o;
    const sequence_t *prompt; /* [n * streams] */
    int64_t n, streams, first;
    bool (*stop)(void *, int64_t, const i32buf_t *);
    void *arg;
    i32buf_t *out;
    bool *done;     /* [n] */
    int32_t *last;  /* [n] */
    float **logits; /* [n * streams] */
    float *sum;     /* [V] */
} decode_t;

/* The logits from which continuation i takes its next token. */
static const float *combined(const generator_t *g, const decode_t *d, int64_t i) {
    float *const *z = d->logits + i * d->streams;
    if (!d->o->weight) return z[0];
    for (int64_t v = 0; v < g->loaded->model.config.vocab; v++) {
        double sum = 0;
        for (int64_t j = 0; j < d->streams; j++)
            if (d->o->weight[j] != 0) sum += d->o->weight[j] * (double)z[j][v];
        d->sum[v] = (float)sum;
    }
    return d->sum;
}

/* A stream of continuation i has no room for another token behind the one just chosen. */
static bool is_full(const generator_t *g, const decode_t *d, int64_t i) {
    for (int64_t s = i * d->streams; s < (i + 1) * d->streams; s++)
        if (g->past[s] + 1 >= g->places) return true;
    return false;
}

static status_t choose(generator_t *g, decode_t *d) {
    int32_t eos = tokenizer_eos(g->loaded->tokenizer);
    for (int64_t s = 0; s < d->n; s++) {
        if (d->done[s]) continue;
        const float *z = combined(g, d, s);
        int32_t id = d->o->temperature > 0 ? sample(g, z, d->o, (uint64_t)(d->first + s), (uint64_t)d->out[s].len)
                                           : greedy(z, g->loaded->model.config.vocab);
        if (id == eos && !d->o->ignore_eos) {
            d->done[s] = true;
            continue;
        }
        TRY(i32buf_push(&d->out[s], id));
        d->last[s] = id;
        d->done[s] =
            d->out[s].len >= d->o->max_new_tokens || is_full(g, d, s) || (d->stop && d->stop(d->arg, s, &d->out[s]));
    }
    return ST_OK;
}

static status_t loop(generator_t *g, decode_t *d) {
    const int64_t streams = d->n * d->streams;
    TRY(prefill(g, d->prompt, streams, d->logits));
    for (;;) {
        TRY(choose(g, d));
        batch_clear(&g->batch);
        for (int64_t s = 0; s < streams; s++) {
            if (d->done[s / d->streams])
                skip(&g->batch);
            else
                feed(g, s, d->last[s / d->streams]);
        }
        if (!g->batch.n_tokens) return ST_OK;
        pass(g);
        TRY(take_logits(g, streams, d->logits));
    }
}

status_t generator_run(generator_t *g, const sequence_t *prompt, int64_t n, int64_t first, const generate_options_t *o,
                       bool (*stop)(void *, int64_t, const i32buf_t *), void *arg, i32buf_t *out) {
    const int64_t extra = virtual_tokens(&g->loaded->layout), v = g->loaded->model.config.vocab,
                  each = o->streams ? o->streams : 1, streams = n * each;
    if (streams > g->slots || (each > 1 && !o->weight))
        return st_raise(ST_INTERNAL, "generate", "%lld streams do not fit %lld slots", (long long)streams,
                        (long long)g->slots);
    for (int64_t s = 0; s < streams; s++)
        if (prompt[s].n_prompt < 1 || prompt[s].n_prompt + extra >= g->places)
            return st_raise(ST_INTERNAL, "generate", "a prompt of %lld tokens does not fit %lld places",
                            (long long)(prompt[s].n_prompt + extra), (long long)g->places);
    void *done = NULL, *last = NULL, *logits = NULL, *memory = NULL;
    status_t st = ST_OK;
    TRY_GOTO(buf_calloc(&done, n, sizeof(bool), "generation"), end);
    TRY_GOTO(buf_calloc(&last, n, sizeof(int32_t), "generation"), end);
    TRY_GOTO(buf_calloc(&logits, streams, sizeof(float *), "generation"), end);
    TRY_GOTO(buf_calloc(&memory, (streams + 1) * v, sizeof(float), "logits"), end);
    for (int64_t s = 0; s < streams; s++) ((float **)logits)[s] = (float *)memory + s * v;
    decode_t d = {o, prompt, n, each, first, stop, arg, out, done, last, logits, (float *)memory + streams * v};
    st = loop(g, &d);
end:
    free(done);
    free(last);
    free(logits);
    free(memory);
    return st;
}
