/* series_cell.h -- buckets of one series while they are filled; private to series_agg.c. Not thread-safe. */
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
/* Frees a block of n elements; NULL is fine (whatever n is). */
void budget_release(struct budget *b, void *p, size_t n, size_t size);

struct cell;
struct buckets {
    int64_t *starts;     /* ascending */
    struct cell *cells;  /* beside them */
    size_t n, cap, last; /* last: where the previous point went */
    bool cut;            /* buckets older than the newest max_points were dropped */
};

/* Adds a point that lies in the query's range. False: no memory. */
bool buckets_add(struct buckets *k, struct budget *b, const struct series_query *q, int64_t timestamp, int64_t arrival,
                 double value);
/* Result of bucket i; may reorder the values it kept. Always finite. */
double buckets_value(struct buckets *k, size_t i, enum series_agg agg);
void buckets_free(struct buckets *k, struct budget *b, enum series_agg agg);
