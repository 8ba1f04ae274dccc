/* test_route.c -- path to row, 404 against 405, captures, what a table may not hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/route.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct http_route rows[] = {
    { .method = "GET", .path = "/healthz" },
    { .method = "GET", .path = "/api/traces", .rights = RIGHT_READ, .rate_limited = true },
    { .method = "POST", .path = "/api/traces", .rights = RIGHT_WRITE },
    { .method = "DELETE", .path = "/api/traces/:id", .rights = RIGHT_ADMIN },
    { .method = "GET", .path = "/api/traces/:id", .rights = RIGHT_READ },
    { .method = "GET", .path = "/api/traces/search" },
    { .method = "POST", .path = "/v1/l/batch", .rights = RIGHT_WRITE },
    { .method = "GET", .path = "/p/:a/x/:b" },
    { .method = "GET", .path = "/p/:a/x" },
    { .method = "GET", .path = "/p/q/x/:b" },
    { .method = "GET", .path = "/metrics", .internal = true },
    { .method = "GET", .path = "/open", .open_compat = true },
    { .method = "GET", .path = "/" },
};

static const struct {
    const char *path, *pattern; /* NULL: 404 */
    const char *captures[2];
} paths[] = {
    { "/healthz", "/healthz", { NULL } },
    { "/healthz/", NULL, { NULL } },
    { "//healthz", NULL, { NULL } },
    { "/health", NULL, { NULL } },
    { "/healthzz", NULL, { NULL } },
    { "/HEALTHZ", NULL, { NULL } },
    { "", NULL, { NULL } },
    { "*", NULL, { NULL } },
    { "/", "/", { NULL } },
    { "healthz", NULL, { NULL } },
    { "/api/traces", "/api/traces", { NULL } },
    { "/api/traces/", NULL, { NULL } },
    { "/api/traces/x", "/api/traces/:id", { "x" } },
    { "/api/traces/a%2Fb", "/api/traces/:id", { "a%2Fb" } },
    { "/api/traces/%00", "/api/traces/:id", { "%00" } },
    { "/api/traces/:id", "/api/traces/:id", { ":id" } },
    { "/api/traces/search", "/api/traces/search", { NULL } },
    { "/api/traces/searc", "/api/traces/:id", { "searc" } },
    { "/api/traces/searchx", "/api/traces/:id", { "searchx" } },
    { "/api/traces/search/", NULL, { NULL } },
    { "/api/traces/x/y", NULL, { NULL } },
    { "/api%2Ftraces", NULL, { NULL } },
    { "/api/%74races", NULL, { NULL } },
    { "/p/1/x/2", "/p/:a/x/:b", { "1", "2" } },
    { "/p/1/x/", NULL, { NULL } },
    { "/p/1/x", "/p/:a/x", { "1" } },
    { "/p//x", NULL, { NULL } },
    { "/p/q/x/2", "/p/q/x/:b", { "2" } },
    { "/p/qq/x/2", "/p/:a/x/:b", { "qq", "2" } },
    { "/p/q/x", "/p/:a/x", { "q" } },
};

static void test_find(void **state) {
    (void)state;
    struct route_table t;
    assert_int_equal(route_table_init(&t, rows, COUNT(rows), NULL), XT_OK);
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct str captures[ROUTE_CAPTURES_MAX];
        size_t n = 0;
        const struct route_path *p = route_find(&t, str_c(paths[i].path), captures, &n);
        if (!paths[i].pattern) {
            assert_null(p);
            continue;
        }
        if (!p) {
            fail_msg("%s: not found", paths[i].path);
        }
        assert_string_equal(p->pattern, paths[i].pattern);
        size_t wanted = !paths[i].captures[0] ? 0 : !paths[i].captures[1] ? 1 : 2;
        assert_int_equal(n, wanted);
        for (size_t k = 0; k < wanted; k++) {
            assert_true(str_eq_c(captures[k], paths[i].captures[k]));
        }
    }
    route_table_done(&t);
}

static const struct http_route *row_of(const struct route_table *t, const char *path, const char *method) {
    struct str captures[ROUTE_CAPTURES_MAX];
    size_t n;
    const struct route_path *p = route_find(t, str_c(path), captures, &n);
    assert_non_null(p);
    return route_method(p, str_c(method));
}

