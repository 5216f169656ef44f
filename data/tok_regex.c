/* Patterns of tokenizer files are written for Oniguruma (Ruby syntax); PCRE2 runs them. Where both read the same text
 * differently the pattern is rewritten, or refused when that is not possible: wrong ids would go unnoticed. */
#include <string.h>
#include "data/tokenizer_impl.h"

const char *const TOK_RE_GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char *const TOK_RE_LLAMA3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                                  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char *const TOK_RE_QWEN2 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
                                 " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* \s of Oniguruma; that of PCRE2 has U+180E too */
#define SPACES "\\t-\\r\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

typedef struct rewriter {
    const char *s, *where;
    size_t n, i;
    bool in_class;
    strbuf_t out;
} rewriter_t;

static status_t refuse(const rewriter_t *r, const char *what) {
    return st_raise(ST_INPUT, r->where,
                    "pattern '%.*s': %s at byte %zu is not supported; use a model with another pattern",
                    (int)(r->n < 200 ? r->n : 200), r->s, what, r->i);
}

static bool starts(const rewriter_t *r, const char *prefix) {
    size_t n = strlen(prefix);
    return r->n - r->i >= n && memcmp(r->s + r->i, prefix, n) == 0;
}

static status_t copy(rewriter_t *r, size_t n) {
    TRY(strbuf_add(&r->out, r->s + r->i, n));
    r->i += n;
    return ST_OK;
}

static status_t rewrite_escape(rewriter_t *r) {
    if (r->n - r->i < 2) return refuse(r, "a lone \\");
    char c = r->s[r->i + 1];
    if (c == 's' || (c == 'S' && !r->in_class)) {
        r->i += 2;
        return strbuf_adds(&r->out, r->in_class ? SPACES : c == 's' ? "[" SPACES "]" : "[^" SPACES "]");
    }
    if (c == 'v') {
        r->i += 2;
        return strbuf_adds(&r->out, "\\x0b");
    }
    if (c == 'u') {
        if (r->n - r->i < 6) return refuse(r, "an escape");
        TRY(strbuf_addf(&r->out, "\\x{%.4s}", r->s + r->i + 2));
        r->i += 6;
        return ST_OK;
    }
    if (strchr("wWbBhHRXKGyYONMCQESgkc", c)) return refuse(r, "an escape");
    if ((c == 'p' || c == 'P' || c == 'x') && r->n - r->i > 2 && r->s[r->i + 2] == '{') {
        const char *end = memchr(r->s + r->i, '}', r->n - r->i);
        if (!end) return refuse(r, "an escape");
        return copy(r, (size_t)(end - (r->s + r->i)) + 1);
    }
    return copy(r, 2);
}

static status_t rewrite_class(rewriter_t *r) {
    if (starts(r, "[") || starts(r, "&&")) return refuse(r, "a class inside a class");
    if (r->s[r->i] == ']') r->in_class = false;
    return copy(r, 1);
}

static status_t rewrite_group(rewriter_t *r) {
    size_t k = r->i + 2;
    while (k < r->n && strchr("imx-", r->s[k])) {
        if (r->s[k] == 'm') return refuse(r, "option m"); /* `.` matches newlines there, `^` lines here */
        k++;
    }
    return copy(r, 2);
}

/* {n,m}+ is possessive for PCRE2 and repeats the repetition for Oniguruma; {,m} is literal text for PCRE2 10.42 */
static status_t rewrite_interval(rewriter_t *r) {
    const char *end = memchr(r->s + r->i, '}', r->n - r->i);
    if (!end || starts(r, "{,") || (end + 1 < r->s + r->n && end[1] == '+')) return refuse(r, "this use of {}");
    return copy(r, (size_t)(end - (r->s + r->i)) + 1);
}

static status_t rewrite(rewriter_t *r) {
    while (r->i < r->n) {
        char c = r->s[r->i];
        if (c == '\\')
            TRY(rewrite_escape(r));
        else if (r->in_class)
            TRY(rewrite_class(r));
        else if (c == '[') {
            r->in_class = true;
            TRY(copy(r, starts(r, "[^") ? 2 : 1));
            if (starts(r, "]")) TRY(copy(r, 1)); /* literal in first place */
        } else if (starts(r, "(?"))
            TRY(rewrite_group(r));
        else if (starts(r, "(*"))
            return refuse(r, "a verb");
        else if (c == '{')
            TRY(rewrite_interval(r));
        else
            TRY(copy(r, 1));
    }
    return ST_OK;
}

static status_t compile(const rewriter_t *r, pcre2_code **out) {
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *settings = pcre2_compile_context_create(NULL);
    if (!settings) return st_nomem("pattern", 0);
    pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)r->out.data, r->out.len,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &at, settings);
    pcre2_compile_context_free(settings);
    if (!re) {
        PCRE2_UCHAR text[160] = "";
        pcre2_get_error_message(code, text, sizeof text);
        return st_raise(ST_INPUT, r->where, "pattern '%.*s': %s", (int)(r->n < 200 ? r->n : 200), r->s, (char *)text);
    }
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without a JIT the interpreter gives the same matches */
    *out = re;
    return ST_OK;
}

status_t tok_regex_compile(const char *pattern, size_t n, const char *where, pcre2_code **out) {
    rewriter_t r = {.s = pattern, .where = where, .n = n};
    status_t st = rewrite(&r);
    if (st == ST_OK) st = strbuf_add(&r.out, "", 0);
    if (st == ST_OK) st = compile(&r, out);
    strbuf_release(&r.out);
    return st;
}
