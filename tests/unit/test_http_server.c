/* test_http_server.c -- one request at a time, mostly: order of checks, malformed and large heads, bodies of all kinds and
 * what they may cost, large answers. */
#include "http_fixture.h"

#include "base/inflate.h"
#include "base/log.h"

/* ---- one request ---- */

static const struct {
    const char *request;
    int status;
    const char *body;           /* NULL: any */
    const char *header, *value; /* "": must be absent */
} cases[] = {
    { "GET /alive" H "\r\n", 200, "", "Content-Type", "" },
    { "GET /alive" H "\r\n", 200, "", "Content-Length", "0" },
    { "HEAD /alive" H "\r\n", 200, "", NULL, NULL },
    { "GET /nope" H "\r\n", 404, "", "Content-Type", "" },
    { "GET /api/nope" H "\r\n", 404, "{\"message\":\"Not Found\",\"code\":\"NOT_FOUND\"}", "Content-Type",
      "application/json" },
    { "GET /alive/" H "\r\n", 404, "", NULL, NULL },
    { "POST /alive" H "Content-Length: 3\r\n\r\nabc", 405, "", "Allow", "GET,HEAD" },
    { "PUT /v1/take" H "\r\n", 405, "{\"message\":\"Method Not Allowed\",\"code\":\"METHOD_NOT_ALLOWED\"}", "Allow",
      "POST" },
    { "GET /api/show/x" H "\r\n", 401, "{\"message\":\"Unauthorized\",\"code\":\"UNAUTHORIZED\"}", NULL, NULL },
    { "PUT /api/show/x" H "\r\n", 401, NULL, "Allow", "" },
    { "PUT /api/show/x" H AUTH "\r\n", 405, NULL, "Allow", "GET,HEAD" },
    { "OPTIONS /api/show/x" H AUTH "\r\n", 405, NULL, "Allow", "GET,HEAD" },
    { "OPTIONS /api/show/x" H "\r\n", 401, NULL, NULL, NULL },
    { "OPTIONS /api/show/x" H "Origin: https://a.example\r\n\r\n", 204, "", "Access-Control-Allow-Methods",
      "GET,HEAD" },
    { "OPTIONS /api/show/x" H "Origin: https://a.example\r\nAccess-Control-Request-Headers: a, b\r\n\r\n", 204, "",
      "Access-Control-Allow-Headers", "a, b" },
    { "OPTIONS /api/show/x" H "Origin: https://evil.example\r\n\r\n", 401, NULL, "Access-Control-Allow-Origin", "" },
    { "OPTIONS /api/nope" H "Origin: https://a.example\r\n\r\n", 404, NULL, NULL, NULL },
    { "GET /api/show/x" H "Origin: https://a.example\r\n\r\n", 401, NULL, "Access-Control-Allow-Origin",
      "https://a.example" },
    { "GET /api/show/x" H AUTH "\r\n", 200, "x#7", "Vary", "Origin" },
    { "GET /api/show/a%2Fb%20+c?a=1+2&b&a=%26" H AUTH "\r\n", 200, "a/b +c|a=1 2|b=|a=&#7", NULL, NULL },
    { "GET http://any/api/show/x?y=z" H AUTH "\r\n", 200, "x|y=z#7", NULL, NULL },
    { "GET /api/pool/x?y=z" H AUTH "\r\n", 200, "x|y=z#7", "Content-Type", "application/json" },
    { "HEAD /api/pool/x" H AUTH "\r\n", 200, "", "Content-Length", "3" },
    { "GET /api/pool/x" H "\r\n", 401, NULL, NULL, NULL },
    { "DELETE /api/admin" H AUTH "\r\n", 403, "{\"message\":\"Forbidden\",\"code\":\"FORBIDDEN\"}", NULL, NULL },
    { "GET /api/admin" H AUTH "\r\n", 405, NULL, "Allow", "DELETE" },
    { "GET /alive" H "X-Request-Id: abc-1.2_3\r\n\r\n", 200, "", "X-Request-Id", "abc-1.2_3" },
    { "GET /api/nope" H "X-Request-Id: abc\r\n\r\n", 404, NULL, "X-Request-Id", "abc" },
    { "POST /v1/echo" H AUTH "Content-Length: 5\r\n\r\nhello", 200, "hello", "Content-Type", "text/plain" },
    { "POST /v1/echo" H AUTH "Content-Length: 0\r\n\r\n", 200, "", "Content-Type", "text/plain" },
    { "POST /v1/echo" H AUTH "\r\n", 200, "", NULL, NULL },
    { "POST /v1/echo" H AUTH "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", 200, "hello",
      NULL, NULL },
    { "POST /v1/echo" H AUTH "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: y\r\n\r\n", 200, "x", NULL,
      NULL },
    { "POST /v1/echo" H "Content-Length: 5\r\n\r\nhello", 401, NULL, NULL, NULL },
    { "POST /v1/echo" H AUTH "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", 415,
      "{\"message\":\"unsupported content-encoding: br\",\"code\":\"UNSUPPORTED_MEDIA_TYPE\"}", NULL, NULL },
    { "POST /v1/echo" H AUTH "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 400, NULL, NULL, NULL },
    { "POST /v1/echo" H AUTH "Content-Encoding: gzip\r\n\r\n", 400, NULL, NULL, NULL },
    { "POST /v1/echo" H AUTH "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", NULL, NULL },
    { "POST /v1/json" H AUTH "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415, NULL, NULL, NULL },
    { "POST /v1/json" H AUTH "Content-Type: Application/JSON ; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}", 200, "{}",
      NULL, NULL },
    { "POST /v1/fail" H "Content-Length: 2\r\n\r\n{}", 422,
      "{\"message\":\"field \\\"x\\\" is wrong\",\"code\":\"UNPROCESSABLE_ENTITY\"}", NULL, NULL },
    { "POST /v1/traces" H "Content-Type: application/json\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", 415,
      "{\"code\":3,\"message\":\"unsupported content-encoding: br\"}", NULL, NULL },
    { "POST /v1/traces" H "Content-Type: application/x-protobuf\r\nContent-Encoding: b\r\nContent-Length: 2\r\n\r\n{}",
      415, NULL, "Content-Type", "application/x-protobuf" },
    { "GET /alive" H "Content-Length: 3\r\n\r\nabc", 200, "", NULL, NULL },
    { "GET /v1/park/late" H "\r\n", 503, "{\"message\":\"late\",\"code\":\"SERVICE_UNAVAILABLE\"}", "Retry-After",
      "1" },
    { "GET /v1/park/fail" H "\r\n", 429, "{\"message\":\"the queue is full\",\"code\":\"TOO_MANY_REQUESTS\"}",
      "Retry-After", "1" },
    { "GET /v1/park/once" H "\r\n", 200, "{\"at\":\"once\"}", NULL, NULL },
    { "GET /v1/park/pool" H "\r\n", 503, "{\"message\":\"late\",\"code\":\"SERVICE_UNAVAILABLE\"}", NULL, NULL },
    { "GET /v1/park/pool/once" H "\r\n", 200, "{\"at\":\"once\"}", NULL, NULL },
    { "POST /v1/park/short" H "Content-Length: 2\r\n\r\n{}", 503,
      "{\"message\":\"late\",\"code\":\"SERVICE_UNAVAILABLE\"}", NULL, NULL },
    { "GET /alive" H "\r\n", 200, "", NULL, NULL },
};

static void check_case(struct fixture *f, size_t i) {
    char value[256];
    if (ask(f, cases[i].request) != cases[i].status) {
        fail_msg("%.60s: %d", cases[i].request, f->a.status);
    }
    if (cases[i].body && strcmp(f->a.body, cases[i].body) != 0) {
        fail_msg("%.60s: %s", cases[i].request, f->a.body);
    }
    if (cases[i].header) {
        const char *got = answer_header(&f->a, cases[i].header, value);
        if (strcmp(got ? got : "", cases[i].value) != 0) {
            fail_msg("%.60s: %s: %s", cases[i].request, cases[i].header, got ? got : "(none)");
        }
    }
    assert_non_null(answer_header(&f->a, "X-Request-Id", value));
    assert_non_null(answer_header(&f->a, "Date", value));
}

/* All on one connection: whatever was answered, it stays usable. */
static void test_cases(void **state) {
    struct fixture *f = *state;
    start(f);
    connect_to(f);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(cases); i++) {
            check_case(f, i);
        }
    }
    client_close(&f->c);
    wait_stats(f, all_quiet);
    struct http_stats s;
    http_server_stats(f->server, &s);
    assert_true(s.requests[2] > 10 && s.requests[4] > 10 && s.requests[5] > 3);
    assert_int_equal(s.connections_total, 1);
    assert_true(s.deadline_answers > 3);
}

