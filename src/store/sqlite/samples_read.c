/* samples_read.c -- reading samples: names, and the points of one metric into a sink. Any thread, on a pooled reader.
 *
 *  1. One snapshot: series and points are read in one transaction.
 *  2. Series are read in order of their numbers, a bounded part at a time: the index gives them in the order of hashes,
 *     and a look-up of each in that order would read a page of two tables for every one of a million series.
 *  3. A label set is told to the sink only when it has a point in the range, so that a metric of a million old one-point
 *     series costs the sink nothing.
 *  4. The deadline is looked at by the connection while a statement runs, and here between many short ones. */
#include <stdlib.h>

#include "store/series_agg.h"
#include "store/sqlite/engine.h"
#include "store/sqlite/labels.h"

#define SCRATCH_MAX (256u << 20) /* bytes, labels of one series */
#define SIDS_PART 262144         /* series read at a time: 2 MB of numbers */
#define SIDS_FIRST 1024
#define SETS_PER_LOOK 256 /* at the clock */

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
    struct arena scratch; /* labels of the present series */
    int64_t *sids;        /* malloc'd */
    size_t nsids, cap;
    bool full; /* the sink wants no more: it reports why itself */
};

/* Labels of a series into the scratch arena. */
static enum xt_code labels_read(struct series_read *r, int64_t sid, struct label **ret, size_t *ret_n,
                                struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(r->c, SQL_SERIES_LABELS, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, sid);
    int rc = sqlite3_step(st);
    enum xt_code code = XT_OK;
    arena_reset(&r->scratch);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        code = conn_fail(r->c, rc, "series", err);
    } else {
        struct str text = rc == SQLITE_ROW ? arena_str(&r->scratch, col_str(st, 0)) : STR_LIT("");
        if (!labels_parse(&r->scratch, text, ret, ret_n))
            code = r->scratch.failed ? xt_fail(err, XT_ENOMEM, "out of memory")
                                     : xt_fail(err, XT_ESTORE, "the labels of a series are damaged");
    }
    sqlite3_reset(st);
    return code;
}

static bool point_feed(struct series_sink *sink, uint32_t group, int64_t time, int64_t arrival, double value) {
    return series_sink_feed(sink, &(struct series_points){ &group, &time, &value, &arrival, 1 });
}

/* One series: its points in order of time, then of arrival. Without a filter most series fall out for want of a point in
 * the range, so that is looked at first; with one, by their labels. */
static enum xt_code set_read(struct series_read *r, int64_t sid, struct xt_err *err) {
    struct label *labels = NULL;
    size_t n = 0;
    uint32_t group = SERIES_NO_GROUP;
    enum xt_code code = r->q->nlabels > 0 ? labels_read(r, sid, &labels, &n, err) : XT_OK;
    if (code != XT_OK || (r->q->nlabels > 0 && !series_sink_wants(r->sink, labels, n)))
        return code;
    sqlite3_stmt *st = conn_stmt(r->c, SQL_SAMPLE_RANGE, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, sid);
    sqlite3_bind_int64(st, 2, r->q->from);
    sqlite3_bind_int64(st, 3, r->q->to);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && code == XT_OK && !r->full) {
        if (group == SERIES_NO_GROUP) {
            code = r->q->nlabels == 0 ? labels_read(r, sid, &labels, &n, err) : XT_OK;
            group = code == XT_OK ? series_sink_set(r->sink, labels, n) : SERIES_NO_GROUP;
        }
        r->full = group == SERIES_NO_GROUP || !point_feed(r->sink, group, sqlite3_column_int64(st, 0),
                                                          sqlite3_column_int64(st, 1), sqlite3_column_double(st, 2));
    }
    sqlite3_reset(st);
    return code != XT_OK || r->full || rc == SQLITE_DONE ? code : conn_fail(r->c, rc, "samples", err);
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Reads the series collected in r->sids, and forgets them. */
static enum xt_code part_read(struct series_read *r, struct xt_err *err) {
    enum xt_code code = XT_OK;
    if (r->nsids > 1)
        qsort(r->sids, r->nsids, sizeof *r->sids, by_number);
    for (size_t i = 0; i < r->nsids && code == XT_OK && !r->full; i++) {
        code = set_read(r, r->sids[i], err);
        if (code == XT_OK && i % SETS_PER_LOOK == 0 && r->q->deadline != TIME_NONE && clock_mono_ns() > r->q->deadline)
            code = conn_fail(r->c, SQLITE_INTERRUPT, "samples", err);
    }
    r->nsids = 0;
    return code;
}

static bool sids_add(struct series_read *r, int64_t sid) {
    if (r->nsids == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : SIDS_FIRST;
        int64_t *more = alloc_should_fail() ? NULL : realloc(r->sids, cap * sizeof *more);
        if (!more)
            return false;
        r->sids = more;
        r->cap = cap;
    }
    r->sids[r->nsids++] = sid;
    return true;
}

static enum xt_code sets_read(struct series_read *r, int64_t metric, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(r->c, SQL_SERIES_OF, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, metric);
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    while (code == XT_OK && !r->full && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (!sids_add(r, sqlite3_column_int64(st, 0)))
            code = xt_fail(err, XT_ENOMEM, "out of memory");
        else if (r->nsids == SIDS_PART)
            code = part_read(r, err);
    }
    if (code == XT_OK && !r->full && rc != SQLITE_DONE)
        code = conn_fail(r->c, rc, "series", err);
    return code == XT_OK && !r->full ? part_read(r, err) : code;
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
    bool again = metric != 0;
    while (code == XT_OK && again) {
        code = sets_read(&r, metric, err);
        again = series_sink_again(sink);
    }
    reader_put(e, c);
    arena_done(&r.scratch);
    free(r.sids);
    return code;
}
