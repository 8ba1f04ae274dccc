/* engine.c -- the SQLite engine's life: open, close, pool of readers, small ops; and its table of ops.
 *
 *  1. The order of opening: directory, lock, file, writer. Nothing touches the file before the lock is held.
 *  2. Readers, the catalog and the ping connection open on first use, so that an idle server stays small.
 *  3. pool_mu is never held while SQLite works. A slot of the pool that could not be opened goes back to the list.
 *  4. No file of the database is ever opened and closed behind SQLite's back: closing any descriptor of it would drop
 *     SQLite's locks on it. Sizes are taken by name. */
#include "store/sqlite/engine.h"

#include "store/text/dict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/sqlite/checkpoint.h"

#define PING_WAIT NS_PER_SEC

/* ---- open and close ---- */

static enum xt_code pool_init(struct sqlite_store *e, struct xt_err *err) {
    size_t n = e->conf.readers ? (size_t)e->conf.readers : 1;
    e->readers = alloc_should_fail() ? NULL : calloc(n, sizeof *e->readers);
    if (!e->readers)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    for (size_t i = n; i-- > 0;) {
        e->readers[i].next = e->free_readers;
        e->free_readers = &e->readers[i];
    }
    return XT_OK;
}

static void sync_init(struct sqlite_store *e) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->pool_cv, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&e->pool_mu, NULL);
    pthread_mutex_init(&e->catalog_mu, NULL);
}

/* The file and its surroundings, before SQLite sees it. */
static enum xt_code file_prepare(struct sqlite_store *e, struct xt_err *err) {
    char *dir = path_dir(e->path);
    if (!dir)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    struct stat st;
    enum xt_code code = XT_OK;
    if (!e->conf.read_only)
        code = dir_create(dir, err);
    if (code == XT_OK && e->conf.exclusive)
        code = dir_lock(dir, &e->lock_fd, err);
    if (code == XT_OK && stat(e->path, &st) == 0) {
        if (!S_ISREG(st.st_mode))
            code = xt_fail(err, XT_EINVAL, "%.160s is not a file", e->path);
    } else if (code == XT_OK && e->conf.read_only) {
        code = xt_fail(err, XT_ENOTFOUND, "there is no database at %.160s", e->path);
    } else if (code == XT_OK) {
        code = file_create(e->path, err);
    }
    free(dir);
    return code;
}

static enum xt_code sqlite_open(struct store *s, const struct store_conf *conf, struct xt_err *err) {
    struct sqlite_store *e = alloc_should_fail() ? NULL : calloc(1, sizeof *e);
    if (!e)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    s->engine = e;
    e->lock_fd = -1;
    e->conf = *conf;
    e->dicts = dicts_new();
    e->conf.url = NULL; /* the caller's; path is what counts */
    sync_init(e);
    enum xt_code code = e->dicts ? samples_open(e, err) : xt_fail(err, XT_ENOMEM, "out of memory");
    if (code == XT_OK)
        code = url_to_path(conf->url, &e->path, err);
    if (code == XT_OK)
        code = file_prepare(e, err);
    if (code == XT_OK)
        code = pool_init(e, err);
    if (code == XT_OK)
        code = index_new(e, err);
    if (code == XT_OK)
        code = conn_open(&e->writer, e, CONN_WRITER, err);
    if (code == XT_OK && conf->exclusive)
        files_note(e);
    if (code == XT_OK && !conf->read_only) {
        e->ckpt = checkpoint_new(e);
        code = e->ckpt ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
    }
    if (e->ckpt)
        checkpoint_watch(e->ckpt);
    return code;
}

static void sqlite_close(struct store *s) {
    struct sqlite_store *e = engine_of(s);
    if (!e)
        return;
    for (size_t i = 0; e->readers && i < (e->conf.readers ? e->conf.readers : 1); i++)
        conn_close(&e->readers[i]);
    free(e->readers);
    conn_close(&e->ping);
    conn_close(&e->catalog);
    if (e->writer.db && e->conf.exclusive) {
        conn_rollback(&e->writer);
        samples_stop(e);
    }
    checkpoint_free(e->ckpt);
    if (e->writer.db && e->conf.exclusive) {
        /* Leaves one complete file. Who still reads from another process keeps the log: no harm. */
        checkpoint_last(e);
    }
    samples_close(e);
    conn_close(&e->writer);
    index_free(e);
    write_state_free(e);
    dicts_free(e->dicts);
    if (e->lock_fd >= 0)
        close(e->lock_fd);
    pthread_cond_destroy(&e->pool_cv);
    pthread_mutex_destroy(&e->pool_mu);
    pthread_mutex_destroy(&e->catalog_mu);
    free(e->path);
    free(e);
    s->engine = NULL;
}

