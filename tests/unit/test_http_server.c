/* test_http_server.c -- a real server on a free port with small handlers: order of checks, bodies, parking, pools,
 * deadlines, limits, stop; and all of it at once from several threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_client.h"
#include "slow.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/inflate.h"
#include "base/log.h"
#include "http/server.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_BODY 100000u

/* ---- the application: handlers that park, hold and answer ---- */

struct app {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    struct http_req *parked[64]; /* by /park, each with a reference */
    size_t nparked;
    unsigned held, hold_open; /* in /hold; handlers leave while hold_open > 0 */
    _Atomic unsigned deadlines, handled;
    unsigned admitted; /* by the rate limit */
};

static struct app *app_of(struct http_req *req) { return http_app(req); }

static enum http_result echo(struct http_req *req, struct xt_err *err) {
    (void)err;
    struct str b = http_body(req);
    for (size_t i = 0; i < HTTP_BODY_PADDING; i++) {
        assert_int_equal(b.p[b.n + i], 0);
    }
    buf_add_str(http_reply_buf(req), b);
    http_reply_type(req, "text/plain");
    atomic_fetch_add(&app_of(req)->handled, 1);
    return HTTP_REPLY;
}

static enum http_result taker(struct http_req *req, struct xt_err *err) {
    (void)err;
    size_t n;
    char *p = http_body_take(req, &n), text[40];
    snprintf(text, sizeof(text), "{\"n\":%zu}", n);
    http_reply_json(req, 200, str_c(text));
    free(p);
    http_budget_release(http_server_of(req), n);
    return HTTP_REPLY;
}

static enum http_result alive(struct http_req *req, struct xt_err *err) {
    (void)err;
    http_reply_empty(req, 200);
    return HTTP_REPLY;
}

/* The capture, the parameters and the tenant. */
static enum http_result show(struct http_req *req, struct xt_err *err) {
    (void)err;
    struct buf *b = http_reply_buf(req);
    buf_printf(b, "%.*s", STR_FMT(http_path_param(req, 0)));
    for (size_t i = 0; i < http_query_count(req); i++) {
        struct str key, value;
        http_query_at(req, i, &key, &value);
        buf_printf(b, "|%.*s=%.*s", STR_FMT(key), STR_FMT(value));
    }
    buf_printf(b, "#%lld", (long long)http_auth_of(req)->project);
    return HTTP_REPLY;
}

static enum http_result failing(struct http_req *req, struct xt_err *err) {
    (void)req;
    xt_fail(err, XT_ESCHEMA, "field \"x\" is wrong");
    return HTTP_FAIL;
}

static enum http_result large(struct http_req *req, struct xt_err *err) {
    (void)err;
    for (int i = 0; i < 4000; i++) {
        buf_printf(http_reply_buf(req), "%01000d", i);
    }
    return HTTP_REPLY;
}

static void on_deadline(struct http_req *req, void *arg) {
    struct app *app = arg;
    struct xt_err late = { XT_EUNAVAILABLE, "late" };
    atomic_fetch_add(&app->deadlines, 1);
    http_reply_error(req, &late);
}

static enum http_result park_for(struct http_req *req, int64_t ns) {
    struct app *app = app_of(req);
    http_ref(req);
    http_park(req, clock_mono_ns() + ns, on_deadline, app);
    pthread_mutex_lock(&app->mu);
    app->parked[app->nparked++] = req;
    pthread_cond_broadcast(&app->cv);
    pthread_mutex_unlock(&app->mu);
    return HTTP_PARKED;
}

static enum http_result park(struct http_req *req, struct xt_err *err) {
    (void)err;
    return park_for(req, 60 * NS_PER_SEC);
}

static enum http_result park_short(struct http_req *req, struct xt_err *err) {
    (void)err;
    return park_for(req, NS_PER_SEC / 20);
}

/* Its deadline is over when it parks. */
static enum http_result park_late(struct http_req *req, struct xt_err *err) {
    (void)err;
    http_park(req, clock_mono_ns() - 1, on_deadline, app_of(req));
    return HTTP_PARKED;
}

static enum http_result park_and_fail(struct http_req *req, struct xt_err *err) {
    http_park(req, clock_mono_ns() + 60 * NS_PER_SEC, on_deadline, app_of(req));
    xt_fail(err, XT_EBUSY, "the queue is full");
    return HTTP_FAIL;
}

