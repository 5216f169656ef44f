/* Conditional pretraining: what stands before and behind a document, rendered from its metadata.
 *
 * A template is a list of slots of which exactly one is the document. Every other slot has either a text with
 * fields in braces, {domain} ({{ and }} are braces), or a choice between two texts by a number in the metadata:
 *
 *   prefix (BOS or nothing) | slots before the document | body | slots behind it
 *
 * Slots are tokenised one by one and joined, so a document's own tokens do not depend on them. A field takes a
 * string, a number or a boolean, printed as JSON prints it (0.1, 1e-05, true). A slot without a loss has weight 0; the
 * first token of the body keeps its weight and is predicted from the slot in front of it. MeCo (Gao et al. 2025):
 * {"URL: {domain}\n\n", no loss}; CTRL (Keskar et al. 2019): a code before every piece; PHF (Korbak et al. 2023): a
 * token chosen by a threshold, dropped now and then.
 *
 * Dropout leaves a slot out of a sequence. It depends on (seed, slot, place of the sequence in the stream) alone:
 * packing, ranks and a resume change nothing. A template is read-only once opened; all functions are *local* and
 * thread-safe, and condition_render takes no memory once its buffers are warm, but for the JSON object it is given. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "data/encoder.h"
#include "data/render.h"

struct json_t; /* jansson.h */

enum { CONDITION_MAX_SLOTS = 16 };

typedef enum slot_kind { SLOT_METADATA, SLOT_CONTROL, SLOT_DOCUMENT, SLOT_SUFFIX, SLOT_KIND_COUNT } slot_kind_t;
typedef enum slot_missing { MISSING_ERROR, MISSING_SKIP } slot_missing_t;

/* A number in the metadata and a limit, which belongs to both sides: at_most 0 holds for 0. */
typedef struct threshold {
    const char *field; /* NULL: none */
    bool at_least;     /* else at most */
    double limit;
} threshold_t;

/* Whether the object's number keeps the limit; *known is false when the field is missing or null. `as_text` takes text
 * that is a number, too. ST_INPUT without a place: another type. */
status_t threshold_test(const threshold_t *t, const struct json_t *object, bool as_text, bool *known, bool *holds);

/* One slot as it is written. */
typedef struct condition_slot {
    slot_kind_t kind;
    const char *text; /* "{text}" in the document slot; NULL where the choice decides */
    threshold_t choose;
    const char *then, *otherwise; /* of the choice; otherwise NULL: nothing */
    bool loss;
    double dropout;         /* 0 .. 1 */
    slot_missing_t missing; /* what happens to a document without a field */
} condition_slot_t;

const char *slot_kind_name(slot_kind_t k);

/* Checks one slot, and a whole template. ST_USAGE without a place. */
status_t condition_check_slot(const condition_slot_t *slot);
status_t condition_check(const condition_slot_t *slots, int n);

/* How a template is used. */
typedef struct condition_use {
    uint64_t seed;      /* of dropout */
    bool document_only; /* loss on the document alone, whatever the slots say: losses stay comparable */
    /* Fields that a user gives instead of a document's own; borrowed; NULL: the documents' own. Slots without a field
     * here and slots behind the document are then left out, and numbers may be texts. */
    const struct json_t *given;
} condition_use_t;

typedef struct condition condition_t;

/* Strings are copied. ST_USAGE as condition_check. */
status_t condition_open(const condition_slot_t *slots, int n, const condition_use_t *use, condition_t **out);
void condition_close(condition_t *c); /* NULL is fine */

/* The fields that the template reads, each once; NULL behind the last. */
const char *condition_field(const condition_t *c, int i);
float condition_document_weight(const condition_t *c); /* 1, or 0 when the document is without a loss */

/* The slots of one document; zero is valid and empty. Slot k has ids[start[k] .. start[k+1]), the document slot none.
 */
typedef struct condition_tokens {
    i32buf_t ids;
    int64_t start[CONDITION_MAX_SLOTS + 1];
    strbuf_t text; /* work space */
} condition_tokens_t;

void condition_tokens_release(condition_tokens_t *t);

/* Replaces `out` by the slots of a document with this metadata. ST_INPUT without a place: a field is missing or has a
 * type that a text cannot take. */
status_t condition_render(const condition_t *c, const encoder_t *e, const struct json_t *object,
                          condition_tokens_t *out);
int64_t condition_head(const condition_t *c, const condition_tokens_t *t); /* tokens before the document */
int64_t condition_loss(const condition_t *c, const condition_tokens_t *t); /* tokens of slots with a loss */
/* Whether the first token of all stands before the document and has a loss. */
bool condition_first_weighs(const condition_t *c, const condition_tokens_t *t);

/* Whether slot k is left out of the sequence at this place of the stream; never for place -1. */
bool condition_drops(const condition_t *c, int k, int64_t place);
bool condition_given(const condition_t *c); /* the fields come from a user */
/* Append the slots before and behind the document with their weights, without those that are dropped. */
status_t condition_add_head(const condition_t *c, const condition_tokens_t *t, int64_t place, sequence_t *out);
status_t condition_add_tail(const condition_t *c, const condition_tokens_t *t, int64_t place, sequence_t *out);
