/* answer.c -- reading answers with jansson, by tables of fields. */
#include "answer.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/codec.h"
#include "exact.h"
#include "process.h"

/* Room of one result: many times the text it comes from, bounded by it. */
#define ARENA_PER_BYTE 64
#define ARENA_MIN ((size_t)1 << 20)

enum read_type { R_TEXT, R_JSON, R_TIME, R_F64, R_I64, R_BOOL, R_VERSION };
struct row {
    const char *key;
    enum read_type type;
    bool required;
    size_t at;
};

/* ---- the tables ---- */

#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_trace_item, field) }
static const struct row trace_rows[] = {
    I("id", R_TEXT, true, id),
    I("timestamp", R_TIME, true, timestamp),
    I("name", R_TEXT, false, name),
    I("userId", R_TEXT, false, user_id),
    I("sessionId", R_TEXT, false, session_id),
    I("release", R_TEXT, false, release),
    I("version", R_TEXT, false, version),
    I("environment", R_TEXT, false, environment),
    I("externalId", R_TEXT, false, external_id),
    I("projectId", R_TEXT, false, project_id),
    I("htmlPath", R_TEXT, false, html_path),
    I("createdAt", R_TIME, false, created_at),
    I("updatedAt", R_TIME, false, updated_at),
    I("input", R_JSON, false, input_json),
    I("output", R_JSON, false, output_json),
    I("metadata", R_JSON, false, metadata_json),
    I("public", R_BOOL, false, is_public),
    I("bookmarked", R_BOOL, false, bookmarked),
    I("latency", R_F64, false, latency),
    I("totalCost", R_F64, false, total_cost),
};
#undef I
#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_observation_item, field) }
static const struct row observation_rows[] = {
    I("id", R_TEXT, true, id),
    I("traceId", R_TEXT, false, trace_id),
    I("parentObservationId", R_TEXT, false, parent_id),
    I("type", R_TEXT, false, type),
    I("name", R_TEXT, false, name),
    I("level", R_TEXT, false, level),
    I("statusMessage", R_TEXT, false, status_message),
    I("environment", R_TEXT, false, environment),
    I("startTime", R_TIME, false, start_time),
    I("endTime", R_TIME, false, end_time),
    I("completionStartTime", R_TIME, false, completion_start_time),
    I("model", R_TEXT, false, model),
    I("modelParameters", R_JSON, false, model_parameters_json),
    I("input", R_JSON, false, input_json),
    I("output", R_JSON, false, output_json),
    I("usage", R_JSON, false, usage_json),
    I("metadata", R_JSON, false, metadata_json),
    I("usageDetails", R_JSON, false, usage_details_json),
    I("costDetails", R_JSON, false, cost_details_json),
    I("promptId", R_TEXT, false, prompt_id),
    I("promptName", R_TEXT, false, prompt_name),
    I("promptVersion", R_VERSION, false, prompt_version),
    I("modelId", R_TEXT, false, model_id),
    I("inputPrice", R_F64, false, input_price),
    I("outputPrice", R_F64, false, output_price),
    I("totalPrice", R_F64, false, total_price),
    I("calculatedInputCost", R_F64, false, input_cost),
    I("calculatedOutputCost", R_F64, false, output_cost),
    I("calculatedTotalCost", R_F64, false, total_cost),
    I("latency", R_F64, false, latency),
    I("timeToFirstToken", R_F64, false, time_to_first_token),
    I("promptTokens", R_I64, false, prompt_tokens),
    I("completionTokens", R_I64, false, completion_tokens),
    I("totalTokens", R_I64, false, total_tokens),
};
#undef I
#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_page_meta, field) }
static const struct row meta_rows[] = {
    I("page", R_I64, true, page),
    I("limit", R_I64, true, limit),
    I("totalItems", R_I64, true, total_items),
    I("totalPages", R_I64, true, total_pages),
};
#undef I
#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_day, field) }
static const struct row day_rows[] = {
    I("date", R_TEXT, true, date),
    I("countTraces", R_I64, true, traces),
    I("countObservations", R_I64, true, observations),
    I("totalCost", R_F64, false, total_cost),
};
#undef I
#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_daily_usage, field) }
static const struct row usage_rows[] = {
    I("model", R_TEXT, false, model),
    I("countObservations", R_I64, false, observations),
    I("countTraces", R_I64, false, traces),
    I("inputUsage", R_I64, false, input_usage),
    I("outputUsage", R_I64, false, output_usage),
    I("totalUsage", R_I64, false, total_usage),
    I("totalCost", R_F64, false, total_cost),
};
#undef I
#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_refusal, field) }
static const struct row refusal_rows[] = {
    I("kind", R_TEXT, false, kind),
    I("index", R_I64, false, index),
    I("id", R_TEXT, false, id),
    I("message", R_TEXT, false, message),
};
#undef I
#define I(key, type, required, field) \
    { key, type, required, offsetof(xtrace_point, field) }
