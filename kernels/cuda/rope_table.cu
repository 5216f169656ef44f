/* Once per batch: [N, dim] floats written. The angle is a float product, as on the CPU; cosine and sine are in double,
 * rounded once, so that both give the same float except where the double lies within 1e-16 of the middle of two. The
 * library's cos(double) would bring its path for huge arguments, which needs a stack; positions are 32-bit numbers, for
 * which two constants do. */
#include "kernels/cuda/cuda.cuh"
extern "C" {
#include "kernels/ops/rope_table.h"
}

enum { FREQUENCIES = 256, TABLE_THREADS = 256 };

typedef struct frequencies {
    float of[FREQUENCIES];
} frequencies_t; /* travels with the launch */

#define PI_HALVES    0.63661977236758134308 /* 2 / pi */
#define HALF_PI      1.57079632679489655800
#define HALF_PI_REST 6.12323399573676603587e-17

/* The angle less k quarters of a turn, |r| <= pi/4. The first fma is exact: k HALF_PI and any float of pi/4 or more are
 * multiples of 2^-52. The second adds 2^-54 of error, for k below 2^50. Then Taylor's series up to r^19 (1e-19). */
static __device__ __forceinline__ void cosine_sine(double angle, float *cosine, float *sine) {
    double k = rint(angle * PI_HALVES), r = fma(-k, HALF_PI_REST, fma(-k, HALF_PI, angle)), z = r * r, c = 1, s = 1;
#pragma unroll
    for (int n = 18; n >= 2; n -= 2) {
        c = 1 - z * c * (1.0 / (n * (n - 1)));
        s = 1 - z * s * (1.0 / ((n + 1) * n));
    }
    s *= r;
    int quarter = (int)((int64_t)k & 3);
    double x = quarter & 1 ? s : c, y = quarter & 1 ? c : s;
    *cosine = (float)(quarter == 1 || quarter == 2 ? -x : x);
    *sine = (float)(quarter >= 2 ? -y : y);
}

/* Frequencies [first, first + count) of all rows. */
static __global__ void rope_table_kernel(int64_t rows, frequencies_t inv_freq, int first, int count, int pairs,
                                         const int32_t *positions, float *table) {
    int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, n = k / count;
    int i = (int)(k % count);
    if (n >= rows) return;
    float *to = table + n * 2 * pairs + first + i;
    float angle = (float)positions[n] * inv_freq.of[i];
    cosine_sine((double)angle, to, to + pairs);
}

void cuda_rope_table_fwd(const op_io_t *io) {
    const rope_table_attr_t *at = (const rope_table_attr_t *)io->attr;
    int64_t rows = io->out[0].dim[0];
    for (int64_t first = 0; first < at->half; first += FREQUENCIES) {
        int64_t count = at->half - first < FREQUENCIES ? at->half - first : (int64_t)FREQUENCIES;
        frequencies_t f = {};
        for (int64_t i = 0; i < count; i++) f.of[i] = (float)at->inv_freq[first + i];
        launch(cuda_stream(io), dim3((unsigned)cuda_parts(rows * count, TABLE_THREADS)), TABLE_THREADS, 0,
               rope_table_kernel, rows, f, first, count, at->half, (const int32_t *)io->in[ROPE_TABLE_POSITIONS].data,
               (float *)io->out[0].data);
    }
}
