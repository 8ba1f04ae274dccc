/* body.c -- bodies under way and the budget they share.
 *
 *  1. req->held is what this request has of core->bodies; it is given back by body_drop, or by http_budget_release once
 *     a handler has taken the bytes.
 *  2. A declared length is reserved once more than BODY_STEP of it has come: who announces a large body and sends nothing
 *     takes no others' room. A chunked body is reserved as it grows, an inflated one before it is inflated.
 *  3. A body that is larger than the whole budget, or becomes so when inflated, is let in one at a time. */
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

#define BODY_STEP ((uint64_t)16 << 10)     /* bytes first reserved: half-sent bodies of 4,096 connections take 64 MiB */
#define INFLATE_FIRST ((uint64_t)64 << 10) /* bytes reserved at least for an inflated body */
#define INFLATE_GUESS 16                   /* usual ratio of compressed JSON and protobuf, generously */
#define INFLATE_GROW 8                     /* a wrong guess is made this much larger: all tries cost 8/7 of the last */

bool budget_take(struct budget *b, uint64_t n, uint64_t own) {
    uint64_t used = atomic_load_explicit(&b->used, memory_order_relaxed);
    do {
        bool fits = n <= b->limit && used <= b->limit - n;
        bool too_large = n > b->limit || own > b->limit - n; /* it would never fit */
        if (!fits && !(too_large && used - own <= b->limit)) {
            return false;
        }
    } while (
        !atomic_compare_exchange_weak_explicit(&b->used, &used, used + n, memory_order_relaxed, memory_order_relaxed));
    return true;
}

void budget_give(struct budget *b, uint64_t n) {
    if (n) {
        atomic_fetch_sub_explicit(&b->used, n, memory_order_relaxed);
    }
}

static enum xt_code fail_too_big(const struct http_req *req, struct xt_err *err) {
    return xt_fail(err, XT_ETOOBIG, "request body is larger than %llu bytes",
                   (unsigned long long)req->core->conf.max_body);
}

static enum xt_code reserve(struct http_req *req, uint64_t n, struct xt_err *err) {
    if (!budget_take(&req->core->bodies, n, req->held)) {
        count_add(&req->core->counters.body_refused, 1);
        return xt_fail(err, XT_EBUSY, "too many request bodies at once: send again");
    }
    req->held += n;
    return XT_OK;
}

void body_drop(struct http_req *req) {
    buf_done(&req->body);
    budget_give(&req->core->bodies, req->held);
    req->held = 0;
}

