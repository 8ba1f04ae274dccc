/* checkpoint.c -- see checkpoint.h. */
#include "store/sqlite/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define PASSES 3
#define WAL_WAIT (5 * NS_PER_MS) /* for readers, in the writer's rest */
#define WAL_LONG_FRAMES (6 * CHECKPOINT_FRAMES)
#define WAL_LONG_WAIT (100 * NS_PER_MS)

/* Who is at it. The thread moves ASKED on to COPIED, the writer all others. */
enum checkpoint_state { CHECKPOINT_IDLE, CHECKPOINT_ASKED, CHECKPOINT_COPIED };

struct checkpoint {
    struct sqlite_store *e;
    int frames; /* of the log after the last commit */
    int due_at; /* at so many the next one begins */
    pthread_mutex_t mu;
    pthread_cond_t asked, copied;
    enum checkpoint_state state; /* mu */
    bool stop;                   /* mu */
    bool failed;                 /* mu: the last pass */
    pthread_t thread;
    bool has_thread;
    struct conn own;                           /* the thread's */
    _Atomic uint64_t done_total, failed_total; /* relaxed: statistics only */
};

/* ---- passes ---- */

static void note(struct checkpoint *k, int rc) {
    bool fails = rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY;
    pthread_mutex_lock(&k->mu);
    bool failed = k->failed;
    k->failed = fails;
    pthread_mutex_unlock(&k->mu);
    if (fails)
        atomic_fetch_add_explicit(&k->failed_total, 1, memory_order_relaxed);
    if (fails && !failed)
        log_warn("event=checkpoint_failed message=\"%s (%d)\"", sqlite3_errstr(rc), rc);
    if (!fails && failed)
        log_info("event=checkpoint_recovered");
}

static int pass(struct checkpoint *k, struct conn *c, int mode, int64_t busy_ns) {
    int64_t usual = c->busy_ns;
    c->busy_ns = busy_ns;
    int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, mode, NULL, NULL);
    c->busy_ns = usual;
    note(k, rc);
    return rc;
}

/* ---- the thread ---- */

static bool stopping(struct checkpoint *k) {
    pthread_mutex_lock(&k->mu);
    bool stop = k->stop;
    pthread_mutex_unlock(&k->mu);
    return stop;
}

/* A connection that met trouble is made anew the next time. */
static void copy_beside(struct checkpoint *k) {
    struct xt_err err = { 0 };
    if (!k->own.db && conn_open(&k->own, k->e, CONN_CHECKPOINT, &err) != XT_OK) {
        note(k, SQLITE_CANTOPEN);
        return;
    }
    int rc = SQLITE_OK;
    for (int i = 0; i < PASSES && rc == SQLITE_OK && !stopping(k); i++)
        rc = pass(k, &k->own, SQLITE_CHECKPOINT_PASSIVE, 0);
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
        conn_close(&k->own);
}

static void *checkpoint_main(void *arg) {
    struct checkpoint *k = arg;
    pthread_mutex_lock(&k->mu);
    while (!k->stop) {
        if (k->state != CHECKPOINT_ASKED) {
            pthread_cond_wait(&k->asked, &k->mu);
            continue;
        }
        pthread_mutex_unlock(&k->mu);
        copy_beside(k);
        pthread_mutex_lock(&k->mu);
        k->state = CHECKPOINT_COPIED;
        pthread_cond_broadcast(&k->copied);
    }
    pthread_mutex_unlock(&k->mu);
    return NULL;
}

static bool have_thread(struct checkpoint *k) {
    if (!k->has_thread) {
        k->has_thread = pthread_create(&k->thread, NULL, checkpoint_main, k) == 0;
        if (k->has_thread)
            pthread_setname_np(k->thread, "xt-checkpoint");
    }
    return k->has_thread;
}

/* ---- the writer's side ---- */

static int on_wal(void *arg, sqlite3 *db, const char *name, int frames) {
    struct checkpoint *k = arg;
    (void)db;
    (void)name;
    if (frames < k->frames) /* the log started over */
        k->due_at = CHECKPOINT_FRAMES;
    k->frames = frames;
    return SQLITE_OK;
}

