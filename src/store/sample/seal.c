/* seal.c -- see seal.h.
 *
 *  1. Names with the largest share of what is full go first, until three quarters of it are chosen; the others are
 *     carried, else one churning name would leave every ordinary series a point or two in each generation.
 *  2. A point's number is its order of arrival: those of the first part, then those of the second. Sets stand in order of
 *     their first point; points of a set by time, equal times by number. */
#include "store/sample/seal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum measure { BY_POINTS, BY_SETS, BY_TEXT, MEASURES };

struct share {
    uint64_t by[MEASURES];
    uint32_t name, sets, at; /* at: where its sets start in the list */
    bool chosen;
};

/* Scratch of one seal. Numbers of sets and names are those of the last part, `hot`. */
struct work {
    struct seal *s;
    const struct seal_engine *engine;
    struct hot *hot;
    uint32_t first;      /* points of the part before it */
    uint32_t *first_set; /* sets of the part before -> of hot */
    uint32_t *count;     /* points of a set */
    uint32_t *start;     /* where the points of a set start in `order` */
    struct share *names, **ranked;
    uint32_t *list; /* sets of the chosen names, in order of their first points */
    uint32_t *order;
    struct pack_set *sets;
    struct pack_builder *builder;
    /* Of the metric that is being packed. */
    struct seal_dir *dir;
};

static void *room(size_t n, size_t size) { return alloc_should_fail() ? NULL : calloc(n ? n : 1, size); }

static enum xt_code no_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* ---- points ---- */

static inline uint32_t set_at(const struct work *w, uint32_t point) {
    if (point >= w->first)
        return hot_point_set(w->hot, point - w->first);
    return w->first_set[hot_point_set(w->s->parts[0], point)];
}
static inline int64_t time_at(const struct work *w, uint32_t point) {
    return point >= w->first ? hot_point_time(w->hot, point - w->first) : hot_point_time(w->s->parts[0], point);
}
static inline double value_at(const struct work *w, uint32_t point) {
    return point >= w->first ? hot_point_value(w->hot, point - w->first) : hot_point_value(w->s->parts[0], point);
}
static uint32_t all_points(const struct work *w) { return w->first + w->hot->n.points; }

static struct str source_text(const void *arg, uint32_t number) {
    return hot_text(((const struct work *)arg)->hot, number);
}
static const uint8_t *source_id(const void *arg, uint32_t number) {
    return hot_hex(((const struct work *)arg)->hot, number)->bytes;
}
static void source_points(const void *arg, const uint32_t *numbers, size_t n, int64_t *ret_times, double *ret_values) {
    const struct work *w = arg;
    for (size_t i = 0; i < n; i++) {
        ret_times[i] = time_at(w, numbers[i]);
        ret_values[i] = value_at(w, numbers[i]);
    }
}

/* ---- choosing ---- */

/* Sets of the part before, found or added among those of the last one. */
static bool join_sets(struct work *w) {
    const struct hot *before = w->s->parts[0];
    if (w->first == 0)
        return true;
    w->first_set = room(before->n.sets, sizeof *w->first_set);
    if (!w->first_set)
        return false;
    for (uint32_t i = 0; i < before->n.sets; i++) {
        w->first_set[i] = hot_copy_set(w->hot, before, i);
        if (w->first_set[i] == HOT_NONE && hot_set(before, i)->name != HOT_NONE)
            return false;
    }
    return true;
}

static uint64_t text_of(const struct hot *h, const struct hot_set *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < s->nlabels; i++) {
        uint32_t v = s->labels[i].value;
        n += sizeof s->labels[i] + (v & HOT_HEX ? HOT_BYTES_HEX : hot_string(h, v)->n);
    }
    return n;
}

static bool measure(struct work *w) {
    const uint32_t nsets = w->hot->n.sets, nnames = w->hot->n.names, n = all_points(w);
    w->count = room(nsets, sizeof *w->count);
    w->names = room(nnames, sizeof *w->names);
    w->ranked = room(nnames, sizeof *w->ranked);
    if (!w->count || !w->names || !w->ranked)
        return false;
    for (uint32_t i = 0; i < n; i++)
        w->count[set_at(w, i)] += time_at(w, i) >= w->s->cutoff;
    for (uint32_t i = 0; i < nnames; i++) {
        w->names[i].name = i;
        w->ranked[i] = &w->names[i];
    }
    for (uint32_t i = 0; i < nsets; i++) {
        const struct hot_set *set = hot_set(w->hot, i);
        if (w->count[i] == 0)
            continue;
        struct share *s = &w->names[set->name];
        s->by[BY_POINTS] += w->count[i];
        s->by[BY_SETS]++;
        s->by[BY_TEXT] += text_of(w->hot, set);
        s->sets++;
    }
    return true;
}

#define BY_ORDER(field)                                                                    \
    static int by_##field(const void *a, const void *b) {                                  \
        const struct share *x = *(struct share *const *)a, *y = *(struct share *const *)b; \
        if (x->by[field] != y->by[field])                                                  \
            return x->by[field] > y->by[field] ? -1 : 1;                                   \
        return (x->name > y->name) - (x->name < y->name);                                  \
    }
