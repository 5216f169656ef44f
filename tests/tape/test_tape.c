/* The tape: gradients of a whole network against finite differences, and what the planner must not change: which memory
 * is reused, what it held before, how much of the capacity a step uses, what is kept and what replayed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common_net.h"

static const tape_sizes_t room = {24, 20, 1, 0};

static double *zeros(const net_t *n) {
    double *p = calloc((size_t)n->params.n_trainable, sizeof *p); /* enough for float, too */
    assert_non_null(p);
    return p;
}

static size_t grad_bytes(const net_t *n) {
    return (size_t)n->params.n_trainable * dtype_size(n->params.real);
}

static const backend_t *const backends[] = {&backend_ref_f64, &backend_ref_f32, &backend_cpu};
enum { BACKENDS = sizeof backends / sizeof *backends };

static void test_finite_differences(void **state) {
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        net_t n;
        net_open(&n, &backend_ref_f64,
                 (net_how_t){.blocks = 3,
                             .recompute = kind & 1,
                             .dropout = kind & 2 ? 0.25 : 0,
                             .joined = kind & 4,
                             .capacity = room});
        net_load(&n, 11, 7);
        double *grad = zeros(&n), *x = n.params.trainable, step = 1e-5;
        net_run(&n, grad);
        for (int64_t i = 0; i < n.params.n_trainable; i++) {
            double kept = x[i];
            x[i] = kept + step;
            double above = net_run(&n, NULL);
            x[i] = kept - step;
            double slope = (above - net_run(&n, NULL)) / (2 * step);
            x[i] = kept;
            if (!(fabs(grad[i] - slope) <= 1e-7 * (1 + fabs(slope))))
                fail_msg("element %lld: gradient %.12g, slope %.12g", (long long)i, grad[i], slope);
        }
        free(grad);
        net_close(&n);
    }
}

/* What memory holds before a step, or after a larger one, is of no meaning. */
static void test_old_memory_is_not_read(void **state) {
    (void)state;
    for (int k = 0; k < 4 * BACKENDS; k++) {
        net_t n;
        net_open(&n, backends[k / 4],
                 (net_how_t){
                     .blocks = 4, .frozen = 1, .recompute = k & 1, .joined = k & 2, .dropout = 0.2, .capacity = room});
        double *want = zeros(&n), *got = zeros(&n);
        net_fill(&n, 0);
        net_load(&n, 13, 9);
        double loss = net_run(&n, want);
        assert_true(loss > 1 && isfinite(loss));
        for (int round = 0; round < 2; round++) {
            net_load(&n, room.n, room.m);
            net_run(&n, got);
            net_fill(&n, round ? 0x55 : 0xff); /* 0xff... is NaN */
            net_load(&n, 13, 9);
            double again = net_run(&n, got);
            assert_memory_equal(&again, &loss, sizeof loss);
            assert_memory_equal(got, want, grad_bytes(&n));
        }
        free(want);
        free(got);
        net_close(&n);
    }
}

/* Runs the events one by one and fills every buffer with NaN as soon as the plan says it is dead. */
static void run_with_burial(tape_t *t, int64_t first, int64_t end) {
    for (int64_t e = first; e < end; e++) {
        const op_kernel_t *k = &t->backend->kernel[t->node[t->event[e].node].op];
        (t->event[e].kind == EVENT_BACKWARD ? k->bwd : k->fwd)(&t->event[e].io);
        for (int64_t i = 0; i < t->n_buffer; i++)
            if (t->buffer[i].last == e) memset((char *)t->arena + t->buffer[i].offset, 0xff, t->buffer[i].bytes);
    }
}

static void test_dead_memory_is_not_read(void **state) {
    (void)state;
    for (int k = 0; k < 4 * BACKENDS; k++) {
        net_t n;
        net_open(&n, backends[k / 4],
                 (net_how_t){.blocks = 4, .recompute = k & 1, .joined = k & 2, .dropout = 0.2, .capacity = room});
        double *want = zeros(&n), *got = zeros(&n);
        net_load(&n, room.n, room.m);
        net_run(&n, want);
        net_fill(&n, 0xff);
        tape_set_grad(n.tape, got);
        run_with_burial(n.tape, 0, n.tape->n_forward);
        run_with_burial(n.tape, n.tape->n_forward, n.tape->n_event);
        assert_memory_equal(got, want, grad_bytes(&n));
        free(want);
        free(got);
        net_close(&n);
    }
}

