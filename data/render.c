#include "data/render.h"
#include "data/chat_template.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *const format_names[FORMAT_COUNT] = {
    [FORMAT_AUTO] = "auto", [FORMAT_TEXT] = "text",     [FORMAT_PROMPT_COMPLETION] = "prompt-completion",
    [FORMAT_CHAT] = "chat", [FORMAT_ALPACA] = "alpaca",
};

const char *data_format_name(data_format_t f) {
    return format_names[f];
}

bool data_format_find(const char *name, data_format_t *out) {
    for (int i = 0; i < FORMAT_COUNT; i++)
        if (strcmp(format_names[i], name) == 0) {
            *out = (data_format_t)i;
            return true;
        }
    return false;
}

void sequence_clear(sequence_t *s) {
    i32buf_clear(&s->ids);
    s->n_prefix = s->n_prompt = 0;
    s->format = FORMAT_AUTO;
    for (int i = 0; i < VIRTUAL_MAX_FIELDS; i++) s->label[i] = -1;
}

void sequence_release(sequence_t *s) {
    i32buf_release(&s->ids);
    free(s->weight);
    *s = (sequence_t){0};
}

status_t sequence_weigh(sequence_t *s, int64_t from, float w) {
    void *weight = s->weight;
    TRY(buf_reserve(&weight, &s->weight_cap, s->ids.len, sizeof *s->weight, "token weights"));
    s->weight = weight;
    for (int64_t i = from; i < s->ids.len; i++) s->weight[i] = w;
    return ST_OK;
}

status_t sequence_add(sequence_t *s, const int32_t *ids, int64_t n, float w) {
    int64_t from = s->ids.len;
    TRY(i32buf_add(&s->ids, ids, n));
    return sequence_weigh(s, from, w);
}

/* What one line is rendered with. */
typedef struct render {
    const encoder_t *encoder;
    const render_options_t *options;
    const json_t *line; /* an object */
    sequence_t *out;
} render_t;

static status_t parse(const char *json, size_t n, json_t **out) {
    json_error_t err;
    json_t *line = json_loadb(json, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &err);
    if (!line) {
        switch (json_error_code(&err)) {
        case json_error_out_of_memory:
            return st_nomem("JSON line", n);
        case json_error_invalid_utf8:
            return st_raise(ST_INPUT, NULL, "invalid UTF-8 at byte %d; convert the file to UTF-8", err.position);
        default:
            break;
        }
        for (char *c = err.text; *c; c++)
            if ((unsigned char)*c < ' ') *c = '?'; /* pieces of the line are quoted in it */
        return st_raise(ST_INPUT, NULL, "invalid JSON at column %d: %s; a line is one JSON object", err.column,
                        err.text);
    }
    if (!json_is_object(line)) {
        json_decref(line);
        return st_raise(ST_INPUT, NULL, "expected a JSON object; a line looks like {\"text\": \"...\"}");
    }
    *out = line;
    return ST_OK;
}

static const char *type_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "unknown";
}

/* The string under `key`; an optional one that is missing or null is empty. */
static status_t get_string(const json_t *object, const char *key, bool optional, const char **text, size_t *n) {
    const json_t *v = json_object_get(object, key);
    if (optional && (!v || json_is_null(v))) {
        *text = "";
        *n = 0;
        return ST_OK;
    }
    if (!v) return st_raise(ST_INPUT, NULL, "missing field '%s'; add it as a string", key);
    if (!json_is_string(v)) return st_raise(ST_INPUT, NULL, "field '%s' is %s; it must be a string", key, type_name(v));
    *text = json_string_value(v);
    *n = json_string_length(v);
    return ST_OK;
}

