#include "train/tape/tape.h"
#include <stdlib.h>
#include <string.h>
#include "train/tape/tape_impl.h"

status_t tape_open(const backend_t *backend, param_set_t *params, tape_t **out) {
    void *p;
    TRY(buf_calloc(&p, 1, sizeof(tape_t), "tape"));
    tape_t *t = p;
    t->backend = backend;
    t->params = params;
    t->device = backend->on_device ? params->device : NULL;
    if (backend->on_device && !t->device) {
        free(t);
        return st_raise(ST_INTERNAL, "tape_open", "the parameters are on no device");
    }
    t->loss = VAL_NONE;
    *out = t;
    return ST_OK;
}

dtype_t tape_real(const tape_t *t) {
    return t->backend->real;
}

void tape_close(tape_t *t) {
    if (!t) return;
    tape_forget_records(t);
    tape_memory_close(t);
    for (int64_t i = 0; i < t->n_val; i++) {
        tape_val_t *v = &t->val[i];
        if (v->kind == VAL_INPUT || v->kind == VAL_STATE) {
            free((char *)(uintptr_t)v->name);
        }
    }
    for (int64_t i = 0; i < t->n_node; i++) {
        free(t->node[i].site);
        free(t->node[i].attr);
    }
    free(t->val);
    free(t->node);
    free(t->segment);
    free(t->event);
    free(t->buffer);
    free(t->error_text);
    free(t);
}

void tape_fail(tape_t *t, status_t st) {
    if (t->error != ST_OK || st == ST_OK) return;
    t->error = st;
    t->error_text = strdup(st_message()); /* when even this fails the status alone remains */
}

static val_t add_val(tape_t *t, tape_val_t v) {
    void *data = t->val;
    status_t st = buf_reserve(&data, &t->cap_val, t->n_val + 1, sizeof *t->val, "tape values");
    if (st != ST_OK) {
        tape_fail(t, st);
        return VAL_NONE;
    }
    t->val = data;
    v.buffer[0] = v.buffer[1] = v.grad = -1;
    t->val[t->n_val] = v;
    return (val_t){(int32_t)t->n_val++};
}

val_t tape_param(tape_t *t, int index) {
    if (t->error != ST_OK) return VAL_NONE;
    if (index < 0 || index >= t->params->count) {
        tape_fail(t, st_raise(ST_INTERNAL, "tape_param", "no parameter %d", index));
        return VAL_NONE;
    }
    for (int64_t i = 0; i < t->n_val; i++)
        if (t->val[i].kind == VAL_PARAM && t->val[i].param == index) return (val_t){(int32_t)i};
    const param_t *p = &t->params->item[index];
    tape_val_t v = {.kind = VAL_PARAM, .shape = p->value, .param = index, .name = p->name, .needs_grad = p->trainable};
    v.shape.data = NULL;
    v.shape.dtype = param_dtype(p, t->backend);
    return add_val(t, v);
}

static val_t add_memory(tape_t *t, val_kind_t kind, const char *name, dtype_t dtype, int rank, const int64_t *dim) {
    if (t->error != ST_OK) return VAL_NONE;
    tape_val_t v = {.kind = kind, .shape = {.dtype = dtype, .rank = rank}};
    for (int i = 0; i < rank; i++) v.shape.dim[i] = dim[i];
    v.name = buf_strdup(name);
    if (!v.name) {
        tape_fail(t, ST_NOMEM);
        return VAL_NONE;
    }
    return add_val(t, v);
}

val_t tape_input(tape_t *t, const char *name, dtype_t dtype, int rank, const int64_t *dim) {
    return add_memory(t, VAL_INPUT, name, dtype, rank, dim);
}

val_t tape_state(tape_t *t, const char *name, dtype_t dtype, int rank, const int64_t *dim) {
    return add_memory(t, VAL_STATE, name, dtype, rank, dim);
}

/* Step sizes are not known when shapes are checked. They stand as large numbers of their own meanwhile, so that ops can
 * compare them (and S + 1 is one more than S), and are found again in the outputs. */
static const tape_sizes_t unknown = {(int64_t)1 << 40, (int64_t)1 << 41, (int64_t)1 << 42, (int64_t)1 << 43};

static void find_sizes(view_t *v) {
    for (int i = 0; i < v->rank; i++) {
        int64_t d = v->dim[i];
        v->dim[i] = d == unknown.n       ? DIM_N
                    : d == unknown.m     ? DIM_M
                    : d == unknown.s     ? DIM_S
                    : d == unknown.s + 1 ? DIM_S1
                    : d == unknown.p     ? DIM_P
                                         : d;
    }
}

