/* exact.c -- marking numbers before jansson sees them. */
#include "exact.h"

#include <stdio.h>

#define SHORT_DIGITS 18 /* fit int64 in any case */

void exact_init(struct exact *x, uint64_t random) {
    (void)snprintf(x->mark, sizeof x->mark, "\001%016llx", (unsigned long long)random);
    (void)snprintf(x->printed, sizeof x->printed, "\"\\u0001%016llx", (unsigned long long)random);
}

static bool number_char(char c) { return (c >= '0' && c <= '9') || strchr("+-.eE", c) != NULL; }

/* Copies a JSON string with its quotes; returns where it ends. */
static size_t copy_string(struct str s, size_t at, struct buf *out) {
    size_t end = at + 1;

    while (end < s.n && s.p[end] != '"')
        end += s.p[end] == '\\' ? 2 : 1;
    end = end < s.n ? end + 1 : s.n;
    buf_add(out, s.p + at, end - at);
    return end;
}

static size_t copy_number(const struct exact *x, struct str s, size_t at, struct buf *out) {
    size_t end = at;
    bool plain = true;

    while (end < s.n && s.p[end] && number_char(s.p[end])) {
        plain = plain && (s.p[end] == '-' || (s.p[end] >= '0' && s.p[end] <= '9'));
        end++;
    }
    const struct str text = { s.p + at, end - at };
    json_error_t why;
    json_t *ok = plain && text.n <= SHORT_DIGITS
                     ? NULL
                     : json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &why);
    if (ok) {
        buf_add_c(out, "\"\\u0001");
        buf_add_c(out, x->mark + 1);
        buf_add_str(out, text);
        buf_add_char(out, '"');
    } else {
        buf_add_str(out, text);
    }
    json_decref(ok);
    return end;
}

void exact_mark(const struct exact *x, struct str json, struct buf *out) {
    for (size_t at = 0; at < json.n && !out->failed;) {
        const char c = json.p[at];
        size_t end = at;
        if (c == '"') {
            at = copy_string(json, at, out);
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            at = copy_number(x, json, at, out);
        } else {
            while (end < json.n && json.p[end] != '"' && json.p[end] != '-' && (json.p[end] < '0' || json.p[end] > '9'))
                end++;
            buf_add(out, json.p + at, end - at);
            at = end;
        }
    }
}

struct str exact_text(const struct exact *x, const json_t *v) {
    const size_t n = strlen(x->mark);
    const struct str s = { json_string_value(v), json_string_length(v) };

    return s.p && s.n > n && memcmp(s.p, x->mark, n) == 0 ? str_sub(s, n, s.n) : STR_NONE;
}

bool exact_f64(const struct exact *x, const json_t *v, double *ret) {
    const struct str text = exact_text(x, v);
    json_error_t why;
    json_t *number;

    if (json_is_number(v)) {
        *ret = json_number_value(v);
        return true;
    }
    number = str_has(text) ? json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &why) : NULL;
    if (!number)
        return false;
    *ret = json_number_value(number);
    json_decref(number);
    return true;
}

void exact_restore(const struct exact *x, struct str s, struct buf *out) {
    const size_t n = strlen(x->printed);

    for (size_t at = 0; at < s.n;) {
        if (s.p[at] != '"') {
            buf_add_char(out, s.p[at++]);
        } else if (s.n - at > n && memcmp(s.p + at, x->printed, n) == 0) {
            const size_t from = at + n, length = str_find(str_sub(s, from, s.n), '"');
            buf_add(out, s.p + from, length);
            at = from + length + 1;
        } else {
            at = copy_string(s, at, out);
        }
    }
}
