/* metrics_json.c -- POST /v1/metrics/batch -> points.
 *
 *  1. A point whose value is null (NaN or infinite at the sender) is checked like any other, dropped and counted.
 *  2. Labels come out sorted by name, names unique: of equal ones the last given counts.
 *  3. `metrics` is required; a missing or null `labels` is the empty set. */
#include "ingest/decode.h"
#include "ingest/fields.h"

/* A point as the table fills it. */
struct point {
    struct str name;
    int64_t timestamp;
};
static const struct field point_fields[] = {
    FIELD_ROW("name", FIELD_STR, true, struct point, name),
    FIELD_ROW("timestamp", FIELD_TIME, true, struct point, timestamp),
};

static bool expand_metrics(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg;
    switch (depth) {
    case 2: return str_eq_c(key, "metrics");
    case 3: return parent->type == JSON_ARRAY;
    case 4: return parent->type == JSON_OBJECT && str_eq_c(key, "labels");
    default: return false;
    }
}

static enum xt_code read_labels(const struct field_ctx *ctx, const struct json *v, struct sample *s) {
    char found[64];
    size_t n = 0;

    if (!v || v->type == JSON_NULL)
        return XT_OK;
    if (v->type != JSON_OBJECT) {
        return fields_fail(ctx, "labels", "invalid type: %s, expected a map", fields_found(v, found));
    }
    for (const struct json *m = v->child; m; m = m->next)
        n++;
    s->labels = arena_new(ctx->keep, struct label, n);
    if (!s->labels)
        return fields_full(ctx);
    for (const struct json *m = v->child; m; m = m->next) {
        struct label *l = &s->labels[s->nlabels++];
        if (m->type != JSON_STRING) {
            return fields_fail(ctx, "labels", "%.*s: invalid type: %s, expected a string",
                               (int)(m->key.n < 40 ? m->key.n : 40), m->key.p, fields_found(m, found));
        }
        l->name = fields_keep(ctx, m->key);
        l->value = fields_keep(ctx, m->text);
        if (!str_has(l->name) || !str_has(l->value))
            return fields_full(ctx);
    }
    s->nlabels = labels_sort(s->labels, s->nlabels);
    return XT_OK;
}

/* The two members that need more than a table: each once at most. */
static enum xt_code find_members(const struct field_ctx *ctx, const struct json *point, const struct json **ret_labels,
                                 const struct json **ret_value) {
    *ret_labels = *ret_value = NULL;
    for (const struct json *m = point->child; m; m = m->next) {
        const struct json **slot = str_eq_c(m->key, "labels")  ? ret_labels
                                   : str_eq_c(m->key, "value") ? ret_value
                                                               : NULL;
        if (!slot)
            continue;
        if (*slot)
            return fields_fail(ctx, NULL, "duplicate field `%s`", slot == ret_labels ? "labels" : "value");
        *slot = m;
    }
    return XT_OK;
}

static enum xt_code add_point(struct batch *b, const struct field_ctx *ctx, const struct json *v) {
    struct point p = { STR_NONE, TIME_NONE };
    struct sample s = { .labels = NULL };
    const struct json *labels = NULL, *value = NULL;
    struct sample *stored;
    char found[64];
    enum xt_code code = fields_decode(ctx, point_fields, sizeof point_fields / sizeof point_fields[0], v, &p);

    if (code == XT_OK)
        code = find_members(ctx, v, &labels, &value);
    if (code == XT_OK)
        code = read_labels(ctx, labels, &s);
    if (code != XT_OK)
        return code;
    if (!value)
        return fields_fail(ctx, NULL, "missing field `value`");
    if (value->type == JSON_NULL) {
        b->dropped++;
        return XT_OK;
    }
    if (!json_f64(value, &s.value)) {
        return fields_fail(ctx, "value", "invalid type: %s, expected a number", fields_found(value, found));
    }
    s.name = p.name;
    s.timestamp = p.timestamp;
    stored = batch_add_sample(b);
    if (!stored)
        return fields_full(ctx);
    *stored = s;
    return XT_OK;
}

enum xt_code decode_metrics_batch(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err) {
    struct field_ctx ctx = { &b->arena, body, "", SIZE_MAX, err };
    const struct json *root, *metrics = NULL;
    char found[64];
    size_t n = 0;
    enum xt_code code = fields_parse(scratch, body, expand_metrics, &root, err);

    if (code == XT_OK)
        code = fields_decode(&ctx, NULL, 0, root, NULL); /* an object at all? */
    if (code != XT_OK)
        return code;
    for (const struct json *m = root->child; m; m = m->next) {
        if (!str_eq_c(m->key, "metrics"))
            continue;
        if (metrics)
            return fields_fail(&ctx, NULL, "duplicate field `metrics`");
        metrics = m;
    }
    if (!metrics)
        return fields_fail(&ctx, NULL, "missing field `metrics`");
    if (metrics->type != JSON_ARRAY) {
        return fields_fail(&ctx, "metrics", "invalid type: %s, expected a sequence", fields_found(metrics, found));
    }
    for (const struct json *e = metrics->child; e; e = e->next)
        n++;
    if (!batch_reserve(b, 0, 0, n))
        return fields_full(&ctx);
    ctx.list = "metrics";
    ctx.index = 0;
    for (const struct json *e = metrics->child; e; e = e->next, ctx.index++) {
        code = add_point(b, &ctx, e);
        if (code != XT_OK)
            return code;
    }
    return XT_OK;
}
