/* scan.c -- see scan.h.
 *
 *  1. A set is looked at when its first point in the range comes: sets without one cost the sink nothing.
 *  2. Labels are compared by the numbers of their texts, which are looked up once; values of 16 bytes by their bytes. */
#include "store/sample/scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/map.h"

#define BATCH 1024
#define UNSEEN (SERIES_NO_GROUP - 1)
#define REPLACING (SERIES_NO_GROUP - 2) /* fed set by set */
#define LABELS_FEW 16

struct pair {
    uint32_t key, value; /* value HOT_NONE: 16 bytes, in hex */
    uint8_t hex[HOT_BYTES_HEX];
};
struct scan {
    const struct hot *h;
    struct hot_count n;
    const struct series_query *q;
    struct series_sink *sink;
    uint32_t name, group_key; /* group_key HOT_NONE: no set has the label */
    struct pair *want;        /* q->nlabels */
    uint32_t *groups;         /* by set */
    uint32_t *by_value;       /* groups by string */
    struct label *labels;     /* room for those of a set */
    char *texts;
    size_t cap;
    int64_t from, to, arrival;
    bool arrivals, failed; /* failed: no memory */
    struct {
        uint32_t groups[BATCH];
        int64_t times[BATCH], arrivals[BATCH];
        double values[BATCH];
        size_t n;
    } out;
};

/* ---- texts of the query ---- */

static uint32_t find_string(const struct scan *s, struct str text) {
    uint32_t hash = (uint32_t)map_hash(text);
    for (uint32_t i = 0; i < s->n.strings; i++) {
        const struct hot_string *t = hot_string(s->h, i);
        if (t->hash == hash && str_eq((struct str){ t->p, t->n }, text))
            return i;
    }
    return HOT_NONE;
}

static uint32_t find_name(const struct scan *s) {
    for (uint32_t i = 0; i < s->n.names; i++) {
        const struct hot_name *n = hot_name(s->h, i);
        if (n->project == s->q->project && n->text != HOT_NONE && str_eq(hot_text(s->h, n->text), s->q->name))
            return i;
    }
    return HOT_NONE;
}

/* False: no set can match. */
static bool find_labels(struct scan *s) {
    for (size_t i = 0; i < s->q->nlabels; i++) {
        const struct label *l = &s->q->labels[i];
        struct pair *p = &s->want[i];
        p->key = find_string(s, l->name);
        p->value = HOT_NONE;
        if (!hot_hex_text(l->value, p->hex)) {
            p->value = find_string(s, l->value);
            if (p->value == HOT_NONE)
                return false;
        }
        if (p->key == HOT_NONE)
            return false;
    }
    if (s->q->grouped)
        s->group_key = find_string(s, s->q->group_by);
    return true;
}

/* ---- sets ---- */

static const struct pack_label *find_label(const struct hot_set *set, uint32_t key) {
    for (size_t i = 0; i < set->nlabels; i++)
        if (set->labels[i].key == key)
            return &set->labels[i];
    return NULL;
}

static bool wanted(const struct scan *s, const struct hot_set *set) {
    if (set->name != s->name)
        return false;
    for (size_t i = 0; i < s->q->nlabels; i++) {
        const struct pair *p = &s->want[i];
        const struct pack_label *l = find_label(set, p->key);
        if (!l)
            return false;
        if (p->value != HOT_NONE ? l->value != p->value
                                 : !(l->value & HOT_HEX) ||
                                       memcmp(hot_hex(s->h, l->value & ~HOT_HEX)->bytes, p->hex, HOT_BYTES_HEX) != 0)
            return false;
    }
    return true;
}

/* Texts of a set's labels into s->labels. False: no memory. */
static bool spell(struct scan *s, const struct hot_set *set) {
    size_t n = set->nlabels;
    if (n > s->cap) {
        size_t cap = n < LABELS_FEW ? LABELS_FEW : n * 2;
        free(s->labels);
        free(s->texts);
        s->labels = alloc_should_fail() ? NULL : malloc(cap * sizeof *s->labels);
        s->texts = alloc_should_fail() ? NULL : malloc(cap * 2 * HOT_BYTES_HEX);
        s->cap = s->labels && s->texts ? cap : 0;
        if (s->cap == 0)
            return false;
    }
    for (size_t i = 0; i < n; i++) {
        s->labels[i].name = hot_text(s->h, set->labels[i].key);
        s->labels[i].value = hot_value(s->h, set->labels[i].value, s->texts + i * 2 * HOT_BYTES_HEX);
    }
    return true;
}

static uint32_t group_of_value(struct scan *s, const struct hot_set *set) {
    const struct pack_label *l = s->group_key == HOT_NONE ? NULL : find_label(set, s->group_key);
    char room[2 * HOT_BYTES_HEX];
    if (!l)
        return series_sink_value(s->sink, STR_NONE);
    if (l->value & HOT_HEX)
        return series_sink_value(s->sink, hot_value(s->h, l->value, room));
    if (s->by_value[l->value] == UNSEEN)
        s->by_value[l->value] = series_sink_value(s->sink, hot_text(s->h, l->value));
    return s->by_value[l->value];
}