/* ---- readers ---- */

/* Waits on pool_cv until the deadline; pool_mu is held. False: it passed. */
static bool pool_wait(struct sqlite_store *e, int64_t deadline) {
    if (deadline == TIME_NONE)
        return pthread_cond_wait(&e->pool_cv, &e->pool_mu) == 0;
    struct timespec until = { (time_t)(deadline / NS_PER_SEC), (long)(deadline % NS_PER_SEC) };
    return pthread_cond_timedwait(&e->pool_cv, &e->pool_mu, &until) != ETIMEDOUT;
}

/* Makes a connection ready for one use by this thread. */
static enum xt_code conn_ready(struct sqlite_store *e, struct conn *c, int64_t deadline, struct xt_err *err) {
    if (c->broken)
        conn_close(c);
    enum xt_code code = c->db ? XT_OK : conn_open(c, e, CONN_READER, err);
    if (code != XT_OK)
        return xt_fail(err, code == XT_ENOMEM ? code : XT_EUNAVAILABLE, "the store can't be opened for reading");
    c->failed = XT_OK;
    c->deadline = deadline;
    return XT_OK;
}

static void pool_return(struct sqlite_store *e, struct conn *c) {
    pthread_mutex_lock(&e->pool_mu);
    c->next = e->free_readers;
    e->free_readers = c;
    pthread_cond_broadcast(&e->pool_cv);
    pthread_mutex_unlock(&e->pool_mu);
}

struct conn *reader_get(struct sqlite_store *e, int64_t deadline, struct xt_err *err) {
    atomic_fetch_add_explicit(&e->reads, 1, memory_order_relaxed);
    pthread_mutex_lock(&e->pool_mu);
    bool in_time = true;
    while (!e->free_readers && in_time)
        in_time = pool_wait(e, deadline);
    struct conn *c = e->free_readers;
    if (c)
        e->free_readers = c->next;
    pthread_mutex_unlock(&e->pool_mu);
    if (!c) {
        atomic_fetch_add_explicit(&e->read_timeouts, 1, memory_order_relaxed);
        xt_fail(err, XT_ETIMEOUT, "the time limit of the query passed while others were served");
        return NULL;
    }
    if (conn_ready(e, c, deadline, err) != XT_OK) {
        atomic_fetch_add_explicit(&e->read_errors, 1, memory_order_relaxed);
        pool_return(e, c);
        return NULL;
    }
    return c;
}

void reader_put(struct sqlite_store *e, struct conn *c) {
    conn_rollback(c);
    if (c->failed == XT_ETIMEOUT)
        atomic_fetch_add_explicit(&e->read_timeouts, 1, memory_order_relaxed);
    else if (c->failed != XT_OK)
        atomic_fetch_add_explicit(&e->read_errors, 1, memory_order_relaxed);
    c->deadline = TIME_NONE;
    pool_return(e, c);
}

/* ---- small ops ---- */

static enum xt_code ping_read(struct conn *c, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, STR_LIT("probe"));
    int rc = sqlite3_step(st);
    enum xt_code code = rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "ping", err);
    sqlite3_reset(st);
    return code;
}

static enum xt_code sqlite_ping(struct store *s, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    int64_t deadline = clock_mono_ns() + PING_WAIT;
    pthread_mutex_lock(&e->pool_mu);
    while (e->ping_taken && pool_wait(e, deadline)) {}
    bool mine = !e->ping_taken;
    e->ping_taken = true;
    pthread_mutex_unlock(&e->pool_mu);
    if (!mine)
        return xt_fail(err, XT_EUNAVAILABLE, "the store does not answer");
    enum xt_code code = conn_ready(e, &e->ping, deadline, err);
    if (code == XT_OK)
        code = ping_read(&e->ping, err);
    conn_rollback(&e->ping);
    pthread_mutex_lock(&e->pool_mu);
    e->ping_taken = false;
    pthread_cond_broadcast(&e->pool_cv);
    pthread_mutex_unlock(&e->pool_mu);
    return code == XT_ETIMEOUT ? xt_fail(err, XT_EUNAVAILABLE, "the store does not answer") : code;
}

