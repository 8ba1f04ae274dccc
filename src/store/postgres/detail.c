/* detail.c -- one trace with all its observations in order, and observations by their id alone.
 *
 *  1. The trace's row says its week, so that everything else is looked for in one partition.
 *  2. Observations come through a cursor of the transaction, DETAIL_ROWS at a time, texts of so many in one statement: a trace
 *     may have any number of them.
 *  3. An id alone may stand in any week: every partition's index is asked. Rows whose trace is gone are gone. */
#include "store/limits.h"
#include "store/postgres/read.h"

#define TEXT_OF(n) #n
#define SQL_FETCH_N(n) "FETCH " TEXT_OF(n) " FROM xt_rows"
#define SQL_FETCH SQL_FETCH_N(DETAIL_ROWS)
#define KEEP_BYTES ((size_t)64 << 20) /* the trace itself */

/* Observations, `trace` of each, to be shown together. */
struct slice {
    struct obs_rec *v;
    struct trace_rec *traces; /* one for all (stride 0), or one each (1) */
    size_t n, stride;
};
struct detail {
    struct pg_read r;
    observation_visitor *visit;
    void *arg;
    bool more; /* the visitor wants more */
};

static const struct trace_rec *trace_of(const struct slice *s, size_t i) { return &s->traces[i * s->stride]; }

/* Opens the cursor for the statement in `more` and takes its first rows. */
static enum xt_code cursor_open(struct pg_read *r, PGresult **ret, struct xt_err *err) {
    PGresult *none = NULL;
    pg_sql_clear(&r->q);
    pg_sql_c(&r->q, SQL_FETCH);
    enum xt_code code = pg_sql_query_two(r->c, &r->more, &none, &r->q, ret, err);
    PQclear(none);
    return code;
}

static enum xt_code show_one(struct detail *d, const struct obs_rec *o, const struct trace_rec *t, struct xt_err *err) {
    struct observation_row row;
    struct view *v = &d->r.view;
    arena_reset(&v->arena);
    struct str id = id_print(&v->arena, t->id.key, t->id.spell, t->id.text);
    if (!str_has(id))
        return v->arena.failed ? no_memory(err) : row_damaged(err);
    enum xt_code code = view_observation(v, o, id, &row, err);
    if (code == XT_OK)
        d->more = d->visit(d->arg, &row);
    return code;
}

static enum xt_code show_slice(struct detail *d, const struct slice *s, struct xt_err *err) {
    for (size_t i = 0; i < s->n; i++)
        for (int k = 0; k < PAYLOADS; k++)
            if (!pg_texts_want(&d->r.texts, pg_week(trace_of(s, i)->created), s->v[i].pid[k]))
                return no_memory(err);
    enum xt_code code = pg_texts_load(&d->r.texts, err);
    for (size_t i = 0; i < s->n && code == XT_OK && d->more; i++)
        code = show_one(d, &s->v[i], trace_of(s, i), err);
    return code;
}

/* One answer of the cursor: observations and, behind their columns, their traces (`trace` NULL). */
static enum xt_code show_rows(struct detail *d, const PGresult *rows, struct trace_rec *trace, struct xt_err *err) {
    struct arena *a = &d->r.a;
    struct slice s = { .n = (size_t)PQntuples(rows), .traces = trace, .stride = !trace };
    enum xt_code code = XT_OK;
    s.v = arena_new(a, struct obs_rec, s.n);
    if (!trace)
        s.traces = arena_new(a, struct trace_rec, s.n);
    if (!s.v || !s.traces)
        return no_memory(err);
    for (size_t i = 0; i < s.n && code == XT_OK; i++) {
        code = pg_obs_read(rows, (int)i, 0, a, &s.v[i], err);
        if (code == XT_OK && !trace)
            code = pg_trace_read(rows, (int)i, PG_OBS_NCOLUMNS, a, &s.traces[i], err);
    }
    return code == XT_OK ? show_slice(d, &s, err) : code;
}

/* Shows what the cursor gives, up to the end; *rows is its first answer. */
static enum xt_code show_all(struct detail *d, PGresult **rows, struct trace_rec *trace, struct xt_err *err) {
    for (;;) {
        const bool last = PQntuples(*rows) < DETAIL_ROWS;
        enum xt_code code = show_rows(d, *rows, trace, err);
        if (code != XT_OK || last || !d->more)
            return code;
        PQclear(*rows);
        *rows = NULL;
        arena_reset(&d->r.a);
        code = pg_query(d->r.c, SQL_FETCH, NULL, rows, err);
        if (code != XT_OK)
            return code;
    }
}

/* ---- a trace ---- */

static void trace_sql(struct pg_sql *q, const struct trace_ref *ref) {
    char room[PG_SHORT_MAX];
    pg_sql_clear(q);
    pg_sql_c(q, "SELECT " PG_TRACE_COLUMNS " FROM xtrace.trace t WHERE t.project = ");
    pg_sql_i64(q, ref->project);
    pg_sql_c(q, " AND t.id = ");
    pg_sql_bytes(q, pg_short(ref->key, room));
    pg_sql_c(q, " AND coalesce(t.key, t.id) = ");
    pg_sql_bytes(q, ref->key);
}

