#include "train/run/svg.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 240, LEFT = 78, RIGHT = 16, TOP = 30, BOTTOM = 34, STRETCHES = 400, MARKERS_UP_TO = 40 };

status_t svg_escape(const char *text, strbuf_t *out) {
    for (const char *c = text; *c; c++) {
        const char *name = *c == '&' ? "&amp;" : *c == '<' ? "&lt;" : *c == '>' ? "&gt;" : *c == '"' ? "&quot;" : NULL;
        bool control = (unsigned char)*c < 0x20 && *c != '\n' && *c != '\t';
        if (name)
            TRY(strbuf_adds(out, name));
        else
            TRY(strbuf_add(out, control ? "?" : c, 1));
    }
    return ST_OK;
}

/* A range of values and how it lies on the page. */
typedef struct axis {
    double low, high; /* of the data, widened */
    double tick;      /* distance of ticks: 1, 2 or 5 times a power of ten */
    double from, to;  /* page coordinates of low and high */
} axis_t;

static double place(const axis_t *a, double v) {
    return a->from + (v - a->low) / (a->high - a->low) * (a->to - a->from);
}

static axis_t make_axis(double low, double high, double from, double to, int ticks, bool whole) {
    if (!(high > low)) { /* a single value stands in the middle */
        double margin = whole ? 1 : fabs(low) > 0 ? fabs(low) * 0.1 : 1;
        low -= margin;
        high += margin;
    }
    double rough = (high - low) / ticks, power = pow(10, floor(log10(rough)));
    double tick = rough <= power ? power : rough <= 2 * power ? 2 * power : rough <= 5 * power ? 5 * power : 10 * power;
    if (whole && tick < 1) tick = 1;
    return (axis_t){low, high, tick, from, to};
}

/* The ranges of all finite points; false if there is none. */
static bool find_ranges(const svg_curve_t *curves, int count, double x[2], double y[2]) {
    bool any = false;
    for (int c = 0; c < count; c++) {
        for (int64_t i = 0; i < curves[c].series->count; i++) {
            const metrics_point_t *p = &curves[c].series->points[i];
            if (!isfinite(p->value)) continue;
            double s = (double)p->step;
            x[0] = any ? fmin(x[0], s) : s;
            x[1] = any ? fmax(x[1], s) : s;
            y[0] = any ? fmin(y[0], p->value) : p->value;
            y[1] = any ? fmax(y[1], p->value) : p->value;
            any = true;
        }
    }
    return any;
}

static status_t draw_axes(const axis_t *x, const axis_t *y, strbuf_t *out) {
    /* half a tick in a thousand keeps rounding from losing the last tick */
    /* + 0.0 turns a first tick of -0 into 0 */
    for (double k = ceil(y->low / y->tick - 1e-3) + 0.0; k * y->tick <= y->high + y->tick * 1e-3; k++) {
        double at = place(y, k * y->tick);
        TRY(strbuf_addf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT,
                        at, at));
        TRY(strbuf_addf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.5g</text>\n", LEFT - 6, at + 4,
                        k * y->tick));
    }
    for (double k = ceil(x->low / x->tick - 1e-3); k * x->tick <= x->high + x->tick * 1e-3; k++)
        TRY(strbuf_addf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.8g</text>\n", place(x, k * x->tick),
                        HEIGHT - BOTTOM + 18, k * x->tick));
    return strbuf_addf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">step</text>\n", WIDTH - RIGHT, HEIGHT - 2);
}

static status_t draw_point(const axis_t *x, const axis_t *y, const metrics_point_t *p, bool *pen_down, strbuf_t *out) {
    if (!isfinite(p->value)) {
        *pen_down = false;
        return ST_OK;
    }
    TRY(strbuf_addf(out, "%c%.1f %.1f", *pen_down ? 'L' : 'M', place(x, (double)p->step), place(y, p->value)));
    *pen_down = true;
    return ST_OK;
}

/* The least, the greatest and any missing value of points [begin, end), in file order. */
static status_t draw_stretch(const axis_t *x, const axis_t *y, const metrics_point_t *p, int64_t begin, int64_t end,
                             bool *pen_down, strbuf_t *out) {
    int64_t least = -1, greatest = -1, missing = -1;
    for (int64_t i = begin; i < end; i++) {
        if (!isfinite(p[i].value)) {
            missing = i;
            continue;
        }
        if (least < 0 || p[i].value < p[least].value) least = i;
        if (greatest < 0 || p[i].value > p[greatest].value) greatest = i;
    }
    for (int64_t i = begin; i < end; i++)
        if (i == least || i == greatest || i == missing) TRY(draw_point(x, y, &p[i], pen_down, out));
    return ST_OK;
}

static status_t draw_curve(const axis_t *x, const axis_t *y, const metrics_series_t *s, int index, strbuf_t *out) {
    bool pen_down = false;
    int64_t stretches = s->count < STRETCHES ? s->count : STRETCHES;
    TRY(strbuf_addf(out, "<path class=\"curve c%d\" d=\"", index));
    for (int64_t k = 0; k < stretches; k++)
        TRY(draw_stretch(x, y, s->points, k * s->count / stretches, (k + 1) * s->count / stretches, &pen_down, out));
    TRY(strbuf_adds(out, "\"/>\n"));
    for (int64_t i = 0; s->count <= MARKERS_UP_TO && i < s->count; i++) {
        const metrics_point_t *p = &s->points[i];
        if (!isfinite(p->value)) continue;
        TRY(strbuf_addf(
            out, "<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"><title>step %lld: %.6g</title></circle>\n",
            index, place(x, (double)p->step), place(y, p->value), (long long)p->step, p->value));
    }
    return ST_OK;
}

status_t svg_chart(const char *title, const svg_curve_t *curves, int count, strbuf_t *out) {
    double xr[2] = {0, 0}, yr[2] = {0, 0};
    if (!find_ranges(curves, count, xr, yr)) {
        TRY(strbuf_adds(out, "<p>"));
        TRY(svg_escape(title, out));
        return strbuf_adds(out, ": no values.</p>\n");
    }
    double margin = (yr[1] - yr[0]) * 0.04;
    axis_t x = make_axis(xr[0], xr[1], LEFT, WIDTH - RIGHT, 8, true);
    axis_t y = make_axis(yr[0] - margin, yr[1] + margin, HEIGHT - BOTTOM, TOP, 5, false);
    TRY(strbuf_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\"><title>", WIDTH, HEIGHT));
    TRY(svg_escape(title, out));
    TRY(strbuf_addf(out, "</title>\n<text class=\"title\" x=\"%d\" y=\"18\">", LEFT));
    TRY(svg_escape(title, out));
    TRY(strbuf_adds(out, "</text>\n"));
    TRY(draw_axes(&x, &y, out));
    int shown = 0; /* a legend only where there is something to tell apart */
    for (int c = 0; c < count; c++) shown += curves[c].series->count > 0;
    int at = WIDTH - RIGHT;
    for (int c = count - 1; c >= 0; c--) {
        if (curves[c].series->count == 0) continue;
        TRY(draw_curve(&x, &y, curves[c].series, c, out));
        if (shown < 2) continue;
        TRY(strbuf_addf(out, "<text class=\"legend c%d\" x=\"%d\" y=\"18\" text-anchor=\"end\">&#9632; ", c, at));
        TRY(svg_escape(curves[c].name, out));
        TRY(strbuf_adds(out, "</text>\n"));
        at -= 40 + 8 * (int)strlen(curves[c].name);
    }
    return strbuf_adds(out, "</svg>\n");
}
