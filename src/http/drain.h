/* drain.h -- who is where, so that a stop can wait for them.
 *
 * Requests are `open` from their head to their completion. A connection may be suspended only between drain_enter and
 * drain_leave, and is `suspended` until it is resumed. Closing the gate makes drain_enter fail for good; after that and
 * once nobody is inside, `suspended` only goes down. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct drain {
    /* Sequentially consistent: either the stop sees who is inside, or who comes sees the stop. */
    _Atomic bool stopping;
    _Atomic unsigned inside;
    _Atomic uint64_t open; /* released when it goes down, so that the stop sees what was done */
    pthread_mutex_t mu;
    pthread_cond_t changed; /* something went down while stopping, or `suspended` did */
    uint64_t suspended;     /* mu */
};

void drain_init(struct drain *d);
void drain_done(struct drain *d);
bool drain_enter(struct drain *d); /* false: stopping */
void drain_leave(struct drain *d);
void drain_opened(struct drain *d);
void drain_closed(struct drain *d);
void drain_suspended(struct drain *d);
/* The last touch of *d by a thread that nothing else keeps the server alive for. */
void drain_resumed(struct drain *d);

void drain_close_gate(struct drain *d); /* back when nobody is inside */
/* True: none is left; false: the time (monotonic ns) came first. */
bool drain_wait_open(struct drain *d, int64_t deadline);
bool drain_wait_suspended(struct drain *d, int64_t deadline);
