/* The CUDA backend as C sees it. There are three of it, of which a program links one: kernels/cuda compiled by nvcc;
 * the same sources compiled by a C++ compiler for the host (tests/cuda_on_host), for tests; kernels/cuda_none.c, which
 * has no device. *local* */
#pragma once
#include "kernels/device.h"
#include "kernels/op.h"

/* Whether this program was built with CUDA at all. */
bool cuda_built(void);
/* The number of usable devices on this node; 0 with `why` (at least 160 bytes) telling what was found. Never fails and
 * never starts a device: a build with CUDA runs on a machine without a driver. */
int cuda_count(char *why, size_t size);
/* Starts device `ordinal`. Errors: ST_USAGE with what was found. Close with device_close. */
status_t cuda_open(int ordinal, device_t **out);

/* The largest head size of attention's kernels, which keep whole rows in shared memory (backend_t.head_dim_max). */
enum { CUDA_HEAD_DIM_MAX = 256 };

/* The same kernels twice: for float activations (products in float, not TF32, to compare with the CPU) and for bfloat16
 * activations and frozen weights, with float sums. A kernel tells by the types of its views. */
extern const backend_t backend_cuda_f32;
extern const backend_t backend_cuda_bf16;
