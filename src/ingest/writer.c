/* writer.c -- the only thread that writes to the store.
 *
 * Requests park after ingest_submit(). This thread takes everything queued, writes it in one transaction, then delivers
 * the outcomes. Load makes groups larger, not commits more frequent; an idle server commits a lone batch at once.
 *  1. Only this thread calls the store's [writer] functions.
 *  2. `done` of a ticket is called exactly once, after its commit returned (or failed for good), or never if abandoned.
 *  3. queue bytes, with those of the batches that are being written, <= queue_max_bytes, but one batch of any size may wait.
 *     Beyond it submit fails; it never blocks.
 *  4. in->mu guards the queue, the states of tickets, the tasks and the counters. It is never held across a store call or
 *     a `done`.
 *  5. A group that the store refuses is written batch by batch, the traces and observations of a refused batch in halves
 *     down to single records, in order, so that a bad record fails alone; its samples follow in one piece.
 *  6. The store's housekeeping goes in bounded steps between groups; while no group comes it goes on when the store says
 *     that more is due. When nothing is, and the store is well, the thread sleeps without a timer.
 *  7. A store that is away (XT_EUNAVAILABLE and the like) refuses nothing: callers are told to send again. */
#include "ingest/writer.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

#define GROUP_MAX_TICKETS 1024
#define PROBE_INTERVAL_NS NS_PER_SEC
#define SLOW_WRITE_NS NS_PER_SEC

enum ticket_state { TICKET_NEW, TICKET_QUEUED, TICKET_COMMITTING, TICKET_DONE, TICKET_ABANDONED };

struct ticket {
    struct ticket *next; /* queue; in->mu */
    struct ingest *in;
    struct batch *batch;
    ingest_done *done;
    void *arg;
    enum ticket_state state; /* in->mu */
    unsigned refs;           /* in->mu: submitter and queue; the last one frees batch and ticket */
    size_t bytes;
    int64_t queued_at;
    /* Filled by the writer while COMMITTING. */
    enum xt_code code;
    struct xt_err err;
    struct refusal *refusals;
    size_t nrefusals, refused_total, refused_observations;
};

struct task {
    struct task *next;
    ingest_task *fn;
    void *arg;
};

struct ingest {
    struct store *store;
    struct ingest_conf conf;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t wake; /* work or stop */
    struct ticket *head, *tail;
    struct task *task_head, *task_tail;
    bool stopping, give_up, ended;
    pthread_cond_t end_cv;
    struct ingest_stats stats;
    size_t writing_bytes;                    /* of the group */
    struct ticket *group[GROUP_MAX_TICKETS]; /* the writer's own: what is being written */
    /* Health: written by the writer, read by anybody; relaxed, each value stands alone. */
    _Atomic bool good;
    _Atomic int64_t last_good, writing_since; /* monotonic; writing_since 0: not in a store call */
};

const double ingest_bounds[INGEST_BUCKETS] = { 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,    0.04,
                                               0.05,  0.075,  0.1,   0.25,   0.5,  1,     2.5,  INFINITY };

static void lock(struct ingest *in) { pthread_mutex_lock(&in->mu); }
static void unlock(struct ingest *in) { pthread_mutex_unlock(&in->mu); }

/* ---- tickets ---- */

struct ticket *ticket_new(struct ingest *in, struct batch *b, ingest_done *done, void *arg) {
    struct ticket *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct ticket){ .in = in, .batch = b, .done = done, .arg = arg, .refs = 1, .bytes = batch_bytes(b) };
    return t;
}

void ticket_unref(struct ticket *t) {
    lock(t->in);
    bool last = --t->refs == 0;
    unlock(t->in);
    if (!last)
        return;
    batch_free(t->batch);
    free(t->refusals);
    free(t);
}

enum xt_code ingest_submit(struct ingest *in, struct ticket *t, struct xt_err *err) {
    lock(in);
    bool stopping = in->stopping;
    bool full = in->head != NULL && in->stats.queued_bytes + in->writing_bytes + t->bytes > in->conf.queue_max_bytes;
    if (stopping || full) {
        if (!stopping)
            in->stats.busy_refusals++;
        unlock(in);
        if (stopping)
            return xt_fail(err, XT_EUNAVAILABLE, "Service Unavailable");
        return xt_fail(err, XT_EBUSY, "Too Many Requests");
    }
    t->state = TICKET_QUEUED;
    t->refs++;
    t->queued_at = clock_mono_ns();
    if (in->tail)
        in->tail->next = t;
    else
        in->head = t;
    in->tail = t;
    in->stats.queued_bytes += t->bytes;
    in->stats.queued_tickets++;
    pthread_cond_signal(&in->wake);
    unlock(in);
    return XT_OK;
}

