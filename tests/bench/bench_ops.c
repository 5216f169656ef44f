/* Speed of every CPU kernel at the shapes of SmolLM2-135M with 1,024 tokens in four sequences: GF/s where arithmetic
 * rules, GB/s (of tensors read and written once) where memory does. Then products alone (bench_products.h). Not a test.
 * usage: bench_ops [op|product] */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "kernels/ops/cols.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/lowrank.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope_table.h"
#include "kernels/ops/routed_linear.h"
#include "tests/bench/bench_products.h"

enum { TOKENS = 1024, WIDTH = 576, HIDDEN = 1536, HEADS = 9, KV = 3, DIM = 64, RANK = 8, VOCAB = 49152, TARGETS = 512 };

static int32_t counting[TOKENS], evens[TARGETS], cu[] = {0, 256, 512, 768, 1024};
static int32_t cu_prefix[] = {0, 32, 64, 96, 128};
static int32_t cu_next[] = {0, 1, 2, 3, 4}, past[] = {255, 255, 255, 255};
static const int32_t same_expert[] = {1, 1, 1, 1}, experts_in_turn[] = {0, 1, 0, 1};
static uint64_t keys[TOKENS];
static double inv_freq[DIM / 2];
static const attention_attr_t attention = {HEADS, KV, DIM, 0.125};
static const attention_cached_attr_t cached = {HEADS, KV, DIM, 256, 0.125};
static const rmsnorm_attr_t rms = {1e-5};
static const layernorm_attr_t layer = {1e-5};
static const lowrank_attr_t lora = {2.0, 0.0, 1}, dropped = {2.0, 0.1, 1};
static const rope_table_attr_t table = {DIM / 2, inv_freq, DT_F32};
static const routed_linear_attr_t two_experts = {2};
static const cols_attr_t cols = {WIDTH, WIDTH};

typedef struct bench {
    const char *name;
    op_t op;
    const void *attr;
    double flops; /* of forward, 0: count bytes */
    double times; /* backward's share of it */
    struct {
        int64_t d0, d1, d2;
        const void *data; /* integers; NULL: reals */
    } in[OP_MAX_IN];
    uint32_t gradients;
} bench_t;

#define GEMM(m, n, k) (2.0 * (double)(m) * (double)(n) * (double)(k))
#define PAIRS         (4 * GEMM(256, 256, DIM) * HEADS) /* q k^T and p v, half of each by causality */

