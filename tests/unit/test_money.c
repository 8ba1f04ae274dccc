/* test_money.c -- exact decimals: what is cut, what saturates, and that the rest survives every form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/money.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define HIGH "9223372036.854775807999999999"
#define LOW "-9223372036.854775808"

static const struct {
    const char *in, *want; /* NULL: no number */
    bool exact;
} parse_cases[] = {
    { "0", "0.0", true },
    { "-0", "0.0", true },
    { "-0.000e-5", "0.0", true },
    { "0.25", "0.25", true },
    { "12", "12.0", true },
    { "-12.50", "-12.5", true },
    { "007.5", "7.5", true },
    { "1e-7", "0.0000001", true },
    { "1E+3", "1000.0", true },
    { "1e3", "1000.0", true },
    { "2.5e-6", "0.0000025", true },
    { "0.000000000000000001", "0.000000000000000001", true },
    { "-0.000000000000000001", "-0.000000000000000001", true },
    { "1e-18", "0.000000000000000001", true },
    { "1e-19", "0.0", false },
    { "0.0000000000000000019", "0.000000000000000001", false },
    { "-0.0000000000000000019", "-0.000000000000000001", false },
    { "0.1000000000000000000000000000000000000000000000000000", "0.1", true }, /* zeros are no loss */
    { "0.1000000000000000000000000000000000000000000000000001", "0.1", false },
    { "123456789.123456789012345678", "123456789.123456789012345678", true },
    { "123456789.1234567890123456789", "123456789.123456789012345678", false },
    { "9223372036.854775807999999998", "9223372036.854775807999999998", true },
    { HIGH, HIGH, true },
    { "9223372036.854775808", HIGH, false },
    { "9223372036.8547758079999999999", HIGH, false },
    { "-9223372036.854775807999999999", "-9223372036.854775807999999999", true },
    { LOW, LOW, true },
    { "-9223372036.854775808000000001", LOW, false },
    { "1e10", HIGH, false },
    { "-1e10", LOW, false },
    { "1e999999999999999999999999999", HIGH, false },
    { "-1e999999999999999999999999999", LOW, false },
    { "1e-999999999999999999999999999", "0.0", false },
    { "0e999999999999999999999999999", "0.0", true },
    { "0e-999999999999999999999999999", "0.0", true },
    { "100000000000000000000000000000000000000000000000000000000000000e-60", "100.0", true },
    { "123456789012345678901234567890123456789012345678901234567890e-55", "12345.678901234567890123", false },
    { "340282366920938463463374607431768211455", HIGH, false },
    { "340282366920938463463374607431768211456", HIGH, false },
    { "99999999999999999999999999999999999999e-38", "0.999999999999999999", false },
    { "", NULL, false },
    { "-", NULL, false },
    { "+1", NULL, false },
    { ".5", NULL, false },
    { "5.", NULL, false },
    { "1e", NULL, false },
    { "1e+", NULL, false },
    { "1.5.5", NULL, false },
    { "1,5", NULL, false },
    { " 1", NULL, false },
    { "1 ", NULL, false },
    { "0x1", NULL, false },
    { "NaN", NULL, false },
    { "$1", NULL, false },
    { "1e5.0", NULL, false },
};

static void test_parse(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(parse_cases); i++) {
        size_t n = strlen(parse_cases[i].in);
        char *p = malloc(n ? n : 1);
        assert_non_null(p);
        memcpy(p, parse_cases[i].in, n);
        money m = 42;
        bool exact = !parse_cases[i].exact;
        bool ok = money_parse((struct str){ p, n }, &m, &exact);
        free(p);
        char out[MONEY_TEXT_MAX] = "";
        if (ok) {
            size_t len = money_format(m, out);
            assert_int_equal(len, strlen(out));
        }
        if (ok != (parse_cases[i].want != NULL) ||
            (ok && (strcmp(out, parse_cases[i].want) != 0 || exact != parse_cases[i].exact))) {
            fail_msg("%s gave %d %s exact %d", parse_cases[i].in, ok, out, exact);
        }
        assert_true(ok || m == 42);
        /* what was parsed is what two integers can hold */
        int64_t nano, atto;
        money_split(m, &nano, &atto);
        assert_true(atto >= 0 && atto < 1000000000);
        assert_true(money_join(nano, atto) == m);
    }
    money m;
    bool exact;
    assert_false(money_parse(STR_NONE, &m, &exact));
}

