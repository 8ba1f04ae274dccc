/* retain.c -- removing traces that are too old, and the partitions they lived in.
 *
 *  1. A slice takes some hundred traces by `created`: their rows and keys go, and their exact share of the rollups. Their
 *     observations and texts cannot be reached any more; they go with their week's partition, when all of it is past, so
 *     that no row is deleted one by one. What lies in the DEFAULT partitions goes by slices.
 *  2. One server does it: each slice takes the lease `jobs` in its own transaction, so it holds that while it works; one that
 *     stops in good order gives it up.
 *  3. Whatever changes partitions waits for a lock only shortly: those who come after it wait behind it. It is tried again
 *     the next time. */
#include "store/postgres/samples.h"
#include "store/postgres/write.h"

#define SLICE_TRACES 500
#define SLICE_OBSERVATIONS 20000 /* whose sums are read */
#define SLICE_ROWS 2000          /* of DEFAULT partitions */
#define LEASE_NS (10 * NS_PER_SEC)
#define UPKEEP_NS (5 * NS_PER_SEC)
#define GIVE_NS (NS_PER_SEC / 2)
#define ENSURE_AGAIN_NS (60 * NS_PER_SEC)

/* Old ones first, until they have that many observations; locked in the order of write.h. */
#define SQL_OLD                                                                                          \
    "SELECT " PG_TRACE_COLUMNS " FROM"                                                                   \
    " (SELECT c.tseq, sum(c.nobs) OVER (ORDER BY c.created, c.tseq) - c.nobs AS ahead FROM"              \
    "  (SELECT tseq, created, nobs FROM xtrace.trace WHERE created < $1 ORDER BY created LIMIT $2) c) k" \
    " JOIN xtrace.trace t ON t.tseq = k.tseq WHERE k.ahead < $3 ORDER BY t.project, t.id FOR UPDATE OF t"
#define SQL_DROP_KEYS "DELETE FROM xtrace.trace_key WHERE tseq = ANY($1)"
#define SQL_DROP_NAMES "DELETE FROM xtrace.record_key WHERE tseq = ANY($1)"
#define SQL_DROP_TRACES "DELETE FROM xtrace.trace WHERE tseq = ANY($1)"
#define SQL_SHORT_LOCKS "SELECT set_config('lock_timeout', '500ms', true)"
#define SQL_DROP_WEEKS "SELECT xtrace.partitions_drop('observation', $1), xtrace.partitions_drop('payload', $1)"
#define SQL_DROP_FAR_OBSERVATIONS                                                                            \
    "DELETE FROM xtrace.observation o USING (SELECT week, tseq, oid FROM xtrace.observation WHERE week < $1" \
    " ORDER BY week, tseq, oid LIMIT $2) k"                                                                  \
    " WHERE o.week = k.week AND o.tseq = k.tseq AND o.oid = k.oid AND o.week < $1"
#define SQL_DROP_FAR_TEXTS                                                                     \
    "DELETE FROM xtrace.payload p USING (SELECT week, pid FROM xtrace.payload WHERE week < $1" \
    " ORDER BY week, pid LIMIT $2) k WHERE p.week = k.week AND p.pid = k.pid AND p.week < $1"
#define SQL_ENSURE \
    "SELECT xtrace.partitions_ensure($1), xtrace.partitions_ensure($1 + 1), xtrace.partitions_ensure($1 + 2)"

/* ---- traces ---- */

static enum xt_code find_old(struct pg_group *g, int64_t cutoff, struct xt_err *err) {
    struct pg_args *a = &g->w->args;
    PGresult *r = NULL;
    pg_args_clear(a);
    pg_arg_i64(a, cutoff);
    pg_arg_i64(a, SLICE_TRACES);
    pg_arg_i64(a, SLICE_OBSERVATIONS);
    enum xt_code code = pg_query(g->c, SQL_OLD, a, &r, err);
    if (code == XT_OK && !pg_group_keep(g, r))
        code = xt_fail(err, XT_ESTORE, "too many answers at once");
    if (code != XT_OK)
        return code;
    if (PQnfields(r) != PG_TRACE_NCOLUMNS)
        return row_damaged(err);
    g->ntraces = g->nstored = (size_t)PQntuples(r);
    g->traces = arena_new(g->a, struct pg_trace, g->ntraces);
    if (!g->traces)
        return no_memory(err);
    for (size_t i = 0; i < g->ntraces && code == XT_OK; i++) {
        struct pg_trace *p = &g->traces[i];
        code = pg_trace_read(r, (int)i, 0, g->a, &p->rec, err);
        p->found = true;
        p->week = pg_week(p->rec.created);
    }
    return code;
}

static enum xt_code run_for_traces(struct pg_group *g, const char *sql, struct xt_err *err) {
    struct pg_args *a = &g->w->args;
    pg_args_clear(a);
    pg_arg_array(a, PG_INT8, g->ntraces);
    for (size_t i = 0; i < g->ntraces; i++)
        pg_item_i64(a, g->traces[i].rec.tseq);
    return pg_query(g->c, sql, a, NULL, err);
}

static enum xt_code remove_traces(struct pg_group *g, struct xt_err *err) {
    bool ok = true;
    enum xt_code code = pg_load_models(g, true, err);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < g->ntraces && ok; i++) {
        const struct pg_trace *p = &g->traces[i];
        ok = rollup_trace(&g->f.rollups, &p->rec, -1);
        for (const struct pg_model *m = p->models; m && ok; m = m->next)
            ok = rollup_model(&g->f.rollups, &p->rec, m->model, &m->sums, -1);
    }
    if (!ok)
        return no_memory(err);
    code = run_for_traces(g, SQL_DROP_KEYS, err);
    if (code == XT_OK)
        code = run_for_traces(g, SQL_DROP_NAMES, err);
    if (code == XT_OK)
        code = run_for_traces(g, SQL_DROP_TRACES, err);
    return code == XT_OK ? pg_rollups_add(g->c, &g->w->args, &g->f.rollups, err) : code;
}

