/* request.c -- a request from its parts: target, captures, query, headers, id. Knows no library and no socket. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "http/internal.h"

struct http_req *req_new(struct http_core *core) {
    struct http_req *req = alloc_should_fail() ? NULL : calloc(1, sizeof(*req));
    if (!req) {
        return NULL;
    }
    req->core = core;
    req->status = 200;
    req->reply_tail = &req->reply_headers;
    req->path = req->query = req->target = STR_LIT("");
    atomic_init(&req->refs, 1);
    atomic_init(&req->claim, CLAIM_HANDLER);
    atomic_init(&req->gate, GATE_OPEN);
    arena_init(&req->arena, ARENA_MAX);
    buf_init(&req->reply, REPLY_MAX);
    return req;
}

void req_release(struct http_req *req) {
    body_drop(req);
    buf_done(&req->reply);
    budget_give(&req->core->replies, req->reply_held);
    req->reply_held = 0;
    req->headers = NULL;
    req->nheaders = 0;
}

/* Relaxed: a new reference is made from one that is held. */
void http_ref(struct http_req *req) { atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed); }

/* Release what was done under this reference; the last one acquires it all before it frees. */
void http_unref(struct http_req *req) {
    if (atomic_fetch_sub_explicit(&req->refs, 1, memory_order_acq_rel) == 1) {
        arena_done(&req->arena);
        free(req);
    }
}

/* ---- target ---- */

void target_split(struct str target, struct str *ret_path, struct str *ret_query) {
    static const char *const schemes[] = { "http://", "https://" };
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t n = strlen(schemes[i]);
        if (str_eq_nocase(str_sub(target, 0, n), str_c(schemes[i]))) { /* absolute form, as sent to proxies */
            size_t end = n;
            while (end < target.n && target.p[end] != '/' && target.p[end] != '?') {
                end++;
            }
            target = str_sub(target, end, target.n);
            break;
        }
    }
    size_t q = str_find(target, '?');
    *ret_path = str_sub(target, 0, q);
    *ret_query = q < target.n ? str_sub(target, q + 1, target.n) : STR_LIT("");
}

bool req_set_target(struct http_req *req, const char *raw) {
    req->target = arena_str(&req->arena, str_c(raw ? raw : ""));
    if (!str_has(req->target)) {
        req->target = STR_LIT("");
        return false;
    }
    target_split(req->target, &req->path, &req->query);
    return true;
}

/* The decoded text in the arena, or absent: no memory. */
static struct str decode(struct arena *a, struct str s, bool plus_is_space) {
    char *out = arena_bytes(a, s.n + 1);
    if (!out) {
        return STR_NONE;
    }
    size_t n = percent_decode(s, plus_is_space, out);
    out[n] = '\0';
    return (struct str){ out, n };
}

static size_t count_params(struct str query) {
    struct str rest = query, part;
    size_t n = 0;
    while (str_split(&rest, '&', &part)) {
        n += part.n > 0;
    }
    return n;
}

static bool decode_query(struct http_req *req) {
    size_t n = count_params(req->query);
    struct str rest = req->query, part;
    req->params = arena_new(&req->arena, struct http_param, n);
    if (!req->params) {
        return false;
    }
    while (str_split(&rest, '&', &part)) {
        if (part.n == 0) {
            continue;
        }
        size_t eq = str_find(part, '=');
        struct http_param *p = &req->params[req->nparams];
        p->key = decode(&req->arena, str_sub(part, 0, eq), true);
        p->value = eq < part.n ? decode(&req->arena, str_sub(part, eq + 1, part.n), true) : STR_LIT("");
        if (!str_has(p->key) || !str_has(p->value)) {
            return false;
        }
        req->nparams++;
    }
    return true;
}

bool req_decode(struct http_req *req) {
    for (size_t i = 0; i < req->ncaptures; i++) {
        req->captures[i] = decode(&req->arena, req->captures[i], false);
        if (!str_has(req->captures[i])) {
            return false;
        }
    }
    return req->query.n == 0 || decode_query(req);
}

/* ---- id ---- */

bool request_id_ok(struct str id) {
    if (id.n == 0 || id.n > REQUEST_ID_MAX) {
        return false;
    }
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
        if (!ok) {
            return false;
        }
    }
    return true;
}

void req_set_id(struct http_req *req) {
    struct str sent = http_header(req, "X-Request-Id");
    if (str_has(sent) && request_id_ok(sent)) {
        req->id = arena_str(&req->arena, sent);
    } else {
        /* An odd multiplier is a bijection: ids differ as the counter does, without looking like one. */
        uint64_t n = atomic_fetch_add_explicit(&req->core->id_next, 1, memory_order_relaxed);
        uint64_t low = n * UINT64_C(0x9e3779b97f4a7c15) ^ (req->core->id_base << 32 | req->core->id_base >> 32);
        req->id = arena_printf(&req->arena, "%016llx%016llx", (unsigned long long)req->core->id_base,
                               (unsigned long long)low);
    }
    if (!str_has(req->id)) {
        req->id = STR_LIT("-");
    }
}

/* ---- what handlers read ---- */

struct arena *http_arena(struct http_req *req) {
    return &req->arena;
}
const struct http_auth *http_auth_of(const struct http_req *req) { return &req->auth; }
void *http_app(const struct http_req *req) { return req->core->conf.app; }
struct str http_request_id(const struct http_req *req) {
    return req->id;
}
size_t http_query_count(const struct http_req *req) { return req->nparams; }

struct str http_path_param(const struct http_req *req, size_t i) {
    return i < req->ncaptures ? req->captures[i] : STR_NONE;
}

void http_query_at(const struct http_req *req, size_t i, struct str *ret_key, struct str *ret_value) {
    bool has = i < req->nparams;
    *ret_key = has ? req->params[i].key : STR_NONE;
    *ret_value = has ? req->params[i].value : STR_NONE;
}

struct str http_header(const struct http_req *req, const char *name) {
    struct str wanted = str_c(name);
    for (size_t i = 0; i < req->nheaders; i++) {
        if (str_eq_nocase(req->headers[i].name, wanted)) {
            return req->headers[i].value;
        }
    }
    return STR_NONE;
}

struct str http_content_type(const struct http_req *req) {
    return req->content_type;
}
