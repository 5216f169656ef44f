/* bfloat16 for kernels compiled for the host: the upper half of a float, rounded to nearest, ties to even. */
#pragma once
#include <stdint.h>
#include <string.h>

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float x);
};

static inline float __bfloat162float(__nv_bfloat16 x) {
    uint32_t wide = (uint32_t)x.bits << 16;
    float r;
    memcpy(&r, &wide, sizeof r);
    return r;
}

static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    __nv_bfloat16 r;
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        r.bits = 0x7fff; /* the device's NaN */
    else
        r.bits = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    return r;
}

inline __nv_bfloat16::__nv_bfloat16(float x) : bits(__float2bfloat16_rn(x).bits) {}
