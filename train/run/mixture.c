#include "train/run/mixture.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

status_t mixture_find(const char *name, mixture_kind_t *out) {
    static const char *const names[MIXTURE_KINDS] = {[MIXTURE_UNIFORM] = "uniform", [MIXTURE_POSTERIOR] = "posterior"};
    *out = MIXTURE_NONE;
    if (!name) return ST_OK;
    for (int k = MIXTURE_NONE + 1; k < MIXTURE_KINDS; k++)
        if (!strcmp(name, names[k])) *out = (mixture_kind_t)k;
    return *out != MIXTURE_NONE ? ST_OK
                                : st_raise(ST_USAGE, "--mixture", "'%s' is not known; uniform and posterior are", name);
}

status_t mixture_field(virtual_layout_t *v, const int32_t *label, int *field) {
    int open = 0;
    for (int i = v->n_field - 1; i >= 0; i--) {
        if (label[i] >= 0) continue;
        *field = i;
        open++;
    }
    if (!v->n_field) return st_raise(ST_USAGE, "--mixture", "no adapter here chooses by a field of the examples");
    if (!open)
        return st_raise(ST_USAGE, "--mixture",
                        "--condition names '%s', whose values are to be mixed; remove one of the two",
                        v->field[0].name);
    if (open > 1)
        return st_raise(ST_USAGE, "--mixture",
                        "the adapters choose by %d fields, '%s' and others; leave one of them open "
                        "and give the others with --condition",
                        open, v->field[*field].name);
    v->field[*field].optional = true;
    return ST_OK;
}

status_t mixture_open(loaded_t *l, mixture_kind_t kind, int field, int64_t capacity, mixture_t *out) {
    void *p;
    *out = (mixture_t){
        .loaded = l, .kind = kind, .field = field, .labels = l->layout.field[field].n, .capacity = capacity};
    TRY(buf_calloc(&p, capacity, sizeof *out->ones, "mixture"));
    out->ones = p;
    for (int64_t i = 0; i < capacity; i++) out->ones[i] = 1.0f;
    TRY(buf_calloc(&p, out->labels * capacity, sizeof *out->nll, "mixture"));
    out->nll = p;
    TRY(buf_calloc(&p, out->labels, sizeof *out->posterior, "mixture"));
    out->posterior = p;
    TRY(batch_init(&out->batch, capacity));
    const build_options_t o = {.tail = TAIL_LOSS,
                               .capacity = {capacity, capacity, capacity, micro_prefix_capacity(&l->layout, capacity)}};
    return build_open(&l->model, loaded_backend(l), l->hook, l->n_method, o, &out->build);
}

void mixture_close(mixture_t *m) {
    if (m->build.tape) build_close(&m->build);
    batch_release(&m->batch);
    free(m->ones);
    free(m->nll);
    free(m->posterior);
    *m = (mixture_t){0};
}

/* All tokens are targets, so that the history is complete; ids and labels alone are the sequence's own. */
static status_t add(mixture_t *m, const sequence_t *s, int32_t label, int64_t index) {
    sequence_t all = *s;
    all.weight = m->ones;
    all.label[m->field] = label;
    return batch_add(&m->batch, &m->loaded->layout, &all, index);
}

status_t mixture_run(mixture_t *m, const sequence_t *s, int64_t n) {
    for (int32_t j = 0; j < m->labels; j++) {
        batch_clear(&m->batch);
        for (int64_t i = 0; i < n; i++) TRY(add(m, &s[i], j, i));
        micro_load(&m->build, &m->batch);
        tape_forward(m->build.tape);
        void *nll;
        TRY(tape_fetch(m->build.tape, m->build.nll, &nll));
        memcpy(m->nll + j * m->capacity, nll, (size_t)m->batch.n_loss * sizeof *m->nll);
    }
    return ST_OK;
}

/* log sum_j exp(a_j - b_j), a NULL: 0. */
static double log_sum(int n, const double *a, const float *b, int64_t stride) {
    double most = -INFINITY, sum = 0;
    for (int j = 0; j < n; j++) {
        double x = (a ? a[j] : 0) - (double)b[j * stride];
        if (x > most) most = x;
    }
    if (!isfinite(most)) return most;
    for (int j = 0; j < n; j++) sum += exp((a ? a[j] : 0) - (double)b[j * stride] - most);
    return most + log(sum);
}

void mixture_sequence(mixture_t *m, int64_t row, int64_t len, float *nll) {
    double *p = m->posterior;
    const double prior = -log((double)m->labels);
    for (int j = 0; j < m->labels; j++) p[j] = prior;
    for (int64_t t = 0; t + 1 < len; t++) {
        const float *at = m->nll + row + t;
        double joint = log_sum(m->labels, p, at, m->capacity);
        const double alone = m->kind == MIXTURE_POSTERIOR ? joint : prior + log_sum(m->labels, NULL, at, m->capacity);
        nll[t] = (float)-alone;
        for (int j = 0; j < m->labels; j++) p[j] -= (double)at[j * m->capacity] + joint;
    }
    for (int j = 0; j < m->labels; j++) p[j] = exp(p[j]);
}

