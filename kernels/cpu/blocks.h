/* Elementwise kernels work on blocks of this many numbers, small enough for the nearest cache. *local* */
#pragma once
#include <stdint.h>
enum { BLOCK = 4096 };
static inline int64_t block_count(int64_t n) {
    return (n + BLOCK - 1) / BLOCK;
}
static inline int64_t block_length(int64_t n, int64_t block) {
    int64_t left = n - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}
