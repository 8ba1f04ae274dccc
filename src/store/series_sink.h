/* series_sink.h -- the sink's inside, shared by series_agg.c (groups, answer) and series_pass.c (points, passes). */
#pragma once
#include "store/series_agg.h"
#include "store/series_cell.h"

#define CUT_GROUP (UINT32_MAX / 2) /* sorts behind the limit: its points count for latest and truncated alone */

struct group {
    struct str labels; /* malloc'd JSON text */
    struct str value;  /* grouped: the label's value, malloc'd; absent: without the label */
    uint64_t hash;     /* of what tells it from the others: value or labels */
    struct buckets buckets;
    bool chosen; /* by sink_choose */
};

/* A point of a replacing set that waits for those that replace it. */
struct waiting {
    struct series_identity id;
    int64_t time, arrival;
    double value;
    uint32_t group;
};

enum pass_mode {
    PASS_COLLECT, /* the first pass: values are kept as long as there are not too many */
    PASS_COUNT,   /* there are too many: only the number of points of each cell is wanted */
    PASS_SLICE    /* a later pass over some of the buckets, whose sizes are known */
};

struct series_sink {
    const struct series_query *q;
    struct axis axis;
    struct budget mem;
    struct group **groups;
    uint32_t ngroups, cap_groups;
    size_t live;      /* not dropped */
    uint32_t *table;  /* open addressing: number of a group + 1; 0: free */
    size_t cap_table; /* power of two; at most half full of live groups */
    size_t prune_at;  /* live groups at which dropping is tried */
    struct str limit; /* malloc'd; absent: none yet */
    struct arena scratch;
    int64_t latest;
    bool truncated;
    struct series_result *results; /* max_series of them, once finished */

    /* Points (series_pass.c). */
    enum pass_mode mode;
    int64_t from, to; /* of this pass */
    bool chosen;      /* groups and buckets are those of the answer; no others are made any more */
    size_t ncells;    /* percentiles: numbers given to cells */
    /* Collecting: values and the cells they belong to. In a slice: the values of its cells, each in its place. */
    uint32_t *value_cells;
    double *values;
    size_t nvalues, cap_value_cells, cap_values;
    struct waiting *waiting;
    size_t nwaiting, cap_waiting;
    bool replacing; /* some points are of replacing sets */
    bool settled;   /* all points were seen as often as need be, and their results are in the cells */
    struct slice *slices;
    size_t nslices, next_slice, cap_slices;
};

/* Drops all groups but those of the answer (at most max_series), for good: no other is made afterwards. */
bool sink_choose(struct series_sink *s);
void passes_free(struct series_sink *s);
/* After the last point: replacing points into cells, values into results. False: s->mem.failed. */
bool passes_settle(struct series_sink *s);