static status_t detect(const json_t *line, data_format_t *out) {
    const bool has[FORMAT_COUNT] = {
        [FORMAT_TEXT] = json_object_get(line, "text"),
        [FORMAT_PROMPT_COMPLETION] = json_object_get(line, "prompt") || json_object_get(line, "completion"),
        [FORMAT_CHAT] = json_object_get(line, "messages"),
        [FORMAT_ALPACA] = json_object_get(line, "instruction"),
    };
    data_format_t found = FORMAT_AUTO;
    for (int f = FORMAT_TEXT; f < FORMAT_COUNT; f++) {
        if (!has[f]) continue;
        if (found != FORMAT_AUTO)
            return st_raise(ST_INPUT, NULL, "the fields fit two formats, %s and %s; set data.format",
                            format_names[found], format_names[f]);
        found = (data_format_t)f;
    }
    if (found == FORMAT_AUTO)
        return st_raise(ST_INPUT, NULL,
                        "no known fields; expected 'text', or 'prompt' and 'completion', or 'messages', or "
                        "'instruction' and 'output'");
    *out = found;
    return ST_OK;
}

static status_t encode(const render_t *r, const char *text, size_t n, float w) {
    int64_t from = r->out->ids.len;
    if (n == 0) return ST_OK;
    TRY(r->encoder->encode(r->encoder->self, text, n, &r->out->ids));
    return sequence_weigh(r->out, from, w);
}

static status_t add_eos(const render_t *r) {
    if (!r->options->append_eos) return ST_OK;
    return sequence_add(r->out, &r->encoder->eos, 1, 1.0f);
}

static float prompt_weight(const render_t *r) {
    return r->options->train_on_inputs ? 1.0f : 0.0f;
}

static status_t render_text(const render_t *r) {
    const char *text;
    size_t n;
    TRY(get_string(r->line, "text", false, &text, &n));
    if (n == 0) return st_raise(ST_INPUT, NULL, "the document is empty; remove the line");
    TRY(encode(r, text, n, 1.0f));
    return add_eos(r);
}

static status_t render_prompt_completion(const render_t *r) {
    const char *prompt, *completion = "";
    size_t n_prompt, n_completion = 0;
    TRY(get_string(r->line, "prompt", false, &prompt, &n_prompt));
    if (!r->options->prompt_only) TRY(get_string(r->line, "completion", false, &completion, &n_completion));
    TRY(encode(r, prompt, n_prompt, prompt_weight(r)));
    r->out->n_prompt = r->out->ids.len;
    if (r->options->prompt_only) return ST_OK;
    TRY(encode(r, completion, n_completion, 1.0f));
    return add_eos(r);
}

static status_t render_alpaca(const render_t *r) {
    const char *instruction, *input, *output = "";
    size_t n_instruction, n_input, n_output = 0;
    TRY(get_string(r->line, "instruction", false, &instruction, &n_instruction));
    TRY(get_string(r->line, "input", true, &input, &n_input));
    if (!r->options->prompt_only) TRY(get_string(r->line, "output", false, &output, &n_output));
    strbuf_t prompt = {0};
    status_t st = alpaca_prompt(instruction, n_instruction, input, n_input, &prompt);
    if (st == ST_OK) st = encode(r, prompt.data, prompt.len, prompt_weight(r));
    strbuf_release(&prompt);
    if (st != ST_OK) return st;
    r->out->n_prompt = r->out->ids.len;
    if (r->options->prompt_only) return ST_OK;
    TRY(encode(r, output, n_output, 1.0f));
    return add_eos(r);
}

/* system? (user | assistant)*: what the templates can express. */
static status_t check_message(const json_t *message, size_t i, chat_message_t *out) {
    size_t n_role;
    if (!json_is_object(message))
        return st_raise(ST_INPUT, NULL, "messages[%zu] is %s; it must be an object with role and content", i,
                        type_name(message));
    status_t st = get_string(message, "role", false, &out->role, &n_role);
    if (st == ST_OK) st = get_string(message, "content", false, &out->content, &out->n);
    if (st != ST_OK) return st_context(st, "messages[%zu]", i);
    if (strlen(out->role) != n_role)
        return st_raise(ST_INPUT, NULL, "messages[%zu] has a NUL in its role; roles are system, user and assistant", i);
    bool system = strcmp(out->role, "system") == 0;
    if (!system && strcmp(out->role, "user") != 0 && strcmp(out->role, "assistant") != 0)
        return st_raise(ST_INPUT, NULL, "messages[%zu] has the role '%.40s'; roles are system, user and assistant", i,
                        out->role);
    if (system && i > 0)
        return st_raise(ST_INPUT, NULL, "messages[%zu] has the role 'system'; only the first message may have it", i);
    return ST_OK;
}

