/* index.h -- sorted runs behind lookup.h: how an id, a user, a session, a tag or a name leads to traces without a random
 * insert a key. Private to index*.c and lookup.c; what the rest of the engine calls of it is in engine.h and lookup.h.
 *
 *  1. New entries are staged in the hot part while a group is written, go into the group's transaction as one row of
 *     `ixlog`, and are published after its COMMIT. A rollback forgets them.
 *  2. A full hot part is frozen; the writer sorts it and writes it as a run, in slices between groups. Readers search the
 *     frozen part until the run is committed: state.ix_sealed then says that log rows up to that number are in runs.
 *  3. Runs of one level are merged into one of the next, in slices too. A run is being built, live or dead (ixrun.state);
 *     what is not live is no part of any look-up and is deleted in slices.
 *  4. What a reader sees belongs to its snapshot: a set of runs and hot parts whose version is that of the snapshot, the
 *     hot parts cut at the snapshot's last log row. When memory has moved on, it is read from the snapshot itself.
 *  5. Sets, hot parts and runs are counted and never change once published, but for a hot part's growth beyond what
 *     anybody reads. Only the writer's thread publishes.
 *  6. A posting that no longer holds (value or time changed) is said so by an IX_UNPOST entry: postings less these is the
 *     number of rows. Entries of removed traces stay until no live trace is as old (lookup_retired).
 *  7. Everything read from the file is checked before it is used: sizes, numbers, counts. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "store/limits.h"
#include "store/sqlite/engine.h"

enum ix_kind { IX_TRACE, IX_OBS, IX_POST, IX_UNPOST }; /* IX_KINDS of them; numbers are in the file */
#define IX_FENCES 4u /* rows of ixblk: fences of kind k are those of kind IX_FENCES + k */
#define IX_FILTER 8u

#define IX_PART_MAX 4040u /* bytes of a part: a row fills one page */
#ifndef XTRACE_SMALL_LIMITS
#define IX_PART_BYTES IX_PART_MAX
#else
#define IX_PART_BYTES 210u
#endif
#define IX_PART_MIN 128u /* of a file: two filter lines */
#define IX_LINE 64u      /* bytes of a filter line */
#define IX_TSEQ_BITS 40
#define IX_TRIES_PAUSE NS_PER_SEC /* after a seal or merge that failed */

/* h: for ids the top `bits` bits of the hash, for postings all of it. ts: biased by ix_time so that it sorts; 0 for ids. */
struct ix_entry {
    uint64_t h, ts;
    int64_t tseq;
};
static inline uint64_t ix_time(int64_t ns) { return (uint64_t)ns ^ (UINT64_C(1) << 63); }
static inline int64_t ix_time_back(uint64_t ts) { return (int64_t)(ts ^ (UINT64_C(1) << 63)); }
static inline bool ix_timed(enum ix_kind kind) { return kind >= IX_POST; }
static inline size_t ix_entry_bytes(enum ix_kind kind) { return ix_timed(kind) ? 21 : 10; }
static inline int ix_cmp(const struct ix_entry *a, const struct ix_entry *b) {
    if (a->h != b->h)
        return a->h < b->h ? -1 : 1;
    if (a->ts != b->ts)
        return a->ts < b->ts ? -1 : 1;
    return (a->tseq > b->tseq) - (a->tseq < b->tseq);
}

/* ---- hot part (index_hot.c): entries by kind in order of arrival, in segments that never move ---- */

#define HOT_FIRST 1024u  /* entries of the first segment; each next one has twice as many */
#define HOT_SEGMENTS 22u /* 2^32 entries */

