/* conns.h -- N keep-alive connections to one server, each with at most one request under way.
 *
 *  1. One thread, one epoll loop, blocking on nothing else.
 *  2. Closed loop: a connection sends its next request when the answer was read to its end. With a rate, requests are due
 *     at fixed times and a free connection takes the next; latency counts from when it was due, so that a server that
 *     stalls is not spared the requests that would have come meanwhile.
 *  3. What is answered before `count_from` or after `end` is not in the figures, but is in `acked`. The last answers of
 *     reads count: a slow query that began in time is not left out for being slow. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "bodies.h"
#include "histogram.h"
#include "requests.h"

#define CONNS_MAX 1024
#define STATUSES 600
#define SECONDS_MAX 3600
#define NS INT64_C(1000000000)

struct options {
    enum mode modes[MODES]; /* one when writing; reads take turns */
    size_t nmodes;
    int port, conns;
    double seconds, warm, rate; /* rate: records a second, 0: as fast as answers come */
    uint64_t requests;          /* stop after these; 0: after the seconds */
    size_t size;
    const char *token;
    uint64_t first; /* body */
};

struct conn {
    int fd;
    struct template body;
    struct samples samples;
    enum mode mode; /* of the request under way */
    char head[1024];
    const char *text; /* the body under way */
    size_t head_n, text_n;
    size_t sent; /* of head and body together */
    char *in;
    size_t in_n, in_cap;
    int64_t started;
    bool waits_to_send; /* EPOLLOUT is on */
};

struct tally { /* of one mode */
    struct histogram h;
    uint64_t statuses[STATUSES], bytes_in, empty; /* empty: answers without a row */
};

struct load {
    struct options o;
    struct reader reader; /* its shape is that of the bodies, too */
    struct words words;
    int epoll, timer, signals;
    struct conn *conns, *idle[CONNS_MAX]; /* a ring: each gets its turn, or the server closes those that never speak */
    size_t idle_first, nidle;
    struct tally *tallies;                    /* by mode */
    uint64_t body_bytes;                      /* of the last request */
    uint64_t next_body, sent_requests, acked; /* acked: all 200s */
    uint32_t by_second[SECONDS_MAX];          /* 200s since the start */
    int64_t start, count_from, end, due, last;
    double cpu_before; /* seconds that the preparations took */
    int under_way;
    bool stop; /* SIGTERM came: no more requests, then the report */
    bool failed;
};

double cpu_seconds(void);       /* of this program so far */
bool load_open(struct load *l); /* connects */
bool load_run(struct load *l);
void load_close(struct load *l);
