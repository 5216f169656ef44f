#include "data/pack.h"
#include "kernels/buf.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The parts of pack->work. */
typedef struct work {
    int32_t *sorted;   /* [n] indices by falling length, then rising index */
    int32_t *micro;    /* [n] micro-batch of each index, of the packing tried last */
    int32_t *best;     /* [n] the same of the best packing */
    int32_t *open;     /* [capacity+1] a micro-batch with this much room left, -1 if none ... */
    int32_t *next;     /* [n] ... and the next one with the same room */
    int32_t *fill;     /* [n] tokens of each micro-batch ... */
    int32_t *heap;     /* [n] ... and the micro-batches as a heap, the emptiest first */
    uint64_t *present; /* bit r: open[r] >= 0 */
    int64_t *count;    /* [max(n, capacity) + 2] for counting sorts */
} work_t;

static status_t set_work(pack_t *p, int64_t n, int32_t capacity, work_t *w) {
    int64_t most = (n > capacity ? n : capacity) + 2, words = capacity / 64 + 1;
    int64_t bytes = most * (int64_t)sizeof *w->count + words * (int64_t)sizeof *w->present +
                    (6 * n + capacity + 1) * (int64_t)sizeof(int32_t);
    TRY(buf_reserve(&p->work, &p->cap_work, bytes, 1, "packing"));
    w->count = p->work;
    w->present = (uint64_t *)(w->count + most);
    w->sorted = (int32_t *)(w->present + words);
    w->micro = w->sorted + n;
    w->best = w->micro + n;
    w->next = w->best + n;
    w->fill = w->next + n;
    w->heap = w->fill + n;
    w->open = w->heap + n;
    return ST_OK;
}

static void sort_lengths(const int32_t *lengths, int64_t n, int32_t capacity, work_t *w) {
    memset(w->count, 0, ((size_t)capacity + 2) * sizeof *w->count);
    for (int64_t i = 0; i < n; i++) w->count[capacity - lengths[i] + 1]++;
    for (int32_t r = 0; r <= capacity; r++) w->count[r + 1] += w->count[r];
    for (int64_t i = 0; i < n; i++) w->sorted[w->count[capacity - lengths[i]]++] = (int32_t)i;
}

/* The least room >= want that a micro-batch has, or -1. */
static int32_t find_room(const work_t *w, int32_t want, int32_t capacity) {
    int32_t word = want / 64;
    uint64_t bits = w->present[word] & (~(uint64_t)0 << (want % 64));
    while (!bits) {
        if (++word > capacity / 64) return -1;
        bits = w->present[word];
    }
    return word * 64 + __builtin_ctzll(bits);
}

/* Best-fit decreasing into micro-batches of `capacity`; gives up and returns limit + 1 beyond `limit` of them. */
static int64_t best_fit(work_t *w, const int32_t *lengths, int64_t n, int32_t capacity, int64_t limit) {
    int64_t used = 0;
    memset(w->present, 0, ((size_t)capacity / 64 + 1) * sizeof *w->present);
    memset(w->open, -1, ((size_t)capacity + 1) * sizeof *w->open);
    for (int64_t k = 0; k < n; k++) {
        int32_t i = w->sorted[k], room = find_room(w, lengths[i], capacity), m;
        if (room >= 0) {
            m = w->open[room];
            w->open[room] = w->next[m];
            if (w->open[room] < 0) w->present[room / 64] &= ~((uint64_t)1 << (room % 64));
        } else {
            if (used == limit) return limit + 1;
            m = (int32_t)used++;
            room = capacity;
        }
        int32_t left = room - lengths[i];
        w->next[m] = w->open[left];
        w->open[left] = m;
        w->present[left / 64] |= (uint64_t)1 << (left % 64);
        w->micro[i] = m;
    }
    return used;
}

/* Whether micro-batch a comes before b: emptier, or as empty and earlier. */
static bool emptier(const work_t *w, int32_t a, int32_t b) {
    return w->fill[a] < w->fill[b] || (w->fill[a] == w->fill[b] && a < b);
}

/* Puts each sequence, longest first, into the emptiest of `count` micro-batches; false if one does not fit. */
static bool spread(work_t *w, const int32_t *lengths, int64_t n, int32_t capacity, int64_t count) {
    for (int32_t m = 0; m < count; m++) w->fill[m] = 0, w->heap[m] = m;
    for (int64_t k = 0; k < n; k++) {
        int32_t i = w->sorted[k], m = w->heap[0];
        if (lengths[i] > capacity - w->fill[m]) return false;
        w->fill[m] += lengths[i];
        w->micro[i] = m;
        int64_t at = 0;
        for (;;) {
            int64_t child = 2 * at + 1;
            if (child + 1 < count && emptier(w, w->heap[child + 1], w->heap[child])) child++;
            if (child >= count || emptier(w, m, w->heap[child])) break;
            w->heap[at] = w->heap[child];
            at = child;
        }
        w->heap[at] = m;
    }
    return true;
}

