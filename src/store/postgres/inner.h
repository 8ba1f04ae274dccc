/* inner.h -- private to connect.c, conn.c and copy.c: the parts of a call on a connection. */
#pragma once
#include <string.h>

#include "store/postgres/wire.h"

#define PG_GRACE_NS (200 * NS_PER_MS)

/* ---- connect.c ---- */
/* Every public call begins with it: c->until. */
void call_begin(struct pg_conn *c);
/* Makes sure that there is a connection that takes statements. */
enum xt_code conn_ready(struct pg_conn *c, struct xt_err *err);
/* Waits for input (or room to write) and reads it. Otherwise the connection is closed. */
enum xt_code conn_wait(struct pg_conn *c, bool to_write, struct xt_err *err);
/* The connection broke, or the deadline passed: closes it, fills everything. Never XT_OK. */
void keep_detail(struct pg_conn *c, const char *text); /* the first line */
enum xt_code conn_lost(struct pg_conn *c, struct xt_err *err);
enum xt_code conn_late(struct pg_conn *c, struct xt_err *err);

/* ---- conn.c ---- */
/* Maps what the server said to our codes; closes the connection when that was its last word. Never XT_OK. */
enum xt_code conn_failed(struct pg_conn *c, const PGresult *r, struct xt_err *err);
/* Writes out what libpq holds. */
enum xt_code conn_push(struct pg_conn *c, struct xt_err *err);
/* The next result; *ret NULL: the statement has no more of them. */
enum xt_code conn_next(struct pg_conn *c, PGresult **ret, struct xt_err *err);
/* Sends a statement that can't be in a pipeline, after the transaction's beginning when that is due: conn_next follows. */
enum xt_code conn_send_alone(struct pg_conn *c, const char *sql, struct xt_err *err);
/* Takes the answer to the ROLLBACK that was sent before. */
void conn_ended(struct pg_conn *c);
