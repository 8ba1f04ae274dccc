/* xtrace.h -- libxtrace: the C client of xtrace, for C (C99 and later) and C++.
 *
 * Three layers, each usable without the next:
 *   calls      one HTTP request each, answered when the function returns (xtrace_list_traces, xtrace_push_metrics ...)
 *   sender     a bounded queue and one background thread that delivers records in batches (xtrace_sender_*)
 *   tracing    spans, generations, events and metric points that end in a sender (xtrace_span_*, xtrace_metric)
 *
 * Conventions
 *   Times are int64_t nanoseconds since 1970-01-01T00:00:00Z; XTRACE_TIME_NONE: absent. Durations are named _ms or are
 *   doubles in seconds. Text is NUL-terminated UTF-8; NULL: absent. Doubles: NAN is absent. Integers: XTRACE_INT_NONE is
 *   absent. Truth values: 1, 0, or -1 for absent. Fields named _json hold one JSON value as text.
 *   Structures that the caller fills begin with `size`; call their _init function first, so that a program built
 *   against an older header works with a newer library. The others change only with the soname.
 *   Functions that can fail return enum xtrace_code, 0 for success, and fill *error unless it is NULL.
 *   The library never raises a signal, never aborts, never writes to stdout or stderr, and prints nothing but through the
 *   log callback.
 */
#ifndef XTRACE_H
#define XTRACE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define XTRACE_API __attribute__((visibility("default")))
#define XTRACE_MUST_CHECK __attribute__((warn_unused_result))
#else
#define XTRACE_API
#define XTRACE_MUST_CHECK
#endif

#define XTRACE_VERSION_MAJOR 0
#define XTRACE_VERSION_MINOR 1
#define XTRACE_VERSION_PATCH 0

#define XTRACE_TIME_NONE INT64_MIN
#define XTRACE_INT_NONE INT64_MIN

/* ---- errors -------------------------------------------------------------------------------------------------------- */

enum xtrace_code {
    XTRACE_OK = 0,
    XTRACE_EINVAL,   /* an argument is not acceptable: error->argument names it; nothing was sent */
    XTRACE_ENOMEM,   /* no memory */
    XTRACE_ENETWORK, /* no connection, or it broke */
    XTRACE_ETIMEOUT, /* no answer in time, or a deadline passed */
    XTRACE_EHTTP,    /* the server answered with an error: http_status, server_code, message */
    XTRACE_EANSWER,  /* the answer is not one of xtrace */
    XTRACE_EPARTIAL, /* the server refused some records and kept the others */
    XTRACE_EFULL,    /* the sender's queue is full: the record was dropped and counted */
    XTRACE_ESTOPPED  /* the sender was stopped */
};

typedef struct xtrace_error {
    int code;             /* enum xtrace_code */
    int http_status;      /* of the last answer; 0: there was none */
    int retry_after_s;    /* what the server asked for; -1: nothing */
    char argument[64];    /* EINVAL: name of the argument or field */
    char server_code[48]; /* "UNPROCESSABLE_ENTITY" ..., "" when there was none */
    char message[256];    /* for a human: what the server said, or what went wrong here */
} xtrace_error;

/** xtrace_strerror - name of an error code
 * A constant English text for any value; never NULL.
 * Thread-safety: safe. */
XTRACE_API const char *xtrace_strerror(int code);

/** xtrace_version - version of the library in use
 * "MAJOR.MINOR.PATCH" of the library that is linked, which may be newer than the header.
 * Thread-safety: safe. */
XTRACE_API const char *xtrace_version(void);

/* ---- client -------------------------------------------------------------------------------------------------------- */

typedef struct xtrace_client xtrace_client;

enum xtrace_log_level { XTRACE_LOG_ERROR = 1, XTRACE_LOG_WARN, XTRACE_LOG_INFO, XTRACE_LOG_DEBUG };
/* One line without a line end. Called on whatever thread has something to say; must not call back into the library. */
typedef void xtrace_log_fn(void *arg, int level, const char *line);

