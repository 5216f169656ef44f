#include "train/optim/schedule.h"
#include <math.h>

static double constant(const schedule_t *s, int64_t k) {
    (void)s, (void)k;
    return 1.0;
}

static double progress(int64_t done, int64_t of) {
    return (double)done / (double)(of > 1 ? of : 1);
}

static double linear(const schedule_t *s, int64_t k) {
    double left = progress(s->total - k, s->total - s->warmup);
    return s->min_ratio + (1.0 - s->min_ratio) * (left > 0 ? left : 0);
}

static double half_cosine(double p, double min_ratio) {
    double v = 0.5 * (1.0 + cos(3.14159265358979323846 * p));
    return min_ratio + (1.0 - min_ratio) * (v > 0 ? v : 0);
}

static double cosine(const schedule_t *s, int64_t k) {
    return half_cosine(progress(k - s->warmup, s->total - s->warmup), s->min_ratio);
}

static double wsd(const schedule_t *s, int64_t k) {
    int64_t begin = s->total - s->decay;
    if (k < begin) return 1.0;
    return k < s->total ? half_cosine(progress(k - begin, s->decay), s->min_ratio) : s->min_ratio;
}

double schedule_factor(const schedule_t *s, int64_t k) {
    static double (*const after_warmup[])(const schedule_t *, int64_t) = {
        [SCHEDULE_CONSTANT] = constant, [SCHEDULE_LINEAR] = linear, [SCHEDULE_COSINE] = cosine, [SCHEDULE_WSD] = wsd};
    if (k < s->warmup) return progress(k, s->warmup);
    return after_warmup[s->kind](s, k);
}
