#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "train/run/dataload.h"
#include "train/run/sharding.h"
#include "train/run/signals.h"
#include "train/run/trainer.h"

static status_t open_compute(trainer_t *t, const trainer_t *base) {
    if (base) {
        t->compute = base->compute;
        return ST_OK;
    }
    TRY(compute_open(t->config->device, t->config->model.dtype == CONFIG_DTYPE_BFLOAT16 ? DT_BF16 : DT_F32, t->comm,
                     t->config->share_device, &t->compute));
    t->owns_compute = true;
    return ST_OK;
}

static status_t open_model(trainer_t *t, const trainer_t *base) {
    TRY(open_compute(t, base));
    TRY(loaded_open_methods(t->config, base ? &base->loaded : NULL, &t->loaded));
    TRY(loaded_place(&t->loaded, &t->compute));
    long long length = (long long)t->config->data.max_seq_length;
    long long extra = virtual_tokens(&t->loaded.layout);
    if (length + extra > t->loaded.model.config.max_positions)
        return st_raise(ST_USAGE, "data.max_seq_length",
                        "%lld and %lld virtual tokens exceed the model's %lld positions", length, extra,
                        (long long)t->loaded.model.config.max_positions);
    if (length + extra > t->config->training.micro_batch_tokens)
        return st_raise(ST_USAGE, "training.micro_batch_tokens",
                        "%lld is less than data.max_seq_length and the virtual tokens, %lld + %lld",
                        (long long)t->config->training.micro_batch_tokens, length, extra);
    t->tokenizer_fingerprint = tokenizer_fingerprint(t->loaded.tokenizer);
    TRY(stages_open(t->config, &t->loaded, &t->stage, &t->n_stage));
    return config_dump(t->config, &t->config_yaml);
}

/* Collective, with agreements of its own: nothing may fail on one rank alone in here. Evaluation is of documents alone,
 * so that losses are comparable whatever a run trains with. */
static status_t open_data(trainer_t *t) {
    const config_data_t *c = &t->config->data;
    for (int i = 0; i < t->n_stage; i++) TRY(stage_open_data(t->comm, &t->loaded, &t->stage[i]));
    if (!c->eval) return ST_OK;
    const dataset_source_t eval = {c->eval, 1.0};
    const dataload_t load = {.config = c,
                             .sources = &eval,
                             .n_sources = 1,
                             .encoder = encoder_of_tokenizer(t->loaded.tokenizer),
                             .layout = &t->loaded.layout};
    TRY(dataload_open(t->comm, &load, &t->eval_data));
    t->has_eval = true;
    return ST_OK;
}

static status_t hash_data(trainer_t *t) {
    XXH64_state_t *h = XXH64_createState();
    if (!h) return st_nomem("fingerprint", 0);
    XXH64_reset(h, 0);
    for (int k = 0; k < t->n_stage; k++)
        for (int64_t i = 0; i < dataset_sequences(t->stage[k].data); i++) {
            const int32_t n[2] = {dataset_sequence_tokens(t->stage[k].data, i),
                                  dataset_sequence_loss_tokens(t->stage[k].data, i)};
            XXH64_update(h, n, sizeof n);
        }
    t->data_fingerprint = XXH64_digest(h);
    XXH64_freeState(h);
    return ST_OK;
}

