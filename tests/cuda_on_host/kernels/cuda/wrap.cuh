/* kernels/cuda/wrap.cuh for kernels compiled for the host (tests/cuda_on_host): the same functions, of which those that
 * touch shared memory or wait check what they do. */
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "tests/cuda_on_host/shared.hpp"

typedef __nv_bfloat16 bf16_t;

inline float to_float(float x) {
    return x;
}
inline float to_float(bf16_t x) {
    return __bfloat162float(x);
}
template <class T> inline T from_float(float x);
template <> inline float from_float<float>(float x) {
    return x;
}
template <> inline bf16_t from_float<bf16_t>(float x) {
    return __float2bfloat16_rn(x);
}

/* ---- launches ------------------------------------------------------------------------------------------------ */

/* The stream, and where the launch was written. */
struct launch_stream_t {
    cudaStream_t stream;
    on_host::place_t at;
    launch_stream_t(cudaStream_t s, const char *file = __builtin_FILE(), int line = __builtin_LINE())
        : stream(s), at{file, line} {}
};

template <class... P, class... A>
void launch(launch_stream_t to, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... args) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    on_host::enqueue(to.stream, [=] {
        on_host::run_grid(grid, block, shared, (const void *)kernel, to.at, [=] { kernel(static_cast<P>(args)...); });
    });
}

/* ---- shared memory ------------------------------------------------------------------------------------------- */

using on_host::shared_t;
#define SHARED(type, name, count)                                                                                      \
    static const char name##_site = 0;                                                                                 \
    shared_t<type> name = on_host::shared_fixed<type>(&name##_site, count)
template <class T> inline shared_t<T> shared_dynamic(size_t offset, size_t count) {
    return on_host::shared_of_launch<T>(offset, count);
}
inline void block_sync(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    on_host::wait_for_block({file, line});
}
inline void warp_sync(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    on_host::wait_for_warp(
        [](on_host::thread_t *lanes) { on_host::block->warp_time[lanes->warp] = ++on_host::block->time; }, NULL,
        {file, line});
}

/* ---- warps: all 32 lanes take part ----------------------------------------------------------------------------- */

inline int lane_id() {
    return (int)(threadIdx.x & 31u);
}

namespace on_host {
template <class T> struct shuffle_t {
    T in, out;
    int lane;
};
/* Everybody gets the value of the lane he names. */
template <class T> inline T shuffle(T v, int lane, place_t at) {
    shuffle_t<T> mine = {v, v, lane};
    wait_for_warp(
        [](thread_t *lanes) {
            for (int i = 0; i < 32; i++) {
                shuffle_t<T> *to = (shuffle_t<T> *)lanes[i].arg;
                to->out = ((shuffle_t<T> *)lanes[to->lane & 31].arg)->in;
            }
        },
        &mine, at);
    return mine.out;
}
} // namespace on_host
#define ON_HOST_SHUFFLE(type)                                                                                          \
    inline type warp_xor(type v, int mask, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {         \
        return on_host::shuffle<type>(v, (int)(on_host::now->number % 32) ^ mask, {file, line});                       \
    }                                                                                                                  \
    inline type warp_from(type v, int lane, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {        \
        return on_host::shuffle<type>(v, lane, {file, line});                                                          \
    }
ON_HOST_SHUFFLE(float)
ON_HOST_SHUFFLE(double)
ON_HOST_SHUFFLE(int)
#undef ON_HOST_SHUFFLE
inline bool warp_any(bool p, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    on_host::wait_for_warp(
        [](on_host::thread_t *lanes) {
            bool any = false;
            for (int i = 0; i < 32; i++) any = any || *(bool *)lanes[i].arg;
            for (int i = 0; i < 32; i++) *(bool *)lanes[i].arg = any;
        },
        &p, {file, line});
    return p;
}

/* ---- 16 bytes at once: addresses are multiples of 16 ------------------------------------------------------------ */

template <class T> struct alignas(16) pack_t {
    enum { COUNT = 16 / (int)sizeof(T) };
    T v[COUNT];
};
template <class T> inline pack_t<T> load_pack(const T *p) {
    pack_t<T> r;
    if ((uintptr_t)p % 16) on_host::fail("16 bytes are read at %p, which is no multiple of 16", (const void *)p);
    memcpy(&r, p, 16);
    return r;
}
template <class T> inline void store_pack(T *p, const pack_t<T> &r) {
    if ((uintptr_t)p % 16) on_host::fail("16 bytes are written at %p, which is no multiple of 16", (void *)p);
    memcpy(p, &r, 16);
}
template <class T> inline void shared_store_pack(shared_t<T> p, const pack_t<T> &r) {
    int at = p.sixteen();
    on_host::note_write<16>(at, on_host::now->who);
    memcpy(on_host::block->memory + at, &r, 16);
}
template <class T> inline pack_t<T> shared_load_pack(shared_t<T> p) {
    pack_t<T> r;
    int at = p.sixteen();
    on_host::note_read<16>(at, on_host::now->who);
    memcpy(&r, on_host::block->memory + at, 16);
    return r;
}

/* ---- asynchronous copies: nothing arrives before async_wait ------------------------------------------------------ */

template <class T> inline void async_copy16(shared_t<T> to, const T *from, bool valid) {
    if (!from) on_host::fail("an asynchronous copy from NULL");
    on_host::copy_start(to.sixteen(), valid ? from : NULL);
}
inline void async_commit() {
    on_host::copy_commit();
}
template <int groups> inline void async_wait() {
    on_host::copy_wait(groups);
}

/* ---- tensor cores ---------------------------------------------------------------------------------------------- */

namespace on_host {
inline float half_of(uint32_t pair, int high) {
    bf16_t x;
    x.bits = (uint16_t)(high ? pair >> 16 : pair & 0xffffu);
    return __bfloat162float(x);
}
struct mma_t {
    float *d;
    const uint32_t *a, *b;
};
void mma_of_warp(thread_t *lanes);
struct matrices_t {
    uint32_t *r;
    int row;
};
void matrices_of_warp(thread_t *lanes);
void matrices_of_warp_trans(thread_t *lanes);
} // namespace on_host

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const char *file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
    on_host::mma_t mine = {d, a, b};
    on_host::wait_for_warp(on_host::mma_of_warp, &mine, {file, line});
}
inline void load_matrices(uint32_t (&r)[4], shared_t<bf16_t> row, const char *file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
    on_host::matrices_t mine = {r, row.sixteen()};
    on_host::wait_for_warp(on_host::matrices_of_warp, &mine, {file, line});
}
inline void load_matrices_trans(uint32_t (&r)[4], shared_t<bf16_t> row, const char *file = __builtin_FILE(),
                                int line = __builtin_LINE()) {
    on_host::matrices_t mine = {r, row.sixteen()};
    on_host::wait_for_warp(on_host::matrices_of_warp_trans, &mine, {file, line});
}
inline uint32_t pack_bf16(float low, float high) {
    return (uint32_t)__float2bfloat16_rn(high).bits << 16 | __float2bfloat16_rn(low).bits;
}
