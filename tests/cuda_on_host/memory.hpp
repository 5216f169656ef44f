/* Who may touch device memory, and which addresses are that. *local* */
#pragma once
#include <stddef.h>

namespace on_host {

/* While one of these lives, this thread may touch device memory. */
struct memory_open_t {
    memory_open_t();
    ~memory_open_t();
    bool was;
};

/* Zeroed by nobody: 0xFF. NULL: no memory. */
void *memory_take(size_t bytes);
/* False: not the start of a piece that was taken. */
bool memory_give(void *p);
/* All of [p, p + bytes) is in one piece. */
bool memory_has(const void *p, size_t bytes);
/* Any of it is. */
bool memory_touches(const void *p, size_t bytes);
size_t memory_used();
/* False: not the start of a piece of managed memory. */
bool managed_give(void *p);

} // namespace on_host