static enum http_result park_and_answer(struct http_req *req, struct xt_err *err) {
    (void)err;
    http_park(req, clock_mono_ns() + 60 * NS_PER_SEC, on_deadline, app_of(req));
    assert_true(http_claim(req));
    assert_false(http_claim(req));
    http_reply_json(req, 200, STR_LIT("{\"at\":\"once\"}"));
    http_answer(req);
    return HTTP_PARKED;
}

static enum http_result hold(struct http_req *req, struct xt_err *err) {
    (void)err;
    struct app *app = app_of(req);
    pthread_mutex_lock(&app->mu);
    app->held++;
    pthread_cond_broadcast(&app->cv);
    while (!app->hold_open) {
        pthread_cond_wait(&app->cv, &app->mu);
    }
    app->held--;
    pthread_mutex_unlock(&app->mu);
    http_reply_json(req, 200, STR_LIT("{\"held\":true}"));
    return HTTP_REPLY;
}

static enum xt_code only_json(struct http_req *req, struct xt_err *err) {
    return str_eq_c(http_content_type(req), "application/json") ? XT_OK : xt_fail(err, XT_EMEDIA, "JSON only");
}

static const struct http_route rows[] = {
    { .method = "GET", .path = "/alive", .handle = alive },
    { .method = "GET", .path = "/large", .handle = large },
    { .method = "GET", .path = "/api/show/:what", .handle = show, .rights = RIGHT_READ },
    { .method = "GET", .path = "/api/pool/:what", .handle = show, .rights = RIGHT_READ, .query_pool = true },
    { .method = "GET", .path = "/api/limited", .handle = show, .rights = RIGHT_READ, .rate_limited = true },
    { .method = "DELETE", .path = "/api/admin", .handle = show, .rights = RIGHT_ADMIN },
    { .method = "POST", .path = "/v1/echo", .handle = echo, .rights = RIGHT_WRITE, .body = true },
    { .method = "POST", .path = "/v1/take", .handle = taker, .body = true },
    { .method = "POST",
      .path = "/v1/json",
      .handle = echo,
      .rights = RIGHT_WRITE,
      .body = true,
      .check_head = only_json },
    { .method = "POST", .path = "/v1/traces", .handle = echo, .body = true, .style = ERR_OTLP },
    { .method = "POST", .path = "/v1/fail", .handle = failing, .body = true },
    { .method = "POST", .path = "/v1/park", .handle = park, .body = true },
    { .method = "POST", .path = "/v1/park/short", .handle = park_short, .body = true },
    { .method = "GET", .path = "/v1/park/late", .handle = park_late },
    { .method = "GET", .path = "/v1/park/fail", .handle = park_and_fail },
    { .method = "GET", .path = "/v1/park/once", .handle = park_and_answer },
    { .method = "GET", .path = "/v1/park/pool", .handle = park_short, .query_pool = true },
    { .method = "GET", .path = "/v1/park/pool/once", .handle = park_and_answer, .query_pool = true },
    { .method = "GET", .path = "/v1/hold", .handle = hold, .query_pool = true },
};

static enum xt_code authorise(void *app, struct http_req *req, const struct http_route *route, struct http_auth *ret,
                              struct xt_err *err) {
    (void)app;
    (void)route;
    struct str h = http_header(req, "Authorization");
    *ret = (struct http_auth){ .project = 7, .rights = RIGHT_READ | RIGHT_WRITE };
    return str_eq_c(h, "Bearer t") ? XT_OK : xt_fail(err, XT_EAUTH, "Unauthorized");
}

static bool admit(void *arg, const struct http_auth *auth, unsigned *ret_wait_s) {
    struct app *app = arg;
    assert_int_equal(auth->project, 7);
    *ret_wait_s = 3;
    return app->admitted++ < 2;
}

static void rate_refused(void *app, struct http_req *req, unsigned wait_s) {
    (void)app;
    assert_int_equal(wait_s, 3);
    http_reply_json(req, 429, STR_LIT("{\"slow\":\"down\"}"));
    http_reply_header(req, "Retry-After", STR_LIT("3"));
}

/* ---- a server for each test ---- */

