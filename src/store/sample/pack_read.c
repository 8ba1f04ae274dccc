/* pack_read.c -- a part -> the points that a query wants, with their groups.
 *
 *  1. Filters and groups are worked out on dictionaries: once a value, then a look at a code for each set.
 *  2. A group is asked for when a point of it lies in the range, not before: sets without one are no series.
 *  3. Order: pack_open leaves the sets that near columns let through; pack_read does what needs raw, decodes the points,
 *     then feeds the sink in one call (replacing sets: one each). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/sample/column.h"
#include "store/sample/pack.h"
#include "store/sample/pack_parse.h"

#define ARENA_MAX ((size_t)2 << 30)
#define UNKNOWN (UINT32_MAX - 2) /* a group that was not asked for yet; no group of a sink */

/* One label of a set: column and place in it. */
struct cell {
    uint32_t column, entry;
};

/* Decoded points; lists of `cap` elements, rounded up to blocks. */
struct points {
    int64_t *times;
    double *values;
    int64_t *column; /* scratch */
    int64_t *ranks;  /* only if any is not 0: `late` */
    bool late;
    size_t cap;
};

struct pack_reader {
    const struct series_query *q;
    int64_t cut;
    struct series_sink *sink;
    ZSTD_DCtx *zstd;
    struct arena arena; /* of the present part */
    struct part part;
    uint8_t *wanted; /* a byte a set */
    bool all_wanted;
    struct points points;
    /* What goes to the sink: as long as the points. */
    uint32_t *groups;
    int64_t *out_times, *out_arrivals;
    double *out_values;
    size_t cap_out;
    /* Labels of the sets, when a group or an identity needs all of them. */
    uint32_t *cell_first; /* of each set, and of the one behind the last */
    struct cell *cells;
    struct label *labels; /* of one set */
    char (*rooms)[IDENT_CHARS];
};

static enum xt_code no_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }
static enum xt_code damaged(struct xt_err *err) { return xt_fail(err, XT_ESTORE, "stored samples are damaged"); }

/* ---- life ---- */

struct pack_reader *pack_reader_new(const struct series_query *q, struct series_sink *sink) {
    struct pack_reader *r = alloc_should_fail() ? NULL : calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->q = q;
    r->sink = sink;
    r->cut = TIME_MIN;
    arena_init(&r->arena, ARENA_MAX);
    return r;
}

void pack_reader_cut(struct pack_reader *r, int64_t cut) { r->cut = cut; }

static void points_done(struct points *p) {
    free(p->times);
    free(p->values);
    free(p->column);
    free(p->ranks);
}

void pack_reader_free(struct pack_reader *r) {
    if (!r)
        return;
    ZSTD_freeDCtx(r->zstd);
    arena_done(&r->arena);
    points_done(&r->points);
    free(r->groups);
    free(r->out_times);
    free(r->out_arrivals);
    free(r->out_values);
    free(r);
}

static bool wider(void *list, size_t cap, size_t size) {
    void **p = list, *more = alloc_should_fail() ? NULL : realloc(*p, cap * size);
    if (more)
        *p = more;
    return more != NULL;
}

static bool points_room(struct points *p, size_t n) {
    size_t cap = (n + COLUMN_BLOCK - 1) / COLUMN_BLOCK * COLUMN_BLOCK;
    if (cap <= p->cap)
        return true;
    if (!wider(&p->times, cap, sizeof *p->times) || !wider(&p->values, cap, sizeof *p->values) ||
        !wider(&p->column, cap, sizeof *p->column) || !wider(&p->ranks, cap, sizeof *p->ranks))
        return false;
    p->cap = cap;
    return true;
}

static bool out_room(struct pack_reader *r, size_t n) {
    if (n <= r->cap_out)
        return true;
    if (!wider(&r->groups, n, sizeof *r->groups) || !wider(&r->out_times, n, sizeof *r->out_times) ||
        !wider(&r->out_arrivals, n, sizeof *r->out_arrivals) || !wider(&r->out_values, n, sizeof *r->out_values))
        return false;
    r->cap_out = n;
    return true;
}

