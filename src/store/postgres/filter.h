/* filter.h -- which traces are meant, as SQL.
 *
 *  1. The index that serves is the one of the value with fewest traces as a rule: session, user, tag, name, else time. All of
 *     them give their traces in order of time.
 *  2. Indexes hold left(value, 128) (PostgreSQL limits their rows), keys of tags pg_short(); the value itself is compared
 *     as well, byte for byte (NUL included: both sides are escaped). */
#pragma once
#include "store/fold/range.h"
#include "store/postgres/sql.h"
#include "store/trace_filter.h"

/* One tag whose key is the tag itself. */
bool pg_filter_is_key(const struct trace_filter *f);
/* False: nothing can match (an empty range, a text that is not UTF-8), and PostgreSQL need not be asked. */
bool pg_filter_can_match(const struct trace_filter *f);

/* Appends "table ... WHERE conditions"; the trace is named t. *ret_time: of which table `ts` and `tseq` come in order out of
 * the index ("t" or "k"). */
void pg_filter_sql(struct pg_sql *q, const struct trace_filter *f, const char **ret_time);
/* Appends conditions on a row of rollup_trace or rollup_model under the name r: level, label, environment, name. */
void pg_filter_rollup_sql(struct pg_sql *q, const struct trace_filter *f, int64_t span);

/* Appends " AND r.start" within the piece, which is one of whole intervals. */
void pg_filter_starts_sql(struct pg_sql *q, const struct range_piece *p);

/* ---- count.c ---- */
/* Appends a statement that gives one number: how many match. */
void pg_count_sql(struct pg_sql *q, const struct trace_filter *f);
int64_t pg_count_read(const PGresult *r);
