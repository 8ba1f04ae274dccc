/* sweep.c -- see sweep.h.
 *
 *  1. mu guards both lists, `next_look`, `wake_at` and the flags. A socket is shut down under it, so never after
 *     sweep_conn_remove: a number that the system gave to somebody else is never hit.
 *  2. Deadlines of connections are read, not queued: a look happens at the earliest one seen, but at most every `tick`,
 *     and at least every `shortest_ns` while there are connections, so that a deadline set after a look is not missed.
 *     While bodies arrive it happens at least every BODY_LOOK_NS: `look_hint` tells event threads whether to ask for it.
 *  3. `expired` and `acceptable` are called without mu. */
#include "http/sweep.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"

#define STACK_BYTES ((size_t)256 << 10)
#define NEVER INT64_MAX
#define BODY_LOOK_NS NS_PER_SEC
#define FORGIVEN 4 /* times its time: what a peer may be late while bytes of it wait to be read */

struct sweep {
    struct sweep_conf conf;
    int64_t tick;
    pthread_t thread;
    int wake_fd;
    pthread_mutex_t mu;
    pthread_cond_t closed; /* listen_fd became -1 */
    struct sweep_conn *conns;
    struct sweep_park *first, *last; /* by `at` */
    int64_t next_look;               /* at the connections; NEVER without any */
    _Atomic int64_t look_hint;       /* the same, relaxed, for who does not hold mu */
    unsigned leaving;                /* killed ones in the list */
    int64_t wake_at;                 /* when the thread will wake up by itself */
    uint64_t timeouts;
    bool started, stopping, close_listener;
};

