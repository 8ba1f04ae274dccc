/* list.c -- pages of traces: which ones, how many in all, then each of the page as the API sees it.
 * One snapshot; payloads are read for the page alone, and only when they are wanted. */
#include "store/sqlite/order.h"
#include "store/sqlite/view.h"

#define PAGE_MAX 1000 /* the API asks for at most 200 */

struct page {
    int64_t tseq[PAGE_MAX];
    size_t n;
    int64_t total; /* negative: not known yet */
};
/* Who gets the rows. */
struct show {
    struct sql_view v;
    const struct trace_query *q;
    trace_visitor *visit;
    void *arg;
    bool more; /* the visitor wants more */
};

static enum xt_code show_row(struct show *s, const struct trace_rec *r, struct xt_err *err) {
    struct trace_row row;
    if (!s->more)
        return XT_OK;
    arena_reset(&s->v.view.arena);
    enum xt_code code = sql_view_trace(&s->v, r, s->q->want_io, &row, err);
    if (code == XT_OK && s->q->want_observations)
        code = sql_view_observation_ids(&s->v, r->tseq, &row, err);
    if (code == XT_OK)
        s->more = s->visit(s->arg, &row);
    return code;
}

/* No condition on the rows: SQLite skips what stands before the page inside the index. */
static enum xt_code plain_page(struct conn *c, const struct trace_query *q, struct page *p, struct xt_err *err) {
    int rc = SQLITE_DONE;
    sqlite3_stmt *st = conn_stmt(c, q->descending ? SQL_TRACE_WALK_DESC : SQL_TRACE_WALK_ASC, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, q->project);
    sqlite3_bind_int64(st, 2, q->from);
    sqlite3_bind_int64(st, 3, q->to);
    sqlite3_bind_int64(st, 4, q->offset);
    while ((int64_t)p->n < q->limit && (rc = sqlite3_step(st)) == SQLITE_ROW)
        p->tseq[p->n++] = sqlite3_column_int64(st, 1);
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "trace", err);
}

/* By time, each candidate compared with its row, which is shown while it is at hand; to the end only when nobody else knows
 * the total. */
static enum xt_code scanned_page(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, struct page *p,
                                 struct show *show, struct xt_err *err) {
    const struct trace_query *q = show->q;
    int64_t shown = 0;
    struct trace_scan s;
    struct trace_rec r;
    int64_t at = 0;
    bool found = true;
    enum xt_code code = scan_open(&s, e, c, f, q->descending, err);
    while (code == XT_OK && (p->total < 0 || shown < q->limit)) {
        code = scan_next(&s, &r, &found, err);
        if (code != XT_OK || !found)
            break;
        if (at >= q->offset && shown < q->limit) {
            code = show_row(show, &r, err);
            shown++;
        }
        at++;
    }
    scan_close(&s);
    if (code == XT_OK && p->total < 0)
        p->total = at;
    return code;
}

/* The rows of a list of numbers. */
static enum xt_code show_page(struct conn *c, const struct page *p, struct show *show, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < p->n && code == XT_OK && show->more; i++) {
        struct trace_rec r;
        bool found;
        code = trace_fetch(c, SQL_TRACE_GET, p->tseq[i], NULL, &r, &found, err);
        if (code == XT_OK && found)
            code = show_row(show, &r, err);
    }
    return code;
}

static enum xt_code list_page(struct sqlite_store *e, struct conn *c, struct page *p, struct show *show,
                              struct xt_err *err) {
    const struct trace_query *q = show->q;
    struct trace_filter f;
    bool known;
    trace_filter_of_list(q, &f);
    p->n = 0;
    enum xt_code code = filter_count(e, c, &f, &known, &p->total, err);
    if (code != XT_OK)
        return code;
    if (!known)
        p->total = -1;
    else if (q->offset >= p->total)
        return XT_OK;
    if (q->order == ORDER_TIMESTAMP && !trace_filter_is_plain(&f))
        return scanned_page(e, c, &f, p, show, err);
    code = q->order == ORDER_TIMESTAMP ? plain_page(c, q, p, err)
                                       : order_page(e, c, q, &f, p->tseq, &p->n, &p->total, err);
    return code == XT_OK ? show_page(c, p, show, err) : code;
}

enum xt_code sqlite_traces_list(struct store *s, const struct trace_query *q, trace_visitor *visit, void *arg,
                                int64_t *ret_total, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct page p;
    struct trace_query asked = *q;
    if (asked.limit > PAGE_MAX)
        asked.limit = PAGE_MAX;
    struct conn *c = reader_get(e, q->deadline, err);
    if (!c)
        return err->code;
    struct show show = { .q = &asked, .visit = visit, .arg = arg, .more = true };
    sql_view_init(&show.v, c);
    enum xt_code code = conn_begin(c, false, err);
    if (code == XT_OK)
        code = list_page(e, c, &p, &show, err);
    sql_view_done(&show.v);
    reader_put(e, c);
    if (code == XT_OK)
        *ret_total = p.total;
    return code;
}
