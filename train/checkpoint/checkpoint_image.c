#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "data/h5_memory.h"
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

enum { INCREMENT = 16 << 20 }; /* of the memory for a file */

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

static status_t put_tensor(hid_t trainable, const hid_t states[CHECKPOINT_STATES], const checkpoint_tensor_t *t) {
    int64_t n = checkpoint_elements(t->rank, t->dim);
    if (n < 1 || !t->data) return st_raise(ST_INTERNAL, t->name, "a checkpoint tensor has no elements");
    /* A slash would make a path of the name. */
    if (!t->name[0] || strchr(t->name, '/') || !strcmp(t->name, "."))
        return st_raise(ST_INPUT, t->name, "this tensor name cannot be stored; rename it in the base model");
    size_t bytes = (size_t)n * sizeof(float);
    TRY(h5_put_data(trainable, t->name, H5T_IEEE_F32LE, t->rank, t->dim, t->data, bytes, "1"));
    for (int s = 0; s < CHECKPOINT_STATES; s++)
        if (t->state[s]) TRY(h5_put_data(states[s], t->name, H5T_IEEE_F32LE, t->rank, t->dim, t->state[s], bytes, "1"));
    return ST_OK;
}

static status_t put_all(hid_t file, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n) {
    hid_t trainable, optimizer, states[CHECKPOINT_STATES];
    TRY(put_meta(file, meta));
    TRY(group(file, "trainable", &trainable));
    TRY(group(file, "optimizer", &optimizer));
    for (int s = 0; s < CHECKPOINT_STATES; s++) TRY(group(optimizer, checkpoint_state_name[s], &states[s]));
    for (int64_t i = 0; i < n; i++) TRY(put_tensor(trainable, states, &t[i]));
    return ST_OK;
}

static void put_u64(char *at, uint64_t v) {
    for (int i = 0; i < 8; i++) at[i] = (char)(v >> (8 * i) & 0xff);
}

/* Appends the footer to the finished file. Takes over m->bytes. */
static status_t seal(h5_memory_t *m, char **image, size_t *size) {
    uint64_t n = h5_memory_end(m);
    if (n == 0 || n > m->size) return st_raise(ST_IO, "checkpoint", "HDF5 did not finish the file in memory");
    char *p = realloc(m->bytes, n + FOOTER_BYTES);
    if (!p) return st_nomem("checkpoint file", n + FOOTER_BYTES);
    m->bytes = NULL;
    memcpy(p + n, FOOTER_MAGIC, 8);
    put_u64(p + n + 8, n);
    put_u64(p + n + 16, XXH64(p, n, 0));
    *image = p;
    *size = n + FOOTER_BYTES;
    return ST_OK;
}

status_t checkpoint_image(const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n, char **image,
                          size_t *size) {
    assert(meta->n_history >= 0 && n >= 0);
    h5_memory_t m = {0};
    h5_quiet();
    hid_t access = h5_memory_writer(&m, INCREMENT), create = H5Pcreate(H5P_FILE_CREATE), file = -1;
    if (access >= 0 && create >= 0 && H5Pset_obj_track_times(create, false) >= 0)
        file = H5Fcreate("graft-checkpoint", H5F_ACC_TRUNC, create, access);
    if (access >= 0) H5Pclose(access);
    if (create >= 0) H5Pclose(create);
    if (file < 0) return st_raise(ST_IO, "checkpoint", "HDF5 cannot create a file in memory");
    status_t st = put_all(file, meta, t, n);
    if (H5Fclose(file) < 0 && st == ST_OK) st = st_raise(ST_IO, "checkpoint", "HDF5 cannot close the file in memory");
    if (st == ST_OK) st = seal(&m, image, size);
    free(m.bytes);
    return st;
}
