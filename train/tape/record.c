/* Recorded passes: on a device, a pass over sizes that were there before is one launch instead of one for every kernel
 * (CUDA graphs). The first pass of a kind runs op by op, so that libraries choose algorithms and load code; the second
 * is recorded and launched, and so are all after it. A record holds the addresses and sizes of its kernels, nothing of
 * a step: inputs, seed and step number are read from the device's memory, where tape_forward puts them before.
 *
 * Forward and backward are recorded apart, because one forward serves any place for the gradients, and each part of a
 * backward pass that is run in parts. Sizes are few (train/run/micro.c pads them); what comes when all places are taken
 * runs op by op. */
#include <stdio.h>
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

static bool is_same(const tape_record_t *a, const tape_record_t *b) {
    return a->first == b->first && a->end == b->end && a->training == b->training && a->grad == b->grad &&
           a->sizes.n == b->sizes.n && a->sizes.m == b->sizes.m && a->sizes.s == b->sizes.s && a->sizes.p == b->sizes.p;
}

/* The record of such a pass. *known: it is not the first one. NULL: there is no place for it. */
static tape_record_t *find(tape_t *t, int64_t first, int64_t end, bool *known) {
    const bool backward = first >= t->n_forward;
    const tape_record_t r = {first, end, t->step.training, t->sizes, backward ? t->grad_blob : NULL, NULL};
    *known = true;
    for (int i = 0; i < t->n_record; i++)
        if (is_same(&t->record[i], &r)) return &t->record[i];
    *known = false;
    if (t->n_record == TAPE_RECORDS) return NULL;
    t->record[t->n_record] = r;
    return &t->record[t->n_record++];
}

static status_t make(const tape_t *t, tape_record_t *r) {
    TRY(device_capture_begin(t->device));
    tape_run_events(t, r->first, r->end);
    return device_capture_end(t->device, &r->graph);
}

void tape_run_pass(tape_t *t, int64_t first, int64_t end) {
    bool known = false;
    if (first == end) return;
    tape_record_t *r = t->device && !t->no_records ? find(t, first, end, &known) : NULL;
    if (r && known && !r->graph && make(t, r) != ST_OK) {
        fprintf(stderr, "graft: warning: %s; kernels are launched one by one\n", st_message());
        st_clear();
        t->no_records = true;
    }
    if (r && r->graph)
        device_launch(t->device, r->graph);
    else
        tape_run_events(t, first, end);
}

void tape_set_recording(tape_t *t, bool on) {
    t->no_records = !on;
}

int tape_recorded(const tape_t *t) {
    int n = 0;
    for (int i = 0; i < t->n_record; i++) n += t->record[i].graph != NULL;
    return n;
}

void tape_forget_records(tape_t *t) {
    for (int i = 0; i < t->n_record; i++) device_graph_release(t->device, t->record[i].graph);
    t->n_record = 0;
}