BY_ORDER(BY_POINTS)
BY_ORDER(BY_SETS)
BY_ORDER(BY_TEXT)

static void choose(struct work *w) {
    static const double caps[MEASURES] = { SAMPLE_HOT_POINTS, SAMPLE_HOT_SETS, SAMPLE_HOT_TEXT };
    static int (*const orders[MEASURES])(const void *, const void *) = { by_BY_POINTS, by_BY_SETS, by_BY_TEXT };
    const uint32_t nnames = w->hot->n.names;
    uint64_t total[MEASURES] = { 0 }, chosen = 0;
    enum measure fullest = BY_POINTS;
    if (w->s->carry_all || nnames == 0)
        return;
    for (uint32_t i = 0; i < nnames; i++)
        for (int m = 0; m < MEASURES; m++)
            total[m] += w->names[i].by[m];
    for (enum measure m = BY_SETS; m < MEASURES; m++)
        if ((double)total[m] / caps[m] > (double)total[fullest] / caps[fullest])
            fullest = m;
    qsort(w->ranked, nnames, sizeof(struct share *), orders[fullest]);
    const uint64_t enough = w->s->carry_none ? UINT64_MAX : total[fullest] - total[fullest] / 4;
    for (uint32_t i = 0; i < nnames && chosen < enough; i++) {
        w->ranked[i]->chosen = true;
        chosen += w->ranked[i]->by[fullest];
    }
}

/* ---- order ---- */

struct timed {
    int64_t time;
    uint32_t point;
};
static int by_time(const void *a, const void *b) {
    const struct timed *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (x->point > y->point) - (x->point < y->point);
}

/* The points of one set by time; mostly they came so. */
static bool sort_set(const struct work *w, uint32_t *points, uint32_t n) {
    uint32_t sorted = 1;
    while (sorted < n && time_at(w, points[sorted - 1]) <= time_at(w, points[sorted]))
        sorted++;
    if (sorted >= n)
        return true;
    struct timed *list = room(n, sizeof *list);
    if (!list)
        return false;
    for (uint32_t i = 0; i < n; i++)
        list[i] = (struct timed){ time_at(w, points[i]), points[i] };
    qsort(list, n, sizeof *list, by_time);
    for (uint32_t i = 0; i < n; i++)
        points[i] = list[i].point;
    free(list);
    return true;
}

/* Lists the chosen sets by name and first point, then their points. */
static bool put_in_order(struct work *w) {
    const uint32_t nsets = w->hot->n.sets, n = all_points(w);
    uint32_t sets = 0, points = 0;
    for (uint32_t i = 0; i < w->hot->n.names; i++)
        if (w->names[i].chosen) {
            w->names[i].at = sets;
            sets += w->names[i].sets;
            points += (uint32_t)w->names[i].by[BY_POINTS];
        }
    w->list = room(sets, sizeof *w->list);
    w->start = room(nsets, sizeof *w->start);
    w->order = room(points, sizeof *w->order);
    if (!w->list || !w->start || !w->order)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t set = set_at(w, i);
        struct share *name = &w->names[hot_set(w->hot, set)->name];
        if (name->chosen && w->start[set] == 0 && time_at(w, i) >= w->s->cutoff) {
            w->list[name->at++] = set;
            w->start[set] = 1;
        }
    }
    for (uint32_t i = 0; i < w->hot->n.names; i++)
        if (w->names[i].chosen)
            w->names[i].at -= w->names[i].sets;
    points = 0;
    for (uint32_t i = 0; i < sets; i++) {
        w->start[w->list[i]] = points;
        points += w->count[w->list[i]];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t set = set_at(w, i);
        if (w->names[hot_set(w->hot, set)->name].chosen && time_at(w, i) >= w->s->cutoff)
            w->order[w->start[set]++] = i;
    }
    for (uint32_t i = 0; i < sets; i++) {
        uint32_t set = w->list[i];
        w->start[set] -= w->count[set];
        if (!sort_set(w, w->order + w->start[set], w->count[set]))
            return false;
    }
    return true;
}

/* ---- packing ---- */

static enum xt_code on_pack(void *arg, const struct pack_part *p, struct xt_err *err) {
    struct work *w = arg;
    struct seal_dir *d = w->dir;
    if (w->s->packs >= SEAL_PACKS_MAX)
        return xt_fail(err, XT_ESTORE, "too many parts of samples in one generation");
    enum xt_code code = w->engine->pack(w->engine->arg, w->s->packs, p, err);
    if (code != XT_OK)
        return code;
    w->s->packs++;
    d->parts++;
    d->points += p->points;
    d->t0 = p->t0 < d->t0 ? p->t0 : d->t0;
    d->t1 = p->t1 > d->t1 ? p->t1 : d->t1;
    return XT_OK;
}

