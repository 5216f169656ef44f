/* graft doctor: what this machine has, what of it used, and what is wrong with it. */
#include <hdf5.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "kernels/cpu/cpu_info.h"
#include "kernels/cuda.h"
#include "train/cli/cli.h"
#include "train/cli/options.h"
#include "train/cli/session.h"

enum { TEXT = 1024 };

/* A failure to take memory is told once, at the end. */
typedef struct doctor {
    json_t *all, *section, *advice;
    bool failed;
} doctor_t;

static void begin(doctor_t *d, const char *name) {
    d->section = json_object();
    d->failed |= json_object_set_new(d->all, name, d->section) != 0;
}

static void put(doctor_t *d, const char *key, json_t *value) {
    d->failed |= json_object_set_new(d->section, key, value) != 0;
}

static void advise(doctor_t *d, const char *text) {
    d->failed |= json_array_append_new(d->advice, json_string(text)) != 0;
}

/* The value behind "key :" on the first such line of a file of /proc; empty without one. */
static void proc_line(const char *path, const char *key, char *text, size_t size) {
    char line[TEXT];
    text[0] = 0;
    FILE *f = fopen(path, "r");
    while (f && !text[0] && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon) continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(text, size, "%s", colon);
    }
    if (f) fclose(f);
}

static double mebibytes(const char *key) {
    char text[TEXT];
    double kib = 0;
    proc_line("/proc/meminfo", key, text, sizeof text);
    return sscanf(text, "%lf", &kib) == 1 ? kib / 1024 : 0;
}

static void processor(doctor_t *d, const comm_t *comm) {
    char text[TEXT];
    int threads = comm_threads(comm);
    begin(d, "processor");
    proc_line("/proc/cpuinfo", "model name", text, sizeof text);
    put(d, "model", json_string(text[0] ? text : "unknown"));
    put(d, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    put(d, "threads", json_integer(threads));
    cpu_info_features(text, sizeof text);
    put(d, "instruction_sets", json_string(text));
    cpu_info_library(text, sizeof text);
    put(d, "matrix_products", json_string(text));
    double one = cpu_info_rate(1);
    put(d, "gflops_one_thread", json_real(one));
    if (threads > 1) {
        double all = cpu_info_rate(threads);
        put(d, "gflops_all_threads", json_real(all));
        if (all < 0.6 * threads * one)
            advise(d,
                   "products gain little from more threads: other work shares these cores, or they are threads of one "
                   "core; set OMP_NUM_THREADS to the number of whole cores");
    }
    if (cpu_info_library_lags())
        advise(d,
               "the library of matrix products does not know this processor and takes an old instruction set; products "
               "are many times too slow: install a newer oneDNN (libdnnl)");
    if (one > 0 && one < 15) advise(d, "matrix products are slow here: is the machine busy?");
}

static void memory(doctor_t *d) {
    double available = mebibytes("MemAvailable");
    begin(d, "memory");
    put(d, "mib", json_real(mebibytes("MemTotal")));
    put(d, "mib_available", json_real(available));
    if (available < 2048)
        advise(d, "less than 2 GiB of memory are available; a model of 135 M weights takes about that");
}

static void libraries(doctor_t *d, const comm_t *comm) {
    char text[TEXT];
    struct utsname name;
    unsigned major = 0, minor = 0, release = 0;
    begin(d, "libraries");
    comm_library(text, sizeof text);
    put(d, "mpi", json_string(text));
    put(d, "ranks", json_integer(comm_size(comm)));
    H5get_libversion(&major, &minor, &release);
    snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
    put(d, "hdf5", json_string(text));
    if (uname(&name) == 0) {
        snprintf(text, sizeof text, "%s %s %s", name.sysname, name.release, name.machine);
        put(d, "system", json_string(text));
    }
}

static void devices(doctor_t *d) {
    char why[TEXT] = "";
    int n = cuda_count(why, sizeof why);
    begin(d, "cuda");
    put(d, "built_with_cuda", json_boolean(cuda_built()));
    put(d, "usable_gpus", json_integer(n));
    if (n == 0) put(d, "why", json_string(why));
    for (int i = 0; i < n; i++) {
        device_t *device = NULL;
        char key[32];
        snprintf(key, sizeof key, "gpu_%d", i);
        if (cuda_open(i, &device) == ST_OK) {
            put(d, key, json_sprintf("%s, %.0f MiB", device->name, (double)device->memory / 1048576.0));
        } else {
            put(d, key, json_string(st_message()));
            st_clear();
        }
        device_close(device);
    }
    begin(d, "used");
    put(d, "device", json_string(n ? "cuda" : "cpu"));
    put(d, "because", json_string(n ? "there is a usable GPU" : why));
}

static void print_value(const char *key, const json_t *v) {
    printf("  ");
    for (const char *c = key; *c; c++) putchar(*c == '_' ? ' ' : *c);
    printf("%*s ", strlen(key) < 20 ? 20 - (int)strlen(key) : 0, "");
    if (json_is_string(v))
        printf("%s\n", json_string_value(v));
    else if (json_is_real(v))
        printf("%.1f\n", json_real_value(v));
    else if (json_is_integer(v))
        printf("%lld\n", (long long)json_integer_value(v));
    else
        printf("%s\n", json_is_true(v) ? "yes" : "no");
}

static void print_table(const doctor_t *d) {
    const char *name, *key;
    json_t *section, *value;
    json_object_foreach(d->all, name, section) {
        if (!json_is_object(section)) continue;
        printf("%s\n", name);
        json_object_foreach(section, key, value) print_value(key, value);
    }
    for (size_t i = 0; i < json_array_size(d->advice); i++)
        printf("note: %s\n", json_string_value(json_array_get(d->advice, i)));
}

static status_t body(comm_t *comm, int argc, char **argv) {
    bool json = false;
    const option_row_t rows[] = {{"--json", OPTION_FLAG, &json, 0, 0}, {NULL, OPTION_FLAG, NULL, 0, 0}};
    TRY(options_parse(argc, argv, rows, NULL, 0, "graft doctor [--json]"));
    if (comm_rank(comm)) return ST_OK;
    doctor_t d = {.all = json_object(), .advice = json_array()};
    processor(&d, comm);
    memory(&d);
    libraries(&d, comm);
    devices(&d);
    d.failed |= json_object_set(d.all, "notes", d.advice) != 0;
    if (!d.failed && json)
        d.failed = json_dumpf(d.all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6)) != 0 || putchar('\n') == EOF;
    else if (!d.failed)
        print_table(&d);
    json_decref(d.all);
    json_decref(d.advice);
    return d.failed ? st_nomem("report", 0) : ST_OK;
}

status_t cmd_doctor(int argc, char **argv) {
    return session_run(body, argc, argv);
}
