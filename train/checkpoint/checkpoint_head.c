/* The head of a checkpoint file: everything in it that is HDF5's own, and the small datasets. The tensors' values
 * follow it, one behind the other, and are written from where they are (checkpoint_write.c). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "data/h5_memory.h"
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

/* HDF5's bytes of a file without tensors, of a dataset, and for each byte of its name: half as much again as it takes.
 */
enum { INCREMENT = 1 << 20, ROOM_BASE = 1 << 16, ROOM_DATASET = 512, ROOM_NAME = 3 };

const char *const checkpoint_state_name[CHECKPOINT_STATES] = {"exp_avg", "exp_avg_sq"};

/* A group that remembers the order of its tensors. No object carries a time: equal states give equal files. */
static status_t group(hid_t at, const char *name, hid_t *out) {
    hid_t create = H5Pcreate(H5P_GROUP_CREATE), g = -1;
    if (create >= 0 && H5Pset_obj_track_times(create, false) >= 0 &&
        H5Pset_link_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0)
        g = H5Gcreate2(at, name, H5P_DEFAULT, create, H5P_DEFAULT);
    if (create >= 0) H5Pclose(create);
    if (g < 0) return st_raise(ST_IO, name, "HDF5 cannot create this group; check the free memory");
    *out = g;
    return ST_OK;
}

static status_t put_model(hid_t file, const checkpoint_meta_t *m) {
    hid_t g;
    TRY(group(file, "model", &g));
    TRY(h5_put_text(g, "family", m->family));
    TRY(h5_put_text(g, "base_path", m->base_path));
    TRY(h5_put_text(g, "method", m->method));
    TRY(h5_put_u64(g, "base_fingerprint", m->base_fingerprint));
    TRY(h5_put_u64(g, "tokenizer_fingerprint", m->tokenizer_fingerprint));
    return H5Gclose(g) < 0 ? st_raise(ST_IO, "model", "HDF5 cannot close this group") : ST_OK;
}

/* Only runs on a device have it. */
static status_t put_plan(hid_t file, const char *choices) {
    hid_t g;
    if (!choices || !choices[0]) return ST_OK;
    TRY(group(file, "plan", &g));
    return h5_put_data(g, "choices", H5T_C_S1, 0, NULL, choices, strlen(choices) + 1, NULL);
}

static status_t put_meta(hid_t file, const checkpoint_meta_t *m) {
    hid_t g;
    const char *yaml = m->config_yaml ? m->config_yaml : "";
    TRY(h5_put_text(file, "format", CHECKPOINT_FORMAT));
    TRY(h5_put_i64(file, "format_version", CHECKPOINT_VERSION));
    TRY(h5_put_text(file, "graft_version", GRAFT_VERSION));
    TRY(h5_put_i64(file, "step", m->step));
    TRY(h5_put_text(file, "step_units", "optimizer updates done"));
    TRY(h5_put_i64(file, "tokens_seen", m->tokens));
    TRY(h5_put_text(file, "tokens_seen_units", "tokens"));
    TRY(put_model(file, m));
    TRY(group(file, "config", &g));
    TRY(h5_put_data(g, "yaml", H5T_C_S1, 0, NULL, yaml, strlen(yaml) + 1, NULL));
    TRY(put_plan(file, m->choices));
    TRY(group(file, "sampler", &g));
    TRY(h5_put_i64(g, "sequences", m->sequences));
    TRY(h5_put_text(g, "sequences_units", "sequences consumed"));
    TRY(h5_put_i64(g, "epoch", m->epoch_hint));
    TRY(h5_put_text(g, "epoch_units", "epochs completed before this one"));
    TRY(h5_put_u64(g, "data_fingerprint", m->data_fingerprint));
    TRY(group(file, "rng", &g));
    TRY(h5_put_text(g, "generator", "Philox4x32-10, counters (seed, stream, step, index)"));
    TRY(h5_put_u64(g, "seed", m->seed));
    TRY(group(file, "history", &g));
    const int64_t dim[2] = {m->n_history, 4};
    TRY(h5_put_data(g, "metrics", H5T_IEEE_F64LE, 2, dim, m->history, (size_t)m->n_history * 4 * sizeof(double),
                    "updates, nats per token, 1, 1"));
    return h5_put_text(g, "columns", CHECKPOINT_HISTORY);
}

static const float *values(const checkpoint_tensor_t *t, int part) {
    return part ? t->state[part - 1] : t->data;
}

/* The datasets of one tensor, at `head->end`. */
static status_t place_tensor(const hid_t parent[CHECKPOINT_PARTS], const checkpoint_tensor_t *t, const uint64_t *sum,
                             checkpoint_head_t *head) {
    for (int k = 0; k < CHECKPOINT_PARTS; k++) {
        int64_t at;
        if (!values(t, k)) continue;
        TRY(h5_place_data(parent[k], t->name, H5T_IEEE_F32LE, t->rank, t->dim, sum[k], "1", &at));
        if (!head->end) head->size = head->end = at;
        if (at != head->end)
            return st_raise(ST_INTERNAL, t->name, "HDF5 did not lay the tensors out one behind the other");
        head->end += checkpoint_elements(t->rank, t->dim) * (int64_t)sizeof(float);
    }
    return ST_OK;
}

