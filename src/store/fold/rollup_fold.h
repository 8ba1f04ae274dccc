/* rollup_fold.h -- what traces add to the rollups: folded in memory per key, for one transaction. The engine adds the sums
 * to its rows (or compares them).
 *
 *  1. A trace's share stands under one key: hour of its timestamp, label, environment, name. When one of them changes, the
 *     whole share moves: taken from the old key, given to the new one.
 *  2. The same sums without the name, by hour and by day, and the numbers of traces by ROLLUP_TICK, hour and day follow from
 *     these shares (rollup_derive): they cannot say anything else.
 *  3. All sums are 128-bit and exact, so that taking away leaves nothing behind; rows that reach zero traces (of models: zero
 *     observations) go.
 *  4. A row of traces counts every trace; a row of models its observations of type GENERATION, by model.
 * Used by one thread at a time. */
#pragma once
#include "base/map.h"
#include "store/fold/record.h"

#define ROLLUP_HOUR (INT64_C(3600) * NS_PER_SEC)
#define ROLLUP_TICK (INT64_C(10) * NS_PER_SEC) /* the finest of the counts */
enum rollup_level { ROLLUP_NAMED_HOUR, ROLLUP_ALL_HOUR, ROLLUP_ALL_DAY };

/* The intervals of that span (a multiple of each smaller one) that lie wholly in [from, to]: starts of the first and of the
 * last one. The first and the last interval of all time are short. False: there is none. */
bool rollup_whole(int64_t from, int64_t to, int64_t span, int64_t *ret_first, int64_t *ret_last);
/* The last instant of the interval that begins there. */
int64_t rollup_end(int64_t start, int64_t span);

/* What no model is called in answers; an observation that gives this name has none (obs_share_of). */
#define UNKNOWN_MODEL "unknown"

/* Sums of GENERATION observations of one model. */
struct model_sums {
    int64_t n;
    __int128 in, out, total; /* tokens; NULL counts as 0 */
    money cost;              /* of the known ones */
};
void model_sums_add(struct model_sums *to, const struct model_sums *more, int sign);
bool model_sums_equal(const struct model_sums *a, const struct model_sums *b);
int64_t sum_to_i64(__int128 v); /* saturates: sums as they are answered */

/* Keys of models and names in sums and rollups, their stored form: '' for none, else '=' and the text. Absent: no memory. */
struct str rollup_text(struct arena *a, struct str text);
/* Back: absent for none. */
static inline struct str rollup_text_of(struct str stored) {
    return stored.n > 0 ? str_sub(stored, 1, stored.n) : STR_NONE;
}

/* What is to be added to one row: key (project, level, start, label, env, name[, model]) and sums. Each key once. */
struct rollup_delta {
    struct rollup_delta *next;
    int64_t project, level, start;
    struct str label, env, name; /* name in its stored form; '' at the levels without names */
    struct str model;            /* in its stored form; absent: a row of traces */
    int64_t ntrace;              /* both kinds */
    int64_t nobs;                /* rows of traces only */
    money cost;                  /* rows of traces only */
    struct model_sums sums;      /* rows of models only */
};
/* What is to be added to one count of traces: key project, span (ns), start. */
struct rollup_count {
    struct rollup_count *next;
    int64_t project, span, start, n;
};
struct rollup_fold {
    struct arena *arena;
    struct map map, count_map;
    struct rollup_delta *first, *last; /* in order of first use */
    struct rollup_count *counts;
};
void rollup_init(struct rollup_fold *f, struct arena *a);
/* Adds (sign 1) or takes away (sign -1) the trace's own share. False: no memory. */
bool rollup_trace(struct rollup_fold *f, const struct trace_rec *t, int sign);
/* Likewise a share of `model` (in the stored form of rollup_text) under the trace's key. */
bool rollup_model(struct rollup_fold *f, const struct trace_rec *t, struct str model, const struct model_sums *m,
                  int sign);
/* Once, when everything was folded: the coarser levels. Then the lists hold every row that changes, and some that do not
 * (rollup_is_nothing, n 0). False: no memory. */
bool rollup_derive(struct rollup_fold *f);
bool rollup_is_nothing(const struct rollup_delta *d);
