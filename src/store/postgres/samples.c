/* samples.c -- samples on their way in: the stream of this process and its part at hand. See samples.h.
 *
 *  1. A group's points go into the part unseen, then as one row into the log in the group's transaction. When that fails they
 *     are taken back.
 *  2. The part in memory here only says what rows may refer to; readers have the replica. */
#include "store/postgres/samples.h"

#include <stdlib.h>
#include <time.h>

#include "store/postgres/write.h"

#define ROW_KEEP_BYTES ((size_t)1 << 20)
#define BEHIND_PARTS 2 /* full parts that may wait to be sealed */
#define BEHIND_WAIT_NS (2 * NS_PER_SEC)
#define STOP_NS NS_PER_SEC /* for what the seal thread is at; its log is there for who comes next */
#define HOLD_SECONDS 30.0  /* how long the stream stays ours without news */

static enum xt_code no_room(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* ---- life ---- */

enum xt_code pg_samples_new(struct pg_store *e, struct xt_err *err) {
    struct pg_samples *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (!s)
        return no_room(err);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->seal_cv, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->mu, NULL);
    pthread_mutex_init(&s->seal_mu, NULL);
    pg_conn_init(&s->seal_conn, e->target, false);
    atomic_init(&s->seal_limit, INT64_MAX);
    s->seal_conn.limit = &s->seal_limit;
    buf_init(&s->text, SIZE_MAX / 2);
    s->cutoff = s->heard_cut = s->stored_cut = TIME_MIN;
    e->samples = s;
    return XT_OK;
}

/* The time of our stream is over at once, and of those that we began to take over: who comes next need not wait. Best
 * effort. */
static void leave_streams(struct pg_store *e) {
    const struct pg_samples *s = e->samples;
    struct pg_conn *c = &e->writer;
    struct pg_args a;
    if ((s->stream == 0 && !s->threaded) || !c->db) /* a command that only looks holds none */
        return;
    c->deadline = clock_mono_ns() + NS_PER_SEC;
    pg_args_init(&a);
    pg_arg_bytes(&a, (struct str){ (const char *)e->holder, sizeof e->holder });
    if (pg_begin(c, true, NULL) == XT_OK &&
        pg_query(c, "UPDATE xtrace.mstream SET until = clock_timestamp() WHERE holder = $1", &a, NULL, NULL) == XT_OK)
        pg_commit(c, NULL);
    pg_rollback(c);
    pg_args_done(&a);
}

void pg_samples_free(struct pg_store *e) {
    struct pg_samples *s = e->samples;
    if (!s)
        return;
    if (s->threaded) {
        pthread_mutex_lock(&s->seal_mu);
        s->stopping = true;
        atomic_store_explicit(&s->seal_limit, clock_mono_ns() + STOP_NS, memory_order_relaxed);
        pthread_cond_broadcast(&s->seal_cv);
        pthread_mutex_unlock(&s->seal_mu);
        pthread_join(s->thread, NULL);
        if (s->leads && e->ws)
            e->ws->leads = true;
    }
    leave_streams(e);
    pg_conn_done(&s->seal_conn);
    hot_part_unref(s->hot);
    for (struct pg_stream *t = s->streams, *next; t; t = next) {
        next = t->next;
        for (size_t i = 0; i < t->n; i++)
            hot_part_unref(t->parts[i].hot);
        free(t->parts);
        free(t);
    }
    buf_done(&s->text);
    pthread_cond_destroy(&s->seal_cv);
    pthread_mutex_destroy(&s->seal_mu);
    pthread_mutex_destroy(&s->mu);
    free(s);
    e->samples = NULL;
}

