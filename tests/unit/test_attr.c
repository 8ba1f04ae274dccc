/* test_attr.c -- attributes as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json/json_read.h"
#include "model/attr.h"

static struct attr_value text(const char *s) { return (struct attr_value){ .type = ATTR_STR, .s = str_c(s) }; }

static struct attr_value integer(int64_t i) { return (struct attr_value){ .type = ATTR_INT, .i = i }; }

static void is_written(const struct attr_value *v, const char *want) {
    struct buf out;
    buf_init(&out, 1 << 20);
    attr_write_json(&out, v);
    assert_false(out.failed);
    if (!str_eq_c(buf_str(&out), want)) {
        fail_msg("%.*s is not %s", STR_FMT(buf_str(&out)), want);
    }
    buf_done(&out);
}

static void scalars(void **state) {
    (void)state;
    const struct {
        struct attr_value v;
        const char *json;
    } cases[] = {
        { { .type = ATTR_EMPTY }, "null" },
        { { .type = ATTR_BOOL, .boolean = true }, "true" },
        { { .type = ATTR_BOOL }, "false" },
        { { .type = ATTR_INT, .i = INT64_MIN }, "-9223372036854775808" },
        { { .type = ATTR_DOUBLE, .d = 1 }, "1.0" },
        { { .type = ATTR_DOUBLE, .d = -0.0 }, "-0.0" },
        { { .type = ATTR_DOUBLE, .d = 1e300 }, "1e300" },
        { { .type = ATTR_DOUBLE, .d = (double)__builtin_nanf("") }, "\"NaN\"" },
        { { .type = ATTR_DOUBLE, .d = __builtin_inf() }, "\"Infinity\"" },
        { { .type = ATTR_DOUBLE, .d = -__builtin_inf() }, "\"-Infinity\"" },
        { { .type = ATTR_STR, .s = { "a\"\n\0\xc3\xa9", 6 } }, "\"a\\\"\\n\\u0000\xc3\xa9\"" },
        { { .type = ATTR_STR, .s = { "", 0 } }, "\"\"" },
        { { .type = ATTR_BYTES, .s = { "\0\1\2\xff", 4 } }, "\"AAEC/w==\"" },
        { { .type = ATTR_BYTES, .s = { "", 0 } }, "\"\"" },
        { { .type = ATTR_ARRAY }, "[]" },
        { { .type = ATTR_KVLIST }, "{}" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        is_written(&cases[i].v, cases[i].json);
    }
}

static void containers(void **state) {
    (void)state;
    struct attr inner[] = { { STR_LIT("k"), text("v") }, { STR_LIT("l"), integer(1) }, { STR_LIT("k"), integer(2) } };
    struct attr_value items[] = { text("a"),
                                  { .type = ATTR_EMPTY },
                                  { .type = ATTR_KVLIST, .members = inner, .n = 3 } };
    struct attr_value v = { .type = ATTR_ARRAY, .items = items, .n = 3 };
    is_written(&v, "[\"a\",null,{\"l\":1,\"k\":2}]");
}

static void nesting_ends(void **state) {
    (void)state;
    static struct attr_value chain[ATTR_MAX_DEPTH + 50];
    size_t n = sizeof chain / sizeof *chain;
    for (size_t i = 0; i + 1 < n; i++) {
        chain[i] = (struct attr_value){ .type = ATTR_ARRAY, .items = &chain[i + 1], .n = 1 };
    }
    struct buf out;
    buf_init(&out, 1 << 20);
    attr_write_json(&out, chain);
    assert_int_equal(out.n, 2 * ATTR_MAX_DEPTH + 4);
    assert_true(json_valid(buf_str(&out), 1000));
    buf_done(&out);
}

static void lists(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, (size_t)256 << 20);
    struct attr_list l = { NULL, 0, 0 };
    assert_true(str_eq_c(attr_list_json(&a, &l), "{}"));
    assert_null(attr_find(&l, "a"));
    struct attr *x = attr_list_add(&a, &l);
    *x = (struct attr){ STR_LIT("a"), integer(1) };
    *attr_list_add(&a, &l) = (struct attr){ STR_LIT("b"), integer(2) };
    *attr_list_add(&a, &l) = (struct attr){ STR_LIT("a"), integer(3) };
    *attr_list_add(&a, &l) = (struct attr){ STR_NONE, integer(4) };
    assert_true(str_eq_c(attr_list_json(&a, &l), "{\"b\":2,\"a\":3,\"\":4}"));
    assert_int_equal(attr_find(&l, "a")->i, 3);
    const bool skip[] = { false, true, true, false };
    struct buf out;
    buf_init(&out, 1 << 20);
    attr_list_write_json(&out, &l, skip); /* the first `a` stays hidden behind the skipped one */
    assert_true(str_eq_c(buf_str(&out), "{\"\":4}"));
    buf_done(&out);
    arena_done(&a);
}

