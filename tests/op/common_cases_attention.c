/* Attention with and without prefixes: shared key heads, sequences without tokens, without prefix rows, without either,
 * several blocks of queries, more prefix rows than tokens, many key heads in all and few. */
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "tests/op/case_macros.h"

static const attention_attr_t one_head = {1, 1, 4, 0.5}, grouped = {3, 1, 5, 0.7}, many = {4, 2, 8, 0.35},
                              wide = {6, 2, 20, 0.2};
static const int32_t cu_one[] = {0, 1}, cu_none[] = {0}, cu_empty[] = {0, 0, 0}, cu_two[] = {0, 4, 9},
                     cu_block[] = {0, 70, 71};
static const int32_t cu_mixed[] = {0, 3, 3, 4, 9, 9}, cu_long[] = {0, 130, 131, 200};
static const int32_t prefix_one[] = {0, 3}, prefix_two[] = {0, 130, 131}, prefix_last[] = {0, 0, 2};
static const int32_t prefix_mixed[] = {0, 2, 5, 5, 6, 8}, prefix_zero[6], prefix_long[] = {0, 70, 70, 100};
static const int32_t cu_many[] = {0, 22, 22, 30, 97, 114}, prefix_many[] = {0, 20, 23, 23, 88, 89};

static const attention_cached_attr_t cached = {3, 1, 5, 12, 0.7}, cached_long = {4, 2, 8, 200, 0.35};
static const int32_t past[] = {0, 6, 11, 2, 0}, cu_cached[] = {0, 3, 3, 4, 9, 12}, past_long[] = {70, 0};
static const int32_t cu_cached_long[] = {0, 70, 71};
static const int32_t prefix_cached[] = {0, 2, 4, 4, 7, 11}, prefix_cached_long[] = {0, 25, 95};

static const op_case_t cases[] = {
    CASE(OP_ATTENTION, &one_head, "attention, one token", false, R2(1, 4), R2(1, 4), R2(1, 4), I1(2, cu_one)),
    CASE(OP_ATTENTION, &one_head, "attention", false, R2(9, 4), R2(9, 4), R2(9, 4), I1(3, cu_two)),
    CASE(OP_ATTENTION, &one_head, "attention, no sequence", false, R2(0, 4), R2(0, 4), R2(0, 4), I1(1, cu_none)),
    CASE(OP_ATTENTION, &one_head, "attention, empty only", false, R2(0, 4), R2(0, 4), R2(0, 4), I1(3, cu_empty)),
    CASE(OP_ATTENTION, &grouped, "attention, three heads a key", false, R2(9, 15), R2(9, 5), R2(9, 5), I1(6, cu_mixed)),
    CASE(OP_ATTENTION, &many, "attention, several blocks", false, R2(200, 32), R2(200, 16), R2(200, 16),
         I1(4, cu_long)),
    CASE(OP_ATTENTION, &one_head, "attention, prefix, one token", false, R2(1, 4), R2(1, 4), R2(1, 4), I1(2, cu_one),
         R2(3, 4), R2(3, 4), I1(2, prefix_one)),
    CASE(OP_ATTENTION, &one_head, "attention, long prefix", false, R2(71, 4), R2(71, 4), R2(71, 4), I1(3, cu_block),
         R2(131, 4), R2(131, 4), I1(3, prefix_two)),
    CASE(OP_ATTENTION, &one_head, "attention, prefix, no sequence", false, R2(0, 4), R2(0, 4), R2(0, 4), I1(1, cu_none),
         R2(0, 4), R2(0, 4), I1(1, cu_none)),
    CASE(OP_ATTENTION, &one_head, "attention, prefix, empty only", false, R2(0, 4), R2(0, 4), R2(0, 4), I1(3, cu_empty),
         R2(2, 4), R2(2, 4), I1(3, prefix_last)),
    CASE(OP_ATTENTION, &grouped, "attention, prefix, three heads a key", false, R2(9, 15), R2(9, 5), R2(9, 5),
         I1(6, cu_mixed), R2(8, 5), R2(8, 5), I1(6, prefix_mixed)),
    CASE(OP_ATTENTION, &grouped, "attention, prefix without rows", false, R2(9, 15), R2(9, 5), R2(9, 5),
         I1(6, cu_mixed), R2(0, 5), R2(0, 5), I1(6, prefix_zero)),
    CASE(OP_ATTENTION, &many, "attention, prefix, several blocks", false, R2(200, 32), R2(200, 16), R2(200, 16),
         I1(4, cu_long), R2(100, 16), R2(100, 16), I1(4, prefix_long)),
    CASE(OP_ATTENTION, &wide, "attention, many key heads", false, R2(114, 120), R2(114, 40), R2(114, 40),
         I1(6, cu_many)),
    CASE(OP_ATTENTION, &wide, "attention, prefix, many key heads", false, R2(114, 120), R2(114, 40), R2(114, 40),
         I1(6, cu_many), R2(89, 40), R2(89, 40), I1(6, prefix_many)),
    CASE(OP_ATTENTION_CACHED, &cached, "attention_cached", false, R2(12, 15), R2(12, 5), R2(12, 5), I1(6, cu_cached),
         I1(5, past), R3(2, 72, 5)),
    CASE(OP_ATTENTION_CACHED, &cached_long, "attention_cached, blocks", false, R2(71, 32), R2(71, 16), R2(71, 16),
         I1(3, cu_cached_long), I1(2, past_long), R3(2, 400, 16)),
    CASE(OP_ATTENTION_CACHED, &cached, "attention_cached, none", false, R2(0, 15), R2(0, 5), R2(0, 5), I1(1, cu_none),
         I1(0, past), R3(2, 12, 5)),
    CASE(OP_ATTENTION_CACHED, &cached, "attention_cached, prefix", false, R2(12, 15), R2(12, 5), R2(12, 5),
         I1(6, cu_cached), I1(5, past), R3(2, 72, 5), R2(11, 5), R2(11, 5), I1(6, prefix_cached)),
    CASE(OP_ATTENTION_CACHED, &cached_long, "attention_cached, prefix, blocks", false, R2(71, 32), R2(71, 16),
         R2(71, 16), I1(3, cu_cached_long), I1(2, past_long), R3(2, 400, 16), R2(95, 16), R2(95, 16),
         I1(3, prefix_cached_long)),
    CASE(OP_ATTENTION_CACHED, &cached, "attention_cached, prefix, none", false, R2(0, 15), R2(0, 5), R2(0, 5),
         I1(1, cu_none), I1(0, past), R3(2, 12, 5), R2(0, 5), R2(0, 5), I1(1, cu_none)),
};
const op_cases_t op_cases_attention = {cases, sizeof cases / sizeof *cases};