/* A number of a megabyte takes one pass. */
static void test_long(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    char *p = malloc(N);
    assert_non_null(p);
    money m;
    bool exact;
    char out[MONEY_TEXT_MAX];
    memset(p, '0', N);
    p[N - 1] = '7';
    assert_true(money_parse((struct str){ p, N }, &m, &exact));
    money_format(m, out);
    assert_string_equal(out, "7.0");
    assert_true(exact);
    p[1] = '.';
    assert_true(money_parse((struct str){ p, N }, &m, &exact));
    assert_true(m == 0);
    assert_false(exact);
    memset(p, '9', N);
    assert_true(money_parse((struct str){ p, N }, &m, &exact));
    money_format(m, out);
    assert_string_equal(out, HIGH);
    assert_false(exact);
    free(p);
}

static money of_text(const char *text) {
    money m = 0;
    bool exact;
    assert_true(money_parse(str_c(text), &m, &exact));
    assert_true(exact);
    return m;
}

static void test_split(void **state) {
    (void)state;
    static const struct {
        const char *in;
        int64_t nano, atto;
    } cases[] = {
        { "0", 0, 0 },
        { "1", 1000000000, 0 },
        { "0.000000001", 1, 0 },
        { "0.000000000000000001", 0, 1 },
        { "0.000000000999999999", 0, 999999999 },
        { "-0.000000000000000001", -1, 999999999 },
        { "-0.000000001", -1, 0 },
        { "-1.5", -1500000000, 0 },
        { HIGH, INT64_MAX, 999999999 },
        { LOW, INT64_MIN, 0 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t nano, atto;
        money_split(of_text(cases[i].in), &nano, &atto);
        assert_true(nano == cases[i].nano && atto == cases[i].atto);
    }
    int64_t nano, atto;
    money_split(of_text(HIGH) + 1, &nano, &atto);
    assert_true(nano == INT64_MAX && atto == 999999999);
    money_split(of_text(LOW) - 1, &nano, &atto);
    assert_true(nano == INT64_MIN && atto == 0);
}

static void test_add(void **state) {
    (void)state;
    money max = (money)(~(unsigned __int128)0 >> 1), min = -max - 1;
    assert_true(money_add(of_text("0.1"), of_text("0.2")) == of_text("0.3"));
    assert_true(money_add(of_text("-1"), of_text("1")) == 0);
    assert_true(money_add(max, 0) == max);
    assert_true(money_add(max - 1, 1) == max);
    assert_true(money_add(max, 1) == max);
    assert_true(money_add(max, max) == max);
    assert_true(money_add(min + 1, -1) == min);
    assert_true(money_add(min, -1) == min);
    assert_true(money_add(min, min) == min);
    char out[MONEY_TEXT_MAX];
    money_format(max, out);
    assert_string_equal(out, "170141183460469231731.687303715884105727");
    money_format(min, out);
    assert_string_equal(out, "-170141183460469231731.687303715884105728");
}

static void test_random(void **state) {
    (void)state;
    uint64_t x = 99;
    for (int i = 0; i < 20000; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
        int64_t nano = (int64_t)(x ^ x >> 31) >> (i % 60);
        money m = money_join(nano, (int64_t)(x >> 20) % 1000000000);
        char out[MONEY_TEXT_MAX];
        size_t n = money_format(m, out);
        money back;
        bool exact;
        assert_true(money_parse((struct str){ out, n }, &back, &exact));
        assert_true(exact);
        assert_true(back == m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_long),   cmocka_unit_test(test_split),
        cmocka_unit_test(test_add),   cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
