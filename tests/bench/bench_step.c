/* Where the time of a training step goes: each op's share, the bytes or products behind it, and the same products
 * called alone. usage: bench_step CONFIG [key=value ...] [-- LENGTH COUNT [PROMPT]]
 *
 * The micro-batch is COUNT sequences of LENGTH tokens with a loss behind the first PROMPT of them (4 of 256, all). The
 * least of several passes is reported. Not a test. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/product.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/lowrank.h"
#include "train/run/loaded.h"
#include "train/run/micro.h"
#include "train/run/registry.h"

enum { PASSES = 7, SHAPES = 64 };

/* ---- a backend that notes the time of every kernel ---- */

static struct {
    double seconds[OP_COUNT][2], best[OP_COUNT][2];
    int64_t calls[OP_COUNT][2];
    double bytes[OP_COUNT][2];
} noted;

/* Products of the step, C[m,n] over k, and how often they are called: x W^T, dy W, dy^T x. */
typedef struct shape {
    char ta, tb;
    int64_t m, n, k, calls;
} shape_t;
static shape_t shape[SHAPES];
static int shapes;

static void note_product(char ta, char tb, int64_t m, int64_t n, int64_t k) {
    int i = 0;
    while (i < shapes &&
           (shape[i].ta != ta || shape[i].tb != tb || shape[i].m != m || shape[i].n != n || shape[i].k != k))
        i++;
    if (i == SHAPES) return;
    if (i == shapes) shape[shapes++] = (shape_t){ta, tb, m, n, k, 0};
    shape[i].calls++;
}

/* The products of the linears and the head; those of attention and of rank r are not counted as such. */
static void note_products(op_t op, const op_io_t *io, bool back) {
    if (op == OP_LINEAR) {
        int64_t n = io->in[LINEAR_X].dim[0], k = io->in[LINEAR_W].dim[1], m = io->in[LINEAR_W].dim[0];
        if (!back) note_product('N', 'T', n, m, k);
        if (back && io->gin[LINEAR_X].data) note_product('N', 'N', n, k, m);
        if (back && io->gin[LINEAR_W].data) note_product('T', 'N', m, k, n);
    }
    if (op == OP_LINEAR_CROSS_ENTROPY) {
        int64_t n = io->in[LCE_H].dim[0], d = io->in[LCE_W].dim[1], v = io->in[LCE_W].dim[0];
        if (!back) note_product('N', 'T', n, v, d), note_product('N', 'N', n, d, v);
        if (back && io->gin[LCE_W].data) note_product('N', 'T', n, v, d), note_product('T', 'N', v, d, n);
    }
}

static void timed(op_t op, const op_io_t *io, bool back) {
    double began = omp_get_wtime();
    (back ? backend_cpu.kernel[op].bwd : backend_cpu.kernel[op].fwd)(io);
    noted.seconds[op][back] += omp_get_wtime() - began;
    noted.calls[op][back]++;
    double bytes = 0;
    for (int i = 0; i < op_defs[op]->n_in; i++) {
        if (io->in[i].data && op != OP_EMBEDDING) bytes += (double)view_bytes(&io->in[i]);
        if (back && io->gin[i].data) bytes += (double)view_bytes(&io->gin[i]) * (io->acc[i] ? 2 : 1);
    }
    for (int o = 0; o < op_defs[op]->n_out && !back; o++) bytes += (double)view_bytes(&io->out[o]);
    if (back && io->gout.data) bytes += (double)view_bytes(&io->gout);
    if (back && io->gout1.data) bytes += (double)view_bytes(&io->gout1);
    noted.bytes[op][back] += bytes;
    note_products(op, io, back);
}

#define OP(NAME, name)                                                                                                 \
    static void name##_forward(const op_io_t *io) {                                                                    \
        timed(OP_##NAME, io, false);                                                                                   \
    }                                                                                                                  \
    static void name##_backward(const op_io_t *io) {                                                                   \
        timed(OP_##NAME, io, true);                                                                                    \
    }
#include "kernels/ops.def"
#undef OP

