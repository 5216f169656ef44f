/* Execution: nothing here allocates, looks anything up by name or branches on an op. */
#include <assert.h>
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

static void resize(view_t *v, const view_t *shape, tape_sizes_t sizes) {
    void *data = v->data;
    *v = tape_shape_at(shape, sizes);
    v->data = data;
}

void tape_set_sizes(tape_t *t, tape_sizes_t sizes) {
    t->sizes = sizes;
    for (int64_t e = 0; e < t->n_event; e++) {
        const tape_node_t *n = &t->node[t->event[e].node];
        op_io_t *io = &t->event[e].io;
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0) continue;
            const view_t *shape = &t->val[n->in[k]].shape;
            resize(&io->in[k], shape, sizes);
            if (t->event[e].kind == EVENT_BACKWARD && io->gin[k].rank) resize(&io->gin[k], shape, sizes);
        }
        for (int k = 0; k < n->def->n_out; k++) resize(&io->out[k], &t->val[n->out[k]].shape, sizes);
        if (t->event[e].kind != EVENT_BACKWARD) continue;
        resize(&io->gout, &t->val[n->out[0]].shape, sizes);
        if (n->def->second) resize(&io->gout1, &t->val[n->out[1]].shape, sizes);
    }
}

void tape_set_step(tape_t *t, op_step_t step) {
    t->step = step;
}

void tape_set_grad(tape_t *t, void *blob) {
    t->grad_blob = blob;
    size_t size = dtype_size(t->params->real);
    for (int64_t e = t->n_forward; e < t->n_event; e++) {
        tape_event_t *ev = &t->event[e];
        if (ev->kind != EVENT_BACKWARD) continue;
        for (int k = 0; k < t->node[ev->node].n_in; k++)
            if (ev->grad_offset[k] >= 0)
                ev->io.gin[k].data = blob ? (char *)blob + (size_t)ev->grad_offset[k] * size : NULL;
    }
}

void tape_run_events(const tape_t *t, int64_t first, int64_t end) {
    for (int64_t e = first; e < end; e++) {
        const op_kernel_t *k = &t->backend->kernel[t->node[t->event[e].node].op];
        (t->event[e].kind == EVENT_BACKWARD ? k->bwd : k->fwd)(&t->event[e].io);
    }
}

void tape_forward(tape_t *t) {
    tape_memory_upload(t);
    tape_run_pass(t, 0, t->n_forward);
}

void tape_backward(tape_t *t) {
    tape_run_pass(t, t->n_forward, t->n_event);
}

int64_t tape_backward_events(const tape_t *t) {
    return t->n_event - t->n_forward;
}

int64_t tape_gradient_done(const tape_t *t, int param) {
    for (int64_t e = t->n_event - 1; e >= t->n_forward; e--) {
        const tape_event_t *ev = &t->event[e];
        const tape_node_t *n = &t->node[ev->node];
        for (int k = 0; ev->kind == EVENT_BACKWARD && k < n->n_in; k++)
            if (ev->grad_offset[k] >= 0 && t->val[n->in[k]].param == param) return e - t->n_forward + 1;
    }
    return 0;
}

void tape_backward_part(tape_t *t, int64_t first, int64_t end) {
    assert(first >= 0 && first <= end && end <= tape_backward_events(t));
    tape_run_pass(t, t->n_forward + first, t->n_forward + end);
}
