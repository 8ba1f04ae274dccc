/* samples_read.c -- reading samples: names, and the points of one metric into a sink. Any thread, on a pooled reader.
 *
 *  1. One snapshot: series and points are read in one transaction.
 *  2. A label set is told to the sink only when it has a point in the range, so that a metric of a million old one-point
 *     series costs the sink nothing.
 *  3. The deadline is looked at by the connection while a statement runs, and here between many short ones. */
#include "store/series_agg.h"
#include "store/sqlite/engine.h"
#include "store/sqlite/labels.h"

#define SCRATCH_MAX (256u << 20) /* bytes, labels of one series */
#define SETS_PER_LOOK 256        /* at the clock */

/* ---- names ---- */

static enum xt_code names_read(struct conn *c, int64_t project, name_visitor *visit, void *arg, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_METRIC_NAMES, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, project);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        if (!visit(arg, col_str(st, 0)))
            return XT_OK;
    return rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "names of metrics", err);
}

enum xt_code sqlite_metric_names(struct store *s, int64_t project, int64_t deadline, name_visitor *visit, void *arg,
                                 struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = reader_get(e, deadline, err);
    if (!c)
        return err->code;
    enum xt_code code = names_read(c, project, visit, arg, err);
    reader_put(e, c);
    return code;
}

/* ---- points ---- */

struct series_read {
    struct conn *c;
    const struct series_query *q;
    struct series_sink *sink;
    struct arena scratch;
    bool full; /* the sink wants no more: it reports why itself */
};

/* The points of one series, in order of time, then of arrival. The labels' text lives until the caller's next step. */
static enum xt_code points_read(struct series_read *r, int64_t sid, const struct label *labels, size_t nlabels,
                                struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(r->c, SQL_SAMPLE_RANGE, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, sid);
    sqlite3_bind_int64(st, 2, r->q->from);
    sqlite3_bind_int64(st, 3, r->q->to);
    size_t group = SERIES_NO_GROUP;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (group == SERIES_NO_GROUP)
            group = series_sink_set(r->sink, labels, nlabels);
        r->full =
            group == SERIES_NO_GROUP || !series_sink_arrival(r->sink, group, sqlite3_column_int64(st, 0),
                                                             sqlite3_column_int64(st, 1), sqlite3_column_double(st, 2));
        if (r->full)
            break;
    }
    sqlite3_reset(st);
    return r->full || rc == SQLITE_DONE ? XT_OK : conn_fail(r->c, rc, "samples", err);
}

static enum xt_code set_read(struct series_read *r, int64_t sid, struct str text, struct xt_err *err) {
    struct label *labels = NULL;
    size_t n = 0;
    arena_reset(&r->scratch);
    if (!labels_parse(&r->scratch, text, &labels, &n))
        return r->scratch.failed ? xt_fail(err, XT_ENOMEM, "out of memory")
                                 : xt_fail(err, XT_ESTORE, "the labels of a series are damaged");
    return series_sink_wants(r->sink, labels, n) ? points_read(r, sid, labels, n, err) : XT_OK;
}

static enum xt_code sets_read(struct series_read *r, int64_t metric, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(r->c, SQL_SERIES_OF, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, metric);
    int rc;
    for (size_t n = 1; (rc = sqlite3_step(st)) == SQLITE_ROW; n++) {
        enum xt_code code = set_read(r, sqlite3_column_int64(st, 0), col_str(st, 1), err);
        if (code != XT_OK || r->full)
            return code;
        if (n % SETS_PER_LOOK == 0 && r->q->deadline != TIME_NONE && clock_mono_ns() > r->q->deadline)
            return conn_fail(r->c, SQLITE_INTERRUPT, "samples", err);
    }
    return rc == SQLITE_DONE ? XT_OK : conn_fail(r->c, rc, "series", err);
}

/* *ret 0: no such metric. */
static enum xt_code metric_number(struct conn *c, const struct series_query *q, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_METRIC_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, q->project);
    bind_str(st, 2, q->name);
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "metric", err);
}

enum xt_code sqlite_series(struct store *s, const struct series_query *q, struct series_sink *sink,
                           struct xt_err *err) {
    if (q->match_none)
        return XT_OK;
    struct sqlite_store *e = engine_of(s);
    struct conn *c = reader_get(e, q->deadline, err);
    if (!c)
        return err->code;
    struct series_read r = { .c = c, .q = q, .sink = sink };
    arena_init(&r.scratch, SCRATCH_MAX);
    int64_t metric = 0;
    enum xt_code code = conn_begin(c, false, err);
    if (code == XT_OK)
        code = metric_number(c, q, &metric, err);
    if (code == XT_OK && metric != 0)
        code = sets_read(&r, metric, err);
    reader_put(e, c);
    arena_done(&r.scratch);
    return code;
}
