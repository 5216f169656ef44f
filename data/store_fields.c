#include "data/store_fields.h"

enum { FIELDS_MOST = 4096 };

static const char *type_of(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "real";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static status_t add(json_t *table, const char *field, const char *type, json_int_t n) {
    json_t *types = json_object_get(table, field);
    if (!types) {
        types = json_object();
        if (json_object_set_new(table, field, types) != 0) return st_nomem("field table", 1);
    }
    json_t *old = json_object_get(types, type);
    if (json_object_set_new(types, type, json_integer(n + json_integer_value(old))) != 0)
        return st_nomem("field table", 1);
    return ST_OK;
}

status_t store_fields_count(json_t *table, const json_t *document) {
    const char *field;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)document, field, value) TRY(add(table, field, type_of(value), 1));
    return ST_OK;
}

status_t store_fields_merge(json_t *table, const json_t *from) {
    const char *field, *type;
    json_t *types, *n;
    json_object_foreach((json_t *)(uintptr_t)from, field, types) {
        if (!json_is_object(types)) return st_raise(ST_INPUT, "metadata_fields", "is no table of types");
        json_object_foreach(types, type, n) TRY(add(table, field, type, json_integer_value(n)));
    }
    if (json_object_size(table) > FIELDS_MOST)
        return st_raise(ST_INPUT, "metadata",
                        "the documents have more than %d different fields; put fields whose names vary into one object",
                        FIELDS_MOST);
    return ST_OK;
}

static int append(const char *bytes, size_t n, void *out) {
    return strbuf_add(out, bytes, n) == ST_OK ? 0 : -1;
}

status_t store_json_text(const json_t *value, strbuf_t *out) {
    if (json_dump_callback(value, append, out, JSON_COMPACT | JSON_SORT_KEYS) == 0) return ST_OK;
    return st_nomem("JSON text", 1);
}
