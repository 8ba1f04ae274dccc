/* samples_view.c -- the replica of all streams' logs, and what a snapshot sees of it. See samples.h.
 *
 *  1. A look at `mstream` says of each stream what is sealed and the last key of its log. What the replica lacks is read in
 *     the same snapshot, then counted: the view is what the snapshot has, and maybe committed points that are newer.
 *  2. Memory that a generation has made superfluous goes when a snapshot shows the generation. An older snapshot would then
 *     miss points: it is begun anew.
 *  3. A row that can't be read is passed over: the points that refer to it are lost, others are not.
 *  4. A database that started anew, or stays behind the replica, may have gone back: the replica begins anew. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "store/postgres/samples.h"

#define LOOKS 8 /* snapshots that may turn out too old */
#define LOCK_WAIT_NS (10 * NS_PER_SEC)
#define ROWS_AT_ONCE 256

static enum xt_code no_room(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

void pg_view_done(struct pg_view *v) {
    for (size_t i = 0; i < v->n; i++)
        hot_part_unref(v->parts[i].hot);
    free(v->parts);
    *v = (struct pg_view){ .parts = NULL };
}

/* ---- streams ---- */

static void drop_parts(struct pg_stream *t, int64_t upto) {
    size_t kept = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (t->parts[i].number <= upto)
            hot_part_unref(t->parts[i].hot);
        else
            t->parts[kept++] = t->parts[i];
    }
    t->n = kept;
}

static struct pg_stream *find_stream(struct pg_samples *s, int64_t stream) {
    struct pg_stream **at = &s->streams;
    while (*at && (*at)->stream < stream)
        at = &(*at)->next;
    if (*at && (*at)->stream == stream)
        return *at;
    struct pg_stream *t = alloc_should_fail() ? NULL : calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->stream = stream;
    t->next = *at;
    *at = t;
    return t;
}

/* The part of that number, in order; new when it is not there. NULL: no memory. */
static struct pg_part *find_part(struct pg_stream *t, int64_t number) {
    size_t at = t->n;
    while (at > 0 && t->parts[at - 1].number >= number)
        at--;
    if (at < t->n && t->parts[at].number == number)
        return &t->parts[at];
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 4;
        struct pg_part *more = alloc_should_fail() ? NULL : realloc(t->parts, cap * sizeof *more);
        if (!more)
            return NULL;
        t->parts = more;
        t->cap = cap;
    }
    struct hot *hot = hot_part_new();
    if (!hot)
        return NULL;
    for (size_t i = t->n; i > at; i--)
        t->parts[i] = t->parts[i - 1];
    t->parts[at] = (struct pg_part){ .number = number, .last = pg_part_key(number), .hot = hot };
    t->n++;
    return &t->parts[at];
}

/* ---- what is missing ---- */

/* A range of keys of a stream. */
struct gap {
    int64_t stream, from, to; /* both inclusive */
};
struct gaps {
    struct gap *v;
    size_t n, cap;
};

static bool add_gap(struct gaps *g, int64_t stream, int64_t from, int64_t to) {
    if (from > to)
        return true;
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 8;
        struct gap *more = alloc_should_fail() ? NULL : realloc(g->v, cap * sizeof *more);
        if (!more)
            return false;
        g->v = more;
        g->cap = cap;
    }
    g->v[g->n++] = (struct gap){ stream, from, to };
    return true;
}

/* Rows of the carried part come all at once, when rows behind them may be known already. */
static bool stream_gaps(const struct pg_stream *t, int64_t last, struct gaps *g) {
    const int64_t carried = t->sealed + 1, behind = pg_part_key(carried + 1);
    bool has_carried = t->n > 0 && t->parts[0].number == carried;
    int64_t known = t->n > (size_t)has_carried ? t->parts[t->n - 1].last : behind - 1;
    int64_t first = has_carried ? t->parts[0].last + 1 : pg_part_key(carried);
    return (t->carried_read || add_gap(g, t->stream, first, behind - 1 < last ? behind - 1 : last)) &&
           add_gap(g, t->stream, known + 1, last);
}

/* One look at all streams. *ret_old: the snapshot is behind the replica. */
static enum xt_code look(struct pg_samples *s, const PGresult *r, struct gaps *g, bool *ret_old, struct xt_err *err) {
    *ret_old = false;
    for (struct pg_stream *t = s->streams; t; t = t->next)
        t->seen = false;
    for (int i = 0; i < PQntuples(r); i++) {
        int64_t sealed = pg_i64(r, i, 1);
        struct pg_stream *t = find_stream(s, pg_i64(r, i, 0));
        if (!t)
            return no_room(err);
        t->seen = true;
        if (sealed < t->sealed) {
            *ret_old = true;
            return XT_OK;
        }
        if (sealed != t->sealed) {
            t->sealed = sealed;
            t->carried_read = false;
            drop_parts(t, sealed);
        }
        if (!pg_is_null(r, i, 2) && !stream_gaps(t, pg_i64(r, i, 2), g))
            return no_room(err);
    }
    return XT_OK;
}

/* Streams that were sealed whole are gone. A snapshot from before a stream's first row does not have it either. */
static void forget_unseen(struct pg_samples *s) {
    struct pg_stream **at = &s->streams;
    while (*at) {
        struct pg_stream *t = *at;
        if (t->seen) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        drop_parts(t, INT64_MAX);
        free(t->parts);
        free(t);
    }
}

