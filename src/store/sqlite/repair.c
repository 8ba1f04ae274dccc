/* repair.c -- makes anew what stands beside the rows, from the rows (store.h): of a stopped store, in one transaction.
 *
 *  1. Rows of traces, observations, payloads and samples are what was sent: none is made, changed or removed here but for
 *     the columns that follow from other rows, and rows of samples under numbers that no reader asks for.
 *  2. Nothing is touched when the deep check is content. What is only partly wrong is corrected (sums of traces) or made
 *     anew whole (look-ups, rollups, the file's own indexes).
 *  3. The deep check runs again before the commit: what it still finds is said. */
#include "store/sqlite/days.h"
#include "store/sqlite/lookup.h"

#define TRACE_BYTES ((size_t)1 << 30)
#define REPORT_BYTES ((size_t)16 << 20)

struct repair {
    struct sqlite_store *e;
    struct conn *c;
    struct buf *report;
    struct xt_err *err;
    struct group g; /* its arena is that of the present trace */
    struct arena a;
    struct codec codec;
    int64_t traces, sums, models, moved; /* seen; corrected */
};

static void repaired(struct repair *r, int64_t n, const char *what) {
    if (n > 0)
        buf_printf(r->report, "repaired: %lld %s\n", (long long)n, what);
}

/* ---- aggregates and sums of traces ---- */

/* What the rows of its observations say; one that cannot be read counts as the check counts it. */
static enum xt_code derive(struct repair *r, sqlite3_stmt *st, struct trace_state *t, struct map *models) {
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    derive_begin(t, models, &r->a);
    sqlite3_bind_int64(st, 1, t->before.tseq);
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct obs_rec o;
        code = obs_rec_read(r->c, &r->codec, st, &r->a, false, &o, r->err);
        if (code == XT_ESTORE)
            code = XT_OK;
        if (code == XT_OK && !derive_add(&r->a, t, models, &o.v))
            code = no_memory(r->err);
    }
    sqlite3_reset(st);
    return code != XT_OK || rc == SQLITE_DONE ? code : conn_fail(r->c, rc, "repair", r->err);
}

static enum xt_code write_trace(struct repair *r, enum sql_id id, const struct trace_rec *rec) {
    sqlite3_stmt *st = conn_stmt(r->c, id, r->err);
    if (!st)
        return r->c->failed;
    trace_rec_bind(st, rec);
    return conn_run(r->c, st, "repair", r->err);
}

static enum xt_code correct_sums(struct repair *r, struct trace_state *t) {
    const struct trace_rec *was = &t->before;
    struct trace_rec *now = &t->now;
    enum xt_code code = XT_OK;
    if (!derive_timestamp_holds(was, now))
        trace_settle_timestamp(now);
    bool moved = was->ts != now->ts || was->ts_source != now->ts_source;
    bool sums = was->nobs != now->nobs || was->t0 != now->t0 || was->t1 != now->t1 || was->ocost != now->ocost ||
                was->ocost_n != now->ocost_n;
    if (sums)
        code = write_trace(r, SQL_TRACE_SUMS, now);
    if (code == XT_OK && moved)
        code = write_trace(r, SQL_TRACE_MOVE, now);
    r->moved += moved;
    r->sums += sums || moved;
    return code;
}

/* The rows of trace_model become the sums that were found. */
static enum xt_code correct_models(struct repair *r, const struct trace_state *t, struct map *models) {
    struct trace_state rows = { .now = t->now };
    bool wrong = false;
    enum xt_code code = trace_models_load(&r->g, &rows, r->err);
    for (struct tmodel *m = rows.models; m && code == XT_OK; m = m->next) {
        struct tmodel *real = map_get(models, m->model);
        if (real) {
            real->before = m->before;
            continue;
        }
        m->now = (struct model_sums){ 0 };
        wrong = true;
        code = trace_model_put(&r->g, &t->now, m, r->err);
    }
    for (const struct tmodel *m = t->models; m && code == XT_OK; m = m->next) {
        if (model_sums_equal(&m->before, &m->now))
            continue;
        wrong = true;
        code = trace_model_put(&r->g, &t->now, m, r->err);
    }
    r->models += wrong;
    return code;
}