typedef struct xtrace_options {
    size_t size;
    const char *base_url;                /* "http://127.0.0.1:8742"; a path is kept, a trailing slash does not matter */
    const char *token;                   /* Bearer */
    const char *public_key, *secret_key; /* Basic; used when there is no token */
    const char *user_agent;              /* put before the library's own */
    const char *proxy;                   /* as curl takes it; NULL: from the environment as curl does, "": none */
    const char *ca_file;                 /* PEM file of trusted authorities; NULL: the system's */
    int tls_insecure;                    /* 1: do not verify the server's certificate */
    int connect_timeout_ms;              /* 5000 */
    int timeout_ms;                      /* 30000: of a whole call, its retries included */
    int max_attempts;                    /* 4: of a call that may be repeated (see xtrace_call) */
    int retry_min_ms, retry_max_ms; /* 200, 5000: waits between attempts double from one to the other, with jitter */
    size_t max_answer_bytes;        /* 256 MiB: a longer answer is XTRACE_EANSWER */
    xtrace_log_fn *log;
    void *log_arg;
    int log_level; /* XTRACE_LOG_WARN: the least important level that is logged */
} xtrace_options;

/** xtrace_options_init - options with their defaults */
XTRACE_API void xtrace_options_init_sized(xtrace_options *options, size_t size);
#define xtrace_options_init(options) xtrace_options_init_sized((options), sizeof *(options))

/** xtrace_client_new - make a client
 * Copies what `options` points to. NULL options, or a NULL base_url, token or key pair, are taken from the environment:
 * XTRACE_BASE_URL (else http://127.0.0.1:8742), API_BEARER_TOKEN, XTRACE_PUBLIC_KEY and XTRACE_SECRET_KEY. Without any
 * credential requests carry none; half a pair is an error.
 * Connects to nothing yet.
 * Returns: the client, to be freed with xtrace_client_free(3); NULL on error.
 * Errors: XTRACE_EINVAL (base_url, token, secret_key, proxy ...), XTRACE_ENOMEM.
 * Thread-safety: safe. A client may be used by any number of threads at once. */
XTRACE_API xtrace_client *xtrace_client_new(const xtrace_options *options, xtrace_error *error) XTRACE_MUST_CHECK;

/** xtrace_client_free - free a client
 * NULL is fine. Its senders must have been stopped and its calls must have returned.
 * Thread-safety: the caller is the last user. */
XTRACE_API void xtrace_client_free(xtrace_client *client);

/* How one call differs from the client's options. */
typedef struct xtrace_call {
    size_t size;
    int timeout_ms;   /* 0: the client's */
    int max_attempts; /* 0: the client's; 1: no retry. Reads and xtrace_ingest_batch are repeated after 408, 429, 500,
                         502, 503, 504 and network errors (ids make repeats harmless); points, which have no identity,
                         only when the server said that it did not keep them (429, 503) or was never reached. */
} xtrace_call;

/** xtrace_call_init - a call as the client does it */
XTRACE_API void xtrace_call_init_sized(xtrace_call *call, size_t size);
#define xtrace_call_init(call) xtrace_call_init_sized((call), sizeof *(call))

/* ---- records that are sent ----------------------------------------------------------------------------------------- */

/* A trace. Absent fields keep what the server has stored. */
typedef struct xtrace_trace {
    size_t size;
    const char *id; /* UUID in any spelling, or 32 hex digits; required */
    int64_t timestamp;
    const char *name, *user_id, *session_id, *release, *version, *environment, *external_id, *project_id;
    const char *input_json, *output_json, *metadata_json;
    const char *const *tags; /* NULL: absent */
    size_t tag_count;
    int is_public, bookmarked;
    double latency;    /* seconds */
    double total_cost; /* USD */
} xtrace_trace;

/* An observation: a span, a generation or an event of a trace. */
typedef struct xtrace_observation {
    size_t size;
    const char *id, *trace_id; /* required, as of a trace */
    const char *parent_id;     /* parentObservationId */
    const char *type;          /* "SPAN", "GENERATION", "EVENT" ... */
    const char *name, *level, *status_message, *environment, *project_id;
    int64_t start_time, end_time, completion_start_time;
    const char *model, *model_parameters_json, *input_json, *output_json, *usage_json, *metadata_json;
    const char *prompt_id, *prompt_name, *prompt_version, *model_id, *unit;
    double input_price, output_price, total_price; /* USD a unit */
    double input_cost, output_cost, total_cost;    /* calculatedInputCost ..., USD */
    double latency, time_to_first_token;           /* seconds */
    int64_t prompt_tokens, completion_tokens, total_tokens;
} xtrace_observation;

