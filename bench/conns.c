/* conns.c -- see conns.h. */
#include "conns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)32 << 20)
#define ANSWERS_WAIT (15 * NS) /* for the last answers */
#define UPDATE_LAG 2000        /* bodies: what is completed was created two to four seconds ago at full rate */

static int64_t now_mono(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(struct load *l, const char *what, const char *detail) {
    if (!l->failed)
        fprintf(stderr, "load: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    l->failed = true;
}

/* ---- requests ---- */

static void make_body(struct load *l, struct conn *c) {
    uint64_t body = l->next_body++;
    c->text = NULL;
    c->text_n = 0;
    if (c->mode >= READS)
        return;
    if (c->mode >= POINTS_50) {
        samples_fill(&c->samples, &l->reader.shape, body);
        c->text = c->samples.p;
        c->text_n = c->samples.n;
    } else {
        uint64_t lag = body / 2 < UPDATE_LAG ? body / 2 : UPDATE_LAG;
        template_fill(&c->body, &l->reader.shape, &l->words, body, body - lag);
        c->text = c->body.p;
        c->text_n = c->body.n;
    }
    l->body_bytes = c->text_n;
}

static void make_head(struct load *l, struct conn *c) {
    const struct mode_row *m = &modes[c->mode];
    char tail[256] = "", length[96] = "";
    if (m->type)
        snprintf(length, sizeof length, "Content-Type: %s\r\nContent-Length: %zu\r\n", m->type, c->text_n);
    else if (!request_tail(&l->reader, c->mode, tail, sizeof tail))
        fail(l, "nothing is stored for", m->name);
    int n =
        snprintf(c->head, sizeof c->head, "%s %s%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n",
                 m->type ? "POST" : "GET", m->path, tail, l->o.token, length);
    c->head_n = n > 0 && (size_t)n < sizeof c->head ? (size_t)n : 0;
    if (c->head_n == 0)
        fail(l, "the token is too long", NULL);
}

static void want(struct load *l, struct conn *c, bool out) {
    if (c->waits_to_send == out)
        return;
    struct epoll_event e = { .events = EPOLLIN | (out ? EPOLLOUT : 0U), .data.ptr = c };
    epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &e);
    c->waits_to_send = out;
}

static void send_more(struct load *l, struct conn *c) {
    size_t all = c->head_n + c->text_n;
    while (c->sent < all && !l->failed) {
        struct iovec v[2] = { { c->head, c->head_n }, { (void *)(uintptr_t)c->text, c->text_n } };
        struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
        if (c->sent < c->head_n) {
            v[0] = (struct iovec){ c->head + c->sent, c->head_n - c->sent };
        } else {
            v[0] = (struct iovec){ (void *)(uintptr_t)(c->text + (c->sent - c->head_n)), all - c->sent };
            m.msg_iovlen = 1;
        }
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            want(l, c, true);
            return;
        }
        if (n < 0) {
            fail(l, "send", strerror(errno));
            return;
        }
        c->sent += (size_t)n;
    }
    want(l, c, false);
}

static void start_request(struct load *l, struct conn *c, int64_t due) {
    c->mode = l->o.modes[l->sent_requests++ % l->o.nmodes];
    make_body(l, c);
    make_head(l, c);
    c->sent = c->in_n = 0;
    c->started = due ? due : now_mono();
    l->under_way++;
    send_more(l, c);
}

static bool over(const struct load *l, int64_t now) {
    return now >= l->end || (l->o.requests && l->sent_requests >= l->o.requests);
}

