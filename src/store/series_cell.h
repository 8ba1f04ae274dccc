/* series_cell.h -- buckets of one series while they are filled; private to series_*.c. Not thread-safe. */
#pragma once
#include "base/err.h"
#include "store/query.h"

/* Memory that one query may take. The first failure sticks. */
struct budget {
    size_t max, used;    /* bytes */
    enum xt_code failed; /* XT_ETOOBIG: past max; XT_ENOMEM */
};
/* As realloc of old_n elements to n (> 0), counted. NULL when it failed; the old block is then untouched. */
void *budget_resize(struct budget *b, void *p, size_t old_n, size_t n, size_t size);
/* n (> 0) zeroed elements; pages that are never written cost nothing. */
void *budget_zeroed(struct budget *b, size_t n, size_t size);
/* Frees a block of n elements; NULL is fine (whatever n is). */
void budget_release(struct budget *b, void *p, size_t n, size_t size);

/* One bucket. `n` counts points, `room` how many of them there may be (later passes); the rest by aggregate. */
struct cell {
    uint32_t n, room;
    union {
        struct {                /* avg, sum */
            double sum, scaled; /* scaled: sum of value * OVERFLOW_SCALE */
        } add;
        struct { /* last; min and max use the value alone */
            int64_t timestamp, arrival;
            double value;
        } one;
        struct {          /* percentiles: the values lie elsewhere (series_pass.c) */
            size_t at;    /* number of the cell, then where its values start */
            double value; /* the result, once all values were seen */
        } all;
    };
};

/* Buckets of a range that is short enough for an array of all of them. span 0: it is not. */
struct axis {
    int64_t base; /* start of the first bucket */
    uint64_t step;
    double inverse; /* of step */
    size_t span;
};
struct axis axis_of(const struct series_query *q);

struct buckets {
    int64_t *starts;     /* sparse: ascending; NULL with an axis */
    struct cell *cells;  /* beside them; with an axis all of it, empty ones with n == 0 */
    size_t n, cap, last; /* last: where the previous point went (sparse) */
    bool cut;            /* buckets older than the newest max_points were dropped */
};

/* Number of the bucket of t, which lies in the axis. */
static inline size_t axis_at(const struct axis *x, int64_t t) {
    uint64_t distance = (uint64_t)t - (uint64_t)x->base;
    size_t at = (size_t)((double)distance * x->inverse); /* off by one at most */
    if (distance < at * x->step)
        return at - 1;
    return distance - at * x->step >= x->step ? at + 1 : at;
}

/* The cell for a time in the query's range, made if need be. NULL: no memory, or (b->failed is XT_OK) it is older than
 * what can be in the answer. It is valid until the next call for the same buckets. */
struct cell *buckets_make(struct buckets *k, struct budget *b, const struct axis *x, const struct series_query *q,
                          int64_t t);
static inline struct cell *buckets_cell(struct buckets *k, struct budget *b, const struct axis *x,
                                        const struct series_query *q, int64_t t) {
    return x->span && k->cells ? &k->cells[axis_at(x, t)] : buckets_make(k, b, x, q, t);
}
/* The cell of a time if there is one. */
struct cell *buckets_find(const struct buckets *k, const struct axis *x, const struct series_query *q, int64_t t);
/* Walks through the buckets that have points, oldest first: *at starts at 0. NULL: no more. */
struct cell *buckets_next(const struct buckets *k, const struct axis *x, size_t *at, int64_t *ret_start);
/* Leaves the newest max_points of those that have points. */
void buckets_trim(struct buckets *k, const struct axis *x, size_t max_points);
/* How many have points. */
size_t buckets_count(const struct buckets *k, const struct axis *x);
void buckets_free(struct buckets *k, struct budget *b);

#define OVERFLOW_SCALE 0x1p-64 /* sums of this share of the values stay finite for 2^64 values */

/* Adds a point; `agg` is a constant where it matters. Percentiles count only. */
static inline __attribute__((always_inline)) void cell_add(struct cell *c, enum series_agg agg, int64_t timestamp,
                                                           int64_t arrival, double value) {
    bool first = c->n++ == 0;
    switch (agg) {
    case AGG_AVG:
    case AGG_SUM:
        /* A lone -0.0 stays what it is as a sum; an average starts from 0.0. */
        c->add.sum = first && agg == AGG_SUM ? value : c->add.sum + value;
        c->add.scaled += value * OVERFLOW_SCALE;
        break;
    case AGG_MAX:
        if (first || value > c->one.value)
            c->one.value = value;
        break;
    case AGG_MIN:
        if (first || value < c->one.value)
            c->one.value = value;
        break;
    case AGG_LAST:
        if (first || timestamp > c->one.timestamp || (timestamp == c->one.timestamp && arrival >= c->one.arrival)) {
            c->one.timestamp = timestamp;
            c->one.arrival = arrival;
            c->one.value = value;
        }
        break;
    case AGG_P50:
    case AGG_P90:
    case AGG_P99: break;
    }
}
/* Result of a bucket. Always finite. */
double cell_value(const struct cell *c, enum series_agg agg);
/* Percentile of n (> 0) values, which are reordered. */
double values_percentile(double *values, size_t n, enum series_agg agg);
