/* pool.c -- who may use which connection: readers, the writer, the one for ping.
 *
 *  1. A slot of the pool is in the free list or belongs to one thread. A connection that could not be opened, or broke,
 *     keeps its slot: it opens anew at its next use.
 *  2. pool_mu is never held while the database works. */
#include <stdlib.h>
#include <time.h>

#include "store/postgres/engine.h"

#define PING_NS NS_PER_SEC
#define SIZE_EVERY_NS (60 * NS_PER_SEC)

static size_t reader_count(const struct pg_store *e) { return e->conf.readers ? (size_t)e->conf.readers : 1; }

enum xt_code pg_pool_init(struct pg_store *e, struct xt_err *err) {
    size_t n = reader_count(e);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->pool_cv, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&e->pool_mu, NULL);
    pthread_mutex_init(&e->catalog_mu, NULL);
    pg_conn_init(&e->writer, e->target, true);
    pg_conn_init(&e->catalog, e->target, false);
    pg_conn_init(&e->ping, e->target, false);
    e->readers = alloc_should_fail() ? NULL : calloc(n, sizeof *e->readers);
    if (!e->readers)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    for (size_t i = n; i-- > 0;) {
        pg_conn_init(&e->readers[i], e->target, false);
        e->readers[i].next = e->free_readers;
        e->free_readers = &e->readers[i];
    }
    return XT_OK;
}

void pg_pool_done(struct pg_store *e) {
    for (size_t i = 0; e->readers && i < reader_count(e); i++)
        pg_conn_done(&e->readers[i]);
    free(e->readers);
    pg_conn_done(&e->ping);
    pg_conn_done(&e->catalog);
    pg_conn_done(&e->writer);
    pthread_cond_destroy(&e->pool_cv);
    pthread_mutex_destroy(&e->pool_mu);
    pthread_mutex_destroy(&e->catalog_mu);
}

/* Waits on pool_cv until the deadline; pool_mu is held. False: it passed. */
static bool pool_wait(struct pg_store *e, int64_t deadline) {
    if (deadline == TIME_NONE)
        return pthread_cond_wait(&e->pool_cv, &e->pool_mu) == 0;
    struct timespec until = { (time_t)(deadline / NS_PER_SEC), (long)(deadline % NS_PER_SEC) };
    return pthread_cond_timedwait(&e->pool_cv, &e->pool_mu, &until) == 0;
}

static void pool_return(struct pg_store *e, struct pg_conn *c) {
    pthread_mutex_lock(&e->pool_mu);
    c->next = e->free_readers;
    e->free_readers = c;
    pthread_cond_signal(&e->pool_cv);
    pthread_mutex_unlock(&e->pool_mu);
}

static void count_failure(struct pg_store *e, enum xt_code code) {
    if (code != XT_OK)
        atomic_fetch_add_explicit(code == XT_ETIMEOUT ? &e->read_timeouts : &e->read_errors, 1, memory_order_relaxed);
}

struct pg_conn *pg_reader_get(struct pg_store *e, int64_t deadline, struct xt_err *err) {
    atomic_fetch_add_explicit(&e->reads, 1, memory_order_relaxed);
    pthread_mutex_lock(&e->pool_mu);
    while (!e->free_readers && pool_wait(e, deadline)) {}
    struct pg_conn *c = e->free_readers;
    if (c)
        e->free_readers = c->next;
    pthread_mutex_unlock(&e->pool_mu);
    if (!c) {
        count_failure(e, XT_ETIMEOUT);
        xt_fail(err, XT_ETIMEOUT, "the time limit of the query passed while others were served");
        return NULL;
    }
    c->deadline = deadline;
    enum xt_code code = pg_begin(c, false, err);
    if (code == XT_OK)
        return c;
    count_failure(e, code);
    pool_return(e, c);
    return NULL;
}

void pg_reader_put(struct pg_store *e, struct pg_conn *c) {
    count_failure(e, c->failed);
    pg_rollback(c);
    c->deadline = TIME_NONE;
    pool_return(e, c);
}

enum xt_code pg_writer_begin(struct pg_store *e, struct xt_err *err) {
    int64_t ms = e->conf.write_timeout_ms ? (int64_t)e->conf.write_timeout_ms : 10000;
    e->writer.deadline = clock_mono_ns() + ms * NS_PER_MS;
    return pg_begin(&e->writer, true, err);
}

/* ---- ping ---- */

/* Now and then in passing: how large is everything? The partitions' indexes and long values included. */
static void size_look(struct pg_store *e, struct pg_conn *c) {
    PGresult *r = NULL;
    struct xt_err ignored;
    int64_t now = clock_mono_ns(), last = atomic_load_explicit(&e->size_at, memory_order_relaxed);
    if (last != 0 && now - last < SIZE_EVERY_NS)
        return;
    atomic_store_explicit(&e->size_at, now, memory_order_relaxed);
    enum xt_code code =
        pg_query(c,
                 "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_catalog.pg_class "
                 "WHERE relnamespace = to_regnamespace('xtrace') AND relkind = 'r'",
                 NULL, &r, &ignored);
    if (code != XT_OK)
        return;
    atomic_store_explicit(&e->size, pg_i64(r, 0, 0), memory_order_relaxed);
    PQclear(r);
}

static enum xt_code ping_read(struct pg_store *e, struct pg_conn *c, struct xt_err *err) {
    enum xt_code code = pg_begin(c, false, err);
    if (code == XT_OK)
        code = pg_query(c, "SELECT v FROM xtrace.state WHERE k = 'probe'", NULL, NULL, err);
    if (code == XT_OK)
        size_look(e, c);
    pg_rollback(c);
    return code;
}

enum xt_code postgres_ping(struct store *s, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    int64_t deadline = clock_mono_ns() + PING_NS;
    pthread_mutex_lock(&e->pool_mu);
    while (e->ping_taken && pool_wait(e, deadline)) {}
    bool mine = !e->ping_taken;
    e->ping_taken = true;
    pthread_mutex_unlock(&e->pool_mu);
    if (!mine)
        return xt_fail(err, XT_EUNAVAILABLE, "the store does not answer");
    e->ping.deadline = deadline;
    enum xt_code code = ping_read(e, &e->ping, err);
    pthread_mutex_lock(&e->pool_mu);
    e->ping_taken = false;
    pthread_cond_broadcast(&e->pool_cv);
    pthread_mutex_unlock(&e->pool_mu);
    return code == XT_OK ? XT_OK : xt_fail(err, XT_EUNAVAILABLE, "the store does not answer");
}
