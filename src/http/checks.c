/* checks.c -- the order of checks: path 404, preflight, credentials 401, rights 403, rate limit 429, method 405,
 * the route's own look at the head, encoding 415, declared size 413. Each step either passes or fills the reply. */
#include <stdio.h>
#include <string.h>

#include "http/internal.h"

#define PREFLIGHT_MAX_AGE "600" /* seconds */

static bool refuse(struct http_req *req, enum xt_code code, const char *text) {
    struct xt_err err = { 0 };
    xt_fail(&err, code, "%s", text ? text : xt_code_default(code));
    http_reply_error(req, &err);
    return false;
}

/* ---- CORS ---- */

static bool origin_allowed(const struct http_core *core, struct str origin) {
    struct str rest = core->cors_list, part;
    if (core->cors_any) {
        return origin.n > 0;
    }
    while (origin.n > 0 && str_split(&rest, ',', &part)) {
        if (str_eq(str_trim(part), origin)) {
            return true;
        }
    }
    return false;
}

void checks_cors(struct http_req *req) {
    const struct http_core *core = req->core;
    if (core->cors_list.n == 0) {
        return;
    }
    struct str origin = http_header(req, "Origin");
    if (!core->cors_any) {
        http_reply_header(req, "Vary", STR_LIT("Origin")); /* whoever asks: caches must not mix them */
    }
    if (!str_has(origin) || !origin_allowed(core, origin)) {
        return;
    }
    http_reply_header(req, "Access-Control-Allow-Origin", core->cors_any ? STR_LIT("*") : origin);
    http_reply_header(req, "Access-Control-Expose-Headers", STR_LIT("X-Request-Id, Retry-After"));
}

/* An OPTIONS request of an allowed origin needs no credentials: browsers send none. */
static bool preflight(struct http_req *req, const struct route_path *p) {
    struct str origin = http_header(req, "Origin");
    if (!str_eq_c(req->method, "OPTIONS") || req->core->cors_list.n == 0 || !str_has(origin) ||
        !origin_allowed(req->core, origin)) {
        return false;
    }
    struct str wanted = http_header(req, "Access-Control-Request-Headers");
    http_reply_empty(req, 204);
    http_reply_header(req, "Access-Control-Allow-Methods", str_c(p->allow));
    if (str_has(wanted) && wanted.n > 0) {
        http_reply_header(req, "Access-Control-Allow-Headers", wanted);
    } else {
        http_reply_header(req, "Access-Control-Allow-Headers", STR_LIT("Authorization, Content-Type"));
    }
    http_reply_header(req, "Access-Control-Max-Age", STR_LIT(PREFLIGHT_MAX_AGE));
    return true;
}

/* ---- framing ---- */

