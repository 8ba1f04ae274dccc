/* index_verify.c -- what the index promises by itself, checked part by part: sizes, order, fences, filters, numbers; and
 * making it anew from the rows. */
#include <stdio.h>
#include <stdlib.h>

#include "store/sqlite/group.h"
#include "store/sqlite/index.h"

#define FINDINGS_MAX 20
#define ROW_BYTES ((size_t)1 << 30)

/* ---- checking ---- */

struct check {
    struct conn *c;
    struct buf *report;
    struct xt_err *err;
    size_t findings;
};

static void finding(struct check *k, const struct ix_run *r, const char *what) {
    if (k->findings++ < FINDINGS_MAX)
        buf_printf(k->report, "look-ups, run %lld: %s\n", (long long)r->number, what);
}

/* Damage is a finding; anything else ends the check. */
static enum xt_code note_damage(struct check *k, const struct ix_run *r, enum xt_code code, const char *what) {
    if (code != XT_EUNAVAILABLE || k->c->broken)
        return code;
    finding(k, r, what);
    return XT_OK;
}

static enum xt_code check_kind(struct check *k, struct ix_run *r, enum ix_kind kind) {
    struct ix_part part;
    struct ix_entry e = { 0 }, before = { 0 };
    bool may = true, sorted = true, filtered = true, lower = true;
    enum xt_code code = XT_OK;
    part.number = -1;
    for (int64_t at = 0; at < r->n[kind]; at++) {
        int64_t rank = 0;
        bool first = at % (int64_t)run_per_part(r, kind) == 0;
        code = run_entry(k->c, r, kind, at, &part, &e, k->err);
        if (code != XT_OK)
            return note_damage(k, r, code, "a part is missing or damaged");
        sorted = sorted && (at == 0 || ix_cmp(&before, &e) <= 0);
        lower = lower && e.tseq > 0 && e.tseq <= r->tseq1 && (kind >= IX_POST || e.h >> r->ix->bits == 0);
        if (kind == IX_TRACE) {
            code = run_may_have(k->c, r, e.h, true, &may, k->err);
            if (code != XT_OK)
                return note_damage(k, r, code, "its filter is damaged");
            filtered = filtered && may;
        }
        if (first && (at == 0 || before.h != e.h || before.ts != e.ts)) {
            struct ix_part other;
            other.number = -1;
            code = run_rank(k->c, r, kind, e.h, e.ts, false, &other, &rank, k->err);
            if (code != XT_OK)
                return note_damage(k, r, code, "its fences are damaged");
            sorted = sorted && rank == at;
        }
        before = e;
    }
    if (!sorted)
        finding(k, r, "entries are not in order or fences are wrong");
    if (!filtered)
        finding(k, r, "the filter misses a trace");
    if (!lower)
        finding(k, r, "an entry of a trace that it can't have");
    return XT_OK;
}

/* The view's hot parts become sorted copies: each row of the store is looked up in them. */
static enum xt_code sort_hot(struct ix_view *v, struct xt_err *err) {
    const struct ix_set *now = v->set;
    struct ix_set *s = set_new(now->nruns);
    if (!s)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    s->version = now->version;
    s->sealed = now->sealed;
    for (; s->nruns < now->nruns; s->nruns++)
        s->runs[s->nruns] = run_ref(now->runs[s->nruns]);
    for (; s->nhot < now->nhot; s->nhot++) {
        s->hot[s->nhot] = hot_sorted_copy(now->hot[s->nhot], &v->limit[s->nhot]);
        if (!s->hot[s->nhot]) {
            set_unref(s);
            return xt_fail(err, XT_ENOMEM, "out of memory");
        }
    }
    set_unref(v->set);
    v->set = s;
    return XT_OK;
}

