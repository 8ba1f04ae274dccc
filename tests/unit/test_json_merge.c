/* test_json_merge.c -- deep merge of free JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json/json_merge.h"
#include "json/json_read.h"

static const struct {
    const char *stored, *given, *want; /* NULL: absent */
} cases[] = {
    { NULL, NULL, NULL },
    { "1", NULL, "1" },
    { "{\"a\": 1}", NULL, "{\"a\": 1}" },
    { NULL, "{\"a\": 1}", "{\"a\": 1}" },
    { "1", "2", "2" },
    { "{\"a\":1}", "null", "null" },
    { "{\"a\":1}", "[1]", "[1]" },
    { "[1]", "{\"a\":1}", "{\"a\":1}" },
    { "[1]", "[2]", "[2]" },
    { "\"{}\"", "{\"a\":1}", "{\"a\":1}" },
    { "{}", "{}", "{}" },
    { "{\"a\":1}", "{}", "{\"a\":1}" },
    { "{}", "{\"a\":1}", "{\"a\":1}" },
    { "{\"a\":1}", "{\"b\":2}", "{\"a\":1,\"b\":2}" },
    { "{\"a\":1,\"b\":2}", "{\"b\":3,\"a\":4}", "{\"a\":4,\"b\":3}" },
    { " { \"a\" : 1 } ", " { \"b\" : [ 1, 2 ] } ", "{\"a\":1,\"b\":[ 1, 2 ]}" },
    { "{\"o\":{\"x\":1,\"y\":{\"z\":2}},\"l\":[1]}", "{\"o\":{\"y\":{\"w\":3},\"x\":null},\"l\":[2]}",
      "{\"o\":{\"x\":null,\"y\":{\"z\":2,\"w\":3}},\"l\":[2]}" },
    { "{\"o\":{\"x\":1}}", "{\"o\":1}", "{\"o\":1}" },
    { "{\"o\":1}", "{\"o\":{\"x\":1}}", "{\"o\":{\"x\":1}}" },
    { "{\"o\":[{\"x\":1}]}", "{\"o\":[{\"y\":1}]}", "{\"o\":[{\"y\":1}]}" },
    /* the last of equal names counts, on either side and in any spelling */
    { "{\"a\":1,\"b\":0,\"a\":2}", "{\"c\":3}", "{\"a\":2,\"b\":0,\"c\":3}" },
    { "{\"a\":{\"x\":1}}", "{\"a\":{\"y\":1},\"a\":{\"z\":1}}", "{\"a\":{\"x\":1,\"z\":1}}" },
    { "{\"\\u0061\":1}", "{\"a\":2}", "{\"a\":2}" },
    { "{\"q\\\"\\n\\u0001\\/\":1}", "{}", "{\"q\\\"\\n\\u0001/\":1}" },
    { "{\"\":1}", "{\"\":{\"\":2}}", "{\"\":{\"\":2}}" },
    { "{\"\\u0000\":1}", "{\"\\u0000b\":2}", "{\"\\u0000\":1,\"\\u0000b\":2}" },
    /* numbers stay as written, lone surrogates in values too */
    { "{\"n\":123456789012345678901234567890}", "{\"m\":1.50}", "{\"n\":123456789012345678901234567890,\"m\":1.50}" },
    { "{\"s\":\"\\ud800\"}", "{\"t\":[\"\\udc00\"]}", "{\"s\":\"\\ud800\",\"t\":[\"\\udc00\"]}" },
};

/* The text in memory of exactly its size: nothing behind it may be read. */
static struct str exact(const char *text) {
    if (!text) {
        return STR_NONE;
    }
    size_t n = strlen(text);
    char *p = malloc(n);
    assert_non_null(p);
    memcpy(p, text, n);
    return (struct str){ p, n };
}

static void test_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct arena a;
        arena_init(&a, 1 << 20);
        struct str stored = exact(cases[i].stored), given = exact(cases[i].given);
        struct str got = json_merge(&a, stored, given);
        if (!str_eq(got, str_c(cases[i].want))) {
            fail_msg("case %zu: %.*s", i, STR_FMT(got));
        }
        assert_false(a.failed);
        arena_done(&a);
        free((void *)(uintptr_t)stored.p);
        free((void *)(uintptr_t)given.p);
    }
}

/* depth objects in each other around {name:1}. */
static struct str nest(unsigned depth, char name) {
    char *p = malloc(depth * 6 + 16);
    assert_non_null(p);
    size_t n = 0;
    for (unsigned i = 1; i < depth; i++) {
        memcpy(p + n, "{\"d\":", 5);
        n += 5;
    }
    n += (size_t)snprintf(p + n, 8, "{\"%c\":1}", name);
    memset(p + n, '}', depth - 1);
    return (struct str){ p, n + depth - 1 };
}

static void test_depth(void **state) {
    (void)state;
    for (unsigned depth = 999; depth <= 1001; depth++) {
        struct arena a;
        arena_init(&a, 1 << 22);
        struct str stored = nest(depth, 'x'), given = nest(depth, 'y');
        struct str got = json_merge(&a, stored, given);
        assert_int_equal(got.n, depth <= 1000 ? stored.n + 6 : given.n);
        assert_int_equal(got.p == given.p, depth > 1000);
        assert_int_equal(json_valid(got, 1000), depth <= 1000);
        arena_done(&a);
        free((void *)(uintptr_t)stored.p);
        free((void *)(uintptr_t)given.p);
    }
}

static void test_memory(void **state) {
    (void)state;
    struct str stored = STR_LIT("{\"a\":{\"x\":\"\\n\"},\"b\":2}"), given = STR_LIT("{\"a\":{\"y\":1},\"c\":3}");
    struct str got = STR_NONE;
    uint64_t n = 0;
    while (!got.p && n++ < 100) {
        struct arena a;
        arena_init(&a, 1 << 20);
        alloc_fail_at(n);
        got = json_merge(&a, stored, given);
        alloc_fail_at(0);
        assert_true(got.p || a.failed);
        if (got.p) {
            assert_true(str_eq_c(got, "{\"a\":{\"x\":\"\\n\",\"y\":1},\"b\":2,\"c\":3}"));
        }
        arena_done(&a);
    }
    assert_true(n > 2 && n < 100);
    for (size_t limit = 0; limit < 4096; limit += 64) {
        struct arena a;
        arena_init(&a, limit);
        got = json_merge(&a, stored, given);
        assert_true(got.p || a.failed);
        arena_done(&a);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
