/* row.h -- rows of `trace` and `observation` as structs. One order of columns for all statements.
 *
 *  1. What the database holds is not trusted: numbers out of range are damage or become the nearest legal value.
 *  2. An observation lies in the week of its trace's `created`; that never changes.
 *  3. `id` and `oid` are pg_short() forms of keys; `key` holds the whole key when that is another. */
#pragma once
#include "store/fold/record.h"
#include "store/postgres/engine.h"

/* Select lists of the tables under the names t and o, in the order of the enums. */
#define PG_TRACE_COLUMNS                                                                                      \
    "t.tseq, t.project, coalesce(t.key, t.id), t.spell, t.id_text, t.ts, t.ts_source, t.created, t.updated, " \
    "t.name, t.user_id, t.session, t.tags, t.env, t.release, t.version, t.label, t.external, t.public, "      \
    "t.bookmarked, t.latency, t.cost, t.cost_text, t.nobs, t.t0, t.t1, t.ocost, t.ocost_n, t.pin, t.pout, t.pmeta"
#define PG_TRACE_NCOLUMNS 31
#define PG_OBS_COLUMNS                                                                                           \
    "o.tseq, coalesce(o.key, o.oid), o.project, o.spell, o.created, o.updated, o.start_at, o.end_at, "           \
    "o.completion, o.type, o.level, o.name, o.model, o.parent, o.tin, o.tout, o.ttotal, o.cost, o.cost_source, " \
    "o.price, o.pin, o.pout, o.pmeta, o.rest"
#define PG_OBS_NCOLUMNS 24

/* Reads the result's row, its columns from `col` on. Texts live in the arena or in the result. */
enum xt_code pg_trace_read(const PGresult *r, int row, int col, struct arena *a, struct trace_rec *ret,
                           struct xt_err *err);
enum xt_code pg_obs_read(const PGresult *r, int row, int col, struct arena *a, struct obs_rec *ret, struct xt_err *err);