static void test_rate_limit(void **state) {
    struct fixture *f = *state;
    start(f);
    connect_to(f);
    assert_int_equal(ask(f, "GET /api/limited" H AUTH "\r\n"), 200);
    assert_int_equal(ask(f, "PUT /api/limited" H AUTH "\r\n"), 405); /* counts as well */
    assert_int_equal(ask(f, "GET /api/limited" H AUTH "\r\n"), 429);
    assert_string_equal(f->a.body, "{\"slow\":\"down\"}");
    assert_int_equal(ask(f, "PUT /api/limited" H AUTH "\r\n"), 429);
    assert_int_equal(ask(f, "GET /api/limited" H "\r\n"), 401); /* does not */
    assert_int_equal(f->app.admitted, 4);
}

static void test_pipelined(void **state) {
    struct fixture *f = *state;
    static const int want[] = { 200, 404, 200, 503, 200, 200 };
    start(f);
    connect_to(f);
    assert_true(client_text(&f->c, "GET /alive" H "\r\n"
                                   "GET /nope" H "\r\n"
                                   "POST /v1/echo" H AUTH "Content-Length: 2\r\n\r\n{}"
                                   "POST /v1/park/short" H "Content-Length: 2\r\n\r\n{}"
                                   "GET /api/pool/x" H AUTH "\r\n"
                                   "GET /alive" H "\r\n"));
    for (size_t i = 0; i < COUNT(want); i++) {
        client_answer(&f->c, &f->a, false);
        assert_int_equal(f->a.status, want[i]);
    }
}

