/* Several tapes in one memory: a tape reads nothing in its arena or scratch that it did not write in the same pass, so
 * tapes that take turns need but one of each; all are of one device. */
#include <stdlib.h>
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

typedef struct move {
    const char *from;
    size_t bytes;
    char *to;
} move_t;

static void move(const move_t *m, view_t *v) {
    uintptr_t at = (uintptr_t)v->data, first = (uintptr_t)m->from;
    if (v->data && at >= first && at - first < m->bytes) v->data = m->to + (at - first);
}

static void move_events(tape_t *t, const move_t *m) {
    for (int64_t e = 0; e < t->n_event; e++) {
        op_io_t *io = &t->event[e].io;
        const tape_node_t *n = &t->node[t->event[e].node];
        for (int k = 0; k < n->n_in; k++) {
            move(m, &io->in[k]);
            move(m, &io->gin[k]);
        }
        for (int k = 0; k < n->def->n_out; k++) move(m, &io->out[k]);
        move(m, &io->gout);
        move(m, &io->gout1);
    }
}

static void use_arena(tape_t *t, const tape_t *owner) {
    if (t == owner || t->borrows_arena) return;
    move_events(t, &(move_t){t->arena, t->arena_bytes, owner->arena});
    device_release(t->device, t->arena);
    t->arena = owner->arena;
    t->borrows_arena = true;
}

static void use_scratch(tape_t *t, const tape_t *owner) {
    if (t == owner || t->borrows_scratch) return;
    device_release(t->device, t->scratch);
    t->scratch = owner->scratch;
    t->borrows_scratch = true;
    for (int64_t e = 0; e < t->n_event; e++) t->event[e].io.scratch = t->scratch;
}

void tape_share_memory(tape_t *const *t, int n) {
    const tape_t *arena = n ? t[0] : NULL, *scratch = arena;
    for (int i = 1; i < n; i++) {
        if (t[i]->arena_bytes > arena->arena_bytes) arena = t[i];
        if (t[i]->scratch_bytes > scratch->scratch_bytes) scratch = t[i];
    }
    for (int i = 0; i < n; i++) {
        tape_forget_records(t[i]);
        use_arena(t[i], arena);
        use_scratch(t[i], scratch);
    }
}
