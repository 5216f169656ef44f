#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "train/run/choices.h"
#include "train/run/registry.h"
#include "train/run/sharding.h"
#include "train/run/trainer.h"

/* The trainable tensors as checkpoint rows, pointing into the blobs; `state` is the optimiser's, whole. */
static status_t tensors(trainer_t *t, float *const state[2], checkpoint_tensor_t **out, int64_t *n) {
    const param_set_t *p = &t->loaded.model.params;
    void *rows;
    TRY(buf_calloc(&rows, p->count, sizeof **out, "checkpoint rows"));
    *out = rows;
    *n = 0;
    for (int64_t i = 0; i < p->count; i++) {
        const param_t *x = &p->item[i];
        if (!x->trainable) continue;
        checkpoint_tensor_t *c = &(*out)[(*n)++];
        *c = (checkpoint_tensor_t){.name = x->name, .rank = x->value.rank, .data = x->value.data};
        for (int k = 0; k < x->value.rank; k++) c->dim[k] = x->value.dim[k];
        for (int k = 0; k < 2; k++) c->state[k] = state[k] + x->offset;
    }
    return ST_OK;
}

/* What the methods say about themselves: one object, or an array of several. */
static status_t describe(trainer_t *t, char **text) {
    json_t *all = json_array();
    status_t st = all ? ST_OK : st_nomem("description", 0);
    for (int i = 0; st == ST_OK && i < t->loaded.n_method; i++) {
        const loaded_method_t *m = &t->loaded.method[i];
        json_t *one = NULL;
        st = m->method->describe(m->self, &t->loaded.model, &one);
        if (st == ST_OK && json_array_append_new(all, one)) st = st_nomem("description", 0);
    }
    if (st == ST_OK) *text = json_dumps(t->loaded.n_method == 1 ? json_array_get(all, 0) : all, JSON_SORT_KEYS);
    if (st == ST_OK && !*text) st = st_nomem("description", 0);
    json_decref(all);
    return st;
}

static status_t write_file(trainer_t *t, float *const state[2], const char *choices, const char *name) {
    checkpoint_tensor_t *rows = NULL;
    char *text = NULL;
    int64_t n = 0;
    status_t st = ST_OK;
    TRY_GOTO(tensors(t, state, &rows, &n), done);
    TRY_GOTO(describe(t, &text), done);
    int64_t epoch = stream_epoch_sequences(t->now->stream);
    char base[PATH_MAX]; /* absolute, so that an export from another directory finds it */
    if (!realpath(t->loaded.model.path, base))
        TRY_GOTO(st_errno(ST_INPUT, t->loaded.model.path, "resolve", errno), done);
    const checkpoint_meta_t meta = {
        .step = t->step,
        .tokens = t->tokens,
        .sequences = t->place,
        .epoch_hint = epoch > 0 ? t->place / epoch : 0,
        .seed = (uint64_t)t->config->training.seed,
        .base_fingerprint = t->loaded.model.fingerprint,
        .tokenizer_fingerprint = t->tokenizer_fingerprint,
        .data_fingerprint = t->data_fingerprint,
        .family = t->loaded.model.family->name,
        .base_path = base,
        .method = text,
        .config_yaml = t->config_yaml.data,
        .choices = choices,
        .history = t->history,
        .n_history = t->n_history,
    };
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", t->config->output_dir, name ? name : "");
    st = name ? checkpoint_write(path, &meta, rows, n)
              : checkpoint_save(t->config->output_dir, &meta, rows, n, t->config->save_total_limit);
done:
    free(rows);
    free(text);
    return st;
}

/* What has just been saved gets a second name. *collective* */
static status_t link_file(const trainer_t *t, const char *name, bool *done) {
    char path[PATH_MAX];
    int64_t flag;
    status_t st = ST_OK;
    *done = false;
    if (!name || t->published != t->step) return ST_OK;
    snprintf(path, sizeof path, "%s/%s", t->config->output_dir, name);
    if (comm_rank(t->comm) == 0) st = checkpoint_link(t->config->output_dir, t->step, path, done);
    TRY(comm_agree(t->comm, st));
    flag = *done;
    TRY(comm_max_i64(t->comm, &flag, 1));
    *done = flag != 0;
    return ST_OK;
}

/* *collective* */
static status_t write_state(trainer_t *t, const char *name) {
    float *state[2], *copy = NULL;
    char *choices = NULL;
    status_t gathered = choices_gather(t->comm, t->compute.device, &choices);
    if (gathered == ST_OK) gathered = sharding_gather(t->comm, &t->optim, state, &copy);
    status_t st = gathered == ST_OK && t->reporter ? reporter_sync(t->reporter) : gathered;
    if (st == ST_OK && comm_rank(t->comm) == 0) st = param_download(&t->loaded.model.params);
    if (st == ST_OK && comm_rank(t->comm) == 0) st = write_file(t, state, choices, name);
    free(copy);
    free(choices);
    TRY(gathered); /* the ranks have agreed on that */
    return comm_agree(t->comm, st);
}

status_t trainer_save(trainer_t *t, const char *name) {
    bool done;
    TRY(trainer_settle(t, 0));
    comm_beat(t->comm, "saving");
    TRY(link_file(t, name, &done));
    if (!done) TRY(write_state(t, name));
    if (!name) t->saved = t->published = t->step;
    if (t->reporter) reporter_say(t->reporter, "saved %s step %lld", name ? name : "checkpoint", (long long)t->step);
    return ST_OK;
}

static void warn(void *arg, const char *text) {
    if (comm_rank(arg) == 0) fprintf(stderr, "graft: warning: %s\n", text);
}

