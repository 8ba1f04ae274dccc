/* engine.h -- private to the PostgreSQL engine: the store, its connections, and one prototype for each op.
 *
 *  1. The writer's connection is used by the ingest writer's thread only (after open and migrate).
 *  2. A pool of read connections; each is used by one thread at a time between pg_reader_get and pg_reader_put. pool_mu
 *     guards the free list and ping_taken, and is never held while the database works.
 *  3. A connection for keys and projects, guarded by catalog_mu; one for ping, so that busy readers can't starve it.
 *  4. Every statement names its tables as xtrace.t. Nothing relies on the session (conn.h).
 *  5. Connections open at their first use, and again after they broke: a store is open while its database is away. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "store/postgres/conn.h"
#include "store/store.h"

#define PG_WEEK_NS (7 * NS_PER_DAY)
/* Partition of what was created then (observations and texts: their trace's `created`); before 1970 too. */
static inline int32_t pg_week(int64_t ns) { return (int32_t)(time_floor(ns, PG_WEEK_NS) / PG_WEEK_NS); }

/* Which start of the database this is. After another one it may have gone back: a crash, a failover, an older copy. */
#define PG_SQL_STARTED "(EXTRACT(epoch FROM pg_postmaster_start_time()) * 1000000)::int8"

struct pg_store {
    struct store_conf conf; /* url NULL: it may hold a password, the target has it */
    struct pg_target *target;
    struct pg_conn writer;
    struct pg_conn catalog;
    pthread_mutex_t catalog_mu;
    int64_t catalog_again;   /* monotonic: before it the catalog's connection is not tried. catalog_mu */
    struct pg_conn *readers; /* array of conf.readers */
    struct pg_conn *free_readers;
    struct pg_conn ping;
    bool ping_taken;
    pthread_mutex_t pool_mu;      /* free_readers, ping_taken */
    pthread_cond_t pool_cv;       /* monotonic clock */
    uint8_t holder[16];           /* this process, in leases */
    struct dicts *dicts;          /* of texts: store/text/dict.h */
    struct pg_samples *samples;   /* samples.h */
    struct pg_write_state *ws;    /* the writer's, from group to group (write.h) */
    struct pg_takeover *takeover; /* while the original's tables are taken over (takeover.c) */
    /* Counters, relaxed: statistics only. */
    _Atomic uint64_t reads, read_errors, read_timeouts, removed_traces;
    _Atomic int64_t size, size_at; /* of the schema's tables, bytes; monotonic time of the last look */
};
static inline struct pg_store *pg_of(struct store *s) { return (struct pg_store *)s->engine; }

/* ---- pool.c ---- */
enum xt_code pg_pool_init(struct pg_store *e, struct xt_err *err);
void pg_pool_done(struct pg_store *e);
/* Takes a read connection, waiting until the deadline (monotonic; TIME_NONE: for ever), in a transaction that has begun
 * (pg_begin, read). NULL: err filled. */
struct pg_conn *pg_reader_get(struct pg_store *e, int64_t deadline, struct xt_err *err);
void pg_reader_put(struct pg_store *e, struct pg_conn *c); /* ends the transaction */
enum xt_code postgres_ping(struct store *s, struct xt_err *err);
/* The writer's connection, its deadline set for one group and a write transaction begun. */
enum xt_code pg_writer_begin(struct pg_store *e, struct xt_err *err);

/* ---- lease.c: what only one server may do at a time. The database's clock decides. ---- */
/* In a write transaction of c. Takes or renews the lease for `ns` from now: *ret_mine. Somebody else's that has not ended
 * stays theirs. */
enum xt_code pg_lease_take(struct pg_store *e, struct pg_conn *c, struct str name, int64_t ns, bool *ret_mine,
                           struct xt_err *err);
/* In a write transaction: is it ours, and will nobody take it until the transaction ends? (FOR SHARE) */
enum xt_code pg_lease_check(struct pg_store *e, struct pg_conn *c, struct str name, bool *ret_mine, struct xt_err *err);
/* In a write transaction: gives up what is ours. */
enum xt_code pg_lease_give(struct pg_store *e, struct pg_conn *c, struct str name, struct xt_err *err);

/* ---- ops, one file each ---- */
enum xt_code postgres_migrate(struct store *s, struct xt_err *err); /* migrate.c */
/* Fails when the role may not do what serving needs; the message names the first right that is missing. */
enum xt_code pg_rights_check(struct pg_store *e, struct pg_conn *c, struct xt_err *err);
enum xt_code postgres_project_open(struct store *s, struct str name, int64_t *ret_number,
                                   struct xt_err *err); /* catalog.c */
enum xt_code postgres_keys_version(struct store *s, uint64_t *ret, struct xt_err *err);
enum xt_code postgres_keys_list(struct store *s, struct arena *a, struct store_key **ret, size_t *ret_n,
                                struct xt_err *err);
enum xt_code postgres_key_create(struct store *s, const struct store_key *k, int64_t *ret_id, struct xt_err *err);
enum xt_code postgres_key_revoke(struct store *s, int64_t id, struct xt_err *err);
enum xt_code postgres_take_over(struct store *s, struct store_takeover *to, struct xt_err *err); /* takeover.c */
void pg_takeover_free(struct pg_store *e);
enum xt_code postgres_check(struct store *s, bool deep, struct buf *report, struct xt_err *err); /* check.c */
enum xt_code postgres_prepare(struct store *s, struct batch *b, struct xt_err *err);             /* study.c */
enum xt_code postgres_write(struct store *s, const struct batch_part *parts, size_t n, struct xt_err *err);
int64_t postgres_tidy(struct store *s);
enum xt_code postgres_retain(struct store *s, enum retain_kind kind, int64_t cutoff, bool *ret_more,
                             struct xt_err *err);
enum xt_code postgres_study(struct store *s, struct buf *ret, struct xt_err *err);
enum xt_code postgres_learn(struct store *s, struct str what, struct xt_err *err);
enum xt_code postgres_traces_list(struct store *s, const struct trace_query *q, trace_visitor *visit, void *arg,
                                  int64_t *ret_total, struct xt_err *err);
enum xt_code postgres_trace_get(struct store *s, const struct trace_ref *ref, trace_visitor *trace,
                                observation_visitor *observation, void *arg, struct xt_err *err);
enum xt_code postgres_observation_get(struct store *s, const struct observation_ref *ref, observation_visitor *visit,
                                      void *arg, struct xt_err *err);
enum xt_code postgres_daily(struct store *s, const struct daily_query *q, day_visitor *visit, void *arg,
                            int64_t *ret_total, struct xt_err *err);
enum xt_code postgres_metric_names(struct store *s, int64_t project, int64_t deadline, name_visitor *visit, void *arg,
                                   struct xt_err *err);
enum xt_code postgres_series(struct store *s, const struct series_query *q, struct series_sink *sink,
                             struct xt_err *err);
