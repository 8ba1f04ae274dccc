/* series_agg.c -- which series a point belongs to, and which of them are answered.
 *
 *  1. A group is one series of the answer: a label set, or a value of the group_by label. Engines hold its number, so a
 *     number is never given to another group; a group that can't be in the answer any more is freed and its number
 *     leads nowhere (groups[i] == NULL).
 *  2. A group is made for a set that has points. Only the first max_series of them can be in the answer. Once there are
 *     far more, the text of the last one that can is the `limit`: what sorts behind it is dropped, now and later. It only
 *     moves forward.
 *  3. So memory depends on the answer, not on what was fed, except for what series_pass.c keeps, which is bounded. */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "store/series_sink.h"

#define SCRATCH_MAX (512u << 20) /* bytes of one label set as JSON */
#define TABLE_FIRST 128
#define PRUNE_SLACK 64
#define GROUPS_MAX (1u << 30) /* ever made by one query */

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
    buckets_free(&g->buckets, &s->mem);
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
    s->axis = axis_of(q);
    s->latest = TIME_NONE;
    s->from = q->from;
    s->to = q->to;
    s->prune_at = q->max_series * 2 + PRUNE_SLACK;
    arena_init(&s->scratch, SCRATCH_MAX);
    return s;
}

void series_sink_free(struct series_sink *s) {
    if (!s)
        return;
    for (uint32_t i = 0; i < s->ngroups; i++)
        if (s->groups[i])
            group_free(s, s->groups[i]);
    passes_free(s);
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
static uint32_t *table_slot(const struct series_sink *s, uint64_t hash, struct str value, struct str labels) {
    size_t mask = s->cap_table - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        uint32_t at = s->table[i];
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
    uint32_t *table = budget_resize(&s->mem, NULL, 0, cap, sizeof *table);
    if (!table)
        return false;
    memset(table, 0, cap * sizeof *table);
    budget_release(&s->mem, s->table, s->cap_table, sizeof *table);
    s->table = table;
    s->cap_table = cap;
    for (uint32_t i = 0; i < s->ngroups; i++) {
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

/* Groups in order of their text, an array of s->live elements (to be released). NULL: no memory. */
static struct group **groups_sorted(struct series_sink *s) {
    struct group **list = budget_resize(&s->mem, NULL, 0, s->live, sizeof *list);
    if (!list)
        return NULL;
    size_t n = 0;
    for (uint32_t i = 0; i < s->ngroups; i++)
        if (s->groups[i])
            list[n++] = s->groups[i];
    qsort(list, n, sizeof *list, by_labels);
    return list;
}

static void group_drop(struct series_sink *s, uint32_t i) {
    group_free(s, s->groups[i]);
    s->groups[i] = NULL;
    s->live--;
}

/* Drops groups that can't be in the answer, when there are enough others (invariant 2). */
static bool groups_prune(struct series_sink *s) {
    size_t n = s->live, most = s->q->max_series;
    struct group **list = groups_sorted(s);
    struct str limit;
    bool ok = list != NULL;
    if (ok && n > most && most > 0) {
        ok = sink_copy(s, list[most - 1]->labels, &limit);
        if (ok) {
            sink_drop(s, s->limit);
            s->limit = limit;
            s->truncated = true;
        }
    }
    budget_release(&s->mem, list, n, sizeof *list);
    for (uint32_t i = 0; ok && str_has(s->limit) && i < s->ngroups; i++)
        if (s->groups[i] && str_cmp(s->groups[i]->labels, s->limit) > 0)
            group_drop(s, i);
    s->prune_at = s->live * 2 + PRUNE_SLACK;
    return ok && table_rebuild(s);
}

/* Those without points are none: somebody asked for them and fed nothing that counts. */
static void groups_drop_empty(struct series_sink *s) {
    for (uint32_t i = 0; i < s->ngroups; i++)
        if (s->groups[i] && buckets_count(&s->groups[i]->buckets, &s->axis) == 0)
            group_drop(s, i);
}

bool sink_choose(struct series_sink *s) {
    if (s->chosen)
        return true;
    groups_drop_empty(s);
    s->chosen = true;
    if (s->live == 0)
        return table_rebuild(s);
    size_t n = s->live, most = s->q->max_series;
    struct group **list = groups_sorted(s);
    for (size_t i = 0; list && i < n; i++) {
        list[i]->chosen = i < most;
        if (i < most)
            buckets_trim(&list[i]->buckets, &s->axis, s->q->max_points);
        s->truncated = s->truncated || i >= most || list[i]->buckets.cut;
    }
    bool ok = list != NULL;
    budget_release(&s->mem, list, n, sizeof *list);
    for (uint32_t i = 0; ok && i < s->ngroups; i++)
        if (s->groups[i] && !s->groups[i]->chosen)
            group_drop(s, i);
    return ok && table_rebuild(s);
}

static uint32_t group_add(struct series_sink *s, struct str labels, struct str value, uint64_t hash) {
    if (s->ngroups == GROUPS_MAX) {
        s->mem.failed = XT_ETOOBIG;
        return SERIES_NO_GROUP;
    }
    if (s->ngroups == s->cap_groups) {
        uint32_t cap = s->cap_groups ? s->cap_groups * 2 : 64;
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
static uint32_t group_new(struct series_sink *s, struct str text, struct str value, uint64_t hash) {
    if (!str_has(text)) {
        s->mem.failed = s->mem.failed == XT_OK ? XT_ENOMEM : s->mem.failed;
        return SERIES_NO_GROUP;
    }
    if (s->live >= s->prune_at && !groups_prune(s))
        return SERIES_NO_GROUP;
    if (s->chosen || (str_has(s->limit) && str_cmp(text, s->limit) > 0))
        return CUT_GROUP;
    return group_add(s, text, value, hash);
}

static bool table_ready(struct series_sink *s) {
    return s->mem.failed == XT_OK && ((s->cap_table > 0 && s->live * 2 < s->cap_table) || table_rebuild(s));
}

uint32_t series_sink_value(struct series_sink *s, struct str value) {
    if (!table_ready(s))
        return SERIES_NO_GROUP;
    uint64_t hash = map_hash(str_has(value) ? value : STR_LIT(""));
    uint32_t at = *table_slot(s, hash, value, STR_NONE);
    return at != 0 ? at - 1 : group_new(s, group_text(s, NULL, 0, value), value, hash);
}

/* Does the text of every set whose first label this is sort behind the limit? Most sets of many are told by that. */
static bool behind_limit(struct series_sink *s, const struct label *first) {
    struct str text = group_text(s, first, 1, STR_NONE), limit = s->limit;
    if (!str_has(text) || text.n > limit.n)
        return false;
    text.n -= 1; /* the brace behind it */
    limit.n = text.n;
    return str_cmp(text, limit) > 0;
}

uint32_t series_sink_set(struct series_sink *s, const struct label *labels, size_t nlabels) {
    if (s->mem.failed != XT_OK || !series_sink_wants(s, labels, nlabels))
        return SERIES_NO_GROUP;
    if (s->q->grouped)
        return series_sink_value(s, group_value(s->q, labels, nlabels));
    if (!table_ready(s))
        return SERIES_NO_GROUP;
    if (str_has(s->limit) && nlabels > 1 && behind_limit(s, &labels[0]))
        return CUT_GROUP;
    struct str text = group_text(s, labels, nlabels, STR_NONE);
    if (!str_has(text))
        return group_new(s, text, STR_NONE, 0);
    if (str_has(s->limit) && str_cmp(text, s->limit) > 0)
        return CUT_GROUP;
    uint64_t hash = map_hash(text);
    uint32_t at = *table_slot(s, hash, STR_NONE, text);
    return at != 0 ? at - 1 : group_new(s, text, STR_NONE, hash);
}

/* ---- results ---- */

static bool result_fill(struct series_sink *s, struct group *g, struct series_result *ret) {
    size_t n = buckets_count(&g->buckets, &s->axis), at = 0;
    struct series_value *values = budget_resize(&s->mem, NULL, 0, n, sizeof *values);
    if (!values)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct cell *c = buckets_next(&g->buckets, &s->axis, &at, &values[i].timestamp);
        values[i].value = cell_value(c, s->q->agg);
    }
    *ret = (struct series_result){ g->labels, values, n };
    return true;
}

static bool results_build(struct series_sink *s, size_t *ret_n) {
    if (!sink_choose(s))
        return false;
    groups_drop_empty(s); /* a slice may have found nothing */
    size_t n = s->live;
    if (n == 0)
        return true;
    struct group **list = groups_sorted(s);
    s->results = list ? budget_zeroed(&s->mem, s->q->max_series, sizeof *s->results) : NULL;
    bool ok = s->results != NULL;
    for (size_t i = 0; ok && i < n; i++)
        ok = result_fill(s, list[i], &s->results[i]);
    budget_release(&s->mem, list, n, sizeof *list);
    *ret_n = n;
    return ok;
}

enum xt_code series_sink_finish(struct series_sink *s, const struct series_result **ret, size_t *ret_n,
                                int64_t *ret_latest, bool *ret_truncated, struct xt_err *err) {
    size_t n = 0;
    bool ok = s->mem.failed == XT_OK && (s->settled || passes_settle(s));
    if (ok && !s->settled && s->mode != PASS_COLLECT) {
        s->mem.failed = XT_ETOOBIG; /* nobody asked series_sink_again */
        ok = false;
    }
    if (!ok || !results_build(s, &n)) {
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