struct ix_hot {
    _Atomic unsigned refs;
    int64_t first_seq;        /* holds log rows after this one ... */
    _Atomic int64_t last_seq; /* ... up to this one; released after what belongs to it */
    bool sorted;              /* a checker's copy: each kind by ix_cmp; what is staged is all there is */
    uint64_t *seg[IX_KINDS][HOT_SEGMENTS];
    struct ix_counts *marks[HOT_SEGMENTS]; /* by log row: how many entries of each kind there were after it */
    /* The writer's alone: */
    struct ix_counts staged, published;
    uint32_t *map; /* trace entries by h: index + 1, 0 free; open addressing */
    size_t map_cap, map_used;
};
struct ix_hot *hot_new(int64_t first_seq);
void hot_unref(struct ix_hot *h); /* also NULL */
static inline struct ix_hot *hot_ref(struct ix_hot *h) {
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return h;
}
/* Stages an entry. False: no memory. */
bool hot_stage(struct ix_hot *h, enum ix_kind kind, const struct ix_entry *e);
void hot_forget(struct ix_hot *h);
/* Makes room for one more log row, so that hot_publish cannot fail. */
bool hot_reserve(struct ix_hot *h);
void hot_publish(struct ix_hot *h);
/* Entries of each kind up to that log row, which is not beyond last_seq. */
struct ix_counts hot_counts_at(const struct ix_hot *h, int64_t seq);
struct ix_entry hot_entry(const struct ix_hot *h, enum ix_kind kind, uint32_t i);
/* Index of the next entry with that hash at or after `from` and below `limit`; `limit`: none. */
uint32_t hot_next(const struct ix_hot *h, enum ix_kind kind, uint64_t hash, uint32_t from, uint32_t limit);
/* Likewise for published trace entries by the map, the writer's: slot numbers instead of indexes; *at starts at 0. */
bool hot_map_next(const struct ix_hot *h, uint64_t hash, size_t *at, struct ix_entry *ret);
/* Sorted copy of the first n entries of a kind; malloc'd. NULL: no memory (n > 0). */
struct ix_entry *hot_sorted(const struct ix_hot *h, enum ix_kind kind, uint32_t n);
/* Where entries with that hash and that time or a later one may begin; 0 when they are not sorted. */
uint32_t hot_first(const struct ix_hot *h, enum ix_kind kind, uint64_t hash, uint64_t ts, uint32_t limit);
/* Copy of the first n entries of each kind, sorted: for who asks as often as there are rows. NULL: no memory. */
struct ix_hot *hot_sorted_copy(const struct ix_hot *h, const struct ix_counts *n);

/* ---- log rows (index_log.c) ---- */

/* What is staged and not published, as the bytes of a log row. False: no memory. */
bool log_encode(const struct ix_hot *h, struct buf *ret);
/* Stages the entries of a row; what is no row of ours is refused whole. */
enum xt_code log_decode(struct ix_hot *h, int bits, struct str z, struct xt_err *err);
/* Publishes the log rows after h->first_seq that the connection's snapshot has. */
enum xt_code log_replay(struct conn *c, struct ix_hot *h, int bits, struct xt_err *err);

/* ---- runs (index_run.c) ---- */

struct ix_fence { /* first entry of a part */
    uint64_t h, ts;
};
struct ix_fences {
    size_t n;
    struct ix_fence v[];
};
struct ix_run {
    _Atomic unsigned refs;
    struct index *ix;
    int64_t number;
    int level;
    int64_t n[IX_KINDS];
    size_t part_bytes;
    int64_t lines;                                /* of the filter */
    int64_t tseq1;                                /* the highest trace in it */
    uint64_t ts0, ts1;                            /* of its postings */
    _Atomic(struct ix_fences *) fences[IX_KINDS]; /* read when first needed, as the filter is */
    _Atomic(uint8_t *) filter;
};
/* A part of a run, as it is in the file. One buffer serves one (run, kind) at a time. */
struct ix_part {
    int64_t number; /* negative: none */
    size_t n;
    uint8_t bytes[IX_PART_MAX];
};
struct ix_run *run_new(struct index *ix);
void run_unref(struct ix_run *r);
static inline struct ix_run *run_ref(struct ix_run *r) {
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}
static inline size_t run_per_part(const struct ix_run *r, enum ix_kind kind) {
    return r->part_bytes / ix_entry_bytes(kind);
}
static inline int64_t row_key(int64_t run, unsigned kind, int64_t part) {
    return run << 32 | (int64_t)kind << 28 | part;
}
/* The row of ixrun that the statement stands on. */
enum xt_code run_read(struct index *ix, sqlite3_stmt *st, struct ix_run **ret, struct xt_err *err);
enum xt_code part_load(struct conn *c, const struct ix_run *r, enum ix_kind kind, int64_t number, struct ix_part *p,
                       struct xt_err *err);
struct ix_entry part_entry(const struct ix_part *p, enum ix_kind kind, size_t i);
/* How many entries of the run are before (h, ts), or with `after` not behind it; reads at most one part, into `p`. */
enum xt_code run_rank(struct conn *c, struct ix_run *r, enum ix_kind kind, uint64_t h, uint64_t ts, bool after,
                      struct ix_part *p, int64_t *ret, struct xt_err *err);
/* The entry at a position below n[kind]. */
enum xt_code run_entry(struct conn *c, const struct ix_run *r, enum ix_kind kind, int64_t at, struct ix_part *p,
                       struct ix_entry *ret, struct xt_err *err);
/* False: no trace of that hash is in the run. `load`: read the filter if it is not there yet. */
enum xt_code run_may_have(struct conn *c, struct ix_run *r, uint64_t h, bool load, bool *ret, struct xt_err *err);
/* Line and bits of a hash in a filter. */
int64_t filter_line(uint64_t h, int bits, int64_t lines);
void filter_set(uint8_t *line, uint64_t h);
bool filter_has(const uint8_t *line, uint64_t h);
enum xt_code ix_damaged(struct conn *c, const char *what, struct xt_err *err);

/* ---- sets and views (index_set.c) ---- */

