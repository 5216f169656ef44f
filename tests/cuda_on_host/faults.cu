/* Kernels with one planted fault each, and correct ones that look like it; test_emulator.c calls them. */
#include "kernels/cuda/cuda.cuh"
#include "tests/cuda_on_host/faults.h"

/* Neighbours swap through shared memory, and must wait before they read. */
__global__ void swap(float *y, bool barrier) {
    SHARED(float, s, 64);
    s[threadIdx.x] = (float)threadIdx.x;
    if (barrier) block_sync();
    y[threadIdx.x] = s[threadIdx.x ^ 1];
}

/* One thread goes on to the next turn of a loop before all have read what the last one left. */
__global__ void write_after_read(float *y, bool barrier) {
    SHARED(float, s, 64);
    s[threadIdx.x] = 1;
    block_sync();
    float sum = s[63 - threadIdx.x];
    if (barrier) block_sync();
    if (threadIdx.x == 1) s[0] = sum + 1;
    y[threadIdx.x] = sum;
}

__global__ void two_writers(float *y, bool both) {
    SHARED(float, s, 1);
    if (threadIdx.x == 3 || (both && threadIdx.x == 5)) s[0] = 2;
    block_sync();
    y[threadIdx.x] = s[0];
}

/* In one warp a warp_sync is enough; over two warps it is not. */
__global__ void order_in_warp(float *y, int distance) {
    SHARED(float, s, 64);
    s[threadIdx.x] = (float)threadIdx.x;
    warp_sync();
    y[threadIdx.x] = s[threadIdx.x ^ (unsigned)distance];
}

/* A shuffle orders no memory. */
__global__ void shuffle_is_no_barrier(float *y) {
    SHARED(float, s, 64);
    s[threadIdx.x] = 1;
    float v = warp_xor(1.0f, 1);
    y[threadIdx.x] = v + s[threadIdx.x ^ 1];
}

__global__ void out_of_bounds(float *y, int index) {
    SHARED(float, other, 4);
    SHARED(float, s, 32);
    SHARED(float, third, 4);
    if (threadIdx.x == 0) other[0] = third[0] = 0;
    if (threadIdx.x == 0) s[index] = 1;
    y[threadIdx.x] = 0;
}

__global__ void past_dynamic(float *y, size_t count) {
    shared_t<float> s = shared_dynamic<float>(16, count);
    if (threadIdx.x == 0) s[0] = 1;
    y[threadIdx.x] = 1;
}

