/* calls.c -- the public calls: arguments -> request -> answer, with retries. */
#include <stdio.h>
#include <time.h>

#include "answer.h"
#include "base/clock.h"
#include "base/codec.h"
#include "client.h"
#include "record.h"

#define BODY_MAX ((size_t)256 << 20)

/* ---- one call with its retries ---- */

struct attempt_policy {
    int max_attempts, timeout_ms;
    bool once; /* points: repeat only what the server certainly did not keep */
};

static int policy_of(const struct xtrace_client *c, const xtrace_call *call, struct attempt_policy *ret,
                     xtrace_error *error) {
    xtrace_call k;

    *ret = (struct attempt_policy){ c->o.max_attempts, c->o.timeout_ms, false };
    if (!call)
        return XTRACE_OK;
    if (call->size < sizeof(size_t) || call->size > 65536)
        return error_argument(error, "call.size", "call xtrace_call_init first");
    xtrace_call_init(&k);
    memcpy(&k, call, call->size < sizeof k ? call->size : sizeof k);
    if (k.timeout_ms < 0 || k.max_attempts < 0)
        return error_argument(error, k.timeout_ms < 0 ? "call.timeout_ms" : "call.max_attempts", "negative");
    if (k.timeout_ms)
        ret->timeout_ms = k.timeout_ms;
    if (k.max_attempts)
        ret->max_attempts = k.max_attempts;
    return XTRACE_OK;
}

static void wait_ms(int ms) {
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };
    while (nanosleep(&t, &t) != 0) {}
}

/* On XTRACE_OK the answer's status is 2xx. The caller ends *a with answer_done in any case. */
static int call_server(struct xtrace_client *c, struct http_request *q, const struct attempt_policy *p,
                       struct http_answer *a, xtrace_error *error) {
    q->deadline_ns = clock_mono_ns() + (int64_t)p->timeout_ms * 1000000;
    q->timeout_ms = p->timeout_ms;
    q->once = p->once;
    for (int attempt = 1;; attempt++) {
        int code = client_request(c, q, a, error);
        if (code == XTRACE_OK && a->status >= 200 && a->status < 300)
            return XTRACE_OK;
        if (code == XTRACE_OK)
            code = answer_error(a, error);
        if (attempt >= p->max_attempts || !answer_temporary(a) || (p->once && !answer_kept_nothing(a)))
            return code;
        const int wait = retry_wait_ms(c->o.retry_min_ms, c->o.retry_max_ms, attempt, a->retry_after_s,
                                       random_u64(fork_guard_epoch(c->guard)));
        if (clock_mono_ns() + (int64_t)wait * 1000000 >= q->deadline_ns)
            return code;
        log_to(&c->logger, XTRACE_LOG_INFO, "%s: %s; again in %d ms", q->path, error ? error->message : "failed", wait);
        answer_done(a);
        wait_ms(wait);
    }
}

/* ---- query strings ---- */

#define PARAMETER_MAX ((size_t)64 << 10) /* bytes of one value */

/* A path with its query while it is put together. */
struct path {
    struct buf b;
    const char *bad; /* the first parameter that cannot be sent */
};

static void add_escaped(struct buf *b, const char *text) {
    static const char hex[] = "0123456789ABCDEF";

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._~", *p)) {
            buf_add_char(b, (char)*p);
        } else {
            const char escaped[3] = { '%', hex[*p >> 4], hex[*p & 15] };
            buf_add(b, escaped, sizeof escaped);
        }
    }
}

static void add_parameter(struct path *p, const char *name, const char *value) {
    struct buf *b = &p->b;

    if (!value)
        return;
    if (strnlen(value, PARAMETER_MAX + 1) > PARAMETER_MAX || !utf8_valid(str_c(value))) {
        p->bad = p->bad ? p->bad : name;
        return;
    }
    buf_add_char(b, memchr(b->p, '?', b->n) ? '&' : '?');
    buf_add_c(b, name);
    buf_add_char(b, '=');
    add_escaped(b, value);
}

static void add_number(struct path *p, const char *name, int64_t v) {
    char text[24];

    (void)snprintf(text, sizeof text, "%lld", (long long)v);
    if (v != 0)
        add_parameter(p, name, text);
}

static void add_time(struct path *p, const char *name, int64_t ns) {
    char text[TIME_TEXT_MAX];

    if (ns == XTRACE_TIME_NONE)
        return;
    text[time_format_offset(ns, text)] = '\0';
    add_parameter(p, name, text);
}

static int add_list(struct path *p, const char *name, const char *const *list, size_t n, xtrace_error *error) {
    if (n > 0 && !list)
        return error_argument(error, name, "NULL, but not empty");
    for (size_t i = 0; i < n; i++) {
        if (!list[i])
            return error_argument(error, name, "an element is NULL");
        add_parameter(p, name, list[i]);
    }
    return XTRACE_OK;
}

