/* series_agg.h -- points of one metric -> buckets of series, the same for every engine.
 *
 * The engine asks for the group into which a label set falls (or none, when the filter refuses it), then feeds points
 * with their groups, in any order. Mostly one pass over the points is enough; where that would keep too many values
 * (percentiles, replacing points), the sink asks for further passes, each over a part of the time:
 *
 *     do {
 *         series_sink_range(s, &from, &to);
 *         ... feed every matching point of the same snapshot, hot part included; those outside [from, to] may be left out
 *     } while (series_sink_again(s));
 *     series_sink_finish(s, ...);
 *
 * Memory is bounded by `max_bytes`: beyond it XT_ETOOBIG with a message that says to narrow the range. Not thread-safe. */
#pragma once
#include "base/err.h"
#include "store/query.h"

/* NULL: no memory. The query and its texts must outlive the sink. */
struct series_sink *series_sink_new(const struct series_query *q, size_t max_bytes);
void series_sink_free(struct series_sink *s); /* NULL is fine */

/* ---- groups ---- */
#define SERIES_NO_GROUP UINT32_MAX
/* Does the filter let this label set through? Cheap: an engine may ask before it looks for points. */
bool series_sink_wants(const struct series_sink *s, const struct label *labels, size_t nlabels);
/* Group of a label set: sorted labels. SERIES_NO_GROUP: filtered out (or failed: see series_sink_finish). A number stays
 * valid until the next series_sink_again. */
uint32_t series_sink_set(struct series_sink *s, const struct label *labels, size_t nlabels);
/* Grouped queries: the group of sets with this value of the group_by label (absent: without it), for an engine that has
 * looked at the filter itself. SERIES_NO_GROUP: failed. */
uint32_t series_sink_value(struct series_sink *s, struct str value);

/* ---- points ---- */
/* Points outside of it are ignored in this pass. */
void series_sink_range(const struct series_sink *s, int64_t *ret_from, int64_t *ret_to);
struct series_points {
    const uint32_t *groups; /* SERIES_NO_GROUP: ignored */
    const int64_t *times;
    const double *values;
    const int64_t *arrivals; /* of equal times the greatest is the last one; NULL unless series_sink_wants_arrivals */
    size_t n;
};
/* Do arrivals matter for this query (AGG_LAST)? For points of replacing sets they always do. */
bool series_sink_wants_arrivals(const struct series_sink *s);
/* False: stop feeding (no memory). */
bool series_sink_feed(struct series_sink *s, const struct series_points *p);
/* What makes a label set the same one in every part of the store. */
struct series_identity {
    uint64_t hash[2];
};
struct series_identity series_identity(const struct label *labels, size_t nlabels);
/* Points of one replacing set, which are all of one group: of equal times only the one that arrived last counts, over all
 * calls with the same identity. arrivals must be given. */
bool series_sink_feed_replacing(struct series_sink *s, struct series_identity id, const struct series_points *p);
/* True: feed everything once more (see above). */
bool series_sink_again(struct series_sink *s);

/* ---- results ---- */
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
