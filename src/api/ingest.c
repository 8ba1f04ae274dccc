/* ingest.c -- the write routes: body -> batch -> queue -> parked request -> answer after the commit.
 *
 * Life of a parked write: the request holds a reference for `on_done`, the ticket one for the submitter. Exactly one of
 * these drops both: on_done (the outcome came), on_deadline when it could still take the ticket out of the queue, or the
 * handler itself when the queue refused it. An outcome may come when the server is gone: without a claim, on_done touches
 * nothing but its two references. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/app.h"
#include "base/clock.h"
#include "base/log.h"
#include "ingest/decode.h"
#include "json/json_read.h"
#include "json/json_write.h"
#include "model/normalize.h"

_Static_assert(HTTP_BODY_PADDING >= JSON_PADDING, "the parser reads past the end of a body");

/* Memory that decoding may take: a multiple of the body, so that small records in a large body fit, with a ceiling. The
 * floor is for OTLP: each span keeps what it shares with thousands of others, the attributes of its resource. */
#define DECODE_RATIO 16
#define DECODE_MIN (UINT64_C(64) << 20)
#define DECODE_MAX (UINT64_C(256) << 20)

enum wire { WIRE_NATIVE, WIRE_OTLP_JSON, WIRE_OTLP_PB };

struct parked {
    struct app *app;
    struct http_req *req;
    struct ticket *ticket;
    enum wire wire;
    struct otlp_rejects rejects;
};

static size_t decode_limit(size_t body) {
    uint64_t want = (uint64_t)body * DECODE_RATIO;
    return (size_t)(want < DECODE_MIN ? DECODE_MIN : want > DECODE_MAX ? DECODE_MAX : want);
}

/* ---- answers ---- */

static void write_refusals(struct json_writer *w, const struct ingest_outcome *o) {
    static const char *const kinds[] = {
        [RECORD_TRACE] = "trace", [RECORD_OBSERVATION] = "observation", [RECORD_SAMPLE] = "sample"
    };
    jw_key(w, "errors");
    jw_arr(w);
    for (size_t i = 0; i < o->nrefusals; i++) {
        const struct refusal *r = &o->refusals[i];
        struct arena a;
        struct str id = STR_NONE;
        arena_init(&a, 16 * 1024);
        const struct id *record_id = r->kind == RECORD_TRACE         ? &o->batch->traces[r->index].id
                                     : r->kind == RECORD_OBSERVATION ? &o->batch->observations[r->index].id
                                                                     : NULL;
        if (record_id)
            id = id_print(&a, record_id->key, record_id->spell, record_id->text);
        jw_obj(w);
        jw_kv_cstr(w, "kind", kinds[r->kind]);
        jw_kv_i64(w, "index", (int64_t)r->index);
        if (record_id)
            jw_kv_str(w, "id", id);
        else
            jw_kv_str(w, "name", o->batch->samples[r->index].name);
        jw_kv_cstr(w, "message", r->err.msg);
        jw_end(w);
        arena_done(&a);
    }
    jw_end(w);
}

/* 200 as the original words it; 207 and 422 name what the store refused. */
static void answer_native(struct http_req *req, const struct ingest_outcome *o) {
    struct json_writer w;
    /* Says to senders of many traces that one request takes them all (`traces`), which the original's does not. */
    http_reply_header(req, "X-Xtrace-Accepts", STR_LIT("traces"));
    bool all = o && o->refused_total > 0 && o->refused_total >= batch_records(o->batch);
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    if (!o || o->refused_total == 0) {
        jw_kv_cstr(&w, "message", "Request Successful.");
    } else {
        jw_kv_cstr(&w, "message",
                   all ? "The store refused every record" : "The store refused some records; the others are stored");
        jw_kv_cstr(&w, "code", all ? xt_code_word(XT_ESCHEMA) : "PARTIAL_SUCCESS");
        write_refusals(&w, o);
    }
    jw_end(&w);
    http_reply_status(req, !o || o->refused_total == 0 ? 200 : all ? 422 : 207);
}

static void pb_varint(struct buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        buf_add_char(b, (char)(v | 0x80));
    buf_add_char(b, (char)v);
}

/* ExportTraceServiceResponse: empty when all was accepted, else partial_success. */
static void answer_otlp(struct http_req *req, bool protobuf, uint64_t rejected, const char *reason) {
    struct buf *out = http_reply_buf(req);
    http_reply_status(req, 200);
    if (protobuf) {
        http_reply_type(req, "application/x-protobuf");
        if (!rejected)
            return;
        struct buf inner;
        buf_init(&inner, 1024);
        buf_add_char(&inner, 0x08); /* rejected_spans = 1, varint */
        pb_varint(&inner, rejected);
        buf_add_char(&inner, 0x12); /* error_message = 2, bytes */
        pb_varint(&inner, strlen(reason));
        buf_add_c(&inner, reason);
        buf_add_char(out, 0x0a); /* partial_success = 1 */
        pb_varint(out, inner.n);
        buf_add_str(out, buf_str(&inner));
        buf_done(&inner);
        return;
    }
    struct json_writer w;
    jw_init(&w, out);
    jw_obj(&w);
    if (rejected) {
        char count[24];
        snprintf(count, sizeof count, "%llu", (unsigned long long)rejected);
        jw_key(&w, "partialSuccess");
        jw_obj(&w);
        jw_kv_cstr(&w, "rejectedSpans", count); /* int64 is a string in protobuf's JSON */
        jw_kv_cstr(&w, "errorMessage", reason);
        jw_end(&w);
    }
    jw_end(&w);
}

