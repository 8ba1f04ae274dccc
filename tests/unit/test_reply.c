/* test_reply.c -- error shapes of the three styles, compression and its negotiation, CORS, the reply budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/inflate.h"
#include "http/internal.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void drop(struct http_req *req) {
    req_release(req);
    http_unref(req);
}

static struct str header_of(const struct http_req *req, const char *name) {
    for (const struct reply_header *h = req->reply_headers; h; h = h->next) {
        if (strcmp(h->name, name) == 0) {
            return h->value;
        }
    }
    return STR_NONE;
}

static const struct http_route json_row = { .style = ERR_JSON }, compat_row = { .style = ERR_JSON_OTLP },
                               otlp_row = { .style = ERR_OTLP };

static const struct {
    const struct http_route *row;
    const char *content_type;
    enum xt_code code;
    const char *msg;
    unsigned status;
    bool retry;
    struct str body;
} errors[] = {
    { NULL, NULL, XT_ENOTFOUND, "", 404, false, { "{\"message\":\"Not Found\",\"code\":\"NOT_FOUND\"}", 42 } },
    { &json_row, NULL, XT_EAUTH, "", 401, false, { "{\"message\":\"Unauthorized\",\"code\":\"UNAUTHORIZED\"}", 48 } },
    { &json_row,
      NULL,
      XT_EINVAL,
      "a \"b\"",
      400,
      false,
      { "{\"message\":\"a \\\"b\\\"\",\"code\":\"BAD_REQUEST\"}", 42 } },
    { &json_row,
      NULL,
      XT_EBUSY,
      "",
      429,
      true,
      { "{\"message\":\"Too Many Requests\",\"code\":\"TOO_MANY_REQUESTS\"}", 58 } },
    { &json_row,
      NULL,
      XT_EUNAVAILABLE,
      "",
      503,
      true,
      { "{\"message\":\"Service Unavailable\",\"code\":\"SERVICE_UNAVAILABLE\"}", 62 } },
    { &json_row,
      "application/x-protobuf",
      XT_ENOMEM,
      "x",
      503,
      true,
      { "{\"message\":\"x\",\"code\":\"SERVICE_UNAVAILABLE\"}", 44 } },
    { &json_row,
      NULL,
      XT_ESTORE,
      "",
      500,
      false,
      { "{\"message\":\"Internal Error\",\"code\":\"INTERNAL_ERROR\"}", 52 } },
    { &json_row, NULL, XT_ETIMEOUT, "slow", 504, false, { "{\"message\":\"slow\",\"code\":\"QUERY_TIMEOUT\"}", 41 } },
    { &compat_row,
      NULL,
      XT_EBUSY,
      "full",
      503,
      true,
      { "{\"message\":\"full\",\"code\":\"SERVICE_UNAVAILABLE\"}", 47 } },
    { &compat_row,
      "application/x-protobuf",
      XT_EINVAL,
      "bad",
      400,
      false,
      { "{\"message\":\"bad\",\"code\":\"BAD_REQUEST\"}", 38 } },
    { &otlp_row, NULL, XT_EINVAL, "bad", 400, false, { "{\"code\":3,\"message\":\"bad\"}", 26 } },
    { &otlp_row, "application/json", XT_EBUSY, "b", 503, true, { "{\"code\":14,\"message\":\"b\"}", 25 } },
    { &otlp_row,
      "application/x-protobuf",
      XT_EBUSY,
      "busy",
      503,
      true,
      { "\x08\x0e\x12\x04"
        "busy",
        8 } },
    { &otlp_row,
      "application/x-protobuf",
      XT_EAUTH,
      "",
      401,
      false,
      { "\x08\x10\x12\x0c"
        "Unauthorized",
        16 } },
    { &otlp_row, "application/protobuf", XT_EMEDIA, "m", 415, false, { "\x08\x03\x12\x01m", 5 } },
};

static void test_errors(void **state) {
    (void)state;
    struct http_core core = { 0 };
    for (size_t i = 0; i < COUNT(errors); i++) {
        struct http_req *req = req_new(&core);
        struct xt_err err = { .code = errors[i].code };
        snprintf(err.msg, sizeof(err.msg), "%s", errors[i].msg);
        req->route = errors[i].row;
        req->content_type = str_c(errors[i].content_type);
        buf_add_c(http_reply_buf(req), "half an answer");
        http_reply_header(req, "ETag", STR_LIT("of that answer"));
        http_reply_error(req, &err);
        reply_finish(req);
        assert_int_equal(req->status, errors[i].status);
        if (!str_eq(buf_str(&req->reply), errors[i].body)) {
            fail_msg("error %zu: %.*s", i, STR_FMT(buf_str(&req->reply)));
        }
        assert_int_equal(str_has(header_of(req, "Retry-After")), errors[i].retry);
        assert_false(str_has(header_of(req, "ETag")));
        bool protobuf = errors[i].body.p[0] == 0x08;
        assert_true(protobuf ? strcmp(req->type, "application/x-protobuf") == 0 : req->type == NULL);
        drop(req);
    }
}

static void test_every_code_has_a_shape(void **state) {
    (void)state;
    struct http_core core = { 0 };
    for (int code = XT_EINVAL; code < XT_CODE_MAX; code++) {
        struct http_req *req = req_new(&core);
        struct xt_err err = { .code = (enum xt_code)code };
        req->route = &otlp_row;
        http_reply_error(req, &err);
        assert_true(req->status >= 400 && req->status < 600);
        assert_null(strstr(req->reply.p, "\"code\":0"));
        drop(req);
    }
}

static void test_accepts(void **state) {
    (void)state;
    static const struct {
        const char *accept;
        enum coding want;
    } cases[] = {
        { NULL, CODING_IDENTITY },
        { "", CODING_IDENTITY },
        { "gzip", CODING_GZIP },
        { "GZIP", CODING_GZIP },
        { "x-gzip", CODING_GZIP },
        { "zstd", CODING_ZSTD },
        { "gzip, deflate, br", CODING_GZIP },
        { "gzip, deflate, zstd", CODING_ZSTD },
        { "gzip;q=1.0, zstd;q=0.5", CODING_GZIP },
        { "gzip;q=0", CODING_IDENTITY },
        { "gzip; q=0.000", CODING_IDENTITY },
        { "gzip;q=0.001", CODING_GZIP },
        { "gzip ; Q = 1", CODING_GZIP },
        { "*", CODING_ZSTD },
        { "*;q=0, gzip", CODING_GZIP },
        { "*, zstd;q=0", CODING_GZIP },
        { "*;q=0", CODING_IDENTITY },
        { "identity", CODING_IDENTITY },
        { "br", CODING_IDENTITY },
        { ";;,,q=", CODING_IDENTITY },
        { "gzip;q=x", CODING_IDENTITY },
        { "gzip;q=", CODING_IDENTITY },
        { "gzip;q=2", CODING_IDENTITY },
        { "gzip;q=-1", CODING_IDENTITY },
        { "gzip;level=1", CODING_GZIP },
        { "gzip;q=0,gzip;q=1", CODING_GZIP },
        { "deflate", CODING_IDENTITY },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        enum coding got = reply_accepts(str_c(cases[i].accept));
        if (got != cases[i].want) {
            fail_msg("%s: %s", cases[i].accept, coding_name(got));
        }
    }
}

static struct http_req *answer(struct http_core *core, const struct http_header *headers, size_t nheaders, size_t n) {
    struct http_req *req = req_new(core);
    req->headers = headers;
    req->nheaders = nheaders;
    for (size_t i = 0; i < n; i++) {
        buf_add_char(http_reply_buf(req), (char)('a' + i % 7));
    }
    return req;
}

static void test_compression(void **state) {
    (void)state;
    struct http_core core = { 0 };
    core.replies.limit = 1 << 20;
    static const struct {
        const char *accept;
        size_t n;
        enum coding want;
    } cases[] = {
        { "gzip", COMPRESS_MIN - 1, CODING_IDENTITY },
        { "gzip", COMPRESS_MIN, CODING_GZIP },
        { "gzip", 500000, CODING_GZIP },
        { "zstd", 500000, CODING_ZSTD },
        { "br", 500000, CODING_IDENTITY },
        { "gzip", 0, CODING_IDENTITY },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_header accept = { STR_LIT("accept-encoding"), str_c(cases[i].accept) };
        struct http_req *req = answer(&core, &accept, 1, cases[i].n);
        reply_finish(req);
        struct str coding = header_of(req, "Content-Encoding");
        assert_int_equal(str_has(coding) ? coding_parse(coding) : CODING_IDENTITY, cases[i].want);
        assert_int_equal(str_has(header_of(req, "Vary")), cases[i].n >= COMPRESS_MIN);
        struct buf out;
        buf_init(&out, 1 << 20);
        assert_int_equal(inflate_body(cases[i].want, buf_str(&req->reply), &out, NULL), XT_OK);
        assert_int_equal(out.n, cases[i].n);
        for (size_t k = 0; k < out.n; k++) {
            assert_int_equal(out.p[k], 'a' + k % 7);
        }
        buf_done(&out);
        drop(req);
    }
    struct http_header accept = { STR_LIT("accept-encoding"), STR_LIT("gzip") };
    struct http_req *req = answer(&core, &accept, 1, 5000); /* stored compressed: stays as it is */
    http_reply_header(req, "Content-Encoding", STR_LIT("br"));
    reply_finish(req);
    assert_int_equal(req->reply.n, 5000);
    drop(req);
}

