/* A device: memory that is not the host's, and one queue of work on it. NULL stands for the host, where copies are
 * memcpy and the queue is empty; so callers write one path.
 *
 * Everything is ordered: copies, zeroing and kernels run one after the other on the device's queue. Nothing but
 * device_sync and device_wait waits. Calls that only put work into the queue cannot fail by themselves: an asynchronous
 * error is kept and raised by the next device_sync, device_wait or device_capture_end. *local* */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"

typedef struct device device_t;
typedef struct device_graph device_graph_t;

/* What a kind of device can do; memory is 256-byte aligned and zeroed. */
typedef struct device_calls {
    void (*close)(device_t *d);
    status_t (*alloc)(device_t *d, size_t bytes, const char *what, void **out); /* ST_NOMEM with the free bytes */
    void (*release)(device_t *d, void *p);
    status_t (*alloc_pinned)(device_t *d, size_t bytes, const char *what, void **out); /* of the host */
    void (*release_pinned)(device_t *d, void *p);
    void (*upload)(device_t *d, void *to, const void *from, size_t bytes);   /* `from` unchanged until a wait */
    void (*download)(device_t *d, void *to, const void *from, size_t bytes); /* `to` is valid after a wait */
    void (*copy)(device_t *d, void *to, const void *from, size_t bytes);
    void (*zero)(device_t *d, void *p, size_t bytes);
    status_t (*sync)(device_t *d, const char *where);
    /* Marks: slot's mark is moved to the present end of the queue; wait returns when all before it is done. */
    void (*mark)(device_t *d, int slot);
    status_t (*wait)(device_t *d, int slot, const char *where);
    /* Work put into the queue between begin and end is recorded instead of run. */
    status_t (*capture_begin)(device_t *d);
    status_t (*capture_end)(device_t *d, device_graph_t **out);
    void (*launch)(device_t *d, device_graph_t *g);
    void (*graph_release)(device_t *d, device_graph_t *g);
    size_t (*choices)(const device_t *d, char *text, size_t size);
    bool (*adopt)(device_t *d, const char *text);
} device_calls_t;

enum { DEVICE_MARKS = 4 };

struct device {
    const device_calls_t *call;
    char name[128]; /* for people: what it is, with its number */
    int ordinal;    /* among the devices of its kind on this node */
    size_t memory;  /* bytes */
    void *stream;   /* the queue, for NCCL: a cudaStream_t */
    void *gemm;     /* the state of its matrix products (kernels/cuda/gemm.h) */
};

/* The same on a device or, with NULL, on the host. */
void device_close(device_t *d);
status_t device_alloc(device_t *d, size_t bytes, const char *what, void **out);
void device_release(device_t *d, void *p);
status_t device_alloc_pinned(device_t *d, size_t bytes, const char *what, void **out);
void device_release_pinned(device_t *d, void *p);
void device_upload(device_t *d, void *to, const void *from, size_t bytes);
void device_download(device_t *d, void *to, const void *from, size_t bytes);
void device_copy(device_t *d, void *to, const void *from, size_t bytes);
void device_zero(device_t *d, void *p, size_t bytes);
status_t device_sync(device_t *d, const char *where);
void device_mark(device_t *d, int slot);
status_t device_wait(device_t *d, int slot, const char *where);
/* On a device alone: the host has no queue to record. A graph is launched on the device it was recorded on. */
status_t device_capture_begin(device_t *d);
status_t device_capture_end(device_t *d, device_graph_t **out);
void device_launch(device_t *d, device_graph_t *g);
void device_graph_release(device_t *d, device_graph_t *g);

/* What the device's libraries have chosen among algorithms of different bits, as text: a line with the kind of device
 * and the version, then one for each choice; "": nothing, as always on the host. Returns the length it needs without
 * the final zero, as snprintf. */
size_t device_choices(const device_t *d, char *text, size_t size);
/* Takes over the choices of such a text, so that the same bits follow; what was chosen already stays. False, and
 * nothing is done, when it is of another kind of device or version. */
bool device_adopt(device_t *d, const char *text);
