#include "train/run/reporter.h"
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "data/publish.h"
#include "kernels/buf.h"
#include "train/run/metrics.h"
#include "train/run/progress.h"
#include "train/run/report.h"
#include "train/run/tfevents.h"

struct reporter {
    const config_t *config;
    const char *config_yaml;
    metrics_t *metrics;
    tfevents_t *events;
    progress_t progress;
    int ranks;
};

static double wall(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static status_t path_of(const config_t *c, const char *name, char path[PATH_MAX]) {
    if (snprintf(path, PATH_MAX, "%s/%s", c->output_dir, name) >= PATH_MAX)
        return st_raise(ST_USAGE, "output_dir", "is too long");
    return ST_OK;
}

static status_t write_config(const config_t *c, const char *yaml) {
    char path[PATH_MAX];
    publish_t p;
    TRY(path_of(c, "config.yaml", path));
    TRY(publish_begin(path, &p));
    if (fputs(yaml, p.file) < 0) {
        publish_abort(&p);
        return st_raise(ST_IO, path, "cannot write");
    }
    return publish_commit(&p);
}

status_t reporter_open(const config_t *config, const char *config_yaml, int64_t step, int64_t total_steps, int ranks,
                       reporter_t **out) {
    void *p;
    char path[PATH_MAX];
    TRY(path_of(config, "metrics.jsonl", path));
    TRY(buf_calloc(&p, 1, sizeof(reporter_t), "reporter"));
    reporter_t *r = p;
    r->config = config;
    r->ranks = ranks;
    r->config_yaml = config_yaml;
    status_t st = ST_OK;
    TRY_GOTO(write_config(config, config_yaml), failed);
    TRY_GOTO(metrics_open(path, step ? step : METRICS_NEW, &r->metrics), failed);
    TRY_GOTO(tfevents_open(config->output_dir, wall(), step, &r->events), failed);
    progress_start(&r->progress, stderr, config->name, total_steps, config->logging_steps);
    *out = r;
    return ST_OK;
failed:
    metrics_close(r->metrics);
    tfevents_close(r->events);
    free(r);
    return st;
}

void reporter_close(reporter_t *r) {
    if (!r) return;
    progress_finish(&r->progress);
    metrics_close(r->metrics);
    tfevents_close(r->events);
    free(r);
}

status_t reporter_step(reporter_t *r, const metrics_step_t *s, bool last) {
    progress_step(&r->progress, s);
    if (!last && r->config->logging_steps > 0 && s->step % r->config->logging_steps) return ST_OK;
    TRY(metrics_write_step(r->metrics, s));
    const struct {
        const char *tag;
        double value;
    } row[] = {{"train/loss", s->loss},
               {"train/grad_norm", s->grad_norm},
               {"train/learning_rate", s->learning_rate},
               {"train/tokens_per_second", s->tokens_per_second}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        TRY(tfevents_scalar(r->events, wall(), s->step, row[i].tag, row[i].value));
    return ST_OK;
}

status_t reporter_eval(reporter_t *r, int64_t step, const evaluation_t *e) {
    const metrics_value_t values[] = {{"eval_loss", e->loss},
                                      {"eval_perplexity", exp(e->loss)},
                                      {"eval_weight", e->weight},
                                      {"eval_tokens", (double)e->tokens}};
    int n = sizeof values / sizeof *values;
    progress_eval(&r->progress, step, values, 2);
    TRY(metrics_write_eval(r->metrics, step, values, n));
    return tfevents_scalar(r->events, wall(), step, "eval/loss", e->loss);
}

status_t reporter_sync(reporter_t *r) {
    return metrics_sync(r->metrics);
}

void reporter_say(reporter_t *r, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    progress_note(&r->progress, "%s", line);
}

status_t reporter_report(reporter_t *r) {
    TRY(metrics_sync(r->metrics));
    char metrics[PATH_MAX], page[PATH_MAX];
    TRY(path_of(r->config, "metrics.jsonl", metrics));
    TRY(path_of(r->config, "report.html", page));
    const report_t report = {r->config->output_dir, metrics, r->config_yaml, "cpu", r->ranks, omp_get_max_threads()};
    return report_write(page, &report);
}
