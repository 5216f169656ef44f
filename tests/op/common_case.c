#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/half.h"
#include "kernels/philox.h"
#include "kernels/ops/add_layernorm.h"
#include "kernels/ops/add_rmsnorm.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/lowrank.h"
#include "kernels/ops/lstm.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/routed_linear.h"
#include "kernels/ops/splice.h"
#include "kernels/ops/value_weight.h"
#include "tests/op/common_case.h"

enum { GUARD = 64, GUARD_BYTE = 0xA5 };

static const op_cases_t *const lists[] = {&op_cases_main,      &op_cases_rows, &op_cases_routed,   &op_cases_attention,
                                          &op_cases_objective, &op_cases_even, &op_cases_products, &op_cases_tall};
enum { LISTS = sizeof lists / sizeof *lists };

int op_case_count(void) {
    int n = 0;
    for (int i = 0; i < LISTS; i++) n += lists[i]->count;
    return n;
}

const op_case_t *op_case_at(int n) {
    int i = 0;
    while (n >= lists[i]->count) n -= lists[i++]->count;
    return &lists[i]->item[n];
}

/* `bytes` of 0xFF (NaN as a float or double) between two guards. */
static void *guarded(run_t *r, size_t bytes) {
    unsigned char *block = aligned_alloc(GUARD, (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD);
    assert_non_null(block);
    assert_true(r->buffers < CASE_BUFFERS);
    memset(block, GUARD_BYTE, GUARD);
    memset(block + GUARD, 0xFF, bytes);
    memset(block + GUARD + bytes, GUARD_BYTE, GUARD);
    r->buffer[r->buffers].block = block;
    r->buffer[r->buffers++].bytes = bytes;
    return block + GUARD;
}

static void check_guards(const run_t *r) {
    for (int b = 0; b < r->buffers; b++)
        for (size_t i = 0; i < GUARD; i++)
            if (r->buffer[b].block[i] != GUARD_BYTE || r->buffer[b].block[GUARD + r->buffer[b].bytes + i] != GUARD_BYTE)
                fail_msg("%s on %s wrote outside buffer %d", r->c->name, r->backend->name, b);
}

double view_at(const view_t *v, int64_t i) {
    switch (v->dtype) {
    case DT_F32:
        return (double)((const float *)v->data)[i];
    case DT_F64:
        return ((const double *)v->data)[i];
    case DT_BF16:
        return (double)f32_from_bf16(((const uint16_t *)v->data)[i]);
    case DT_I32:
        return ((const int32_t *)v->data)[i];
    case DT_U64:
        return (double)((const uint64_t *)v->data)[i];
    }
    return NAN;
}

/* The nearest bfloat16, ties to even. */
static uint16_t bf16_of(double value) {
    float x = (float)value;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return (uint16_t)(0x7fffu | (bits >> 16 & 0x8000u));
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

void view_put(const view_t *v, int64_t i, double value) {
    if (v->dtype == DT_F32)
        ((float *)v->data)[i] = (float)value;
    else if (v->dtype == DT_BF16)
        ((uint16_t *)v->data)[i] = bf16_of(value);
    else
        ((double *)v->data)[i] = value;
}

/* Inputs that are parameters: their type may differ from the activations'. */
static const uint32_t parameters[OP_COUNT] = {
    [OP_EMBEDDING] = 1u << EMBEDDING_E,
    [OP_RMSNORM] = 1u << RMSNORM_W,
    [OP_LAYERNORM] = 1u << LAYERNORM_W | 1u << LAYERNORM_B,
    [OP_ADD_RMSNORM] = 1u << ADD_RMSNORM_W,
    [OP_ADD_LAYERNORM] = 1u << ADD_LAYERNORM_W | 1u << ADD_LAYERNORM_BIAS,
    [OP_LINEAR] = 1u << LINEAR_W | 1u << LINEAR_B,
    [OP_ROUTED_LINEAR] = 1u << ROUTED_LINEAR_W | 1u << ROUTED_LINEAR_B,
    [OP_LOWRANK] = 1u << LOWRANK_A | 1u << LOWRANK_B,
    [OP_ATTENTION] = 1u << ATTENTION_PREFIX_K | 1u << ATTENTION_PREFIX_V,
    [OP_ATTENTION_CACHED] = 1u << ATTENTION_CACHED_PREFIX_K | 1u << ATTENTION_CACHED_PREFIX_V,
    [OP_LINEAR_CROSS_ENTROPY] = 1u << LCE_W | 1u << LCE_T,
    [OP_SPLICE] = 1u << SPLICE_T,
    [OP_LSTM] = 1u << LSTM_W_IH | 1u << LSTM_W_HH | 1u << LSTM_B_IH | 1u << LSTM_B_HH,
    [OP_VALUE_WEIGHT] = 1u << VALUE_WEIGHT_V,
};

/* Of these, those that other ops may have made: bfloat16 ones have gradients, too. */
static bool is_made(op_t op) {
    return op == OP_ATTENTION || op == OP_SPLICE;
}

/* The type of the numbers of input i that are exact; with types of zero, the backend's. */
static dtype_t exact_in(const op_case_t *c, int i, dtypes_t types) {
    bool statistic = c->op == OP_ROPE && i == ROPE_TABLE_IN;
    return c->in[i].kind == 'w' || statistic ? DT_F32 : parameters[c->op] >> i & 1 ? types.weight : types.real;
}

static dtype_t stored_in(const op_case_t *c, int i, const backend_t *backend, dtypes_t types) {
    switch (c->in[i].kind) {
    case 'w':
        return DT_F32;
    case 'i':
        return DT_I32;
    case 'k':
        return DT_U64;
    default:
        return backend->real == DT_BF16 ? exact_in(c, i, types) : backend->real;
    }
}

/* In [-1, 1), exact in float, or a multiple of 1/128 and so exact in bfloat16. (Clearing the lower bits of the float
 * does not work: GCC 12 loses an `and` between two copies of bits to and from a float.) */
static double draw(uint64_t stream, int64_t i, bool short_one) {
    uint32_t word[4];
    rng_words(7, RNG_INIT, stream, (uint64_t)i, word);
    float x = 2 * rng_unit(word[0]) - 1;
    return (double)(short_one ? floorf(x * 128) / 128 : x);
}

double run_start_value(int64_t i) {
    return (double)(i % 7) / 4 - 1;
}

static void set_shape(const op_case_t *c, int i, const backend_t *backend, dtypes_t types, view_t *v) {
    if (!c->in[i].kind) return;
    v->dtype = stored_in(c, i, backend, types);
    v->rank = c->in[i].rank;
    for (int a = 0; a < v->rank; a++) v->dim[a] = c->in[i].dim[a];
}

/* Where y may be bfloat16 beside a float table. */
static const void *attr_of(const op_case_t *c, const backend_t *backend) {
    static const embedding_attr_t into_bf16 = {DT_BF16};
    return c->op == OP_EMBEDDING && backend->real == DT_BF16 ? &into_bf16 : c->attr;
}

bool run_is_legal(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    view_t in[OP_MAX_IN] = {{0}}, out[OP_MAX_OUT] = {{0}};
    for (int i = 0; i < op_defs[c->op]->n_in; i++) set_shape(c, i, backend, types, &in[i]);
    if (op_defs[c->op]->infer(attr_of(c, backend), in, out) == ST_OK) return true;
    st_clear();
    return false;
}

static void make_input(run_t *r, int i, dtypes_t types) {
    view_t *v = &r->io.in[i];
    char kind = r->c->in[i].kind;
    if (!kind) return;
    set_shape(r->c, i, r->backend, types, v);
    if (kind == 'v') { /* rows of input 1, from the row that `data` says */
        v->data =
            (char *)r->io.in[1].data + *(const int64_t *)r->c->in[i].data * v->dim[1] * (int64_t)dtype_size(v->dtype);
        return;
    }
    v->data = guarded(r, view_bytes(v));
    if (r->c->in[i].data)
        memcpy(v->data, r->c->in[i].data, view_bytes(v));
    else
        for (int64_t n = 0; n < view_count(v); n++) {
            double x = draw((uint64_t)i, n, exact_in(r->c, i, types) == DT_BF16);
            view_put(v, n, kind == 'w' ? fabs(x) : x);
        }
}

static void make_outputs(run_t *r, const run_options_t *options) {
    const op_def_t *def = op_defs[r->c->op];
    if (def->infer(r->io.attr, r->io.in, r->io.out) != ST_OK) fail_msg("%s: %s", r->c->name, st_message());
    for (int o = 0; o < def->n_out; o++) {
        bool shared = o == 0 && options->inplace && def->inplace >= 0 && r->c->in[def->inplace].kind;
        r->io.out[o].data = shared ? r->io.in[def->inplace].data : guarded(r, view_bytes(&r->io.out[o]));
    }
}

static void make_gradient_of_output(run_t *r, const run_options_t *options, int o, view_t *g) {
    *g = r->io.out[o];
    g->data = NULL;
    if (options->missing >> o & 1) return;
    g->data = guarded(r, view_bytes(g));
    for (int64_t n = 0; n < view_count(g); n++) view_put(g, n, draw(99 + o, n, options->types.real == DT_BF16));
}

static void make_gradients(run_t *r, const run_options_t *options) {
    const op_def_t *def = op_defs[r->c->op];
    make_gradient_of_output(r, options, 0, &r->io.gout);
    if (def->second) make_gradient_of_output(r, options, 1, &r->io.gout1);
    for (int i = 0; i < def->n_in; i++) {
        view_t *g = &r->io.gin[i];
        bool frozen = options->types.weight == DT_BF16 && parameters[r->c->op] >> i & 1 && !is_made(r->c->op);
        if (!(options->gradients & def->differentiable & 1u << i) || !r->io.in[i].data || frozen) continue;
        *g = r->io.in[i];
        bool shared = options->passthrough && i == def->passthrough && r->io.gout.data;
        g->data = shared ? r->io.gout.data : guarded(r, view_bytes(g));
        r->io.acc[i] = options->acc && g->data != r->io.gout.data;
        for (int64_t n = 0; r->io.acc[i] && n < view_count(g); n++) view_put(g, n, run_start_value(n));
    }
}

/* Takes away what backward has no right to read. */
static void hide_the_rest(run_t *r, op_io_t *io) {
    const op_def_t *def = op_defs[r->c->op];
    uint32_t need = 0;
    for (int i = 0; i < def->n_in; i++)
        if (io->gin[i].data) need |= def->need[i];
    for (int i = 0; i < def->n_in; i++)
        if (!(need & NEED_IN(i))) io->in[i].data = NULL;
    for (int o = 0; o < def->n_out; o++)
        if (!(need & NEED_OUT(o))) io->out[o].data = NULL;
}

void run_forward(run_t *r) {
    r->backend->kernel[r->c->op].fwd(&r->io);
}

void run_make(run_t *r, const op_case_t *c, const backend_t *backend, const run_options_t *options) {
    const op_kernel_t *kernel = &backend->kernel[c->op];
    *r = (run_t){.c = c, .backend = backend, .step = {.seed = 0x123456789abcdefu, .step = 5, .training = c->training}};
    r->io.attr = attr_of(c, backend);
    r->io.device = options->device;
    r->io.step = &r->step;
    r->io.step_on_device = &r->step;
    r->io.want_grad = options->gradients != 0;
    for (int i = 0; i < op_defs[c->op]->n_in; i++) make_input(r, i, options->types);
    make_outputs(r, options);
    if (kernel->bwd && options->gradients) make_gradients(r, options);
    if (kernel->scratch) r->io.scratch = guarded(r, kernel->scratch(&r->io));
    run_forward(r);
    if (kernel->bwd && options->gradients) {
        op_io_t io = r->io;
        if (options->only_needed) hide_the_rest(r, &io);
        kernel->bwd(&io);
    }
    check_guards(r);
}

void run_release(run_t *r) {
    check_guards(r);
    for (int b = 0; b < r->buffers; b++) free(r->buffer[b].block);
    *r = (run_t){0};
}
