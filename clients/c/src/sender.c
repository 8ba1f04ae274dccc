/* sender.c -- queue, thread, flush and stop. */
#include "sender.h"

#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"

#define NS_PER_MS INT64_C(1000000)

void xtrace_sender_options_init_sized(xtrace_sender_options *options, size_t size) {
    const xtrace_sender_options o = { .max_queue_records = 100000,
                                      .max_queue_bytes = (size_t)64 << 20,
                                      .max_record_bytes = (size_t)4 << 20,
                                      .batch_records = 500,
                                      .batch_bytes = (size_t)1 << 20,
                                      .max_delay_ms = 500,
                                      .request_timeout_ms = 10000,
                                      .retry_min_ms = 200,
                                      .retry_max_ms = 5000,
                                      .gzip = 1 };

    init_sized(options, size, &o, sizeof o);
}

/* ---- process and lock ---- */

static void state_init(struct xtrace_sender *s) {
    pthread_condattr_t monotonic;

    pthread_mutex_init(&s->mu, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &monotonic);
    pthread_cond_init(&s->settled_cv, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->head = s->tail = NULL;
    s->queued = s->flying = s->bytes = 0;
    s->accepted = s->settled = s->finished = s->flush_to = 0;
    s->multi = NULL; /* in a child: the parent's */
    s->stopping = s->running = s->idle = false;
    s->stop_ns = INT64_MAX;
    memset(&s->stats, 0, sizeof s->stats);
    atomic_store(&s->abort, 0);
}

uint64_t sender_epoch(struct xtrace_sender *s) {
    uint64_t e = fork_guard_epoch(s->guard);

    if (e == 0) {
        if (fork_guard_renew(s->guard)) {
            state_init(s); /* the parent's records and buffers stay behind, unused: a lock may have been held on them */
            buf_init(&s->body, SIZE_MAX / 2);
            buf_init(&s->packed, SIZE_MAX / 2);
            fork_guard_done(s->guard);
        }
        e = fork_guard_epoch(s->guard);
    }
    return e;
}

static void lock(struct xtrace_sender *s) {
    (void)sender_epoch(s);
    pthread_mutex_lock(&s->mu);
}

/* Waits on the condition until the monotonic time. */
static void wait_until(struct xtrace_sender *s, pthread_cond_t *cv, int64_t ns) {
    const struct timespec t = { (time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC) };

    if (ns == INT64_MAX)
        pthread_cond_wait(cv, &s->mu);
    else
        pthread_cond_timedwait(cv, &s->mu, &t);
}

/* ---- the thread ---- */

/* When the next batch is due: now, at a time, or never. */
static int64_t due(const struct xtrace_sender *s) {
    if (s->queued == 0)
        return INT64_MAX;
    if (s->stopping || s->queued >= s->o.batch_records || s->bytes >= s->o.batch_bytes || s->finished < s->flush_to)
        return 0;
    return s->oldest_ns + s->o.max_delay_ms * NS_PER_MS;
}

static size_t take(struct xtrace_sender *s, struct record **batch) {
    size_t n = 0, bytes = 0;

    while (s->head && n < s->o.batch_records && (n == 0 || bytes + s->head->bytes <= s->o.batch_bytes)) {
        struct record *r = s->head;
        s->head = r->next;
        bytes += r->bytes;
        batch[n++] = r;
    }
    if (!s->head)
        s->tail = NULL;
    s->queued -= n;
    s->flying = n;
    s->oldest_ns = clock_mono_ns();
    return n;
}

/* What one large batch needed is not kept. */
static void trim(const struct xtrace_sender *s, struct buf *b) {
    if (b->cap > 4 * s->o.batch_bytes + 65536)
        buf_done(b);
}

static void *run(void *arg) {
    struct xtrace_sender *s = arg;
    struct record **batch = s->batch;

    pthread_mutex_lock(&s->mu);
    for (;;) {
        const int64_t when = due(s);
        if (s->stopping && s->queued == 0)
            break;
        if (when > clock_mono_ns()) {
            s->idle = when == INT64_MAX;
            wait_until(s, &s->wake, when);
            s->idle = false;
            continue;
        }
        const size_t n = take(s, batch);
        size_t bytes = 0;
        pthread_mutex_unlock(&s->mu);
        deliver(s, batch, batch + s->o.batch_records, n);
        for (size_t i = 0; i < n; i++) {
            bytes += batch[i]->bytes;
            record_free(batch[i]);
        }
        trim(s, &s->body);
        trim(s, &s->packed);
        pthread_mutex_lock(&s->mu);
        s->finished += n;
        s->flying = 0;
        s->bytes -= bytes;
        pthread_cond_broadcast(&s->settled_cv);
    }
    CURLM *multi = s->multi;
    s->multi = NULL;
    s->running = false;
    pthread_cond_broadcast(&s->settled_cv);
    pthread_mutex_unlock(&s->mu);
    if (multi)
        curl_multi_cleanup(multi); /* here, where SIGPIPE is blocked */
    return NULL;
}

/* Under mu. The thread gets no signal: they are the host's. */
static bool start_thread(struct xtrace_sender *s) {
    sigset_t all, before;

    if (!s->batch)
        s->batch = calloc(s->o.batch_records, 2 * sizeof(struct record *)); /* and scratch */
    if (!s->batch)
        return false;
    if (!s->multi)
        s->multi = curl_multi_init();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->running = pthread_create(&s->thread, NULL, run, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->running;
}

/* ---- for deliver.c ---- */

void sender_settle(struct xtrace_sender *s, enum outcome outcome, size_t n) {
    lock(s);
    switch (outcome) {
    case OUT_DELIVERED: s->stats.delivered += n; break;
    case OUT_REFUSED: s->stats.refused += n; break;
    case OUT_MEMORY: s->stats.dropped_memory += n; break;
    case OUT_STOPPED: s->stats.dropped_stopped += n; break;
    case OUT_UNCERTAIN: s->stats.dropped_uncertain += n; break;
    }
    s->settled += n;
    pthread_cond_broadcast(&s->settled_cv);
    pthread_mutex_unlock(&s->mu);
}

bool sender_wait(struct xtrace_sender *s, int ms) {
    const int64_t until = clock_mono_ns() + ms * NS_PER_MS;
    bool go_on;

    lock(s);
    while (clock_mono_ns() < until && clock_mono_ns() < s->stop_ns)
        wait_until(s, &s->wake, until < s->stop_ns ? until : s->stop_ns);
    go_on = clock_mono_ns() < s->stop_ns;
    pthread_mutex_unlock(&s->mu);
    return go_on;
}

void sender_count_request(struct xtrace_sender *s, bool again) {
    lock(s);
    s->stats.requests++;
    s->stats.retries += again;
    pthread_mutex_unlock(&s->mu);
}

/* ---- handing over ---- */

static void count_lost(struct xtrace_sender *s, int code) {
    if (code == XTRACE_EFULL)
        s->stats.dropped_full++;
    else if (code == XTRACE_ESTOPPED)
        s->stats.dropped_stopped++;
    else
        s->stats.dropped_memory++;
}

void sender_lost(struct xtrace_sender *s, int code) {
    lock(s);
    count_lost(s, code);
    pthread_mutex_unlock(&s->mu);
}

const char *sender_keep(struct xtrace_sender *s, const char *text) {
    struct kept *k;

    if (!text)
        return NULL;
    lock(s);
    for (k = s->kept; k && strcmp(k->text, text) != 0;)
        k = k->next;
    if (!k) {
        const size_t n = strlen(text) + 1;
        k = malloc(sizeof *k + n);
        if (k) {
            memcpy(k->text, text, n);
            k->next = s->kept;
            s->kept = k;
        }
    }
    pthread_mutex_unlock(&s->mu);
    return k ? k->text : NULL;
}

static int add(struct xtrace_sender *s, struct record *r) {
    if (s->stopping)
        return XTRACE_ESTOPPED;
    if (s->queued + s->flying >= s->o.max_queue_records || r->bytes > s->o.max_queue_bytes - s->bytes)
        return XTRACE_EFULL;
    if (!s->running && !start_thread(s))
        return XTRACE_ENOMEM;
    r->next = NULL;
    if (s->tail)
        s->tail->next = r;
    else
        s->head = r;
    s->tail = r;
    if (s->queued++ == 0)
        s->oldest_ns = clock_mono_ns();
    s->bytes += r->bytes;
    s->accepted++;
    /* One wake-up for the first record, which sets the timer, and one for a batch that is full, by number or by bytes. */
    if (s->idle || s->queued == s->o.batch_records ||
        (s->bytes >= s->o.batch_bytes && s->bytes - r->bytes < s->o.batch_bytes))
        pthread_cond_signal(&s->wake);
    return XTRACE_OK;
}

int sender_add(struct xtrace_sender *s, struct record *r) {
    int code;

    lock(s);
    code = add(s, r);
    if (code != XTRACE_OK)
        count_lost(s, code);
    pthread_mutex_unlock(&s->mu);
    if (code != XTRACE_OK)
        record_free(r);
    return code;
}

static int send_record(struct xtrace_sender *s, enum record_kind kind, const void *given, const char *argument,
                       xtrace_error *error) {
    union any_record v;
    struct record *r;
    int code;

    error_clear(error);
    if (!s || !given)
        return error_argument(error, s ? argument : "sender", "NULL");
    if (!record_take(kind, given, &v))
        return error_argument(error, argument, "call its _init function first");
    code = record_check(kind, &v, "", s->o.max_record_bytes, error);
    if (code != XTRACE_OK)
        return code;
    if (kind == RECORD_METRIC && v.metric.timestamp == XTRACE_TIME_NONE)
        v.metric.timestamp = clock_now_ns();
    r = record_copy(kind, &v);
    if (r) {
        code = sender_add(s, r);
    } else {
        code = XTRACE_ENOMEM;
        sender_lost(s, code);
    }
    return code == XTRACE_OK ? code : error_set(error, code, "%s", xtrace_strerror(code));
}

int xtrace_send_trace(xtrace_sender *s, const xtrace_trace *trace, xtrace_error *error) {
    return send_record(s, RECORD_TRACE, trace, "trace", error);
}
int xtrace_send_observation(xtrace_sender *s, const xtrace_observation *observation, xtrace_error *error) {
    return send_record(s, RECORD_OBSERVATION, observation, "observation", error);
}
int xtrace_send_metric(xtrace_sender *s, const xtrace_metric *metric, xtrace_error *error) {
    return send_record(s, RECORD_METRIC, metric, "metric", error);
}

/* ---- life ---- */

static int check_options(const xtrace_sender_options *o, xtrace_error *error) {
    const struct {
        const char *name;
        size_t value, min, max;
    } sizes[] = { { "max_queue_records", o->max_queue_records, 1, (size_t)1 << 30 },
                  { "max_queue_bytes", o->max_queue_bytes, 4096, SIZE_MAX / 2 },
                  { "max_record_bytes", o->max_record_bytes, 64, (size_t)128 << 20 },
                  { "batch_records", o->batch_records, 1, (size_t)1 << 20 },
                  { "batch_bytes", o->batch_bytes, 1, (size_t)128 << 20 } };
    const struct {
        const char *name;
        int value, min;
    } times[] = { { "max_delay_ms", o->max_delay_ms, 0 },
                  { "request_timeout_ms", o->request_timeout_ms, 1 },
                  { "retry_min_ms", o->retry_min_ms, 1 },
                  { "retry_max_ms", o->retry_max_ms, o->retry_min_ms } };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].value < sizes[i].min || sizes[i].value > sizes[i].max)
            return error_argument(error, sizes[i].name, "%zu is not between %zu and %zu", sizes[i].value, sizes[i].min,
                                  sizes[i].max);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (times[i].value < times[i].min)
            return error_argument(error, times[i].name, "%d is less than %d", times[i].value, times[i].min);
    return XTRACE_OK;
}

