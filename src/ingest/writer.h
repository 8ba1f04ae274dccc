/* writer.h -- bounded queue of batches, the one thread that writes them, and what each caller is told.
 *
 * A ticket's life, changed in writer.c with its mutex held:
 *   NEW         made, or refused by the queue: its submitter's alone
 *   QUEUED      in the queue; the writer or the deadline may take it
 *   COMMITTING  the writer has it in a transaction
 *   DONE        its outcome was delivered
 *   ABANDONED   its deadline passed while it was queued: it will not be written */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

struct ingest;
struct ticket;

struct ingest_conf {
    uint64_t queue_max_bytes;
    uint64_t group_max_records;
};

enum record_kind { RECORD_TRACE, RECORD_OBSERVATION, RECORD_SAMPLE };
/* A record that the store refused for good. */
struct refusal {
    enum record_kind kind;
    size_t index; /* in the batch's list of that kind */
    struct xt_err err;
};
struct ingest_outcome {
    enum xt_code code; /* XT_OK: committed (all but the refused ones); else nothing is promised, see err */
    const struct batch *batch;
    const struct refusal *refusals; /* at most REFUSALS_MAX are listed */
    size_t nrefusals, refused_total, refused_observations;
    const struct xt_err *err;
};
#define REFUSALS_MAX 100
/* Called exactly once a submitted ticket that was not abandoned, on the writer's thread; must not block. */
typedef void ingest_done(void *arg, const struct ingest_outcome *o);

enum xt_code ingest_start(struct store *s, const struct ingest_conf *conf, struct ingest **ret, struct xt_err *err);

/* A ticket for a batch (owned by the ticket from now on) with the function to call. NULL: no memory (batch kept). */
struct ticket *ticket_new(struct ingest *in, struct batch *b, ingest_done *done, void *arg);
/* Queues it. XT_EBUSY (queue full), XT_EUNAVAILABLE (stopping): then `done` is not called and the caller still holds its
 * reference only. Never blocks. */
enum xt_code ingest_submit(struct ingest *in, struct ticket *t, struct xt_err *err);
/* Gives a queued ticket up: it will not be written and `done` not called. False: too late, it is being written or done. */
bool ticket_abandon(struct ticket *t);
/* Drops a reference: the submitter's (the queue has its own). */
void ticket_unref(struct ticket *t);

/* Runs fn(store, arg) on the writer's thread between two groups: retention slices, probes. XT_EUNAVAILABLE: stopping, fn
 * is not called. Tasks run in order; one a group, so that ingest goes on. */
typedef void ingest_task(struct store *s, bool writable, void *arg);
enum xt_code ingest_run(struct ingest *in, ingest_task *fn, void *arg, struct xt_err *err);

/* The writer's last word: false after a failed write or while one takes longer than a second. While false and idle the
 * writer probes the store once a second, so that it recovers by itself. */
bool ingest_healthy(const struct ingest *in);
/* Monotonic time of the last write or probe that succeeded. */
int64_t ingest_last_good(const struct ingest *in);
/* In a task: does the store take writes? Makes a small durable one, unless the last success is younger than fresh_ns (so
 * that of many who ask at once the first one pays), or the writer is unwell, and probes by itself. */
bool ingest_prove(struct ingest *in, int64_t fresh_ns);
/* Writes what is queued, then ends the thread. What is left at the deadline is answered XT_EUNAVAILABLE. False: the store
 * did not return in time and the thread is still in it. */
bool ingest_stop(struct ingest *in, int64_t deadline_mono_ns);
/* After ingest_stop returned false: nobody waits for the thread any more; the process ends without it. */
void ingest_leave(struct ingest *in);
void ingest_free(struct ingest *in); /* after ingest_stop returned true */

#define INGEST_BUCKETS 17
struct ingest_times {
    uint64_t buckets[INGEST_BUCKETS]; /* took <= the bound of the bucket and > that of the one before */
    uint64_t n;
    double seconds; /* sum */
};
struct ingest_stats {
    uint64_t queued_tickets, queued_bytes, records, committed_batches, refused_records, failed_batches;
    uint64_t busy_refusals, abandoned, splits, dropped_points;
    int64_t oldest_queued_ns;    /* age of the oldest queued ticket, 0: none */
    struct ingest_times commits; /* transactions of groups */
    struct ingest_times tidying; /* steps of the store's housekeeping */
};
extern const double ingest_bounds[INGEST_BUCKETS]; /* seconds, ascending; the last is +Inf */
void ingest_stats_get(struct ingest *in, struct ingest_stats *ret);