static status_t differs(const checkpoint_t *c, const trainer_t *t, const char *where) {
    const checkpoint_meta_t *m = checkpoint_meta(c);
    const struct {
        const char *what;
        uint64_t saved, present;
    } rows[] = {{"base model", m->base_fingerprint, t->loaded.model.fingerprint},
                {"tokenizer", m->tokenizer_fingerprint, t->tokenizer_fingerprint},
                {"training data", m->data_fingerprint, t->data_fingerprint}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].saved != rows[i].present)
            return st_raise(ST_USAGE, where,
                            "the %s is not the one this run began with; restore it, or choose another output_dir",
                            rows[i].what);
    config_t before;
    memset(&before, 0, sizeof before);
    strbuf_t changes = {0};
    status_t st = config_parse(where, m->config_yaml, strlen(m->config_yaml), NULL, 0, registry_methods(), &before);
    if (st == ST_OK) st = config_diff(&before, t->config, &changes);
    if (st == ST_OK && changes.len) {
        if (changes.data[changes.len - 1] == '\n') changes.data[changes.len - 1] = 0;
        st = st_raise(
            ST_USAGE, where,
            "cannot continue this run with another configuration: %s; set it back, or choose another output_dir",
            changes.data);
    }
    strbuf_release(&changes);
    config_release(&before);
    return st;
}

/* The part of a tensor's state that this rank holds. */
static void restore_state(adamw_t *a, const param_t *x, const checkpoint_tensor_t *s) {
    int64_t lo = x->offset, hi = lo + view_count(&x->value), end = a->first + a->n;
    if (lo < a->first) lo = a->first;
    if (hi > end) hi = end;
    if (lo >= hi) return;
    adamw_load(a, lo, hi - lo, s->state[0] + (lo - x->offset), s->state[1] + (lo - x->offset));
}

static status_t restore_tensors(trainer_t *t, const checkpoint_t *c, const char *where) {
    const param_set_t *p = &t->loaded.model.params;
    for (int64_t i = 0; i < p->count; i++) {
        const param_t *x = &p->item[i];
        if (!x->trainable) continue;
        const checkpoint_tensor_t *s = checkpoint_find(c, x->name);
        bool same = s && s->state[0] && s->state[1] && s->rank == x->value.rank;
        for (int k = 0; same && k < s->rank; k++) same = s->dim[k] == x->value.dim[k];
        if (!same)
            return st_raise(ST_INPUT, where, "tensor '%s' or its optimiser state is missing or of another shape",
                            x->name);
        memcpy(x->value.data, s->data, view_bytes(&x->value));
        restore_state(&t->optim, x, s);
    }
    return ST_OK;
}

static status_t restore(trainer_t *t, const checkpoint_t *c, const char *where) {
    TRY(differs(c, t, where));
    const checkpoint_meta_t *m = checkpoint_meta(c);
    void *h;
    status_t st = restore_tensors(t, c, where), sent = device_sync(t->optim.device, where);
    TRY(st);
    TRY(sent);
    TRY(param_upload(&t->loaded.model.params));
    t->choices_differ =
        t->compute.device && m->choices && m->choices[0] && !device_adopt(t->compute.device, m->choices);
    TRY(buf_calloc(&h, 4 * m->n_history, sizeof(double), "history"));
    if (m->n_history) memcpy(h, m->history, (size_t)(4 * m->n_history) * sizeof(double));
    free(t->history);
    t->history = h;
    t->n_history = m->n_history;
    t->cap_history = 4 * m->n_history;
    t->step = t->saved = t->optim.step = m->step;
    t->tokens = m->tokens;
    t->place = m->sequences;
    return ST_OK;
}

static status_t find_checkpoint(trainer_t *t, checkpoint_t **out) {
    const char *from = t->config->resume_from_checkpoint;
    if (!strcmp(from, "never")) return ST_OK;
    if (strcmp(from, "auto")) {
        struct stat s;
        bool directory = !stat(from, &s) && S_ISDIR(s.st_mode);
        return directory ? checkpoint_latest(from, warn, t->comm, out) : checkpoint_open(from, out);
    }
    return checkpoint_latest(t->config->output_dir, warn, t->comm, out);
}

/* A run that is finished is not begun anew by starting it once more with `never`. */
static status_t refuse_overwrite(const trainer_t *t) {
    if (strcmp(t->config->resume_from_checkpoint, "never")) return ST_OK;
    char path[PATH_MAX];
    struct stat s;
    snprintf(path, sizeof path, "%s/metrics.jsonl", t->config->output_dir);
    if (stat(path, &s)) return ST_OK;
    return st_raise(ST_USAGE, t->config->output_dir,
                    "holds a run already and resume_from_checkpoint is never; choose another output_dir");
}

status_t trainer_resume(trainer_t *t) {
    checkpoint_t *c = NULL;
    status_t st = refuse_overwrite(t);
    if (st == ST_OK) st = find_checkpoint(t, &c);
    if (st == ST_OK && c) st = restore(t, c, t->config->output_dir);
    checkpoint_close(c);
    TRY(comm_agree(t->comm, st));
    /* ranks may have seen different files on a file system that lags: they must agree on the step */
    int64_t step[2] = {t->step, -t->step};
    TRY(comm_max_i64(t->comm, step, 2));
    if (step[0] != -step[1])
        return st_raise(ST_IO, t->config->output_dir, "ranks found different newest checkpoints (steps %lld and %lld)",
                        (long long)-step[1], (long long)step[0]);
    return ST_OK;
}
