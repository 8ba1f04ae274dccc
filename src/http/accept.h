/* accept.h -- new connections and their limit. On the sweep thread, but for accept_started. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct http_core;

struct acceptor {
    struct http_core *core;
    /* Hands the socket to an event thread, or closes it. False: closed. */
    bool (*add)(void *arg, int fd, const struct sockaddr *sa, socklen_t len);
    void *arg;
    int spare_fd;            /* given up for a moment when descriptors have run out; -1: none */
    int64_t last;            /* monotonic ns of the last one */
    _Atomic int64_t pending; /* handed over, not yet started; relaxed: a count */
};

void accept_init(struct acceptor *a);
void accept_done(struct acceptor *a);
/* Takes what waits at the listening socket, a bounded number. At the limit the connection that has been idle for
 * longest makes room; when all are at work the new one is closed. */
void accept_ready(struct acceptor *a, int listen_fd);
/* Event thread: one that was handed over has begun. */
void accept_started(struct acceptor *a);