void pg_samples_tidy(struct pg_store *e) {
    struct pg_samples *s = e->samples;
    pthread_mutex_lock(&s->seal_mu);
    const int64_t heard = s->heard_cut;
    s->heard_cut = TIME_MIN;
    pthread_mutex_unlock(&s->seal_mu);
    if (heard != TIME_MIN && heard != s->cut_for && !pg_samples_cut_old(e, heard)) {
        pthread_mutex_lock(&s->seal_mu); /* the next time */
        s->heard_cut = s->heard_cut == TIME_MIN ? heard : s->heard_cut;
        pthread_mutex_unlock(&s->seal_mu);
    }
    if (s->threaded)
        return;
    s->threaded = pthread_create(&s->thread, NULL, pg_seal_run, e) == 0;
    if (s->threaded)
        pthread_setname_np(s->thread, "xt-seal");
}

/* ---- the stream ---- */

static void forget_stream(struct pg_samples *s) {
    hot_part_unref(s->hot);
    s->hot = NULL;
    s->stream = s->part = s->row = 0;
    s->lost_stream = false;
    pthread_mutex_lock(&s->seal_mu);
    s->own = s->full_part = s->sealed = s->cut_upto = 0;
    s->gone = false;
    pthread_mutex_unlock(&s->seal_mu);
}

static enum xt_code new_stream(struct pg_store *e, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    struct pg_conn *c = &e->writer;
    PGresult *r = NULL;
    struct pg_args a;
    struct hot *hot = hot_part_new();
    if (!hot)
        return no_room(err);
    enum xt_code code = pg_writer_begin(e, err);
    pg_args_init(&a);
    pg_arg_bytes(&a, (struct str){ (const char *)e->holder, sizeof e->holder });
    pg_arg_f64(&a, HOLD_SECONDS);
    if (code == XT_OK)
        code = pg_query(
            c,
            "INSERT INTO xtrace.mstream(stream, holder, until, sealed) VALUES (nextval('xtrace.sample_stream'),"
            " $1, clock_timestamp() + make_interval(secs => $2), 0)"
            " RETURNING stream, (SELECT v FROM xtrace.state WHERE k = 'sample_cut')",
            &a, &r, err);
    const bool made = code == XT_OK && PQntuples(r) == 1;
    const int64_t stream = made ? pg_i64(r, 0, 0) : 0, cut = made && !PQgetisnull(r, 0, 1) ? pg_i64(r, 0, 1) : TIME_MIN;
    if (code == XT_OK)
        code = pg_commit(c, err);
    pg_rollback(c);
    PQclear(r);
    pg_args_done(&a);
    if (code != XT_OK) {
        hot_part_unref(hot);
        return code;
    }
    s->stream = stream;
    s->hot = hot;
    s->part = 2;
    s->row = pg_part_key(s->part);
    pthread_mutex_lock(&s->seal_mu);
    s->own = stream;
    s->sealed = s->full_part = 0;
    s->gone = false;
    if (!s->heard)
        s->stored_cut = cut; /* before our first point: any later one is for our points too */
    s->heard = true;
    pthread_mutex_unlock(&s->seal_mu);
    return XT_OK;
}

/* The part is complete: the next begins, and the thread seals this one. Waits when too many are to be sealed. */
static enum xt_code next_part(struct pg_samples *s, struct xt_err *err) {
    struct hot *hot = hot_part_new();
    if (!hot)
        return no_room(err);
    int64_t until = clock_mono_ns() + BEHIND_WAIT_NS;
    struct timespec ts = { (time_t)(until / NS_PER_SEC), (long)(until % NS_PER_SEC) };
    pthread_mutex_lock(&s->seal_mu);
    bool behind = false, gone = false;
    do {
        gone = s->gone;
        behind = s->threaded && (s->part - s->sealed) / 2 > BEHIND_PARTS;
    } while (!gone && behind && pthread_cond_timedwait(&s->seal_cv, &s->seal_mu, &ts) == 0);
    if (!behind || gone) { /* not before: a part that goes on must not be sealed */
        s->full_part = s->part;
        s->asked = true;
        pthread_cond_broadcast(&s->seal_cv);
    }
    pthread_mutex_unlock(&s->seal_mu);
    if (behind && !gone) {
        hot_part_unref(hot);
        return xt_fail(err, XT_EUNAVAILABLE, "samples come faster than they are sealed");
    }
    hot_part_unref(s->hot);
    s->hot = hot;
    s->part += 2;
    s->row = pg_part_key(s->part);
    return XT_OK;
}

