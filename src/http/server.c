/* server.c -- the listener, its threads and the life of a request. The only file that knows libmicrohttpd.
 *
 *  1. The library listens to nothing: the sweep thread accepts and hands sockets over, so stopping to listen is one
 *     close(), and the limit of connections is ours (who has been idle for longest makes room).
 *  2. An answer is given to the library on the connection's event thread only. Other threads fill the reply, set `gate`
 *     to GATE_ANSWERED and resume the connection; the event thread is then called again and sends.
 *  3. The library aborts the process if it is stopped with a suspended connection, or if one is suspended after that:
 *     hence the gate and the counts of drain.h.
 *  4. While a connection is suspended the library does not touch it: a client that leaves is noticed after the answer.
 *  5. The library clears a connection's whole memory after each request, so all of POOL_BYTES count for every
 *     connection that was ever used; bodies only pass through. */
#include "http/server.h"

#include <microhttpd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "http/internal.h"
#include "http/listen.h"
#include "http/tls.h"

#define POOL_BYTES ((size_t)40 << 10) /* a connection's memory in the library: bounds a request's head */
#define HEAVY_THREADS 2
#define SEND_FACTOR 4       /* an answer may take this many request timeouts to be read */
#define FLUSH_NS NS_PER_SEC /* for the last answers of a stop */
#define LOOK_NS (NS_PER_SEC / 100)
#define LOG_LINES 20   /* of failed requests a second */
#define FILES_KEPT 128 /* descriptors that connections may not take */

struct http_server {
    struct http_core core; /* first: a request knows its server by it */
    struct MHD_Daemon *daemon;
    struct tls *tls; /* NULL: plain */
    struct listen_addr addr;
    struct acceptor acceptor;
    int64_t head_ns, idle_ns, body_ns, send_ns; /* timeouts */

    /* Relaxed: lines of this second; a race lets one line more or less through. */
    _Atomic int64_t log_second;
    _Atomic unsigned log_lines;
};

/* A connection; lives from the library's "started" to its "closed". */
struct conn {
    struct sweep_conn watch;
    struct tls_cred *cred;
};

static struct http_server *server_of(const struct http_req *req) { return (struct http_server *)req->core; }

struct http_server *http_server_of(const struct http_req *req) {
    return server_of(req);
}

void http_budget_release(struct http_server *s, size_t bytes) { budget_give(&s->core.bodies, bytes); }

void link_resume(struct http_core *core, void *link) {
    MHD_resume_connection(link);
    drain_resumed(&core->drain);
}

/* ---- answers; event thread ---- */

static void log_failure(struct http_req *req) {
    struct http_server *s = server_of(req);
    int64_t second = clock_mono_ns() / NS_PER_SEC;
    if (atomic_load_explicit(&s->log_second, memory_order_relaxed) != second) {
        atomic_store_explicit(&s->log_second, second, memory_order_relaxed);
        atomic_store_explicit(&s->log_lines, 0, memory_order_relaxed);
    }
    unsigned line = atomic_fetch_add_explicit(&s->log_lines, 1, memory_order_relaxed);
    if (line < LOG_LINES) {
        char path[LOG_TEXT_MAX], message[LOG_TEXT_MAX];
        log_warn("event=request_failed status=%u request=%.*s method=%.*s path=\"%s\" message=\"%s\"%s", req->status,
                 STR_FMT(req->id), STR_FMT(req->method), log_text(path, str_sub(req->path, 0, 200)),
                 log_text(message, str_c(req->err_msg)),
                 line == LOG_LINES - 1 ? " (further ones of this second are left out)" : "");
    }
}

static struct MHD_Response *make_response(struct http_req *req) {
    size_t n;
    if (req->reply.n == 0) {
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    }
    char *body = buf_take(&req->reply, &n);
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(n, body, free);
    if (!r) {
        free(body);
    }
    return r;
}

