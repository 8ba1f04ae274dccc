/* money.c -- exact decimals in a 128-bit count of 1e-18 USD.
 * Invariant: what money_parse gives lies in [MONEY_LOW, MONEY_HIGH], so that money_split loses nothing of it. */
#include "base/money.h"

#define ATTO_PER_NANO INT64_C(1000000000)
#define SCALE 18 /* decimals kept */
#define MONEY_HIGH ((money)INT64_MAX * ATTO_PER_NANO + (ATTO_PER_NANO - 1))
#define MONEY_LOW ((money)INT64_MIN * ATTO_PER_NANO)
#define MONEY_MAX ((money)(~(unsigned __int128)0 >> 1))
#define MONEY_MIN (-MONEY_MAX - 1)

#define DIGITS_KEPT 38                      /* 10^38 - 1 fits the 128 bits */
#define EXP_LIMIT INT64_C(1000000000000000) /* larger written exponents are taken for this one */

struct decimal { /* digits * 10^exp10, and `cut` when digits that are not zero were left out */
    unsigned __int128 digits;
    unsigned count;
    int64_t exp10;
    bool negative, cut;
};

static bool is_digit(struct str s, size_t i) { return i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; }

static void add_digit(struct decimal *d, char c, bool fraction) {
    if (d->count == DIGITS_KEPT) {
        d->cut |= c != '0';
        d->exp10 += !fraction;
        return;
    }
    d->digits = d->digits * 10 + (unsigned)(c - '0');
    d->count += d->count > 0 || c != '0'; /* leading zeros do not count */
    d->exp10 -= fraction;
}

/* JSON's number grammar; leading zeros are let through. */
static bool scan(struct str s, struct decimal *d) {
    *d = (struct decimal){ .negative = s.n > 0 && s.p[0] == '-' };
    size_t i = d->negative;
    if (!is_digit(s, i)) {
        return false;
    }
    for (; is_digit(s, i); i++) {
        add_digit(d, s.p[i], false);
    }
    if (i < s.n && s.p[i] == '.') {
        if (!is_digit(s, ++i)) {
            return false;
        }
        for (; is_digit(s, i); i++) {
            add_digit(d, s.p[i], true);
        }
    }
    if (i < s.n && (s.p[i] | 0x20) == 'e') {
        i++;
        bool negative = i < s.n && s.p[i] == '-';
        i += i < s.n && (s.p[i] == '-' || s.p[i] == '+');
        if (!is_digit(s, i)) {
            return false;
        }
        int64_t e = 0;
        for (; is_digit(s, i); i++) {
            e = e < EXP_LIMIT ? e * 10 + (s.p[i] - '0') : EXP_LIMIT;
        }
        d->exp10 += negative ? -e : e;
    }
    return i == s.n;
}

bool money_parse(struct str s, money *ret, bool *ret_exact) {
    struct decimal d;
    if (!scan(s, &d)) {
        return false;
    }
    const unsigned __int128 limit = d.negative ? (unsigned __int128)-MONEY_LOW : (unsigned __int128)MONEY_HIGH;
    unsigned __int128 v = d.digits;
    int64_t shift = d.exp10 + SCALE;
    bool exact = !d.cut;
    for (; shift < 0 && v != 0; shift++) { /* at most 39 turns */
        exact &= v % 10 == 0;
        v /= 10;
    }
    for (; shift > 0 && v != 0 && v <= limit; shift--) { /* likewise; limit * 10 fits */
        v *= 10;
    }
    if (v > limit) {
        v = limit;
        exact = false;
    }
    *ret = d.negative ? -(money)v : (money)v;
    *ret_exact = exact;
    return true;
}

size_t money_format(money m, char out[MONEY_TEXT_MAX]) {
    char text[MONEY_TEXT_MAX]; /* filled from its end */
    char *p = text + sizeof(text);
    unsigned __int128 v = m < 0 ? -(unsigned __int128)m : (unsigned __int128)m;
    bool keep = false; /* a digit that is not zero was written: zeros before it stay */
    for (int i = 0; i < SCALE; i++, v /= 10) {
        unsigned digit = (unsigned)(v % 10);
        keep |= digit != 0 || i == SCALE - 1;
        if (keep) {
            *--p = (char)('0' + digit);
        }
    }
    *--p = '.';
    do {
        *--p = (char)('0' + (unsigned)(v % 10));
        v /= 10;
    } while (v != 0);
    if (m < 0) {
        *--p = '-';
    }
    size_t n = (size_t)(text + sizeof(text) - p);
    memcpy(out, p, n);
    out[n] = '\0';
    return n;
}

void money_split(money m, int64_t *ret_nano, int64_t *ret_atto) {
    m = m > MONEY_HIGH ? MONEY_HIGH : m < MONEY_LOW ? MONEY_LOW : m;
    money nano = m / ATTO_PER_NANO;
    int64_t atto = (int64_t)(m % ATTO_PER_NANO);
    if (atto < 0) {
        atto += ATTO_PER_NANO;
        nano--;
    }
    *ret_nano = (int64_t)nano;
    *ret_atto = atto;
}

money money_join(int64_t nano, int64_t atto) { return (money)nano * ATTO_PER_NANO + atto; }

money money_add(money a, money b) {
    money sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return b < 0 ? MONEY_MIN : MONEY_MAX;
    }
    return sum;
}
