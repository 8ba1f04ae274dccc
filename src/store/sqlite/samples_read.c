/* samples_read.c -- reading samples: names, and the points of one metric into a sink. Any thread, on a pooled reader.
 *
 *  1. The version and the counts of its parts first, then one snapshot of the file, in which only generations below the
 *     version's next_gen are read: exactly once, whatever is sealed meanwhile (samples.h).
 *  2. A generation is passed over by its times, then by its filter when labels are asked for, then part by part.
 *  3. Points before a generation's `cut` are gone, wherever they still lie.
 *  4. The deadline is looked at by the connection while a statement runs, and here between parts. */
#include <stdlib.h>

#include "store/sample/names.h"
#include "store/sample/scan.h"
#include "store/sqlite/samples.h"

/* What a read starts from. */
struct view {
    struct samples_version *v;
    struct hot_count seen[SAMPLE_PARTS];
};

static enum xt_code view_take(struct sqlite_store *e, struct conn *c, struct view *ret, struct xt_err *err) {
    ret->v = samples_version_get(e, c, err);
    if (!ret->v)
        return err->code;
    for (size_t i = 0; i < ret->v->n; i++)
        ret->seen[i] = hot_seen(ret->v->parts[i]);
    return XT_OK;
}

/* ---- names ---- */

static enum xt_code names_stored(struct conn *c, const struct view *w, int64_t project, struct name_list *l,
                                 struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_MNAME_LIST, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, project);
    sqlite3_bind_int64(st, 2, w->v->next_gen);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        if (!name_list_add(l, col_str(st, 0)))
            return xt_fail(err, XT_ENOMEM, "out of memory");
    return rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "names of metrics", err);
}

static enum xt_code names_read(struct conn *c, const struct view *w, int64_t project, name_visitor *visit, void *arg,
                               struct xt_err *err) {
    struct name_list l;
    name_list_init(&l);
    enum xt_code code = names_stored(c, w, project, &l, err);
    for (size_t i = 0; i < w->v->n && code == XT_OK; i++)
        if (!scan_names(w->v->parts[i], &w->seen[i], project, name_list_add, &l))
            code = xt_fail(err, XT_ENOMEM, "out of memory");
    if (code == XT_OK)
        name_list_visit(&l, visit, arg);
    name_list_done(&l);
    return code;
}

enum xt_code sqlite_metric_names(struct store *s, int64_t project, int64_t deadline, name_visitor *visit, void *arg,
                                 struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = reader_get(e, deadline, err);
    struct view w = { NULL, { { 0 } } };
    if (!c)
        return err->code;
    enum xt_code code = view_take(e, c, &w, err);
    if (code == XT_OK)
        code = names_read(c, &w, project, visit, arg, err);
    reader_put(e, c);
    samples_version_unref(w.v);
    return code;
}

/* ---- points ---- */

struct series_read {
    struct conn *c;
    const struct series_query *q;
    struct series_sink *sink;
    const struct view *w;
    struct pack_reader *reader;
    int64_t metric; /* 0: in no generation */
    bool full;      /* the sink wants no more: it reports why itself */
};

/* *ret 0: no such metric. */
static enum xt_code metric_number(struct conn *c, const struct series_query *q, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_MNAME_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, q->project);
    bind_str(st, 2, q->name);
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "metric", err);
}

/* One row of a generation's filter for each label that is asked for. */
static enum xt_code filtered_out(const struct series_read *r, int64_t gen, int64_t rows, bool *ret,
                                 struct xt_err *err) {
    *ret = false;
    if (rows < 1)
        return XT_OK;
    for (size_t i = 0; i < r->q->nlabels && !*ret; i++) {
        uint64_t hash = filter_hash(r->metric, r->q->labels[i].name, r->q->labels[i].value);
        sqlite3_stmt *st = conn_stmt(r->c, SQL_MFILTER_GET, err);
        if (!st)
            return r->c->failed;
        sqlite3_bind_int64(st, 1, gen << SAMPLE_PACK_BITS | (int64_t)filter_row(hash, (size_t)rows));
        int rc = sqlite3_step(st);
        *ret = rc == SQLITE_ROW && !filter_maybe(col_blob(st, 0), (size_t)rows, hash);
        sqlite3_reset(st);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return conn_fail(r->c, rc, "samples", err);
    }
    return XT_OK;
}

/* Points of the part that is open. */
static enum xt_code points_read(struct series_read *r, int64_t key, uint32_t part, bool raw, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(r->c, raw ? SQL_MPACK_RAW : SQL_MPACK_PTS, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, key);
    int rc = sqlite3_step(st);
    enum xt_code code = XT_OK;
    if (rc == SQLITE_ROW)
        code = pack_read(r->reader, col_blob(st, 0), raw ? col_blob(st, 1) : STR_LIT(""), key >> SAMPLE_PACK_BITS, part,
                         &r->full, err);
    else if (rc != SQLITE_DONE)
        code = conn_fail(r->c, rc, "samples", err);
    sqlite3_reset(st);
    return code;
}

struct gen_dir {
    int64_t gen, first, parts, cut, rows;
};

