/* series_pass.c -- points into cells, in one pass or in several.
 *
 *  1. Percentiles need all values of a cell at once, replacing points all points of a set and time. Both are kept as they
 *     come: values with the number of their cell, sorted by counting in the end.
 *  2. When that gets too much, they are forgotten and only counted on (PASS_COUNT). What can be in the answer is then known,
 *     and so is how many points each bucket has at most: the time is cut into slices of few enough points, and everything
 *     is fed once more for each. A slice holds at least one bucket; if that alone is too much for the budget, the query is.
 *  3. In a slice each cell has its place for as many values as were counted. More cannot come from the same snapshot; if
 *     they do, they are left out. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "store/limits.h"
#include "store/series_sink.h"

#define FIRST_ROOM 1024
#define NO_PLACE SIZE_MAX

/* A bucket of the chosen groups, then (merged) several. */
struct slice {
    int64_t start, end; /* of its first bucket; last instant of its last one */
    uint64_t n;         /* points counted */
};

static inline bool is_percentile(enum series_agg agg) { return agg >= AGG_P50; }

void passes_free(struct series_sink *s) {
    free(s->value_cells);
    free(s->values);
    free(s->waiting);
    free(s->slices);
}

/* ---- values of percentiles ---- */

static void values_drop(struct series_sink *s) {
    budget_release(&s->mem, s->value_cells, s->cap_value_cells, sizeof *s->value_cells);
    budget_release(&s->mem, s->values, s->cap_values, sizeof *s->values);
    s->value_cells = NULL;
    s->values = NULL;
    s->nvalues = s->cap_values = s->cap_value_cells = 0;
}

static void waiting_drop(struct series_sink *s) {
    budget_release(&s->mem, s->waiting, s->cap_waiting, sizeof *s->waiting);
    s->waiting = NULL;
    s->nwaiting = s->cap_waiting = 0;
}

/* Gives the cells that are left numbers from 0, `ret` (of s->ncells elements) says which for each old one: SIZE_MAX for
 * those that are gone. */
static void cells_renumber(struct series_sink *s, size_t *ret) {
    size_t n = 0;
    for (size_t i = 0; i < s->ncells; i++)
        ret[i] = NO_PLACE;
    for (uint32_t g = 0; g < s->ngroups; g++) {
        size_t at = 0;
        int64_t start;
        struct cell *c;
        while (s->groups[g] && (c = buckets_next(&s->groups[g]->buckets, &s->axis, &at, &start))) {
            ret[c->all.at] = n;
            c->all.at = n++;
        }
    }
    s->ncells = n;
}

/* Forgets values of cells that were dropped. */
static bool values_compact(struct series_sink *s) {
    size_t before = s->ncells, kept = 0;
    size_t *numbers = budget_resize(&s->mem, NULL, 0, before ? before : 1, sizeof *numbers);
    if (!numbers)
        return false;
    cells_renumber(s, numbers);
    for (size_t i = 0; i < s->nvalues; i++) {
        size_t cell = numbers[s->value_cells[i]];
        s->value_cells[kept] = (uint32_t)cell;
        s->values[kept] = s->values[i];
        kept += cell != NO_PLACE;
    }
    s->nvalues = kept;
    budget_release(&s->mem, numbers, before ? before : 1, sizeof *numbers);
    return true;
}

static bool counting_start(struct series_sink *s);

/* Room for one more value. False: no memory, or (s->mode is PASS_COUNT now) too many. */
static __attribute__((noinline)) bool values_grow(struct series_sink *s) {
    if (s->nvalues >= SERIES_PASS_VALUES && (!values_compact(s) || s->nvalues > SERIES_PASS_VALUES / 2)) {
        if (s->mem.failed == XT_OK)
            counting_start(s);
        return false;
    }
    if (s->nvalues < s->cap_values)
        return true;
    size_t cap = s->cap_values ? s->cap_values * 2 : FIRST_ROOM;
    uint32_t *cells = budget_resize(&s->mem, s->value_cells, s->cap_value_cells, cap, sizeof *cells);
    if (!cells)
        return false;
    s->value_cells = cells;
    s->cap_value_cells = cap;
    double *values = budget_resize(&s->mem, s->values, s->cap_values, cap, sizeof *values);
    if (!values)
        return false;
    s->values = values;
    s->cap_values = cap;
    return true;
}

