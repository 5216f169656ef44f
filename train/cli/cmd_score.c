/* graft score MODEL [--adapter A]: log-probability of every given token (interface.md 5). Under a launcher rank 0,
 * which has the standard input, does the work. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/batch.h"
#include "data/render.h"
#include "train/cli/cli.h"
#include "train/cli/condition.h"
#include "train/cli/lines.h"
#include "train/cli/options.h"
#include "train/cli/session.h"
#include "train/run/micro.h"
#include "train/run/mixture.h"

enum { GROUP_TOKENS = 1024 };

typedef struct scorer {
    loaded_t loaded;
    lines_t lines;
    sequence_t *sequence; /* [lines] */
    int64_t longest;
    build_t build;
    batch_t batch;
    int64_t capacity; /* tokens of a batch, virtual ones counted */
    int64_t extra;    /* virtual tokens of a sequence */
    option_list_t adapter;
    conditions_t conditions;
    mixture_kind_t mixing;
    int field; /* whose labels are mixed */
    mixture_t mixture;
} scorer_t;

static status_t render(scorer_t *s) {
    void *p;
    TRY(buf_calloc(&p, s->lines.count, sizeof(sequence_t), "lines"));
    s->sequence = p;
    const encoder_t encoder = encoder_of_tokenizer(s->loaded.tokenizer);
    const render_options_t o = {.format = FORMAT_AUTO,
                                .layout = &s->loaded.layout,
                                .label = s->conditions.label,
                                .head = s->conditions.tokens.ids.data,
                                .n_head = s->conditions.tokens.ids.len};
    s->extra = virtual_tokens(&s->loaded.layout);
    int64_t most = s->loaded.model.config.max_positions - s->extra;
    for (int64_t i = 0; i < s->lines.count; i++) {
        char where[64];
        size_t n;
        const char *text = lines_at(&s->lines, i, &n);
        snprintf(where, sizeof where, "standard input:%lld", (long long)(i + 1));
        TRY(render_example(&encoder, &o, where, text, n, &s->sequence[i]));
        if (s->sequence[i].ids.len > most)
            return st_raise(ST_INPUT, where, "has %lld tokens, the model takes %lld", (long long)s->sequence[i].ids.len,
                            (long long)most);
        if (s->sequence[i].ids.len > s->longest) s->longest = s->sequence[i].ids.len;
    }
    return ST_OK;
}

/* Sequences [from, to) as one packed batch; every weighted token is a loss row. */
static status_t load(scorer_t *s, int64_t from, int64_t to) {
    batch_clear(&s->batch);
    for (int64_t i = from; i < to; i++) TRY(batch_add(&s->batch, &s->loaded.layout, &s->sequence[i], i - from));
    for (int64_t m = 0; m < s->batch.n_loss; m++) s->batch.loss_weight[m] = 1.0f;
    micro_load(&s->build, &s->batch);
    return ST_OK;
}

static int64_t print_line(const sequence_t *q, const float *nll) {
    double sum = 0;
    int64_t m = 0;
    fputs("{\"tokens\":[", stdout);
    for (int64_t k = 1; k < q->ids.len; k++)
        if (q->weight[k] > 0) printf("%s%d", m++ ? "," : "", q->ids.data[k]);
    fputs("],\"logprobs\":[", stdout);
    for (int64_t k = 0; k < m; k++) {
        printf("%s%.9g", k ? "," : "", nll[k] == 0 ? 0.0 : -(double)nll[k]);
        sum -= (double)nll[k];
    }
    printf("],\"sum\":%.9g}\n", sum == 0 ? 0.0 : sum);
    return m;
}

static status_t open_pass(scorer_t *s) {
    int64_t n = s->capacity;
    build_options_t o = {.tail = TAIL_LOSS};
    if (s->mixing != MIXTURE_NONE) return mixture_open(&s->loaded, s->mixing, s->field, n, &s->mixture);
    micro_share(&s->loaded.layout, n, &o);
    TRY(micro_batch_init(&s->loaded.layout, n, &s->batch));
    return build_open(&s->loaded.model, loaded_backend(&s->loaded), s->loaded.hook, s->loaded.n_method, o, &s->build);
}

