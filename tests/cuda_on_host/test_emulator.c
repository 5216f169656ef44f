/* The emulator finds what is wrong with a kernel, says what it is, and computes like a device. Wrong kernels end their
 * process, so each runs in a child. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cuda_on_host/faults.h"

static _Alignas(16) float y[1024];
static _Alignas(16) float x[64];

typedef struct fault_row {
    fault_t fault;
    const char *message; /* with the fault */
} fault_row_t;

static const char unwritten[] = "is read before anything is written there, or with no barrier after the write|"
                                "is read with no barrier after it was written";

static const fault_row_t rows[] = {
    {FAULT_RACE, unwritten},
    {FAULT_WRITE_AFTER_READ, "is written with no barrier after it was read"},
    {FAULT_TWO_WRITERS, "is written twice with no barrier between by thread 3"},
    {FAULT_WARP_ORDER, unwritten},
    {FAULT_SHUFFLE_ORDER, unwritten},
    {FAULT_BOUNDS, "4 bytes of shared memory at byte 128 of an array of 128 bytes"},
    {FAULT_BOUNDS_BELOW, "4 bytes of shared memory at byte -4 of an array of 128 bytes"},
    {FAULT_DYNAMIC, "bytes 16 to 260 are taken of the 256 bytes of shared memory of the launch"},
    {FAULT_UNINITIALISED, "at byte 252 is read before anything is written there"},
    {FAULT_DIVERGENT, "a thread ends while others wait"},
    {FAULT_OTHER_BARRIER, "threads meet at different barriers"},
    {FAULT_HALF_WARP, "not all threads reach the same barrier"},
    {FAULT_PART_OF_WARP, "a warp is not complete: 48 threads"},
    {FAULT_NO_WAIT, "is read while a copy into it is under way"},
    {FAULT_WAIT_WITHOUT_BARRIER, "while a copy into it is under way|with no barrier after it was written"},
    {FAULT_WRONG_GROUP, "is read while a copy into it is under way"},
    {FAULT_UNALIGNED, "at byte 24, which is no multiple of 16"},
    {FAULT_UNALIGNED_GLOBAL, "which is no multiple of 16"},
    {FAULT_MATRICES, "is read with no barrier after it was written"},
    {FAULT_LAUNCH, "is beyond what a device can do"},
};