/* Buffers that live at the same time do not overlap, and none leaves the arena. */
static void test_placement(void **state) {
    (void)state;
    for (int k = 0; k < 8; k++) {
        net_t n;
        net_open(
            &n, &backend_cpu,
            (net_how_t){.blocks = 5, .recompute = k & 1, .forward_only = k & 2, .joined = k & 4, .capacity = room});
        const tape_t *t = n.tape;
        for (int64_t i = 0; i < t->n_buffer; i++) {
            const tape_buffer_t *a = &t->buffer[i];
            assert_true(a->offset % 64 == 0 && a->offset + a->bytes <= t->arena_bytes);
            for (int64_t j = 0; j < i; j++) {
                const tape_buffer_t *b = &t->buffer[j];
                bool together = a->first <= b->last && b->first <= a->last;
                bool apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
                assert_true(!together || apart);
            }
        }
        net_close(&n);
    }
}

/* Tapes of several sizes that take turns in one memory give what each gives in its own. */
static void test_shared_memory(void **state) {
    (void)state;
    enum { TAPES = 4 };
    static const net_how_t how[TAPES] = {{.blocks = 2, .capacity = {5, 4, 1, 0}},
                                         {.blocks = 4, .recompute = true, .dropout = 0.2, .capacity = {32, 20, 1, 0}},
                                         {.blocks = 3, .joined = true, .dropout = 0.2, .capacity = {9, 9, 1, 0}},
                                         {.blocks = 4, .forward_only = true, .capacity = {24, 8, 1, 0}}};
    for (int k = 0; k < BACKENDS; k++) {
        net_t n[TAPES];
        tape_t *tape[TAPES];
        double *want[TAPES], loss[TAPES];
        for (int i = 0; i < TAPES; i++) {
            net_open(&n[i], backends[k], how[i]);
            tape[i] = n[i].tape;
            want[i] = zeros(&n[i]);
            net_load(&n[i], 5, 4);
            loss[i] = net_run(&n[i], how[i].forward_only ? NULL : want[i]);
        }
        tape_share_memory(tape, TAPES);
        for (int i = 1; i < TAPES; i++) assert_ptr_equal(tape[i]->arena, tape[0]->arena);
        for (int round = 0; round < 2; round++)
            for (int i = 0; i < TAPES; i++) {
                double *got = zeros(&n[i]);
                net_load(&n[i], 5, 4);
                double again = net_run(&n[i], how[i].forward_only ? NULL : got);
                assert_memory_equal(&again, &loss[i], sizeof again);
                assert_memory_equal(got, want[i], grad_bytes(&n[i]));
                free(got);
            }
        for (int i = 0; i < TAPES; i++) {
            free(want[i]);
            net_close(&n[i]);
        }
    }
}

static void test_capacity_changes_nothing(void **state) {
    (void)state;
    for (int k = 0; k < 4 * BACKENDS; k++) {
        net_t wide, exact;
        net_how_t how = {.blocks = 3, .recompute = k & 1, .joined = k & 2, .dropout = 0.2, .capacity = room};
        net_open(&wide, backends[k / 4], how);
        how.capacity = (tape_sizes_t){5, 4, 1, 0};
        net_open(&exact, backends[k / 4], how);
        net_load(&wide, 5, 4);
        net_load(&exact, 5, 4);
        double *a = zeros(&wide), *b = zeros(&exact);
        double x = net_run(&wide, a), y = net_run(&exact, b);
        assert_memory_equal(&x, &y, sizeof x);
        assert_memory_equal(a, b, grad_bytes(&wide));
        assert_true(wide.tape->arena_bytes > exact.tape->arena_bytes);
        free(a);
        free(b);
        net_close(&wide);
        net_close(&exact);
    }
}

static void test_no_rows(void **state) {
    (void)state;
    for (int k = 0; k < BACKENDS; k++) {
        net_t n;
        net_open(&n, backends[k], (net_how_t){.blocks = 2, .capacity = room});
        double *grad = zeros(&n), *none = zeros(&n);
        net_load(&n, 4, 0);
        double loss = net_run(&n, grad);
        assert_true(fabs(loss) <= 0);
        assert_memory_equal(grad, none, grad_bytes(&n));
        free(grad);
        free(none);
        net_close(&n);
    }
}

/* Replaying gives the same bits from less memory; training needs more than evaluation. */
static void test_recompute(void **state) {
    (void)state;
    for (int k = 0; k < BACKENDS; k++) {
        net_t kept, replayed, forward;
        net_how_t how = {.blocks = 8, .dropout = 0.3, .capacity = room};
        net_open(&kept, backends[k], how);
        how.recompute = true;
        net_open(&replayed, backends[k], how);
        how.forward_only = true;
        net_open(&forward, backends[k], how);
        net_load(&kept, 17, 12);
        net_load(&replayed, 17, 12);
        net_load(&forward, 17, 12);
        double *a = zeros(&kept), *b = zeros(&kept);
        double x = net_run(&kept, a), y = net_run(&replayed, b), z = net_run(&forward, NULL);
        assert_memory_equal(&x, &y, sizeof x);
        assert_memory_equal(&x, &z, sizeof x);
        assert_memory_equal(a, b, grad_bytes(&kept));
        assert_true(2 * replayed.tape->arena_bytes < kept.tape->arena_bytes);
        assert_true(forward.tape->arena_bytes < replayed.tape->arena_bytes);
        assert_int_equal(forward.tape->n_event, forward.tape->n_forward);
        free(a);
        free(b);
        net_close(&kept);
        net_close(&replayed);
        net_close(&forward);
    }
}