typedef struct xtrace_label {
    const char *name, *value;
} xtrace_label;

/* One point of a time series. */
typedef struct xtrace_metric {
    size_t size;
    const char *name;  /* required */
    double value;      /* finite; required */
    int64_t timestamp; /* XTRACE_TIME_NONE: now */
    const xtrace_label *labels;
    size_t label_count;
} xtrace_metric;

/** xtrace_trace_init - a trace with all fields absent */
XTRACE_API void xtrace_trace_init_sized(xtrace_trace *trace, size_t size);
#define xtrace_trace_init(trace) xtrace_trace_init_sized((trace), sizeof *(trace))
/** xtrace_observation_init - an observation with all fields absent */
XTRACE_API void xtrace_observation_init_sized(xtrace_observation *observation, size_t size);
#define xtrace_observation_init(observation) xtrace_observation_init_sized((observation), sizeof *(observation))
/** xtrace_metric_init - a point with all fields absent */
XTRACE_API void xtrace_metric_init_sized(xtrace_metric *metric, size_t size);
#define xtrace_metric_init(metric) xtrace_metric_init_sized((metric), sizeof *(metric))

/* ---- answers ------------------------------------------------------------------------------------------------------- */

/* Everything an answer points to belongs to it and lives until its _free. */

typedef struct xtrace_page_meta {
    int64_t page, limit, total_items, total_pages;
} xtrace_page_meta;

/* A trace as the server tells it. */
typedef struct xtrace_trace_item {
    const char *id, *name, *user_id, *session_id, *release, *version, *environment, *external_id, *project_id,
        *html_path;
    int64_t timestamp, created_at, updated_at;
    const char *input_json, *output_json, *metadata_json; /* NULL: not in the answer, or null */
    const char *const *tags;
    size_t tag_count;
    int is_public, bookmarked;
    double latency, total_cost;
    const char *const *observation_ids; /* of a list; NULL in the detail, and the count 0 */
    size_t observation_count;
} xtrace_trace_item;

typedef struct xtrace_observation_item {
    const char *id, *trace_id, *parent_id, *type, *name, *level, *status_message, *environment;
    int64_t start_time, end_time, completion_start_time;
    const char *model, *model_parameters_json, *input_json, *output_json, *usage_json, *metadata_json;
    const char *usage_details_json, *cost_details_json;
    const char *prompt_id, *prompt_name, *prompt_version, *model_id;
    double input_price, output_price, total_price, input_cost, output_cost, total_cost;
    double latency, time_to_first_token;
    int64_t prompt_tokens, completion_tokens, total_tokens;
} xtrace_observation_item;

typedef struct xtrace_trace_list {
    xtrace_page_meta meta;
    const xtrace_trace_item *items;
    size_t count;
} xtrace_trace_list;

typedef struct xtrace_trace_detail {
    xtrace_trace_item trace;
    const xtrace_observation_item *observations;
    size_t observation_count;
} xtrace_trace_detail;

typedef struct xtrace_daily_usage {
    const char *model;
    int64_t observations, traces, input_usage, output_usage, total_usage;
    double total_cost;
} xtrace_daily_usage;

typedef struct xtrace_day {
    const char *date; /* "2026-01-15", UTC */
    int64_t traces, observations;
    double total_cost;
    const xtrace_daily_usage *usage;
    size_t usage_count;
} xtrace_day;

typedef struct xtrace_daily_list {
    xtrace_page_meta meta;
    const xtrace_day *days;
    size_t count;
} xtrace_daily_list;

typedef struct xtrace_point {
    int64_t timestamp;
    double value;
} xtrace_point;

typedef struct xtrace_series {
    const xtrace_label *labels; /* a NULL value: the group of the points without that label */
    size_t label_count;
    const xtrace_point *points;
    size_t point_count;
} xtrace_series;

typedef struct xtrace_metric_result {
    const xtrace_series *series;
    size_t count;
    int64_t latest; /* time of the newest point that matched; XTRACE_TIME_NONE: nothing did */
    int truncated;  /* 1: points or series were cut off */
} xtrace_metric_result;

typedef struct xtrace_name_list {
    const char *const *names;
    size_t count;
} xtrace_name_list;

