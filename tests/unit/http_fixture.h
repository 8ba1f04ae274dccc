/* http_fixture.h -- a real server on a free port, and behind it a small application whose handlers park, hold and answer. */
#pragma once
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http_client.h"

#include "http/server.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_BODY 100000u
#define H " HTTP/1.1\r\nHost: x\r\n"
#define AUTH "Authorization: Bearer t\r\n"

struct app {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    struct http_req *parked[64]; /* by /park, each with a reference */
    size_t nparked;
    unsigned held, hold_open; /* in /hold; handlers leave while hold_open > 0 */
    _Atomic unsigned deadlines, handled;
    unsigned admitted; /* by the rate limit */
};

struct fixture {
    struct app app;
    struct http_conf conf;
    struct http_server *server;
    unsigned port;
    struct client c;
    struct answer a;
};

/* A test's own server, configured but not started; stopped at the end. */
int http_setup(void **state);
int http_teardown(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, http_setup, http_teardown)

void start(struct fixture *f);
void stop(struct fixture *f, int64_t ns); /* requests at work get so long */
void connect_to(struct fixture *f);
int ask(struct fixture *f, const char *request);
/* Waits for the application to change; fails after a minute. mu held. */
void wait_app(struct app *app);
/* Waits until n requests are parked; each is a reference. */
void wait_parked(struct fixture *f, size_t n);
void open_holds(struct fixture *f);
void wait_held(struct fixture *f, unsigned n);
/* Polls a condition on the server's counters; fails after 20 s. */
void wait_stats(struct fixture *f, bool (*is)(const struct http_stats *s));
bool all_quiet(const struct http_stats *s);