/* ---- filter ---- */

/* Marks the values that are this text (there may be more than one), a byte each. NULL: no memory. */
static const uint8_t *values_match(struct pack_reader *r, const struct values *v, struct str text, bool *ret_any) {
    uint8_t id[ID_BYTES], *match = arena_new(&r->arena, uint8_t, v->n);
    unsigned form = ident_parse(text, id);
    char room[IDENT_CHARS];
    for (uint32_t i = 0; match && i < v->n; i++) {
        if (value_form(v, i) != form)
            continue;
        match[i] = form == FORM_TEXT ? str_eq(value_text(v, i, room), text) : memcmp(value_id(v, i), id, ID_BYTES) == 0;
        *ret_any = *ret_any || match[i];
    }
    return match;
}

static void want_none(struct pack_reader *r) {
    memset(r->wanted, 0, r->part.nsets);
    r->all_wanted = false;
}

/* Leaves the sets whose label has this value. The column's values are parsed. False: no memory. */
static bool filter_apply(struct pack_reader *r, const struct column *c, struct str text) {
    uint32_t set = 0;
    bool any = false;
    const uint8_t *match = values_match(r, &c->values, text, &any);
    if (!any) {
        want_none(r);
        return match != NULL;
    }
    if (c->n == r->part.nsets && c->nvalues == 1)
        return true;
    r->all_wanted = false;
    for (uint32_t i = 0; i < c->n; i++, set++) {
        for (uint32_t own = column_set(c, i); set < own; set++)
            r->wanted[set] = 0; /* without the label */
        r->wanted[set] &= match[column_code(c, i)];
    }
    for (; set < r->part.nsets; set++)
        r->wanted[set] = 0;
    return true;
}

static bool any_wanted(const struct pack_reader *r) { return r->all_wanted || memchr(r->wanted, 1, r->part.nsets); }

/* Is raw needed to tell groups and identities? */
static bool needs_raw(const struct pack_reader *r) {
    const struct part *p = &r->part;
    if (r->q->grouped && !p->replaces) {
        size_t at = part_find(p, r->q->group_by);
        return at < p->ncolumns && !p->columns[at].parsed;
    }
    for (size_t i = 0; i < p->ncolumns; i++)
        if (!p->columns[i].parsed)
            return true;
    return false;
}

/* The filter over near columns, or over the far ones, whose values are parsed. *ret_left: far ones are left. */
static bool filter_pass(struct pack_reader *r, bool far, bool *ret_left) {
    for (size_t i = 0; i < r->q->nlabels; i++) {
        size_t at = part_find(&r->part, r->q->labels[i].name);
        if (at == r->part.ncolumns) {
            want_none(r);
            *ret_left = false;
            return true;
        }
        const struct column *c = &r->part.columns[at];
        if (!c->parsed)
            *ret_left = true;
        else if (far == ((c->kind & COL_FAR) != 0) && !filter_apply(r, c, r->q->labels[i].value))
            return false;
    }
    return true;
}

enum xt_code pack_open(struct pack_reader *r, struct str lab, enum pack_want *ret, struct xt_err *err) {
    arena_reset(&r->arena);
    r->arena.failed = false;
    r->cells = NULL;
    struct str copy = arena_str(&r->arena, lab);
    enum xt_code code = str_has(copy) ? part_parse(&r->arena, &r->zstd, copy, &r->part, err)
                                      : (r->arena.failed ? no_memory(err) : damaged(err));
    if (code != XT_OK)
        return code;
    r->wanted = arena_new(&r->arena, uint8_t, r->part.nsets);
    if (!r->wanted)
        return no_memory(err);
    memset(r->wanted, 1, r->part.nsets);
    r->all_wanted = true;
    bool left = false;
    if (!filter_pass(r, false, &left))
        return no_memory(err);
    *ret = !any_wanted(r) ? PACK_NOTHING : left || needs_raw(r) ? PACK_RAW : PACK_POINTS;
    return XT_OK;
}

/* ---- points ---- */

