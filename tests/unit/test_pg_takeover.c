/* test_pg_takeover.c -- values of the original's tables as values of ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/postgres/takeover.h"
#include "store/postgres/wire.h"

static void times(void **state) {
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        { 0, "2000-01-01T00:00:00Z" },
        { 1, "2000-01-01T00:00:00.000001Z" },
        { -INT64_C(946684800000001), "1969-12-31T23:59:59.999999Z" },
        { INT64_C(252455615999999999), "9999-12-31T23:59:59.999999Z" },
        { -INT64_C(211813488000000000), "-4713-11-24T00:00:00Z" },
        { INT64_C(9223371331199999999), "+294276-12-31T23:59:59.999Z" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[TIME_TEXT_MAX];
        time_format_z(tk_time(cases[i].us), out);
        assert_string_equal(out, cases[i].text);
    }
    assert_true(tk_time(INT64_MAX) == TIME_MAX && tk_time(INT64_MIN) == TIME_MIN);
}

static void json_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text, *want; /* want NULL: as it is */
    } cases[] = {
        { "{}", NULL },
        { "[1, -2, 0.1, 1.50, true]", NULL },
        { "18446744073709551615", NULL },
        { "18446744073709551616", "1.8446744073709552e19" },
        { "-9223372036854775808", NULL },
        { "-9223372036854775809", "-9.223372036854776e18" },
        { "[12345678901234568000000, \"12345678901234568000000\"]",
          "[1.2345678901234568e22, \"12345678901234568000000\"]" },
        { "{\"12345678901234568000000\": 1000000000000000000000}", "{\"12345678901234568000000\": 1e21}" },
        { "{\"a\\\"\": \"\\\\\", \"b\": 100000000000000000000}", "{\"a\\\"\": \"\\\\\", \"b\": 1e20}" },
        { "0.00000000000000000000000000000000001", NULL },
        { "123456789012345678901234567890.5", NULL },
        { "\"\"", NULL },
    };
    struct arena a;
    arena_init(&a, SIZE_MAX / 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str got = tk_json(&a, str_c(cases[i].text));
        assert_true(str_has(got));
        char text[200];
        assert_true(got.n < sizeof text);
        memcpy(text, got.p, got.n);
        text[got.n] = '\0';
        assert_string_equal(text, cases[i].want ? cases[i].want : cases[i].text);
    }
    assert_false(str_has(tk_json(&a, str_c("null"))));
    assert_false(str_has(tk_json(&a, STR_NONE)));
    /* Beyond double: as it is. Cut off anywhere: no harm. */
    char big[402];
    memset(big, '9', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    assert_int_equal(tk_json(&a, str_c(big)).n, sizeof big - 1);
    const char *text = "{\"k\\\"\":[\"\\u0041\",12345678901234567890123,-12345678901234567890123,0.5e10]}";
    for (size_t n = 0; n <= strlen(text); n++) {
        char *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, text, n);
        assert_true(tk_json(&a, (struct str){ copy, n }).n <= n + n / 2);
        free(copy);
    }
    arena_done(&a);
}

static void amounts(void **state) {
    (void)state;
    static const struct {
        double v;
        const char *text; /* as it is answered; NULL: none */
    } cases[] = {
        { 0, "0.0" },     { 0.25, "0.25" },      { 0.1, "0.1" },
        { -0.3, "-0.3" }, { 1e-7, "0.0000001" }, { 12345.678, "12345.678" },
        { NAN, NULL },    { INFINITY, NULL },    { -INFINITY, NULL },
    };
    struct arena a;
    arena_init(&a, SIZE_MAX / 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct opt_money m;
        char text[MONEY_TEXT_MAX];
        assert_true(tk_money(&a, cases[i].v, &m));
        assert_true(m.has == (cases[i].text != NULL));
        if (!m.has)
            continue;
        money_format(m.v, text);
        assert_string_equal(text, cases[i].text);
        assert_false(str_has(m.text));
    }
    static const double far[] = { 1e300, -1e300, 5e-324, 1.7976931348623157e308, 1e-19 };
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        struct opt_money m;
        char text[40] = { 0 };
        assert_true(tk_money(&a, far[i], &m) && m.has && str_has(m.text) && m.text.n < sizeof text);
        memcpy(text, m.text.p, m.text.n);
        assert_true(strtod(text, NULL) == far[i]); /* the digits are kept beside */
    }
    arena_done(&a);
}

static void put(char **p, uint32_t v) {
    wire_u32(*p, v);
    *p += 4;
}

static void tags(void **state) {
    (void)state;
    char bytes[200], *p = bytes;
    struct arena a;
    struct str *v;
    size_t n;
    arena_init(&a, SIZE_MAX / 2);
    put(&p, 2), put(&p, 1), put(&p, PG_TEXT); /* {{"", "\x01\x02"}, {NULL, "é"}} */
    put(&p, 2), put(&p, 1), put(&p, 2), put(&p, 1);
    put(&p, 0);
    put(&p, 2), memcpy(p, "\1\2", 2), p += 2;
    put(&p, UINT32_MAX);
    put(&p, 2), memcpy(p, "\303\251", 2), p += 2;
    const size_t all = (size_t)(p - bytes);
    assert_true(tk_tags(&a, (struct str){ bytes, all }, &v, &n));
    assert_int_equal(n, 3);
    assert_true(str_has(v[0]) && v[0].n == 0 && str_eq_c(v[1], "\1\2") && str_eq_c(v[2], "\303\251"));
    for (size_t cut = 0; cut < all; cut++) { /* damaged: refused or fewer, never beyond */
        char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        if (tk_tags(&a, (struct str){ copy, cut }, &v, &n))
            assert_true(n <= 3);
        free(copy);
    }
    p = bytes;
    put(&p, 0), put(&p, 0), put(&p, PG_TEXT);
    assert_true(tk_tags(&a, (struct str){ bytes, 12 }, &v, &n) && n == 0);
    assert_true(tk_tags(&a, STR_NONE, &v, &n) && n == 0);
    put(&p, 9);
    wire_u32(bytes, 7);
    assert_false(tk_tags(&a, (struct str){ bytes, 16 }, &v, &n));
    arena_done(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),
        cmocka_unit_test(json_numbers),
        cmocka_unit_test(amounts),
        cmocka_unit_test(tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