/* Fills the reply for an outcome; NULL: there was nothing to store. */
static void answer(struct parked *p, const struct ingest_outcome *o) {
    if (o && o->code != XT_OK) {
        http_reply_error(p->req, o->err);
        return;
    }
    if (p->wire == WIRE_NATIVE) {
        answer_native(p->req, o);
        return;
    }
    /* Traces are made of spans: what counts for the sender are the spans. */
    uint64_t rejected = p->rejects.spans + (o ? o->refused_observations : 0);
    const char *reason = p->rejects.reason;
    for (size_t i = 0; o && i < o->nrefusals; i++)
        if (o->refusals[i].kind == RECORD_OBSERVATION)
            reason = o->refusals[i].err.msg;
    answer_otlp(p->req, p->wire == WIRE_OTLP_PB, rejected, reason);
}

static void release(struct parked *p) {
    struct ticket *t = p->ticket;
    struct http_req *req = p->req;
    ticket_unref(t);
    http_unref(req); /* *p lived in its arena */
}

static void on_done(void *arg, const struct ingest_outcome *o) {
    struct parked *p = arg;
    if (http_claim(p->req)) {
        answer(p, o);
        http_answer(p->req);
    }
    release(p);
}

static void on_deadline(struct http_req *req, void *arg) {
    struct parked *p = arg;
    struct xt_err err = { XT_EUNAVAILABLE, "Service Unavailable" };
    bool abandoned = ticket_abandon(p->ticket);
    http_reply_error(req, &err);
    if (abandoned)
        release(p); /* the server holds its own reference until the answer is out */
}

/* ---- the way in ---- */

static enum http_result submit(struct parked *p, struct batch *b, struct xt_err *err) {
    struct app *app = p->app;
    p->ticket = ticket_new(app->ingest, b, on_done, p);
    if (!p->ticket) {
        batch_free(b);
        xt_fail(err, XT_ENOMEM, "out of memory");
        return HTTP_FAIL;
    }
    http_ref(p->req);
    int64_t deadline = clock_mono_ns() + (int64_t)app->conf->ingest_deadline_ms * NS_PER_MS;
    http_park(p->req, deadline, on_deadline, p);
    struct xt_err refused = { 0 };
    if (ingest_submit(app->ingest, p->ticket, &refused) == XT_OK)
        return HTTP_PARKED;
    if (http_claim(p->req)) {
        http_reply_error(p->req, &refused);
        http_answer(p->req);
    }
    release(p);
    return HTTP_PARKED;
}

typedef enum xt_code decoder(struct arena *scratch, struct str body, struct batch *b, struct otlp_rejects *rejects,
                             struct xt_err *err);

static enum xt_code decode(struct parked *p, decoder *run, struct batch *b, struct xt_err *err) {
    struct arena scratch;
    arena_init(&scratch, decode_limit(b->body_bytes));
    enum xt_code rc = run(&scratch, (struct str){ b->body, b->body_bytes }, b, &p->rejects, err);
    arena_done(&scratch);
    if (rc == XT_OK)
        rc = normalize_batch(b, err);
    if (rc == XT_OK && batch_records(b))
        rc = p->app->store->ops->prepare(p->app->store, b, err);
    return rc;
}

/* Takes the body, decodes it on this thread, queues it and parks the request. */
static enum http_result ingest(struct http_req *req, enum wire wire, decoder *run, struct xt_err *err) {
    struct app *app = app_of(req);
    const struct http_auth *auth = http_auth_of(req);
    struct parked *p = arena_new(http_arena(req), struct parked, 1);
    size_t bytes = 0;
    char *body = p ? http_body_take(req, &bytes) : NULL;
    struct batch *b = body ? batch_new(decode_limit(bytes)) : NULL;
    if (!b) {
        http_budget_release(http_server_of(req), bytes); /* 0: nothing was taken */
        free(body);
        xt_fail(err, XT_ENOMEM, "out of memory");
        return HTTP_FAIL;
    }
    *p = (struct parked){ .app = app, .req = req, .wire = wire };
    b->body = body;
    b->body_bytes = bytes;
    b->project = auth->project;
    b->default_label = arena_str(&b->arena, auth->project_name);
    b->received = clock_now_ns();
    enum xt_code rc = decode(p, run, b, err);
    if (rc == XT_OK && b->arena.failed)
        rc = xt_fail(err, XT_ETOOBIG, "request needs too much memory to decode: send smaller batches");
    if (p->rejects.spans)
        log_warn("event=spans_rejected request=%.*s count=%zu reason=\"%s\"", STR_FMT(http_request_id(req)),
                 p->rejects.spans, p->rejects.reason);
    if (rc == XT_OK && batch_records(b)) {
        http_budget_release(http_server_of(req), bytes); /* the queue's bound takes over */
        return submit(p, b, err); /* which may be over before it returns: req is not ours any more */
    }
    http_budget_release(http_server_of(req), bytes);
    batch_free(b);
    if (rc != XT_OK)
        return HTTP_FAIL;
    answer(p, NULL);
    return HTTP_REPLY;
}

