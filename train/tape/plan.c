/* Planning: needs-gradient, keep set, schedule, placement. Generic over ops; nothing here names one. */
#include <stdlib.h>
#include <string.h>
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

enum { PLACE_ALIGN = 64 };

typedef struct plan {
    tape_t *t;
    bool *wanted;       /* per node: its backward runs */
    int32_t (*last)[2]; /* per value: last event that reads instance 0 and 1, -1 none */
} plan_t;

/* ---- which gradients ---------------------------------------------------------------------------------------- */

static void mark_needs(tape_t *t) {
    for (int64_t i = 0; i < t->n_node; i++) {
        tape_node_t *n = &t->node[i];
        n->needs_grad = false;
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && (n->def->differentiable >> k & 1) && t->val[n->in[k]].needs_grad) n->needs_grad = true;
        t->val[n->out[0]].needs_grad = n->needs_grad;
        if (n->def->second) t->val[n->out[1]].needs_grad = n->needs_grad;
    }
}

/* A node's backward runs when it needs gradients and an output of it that has one reaches a loss through such nodes. */
static void mark_wanted(plan_t *p) {
    tape_t *t = p->t;
    for (int64_t i = 0; i < t->n_node; i++) p->wanted[i] = t->val[t->node[i].out[0]].loss && t->node[i].needs_grad;
    for (int64_t i = t->n_node - 1; i >= 0; i--) {
        const tape_node_t *n = &t->node[i];
        if (!p->wanted[i]) continue;
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0 || !(n->def->differentiable >> k & 1)) continue;
            const tape_val_t *v = &t->val[n->in[k]];
            if (v->kind == VAL_NODE && v->needs_grad) p->wanted[v->node] = true;
        }
    }
}

/* What node n's backward reads, as a mask like op_def_t.need: the union over the gradients that are wanted. */
static uint32_t backward_reads(const tape_t *t, const tape_node_t *n) {
    uint32_t mask = 0;
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && (n->def->differentiable >> k & 1) && t->val[n->in[k]].needs_grad) mask |= n->def->need[k];
    return mask;
}

/* ---- schedule ------------------------------------------------------------------------------------------------ */

static bool recomputed(const tape_t *t, const tape_node_t *n) {
    return n->segment >= 0 && t->segment[n->segment].recompute;
}

static void mark_replay(const plan_t *p, const tape_segment_t *s) {
    tape_t *t = p->t;
    for (int32_t i = s->last; i >= s->first; i--) {
        tape_node_t *n = &t->node[i];
        uint32_t reads = p->wanted[i] ? backward_reads(t, n) : 0;
        for (int k = 0; k < n->def->n_out; k++)
            if (reads & NEED_OUT(k)) n->replayed = true;
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0) continue;
            const tape_val_t *v = &t->val[n->in[k]];
            bool read = n->replayed || (reads & NEED_IN(k));
            if (read && v->kind == VAL_NODE && v->node >= s->first) t->node[v->node].replayed = true;
        }
    }
}

static status_t add_event(tape_t *t, event_kind_t kind, int64_t node) {
    void *data = t->event;
    TRY(buf_reserve(&data, &t->cap_event, t->n_event + 1, sizeof *t->event, "tape events"));
    t->event = data;
    t->event[t->n_event++] = (tape_event_t){.kind = kind, .node = (int32_t)node};
    return ST_OK;
}

/* What the next backward event reads is made anew, if it can be and no earlier event did. A recomputed segment replays
 * its values anyway. */
static status_t remake_value(tape_t *t, int32_t id) {
    tape_val_t *v = &t->val[id];
    if (v->kind != VAL_NODE || v->remade) return ST_OK;
    const tape_node_t *n = &t->node[v->node];
    if (!(n->def->remake >> v->out & 1) || recomputed(t, n)) return ST_OK;
    for (int k = 0; k < n->def->n_out; k++)
        if (n->def->remake >> k & 1) t->val[n->out[k]].remade = true;
    return add_event(t, EVENT_REMAKE, v->node);
}

static status_t remake(tape_t *t, const tape_node_t *n) {
    uint32_t reads = backward_reads(t, n);
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0 && (reads & NEED_IN(k))) TRY(remake_value(t, n->in[k]));
    for (int k = 0; k < n->def->n_out; k++)
        if (reads & NEED_OUT(k)) TRY(remake_value(t, n->out[k]));
    return ST_OK;
}