static status_t put_all(hid_t file, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n,
                        checkpoint_head_t *head) {
    hid_t parent[CHECKPOINT_PARTS], optimizer;
    TRY(put_meta(file, meta));
    TRY(group(file, "trainable", &parent[0]));
    TRY(group(file, "optimizer", &optimizer));
    for (int s = 0; s < CHECKPOINT_STATES; s++) TRY(group(optimizer, checkpoint_state_name[s], &parent[s + 1]));
    for (int64_t i = 0; i < n; i++) TRY(place_tensor(parent, &t[i], head->checksum + CHECKPOINT_PARTS * i, head));
    return ST_OK;
}

static status_t check_tensor(const checkpoint_tensor_t *t) {
    if (checkpoint_elements(t->rank, t->dim) < 1 || !t->data)
        return st_raise(ST_INTERNAL, t->name, "a checkpoint tensor has no elements");
    /* A slash would make a path of the name. */
    if (!t->name[0] || strchr(t->name, '/') || !strcmp(t->name, "."))
        return st_raise(ST_INPUT, t->name, "this tensor name cannot be stored; rename it in the base model");
    return ST_OK;
}

static void sum_all(const checkpoint_tensor_t *t, int64_t n, uint64_t *sum) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < CHECKPOINT_PARTS * n; i++) {
        const checkpoint_tensor_t *x = &t[i / CHECKPOINT_PARTS];
        const float *v = values(x, (int)(i % CHECKPOINT_PARTS));
        sum[i] = v ? XXH64(v, (size_t)checkpoint_elements(x->rank, x->dim) * sizeof *v, 0) : 0;
    }
}

static size_t length(const char *text) {
    return text ? strlen(text) : 0;
}

/* One block takes all of HDF5's own bytes, so that none lie between the tensors, and data is never put into blocks of
 * small pieces. */
static hid_t create_file(h5_memory_t *m, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n) {
    hsize_t room = ROOM_BASE + 2 * (length(meta->family) + length(meta->base_path) + length(meta->method));
    for (int64_t i = 0; i < n; i++) room += CHECKPOINT_PARTS * (ROOM_DATASET + ROOM_NAME * strlen(t[i].name));
    hid_t access = h5_memory_writer(m, INCREMENT), create = H5Pcreate(H5P_FILE_CREATE), file = -1;
    if (access >= 0 && create >= 0 && H5Pset_meta_block_size(access, room) >= 0 &&
        H5Pset_small_data_block_size(access, 0) >= 0 && H5Pset_obj_track_times(create, false) >= 0)
        file = H5Fcreate("graft-checkpoint", H5F_ACC_TRUNC, create, access);
    if (access >= 0) H5Pclose(access);
    if (create >= 0) H5Pclose(create);
    return file;
}

/* The tensors lie one behind the other up to the end, so all of HDF5's own is in front of them. */
static status_t take(const h5_memory_t *m, checkpoint_head_t *head) {
    const int64_t end = (int64_t)h5_memory_end(m);
    void *p;
    if (!head->end) head->size = head->end = end; /* no tensors */
    if (!end || end != head->end)
        return st_raise(ST_INTERNAL, "checkpoint", "HDF5 did not put all of its own before the tensors");
    TRY(buf_calloc(&p, head->size, 1, "head of a checkpoint")); /* HDF5 may leave out the end of its block */
    memcpy(p, m->bytes, m->size < (size_t)head->size ? m->size : (size_t)head->size);
    head->bytes = p;
    return ST_OK;
}

status_t checkpoint_head_make(const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n,
                              checkpoint_head_t *head) {
    h5_memory_t m = {0};
    void *p;
    assert(meta->n_history >= 0 && n >= 0);
    *head = (checkpoint_head_t){0};
    for (int64_t i = 0; i < n; i++) TRY(check_tensor(&t[i]));
    TRY(buf_calloc(&p, CHECKPOINT_PARTS * n, sizeof *head->checksum, "checksums"));
    head->checksum = p;
    sum_all(t, n, head->checksum);
    h5_quiet();
    hid_t file = create_file(&m, meta, t, n);
    if (file < 0) return st_raise(ST_IO, "checkpoint", "HDF5 cannot create a file in memory");
    status_t st = put_all(file, meta, t, n, head);
    if (H5Fclose(file) < 0 && st == ST_OK) st = st_raise(ST_IO, "checkpoint", "HDF5 cannot close the file in memory");
    if (st == ST_OK) st = take(&m, head);
    free(m.bytes);
    return st;
}

void checkpoint_head_release(checkpoint_head_t *head) {
    free(head->bytes);
    free(head->checksum);
    *head = (checkpoint_head_t){0};
}
