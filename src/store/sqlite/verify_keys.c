/* verify_keys.c -- rows of record_key against the metadata they come from: compared by the deep check, made anew by repair.
 *
 * Metadata that can't be read is found elsewhere; what it said about turns and runs is not judged then. */
#include "store/fold/keys.h"
#include "store/fold/record.h"
#include "store/sqlite/lookup.h"
#include "store/sqlite/payload.h"

#define TEXT_BYTES ((size_t)2 << 30)

/* A record that has metadata. */
struct keyed {
    int64_t project, tseq;
    struct str oid; /* '': the trace itself */
};
typedef enum xt_code keyed_visitor(void *arg, const struct keyed *r, const struct record_keys *keys,
                                   struct xt_err *err);

static enum xt_code visit_row(struct conn *c, sqlite3_stmt *st, struct codec *k, struct arena *a, bool *unreadable,
                              keyed_visitor *visit, void *arg, struct xt_err *err) {
    struct record_keys keys;
    struct str text;
    const struct keyed r = { sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), col_blob(st, 2) };
    arena_reset(a);
    enum xt_code code = payload_get(c, k, a, sqlite3_column_int64(st, 3), &text, err);
    if (code == XT_ESTORE) {
        *unreadable = true;
        return XT_OK;
    }
    if (code != XT_OK)
        return code;
    if (!record_keys_of(a, text, &keys))
        return no_memory(err);
    return record_keys_any(&keys) ? visit(arg, &r, &keys, err) : XT_OK;
}

static enum xt_code visit_all(struct conn *c, bool *unreadable, keyed_visitor *visit, void *arg, struct xt_err *err) {
    static const char *const tables[] = { "SELECT project, tseq, x'', pmeta FROM trace WHERE pmeta > 0",
                                          "SELECT project, tseq, oid, pmeta FROM obs WHERE pmeta > 0" };
    struct codec k = { .dicts = c->dicts };
    struct arena a;
    enum xt_code code = XT_OK;
    arena_init(&a, TEXT_BYTES);
    for (size_t i = 0; i < sizeof tables / sizeof *tables && code == XT_OK; i++) {
        sqlite3_stmt *st = NULL;
        int rc = sqlite3_prepare_v2(c->db, tables[i], -1, &st, NULL);
        while (code == XT_OK && rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
            rc = SQLITE_OK;
            code = visit_row(c, st, &k, &a, unreadable, visit, arg, err);
        }
        sqlite3_finalize(st);
        if (code == XT_OK && rc != SQLITE_DONE)
            code = conn_fail(c, rc, "turns, runs and steps", err);
    }
    arena_done(&a);
    codec_done(&k);
    return code;
}

struct comparing {
    struct conn *c;
    sqlite3_stmt *has;
    int64_t expected, missing;
};

static enum xt_code compare(void *arg, const struct keyed *r, const struct record_keys *keys, struct xt_err *err) {
    struct comparing *v = arg;
    for (int i = 0; i < RECORD_KEYS; i++) {
        if (!str_has(keys->v[i]))
            continue;
        sqlite3_bind_int64(v->has, 1, r->project);
        sqlite3_bind_int(v->has, 2, i + 1);
        bind_blob(v->has, 3, keys->v[i]);
        sqlite3_bind_int64(v->has, 4, r->tseq);
        bind_blob(v->has, 5, r->oid);
        int rc = sqlite3_step(v->has);
        sqlite3_reset(v->has);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return conn_fail(v->c, rc, "turns, runs and steps", err);
        v->expected++;
        v->missing += rc == SQLITE_DONE;
    }
    return XT_OK;
}

static enum xt_code count_all(struct conn *c, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "SELECT count(*) FROM record_key", -1, &st, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "turns, runs and steps", err);
}

enum xt_code record_keys_verify(struct conn *c, struct buf *report, bool *ret_wrong, struct xt_err *err) {
    struct comparing v = { .c = c };
    bool unreadable = false;
    int64_t rows = 0;
    v.has = conn_prepare(
        c, "SELECT 1 FROM record_key WHERE project = ?1 AND kind = ?2 AND v = ?3 AND tseq = ?4 AND oid = ?5",
        "turns, runs and steps", err);
    enum xt_code code = v.has ? XT_OK : c->failed;
    if (code == XT_OK)
        code = visit_all(c, &unreadable, compare, &v, err);
    sqlite3_finalize(v.has);
    if (code == XT_OK)
        code = count_all(c, &rows, err);
    if (code != XT_OK)
        return code;
    int64_t stale = unreadable ? 0 : rows - (v.expected - v.missing);
    *ret_wrong = v.missing > 0 || stale != 0;
    if (*ret_wrong)
        buf_printf(report,
                   "turns, runs and steps: %lld that metadata names are missing, %lld are stored that none names\n",
                   (long long)v.missing, (long long)stale);
    return XT_OK;
}

struct rebuilding {
    struct conn *c;
    int64_t n;
};

static enum xt_code add(void *arg, const struct keyed *r, const struct record_keys *keys, struct xt_err *err) {
    struct rebuilding *b = arg;
    enum xt_code code = XT_OK;
    for (int i = 0; i < RECORD_KEYS && code == XT_OK; i++) {
        if (!str_has(keys->v[i]))
            continue;
        code = record_keys_add(b->c, r->project, i + 1, keys->v[i], r->tseq, r->oid, err);
        b->n++;
    }
    return code;
}

enum xt_code record_keys_rebuild(struct conn *c, int64_t *ret_n, struct xt_err *err) {
    struct rebuilding b = { .c = c };
    bool unreadable = false;
    enum xt_code code = conn_exec(c, "DELETE FROM record_key", err);
    if (code == XT_OK)
        code = visit_all(c, &unreadable, add, &b, err);
    *ret_n = b.n;
    return code;
}
