/* samples_read.c -- reading samples: names, and the points of one metric into a sink. Any thread, on a pooled reader.
 *
 *  1. The view of the logs and the generations are of one snapshot: each point once (samples.h).
 *  2. A generation is passed over by its times, then by its filter when labels are asked for, then part by part. The parts
 *     of some generations come in one statement: their label columns first, then the points of those that are wanted.
 *  3. Points before a generation's `cut` are gone, wherever they still lie. */
#include <stdlib.h>

#include "store/postgres/samples.h"
#include "store/sample/filter.h"
#include "store/sample/names.h"
#include "store/sample/pack.h"
#include "store/sample/scan.h"
#include "store/sample/seal.h"

#define PARTS_AT_ONCE 64
#define MORE_THAN_ANY ((int64_t)1 << 19) /* generations: where logs stand in the order of arrival */

static enum xt_code no_room(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* ---- names ---- */

static enum xt_code names_stored(struct pg_conn *c, int64_t project, struct name_list *l, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, project);
    enum xt_code code =
        pg_query(c,
                 "SELECT name FROM xtrace.mname m WHERE project = $1 AND EXISTS (SELECT FROM xtrace.mdir d"
                 " JOIN xtrace.mgen g ON g.gen = d.gen WHERE d.name = m.id AND d.t1 >= g.cut)",
                 &a, &r, err);
    pg_args_done(&a);
    for (int i = 0; code == XT_OK && i < PQntuples(r); i++)
        if (!name_list_add(l, pg_text(&l->a, r, i, 0)))
            code = no_room(err);
    PQclear(r);
    return code;
}

enum xt_code postgres_metric_names(struct store *s, int64_t project, int64_t deadline, name_visitor *visit, void *arg,
                                   struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct name_list l;
    struct pg_view v = { .parts = NULL };
    struct pg_conn *c = pg_reader_get(e, deadline, err);
    if (!c)
        return err->code;
    name_list_init(&l);
    enum xt_code code = pg_view_take(e, c, &v, err);
    if (code == XT_OK)
        code = names_stored(c, project, &l, err);
    pg_reader_put(e, c);
    for (size_t i = 0; i < v.n && code == XT_OK; i++)
        if (!scan_names(v.parts[i].hot, &v.parts[i].seen, project, name_list_add, &l))
            code = no_room(err);
    if (code == XT_OK)
        name_list_visit(&l, visit, arg);
    name_list_done(&l);
    pg_view_done(&v);
    return code;
}

/* ---- points ---- */

/* What a generation has of the metric. */
struct gen_dir {
    int64_t gen, cut;
    int32_t week, first, parts, rows;
    bool out; /* the filter says that it has none of the labels' values */
};
struct series_read {
    struct pg_conn *c;
    const struct series_query *q;
    struct series_sink *sink;
    const struct pg_view *view;
    struct pack_reader *reader;
    struct pg_args args;
    struct gen_dir *dirs;
    size_t ndirs;
    int64_t metric;
    bool full; /* the sink wants no more: it reports why itself */
};

static bool late(const struct series_read *r) {
    return r->q->deadline != TIME_NONE && clock_mono_ns() > r->q->deadline;
}

static enum xt_code damaged(struct xt_err *err) {
    return xt_fail(err, XT_ESTORE, "the directory of a generation of samples is damaged");
}

