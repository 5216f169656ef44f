/* Gives the bytes of one fuzzing input a path, since the readers map files. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct fuzz_input {
    int fd;
    char path[32];
} fuzz_input_t;

static inline fuzz_input_t fuzz_input_open(const uint8_t *data, size_t size) {
    fuzz_input_t in = {.fd = memfd_create("input", MFD_CLOEXEC)};
    if (in.fd < 0 || (size && write(in.fd, data, size) != (ssize_t)size)) abort();
    snprintf(in.path, sizeof in.path, "/proc/self/fd/%d", in.fd);
    return in;
}

static inline void fuzz_input_close(fuzz_input_t *in) {
    close(in->fd);
}
