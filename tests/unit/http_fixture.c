/* http_fixture.c -- see http_fixture.h. */
#include "http_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "slow.h"

#include "base/arena.h"
#include "base/clock.h"

/* ---- the application ---- */

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
    char *p = http_body_take(req, &n), text[40], thread[16] = "";
    snprintf(text, sizeof(text), "{\"n\":%zu}", n);
    http_reply_json(req, 200, str_c(text));
    pthread_getname_np(pthread_self(), thread, sizeof(thread));
    http_reply_header(req, "X-Thread", str_c(thread));
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

int http_setup(void **state) {
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

void start(struct fixture *f) {
    struct xt_err err = { 0 };
    if (http_server_start(&f->conf, &f->server, &err) != XT_OK) {
        fail_msg("start: %s", err.msg);
    }
    f->port = http_server_port(f->server);
}

void stop(struct fixture *f, int64_t ns) {
    if (f->server) {
        http_server_stop(f->server, clock_mono_ns() + ns);
    }
    f->server = NULL;
}

int http_teardown(void **state) {
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

void connect_to(struct fixture *f) {
    client_close(&f->c);
    assert_true(client_open(&f->c, f->port));
}

int ask(struct fixture *f, const char *request) { return client_ask(&f->c, &f->a, request); }

void wait_app(struct app *app) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    assert_int_equal(pthread_cond_timedwait(&app->cv, &app->mu, &end), 0);
}

void wait_parked(struct fixture *f, size_t n) {
    pthread_mutex_lock(&f->app.mu);
    while (f->app.nparked < n) {
        wait_app(&f->app);
    }
    pthread_mutex_unlock(&f->app.mu);
}

void open_holds(struct fixture *f) {
    pthread_mutex_lock(&f->app.mu);
    f->app.hold_open = 1;
    pthread_cond_broadcast(&f->app.cv);
    pthread_mutex_unlock(&f->app.mu);
}

void wait_held(struct fixture *f, unsigned n) {
    pthread_mutex_lock(&f->app.mu);
    while (f->app.held < n) {
        wait_app(&f->app);
    }
    pthread_mutex_unlock(&f->app.mu);
}

void wait_stats(struct fixture *f, bool (*is)(const struct http_stats *s)) {
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

bool all_quiet(const struct http_stats *s) {
    return s->connections_now == 0 && s->body_bytes_now == 0 && s->parked_now == 0;
}