/* What put_by_sets of pack_build.c wrote. */
static bool by_sets(struct column_in *in, const struct part *p, int64_t *scratch, bool chained, int64_t *ret) {
    size_t nsets = p->nsets, n = p->npoints, place = 0, others = nsets;
    if (!p->counts) { /* one point each */
        bool ok = column_ints(in, ret, n);
        for (size_t i = 1; ok && chained && i < n; i++)
            ret[i] = (int64_t)((uint64_t)ret[i] + (uint64_t)ret[i - 1]);
        return ok;
    }
    if (!column_ints(in, scratch, nsets) || !column_ints(in, scratch + nsets, n - nsets))
        return false;
    uint64_t at = 0;
    for (size_t s = 0; s < nsets; s++) {
        at = chained ? at + (uint64_t)scratch[s] : (uint64_t)scratch[s];
        uint64_t v = at;
        ret[place++] = (int64_t)v;
        for (unsigned k = p->counts[s]; k > 1; k--) {
            v += (uint64_t)scratch[others++];
            ret[place++] = (int64_t)v;
        }
    }
    return place == n;
}

static const int64_t units[] = { 1000000000, 1000000, 1000, 1 };

static bool times_decode(struct column_in *in, const struct part *p, struct points *ret, unsigned unit) {
    if (!by_sets(in, p, ret->column, true, ret->times))
        return false;
    for (size_t i = 0; i < p->npoints && unit < 3; i++)
        ret->times[i] = (int64_t)((uint64_t)ret->times[i] * (uint64_t)units[unit]);
    return true;
}

static bool values_decode(struct column_in *in, const struct part *p, struct points *ret, unsigned scale) {
    if (scale < COLUMN_SCALES) {
        if (!by_sets(in, p, ret->column, false, ret->ranks))
            return false;
        column_unscale(ret->ranks, p->npoints, scale, ret->values);
        return true;
    }
    const uint8_t *bytes = column_bytes(in, (uint64_t)p->npoints * 8);
    for (size_t i = 0; bytes && i < p->npoints; i++) {
        uint64_t bits = 0;
        for (unsigned k = 0; k < 8; k++)
            bits |= (uint64_t)bytes[8 * i + k] << 8 * k;
        memcpy(&ret->values[i], &bits, sizeof bits);
    }
    return bytes != NULL;
}

static bool ranks_decode(struct column_in *in, const struct part *p, struct points *ret) {
    size_t late = (size_t)column_number(in, p->npoints), place = 0;
    ret->late = late > 0;
    if (in->bad || late == 0)
        return !in->bad;
    int64_t *places = ret->column;
    memset(ret->ranks, 0, p->npoints * sizeof *ret->ranks);
    if (!column_ints(in, places, late))
        return false;
    for (size_t i = 0; i < late; i += COLUMN_BLOCK) {
        int64_t ranks[COLUMN_BLOCK];
        size_t n = late - i < COLUMN_BLOCK ? late - i : COLUMN_BLOCK;
        if (!column_ints(in, ranks, n))
            return false;
        for (size_t k = 0; k < n; k++) {
            uint64_t step = (uint64_t)places[i + k];
            if (step >= p->npoints - place || ranks[k] < 1 || ranks[k] > PACK_RANK_MAX)
                return false;
            place += (size_t)step;
            ret->ranks[place] = ranks[k];
        }
    }
    return true;
}

static enum xt_code points_decode(const struct part *p, struct str pts, struct points *ret, struct xt_err *err) {
    struct column_in in = column_in(pts);
    const uint8_t *head = column_bytes(&in, 3);
    if (p->npoints == 0)
        return damaged(err);
    if (!points_room(ret, p->npoints))
        return no_memory(err);
    assert(ret->times && ret->values && ret->column && ret->ranks);
    if (!head || head[0] != PACK_VERSION || head[1] > 3 || head[2] > COLUMN_NO_SCALE ||
        column_varint(&in) != p->npoints || !times_decode(&in, p, ret, head[1]) ||
        !values_decode(&in, p, ret, head[2]) || !ranks_decode(&in, p, ret) || in.p != in.end)
        return damaged(err);
    return XT_OK;
}