/* mu held; the thread sleeps longer than until `at`: wake it. */
static void wake_before(struct sweep *s, int64_t at) {
    if (at < s->wake_at) {
        uint64_t one = 1;
        s->wake_at = at;
        while (write(s->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {}
    }
}

/* mu held. */
static void kill_conn(struct sweep *s, struct sweep_conn *c) {
    if (!c->killed) {
        c->killed = true;
        s->leaving++;
        shutdown(c->fd, SHUT_RDWR);
    }
}

/* mu held. */
static void set_next_look(struct sweep *s, int64_t at) {
    s->next_look = at;
    atomic_store_explicit(&s->look_hint, at, memory_order_relaxed);
}

enum input { INPUT_NONE, INPUT_UNREAD, INPUT_ENDED /* and nothing before the end is left */ };

/* What waits to be read of a peer that should be sending. The library does not see an end that came together with the
 * last bytes: it takes a short read for all there was, and the kernel reports an edge once. */
static enum input input_of(const struct sweep_conn *c, int phase) {
    char byte;
    if (phase == CONN_BUSY || phase == CONN_SEND) {
        return INPUT_NONE;
    }
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 ? INPUT_UNREAD : n == 0 ? INPUT_ENDED : INPUT_NONE;
}

/* mu held. Returns when the next look at this one is due; NEVER when it was shut down. */
static int64_t look_at(struct sweep *s, struct sweep_conn *c, int64_t now) {
    int phase = atomic_load_explicit(&c->phase, memory_order_acquire);
    int64_t since = atomic_load_explicit(&c->since, memory_order_relaxed);
    int64_t deadline = atomic_load_explicit(&c->deadline, memory_order_relaxed);
    enum input input = input_of(c, phase);
    bool was_ended = c->ended && c->ended_since == since;
    c->ended = input == INPUT_ENDED;
    c->ended_since = since;
    if (deadline <= now) {
        if (input == INPUT_UNREAD && now - deadline < (deadline - since) * FORGIVEN) {
            return now;
        }
        s->timeouts++;
        kill_conn(s, c);
        return NEVER;
    }
    if (was_ended && c->ended) { /* twice: at first the event thread may have been about to say that all has come */
        kill_conn(s, c);
        return NEVER;
    }
    int64_t body = phase == CONN_BODY ? time_add(now, BODY_LOOK_NS) : NEVER;
    return c->ended ? now : body < deadline ? body : deadline;
}

/* mu held. */
static void look_at_conns(struct sweep *s, int64_t now) {
    int64_t earliest = NEVER;
    for (struct sweep_conn *c = s->conns; c; c = c->next) {
        int64_t at = c->killed ? NEVER : look_at(s, c, now);
        earliest = at < earliest ? at : earliest;
    }
    int64_t soonest = time_add(now, s->tick), latest = time_add(now, s->conf.shortest_ns);
    set_next_look(s, !s->conns ? NEVER : earliest < soonest ? soonest : earliest < latest ? earliest : latest);
}

/* mu held. */
static void unlink_park(struct sweep *s, struct sweep_park *p) {
    *(p->prev ? &p->prev->next : &s->first) = p->next;
    *(p->next ? &p->next->prev : &s->last) = p->prev;
    p->prev = p->next = NULL;
    p->linked = false;
}

/* Does what is due; mu held, released around callbacks. */
static void do_due(struct sweep *s) {
    for (;;) {
        int64_t now = clock_mono_ns();
        struct sweep_park *p = s->first;
        if (p && p->at <= now) {
            unlink_park(s, p);
            pthread_mutex_unlock(&s->mu);
            s->conf.expired(s->conf.arg, p);
            pthread_mutex_lock(&s->mu);
            continue;
        }
        if (s->next_look <= now) {
            look_at_conns(s, now);
        }
        if (s->close_listener && s->conf.listen_fd >= 0) {
            close(s->conf.listen_fd);
            s->conf.listen_fd = -1;
            pthread_cond_broadcast(&s->closed);
        }
        int64_t parked = s->first ? s->first->at : NEVER;
        s->wake_at = parked < s->next_look ? parked : s->next_look;
        return;
    }
}

/* Sleeps until the time or an event. Returns true when connections wait. */
static bool sleep_until(struct sweep *s, int64_t at, int listen_fd) {
    struct pollfd fds[2] = { { .fd = s->wake_fd, .events = POLLIN }, { .fd = listen_fd, .events = POLLIN } };
    int64_t left = at == NEVER ? 0 : at - clock_mono_ns();
    left = left > 0 ? left : 0;
    struct timespec ts = { .tv_sec = (time_t)(left / NS_PER_SEC), .tv_nsec = (long)(left % NS_PER_SEC) };
    if (ppoll(fds, listen_fd >= 0 ? 2 : 1, at == NEVER ? NULL : &ts, NULL) <= 0) {
        return false;
    }
    uint64_t count;
    if (fds[0].revents && read(s->wake_fd, &count, sizeof(count)) < 0) {
        return false; /* nothing to clear: it was a spurious wake-up */
    }
    return listen_fd >= 0 && fds[1].revents;
}

static void *run(void *arg) {
    struct sweep *s = arg;
    pthread_mutex_lock(&s->mu);
    while (!s->stopping) {
        do_due(s);
        int64_t at = s->wake_at;
        int listen_fd = s->conf.listen_fd;
        if (s->stopping) {
            break;
        }
        pthread_mutex_unlock(&s->mu);
        if (sleep_until(s, at, listen_fd)) {
            s->conf.acceptable(s->conf.arg, listen_fd);
        }
        pthread_mutex_lock(&s->mu);
    }
    pthread_mutex_unlock(&s->mu);
    return NULL;
}

bool sweep_start(struct sweep *s) {
    pthread_attr_t attr;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all); /* signals are the main thread's business */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    s->started = pthread_create(&s->thread, &attr, run, s) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (s->started) {
        pthread_setname_np(s->thread, "xt-sweep");
    }
    return s->started;
}

struct sweep *sweep_new(const struct sweep_conf *conf) {
    struct sweep *s = alloc_should_fail() ? NULL : calloc(1, sizeof(*s));
    if (!s) {
        return NULL;
    }
    s->conf = *conf;
    s->tick = conf->shortest_ns / 20 > 5000000 ? conf->shortest_ns / 20 : 5000000;
    s->tick = s->tick < NS_PER_SEC ? s->tick : NS_PER_SEC;
    s->wake_at = NEVER;
    set_next_look(s, NEVER);
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->closed, NULL);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake_fd < 0) {
        s->conf.listen_fd = -1; /* still the caller's */
        sweep_free(s);
        return NULL;
    }
    return s;
}

void sweep_free(struct sweep *s) {
    if (!s) {
        return;
    }
    if (s->started) {
        pthread_mutex_lock(&s->mu);
        s->stopping = true;
        wake_before(s, INT64_MIN);
        pthread_mutex_unlock(&s->mu);
        pthread_join(s->thread, NULL);
    }
    if (s->conf.listen_fd >= 0) {
        close(s->conf.listen_fd);
    }
    if (s->wake_fd >= 0) {
        close(s->wake_fd);
    }
    pthread_cond_destroy(&s->closed);
    pthread_mutex_destroy(&s->mu);
    free(s);
}