bool ticket_abandon(struct ticket *t) {
    struct ingest *in = t->in;
    lock(in);
    bool queued = t->state == TICKET_QUEUED;
    if (queued) {
        t->state = TICKET_ABANDONED;
        in->stats.abandoned++;
    }
    unlock(in);
    return queued;
}

enum xt_code ingest_run(struct ingest *in, ingest_task *fn, void *arg, struct xt_err *err) {
    struct task *task = calloc(1, sizeof *task);
    if (!task)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    *task = (struct task){ .fn = fn, .arg = arg };
    lock(in);
    if (in->stopping) {
        unlock(in);
        free(task);
        return xt_fail(err, XT_EUNAVAILABLE, "Service Unavailable");
    }
    if (in->task_tail)
        in->task_tail->next = task;
    else
        in->task_head = task;
    in->task_tail = task;
    pthread_cond_signal(&in->wake);
    unlock(in);
    return XT_OK;
}

/* ---- writing ---- */

static bool is_refusal(enum xt_code rc) {
    return rc == XT_EREFUSED || rc == XT_ESTORE || rc == XT_ETOOBIG || rc == XT_ESCHEMA;
}

static void note_health(struct ingest *in, enum xt_code rc, const struct xt_err *err) {
    bool good = rc == XT_OK || is_refusal(rc); /* a store that refuses data is there */
    bool was = atomic_exchange_explicit(&in->good, good, memory_order_relaxed);
    if (good)
        atomic_store_explicit(&in->last_good, clock_mono_ns(), memory_order_relaxed);
    if (was && !good)
        log_error("event=store_unavailable code=%s message=\"%s\"", xt_code_word(rc), err->msg);
    if (!was && good)
        log_info("event=store_recovered");
}

static void count_time(struct ingest_times *t, int64_t ns) {
    double s = (double)ns / (double)NS_PER_SEC;
    size_t i = 0;
    while (i + 1 < INGEST_BUCKETS && s > ingest_bounds[i])
        i++;
    t->buckets[i]++;
    t->n++;
    t->seconds += s;
}

static void count_commit(struct ingest *in, int64_t ns, size_t records) {
    lock(in);
    in->stats.records += records;
    count_time(&in->stats.commits, ns);
    unlock(in);
}

static size_t part_records(const struct batch_part *p) {
    return (p->trace_to - p->trace_from) + (p->observation_to - p->observation_from) + (p->sample_to - p->sample_from);
}

static enum xt_code write_parts(struct ingest *in, const struct batch_part *parts, size_t n, struct xt_err *err) {
    size_t records = 0;
    for (size_t i = 0; i < n; i++)
        records += part_records(&parts[i]);
    if (records == 0)
        return XT_OK;
    int64_t start = clock_mono_ns();
    atomic_store_explicit(&in->writing_since, start, memory_order_relaxed);
    enum xt_code rc = in->store->ops->write(in->store, parts, n, err);
    atomic_store_explicit(&in->writing_since, 0, memory_order_relaxed);
    if (rc == XT_OK)
        count_commit(in, clock_mono_ns() - start, records);
    note_health(in, rc, err);
    return rc;
}

static struct batch_part whole(const struct batch *b) {
    return (struct batch_part){
        .b = b, .trace_to = b->ntraces, .observation_to = b->nobservations, .sample_to = b->nsamples
    };
}

/* Records of a part in one line (traces, observations, samples): the piece [from, to) of it. */
static struct batch_part slice(const struct batch_part *p, size_t from, size_t to) {
    struct batch_part r = *p;
    size_t nt = p->trace_to - p->trace_from, no = p->observation_to - p->observation_from;
#define CUT(lo, hi, before, count)                                                                 \
    do {                                                                                           \
        size_t f_ = from > (before) ? from - (before) : 0, t_ = to > (before) ? to - (before) : 0; \
        if (f_ > (count))                                                                          \
            f_ = (count);                                                                          \
        if (t_ > (count))                                                                          \
            t_ = (count);                                                                          \
        r.lo = p->lo + f_;                                                                         \
        r.hi = p->lo + t_;                                                                         \
    } while (0)
    CUT(trace_from, trace_to, 0, nt);
    CUT(observation_from, observation_to, nt, no);
    CUT(sample_from, sample_to, nt + no, p->sample_to - p->sample_from);
#undef CUT
    return r;
}

