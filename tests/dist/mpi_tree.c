/* Runs under mpirun (tests/dist/run_mpi.sh). Without arguments: every collective, and the canonical reduction for
 * M = 1..9 micro-batches against its definition, which knows nothing of ranks: equality on every rank count follows.
 * With `die R`, `fail R`, `hang R`: rank R fails in that way, to check exit codes and how long the end takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/philox.h"
#include "train/comm/comm.h"
#include "train/comm/tree.h"

enum { MAX_MICRO = 9 };

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

static status_t check_tree(comm_t *c, int64_t n) {
    tree_t *t = NULL;
    TRY(tree_open(c, n, MAX_MICRO, &t));
    float *out = malloc((size_t)n * sizeof *out);
    if (!out) return st_nomem("result", (size_t)n * sizeof *out);
    status_t st = ST_OK;
    for (int64_t M = 1; M <= MAX_MICRO && st == ST_OK; M++) {
        int64_t lo, hi, span = 1;
        while (span < M) span *= 2;
        tree_share(M, comm_size(c), comm_rank(c), &lo, &hi);
        tree_begin(t, M);
        for (int64_t m = lo; m < hi; m++) {
            float *leaf = tree_leaf(t);
            for (int64_t i = 0; i < n; i++) leaf[i] += value(m, i);
            tree_push(t);
        }
        TRY(tree_finish(t, out));
        for (int64_t i = 0; i < n && st == ST_OK; i++) {
            float want = reference(0, span, M, i);
            if (memcmp(&want, &out[i], sizeof want) != 0)
                st = st_raise(ST_INTERNAL, "tree", "M %ld item %ld: %a, not %a", (long)M, (long)i, (double)out[i],
                              (double)want);
        }
        st = comm_agree(c, st);
    }
    free(out);
    tree_close(t);
    return st;
}

#define EXPECT(what, ok)                                                                                               \
    if (!(ok)) return st_raise(ST_INTERNAL, what, "unexpected value on rank %d", rank)

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
    float f[2] = {(float)rank, 0.5f};
    TRY(comm_allreduce_f32(c, f, 2));
    EXPECT("comm_allreduce_f32", f[0] == (float)(size * (size - 1) / 2) && f[1] == 0.5f * (float)size);
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

int main(int argc, char **argv) {
    comm_t *c = NULL;
    status_t st = comm_open(&c);
    if (st != ST_OK) {
        st_print();
        return st_exit_code(st);
    }
    if (argc == 3) {
        st = misbehave(c, argv[1], atoi(argv[2]));
    } else {
        st = comm_agree(c, check_collectives(c));
        if (st == ST_OK) st = comm_agree(c, check_agree(c));
        if (st == ST_OK) st = check_tree(c, 7);
        if (st == ST_OK) st = check_tree(c, 50001); /* beyond the size that MPI sends without a partner */
    }
    if (comm_rank(c) == 0 && st != ST_OK) st_print();
    if (comm_rank(c) == 0 && st == ST_OK) printf("ok %d ranks\n", comm_size(c));
    comm_close(c);
    return st_exit_code(st);
}