/* ---- labels of a set ---- */

/* Turns the columns round: the labels of each set, by name. All values are parsed. */
static bool cells_make(struct arena *a, const struct part *p, uint32_t **ret_first, struct cell **ret_cells) {
    uint32_t *first = arena_new(a, uint32_t, (size_t)p->nsets + 2);
    struct cell *cells = arena_new(a, struct cell, p->nlabels);
    if (!first || !cells)
        return false;
    for (size_t k = 0; k < p->ncolumns; k++)
        for (uint32_t i = 0; i < p->columns[k].n; i++)
            first[column_set(&p->columns[k], i) + 2]++;
    for (uint32_t s = 0; s < p->nsets; s++)
        first[s + 2] += first[s + 1];
    for (size_t k = 0; k < p->ncolumns; k++)
        for (uint32_t i = 0; i < p->columns[k].n; i++)
            cells[first[column_set(&p->columns[k], i) + 1]++] = (struct cell){ (uint32_t)k, i };
    *ret_first = first; /* of set s: first[s]; the shift by one was used up by the filling */
    *ret_cells = cells;
    return true;
}

/* Room for the labels of the longest set. */
static bool labels_room(struct arena *a, const struct part *p, const uint32_t *first, struct label **ret_labels,
                        char (**ret_rooms)[IDENT_CHARS]) {
    size_t most = 0;
    for (uint32_t s = 0; s < p->nsets; s++)
        most = first[s + 1] - first[s] > most ? first[s + 1] - first[s] : most;
    *ret_labels = arena_new(a, struct label, most);
    *ret_rooms = arena_alloc(a, most, IDENT_CHARS, 1);
    return *ret_labels && *ret_rooms;
}

static size_t labels_fill(const struct part *p, const uint32_t *first, const struct cell *cells, uint32_t set,
                          struct label *labels, char (*rooms)[IDENT_CHARS]) {
    size_t n = first[set + 1] - first[set];
    for (size_t i = 0; i < n; i++) {
        const struct cell *cell = &cells[first[set] + i];
        const struct column *c = &p->columns[cell->column];
        labels[i] = (struct label){ c->name, value_text(&c->values, column_code(c, cell->entry), rooms[i]) };
    }
    return n;
}

static bool reader_labels(struct pack_reader *r) {
    return r->cells || (cells_make(&r->arena, &r->part, &r->cell_first, &r->cells) &&
                        labels_room(&r->arena, &r->part, r->cell_first, &r->labels, &r->rooms));
}

/* ---- groups ---- */

/* How sets come to their groups in the present part. */
struct grouping {
    const struct column *column; /* grouped queries; NULL: no set has the label */
    uint32_t *of_value, without; /* groups, UNKNOWN at first */
    uint32_t entry;              /* of the column, for sets in ascending order */
};

static bool grouping_make(struct pack_reader *r, struct grouping *ret) {
    *ret = (struct grouping){ .without = UNKNOWN };
    if (!r->q->grouped)
        return reader_labels(r);
    size_t at = part_find(&r->part, r->q->group_by);
    if (at == r->part.ncolumns)
        return true;
    ret->column = &r->part.columns[at];
    ret->of_value = arena_new(&r->arena, uint32_t, ret->column->nvalues);
    for (uint32_t i = 0; ret->of_value && i < ret->column->nvalues; i++)
        ret->of_value[i] = UNKNOWN;
    return ret->of_value != NULL;
}

/* The group of a set that has a point in the range. */
static uint32_t group_of(struct pack_reader *r, struct grouping *g, uint32_t set) {
    if (!r->q->grouped) {
        size_t n = labels_fill(&r->part, r->cell_first, r->cells, set, r->labels, r->rooms);
        return series_sink_set(r->sink, r->labels, n);
    }
    const struct column *c = g->column;
    if (c && !c->sets)
        g->entry = set;
    while (c && g->entry < c->n && column_set(c, g->entry) < set)
        g->entry++;
    bool has = c && g->entry < c->n && column_set(c, g->entry) == set;
    uint32_t value = has ? column_code(c, g->entry) : 0;
    uint32_t *group = has ? &g->of_value[value] : &g->without;
    if (*group == UNKNOWN) {
        char room[IDENT_CHARS];
        *group = series_sink_value(r->sink, has ? value_text(&c->values, value, room) : STR_NONE);
    }
    return *group;
}

