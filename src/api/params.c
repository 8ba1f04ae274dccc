/* params.c -- see params.h. */
#include "api/params.h"

#include <string.h>

#include "base/clock.h"
#include "base/codec.h"
#include "json/json_write.h"

#define PREFIX "Failed to deserialize query string: "
#define LIST_MAX 10000 /* values of one list */

static struct str clean_text(struct arena *a, struct str s) {
    if (utf8_valid(s))
        return s;
    char *out = arena_bytes(a, 3 * s.n + 1);
    return out ? (struct str){ out, utf8_repair(s, out) } : STR_NONE;
}

static enum xt_code read_i64(const struct param *p, struct str v, struct xt_err *err) {
    struct param_i64 *d = p->dest;
    if (v.n == 0)
        return xt_fail(err, XT_EINVAL, PREFIX "%s: cannot parse integer from empty string", p->name);
    struct str digits = v.p[0] == '+' && v.n > 1 && v.p[1] != '-' ? str_sub(v, 1, v.n) : v;
    if (!str_to_i64(digits, &d->v)) {
        bool number = true;
        for (size_t i = digits.p[0] == '-'; i < digits.n; i++)
            number = number && digits.p[i] >= '0' && digits.p[i] <= '9';
        return xt_fail(err, XT_EINVAL, PREFIX "%s: %s", p->name,
                       number ? "number too large or too small to fit in target type"
                              : "invalid digit found in string");
    }
    d->has = true;
    return XT_OK;
}

static enum xt_code read_value(struct arena *a, const struct param *p, struct str v, struct xt_err *err) {
    switch (p->kind) {
    case PARAM_STR: *(struct str *)p->dest = clean_text(a, v); return XT_OK;
    case PARAM_I64: return read_i64(p, v, err);
    case PARAM_TIME:
        if (time_parse_rfc3339(v, (int64_t *)p->dest) != TIME_SYNTAX)
            return XT_OK;
        return xt_fail(err, XT_EINVAL, PREFIX "%s: %s", p->name,
                       v.n == 0 ? "premature end of input"
                                : "not an RFC 3339 time with zone (a + must be sent as %2B)");
    case PARAM_LIST: break;
    }
    return XT_OK;
}

static bool list_add(struct arena *a, struct param_list *l, struct str v) {
    if (l->n >= LIST_MAX)
        return false;
    if ((l->n & (l->n - 1)) == 0) { /* full at powers of two: double */
        struct str *grown = arena_new(a, struct str, l->n ? 2 * l->n : 1);
        if (!grown)
            return false;
        if (l->n)
            memcpy(grown, l->v, l->n * sizeof *grown);
        l->v = grown;
    }
    l->v[l->n++] = v;
    return true;
}

static bool is_list_name(struct str key, const char *name) {
    size_t n = strlen(name);
    return str_starts(key, name) && (key.n == n || (key.n == n + 2 && key.p[n] == '[' && key.p[n + 1] == ']'));
}

static enum xt_code read_list(struct http_req *req, const struct param *p, struct xt_err *err) {
    struct arena *a = http_arena(req);
    struct param_list *l = p->dest;
    for (size_t i = 0; i < http_query_count(req); i++) {
        struct str key, value;
        http_query_at(req, i, &key, &value);
        if (!is_list_name(key, p->name))
            continue;
        l->has = true;
        if (!list_add(a, l, clean_text(a, value)))
            return xt_fail(err, XT_EINVAL, PREFIX "%s: too many values", p->name);
    }
    if (l->n != 1 || str_find(l->v[0], ',') == l->v[0].n)
        return XT_OK;
    struct str rest = l->v[0], part;
    l->n = 0;
    l->v = NULL;
    while (str_split(&rest, ',', &part))
        if (!list_add(a, l, part))
            return xt_fail(err, XT_EINVAL, PREFIX "%s: too many values", p->name);
    return XT_OK;
}

enum xt_code params_read(struct http_req *req, const struct param *params, size_t n, struct xt_err *err) {
    for (size_t k = 0; k < n; k++) {
        const struct param *p = &params[k];
        bool seen = false;
        enum xt_code rc = p->kind == PARAM_LIST ? read_list(req, p, err) : XT_OK;
        for (size_t i = 0; rc == XT_OK && p->kind != PARAM_LIST && i < http_query_count(req); i++) {
            struct str key, value;
            http_query_at(req, i, &key, &value);
            if (!str_eq_c(key, p->name))
                continue;
            if (seen)
                return xt_fail(err, XT_EINVAL, PREFIX "duplicate field `%s`", p->name);
            seen = true;
            rc = read_value(http_arena(req), p, value, err);
        }
        if (rc != XT_OK)
            return rc;
        if (p->required && !seen)
            return xt_fail(err, XT_EINVAL, PREFIX "missing field `%s`", p->name);
    }
    if (http_arena(req)->failed)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    return XT_OK;
}

int64_t params_upper_bound(int64_t to) { return to != TIME_NONE && to % 1000 == 0 ? time_add(to, 999) : to; }

struct page page_of(struct param_i64 page, struct param_i64 limit) {
    struct page p = { .page = page.has && page.v > 1 ? page.v : 1, .limit = 50 };
    if (limit.has)
        p.limit = limit.v < 1 ? 1 : limit.v > 200 ? 200 : limit.v;
    if (__builtin_mul_overflow(p.page - 1, p.limit, &p.offset))
        p.offset = INT64_MAX;
    return p;
}

void page_write_meta(struct json_writer *w, const struct page *p, int64_t total) {
    jw_obj(w);
    jw_kv_i64(w, "page", p->page);
    jw_kv_i64(w, "limit", p->limit);
    jw_kv_i64(w, "totalItems", total);
    jw_kv_i64(w, "totalPages", total / p->limit + (total % p->limit != 0));
    jw_end(w);
}
