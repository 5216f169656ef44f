#include "kernels/cuda/gemm.h"
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace {

/* When the table is full, the choice of a further product is made again each time. BIAS_ROOM: a bias is copied there
 * when its type is not C's or its address is odd. */
enum { TABLE = 4096, FULL = TABLE * 3 / 4, BIAS_ROOM = 1 << 20 };
const uintptr_t ALIGNED = 16;

/* What a choice depends on. Compared as bytes, so it starts as zeroes. */
struct look_t {
    int64_t m, n, k, lda, ldb, ldc;
    uint8_t ta, tb, in, out, bias, align_a, align_b, align_c;
};

struct choice_t {
    look_t look;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    int32_t order; /* of first use, from 1; 0: the place is empty */
    bool own;      /* cuBLASLt has none */
};

struct state_t {
    cublasLtHandle_t handle;
    void *workspace; /* bytes of it, then the room for a bias */
    size_t bytes;
    int32_t used;
    char error[256];             /* "": none so far */
    char kind[192];              /* of device, and the version */
    choice_t table[TABLE], last; /* last: of a product that has no place in the table */
};

struct problem_t {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t first, second, out;
};

void keep_error(state_t *s, const char *what, cublasStatus_t status, const gemm_t *g) {
    if (s->error[0] || status == CUBLAS_STATUS_SUCCESS) return;
    snprintf(s->error, sizeof s->error, "%s of a product of [%lld,%lld]%s and [%lld,%lld]%s says %s", what,
             (long long)g->m, (long long)g->k, g->ta ? "^T" : "", (long long)g->k, (long long)g->n, g->tb ? "^T" : "",
             cublasLtGetStatusName(status));
}

cudaDataType_t type_of(dtype_t t) {
    return t == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* The largest power of two up to ALIGNED that divides the address. */
uint8_t alignment(const void *p) {
    uintptr_t low = (uintptr_t)p & (~(uintptr_t)p + 1);
    return (uint8_t)(low == 0 || low > ALIGNED ? ALIGNED : low);
}

look_t look_of(const gemm_t *g) {
    look_t l;
    memset(&l, 0, sizeof l);
    l.m = g->m;
    l.n = g->n;
    l.k = g->k;
    l.lda = g->lda ? g->lda : g->ta ? g->m : g->k;
    l.ldb = g->ldb ? g->ldb : g->tb ? g->k : g->n;
    l.ldc = g->ldc ? g->ldc : g->n;
    l.ta = g->ta;
    l.tb = g->tb;
    l.in = (uint8_t)g->a_type;
    l.out = (uint8_t)g->c_type;
    l.bias = g->bias != nullptr;
    l.align_a = alignment(g->a);
    l.align_b = alignment(g->b);
    l.align_c = alignment(g->c);
    return l;
}

/* Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T: B comes first. A row-major [rows, cols] is a
 * column-major [cols, rows] of the same stride. */
cublasStatus_t describe_problem(const look_t *l, problem_t *p) {
    cublasOperation_t first = l->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = l->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = l->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    cudaDataType_t in = type_of((dtype_t)l->in), out = type_of((dtype_t)l->out);
    cublasStatus_t s[] = {
        cublasLtMatmulDescInit(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out),
        cublasLtMatrixLayoutInit(&p->first, in, (uint64_t)(l->tb ? l->k : l->n), (uint64_t)(l->tb ? l->n : l->k),
                                 l->ldb),
        cublasLtMatrixLayoutInit(&p->second, in, (uint64_t)(l->ta ? l->m : l->k), (uint64_t)(l->ta ? l->k : l->m),
                                 l->lda),
        cublasLtMatrixLayoutInit(&p->out, out, (uint64_t)l->n, (uint64_t)l->m, l->ldc),
    };
    for (cublasStatus_t status : s)
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    return CUBLAS_STATUS_SUCCESS;
}

/* What the heuristic may choose from: the workspace that is there, sums split over k only in float, the addresses'
 * alignment. */
cublasStatus_t describe_preference(const state_t *s, const look_t *l, cublasLtMatmulPreferenceOpaque_t *p) {
    uint64_t bytes = s->bytes;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, first = l->align_b, second = l->align_a,
             out = l->align_c;
    cublasStatus_t all[] = {
        cublasLtMatmulPreferenceInit(p),
        cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes),
        cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction,
                                             sizeof reduction),
        cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &first, sizeof first),
        cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &second, sizeof second),
        cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &out, sizeof out),
        cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out, sizeof out),
    };
    for (cublasStatus_t status : all)
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    return CUBLAS_STATUS_SUCCESS;
}

