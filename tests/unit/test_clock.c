/* test_clock.c -- the grammar of times, their limits, and all ways to print them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define DAY_2026 (INT64_C(1767225600) * NS_PER_SEC) /* 2026-01-01T00:00:00Z */

static const struct {
    const char *in;
    enum time_parse want;
    int64_t ns;
} parse_cases[] = {
    { "1970-01-01T00:00:00Z", TIME_OK, 0 },
    { "1970-01-01T01:00:00.5+01:00", TIME_OK, 500000000 },
    { "2026-01-01T00:00:00Z", TIME_OK, DAY_2026 },
    { "2026-01-01t00:00:00z", TIME_OK, DAY_2026 },
    { "2026-01-01 00:00:00Z", TIME_OK, DAY_2026 },
    { "2026-01-01T08:00:00+08:00", TIME_OK, DAY_2026 },
    { "2026-01-01T08:00:00+0800", TIME_OK, DAY_2026 },
    { "2025-12-31T18:30:00-05:30", TIME_OK, DAY_2026 },
    { "2026-01-01T00:00:00-00:00", TIME_OK, DAY_2026 },
    { "2026-01-01T23:59:00+23:59", TIME_OK, DAY_2026 },
    { "2026-01-01T24:00:00Z", TIME_SYNTAX, 0 },
    { "2026-01-01T00:60:00Z", TIME_SYNTAX, 0 },
    { "2025-12-31T23:59:60Z", TIME_OK, DAY_2026 }, /* a leap second is the next one */
    { "2025-12-31T23:59:60.25Z", TIME_OK, DAY_2026 + 250000000 },
    { "2025-12-31T23:59:61Z", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00.1Z", TIME_OK, DAY_2026 + 100000000 },
    { "2026-01-01T00:00:00.12345678Z", TIME_OK, DAY_2026 + 123456780 },
    { "2026-01-01T00:00:00.123456789Z", TIME_OK, DAY_2026 + 123456789 },
    { "2026-01-01T00:00:00.1234567899Z", TIME_OK, DAY_2026 + 123456789 },
    { "2026-01-01T00:00:00.00000000099999999999999999999999999999Z", TIME_OK, DAY_2026 },
    { "2026-01-01T00:00:00.Z", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00,5Z", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00", TIME_SYNTAX, 0 }, /* no zone: refuse, do not guess */
    { "2026-01-01T00:00:00.5", TIME_SYNTAX, 0 },
    { "2026-01-01", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00Z", TIME_SYNTAX, 0 },
    { "1767225600", TIME_SYNTAX, 0 },
    { "", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00 00:00", TIME_SYNTAX, 0 }, /* a '+' that became a blank */
    { "2026-01-01T00:00:00+24:00", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00+00:60", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00+08", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00+08:", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00+8:00", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00ZZ", TIME_SYNTAX, 0 },
    { "2026-01-01T00:00:00Z ", TIME_SYNTAX, 0 },
    { " 2026-01-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-1-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-01-1T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-01-01T0:00:00Z", TIME_SYNTAX, 0 },
    { "2026/01/01T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-01-01_00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-00-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-13-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-01-00T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-01-32T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-04-30T00:00:00Z", TIME_OK, INT64_C(1777507200) * NS_PER_SEC },
    { "2026-04-31T00:00:00Z", TIME_SYNTAX, 0 },
    { "2026-02-29T00:00:00Z", TIME_SYNTAX, 0 },
    { "2024-02-29T00:00:00Z", TIME_OK, INT64_C(1709164800) * NS_PER_SEC },
    { "2024-02-30T00:00:00Z", TIME_SYNTAX, 0 },
    { "1900-02-29T00:00:00Z", TIME_SYNTAX, 0 },
    { "2000-02-29T00:00:00Z", TIME_OK, INT64_C(951782400) * NS_PER_SEC },
    { "26-01-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "12345-01-01T00:00:00Z", TIME_SYNTAX, 0 }, /* more than four digits need a sign */
    { "+2026-01-01T00:00:00Z", TIME_OK, DAY_2026 },
    { "+02026-01-01T00:00:00Z", TIME_OK, DAY_2026 },
    { "+00000000000000000000000002024-02-29T00:00:00Z", TIME_OK, INT64_C(1709164800) * NS_PER_SEC },
    { "+99999999999999999999999999999999-12-31T23:59:59Z", TIME_RANGE, TIME_MAX },
    { "-99999999999999999999999999999999-12-31T23:59:59Z", TIME_RANGE, TIME_MIN },
    { "+99999999999999999999999999999996-02-29T23:59:59Z", TIME_RANGE, TIME_MAX },
    { "+99999999999999999999999999999997-02-29T23:59:59Z", TIME_SYNTAX, 0 },
    { "-999-01-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "--2026-01-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "2+2026-01-01T00:00:00Z", TIME_SYNTAX, 0 },
    { "+-2026-01-01T00:00:00Z", TIME_SYNTAX, 0 },
    /* the ends of the near times */
    { "2252-10-08T18:27:16.854775806Z", TIME_OK, TIME_NEAR_MAX - 1 },
    { "2252-10-08T18:27:16.854775807Z", TIME_OK, TIME_NEAR_MAX },
    { "2252-10-08T18:27:16.854776Z", TIME_RANGE, TIME_NEAR_MAX + 1 },
    { "2252-10-08T19:27:16.854775807+01:00", TIME_OK, TIME_NEAR_MAX },
    { "1687-03-25T05:32:43.145224194Z", TIME_OK, TIME_NEAR_MIN + 1 },
    { "1687-03-25T05:32:43.145224193Z", TIME_OK, TIME_NEAR_MIN },
    { "1687-03-25T05:32:43.145224Z", TIME_RANGE, TIME_NEAR_MIN - 1 },
};

static void test_parse(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(parse_cases); i++) {
        size_t n = strlen(parse_cases[i].in);
        char *p = malloc(n + 1); /* one byte that must not be read as part of it */
        assert_non_null(p);
        memcpy(p, parse_cases[i].in, n);
        p[n] = '0';
        int64_t ns = 42;
        enum time_parse got = time_parse_rfc3339((struct str){ p, n }, &ns);
        int64_t want = parse_cases[i].want == TIME_SYNTAX ? 42 : parse_cases[i].ns;
        if (got != parse_cases[i].want || ns != want) {
            fail_msg("%s gave %d %lld", parse_cases[i].in, (int)got, (long long)ns);
        }
        free(p);
    }
    int64_t ns;
    assert_int_equal(time_parse_rfc3339(STR_NONE, &ns), TIME_SYNTAX);
    assert_int_equal(time_parse_rfc3339(STR_LIT("2026-01-01T00:00:00Z\0"), &ns), TIME_SYNTAX);
}

/* No prefix of a time is a time. */
static void test_prefixes(void **state) {
    (void)state;
    static const char text[] = "+12026-01-01T00:00:00.123+08:00";
    int64_t ns;
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        char *p = malloc(n ? n : 1);
        assert_non_null(p);
        memcpy(p, text, n);
        assert_int_equal(time_parse_rfc3339((struct str){ p, n }, &ns), TIME_SYNTAX);
        free(p);
    }
}

static const struct {
    int64_t ns;
    const char *z, *offset, *date;
} format_cases[] = {
    { 0, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00", "1970-01-01" },
    { DAY_2026, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00", "2026-01-01" },
    { DAY_2026 + 500000000, "2026-01-01T00:00:00.500Z", "2026-01-01T00:00:00.500+00:00", "2026-01-01" },
    { DAY_2026 + 1000000, "2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00.001+00:00", "2026-01-01" },
    { DAY_2026 + 123456000, "2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456+00:00", "2026-01-01" },
    { DAY_2026 + 123456789, "2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456789+00:00", "2026-01-01" },
    { DAY_2026 + 1, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001+00:00", "2026-01-01" },
    { DAY_2026 + 999, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000999+00:00", "2026-01-01" },
    { DAY_2026 + 100000999, "2026-01-01T00:00:00.100Z", "2026-01-01T00:00:00.100000999+00:00", "2026-01-01" },
    { DAY_2026 - 1, "2025-12-31T23:59:59.999999Z", "2025-12-31T23:59:59.999999999+00:00", "2025-12-31" },
    { -1, "1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999999+00:00", "1969-12-31" },
    { -NS_PER_DAY, "1969-12-31T00:00:00Z", "1969-12-31T00:00:00+00:00", "1969-12-31" },
    { TIME_NEAR_MAX, "2252-10-08T18:27:16.854775Z", "2252-10-08T18:27:16.854775807+00:00", "2252-10-08" },
    { TIME_NEAR_MIN, "1687-03-25T05:32:43.145224Z", "1687-03-25T05:32:43.145224193+00:00", "1687-03-25" },
};

/* Far times keep their text and their order. */
static void test_far(void **state) {
    static const char *const texts[] = {
        "-262143-01-01T00:00:00Z",      "-9999-01-01T00:00:00Z",         "-4712-01-01T00:00:00Z",
        "-0001-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z",          "0001-01-01T00:00:00Z",
        "1600-02-29T12:00:00.000001Z",  "1677-09-21T00:12:43.145224Z",   "1687-03-25T05:32:43.145224Z",
        "1970-01-01T00:00:00Z",         "2252-10-08T18:27:16.854776Z",   "2262-04-11T23:47:16.854775Z",
        "9999-12-31T23:59:59.999999Z",  "+10000-01-01T00:00:00.000001Z", "+12345-06-07T08:09:10.111Z",
        "+294276-12-31T23:59:59.999Z",
    };
    int64_t last = TIME_MIN, t;
    char out[TIME_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_int_not_equal(time_parse_rfc3339(str_c(texts[i]), &t), TIME_SYNTAX);
        assert_true(t > last);
        time_format_z(t, out);
        assert_string_equal(out, texts[i]);
        assert_true(time_true_ns(t) % 1000 == 0 && time_from_us(time_true_ns(t) / 1000) == t);
        last = t;
    }
    assert_true(time_from_us((__int128)1 << 100) == TIME_MAX && time_from_us(-((__int128)1 << 100)) == TIME_MIN);
    time_format_offset(TIME_MAX, out);
    time_format_offset(TIME_MIN, out);
    for (t = TIME_NEAR_MAX - 3000; t < TIME_NEAR_MAX + 3000; t++) /* no step back over the border */
        assert_true(time_true_ns(t + 1) > time_true_ns(t) - 1000 && time_true_ns(-t - 1) < time_true_ns(-t) + 1000);
}

static void test_format(void **state) {
    (void)state;
    char out[TIME_TEXT_MAX];
    for (size_t i = 0; i < COUNT(format_cases); i++) {
        assert_int_equal(time_format_z(format_cases[i].ns, out), strlen(format_cases[i].z));
        assert_string_equal(out, format_cases[i].z);
        assert_int_equal(time_format_offset(format_cases[i].ns, out), strlen(format_cases[i].offset));
        assert_string_equal(out, format_cases[i].offset);
        assert_int_equal(time_format_date(format_cases[i].ns, out), strlen(format_cases[i].date));
        assert_string_equal(out, format_cases[i].date);
    }
}

/* Our calendar against the C library's, and back through the parser. */
static void test_calendar(void **state) {
    (void)state;
    char out[TIME_TEXT_MAX], want[TIME_TEXT_MAX];
    for (int64_t day = -106751; day <= 106751; day++) { /* every day of int64 */
        int64_t seconds = day * 86400 + (day * 7919 % 86400 + 86400) % 86400;
        if (seconds > TIME_NEAR_MAX / NS_PER_SEC || seconds < TIME_NEAR_MIN / NS_PER_SEC) {
            continue;
        }
        time_t t = (time_t)seconds;
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ", &tm);
        time_format_z(seconds * NS_PER_SEC, out);
        assert_string_equal(out, want);
        int64_t back;
        assert_int_equal(time_parse_rfc3339(str_c(out), &back), TIME_OK);
        assert_true(back == seconds * NS_PER_SEC);
    }
}

static void test_floor(void **state) {
    (void)state;
    static const struct {
        int64_t ns, step, want;
    } cases[] = {
        { 0, 60, 0 },
        { 59, 60, 0 },
        { 60, 60, 60 },
        { 61, 60, 60 },
        { -1, 60, -60 },
        { -60, 60, -60 },
        { -61, 60, -120 },
        { 7, 1, 7 },
        { -7, 1, -7 },
        { TIME_MAX, 1, TIME_MAX },
        { TIME_MAX, TIME_MAX, TIME_MAX },
        { TIME_MAX - 1, TIME_MAX, 0 },
        { TIME_MIN, 1, TIME_MIN },
        { TIME_MIN, TIME_MAX, TIME_MIN },
        { TIME_MIN, NS_PER_DAY, TIME_MIN },
        { -1, TIME_MAX, TIME_MIN },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_true(time_floor(cases[i].ns, cases[i].step) == cases[i].want);
    }
}

static void test_add(void **state) {
    (void)state;
    static const struct {
        int64_t a, b, want;
    } cases[] = {
        { 1, 2, 3 },
        { TIME_MAX, 0, TIME_MAX },
        { TIME_MAX - 1, 1, TIME_MAX },
        { TIME_MAX, 1, TIME_MAX },
        { TIME_MAX, TIME_MAX, TIME_MAX },
        { TIME_MIN + 1, -1, TIME_MIN },
        { TIME_MIN, -1, TIME_MIN },
        { TIME_MIN, TIME_MIN, TIME_MIN },
        { TIME_MIN, TIME_MAX, 0 },
        { -5, INT64_MIN, TIME_MIN },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_true(time_add(cases[i].a, cases[i].b) == cases[i].want);
        assert_true(time_add(cases[i].b, cases[i].a) == cases[i].want);
    }
}

static void test_now(void **state) {
    (void)state;
    int64_t mono = clock_mono_ns(), wall = clock_now_ns();
    assert_true(clock_mono_ns() >= mono);
    assert_true(wall > DAY_2026 - 366 * 2 * NS_PER_DAY);
    int64_t apart = wall / NS_PER_SEC - (int64_t)time(NULL);
    assert_true(apart >= -2 && apart <= 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_prefixes), cmocka_unit_test(test_format),
        cmocka_unit_test(test_far),   cmocka_unit_test(test_calendar), cmocka_unit_test(test_floor),
        cmocka_unit_test(test_add),   cmocka_unit_test(test_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