static status_t open_stream(trainer_t *t) {
    const config_training_t *c = &t->config->training;
    int64_t total;
    TRY(stages_open_streams(t->stage, t->n_stage, &total));
    t->schedule =
        (schedule_t){.kind = (schedule_kind_t)c->lr_scheduler_type, .total = total, .min_ratio = c->min_lr_ratio};
    t->schedule.warmup = c->warmup_steps ? c->warmup_steps : (int64_t)ceil(c->warmup_ratio * (double)total);
    t->schedule.decay = (int64_t)ceil(c->wsd_decay_ratio * (double)total);
    return ST_OK;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Most tokens one micro-batch can hold: no more than the data can fill. */
static int64_t capacity(const trainer_t *t, const dataset_t *d, int64_t sequences) {
    int64_t longest = dataset_max_tokens(d) + dataset_virtual_tokens(d), most = t->config->training.micro_batch_tokens;
    if ((packing_t)t->config->data.packing == PACKING_NONE) return longest;
    return sequences > 0 && sequences < most / longest + 1 ? smaller(most, sequences * longest) : most;
}

static status_t open_tape(trainer_t *t, stage_t *s) {
    const config_training_t *c = &t->config->training;
    int64_t n = s->capacity = capacity(t, s->data, c->global_batch_size);
    build_options_t o = {.tail = TAIL_LOSS, .goal = s->goal, .with_grad = true, .recompute = c->gradient_checkpointing};
    micro_share(&t->loaded.layout, n, &o);
    TRY(build_open(&t->loaded.model, t->compute.backend, t->loaded.hook, t->loaded.n_method, o, &s->build));
    buckets_cut(s->build.tape, &t->loaded.model.params, BUCKET_FLOATS, &s->buckets);
    return ST_OK;
}

static void set_recording(trainer_t *t) {
    const bool on = t->config->training.cuda_graph;
    for (int i = 0; i < t->n_stage; i++) tape_set_recording(t->stage[i].build.tape, on);
    if (t->has_eval) tape_set_recording(t->evaluator.build.tape, on);
}

static status_t open_engine(trainer_t *t) {
    const config_training_t *c = &t->config->training;
    param_set_t *params = &t->loaded.model.params;
    int64_t largest = 0;
    for (int i = 0; i < t->n_stage; i++) {
        TRY(open_tape(t, &t->stage[i]));
        if (t->stage[i].capacity > largest) largest = t->stage[i].capacity;
    }
    TRY(micro_batch_init(&t->loaded.layout, largest, &t->batch));
    t->grad = t->compute.device ? params->device_grad : params->grad;
    adamw_options_t adam = {.beta1 = c->adam_beta1,
                            .beta2 = c->adam_beta2,
                            .epsilon = c->adam_epsilon,
                            .weight_decay = c->weight_decay,
                            .is_share = c->optimizer_sharding == CONFIG_SHARDING_ZERO1,
                            .n_share = comm_size(t->comm),
                            .share = comm_rank(t->comm)};
    if (adam.is_share) sharding_share(t->comm, params->n_trainable, &adam.first, &adam.n);
    TRY(adamw_open(t->compute.backend->vector, params, &adam, &t->optim));
    if (c->reduction == CONFIG_REDUCTION_CANONICAL)
        TRY(tree_open(t->vectors, t->compute.backend->vector, params->n_trainable, t->grad, &t->tree));
    if (t->has_eval)
        TRY(evaluator_open(&t->loaded, t->eval_data, (packing_t)t->config->data.packing,
                           capacity(t, t->eval_data, dataset_sequences(t->eval_data)), &t->evaluator));
    set_recording(t);
    return ST_OK;
}

/* Collective. */
static status_t open_vectors(trainer_t *t, const trainer_t *base) {
    if (base) {
        t->vectors = base->vectors;
        return ST_OK;
    }
    const comm_data_options_t o = {.device = t->compute.device, .share_device = t->config->share_device};
    TRY(comm_data_open(t->comm, &o, &t->vectors));
    t->owns_vectors = true;
    return ST_OK;
}

static status_t make_directories(const char *path) {
    char part[PATH_MAX];
    if (strlen(path) >= sizeof part) return st_raise(ST_USAGE, "output_dir", "is too long");
    strcpy(part, path);
    for (char *s = part + 1;; s++) {
        if (*s && *s != '/') continue;
        char end = *s;
        *s = 0;
        if (mkdir(part, 0777) && errno != EEXIST) return st_errno(ST_IO, part, "make this directory", errno);
        *s = end;
        if (!end) return ST_OK;
    }
}

/* One run per directory: the lock goes away with the process, however it ends. */
static status_t lock_directory(const char *dir) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.lock", dir);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0) return st_errno(ST_IO, path, "open", errno);
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        close(fd);
        return st_raise(ST_USAGE, dir,
                        "another run is writing to this directory; wait for it or choose another output_dir");
    }
    return ST_OK; /* held until the process ends */
}