static backend_t timed_backend(void) {
    backend_t b = backend_cpu;
#define OP(NAME, name)                                                                                                 \
    if (b.kernel[OP_##NAME].fwd) b.kernel[OP_##NAME].fwd = name##_forward;                                             \
    if (b.kernel[OP_##NAME].bwd) b.kernel[OP_##NAME].bwd = name##_backward;
#include "kernels/ops.def"
#undef OP
    return b;
}

/* ---- the floor ---- */

/* As the step calls it: tiles of the rows that kernels/cpu/linear.c takes. */
static double product_seconds(const shape_t *s) {
    enum { ROWS = 128, WEIGHT_ROWS = 64 };
    int64_t m = s->m, n = s->n, k = s->k;
    float *a = calloc((size_t)(m * k), sizeof *a), *b = calloc((size_t)(n * k), sizeof *b);
    float *c = calloc((size_t)(m * n), sizeof *c);
    void *scratch = malloc(cpu_product_scratch(k));
    if (!a || !b || !c || !scratch) exit(5);
    for (int64_t i = 0; i < m * k; i++) a[i] = (float)(i % 13) - 6;
    for (int64_t i = 0; i < n * k; i++) b[i] = (float)(i % 11) - 5;
    const cpu_product_t p = {.ta = s->ta,
                             .tb = s->tb,
                             .a = a,
                             .b = b,
                             .c = c,
                             .rows = m,
                             .cols = n,
                             .inner = k,
                             .lda = s->ta == 'T' ? m : k,
                             .ldb = s->tb == 'T' ? k : n,
                             .ldc = n,
                             .scratch = scratch};
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double began = omp_get_wtime();
        cpu_product(&p, s->ta == 'T' ? WEIGHT_ROWS : ROWS);
        double t = omp_get_wtime() - began;
        if (t < best) best = t;
    }
    free(a), free(b), free(c), free(scratch);
    return best;
}

/* ---- the step ---- */

static void check(status_t st) {
    if (st == ST_OK) return;
    st_print();
    exit(st_exit_code(st));
}

static void fill(batch_t *b, const loaded_t *l, int64_t length, int64_t count, int64_t prompt) {
    for (int64_t s = 0; s < count; s++) {
        sequence_t q = {.n_prefix = 0, .n_prompt = prompt};
        for (int64_t t = 0; t < length; t++) {
            int32_t id = (int32_t)((s * 7919 + t * 104729) % l->model.config.vocab);
            check(sequence_add(&q, &id, 1, t < prompt ? 0.0f : 1.0f));
        }
        check(batch_add(b, &l->layout, &q, s));
        sequence_release(&q);
    }
}

static void report(double whole, int64_t tokens) {
    double sum = 0, floor = 0, flops = 0;
    printf("%-22s %-8s %6s %9s %7s %9s\n", "op", "pass", "calls", "ms", "share", "GB/s");
    for (int op = 0; op < OP_COUNT; op++)
        for (int back = 0; back < 2; back++) {
            double t = noted.best[op][back];
            if (!noted.calls[op][back]) continue;
            sum += t;
            printf("%-22s %-8s %6lld %9.2f %6.1f%% %9.1f\n", op_defs[op]->name, back ? "backward" : "forward",
                   (long long)noted.calls[op][back] / PASSES, t * 1e3, 100 * t / whole,
                   noted.bytes[op][back] / PASSES / t / 1e9);
        }
    printf("all ops %.1f ms, forward and backward %.1f ms, %.0f tokens/s\n", sum * 1e3, whole * 1e3,
           (double)tokens / whole);
    for (int i = 0; i < shapes; i++) {
        double t = product_seconds(&shape[i]), calls = (double)shape[i].calls / PASSES;
        double f = 2.0 * (double)shape[i].m * (double)shape[i].n * (double)shape[i].k;
        printf("product %c%c %6lld x %6lld over %6lld: %5.0f calls, %8.2f ms each, %6.1f GF/s\n", shape[i].ta,
               shape[i].tb, (long long)shape[i].m, (long long)shape[i].n, (long long)shape[i].k, calls, t * 1e3,
               f / t / 1e9);
        floor += calls * t;
        flops += calls * f;
    }
    printf("products alone %.1f ms (%.1f GF/s); the pass takes %.3f of that\n", floor * 1e3, flops / floor / 1e9,
           whole / floor);
}

int main(int argc, char **argv) {
    int keys = argc < 2 ? 0 : argc - 2, tail = argc;
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--")) keys = i - 2, tail = i + 1, i = argc;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_step CONFIG [key=value ...] [-- LENGTH COUNT [PROMPT]]\n");
        return 2;
    }
    int64_t length = tail < argc ? atoll(argv[tail]) : 256, count = tail + 1 < argc ? atoll(argv[tail + 1]) : 4;
    int64_t prompt = tail + 2 < argc ? atoll(argv[tail + 2]) : 0;
    config_t config;
    loaded_t l = {0};
    check(config_load(argv[1], (const char *const *)argv + 2, keys, registry_methods(), &config));
    check(loaded_open_methods(&config, NULL, &l));
    int64_t n = count * (length + virtual_tokens(&l.layout));
    const backend_t backend = timed_backend();
    build_options_t o = {.tail = TAIL_LOSS, .with_grad = true, .recompute = config.training.gradient_checkpointing};
    micro_share(&l.layout, n, &o);
    build_t build;
    batch_t batch;
    check(build_open(&l.model, &backend, l.hook, l.n_method, o, &build));
    check(micro_batch_init(&l.layout, n, &batch));
    batch_clear(&batch);
    fill(&batch, &l, length, count, prompt);
    double whole = 1e9;
    for (int i = 0; i < PASSES; i++) {
        memset(noted.seconds, 0, sizeof noted.seconds);
        double began = omp_get_wtime();
        micro_load(&build, &batch);
        tape_set_step(build.tape, (op_step_t){1, (uint64_t)i, true});
        double loss;
        check(micro_forward(&build, &loss));
        tape_backward(build.tape);
        double t = omp_get_wtime() - began;
        if (t >= whole) continue;
        whole = t;
        memcpy(noted.best, noted.seconds, sizeof noted.best);
    }
    printf("%d threads, %lld sequences of %lld tokens, loss behind %lld; arena %.1f MiB\n", omp_get_max_threads(),
           (long long)count, (long long)length, (long long)prompt, (double)tape_arena_bytes(build.tape) / 1048576.0);
    report(whole, count * length);
    build_close(&build);
    batch_release(&batch);
    loaded_close(&l);
    config_release(&config);
    return 0;
}
