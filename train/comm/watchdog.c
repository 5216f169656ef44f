/* The watchdog: a thread that ends the job when the main thread has not reported progress for too long, so that a rank
 * that waits for ever (a stopped peer, a dead file server) costs minutes instead of a queue slot. It also looks after
 * the data communicator, whose operations the main thread does not wait for itself. */
#include "train/comm/comm_impl.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { END_SECONDS = 3 };   /* grace of an orderly abort before _exit */
enum { GUARD_SECONDS = 1 }; /* of it for the data communicator, whose abort may hang */
#define SECOND ((int64_t)1000000000)

int64_t comm_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void *end_by_force(void *code) {
    sleep(END_SECONDS);
    _exit(*(const int *)code);
}

static void *abort_guarded(void *watch) {
    const comm_watch_t *w = watch;
    w->guard.abort(w->guard.arg);
    return NULL;
}

/* Operations under way on a device end before the process does, if they can in time. */
static void abort_data(comm_watch_t *w) {
    pthread_t third;
    struct timespec until;
    if (!w->guard.abort || pthread_create(&third, NULL, abort_guarded, w)) return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GUARD_SECONDS;
    (void)pthread_timedjoin_np(third, NULL, &until);
}

_Noreturn void comm_end(comm_t *c, status_t st) {
    /* the watching thread and the main one may find the same failure: one reports it, the other waits for the end */
    while (c && atomic_flag_test_and_set(&c->watch.ending)) pause();
    st_print();
    fflush(stdout);
    int code = st_exit_code(st);
    static const int codes[] = {0, 1, 2, 3, 4, 5, 75}; /* outlives this frame, which the second thread may not */
    const int *slot = &codes[1];
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i] == code) slot = &codes[i];
    pthread_t second;
    bool guarded = pthread_create(&second, NULL, end_by_force, (void *)slot) == 0;
    if (guarded && c) {
        abort_data(&c->watch);
        c->ops->abort(c, code);
    }
    _exit(code);
}

const char *comm_place(const comm_t *c) {
    const char *place = atomic_load(&c->watch.place);
    return place ? place : "the start";
}

/* The main thread's progress. *next: when to look again. */
static status_t look_at_beats(const comm_t *c, int64_t now, int64_t *next) {
    const comm_watch_t *w = &c->watch;
    if (!w->seconds) return ST_OK;
    int64_t due = atomic_load(&w->beat_ns) + w->seconds * SECOND;
    if (due < *next) *next = due;
    if (now < due) return ST_OK;
    return st_raise(ST_COMM, "watchdog",
                    "rank %d of %d has made no progress for %d s, last seen at %s; look for a stopped rank, a full "
                    "disk or a slow file system, or raise the limit",
                    c->rank, c->size, w->seconds, comm_place(c));
}

static void *watch(void *arg) {
    comm_t *c = arg;
    comm_watch_t *w = &c->watch;
    pthread_mutex_lock(&w->mutex);
    while (!w->stop) {
        int64_t now = comm_now_ns(), next = now + (w->guard.health ? 1 : 3600) * SECOND;
        status_t st = look_at_beats(c, now, &next);
        if (st != ST_OK) comm_end(c, st);
        if (w->guard.health) st = w->guard.health(w->guard.arg);
        if (st != ST_OK) comm_die(c, st);
        struct timespec until = {.tv_sec = (time_t)(next / SECOND), .tv_nsec = (long)(next % SECOND)};
        int rc = pthread_cond_timedwait(&w->wake, &w->mutex, &until);
        if (rc != 0 && rc != ETIMEDOUT) break;
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

void comm_watch_stop(comm_t *c) {
    comm_watch_t *w = &c->watch;
    if (!w->running) return;
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    w->running = w->stop = false;
}

static status_t watch_start(comm_t *c) {
    comm_watch_t *w = &c->watch;
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc) return st_errno(ST_INTERNAL, "watchdog", "prepare its clock", rc);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (rc) return st_errno(ST_INTERNAL, "watchdog", "prepare its condition", rc);
    pthread_mutex_init(&w->mutex, NULL);
    rc = pthread_create(&w->thread, NULL, watch, c);
    if (rc) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->mutex);
        return st_errno(ST_INTERNAL, "watchdog", "start its thread", rc);
    }
    w->running = true;
    return ST_OK;
}

status_t comm_watchdog(comm_t *c, int seconds) {
    comm_watch_t *w = &c->watch;
    comm_watch_stop(c);
    w->seconds = seconds > 0 ? seconds : 0;
    atomic_store(&w->beat_ns, comm_now_ns());
    return w->seconds || w->guard.health ? watch_start(c) : ST_OK;
}

status_t comm_guard(comm_t *c, const comm_guard_t *guard) {
    comm_watch_t *w = &c->watch;
    comm_watch_stop(c);
    w->guard = guard ? *guard : (comm_guard_t){.health = NULL};
    return w->seconds || w->guard.health ? watch_start(c) : ST_OK;
}

void comm_beat(comm_t *c, const char *place) {
    atomic_store_explicit(&c->watch.place, place, memory_order_relaxed);
    atomic_store_explicit(&c->watch.beat_ns, comm_now_ns(), memory_order_relaxed);
}