/* The generations that may hold points of the metric. Whatever the time asked for: later passes may ask for another. */
static enum xt_code dirs_read(struct series_read *r, struct xt_err *err) {
    PGresult *res = NULL;
    char room[PG_SHORT_MAX];
    pg_args_clear(&r->args);
    pg_arg_i64(&r->args, r->q->project);
    pg_arg_text(&r->args, pg_short(r->q->name, room));
    pg_arg_i64(&r->args, r->q->from);
    pg_arg_i64(&r->args, r->q->to);
    pg_arg_text(&r->args, r->q->name);
    enum xt_code code = pg_query(
        r->c,
        "SELECT d.gen, g.cut, g.week, d.first, d.parts, g.frows, d.name FROM xtrace.mname m JOIN xtrace.mdir d"
        " ON d.name = m.id JOIN xtrace.mgen g ON g.gen = d.gen WHERE m.project = $1 AND m.short = $2 AND m.name = $5"
        " AND d.t1 >= greatest($3, g.cut) AND d.t0 <= $4 ORDER BY d.gen",
        &r->args, &res, err);
    if (code != XT_OK)
        return code;
    size_t n = (size_t)PQntuples(res);
    r->dirs = alloc_should_fail() ? NULL : calloc(n ? n : 1, sizeof *r->dirs);
    for (size_t i = 0; r->dirs && i < n && code == XT_OK; i++) {
        int row = (int)i;
        struct gen_dir d = { .gen = pg_i64(res, row, 0),
                             .cut = pg_i64(res, row, 1),
                             .week = (int32_t)pg_i64(res, row, 2),
                             .first = (int32_t)pg_i64(res, row, 3),
                             .parts = (int32_t)pg_i64(res, row, 4),
                             .rows = (int32_t)pg_i64(res, row, 5) };
        r->metric = pg_i64(res, row, 6);
        if (!seal_dir_sound(d.gen, d.first, d.parts, d.rows))
            code = damaged(err);
        r->dirs[r->ndirs++] = d;
    }
    PQclear(res);
    return r->dirs ? code : no_room(err);
}

/* One row of each generation's filter for a label, in one statement. */
static enum xt_code filter_label_out(struct series_read *r, const struct label *l, struct xt_err *err) {
    const uint64_t hash = filter_hash(r->metric, l->name, l->value);
    PGresult *res = NULL;
    pg_args_clear(&r->args);
    pg_arg_array(&r->args, PG_INT8, r->ndirs);
    for (size_t i = 0; i < r->ndirs; i++)
        pg_item_i64(&r->args, r->dirs[i].gen);
    pg_arg_array(&r->args, PG_INT4, r->ndirs);
    for (size_t i = 0; i < r->ndirs; i++)
        pg_item_i32(&r->args, r->dirs[i].rows < 1 ? -1 : (int32_t)filter_row(hash, (size_t)r->dirs[i].rows));
    enum xt_code code = pg_query(r->c,
                                 "SELECT f.gen, f.z FROM unnest($1, $2) AS w(gen, part) JOIN xtrace.mfilter f"
                                 " ON f.gen = w.gen AND f.part = w.part ORDER BY f.gen",
                                 &r->args, &res, err);
    size_t at = 0;
    for (int i = 0; code == XT_OK && i < PQntuples(res); i++) {
        int64_t gen = pg_i64(res, i, 0);
        while (at < r->ndirs && r->dirs[at].gen < gen)
            at++;
        if (at < r->ndirs && r->dirs[at].gen == gen &&
            !filter_maybe(pg_bytes(res, i, 1), (size_t)r->dirs[at].rows, hash))
            r->dirs[at].out = true;
    }
    PQclear(res);
    return code;
}

/* Points of parts whose columns of labels were read. */
static enum xt_code points_read(struct series_read *r, const struct gen_dir *d, int32_t part, bool raw,
                                struct xt_err *err) {
    PGresult *res = NULL;
    pg_args_clear(&r->args);
    pg_arg_i32(&r->args, d->week);
    pg_arg_i64(&r->args, d->gen);
    pg_arg_i32(&r->args, part);
    enum xt_code code = pg_query(r->c,
                                 raw ? "SELECT pts, raw FROM xtrace.mpack WHERE week = $1 AND gen = $2 AND part = $3"
                                     : "SELECT pts FROM xtrace.mpack WHERE week = $1 AND gen = $2 AND part = $3",
                                 &r->args, &res, err);
    if (code == XT_OK && PQntuples(res) == 1)
        code = pack_read(r->reader, pg_bytes(res, 0, 0), raw ? pg_bytes(res, 0, 1) : STR_LIT(""), d->gen,
                         (uint32_t)(part - d->first), &r->full, err);
    PQclear(res);
    return code;
}

/* Parts [from, from + PARTS_AT_ONCE) of the directory. With few labels to compare nearly all points are wanted, so they come
 * along. */
