/* count.c -- how many traces match (filter.h): from counters where they know it, else by an index, else by rows. */
#include "store/postgres/filter.h"

/* Is nothing but that tag asked for? */
static bool by_key(const struct trace_filter *f) {
    struct trace_filter rest = *f;
    rest.ntags = 0;
    return pg_filter_is_key(f) && trace_filter_is_plain(&rest);
}

static void rows_sql(struct pg_sql *q, const struct trace_filter *f) {
    const char *time;
    pg_sql_c(q, "(SELECT count(*) FROM ");
    pg_filter_sql(q, f, &time);
    pg_sql_c(q, ")");
}

static void piece_sql(struct pg_sql *q, const struct trace_filter *f, const struct range_piece *p) {
    if (p->span == 0) {
        struct trace_filter part = *f;
        part.from = p->from;
        part.to = p->to;
        rows_sql(q, &part);
        return;
    }
    if (trace_filter_is_plain(f)) {
        pg_sql_c(q, "(SELECT coalesce(sum(r.n), 0) FROM xtrace.rollup_count r WHERE r.project = ");
        pg_sql_i64(q, f->project);
        pg_sql_c(q, " AND r.span = ");
        pg_sql_i32(q, (int32_t)(p->span / NS_PER_SEC));
    } else {
        pg_sql_c(q, "(SELECT coalesce(sum(r.n), 0) FROM xtrace.rollup_trace r WHERE ");
        pg_filter_rollup_sql(q, f, p->span);
    }
    pg_filter_starts_sql(q, p);
    pg_sql_c(q, ")");
}

static void key_sql(struct pg_sql *q, const struct trace_filter *f) {
    pg_sql_c(q, "(SELECT count(*) FROM xtrace.trace_key r WHERE r.kind = 1::smallint AND r.project = ");
    pg_sql_i64(q, f->project);
    pg_sql_c(q, " AND r.v = ");
    pg_sql_text(q, f->tags[0]);
    pg_sql_c(q, " AND r.ts >= ");
    pg_sql_i64(q, f->from);
    pg_sql_c(q, " AND r.ts <= ");
    pg_sql_i64(q, f->to);
    pg_sql_c(q, ")");
}

void pg_count_sql(struct pg_sql *q, const struct trace_filter *f) {
    pg_sql_c(q, "SELECT 0::numeric");
    if (trace_filter_by_rollups(f)) {
        int64_t spans[RANGE_SPANS];
        struct range_pieces p;
        const size_t n = range_spans(str_has(f->name), trace_filter_is_plain(f), spans);
        range_split(spans, n, f->from, f->to, &p);
        for (size_t i = 0; i < p.n; i++) {
            pg_sql_c(q, p.v[i].sign > 0 ? " + " : " - ");
            piece_sql(q, f, &p.v[i]);
        }
        return;
    }
    pg_sql_c(q, " + ");
    if (by_key(f))
        key_sql(q, f);
    else
        rows_sql(q, f);
}

int64_t pg_count_read(const PGresult *r) {
    int64_t n = PQntuples(r) == 1 ? sum_to_i64(pg_num(r, 0, 0)) : 0;
    return n > 0 ? n : 0;
}
