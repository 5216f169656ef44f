#include "train/run/report.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include "data/publish.h"
#include "kernels/buf.h"
#include "train/run/metrics.h"
#include "train/run/progress.h"
#include "train/run/svg.h"

enum { LOSS, EVAL_LOSS, LEARNING_RATE, GRAD_NORM, SPEED, TOKENS, SECONDS, SERIES_COUNT };
static const char *const series_names[SERIES_COUNT] = {
    "loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "tokens", "step_seconds"};

static const char page_head[] =
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ddd; --c0: #1f6fb4; --c1: #d1495b; }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #181a1b; --line: #3a3d3f; --c0: #6db3f2; "
    "--c1: #f28a96; } }\n"
    "body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 800px; "
    "margin: 2em auto; padding: 0 1em; }\n"
    "h1 { font-size: 1.5em; overflow-wrap: anywhere; } h2 { font-size: 1.15em; margin-top: 2em; }\n"
    "table { border-collapse: collapse; } td { padding: .15em 1.5em .15em 0; vertical-align: top; }\n"
    "pre { border: 1px solid var(--line); padding: .8em; overflow-x: auto; }\n"
    "svg { width: 100%; height: auto; margin: .5em 0; } svg text { font-size: 12px; fill: var(--ink); }\n"
    "svg .title { font-weight: 600; font-size: 13px; } .grid { stroke: var(--line); }\n"
    ".curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; } path.c0 { stroke: var(--c0); } path.c1 { "
    "stroke: "
    "var(--c1); }\n"
    "circle.c0, svg text.c0 { fill: var(--c0); } circle.c1, svg text.c1 { fill: var(--c1); }\n"
    "</style>\n</head>\n<body>\n";

static status_t add_row(strbuf_t *out, const char *name, const char *value) {
    TRY(strbuf_addf(out, "<tr><td>%s</td><td>", name));
    TRY(svg_escape(value, out));
    return strbuf_adds(out, "</td></tr>\n");
}

static status_t add_number(strbuf_t *out, const char *name, int decimals, double value, const char *unit) {
    char text[400];
    snprintf(text, sizeof text, "%.*f%s", decimals, value, unit);
    return add_row(out, name, isfinite(value) ? text : "not finite");
}

static double last_of(const metrics_series_t *s) {
    return s->count ? s->points[s->count - 1].value : NAN;
}

/* Time of all steps; a step that left no line (logging_steps) counts as long as the next one that did. */
static double total_seconds(const metrics_series_t *s) {
    double sum = 0;
    int64_t before = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const metrics_point_t *p = &s->points[i];
        if (isfinite(p->value)) sum += p->value * (double)(p->step - before);
        before = p->step;
    }
    return sum;
}

static status_t add_summary(strbuf_t *out, const metrics_series_t *series) {
    const metrics_series_t *loss = &series[LOSS], *eval = &series[EVAL_LOSS];
    double seconds = total_seconds(&series[SECONDS]);
    char time_text[32];
    progress_duration(seconds, time_text, sizeof time_text);
    TRY(strbuf_adds(out, "<h2>Summary</h2>\n<table>\n"));
    if (loss->count) {
        TRY(add_number(out, "steps", 0, (double)loss->points[loss->count - 1].step, ""));
        TRY(add_number(out, "tokens", 0, last_of(&series[TOKENS]), ""));
        TRY(add_number(out, "first loss", 4, loss->points[0].value, ""));
        TRY(add_number(out, "last loss", 4, last_of(loss), ""));
        TRY(add_row(out, "time in steps", time_text));
        if (seconds > 0) TRY(add_number(out, "mean speed", 0, last_of(&series[TOKENS]) / seconds, " tokens/s"));
    } else {
        TRY(add_row(out, "steps", "none yet"));
    }
    if (eval->count) {
        int64_t best = 0;
        for (int64_t i = 1; i < eval->count; i++)
            if (eval->points[i].value < eval->points[best].value || !isfinite(eval->points[best].value)) best = i;
        char text[96];
        snprintf(text, sizeof text, "%.4f (step %lld)", eval->points[best].value, (long long)eval->points[best].step);
        TRY(add_row(out, "best eval loss", text));
        TRY(add_number(out, "last eval loss", 4, last_of(eval), ""));
    }
    return strbuf_adds(out, "</table>\n");
}