static void refuse(struct ingest *in, struct ticket *t, const struct batch_part *p, const struct xt_err *err) {
    enum record_kind kind = RECORD_SAMPLE;
    size_t index = p->sample_from;
    const char *word = "sample";
    struct str id;
    if (p->trace_to > p->trace_from) {
        kind = RECORD_TRACE, index = p->trace_from, word = "trace";
    } else if (p->observation_to > p->observation_from) {
        kind = RECORD_OBSERVATION, index = p->observation_from, word = "observation";
    }
    struct arena a;
    arena_init(&a, 16 * 1024);
    if (kind == RECORD_TRACE) {
        const struct id *i = &p->b->traces[index].id;
        id = id_print(&a, i->key, i->spell, i->text);
    } else if (kind == RECORD_OBSERVATION) {
        const struct id *i = &p->b->observations[index].id;
        id = id_print(&a, i->key, i->spell, i->text);
    } else {
        id = p->b->samples[index].name;
    }
    char id_text[LOG_TEXT_MAX], reason[LOG_TEXT_MAX];
    log_warn("event=record_refused kind=%s id=\"%s\" index=%zu reason=\"%s\"", word,
             log_text(id_text, str_sub(id, 0, 120)), index, log_text(reason, str_c(err->msg)));
    arena_done(&a);
    t->refused_total++;
    t->refused_observations += kind == RECORD_OBSERVATION;
    lock(in);
    in->stats.refused_records++;
    unlock(in);
    if (!t->refusals)
        t->refusals = calloc(REFUSALS_MAX, sizeof *t->refusals);
    if (!t->refusals || t->nrefusals == REFUSALS_MAX)
        return;
    struct refusal *r = &t->refusals[t->nrefusals++];
    r->kind = kind;
    r->index = index;
    r->err = *err;
}

/* Writes one batch; what is refused is halved until single records remain. XT_OK unless the store went away. The depth
 * is log2 of the records. */
static enum xt_code write_halving(struct ingest *in, struct ticket *t, const struct batch_part *p, struct xt_err *err) {
    enum xt_code rc = write_parts(in, p, 1, err);
    if (!is_refusal(rc))
        return rc;
    size_t n = part_records(p);
    if (n <= 1) {
        refuse(in, t, p, err);
        return XT_OK;
    }
    struct batch_part left = slice(p, 0, n / 2), right = slice(p, n / 2, n);
    rc = write_halving(in, t, &left, err);
    return rc == XT_OK ? write_halving(in, t, &right, err) : rc;
}

/* Samples have no identity: were they written in halves, and the store went away in between, a sender who is told to send
 * again would have the first half twice. So they go in one piece, after what may be sent twice; what can't be stored is
 * found by the store's prepare, before it comes here. */
static enum xt_code write_apart(struct ingest *in, struct ticket *t, const struct batch_part *p, struct xt_err *err) {
    struct batch_part rest = *p, samples = *p;
    rest.sample_to = rest.sample_from;
    samples.trace_to = samples.trace_from;
    samples.observation_to = samples.observation_from;
    enum xt_code rc = write_halving(in, t, &rest, err);
    if (rc != XT_OK || part_records(&samples) == 0)
        return rc;
    rc = write_parts(in, &samples, 1, err);
    if (!is_refusal(rc))
        return rc;
    size_t others = part_records(&samples) - 1;
    refuse(in, t, &samples, err); /* names the first one */
    t->refused_total += others;
    lock(in);
    in->stats.refused_records += others;
    unlock(in);
    return XT_OK;
}

static void write_group(struct ingest *in, size_t n) {
    struct ticket **group = in->group;
    struct batch_part parts[GROUP_MAX_TICKETS];
    struct xt_err err = { 0 };
    assert(n > 0 && n <= GROUP_MAX_TICKETS);
    for (size_t i = 0; i < n; i++)
        parts[i] = whole(group[i]->batch);
    enum xt_code rc = write_parts(in, parts, n, &err);
    if (!is_refusal(rc)) {
        for (size_t i = 0; i < n; i++)
            group[i]->code = rc, group[i]->err = err;
        return;
    }
    lock(in);
    in->stats.splits++;
    unlock(in);
    for (size_t i = 0; i < n; i++) {
        group[i]->code = write_apart(in, group[i], &parts[i], &group[i]->err);
    }
}

