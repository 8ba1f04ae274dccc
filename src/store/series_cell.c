/* series_cell.c -- points into buckets, buckets into values.
 *
 *  1. Buckets are a sorted array: sparse ranges cost what they hold. Only the newest max_points can be in the answer, so
 *     at twice as many the older half goes, and an older one is not taken in any more.
 *  2. Percentiles keep their values, everything else a cell of fixed size.
 *  3. Sums are plain additions of doubles in the order of feeding, percentiles interpolate like percentile_cont: the
 *     results are those of the original's database, to the last digit. Where it would overflow we stay finite. */
#include "store/series_cell.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define OVERFLOW_SCALE 0x1p-64 /* sums of this share of the values stay finite for 2^64 values */

/* One bucket. `n` counts points; the rest by aggregate. */
struct cell {
    uint64_t n;
    union {
        struct {                /* avg, sum */
            double sum, scaled; /* scaled: sum of value * OVERFLOW_SCALE */
        } add;
        struct { /* last; min and max use the value alone */
            int64_t timestamp, arrival;
            double value;
        } one;
        struct {          /* percentiles */
            double *list; /* NULL while n == 1: the value is in `first` */
            size_t cap;
            double first;
        } all;
    };
};

/* ---- memory ---- */

void *budget_resize(struct budget *b, void *p, size_t old_n, size_t n, size_t size) {
    void *more = NULL;
    enum xt_code code = XT_ETOOBIG;
    if (b->failed == XT_OK && n <= (b->max - b->used) / size + old_n) {
        code = XT_ENOMEM;
        more = alloc_should_fail() ? NULL : realloc(p, n * size);
    }
    if (more)
        b->used = b->used - old_n * size + n * size;
    else if (b->failed == XT_OK)
        b->failed = code;
    return more;
}

void budget_release(struct budget *b, void *p, size_t n, size_t size) {
    if (p)
        b->used -= n * size;
    free(p);
}

static void lists_free(struct buckets *k, struct budget *b, size_t from, size_t to, enum series_agg agg) {
    if (agg < AGG_P50)
        return;
    for (size_t i = from; i < to; i++)
        budget_release(b, k->cells[i].all.list, k->cells[i].all.cap, sizeof(double));
}

void buckets_free(struct buckets *k, struct budget *b, enum series_agg agg) {
    lists_free(k, b, 0, k->n, agg);
    budget_release(b, k->starts, k->cap, sizeof *k->starts);
    budget_release(b, k->cells, k->cap, sizeof *k->cells);
    *k = (struct buckets){ 0 };
}

/* ---- filling ---- */

/* Index of the first bucket that starts at or after `start`. */
static size_t bucket_find(const struct buckets *k, int64_t start) {
    size_t low = 0, high = k->n;
    if (high > 0 && k->starts[high - 1] < start)
        return high;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (k->starts[mid] < start)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool arrays_grow(struct buckets *k, struct budget *b) {
    size_t cap = k->cap ? k->cap * 2 : 2;
    int64_t *starts = budget_resize(b, k->starts, k->cap, cap, sizeof *starts);
    if (!starts)
        return false;
    k->starts = starts;
    struct cell *cells = budget_resize(b, k->cells, k->cap, cap, sizeof *cells);
    if (!cells) {
        b->used -= (cap - k->cap) * sizeof *starts; /* buckets_free counts by k->cap */
        return false;
    }
    k->cells = cells;
    k->cap = cap;
    return true;
}

/* Makes an empty bucket before index *at, which moves when older ones are dropped. */
static bool bucket_insert(struct buckets *k, struct budget *b, const struct series_query *q, int64_t start,
                          size_t *at) {
    size_t keep = q->max_points;
    if (k->n >= keep * 2) {
        size_t old = k->n - keep;
        lists_free(k, b, 0, old, q->agg);
        memmove(k->starts, k->starts + old, keep * sizeof *k->starts);
        memmove(k->cells, k->cells + old, keep * sizeof *k->cells);
        k->n = keep;
        k->cut = true;
        *at -= old;
    }
    if (k->n == k->cap && !arrays_grow(k, b))
        return false;
    size_t after = k->n - *at;
    memmove(k->starts + *at + 1, k->starts + *at, after * sizeof *k->starts);
    memmove(k->cells + *at + 1, k->cells + *at, after * sizeof *k->cells);
    k->starts[*at] = start;
    memset(&k->cells[*at], 0, sizeof k->cells[*at]);
    k->n++;
    return true;
}

/* Keeps the value of the c->n-th point, which is not yet counted. */
static bool list_add(struct cell *c, struct budget *b, double value) {
    if (c->n == 0) {
        c->all.first = value;
        return true;
    }
    if (c->n >= c->all.cap) {
        size_t cap = c->all.cap ? c->all.cap * 2 : 4;
        double *list = budget_resize(b, c->all.list, c->all.cap, cap, sizeof *list);
        if (!list)
            return false;
        list[0] = c->n == 1 ? c->all.first : list[0];
        c->all.list = list;
        c->all.cap = cap;
    }
    c->all.list[c->n] = value;
    return true;
}

static bool cell_add(struct cell *c, struct budget *b, enum series_agg agg, int64_t timestamp, int64_t arrival,
                     double value) {
    bool first = c->n == 0;
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
    case AGG_P99:
        if (!list_add(c, b, value))
            return false;
        break;
    }
    c->n++;
    return true;
}