/* A record that the server refused while it kept others of the same request. */
typedef struct xtrace_refusal {
    const char *kind; /* "trace", "observation" */
    int64_t index;
    const char *id, *message;
} xtrace_refusal;

typedef struct xtrace_ingest_result {
    const xtrace_refusal *refusals;
    size_t count;
} xtrace_ingest_result;

/* ---- calls --------------------------------------------------------------------------------------------------------- */

/* `call` may be NULL. Answers are returned through the pointer argument only on success (xtrace_ingest_batch: also with
 * XTRACE_EPARTIAL), else it is set to NULL. All of them are thread-safe. */

/** xtrace_healthz - is the server up?
 * GET /healthz; any 2xx is success.
 * Thread-safety: safe. */
XTRACE_API int xtrace_healthz(xtrace_client *client, const xtrace_call *call, xtrace_error *error);

/** xtrace_ingest_batch - store a trace and observations
 * POST /v1/l/batch. `trace` may be NULL, `observations` is an array of `count` (0 and NULL are fine); they may belong to
 * other traces. When the function returns XTRACE_OK everything is on the server's disk and readable.
 * `result` may be NULL; else *result lists the refused records when the return is XTRACE_EPARTIAL.
 * Errors: XTRACE_EINVAL (error->argument such as "observations[3].id"), XTRACE_EPARTIAL, XTRACE_EHTTP and the network's.
 * Thread-safety: safe. */
XTRACE_API int xtrace_ingest_batch(xtrace_client *client, const xtrace_trace *trace,
                                   const xtrace_observation *observations, size_t count, xtrace_ingest_result **result,
                                   const xtrace_call *call, xtrace_error *error);
XTRACE_API void xtrace_ingest_result_free(xtrace_ingest_result *result);

typedef struct xtrace_trace_query {
    size_t size;
    int64_t page, limit; /* 0: the server's defaults */
    const char *user_id, *name, *session_id, *version, *release, *project_id;
    const char *order_by; /* "timestamp.desc" ... */
    const char *fields;   /* "io,observations" ... */
    const char *const *tags;
    size_t tag_count;
    const char *const *environments;
    size_t environment_count;
    int64_t from, to; /* inclusive; XTRACE_TIME_NONE: open */
} xtrace_trace_query;
/** xtrace_trace_query_init - a query for all traces */
XTRACE_API void xtrace_trace_query_init_sized(xtrace_trace_query *query, size_t size);
#define xtrace_trace_query_init(query) xtrace_trace_query_init_sized((query), sizeof *(query))

/** xtrace_list_traces - list traces, newest first
 * GET /api/public/traces. `query` may be NULL. *list is freed with xtrace_trace_list_free(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_list_traces(xtrace_client *client, const xtrace_trace_query *query, xtrace_trace_list **list,
                                  const xtrace_call *call, xtrace_error *error);
XTRACE_API void xtrace_trace_list_free(xtrace_trace_list *list);

/** xtrace_get_trace - read one trace with its observations
 * GET /api/public/traces/ID. An unknown trace is XTRACE_EHTTP with http_status 404.
 * *detail is freed with xtrace_trace_detail_free(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_get_trace(xtrace_client *client, const char *id, xtrace_trace_detail **detail,
                                const xtrace_call *call, xtrace_error *error);
XTRACE_API void xtrace_trace_detail_free(xtrace_trace_detail *detail);

typedef struct xtrace_daily_query {
    size_t size;
    int64_t page, limit;
    const char *trace_name, *user_id, *version, *release;
    const char *const *tags;
    size_t tag_count;
    int64_t from, to;
} xtrace_daily_query;
/** xtrace_daily_query_init - a query for all days */
XTRACE_API void xtrace_daily_query_init_sized(xtrace_daily_query *query, size_t size);
#define xtrace_daily_query_init(query) xtrace_daily_query_init_sized((query), sizeof *(query))

