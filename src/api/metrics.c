/* metrics.c -- names, query and daily. */
#include "api/api.h"

#include "api/app.h"
#include "api/params.h"
#include "base/clock.h"
#include "json/json_read.h"
#include "json/json_write.h"
#include "store/series_agg.h"

#define SERIES_MEMORY (UINT64_C(512) << 20) /* of one query's cells and values */

static enum http_result finish(const struct json_writer *w, struct xt_err *err) {
    if (jw_done(w))
        return HTTP_REPLY;
    xt_fail(err, XT_ESCHEMA, "answer too large");
    return HTTP_FAIL;
}

/* ---- names ---- */

static bool write_name(void *arg, struct str name) {
    jw_str(arg, name);
    return !((struct json_writer *)arg)->failed;
}

enum http_result metrics_names(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    struct json_writer w;
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    if (app->store->ops->metric_names(app->store, http_auth_of(req)->project, app_query_deadline(app), write_name, &w,
                                      err) != XT_OK)
        return HTTP_FAIL;
    jw_end(&w);
    jw_end(&w);
    return finish(&w, err);
}

/* ---- query ---- */

static const struct {
    const char *name;
    int64_t ns;
} steps[] = {
    { "1m", 60 * NS_PER_SEC }, { "5m", 300 * NS_PER_SEC }, { "1h", 3600 * NS_PER_SEC }, { "1d", NS_PER_DAY }
};
static const struct {
    const char *name;
    enum series_agg agg;
} aggs[] = { { "avg", AGG_AVG },   { "max", AGG_MAX }, { "min", AGG_MIN }, { "sum", AGG_SUM },
             { "last", AGG_LAST }, { "p50", AGG_P50 }, { "p90", AGG_P90 }, { "p99", AGG_P99 } };

static bool parse_step(struct str s, int64_t *ret) {
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (str_eq_c(str_trim(s), steps[i].name)) {
            *ret = steps[i].ns;
            return true;
        }
    return false;
}

static bool parse_agg(struct str s, enum series_agg *ret) {
    for (size_t i = 0; i < sizeof aggs / sizeof aggs[0]; i++)
        if (str_eq_nocase(str_trim(s), str_c(aggs[i].name))) {
            *ret = aggs[i].agg;
            return true;
        }
    return false;
}

/* jsonb containment over string labels: an object of strings filters, anything else matches nothing. */
static enum xt_code parse_labels(struct arena *a, struct str text, struct series_query *q, struct xt_err *err) {
    if (!str_has(text) || str_trim(text).n == 0)
        return XT_OK;
    char *padded = arena_bytes(a, text.n + JSON_PADDING);
    const struct json *v = NULL;
    if (!padded)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    memcpy(padded, text.p, text.n);
    memset(padded + text.n, 0, JSON_PADDING);
    struct json_opts opts = { .max_depth = 127 };
    struct xt_err why = { 0 };
    enum xt_code rc = json_parse(a, (struct str){ padded, text.n }, &opts, &v, &why);
    if (rc != XT_OK)
        return xt_fail(err, XT_EINVAL, "invalid labels json: %.200s", why.msg);
    q->match_none = v->type != JSON_OBJECT;
    size_t n = 0;
    for (const struct json *m = v->child; m; m = m->next)
        n++;
    struct label *labels = arena_new(a, struct label, n);
    if (!labels)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    n = 0;
    for (const struct json *m = v->type == JSON_OBJECT ? v->child : NULL; m; m = m->next) {
        if (m->type != JSON_STRING)
            q->match_none = true;
        labels[n++] = (struct label){ m->key, m->text };
    }
    q->nlabels = labels_sort(labels, n);
    q->labels = labels;
    return XT_OK;
}

static enum xt_code parse_query(struct http_req *req, struct series_query *q, struct xt_err *err) {
    struct str step = STR_LIT("1m"), agg = STR_LIT("avg"), labels = STR_NONE;
    q->from = q->to = TIME_NONE;
    const struct param params[] = {
        { "name", PARAM_STR, &q->name, true },
        { "from", PARAM_TIME, &q->from, false },
        { "to", PARAM_TIME, &q->to, false },
        { "labels", PARAM_STR, &labels, false },
        { "step", PARAM_STR, &step, false },
        { "agg", PARAM_STR, &agg, false },
        { "group_by", PARAM_STR, &q->group_by, false },
    };
    enum xt_code rc = params_read(req, params, sizeof params / sizeof params[0], err);
    if (rc != XT_OK)
        return rc;
    q->grouped = str_has(q->group_by);
    if (q->to == TIME_NONE)
        q->to = clock_now_ns();
    if (q->from == TIME_NONE)
        q->from = time_add(q->to, -3600 * NS_PER_SEC);
    if (q->from > q->to)
        return xt_fail(err, XT_EINVAL, "from must be <= to");
    if (!parse_step(step, &q->step))
        return xt_fail(err, XT_EINVAL, "invalid step, must be one of: 1m, 5m, 1h, 1d");
    if (!parse_agg(agg, &q->agg))
        return xt_fail(err, XT_EINVAL, "invalid agg, must be one of: avg, max, min, sum, last, p50, p90, p99");
    return parse_labels(http_arena(req), labels, q, err);
}

