/* Virtual tokens: layouts, and the rows that a sequence gets in a batch. A byte is a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/batch.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

static const char *const tasks[] = {"translate", "summarize", "answer"};

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

/* `count` rows in each of the field's blocks, and `count` more for an example without a label if `missing`. */
static void add(virtual_layout_t *v, virtual_place_t place, int32_t count, int field, bool missing) {
    int32_t blocks = field < 0 ? 1 : v->field[field].n, first;
    ok(virtual_reserve(v, place, (int64_t)count * (blocks + missing), &first));
    ok(virtual_add_group(v, (virtual_group_t){place, first, count, field, missing ? first + blocks * count : -1}));
}

static int field_of(virtual_layout_t *v, const char *name, bool optional) {
    int field;
    ok(virtual_add_field(v, name, tasks, 3, optional, &field));
    return field;
}

static sequence_t sequence_of(const char *text, int64_t n_prefix, int64_t n_prompt) {
    sequence_t s = {0};
    for (const char *c = text; *c; c++) {
        const int32_t id = *c;
        ok(sequence_add(&s, &id, 1, c - text < n_prompt ? 0.0f : 1.0f));
    }
    s.n_prefix = n_prefix;
    s.n_prompt = n_prompt;
    for (int i = 0; i < VIRTUAL_MAX_FIELDS; i++) s.label[i] = -1;
    return s;
}

#define EXPECT(array, ...)                                                                                             \
    do {                                                                                                               \
        const int32_t want_[] = {__VA_ARGS__};                                                                         \
        for (size_t i_ = 0; i_ < sizeof want_ / sizeof *want_; i_++)                                                   \
            if ((array)[i_] != want_[i_]) fail_msg(#array "[%zu] is %d, not %d", i_, (array)[i_], want_[i_]);          \
    } while (0)

static void test_layout(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    int field, again;
    int32_t first;
    assert_int_equal(virtual_slots(&v) + virtual_prefix(&v), 0);
    ok(virtual_add_field(&v, "task", tasks, 3, true, &field));
    assert_int_equal(virtual_label(&v.field[field], "answer"), 2);
    assert_int_equal(virtual_label(&v.field[field], "answers"), -1);
    ok(virtual_add_field(&v, "task", tasks, 3, true, &again)); /* shared by two methods */
    assert_int_equal(again, field);
    assert_int_equal(v.n_field, 1);
    assert_true(v.field[field].optional);

    ok(virtual_reserve(&v, VIRTUAL_FIRST, 5, &first));
    assert_int_equal(first, 0);
    ok(virtual_add_group(&v, (virtual_group_t){VIRTUAL_FIRST, 0, 5, -1, -1}));
    ok(virtual_reserve(&v, VIRTUAL_AFTER_PROMPT, 8, &first)); /* slots are numbered over all places */
    assert_int_equal(first, 5);
    ok(virtual_add_group(&v, (virtual_group_t){VIRTUAL_AFTER_PROMPT, 5, 2, field, 11}));
    assert_true(v.field[field].optional);               /* rows stand ready for an example without a label */
    ok(virtual_reserve(&v, VIRTUAL_PREFIX, 9, &first)); /* prefix rows apart */
    assert_int_equal(first, 0);
    ok(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 0, 3, field, -1}));
    assert_false(v.field[field].optional); /* this group needs a label */
    assert_int_equal(virtual_slots(&v), 7);
    assert_int_equal(virtual_prefix(&v), 3);
    assert_int_equal(v.slot_rows, 13);
    assert_int_equal(v.prefix_rows, 9);
    virtual_release(&v);
    assert_int_equal(v.n_field, 0);
}

