/* What a prefix means: the rows of an earlier part of the sequence whose queries nobody reads. And: tokens that go
 * through the cache in pieces see what they see in one piece. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "tests/op/common_check.h"

/* CUDA's kernels run on the host here (tests/cuda_on_host), whose memory is the device's. */
static const backend_t *const backends[] = {&backend_ref_f32, &backend_ref_f64, &backend_cpu, &backend_cuda_f32,
                                            &backend_cuda_bf16};
enum { BACKENDS = sizeof backends / sizeof *backends };

/* The same sums in another order; docs/numerics.md. */
static double limit_of(const backend_t *b) {
    return b->real == DT_F64 ? 1e-13 : b->real == DT_BF16 ? CHECK_BF16_PER_MILLE * 1e-3 : 3e-6;
}

static device_t device = {.name = "host"};

static run_options_t options_of(const backend_t *b) {
    bool cuda = b == &backend_cuda_f32 || b == &backend_cuda_bf16;
    return (run_options_t){.gradients = ~0u, .types = {b->real, b->real}, .device = cuda ? &device : NULL};
}

enum {
    HEADS = 6,
    KV_HEADS = 2,
    DIM = 5,
    SEQUENCES = 5,
    TOKENS = 90,
    PREFIX = 80,
    JOINED = TOKENS + PREFIX,
    PLACES = 80,
    ROW = HEADS * DIM,
    KEY = KV_HEADS * DIM,
};
static const attention_attr_t attr = {HEADS, KV_HEADS, DIM, 0.7};
static const attention_cached_attr_t cached_attr = {HEADS, KV_HEADS, DIM, PLACES, 0.7};
static const int32_t cu[] = {0, 4, 4, 13, 84, 90}, cu_prefix[] = {0, 3, 5, 5, 12, 80};
static int32_t cu_joined[SEQUENCES + 1];

static const op_case_t with_prefix = {"attention with a prefix",
                                      OP_ATTENTION,
                                      &attr,
                                      {{'r', 2, {TOKENS, ROW, 0}, NULL},
                                       {'r', 2, {TOKENS, KEY, 0}, NULL},
                                       {'r', 2, {TOKENS, KEY, 0}, NULL},
                                       {'i', 1, {SEQUENCES + 1, 0, 0}, cu},
                                       {'r', 2, {PREFIX, KEY, 0}, NULL},
                                       {'r', 2, {PREFIX, KEY, 0}, NULL},
                                       {'i', 1, {SEQUENCES + 1, 0, 0}, cu_prefix}},
                                      false};
static const op_case_t joined_case = {"attention over the joined sequence",
                                      OP_ATTENTION,
                                      &attr,
                                      {{'r', 2, {JOINED, ROW, 0}, NULL},
                                       {'r', 2, {JOINED, KEY, 0}, NULL},
                                       {'r', 2, {JOINED, KEY, 0}, NULL},
                                       {'i', 1, {SEQUENCES + 1, 0, 0}, cu_joined}},
                                      false};

static char *row_of(const view_t *v, int64_t row) {
    return (char *)v->data + (size_t)(row * v->dim[1]) * dtype_size(v->dtype);
}

/* Rows [from, from + n) of a against rows [other, other + n) of b, relative to the largest number of these. */
static void compare_rows(const char *what, const view_t *a, int64_t from, const view_t *b, int64_t other, int64_t n,
                         double limit) {
    double scale = 0.01, error = 0;
    for (int64_t i = 0; i < n * a->dim[1]; i++) {
        double x = view_at(a, from * a->dim[1] + i), y = view_at(b, other * b->dim[1] + i);
        if (!isfinite(x) || !isfinite(y)) fail_msg("%s: %g and %g", what, x, y);
        scale = fmax(scale, fabs(y));
        error = fmax(error, fabs(x - y));
    }
    if (error > limit * scale) fail_msg("%s is off by %.3g of %.3g (limit %.1g)", what, error, scale, limit);
}

static void copy_rows(const view_t *to, int64_t row, const view_t *from, int64_t other, int64_t n) {
    if (n) memcpy(row_of(to, row), row_of(from, other), (size_t)(n * from->dim[1]) * dtype_size(from->dtype));
}