struct fixture {
    struct app app;
    struct http_conf conf;
    struct http_server *server;
    unsigned port;
    struct client c;
    struct answer a;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    pthread_mutex_init(&f->app.mu, NULL);
    pthread_cond_init(&f->app.cv, NULL);
    f->c.fd = -1;
    f->conf = (struct http_conf){ .bind_addr = "127.0.0.1:0",
                                  .cors_origins = "https://a.example",
                                  .max_body = MAX_BODY,
                                  .inflate_ratio = 4,
                                  .max_connections = 100,
                                  .threads = 2,
                                  .body_budget = 5 * MAX_BODY,
                                  .idle_timeout_ms = 30000,
                                  .header_timeout_ms = 30000,
                                  .request_timeout_ms = 30000,
                                  .query_threads = 2,
                                  .query_queue = 2,
                                  .routes = rows,
                                  .nroutes = COUNT(rows),
                                  .hooks = { authorise, admit, rate_refused },
                                  .app = &f->app };
    *state = f;
    return 0;
}

static void start(struct fixture *f) {
    struct xt_err err = { 0 };
    if (http_server_start(&f->conf, &f->server, &err) != XT_OK) {
        fail_msg("start: %s", err.msg);
    }
    f->port = http_server_port(f->server);
}

static void stop(struct fixture *f, int64_t ns) {
    if (f->server) {
        http_server_stop(f->server, clock_mono_ns() + ns);
    }
    f->server = NULL;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    client_close(&f->c);
    stop(f, 0);
    for (size_t i = 0; i < f->app.nparked; i++) {
        http_unref(f->app.parked[i]);
    }
    pthread_cond_destroy(&f->app.cv);
    pthread_mutex_destroy(&f->app.mu);
    free(f);
    return 0;
}

static void connect_to(struct fixture *f) {
    client_close(&f->c);
    assert_true(client_open(&f->c, f->port));
}

static int ask(struct fixture *f, const char *request) { return client_ask(&f->c, &f->a, request); }

/* Waits for the application to change; fails after a minute. mu held. */
static void wait_app(struct app *app) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    assert_int_equal(pthread_cond_timedwait(&app->cv, &app->mu, &end), 0);
}

/* Takes n parked requests from the application; each holds a reference. */
static void wait_parked(struct fixture *f, size_t n) {
    pthread_mutex_lock(&f->app.mu);
    while (f->app.nparked < n) {
        wait_app(&f->app);
    }
    pthread_mutex_unlock(&f->app.mu);
}

static void open_holds(struct fixture *f) {
    pthread_mutex_lock(&f->app.mu);
    f->app.hold_open = 1;
    pthread_cond_broadcast(&f->app.cv);
    pthread_mutex_unlock(&f->app.mu);
}

static void wait_held(struct fixture *f, unsigned n) {
    pthread_mutex_lock(&f->app.mu);
    while (f->app.held < n) {
        wait_app(&f->app);
    }
    pthread_mutex_unlock(&f->app.mu);
}

/* Polls a condition on the server's counters; fails after 20 s. */
static void wait_stats(struct fixture *f, bool (*is)(const struct http_stats *s)) {
    struct http_stats s;
    int64_t end = clock_mono_ns() + 20 * SLOW * NS_PER_SEC;
    do {
        http_server_stats(f->server, &s);
        if (is(&s)) {
            return;
        }
        usleep(1000);
    } while (clock_mono_ns() < end);
    fail_msg("connections %llu, bodies %llu, parked %llu", (unsigned long long)s.connections_now,
             (unsigned long long)s.body_bytes_now, (unsigned long long)s.parked_now);
}

static bool all_quiet(const struct http_stats *s) {
    return s->connections_now == 0 && s->body_bytes_now == 0 && s->parked_now == 0;
}

/* ---- one request ---- */

#define H " HTTP/1.1\r\nHost: x\r\n"
#define AUTH "Authorization: Bearer t\r\n"

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
        assert_true(client_open(&held[i], f->port) && send_post(&held[i], "/v1/take", "", MAX_BODY, 10));
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

