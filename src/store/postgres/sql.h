/* sql.h -- a statement that is put together from fixed pieces: only the conditions that are asked for stand in it, and
 * values are parameters, numbered as they come. So the planner, which sees the values (statements are unnamed), plans for
 * what is asked. Failures stick; who sends reports them. */
#pragma once
#include "store/postgres/conn.h"

struct pg_sql {
    struct buf text;
    struct pg_args args;
};
void pg_sql_init(struct pg_sql *q);
void pg_sql_done(struct pg_sql *q);
void pg_sql_clear(struct pg_sql *q); /* for the next statement */
void pg_sql_c(struct pg_sql *q, const char *text);
/* "$n", and the value as the n-th parameter. */
void pg_sql_i64(struct pg_sql *q, int64_t v);
void pg_sql_i32(struct pg_sql *q, int32_t v);
void pg_sql_text(struct pg_sql *q, struct str s);
void pg_sql_bytes(struct pg_sql *q, struct str s);
void pg_sql_texts(struct pg_sql *q, const struct str *v, size_t n); /* text[] */

/* Sends it within a pipeline; alone (NULL ret: rows are not wanted). */
enum xt_code pg_sql_send(struct pg_conn *c, struct pg_sql *q, struct xt_err *err);
enum xt_code pg_sql_query(struct pg_conn *c, struct pg_sql *q, PGresult **ret, struct xt_err *err);
/* Two statements in one round trip. Not XT_OK: neither result is there. */
enum xt_code pg_sql_query_two(struct pg_conn *c, struct pg_sql *q1, PGresult **ret1, struct pg_sql *q2, PGresult **ret2,
                              struct xt_err *err);
