/* value.c -- values of results, and the codecs that need no connection.
 *
 *  1. What comes from the server is checked for its length before it is read: a damaged answer gives NULLs, not a crash.
 *  2. Escaped text is what pg_escape makes; anything else behind a byte 01 is kept as it is. */
#include <limits.h>

#include "base/codec.h"
#include "base/sha.h"
#include "store/postgres/wire.h"

#define NUM_BASE 10000
#define NUM_NEGATIVE 0x4000
#define NUM_INFINITE 0xD000
#define NUM_MINUS_INFINITE 0xF000
#define NUM_DIGITS 10 /* of base 10000 in 39 decimal digits */
#define INT128_MAX (__int128)(~(unsigned __int128)0 >> 1)
#define INT128_MIN (-INT128_MAX - 1)

/* ---- numeric ---- */

size_t pg_num_encode(__int128 v, uint8_t out[PG_NUM_BYTES]) {
    uint16_t digits[NUM_DIGITS];
    unsigned __int128 rest = v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
    int n = 0, skip = 0;
    for (; rest; rest /= NUM_BASE) /* from the lowest */
        digits[n++] = (uint16_t)(rest % NUM_BASE);
    while (skip < n && digits[skip] == 0) /* zeros at the end are not sent */
        skip++;
    char *p = (char *)out;
    wire_u16(p, (uint16_t)(n - skip));
    wire_u16(p + 2, (uint16_t)(n ? n - 1 : 0)); /* weight of the first digit */
    wire_u16(p + 4, v < 0 ? NUM_NEGATIVE : 0);
    wire_u16(p + 6, 0); /* decimals */
    p += 8;
    for (int i = n - 1; i >= skip; i--, p += 2)
        wire_u16(p, digits[i]);
    return (size_t)(p - (char *)out);
}

bool pg_num_decode(struct str s, __int128 *ret) {
    if (s.n < 8)
        return false;
    size_t n = wire_get16(s.p);
    int weight = (int16_t)wire_get16(s.p + 2);
    uint16_t sign = wire_get16(s.p + 4);
    if (sign == NUM_INFINITE || sign == NUM_MINUS_INFINITE) {
        *ret = sign == NUM_INFINITE ? INT128_MAX : INT128_MIN;
        return true;
    }
    if ((sign != 0 && sign != NUM_NEGATIVE) || s.n != 8 + 2 * n)
        return false;
    unsigned __int128 v = 0, limit = (unsigned __int128)INT128_MAX + (sign ? 1 : 0);
    for (int i = 0; i <= weight; i++) {
        unsigned digit = (size_t)i < n ? wire_get16(s.p + 8 + 2 * (size_t)i) : 0;
        if (digit >= NUM_BASE)
            return false;
        if (v > (limit - digit) / NUM_BASE) {
            *ret = sign ? INT128_MIN : INT128_MAX;
            return true;
        }
        v = v * NUM_BASE + digit;
        if (v == 0 && (size_t)i >= n)
            break;
    }
    *ret = sign ? (__int128)-v : (__int128)v;
    return true;
}

/* ---- text without NUL ---- */

static bool is_special(char c) { return (unsigned char)c <= 1; }

size_t pg_escaped_size(struct str s) {
    size_t n = s.n;
    for (size_t i = 0; i < s.n; i++)
        n += is_special(s.p[i]);
    return n;
}

void pg_escape(struct str s, char *out) {
    for (size_t i = 0; i < s.n; i++) {
        if (is_special(s.p[i]))
            *out++ = 1;
        *out++ = is_special(s.p[i]) ? (char)(s.p[i] + 1) : s.p[i];
    }
}

bool pg_unescape(struct arena *a, struct str s, struct str *ret) {
    if (!s.n || !memchr(s.p, 1, s.n)) {
        *ret = s;
        return true;
    }
    char *out = arena_bytes(a, s.n);
    if (!out)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool escape = s.p[i] == 1 && i + 1 < s.n && (s.p[i + 1] == 1 || s.p[i + 1] == 2);
        if (escape)
            i++;
        out[n++] = escape ? (char)(s.p[i] - 1) : s.p[i];
    }
    *ret = (struct str){ out, n };
    return true;
}

