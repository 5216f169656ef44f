/* Any bytes: refused with ST_INPUT, or readable in full, metadata and tensors.
 * fuzz-sources: data/gguf.c data/gguf_kv.c data/mapping.c data/name_index.c data/tensor_info.c
 */
#include "data/gguf.h"
#include "fuzz_input.h"
#include "kernels/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const gguf_t *g) {
    strbuf_t text = {0};
    int64_t integer;
    double number;
    const char *s;
    size_t n;
    bool flag;
    for (int64_t i = 0; i < gguf_kv_count(g); i++) {
        const char *key = gguf_kv_key(g, i);
        if (!gguf_has(g, key) || gguf_kv_text(g, i, &text) != ST_OK) abort();
        gguf_get_i64(g, key, &integer);
        gguf_get_f64(g, key, &number);
        gguf_get_bool(g, key, &flag);
        gguf_get_str(g, key, &s, &n);
        for (int64_t k = -1; k <= gguf_arr_count(g, key); k++) {
            gguf_arr_i64(g, key, k, &integer);
            gguf_arr_f64(g, key, k, &number);
            if (gguf_arr_str(g, key, k, &s, &n) && strbuf_add(&text, s, n) != ST_OK) abort();
        }
        strbuf_clear(&text);
    }
    strbuf_release(&text);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const tensor_info_t *t = gguf_tensor_at(g, i);
        int64_t count = tensor_info_count(t);
        if (t->store == STORE_OTHER) continue;
        float *y = malloc((size_t)count * sizeof *y + 1);
        if (!y || tensor_info_read_f32(t, 0, count, y) != ST_OK) abort();
        free(y);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input_t in = fuzz_input_open(data, size);
    gguf_t *g = NULL;
    status_t st = gguf_open(in.path, &g);
    if (st != ST_OK && st != ST_INPUT) abort();
    if (st == ST_OK) {
        read_all(g);
        gguf_close(g);
    }
    fuzz_input_close(&in);
    return 0;
}