static void test_methods(void **state) {
    (void)state;
    static const struct {
        const char *path, *method;
        int row; /* -1: 405 */
    } cases[] = {
        { "/healthz", "GET", 0 },      { "/healthz", "HEAD", 0 },     { "/healthz", "POST", -1 },
        { "/healthz", "get", -1 },     { "/healthz", "", -1 },        { "/api/traces", "GET", 1 },
        { "/api/traces", "POST", 2 },  { "/api/traces", "HEAD", 1 },  { "/api/traces/1", "DELETE", 3 },
        { "/api/traces/1", "GET", 4 }, { "/v1/l/batch", "HEAD", -1 }, { "/v1/l/batch", "OPTIONS", -1 },
    };
    struct route_table t;
    assert_int_equal(route_table_init(&t, rows, COUNT(rows), NULL), XT_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_ptr_equal(row_of(&t, cases[i].path, cases[i].method), cases[i].row < 0 ? NULL : &rows[cases[i].row]);
    }
    route_table_done(&t);
}

static void test_allow(void **state) {
    (void)state;
    static const struct {
        const char *path, *allow;
        bool rate_limited;
    } cases[] = {
        { "/healthz", "GET,HEAD", false },
        { "/v1/l/batch", "POST", false },
        { "/api/traces", "GET,HEAD,POST", true },
        { "/api/traces/1", "DELETE,GET,HEAD", false },
    };
    struct route_table t;
    assert_int_equal(route_table_init(&t, rows, COUNT(rows), NULL), XT_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str captures[ROUTE_CAPTURES_MAX];
        size_t n;
        const struct route_path *p = route_find(&t, str_c(cases[i].path), captures, &n);
        assert_non_null(p);
        assert_string_equal(p->allow, cases[i].allow);
        assert_int_equal(p->rate_limited, cases[i].rate_limited);
    }
    route_table_done(&t);
}

static void test_bad_tables(void **state) {
    (void)state;
    static const struct {
        const char *method, *path;
    } bad[] = {
        { "GET", "" },
        { "GET", "x" },
        { "GET", "/a:b" },
        { "GET", "/:" },
        { "GET", "/a/:/b" },
        { "GET", "/healthz" },
        { "GET", "/:a/:b/:c/:d/:e" },
        { "POST", ":a" },
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct http_route two[] = { { .method = "GET", .path = "/healthz" },
                                    { .method = bad[i].method, .path = bad[i].path } };
        struct route_table t;
        struct xt_err err = { 0 };
        assert_int_equal(route_table_init(&t, two, 2, &err), XT_EINVAL);
        assert_true(err.msg[0] != '\0');
    }
    static const char *const methods[] = { "AAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBB", "CCCCCCCCCCCCCCCCCCCC",
                                           "DDDDDDDDDDDDDDDDDDDD" };
    struct http_route many[COUNT(methods)];
    for (size_t i = 0; i < COUNT(methods); i++) {
        many[i] = (struct http_route){ .method = methods[i], .path = "/x" };
    }
    struct route_table t;
    assert_int_equal(route_table_init(&t, many, COUNT(many), NULL), XT_EINVAL);
    assert_int_equal(route_table_init(&t, many, COUNT(many) - 1, NULL), XT_OK);
    route_table_done(&t);
}

static void test_areas(void **state) {
    (void)state;
    assert_true(route_json_area(STR_LIT("/api/x")));
    assert_true(route_json_area(STR_LIT("/v1/")));
    assert_false(route_json_area(STR_LIT("/api")));
    assert_false(route_json_area(STR_LIT("/apix/")));
    assert_false(route_json_area(STR_LIT("/v1%2Fl")));
    assert_false(route_protected(&rows[0]));
    assert_true(route_protected(&rows[1]));
    assert_true(route_protected(&rows[10]));
    assert_true(route_protected(&rows[11]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),       cmocka_unit_test(test_methods), cmocka_unit_test(test_allow),
        cmocka_unit_test(test_bad_tables), cmocka_unit_test(test_areas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
