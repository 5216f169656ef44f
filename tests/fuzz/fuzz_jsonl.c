/* libFuzzer target: a JSONL file of any bytes is refused or becomes sequences, each of which keeps its promised length.
 * The first byte chooses the settings.
 *
 * fuzz-sources: data/[a-z]*.c tests/data/common_bytes.c
 *
 * Without -DFUZZER it runs the files named as arguments. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "data/batch.h"
#include "tests/data/common_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_all(const dataset_t *d, int32_t limit) {
    batch_t b;
    assert(batch_init(&b, limit) == ST_OK);
    for (int64_t i = 0; i < dataset_sequences(d); i++) {
        const int64_t zero = 0;
        status_t st = batch_fill(&b, d, &i, &zero, 1);
        assert(st == ST_OK);
        assert(b.n_tokens == dataset_sequence_tokens(d, i) && b.n_tokens <= limit);
        assert(b.n_loss == dataset_sequence_loss_tokens(d, i) && b.n_loss > 0);
    }
    batch_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size == 0) return 0;
    char path[64];
    int fd = memfd_create("fuzz", 0);
    assert(fd >= 0);
    assert(write(fd, bytes + 1, size - 1) == (ssize_t)(size - 1));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const dataset_source_t source = {path, 1};
    dataset_options_t o = {.sources = &source,
                           .n_sources = 1,
                           .encoder = bytes_encoder(bytes[0] & 1),
                           .max_seq_length = bytes[0] & 2 ? 5 : 60,
                           .append_eos = bytes[0] & 4,
                           .packing = bytes[0] & 8 ? PACKING_WRAPPED : PACKING_BEST_FIT,
                           .truncation = (truncation_t)((bytes[0] >> 4) % TRUNCATE_COUNT),
                           .chat_template = (chat_template_t)(1 + (bytes[0] >> 6) % (CHAT_COUNT - 1))};
    dataset_t *d = NULL;
    status_t st = dataset_open(&o, &d);
    if (st == ST_OK) st = dataset_scan(d, 0, dataset_examples(d));
    if (st == ST_OK) st = dataset_finish(d);
    if (st == ST_OK)
        read_all(d, o.max_seq_length);
    else
        assert(st == ST_INPUT || st == ST_USAGE);
    dataset_close(d);
    close(fd);
    return 0;
}

#ifndef FUZZER
int main(int argc, char **argv) {
    static uint8_t bytes[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) continue;
        LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, sizeof bytes, f));
        fclose(f);
    }
    return 0;
}
#endif