static void deliver(struct ingest *in, struct ticket *t) {
    lock(in);
    t->state = TICKET_DONE;
    in->writing_bytes -= t->bytes;
    if (t->code == XT_OK)
        in->stats.committed_batches++, in->stats.dropped_points += t->batch->dropped;
    else
        in->stats.failed_batches++;
    unlock(in);
    struct ingest_outcome o = {
        t->code, t->batch, t->refusals, t->nrefusals, t->refused_total, t->refused_observations, &t->err,
    };
    t->done(t->arg, &o);
    ticket_unref(t);
}

/* ---- the thread ---- */

/* Takes what is queued up to the group's limits; abandoned tickets fall out here. Called with in->mu held. */
static size_t take_group(struct ingest *in, struct ticket **ret_dropped) {
    size_t n = 0, records = 0;
    while (in->head && n < GROUP_MAX_TICKETS) {
        struct ticket *t = in->head;
        size_t r = batch_records(t->batch);
        if (t->state == TICKET_QUEUED && n > 0 && records + r > in->conf.group_max_records)
            break;
        in->head = t->next;
        if (!in->head)
            in->tail = NULL;
        in->stats.queued_bytes -= t->bytes;
        in->stats.queued_tickets--;
        if (t->state == TICKET_ABANDONED) {
            t->next = *ret_dropped;
            *ret_dropped = t;
            continue;
        }
        t->state = TICKET_COMMITTING;
        in->writing_bytes += t->bytes;
        records += r;
        in->group[n++] = t;
    }
    return n;
}

static struct task *take_task(struct ingest *in) {
    struct task *task = in->task_head;
    if (task) {
        in->task_head = task->next;
        if (!in->task_head)
            in->task_tail = NULL;
    }
    return task;
}

static void run_task(struct ingest *in, struct task *task) {
    atomic_store_explicit(&in->writing_since, clock_mono_ns(), memory_order_relaxed);
    task->fn(in->store, atomic_load_explicit(&in->good, memory_order_relaxed), task->arg);
    atomic_store_explicit(&in->writing_since, 0, memory_order_relaxed);
    free(task);
}

static void probe(struct ingest *in) {
    struct xt_err err = { 0 };
    atomic_store_explicit(&in->writing_since, clock_mono_ns(), memory_order_relaxed);
    enum xt_code rc = in->store->ops->probe(in->store, &err);
    atomic_store_explicit(&in->writing_since, 0, memory_order_relaxed);
    note_health(in, rc, &err);
}

/* What is due without a caller, monotonic ns. The writer's own. */
struct due {
    int64_t probe; /* INT64_MAX: the store is well */
    int64_t tidy;  /* TIDY_NOTHING: no */
};

/* Waits for a group, a task, the end, or the first time that something is due. mu held. */
static void wait_for_work(struct ingest *in, struct due *d) {
    bool good = atomic_load_explicit(&in->good, memory_order_relaxed);
    if (good || d->probe == INT64_MAX)
        d->probe = good ? INT64_MAX : clock_mono_ns() + PROBE_INTERVAL_NS;
    int64_t until = d->probe < d->tidy ? d->probe : d->tidy;
    struct timespec ts = { .tv_sec = until / NS_PER_SEC, .tv_nsec = until % NS_PER_SEC };
    while (!in->head && !in->task_head && !in->stopping && (until == INT64_MAX || clock_mono_ns() < until)) {
        if (until == INT64_MAX)
            pthread_cond_wait(&in->wake, &in->mu);
        else
            pthread_cond_timedwait(&in->wake, &in->mu, &ts);
    }
}

/* After each group and task, and when more is due: how long it took is counted. */
static void tidy(struct ingest *in, struct due *d) {
    int64_t start = clock_mono_ns();
    atomic_store_explicit(&in->writing_since, start, memory_order_relaxed);
    d->tidy = in->store->ops->tidy(in->store);
    atomic_store_explicit(&in->writing_since, 0, memory_order_relaxed);
    lock(in);
    count_time(&in->stats.tidying, clock_mono_ns() - start);
    unlock(in);
}