static bool token_char(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool name_ok(struct str name) {
    for (size_t i = 0; i < name.n; i++) {
        if (!token_char((unsigned char)name.p[i])) {
            return false;
        }
    }
    return name.n > 0;
}

bool checks_framing(const struct http_req *req, struct framing *ret) {
    struct str length = STR_NONE, encoding = STR_NONE;
    *ret = (struct framing){ 0 };
    for (size_t i = 0; i < req->nheaders; i++) {
        struct str name = req->headers[i].name, value = str_trim(req->headers[i].value);
        struct str *once = str_eq_nocase(name, STR_LIT("Content-Length"))      ? &length
                           : str_eq_nocase(name, STR_LIT("Transfer-Encoding")) ? &encoding
                                                                               : NULL;
        if (!name_ok(name) || (once && str_has(*once))) {
            return false;
        }
        if (once) {
            *once = value;
        } else if (str_eq_nocase(name, STR_LIT("Expect"))) {
            ret->expect = ret->expect || str_eq_nocase(value, STR_LIT("100-continue"));
        }
    }
    if (str_has(encoding)) {
        ret->chunked = true;
        return !str_has(length) && str_eq_nocase(encoding, STR_LIT("chunked"));
    }
    return !str_has(length) || str_to_u64(length, &ret->length);
}

/* ---- the order of checks ---- */

static bool not_found(struct http_req *req) {
    if (route_json_area(req->path)) {
        return refuse(req, XT_ENOTFOUND, NULL);
    }
    http_reply_empty(req, 404);
    return false;
}

static bool wrong_method(struct http_req *req, const struct route_path *p) {
    if (route_json_area(req->path)) {
        refuse(req, XT_EMETHOD, NULL);
    } else {
        http_reply_empty(req, 405);
    }
    http_reply_header(req, "Allow", str_c(p->allow));
    return false;
}

/* Credentials, rights and rate limit. `row` decides; for a method that the path does not have it is the path's first. */
static bool admit(struct http_req *req, const struct route_path *p, const struct http_route *row) {
    const struct http_hooks *hooks = &req->core->conf.hooks;
    void *app = req->core->conf.app;
    if (!route_protected(row)) {
        return true;
    }
    struct xt_err err = { 0 };
    if (!hooks->authorise || hooks->authorise(app, req, row, &req->auth, &err) != XT_OK) {
        if (err.code == XT_OK) {
            xt_fail(&err, XT_EAUTH, "%s", xt_code_default(XT_EAUTH));
        }
        http_reply_error(req, &err);
        return false;
    }
    if (req->route && (req->auth.rights & row->rights) != row->rights) {
        return refuse(req, XT_EFORBIDDEN, NULL);
    }
    unsigned wait_s = 1;
    if (p->rate_limited && hooks->admit && !hooks->admit(app, &req->auth, &wait_s)) {
        if (hooks->rate_refused) {
            hooks->rate_refused(app, req, wait_s);
        } else {
            refuse(req, XT_ERATE, NULL);
        }
        return false;
    }
    return true;
}

/* "application/json; charset=utf-8" -> "application/json". False: no memory. */
static bool set_content_type(struct http_req *req) {
    struct str h = http_header(req, "Content-Type");
    if (!str_has(h)) {
        return true;
    }
    struct str t = str_trim(str_sub(h, 0, str_find(h, ';')));
    char *out = arena_bytes(&req->arena, t.n + 1);
    if (!out) {
        return false;
    }
    for (size_t i = 0; i < t.n; i++) {
        out[i] = t.p[i] >= 'A' && t.p[i] <= 'Z' ? (char)(t.p[i] | 0x20) : t.p[i];
    }
    req->content_type = (struct str){ out, t.n };
    return true;
}

static bool check_route(struct http_req *req) {
    struct xt_err err = { 0 };
    if (!req_decode(req)) {
        return refuse(req, XT_ENOMEM, NULL);
    }
    if (req->route->check_head && req->route->check_head(req, &err) != XT_OK) {
        http_reply_error(req, &err);
        return false;
    }
    if (!req->route->body) {
        return true;
    }
    struct str coding = http_header(req, "Content-Encoding");
    req->coding = coding_parse(str_has(coding) ? coding : STR_LIT(""));
    if (req->coding == CODING_UNKNOWN) {
        xt_fail(&err, XT_EMEDIA, "unsupported content-encoding: %.*s", STR_FMT(str_sub(coding, 0, 60)));
        http_reply_error(req, &err);
        return false;
    }
    return true;
}

bool checks_head(struct http_req *req) {
    req_set_id(req);
    if (!set_content_type(req)) {
        return refuse(req, XT_ENOMEM, NULL);
    }
    const struct route_path *p = route_find(&req->core->routes, req->path, req->captures, &req->ncaptures);
    if (!p) {
        req->ncaptures = 0;
        return not_found(req);
    }
    if (preflight(req, p)) {
        return false;
    }
    req->route = route_method(p, req->method);
    if (!admit(req, p, req->route ? req->route : p->rows[0])) {
        return false;
    }
    return req->route ? check_route(req) : wrong_method(req, p);
}
