#include "data/mapping.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static status_t map_descriptor(const char *path, int fd, mapping_t *out) {
    struct stat info;
    if (fstat(fd, &info) != 0) return st_errno(ST_INPUT, path, "examine", errno);
    if (!S_ISREG(info.st_mode)) return st_raise(ST_INPUT, path, "is not a regular file; give the path of a file");
    mapping_t m = {NULL, (size_t)info.st_size};
    if (m.size) {
        void *p = mmap(NULL, m.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) return st_errno(ST_INPUT, path, "map", errno);
        m.data = p;
    }
    *out = m;
    return ST_OK;
}

status_t mapping_open(const char *path, mapping_t *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a fifo by mistake must not hang */
    if (fd < 0) return st_errno(ST_INPUT, path, "open", errno);
    status_t st = map_descriptor(path, fd, out);
    close(fd);
    return st;
}

void mapping_forget(const void *data, size_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = ((uintptr_t)data + bytes) / page * page;
    const uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* else they stay, which costs room only */
}

void mapping_close(mapping_t *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
    *m = (mapping_t){0};
}