static status_t schedule(const plan_t *p, bool with_grad) {
    tape_t *t = p->t;
    for (int64_t i = 0; i < t->n_node; i++) TRY(add_event(t, EVENT_FORWARD, i));
    t->n_forward = t->n_event;
    if (!with_grad) return ST_OK;
    for (int64_t i = 0; i < t->n_segment; i++)
        if (t->segment[i].recompute) mark_replay(p, &t->segment[i]);
    for (int64_t i = t->n_node - 1; i >= 0; i--) {
        const tape_node_t *n = &t->node[i];
        if (recomputed(t, n) && t->segment[n->segment].last == i)
            for (int32_t r = t->segment[n->segment].first; r <= i; r++)
                if (t->node[r].replayed) TRY(add_event(t, EVENT_REPLAY, r));
        if (!p->wanted[i]) continue;
        TRY(remake(t, n));
        TRY(add_event(t, EVENT_BACKWARD, i));
    }
    return ST_OK;
}

/* ---- instances and lifetimes --------------------------------------------------------------------------------- */

/* Which instance of value v an event of node n reads: the replayed one inside its own recomputed segment, and in
 * backward what was made anew. */
static int instance_of(const tape_t *t, const tape_val_t *v, event_kind_t kind, const tape_node_t *n) {
    if (kind == EVENT_FORWARD || v->kind != VAL_NODE) return 0;
    const tape_node_t *producer = &t->node[v->node];
    if (v->remade) return kind == EVENT_BACKWARD;
    return producer->replayed && producer->segment == n->segment ? 1 : 0;
}

static uint32_t event_reads(const tape_t *t, const tape_event_t *e) {
    const tape_node_t *n = &t->node[e->node];
    switch (e->kind) {
    case EVENT_BACKWARD:
        return backward_reads(t, n);
    case EVENT_REMAKE:
        return n->def->remake_reads | ~n->def->remake << 16; /* what is not made anew is written once more */
    default:
        return (1u << n->n_in) - 1;
    }
}

static void find_last_reads(plan_t *p) {
    tape_t *t = p->t;
    for (int64_t i = 0; i < t->n_val; i++) {
        p->last[i][0] = p->last[i][1] = -1;
        if (t->val[i].keep) p->last[i][0] = (int32_t)t->n_forward - 1;
    }
    for (int64_t e = 0; e < t->n_event; e++) {
        const tape_event_t *ev = &t->event[e];
        const tape_node_t *n = &t->node[ev->node];
        uint32_t reads = event_reads(t, ev);
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] < 0 || !(reads & NEED_IN(k))) continue;
            int i = instance_of(t, &t->val[n->in[k]], ev->kind, n);
            if (p->last[n->in[k]][i] < e) p->last[n->in[k]][i] = (int32_t)e;
        }
        for (int k = 0; k < n->def->n_out; k++)
            if (reads & NEED_OUT(k)) {
                int i = instance_of(t, &t->val[n->out[k]], ev->kind, n);
                if (p->last[n->out[k]][i] < e) p->last[n->out[k]][i] = (int32_t)e;
            }
    }
}

