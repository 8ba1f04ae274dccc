/* jobs.c -- see jobs.h. `mu` guards `stop`, each `running` and `learning`; jobs_stop waits until no task on the writer's
 * thread holds a pointer to the struct. What else a round needs belongs to whoever runs it: the thread until the first
 * task is queued, then the writer's. */
#include "jobs/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#define STUDY_NS (2 * NS_PER_SEC) /* between two looks, which cost nothing when nothing is due */
#define LESSON_MAX_BYTES ((size_t)1 << 20)

struct retention {
    struct jobs *jobs;
    enum retain_kind kind;
    const char *word;
    int64_t days, cutoff;
    uint64_t slices;
    bool running; /* jobs.mu: a slice of it is queued or runs */
};

struct jobs {
    struct store *store;
    struct ingest *ingest;
    struct retention work[2];
    int64_t first_ns, interval_ns; /* from the start to the first round, from round to round */
    struct buf lesson;             /* what study() found: the thread's, or while `learning` the writer's */
    bool learning;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t wake, idle;
    bool stop;
};

static void retention_over(struct retention *r) {
    pthread_mutex_lock(&r->jobs->mu);
    r->running = false;
    pthread_cond_broadcast(&r->jobs->idle);
    pthread_mutex_unlock(&r->jobs->mu);
}

/* One slice on the writer's thread; queues the next one while there is more. */
static void slice(struct store *s, bool writable, void *arg) {
    struct retention *r = arg;
    struct xt_err err = { 0 };
    bool more = false;
    pthread_mutex_lock(&r->jobs->mu);
    bool stop = r->jobs->stop;
    pthread_mutex_unlock(&r->jobs->mu);
    if (!stop && writable) {
        if (s->ops->retain(s, r->kind, r->cutoff, &more, &err) != XT_OK) {
            log_warn("event=retention_failed kind=%s message=\"%s\"", r->word, err.msg);
            more = false;
        }
        r->slices++;
    }
    if (more && ingest_run(r->jobs->ingest, slice, r, &err) == XT_OK)
        return;
    if (r->slices > 1)
        log_info("event=retention kind=%s slices=%llu", r->word, (unsigned long long)r->slices);
    retention_over(r);
}

static void start_round(struct jobs *j) {
    for (size_t i = 0; i < sizeof j->work / sizeof j->work[0]; i++) {
        struct retention *r = &j->work[i];
        struct xt_err err = { 0 };
        pthread_mutex_lock(&j->mu);
        bool skip = r->days == 0 || r->running || j->stop;
        if (!skip)
            r->running = true;
        pthread_mutex_unlock(&j->mu);
        if (skip)
            continue;
        r->cutoff = time_add(clock_now_ns(), -r->days * NS_PER_DAY);
        r->slices = 0;
        if (ingest_run(j->ingest, slice, r, &err) != XT_OK)
            retention_over(r);
    }
}

/* ---- study ---- */

static void learning_over(struct jobs *j) {
    pthread_mutex_lock(&j->mu);
    j->learning = false;
    pthread_cond_broadcast(&j->idle);
    pthread_mutex_unlock(&j->mu);
}

/* On the writer's thread. */
static void learn(struct store *s, bool writable, void *arg) {
    struct jobs *j = arg;
    struct xt_err err = { 0 };
    size_t bytes = j->lesson.n;
    if (writable && s->ops->learn(s, buf_str(&j->lesson), &err) == XT_OK)
        log_info("event=dictionary bytes=%zu", bytes);
    else if (writable)
        log_warn("event=dictionary_failed message=\"%s\"", err.msg);
    learning_over(j);
}

static void study(struct jobs *j) {
    struct xt_err err = { 0 };
    pthread_mutex_lock(&j->mu);
    bool skip = j->learning || j->stop;
    pthread_mutex_unlock(&j->mu);
    if (skip)
        return;
    buf_done(&j->lesson);
    buf_init(&j->lesson, LESSON_MAX_BYTES);
    if (j->store->ops->study(j->store, &j->lesson, &err) != XT_OK) {
        log_warn("event=dictionary_failed message=\"%s\"", err.msg);
        return;
    }
    if (j->lesson.n == 0)
        return;
    pthread_mutex_lock(&j->mu);
    j->learning = true;
    pthread_mutex_unlock(&j->mu);
    if (ingest_run(j->ingest, learn, j, &err) != XT_OK)
        learning_over(j);
}

static void *jobs_main(void *arg) {
    struct jobs *j = arg;
    int64_t now = clock_mono_ns(), round = now + j->first_ns;
    pthread_mutex_lock(&j->mu);
    while (!j->stop) {
        int64_t due = now + STUDY_NS < round ? now + STUDY_NS : round;
        struct timespec ts = { .tv_sec = due / NS_PER_SEC, .tv_nsec = due % NS_PER_SEC };
        if (pthread_cond_timedwait(&j->wake, &j->mu, &ts) != ETIMEDOUT || j->stop)
            continue;
        pthread_mutex_unlock(&j->mu);
        study(j);
        now = clock_mono_ns();
        if (now >= round) {
            start_round(j);
            round = now + j->interval_ns;
        }
        pthread_mutex_lock(&j->mu);
    }
    pthread_mutex_unlock(&j->mu);
    return NULL;
}

enum xt_code jobs_start(const struct conf *conf, struct store *s, struct ingest *in, struct jobs **ret,
                        struct xt_err *err) {
    struct jobs *j = calloc(1, sizeof *j);
    if (!j)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    j->store = s;
    j->ingest = in;
    j->first_ns = (int64_t)conf->retention_first_s * NS_PER_SEC;
    j->interval_ns = (int64_t)conf->retention_interval_s * NS_PER_SEC;
    j->work[0] = (struct retention){
        .jobs = j, .kind = RETAIN_TRACES, .word = "traces", .days = (int64_t)conf->traces_retention_days
    };
    j->work[1] = (struct retention){
        .jobs = j, .kind = RETAIN_SAMPLES, .word = "samples", .days = (int64_t)conf->metrics_retention_days
    };
    pthread_mutex_init(&j->mu, NULL);
    pthread_condattr_t ca;
    pthread_condattr_init(&ca);
    pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &ca);
    pthread_cond_init(&j->idle, &ca);
    pthread_condattr_destroy(&ca);
    if (pthread_create(&j->thread, NULL, jobs_main, j) != 0) {
        free(j);
        return xt_fail(err, XT_ENOMEM, "cannot start the jobs thread");
    }
    pthread_setname_np(j->thread, "xt-jobs");
    *ret = j;
    return XT_OK;
}

void jobs_stop(struct jobs *j) {
    if (!j)
        return;
    int64_t until = clock_mono_ns() + 2 * NS_PER_SEC; /* a slice in a store that hangs must not hold the stop */
    struct timespec ts = { .tv_sec = until / NS_PER_SEC, .tv_nsec = until % NS_PER_SEC };
    pthread_mutex_lock(&j->mu);
    j->stop = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->mu);
    pthread_join(j->thread, NULL);
    pthread_mutex_lock(&j->mu);
    int rc = 0;
    while ((j->work[0].running || j->work[1].running || j->learning) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&j->idle, &j->mu, &ts);
    bool busy = j->work[0].running || j->work[1].running || j->learning;
    pthread_mutex_unlock(&j->mu);
    if (busy)
        return; /* the process is about to end; the slice still points here */
    pthread_mutex_destroy(&j->mu);
    pthread_cond_destroy(&j->wake);
    pthread_cond_destroy(&j->idle);
    buf_done(&j->lesson);
    free(j);
}
