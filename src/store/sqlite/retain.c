/* retain.c -- removing traces that are too old, in slices that a busy writer can afford.
 *
 *  1. A trace goes whole from every list, look-up and rollup in one transaction. Its observations go with it, or, when
 *     they are many, slice by slice afterwards: until then `trash` names it. No reader looks at observations without
 *     their trace, and a trace that is written again gets a new number.
 *  2. Numbers of traces follow createdAt but for clocks that jump and requests that overtake: the oldest numbers are
 *     looked at, YOUNG_MAX younger ones among them are passed over. */
#include "store/sqlite/group.h"
#include "store/sqlite/scan.h"

#define SLICE_TRACES 100
#define SLICE_OBSERVATIONS 2000
#define YOUNG_MAX 1000

struct gone_obs {
    struct str oid;
    int64_t pid[PAYLOADS + 1];
};

struct slice {
    struct group g;        /* arena, connection, folded rollups */
    struct gone_obs *list; /* room for SLICE_OBSERVATIONS */
    int64_t cutoff;
    int64_t traces[SLICE_TRACES];
    size_t n;
    int64_t room; /* observations that may still be removed */
    struct payload_drops drops;
    size_t removed;
    int64_t gone; /* latest timestamp of what was removed */
    bool more;
};

/* ---- observations ---- */

static enum xt_code drop_obs(struct slice *s, int64_t tseq, const struct gone_obs *o, struct xt_err *err) {
    struct conn *c = s->g.c;
    enum xt_code code = XT_OK;
    for (int i = 0; i <= PAYLOADS && code == XT_OK; i++)
        code = payload_drop_in(c, &s->drops, o->pid[i], err);
    if (code != XT_OK)
        return code;
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_DROP, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    bind_blob(st, 2, o->oid);
    return conn_run(c, st, "retention", err);
}

/* The next observations of the trace, at most as many as there is room for. */
static enum xt_code next_obs(struct slice *s, int64_t tseq, size_t *ret_n, struct xt_err *err) {
    struct conn *c = s->g.c;
    int rc = SQLITE_DONE;
    bool ok = true;
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_SLICE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    sqlite3_bind_int64(st, 2, s->room);
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

/* Removes observations of a trace that is gone; *ret_left: some are left. */
static enum xt_code drain(struct slice *s, int64_t tseq, bool *ret_left, struct xt_err *err) {
    size_t n = 0;
    enum xt_code code = s->room > 0 ? next_obs(s, tseq, &n, err) : XT_OK;
    for (size_t i = 0; i < n && code == XT_OK; i++)
        code = drop_obs(s, tseq, &s->list[i], err);
    *ret_left = (int64_t)n == s->room;
    s->room -= (int64_t)n;
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

static enum xt_code find_old(struct slice *s, struct xt_err *err) {
    struct conn *c = s->g.c;
    int64_t young = 0, observations = 0;
    int rc;
    sqlite3_stmt *st = conn_stmt(c, SQL_TRACE_OLDEST, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, 0);
    sqlite3_bind_int64(st, 2, SLICE_TRACES + YOUNG_MAX + 1);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && young < YOUNG_MAX) {
        if (sqlite3_column_int64(st, 1) >= s->cutoff) {
            young++;
            continue;
        }
        if (s->n == SLICE_TRACES || observations >= s->room) {
            s->more = true;
            break;
        }
        s->traces[s->n++] = sqlite3_column_int64(st, 0);
        observations += sqlite3_column_int64(st, 2);
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "retention", err);
}

static enum xt_code drop_shares(struct slice *s, struct trace_state *t, struct xt_err *err) {
    struct rollup_fold *f = &s->g.rollups;
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
    s->list = arena_new(s->g.a, struct gone_obs, SLICE_OBSERVATIONS);
    if (!s->list)
        return no_memory(err);
    enum xt_code code = drain_trash(s, err);
    if (code == XT_OK && s->room > 0)
        code = find_old(s, err);
    for (size_t i = 0; i < s->n && code == XT_OK; i++)
        code = remove_trace(s, s->traces[i], err);
    if (code == XT_OK)
        code = payload_drops_end(s->g.c, &s->drops, err);
    if (code == XT_OK && s->removed > 0)
        code = lookup_retired(s->g.c, s->gone, err);
    return code == XT_OK ? rollup_flush(&s->g.rollups, s->g.c, err) : code;
}

enum xt_code sqlite_retain_traces(struct sqlite_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    struct slice s = { .cutoff = cutoff, .room = SLICE_OBSERVATIONS };
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
    if (code == XT_OK)
        *ret_more = s.more;
    return code;
}