/* Keeps the value of a point that the cell has counted already. */
static inline bool value_add(struct series_sink *s, struct cell *c, double value) {
    if (s->mode == PASS_SLICE) {
        s->values[c->all.at + c->n - 1] = value;
        return true;
    }
    if (s->mode == PASS_COUNT)
        return true;
    if (c->n == 1)
        c->all.at = s->ncells++;
    if ((s->nvalues == s->cap_values || s->nvalues >= SERIES_PASS_VALUES) && !values_grow(s))
        return s->mem.failed == XT_OK;
    s->value_cells[s->nvalues] = (uint32_t)c->all.at;
    s->values[s->nvalues++] = value;
    return true;
}

/* ---- one point ---- */

/* In a slice: the cell of a chosen bucket that has room for one more. */
static inline struct cell *cell_chosen(const struct series_sink *s, const struct group *g, int64_t t) {
    struct cell *c = buckets_find(&g->buckets, &s->axis, s->q, t);
    return c && c->n < c->room ? c : NULL;
}

static inline __attribute__((always_inline)) bool point_add(struct series_sink *s, struct group *g, int64_t t,
                                                            int64_t arrival, double value, enum series_agg agg) {
    struct cell *c =
        s->mode == PASS_SLICE ? cell_chosen(s, g, t) : buckets_cell(&g->buckets, &s->mem, &s->axis, s->q, t);
    if (!c)
        return s->mem.failed == XT_OK;
    cell_add(c, agg, t, arrival, value);
    return !is_percentile(agg) || value_add(s, c, value);
}

/* ---- replacing points ---- */

/* They are too many: only their number counts now. */
static bool waiting_count(struct series_sink *s) {
    for (size_t i = 0; i < s->nwaiting; i++) {
        const struct waiting *w = &s->waiting[i];
        struct group *g = s->groups[w->group];
        struct cell *c = g ? buckets_cell(&g->buckets, &s->mem, &s->axis, s->q, w->time) : NULL;
        if (s->mem.failed != XT_OK)
            return false;
        if (c)
            c->n++;
    }
    waiting_drop(s);
    return true;
}

static bool counting_start(struct series_sink *s) {
    s->mode = PASS_COUNT;
    values_drop(s);
    return waiting_count(s);
}

static int by_set_and_time(const void *a, const void *b) {
    const struct waiting *x = a, *y = b;
    for (int i = 0; i < 2; i++)
        if (x->id.hash[i] != y->id.hash[i])
            return x->id.hash[i] < y->id.hash[i] ? -1 : 1;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return (x->arrival > y->arrival) - (x->arrival < y->arrival);
}

static bool same_point(const struct waiting *a, const struct waiting *b) {
    return a->id.hash[0] == b->id.hash[0] && a->id.hash[1] == b->id.hash[1] && a->time == b->time;
}

/* The last of each set and time goes into its cell. */
static bool waiting_settle(struct series_sink *s) {
    if (s->nwaiting > 1)
        qsort(s->waiting, s->nwaiting, sizeof *s->waiting, by_set_and_time);
    for (size_t i = 0; i < s->nwaiting; i++) {
        const struct waiting *w = &s->waiting[i];
        struct group *g = s->groups[w->group];
        if (!g || (i + 1 < s->nwaiting && same_point(w, w + 1)))
            continue;
        if (!point_add(s, g, w->time, w->arrival, w->value, s->q->agg))
            return false;
        if (s->mode == PASS_COUNT)
            return true; /* too many values: the waiting ones were counted and are gone */
    }
    waiting_drop(s);
    return true;
}

static bool waiting_grow(struct series_sink *s) {
    size_t cap = s->cap_waiting ? s->cap_waiting * 2 : FIRST_ROOM;
    struct waiting *more = budget_resize(&s->mem, s->waiting, s->cap_waiting, cap, sizeof *more);
    if (!more)
        return false;
    s->waiting = more;
    s->cap_waiting = cap;
    return true;
}

/* ---- feeding ---- */

void series_sink_range(const struct series_sink *s, int64_t *ret_from, int64_t *ret_to) {
    *ret_from = s->from;
    *ret_to = s->to;
}

bool series_sink_wants_arrivals(const struct series_sink *s) { return s->q->agg == AGG_LAST; }

static inline __attribute__((always_inline)) bool feed(struct series_sink *s, const struct series_points *p,
                                                       enum series_agg agg) {
    const int64_t from = s->from, to = s->to;
    int64_t latest = s->latest;
    bool ok = true, cut = false;
    for (size_t i = 0; i < p->n && ok; i++) {
        int64_t t = p->times[i];
        uint32_t group = p->groups[i];
        if (t < from || t > to || group == SERIES_NO_GROUP)
            continue;
        latest = t > latest ? t : latest; /* TIME_NONE is the least */
        struct group *g = group < s->ngroups ? s->groups[group] : NULL;
        if (g)
            ok = point_add(s, g, t, agg == AGG_LAST ? p->arrivals[i] : 0, p->values[i], agg);
        else
            cut = true;
    }
    s->latest = latest;
    s->truncated = s->truncated || cut;
    return ok;
}

