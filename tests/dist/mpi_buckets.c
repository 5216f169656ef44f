/* Runs under mpirun (run_mpi.sh, run_nccl.sh): the fast reduction in several buckets, whole and in shares, beside the
 * sum of the ranks' gradients; the last rank has nothing to add. On a device where the program has one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/cuda.h"
#include "tests/tape/common_net.h"
#include "train/comm/comm.h"
#include "train/run/buckets.h"

enum { ROUNDS = 4, LEAST = 70 };

typedef struct side {
    comm_t *c;
    comm_data_t *data;
    net_t net;
    int64_t n;
    float *got, *before; /* [n] */
    double *want;        /* [n] */
} side_t;

static bool has_part(const side_t *s) {
    return comm_size(s->c) == 1 || comm_rank(s->c) < comm_size(s->c) - 1;
}

/* By one pass and an all-reduce of doubles. */
static status_t sum_by_hand(side_t *s) {
    if (has_part(s)) (void)net_run(&s->net, s->got);
    for (int64_t i = 0; i < s->n; i++) s->want[i] = has_part(s) ? (double)s->got[i] : 0;
    return comm_sum_f64(s->c, s->want, s->n);
}

static status_t compare(const side_t *s, const buckets_t *b, bool share, int round) {
    int64_t first = 0, count = s->n;
    double error = 0, size = 0;
    if (share) comm_data_share(s->n, comm_size(s->c), comm_rank(s->c), &first, &count);
    for (int64_t i = first; i < first + count; i++) {
        error += pow((double)s->got[i] - s->want[i], 2);
        size += pow(s->want[i], 2);
    }
    if (b->count < 3 || !(error <= 1e-12 * size))
        return st_raise(ST_INTERNAL, "buckets", "rank %d: %d buckets, distance %g of %g", comm_rank(s->c), b->count,
                        sqrt(error), sqrt(size));
    if (round && memcmp(s->before + first, s->got + first, (size_t)count * sizeof *s->got) != 0)
        return st_raise(ST_INTERNAL, "buckets", "rank %d: other bits than before", comm_rank(s->c));
    memcpy(s->before, s->got, (size_t)s->n * sizeof *s->got);
    return ST_OK;
}

static status_t reduce(side_t *s, bool share) {
    device_t *d = s->net.params.device;
    const size_t bytes = (size_t)s->n * sizeof(float);
    float *grad = d ? s->net.params.device_grad : s->net.params.grad;
    buckets_t b;
    buckets_cut(s->net.tape, &s->net.params, LEAST, &b);
    tape_set_grad(s->net.tape, grad);
    for (int round = 0; round < ROUNDS; round++) {
        device_zero(d, grad, bytes);
        if (has_part(s)) tape_forward(s->net.tape);
        buckets_reduce(&b, has_part(s) ? s->net.tape : NULL, s->data, grad, share);
        device_download(d, s->got, grad, bytes);
        TRY(comm_agree(s->c, device_sync(d, "gradients")));
        TRY(comm_agree(s->c, compare(s, &b, share, round)));
    }
    return ST_OK;
}

static status_t run(side_t *s, device_t *d) {
    const net_how_t how = {.blocks = 4, .frozen = 1, .capacity = {24, 20, 1, 0}, .device = d};
    net_open(&s->net, d ? &backend_cuda_f32 : &backend_cpu, how);
    s->n = s->net.params.n_trainable;
    s->got = malloc((size_t)s->n * sizeof *s->got);
    s->before = malloc((size_t)s->n * sizeof *s->before);
    s->want = malloc((size_t)s->n * sizeof *s->want);
    assert_true(s->got && s->before && s->want);
    net_load(&s->net, 20 - comm_rank(s->c), 12 - comm_rank(s->c));
    status_t st = sum_by_hand(s);
    if (st == ST_OK) st = reduce(s, false);
    if (st == ST_OK) st = reduce(s, true);
    free(s->got);
    free(s->before);
    free(s->want);
    return st;
}

int main(void) {
    side_t s = {.c = NULL};
    device_t *d = NULL;
    char why[160];
    status_t st = comm_open(&s.c);
    const int devices = cuda_count(why, sizeof why);
    if (st == ST_OK) st = comm_agree(s.c, devices ? cuda_open(comm_local_rank(s.c) % devices, &d) : ST_OK);
    if (st == ST_OK) st = comm_data_open(s.c, &(comm_data_options_t){.device = d, .share_device = true}, &s.data);
    if (st == ST_OK) st = run(&s, d);
    if (st == ST_COMM) comm_die(s.c, st);
    if (comm_rank(s.c) == 0 && st != ST_OK) st_print();
    if (comm_rank(s.c) == 0 && st == ST_OK) printf("ok %d ranks\n", comm_size(s.c));
    comm_data_close(s.data);
    net_close(&s.net);
    device_close(d);
    comm_close(s.c);
    return st_exit_code(st);
}
