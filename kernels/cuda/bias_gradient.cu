#include "kernels/cuda/bias_gradient.h"
#include "kernels/cuda/column_sums.cuh"

namespace {

template <class T> struct itself_t {
    const T *dy;
    int64_t cols;
    bool packed;
    __device__ void operator()(int64_t n, int64_t column, int64_t count, float (&v)[1][EIGHT]) const {
        load_eight(dy + n * cols + column, count, packed, v[0]);
    }
};

} // namespace

size_t bias_gradient_scratch(int64_t rows, int64_t cols) {
    return column_sums_scratch(rows, cols, 1);
}

void bias_gradient(cudaStream_t stream, dtype_t type, const void *dy, int64_t rows, int64_t cols, void *scratch,
                   bool acc, float *db) {
    float *const to[1] = {db};
    const bool add[1] = {acc};
    with_real(type, [&](auto one) {
        using T = decltype(one);
        const itself_t<T> term = {(const T *)dy, cols, cols % EIGHT == 0 && is_packed(dy)};
        column_sums(stream, rows, cols, term, scratch, to, add);
    });
}