/** xtrace_metrics_daily - counts, tokens and costs by day
 * GET /api/public/metrics/daily. `query` may be NULL. *list is freed with xtrace_daily_list_free(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_metrics_daily(xtrace_client *client, const xtrace_daily_query *query, xtrace_daily_list **list,
                                    const xtrace_call *call, xtrace_error *error);
XTRACE_API void xtrace_daily_list_free(xtrace_daily_list *list);

/** xtrace_push_metrics - store points of time series
 * POST /v1/metrics/batch. Points have no identity: one that is sent twice counts twice, so this call is repeated only when
 * the server has certainly not kept them.
 * Errors: XTRACE_EINVAL (error->argument such as "metrics[0].value": NaN and infinities have no place in JSON).
 * Thread-safety: safe. */
XTRACE_API int xtrace_push_metrics(xtrace_client *client, const xtrace_metric *metrics, size_t count,
                                   const xtrace_call *call, xtrace_error *error);

typedef struct xtrace_metric_query {
    size_t size;
    const char *name;           /* required */
    int64_t from, to;           /* XTRACE_TIME_NONE: the last hour */
    const xtrace_label *labels; /* all must match */
    size_t label_count;
    const char *step;     /* "1m", "5m", "1h", "1d"; NULL: 1m */
    const char *agg;      /* "avg", "max", "min", "sum", "last", "p50", "p90", "p99"; NULL: avg */
    const char *group_by; /* a label's name; NULL: one series a label set */
} xtrace_metric_query;
/** xtrace_metric_query_init - a query for the last hour */
XTRACE_API void xtrace_metric_query_init_sized(xtrace_metric_query *query, size_t size);
#define xtrace_metric_query_init(query) xtrace_metric_query_init_sized((query), sizeof *(query))

/** xtrace_query_metrics - read time series in buckets
 * GET /api/public/metrics/query. *result is freed with xtrace_metric_result_free(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_query_metrics(xtrace_client *client, const xtrace_metric_query *query,
                                    xtrace_metric_result **result, const xtrace_call *call, xtrace_error *error);
XTRACE_API void xtrace_metric_result_free(xtrace_metric_result *result);

/** xtrace_list_metric_names - names of all metrics
 * GET /api/public/metrics/names, ascending. *list is freed with xtrace_name_list_free(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_list_metric_names(xtrace_client *client, xtrace_name_list **list, const xtrace_call *call,
                                        xtrace_error *error);
XTRACE_API void xtrace_name_list_free(xtrace_name_list *list);

/* ---- sender -------------------------------------------------------------------------------------------------------- */

typedef struct xtrace_sender xtrace_sender;

typedef struct xtrace_sender_options {
    size_t size;
    size_t max_queue_records; /* 100000: queued and under way together; beyond it records are dropped and counted */
    size_t max_queue_bytes;   /* 64 MiB */
    size_t max_record_bytes;  /* 4 MiB: a larger record is refused with XTRACE_EINVAL */
    size_t batch_records;     /* 500 */
    size_t batch_bytes;       /* 1 MiB, before compression */
    int max_delay_ms;         /* 500: how long a record waits for company */
    int request_timeout_ms;   /* 10000 */
    int retry_min_ms, retry_max_ms; /* 200, 5000; a Retry-After of the server is honoured up to a minute */
    int gzip;                       /* 1 */
} xtrace_sender_options;
/** xtrace_sender_options_init - sender options with their defaults */
XTRACE_API void xtrace_sender_options_init_sized(xtrace_sender_options *options, size_t size);
#define xtrace_sender_options_init(options) xtrace_sender_options_init_sized((options), sizeof *(options))

/* Every record that was handed over is counted in exactly one of: pending, delivered, dropped_*, refused. */
typedef struct xtrace_sender_stats {
    uint64_t delivered;         /* acknowledged by the server */
    uint64_t refused;           /* by the server, for good (400, 413, 415, 422, 207): each is logged with its id */
    uint64_t dropped_full;      /* the queue was full */
    uint64_t dropped_memory;    /* no memory to hold or to encode it */
    uint64_t dropped_stopped;   /* still there when the sender's last deadline passed, or handed over after the stop */
    uint64_t dropped_uncertain; /* points whose request broke off after it was sent: the server may have kept them, and
                                   repeating could count them twice */
    uint64_t pending, pending_bytes;
    uint64_t requests, retries;
} xtrace_sender_stats;

