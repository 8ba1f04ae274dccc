/* sweep.h -- the one thread that watches the clock, and accepts connections while it is at it.
 *
 * Connections: an event thread says with a few relaxed stores what a connection is at and until when; nothing is locked
 * or queued on that path. The thread looks through all connections when the earliest deadline may have passed, at most
 * every `tick`, and shuts down the sockets that are late, or whose peer has gone unnoticed: the event thread then sees
 * the end of the stream. Bytes that wait to be read are our delay, not the peer's: it is not late then.
 * Parked requests: a list sorted by deadline, each popped on time.
 * It sleeps until the earliest of these; with neither it sleeps for good. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sweep;

enum conn_phase {
    CONN_HEAD, /* a head is expected or arriving */
    CONN_IDLE, /* between requests */
    CONN_BODY, /* a body is arriving */
    CONN_BUSY, /* a request is being worked on: no deadline here */
    CONN_SEND  /* an answer is being sent */
};

struct sweep_conn {
    struct sweep_conn *prev, *next; /* sweep's mutex */
    int fd;                         /* valid while the connection is in the list: sweep's mutex */
    bool killed;                    /* its socket was shut down; sweep's mutex */
    bool ended;                     /* its peer had gone at the last look, in the phase of `ended_since` */
    int64_t ended_since;
    /* A look that is a little old only moves a timeout by a little. */
    _Atomic int phase;
    _Atomic int64_t since;    /* monotonic ns, start of the phase */
    _Atomic int64_t deadline; /* monotonic ns; INT64_MAX: none */
};

struct sweep_park {
    struct sweep_park *prev, *next;
    int64_t at; /* monotonic ns */
    int kind;   /* the owner's: what it waits for */
    bool linked;
};

struct sweep_conf {
    int64_t shortest_ns; /* no deadline of a connection is set less than this ahead */
    int listen_fd;       /* -1: none; closed by sweep_stop_listening or sweep_free, whose it is */
    void (*acceptable)(void *arg, int listen_fd);        /* connections wait to be accepted */
    void (*expired)(void *arg, struct sweep_park *park); /* popped; no lock held */
    void *arg;
};

struct sweep *sweep_new(const struct sweep_conf *conf); /* NULL: no memory, no descriptor */
bool sweep_start(struct sweep *s);                      /* its thread: from now on callbacks come */
/* Stops and joins the thread, if any. Lists must be empty. NULL is fine. */
void sweep_free(struct sweep *s);
/* Closes the listening socket; back when that is done. */
void sweep_stop_listening(struct sweep *s);

/* The connection is watched from sweep_conn_add to sweep_conn_remove; its fd may be closed after the latter. */
void sweep_conn_add(struct sweep *s, struct sweep_conn *c);
void sweep_conn_remove(struct sweep *s, struct sweep_conn *c);
static inline void sweep_conn_set(struct sweep_conn *c, enum conn_phase phase, int64_t now, int64_t deadline) {
    atomic_store_explicit(&c->since, now, memory_order_relaxed);
    atomic_store_explicit(&c->deadline, deadline, memory_order_relaxed);
    atomic_store_explicit(&c->phase, phase, memory_order_release); /* last: who reads it first sees its times */
}
unsigned sweep_leaving(struct sweep *s); /* connections that were shut down and are not removed yet */
/* Shuts down the connection that has been idle or silent for longest. False: all are at work. */
bool sweep_evict_idle(struct sweep *s);
/* A body begins to arrive, whose peer may vanish unnoticed while its bytes count against a budget: looks at the
 * connections at least every BODY_LOOK_NS while there is one. Cheap when that is so already. Any thread. */
void sweep_watch_body(struct sweep *s, int64_t now);
/* Shuts down all that have been sending since before `before`. Returns how many. */
unsigned sweep_evict_senders(struct sweep *s, int64_t before);
uint64_t sweep_timeouts(struct sweep *s); /* connections shut down for being late */

void sweep_park(struct sweep *s, struct sweep_park *p);
/* False: it was popped by the thread (or never linked). */
bool sweep_unpark(struct sweep *s, struct sweep_park *p);
/* Pops any parked one, or NULL: for the stop. */
struct sweep_park *sweep_pop(struct sweep *s);
