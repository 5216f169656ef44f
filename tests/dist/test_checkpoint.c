/* Checkpoints: bit-exact round trip, readable by plain HDF5, every damage found, the old file kept by failing writes,
 * the newest good file of a directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "kernels/philox.h"
#include "train/checkpoint/checkpoint.h"

enum { TENSORS = 4, PATH_BYTES = 256, FLIPS = 600 };

typedef struct fixture {
    char dir[PATH_BYTES], path[PATH_BYTES + 32];
    float a[6], a1[6], a2[6], b[8], b1[8], b2[8], scalar[1], cube[24];
    double history[3][4];
    checkpoint_tensor_t t[TENSORS];
    checkpoint_meta_t meta;
    int64_t warnings;
    char warning[512];
} fixture_t;

static void fill(float *v, size_t n, uint32_t key) {
    for (size_t i = 0; i < n; i++) {
        uint32_t w[4]; /* any bit pattern: NaNs with payload, denormals, infinities */
        rng_words(key, RNG_INIT, 0, i, w);
        memcpy(&v[i], &w[0], sizeof v[i]);
    }
}

static int set_up(void **state) {
    fixture_t *f = calloc(1, sizeof *f);
    if (!f) return -1;
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/graft-test-XXXXXX", tmp && strlen(tmp) < 200 ? tmp : "/tmp");
    if (!mkdtemp(f->dir)) return -1;
    snprintf(f->path, sizeof f->path, "%s/checkpoint-7.h5", f->dir);
    fill(f->a, 6, 1), fill(f->a1, 6, 2), fill(f->a2, 6, 3), fill(f->b, 8, 4), fill(f->b1, 8, 5), fill(f->b2, 8, 6);
    fill(f->cube, 24, 7);
    f->a[0] = -0.0f;
    f->a[1] = NAN;
    f->scalar[0] = 1e-42f;
    /* in an order that is not alphabetical */
    f->t[0] = (checkpoint_tensor_t){"model.layers.1.q_proj.lora_B.weight", 2, {4, 2}, f->b, {f->b1, f->b2}};
    f->t[1] = (checkpoint_tensor_t){"model.layers.0.q_proj.lora_A.weight", 2, {2, 3}, f->a, {f->a1, f->a2}};
    f->t[2] = (checkpoint_tensor_t){"cube", 3, {2, 3, 4}, f->cube, {NULL, NULL}};
    f->t[3] = (checkpoint_tensor_t){"a.scalar", 0, {0}, f->scalar, {NULL, NULL}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++) f->history[i][j] = i + j / 3.0;
    f->meta = (checkpoint_meta_t){.step = 7,
                                  .tokens = ((int64_t)1 << 40) + 3,
                                  .sequences = 112,
                                  .epoch_hint = 2,
                                  .seed = 0xfedcba9876543210u,
                                  .base_fingerprint = UINT64_MAX,
                                  .tokenizer_fingerprint = 2,
                                  .data_fingerprint = 3,
                                  .family = "llama",
                                  .base_path = "/models/größe",
                                  .method = "lora",
                                  .config_yaml = "model: x\nmethod:\n  type: lora\n",
                                  .choices = "a device, version 7\nthe first\nthe second\n",
                                  .history = &f->history[0][0],
                                  .n_history = 3};
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture_t *f = *state;
    char path[PATH_BYTES + 64];
    const char *names[] = {"latest", "latest.tmp", "copy.h5", "out.json", "final.h5", "final.h5.tmp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    for (int step = 0; step < 20; step++) {
        snprintf(path, sizeof path, "%s/checkpoint-%d.h5", f->dir, step);
        unlink(path);
        snprintf(path, sizeof path, "%s/checkpoint-%d.h5.tmp", f->dir, step);
        unlink(path);
    }
    int rc = rmdir(f->dir); /* fails when a test left something else behind */
    free(f);
    return rc;
}

static bool exists(const fixture_t *f, const char *name) {
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

static unsigned char *slurp(const char *path, size_t *n) {
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    *n = (size_t)ftell(in);
    rewind(in);
    unsigned char *p = malloc(*n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, in), *n);
    fclose(in);
    return p;
}