void sweep_stop_listening(struct sweep *s) {
    pthread_mutex_lock(&s->mu);
    s->close_listener = true;
    wake_before(s, INT64_MIN);
    while (s->conf.listen_fd >= 0) {
        pthread_cond_wait(&s->closed, &s->mu);
    }
    pthread_mutex_unlock(&s->mu);
}

void sweep_conn_add(struct sweep *s, struct sweep_conn *c) {
    pthread_mutex_lock(&s->mu);
    c->prev = NULL;
    c->next = s->conns;
    if (c->next) {
        c->next->prev = c;
    }
    s->conns = c;
    if (s->next_look == NEVER) {
        set_next_look(s, time_add(clock_mono_ns(), s->conf.shortest_ns));
        wake_before(s, s->next_look);
    }
    pthread_mutex_unlock(&s->mu);
}

void sweep_conn_remove(struct sweep *s, struct sweep_conn *c) {
    pthread_mutex_lock(&s->mu);
    *(c->prev ? &c->prev->next : &s->conns) = c->next;
    if (c->next) {
        c->next->prev = c->prev;
    }
    s->leaving -= c->killed;
    pthread_mutex_unlock(&s->mu);
}

void sweep_watch_body(struct sweep *s, int64_t now) {
    int64_t at = time_add(now, BODY_LOOK_NS);
    if (atomic_load_explicit(&s->look_hint, memory_order_relaxed) <= at) {
        return;
    }
    pthread_mutex_lock(&s->mu);
    if (s->next_look > at) {
        set_next_look(s, at);
        wake_before(s, at);
    }
    pthread_mutex_unlock(&s->mu);
}

unsigned sweep_leaving(struct sweep *s) {
    pthread_mutex_lock(&s->mu);
    unsigned n = s->leaving;
    pthread_mutex_unlock(&s->mu);
    return n;
}

bool sweep_evict_idle(struct sweep *s) {
    struct sweep_conn *oldest = NULL;
    int64_t since = NEVER;
    pthread_mutex_lock(&s->mu);
    for (struct sweep_conn *c = s->conns; c; c = c->next) {
        int phase = atomic_load_explicit(&c->phase, memory_order_acquire);
        int64_t began = atomic_load_explicit(&c->since, memory_order_relaxed);
        if (!c->killed && (phase == CONN_HEAD || phase == CONN_IDLE) && began < since) {
            oldest = c;
            since = began;
        }
    }
    if (oldest) {
        kill_conn(s, oldest);
    }
    pthread_mutex_unlock(&s->mu);
    return oldest != NULL;
}

unsigned sweep_evict_senders(struct sweep *s, int64_t before) {
    unsigned n = 0;
    pthread_mutex_lock(&s->mu);
    for (struct sweep_conn *c = s->conns; c; c = c->next) {
        if (!c->killed && atomic_load_explicit(&c->phase, memory_order_acquire) == CONN_SEND &&
            atomic_load_explicit(&c->since, memory_order_relaxed) < before) {
            kill_conn(s, c);
            s->timeouts++;
            n++;
        }
    }
    pthread_mutex_unlock(&s->mu);
    return n;
}

uint64_t sweep_timeouts(struct sweep *s) {
    pthread_mutex_lock(&s->mu);
    uint64_t n = s->timeouts;
    pthread_mutex_unlock(&s->mu);
    return n;
}

void sweep_park(struct sweep *s, struct sweep_park *p) {
    pthread_mutex_lock(&s->mu);
    struct sweep_park *after = s->last; /* usual: the newest has the latest deadline */
    while (after && after->at > p->at) {
        after = after->prev;
    }
    p->prev = after;
    p->next = after ? after->next : s->first;
    *(p->prev ? &p->prev->next : &s->first) = p;
    *(p->next ? &p->next->prev : &s->last) = p;
    p->linked = true;
    wake_before(s, p->at);
    pthread_mutex_unlock(&s->mu);
}

bool sweep_unpark(struct sweep *s, struct sweep_park *p) {
    pthread_mutex_lock(&s->mu);
    bool was = p->linked;
    if (was) {
        unlink_park(s, p);
    }
    pthread_mutex_unlock(&s->mu);
    return was;
}

struct sweep_park *sweep_pop(struct sweep *s) {
    pthread_mutex_lock(&s->mu);
    struct sweep_park *p = s->first;
    if (p) {
        unlink_park(s, p);
    }
    pthread_mutex_unlock(&s->mu);
    return p;
}
