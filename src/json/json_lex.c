/* json_lex.c -- numbers, escapes, and the place of what is wrong with a text. No allocation. */
#include "json/json_lex.h"

#include <stdint.h>
#include <string.h>

#include "base/codec.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static const char *skip_digits(const char *p, const char *end) {
    while (p < end && is_digit(*p)) {
        p++;
    }
    return p;
}

/* What decides if a number of valid grammar is within double without converting it. */
struct shape {
    const char *digits; /* of the part before the point */
    size_t int_digits;
    int64_t exponent; /* as written, cut far beyond any count of digits */
};

/* Power of ten of the first digit that is not 0, INT64_MIN for zero. */
static int64_t magnitude(const struct shape *s, const char *end) {
    if (*s->digits != '0') {
        return (int64_t)s->int_digits - 1 + s->exponent;
    }
    const char *point = s->digits + 1;
    if (point < end && *point == '.') {
        for (const char *p = point + 1; p < end && is_digit(*p); p++) {
            if (*p != '0') {
                return s->exponent - (p - point);
            }
        }
    }
    return INT64_MIN;
}

/* "e-12" at p, or nothing; the end of what was read, or NULL. */
static const char *scan_exponent(const char *p, const char *end, int64_t *ret) {
    if (p == end || (*p != 'e' && *p != 'E')) {
        return p;
    }
    p++;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) {
        p++;
    }
    const char *first = p;
    int64_t v = 0;
    for (; p < end && is_digit(*p); p++) {
        if (v < INT64_C(1000000000000000)) {
            v = v * 10 + (*p - '0');
        }
    }
    *ret = negative ? -v : v;
    return p == first ? NULL : p;
}

const char *json_number_fault(struct str number) {
    static const char bad[] = "invalid number", range[] = "number out of range";
    const char *p = number.p, *end = number.p + number.n;
    if (p < end && *p == '-') {
        p++;
    }
    struct shape s = { .digits = p };
    p = skip_digits(p, end);
    s.int_digits = (size_t)(p - s.digits);
    if (s.int_digits == 0 || (*s.digits == '0' && s.int_digits > 1)) {
        return bad;
    }
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        p = skip_digits(p, end);
        if (p == fraction) {
            return bad;
        }
    }
    p = scan_exponent(p, end, &s.exponent);
    if (p != end) {
        return bad;
    }
    if (s.exponent == 0 && s.int_digits <= 308) {
        return NULL;
    }
    int64_t power = magnitude(&s, end);
    double unused; /* 1.79e308 or 1.80e308: only converting tells */
    return power < 308 || (power == 308 && str_to_f64(number, &unused)) ? NULL : range;
}

/* The 16 bits of four hex digits, or -1. */
static int hex4(const char *p, const char *end) {
    if (end - p < 4) {
        return -1;
    }
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)p[i], lower = c | 0x20;
        if (is_digit(p[i])) {
            v = v * 16 + (c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            v = v * 16 + (lower - 'a' + 10);
        } else {
            return -1;
        }
    }
    return v;
}

/* Length of the escape at p, 0 when it is bad. */
static size_t escape_length(const char *p, const char *end, bool lenient) {
    if (end - p < 2 || !memchr("\"\\/bfnrtu", p[1], 9)) {
        return 0;
    }
    if (p[1] != 'u') {
        return 2;
    }
    int unit = hex4(p + 2, end);
    if (unit < 0) {
        return 0;
    }
    if ((unit & 0xf800) != 0xd800) {
        return 6;
    }
    bool pair = unit < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u' && (hex4(p + 8, end) & ~0x3ff) == 0xdc00;
    return pair ? 12 : lenient ? 6 : 0;
}

const char *json_escape_fault(struct str inside, bool lenient, const char **ret_at) {
    const char *p = inside.p, *end = inside.p + inside.n;
    while ((p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
        size_t n = escape_length(p, end, lenient);
        if (n == 0) {
            *ret_at = p;
            return "invalid escape";
        }
        p += n;
    }
    return NULL;
}

const char *json_text_fault(struct str text, const char **ret_at) {
    const char *end = text.p + text.n, *quote = NULL; /* quote: of the string that p is in */
    for (const char *p = text.p; p < end;) {
        unsigned char c = (unsigned char)*p;
        *ret_at = p;
        if (c >= 0x80) {
            size_t n = 1; /* one sequence: its head and what continues it */
            while (n < 4 && p + n < end && (p[n] & 0xc0) == 0x80) {
                n++;
            }
            if (!utf8_valid((struct str){ p, n })) {
                return "invalid UTF-8";
            }
            p += n;
            continue;
        }
        if (quote && c < 0x20) {
            return "control character in a string";
        }
        if (c == '"') {
            quote = quote ? NULL : p;
        }
        p += quote && c == '\\' && p + 1 < end && (unsigned char)p[1] < 0x80 && (unsigned char)p[1] >= 0x20 ? 2 : 1;
    }
    *ret_at = quote;
    return quote ? "string without an end" : NULL;
}
