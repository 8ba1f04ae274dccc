/* daily.c -- the daily view: days of the traces' timestamps, newest first, with usage by model.
 *
 *  1. Without conditions beyond label and name: whole days and hours from the rollups (of one name: hours), and what the
 *     range cuts of its first and last hour by rows, added or taken away (filter.h). Sums are exact, so taking away leaves
 *     what adding up would give.
 *  2. With others (user, tags, version, release): the matching traces.
 *  3. One statement gives the sums of all days, one more the models of the days of the page: they stand side by side, so
 *     the page is a range of time.
 *  4. Traces lie in the weeks in which they were created, not in those of their timestamps: the first statement says in
 *     which ones, so that the second asks few partitions. */
#include "store/postgres/read.h"
#include "store/view/day.h"

/* Number of the day of a time, also before 1970. */
#define DAY_OF(column) "(" column " / 86400000000000 - (" column " % 86400000000000 < 0)::int)"

struct day {
    int64_t number; /* days since 1970 */
    int64_t traces, observations;
    money cost;
    struct day_models usage;
};
struct daily {
    struct pg_read r;
    const struct daily_query *q;
    struct trace_filter f;
    bool by_rows;
    struct day *days; /* of the page, newest first */
    size_t n;
    int64_t total;
    bool has_weeks; /* of traces that count by rows */
    int64_t week_from, week_to;
};

/* First and last instant; the first and the last day of all are cut. */
static int64_t day_start(int64_t number) {
    __int128 ns = (__int128)number * NS_PER_DAY;
    return ns < TIME_MIN ? TIME_MIN : (int64_t)ns;
}

static int64_t day_end(int64_t number) {
    __int128 ns = (__int128)(number + 1) * NS_PER_DAY - 1;
    return ns > TIME_MAX ? TIME_MAX : (int64_t)ns;
}

/* What the rollups give and what rows give, of [from, to]. */
static void daily_pieces(const struct daily *d, int64_t from, int64_t to, struct range_pieces *ret) {
    int64_t spans[RANGE_SPANS];
    if (!d->by_rows) {
        range_split(spans, range_spans(str_has(d->f.name), false, spans), from, to, ret);
        return;
    }
    ret->n = 1;
    ret->v[0] = (struct range_piece){ .span = 0, .from = from, .to = to, .sign = 1 };
}

static void rows_of(struct pg_sql *q, const struct daily *d, const struct range_piece *p) {
    struct trace_filter part = d->f;
    const char *time;
    part.from = p->from;
    part.to = p->to;
    pg_filter_sql(q, &part, &time);
}

/* ---- days ---- */

static void days_piece(struct pg_sql *q, const struct daily *d, const struct range_piece *p) {
    if (p->span != 0) {
        pg_sql_c(q, "SELECT " DAY_OF(
                        "r.start") ", r.n, r.nobs, r.cost, NULL::int, NULL::int FROM xtrace.rollup_trace r WHERE ");
        pg_filter_rollup_sql(q, &d->f, p->span);
        pg_filter_starts_sql(q, p);
        return;
    }
    pg_sql_c(q, "SELECT " DAY_OF("t.ts"));
    buf_printf(&q->text,
               ", %d * count(*), %d * sum(t.nobs), %d * sum(coalesce(t.cost, t.ocost)), min(t.week), max(t.week) FROM ",
               p->sign, p->sign, p->sign);
    rows_of(q, d, p);
    pg_sql_c(q, " GROUP BY 1");
}