static void write_series(struct json_writer *w, const struct series_result *r) {
    char when[TIME_TEXT_MAX];
    jw_obj(w);
    jw_kv_raw(w, "labels", r->labels);
    jw_key(w, "values");
    jw_arr(w);
    for (size_t i = 0; i < r->nvalues; i++) {
        jw_obj(w);
        time_format_offset(r->values[i].timestamp, when);
        jw_kv_cstr(w, "timestamp", when);
        jw_kv_f64(w, "value", r->values[i].value);
        jw_end(w);
    }
    jw_end(w);
    jw_end(w);
}

static enum http_result answer_query(struct http_req *req, struct series_sink *sink, struct xt_err *err) {
    const struct series_result *results = NULL;
    size_t n = 0;
    int64_t latest = TIME_NONE;
    bool truncated = false;
    if (series_sink_finish(sink, &results, &n, &latest, &truncated, err) != XT_OK)
        return HTTP_FAIL;
    struct json_writer w;
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    for (size_t i = 0; i < n; i++)
        write_series(&w, &results[i]);
    jw_end(&w);
    jw_key(&w, "meta");
    jw_obj(&w);
    if (latest != TIME_NONE) {
        char when[TIME_TEXT_MAX];
        time_format_offset(latest, when);
        jw_kv_cstr(&w, "latest_ts", when);
    }
    jw_kv_i64(&w, "series_count", (int64_t)n);
    jw_kv_bool(&w, "truncated", truncated);
    jw_end(&w);
    jw_end(&w);
    return finish(&w, err);
}

enum http_result metrics_query(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    struct series_query q = {
        .project = http_auth_of(req)->project, .deadline = app_query_deadline(app), .max_points = 1000, .max_series = 50
    };
    if (parse_query(req, &q, err) != XT_OK)
        return HTTP_FAIL;
    struct series_sink *sink = series_sink_new(&q, SERIES_MEMORY);
    if (!sink) {
        xt_fail(err, XT_ENOMEM, "out of memory");
        return HTTP_FAIL;
    }
    enum http_result r = HTTP_FAIL;
    if (app->store->ops->series(app->store, &q, sink, err) == XT_OK)
        r = answer_query(req, sink, err);
    series_sink_free(sink);
    return r;
}

/* ---- daily ---- */

static bool write_day(void *arg, const struct day_row *d) {
    struct json_writer *w = arg;
    char date[TIME_TEXT_MAX];
    time_format_date(d->day, date);
    jw_obj(w);
    jw_kv_cstr(w, "date", date);
    jw_kv_i64(w, "countTraces", d->traces);
    jw_kv_i64(w, "countObservations", d->observations);
    jw_key(w, "totalCost");
    jw_money(w, d->cost);
    jw_key(w, "usage");
    jw_arr(w);
    for (size_t i = 0; i < d->nusage; i++) {
        const struct day_usage *u = &d->usage[i];
        jw_obj(w);
        jw_kv_i64(w, "countObservations", u->observations);
        jw_kv_i64(w, "countTraces", u->traces);
        jw_kv_i64(w, "inputUsage", u->tokens_in);
        jw_kv_str(w, "model", u->model);
        jw_kv_i64(w, "outputUsage", u->tokens_out);
        jw_key(w, "totalCost");
        jw_money(w, u->cost);
        jw_kv_i64(w, "totalUsage", u->tokens_total);
        jw_end(w);
    }
    jw_end(w);
    jw_end(w);
    return !w->failed;
}

enum http_result metrics_daily(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    const struct http_auth *auth = http_auth_of(req);
    struct daily_query q = {
        .project = auth->project, .from = TIME_NONE, .to = TIME_NONE, .deadline = app_query_deadline(app)
    };
    struct param_i64 page = { 0 }, limit = { 0 };
    struct param_list tags = { 0 };
    const struct param params[] = {
        { "page", PARAM_I64, &page, false },
        { "limit", PARAM_I64, &limit, false },
        { "traceName", PARAM_STR, &q.trace_name, false },
        { "userId", PARAM_STR, &q.user, false },
        { "tags", PARAM_LIST, &tags, false },
        { "fromTimestamp", PARAM_TIME, &q.from, false },
        { "toTimestamp", PARAM_TIME, &q.to, false },
        { "version", PARAM_STR, &q.version, false },
        { "release", PARAM_STR, &q.release, false },
        { "projectId", PARAM_STR, &q.label, false },
    };
    if (params_read(req, params, sizeof params / sizeof params[0], err) != XT_OK)
        return HTTP_FAIL;
    if (q.to == TIME_NONE)
        q.to = clock_now_ns();
    if (q.from == TIME_NONE)
        q.from = time_add(q.to, -30 * NS_PER_DAY);
    q.to = params_upper_bound(q.to);
    q.label = app_label(app, auth, q.label);
    struct page p = page_of(page, limit);
    q.tags = tags.v, q.ntags = tags.n;
    q.offset = p.offset, q.limit = p.limit;
    int64_t total = 0;
    struct json_writer w;
    jw_init(&w, http_reply_buf(req));
    jw_obj(&w);
    jw_key(&w, "data");
    jw_arr(&w);
    if (app->store->ops->daily(app->store, &q, write_day, &w, &total, err) != XT_OK)
        return HTTP_FAIL;
    jw_end(&w);
    jw_key(&w, "meta");
    page_write_meta(&w, &p, total);
    jw_end(&w);
    return finish(&w, err);
}