static void add_headers(struct http_req *req, struct MHD_Response *r, bool body) {
    if (req->type || body) {
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, req->type ? req->type : "application/json");
    }
    MHD_add_response_header(r, "X-Request-Id", req->id.p ? req->id.p : "-");
    for (const struct reply_header *h = req->reply_headers; h; h = h->next) {
        MHD_add_response_header(r, h->name, h->value.p); /* the library refuses what would break the head */
    }
    if (req->close || atomic_load_explicit(&req->core->draining, memory_order_relaxed)) {
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    }
}

/* Gives the finished reply to the library. */
static enum MHD_Result send_answer(struct http_req *req) {
    struct http_server *s = server_of(req);
    struct conn *conn = req->conn;
    bool body = req->reply.n > 0;
    req->phase = REQ_SENT;
    struct MHD_Response *r = make_response(req);
    if (!r) {
        return MHD_NO;
    }
    add_headers(req, r, body);
    unsigned class = req->status / 100;
    count_add(&s->core.counters.requests[class < HTTP_STATUS_CLASSES ? class : 0], 1);
    if (req->status >= 500) {
        log_failure(req);
    }
    int64_t now = clock_mono_ns();
    sweep_conn_set(&conn->watch, CONN_SEND, now, time_add(now, s->send_ns));
    enum MHD_Result ok = MHD_queue_response(req->link, req->status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result finish_and_send(struct http_req *req) {
    reply_finish(req);
    return send_answer(req);
}

/* ---- the life of a request; event thread ---- */

/* Sends at once if the answer is there, else suspends the connection until it is. */
static enum MHD_Result wait_for_answer(struct http_req *req) {
    int open = GATE_OPEN;
    if (atomic_load_explicit(&req->gate, memory_order_acquire) == GATE_ANSWERED) {
        return send_answer(req);
    }
    drain_suspended(&req->core->drain);
    MHD_suspend_connection(req->link);
    if (!atomic_compare_exchange_strong_explicit(&req->gate, &open, GATE_SUSPENDED, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        link_resume(req->core, req->link); /* answered in between, by somebody who did not know */
    }
    return MHD_YES;
}

static enum MHD_Result fail_now(struct http_req *req, enum xt_code code, const char *text) {
    struct xt_err err = { 0 };
    xt_fail(&err, code, "%s", text);
    http_reply_error(req, &err);
    return finish_and_send(req);
}

static enum MHD_Result work(struct http_req *req) {
    struct drain *drain = &req->core->drain;
    enum MHD_Result ret;
    req->phase = REQ_WORK;
    if (!drain_enter(drain)) {
        req->close = true;
        return fail_now(req, XT_EUNAVAILABLE, "the server is stopping");
    }
    struct pool *pool = pool_for(req);
    if (pool && !submit_job(req, pool)) {
        ret = fail_now(req, XT_EUNAVAILABLE, "too many queries at once: ask again");
    } else if (!pool && run_handler(req)) {
        ret = finish_and_send(req);
    } else {
        ret = wait_for_answer(req);
    }
    drain_leave(drain);
    return ret;
}

struct header_list {
    struct http_header *headers;
    size_t n, max;
};

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_n, const char *value,
                               size_t value_n) {
    (void)kind;
    struct header_list *l = cls;
    if (l->n >= l->max) {
        return MHD_NO;
    }
    l->headers[l->n++] =
        (struct http_header){ { key ? key : "", key ? key_n : 0 }, { value ? value : "", value ? value_n : 0 } };
    return MHD_YES;
}

/* 0, or the status that refuses the head. */
static unsigned read_headers(struct http_req *req) {
    int n = MHD_get_connection_values(req->link, MHD_HEADER_KIND, NULL, NULL);
    if (n > HEADERS_MAX) {
        return 431;
    }
    struct header_list l = { .headers = arena_new(&req->arena, struct http_header, n > 0 ? (size_t)n : 0),
                             .max = n > 0 ? (size_t)n : 0 };
    if (!l.headers) {
        return 503;
    }
    MHD_get_connection_values_n(req->link, MHD_HEADER_KIND, collect, &l);
    req->headers = l.headers;
    req->nheaders = l.n;
    return 0;
}

/* Answers from the first call: the library sends it and closes the connection, whatever else the client sends. */
static enum MHD_Result refuse_head(struct http_req *req, unsigned status) {
    struct xt_err err = { 0 };
    if (!str_has(req->id)) {
        req_set_id(req);
    }
    if (status == 400) {
        xt_fail(&err, XT_EINVAL, "malformed request head");
        http_reply_error(req, &err);
    } else {
        http_reply_empty(req, status);
    }
    return finish_and_send(req);
}

/* Bytes of a refused body that are read to keep the connection and let the client see the answer. */
static uint64_t swallow_limit(const struct http_server *s) {
    uint64_t four = s->core.conf.max_body * 4;
    return four > SWALLOW_MIN ? four : SWALLOW_MIN;
}

/* The head is complete: decides by it, and how the body is to be read. */
static enum MHD_Result on_head(struct http_req *req, const char *method) {
    struct http_server *s = server_of(req);
    struct conn *conn = req->conn;
    struct framing f;
    struct xt_err err = { 0 };
    int64_t now = clock_mono_ns();
    req->phase = REQ_SWALLOW;
    req->method = str_c(method);
    drain_opened(&s->core.drain);
    unsigned refusal = read_headers(req);
    if (refusal || !checks_framing(req, &f)) {
        return refuse_head(req, refusal ? refusal : 400);
    }
    bool go = checks_head(req);
    if (go && req->route->body && body_begin(req, &f, &err) != XT_OK) {
        http_reply_error(req, &err);
        go = false;
    }
    bool coming = f.chunked || f.length > 0, too_much = f.length > swallow_limit(s);
    if (go && too_much) { /* to a route that reads no body */
        xt_fail(&err, XT_ETOOBIG, "%s", xt_code_default(XT_ETOOBIG));
        http_reply_error(req, &err);
        go = false;
    }
    req->replied_early = !go;
    if (!go && coming && (f.expect || too_much)) {
        return finish_and_send(req); /* instead of "100 Continue"; or it is not worth reading all that */
    }
    req->phase = go && req->route->body ? REQ_BODY : REQ_SWALLOW;
    sweep_conn_set(&conn->watch, coming ? CONN_BODY : CONN_BUSY, now, coming ? time_add(now, s->body_ns) : INT64_MAX);
    if (coming) {
        sweep_watch_body(s->core.sweep, now);
    }
    return MHD_YES;
}

/* A piece of the body. An answer is not allowed here: an error waits until all has been read. */
static enum MHD_Result on_data(struct http_req *req, const char *data, size_t n) {
    struct http_server *s = server_of(req);
    struct xt_err err = { 0 };
    if (req->phase == REQ_BODY) {
        if (body_add(req, data, n, &err) == XT_OK) {
            return MHD_YES;
        }
        http_reply_error(req, &err);
        req->replied_early = true;
        req->phase = REQ_SWALLOW;
    }
    req->swallowed += n;
    return req->swallowed > swallow_limit(s) ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *n, void **ctx) {
    (void)cls;
    (void)c;
    (void)url;
    (void)version;
    struct http_req *req = *ctx;
    if (!req) {
        return MHD_NO; /* no memory */
    }
    struct conn *conn = req->conn;
    switch (req->phase) {
    case REQ_HEAD: return on_head(req, method);
    case REQ_BODY:
    case REQ_SWALLOW:
        if (*n) {
            enum MHD_Result ok = on_data(req, data, *n);
            *n = 0;
            return ok;
        }
        sweep_conn_set(&conn->watch, CONN_BUSY, 0, INT64_MAX);
        return req->replied_early ? finish_and_send(req) : work(req);
    case REQ_WORK:
        return atomic_load_explicit(&req->gate, memory_order_acquire) == GATE_ANSWERED ? send_answer(req) : MHD_YES;
    case REQ_SENT: break;
    }
    return MHD_YES;
}

/* The request line is there: a request begins. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *c) {
    struct http_server *s = cls;
    struct conn *conn = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    struct http_req *req = conn ? req_new(&s->core) : NULL;
    if (!req) {
        return NULL;
    }
    req->conn = conn;
    req->link = c;
    if (!req_set_target(req, uri)) {
        http_unref(req);
        return NULL;
    }
    /* We read the query ourselves. The library would split it in place and keep 64 bytes an argument in the connection's
     * memory: it is left an empty one. */
    char *query = uri ? strchr(uri, '?') : NULL;
    if (query) {
        query[1] = '\0';
    }
    if (atomic_load_explicit(&conn->watch.phase, memory_order_relaxed) == CONN_IDLE) {
        int64_t now = clock_mono_ns();
        sweep_conn_set(&conn->watch, CONN_HEAD, now, time_add(now, s->head_ns));
    }
    return req;
}

static void on_completed(void *cls, struct MHD_Connection *c, void **ctx, enum MHD_RequestTerminationCode code) {
    (void)c;
    (void)code;
    struct http_server *s = cls;
    struct http_req *req = *ctx;
    if (!req) {
        return;
    }
    struct conn *conn = req->conn;
    int64_t now = clock_mono_ns();
    bool counted = req->phase != REQ_HEAD;
    /* A slow next head is late when idleness and a head's time are both used up; the request line makes it stricter. */
    sweep_conn_set(&conn->watch, CONN_IDLE, now, time_add(now, time_add(s->idle_ns, s->head_ns)));
    *ctx = NULL;
    req_release(req);
    http_unref(req);
    if (counted) {
        drain_closed(&s->core.drain);
    }
}

/* ---- connections ---- */

static void on_connection(void *cls, struct MHD_Connection *c, void **ctx, enum MHD_ConnectionNotificationCode code) {
    struct http_server *s = cls;
    struct conn *conn = *ctx;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        accept_started(&s->acceptor);
        conn = calloc(1, sizeof(*conn));
        *ctx = conn;
        if (!conn) {
            return; /* its requests are refused */
        }
        int64_t now = clock_mono_ns();
        conn->watch.fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        sweep_conn_set(&conn->watch, CONN_HEAD, now, time_add(now, s->head_ns));
        if (s->tls) {
            const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_GNUTLS_SESSION);
            conn->cred = info ? tls_session_start(s->tls, info->tls_session) : NULL;
        }
        count_add(&s->core.counters.connections_now, 1);
        count_add(&s->core.counters.connections_total, 1);
        sweep_conn_add(s->core.sweep, &conn->watch);
    } else if (conn) {
        sweep_conn_remove(s->core.sweep, &conn->watch);
        tls_cred_unref(conn->cred); /* the session is gone already */
        free(conn);
        *ctx = NULL;
        count_sub(&s->core.counters.connections_now, 1);
    }
}

