/* record.h -- what an engine keeps of a trace and of an observation, in memory: one form for every engine. How the fields
 * become columns is the engine's. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/event.h"

/* The three payloads of a record: texts that have numbers and stand in rows of their own. */
enum payload_kind { PAYLOAD_INPUT, PAYLOAD_OUTPUT, PAYLOAD_METADATA, PAYLOADS };

struct trace_rec {
    int64_t tseq, project; /* tseq: the engine's number of the trace, from 1 */
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
/* `v` holds the row's values: id, parent, times, names and all that packed.h packs; its payload texts stay absent. */
struct obs_rec {
    int64_t tseq, project, created, updated;
    int cost_source;              /* 0 unknown, or one of COST_* */
    int64_t price;                /* 0: none */
    int64_t pid[PAYLOADS], prest; /* prest: of packed fields that stand out of line; 0: they do not */
    struct observation v;
};
#define COST_GIVEN 1
#define COST_PRICED 2
#define COST_PARTS 3 /* given, but only in parts: the total is their sum */

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
