/* route.c -- see route.h. Patterns are sorted with ':' after every other byte, so that of two patterns for one path the
 * one with the literal comes first and a plain scan finds the right one. */
#include "http/route.h"

#include <stdio.h>
#include <stdlib.h>

/* ':' begins a capture and sorts last; '\0' sorts first. */
static int rank(char c) { return c == ':' ? 256 : (unsigned char)c; }

static int pattern_cmp(const char *a, const char *b) {
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return rank(*a) - rank(*b);
}

static int row_cmp(const void *a, const void *b) {
    const struct http_route *const *x = a, *const *y = b;
    int c = pattern_cmp((*x)->path, (*y)->path);
    return c ? c : strcmp((*x)->method, (*y)->method);
}

static size_t capture_count(const char *pattern) {
    size_t n = 0;
    for (const char *p = pattern; *p; p++) {
        n += *p == ':';
    }
    return n;
}

static bool pattern_ok(const char *pattern) {
    if (pattern[0] != '/' || capture_count(pattern) > ROUTE_CAPTURES_MAX) {
        return false;
    }
    for (const char *p = pattern; *p; p++) {
        if (*p == ':' && (p[-1] != '/' || p[1] == '\0' || p[1] == '/')) {
            return false;
        }
    }
    return true;
}

/* "GET,HEAD" from the rows. False: does not fit. */
static bool fill_allow(struct route_path *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->nrows; i++) {
        const char *method = p->rows[i]->method;
        int len = snprintf(p->allow + n, sizeof(p->allow) - n, "%s%s%s", n ? "," : "", method,
                           strcmp(method, "GET") == 0 ? ",HEAD" : "");
        if (len < 0 || (size_t)len >= sizeof(p->allow) - n) {
            return false;
        }
        n += (size_t)len;
    }
    return true;
}

/* Groups the sorted rows by pattern. */
static enum xt_code group_rows(struct route_table *t, size_t n, struct xt_err *err) {
    for (size_t i = 0; i < n; i++) {
        const struct http_route *row = t->rows[i];
        struct route_path *last = t->npaths ? &t->paths[t->npaths - 1] : NULL;
        if (last && strcmp(last->pattern, row->path) == 0) {
            if (strcmp(last->rows[last->nrows - 1]->method, row->method) == 0) {
                return xt_fail(err, XT_EINVAL, "route %s %s stands twice", row->method, row->path);
            }
            last->nrows++;
        } else {
            last = &t->paths[t->npaths++];
            *last = (struct route_path){ .pattern = row->path, .rows = &t->rows[i], .nrows = 1 };
        }
        last->rate_limited = last->rate_limited || row->rate_limited;
    }
    for (size_t i = 0; i < t->npaths; i++) {
        if (!fill_allow(&t->paths[i])) {
            return xt_fail(err, XT_EINVAL, "route %s has too many methods", t->paths[i].pattern);
        }
    }
    return XT_OK;
}

enum xt_code route_table_init(struct route_table *t, const struct http_route *rows, size_t n, struct xt_err *err) {
    *t = (struct route_table){ .rows = calloc(n + 1, sizeof(*t->rows)), .paths = calloc(n + 1, sizeof(*t->paths)) };
    if (!t->rows || !t->paths) {
        route_table_done(t);
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        if (!pattern_ok(rows[i].path)) {
            enum xt_code rc = xt_fail(err, XT_EINVAL, "route %s is malformed", rows[i].path);
            route_table_done(t);
            return rc;
        }
        t->rows[i] = &rows[i];
    }
    qsort(t->rows, n, sizeof(*t->rows), row_cmp);
    enum xt_code rc = group_rows(t, n, err);
    if (rc != XT_OK) {
        route_table_done(t);
    }
    return rc;
}

void route_table_done(struct route_table *t) {
    free(t->paths);
    free(t->rows);
    *t = (struct route_table){ 0 };
}

static bool match(const char *pattern, struct str path, struct str captures[ROUTE_CAPTURES_MAX], size_t *ret_n) {
    const char *s = path.p, *end = path.p + path.n;
    size_t n = 0;
    for (const char *p = pattern; *p;) {
        if (*p == ':') {
            const char *start = s;
            while (s < end && *s != '/') {
                s++;
            }
            if (s == start) {
                return false;
            }
            captures[n++] = (struct str){ start, (size_t)(s - start) };
            while (*p && *p != '/') {
                p++;
            }
        } else if (s == end || *s != *p) {
            return false;
        } else {
            s++;
            p++;
        }
    }
    *ret_n = n;
    return s == end;
}

const struct route_path *route_find(const struct route_table *t, struct str path,
                                    struct str ret_captures[ROUTE_CAPTURES_MAX], size_t *ret_ncaptures) {
    if (path.n == 0) {
        return NULL;
    }
    for (size_t i = 0; i < t->npaths; i++) {
        if (match(t->paths[i].pattern, path, ret_captures, ret_ncaptures)) {
            return &t->paths[i];
        }
    }
    return NULL;
}

const struct http_route *route_method(const struct route_path *p, struct str method) {
    if (str_eq_c(method, "HEAD")) {
        method = STR_LIT("GET");
    }
    for (size_t i = 0; i < p->nrows; i++) {
        if (str_eq_c(method, p->rows[i]->method)) {
            return p->rows[i];
        }
    }
    return NULL;
}

bool route_protected(const struct http_route *row) { return row->rights != 0 || row->internal || row->open_compat; }

bool route_json_area(struct str path) { return str_starts(path, "/api/") || str_starts(path, "/v1/"); }
