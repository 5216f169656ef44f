#include "kernels/device.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

void device_close(device_t *d) {
    if (d) d->call->close(d);
}

status_t device_alloc(device_t *d, size_t bytes, const char *what, void **out) {
    return d ? d->call->alloc(d, bytes, what, out) : buf_pages(out, bytes, what);
}

void device_release(device_t *d, void *p) {
    if (d && p)
        d->call->release(d, p);
    else
        free(p);
}

status_t device_alloc_pinned(device_t *d, size_t bytes, const char *what, void **out) {
    return d ? d->call->alloc_pinned(d, bytes, what, out) : buf_pages(out, bytes, what);
}

void device_release_pinned(device_t *d, void *p) {
    if (d && p)
        d->call->release_pinned(d, p);
    else
        free(p);
}

void device_upload(device_t *d, void *to, const void *from, size_t bytes) {
    if (!bytes) return;
    if (d)
        d->call->upload(d, to, from, bytes);
    else
        memcpy(to, from, bytes);
}

void device_download(device_t *d, void *to, const void *from, size_t bytes) {
    if (!bytes) return;
    if (d)
        d->call->download(d, to, from, bytes);
    else
        memcpy(to, from, bytes);
}

void device_copy(device_t *d, void *to, const void *from, size_t bytes) {
    if (!bytes) return;
    if (d)
        d->call->copy(d, to, from, bytes);
    else
        memcpy(to, from, bytes);
}

void device_zero(device_t *d, void *p, size_t bytes) {
    if (!bytes) return;
    if (d)
        d->call->zero(d, p, bytes);
    else
        memset(p, 0, bytes);
}

status_t device_sync(device_t *d, const char *where) {
    return d ? d->call->sync(d, where) : ST_OK;
}

void device_mark(device_t *d, int slot) {
    if (d) d->call->mark(d, slot);
}

status_t device_wait(device_t *d, int slot, const char *where) {
    return d ? d->call->wait(d, slot, where) : ST_OK;
}

status_t device_capture_begin(device_t *d) {
    return d ? d->call->capture_begin(d) : st_raise(ST_INTERNAL, "device", "the host's work cannot be recorded");
}

status_t device_capture_end(device_t *d, device_graph_t **out) {
    return d ? d->call->capture_end(d, out) : st_raise(ST_INTERNAL, "device", "the host's work cannot be recorded");
}

void device_launch(device_t *d, device_graph_t *g) {
    d->call->launch(d, g);
}

void device_graph_release(device_t *d, device_graph_t *g) {
    if (g) d->call->graph_release(d, g);
}

size_t device_choices(const device_t *d, char *text, size_t size) {
    if (size) text[0] = 0;
    return d ? d->call->choices(d, text, size) : 0;
}

bool device_adopt(device_t *d, const char *text) {
    return d && d->call->adopt(d, text);
}
