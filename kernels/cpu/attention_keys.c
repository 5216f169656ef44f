#include "kernels/cpu/attention_keys.h"

attention_keys_t attention_keys(const op_io_t *io, int64_t s, int64_t kv) {
    const int32_t *cu = io->in[ATTENTION_CU].data, *cup = io->in[ATTENTION_CU_PREFIX].data;
    attention_keys_t k = {.s = s, .kv = kv, .first = cu[s], .length = cu[s + 1] - cu[s]};
    if (cup) {
        k.prefix_first = cup[s];
        k.prefix = cup[s + 1] - cup[s];
    }
    k.count = k.prefix + k.length;
    return k;
}

int64_t attention_most_keys(const op_io_t *io) {
    const view_t *prefix = &io->in[ATTENTION_PREFIX_K];
    return io->in[ATTENTION_Q].dim[0] + (prefix->rank ? prefix->dim[0] : 0);
}

static const float *rows_of(const op_io_t *io, int input, int64_t first, int64_t kv) {
    const attention_attr_t *at = io->attr;
    return (const float *)io->in[input].data + (first * at->kv_heads + kv) * at->head_dim;
}

void attention_pack_rows(const op_io_t *io, const attention_keys_t *keys, int own, int prefix, float factor, float *p) {
    const attention_attr_t *at = io->attr;
    int64_t stride = at->kv_heads * at->head_dim, depth = panel_round(keys->count);
    if (keys->prefix && io->in[prefix].data)
        panel_copy(rows_of(io, prefix, keys->prefix_first, keys->kv), stride, keys->prefix, at->head_dim, factor, depth,
                   p);
    if (io->in[own].data)
        panel_copy(rows_of(io, own, keys->first, keys->kv), stride, keys->count - keys->prefix, at->head_dim, factor,
                   depth, p + keys->prefix * PANEL);
}

void attention_pack_columns(const op_io_t *io, const attention_keys_t *keys, int own, int prefix, float factor,
                            float *p) {
    const attention_attr_t *at = io->attr;
    int64_t stride = at->kv_heads * at->head_dim;
    if (keys->prefix && io->in[prefix].data)
        panel_transpose(rows_of(io, prefix, keys->prefix_first, keys->kv), stride, keys->prefix, at->head_dim, factor,
                        0, p);
    if (io->in[own].data)
        panel_transpose(rows_of(io, own, keys->first, keys->kv), stride, keys->count - keys->prefix, at->head_dim,
                        factor, keys->prefix, p);
}

void attention_scores(const float *q, int64_t stride, int64_t rows, int64_t dim, const float *k, int64_t count,
                      int64_t seen, float *s, int64_t step) {
    const int64_t half = PANEL / 2;
    for (int64_t j = 0; j < count; j += PANEL) {
        /* the first rows that see anything of the panel and of its second half */
        int64_t any = cpu_max(0, j + 1 - seen), all = j + half < count ? cpu_max(0, j + half + 1 - seen) : rows;
        panel_product_t p = {.a_step = stride, .b = k + j * dim, .c_step = step, .count = dim};
        if (any < all) {
            p.a = q + any * stride;
            p.c = s + any * step + j;
            p.rows = cpu_min(all, rows) - any;
            panel_scores(&p, true);
        }
        if (all < rows) {
            p.a = q + all * stride;
            p.c = s + all * step + j;
            p.rows = rows - all;
            panel_scores(&p, false);
        }
    }
}
