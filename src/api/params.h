/* params.h -- query parameters by table: one row a parameter, one loop, the original's messages. */
#pragma once
#include "http/http.h"

enum param_kind {
    PARAM_STR,  /* struct str: absent when not sent */
    PARAM_I64,  /* struct param_i64 */
    PARAM_TIME, /* int64_t, left alone when not sent; beyond int64 ns it saturates */
    PARAM_LIST  /* struct param_list: repeated, name[]=, or one comma-joined value */
};
struct param_i64 {
    int64_t v;
    bool has;
};
struct param_list {
    struct str *v;
    size_t n;
    bool has;
};
struct param {
    const char *name;
    enum param_kind kind;
    void *dest;
    bool required;
};
/* Unknown parameters are ignored; a repeated scalar, an unreadable value, a missing required one: XT_EINVAL. Text that is
 * not UTF-8 is repaired. Values live in the request's arena. */
enum xt_code params_read(struct http_req *req, const struct param *params, size_t n, struct xt_err *err)
    __attribute__((warn_unused_result));

/* An inclusive upper bound as clients state it: times are shown to the microsecond, so a bound without finer digits
 * includes the whole microsecond, and a trace is found by the time it is shown with. */
int64_t params_upper_bound(int64_t to);

/* page and limit: page >= 1, limit 1..200 (default 50); offset saturates. */
struct page {
    int64_t page, limit, offset;
};
struct page page_of(struct param_i64 page, struct param_i64 limit);
/* {"page","limit","totalItems","totalPages"} */
struct json_writer;
void page_write_meta(struct json_writer *w, const struct page *p, int64_t total);
