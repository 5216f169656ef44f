#include "train/run/metrics.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include "kernels/buf.h"

struct metrics {
    int fd; /* O_APPEND: a line is one write */
    char *path;
    strbuf_t line;
};

/* --- reading --- */

/* The object of a line with an integer step, or NULL. */
static json_t *parse_line(const char *line, size_t len, int64_t *step) {
    json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *s = json_object_get(o, "step");
    if (!json_is_integer(s)) {
        json_decref(o);
        return NULL;
    }
    *step = json_integer_value(s);
    return o;
}

/* How many bytes of the file belong to steps up to `keep_to`. */
static status_t find_end(const char *path, int64_t keep_to, off_t *out) {
    *out = 0;
    FILE *f = fopen(path, "rb");
    if (!f && errno == ENOENT) return ST_OK;
    if (!f) return st_errno(ST_INPUT, path, "open", errno);
    char *line = NULL;
    size_t cap = 0;
    off_t end = 0;
    status_t st = ST_OK;
    int64_t number = 0, step = 0;
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;) {
        number++;
        json_t *o = line[n - 1] == '\n' ? parse_line(line, (size_t)n, &step) : NULL;
        bool good = o != NULL;
        json_decref(o);
        if (!good && getc(f) != EOF) {
            char where[1100];
            snprintf(where, sizeof where, "%.1000s:%lld", path, (long long)number);
            st = st_raise(ST_INPUT, where, "not a line of metrics; move the file away to continue without its history");
            break;
        }
        if (!good || step > keep_to) break;
        end += n;
    }
    if (st == ST_OK && ferror(f)) st = st_errno(ST_INPUT, path, "read", errno);
    free(line);
    fclose(f);
    *out = end;
    return st;
}

status_t metrics_read(const char *path, const char *const *names, int count, metrics_series_t *series) {
    FILE *f = fopen(path, "rb");
    if (!f) return st_errno(ST_INPUT, path, "open", errno);
    char *line = NULL;
    size_t cap = 0;
    status_t st = ST_OK;
    for (ssize_t n; st == ST_OK && (n = getline(&line, &cap, f)) > 0;) {
        int64_t step = 0;
        json_t *o = parse_line(line, (size_t)n, &step);
        for (int i = 0; o && st == ST_OK && i < count; i++) {
            json_t *v = json_object_get(o, names[i]);
            if (!json_is_number(v) && !json_is_null(v)) continue;
            void *points = series[i].points;
            st = buf_reserve(&points, &series[i].cap, series[i].count + 1, sizeof(metrics_point_t), "metrics");
            if (st != ST_OK) break;
            series[i].points = points;
            series[i].points[series[i].count++] =
                (metrics_point_t){step, v && json_is_number(v) ? json_number_value(v) : NAN};
        }
        json_decref(o);
    }
    if (st == ST_OK && ferror(f)) st = st_errno(ST_INPUT, path, "read", errno);
    free(line);
    fclose(f);
    return st;
}

void metrics_series_release(metrics_series_t *s) {
    free(s->points);
    *s = (metrics_series_t){0};
}

/* --- writing --- */

status_t metrics_open(const char *path, int64_t keep_to, metrics_t **out) {
    off_t end = 0;
    if (keep_to >= 0) TRY(find_end(path, keep_to, &end));
    void *memory;
    TRY(buf_calloc(&memory, 1, sizeof(metrics_t), "metrics"));
    metrics_t *m = memory;
    m->fd = -1;
    m->path = buf_strdup(path);
    status_t st = m->path ? ST_OK : ST_NOMEM;
    if (st == ST_OK) {
        m->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (m->fd < 0) st = st_errno(ST_IO, path, "open", errno);
    }
    if (st == ST_OK && ftruncate(m->fd, end) != 0) st = st_errno(ST_IO, path, "truncate", errno);
    if (st == ST_OK)
        *out = m;
    else
        metrics_close(m);
    return st;
}

/* The line as one write, so that a reader never sees half of it while the run lives. */
static status_t write_line(metrics_t *m) {
    TRY(strbuf_adds(&m->line, "}\n"));
    const char *p = m->line.data;
    size_t left = m->line.len;
    while (left > 0) {
        ssize_t n = write(m->fd, p, left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return st_errno(ST_IO, m->path, "write", errno);
        p += n;
        left -= (size_t)n;
    }
    return ST_OK;
}

static status_t begin_line(metrics_t *m, int64_t step) {
    strbuf_clear(&m->line);
    return strbuf_addf(&m->line, "{\"step\":%lld", (long long)step);
}

static status_t add_value(metrics_t *m, const char *name, double value) {
    if (!isfinite(value)) return strbuf_addf(&m->line, ",\"%s\":null", name);
    return strbuf_addf(&m->line, ",\"%s\":%.9g", name, value);
}

status_t metrics_write_step(metrics_t *m, const metrics_step_t *s) {
    TRY(begin_line(m, s->step));
    TRY(strbuf_addf(&m->line, ",\"tokens\":%lld", (long long)s->tokens));
    TRY(add_value(m, "loss", s->loss));
    TRY(add_value(m, "grad_norm", s->grad_norm));
    TRY(add_value(m, "learning_rate", s->learning_rate));
    TRY(add_value(m, "tokens_per_second", s->tokens_per_second));
    TRY(add_value(m, "step_seconds", s->step_seconds));
    return write_line(m);
}

status_t metrics_write_eval(metrics_t *m, int64_t step, const metrics_value_t *values, int count) {
    TRY(begin_line(m, step));
    for (int i = 0; i < count; i++) {
        assert(strncmp(values[i].name, "eval_", 5) == 0);
        TRY(add_value(m, values[i].name, values[i].value));
    }
    return write_line(m);
}

status_t metrics_sync(metrics_t *m) {
    return fsync(m->fd) == 0 ? ST_OK : st_errno(ST_IO, m->path, "sync", errno);
}

void metrics_close(metrics_t *m) {
    if (!m) return;
    if (m->fd >= 0) close(m->fd);
    strbuf_release(&m->line);
    free(m->path);
    free(m);
}
