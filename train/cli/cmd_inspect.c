/* graft inspect: what is in a file or directory that Graft reads or writes. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "data/gguf.h"
#include "data/safetensors.h"
#include "data/token_store.h"
#include "data/weights.h"
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint.h"
#include "train/cli/cli.h"
#include "train/cli/inspect_store.h"

static const char usage[] = "usage: graft inspect FILE [--json] [--verify]";

/* What is inspected: any container seen as a list of tensors with its configuration beside it. */
typedef struct subject {
    const char *path, *kind;
    weights_t *weights; /* exactly one of weights and file is set */
    safetensors_t *file;
    json_t *config; /* adapter_config.json; owned */
    const tensor_info_t **tensor;
    int64_t count, elements;
    size_t bytes;
    uint64_t fingerprint;
} subject_t;

static void subject_release(subject_t *s) {
    free(s->tensor);
    weights_close(s->weights);
    safetensors_close(s->file);
    json_decref(s->config);
}

static const gguf_t *gguf_of(const subject_t *s) {
    return s->weights ? weights_gguf(s->weights) : NULL;
}

static const json_t *config_of(const subject_t *s) {
    return s->weights ? weights_config(s->weights) : s->config;
}

static status_t list_tensors(subject_t *s) {
    void *table = NULL;
    s->count = s->weights ? weights_count(s->weights) : safetensors_count(s->file);
    TRY(buf_calloc(&table, s->count, sizeof *s->tensor, "tensor table"));
    s->tensor = table;
    for (int64_t i = 0; i < s->count; i++) {
        s->tensor[i] = s->weights ? weights_at(s->weights, i) : safetensors_at(s->file, i);
        s->elements += tensor_info_count(s->tensor[i]);
        s->bytes += s->tensor[i]->bytes;
    }
    s->fingerprint = weights_fingerprint_of(s->tensor, s->count);
    return ST_OK;
}

static status_t open_adapter(const char *config_path, subject_t *s) {
    json_error_t error;
    s->kind = "PEFT adapter";
    s->config = json_load_file(config_path, JSON_REJECT_DUPLICATES, &error);
    if (!s->config)
        return st_raise(ST_INPUT, config_path, "line %d: %s; the file is not valid JSON", error.line, error.text);
    if (!json_is_object(s->config)) return st_raise(ST_INPUT, config_path, "is not a JSON object");
    strbuf_t name = {0};
    status_t st = strbuf_addf(&name, "%s/adapter_model.safetensors", s->path);
    if (st == ST_OK) st = safetensors_open(name.data, &s->file);
    strbuf_release(&name);
    return st;
}

static status_t open_directory(subject_t *s) {
    strbuf_t name = {0};
    status_t st = strbuf_addf(&name, "%s/adapter_config.json", s->path);
    if (st == ST_OK && access(name.data, F_OK) == 0) {
        st = open_adapter(name.data, s);
    } else if (st == ST_OK) {
        s->kind = "Hugging Face model";
        st = weights_open(s->path, &s->weights);
    }
    strbuf_release(&name);
    return st;
}

/* The first bytes of a file tell its kind; its name does not matter. */
static status_t read_magic(const char *path, unsigned char magic[9]) {
    memset(magic, 0, 9);
    FILE *f = fopen(path, "rb");
    if (!f) return st_errno(ST_INPUT, path, "open", errno);
    size_t n = fread(magic, 1, 9, f);
    int failed = ferror(f) ? errno : 0;
    fclose(f);
    if (failed) return st_errno(ST_INPUT, path, "read", failed);
    return n ? ST_OK : st_raise(ST_INPUT, path, "is empty");
}

