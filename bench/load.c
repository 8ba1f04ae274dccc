/* load.c -- load generator: keeps N connections busy with one kind of request and says how many records a second were
 * acknowledged and how long each answer took. `bench/run` drives it; alone:
 *
 *   load --port P --token T --mode MODE [--conns 32] [--seconds 8] [--warm 2] [--size 600] [--ids FILE] [--seed N]
 *
 *  1. One thread, one epoll loop, blocking on nothing else. A connection has one request under way; the next one is sent
 *     when the answer was read to its end (a closed loop: waiting callers send no more).
 *  2. Bodies are prepared (bodies.h); a request that is sent differs from all others in its ids.
 *  3. What is answered during the warm-up, and the last answers after the end, are not counted.
 *  4. Writing modes leave ids of acknowledged traces in --ids; reading modes ask for these.
 * Prints one line of JSON. Exit 1: the server went away, or an answer was no HTTP. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bodies.h"

#define CONNS_MAX 1024
#define ANSWER_MAX ((size_t)32 << 20)
#define KEPT_IDS 65536
#define STATUSES 600
#define NS 1000000000LL
#define ANSWERS_WAIT (10 * NS) /* for the last answers */

enum mode { NATIVE, LONE, OTLP, METRICS, METRICS_ONCE, TRACE, LIST, USER, DAILY, QUERY, NAMES, HEALTH, MODES };
static const struct mode_row {
    const char *name, *path, *type;
    unsigned records; /* of one request */
    bool ids;         /* needs ids of traces that exist */
} modes[MODES] = {
    [NATIVE] = { "native", "/v1/l/batch", "application/json", TRACES *OBSERVATIONS_EACH, false },
    [LONE] = { "lone", "/v1/l/batch", "application/json", 1, false },
    [OTLP] = { "otlp", "/v1/traces", "application/x-protobuf", TRACES *OBSERVATIONS_EACH, false },
    [METRICS] = { "metrics", "/v1/metrics/batch", "application/json", POINTS, false },
    [METRICS_ONCE] = { "metrics-once", "/v1/metrics/batch", "application/json", POINTS, false },
    [TRACE] = { "trace", "/api/public/traces/", NULL, 1, true },
    [LIST] = { "list", "/api/public/traces?limit=50", NULL, 1, false },
    [USER] = { "user", "/api/public/traces?limit=50&userId=user-", NULL, 1, false },
    [DAILY] = { "daily", "/api/public/metrics/daily", NULL, 1, false },
    [QUERY] = { "query", "/api/public/metrics/query?name=gpu_utilization&agg=avg&step=1m&group_by=node_id", NULL, 1,
                false },
    [NAMES] = { "names", "/api/public/metrics/names", NULL, 1, false },
    [HEALTH] = { "healthz", "/healthz", NULL, 1, false },
};

struct options {
    enum mode mode;
    int port, conns;
    double seconds, warm;
    size_t size;
    const char *token, *ids;
    uint64_t seed;
};

struct conn {
    int fd;
    struct template body;
    struct fresh fresh;
    char head[1024];
    size_t head_n, sent; /* sent: of head and body together */
    char *in;
    size_t in_n, in_cap;
    int64_t started;
    bool waits_to_send; /* EPOLLOUT is on */
};

/* Latencies in buckets of 2 to 3 %: 32 for each power of two of nanoseconds. */
struct histogram {
    uint64_t count[64 * 64], n;
    int64_t max;
};

struct load {
    struct options o;
    int epoll;
    struct conn *conns;
    struct histogram h;
    uint64_t statuses[STATUSES], bytes_out, bytes_in;
    char (*ids)[UUID_TEXT + 1]; /* a ring when writing, a list when reading */
    size_t nids, seen_ids;
    uint64_t acked; /* all 200s, the warm-up's too */
    int64_t count_from, end;
    int under_way; /* requests without their answer */
    bool failed;
};

