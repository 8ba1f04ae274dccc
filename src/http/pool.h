/* pool.h -- threads that run jobs of a bounded queue. Threads are made when there is work for one more, and then stay:
 * an idle pool of a server that was never asked costs nothing. Jobs are intrusive, so queueing cannot fail for memory. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stack of the threads that decode: JSON may nest 1,000 levels deep. Only touched pages count; sanitizers need ten times
 * as much a level. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DECODE_STACK_BYTES ((size_t)16 << 20)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define DECODE_STACK_BYTES ((size_t)16 << 20)
#endif
#endif
#ifndef DECODE_STACK_BYTES
#define DECODE_STACK_BYTES ((size_t)1 << 20)
#endif

struct pool;
/* Owned by the caller; zeroed before the first use. */
struct pool_job {
    struct pool_job *prev, *next;
    bool queued; /* pool's mutex */
};

struct pool_conf {
    const char *name; /* of the threads, at most 15 bytes */
    size_t threads;   /* at most this many run at once; at least 1 */
    size_t queue;     /* at most this many wait */
    void (*run)(void *arg, struct pool_job *job);
    void *arg;
};

struct pool *pool_new(const struct pool_conf *conf); /* NULL: no memory */
/* Queues a job. False: the queue is full, the pool is stopping, or no thread can be made. */
bool pool_submit(struct pool *p, struct pool_job *job);
/* Takes one job that still waits out of the queue, or NULL: the caller owns it then, it will not run. */
struct pool_job *pool_take(struct pool *p);
/* The same for a given job. False: it runs, ran or was taken. */
bool pool_cancel(struct pool *p, struct pool_job *job);
void pool_counts(struct pool *p, uint64_t *ret_running, uint64_t *ret_waiting);
/* Waits for what runs, joins the threads, frees. The queue must be empty (pool_take) and nobody may submit. */
void pool_free(struct pool *p);