static bool add_connection(void *arg, int fd, const struct sockaddr *sa, socklen_t len) {
    struct http_server *s = arg;
    return MHD_add_connection(s->daemon, fd, sa, len) == MHD_YES;
}

static void acceptable(void *core, int listen_fd) { accept_ready(&((struct http_server *)core)->acceptor, listen_fd); }

/* ---- start ---- */

static size_t keep_escapes(void *cls, struct MHD_Connection *c, char *text) {
    (void)cls;
    (void)c;
    return strlen(text);
}

/* The library's last word before its state is unusable; going on would be worse than a restart. */
static void on_panic(void *cls, const char *file, unsigned line, const char *reason) {
    (void)cls;
    log_error("event=http_library_panic file=%s line=%u reason=\"%s\"", file, line, reason ? reason : "");
    abort();
}

static unsigned cores(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 4 ? 4 : n > 1 ? (unsigned)n : 1;
}

static int64_t ms_to_ns(uint64_t ms) {
    return (int64_t)(ms < UINT64_C(1000000000000) ? ms : UINT64_C(1000000000000)) * 1000000;
}

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high) { return v < low ? low : v > high ? high : v; }

/* Brings the settings into ranges in which no sum below overflows. */
static void set_limits(struct http_server *s) {
    struct http_conf *c = &s->core.conf;
    uint64_t files = listen_raise_files();
    c->max_body = clamp(c->max_body, 0, UINT64_C(1) << 40);
    c->inflate_ratio = clamp(c->inflate_ratio, 1, 10000);
    c->max_connections = clamp(c->max_connections, 1, 1000000);
    if (c->max_connections + FILES_KEPT > files) {
        c->max_connections = files > 2 * FILES_KEPT ? files - FILES_KEPT : files / 2;
        log_warn("event=connections_limited connections=%llu open_files=%llu", (unsigned long long)c->max_connections,
                 (unsigned long long)files);
    } else {
        log_debug("event=open_files limit=%llu connections=%llu", (unsigned long long)files,
                  (unsigned long long)c->max_connections);
    }
    s->head_ns = ms_to_ns(clamp(c->header_timeout_ms, 1, UINT64_MAX));
    s->idle_ns = ms_to_ns(clamp(c->idle_timeout_ms, 1, UINT64_MAX));
    s->body_ns = ms_to_ns(clamp(c->request_timeout_ms, 1, UINT64_MAX));
    s->send_ns = s->body_ns * SEND_FACTOR;
    s->core.bodies.limit = c->body_budget;
    s->core.replies.limit = c->body_budget > REPLY_MAX ? c->body_budget : REPLY_MAX;
    s->core.cors_list = str_trim(str_c(c->cors_origins ? c->cors_origins : ""));
    s->core.cors_any = str_eq_c(s->core.cors_list, "*");
}

