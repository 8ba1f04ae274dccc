/* sql.c -- see sql.h. */
#include "store/postgres/sql.h"

#define SQL_BYTES ((size_t)1 << 20)

void pg_sql_init(struct pg_sql *q) {
    buf_init(&q->text, SQL_BYTES);
    pg_args_init(&q->args);
}

void pg_sql_done(struct pg_sql *q) {
    buf_done(&q->text);
    pg_args_done(&q->args);
}

void pg_sql_clear(struct pg_sql *q) {
    buf_clear(&q->text);
    pg_args_clear(&q->args);
}

void pg_sql_c(struct pg_sql *q, const char *text) { buf_add_c(&q->text, text); }

static void number(struct pg_sql *q) { buf_printf(&q->text, "$%d", q->args.n + 1); }

void pg_sql_i64(struct pg_sql *q, int64_t v) {
    number(q);
    pg_arg_i64(&q->args, v);
}

void pg_sql_i32(struct pg_sql *q, int32_t v) {
    number(q);
    pg_arg_i32(&q->args, v);
}

void pg_sql_text(struct pg_sql *q, struct str s) {
    number(q);
    pg_arg_text(&q->args, s);
}

void pg_sql_bytes(struct pg_sql *q, struct str s) {
    number(q);
    pg_arg_bytes(&q->args, s);
}

void pg_sql_texts(struct pg_sql *q, const struct str *v, size_t n) {
    number(q);
    pg_arg_array(&q->args, PG_TEXT, n);
    for (size_t i = 0; i < n; i++)
        pg_item_text(&q->args, v[i]);
}

enum xt_code pg_sql_send(struct pg_conn *c, struct pg_sql *q, struct xt_err *err) {
    if (q->text.failed)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    return pg_send(c, buf_str(&q->text).p, &q->args, err);
}

enum xt_code pg_sql_query(struct pg_conn *c, struct pg_sql *q, PGresult **ret, struct xt_err *err) {
    if (q->text.failed)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    return pg_query(c, buf_str(&q->text).p, &q->args, ret, err);
}

enum xt_code pg_sql_query_two(struct pg_conn *c, struct pg_sql *q1, PGresult **ret1, struct pg_sql *q2, PGresult **ret2,
                              struct xt_err *err) {
    *ret1 = *ret2 = NULL;
    enum xt_code code = pg_pipe(c, err);
    if (code != XT_OK)
        return code;
    code = pg_sql_send(c, q1, err);
    if (code == XT_OK)
        code = pg_sql_send(c, q2, err);
    if (code == XT_OK)
        code = pg_flush(c, err);
    if (code == XT_OK)
        code = pg_answer(c, ret1, err);
    if (code == XT_OK)
        code = pg_answer(c, ret2, err);
    enum xt_code end = pg_drain(c, err);
    if (code == XT_OK)
        code = end;
    if (code != XT_OK) {
        PQclear(*ret1);
        PQclear(*ret2);
        *ret1 = *ret2 = NULL;
    }
    return code;
}
