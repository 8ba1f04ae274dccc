/* day.h -- the usage of one day by model, as the daily view shows it: added up from rollups or from traces, largest cost
 * first. Knows no engine. Used by one thread. */
#pragma once
#include "base/map.h"
#include "store/fold/rollup_fold.h"
#include "store/query.h"

struct day_model;
struct day_models {
    struct arena *arena;
    struct map by_name; /* as shown */
    struct day_model *first;
    size_t n;
};
/* Everything lives in the arena. */
void day_models_init(struct day_models *m, struct arena *a);
/* Adds (sign 1) or takes away (sign -1); `model` in its stored form (rollup_text). False: no memory. */
bool day_models_add(struct day_models *m, struct str model, int64_t traces, const struct model_sums *sums, int sign);
/* Sets usage and nusage: models of which nothing is left are not shown. False: no memory. */
bool day_models_show(const struct day_models *m, struct day_row *ret);