/* Asks the heuristic; only the host works. */
void choose(state_t *s, const gemm_t *g, problem_t *p, choice_t *c) {
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t status = describe_preference(s, &c->look, &preference);
    if (status == CUBLAS_STATUS_SUCCESS) {
        memset(&found, 0, sizeof found);
        status = cublasLtMatmulAlgoGetHeuristic(s->handle, &p->desc, &p->first, &p->second, &p->out, &p->out,
                                                &preference, 1, &found, &count);
    }
    c->own = status == CUBLAS_STATUS_NOT_SUPPORTED || count == 0 || found.state != CUBLAS_STATUS_SUCCESS;
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) keep_error(s, "the heuristic", status, g);
    if (c->own) return;
    c->algo = found.algo;
    c->workspace = found.workspaceSize;
}

uint64_t hash_of(const look_t *l) {
    const unsigned char *byte = (const unsigned char *)l;
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *l; i++) h = (h ^ byte[i]) * 0x100000001b3u;
    return h;
}

/* The place of a look in the table; order 0: it has none yet. */
choice_t *place_of(state_t *s, const look_t *l) {
    uint64_t at = hash_of(l) % TABLE;
    while (s->table[at].order && memcmp(&s->table[at].look, l, sizeof *l) != 0) at = (at + 1) % TABLE;
    return &s->table[at];
}

/* The choice for g's look, made now if it is the first of its kind. */
const choice_t *choice_of(state_t *s, const gemm_t *g, const look_t *l, problem_t *p) {
    choice_t *c = place_of(s, l);
    if (c->order) return c;
    if (s->used == FULL) c = &s->last;
    c->look = *l;
    choose(s, g, p, c);
    if (c != &s->last) c->order = ++s->used;
    return c;
}

template <class FROM, class TO> __global__ void copy_bias(const FROM *from, int64_t count, TO *to) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = from_float<TO>(to_float(from[i]));
}

/* The bias in C's type and aligned. */
const void *bias_of(state_t *s, cudaStream_t stream, const gemm_t *g) {
    if (!g->bias || (g->bias_type == g->c_type && alignment(g->bias) == ALIGNED)) return g->bias;
    void *room = (char *)s->workspace + s->bytes;
    with_real(g->bias_type, [&](auto from) {
        with_real(g->c_type, [&](auto to) {
            using FROM = decltype(from);
            using TO = decltype(to);
            launch(stream, dim3((unsigned)cuda_parts(g->n, 256)), dim3(256), 0, copy_bias<FROM, TO>,
                   (const FROM *)g->bias, g->n, (TO *)room);
        });
    });
    return room;
}

bool for_library(const state_t *s, const gemm_t *g) {
    if (!s || g->k == 0 || g->a_type != g->b_type || (g->a_type == DT_F32 && g->c_type != DT_F32)) return false;
    return !g->bias || g->n * (int64_t)dtype_size(g->c_type) <= BIAS_ROOM;
}

/* False: cuBLASLt has no algorithm, and nothing was done. */
bool run_library(state_t *s, cudaStream_t stream, const gemm_t *g) {
    problem_t p;
    const look_t l = look_of(g);
    cublasStatus_t status = describe_problem(&l, &p);
    keep_error(s, "the description", status, g);
    if (status != CUBLAS_STATUS_SUCCESS) return true;
    const choice_t *c = choice_of(s, g, &l, &p);
    if (c->own) return false;
    const float alpha = g->alpha, beta = g->acc ? 1.0f : 0.0f;
    const void *bias = bias_of(s, stream, g);
    if (bias)
        keep_error(s, "the bias",
                   cublasLtMatmulDescSetAttribute(&p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias), g);
    status = cublasLtMatmul(s->handle, &p.desc, &alpha, g->b, &p.first, g->a, &p.second, &beta, g->c, &p.out, g->c,
                            &p.out, &c->algo, s->workspace, s->bytes, stream);
    keep_error(s, "cublasLtMatmul", status, g);
    return true;
}

