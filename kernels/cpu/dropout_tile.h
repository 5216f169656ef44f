/* The numbers of one instruction set; dropout.c includes this once for each, with NAME, TARGET (an attribute), COUNT
 * blocks at a time, MULTIPLY, the products of the lower halves of 64-bit numbers, and FIRST and SECOND, the halves of
 * two vectors whose elements take turns.
 *
 * A block's four words lie in the lower halves of four vectors of 64-bit lanes. What is in the upper halves does not
 * matter: products do not read them. So a round is two products, two shifts and two exclusive ors of three. */
TARGET static void NAME(const dropout_t *d, uint64_t row, const uint64_t *block, int64_t blocks, float *factor) {
    typedef uint64_t words_t __attribute__((vector_size(8 * COUNT)));
    typedef uint64_t loose_words_t __attribute__((vector_size(8 * COUNT), aligned(4)));
    typedef int32_t bits_t __attribute__((vector_size(8 * COUNT)));
    int32_t keep;
    memcpy(&keep, &d->keep_scale, sizeof keep);
    for (int64_t g = 0; g < blocks; g += COUNT) {
        words_t c0 = (words_t)(*(const loose_words_t *)(block + g)) ^ row, c1 = c0 >> 32;
        words_t c2 = (words_t){0} + d->step, c3 = c2 >> 32;
        uint32_t k0 = d->key[0], k1 = d->key[1];
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const words_t p0 = MULTIPLY(c0, (words_t){0} + 0xD2511F53u), p1 = MULTIPLY(c2, (words_t){0} + 0xCD9E8D57u);
            c0 = (p1 >> 32) ^ c1 ^ (uint64_t)k0;
            c2 = (p0 >> 32) ^ c3 ^ (uint64_t)k1;
            c1 = p1;
            c3 = p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        /* words 0 and 1, 2 and 3 of every block; then its 24 bits as 32 of a comparison */
        const words_t low = (words_t){0} + 0xFFFFFFFFu;
        const words_t a = (words_t)((((c0 & low) | c1 << 32) >> 8) & 0x00FFFFFF00FFFFFFu);
        const words_t b = (words_t)((((c2 & low) | c3 << 32) >> 8) & 0x00FFFFFF00FFFFFFu);
        const words_t x = (words_t)(((bits_t)a >= d->threshold) & keep),
                      y = (words_t)(((bits_t)b >= d->threshold) & keep);
        loose_words_t *to = (loose_words_t *)(void *)(factor + 4 * g);
        to[0] = (loose_words_t)FIRST(x, y);
        to[1] = (loose_words_t)SECOND(x, y);
    }
}

#undef NAME
#undef TARGET
#undef COUNT
#undef MULTIPLY
#undef FIRST
#undef SECOND