static void test_malformed(void **state) {
    struct fixture *f = *state;
    static const char *const bad[] = {
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/take" H "Content-Length: -1\r\n\r\n",
        "POST /v1/take" H "Content-Length: abc\r\n\r\n",
        "POST /v1/take" H "Content-Length: 99999999999999999999999\r\n\r\n",
        "POST /v1/take" H "Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}",
        "POST /v1/take" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/take" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/take" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/take" H "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n",
        "POST /v1/take" H "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
        "GET /alive" H "Bad Header: x\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01\r\n\r\n\r\n",
    };
    start(f);
    for (size_t i = 0; i < COUNT(bad); i++) {
        connect_to(f);
        int status = ask(f, bad[i]);
        if (status != 0 && (status < 400 || status > 505)) {
            fail_msg("case %zu: %d", i, status);
        }
        assert_true(client_ended(&f->c));
    }
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
}

/* Heads too large for the library's memory, and more headers than allowed. */
static void test_large_heads(void **state) {
    struct fixture *f = *state;
    static char head[200000];
    start(f);
    for (int kind = 0; kind < 4; kind++) {
        size_t n = (size_t)snprintf(head, sizeof(head), "GET /%s", kind == 0 ? "" : "alive");
        if (kind == 0) {
            memset(head + n, 'y', 100000);
            n += 100000;
        } else if (kind == 1) {
            head[n++] = '?';
            for (; n < 9000; n += 4) {
                memcpy(head + n, "a=1&", 4);
            }
        }
        n += (size_t)snprintf(head + n, sizeof(head) - n, H);
        for (int i = 0; kind >= 2 && i < (kind == 2 ? 99 : 5000); i++) {
            n += (size_t)snprintf(head + n, sizeof(head) - n, "X-%d: y\r\n", i);
        }
        n += (size_t)snprintf(head + n, sizeof(head) - n, "\r\n");
        connect_to(f);
        int status = 0;
        if (client_send(&f->c, head, n)) {
            client_answer(&f->c, &f->a, false);
            status = f->a.status;
        }
        bool good = kind == 1 || kind == 2;
        assert_true(good ? status == 200 : status == 0 || status == 414 || status == 431);
    }
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
}

/* ---- bodies ---- */

static bool send_post(struct client *c, const char *path, const char *headers, size_t declared, size_t n) {
    static const char block[4096] = "";
    char head[512];
    snprintf(head, sizeof(head), "POST %s" H "%sContent-Length: %zu\r\n\r\n", path, headers, declared);
    bool ok = client_text(c, head);
    for (size_t at = 0; ok && at < n; at += sizeof(block)) {
        ok = client_send(c, block, n - at < sizeof(block) ? n - at : sizeof(block));
    }
    return ok;
}

