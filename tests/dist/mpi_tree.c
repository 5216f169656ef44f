/* Runs under mpirun (tests/dist/run_mpi.sh). Without arguments: every collective of the control communicator.
 * With `data`: the data communicator, and the canonical reduction for M = 1..9 micro-batches against its definition,
 * which knows nothing of ranks: equality on every rank count follows. Vectors are on a device where the program has
 * one, so that the same checks run on the host, on emulated devices and on real ones.
 * With `die R`, `fail R`, `hang R`: rank R fails in that way, to check exit codes and how long the end takes;
 * `absent R`: rank R does not come to a sum of the data communicator; with R beyond the ranks all come, and go on
 * without asking for it, so that a fault of the communicator itself (tests/cuda_on_host/nccl.h) is found by the
 * watchdog. `alone R`: the same as `data`, but ranks may not share a device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/cuda.h"
#include "kernels/philox.h"
#include "train/comm/comm.h"
#include "train/comm/comm_data.h"
#include "train/comm/tree.h"

enum { MAX_MICRO = 9 };

/* A data communicator and its device, NULL: the host. */
typedef struct side {
    device_t *device;
    comm_data_t *data;
} side_t;

static float value(int64_t micro, int64_t item) {
    uint32_t w[4];
    rng_words(11, RNG_INIT, (uint64_t)micro, (uint64_t)item, w);
    float v = rng_unit(w[0]) - 0.5f;
    for (uint32_t k = 0; k < w[1] % 12; k++) v *= 0.25f;
    return v;
}

static float reference(int64_t lo, int64_t span, int64_t M, int64_t item) {
    if (span == 1) return value(lo, item);
    float left = reference(lo, span / 2, M, item);
    return lo + span / 2 < M ? left + reference(lo + span / 2, span / 2, M, item) : left;
}

#define EXPECT(what, ok)                                                                                               \
    if (!(ok)) return st_raise(ST_INTERNAL, what, "unexpected value on rank %d", rank)

static status_t get(const side_t *s, float *host, const float *v, int64_t n) {
    device_download(s->device, host, v, (size_t)n * sizeof *v);
    return device_sync(s->device, "result");
}

static status_t put(const side_t *s, float *v, const float *host, int64_t n) {
    device_upload(s->device, v, host, (size_t)n * sizeof *v);
    return device_sync(s->device, "input");
}

static status_t tree_step(comm_t *c, const side_t *s, tree_t *t, int64_t M, int64_t n, float *host, float *out) {
    int64_t lo, hi, span = 1;
    while (span < M) span *= 2;
    tree_share(M, comm_size(c), comm_rank(c), &lo, &hi);
    TRY(comm_agree(c, tree_begin(t, M)));
    for (int64_t m = lo; m < hi; m++) {
        float *leaf = tree_leaf(t);
        TRY(get(s, host, leaf, n));
        for (int64_t i = 0; i < n; i++) host[i] += value(m, i);
        TRY(put(s, leaf, host, n));
        tree_push(t);
    }
    tree_finish(t);
    TRY(get(s, host, out, n));
    for (int64_t i = 0; i < n; i++) {
        float want = reference(0, span, M, i);
        if (memcmp(&want, &host[i], sizeof want) != 0)
            return st_raise(ST_INTERNAL, "tree", "M %ld item %ld: %a, not %a", (long)M, (long)i, (double)host[i],
                            (double)want);
    }
    return ST_OK;
}

static status_t check_tree(comm_t *c, const side_t *s, int64_t n) {
    tree_t *t = NULL;
    void *out = NULL, *host = malloc((size_t)n * sizeof(float));
    if (!host) return st_nomem("result", (size_t)n * sizeof(float));
    TRY(device_alloc(s->device, (size_t)n * sizeof(float), "result", &out));
    status_t st = tree_open(s->data, s->device ? backend_cuda_f32.vector : &vector_cpu, n, out, &t);
    for (int64_t M = 1; M <= MAX_MICRO && st == ST_OK; M++) st = comm_agree(c, tree_step(c, s, t, M, n, host, out));
    free(host);
    tree_close(t);
    device_release(s->device, out);
    return st;
}

/* Small whole numbers, whose sums are exact in any order. */
static float whole(int rank, int64_t i) {
    return (float)((i * 7 + rank * 13) % 101 - 50);
}

static float sum_of_whole(int size, int64_t i) {
    float sum = 0;
    for (int r = 0; r < size; r++) sum += whole(r, i);
    return sum;
}

