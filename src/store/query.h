/* query.h -- what reads ask and what they get, as data: validated by the API before any engine sees it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/id.h"
#include "base/money.h"
#include "base/str.h"
#include "model/event.h"

/* `deadline` everywhere: monotonic ns after which a read gives up with XT_ETIMEOUT. */

/* ---- traces ---- */
/* What metadata says of an agent's work: its members of these names at the top. Numbers are stored. */
enum record_key { KEY_TURN_ID = 1, KEY_RUN_ID, KEY_STEP_ID, KEY_PARENT_STEP_ID };
#define RECORD_KEYS 4
struct record_keys {
    struct str v[RECORD_KEYS]; /* by enum record_key, from 1; absent: none */
};
enum trace_order {
    ORDER_TIMESTAMP,
    ORDER_ID,
    ORDER_NAME,
    ORDER_USER,
    ORDER_RELEASE,
    ORDER_VERSION,
    ORDER_PUBLIC,
    ORDER_BOOKMARKED,
    ORDER_SESSION,
    ORDER_LATENCY,
    ORDER_TOTAL_COST
};
struct trace_query {
    int64_t project;
    struct str label;                                 /* projectId of the records; absent: all of the tenant */
    struct str user, name, session, version, release; /* exact; absent: any */
    const struct str *tags;                           /* the trace must have all */
    size_t ntags;
    const struct str *environments; /* any of these */
    size_t nenvironments;
    struct record_keys keys; /* the trace or an observation of it must have each of them */
    int64_t from, to;        /* inclusive; TIME_MIN / TIME_MAX: open */
    enum trace_order order;  /* NULLs first descending, last ascending; ties by number of arrival (same direction) */
    bool descending;
    int64_t offset, limit; /* offset >= 0 (may be huge), limit 1..200 */
    bool want_io, want_observations, want_metrics;
    int64_t deadline;
};
struct trace_row {
    struct str id; /* as its first writer spelled it */
    int64_t timestamp, created, updated;
    struct str name, user, session, release, version, environment, external_id, label;
    const struct str *tags;
    size_t ntags;
    bool is_public, bookmarked;
    struct str input, output, metadata; /* JSON text or absent; derived from the root observation when never sent */
    double latency;                     /* seconds; stated, else last end - first start; NaN: unknown */
    bool cost_known;
    money cost;                        /* stated, else the sum of what is known of its observations */
    struct str cost_text;              /* the stated amount when it is not exact in `cost` */
    const struct str *observation_ids; /* lists only, when wanted */
    size_t nobservation_ids;
};
typedef bool trace_visitor(void *arg, const struct trace_row *row);

struct trace_ref {
    int64_t project;
    struct str key; /* id_key */
    int64_t deadline;
};
struct observation_ref {
    int64_t project;
    struct str key; /* id_key of the observation */
    int64_t deadline;
};
struct observation_row {
    struct str id, trace_id, parent_id; /* printed; parent absent: none */
    struct str type, name, version, level, status_message, environment, label;
    int64_t start, end, completion_start, created, updated; /* start TIME_NONE: never sent */
    struct str model, model_parameters, input, output, metadata, unit;
    struct str prompt_id, prompt_name, prompt_version, model_id;
    double input_price, output_price, total_price;
    struct opt_money cost_input, cost_output, cost_total;
    struct str usage_buckets, cost_buckets, cost_source; /* "given", "priced" or absent */
    double latency, time_to_first_token;                 /* stated, else derived from the times; NaN: unknown */
    struct opt_i64 tokens_in, tokens_out, tokens_total;
};
typedef bool observation_visitor(void *arg, const struct observation_row *row);

/* ---- daily ---- */
struct daily_query {
    int64_t project;
    struct str label; /* as trace_query */
    struct str trace_name, user, version, release;
    const struct str *tags;
    size_t ntags;
    int64_t from, to;      /* inclusive, of the trace's timestamp */
    int64_t offset, limit; /* days, newest first */
    int64_t deadline;
};
struct day_usage {
    struct str model; /* "unknown" for none */
    int64_t observations, traces;
    int64_t tokens_in, tokens_out, tokens_total; /* saturated in int64 */
    money cost;
};
struct day_row {
    int64_t day; /* ns of its first instant, UTC */
    int64_t traces, observations;
    money cost;
    const struct day_usage *usage; /* by cost descending, then model */
    size_t nusage;
};
typedef bool day_visitor(void *arg, const struct day_row *row);

/* ---- series ---- */
typedef bool name_visitor(void *arg, struct str name); /* ascending bytewise */
enum series_agg { AGG_AVG, AGG_MAX, AGG_MIN, AGG_SUM, AGG_LAST, AGG_P50, AGG_P90, AGG_P99 };
struct series_query {
    int64_t project;
    struct str name;
    const struct label *labels; /* all must be present with equal values; sorted by name */
    size_t nlabels;
    bool match_none;  /* the labels filter can match nothing */
    int64_t from, to; /* inclusive */
    int64_t step;     /* ns */
    enum series_agg agg;
    bool grouped;
    struct str group_by; /* label name */
    int64_t deadline;
    size_t max_points, max_series; /* 1000, 50 */
};
/* series_agg.h: engines feed points, the API reads cells. */
struct series_sink;