static void sender_free(struct xtrace_sender *s) {
    for (struct kept *k = s->kept, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    fork_guard_free(s->guard);
    pthread_mutex_destroy(&s->mu);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->settled_cv);
    if (s->multi)
        curl_multi_cleanup(s->multi);
    buf_done(&s->body);
    buf_done(&s->packed);
    free(s->batch);
    free(s);
}

xtrace_sender *xtrace_sender_new(xtrace_client *client, const xtrace_sender_options *options, xtrace_error *error) {
    xtrace_sender_options o;
    struct xtrace_sender *s;

    error_clear(error);
    xtrace_sender_options_init(&o);
    if (!client) {
        error_argument(error, "client", "NULL");
        return NULL;
    }
    if (options) {
        if (options->size < sizeof(size_t) || options->size > 65536) {
            error_argument(error, "options.size", "call xtrace_sender_options_init first");
            return NULL;
        }
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    if (check_options(&o, error) != XTRACE_OK)
        return NULL;
    s = calloc(1, sizeof *s);
    if (!s) {
        error_set(error, XTRACE_ENOMEM, "no memory");
        return NULL;
    }
    s->client = client;
    s->o = o;
    s->gzip = o.gzip != 0;
    buf_init(&s->body, SIZE_MAX / 2);
    buf_init(&s->packed, SIZE_MAX / 2);
    state_init(s);
    s->guard = fork_guard_new();
    pthread_mutex_lock(&s->mu);
    const bool started = s->guard && start_thread(s);
    pthread_mutex_unlock(&s->mu);
    if (!started) {
        sender_free(s);
        error_set(error, XTRACE_ENOMEM, "no thread");
        return NULL;
    }
    return s;
}

int xtrace_sender_flush(xtrace_sender *s, int timeout_ms) {
    const int64_t deadline = clock_mono_ns() + (timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS;
    uint64_t target;
    bool done;

    if (!s)
        return XTRACE_EINVAL;
    lock(s);
    target = s->accepted;
    if (s->flush_to < target)
        s->flush_to = target;
    pthread_cond_signal(&s->wake);
    while (s->finished < target && clock_mono_ns() < deadline)
        wait_until(s, &s->settled_cv, deadline);
    done = s->finished >= target;
    pthread_mutex_unlock(&s->mu);
    return done ? XTRACE_OK : XTRACE_ETIMEOUT;
}

void xtrace_sender_get_stats(xtrace_sender *s, xtrace_sender_stats *stats) {
    if (!stats)
        return;
    memset(stats, 0, sizeof *stats);
    if (!s)
        return;
    lock(s);
    *stats = s->stats;
    stats->pending = s->accepted - s->settled;
    stats->pending_bytes = s->bytes;
    pthread_mutex_unlock(&s->mu);
}

int xtrace_sender_stop(xtrace_sender *s, int timeout_ms, xtrace_sender_stats *stats) {
    uint64_t uncertain;
    bool was_running;

    if (stats)
        memset(stats, 0, sizeof *stats);
    if (!s)
        return XTRACE_OK;
    lock(s);
    s->stopping = true;
    s->stop_ns = clock_mono_ns() + (timeout_ms > 0 ? timeout_ms : 0) * NS_PER_MS;
    was_running = s->running;
    pthread_cond_signal(&s->wake);
    while (s->running && clock_mono_ns() < s->stop_ns)
        wait_until(s, &s->settled_cv, s->stop_ns);
    uncertain = s->stats.dropped_uncertain;
    atomic_store(&s->abort, 1);
    if (s->running && s->multi)
        (void)curl_multi_wakeup(s->multi);
    pthread_mutex_unlock(&s->mu);
    if (was_running)
        pthread_join(s->thread, NULL); /* it has settled everything; without it nothing was queued */
    if (stats)
        *stats = s->stats;
    const bool lost = s->stats.dropped_stopped > 0 || s->stats.dropped_uncertain > uncertain;
    sender_free(s);
    return lost ? XTRACE_ETIMEOUT : XTRACE_OK;
}