/* ---- feeding ---- */

struct feeding {
    int64_t from, to, arrival; /* arrival: of the part's first point, without a rank */
    bool arrivals;
    size_t n; /* points in the lists that go to the sink */
};

static inline int64_t arrival_of(const struct pack_reader *r, const struct feeding *f, size_t i) {
    uint64_t rank = r->points.late ? (uint64_t)r->points.ranks[i] : 0;
    return (int64_t)((uint64_t)f->arrival + (rank << PACK_RANK_SHIFT) + i);
}

/* Copies the points [from, to) of a set that lie in the range. */
static void out_add(struct pack_reader *r, struct feeding *f, size_t from, size_t to, bool arrivals) {
    size_t n = f->n;
    for (size_t i = from; i < to; i++) {
        int64_t t = r->points.times[i];
        r->out_times[n] = t;
        r->out_values[n] = r->points.values[i];
        if (arrivals)
            r->out_arrivals[n] = arrival_of(r, f, i);
        n += t >= f->from && t <= f->to;
    }
    f->n = n;
}

static struct series_points out_points(const struct pack_reader *r, size_t from, size_t n, bool arrivals) {
    return (struct series_points){ r->groups + from, r->out_times + from, r->out_values + from,
                                   arrivals ? r->out_arrivals + from : NULL, n };
}

/* One set; *ret_full as pack_read. False: the sink failed. */
static bool set_feed(struct pack_reader *r, struct grouping *g, struct feeding *f, uint32_t set, size_t from,
                     size_t to) {
    const uint8_t *replaces = r->part.replaces;
    bool replacing = replaces && replaces[set / 8] >> set % 8 & 1;
    size_t before = f->n;
    out_add(r, f, from, to, f->arrivals || replacing);
    if (f->n == before)
        return true;
    uint32_t group = group_of(r, g, set);
    for (size_t i = before; i < f->n; i++)
        r->groups[i] = group;
    if (group == SERIES_NO_GROUP)
        return false;
    if (!replacing)
        return true;
    size_t nlabels = labels_fill(&r->part, r->cell_first, r->cells, set, r->labels, r->rooms);
    struct series_points p = out_points(r, before, f->n - before, true);
    f->n = before;
    return series_sink_feed_replacing(r->sink, series_identity(r->labels, nlabels), &p);
}

/* Parts of one-point sets in grouped queries, which is what a tracing layer makes: the same as set_feed for each, but
 * all that can be decided before the loop is. */
static bool singles_feed(struct pack_reader *r, struct grouping *g, struct feeding *f) {
    const struct part *p = &r->part;
    const struct column *c = g->column;
    size_t n = 0;
    for (uint32_t s = 0; s < p->nsets; s++) {
        int64_t t = r->points.times[s];
        if (!r->wanted[s] || t < f->from || t > f->to)
            continue;
        uint32_t group = c && !c->sets ? g->of_value[column_code(c, s)] : UNKNOWN;
        if (group == UNKNOWN)
            group = group_of(r, g, s);
        if (group == SERIES_NO_GROUP)
            return false;
        r->groups[n] = group;
        r->out_times[n] = t;
        r->out_values[n] = r->points.values[s];
        if (f->arrivals)
            r->out_arrivals[n] = arrival_of(r, f, s);
        n++;
    }
    struct series_points all = out_points(r, 0, n, f->arrivals);
    return series_sink_feed(r->sink, &all);
}

