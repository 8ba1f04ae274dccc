/* park.c -- requests change owners here: handed to a pool, parked, claimed, answered. Knows no library: server.c gives
 * the answer to it (link_resume, or its own call that returns).
 *
 *  1. `claim` has one winner: the handler until http_park, then http_claim or the deadline, whichever swaps first.
 *  2. `gate` decides who sends. The answerer sets GATE_ANSWERED; if the event thread had suspended the connection by
 *     then, the answerer resumes it, else the event thread finds the answer itself.
 *  3. Each list that a deadline is in holds a reference; who takes it out (the sweep, or the one that was faster) drops
 *     it. So nobody looks at memory that is gone. */
#include <stddef.h>

#include "base/clock.h"
#include "http/internal.h"

#define QUERY_WAIT_NS (10 * NS_PER_SEC)  /* in the queue of the query pool; then 503 */
#define HEAVY_BODY ((size_t)1 << 20)     /* bytes, inflated, from which a body is decoded off the event thread */
#define HEAVY_PACKED ((size_t)128 << 10) /* the same for a compressed body: it is not even tried there */

enum { WAIT_PARKED, WAIT_QUEUED }; /* sweep_park.kind */

/* ---- answers ---- */

/* The reply is finished. `req` belongs to the event thread afterwards, and the server may be gone. */
static void answered(struct http_req *req) {
    struct http_core *core = req->core;
    void *link = req->link;
    if (atomic_exchange_explicit(&req->gate, GATE_ANSWERED, memory_order_acq_rel) == GATE_SUSPENDED) {
        link_resume(core, link);
    }
}

static void answer_error(struct http_req *req, enum xt_code code, const char *text) {
    struct xt_err err = { 0 };
    xt_fail(&err, code, "%s", text);
    http_reply_error(req, &err);
    http_answer(req);
}

void http_answer(struct http_req *req) {
    reply_finish(req);
    answered(req);
}

/* ---- parking ---- */

void http_park(struct http_req *req, int64_t deadline_mono_ns, void (*on_deadline)(struct http_req *req, void *arg),
               void *arg) {
    req->on_deadline = on_deadline;
    req->deadline_arg = arg;
    req->park = (struct sweep_park){ .at = deadline_mono_ns, .kind = WAIT_PARKED };
    count_add(&req->core->counters.parked_now, 1);
    http_ref(req); /* the list's */
    /* Before it is in the list: the deadline may be over already, and is looked at only once. */
    atomic_store_explicit(&req->claim, CLAIM_PARKED, memory_order_release);
    sweep_park(req->core->sweep, &req->park);
}

static bool take(struct http_req *req) {
    int parked = CLAIM_PARKED;
    if (!atomic_compare_exchange_strong_explicit(&req->claim, &parked, CLAIM_TAKEN, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        return false;
    }
    count_sub(&req->core->counters.parked_now, 1);
    return true;
}

bool http_claim(struct http_req *req) {
    if (!take(req)) {
        return false;
    }
    if (sweep_unpark(req->core->sweep, &req->park)) {
        http_unref(req);
    }
    return true;
}

void park_expired(void *arg, struct sweep_park *p) {
    struct http_core *core = arg;
    struct http_req *req;
    if (p->kind == WAIT_QUEUED) {
        req = (struct http_req *)((char *)p - offsetof(struct http_req, wait));
        if (pool_cancel(core->queries, &req->job)) {
            count_add(&core->counters.query_refused, 1);
            answer_error(req, XT_EUNAVAILABLE, "too many queries at once: ask again");
        }
    } else {
        req = (struct http_req *)((char *)p - offsetof(struct http_req, park));
        if (take(req)) {
            count_add(&core->counters.deadline_answers, 1);
            req->on_deadline(req, req->deadline_arg);
            http_answer(req);
        }
    }
    http_unref(req);
}

/* ---- handlers ---- */

bool run_handler(struct http_req *req) {
    struct xt_err err = { 0 };
    if (req->route->body && body_finish(req, &err) != XT_OK) {
        http_reply_error(req, &err);
        return true;
    }
    enum http_result result = req->route->handle(req, &err);
    if (atomic_load_explicit(&req->claim, memory_order_acquire) == CLAIM_HANDLER) {
        if (result == HTTP_FAIL) {
            http_reply_error(req, &err);
        }
        return true;
    }
    if (result != HTTP_PARKED && http_claim(req)) { /* it parked, then changed its mind */
        if (result == HTTP_FAIL) {
            http_reply_error(req, &err);
        }
        http_answer(req);
    }
    return false;
}

void run_job(void *arg, struct pool_job *job) {
    struct http_core *core = arg;
    struct http_req *req = (struct http_req *)((char *)job - offsetof(struct http_req, job));
    http_ref(req); /* another thread may answer it while the handler still returns */
    if (req->route->query_pool && sweep_unpark(core->sweep, &req->wait)) {
        http_unref(req);
    }
    if (run_handler(req)) {
        http_answer(req);
    }
    http_unref(req);
}

/* Too large for an event thread, on which many others wait. What a compressed body is shows when it is inflated: a few
 * KB may be 80 MB. */
static bool heavy_body(struct http_req *req) {
    if (req->coding == CODING_IDENTITY) {
        return req->body.n >= HEAVY_BODY;
    }
    return req->body.n >= HEAVY_PACKED || !body_inflate_below(req, HEAVY_BODY);
}

struct pool *pool_for(struct http_req *req) {
    if (req->route->query_pool) {
        return req->core->queries;
    }
    return req->route->body && heavy_body(req) ? req->core->heavy : NULL;
}

bool submit_job(struct http_req *req, struct pool *pool) {
    struct http_core *core = req->core;
    bool query = req->route->query_pool;
    if (query) {
        req->wait = (struct sweep_park){ .at = time_add(clock_mono_ns(), QUERY_WAIT_NS), .kind = WAIT_QUEUED };
        http_ref(req); /* the list's */
        sweep_park(core->sweep, &req->wait);
    }
    if (pool_submit(pool, &req->job)) {
        return true;
    }
    if (query && sweep_unpark(core->sweep, &req->wait)) {
        http_unref(req);
    }
    count_add(&core->counters.query_refused, 1);
    return false;
}

void answer_leftovers(struct http_core *core) {
    struct sweep_park *p;
    struct pool_job *job;
    while ((p = sweep_pop(core->sweep))) {
        park_expired(core, p);
    }
    while ((job = pool_take(core->heavy))) {
        answer_error((struct http_req *)((char *)job - offsetof(struct http_req, job)), XT_EUNAVAILABLE,
                     "the server is stopping");
    }
}