/* A key that repeats 200,000 times, and as many different ones: neither is quadratic. */
static void long_lists(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, (size_t)1 << 30);
    struct attr_list l = { NULL, 0, 0 };
    for (int i = 0; i < 200000; i++) {
        struct attr *x = attr_list_add(&a, &l);
        assert_non_null(x);
        *x = (struct attr){ STR_LIT("same"), integer(i) };
        x = attr_list_add(&a, &l);
        assert_non_null(x);
        *x = (struct attr){ arena_printf(&a, "k%d", i), integer(i) };
    }
    struct str json = attr_list_json(&a, &l);
    assert_true(str_starts(json, "{\"k0\":0,\"k1\":1,"));
    assert_true(str_ends(json, ",\"same\":199999,\"k199999\":199999}"));
    arena_done(&a);
}

static const struct {
    const char *in, *json; /* NULL: the text itself */
} payloads[] = {
    { "plain text", "\"plain text\"" },
    { "", "\"\"" },
    { " ", "\" \"" },
    { "{\"a\": [1, 2]}", NULL },
    { " [1]\n", "[1]" },
    { "[1", "\"[1\"" },
    { "{bad", "\"{bad\"" },
    { "\"quoted\"", NULL },
    { "\"half", "\"\\\"half\"" },
    { "5", NULL },
    { "-1.5e3", NULL },
    { "0012", "\"0012\"" },
    { "1e999", "\"1e999\"" },
    { "5 apples", "\"5 apples\"" },
    { "true", NULL },
    { "truest", "\"truest\"" },
    { "false", NULL },
    { "null", NULL },
    { "nan", "\"nan\"" },
    { "-", "\"-\"" },
    { "{} {}", "\"{} {}\"" },
    { "\"\\ud800\"", "\"\\\"\\\\ud800\\\"\"" },
};

static void payload_strings(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        struct attr_value v = text(payloads[i].in);
        struct str got = attr_payload_json(&a, &v);
        const char *want = payloads[i].json ? payloads[i].json : payloads[i].in;
        if (!str_eq_c(got, want)) {
            fail_msg("%s: %.*s", payloads[i].in, STR_FMT(got));
        }
        assert_true(json_valid(got, 1000));
    }
    struct attr_value none = { .type = ATTR_EMPTY }, i = integer(7);
    assert_false(str_has(attr_payload_json(&a, &none)));
    assert_true(str_eq_c(attr_payload_json(&a, &i), "7"));
    arena_done(&a);
}

static void payload_depth(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t depth = 986; depth <= 1001; depth++) {
        char nest[2100];
        memset(nest, '[', depth);
        memset(nest + depth, ']', depth);
        struct attr_value v = { .type = ATTR_STR, .s = { nest, 2 * depth } };
        struct str got = attr_payload_json(&a, &v);
        assert_true(str_has(got));
        assert_int_equal(got.p[0], depth <= 1000 ? '[' : '"');
        assert_int_equal(attr_is_container_json(v.s), depth <= 1000);
    }
    arena_done(&a);
}

static void missing_memory_is_reported(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 100000);
    struct attr_value v = text("plain");
    alloc_fail_at(1);
    assert_false(str_has(attr_payload_json(&a, &v)));
    alloc_fail_at(2);
    assert_false(str_has(attr_payload_json(&a, &v)));
    struct attr_list l = { NULL, 0, 0 };
    arena_init(&a, 200000);
    for (int i = 0; i < 100; i++) {
        struct attr *x = attr_list_add(&a, &l);
        assert_non_null(x);
        *x = (struct attr){ STR_LIT("k"), text("v") };
    }
    for (uint64_t n = 1;; n++) {
        alloc_fail_at(n);
        struct str json = attr_list_json(&a, &l);
        alloc_fail_at(0);
        if (str_has(json)) {
            assert_true(n > 2);
            break;
        }
        assert_true(n < 20);
    }
    arena_done(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),       cmocka_unit_test(containers),
        cmocka_unit_test(nesting_ends),  cmocka_unit_test(lists),
        cmocka_unit_test(long_lists),    cmocka_unit_test(payload_strings),
        cmocka_unit_test(payload_depth), cmocka_unit_test(missing_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