/* A body of a megabyte and more is decoded on a thread of its own; parked ones too. */
static void test_heavy(void **state) {
    struct fixture *f = *state;
    f->conf.max_body = 8 << 20;
    start(f);
    connect_to(f);
    for (size_t n = (1 << 20) - 1; n <= (1 << 20) + 1; n++) {
        char want[60];
        assert_true(send_post(&f->c, "/v1/take", "", n, n));
        client_answer(&f->c, &f->a, false);
        snprintf(want, sizeof(want), "{\"n\":%zu}", n);
        assert_string_equal(f->a.body, want);
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

/* ---- parking ---- */

static void test_parked_answer(void **state) {
    struct fixture *f = *state;
    start(f);
    connect_to(f);
    assert_true(client_text(&f->c, "POST /v1/park" H "Content-Length: 2\r\n\r\n{}"));
    wait_parked(f, 1);
    struct http_stats s;
    http_server_stats(f->server, &s);
    assert_int_equal(s.parked_now, 1);
    struct http_req *req = f->app.parked[0];
    assert_true(http_claim(req));
    assert_false(http_claim(req));
    http_reply_json(req, 200, STR_LIT("{\"ok\":true}"));
    http_answer(req);
    assert_false(http_claim(req));
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 200);
    assert_string_equal(f->a.body, "{\"ok\":true}");
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    assert_false(http_claim(req)); /* the request is long gone, the handle is not */
}

static void test_parked_client_leaves(void **state) {
    struct fixture *f = *state;
    start(f);
    for (int i = 0; i < 10; i++) {
        connect_to(f);
        assert_true(client_text(&f->c, "POST /v1/park" H "Content-Length: 2\r\n\r\n{}"));
        wait_parked(f, (size_t)i + 1);
        i % 2 ? client_reset(&f->c) : client_close(&f->c);
        if (i % 3) { /* else the stop answers it */
            struct http_req *req = f->app.parked[i];
            assert_true(http_claim(req));
            http_reply_json(req, 200, STR_LIT("{}"));
            http_answer(req);
        }
    }
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    stop(f, 0);
    assert_int_equal(f->app.deadlines, 4);
}

/* ---- the query pool ---- */

static void test_query_queue(void **state) {
    struct fixture *f = *state;
    static struct client holds[4];
    start(f);
    for (size_t i = 0; i < 4; i++) { /* two run, two wait */
        assert_true(client_open(&holds[i], f->port) && client_text(&holds[i], "GET /v1/hold" H "\r\n"));
        if (i == 1) {
            wait_held(f, 2);
        }
    }
    struct http_stats s;
    int64_t end = clock_mono_ns() + 20 * SLOW * NS_PER_SEC;
    do {
        http_server_stats(f->server, &s);
    } while (s.query_waiting < 2 && clock_mono_ns() < end);
    assert_int_equal(s.query_running, 2);
    assert_int_equal(s.query_waiting, 2);
    connect_to(f);
    assert_int_equal(ask(f, "GET /api/pool/x" H AUTH "\r\n"), 503);
    char value[256];
    assert_string_equal(answer_header(&f->a, "Retry-After", value), "1");
    assert_int_equal(ask(f, "GET /api/show/x" H AUTH "\r\n"), 200); /* others are served */
    open_holds(f);
    for (size_t i = 0; i < 4; i++) {
        client_answer(&holds[i], &f->a, false);
        assert_int_equal(f->a.status, 200);
        client_close(&holds[i]);
    }
    assert_int_equal(ask(f, "GET /api/pool/x" H AUTH "\r\n"), 200);
    http_server_stats(f->server, &s);
    assert_int_equal(s.query_refused, 1);
}

/* ---- deadlines and limits ---- */

static void test_slow_clients(void **state) {
    struct fixture *f = *state;
    static struct client slow[5];
    static const char *const first[] = { "", "GET /alive HTTP",
                                         "GET /alive" H "X: ", "POST /v1/take" H "Content-Length: 50\r\n\r\nx",
                                         "GET /alive" H "\r\n" };
    f->conf.header_timeout_ms = 300 * SLOW;
    f->conf.request_timeout_ms = 400 * SLOW;
    f->conf.idle_timeout_ms = 700 * SLOW;
    start(f);
    for (size_t i = 0; i < 5; i++) {
        assert_true(client_open(&slow[i], f->port) && client_text(&slow[i], first[i]));
    }
    client_answer(&slow[4], &f->a, false); /* that one is used, then idle */
    assert_int_equal(f->a.status, 200);
    int64_t begin = clock_mono_ns();
    while (clock_mono_ns() < begin + NS_PER_SEC * SLOW) { /* dripping does not help */
        for (size_t i = 1; i < 4; i++) {
            (void)client_text(&slow[i], "y");
        }
        usleep(20000);
        connect_to(f);
        assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_true(client_ended(&slow[i]));
        client_close(&slow[i]);
    }
    assert_true(clock_mono_ns() < begin + 10 * NS_PER_SEC * SLOW);
    struct http_stats s;
    http_server_stats(f->server, &s);
    assert_true(s.timeouts >= 4);
    client_close(&f->c);
    wait_stats(f, all_quiet);
}

/* A parked request is not late by the connection's clocks. */
static void test_parked_outlives_timeouts(void **state) {
    struct fixture *f = *state;
    f->conf.header_timeout_ms = f->conf.request_timeout_ms = f->conf.idle_timeout_ms = 200 * SLOW;
    start(f);
    connect_to(f);
    assert_true(client_text(&f->c, "POST /v1/park" H "Content-Length: 2\r\n\r\n{}"));
    wait_parked(f, 1);
    usleep(600000 * SLOW);
    assert_true(http_claim(f->app.parked[0]));
    http_reply_json(f->app.parked[0], 200, STR_LIT("{}"));
    http_answer(f->app.parked[0]);
    client_answer(&f->c, &f->a, false);
    assert_int_equal(f->a.status, 200);
}

/* Clients that never read a large answer are dropped when they have been idle for long. */
static void test_never_reads(void **state) {
    struct fixture *f = *state;
    static struct client mute[8];
    f->conf.idle_timeout_ms = 2000 * SLOW;
    start(f);
    for (size_t i = 0; i < COUNT(mute); i++) {
        assert_true(client_open(&mute[i], f->port));
        for (int k = 0; k < 4; k++) {
            assert_true(client_text(&mute[i], "GET /large" H "\r\n"));
        }
    }
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    client_close(&f->c);
    wait_stats(f, all_quiet);
    for (size_t i = 0; i < COUNT(mute); i++) {
        client_close(&mute[i]);
    }
}

static bool ten_or_less(const struct http_stats *s) { return s->connections_now <= 10; }

static void test_connection_limit(void **state) {
    struct fixture *f = *state;
    static struct client many[30];
    f->conf.max_connections = 10;
    start(f);
    for (size_t i = 0; i < 30; i++) { /* idle ones: each new one takes the place of the oldest */
        assert_true(client_open(&many[i], f->port));
        assert_int_equal(client_ask(&many[i], &f->a, "GET /alive" H "\r\n"), 200);
    }
    wait_stats(f, ten_or_less);
    size_t served = 0;
    for (size_t i = 0; i < 30; i++) {
        served += client_ask(&many[i], &f->a, "GET /alive" H "\r\n") == 200;
        client_close(&many[i]);
    }
    assert_true(served >= 8 && served <= 10);
    wait_stats(f, all_quiet);
    for (size_t i = 0; i < 10; i++) { /* all at work: a new one is turned away */
        assert_true(client_open(&many[i], f->port));
        assert_true(client_text(&many[i], "POST /v1/park" H "Content-Length: 2\r\n\r\n{}"));
        wait_parked(f, i + 1);
    }
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 0);
    struct http_stats s;
    http_server_stats(f->server, &s);
    assert_true(s.refused_connections >= 1);
    for (size_t i = 0; i < 10; i++) {
        assert_true(http_claim(f->app.parked[i]));
        http_reply_json(f->app.parked[i], 200, STR_LIT("{}"));
        http_answer(f->app.parked[i]);
        client_answer(&many[i], &f->a, false);
        assert_int_equal(f->a.status, 200);
    }
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200); /* an idle one made room */
    for (size_t i = 0; i < 10; i++) {
        client_close(&many[i]);
    }
}

