/* graft train CONFIG [--device D] [key=value ...] */
#include <stdio.h>
#include <string.h>
#include "train/cli/cli.h"
#include "train/run/registry.h"
#include "train/run/runs.h"

enum { WATCHDOG_SECONDS = 1800 }; /* far above any step, evaluation batch or save */
enum { MOST_OVERRIDES = 256 };

static status_t load(int argc, char **argv, config_t *config) {
    if (argc < 2)
        return st_raise(ST_USAGE, "train",
                        "needs a configuration file; graft train CONFIG [--device D] [key=value ...]");
    /* --device is short for the key */
    char device[64];
    const char *override[MOST_OVERRIDES];
    int n = 0;
    for (int i = 2; i < argc; i++) {
        const char *value = NULL;
        if (n == MOST_OVERRIDES) return st_raise(ST_USAGE, "train", "more than %d settings", MOST_OVERRIDES);
        if (!strncmp(argv[i], "--device=", 9)) value = argv[i] + 9;
        if (!strcmp(argv[i], "--device")) {
            if (i + 1 == argc) return st_raise(ST_USAGE, "--device", "needs a value: auto, cpu, cuda or cuda:N");
            value = argv[++i];
        }
        if (value) snprintf(device, sizeof device, "device=%s", value);
        override[n++] = value ? device : argv[i];
    }
    return config_load(argv[1], override, n, registry_methods(), config);
}

static status_t train(int argc, char **argv, comm_t *comm) {
    config_t config;
    memset(&config, 0, sizeof config);
    status_t st = comm_agree(comm, load(argc, argv, &config));
    if (st == ST_OK) st = comm_watchdog(comm, WATCHDOG_SECONDS);
    if (st == ST_OK) st = runs_train(&config, comm);
    config_release(&config);
    return st;
}

status_t cmd_train(int argc, char **argv) {
    comm_t *comm = NULL;
    TRY(comm_open(&comm));
    status_t st = train(argc, argv, comm);
    if (st == ST_COMM) comm_die(comm, st); /* the others can no longer be told */
    /* all ranks know and one prints, before the others leave: mpirun kills who is left when a rank fails */
    if (st != ST_OK && comm_rank(comm) == 0 && st_message()[0]) st_print();
    st_clear();
    comm_close(comm);
    return st;
}
