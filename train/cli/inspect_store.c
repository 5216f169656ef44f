#include "train/cli/inspect_store.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "data/token_store.h"

enum { HEX_BYTES = 20 };

static const char *hex(uint64_t v, char text[HEX_BYTES]) {
    snprintf(text, HEX_BYTES, "%016" PRIx64, v);
    return text;
}

static void print_fields(const json_t *fields) {
    const char *name, *type;
    json_t *types, *n;
    json_object_foreach((json_t *)(uintptr_t)fields, name, types) {
        printf("  %s:", name);
        json_object_foreach(types, type, n) printf(" %s %" JSON_INTEGER_FORMAT, type, json_integer_value(n));
        printf("\n");
    }
}

static void print_text(const token_store_t *s, const json_t *fields, bool verified) {
    const token_store_info_t *info = token_store_info(s);
    char a[HEX_BYTES], b[HEX_BYTES];
    printf("%s: graft token store, %" PRId64 " bytes, written by graft %s\n", token_store_path(s), token_store_bytes(s),
           token_store_version(s));
    printf("documents %" PRId64 ", tokens %" PRId64 " of field '%s'\n", info->documents, info->tokens,
           info->text_field);
    printf("tokenizer of %s, fingerprint %s\n", info->tokenizer, hex(info->tokenizer_fingerprint, a));
    printf("fingerprint %s, of the input %s\n", hex(token_store_fingerprint(s), a), hex(info->input_fingerprint, b));
    printf("/tokens           [%" PRId64 "] uint%d\n", info->tokens, 8 * info->token_bytes);
    printf("/offsets          [%" PRId64 "] int64\n", info->documents + 1);
    printf("/metadata         [%" PRId64 "] uint8\n", info->metadata_bytes);
    printf("/metadata_offsets [%" PRId64 "] int64\n", info->documents + 1);
    printf("/metadata_fields  %zu fields, in so many documents:\n", json_object_size(fields));
    print_fields(fields);
    if (verified) printf("every checksum is right\n");
}

/* `fields` is handed over. */
static status_t print_json(const token_store_t *s, json_t *fields, bool verified) {
    const token_store_info_t *info = token_store_info(s);
    char a[HEX_BYTES], b[HEX_BYTES], c[HEX_BYTES], dtype[8];
    snprintf(dtype, sizeof dtype, "uint%d", 8 * info->token_bytes);
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "path",
                  token_store_path(s), "kind", "token store", "graft_version", token_store_version(s), "bytes",
                  (json_int_t)token_store_bytes(s), "documents", (json_int_t)info->documents, "tokens",
                  (json_int_t)info->tokens, "metadata_bytes", (json_int_t)info->metadata_bytes, "dtype", dtype,
                  "text_field", info->text_field, "tokenizer", info->tokenizer, "tokenizer_fingerprint",
                  hex(info->tokenizer_fingerprint, a), "input_fingerprint", hex(info->input_fingerprint, b),
                  "fingerprint", hex(token_store_fingerprint(s), c), "verified", (int)verified, "fields", fields);
    if (!root)
        return st_raise(ST_INPUT, token_store_path(s), "a text inside is not UTF-8, so it cannot be printed as JSON");
    int rc = json_dumpf(root, stdout, JSON_INDENT(2));
    json_decref(root);
    printf("\n");
    return rc == 0 ? ST_OK : st_raise(ST_IO, "standard output", "cannot write");
}

status_t inspect_store(const char *path, bool json, bool verify) {
    token_store_t *s = NULL;
    TRY(token_store_open(path, &s));
    status_t st = verify ? token_store_verify(s) : ST_OK;
    if (st == ST_OK) {
        json_t *fields = json_loads(token_store_info(s)->fields, 0, NULL); /* parsed when it was opened: an object */
        if (!json) print_text(s, fields, verify);
        if (json) st = print_json(s, json_incref(fields), verify);
        json_decref(fields);
    }
    token_store_close(s);
    if (st == ST_OK && fflush(stdout) != 0) st = st_errno(ST_IO, "standard output", "write", errno);
    return st;
}