/* Ran to its end; `said` is what it wrote to stderr. */
static bool child(void (*run)(const void *arg), const void *arg, char *said, size_t size) {
    int end[2], status;
    assert_int_equal(pipe(end), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(end[1], STDERR_FILENO);
        setenv("CUDA_ON_HOST_NO_CALLS", "1", 1);
        run(arg);
        _exit(0);
    }
    close(end[1]);
    size_t length = 0;
    for (ssize_t n; (n = read(end[0], said + length, size - 1 - length)) > 0;) length += (size_t)n;
    said[length] = 0;
    close(end[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void run_planted(const void *arg) {
    fault_run(((const fault_row_t *)arg)->fault, true, y, x);
}
static void run_right(const void *arg) {
    fault_run(((const fault_row_t *)arg)->fault, false, y, x);
}

/* One of the alternatives between bars is in `text`. */
static bool says(const char *text, const char *alternatives) {
    char part[200];
    for (const char *p = alternatives; p;) {
        const char *bar = strchr(p, '|');
        size_t n = bar ? (size_t)(bar - p) : strlen(p);
        assert_true(n < sizeof part);
        memcpy(part, p, n);
        part[n] = 0;
        if (strstr(text, part)) return true;
        p = bar ? bar + 1 : NULL;
    }
    return false;
}

static void test_faults(void **state) {
    (void)state;
    char said[4096];
    assert_int_equal(sizeof rows / sizeof *rows, FAULT_COUNT);
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (!child(run_right, &rows[i], said, sizeof said)) fail_msg("fault %zu without it: %s", i, said);
        if (child(run_planted, &rows[i], said, sizeof said)) fail_msg("fault %zu was not found", i);
        if (!says(said, rows[i].message)) fail_msg("fault %zu: \"%s\" does not say \"%s\"", i, said, rows[i].message);
        if (!strstr(said, "faults.cu:")) fail_msg("fault %zu: \"%s\" does not say where", i, said);
    }
}

static void test_blocks(void **state) {
    (void)state;
    sample_blocks(y);
    for (int b = 0; b < 12; b++)
        for (int t = 0; t < 24; t++) assert_true(y[b * 24 + t] == (float)(b * 1000 + t));
}

static void test_warps(void **state) {
    (void)state;
    sample_reduce(y);
    for (int t = 0; t < 64; t++) assert_true(y[t] == (t < 32 ? 64 * 65 / 2 + 3 + 10000 : 64 * 65 / 2 + 35 + 10000.5f));
}

static void test_copies(void **state) {
    (void)state;
    for (int i = 0; i < 64; i++) x[i] = (float)i + 1;
    sample_copies(y, x);
    for (int i = 0; i < 64; i++) assert_true(y[i] == (i < 60 ? (float)i + 1 : 0));
}

static void test_product(void **state) {
    (void)state;
    uint16_t a[256], b[128];
    for (int in_rows = 0; in_rows < 2; in_rows++) {
        for (int i = 0; i < 256; i++) a[i] = sample_bf16((float)(i * 7 % 31 - 15));
        for (int i = 0; i < 128; i++) b[i] = sample_bf16((float)(i * 11 % 29 - 14));
        sample_product(y, a, b, in_rows);
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 8; c++) {
                int want = 0;
                for (int k = 0; k < 16; k++) {
                    int at = in_rows ? k * 8 + c : c * 16 + k;
                    want += ((r * 16 + k) * 7 % 31 - 15) * (at * 11 % 29 - 14);
                }
                assert_true(y[r * 8 + c] == (float)want);
            }
    }
}

/* Ties go to the even neighbour; what is beyond the largest number is infinite; NaN stays NaN. */
static void test_bf16(void **state) {
    (void)state;
    static const struct {
        float from;
        uint16_t want;
    } rounding[] = {{1, 0x3f80},          {1.00390625f, 0x3f80}, {1.01171875f, 0x3f82},
                    {1.0039064f, 0x3f81}, {-0.0f, 0x8000},       {3.4028235e38f, 0x7f80},
                    {1e-40f, 0x0001},     {-2.5f, 0xc020},       {3.3895314e38f, 0x7f7f}};
    for (size_t i = 0; i < sizeof rounding / sizeof *rounding; i++)
        assert_int_equal(sample_bf16(rounding[i].from), rounding[i].want);
    assert_int_equal(sample_bf16(NAN), 0x7fff);
}

static void test_graph(void **state) {
    (void)state;
    for (int i = 0; i < 64; i++) x[i] = (float)i;
    sample_graph(y, x, 3);
    for (int i = 0; i < 64; i++) assert_true(y[i] == (float)(i + 3));
}

static void run_host_reads_device(const void *planted) {
    sample_host_reads_device(*(const bool *)planted);
}
static void run_wrong_way(const void *planted) {
    sample_wrong_way(*(const bool *)planted);
}

static void test_sides(void **state) {
    (void)state;
    static const bool yes = true, no = false;
    char said[4096];
    assert_true(child(run_wrong_way, &no, said, sizeof said));
    assert_false(child(run_wrong_way, &yes, said, sizeof said));
    assert_non_null(strstr(said, "not in the memory of the host"));
    assert_true(child(run_host_reads_device, &no, said, sizeof said));
#if defined __x86_64__ && !defined GRAFT_SANITIZE
    char line[1 << 14];
    FILE *f = fopen("/proc/cpuinfo", "r");
    bool keys = false;
    while (f && fgets(line, sizeof line, f)) keys = keys || strstr(line, " ospke");
    if (f) fclose(f);
    if (keys) assert_false(child(run_host_reads_device, &yes, said, sizeof said));
#endif
}

int main(void) {
    setenv("CUDA_ON_HOST_LATE", "1", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),  cmocka_unit_test(test_warps), cmocka_unit_test(test_copies),
        cmocka_unit_test(test_product), cmocka_unit_test(test_bf16),  cmocka_unit_test(test_graph),
        cmocka_unit_test(test_faults),  cmocka_unit_test(test_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