static status_t open_directory(trainer_t *t) {
    if (comm_rank(t->comm)) return ST_OK;
    const char *from = t->config->resume_from_checkpoint;
    bool named = strcmp(from, "auto") && strcmp(from, "never");
    if (named && access(from, R_OK))
        return st_errno(ST_INPUT, from, "read this checkpoint", errno); /* before anything is made */
    TRY(make_directories(t->config->output_dir));
    return lock_directory(t->config->output_dir);
}

static status_t open_reporter(trainer_t *t) {
    if (comm_rank(t->comm)) return ST_OK;
    TRY(reporter_open(t->config, t->config_yaml.data, t->step, t->schedule.total, comm_size(t->comm), &t->reporter));
    const param_set_t *p = &t->loaded.model.params;
    reporter_say(t->reporter,
                 "model %s family %s parameters %lld trainable %lld ranks %d threads %d arena %.1f MiB sequences %lld",
                 t->loaded.model.path, t->loaded.model.family->name,
                 (long long)(p->n_shared + p->n_frozen + p->n_trainable), (long long)p->n_trainable, comm_size(t->comm),
                 omp_get_max_threads(), (double)tape_arena_bytes(t->now->build.tape) / 1048576.0,
                 (long long)dataset_sequences(t->now->data));
    if (t->compute.device)
        reporter_say(t->reporter, "device %s weights %s", t->compute.device->name,
                     t->compute.backend->weight == DT_BF16 ? "bfloat16" : "float32");
    if (t->step) reporter_say(t->reporter, "resumed step %lld", (long long)t->step);
    if (t->choices_differ)
        reporter_say(t->reporter, "algorithms are chosen anew: the checkpoint's are of another device or library, and "
                                  "last bits may differ from a run that was not interrupted");
    return ST_OK;
}

status_t trainer_open(const config_t *config, comm_t *comm, const trainer_t *base, trainer_t *t) {
    memset(t, 0, sizeof *t);
    t->config = config;
    t->comm = comm;
    t->stop = signals_flag();
    omp_set_num_threads(comm_threads(comm));
    TRY(comm_agree(comm, open_model(t, base)));
    TRY(open_vectors(t, base));
    TRY(open_data(t));
    TRY(comm_agree(comm, hash_data(t)));
    TRY(comm_agree(comm, open_stream(t)));
    return comm_agree(comm, open_engine(t));
}

status_t trainer_begin(trainer_t *t) {
    TRY(comm_agree(t->comm, open_directory(t)));
    TRY(trainer_resume(t));
    t->now = stage_of_step(t->stage, t->n_stage, t->step);
    TRY(comm_agree(t->comm, trainer_step_reserve(t)));
    return comm_agree(t->comm, open_reporter(t));
}

void trainer_close(trainer_t *t) {
    reporter_close(t->reporter);
    tree_close(t->tree);
    if (t->owns_vectors) comm_data_close(t->vectors);
    if (t->has_eval) evaluator_close(&t->evaluator);
    batch_release(&t->batch);
    device_release(t->optim.device, t->loss_at);
    for (int k = 0; k < TRAINER_QUEUED; k++) device_release_pinned(t->optim.device, t->losses[k]);
    adamw_close(&t->optim);
    micro_plan_release(&t->plan);
    stream_step_release(&t->step_sequences);
    dataset_close(t->eval_data);
    stages_close(t->stage, t->n_stage);
    loaded_close(&t->loaded);
    if (t->owns_compute) compute_close(&t->compute);
    strbuf_release(&t->config_yaml);
    free(t->weights);
    free(t->history);
    memset(t, 0, sizeof *t);
}
