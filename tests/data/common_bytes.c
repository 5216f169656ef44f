#include "tests/data/common_bytes.h"
#include <string.h>

static const struct {
    const char *text;
    int32_t id;
} specials[] = {
    {"<s>", BYTE_BOS},
    {"</s>", BYTE_EOS},
    {"<|im_start|>", BYTE_IM_START},
    {"<|im_end|>", BYTE_IM_END},
    {"<|begin_of_text|>", BYTE_BEGIN},
    {"<|start_header_id|>", BYTE_HEADER},
    {"<|end_header_id|>", BYTE_END_HEADER},
    {"<|eot_id|>", BYTE_EOT},
};
enum { N_SPECIALS = sizeof specials / sizeof *specials };

static status_t encode(const void *self, const char *text, size_t n, i32buf_t *ids) {
    (void)self;
    for (size_t i = 0; i < n;) {
        int32_t id = (unsigned char)text[i];
        size_t used = 1;
        for (int k = 0; k < N_SPECIALS; k++) {
            size_t len = strlen(specials[k].text);
            if (len <= n - i && memcmp(text + i, specials[k].text, len) == 0) {
                id = specials[k].id;
                used = len;
            }
        }
        TRY(i32buf_push(ids, id));
        i += used;
    }
    return ST_OK;
}

static int32_t token_id(const void *self, const char *text) {
    (void)self;
    for (int k = 0; k < N_SPECIALS; k++)
        if (strcmp(specials[k].text, text) == 0) return specials[k].id;
    return -1;
}

encoder_t bytes_encoder(bool with_bos) {
    static const int32_t prefix[] = {BYTE_BOS};
    return (encoder_t){.encode = encode, .token_id = token_id, .prefix = prefix, .n_prefix = with_bos, .eos = BYTE_EOS};
}
