/* verify.c -- the deep self-test of telemetry: what the writer keeps beside the rows (aggregates of a trace, its sums by
 * model, look-ups, rollups, numbers of payloads) is found anew from the rows and compared. Reads only, in the caller's
 * snapshot. A finding is a line of the report; of one kind at most FINDINGS_MAX are written out. Memory is bounded by
 * one trace, and for the rollups by the keys of one day (days.h). */
#include <stdio.h>

#include "store/sqlite/days.h"
#include "store/sqlite/scan.h"

#define FINDINGS_MAX 20
#define ROW_BYTES ((size_t)1 << 30)

struct verify {
    struct sqlite_store *e;
    struct conn *c;
    struct buf *report;
    struct xt_err *err;
    struct group g; /* for trace_hashes and trace_models_load: its arena is that of the present trace */
    struct arena a;
    struct codec codec;
    sqlite3_stmt *obs, *tmodel, *payload, *in_trash;
    bool lookups;                /* they can be read: compare them */
    bool obs_row, tmodel_row;    /* the cursors stand on a row */
    int64_t next_tseq, next_pid; /* of the snapshot */
    int64_t traces, observations, posts, payloads;
    struct look_counts counts; /* entries of the index */
    bool exact;                /* of living traces alone */
    size_t written[8];         /* by kind of finding */
};

enum finding_kind { F_SUMS, F_MODELS, F_LOOKUPS, F_PAYLOADS, F_STRAYS, F_ROWS, F_ROLLUPS };

