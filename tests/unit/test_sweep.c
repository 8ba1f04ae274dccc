/* test_sweep.c -- the clock's thread: parked ones pop in order and on time, late sockets are shut down, the right ones
 * make room. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http/listen.h"
#include "http/sweep.h"

#define MS INT64_C(1000000)

struct seen {
    pthread_mutex_t mu;
    pthread_cond_t cv;
    struct sweep_park *popped[16];
    int64_t at[16];
    size_t n, accepts;
};

static void on_expired(void *arg, struct sweep_park *p) {
    struct seen *seen = arg;
    pthread_mutex_lock(&seen->mu);
    seen->popped[seen->n] = p;
    seen->at[seen->n++] = clock_mono_ns();
    pthread_cond_broadcast(&seen->cv);
    pthread_mutex_unlock(&seen->mu);
}

static void on_acceptable(void *arg, int fd) {
    struct seen *seen = arg;
    int c = accept(fd, NULL, NULL);
    if (c >= 0) {
        close(c);
    }
    pthread_mutex_lock(&seen->mu);
    seen->accepts++;
    pthread_cond_broadcast(&seen->cv);
    pthread_mutex_unlock(&seen->mu);
}

static void wait_popped(struct seen *seen, size_t n) {
    pthread_mutex_lock(&seen->mu);
    while (seen->n < n) {
        pthread_cond_wait(&seen->cv, &seen->mu);
    }
    pthread_mutex_unlock(&seen->mu);
}

static struct sweep *make_still(struct seen *seen, int64_t shortest, int listen_fd) {
    struct sweep_conf conf = {
        .shortest_ns = shortest, .listen_fd = listen_fd, .acceptable = on_acceptable, .expired = on_expired, .arg = seen
    };
    *seen = (struct seen){ .mu = PTHREAD_MUTEX_INITIALIZER, .cv = PTHREAD_COND_INITIALIZER };
    struct sweep *s = sweep_new(&conf);
    assert_non_null(s);
    return s;
}

static struct sweep *make(struct seen *seen, int64_t shortest, int listen_fd) {
    struct sweep *s = make_still(seen, shortest, listen_fd);
    assert_true(sweep_start(s));
    return s;
}

static void test_parked(void **state) {
    (void)state;
    struct seen seen;
    struct sweep *s = make_still(&seen, NS_PER_SEC, -1);
    int64_t now = clock_mono_ns();
    struct sweep_park parks[5] = { { .at = now + 90 * MS },
                                   { .at = now + 30 * MS },
                                   { .at = now + 60 * MS },
                                   { .at = now - 1 },
                                   { .at = now + 3600 * NS_PER_SEC } };
    static const size_t order[] = { 3, 1, 0 };
    for (size_t i = 0; i < 5; i++) {
        sweep_park(s, &parks[i]);
    }
    assert_true(sweep_unpark(s, &parks[2]));
    assert_false(sweep_unpark(s, &parks[2]));
    assert_true(sweep_start(s));
    wait_popped(&seen, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(seen.popped[i], &parks[order[i]]);
        assert_true(seen.at[i] >= parks[order[i]].at);
        assert_false(sweep_unpark(s, &parks[order[i]]));
    }
    assert_ptr_equal(sweep_pop(s), &parks[4]);
    assert_null(sweep_pop(s));
    sweep_free(s);
    assert_int_equal(seen.n, 3);
}

/* A connection of which we hold the other end. */
struct pair {
    struct sweep_conn conn;
    int peer;
};

