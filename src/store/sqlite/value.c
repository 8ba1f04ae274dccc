/* value.c -- values on their way into and out of statements: texts, times, 128-bit sums, the keyed hash. No state. */
#include "store/sqlite/engine.h"

#include <math.h>

#define SUM_UNIT INT64_C(1000000000000000000)

/* ---- binding ---- */

void bind_str(sqlite3_stmt *st, int i, struct str s) {
    if (!str_has(s))
        sqlite3_bind_null(st, i);
    else if (sqlite3_bind_text64(st, i, s.p, s.n, SQLITE_STATIC, SQLITE_UTF8) != SQLITE_OK)
        sqlite3_bind_blob(st, i, "", 0, SQLITE_STATIC); /* see engine.h */
}

void bind_blob(sqlite3_stmt *st, int i, struct str s) {
    if (!str_has(s))
        sqlite3_bind_null(st, i);
    else if (sqlite3_bind_blob64(st, i, s.p, s.n, SQLITE_STATIC) != SQLITE_OK)
        sqlite3_bind_int(st, i, 0);
}

void bind_time(sqlite3_stmt *st, int i, int64_t ns) {
    if (ns == TIME_NONE)
        sqlite3_bind_null(st, i);
    else
        sqlite3_bind_int64(st, i, ns);
}

void bind_f64(sqlite3_stmt *st, int i, double v) {
    sqlite3_bind_double(st, i, v); /* SQLite itself turns NaN into NULL */
}

/* ---- columns ---- */

/* As blob, also for text: that asks for no terminating NUL, thus for no copy of long texts and no memory. */
struct str col_blob(sqlite3_stmt *st, int i) {
    if (sqlite3_column_type(st, i) == SQLITE_NULL)
        return STR_NONE;
    const char *p = sqlite3_column_blob(st, i);
    int n = sqlite3_column_bytes(st, i);
    return p && n > 0 ? (struct str){ p, (size_t)n } : STR_LIT("");
}

struct str col_str(sqlite3_stmt *st, int i) {
    return col_blob(st, i);
}

int64_t col_time(sqlite3_stmt *st, int i) {
    return sqlite3_column_type(st, i) == SQLITE_NULL ? TIME_NONE : sqlite3_column_int64(st, i);
}

double col_f64(sqlite3_stmt *st, int i) {
    return sqlite3_column_type(st, i) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(st, i);
}

/* ---- sums ---- */

void sum_split(__int128 v, int64_t *ret_hi, int64_t *ret_lo) {
    __int128 hi = v / SUM_UNIT, lo = v % SUM_UNIT;
    if (lo < 0) {
        lo += SUM_UNIT;
        hi--;
    }
    if (hi > INT64_MAX) {
        hi = INT64_MAX;
        lo = SUM_UNIT - 1;
    } else if (hi < INT64_MIN) {
        hi = INT64_MIN;
        lo = 0;
    }
    *ret_hi = (int64_t)hi;
    *ret_lo = (int64_t)lo;
}

__int128 sum_join(int64_t hi, int64_t lo) { return (__int128)hi * SUM_UNIT + lo; }

/* ---- SipHash-2-4 of kind, project (eight bytes each) and key ---- */

static inline uint64_t rotl(uint64_t x, int b) { return (x << b) | (x >> (64 - b)); }

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_rounds(struct sip *s, int n) {
    while (n-- > 0) {
        s->v0 += s->v1;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v2 = rotl(s->v2, 32);
    }
}

static inline void sip_word(struct sip *s, uint64_t m) {
    s->v3 ^= m;
    sip_rounds(s, 2);
    s->v0 ^= m;
}

/* Little-endian on every machine: hashes are stored. */
static inline uint64_t word_at(const unsigned char *p, size_t n) {
    uint64_t m = 0;
    for (size_t i = 0; i < n; i++)
        m |= (uint64_t)p[i] << (8 * i);
    return m;
}

int64_t key_hash(const struct sqlite_store *e, unsigned kind, int64_t project, struct str key) {
    struct sip s = { e->hash_key[0] ^ UINT64_C(0x736f6d6570736575), e->hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
                     e->hash_key[0] ^ UINT64_C(0x6c7967656e657261), e->hash_key[1] ^ UINT64_C(0x7465646279746573) };
    sip_word(&s, kind);
    sip_word(&s, (uint64_t)project);
    const unsigned char *p = (const unsigned char *)key.p;
    size_t whole = key.n & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8)
        sip_word(&s, word_at(p + i, 8));
    uint64_t last = (uint64_t)((16 + key.n) & 0xff) << 56;
    if (key.n > whole)
        last |= word_at(p + whole, key.n - whole);
    sip_word(&s, last);
    s.v2 ^= 0xff;
    sip_rounds(&s, 4);
    return (int64_t)(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}
