/* list.c -- pages of traces: which ones and how many in all in one round trip, what stands beside them
 * in a second, their texts in a third.
 *
 *  1. By time, the index gives the order, and a page is read from its first row on. What stands before it is counted in the
 *     index; far down a plain list, whole hours are skipped by their counts.
 *  2. By another order, the matching traces are sorted by their keys alone; the rows of the page are fetched then.
 *  3. A page is shown in slices of LIST_OBSERVATIONS, so that traces with many observations cost time, not memory. */
#include "store/limits.h"
#include "store/postgres/read.h"

#define PAGE_MAX 1000 /* the API asks for at most 200 */

struct listing {
    struct pg_read r;
    const struct trace_query *q;
    struct trace_filter f;
    int64_t limit, total;
    trace_visitor *visit;
    void *arg;
    bool more; /* the visitor wants more */
};

/* ---- orders ---- */

/* What is sorted by, of trace t. Absent values are NULL: greater than all, as PostgreSQL has it. */
static const char *order_of(enum trace_order order) {
    switch (order) {
    case ORDER_ID: /* as ids read: of those with 64 bits the key leaves the zeros out */
        return "CASE WHEN length(t.id) = 8 THEN '\\x0000000000000000'::bytea || t.id ELSE coalesce(t.key, t.id) END";
    case ORDER_NAME: return "t.name";
    case ORDER_USER: return "t.user_id";
    case ORDER_RELEASE: return "t.release";
    case ORDER_VERSION: return "t.version";
    case ORDER_SESSION: return "t.session";
    case ORDER_PUBLIC: return "coalesce(t.public, false)";
    case ORDER_BOOKMARKED: return "coalesce(t.bookmarked, false)";
    case ORDER_LATENCY: /* as trace_rec_latency; the difference of far times is no bigint */
        return "coalesce(t.latency, CASE WHEN t.t0 > -4e18::bigint AND t.t1 < 4e18::bigint AND t.t1 > -4e18::bigint"
               " AND t.t0 < 4e18::bigint THEN (t.t1 - t.t0)::float8 ELSE (t.t1::numeric - t.t0)::float8 END / 1e9)";
    case ORDER_TOTAL_COST: return "CASE WHEN t.cost IS NOT NULL THEN t.cost WHEN t.ocost_n > 0 THEN t.ocost END";
    default: return NULL;
    }
}

static void order_sql(struct pg_sql *q, const char *by, const char *table, bool descending) {
    const char *way = descending ? " DESC" : "";
    buf_printf(&q->text, " ORDER BY %s%s, %s.tseq%s", by, way, table, way);
}

static void window_sql(struct pg_sql *q, int64_t offset, int64_t limit) {
    pg_sql_c(q, " OFFSET ");
    pg_sql_i64(q, offset);
    pg_sql_c(q, " LIMIT ");
    pg_sql_i64(q, limit);
}

/* The page's rows, in order. */
static void page_sql(struct pg_sql *q, const struct listing *l, const struct trace_filter *f, int64_t offset) {
    const char *time, *by = order_of(l->q->order);
    char ts[8];
    pg_sql_clear(q);
    pg_sql_c(q, "SELECT " PG_TRACE_COLUMNS " FROM ");
    if (!by && offset <= LIST_NEAR) {
        pg_filter_sql(q, f, &time);
        snprintf(ts, sizeof ts, "%s.ts", time);
        order_sql(q, ts, time, l->q->descending);
        window_sql(q, offset, l->limit);
        return;
    }
    /* Keys first: nothing but them is sorted or passed over. */
    pg_sql_c(q, "(SELECT t.tseq, ");
    pg_sql_c(q, by ? by : "t.ts");
    pg_sql_c(q, " AS by FROM ");
    pg_filter_sql(q, f, &time);
    if (by) {
        pg_sql_c(q, l->q->descending ? " ORDER BY by DESC, t.tseq DESC" : " ORDER BY by, t.tseq");
    } else {
        snprintf(ts, sizeof ts, "%s.ts", time);
        order_sql(q, ts, time, l->q->descending);
    }
    window_sql(q, offset, l->limit);
    pg_sql_c(q, ") p JOIN xtrace.trace t ON t.tseq = p.tseq");
    order_sql(q, "p.by", "p", l->q->descending);
}