static status_t add_curves(strbuf_t *out, const metrics_series_t *series) {
    const svg_curve_t loss[] = {{"loss", &series[LOSS]}, {"eval_loss", &series[EVAL_LOSS]}};
    const struct {
        const char *title;
        int series;
    } single[] = {
        {"learning_rate", LEARNING_RATE}, {"grad_norm (before clipping)", GRAD_NORM}, {"tokens per second", SPEED}};
    TRY(strbuf_adds(out, "<h2>Curves</h2>\n"));
    TRY(svg_chart("loss", loss, 2, out));
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        const svg_curve_t curve = {single[i].title, &series[single[i].series]};
        TRY(svg_chart(single[i].title, &curve, 1, out));
    }
    return ST_OK;
}

/* The processor's name as Linux tells it; "unknown" elsewhere. */
static void cpu_name(char *out, size_t size) {
    char line[512];
    snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, size, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (f) fclose(f);
}

static status_t add_machine(strbuf_t *out, const report_t *r) {
    char text[768];
    struct utsname u;
    TRY(strbuf_adds(out, "<h2>Machine</h2>\n<table>\n"));
    TRY(add_row(out, "graft", GRAFT_VERSION));
    TRY(add_row(out, "device", r->device));
    snprintf(text, sizeof text, "%d, %d thread%s each", r->ranks, r->threads, r->threads == 1 ? "" : "s");
    TRY(add_row(out, "ranks", text));
    cpu_name(text, sizeof text);
    TRY(add_row(out, "processor", text));
    snprintf(text, sizeof text, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    TRY(add_row(out, "processors online", text));
    snprintf(text, sizeof text, "%.1f GiB", (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 0x1p30);
    TRY(add_row(out, "memory", text));
    if (uname(&u) == 0) {
        snprintf(text, sizeof text, "%s %s %s", u.sysname, u.release, u.machine);
        TRY(add_row(out, "system", text));
        TRY(add_row(out, "host", u.nodename));
    }
    return strbuf_adds(out, "</table>\n");
}

static status_t add_page(strbuf_t *out, const report_t *r, const metrics_series_t *series) {
    char date[64] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm);
    TRY(strbuf_adds(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>"));
    TRY(svg_escape(r->title, out));
    TRY(strbuf_adds(out, "</title>\n"));
    TRY(strbuf_adds(out, page_head));
    TRY(strbuf_adds(out, "<h1>"));
    TRY(svg_escape(r->title, out));
    TRY(strbuf_addf(out, "</h1>\n<p>Written %s.</p>\n", date));
    TRY(add_summary(out, series));
    TRY(add_curves(out, series));
    TRY(strbuf_adds(out, "<h2>Configuration</h2>\n<pre>"));
    TRY(svg_escape(r->config, out));
    TRY(strbuf_adds(out, "</pre>\n"));
    TRY(add_machine(out, r));
    return strbuf_adds(out, "</body>\n</html>\n");
}

status_t report_write(const char *path, const report_t *r) {
    metrics_series_t series[SERIES_COUNT] = {0};
    strbuf_t page = {0};
    status_t st = metrics_read(r->metrics_path, series_names, SERIES_COUNT, series);
    if (st == ST_OK) st = add_page(&page, r, series);
    if (st == ST_OK) st = publish_bytes(path, page.data, page.len);
    strbuf_release(&page);
    for (int i = 0; i < SERIES_COUNT; i++) metrics_series_release(&series[i]);
    return st;
}
