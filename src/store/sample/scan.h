/* scan.h -- the points of one metric in a hot part into a sink; the same for every engine. Any thread. */
#pragma once
#include "store/sample/hot.h"
#include "store/series_agg.h"

/* Feeds what matches of the first n.points points. `arrival` is that of point 0 (store/sample/pack.h). *ret_full: the sink
 * wants no more. XT_ETIMEOUT: the query's deadline passed; XT_ENOMEM. */
enum xt_code scan_hot(const struct hot *h, const struct hot_count *n, int64_t arrival, const struct series_query *q,
                      struct series_sink *sink, bool *ret_full, struct xt_err *err);
/* Calls `visit` for each name of a project; false from it stops. False: stopped. */
bool scan_names(const struct hot *h, const struct hot_count *n, int64_t project,
                bool (*visit)(void *arg, struct str name), void *arg);
