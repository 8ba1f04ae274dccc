/* read.h -- what reads of traces and observations share: one snapshot, rows, texts, and rows as the API sees them. */
#pragma once
#include "store/postgres/filter.h"
#include "store/postgres/row.h"
#include "store/postgres/text.h"
#include "store/view/view.h"

/* One read: used by the thread that took the connection. */
struct pg_read {
    struct pg_store *e;
    struct pg_conn *c;
    struct arena a;        /* records */
    struct pg_sql q, more; /* statements */
    struct pg_texts texts;
    struct view view;
};
/* Takes a connection; a transaction has begun. Must not move. Not XT_OK: nothing is open. */
enum xt_code pg_read_open(struct pg_read *r, struct pg_store *e, int64_t deadline, struct xt_err *err);
void pg_read_close(struct pg_read *r);

/* What a view wants beside the rows of traces t[0..n); all in one round trip. */
struct pg_beside {
    bool want_roots, want_ids;
    struct obs_root *roots; /* n, in the read's arena; not found: none */
    PGresult *root_rows, *id_rows;
};
enum xt_code pg_beside_load(struct pg_read *r, const struct trace_rec *t, size_t n, struct pg_beside *b,
                            struct xt_err *err);
/* Ids of trace i, printed into the view's arena. */
enum xt_code pg_beside_ids(struct pg_read *r, struct pg_beside *b, const struct trace_rec *t, struct id_list *ret,
                           struct xt_err *err);
void pg_beside_done(struct pg_beside *b);
