/* series_agg.c -- which series a point belongs to, and which of them are answered.
 *
 *  1. A group is one series of the answer: a label set, or a value of the group_by label. Engines hold its number, so a
 *     number is never given to another group; a group that can't be in the answer any more is freed and its number
 *     leads nowhere (groups[i] == NULL).
 *  2. Only the first max_series groups that have points can be in the answer. Once there are far more, the text of the
 *     last one that can is the `limit`: what sorts behind it is dropped, now and later. It only moves forward.
 *  3. So memory depends on the answer, not on what was fed, except for the values that percentiles must keep. */
#include "store/series_agg.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "store/series_cell.h"

#define CUT_GROUP (SIZE_MAX - 1) /* sorts behind the limit: its points count for latest and truncated alone */
#define SCRATCH_MAX (512u << 20) /* bytes of one label set as JSON */
#define TABLE_FIRST 128
#define PRUNE_SLACK 64

struct group {
    struct str labels; /* malloc'd JSON text */
    struct str value;  /* grouped: the label's value, malloc'd; absent: without the label */
    uint64_t hash;     /* of what tells it from the others: value or labels */
    struct buckets buckets;
};

struct series_sink {
    const struct series_query *q;
    struct budget mem;
    struct group **groups;
    size_t ngroups, cap_groups, live; /* live: not dropped */
    size_t *table;                    /* open addressing: number of a group + 1; 0: free */
    size_t cap_table;                 /* power of two; at most half full of live groups */
    size_t prune_at;                  /* live groups at which dropping is tried */
    struct str limit;                 /* malloc'd; absent: none yet */
    struct arena scratch;
    int64_t latest, arrivals;
    bool truncated;
    struct series_result *results; /* max_series of them, once finished */
};

/* ---- memory ---- */

static bool sink_copy(struct series_sink *s, struct str text, struct str *ret) {
    char *p = budget_resize(&s->mem, NULL, 0, text.n + 1, 1);
    if (!p)
        return false;
    if (text.n)
        memcpy(p, text.p, text.n);
    p[text.n] = '\0';
    *ret = (struct str){ p, text.n };
    return true;
}

static void sink_drop(struct series_sink *s, struct str text) {
    if (str_has(text))
        budget_release(&s->mem, (char *)(uintptr_t)text.p, text.n + 1, 1);
}

static void group_free(struct series_sink *s, struct group *g) {
    buckets_free(&g->buckets, &s->mem, s->q->agg);
    sink_drop(s, g->labels);
    sink_drop(s, g->value);
    budget_release(&s->mem, g, 1, sizeof *g);
}

struct series_sink *series_sink_new(const struct series_query *q, size_t max_bytes) {
    struct series_sink *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->q = q;
    s->mem.max = max_bytes;
    s->latest = TIME_NONE;
    s->prune_at = q->max_series * 2 + PRUNE_SLACK;
    arena_init(&s->scratch, SCRATCH_MAX);
    return s;
}

void series_sink_free(struct series_sink *s) {
    if (!s)
        return;
    for (size_t i = 0; i < s->ngroups; i++)
        if (s->groups[i])
            group_free(s, s->groups[i]);
    for (size_t i = 0; s->results && i < s->q->max_series; i++)
        free((void *)(uintptr_t)s->results[i].values);
    free(s->results);
    free(s->groups);
    free(s->table);
    sink_drop(s, s->limit);
    arena_done(&s->scratch);
    free(s);
}

/* ---- label sets ---- */

bool series_sink_wants(const struct series_sink *s, const struct label *labels, size_t nlabels) {
    const struct series_query *q = s->q;
    if (q->match_none)
        return false;
    size_t at = 0; /* both are sorted by name */
    for (size_t i = 0; i < q->nlabels; i++) {
        int order = -1;
        while (at < nlabels && (order = str_cmp(labels[at].name, q->labels[i].name)) < 0)
            at++;
        if (at == nlabels || order != 0 || !str_eq(labels[at].value, q->labels[i].value))
            return false;
    }
    return true;
}

static struct str group_value(const struct series_query *q, const struct label *labels, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (str_eq(labels[i].name, q->group_by))
            return labels[i].value;
    return STR_NONE;
}