struct str pg_short(struct str s, char out[PG_SHORT_MAX]) {
    if (s.n <= PG_SHORT_KEEP)
        return s;
    uint8_t sum[SHA256_BYTES];
    size_t n = PG_SHORT_MAX - 2 * SHA256_BYTES;
    for (int back = 0; back < 3 && ((unsigned char)s.p[n] & 0xC0) == 0x80; back++)
        n--;
    memcpy(out, s.p, n);
    sha256(s, sum);
    hex_encode(sum, sizeof sum, out + n);
    return (struct str){ out, n + 2 * sizeof sum };
}

/* ---- results ---- */

/* Bytes of a value; absent: NULL. */
static struct str raw(const PGresult *r, int row, int col) {
    if (PQgetisnull(r, row, col))
        return STR_NONE;
    int n = PQgetlength(r, row, col);
    return (struct str){ PQgetvalue(r, row, col), n > 0 ? (size_t)n : 0 };
}

bool pg_is_null(const PGresult *r, int row, int col) { return PQgetisnull(r, row, col) != 0; }

static bool get_int(struct str s, int64_t *ret) {
    if (s.n == 8)
        *ret = (int64_t)wire_get64(s.p);
    else if (s.n == 4)
        *ret = (int32_t)wire_get32(s.p);
    else if (s.n == 2)
        *ret = (int16_t)wire_get16(s.p);
    else
        return false;
    return true;
}

int64_t pg_i64(const PGresult *r, int row, int col) {
    int64_t v = 0;
    return get_int(raw(r, row, col), &v) ? v : 0;
}

int64_t pg_time(const PGresult *r, int row, int col) {
    int64_t v = 0;
    return get_int(raw(r, row, col), &v) ? v : TIME_NONE;
}

double pg_f64(const PGresult *r, int row, int col) {
    struct str s = raw(r, row, col);
    double v = NAN;
    if (s.n == sizeof v) {
        uint64_t bits = wire_get64(s.p);
        memcpy(&v, &bits, sizeof v);
    }
    return v;
}

bool pg_bool(const PGresult *r, int row, int col) {
    struct str s = raw(r, row, col);
    return s.n == 1 && s.p[0] != 0;
}

__int128 pg_num(const PGresult *r, int row, int col) {
    __int128 v = 0;
    return pg_num_decode(raw(r, row, col), &v) ? v : 0;
}

struct str pg_bytes(const PGresult *r, int row, int col) {
    return raw(r, row, col);
}

struct str pg_text(struct arena *a, const PGresult *r, int row, int col) {
    struct str s = raw(r, row, col);
    if (str_has(s) && !pg_unescape(a, s, &s))
        return STR_NONE;
    return s;
}

/* The next element of an array; false: its length makes no sense. */
static bool element(struct str *rest, struct str *ret) {
    if (rest->n < 4)
        return false;
    uint32_t n = wire_get32(rest->p);
    *rest = str_sub(*rest, 4, rest->n - 4);
    if (n == UINT32_MAX) {
        *ret = STR_NONE;
        return true;
    }
    if (n > rest->n)
        return false;
    *ret = (struct str){ rest->p, n };
    *rest = (struct str){ rest->p + n, rest->n - n };
    return true;
}

bool pg_texts(struct arena *a, const PGresult *r, int row, int col, struct str **ret, size_t *ret_n) {
    struct str s = raw(r, row, col);
    *ret = NULL;
    *ret_n = 0;
    if (!str_has(s))
        return true;
    if (s.n < 12 || wire_get32(s.p + 8) != PG_TEXT || wire_get32(s.p) > 1)
        return false;
    if (wire_get32(s.p) == 0)
        return true;
    size_t n = s.n >= 20 ? wire_get32(s.p + 12) : 0;
    if (n > (s.n - 12) / 4) /* each has a length at least */
        return false;
    struct str *v = arena_new(a, struct str, n);
    struct str rest = str_sub(s, 20, s.n);
    for (size_t i = 0; v && i < n; i++)
        if (!element(&rest, &v[i]) || (str_has(v[i]) && !pg_unescape(a, v[i], &v[i])))
            return false;
    *ret = v;
    *ret_n = v ? n : 0;
    return v != NULL;
}
