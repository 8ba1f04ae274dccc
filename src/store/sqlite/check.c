/* check.c -- self-test of a store: the file's structure, what the rows of samples promise each other, counts. What
 * traces promise each other is verify.c's. Reads only, in one snapshot, on a connection of its own; works beside a
 * running server. A finding is a line of the report, not an error, so that one trouble does not hide the next. */
#include <string.h>

#include "store/sqlite/engine.h"
#include "store/sqlite/labels.h"

#define FINDINGS_MAX 20 /* of one kind */
#define LABELS_SCRATCH (256u << 20)

static void finding(struct buf *report, struct str text) {
    buf_add_str(report, text);
    buf_add_char(report, '\n');
}

/* Each row of the statement is a finding, except a lone "ok". */
static void rows_are_findings(struct conn *c, const char *sql, const char *what, struct buf *report) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            if (!str_eq_c(col_str(st, 0), "ok"))
                finding(report, col_str(st, 0));
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE)
        buf_printf(report, "%s: %s (%d)\n", what, sqlite3_errstr(rc), rc);
}

/* ---- samples ---- */

/* Statements whose rows are sentences about what is wrong. */
static const char *const sample_checks[] = {
    "SELECT 'series ' || sid || ': no metric ' || metric FROM series"
    " WHERE metric NOT IN (SELECT id FROM metric) LIMIT 20",
    "SELECT 'metric ' || id || ': no project ' || project FROM metric"
    " WHERE project NOT IN (SELECT id FROM project) LIMIT 20",
    "SELECT 'samples of series ' || sid || ': no such series' FROM (SELECT DISTINCT sid FROM sample)"
    " WHERE sid NOT IN (SELECT sid FROM series) LIMIT 20",
    "SELECT 'series ' || a.sid || ' and ' || b.sid || ': same labels' FROM series a JOIN series b"
    " ON b.metric = a.metric AND b.h = a.h AND b.labels = a.labels AND b.sid > a.sid LIMIT 20",
    "SELECT 'sample number ' || max(seq) || ': not below the next one, ' || state.v FROM sample, state"
    " WHERE k = 'next_sample' GROUP BY state.v HAVING max(seq) >= state.v",
};

/* Label sets must be readable and lie where their hash says. */
static void check_labels(const struct sqlite_store *e, struct conn *c, struct buf *report) {
    struct arena scratch;
    arena_init(&scratch, LABELS_SCRATCH);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "SELECT sid, metric, h, labels FROM series", -1, &st, NULL);
    size_t found = 0;
    while (rc == SQLITE_OK && found < FINDINGS_MAX && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        rc = SQLITE_OK;
        struct label *labels = NULL;
        size_t n = 0;
        struct str text = col_str(st, 3);
        arena_reset(&scratch);
        bool fine = labels_parse(&scratch, text, &labels, &n) &&
                    key_hash(e, HASH_SERIES, sqlite3_column_int64(st, 1), text) == sqlite3_column_int64(st, 2);
        if (!fine && !scratch.failed) {
            buf_printf(report, "series %lld: damaged labels\n", (long long)sqlite3_column_int64(st, 0));
            found++;
        }
    }
    sqlite3_finalize(st);
    arena_done(&scratch);
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        buf_printf(report, "series: %s (%d)\n", sqlite3_errstr(rc), rc);
}

/* ---- counts ---- */

void check_totals(struct conn *c, struct buf *report) {
    static const struct {
        const char *what, *sql;
    } tables[] = {
        { "projects", "SELECT count(*) FROM project" }, { "keys", "SELECT count(*) FROM api_key" },
        { "traces", "SELECT count(*) FROM trace" },     { "observations", "SELECT count(*) FROM obs" },
        { "metrics", "SELECT count(*) FROM metric" },   { "series", "SELECT count(*) FROM series" },
        { "samples", "SELECT count(*) FROM sample" },
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        sqlite3_stmt *st = NULL;
        int rc = sqlite3_prepare_v2(c->db, tables[i].sql, -1, &st, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(st);
        buf_printf(report, "%s%s ", i ? ", " : "", tables[i].what);
        if (rc == SQLITE_ROW)
            buf_printf(report, "%lld", (long long)sqlite3_column_int64(st, 0));
        else
            buf_printf(report, "unreadable (%s)", sqlite3_errstr(rc));
        sqlite3_finalize(st);
    }
    buf_add_char(report, '\n');
}

size_t check_lines(const struct buf *report) {
    size_t n = 0;
    struct str s = buf_str(report);
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

enum xt_code check_deep(struct sqlite_store *e, struct conn *c, struct buf *report, struct verify_found *ret,
                        struct xt_err *err) {
    size_t before = check_lines(report);
    rows_are_findings(c, "PRAGMA integrity_check(100)", "structure", report);
    bool structure = check_lines(report) != before;
    for (size_t i = 0; i < sizeof sample_checks / sizeof *sample_checks; i++)
        rows_are_findings(c, sample_checks[i], "samples", report);
    check_labels(e, c, report);
    enum xt_code code = sqlite_verify(e, c, report, ret, err);
    ret->structure = structure;
    return code;
}

enum xt_code sqlite_check(struct store *s, bool deep, struct buf *report, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn c = { 0 };
    struct verify_found what;
    size_t before = check_lines(report);
    enum xt_code code = conn_open(&c, e, CONN_COPY, err);
    if (code == XT_OK)
        code = conn_begin(&c, false, err);
    if (code == XT_OK && deep)
        code = check_deep(e, &c, report, &what, err);
    else if (code == XT_OK)
        rows_are_findings(&c, "PRAGMA quick_check(100)", "structure", report);
    size_t found = check_lines(report) - before;
    if (code == XT_OK)
        check_totals(&c, report);
    conn_rollback(&c);
    conn_close(&c);
    if (found > 0 && (code == XT_OK || code == XT_EUNAVAILABLE)) /* what was found says why it ended */
        code = xt_fail(err, XT_ESTORE, "the store is damaged: %zu findings", found);
    return code;
}
