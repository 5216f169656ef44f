/* Shared memory in which the ranks of an emulated NCCL communicator meet and pass messages: one ring of bytes for each
 * ordered pair of ranks, written by one and read by the other. Nothing blocks. *local* */
#pragma once
#include <stddef.h>
#include <atomic>

namespace on_host {

enum { RANKS_MAX = 16, RING_BYTES = 1 << 16, PLACE_BYTES = 96 };

struct ring_t {
    std::atomic<size_t> written, read; /* bytes ever */
    char data[RING_BYTES];
};

struct mailbox_t {
    std::atomic<int> present[RANKS_MAX];
    char place[RANKS_MAX][PLACE_BYTES]; /* node and device of each rank that is present */
    ring_t ring[RANKS_MAX][RANKS_MAX];  /* [from, to] */
};

/* The mailbox of this name, made by the rank that comes first; NULL: no memory. */
mailbox_t *mailbox_open(const char *name);
void mailbox_close(mailbox_t *m);
/* The name is needed until all are present. */
void mailbox_forget(const char *name);

/* Moves as many of `bytes` as there is room or content for now. */
size_t ring_write(ring_t *r, const char *from, size_t bytes);
size_t ring_read(ring_t *r, char *to, size_t bytes);

} // namespace on_host