/* Free connections take what is due. */
static void start_due(struct load *l) {
    int64_t now = now_mono(), step = (int64_t)((double)modes[l->o.modes[0]].records * (double)NS / l->o.rate);
    while (l->nidle && l->due <= now && !over(l, now) && !l->failed) {
        struct conn *c = l->idle[l->idle_first];
        l->idle_first = (l->idle_first + 1) % CONNS_MAX;
        l->nidle--;
        start_request(l, c, l->due);
        l->due += step;
    }
    struct itimerspec t = { .it_value = { l->due / NS, l->due % NS } };
    timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

static void next_request(struct load *l, struct conn *c) {
    if (l->o.rate > 0)
        l->idle[(l->idle_first + l->nidle++) % CONNS_MAX] = c;
    else if (!over(l, now_mono()))
        start_request(l, c, 0);
}

/* ---- answers ---- */

/* Bytes of the whole answer, 0: not known yet. Chunked answers end where their last chunk does: the connection carries
 * nothing after it, because nothing more was asked. */
static size_t answer_size(const struct conn *c) {
    const char *end = c->in_n ? memmem(c->in, c->in_n, "\r\n\r\n", 4) : NULL;
    if (!end)
        return 0;
    size_t head = (size_t)(end - c->in) + 4;
    const char *length = memmem(c->in, head, "\r\nContent-Length: ", 18);
    if (length)
        return head + strtoull(length + 18, NULL, 10);
    if (memmem(c->in, head, "\r\nTransfer-Encoding: chunked", 28))
        return c->in_n > head + 4 && memcmp(c->in + c->in_n - 5, "0\r\n\r\n", 5) == 0 ? c->in_n : 0;
    return head;
}

static void answered(struct load *l, struct conn *c) {
    int64_t now = now_mono();
    int status = c->in_n > 12 && memcmp(c->in, "HTTP/1.1 ", 9) == 0 ? (int)strtol(c->in + 9, NULL, 10) : 0;
    l->under_way--;
    if (status < 100 || status >= STATUSES) {
        fail(l, "an answer is no HTTP/1.1", NULL);
        return;
    }
    if (now >= l->count_from && (now < l->end || c->mode >= READS)) {
        struct tally *t = &l->tallies[c->mode];
        t->statuses[status]++;
        t->bytes_in += c->in_n;
        t->empty += c->mode >= READS && memmem(c->in, c->in_n, "\"data\":[]", 9) != NULL;
        if (status == 200)
            histogram_add(&t->h, now - c->started);
        l->last = now;
    }
    int64_t second = (now - l->start) / NS;
    if (status == 200 && second < SECONDS_MAX)
        l->by_second[second]++;
    l->acked += status == 200;
    next_request(l, c);
}

static void receive(struct load *l, struct conn *c) {
    if (c->in_cap - c->in_n < 65536) {
        c->in_cap = c->in_cap * 2 + 65536;
        c->in = need(realloc(c->in, c->in_cap));
    }
    ssize_t n = recv(c->fd, c->in + c->in_n, c->in_cap - c->in_n - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        fail(l, "the server closed a connection", n < 0 ? strerror(errno) : NULL);
        return;
    }
    c->in_n += (size_t)n;
    c->in[c->in_n] = '\0';
    size_t size = answer_size(c);
    if (size && c->in_n >= size)
        answered(l, c);
    else if (c->in_n > ANSWER_MAX)
        fail(l, "an answer is too long", NULL);
}

/* ---- the run ---- */

static void make_template(struct load *l, struct conn *c) {
    switch (l->o.modes[0]) {
    case NATIVE: build_native(&c->body, l->o.size, false); break;
    case UPDATES_TOO: build_native(&c->body, l->o.size, true); break;
    case LONE: build_lone(&c->body, l->o.size); break;
    case AGENT: build_agent(&c->body, l->o.size); break;
    case OTLP: build_otlp(&c->body, l->o.size); break;
    case POINTS_50: samples_make(&c->samples, SAMPLES_50, l->reader.samples_ns); break;
    case POINTS_1600: samples_make(&c->samples, SAMPLES_1600, l->reader.samples_ns); break;
    case POINTS_5000: samples_make(&c->samples, SAMPLES_5000, l->reader.samples_ns); break;
    case POINTS_ONCE: samples_make(&c->samples, SAMPLES_ONCE, l->reader.samples_ns); break;
    default: break;
    }
}

static void open_conn(struct load *l, struct conn *c) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)l->o.port) };
    int one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0) {
        fail(l, "connect", strerror(errno));
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    make_template(l, c);
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e);
}

/* The timer and SIGTERM; events of connections carry the connection. */
static void watch_others(struct load *l) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    struct epoll_event timer = { .events = EPOLLIN, .data.ptr = &l->timer };
    struct epoll_event signals = { .events = EPOLLIN, .data.ptr = &l->signals };
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->timer, &timer) != 0 ||
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->signals, &signals) != 0)
        fail(l, "epoll", strerror(errno));
}

bool load_open(struct load *l) {
    l->conns = need(calloc((size_t)l->o.conns, sizeof *l->conns));
    l->tallies = need(calloc(MODES, sizeof *l->tallies));
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    watch_others(l);
    l->next_body = l->o.first;
    if (l->o.modes[0] < POINTS_50)
        words_make(&l->words, l->reader.shape.seed);
    for (int i = 0; i < l->o.conns && !l->failed; i++)
        open_conn(l, &l->conns[i]);
    return !l->failed;
}

static void handle(struct load *l, const struct epoll_event *e) {
    struct conn *c = e->data.ptr;
    uint64_t times;
    if (e->data.ptr == &l->timer) {
        if (read(l->timer, &times, sizeof times) < 0 && errno != EAGAIN)
            fail(l, "timer", strerror(errno));
        return;
    }
    if (e->data.ptr == &l->signals) {
        struct signalfd_siginfo info;
        l->stop = read(l->signals, &info, sizeof info) > 0;
        return;
    }
    if (e->events & EPOLLOUT)
        send_more(l, c);
    if (e->events & ~(uint32_t)EPOLLOUT)
        receive(l, c);
}

bool load_run(struct load *l) {
    struct epoll_event events[64];
    l->cpu_before = cpu_seconds();
    l->start = l->due = now_mono();
    l->count_from = l->start + (int64_t)(l->o.warm * (double)NS);
    l->end = l->count_from + (int64_t)(l->o.seconds * (double)NS);
    for (int i = 0; i < l->o.conns && !l->failed; i++)
        next_request(l, &l->conns[i]);
    while (!l->failed) {
        if (l->o.rate > 0)
            start_due(l);
        int64_t now = now_mono();
        if (l->stop && l->end > now)
            l->end = now > l->count_from ? now : l->count_from + 1;
        int64_t left = l->end + ANSWERS_WAIT - now;
        if (l->under_way == 0 && over(l, now))
            break;
        if (left <= 0)
            fail(l, "answers are missing", NULL);
        int n = left > 0 ? epoll_wait(l->epoll, events, 64, (int)(left / 1000000) + 1) : 0;
        for (int i = 0; i < n && !l->failed; i++)
            handle(l, &events[i]);
    }
    return !l->failed;
}

void load_close(struct load *l) {
    for (int i = 0; i < l->o.conns; i++) {
        struct conn *c = &l->conns[i];
        if (c->fd > 0)
            close(c->fd);
        template_free(&c->body);
        samples_free(&c->samples);
        free(c->in);
    }
    free(l->conns);
    free(l->tallies);
    words_free(&l->words);
    close(l->epoll);
    close(l->timer);
    close(l->signals);
}