/** xtrace_sender_new - start background delivery
 * Starts one thread (all signals blocked) that sends what the functions below hand over. A record stays until the server
 * has answered: server away, overloaded (429, 503, Retry-After) or refusing the credential means trying again, with jitter,
 * for as long as there is room. `options` may be NULL. The client must outlive the sender.
 * After fork(2) the child's copy starts empty: what the parent had queued is the parent's; the thread starts anew with the
 * first record.
 * Returns: the sender, to be ended with xtrace_sender_stop(3); NULL on error.
 * Errors: XTRACE_EINVAL, XTRACE_ENOMEM (also: no thread).
 * Thread-safety: safe. A sender may be used by any number of threads at once. */
XTRACE_API xtrace_sender *xtrace_sender_new(xtrace_client *client, const xtrace_sender_options *options,
                                            xtrace_error *error) XTRACE_MUST_CHECK;

/** xtrace_send_trace - hand a trace over
 * Copies the record and returns at once, without waiting for the network.
 * Returns: XTRACE_OK; XTRACE_ENOMEM, XTRACE_EFULL and XTRACE_ESTOPPED, counted as dropped; XTRACE_EINVAL, not counted.
 * Thread-safety: safe. */
XTRACE_API int xtrace_send_trace(xtrace_sender *sender, const xtrace_trace *trace, xtrace_error *error);

/** xtrace_send_observation - hand an observation over
 * As xtrace_send_trace(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_send_observation(xtrace_sender *sender, const xtrace_observation *observation,
                                       xtrace_error *error);

/** xtrace_send_metric - hand a point over
 * As xtrace_send_trace(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_send_metric(xtrace_sender *sender, const xtrace_metric *metric, xtrace_error *error);

/** xtrace_sender_flush - wait until everything handed over so far is settled
 * Settled means delivered, refused or dropped.
 * Returns: XTRACE_OK, or XTRACE_ETIMEOUT when `timeout_ms` passed first; delivery goes on.
 * Thread-safety: safe. */
XTRACE_API int xtrace_sender_flush(xtrace_sender *sender, int timeout_ms);

/** xtrace_sender_stop - deliver the rest and free the sender
 * Takes no more records, delivers what is queued for at most `timeout_ms`, breaks off what is then still under way, counts
 * it as dropped, ends the thread and frees the sender. `stats`, unless NULL, gets the final counts. NULL sender is fine.
 * Returns: XTRACE_OK; XTRACE_ETIMEOUT when the time did not do for everything.
 * Thread-safety: the caller is the last user. */
XTRACE_API int xtrace_sender_stop(xtrace_sender *sender, int timeout_ms, xtrace_sender_stats *stats);

/** xtrace_sender_get_stats - counters of a sender
 * As they are at this moment; of a NULL sender all are 0.
 * Thread-safety: safe. */
XTRACE_API void xtrace_sender_get_stats(xtrace_sender *sender, xtrace_sender_stats *stats);

/* ---- tracing ------------------------------------------------------------------------------------------------------- */

typedef struct xtrace_tracer xtrace_tracer;
typedef struct xtrace_span xtrace_span;

typedef struct xtrace_tracer_options {
    size_t size;
    double sample_rate; /* 1.0: share of new traces that are recorded; a remote parent's decision is followed */
    const char *environment, *release, *version, *project_id; /* of every trace */
    int span_duration; /* 1: every span that ends also gives a point of the metric span_duration, in seconds, with the
                                labels span_name and trace_id; 0 by default */
} xtrace_tracer_options;
/** xtrace_tracer_options_init - tracer options with their defaults */
XTRACE_API void xtrace_tracer_options_init_sized(xtrace_tracer_options *options, size_t size);
#define xtrace_tracer_options_init(options) xtrace_tracer_options_init_sized((options), sizeof *(options))

/** xtrace_tracer_new - make a tracer
 * `options` may be NULL; what it points to is copied. The sender must outlive the tracer.
 * Returns: the tracer, to be freed with xtrace_tracer_free(3); NULL on error.
 * Thread-safety: safe. A tracer may be used by any number of threads at once. */
XTRACE_API xtrace_tracer *xtrace_tracer_new(xtrace_sender *sender, const xtrace_tracer_options *options,
                                            xtrace_error *error) XTRACE_MUST_CHECK;

/** xtrace_tracer_free - free a tracer
 * Its spans must have ended. NULL is fine.
 * Thread-safety: the caller is the last user. */
XTRACE_API void xtrace_tracer_free(xtrace_tracer *tracer);

