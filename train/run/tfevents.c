#include "train/run/tfevents.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tfevents {
    int fd;
    char *path;
    strbuf_t record; /* reused */
};

/* --- checksum: CRC-32C, reflected polynomial 0x82F63B78 --- */

uint32_t tfevents_crc32c(const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

uint32_t tfevents_mask(uint32_t crc) {
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

/* --- protobuf: a field is its key (number << 3 | wire type) and its value --- */

enum { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2, WIRE_FLOAT = 5 };

static status_t put_little(strbuf_t *b, uint64_t v, int bytes) {
    unsigned char raw[8];
    for (int i = 0; i < bytes; i++) raw[i] = (unsigned char)(v >> (8 * i));
    return strbuf_add(b, raw, (size_t)bytes);
}

static status_t put_varint(strbuf_t *b, uint64_t v) {
    unsigned char raw[10];
    size_t n = 0;
    do {
        raw[n++] = (unsigned char)((v & 0x7F) | (v > 0x7F ? 0x80 : 0));
        v >>= 7;
    } while (v);
    return strbuf_add(b, raw, n);
}

static status_t put_key(strbuf_t *b, unsigned number, unsigned wire) {
    return put_varint(b, number << 3 | wire);
}

static status_t put_int(strbuf_t *b, unsigned number, uint64_t v) {
    TRY(put_key(b, number, WIRE_VARINT));
    return put_varint(b, v);
}

static status_t put_double(strbuf_t *b, unsigned number, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    TRY(put_key(b, number, WIRE_DOUBLE));
    return put_little(b, bits, 8);
}

static status_t put_float(strbuf_t *b, unsigned number, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    TRY(put_key(b, number, WIRE_FLOAT));
    return put_little(b, bits, 4);
}

static status_t put_bytes(strbuf_t *b, unsigned number, const void *bytes, size_t n) {
    TRY(put_key(b, number, WIRE_BYTES));
    TRY(put_varint(b, n));
    return strbuf_add(b, bytes, n);
}

static status_t put_text(strbuf_t *b, unsigned number, const char *s) {
    return put_bytes(b, number, s, strlen(s));
}

/* Puts the message `inner` as a field and releases it, also when making it had failed with `st`. */
static status_t put_message(strbuf_t *b, unsigned number, strbuf_t *inner, status_t st) {
    if (st == ST_OK) st = put_bytes(b, number, inner->data, inner->len);
    strbuf_release(inner);
    return st;
}

/* --- records: u64 length | masked crc of it | data | masked crc of it --- */

static status_t put_record(strbuf_t *out, strbuf_t *event, status_t st) {
    size_t start = out->len;
    if (st == ST_OK) st = put_little(out, event->len, 8);
    if (st == ST_OK) st = put_little(out, tfevents_mask(tfevents_crc32c(out->data + start, 8)), 4);
    if (st == ST_OK) st = strbuf_add(out, event->data, event->len);
    if (st == ST_OK) st = put_little(out, tfevents_mask(tfevents_crc32c(event->data, event->len)), 4);
    strbuf_release(event);
    return st;
}

/* Event{1 wall_time, 2 step} */
static status_t put_event_head(strbuf_t *event, double wall_time, int64_t step) {
    TRY(put_double(event, 1, wall_time));
    return step ? put_int(event, 2, (uint64_t)step) : ST_OK;
}

status_t tfevents_encode_version(double wall_time, strbuf_t *out) {
    strbuf_t event = {0};
    status_t st = put_event_head(&event, wall_time, 0);
    if (st == ST_OK) st = put_text(&event, 3, "brain.Event:2");
    return put_record(out, &event, st);
}

/* Event{.. 5 summary{1 value: `value`}}; releases `value`. */
static status_t encode_summary(double wall_time, int64_t step, strbuf_t *value, status_t st, strbuf_t *out) {
    strbuf_t event = {0}, summary = {0};
    st = put_message(&summary, 1, value, st);
    if (st == ST_OK) st = put_event_head(&event, wall_time, step);
    st = put_message(&event, 5, &summary, st);
    return put_record(out, &event, st);
}

status_t tfevents_encode_scalar(double wall_time, int64_t step, const char *tag, double v, strbuf_t *out) {
    strbuf_t value = {0}; /* Value{1 tag, 2 simple_value} */
    status_t st = put_text(&value, 1, tag);
    if (st == ST_OK) st = put_float(&value, 2, (float)v);
    return encode_summary(wall_time, step, &value, st, out);
}

static status_t encode_text(double wall_time, int64_t step, const char *tag, const char *markdown, strbuf_t *out) {
    enum { DATA_CLASS_TENSOR = 2, DT_STRING = 7 };
    strbuf_t value = {0}, metadata = {0}, plugin = {0}, tensor = {0}, shape = {0}, dim = {0};
    status_t st = put_text(&plugin, 1, "text");
    st = put_message(&metadata, 1, &plugin, st);
    if (st == ST_OK) st = put_int(&metadata, 4, DATA_CLASS_TENSOR);
    /* Tensor{1 dtype, 2 shape{2 dim{1 size}}, 8 string_val}: one string */
    if (st == ST_OK) st = put_int(&dim, 1, 1);
    st = put_message(&shape, 2, &dim, st);
    if (st == ST_OK) st = put_int(&tensor, 1, DT_STRING);
    st = put_message(&tensor, 2, &shape, st);
    if (st == ST_OK) st = put_text(&tensor, 8, markdown);
    if (st == ST_OK) st = put_text(&value, 1, tag);
    st = put_message(&value, 8, &tensor, st);
    st = put_message(&value, 9, &metadata, st);
    return encode_summary(wall_time, step, &value, st, out);
}

/* Event{.. 7 session_log{1 status START}}: readers drop earlier values of this step and later ones. */
static status_t encode_session_start(double wall_time, int64_t step, strbuf_t *out) {
    enum { SESSION_START = 1 };
    strbuf_t event = {0}, log = {0};
    status_t st = put_int(&log, 1, SESSION_START);
    if (st == ST_OK) st = put_event_head(&event, wall_time, step);
    st = put_message(&event, 7, &log, st);
    return put_record(out, &event, st);
}

/* --- the file --- */

static status_t write_record(tfevents_t *t, status_t st) {
    const char *p = t->record.data;
    size_t left = st == ST_OK ? t->record.len : 0;
    while (left > 0) {
        ssize_t n = write(t->fd, p, left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            st = st_errno(ST_IO, t->path, "write", errno);
            break;
        }
        p += n;
        left -= (size_t)n;
    }
    strbuf_clear(&t->record);
    return st;
}

/* A file that did not exist: two starts within a second get different last numbers. */
static status_t create_file(tfevents_t *t, const char *dir, double wall_time) {
    char host[256] = "localhost";
    if (gethostname(host, sizeof host - 1) != 0 || !*host) snprintf(host, sizeof host, "localhost");
    for (char *c = host; *c; c++)
        if (*c == '/') *c = '-';
    for (int n = 0;; n++) {
        strbuf_t path = {0};
        status_t st = strbuf_addf(&path, "%s/events.out.tfevents.%010lld.%s.%ld.%d", dir, (long long)wall_time, host,
                                  (long)getpid(), n);
        free(t->path);
        t->path = path.data;
        TRY(st);
        t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (t->fd >= 0) return ST_OK;
        if (errno != EEXIST) return st_errno(ST_IO, t->path, "create", errno);
    }
}

status_t tfevents_open(const char *dir, double wall_time, int64_t resumed_step, tfevents_t **out) {
    void *memory;
    TRY(buf_calloc(&memory, 1, sizeof(tfevents_t), "event file"));
    tfevents_t *t = memory;
    t->fd = -1;
    status_t st = create_file(t, dir, wall_time);
    if (st == ST_OK) st = write_record(t, tfevents_encode_version(wall_time, &t->record));
    if (st == ST_OK && resumed_step > 0)
        st = write_record(t, encode_session_start(wall_time, resumed_step + 1, &t->record));
    if (st == ST_OK)
        *out = t;
    else
        tfevents_close(t);
    return st;
}

status_t tfevents_scalar(tfevents_t *t, double wall_time, int64_t step, const char *tag, double value) {
    return write_record(t, tfevents_encode_scalar(wall_time, step, tag, value, &t->record));
}

status_t tfevents_text(tfevents_t *t, double wall_time, int64_t step, const char *tag, const char *markdown) {
    return write_record(t, encode_text(wall_time, step, tag, markdown, &t->record));
}

const char *tfevents_path(const tfevents_t *t) {
    return t->path;
}

void tfevents_close(tfevents_t *t) {
    if (!t) return;
    if (t->fd >= 0) close(t->fd);
    strbuf_release(&t->record);
    free(t->path);
    free(t);
}
