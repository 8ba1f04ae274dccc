/* pack_cols.h -- the label sets of one part as columns; private to pack_build.c. */
#pragma once
#include <zstd.h>

#include "base/buf.h"
#include "store/sample/pack.h"

struct cols {
    struct buf lab, raw; /* what cols_build made */
    struct buf plain, values;
    ZSTD_CCtx *zstd;
    uint64_t *hashes; /* of the filter, over all parts since the last seal; malloc'd */
    size_t nhashes, cap_hashes;
    int64_t metric;
    /* Scratch of one part, malloc'd; by label of all sets, in order. */
    struct entry *entries;
    uint32_t *column_of;
    size_t cap_labels;
    struct column *columns;
    size_t ncolumns, cap_columns;
    uint32_t *slots; /* of keys, then of values: open addressing */
    size_t cap_slots;
    int64_t *ints;
    size_t cap_ints;
};
void cols_init(struct cols *c);
void cols_done(struct cols *c);
/* Fills lab and raw from the sets of a part (at most SAMPLE_PACK_POINTS, with npoints of this part). False: no memory. */
bool cols_build(struct cols *c, const struct pack_source *src, const struct pack_set *sets, size_t nsets,
                size_t npoints) __attribute__((warn_unused_result));
