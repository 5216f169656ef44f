/* IEEE half and bfloat16 conversions, exact and the same on every machine. *local* */
#pragma once
#include <stdint.h>
#include <string.h>

static inline float half_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t half_to_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float f32_from_bf16(uint16_t h) {
    return half_from_bits((uint32_t)h << 16);
}

/* Exact for every input; a NaN keeps its payload. */
static inline float f32_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
    if (exponent == 31) return half_from_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent) return half_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float value = (float)mantissa * 0x1p-24f; /* subnormal or zero */
    return sign ? -value : value;
}

/* Round to nearest even; a NaN is made quiet. */
static inline uint16_t bf16_from_f32(float f) {
    uint32_t bits = half_to_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* Round to nearest even; too large becomes infinite, a NaN is made quiet. */
static inline uint16_t f16_from_f32(float f) {
    uint32_t bits = half_to_bits(f), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to 65536 or more */
    if (magnitude < 0x38800000) {                                  /* below 2^-14: a multiple of 2^-24 */
        float scaled = half_from_bits(magnitude) * 0x1p24f;        /* exact */
        uint32_t whole = (uint32_t)scaled;
        float rest = scaled - (float)whole;
        whole += rest > 0.5f || (rest == 0.5f && (whole & 1));
        return (uint16_t)(sign | whole);
    }
    uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}