#define QUERY_INIT(T)                                                     \
    void T##_init_sized(T *query, size_t size) {                          \
        const T q = { .from = XTRACE_TIME_NONE, .to = XTRACE_TIME_NONE }; \
        init_sized(query, size, &q, sizeof q);                            \
    }
QUERY_INIT(xtrace_trace_query)
QUERY_INIT(xtrace_daily_query)
QUERY_INIT(xtrace_metric_query)

/* The caller's query as ours: missing members keep their defaults. */
static int take_query(const void *given, void *ours, size_t size, xtrace_error *error) {
    size_t theirs;

    if (!given)
        return XTRACE_OK;
    memcpy(&theirs, given, sizeof theirs);
    if (theirs < sizeof theirs || theirs > 65536)
        return error_argument(error, "query.size", "call its _init function first");
    memcpy(ours, given, theirs < size ? theirs : size);
    return XTRACE_OK;
}

/* ---- reads ---- */

typedef int answer_reader(const char *json, size_t n, void **ret, xtrace_error *error);

/* GET of the path (freed here), its answer read into *ret. */
static int get(struct xtrace_client *c, struct path *path, const xtrace_call *call, answer_reader *read, void **ret,
               xtrace_error *error) {
    struct attempt_policy p;
    struct http_answer a = { 0 };
    int code = policy_of(c, call, &p, error);

    if (code == XTRACE_OK && path->bad)
        code = error_argument(error, path->bad, "not UTF-8, or longer than %zu bytes", PARAMETER_MAX);
    if (code == XTRACE_OK && path->b.failed)
        code = error_set(error, XTRACE_ENOMEM, "no memory");
    if (code == XTRACE_OK) {
        struct http_request q = { .method = "GET", .path = path->b.p };
        code = call_server(c, &q, &p, &a, error);
        if (code == XTRACE_OK && read)
            code = read(a.body.p, a.body.n, ret, error);
        answer_done(&a);
    }
    buf_done(&path->b);
    return code;
}

/* Each reader through the type of pointers that get() knows. */
#define READER(name, T)                                                                   \
    static int read_##name(const char *json, size_t n, void **ret, xtrace_error *error) { \
        return answer_##name(json, n, (T **)ret, error);                                  \
    }
READER(trace_list, xtrace_trace_list)
READER(trace_detail, xtrace_trace_detail)
READER(daily, xtrace_daily_list)
READER(metrics, xtrace_metric_result)
READER(names, xtrace_name_list)

/* Checks what every call needs, and begins a path. */
static int begin(const xtrace_client *c, void *ret_place, struct path *p, const char *path, xtrace_error *error) {
    error_clear(error);
    if (ret_place)
        *(void **)ret_place = NULL;
    if (!c)
        return error_argument(error, "client", "NULL");
    if (p) {
        p->bad = NULL;
        buf_init(&p->b, (size_t)1 << 20);
        buf_add_c(&p->b, path);
    }
    return XTRACE_OK;
}

int xtrace_healthz(xtrace_client *c, const xtrace_call *call, xtrace_error *error) {
    struct path p;
    int code = begin(c, NULL, &p, "/healthz", error);

    return code == XTRACE_OK ? get(c, &p, call, NULL, NULL, error) : code;
}

int xtrace_list_traces(xtrace_client *c, const xtrace_trace_query *query, xtrace_trace_list **list,
                       const xtrace_call *call, xtrace_error *error) {
    xtrace_trace_query q;
    struct path p;
    int code;

    if (!list)
        return error_clear(error), error_argument(error, "list", "NULL");
    code = begin(c, list, &p, "/api/public/traces", error);
    if (code != XTRACE_OK)
        return code;
    xtrace_trace_query_init(&q);
    code = take_query(query, &q, sizeof q, error);
    if (code == XTRACE_OK) {
        add_number(&p, "page", q.page);
        add_number(&p, "limit", q.limit);
        add_parameter(&p, "userId", q.user_id);
        add_parameter(&p, "name", q.name);
        add_parameter(&p, "sessionId", q.session_id);
        add_parameter(&p, "version", q.version);
        add_parameter(&p, "release", q.release);
        add_parameter(&p, "projectId", q.project_id);
        add_parameter(&p, "orderBy", q.order_by);
        add_parameter(&p, "fields", q.fields);
        add_time(&p, "fromTimestamp", q.from);
        add_time(&p, "toTimestamp", q.to);
        code = add_list(&p, "tags", q.tags, q.tag_count, error);
    }
    if (code == XTRACE_OK)
        code = add_list(&p, "environment", q.environments, q.environment_count, error);
    if (code == XTRACE_OK)
        return get(c, &p, call, read_trace_list, (void **)list, error);
    buf_done(&p.b);
    return code;
}