void pg_samples_cut_part(struct pg_store *e) {
    struct pg_samples *s = e->samples;
    if (s->stream != 0 && s->hot->n.points > 0)
        next_part(s, NULL);
}

bool pg_samples_cut_old(struct pg_store *e, int64_t cutoff) {
    struct pg_samples *s = e->samples;
    const bool at_hand = s->stream != 0 && s->hot->n.points > 0 && s->hot->t0 < cutoff;
    pthread_mutex_lock(&s->seal_mu); /* first: the thread may begin at once */
    s->cutoff = cutoff;
    s->cut_upto = at_hand ? s->part : s->full_part;
    pthread_mutex_unlock(&s->seal_mu);
    if (at_hand && next_part(s, NULL) != XT_OK)
        return false;
    s->cut_for = cutoff;
    return true;
}

enum xt_code pg_samples_ready(struct pg_store *e, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    pthread_mutex_lock(&s->seal_mu);
    bool gone = s->gone;
    pthread_mutex_unlock(&s->seal_mu);
    if (gone || s->lost_stream)
        forget_stream(s);
    if (s->stream == 0)
        return new_stream(e, err);
    return hot_full(s->hot) ? next_part(s, err) : XT_OK;
}

/* ---- a group ---- */

enum xt_code pg_samples_add(struct pg_store *e, const struct batch_part *part, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    if (part->sample_from == part->sample_to)
        return XT_OK;
    if (s->stream == 0)
        return xt_fail(err, XT_EUNAVAILABLE, "samples can't be stored now");
    if (!s->open) {
        hot_mark(s->hot, &s->mark);
        s->open = true;
    }
    enum xt_code code = XT_OK;
    for (size_t i = part->sample_from; code == XT_OK && i < part->sample_to; i++)
        code = hot_add(s->hot, part->b->project, &part->b->samples[i], err);
    return code;
}

enum xt_code pg_samples_log(struct pg_store *e, struct pg_conn *c, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    PGresult *r = NULL;
    struct pg_args a;
    if (!s->open)
        return XT_OK;
    buf_clear(&s->text);
    if (!sample_log_encode(s->hot, &s->mark, &s->text))
        return no_room(err);
    pg_args_init(&a);
    pg_arg_i64(&a, s->stream);
    pg_arg_i64(&a, s->row + 1);
    pg_arg_bytes(&a, buf_str(&s->text));
    pg_arg_bytes(&a, (struct str){ (const char *)e->holder, sizeof e->holder });
    pg_arg_bool(&a, s->row == pg_part_key(s->part));
    enum xt_code code =
        pg_query(c,
                 "WITH s AS MATERIALIZED (SELECT stream FROM xtrace.mstream WHERE stream = $1 AND holder = $4"
                 " FOR SHARE) INSERT INTO xtrace.mlog(stream, k, z) SELECT stream, $2, $3 FROM s"
                 " WHERE $5 OR EXISTS (SELECT FROM xtrace.mlog WHERE stream = $1 AND k = $2 - 1)",
                 &a, &r, err);
    pg_args_done(&a);
    if (code == XT_OK && pg_touched(r) != 1) {
        s->lost_stream = true;
        code = xt_fail(err, XT_EUNAVAILABLE, "this server's log of samples is another one's, or lost");
    }
    PQclear(r);
    return code;
}

void pg_samples_end(struct pg_store *e, bool committed, bool unsettled) {
    struct pg_samples *s = e->samples;
    if (!s->open)
        return;
    if (committed) {
        s->row++;
        hot_publish_points(s->hot);
    } else {
        hot_cut(s->hot, &s->mark);
        s->lost_stream = s->lost_stream || unsettled;
    }
    s->open = false;
    if (s->text.cap > ROW_KEEP_BYTES) {
        buf_done(&s->text);
        buf_init(&s->text, SIZE_MAX / 2);
    }
}
