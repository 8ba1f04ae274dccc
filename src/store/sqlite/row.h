/* row.h -- rows of `trace` and `obs` as structs, and back into statements. One order of columns for all statements. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "store/fold/record.h"
#include "store/sqlite/engine.h"
#include "store/sqlite/payload.h"

/* TRACE_COLUMNS of statements_trace.inc. */
enum trace_col {
    TC_TSEQ,
    TC_PROJECT,
    TC_ID,
    TC_SPELL,
    TC_ID_TEXT,
    TC_TS,
    TC_TS_SOURCE,
    TC_CREATED,
    TC_UPDATED,
    TC_NAME,
    TC_USER,
    TC_SESSION,
    TC_TAGS,
    TC_ENV,
    TC_RELEASE,
    TC_VERSION,
    TC_LABEL,
    TC_EXTERNAL,
    TC_PUBLIC,
    TC_BOOKMARKED,
    TC_LATENCY,
    TC_COST_NANO,
    TC_COST_ATTO,
    TC_COST_TEXT,
    TC_NOBS,
    TC_T0,
    TC_T1,
    TC_OCOST_HI,
    TC_OCOST_LO,
    TC_OCOST_N,
    TC_PIN,
    TC_POUT,
    TC_PMETA
};
/* OBS_COLUMNS of statements_trace.inc. */
enum obs_col {
    OC_TSEQ,
    OC_OID,
    OC_PROJECT,
    OC_SPELL,
    OC_CREATED,
    OC_UPDATED,
    OC_START,
    OC_END,
    OC_COMPLETION,
    OC_TYPE,
    OC_LEVEL,
    OC_NAME,
    OC_MODEL,
    OC_PARENT,
    OC_TIN,
    OC_TOUT,
    OC_TTOTAL,
    OC_COST_NANO,
    OC_COST_ATTO,
    OC_COST_SOURCE,
    OC_PRICE,
    OC_PIN,
    OC_POUT,
    OC_PMETA,
    OC_REST,
    OC_PREST
};

/* Reads the statement's current row. With an arena texts are copied, else they point into the row: valid until the next
 * step or reset. False: no memory. */
bool trace_rec_read(sqlite3_stmt *st, struct arena *copy, struct trace_rec *ret);
/* Likewise; a `rest` out of line is fetched by `c` with `k` into `a` (never NULL). */
enum xt_code obs_rec_read(struct conn *c, struct codec *k, sqlite3_stmt *st, struct arena *a, bool copy,
                          struct obs_rec *ret, struct xt_err *err);
/* Binds every column at its number; texts must live until the statement was stepped. */
void trace_rec_bind(sqlite3_stmt *st, const struct trace_rec *r);
/* `rest` is the packed blob to store in the row. */
void obs_rec_bind(sqlite3_stmt *st, const struct obs_rec *r, struct str rest);
