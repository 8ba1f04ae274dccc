/* route.h -- path -> row. Built once at start; const afterwards, so any thread may look up.
 *
 * Segments are compared as they came, byte by byte (as in the original, only captures are percent-decoded, so "%2F" never
 * splits); a trailing slash is another path; a capture takes one segment of at least one byte; a literal segment wins
 * over a capture. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "http/http.h"

#define ROUTE_CAPTURES_MAX 4
#define ROUTE_ALLOW_MAX 64

/* All rows of one path. */
struct route_path {
    const char *pattern;
    const struct http_route **rows; /* by method */
    size_t nrows;
    char allow[ROUTE_ALLOW_MAX]; /* "GET,HEAD" or "POST" ... */
    bool rate_limited;           /* of any row: the limit counts wrong methods too */
};

struct route_table {
    struct route_path *paths; /* sorted so that the first match is the right one */
    size_t npaths;
    const struct http_route **rows; /* what the paths' `rows` point into */
};

/* XT_EINVAL: a malformed or repeated row (our own bug, found at start); XT_ENOMEM. */
enum xt_code route_table_init(struct route_table *t, const struct http_route *rows, size_t n, struct xt_err *err);
void route_table_done(struct route_table *t);
/* The path's rows, or NULL: 404. Captures point into `path`, not decoded. */
const struct route_path *route_find(const struct route_table *t, struct str path,
                                    struct str ret_captures[ROUTE_CAPTURES_MAX], size_t *ret_ncaptures);
/* The row of a method (HEAD is served by GET), or NULL: 405. */
const struct http_route *route_method(const struct route_path *p, struct str method);
/* True when a caller must be known: rows with rights, and those whose openness the configuration decides. */
bool route_protected(const struct http_route *row);
/* Below these two, 404 and 405 carry a JSON body. */
bool route_json_area(struct str path);
