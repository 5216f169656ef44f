/* The inside of a gguf_t, shared by gguf.c (file and tensors) and gguf_kv.c (metadata), and the type ids
 * for gguf_write.c; not for other files.
 * Metadata values stay in the mapping; keys and tensor names are copied, because the file does not end them with NUL.
 */
#pragma once
#include <stdbool.h>
#include "data/gguf.h"
#include "data/mapping.h"
#include "data/name_index.h"

/* name in the file, id, bytes of one element (0: variable) */
#define KV_TYPE_LIST(X)                                                                                                \
    X(KV_U8, 0, 1)                                                                                                     \
    X(KV_I8, 1, 1)                                                                                                     \
    X(KV_U16, 2, 2)                                                                                                    \
    X(KV_I16, 3, 2)                                                                                                    \
    X(KV_U32, 4, 4)                                                                                                    \
    X(KV_I32, 5, 4)                                                                                                    \
    X(KV_F32, 6, 4)                                                                                                    \
    X(KV_BOOL, 7, 1)                                                                                                   \
    X(KV_STR, 8, 0)                                                                                                    \
    X(KV_ARR, 9, 0)                                                                                                    \
    X(KV_U64, 10, 8)                                                                                                   \
    X(KV_I64, 11, 8)                                                                                                   \
    X(KV_F64, 12, 8)

#define KV_ENUM(name, id, bytes) name = id,
typedef enum kv_type { KV_TYPE_LIST(KV_ENUM) KV_TYPE_COUNT } kv_type_t;
#undef KV_ENUM

typedef struct kv {
    char *key;
    kv_type_t type; /* of the elements when is_array */
    bool is_array;
    int64_t count;     /* elements; 1 for a scalar */
    const uint8_t *at; /* first element, unaligned; for strings the u64 length */
    uint64_t *string;  /* string arrays: where each one starts, relative to `at`; else NULL */
} kv_t;

struct gguf {
    char *path;
    mapping_t map;
    size_t pos; /* next byte to parse, <= map.size */
    kv_t *kv;
    int64_t kv_count; /* the entries that are filled, as for tensor_count */
    name_index_t kv_index;
    tensor_info_t *tensor;
    int64_t tensor_count;
    name_index_t tensor_index;
};

/* Raises ST_INPUT for this file: "PATH: WHERE: WHAT; ...". */
status_t gguf_bad(const gguf_t *g, const char *where, const char *what);
/* Take the next bytes; ST_INPUT past the end of the file. WHERE names what is being read. */
status_t gguf_take(gguf_t *g, const char *where, void *out, size_t n);
status_t gguf_take_name(gguf_t *g, const char *where, size_t most, char **out); /* owned; valid UTF-8 without NUL */
/* Parses N key-value pairs at the present position. */
status_t gguf_parse_kv(gguf_t *g, int64_t n);