/* ---- partitions ---- */

static enum xt_code delete_far(struct pg_group *g, const char *sql, int32_t week, bool *ret_more, struct xt_err *err) {
    PGresult *r = NULL;
    pg_args_clear(&g->w->args);
    pg_arg_i32(&g->w->args, week);
    pg_arg_i64(&g->w->args, SLICE_ROWS);
    enum xt_code code = pg_query(g->c, sql, &g->w->args, &r, err);
    if (code == XT_OK && pg_touched(r) >= SLICE_ROWS)
        *ret_more = true;
    PQclear(r);
    return code;
}

/* No trace of a week before that is left: its rows go. */
static enum xt_code drop_weeks(struct pg_group *g, int32_t week, bool *ret_more, struct xt_err *err) {
    enum xt_code code = pg_query(g->c, SQL_SHORT_LOCKS, NULL, NULL, err);
    if (code != XT_OK)
        return code;
    pg_args_clear(&g->w->args);
    pg_arg_i32(&g->w->args, week);
    code = pg_query(g->c, SQL_DROP_WEEKS, &g->w->args, NULL, err);
    if (code == XT_OK)
        code = delete_far(g, SQL_DROP_FAR_OBSERVATIONS, week, ret_more, err);
    return code == XT_OK ? delete_far(g, SQL_DROP_FAR_TEXTS, week, ret_more, err) : code;
}

/* One transaction. */
static enum xt_code slice(struct pg_group *g, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    bool mine = false;
    enum xt_code code = pg_lease_take(g->e, g->c, STR_LIT("jobs"), LEASE_NS, &mine, err);
    g->w->leads = mine;
    if (code != XT_OK || !mine)
        return code;
    code = find_old(g, cutoff, err);
    if (code != XT_OK)
        return code;
    if (g->ntraces > 0) {
        *ret_more = true;
        return remove_traces(g, err);
    }
    code = drop_weeks(g, pg_week(cutoff), ret_more, err);
    return code;
}

static enum xt_code retain_traces(struct pg_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    struct pg_group g;
    bool more = false;
    enum xt_code code = pg_writer_begin(e, err);
    if (code != XT_OK)
        return code;
    pg_group_init(&g, e);
    code = slice(&g, cutoff, &more, err);
    if (code == XT_OK)
        code = pg_commit(g.c, err);
    if (code != XT_OK) {
        bool busy = pg_state_is(g.c, "55P03"); /* readers hold a partition that is to go */
        pg_rollback(g.c);
        if (busy) {
            code = XT_OK;
            more = false;
            g.ntraces = 0;
        }
    }
    if (code == XT_OK) {
        atomic_fetch_add_explicit(&e->removed_traces, g.ntraces, memory_order_relaxed);
        *ret_more = more;
    }
    pg_group_done(&g);
    return code;
}

enum xt_code postgres_retain(struct store *s, enum retain_kind kind, int64_t cutoff, bool *ret_more,
                             struct xt_err *err) {
    *ret_more = false;
    return kind == RETAIN_TRACES ? retain_traces(pg_of(s), cutoff, ret_more, err)
                                 : pg_retain_samples(pg_of(s), cutoff, ret_more, err);
}

void pg_jobs_give(struct pg_store *e) {
    struct xt_err unheard;
    if (!e->ws || !e->ws->leads)
        return;
    e->writer.deadline = clock_mono_ns() + GIVE_NS;
    enum xt_code code = pg_begin(&e->writer, true, &unheard);
    if (code == XT_OK)
        code = pg_lease_give(e, &e->writer, STR_LIT("jobs"), &unheard);
    if (code == XT_OK)
        code = pg_commit(&e->writer, &unheard);
    if (code != XT_OK)
        pg_rollback(&e->writer);
}

void pg_partitions_ready(struct pg_store *e) {
    struct pg_write_state *w = e->ws;
    const int64_t now = clock_mono_ns();
    const int32_t week = pg_week(clock_now_ns());
    struct xt_err unheard;
    if ((w->ensured && week == w->ensured_week) || now < w->ensure_after)
        return;
    e->writer.deadline = now + UPKEEP_NS;
    enum xt_code code = pg_begin(&e->writer, true, &unheard);
    if (code == XT_OK)
        code = pg_query(&e->writer, SQL_SHORT_LOCKS, NULL, NULL, &unheard);
    pg_args_clear(&w->args);
    pg_arg_i32(&w->args, week);
    if (code == XT_OK)
        code = pg_query(&e->writer, SQL_ENSURE, &w->args, NULL, &unheard);
    if (code == XT_OK)
        code = pg_commit(&e->writer, &unheard);
    if (code != XT_OK)
        pg_rollback(&e->writer);
    w->ensured = code == XT_OK;
    w->ensured_week = week;
    w->ensure_after = code == XT_OK ? 0 : now + ENSURE_AGAIN_NS;
}

/* Partitions are due again when a week begins, or some time after a failure. */
int64_t postgres_tidy(struct store *s) {
    struct pg_store *e = pg_of(s);
    pg_samples_tidy(e);
    pg_partitions_ready(e);
    if (!e->ws->ensured)
        return e->ws->ensure_after;
    const int64_t now = clock_now_ns();
    return clock_mono_ns() + (time_floor(now, PG_WEEK_NS) + PG_WEEK_NS - now);
}