/* clang-format off */
static const bench_t benches[] = {
    {"linear 576>1536 (dx)",
     OP_LINEAR,
     NULL,
     GEMM(TOKENS, HIDDEN, WIDTH),
     1,
     {{TOKENS, WIDTH, 0, NULL}, {HIDDEN, WIDTH, 0, NULL}},
     1},
    {"linear 1536>576 (dx)",
     OP_LINEAR,
     NULL,
     GEMM(TOKENS, HIDDEN, WIDTH),
     1,
     {{TOKENS, HIDDEN, 0, NULL}, {WIDTH, HIDDEN, 0, NULL}},
     1},
    {"linear 576>576 (dx, dW)",
     OP_LINEAR,
     NULL,
     GEMM(TOKENS, WIDTH, WIDTH),
     2,
     {{TOKENS, WIDTH, 0, NULL}, {WIDTH, WIDTH, 0, NULL}},
     3},
    {"routed_linear 576>576, one expert",
     OP_ROUTED_LINEAR,
     &two_experts,
     GEMM(TOKENS, WIDTH, WIDTH),
     2,
     {{TOKENS, WIDTH, 0, NULL}, {2 * WIDTH, WIDTH, 0, NULL}, {2 * WIDTH, 0, 0, NULL}, {5, 0, 0, cu}, {4, 0, 0, same_expert}},
     3},
    {"routed_linear 576>576, two in turn",
     OP_ROUTED_LINEAR,
     &two_experts,
     GEMM(TOKENS, WIDTH, WIDTH),
     2,
     {{TOKENS, WIDTH, 0, NULL}, {2 * WIDTH, WIDTH, 0, NULL}, {2 * WIDTH, 0, 0, NULL}, {5, 0, 0, cu}, {4, 0, 0, experts_in_turn}},
     3},
    {"linear 576>192 (dx)",
     OP_LINEAR,
     NULL,
     GEMM(TOKENS, 192, WIDTH),
     1,
     {{TOKENS, WIDTH, 0, NULL}, {192, WIDTH, 0, NULL}},
     1},
    {"lowrank 576>1536",
     OP_LOWRANK,
     &lora,
     GEMM(TOKENS, RANK, WIDTH + HIDDEN),
     2,
     {{TOKENS, HIDDEN, 0, NULL},
      {TOKENS, WIDTH, 0, NULL},
      {RANK, WIDTH, 0, NULL},
      {HIDDEN, RANK, 0, NULL},
      {TOKENS, 0, 0, keys}},
     14},
    {"lowrank 576>1536, dropout",
     OP_LOWRANK,
     &dropped,
     GEMM(TOKENS, RANK, WIDTH + HIDDEN),
     2,
     {{TOKENS, HIDDEN, 0, NULL},
      {TOKENS, WIDTH, 0, NULL},
      {RANK, WIDTH, 0, NULL},
      {HIDDEN, RANK, 0, NULL},
      {TOKENS, 0, 0, keys}},
     14},
    {"attention",
     OP_ATTENTION,
     &attention,
     PAIRS,
     2.5,
     {{TOKENS, WIDTH, 0, NULL}, {TOKENS, KV *DIM, 0, NULL}, {TOKENS, KV *DIM, 0, NULL}, {5, 0, 0, cu}},
     7},
    {"attention, prefixes of 32",
     OP_ATTENTION,
     &attention,
     PAIRS + 4 * GEMM(256, 32, DIM) * HEADS * 2,
     2.5,
     {{TOKENS, WIDTH, 0, NULL},
      {TOKENS, KV *DIM, 0, NULL},
      {TOKENS, KV *DIM, 0, NULL},
      {5, 0, 0, cu},
      {128, KV *DIM, 0, NULL},
      {128, KV *DIM, 0, NULL},
      {5, 0, 0, cu_prefix}},
     0x37},
    {"attention_cached, 4 tokens",
     OP_ATTENTION_CACHED,
     &cached,
     4.0 * 256 * DIM *HEADS * 4,
     0,
     {{4, WIDTH, 0, NULL},
      {4, KV *DIM, 0, NULL},
      {4, KV *DIM, 0, NULL},
      {5, 0, 0, cu_next},
      {4, 0, 0, past},
      {2, 1024, KV *DIM, NULL}},
     0},
    {"linear_cross_entropy (h)",
     OP_LINEAR_CROSS_ENTROPY,
     NULL,
     2 * GEMM(TARGETS, VOCAB, WIDTH),
     0,
     {{TARGETS, WIDTH, 0, NULL}, {VOCAB, WIDTH, 0, NULL}, {TARGETS, 0, 0, counting}, {TARGETS, 0, 0, NULL}},
     1},
    {"linear_cross_entropy (h, W)",
     OP_LINEAR_CROSS_ENTROPY,
     NULL,
     2 * GEMM(TARGETS, VOCAB, WIDTH),
     1,
     {{TARGETS, WIDTH, 0, NULL}, {VOCAB, WIDTH, 0, NULL}, {TARGETS, 0, 0, counting}, {TARGETS, 0, 0, NULL}},
     3},
    {"embedding", OP_EMBEDDING, NULL, 0, 1, {{VOCAB, WIDTH, 0, NULL}, {TOKENS, 0, 0, counting}}, 0},
    {"add", OP_ADD, NULL, 0, 1, {{TOKENS, WIDTH, 0, NULL}, {TOKENS, WIDTH, 0, NULL}}, 3},
    {"rmsnorm (dx)", OP_RMSNORM, &rms, 0, 1, {{TOKENS, WIDTH, 0, NULL}, {WIDTH, 0, 0, NULL}}, 1},
    {"add_rmsnorm (da, db)",
     OP_ADD_RMSNORM,
     &rms,
     0,
     1,
     {{TOKENS, WIDTH, 0, NULL}, {TOKENS, WIDTH, 0, NULL}, {WIDTH, 0, 0, NULL}},
     3},
    {"layernorm (dx)",
     OP_LAYERNORM,
     &layer,
     0,
     1,
     {{TOKENS, WIDTH, 0, NULL}, {WIDTH, 0, 0, NULL}, {WIDTH, 0, 0, NULL}},
     1},
    {"rope_table", OP_ROPE_TABLE, &table, 0, 0, {{TOKENS, 0, 0, counting}}, 0},
    {"rope", OP_ROPE, NULL, 0, 1, {{TOKENS, WIDTH, 0, NULL}, {TOKENS, DIM, 0, NULL}}, 1},
    {"silu_mul", OP_SILU_MUL, NULL, 0, 1, {{TOKENS, HIDDEN, 0, NULL}, {TOKENS, HIDDEN, 0, NULL}}, 3},
    {"gelu", OP_GELU, NULL, 0, 1, {{TOKENS, HIDDEN, 0, NULL}}, 1},
    {"cols", OP_COLS, &cols, 0, 1, {{TOKENS, 3 * WIDTH, 0, NULL}}, 1},
    {"gather_rows", OP_GATHER_ROWS, NULL, 0, 1, {{TOKENS, WIDTH, 0, NULL}, {TARGETS, 0, 0, evens}}, 1},
};