enum xt_code lookup_verify(struct conn *c, struct buf *report, struct look_counts *ret, bool *ret_exact,
                           struct xt_err *err) {
    struct check k = { .c = c, .report = report, .err = err };
    struct ix_view *v;
    enum xt_code code = view_pin_file(c, &v, err);
    *ret_exact = false;
    if (code == XT_OK)
        code = sort_hot(v, err);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < v->set->nruns && code == XT_OK; i++)
        for (enum ix_kind kind = 0; kind < IX_KINDS && code == XT_OK; kind++)
            code = check_kind(&k, v->set->runs[i], kind);
    int64_t n[IX_KINDS] = { 0 };
    for (int kind = 0; kind < IX_KINDS; kind++) {
        for (size_t i = 0; i < v->set->nruns; i++)
            n[kind] += v->set->runs[i]->n[kind];
        for (size_t i = 0; i < v->set->nhot; i++)
            n[kind] += v->limit[i].n[kind];
    }
    *ret = (struct look_counts){ n[IX_TRACE], n[IX_OBS], n[IX_POST] - n[IX_UNPOST] };
    *ret_exact = !v->has_gone;
    return code;
}

/* ---- making it anew ---- */

struct rebuild {
    struct group g;
    struct ix_hot *hot;
    struct ix_job job;
    struct xt_err *err;
};

/* What was collected becomes a run. */
static enum xt_code write_run(struct rebuild *r) {
    bool done = false;
    enum xt_code code = XT_OK;
    r->hot->published = r->hot->staged;
    seal_begin(&r->job, r->hot);
    while (code == XT_OK && !done)
        code = job_step(&r->job, r->g.e->index, SIZE_MAX / 1024, &done, r->err);
    job_drop(&r->job);
    hot_unref(r->hot);
    r->hot = hot_new(0);
    if (code == XT_OK && !r->hot)
        code = xt_fail(r->err, XT_ENOMEM, "out of memory");
    return code;
}

static enum xt_code collect(struct rebuild *r, enum ix_kind kind, const struct ix_entry *e) {
    return hot_stage(r->hot, kind, e) ? XT_OK : xt_fail(r->err, XT_ENOMEM, "out of memory");
}

static uint64_t id_hash(const struct rebuild *r, enum look_kind kind, int64_t project, struct str key) {
    return (uint64_t)key_hash(r->g.e, (unsigned)kind, project, key) >> (64 - r->g.e->index->bits);
}

static enum xt_code collect_observations(struct rebuild *r, const struct trace_rec *t, sqlite3_stmt *obs) {
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    sqlite3_bind_int64(obs, 1, t->tseq);
    while (code == XT_OK && (rc = sqlite3_step(obs)) == SQLITE_ROW) {
        const struct ix_entry e = { .h = id_hash(r, LOOK_OBSERVATION, t->project, col_blob(obs, 0)), .tseq = t->tseq };
        code = collect(r, IX_OBS, &e);
    }
    sqlite3_reset(obs);
    return code == XT_OK && rc != SQLITE_DONE ? conn_fail(r->g.c, rc, "look-up", r->err) : code;
}

static enum xt_code collect_trace(struct rebuild *r, const struct trace_rec *t, sqlite3_stmt *obs) {
    int64_t *hashes = NULL;
    size_t n = 0;
    const struct ix_entry id = { .h = id_hash(r, LOOK_TRACE, t->project, t->id.key), .tseq = t->tseq };
    enum xt_code code = collect(r, IX_TRACE, &id);
    if (code == XT_OK)
        code = trace_hashes(&r->g, t, &hashes, &n, r->err);
    for (size_t i = 0; i < n && code == XT_OK; i++) {
        const struct ix_entry e = { (uint64_t)hashes[i], ix_time(t->ts), t->tseq };
        code = collect(r, IX_POST, &e);
    }
    return code == XT_OK ? collect_observations(r, t, obs) : code;
}

