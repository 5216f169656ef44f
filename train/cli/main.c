/* graft COMMAND ...: finds the command, runs it, prints the error chain once and turns the status into an exit code. */
#include <stdio.h>
#include <string.h>
#include "train/cli/cli.h"
#include "data/nearest.h"

static const struct {
    const char *name;
    status_t (*run)(int, char **);
    const char *usage;
} commands[] = {
    {"train", cmd_train, "CONFIG [key=value ...]       the whole training run"},
    {"eval", cmd_eval, "RUN_OR_MODEL --data F [--adapter A ...]   loss, perplexity, exact match"},
    {"score", cmd_score, "MODEL [--adapter A ...]      log-probability of every token (JSONL on stdin)"},
    {"generate", cmd_generate, "MODEL [--adapter A ...]   continuations of the prompts on stdin"},
    {"tokenize", cmd_tokenize, "MODEL [--decode]          token ids of the lines on stdin"},
    {"data", cmd_data, "build FILES... OUT.h5 --model M   a token store: documents tokenised once"},
    {"export", cmd_export, "CHECKPOINT --format F OUT   peft or merged-safetensors"},
    {"inspect", cmd_inspect, "FILE [--json] [--verify]   what is in any file that graft reads or writes"},
    {"doctor", cmd_doctor, "[--json]                   what this machine has, and what of it is used"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *f) {
    fprintf(f, "graft " GRAFT_VERSION ": trains what conditions a language model\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(f, "  graft %-9s %s\n", commands[i].name, commands[i].usage);
    fprintf(f,
            "\nUnder MPI: mpirun -n 4 graft train CONFIG. Exit codes: 0 done, 2 usage, 3 bad input file, 4 numerics,\n"
            "5 out of memory or disk, 75 stopped after saving, 1 anything else.\n");
}

static status_t unknown(const char *name) {
    nearest_t near = {.word = name};
    for (int i = 0; i < COMMANDS; i++) nearest_offer(&near, commands[i].name);
    if (near.best)
        return st_raise(ST_USAGE, "command line", "unknown command '%s' (did you mean '%s'?)", name, near.best);
    return st_raise(ST_USAGE, "command line", "unknown command '%s'; graft --help lists them", name);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return st_exit_code(ST_USAGE);
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        puts("graft " GRAFT_VERSION);
        return 0;
    }
    status_t st = ST_OK;
    int found = -1;
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, argv[1])) found = i;
    st = found < 0 ? unknown(argv[1]) : commands[found].run(argc - 1, argv + 1);
    if (st != ST_OK && st_message()[0]) st_print();
    if (fflush(stdout)) st = st == ST_OK ? ST_IO : st;
    return st_exit_code(st);
}