/* Updates columns that neither the walk over `trace` nor that over `obs` goes by. */
static enum xt_code correct_traces(struct repair *r) {
    sqlite3_stmt *st = conn_prepare(r->c, "SELECT " TRACE_COLUMNS " FROM trace ORDER BY tseq", "repair", r->err);
    sqlite3_stmt *obs =
        st ? conn_prepare(r->c, "SELECT " OBS_COLUMNS " FROM obs WHERE tseq = ?1 ORDER BY oid", "repair", r->err)
           : NULL;
    enum xt_code code = obs ? XT_OK : r->c->failed;
    int rc = SQLITE_DONE;
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct trace_state t = { 0 };
        struct map models;
        arena_reset(&r->a);
        r->traces++;
        code = trace_rec_read(st, &r->a, &t.before) ? derive(r, obs, &t, &models) : no_memory(r->err);
        if (code == XT_OK)
            code = correct_sums(r, &t);
        if (code == XT_OK)
            code = correct_models(r, &t, &models);
    }
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(r->c, rc, "repair", r->err);
    sqlite3_finalize(obs);
    sqlite3_finalize(st);
    return code;
}

static enum xt_code change(struct repair *r, const char *sql, int64_t *ret) {
    enum xt_code code = conn_exec(r->c, sql, r->err);
    *ret = code == XT_OK ? sqlite3_changes64(r->c->db) : 0;
    return code;
}

/* Numbers that were given out must not be given out again. */
static enum xt_code correct_numbers(struct repair *r) {
    int64_t strays = 0, traces = 0, payloads = 0;
    enum xt_code code = change(r, "DELETE FROM trace_model WHERE tseq NOT IN (SELECT tseq FROM trace)", &strays);
    if (code == XT_OK)
        code = change(r,
                      "UPDATE state SET v = least FROM (SELECT 1 + max((SELECT coalesce(max(tseq), 0) FROM trace),"
                      " (SELECT coalesce(max(tseq), 0) FROM obs), (SELECT coalesce(max(tseq), 0) FROM trash)) AS least)"
                      " WHERE k = 'next_tseq' AND v < least",
                      &traces);
    if (code == XT_OK)
        code = change(r,
                      "UPDATE state SET v = least FROM (SELECT 1 + coalesce(max(pid + n - 1), 0) AS least FROM payload)"
                      " WHERE k = 'next_pid' AND v < least",
                      &payloads);
    repaired(r, strays, "sums of models without their trace, removed");
    repaired(r, traces + payloads, "counters of numbers, raised past those in use");
    return code;
}

/* Generations of samples with numbers that are never given: nobody reads or removes them. */
static enum xt_code remove_generations(struct repair *r) {
    static const char *const rows[] = {
        "DELETE FROM mgen WHERE gen < 1 OR gen > 536870912",
        "DELETE FROM mdir WHERE gen < 1 OR gen > 536870912",
        "DELETE FROM mpack WHERE k < 16777216 OR k >> 24 > 536870912",
        "DELETE FROM mfilter WHERE k < 16777216 OR k >> 24 > 536870912",
    };
    enum xt_code code = XT_OK;
    int64_t sum = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && code == XT_OK; i++) {
        int64_t n = 0;
        code = change(r, rows[i], &n);
        sum += n;
    }
    repaired(r, sum, "rows of generations of samples that can't be, removed");
    return code;
}

/* ---- look-ups ---- */

static enum xt_code make_lookups(struct repair *r) {
    enum xt_code code = lookup_rebuild(r->e, r->err);
    if (code == XT_OK)
        repaired(r, r->traces, "traces in look-ups, made anew");
    return code;
}

static enum xt_code make_keys(struct repair *r) {
    int64_t n = 0;
    enum xt_code code = record_keys_rebuild(r->c, &n, r->err);
    if (code == XT_OK)
        repaired(r, n, "turns, runs and steps, made anew");
    return code;
}