static bool sets_feed(struct pack_reader *r, struct grouping *g, struct feeding *f) {
    const struct part *p = &r->part;
    size_t place = 0;
    if (r->q->grouped && !p->counts && !p->replaces)
        return singles_feed(r, g, f);
    for (uint32_t s = 0; s < p->nsets; s++) {
        size_t n = p->counts ? p->counts[s] : 1;
        if (r->wanted[s] && !set_feed(r, g, f, s, place, place + n))
            return false;
        place += n;
    }
    struct series_points all = out_points(r, 0, f->n, f->arrivals);
    return series_sink_feed(r->sink, &all);
}

static enum xt_code far_parse(struct pack_reader *r, struct str raw, struct xt_err *err) {
    bool every = !r->q->grouped || r->part.replaces, left = false;
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < r->part.ncolumns && code == XT_OK; i++) {
        struct column *c = &r->part.columns[i];
        bool needed = every || str_eq(c->name, r->q->group_by);
        for (size_t k = 0; k < r->q->nlabels && !needed; k++)
            needed = str_eq(c->name, r->q->labels[k].name);
        if (needed && !c->parsed)
            code = column_parse(&r->arena, &r->zstd, raw, c, err);
    }
    if (code == XT_OK && !filter_pass(r, true, &left))
        code = no_memory(err);
    return code;
}

enum xt_code pack_read(struct pack_reader *r, struct str pts, struct str raw, int64_t gen, uint32_t part,
                       bool *ret_full, struct xt_err *err) {
    struct grouping g;
    enum xt_code code = far_parse(r, raw, err);
    *ret_full = false;
    if (code != XT_OK || !any_wanted(r))
        return code;
    code = points_decode(&r->part, pts, &r->points, err);
    if (code != XT_OK)
        return code;
    if (!out_room(r, r->part.npoints + 1) || !grouping_make(r, &g) || (r->part.replaces && !reader_labels(r)))
        return no_memory(err);
    uint64_t place = (uint64_t)(part < 2047 ? part : 2047) << PACK_PART_SHIFT;
    struct feeding f = { .arrivals = series_sink_wants_arrivals(r->sink),
                         .arrival = pack_arrival(gen, (uint32_t)place) };
    series_sink_range(r->sink, &f.from, &f.to);
    f.from = f.from > r->cut ? f.from : r->cut;
    *ret_full = !sets_feed(r, &g, &f);
    return XT_OK;
}

/* ---- all of a part ---- */

static enum xt_code each_run(const struct part *p, struct arena *a, const struct points *points, pack_visitor *visit,
                             void *arg, struct xt_err *err) {
    uint32_t *first;
    struct cell *cells;
    struct label *labels;
    char(*rooms)[IDENT_CHARS];
    if (!cells_make(a, p, &first, &cells) || !labels_room(a, p, first, &labels, &rooms))
        return no_memory(err);
    size_t place = 0;
    for (uint32_t s = 0; s < p->nsets; s++) {
        struct pack_run run = { .labels = labels, .times = points->times + place, .values = points->values + place };
        run.nlabels = labels_fill(p, first, cells, s, labels, rooms);
        run.replaces = p->replaces && p->replaces[s / 8] >> s % 8 & 1;
        run.n = p->counts ? p->counts[s] : 1;
        place += run.n;
        if (!visit(arg, &run))
            break;
    }
    return XT_OK;
}

enum xt_code pack_each(struct str lab, struct str pts, struct str raw, pack_visitor *visit, void *arg,
                       struct xt_err *err) {
    struct arena a;
    struct part p;
    struct points points = { 0 };
    ZSTD_DCtx *zstd = NULL;
    arena_init(&a, ARENA_MAX);
    enum xt_code code = part_parse(&a, &zstd, lab, &p, err);
    for (size_t i = 0; code == XT_OK && i < p.ncolumns; i++)
        code = column_parse(&a, &zstd, raw, &p.columns[i], err);
    if (code == XT_OK)
        code = points_decode(&p, pts, &points, err);
    if (code == XT_OK)
        code = each_run(&p, &a, &points, visit, arg, err);
    points_done(&points);
    ZSTD_freeDCtx(zstd);
    arena_done(&a);
    return code;
}