bool series_sink_feed(struct series_sink *s, const struct series_points *p) {
    if (s->mem.failed != XT_OK)
        return false;
    switch (s->q->agg) {
    case AGG_AVG: return feed(s, p, AGG_AVG);
    case AGG_MAX: return feed(s, p, AGG_MAX);
    case AGG_MIN: return feed(s, p, AGG_MIN);
    case AGG_SUM: return feed(s, p, AGG_SUM);
    case AGG_LAST: return feed(s, p, AGG_LAST);
    case AGG_P50:
    case AGG_P90:
    case AGG_P99: break;
    }
    return feed(s, p, AGG_P50);
}

struct series_identity series_identity(const struct label *labels, size_t nlabels) {
    struct series_identity id = { { nlabels, ~(uint64_t)nlabels } };
    for (size_t i = 0; i < nlabels; i++) {
        const struct str text[2] = { labels[i].name, labels[i].value };
        for (size_t k = 0; k < 2; k++) {
            const uint64_t key[2] = { id.hash[0], id.hash[1] };
            uint64_t plain = map_siphash(key, 1, 3, text[k]);
            const uint64_t keyed[2] = { plain, map_hash(text[k]) };
            id.hash[0] = map_siphash(keyed, 1, 3, STR_LIT("0"));
            id.hash[1] = map_siphash(keyed, 1, 3, STR_LIT("1"));
        }
    }
    return id;
}

/* A point that is only counted, as one of those whose number is not known yet. */
static bool replacing_count(struct series_sink *s, struct group *g, int64_t t) {
    struct cell *c = buckets_cell(&g->buckets, &s->mem, &s->axis, s->q, t);
    if (c)
        c->n++;
    return s->mem.failed == XT_OK;
}

bool series_sink_feed_replacing(struct series_sink *s, struct series_identity id, const struct series_points *p) {
    s->replacing = true;
    for (size_t i = 0; i < p->n && s->mem.failed == XT_OK; i++) {
        int64_t t = p->times[i];
        uint32_t group = p->groups[i];
        if (t < s->from || t > s->to || group == SERIES_NO_GROUP)
            continue;
        s->latest = t > s->latest ? t : s->latest;
        struct group *g = group < s->ngroups ? s->groups[group] : NULL;
        if (!g) {
            s->truncated = true;
            continue;
        }
        if (s->mode == PASS_COLLECT && s->nwaiting >= SERIES_PASS_REPLACING && !counting_start(s))
            break;
        if (s->mode == PASS_COUNT) {
            if (!replacing_count(s, g, t))
                break;
            continue;
        }
        if (s->nwaiting == s->cap_waiting && !waiting_grow(s))
            break;
        s->waiting[s->nwaiting++] = (struct waiting){ id, t, p->arrivals[i], p->values[i], group };
    }
    return s->mem.failed == XT_OK;
}

/* ---- results of percentiles ---- */

/* Sorts the collected values by their cells, which are those of the answer. */
static bool values_place(struct series_sink *s) {
    size_t numbers = s->ncells ? s->ncells : 1, total = 0;
    size_t *place = budget_resize(&s->mem, NULL, 0, numbers, sizeof *place);
    if (!place)
        return false;
    for (size_t i = 0; i < numbers; i++)
        place[i] = NO_PLACE;
    for (uint32_t g = 0; g < s->ngroups; g++) {
        size_t at = 0;
        int64_t start;
        struct cell *c;
        while (s->groups[g] && (c = buckets_next(&s->groups[g]->buckets, &s->axis, &at, &start))) {
            place[c->all.at] = total;
            c->all.at = total;
            total += c->n;
        }
    }
    double *sorted = total ? budget_resize(&s->mem, NULL, 0, total, sizeof *sorted) : NULL;
    for (size_t i = 0; sorted && i < s->nvalues; i++) {
        size_t *to = &place[s->value_cells[i]];
        if (*to != NO_PLACE)
            sorted[(*to)++] = s->values[i];
    }
    budget_release(&s->mem, place, numbers, sizeof *place);
    values_drop(s);
    s->values = sorted;
    s->cap_values = sorted ? total : 0;
    return sorted || total == 0;
}