enum xt_code body_begin(struct http_req *req, const struct framing *f, struct xt_err *err) {
    uint64_t max = req->core->conf.max_body, first = f->length < BODY_STEP ? f->length : BODY_STEP;
    if (f->length > max) {
        return fail_too_big(req, err);
    }
    enum xt_code rc = reserve(req, first, err);
    if (rc != XT_OK) {
        return rc;
    }
    req->declared = f->length;
    buf_init(&req->body, (size_t)(f->chunked ? max : f->length) + HTTP_BODY_PADDING);
    if (!buf_reserve(&req->body, (size_t)first + HTTP_BODY_PADDING)) {
        body_drop(req);
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    return XT_OK;
}

/* The budget and the buffer hold what was declared; or as much again, as the buffer doubles. */
static enum xt_code hold_more(struct http_req *req, struct xt_err *err) {
    if (req->declared <= req->held) {
        return reserve(req, req->held ? req->held : BODY_STEP, err);
    }
    enum xt_code rc = reserve(req, req->declared - req->held, err);
    if (rc == XT_OK && !buf_reserve(&req->body, req->body.max - req->body.n)) {
        rc = xt_fail(err, XT_ENOMEM, "out of memory");
    }
    return rc;
}

enum xt_code body_add(struct http_req *req, const char *data, size_t n, struct xt_err *err) {
    uint64_t total = req->body.n + (uint64_t)n;
    enum xt_code rc = XT_OK;
    if (total > req->core->conf.max_body) {
        rc = fail_too_big(req, err);
    }
    while (rc == XT_OK && total > req->held) {
        rc = hold_more(req, err);
    }
    if (rc == XT_OK) {
        buf_add(&req->body, data, n);
        if (req->body.failed) {
            rc = xt_fail(err, XT_ENOMEM, "out of memory");
        }
    }
    if (rc != XT_OK) {
        body_drop(req);
    }
    return rc;
}

/* Zeroes after the end, not part of the body. False: no memory. */
static bool pad(struct buf *b) {
    if (!buf_reserve(b, HTTP_BODY_PADDING)) {
        return false;
    }
    memset(b->p + b->n, 0, HTTP_BODY_PADDING);
    return true;
}

/* The budget holds `n` from now on, which is not more than it held. */
static void shrink_held(struct http_req *req, uint64_t n) {
    budget_give(&req->core->bodies, req->held - n);
    req->held = n;
}

/* One try with room for `room` bytes. The body is the inflated one afterwards, or as it was. */
static enum xt_code inflate_into(struct http_req *req, uint64_t room, struct xt_err *err) {
    struct buf out;
    uint64_t held = req->held;
    enum xt_code rc = reserve(req, room, err);
    if (rc != XT_OK) {
        return rc;
    }
    buf_init(&out, (size_t)room);
    rc = inflate_body(req->coding, buf_str(&req->body), &out, err);
    if (rc != XT_OK) {
        buf_done(&out);
        shrink_held(req, held);
        return rc;
    }
    buf_done(&req->body);
    req->body = out;
    req->body.max += HTTP_BODY_PADDING;
    req->coding = CODING_IDENTITY;
    shrink_held(req, out.n);
    return XT_OK;
}

/* What a body of `packed` bytes usually needs, within the cap. */
static uint64_t guess_room(uint64_t packed, uint64_t cap) {
    uint64_t guess = packed < cap / INFLATE_GUESS ? packed * INFLATE_GUESS : cap;
    return guess > INFLATE_FIRST ? guess : INFLATE_FIRST < cap ? INFLATE_FIRST : cap;
}

/* The largest inflated body. */
static uint64_t inflate_cap(const struct http_req *req) {
    uint64_t cap;
    bool too_much = __builtin_mul_overflow(req->core->conf.max_body, req->core->conf.inflate_ratio, &cap);
    return too_much || cap > PTRDIFF_MAX / 2 ? PTRDIFF_MAX / 2 : cap;
}

/* Inflates with room for a guess first, so that a small body does not reserve the whole cap. */
static enum xt_code inflate(struct http_req *req, struct xt_err *err) {
    uint64_t cap = inflate_cap(req);
    for (uint64_t room = guess_room(req->body.n, cap);; room = room < cap / INFLATE_GROW ? room * INFLATE_GROW : cap) {
        enum xt_code rc = inflate_into(req, room, err);
        if (rc != XT_ETOOBIG || room == cap) {
            return rc;
        }
    }
}

bool body_inflate_below(struct http_req *req, size_t limit) {
    struct xt_err err = { 0 }; /* body_finish meets it again */
    uint64_t cap = inflate_cap(req), most = limit - 1 < cap ? limit - 1 : cap, guess = guess_room(req->body.n, most);
    enum xt_code rc = inflate_into(req, guess, &err);
    if (rc == XT_ETOOBIG && guess < most) {
        rc = inflate_into(req, most, &err);
    }
    return rc != XT_ETOOBIG;
}

enum xt_code body_finish(struct http_req *req, struct xt_err *err) {
    enum xt_code rc = XT_OK;
    if (req->coding != CODING_IDENTITY) {
        rc = inflate(req, err);
    } else if (req->body.max == 0) {
        buf_init(&req->body, HTTP_BODY_PADDING); /* no body was sent */
    }
    if (rc == XT_OK && !pad(&req->body)) {
        rc = xt_fail(err, XT_ENOMEM, "out of memory");
    }
    if (rc != XT_OK) {
        body_drop(req);
    } else {
        shrink_held(req, req->body.n);
    }
    return rc;
}

struct str http_body(const struct http_req *req) {
    return buf_str(&req->body);
}

char *http_body_take(struct http_req *req, size_t *ret_bytes) {
    char *p = buf_take(&req->body, ret_bytes);
    req->held = 0; /* exactly *ret_bytes, now the taker's to release */
    return p;
}
