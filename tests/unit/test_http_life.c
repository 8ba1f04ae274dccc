/* test_http_life.c -- requests that park, wait or hang, limits and deadlines, start and stop; and all of it at once from
 * several threads. */
#include "http_fixture.h"
#include "slow.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"

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
    const struct CMUnitTest tests[] = {
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
