/* The table of the CUDA backend. An op whose functions are not there has NULL in it: planning a tape with it is an
 * error, and tests/op names it. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
extern const vector_calls_t vector_cuda;

#define OP(NAME, name)                                                                                                 \
    __attribute__((weak)) void cuda_##name##_fwd(const op_io_t *io);                                                   \
    __attribute__((weak)) void cuda_##name##_bwd(const op_io_t *io);                                                   \
    __attribute__((weak)) size_t cuda_##name##_scratch(const op_io_t *io);
#include "kernels/ops.def"
#undef OP

#define OP(NAME, name) {cuda_##name##_fwd, cuda_##name##_bwd, cuda_##name##_scratch},
const backend_t backend_cuda_f32 = {"cuda",
                                    DT_F32,
                                    DT_F32,
                                    true,
                                    &vector_cuda,
                                    {
#include "kernels/ops.def"
                                    },
                                    CUDA_HEAD_DIM_MAX};
const backend_t backend_cuda_bf16 = {"cuda",
                                     DT_BF16,
                                     DT_BF16,
                                     true,
                                     &vector_cuda,
                                     {
#include "kernels/ops.def"
                                     },
                                     CUDA_HEAD_DIM_MAX};
#undef OP
}
