#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "data/tokenizer_impl.h"

static uint64_t mix(uint64_t k) {
    k ^= k >> 33;
    k *= 0xff51afd7ed558ccdULL;
    k ^= k >> 33;
    k *= 0xc4ceb9fe1a85ec53ULL;
    return k ^ k >> 33;
}

static uint64_t pair_slot(const pairmap_t *m, uint64_t key) {
    uint64_t slot = mix(key) & m->mask;
    while (m->key[slot] != UINT64_MAX && m->key[slot] != key) slot = (slot + 1) & m->mask;
    return slot;
}

static status_t pairmap_grow(pairmap_t *m) {
    pairmap_t bigger = {.mask = m->mask ? m->mask * 2 + 1 : 63, .used = m->used};
    void *key = NULL, *val = NULL;
    TRY(buf_calloc(&key, (int64_t)bigger.mask + 1, sizeof(uint64_t), "tokenizer table"));
    status_t st = buf_calloc(&val, (int64_t)bigger.mask + 1, sizeof(uint32_t[2]), "tokenizer table");
    if (st != ST_OK) {
        free(key);
        return st;
    }
    bigger.key = key;
    bigger.val = val;
    memset(key, 0xff, ((size_t)bigger.mask + 1) * sizeof(uint64_t));
    for (uint64_t i = 0; m->mask && i <= m->mask; i++) {
        if (m->key[i] == UINT64_MAX) continue;
        uint64_t slot = pair_slot(&bigger, m->key[i]);
        bigger.key[slot] = m->key[i];
        memcpy(bigger.val[slot], m->val[i], sizeof m->val[i]);
    }
    free(m->key);
    free(m->val);
    *m = bigger;
    return ST_OK;
}

status_t pairmap_set(pairmap_t *m, uint64_t key, uint32_t a, uint32_t b) {
    if (!m->mask || (uint64_t)m->used * 2 > m->mask) TRY(pairmap_grow(m));
    uint64_t slot = pair_slot(m, key);
    if (m->key[slot] == UINT64_MAX) m->used++;
    m->key[slot] = key;
    m->val[slot][0] = a;
    m->val[slot][1] = b;
    return ST_OK;
}

const uint32_t *pairmap_get(const pairmap_t *m, uint64_t key) {
    if (!m->mask) return NULL;
    uint64_t slot = pair_slot(m, key);
    return m->key[slot] == UINT64_MAX ? NULL : m->val[slot];
}

void pairmap_release(pairmap_t *m) {
    free(m->key);
    free(m->val);
    *m = (pairmap_t){0};
}

static uint64_t text_slot(const tok_vocab_t *v, const char *s, size_t n) {
    uint64_t slot = XXH64(s, n, 0) & v->mask;
    for (; v->slot[slot]; slot = (slot + 1) & v->mask) {
        const tok_entry_t *e = &v->entry[v->slot[slot] - 1];
        if (e->len == n && memcmp(v->text.data + e->off, s, n) == 0) break;
    }
    return slot;
}

const tok_entry_t *vocab_find(const tok_vocab_t *v, const char *s, size_t n) {
    if (!v->mask) return NULL;
    uint64_t slot = text_slot(v, s, n);
    return v->slot[slot] ? &v->entry[v->slot[slot] - 1] : NULL;
}

int32_t vocab_model_id(const tok_vocab_t *v, const char *s, size_t n) {
    const tok_entry_t *e = vocab_find(v, s, n);
    return e && e->in_model ? e->id : -1;
}

const tok_entry_t *vocab_at(const tok_vocab_t *v, int64_t id) {
    return id >= 0 && id < v->ids && v->by_id[id] >= 0 ? &v->entry[v->by_id[id]] : NULL;
}

static status_t vocab_rehash(tok_vocab_t *v) {
    uint64_t mask = v->mask ? v->mask * 2 + 1 : 255;
    void *slot = NULL;
    TRY(buf_calloc(&slot, (int64_t)mask + 1, sizeof(uint32_t), "vocabulary"));
    free(v->slot);
    v->slot = slot;
    v->mask = mask;
    for (int64_t i = 0; i < v->count; i++) {
        const tok_entry_t *e = &v->entry[i];
        v->slot[text_slot(v, v->text.data + e->off, e->len)] = (uint32_t)i + 1;
    }
    return ST_OK;
}

status_t vocab_add(tok_vocab_t *v, const char *s, size_t n, int32_t id, bool in_model, bool special) {
    if ((uint64_t)v->count * 2 >= v->mask) TRY(vocab_rehash(v));
    TRY(buf_reserve((void **)&v->entry, &v->cap, v->count + 1, sizeof *v->entry, "vocabulary"));
    TRY(buf_reserve((void **)&v->by_id, &v->ids_cap, (int64_t)id + 1, sizeof *v->by_id, "vocabulary"));
    uint64_t slot = text_slot(v, s, n);
    tok_entry_t e = {v->text.len, n, id, in_model, special};
    TRY(strbuf_add(&v->text, s, n));
    v->entry[v->count] = e;
    v->slot[slot] = (uint32_t)v->count + 1;
    while (v->ids <= id) v->by_id[v->ids++] = -1;
    v->by_id[id] = (int32_t)v->count++;
    v->model_count += in_model;
    return ST_OK;
}

void vocab_release(tok_vocab_t *v) {
    strbuf_release(&v->text);
    free(v->entry);
    free(v->slot);
    free(v->by_id);
    *v = (tok_vocab_t){0};
}
