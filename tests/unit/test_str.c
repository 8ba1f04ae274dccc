/* test_str.c -- text with a length: order, parts, numbers. Texts are copied to memory of their exact size, so that the
 * sanitizer sees a read past the end. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* free() the result's p. */
static struct str exact(struct str s) {
    char *p = malloc(s.n ? s.n : 1);
    assert_non_null(p);
    memcpy(p, s.p, s.n);
    return (struct str){ p, s.n };
}

static void test_cmp(void **state) {
    (void)state;
    static const struct {
        struct str a, b;
        int want;
    } cases[] = {
        { STR_LIT(""), STR_LIT(""), 0 },          { STR_LIT("a"), STR_LIT("a"), 0 },
        { STR_LIT("a"), STR_LIT("b"), -1 },       { STR_LIT("a"), STR_LIT("ab"), -1 },
        { STR_LIT("\x7f"), STR_LIT("\x80"), -1 }, { STR_LIT("a\0b"), STR_LIT("a\0c"), -1 },
        { { NULL, 0 }, STR_LIT(""), -1 },         { { NULL, 0 }, { NULL, 0 }, 0 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(str_cmp(cases[i].a, cases[i].b), cases[i].want);
        assert_int_equal(str_cmp(cases[i].b, cases[i].a), -cases[i].want);
        assert_int_equal(str_eq(cases[i].a, cases[i].b), cases[i].want == 0);
    }
    assert_true(str_eq_nocase(STR_LIT("GZip"), STR_LIT("gzIP")));
    assert_false(str_eq_nocase(STR_LIT("gzip"), STR_LIT("gzi")));
    assert_false(str_eq_nocase(STR_LIT("@"), STR_LIT("`")));
    assert_false(str_eq_nocase(STR_LIT("["), STR_LIT("{")));
    assert_false(str_eq_nocase(STR_LIT("\xc3\x84"), STR_LIT("\xc3\xa4")));
    assert_false(str_eq_nocase(STR_NONE, STR_LIT("")));
    assert_true(str_eq_c(STR_LIT("x"), "x"));
    assert_false(str_eq_c(STR_NONE, ""));
}

static void test_parts(void **state) {
    (void)state;
    assert_true(str_starts(STR_LIT("Bearer x"), "Bearer "));
    assert_false(str_starts(STR_LIT("Bear"), "Bearer"));
    assert_true(str_starts(STR_LIT(""), ""));
    assert_false(str_starts(STR_NONE, ""));
    assert_true(str_ends(STR_LIT("a/json"), "json"));
    assert_false(str_ends(STR_LIT("son"), "json"));
    assert_true(str_eq(str_trim(STR_LIT(" \t\r\n a b \n")), STR_LIT("a b")));
    assert_true(str_eq(str_trim(STR_LIT("   ")), STR_LIT("")));
    assert_false(str_has(str_trim(STR_NONE)));
    assert_true(str_eq(str_sub(STR_LIT("abc"), 1, 1), STR_LIT("b")));
    assert_true(str_eq(str_sub(STR_LIT("abc"), 1, SIZE_MAX), STR_LIT("bc")));
    assert_true(str_eq(str_sub(STR_LIT("abc"), 3, 1), STR_LIT("")));
    assert_true(str_eq(str_sub(STR_LIT("abc"), SIZE_MAX, SIZE_MAX), STR_LIT("")));
    assert_false(str_has(str_sub(STR_NONE, 1, 2)));
    assert_int_equal(str_find(STR_LIT("a=b"), '='), 1);
    assert_int_equal(str_find(STR_LIT("abc"), '='), 3);
    assert_int_equal(str_find(STR_NONE, '='), 0);
}

static void test_split(void **state) {
    (void)state;
    static const struct {
        const char *in;
        const char *parts[4];
    } cases[] = {
        { "a,b", { "a", "b" } },      { "", { "" } },        { ",", { "", "" } },
        { "a,,b", { "a", "", "b" } }, { "a,", { "a", "" } },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str rest = str_c(cases[i].in), part;
        for (size_t k = 0; cases[i].parts[k]; k++) {
            assert_true(str_split(&rest, ',', &part));
            assert_true(str_eq_c(part, cases[i].parts[k]));
        }
        assert_false(str_split(&rest, ',', &part));
        assert_false(str_has(rest));
    }
}

static void test_integers(void **state) {
    (void)state;
    static const struct {
        const char *in;
        bool ok_i, ok_u;
        int64_t i;
        uint64_t u;
    } cases[] = {
        { "0", true, true, 0, 0 },
        { "-0", true, false, 0, 0 },
        { "007", true, true, 7, 7 },
        { "9223372036854775806", true, true, INT64_MAX - 1, INT64_MAX - 1 },
        { "9223372036854775807", true, true, INT64_MAX, INT64_MAX },
        { "9223372036854775808", false, true, 0, UINT64_C(9223372036854775808) },
        { "-9223372036854775807", true, false, -INT64_MAX, 0 },
        { "-9223372036854775808", true, false, INT64_MIN, 0 },
        { "-9223372036854775809", false, false, 0, 0 },
        { "18446744073709551614", false, true, 0, UINT64_MAX - 1 },
        { "18446744073709551615", false, true, 0, UINT64_MAX },
        { "18446744073709551616", false, false, 0, 0 },
        { "18446744073709551620", false, false, 0, 0 },
        { "99999999999999999999999999", false, false, 0, 0 },
        { "", false, false, 0, 0 },
        { "-", false, false, 0, 0 },
        { "--1", false, false, 0, 0 },
        { "+1", false, false, 0, 0 },
        { " 1", false, false, 0, 0 },
        { "1 ", false, false, 0, 0 },
        { "1.0", false, false, 0, 0 },
        { "0x1", false, false, 0, 0 },
        { "1e3", false, false, 0, 0 },
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        struct str s = exact(str_c(cases[k].in));
        int64_t i = 42;
        uint64_t u = 42;
        assert_int_equal(str_to_i64(s, &i), cases[k].ok_i);
        assert_int_equal(str_to_u64(s, &u), cases[k].ok_u);
        assert_true(i == (cases[k].ok_i ? cases[k].i : 42));
        assert_true(u == (cases[k].ok_u ? cases[k].u : 42));
        free((void *)(uintptr_t)s.p);
    }
    int64_t i;
    assert_false(str_to_i64(STR_NONE, &i));
    assert_false(str_to_i64(STR_LIT("1\0002"), &i));
}

static bool same_bits(double a, double b) { return memcmp(&a, &b, sizeof(a)) == 0; }

static void test_doubles(void **state) {
    (void)state;
    static const struct {
        const char *in;
        double want; /* NaN: refused */
    } cases[] = {
        { "0", 0.0 },
        { "-0", -0.0 },
        { "-0.0e99999999999999999999", -0.0 },
        { "1", 1.0 },
        { "1e", (double)NAN },
        { "1e+", (double)NAN },
        { "0.1", 0.1 },
        { "+5", 5.0 },
        { ".5", 0.5 },
        { "5.", 5.0 },
        { "-12.50E-1", -1.25 },
        { "1e22", 1e22 },
        { "1e23", 1e23 },
        { "123456789012345678901234567890", 123456789012345678901234567890.0 },
        { "9007199254740993", 9007199254740992.0 },
        { "9007199254740993.00000000000000000000000000000000000000000001", 9007199254740994.0 },
        /* halfway but for what is far behind */
        { "9685233105216273786e-19", 0x1.efe2499035451p-1 },
        { "5594984488894856889e-19", 0x1.1e7694a849405p-1 },
        { "1.7976931348623157e308", DBL_MAX },
        { "1.7976931348623158e308", DBL_MAX },
        { "1.7976931348623159e308", (double)NAN },
        { "1e999", (double)NAN },
        { "-1e99999999999999999999999", (double)NAN },
        { "5e-324", 5e-324 },
        { "2.4703282292062328e-324", 5e-324 },
        { "2.4703282292062327e-324", 0.0 },
        { "1e-99999999999999999999999", 0.0 },
        { "2.2250738585072011e-308", 2.2250738585072011e-308 },
        { "", (double)NAN },
        { ".", (double)NAN },
        { "-", (double)NAN },
        { "+-1", (double)NAN },
        { "1.2.3", (double)NAN },
        { "1,5", (double)NAN },
        { "0x10", (double)NAN },
        { " 1", (double)NAN },
        { "1 ", (double)NAN },
        { "inf", (double)NAN },
        { "Infinity", (double)NAN },
        { "nan", (double)NAN },
        { "1e5.0", (double)NAN },
        { "e5", (double)NAN },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str s = exact(str_c(cases[i].in));
        double got = 42;
        bool ok = str_to_f64(s, &got);
        if (ok != !isnan(cases[i].want) || (ok && !same_bits(got, cases[i].want))) {
            fail_msg("%s gave %d %.17g", cases[i].in, ok, got);
        }
        assert_true(ok || got == 42);
        free((void *)(uintptr_t)s.p);
    }
}

/* Texts of `zeros` zeros between a head and a tail. */
static double padded(const char *head, size_t zeros, const char *tail) {
    size_t h = strlen(head), t = strlen(tail);
    char *p = malloc(h + zeros + t);
    assert_non_null(p);
    memcpy(p, head, h);
    memset(p + h, '0', zeros);
    memcpy(p + h + zeros, tail, t);
    double v = NAN;
    bool ok = str_to_f64((struct str){ p, h + zeros + t }, &v);
    free(p);
    return ok ? v : (double)NAN;
}

static void test_long_doubles(void **state) {
    (void)state;
    static const size_t zeros[] = { 0, 1, 17, 770, 780, 797, 798, 799, 800, 801, 802, 5000, 200000 };
    for (size_t i = 0; i < COUNT(zeros); i++) {
        size_t n = zeros[i];
        char exponent[32];
        snprintf(exponent, sizeof(exponent), "e-%zu", n);
        assert_true(same_bits(padded("1", n, exponent), 1.0));
        snprintf(exponent, sizeof(exponent), "1e%zu", n);
        assert_true(same_bits(padded("0.", n, exponent), 0.1));
        assert_true(same_bits(padded("0", n, "25"), 25.0));
        /* the halfway case between two doubles is decided by the last digit, however far away */
        assert_true(same_bits(padded("9007199254740993.", n, "0"), 9007199254740992.0));
        assert_true(same_bits(padded("9007199254740993.", n, "1"), 9007199254740994.0));
        assert_true(same_bits(padded("9007199254740992.", n, "1"), 9007199254740992.0));
    }
    assert_true(isnan(padded("1", 309, "")));
    assert_true(same_bits(padded("1", 308, ""), 1e308));
    assert_true(same_bits(padded("0.", 400, "1"), 0.0));
}

/* What printf writes with 17 digits reads back to the same bits. */
static void test_random_doubles(void **state) {
    (void)state;
    uint64_t x = UINT64_C(88172645463325252);
    for (int i = 0; i < 20000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        double v, got;
        memcpy(&v, &x, sizeof(v));
        if (i % 2) {
            v = (double)(int64_t)(x >> 20) / (double)(1 << (i % 16)); /* of everyday size */
        }
        if (!isfinite(v)) {
            continue;
        }
        char text[64];
        int n = snprintf(text, sizeof(text), "%.17g", v);
        struct str s = exact((struct str){ text, (size_t)n });
        assert_true(str_to_f64(s, &got));
        assert_true(same_bits(got, v));
        free((void *)(uintptr_t)s.p);
    }
}

/* Any digits with any exponent, against the C library. */
static void test_random_decimals(void **state) {
    (void)state;
    uint64_t x = 1;
    for (int i = 0; i < 100000; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t digits = (x ^ x >> 29) >> (i % 64);
        int exponent = (int)(x >> 40) % (i % 3 ? 24 : 330);
        exponent = x >> 63 ? -exponent : exponent;
        char text[64];
        int n = snprintf(text, sizeof(text), "%llue%d", (unsigned long long)digits, exponent);
        double got = NAN, want = strtod(text, NULL);
        bool ok = str_to_f64((struct str){ text, (size_t)n }, &got);
        if (ok != isfinite(want) || (ok && !same_bits(got, want))) {
            fail_msg("%s gave %d %.17g", text, ok, got);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmp),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_long_doubles),
        cmocka_unit_test(test_random_doubles),
        cmocka_unit_test(test_random_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