static uint32_t group_of(struct scan *s, const struct hot_set *set) {
    if (!wanted(s, set))
        return SERIES_NO_GROUP;
    if (set->replaces)
        return REPLACING;
    if (s->q->grouped)
        return group_of_value(s, set);
    if (!spell(s, set)) {
        s->failed = true;
        return SERIES_NO_GROUP;
    }
    return series_sink_set(s->sink, s->labels, set->nlabels);
}

/* ---- points ---- */

static bool flush(struct scan *s) {
    const struct series_points p = { s->out.groups, s->out.times, s->out.values, s->arrivals ? s->out.arrivals : NULL,
                                     s->out.n };
    s->out.n = 0;
    return p.n == 0 || series_sink_feed(s->sink, &p);
}

/* A point whose set has an identity. */
static bool feed_replacing(struct scan *s, uint32_t point, const struct hot_set *set) {
    if (!spell(s, set)) {
        s->failed = true;
        return false;
    }
    uint32_t group = series_sink_set(s->sink, s->labels, set->nlabels);
    int64_t time = hot_point_time(s->h, point), arrival = s->arrival + point;
    double value = hot_point_value(s->h, point);
    const struct series_points p = { &group, &time, &value, &arrival, 1 };
    return series_sink_feed_replacing(s->sink, series_identity(s->labels, set->nlabels), &p);
}

/* False: the sink wants no more, or no memory. */
static bool feed(struct scan *s, uint32_t point) {
    uint32_t number = hot_point_set(s->h, point), *group = &s->groups[number];
    int64_t time = hot_point_time(s->h, point);
    if (time < s->from || time > s->to)
        return true;
    if (*group == UNSEEN)
        *group = group_of(s, hot_set(s->h, number));
    if (*group == SERIES_NO_GROUP)
        return !s->failed;
    if (*group == REPLACING)
        return feed_replacing(s, point, hot_set(s->h, number));
    size_t i = s->out.n++;
    s->out.groups[i] = *group;
    s->out.times[i] = time;
    s->out.values[i] = hot_point_value(s->h, point);
    s->out.arrivals[i] = s->arrival + point;
    return s->out.n < BATCH || flush(s);
}

static enum xt_code feed_all(struct scan *s, bool *ret_full, struct xt_err *err) {
    const uint32_t chunk = 1u << HOT_POINT_SHIFT;
    for (uint32_t base = 0; base < s->n.points; base += chunk) {
        uint32_t end = s->n.points - base < chunk ? s->n.points : base + chunk;
        if (s->q->deadline != TIME_NONE && clock_mono_ns() > s->q->deadline)
            return xt_fail(err, XT_ETIMEOUT, "the time limit of the query passed");
        for (uint32_t i = base; i < end; i++) {
            if (s->groups[hot_point_set(s->h, i)] == SERIES_NO_GROUP)
                continue;
            if (!feed(s, i)) {
                *ret_full = !s->failed;
                return s->failed ? xt_fail(err, XT_ENOMEM, "out of memory") : XT_OK;
            }
        }
    }
    *ret_full = !flush(s);
    return XT_OK;
}

static uint32_t *unseen(size_t n) {
    uint32_t *list = alloc_should_fail() ? NULL : malloc((n ? n : 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        list[i] = UNSEEN;
    return list;
}

enum xt_code scan_hot(const struct hot *h, const struct hot_count *n, int64_t arrival, const struct series_query *q,
                      struct series_sink *sink, bool *ret_full, struct xt_err *err) {
    *ret_full = false;
    struct scan *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (!s)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    *s = (struct scan){ .h = h, .n = *n, .q = q, .sink = sink, .group_key = HOT_NONE, .arrival = arrival };
    s->arrivals = series_sink_wants_arrivals(sink);
    series_sink_range(sink, &s->from, &s->to);
    s->name = find_name(s);
    enum xt_code code = XT_OK;
    if (s->name != HOT_NONE) {
        s->want = alloc_should_fail() ? NULL : calloc(q->nlabels + 1, sizeof *s->want);
        s->groups = unseen(n->sets);
        s->by_value = q->grouped ? unseen(n->strings) : NULL;
        if (!s->want || !s->groups || (q->grouped && !s->by_value))
            code = xt_fail(err, XT_ENOMEM, "out of memory");
        else if (find_labels(s))
            code = feed_all(s, ret_full, err);
    }
    free(s->want);
    free(s->groups);
    free(s->by_value);
    free(s->labels);
    free(s->texts);
    free(s);
    return code;
}

bool scan_names(const struct hot *h, const struct hot_count *n, int64_t project,
                bool (*visit)(void *arg, struct str name), void *arg) {
    for (uint32_t i = 0; i < n->names; i++) {
        const struct hot_name *name = hot_name(h, i);
        if (name->project == project && name->text != HOT_NONE && !visit(arg, hot_text(h, name->text)))
            return false;
    }
    return true;
}
