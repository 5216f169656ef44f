#include "data/render.h"
#include "data/chat_template.h"
#include "data/json_line.h"
#include "data/label.h"
#include <stdlib.h>
#include <string.h>

void sequence_clear(sequence_t *s) {
    i32buf_clear(&s->ids);
    s->n_prefix = s->n_prompt = 0;
    s->format = FORMAT_AUTO;
    s->score = 0;
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
    TRY(json_line_string(r->line, "text", false, &text, &n));
    if (n == 0) return st_raise(ST_INPUT, NULL, "the document is empty; remove the line");
    TRY(encode(r, text, n, 1.0f));
    return add_eos(r);
}

static status_t render_prompt_completion(const render_t *r) {
    const char *prompt, *completion = "";
    size_t n_prompt, n_completion = 0;
    TRY(json_line_string(r->line, "prompt", false, &prompt, &n_prompt));
    if (!r->options->prompt_only) TRY(json_line_string(r->line, "completion", false, &completion, &n_completion));
    TRY(encode(r, prompt, n_prompt, prompt_weight(r)));
    r->out->n_prompt = r->out->ids.len;
    if (r->options->prompt_only) return ST_OK;
    TRY(encode(r, completion, n_completion, 1.0f));
    return add_eos(r);
}

static status_t render_alpaca(const render_t *r) {
    const char *instruction, *input, *output = "";
    size_t n_instruction, n_input, n_output = 0;
    TRY(json_line_string(r->line, "instruction", false, &instruction, &n_instruction));
    TRY(json_line_string(r->line, "input", true, &input, &n_input));
    if (!r->options->prompt_only) TRY(json_line_string(r->line, "output", false, &output, &n_output));
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

/* How a format spells a conversation. */
typedef struct dialogue {
    const char *list, *role, *content; /* keys */
    const char *roles[3];              /* as in `chat_roles` */
} dialogue_t;

static const char *const chat_roles[3] = {"system", "user", "assistant"}; /* what templates write */

/* system? (user | assistant)*: what the templates can express. */
static status_t check_message(const dialogue_t *d, const json_t *message, size_t i, chat_message_t *out) {
    const char *role;
    size_t n_role;
    int k = 0;
    if (!json_is_object(message))
        return st_raise(ST_INPUT, NULL, "%s[%zu] is %s; it must be an object with %s and %s", d->list, i,
                        json_line_type(message), d->role, d->content);
    status_t st = json_line_string(message, d->role, false, &role, &n_role);
    if (st == ST_OK) st = json_line_string(message, d->content, false, &out->content, &out->n);
    if (st != ST_OK) return st_context(st, "%s[%zu]", d->list, i);
    if (strlen(role) != n_role)
        return st_raise(ST_INPUT, NULL, "%s[%zu] has a NUL in its role; roles are %s, %s and %s", d->list, i,
                        d->roles[0], d->roles[1], d->roles[2]);
    while (k < 3 && strcmp(role, d->roles[k]) != 0) k++;
    if (k == 3)
        return st_raise(ST_INPUT, NULL, "%s[%zu] has the role '%.40s'; roles are %s, %s and %s", d->list, i, role,
                        d->roles[0], d->roles[1], d->roles[2]);
    if (k == 0 && i > 0)
        return st_raise(ST_INPUT, NULL, "%s[%zu] has the role '%s'; only the first message may have it", d->list, i,
                        role);
    out->role = chat_roles[k];
    return ST_OK;
}

static status_t render_dialogue(const render_t *r, const dialogue_t *d) {
    const json_t *list = json_object_get(r->line, d->list);
    if (!list) return st_raise(ST_INPUT, NULL, "missing field '%s'; add it as an array", d->list);
    if (!json_is_array(list))
        return st_raise(ST_INPUT, NULL, "field '%s' is %s; it must be an array", d->list, json_line_type(list));
    size_t n = json_array_size(list);
    if (n == 0) return st_raise(ST_INPUT, NULL, "field '%s' is empty; remove the line", d->list);
    chat_message_t *messages;
    void *memory;
    TRY(buf_calloc(&memory, (int64_t)n, sizeof *messages, "messages"));
    messages = memory;
    status_t st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) st = check_message(d, json_array_get(list, i), i, &messages[i]);
    if (st == ST_OK)
        st = chat_template_render(r->options->chat_template, r->encoder, r->options, messages, (int)n, r->out);
    free(memory);
    return st;
}

static status_t render_chat(const render_t *r) {
    static const dialogue_t d = {"messages", "role", "content", {"system", "user", "assistant"}};
    return render_dialogue(r, &d);
}

static status_t render_sharegpt(const render_t *r) {
    static const dialogue_t d = {"conversations", "from", "value", {"system", "human", "gpt"}};
    return render_dialogue(r, &d);
}

