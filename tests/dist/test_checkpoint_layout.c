/* How the bytes of a checkpoint lie in its file: whatever the number, the names and the sizes of its tensors, and when
 * writing them is cut short. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "kernels/philox.h"
#include "train/checkpoint/checkpoint.h"

enum { MANY = 700, LARGE = 150001, NAME = 256 };

static const checkpoint_meta_t meta = {.step = 3, .family = "llama", .base_path = "/b", .method = "lora"};

static int set_up(void **state) {
    static char path[64];
    strcpy(path, "/tmp/graft-test-XXXXXX"); /* a name for each test */
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    *state = path;
    return 0;
}

static int tear_down(void **state) {
    return unlink(*state);
}

static float *numbers(int64_t n, uint32_t key) {
    float *v = malloc((size_t)n * sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(key, RNG_INIT, 0, (uint64_t)i, w);
        memcpy(&v[i], w, sizeof v[i]);
    }
    return v;
}

static void assert_holds(const checkpoint_t *c, const checkpoint_tensor_t *t) {
    const checkpoint_tensor_t *r = checkpoint_find(c, t->name);
    size_t bytes = (size_t)t->dim[0] * sizeof(float);
    assert_non_null(r);
    assert_memory_equal(r->data, t->data, bytes);
    for (int s = 0; s < 2; s++) {
        assert_int_equal(r->state[s] != NULL, t->state[s] != NULL);
        if (t->state[s]) assert_memory_equal(r->state[s], t->state[s], bytes);
    }
}

/* HDF5's own bytes grow with the tensors and their names; none of them may come to lie between tensors. */
static void many_tensors_with_names_of_any_length(void **state) {
    const char *path = *state;
    checkpoint_tensor_t *t = calloc(MANY, sizeof *t);
    float *values = numbers(3 * MANY, 11);
    char *text = malloc(MANY * NAME);
    assert_true(t && text);
    for (int longest = 0; longest <= 240; longest += 80)
        for (int64_t n = 0; n <= MANY; n += n < 20 ? 1 : 340) {
            for (int64_t i = 0; i < n; i++) {
                char *name = text + NAME * i;
                memset(name, 'x', (size_t)longest);
                snprintf(name + longest, 8, "%d", (int)i);
                t[i] = (checkpoint_tensor_t){name, 1, {1, 0, 0}, values + 3 * i, {NULL, NULL}};
                for (int s = 0; s < 2 && i % 5; s++) t[i].state[s] = values + 3 * i + 1 + s;
            }
            if (checkpoint_write(path, &meta, t, n) != ST_OK) fail_msg("%d: %s", (int)n, st_message());
            checkpoint_t *c = NULL;
            assert_int_equal(checkpoint_open(path, &c), ST_OK);
            assert_int_equal(checkpoint_count(c), n);
            for (int64_t i = 0; i < n; i++) assert_holds(c, &t[i]);
            checkpoint_close(c);
        }
    free(t);
    free(values);
    free(text);
}

/* Larger than what is written at a time, beginning and ending at odd places. */
static void large_tensors_keep_every_bit(void **state) {
    const char *path = *state;
    checkpoint_tensor_t t[3] = {{"small", 1, {3}, numbers(3, 1), {NULL, NULL}},
                                {"large", 1, {LARGE}, numbers(LARGE, 2), {numbers(LARGE, 3), numbers(LARGE, 4)}},
                                {"last", 1, {LARGE - 2}, numbers(LARGE, 5), {NULL, NULL}}};
    checkpoint_t *c = NULL;
    assert_int_equal(checkpoint_write(path, &meta, t, 3), ST_OK);
    assert_int_equal(checkpoint_open(path, &c), ST_OK);
    for (int i = 0; i < 3; i++) assert_holds(c, &t[i]);
    checkpoint_close(c);
    for (int i = 0; i < 3; i++) {
        free(t[i].data);
        for (int s = 0; s < 2; s++) free(t[i].state[s]);
    }
}

/* Attributes have up to 64 KiB. */
static void long_texts_are_kept(void **state) {
    const char *path = *state;
    float *v = numbers(3, 1);
    char *text = calloc(1, 1 << 16);
    assert_non_null(text);
    memset(text, 'm', (1 << 16) - 1);
    checkpoint_tensor_t t = {"a", 1, {3}, v, {NULL, NULL}};
    checkpoint_meta_t wordy = meta;
    wordy.method = wordy.base_path = text;
    for (int k = 1; k < 5; k++) {
        text[(1 << 16) - (1 << (4 * k - 4))] = 0; /* shorter from turn to turn; the first is the longest there can be */
        checkpoint_t *c = NULL;
        if (checkpoint_write(path, &wordy, &t, 1) != ST_OK) fail_msg("%zu: %s", strlen(text), st_message());
        assert_int_equal(checkpoint_open(path, &c), ST_OK);
        assert_string_equal(checkpoint_meta(c)->method, text);
        assert_string_equal(checkpoint_meta(c)->base_path, text);
        assert_holds(c, &t);
        checkpoint_close(c);
    }
    free(text);
    free(v);
}

enum { KILLS = 24, KILL_STEP_US = 2500 };

/* Saves steps 1, 2, ... until it is killed. Ends at once on an error, which the parent sees. */
static void save_for_ever(const char *dir, checkpoint_tensor_t *t) {
    checkpoint_meta_t m = meta;
    for (m.step = 1;; m.step++) {
        for (int64_t i = 0; i < LARGE; i += 1000) t->data[i] = (float)m.step;
        if (checkpoint_save(dir, &m, t, 1, 2) != ST_OK) _exit(1);
    }
}

static void remove_directory(const char *dir) {
    DIR *d = opendir(dir);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d))) unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    assert_int_equal(rmdir(dir), 0);
}

static void wait_for_latest(const char *dir) {
    char path[64];
    snprintf(path, sizeof path, "%s/latest", dir);
    for (int tries = 0; access(path, F_OK) != 0; tries++) {
        assert_true(tries < 60000);
        usleep(1000);
    }
}

/* At whatever moment a writer dies, a complete checkpoint is found, and the next writer goes on. The first of the
 * tests: a child has none of the threads that its parent has begun. */
static void a_killed_writer_leaves_a_complete_one(void **state) {
    (void)state;
    char dir[] = "/tmp/graft-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    checkpoint_tensor_t t = {"large", 1, {LARGE}, numbers(LARGE, 2), {numbers(LARGE, 3), numbers(LARGE, 4)}};
    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) save_for_ever(dir, &t);
        if (!kill_number) wait_for_latest(dir);
        usleep(KILL_STEP_US * (kill_number + 1));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        checkpoint_t *c = NULL;
        if (checkpoint_latest(dir, NULL, NULL, &c) != ST_OK) fail_msg("%s", st_message());
        assert_non_null(c);
        const checkpoint_tensor_t *r = checkpoint_find(c, "large");
        assert_non_null(r);
        for (int64_t i = 0; i < LARGE; i += 1000) assert_true(r->data[i] == (float)checkpoint_meta(c)->step);
        assert_memory_equal(r->state[1], t.state[1], LARGE * sizeof(float));
        checkpoint_close(c);
    }
    free(t.data);
    for (int s = 0; s < 2; s++) free(t.state[s]);
    remove_directory(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_writer_leaves_a_complete_one),
        cmocka_unit_test_setup_teardown(many_tensors_with_names_of_any_length, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_texts_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_tensors_keep_every_bit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
