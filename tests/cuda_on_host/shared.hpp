/* Shared memory that checks every access: bounds, reads of what nobody wrote in this block, two threads that touch one
 * element with no barrier between them, one of them writing, and copies that are not waited for.
 *
 * For every two bytes the last writer and the last reader are kept with the number of barriers their block and their
 * warp had passed. Accesses of two threads are in order when a barrier of the block is between them or, in one warp, a
 * warp_sync; shuffles and tensor-core operations order nothing, as on a device. *local* */
#pragma once
#include <string.h>
#include <type_traits>
#include "tests/cuda_on_host/block.hpp"

namespace on_host {

enum { MANY_WARPS = 1, MANY_LANES = 2, LANE_ALL = 32 };

struct cell_t {
    uint32_t write_time, read_time; /* on the block's clock, of the last ones */
    uint16_t writer, reader;        /* 64 warp + lane; lane 32: the warp as one */
    uint8_t many;                   /* others have read, too, since the last barrier of the block, the warp */
    uint8_t copies;                 /* under way */
};

[[noreturn]] void fail_race(int at, const char *what, unsigned first);
[[noreturn]] void fail_unwritten(int at);
[[noreturn]] void fail_bounds(int at, int bytes, int low, int high);

inline void check_bounds(int at, int bytes, int low, int high) {
    if (__builtin_expect(at < low || at + bytes > high, 0)) fail_bounds(at, bytes, low, high);
}

/* An access of `one` at that time, after the last barrier of the block, is in no order with one of `other` now. */
inline bool unordered(uint16_t one, uint32_t time, uint16_t other) {
    return one != other && (one / 64 != other / 64 || time >= block->warp_time[other / 64]);
}

template <int BYTES> __attribute__((noinline)) void note_read(int at, uint16_t who) {
    const block_t *b = block;
    cell_t *c = b->cell + at / 2;
    for (int i = 0; i < BYTES / 2; i++, c++) {
        if (c->copies) fail_race(at, "is read while a copy into it is under way, started", c->writer);
        if (c->write_time < b->start_time) fail_unwritten(at);
        if (c->write_time >= b->block_time && unordered(c->writer, c->write_time, who))
            fail_race(at, "is read with no barrier after it was written", c->writer);
        if (c->read_time < b->block_time)
            c->many = 0;
        else if (c->reader / 64 != who / 64)
            c->many |= MANY_WARPS;
        else if (c->read_time < b->warp_time[who / 64])
            c->many &= (uint8_t)~MANY_LANES;
        else if (c->reader != who)
            c->many |= MANY_LANES;
        c->reader = who;
        c->read_time = b->time;
    }
}

template <int BYTES> __attribute__((noinline)) void note_write(int at, uint16_t who) {
    const block_t *b = block;
    cell_t *c = b->cell + at / 2;
    for (int i = 0; i < BYTES / 2; i++, c++) {
        if (c->copies) fail_race(at, "is written while a copy into it is under way, started", c->writer);
        if (c->read_time >= b->block_time &&
            (c->many & MANY_WARPS || unordered(c->reader, c->read_time, who) ||
             (c->many & MANY_LANES && c->reader / 64 == who / 64 && c->read_time >= b->warp_time[who / 64])))
            fail_race(at, "is written with no barrier after it was read", c->reader);
        if (c->write_time >= b->block_time && unordered(c->writer, c->write_time, who))
            fail_race(at, "is written twice with no barrier between", c->writer);
        c->writer = who;
        c->write_time = b->time;
    }
}

/* What s[i] is: reads and writes are seen. */
template <class T> class shared_ref {
  public:
    shared_ref(int at, int low, int high) : at_(at) { check_bounds(at, (int)sizeof(T), low, high); }
    shared_ref(const shared_ref &) = default;
    operator T() const {
        T v;
        note_read<(int)sizeof(T)>(at_, now->who);
        memcpy(&v, block->memory + at_, sizeof(T));
        return v;
    }
    const shared_ref &operator=(T v) const {
        note_write<(int)sizeof(T)>(at_, now->who);
        memcpy(block->memory + at_, &v, sizeof(T));
        return *this;
    }
    const shared_ref &operator=(const shared_ref &o) const { return *this = (T)o; }
    const shared_ref &operator+=(T v) const { return *this = (T)(T(*this) + v); }
    const shared_ref &operator-=(T v) const { return *this = (T)(T(*this) - v); }
    const shared_ref &operator*=(T v) const { return *this = (T)(T(*this) * v); }
    const shared_ref &operator/=(T v) const { return *this = (T)(T(*this) / v); }
    void operator&() const = delete; /* an address would escape the checks */

  private:
    int at_;
};

/* A pointer into shared memory with the bounds of its array. */
template <class T> class shared_t {
    static_assert(sizeof(T) % 2 == 0, "accesses are remembered for two bytes at a time");

  public:
    shared_t(int at, int low, int high) : at_(at), low_(low), high_(high) {}
    template <class I> shared_ref<T> operator[](I i) const {
        static_assert(std::is_integral<I>::value, "an index is a whole number");
        return shared_ref<T>(at_ + (int)i * (int)sizeof(T), low_, high_);
    }
    shared_ref<T> operator*() const { return (*this)[0]; }
    template <class I> shared_t operator+(I i) const { return shared_t(at_ + (int)i * (int)sizeof(T), low_, high_); }
    template <class I> shared_t operator-(I i) const {
        static_assert(std::is_integral<I>::value, "an offset is a whole number");
        return shared_t(at_ - (int)i * (int)sizeof(T), low_, high_);
    }
    template <class I> shared_t &operator+=(I i) { return *this = *this + i; }
    template <class I> shared_t &operator-=(I i) { return *this = *this - i; }

    /* For 16 bytes at once: within bounds and aligned. */
    int sixteen() const {
        check_bounds(at_, 16, low_, high_);
        if (at_ % 16) fail("16 bytes of shared memory are used at byte %d, which is no multiple of 16", at_);
        return at_;
    }

  private:
    int at_, low_, high_; /* bytes of the block's memory */
};

/* The array of one place of the kernel's text: the same for all threads of the block. */
int shared_static(const void *site, size_t bytes);
template <class T> shared_t<T> shared_fixed(const void *site, size_t count) {
    int from = shared_static(site, count * sizeof(T));
    return shared_t<T>(from, from, from + (int)(count * sizeof(T)));
}
template <class T> shared_t<T> shared_of_launch(size_t offset, size_t count) {
    if (offset % 16 || offset + count * sizeof(T) > (size_t)block->dynamic_bytes)
        fail("bytes %zu to %zu are taken of the %d bytes of shared memory of the launch", offset,
             offset + count * sizeof(T), block->dynamic_bytes);
    return shared_t<T>((int)offset, (int)offset, (int)(offset + count * sizeof(T)));
}

void copy_start(int to, const void *from);
void copy_commit();
void copy_wait(size_t groups);

} // namespace on_host
