/* Chat templates: messages -> alternating spans of text, each with or without loss.
 *
 * A template is a function that writes its text through a chat_sink_t; the sink tokenises a span as soon as the next
 * one has another weight. Loss stands on what an assistant says and on the token that ends its turn. *local* */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "data/render.h"

typedef struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t n; /* bytes of content, which may contain NUL */
} chat_message_t;

/* Where a template writes: spans of text, tokenised one by one and appended to the sequence. */
typedef struct chat_sink {
    const encoder_t *encoder;
    const render_options_t *options;
    sequence_t *out;
    strbuf_t text;  /* the present span */
    bool assistant; /* whether it is an assistant's words */
} chat_sink_t;

/* Renders the messages after the prefix, which is the tokenizer's or else the template's own BOS: never both.
 * Errors of tokenising are passed on. */
status_t chat_template_render(chat_template_t t, const encoder_t *e, const render_options_t *o,
                              const chat_message_t *messages, int n, sequence_t *out);
/* The token text that begins a conversation where the tokenizer itself puts nothing in front; NULL if none. */
const char *chat_template_bos(chat_template_t t);
/* The Alpaca prompt of an instruction with its optional input (n_input 0: none), appended to `out`. */
status_t alpaca_prompt(const char *instruction, size_t n_instruction, const char *input, size_t n_input, strbuf_t *out);
