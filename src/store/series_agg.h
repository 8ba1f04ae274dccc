/* series_agg.h -- points of one metric -> buckets of series, the same for every engine (contract 3.6 with D3, D4).
 *
 * The engine tells each label set once (series_sink_set gives the group it falls into, or none when the filter refuses
 * it), then feeds that set's points in any order of time, oldest arrival first among equal times. Percentiles keep the
 * values; the other aggregates keep cells only. Memory is bounded by `max_bytes`: beyond it XT_ETOOBIG with a
 * message that says to narrow the range. Not thread-safe. */
#pragma once
#include "base/err.h"
#include "store/query.h"

/* NULL: no memory. The query and its texts must outlive the sink. */
struct series_sink *series_sink_new(const struct series_query *q, size_t max_bytes);
void series_sink_free(struct series_sink *s); /* NULL is fine */
#define SERIES_NO_GROUP SIZE_MAX
/* Does the filter let this label set through? Cheap: an engine may ask before it looks for points. */
bool series_sink_wants(const struct series_sink *s, const struct label *labels, size_t nlabels);
/* Group of a label set: sorted labels. SERIES_NO_GROUP: filtered out (or failed: see series_sink_finish). */
size_t series_sink_set(struct series_sink *s, const struct label *labels, size_t nlabels);
/* False: stop feeding (no memory). Points outside [from, to] are ignored. Of equal times the greatest `arrival` is the
 * last one, over all sets of a group. */
bool series_sink_arrival(struct series_sink *s, size_t group, int64_t timestamp, int64_t arrival, double value);
/* The same for points whose order of arrival is the order of the calls. Use one of the two for all points of a sink. */
bool series_sink_point(struct series_sink *s, size_t group, int64_t timestamp, double value);

struct series_value {
    int64_t timestamp; /* start of the bucket */
    double value;
};
struct series_result {
    struct str labels;                 /* compact JSON, keys sorted; {"key":null} for the group without the label */
    const struct series_value *values; /* ascending */
    size_t nvalues;
};
/* Sorts, cuts to max_points (newest kept) and max_series (first in order of the labels' text). The results live until
 * series_sink_free. *ret_latest: newest point's own time of all that matched, TIME_NONE when nothing did. */
enum xt_code series_sink_finish(struct series_sink *s, const struct series_result **ret, size_t *ret_n,
                                int64_t *ret_latest, bool *ret_truncated, struct xt_err *err);
