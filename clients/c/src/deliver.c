/* deliver.c -- from a batch of records to requests, on the sender's thread.
 *
 *  1. A request that the server refuses as a whole (400, 413, 415, 422) is halved until the records that it does not want
 *     stand alone; only those are refused.
 *  2. Everything else that is no success is tried again with the same records: ids make repeats harmless. Points have no
 *     identity: when their request broke off after it was sent, they are given up instead (OUT_UNCERTAIN).
 *     The same when a 2xx answer cannot be read: something took them.
 *  3. The original's server takes one trace a request and no compression; ours says in its answers that it takes more. A
 *     list of traces that was answered without that word is sent again, one by one: something else may have ignored it.
 *  4. Compression is given up only when a body that was refused compressed is taken plain. */
#include "sender.h"

#include <zlib.h>

#include "answer.h"
#include "base/clock.h"

#define GZIP_MIN 1024 /* bytes; below it compression is not worth a header */

/* ---- body ---- */

static bool encode_batch(struct xtrace_sender *s, struct record **r, size_t n) {
    struct json_writer w;
    size_t traces = 0, i = 0;

    buf_clear(&s->body);
    jw_init(&w, &s->body);
    jw_obj(&w);
    while (traces < n && r[traces]->kind == RECORD_TRACE)
        traces++;
    if (traces > 0) {
        jw_key(&w, "trace");
        record_encode(&w, RECORD_TRACE, &r[i]->v, r[i]);
        i++;
    }
    if (traces > 1) {
        jw_key(&w, "traces");
        jw_arr(&w);
        for (; i < traces; i++)
            record_encode(&w, RECORD_TRACE, &r[i]->v, r[i]);
        jw_end(&w);
    }
    jw_key(&w, "observations");
    jw_arr(&w);
    for (; i < n; i++)
        record_encode(&w, RECORD_OBSERVATION, &r[i]->v, r[i]);
    jw_end(&w);
    jw_end(&w);
    return jw_done(&w);
}

static bool encode_metrics(struct xtrace_sender *s, struct record **r, size_t n) {
    struct json_writer w;

    buf_clear(&s->body);
    jw_init(&w, &s->body);
    jw_obj(&w);
    jw_key(&w, "metrics");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++)
        record_encode(&w, RECORD_METRIC, &r[i]->v, r[i]);
    jw_end(&w);
    jw_end(&w);
    return jw_done(&w);
}

/* body -> packed; false: it goes as it is. */
static bool pack(struct xtrace_sender *s) {
    z_stream z = { 0 };
    bool ok;

    if (s->body.n < GZIP_MIN || s->body.n > UINT32_MAX / 2)
        return false;
    buf_clear(&s->packed);
    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    ok = buf_reserve(&s->packed, deflateBound(&z, (uLong)s->body.n));
    if (ok) {
        z.next_in = (Bytef *)s->body.p;
        z.avail_in = (uInt)s->body.n;
        z.next_out = (Bytef *)s->packed.p;
        z.avail_out = (uInt)s->packed.cap;
        ok = deflate(&z, Z_FINISH) == Z_STREAM_END;
        s->packed.n = z.total_out;
    }
    deflateEnd(&z);
    return ok;
}

/* ---- one request and its outcome ---- */

enum verdict { DONE, SPLIT, AGAIN, PLAIN, GIVEN_UP };

/* What a refused record is called in the log. */
static const char *name_of(const struct record *r, char id[37]) {
    if (r->kind == RECORD_METRIC)
        return r->v.metric.name ? r->v.metric.name : "";
    if (!r->by_ids)
        return r->kind == RECORD_TRACE ? r->v.trace.id : r->v.observation.id;
    if (r->kind == RECORD_TRACE)
        uuid_of_trace(r->ids.trace, id);
    else
        uuid_of_span(r->ids.span, id);
    return id;
}

/* Points that the server may have kept: they are not sent again. */
static enum verdict uncertain(struct xtrace_sender *s, size_t n, const char *why) {
    log_to(&s->client->logger, XTRACE_LOG_ERROR, "%zu points given up, the server may have kept them: %s", n, why);
    sender_settle(s, OUT_UNCERTAIN, n);
    return DONE;
}

static enum verdict accepted(struct xtrace_sender *s, const struct http_answer *a, bool metrics, size_t n) {
    xtrace_ingest_result *told;
    xtrace_error error;

    error_clear(&error);
    if (answer_ingest(a->body.p, a->body.n, &told, &error) != XTRACE_OK) {
        log_to(&s->client->logger, XTRACE_LOG_WARN, "HTTP status %d from something that is not xtrace: %s", a->status,
               error.message);
        return metrics ? uncertain(s, n, error.message) : AGAIN;
    }
    const size_t refused = told->count < n ? told->count : n;
    for (size_t i = 0; i < refused; i++)
        log_to(&s->client->logger, XTRACE_LOG_ERROR, "refused by the server: %s %s: %s",
               told->refusals[i].kind ? told->refusals[i].kind : "record",
               told->refusals[i].id ? told->refusals[i].id : "",
               told->refusals[i].message ? told->refusals[i].message : "");
    xtrace_ingest_result_free(told);
    sender_settle(s, OUT_REFUSED, refused);
    sender_settle(s, OUT_DELIVERED, n - refused);
    return DONE;
}

