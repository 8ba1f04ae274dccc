/* payload.c -- see payload.h. */
#include "store/sqlite/payload.h"

/* ---- rows ---- */

static enum xt_code find_dict(void *arg, int64_t number, struct dict_row *ret, struct xt_err *err) {
    return payload_dict(arg, number, ret, err);
}

static void codec_read_by(struct codec *k, struct conn *c) {
    k->dicts = c->dicts;
    k->from = (struct dict_source){ c, find_dict };
}

/* At the row that should hold text `pid`. XT_ESTORE: there is none. */
static enum xt_code find_row(struct conn *c, sqlite3_stmt *st, int64_t pid, struct text_row *ret, struct xt_err *err) {
    sqlite3_bind_int64(st, 1, pid);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? text_damaged(err) : conn_fail(c, rc, "payload", err);
    *ret = (struct text_row){ .first = sqlite3_column_int64(st, 0), .n = sqlite3_column_int64(st, 1) };
    return text_row_holds(ret, pid) ? XT_OK : text_damaged(err);
}

enum xt_code payload_get(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str *ret,
                         struct xt_err *err) {
    struct text_row r = { .n = 0 };
    *ret = STR_NONE;
    if (pid == 0)
        return XT_OK;
    if (codec_kept(k, a, pid, ret))
        return str_has(*ret) ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_GET, err);
    if (!st)
        return c->failed;
    codec_read_by(k, c);
    enum xt_code code = find_row(c, st, pid, &r, err);
    if (code == XT_OK) {
        r.z = col_blob(st, 2);
        code = text_row_get(k, a, &r, pid, ret, err);
    }
    sqlite3_reset(st);
    return code;
}

static enum xt_code add_row(struct conn *c, int64_t pid, int64_t n, struct str z, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ADD, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, pid);
    sqlite3_bind_int64(st, 2, n);
    bind_blob(st, 3, z);
    return conn_run(c, st, "payload", err);
}

enum xt_code payload_add(struct conn *c, int64_t pid, struct str text, struct str z, struct xt_err *err) {
    return add_row(c, pid, 1, str_has(z) ? z : text, err);
}

enum xt_code payload_add_pack(struct conn *c, int64_t pid, const struct pack *p, struct xt_err *err) {
    return add_row(c, pid, p->n, p->z, err);
}

enum xt_code payload_same(struct conn *c, struct codec *k, struct arena *a, int64_t pid, struct str text, bool *ret,
                          struct xt_err *err) {
    struct str stored;
    enum xt_code code = payload_get(c, k, a, pid, &stored, err);
    *ret = code == XT_OK && str_eq(stored, text);
    return code == XT_ESTORE ? XT_OK : code;
}

enum xt_code payload_newest(struct conn *c, int64_t rows, text_visitor *visit, void *arg, struct xt_err *err) {
    struct codec k = { .dicts = NULL };
    struct arena a;
    int rc;
    bool go_on = true;
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_NEWEST, err);
    if (!st)
        return c->failed;
    codec_read_by(&k, c);
    arena_init(&a, PAYLOAD_MAX_BYTES + 4096);
    sqlite3_bind_int64(st, 1, rows);
    while (go_on && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct text_row r = { sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), col_blob(st, 2) };
        go_on = text_row_visit(&k, &a, &r, visit, arg);
        arena_reset(&a);
    }
    sqlite3_reset(st);
    codec_done(&k);
    arena_done(&a);
    return !go_on || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "payload", err);
}

enum xt_code payload_check(struct conn *c, struct buf *report, size_t most, struct xt_err *err) {
    struct codec k = { .dicts = NULL };
    struct arena a;
    int64_t end = 0; /* of the row before */
    int rc;
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ALL, err);
    if (!st)
        return c->failed;
    codec_read_by(&k, c);
    arena_init(&a, PAYLOAD_MAX_BYTES + 4096);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && most > 0) {
        struct text_row r = { sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), col_blob(st, 2) };
        struct xt_err why = { 0 };
        bool fine = text_row_check(&k, &a, &r, &why) == XT_OK;
        if (!fine || r.first < end) {
            buf_printf(report, "payload %lld: %s\n", (long long)r.first, fine ? "numbers used twice" : why.msg);
            most--;
        }
        end = r.first + r.n;
        arena_reset(&a);
    }
    sqlite3_reset(st);
    codec_done(&k);
    arena_done(&a);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "payload", err);
}

/* ---- removal ---- */

static enum xt_code run_for(struct conn *c, enum sql_id id, int64_t first, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, first);
    return conn_run(c, st, "payload", err);
}

enum xt_code payload_lose(struct conn *c, int64_t first, int64_t n, int64_t gone, struct xt_err *err) {
    bool noted = gone < n;
    if (noted) {
        sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_GONE, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, first);
        sqlite3_bind_int64(st, 2, gone);
        int rc = sqlite3_step(st);
        gone = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
        if (rc == SQLITE_ROW)
            rc = sqlite3_step(st);
        sqlite3_reset(st);
        if (rc != SQLITE_DONE)
            return conn_fail(c, rc, "payload", err);
    }
    if (gone < n)
        return XT_OK;
    enum xt_code code = noted ? run_for(c, SQL_PAYLOAD_GONE_DROP, first, err) : XT_OK;
    return code == XT_OK ? run_for(c, SQL_PAYLOAD_DROP, first, err) : code;
}

static enum xt_code end_run(struct conn *c, struct payload_drops *d, size_t i, struct xt_err *err) {
    int64_t n = d->run[i].n;
    d->run[i].n = 0;
    return n ? payload_lose(c, d->run[i].first, n, d->run[i].gone, err) : XT_OK;
}

enum xt_code payload_drop_in(struct conn *c, struct payload_drops *d, int64_t pid, struct xt_err *err) {
    struct text_row r = { .n = 0 };
    struct xt_err missing;
    if (pid == 0)
        return XT_OK;
    for (size_t i = 0; i < DROP_RUNS; i++)
        if (d->run[i].n && pid >= d->run[i].first && pid - d->run[i].first < d->run[i].n) {
            d->run[i].gone++;
            return XT_OK;
        }
    sqlite3_stmt *st = conn_stmt(c, SQL_PAYLOAD_ROW, err);
    if (!st)
        return c->failed;
    enum xt_code code = find_row(c, st, pid, &r, &missing);
    sqlite3_reset(st);
    if (code == XT_ESTORE)
        return XT_OK; /* it is gone already */
    if (code != XT_OK) {
        *err = missing;
        return code;
    }
    if (r.n == 1)
        return run_for(c, SQL_PAYLOAD_DROP, pid, err);
    size_t i = d->next;
    d->next = (i + 1) % DROP_RUNS;
    code = end_run(c, d, i, err);
    d->run[i].first = r.first;
    d->run[i].n = r.n;
    d->run[i].gone = 1;
    return code;
}

enum xt_code payload_drops_end(struct conn *c, struct payload_drops *d, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < DROP_RUNS && code == XT_OK; i++)
        code = end_run(c, d, i, err);
    return code;
}

enum xt_code payload_drop(struct conn *c, int64_t pid, struct xt_err *err) {
    struct payload_drops d = { .next = 0 };
    enum xt_code code = payload_drop_in(c, &d, pid, err);
    return code == XT_OK ? payload_drops_end(c, &d, err) : code;
}
