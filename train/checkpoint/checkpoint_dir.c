/* The checkpoints of a run's directory: names, order, the newest good one, publication and removal. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

#define NAME "checkpoint-%" PRId64 ".h5"
enum { NAME_BYTES = 64 };

typedef struct steps {
    int64_t *data;
    int64_t len, cap;
} steps_t;

/* The step in a file name of ours with `suffix` after it, -1 for any other name. */
static int64_t step_of(const char *file, const char *suffix) {
    static const char prefix[] = "checkpoint-";
    if (strncmp(file, prefix, sizeof prefix - 1) != 0) return -1;
    errno = 0;
    long long step = strtoll(file + sizeof prefix - 1, NULL, 10);
    if (errno || step < 0) return -1;
    char again[NAME_BYTES];
    snprintf(again, sizeof again, NAME "%s", (int64_t)step, suffix);
    return strcmp(again, file) == 0 ? step : -1; /* only the spelling that we write */
}

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Steps of the files "checkpoint-<step>.h5<suffix>", newest first. A directory that is not there is empty. */
static status_t list(const char *dir, const char *suffix, steps_t *out) {
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return ST_OK;
    if (!d) return st_errno(ST_INPUT, dir, "open the directory", errno);
    status_t st = ST_OK;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            if (errno) st = st_errno(ST_INPUT, dir, "list the directory", errno);
            break;
        }
        int64_t step = step_of(e->d_name, suffix);
        if (step < 0) continue;
        void *data = out->data;
        st = buf_reserve(&data, &out->cap, out->len + 1, sizeof *out->data, "list of checkpoints");
        if (st != ST_OK) break;
        out->data = data;
        out->data[out->len++] = step;
    }
    closedir(d);
    if (out->len) qsort(out->data, (size_t)out->len, sizeof *out->data, descending);
    return st;
}

static status_t path_of(const char *dir, int64_t step, const char *suffix, strbuf_t *path) {
    strbuf_clear(path);
    return strbuf_addf(path, "%s/" NAME "%s", dir, step, suffix);
}

static status_t delete_file(const char *dir, int64_t step, const char *suffix) {
    strbuf_t path = {0};
    status_t st = path_of(dir, step, suffix, &path);
    if (st == ST_OK && unlink(path.data) != 0 && errno != ENOENT) st = st_errno(ST_IO, path.data, "delete", errno);
    strbuf_release(&path);
    return st;
}

/* Where to begin among the steps, newest first: at the one that DIR/latest names, since later ones belong to a branch
 * that the run left when it was resumed from an older checkpoint; at 0 when it names none of them. */
static status_t first_to_try(const char *dir, const steps_t *steps, int64_t *first) {
    strbuf_t path = {0};
    char line[NAME_BYTES] = "";
    *first = 0;
    TRY(strbuf_addf(&path, "%s/latest", dir));
    FILE *f = fopen(path.data, "re");
    strbuf_release(&path);
    if (!f) return ST_OK;
    if (!fgets(line, sizeof line, f)) line[0] = 0;
    fclose(f);
    line[strcspn(line, "\n")] = 0;
    const int64_t named = step_of(line, "");
    for (int64_t i = 0; i < steps->len; i++)
        if (steps->data[i] == named) *first = i;
    return ST_OK;
}

status_t checkpoint_latest(const char *dir, void (*warn)(void *, const char *), void *arg, checkpoint_t **out) {
    steps_t steps = {0};
    strbuf_t path = {0};
    checkpoint_t *found = NULL;
    status_t st = list(dir, "", &steps);
    int64_t first = 0, tried = 0;
    if (st == ST_OK) st = first_to_try(dir, &steps, &first);
    for (; st == ST_OK && !found && tried < steps.len; tried++) {
        TRY_GOTO(path_of(dir, steps.data[(first + tried) % steps.len], "", &path), done);
        st = checkpoint_open(path.data, &found);
        if (st != ST_INPUT) continue;
        if (warn) warn(arg, st_message());
        st = ST_OK;
    }
    if (st == ST_OK && !found && steps.len > 0)
        st = st_raise(ST_INPUT, dir,
                      "none of the %" PRId64 " checkpoints is intact; remove them to begin anew, or set "
                      "resume_from_checkpoint to another one",
                      steps.len);
    if (st == ST_OK) {
        st_clear(); /* rejected files have been reported */
        *out = found;
    }
done:
    strbuf_release(&path);
    free(steps.data);
    return st;
}

/* Moves DIR/latest, a line with the name of the newest file. */
static status_t point_latest(const char *dir, int64_t step) {
    strbuf_t from = {0}, to = {0};
    char line[NAME_BYTES];
    int n = snprintf(line, sizeof line, NAME "\n", step);
    status_t st = strbuf_addf(&to, "%s/latest", dir);
    if (st == ST_OK) st = strbuf_addf(&from, "%s/latest.tmp", dir);
    if (st == ST_OK) st = checkpoint_put(from.data, line, (size_t)n);
    if (st == ST_OK) st = checkpoint_rename(from.data, to.data);
    strbuf_release(&from);
    strbuf_release(&to);
    return st;
}

status_t checkpoint_save(const char *dir, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n,
                         int64_t keep) {
    steps_t stale = {0}, steps = {0};
    strbuf_t path = {0};
    status_t st = list(dir, ".tmp", &stale);
    for (int64_t i = 0; st == ST_OK && i < stale.len; i++) st = delete_file(dir, stale.data[i], ".tmp");
    if (st == ST_OK) st = path_of(dir, meta->step, "", &path);
    if (st == ST_OK) st = checkpoint_write(path.data, meta, t, n);
    if (st == ST_OK) st = point_latest(dir, meta->step);
    /* Only older ones are ours to delete: a newer file belongs to a branch that the user may want back. */
    if (st == ST_OK && keep > 0) st = list(dir, "", &steps);
    int64_t kept = 1;
    for (int64_t i = 0; st == ST_OK && i < steps.len; i++)
        if (steps.data[i] < meta->step && kept++ >= keep) st = delete_file(dir, steps.data[i], "");
    strbuf_release(&path);
    free(stale.data);
    free(steps.data);
    return st;
}

status_t checkpoint_link(const char *dir, int64_t step, const char *path, bool *done) {
    strbuf_t from = {0}, temporary = {0};
    *done = false;
    status_t st = path_of(dir, step, "", &from);
    if (st == ST_OK) st = strbuf_addf(&temporary, "%s.tmp", path);
    if (st == ST_OK && unlink(temporary.data) != 0 && errno != ENOENT)
        st = st_errno(ST_IO, temporary.data, "remove the old file", errno);
    if (st == ST_OK && link(from.data, temporary.data) == 0) {
        *done = true;
        st = checkpoint_rename(temporary.data, path);
        unlink(temporary.data); /* rename leaves both names when PATH is one of the file's already */
    }
    strbuf_release(&from);
    strbuf_release(&temporary);
    return st;
}