static int64_t now_mono(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static int64_t now_wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void fail(struct load *l, const char *what, const char *detail) {
    if (!l->failed)
        fprintf(stderr, "load: %s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    l->failed = true;
}

/* ---- histogram ---- */

static void histogram_add(struct histogram *h, int64_t ns) {
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    unsigned shift = v < 64 ? 0 : 58U - (unsigned)__builtin_clzll(v); /* v >> shift is in 32..63 and 6 bits */
    unsigned bucket = shift * 64 + (unsigned)(v >> shift & 63);
    h->count[bucket < 4096 ? bucket : 4095]++;
    h->n++;
    if (ns > h->max)
        h->max = ns;
}

/* The upper end of the bucket in which the share lies, in milliseconds. */
static double histogram_at(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->n), seen = 0;
    for (unsigned b = 0; b < 4096; b++) {
        seen += h->count[b];
        if (h->count[b] && seen > wanted)
            return (double)((uint64_t)(b % 64 + 1) << (b / 64)) / 1e6;
    }
    return (double)h->max / 1e6;
}

/* ---- ids of traces ---- */

static void ids_keep(struct load *l, const struct fresh *f) {
    put_uuid(l->ids[l->seen_ids++ % KEPT_IDS], f->id[l->o.mode == LONE ? 0 : rng() % TRACES]);
    l->nids = l->seen_ids < KEPT_IDS ? l->seen_ids : KEPT_IDS;
}

static bool ids_save(const struct load *l) {
    FILE *f = fopen(l->o.ids, "w");
    for (size_t i = 0; f && i < l->nids; i++)
        fprintf(f, "%s\n", l->ids[i]);
    return f && fclose(f) == 0;
}

static void ids_load(struct load *l) {
    FILE *f = l->o.ids ? fopen(l->o.ids, "r") : NULL;
    char line[80];
    while (f && l->nids < KEPT_IDS && fgets(line, sizeof line, f))
        if (strlen(line) == UUID_TEXT + 1)
            memcpy(l->ids[l->nids++], line, UUID_TEXT);
    if (f)
        fclose(f);
    if (l->nids == 0)
        fail(l, "no ids to read", l->o.ids);
}

/* ---- requests ---- */

static void make_head(struct load *l, struct conn *c) {
    const struct mode_row *m = &modes[l->o.mode];
    char more[64] = "", length[96] = "";
    if (l->o.mode == TRACE)
        snprintf(more, sizeof more, "%s", l->ids[rng() % l->nids]);
    else if (l->o.mode == USER)
        snprintf(more, sizeof more, "%04u", (unsigned)(rng() % USERS));
    if (m->type)
        snprintf(length, sizeof length, "Content-Type: %s\r\nContent-Length: %zu\r\n", m->type, c->body.n);
    int n =
        snprintf(c->head, sizeof c->head, "%s %s%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n",
                 m->type ? "POST" : "GET", m->path, more, l->o.token, length);
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
    size_t all = c->head_n + c->body.n;
    while (c->sent < all && !l->failed) {
        struct iovec v[2] = { { c->head, c->head_n }, { c->body.p, c->body.n } };
        struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
        if (c->sent < c->head_n) {
            v[0] = (struct iovec){ c->head + c->sent, c->head_n - c->sent };
        } else {
            v[0] = (struct iovec){ c->body.p + (c->sent - c->head_n), all - c->sent };
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

static void next_request(struct load *l, struct conn *c) {
    if (modes[l->o.mode].type)
        refresh(&c->body, &c->fresh, now_wall());
    make_head(l, c);
    c->sent = c->in_n = 0;
    c->started = now_mono();
    l->under_way++;
    send_more(l, c);
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
    l->under_way--;
    int status = c->in_n > 12 && memcmp(c->in, "HTTP/1.1 ", 9) == 0 ? (int)strtol(c->in + 9, NULL, 10) : 0;
    if (status < 100 || status >= STATUSES) {
        fail(l, "an answer is no HTTP/1.1", NULL);
        return;
    }
    if (now >= l->count_from && now < l->end) {
        l->statuses[status]++;
        l->bytes_out += c->head_n + c->body.n;
        l->bytes_in += c->in_n;
        if (status == 200)
            histogram_add(&l->h, now - c->started);
    }
    l->acked += status == 200;
    if (status == 200 && l->o.mode <= OTLP)
        ids_keep(l, &c->fresh);
    if (now < l->end)
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

static void open_conn(struct load *l, struct conn *c, unsigned number) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)l->o.port) };
    int one = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0) {
        fail(l, "connect", strerror(errno));
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    switch (l->o.mode) {
    case NATIVE: build_native(&c->body, l->o.size); break;
    case LONE: build_lone(&c->body, l->o.size); break;
    case OTLP: build_otlp(&c->body, l->o.size); break;
    case METRICS: build_metrics(&c->body, false, number); break;
    case METRICS_ONCE: build_metrics(&c->body, true, number); break;
    default: break;
    }
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e);
}

static void run(struct load *l) {
    int64_t start = now_mono();
    l->count_from = start + (int64_t)(l->o.warm * (double)NS);
    l->end = l->count_from + (int64_t)(l->o.seconds * (double)NS);
    for (int i = 0; i < l->o.conns && !l->failed; i++)
        next_request(l, &l->conns[i]);
    struct epoll_event events[64];
    while (!l->failed && l->under_way > 0) {
        int64_t left = l->end + ANSWERS_WAIT - now_mono();
        if (left <= 0)
            fail(l, "answers are missing", NULL);
        int n = left > 0 ? epoll_wait(l->epoll, events, 64, (int)(left / 1000000) + 1) : 0;
        for (int i = 0; i < n && !l->failed; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                send_more(l, c);
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                receive(l, c);
        }
    }
}

