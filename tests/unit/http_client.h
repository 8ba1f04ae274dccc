/* http_client.h -- a blocking HTTP client for the tests of the server: raw bytes out, one parsed answer in. */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CLIENT_ROOM ((size_t)1 << 16)

struct client {
    int fd;
    size_t n; /* bytes read and not yet used */
    char in[CLIENT_ROOM];
};

struct answer {
    int status; /* 0: the connection ended before one; -1: time-out */
    char head[4096];
    size_t body_n;
    char body[CLIENT_ROOM];
};

/* Waits at most this long for anything: a test that hangs fails. */
#define CLIENT_WAIT_S 60

static inline bool client_open(struct client *c, unsigned port) {
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    struct timeval tv = { .tv_sec = CLIENT_WAIT_S };
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->n = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    return connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

static inline void client_close(struct client *c) {
    if (c->fd >= 0) {
        close(c->fd);
    }
    c->fd = -1;
}

/* Ends the connection with a reset. */
static inline void client_reset(struct client *c) {
    struct linger l = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    client_close(c);
}

static inline bool client_send(struct client *c, const char *p, size_t n) {
    while (n > 0) {
        ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            return false;
        }
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static inline bool client_text(struct client *c, const char *text) { return client_send(c, text, strlen(text)); }

/* 1: more came; 0: the end; -1: time-out. */
static inline int client_more(struct client *c) {
    ssize_t k = recv(c->fd, c->in + c->n, sizeof(c->in) - c->n, 0);
    if (k > 0) {
        c->n += (size_t)k;
        return 1;
    }
    return k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? -1 : 0;
}

/* Value of a header of the answer, or NULL. Copied into `out`. */
static inline const char *answer_header(const struct answer *a, const char *name, char out[256]) {
    size_t n = strlen(name);
    for (const char *line = strstr(a->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':') {
            const char *v = line + 2 + n + 1 + strspn(line + 2 + n + 1, " ");
            snprintf(out, 256, "%.*s", (int)strcspn(v, "\r"), v);
            return out;
        }
    }
    return NULL;
}

/* Reads one answer; no_body for the answer to a HEAD. Bodies beyond CLIENT_ROOM are not for this. */
static inline void client_answer(struct client *c, struct answer *a, bool no_body) {
    char *end;
    int more = 1;
    a->status = 0;
    a->body_n = 0;
    a->head[0] = '\0';
    while (!(end = memmem(c->in, c->n, "\r\n\r\n", 4)) && (more = client_more(c)) > 0) {}
    if (!end) {
        a->status = more;
        return;
    }
    size_t head_n = (size_t)(end - c->in) + 4, body_n = 0;
    snprintf(a->head, sizeof(a->head), "%.*s", (int)head_n, c->in);
    int status = sscanf(a->head, "HTTP/1.%*d %d", &status) == 1 ? status : -2;
    char value[256];
    if (!no_body && status != 100 && answer_header(a, "Content-Length", value)) {
        body_n = strtoul(value, NULL, 10);
    }
    while (c->n < head_n + body_n && (more = client_more(c)) > 0) {}
    if (c->n < head_n + body_n) {
        a->status = more;
        return;
    }
    memcpy(a->body, c->in + head_n, body_n);
    a->body[body_n] = '\0';
    a->body_n = body_n;
    memmove(c->in, c->in + head_n + body_n, c->n - head_n - body_n);
    c->n -= head_n + body_n;
    a->status = status;
}

/* Sends a request and reads its answer. */
static inline int client_ask(struct client *c, struct answer *a, const char *request) {
    a->status = 0;
    if (client_text(c, request)) {
        client_answer(c, a, strncmp(request, "HEAD ", 5) == 0);
    }
    return a->status;
}

/* True when the peer has ended the connection (what it still sent is dropped). */
static inline bool client_ended(struct client *c) {
    int more;
    do {
        c->n = 0;
    } while ((more = client_more(c)) > 0);
    return more == 0;
}
