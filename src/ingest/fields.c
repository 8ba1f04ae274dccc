/* fields.c -- the table-driven reading of fields.h.
 *
 *  1. Every failure names the place and what stood there; values are cut to a few bytes, never between characters.
 *  2. Members are looked for from the row after the last match on: clients write them in one order. */
#include "ingest/fields.h"

#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/codec.h"

#define SCHEMA_PREFIX "Failed to deserialize the JSON body into the target type: "
#define SYNTAX_PREFIX "Failed to parse the request body as JSON: "
#define NATIVE_DEPTH 127 /* nested containers: 128 levels are refused */
#define SHOWN_MAX 36     /* bytes of a bad value in a message */

enum xt_code fields_fail(const struct field_ctx *ctx, const char *member, const char *fmt, ...) {
    char reason[160], place[96];
    const char *dot = member && ctx->list[0] ? "." : "";
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    member = member ? member : "";
    if (ctx->index == SIZE_MAX)
        snprintf(place, sizeof place, "%s%s%s", ctx->list, dot, member);
    else
        snprintf(place, sizeof place, "%s[%zu]%s%s", ctx->list, ctx->index, dot, member);
    return xt_fail(ctx->err, XT_ESCHEMA, SCHEMA_PREFIX "%s%s%s", place, place[0] ? ": " : "", reason);
}

enum xt_code fields_full(const struct field_ctx *ctx) {
    return xt_fail(ctx->err, XT_ETOOBIG, "the request needs too much memory");
}

struct str fields_keep(const struct field_ctx *ctx, struct str s) {
    uintptr_t p = (uintptr_t)s.p, from = (uintptr_t)ctx->body.p;

    if (s.n == 0)
        return STR_LIT("");
    return p >= from && p - from < ctx->body.n ? s : arena_str(ctx->keep, s);
}

const char *fields_found(const struct json *v, char out[64]) {
    struct str shown = v->type == JSON_STRING ? v->text : v->raw;

    if (v->type == JSON_NULL || v->type == JSON_ARRAY || v->type == JSON_OBJECT)
        return json_type_name(v);
    if (shown.n > SHOWN_MAX)
        shown.n = utf8_cut(shown, SHOWN_MAX);
    snprintf(out, 64, "%s `%.*s`", json_type_name(v), STR_FMT(shown));
    return out;
}

static enum xt_code wrong(const struct field_ctx *ctx, const struct field *f, const struct json *v, const char *want) {
    char found[64];
    return fields_fail(ctx, f->name, "invalid type: %s, expected %s", fields_found(v, found), want);
}

static enum xt_code read_str(const struct field_ctx *ctx, const struct field *f, const struct json *v,
                             struct str *ret) {
    bool digits = f->kind == FIELD_TEXT_OR_INT && v->type == JSON_NUMBER;
    int64_t n;

    if (v->type != JSON_STRING && !(digits && json_i64(v, &n))) {
        return wrong(ctx, f, v, f->kind == FIELD_STR ? "a string" : "a string or an integer");
    }
    *ret = fields_keep(ctx, digits ? v->raw : v->text);
    return str_has(*ret) ? XT_OK : fields_full(ctx);
}

static enum xt_code read_time(const struct field_ctx *ctx, const struct field *f, const struct json *v, int64_t *ret) {
    char found[64];

    if (v->type != JSON_STRING)
        return wrong(ctx, f, v, "an RFC 3339 time");
    switch (time_parse_rfc3339(v->text, ret)) {
    case TIME_OK: return XT_OK;
    case TIME_SYNTAX:
        return fields_fail(ctx, f->name, "%s is not an RFC 3339 time with a zone", fields_found(v, found));
    case TIME_RANGE: break;
    }
    return fields_fail(ctx, f->name, "%s is out of range: years 1688 to 2251 can be stored", fields_found(v, found));
}

static enum xt_code read_number(const struct field_ctx *ctx, const struct field *f, const struct json *v, void *ret) {
    struct opt_money *amount = ret;
    bool exact;

    if (v->type != JSON_NUMBER)
        return wrong(ctx, f, v, f->kind == FIELD_I64 ? "an integer" : "a number");
    if (f->kind == FIELD_I64) {
        struct opt_i64 *n = ret;
        if (!json_i64(v, &n->v))
            return wrong(ctx, f, v, "an integer of 64 bits");
        n->has = true;
        return XT_OK;
    }
    if (f->kind == FIELD_F64)
        return json_f64(v, ret) ? XT_OK : wrong(ctx, f, v, "a number within double");
    if (!money_parse(v->raw, &amount->v, &exact))
        return wrong(ctx, f, v, "an amount");
    amount->has = true;
    amount->text = exact ? STR_NONE : fields_keep(ctx, v->raw);
    return exact || str_has(amount->text) ? XT_OK : fields_full(ctx);
}