/* ---- rollups ---- */

static enum xt_code put_day(void *arg, struct rollup_day *d, struct xt_err *err) {
    struct repair *r = arg;
    return rollup_flush(&d->fold, r->c, err);
}

static enum xt_code make_rollups(struct repair *r) {
    int64_t days = 0;
    enum xt_code code =
        conn_exec(r->c, "DELETE FROM rollup_count; DELETE FROM rollup_trace; DELETE FROM rollup_model", r->err);
    if (code == XT_OK)
        code = derive_days(r->e, r->c, put_day, r, &days, r->err);
    repaired(r, days, "days of rollups, made anew");
    return code;
}

/* ---- all ---- */

/* The file's own indexes first: what follows walks along them. A second look says what else is wrong. */
static enum xt_code make_indexes(struct repair *r, struct verify_found *what) {
    struct buf unused;
    enum xt_code code = conn_exec(r->c, "REINDEX", r->err);
    if (code != XT_OK)
        return code;
    buf_add_c(r->report, "repaired: the file's own indexes, made anew\n");
    buf_init(&unused, REPORT_BYTES);
    code = check_deep(r->e, r->c, &unused, what, r->err);
    buf_done(&unused);
    return code;
}

static enum xt_code repair_all(struct repair *r, struct verify_found what) {
    enum xt_code code = what.structure ? make_indexes(r, &what) : XT_OK;
    if (code == XT_OK)
        code = correct_traces(r);
    if (code == XT_OK)
        code = correct_numbers(r);
    if (code == XT_OK)
        code = remove_generations(r);
    repaired(r, r->sums, "traces whose sums or time were wrong");
    repaired(r, r->models, "traces whose sums by model were wrong");
    if (code == XT_OK && (what.lookups || r->moved > 0))
        code = make_lookups(r);
    if (code == XT_OK && (what.rollups || what.sums || r->sums > 0 || r->models > 0))
        code = make_rollups(r);
    return code == XT_OK && what.keys ? make_keys(r) : code;
}

/* The check once more; what it finds is left. */
static enum xt_code look_again(struct repair *r, size_t *ret_left) {
    struct buf found;
    struct verify_found what;
    struct str rest, line;
    buf_init(&found, REPORT_BYTES);
    enum xt_code code = check_deep(r->e, r->c, &found, &what, r->err);
    rest = buf_str(&found);
    *ret_left = check_lines(&found);
    while (rest.n > 0 && str_split(&rest, '\n', &line))
        if (line.n > 0)
            buf_printf(r->report, "left: %.*s\n", STR_FMT(line));
    buf_done(&found);
    return code;
}

static enum xt_code in_transaction(struct repair *r, size_t *ret_left) {
    struct verify_found what;
    size_t before = check_lines(r->report);
    enum xt_code code = check_deep(r->e, r->c, r->report, &what, r->err);
    size_t found = check_lines(r->report) - before;
    *ret_left = 0;
    if (found == 0 || (code != XT_OK && !what.structure))
        return code;
    code = repair_all(r, what);
    return code == XT_OK ? look_again(r, ret_left) : code;
}

enum xt_code sqlite_repair(struct store *s, struct buf *report, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct repair r = { .e = e, .c = &e->writer, .report = report, .err = err };
    size_t left = 0;
    enum xt_code code = conn_begin(r.c, true, err);
    if (code != XT_OK)
        return code;
    arena_init(&r.a, TRACE_BYTES);
    r.g = (struct group){ .e = e, .c = r.c, .a = &r.a };
    code = in_transaction(&r, &left);
    if (code == XT_OK)
        code = conn_commit(r.c, err);
    else
        conn_rollback(r.c);
    e->ws->known = false;
    index_abort(e);
    codec_done(&r.codec);
    arena_done(&r.a);
    if (code == XT_OK)
        check_totals(r.c, report);
    return code == XT_OK && left > 0 ? xt_fail(err, XT_ESTORE, "the store is damaged: %zu findings are left", left)
                                     : code;
}