static bool is_full(const struct ix_hot *h) {
    uint64_t sum = 0;
    for (int k = 0; k < IX_KINDS; k++)
        sum += h->staged.n[k];
    return h->staged.n[IX_TRACE] >= INDEX_HOT_TRACES || sum >= INDEX_HOT_ENTRIES;
}

static enum xt_code collect_all(struct rebuild *r, sqlite3_stmt *traces, sqlite3_stmt *obs) {
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    while (code == XT_OK && (rc = sqlite3_step(traces)) == SQLITE_ROW) {
        struct trace_rec t;
        arena_reset(r->g.a);
        if (!trace_rec_read(traces, r->g.a, &t))
            return no_memory(r->err);
        code = collect_trace(r, &t, obs);
        if (code == XT_OK && is_full(r->hot))
            code = write_run(r);
    }
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(r->g.c, rc, "look-up", r->err);
    return code == XT_OK && r->hot->staged.n[IX_TRACE] > 0 ? write_run(r) : code;
}

/* Entries are made anew with as many bits as this program likes. */
static enum xt_code write_bits(struct conn *c, struct xt_err *err) {
    char sql[160];
    snprintf(sql, sizeof sql,
             "INSERT INTO state(k, v) VALUES ('ix_bits', %d) ON CONFLICT(k) DO UPDATE SET v = excluded.v",
             INDEX_HASH_BITS);
    return conn_exec(c, sql, err);
}

static enum xt_code rebuild_rows(struct rebuild *r) {
    struct conn *c = r->g.c;
    sqlite3_stmt *traces = NULL, *obs = NULL;
    /* What was there is garbage; numbers of log rows and runs go on from where they were, if they can be believed. */
    enum xt_code code = conn_exec(
        c,
        "UPDATE ixrun SET state = 2;"
        "INSERT INTO state(k, v) SELECT 'ix_sealed', coalesce(max(seq), 0) FROM ixlog WHERE true"
        " ON CONFLICT(k) DO UPDATE SET v = max(CAST(v AS INT), excluded.v);"
        "INSERT INTO state(k, v) SELECT 'next_run', 1 + coalesce(max(max(run), (SELECT max(k) >> 32 FROM ixblk)),"
        " max(run), 0) FROM ixrun WHERE true ON CONFLICT(k) DO UPDATE SET v = max(CAST(v AS INT), excluded.v);"
        "INSERT INTO state(k, v) VALUES ('ix_version', 1)"
        " ON CONFLICT(k) DO UPDATE SET v = max(1, CAST(v AS INT) + 1);"
        "DELETE FROM state WHERE k = 'gone_ts'",
        r->err);
    if (code == XT_OK)
        code = write_bits(c, r->err);
    if (code != XT_OK)
        return code;
    int rc = sqlite3_prepare_v2(c->db, "SELECT " TRACE_COLUMNS " FROM trace ORDER BY tseq", -1, &traces, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(c->db, "SELECT oid FROM obs WHERE tseq = ?1", -1, &obs, NULL);
    code = rc == SQLITE_OK ? collect_all(r, traces, obs) : conn_fail(c, rc, "look-up", r->err);
    sqlite3_finalize(traces);
    sqlite3_finalize(obs);
    return code;
}

enum xt_code lookup_rebuild(struct sqlite_store *e, struct xt_err *err) {
    struct arena a;
    struct rebuild r = { .g = { .e = e, .c = &e->writer, .a = &a }, .hot = hot_new(0), .err = err };
    if (!r.hot)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    arena_init(&a, ROW_BYTES);
    struct index *ix = e->index;
    const int bits = ix->bits;
    const bool damaged = ix->bits_damaged;
    ix->bits = INDEX_HASH_BITS;
    ix->bits_damaged = false;
    enum xt_code code = rebuild_rows(&r);
    if (code != XT_OK) {
        ix->bits = bits;
        ix->bits_damaged = damaged;
    }
    job_drop(&r.job);
    hot_unref(r.hot);
    arena_done(&a);
    return code;
}
