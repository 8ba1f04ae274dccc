/* row.h -- rows of `trace` and `obs` as structs, and back into statements. One order of columns for all statements. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/event.h"
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
/* The three payloads of a record, in the order of their columns. */
enum payload_kind { PAYLOAD_INPUT, PAYLOAD_OUTPUT, PAYLOAD_METADATA, PAYLOADS };

struct trace_rec {
    int64_t tseq, project;
    struct id id;
    int64_t ts;
    enum ts_source ts_source;
    int64_t created, updated;
    struct str name, user, session, tags /* JSON array */, env, release, version, label, external;
    enum tri is_public, bookmarked;
    double latency;
    struct opt_money cost;
    int64_t nobs, t0, t1, ocost_n;
    money ocost;
    int64_t pid[PAYLOADS]; /* 0: none */
};
/* `v` holds the row's values: id, parent, times, names and all that `rest` packs; its payload texts stay absent. */
struct obs_rec {
    int64_t tseq, project, created, updated;
    int cost_source; /* 0 unknown, 1 given, 2 priced */
    int64_t price;   /* 0: none */
    int64_t pid[PAYLOADS], prest;
    struct observation v;
};
#define COST_GIVEN 1
#define COST_PRICED 2
#define COST_PARTS 3 /* given, but only in parts: the total is their sum */

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

/* What a trace costs: stated, else the sum of what is known of its observations (0 when nothing is). */
money trace_rec_cost(const struct trace_rec *r);
static inline bool trace_rec_cost_known(const struct trace_rec *r) { return r->cost.has || r->ocost_n > 0; }
/* Stated, else last end - first start; seconds, NaN: unknown. */
double trace_rec_latency(const struct trace_rec *r);
double seconds_between(int64_t from, int64_t to); /* NaN when one is TIME_NONE */

/* The text of `tags`. Absent: no memory. */
struct str tags_encode(struct arena *a, const struct str *tags, size_t n);
/* Back; texts live in the arena or in `json`. Absent text: an empty list. False: damaged or no memory (a->failed). */
bool tags_decode(struct arena *a, struct str json, struct str **ret, size_t *ret_n);

/* A row that can't be what we wrote. */
enum xt_code row_damaged(struct xt_err *err);
enum xt_code no_memory(struct xt_err *err);
