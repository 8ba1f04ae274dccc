/* test_map.c -- the table against a plain list, and SipHash against published values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Key 00 01 .. 0f, message of n bytes 00 01 ..: the first values of the designers' table for SipHash-2-4, of which
 * n = 15 is the example of their paper's appendix. */
static const struct {
    size_t n;
    uint64_t want;
} sip24_cases[] = {
    { 0, UINT64_C(0x726fdb47dd0e0e31) },  { 1, UINT64_C(0x74f839c593dc67fd) }, { 2, UINT64_C(0x0d6c8009d9a94f5a) },
    { 3, UINT64_C(0x85676696d7fb7e2d) },  { 4, UINT64_C(0xcf2794e0277187b7) }, { 5, UINT64_C(0x18765564cd99a68d) },
    { 6, UINT64_C(0xcbc9466e58fee3ce) },  { 7, UINT64_C(0xab0200f58b01d137) }, { 8, UINT64_C(0x93f5f5799a932462) },
    { 15, UINT64_C(0xa129ca6149be45e5) },
};

/* SipHash-1-3 with a key of zeros: what CPython 3.11 gives for hash(bytes(range(n))) under PYTHONHASHSEED=0. */
static const struct {
    size_t n;
    uint64_t want;
} sip13_cases[] = {
    { 1, UINT64_C(0x68a914128e01e473) },  { 7, UINT64_C(0x2f098ab0c751325a) },  { 8, UINT64_C(0xead411e67ebe2eea) },
    { 9, UINT64_C(0x75927f9d95124362) },  { 15, UINT64_C(0xf30eb725bb91c9ea) }, { 16, UINT64_C(0x8972188433a5c5b7) },
    { 20, UINT64_C(0x639e355ae68c0100) },
};

static void test_siphash(void **state) {
    (void)state;
    const uint64_t key[2] = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) }, zero[2] = { 0, 0 };
    for (size_t i = 0; i < COUNT(sip24_cases); i++) {
        char *p = malloc(sip24_cases[i].n + 1);
        assert_non_null(p);
        for (size_t k = 0; k < sip24_cases[i].n; k++) {
            p[k + 1] = (char)k;
        }
        /* from an odd address */
        assert_true(map_siphash(key, 2, 4, (struct str){ p + 1, sip24_cases[i].n }) == sip24_cases[i].want);
        free(p);
    }
    for (size_t i = 0; i < COUNT(sip13_cases); i++) {
        char text[64];
        for (size_t k = 0; k < sip13_cases[i].n; k++) {
            text[k] = (char)k;
        }
        assert_true(map_siphash(zero, 1, 3, (struct str){ text, sip13_cases[i].n }) == sip13_cases[i].want);
    }
    assert_true(map_hash(STR_LIT("a")) == map_hash(STR_LIT("a")));
    assert_true(map_hash(STR_LIT("a")) != map_hash(STR_LIT("b")));
    assert_true(map_hash(STR_LIT("a")) != map_siphash(zero, 1, 3, STR_LIT("a"))); /* keyed */
}

static void test_basics(void **state) {
    (void)state;
    struct arena a;
    struct map m;
    int x = 1, y = 2;
    arena_init(&a, 1 << 20);
    map_init(&m, &a);
    assert_null(map_get(&m, STR_LIT("a")));
    assert_int_equal(a.used, 0); /* an empty map costs nothing */
    assert_true(map_put(&m, STR_LIT("a"), &x));
    assert_true(map_put(&m, STR_LIT(""), &y));
    assert_true(map_put(&m, STR_LIT("a\0b"), &y));
    assert_ptr_equal(map_get(&m, STR_LIT("a")), &x);
    assert_ptr_equal(map_get(&m, STR_LIT("")), &y);
    assert_ptr_equal(map_get(&m, STR_LIT("a\0b")), &y);
    assert_null(map_get(&m, STR_LIT("a\0c")));
    assert_null(map_get(&m, STR_NONE)); /* absent is not the empty text */
    assert_int_equal(m.count, 3);
    assert_true(map_put(&m, STR_LIT("a"), &y));
    assert_ptr_equal(map_get(&m, STR_LIT("a")), &y);
    assert_true(map_put(&m, STR_LIT("null"), NULL));
    assert_null(map_get(&m, STR_LIT("null")));
    assert_int_equal(m.count, 4);
    arena_done(&a);
}

enum { MANY = 20000 };

static struct str nth_key(char text[MANY][16], size_t i) {
    return (struct str){ text[i], (size_t)snprintf(text[i], 16, "key-%zu", i) };
}

static void test_many(void **state) {
    (void)state;
    static char text[MANY][16];
    static int values[MANY];
    struct arena a;
    struct map m;
    arena_init(&a, 64 << 20);
    map_init(&m, &a);
    for (size_t i = 0; i < MANY; i++) {
        assert_true(map_put(&m, nth_key(text, i), &values[i]));
        assert_int_equal(m.count, i + 1);
        assert_true(m.count <= m.cap / 4 * 3);
    }
    for (size_t i = 0; i < MANY; i++) {
        char other[16];
        size_t n = (size_t)snprintf(other, sizeof(other), "key-%zu", i);
        assert_ptr_equal(map_get(&m, (struct str){ other, n }), &values[i]);
        other[0] = 'K';
        assert_null(map_get(&m, (struct str){ other, n }));
    }
    assert_true(a.used < (size_t)MANY * 32 * 6);
    arena_done(&a);
}

/* A put that fails leaves the map as it was, and a later one may succeed. */
static void test_no_memory(void **state) {
    (void)state;
    static char text[MANY][16];
    int value = 1;
    struct arena a;
    struct map m;
    arena_init(&a, 20000);
    map_init(&m, &a);
    size_t n = 0;
    while (n < MANY && map_put(&m, nth_key(text, n), &value)) {
        n++;
    }
    assert_true(n > 12 && n < MANY);
    assert_int_equal(m.count, n);
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(map_get(&m, nth_key(text, i)), &value);
    }
    assert_null(map_get(&m, STR_LIT("other")));
    assert_true(map_put(&m, nth_key(text, 0), NULL)); /* replacing needs no room */
    a.limit = 1 << 20;
    assert_true(map_put(&m, nth_key(text, n), &value));
    assert_ptr_equal(map_get(&m, nth_key(text, n)), &value);
    arena_done(&a);
}

static void test_fail_nth(void **state) {
    (void)state;
    static char text[MANY][16];
    int value = 1;
    for (uint64_t fail = 1;; fail++) {
        struct arena a;
        struct map m;
        arena_init(&a, 64 << 20);
        map_init(&m, &a);
        alloc_fail_at(fail);
        size_t failures = 0;
        for (size_t i = 0; i < 5000; i++) {
            if (!map_put(&m, nth_key(text, i), &value)) {
                failures++;
                assert_null(map_get(&m, nth_key(text, i)));
                assert_true(map_put(&m, nth_key(text, i), &value)); /* only one allocation fails */
            }
        }
        alloc_fail_at(0);
        assert_int_equal(m.count, 5000);
        for (size_t i = 0; i < 5000; i++) {
            assert_ptr_equal(map_get(&m, nth_key(text, i)), &value);
        }
        arena_done(&a);
        if (failures == 0) {
            assert_true(fail > 5);
            break;
        }
        assert_int_equal(failures, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash),   cmocka_unit_test(test_basics),   cmocka_unit_test(test_many),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_fail_nth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
