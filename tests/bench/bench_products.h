/* The matrix products of a step of SmolLM2-135M, by our kernels and by the library's alone, in turns: GF/s of the best
 * of many runs of either. Not a test. */
#pragma once
void bench_products(void);
