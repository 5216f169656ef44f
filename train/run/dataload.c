#include "train/run/dataload.h"
#include <string.h>

static status_t scan_share(comm_t *comm, dataset_t *d) {
    int64_t n = dataset_examples(d), size = comm_size(comm), rank = comm_rank(comm);
    return dataset_scan(d, n * rank / size, n * (rank + 1) / size);
}

/* Every item is known to exactly one rank; the others bring 0, so the sum is that value. */
static status_t exchange(comm_t *comm, dataset_t *d) {
    int32_t *length;
    int64_t n, examples = dataset_examples(d), size = comm_size(comm), rank = comm_rank(comm);
    dataset_lengths(d, &length, &n);
    int64_t items = examples ? n / examples : 0; /* of one example */
    int64_t lo = items * (examples * rank / size), hi = items * (examples * (rank + 1) / size);
    for (int64_t i = 0; i < n; i++)
        if (i < lo || i >= hi) length[i] = 0;
    return comm_sum_i32(comm, length, n);
}

status_t dataload_open(comm_t *comm, const dataload_t *load, dataset_t **out) {
    const config_data_t *cfg = load->config;
    dataset_options_t o = {
        .sources = load->sources,
        .n_sources = load->n_sources,
        .encoder = load->encoder,
        .format = (data_format_t)cfg->format,
        .chat_template = (chat_template_t)cfg->chat_template,
        .max_seq_length = (int32_t)cfg->max_seq_length,
        .packing = (packing_t)cfg->packing,
        .truncation = (truncation_t)cfg->truncation,
        .train_on_inputs = cfg->train_on_inputs,
        .append_eos = cfg->append_eos,
        .layout = load->layout,
        .label = load->label,
        .score_field = load->score_field,
        .route_field = cfg->route_field,
        .route = cfg->route,
        .routes = cfg->routes.items,
        .n_routes = cfg->routes.count,
        .condition = load->condition,
    };
    if (load->filter) o.filter = *load->filter;
    dataset_t *d = NULL;
    status_t st = comm_agree(comm, dataset_open(&o, &d));
    if (st == ST_OK) st = comm_agree(comm, scan_share(comm, d));
    if (st == ST_OK) st = exchange(comm, d);
    if (st == ST_OK) st = comm_agree(comm, dataset_finish(d));
    if (st != ST_OK) {
        dataset_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}