/* Gives `joined` the numbers of `split`; its prefix rows keep the queries they have and get no gradient. */
static void join(const run_t *split, run_t *joined) {
    memset(joined->io.gout.data, 0, view_bytes(&joined->io.gout));
    for (int s = 0; s < SEQUENCES; s++) {
        int64_t first = cu_joined[s], own = first + cu_prefix[s + 1] - cu_prefix[s], n = cu[s + 1] - cu[s];
        copy_rows(&joined->io.in[ATTENTION_Q], own, &split->io.in[ATTENTION_Q], cu[s], n);
        copy_rows(&joined->io.gout, own, &split->io.gout, cu[s], n);
        for (int i = 0; i < 2; i++) {
            const view_t *rows = &joined->io.in[ATTENTION_K + i];
            copy_rows(rows, first, &split->io.in[ATTENTION_PREFIX_K + i], cu_prefix[s], own - first);
            copy_rows(rows, own, &split->io.in[ATTENTION_K + i], cu[s], n);
        }
    }
}

static void test_prefix_is_an_earlier_part(void **state) {
    (void)state;
    for (int s = 0; s <= SEQUENCES; s++) cu_joined[s] = cu[s] + cu_prefix[s];
    for (int b = 0; b < BACKENDS; b++) {
        run_t split, joined;
        double limit = limit_of(backends[b]);
        run_options_t all = options_of(backends[b]);
        run_make(&split, &with_prefix, backends[b], &all);
        run_make(&joined, &joined_case, backends[b], &all);
        join(&split, &joined);
        run_forward(&joined);
        backends[b]->kernel[OP_ATTENTION].bwd(&joined.io);
        for (int s = 0; s < SEQUENCES; s++) {
            int64_t first = cu_joined[s], own = first + cu_prefix[s + 1] - cu_prefix[s], n = cu[s + 1] - cu[s];
            const view_t *g = split.io.gin, *gj = joined.io.gin;
            compare_rows("o", &split.io.out[ATTENTION_O], cu[s], &joined.io.out[ATTENTION_O], own, n, limit);
            compare_rows("lse", &split.io.out[ATTENTION_LSE], cu[s], &joined.io.out[ATTENTION_LSE], own, n, limit);
            compare_rows("dq", &g[ATTENTION_Q], cu[s], &gj[ATTENTION_Q], own, n, limit);
            for (int i = 0; i < 2; i++) {
                const view_t *want = &gj[ATTENTION_K + i];
                compare_rows("dk, dv", &g[ATTENTION_K + i], cu[s], want, own, n, limit);
                compare_rows("dk, dv of the prefix", &g[ATTENTION_PREFIX_K + i], cu_prefix[s], want, first, own - first,
                             limit);
            }
        }
        run_release(&split);
        run_release(&joined);
    }
}

static view_t integers(int32_t *data, int64_t count) {
    return (view_t){data, DT_I32, 1, {count, 0, 0}};
}

/* Passes tokens [from, to) of sequence s through slot 0 of the cache, its prefix in front of them in the first pass; o
 * gets its rows. Without a prefix the op has no such inputs. */
static void pass_piece(const run_t *r, int s, int64_t from, int64_t to, void *cache, const view_t *o) {
    const op_kernel_t *kernel = &r->backend->kernel[OP_ATTENTION_CACHED];
    int64_t prefix = cu_prefix[s + 1] - cu_prefix[s], stride = KEY;
    int32_t now[] = {0, (int32_t)(to - from)}, past[] = {(int32_t)(from ? prefix + from : 0)};
    int32_t now_prefix[] = {0, from ? 0 : (int32_t)prefix};
    op_io_t io = {.attr = &cached_attr, .device = r->io.device};
    for (int i = ATTENTION_CACHED_Q; i <= ATTENTION_CACHED_V; i++) {
        io.in[i] = r->io.in[i];
        io.in[i].data = row_of(&r->io.in[i], cu[s] + from);
        io.in[i].dim[0] = to - from;
    }
    io.in[ATTENTION_CACHED_CU] = integers(now, 2);
    io.in[ATTENTION_CACHED_PAST] = integers(past, 1);
    io.in[ATTENTION_CACHED_CACHE] = (view_t){cache, r->backend->real, 3, {2, PLACES, stride}};
    for (int i = 0; i < 2 && prefix; i++) {
        io.in[ATTENTION_CACHED_PREFIX_K + i] = r->io.in[ATTENTION_PREFIX_K + i];
        io.in[ATTENTION_CACHED_PREFIX_K + i].data = row_of(&r->io.in[ATTENTION_PREFIX_K + i], cu_prefix[s]);
        io.in[ATTENTION_CACHED_PREFIX_K + i].dim[0] = now_prefix[1];
    }
    if (prefix) io.in[ATTENTION_CACHED_CU_PREFIX] = integers(now_prefix, 2);
    assert_int_equal(op_defs[OP_ATTENTION_CACHED]->infer(&cached_attr, io.in, io.out), ST_OK);
    io.out[0].data = row_of(o, from);
    io.scratch = malloc(kernel->scratch(&io));
    assert_non_null(io.scratch);
    kernel->fwd(&io);
    free(io.scratch);
}