static status_t add_buffer(tape_t *t, const tape_val_t *v, int64_t first, int64_t last, int32_t *out) {
    void *data = t->buffer;
    TRY(buf_reserve(&data, &t->cap_buffer, t->n_buffer + 1, sizeof *t->buffer, "tape buffers"));
    t->buffer = data;
    view_t full = tape_shape_at(&v->shape, t->capacity);
    size_t bytes = (view_bytes(&full) + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
    t->buffer[t->n_buffer] = (tape_buffer_t){bytes, 0, (int32_t)first, (int32_t)(last > first ? last : first)};
    *out = (int32_t)t->n_buffer++;
    return ST_OK;
}

static bool same_bytes(const tape_t *t, const tape_val_t *a, const tape_val_t *b) {
    view_t x = tape_shape_at(&a->shape, t->capacity), y = tape_shape_at(&b->shape, t->capacity);
    return view_bytes(&x) == view_bytes(&y);
}

static int times_read(const tape_node_t *n, int32_t val) {
    int count = 0;
    for (int k = 0; k < n->n_in; k++) count += n->in[k] == val;
    return count;
}

/* Buffers of the values that event e writes. out[0] takes over its input's buffer when the op can and e is the last
 * event that reads it. */
static status_t place_outputs(plan_t *p, int64_t e) {
    tape_t *t = p->t;
    const tape_event_t *ev = &t->event[e];
    const tape_node_t *n = &t->node[ev->node];
    int inst = ev->kind != EVENT_FORWARD;
    for (int k = 0; k < n->def->n_out; k++) {
        tape_val_t *v = &t->val[n->out[k]];
        if (ev->kind == EVENT_REMAKE && !v->remade) continue;
        int32_t last = p->last[n->out[k]][inst];
        if (k == 0 && n->def->inplace >= 0 && n->in[n->def->inplace] >= 0) {
            int32_t id = n->in[n->def->inplace];
            tape_val_t *a = &t->val[id];
            int from = instance_of(t, a, ev->kind, n);
            if (a->kind == VAL_NODE && a->buffer[from] >= 0 && p->last[id][from] == e && times_read(n, id) == 1 &&
                from == inst && same_bytes(t, a, v)) {
                v->buffer[inst] = a->buffer[from];
                tape_buffer_t *b = &t->buffer[v->buffer[inst]];
                if (last > b->last) b->last = last;
                continue;
            }
        }
        TRY(add_buffer(t, v, e, last, &v->buffer[inst]));
    }
    return ST_OK;
}

/* Gradient buffers that backward event e writes: the first writer overwrites, later ones add, parameters always add. */
static status_t place_gradients(plan_t *p, int64_t e) {
    tape_t *t = p->t;
    tape_event_t *ev = &t->event[e];
    const tape_node_t *n = &t->node[ev->node];
    for (int k = 0; k < n->n_in; k++) {
        ev->grad_offset[k] = -1;
        if (n->in[k] < 0 || !(n->def->differentiable >> k & 1)) continue;
        tape_val_t *v = &t->val[n->in[k]];
        if (!v->needs_grad) continue;
        ev->io.acc[k] = true;
        if (v->kind == VAL_PARAM) {
            ev->grad_offset[k] = t->params->item[v->param].offset;
            continue;
        }
        if (v->grad >= 0) continue;
        ev->io.acc[k] = false;
        int64_t dies = e; /* its producer's backward event */
        for (int64_t f = e; f < t->n_event; f++)
            if (t->event[f].kind == EVENT_BACKWARD && t->event[f].node == v->node) dies = f;
        int32_t gout = t->val[n->out[0]].grad;
        if (n->def->passthrough == k && gout >= 0 && times_read(n, n->in[k]) == 1 &&
            same_bytes(t, v, &t->val[n->out[0]])) {
            v->grad = gout;
            if (t->buffer[gout].last < dies) t->buffer[gout].last = (int32_t)dies;
            continue;
        }
        TRY(add_buffer(t, v, e, dies, &v->grad));
    }
    return ST_OK;
}

/* ---- placement: largest first, lowest free offset among buffers alive at the same time ------------------------ */

typedef struct order {
    size_t bytes;
    int32_t index;
} order_t;

static int by_size(const void *a, const void *b) {
    const order_t *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_offset(const void *a, const void *b) {
    const tape_buffer_t *x = *(tape_buffer_t *const *)a, *y = *(tape_buffer_t *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static status_t place(tape_t *t) {
    void *orders = NULL, *lives = NULL;
    status_t st = ST_OK;
    TRY_GOTO(buf_calloc(&orders, t->n_buffer, sizeof(order_t), "placement"), done);
    TRY_GOTO(buf_calloc(&lives, t->n_buffer, sizeof(tape_buffer_t *), "placement"), done);
    order_t *order = orders;
    tape_buffer_t **live = lives;
    for (int64_t i = 0; i < t->n_buffer; i++) order[i] = (order_t){t->buffer[i].bytes, (int32_t)i};
    qsort(order, (size_t)t->n_buffer, sizeof *order, by_size);
    t->arena_bytes = 0;
    for (int64_t i = 0; i < t->n_buffer; i++) {
        tape_buffer_t *b = &t->buffer[order[i].index];
        int64_t n = 0;
        for (int64_t j = 0; j < i; j++) {
            tape_buffer_t *o = &t->buffer[order[j].index];
            if (o->first <= b->last && b->first <= o->last) live[n++] = o;
        }
        qsort(live, (size_t)n, sizeof *live, by_offset);
        size_t at = 0;
        for (int64_t j = 0; j < n; j++) {
            if (live[j]->offset >= at + b->bytes) break;
            size_t end = live[j]->offset + live[j]->bytes;
            if (end > at) at = end;
        }
        b->offset = at;
        if (at + b->bytes > t->arena_bytes) t->arena_bytes = at + b->bytes;
    }
done:
    free(orders);
    free(lives);
    return st;
}

/* ---- binding: memory and pointers ------------------------------------------------------------------------------ */

static void *value_data(const tape_t *t, const tape_val_t *v, int instance) {
    switch (v->kind) {
    case VAL_PARAM:
        return t->device ? t->params->item[v->param].at : t->params->item[v->param].value.data;
    case VAL_INPUT:
    case VAL_STATE:
        return t->device ? v->at : v->data;
    case VAL_NODE:
        break;
    }
    return v->buffer[instance] < 0 ? NULL : (char *)t->arena + t->buffer[v->buffer[instance]].offset;
}

/* The gradient of an output; no data where none arrives. */
static view_t gradient_of(const tape_t *t, const tape_val_t *v) {
    view_t g = v->shape;
    if (v->grad >= 0)
        g.data = (char *)t->arena + t->buffer[v->grad].offset;
    else if (v->loss)
        g.data = (void *)(uintptr_t)tape_memory_loss_grad(t);
    return g;
}

static void bind(tape_t *t, tape_event_t *e) {
    const tape_node_t *n = &t->node[e->node];
    op_io_t *io = &e->io;
    uint32_t reads = event_reads(t, e);
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0) continue;
        const tape_val_t *v = &t->val[n->in[k]];
        io->in[k] = v->shape;
        if (reads & NEED_IN(k)) io->in[k].data = value_data(t, v, instance_of(t, v, e->kind, n));
        if (e->kind != EVENT_BACKWARD || !(n->def->differentiable >> k & 1) || !v->needs_grad) continue;
        io->gin[k] = v->shape;
        if (v->grad >= 0) io->gin[k].data = (char *)t->arena + t->buffer[v->grad].offset;
    }
    for (int k = 0; k < n->def->n_out; k++) {
        const tape_val_t *v = &t->val[n->out[k]];
        io->out[k] = v->shape;
        int instance = e->kind == EVENT_FORWARD ? 0 : v->remade || n->replayed;
        if (e->kind != EVENT_BACKWARD || (reads & NEED_OUT(k))) io->out[k].data = value_data(t, v, instance);
    }
    if (e->kind == EVENT_BACKWARD) {
        io->gout = gradient_of(t, &t->val[n->out[0]]);
        if (n->def->second) io->gout1 = gradient_of(t, &t->val[n->out[1]]);
    }
    io->attr = n->attr;
    io->step = &t->step;
    io->device = t->device;
    io->step_on_device = tape_memory_step(t);
}

static status_t bind_all(tape_t *t, const plan_t *p) {
    TRY(tape_memory_open(t));
    for (int64_t e = 0; e < t->n_event; e++) {
        bind(t, &t->event[e]);
        t->event[e].io.want_grad = p->wanted[t->event[e].node];
    }
    tape_set_sizes(t, t->capacity);
    tape_set_grad(t, t->device ? t->params->device_grad : t->params->grad);
    for (int64_t e = 0; e < t->n_event; e++) {
        const tape_node_t *n = &t->node[t->event[e].node];
        const op_kernel_t *k = &t->backend->kernel[n->op];
        if (!k->fwd || (t->event[e].kind == EVENT_BACKWARD && !k->bwd))
            return st_raise(ST_INTERNAL, n->site, "backend %s has no kernel for %s", t->backend->name, n->def->name);
        size_t bytes = k->scratch ? k->scratch(&t->event[e].io) : 0;
        if (bytes > t->scratch_bytes) t->scratch_bytes = bytes;
    }
    TRY(tape_memory_get(t, t->scratch_bytes, "scratch", &t->scratch));
    for (int64_t e = 0; e < t->n_event; e++) t->event[e].io.scratch = t->scratch;
    return ST_OK;
}

status_t tape_plan(tape_t *t, tape_sizes_t capacity, val_t loss, bool with_grad) {
    if (t->error != ST_OK) return st_adopt(t->error, t->error_text ? t->error_text : "tape: failed");
    if (t->planned) return st_raise(ST_INTERNAL, "tape_plan", "planned twice");
    plan_t p = {.t = t};
    void *wanted = NULL, *last = NULL;
    status_t st = ST_OK;
    t->capacity = capacity;
    t->loss = loss;
    t->loss_grad = 1.0;
    TRY_GOTO(buf_calloc(&wanted, t->n_node, sizeof(bool), "plan"), done);
    TRY_GOTO(buf_calloc(&last, t->n_val, sizeof *p.last, "plan"), done);
    p.wanted = wanted;
    p.last = last;
    mark_needs(t);
    tape_loss(t, loss);
    if (with_grad) mark_wanted(&p);
    TRY_GOTO(schedule(&p, with_grad), done);
    find_last_reads(&p);
    for (int64_t e = 0; e < t->n_event; e++)
        TRY_GOTO(t->event[e].kind == EVENT_BACKWARD ? place_gradients(&p, e) : place_outputs(&p, e), done);
    TRY_GOTO(place(t), done);
    TRY_GOTO(bind_all(t, &p), done);
    t->planned = true;
done:
    free(wanted);
    free(last);
    return st;
}