__global__ void uninitialised(float *y, int written) {
    SHARED(float, s, 64);
    if ((int)threadIdx.x < written) s[threadIdx.x] = 1;
    block_sync();
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void divergent(float *y, bool all) {
    if (all || threadIdx.x < 40) block_sync();
    y[threadIdx.x] = 1;
}

__global__ void different_barriers(float *y, bool same) {
    if (same || threadIdx.x < 32)
        block_sync();
    else
        block_sync();
    y[threadIdx.x] = 1;
}

__global__ void half_a_warp(float *y, int lanes) {
    float v = 0;
    if (lane_id() < lanes) v = warp_xor(1.0f, 16);
    y[threadIdx.x] = v;
}

__global__ void copies(float *y, const float *x, bool wait, bool barrier) {
    shared_t<float> s = shared_dynamic<float>(0, 64);
    if (threadIdx.x < 16) async_copy16(s + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x != 15);
    async_commit();
    if (wait) async_wait<0>();
    if (barrier) block_sync();
    y[threadIdx.x] = s[threadIdx.x];
    if (!wait) async_wait<0>();
}

/* Two groups under way, of which one is waited for. */
__global__ void copies_in_groups(float *y, const float *x, bool early) {
    SHARED(float, s, 8);
    for (int i = 0; i < 2; i++) {
        if (threadIdx.x == 0) async_copy16(s + 4 * i, x + 4 * i, true);
        async_commit();
    }
    async_wait<1>();
    block_sync();
    float first = s[3];
    if (early) y[threadIdx.x] = s[7];
    async_wait<0>();
    block_sync();
    y[threadIdx.x] = first + s[7];
}

__global__ void unaligned(float *y, int offset) {
    SHARED(float, s, 64);
    pack_t<float> p = {};
    if (threadIdx.x == 0) shared_store_pack(s + offset, p);
    y[threadIdx.x] = 0;
}

__global__ void unaligned_global(float *y, const float *x) {
    y[threadIdx.x] = load_pack(x).v[0];
}

__global__ void block_numbers(float *y) {
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = (float)(block * 1000 + thread);
}

__global__ void reduce(float *y) {
    SHARED(double, part, 32);
    float all = (float)block_sum((double)(threadIdx.x + 1), part);
    y[threadIdx.x] = all + warp_from((float)threadIdx.x, 3) + (warp_any(threadIdx.x == 40) ? 0.5f : 0.0f) +
                     warp_max(lane_id() == 7 ? 10000.0f : 0.0f);
}

/* D = A B through ldmatrix and mma of one warp; A is [16, 16], B is [16, 8] or, transposed in memory, [8, 16]. */
__global__ void product(float *d, const bf16_t *a, const bf16_t *b, bool b_in_rows) {
    SHARED(bf16_t, sa, 16 * 24);
    SHARED(bf16_t, sb, 16 * 24);
    unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 256; i += 32) sa[i / 16 * 24 + i % 16] = a[i];
    for (unsigned i = lane; i < 128; i += 32) sb[b_in_rows ? i / 8 * 24 + i % 8 : i / 16 * 24 + i % 16] = b[i];
    for (unsigned i = lane; b_in_rows && i < 128; i += 32) sb[i / 8 * 24 + 8 + i % 8] = from_float<bf16_t>(0);
    for (unsigned i = lane; !b_in_rows && i < 128; i += 32) sb[(8 + i / 16) * 24 + i % 16] = from_float<bf16_t>(0);
    warp_sync();
    uint32_t ra[4], rb[4];
    load_matrices(ra, sa + (lane % 16 * 24 + lane / 16 * 8));
    if (b_in_rows)
        load_matrices_trans(rb, sb + (lane % 16 * 24 + lane / 16 * 8));
    else
        load_matrices(rb, sb + (lane / 16 * 8 + lane % 8) * 24 + lane / 8 % 2 * 8);
    const uint32_t two[2] = {rb[0], rb[1]};
    float sum[4] = {};
    mma_bf16(sum, ra, two);
    for (unsigned i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = sum[i];
}

__global__ void matrices_unordered(float *y) {
    SHARED(bf16_t, s, 32 * 8);
    for (int i = 0; i < 8; i++) s[threadIdx.x * 8 + (unsigned)i] = from_float<bf16_t>(1);
    uint32_t r[4];
    load_matrices(r, s + threadIdx.x * 8);
    y[threadIdx.x] = (float)r[0];
}

__global__ void add_one(float *y) {
    y[threadIdx.x] += 1;
}

void fault_run(fault_t which, bool planted, float *y, const float *x) {
    switch (which) {
    case FAULT_RACE:
        return launch(0, 1, 64, 0, swap, y, !planted);
    case FAULT_WRITE_AFTER_READ:
        return launch(0, 1, 64, 0, write_after_read, y, !planted);
    case FAULT_TWO_WRITERS:
        return launch(0, 1, 64, 0, two_writers, y, planted);
    case FAULT_WARP_ORDER:
        return launch(0, 1, 64, 0, order_in_warp, y, planted ? 32 : 1);
    case FAULT_SHUFFLE_ORDER:
        return planted ? launch(0, 1, 64, 0, shuffle_is_no_barrier, y) : launch(0, 1, 64, 0, reduce, y);
    case FAULT_BOUNDS:
        return launch(0, 1, 64, 0, out_of_bounds, y, planted ? 32 : 31);
    case FAULT_BOUNDS_BELOW:
        return launch(0, 1, 64, 0, out_of_bounds, y, planted ? -1 : 0);
    case FAULT_DYNAMIC:
        return launch(0, 1, 64, 256, past_dynamic, y, (size_t)(planted ? 61 : 60));
    case FAULT_UNINITIALISED:
        return launch(0, 1, 64, 0, uninitialised, y, planted ? 63 : 64);
    case FAULT_DIVERGENT:
        return launch(0, 1, 64, 0, divergent, y, !planted);
    case FAULT_OTHER_BARRIER:
        return launch(0, 1, 64, 0, different_barriers, y, !planted);
    case FAULT_HALF_WARP:
        return launch(0, 1, 64, 0, half_a_warp, y, planted ? 31 : 32);
    case FAULT_PART_OF_WARP:
        return launch(0, 1, planted ? 48 : 64, 0, half_a_warp, y, 32);
    case FAULT_NO_WAIT:
        return launch(0, 1, 64, 256, copies, y, x, !planted, true);
    case FAULT_WAIT_WITHOUT_BARRIER:
        return launch(0, 1, 64, 256, copies, y, x, true, !planted);
    case FAULT_WRONG_GROUP:
        return launch(0, 1, 64, 0, copies_in_groups, y, x, planted);
    case FAULT_UNALIGNED:
        return launch(0, 1, 64, 0, unaligned, y, planted ? 6 : 8);
    case FAULT_UNALIGNED_GLOBAL:
        return launch(0, 1, 64, 0, unaligned_global, y, planted ? x + 1 : x);
    case FAULT_MATRICES:
        return planted ? launch(0, 1, 32, 0, matrices_unordered, y) : launch(0, 1, 64, 0, add_one, y);
    case FAULT_LAUNCH:
        return launch(0, 1, planted ? 1025 : 64, 0, unaligned, y, 8);
    case FAULT_COUNT:
        break;
    }
}

void sample_blocks(float *y) {
    launch(0, dim3(2, 3, 2), dim3(4, 3, 2), 0, block_numbers, y);
}
void sample_reduce(float *y) {
    launch(0, 1, 64, 0, reduce, y);
}
void sample_copies(float *y, const float *x) {
    launch(0, 1, 64, 256, copies, y, x, true, true);
}
void sample_product(float *d, const void *a, const void *b, bool b_in_rows) {
    launch(0, 1, 32, 0, product, d, (const bf16_t *)a, (const bf16_t *)b, b_in_rows);
}
uint16_t sample_bf16(float x) {
    bf16_t y = from_float<bf16_t>(x);
    uint16_t bits;
    memcpy(&bits, &y, sizeof bits);
    return bits;
}

/* x goes to the device, is added to `times` times by a captured graph and comes back into y. 64 numbers. */
void sample_graph(float *y, const float *x, int times) {
    enum { BYTES = 64 * sizeof(float) };
    cudaStream_t s;
    cudaGraph_t g;
    cudaGraphExec_t exec;
    void *on_device;
    cudaStreamCreate(&s);
    cudaMalloc(&on_device, BYTES);
    cudaMemcpyAsync(on_device, x, BYTES, cudaMemcpyHostToDevice, s);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    launch(s, 1, 64, 0, add_one, (float *)on_device);
    cudaMemcpyAsync(y, on_device, BYTES, cudaMemcpyDeviceToHost, s);
    cudaStreamEndCapture(s, &g);
    cudaGraphInstantiate(&exec, g);
    for (int i = 0; i < times; i++) cudaGraphLaunch(exec, s);
    y[0] = -1; /* nothing has been done yet */
    cudaStreamSynchronize(s);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(g);
    cudaFree(on_device);
    cudaStreamDestroy(s);
}

void sample_host_reads_device(bool planted) {
    void *on_device, *host;
    cudaMalloc(&on_device, 64);
    cudaMallocHost(&host, 64);
    volatile const float *p = (const float *)(planted ? on_device : host);
    (void)p[0];
    cudaFree(on_device);
    cudaFreeHost(host);
}
void sample_wrong_way(bool planted) {
    char host[64] = {};
    void *on_device;
    cudaMalloc(&on_device, 64);
    cudaMemcpyAsync(on_device, host, 64, planted ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, 0);
    cudaFree(on_device);
}