static void test_budget(void **state) {
    (void)state;
    struct http_core core = { 0 };
    core.replies.limit = 250000;
    struct http_req *a = answer(&core, NULL, 0, 200000), *b = answer(&core, NULL, 0, 100000),
                    *small = answer(&core, NULL, 0, 60000);
    reply_finish(a);
    assert_int_equal(a->status, 200);
    assert_int_equal(core.replies.used, 200000);
    reply_finish(small);
    assert_int_equal(small->status, 200);
    reply_finish(b);
    assert_int_equal(b->status, 503);
    assert_true(str_eq_c(header_of(b, "Retry-After"), "1"));
    assert_true(b->reply.n < 200);
    drop(a);
    drop(b);
    drop(small);
    assert_int_equal(core.replies.used, 0);
}

static void test_buffer_that_failed(void **state) {
    (void)state;
    struct http_core core = { 0 };
    struct http_req *req = req_new(&core);
    req->reply.max = 500;
    for (int i = 0; i < 1000; i++) {
        buf_add_c(http_reply_buf(req), "xxxx");
    }
    reply_finish(req);
    assert_int_equal(req->status, 503);
    assert_non_null(strstr(req->reply.p, "SERVICE_UNAVAILABLE"));
    drop(req);
}

static void test_json_and_empty(void **state) {
    (void)state;
    struct http_core core = { 0 };
    struct http_req *req = req_new(&core);
    http_reply_type(req, "text/plain");
    http_reply_json(req, 202, STR_LIT("{}"));
    assert_int_equal(req->status, 202);
    assert_null(req->type);
    assert_true(str_eq_c(buf_str(&req->reply), "{}"));
    http_reply_empty(req, 204);
    assert_int_equal(req->reply.n, 0);
    drop(req);
}