static status_t score_group(scorer_t *s, int64_t from, int64_t to) {
    TRY(load(s, from, to));
    tape_forward(s->build.tape);
    void *fetched;
    TRY(tape_fetch(s->build.tape, s->build.nll, &fetched));
    const float *nll = fetched;
    for (int64_t i = from; i < to; i++) nll += print_line(&s->sequence[i], nll);
    return ST_OK;
}

/* Of the tokens, all of which the mixture knows, those with a weight. */
static status_t mix_group(scorer_t *s, int64_t from, int64_t to) {
    void *memory;
    int64_t row = 0;
    TRY(mixture_run(&s->mixture, s->sequence + from, to - from));
    TRY(buf_calloc(&memory, s->capacity, sizeof(float), "log-probabilities"));
    float *nll = memory;
    for (int64_t i = from; i < to; i++) {
        const sequence_t *q = &s->sequence[i];
        int64_t m = 0;
        mixture_sequence(&s->mixture, row, q->ids.len, nll);
        for (int64_t k = 1; k < q->ids.len; k++)
            if (q->weight[k] > 0) nll[m++] = nll[k - 1];
        print_line(q, nll);
        row += q->ids.len > 0 ? q->ids.len - 1 : 0;
    }
    free(memory);
    return ST_OK;
}

static status_t score_all(scorer_t *s) {
    s->capacity = s->longest + s->extra > GROUP_TOKENS ? s->longest + s->extra : GROUP_TOKENS;
    TRY(open_pass(s));
    for (int64_t from = 0, to; from < s->lines.count; from = to) {
        int64_t tokens = 0;
        for (to = from; to < s->lines.count && to - from < s->capacity &&
                        tokens + s->sequence[to].ids.len + s->extra <= s->capacity;
             to++)
            tokens += s->sequence[to].ids.len + s->extra;
        TRY(s->mixing != MIXTURE_NONE ? mix_group(s, from, to) : score_group(s, from, to));
    }
    return ST_OK;
}

static status_t body(comm_t *comm, int argc, char **argv) {
    const char *model = NULL, *device = NULL, *dtype = NULL, *mixture = NULL;
    scorer_t s;
    memset(&s, 0, sizeof s);
    const option_row_t rows[] = {
        {"--adapter", OPTION_LIST, &s.adapter, 0, 0}, CONDITION_ROWS(&s.conditions),
        {"--mixture", OPTION_STRING, &mixture, 0, 0}, {"--device", OPTION_STRING, &device, 0, 0},
        {"--dtype", OPTION_STRING, &dtype, 0, 0},     {NULL, OPTION_FLAG, NULL, 0, 0}};
    TRY(options_parse(argc, argv, rows, &model, 1,
                      "graft score MODEL [--adapter A ...] [--condition F=V ...] [--template CONFIG] [--mixture "
                      "uniform|posterior] < LINES"));
    TRY(session_check(dtype));
    TRY(mixture_find(mixture, &s.mixing));
    if (comm_rank(comm)) return ST_OK;
    compute_t where = {0};
    status_t st = loaded_open(model, s.adapter.item, s.adapter.count, &s.loaded);
    if (st == ST_OK) st = session_place(device, dtype, NULL, &s.loaded, &where);
    if (st == ST_OK) st = conditions_open(&s.conditions, model, &s.adapter, &s.loaded);
    if (st == ST_OK && mixture) st = mixture_field(&s.loaded.layout, s.conditions.label, &s.field);
    if (st == ST_OK) st = lines_read(&s.lines);
    if (st == ST_OK) st = render(&s);
    if (st == ST_OK && s.lines.count) st = score_all(&s);
    if (s.build.tape) build_close(&s.build);
    mixture_close(&s.mixture);
    batch_release(&s.batch);
    for (int64_t i = 0; s.sequence && i < s.lines.count; i++) sequence_release(&s.sequence[i]);
    free(s.sequence);
    lines_release(&s.lines);
    conditions_release(&s.conditions);
    loaded_close(&s.loaded);
    compute_close(&where);
    return st;
}

status_t cmd_score(int argc, char **argv) {
    return session_run(body, argc, argv);
}
