#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/philox.h"
#include "tests/op/common_case.h"

enum { GUARD = 64, GUARD_BYTE = 0xA5 };

static const op_cases_t *const lists[] = {&op_cases_main, &op_cases_rows, &op_cases_routed, &op_cases_attention,
                                          &op_cases_objective};
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
    case DT_BF16: {
        uint32_t bits = (uint32_t)((const uint16_t *)v->data)[i] << 16; /* the upper half of a float */
        float x;
        memcpy(&x, &bits, sizeof x);
        return (double)x;
    }
    case DT_I32:
        return ((const int32_t *)v->data)[i];
    case DT_U64:
        return (double)((const uint64_t *)v->data)[i];
    }
    return NAN;
}

static void set(view_t *v, int64_t i, double value) {
    if (v->dtype == DT_F32)
        ((float *)v->data)[i] = (float)value;
    else
        ((double *)v->data)[i] = value;
}

/* In [-1, 1), exact in float. */
static double draw(uint64_t stream, int64_t i) {
    uint32_t word[4];
    rng_words(7, RNG_INIT, stream, (uint64_t)i, word);
    return 2 * (double)rng_unit(word[0]) - 1;
}

double run_start_value(int64_t i) {
    return (double)(i % 7) / 4 - 1;
}

static void make_input(run_t *r, int i) {
    view_t *v = &r->io.in[i];
    char kind = r->c->in[i].kind;
    if (!kind) return;
    v->dtype = kind == 'r' ? r->backend->real : kind == 'w' ? DT_F32 : kind == 'i' ? DT_I32 : DT_U64;
    v->rank = r->c->in[i].rank;
    for (int a = 0; a < v->rank; a++) v->dim[a] = r->c->in[i].dim[a];
    if (kind == 'v') { /* rows of input 1, from the row that `data` says */
        v->dtype = r->backend->real;
        v->data =
            (char *)r->io.in[1].data + *(const int64_t *)r->c->in[i].data * v->dim[1] * (int64_t)dtype_size(v->dtype);
        return;
    }
    v->data = guarded(r, view_bytes(v));
    if (r->c->in[i].data)
        memcpy(v->data, r->c->in[i].data, view_bytes(v));
    else
        for (int64_t n = 0; n < view_count(v); n++)
            set(v, n, kind == 'w' ? fabs(draw((uint64_t)i, n)) : draw((uint64_t)i, n));
}

static void make_outputs(run_t *r, const run_options_t *options) {
    const op_def_t *def = op_defs[r->c->op];
    if (def->infer(r->c->attr, r->io.in, r->io.out) != ST_OK) fail_msg("%s: %s", r->c->name, st_message());
    for (int o = 0; o < def->n_out; o++) {
        bool shared = o == 0 && options->inplace && def->inplace >= 0 && r->c->in[def->inplace].kind;
        r->io.out[o].data = shared ? r->io.in[def->inplace].data : guarded(r, view_bytes(&r->io.out[o]));
    }
}

static void make_gradients(run_t *r, const run_options_t *options) {
    const op_def_t *def = op_defs[r->c->op];
    r->io.gout = r->io.out[0];
    r->io.gout.data = guarded(r, view_bytes(&r->io.gout));
    for (int64_t n = 0; n < view_count(&r->io.gout); n++) set(&r->io.gout, n, draw(99, n));
    for (int i = 0; i < def->n_in; i++) {
        view_t *g = &r->io.gin[i];
        if (!(options->gradients & def->differentiable & 1u << i) || !r->io.in[i].data) continue;
        *g = r->io.in[i];
        g->data = options->passthrough && i == def->passthrough ? r->io.gout.data : guarded(r, view_bytes(g));
        r->io.acc[i] = options->acc && g->data != r->io.gout.data;
        for (int64_t n = 0; r->io.acc[i] && n < view_count(g); n++) set(g, n, run_start_value(n));
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
    r->io.attr = c->attr;
    r->io.step = &r->step;
    r->io.want_grad = options->gradients != 0;
    for (int i = 0; i < op_defs[c->op]->n_in; i++) make_input(r, i);
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
