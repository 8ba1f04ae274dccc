/* internal.h -- the request and what all requests share, as the files of http/ see them. Nothing outside http/ (and its
 * tests) includes this.
 *
 * Who owns a request:
 *   event thread   from its head until its handler is called, and again from the answer on
 *   pool thread    while its handler runs there; the connection is suspended then
 *   nobody         while it is parked: http_claim or the deadline takes it (one compare-and-swap on `claim`)
 *   the claimer    until http_answer
 * A change of owner goes through `claim`, `gate` or a mutex, so all other fields need no lock. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/inflate.h"
#include "http/accept.h"
#include "http/drain.h"
#include "http/http.h"
#include "http/pool.h"
#include "http/route.h"
#include "http/server.h"
#include "http/sweep.h"

#define HEADERS_MAX 100                  /* more is 431 */
#define REQUEST_ID_MAX 128               /* bytes */
#define ARENA_MAX ((size_t)64 << 20)     /* bytes a request's arena may take */
#define REPLY_MAX ((size_t)256 << 20)    /* bytes of an answer */
#define SWALLOW_MIN (UINT64_C(64) << 20) /* bytes of a refused body that are read at least, to save the connection */
#define CONN_OVERSHOOT 256               /* connections above the limit while evicted ones are being closed */
#define COMPRESS_MIN 1024                /* bytes; shorter answers are not compressed */

/* Bytes that may be in memory at once, over all connections. `used` is relaxed: it guards no other memory. */
struct budget {
    _Atomic uint64_t used;
    uint64_t limit;
};
/* `own` is what the taker holds already. What is larger than the whole limit is let in beside others, one at a time: so
 * used <= limit + the largest, and nothing waits for an idle server. */
bool budget_take(struct budget *b, uint64_t n, uint64_t own);
void budget_give(struct budget *b, uint64_t n);
/* More than half is taken: time to make room. */
static inline bool budget_tight(const struct budget *b) {
    return atomic_load_explicit(&b->used, memory_order_relaxed) > b->limit / 2;
}

/* All relaxed: each is a number of its own, read for /metrics. */
struct http_counters {
    _Atomic uint64_t requests[HTTP_STATUS_CLASSES];
    _Atomic uint64_t connections_now, connections_total, refused_connections;
    _Atomic uint64_t body_refused, parked_now, deadline_answers, query_refused;
};
static inline void count_add(_Atomic uint64_t *c, uint64_t n) { atomic_fetch_add_explicit(c, n, memory_order_relaxed); }
static inline void count_sub(_Atomic uint64_t *c, uint64_t n) { atomic_fetch_sub_explicit(c, n, memory_order_relaxed); }
static inline uint64_t count_get(const _Atomic uint64_t *c) { return atomic_load_explicit(c, memory_order_relaxed); }

/* What all requests of a server share: const after start, but for the atomics. */
struct http_core {
    struct http_conf conf;
    struct route_table routes;
    struct str cors_list; /* trimmed; n == 0: no CORS */
    bool cors_any;        /* "*" */
    struct budget bodies, replies;
    struct sweep *sweep;
    struct pool *queries, *heavy; /* rows with query_pool; large bodies */
    struct drain drain;
    struct http_counters counters;
    uint64_t id_base;         /* random; request ids that we make start from it */
    _Atomic uint64_t id_next; /* relaxed: only uniqueness matters */
    _Atomic bool draining;    /* answers carry "Connection: close" from now on; relaxed: one flag */
};

struct http_header {
    struct str name, value;
};
struct http_param {
    struct str key, value;
};
struct reply_header {
    struct reply_header *next;
    const char *name;
    struct str value; /* NUL-terminated */
};

enum req_phase {              /* event thread only */
                 REQ_HEAD,    /* the head is incomplete */
                 REQ_BODY,    /* the body is read into `body` */
                 REQ_SWALLOW, /* the body is read and dropped; the reply may be filled already */
                 REQ_WORK,    /* handler, pool or parked */
                 REQ_SENT     /* the answer was given to the library */
};
enum req_claim { CLAIM_HANDLER, CLAIM_PARKED, CLAIM_TAKEN };
enum req_gate {
    GATE_OPEN,      /* the event thread has not suspended the connection (yet) */
    GATE_SUSPENDED, /* it has: who answers must resume it */
    GATE_ANSWERED   /* the reply is complete */
};

