#include "data/chat_template.h"
#include <string.h>

static const char alpaca_plain[] = "Below is an instruction that describes a task. Write a response that appropriately "
                                   "completes the request.\n\n";
static const char alpaca_with_input[] =
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n";

status_t alpaca_prompt(const char *instruction, size_t n_instruction, const char *input, size_t n_input,
                       strbuf_t *out) {
    TRY(strbuf_adds(out, n_input ? alpaca_with_input : alpaca_plain));
    TRY(strbuf_adds(out, "### Instruction:\n"));
    TRY(strbuf_add(out, instruction, n_instruction));
    if (n_input) {
        TRY(strbuf_adds(out, "\n\n### Input:\n"));
        TRY(strbuf_add(out, input, n_input));
    }
    return strbuf_adds(out, "\n\n### Response:\n");
}

/* Tokenises the span written so far. */
static status_t flush(chat_sink_t *s) {
    sequence_t *out = s->out;
    int64_t before = out->ids.len;
    if (s->assistant) out->n_prompt = before;
    if (s->text.len == 0) return ST_OK;
    TRY(s->encoder->encode(s->encoder->self, s->text.data, s->text.len, &out->ids));
    strbuf_clear(&s->text);
    return sequence_weigh(out, before, s->assistant || s->options->train_on_inputs ? 1.0f : 0.0f);
}

static status_t span(chat_sink_t *s, bool assistant) {
    if (assistant != s->assistant) TRY(flush(s));
    s->assistant = assistant;
    return ST_OK;
}

static status_t chatml(chat_sink_t *s, const chat_message_t *m, int n) {
    for (int i = 0; i < n; i++) {
        bool assistant = strcmp(m[i].role, "assistant") == 0;
        TRY(strbuf_addf(&s->text, "<|im_start|>%s\n", m[i].role));
        TRY(span(s, assistant));
        TRY(strbuf_add(&s->text, m[i].content, m[i].n));
        TRY(strbuf_adds(&s->text, "<|im_end|>"));
        TRY(span(s, false));
        TRY(strbuf_adds(&s->text, "\n"));
    }
    return ST_OK;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static status_t llama3(chat_sink_t *s, const chat_message_t *m, int n) {
    for (int i = 0; i < n; i++) {
        const char *text = m[i].content; /* the template of the Llama 3 family strips white space around contents */
        size_t len = m[i].n;
        while (len && is_space(text[len - 1])) len--;
        while (len && is_space(*text)) text++, len--;
        TRY(strbuf_addf(&s->text, "<|start_header_id|>%s<|end_header_id|>\n\n", m[i].role));
        TRY(span(s, strcmp(m[i].role, "assistant") == 0));
        TRY(strbuf_add(&s->text, text, len));
        TRY(strbuf_adds(&s->text, "<|eot_id|>"));
        TRY(span(s, false));
    }
    return ST_OK;
}

/* Plain text has no end-of-turn token: EOS ends an assistant's turn. */
static status_t alpaca(chat_sink_t *s, const chat_message_t *m, int n) {
    for (int i = 0; i < n; i++) {
        bool assistant = strcmp(m[i].role, "assistant") == 0;
        if (strcmp(m[i].role, "system") == 0) {
            TRY(strbuf_add(&s->text, m[i].content, m[i].n));
            TRY(strbuf_adds(&s->text, "\n\n"));
        } else if (!assistant) {
            if (i == 0) TRY(strbuf_adds(&s->text, alpaca_plain));
            TRY(strbuf_adds(&s->text, "### Instruction:\n"));
            TRY(strbuf_add(&s->text, m[i].content, m[i].n));
            TRY(strbuf_adds(&s->text, "\n\n"));
        } else {
            TRY(strbuf_adds(&s->text, "### Response:\n"));
            TRY(span(s, true));
            TRY(strbuf_add(&s->text, m[i].content, m[i].n));
            TRY(span(s, false));
            if (s->options->append_eos) TRY(sequence_add(s->out, &s->encoder->eos, 1, 1.0f));
            if (i + 1 < n) TRY(strbuf_adds(&s->text, "\n\n"));
        }
    }
    return ST_OK;
}

static const struct {
    const char *name, *bos;
    status_t (*render)(chat_sink_t *s, const chat_message_t *messages, int n);
} templates[CHAT_COUNT] = {
    [CHAT_NONE] = {"none", NULL, NULL},
    [CHAT_CHATML] = {"chatml", NULL, chatml},
    [CHAT_LLAMA3] = {"llama3", "<|begin_of_text|>", llama3},
    [CHAT_ALPACA] = {"alpaca", NULL, alpaca},
};

const char *chat_template_name(chat_template_t t) {
    return templates[t].name;
}

bool chat_template_find(const char *name, chat_template_t *out) {
    for (int i = 0; i < CHAT_COUNT; i++)
        if (strcmp(templates[i].name, name) == 0) {
            *out = (chat_template_t)i;
            return true;
        }
    return false;
}

const char *chat_template_bos(chat_template_t t) {
    return templates[t].bos;
}

status_t chat_template_render(chat_template_t t, const encoder_t *e, const render_options_t *o,
                              const chat_message_t *messages, int n, sequence_t *out) {
    if (!templates[t].render)
        return st_raise(ST_INPUT, NULL, "a conversation needs data.chat_template; set it to chatml, llama3 or alpaca");
    chat_sink_t sink = {.encoder = e, .options = o, .out = out};
    status_t st = templates[t].render(&sink, messages, n);
    if (st == ST_OK) st = flush(&sink);
    strbuf_release(&sink.text);
    return st;
}
