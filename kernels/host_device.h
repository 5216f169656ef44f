/* Small functions that the host's C and CUDA kernels share, so that both compute the same bits. */
#pragma once
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif
