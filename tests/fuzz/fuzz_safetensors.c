/* Any bytes: refused with ST_INPUT, or readable in full.
 * fuzz-sources: data/safetensors.c data/mapping.c data/tensor_info.c
 */
#include "data/safetensors.h"
#include "fuzz_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input_t in = fuzz_input_open(data, size);
    safetensors_t *s = NULL;
    status_t st = safetensors_open(in.path, &s);
    if (st != ST_OK && st != ST_INPUT) abort();
    if (st == ST_OK) {
        for (int64_t i = 0; i < safetensors_count(s); i++) {
            const tensor_info_t *t = safetensors_at(s, i);
            int64_t n = tensor_info_count(t);
            float *y = malloc((size_t)n * sizeof *y + 1); /* n is bounded by the size of the input */
            if (t->store != STORE_OTHER && (!y || tensor_info_read_f32(t, 0, n, y) != ST_OK)) abort();
            free(y);
        }
        safetensors_close(s);
    }
    fuzz_input_close(&in);
    return 0;
}
