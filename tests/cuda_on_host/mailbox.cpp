#include "tests/cuda_on_host/mailbox.hpp"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace on_host {

mailbox_t *mailbox_open(const char *name) {
    int fd = shm_open(name, O_CREAT | O_RDWR, 0600);
    if (fd < 0) return NULL;
    void *p = ftruncate(fd, sizeof(mailbox_t)) /* new bytes are zero */
                  ? MAP_FAILED
                  : mmap(NULL, sizeof(mailbox_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : static_cast<mailbox_t *>(p);
}

void mailbox_close(mailbox_t *m) {
    if (m) munmap(m, sizeof *m);
}

void mailbox_forget(const char *name) {
    shm_unlink(name);
}

static size_t smallest(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

size_t ring_write(ring_t *r, const char *from, size_t bytes) {
    size_t at = r->written.load(std::memory_order_relaxed), room = RING_BYTES - (at - r->read.load());
    size_t n = smallest(bytes, room, RING_BYTES - at % RING_BYTES);
    memcpy(r->data + at % RING_BYTES, from, n);
    r->written.store(at + n);
    return n;
}

size_t ring_read(ring_t *r, char *to, size_t bytes) {
    size_t at = r->read.load(std::memory_order_relaxed), content = r->written.load() - at;
    size_t n = smallest(bytes, content, RING_BYTES - at % RING_BYTES);
    memcpy(to, r->data + at % RING_BYTES, n);
    r->read.store(at + n);
    return n;
}

} // namespace on_host