/* All days, newest first, with the weeks that hold what counts by rows. */
static void days_sql(struct pg_sql *q, const struct daily *d) {
    struct range_pieces p;
    daily_pieces(d, d->f.from, d->f.to, &p);
    pg_sql_clear(q);
    pg_sql_c(q, "SELECT d.day, sum(d.n)::numeric, sum(d.nobs)::numeric, sum(d.cost), min(min(d.w0)) OVER (),"
                " max(max(d.w1)) OVER () FROM (");
    for (size_t i = 0; i < p.n; i++) {
        pg_sql_c(q, i ? " UNION ALL (" : "(");
        days_piece(q, d, &p.v[i]);
        pg_sql_c(q, ")");
    }
    pg_sql_c(q, ") d(day, n, nobs, cost, w0, w1) GROUP BY d.day HAVING sum(d.n) <> 0 ORDER BY d.day DESC");
}

/* The page out of all days. */
static enum xt_code take_days(struct daily *d, const PGresult *rows, struct xt_err *err) {
    const int64_t all = PQntuples(rows);
    d->total = all;
    if (all > 0 && !pg_is_null(rows, 0, 4)) {
        d->has_weeks = true;
        d->week_from = pg_i64(rows, 0, 4);
        d->week_to = pg_i64(rows, 0, 5);
    }
    if (d->q->offset >= all)
        return XT_OK;
    const int64_t n = d->q->limit < all - d->q->offset ? d->q->limit : all - d->q->offset;
    if (n <= 0)
        return XT_OK;
    d->days = arena_new(&d->r.a, struct day, (size_t)n);
    if (!d->days)
        return no_memory(err);
    d->n = (size_t)n;
    for (size_t i = 0; i < d->n; i++) {
        const int row = (int)(d->q->offset + (int64_t)i);
        d->days[i] = (struct day){ .number = pg_i64(rows, row, 0),
                                   .traces = sum_to_i64(pg_num(rows, row, 1)),
                                   .observations = sum_to_i64(pg_num(rows, row, 2)),
                                   .cost = pg_num(rows, row, 3) };
        day_models_init(&d->days[i].usage, &d->r.a);
    }
    return XT_OK;
}

/* ---- models ---- */

static void models_rollup(struct pg_sql *q, const struct daily *d, const struct range_piece *p) {
    pg_sql_c(q,
             "SELECT " DAY_OF("r.start") ", r.model, sum(r.n), sum(r.ntrace), sum(r.tin), sum(r.tout), sum(r.ttotal),"
                                         " sum(r.cost) FROM xtrace.rollup_model r WHERE ");
    pg_filter_rollup_sql(q, &d->f, p->span);
    pg_filter_starts_sql(q, p);
    pg_sql_c(q, " GROUP BY 1, 2");
}

/* As the fold adds up the shares of one trace: without a model it is of the model "unknown". */
static void models_rows(struct pg_sql *q, const struct daily *d, const struct range_piece *p) {
    const int sign = p->sign;
    buf_printf(&q->text,
               "SELECT k.day, '=' || coalesce(o.model, '" UNKNOWN_MODEL
               "'), %d * count(*)::numeric, %d * count(DISTINCT k.tseq)::numeric,"
               " %d * sum(coalesce(o.tin, 0)), %d * sum(coalesce(o.tout, 0)), %d * sum(coalesce(o.ttotal, 0)),"
               " %d * sum(coalesce(o.cost, 0)) FROM (SELECT t.tseq, t.week, ",
               sign, sign, sign, sign, sign, sign);
    pg_sql_c(q, DAY_OF("t.ts") " AS day FROM ");
    rows_of(q, d, p);
    pg_sql_c(q, " AND t.nobs > 0) k, LATERAL (SELECT o.model, o.tin, o.tout, o.ttotal, o.cost FROM xtrace.observation o"
                " WHERE o.week = k.week AND o.tseq = k.tseq AND o.type = 'GENERATION' AND o.week >= ");
    pg_sql_i32(q, (int32_t)d->week_from);
    pg_sql_c(q, " AND o.week <= ");
    pg_sql_i32(q, (int32_t)d->week_to);
    pg_sql_c(q, " OFFSET 0) o");
    pg_sql_c(q, " GROUP BY 1, 2");
}