/* What of a span travels to other threads and processes (W3C Trace Context). */
typedef struct xtrace_context {
    unsigned char trace_id[16], span_id[8];
    unsigned char sampled;
    unsigned char valid; /* 0: no context */
} xtrace_context;

#define XTRACE_TRACEPARENT_SIZE 56 /* bytes of a traceparent header's value, NUL included */

/** xtrace_context_parse - read a traceparent header
 * Source: W3C Trace Context, section 3.2. Unknown future versions are read as far as version 00 goes.
 * Returns: XTRACE_OK; XTRACE_EINVAL and an invalid context for anything else.
 * Thread-safety: safe. */
XTRACE_API int xtrace_context_parse(const char *traceparent, xtrace_context *context);

/** xtrace_context_format - write a traceparent header
 * Writes the value with its NUL; an empty text for an invalid context.
 * Thread-safety: safe. */
XTRACE_API void xtrace_context_format(const xtrace_context *context, char traceparent[XTRACE_TRACEPARENT_SIZE]);

/** xtrace_span_start - begin a span and make it the thread's current one
 * Its parent is the thread's current span; without one a new trace begins, sampled by the tracer's rate.
 * Never fails: without memory (counted as dropped), or when not sampled, the span returned records nothing but can be used
 * like any other. A NULL tracer, and a name that is NULL or not UTF-8, give such a span, too.
 * Thread-safety: safe; a span itself is used by one thread at a time. A span that is current on a thread is in use there
 * while the thread starts others; every span is left or ended before its thread ends. */
XTRACE_API xtrace_span *xtrace_span_start(xtrace_tracer *tracer, const char *name);

/** xtrace_generation_start - begin a span of type GENERATION, the call of a model
 * As xtrace_span_start(3). `model` may be NULL.
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API xtrace_span *xtrace_generation_start(xtrace_tracer *tracer, const char *name, const char *model);

/** xtrace_span_start_in - begin a span in a given context
 * For other threads, event loops and requests from outside: the parent is `parent` (NULL or invalid: a new trace), and the
 * span does not become current; see xtrace_span_enter(3).
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API xtrace_span *xtrace_span_start_in(xtrace_tracer *tracer, const char *name, const xtrace_context *parent);

/** xtrace_span_enter - make a span the current one of this thread
 * Until xtrace_span_leave(3) or its end. A span is current on one thread at a time.
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API void xtrace_span_enter(xtrace_span *span);

/** xtrace_span_leave - make a span not current, without ending it
 * What was current before it is current again.
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API void xtrace_span_leave(xtrace_span *span);

/** xtrace_span_end - end a span and hand it to the sender
 * Frees the span. When it is the root of its trace in this process, the trace is sent with it. NULL is fine.
 * A span that was started before fork(2) is the parent process's: in the child it ends without being sent.
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API void xtrace_span_end(xtrace_span *span);

/** xtrace_span_current - the current span of this thread
 * NULL when there is none. It belongs to whoever started it.
 * Thread-safety: safe. */
XTRACE_API xtrace_span *xtrace_span_current(void);

/** xtrace_span_context - context of a span, to hand on
 * NULL span: the context is invalid.
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API void xtrace_span_context(xtrace_span *span, xtrace_context *context);

/** xtrace_span_is_recording - will this span be sent?
 * 0 when it was not sampled: what is costly to gather need not be gathered.
 * Thread-safety: as xtrace_span_start(3). */
XTRACE_API int xtrace_span_is_recording(const xtrace_span *span);

/* ---- what a span is told ------------------------------------------------------------------------------------------- */

/** below - for all that follows, to the next section
 * Texts are copied, and take the place of what was set before. A span that records nothing takes everything and does
 * nothing. In the child of a fork(2) a span of the parent process may be set, but only the parent sends it.
 * Returns: XTRACE_OK; XTRACE_EINVAL for NULL where a text is wanted, for a text that is not UTF-8 or not JSON, a number out
 * of range, and what would make the record longer than the sender's max_record_bytes; XTRACE_ENOMEM. What is not taken
 * leaves the earlier value as it was.
 * Thread-safety: as xtrace_span_start(3). */

/** xtrace_span_set_input - what went in, as plain text
 * xtrace_span_set_input_json(3) takes a JSON value instead, a list of messages for example. */
