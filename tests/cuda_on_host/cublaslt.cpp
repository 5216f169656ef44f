#include <cublasLt.h>
#include <cuda_bf16.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

struct cublasLtContext {
    int unused;
};

/* A matrix of floats out of device memory: rows by cols, row-major. */
struct matrix_t {
    size_t rows, cols;
    std::vector<float> v;
};

enum { MARK = 0x67726166, ALGORITHMS = 2 }; /* MARK: of a chosen algorithm, whose number follows */

static size_t from_environment(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoul(text, NULL, 10) : otherwise;
}

size_t cublasLtGetVersion(void) {
    return from_environment("CUDA_ON_HOST_CUBLASLT", 120000);
}

const char *cublasLtGetStatusName(cublasStatus_t s) {
    return cublasLtGetStatusString(s);
}
const char *cublasLtGetStatusString(cublasStatus_t s) {
    switch (s) {
    case CUBLAS_STATUS_SUCCESS:
        return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "no memory";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "an argument is wrong";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "the execution failed";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "not supported";
    }
    return "unknown";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) {
    *h = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t d, cublasComputeType_t compute, cudaDataType_t scale) {
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
    *d = {compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL, -1};
    return CUBLAS_STATUS_SUCCESS;
}

/* Sets *field, of which the caller must know the size. */
static cublasStatus_t set_field(void *field, size_t have, const void *value, size_t size) {
    if (!value || size != have) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attr,
                                              const void *value, size_t size) {
    switch (attr) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set_field(&d->trans_a, sizeof d->trans_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set_field(&d->trans_b, sizeof d->trans_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set_field(&d->epilogue, sizeof d->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set_field(&d->bias, sizeof d->bias, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return set_field(&d->bias_type, sizeof d->bias_type, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t l, cudaDataType_t type, uint64_t rows, uint64_t cols,
                                        int64_t ld) {
    *l = {type, rows, cols, ld, CUBLASLT_ORDER_COL, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attr,
                                                const void *value, size_t size) {
    switch (attr) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set_field(&l->order, sizeof l->order, value, size);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set_field(&l->batches, sizeof l->batches, value, size);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set_field(&l->batch_stride, sizeof l->batch_stride, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t p) {
    *p = {0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attr, const void *value,
                                                    size_t size) {
    uint32_t unused;
    if (attr == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return set_field(&p->workspace, sizeof p->workspace, value, size);
    return set_field(&unused, sizeof unused, value, size);
}

/* ---- what the library accepts --------------------------------------------------------------------------------------
 */

static bool layout_is_right(const cublasLtMatrixLayout *l) {
    uint64_t least = l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols;
    return l->rows >= 1 && l->cols >= 1 && l->ld >= (int64_t)least && l->batches >= 1 &&
           (l->type == CUDA_R_32F || l->type == CUDA_R_16BF);
}

static cublasStatus_t check_product(const cublasLtMatmulDesc *d, const cublasLtMatrixLayout *a,
                                    const cublasLtMatrixLayout *b, const cublasLtMatrixLayout *c,
                                    const cublasLtMatrixLayout *to) {
    if (!layout_is_right(a) || !layout_is_right(b) || !layout_is_right(c) || !layout_is_right(to))
        return CUBLAS_STATUS_INVALID_VALUE;
    uint64_t m = d->trans_a ? a->cols : a->rows, k = d->trans_a ? a->rows : a->cols;
    uint64_t n = d->trans_b ? b->rows : b->cols, other_k = d->trans_b ? b->cols : b->rows;
    bool fits = k == other_k && to->rows == m && to->cols == n && c->rows == m && c->cols == n;
    bool batches = a->batches == to->batches && b->batches == to->batches && c->batches == to->batches;
    if (!fits || !batches) return CUBLAS_STATUS_INVALID_VALUE;
    int bias_type = d->bias_type < 0 ? to->type : d->bias_type;
    bool types = a->type == b->type && c->type == to->type && (to->type == a->type || to->type == CUDA_R_32F);
    bool bias = d->epilogue == CUBLASLT_EPILOGUE_DEFAULT ||
                (d->epilogue == CUBLASLT_EPILOGUE_BIAS && bias_type == to->type && to->order == CUBLASLT_ORDER_COL);
    return types && bias && c->order == to->order ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/* A row of bfloat16 that is not a whole number of 16-byte pieces finds nothing, as may be on a device. */
static bool has_algorithm(const cublasLtMatrixLayout *l) {
    return l->type != CUDA_R_16BF || l->ld % 8 == 0;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t to, cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found) {
    (void)p;
    *found = 0;
    if (!h || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t s = check_product(d, a, b, c, to);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    if (!has_algorithm(a) || !has_algorithm(b) || !has_algorithm(to)) return CUBLAS_STATUS_NOT_SUPPORTED;
    results[0] = {};
    results[0].algo.data[0] = MARK;
    results[0].algo.data[1] = from_environment("CUDA_ON_HOST_ALGORITHM", 0);
    if (results[0].algo.data[1] >= ALGORITHMS) return CUBLAS_STATUS_INVALID_VALUE;
    results[0].state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static bool is_algorithm(const cublasLtMatmulAlgo_t *algo) {
    return algo->data[0] == MARK && algo->data[1] < ALGORITHMS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t to,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result) {
    *result = {};
    result->state = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!h || !is_algorithm(algo)) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t s = check_product(d, a, b, c, to);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    if (!has_algorithm(a) || !has_algorithm(b) || !has_algorithm(to)) return CUBLAS_STATUS_NOT_SUPPORTED;
    result->state = CUBLAS_STATUS_SUCCESS;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attr, void *value, size_t size,
                                                    size_t *written) {
    if (!is_algorithm(algo) || size < sizeof(int32_t)) return CUBLAS_STATUS_INVALID_VALUE;
    const int32_t number = (int32_t)algo->data[1];
    const int32_t config = attr == CUBLASLT_ALGO_CONFIG_ID           ? number
                           : attr == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? number + 1
                                                                     : 0;
    memcpy(value, &config, sizeof config);
    *written = sizeof config;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product ---------------------------------------------------------------------------------------------------
 */

static size_t size_of(cudaDataType_t type) {
    return type == CUDA_R_16BF ? 2 : 4;
}

static float number_at(const void *p, cudaDataType_t type, size_t i) {
    return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)p)[i]) : ((const float *)p)[i];
}

static void number_put(void *p, cudaDataType_t type, size_t i, float value) {
    if (type == CUDA_R_16BF)
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(value);
    else
        ((float *)p)[i] = value;
}

static size_t place_of(const cublasLtMatrixLayout &l, size_t row, size_t col) {
    return l.order == CUBLASLT_ORDER_COL ? row + col * (size_t)l.ld : row * (size_t)l.ld + col;
}

static matrix_t load(const void *p, const cublasLtMatrixLayout &l, bool trans) {
    matrix_t m = {trans ? l.cols : l.rows, trans ? l.rows : l.cols, {}};
    m.v.resize(m.rows * m.cols);
    for (size_t r = 0; r < m.rows; r++)
        for (size_t c = 0; c < m.cols; c++)
            m.v[r * m.cols + c] = number_at(p, l.type, trans ? place_of(l, c, r) : place_of(l, r, c));
    return m;
}

/* sum[j] += a[i][k] b[k][j] over k from lo to hi. */
static void add_products(const matrix_t &a, size_t i, const matrix_t &b, size_t lo, size_t hi,
                         std::vector<float> &sum) {
    for (size_t k = lo; k < hi; k++)
        for (size_t j = 0; j < b.cols; j++) sum[j] += a.v[i * a.cols + k] * b.v[k * b.cols + j];
}

static void product(const cublasLtMatmulDesc &d, bool halves, float alpha, const void *pa,
                    const cublasLtMatrixLayout &la, const void *pb, const cublasLtMatrixLayout &lb, float beta,
                    const void *pc, const cublasLtMatrixLayout &lc, void *to, const cublasLtMatrixLayout &lt) {
    matrix_t a = load(pa, la, d.trans_a), b = load(pb, lb, d.trans_b);
    const size_t middle = halves ? a.cols / 2 : a.cols;
    for (size_t i = 0; i < a.rows; i++) {
        std::vector<float> sum(b.cols), rest(b.cols);
        add_products(a, i, b, 0, middle, sum);
        add_products(a, i, b, middle, a.cols, rest);
        for (size_t j = 0; j < b.cols; j++) {
            float v = alpha * (sum[j] + rest[j]);
            if (beta != 0) v += beta * number_at(pc, lc.type, place_of(lc, i, j));
            if (d.epilogue == CUBLASLT_EPILOGUE_BIAS) v += number_at(d.bias, lt.type, i);
            number_put(to, lt.type, place_of(lt, i, j), v);
        }
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *c, cublasLtMatrixLayout_t lc, void *to, cublasLtMatrixLayout_t lt,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    (void)workspace;
    (void)workspace_bytes;
    if (!h || !a || !b || !c || !to || (algo && !is_algorithm(algo))) return CUBLAS_STATUS_INVALID_VALUE;
    if (d->epilogue == CUBLASLT_EPILOGUE_BIAS && !d->bias) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t s = check_product(d, la, lb, lc, lt);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    if (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)to) % size_of(la->type))
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasLtMatmulDesc desc = *d;
    cublasLtMatrixLayout xa = *la, xb = *lb, xc = *lc, xt = *lt;
    float scale = *(const float *)alpha, keep = *(const float *)beta;
    const bool halves = algo && algo->data[1] == 1;
    on_host::enqueue(stream, [=] {
        for (int i = 0; i < xt.batches; i++)
            product(desc, halves, scale, (const char *)a + (size_t)(i * xa.batch_stride) * size_of(xa.type), xa,
                    (const char *)b + (size_t)(i * xb.batch_stride) * size_of(xb.type), xb, keep,
                    (const char *)c + (size_t)(i * xc.batch_stride) * size_of(xc.type), xc,
                    (char *)to + (size_t)(i * xt.batch_stride) * size_of(xt.type), xt);
    });
    return CUBLAS_STATUS_SUCCESS;
}
