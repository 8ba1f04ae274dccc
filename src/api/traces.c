/* traces.c -- GET /api/public/traces and /api/public/traces/:traceId, and an observation of them by
 * its id alone. */
#include "api/api.h"

#include <stdio.h>

#include "api/app.h"
#include "api/params.h"
#include "base/clock.h"
#include "json/json_write.h"

static void write_time(struct json_writer *w, const char *key, int64_t ns) {
    char text[TIME_TEXT_MAX];
    if (ns == TIME_NONE) {
        jw_kv_null(w, key);
        return;
    }
    time_format_z(ns, text);
    jw_kv_cstr(w, key, text);
}

static void write_f64(struct json_writer *w, const char *key, double v) {
    if (isnan(v))
        jw_kv_null(w, key);
    else
        jw_kv_f64(w, key, v);
}

/* A stated amount with more digits than we count in comes back as it was written (it is a JSON number). */
static void write_money(struct json_writer *w, const char *key, money v, bool known, struct str text) {
    jw_key(w, key);
    if (!known)
        jw_null(w);
    else if (str_has(text))
        jw_raw(w, text);
    else
        jw_money(w, v);
}

static void write_opt_money(struct json_writer *w, const char *key, const struct opt_money *m) {
    write_money(w, key, m->v, m->has, m->text);
}

/* ---- the trace object ---- */

struct shape {
    bool io, observations, metrics;
};

/* The keys that list items and the detail share, in the original's order, up to the observations. */
static void write_trace(struct json_writer *w, const struct trace_row *t, const struct shape *s, struct arena *a) {
    jw_kv_str(w, "id", t->id);
    write_time(w, "timestamp", t->timestamp);
    jw_kv_str(w, "name", t->name);
    if (s->io) {
        jw_kv_raw(w, "input", t->input);
        jw_kv_raw(w, "output", t->output);
    }
    jw_kv_str(w, "sessionId", t->session);
    jw_kv_str(w, "release", t->release);
    jw_kv_str(w, "version", t->version);
    jw_kv_str(w, "userId", t->user);
    if (s->io)
        jw_kv_raw(w, "metadata", t->metadata);
    jw_key(w, "tags");
    jw_arr(w);
    for (size_t i = 0; i < t->ntags; i++)
        jw_str(w, t->tags[i]);
    jw_end(w);
    jw_kv_bool(w, "public", t->is_public);
    jw_kv_str(w, "projectId", t->label);
    jw_kv_str(w, "externalId", t->external_id);
    jw_kv_bool(w, "bookmarked", t->bookmarked);
    jw_kv_str(w, "environment", t->environment);
    struct str path = arena_printf(a, "/project/%.*s/traces/%.*s", STR_FMT(t->label), STR_FMT(t->id));
    jw_kv_str(w, "htmlPath", str_has(path) ? path : STR_LIT(""));
    if (s->metrics) {
        write_f64(w, "latency", t->latency);
        write_money(w, "totalCost", t->cost, t->cost_known, t->cost_text);
    } else {
        jw_kv_f64(w, "latency", -1.0);
        jw_kv_f64(w, "totalCost", -1.0);
    }
    write_time(w, "createdAt", t->created);
    write_time(w, "updatedAt", t->updated);
}

static void write_scores(struct json_writer *w) { /* always a list; scores have no routes yet */
    jw_key(w, "scores");
    jw_arr(w);
    jw_end(w);
}

/* ---- list ---- */

struct list_arg {
    struct json_writer w;
    struct shape shape;
    struct arena *arena;
};

static bool list_item(void *arg, const struct trace_row *t) {
    struct list_arg *l = arg;
    jw_obj(&l->w);
    write_trace(&l->w, t, &l->shape, l->arena);
    jw_key(&l->w, "observations");
    jw_arr(&l->w);
    for (size_t i = 0; l->shape.observations && i < t->nobservation_ids; i++)
        jw_str(&l->w, t->observation_ids[i]);
    jw_end(&l->w);
    write_scores(&l->w);
    jw_end(&l->w);
    return !l->w.failed;
}

