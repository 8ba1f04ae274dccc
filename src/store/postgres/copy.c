/* copy.c -- rows by COPY ... FROM STDIN (FORMAT binary).
 *
 *  1. Rows collect in c->copy and leave it in pieces of COPY_PIECE bytes; what the socket does not take at once is waited
 *     for, so that memory stays bounded whatever the number of rows.
 *  2. The first failure sticks in copy_code; the puts that follow do nothing, pg_copy_end reports it.
 *  3. A row has exactly the columns it was begun with. */
#include <assert.h>

#include "store/postgres/inner.h"

#define COPY_PIECE ((size_t)256 << 10)

static const char copy_head[] =
    "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* flags and extension: none; the literal's NUL too */

enum xt_code pg_copy_begin(struct pg_conn *c, const char *sql, struct xt_err *err) {
    assert(!c->piped && !c->copying);
    enum xt_code code = conn_send_alone(c, sql, err);
    PGresult *r = NULL;
    if (code == XT_OK)
        code = conn_next(c, &r, err);
    if (code != XT_OK)
        return code;
    ExecStatusType status = PQresultStatus(r);
    if (status == PGRES_COPY_IN) {
        PQclear(r);
        c->copying = true;
        c->copy_code = XT_OK;
        c->copy_too_big = false;
        c->copy_left = 0;
        buf_clear(&c->copy);
        buf_add(&c->copy, copy_head, sizeof copy_head);
        return XT_OK;
    }
    code = status == PGRES_FATAL_ERROR ? conn_failed(c, r, err) : conn_lost(c, err);
    PQclear(r);
    struct xt_err later;
    while (c->db && conn_next(c, &r, &later) == XT_OK && r) /* to the statement's end */
        PQclear(r);
    return code;
}

static void copy_fail(struct pg_conn *c, enum xt_code code) {
    if (c->copy_code == XT_OK)
        c->copy_code = code;
}

/* Hands the rows over to libpq and waits until the socket has them. */
static enum xt_code copy_out(struct pg_conn *c, struct xt_err *err) {
    call_begin(c);
    if (PQputCopyData(c->db, c->copy.p, (int)c->copy.n) != 1)
        return conn_lost(c, err);
    buf_clear(&c->copy);
    return conn_push(c, err);
}

void pg_copy_row(struct pg_conn *c, int columns) {
    assert(c->copy_left == 0 && columns > 0);
    if (c->copy_code != XT_OK || !c->copying)
        return;
    struct xt_err err;
    if (c->copy.failed)
        copy_fail(c, XT_ENOMEM);
    else if (c->copy.n >= COPY_PIECE)
        copy_fail(c, copy_out(c, &err));
    if (c->copy_code != XT_OK)
        return;
    char head[2];
    wire_u16(head, (uint16_t)columns);
    buf_add(&c->copy, head, sizeof head);
    c->copy_left = columns;
}

/* A field of at most n bytes may follow. */
static bool field(struct pg_conn *c, size_t n) {
    if (c->copy_code != XT_OK || !c->copying)
        return false;
    assert(c->copy_left > 0);
    c->copy_left--;
    if (n <= PG_BYTES_MAX - 64 && c->copy.n <= PG_BYTES_MAX - 64 - n)
        return true;
    c->copy_too_big = true;
    copy_fail(c, XT_EREFUSED);
    c->copy_left = 0;
    return false;
}

#define PUT(name, ctype)                             \
    void pg_put_##name(struct pg_conn *c, ctype v) { \
        if (field(c, PG_NUM_BYTES))                  \
            wire_put_##name(&c->copy, v);            \
    }
PUT(i64, int64_t)
PUT(time, int64_t)
PUT(i32, int32_t)
PUT(i16, int16_t)
PUT(f64, double)
PUT(bool, bool)
PUT(num, __int128)

void pg_put_text(struct pg_conn *c, struct str s) {
    if (field(c, str_has(s) ? pg_escaped_size(s) : 0))
        wire_put_text(&c->copy, s);
}

void pg_put_bytes(struct pg_conn *c, struct str s) {
    if (field(c, s.n))
        wire_put_bytes(&c->copy, s);
}

void pg_put_null(struct pg_conn *c) {
    if (field(c, 0))
        wire_put_null(&c->copy);
}

void pg_put_texts(struct pg_conn *c, const struct str *v, size_t n) {
    size_t size = n ? 20 : 12;
    for (size_t i = 0; i < n && size < PG_BYTES_MAX; i++)
        size += 4 + (str_has(v[i]) ? pg_escaped_size(v[i]) : 0);
    if (!field(c, size) || !buf_reserve(&c->copy, size + 4))
        return;
    char length[4];
    wire_u32(length, (uint32_t)size);
    buf_add(&c->copy, length, sizeof length);
    wire_put_array_head(&c->copy, PG_TEXT, n);
    for (size_t i = 0; i < n; i++)
        wire_put_text(&c->copy, v[i]);
}

/* What the server says to all of it. */
static enum xt_code copy_result(struct pg_conn *c, uint64_t *ret_rows, struct xt_err *err) {
    enum xt_code failed = XT_OK;
    struct xt_err later;
    uint64_t rows = 0;
    for (;;) {
        PGresult *r = NULL;
        enum xt_code code = conn_next(c, &r, failed == XT_OK ? err : &later);
        if (code != XT_OK)
            return failed != XT_OK ? failed : code;
        if (!r)
            break;
        c->used = true;
        if (PQresultStatus(r) == PGRES_COMMAND_OK)
            rows = (uint64_t)pg_touched(r);
        else if (failed == XT_OK)
            failed = conn_failed(c, r, err);
        PQclear(r);
        if (!c->db)
            break;
    }
    if (failed == XT_OK && ret_rows)
        *ret_rows = rows;
    return failed;
}

enum xt_code pg_copy_end(struct pg_conn *c, uint64_t *ret_rows, struct xt_err *err) {
    call_begin(c);
    if (!c->copying || !c->db) { /* closed by a put */
        c->copying = false;
        return xt_fail(err, c->copy_code != XT_OK ? c->copy_code : XT_EUNAVAILABLE,
                       "the connection to the database broke");
    }
    assert(c->copy_left == 0);
    if (c->copy.failed)
        copy_fail(c, XT_ENOMEM);
    if (c->copy_code == XT_OK) {
        static const char tail[2] = { '\377', '\377' };
        buf_add(&c->copy, tail, sizeof tail);
        if (c->copy.failed)
            copy_fail(c, XT_ENOMEM);
    }
    c->copying = false;
    if (c->copy_code != XT_OK) { /* rows were left out: the statement must not succeed */
        enum xt_code code = c->copy_code;
        pg_close(c);
        c->failed = code;
        return xt_fail(err, code, code == XT_EREFUSED ? "a record is too large for the database" : "out of memory");
    }
    enum xt_code code = copy_out(c, err);
    if (code != XT_OK)
        return code;
    if (PQputCopyEnd(c->db, NULL) != 1)
        return conn_lost(c, err);
    code = conn_push(c, err);
    code = code == XT_OK ? copy_result(c, ret_rows, err) : code;
    if (c->copy.cap > 4 * COPY_PIECE)
        buf_done(&c->copy);
    return code;
}