/* Sum of the squared fills: of packings with as many micro-batches, the most even has the least. */
static double unevenness(work_t *w, const int32_t *micro, const int32_t *lengths, int64_t n, int64_t count) {
    double sum = 0;
    memset(w->fill, 0, (size_t)count * sizeof *w->fill);
    for (int64_t i = 0; i < n; i++) w->fill[micro[i]] += lengths[i];
    for (int64_t m = 0; m < count; m++) sum += (double)w->fill[m] * w->fill[m];
    return sum;
}

/* The fewest micro-batches that best fit finds; then the more even of two packings into as many: best fit with the
 * smallest capacity that still suffices, or spreading. */
static void pack_even(work_t *w, const int32_t *lengths, int64_t n, int32_t capacity) {
    int64_t sum = 0;
    int32_t longest = lengths[w->sorted[0]];
    for (int64_t i = 0; i < n; i++) sum += lengths[i];
    int64_t count = best_fit(w, lengths, n, capacity, n);
    memcpy(w->best, w->micro, (size_t)n * sizeof *w->best);
    int32_t lo = (int32_t)((sum + count - 1) / count), hi = capacity;
    if (lo < longest) lo = longest;
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        if (best_fit(w, lengths, n, mid, count) == count) {
            memcpy(w->best, w->micro, (size_t)n * sizeof *w->best);
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    if (spread(w, lengths, n, capacity, count) &&
        unevenness(w, w->micro, lengths, n, count) < unevenness(w, w->best, lengths, n, count))
        memcpy(w->best, w->micro, (size_t)n * sizeof *w->best);
}

/* Numbers micro-batches by their first sequence and lists the sequences of each in order. */
static void set_order(pack_t *p, work_t *w, int64_t n) {
    int32_t *name = w->next; /* new number of each micro-batch */
    int64_t named = 0;
    memset(name, -1, (size_t)n * sizeof *name);
    memset(w->count, 0, (size_t)(n + 1) * sizeof *w->count);
    for (int64_t i = 0; i < n; i++) {
        if (name[w->best[i]] < 0) name[w->best[i]] = (int32_t)named++;
        w->best[i] = name[w->best[i]];
        w->count[w->best[i]]++;
    }
    p->n_micro = named;
    p->start[0] = 0;
    for (int64_t m = 0; m < named; m++) {
        p->start[m + 1] = p->start[m] + w->count[m];
        w->count[m] = p->start[m];
    }
    for (int64_t i = 0; i < n; i++) p->order[w->count[w->best[i]]++] = i;
}

status_t pack_reserve(pack_t *p, int64_t n, int32_t capacity) {
    void *start = p->start, *order = p->order;
    work_t w;
    status_t st = buf_reserve(&start, &p->cap_start, n + 1, sizeof *p->start, "packing");
    p->start = start;
    if (st == ST_OK) st = buf_reserve(&order, &p->cap_order, n, sizeof *p->order, "packing");
    p->order = order;
    if (st != ST_OK) return st;
    return set_work(p, n, capacity, &w);
}

status_t pack_step(pack_t *p, packing_t kind, const int32_t *lengths, int64_t n, int32_t capacity) {
    if (n < 0 || n >= INT32_MAX || capacity < 1 || capacity >= INT32_MAX - 64)
        return st_raise(ST_INTERNAL, "pack_step", "%lld sequences, capacity %d", (long long)n, capacity);
    for (int64_t i = 0; i < n; i++)
        if (lengths[i] < 1 || lengths[i] > capacity)
            return st_raise(ST_INTERNAL, "pack_step", "a sequence of %d tokens does not fit micro_batch_tokens %d",
                            lengths[i], capacity);
    TRY(pack_reserve(p, n, capacity));
    p->n_micro = 0;
    p->start[0] = 0;
    if (n == 0) return ST_OK;
    work_t w;
    TRY(set_work(p, n, capacity, &w));
    if (kind == PACKING_NONE) {
        for (int64_t i = 0; i < n; i++) w.best[i] = (int32_t)i;
    } else {
        sort_lengths(lengths, n, capacity, &w);
        pack_even(&w, lengths, n, capacity);
    }
    set_order(p, &w, n);
    return ST_OK;
}

void pack_release(pack_t *p) {
    free(p->start);
    free(p->order);
    free(p->work);
    *p = (pack_t){0};
}
