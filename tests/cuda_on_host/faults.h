/* Kernels for the test of the emulator: each with and without its fault. y has 1024 floats, x 64, aligned. *local* */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef enum fault {
    FAULT_RACE,
    FAULT_WRITE_AFTER_READ,
    FAULT_TWO_WRITERS,
    FAULT_WARP_ORDER,
    FAULT_SHUFFLE_ORDER,
    FAULT_BOUNDS,
    FAULT_BOUNDS_BELOW,
    FAULT_DYNAMIC,
    FAULT_UNINITIALISED,
    FAULT_DIVERGENT,
    FAULT_OTHER_BARRIER,
    FAULT_HALF_WARP,
    FAULT_PART_OF_WARP,
    FAULT_NO_WAIT,
    FAULT_WAIT_WITHOUT_BARRIER,
    FAULT_WRONG_GROUP,
    FAULT_UNALIGNED,
    FAULT_UNALIGNED_GLOBAL,
    FAULT_MATRICES,
    FAULT_LAUNCH,
    FAULT_COUNT
} fault_t;

#ifdef __cplusplus
extern "C" {
#endif
void fault_run(fault_t which, bool planted, float *y, const float *x);
void sample_blocks(float *y);
void sample_reduce(float *y);
void sample_copies(float *y, const float *x);
void sample_product(float *d, const void *a, const void *b, bool b_in_rows);
uint16_t sample_bf16(float x);
void sample_graph(float *y, const float *x, int times);
void sample_host_reads_device(bool planted);
void sample_wrong_way(bool planted);
#ifdef __cplusplus
}
#endif
