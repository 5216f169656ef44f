/* Runs the oracle on what forward_parity.py writes: oracle_dump IN OUT.
 *
 * IN is lines of text, then doubles. The text:
 *     llama V D L H K h F eps attention_bias mlp_bias tied rope_type theta factor low high original_context
 *     gpt2  V positions D L H F eps tied                                        (one of the two)
 *     tensor NAME COUNT SCALE                                                   (any number)
 *     tokens N SEQUENCES
 *     data                                                                      (then exactly one newline)
 * The doubles: the tensors in order, ids [N], cu_seqlens [SEQUENCES + 1], targets [N], weights [N].
 * OUT is doubles: loss sum, weight sum, logits [N, V], the gradient of every tensor in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/oracle/oracle.h"

enum { MAX_TENSORS = 4096 };

static _Noreturn void bad(const char *what) {
    fprintf(stderr, "oracle_dump: %s\n", what);
    exit(1);
}

static double *doubles(int64_t n, FILE *f) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    if (!p || n < 0 || (f && fread(p, sizeof *p, (size_t)n, f) != (size_t)n)) bad("the file is too short");
    return p;
}

static int32_t *integers(int64_t n, FILE *f) {
    double *d = doubles(n, f);
    int32_t *p = calloc((size_t)n + 1, sizeof *p);
    if (!p) bad("out of memory");
    for (int64_t i = 0; i < n; i++) p[i] = (int32_t)d[i];
    free(d);
    return p;
}

typedef struct input {
    bool is_llama;
    oracle_llama_t llama;
    oracle_gpt2_t gpt2;
    oracle_tensor_t *tensor;
    int64_t n_tensors, n_tokens, n_seqs;
} input_t;

static void read_llama(const char *line, oracle_llama_t *c) {
    long long n[7];
    int attention_bias, mlp_bias, tied, type;
    oracle_rope_t rope;
    if (sscanf(line, "llama %lld %lld %lld %lld %lld %lld %lld %lf %d %d %d %d %lf %lf %lf %lf %lf", &n[0], &n[1],
               &n[2], &n[3], &n[4], &n[5], &n[6], &c->eps, &attention_bias, &mlp_bias, &tied, &type, &rope.theta,
               &rope.factor, &rope.low, &rope.high, &rope.original_context) != 17)
        bad("the llama line is wrong");
    c->vocab = n[0], c->hidden = n[1], c->layers = n[2], c->heads = n[3], c->kv_heads = n[4], c->head_dim = n[5];
    c->ff = n[6];
    c->attention_bias = attention_bias, c->mlp_bias = mlp_bias, c->tied = tied;
    rope.type = (oracle_rope_type_t)type;
    double *inv_freq = doubles(c->head_dim / 2, NULL);
    oracle_rope_frequencies(&rope, c->head_dim, inv_freq);
    c->inv_freq = inv_freq;
}

static void read_gpt2(const char *line, oracle_gpt2_t *c) {
    long long n[6];
    int tied;
    if (sscanf(line, "gpt2 %lld %lld %lld %lld %lld %lld %lf %d", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &c->eps,
               &tied) != 8)
        bad("the gpt2 line is wrong");
    c->vocab = n[0], c->positions = n[1], c->hidden = n[2], c->layers = n[3], c->heads = n[4], c->ff = n[5];
    c->tied = tied;
}

static void read_header(FILE *f, input_t *in) {
    char line[512], name[256];
    long long count, seqs;
    double scale;
    while (fgets(line, sizeof line, f) && strcmp(line, "data\n")) {
        if (!strncmp(line, "llama ", 6)) {
            in->is_llama = true;
            read_llama(line, &in->llama);
        } else if (!strncmp(line, "gpt2 ", 5)) {
            read_gpt2(line, &in->gpt2);
        } else if (sscanf(line, "tensor %255s %lld %lf", name, &count, &scale) == 3) {
            if (in->n_tensors == MAX_TENSORS) bad("too many tensors");
            in->tensor[in->n_tensors++] = (oracle_tensor_t){strdup(name), count, NULL, doubles(count, NULL), scale};
        } else if (sscanf(line, "tokens %lld %lld", &count, &seqs) == 2) {
            in->n_tokens = count, in->n_seqs = seqs;
        } else {
            bad("a line is not understood");
        }
    }
}

static void put(const double *p, int64_t n, FILE *f) {
    if (fwrite(p, sizeof *p, (size_t)n, f) != (size_t)n) bad("cannot write");
}

int main(int argc, char **argv) {
    if (argc != 3) bad("usage: oracle_dump IN OUT");
    FILE *f = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!f || !out) bad("cannot open the files");
    input_t in = {.tensor = calloc(MAX_TENSORS, sizeof *in.tensor)};
    if (!in.tensor) bad("out of memory");
    read_header(f, &in);
    for (int64_t i = 0; i < in.n_tensors; i++) in.tensor[i].value = doubles(in.tensor[i].count, f);

    int32_t *ids = integers(in.n_tokens, f), *ends = integers(in.n_seqs + 1, f), *targets = integers(in.n_tokens, f);
    double *weights = doubles(in.n_tokens, f);
    const oracle_batch_t batch = {in.n_tokens, in.n_seqs, ids, ends, targets, weights, NULL, NULL};
    const oracle_weights_t w = {in.tensor, in.n_tensors};
    int64_t n_logits = in.n_tokens * (in.is_llama ? in.llama.vocab : in.gpt2.vocab);
    oracle_result_t r = {.logits = doubles(n_logits, NULL)};
    if (in.is_llama)
        oracle_llama_run(&in.llama, &w, &batch, &r);
    else
        oracle_gpt2_run(&in.gpt2, &w, &batch, &r);

    put(&r.loss_sum, 1, out);
    put(&r.weight_sum, 1, out);
    put(r.logits, n_logits, out);
    for (int64_t i = 0; i < in.n_tensors; i++) put(in.tensor[i].grad, in.tensor[i].count, out);
    if (fclose(out)) bad("cannot write");
    fclose(f);
    return 0;
}