/* False: there is nothing to ask. */
static bool models_sql(struct pg_sql *q, const struct daily *d) {
    struct range_pieces p;
    int64_t from = day_start(d->days[d->n - 1].number), to = day_end(d->days[0].number);
    bool any = false;
    daily_pieces(d, from > d->f.from ? from : d->f.from, to < d->f.to ? to : d->f.to, &p);
    pg_sql_clear(q);
    for (size_t i = 0; i < p.n; i++) {
        if (p.v[i].span == 0 && !d->has_weeks)
            continue; /* there are no such traces */
        pg_sql_c(q, any ? " UNION ALL (" : "(");
        if (p.v[i].span != 0)
            models_rollup(q, d, &p.v[i]);
        else
            models_rows(q, d, &p.v[i]);
        pg_sql_c(q, ")");
        any = true;
    }
    return any;
}

static struct day *find_day(struct daily *d, int64_t number) {
    size_t low = 0, high = d->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (d->days[mid].number > number)
            low = mid + 1;
        else
            high = mid;
    }
    return low < d->n && d->days[low].number == number ? &d->days[low] : NULL;
}

static enum xt_code take_models(struct daily *d, const PGresult *rows, struct xt_err *err) {
    for (int i = 0; i < PQntuples(rows); i++) {
        struct day *day = find_day(d, pg_i64(rows, i, 0));
        if (!day)
            continue; /* without a trace in the range */
        const struct model_sums sums = { .n = sum_to_i64(pg_num(rows, i, 2)),
                                         .in = pg_num(rows, i, 4),
                                         .out = pg_num(rows, i, 5),
                                         .total = pg_num(rows, i, 6),
                                         .cost = pg_num(rows, i, 7) };
        if (!day_models_add(&day->usage, pg_text(&d->r.a, rows, i, 1), sum_to_i64(pg_num(rows, i, 3)), &sums, 1))
            return no_memory(err);
    }
    return d->r.a.failed ? no_memory(err) : XT_OK;
}

/* ---- showing them ---- */

static enum xt_code show_day(const struct day *day, day_visitor *visit, void *arg, bool *ret_more, struct xt_err *err) {
    struct day_row row = {
        .day = day_start(day->number), .traces = day->traces, .observations = day->observations, .cost = day->cost
    };
    if (!day_models_show(&day->usage, &row))
        return no_memory(err);
    *ret_more = visit(arg, &row);
    return XT_OK;
}

static enum xt_code read_daily(struct daily *d, struct xt_err *err) {
    PGresult *rows = NULL;
    days_sql(&d->r.q, d);
    enum xt_code code = pg_sql_query(d->r.c, &d->r.q, &rows, err);
    if (code == XT_OK)
        code = take_days(d, rows, err);
    PQclear(rows);
    rows = NULL;
    if (code != XT_OK || d->n == 0 || !models_sql(&d->r.q, d))
        return code;
    code = pg_sql_query(d->r.c, &d->r.q, &rows, err);
    if (code == XT_OK)
        code = take_models(d, rows, err);
    PQclear(rows);
    return code;
}

enum xt_code postgres_daily(struct store *s, const struct daily_query *q, day_visitor *visit, void *arg,
                            int64_t *ret_total, struct xt_err *err) {
    struct daily d = { .q = q };
    bool more = true;
    trace_filter_of_daily(q, &d.f);
    d.by_rows = !trace_filter_by_rollups(&d.f);
    if (!pg_filter_can_match(&d.f)) {
        *ret_total = 0;
        return XT_OK;
    }
    enum xt_code code = pg_read_open(&d.r, pg_of(s), q->deadline, err);
    if (code != XT_OK)
        return code;
    code = read_daily(&d, err);
    for (size_t i = 0; i < d.n && code == XT_OK && more; i++)
        code = show_day(&d.days[i], visit, arg, &more, err);
    if (code == XT_OK)
        *ret_total = d.total;
    pg_read_close(&d.r);
    return code;
}