/* ---- evaluation ---------------------------------------------------------------------------------------------- */

typedef struct evaluation_run {
    mixture_t *m;
    const dataset_t *d;
    micro_plan_t plan;
    int64_t *order;       /* all sequences */
    sequence_t *sequence; /* [most] of a micro-batch */
    int64_t most;
    dataset_scratch_t scratch;
    float *nll;   /* [capacity] */
    double *sums; /* [micro-batches, 2 + labels] loss, weight, posteriors */
} evaluation_run_t;

static void evaluation_close(evaluation_run_t *e) {
    micro_plan_release(&e->plan);
    for (int64_t i = 0; e->sequence && i < e->most; i++) sequence_release(&e->sequence[i]);
    dataset_scratch_release(&e->scratch);
    free(e->sequence);
    free(e->order);
    free(e->nll);
    free(e->sums);
}

static status_t evaluation_open(mixture_t *m, const dataset_t *d, evaluation_run_t *e) {
    void *p;
    int64_t n = dataset_sequences(d);
    *e = (evaluation_run_t){.m = m, .d = d};
    TRY(buf_calloc(&p, n, sizeof *e->order, "evaluation order"));
    e->order = p;
    for (int64_t i = 0; i < n; i++) e->order[i] = i;
    TRY(micro_plan(&e->plan, d, e->order, n, PACKING_BEST_FIT, m->capacity));
    const pack_t *pack = &e->plan.pack;
    for (int64_t k = 0; k < pack->n_micro; k++)
        if (pack->start[k + 1] - pack->start[k] > e->most) e->most = pack->start[k + 1] - pack->start[k];
    TRY(buf_calloc(&p, e->most, sizeof *e->sequence, "sequences of a micro-batch"));
    e->sequence = p;
    TRY(buf_calloc(&p, m->capacity, sizeof *e->nll, "evaluation"));
    e->nll = p;
    TRY(buf_calloc(&p, pack->n_micro * (2 + m->labels), sizeof *e->sums, "evaluation sums"));
    e->sums = p;
    return ST_OK;
}

static status_t one(evaluation_run_t *e, int64_t micro) {
    const pack_t *pack = &e->plan.pack;
    int64_t first = pack->start[micro], n = pack->start[micro + 1] - first, row = 0;
    double *sums = e->sums + micro * (2 + e->m->labels);
    for (int64_t i = 0; i < n; i++)
        TRY(dataset_sequence(e->d, e->order[pack->order[first + i]], -1, &e->scratch, &e->sequence[i]));
    TRY(mixture_run(e->m, e->sequence, n));
    for (int64_t i = 0; i < n; i++) {
        const sequence_t *s = &e->sequence[i];
        mixture_sequence(e->m, row, s->ids.len, e->nll);
        row += s->ids.len > 0 ? s->ids.len - 1 : 0;
        for (int64_t t = 1; t < s->ids.len; t++) {
            if (!(s->weight[t] > 0)) continue;
            sums[0] += (double)s->weight[t] * (double)e->nll[t - 1];
            sums[1] += (double)s->weight[t];
        }
        for (int j = 0; j < e->m->labels; j++) sums[2 + j] += e->m->posterior[j];
    }
    return ST_OK;
}

static status_t sum_up(const evaluation_run_t *e, mixture_result_t *out) {
    void *p;
    int labels = e->m->labels;
    TRY(buf_calloc(&p, labels, sizeof *out->posterior, "posterior"));
    *out = (mixture_result_t){.posterior = p};
    int64_t n = dataset_sequences(e->d);
    for (int64_t k = 0; k < e->plan.pack.n_micro; k++) {
        const double *sums = e->sums + k * (2 + labels);
        out->loss += sums[0];
        out->weight += sums[1];
        for (int j = 0; j < labels; j++) out->posterior[j] += sums[2 + j] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) out->tokens += dataset_sequence_tokens(e->d, i);
    if (out->weight > 0) out->loss /= out->weight;
    return ST_OK;
}

static status_t evaluate(evaluation_run_t *e, comm_t *comm) {
    int64_t n = e->plan.pack.n_micro, size = comm_size(comm);
    for (int64_t k = 0; k < n; k += size) { /* one round: a micro-batch for every rank */
        int64_t mine = k + comm_rank(comm);
        comm_beat(comm, "evaluation");
        TRY(comm_agree(comm, mine < n ? one(e, mine) : ST_OK));
    }
    return comm_sum_f64(comm, e->sums, n * (2 + e->m->labels));
}

status_t mixture_evaluate(mixture_t *m, const dataset_t *d, comm_t *comm, mixture_result_t *out) {
    evaluation_run_t e;
    status_t st = comm_agree(comm, evaluation_open(m, d, &e));
    if (st == ST_OK) st = evaluate(&e, comm);
    if (st == ST_OK) st = comm_agree(comm, sum_up(&e, out));
    evaluation_close(&e);
    return st;
}
