/* retain.c -- removing traces that are too old, in slices that a busy writer can afford.
 *
 *  1. A trace goes whole from every list, look-up and rollup in one transaction. Its observations go with it, or, when
 *     they are many, slice by slice afterwards: until then `trash` names it. No reader looks at observations without
 *     their trace, and a trace that is written again gets a new number.
 *  2. Numbers of traces follow createdAt but for clocks that jump and requests that overtake. A round begins with the
 *     oldest numbers and passes over young traces until RETAIN_YOUNG_RUN of them stand in a row. Where those never get old
 *     (dates in the future), the place behind them at which traces get old, the edge, is found by the sweep and looked at
 *     next in every round, in the same way. Last the sweep looks at RETAIN_LOOK more, or twice as many as came since the
 *     round before, beginning where it ended then: it passes the whole table again and again however fast that grows, so
 *     that no number of young traces hides old ones for ever.
 *  3. A slice works for SLICE_NS, then it commits; how much that is follows from the machine and what else runs on it. At
 *     least one trace or DRAIN_CHUNK observations go, so that there is an end. */
#include "store/limits.h"
#include "store/sqlite/group.h"
#include "store/sqlite/scan.h"

#define SLICE_NS (4 * NS_PER_MS) /* the commit comes on top */
#define SLICE_TRACES 100
#define SLICE_OBSERVATIONS 2000
#define SLICE_LOOK 2000 /* traces looked at */
#define DRAIN_CHUNK 200

struct gone_obs {
    struct str oid;
    int64_t pid[PAYLOADS + 1];
};

struct slice {
    struct group g;        /* arena, connection, folded rollups */
    struct gone_obs *list; /* room for DRAIN_CHUNK */
    int64_t until;         /* monotonic ns */
    struct retain_round round;
    int64_t traces[SLICE_TRACES];
    size_t n;
    int64_t room; /* observations that may still be removed */
    struct payload_drops drops;
    size_t removed;
    int64_t gone; /* latest timestamp of what was removed */
    bool more;
};

static bool in_time(const struct slice *s) { return clock_mono_ns() < s->until; }

/* ---- observations ---- */

static enum xt_code drop_obs(struct slice *s, int64_t tseq, const struct gone_obs *o, struct xt_err *err) {
    struct conn *c = s->g.c;
    enum xt_code code = XT_OK;
    for (int i = 0; i <= PAYLOADS && code == XT_OK; i++)
        code = payload_drop_in(c, &s->drops, o->pid[i], err);
    if (code == XT_OK && o->pid[PAYLOAD_METADATA] != 0)
        code = record_keys_drop(c, tseq, o->oid, err);
    if (code != XT_OK)
        return code;
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_DROP, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    bind_blob(st, 2, o->oid);
    return conn_run(c, st, "retention", err);
}

/* The next observations of the trace. */
static enum xt_code next_obs(struct slice *s, int64_t tseq, int64_t limit, size_t *ret_n, struct xt_err *err) {
    struct conn *c = s->g.c;
    int rc = SQLITE_DONE;
    bool ok = true;
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_SLICE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    sqlite3_bind_int64(st, 2, limit);
    *ret_n = 0;
    while (ok && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct gone_obs *o = &s->list[(*ret_n)++];
        o->oid = arena_str(s->g.a, col_blob(st, 0));
        for (int i = 0; i <= PAYLOADS; i++)
            o->pid[i] = sqlite3_column_int64(st, 1 + i);
        ok = str_has(o->oid);
    }
    sqlite3_reset(st);
    if (!ok)
        return no_memory(err);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "retention", err);
}

/* Removes observations of a trace that is gone, as long as there is time and room; *ret_left: some may be left. */
static enum xt_code drain(struct slice *s, int64_t tseq, bool *ret_left, struct xt_err *err) {
    enum xt_code code = XT_OK;
    *ret_left = true;
    for (bool first = true; code == XT_OK && *ret_left && s->room > 0 && (first || in_time(s)); first = false) {
        const int64_t limit = s->room < DRAIN_CHUNK ? s->room : DRAIN_CHUNK;
        size_t n = 0;
        code = next_obs(s, tseq, limit, &n, err);
        for (size_t i = 0; i < n && code == XT_OK; i++)
            code = drop_obs(s, tseq, &s->list[i], err);
        *ret_left = (int64_t)n == limit;
        s->room -= (int64_t)n;
    }
    return code;
}