static bool send_chunked(struct client *c, const char *path, size_t n) {
    static const char block[5000] = "";
    char head[200];
    snprintf(head, sizeof(head), "POST %s" H "Transfer-Encoding: chunked\r\n\r\n", path);
    bool ok = client_text(c, head);
    for (size_t at = 0; ok && at < n; at += sizeof(block)) {
        size_t k = n - at < sizeof(block) ? n - at : sizeof(block);
        snprintf(head, sizeof(head), "%zx\r\n", k);
        ok = client_text(c, head) && client_send(c, block, k) && client_text(c, "\r\n");
    }
    return ok && client_text(c, "0\r\n\r\n");
}

/* A refused body is read to its end, and the connection goes on. */
static void test_body_sizes(void **state) {
    struct fixture *f = *state;
    static const struct {
        size_t n;
        int status;
    } sizes[] = { { 1, 200 }, { MAX_BODY - 1, 200 }, { MAX_BODY, 200 }, { MAX_BODY + 1, 413 }, { 3000000, 413 } };
    start(f);
    connect_to(f);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        assert_true(send_post(&f->c, "/v1/take", "", sizes[i].n, sizes[i].n));
        client_answer(&f->c, &f->a, false);
        assert_int_equal(f->a.status, sizes[i].status);
        assert_true(send_chunked(&f->c, "/v1/take", sizes[i].n));
        client_answer(&f->c, &f->a, false);
        assert_int_equal(f->a.status, sizes[i].status);
        assert_true(send_post(&f->c, "/v1/echo", "", sizes[i].n, sizes[i].n)); /* without credentials */
        client_answer(&f->c, &f->a, false);
        assert_int_equal(f->a.status, 401);
        assert_true(send_post(&f->c, "/v1/json", AUTH, sizes[i].n, sizes[i].n)); /* the type is looked at first */
        client_answer(&f->c, &f->a, false);
        assert_int_equal(f->a.status, 415);
    }
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    client_close(&f->c);
    wait_stats(f, all_quiet);
}

/* More than is worth reading: an answer, then the end. */
static void test_body_beyond_reason(void **state) {
    struct fixture *f = *state;
    start(f);
    connect_to(f);
    assert_true(send_post(&f->c, "/v1/take", "", (size_t)1 << 40, 0));
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 413);
    assert_true(client_ended(&f->c));
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "Content-Length: 1099511627776\r\n\r\n"), 413);
    assert_true(client_ended(&f->c));
}

static void test_expect(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *head;
        int status;
    } refused[] = {
        { "POST /v1/echo" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 401 },
        { "POST /v1/nope" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 404 },
        { "PUT /v1/take" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 405 },
        { "POST /v1/take" H "Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n", 413 },
        { "POST /v1/json" H AUTH "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 415 },
        { "POST /v1/echo" H "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", 401 },
    };
    start(f);
    connect_to(f);
    assert_int_equal(ask(f, "POST /v1/echo" H AUTH "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"), 100);
    assert_int_equal(ask(f, "hello"), 200);
    assert_string_equal(f->a.body, "hello");
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    for (size_t i = 0; i < COUNT(refused); i++) {
        connect_to(f);
        assert_int_equal(ask(f, refused[i].head), refused[i].status); /* and no 100 before it */
    }
}

static void test_compressed(void **state) {
    struct fixture *f = *state;
    static char plain[MAX_BODY * 4 + 1];
    static const enum coding codings[] = { CODING_GZIP, CODING_ZSTD };
    start(f);
    connect_to(f);
    memset(plain, 'a', sizeof(plain));
    for (size_t i = 0; i < COUNT(codings); i++) {
        static const struct {
            size_t n;
            int status;
        } sizes[] = { { 10, 200 }, { MAX_BODY * 4, 200 }, { MAX_BODY * 4 + 1, 413 } };
        for (size_t k = 0; k < COUNT(sizes); k++) {
            struct buf packed;
            char head[200], want[60];
            buf_init(&packed, 1 << 20);
            assert_int_equal(deflate_body(codings[i], (struct str){ plain, sizes[k].n }, &packed, NULL), XT_OK);
            snprintf(head, sizeof(head), "POST /v1/take" H "Content-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
                     coding_name(codings[i]), packed.n);
            assert_true(client_text(&f->c, head) && client_send(&f->c, packed.p, packed.n));
            client_answer(&f->c, &f->a, false);
            assert_int_equal(f->a.status, sizes[k].status);
            snprintf(want, sizeof(want), "{\"n\":%zu}", sizes[k].n);
            assert_true(sizes[k].status != 200 || strcmp(f->a.body, want) == 0);
            buf_done(&packed);
        }
    }
    client_close(&f->c);
    wait_stats(f, all_quiet);
}

