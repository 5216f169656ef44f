/* The CUDA backend of a program built without CUDA. */
#include "kernels/cuda.h"
#include <stdio.h>

bool cuda_built(void) {
    return false;
}

int cuda_count(char *why, size_t size) {
    snprintf(why, size, "this program was built without CUDA");
    return 0;
}

status_t cuda_open(int ordinal, device_t **out) {
    (void)ordinal;
    (void)out;
    return st_raise(ST_USAGE, "device", "this program was built without CUDA; build it with `cmake --preset cuda`");
}

const backend_t backend_cuda_f32 = {.name = "cuda", .real = DT_F32, .weight = DT_F32};
const backend_t backend_cuda_bf16 = {.name = "cuda", .real = DT_BF16, .weight = DT_BF16};
