/* limits.h -- how much the stores keep in memory before they write it out in order, and how they cut it: one place, so
 * that a build with -DXTRACE_SMALL_LIMITS (make small) seals, merges and collides all the time under the same tests.
 * None of these numbers is part of the file format but INDEX_HASH_BITS: a file says with how many bits it was made. */
#pragma once

#ifndef XTRACE_SMALL_LIMITS
/* Sorted runs (store/sqlite/index.h). */
#define INDEX_HASH_BITS 40       /* of an id's hash that an entry keeps */
#define INDEX_HOT_TRACES 16384   /* a seal is due at so many new traces ... */
#define INDEX_HOT_ENTRIES 200000 /* ... or entries of all kinds */
#define INDEX_HOT_MAX 4000000    /* entries: beyond, writes wait for a seal that works */
#define INDEX_FAN_IN 16          /* runs of one level that are merged into one of the next */
#define INDEX_MERGE_BLOCKS 64    /* blocks written in one slice of a merge */
/* Samples (store/sample/). */
#define SAMPLE_HOT_POINTS 1000000
#define SAMPLE_HOT_SETS 262144
#define SAMPLE_HOT_TEXT (16u << 20) /* bytes of label text */
#define SAMPLE_PACK_POINTS 8192     /* of one part of a generation */
/* What a query of samples keeps of one pass over the points (store/series_pass.c): beyond it, it takes several. */
#define SERIES_PASS_VALUES (4u << 20)    /* values, for percentiles */
#define SERIES_PASS_REPLACING (1u << 20) /* points that may be replaced */
/* Retention of traces (store/sqlite/retain.c). */
#define RETAIN_YOUNG_RUN 1000 /* young traces in a row after which no old ones are expected ... */
#define RETAIN_LOOK 20000     /* ... but looked for among so many more */
/* Checkpoints (store/sqlite/checkpoint.c): frames of 4 KB in the log. */
#define CHECKPOINT_FRAMES 10000
/* Pages of lists in another order than time (store/sqlite/order.h). */
#define ORDER_KEEP 20000 /* keys that one scan keeps */
/* Reads of PostgreSQL (store/postgres/list.c, detail.c). */
#define LIST_NEAR 1000          /* offsets up to this one are worth no look beforehand */
#define LIST_OBSERVATIONS 50000 /* of the traces of a page that are shown together */
#define DETAIL_ROWS 200         /* observations that are fetched together */
#else
#define INDEX_HASH_BITS 9
#define INDEX_HOT_TRACES 24
#define INDEX_HOT_ENTRIES 300
#define INDEX_HOT_MAX 4000
#define INDEX_FAN_IN 3
#define INDEX_MERGE_BLOCKS 1
#define SAMPLE_HOT_POINTS 500
#define SAMPLE_HOT_SETS 100
#define SAMPLE_HOT_TEXT (8u << 10)
#define SAMPLE_PACK_POINTS 64
#define SERIES_PASS_VALUES 2000
#define SERIES_PASS_REPLACING 200
#define RETAIN_YOUNG_RUN 30
#define RETAIN_LOOK 100
#define CHECKPOINT_FRAMES 60 /* more than making the schema takes */
#define ORDER_KEEP 2000
#define LIST_NEAR 5
#define LIST_OBSERVATIONS 20
#define DETAIL_ROWS 7
#endif