static void *writer_main(void *arg) {
    struct ingest *in = arg;
    static const struct xt_err stopped = { XT_EUNAVAILABLE, "Service Unavailable" };
    struct due due = { .probe = INT64_MAX, .tidy = clock_mono_ns() }; /* what a crash left */
    lock(in);
    for (;;) {
        wait_for_work(in, &due);
        if (!in->head && !in->task_head && in->stopping)
            break;
        struct ticket *dropped = NULL;
        size_t n = take_group(in, &dropped);
        struct task *task = take_task(in);
        bool give_up = in->give_up;
        unlock(in);
        while (dropped) {
            struct ticket *t = dropped;
            dropped = t->next;
            ticket_unref(t);
        }
        if (give_up)
            for (size_t i = 0; i < n; i++)
                in->group[i]->code = XT_EUNAVAILABLE, in->group[i]->err = stopped;
        else if (n)
            write_group(in, n);
        for (size_t i = 0; i < n; i++)
            deliver(in, in->group[i]);
        bool probe_due = !n && !task && clock_mono_ns() >= due.probe; /* a group is a probe too */
        if (probe_due)
            probe(in);
        if (n || probe_due)
            due.probe = INT64_MAX;
        if (task)
            run_task(in, task);
        if (n || task || clock_mono_ns() >= due.tidy)
            tidy(in, &due);
        lock(in);
    }
    in->ended = true;
    pthread_cond_broadcast(&in->end_cv);
    unlock(in);
    return NULL;
}

/* ---- life ---- */

enum xt_code ingest_start(struct store *s, const struct ingest_conf *conf, struct ingest **ret, struct xt_err *err) {
    struct ingest *in = calloc(1, sizeof *in);
    if (!in)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    in->store = s;
    in->conf = *conf;
    atomic_init(&in->good, true);
    atomic_init(&in->last_good, clock_mono_ns());
    atomic_init(&in->writing_since, 0);
    pthread_mutex_init(&in->mu, NULL);
    pthread_condattr_t ca; /* monotonic: a clock that is set must not move deadlines */
    pthread_condattr_init(&ca);
    pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
    pthread_cond_init(&in->wake, &ca);
    pthread_cond_init(&in->end_cv, &ca);
    pthread_condattr_destroy(&ca);
    if (pthread_create(&in->thread, NULL, writer_main, in) != 0) {
        free(in);
        return xt_fail(err, XT_ENOMEM, "cannot start the writer thread");
    }
    pthread_setname_np(in->thread, "xt-writer");
    *ret = in;
    return XT_OK;
}

bool ingest_stop(struct ingest *in, int64_t deadline_mono_ns) {
    struct timespec ts = { .tv_sec = deadline_mono_ns / NS_PER_SEC, .tv_nsec = deadline_mono_ns % NS_PER_SEC };
    lock(in);
    in->stopping = true;
    pthread_cond_signal(&in->wake);
    while (!in->ended && pthread_cond_timedwait(&in->end_cv, &in->mu, &ts) != ETIMEDOUT)
        continue;
    if (!in->ended) { /* a last half second to answer what is queued, unless the thread hangs in the store */
        in->give_up = true;
        ts.tv_nsec += 500000000;
        if (ts.tv_nsec >= NS_PER_SEC)
            ts.tv_nsec -= NS_PER_SEC, ts.tv_sec++;
        while (!in->ended && pthread_cond_timedwait(&in->end_cv, &in->mu, &ts) != ETIMEDOUT)
            continue;
    }
    bool ended = in->ended;
    unlock(in);
    if (ended)
        pthread_join(in->thread, NULL);
    return ended;
}

void ingest_leave(struct ingest *in) { pthread_detach(in->thread); }

void ingest_free(struct ingest *in) {
    if (!in)
        return;
    pthread_mutex_destroy(&in->mu);
    pthread_cond_destroy(&in->wake);
    pthread_cond_destroy(&in->end_cv);
    free(in);
}

bool ingest_healthy(const struct ingest *in) {
    int64_t since = atomic_load_explicit(&in->writing_since, memory_order_relaxed);
    bool stuck = since != 0 && clock_mono_ns() - since > SLOW_WRITE_NS;
    return !stuck && atomic_load_explicit(&in->good, memory_order_relaxed);
}

bool ingest_prove(struct ingest *in, int64_t fresh_ns) {
    if (atomic_load_explicit(&in->good, memory_order_relaxed) && clock_mono_ns() - ingest_last_good(in) >= fresh_ns)
        probe(in);
    return atomic_load_explicit(&in->good, memory_order_relaxed);
}

int64_t ingest_last_good(const struct ingest *in) { return atomic_load_explicit(&in->last_good, memory_order_relaxed); }

void ingest_stats_get(struct ingest *in, struct ingest_stats *ret) {
    lock(in);
    *ret = in->stats;
    ret->oldest_queued_ns = in->head ? clock_mono_ns() - in->head->queued_at : 0;
    unlock(in);
}
