/* test_request.c -- target, query, captures, headers, request id, framing; all with memory running out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "http/internal.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define S(text) \
    { text, sizeof(text) - 1 } /* with NUL bytes inside */

static void test_split(void **state) {
    (void)state;
    static const struct {
        const char *target, *path, *query;
    } cases[] = {
        { "/a", "/a", "" },
        { "/a?", "/a", "" },
        { "/a?b=c", "/a", "b=c" },
        { "/a?b?c", "/a", "b?c" },
        { "", "", "" },
        { "*", "*", "" },
        { "?x", "", "x" },
        { "http://h/a?b", "/a", "b" },
        { "HTTPS://h:1/a", "/a", "" },
        { "http://h", "", "" },
        { "http://h?q", "", "q" },
        { "http://", "", "" },
        { "/http://h/a", "/http://h/a", "" },
        { "http:/a", "http:/a", "" },
        { "/%3Fa?%3F", "/%3Fa", "%3F" },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str path, query;
        target_split(str_c(cases[i].target), &path, &query);
        if (!str_eq_c(path, cases[i].path) || !str_eq_c(query, cases[i].query)) {
            fail_msg("%s: path %.*s query %.*s", cases[i].target, STR_FMT(path), STR_FMT(query));
        }
    }
}

struct pair {
    struct str key, value;
};

static const struct {
    const char *query;
    size_t n;
    struct pair want[4];
} queries[] = {
    { "", 0, { { S(""), S("") } } },
    { "&&&", 0, { { S(""), S("") } } },
    { "a=1", 1, { { S("a"), S("1") } } },
    { "a=1&a=2&b=", 3, { { S("a"), S("1") }, { S("a"), S("2") }, { S("b"), S("") } } },
    { "a", 1, { { S("a"), S("") } } },
    { "=", 1, { { S(""), S("") } } },
    { "=x&a&&b=c=d", 3, { { S(""), S("x") }, { S("a"), S("") }, { S("b"), S("c=d") } } },
    { "t=2026-01-01T00:00:00+00:00", 1, { { S("t"), S("2026-01-01T00:00:00 00:00") } } },
    { "t=%2B00%3a00", 1, { { S("t"), S("+00:00") } } },
    { "a+b=c+d", 1, { { S("a b"), S("c d") } } },
    { "%61=%00%ff", 1, { { S("a"), S("\0\xff") } } },
    { "a=%&b=%4&c=%zz&d=%%41",
      4,
      { { S("a"), S("%") }, { S("b"), S("%4") }, { S("c"), S("%zz") }, { S("d"), S("%A") } } },
    { "a;b=1", 1, { { S("a;b"), S("1") } } },
    { "a%26b=%3D", 1, { { S("a&b"), S("=") } } },
};

static struct http_req *make(struct http_core *core, const char *target) {
    struct http_req *req = req_new(core);
    assert_non_null(req);
    assert_true(req_set_target(req, target));
    return req;
}

static void drop(struct http_req *req) {
    req_release(req);
    http_unref(req);
}

static void test_query(void **state) {
    (void)state;
    struct http_core core = { 0 };
    for (size_t i = 0; i < COUNT(queries); i++) {
        char target[200];
        snprintf(target, sizeof(target), "/p?%s", queries[i].query);
        struct http_req *req = make(&core, target);
        assert_true(req_decode(req));
        assert_int_equal(http_query_count(req), queries[i].n);
        for (size_t k = 0; k < queries[i].n; k++) {
            struct str key, value;
            http_query_at(req, k, &key, &value);
            if (!str_eq(key, queries[i].want[k].key) || !str_eq(value, queries[i].want[k].value)) {
                fail_msg("%s: [%zu] is %.*s=%.*s", queries[i].query, k, STR_FMT(key), STR_FMT(value));
            }
        }
        struct str key, value;
        http_query_at(req, queries[i].n, &key, &value);
        assert_false(str_has(key) || str_has(value));
        drop(req);
    }
}

static void test_captures(void **state) {
    (void)state;
    static const struct {
        const char *raw;
        struct str want;
    } cases[] = { { "abc", S("abc") },       { "a%2Fb", S("a/b") }, { "a+b", S("a+b") },
                  { "%00%ff", S("\0\xff") }, { "%", S("%") },       { "%e4%bd%a0", S("\xe4\xbd\xa0") } };
    struct http_core core = { 0 };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_req *req = make(&core, "/x");
        req->captures[0] = str_c(cases[i].raw);
        req->ncaptures = 1;
        assert_true(req_decode(req));
        assert_true(str_eq(http_path_param(req, 0), cases[i].want));
        assert_false(str_has(http_path_param(req, 1)));
        drop(req);
    }
}