/* JSON text of a group, in the scratch arena; absent: no memory. */
static struct str group_text(struct series_sink *s, const struct label *labels, size_t n, struct str value) {
    arena_reset(&s->scratch);
    if (!s->q->grouped)
        return labels_json(&s->scratch, labels, n);
    struct label one = { s->q->group_by, str_has(value) ? value : STR_LIT("") };
    struct str text = labels_json(&s->scratch, &one, 1);
    if (!str_has(text) || str_has(value))
        return text;
    char *p = arena_bytes(&s->scratch, text.n + 2); /* {"key":""} -> {"key":null} */
    if (!p)
        return STR_NONE;
    memcpy(p, text.p, text.n - 3);
    memcpy(p + text.n - 3, "null}", 5);
    return (struct str){ p, text.n + 2 };
}

/* The slot of the table that holds this group, or the free one where it belongs. The table is there and not full. */
static size_t *table_slot(const struct series_sink *s, uint64_t hash, struct str value, struct str labels) {
    size_t mask = s->cap_table - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        size_t at = s->table[i];
        if (at == 0)
            return &s->table[i];
        const struct group *g = s->groups[at - 1];
        if (g->hash == hash && (s->q->grouped ? str_eq(g->value, value) : str_eq(g->labels, labels)))
            return &s->table[i];
    }
}

/* Makes the table anew with room for twice the live groups; dropped ones are not in it any more. */
static bool table_rebuild(struct series_sink *s) {
    size_t cap = TABLE_FIRST;
    while (cap < s->live * 4)
        cap *= 2;
    size_t *table = budget_resize(&s->mem, NULL, 0, cap, sizeof *table);
    if (!table)
        return false;
    memset(table, 0, cap * sizeof *table);
    budget_release(&s->mem, s->table, s->cap_table, sizeof *table);
    s->table = table;
    s->cap_table = cap;
    for (size_t i = 0; i < s->ngroups; i++) {
        const struct group *g = s->groups[i];
        if (g)
            *table_slot(s, g->hash, g->value, g->labels) = i + 1;
    }
    return true;
}

static int by_labels(const void *a, const void *b) {
    const struct group *const *x = a, *const *y = b;
    return str_cmp((*x)->labels, (*y)->labels);
}

/* Groups with points in order of their text, an array of s->live elements (to be released). NULL: no memory. */
static struct group **groups_sorted(struct series_sink *s, size_t *ret_n) {
    struct group **list = budget_resize(&s->mem, NULL, 0, s->live, sizeof *list);
    if (!list)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < s->ngroups; i++)
        if (s->groups[i] && s->groups[i]->buckets.n > 0)
            list[n++] = s->groups[i];
    qsort(list, n, sizeof *list, by_labels);
    *ret_n = n;
    return list;
}

static void groups_drop_behind(struct series_sink *s) {
    for (size_t i = 0; i < s->ngroups; i++) {
        if (s->groups[i] && str_cmp(s->groups[i]->labels, s->limit) > 0) {
            group_free(s, s->groups[i]);
            s->groups[i] = NULL;
            s->live--;
        }
    }
}

/* Drops groups that can't be in the answer, when enough others have points (invariant 2). */
static bool groups_prune(struct series_sink *s) {
    size_t n = 0, held = s->live;
    struct group **list = groups_sorted(s, &n);
    bool ok = list != NULL;
    if (ok && n > s->q->max_series && s->q->max_series > 0) {
        struct str limit;
        ok = sink_copy(s, list[s->q->max_series - 1]->labels, &limit);
        if (ok) {
            sink_drop(s, s->limit);
            s->limit = limit;
            s->truncated = true;
        }
    }
    budget_release(&s->mem, list, held, sizeof *list);
    if (ok && str_has(s->limit))
        groups_drop_behind(s);
    s->prune_at = s->live * 2 + PRUNE_SLACK;
    return ok && table_rebuild(s);
}

static size_t group_add(struct series_sink *s, struct str labels, struct str value, uint64_t hash) {
    if (s->ngroups == s->cap_groups) {
        size_t cap = s->cap_groups ? s->cap_groups * 2 : 64;
        struct group **more = budget_resize(&s->mem, s->groups, s->cap_groups, cap, sizeof *more);
        if (!more)
            return SERIES_NO_GROUP;
        s->groups = more;
        s->cap_groups = cap;
    }
    struct group *g = budget_resize(&s->mem, NULL, 0, 1, sizeof *g);
    if (!g)
        return SERIES_NO_GROUP;
    *g = (struct group){ .hash = hash };
    if (!sink_copy(s, labels, &g->labels) || (str_has(value) && !sink_copy(s, value, &g->value))) {
        group_free(s, g);
        return SERIES_NO_GROUP;
    }
    *table_slot(s, hash, g->value, g->labels) = s->ngroups + 1;
    s->groups[s->ngroups] = g;
    s->live++;
    return s->ngroups++;
}

