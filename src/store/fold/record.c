/* record.c -- see record.h. */
#include "store/fold/record.h"

#include <string.h>

#include "base/buf.h"
#include "base/codec.h"
#include "json/json_write.h"

enum xt_code row_damaged(struct xt_err *err) { return xt_fail(err, XT_ESTORE, "a stored record is damaged"); }

enum xt_code no_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

money trace_rec_cost(const struct trace_rec *r) { return r->cost.has ? r->cost.v : r->ocost; }

double seconds_between(int64_t from, int64_t to) {
    if (from == TIME_NONE || to == TIME_NONE)
        return (double)NAN;
    return (double)(time_true_ns(to) - time_true_ns(from)) / (double)NS_PER_SEC;
}

double trace_rec_latency(const struct trace_rec *r) {
    return isnan(r->latency) ? seconds_between(r->t0, r->t1) : r->latency;
}

/* ---- tags ---- */

struct str tags_encode(struct arena *a, const struct str *tags, size_t n) {
    struct buf out;
    struct json_writer w;
    buf_init(&out, SIZE_MAX / 2);
    jw_init(&w, &out);
    jw_arr(&w);
    for (size_t i = 0; i < n; i++)
        jw_str(&w, tags[i]);
    jw_end(&w);
    struct str text = jw_done(&w) ? arena_str(a, buf_str(&out)) : STR_NONE;
    buf_done(&out);
    return text;
}

/* Index of the quote that ends the string beginning at `from`, or SIZE_MAX. */
static size_t string_end(struct str s, size_t from) {
    for (size_t i = from; i < s.n; i++) {
        if (s.p[i] == '"')
            return i;
        i += s.p[i] == '\\';
    }
    return SIZE_MAX;
}

/* Visits the strings between the brackets; `out` NULL: only counts them. SIZE_MAX: malformed or no memory. */
static size_t tags_walk(struct arena *a, struct str json, struct str *out) {
    size_t n = 0, at = 1;
    if (json.n < 2 || json.p[0] != '[' || json.p[json.n - 1] != ']')
        return SIZE_MAX;
    if (json.n == 2)
        return 0;
    for (;;) {
        size_t end = at < json.n && json.p[at] == '"' ? string_end(json, at + 1) : SIZE_MAX;
        if (end == SIZE_MAX || end + 1 >= json.n)
            return SIZE_MAX;
        struct str raw = { json.p + at + 1, end - at - 1 };
        if (out && raw.n > 0 && memchr(raw.p, '\\', raw.n)) {
            char *plain = arena_bytes(a, raw.n);
            size_t len = plain ? json_unescape(raw, true, plain) : SIZE_MAX;
            if (len == SIZE_MAX)
                return SIZE_MAX;
            raw = (struct str){ plain, len };
        }
        if (out)
            out[n] = raw;
        n++;
        if (end + 2 == json.n)
            return n;
        if (json.p[end + 1] != ',')
            return SIZE_MAX;
        at = end + 2;
    }
}

bool tags_decode(struct arena *a, struct str json, struct str **ret, size_t *ret_n) {
    size_t n = str_has(json) ? tags_walk(a, json, NULL) : 0;
    struct str *tags = n == SIZE_MAX ? NULL : arena_new(a, struct str, n);
    if (!tags || (n > 0 && tags_walk(a, json, tags) != n))
        return false;
    *ret = tags;
    *ret_n = n;
    return true;
}
