/* sender.h -- the bounded queue and its thread. Private half; xtrace.h has the public one.
 *
 *  1. mu guards everything below it. It is never held across a request, a callback or an allocation of unbounded size.
 *  2. A record is counted in `accepted` once, and in exactly one of the outcomes once.
 *  3. Only the thread takes from the queue; what it took is `flying` until all of it is settled, then `finished`:
 *     accepted = finished + flying + queued. A flush waits for `finished`: within a batch, later records may be settled first.
 *  4. In a child of fork everything under mu starts over (the parent's records are the parent's); the first record starts
 *     the child's own thread. */
#pragma once
#include <stdatomic.h>

#include "client.h"
#include "record.h"

struct kept {
    struct kept *next;
    char text[];
};

struct xtrace_sender {
    struct xtrace_client *client;
    xtrace_sender_options o;
    struct fork_guard *guard;
    _Atomic int abort; /* the last deadline has passed: requests break off */

    pthread_mutex_t mu;
    pthread_cond_t wake;       /* the thread: work, a flush, a stop */
    pthread_cond_t settled_cv; /* flushers and stop */
    struct record *head, *tail;
    int64_t oldest_ns; /* when the first of the queue came, about */
    size_t queued, flying, bytes;
    uint64_t accepted, settled, finished, flush_to;
    bool stopping, running, idle; /* idle: the thread waits without a deadline */
    int64_t stop_ns;              /* deadline of the stop */
    pthread_t thread;
    xtrace_sender_stats stats; /* without `pending` */

    struct kept *kept; /* texts that queued records point to, of tracers that may be gone */

    CURLM *multi; /* set under mu before the thread starts; stop wakes a request on it. May be NULL */

    /* The thread's own. */
    struct record **batch;   /* room for batch_records, twice */
    bool gzip, takes_traces; /* what the server is known to take */
    struct buf body, packed;
};

/* Hands a record over; takes ownership in any case. XTRACE_OK, XTRACE_EFULL, XTRACE_ESTOPPED, XTRACE_ENOMEM. */
int sender_add(struct xtrace_sender *s, struct record *r);
/* The sender's copy of a text, one for all that are equal; lives as long as the sender. NULL: no memory, or no text. */
const char *sender_keep(struct xtrace_sender *s, const char *text);
/* Counts records that came to nothing before they reached the queue. */
void sender_lost(struct xtrace_sender *s, int code);
/* Epoch of the process (process.h); puts a child's copy in order first. */
uint64_t sender_epoch(struct xtrace_sender *s);

enum outcome { OUT_DELIVERED, OUT_REFUSED, OUT_MEMORY, OUT_STOPPED, OUT_UNCERTAIN };

/* ---- deliver.c: the thread's work ---- */
/* Sends n records until each is settled; stops trying when the sender's last deadline passes. */
void deliver(struct xtrace_sender *s, struct record **records, struct record **scratch, size_t n);
/* Called by deliver: n records have come to their end. */
void sender_settle(struct xtrace_sender *s, enum outcome outcome, size_t n);
/* Waits, unless the last deadline passes first: then false. Also false when it has passed already. */
bool sender_wait(struct xtrace_sender *s, int ms);
void sender_count_request(struct xtrace_sender *s, bool again);