/* ---- start and stop ---- */

static void test_start_errors(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *addr, *cert;
        enum xt_code code;
    } bad[] = { { "localhost:1", NULL, XT_EINVAL },
                { "nonsense", NULL, XT_EINVAL },
                { "192.0.2.1:1", NULL, XT_EUNAVAILABLE },
                { "127.0.0.1:0", "/nonexistent/file", XT_EINVAL } };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct xt_err err = { 0 };
        struct http_conf conf = f->conf;
        conf.bind_addr = bad[i].addr;
        conf.tls_cert = conf.tls_key = bad[i].cert;
        assert_int_equal(http_server_start(&conf, &f->server, &err), bad[i].code);
        assert_true(err.msg[0] != '\0');
        assert_null(f->server);
    }
    start(f);
    char addr[40];
    struct xt_err err = { 0 };
    struct http_server *second = NULL;
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", f->port);
    struct http_conf conf = f->conf;
    conf.bind_addr = addr;
    assert_int_equal(http_server_start(&conf, &second, &err), XT_EUNAVAILABLE);
    assert_non_null(strstr(err.msg, addr));
}

static void test_quiesce(void **state) {
    struct fixture *f = *state;
    static struct client late;
    char value[256];
    start(f);
    connect_to(f);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
    http_server_quiesce(f->server);
    assert_false(client_open(&late, f->port));
    client_close(&late);
    assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200); /* open connections are served, and told to go */
    assert_string_equal(answer_header(&f->a, "Connection", value), "close");
    assert_true(client_ended(&f->c));
}

