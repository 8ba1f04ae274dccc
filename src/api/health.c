/* health.c -- is the process up, can it store, what did the rate limit do, and the server's own state as Prometheus text.
 *
 * Readiness asks the writer for a small durable write and a read, unless it proved itself a moment ago;
 * the request is parked meanwhile and says 503 by itself when the writer does not come back in time. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/app.h"
#include "api/ratelimit.h"
#include "base/clock.h"
#include "json/json_write.h"

#define READY_DEADLINE_NS (1500 * NS_PER_MS) /* the answer must be out within 2 s */
#define READY_FRESH_NS (400 * NS_PER_MS)     /* and a store that hangs is to be told within 2 s */

enum http_result health_live(struct http_req *req, struct xt_err *err) {
    (void)err;
    http_reply_empty(req, 200);
    return HTTP_REPLY;
}

static void reply_ready(struct http_req *req, bool ready) {
    http_reply_json(req, ready ? 200 : 503,
                    ready ? STR_LIT("{\"status\":\"ready\"}") : STR_LIT("{\"status\":\"not_ready\"}"));
}

/* The store is not there yet, or not yet ours. */
static void reply_starting(struct http_req *req, struct app *app) {
    struct json_writer w;
    if (!atomic_load_explicit(&app->taking_over, memory_order_relaxed)) {
        reply_ready(req, false);
        return;
    }
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    jw_kv_cstr(&w, "status", "not_ready");
    jw_kv_cstr(&w, "reason", "taking over the data of another database");
    jw_kv_i64(&w, "records", atomic_load_explicit(&app->taken_over, memory_order_relaxed));
    jw_end(&w);
    http_reply_status(req, 503);
}

/* Lives in the request's arena. The server may be gone when the probe runs, so nothing is asked of it. */
struct ready {
    struct http_req *req;
    struct ingest *ingest;
};

/* On the writer's thread. */
static void ready_probe(struct store *s, bool writable, void *arg) {
    (void)writable;
    struct ready *r = arg;
    struct http_req *req = r->req;
    struct xt_err err = { 0 };
    bool ok = ingest_prove(r->ingest, READY_FRESH_NS) && s->ops->ping(s, &err) == XT_OK;
    if (http_claim(req)) {
        reply_ready(req, ok);
        http_answer(req);
    }
    http_unref(req);
}

static void ready_deadline(struct http_req *req, void *arg) {
    (void)arg;
    reply_ready(req, false);
}

enum http_result health_ready(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    bool stopping = atomic_load_explicit(&app->stopping, memory_order_relaxed);
    if (app_is_starting(app)) {
        reply_starting(req, app);
        return HTTP_REPLY;
    }
    if (stopping || !ingest_healthy(app->ingest)) {
        reply_ready(req, false);
        return HTTP_REPLY;
    }
    if (clock_mono_ns() - ingest_last_good(app->ingest) < READY_FRESH_NS) {
        reply_ready(req, true);
        return HTTP_REPLY;
    }
    struct ready *r = arena_new(http_arena(req), struct ready, 1);
    if (!r) {
        reply_ready(req, false);
        return HTTP_REPLY;
    }
    *r = (struct ready){ req, app->ingest };
    http_ref(req);
    http_park(req, clock_mono_ns() + READY_DEADLINE_NS, ready_deadline, NULL);
    if (ingest_run(app->ingest, ready_probe, r, err) == XT_OK)
        return HTTP_PARKED;
    if (http_claim(req)) {
        reply_ready(req, false);
        http_answer(req);
    }
    http_unref(req);
    return HTTP_PARKED;
}

enum http_result health_rate_stats(struct http_req *req, struct xt_err *err) {
    struct json_writer w;
    jw_init(&w, http_reply_buf(req));
    rate_write_stats(app_of(req)->limiter, &w);
    if (jw_done(&w))
        return HTTP_REPLY;
    xt_fail(err, XT_ENOMEM, "out of memory");
    return HTTP_FAIL;
}

/* ---- /metrics ---- */

static void metric_head(struct buf *b, const char *name, const char *type, const char *help) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}
static void counter(struct buf *b, const char *name, uint64_t v, const char *help) {
    metric_head(b, name, "counter", help);
    buf_printf(b, "%s %llu\n", name, (unsigned long long)v);
}
static void gauge(struct buf *b, const char *name, double v, const char *help) {
    metric_head(b, name, "gauge", help);
    buf_printf(b, "%s %.17g\n", name, v);
}

static void times(struct buf *b, const char *name, const struct ingest_times *t, const char *help) {
    uint64_t sum = 0;
    metric_head(b, name, "histogram", help);
    for (size_t i = 0; i + 1 < INGEST_BUCKETS; i++) {
        sum += t->buckets[i];
        buf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, ingest_bounds[i], (unsigned long long)sum);
    }
    buf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, (unsigned long long)t->n, name,
               t->seconds, name, (unsigned long long)t->n);
}