static enum xt_code parts_read(struct series_read *r, const struct gen_dir *d, int32_t from, int64_t t0, int64_t t1,
                               struct xt_err *err) {
    PGresult *res = NULL;
    const bool along = r->q->nlabels == 0;
    int32_t end = from + PARTS_AT_ONCE < d->first + d->parts ? from + PARTS_AT_ONCE : d->first + d->parts;
    pg_args_clear(&r->args);
    pg_arg_i32(&r->args, d->week);
    pg_arg_i64(&r->args, d->gen);
    pg_arg_i32(&r->args, from);
    pg_arg_i32(&r->args, end - 1);
    pg_arg_i64(&r->args, t0 > d->cut ? t0 : d->cut);
    pg_arg_i64(&r->args, t1);
    enum xt_code code = pg_query(
        r->c,
        along ? "SELECT part, lab, pts FROM xtrace.mpack WHERE week = $1 AND gen = $2 AND part >= $3 AND part <= $4"
                " AND t1 >= $5 AND t0 <= $6 ORDER BY part"
              : "SELECT part, lab FROM xtrace.mpack WHERE week = $1 AND gen = $2 AND part >= $3 AND part <= $4"
                " AND t1 >= $5 AND t0 <= $6 ORDER BY part",
        &r->args, &res, err);
    for (int i = 0; code == XT_OK && !r->full && i < PQntuples(res); i++) {
        int32_t part = (int32_t)pg_i64(res, i, 0);
        enum pack_want want = PACK_NOTHING;
        if (late(r))
            code = xt_fail(err, XT_ETIMEOUT, "the query took too long");
        if (code == XT_OK)
            code = pack_open(r->reader, pg_bytes(res, i, 1), &want, err);
        if (code == XT_OK && want == PACK_POINTS && along)
            code = pack_read(r->reader, pg_bytes(res, i, 2), STR_LIT(""), d->gen, (uint32_t)(part - d->first), &r->full,
                             err);
        else if (code == XT_OK && want != PACK_NOTHING)
            code = points_read(r, d, part, want == PACK_RAW, err);
    }
    PQclear(res);
    return code;
}

static enum xt_code gen_read(struct series_read *r, const struct gen_dir *d, struct xt_err *err) {
    int64_t t0, t1;
    enum xt_code code = XT_OK;
    series_sink_range(r->sink, &t0, &t1);
    pack_reader_cut(r->reader, d->cut);
    for (int32_t part = d->first; part < d->first + d->parts && code == XT_OK && !r->full; part += PARTS_AT_ONCE)
        code = parts_read(r, d, part, t0, t1, err);
    return code;
}

/* Everything once; logs after generations, in the order of streams and their parts. */
static enum xt_code pass(struct series_read *r, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < r->ndirs && code == XT_OK && !r->full; i++)
        if (!r->dirs[i].out)
            code = gen_read(r, &r->dirs[i], err);
    for (size_t i = 0; i < r->view->n && code == XT_OK && !r->full; i++)
        code = scan_hot(r->view->parts[i].hot, &r->view->parts[i].seen, pack_arrival((MORE_THAN_ANY + (int64_t)i), 0),
                        r->q, r->sink, &r->full, err);
    return code;
}

static enum xt_code series_read(struct series_read *r, struct xt_err *err) {
    enum xt_code code = dirs_read(r, err);
    for (size_t i = 0; i < r->q->nlabels && code == XT_OK && r->ndirs > 0; i++)
        code = filter_label_out(r, &r->q->labels[i], err);
    r->reader = code == XT_OK ? pack_reader_new(r->q, r->sink) : NULL;
    if (code == XT_OK && !r->reader)
        code = no_room(err);
    bool again = code == XT_OK;
    while (again) {
        code = pass(r, err);
        again = code == XT_OK && !r->full && series_sink_again(r->sink);
    }
    pack_reader_free(r->reader);
    return code;
}

enum xt_code postgres_series(struct store *s, const struct series_query *q, struct series_sink *sink,
                             struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_view v = { .parts = NULL };
    if (q->match_none)
        return XT_OK;
    struct pg_conn *c = pg_reader_get(e, q->deadline, err);
    if (!c)
        return err->code;
    struct series_read r = { .c = c, .q = q, .sink = sink, .view = &v };
    pg_args_init(&r.args);
    enum xt_code code = pg_view_take(e, c, &v, err);
    if (code == XT_OK)
        code = series_read(&r, err);
    pg_args_done(&r.args);
    free(r.dirs);
    pg_reader_put(e, c);
    pg_view_done(&v);
    return code;
}
