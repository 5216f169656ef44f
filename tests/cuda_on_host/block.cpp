#include "tests/cuda_on_host/block.hpp"
#include <execinfo.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tests/cuda_on_host/fiber.hpp"
#include "tests/cuda_on_host/memory.hpp"
#include "tests/cuda_on_host/shared.hpp"

namespace on_host {

__thread thread_t *now;
__thread block_t *block;

/* Stacks are kept for the next block. */
static thread_local std::vector<fiber_t *> *free_fibers;
static thread_local fiber_t *scheduler, *current;

/* Where this was called, for people: needs addr2line, does nothing without. */
static void print_calls() {
    void *frame[24];
    int n = backtrace(frame, 24), used = 0;
    char command[2048];
    Dl_info self;
    if (!dladdr((void *)print_calls, &self)) return;
    int length = snprintf(command, sizeof command, "addr2line -Cfpie /proc/%d/exe", (int)getpid());
    for (int i = 2; i < n; i++) {
        Dl_info info;
        if (!dladdr(frame[i], &info) || info.dli_fbase != self.dli_fbase) continue;
        length += snprintf(command + length, sizeof command - (size_t)length, " 0x%zx",
                           (size_t)((char *)frame[i] - (char *)info.dli_fbase - 1));
        used++;
    }
    snprintf(command + length, sizeof command - (size_t)length,
             " 2>/dev/null | grep -v -e cuda_on_host -e std_function -e invoke.h | head -n 8 >&2");
    if (used && system(command) != 0) fputs("(no addr2line)\n", stderr);
}

void fail(const char *format, ...) {
    va_list list;
    if (block && now)
        fprintf(stderr,
                "cuda_on_host: kernel launched at %s:%d, block (%u, %u, %u), thread (%u, %u, %u): ", block->file,
                block->line, block->index.x, block->index.y, block->index.z, now->index.x, now->index.y, now->index.z);
    else
        fputs("cuda_on_host: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    if (!getenv("CUDA_ON_HOST_NO_CALLS")) print_calls();
    abort();
}

static const char *waits_in(const thread_t *t) {
    return t->wait == WAIT_BLOCK  ? "waits for its block"
           : t->wait == WAIT_WARP ? "waits for its warp"
           : t->wait == WAIT_NOT  ? "runs"
                                  : "has ended";
}

/* Tells of two threads that do not meet. */
[[noreturn]] static void fail_meeting(const char *what, const thread_t *a, const thread_t *b) {
    fail("%s: thread %u %s (%s:%d), thread %u %s (%s:%d)", what, a->number, waits_in(a), a->at.file ? a->at.file : "-",
         a->at.line, b->number, waits_in(b), b->at.file ? b->at.file : "-", b->at.line);
}

/* Every thread is at a barrier or at its end, and none can go on. */
[[noreturn]] static void fail_stuck() {
    block_t *b = block;
    const thread_t *first = NULL;
    for (thread_t &t : b->thread)
        if (t.wait != WAIT_ENDED && (!first || t.wait == WAIT_WARP)) first = &t;
    for (thread_t &t : b->thread)
        if (first->wait == WAIT_WARP ? t.warp == first->warp && t.wait != WAIT_WARP : t.wait != first->wait) {
            now = &b->thread[first->number];
            fail_meeting("not all threads reach the same barrier", first, &t);
        }
    fail("a warp is not complete: %zu threads are no multiple of 32", b->thread.size());
}

static void end_thread() {
    if (!now->copies.empty()) fail("it ends while copies into shared memory are under way");
    if (block->arrived) { /* somebody waits already */
        for (thread_t &t : block->thread)
            if (t.wait == WAIT_BLOCK) {
                now->wait = WAIT_ENDED;
                fail_meeting("a thread ends while others wait", &t, now);
            }
    }
    now->wait = WAIT_ENDED;
    block->ended++;
}

/* Runs threads that have not started, until one of them waits; that one keeps the stack. */
static void fiber_main() {
    fiber_begin(scheduler);
    for (;;) {
        while (block->next < block->thread.size()) {
            now = &block->thread[block->next++];
            (*block->body)();
            end_thread();
            if (block->ready_next < block->ready.size()) break; /* in order: those that may go on come first */
        }
        fiber_t *self = current;
        free_fibers->push_back(self);
        fiber_change(self, scheduler);
    }
}

static void wait_here() {
    fiber_t *self = current;
    thread_t *me = now;
    me->fiber = self;
    fiber_change(self, scheduler);
    now = me;
    me->wait = WAIT_NOT;
}

static void run_threads() {
    block_t *b = block;
    for (;;) {
        if (b->ready_next < b->ready.size()) {
            thread_t *t = &b->thread[b->ready[b->ready_next++]];
            if (b->ready_next == b->ready.size()) b->ready_next = 0, b->ready.clear();
            current = t->fiber;
        } else if (b->next < b->thread.size()) {
            if (free_fibers->empty()) free_fibers->push_back(fiber_make(fiber_main));
            current = free_fibers->back();
            free_fibers->pop_back();
        } else
            break;
        fiber_change(scheduler, current);
    }
    if (b->ended != b->thread.size()) fail_stuck();
}

void wait_for_block(place_t at) {
    block_t *b = block;
    now->wait = WAIT_BLOCK;
    now->at = at;
    if (b->ended)
        for (thread_t &t : b->thread)
            if (t.wait == WAIT_ENDED) fail_meeting("a thread has ended before others reach a barrier", now, &t);
    if (++b->arrived < b->thread.size()) {
        wait_here();
        return;
    }
    for (thread_t &t : b->thread) {
        if (t.at.line != at.line) fail_meeting("threads meet at different barriers", now, &t);
        if (&t != now) b->ready.push_back(t.number);
    }
    b->arrived = 0;
    b->block_time = ++b->time;
    for (uint32_t &t : b->warp_time) t = b->time;
    now->wait = WAIT_NOT;
}

void wait_for_warp(void (*op)(thread_t *lanes), void *arg, place_t at) {
    block_t *b = block;
    thread_t *lanes = &b->thread[now->number / 32 * 32];
    now->wait = WAIT_WARP;
    now->at = at;
    now->op = op;
    now->arg = arg;
    if (++b->warp_arrived[now->warp] < 32) {
        wait_here();
        return;
    }
    for (int i = 0; i < 32; i++) {
        if (lanes[i].op != op || lanes[i].at.line != at.line)
            fail_meeting("lanes meet in different operations of the warp", now, &lanes[i]);
        if (&lanes[i] != now) b->ready.push_back(lanes[i].number);
    }
    op(lanes);
    b->warp_arrived[now->warp] = 0;
    now->wait = WAIT_NOT;
}

/* The block of this thread of the host; made at first use and kept. */
static block_t *own_block() {
    static thread_local block_t *own;
    if (own) return own;
    own = new block_t();
    own->memory = (unsigned char *)aligned_alloc(256, SHARED_ROOM);
    own->cell = (cell_t *)calloc(SHARED_ROOM / 2, sizeof *own->cell);
    if (!own->memory || !own->cell) abort();
    free_fibers = new std::vector<fiber_t *>();
    scheduler = fiber_of_caller();
    return own;
}

static void shape_threads(block_t *b) {
    size_t n = b->shape.count(), i = 0;
    b->thread.resize(n);
    for (unsigned z = 0; z < b->shape.z; z++)
        for (unsigned y = 0; y < b->shape.y; y++)
            for (unsigned x = 0; x < b->shape.x; x++, i++) {
                thread_t *t = &b->thread[i];
                t->index = {x, y, z};
                t->number = (unsigned)i;
                t->warp = (unsigned)i / 32;
                t->who = (uint16_t)(t->warp * 64 + i % 32);
                t->copies.clear();
                t->group_sizes.clear();
                t->committed = 0;
            }
}

static void run_block(block_t *b, size_t at) {
    b->index = {(unsigned)(at % b->grid.x), (unsigned)(at / b->grid.x % b->grid.y),
                (unsigned)(at / b->grid.x / b->grid.y)};
    b->statics.clear();
    b->used = (b->dynamic_bytes + 15) / 16 * 16;
    b->start_time = b->block_time = ++b->time;
    for (uint32_t &t : b->warp_time) t = b->time;
    b->arrived = b->ended = b->next = 0;
    b->ready.clear();
    b->ready_next = 0;
    for (thread_t &t : b->thread) t.wait = WAIT_NOT, t.at = {};
    for (unsigned &w : b->warp_arrived) w = 0;
    run_threads();
}

static void check_launch(dim3 grid, dim3 shape, size_t shared, place_t at) {
    bool good = shape.count() >= 1 && shape.count() <= 1024 && shape.z <= 64 && grid.y <= 65535 && grid.z <= 65535 &&
                grid.x <= 0x7fffffff && shared <= SHARED_MAX;
    if (!good)
        fail("a launch at %s:%d of (%u, %u, %u) blocks of (%u, %u, %u) threads with %zu bytes of shared memory is "
             "beyond what a device can do",
             at.file, at.line, grid.x, grid.y, grid.z, shape.x, shape.y, shape.z, shared);
}

void run_grid(dim3 grid, dim3 shape, size_t shared, const void *kernel, place_t launched,
              const std::function<void()> &body) {
    check_launch(grid, shape, shared, launched);
    size_t blocks = grid.count();
#pragma omp parallel if (blocks > 1)
    {
        memory_open_t open;
        block_t *b = own_block();
        b->grid = grid;
        b->shape = shape;
        b->dynamic_bytes = (int)shared;
        b->file = launched.file;
        b->line = launched.line;
        b->kernel = kernel;
        b->body = &body;
        shape_threads(b);
        block = b;
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < blocks; i++) run_block(b, i);
        block = NULL;
        now = NULL;
    }
}

} // namespace on_host