/* Does the bucket of the previous point hold this one too? Saves most divisions. */
static bool in_last(const struct buckets *k, int64_t timestamp, int64_t step) {
    return k->last < k->n && k->starts[k->last] != TIME_MIN &&
           (uint64_t)timestamp - (uint64_t)k->starts[k->last] < (uint64_t)step;
}

bool buckets_add(struct buckets *k, struct budget *b, const struct series_query *q, int64_t timestamp, int64_t arrival,
                 double value) {
    if (!in_last(k, timestamp, q->step)) {
        int64_t start = time_floor(timestamp, q->step);
        size_t at = bucket_find(k, start);
        if (at == k->n || k->starts[at] != start) {
            if (k->n >= q->max_points && at <= k->n - q->max_points) {
                k->cut = true; /* older than the newest max_points */
                return true;
            }
            if (!bucket_insert(k, b, q, start, &at))
                return false;
        }
        k->last = at;
    }
    return cell_add(&k->cells[k->last], b, q->agg, timestamp, arrival, value);
}

/* ---- results ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void swap(double *a, double *b) {
    double t = *a;
    *a = *b;
    *b = t;
}

/* Puts what sorting would put at index k there, nothing greater before it, nothing smaller behind it. Values chosen to
 * make every pivot bad end in sorting: n log n at worst. */
static void select_nth(double *v, size_t n, size_t k) {
    size_t low = 0, high = n - 1, rounds = 16;
    for (size_t m = n; m > 1; m /= 2)
        rounds += 2;
    while (low < high) {
        if (rounds-- == 0) {
            qsort(v + low, high - low + 1, sizeof *v, by_value);
            return;
        }
        size_t mid = low + (high - low) / 2;
        if (v[mid] < v[low])
            swap(&v[mid], &v[low]);
        if (v[high] < v[low])
            swap(&v[high], &v[low]);
        if (v[high] < v[mid])
            swap(&v[high], &v[mid]);
        double pivot = v[mid];
        size_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i <= j) {
                swap(&v[i++], &v[j]);
                if (j == 0)
                    break;
                j--;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            return;
    }
}

/* lower + (upper - lower) * share, each step rounded to double as the database does: a fused multiply-add would round
 * once and print another last digit. */
static double interpolate(double lower, double upper, double share) {
    volatile double distance = upper - lower;
    if (!isfinite(distance)) /* opposite signs near the limit */
        return lower * (1 - share) + upper * share;
    volatile double part = share * distance;
    return lower + part;
}

static double percentile(struct cell *c, double p) {
    if (c->n == 1)
        return c->all.first;
    size_t n = (size_t)c->n;
    double position = p * (double)(n - 1), below = floor(position);
    size_t lower = (size_t)below;
    select_nth(c->all.list, n, lower);
    double low = c->all.list[lower];
    if (position == below || lower + 1 >= n)
        return low;
    double high = c->all.list[lower + 1];
    for (size_t i = lower + 2; i < n; i++)
        if (c->all.list[i] < high)
            high = c->all.list[i];
    return interpolate(low, high, position - below);
}

static double saturate(double v) {
    if (v > DBL_MAX)
        return DBL_MAX;
    return v < -DBL_MAX ? -DBL_MAX : v;
}

double buckets_value(struct buckets *k, size_t i, enum series_agg agg) {
    struct cell *c = &k->cells[i];
    switch (agg) {
    case AGG_AVG:
        return isfinite(c->add.sum) ? c->add.sum / (double)c->n
                                    : saturate(c->add.scaled / (double)c->n / OVERFLOW_SCALE);
    case AGG_SUM: return isfinite(c->add.sum) ? c->add.sum : saturate(c->add.scaled / OVERFLOW_SCALE);
    case AGG_P50: return percentile(c, 0.5);
    case AGG_P90: return percentile(c, 0.9);
    case AGG_P99: return percentile(c, 0.99);
    case AGG_MAX:
    case AGG_MIN:
    case AGG_LAST: break;
    }
    return c->one.value;
}
