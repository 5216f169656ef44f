#include "train/config/config_tables.h"
#include <assert.h>
#include "data/dataset.h"
#include "data/render.h"

/* the choices of `data` below are spelt in the order of these enumerations */
static_assert(FORMAT_COUNT == 6 && CHAT_COUNT == 4 && PACKING_COUNT == 3 && TRUNCATE_COUNT == 3, "a choice is missing");

/* X(name, TYPE, default, min, max, choices, partner, flags, doc) */
#define ROW(type_t, name, kind, standard, min, max, choices, partner, flags, doc)                                      \
    { #name, kind, offsetof(type_t, name), standard, min, max, choices, doc, partner, flags }

#define MANY   1e15 /* more than any count of steps or tokens; exact in a double */

#define R(...) ROW(config_model_t, __VA_ARGS__)
const cfg_field_t config_model_fields[] = {
    R(path, CFG_PATH, NULL, 0, 0, NULL, "config", 0, "a Hugging Face directory or a GGUF file"),
    R(config, CFG_STRING, NULL, 0, 0, NULL, "path", CFG_FREE, "a model to make anew: a name or a configuration file"),
    R(tokenizer, CFG_PATH, NULL, 0, 0, NULL, "path", CFG_FREE, "its tokenizer: a Hugging Face directory or a GGUF"),
    R(dtype, CFG_CHOICE, "float32", 0, 0, "float32|bfloat16", NULL, 0, "type of the base weights in memory"),
    {0}};
#undef R

#define R(...) ROW(config_data_t, __VA_ARGS__)
const cfg_field_t config_data_fields[] = {
    R(train, CFG_SOURCES, NULL, 0, 0, NULL, NULL, CFG_REQUIRED, "a JSONL file or token store, or a list with weights"),
    R(eval, CFG_PATH, NULL, 0, 0, NULL, NULL, CFG_FREE, "a JSONL file or token store to evaluate on"),
    R(format, CFG_CHOICE, "auto", 0, 0, "auto|text|prompt-completion|chat|alpaca|sharegpt", NULL, 0,
      "fields of an example"),
    R(chat_template, CFG_CHOICE, "chatml", 0, 0, "none|chatml|llama3|alpaca", NULL, 0, "how a chat is written as text"),
    R(max_seq_length, CFG_INT, "1024", 2, 1 << 20, NULL, NULL, 0, "most tokens of one sequence"),
    R(packing, CFG_CHOICE, "best-fit", 0, 0, "best-fit|wrapped|none", NULL, 0, "how sequences fill micro-batches"),
    R(truncation, CFG_CHOICE, "error", 0, 0, "error|left|right", NULL, 0, "what happens to a longer example"),
    R(train_on_inputs, CFG_BOOL, "false", 0, 0, NULL, NULL, 0, "loss on prompts too"),
    R(append_eos, CFG_BOOL, "true", 0, 0, NULL, NULL, 0, "end completions and documents with EOS"),
    R(shuffle, CFG_BOOL, "true", 0, 0, NULL, NULL, 0, "a new permutation each epoch"),
    R(route_field, CFG_STRING, NULL, 0, 0, NULL, NULL, 0, "field of the examples that says which run is theirs"),
    R(route, CFG_STRING, NULL, 0, 0, NULL, NULL, 0, "what it says for this run"),
    R(routes, CFG_STRINGS, NULL, 0, 0, NULL, NULL, CFG_FREE, "all that it may say"),
    R(filter, CFG_THRESHOLD, NULL, 0, 0, NULL, NULL, 0, "training examples by a number: {field, at_most | at_least}"),
    {0}};
#undef R

#define R(...) ROW(config_method_t, __VA_ARGS__)
const cfg_field_t config_method_fields[] = {
    R(learning_rate, CFG_REAL, NULL, 0, 1e6, NULL, NULL, CFG_ABOVE, "default: the run's; follows the same schedule"),
    {0}};
#undef R

#define R(...) ROW(config_conditioning_t, __VA_ARGS__)
const cfg_field_t config_conditioning_fields[] = {
    R(special_tokens, CFG_STRINGS, NULL, 0, 0, NULL, NULL, 0, "tokens that the tokenizer learns"),
    R(train_special_tokens, CFG_BOOL, "true", 0, 0, NULL, NULL, 0, "train the rows of new tokens beside the method"),
    R(template, CFG_TEMPLATE, NULL, 0, 0, NULL, NULL, 0, "slots around the document, in order"),
    {0}};
#undef R

#define R(...) ROW(config_training_t, __VA_ARGS__)
const cfg_field_t config_training_fields[] = {
    R(global_batch_size, CFG_INT, "16", 1, MANY, NULL, "global_batch_tokens", 0, "sequences of one step"),
    R(global_batch_tokens, CFG_INT, NULL, 1, MANY, NULL, "global_batch_size", 0, "tokens of one step"),
    R(micro_batch_tokens, CFG_INT, "2048", 2, 1 << 30, NULL, NULL, CFG_FREE, "most tokens in one forward pass"),
    R(max_steps, CFG_INT, NULL, 1, MANY, NULL, "num_train_epochs", CFG_FREE, "steps of the run"),
    R(num_train_epochs, CFG_REAL, "1", 0, 1e9, NULL, "max_steps", CFG_FREE | CFG_ABOVE, "epochs of the run"),
    R(learning_rate, CFG_REAL, "2e-4", 0, 1e6, NULL, NULL, 0, "highest learning rate"),
    R(lr_scheduler_type, CFG_CHOICE, "linear", 0, 0, "constant|linear|cosine|wsd", NULL, 0, "shape after warm-up"),
    R(warmup_ratio, CFG_REAL, NULL, 0, 1, NULL, "warmup_steps", 0, "share of the steps that warm up"),
    R(warmup_steps, CFG_INT, NULL, 0, MANY, NULL, "warmup_ratio", 0, "steps that warm up"),
    R(min_lr_ratio, CFG_REAL, "0", 0, 1, NULL, NULL, 0, "learning rate at the end, as a share of the highest"),
    R(wsd_decay_ratio, CFG_REAL, "0.1", 0, 1, NULL, NULL, 0, "share of the steps in which wsd decays"),
    R(optim, CFG_CHOICE, "adamw", 0, 0, "adamw", NULL, 0, "optimiser"),
    R(adam_beta1, CFG_REAL, "0.9", 0, 1, NULL, NULL, CFG_BELOW, "decay of the first moment"),
    R(adam_beta2, CFG_REAL, "0.999", 0, 1, NULL, NULL, CFG_BELOW, "decay of the second moment"),
    R(adam_epsilon, CFG_REAL, "1e-8", 0, 1, NULL, NULL, CFG_ABOVE, "added to the root of the second moment"),
    R(weight_decay, CFG_REAL, "0.0", 0, 1e3, NULL, NULL, 0, "decoupled decay"),
    R(max_grad_norm, CFG_REAL, "1.0", 0, 1e15, NULL, NULL, 0, "clip gradients to this norm; 0 does not clip"),
    R(gradient_checkpointing, CFG_BOOL, "false", 0, 0, NULL, NULL, CFG_FREE, "recompute activations in backward"),
    R(cuda_graph, CFG_BOOL, "true", 0, 0, NULL, NULL, CFG_FREE, "record a GPU's passes and launch each as a whole"),
    R(reduction, CFG_CHOICE, "canonical", 0, 0, "canonical|fast", NULL, CFG_FREE,
      "order in which gradients are summed"),
    R(optimizer_sharding, CFG_CHOICE, "none", 0, 0, "none|zero1", NULL, CFG_FREE,
      "zero1: each rank holds a share of the optimiser's state"),
    R(seed, CFG_INT, "42", 0, MANY, NULL, NULL, 0, "of every random number of the run"),
    {0}};
#undef R

#define R(...) ROW(config_t, __VA_ARGS__)
const cfg_field_t config_top_fields[] = {
    R(output_dir, CFG_PATH, NULL, 0, 0, NULL, NULL, CFG_REQUIRED | CFG_FREE, "where everything is written"),
    R(logging_steps, CFG_INT, "1", 1, MANY, NULL, NULL, CFG_FREE, "steps between log lines"),
    R(eval_steps, CFG_INT, "0", 0, MANY, NULL, NULL, CFG_FREE, "steps between evaluations; 0: at the end only"),
    R(save_steps, CFG_INT, "0", 0, MANY, NULL, NULL, CFG_FREE, "steps between checkpoints; 0: at the end only"),
    R(save_total_limit, CFG_INT, "0", 0, MANY, NULL, NULL, CFG_FREE, "checkpoints to keep; 0: all"),
    R(resume_from_checkpoint, CFG_PATH, "auto", 0, 0, "auto|never", NULL, CFG_FREE, "auto, never or a checkpoint"),
    R(device, CFG_STRING, "auto", 0, 0, NULL, NULL, CFG_FREE, "auto, cpu, cuda or cuda:N"),
    R(share_device, CFG_BOOL, "false", 0, 0, NULL, NULL, CFG_FREE, "several ranks of a node may use one GPU"),
    {0}};
#undef R

const config_section_t config_sections[CONFIG_SECTION_COUNT] = {
    {"model", config_model_fields, offsetof(config_t, model), true, false},
    {"data", config_data_fields, offsetof(config_t, data), true, true},
    {"conditioning", config_conditioning_fields, offsetof(config_t, conditioning), false, true},
    {"training", config_training_fields, offsetof(config_t, training), false, false}};
