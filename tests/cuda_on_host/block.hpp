/* One block of threads of a kernel, on the host.
 *
 * A thread runs until it must wait for others: at a barrier of its block, or at an operation of its warp, for which all
 * 32 lanes must come to the same place. Threads that never wait run one after another on one stack; one that waits
 * keeps its stack and another goes on. The order is fixed. What would be undefined on a device ends the program with
 * the kernel, the block, the thread and the place: barriers that not all threads reach, and every wrong use of shared
 * memory (shared.hpp). Blocks run one after another, or on several threads of the host when they are many; each of
 * these has its own `block`. *local* */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <functional>
#include <vector>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr size_t count() const { return (size_t)x * y * z; }
};

namespace on_host {

struct place_t {
    const char *file;
    int line;
};

/* A copy into shared memory that is under way; from NULL: zeros. */
struct copy_t {
    int to;
    const void *from;
};

enum wait_t { WAIT_NOT, WAIT_BLOCK, WAIT_WARP, WAIT_ENDED };

struct fiber_t;

struct thread_t {
    uint3 index;
    unsigned number; /* in the block */
    unsigned warp;
    uint16_t who; /* as shared memory remembers accesses: 64 warp + lane */
    wait_t wait;
    place_t at; /* where it waits */
    void (*op)(thread_t *lanes);
    void *arg;
    fiber_t *fiber;                  /* while it waits */
    std::vector<copy_t> copies;      /* under way, in order */
    std::vector<size_t> group_sizes; /* of committed groups, in order */
    size_t committed;                /* copies in groups */
};

struct cell_t; /* what is known of two bytes of shared memory, shared.hpp */

struct static_t {
    const void *site;
    int from, bytes;
};

struct block_t {
    dim3 grid, shape;
    uint3 index;
    const char *file; /* of the launch */
    int line;
    const void *kernel;
    std::vector<thread_t> thread;
    unsigned warp_arrived[32];
    unsigned arrived, ended, next;
    /* A clock that goes on at every barrier of a block or a warp and never starts again; its times at the start of the
     * block, at the last barrier of the block and of each warp. */
    uint32_t time, start_time, block_time, warp_time[32];
    std::vector<unsigned> ready; /* threads that may go on */
    size_t ready_next;
    std::vector<static_t> statics;
    int dynamic_bytes, used; /* of shared memory */
    unsigned char *memory;
    cell_t *cell;
    const std::function<void()> *body;
};

enum { SHARED_MAX = 163 * 1024, SHARED_STATIC_MAX = 48 * 1024, SHARED_ROOM = SHARED_MAX + 1024 };

/* __thread, not thread_local: other files need not ask whether it has been set up. */
extern __thread thread_t *now;
extern __thread block_t *block;

/* Runs all blocks of one kernel; `body` is one thread's work. */
void run_grid(dim3 grid, dim3 shape, size_t shared, const void *kernel, place_t launched,
              const std::function<void()> &body);

void wait_for_block(place_t at);
/* All lanes of the warp come with the same op; the last one does it for all, lanes being in order. */
void wait_for_warp(void (*op)(thread_t *lanes), void *arg, place_t at);

/* Ends the program; says where. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace on_host
