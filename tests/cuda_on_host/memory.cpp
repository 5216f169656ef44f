#include "tests/cuda_on_host/memory.hpp"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <map>
#include <mutex>

namespace on_host {

enum { ALIGN = 256 };

/* Pieces in use by address, with what was asked for. */
static std::mutex lock;
static std::map<uintptr_t, size_t> *pieces;
static size_t used;

#if defined GRAFT_SANITIZE || !defined __x86_64__ /* the sanitizer guards each piece; elsewhere nobody does */
memory_open_t::memory_open_t() : was(false) {}
memory_open_t::~memory_open_t() {}
static void *take(size_t bytes) {
    void *p = NULL;
    return posix_memalign(&p, ALIGN, bytes) == 0 ? p : NULL;
}
static void give(void *p, size_t) {
    free(p);
}
#else
/* Every piece has the protection key of device memory. A thread has the right to use it while a memory_open_t lives. */
static int key() {
    static int k = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    return k;
}
memory_open_t::memory_open_t() : was(true) {
    if (key() < 0) return; /* no such processor */
    was = pkey_get(key()) == 0;
    if (!was) pkey_set(key(), 0);
}
memory_open_t::~memory_open_t() {
    if (!was) pkey_set(key(), PKEY_DISABLE_ACCESS);
}
static void *take(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (key() >= 0 && pkey_mprotect(p, bytes, PROT_READ | PROT_WRITE, key()) != 0) {
        munmap(p, bytes);
        return NULL;
    }
    return p;
}
static void give(void *p, size_t bytes) {
    munmap(p, bytes);
}
#endif

void *memory_take(size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    memory_open_t open;
    void *p = take(bytes);
    if (!p) return NULL;
    memset(p, 0xFF, bytes);
    if (!pieces) pieces = new std::map<uintptr_t, size_t>();
    (*pieces)[(uintptr_t)p] = bytes;
    used += bytes;
    return p;
}

bool memory_give(void *p) {
    std::lock_guard<std::mutex> hold(lock);
    if (!pieces || !pieces->count((uintptr_t)p)) return false;
    size_t bytes = (*pieces)[(uintptr_t)p];
    pieces->erase((uintptr_t)p);
    used -= bytes;
    give(p, bytes);
    return true;
}

bool memory_has(const void *p, size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    if (!pieces) return false;
    auto after = pieces->upper_bound((uintptr_t)p);
    if (after == pieces->begin()) return false;
    --after;
    return (uintptr_t)p + bytes <= after->first + after->second;
}

bool memory_touches(const void *p, size_t bytes) {
    std::lock_guard<std::mutex> hold(lock);
    if (!pieces) return false;
    auto after = pieces->lower_bound((uintptr_t)p + bytes);
    if (after == pieces->begin()) return false;
    --after;
    return after->first + after->second > (uintptr_t)p;
}

size_t memory_used() {
    std::lock_guard<std::mutex> hold(lock);
    return used;
}

} // namespace on_host