int xtrace_get_trace(xtrace_client *c, const char *id, xtrace_trace_detail **detail, const xtrace_call *call,
                     xtrace_error *error) {
    struct path p;
    int code;

    error_clear(error);
    if (!detail)
        return error_argument(error, "detail", "NULL");
    *detail = NULL;
    if (!id || !*id || strnlen(id, 801) > 800)
        return error_argument(error, "id", id && *id ? "longer than 800 bytes" : "missing");
    code = begin(c, detail, &p, "/api/public/traces/", error);
    if (code != XTRACE_OK)
        return code;
    add_escaped(&p.b, id);
    return get(c, &p, call, read_trace_detail, (void **)detail, error);
}

int xtrace_metrics_daily(xtrace_client *c, const xtrace_daily_query *query, xtrace_daily_list **list,
                         const xtrace_call *call, xtrace_error *error) {
    xtrace_daily_query q;
    struct path p;
    int code;

    if (!list)
        return error_clear(error), error_argument(error, "list", "NULL");
    code = begin(c, list, &p, "/api/public/metrics/daily", error);
    if (code != XTRACE_OK)
        return code;
    xtrace_daily_query_init(&q);
    code = take_query(query, &q, sizeof q, error);
    if (code == XTRACE_OK) {
        add_number(&p, "page", q.page);
        add_number(&p, "limit", q.limit);
        add_parameter(&p, "traceName", q.trace_name);
        add_parameter(&p, "userId", q.user_id);
        add_parameter(&p, "version", q.version);
        add_parameter(&p, "release", q.release);
        add_time(&p, "fromTimestamp", q.from);
        add_time(&p, "toTimestamp", q.to);
        code = add_list(&p, "tags", q.tags, q.tag_count, error);
    }
    if (code == XTRACE_OK)
        return get(c, &p, call, read_daily, (void **)list, error);
    buf_done(&p.b);
    return code;
}

/* {"name":"value",...}, the labels parameter. */
static int add_labels(struct path *p, const xtrace_label *labels, size_t n, xtrace_error *error) {
    struct json_writer w;
    struct buf text;

    if (n == 0)
        return XTRACE_OK;
    if (!labels)
        return error_argument(error, "labels", "NULL, but not empty");
    buf_init(&text, (size_t)1 << 20);
    jw_init(&w, &text);
    jw_obj(&w);
    for (size_t i = 0; i < n; i++) {
        if (!labels[i].name || !labels[i].value || !utf8_valid(str_c(labels[i].name)) ||
            !utf8_valid(str_c(labels[i].value))) {
            buf_done(&text);
            return error_argument(error, "labels", "an element is NULL or not UTF-8");
        }
        jw_kv_cstr(&w, labels[i].name, labels[i].value);
    }
    jw_end(&w);
    if (!jw_done(&w))
        p->b.failed = true;
    else
        add_parameter(p, "labels", text.p);
    buf_done(&text);
    return XTRACE_OK;
}

int xtrace_query_metrics(xtrace_client *c, const xtrace_metric_query *query, xtrace_metric_result **result,
                         const xtrace_call *call, xtrace_error *error) {
    xtrace_metric_query q;
    struct path p;
    int code;

    if (!result)
        return error_clear(error), error_argument(error, "result", "NULL");
    code = begin(c, result, &p, "/api/public/metrics/query", error);
    if (code != XTRACE_OK)
        return code;
    xtrace_metric_query_init(&q);
    code = take_query(query, &q, sizeof q, error);
    if (code == XTRACE_OK && !q.name)
        code = error_argument(error, "query.name", "missing");
    if (code == XTRACE_OK) {
        add_parameter(&p, "name", q.name);
        add_time(&p, "from", q.from);
        add_time(&p, "to", q.to);
        add_parameter(&p, "step", q.step);
        add_parameter(&p, "agg", q.agg);
        add_parameter(&p, "group_by", q.group_by);
        code = add_labels(&p, q.labels, q.label_count, error);
    }
    if (code == XTRACE_OK)
        return get(c, &p, call, read_metrics, (void **)result, error);
    buf_done(&p.b);
    return code;
}

int xtrace_list_metric_names(xtrace_client *c, xtrace_name_list **list, const xtrace_call *call, xtrace_error *error) {
    struct path p;
    int code;

    if (!list)
        return error_clear(error), error_argument(error, "list", "NULL");
    code = begin(c, list, &p, "/api/public/metrics/names", error);
    return code == XTRACE_OK ? get(c, &p, call, read_names, (void **)list, error) : code;
}

/* ---- writes ---- */

/* The i-th element of an array whose elements are as long as the first one says. */
static const void *element(const void *array, size_t i) {
    size_t stride;
    memcpy(&stride, array, sizeof stride);
    return (const char *)array + i * stride;
}

