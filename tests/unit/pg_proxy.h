/* pg_proxy.h -- a network between a test and its PostgreSQL server that can hang, fall silent, and break: a thread that
 * forwards bytes on a loopback port. */
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

enum proxy_mode {
    PROXY_PASS,
    PROXY_HANG, /* nothing goes through in either direction; connections are accepted */
    PROXY_MUTE, /* what the server says is held back */
    PROXY_CUT   /* every connection is closed at once */
};
#define PROXY_PAIRS 32
struct pg_proxy {
    int listener, port, server_port;
    _Atomic int mode;
    _Atomic long cut_after; /* bytes from clients until the connection breaks; < 0: never */
    _Atomic int mute_then;  /* at that point, instead of a break: this mode */
    _Atomic bool stop;
    pthread_t thread;
    int pairs[PROXY_PAIRS][2]; /* client, server; -1: free */
};

static inline void proxy_close(struct pg_proxy *p, int i) {
    for (int k = 0; k < 2; k++)
        if (p->pairs[i][k] >= 0)
            close(p->pairs[i][k]), p->pairs[i][k] = -1;
}
static inline void proxy_accept(struct pg_proxy *p) {
    int client = accept(p->listener, NULL, NULL), one = 1;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)p->server_port) };
    if (client < 0)
        return;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int i = 0; i < PROXY_PAIRS; i++)
        if (p->pairs[i][0] < 0 && connect(server, (struct sockaddr *)&to, sizeof to) == 0) {
            p->pairs[i][0] = client;
            p->pairs[i][1] = server;
            return;
        }
    close(client), close(server);
}
/* False: the pair is to be closed. */
static inline bool proxy_forward(struct pg_proxy *p, int i, int from) {
    char data[16384];
    ssize_t n = read(p->pairs[i][from], data, sizeof data);
    if (n <= 0)
        return false;
    long left = atomic_load(&p->cut_after);
    if (from == 0 && left >= 0) {
        bool over = n >= left;
        if (over)
            n = left;
        atomic_store(&p->cut_after, over ? -1 : left - n);
        if (n > 0 && send(p->pairs[i][1], data, (size_t)n, MSG_NOSIGNAL) != n)
            return false;
        if (over)
            atomic_store(&p->mode, atomic_load(&p->mute_then));
        return !over || atomic_load(&p->mute_then) != PROXY_PASS;
    }
    return send(p->pairs[i][1 - from], data, (size_t)n, MSG_NOSIGNAL) == n;
}
static inline void *proxy_main(void *arg) {
    struct pg_proxy *p = arg;
    while (!atomic_load(&p->stop)) {
        struct pollfd fds[1 + 2 * PROXY_PAIRS];
        int mode = atomic_load(&p->mode);
        fds[0] = (struct pollfd){ .fd = p->listener, .events = POLLIN };
        for (int i = 0; i < PROXY_PAIRS; i++) {
            if (mode == PROXY_CUT)
                proxy_close(p, i);
            fds[1 + 2 * i] = (struct pollfd){ .fd = mode == PROXY_HANG ? -1 : p->pairs[i][0], .events = POLLIN };
            fds[2 + 2 * i] = (struct pollfd){ .fd = mode == PROXY_PASS ? p->pairs[i][1] : -1, .events = POLLIN };
        }
        if (poll(fds, 1 + 2 * PROXY_PAIRS, 5) <= 0)
            continue;
        for (int i = 0; i < PROXY_PAIRS; i++)
            for (int k = 0; k < 2; k++)
                if (p->pairs[i][k] >= 0 && fds[1 + 2 * i + k].revents && atomic_load(&p->mode) == mode &&
                    !proxy_forward(p, i, k))
                    proxy_close(p, i);
        if (fds[0].revents)
            proxy_accept(p);
    }
    for (int i = 0; i < PROXY_PAIRS; i++)
        proxy_close(p, i);
    return NULL;
}
static inline bool proxy_start(struct pg_proxy *p, int server_port) {
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t size = sizeof at;
    memset(p, 0, sizeof *p);
    memset(p->pairs, -1, sizeof p->pairs);
    atomic_store(&p->cut_after, -1);
    p->server_port = server_port;
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(p->listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(p->listener, 64) != 0 ||
        getsockname(p->listener, (struct sockaddr *)&at, &size) != 0)
        return false;
    p->port = ntohs(at.sin_port);
    return pthread_create(&p->thread, NULL, proxy_main, p) == 0;
}
static inline void proxy_end(struct pg_proxy *p) {
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    close(p->listener);
}