static enum xt_code run_for(struct conn *c, enum sql_id id, int64_t tseq, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    return conn_run(c, st, "retention", err);
}

/* Goes on with traces that earlier slices left. */
static enum xt_code drain_trash(struct slice *s, struct xt_err *err) {
    struct conn *c = s->g.c;
    bool left = false;
    while (!left) {
        sqlite3_stmt *st = conn_stmt(c, SQL_TRASH_FIRST, err);
        if (!st)
            return c->failed;
        int rc = sqlite3_step(st);
        int64_t tseq = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
        sqlite3_reset(st);
        if (rc != SQLITE_ROW)
            return conn_fail(c, rc, "retention", err);
        if (tseq == 0)
            return XT_OK;
        enum xt_code code = drain(s, tseq, &left, err);
        if (code == XT_OK && !left)
            code = run_for(c, SQL_TRASH_DROP, tseq, err);
        if (code != XT_OK)
            return code;
    }
    s->more = true;
    return XT_OK;
}

/* ---- traces ---- */

/* A young trace was passed over. False: this round looks no further. */
static bool pass_over(struct retain_round *r) {
    bool end_of_run = ++r->run == RETAIN_YOUNG_RUN;
    if (r->phase == RETAIN_SWEEP) {
        r->fixed = r->fixed || (end_of_run && r->found);
        return --r->left > 0;
    }
    if (!end_of_run)
        return true;
    if (r->phase == RETAIN_FRONT)
        r->front = r->at;
    else
        r->fixed = r->found;
    if (r->phase == RETAIN_FRONT && r->edge > r->front) {
        r->phase = RETAIN_EDGE;
        r->at = r->edge;
    } else {
        r->phase = RETAIN_SWEEP;
        r->at = r->resume > r->front ? r->resume : r->front;
    }
    r->run = 0;
    return true;
}

/* An old trace was removed. */
static void removed_at(struct retain_round *r, int64_t tseq) {
    r->at = tseq;
    if (r->phase == RETAIN_FRONT || r->fixed)
        return;
    r->edge = tseq;
    r->found = true;
}

static void round_begin(struct retain_round *r, int64_t cutoff, int64_t next) {
    const int64_t came = r->next > 0 && next > r->next ? next - r->next : 0;
    *r = (struct retain_round){ .active = true,
                                .cutoff = cutoff,
                                .left = came > RETAIN_LOOK / 2 ? 2 * came : RETAIN_LOOK,
                                .edge = r->edge,
                                .resume = r->resume,
                                .next = next };
}

/* Collects what is too old, from round.at on; that moves past what is young. Ends the round at the end of the table, and
 * when enough young ones were looked at. */