static void open_pair(struct sweep *s, struct pair *p, enum conn_phase phase, int64_t since, int64_t deadline) {
    int fds[2];
    struct timeval tv = { .tv_sec = 20 };
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    *p = (struct pair){ .conn = { .fd = fds[0] }, .peer = fds[1] };
    setsockopt(p->peer, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    sweep_conn_set(&p->conn, phase, since, deadline);
    sweep_conn_add(s, &p->conn);
}

static void close_pair(struct sweep *s, struct pair *p) {
    sweep_conn_remove(s, &p->conn);
    close(p->conn.fd);
    close(p->peer);
}

/* Waits for the end, or looks whether it is there. */
static bool ended(const struct pair *p, bool wait) {
    char c;
    return recv(p->peer, &c, 1, wait ? 0 : MSG_DONTWAIT) == 0;
}

static void test_deadlines(void **state) {
    (void)state;
    struct seen seen;
    struct pair late, later, busy, moved;
    struct sweep *s = make(&seen, 40 * MS, -1);
    int64_t now = clock_mono_ns();
    open_pair(s, &late, CONN_HEAD, now, now + 40 * MS);
    open_pair(s, &later, CONN_BODY, now, now + 400 * MS);
    open_pair(s, &busy, CONN_BUSY, now, INT64_MAX);
    open_pair(s, &moved, CONN_BUSY, now, INT64_MAX);
    assert_true(ended(&late, true));
    assert_true(clock_mono_ns() >= now + 40 * MS);
    assert_true(!ended(&later, false) || clock_mono_ns() >= now + 400 * MS);
    int64_t then = clock_mono_ns();
    sweep_conn_set(&moved.conn, CONN_IDLE, then, then + 40 * MS); /* set without telling anybody */
    assert_true(ended(&later, true));
    assert_true(ended(&moved, true));
    assert_false(ended(&busy, false));
    assert_int_equal(sweep_timeouts(s), 3);
    close_pair(s, &late);
    close_pair(s, &later);
    close_pair(s, &busy);
    close_pair(s, &moved);
    sweep_free(s);
}

/* The peer's end that came with its last bytes is found; not while a request is worked on. */
static void test_vanished(void **state) {
    (void)state;
    struct seen seen;
    struct pair gone, unread, busy;
    struct sweep *s = make(&seen, 20 * MS, -1);
    open_pair(s, &gone, CONN_IDLE, 0, INT64_MAX);
    open_pair(s, &unread, CONN_IDLE, 0, INT64_MAX);
    open_pair(s, &busy, CONN_BUSY, 0, INT64_MAX);
    assert_int_equal(send(unread.peer, "x", 1, 0), 1);
    shutdown(gone.peer, SHUT_WR);
    shutdown(unread.peer, SHUT_WR);
    shutdown(busy.peer, SHUT_WR);
    assert_true(ended(&gone, true));
    assert_false(ended(&unread, false));
    assert_false(ended(&busy, false));
    assert_int_equal(sweep_timeouts(s), 0);
    close_pair(s, &gone);
    close_pair(s, &unread);
    close_pair(s, &busy);
    sweep_free(s);
}

/* Bytes that nobody has read yet: it is we who are late. That is forgiven for a while, not for ever. */
static void test_unread(void **state) {
    (void)state;
    struct seen seen;
    struct pair head, body, sender;
    struct sweep *s = make(&seen, 20 * MS, -1);
    int64_t now = clock_mono_ns(), allowed = 100 * MS;
    open_pair(s, &sender, CONN_SEND, now, INT64_MAX);
    open_pair(s, &head, CONN_HEAD, now, INT64_MAX);
    open_pair(s, &body, CONN_BODY, now, INT64_MAX);
    assert_int_equal(send(sender.peer, "x", 1, 0), 1);
    assert_int_equal(send(head.peer, "x", 1, 0), 1);
    assert_int_equal(send(body.peer, "x", 1, 0), 1);
    now = clock_mono_ns();
    sweep_conn_set(&sender.conn, CONN_SEND, now, now + allowed);
    sweep_conn_set(&head.conn, CONN_HEAD, now, now + allowed);
    sweep_conn_set(&body.conn, CONN_BODY, now, now + allowed);
    assert_true(ended(&sender, true)); /* who should be reading is late whatever it sent */
    assert_true(ended(&head, true) && ended(&body, true));
    assert_true(clock_mono_ns() >= now + 4 * allowed);
    assert_int_equal(sweep_timeouts(s), 3);
    close_pair(s, &sender);
    close_pair(s, &head);
    close_pair(s, &body);
    sweep_free(s);
}

/* Who vanishes in the middle of a body is found in about a second, however long other times are. */
static void test_vanished_in_body(void **state) {
    (void)state;
    struct seen seen;
    struct pair idle, gone;
    struct sweep *s = make(&seen, 3600 * NS_PER_SEC, -1);
    open_pair(s, &idle, CONN_IDLE, 0, INT64_MAX);
    open_pair(s, &gone, CONN_IDLE, 0, INT64_MAX);
    sweep_conn_set(&gone.conn, CONN_BODY, 1, INT64_MAX);
    sweep_watch_body(s, clock_mono_ns());
    shutdown(gone.peer, SHUT_WR);
    assert_true(ended(&gone, true)); /* within the 20 s of the socket */
    assert_false(ended(&idle, false));
    assert_int_equal(sweep_leaving(s), 1);
    close_pair(s, &gone);
    assert_int_equal(sweep_leaving(s), 0);
    close_pair(s, &idle);
    sweep_free(s);
}

static void test_evict(void **state) {
    (void)state;
    struct seen seen;
    struct pair p[6];
    static const struct {
        enum conn_phase phase;
        int64_t since;
    } conns[6] = { { CONN_IDLE, 50 }, { CONN_HEAD, 40 }, { CONN_BUSY, 1 },
                   { CONN_BODY, 2 },  { CONN_SEND, 10 }, { CONN_SEND, 20 } };
    struct sweep *s = make(&seen, 3600 * NS_PER_SEC, -1);
    for (size_t i = 0; i < 6; i++) {
        open_pair(s, &p[i], conns[i].phase, conns[i].since, INT64_MAX);
    }
    assert_true(sweep_evict_idle(s));
    assert_true(ended(&p[1], false));
    assert_false(ended(&p[0], false));
    assert_true(sweep_evict_idle(s));
    assert_true(ended(&p[0], false));
    assert_false(sweep_evict_idle(s));
    assert_int_equal(sweep_leaving(s), 2);
    assert_int_equal(sweep_evict_senders(s, 15), 1);
    assert_true(ended(&p[4], false));
    assert_int_equal(sweep_evict_senders(s, 15), 0);
    assert_false(ended(&p[5], false));
    assert_false(ended(&p[2], false));
    assert_false(ended(&p[3], false));
    for (size_t i = 0; i < 6; i++) {
        close_pair(s, &p[i]);
    }
    sweep_free(s);
}

static void test_listening(void **state) {
    (void)state;
    struct seen seen;
    struct listen_addr a;
    int fd = -1;
    assert_int_equal(listen_parse("127.0.0.1:0", &a, NULL), XT_OK);
    assert_int_equal(listen_open(&a, "x", &fd, NULL), XT_OK);
    struct sweep *s = make(&seen, NS_PER_SEC, fd);
    for (size_t i = 1; i <= 3; i++) {
        int c = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(c, (struct sockaddr *)&a.sa, a.len), 0);
        pthread_mutex_lock(&seen.mu);
        while (seen.accepts < i) {
            pthread_cond_wait(&seen.cv, &seen.mu);
        }
        pthread_mutex_unlock(&seen.mu);
        close(c);
    }
    sweep_stop_listening(s);
    sweep_stop_listening(s);
    int c = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_not_equal(connect(c, (struct sockaddr *)&a.sa, a.len), 0);
    close(c);
    sweep_free(s);
    sweep_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parked),    cmocka_unit_test(test_deadlines),        cmocka_unit_test(test_vanished),
        cmocka_unit_test(test_unread),    cmocka_unit_test(test_vanished_in_body), cmocka_unit_test(test_evict),
        cmocka_unit_test(test_listening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
