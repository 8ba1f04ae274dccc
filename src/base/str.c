/* str.c -- compare, split and parse text that has a length and no terminator.
 *
 * 1. Nothing here reads past s.p + s.n, and nothing relies on a NUL there.
 * 2. Parsers take the whole text or refuse it; *ret is untouched on failure. */
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int str_cmp(struct str a, struct str b) {
    if (!a.p || !b.p) {
        return (a.p != NULL) - (b.p != NULL);
    }
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? (c > 0) - (c < 0) : (a.n > b.n) - (a.n < b.n);
}

static unsigned char lower(char c) {
    unsigned char u = (unsigned char)c;
    return u >= 'A' && u <= 'Z' ? (unsigned char)(u | 0x20) : u;
}

bool str_eq_nocase(struct str a, struct str b) {
    if (!a.p || !b.p) {
        return a.p == b.p;
    }
    if (a.n != b.n) {
        return false;
    }
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i])) {
            return false;
        }
    }
    return true;
}

bool str_starts(struct str s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.p && s.n >= n && memcmp(s.p, prefix, n) == 0;
}

bool str_ends(struct str s, const char *suffix) {
    size_t n = strlen(suffix);
    return s.p && s.n >= n && memcmp(s.p + s.n - n, suffix, n) == 0;
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

struct str str_trim(struct str s) {
    while (s.n && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_blank(s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

struct str str_sub(struct str s, size_t from, size_t n) {
    if (!s.p) {
        return s;
    }
    from = from < s.n ? from : s.n;
    size_t left = s.n - from;
    return (struct str){ s.p + from, n < left ? n : left };
}

size_t str_find(struct str s, char c) {
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

bool str_split(struct str *rest, char sep, struct str *ret_part) {
    if (!rest->p) {
        return false;
    }
    size_t at = str_find(*rest, sep);
    *ret_part = (struct str){ rest->p, at };
    *rest = at < rest->n ? (struct str){ rest->p + at + 1, rest->n - at - 1 } : STR_NONE;
    return true;
}

bool str_to_u64(struct str s, uint64_t *ret) {
    if (s.n == 0) {
        return false;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)digit, &v)) {
            return false;
        }
    }
    *ret = v;
    return true;
}

bool str_to_i64(struct str s, int64_t *ret) {
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t v;
    if (!str_to_u64(negative ? str_sub(s, 1, s.n) : s, &v)) {
        return false;
    }
    if (v > (uint64_t)INT64_MAX + negative) {
        return false;
    }
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* A double and the midpoint to its neighbour have at most 768 significant decimal digits, so what follows matters only
 * by being zero or not: one more '1' stands for it. */
#define DIGITS_KEPT 800
#define EXP_LIMIT INT64_C(1000000000000000) /* larger written exponents are taken for this one */

struct decimal { /* +-digits * 10^exp10 */
    bool negative;
    size_t n; /* significant digits in text */
    int64_t exp10;
    uint64_t head;               /* the digits as an integer; right when n <= 19 */
    char text[DIGITS_KEPT + 32]; /* room for the sticky digit and "e-20000" */
};

/* Reads digits with at most one point from s at *at. False when there is no digit. */
static bool scan_digits(struct str s, size_t *at, struct decimal *d) {
    bool any = false, point = false, sticky = false;
    size_t i = *at;
    for (; i < s.n; i++) {
        char c = s.p[i];
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9') {
            break;
        }
        any = true;
        if (d->n == DIGITS_KEPT) { /* dropped: an integer digit still counts as a power of ten */
            sticky |= c != '0';
            d->exp10 += !point;
            continue;
        }
        d->exp10 -= point;
        if (c != '0' || d->n) { /* leading zeros only move the point */
            d->text[d->n++] = c;
            d->head = d->head * 10 + (uint64_t)(c - '0');
        }
    }
    if (sticky) {
        d->text[d->n++] = '1';
        d->exp10--;
    }
    *at = i;
    return any;
}

/* Reads [eE][+-]digits at *at, if there. False when the 'e' has no digits. */
static bool scan_exponent(struct str s, size_t *at, struct decimal *d) {
    size_t i = *at;
    if (i == s.n || (s.p[i] | 0x20) != 'e') {
        return true;
    }
    i++;
    bool negative = i < s.n && s.p[i] == '-';
    i += i < s.n && (s.p[i] == '-' || s.p[i] == '+');
    size_t first = i;
    int64_t e = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
        e = e < EXP_LIMIT ? e * 10 + (s.p[i] - '0') : EXP_LIMIT;
    }
    d->exp10 += negative ? -e : e;
    *at = i;
    return i > first;
}

/* Up to 19 digits times 10^-19 .. 10^19, which covers nearly all numbers: by integers, rounded once and correctly. */
static bool small_decimal(const struct decimal *d, double *ret) {
    static const uint64_t powers[] = {
        UINT64_C(1),
        UINT64_C(10),
        UINT64_C(100),
        UINT64_C(1000),
        UINT64_C(10000),
        UINT64_C(100000),
        UINT64_C(1000000),
        UINT64_C(10000000),
        UINT64_C(100000000),
        UINT64_C(1000000000),
        UINT64_C(10000000000),
        UINT64_C(100000000000),
        UINT64_C(1000000000000),
        UINT64_C(10000000000000),
        UINT64_C(100000000000000),
        UINT64_C(1000000000000000),
        UINT64_C(10000000000000000),
        UINT64_C(100000000000000000),
        UINT64_C(1000000000000000000),
        UINT64_C(10000000000000000000),
    };
    if (d->n > 19 || d->exp10 < -19 || d->exp10 > 19) {
        return false;
    }
    if (d->exp10 >= 0) {
        *ret = (double)((unsigned __int128)d->head * powers[d->exp10]);
        return true;
    }
    /* The digits are shifted up to bit 127, so the quotient has 64 bits or more; its lowest one says whether anything
     * was left, which is all that rounding to 53 bits still needs to know. */
    int shift = 64 + __builtin_clzll(d->head);
    unsigned __int128 n = (unsigned __int128)d->head << shift, quotient = n / powers[-d->exp10];
    quotient |= quotient * powers[-d->exp10] != n;
    *ret = ldexp((double)quotient, -shift);
    return true;
}

bool str_to_f64(struct str s, double *ret) {
    struct decimal d;
    d.n = 0;
    d.exp10 = 0;
    d.head = 0;
    d.negative = s.n > 0 && s.p[0] == '-';
    size_t at = s.n > 0 && (s.p[0] == '-' || s.p[0] == '+');
    if (!scan_digits(s, &at, &d) || !scan_exponent(s, &at, &d) || at != s.n) {
        return false;
    }
    double v = 0;
    if (d.n && !small_decimal(&d, &v)) {
        int64_t e = d.exp10 < -20000 ? -20000 : d.exp10 > 20000 ? 20000 : d.exp10; /* far beyond any double */
        snprintf(d.text + d.n, sizeof(d.text) - d.n, "e%d", (int)e);
        v = strtod(d.text, NULL); /* the "C" locale: the program never calls setlocale */
        if (isinf(v)) {
            return false;
        }
    }
    *ret = d.negative ? -v : v;
    return true;
}