static const struct row point_rows[] = {
    I("timestamp", R_TIME, true, timestamp),
    I("value", R_F64, true, value),
};
#undef I
#define ROWS(t) (t), sizeof(t) / sizeof *(t)

/* ---- reading ---- */

struct reading {
    struct arena *a;
    xtrace_error *error;
    const struct exact *exact;
};

static int no_memory(const struct reading *r) { return error_set(r->error, XTRACE_ENOMEM, "no memory"); }
static int unfit(const struct reading *r, const char *what) {
    return error_set(r->error, XTRACE_EANSWER, "the answer has no usable `%s`", what);
}

/* Text of a JSON string up to its first NUL; the public structures hold C strings. */
static const char *text_of(const struct reading *r, const json_t *v) {
    return arena_str(r->a, (struct str){ json_string_value(v), json_string_length(v) }).p;
}

/* The value as JSON text in the arena, its numbers as they were sent. */
static int json_of(const struct reading *r, const json_t *v, const char **ret) {
    char *printed = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    struct buf text;

    buf_init(&text, SIZE_MAX / 2);
    if (printed)
        exact_restore(r->exact, str_c(printed), &text);
    *ret = printed && !text.failed ? arena_str(r->a, buf_str(&text)).p : NULL;
    buf_done(&text);
    free(printed);
    return *ret ? XTRACE_OK : no_memory(r);
}

static bool time_of(const json_t *v, int64_t *ret) {
    return json_is_string(v) &&
           time_parse_rfc3339((struct str){ json_string_value(v), json_string_length(v) }, ret) != TIME_SYNTAX;
}

/* Reads one value into its member; *ret_has: it was there and of the right type. */
static int read_value(const struct reading *r, const struct row *f, const json_t *v, void *member, bool *ret_has) {
    char number[32];

    *ret_has = true;
    switch (f->type) {
    case R_TEXT:
    case R_VERSION:
        if (f->type == R_VERSION && json_is_integer(v)) { /* an integer, or text */
            (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
            *(const char **)member = arena_str(r->a, str_c(number)).p;
            return *(const char **)member ? XTRACE_OK : no_memory(r);
        }
        if (!json_is_string(v) || str_has(exact_text(r->exact, v)))
            break;
        *(const char **)member = text_of(r, v);
        return *(const char **)member ? XTRACE_OK : no_memory(r);
    case R_JSON:
        if (!v || json_is_null(v))
            break;
        return json_of(r, v, member);
    case R_TIME:
        if (!time_of(v, member))
            break;
        return XTRACE_OK;
    case R_F64:
        if (!exact_f64(r->exact, v, member))
            break;
        return XTRACE_OK;
    case R_I64:
        if (!json_is_integer(v))
            break;
        *(int64_t *)member = json_integer_value(v);
        return XTRACE_OK;
    case R_BOOL:
        if (!json_is_boolean(v))
            break;
        *(int *)member = json_is_true(v);
        return XTRACE_OK;
    }
    *ret_has = false;
    return XTRACE_OK;
}

static void absent(const struct row *f, void *member) {
    switch (f->type) {
    case R_TEXT:
    case R_VERSION:
    case R_JSON: *(const char **)member = NULL; break;
    case R_TIME:
    case R_I64: *(int64_t *)member = INT64_MIN; break;
    case R_F64: *(double *)member = NAN; break;
    case R_BOOL: *(int *)member = -1; break;
    }
}

static int read_rows(const struct reading *r, const struct row *rows, size_t n, const json_t *object, void *out) {
    for (size_t i = 0; i < n; i++) {
        const struct row *f = &rows[i];
        void *member = (char *)out + f->at;
        bool has;

        absent(f, member);
        int code = read_value(r, f, json_object_get(object, f->key), member, &has);
        if (code != XTRACE_OK)
            return code;
        if (!has && f->required)
            return unfit(r, f->key);
    }
    return XTRACE_OK;
}

/* Reads `list` (absent: empty) as an array of elements of `size` bytes, each by `read`. */
typedef int read_element(const struct reading *r, const json_t *v, void *out);
static int read_list(const struct reading *r, const json_t *list, size_t size, read_element *read, const void **ret,
                     size_t *ret_n) {
    const size_t n = json_array_size(list);
    char *out = arena_alloc(r->a, n, size, _Alignof(max_align_t));

    *ret = out;
    *ret_n = n;
    if (!out)
        return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        int code = read(r, json_array_get(list, i), out + i * size);
        if (code != XTRACE_OK)
            return code;
    }
    return XTRACE_OK;
}
#define READ_LIST(r, list, T, read, field, count) \
    read_list((r), (list), sizeof(T), (read), (const void **)(void *)&(field), &(count))