/* After trouble with the file (a disk that came back, a stale handle) the writer's connection is made anew. The old one
 * stays until the new one stands: nobody ever finds it closed. */
static enum xt_code writer_reopen(struct sqlite_store *e, struct xt_err *err) {
    struct conn old = e->writer;
    if (conn_open(&e->writer, e, CONN_WRITER, err) != XT_OK) {
        e->writer = old;
        return xt_fail(err, XT_EUNAVAILABLE, "the store can't be opened for writing");
    }
    conn_close(&old);
    if (e->ckpt)
        checkpoint_watch(e->ckpt);
    return XT_OK;
}

static enum xt_code sqlite_probe(struct store *s, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = &e->writer;
    if (files_stand(e, err) != XT_OK)
        return XT_EUNAVAILABLE;
    if (c->broken && writer_reopen(e, err) != XT_OK)
        return XT_EUNAVAILABLE;
    sqlite3_stmt *st = conn_stmt(c, SQL_PROBE, err);
    enum xt_code code = st ? conn_run(c, st, "probe", err) : c->failed; /* a transaction of its own: autocommit */
    if (code != XT_OK)
        conn_rollback(c);
    return code;
}

static enum xt_code sqlite_retain(struct store *s, enum retain_kind kind, int64_t cutoff, bool *ret_more,
                                  struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    return kind == RETAIN_SAMPLES ? sqlite_retain_samples(e, cutoff, ret_more, err)
                                  : sqlite_retain_traces(e, cutoff, ret_more, err);
}

/* Size of the database file or of what stands beside it; 0 when there is none. */
static int64_t file_bytes(const struct sqlite_store *e, const char *suffix) {
    char name[4096];
    struct stat st;
    int n = snprintf(name, sizeof name, "%s%s", e->path, suffix);
    return n > 0 && (size_t)n < sizeof name && stat(name, &st) == 0 ? (int64_t)st.st_size : 0;
}

static void sqlite_stats(struct store *s, struct store_stats *ret) {
    struct sqlite_store *e = engine_of(s);
    *ret = (struct store_stats){
        .file_bytes = file_bytes(e, ""),
        .wal_bytes = file_bytes(e, "-wal"),
        .reads = atomic_load_explicit(&e->reads, memory_order_relaxed),
        .read_errors = atomic_load_explicit(&e->read_errors, memory_order_relaxed),
        .read_timeouts = atomic_load_explicit(&e->read_timeouts, memory_order_relaxed),
    };
    ret->removed_traces = atomic_load_explicit(&e->removed_traces, memory_order_relaxed);
    checkpoint_counts(e->ckpt, &ret->checkpoints, &ret->checkpoint_errors);
}

static int64_t sqlite_tidy(struct store *s) {
    struct sqlite_store *e = engine_of(s);
    const int64_t due[] = { samples_tidy(e), index_tidy(e), e->ckpt ? checkpoint_tidy(e->ckpt) : TIDY_NOTHING };
    int64_t next = TIDY_NOTHING;
    for (size_t i = 0; i < sizeof due / sizeof *due; i++)
        next = due[i] < next ? due[i] : next;
    return next;
}

const struct store_ops store_sqlite_ops = {
    .scheme = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .migrate = sqlite_migrate,
    .prepare = sqlite_prepare,
    .write = sqlite_write,
    .probe = sqlite_probe,
    .tidy = sqlite_tidy,
    .retain = sqlite_retain,
    .study = sqlite_study,
    .learn = sqlite_learn,
    .ping = sqlite_ping,
    .traces_list = sqlite_traces_list,
    .trace_get = sqlite_trace_get,
    .observation_get = sqlite_observation_get,
    .daily = sqlite_daily,
    .metric_names = sqlite_metric_names,
    .series = sqlite_series,
    .stats = sqlite_stats,
    .project_open = sqlite_project_open,
    .keys_version = sqlite_keys_version,
    .keys_list = sqlite_keys_list,
    .key_create = sqlite_key_create,
    .key_revoke = sqlite_key_revoke,
    .backup = sqlite_backup,
    .check = sqlite_check,
    .repair = sqlite_repair,
    .restore = sqlite_restore,
};