static status_t sums(comm_t *c, const side_t *s, float *v, float *host, int64_t n) {
    int rank = comm_rank(c), size = comm_size(c);
    int64_t first, count;
    comm_data_share(n, size, rank, &first, &count);
    for (int64_t i = 0; i < n; i++) host[i] = whole(rank, i);
    TRY(put(s, v, host, n));
    comm_data_allreduce(s->data, v, n);
    comm_data_join(s->data);
    TRY(get(s, host, v, n));
    for (int64_t i = 0; i < n; i++) EXPECT("comm_data_allreduce", host[i] == sum_of_whole(size, i));

    for (int64_t i = 0; i < n; i++) host[i] = whole(rank, i);
    TRY(put(s, v, host, n));
    comm_data_reduce_scatter(s->data, v, n, 0, n);
    comm_data_join(s->data);
    TRY(get(s, host, v, n));
    for (int64_t i = first; i < first + count; i++)
        EXPECT("comm_data_reduce_scatter", host[i] == sum_of_whole(size, i));

    /* in parts, of which the middle one is of several ranks */
    for (int64_t i = 0; i < n; i++) host[i] = whole(rank, i);
    TRY(put(s, v, host, n));
    comm_data_reduce_scatter(s->data, v, n, n - n / 5, n / 5);
    comm_data_reduce_scatter(s->data, v, n, n / 5, n - n / 5 - n / 5);
    comm_data_reduce_scatter(s->data, v, n, 0, n / 5);
    comm_data_join(s->data);
    TRY(get(s, host, v, n));
    for (int64_t i = first; i < first + count; i++)
        EXPECT("comm_data_reduce_scatter in parts", host[i] == sum_of_whole(size, i));

    for (int64_t i = 0; i < n; i++)
        if (i < first || i >= first + count) host[i] = -1e9f;
    TRY(put(s, v, host, n));
    comm_data_all_gather(s->data, v, n);
    comm_data_join(s->data);
    TRY(get(s, host, v, n));
    for (int64_t i = 0; i < n; i++) EXPECT("comm_data_all_gather", host[i] == sum_of_whole(size, i));
    return ST_OK;
}

static status_t moves(comm_t *c, const side_t *s, float *v, float *host, int64_t n) {
    int rank = comm_rank(c), size = comm_size(c);
    for (int64_t i = 0; i < n; i++) host[i] = whole(rank, i);
    TRY(put(s, v, host, n));
    comm_data_bcast(s->data, v, n, size - 1);
    comm_data_join(s->data);
    TRY(get(s, host, v, n));
    for (int64_t i = 0; i < n; i++) EXPECT("comm_data_bcast", host[i] == whole(size - 1, i));
    /* along a chain, each rank adding nothing but its number to the first item, two messages in one group */
    int64_t half = n / 2;
    if (rank > 0) {
        comm_data_begin(s->data);
        comm_data_recv(s->data, v, half, rank - 1);
        comm_data_recv(s->data, v + half, n - half, rank - 1);
        comm_data_end(s->data);
        comm_data_join(s->data);
        TRY(get(s, host, v, n));
    }
    host[0] += (float)rank;
    TRY(put(s, v, host, n));
    if (rank + 1 < size) {
        comm_data_begin(s->data);
        comm_data_send(s->data, v, half, rank + 1);
        comm_data_send(s->data, v + half, n - half, rank + 1);
        comm_data_end(s->data);
        comm_data_join(s->data);
    }
    TRY(get(s, host, v, n));
    EXPECT("comm_data_send", host[0] == whole(size - 1, 0) + (float)(rank * (rank + 1) / 2));
    for (int64_t i = 1; i < n; i++) EXPECT("comm_data_recv", host[i] == whole(size - 1, i));
    return ST_OK;
}

static status_t check_data(comm_t *c, const side_t *s, int64_t n) {
    void *v = NULL, *host = malloc((size_t)n * sizeof(float));
    if (!host) return st_nomem("vector", (size_t)n * sizeof(float));
    TRY(device_alloc(s->device, (size_t)n * sizeof(float), "vector", &v));
    status_t st = comm_agree(c, sums(c, s, v, host, n));
    if (st == ST_OK) st = comm_agree(c, moves(c, s, v, host, n));
    free(host);
    device_release(s->device, v);
    return st;
}

static status_t check_collectives(comm_t *c) {
    int rank = comm_rank(c), size = comm_size(c);
    double d[3] = {rank == size - 1 ? 0.1 : 0.0, 1.0, rank};
    TRY(comm_sum_f64(c, d, 3));
    EXPECT("comm_sum_f64", d[0] == 0.1 && d[1] == size && d[2] == size * (size - 1) / 2);
    int64_t most[2] = {rank, -rank};
    TRY(comm_max_i64(c, most, 2));
    EXPECT("comm_max_i64", most[0] == size - 1 && most[1] == 0);
    int32_t counts[2] = {1, rank};
    TRY(comm_sum_i32(c, counts, 2));
    EXPECT("comm_sum_i32", counts[0] == size && counts[1] == size * (size - 1) / 2);
    char text[6] = "other";
    if (rank == size - 1) memcpy(text, "bytes", sizeof text);
    TRY(comm_bcast(c, text, sizeof text, size - 1));
    EXPECT("comm_bcast", strcmp(text, "bytes") == 0);
    if (rank > 0) {
        float mine = (float)rank;
        TRY(comm_send_f32(c, &mine, 1, 0));
    }
    for (int from = 1; rank == 0 && from < size; from++) {
        float theirs = 0;
        TRY(comm_recv_f32(c, &theirs, 1, from));
        EXPECT("comm_recv_f32", theirs == (float)from);
    }
    EXPECT("comm_local_size", comm_local_size(c) == size && comm_local_rank(c) == rank && comm_threads(c) >= 1);
    return comm_barrier(c);
}