static int read_text(const struct reading *r, const json_t *v, void *out) {
    if (!json_is_string(v) || str_has(exact_text(r->exact, v)))
        return unfit(r, "text in a list");
    *(const char **)out = text_of(r, v);
    return *(const char **)out ? XTRACE_OK : no_memory(r);
}

/* ---- the shapes ---- */

static int read_trace(const struct reading *r, const json_t *v, void *out) {
    xtrace_trace_item *t = out;
    const json_t *observations = json_object_get(v, "observations");
    int code = read_rows(r, ROWS(trace_rows), v, t);

    if (code == XTRACE_OK)
        code = READ_LIST(r, json_object_get(v, "tags"), const char *, read_text, t->tags, t->tag_count);
    if (code == XTRACE_OK && json_is_string(json_array_get(observations, 0)))
        code = READ_LIST(r, observations, const char *, read_text, t->observation_ids, t->observation_count);
    return code;
}

static int read_observation(const struct reading *r, const json_t *v, void *out) {
    return read_rows(r, ROWS(observation_rows), v, out);
}

static int read_usage(const struct reading *r, const json_t *v, void *out) {
    return read_rows(r, ROWS(usage_rows), v, out);
}

static int read_day(const struct reading *r, const json_t *v, void *out) {
    xtrace_day *d = out;
    int code = read_rows(r, ROWS(day_rows), v, d);

    return code == XTRACE_OK
               ? READ_LIST(r, json_object_get(v, "usage"), xtrace_daily_usage, read_usage, d->usage, d->usage_count)
               : code;
}

static int read_point(const struct reading *r, const json_t *v, void *out) {
    return read_rows(r, ROWS(point_rows), v, out);
}

static int read_series(const struct reading *r, const json_t *v, void *out) {
    xtrace_series *s = out;
    json_t *labels = json_object_get(v, "labels"), *value;
    const char *key;
    xtrace_label *list = arena_new(r->a, xtrace_label, json_object_size(labels));

    if (!list)
        return no_memory(r);
    s->labels = list;
    s->label_count = 0;
    json_object_foreach(labels, key, value) {
        list[s->label_count].name = arena_str(r->a, str_c(key)).p;
        list[s->label_count].value =
            json_is_string(value) && !str_has(exact_text(r->exact, value)) ? text_of(r, value) : NULL;
        if (!list[s->label_count].name || r->a->failed)
            return no_memory(r);
        s->label_count++;
    }
    return READ_LIST(r, json_object_get(v, "values"), xtrace_point, read_point, s->points, s->point_count);
}

static int read_refusal(const struct reading *r, const json_t *v, void *out) {
    return read_rows(r, ROWS(refusal_rows), v, out);
}

/* ---- results ---- */

/* A result and the arena behind it. */
struct result {
    union {
        xtrace_trace_list traces;
        xtrace_trace_detail detail;
        xtrace_daily_list daily;
        xtrace_metric_result metrics;
        xtrace_name_list names;
        xtrace_ingest_result ingest;
    } v;
    struct arena arena;
};

static void result_free(void *public) {
    struct result *r = public;
    if (!r)
        return;
    arena_done(&r->arena);
    free(r);
}
void xtrace_trace_list_free(xtrace_trace_list *list) { result_free(list); }
void xtrace_trace_detail_free(xtrace_trace_detail *detail) { result_free(detail); }
void xtrace_daily_list_free(xtrace_daily_list *list) { result_free(list); }
void xtrace_metric_result_free(xtrace_metric_result *result) { result_free(result); }
void xtrace_name_list_free(xtrace_name_list *list) { result_free(list); }
void xtrace_ingest_result_free(xtrace_ingest_result *result) { result_free(result); }

/* The document with its numbers marked. NULL: not JSON, or no memory. */
static json_t *parse(const struct exact *x, const char *json, size_t n) {
    json_error_t why;
    struct buf marked;
    json_t *root = NULL;

    buf_init(&marked, SIZE_MAX / 2);
    if (json)
        exact_mark(x, (struct str){ json, n }, &marked);
    if (marked.p && !marked.failed)
        root = json_loadb(marked.p, marked.n, JSON_ALLOW_NUL, &why);
    buf_done(&marked);
    return root;
}

typedef int read_result(const struct reading *r, const json_t *root, struct result *out);

static int read_answer(const char *json, size_t n, read_result *read, void **ret, xtrace_error *error) {
    struct exact exact;
    struct result *out;
    json_t *root;
    int code;

    *ret = NULL;
    exact_init(&exact, random_u64(1));
    root = parse(&exact, json, n);
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(error, XTRACE_EANSWER, "the answer is not a JSON object");
    }
    out = calloc(1, sizeof *out);
    if (!out) {
        json_decref(root);
        return error_set(error, XTRACE_ENOMEM, "no memory");
    }
    arena_init(&out->arena, n > (SIZE_MAX - ARENA_MIN) / ARENA_PER_BYTE ? SIZE_MAX : ARENA_MIN + n * ARENA_PER_BYTE);
    const struct reading r = { &out->arena, error, &exact };
    code = read(&r, root, out);
    json_decref(root);
    if (code != XTRACE_OK)
        result_free(out);
    else
        *ret = out;
    return code;
}

