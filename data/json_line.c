#include "data/json_line.h"

status_t json_line_parse(const char *json, size_t n, json_t **out) {
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

const char *json_line_type(const json_t *v) {
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

status_t json_line_string(const json_t *object, const char *key, bool optional, const char **text, size_t *n) {
    const json_t *v = json_object_get(object, key);
    if (optional && (!v || json_is_null(v))) {
        *text = "";
        *n = 0;
        return ST_OK;
    }
    if (!v) return st_raise(ST_INPUT, NULL, "missing field '%s'; add it as a string", key);
    if (!json_is_string(v))
        return st_raise(ST_INPUT, NULL, "field '%s' is %s; it must be a string", key, json_line_type(v));
    *text = json_string_value(v);
    *n = json_string_length(v);
    return ST_OK;
}

status_t json_line_number(const json_t *object, const char *key, double *out) {
    const json_t *v = json_object_get(object, key);
    if (!v) return st_raise(ST_INPUT, NULL, "missing field '%s'; add it as a number", key);
    if (!json_is_number(v))
        return st_raise(ST_INPUT, NULL, "field '%s' is %s; it must be a number", key, json_line_type(v));
    *out = json_number_value(v);
    return ST_OK;
}
