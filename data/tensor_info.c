/* Conversion to float32. Every block function follows the layout table of the GGUF format and its order of evaluation,
 * which is what makes the result equal to ggml's bit for bit (the build forbids contraction). */
#include "data/tensor_info.h"
#include <string.h>
#include "kernels/half.h"

static const struct {
    int elements, bytes;
} layout[STORE_COUNT] = {
#define STORE_ROW(name, text, elements, bytes) [name] = {elements, bytes},
    STORE_LIST(STORE_ROW)
#undef STORE_ROW
};

int64_t tensor_info_count(const tensor_info_t *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

static float half_at(const uint8_t *p) {
    return f32_from_f16((uint16_t)(p[0] | p[1] << 8));
}

static int nibble(uint8_t byte, int high) {
    return high ? byte >> 4 : byte & 15;
}

/* The 32-element types share one shape: scale, offset, optional fifth bits, nibbles low half then high half. */
static inline __attribute__((always_inline)) void block_q4_q5(const uint8_t *b, int has_min, int has_fifth, float *y) {
    float d = half_at(b), m = has_min ? half_at(b + 2) : 0.0f;
    const uint8_t *p = b + (has_min ? 4 : 2);
    uint32_t fifth = 0;
    if (has_fifth) {
        memcpy(&fifth, p, 4);
        p += 4;
    }
    const int centre = has_min ? 0 : has_fifth ? 16 : 8;
    uint8_t q[32]; /* loops without a choice in them become vector code */
    for (int i = 0; i < 16; i++) q[i] = p[i] & 15;
    for (int i = 0; i < 16; i++) q[16 + i] = p[i] >> 4;
    for (int i = 0; has_fifth && i < 32; i++) q[i] |= (uint8_t)((fifth >> i & 1) << 4);
    for (int i = 0; i < 32; i++) y[i] = has_min ? (float)q[i] * d + m : (float)(q[i] - centre) * d;
}

static void block_q4_0(const uint8_t *b, float *y) {
    block_q4_q5(b, 0, 0, y);
}
static void block_q4_1(const uint8_t *b, float *y) {
    block_q4_q5(b, 1, 0, y);
}
static void block_q5_0(const uint8_t *b, float *y) {
    block_q4_q5(b, 0, 1, y);
}
static void block_q5_1(const uint8_t *b, float *y) {
    block_q4_q5(b, 1, 1, y);
}

static void block_q8_0(const uint8_t *b, float *y) {
    float d = half_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static void block_q2_k(const uint8_t *b, float *y) {
    const uint8_t *scale = b, *qs = b + 16;
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int i = 0; i < 256; i++) {
        int n = i >> 7, k = (i >> 5) & 3, l = i & 31, q = qs[32 * n + l] >> (2 * k) & 3;
        float d1 = d * (float)(scale[i / 16] & 15), m1 = dmin * (float)(scale[i / 16] >> 4);
        y[i] = d1 * (float)q - m1;
    }
}

static void block_q3_k(const uint8_t *b, float *y) {
    const uint8_t *mask = b, *qs = b + 32, *s = b + 96;
    float d = half_at(b + 108);
    for (int i = 0; i < 256; i++) {
        int n = i >> 7, k = (i >> 5) & 3, l = i & 31, j = i / 16;
        int q = (qs[32 * n + l] >> (2 * k) & 3) - (mask[l] >> (4 * n + k) & 1 ? 0 : 4);
        int scale = (nibble(s[j & 7], j >= 8) | (s[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
        y[i] = d * (float)scale * (float)q;
    }
}

/* The packed 6-bit scale and minimum of sub-block j of Q4_K and Q5_K. */
static void scale_min(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    }
}

static void block_q4_q5_k(const uint8_t *b, const uint8_t *fifth, const uint8_t *qs, float *y) {
    float d = half_at(b), dmin = half_at(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale, min;
        scale_min(b + 4, j, &scale, &min);
        float d1 = d * (float)scale, m1 = dmin * (float)min;
        for (int l = 0; l < 32; l++) {
            int q = nibble(qs[32 * (j / 2) + l], j & 1) + (fifth ? (fifth[l] >> j & 1) << 4 : 0);
            y[32 * j + l] = d1 * (float)q - m1;
        }
    }
}

static void block_q4_k(const uint8_t *b, float *y) {
    block_q4_q5_k(b, NULL, b + 16, y);
}
static void block_q5_k(const uint8_t *b, float *y) {
    block_q4_q5_k(b, b + 16, b + 48, y);
}

static void block_q6_k(const uint8_t *b, float *y) {
    const uint8_t *low = b, *high = b + 128, *scale = b + 192;
    float d = half_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int n = i >> 7, k = (i >> 5) & 3, l = i & 31;
        int q = (nibble(low[64 * n + l + 32 * (k & 1)], k >> 1) | (high[32 * n + l] >> (2 * k) & 3) << 4) - 32;
        y[i] = d * (float)(int8_t)scale[8 * n + l / 16 + 2 * k] * (float)q;
    }
}

static void (*const block_read[STORE_COUNT])(const uint8_t *, float *) = {
    [STORE_Q4_0] = block_q4_0, [STORE_Q4_1] = block_q4_1, [STORE_Q5_0] = block_q5_0, [STORE_Q5_1] = block_q5_1,
    [STORE_Q8_0] = block_q8_0, [STORE_Q2_K] = block_q2_k, [STORE_Q3_K] = block_q3_k, [STORE_Q4_K] = block_q4_k,
    [STORE_Q5_K] = block_q5_k, [STORE_Q6_K] = block_q6_k,
};

static void read_plain(store_t store, const uint8_t *p, int64_t n, float *out) {
    uint16_t h;
    double wide;
    if (store == STORE_F32) {
        memcpy(out, p, (size_t)n * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        if (store == STORE_F64) {
            memcpy(&wide, p + 8 * i, 8);
            out[i] = (float)wide;
        } else {
            memcpy(&h, p + 2 * i, 2);
            out[i] = store == STORE_F16 ? f32_from_f16(h) : f32_from_bf16(h);
        }
    }
}

status_t tensor_info_read_f32(const tensor_info_t *t, int64_t first, int64_t n, float *out) {
    if (t->store == STORE_OTHER)
        return st_raise(ST_INPUT, t->file,
                        "tensor '%s' has type %s, which cannot be converted to float; use a file with "
                        "F32, F16, BF16, Q4_0 to Q8_0 or K-quants",
                        t->name, t->dtype);
    const int elements = layout[t->store].elements, bytes = layout[t->store].bytes;
    if (first < 0 || n < 0 || first > tensor_info_count(t) - n || first % elements || n % elements)
        return st_raise(ST_INTERNAL, t->name, "elements %lld to %lld are not a range of whole blocks", (long long)first,
                        (long long)(first + n));
    if (n == 0) return ST_OK;
    const uint8_t *p = (const uint8_t *)t->data + first / elements * bytes;
    if (!block_read[t->store]) {
        read_plain(t->store, p, n, out);
        return ST_OK;
    }
    void (*const read)(const uint8_t *, float *) = block_read[t->store];
    for (int64_t i = 0; i < n / elements; i++) read(p + i * bytes, out + i * elements);
    return ST_OK;
}