static void *filled(size_t bytes) {
    float *p = calloc(bytes / sizeof *p + 16, sizeof *p);
    if (!p) exit(1);
    for (size_t i = 0; i < bytes / sizeof *p; i++) p[i] = (float)((i * 2654435761u >> 16) % 1000) / 1000 - 0.5f;
    return p;
}

static void make_view(view_t *v, const bench_t *b, int i) {
    v->rank = b->in[i].d2 ? 3 : b->in[i].d1 ? 2 : 1;
    v->dim[0] = b->in[i].d0;
    v->dim[1] = b->in[i].d1;
    v->dim[2] = b->in[i].d2;
    v->dtype = !b->in[i].data ? DT_F32 : b->in[i].data == keys ? DT_U64 : DT_I32;
    v->data = filled(view_bytes(v));
    if (b->in[i].data) memcpy(v->data, b->in[i].data, view_bytes(v));
}

/* Seconds of the fastest of several calls. */
static double fastest(op_fn fn, const op_io_t *io) {
    double best = 1e30, total = 0;
    for (int n = 0; n < 3 || (total < 0.3 && n < 50); n++) {
        double start = omp_get_wtime();
        fn(io);
        double t = omp_get_wtime() - start;
        total += t;
        best = t < best ? t : best;
    }
    return best;
}

static void report(const char *name, const char *pass, double seconds, double flops, double bytes) {
    if (flops > 0)
        printf("%-28s %-8s %9.3f ms %8.1f GF/s\n", name, pass, seconds * 1e3, flops / seconds / 1e9);
    else
        printf("%-28s %-8s %9.3f ms %8.1f GB/s\n", name, pass, seconds * 1e3, bytes / seconds / 1e9);
}

static void measure(const bench_t *b) {
    const op_def_t *def = op_defs[b->op];
    const op_kernel_t *kernel = &backend_cpu.kernel[b->op];
    const op_step_t step = {1, 1, true};
    op_io_t io = {.attr = b->attr, .step = &step, .want_grad = b->gradients != 0};
    double bytes = 0, back = 0;
    for (int i = 0; i < def->n_in && b->in[i].d0; i++) make_view(&io.in[i], b, i);
    if (def->infer(b->attr, io.in, io.out) != ST_OK) {
        st_print();
        exit(1);
    }
    for (int o = 0; o < def->n_out; o++) {
        io.out[o].data = filled(view_bytes(&io.out[o]));
        bytes += (double)view_bytes(&io.out[o]);
    }
    io.gout = io.out[0];
    io.gout.data = filled(view_bytes(&io.gout));
    if (def->second) {
        io.gout1 = io.out[1];
        io.gout1.data = filled(view_bytes(&io.gout1));
    }
    for (int i = 0; i < def->n_in; i++) {
        if (b->op != OP_EMBEDDING) bytes += io.in[i].data ? (double)view_bytes(&io.in[i]) : 0;
        if (!(b->gradients >> i & 1) || !(def->differentiable >> i & 1)) continue;
        io.gin[i] = io.in[i];
        io.gin[i].data = filled(view_bytes(&io.gin[i]));
        back += (double)view_bytes(&io.gin[i]);
    }
    if (kernel->scratch) io.scratch = filled(kernel->scratch(&io));
    if (b->op == OP_EMBEDDING) bytes *= 2;
    report(b->name, "forward", fastest(kernel->fwd, &io), b->flops, bytes);
    if (kernel->bwd && b->gradients)
        report(b->name, "backward", fastest(kernel->bwd, &io), b->flops * b->times, bytes + back);
    for (int i = 0; i < def->n_in; i++) free(io.in[i].data), free(io.gin[i].data);
    for (int o = 0; o < def->n_out; o++) free(io.out[o].data);
    free(io.gout.data), free(io.gout1.data);
    free(io.scratch);
}

int main(int argc, char **argv) {
    for (int i = 0; i < TOKENS; i++) counting[i] = i, keys[i] = (uint64_t)i << 32;
    for (int i = 0; i < TARGETS; i++) evens[i] = 2 * i;
    for (int i = 0; i < DIM / 2; i++) inv_freq[i] = 1.0 / (1 + i);
    printf("%d threads\n", omp_get_max_threads());
    for (size_t n = 0; n < sizeof benches / sizeof benches[0]; n++)
        if (argc < 2 || strncmp(benches[n].name, argv[1], strlen(argv[1])) == 0) measure(&benches[n]);
    if (argc < 2 || strcmp(argv[1], "product") == 0) bench_products();
    return 0;
}