/* Five bodies of the largest size fit the budget; what comes then is told to come again. */
static bool budget_used_up(const struct http_stats *s) { return s->body_bytes_now == 5 * MAX_BODY; }

static void test_body_budget(void **state) {
    struct fixture *f = *state;
    static struct client held[5];
    start(f);
    for (size_t i = 0; i < 5; i++) {
        assert_true(client_open(&held[i], f->port) && send_post(&held[i], "/v1/take", "", MAX_BODY, MAX_BODY - 1));
    }
    wait_stats(f, budget_used_up); /* all five have been seen; a request of ours meanwhile could take one's place */
    connect_to(f);
    assert_true(send_post(&f->c, "/v1/take", "", 1000, 1000));
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 429);
    char value[256];
    assert_string_equal(answer_header(&f->a, "Retry-After", value), "1");
    assert_true(send_post(&f->c, "/v1/traces", "", 1000, 1000));
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 503);
    assert_string_equal(answer_header(&f->a, "Retry-After", value), "1");
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    for (size_t i = 0; i < 5; i++) {
        i % 2 ? client_reset(&held[i]) : client_close(&held[i]);
    }
    client_close(&f->c);
    wait_stats(f, all_quiet);
    connect_to(f);
    assert_true(send_post(&f->c, "/v1/take", "", MAX_BODY, MAX_BODY));
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 200);
}

/* A body of a megabyte and more, as sent or once it is inflated, is decoded on a thread of its own; parked ones too. */
static void test_heavy(void **state) {
    struct fixture *f = *state;
    static char plain[8 << 20];
    f->conf.max_body = 8 << 20;
    start(f);
    connect_to(f);
    for (enum coding coding = CODING_IDENTITY; coding <= CODING_ZSTD; coding++) {
        static const size_t sizes[] = { 10, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 8 << 20 };
        for (size_t i = 0; i < COUNT(sizes); i++) {
            struct buf packed;
            char head[200], want[60], thread[256];
            buf_init(&packed, 9 << 20);
            assert_int_equal(deflate_body(coding, (struct str){ plain, sizes[i] }, &packed, NULL), XT_OK);
            snprintf(head, sizeof(head), "POST /v1/take" H "Content-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
                     coding_name(coding), packed.n);
            assert_true(client_text(&f->c, head) && client_send(&f->c, packed.p, packed.n));
            client_answer(&f->c, &f->a, false);
            snprintf(want, sizeof(want), "{\"n\":%zu}", sizes[i]);
            assert_string_equal(f->a.body, want);
            bool heavy = strcmp(answer_header(&f->a, "X-Thread", thread), "xt-body") == 0;
            assert_int_equal(heavy, sizes[i] >= 1 << 20);
            buf_done(&packed);
        }
    }
    assert_true(send_post(&f->c, "/v1/park/short", "", 2 << 20, 2 << 20));
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 503);
    client_close(&f->c);
    wait_stats(f, all_quiet);
}

static void test_large_answer(void **state) {
    struct fixture *f = *state;
    start(f);
    connect_to(f);
    assert_true(client_text(&f->c, "GET /large" H "Connection: close\r\n\r\n"));
    size_t total = 0;
    int more;
    do {
        total += f->c.n;
        f->c.n = 0;
    } while ((more = client_more(&f->c)) > 0);
    assert_int_equal(more, 0);
    assert_true(total > 4000000 && total < 4001000);
    connect_to(f);
    assert_int_equal(ask(f, "GET /large" H "Accept-Encoding: gzip;q=0.5, zstd\r\n\r\n"), 200);
    struct buf out;
    buf_init(&out, 5000000);
    assert_int_equal(inflate_body(CODING_ZSTD, (struct str){ f->a.body, f->a.body_n }, &out, NULL), XT_OK);
    assert_int_equal(out.n, 4000000);
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_cases),
        TEST(test_rate_limit),
        TEST(test_pipelined),
        TEST(test_malformed),
        TEST(test_large_heads),
        TEST(test_body_sizes),
        TEST(test_body_beyond_reason),
        TEST(test_expect),
        TEST(test_compressed),
        TEST(test_body_budget),
        TEST(test_heavy),
        TEST(test_large_answer),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
