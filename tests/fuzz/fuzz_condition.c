/* libFuzzer target: any text as a template and any bytes as its documents are refused or become sequences, each of
 * which keeps its promised length and carries its slots. The first byte chooses the settings, the next three the slots;
 * then the text of a slot up to a NUL, the name of a field up to a NUL, and JSON lines.
 *
 * fuzz-sources: data/[a-z]*.c tests/data/common_bytes.c
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "data/batch.h"
#include "tests/data/common_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Bits of `how`: loss, missing, dropout, kind. */
static condition_slot_t slot(uint8_t how, const char *text, const char *field) {
    condition_slot_t s = {.kind = (slot_kind_t)(how & 3), .loss = how & 4, .missing = how & 8 ? MISSING_SKIP : 0};
    if (s.kind == SLOT_DOCUMENT) {
        s.text = "{text}";
        s.missing = MISSING_ERROR;
        return s;
    }
    s.dropout = how & 16 ? 0.5 : 0;
    if (how & 32) {
        s.choose = (threshold_t){field, how & 64, (double)(how >> 7)};
        s.then = text;
        s.otherwise = how & 128 ? NULL : "-";
    } else {
        s.text = text;
    }
    return s;
}

static void read_all(const dataset_t *d, int32_t limit) {
    batch_t b;
    const int64_t zero = 0;
    assert(batch_init(&b, limit) == ST_OK);
    for (int64_t i = 0; i < dataset_sequences(d); i++) {
        int32_t tokens = dataset_sequence_tokens(d, i);
        for (int64_t place = 3; place >= -1; place--) {
            status_t st = batch_fill(&b, d, &i, place, &zero, 1);
            assert(st == ST_OK);
            assert(b.n_tokens <= tokens && tokens <= limit);
        }
        /* the last one was without dropout */
        assert(b.n_tokens == tokens && b.n_loss == dataset_sequence_loss_tokens(d, i) && b.n_loss > 0);
    }
    batch_release(&b);
}

static void read_documents(const uint8_t *bytes, size_t size, const condition_t *c, uint8_t how, const char *field) {
    char path[64];
    int fd = memfd_create("fuzz", 0);
    assert(fd >= 0);
    assert(write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const dataset_source_t source = {path, 1};
    dataset_options_t o = {.sources = &source,
                           .n_sources = 1,
                           .encoder = bytes_encoder(how & 1),
                           .max_seq_length = how & 2 ? 9 : 60,
                           .append_eos = how & 4,
                           .condition = c};
    if (how & 8) o.filter = (threshold_t){field, how & 16, (double)(how >> 5)};
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
}

/* The bytes up to a NUL as a text, and what stands behind it. */
static char *cut(const uint8_t **bytes, size_t *size) {
    size_t n = strnlen((const char *)*bytes, *size);
    char *text = buf_strndup((const char *)*bytes, n);
    assert(text);
    n += n < *size;
    *bytes += n;
    *size -= n;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 4) return 0;
    uint8_t how[4];
    memcpy(how, bytes, 4);
    bytes += 4;
    size -= 4;
    char *text = cut(&bytes, &size), *field = cut(&bytes, &size);
    const condition_slot_t slots[] = {slot(how[1], text, field), slot(how[2], text, field), slot(how[3], text, field)};
    condition_t *c = NULL;
    status_t st = condition_open(slots, 3, &(condition_use_t){.seed = how[0]}, &c);
    if (st == ST_OK)
        read_documents(bytes, size, c, how[0], field);
    else
        assert(st == ST_USAGE);
    condition_close(c);
    free(text);
    free(field);
    return 0;
}
