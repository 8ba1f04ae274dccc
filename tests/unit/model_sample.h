/* model_sample.h -- a plain model in memory of what a store of samples must answer: all points in one array in order of
 * arrival, and every query sorts what matches. Values in the tests are small multiples of 1/4, so that sums are exact in
 * any order. Included by the tests that compare a store with it. */
#pragma once
#include "trace_fixture.h"

#include <math.h>

#define MODEL_POINTS 60000

struct m_point {
    int64_t project;
    struct str name;
    const struct label *labels;
    size_t nlabels;
    int64_t ts;
    double value;
};
struct sample_model {
    struct arena a;
    struct m_point *p; /* MODEL_POINTS of them */
    size_t n;
    int64_t cut; /* what is older may be there or not: retention removes, and late points may come again */
};
static struct sample_model points;

static void points_init(void) {
    points = (struct sample_model){ .p = calloc(MODEL_POINTS, sizeof *points.p), .cut = TIME_MIN };
    assert_non_null(points.p);
    arena_init(&points.a, (size_t)1 << 30);
}
static void points_done(void) {
    free(points.p);
    arena_done(&points.a);
}
static bool points_room(size_t n) { return points.n + n <= MODEL_POINTS; }

static void points_apply(const struct batch *b) {
    assert_true(points_room(b->nsamples));
    for (size_t i = 0; i < b->nsamples; i++) {
        const struct sample *s = &b->samples[i];
        struct label *copy = arena_new(&points.a, struct label, s->nlabels);
        for (size_t k = 0; k < s->nlabels; k++)
            copy[k] =
                (struct label){ arena_str(&points.a, s->labels[k].name), arena_str(&points.a, s->labels[k].value) };
        points.p[points.n++] =
            (struct m_point){ b->project, arena_str(&points.a, s->name), copy, s->nlabels, s->timestamp, s->value };
    }
}

/* What older points there are is left open from now on. */
static void points_retain(int64_t cutoff) {
    size_t n = 0;
    for (size_t i = 0; i < points.n; i++)
        if (points.p[i].ts >= cutoff)
            points.p[n++] = points.p[i];
    points.n = n;
    if (cutoff > points.cut)
        points.cut = cutoff;
}

/* ---- series ---- */

struct m_hit { /* a point that matches */
    struct str group;
    int64_t start, ts;
    size_t arrival;
    double value;
};

static struct str m_label(const struct m_point *p, struct str name) {
    for (size_t i = 0; i < p->nlabels; i++)
        if (str_eq(p->labels[i].name, name))
            return p->labels[i].value;
    return STR_NONE;
}

static bool m_point_matches(const struct m_point *p, const struct series_query *q) {
    if (p->project != q->project || !str_eq(p->name, q->name) || p->ts < q->from || p->ts > q->to)
        return false;
    for (size_t i = 0; i < q->nlabels; i++) {
        struct str value = m_label(p, q->labels[i].name);
        if (!str_has(value) || !str_eq(value, q->labels[i].value))
            return false;
    }
    return true;
}

/* The group's labels as JSON. The labels of these tests need no escapes. */
static struct str m_group(struct arena *a, const struct m_point *p, const struct series_query *q) {
    if (!q->grouped)
        return labels_json(a, p->labels, p->nlabels);
    struct str value = m_label(p, q->group_by);
    if (!str_has(value))
        return arena_printf(a, "{\"%.*s\":null}", STR_FMT(q->group_by));
    return arena_printf(a, "{\"%.*s\":\"%.*s\"}", STR_FMT(q->group_by), STR_FMT(value));
}

static int m_cmp_hit(const void *a, const void *b) {
    const struct m_hit *x = a, *y = b;
    int cmp = str_cmp(x->group, y->group);
    if (cmp == 0)
        cmp = (x->ts > y->ts) - (x->ts < y->ts); /* buckets are ranges of it */
    return cmp ? cmp : (x->arrival > y->arrival) - (x->arrival < y->arrival);
}