/* A kept value is still there when forward has ended, however many nodes came after it. */
static void test_kept_values_stay(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        net_t alone, deep;
        net_how_t how = {.blocks = 1, .recompute = k, .forward_only = !k, .keep_first = true, .capacity = room};
        net_open(&alone, &backend_ref_f64, how);
        how.blocks = 6;
        net_open(&deep, &backend_ref_f64, how);
        net_load(&alone, 15, 8);
        net_load(&deep, 15, 8);
        net_run(&alone, NULL);
        net_run(&deep, NULL);
        view_t want = tape_view(alone.tape, alone.first), got = tape_view(deep.tape, deep.first);
        assert_true(got.rank == 2 && got.dim[0] == 15 && got.dim[1] == NET_D);
        assert_memory_equal(got.data, want.data, view_bytes(&want));
        net_close(&alone);
        net_close(&deep);
    }
}

/* Below the lowest trainable tensor no gradient is computed and nothing is replayed. */
static void test_frozen_bottom_costs_nothing(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        net_t n;
        net_open(&n, &backend_ref_f64, (net_how_t){.blocks = 4, .frozen = 2, .recompute = recompute, .capacity = room});
        int above = 0;
        for (int64_t e = n.tape->n_forward; e < n.tape->n_event; e++) {
            assert_true(n.tape->event[e].node >= n.first_node[2]);
            above += n.tape->event[e].kind == EVENT_BACKWARD && n.tape->event[e].node < n.first_node[3];
        }
        /* the lowest adapted block: residual, pair and linear below, product, pair above; its norm, gate and first
         * linear lead to nothing trainable */
        assert_int_equal(above, 5);
        net_close(&n);
    }
}

static void test_errors_stick(void **state) {
    (void)state;
    param_set_t p;
    tape_t *t;
    int w;
    const int64_t shape[] = {6, 5}, n = DIM_N, wide[] = {DIM_N, 4};
    param_set_init(&p, DT_F64);
    assert_int_equal(param_declare(&p, "w", 2, shape, false, false, &w), ST_OK);
    assert_int_equal(param_set_alloc(&p, true), ST_OK);
    assert_int_equal(tape_open(&backend_ref_f64, &p, &t), ST_OK);
    const val_t in[] = {tape_input(t, "x", DT_F64, 2, wide), tape_param(t, w), VAL_NONE};
    val_t y = tape_emit(t, OP_LINEAR, "layer 7 lies", 3, in, NULL, 0, NULL);
    assert_int_equal(y.id, -1);
    int64_t nodes = t->n_node, values = t->n_val;
    const val_t later[] = {y, y};
    assert_int_equal(tape_emit(t, OP_ADD, "later", 2, later, NULL, 0, NULL).id, -1);
    assert_int_equal(tape_input(t, "late input", DT_I32, 1, &n).id, -1);
    assert_int_equal(tape_param(t, w).id, -1);
    tape_segment_begin(t, true);
    tape_segment_end(t);
    tape_keep(t, y);
    assert_int_equal(tape_shape(t, y)->rank, 0);
    assert_true(t->n_node == nodes && t->n_val == values);
    st_clear();
    assert_int_equal(tape_plan(t, room, y, true), ST_INTERNAL);
    assert_non_null(strstr(st_message(), "layer 7 lies"));
    assert_null(strstr(st_message(), "later"));
    tape_close(t);

    assert_int_equal(tape_open(&backend_ref_f64, &p, &t), ST_OK);
    assert_int_equal(tape_param(t, 99).id, -1);
    assert_int_equal(tape_plan(t, room, VAL_NONE, false), ST_INTERNAL);
    tape_close(t);

    assert_int_equal(tape_open(&backend_ref_f64, &p, &t), ST_OK);
    const val_t absent[] = {VAL_NONE, tape_param(t, w)};
    assert_int_equal(tape_emit(t, OP_ADD, "half a sum", 2, absent, NULL, 0, NULL).id, -1);
    assert_int_equal(tape_plan(t, room, VAL_NONE, false), ST_INTERNAL);
    assert_non_null(strstr(st_message(), "half a sum"));
    tape_close(t);
    param_set_release(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_old_memory_is_not_read),
        cmocka_unit_test(test_dead_memory_is_not_read),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_shared_memory),
        cmocka_unit_test(test_capacity_changes_nothing),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_kept_values_stay),
        cmocka_unit_test(test_frozen_bottom_costs_nothing),
        cmocka_unit_test(test_errors_stick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
