/* series_cell.c -- points into buckets, buckets into values.
 *
 *  1. Buckets of a short range are an array of all of them; else a sorted array of those that have points: sparse ranges
 *     cost what they hold. There only the newest max_points can be in the answer, so at twice as many the older half goes,
 *     and an older one is not taken in any more.
 *  2. Cells are of fixed size; the values that percentiles need lie in series_pass.c.
 *  3. Sums are plain additions of doubles in the order of feeding, percentiles interpolate like percentile_cont: the
 *     results are those of the original's database, to the last digit. Where it would overflow we stay finite. */
#include "store/series_cell.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define AXIS_MAX 4096

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

void *budget_zeroed(struct budget *b, size_t n, size_t size) {
    void *p = NULL;
    enum xt_code code = XT_ETOOBIG;
    if (b->failed == XT_OK && n <= (b->max - b->used) / size) {
        code = XT_ENOMEM;
        p = alloc_should_fail() ? NULL : calloc(n, size);
    }
    if (p)
        b->used += n * size;
    else if (b->failed == XT_OK)
        b->failed = code;
    return p;
}

void budget_release(struct budget *b, void *p, size_t n, size_t size) {
    if (p)
        b->used -= n * size;
    free(p);
}

void buckets_free(struct buckets *k, struct budget *b) {
    budget_release(b, k->starts, k->cap, sizeof *k->starts);
    budget_release(b, k->cells, k->cap, sizeof *k->cells);
    *k = (struct buckets){ 0 };
}

/* ---- filling ---- */

struct axis axis_of(const struct series_query *q) {
    int64_t base = time_floor(q->from, q->step);
    struct axis x = { .base = base, .step = (uint64_t)q->step, .inverse = 1.0 / (double)q->step };
    uint64_t buckets = ((uint64_t)q->to - (uint64_t)base) / x.step + 1;
    /* At the very start of time floors are cut off, so that buckets are not equally long. */
    x.span = base > TIME_MIN && q->from <= q->to && buckets <= AXIS_MAX ? (size_t)buckets : 0;
    return x;
}

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

/* Does the bucket of the previous point hold this one too? Saves most divisions. */
static bool in_last(const struct buckets *k, int64_t timestamp, int64_t step) {
    return k->last < k->n && k->starts[k->last] != TIME_MIN &&
           (uint64_t)timestamp - (uint64_t)k->starts[k->last] < (uint64_t)step;
}

struct cell *buckets_make(struct buckets *k, struct budget *b, const struct axis *x, const struct series_query *q,
                          int64_t t) {
    if (x->span) {
        if (!k->cells) {
            k->cells = budget_zeroed(b, x->span, sizeof *k->cells);
            k->cap = k->cells ? x->span : 0;
        }
        return k->cells ? &k->cells[axis_at(x, t)] : NULL;
    }
    if (!in_last(k, t, q->step)) {
        int64_t start = time_floor(t, q->step);
        size_t at = bucket_find(k, start);
        if (at == k->n || k->starts[at] != start) {
            if (k->n >= q->max_points && at <= k->n - q->max_points) {
                k->cut = true; /* older than the newest max_points */
                return NULL;
            }
            if (!bucket_insert(k, b, q, start, &at))
                return NULL;
        }
        k->last = at;
    }
    return &k->cells[k->last];
}

/* ---- looking ---- */

struct cell *buckets_find(const struct buckets *k, const struct axis *x, const struct series_query *q, int64_t t) {
    if (x->span)
        return k->cells ? &k->cells[axis_at(x, t)] : NULL;
    int64_t start = time_floor(t, q->step);
    size_t at = bucket_find(k, start);
    return at < k->n && k->starts[at] == start ? &k->cells[at] : NULL;
}

struct cell *buckets_next(const struct buckets *k, const struct axis *x, size_t *at, int64_t *ret_start) {
    size_t n = x->span ? k->cap : k->n;
    while (*at < n && k->cells[*at].n == 0)
        ++*at;
    if (*at >= n)
        return NULL;
    *ret_start = x->span ? (int64_t)((uint64_t)x->base + *at * x->step) : k->starts[*at];
    return &k->cells[(*at)++];
}

void buckets_trim(struct buckets *k, const struct axis *x, size_t max_points) {
    size_t n = buckets_count(k, x), at = 0;
    int64_t start;
    k->cut = k->cut || n > max_points;
    if (n > max_points && !x->span) {
        memmove(k->starts, k->starts + (n - max_points), max_points * sizeof *k->starts);
        memmove(k->cells, k->cells + (n - max_points), max_points * sizeof *k->cells);
        k->n = max_points;
        k->last = 0;
    }
    for (; x->span && n > max_points; n--)
        buckets_next(k, x, &at, &start)->n = 0;
}

size_t buckets_count(const struct buckets *k, const struct axis *x) {
    size_t n = 0, at = 0;
    int64_t start;
    while (buckets_next(k, x, &at, &start))
        n++;
    return n;
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

double values_percentile(double *values, size_t n, enum series_agg agg) {
    double p = agg == AGG_P50 ? 0.5 : agg == AGG_P90 ? 0.9 : 0.99;
    double position = p * (double)(n - 1), below = floor(position);
    size_t lower = (size_t)below;
    select_nth(values, n, lower);
    double low = values[lower];
    if (position == below || lower + 1 >= n)
        return low;
    double high = values[lower + 1];
    for (size_t i = lower + 2; i < n; i++)
        if (values[i] < high)
            high = values[i];
    return interpolate(low, high, position - below);
}

static double saturate(double v) {
    if (v > DBL_MAX)
        return DBL_MAX;
    return v < -DBL_MAX ? -DBL_MAX : v;
}

double cell_value(const struct cell *c, enum series_agg agg) {
    switch (agg) {
    case AGG_AVG:
        return isfinite(c->add.sum) ? c->add.sum / (double)c->n
                                    : saturate(c->add.scaled / (double)c->n / OVERFLOW_SCALE);
    case AGG_SUM: return isfinite(c->add.sum) ? c->add.sum : saturate(c->add.scaled / OVERFLOW_SCALE);
    case AGG_P50:
    case AGG_P90:
    case AGG_P99: return c->all.value;
    case AGG_MAX:
    case AGG_MIN:
    case AGG_LAST: break;
    }
    return c->one.value;
}
