/* Cases of products around the sizes of tiles, chunks and pieces: ranks up to and beyond those of tensor cores, rows
 * that are no whole pieces of 16 bytes. */
#include "kernels/ops/lowrank.h"
#include "tests/op/case_macros.h"

static const lowrank_attr_t plain = {0.5, 0.0, 1}, dropped = {2.0, 0.3, 2};
static const uint64_t keys[600] = {9, 8, 7, (uint64_t)3 << 32, [300] = 11, [599] = (uint64_t)4 << 33};

#define LINEAR(label, n, k, m, bias) CASE(OP_LINEAR, NULL, label, false, R2(n, k), R2(m, k), bias)
#define LOWRANK(attr, label, n, k, m, r)                                                                               \
    CASE(OP_LOWRANK, attr, label, true, R2(n, m), R2(n, k), R2(r, k), R2(m, r), K1(n, keys))

static const op_case_t cases[] = {
    LINEAR("linear, one number", 1, 1, 1, R1(1)),
    LINEAR("linear, odd inputs", 9, 15, 16, R1(16)),
    LINEAR("linear, odd outputs", 66, 16, 13, R1(13)),
    LINEAR("linear, many rows", 300, 8, 8, R1(8)),
    LOWRANK(&plain, "lowrank, rank 1", 5, 33, 7, 1),
    LOWRANK(&dropped, "lowrank, rank 3", 37, 70, 41, 3),
    LOWRANK(&dropped, "lowrank, many rows", 600, 16, 24, 8),
    LOWRANK(&plain, "lowrank, long rows", 3, 310, 270, 5),
    LOWRANK(&dropped, "lowrank, long even rows", 19, 320, 264, 17),
    LOWRANK(&dropped, "lowrank, rank 64", 33, 72, 40, 64),
    LOWRANK(&dropped, "lowrank, rank 80", 20, 24, 16, 80),
    LOWRANK(&plain, "lowrank, rank 80, odd", 9, 7, 5, 80),
};
const op_cases_t op_cases_products = {cases, sizeof cases / sizeof *cases};