static void spit(const char *path, const void *bytes, size_t n) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void assert_same(const fixture_t *f, const checkpoint_t *c) {
    const checkpoint_meta_t *m = checkpoint_meta(c);
    assert_int_equal(m->step, f->meta.step);
    assert_int_equal(m->tokens, f->meta.tokens);
    assert_int_equal(m->sequences, 112);
    assert_int_equal(m->epoch_hint, 2);
    assert_true(m->seed == f->meta.seed && m->base_fingerprint == UINT64_MAX);
    assert_true(m->tokenizer_fingerprint == 2 && m->data_fingerprint == 3);
    assert_string_equal(m->family, "llama");
    assert_string_equal(m->base_path, f->meta.base_path);
    assert_string_equal(m->method, "lora");
    assert_string_equal(m->config_yaml, f->meta.config_yaml);
    assert_string_equal(m->choices, f->meta.choices);
    assert_int_equal(m->n_history, 3);
    assert_memory_equal(m->history, f->history, sizeof f->history);
    assert_int_equal(checkpoint_count(c), TENSORS);
    for (int64_t i = 0; i < TENSORS; i++) {
        const checkpoint_tensor_t *t = checkpoint_at(c, i), *want = &f->t[i];
        assert_string_equal(t->name, want->name);
        assert_ptr_equal(checkpoint_find(c, want->name), t);
        assert_int_equal(t->rank, want->rank);
        size_t n = sizeof(float);
        for (int d = 0; d < want->rank; d++) {
            assert_int_equal(t->dim[d], want->dim[d]);
            n *= (size_t)want->dim[d];
        }
        assert_memory_equal(t->data, want->data, n);
        for (int s = 0; s < 2; s++) {
            assert_int_equal(t->state[s] != NULL, want->state[s] != NULL);
            if (t->state[s]) assert_memory_equal(t->state[s], want->state[s], n);
        }
    }
    assert_null(checkpoint_find(c, "cub"));
    assert_null(checkpoint_at(c, TENSORS));
}

static void write_fixture(fixture_t *f) {
    status_t st = checkpoint_write(f->path, &f->meta, f->t, TENSORS);
    if (st != ST_OK) fail_msg("%s", st_message());
}

static void round_trip_keeps_every_bit(void **state) {
    fixture_t *f = *state;
    write_fixture(f);
    write_fixture(f); /* over itself */
    assert_false(exists(f, "checkpoint-7.h5.tmp"));
    checkpoint_t *c = NULL;
    assert_int_equal(checkpoint_open(f->path, &c), ST_OK);
    assert_same(f, c);
    checkpoint_close(c);
}

static void same_state_gives_the_same_file(void **state) {
    fixture_t *f = *state;
    size_t n1, n2;
    write_fixture(f);
    unsigned char *first = slurp(f->path, &n1);
    sleep(1); /* a time stamp inside would differ now */
    write_fixture(f);
    unsigned char *second = slurp(f->path, &n2);
    assert_int_equal(n1, n2);
    assert_memory_equal(first, second, n1);
    free(first);
    free(second);
}

static void empty_history_and_no_tensors(void **state) {
    fixture_t *f = *state;
    f->meta.history = NULL;
    f->meta.n_history = 0;
    f->meta.config_yaml = NULL;
    f->meta.choices = "";
    assert_int_equal(checkpoint_write(f->path, &f->meta, NULL, 0), ST_OK);
    checkpoint_t *c = NULL;
    assert_int_equal(checkpoint_open(f->path, &c), ST_OK);
    assert_int_equal(checkpoint_meta(c)->n_history, 0);
    assert_string_equal(checkpoint_meta(c)->config_yaml, "");
    assert_null(checkpoint_meta(c)->choices);
    assert_int_equal(checkpoint_count(c), 0);
    checkpoint_close(c);
}

