/* derive.h -- what stands beside the rows, found anew from them: the self-test compares it (verify.c), a repair writes it
 * (repair.c). Memory is bounded by one trace, for rollups by the keys of one day. */
#pragma once
#include "store/sqlite/group.h"

/* Adds an observation to the trace's derived values: aggregates in t->now, sums by model in t->models (`now` of each),
 * which `models` finds by name. Both begin empty (derive_begin). False: no memory in `a`. */
void derive_begin(struct trace_state *t, struct map *models, struct arena *a);
bool derive_add(struct arena *a, struct trace_state *t, struct map *models, const struct observation *o);
/* Is the row's timestamp what its source says? */
bool derive_timestamp_holds(const struct trace_rec *row, const struct trace_rec *real);

/* One day of one project: what the rollups should hold for it. */
struct rollup_day {
    int64_t project, start;
    struct rollup_fold fold;
};
typedef enum xt_code day_derived(void *arg, struct rollup_day *d, struct xt_err *err);
/* Every day that has traces, by project and time; from the rows of `trace` and `trace_model`. The first failure of a visit
 * ends it. *ret_days: how many. */
enum xt_code derive_days(struct sqlite_store *e, struct conn *c, day_derived *visit, void *arg, int64_t *ret_days,
                         struct xt_err *err);