int32_t config_of(const choice_t *c, cublasLtMatmulAlgoConfigAttributes_t what) {
    int32_t value = 0;
    size_t written;
    if (cublasLtMatmulAlgoConfigGetAttribute(&c->algo, what, &value, sizeof value, &written) != CUBLAS_STATUS_SUCCESS)
        return -1;
    return value;
}

const char OWN[] = "own kernel", CODE[] = " code";
enum { WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t) };

/* For people, then the algorithm itself, which the library promises to know again in the same version. */
int describe_choice(const choice_t *c, char *text, size_t size) {
    const look_t *l = &c->look;
    char how[320];
    snprintf(how, sizeof how, "%s", OWN);
    if (!c->own) {
        int n = snprintf(how, sizeof how, "algorithm %d tile %d stages %d split %d workspace %zu%s",
                         (int)config_of(c, CUBLASLT_ALGO_CONFIG_ID), (int)config_of(c, CUBLASLT_ALGO_CONFIG_TILE_ID),
                         (int)config_of(c, CUBLASLT_ALGO_CONFIG_STAGES_ID),
                         (int)config_of(c, CUBLASLT_ALGO_CONFIG_SPLITK_NUM), c->workspace, CODE);
        for (uint64_t word : c->algo.data)
            n += snprintf(how + n, sizeof how - (size_t)n, " %llx", (unsigned long long)word);
    }
    return snprintf(text, size, "%lld x %lld x %lld %c%c %s to %s%s, strides %lld %lld %lld, aligned to %d %d %d: %s\n",
                    (long long)l->m, (long long)l->n, (long long)l->k, l->ta ? 'T' : 'N', l->tb ? 'T' : 'N',
                    l->in == DT_BF16 ? "bf16" : "f32", l->out == DT_BF16 ? "bf16" : "f32", l->bias ? " bias" : "",
                    (long long)l->lda, (long long)l->ldb, (long long)l->ldc, l->align_a, l->align_b, l->align_c, how);
}

/* A line of describe_choice up to what was chosen, which *how then is; false: it is none. */
bool read_look(const char *line, look_t *l, const char **how) {
    long long m, n, k, lda, ldb, ldc;
    char ta, tb, in[8], out[16];
    int align_a, align_b, align_c, length = 0;
    if (sscanf(line, "%lld x %lld x %lld %c%c %7s to %15[^,], strides %lld %lld %lld, aligned to %d %d %d: %n", &m, &n,
               &k, &ta, &tb, in, out, &lda, &ldb, &ldc, &align_a, &align_b, &align_c, &length) != 13 ||
        !length)
        return false;
    memset(l, 0, sizeof *l);
    l->m = m;
    l->n = n;
    l->k = k;
    l->lda = lda;
    l->ldb = ldb;
    l->ldc = ldc;
    l->ta = ta == 'T';
    l->tb = tb == 'T';
    l->in = (uint8_t)(strcmp(in, "bf16") == 0 ? DT_BF16 : DT_F32);
    l->out = (uint8_t)(strncmp(out, "bf16", 4) == 0 ? DT_BF16 : DT_F32);
    l->bias = strstr(out, " bias") != nullptr;
    l->align_a = (uint8_t)align_a;
    l->align_b = (uint8_t)align_b;
    l->align_c = (uint8_t)align_c;
    *how = line + length;
    return true;
}

/* The algorithm in `how`, when it can do the product in the room that there is. */
bool read_algorithm(const state_t *s, const char *how, choice_t *c) {
    problem_t p;
    cublasLtMatmulHeuristicResult_t found;
    const char *at = strstr(how, CODE), *end = strchr(how, '\n');
    if (!at || (end && at > end)) return false;
    at += sizeof CODE - 1;
    for (uint64_t &word : c->algo.data) {
        char *next;
        word = strtoull(at, &next, 16);
        if (next == at) return false;
        at = next;
    }
    if (describe_problem(&c->look, &p) != CUBLAS_STATUS_SUCCESS) return false;
    cublasStatus_t status =
        cublasLtMatmulAlgoCheck(s->handle, &p.desc, &p.first, &p.second, &p.out, &p.out, &c->algo, &found);
    c->workspace = found.workspaceSize;
    return status == CUBLAS_STATUS_SUCCESS && found.state == CUBLAS_STATUS_SUCCESS && c->workspace <= s->bytes;
}

