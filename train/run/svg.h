/* Line charts as inline SVG, for the report. *Local*. */
#pragma once
#include "kernels/buf.h"
#include "train/run/metrics.h"

typedef struct svg_curve {
    const char *name;
    const metrics_series_t *series;
} svg_curve_t;

/* Appends one chart of `count` curves over the step; points that are not finite interrupt a curve. Long curves are
 * thinned to the extremes of equal stretches, so that no spike is lost. Appends a sentence instead when no curve has a
 * finite point. Colours come from the style sheet's classes c0, c1, ... */
status_t svg_chart(const char *title, const svg_curve_t *curves, int count, strbuf_t *out);

/* Appends `text` with the characters that mean something in HTML replaced; bytes that are no text become '?'. */
status_t svg_escape(const char *text, strbuf_t *out);
