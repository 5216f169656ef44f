/* The watchdog: a thread that ends the job when the main thread has not reported progress for too long, so that a rank
 * that waits for ever (a stopped peer, a dead file server) costs minutes instead of a queue slot. */
#include "train/comm/comm_impl.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { END_SECONDS = 3 }; /* grace of an orderly abort before _exit */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *end_by_force(void *code) {
    sleep(END_SECONDS);
    _exit(*(const int *)code);
}

_Noreturn void comm_end(comm_t *c, int code) {
    static const int codes[] = {0, 1, 2, 3, 4, 5, 75}; /* outlives this frame, which the second thread may not */
    const int *slot = &codes[1];
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i] == code) slot = &codes[i];
    pthread_t second;
    bool guarded = pthread_create(&second, NULL, end_by_force, (void *)slot) == 0;
    if (guarded && c) c->ops->abort(c, code);
    _exit(code);
}

static void *watch(void *arg) {
    comm_t *c = arg;
    comm_watch_t *w = &c->watch;
    pthread_mutex_lock(&w->mutex);
    while (!w->stop) {
        int64_t due = atomic_load(&w->beat_ns) + (int64_t)w->seconds * 1000000000;
        if (now_ns() >= due) {
            const char *place = atomic_load(&w->place);
            st_raise(
                ST_COMM, "watchdog",
                "rank %d of %d has made no progress for %d s, last seen at %s; look for a stopped rank, a full disk "
                "or a slow file system, or raise the limit",
                c->rank, c->size, w->seconds, place ? place : "the start");
            st_print();
            comm_end(c, 1);
        }
        struct timespec until = {.tv_sec = (time_t)(due / 1000000000), .tv_nsec = (long)(due % 1000000000)};
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

status_t comm_watchdog(comm_t *c, int seconds) {
    comm_watch_stop(c);
    if (seconds <= 0) return ST_OK;
    comm_watch_t *w = &c->watch;
    w->seconds = seconds;
    atomic_store(&w->beat_ns, now_ns());
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

void comm_beat(comm_t *c, const char *place) {
    atomic_store_explicit(&c->watch.place, place, memory_order_relaxed);
    atomic_store_explicit(&c->watch.beat_ns, now_ns(), memory_order_relaxed);
}
