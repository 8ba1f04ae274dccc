/* verify_samples.c -- the deep self-test of samples: every part of every generation is read, its counts and times are
 * compared with what the directory says, its labels with the filter; the log is read as at a start. Reads only, in the
 * caller's snapshot; memory is bounded by the log and one part. What belongs to no sealed generation is no finding: a
 * generation is being written, or one never was finished. */
#include <stdio.h>

#include "store/sqlite/samples.h"

#define FINDINGS_MAX 20

struct verify {
    struct conn *c;
    struct buf *report;
    struct xt_err *err;
    int64_t next_gen;
    size_t found;
    /* Of the part that is read. */
    int64_t metric, gen, rows, points, t0, t1;
    bool unfiltered;
};

static void __attribute__((format(printf, 2, 3))) finding(struct verify *v, const char *fmt, ...) {
    char text[160];
    va_list args;
    if (v->found++ >= FINDINGS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_printf(v->report, "samples: %s\n", text);
}

static enum xt_code filter_holds(struct verify *v, const struct label *l, bool *ret) {
    uint64_t hash = filter_hash(v->metric, l->name, l->value);
    sqlite3_stmt *st = v->rows > 0 ? conn_stmt(v->c, SQL_MFILTER_GET, v->err) : NULL;
    *ret = false;
    if (!st)
        return v->rows > 0 ? v->c->failed : XT_OK;
    sqlite3_bind_int64(st, 1, v->gen << SAMPLE_PACK_BITS | (int64_t)filter_row(hash, (size_t)v->rows));
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW && filter_maybe(col_blob(st, 0), (size_t)v->rows, hash);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(v->c, rc, "verify", v->err);
}

static bool on_run(void *arg, const struct pack_run *run) {
    struct verify *v = arg;
    for (size_t i = 0; i < run->n; i++) {
        v->t0 = run->times[i] < v->t0 ? run->times[i] : v->t0;
        v->t1 = run->times[i] > v->t1 ? run->times[i] : v->t1;
    }
    v->points += (int64_t)run->n;
    bool held = true;
    for (size_t i = 0; i < run->nlabels && held; i++)
        if (filter_holds(v, &run->labels[i], &held) != XT_OK)
            return false;
    v->unfiltered = v->unfiltered || !held;
    return true;
}

/* The row at the cursor: k, n, t0, t1, lab, pts, raw. */
static enum xt_code check_part(struct verify *v, sqlite3_stmt *st) {
    long long part = (long long)(sqlite3_column_int64(st, 0) & ((1 << SAMPLE_PACK_BITS) - 1));
    v->points = 0;
    v->t0 = TIME_MAX;
    v->t1 = TIME_MIN;
    v->unfiltered = false;
    v->c->failed = XT_OK;
    enum xt_code code = pack_each(col_blob(st, 4), col_blob(st, 5), col_blob(st, 6), on_run, v, v->err);
    if (v->c->failed != XT_OK)
        return v->c->failed;
    if (code == XT_ESTORE)
        finding(v, "part %lld of generation %lld is damaged", part, (long long)v->gen);
    if (code != XT_OK)
        return code == XT_ESTORE ? XT_OK : code;
    if (v->points != sqlite3_column_int64(st, 1) || v->t0 != sqlite3_column_int64(st, 2) ||
        v->t1 != sqlite3_column_int64(st, 3))
        finding(v, "part %lld of generation %lld: not the points or times of its row", part, (long long)v->gen);
    if (v->unfiltered)
        finding(v, "part %lld of generation %lld: labels that the filter does not know", part, (long long)v->gen);
    return XT_OK;
}

/* The row at the cursor: name, gen, first, parts, n, t0, t1, frows, cut. */
static enum xt_code check_dir(struct verify *v, sqlite3_stmt *dir, sqlite3_stmt *parts) {
    v->metric = sqlite3_column_int64(dir, 0);
    v->gen = sqlite3_column_int64(dir, 1);
    v->rows = sqlite3_column_int64(dir, 7);
    const int64_t from = sqlite3_column_int64(dir, 2), wanted = sqlite3_column_int64(dir, 3);
    if (!seal_dir_sound(v->gen, from, wanted, v->rows)) {
        finding(v, "generation %lld, metric %lld: a directory that can't be", (long long)v->gen, (long long)v->metric);
        return XT_OK;
    }
    int64_t first = v->gen << SAMPLE_PACK_BITS | from, count = 0, t0 = TIME_MAX, t1 = TIME_MIN;
    uint64_t n = 0;
    sqlite3_bind_int64(parts, 1, first);
    sqlite3_bind_int64(parts, 2, first + wanted - 1);
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    while (code == XT_OK && (rc = sqlite3_step(parts)) == SQLITE_ROW) {
        n += (uint64_t)sqlite3_column_int64(parts, 1); /* may be anything */
        t0 = sqlite3_column_int64(parts, 2) < t0 ? sqlite3_column_int64(parts, 2) : t0;
        t1 = sqlite3_column_int64(parts, 3) > t1 ? sqlite3_column_int64(parts, 3) : t1;
        count++;
        code = check_part(v, parts);
    }
    sqlite3_reset(parts);
    if (code == XT_OK && rc != SQLITE_DONE)
        return conn_fail(v->c, rc, "verify", v->err);
    bool whole = sqlite3_column_int64(dir, 8) <= sqlite3_column_int64(dir, 5); /* nothing of it may be missing */
    if (n != (uint64_t)sqlite3_column_int64(dir, 4) || (whole && count != wanted) ||
        (whole && (t0 != sqlite3_column_int64(dir, 5) || t1 != sqlite3_column_int64(dir, 6))))
        finding(v, "generation %lld, metric %lld: not the parts of its directory", (long long)v->gen,
                (long long)v->metric);
    return code;
}

static enum xt_code check_gens(struct verify *v) {
    sqlite3_stmt *dir = conn_prepare(
                     v->c,
                     "SELECT d.name, d.gen, d.first, d.parts, d.n, d.t0, d.t1, g.frows, g.cut FROM mdir d"
                     " JOIN mgen g ON g.gen = d.gen WHERE d.gen >= 1 AND d.gen < ?1 ORDER BY d.gen, d.first",
                     "verify", v->err),
                 *parts = conn_prepare(v->c,
                                       "SELECT k, n, t0, t1, lab, pts, raw FROM mpack WHERE k BETWEEN ?1 AND ?2"
                                       " ORDER BY k",
                                       "verify", v->err);
    enum xt_code code = dir && parts ? XT_OK : v->c->failed;
    int rc = SQLITE_DONE;
    if (dir)
        sqlite3_bind_int64(dir, 1, v->next_gen);
    while (code == XT_OK && (rc = sqlite3_step(dir)) == SQLITE_ROW)
        code = check_dir(v, dir, parts);
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(v->c, rc, "verify", v->err);
    sqlite3_finalize(dir);
    sqlite3_finalize(parts);
    return code;
}

/* Statements whose rows are what is wrong; ?1 is next_gen. */
static const char *const sentences[] = {
    "SELECT 'metric ' || id || ': no project ' || project FROM mname WHERE project NOT IN (SELECT id FROM project)"
    " AND ?1 LIMIT 20",
    "SELECT 'generation ' || gen || ': a number that is never given' FROM (SELECT gen FROM mgen UNION ALL SELECT gen"
    " FROM mdir UNION ALL SELECT k >> 24 FROM mpack WHERE k < 16777216 OR k >> 24 > 536870912)"
    " WHERE (gen < 1 OR gen > 536870912) AND ?1 LIMIT 20",
    "SELECT 'generation ' || gen || ': no metric ' || name FROM mdir WHERE gen < ?1"
    " AND name NOT IN (SELECT id FROM mname) LIMIT 20",
    "SELECT 'generation ' || gen || ': a directory and no row' FROM mdir WHERE gen < ?1"
    " AND gen NOT IN (SELECT gen FROM mgen) LIMIT 20",
    "SELECT 'part ' || (k & 16777215) || ' of generation ' || (k >> 24) || ': in no directory' FROM mpack"
    " WHERE k >> 24 < ?1 AND NOT EXISTS (SELECT 1 FROM mdir WHERE gen = k >> 24 AND first <= (k & 16777215)"
    " AND first + parts > (k & 16777215)) LIMIT 20",
    "SELECT 'generation ' || gen || ': it counts ' || n || ' points, its directory ' ||"
    " (SELECT coalesce(sum(d.n), 0) FROM mdir d WHERE d.gen = mgen.gen) FROM mgen WHERE gen < ?1 AND cut <= t0"
    " AND n <> (SELECT coalesce(sum(d.n), 0) FROM mdir d WHERE d.gen = mgen.gen) LIMIT 20",
    "SELECT 'row ' || (-k & 4294967295) || ' of part ' || (-k >> 32) || ' of the log was put aside: damaged'"
    " FROM mlog WHERE k < 0 AND ?1 LIMIT 20",
};

static enum xt_code check_sentences(struct verify *v) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < sizeof sentences / sizeof *sentences && code == XT_OK; i++) {
        sqlite3_stmt *st = conn_prepare(v->c, sentences[i], "verify", v->err);
        int rc = SQLITE_DONE;
        if (!st)
            return v->c->failed;
        sqlite3_bind_int64(st, 1, v->next_gen);
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            finding(v, "%.*s", STR_FMT(col_str(st, 0)));
        if (rc != SQLITE_DONE)
            code = conn_fail(v->c, rc, "verify", v->err);
        sqlite3_finalize(st);
    }
    return code;
}