static void test_ids(void **state) {
    (void)state;
    char longest[REQUEST_ID_MAX + 2];
    memset(longest, 'a', sizeof(longest));
    assert_true(request_id_ok((struct str){ longest, REQUEST_ID_MAX }));
    assert_false(request_id_ok((struct str){ longest, REQUEST_ID_MAX + 1 }));
    assert_true(request_id_ok(STR_LIT("aZ09._-")));
    static const char *const bad[] = { "", " ", "a b", "a\n", "\xc3\xa4", "a/b", "\"", "<x>", "a:b" };
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(request_id_ok(str_c(bad[i])));
    }
    struct http_core core = { .id_base = UINT64_C(0x0123456789abcdef) };
    struct http_header header = { STR_LIT("x-request-id"), STR_LIT("mine-1") };
    struct http_req *req = make(&core, "/");
    req->headers = &header;
    req->nheaders = 1;
    req_set_id(req);
    assert_true(str_eq_c(http_request_id(req), "mine-1"));
    header.value = STR_LIT("not sane");
    struct str seen[100];
    for (size_t i = 0; i < COUNT(seen); i++) {
        req_set_id(req);
        seen[i] = http_request_id(req);
        assert_int_equal(seen[i].n, 32);
        assert_true(request_id_ok(seen[i]));
        for (size_t k = 0; k < i; k++) {
            assert_false(str_eq(seen[i], seen[k]));
        }
    }
    drop(req);
}

static void test_headers(void **state) {
    (void)state;
    static const struct http_header headers[] = { { S("Accept"), S("a") }, { S("ACCEPT"), S("b") }, { S("X"), S("") } };
    struct http_core core = { 0 };
    struct http_req *req = make(&core, "/");
    req->headers = headers;
    req->nheaders = COUNT(headers);
    assert_true(str_eq_c(http_header(req, "accept"), "a"));
    assert_true(str_eq_c(http_header(req, "x"), ""));
    assert_false(str_has(http_header(req, "Accep")));
    drop(req);
}

static const struct {
    struct http_header headers[3];
    bool ok, chunked, expect;
    uint64_t length;
} framings[] = {
    { { { S("Host"), S("x") } }, true, false, false, 0 },
    { { { S("Content-Length"), S("12") } }, true, false, false, 12 },
    { { { S("content-length"), S(" 0 ") } }, true, false, false, 0 },
    { { { S("Content-Length"), S("18446744073709551615") } }, true, false, false, UINT64_MAX },
    { { { S("Content-Length"), S("18446744073709551616") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("-1") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("+1") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("1e3") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("2, 2") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("2") }, { S("Content-Length"), S("2") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("2") }, { S("content-length"), S("3") } }, false, false, false, 0 },
    { { { S("Transfer-Encoding"), S("chunked") } }, true, true, false, 0 },
    { { { S("transfer-encoding"), S("CHUNKED") } }, true, true, false, 0 },
    { { { S("Transfer-Encoding"), S("gzip, chunked") } }, false, false, false, 0 },
    { { { S("Transfer-Encoding"), S("identity") } }, false, false, false, 0 },
    { { { S("Transfer-Encoding"), S("chunked") }, { S("Content-Length"), S("2") } }, false, false, false, 0 },
    { { { S("Transfer-Encoding"), S("chunked") }, { S("Transfer-Encoding"), S("chunked") } }, false, false, false, 0 },
    { { { S("Content-Length"), S("5") }, { S("Expect"), S("100-Continue") } }, true, false, true, 5 },
    { { { S("Expect"), S("something") } }, true, false, false, 0 },
    { { { S("Content-Length "), S("5") } }, false, false, false, 0 },
    { { { S("Bad\tname"), S("5") } }, false, false, false, 0 },
    { { { S("(x)"), S("5") } }, false, false, false, 0 },
    { { { S("\xc3\xa4"), S("5") } }, false, false, false, 0 },
};

static void test_framing(void **state) {
    (void)state;
    struct http_core core = { 0 };
    for (size_t i = 0; i < COUNT(framings); i++) {
        struct http_req *req = make(&core, "/");
        struct framing f;
        req->headers = framings[i].headers;
        while (req->nheaders < 3 && framings[i].headers[req->nheaders].name.p) {
            req->nheaders++;
        }
        bool ok = checks_framing(req, &f);
        if (ok != framings[i].ok) {
            fail_msg("framing %zu: %d", i, ok);
        }
        if (ok) {
            assert_int_equal(f.chunked, framings[i].chunked);
            assert_int_equal(f.expect, framings[i].expect);
            assert_true(f.length == framings[i].length);
        }
        drop(req);
    }
}

/* The n-th allocation fails, for every n until none is left to fail: no crash, and a clear "no". */
static void test_no_memory(void **state) {
    (void)state;
    struct http_core core = { 0 };
    static const char target[] = "/p?a=%31&b=2&c=3";
    for (uint64_t n = 1;; n++) {
        alloc_fail_at(n);
        struct http_req *req = req_new(&core);
        bool ok = req && req_set_target(req, target) && req_decode(req);
        alloc_fail_at(0);
        if (ok) {
            assert_int_equal(http_query_count(req), 3);
        }
        if (req) {
            drop(req);
        }
        if (ok) {
            assert_true(n > 1);
            break;
        }
        assert_true(n < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),     cmocka_unit_test(test_query),   cmocka_unit_test(test_captures),
        cmocka_unit_test(test_ids),       cmocka_unit_test(test_headers), cmocka_unit_test(test_framing),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