/* A set whose group the table does not hold. */
static size_t group_new(struct series_sink *s, struct str text, struct str value, uint64_t hash) {
    if (!str_has(text)) {
        s->mem.failed = s->mem.failed == XT_OK ? XT_ENOMEM : s->mem.failed;
        return SERIES_NO_GROUP;
    }
    if (s->live >= s->prune_at && !groups_prune(s))
        return SERIES_NO_GROUP;
    if (str_has(s->limit) && str_cmp(text, s->limit) > 0)
        return CUT_GROUP;
    return group_add(s, text, value, hash);
}

size_t series_sink_set(struct series_sink *s, const struct label *labels, size_t nlabels) {
    if (s->mem.failed != XT_OK || !series_sink_wants(s, labels, nlabels))
        return SERIES_NO_GROUP;
    if ((s->cap_table == 0 || s->live * 2 >= s->cap_table) && !table_rebuild(s))
        return SERIES_NO_GROUP;
    struct str value = STR_NONE, text = STR_NONE;
    bool grouped = s->q->grouped;
    if (grouped)
        value = group_value(s->q, labels, nlabels);
    else if (!str_has(text = group_text(s, labels, nlabels, value)))
        return group_new(s, text, value, 0);
    struct str name = grouped ? value : text;
    uint64_t hash = map_hash(str_has(name) ? name : STR_LIT(""));
    size_t at = *table_slot(s, hash, value, text);
    if (at != 0)
        return at - 1;
    return group_new(s, grouped ? group_text(s, labels, nlabels, value) : text, value, hash);
}

/* ---- points ---- */

bool series_sink_arrival(struct series_sink *s, size_t group, int64_t timestamp, int64_t arrival, double value) {
    if (s->mem.failed != XT_OK)
        return false;
    if (group == SERIES_NO_GROUP || timestamp < s->q->from || timestamp > s->q->to)
        return true;
    if (s->latest == TIME_NONE || timestamp > s->latest)
        s->latest = timestamp;
    struct group *g = group == CUT_GROUP ? NULL : s->groups[group];
    if (!g) {
        s->truncated = true;
        return true;
    }
    return buckets_add(&g->buckets, &s->mem, s->q, timestamp, arrival, value);
}

bool series_sink_point(struct series_sink *s, size_t group, int64_t timestamp, double value) {
    return series_sink_arrival(s, group, timestamp, s->arrivals++, value);
}

/* ---- results ---- */

/* The newest max_points of one group; older buckets may still be there (see series_cell.c). */
static bool result_fill(struct series_sink *s, struct group *g, struct series_result *ret) {
    struct buckets *k = &g->buckets;
    size_t n = k->n < s->q->max_points ? k->n : s->q->max_points, skip = k->n - n;
    struct series_value *values = budget_resize(&s->mem, NULL, 0, n, sizeof *values);
    if (!values)
        return false;
    for (size_t i = 0; i < n; i++) {
        values[i].timestamp = k->starts[skip + i];
        values[i].value = buckets_value(k, skip + i, s->q->agg);
    }
    s->truncated = s->truncated || k->cut || skip > 0;
    *ret = (struct series_result){ g->labels, values, n };
    return true;
}

static bool results_build(struct series_sink *s, size_t *ret_n) {
    if (s->live == 0 || s->q->max_series == 0)
        return true;
    size_t n = 0, held = s->live;
    struct group **list = groups_sorted(s, &n);
    s->results = list ? budget_resize(&s->mem, NULL, 0, s->q->max_series, sizeof *s->results) : NULL;
    if (s->results)
        memset(s->results, 0, s->q->max_series * sizeof *s->results);
    bool ok = s->results != NULL;
    if (n > s->q->max_series) {
        n = s->q->max_series;
        s->truncated = true;
    }
    for (size_t i = 0; ok && i < n; i++)
        ok = result_fill(s, list[i], &s->results[i]);
    budget_release(&s->mem, list, held, sizeof *list);
    *ret_n = n;
    return ok;
}

enum xt_code series_sink_finish(struct series_sink *s, const struct series_result **ret, size_t *ret_n,
                                int64_t *ret_latest, bool *ret_truncated, struct xt_err *err) {
    size_t n = 0;
    if (s->mem.failed != XT_OK || !results_build(s, &n)) {
        if (s->mem.failed == XT_ETOOBIG)
            return xt_fail(err, XT_ETOOBIG, "too many points for one query: narrow the range or filter by labels");
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    *ret = s->results;
    *ret_n = n;
    *ret_latest = s->latest;
    *ret_truncated = s->truncated;
    return XT_OK;
}