static status_t open_file(subject_t *s, const unsigned char magic[9]) {
    const char *dot = strrchr(s->path, '.');
    if (memcmp(magic, "GGUF", 4) == 0) {
        s->kind = "GGUF";
        return weights_open(s->path, &s->weights);
    }
    if (magic[8] == '{' || (dot && strcmp(dot, ".safetensors") == 0)) {
        s->kind = "safetensors";
        return safetensors_open(s->path, &s->file);
    }
    return st_raise(ST_INPUT, s->path,
                    "is no GGUF, safetensors or HDF5 file; inspect knows these and model and adapter directories");
}

/* There is no checksum in these formats: what can be checked is the structure, which opening did, and the numbers. */
static status_t verify_finite(const tensor_info_t *t) {
    enum { STEP = 4096 };
    float y[STEP];
    int64_t n = tensor_info_count(t);
    if (t->store == STORE_OTHER) return ST_OK;
    for (int64_t first = 0; first < n; first += STEP) {
        int64_t part = n - first < STEP ? n - first : STEP;
        TRY(tensor_info_read_f32(t, first, part, y));
        for (int64_t i = 0; i < part; i++)
            if (!isfinite(y[i]))
                return st_raise(ST_INPUT, t->file,
                                "tensor '%s': element %" PRId64 " is not finite; the file is damaged", t->name,
                                first + i);
    }
    return ST_OK;
}

static void add_shape(const tensor_info_t *t, char *out, size_t size) {
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < t->rank && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, i ? ", %" PRId64 : "%" PRId64, t->dim[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

static status_t print_metadata(const subject_t *s) {
    const gguf_t *g = gguf_of(s);
    const char *key;
    json_t *value;
    strbuf_t text = {0};
    status_t st = ST_OK;
    for (int64_t i = 0; g && i < gguf_kv_count(g) && st == ST_OK; i++) {
        strbuf_clear(&text);
        st = gguf_kv_text(g, i, &text);
        if (st == ST_OK) printf("  %s = %s\n", gguf_kv_key(g, i), text.data);
    }
    strbuf_release(&text);
    json_object_foreach((json_t *)(uintptr_t)config_of(s), key, value) {
        char *line = json_dumps(value, JSON_ENCODE_ANY);
        if (!line) return st_nomem("configuration text", 1);
        printf("  %s = %s\n", key, line);
        free(line);
    }
    return st;
}

static status_t print_text(const subject_t *s, bool verified) {
    int width = 0;
    char shape[200];
    printf("%s: %s\n", s->path, s->kind);
    printf("  tensors      %" PRId64 "\n  parameters   %" PRId64 "\n  bytes        %zu\n", s->count, s->elements,
           s->bytes);
    printf("  fingerprint  %016" PRIx64 "\n", s->fingerprint);
    if (verified) printf("  verified     structure sound, every number finite\n");
    if (gguf_of(s) || config_of(s)) printf("%s\n", gguf_of(s) ? "metadata" : "configuration");
    TRY(print_metadata(s));
    printf("tensors\n");
    for (int64_t i = 0; i < s->count; i++)
        if ((int)strlen(s->tensor[i]->name) > width && strlen(s->tensor[i]->name) < 80)
            width = (int)strlen(s->tensor[i]->name);
    for (int64_t i = 0; i < s->count; i++) {
        add_shape(s->tensor[i], shape, sizeof shape);
        printf("  %-*s  %-5s %s\n", width, s->tensor[i]->name, s->tensor[i]->dtype, shape);
    }
    return ST_OK;
}

/* Scalars keep their JSON type; arrays, and what JSON cannot express, are given as text. */
static json_t *metadata_value(const gguf_t *g, int64_t i) {
    const char *key = gguf_kv_key(g, i), *s;
    size_t n;
    int64_t integer;
    double number;
    bool flag;
    json_t *value = NULL;
    if (gguf_get_bool(g, key, &flag))
        value = json_boolean(flag);
    else if (gguf_get_str(g, key, &s, &n))
        value = json_stringn(s, n);
    else if (gguf_get_i64(g, key, &integer))
        value = json_integer(integer);
    else if (gguf_get_f64(g, key, &number))
        value = json_real(number);
    if (value) return value;
    strbuf_t text = {0};
    if (gguf_kv_text(g, i, &text) == ST_OK) value = json_string(text.data);
    strbuf_release(&text);
    return value;
}

static json_t *tensor_object(const tensor_info_t *t) {
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++) json_array_append_new(shape, json_integer(t->dim[i]));
    return json_pack("{s:s, s:s, s:o, s:I, s:s}", "name", t->name, "dtype", t->dtype, "shape", shape, "bytes",
                     (json_int_t)t->bytes, "file", t->file);
}

static status_t print_json(const subject_t *s, bool verified) {
    char fingerprint[17];
    const gguf_t *g = gguf_of(s);
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, s->fingerprint);
    json_t *tensors = json_array(), *metadata = json_object();
    for (int64_t i = 0; i < s->count; i++) json_array_append_new(tensors, tensor_object(s->tensor[i]));
    for (int64_t i = 0; g && i < gguf_kv_count(g); i++)
        json_object_set_new(metadata, gguf_kv_key(g, i), metadata_value(g, i));
    if (config_of(s)) json_object_update(metadata, (json_t *)(uintptr_t)config_of(s));
    json_t *root = json_pack("{s:s, s:s, s:I, s:I, s:s, s:b, s:o, s:o}", "path", s->path, "kind", s->kind, "parameters",
                             (json_int_t)s->elements, "bytes", (json_int_t)s->bytes, "fingerprint", fingerprint,
                             "verified", (int)verified, g ? "metadata" : "config", metadata, "tensors", tensors);
    if (!root) return st_raise(ST_INPUT, s->path, "cannot be shown as JSON; its path or a name is not UTF-8");
    int rc = json_dumpf(root, stdout, JSON_INDENT(2));
    json_decref(root);
    if (rc != 0) return st_raise(ST_IO, "standard output", "cannot write the result");
    printf("\n");
    return ST_OK;
}