XTRACE_API int xtrace_span_set_input(xtrace_span *span, const char *text);
XTRACE_API int xtrace_span_set_input_json(xtrace_span *span, const char *json);

/** xtrace_span_set_output - what came out, as plain text
 * xtrace_span_set_output_json(3) takes a JSON value instead. */
XTRACE_API int xtrace_span_set_output(xtrace_span *span, const char *text);
XTRACE_API int xtrace_span_set_output_json(xtrace_span *span, const char *json);

/** xtrace_span_set_metadata - one entry of the metadata, as plain text
 * xtrace_span_set_metadata_json(3) takes a JSON value instead. The last value of a key wins. */
XTRACE_API int xtrace_span_set_metadata(xtrace_span *span, const char *key, const char *text);
XTRACE_API int xtrace_span_set_metadata_json(xtrace_span *span, const char *key, const char *json);

/** xtrace_span_set_model - model of a generation
 * `parameters_json` may be NULL: a JSON object of its parameters. */
XTRACE_API int xtrace_span_set_model(xtrace_span *span, const char *model, const char *parameters_json);

/** xtrace_span_set_usage - tokens that a generation used
 * XTRACE_INT_NONE for what is not known; a missing total is the sum of the two others. */
XTRACE_API int xtrace_span_set_usage(xtrace_span *span, int64_t input, int64_t output, int64_t total);

/** xtrace_span_set_cost - cost of a generation in USD, when the caller knows it */
XTRACE_API int xtrace_span_set_cost(xtrace_span *span, double total);

/** xtrace_span_first_token - the first token of the answer has arrived
 * Sets the time to first token, once. */
XTRACE_API int xtrace_span_first_token(xtrace_span *span);

/** xtrace_span_set_level - "DEBUG", "DEFAULT", "WARNING" or "ERROR", with a message or NULL */
XTRACE_API int xtrace_span_set_level(xtrace_span *span, const char *level, const char *message);

/** xtrace_span_set_error - level ERROR with a message */
XTRACE_API int xtrace_span_set_error(xtrace_span *span, const char *message);

/** xtrace_span_set_type - another type of observation: "AGENT", "TOOL", "RETRIEVER" ... */
XTRACE_API int xtrace_span_set_type(xtrace_span *span, const char *type);

/** xtrace_span_set_user - user of the trace */
XTRACE_API int xtrace_span_set_user(xtrace_span *span, const char *user_id);

/** xtrace_span_set_session - session of the trace */
XTRACE_API int xtrace_span_set_session(xtrace_span *span, const char *session_id);

/** xtrace_span_add_tag - a tag of the trace */
XTRACE_API int xtrace_span_add_tag(xtrace_span *span, const char *tag);

/** xtrace_span_set_trace_name - name of the trace; without it, the name of its root span */
XTRACE_API int xtrace_span_set_trace_name(xtrace_span *span, const char *name);

/** xtrace_span_event - something that happened during a span, at this moment
 * Sent as an observation of type EVENT below the span. `level` and `message` may be NULL. */
XTRACE_API int xtrace_span_event(xtrace_span *span, const char *name, const char *level, const char *message);

/* ---- metric points ------------------------------------------------------------------------------------------------- */

/* Labels of a metric point, as the original's tracing layer knows them; NULL: absent. */
typedef struct xtrace_metric_fields {
    size_t size;
    const char *session_id, *task_id, *model, *model_name, *provider, *agent_role, *tool_name, *status;
} xtrace_metric_fields;
/** xtrace_metric_fields_init - no labels */
XTRACE_API void xtrace_metric_fields_init_sized(xtrace_metric_fields *fields, size_t size);
#define xtrace_metric_fields_init(fields) xtrace_metric_fields_init_sized((fields), sizeof *(fields))

/** xtrace_metric_event - a point of a metric, at this moment
 * Labels: what `fields` (or NULL) gives, and trace_id of the thread's current span if that is recorded.
 * Returns: as xtrace_send_metric(3).
 * Thread-safety: safe. */
XTRACE_API int xtrace_metric_event(xtrace_tracer *tracer, const char *name, double value,
                                   const xtrace_metric_fields *fields, xtrace_error *error);

#ifdef __cplusplus
}
#endif
#endif