static enum xt_code replay(struct pg_samples *s, const PGresult *r, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (int i = 0; i < PQntuples(r) && code == XT_OK; i++) {
        int64_t k = pg_i64(r, i, 1);
        struct pg_stream *t = find_stream(s, pg_i64(r, i, 0));
        struct pg_part *p = t ? find_part(t, k >> PG_ROW_BITS) : NULL;
        if (!p)
            return no_room(err);
        code = sample_log_replay(p->hot, pg_bytes(r, i, 2), &s->lost, err);
        if (code == XT_ESTORE) {
            log_error("event=samples_row_damaged stream=%lld key=%lld", (long long)t->stream, (long long)k);
            if (p->ndamaged < PG_ASIDE)
                p->damaged[p->ndamaged++] = k;
            code = XT_OK;
        }
        if (code == XT_OK) {
            p->last = k;
            hot_publish_points(p->hot); /* and no part that nothing came to: its generation may be in the making */
        }
    }
    return code;
}

/* Reads the gaps, some rows at a time, each gap from its start: what was replayed when something failed stays. */
static enum xt_code fill(struct pg_samples *s, struct pg_conn *c, struct gaps *g, struct xt_err *err) {
    enum xt_code code = XT_OK;
    struct pg_args a;
    pg_args_init(&a);
    for (size_t i = 0; i < g->n && code == XT_OK; i++) {
        int rows = ROWS_AT_ONCE;
        while (code == XT_OK && rows == ROWS_AT_ONCE) {
            PGresult *r = NULL;
            pg_args_clear(&a);
            pg_arg_i64(&a, g->v[i].stream);
            pg_arg_i64(&a, g->v[i].from);
            pg_arg_i64(&a, g->v[i].to);
            pg_arg_i64(&a, ROWS_AT_ONCE);
            code = pg_query(c,
                            "SELECT stream, k, z FROM xtrace.mlog WHERE stream = $1 AND k >= $2 AND k <= $3 ORDER BY k"
                            " LIMIT $4",
                            &a, &r, err);
            if (code == XT_OK)
                code = replay(s, r, err);
            rows = code == XT_OK ? PQntuples(r) : 0;
            if (rows > 0)
                g->v[i].from = pg_i64(r, rows - 1, 1) + 1;
            PQclear(r);
        }
    }
    pg_args_done(&a);
    for (struct pg_stream *t = s->streams; t && code == XT_OK; t = t->next)
        t->carried_read = t->carried_read || t->seen;
    return code;
}

static enum xt_code collect(const struct pg_samples *s, struct pg_view *v, struct xt_err *err) {
    size_t n = 0;
    for (const struct pg_stream *t = s->streams; t; t = t->next)
        n += t->n;
    v->parts = alloc_should_fail() ? NULL : calloc(n ? n : 1, sizeof *v->parts);
    if (!v->parts)
        return no_room(err);
    for (const struct pg_stream *t = s->streams; t; t = t->next)
        for (size_t i = 0; i < t->n; i++) {
            hot_part_ref(t->parts[i].hot);
            v->parts[v->n++] =
                (struct pg_view_part){ t->parts[i].hot, hot_seen(t->parts[i].hot), t->stream, t->parts[i].number };
        }
    return XT_OK;
}

/* By the wall clock, which is what the call knows: a step of it moves only how long we wait for other readers. */
static bool lock_until(pthread_mutex_t *mu, int64_t deadline) {
    int64_t left = deadline == TIME_NONE ? LOCK_WAIT_NS : deadline - clock_mono_ns();
    int64_t until = clock_now_ns() + (left > 0 ? left : 0);
    struct timespec ts = { (time_t)(until / NS_PER_SEC), (long)(until % NS_PER_SEC) };
    return pthread_mutex_timedlock(mu, &ts) == 0;
}

static void begin_anew(struct pg_samples *s) {
    for (struct pg_stream *t = s->streams; t; t = t->next)
        t->seen = false;
    forget_unseen(s);
}

static enum xt_code take(struct pg_samples *s, struct pg_conn *c, const PGresult *r, struct pg_view *v, bool *ret_old,
                         struct xt_err *err) {
    struct gaps g = { .v = NULL };
    if (PQntuples(r) > 0 && pg_i64(r, 0, 3) != s->started) {
        begin_anew(s);
        s->started = pg_i64(r, 0, 3);
    }
    enum xt_code code = look(s, r, &g, ret_old, err);
    if (code == XT_OK && !*ret_old)
        code = fill(s, c, &g, err);
    if (code == XT_OK && !*ret_old) {
        forget_unseen(s);
        code = collect(s, v, err);
    }
    free(g.v);
    return code;
}

enum xt_code pg_view_take(struct pg_store *e, struct pg_conn *c, struct pg_view *ret, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    enum xt_code code = XT_OK;
    bool old = true;
    *ret = (struct pg_view){ .parts = NULL };
    for (int i = 0; i < LOOKS && old && code == XT_OK; i++) {
        PGresult *r = NULL;
        if (i > 0) {
            pg_rollback(c);
            code = pg_begin(c, false, err);
        }
        if (code == XT_OK)
            code = pg_query(c,
                            "SELECT s.stream, s.sealed, (SELECT max(k) FROM xtrace.mlog l WHERE l.stream = s.stream),"
                            " " PG_SQL_STARTED " FROM xtrace.mstream s ORDER BY s.stream",
                            NULL, &r, err);
        if (code == XT_OK && !lock_until(&s->mu, c->deadline)) {
            PQclear(r);
            return xt_fail(err, XT_ETIMEOUT, "the query took too long");
        }
        if (code == XT_OK) {
            if (i == LOOKS - 1)
                begin_anew(s);
            code = take(s, c, r, ret, &old, err);
            pthread_mutex_unlock(&s->mu);
        }
        PQclear(r);
    }
    if (code != XT_OK)
        pg_view_done(ret);
    return code;
}
