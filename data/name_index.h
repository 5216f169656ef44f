/* A hash index from names to positions 0..n-1. The names stay with the caller and must outlive the index. *local* */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"

typedef struct name_index {
    const char **name; /* by slot; NULL: free */
    int64_t *value;
    uint64_t mask; /* slots - 1; a zeroed struct is an index that holds nothing */
} name_index_t;

status_t name_index_create(int64_t capacity, name_index_t *out); /* room for `capacity` names */
void name_index_release(name_index_t *x);
/* Files NAME under VALUE and returns -1, or returns the value it already has (and changes nothing). */
int64_t name_index_add(name_index_t *x, const char *name, int64_t value);
int64_t name_index_find(const name_index_t *x, const char *name); /* -1 if absent */