static enum xt_code gen_read(struct series_read *r, const struct gen_dir *d, struct xt_err *err) {
    bool out = false;
    int64_t from, to;
    enum xt_code code = filtered_out(r, d->gen, d->rows, &out, err);
    if (code != XT_OK || out)
        return code;
    series_sink_range(r->sink, &from, &to);
    pack_reader_cut(r->reader, d->cut);
    sqlite3_stmt *st = conn_stmt(r->c, SQL_MPACK_LAB, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, d->gen << SAMPLE_PACK_BITS | d->first);
    sqlite3_bind_int64(st, 2, (d->gen << SAMPLE_PACK_BITS | d->first) + d->parts - 1);
    sqlite3_bind_int64(st, 3, from > d->cut ? from : d->cut);
    sqlite3_bind_int64(st, 4, to);
    int rc = SQLITE_DONE;
    while (code == XT_OK && !r->full && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t key = sqlite3_column_int64(st, 0);
        enum pack_want want = PACK_NOTHING;
        if (r->q->deadline != TIME_NONE && clock_mono_ns() > r->q->deadline)
            code = conn_fail(r->c, SQLITE_INTERRUPT, "samples", err);
        if (code == XT_OK)
            code = pack_open(r->reader, col_blob(st, 1), &want, err);
        if (code == XT_OK && want != PACK_NOTHING)
            code =
                points_read(r, key, (uint32_t)(key - (d->gen << SAMPLE_PACK_BITS | d->first)), want == PACK_RAW, err);
    }
    sqlite3_reset(st);
    return code == XT_OK && !r->full && rc != SQLITE_DONE ? conn_fail(r->c, rc, "samples", err) : code;
}

static enum xt_code gens_read(struct series_read *r, struct xt_err *err) {
    int64_t from, to;
    if (r->metric == 0)
        return XT_OK;
    series_sink_range(r->sink, &from, &to);
    sqlite3_stmt *st = conn_stmt(r->c, SQL_MDIR_OF, err);
    if (!st)
        return r->c->failed;
    sqlite3_bind_int64(st, 1, r->metric);
    sqlite3_bind_int64(st, 2, r->w->v->next_gen);
    sqlite3_bind_int64(st, 3, from);
    sqlite3_bind_int64(st, 4, to);
    int rc = SQLITE_DONE;
    enum xt_code code = XT_OK;
    while (code == XT_OK && !r->full && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const struct gen_dir d = { sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                   sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3),
                                   sqlite3_column_int64(st, 4) };
        if (!seal_dir_sound(d.gen, d.first, d.parts, d.rows))
            code = xt_fail(err, XT_ESTORE, "the directory of a generation of samples is damaged");
        else
            code = gen_read(r, &d, err);
    }
    sqlite3_reset(st);
    return code == XT_OK && !r->full && rc != SQLITE_DONE ? conn_fail(r->c, rc, "samples", err) : code;
}

/* Everything once, in the order of arrival. */
static enum xt_code pass(struct series_read *r, struct xt_err *err) {
    const struct samples_version *v = r->w->v;
    int64_t arrival = pack_arrival(v->next_gen, 0);
    enum xt_code code = gens_read(r, err);
    for (size_t i = 0; i < v->n && code == XT_OK && !r->full; i++) {
        if (v->numbers[i] == 2 * v->next_gen + 2) /* behind the frozen part: of the generation after it */
            arrival = pack_arrival(v->next_gen + 1, 0);
        code = scan_hot(v->parts[i], &r->w->seen[i], arrival, r->q, r->sink, &r->full, err);
        arrival += r->w->seen[i].points;
    }
    return code;
}

static enum xt_code series_read(struct series_read *r, struct xt_err *err) {
    enum xt_code code = conn_begin(r->c, false, err);
    if (code == XT_OK)
        code = metric_number(r->c, r->q, &r->metric, err);
    r->reader = code == XT_OK ? pack_reader_new(r->q, r->sink) : NULL;
    if (code == XT_OK && !r->reader)
        code = xt_fail(err, XT_ENOMEM, "out of memory");
    bool again = code == XT_OK;
    while (again) {
        code = pass(r, err);
        again = code == XT_OK && !r->full && series_sink_again(r->sink);
    }
    pack_reader_free(r->reader);
    if (code == XT_ETIMEOUT) /* counted, whoever looked at the clock */
        r->c->failed = XT_ETIMEOUT;
    return code;
}

enum xt_code sqlite_series(struct store *s, const struct series_query *q, struct series_sink *sink,
                           struct xt_err *err) {
    if (q->match_none)
        return XT_OK;
    struct sqlite_store *e = engine_of(s);
    struct conn *c = reader_get(e, q->deadline, err);
    struct view w = { NULL, { { 0 } } };
    if (!c)
        return err->code;
    struct series_read r = { .c = c, .q = q, .sink = sink, .w = &w };
    enum xt_code code = view_take(e, c, &w, err);
    if (code == XT_OK)
        code = series_read(&r, err);
    reader_put(e, c);
    samples_version_unref(w.v);
    return code;
}
