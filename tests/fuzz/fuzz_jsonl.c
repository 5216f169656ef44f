/* libFuzzer target: a JSONL file of any bytes is refused or becomes sequences, each of which keeps its promised length.
 * The first byte chooses the settings, the second one the virtual tokens, their labels and the route.
 *
 * fuzz-sources: data/[a-z]*.c tests/data/common_bytes.c
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "data/batch.h"
#include "tests/data/common_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char *const words[] = {"a", "bc", "\xc3\xa9"};

/* Two groups chosen by a field that may be missing and by one that may not, and one for all. */
static void make_layout(virtual_layout_t *v, uint8_t how) {
    const virtual_place_t place[] = {(virtual_place_t)(how >> 2 & 3), (virtual_place_t)(how >> 4 & 3), VIRTUAL_PREFIX};
    int field[] = {-1, -1, -1};
    assert(virtual_add_field(v, "x", words, 3, true, &field[0]) == ST_OK);
    if (how & 1) assert(virtual_add_field(v, "y", words, 2, false, &field[1]) == ST_OK);
    for (int i = 0; i < 3; i++) {
        int32_t first;
        assert(virtual_reserve(v, place[i], 8, &first) == ST_OK);
        assert(virtual_add_group(v, (virtual_group_t){place[i], first, 2, field[i], i ? -1 : first + 6}) == ST_OK);
    }
}

static void check_batch(const batch_t *b, const virtual_layout_t *v) {
    for (int64_t t = 0; t < b->n_tokens; t++) {
        assert(b->positions[t] == virtual_prefix(v) + t);
        assert(b->slot[t] >= -1 && b->slot[t] < v->slot_rows);
        assert(b->slot[t] < 0 || b->ids[t] == 0);
    }
    assert(b->cu_prefix[1] == virtual_prefix(v) && b->n_prefix == virtual_prefix(v));
    for (int64_t p = 0; p < b->n_prefix; p++) assert(b->prefix[p] >= 0 && b->prefix[p] < v->prefix_rows);
    for (int64_t m = 0; m < b->n_loss; m++) {
        assert(b->loss_row[m] >= 0 && b->loss_row[m] + 1 < b->n_tokens && (!m || b->loss_row[m] > b->loss_row[m - 1]));
        assert(b->slot[b->loss_row[m] + 1] == -1 && b->ids[b->loss_row[m] + 1] == b->targets[m]);
    }
}

static void read_all(const dataset_t *d, int32_t limit) {
    batch_t b;
    const virtual_layout_t *v = dataset_layout(d);
    assert(batch_init(&b, limit + dataset_virtual_tokens(d)) == ST_OK);
    for (int64_t i = 0; i < dataset_sequences(d); i++) {
        const int64_t zero = 0;
        status_t st = batch_fill(&b, d, &i, -1, &zero, 1);
        assert(st == ST_OK);
        assert(b.n_tokens == dataset_sequence_tokens(d, i) + virtual_slots(v));
        assert(b.n_tokens <= limit + virtual_slots(v));
        assert(b.n_loss == dataset_sequence_loss_tokens(d, i) && b.n_loss > 0);
        check_batch(&b, v);
    }
    batch_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) return 0;
    virtual_layout_t layout = {0};
    if (bytes[1] & 2) make_layout(&layout, bytes[1]);
    char path[64];
    int fd = memfd_create("fuzz", 0);
    assert(fd >= 0);
    assert(write(fd, bytes + 2, size - 2) == (ssize_t)(size - 2));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const dataset_source_t source = {path, 1};
    dataset_options_t o = {.sources = &source,
                           .n_sources = 1,
                           .encoder = bytes_encoder(bytes[0] & 1),
                           .max_seq_length = bytes[0] & 2 ? 5 : 60,
                           .append_eos = bytes[0] & 4,
                           .packing = bytes[0] & 8 ? PACKING_WRAPPED : PACKING_BEST_FIT,
                           .truncation = (truncation_t)((bytes[0] >> 4) % TRUNCATE_COUNT),
                           .chat_template = (chat_template_t)(1 + (bytes[0] >> 6) % (CHAT_COUNT - 1)),
                           .layout = bytes[1] & 2 ? &layout : NULL,
                           .route_field = bytes[1] & 64 ? "z" : NULL,
                           .route = words[bytes[1] >> 7],
                           .routes = words,
                           .n_routes = 2};
    dataset_t *d = NULL;
    status_t st = dataset_open(&o, &d);
    if (st == ST_OK) st = dataset_scan(d, 0, dataset_examples(d));
    if (st == ST_OK) st = dataset_finish(d);
    if (st == ST_OK)
        read_all(d, o.max_seq_length);
    else
        assert(st == ST_INPUT || st == ST_USAGE);
    dataset_close(d);
    virtual_release(&layout);
    close(fd);
    return 0;
}
