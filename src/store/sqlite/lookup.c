/* lookup.c -- the index tables ix_trace and ix_post behind lookup.h. */
#include "store/sqlite/lookup.h"

/* One row of one integer, or `none`. */
static enum xt_code get_i64(struct conn *c, sqlite3_stmt *st, int64_t none, int64_t *ret, struct xt_err *err) {
    int rc = sqlite3_step(st);
    int64_t v = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : none;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "look-up", err);
    *ret = v;
    return XT_OK;
}

/* Statement with (project, key) or (project, key, tseq) bound. NULL: err filled. */
static sqlite3_stmt *keyed(struct conn *c, enum sql_id id, int64_t project, struct str key, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (st) {
        sqlite3_bind_int64(st, 1, project);
        bind_blob(st, 2, key);
    }
    return st;
}

static enum xt_code change(struct conn *c, enum sql_id id, int64_t project, struct str key, int64_t tseq,
                           struct xt_err *err) {
    sqlite3_stmt *st = keyed(c, id, project, key, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 3, tseq);
    return conn_run(c, st, "look-up", err);
}

enum xt_code lookup_trace(struct conn *c, int64_t project, struct str key, int64_t *ret_tseq, struct xt_err *err) {
    sqlite3_stmt *st = keyed(c, SQL_LOOK_TRACE, project, key, err); /* joins the row */
    return st ? get_i64(c, st, 0, ret_tseq, err) : c->failed;
}

enum xt_code lookup_add_trace(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err) {
    return change(c, SQL_LOOK_TRACE_ADD, project, key, tseq, err);
}

enum xt_code lookup_drop_trace(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err) {
    return change(c, SQL_LOOK_TRACE_DROP, project, key, tseq, err);
}

/* ---- postings ---- */

static sqlite3_stmt *posting(struct conn *c, enum sql_id id, int64_t h, int64_t a, int64_t b, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (st) {
        sqlite3_bind_int64(st, 1, h);
        sqlite3_bind_int64(st, 2, a);
        sqlite3_bind_int64(st, 3, b);
    }
    return st;
}

enum xt_code lookup_add_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err) {
    sqlite3_stmt *st = posting(c, SQL_LOOK_POST_ADD, h, ts, tseq, err);
    return st ? conn_run(c, st, "look-up", err) : c->failed;
}

enum xt_code lookup_drop_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err) {
    sqlite3_stmt *st = posting(c, SQL_LOOK_POST_DROP, h, ts, tseq, err);
    return st ? conn_run(c, st, "look-up", err) : c->failed;
}

enum xt_code lookup_count(struct conn *c, int64_t h, int64_t from, int64_t to, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = posting(c, SQL_LOOK_COUNT, h, from, to, err);
    return st ? get_i64(c, st, 0, ret, err) : c->failed;
}

enum xt_code look_walk_open(struct look_walk *w, struct conn *c, int64_t h, int64_t from, int64_t to, bool descending,
                            struct xt_err *err) {
    w->conn = c;
    w->st = posting(c, descending ? SQL_LOOK_LIST_DESC : SQL_LOOK_LIST_ASC, h, from, to, err);
    return w->st ? XT_OK : c->failed;
}

enum xt_code look_walk_next(struct look_walk *w, int64_t *ret_ts, int64_t *ret_tseq, struct xt_err *err) {
    *ret_tseq = 0;
    if (!w->st)
        return XT_OK;
    int rc = sqlite3_step(w->st);
    if (rc == SQLITE_ROW) {
        *ret_ts = sqlite3_column_int64(w->st, 0);
        *ret_tseq = sqlite3_column_int64(w->st, 1);
        return XT_OK;
    }
    look_walk_close(w);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(w->conn, rc, "look-up", err);
}

void look_walk_close(struct look_walk *w) {
    if (w->st)
        sqlite3_reset(w->st);
    w->st = NULL;
}
