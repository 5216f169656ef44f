#include "train/cli/session.h"
#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "data/gguf.h"

status_t session_check(const char *dtype) {
    if (dtype && strcmp(dtype, "float32") && strcmp(dtype, "bfloat16"))
        return st_raise(ST_USAGE, "--dtype", "'%s' is not available; float32 and, on a GPU, bfloat16 are", dtype);
    return ST_OK;
}

status_t session_place(const char *device, const char *dtype, const comm_t *comm, loaded_t *l, compute_t *where) {
    dtype_t weight = dtype && !strcmp(dtype, "bfloat16") ? DT_BF16 : DT_F32;
    TRY(compute_open(device ? device : "auto", weight, comm, false, where));
    if (where->device && (!comm || !comm_rank(comm))) fprintf(stderr, "graft: device %s\n", where->device->name);
    return loaded_place(l, where);
}

status_t session_tokenizer(const char *model, tokenizer_t **out) {
    struct stat info;
    gguf_t *file = NULL;
    if (stat(model, &info) != 0) return st_errno(ST_INPUT, model, "open", errno);
    if (S_ISDIR(info.st_mode)) return tokenizer_open_dir(model, out);
    TRY(gguf_open(model, &file));
    status_t st = tokenizer_open_gguf(file, out);
    gguf_close(file);
    return st;
}

status_t session_run(status_t (*body)(comm_t *, int, char **), int argc, char **argv) {
    comm_t *comm = NULL;
    TRY(comm_open(&comm));
    omp_set_num_threads(comm_threads(comm));
    status_t st = comm_agree(comm, body(comm, argc, argv));
    if (st == ST_COMM) comm_die(comm, st);
    /* printed before the others leave: mpirun kills who is left when a rank exits with an error */
    if (st != ST_OK && comm_rank(comm) == 0 && st_message()[0]) st_print();
    st_clear();
    comm_close(comm);
    return st;
}