void checkpoint_watch(struct checkpoint *k) { sqlite3_wal_hook(k->e->writer.db, on_wal, k); }

/* What the thread left, in the gap between two groups. When all is copied and nobody reads from the log it starts over; a
 * reader that is in the way is waited for, else the next round tries again. */
static void copy_rest(struct checkpoint *k) {
    int rc = pass(k, &k->e->writer, SQLITE_CHECKPOINT_RESTART, k->frames >= WAL_LONG_FRAMES ? WAL_LONG_WAIT : WAL_WAIT);
    if (rc == SQLITE_OK) {
        k->frames = 0;
        k->due_at = CHECKPOINT_FRAMES;
        atomic_fetch_add_explicit(&k->done_total, 1, memory_order_relaxed);
    } else {
        k->due_at = k->frames + CHECKPOINT_FRAMES;
    }
}

int64_t checkpoint_tidy(struct checkpoint *k) {
    pthread_mutex_lock(&k->mu);
    enum checkpoint_state state = k->state;
    pthread_mutex_unlock(&k->mu);
    bool due = k->frames >= k->due_at;
    if (state == CHECKPOINT_ASKED)
        return clock_mono_ns() + TIDY_POLL;
    if (state == CHECKPOINT_IDLE && !due)
        return TIDY_NOTHING;
    if (state == CHECKPOINT_IDLE && have_thread(k)) {
        pthread_mutex_lock(&k->mu);
        k->state = CHECKPOINT_ASKED;
        pthread_cond_signal(&k->asked);
        pthread_mutex_unlock(&k->mu);
        return clock_mono_ns() + TIDY_POLL;
    }
    if (due)
        copy_rest(k);
    else /* it started over by itself: everything was copied when a group began */
        atomic_fetch_add_explicit(&k->done_total, 1, memory_order_relaxed);
    pthread_mutex_lock(&k->mu);
    k->state = CHECKPOINT_IDLE;
    pthread_mutex_unlock(&k->mu);
    return TIDY_NOTHING;
}

void checkpoint_settle(struct checkpoint *k) {
    pthread_mutex_lock(&k->mu);
    while (k->state == CHECKPOINT_ASKED)
        pthread_cond_wait(&k->copied, &k->mu);
    pthread_mutex_unlock(&k->mu);
}

void checkpoint_last(struct sqlite_store *e) {
    e->writer.busy_ns = WAL_LONG_WAIT;
    sqlite3_wal_checkpoint_v2(e->writer.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

int checkpoint_frames(const struct checkpoint *k) { return k->frames; }

void checkpoint_counts(const struct checkpoint *k, uint64_t *ret_done, uint64_t *ret_failed) {
    *ret_done = k ? atomic_load_explicit(&k->done_total, memory_order_relaxed) : 0;
    *ret_failed = k ? atomic_load_explicit(&k->failed_total, memory_order_relaxed) : 0;
}

/* ---- life ---- */

struct checkpoint *checkpoint_new(struct sqlite_store *e) {
    struct checkpoint *k = alloc_should_fail() ? NULL : calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->e = e;
    k->due_at = CHECKPOINT_FRAMES;
    pthread_mutex_init(&k->mu, NULL);
    pthread_cond_init(&k->asked, NULL);
    pthread_cond_init(&k->copied, NULL);
    return k;
}

void checkpoint_free(struct checkpoint *k) {
    if (!k)
        return;
    pthread_mutex_lock(&k->mu);
    k->stop = true;
    pthread_cond_signal(&k->asked);
    pthread_mutex_unlock(&k->mu);
    if (k->has_thread)
        pthread_join(k->thread, NULL);
    conn_close(&k->own);
    pthread_mutex_destroy(&k->mu);
    pthread_cond_destroy(&k->asked);
    pthread_cond_destroy(&k->copied);
    free(k);
}
