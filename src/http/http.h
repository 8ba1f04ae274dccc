/* http.h -- HTTP/1.1 at arm's length: what handlers see of a request and how they answer. server.c is the only file that
 * knows libmicrohttpd.
 *
 * Life of a request (one state enum inside server.c): headers -> route, authorisation and declared size checked ->
 * whole body read (capped, counted against the budget), inflated -> handler -> reply; or parked and answered later from
 * another thread; or handed to the query pool. Order of checks: checks.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct http_server;
struct http_req;
struct http_route;

/* Rights of a credential; a route row names the ones it needs. */
enum { RIGHT_READ = 1, RIGHT_WRITE = 2, RIGHT_ADMIN = 4, RIGHT_ALL = 7 };

/* Who asks; filled by the app's authorise hook, read by handlers. */
struct http_auth {
    int64_t project;         /* tenant number */
    struct str project_name; /* lives as long as the request */
    unsigned rights;
    bool is_default_tenant;
    struct str rate_key; /* "bearer:..." or "basic:<user>": one bucket each */
};

enum http_result {
    HTTP_REPLY, /* the reply is complete */
    HTTP_FAIL,  /* err is filled: answered through the route's error style */
    HTTP_PARKED /* http_park was called: http_answer will come from another thread (or the deadline) */
};
typedef enum http_result http_handler(struct http_req *req, struct xt_err *err);

/* How errors of a route look. */
enum http_error_style {
    ERR_JSON,      /* {"message","code"} */
    ERR_JSON_OTLP, /* the same, but back-pressure is 503: exporters of OpenTelemetry drop on 429 */
    ERR_OTLP       /* google.rpc.Status in the request's encoding; back-pressure is 503 */
};
/* Readable bytes after the end of every body (parsers read in blocks). */
#define HTTP_BODY_PADDING 64

/* One row a route; docs/api.md is generated from the rows. `path`: ":x" captures one segment. HEAD goes to GET rows. */
struct http_route {
    const char *method, *path;
    http_handler *handle;
    unsigned rights;   /* 0: public */
    bool rate_limited; /* the five query routes of the original */
    bool open_compat;  /* XTRACE_ALLOW_UNAUTHENTICATED_COMPAT applies */
    bool internal;     /* open on a loopback listener, else needs read */
    bool body;         /* reads a body (conf.max_body) */
    bool query_pool;   /* runs on a query thread, not on the event thread: whatever asks the store */
    enum http_error_style style;
    const char *summary; /* docs/api.md */
    /* Optional look at the head alone, before the declared size counts and the body is read: a wrong content type is
     * 415 whatever follows, and is answered instead of "100 Continue". Runs on the event thread. */
    enum xt_code (*check_head)(struct http_req *req, struct xt_err *err);
};

/* ---- what a handler reads; everything lives until the request is answered ---- */
struct arena *http_arena(struct http_req *req);
const struct http_auth *http_auth_of(const struct http_req *req);
void *http_app(const struct http_req *req); /* the pointer given to http_server_start */
struct http_server *http_server_of(const struct http_req *req);
struct str http_path_param(const struct http_req *req, size_t i); /* decoded capture, %2F included; may hold any byte */
/* First header of that name (case-insensitive), or absent. */
struct str http_header(const struct http_req *req, const char *name);
/* Decoded query parameters in order of the URL. A key without '=' has an empty value. */
size_t http_query_count(const struct http_req *req);
void http_query_at(const struct http_req *req, size_t i, struct str *ret_key, struct str *ret_value);
struct str http_request_id(const struct http_req *req);
/* The inflated body; HTTP_BODY_PADDING readable bytes follow. http_body_take moves the malloc'd bytes out (free() them); the
 * budget they count against is released by http_budget_release, by whoever took them. */
struct str http_body(const struct http_req *req);
char *http_body_take(struct http_req *req, size_t *ret_bytes);
void http_budget_release(struct http_server *s, size_t bytes);
/* Content-Type before ';', trimmed, lower case; absent when there is none. */
struct str http_content_type(const struct http_req *req);

/* ---- how it answers ---- */
void http_reply_status(struct http_req *req, unsigned status);
void http_reply_header(struct http_req *req, const char *name, struct str value); /* copied */
/* The body's buffer; its content is sent when the handler returns HTTP_REPLY (moved, not copied). */
struct buf *http_reply_buf(struct http_req *req);
void http_reply_type(struct http_req *req, const char *content_type); /* static text; default application/json */
void http_reply_json(struct http_req *req, unsigned status, struct str json);
void http_reply_empty(struct http_req *req, unsigned status);
/* Fills the reply for an error in the route's style, Retry-After: 1 where it pays to send again. */
void http_reply_error(struct http_req *req, const struct xt_err *err);

/* ---- parking ---- */
/* To be called by the handler, before anybody else can know the request. At `deadline_mono_ns` the sweep thread calls
 * on_deadline(arg), which must fill the reply (as a handler) and may not touch the store; then the request is answered.
 * Exactly one of http_answer and the deadline wins. `arg` may live in the request's arena: that is kept until the last
 * reference is dropped. A handler that parked and then returns HTTP_FAIL answers with that error if nobody else did. */
void http_park(struct http_req *req, int64_t deadline_mono_ns, void (*on_deadline)(struct http_req *req, void *arg),
               void *arg);
/* From any thread: claims the parked request. True: the caller fills the reply, then calls http_answer. False: it is
 * already being answered; `req` may not be touched any more. A reference (http_ref) keeps the handle valid for this call. */
bool http_claim(struct http_req *req);
void http_answer(struct http_req *req);
/* A reference that keeps `req`'s memory valid for http_claim beside a deadline; drop it when done with it. */
void http_ref(struct http_req *req);
void http_unref(struct http_req *req);