static void report(const struct load *l) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double cpu =
        (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    double good = (double)l->h.n;
    printf("{\"mode\":\"%s\",\"conns\":%d,\"seconds\":%.2f,\"requests\":%llu,\"acked_records\":%llu,\"per_second\":%."
           "0f,\"records_per_"
           "second\":%.0f,"
           "\"body\":%zu,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"answer_bytes\":%.0f,\"cpu\":"
           "%.2f,\"statuses\":{",
           modes[l->o.mode].name, l->o.conns, l->o.seconds, (unsigned long long)l->h.n,
           (unsigned long long)l->acked * modes[l->o.mode].records, good / l->o.seconds,
           good * modes[l->o.mode].records / l->o.seconds, l->conns[0].body.n, histogram_at(&l->h, 0.5),
           histogram_at(&l->h, 0.9), histogram_at(&l->h, 0.99), (double)l->h.max / 1e6,
           l->h.n ? (double)l->bytes_in / good : 0, cpu);
    const char *comma = "";
    for (int i = 0; i < STATUSES; i++)
        if (l->statuses[i]) {
            printf("%s\"%d\":%llu", comma, i, (unsigned long long)l->statuses[i]);
            comma = ",";
        }
    puts("}}");
}

/* ---- the command line ---- */

static bool set_mode(struct options *o, const char *name) {
    for (int i = 0; i < MODES; i++)
        if (strcmp(modes[i].name, name) == 0) {
            o->mode = (enum mode)i;
            return true;
        }
    return false;
}

static bool set_option(struct options *o, const char *key, const char *value) {
    if (strcmp(key, "--mode") == 0)
        return set_mode(o, value);
    if (strcmp(key, "--token") == 0)
        o->token = value;
    else if (strcmp(key, "--ids") == 0)
        o->ids = value;
    else if (strcmp(key, "--port") == 0)
        o->port = (int)strtol(value, NULL, 10);
    else if (strcmp(key, "--conns") == 0)
        o->conns = (int)strtol(value, NULL, 10);
    else if (strcmp(key, "--seconds") == 0)
        o->seconds = strtod(value, NULL);
    else if (strcmp(key, "--warm") == 0)
        o->warm = strtod(value, NULL);
    else if (strcmp(key, "--size") == 0)
        o->size = strtoul(value, NULL, 10);
    else if (strcmp(key, "--seed") == 0)
        o->seed = strtoull(value, NULL, 10);
    else
        return false;
    return true;
}

int main(int argc, char **argv) {
    static struct load l; /* large */
    l.o = (struct options){
        .mode = MODES, .conns = 32, .seconds = 8, .warm = 2, .size = 600, .token = "", .seed = (uint64_t)now_wall()
    };
    bool good = argc % 2 == 1;
    for (int i = 1; good && i + 1 < argc; i += 2)
        good = set_option(&l.o, argv[i], argv[i + 1]);
    if (!good || l.o.mode == MODES || l.o.port <= 0 || l.o.port > 65535 || l.o.conns < 1 || l.o.conns > CONNS_MAX ||
        l.o.seconds <= 0) {
        fputs("usage: load --port P --token T --mode MODE [--conns N] [--seconds S] [--warm S] [--size BYTES] [--ids "
              "FILE] [--seed N]\n"
              "modes:",
              stderr);
        for (int i = 0; i < MODES; i++)
            fprintf(stderr, " %s", modes[i].name);
        fputs("\n", stderr);
        return 1;
    }
    rng_seed(l.o.seed);
    l.ids = need(calloc(KEPT_IDS, sizeof *l.ids));
    l.conns = need(calloc((size_t)l.o.conns, sizeof *l.conns));
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (modes[l.o.mode].ids)
        ids_load(&l);
    for (int i = 0; i < l.o.conns && !l.failed; i++)
        open_conn(&l, &l.conns[i], (unsigned)i);
    if (!l.failed)
        run(&l);
    if (!l.failed && l.o.ids && l.o.mode <= OTLP && !ids_save(&l))
        fail(&l, "cannot write the ids", l.o.ids);
    if (!l.failed)
        report(&l);
    for (int i = 0; i < l.o.conns; i++) {
        if (l.conns[i].fd > 0)
            close(l.conns[i].fd);
        template_free(&l.conns[i].body);
        free(l.conns[i].in);
    }
    free(l.conns);
    free(l.ids);
    return l.failed ? 1 : 0;
}
