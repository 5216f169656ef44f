/* A tokenizer for tests: a byte is its own id; the special tokens below are found in the text. */
#pragma once
#include <stdbool.h>
#include "data/encoder.h"

enum { BYTE_BOS = 256, BYTE_EOS, BYTE_IM_START, BYTE_IM_END, BYTE_BEGIN, BYTE_HEADER, BYTE_END_HEADER, BYTE_EOT };

encoder_t bytes_encoder(bool with_bos); /* with BYTE_BOS as the prefix, or with none */