/* Results of the cells whose buckets start in [from, to]. */
static void values_settle(struct series_sink *s, int64_t from, int64_t to) {
    for (uint32_t g = 0; g < s->ngroups; g++) {
        size_t at = 0;
        int64_t start;
        struct cell *c;
        while (s->groups[g] && (c = buckets_next(&s->groups[g]->buckets, &s->axis, &at, &start)))
            if (start >= from && start <= to)
                c->all.value = values_percentile(s->values + c->all.at, c->n, s->q->agg);
    }
    values_drop(s);
}

/* ---- passes ---- */

static int by_start(const void *a, const void *b) {
    const struct slice *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* All buckets of the chosen groups, in order of time. */
static bool buckets_list(struct series_sink *s) {
    size_t total = 0, n = 0;
    for (uint32_t g = 0; g < s->ngroups; g++)
        total += s->groups[g] ? buckets_count(&s->groups[g]->buckets, &s->axis) : 0;
    if (total == 0)
        return true;
    s->slices = budget_resize(&s->mem, NULL, 0, total, sizeof *s->slices);
    if (!s->slices)
        return false;
    s->cap_slices = total;
    for (uint32_t g = 0; g < s->ngroups; g++) {
        size_t at = 0;
        int64_t start;
        const struct cell *c;
        while (s->groups[g] && (c = buckets_next(&s->groups[g]->buckets, &s->axis, &at, &start)))
            s->slices[n++] = (struct slice){ start, start, c->n };
    }
    qsort(s->slices, n, sizeof *s->slices, by_start);
    s->nslices = n;
    return true;
}

/* Joins neighbours as long as they are small enough together. */
static void slices_join(struct series_sink *s) {
    const uint64_t most = s->replacing ? SERIES_PASS_REPLACING : SERIES_PASS_VALUES;
    size_t n = 0;
    for (size_t i = 0; i < s->nslices; i++) {
        struct slice *to = n ? &s->slices[n - 1] : NULL;
        const struct slice *from = &s->slices[i];
        if (to && (from->start == to->end || to->n + from->n <= most)) {
            to->n += from->n;
            to->end = from->start;
        } else {
            s->slices[n++] = *from;
        }
    }
    s->nslices = n;
}

/* Makes room in the cells of the next slice, and sets the range. */
static bool slice_start(struct series_sink *s) {
    const struct slice *now = &s->slices[s->next_slice++];
    size_t total = 0;
    for (uint32_t g = 0; g < s->ngroups; g++) {
        size_t at = 0;
        int64_t start;
        struct cell *c;
        while (s->groups[g] && (c = buckets_next(&s->groups[g]->buckets, &s->axis, &at, &start))) {
            if (start < now->start || start > now->end)
                continue;
            *c = (struct cell){ .room = c->n };
            if (is_percentile(s->q->agg))
                c->all.at = total;
            total += c->room;
        }
    }
    s->from = now->start > s->q->from ? now->start : s->q->from;
    int64_t last = time_add(now->end, s->q->step), to = last == TIME_MAX ? last : time_floor(last, s->q->step) - 1;
    s->to = to < s->q->to ? to : s->q->to;
    if (!is_percentile(s->q->agg))
        return true;
    s->values = budget_resize(&s->mem, NULL, 0, total, sizeof *s->values);
    s->cap_values = s->values ? total : 0;
    return s->values != NULL;
}

bool passes_settle(struct series_sink *s) {
    if (!waiting_settle(s))
        return false;
    if (s->mode == PASS_COUNT) /* values and waiting points are too many only together */
        return true;
    if (!is_percentile(s->q->agg))
        return true;
    if (s->mode == PASS_COLLECT) {
        if (!sink_choose(s) || !values_place(s))
            return false;
        values_settle(s, TIME_MIN, TIME_MAX);
        return true;
    }
    const struct slice *now = &s->slices[s->next_slice - 1];
    values_settle(s, now->start, now->end);
    return true;
}

bool series_sink_again(struct series_sink *s) {
    if (s->mem.failed != XT_OK || (s->mode == PASS_SLICE && s->settled) || !passes_settle(s))
        return false;
    if (s->mode == PASS_COLLECT) {
        s->settled = true;
        return false;
    }
    if (s->mode == PASS_COUNT) {
        if (!sink_choose(s) || !buckets_list(s))
            return false;
        slices_join(s);
        s->mode = PASS_SLICE;
    }
    s->settled = s->next_slice == s->nslices;
    return !s->settled && slice_start(s);
}
