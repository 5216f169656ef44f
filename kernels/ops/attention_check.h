/* What both attention ops ask of their inputs. *local* */
#pragma once
#include "kernels/ops/check.h"

/* Heads, queries, keys, values and cu_seqlens: in[0..3] of either op. */
status_t attention_check(const char *op, int64_t heads, int64_t kv_heads, int64_t head_dim, const view_t *in);

/* The optional prefix[0..2] (keys, values, cu_prefix): all three or none, shaped like the keys and cu_seqlens of `in`.
 */
status_t attention_check_prefix(const char *op, const view_t *in, const view_t *prefix);