static void write_http(struct buf *b, const struct http_stats *s) {
    metric_head(b, "xtrace_http_requests_total", "counter", "Answers by status class.");
    for (unsigned i = 1; i < HTTP_STATUS_CLASSES; i++)
        buf_printf(b, "xtrace_http_requests_total{class=\"%uxx\"} %llu\n", i, (unsigned long long)s->requests[i]);
    gauge(b, "xtrace_http_connections", (double)s->connections_now, "Open connections.");
    counter(b, "xtrace_http_connections_total", s->connections_total, "Connections accepted.");
    counter(b, "xtrace_http_connections_refused_total", s->refused_connections, "Connections refused by the limit.");
    gauge(b, "xtrace_http_body_bytes", (double)s->body_bytes_now, "Request bodies being read or decoded, bytes.");
    counter(b, "xtrace_http_bodies_refused_total", s->body_refused, "Bodies refused because the budget was used up.");
    gauge(b, "xtrace_http_parked", (double)s->parked_now, "Requests waiting for their commit.");
    counter(b, "xtrace_http_deadline_answers_total", s->deadline_answers,
            "Parked requests told to retry at their deadline.");
    counter(b, "xtrace_http_timeouts_total", s->timeouts, "Connections closed for a slow header or body.");
    gauge(b, "xtrace_queries_running", (double)s->query_running, "Queries running.");
    gauge(b, "xtrace_queries_waiting", (double)s->query_waiting, "Queries waiting for a thread.");
    counter(b, "xtrace_queries_refused_total", s->query_refused, "Queries refused because the queue was full.");
}

static void write_ingest(struct buf *b, const struct ingest_stats *s) {
    gauge(b, "xtrace_queue_batches", (double)s->queued_tickets, "Batches waiting to be written.");
    gauge(b, "xtrace_queue_bytes", (double)s->queued_bytes, "Memory of the batches waiting.");
    gauge(b, "xtrace_queue_age_seconds", (double)s->oldest_queued_ns / (double)NS_PER_SEC,
          "Age of the oldest batch waiting.");
    counter(b, "xtrace_ingest_records_total", s->records, "Records committed.");
    counter(b, "xtrace_ingest_batches_total", s->committed_batches, "Batches committed.");
    counter(b, "xtrace_ingest_batches_failed_total", s->failed_batches,
            "Batches told to retry because the store was away.");
    counter(b, "xtrace_ingest_batches_abandoned_total", s->abandoned,
            "Batches whose caller was told to retry before they were written.");
    metric_head(b, "xtrace_ingest_refused_total", "counter", "What was refused, by reason.");
    buf_printf(b, "xtrace_ingest_refused_total{reason=\"store\"} %llu\n", (unsigned long long)s->refused_records);
    buf_printf(b, "xtrace_ingest_refused_total{reason=\"queue_full\"} %llu\n", (unsigned long long)s->busy_refusals);
    buf_printf(b, "xtrace_ingest_refused_total{reason=\"point_without_value\"} %llu\n",
               (unsigned long long)s->dropped_points);
    counter(b, "xtrace_ingest_groups_split_total", s->splits,
            "Groups written in parts because the store refused a record.");
    times(b, "xtrace_commit_seconds", &s->commits, "Time of a group's transaction.");
    times(b, "xtrace_tidy_seconds", &s->tidying, "Time of one step of the store's housekeeping.");
}

static double resident_bytes(void) {
    long pages = 0;
    char text[128];
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fgets(text, sizeof text, f)) {
        char *second = strchr(text, ' ');
        pages = second ? strtol(second, NULL, 10) : 0;
    }
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

enum http_result health_metrics(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    struct buf *b = http_reply_buf(req);
    struct http_stats http;
    struct ingest_stats ingest;
    struct store_stats store;
    uint64_t allowed = 0, rejected = 0;
    http_server_stats(http_server_of(req), &http);
    ingest_stats_get(app->ingest, &ingest);
    app->store->ops->stats(app->store, &store);
    rate_counts(app->limiter, &allowed, &rejected);
    metric_head(b, "xtrace_info", "gauge", "The version that runs.");
    buf_printf(b, "xtrace_info{version=\"%s\",store=\"%s\"} 1\n", XTRACE_VERSION, app->store->ops->scheme);
    gauge(b, "xtrace_uptime_seconds", (double)(clock_mono_ns() - app->started_mono_ns) / (double)NS_PER_SEC,
          "Time since the start.");
    gauge(b, "xtrace_ready", ingest_healthy(app->ingest) && !atomic_load_explicit(&app->stopping, memory_order_relaxed),
          "1 while the store takes writes.");
    gauge(b, "xtrace_resident_bytes", resident_bytes(), "Resident memory.");
    write_http(b, &http);
    write_ingest(b, &ingest);
    gauge(b, "xtrace_store_file_bytes", (double)store.file_bytes, "Size of the store's file.");
    gauge(b, "xtrace_store_wal_bytes", (double)store.wal_bytes, "Size of the write-ahead log.");
    counter(b, "xtrace_store_reads_total", store.reads, "Queries of the store.");
    counter(b, "xtrace_store_read_errors_total", store.read_errors, "Queries that failed.");
    counter(b, "xtrace_store_read_timeouts_total", store.read_timeouts, "Queries that ran out of time.");
    counter(b, "xtrace_store_removed_traces_total", store.removed_traces, "Traces that retention removed.");
    counter(b, "xtrace_store_checkpoints_total", store.checkpoints, "Checkpoints after which the log started over.");
    counter(b, "xtrace_store_checkpoint_errors_total", store.checkpoint_errors, "Passes of checkpoints that failed.");
    counter(b, "xtrace_rate_limit_allowed_total", allowed, "Query requests let through by the rate limit.");
    counter(b, "xtrace_rate_limit_rejected_total", rejected, "Query requests refused by the rate limit.");
    http_reply_type(req, "text/plain; version=0.0.4; charset=utf-8");
    http_reply_status(req, 200);
    if (!b->failed)
        return HTTP_REPLY;
    xt_fail(err, XT_ENOMEM, "out of memory");
    return HTTP_FAIL;
}
