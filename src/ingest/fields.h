/* fields.h -- JSON objects -> structs by a table: one row a member name. Shared by the decoders of the native routes.
 *
 * The rules are those of the original: unknown members are passed over, null is absent, a known member twice is refused,
 * strings, booleans and integers are strict. Strings and raw JSON that point into the body stay there; what had escapes
 * is copied to the batch's arena. */
#pragma once
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "json/json_read.h"
#include "model/event.h"

enum field_kind {
    FIELD_STR,         /* struct str */
    FIELD_TEXT_OR_INT, /* struct str: a string, or the digits of an integer (promptVersion) */
    FIELD_JSON,        /* struct str: any JSON as its text */
    FIELD_TIME,        /* int64_t */
    FIELD_F64,         /* double */
    FIELD_I64,         /* struct opt_i64 */
    FIELD_MONEY,       /* struct opt_money */
    FIELD_BOOL,        /* enum tri */
    FIELD_UUID,        /* struct id */
    FIELD_TAGS,        /* struct field_strings */
};
/* A list of strings; `given` tells an empty list from none. */
struct field_strings {
    struct str *v;
    size_t n;
    bool given;
};
struct field {
    const char *name;
    size_t name_n;
    enum field_kind kind;
    bool required; /* such rows stand first */
    /* Rows of one offset are spellings of one member: they stand together, and the first row names it in messages. */
    size_t offset;
};
#define FIELD_ROW(name_, kind_, required_, type_, member_) \
    { name_, sizeof(name_) - 1, kind_, required_, offsetof(type_, member_) }
#define FIELDS_MAX 64 /* rows of a table */

/* Where the values go and how messages name the place: list[index].member, list.member or member alone. */
struct field_ctx {
    struct arena *keep; /* of the batch */
    struct str body;
    const char *list; /* "observations", "trace" or "" */
    size_t index;     /* SIZE_MAX: no index */
    struct xt_err *err;
};

/* Fills *record from `object` (any node). XT_ESCHEMA names the place; XT_ETOOBIG: the arena is full. */
enum xt_code fields_decode(const struct field_ctx *ctx, const struct field *rows, size_t nrows,
                           const struct json *object, void *record) __attribute__((warn_unused_result));
/* A failure at ctx's place, `member` (may be NULL) below it. */
enum xt_code fields_fail(const struct field_ctx *ctx, const char *member, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a full arena. */
enum xt_code fields_full(const struct field_ctx *ctx);
/* The string where it lives long enough: in the body, else copied. Absent when memory is short. */
struct str fields_keep(const struct field_ctx *ctx, struct str s);
/* "null", "boolean `true`", "integer `5`": what stands there, for messages. */
const char *fields_found(const struct json *v, char out[64]);
/* Parses the body; a syntax error carries the original's prefix. */
enum xt_code fields_parse(struct arena *scratch, struct str body,
                          bool (*expand)(void *arg, unsigned depth, const struct json *parent, struct str key),
                          const struct json **ret, struct xt_err *err) __attribute__((warn_unused_result));
