/* days.h -- the rollups found anew from the rows, day by day: the self-test compares them (verify.c), a repair writes them
 * (repair.c). Memory is bounded by the keys of one day. */
#pragma once
#include "store/fold/derive.h"
#include "store/sqlite/group.h"

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
