/* filter.h -- which traces are meant, as SQL; and how a range of time falls into what the rollups know and what only rows
 * know.
 *
 *  1. The index that serves is the one of the value with fewest traces as a rule: session, user, tag, name, else time. All of
 *     them give their traces in order of time.
 *  2. Indexes hold left(value, 128) (PostgreSQL limits their rows), keys of tags pg_short(); the value itself is compared
 *     as well, byte for byte (NUL included: both sides are escaped).
 *  3. Rollups and counts change in the transactions of the rows: what is read from them in one snapshot is exact. */
#pragma once
#include "store/fold/rollup_fold.h"
#include "store/postgres/sql.h"
#include "store/query.h"

struct pg_filter {
    int64_t project;
    struct str label, user, name, session, version, release; /* exact; absent: any */
    const struct str *tags;                                  /* all of them */
    size_t ntags;
    const struct str *environments; /* any of them; none: any */
    size_t nenvironments;
    struct record_keys keys; /* each of them: the trace's or an observation's */
    int64_t from, to;        /* inclusive */
};
void pg_filter_of_traces(const struct trace_query *q, struct pg_filter *ret);
void pg_filter_of_daily(const struct daily_query *q, struct pg_filter *ret);
bool pg_filter_is_plain(const struct pg_filter *f); /* no condition but project and time */
/* One tag whose key is the tag itself. */
bool pg_filter_is_key(const struct pg_filter *f);
/* False: nothing can match (an empty range, a text that is not UTF-8), and PostgreSQL need not be asked. */
bool pg_filter_can_match(const struct pg_filter *f);

/* Appends "table ... WHERE conditions"; the trace is named t. *ret_time: of which table `ts` and `tseq` come in order out of
 * the index ("t" or "k"). */
void pg_filter_sql(struct pg_sql *q, const struct pg_filter *f, const char **ret_time);
/* Appends conditions on a row of rollup_trace or rollup_model under the name r: level, label, environment, name. */
void pg_filter_rollup_sql(struct pg_sql *q, const struct pg_filter *f, int64_t span);

/* A part of a range: whole intervals of `span` between two starts, or (span 0) rows between two instants. */
struct pg_piece {
    int64_t span, from, to;
    int sign; /* -1: to be taken away again */
};
#define PIECES_MAX 24
struct pg_pieces {
    struct pg_piece v[PIECES_MAX];
    size_t n;
};
/* [from, to]: whole intervals of the coarsest span that fits, on both sides of them finer ones, at the ends rows. `spans`:
 * each a multiple of the next. */
void pg_pieces_of(struct pg_pieces *p, const int64_t *spans, size_t nspans, int64_t from, int64_t to);
/* The spans that know what is asked: days not of a name (rollups by name are by hour), ticks only without conditions. */
size_t pg_filter_spans(const struct pg_filter *f, bool counts, int64_t ret_spans[3]);

/* ---- count.c ---- */
/* Appends a statement that gives one number: how many match. */
void pg_count_sql(struct pg_sql *q, const struct pg_filter *f);
int64_t pg_count_read(const PGresult *r);