static void observations_sql(struct pg_sql *q, const struct trace_rec *t) {
    pg_sql_clear(q);
    pg_sql_c(q, "DECLARE xt_rows NO SCROLL CURSOR FOR SELECT " PG_OBS_COLUMNS
                " FROM xtrace.observation o WHERE o.week = ");
    pg_sql_i32(q, pg_week(t->created));
    pg_sql_c(q, " AND o.tseq = ");
    pg_sql_i64(q, t->tseq);
    pg_sql_c(q, " ORDER BY o.start_at NULLS LAST, o.created, coalesce(o.key, o.oid)");
}

/* The trace alone, with what its root observation stands in for. */
static enum xt_code show_trace(struct detail *d, struct trace_rec *t, trace_visitor *visit, struct xt_err *err) {
    struct pg_beside b = { .want_roots = true };
    struct trace_row row;
    int64_t pid[PAYLOADS];
    enum xt_code code = pg_beside_load(&d->r, t, 1, &b, err);
    pg_beside_done(&b);
    if (code != XT_OK)
        return code;
    view_trace_texts(t, &b.roots[0], pid);
    for (int k = 0; k < PAYLOADS; k++)
        if (!pg_texts_want(&d->r.texts, pg_week(t->created), pid[k]))
            return no_memory(err);
    code = pg_texts_load(&d->r.texts, err);
    if (code == XT_OK)
        code = view_trace(&d->r.view, t, pid, &row, err);
    if (code == XT_OK)
        d->more = visit(d->arg, &row);
    return code;
}

static enum xt_code read_trace(struct detail *d, const struct trace_ref *ref, trace_visitor *visit, struct arena *keep,
                               struct xt_err *err) {
    PGresult *found = NULL, *rows = NULL;
    struct trace_rec t;
    trace_sql(&d->r.q, ref);
    enum xt_code code = pg_sql_query(d->r.c, &d->r.q, &found, err);
    if (code == XT_OK && PQntuples(found) == 0)
        code = xt_fail(err, XT_ENOTFOUND, "Not Found");
    if (code == XT_OK)
        code = pg_trace_read(found, 0, 0, keep, &t, err);
    if (code == XT_OK)
        code = show_trace(d, &t, visit, err);
    if (code == XT_OK && d->more && t.nobs > 0) {
        observations_sql(&d->r.more, &t);
        code = cursor_open(&d->r, &rows, err);
        if (code == XT_OK)
            code = show_all(d, &rows, &t, err);
    }
    PQclear(rows);
    PQclear(found);
    return code;
}

enum xt_code postgres_trace_get(struct store *s, const struct trace_ref *ref, trace_visitor *trace,
                                observation_visitor *observation, void *arg, struct xt_err *err) {
    struct detail d = { .visit = observation, .arg = arg, .more = true };
    struct arena keep;
    enum xt_code code = pg_read_open(&d.r, pg_of(s), ref->deadline, err);
    if (code != XT_OK)
        return code;
    arena_init(&keep, KEEP_BYTES);
    code = read_trace(&d, ref, trace, &keep, err);
    arena_done(&keep);
    pg_read_close(&d.r);
    return code;
}

/* ---- an observation by its id alone ---- */

static void hits_sql(struct pg_sql *q, const struct observation_ref *ref) {
    char room[PG_SHORT_MAX];
    pg_sql_clear(q);
    pg_sql_c(q, "DECLARE xt_rows NO SCROLL CURSOR FOR SELECT " PG_OBS_COLUMNS ", " PG_TRACE_COLUMNS
                " FROM xtrace.observation o JOIN xtrace.trace t ON t.tseq = o.tseq WHERE o.project = ");
    pg_sql_i64(q, ref->project);
    pg_sql_c(q, " AND o.oid = ");
    pg_sql_bytes(q, pg_short(ref->key, room));
    pg_sql_c(q, " AND coalesce(o.key, o.oid) = ");
    pg_sql_bytes(q, ref->key);
    pg_sql_c(q, " ORDER BY o.tseq DESC");
}

enum xt_code postgres_observation_get(struct store *s, const struct observation_ref *ref, observation_visitor *visit,
                                      void *arg, struct xt_err *err) {
    struct detail d = { .visit = visit, .arg = arg, .more = true };
    PGresult *rows = NULL;
    enum xt_code code = pg_read_open(&d.r, pg_of(s), ref->deadline, err);
    if (code != XT_OK)
        return code;
    hits_sql(&d.r.more, ref);
    code = cursor_open(&d.r, &rows, err);
    if (code == XT_OK && PQntuples(rows) == 0)
        code = xt_fail(err, XT_ENOTFOUND, "Not Found");
    if (code == XT_OK)
        code = show_all(&d, &rows, NULL, err);
    PQclear(rows);
    pg_read_close(&d.r);
    return code;
}
