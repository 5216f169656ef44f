/* Matrix products of a CUDA device: C [m,n] = alpha op(A) op(B) + C (when acc) + bias, all row-major, sums in float.
 *
 * Two ways. cuBLASLt, whose algorithm is chosen once for what the product looks like (sizes, strides, types, bias,
 * alignment) by the library's heuristic, with float32 products in float32 (not TF32) and partial sums kept in float and
 * added in a step of their own; a choice depends on nothing but that look, so equal products give equal bits. Choices
 * can be written down and taken over by another process, which then has the same bits. And an
 * own tiled kernel (gemm_own.cu) where cuBLASLt has no algorithm (odd strides of bfloat16), where A and B differ in
 * type, and on a device that was never given to gemm_open. No product waits or allocates, so all can be captured.
 *
 * The state is the device's (device_t.gemm): handle, workspace, the table of choices. Errors are kept in it until
 * gemm_check raises them. *local* */
#pragma once
#include "kernels/cuda/cuda.cuh"

typedef struct gemm {
    int64_t m = 0, n = 0, k = 0;
    bool ta = false, tb = false; /* A is stored [k,m], B [n,k] */
    const void *a = nullptr, *b = nullptr;
    void *c = nullptr;
    int64_t lda = 0, ldb = 0, ldc = 0;                         /* elements from row to row as stored; 0: dense */
    dtype_t a_type = DT_F32, b_type = DT_F32, c_type = DT_F32; /* DT_F32 or DT_BF16 */
    float alpha = 1;
    bool acc = false;
    const void *bias = nullptr; /* [n], added to every row */
    dtype_t bias_type = DT_F32;
} gemm_t;

/* Gives d its products: a handle and a workspace in its memory. The device is the current one. Errors:
 * ST_NOMEM; ST_INTERNAL with the library's status. Close before the device. */
status_t gemm_open(device_t *d);
void gemm_close(device_t *d);

/* Puts a product into d's queue. m or n of 0 does nothing; k of 0 leaves C (acc) or gives zero and bias. */
void gemm_run(device_t *d, const gemm_t *g);

/* The first error since gemm_open, with the product's shape. */
status_t gemm_check(const device_t *d, const char *where);

/* The table of choices as text: a line with the kind of device and the library's version, then one for each product in
 * the order of first use, with all that gemm_adopt needs; "" when nothing was chosen. Returns the length it needs
 * without the final zero, as snprintf. */
size_t gemm_describe(const device_t *d, char *text, size_t size);
/* Takes over the choices of such a text for products that d has not met; false, and nothing is done, when it was made
 * on another kind of device or by another version. What the library does not accept here is chosen anew. */
bool gemm_adopt(device_t *d, const char *text);

/* The own kernel, whatever the product. */
void gemm_own(cudaStream_t stream, const gemm_t *g);

/* to[i] = from[i] in bfloat16. */
void gemm_to_bf16(cudaStream_t stream, const float *from, int64_t count, bf16_t *to);