static void test_cors(void **state) {
    (void)state;
    static const struct {
        const char *list, *origin, *allow, *vary;
    } cases[] = {
        { "", "https://a", NULL, NULL },
        { "https://a", NULL, NULL, "Origin" },
        { "https://a", "https://a", "https://a", "Origin" },
        { "https://a", "https://A", NULL, "Origin" },
        { "https://a", "https://a.evil", NULL, "Origin" },
        { "https://a", "https://", NULL, "Origin" },
        { "https://a", "", NULL, "Origin" },
        { "https://b , https://a,", "https://a", "https://a", "Origin" },
        { "https://b , https://a,", "", NULL, "Origin" },
        { "*", "https://a", "*", NULL },
        { "*", NULL, NULL, NULL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_core core = { .cors_list = str_c(cases[i].list), .cors_any = strcmp(cases[i].list, "*") == 0 };
        struct http_header origin = { STR_LIT("Origin"), str_c(cases[i].origin) };
        struct http_req *req = answer(&core, &origin, cases[i].origin != NULL, 10);
        reply_finish(req);
        assert_true(str_eq(header_of(req, "Access-Control-Allow-Origin"), str_c(cases[i].allow)));
        assert_true(str_eq(header_of(req, "Vary"), str_c(cases[i].vary)));
        assert_int_equal(str_has(header_of(req, "Access-Control-Expose-Headers")), cases[i].allow != NULL);
        drop(req);
    }
}

static void test_no_memory(void **state) {
    (void)state;
    struct http_core core = { .cors_list = STR_LIT("*"), .cors_any = true };
    struct http_header headers[] = { { STR_LIT("Origin"), STR_LIT("https://a") },
                                     { STR_LIT("Accept-Encoding"), STR_LIT("gzip") } };
    core.replies.limit = 1 << 20;
    for (uint64_t n = 1; n < 40; n++) {
        struct http_req *req = answer(&core, headers, 2, 5000);
        struct xt_err err = { .code = XT_EINVAL, .msg = "x" };
        alloc_fail_at(n);
        if (n % 2) {
            http_reply_error(req, &err);
        }
        reply_finish(req);
        alloc_fail_at(0);
        assert_true(req->status == 200 || req->status == 400 || req->status == 503);
        drop(req);
    }
    assert_int_equal(core.replies.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),         cmocka_unit_test(test_every_code_has_a_shape),
        cmocka_unit_test(test_accepts),        cmocka_unit_test(test_compression),
        cmocka_unit_test(test_budget),         cmocka_unit_test(test_buffer_that_failed),
        cmocka_unit_test(test_json_and_empty), cmocka_unit_test(test_cors),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
