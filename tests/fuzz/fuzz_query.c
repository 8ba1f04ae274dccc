/* fuzz_query.c -- any bytes as a request target: split, routed, decoded. Nothing decoded is longer than it came; the
 * pieces lie inside the target; parameters are counted as their separators say; and the encoded form of what was decoded
 * decodes to the same again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "http/internal.h"

#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __LINE__))
static void check_failed(const char *cond, int line) {
    fprintf(stderr, "line %d: not so: %s\n", line, cond);
    abort();
}

static const struct http_route rows[] = {
    { .method = "GET", .path = "/" },
    { .method = "GET", .path = "/api/public/traces", .rate_limited = true },
    { .method = "GET", .path = "/api/public/traces/:id" },
    { .method = "GET", .path = "/api/public/traces/search" },
    { .method = "DELETE", .path = "/a/:b/c/:d" },
    { .method = "GET", .path = "/a/:b/c" },
    { .method = "GET", .path = "/:a/:b/:c/:d" },
};

static bool inside(struct str part, struct str whole) {
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

/* Decoding after encoding every byte gives the bytes back. */
static void check_round_trip(struct str s) {
    static const char hex[] = "0123456789abcdef";
    char *encoded = malloc(3 * s.n + 1), *decoded = malloc(3 * s.n + 1);
    CHECK(encoded && decoded);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        encoded[3 * i] = '%';
        encoded[3 * i + 1] = hex[c >> 4];
        encoded[3 * i + 2] = hex[c & 15];
    }
    size_t n = percent_decode((struct str){ encoded, 3 * s.n }, true, decoded);
    CHECK(n == s.n && memcmp(decoded, s.p, n) == 0);
    free(encoded);
    free(decoded);
}

static void check_route(const struct route_table *t, struct http_req *req) {
    const struct route_path *p = route_find(t, req->path, req->captures, &req->ncaptures);
    if (!p) {
        req->ncaptures = 0;
        return;
    }
    CHECK(req->ncaptures <= ROUTE_CAPTURES_MAX);
    for (size_t i = 0; i < req->ncaptures; i++) {
        CHECK(req->captures[i].n > 0 && inside(req->captures[i], req->path));
        CHECK(str_find(req->captures[i], '/') == req->captures[i].n);
    }
    CHECK(route_method(p, str_c(p->rows[0]->method)) == p->rows[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct http_core core = { 0 };
    struct http_req *req = req_new(&core);
    char *raw = malloc(size + 1);
    CHECK(req && raw);
    memcpy(raw, data, size);
    raw[size] = '\0';
    CHECK(route_table_init(&core.routes, rows, sizeof(rows) / sizeof(rows[0]), NULL) == XT_OK);
    CHECK(req_set_target(req, raw));
    CHECK(inside(req->path, req->target) && inside(req->query, req->target));
    check_route(&core.routes, req);
    struct str captures[ROUTE_CAPTURES_MAX];
    memcpy(captures, req->captures, sizeof(captures));
    if (req_decode(req)) {
        size_t total = 0, pieces = 1;
        for (size_t i = 0; i < req->ncaptures; i++) {
            CHECK(http_path_param(req, i).n <= captures[i].n);
            check_round_trip(http_path_param(req, i));
        }
        for (size_t i = 0; i < req->query.n; i++) {
            pieces += req->query.p[i] == '&';
        }
        CHECK(http_query_count(req) <= pieces);
        for (size_t i = 0; i < http_query_count(req); i++) {
            struct str key, value;
            http_query_at(req, i, &key, &value);
            CHECK(str_has(key) && str_has(value));
            total += key.n + value.n;
            check_round_trip(value);
        }
        CHECK(total <= req->query.n);
    } else {
        CHECK(req->arena.failed);
    }
    (void)request_id_ok(req->query);
    (void)reply_accepts(req->query);
    req_release(req);
    http_unref(req);
    route_table_done(&core.routes);
    free(raw);
    return 0;
}