static void test_layout_errors(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    const char *const other[] = {"summarize", "translate", "answer"}, *const twice[] = {"a", "b", "a"};
    int field;
    int32_t first;
    assert_int_equal(field_of(&v, "task", true), 0);
    assert_int_equal(virtual_add_field(&v, "task", other, 3, true, &field), ST_USAGE); /* order is meaning */
    assert_string_equal(st_message(), "task: two methods give the field different labels; give both the same list, in "
                                      "the same order");
    assert_int_equal(virtual_add_field(&v, "task", tasks, 2, true, &field), ST_USAGE);
    assert_int_equal(virtual_add_field(&v, "x", twice, 3, true, &field), ST_USAGE);
    assert_string_equal(st_message(), "x: the label 'a' is listed twice; list it once");
    assert_int_equal(virtual_add_field(&v, "x", twice, 0, true, &field), ST_USAGE);
    assert_int_equal(virtual_add_field(&v, "", tasks, 3, true, &field), ST_USAGE);
    for (char name[] = "b"; v.n_field < VIRTUAL_MAX_FIELDS; name[0]++) field_of(&v, name, false);
    assert_int_equal(virtual_add_field(&v, "one more", tasks, 3, true, &field), ST_USAGE);

    assert_int_equal(virtual_reserve(&v, VIRTUAL_FIRST, 0, &first), ST_USAGE);
    assert_int_equal(virtual_reserve(&v, VIRTUAL_FIRST, (int64_t)1 << 40, &first), ST_USAGE);
    ok(virtual_reserve(&v, VIRTUAL_FIRST, INT32_MAX, &first));
    assert_int_equal(virtual_reserve(&v, VIRTUAL_AFTER_BOS, 1, &first), ST_USAGE);
    ok(virtual_reserve(&v, VIRTUAL_PREFIX, 6, &first));
    assert_int_equal(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 0, 7, -1, -1}), ST_INTERNAL);
    assert_int_equal(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 1, 2, 0, -1}), ST_INTERNAL); /* 3 blocks */
    assert_int_equal(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 0, 2, 0, 5}), ST_INTERNAL);
    assert_int_equal(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 0, 2, VIRTUAL_MAX_FIELDS, -1}),
                     ST_INTERNAL);
    while (v.n_group < VIRTUAL_MAX_GROUPS) ok(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 0, 6, -1, -1}));
    assert_int_equal(virtual_add_group(&v, (virtual_group_t){VIRTUAL_PREFIX, 0, 6, -1, -1}), ST_USAGE);
    virtual_release(&v);
}

