/* libFuzzer target: a configuration of any bytes is loaded or refused, and what is loaded can be written out and read
 * back unchanged. The first line, when it starts with '!', is used as an override.
 * fuzz-sources: train/config/[a-z]*.c data/nearest.c data/condition.c tests/config/common_lora_fields.c
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/config/common_lora_fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const char *text = (const char *)bytes;
    char *override = NULL;
    const uint8_t *end = size && bytes[0] == '!' ? memchr(bytes, '\n', size) : NULL;
    if (end) {
        override = strndup(text + 1, (size_t)(end - bytes) - 1);
        size -= (size_t)(end - bytes) + 1;
        text = (const char *)end + 1;
    }
    config_t c = {0}, again = {0};
    strbuf_t first = {0}, second = {0};
    const char *overrides[] = {override};
    if (config_parse("fuzz.yaml", text, size, overrides, override != NULL, &sample_methods, &c) == ST_OK) {
        status_t st = config_dump(&c, &first);
        if (st == ST_OK) st = config_parse("fuzz.yaml", first.data, first.len, NULL, 0, &sample_methods, &again);
        if (st == ST_OK) st = config_dump(&again, &second);
        assert(st == ST_OK && strcmp(first.data, second.data) == 0);
    }
    strbuf_release(&first);
    strbuf_release(&second);
    config_release(&c);
    config_release(&again);
    free(override);
    return 0;
}
