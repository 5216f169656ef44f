#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/checkpoint/checkpoint_impl.h"

enum { SHAPE_BYTES = 80, HEX_BYTES = 20 };

static const char *hex(uint64_t v, char text[HEX_BYTES]) {
    snprintf(text, HEX_BYTES, "%016" PRIx64, v);
    return text;
}

static const char *shape_text(const checkpoint_tensor_t *t, char text[SHAPE_BYTES]) {
    int used = snprintf(text, SHAPE_BYTES, "[");
    for (int i = 0; i < t->rank; i++)
        used += snprintf(text + used, SHAPE_BYTES - (size_t)used, "%s%" PRId64, i ? ", " : "", t->dim[i]);
    snprintf(text + used, SHAPE_BYTES - (size_t)used, "]");
    return text;
}

static int64_t parameters(const checkpoint_t *c) {
    int64_t total = 0;
    for (int64_t i = 0; i < c->count; i++) total += checkpoint_elements(c->tensor[i].rank, c->tensor[i].dim);
    return total;
}

/* Calls row for each line of a text, without its end. */
static void each_line(const char *text, void (*row)(const char *line, int length, void *arg), void *arg) {
    for (const char *line = text; line && *line;) {
        int length = (int)strcspn(line, "\n");
        row(line, length, arg);
        line += length + (line[length] == '\n');
    }
}

static void print_line(const char *line, int length, void *arg) {
    bool *first = arg;
    printf("%s%.*s\n", *first ? "/plan      chosen on " : "  ", length, line);
    *first = false;
}

static void append_line(const char *line, int length, void *array) {
    json_array_append_new(array, json_stringn(line, (size_t)length));
}

static void print_tree(const char *path, const checkpoint_t *c, bool verify) {
    const checkpoint_meta_t *m = &c->meta;
    char a[HEX_BYTES], b[HEX_BYTES], shape[SHAPE_BYTES];
    printf("%s: graft checkpoint, %" PRId64 " bytes, written by graft %s\n", path, c->file_bytes, c->graft_version);
    printf("step %" PRId64 ", tokens %" PRId64 "\n", m->step, m->tokens);
    printf("/model     family %s, method %s, base %s\n", m->family, m->method, m->base_path);
    printf("           base fingerprint %s, tokenizer fingerprint %s\n", hex(m->base_fingerprint, a),
           hex(m->tokenizer_fingerprint, b));
    printf("/config    yaml\n");
    bool first = true;
    each_line(m->choices, print_line, &first);
    printf("/sampler   sequences %" PRId64 ", epoch %" PRId64 ", data fingerprint %s\n", m->sequences, m->epoch_hint,
           hex(m->data_fingerprint, a));
    printf("/rng       seed %" PRIu64 "\n", m->seed);
    printf("/history   metrics [%" PRId64 ", 4] float64 (" CHECKPOINT_HISTORY ")\n", m->n_history);
    printf("/trainable %" PRId64 " tensors, %" PRId64 " parameters\n", c->count, parameters(c));
    for (int64_t i = 0; i < c->count; i++) {
        const checkpoint_tensor_t *t = &c->tensor[i];
        printf("  %s %s float32 xxh64 %s", t->name, shape_text(t, shape), hex(c->checksum[CHECKPOINT_PARTS * i], a));
        for (int s = 0; s < CHECKPOINT_STATES; s++)
            if (t->state[s]) printf(" +%s", checkpoint_state_name[s]);
        printf("\n");
    }
    if (verify) printf("every checksum is right\n");
}

static json_t *tensor_json(const checkpoint_t *c, int64_t i) {
    const checkpoint_tensor_t *t = &c->tensor[i];
    char a[HEX_BYTES];
    json_t *shape = json_array(), *states = json_array();
    for (int d = 0; d < t->rank; d++) json_array_append_new(shape, json_integer(t->dim[d]));
    for (int s = 0; s < CHECKPOINT_STATES; s++)
        if (t->state[s]) json_array_append_new(states, json_string(checkpoint_state_name[s]));
    return json_pack("{s:s, s:s, s:o, s:s, s:o}", "name", t->name, "dtype", "float32", "shape", shape, "xxh64",
                     hex(c->checksum[CHECKPOINT_PARTS * i], a), "optimizer", states);
}

static status_t print_json(const char *path, const checkpoint_t *c) {
    const checkpoint_meta_t *m = &c->meta;
    char base[HEX_BYTES], tokenizer[HEX_BYTES], data[HEX_BYTES], seed[HEX_BYTES + 8];
    snprintf(seed, sizeof seed, "%" PRIu64, m->seed); /* text: JSON numbers lose bits beyond 2^53 */
    json_t *tensors = json_array(), *plan = json_array();
    each_line(m->choices, append_line, plan);
    bool whole = true;
    for (int64_t i = 0; i < c->count; i++) whole = json_array_append_new(tensors, tensor_json(c, i)) == 0 && whole;
    json_t *root =
        json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:{s:s, s:s, s:s, s:s, s:s}, s:{s:I, s:I, s:s}, s:{s:s}, s:I, "
                  "s:s, s:I, s:o, s:o}",
                  "file", path, "format", CHECKPOINT_FORMAT, "format_version", CHECKPOINT_VERSION, "graft_version",
                  c->graft_version, "bytes", (json_int_t)c->file_bytes, "step", (json_int_t)m->step, "tokens",
                  (json_int_t)m->tokens, "model", "family", m->family, "method", m->method, "base_path", m->base_path,
                  "base_fingerprint", hex(m->base_fingerprint, base), "tokenizer_fingerprint",
                  hex(m->tokenizer_fingerprint, tokenizer), "sampler", "sequences", (json_int_t)m->sequences, "epoch",
                  (json_int_t)m->epoch_hint, "data_fingerprint", hex(m->data_fingerprint, data), "rng", "seed", seed,
                  "history", (json_int_t)m->n_history, "config", m->config_yaml, "parameters",
                  (json_int_t)parameters(c), "tensors", tensors, "plan", plan);
    if (!root || !whole) {
        json_decref(root);
        return st_raise(ST_INPUT, path, "a text inside is not UTF-8, so it cannot be printed as JSON");
    }
    int rc = json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
    return rc == 0 ? ST_OK : st_raise(ST_IO, "standard output", "cannot write");
}

status_t checkpoint_inspect(const char *path, bool json, bool verify) {
    checkpoint_t *c = NULL;
    status_t st = checkpoint_open(path, &c); /* which checks every checksum, asked or not */
    if (st == ST_OK && json) st = print_json(path, c);
    if (st == ST_OK && !json) print_tree(path, c, verify);
    checkpoint_close(c);
    if (st == ST_OK && fflush(stdout) != 0) st = st_raise(ST_IO, "standard output", "cannot write");
    return st;
}
