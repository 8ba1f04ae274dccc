/* lookup.h -- which trace has this id, which traces have this observation, user, session, tag or name: the one narrow
 * interface to the secondary indexes of telemetry.
 *
 *  1. An entry is a hint, never the truth: it may outlive its row. lookup_trace and lookup_observation compare with the
 *     row themselves; whoever walks compares every hit with its row (value and time) before it counts.
 *  2. An entry that should be there always is: nothing stored is ever missed. What a reader finds belongs to the snapshot
 *     of its transaction, which it has begun before.
 *  3. Adding and dropping happen in the writer's transaction, with the rows they speak of, between index_begin and
 *     index_log; each entry is added once, and dropped once when it no longer holds. The traces that retention removes
 *     are not dropped one by one: lookup_retired.
 * Behind it: sorted runs, index.h. */
#pragma once
#include "store/sqlite/engine.h"

/* Numbers are part of stored hashes. */
enum look_kind { LOOK_USER = 1, LOOK_SESSION = 2, LOOK_TAG = 3, LOOK_NAME = 4, LOOK_TRACE = 5, LOOK_OBSERVATION = 6 };

/* Number of the project's trace with that id key, 0: none. */
enum xt_code lookup_trace(struct conn *c, int64_t project, struct str key, int64_t *ret_tseq, struct xt_err *err);
enum xt_code lookup_add_trace(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err);

/* Visits the number of each trace of the project that has an observation of that id key (several may), the newest
 * entries first; more than once when hashes of a trace's observations collide; false ends. The visitor may read by the same connection. */
typedef bool look_visitor(void *arg, int64_t tseq);
enum xt_code lookup_observation(struct conn *c, int64_t project, struct str key, look_visitor *visit, void *arg,
                                struct xt_err *err);
/* Has it an entry that leads to this trace? Quick, however many traces have an observation of that id. */
enum xt_code lookup_has_observation(struct conn *c, int64_t project, struct str key, int64_t tseq, bool *ret,
                                    struct xt_err *err);
enum xt_code lookup_add_observation(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err);

/* Turns, runs and steps: rows of record_key, which scans walk (scan.c). oid '': the trace's own. In the writer's transaction. */
enum xt_code record_keys_add(struct conn *c, int64_t project, int kind, struct str v, int64_t tseq, struct str oid,
                             struct xt_err *err);
/* All of a record. */
enum xt_code record_keys_drop(struct conn *c, int64_t tseq, struct str oid, struct xt_err *err);

/* verify_keys.c. One line of findings, if any; and all of them anew, in the writer's open transaction. */
enum xt_code record_keys_verify(struct conn *c, struct buf *report, bool *ret_wrong, struct xt_err *err);
enum xt_code record_keys_rebuild(struct conn *c, int64_t *ret_n, struct xt_err *err);

/* Postings: (h, ts, tseq), h being the hash of kind, project and value. */
static inline int64_t lookup_hash(const struct sqlite_store *e, enum look_kind kind, int64_t project,
                                  struct str value) {
    return key_hash(e, (unsigned)kind, project, value);
}
enum xt_code lookup_add_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err);
enum xt_code lookup_drop_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err);
/* Is it there, and does it hold? */
enum xt_code lookup_has_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, bool *ret, struct xt_err *err);
/* Number of traces with from <= ts <= to that have the value of h; never too low. *ret_exact false: entries of removed
 * traces may be among them, only the rows can tell. Costs some microseconds a run, however many there are. */
enum xt_code lookup_count(struct conn *c, int64_t h, int64_t from, int64_t to, int64_t *ret, bool *ret_exact,
                          struct xt_err *err);
/* The latest time of a removed trace: later counts are not touched by removals. TIME_NONE: none was removed. */
enum xt_code lookup_gone(struct conn *c, int64_t *ret, struct xt_err *err);

/* Walk over the entries of one h in order of (ts, tseq), each pair once; any number a connection. */
struct look_walk {
    struct ix_walk *walk; /* NULL: not open or at the end */
};
enum xt_code look_walk_open(struct look_walk *w, struct conn *c, int64_t h, int64_t from, int64_t to, bool descending,
                            struct xt_err *err);
/* XT_OK with *ret_tseq 0: the end. */
enum xt_code look_walk_next(struct look_walk *w, int64_t *ret_ts, int64_t *ret_tseq, struct xt_err *err);
void look_walk_close(struct look_walk *w); /* also one that is not open */

/* In the writer's transaction that removes traces: the latest timestamp among them. Runs that hold nothing but removed
 * traces are deleted between groups, in slices. */
enum xt_code lookup_retired(struct conn *c, int64_t ts, struct xt_err *err);

/* Makes all runs anew from the rows, in the writer's open transaction; old ones are deleted between groups. After its end,
 * however it ends, comes index_abort: memory knows nothing of it. */
enum xt_code lookup_rebuild(struct sqlite_store *e, struct xt_err *err);
/* What of the index can be said without the rows: one line a finding. From here to index_unpin look-ups of the connection
 * go by what its transaction sees in the file, also the writer's. Adds the numbers of entries of the snapshot to the
 * three counts; *ret_exact false: entries of removed traces may be among them. */
struct look_counts {
    int64_t traces, observations, posts;
};
enum xt_code lookup_verify(struct conn *c, struct buf *report, struct look_counts *ret, bool *ret_exact,
                           struct xt_err *err);
