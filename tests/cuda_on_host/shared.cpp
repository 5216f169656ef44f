#include "tests/cuda_on_host/shared.hpp"

namespace on_host {

void fail_race(int at, const char *what, unsigned first) {
    unsigned lane = first % 64;
    if (lane == LANE_ALL) fail("shared memory at byte %d %s by warp %u", at, what, first / 64);
    fail("shared memory at byte %d %s by thread %u", at, what, first / 64 * 32 + lane);
}

void fail_unwritten(int at) {
    fail("shared memory at byte %d is read before anything is written there, or with no barrier after the write", at);
}

void fail_bounds(int at, int bytes, int low, int high) {
    fail("%d bytes of shared memory at byte %d of an array of %d bytes", bytes, at - low, high - low);
}

int shared_static(const void *site, size_t bytes) {
    block_t *b = block;
    for (const static_t &s : b->statics)
        if (s.site == site) return s.from;
    int from = b->used, fixed = from - (b->dynamic_bytes + 15) / 16 * 16;
    if (fixed + (int)bytes > SHARED_STATIC_MAX || from + (int)bytes > SHARED_MAX)
        fail("%d bytes of fixed and %d bytes of dynamic shared memory are more than a block may have",
             fixed + (int)bytes, b->dynamic_bytes);
    b->statics.push_back({site, from, (int)bytes});
    b->used = (from + (int)bytes + 15) / 16 * 16;
    return from;
}

/* The cells count as written from now on, so that a use by others with no barrier before is found; what is read before
 * the wait is wrong. */
void copy_start(int to, const void *from) {
    if ((uintptr_t)from % 16) fail("an asynchronous copy reads at %p, which is no multiple of 16", from);
    note_write<16>(to, now->who);
    for (int i = 0; i < 8; i++) block->cell[to / 2 + i].copies = 1;
    now->copies.push_back({to, from});
}

void copy_commit() {
    now->group_sizes.push_back(now->copies.size() - now->committed);
    now->committed = now->copies.size();
}

void copy_wait(size_t groups) {
    thread_t *t = now;
    size_t done = t->group_sizes.size() > groups ? t->group_sizes.size() - groups : 0, copies = 0;
    for (size_t g = 0; g < done; g++) copies += t->group_sizes[g];
    for (size_t i = 0; i < copies; i++) {
        const copy_t &c = t->copies[i];
        for (int k = 0; k < 8; k++) block->cell[c.to / 2 + k].copies = 0;
        note_write<16>(c.to, t->who);
        if (c.from)
            memcpy(block->memory + c.to, c.from, 16);
        else
            memset(block->memory + c.to, 0, 16);
    }
    t->copies.erase(t->copies.begin(), t->copies.begin() + (long)copies);
    t->group_sizes.erase(t->group_sizes.begin(), t->group_sizes.begin() + (long)done);
    t->committed -= copies;
}

} // namespace on_host