/* ---- far down a plain list ---- */

/* The hour in which the page begins, and how many traces stand before it: *f is narrowed, *offset becomes what is left. */
static void skip_sql(struct pg_sql *q, const struct trace_filter *f, bool descending, int64_t first, int64_t last,
                     int64_t offset) {
    struct trace_filter edge = *f;
    if (descending)
        edge.from = time_add(rollup_end(last, ROLLUP_HOUR), 1);
    else
        edge.to = time_add(first, -1);
    pg_sql_clear(q);
    pg_sql_c(q, "SELECT h.start, (e.n + h.before)::bigint FROM (");
    if (descending ? rollup_end(last, ROLLUP_HOUR) < f->to : f->from < first)
        pg_count_sql(q, &edge);
    else
        pg_sql_c(q, "SELECT 0::numeric");
    pg_sql_c(q, ") e(n), (SELECT r.start, sum(r.n) OVER (ORDER BY r.start");
    pg_sql_c(q, descending ? " DESC" : "");
    pg_sql_c(q, ") - r.n AS before FROM xtrace.rollup_count r WHERE r.span = 3600 AND r.project = ");
    pg_sql_i64(q, f->project);
    pg_sql_c(q, " AND r.start >= ");
    pg_sql_i64(q, first);
    pg_sql_c(q, " AND r.start <= ");
    pg_sql_i64(q, last);
    pg_sql_c(q, ") h WHERE e.n + h.before <= ");
    pg_sql_i64(q, offset);
    pg_sql_c(q, descending ? " ORDER BY h.start LIMIT 1" : " ORDER BY h.start DESC LIMIT 1");
}

static enum xt_code skip_hours(struct listing *l, struct trace_filter *f, int64_t *offset, struct xt_err *err) {
    int64_t first, last;
    PGresult *rows = NULL;
    if (!rollup_whole(f->from, f->to, ROLLUP_HOUR, &first, &last))
        return XT_OK;
    skip_sql(&l->r.q, f, l->q->descending, first, last, *offset);
    enum xt_code code = pg_sql_query(l->r.c, &l->r.q, &rows, err);
    if (code != XT_OK)
        return code;
    if (PQntuples(rows) == 1) {
        int64_t start = pg_i64(rows, 0, 0), before = pg_i64(rows, 0, 1);
        if (before >= 0 && before <= *offset) {
            *offset -= before;
            if (l->q->descending)
                f->to = rollup_end(start, ROLLUP_HOUR);
            else
                f->from = start;
        }
    }
    PQclear(rows);
    return XT_OK;
}

/* ---- a page ---- */

static enum xt_code near_page(struct listing *l, PGresult **ret, struct xt_err *err) {
    PGresult *count = NULL;
    pg_sql_clear(&l->r.q);
    pg_count_sql(&l->r.q, &l->f);
    page_sql(&l->r.more, l, &l->f, l->q->offset);
    enum xt_code code = pg_sql_query_two(l->r.c, &l->r.q, &count, &l->r.more, ret, err);
    if (code == XT_OK)
        l->total = pg_count_read(count);
    PQclear(count);
    return code;
}

static enum xt_code far_page(struct listing *l, PGresult **ret, struct xt_err *err) {
    PGresult *count = NULL;
    struct trace_filter f = l->f;
    int64_t offset = l->q->offset;
    pg_sql_clear(&l->r.q);
    pg_count_sql(&l->r.q, &l->f);
    enum xt_code code = pg_sql_query(l->r.c, &l->r.q, &count, err);
    if (code != XT_OK)
        return code;
    l->total = pg_count_read(count);
    PQclear(count);
    if (offset >= l->total)
        return XT_OK;
    if (trace_filter_is_plain(&f) && l->q->order == ORDER_TIMESTAMP)
        code = skip_hours(l, &f, &offset, err);
    if (code != XT_OK)
        return code;
    page_sql(&l->r.q, l, &f, offset);
    return pg_sql_query(l->r.c, &l->r.q, ret, err);
}