static const struct {
    const char *name;
    const char *keys[2]; /* either of them tells the format */
    status_t (*render)(const render_t *r);
    bool chat;
} formats[FORMAT_COUNT] = {
    [FORMAT_AUTO] = {"auto", {NULL, NULL}, NULL, false},
    [FORMAT_TEXT] = {"text", {"text", NULL}, render_text, false},
    [FORMAT_PROMPT_COMPLETION] = {"prompt-completion", {"prompt", "completion"}, render_prompt_completion, false},
    [FORMAT_CHAT] = {"chat", {"messages", NULL}, render_chat, true},
    [FORMAT_ALPACA] = {"alpaca", {"instruction", NULL}, render_alpaca, false},
    [FORMAT_SHAREGPT] = {"sharegpt", {"conversations", NULL}, render_sharegpt, true},
};

const char *data_format_name(data_format_t f) {
    return formats[f].name;
}

bool data_format_is_chat(data_format_t f) {
    return formats[f].chat;
}

bool data_format_find(const char *name, data_format_t *out) {
    for (int i = 0; i < FORMAT_COUNT; i++)
        if (strcmp(formats[i].name, name) == 0) {
            *out = (data_format_t)i;
            return true;
        }
    return false;
}

static bool has_key(const json_t *line, data_format_t f) {
    for (int k = 0; k < 2; k++)
        if (formats[f].keys[k] && json_object_get(line, formats[f].keys[k])) return true;
    return false;
}

static status_t detect(const json_t *line, data_format_t *out) {
    data_format_t found = FORMAT_AUTO;
    for (int f = FORMAT_TEXT; f < FORMAT_COUNT; f++) {
        if (!has_key(line, (data_format_t)f)) continue;
        if (found != FORMAT_AUTO)
            return st_raise(ST_INPUT, NULL, "the fields fit two formats, %s and %s; set data.format",
                            formats[found].name, formats[f].name);
        found = (data_format_t)f;
    }
    if (found == FORMAT_AUTO)
        return st_raise(ST_INPUT, NULL,
                        "no known fields; expected 'text', or 'prompt' and 'completion', or 'messages', or "
                        "'instruction' and 'output', or 'conversations'");
    *out = found;
    return ST_OK;
}

static status_t add_prefix(const render_t *r, data_format_t format) {
    const encoder_t *e = r->encoder;
    const char *bos = formats[format].chat ? chat_template_bos(r->options->chat_template) : NULL;
    int32_t id = bos && e->n_prefix == 0 ? e->token_id(e->self, bos) : -1;
    TRY(sequence_add(r->out, e->prefix, e->n_prefix, 0.0f));
    if (id >= 0) TRY(sequence_add(r->out, &id, 1, 0.0f));
    r->out->n_prefix = r->out->ids.len;
    TRY(sequence_add(r->out, r->options->head, r->options->n_head, 0.0f));
    r->out->n_prompt = r->out->ids.len;
    return ST_OK;
}

static status_t render_line(const render_t *r) {
    data_format_t format = r->options->format;
    if (format == FORMAT_AUTO) TRY(detect(r->line, &format));
    if (r->options->append_eos && r->encoder->eos < 0)
        return st_raise(ST_INPUT, NULL, "the tokenizer names no EOS token to append; set data.append_eos to false");
    if (r->options->layout) TRY(label_read(r->line, r->options->layout, r->options->label, r->out->label));
    TRY(add_prefix(r, format));
    TRY(formats[format].render(r));
    r->out->format = format;
    if (r->out->ids.len) r->out->weight[0] = 0.0f;
    return ST_OK;
}

status_t render_object(const encoder_t *e, const render_options_t *o, const json_t *line, sequence_t *out) {
    const render_t r = {.encoder = e, .options = o, .line = line, .out = out};
    sequence_clear(out);
    return render_line(&r);
}

/* Functions above name the fault alone; the place is put in front once, here. */
static status_t at_place(status_t st, const char *where) {
    return st == ST_OK || !where || !where[0] ? st : st_context(st, "%s", where);
}

status_t render_example(const encoder_t *e, const render_options_t *o, const char *where, const char *json, size_t n,
                        sequence_t *out) {
    json_t *line = NULL;
    status_t st = json_line_parse(json, n, &line);
    if (st == ST_OK) {
        st = render_object(e, o, line, out);
        json_decref(line);
    }
    return at_place(st, where);
}

status_t render_detect(const char *where, const char *json, size_t n, data_format_t *out) {
    json_t *line = NULL;
    status_t st = json_line_parse(json, n, &line);
    if (st == ST_OK) {
        st = detect(line, out);
        json_decref(line);
    }
    return at_place(st, where);
}