static enum xt_code read_strings(const struct field_ctx *ctx, const struct field *f, const struct json *v,
                                 struct field_strings *ret) {
    char place[64], found[64];
    size_t n = 0;

    if (v->type != JSON_ARRAY)
        return wrong(ctx, f, v, "a sequence");
    for (const struct json *e = v->child; e; e = e->next)
        n++;
    ret->v = arena_new(ctx->keep, struct str, n);
    if (!ret->v)
        return fields_full(ctx);
    for (const struct json *e = v->child; e; e = e->next) {
        if (e->type != JSON_STRING) {
            snprintf(place, sizeof place, "%s[%zu]", f->name, ret->n);
            return fields_fail(ctx, place, "invalid type: %s, expected a string", fields_found(e, found));
        }
        ret->v[ret->n] = fields_keep(ctx, e->text);
        if (!str_has(ret->v[ret->n++]))
            return fields_full(ctx);
    }
    ret->given = true;
    return XT_OK;
}

static enum xt_code read_uuid(const struct field_ctx *ctx, const struct field *f, const struct json *v,
                              struct id *ret) {
    char found[64];

    if (v->type != JSON_STRING)
        return wrong(ctx, f, v, "a UUID");
    if (id_from_uuid(ctx->keep, v->text, ret))
        return XT_OK;
    if (ctx->keep->failed)
        return fields_full(ctx);
    return fields_fail(ctx, f->name, "UUID parsing failed: %s", fields_found(v, found));
}

static enum xt_code read_field(const struct field_ctx *ctx, const struct field *f, const struct json *v, void *ret) {
    switch (f->kind) {
    case FIELD_STR:
    case FIELD_TEXT_OR_INT: return read_str(ctx, f, v, ret);
    case FIELD_JSON: *(struct str *)ret = fields_keep(ctx, v->raw); return XT_OK; /* raw text is the body's */
    case FIELD_TIME: return read_time(ctx, f, v, ret);
    case FIELD_F64:
    case FIELD_I64:
    case FIELD_MONEY: return read_number(ctx, f, v, ret);
    case FIELD_BOOL:
        if (v->type != JSON_BOOL)
            return wrong(ctx, f, v, "a boolean");
        *(enum tri *)ret = v->boolean ? TRI_TRUE : TRI_FALSE;
        return XT_OK;
    case FIELD_UUID: return read_uuid(ctx, f, v, ret);
    case FIELD_TAGS: return read_strings(ctx, f, v, ret);
    }
    return XT_OK;
}

/* The row of a member, or nrows. */
static size_t find_row(const struct field *rows, size_t nrows, struct str key, size_t start) {
    for (size_t i = 0; i < nrows; i++) {
        size_t at = start + i < nrows ? start + i : start + i - nrows;
        if (rows[at].name_n == key.n && rows[at].name[0] == key.p[0] && memcmp(rows[at].name, key.p, key.n) == 0)
            return at;
    }
    return nrows;
}

/* The first row of the same member: spellings share its place in the record. */
static size_t first_spelling(const struct field *rows, size_t row) {
    while (row > 0 && rows[row - 1].offset == rows[row].offset)
        row--;
    return row;
}

enum xt_code fields_decode(const struct field_ctx *ctx, const struct field *rows, size_t nrows,
                           const struct json *object, void *record) {
    uint64_t seen = 0, stated = 0; /* rows met; rows met with a value */
    size_t next = 0;
    char found[64];

    assert(nrows <= FIELDS_MAX);
    if (object->type != JSON_OBJECT) {
        return fields_fail(ctx, NULL, "invalid type: %s, expected an object", fields_found(object, found));
    }
    for (const struct json *m = object->child; m; m = m->next) {
        size_t row = find_row(rows, nrows, m->key, next), first;
        enum xt_code code;

        if (row == nrows)
            continue;
        next = row + 1;
        first = first_spelling(rows, row);
        if (seen >> first & 1)
            return fields_fail(ctx, NULL, "duplicate field `%s`", rows[first].name);
        seen |= UINT64_C(1) << first;
        if (m->type == JSON_NULL)
            continue;
        stated |= UINT64_C(1) << first;
        code = read_field(ctx, &rows[row], m, (char *)record + rows[row].offset);
        if (code != XT_OK)
            return code;
    }
    for (size_t i = 0; i < nrows && rows[i].required; i++) {
        if (stated >> i & 1)
            continue;
        if (seen >> i & 1)
            return fields_fail(ctx, rows[i].name, "invalid type: null, expected a value");
        return fields_fail(ctx, NULL, "missing field `%s`", rows[i].name);
    }
    return XT_OK;
}

enum xt_code fields_parse(struct arena *scratch, struct str body,
                          bool (*expand)(void *arg, unsigned depth, const struct json *parent, struct str key),
                          const struct json **ret, struct xt_err *err) {
    const struct json_opts opts = { .max_depth = NATIVE_DEPTH, .expand = expand };
    struct xt_err why = { XT_OK, "" };
    enum xt_code code = json_parse(scratch, body, &opts, ret, &why);

    if (code == XT_EINVAL)
        return xt_fail(err, code, SYNTAX_PREFIX "%s", why.msg);
    if (code != XT_OK)
        return xt_fail(err, code, "%s", why.msg);
    return XT_OK;
}
