/* Learning-rate schedules with warm-up, as transformers' get_*_schedule_with_warmup: factor of the k-th update (k = 0,
 * 1, ...). *local* */
#pragma once
#include <stdint.h>

typedef enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_WSD } schedule_kind_t;

typedef struct schedule {
    schedule_kind_t kind;
    int64_t total, warmup, decay; /* updates; decay: of wsd only */
    double min_ratio;             /* of the peak, where the decay ends */
} schedule_t;

double schedule_factor(const schedule_t *s, int64_t k);
