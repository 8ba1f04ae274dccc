/* native.c -- POST /v1/l/batch and the single-record aliases, one table a record.
 *
 * Limits that protect the store, beside the size of the body:
 *   ids              UUIDs in the spellings of base/id.h, so 16 bytes
 *   times            the near ones of base/clock.h; 422 beyond
 *   nesting          127 containers in the document
 *   names, users, sessions, tags, environments ...   any length and number: the store keeps them whole
 *   the batch        its arena's limit; 413 beyond
 * Free JSON (input, output, metadata, modelParameters, usage) is checked but not looked into: its text is kept. */
#include "ingest/decode.h"
#include "ingest/fields.h"

/* struct trace spreads what a list of tags fills; the table needs it in one piece. */
struct trace_record {
    struct trace t;
    struct field_strings tags;
};
#define TRACE(name, kind, member) FIELD_ROW(name, kind, false, struct trace_record, member)
static const struct field trace_fields[] = {
    FIELD_ROW("id", FIELD_UUID, true, struct trace_record, t.id),
    TRACE("timestamp", FIELD_TIME, t.timestamp),
    TRACE("name", FIELD_STR, t.name),
    TRACE("input", FIELD_JSON, t.input),
    TRACE("output", FIELD_JSON, t.output),
    TRACE("session_id", FIELD_STR, t.session),
    TRACE("sessionId", FIELD_STR, t.session),
    TRACE("release", FIELD_STR, t.release),
    TRACE("version", FIELD_STR, t.version),
    TRACE("userId", FIELD_STR, t.user),
    TRACE("metadata", FIELD_JSON, t.metadata),
    TRACE("tags", FIELD_TAGS, tags),
    TRACE("public", FIELD_BOOL, t.is_public),
    TRACE("environment", FIELD_STR, t.environment),
    TRACE("externalId", FIELD_STR, t.external_id),
    TRACE("bookmarked", FIELD_BOOL, t.bookmarked),
    TRACE("latency", FIELD_F64, t.latency),
    TRACE("totalCost", FIELD_MONEY, t.total_cost),
    TRACE("projectId", FIELD_STR, t.project_label),
};

#define OBSERVATION(name, kind, member) FIELD_ROW(name, kind, false, struct observation, member)
static const struct field observation_fields[] = {
    FIELD_ROW("id", FIELD_UUID, true, struct observation, id),
    FIELD_ROW("traceId", FIELD_UUID, true, struct observation, trace_id),
    OBSERVATION("type", FIELD_STR, type),
    OBSERVATION("name", FIELD_STR, name),
    OBSERVATION("startTime", FIELD_TIME, start),
    OBSERVATION("endTime", FIELD_TIME, end),
    OBSERVATION("completionStartTime", FIELD_TIME, completion_start),
    OBSERVATION("model", FIELD_STR, model),
    OBSERVATION("modelParameters", FIELD_JSON, model_parameters),
    OBSERVATION("input", FIELD_JSON, input),
    OBSERVATION("output", FIELD_JSON, output),
    OBSERVATION("usage", FIELD_JSON, usage),
    OBSERVATION("level", FIELD_STR, level),
    OBSERVATION("statusMessage", FIELD_STR, status_message),
    OBSERVATION("parentObservationId", FIELD_UUID, parent_id),
    OBSERVATION("promptId", FIELD_STR, prompt_id),
    OBSERVATION("promptName", FIELD_STR, prompt_name),
    OBSERVATION("promptVersion", FIELD_TEXT_OR_INT, prompt_version),
    OBSERVATION("modelId", FIELD_STR, model_id),
    OBSERVATION("inputPrice", FIELD_F64, input_price),
    OBSERVATION("outputPrice", FIELD_F64, output_price),
    OBSERVATION("totalPrice", FIELD_F64, total_price),
    OBSERVATION("calculatedInputCost", FIELD_MONEY, cost_input),
    OBSERVATION("calculatedOutputCost", FIELD_MONEY, cost_output),
    OBSERVATION("calculatedTotalCost", FIELD_MONEY, cost_total),
    OBSERVATION("latency", FIELD_F64, latency),
    OBSERVATION("timeToFirstToken", FIELD_F64, time_to_first_token),
    OBSERVATION("completionTokens", FIELD_I64, tokens_out),
    OBSERVATION("promptTokens", FIELD_I64, tokens_in),
    OBSERVATION("totalTokens", FIELD_I64, tokens_total),
    OBSERVATION("unit", FIELD_STR, unit),
    OBSERVATION("metadata", FIELD_JSON, metadata),
    OBSERVATION("environment", FIELD_STR, environment),
    OBSERVATION("projectId", FIELD_STR, project_label),
};
#define ROWS(table) (table), sizeof(table) / sizeof(table)[0]

/* The members of the batch itself are read by hand: three rows, whose values are records. `traces` is an addition of
 * ours to the original's format, for senders of many traces. */
