#include "kernels/cpu/rows.h"

enum { COLUMNS = 64 };

void cpu_rows_take(const cpu_rows_t *r, const float *table, float *y) {
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < r->n; n++) {
        int64_t row = cpu_rows_at(r, n);
        if (row >= 0) memcpy(y + n * r->d, table + row * r->width + r->col, (size_t)r->d * sizeof *y);
    }
}

/* Tiles of columns: a number that occurs twice is summed in the order of its places by one thread. */
void cpu_rows_put(const cpu_rows_t *r, const float *dy, bool acc, int64_t table_rows, float *dtable) {
    if (!acc) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < table_rows; n++) memset(dtable + n * r->width, 0, (size_t)r->width * sizeof *dtable);
    }
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(r->d, COLUMNS); t++) {
        int64_t first = t * COLUMNS, count = cpu_min(COLUMNS, r->d - first);
        for (int64_t n = 0; n < r->n; n++) {
            int64_t row = cpu_rows_at(r, n);
            if (row < 0) continue;
            float *to = dtable + row * r->width + r->col + first;
            const float *from = dy + n * r->d + first;
            for (int64_t i = 0; i < count; i++) to[i] += from[i];
        }
    }
}
