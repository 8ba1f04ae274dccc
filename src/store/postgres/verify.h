/* verify.h -- the deep self-test of what is stored. */
#pragma once
#include "store/postgres/conn.h"

/* In a read transaction: a line of the report for each kind of finding, counted in *found. */
enum xt_code pg_verify(struct pg_conn *c, struct buf *report, size_t *found, struct xt_err *err);
