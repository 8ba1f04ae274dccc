/* json_read.h -- JSON text -> a tree of slices, by simdjson's on-demand walk behind a C interface.
 *
 * One walk visits and checks every value of the document (UTF-8, escapes, number grammar, depth, nothing after the end).
 * Containers that the caller does not want expanded are checked all the same, but kept as raw text only: that is how
 * free JSON (input, output, metadata) passes through without costing nodes.
 *
 * Ownership: nodes and unescaped strings live in `arena`; raw slices, numbers and strings without escapes point into the
 * text, which must stay alive and unchanged, and must be followed by JSON_PADDING readable bytes (any content).
 * Threads: any; the parser's work space is cached a thread and given back when it grew large. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

#define JSON_PADDING 64

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    uint8_t type; /* enum json_type */
    bool boolean;
    bool expanded;      /* containers: `child` is built (an empty container has none) */
    struct str key;     /* member name, unescaped; absent in arrays and at the root */
    struct str raw;     /* the value's text in the document: digits, "quoted", {...}, [...] */
    struct str text;    /* JSON_STRING: unescaped */
    struct json *child; /* containers: first member or element, in order of the document */
    struct json *next;
};

struct json_opts {
    unsigned max_depth; /* nested containers allowed, 1024 at most; the document {} has depth 1 */
    bool lenient;       /* a lone surrogate becomes U+FFFD instead of failing (OTLP); raw text keeps its escape */
    /* Asked for each container but the root: expand it into nodes? NULL: all of them. `parent` is expanded; its `key`
     * is set, its other members are not to be looked at. `depth` is that of the container (root 1). Must not parse. */
    bool (*expand)(void *arg, unsigned depth, const struct json *parent, struct str key);
    void *arg;
    bool raw_arrays; /* arrays below the root stay raw text: `expand` is not asked */
};

/* XT_EINVAL with reason and byte offset for bad JSON (also an empty text, and a number beyond double: 1e999);
 * XT_ETOOBIG when the arena's limit is reached. */
enum xt_code json_parse(struct arena *arena, struct str text, const struct json_opts *opts, const struct json **ret,
                        struct xt_err *err) __attribute__((warn_unused_result));
/* Is this text one valid JSON value, strictly? Copies it (any padding), no nodes. False also without memory to look:
 * what is not known to be JSON is kept as a string. */
bool json_valid(struct str text, unsigned max_depth);
/* Member by name (the last one of equal names), or NULL; o may be NULL or no object. */
const struct json *json_get(const struct json *o, const char *key);
/* JSON_NUMBER without fraction or exponent, in range. */
bool json_i64(const struct json *v, int64_t *ret);
/* JSON_NUMBER as double; false beyond double. */
bool json_f64(const struct json *v, double *ret);
/* "null", "boolean", "integer", "number", "string", "array", "object" */
const char *json_type_name(const struct json *v);

#ifdef __cplusplus
}
#endif