static const struct {
    const char *name;
    enum trace_order order;
    bool default_descending; /* for a direction that is neither asc nor desc */
} order_fields[] = {
    { "id", ORDER_ID, true },
    { "timestamp", ORDER_TIMESTAMP, true },
    { "name", ORDER_NAME, false },
    { "userId", ORDER_USER, false },
    { "user_id", ORDER_USER, false },
    { "release", ORDER_RELEASE, false },
    { "version", ORDER_VERSION, false },
    { "public", ORDER_PUBLIC, true },
    { "bookmarked", ORDER_BOOKMARKED, true },
    { "sessionId", ORDER_SESSION, false },
    { "session_id", ORDER_SESSION, false },
    { "latency", ORDER_LATENCY, true },
    { "totalCost", ORDER_TOTAL_COST, true },
    { "total_cost", ORDER_TOTAL_COST, true },
};

/* Contract 3.3: no dot is descending; an unknown direction is the field's own. */
static bool parse_order(struct str s, struct trace_query *q) {
    q->order = ORDER_TIMESTAMP;
    q->descending = true;
    if (!str_has(s))
        return true;
    s = str_trim(s);
    size_t dot = str_find(s, '.');
    struct str field = str_sub(s, 0, dot);
    for (size_t i = 0; i < sizeof order_fields / sizeof order_fields[0]; i++) {
        if (!str_eq_c(field, order_fields[i].name))
            continue;
        struct str direction = str_sub(s, dot + 1, s.n);
        q->order = order_fields[i].order;
        if (dot == s.n || str_eq_c(direction, "desc"))
            q->descending = true;
        else
            q->descending = str_eq_c(direction, "asc") ? false : order_fields[i].default_descending;
        return true;
    }
    return false;
}

static struct shape parse_fields(struct str fields) {
    struct shape s = { !str_has(fields), !str_has(fields), !str_has(fields) };
    struct str rest = fields, part;
    while (str_split(&rest, ',', &part)) {
        part = str_trim(part);
        s.io = s.io || str_eq_c(part, "io");
        s.observations = s.observations || str_eq_c(part, "observations");
        s.metrics = s.metrics || str_eq_c(part, "metrics");
    }
    return s;
}

enum http_result traces_list(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    const struct http_auth *auth = http_auth_of(req);
    struct trace_query q = { .project = auth->project, .from = TIME_MIN, .to = TIME_MAX };
    struct param_i64 page = { 0 }, limit = { 0 };
    struct param_list tags = { 0 }, environments = { 0 };
    struct str order_by = STR_NONE, fields = STR_NONE;
    const struct param params[] = {
        { "page", PARAM_I64, &page, false },
        { "limit", PARAM_I64, &limit, false },
        { "userId", PARAM_STR, &q.user, false },
        { "name", PARAM_STR, &q.name, false },
        { "sessionId", PARAM_STR, &q.session, false },
        { "fromTimestamp", PARAM_TIME, &q.from, false },
        { "toTimestamp", PARAM_TIME, &q.to, false },
        { "orderBy", PARAM_STR, &order_by, false },
        { "tags", PARAM_LIST, &tags, false },
        { "version", PARAM_STR, &q.version, false },
        { "release", PARAM_STR, &q.release, false },
        { "environment", PARAM_LIST, &environments, false },
        { "fields", PARAM_STR, &fields, false },
        { "projectId", PARAM_STR, &q.label, false },
        { "turn_id", PARAM_STR, &q.keys.v[KEY_TURN_ID - 1], false },
        { "run_id", PARAM_STR, &q.keys.v[KEY_RUN_ID - 1], false },
        { "step_id", PARAM_STR, &q.keys.v[KEY_STEP_ID - 1], false },
        { "parent_step_id", PARAM_STR, &q.keys.v[KEY_PARENT_STEP_ID - 1], false },
    };
    if (params_read(req, params, sizeof params / sizeof params[0], err) != XT_OK)
        return HTTP_FAIL;
    if (!parse_order(order_by, &q)) {
        xt_fail(err, XT_EINVAL, "invalid order_by");
        return HTTP_FAIL;
    }
    q.label = app_label(app, auth, q.label);
    q.to = params_upper_bound(q.to);
    struct page p = page_of(page, limit);
    struct list_arg l = { .shape = parse_fields(fields), .arena = http_arena(req) };
    q.tags = tags.v, q.ntags = tags.n;
    q.environments = environments.v, q.nenvironments = environments.n;
    q.offset = p.offset, q.limit = p.limit;
    q.want_io = l.shape.io, q.want_observations = l.shape.observations, q.want_metrics = l.shape.metrics;
    q.deadline = app_query_deadline(app);
    int64_t total = 0;
    jw_init(&l.w, http_reply_buf(req));
    jw_obj(&l.w);
    jw_key(&l.w, "data");
    jw_arr(&l.w);
    if (app->store->ops->traces_list(app->store, &q, list_item, &l, &total, err) != XT_OK)
        return HTTP_FAIL;
    jw_end(&l.w);
    jw_key(&l.w, "meta");
    page_write_meta(&l.w, &p, total);
    jw_end(&l.w);
    if (!jw_done(&l.w)) {
        xt_fail(err, XT_ESCHEMA, "answer too large: ask for fewer traces or leave out fields=io");
        return HTTP_FAIL;
    }
    return HTTP_REPLY;
}