static status_t render_chat(const render_t *r) {
    const json_t *list = json_object_get(r->line, "messages");
    if (!list) return st_raise(ST_INPUT, NULL, "missing field 'messages'; add it as an array");
    if (!json_is_array(list))
        return st_raise(ST_INPUT, NULL, "field 'messages' is %s; it must be an array", type_name(list));
    size_t n = json_array_size(list);
    if (n == 0) return st_raise(ST_INPUT, NULL, "field 'messages' is empty; remove the line");
    chat_message_t *messages;
    void *memory;
    TRY(buf_calloc(&memory, (int64_t)n, sizeof *messages, "messages"));
    messages = memory;
    status_t st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) st = check_message(json_array_get(list, i), i, &messages[i]);
    if (st == ST_OK)
        st = chat_template_render(r->options->chat_template, r->encoder, r->options, messages, (int)n, r->out);
    free(memory);
    return st;
}

static status_t add_prefix(const render_t *r, data_format_t format) {
    const encoder_t *e = r->encoder;
    const char *bos = format == FORMAT_CHAT ? chat_template_bos(r->options->chat_template) : NULL;
    int32_t id = bos && e->n_prefix == 0 ? e->token_id(e->self, bos) : -1;
    TRY(sequence_add(r->out, e->prefix, e->n_prefix, 0.0f));
    if (id >= 0) TRY(sequence_add(r->out, &id, 1, 0.0f));
    r->out->n_prefix = r->out->n_prompt = r->out->ids.len;
    return ST_OK;
}

static status_t render_line(const render_t *r) {
    static status_t (*const renderers[FORMAT_COUNT])(const render_t *) = {
        [FORMAT_TEXT] = render_text,
        [FORMAT_PROMPT_COMPLETION] = render_prompt_completion,
        [FORMAT_CHAT] = render_chat,
        [FORMAT_ALPACA] = render_alpaca,
    };
    data_format_t format = r->options->format;
    if (format == FORMAT_AUTO) TRY(detect(r->line, &format));
    if (r->options->append_eos && r->encoder->eos < 0)
        return st_raise(ST_INPUT, NULL, "the tokenizer names no EOS token to append; set data.append_eos to false");
    TRY(add_prefix(r, format));
    TRY(renderers[format](r));
    r->out->format = format;
    if (r->out->ids.len) r->out->weight[0] = 0.0f;
    return ST_OK;
}

static status_t render_json(render_t *r, const char *json, size_t n) {
    json_t *line = NULL;
    TRY(parse(json, n, &line));
    r->line = line;
    status_t st = render_line(r);
    json_decref(line);
    return st;
}

/* Functions above name the fault alone; the place is put in front once, here. */
static status_t at_place(status_t st, const char *where) {
    return st == ST_OK || !where || !where[0] ? st : st_context(st, "%s", where);
}

status_t render_example(const encoder_t *e, const render_options_t *o, const char *where, const char *json, size_t n,
                        sequence_t *out) {
    render_t r = {.encoder = e, .options = o, .out = out};
    sequence_clear(out);
    return at_place(render_json(&r, json, n), where);
}

status_t render_detect(const char *where, const char *json, size_t n, data_format_t *out) {
    json_t *line = NULL;
    status_t st = parse(json, n, &line);
    if (st == ST_OK) {
        st = detect(line, out);
        json_decref(line);
    }
    return at_place(st, where);
}