#define NATIVE(fn)                                                                        \
    static enum xt_code run_##fn(struct arena *scratch, struct str body, struct batch *b, \
                                 struct otlp_rejects *rejects, struct xt_err *err) {      \
        (void)rejects;                                                                    \
        return fn(scratch, body, b, err);                                                 \
    }
NATIVE(decode_native_batch)
NATIVE(decode_native_trace)
NATIVE(decode_native_observation)
NATIVE(decode_metrics_batch)

/* ---- the routes ---- */

/* Content types are looked at before the body is read: 415 wins over 413. */
enum xt_code ingest_head_json(struct http_req *req, struct xt_err *err) {
    struct str type = http_content_type(req);
    if (str_eq_c(type, "application/json") || (str_starts(type, "application/") && str_ends(type, "+json")))
        return XT_OK;
    return xt_fail(err, XT_EMEDIA, "Expected request with `Content-Type: application/json`");
}

/* Which of OTLP's two encodings: a missing type means JSON on Langfuse's path only. */
static bool otlp_wire(struct http_req *req, bool public_path, enum wire *ret) {
    struct str type = http_content_type(req);
    *ret = WIRE_OTLP_PB;
    if (str_eq_c(type, "application/x-protobuf"))
        return true;
    if (!public_path && (str_eq_c(type, "application/protobuf") || str_eq_c(type, "application/octet-stream")))
        return true;
    *ret = WIRE_OTLP_JSON;
    return str_eq_c(type, "application/json") || (public_path && !str_has(type));
}

static enum xt_code head_otlp(struct http_req *req, bool public_path, struct xt_err *err) {
    enum wire wire;
    struct str type = http_content_type(req);
    if (otlp_wire(req, public_path, &wire))
        return XT_OK;
    return xt_fail(err, public_path ? XT_EINVAL : XT_EMEDIA, "unsupported content-type: %.*s",
                   STR_FMT(str_sub(type, 0, 100)));
}
enum xt_code ingest_head_otlp_public(struct http_req *req, struct xt_err *err) { return head_otlp(req, true, err); }
enum xt_code ingest_head_otlp(struct http_req *req, struct xt_err *err) { return head_otlp(req, false, err); }

enum http_result ingest_native_batch(struct http_req *req, struct xt_err *err) {
    return ingest(req, WIRE_NATIVE, run_decode_native_batch, err);
}
enum http_result ingest_native_trace(struct http_req *req, struct xt_err *err) {
    return ingest(req, WIRE_NATIVE, run_decode_native_trace, err);
}
enum http_result ingest_native_observation(struct http_req *req, struct xt_err *err) {
    return ingest(req, WIRE_NATIVE, run_decode_native_observation, err);
}
enum http_result ingest_metrics_batch(struct http_req *req, struct xt_err *err) {
    return ingest(req, WIRE_NATIVE, run_decode_metrics_batch, err);
}

/* Contract 2.8 wants resourceSpans (`{}` is 400); the protocol's own route accepts an empty request. */
static enum xt_code run_json_public(struct arena *scratch, struct str body, struct batch *b,
                                    struct otlp_rejects *rejects, struct xt_err *err) {
    return decode_otlp_traces_json(scratch, body, b, true, rejects, err);
}
static enum xt_code run_json_standard(struct arena *scratch, struct str body, struct batch *b,
                                      struct otlp_rejects *rejects, struct xt_err *err) {
    return decode_otlp_traces_json(scratch, body, b, false, rejects, err);
}

enum http_result ingest_otlp_public(struct http_req *req, struct xt_err *err) {
    enum wire wire;
    otlp_wire(req, true, &wire);
    return ingest(req, wire, wire == WIRE_OTLP_PB ? decode_otlp_traces_pb : run_json_public, err);
}

enum http_result ingest_otlp_standard(struct http_req *req, struct xt_err *err) {
    enum wire wire;
    otlp_wire(req, false, &wire);
    return ingest(req, wire, wire == WIRE_OTLP_PB ? decode_otlp_traces_pb : run_json_standard, err);
}