static int m_cmp_f64_up(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* As percentile_cont of SQL. */
static double m_percentile(double *sorted, size_t n, double share) {
    double at = share * (double)(n - 1), below = floor(at);
    size_t i = (size_t)below;
    if (at == below || i + 1 >= n)
        return sorted[i];
    volatile double distance = sorted[i + 1] - sorted[i], part = (at - below) * distance;
    return sorted[i] + part;
}

/* The points of one bucket, in order of time and arrival. */
static double m_aggregate(const struct m_hit *h, size_t n, enum series_agg agg) {
    double *v = calloc(n, sizeof *v), sum = 0, ret;
    assert_non_null(v);
    for (size_t i = 0; i < n; i++) {
        v[i] = h[i].value;
        sum += v[i];
    }
    qsort(v, n, sizeof *v, m_cmp_f64_up);
    switch (agg) {
    case AGG_AVG: ret = sum / (double)n; break;
    case AGG_SUM: ret = sum; break;
    case AGG_MAX: ret = v[n - 1]; break;
    case AGG_MIN: ret = v[0]; break;
    case AGG_P50: ret = m_percentile(v, n, 0.5); break;
    case AGG_P90: ret = m_percentile(v, n, 0.9); break;
    case AGG_P99: ret = m_percentile(v, n, 0.99); break;
    default: ret = h[n - 1].value;
    }
    free(v);
    return ret;
}

static size_t m_run(const struct m_hit *h, size_t n, bool same_bucket) { /* how many belong to the first one's group */
    size_t k = 1;
    while (k < n && str_eq(h[k].group, h[0].group) && (!same_bucket || h[k].start == h[0].start))
        k++;
    return k;
}

/* One series of the answer; true: older buckets are left out. */
static bool m_show_series(const struct m_hit *h, size_t n, const struct series_query *q, struct buf *out) {
    size_t buckets = 0, skip = 0;
    for (size_t i = 0; i < n; i += m_run(h + i, n - i, true))
        buckets++;
    skip = buckets > q->max_points ? buckets - q->max_points : 0;
    buf_add_str(out, h[0].group);
    for (size_t i = 0, number = 0; i < n; number++) {
        size_t k = m_run(h + i, n - i, true);
        if (number >= skip)
            buf_printf(out, " %lld=%.17g", (long long)h[i].start, m_aggregate(h + i, k, q->agg));
        i += k;
    }
    buf_add_char(out, '\n');
    return skip > 0;
}

static void m_series(const struct series_query *q, struct buf *out) {
    struct m_hit *h = calloc(points.n + 1, sizeof *h);
    struct arena a;
    size_t n = 0, series = 0;
    int64_t latest = TIME_NONE;
    bool cut = false;
    assert_non_null(h);
    arena_init(&a, (size_t)1 << 30);
    for (size_t i = 0; i < points.n; i++) {
        const struct m_point *p = &points.p[i];
        if (!m_point_matches(p, q))
            continue;
        h[n++] = (struct m_hit){ m_group(&a, p, q), time_floor(p->ts, q->step), p->ts, i, p->value };
        if (latest == TIME_NONE || p->ts > latest)
            latest = p->ts;
    }
    qsort(h, n, sizeof *h, m_cmp_hit);
    for (size_t i = 0; i < n; series++) {
        size_t k = m_run(h + i, n - i, false);
        if (series < q->max_series)
            cut = m_show_series(h + i, k, q, out) || cut;
        i += k;
    }
    buf_printf(out, "latest=%lld%s\n", (long long)latest, cut || series > q->max_series ? " cut" : "");
    arena_done(&a);
    free(h);
}

/* The store's answer in the same form. */
static void read_series(struct fixture *f, const struct series_query *q, struct buf *out) {
    struct series_sink *sink = series_sink_new(q, (size_t)64 << 20);
    const struct series_result *r = NULL;
    size_t n = 0;
    int64_t latest = 0;
    bool cut = false;
    assert_non_null(sink);
    if (f->store.ops->series(&f->store, q, sink, &f->err) != XT_OK ||
        series_sink_finish(sink, &r, &n, &latest, &cut, &f->err) != XT_OK)
        buf_printf(out, "failed: %s\n", f->err.msg);
    for (size_t i = 0; i < n; i++) {
        buf_add_str(out, r[i].labels);
        for (size_t k = 0; k < r[i].nvalues; k++)
            buf_printf(out, " %lld=%.17g", (long long)r[i].values[k].timestamp, r[i].values[k].value);
        buf_add_char(out, '\n');
    }
    buf_printf(out, "latest=%lld%s\n", (long long)latest, cut ? " cut" : "");
    series_sink_free(sink);
}