/* The lowest failing rank is everybody's status and message. */
static status_t check_agree(comm_t *c) {
    int rank = comm_rank(c), size = comm_size(c);
    if (comm_agree(c, ST_OK) != ST_OK) return st_raise(ST_INTERNAL, "comm_agree", "failed without a failure");
    status_t mine = rank == size - 1   ? st_raise(ST_NOMEM, "last", "text of the last rank")
                    : rank == size - 2 ? st_raise(ST_INPUT, "lower", "text of the lower rank")
                                       : ST_OK;
    status_t st = comm_agree(c, mine);
    EXPECT("comm_agree", st == (size > 1 ? ST_INPUT : ST_NOMEM));
    EXPECT("comm_agree message", strstr(st_message(), size > 1 ? "lower: text" : "last: text") != NULL);
    st_clear();
    return ST_OK;
}

static status_t misbehave(comm_t *c, const char *how, int who) {
    bool me = comm_rank(c) == who;
    if (strcmp(how, "die") == 0) {
        if (me) comm_die(c, st_raise(ST_NUMERIC, "layer 3", "the loss is not finite; lower the learning rate"));
        return comm_barrier(c);
    }
    if (strcmp(how, "hang") == 0) {
        TRY(comm_watchdog(c, me ? 2 : 100));
        comm_beat(c, "the place of the hang");
        if (me) sleep(60);
        return comm_barrier(c);
    }
    return comm_agree(c, me ? st_raise(ST_INPUT, "a.jsonl", "line 3 is no JSON") : ST_OK);
}

/* Ranks take the node's devices in turn, as many ranks to a device as there are. */
static status_t side_open(comm_t *c, bool share, int seconds, side_t *s) {
    char why[160];
    int devices = cuda_count(why, sizeof why);
    TRY(comm_agree(c, devices ? cuda_open(comm_local_rank(c) % devices, &s->device) : ST_OK));
    return comm_data_open(c, &(comm_data_options_t){s->device, share, seconds}, &s->data);
}

static status_t absent(comm_t *c, const side_t *s, int who) {
    void *v = NULL;
    comm_beat(c, "the sum of the test");
    TRY(comm_agree(c, device_alloc(s->device, 1000 * sizeof(float), "vector", &v)));
    if (comm_rank(c) == who) sleep(60);
    comm_data_allreduce(s->data, v, 1000);
    comm_data_join(s->data);
    if (who >= comm_size(c)) sleep(20); /* not asking NCCL */
    return comm_agree(c, device_sync(s->device, "sum"));
}

static status_t data_side(comm_t *c, const char *how, int who) {
    side_t s = {NULL, NULL};
    /* faults are rank 1's: its watchdog is to be the first to see */
    int seconds = who < 0 ? 0 : who >= comm_size(c) && comm_rank(c) != 1 ? 30 : 3;
    status_t st = side_open(c, strcmp(how, "alone") != 0, seconds, &s);
    if (st == ST_OK && strcmp(how, "absent") == 0) st = absent(c, &s, who);
    for (int64_t n = 1; st == ST_OK && n <= 150000; n = n * 7 + 1) st = check_data(c, &s, n);
    if (st == ST_OK) st = check_tree(c, &s, 7);
    if (st == ST_OK) st = check_tree(c, &s, 50001); /* beyond the size that MPI sends without a partner */
    comm_data_close(s.data);
    device_close(s.device);
    return st;
}

int main(int argc, char **argv) {
    comm_t *c = NULL;
    status_t st = comm_open(&c);
    if (st != ST_OK) {
        st_print();
        return st_exit_code(st);
    }
    const char *how = argc > 1 ? argv[1] : "";
    int who = argc > 2 ? atoi(argv[2]) : -1;
    if (strcmp(how, "data") == 0 || strcmp(how, "absent") == 0 || strcmp(how, "alone") == 0) {
        st = data_side(c, how, who);
    } else if (argc > 1) {
        st = misbehave(c, how, who);
    } else {
        st = comm_agree(c, check_collectives(c));
        if (st == ST_OK) st = comm_agree(c, check_agree(c));
    }
    if (st == ST_COMM) comm_die(c, st);
    if (comm_rank(c) == 0 && st != ST_OK) st_print();
    if (comm_rank(c) == 0 && st == ST_OK) printf("ok %d ranks\n", comm_size(c));
    comm_close(c);
    return st_exit_code(st);
}