static enum xt_code find_old(struct slice *s, struct xt_err *err) {
    struct conn *c = s->g.c;
    struct retain_round *r = &s->round;
    int64_t observations = 0;
    int rc = SQLITE_ROW;
    bool jumps = true;
    for (int looked = 0; jumps && rc == SQLITE_ROW && looked < SLICE_LOOK;) {
        sqlite3_stmt *st = conn_stmt(c, SQL_TRACE_OLDEST, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, r->at);
        sqlite3_bind_int64(st, 2, SLICE_LOOK);
        jumps = false;
        for (; !jumps && r->active && looked < SLICE_LOOK && (rc = sqlite3_step(st)) == SQLITE_ROW; looked++) {
            const int64_t tseq = sqlite3_column_int64(st, 0);
            if (sqlite3_column_int64(st, 1) < r->cutoff) {
                if (s->n == SLICE_TRACES || observations >= s->room)
                    break;
                s->traces[s->n++] = tseq;
                observations += sqlite3_column_int64(st, 2);
                r->run = 0;
                continue;
            }
            if (s->n > 0)
                break; /* the next slice begins here, or at what this one leaves */
            r->at = tseq;
            r->active = pass_over(r);
            jumps = r->at != tseq;
        }
        sqlite3_reset(st);
        if (!r->active)
            break;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        return conn_fail(c, rc, "retention", err);
    if (rc == SQLITE_DONE && s->n == 0)
        r->active = false;
    if (!r->active)
        r->resume = rc == SQLITE_DONE ? 0 : r->at; /* at the end: from the front */
    return XT_OK;
}

static enum xt_code drop_shares(struct slice *s, struct trace_state *t, struct xt_err *err) {
    struct rollup_fold *f = &s->g.fold.rollups;
    enum xt_code code = trace_models_load(&s->g, t, err);
    if (code != XT_OK)
        return code;
    bool ok = rollup_trace(f, &t->now, -1);
    for (const struct tmodel *m = t->models; m && ok; m = m->next)
        ok = rollup_model(f, &t->now, m->model, &m->before, -1);
    return ok ? run_for(s->g.c, SQL_TMODEL_DROP_ALL, t->now.tseq, err) : no_memory(err);
}

static enum xt_code remove_trace(struct slice *s, int64_t tseq, struct xt_err *err) {
    struct conn *c = s->g.c;
    struct trace_state t = { .stored = true };
    bool found, left = false;
    enum xt_code code = trace_fetch(c, SQL_TRACE_GET, tseq, s->g.a, &t.now, &found, err);
    if (code != XT_OK || !found)
        return code;
    if (s->removed == 0 || t.now.ts > s->gone)
        s->gone = t.now.ts;
    s->removed++;
    code = drop_shares(s, &t, err);
    for (int i = 0; i < PAYLOADS && code == XT_OK; i++)
        code = payload_drop_in(c, &s->drops, t.now.pid[i], err);
    if (code == XT_OK && t.now.pid[PAYLOAD_METADATA] != 0)
        code = record_keys_drop(c, tseq, STR_LIT(""), err);
    if (code == XT_OK)
        code = run_for(c, SQL_TRACE_DROP, tseq, err);
    if (code == XT_OK)
        code = drain(s, tseq, &left, err);
    if (code == XT_OK && left) {
        code = run_for(c, SQL_TRASH_ADD, tseq, err);
        s->more = true;
    }
    return code;
}

static enum xt_code remove_slice(struct slice *s, struct xt_err *err) {
    s->list = arena_new(s->g.a, struct gone_obs, DRAIN_CHUNK);
    if (!s->list)
        return no_memory(err);
    enum xt_code code = drain_trash(s, err);
    if (code == XT_OK && !s->more)
        code = find_old(s, err);
    for (size_t i = 0; i < s->n && code == XT_OK && (i == 0 || (s->room > 0 && in_time(s))); i++) {
        code = remove_trace(s, s->traces[i], err);
        removed_at(&s->round, s->traces[i]);
    }
    s->more = s->more || s->round.active;
    if (code == XT_OK)
        code = payload_drops_end(s->g.c, &s->drops, err);
    if (code == XT_OK && s->removed > 0)
        code = lookup_retired(s->g.c, s->gone, err);
    return code == XT_OK ? rollup_flush(&s->g.fold.rollups, s->g.c, err) : code;
}

enum xt_code sqlite_retain_traces(struct sqlite_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    struct slice s = { .room = SLICE_OBSERVATIONS, .until = clock_mono_ns() + SLICE_NS, .round = e->ws->retain };
    if (!s.round.active || s.round.cutoff != cutoff)
        round_begin(&s.round, cutoff, e->ws->next_tseq);
    enum xt_code code = conn_begin(&e->writer, true, err);
    if (code != XT_OK)
        return code;
    group_init(&s.g, e);
    code = remove_slice(&s, err);
    if (code == XT_OK)
        code = conn_commit(&e->writer, err);
    else
        conn_rollback(&e->writer);
    arena_reset(&e->ws->arena);
    if (code == XT_OK) {
        e->ws->retain = s.round;
        atomic_fetch_add_explicit(&e->removed_traces, s.removed, memory_order_relaxed);
        *ret_more = s.more;
    }
    return code;
}
