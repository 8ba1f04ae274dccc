/* rollup.h -- what traces add to the rollups: folded in memory per key for one transaction, then added to the rows.
 *
 *  1. A trace's share stands under one key: hour of its timestamp, label, environment, name. When one of them changes, the
 *     whole share moves: taken from the old key, given to the new one.
 *  2. The same sums without the name, by hour and by day, and the numbers of traces by ROLLUP_TICK, hour and day follow from
 *     these shares when they are flushed: they cannot say anything else.
 *  3. All sums are 128-bit and exact, so that taking away leaves nothing behind; rows that reach zero traces go.
 *  4. rollup_trace counts every trace; rollup_model its observations of type GENERATION, by model.
 * Used by the writer's thread only. */
#pragma once
#include "base/map.h"
#include "store/sqlite/row.h"

#define ROLLUP_HOUR (INT64_C(3600) * NS_PER_SEC)
#define ROLLUP_TICK (INT64_C(10) * NS_PER_SEC) /* the finest of rollup_count */
/* Column `level` of rollup_trace and rollup_model. */
enum rollup_level { ROLLUP_NAMED_HOUR, ROLLUP_ALL_HOUR, ROLLUP_ALL_DAY };

/* The intervals of that span (a multiple of each smaller one) that lie wholly in [from, to]: starts of the first and of the
 * last one. The first and the last interval of all time are short. False: there is none. */
bool rollup_whole(int64_t from, int64_t to, int64_t span, int64_t *ret_first, int64_t *ret_last);
/* The last instant of the interval that begins there. */
int64_t rollup_end(int64_t start, int64_t span);

/* Sums of GENERATION observations of one model. */
struct model_sums {
    int64_t n;
    __int128 in, out, total; /* tokens; NULL counts as 0 */
    money cost;              /* of the known ones */
};
void model_sums_add(struct model_sums *to, const struct model_sums *more, int sign);
bool model_sums_equal(const struct model_sums *a, const struct model_sums *b);
/* Columns MODEL_SUMS beginning at `col`; parameters beginning at `i`. */
void model_sums_read(sqlite3_stmt *st, int col, struct model_sums *ret);
void model_sums_bind(sqlite3_stmt *st, int i, const struct model_sums *m);
/* Keys of trace_model and the rollups: '' for none, else '=' and the text. Absent: no memory. */
struct str rollup_text(struct arena *a, struct str text);
/* Back: absent for none. */
static inline struct str rollup_text_of(struct str stored) {
    return stored.n > 0 ? str_sub(stored, 1, stored.n) : STR_NONE;
}

struct rollup_delta;
struct rollup_count;
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
/* For the self-test: are the rows exactly what was folded? Counts are added to *v. A fold is compared or flushed once. */
struct rollup_verdict {
    int64_t trace_rows, model_rows, count_rows; /* that there should be */
    int64_t missing, wrong;
};
enum xt_code rollup_compare(struct rollup_fold *f, struct conn *c, struct rollup_verdict *v, struct xt_err *err);
/* Adds everything to the rows. */
enum xt_code rollup_flush(struct rollup_fold *f, struct conn *c, struct xt_err *err);