/* ---- detail ---- */

static int64_t tokens_of(const struct opt_i64 *t) { return t->has ? t->v : 0; }

/* usage: built from the token columns. */
static void write_usage(struct json_writer *w, const struct observation_row *o) {
    jw_key(w, "usage");
    jw_obj(w);
    jw_kv_i64(w, "input", tokens_of(&o->tokens_in));
    jw_kv_i64(w, "output", tokens_of(&o->tokens_out));
    jw_kv_i64(w, "total", tokens_of(&o->tokens_total));
    jw_kv_str(w, "unit", o->unit);
    write_opt_money(w, "inputCost", &o->cost_input);
    write_opt_money(w, "outputCost", &o->cost_output);
    write_opt_money(w, "totalCost", &o->cost_total);
    jw_end(w);
}

/* usageDetails and costDetails: the stored maps with what the columns know; {} when nothing was ever said. */
static void write_details(struct json_writer *w, const struct observation_row *o) {
    bool any = o->tokens_in.has || o->tokens_out.has || o->tokens_total.has;
    if (str_has(o->usage_buckets)) {
        jw_kv_raw(w, "usageDetails", o->usage_buckets);
    } else {
        jw_key(w, "usageDetails");
        jw_obj(w);
        if (any) {
            jw_kv_i64(w, "input", tokens_of(&o->tokens_in));
            jw_kv_i64(w, "output", tokens_of(&o->tokens_out));
            jw_kv_i64(w, "total", tokens_of(&o->tokens_total));
        }
        jw_end(w);
    }
    if (str_has(o->cost_buckets)) {
        jw_kv_raw(w, "costDetails", o->cost_buckets);
        return;
    }
    static const struct opt_money zero = { 0, true, { NULL, 0 } };
    jw_key(w, "costDetails");
    jw_obj(w);
    if (o->cost_total.has) { /* zeros stand only beside a known total */
        write_opt_money(w, "input", o->cost_input.has ? &o->cost_input : &zero);
        write_opt_money(w, "output", o->cost_output.has ? &o->cost_output : &zero);
        write_opt_money(w, "total", &o->cost_total);
    } else {
        if (o->cost_input.has)
            write_opt_money(w, "input", &o->cost_input);
        if (o->cost_output.has)
            write_opt_money(w, "output", &o->cost_output);
    }
    jw_end(w);
}

/* promptVersion: stored text; a whole number comes back as one. */
static void write_prompt_version(struct json_writer *w, struct str v) {
    int64_t n = 0;
    jw_key(w, "promptVersion");
    if (str_has(v) && str_to_i64(v, &n))
        jw_i64(w, n);
    else
        jw_str(w, v);
}