static void plain_hdf5_reads_it(void **state) {
    fixture_t *f = *state;
    write_fixture(f);
    hid_t file = H5Fopen(f->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    const char *sets[] = {"/trainable/model.layers.0.q_proj.lora_A.weight",
                          "/optimizer/exp_avg/model.layers.0.q_proj.lora_A.weight",
                          "/optimizer/exp_avg_sq/model.layers.0.q_proj.lora_A.weight"};
    const float *want[] = {f->a, f->a1, f->a2};
    for (int i = 0; i < 3; i++) {
        float got[6];
        hid_t set = H5Dopen2(file, sets[i], H5P_DEFAULT);
        assert_true(set >= 0);
        assert_true(H5Aexists(set, "xxh64") > 0);
        assert_true(H5Dread(set, H5T_IEEE_F32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
        assert_memory_equal(got, want[i], sizeof got);
        H5Dclose(set);
    }
    const char *groups[] = {"model", "config", "sampler", "rng", "history"};
    for (int i = 0; i < 5; i++) assert_true(H5Lexists(file, groups[i], H5P_DEFAULT) > 0);
    const char *attributes[] = {"graft_version", "format_version", "step", "tokens_seen"};
    for (int i = 0; i < 4; i++) assert_true(H5Aexists(file, attributes[i]) > 0);
    H5Fclose(file);
}

static void every_damage_is_found(void **state) {
    fixture_t *f = *state;
    char copy[PATH_BYTES + 32];
    size_t n;
    checkpoint_t *c = NULL;
    snprintf(copy, sizeof copy, "%s/copy.h5", f->dir);
    write_fixture(f);
    unsigned char *bytes = slurp(f->path, &n);
    for (uint64_t i = 0; i < FLIPS; i++) {
        uint32_t w[4];
        rng_words(3, RNG_SAMPLE, 0, i, w);
        /* the last bytes (footer) and the first (superblock) are hit for certain */
        size_t at = i < 40 ? n - 1 - i : i < 80 ? i - 40 : w[0] % n;
        unsigned char mask = (unsigned char)(1u << (w[1] % 8));
        bytes[at] ^= mask;
        spit(copy, bytes, n);
        if (checkpoint_open(copy, &c) != ST_INPUT) fail_msg("byte %zu with mask %d was not noticed", at, mask);
        assert_non_null(strstr(st_message(), "copy.h5"));
        bytes[at] ^= mask;
    }
    for (size_t cut = 0; cut < n; cut += cut < 64 || cut > n - 64 ? 1 : n / 97) {
        spit(copy, bytes, cut);
        if (checkpoint_open(copy, &c) != ST_INPUT) fail_msg("truncation to %zu of %zu was not noticed", cut, n);
    }
    unsigned char *longer = calloc(1, n + 24);
    assert_non_null(longer);
    memcpy(longer, bytes, n);
    memcpy(longer + n, bytes + n - 24, 24); /* a second footer */
    spit(copy, longer, n + 24);
    assert_int_equal(checkpoint_open(copy, &c), ST_INPUT);
    free(longer);
    spit(copy, bytes, n);
    assert_int_equal(checkpoint_open(copy, &c), ST_OK);
    assert_same(f, c);
    checkpoint_close(c);
    free(bytes);
    assert_int_equal(checkpoint_open(f->dir, &c), ST_INPUT);
    assert_int_equal(checkpoint_open("/nowhere/at/all.h5", &c), ST_INPUT);
    assert_non_null(strstr(st_message(), "/nowhere/at/all.h5"));
}

static void failing_write_keeps_the_old_file(void **state) {
    fixture_t *f = *state;
    struct rlimit old, small;
    size_t n, now;
    write_fixture(f);
    unsigned char *before = slurp(f->path, &n);
    f->a[3] = 42.0f;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (size_t limit = 0; limit < n; limit += n / 7) {
        small = (struct rlimit){.rlim_cur = limit, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        status_t st = checkpoint_write(f->path, &f->meta, f->t, TENSORS);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(st, ST_IO);
        assert_non_null(strstr(st_message(), f->path));
        assert_false(exists(f, "checkpoint-7.h5.tmp"));
    }
    signal(SIGXFSZ, handler);
    unsigned char *after = slurp(f->path, &now);
    assert_int_equal(n, now);
    assert_memory_equal(before, after, n);
    free(before);
    free(after);
    assert_int_equal(checkpoint_write("/nowhere/at/all.h5", &f->meta, f->t, TENSORS), ST_IO);
    f->t[0].name = "a/b";
    assert_int_equal(checkpoint_write(f->path, &f->meta, f->t, TENSORS), ST_INPUT);
    f->t[0].name = f->t[1].name; /* twice the same */
    assert_int_equal(checkpoint_write(f->path, &f->meta, f->t, TENSORS), ST_IO);
}

static void note_warning(void *arg, const char *text) {
    fixture_t *f = arg;
    f->warnings++;
    snprintf(f->warning, sizeof f->warning, "%s", text);
}

static void damage(const fixture_t *f, int step) {
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/checkpoint-%d.h5", f->dir, step);
    size_t n;
    unsigned char *bytes = slurp(path, &n);
    bytes[n / 2] ^= 1;
    spit(path, bytes, n);
    free(bytes);
}

static void newest_good_one_is_taken(void **state) {
    fixture_t *f = *state;
    checkpoint_t *c = NULL;
    assert_int_equal(checkpoint_latest(f->dir, note_warning, f, &c), ST_OK);
    assert_null(c);
    char missing[PATH_BYTES + 32];
    snprintf(missing, sizeof missing, "%s/none", f->dir);
    assert_int_equal(checkpoint_latest(missing, note_warning, f, &c), ST_OK);
    assert_null(c);
    for (f->meta.step = 8; f->meta.step <= 10; f->meta.step++)
        assert_int_equal(checkpoint_save(f->dir, &f->meta, f->t, TENSORS, 0), ST_OK);
    assert_int_equal(checkpoint_latest(f->dir, note_warning, f, &c), ST_OK);
    assert_int_equal(checkpoint_meta(c)->step, 10); /* by number: "10" sorts before "9" */
    checkpoint_close(c);
    assert_int_equal(f->warnings, 0);
    damage(f, 10);
    c = NULL;
    assert_int_equal(checkpoint_latest(f->dir, note_warning, f, &c), ST_OK);
    assert_int_equal(checkpoint_meta(c)->step, 9);
    checkpoint_close(c);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "checkpoint-10.h5"));
    damage(f, 9);
    damage(f, 8);
    c = NULL;
    assert_int_equal(checkpoint_latest(f->dir, note_warning, f, &c), ST_INPUT);
    assert_null(c);
    assert_int_equal(f->warnings, 4);
}

/* A run resumed from an older file goes on with its own files, not with those of the branch that it left. */
static void an_abandoned_branch_comes_last(void **state) {
    fixture_t *f = *state;
    checkpoint_t *c = NULL;
    const int saved[] = {10, 14, 18, 12};
    for (int i = 0; i < 4; i++) {
        f->meta.step = saved[i];
        assert_int_equal(checkpoint_save(f->dir, &f->meta, f->t, TENSORS, 0), ST_OK);
    }
    const int expected[] = {12, 10, 18, 14};
    for (int i = 0; i < 4; i++) {
        c = NULL;
        assert_int_equal(checkpoint_latest(f->dir, note_warning, f, &c), ST_OK);
        assert_int_equal(checkpoint_meta(c)->step, expected[i]);
        checkpoint_close(c);
        damage(f, expected[i]);
    }
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/latest", f->dir);
    damage(f, 14); /* intact again */
    spit(path, "checkpoint-77.h5\n", 17);
    c = NULL;
    assert_int_equal(checkpoint_latest(f->dir, note_warning, f, &c), ST_OK);
    assert_int_equal(checkpoint_meta(c)->step, 14);
    checkpoint_close(c);
}

static void save_keeps_as_many_as_asked(void **state) {
    fixture_t *f = *state;
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/checkpoint-3.h5.tmp", f->dir);
    spit(path, "torn", 4);
    for (f->meta.step = 5; f->meta.step <= 11; f->meta.step += 2)
        assert_int_equal(checkpoint_save(f->dir, &f->meta, f->t, TENSORS, 2), ST_OK);
    assert_false(exists(f, "checkpoint-3.h5.tmp"));
    assert_false(exists(f, "checkpoint-5.h5"));
    assert_false(exists(f, "checkpoint-7.h5"));
    assert_true(exists(f, "checkpoint-9.h5"));
    assert_true(exists(f, "checkpoint-11.h5"));
    size_t n;
    snprintf(path, sizeof path, "%s/latest", f->dir);
    unsigned char *line = slurp(path, &n);
    assert_int_equal(n, strlen("checkpoint-11.h5\n"));
    assert_memory_equal(line, "checkpoint-11.h5\n", n);
    free(line);
    f->meta.step = 8; /* going back: the newer files stay */
    assert_int_equal(checkpoint_save(f->dir, &f->meta, f->t, TENSORS, 1), ST_OK);
    assert_true(exists(f, "checkpoint-8.h5"));
    assert_true(exists(f, "checkpoint-9.h5"));
    assert_true(exists(f, "checkpoint-11.h5"));
}

static ino_t file_of(const char *path) {
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    return s.st_ino;
}

static void a_second_name_is_the_same_file(void **state) {
    fixture_t *f = *state;
    char path[PATH_BYTES + 32];
    bool done = true;
    snprintf(path, sizeof path, "%s/final.h5", f->dir);
    assert_int_equal(checkpoint_link(f->dir, 7, path, &done), ST_OK);
    assert_false(done); /* no such checkpoint */
    assert_int_equal(checkpoint_save(f->dir, &f->meta, f->t, TENSORS, 0), ST_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(checkpoint_link(f->dir, 7, path, &done), ST_OK);
        assert_true(done);
        assert_true(file_of(path) == file_of(f->path));
        assert_false(exists(f, "final.h5.tmp"));
    }
    f->a[3] = 42.0f; /* a new checkpoint under the first name is a new file */
    assert_int_equal(checkpoint_save(f->dir, &f->meta, f->t, TENSORS, 0), ST_OK);
    assert_true(file_of(path) != file_of(f->path));
    assert_int_equal(checkpoint_link(f->dir, 7, path, &done), ST_OK);
    assert_true(done && file_of(path) == file_of(f->path));
    assert_int_equal(checkpoint_link(f->dir, 7, "/nowhere/at/all.h5", &done), ST_OK);
    assert_false(done);
}

static void inspection_is_json(void **state) {
    fixture_t *f = *state;
    char path[PATH_BYTES + 64];
    write_fixture(f);
    snprintf(path, sizeof path, "%s/out.json", f->dir);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO), out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(saved >= 0 && out >= 0);
    dup2(out, STDOUT_FILENO);
    status_t st = checkpoint_inspect(f->path, true, true);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(out);
    assert_int_equal(st, ST_OK);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "step")), 7);
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "model"), "base_fingerprint")),
                        "ffffffffffffffff");
    assert_string_equal(json_string_value(json_object_get(json_object_get(root, "rng"), "seed")),
                        "18364758544493064720");
    json_t *plan = json_object_get(root, "plan");
    assert_int_equal(json_array_size(plan), 3);
    assert_string_equal(json_string_value(json_array_get(plan, 2)), "the second");
    json_t *tensors = json_object_get(root, "tensors");
    assert_int_equal(json_array_size(tensors), TENSORS);
    assert_int_equal(json_integer_value(json_object_get(root, "parameters")), 8 + 6 + 24 + 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(tensors, 3), "name")), "a.scalar");
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip_keeps_every_bit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(same_state_gives_the_same_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(empty_history_and_no_tensors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(plain_hdf5_reads_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_damage_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failing_write_keeps_the_old_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(newest_good_one_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_abandoned_branch_comes_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(save_keeps_as_many_as_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_name_is_the_same_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(inspection_is_json, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
