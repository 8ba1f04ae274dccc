/* pack.h -- parts of sealed generations: the points of one metric as three blobs, the same for every engine.
 *
 * A part holds up to SAMPLE_PACK_POINTS points in order of (label set, time); a set that is longer goes on in the next
 * part. It needs nothing else to be read:
 *   lab  the label sets by columns: names, dictionaries, a code a set; points per set
 *   pts  times, values, and the order of arrival where it does not follow from the order of the points
 *   raw  values of labels that (nearly) every set has its own of: read only when such a label is asked for
 * A file may be damaged: whatever does not add up is XT_ESTORE, never a crash, and takes bounded memory. A value comes back
 * bit for bit, a time to the nanosecond.
 *
 * Order of arrival: a point's `arrival` (store/series_agg.h) is pack_arrival of its generation and, in the hot part, its
 * number there. That of a sealed one is comparable among points of the same metric and time: so the later of two points of
 * the same time has the greater arrival, wherever the two are, as long as generations are numbered in order and carried
 * points stand first in the part that they are carried to, in their order. (Exact for up to 65,536 rows of points of one
 * metric and time that come out of order in one generation.) */
#pragma once
#include "base/err.h"
#include "store/limits.h"
#include "store/sample/filter.h"
#include "store/series_agg.h"

#define PACK_GEN_SHIFT 43 /* a generation numbers fewer than 2^27 points, and is one of fewer than 2^20 */
static inline int64_t pack_arrival(int64_t gen, uint32_t number) {
    return (int64_t)((uint64_t)gen << PACK_GEN_SHIFT | number);
}

/* ---- building (one thread) ---- */

#define PACK_ID 0x80000000u /* in pack_label.value: the rest numbers a value of 16 bytes, else a text */
struct pack_label {
    uint32_t key, value; /* numbers of the source's texts */
};
/* A label set of the metric: sorted by the keys' text. */
struct pack_set {
    const struct pack_label *labels;
    uint32_t nlabels, npoints;
    bool replaces; /* of equal times only the point that arrived last counts */
};
/* Where texts and points lie. The calls cannot fail. Texts live as long as the call of pack_build. */
struct pack_source {
    const void *arg;
    struct str (*text)(const void *arg, uint32_t number);
    const uint8_t *(*id)(const void *arg, uint32_t number); /* 16 bytes: 32 lower-case hex digits as text */
    /* Times and values of n points, by their numbers in order of arrival. */
    void (*points)(const void *arg, const uint32_t *numbers, size_t n, int64_t *ret_times, double *ret_values);
};
struct pack_part {
    struct str lab, pts, raw; /* valid inside the writer's call; raw may be empty */
    uint32_t points;
    int64_t t0, t1; /* of the first and the last point in time */
};
/* Stores one part. Anything but XT_OK ends the build, which returns it. */
typedef enum xt_code pack_writer(void *arg, const struct pack_part *part, struct xt_err *err);

/* Scratch memory of seals; it may be kept for the next one. */
struct pack_builder;
struct pack_builder *pack_builder_new(void); /* NULL: no memory */
void pack_builder_free(struct pack_builder *b);
/* Packs all points of one metric. `order` lists the numbers of the points: all of the first set, sorted by time, equal
 * times by number; then all of the second ... Sets stand in the order in which they first came (of their lowest point's
 * number; needed for size and speed alone). `metric` is its number in the store, for the filter. Points of a replacing
 * set that are replaced within the set are left out. */
enum xt_code pack_build(struct pack_builder *b, const struct pack_source *src, int64_t metric,
                        const struct pack_set *sets, size_t nsets, const uint32_t *order, pack_writer *write, void *arg,
                        struct xt_err *err) __attribute__((warn_unused_result));
/* The filter over everything built since the last call (or pack_reset); free it with filter_done. */
enum xt_code pack_filter(struct pack_builder *b, struct filter *ret, struct xt_err *err)
    __attribute__((warn_unused_result));
/* Forgets what the filter would hold: a seal was given up. */
void pack_reset(struct pack_builder *b);

/* ---- reading (one thread each) ---- */

/* Reads parts of one metric for one query into its sink; memory is reused from part to part. */
struct pack_reader;
struct pack_reader *pack_reader_new(const struct series_query *q, struct series_sink *sink); /* NULL: no memory */
void pack_reader_free(struct pack_reader *r);                                                /* NULL is fine */
/* From now on points before `cut` are gone: a generation whose old points retention took away. At first none are. */
void pack_reader_cut(struct pack_reader *r, int64_t cut);
enum pack_want {
    PACK_NOTHING, /* no set of this part is wanted: on to the next part */
    PACK_POINTS,  /* pack_read needs pts */
    PACK_RAW      /* pack_read needs pts and raw */
};
/* Starts with a part: the filter and the groups by dictionary. `lab` may go after the call. */
enum xt_code pack_open(struct pack_reader *r, struct str lab, enum pack_want *ret, struct xt_err *err)
    __attribute__((warn_unused_result));
/* Feeds the sink with the part that was opened: number `part` (from 0) of its metric in generation `gen`. *ret_full: the
 * sink wants no more (series_sink_finish says why). */
enum xt_code pack_read(struct pack_reader *r, struct str pts, struct str raw, int64_t gen, uint32_t part,
                       bool *ret_full, struct xt_err *err) __attribute__((warn_unused_result));

/* A run of points of one set as a part holds it. Valid inside the visitor; labels sorted by name. */
struct pack_run {
    const struct label *labels;
    size_t nlabels;
    bool replaces;
    const int64_t *times;
    const double *values;
    size_t n;
};
typedef bool pack_visitor(void *arg, const struct pack_run *run);
/* Everything in a part, for checks and tests; false from the visitor stops it. */
enum xt_code pack_each(struct str lab, struct str pts, struct str raw, pack_visitor *visit, void *arg,
                       struct xt_err *err) __attribute__((warn_unused_result));
