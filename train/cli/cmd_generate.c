/* graft generate MODEL [--adapter A]: continuations of the prompts on stdin, one a line or JSONL {"prompt"}. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/label.h"
#include "train/cli/cli.h"
#include "train/cli/condition.h"
#include "train/cli/lines.h"
#include "train/cli/options.h"
#include "train/cli/session.h"
#include "train/run/generate.h"

enum { SLOTS = 8 };

typedef struct job {
    loaded_t loaded;
    compute_t where;
    lines_t lines;
    sequence_t *prompt; /* [lines * streams]: of every line conditioned and, with guidance, not */
    i32buf_t *out;      /* [lines] */
    generator_t generator;
    generate_options_t options;
    option_list_t stop, adapter;
    conditions_t conditions;
    double guidance, weight[2];
    int64_t streams;
    bool json;
    strbuf_t text;
} job_t;

/* A line that is a JSON object with a prompt is one; any other line is the prompt itself. */
static status_t prompt_text(const char *line, size_t n, const char *where, const char **text, size_t *len,
                            json_t **owner) {
    *owner = NULL;
    *text = line;
    *len = n;
    if (!n || line[0] != '{') return ST_OK;
    json_error_t e;
    json_t *j = json_loadb(line, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
    if (!j || !json_object_get(j, "prompt")) {
        json_decref(j);
        return ST_OK; /* text that happens to begin with a brace */
    }
    const json_t *p = json_object_get(j, "prompt");
    if (!json_is_string(p)) {
        json_decref(j);
        return st_raise(ST_INPUT, where, "'prompt' must be a string");
    }
    *owner = j;
    *text = json_string_value(p);
    *len = json_string_length(p);
    return ST_OK;
}

/* Without what --condition names. */
static void unlabel(const job_t *j, sequence_t *p) {
    for (int f = 0; f < j->loaded.layout.n_field; f++)
        if (j->conditions.label[f] >= 0) p->label[f] = -1;
}

static status_t encode(job_t *j, int64_t i, bool conditioned, sequence_t *p) {
    char where[64];
    snprintf(where, sizeof where, "standard input:%lld", (long long)(i + 1));
    size_t n, len;
    const char *line = lines_at(&j->lines, i, &n), *text;
    json_t *owner;
    TRY(prompt_text(line, n, where, &text, &len, &owner));
    int n_prefix;
    const int32_t *prefix = tokenizer_prefix(j->loaded.tokenizer, &n_prefix);
    const i32buf_t *head = &j->conditions.tokens.ids;
    status_t st = sequence_add(p, prefix, n_prefix, 0.0f);
    if (st == ST_OK && conditioned) st = i32buf_add(&p->ids, head->data, head->len);
    if (st == ST_OK) st = tokenizer_encode(j->loaded.tokenizer, text, len, false, &p->ids);
    if (st == ST_OK) st = sequence_weigh(p, n_prefix, 0.0f);
    if (st == ST_OK) st = label_read(owner, &j->loaded.layout, j->conditions.label, p->label);
    json_decref(owner);
    if (st != ST_OK) return st_context(st, "%s", where);
    if (!conditioned) unlabel(j, p);
    p->n_prefix = n_prefix;
    p->n_prompt = p->ids.len;
    if (!p->ids.len) return st_raise(ST_INPUT, where, "the prompt is empty and this model has no BOS to begin with");
    int64_t most = j->loaded.model.config.max_positions - virtual_tokens(&j->loaded.layout);
    if (p->ids.len >= most)
        return st_raise(ST_INPUT, where, "the prompt has %lld tokens, the model takes %lld", (long long)p->ids.len,
                        (long long)most);
    return ST_OK;
}

/* Text up to the first stop string; *cut tells whether there was one. */
static status_t text_of(job_t *j, const i32buf_t *ids, bool *cut) {
    strbuf_clear(&j->text);
    TRY(tokenizer_decode(j->loaded.tokenizer, ids->data, ids->len, true, &j->text));
    *cut = false;
    for (int k = 0; k < j->stop.count && j->text.len; k++) {
        char *at = memmem(j->text.data, j->text.len, j->stop.item[k], strlen(j->stop.item[k]));
        if (!at) continue;
        j->text.len = (size_t)(at - j->text.data);
        *at = 0;
        *cut = true;
    }
    return ST_OK;
}

static bool stop(void *arg, int64_t i, const i32buf_t *out) {
    (void)i;
    bool cut = false;
    return text_of(arg, out, &cut) != ST_OK || cut;
}

static status_t print_one(job_t *j, int64_t i) {
    bool cut;
    TRY(text_of(j, &j->out[i], &cut));
    if (!j->json) {
        fwrite(j->text.data ? j->text.data : "", 1, j->text.len, stdout);
        putchar('\n');
        return ST_OK;
    }
    json_t *tokens = json_array();
    for (int64_t k = 0; tokens && k < j->out[i].len; k++)
        json_array_append_new(tokens, json_integer(j->out[i].data[k]));
    json_t *o = json_pack("{s:s%, s:o}", "text", j->text.data ? j->text.data : "", j->text.len, "tokens", tokens);
    if (!o) return st_nomem("result", 0);
    int failed = json_dumpf(o, stdout, JSON_COMPACT);
    json_decref(o);
    putchar('\n');
    return failed ? st_raise(ST_IO, "standard output", "cannot write") : ST_OK;
}

static status_t generate_all(job_t *j) {
    int64_t longest = 0, most = j->loaded.model.config.max_positions;
    for (int64_t i = 0; i < j->lines.count; i++) {
        for (int64_t k = i * j->streams; k < (i + 1) * j->streams; k++) {
            TRY(encode(j, i, k == i * j->streams, &j->prompt[k]));
            if (j->prompt[k].ids.len > longest) longest = j->prompt[k].ids.len;
        }
    }
    int64_t places = longest + virtual_tokens(&j->loaded.layout) + j->options.max_new_tokens;
    TRY(generator_open(&j->loaded, (j->lines.count < SLOTS ? j->lines.count : SLOTS) * j->streams,
                       places < most ? places : most, &j->generator));
    for (int64_t i = 0; i < j->lines.count; i += SLOTS) {
        int64_t n = j->lines.count - i < SLOTS ? j->lines.count - i : SLOTS;
        TRY(generator_run(&j->generator, j->prompt + i * j->streams, n, i, &j->options, j->stop.count ? stop : NULL, j,
                          j->out + i));
        for (int64_t k = 0; k < n; k++) TRY(print_one(j, i + k));
        fflush(stdout);
    }
    return ST_OK;
}

/* Two streams of every line: with the condition, and without. */
static status_t guide(job_t *j) {
    j->streams = j->guidance < 0 ? 1 : 2;
    if (j->streams == 1) return ST_OK;
    if (!j->conditions.given.count)
        return st_raise(ST_USAGE, "--guidance", "needs a condition to lead to; give --condition FIELD=VALUE");
    const virtual_layout_t *v = &j->loaded.layout;
    for (int f = 0; f < v->n_field; f++)
        if (j->conditions.label[f] >= 0 && !v->field[f].optional)
            return st_raise(ST_USAGE, "--guidance",
                            "the adapter has nothing for examples without '%s', from which guidance leads away; one of "
                            "control_prefix has",
                            v->field[f].name);
    j->weight[0] = j->guidance;
    j->weight[1] = 1 - j->guidance;
    j->options.streams = j->streams;
    j->options.weight = j->weight;
    return ST_OK;
}

static status_t run(job_t *j, const char *model, const char *device, const char *dtype) {
    TRY(loaded_open(model, j->adapter.item, j->adapter.count, &j->loaded));
    TRY(session_place(device, dtype, NULL, &j->loaded, &j->where));
    TRY(conditions_open(&j->conditions, model, &j->adapter, &j->loaded));
    TRY(guide(j));
    TRY(lines_read(&j->lines));
    if (!j->lines.count) return ST_OK;
    void *p;
    TRY(buf_calloc(&p, j->lines.count * j->streams, sizeof *j->prompt, "prompts"));
    j->prompt = p;
    TRY(buf_calloc(&p, j->lines.count, sizeof *j->out, "results"));
    j->out = p;
    return generate_all(j);
}

static status_t body(comm_t *comm, int argc, char **argv) {
    const char *model = NULL, *device = NULL, *dtype = NULL;
    job_t j;
    memset(&j, 0, sizeof j);
    int64_t seed = 42;
    j.options = (generate_options_t){.max_new_tokens = 64, .top_p = 1.0};
    j.guidance = -1; /* none */
    const option_row_t rows[] = {{"--adapter", OPTION_LIST, &j.adapter, 0, 0},
                                 CONDITION_ROWS(&j.conditions),
                                 {"--guidance", OPTION_REAL, &j.guidance, 0, 1e6},
                                 {"--device", OPTION_STRING, &device, 0, 0},
                                 {"--dtype", OPTION_STRING, &dtype, 0, 0},
                                 {"--temperature", OPTION_REAL, &j.options.temperature, 0, 100},
                                 {"--top-p", OPTION_REAL, &j.options.top_p, 1e-6, 1},
                                 {"--top-k", OPTION_INT, &j.options.top_k, 0, 1 << 24},
                                 {"--seed", OPTION_INT, &seed, 0, 9007199254740992.0},
                                 {"--max-new-tokens", OPTION_INT, &j.options.max_new_tokens, 1, 1 << 20},
                                 {"--stop", OPTION_LIST, &j.stop, 0, 0},
                                 {"--json", OPTION_FLAG, &j.json, 0, 0},
                                 {NULL, OPTION_FLAG, NULL, 0, 0}};
    TRY(options_parse(argc, argv, rows, &model, 1,
                      "graft generate MODEL [--adapter A ...] [--condition F=V ...] [--template CONFIG] [--guidance G] "
                      "< PROMPTS"));
    TRY(session_check(dtype));
    for (int k = 0; k < j.stop.count; k++)
        if (!j.stop.item[k][0]) return st_raise(ST_USAGE, "--stop", "must not be empty");
    j.options.seed = (uint64_t)seed;
    if (comm_rank(comm)) return ST_OK;
    status_t st = run(&j, model, device, dtype);
    if (j.generator.build.tape || j.generator.past) generator_close(&j.generator);
    for (int64_t i = 0; j.prompt && i < j.lines.count * j.streams; i++) sequence_release(&j.prompt[i]);
    for (int64_t i = 0; j.out && i < j.lines.count; i++) i32buf_release(&j.out[i]);
    free(j.prompt);
    free(j.out);
    strbuf_release(&j.text);
    lines_release(&j.lines);
    conditions_release(&j.conditions);
    loaded_close(&j.loaded);
    compute_close(&j.where);
    return st;
}

status_t cmd_generate(int argc, char **argv) {
    return session_run(body, argc, argv);
}