void adopt_line(state_t *s, const char *line) {
    choice_t c;
    const char *how;
    memset(&c, 0, sizeof c);
    if (!read_look(line, &c.look, &how)) return;
    choice_t *place = place_of(s, &c.look);
    if (place->order || s->used == FULL) return;
    c.own = strncmp(how, OWN, sizeof OWN - 1) == 0;
    if (!c.own && !read_algorithm(s, how, &c)) return;
    c.order = ++s->used;
    *place = c;
}

/* On another number of multiprocessors the heuristic would have chosen otherwise. */
void describe_kind(state_t *s, int ordinal) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, ordinal) != cudaSuccess) {
        (void)cudaGetLastError();
        strcpy(p.name, "unknown device");
        p.multiProcessorCount = 0;
    }
    snprintf(s->kind, sizeof s->kind, "%.120s, %d multiprocessors, cuBLASLt %zu", p.name, p.multiProcessorCount,
             cublasLtGetVersion());
}

} // namespace

/* cuBLASLt's Hopper kernels want 32 MiB, others 4 MiB. */
static size_t workspace_bytes(int ordinal) {
    int major = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal) != cudaSuccess) major = 0;
    return (size_t)(major >= 9 ? 32 : 4) << 20;
}

status_t gemm_open(device_t *d) {
    const char *where = "the products of a device";
    state_t *s = (state_t *)calloc(1, sizeof *s);
    if (!s) return st_raise(ST_NOMEM, where, "no memory for the table of products; free memory on the host");
    s->bytes = workspace_bytes(d->ordinal);
    cublasStatus_t status = cublasLtCreate(&s->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        free(s);
        return st_raise(ST_INTERNAL, where, "cublasLtCreate says %s; check that the driver fits this CUDA",
                        cublasLtGetStatusName(status));
    }
    if (cudaMalloc(&s->workspace, s->bytes + BIAS_ROOM) != cudaSuccess) {
        size_t bytes = s->bytes + BIAS_ROOM;
        (void)cublasLtDestroy(s->handle);
        free(s);
        return st_raise(ST_NOMEM, where, "no %zu bytes for the workspace; free memory on the device", bytes);
    }
    int current = 0;
    (void)cudaGetDevice(&current);
    describe_kind(s, current);
    d->gemm = s;
    return ST_OK;
}

void gemm_close(device_t *d) {
    state_t *s = (state_t *)d->gemm;
    if (!s) return;
    (void)cudaFree(s->workspace);
    (void)cublasLtDestroy(s->handle);
    free(s);
    d->gemm = nullptr;
}

void gemm_run(device_t *d, const gemm_t *g) {
    state_t *s = (state_t *)d->gemm;
    cudaStream_t stream = (cudaStream_t)d->stream;
    if (g->m == 0 || g->n == 0) return;
    if (!for_library(s, g) || !run_library(s, stream, g)) gemm_own(stream, g);
}

status_t gemm_check(const device_t *d, const char *where) {
    const state_t *s = (const state_t *)d->gemm;
    if (!s || !s->error[0]) return ST_OK;
    return st_raise(ST_INTERNAL, where, "%s; report this with the shapes", s->error);
}

size_t gemm_describe(const device_t *d, char *text, size_t size) {
    const state_t *s = (const state_t *)d->gemm;
    size_t length = 0;
    if (size) text[0] = 0;
    if (s && s->used) length = (size_t)snprintf(text, size, "%s\n", s->kind);
    for (int32_t order = 1; s && order <= s->used; order++)
        for (int i = 0; i < TABLE; i++)
            if (s->table[i].order == order) {
                size_t room = length < size ? size - length : 0;
                length += (size_t)describe_choice(&s->table[i], room ? text + length : nullptr, room);
            }
    return length;
}

bool gemm_adopt(device_t *d, const char *text) {
    state_t *s = (state_t *)d->gemm;
    size_t kind = s ? strlen(s->kind) : 0;
    if (!s || strncmp(text, s->kind, kind) != 0 || text[kind] != '\n') return false;
    for (const char *line = text + kind; line && line[1]; line = strchr(line + 1, '\n')) adopt_line(s, line + 1);
    return true;
}