static bool expand_batch(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg;
    if (depth == 2)
        return str_eq_c(key, "trace") || str_eq_c(key, "traces") || str_eq_c(key, "observations");
    if (depth == 4)
        return str_eq_c(key, "tags"); /* of an element of `traces` */
    if (depth != 3)
        return false;
    return str_eq_c(parent->key, "observations") || str_eq_c(parent->key, "traces") ||
           (str_eq_c(parent->key, "trace") && str_eq_c(key, "tags"));
}

static bool expand_record(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg;
    (void)parent;
    return depth == 2 && str_eq_c(key, "tags");
}

static enum xt_code add_trace(struct batch *b, const struct field_ctx *ctx, const struct json *v) {
    struct trace *t = batch_add_trace(b);
    struct trace_record r = { .tags = { NULL, 0, false } };
    enum xt_code code;

    if (!t)
        return fields_full(ctx);
    r.t = *t;
    code = fields_decode(ctx, ROWS(trace_fields), v, &r);
    if (code != XT_OK)
        return code;
    r.t.tags = r.tags.v;
    r.t.ntags = r.tags.n;
    r.t.tags_has = r.tags.given;
    r.t.merge = MERGE_REPLACE;
    *t = r.t;
    return XT_OK;
}

static enum xt_code add_observation(struct batch *b, const struct field_ctx *ctx, const struct json *v) {
    struct observation *o = batch_add_observation(b);

    if (!o)
        return fields_full(ctx);
    o->merge = MERGE_REPLACE;
    o->index = ctx->index == SIZE_MAX ? 0 : ctx->index;
    return fields_decode(ctx, ROWS(observation_fields), v, o);
}

/* The elements of the list `name`, each by `add`. Null is empty. */
typedef enum xt_code add_record(struct batch *b, const struct field_ctx *ctx, const struct json *v);
static enum xt_code add_list(struct batch *b, struct field_ctx *ctx, const char *name, const struct json *list,
                             add_record *add) {
    char found[64];

    if (!list || list->type == JSON_NULL)
        return XT_OK;
    if (list->type != JSON_ARRAY)
        return fields_fail(ctx, name, "invalid type: %s, expected a sequence", fields_found(list, found));
    ctx->list = name;
    ctx->index = 0;
    for (const struct json *e = list->child; e; e = e->next, ctx->index++) {
        enum xt_code code = add(b, ctx, e);
        if (code != XT_OK)
            return code;
    }
    ctx->list = "";
    ctx->index = SIZE_MAX;
    return XT_OK;
}

static size_t list_length(const struct json *list) {
    size_t n = 0;
    for (const struct json *e = list && list->type == JSON_ARRAY ? list->child : NULL; e; e = e->next)
        n++;
    return n;
}

/* Sets *slot to a member met for the first time. */
static enum xt_code take_once(const struct field_ctx *ctx, const struct json *m, const char *name,
                              const struct json **slot) {
    if (!str_eq_c(m->key, name))
        return XT_OK;
    if (*slot)
        return fields_fail(ctx, NULL, "duplicate field `%s`", name);
    *slot = m;
    return XT_OK;
}

enum xt_code decode_native_batch(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err) {
    struct field_ctx ctx = { &b->arena, body, "", SIZE_MAX, err };
    const struct json *root, *trace = NULL, *traces = NULL, *observations = NULL;
    enum xt_code code = fields_parse(scratch, body, expand_batch, &root, err);

    if (code == XT_OK)
        code = fields_decode(&ctx, NULL, 0, root, NULL); /* an object at all? */
    if (code != XT_OK)
        return code;
    for (const struct json *m = root->child; m && code == XT_OK; m = m->next) {
        code = take_once(&ctx, m, "trace", &trace);
        if (code == XT_OK)
            code = take_once(&ctx, m, "traces", &traces);
        if (code == XT_OK)
            code = take_once(&ctx, m, "observations", &observations);
    }
    if (code == XT_OK && !batch_reserve(b, list_length(traces), list_length(observations), 0))
        code = fields_full(&ctx);
    if (code == XT_OK && trace && trace->type != JSON_NULL) {
        ctx.list = "trace";
        code = add_trace(b, &ctx, trace);
        ctx.list = "";
    }
    if (code == XT_OK)
        code = add_list(b, &ctx, "traces", traces, add_trace);
    if (code == XT_OK)
        code = add_list(b, &ctx, "observations", observations, add_observation);
    return code;
}

enum xt_code decode_native_trace(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err) {
    const struct field_ctx ctx = { &b->arena, body, "", SIZE_MAX, err };
    const struct json *root;
    enum xt_code code = fields_parse(scratch, body, expand_record, &root, err);

    return code == XT_OK ? add_trace(b, &ctx, root) : code;
}

enum xt_code decode_native_observation(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err) {
    const struct field_ctx ctx = { &b->arena, body, "", SIZE_MAX, err };
    const struct json *root;
    enum xt_code code = fields_parse(scratch, body, expand_record, &root, err);

    return code == XT_OK ? add_observation(b, &ctx, root) : code;
}
