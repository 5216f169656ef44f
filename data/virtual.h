/* Virtual tokens: what methods put into every sequence beside its own tokens, and the labels by which an example
 * chooses among them. The data layer knows no method: a method adds groups to a layout when it is opened, and batches
 * are made by it.
 *
 * Two kinds of rows exist, numbered apart, each from 0 over all groups of the layout: slots are rows of the sequence
 * whose embedding comes from a table; prefix rows have no place among the tokens but are keys and values of every
 * layer. A group adds `count` rows to every sequence: rows first .. first+count, or, with a field, the block of the
 * example's label, rows first + label * count ... Every sequence therefore has the same number of virtual tokens.
 * Positions count virtual tokens: prefix rows take the first ones, then the rows of the sequence follow as they stand
 * (PEFT's positions). All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/status.h"

enum { VIRTUAL_MAX_GROUPS = 16, VIRTUAL_MAX_FIELDS = 8 };

typedef enum virtual_place {
    VIRTUAL_PREFIX,       /* prefix rows */
    VIRTUAL_FIRST,        /* slots in front of everything, BOS included (PEFT) */
    VIRTUAL_AFTER_BOS,    /* slots behind the tokenizer's prefix */
    VIRTUAL_AFTER_PROMPT, /* slots between prompt and completion; documents: as VIRTUAL_AFTER_BOS */
} virtual_place_t;

typedef struct virtual_group {
    virtual_place_t place;
    int32_t first, count;
    int field;       /* index in layout.field, -1: the same rows for every example */
    int32_t missing; /* first row for an example without a known label; -1: such an example is an error */
} virtual_group_t;

typedef struct virtual_field {
    char *name;   /* of the example's JSON field */
    char **value; /* [n] the labels */
    int n;
    bool optional; /* no or an unknown label is legal: label -1 */
} virtual_field_t;

/* Zero is valid and empty. */
typedef struct virtual_layout {
    virtual_group_t group[VIRTUAL_MAX_GROUPS];
    int n_group;
    virtual_field_t field[VIRTUAL_MAX_FIELDS];
    int n_field;
    int32_t slot_rows, prefix_rows; /* numbers given away so far */
} virtual_layout_t;

void virtual_release(virtual_layout_t *v);
/* Copies the labels. Two methods that name one field must give it the same labels in the same order; ST_USAGE else,
 * and when there are too many fields. It is optional if both say so. *field is its index. */
status_t virtual_add_field(virtual_layout_t *v, const char *name, const char *const *value, int n, bool optional,
                           int *field);
/* Gives away `rows` numbers of the kind of `place` (all blocks and what `missing` needs); *first is the lowest. */
status_t virtual_reserve(virtual_layout_t *v, virtual_place_t place, int64_t rows, int32_t *first);
/* Adds a group whose rows were reserved. Groups of one place stand in the order they were added. One that has no rows
 * for examples without a label makes its field required. */
status_t virtual_add_group(virtual_layout_t *v, virtual_group_t g);
/* Virtual tokens of a sequence: those that are rows of it, and those of its prefix. */
int32_t virtual_slots(const virtual_layout_t *v);
int32_t virtual_prefix(const virtual_layout_t *v);
int32_t virtual_tokens(const virtual_layout_t *v); /* both together */
/* Slots at the front of every sequence (VIRTUAL_FIRST) that are the same whatever the example. Causal attention makes
 * them the same in every layer too, so that a batch may hold them once (batch_t.share). 0 when examples choose rows or
 * routes by a label. */
int32_t virtual_shared(const virtual_layout_t *v);
/* The index of a label, -1 if unknown. */
int32_t virtual_label(const virtual_field_t *f, const char *value);