enum xt_code sqlite_verify_samples(struct conn *c, struct buf *report, struct xt_err *err) {
    struct verify v = { .c = c, .report = report, .err = err };
    struct samples_log log;
    enum xt_code code = samples_log_read(c, &log, err);
    if (code != XT_OK)
        return code;
    v.next_gen = log.v->next_gen;
    if (log.ndamaged > 0 || log.lost > 0)
        finding(&v, "%zu rows of the log are damaged, %llu points of others are lost with them", log.ndamaged,
                (unsigned long long)log.lost);
    samples_version_unref(log.v);
    code = check_sentences(&v);
    return code == XT_OK ? check_gens(&v) : code;
}

enum xt_code sqlite_count_samples(struct conn *c, int64_t *ret, struct xt_err *err) {
    struct samples_log log;
    enum xt_code code = samples_log_read(c, &log, err);
    if (code != XT_OK)
        return code;
    sqlite3_stmt *st = conn_stmt(c, SQL_MDIR_SUM, err);
    if (!st)
        code = c->failed;
    else
        sqlite3_bind_int64(st, 1, log.v->next_gen);
    if (st && sqlite3_step(st) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else if (st)
        code = conn_fail(c, sqlite3_errcode(c->db), "samples", err);
    if (st)
        sqlite3_reset(st);
    for (size_t i = 0; i < log.v->n; i++)
        *ret += log.v->parts[i]->n.points;
    samples_version_unref(log.v);
    return code;
}