static status_t emit(tape_t *t, tape_node_t *node, const char *site, const void *attr, size_t attr_size, view_t *out) {
    view_t in[OP_MAX_IN] = {0};
    for (int i = 0; i < OP_MAX_IN; i++) {
        bool present = i < node->n_in && node->in[i] >= 0;
        if (present) {
            in[i] = tape_shape_at(&t->val[node->in[i]].shape, unknown);
        } else if (i < node->def->n_in && !(node->def->optional >> i & 1)) {
            return st_raise(ST_INTERNAL, site, "%s needs input %d", node->def->name, i);
        }
        if (!present) node->in[i] = -1;
    }
    node->site = buf_strdup(site);
    if (!node->site) return ST_NOMEM;
    if (attr_size) {
        TRY(buf_calloc(&node->attr, 1, attr_size, "op attributes"));
        memcpy(node->attr, attr, attr_size);
    }
    status_t st = node->def->infer(node->attr, in, out);
    if (st != ST_OK) return st_context(st, "%s", site);
    for (int k = 0; k < node->def->n_out; k++) find_sizes(&out[k]);
    return ST_OK;
}

val_t tape_emit(tape_t *t, op_t op, const char *site, int n_in, const val_t *in, const void *attr, size_t attr_size,
                val_t *aux) {
    if (aux) *aux = VAL_NONE;
    if (t->error != ST_OK) return VAL_NONE;
    tape_node_t node = {.op = op, .def = op_defs[op], .n_in = n_in};
    node.segment = t->in_segment ? (int32_t)t->n_segment - 1 : -1;
    for (int i = 0; i < OP_MAX_IN; i++) node.in[i] = i < n_in ? in[i].id : -1;
    for (int i = 0; i < OP_MAX_OUT; i++) node.out[i] = -1;
    view_t out[OP_MAX_OUT] = {0};
    void *nodes = t->node;
    status_t st = buf_reserve(&nodes, &t->cap_node, t->n_node + 1, sizeof *t->node, "tape nodes");
    if (st == ST_OK) {
        t->node = nodes;
        st = emit(t, &node, site, attr, attr_size, out);
    }
    if (st != ST_OK) {
        tape_fail(t, st);
        free(node.site);
        free(node.attr);
        return VAL_NONE;
    }
    int32_t index = (int32_t)t->n_node;
    for (int k = 0; k < node.def->n_out; k++) {
        tape_val_t v = {.kind = VAL_NODE, .shape = out[k], .name = node.site, .node = index, .out = k};
        node.out[k] = add_val(t, v).id;
    }
    t->node[t->n_node++] = node;
    if (aux) *aux = (val_t){node.out[1]};
    return (val_t){node.out[0]};
}

void tape_segment_begin(tape_t *t, bool recompute) {
    if (t->error != ST_OK) return;
    void *data = t->segment;
    status_t st = buf_reserve(&data, &t->cap_segment, t->n_segment + 1, sizeof *t->segment, "tape segments");
    if (st != ST_OK) {
        tape_fail(t, st);
        return;
    }
    t->segment = data;
    t->segment[t->n_segment++] = (tape_segment_t){.recompute = recompute, .first = (int32_t)t->n_node};
    t->in_segment = true;
}

void tape_segment_end(tape_t *t) {
    if (t->error != ST_OK || !t->in_segment) return;
    t->segment[t->n_segment - 1].last = (int32_t)t->n_node - 1;
    t->in_segment = false;
}

void tape_keep(tape_t *t, val_t v) {
    if (t->error == ST_OK && v.id >= 0) t->val[v.id].keep = true;
}

void tape_loss(tape_t *t, val_t v) {
    if (t->error == ST_OK && v.id >= 0) t->val[v.id].loss = true;
}

const view_t *tape_shape(const tape_t *t, val_t v) {
    static const view_t none = {0};
    return t->error == ST_OK && v.id >= 0 ? &t->val[v.id].shape : &none;
}

view_t tape_shape_at(const view_t *shape, tape_sizes_t sizes) {
    view_t v = *shape;
    for (int i = 0; i < v.rank; i++) {
        switch (v.dim[i]) {
        case DIM_N:
            v.dim[i] = sizes.n;
            break;
        case DIM_M:
            v.dim[i] = sizes.m;
            break;
        case DIM_S:
            v.dim[i] = sizes.s;
            break;
        case DIM_S1:
            v.dim[i] = sizes.s + 1;
            break;
        case DIM_P:
            v.dim[i] = sizes.p;
            break;
        default:
            break;
        }
    }
    return v;
}

size_t tape_arena_bytes(const tape_t *t) {
    return t->arena_bytes + t->scratch_bytes;
}

void tape_print(const tape_t *t, FILE *f) {
    for (int64_t i = 0; i < t->n_node; i++) {
        const tape_node_t *n = &t->node[i];
        fprintf(f, "%4lld %-22s %-32s", (long long)i, n->def->name, n->site);
        view_t v = tape_shape_at(&t->val[n->out[0]].shape, t->capacity);
        for (int k = 0; k < v.rank; k++) fprintf(f, "%s%lld", k ? "x" : " ", (long long)v.dim[k]);
        fprintf(f, "%s%s\n", n->needs_grad ? " grad" : "", n->replayed ? " replayed" : "");
    }
}