static int read_page(const struct reading *r, const json_t *root, xtrace_page_meta *meta) {
    if (!json_is_array(json_object_get(root, "data")))
        return unfit(r, "data");
    return read_rows(r, ROWS(meta_rows), json_object_get(root, "meta"), meta);
}

static int read_traces(const struct reading *r, const json_t *root, struct result *out) {
    int code = read_page(r, root, &out->v.traces.meta);
    return code == XTRACE_OK ? READ_LIST(r, json_object_get(root, "data"), xtrace_trace_item, read_trace,
                                         out->v.traces.items, out->v.traces.count)
                             : code;
}

static int read_detail(const struct reading *r, const json_t *root, struct result *out) {
    xtrace_trace_detail *d = &out->v.detail;
    int code = read_trace(r, root, &d->trace);
    return code == XTRACE_OK ? READ_LIST(r, json_object_get(root, "observations"), xtrace_observation_item,
                                         read_observation, d->observations, d->observation_count)
                             : code;
}

static int read_daily(const struct reading *r, const json_t *root, struct result *out) {
    int code = read_page(r, root, &out->v.daily.meta);
    return code == XTRACE_OK ? READ_LIST(r, json_object_get(root, "data"), xtrace_day, read_day, out->v.daily.days,
                                         out->v.daily.count)
                             : code;
}

static int read_metrics(const struct reading *r, const json_t *root, struct result *out) {
    xtrace_metric_result *m = &out->v.metrics;
    const json_t *meta = json_object_get(root, "meta");

    if (!json_is_array(json_object_get(root, "data")))
        return unfit(r, "data");
    if (!json_is_object(meta))
        return unfit(r, "meta");
    m->latest = XTRACE_TIME_NONE;
    (void)time_of(json_object_get(meta, "latest_ts"), &m->latest);
    m->truncated = json_is_true(json_object_get(meta, "truncated"));
    return READ_LIST(r, json_object_get(root, "data"), xtrace_series, read_series, m->series, m->count);
}

static int read_names(const struct reading *r, const json_t *root, struct result *out) {
    if (!json_is_array(json_object_get(root, "data")))
        return unfit(r, "data");
    return READ_LIST(r, json_object_get(root, "data"), const char *, read_text, out->v.names.names, out->v.names.count);
}

static int read_ingest(const struct reading *r, const json_t *root, struct result *out) {
    if (!json_is_string(json_object_get(root, "message")))
        return unfit(r, "message");
    return READ_LIST(r, json_object_get(root, "errors"), xtrace_refusal, read_refusal, out->v.ingest.refusals,
                     out->v.ingest.count);
}

int answer_trace_list(const char *json, size_t n, xtrace_trace_list **ret, xtrace_error *error) {
    return read_answer(json, n, read_traces, (void **)ret, error);
}
int answer_trace_detail(const char *json, size_t n, xtrace_trace_detail **ret, xtrace_error *error) {
    return read_answer(json, n, read_detail, (void **)ret, error);
}
int answer_daily(const char *json, size_t n, xtrace_daily_list **ret, xtrace_error *error) {
    return read_answer(json, n, read_daily, (void **)ret, error);
}
int answer_metrics(const char *json, size_t n, xtrace_metric_result **ret, xtrace_error *error) {
    return read_answer(json, n, read_metrics, (void **)ret, error);
}
int answer_names(const char *json, size_t n, xtrace_name_list **ret, xtrace_error *error) {
    return read_answer(json, n, read_names, (void **)ret, error);
}
int answer_ingest(const char *json, size_t n, xtrace_ingest_result **ret, xtrace_error *error) {
    return read_answer(json, n, read_ingest, (void **)ret, error);
}

static void cut_copy(char *out, size_t room, const json_t *text) {
    const struct str s = { json_string_value(text), json_string_length(text) };

    if (!s.p)
        return;
    const size_t n = utf8_cut(s, room - 1);
    memcpy(out, s.p, n);
    out[n] = '\0';
}

void answer_read_error(const char *json, size_t n, xtrace_error *error) {
    struct exact exact;
    json_t *root;

    exact_init(&exact, random_u64(1));
    root = parse(&exact, json, n);
    cut_copy(error->server_code, sizeof error->server_code, json_object_get(root, "code"));
    cut_copy(error->message, sizeof error->message, json_object_get(root, "message"));
    json_decref(root);
}
