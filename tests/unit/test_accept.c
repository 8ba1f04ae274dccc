/* test_accept.c -- the limit of connections: who is taken, who makes room, who is turned away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/accept.h"
#include "http/internal.h"
#include "http/listen.h"

#define LIMIT 10

/* A listening socket, and an acceptor whose event threads only count. */
struct fixture {
    struct http_core core;
    struct acceptor acceptor;
    struct listen_addr addr;
    int listen_fd;
    unsigned added;
};

static bool add(void *arg, int fd, const struct sockaddr *sa, socklen_t len) {
    (void)sa;
    (void)len;
    struct fixture *f = arg;
    f->added++;
    close(fd);
    return true;
}

static int setup(void **state) {
    static struct fixture f;
    f = (struct fixture){ 0 };
    struct sweep_conf conf = { .shortest_ns = 3600 * NS_PER_SEC, .listen_fd = -1 };
    f.core.conf.max_connections = LIMIT;
    f.core.sweep = sweep_new(&conf); /* its thread is not started: nothing is looked at behind our back */
    f.acceptor = (struct acceptor){ .core = &f.core, .add = add, .arg = &f };
    accept_init(&f.acceptor);
    *state = &f;
    return f.core.sweep && listen_parse("127.0.0.1:0", &f.addr, NULL) == XT_OK &&
                   listen_open(&f.addr, "x", &f.listen_fd, NULL) == XT_OK
               ? 0
               : -1;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    close(f->listen_fd);
    accept_done(&f->acceptor);
    sweep_free(f->core.sweep);
    return 0;
}

/* One more client comes; true: it was handed over, false: it was turned away. */
static bool one_more(struct fixture *f) {
    unsigned added = f->added;
    uint64_t refused = count_get(&f->core.counters.refused_connections);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(c, (struct sockaddr *)&f->addr.sa, f->addr.len), 0);
    accept_ready(&f->acceptor, f->listen_fd);
    close(c);
    if (f->added > added) {
        accept_started(&f->acceptor);
    }
    assert_int_equal(f->added - added + count_get(&f->core.counters.refused_connections) - refused, 1);
    return f->added > added;
}

struct pair {
    struct sweep_conn conn;
    int peer;
};

static void open_pair(struct fixture *f, struct pair *p, enum conn_phase phase) {
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *p = (struct pair){ .conn = { .fd = fds[0] }, .peer = fds[1] };
    sweep_conn_set(&p->conn, phase, 1, INT64_MAX);
    sweep_conn_add(f->core.sweep, &p->conn);
    count_add(&f->core.counters.connections_now, 1);
}

static void close_pair(struct fixture *f, struct pair *p) {
    sweep_conn_remove(f->core.sweep, &p->conn);
    count_sub(&f->core.counters.connections_now, 1);
    close(p->conn.fd);
    close(p->peer);
}

static bool was_shut_down(const struct pair *p) {
    char c;
    return recv(p->peer, &c, 1, MSG_DONTWAIT) == 0;
}

static void test_limit(void **state) {
    struct fixture *f = *state;
    struct pair conns[LIMIT];
    assert_true(one_more(f));
    for (size_t i = 0; i < LIMIT; i++) {
        open_pair(f, &conns[i], CONN_BUSY);
        assert_int_equal(one_more(f), i + 1 < LIMIT);
    }
    sweep_conn_set(&conns[3].conn, CONN_IDLE, 1, INT64_MAX);
    assert_true(one_more(f));
    assert_true(was_shut_down(&conns[3]));
    for (size_t i = 0; i < LIMIT; i++) {
        assert_true(i == 3 || !was_shut_down(&conns[i]));
        close_pair(f, &conns[i]);
    }
}

/* One that was shut down and that the event threads have not closed yet takes no room: neither is a newcomer turned
 * away for it, nor an idle one shut down. */
static void test_leaving(void **state) {
    struct fixture *f = *state;
    struct pair conns[LIMIT];
    for (size_t i = 0; i < LIMIT; i++) {
        open_pair(f, &conns[i], i == 0 ? CONN_IDLE : CONN_BUSY);
    }
    assert_true(sweep_evict_idle(f->core.sweep));
    assert_true(one_more(f));
    sweep_conn_set(&conns[1].conn, CONN_IDLE, 2, INT64_MAX);
    assert_true(one_more(f));
    assert_false(was_shut_down(&conns[1]));
    for (size_t i = 0; i < LIMIT; i++) {
        close_pair(f, &conns[i]);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = { TEST(test_limit), TEST(test_leaving) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