static void test_cache_in_pieces(void **state) {
    (void)state;
    for (int b = 0; b < BACKENDS; b++) {
        run_t r;
        run_options_t all = options_of(backends[b]);
        run_make(&r, &with_prefix, backends[b], &all);
        for (int s = 0; s < SEQUENCES; s++) {
            double cache[2 * PLACES * KEY] = {0}, rows[TOKENS * ROW];
            int64_t n = cu[s + 1] - cu[s], cut[] = {0, (n + 1) / 2, (n + 1) / 2 + 1, n};
            view_t o = r.io.out[0];
            o.data = rows;
            if (cut[2] > n) cut[2] = n;
            for (int p = 0; p < 3; p++)
                if (cut[p + 1] > cut[p]) pass_piece(&r, s, cut[p], cut[p + 1], cache, &o);
            compare_rows("cached output", &o, 0, &r.io.out[ATTENTION_O], cu[s], n, limit_of(backends[b]));
        }
        run_release(&r);
    }
}

/* A part of a prefix is an error that names the op. */
static void check_all_or_none(const op_def_t *def, const void *attributes, const view_t *in, int first) {
    view_t out[OP_MAX_OUT] = {{0}};
    for (unsigned present = 0; present < 8; present++) {
        view_t some[OP_MAX_IN];
        memcpy(some, in, sizeof some);
        for (int i = 0; i < 3; i++)
            if (!(present >> i & 1)) some[first + i] = (view_t){0};
        status_t want = present == 0 || present == 7 ? ST_OK : ST_INTERNAL;
        assert_int_equal(def->infer(attributes, some, out), want);
        if (want != ST_OK) assert_non_null(strstr(st_message(), def->name));
        st_clear();
    }
}

/* Prefix rows of another width, values of another number, another number of sequences. */
static void check_prefix_shapes(const op_def_t *def, const void *attributes, const view_t *in, int first) {
    view_t out[OP_MAX_OUT] = {{0}};
    for (int i = 0; i < 3; i++) {
        view_t wrong[OP_MAX_IN];
        memcpy(wrong, in, sizeof wrong);
        wrong[first + i].dim[i == 0] += 1;
        assert_int_equal(def->infer(attributes, wrong, out), ST_INTERNAL);
        st_clear();
    }
}

static void test_prefix_shapes(void **state) {
    (void)state;
    view_t row = {NULL, DT_F32, 2, {7, ROW, 0}}, key = {NULL, DT_F32, 2, {7, KEY, 0}};
    view_t prefix = {NULL, DT_F32, 2, {3, KEY, 0}}, ends = integers(NULL, 3), past = integers(NULL, 2);
    view_t cache = {NULL, DT_F32, 3, {2, 2 * PLACES, KEY}};
    const view_t in[OP_MAX_IN] = {row, key, key, ends, prefix, prefix, ends};
    const view_t in_cached[OP_MAX_IN] = {row, key, key, ends, past, cache, prefix, prefix, ends};
    const op_def_t *def = op_defs[OP_ATTENTION], *def_cached = op_defs[OP_ATTENTION_CACHED];
    check_all_or_none(def, &attr, in, ATTENTION_PREFIX_K);
    check_all_or_none(def_cached, &cached_attr, in_cached, ATTENTION_CACHED_PREFIX_K);
    check_prefix_shapes(def, &attr, in, ATTENTION_PREFIX_K);
    check_prefix_shapes(def_cached, &cached_attr, in_cached, ATTENTION_CACHED_PREFIX_K);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_is_an_earlier_part),
        cmocka_unit_test(test_cache_in_pieces),
        cmocka_unit_test(test_prefix_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
