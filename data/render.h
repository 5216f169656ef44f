/* One JSON line of training data -> token ids and a weight for each.
 *
 * The layout of a rendered example is  prefix (BOS or nothing) | prompt | completion | EOS.  Prompt and completion are
 * tokenised separately and joined. weight[i] is the weight of predicting ids[i] from what stands before it; weight[0]
 * is 0 because nothing stands before it. All functions are *local* and thread-safe; errors are ST_INPUT and begin with
 * `where` ("path:line"; may be NULL for none). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "data/encoder.h"
#include "data/virtual.h"

typedef enum data_format {
    FORMAT_AUTO,              /* told from the fields of the line */
    FORMAT_TEXT,              /* {"text"}: a document, all tokens weigh 1 */
    FORMAT_PROMPT_COMPLETION, /* {"prompt","completion"} */
    FORMAT_CHAT,              /* {"messages":[{"role","content"}]} through a chat template */
    FORMAT_ALPACA,            /* {"instruction","input"?,"output"} in the Alpaca prompt */
    FORMAT_SHAREGPT,          /* {"conversations":[{"from":"system|human|gpt","value"}]}: as chat */
    FORMAT_COUNT
} data_format_t;

typedef enum chat_template {
    CHAT_NONE, /* chat data is an error */
    CHAT_CHATML,
    CHAT_LLAMA3,
    CHAT_ALPACA,
    CHAT_COUNT
} chat_template_t;

/* Names as in a configuration ("prompt-completion", "chatml"); find returns false for a name that is not in the list.
 */
const char *data_format_name(data_format_t f);
bool data_format_is_chat(data_format_t f); /* written through a chat template */
bool data_format_find(const char *name, data_format_t *out);
const char *chat_template_name(chat_template_t t);
bool chat_template_find(const char *name, chat_template_t *out);

typedef struct render_options {
    data_format_t format;
    chat_template_t chat_template;
    bool train_on_inputs;           /* prompts weigh 1, too */
    bool append_eos;                /* EOS after completions and documents (train, eval; score: false) */
    bool prompt_only;               /* generate: {"prompt"} alone is enough and a completion is left out */
    const virtual_layout_t *layout; /* its fields are read from the line; NULL: none */
    /* [layout->n_field] labels where a line names none that is known, -1 where there is none; NULL: none at all */
    const int32_t *label;
    const int32_t *head; /* [n_head] tokens without a loss behind the prefix, part of the prompt */
    int64_t n_head;
} render_options_t;

/* A growing sequence; zero is valid and empty. Owned by the caller and reused from call to call. */
typedef struct sequence {
    i32buf_t ids;
    float *weight; /* [ids.len] */
    int64_t weight_cap;
    int64_t n_prefix;     /* tokens of the prefix */
    int64_t n_prompt;     /* tokens in front of the completion, prefix included (chat: of the last assistant turn) */
    data_format_t format; /* the format that the line has */
    int32_t label[VIRTUAL_MAX_FIELDS]; /* of the layout's fields, -1: none or unknown */
    double score;                      /* set by data sets that read scores, else 0 */
} sequence_t;

void sequence_clear(sequence_t *s);
void sequence_release(sequence_t *s);
/* Appends n ids that all have the weight w. */
status_t sequence_add(sequence_t *s, const int32_t *ids, int64_t n, float w);
/* Gives ids[from..] the weight w: after ids were appended to `ids` directly. */
status_t sequence_weigh(sequence_t *s, int64_t from, float w);

struct json_t; /* jansson.h */

/* Renders a JSON object into `out` (cleared first; undefined on failure). The message has no place. */
status_t render_object(const encoder_t *e, const render_options_t *o, const struct json_t *line, sequence_t *out);
/* The same for the object written in json[0..n) into `out` (cleared first; undefined on failure). */
status_t render_example(const encoder_t *e, const render_options_t *o, const char *where, const char *json, size_t n,
                        sequence_t *out);

/* The format of a line by its fields; what data_format: auto does. */
status_t render_detect(const char *where, const char *json, size_t n, data_format_t *out);
