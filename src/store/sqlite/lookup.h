/* lookup.h -- which trace has this id, which traces have this user, session, tag or name: the one narrow interface to the
 * secondary indexes of telemetry. Observations are found through their trace (D16); no read asks for one by its id alone,
 * so that index, ten times the size of the others and written in random order, is not kept.
 *
 *  1. An entry is a hint, never the truth: it may outlive or run ahead of its row. lookup_trace compares with the row
 *     itself; whoever lists compares every hit with its row (value and time) before it counts.
 *  2. An entry that should be there always is: nothing stored is ever missed.
 *  3. Adding and removing happen in the writer's transaction, with the rows they speak of. Adding twice is harmless.
 * Behind it now: ordinary index tables. */
#pragma once
#include "store/sqlite/engine.h"

/* Numbers are part of stored hashes. */
enum look_kind { LOOK_USER = 1, LOOK_SESSION = 2, LOOK_TAG = 3, LOOK_NAME = 4 };

/* Number of the project's trace with that id key, 0: none. */
enum xt_code lookup_trace(struct conn *c, int64_t project, struct str key, int64_t *ret_tseq, struct xt_err *err);
enum xt_code lookup_add_trace(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err);
enum xt_code lookup_drop_trace(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err);

/* Postings: (h, ts, tseq), h being the hash of kind, project and value. */
static inline int64_t lookup_hash(const struct sqlite_store *e, enum look_kind kind, int64_t project,
                                  struct str value) {
    return key_hash(e, (unsigned)kind, project, value);
}
enum xt_code lookup_add_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err);
enum xt_code lookup_drop_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err);
/* Number of entries with from <= ts <= to; never lower than the number of rows. */
enum xt_code lookup_count(struct conn *c, int64_t h, int64_t from, int64_t to, int64_t *ret, struct xt_err *err);

/* Walk over the entries of one h in order of (ts, tseq); one walk a connection at a time. */
struct look_walk {
    struct conn *conn;
    sqlite3_stmt *st; /* NULL: not open or at the end */
};
enum xt_code look_walk_open(struct look_walk *w, struct conn *c, int64_t h, int64_t from, int64_t to, bool descending,
                            struct xt_err *err);
/* XT_OK with *ret_tseq 0: the end. */
enum xt_code look_walk_next(struct look_walk *w, int64_t *ret_ts, int64_t *ret_tseq, struct xt_err *err);
void look_walk_close(struct look_walk *w); /* also one that is not open */
