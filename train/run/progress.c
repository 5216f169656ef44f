#include "train/run/progress.h"
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void progress_duration(double seconds, char *out, size_t size) {
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(out, size, "?");
        return;
    }
    long long s = llround(seconds);
    if (s < 60)
        snprintf(out, size, "%llds", s);
    else if (s < 3600)
        snprintf(out, size, "%lldm %02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, size, "%lldh %02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, size, "%lldd %02lldh", s / 86400, s / 3600 % 24);
}

void progress_start(progress_t *p, FILE *out, const char *name, int64_t last_step, int64_t logging_steps) {
    *p = (progress_t){
        .out = out, .name = name, .last_step = last_step, .logging_steps = logging_steps > 0 ? logging_steps : 1};
    p->terminal = out && isatty(fileno(out));
}

/* Also a bar that another run has drawn. */
static void wipe_bar(progress_t *p) {
    if (p->terminal) fputs("\r\033[K", p->out);
    p->drawn = false;
}

static void say_name(const progress_t *p) {
    if (p->name) fprintf(p->out, "%s: ", p->name);
}

static int terminal_columns(FILE *out) {
    struct winsize w;
    return ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

static void draw_bar(progress_t *p, const metrics_step_t *s, const char *eta) {
    enum { WIDTH = 16 }; /* the line fits 80 columns */
    char bar[WIDTH + 1], line[256];
    double share = p->last_step > 0 ? (double)s->step / (double)p->last_step : 1;
    int full = (int)((share < 1 ? share : 1) * WIDTH);
    for (int i = 0; i < WIDTH; i++) bar[i] = i < full ? '=' : i == full ? '>' : ' ';
    bar[WIDTH] = 0;
    snprintf(line, sizeof line, "%s%strain %lld/%lld [%s]  eta %s  loss %.4f  lr %.3g  %.0f tokens/s",
             p->name ? p->name : "", p->name ? ": " : "", (long long)s->step, (long long)p->last_step, bar, eta,
             s->loss, s->learning_rate, s->tokens_per_second);
    /* a line that wraps could not be wiped */
    fprintf(p->out, "\r%.*s\033[K", terminal_columns(p->out) - 1, line);
    p->drawn = true;
}

void progress_step(progress_t *p, const metrics_step_t *s) {
    if (!p->out) return;
    char eta[32];
    p->seconds = p->seconds > 0 ? 0.9 * p->seconds + 0.1 * s->step_seconds : s->step_seconds;
    progress_duration(p->seconds * (double)(p->last_step - s->step), eta, sizeof eta);
    if (p->terminal) {
        draw_bar(p, s, eta);
    } else if (s->step % p->logging_steps == 0 || s->step == p->last_step) {
        say_name(p);
        fprintf(p->out,
                "train step %lld/%lld loss %.6g grad_norm %.4g learning_rate %.4g tokens %lld speed %.1f tokens/s "
                "step_time %.3g s eta %s\n",
                (long long)s->step, (long long)p->last_step, s->loss, s->grad_norm, s->learning_rate,
                (long long)s->tokens, s->tokens_per_second, s->step_seconds, eta);
    }
    fflush(p->out);
}

void progress_eval(progress_t *p, int64_t step, const metrics_value_t *values, int count) {
    if (!p->out) return;
    wipe_bar(p);
    say_name(p);
    fprintf(p->out, "eval step %lld/%lld", (long long)step, (long long)p->last_step);
    for (int i = 0; i < count; i++) fprintf(p->out, " %s %.6g", values[i].name, values[i].value);
    fputs("\n", p->out);
    fflush(p->out);
}

void progress_note(progress_t *p, const char *fmt, ...) {
    if (!p->out) return;
    va_list ap;
    wipe_bar(p);
    say_name(p);
    va_start(ap, fmt);
    vfprintf(p->out, fmt, ap);
    va_end(ap);
    fputs("\n", p->out);
    fflush(p->out);
}

void progress_finish(progress_t *p) {
    if (p->out && p->drawn) fputs("\n", p->out); /* the last bar stays */
    if (p->out) fflush(p->out);
    p->drawn = false;
}
