/* scan.h -- which traces match, in order of time: by the table of turns, runs and steps, or by a look-up when the filter
 * names one of those, or a user, session, tag or name; else by the index over time. Every hit is compared with its row,
 * byte for byte (NUL included). */
#pragma once
#include "store/sqlite/lookup.h"
#include "store/sqlite/row.h"
#include "store/trace_filter.h"

/* One scan a connection at a time; it uses the connection's SQL_TRACE_GET. */
struct trace_scan {
    struct conn *c;
    const struct trace_filter *f;
    struct look_walk hits;
    sqlite3_stmt *walk; /* when no look-up serves */
    struct arena scratch;
};
enum xt_code scan_open(struct trace_scan *s, struct sqlite_store *e, struct conn *c, const struct trace_filter *f,
                       bool descending, struct xt_err *err);
/* The next match; its texts are valid until the next call. *ret_found false: the end. */
enum xt_code scan_next(struct trace_scan *s, struct trace_rec *ret, bool *ret_found, struct xt_err *err);
void scan_close(struct trace_scan *s); /* also after a failed open */

/* Reads one trace by number into `ret`; texts are copied, or without an arena valid until the statement is used again. */
enum xt_code trace_fetch(struct conn *c, enum sql_id id, int64_t tseq, struct arena *copy, struct trace_rec *ret,
                         bool *ret_found, struct xt_err *err);

/* How many match, where counters or index entries know it without reading rows; *ret_known false: only a scan can
 * tell. */
enum xt_code filter_count(struct sqlite_store *e, struct conn *c, const struct trace_filter *f, bool *ret_known,
                          int64_t *ret, struct xt_err *err);
