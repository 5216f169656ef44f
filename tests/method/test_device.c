/* Every method on a device, which is the host with CUDA's kernels (tests/cuda_on_host), beside the CPU: losses and
 * gradients of a batch that is padded there, in float and bfloat16; the same bits again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/common/device_group.h"
#include "tests/common/tiny_model.h"

static const struct {
    const char *method, *config;
} rows[] = {
    {"{type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.3, target_modules: all-linear}", tiny_llama},
    {"{type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.3, target_modules: all-linear}", tiny_gpt2},
    {"{type: prompt_tuning, num_virtual_tokens: 3, position: after_bos}", tiny_llama},
    {"{type: prompt_tuning, num_virtual_tokens: 2, prompts: {field: task, values: [a, b, c]}}", tiny_gpt2},
    {"{type: p_tuning, num_virtual_tokens: 3}", tiny_gpt2},
    {"{type: p_tuning, num_virtual_tokens: 3, encoder_reparameterization_type: lstm, encoder_hidden_size: 5}",
     tiny_llama},
    {"{type: prefix_tuning, num_virtual_tokens: 3}", tiny_llama},
    {"{type: prefix_tuning, num_virtual_tokens: 2, prefix_projection: true, encoder_hidden_size: 5}", tiny_gpt2},
    {"{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: task, values: [a, b], num_virtual_tokens: "
     "2}]}",
     tiny_llama},
    {"{type: demix, domains: {field: domain, values: [a, b]}}", tiny_llama},
    {"{type: full}", tiny_llama},
    {"{type: full}", tiny_gpt2},
    {"{type: lora, r: 4, lora_alpha: 8, target_modules: all-linear}\n"
     "objective: {type: unlikelihood, threshold: 0.3, alpha: 1.0}",
     tiny_llama},
};
enum { ROWS = sizeof rows / sizeof *rows, SEQS = 4 };
static const int32_t lengths[SEQS] = {9, 1, 14, 6};
/* Most relative distance from the CPU's in float; bfloat16 has 8 bits, of which a few layers leave 4 to 5. */
static const struct {
    const backend_t *backend;
    double loss, grad;
} kinds[] = {{&backend_cuda_f32, 1e-5, 2e-5}, {&backend_cuda_bf16, 1e-2, 0.1}};

static void check(int row, int kind, bool recompute) {
    tiny_t t;
    batch_t b;
    const tiny_how_t cpu = {.backend = &backend_cpu, .recompute = recompute},
                     dev = {.backend = kinds[kind].backend, .recompute = recompute};
    tiny_open(&t, rows[row].config, rows[row].method, DT_F32);
    tiny_randomize(&t);
    tiny_batch(&b, &t, lengths, SEQS, 0);
    float *want = tiny_zeros(&t), *got = tiny_zeros(&t), *again = tiny_zeros(&t);
    size_t bytes = (size_t)t.model.params.n_trainable * sizeof *want;
    double loss = tiny_run(&t, cpu, &b, want);
    if (param_set_place(&t.model.params, device, dev.backend) != ST_OK) fail_msg("%s", st_message());
    double other = tiny_run(&t, dev, &b, got), same = tiny_run(&t, dev, &b, again);
    assert_memory_equal(&other, &same, sizeof other);
    assert_memory_equal(got, again, bytes);
    double off = fabs(other - loss) / fabs(loss),
           distance = tiny_distance(got, want, DT_F32, t.model.params.n_trainable);
    if (!(off <= kinds[kind].loss && distance <= kinds[kind].grad))
        fail_msg("%s, kind %d: loss %.9g, CPU %.9g; gradients differ by %g", rows[row].method, kind, other, loss,
                 distance);
    free(want);
    free(got);
    free(again);
    batch_release(&b);
    tiny_close(&t);
}

static void test_float(void **state) {
    (void)state;
    for (int row = 0; row < ROWS; row++) check(row, 0, row & 1);
}

static void test_bfloat16(void **state) {
    (void)state;
    for (int row = 0; row < ROWS; row++) check(row, 1, !(row & 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_float), cmocka_unit_test(test_bfloat16)};
    return cmocka_run_group_tests_name("methods on a device", tests, open_device, close_device);
}
