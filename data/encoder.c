#include "data/encoder.h"
#include "data/tokenizer.h"

static status_t encode(const void *self, const char *text, size_t n, i32buf_t *ids) {
    return tokenizer_encode(self, text, n, false, ids);
}

static int32_t token_id(const void *self, const char *text) {
    return tokenizer_token_id(self, text);
}

encoder_t encoder_of_tokenizer(const struct tokenizer *t) {
    encoder_t e = {.self = t,
                   .encode = encode,
                   .token_id = token_id,
                   .eos = tokenizer_eos(t),
                   .n_ids = tokenizer_vocab_size(t),
                   .fingerprint = tokenizer_opened_fingerprint(t)};
    e.prefix = tokenizer_prefix(t, &e.n_prefix);
    return e;
}