static void write_observation(struct json_writer *w, const struct observation_row *o) {
    jw_obj(w);
    jw_kv_str(w, "id", o->id);
    jw_kv_str(w, "traceId", o->trace_id);
    jw_kv_str(w, "type", o->type);
    jw_kv_str(w, "name", o->name);
    write_time(w, "startTime", o->start == TIME_NONE ? o->created : o->start);
    write_time(w, "endTime", o->end);
    write_time(w, "completionStartTime", o->completion_start);
    jw_kv_str(w, "model", o->model);
    jw_kv_raw(w, "modelParameters", str_has(o->model_parameters) ? o->model_parameters : STR_LIT("{}"));
    jw_kv_raw(w, "input", o->input);
    jw_kv_str(w, "version", o->version);
    jw_kv_raw(w, "metadata", o->metadata);
    jw_kv_raw(w, "output", o->output);
    write_usage(w, o);
    jw_kv_str(w, "level", str_has(o->level) ? o->level : STR_LIT("DEFAULT"));
    jw_kv_str(w, "statusMessage", o->status_message);
    jw_kv_str(w, "parentObservationId", o->parent_id);
    jw_kv_str(w, "promptId", o->prompt_id);
    jw_kv_str(w, "promptName", o->prompt_name);
    write_prompt_version(w, o->prompt_version);
    jw_kv_str(w, "modelId", o->model_id);
    write_f64(w, "inputPrice", o->input_price);
    write_f64(w, "outputPrice", o->output_price);
    write_f64(w, "totalPrice", o->total_price);
    write_opt_money(w, "calculatedInputCost", &o->cost_input);
    write_opt_money(w, "calculatedOutputCost", &o->cost_output);
    write_opt_money(w, "calculatedTotalCost", &o->cost_total);
    jw_kv_str(w, "costSource", o->cost_source);
    write_f64(w, "latency", o->latency);
    write_f64(w, "timeToFirstToken", o->time_to_first_token);
    jw_kv_i64(w, "promptTokens", tokens_of(&o->tokens_in));
    jw_kv_i64(w, "completionTokens", tokens_of(&o->tokens_out));
    jw_kv_i64(w, "totalTokens", tokens_of(&o->tokens_total));
    write_details(w, o);
    jw_kv_str(w, "environment", o->environment);
    jw_kv_str(w, "unit", o->unit);
    jw_kv_str(w, "projectId", o->label);
    write_time(w, "createdAt", o->created);
    write_time(w, "updatedAt", o->updated);
    jw_end(w);
}

struct detail_arg {
    struct json_writer w;
    struct arena *arena;
};

static bool detail_trace(void *arg, const struct trace_row *t) {
    struct detail_arg *d = arg;
    struct shape all = { true, true, true };
    jw_obj(&d->w);
    write_trace(&d->w, t, &all, d->arena);
    jw_key(&d->w, "observations");
    jw_arr(&d->w);
    return !d->w.failed;
}

static bool detail_observation(void *arg, const struct observation_row *o) {
    struct detail_arg *d = arg;
    write_observation(&d->w, o);
    return !d->w.failed;
}

enum http_result traces_get(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    struct arena *a = http_arena(req);
    struct str text = http_path_param(req, 0);
    struct trace_ref ref = { .project = http_auth_of(req)->project, .deadline = app_query_deadline(app) };
    struct id uuid;
    bool is_uuid = id_from_uuid(a, text, &uuid);
    if (!id_key(a, text, &ref.key)) {
        xt_fail(err, XT_EINVAL, "Invalid URL: `traceId` is no id");
        return HTTP_FAIL;
    }
    struct detail_arg d = { .arena = a };
    jw_init(&d.w, http_reply_buf(req));
    enum xt_code rc = app->store->ops->trace_get(app->store, &ref, detail_trace, detail_observation, &d, err);
    if (rc == XT_ENOTFOUND && !is_uuid) /* the original's 400 */
        xt_fail(err, XT_EINVAL, "Invalid URL: UUID parsing failed, and no trace has the id \"%.*s\"",
                STR_FMT(str_sub(text, 0, 80)));
    else if (rc == XT_ENOTFOUND)
        xt_fail(err, XT_ENOTFOUND, "Not Found");
    if (rc != XT_OK)
        return HTTP_FAIL;
    jw_end(&d.w);
    write_scores(&d.w);
    jw_end(&d.w);
    if (!jw_done(&d.w)) {
        xt_fail(err, XT_ESCHEMA, "answer too large");
        return HTTP_FAIL;
    }
    return HTTP_REPLY;
}

/* ---- one observation ---- */

static bool first_observation(void *arg, const struct observation_row *o) {
    write_observation(arg, o);
    return false;
}

enum http_result observations_get(struct http_req *req, struct xt_err *err) {
    struct app *app = app_of(req);
    struct observation_ref ref = { .project = http_auth_of(req)->project, .deadline = app_query_deadline(app) };
    struct json_writer w;
    if (!id_key(http_arena(req), http_path_param(req, 0), &ref.key)) {
        xt_fail(err, XT_EINVAL, "Invalid URL: `observationId` is no id");
        return HTTP_FAIL;
    }
    jw_init(&w, http_reply_buf(req));
    enum xt_code rc = app->store->ops->observation_get(app->store, &ref, first_observation, &w, err);
    if (rc == XT_ENOTFOUND)
        xt_fail(err, XT_ENOTFOUND, "Observation not found within authorized project");
    if (rc != XT_OK)
        return HTTP_FAIL;
    if (!jw_done(&w)) {
        xt_fail(err, XT_ESCHEMA, "answer too large");
        return HTTP_FAIL;
    }
    return HTTP_REPLY;
}
