/* read.c -- see read.h: opening and closing, and what a page of traces shows beside its rows. */
#include "store/postgres/read.h"

#define READ_BYTES ((size_t)512 << 20) /* records of one read */

enum xt_code pg_read_open(struct pg_read *r, struct pg_store *e, int64_t deadline, struct xt_err *err) {
    *r = (struct pg_read){ .e = e };
    r->c = pg_reader_get(e, deadline, err);
    if (!r->c)
        return err->code;
    arena_init(&r->a, READ_BYTES);
    pg_sql_init(&r->q);
    pg_sql_init(&r->more);
    pg_texts_init(&r->texts, r->c, e->dicts);
    const struct text_source texts = pg_texts_source(&r->texts);
    view_init(&r->view, &texts);
    return XT_OK;
}

void pg_read_close(struct pg_read *r) {
    view_done(&r->view);
    pg_texts_done(&r->texts);
    pg_sql_done(&r->q);
    pg_sql_done(&r->more);
    arena_done(&r->a);
    pg_reader_put(r->e, r->c);
}

/* ---- beside traces ---- */

/* What the statements below share: "unnest(weeks, numbers) AS k(week, tseq), LATERAL (columns FROM observations of one
 * trace)". The barrier (OFFSET 0) leaves one plan, a look-up a trace: of a fresh partition the planner knows nothing, and
 * would read all of it. */
static void observations_of(struct pg_sql *q, const char *columns) {
    pg_sql_c(q, "unnest($1, $2) AS k(week, tseq), LATERAL (SELECT ");
    pg_sql_c(q, columns);
    pg_sql_c(q,
             " FROM xtrace.observation o WHERE o.week = k.week AND o.tseq = k.tseq AND o.week = ANY($1) OFFSET 0) o");
}

static bool chosen(const struct trace_rec *t, bool roots) { return roots ? view_wants_root(t) : t->nobs > 0; }

/* Parameters 1 and 2: weeks and numbers of the traces that want a root, or have observations. Returns how many. */
static size_t arg_traces(struct pg_sql *q, const struct trace_rec *t, size_t n, bool roots) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += chosen(&t[i], roots);
    pg_arg_array(&q->args, PG_INT4, count);
    for (size_t i = 0; i < n; i++)
        if (chosen(&t[i], roots))
            pg_item_i32(&q->args, pg_week(t[i].created));
    pg_arg_array(&q->args, PG_INT8, count);
    for (size_t i = 0; i < n; i++)
        if (chosen(&t[i], roots))
            pg_item_i64(&q->args, t[i].tseq);
    return count;
}

/* The first observation of each trace whose parent is not there. The sub-select stands alone, so that it is hashed once,
 * whatever the planner thinks of the number of observations. */
static size_t roots_sql(struct pg_sql *q, const struct trace_rec *t, size_t n) {
    pg_sql_clear(q);
    pg_sql_c(q, "SELECT DISTINCT ON (o.tseq) o.tseq, o.pin, o.pout FROM ");
    observations_of(q, "o.tseq, o.parent, o.pin, o.pout, o.start_at, o.created, coalesce(o.key, o.oid) AS whole");
    pg_sql_c(q, " WHERE o.parent IS NULL OR (o.tseq, o.parent) NOT IN (SELECT o.tseq, o.whole FROM ");
    observations_of(q, "o.tseq, coalesce(o.key, o.oid) AS whole");
    pg_sql_c(q, ") ORDER BY o.tseq, o.start_at NULLS LAST, o.created, o.whole");
    return arg_traces(q, t, n, true);
}

static size_t ids_sql(struct pg_sql *q, const struct trace_rec *t, size_t n) {
    pg_sql_clear(q);
    pg_sql_c(q, "SELECT o.tseq, o.whole, o.spell, o.rest FROM ");
    observations_of(q,
                    "o.tseq, coalesce(o.key, o.oid) AS whole, o.spell, CASE WHEN o.spell = 3 THEN o.rest END AS rest");
    pg_sql_c(q, " ORDER BY 1, 2");
    return arg_traces(q, t, n, false);
}

/* First row of a result, ordered by tseq in column 0, that is not before that trace. */
static int first_row(const PGresult *r, int64_t tseq) {
    int low = 0, high = PQntuples(r);
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (pg_i64(r, mid, 0) < tseq)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool row_is_of(const PGresult *r, int row, int64_t tseq) {
    return row < PQntuples(r) && pg_i64(r, row, 0) == tseq;
}

static enum xt_code take_roots(struct pg_read *r, const struct trace_rec *t, size_t n, struct pg_beside *b,
                               struct xt_err *err) {
    b->roots = arena_new(&r->a, struct obs_root, n);
    if (!b->roots)
        return no_memory(err);
    for (size_t i = 0; b->root_rows && i < n; i++) {
        int row = first_row(b->root_rows, t[i].tseq);
        if (!row_is_of(b->root_rows, row, t[i].tseq))
            continue;
        b->roots[i].found = true;
        b->roots[i].pid[0] = pg_i64(b->root_rows, row, 1);
        b->roots[i].pid[1] = pg_i64(b->root_rows, row, 2);
    }
    return XT_OK;
}

enum xt_code pg_beside_load(struct pg_read *r, const struct trace_rec *t, size_t n, struct pg_beside *b,
                            struct xt_err *err) {
    b->root_rows = b->id_rows = NULL;
    const bool roots = b->want_roots && roots_sql(&r->q, t, n) > 0;
    const bool ids = b->want_ids && ids_sql(&r->more, t, n) > 0;
    enum xt_code code = XT_OK;
    if (roots && ids)
        code = pg_sql_query_two(r->c, &r->q, &b->root_rows, &r->more, &b->id_rows, err);
    else if (roots)
        code = pg_sql_query(r->c, &r->q, &b->root_rows, err);
    else if (ids)
        code = pg_sql_query(r->c, &r->more, &b->id_rows, err);
    return code == XT_OK ? take_roots(r, t, n, b, err) : code;
}

enum xt_code pg_beside_ids(struct pg_read *r, struct pg_beside *b, const struct trace_rec *t, struct id_list *ret,
                           struct xt_err *err) {
    const PGresult *rows = b->id_rows;
    enum xt_code code = XT_OK;
    *ret = (struct id_list){ .n = 0 };
    if (!rows)
        return XT_OK;
    for (int i = first_row(rows, t->tseq); code == XT_OK && row_is_of(rows, i, t->tseq); i++)
        code = view_add_id(&r->view, ret, pg_bytes(rows, i, 1), (int)pg_i64(rows, i, 2), pg_bytes(rows, i, 3), 0, err);
    return code;
}

void pg_beside_done(struct pg_beside *b) {
    PQclear(b->root_rows);
    PQclear(b->id_rows);
    b->root_rows = b->id_rows = NULL;
}