static enum verdict judge(struct xtrace_sender *s, const struct http_answer *a, struct record **r, size_t n,
                          bool gzipped, xtrace_error *error) {
    const bool metrics = r[0]->kind == RECORD_METRIC;
    char id[37];

    if (a->code == XTRACE_OK && a->status >= 200 && a->status < 300)
        return accepted(s, a, metrics, n);
    if (a->code == XTRACE_OK)
        answer_error(a, error);
    if (a->code == XTRACE_OK && (a->status == 400 || a->status == 413 || a->status == 415 || a->status == 422)) {
        if (gzipped && (a->status == 400 || a->status == 415))
            return PLAIN; /* perhaps it only does not inflate */
        if (n > 1)
            return SPLIT;
        log_to(&s->client->logger, XTRACE_LOG_ERROR, "refused by the server: %s: %s", name_of(r[0], id),
               error->message);
        sender_settle(s, OUT_REFUSED, 1);
        return DONE;
    }
    /* Other statuses of 4xx say that nothing was kept, too. */
    if (metrics && !answer_kept_nothing(a) && !(a->code == XTRACE_OK && a->status >= 400 && a->status < 500))
        return uncertain(s, n, error->message);
    return AGAIN;
}

static int64_t request_deadline(struct xtrace_sender *s) {
    return clock_mono_ns() + (int64_t)s->o.request_timeout_ms * 1000000;
}

/* Sends the records as one request until it is settled one way or another. SPLIT: nothing is settled. */
static enum verdict send_one(struct xtrace_sender *s, struct record **r, size_t n) {
    const bool metrics = r[0]->kind == RECORD_METRIC;
    const bool several = n > 1 && r[1]->kind == RECORD_TRACE; /* traces come first */
    bool gzip = s->gzip;
    xtrace_error error;

    if (!sender_wait(s, 0)) { /* too late: not even encoded */
        sender_settle(s, OUT_STOPPED, n);
        return GIVEN_UP;
    }
    if (!(metrics ? encode_metrics(s, r, n) : encode_batch(s, r, n))) {
        if (n > 1)
            return SPLIT;
        sender_settle(s, OUT_MEMORY, 1);
        return DONE;
    }
    for (int attempt = 1;; attempt++) {
        const bool gzipped = gzip && pack(s);
        const struct buf *body = gzipped ? &s->packed : &s->body;
        struct http_answer a;
        const struct http_request q = { .method = "POST",
                                        .path = metrics ? "/v1/metrics/batch" : "/v1/l/batch",
                                        .body = body->p,
                                        .body_bytes = body->n,
                                        .gzipped = gzipped,
                                        .once = metrics,
                                        .deadline_ns = request_deadline(s),
                                        .timeout_ms = s->o.request_timeout_ms,
                                        .abort = &s->abort,
                                        .multi = s->multi };
        sender_count_request(s, attempt > 1);
        client_request(s->client, &q, &a, &error);
        const bool good = a.code == XTRACE_OK && a.status >= 200 && a.status < 300;
        if (good && !metrics)
            s->takes_traces = a.takes_traces;
        const enum verdict v = good && several && !a.takes_traces ? SPLIT : judge(s, &a, r, n, gzipped, &error);
        const int after = a.retry_after_s;
        answer_done(&a);
        if (good && !gzip)
            s->gzip = false; /* what it refused compressed, it took like this */
        if (v == PLAIN) {
            gzip = false; /* the same without compression, at once */
            continue;
        }
        if (v != AGAIN)
            return v;
        const int wait =
            retry_wait_ms(s->o.retry_min_ms, s->o.retry_max_ms, attempt, after, random_u64(sender_epoch(s)));
        log_to(&s->client->logger, attempt == 1 ? XTRACE_LOG_WARN : XTRACE_LOG_INFO,
               "%zu records wait: %s; again in %d ms", n, error.message, wait);
        if (!sender_wait(s, wait))
            break;
    }
    sender_settle(s, OUT_STOPPED, n);
    return GIVEN_UP;
}

static void send_range(struct xtrace_sender *s, struct record **r, size_t n) {
    if (n == 0 || send_one(s, r, n) != SPLIT)
        return;
    send_range(s, r, n / 2);
    send_range(s, r + n / 2, n - n / 2);
}

/* ---- the batch ---- */

/* Stable partition by kind: traces, observations, points, with room for n in `scratch`. start: where the kinds begin. */
static void by_kind(struct record **r, struct record **scratch, size_t n, size_t start[RECORD_KINDS + 1]) {
    size_t at = 0;

    for (int kind = 0; kind < RECORD_KINDS; kind++) {
        start[kind] = at;
        for (size_t i = 0; i < n; i++)
            if ((int)r[i]->kind == kind)
                scratch[at++] = r[i];
    }
    start[RECORD_KINDS] = at;
    memcpy(r, scratch, n * sizeof(struct record *));
}

void deliver(struct xtrace_sender *s, struct record **r, struct record **scratch, size_t n) {
    size_t start[RECORD_KINDS + 1];

    by_kind(r, scratch, n, start);
    const size_t traces = start[RECORD_OBSERVATION], both = start[RECORD_METRIC];
    /* Until the server has said that it takes several traces, they go one by one, the last with the observations. */
    size_t first = 0;
    while (!s->takes_traces && first + 1 < traces)
        send_range(s, r + first++, 1);
    send_range(s, r + first, both - first);
    send_range(s, r + both, n - both);
}