/* Every placement at once: prefix | first | B | after BOS | p q | after prompt | x y. */
static void test_rows(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b;
    add(&v, VIRTUAL_AFTER_PROMPT, 1, -1, false); /* slot 0: groups are added in any order */
    add(&v, VIRTUAL_FIRST, 2, -1, false);        /* slots 1 2 */
    add(&v, VIRTUAL_AFTER_BOS, 1, -1, false);    /* slot 3 */
    add(&v, VIRTUAL_PREFIX, 2, -1, false);       /* prefix 0 1 */
    add(&v, VIRTUAL_FIRST, 1, -1, false);        /* slot 4: behind those added before it */
    sequence_t s = sequence_of("Bpqxy", 1, 3);
    ok(batch_init(&b, 24));
    batch_clear(&b);
    ok(batch_add(&b, &v, &s, 7));
    ok(batch_add(&b, &v, &s, 2));
    assert_int_equal(b.n_tokens, 20);
    assert_int_equal(b.n_prefix, 4);
    assert_int_equal(b.n_seqs, 2);
    assert_int_equal(b.n_loss, 4);
    assert_true(b.weight_sum == 4);
    EXPECT(b.ids, 0, 0, 0, 'B', 0, 'p', 'q', 0, 'x', 'y', 0, 0, 0, 'B', 0, 'p', 'q', 0, 'x', 'y');
    EXPECT(b.slot, 1, 2, 4, -1, 3, -1, -1, 0, -1, -1, 1, 2, 4, -1, 3, -1, -1, 0, -1, -1);
    EXPECT(b.positions, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    EXPECT(b.cu_seqlens, 0, 10, 20);
    EXPECT(b.prefix, 0, 1, 0, 1);
    EXPECT(b.cu_prefix, 0, 2, 4);
    EXPECT(b.loss_row, 7, 8, 17, 18); /* the slot behind the prompt predicts x */
    EXPECT(b.targets, 'x', 'y', 'x', 'y');
    for (int64_t t = 0; t < 20; t++)
        assert_true(b.token_key[t] == ((uint64_t)(t < 10 ? 7 : 2) << 32 | (uint64_t)(t % 10)));
    batch_release(&b);
    sequence_release(&s);
    virtual_release(&v);
}

/* Without a layout nothing changes, and the first token is never a target: with nothing or only slots before it. */
static void test_first_token(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b;
    sequence_t s = sequence_of("abc", 0, 0);
    assert_true(s.weight[0] == 1.0f);
    s.weight[1] = 0.25f;
    ok(batch_init(&b, 6));
    batch_clear(&b);
    ok(batch_add(&b, &v, &s, 0));
    EXPECT(b.slot, -1, -1, -1);
    EXPECT(b.positions, 0, 1, 2);
    EXPECT(b.loss_row, 0, 1);
    assert_int_equal(b.n_loss, 2);
    assert_true(b.loss_weight[0] == 0.25f && b.weight_sum == 1.25);
    EXPECT(b.cu_prefix, 0, 0);

    add(&v, VIRTUAL_FIRST, 1, -1, false);
    add(&v, VIRTUAL_AFTER_BOS, 1, -1, false);    /* no BOS: directly behind */
    add(&v, VIRTUAL_AFTER_PROMPT, 1, -1, false); /* no prompt either: a document */
    batch_clear(&b);
    ok(batch_add(&b, &v, &s, 0));
    EXPECT(b.slot, 0, 1, 2, -1, -1, -1);
    EXPECT(b.loss_row, 3, 4);
    EXPECT(b.targets, 'b', 'c');
    assert_int_equal(b.n_loss, 2);

    s.n_prompt = 1; /* a slot between first and second token predicts the second */
    batch_clear(&b);
    ok(batch_add(&b, &v, &s, 0));
    EXPECT(b.slot, 0, 1, -1, 2, -1, -1);
    EXPECT(b.loss_row, 3, 4);
    EXPECT(b.targets, 'b', 'c');
    batch_release(&b);
    sequence_release(&s);
    virtual_release(&v);
}

static void test_capacity(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b;
    add(&v, VIRTUAL_PREFIX, 2, -1, false);
    add(&v, VIRTUAL_FIRST, 1, -1, false);
    sequence_t s = sequence_of("abc", 0, 1);
    ok(batch_init(&b, 12));
    batch_clear(&b);
    ok(batch_add(&b, &v, &s, 0));
    ok(batch_add(&b, &v, &s, 1)); /* 2 * (3 tokens + 1 slot + 2 prefix rows) */
    assert_int_equal(batch_add(&b, &v, &s, 2), ST_INTERNAL);
    batch_release(&b);
    ok(batch_init(&b, 11));
    batch_clear(&b);
    ok(batch_add(&b, &v, &s, 0));
    assert_int_equal(batch_add(&b, &v, &s, 1), ST_INTERNAL);
    assert_int_equal(b.n_tokens, 4);
    assert_int_equal(b.n_prefix, 2);
    s.n_prompt = 4;
    batch_clear(&b);
    assert_int_equal(batch_add(&b, &v, &s, 0), ST_INTERNAL);
    batch_release(&b);
    sequence_release(&s);
    virtual_release(&v);
}

/* Labels choose a block of the rows; an example without one gets the rows kept for it. */
static void test_blocks(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b;
    int task = field_of(&v, "task", true), tone = field_of(&v, "tone", false);
    add(&v, VIRTUAL_FIRST, 2, task, true);   /* slots 0 1 | 2 3 | 4 5 | missing 6 7 */
    add(&v, VIRTUAL_PREFIX, 1, tone, false); /* prefix 0 | 1 | 2 */
    add(&v, VIRTUAL_PREFIX, 1, -1, false);   /* prefix 3, shared */
    sequence_t s = sequence_of("ab", 0, 1);
    ok(batch_init(&b, 100));
    batch_clear(&b);
    s.label[task] = 1, s.label[tone] = 2;
    ok(batch_add(&b, &v, &s, 0));
    s.label[task] = -1, s.label[tone] = 0;
    ok(batch_add(&b, &v, &s, 1));
    EXPECT(b.slot, 2, 3, -1, -1, 6, 7, -1, -1);
    EXPECT(b.prefix, 2, 3, 0, 3);
    EXPECT(b.cu_prefix, 0, 2, 4);
    s.label[tone] = -1;
    assert_int_equal(batch_add(&b, &v, &s, 2), ST_INPUT);
    assert_string_equal(st_message(), "an example has no known label in the field 'tone'; add it");
    s.label[tone] = 3;
    assert_int_equal(batch_add(&b, &v, &s, 2), ST_INTERNAL);
    batch_release(&b);
    sequence_release(&s);
    virtual_release(&v);
}

static char *dir;

static dataset_options_t options(const virtual_layout_t *v) {
    return (dataset_options_t){.encoder = bytes_encoder(true),
                               .max_seq_length = 100,
                               .chat_template = CHAT_CHATML,
                               .append_eos = true,
                               .layout = v};
}

/* From files to arrays: lengths do not count virtual tokens, batches have them. */
static void test_dataset_batch(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b;
    dataset_t *d;
    int task = field_of(&v, "task", false);
    add(&v, VIRTUAL_AFTER_BOS, 1, task, false);
    add(&v, VIRTUAL_AFTER_PROMPT, 1, -1, false); /* slot 3 */
    add(&v, VIRTUAL_PREFIX, 3, -1, false);
    dataset_options_t o = options(&v);
    o.max_seq_length = 4;
    o.truncation = TRUNCATE_LEFT;
    const char *text[] = {"{\"prompt\": \"pq\", \"completion\": \"x\", \"task\": \"answer\"}\n", /* cut to B q x E */
                          "{\"text\": \"abcd\", \"task\": \"summarize\"}\n"};                    /* B a b c, B d E */
    ok(text_dataset(dir, text, 2, o, &d));
    assert_int_equal(dataset_max_tokens(d), 4);
    assert_int_equal(dataset_virtual_tokens(d), 5);
    assert_ptr_equal(dataset_layout(d), &v);
    assert_int_equal(dataset_sequence_tokens(d, 2), 3);
    ok(batch_init(&b, 4 + 4 + 3 + 3 * 5));
    const int64_t index[] = {0, 1, 2};
    ok(batch_fill(&b, d, index, -1, index, 3));
    assert_int_equal(b.n_tokens, 11 + 6);
    assert_int_equal(b.n_prefix, 9);
    EXPECT(b.ids, BYTE_BOS, 0, 'q', 0, 'x', BYTE_EOS, BYTE_BOS, 0, 0, 'a', 'b', 'c', BYTE_BOS, 0, 0, 'd', BYTE_EOS);
    EXPECT(b.slot, -1, 2, -1, 3, -1, -1, -1, 1, 3, -1, -1, -1, -1, 1, 3, -1, -1);
    EXPECT(b.positions, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7);
    EXPECT(b.cu_seqlens, 0, 6, 12, 17);
    EXPECT(b.cu_prefix, 0, 3, 6, 9);
    EXPECT(b.prefix, 0, 1, 2, 0, 1, 2, 0, 1, 2);
    EXPECT(b.loss_row, 3, 4, 8, 9, 10, 14, 15);
    EXPECT(b.targets, 'x', BYTE_EOS, 'a', 'b', 'c', 'd', BYTE_EOS);
    for (int64_t i = 0, loss = 0; i < 3; i++) {
        loss += dataset_sequence_loss_tokens(d, i);
        if (i == 2) assert_int_equal(loss, b.n_loss);
    }
    batch_release(&b);
    dataset_close(d);
    virtual_release(&v);
}

/* Windows of joined documents may have virtual tokens, but nothing may choose them. */
static void test_wrapped(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b;
    dataset_t *d;
    add(&v, VIRTUAL_AFTER_PROMPT, 1, -1, false);
    dataset_options_t o = options(&v);
    o.packing = PACKING_WRAPPED;
    o.max_seq_length = 4;
    const char *text = "{\"text\": \"ab\"}\n{\"text\": \"cd\"}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    ok(batch_init(&b, 10));
    const int64_t index[] = {0, 1};
    ok(batch_fill(&b, d, index, -1, index, 2));
    EXPECT(b.slot, -1, 0, -1, -1, -1, -1, 0, -1, -1, -1);
    EXPECT(b.ids, BYTE_BOS, 0, 'a', 'b', BYTE_EOS, BYTE_BOS, 0, 'c', 'd', BYTE_EOS);
    batch_release(&b);
    dataset_close(d);
    field_of(&v, "task", true);
    assert_int_equal(text_dataset(dir, &text, 1, o, &d), ST_USAGE);
    assert_string_equal(st_message(), "data.packing: wrapped joins documents, but the field 'task' chooses virtual "
                                      "tokens for each; use best-fit");
    virtual_release(&v);
    o = options(NULL);
    ok(text_dataset(dir, &text, 1, o, &d));
    assert_int_equal(dataset_virtual_tokens(d), 0);
    assert_int_equal(dataset_layout(d)->n_group, 0);
    dataset_close(d);
}

static int setup(void **state) {
    (void)state;
    dir = scratch_create();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* Slots that every sequence begins with are rows once, and prefix rows of the sequences; all else is as without. */
static void test_shared(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    batch_t b, apart;
    sequence_t s = sequence_of("abcd", 1, 2), short_one = sequence_of("xy", 0, 0);
    add(&v, VIRTUAL_PREFIX, 2, -1, false);
    add(&v, VIRTUAL_FIRST, 3, -1, false);
    add(&v, VIRTUAL_AFTER_BOS, 1, -1, false);
    assert_int_equal(virtual_shared(&v), 3);
    ok(batch_init(&b, 40));
    ok(batch_init(&apart, 40));
    b.share = true;
    batch_clear(&b);
    batch_clear(&apart);
    const sequence_t *const all[] = {&s, &short_one};
    for (int i = 0; i < 2; i++) {
        ok(batch_add(&b, &v, all[i], i));
        ok(batch_add(&apart, &v, all[i], i));
    }
    assert_int_equal(b.n_seqs, 3);
    assert_int_equal(b.n_tokens, 3 + 5 + 3);
    EXPECT(b.cu_seqlens, 0, 3, 8, 11);
    EXPECT(b.slot, 0, 1, 2, -1, 3, -1, -1, -1, 3, -1, -1);
    EXPECT(b.positions, 2, 3, 4, 5, 6, 7, 8, 9, 5, 6, 7);
    EXPECT(b.cu_prefix, 0, 2, 7, 12);
    EXPECT(b.prefix, 0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4);
    assert_int_equal(b.n_loss, apart.n_loss);
    for (int64_t m = 0; m < b.n_loss; m++) {
        int32_t row = b.loss_row[m], same = apart.loss_row[m];
        assert_int_equal(b.targets[m], apart.targets[m]);
        assert_int_equal(b.positions[row], apart.positions[same]);
        assert_true(b.token_key[row] == apart.token_key[same]);
        assert_true(b.ids[row] == apart.ids[same] && b.slot[row] == apart.slot[same]);
    }
    for (int k = 0; k < 3; k++) assert_true(b.token_key[k] >> 32 == UINT32_MAX);
    /* one row too few for what is held once */
    batch_t tight;
    ok(batch_init(&tight, 2 + 4 + 4 + 5 - 1));
    tight.share = true;
    batch_clear(&tight);
    assert_int_equal(batch_add(&tight, &v, &s, 0), ST_INTERNAL);
    batch_release(&tight);
    int field = field_of(&v, "task", true);
    assert_int_equal(field, 0);
    assert_int_equal(virtual_shared(&v), 0);
    batch_release(&b);
    batch_release(&apart);
    sequence_release(&s);
    sequence_release(&short_one);
    virtual_release(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),        cmocka_unit_test(test_layout_errors), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_first_token),   cmocka_unit_test(test_capacity),      cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_dataset_batch), cmocka_unit_test(test_shared),        cmocka_unit_test(test_wrapped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
