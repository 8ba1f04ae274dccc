/* server.h -- start, drain and stop of the listener; its own counters. */
#pragma once
#include "http/http.h"

struct http_hooks {
    /* Fills *auth for a request to a protected route, from its headers; XT_EAUTH, or XT_EUNAVAILABLE when
     * that cannot be told now. Called on event threads; must not block beyond a cached look-up. */
    enum xt_code (*authorise)(void *app, struct http_req *req, const struct http_route *route, struct http_auth *ret,
                              struct xt_err *err);
    /* Rate limit of a query route; false: refused, *ret_wait_s whole seconds (>= 1). */
    bool (*admit)(void *app, const struct http_auth *auth, unsigned *ret_wait_s);
    /* Reply for a refused one. */
    void (*rate_refused)(void *app, struct http_req *req, unsigned wait_s);
};

struct http_conf {
    const char *bind_addr; /* IP:port; port 0 picks a free one */
    const char *tls_cert, *tls_key;
    const char *cors_origins;
    uint64_t max_body, inflate_ratio, max_connections, threads, body_budget;
    uint64_t idle_timeout_ms, header_timeout_ms, request_timeout_ms;
    uint64_t query_threads, query_queue;
    const struct http_route *routes;
    size_t nroutes;
    struct http_hooks hooks;
    void *app;
};

/* Snapshot of counters for /metrics. */
#define HTTP_STATUS_CLASSES 6
struct http_stats {
    uint64_t requests[HTTP_STATUS_CLASSES]; /* by status / 100 */
    uint64_t connections_now, connections_total, refused_connections;
    uint64_t body_bytes_now, body_refused, parked_now, deadline_answers;
    uint64_t query_running, query_waiting, query_refused, timeouts;
};

enum xt_code http_server_start(const struct http_conf *conf, struct http_server **ret, struct xt_err *err);
unsigned http_server_port(const struct http_server *s);
void http_server_stats(const struct http_server *s, struct http_stats *ret);
/* Reads the certificate files again (SIGHUP). Keeps the old ones when they are bad. */
enum xt_code http_server_reload_tls(struct http_server *s, struct xt_err *err);
/* Stop accepting; open requests go on. */
void http_server_quiesce(struct http_server *s);
/* Waits until no request is under way, at most until the deadline; answers parked ones with 503 then; closes all. */
void http_server_stop(struct http_server *s, int64_t deadline_mono_ns);