static void __attribute__((format(printf, 4, 5)))
finding(struct verify *v, enum finding_kind kind, int64_t tseq, const char *fmt, ...) {
    char text[160];
    va_list args;
    if (v->written[kind]++ >= FINDINGS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_printf(v->report, "trace %lld: %s\n", (long long)tseq, text);
}

/* One row or none. */
static enum xt_code step(struct verify *v, sqlite3_stmt *st, bool *ret_row) {
    int rc = sqlite3_step(st);
    *ret_row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(v->c, rc, "verify", v->err);
}

static enum xt_code exists(struct verify *v, sqlite3_stmt *st, bool *ret) {
    enum xt_code code = step(v, st, ret);
    sqlite3_reset(st);
    return code;
}

static enum xt_code get_i64(struct verify *v, const char *sql, int64_t *ret) {
    bool row = false;
    sqlite3_stmt *st = conn_prepare(v->c, sql, "verify", v->err);
    if (!st)
        return v->c->failed;
    enum xt_code code = step(v, st, &row);
    *ret = row ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return code;
}

/* ---- payloads ---- */

static enum xt_code check_payload(struct verify *v, int64_t tseq, int64_t pid) {
    bool there;
    if (pid == 0)
        return XT_OK;
    v->payloads++;
    sqlite3_bind_int64(v->payload, 1, pid);
    enum xt_code code = step(v, v->payload, &there);
    there = there && pid - sqlite3_column_int64(v->payload, 0) < sqlite3_column_int64(v->payload, 1);
    sqlite3_reset(v->payload);
    if (code == XT_OK && (!there || pid >= v->next_pid))
        finding(v, F_PAYLOADS, tseq, "payload %lld is %s", (long long)pid, there ? "numbered too high" : "missing");
    return code;
}

/* ---- observations ---- */

static enum xt_code next_obs(struct verify *v) { return step(v, v->obs, &v->obs_row); }

/* Can it be printed? */
static bool id_sound(struct verify *v, const struct id *id) {
    return str_has(id->key) && str_has(id_print(&v->a, id->key, id->spell, id->text));
}

/* Checks what stands in the row at the cursor; *ret lives until the cursor moves. A damaged one is a finding. */
static enum xt_code check_obs(struct verify *v, struct obs_rec *ret, bool *ret_ok) {
    enum xt_code code = obs_rec_read(v->c, &v->codec, v->obs, &v->a, false, ret, v->err);
    *ret_ok = code == XT_OK && id_sound(v, &ret->v.id);
    if (code == XT_ESTORE || (code == XT_OK && !*ret_ok)) {
        finding(v, F_ROWS, sqlite3_column_int64(v->obs, OC_TSEQ), "an observation is damaged");
        code = XT_OK;
    }
    for (int i = 0; i < PAYLOADS && code == XT_OK; i++)
        code = check_payload(v, ret->tseq, ret->pid[i]);
    return code == XT_OK ? check_payload(v, ret->tseq, ret->prest) : code;
}

/* Observations before number `tseq` have no trace: only those of the trash may. */
static enum xt_code skip_strays(struct verify *v, int64_t tseq) {
    enum xt_code code = XT_OK;
    while (code == XT_OK && v->obs_row && sqlite3_column_int64(v->obs, OC_TSEQ) < tseq) {
        struct obs_rec o;
        bool ok, trash = false;
        arena_reset(&v->a);
        code = check_obs(v, &o, &ok);
        if (code != XT_OK)
            break;
        sqlite3_bind_int64(v->in_trash, 1, o.tseq);
        code = exists(v, v->in_trash, &trash);
        if (code == XT_OK && !trash)
            finding(v, F_STRAYS, o.tseq, "observations without their trace");
        if (code == XT_OK)
            code = next_obs(v);
    }
    return code;
}

/* Its id leads to it. */
static enum xt_code check_obs_entry(struct verify *v, const struct obs_rec *o) {
    bool there = false;
    enum xt_code code = lookup_has_observation(v->c, o->project, o->v.id.key, o->tseq, &there, v->err);
    v->observations++;
    if (code == XT_OK && !there)
        finding(v, F_LOOKUPS, o->tseq, "no look-up entry for an observation");
    return code;
}

/* t->before is the row, t->now becomes what its observations say. */
static enum xt_code read_observations(struct verify *v, struct trace_state *t, struct map *models) {
    enum xt_code code = XT_OK;
    while (code == XT_OK && v->obs_row && sqlite3_column_int64(v->obs, OC_TSEQ) == t->before.tseq) {
        struct obs_rec o;
        bool ok;
        code = check_obs(v, &o, &ok);
        if (code == XT_OK && o.project != t->before.project)
            finding(v, F_ROWS, o.tseq, "an observation of another project");
        if (code == XT_OK && !derive_add(&v->a, t, models, &o.v))
            code = no_memory(v->err);
        if (code == XT_OK && ok && v->lookups)
            code = check_obs_entry(v, &o);
        if (code == XT_OK)
            code = next_obs(v);
    }
    return code;
}

/* ---- sums ---- */

static void check_sums(struct verify *v, const struct trace_rec *row, const struct trace_rec *real) {
    if (row->nobs != real->nobs)
        finding(v, F_SUMS, row->tseq, "counts %lld observations, has %lld", (long long)row->nobs,
                (long long)real->nobs);
    if (row->t0 != real->t0 || row->t1 != real->t1)
        finding(v, F_SUMS, row->tseq, "first start or last end is not that of its observations");
    if (row->ocost != real->ocost || row->ocost_n != real->ocost_n)
        finding(v, F_SUMS, row->tseq, "cost is not the sum of its observations");
    if (!derive_timestamp_holds(row, real))
        finding(v, F_SUMS, row->tseq, "timestamp does not follow from its source");
    if (row->tseq >= v->next_tseq)
        finding(v, F_SUMS, row->tseq, "numbered too high");
}

/* Rows of trace_model at the cursor up to this trace, against the sums found. */
static enum xt_code check_models(struct verify *v, struct trace_state *t, struct map *models) {
    enum xt_code code = XT_OK;
    while (code == XT_OK && v->tmodel_row && sqlite3_column_int64(v->tmodel, 0) <= t->before.tseq) {
        int64_t tseq = sqlite3_column_int64(v->tmodel, 0);
        struct tmodel *m = tseq == t->before.tseq ? map_get(models, col_str(v->tmodel, 1)) : NULL;
        struct model_sums row = { .n = sqlite3_column_int64(v->tmodel, 2) };
        model_sums_read(v->tmodel, 3, &row);
        if (!m)
            finding(v, F_MODELS, tseq, "sums of a model it does not have");
        else if (!model_sums_equal(&row, &m->now))
            finding(v, F_MODELS, tseq, "sums of a model are not those of its observations");
        if (m)
            m->before = row;
        code = step(v, v->tmodel, &v->tmodel_row);
    }
    for (const struct tmodel *m = t->models; m && code == XT_OK; m = m->next)
        if (m->before.n == 0)
            finding(v, F_MODELS, t->before.tseq, "no sums of a model it has");
    return code;
}

/* ---- look-ups ---- */

static enum xt_code check_entries(struct verify *v, const struct trace_rec *r) {
    int64_t tseq = 0, *hashes = NULL;
    size_t n = 0;
    enum xt_code code = lookup_trace(v->c, r->project, r->id.key, &tseq, v->err);
    if (code == XT_OK && tseq != r->tseq)
        finding(v, F_LOOKUPS, r->tseq, "its id leads to %lld", (long long)tseq);
    if (code == XT_OK)
        code = trace_hashes(&v->g, r, &hashes, &n, v->err);
    for (size_t i = 0; i < n && code == XT_OK; i++) {
        bool there = false;
        code = lookup_has_post(v->c, hashes[i], r->ts, r->tseq, &there, v->err);
        if (code == XT_OK && !there)
            finding(v, F_LOOKUPS, r->tseq, "no look-up entry for a user, session, tag or name");
    }
    v->posts += (int64_t)n;
    return code;
}

static enum xt_code check_trace(struct verify *v, sqlite3_stmt *st) {
    struct trace_state t = { 0 };
    struct map models;
    enum xt_code code = skip_strays(v, sqlite3_column_int64(st, TC_TSEQ));
    if (code != XT_OK)
        return code;
    arena_reset(&v->a);
    if (!trace_rec_read(st, &v->a, &t.before))
        return no_memory(v->err);
    v->traces++;
    struct str *tags;
    size_t ntags;
    if (!tags_decode(&v->a, t.before.tags, &tags, &ntags) || !id_sound(v, &t.before.id))
        finding(v, F_ROWS, t.before.tseq, "its id or its tags are damaged");
    derive_begin(&t, &models, &v->a);
    code = read_observations(v, &t, &models);
    if (code == XT_OK)
        check_sums(v, &t.before, &t.now);
    if (code == XT_OK)
        code = check_models(v, &t, &models);
    if (code == XT_OK && v->lookups)
        code = check_entries(v, &t.before);
    for (int i = 0; i < PAYLOADS && code == XT_OK; i++)
        code = check_payload(v, t.before.tseq, t.before.pid[i]);
    return code;
}

static enum xt_code check_traces(struct verify *v) {
    bool row = true;
    sqlite3_stmt *st = conn_prepare(v->c, "SELECT " TRACE_COLUMNS " FROM trace ORDER BY tseq", "verify", v->err);
    if (!st)
        return v->c->failed;
    enum xt_code code = next_obs(v);
    if (code == XT_OK)
        code = step(v, v->tmodel, &v->tmodel_row);
    while (code == XT_OK) {
        code = step(v, st, &row);
        if (code != XT_OK || !row)
            break;
        code = check_trace(v, st);
    }
    sqlite3_finalize(st);
    if (code == XT_OK)
        code = skip_strays(v, INT64_MAX);
    if (code == XT_OK && v->tmodel_row)
        finding(v, F_STRAYS, sqlite3_column_int64(v->tmodel, 0), "sums without their trace");
    return code;
}

/* ---- rollups ---- */

struct days {
    struct verify *v;
    struct rollup_verdict verdict;
};

static enum xt_code check_day(void *arg, struct rollup_day *d, struct xt_err *err) {
    struct days *days = arg;
    return rollup_compare(&d->fold, days->v->c, &days->verdict, err);
}

static enum xt_code compare_count(struct verify *v, const char *sql, const char *what, int64_t want) {
    int64_t have = 0;
    enum xt_code code = get_i64(v, sql, &have);
    if (code == XT_OK && have != want)
        buf_printf(v->report, "%s: %lld, should be %lld\n", what, (long long)have, (long long)want);
    return code;
}

static enum xt_code check_rollups(struct verify *v) {
    struct days days = { .v = v };
    const struct rollup_verdict *verdict = &days.verdict;
    int64_t n = 0;
    size_t before = v->report->n;
    enum xt_code code = derive_days(v->e, v->c, check_day, &days, &n, v->err);
    if (code == XT_OK && (verdict->missing || verdict->wrong))
        buf_printf(v->report, "rollups: %lld rows missing, %lld wrong\n", (long long)verdict->missing,
                   (long long)verdict->wrong);
    if (code == XT_OK)
        code = compare_count(v, "SELECT count(*) FROM rollup_trace", "rollups of traces", verdict->trace_rows);
    if (code == XT_OK)
        code = compare_count(v, "SELECT count(*) FROM rollup_model", "rollups of models", verdict->model_rows);
    if (code == XT_OK)
        code = compare_count(v, "SELECT count(*) FROM rollup_count", "counts of traces", verdict->count_rows);
    v->written[F_ROLLUPS] += v->report->n != before;
    return code;
}

/* ---- all ---- */

/* What was expected is there; equal numbers then say that nothing else is. */
static void compare_entries(struct verify *v, const char *what, int64_t have, int64_t want, bool exact) {
    if (exact ? have != want : have < want)
        buf_printf(v->report, "look-up entries of %s: %lld, should be %lld\n", what, (long long)have, (long long)want);
}

static enum xt_code check_counts(struct verify *v) {
    size_t before = v->report->n;
    enum xt_code code = XT_OK;
    if (v->lookups) {
        compare_entries(v, "traces", v->counts.traces, v->traces, v->exact);
        compare_entries(v, "observations", v->counts.observations, v->observations, v->exact);
        if (v->exact) /* entries of removed traces don't cancel each other */
            compare_entries(v, "values", v->counts.posts, v->posts, true);
    }
    v->written[F_LOOKUPS] += v->report->n != before;
    if (code == XT_OK)
        code = compare_count(v,
                             "SELECT (SELECT coalesce(sum(n), 0) FROM payload)"
                             " - (SELECT coalesce(sum(n), 0) FROM payload_gone)",
                             "payloads", v->payloads);
    if (code == XT_OK)
        code = compare_count(v,
                             "SELECT count(*) FROM payload_gone g LEFT JOIN payload p USING (pid)"
                             " WHERE p.n IS NULL OR g.n >= p.n OR g.n < 1",
                             "packs that should be gone", 0);
    return code == XT_OK ? payload_check(v->c, v->report, FINDINGS_MAX, v->err) : code;
}

/* The index by itself. One that can't be read is a finding, and not asked again. */
static enum xt_code check_index(struct verify *v) {
    struct xt_err why = { 0 };
    size_t before = v->report->n;
    enum xt_code code = lookup_verify(v->c, v->report, &v->counts, &v->exact, &why);
    v->lookups = code == XT_OK;
    if (code == XT_EUNAVAILABLE && !v->c->broken) {
        buf_printf(v->report, "%s\n", why.msg);
        code = XT_OK;
    }
    v->written[F_LOOKUPS] += v->report->n != before;
    return code == XT_OK ? code : xt_fail(v->err, code, "%s", why.msg);
}

static bool prepare_all(struct verify *v) {
    v->obs = conn_prepare(v->c, "SELECT " OBS_COLUMNS " FROM obs ORDER BY tseq, oid", "verify", v->err);
    v->tmodel = conn_prepare(v->c, "SELECT tseq, model, n, " MODEL_SUMS " FROM trace_model ORDER BY tseq, model",
                             "verify", v->err);
    v->payload =
        conn_prepare(v->c, "SELECT pid, n FROM payload WHERE pid <= ?1 ORDER BY pid DESC LIMIT 1", "verify", v->err);
    v->in_trash = conn_prepare(v->c, "SELECT 1 FROM trash WHERE tseq = ?1", "verify", v->err);
    return v->obs && v->tmodel && v->payload && v->in_trash;
}

enum xt_code sqlite_verify(struct sqlite_store *e, struct conn *c, struct buf *report, struct verify_found *ret,
                           struct xt_err *err) {
    struct verify v = { .e = e, .c = c, .report = report, .err = err };
    arena_init(&v.a, ROW_BYTES);
    v.g = (struct group){ .e = e, .c = c, .a = &v.a };
    enum xt_code code = prepare_all(&v) ? XT_OK : c->failed;
    if (code == XT_OK)
        code = get_i64(&v, "SELECT v FROM state WHERE k = 'next_tseq'", &v.next_tseq);
    if (code == XT_OK)
        code = get_i64(&v, "SELECT v FROM state WHERE k = 'next_pid'", &v.next_pid);
    if (code == XT_OK)
        code = check_index(&v);
    if (code == XT_OK)
        code = check_traces(&v);
    if (code == XT_OK)
        code = check_counts(&v);
    if (code == XT_OK)
        code = check_rollups(&v);
    sqlite3_stmt *all[] = { v.obs, v.tmodel, v.payload, v.in_trash };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sqlite3_finalize(all[i]);
    index_unpin(c);
    codec_done(&v.codec);
    arena_done(&v.a);
    *ret = (struct verify_found){ .sums = v.written[F_SUMS] + v.written[F_MODELS] + v.written[F_STRAYS] > 0,
                                  .lookups = v.written[F_LOOKUPS] > 0,
                                  .rollups = v.written[F_ROLLUPS] > 0 };
    return code;
}