/* Checks and encodes an array of records as elements of an open JSON list. */
static int encode_array(struct json_writer *w, enum record_kind kind, const char *name, const void *array, size_t n,
                        xtrace_error *error) {
    char prefix[48];
    union any_record v;

    if (n > 0 && !array)
        return error_argument(error, name, "NULL, but not empty");
    for (size_t i = 0; i < n; i++) {
        struct buf p;
        buf_init(&p, sizeof prefix);
        buf_printf(&p, "%s[%zu].", name, i);
        int code = XTRACE_OK;
        if (p.failed)
            code = error_set(error, XTRACE_ENOMEM, "no memory");
        else if (!record_take(kind, element(array, i), &v) || memcmp(element(array, i), array, sizeof(size_t)) != 0)
            code = error_argument(error, name, "element %zu: call its _init function first", i);
        else
            code = record_check(kind, &v, p.p, BODY_MAX, error);
        buf_done(&p);
        if (code != XTRACE_OK)
            return code;
        if (kind == RECORD_METRIC && v.metric.timestamp == XTRACE_TIME_NONE)
            v.metric.timestamp = clock_now_ns();
        record_encode(w, kind, &v, NULL);
        if (w->out->failed && w->out->n > BODY_MAX / 2)
            return error_argument(error, name, "the request would be longer than %zu bytes", BODY_MAX);
    }
    return XTRACE_OK;
}

static int post(struct xtrace_client *c, const char *path, const struct buf *body, const struct attempt_policy *p,
                xtrace_ingest_result **result, xtrace_error *error) {
    struct http_request q = { .method = "POST", .path = path, .body = body->p, .body_bytes = body->n };
    xtrace_ingest_result *told = NULL;
    struct http_answer a;
    int code = call_server(c, &q, p, &a, error);

    if (code == XTRACE_OK)
        code = answer_ingest(a.body.p, a.body.n, &told, error);
    if (code == XTRACE_OK && told->count > 0) {
        code = error_set(error, XTRACE_EPARTIAL, "%zu records refused; the first: %s", told->count,
                         told->refusals[0].message ? told->refusals[0].message : "");
    }
    answer_done(&a);
    if (result)
        *result = told;
    else
        xtrace_ingest_result_free(told);
    return code;
}

int xtrace_ingest_batch(xtrace_client *c, const xtrace_trace *trace, const xtrace_observation *observations,
                        size_t count, xtrace_ingest_result **result, const xtrace_call *call, xtrace_error *error) {
    struct attempt_policy p;
    union any_record v;
    struct json_writer w;
    struct buf body;
    int code = begin(c, result, NULL, NULL, error);

    if (code == XTRACE_OK)
        code = policy_of(c, call, &p, error);
    if (code != XTRACE_OK)
        return code;
    buf_init(&body, BODY_MAX);
    jw_init(&w, &body);
    jw_obj(&w);
    if (trace) {
        code = record_take(RECORD_TRACE, trace, &v) ? record_check(RECORD_TRACE, &v, "trace.", BODY_MAX, error)
                                                    : error_argument(error, "trace", "call xtrace_trace_init first");
        jw_key(&w, "trace");
        if (code == XTRACE_OK)
            record_encode(&w, RECORD_TRACE, &v, NULL);
    }
    if (code == XTRACE_OK) {
        jw_key(&w, "observations");
        jw_arr(&w);
        code = encode_array(&w, RECORD_OBSERVATION, "observations", observations, count, error);
        jw_end(&w);
        jw_end(&w);
    }
    if (code == XTRACE_OK && !jw_done(&w))
        code = error_set(error, XTRACE_ENOMEM, "no memory");
    if (code == XTRACE_OK)
        code = post(c, "/v1/l/batch", &body, &p, result, error);
    buf_done(&body);
    return code;
}

int xtrace_push_metrics(xtrace_client *c, const xtrace_metric *metrics, size_t count, const xtrace_call *call,
                        xtrace_error *error) {
    struct attempt_policy p;
    struct json_writer w;
    struct buf body;
    int code = begin(c, NULL, NULL, NULL, error);

    if (code == XTRACE_OK)
        code = policy_of(c, call, &p, error);
    if (code != XTRACE_OK)
        return code;
    p.once = true;
    buf_init(&body, BODY_MAX);
    jw_init(&w, &body);
    jw_obj(&w);
    jw_key(&w, "metrics");
    jw_arr(&w);
    code = encode_array(&w, RECORD_METRIC, "metrics", metrics, count, error);
    jw_end(&w);
    jw_end(&w);
    if (code == XTRACE_OK && !jw_done(&w))
        code = error_set(error, XTRACE_ENOMEM, "no memory");
    if (code == XTRACE_OK)
        code = post(c, "/v1/metrics/batch", &body, &p, NULL, error);
    buf_done(&body);
    return code;
}
