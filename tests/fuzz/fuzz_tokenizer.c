/* tokenizer.json of any bytes: refused with ST_INPUT, or a tokenizer that encodes and decodes text without a fault. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const tokenizer_t *t) {
    static const char *const texts[] = {"", "a", " Hello  world\n", "I'M don't 12345",
                                        "\xc3\xa9 e\xcc\x81 \xf0\x9f\x9a\x80<|end|>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        i32buf_t ids = {0};
        strbuf_t text = {0};
        status_t st = tokenizer_encode(t, texts[i], strlen(texts[i]), i % 2, &ids);
        if (st != ST_OK && st != ST_INPUT) abort();
        if (st == ST_OK && tokenizer_decode(t, ids.data, ids.len, i % 2, &text) == ST_NOMEM) abort();
        i32buf_release(&ids);
        strbuf_release(&text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_error_t error;
    json_t *root = json_loadb((const char *)data, size, JSON_ALLOW_NUL, &error);
    if (!root) return 0;
    tokenizer_t *t = NULL;
    if (tokenizer_alloc("tokenizer.json", &t) != ST_OK) abort();
    status_t st = tokenizer_parse_json(t, root);
    if (st != ST_OK && st != ST_INPUT) abort();
    if (st == ST_OK) use(t);
    tokenizer_close(t);
    json_decref(root);
    return 0;
}
