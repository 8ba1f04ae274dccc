/* check.c -- self-test: the database is there, has our schema in the version we know, and lets us do what serving needs;
 * counts; when deep also that what is kept beside the rows follows from them (verify.c). A finding is a line of the report. */
#include "store/postgres/engine.h"
#include "store/postgres/verify.h"

#define CHECK_NS (600 * NS_PER_SEC)

static enum xt_code totals(struct pg_conn *c, struct buf *report, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = pg_query(c,
                                 "SELECT (SELECT count(*) FROM xtrace.project), (SELECT count(*) FROM xtrace.api_key), "
                                 "(SELECT count(*) FROM xtrace.trace), (SELECT count(*) FROM xtrace.observation)",
                                 NULL, &r, err);
    if (code != XT_OK)
        return code;
    buf_printf(report, "projects %lld, keys %lld, traces %lld, observations %lld\n", (long long)pg_i64(r, 0, 0),
               (long long)pg_i64(r, 0, 1), (long long)pg_i64(r, 0, 2), (long long)pg_i64(r, 0, 3));
    PQclear(r);
    return XT_OK;
}

/* Indexes that a build left unfinished answer nothing. */
static enum xt_code indexes(struct pg_conn *c, struct buf *report, size_t *found, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code =
        pg_query(c,
                 "SELECT c.relname::text FROM pg_catalog.pg_index i "
                 "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
                 "WHERE c.relnamespace = to_regnamespace('xtrace') AND NOT (i.indisvalid AND i.indisready)",
                 NULL, &r, err);
    if (code != XT_OK)
        return code;
    for (int i = 0; i < PQntuples(r); i++, ++*found)
        buf_printf(report, "index xtrace.%.*s is not valid: REINDEX it\n", STR_FMT(pg_bytes(r, i, 0)));
    PQclear(r);
    return XT_OK;
}

enum xt_code postgres_check(struct store *s, bool deep, struct buf *report, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_conn c;
    size_t found = 0;
    pg_conn_init(&c, e->target, false);
    c.deadline = clock_mono_ns() + CHECK_NS;
    enum xt_code code = pg_rights_check(e, &c, err);
    if (code == XT_EFORBIDDEN) {
        buf_printf(report, "%s\n", err->msg);
        found++;
        code = XT_OK;
    }
    if (code == XT_OK)
        code = pg_begin(&c, false, err);
    if (code == XT_OK)
        code = indexes(&c, report, &found, err);
    if (code == XT_OK && deep)
        code = pg_verify(&c, report, &found, err);
    if (code == XT_OK)
        code = totals(&c, report, err);
    pg_conn_done(&c);
    return code == XT_OK && found ? xt_fail(err, XT_ESTORE, "the store is damaged: %zu findings", found) : code;
}
