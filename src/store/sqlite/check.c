/* check.c -- self-test of a store: the file's structure, counts. What traces and samples promise is
 * verify.c's and verify_samples.c's. Reads only, in one snapshot, on a connection of its own; works beside a
 * running server. A finding is a line of the report, not an error, so that one trouble does not hide the next. */
#include <string.h>

#include "store/sqlite/lookup.h"

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

/* ---- counts ---- */

void check_totals(struct conn *c, struct buf *report) {
    static const struct {
        const char *what, *sql;
    } tables[] = {
        { "projects", "SELECT count(*) FROM project" },
        { "keys", "SELECT count(*) FROM api_key" },
        { "traces", "SELECT count(*) FROM trace" },
        { "observations", "SELECT count(*) FROM obs" },
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
    struct xt_err why;
    int64_t samples = 0;
    if (sqlite_count_samples(c, &samples, &why) == XT_OK)
        buf_printf(report, ", samples %lld\n", (long long)samples);
    else
        buf_add_c(report, ", samples unreadable\n");
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
    enum xt_code code = sqlite_verify(e, c, report, ret, err);
    ret->structure = structure;
    if (code == XT_OK)
        code = record_keys_verify(c, report, &ret->keys, err);
    return code == XT_OK ? sqlite_verify_samples(c, report, err) : code;
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
