#include "data/name_index.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "kernels/buf.h"

status_t name_index_create(int64_t capacity, name_index_t *out) {
    int64_t slots = 16;
    while (slots < capacity * 2) slots *= 2; /* at most half full: probes stay short and always end */
    void *name = NULL, *value = NULL;
    TRY(buf_calloc(&name, slots, sizeof(const char *), "name index"));
    status_t st = buf_calloc(&value, slots, sizeof(int64_t), "name index");
    if (st != ST_OK) {
        free(name);
        return st;
    }
    *out = (name_index_t){name, value, (uint64_t)slots - 1};
    return ST_OK;
}

void name_index_release(name_index_t *x) {
    free(x->name);
    free(x->value);
    *x = (name_index_t){0};
}

static uint64_t slot_of(const name_index_t *x, const char *name) {
    uint64_t slot = XXH64(name, strlen(name), 0) & x->mask;
    while (x->name[slot] && strcmp(x->name[slot], name) != 0) slot = (slot + 1) & x->mask;
    return slot;
}

int64_t name_index_add(name_index_t *x, const char *name, int64_t value) {
    uint64_t slot = slot_of(x, name);
    if (x->name[slot]) return x->value[slot];
    x->name[slot] = name;
    x->value[slot] = value;
    return -1;
}

int64_t name_index_find(const name_index_t *x, const char *name) {
    if (!x->mask) return -1;
    uint64_t slot = slot_of(x, name);
    return x->name[slot] ? x->value[slot] : -1;
}