static enum xt_code start_daemon(struct http_server *s, struct xt_err *err) {
    const struct http_conf *c = &s->core.conf;
    unsigned threads = c->threads ? (unsigned)clamp(c->threads, 1, 64) : cores();
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, s->tls ? (void *)(uintptr_t)tls_cert_pem(s->tls) : NULL },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, s->tls ? (void *)(uintptr_t)tls_key_pem(s->tls) : NULL },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" },
        { MHD_OPTION_END, 0, NULL },
    };
    uint64_t idle_s = (c->idle_timeout_ms + 999) / 1000;
    MHD_set_panic_func(on_panic, NULL);
    s->daemon = MHD_start_daemon(flags | (s->tls ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, s, /* */
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES,                   /* */
                                 MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)(c->max_connections + 2 * CONN_OVERSHOOT) * threads,      /* ours counts */
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)clamp(idle_s, 1, 1000000), /* */
                                 MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0u,            /* */
                                 MHD_OPTION_THREAD_STACK_SIZE, DECODE_STACK_BYTES,                   /* */
                                 MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, s,                      /* */
                                 MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,                             /* */
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,                       /* */
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,                     /* */
                                 MHD_OPTION_ARRAY, s->tls ? tls : &tls[3],                           /* */
                                 MHD_OPTION_END);
    return s->daemon ? XT_OK : xt_fail(err, XT_EUNAVAILABLE, "cannot start the HTTP threads");
}