/* ---- showing it ---- */

static enum xt_code show_row(struct listing *l, const struct trace_rec *t, struct pg_beside *b, size_t i,
                             struct xt_err *err) {
    struct trace_row row;
    int64_t pid[PAYLOADS];
    arena_reset(&l->r.view.arena);
    view_trace_texts(t, &b->roots[i], pid);
    enum xt_code code = view_trace(&l->r.view, t, l->q->want_io ? pid : NULL, &row, err);
    if (code == XT_OK && l->q->want_observations) {
        struct id_list ids;
        code = pg_beside_ids(&l->r, b, t, &ids, err);
        row.observation_ids = ids.v;
        row.nobservation_ids = ids.n;
    }
    if (code == XT_OK)
        l->more = l->visit(l->arg, &row);
    return code;
}

static enum xt_code want_texts(struct listing *l, const struct trace_rec *t, size_t n, const struct pg_beside *b,
                               struct xt_err *err) {
    for (size_t i = 0; i < n; i++) {
        int64_t pid[PAYLOADS];
        view_trace_texts(&t[i], &b->roots[i], pid);
        for (int k = 0; k < PAYLOADS; k++)
            if (!pg_texts_want(&l->r.texts, pg_week(t[i].created), pid[k]))
                return no_memory(err);
    }
    return pg_texts_load(&l->r.texts, err);
}

static enum xt_code show_slice(struct listing *l, const struct trace_rec *t, size_t n, struct xt_err *err) {
    struct pg_beside b = { .want_roots = l->q->want_io, .want_ids = l->q->want_observations };
    enum xt_code code = pg_beside_load(&l->r, t, n, &b, err);
    if (code == XT_OK && l->q->want_io)
        code = want_texts(l, t, n, &b, err);
    for (size_t i = 0; i < n && code == XT_OK && l->more; i++)
        code = show_row(l, &t[i], &b, i, err);
    pg_beside_done(&b);
    return code;
}

static enum xt_code show_page(struct listing *l, const PGresult *rows, struct xt_err *err) {
    const size_t n = (size_t)PQntuples(rows);
    struct trace_rec *t = arena_new(&l->r.a, struct trace_rec, n);
    enum xt_code code = t ? XT_OK : no_memory(err);
    for (size_t i = 0; i < n && code == XT_OK; i++)
        code = pg_trace_read(rows, (int)i, 0, &l->r.a, &t[i], err);
    for (size_t from = 0, to; from < n && code == XT_OK && l->more; from = to) {
        int64_t observations = 0;
        for (to = from; to < n; to++) {
            if (to > from && observations + t[to].nobs > LIST_OBSERVATIONS)
                break;
            observations += t[to].nobs;
        }
        code = show_slice(l, t + from, to - from, err);
    }
    return code;
}

enum xt_code postgres_traces_list(struct store *s, const struct trace_query *q, trace_visitor *visit, void *arg,
                                  int64_t *ret_total, struct xt_err *err) {
    struct listing l = { .q = q, .visit = visit, .arg = arg, .more = true };
    PGresult *rows = NULL;
    trace_filter_of_list(q, &l.f);
    l.limit = q->limit > PAGE_MAX ? PAGE_MAX : q->limit;
    if (!pg_filter_can_match(&l.f)) {
        *ret_total = 0;
        return XT_OK;
    }
    enum xt_code code = pg_read_open(&l.r, pg_of(s), q->deadline, err);
    if (code != XT_OK)
        return code;
    code = q->offset <= LIST_NEAR ? near_page(&l, &rows, err) : far_page(&l, &rows, err);
    if (code == XT_OK && rows)
        code = show_page(&l, rows, err);
    PQclear(rows);
    pg_read_close(&l.r);
    if (code == XT_OK)
        *ret_total = l.total;
    return code;
}