static void *stop_thread(void *arg) {
    stop(arg, NS_PER_SEC / 5);
    return NULL;
}

/* What is parked when the time is over gets its 503 before the end. */
static void test_stop_answers_parked(void **state) {
    struct fixture *f = *state;
    static struct client parked[5];
    pthread_t t;
    start(f);
    for (size_t i = 0; i < 5; i++) {
        assert_true(client_open(&parked[i], f->port));
        assert_true(client_text(&parked[i], "POST /v1/park" H "Content-Length: 2\r\n\r\n{}"));
        wait_parked(f, i + 1);
    }
    assert_int_equal(pthread_create(&t, NULL, stop_thread, f), 0);
    for (size_t i = 0; i < 5; i++) {
        client_answer(&parked[i], &f->a, false);
        assert_int_equal(f->a.status, 503);
        assert_true(client_ended(&parked[i]));
        client_close(&parked[i]);
    }
    pthread_join(t, NULL);
    assert_int_equal(f->app.deadlines, 5);
    assert_false(http_claim(f->app.parked[0]));
}

/* Handlers that run are waited for; those in the queue and those that come are refused. */
static void test_stop_while_handlers_run(void **state) {
    struct fixture *f = *state;
    static struct client held[4];
    pthread_t t;
    start(f);
    for (size_t i = 0; i < 4; i++) {
        assert_true(client_open(&held[i], f->port) && client_text(&held[i], "GET /v1/hold" H "\r\n"));
        wait_held(f, i < 1 ? 1 : 2);
    }
    struct http_stats s;
    do {
        http_server_stats(f->server, &s);
    } while (s.query_waiting < 2);
    connect_to(f);
    assert_int_equal(pthread_create(&t, NULL, stop_thread, f), 0);
    unsigned refused = 0, served = 0;
    for (size_t i = 0; i < 4; i++) {
        if (i == 2) {
            open_holds(f);
        }
        struct client *c = &held[3 - i]; /* the last ones wait in the queue */
        client_answer(c, &f->a, false);
        refused += f->a.status == 503;
        served += f->a.status == 200;
        client_close(c);
    }
    pthread_join(t, NULL);
    assert_int_equal(refused, 2);
    assert_int_equal(served, 2);
}

/* The n-th allocation fails while a request is served: an answer or the end of the connection, and the server lives. */
static void test_no_memory(void **state) {
    struct fixture *f = *state;
    static const char *const requests[] = {
        "GET /api/pool/x?a=b&c=d" H AUTH "Origin: https://a.example\r\nX-Request-Id: y\r\n\r\n",
        "POST /v1/take" H "Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET /v1/park/once" H "\r\n",
        "GET /api/nope" H "\r\n",
    };
    log_set_level(LOG_ERROR);
    start(f);
    for (size_t i = 0; i < COUNT(requests); i++) {
        for (uint64_t n = 1; n < 25; n++) {
            connect_to(f);
            alloc_fail_at(n);
            int status = ask(f, requests[i]);
            alloc_fail_at(0);
            if (status != 0 && status != 200 && status != 404 && status != 503) {
                fail_msg("request %zu, allocation %llu: %d", i, (unsigned long long)n, status);
            }
            connect_to(f);
            assert_int_equal(ask(f, "GET /alive" H "\r\n"), 200);
        }
    }
    client_close(&f->c);
    wait_stats(f, all_quiet);
}