static enum xt_code start_threads(struct http_server *s, int listen_fd, struct xt_err *err) {
    const struct http_conf *c = &s->core.conf;
    struct pool_conf queries = { .name = "xt-query",
                                 .threads = (size_t)clamp(c->query_threads, 1, 256),
                                 .queue = (size_t)clamp(c->query_queue, 0, 1000000),
                                 .run = run_job,
                                 .arg = &s->core };
    /* Bounded by the connections: each has at most one body. */
    struct pool_conf heavy = {
        .name = "xt-body", .threads = HEAVY_THREADS, .queue = SIZE_MAX / 4, .run = run_job, .arg = &s->core
    };
    int64_t shortest = s->head_ns < s->body_ns ? s->head_ns : s->body_ns;
    struct sweep_conf sweep = { .shortest_ns = shortest,
                                .listen_fd = listen_fd,
                                .acceptable = acceptable,
                                .expired = park_expired,
                                .arg = &s->core };
    sigset_t all, old;
    s->core.queries = pool_new(&queries);
    s->core.heavy = pool_new(&heavy);
    s->core.sweep = sweep_new(&sweep);
    if (!s->core.sweep) {
        close(listen_fd);
    }
    if (!s->core.queries || !s->core.heavy || !s->core.sweep) {
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    sigfillset(&all); /* signals are the main thread's business */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    enum xt_code rc = start_daemon(s, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == XT_OK && !sweep_start(s->core.sweep)) { /* accepts from here on */
        rc = xt_fail(err, XT_EUNAVAILABLE, "cannot start the HTTP threads");
    }
    return rc;
}

static void free_server(struct http_server *s) {
    pool_free(s->core.queries);
    pool_free(s->core.heavy);
    if (s->daemon) {
        MHD_stop_daemon(s->daemon); /* tells the sweep of each connection it closes */
    }
    sweep_free(s->core.sweep);
    tls_free(s->tls);
    route_table_done(&s->core.routes);
    accept_done(&s->acceptor);
    drain_done(&s->core.drain);
    free(s);
}

static enum xt_code open_all(struct http_server *s, struct xt_err *err) {
    const struct http_conf *c = &s->core.conf;
    int listen_fd = -1;
    enum xt_code rc = listen_parse(c->bind_addr, &s->addr, err);
    if (rc == XT_OK) {
        rc = route_table_init(&s->core.routes, c->routes, c->nroutes, err);
    }
    if (rc == XT_OK && c->tls_cert && c->tls_key) {
        rc = tls_open(c->tls_cert, c->tls_key, &s->tls, err);
    }
    if (rc == XT_OK && !random_bytes(&s->core.id_base, sizeof(s->core.id_base))) {
        rc = xt_fail(err, XT_EUNAVAILABLE, "the system has no random numbers");
    }
    if (rc == XT_OK) {
        rc = listen_open(&s->addr, c->bind_addr, &listen_fd, err);
    }
    return rc == XT_OK ? start_threads(s, listen_fd, err) : rc;
}

enum xt_code http_server_start(const struct http_conf *conf, struct http_server **ret, struct xt_err *err) {
    struct http_server *s = calloc(1, sizeof(*s));
    if (!s) {
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    drain_init(&s->core.drain);
    s->acceptor = (struct acceptor){ .core = &s->core, .add = add_connection, .arg = s };
    accept_init(&s->acceptor);
    s->core.conf = *conf;
    set_limits(s);
    enum xt_code rc = open_all(s, err);
    if (rc != XT_OK) {
        free_server(s);
        return rc;
    }
    *ret = s;
    return XT_OK;
}

/* ---- what others ask ---- */

unsigned http_server_port(const struct http_server *s) { return listen_port(&s->addr); }

void http_server_stats(const struct http_server *s, struct http_stats *ret) {
    const struct http_counters *c = &s->core.counters;
    *ret = (struct http_stats){ 0 };
    for (size_t i = 0; i < HTTP_STATUS_CLASSES; i++) {
        ret->requests[i] = count_get(&c->requests[i]);
    }
    ret->connections_now = count_get(&c->connections_now);
    ret->connections_total = count_get(&c->connections_total);
    ret->refused_connections = count_get(&c->refused_connections);
    ret->body_bytes_now = count_get(&s->core.bodies.used);
    ret->body_refused = count_get(&c->body_refused);
    ret->parked_now = count_get(&c->parked_now);
    ret->deadline_answers = count_get(&c->deadline_answers);
    ret->query_refused = count_get(&c->query_refused);
    ret->timeouts = sweep_timeouts(s->core.sweep);
    pool_counts(s->core.queries, &ret->query_running, &ret->query_waiting);
}

enum xt_code http_server_reload_tls(struct http_server *s, struct xt_err *err) {
    return s->tls ? tls_reload(s->tls, err) : XT_OK;
}

/* ---- stop ---- */

void http_server_quiesce(struct http_server *s) {
    atomic_store_explicit(&s->core.draining, true, memory_order_relaxed);
    sweep_stop_listening(s->core.sweep);
}

void http_server_stop(struct http_server *s, int64_t deadline_mono_ns) {
    struct drain *d = &s->core.drain;
    http_server_quiesce(s);
    drain_close_gate(d);
    drain_wait_open(d, deadline_mono_ns);
    do {
        answer_leftovers(&s->core); /* a handler that still runs may park yet */
    } while (!drain_wait_suspended(d, time_add(clock_mono_ns(), LOOK_NS)));
    drain_wait_open(d, time_add(clock_mono_ns(), FLUSH_NS));
    free_server(s);
}
