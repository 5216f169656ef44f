/* What `doctor` tells of the CPU backend. *local* */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* The library of the large products, its version and the instruction set it takes here, e.g. "oneDNN 2.6.3, avx2". */
void cpu_info_library(char *text, size_t size);
/* The instruction sets that our own loops may take, e.g. "avx2 fma". */
void cpu_info_features(char *text, size_t size);
/* Whether the library takes a smaller instruction set than the processor has: products are then many times too slow. */
bool cpu_info_library_lags(void);
/* GFLOP/s of float products of 1024 rows on `threads` threads, as the kernels call them: the best of a few. 0: no
 * memory. */
double cpu_info_rate(int threads);
