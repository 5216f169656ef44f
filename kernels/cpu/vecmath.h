/* exp, sums and maxima written so that compilers turn loops over them into vector code inside GRAFT_CLONES functions.
 * *local* */
#pragma once
#include <stdint.h>
#include <string.h>

static inline int32_t vec_bits(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float vec_float(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What exp is made of, for numbers and vectors of them: x = n ln 2 + r, |r| <= ln(2)/2, polynomial of degree 7 for
 * exp(r) (Cephes). Adding VEC_SHIFT, 1.5 * 2^23, leaves n in the low bits, and the bits less VEC_SHIFT_EXPONENT are
 * the exponent of 2^n. */
#define VEC_EXP_BOUND      87.3366f
#define VEC_LOG2E          1.44269504088896341f
#define VEC_LN2_HIGH       0.693359375f
#define VEC_LN2_LOW        -2.12194440e-4f
#define VEC_SHIFT          12582912.0f
#define VEC_SHIFT_EXPONENT (0x4B400000 - 127)
#define VEC_EXP_POLYNOMIAL(r)                                                                                          \
    ((((((1.9875691500e-4f * (r) + 1.3981999507e-3f) * (r) + 8.3334519073e-3f) * (r) + 4.1665795894e-2f) * (r) +       \
       1.6666665459e-1f) *                                                                                             \
          (r) +                                                                                                        \
      5.0000001201e-1f) *                                                                                              \
         ((r) * (r)) +                                                                                                 \
     (r) + 1.0f)

/* exp(x) within 1.5 ulp for |x| < 87.3; beyond that the value at the bound (8.5e37, 1.2e-38), so no infinities arise.
 * NaN stays NaN. The bound is applied on the bits because compilers do not vectorise float comparisons that might
 * trap. */
static inline float vec_exp(float x) {
    const int32_t bound = 0x42aeac50; /* VEC_EXP_BOUND */
    int32_t bits = vec_bits(x), size = bits & 0x7fffffff;
    int32_t limited = (bits & INT32_MIN) | bound;
    int32_t over = -(int32_t)((size > bound) & (size <= 0x7f800000)); /* all ones or none: no branch */
    bits = (bits & ~over) | (limited & over);
    x = vec_float(bits);
    float shifted = x * VEC_LOG2E + VEC_SHIFT;
    uint32_t exponent = (uint32_t)vec_bits(shifted) - VEC_SHIFT_EXPONENT;
    float n = shifted - VEC_SHIFT, r = x - n * VEC_LN2_HIGH - n * VEC_LN2_LOW;
    return VEC_EXP_POLYNOMIAL(r) * vec_float((int32_t)(exponent << 23));
}

static inline float vec_sigmoid(float x) {
    return 1.0f / (1.0f + vec_exp(-x));
}

/* Order-preserving integers of floats: the maximum of floats as one of integers. Works on its own output backwards. */
static inline int32_t vec_ordered(int32_t bits) {
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static inline float vec_max(const float *x, int64_t n) {
    int32_t max = INT32_MIN;
    for (int64_t i = 0; i < n; i++) {
        int32_t o = vec_ordered(vec_bits(x[i]));
        max = o > max ? o : max;
    }
    return vec_float(vec_ordered(max));
}

static inline float vec_dot(const float *a, const float *b, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}