static status_t inspect(subject_t *s, bool json, bool verify) {
    TRY(list_tensors(s));
    for (int64_t i = 0; verify && i < s->count; i++) TRY(verify_finite(s->tensor[i]));
    TRY(json ? print_json(s, verify) : print_text(s, verify));
    if (fflush(stdout) != 0 || ferror(stdout)) return st_errno(ST_IO, "standard output", "write", errno);
    return ST_OK;
}

static status_t inspect_path(const char *path, bool json, bool verify) {
    struct stat info;
    unsigned char magic[9];
    subject_t s = {.path = path};
    status_t st;
    if (stat(path, &info) != 0) return st_errno(ST_INPUT, path, "examine", errno);
    if (S_ISDIR(info.st_mode)) {
        st = open_directory(&s);
    } else {
        if (!S_ISREG(info.st_mode)) return st_raise(ST_INPUT, path, "is neither a regular file nor a directory");
        TRY(read_magic(path, magic));
        if (token_store_recognise(path)) return inspect_store(path, json, verify);
        const char *dot = strrchr(path, '.');
        if (memcmp(magic, "\x89HDF\r\n\x1a\n", 8) == 0 || (dot && strcmp(dot, ".h5") == 0))
            return checkpoint_inspect(path, json, verify);
        st = open_file(&s, magic);
    }
    if (st == ST_OK) st = inspect(&s, json, verify);
    subject_release(&s);
    return st;
}

status_t cmd_inspect(int argc, char **argv) {
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"verify", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false, verify = false;
    optind = 0; /* start afresh */
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'j')
            json = true;
        else if (c == 'v')
            verify = true;
        else if (c == 'h')
            return puts(usage) < 0 ? ST_IO : ST_OK;
        else
            return st_raise(ST_USAGE, "inspect", "unknown option '%s'; %s", argv[optind - 1], usage);
    }
    if (argc - optind != 1) return st_raise(ST_USAGE, "inspect", "needs exactly one file or directory; %s", usage);
    return inspect_path(argv[optind], json, verify);
}