struct ix_set {
    _Atomic unsigned refs;
    int64_t version, sealed;
    struct ix_hot *hot[2]; /* oldest first; the last one grows */
    size_t nhot;
    struct ix_run **runs; /* by number */
    size_t nruns;
};
void set_unref(struct ix_set *s); /* also NULL */
/* A set with room for n runs, without hot parts. NULL: no memory. */
struct ix_set *set_new(size_t nruns);

/* What the connection's snapshot has; pinned until its transaction ends. Inside the writer's transaction: what is
 * published. */
enum xt_code view_pin(struct conn *c, struct ix_view **ret, struct xt_err *err);
/* What the connection's transaction sees in the file, whoever it belongs to; until index_unpin. */
enum xt_code view_pin_file(struct conn *c, struct ix_view **ret, struct xt_err *err);

/* ---- building runs (index_build.c) ---- */

enum { RUN_BUILDING, RUN_LIVE, RUN_DEAD }; /* ixrun.state */

struct ix_out {
    uint8_t part[IX_PART_MAX], fences[IX_PART_MAX];
    size_t used, fused; /* bytes */
    int64_t n, parts, chunks;
};
struct ix_build {
    struct conn *c;
    int bits;
    struct ix_run *run; /* what becomes of it */
    struct ix_out out[IX_KINDS];
    uint8_t filter[IX_PART_MAX]; /* the chunk of lines that entries fall into now */
    int64_t chunk;
    size_t rows; /* written since the caller set it to 0 */
};
/* Begins a run in the writer's transaction. `traces`: at most so many trace entries will come. */
enum xt_code build_begin(struct ix_build *b, struct index *ix, int level, int64_t traces, struct xt_err *err);
/* Entries of each kind come in order. */
enum xt_code build_put(struct ix_build *b, enum ix_kind kind, const struct ix_entry *e, struct xt_err *err);
/* Writes what is left; the run is live with the commit of this transaction. */
enum xt_code build_end(struct ix_build *b, struct xt_err *err);
void build_drop(struct ix_build *b); /* also after the run was taken (run NULL) */

/* ---- seals and merges (index_job.c) ---- */

struct ix_cursor {
    struct ix_run *run; /* the job's reference */
    enum ix_kind kind;
    int64_t at;
    struct ix_entry e;
    struct ix_part part;
};
struct ix_job {
    bool active;
    bool begun; /* the run has its number */
    int stage;  /* trace ids, observation ids, postings */
    bool opened;
    struct ix_build b;
    struct ix_entry pending; /* a posting, and how often less how often not */
    int64_t net;
    struct ix_hot *hot; /* a seal: its frozen part */
    struct ix_entry *sorted[2];
    uint32_t count[2], at[2];
    struct ix_run *in[INDEX_FAN_IN]; /* a merge */
    struct ix_cursor *cursors;
    struct ix_cursor *heap[2 * INDEX_FAN_IN];
    size_t nin, ncursors;
    int64_t floor; /* entries of older traces are dropped */
};
void job_drop(struct ix_job *j);
/* Begins a seal of the frozen part, or a merge of n <= INDEX_FAN_IN runs. */
void seal_begin(struct ix_job *j, struct ix_hot *frozen);
void merge_begin(struct ix_job *j, struct ix_run *const *runs, size_t n, int64_t floor);
/* Writes about `rows` rows in the open transaction. *ret_done: all is written, job's run is live with the commit. */
enum xt_code job_step(struct ix_job *j, struct index *ix, size_t rows, bool *ret_done, struct xt_err *err);

struct index {
    struct sqlite_store *e;
    int bits;                /* of an id's hash that entries keep, as the file says */
    bool bits_damaged;       /* it says nothing that can be: nobody may read or add entries */
    pthread_mutex_t mu;      /* set */
    struct ix_set *set;      /* NULL: never loaded, or not known to be that of the file */
    pthread_mutex_t load_mu; /* fences and filters of runs */
    _Atomic size_t filter_bytes;
    /* The writer's alone: */
    bool in_sync; /* set is what the file says */
    struct buf row;
    struct ix_job *seal, *merge;
    int64_t retry_at; /* monotonic ns; after a failure */
    uint64_t added;   /* entries since tidy last looked */
    bool garbage;     /* dead runs or sealed log rows may be there */
    bool orphans;     /* runs left half built may be there */
    bool floor_moved; /* runs may hold nothing but removed traces */
};
/* Publishes a set (takes the reference); the writer's thread. */
void index_set_put(struct index *ix, struct ix_set *s);
/* Reads what the file has, in the writer's transaction. */
enum xt_code index_load(struct index *ix, struct xt_err *err);
/* Stages an entry of the group that is being written. */
enum xt_code index_stage(struct sqlite_store *e, enum ix_kind kind, const struct ix_entry *entry, struct xt_err *err);