/* ---- everything at once ---- */

struct load {
    struct fixture *f;
    unsigned seed, requests, good, refused, ended;
};

static unsigned next(unsigned *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

static void *load_thread(void *arg) {
    struct load *l = arg;
    struct client *c = malloc(sizeof(*c));
    struct answer *a = malloc(sizeof(*a));
    static const char *const requests[] = {
        "GET /alive" H "\r\n",
        "GET /api/pool/x?a=b" H AUTH "\r\n",
        "GET /nope" H "\r\n",
        "POST /v1/echo" H AUTH "Content-Length: 5\r\n\r\nhello",
        "POST /v1/echo" H AUTH "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /v1/park/once" H "\r\n",
        "GET /v1/park/fail" H "\r\n",
        "GET /v1/park/late" H "\r\n",
        "GET /v1/park/pool/once" H "\r\n",
        "POST /v1/echo" H "Content-Length: 5\r\n\r\nhello",
    };
    bool open = false;
    for (unsigned i = 0; i < l->requests; i++) {
        if (!open) {
            open = client_open(c, l->f->port);
        }
        const char *request = requests[next(&l->seed) % COUNT(requests)];
        unsigned what = next(&l->seed) % 20;
        if (!open || what == 0 || what == 1) { /* leaves in the middle, or at once after asking */
            size_t n = strlen(request);
            client_send(c, request, what ? n : n / 2);
            next(&l->seed) % 2 ? client_reset(c) : client_close(c);
            open = false;
            continue;
        }
        int status = client_ask(c, a, request);
        l->good += status >= 200 && status < 500;
        l->refused += status == 503;
        l->ended += status <= 0;
        if (status <= 0) {
            client_close(c);
            open = false;
        }
    }
    client_close(c);
    free(c);
    free(a);
    return NULL;
}

static void test_load(void **state) {
    struct fixture *f = *state;
    struct load loads[6] = { 0 };
    pthread_t t[6];
    f->conf.query_queue = 100;
    f->conf.header_timeout_ms = 2000 * SLOW; /* also how often vanished clients are looked for */
    log_set_level(LOG_ERROR);
    start(f);
    for (size_t i = 0; i < 6; i++) {
        loads[i] = (struct load){ .f = f, .seed = (unsigned)i + 1, .requests = 1500 };
        assert_int_equal(pthread_create(&t[i], NULL, load_thread, &loads[i]), 0);
    }
    unsigned good = 0, ended = 0;
    for (size_t i = 0; i < 6; i++) {
        pthread_join(t[i], NULL);
        good += loads[i].good;
        ended += loads[i].ended;
    }
    assert_int_equal(ended, 0);
    assert_true(good > 6 * 1500 / 2);
    wait_stats(f, all_quiet);
}

/* Stopped while clients keep asking: no crash, no hang. */
static void test_stop_under_load(void **state) {
    struct fixture *f = *state;
    struct load loads[4] = { 0 };
    pthread_t t[4];
    log_set_level(LOG_ERROR);
    start(f);
    for (size_t i = 0; i < 4; i++) {
        loads[i] = (struct load){ .f = f, .seed = (unsigned)i + 77, .requests = 3000 };
        assert_int_equal(pthread_create(&t[i], NULL, load_thread, &loads[i]), 0);
    }
    usleep(100000);
    stop(f, NS_PER_SEC);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
        TEST(test_parked_answer),
        TEST(test_parked_client_leaves),
        TEST(test_query_queue),
        TEST(test_slow_clients),
        TEST(test_parked_outlives_timeouts),
        TEST(test_never_reads),
        TEST(test_connection_limit),
        TEST(test_start_errors),
        TEST(test_quiesce),
        TEST(test_stop_answers_parked),
        TEST(test_stop_while_handlers_run),
        TEST(test_no_memory),
        TEST(test_load),
        TEST(test_stop_under_load),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