static enum xt_code pack_name(struct work *w, const struct share *name, struct xt_err *err) {
    static const struct pack_source source = { NULL, source_text, source_id, source_points };
    const struct hot_name *n = hot_name(w->hot, name->name);
    struct seal *s = w->s;
    struct seal_dir *d = w->dir = &s->dirs[s->ndirs];
    *d = (struct seal_dir){ .project = n->project, .name = hot_text(w->hot, n->text), .first = s->packs };
    d->t0 = TIME_MAX;
    d->t1 = TIME_MIN;
    enum xt_code code = w->engine->metric(w->engine->arg, d->project, d->name, &d->metric, err);
    if (code != XT_OK)
        return code;
    for (uint32_t i = 0; i < name->sets; i++) {
        uint32_t number = w->list[name->at + i];
        const struct hot_set *set = hot_set(w->hot, number);
        w->sets[i] = (struct pack_set){ set->labels, set->nlabels, w->count[number], set->replaces };
    }
    struct pack_source src = source;
    src.arg = w;
    code = pack_build(w->builder, &src, d->metric, w->sets, name->sets, w->order + w->start[w->list[name->at]], on_pack,
                      w, err);
    if (code != XT_OK)
        return code;
    s->ndirs++;
    s->points += d->points;
    s->t0 = d->t0 < s->t0 ? d->t0 : s->t0;
    s->t1 = d->t1 > s->t1 ? d->t1 : s->t1;
    return XT_OK;
}

static enum xt_code pack_all(struct work *w, struct xt_err *err) {
    uint32_t most = 0, names = 0;
    for (uint32_t i = 0; i < w->hot->n.names; i++)
        if (w->names[i].chosen && w->names[i].sets > 0) {
            most = w->names[i].sets > most ? w->names[i].sets : most;
            names++;
        }
    w->sets = room(most, sizeof *w->sets);
    w->s->dirs = room(names, sizeof *w->s->dirs);
    w->builder = pack_builder_new();
    if (!w->sets || !w->s->dirs || !w->builder)
        return no_memory(err);
    enum xt_code code = XT_OK;
    for (uint32_t i = 0; i < w->hot->n.names && code == XT_OK; i++)
        if (w->names[i].chosen && w->names[i].sets > 0)
            code = pack_name(w, &w->names[i], err);
    return code == XT_OK && names > 0 ? pack_filter(w->builder, &w->s->filter, err) : code;
}

/* ---- what is left over ---- */

static bool carry(struct work *w) {
    const uint32_t n = all_points(w);
    uint64_t left = 0;
    assert(w->names);
    for (uint32_t i = 0; i < w->hot->n.names; i++)
        left += w->names[i].chosen ? 0 : w->names[i].by[BY_POINTS];
    if (left == 0)
        return true;
    struct hot *c = w->s->carried = hot_part_new();
    uint32_t *to = room(w->hot->n.sets, sizeof *to); /* number in the carried part + 1 */
    bool ok = c && to;
    for (uint32_t i = 0; i < n && ok; i++) {
        uint32_t set = set_at(w, i);
        if (w->names[hot_set(w->hot, set)->name].chosen || time_at(w, i) < w->s->cutoff)
            continue;
        if (to[set] == 0)
            to[set] = hot_copy_set(c, w->hot, set) + 1; /* HOT_NONE + 1 == 0 */
        ok = to[set] != 0 && hot_put_point(c, to[set] - 1, time_at(w, i), value_at(w, i));
    }
    free(to);
    if (ok)
        hot_publish_points(c);
    return ok;
}

enum xt_code seal_make(struct seal *s, const struct seal_engine *engine, struct xt_err *err) {
    struct work w = { .s = s, .engine = engine, .hot = s->parts[s->nparts - 1] };
    w.first = s->nparts == 2 ? s->parts[0]->n.points : 0;
    s->t0 = TIME_MAX;
    s->t1 = TIME_MIN;
    bool ok = w.first <= UINT32_MAX - w.hot->n.points && join_sets(&w) && measure(&w);
    if (ok) {
        choose(&w);
        ok = put_in_order(&w);
    }
    enum xt_code code = ok ? pack_all(&w, err) : no_memory(err);
    if (code == XT_OK && !carry(&w))
        code = no_memory(err);
    pack_builder_free(w.builder);
    free(w.first_set);
    free(w.count);
    free(w.start);
    free(w.names);
    free(w.ranked);
    free(w.list);
    free(w.order);
    free(w.sets);
    return code;
}

void seal_done(struct seal *s) {
    free(s->dirs);
    filter_done(&s->filter);
    hot_part_unref(s->carried);
    s->dirs = NULL;
    s->carried = NULL;
    s->ndirs = 0;
}

bool seal_dir_sound(int64_t gen, int64_t first, int64_t parts, int64_t filter_rows) {
    return gen >= 1 && first >= 0 && parts >= 1 && parts <= SEAL_PACKS_MAX && first <= SEAL_PACKS_MAX - parts &&
           filter_rows >= 0 && filter_rows <= SEAL_PACKS_MAX;
}