struct http_req {
    struct http_core *core;
    void *conn; /* server.c's: the connection */
    void *link; /* server.c's: the library's handle */
    _Atomic unsigned refs;
    _Atomic int claim, gate;
    enum req_phase phase;
    struct arena arena; /* kept until the last reference is dropped */

    /* head */
    struct str method, target, path, query; /* target is a copy; path and query point into it, not decoded */
    const struct http_header *headers;      /* the library's memory: valid until the answer is sent */
    size_t nheaders;
    const struct http_route *route; /* NULL: 404, 405 and what comes before */
    struct str captures[ROUTE_CAPTURES_MAX];
    size_t ncaptures;
    struct http_param *params;
    size_t nparams;
    struct http_auth auth;
    struct str id;           /* NUL-terminated */
    struct str content_type; /* as http_content_type */

    /* body */
    bool replied_early; /* the reply was filled from the head alone: the handler is not called */
    enum coding coding; /* of `body` as it is: none once it is inflated */
    struct buf body;
    uint64_t declared; /* bytes; 0 when chunked */
    uint64_t held;     /* bytes of the budget */
    uint64_t swallowed;

    /* reply */
    unsigned status;
    bool close; /* end the connection after the answer */
    struct buf reply;
    const char *type; /* NULL: application/json when there is a body */
    struct reply_header *reply_headers, **reply_tail;
    uint64_t reply_held;                             /* bytes of the reply budget */
    char err_msg[sizeof(((struct xt_err *)0)->msg)]; /* of the error that was answered, for the log */

    /* parking and queueing */
    struct sweep_park park, wait; /* its deadline while parked; while in the queue of the pool */
    void (*on_deadline)(struct http_req *req, void *arg);
    void *deadline_arg;
    struct pool_job job;
};

/* request.c -- a request from its parts; no library, no sockets. */
struct http_req *req_new(struct http_core *core); /* one reference; NULL: no memory */
void req_release(struct http_req *req);           /* frees body and reply at once; the rest goes with the references */
/* Copies the raw target and splits it. False: no memory. */
bool req_set_target(struct http_req *req, const char *raw);
void target_split(struct str target, struct str *ret_path, struct str *ret_query);
/* Decodes captures and query parameters. False: no memory. */
bool req_decode(struct http_req *req);
/* Echoes a sane X-Request-Id or makes one. */
void req_set_id(struct http_req *req);
bool request_id_ok(struct str id);

/* checks.c -- what is decided from the head alone. True: the request may go on to its body and handler;
 * false: the reply is filled. */
bool checks_head(struct http_req *req);
/* CORS headers of any answer. */
void checks_cors(struct http_req *req);
/* How the body is framed. */
struct framing {
    bool chunked, expect;
    uint64_t length; /* 0 when chunked */
};
/* False: contradictory or malformed (request smuggling): 400 and close. */
bool checks_framing(const struct http_req *req, struct framing *ret);

/* body.c -- the request's body: capped, counted, inflated, padded. */
enum xt_code body_begin(struct http_req *req, const struct framing *f, struct xt_err *err);
enum xt_code body_add(struct http_req *req, const char *data, size_t n, struct xt_err *err);
/* After the last byte, if it is compressed: inflates it if less than `limit` bytes come out. False: more do. True says
 * nothing about faults, which body_finish names. */
bool body_inflate_below(struct http_req *req, size_t limit);
/* After the last byte: inflates and pads. */
enum xt_code body_finish(struct http_req *req, struct xt_err *err);
void body_drop(struct http_req *req);

/* park.c -- what is not in http.h; and what it needs of server.c */
/* Runs the handler. True: the reply is filled and nobody else knows the request; false: somebody else answers it. */
bool run_handler(struct http_req *req);
void run_job(void *core, struct pool_job *job);           /* pool thread */
void park_expired(void *core, struct sweep_park *p);      /* popped, with the list's reference */
struct pool *pool_for(struct http_req *req);              /* NULL: the handler runs on the event thread */
bool submit_job(struct http_req *req, struct pool *pool); /* false: the queue is full */
void answer_leftovers(struct http_core *core);            /* parked and queued ones, for the stop */
void link_resume(struct http_core *core, void *link);     /* any thread; the server may be gone afterwards */

/* reply.c -- what is not in http.h. */
/* Compresses, charges the reply budget, turns a buffer that failed into an error. Any thread, once, before the answer. */
void reply_finish(struct http_req *req);
enum coding reply_accepts(struct str accept_encoding);
