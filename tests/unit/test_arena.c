/* test_arena.c -- limits, growth, and that allocations neither overlap nor survive a reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Bytes that an arena takes beside n bytes asked of it. */
static size_t head_size(void) {
    struct arena a;
    arena_init(&a, SIZE_MAX);
    assert_non_null(arena_bytes(&a, 1 << 20));
    size_t head = a.used - (1 << 20);
    arena_done(&a);
    return head;
}

static void test_limit(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 16, 100, 4000, 4096, 65536, 65537, 1000000 };
    size_t head = head_size();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t n = sizes[i];
        for (int over = -1; over <= 1; over++) { /* limit - 1, limit, limit + 1 */
            struct arena a;
            arena_init(&a, head + n);
            char *p = arena_bytes(&a, over < 0 ? n - 1 : n + (size_t)over);
            assert_int_equal(p != NULL, over <= 0);
            assert_int_equal(a.failed, over > 0);
            assert_true(a.used <= a.limit);
            if (p) {
                memset(p, 'x', over < 0 ? n - 1 : n);
            }
            arena_done(&a);
        }
    }
}

/* Many small ones fill an arena to its limit and no further. */
static void test_limit_small(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 300000);
    size_t n = 0;
    while (arena_new(&a, uint64_t, 4)) {
        n++;
    }
    assert_true(a.failed);
    assert_true(a.used <= a.limit);
#ifndef __SANITIZE_ADDRESS__ /* there, poisoned gaps take room */
    assert_true(n * 32 > 300000 * 95 / 100);
#endif
    assert_true(n * 32 <= 300000);
    arena_reset(&a);
    assert_false(a.failed);
    assert_non_null(arena_new(&a, uint64_t, 4));
    arena_done(&a);
    assert_int_equal(a.used, 0);
}

static void test_overflow(void **state) {
    (void)state;
    static const struct {
        size_t n, size;
    } cases[] = { { SIZE_MAX, 2 }, { 2, SIZE_MAX }, { SIZE_MAX / 8 + 1, 8 }, { SIZE_MAX, 1 }, { 1, SIZE_MAX - 8 } };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct arena a;
        arena_init(&a, SIZE_MAX);
        assert_null(arena_alloc(&a, cases[i].n, cases[i].size, 8));
        assert_true(a.failed);
        arena_done(&a);
    }
    struct arena a;
    arena_init(&a, SIZE_MAX);
    assert_null(arena_bytes(&a, SIZE_MAX));
    assert_null(arena_bytes(&a, SIZE_MAX - 16));
    assert_false(str_has(arena_str(&a, (struct str){ "x", SIZE_MAX })));
    assert_true(a.failed);
    arena_done(&a);
}

static void test_empty(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 0);
    assert_non_null(arena_alloc(&a, 0, 8, 8));
    assert_non_null(arena_alloc(&a, 5, 0, 8));
    assert_non_null(arena_bytes(&a, 0));
    assert_false(a.failed);
    assert_int_equal(a.used, 0);
    assert_null(arena_bytes(&a, 1));
    assert_true(a.failed);
    arena_done(&a);
}

static void test_align_zero(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 64 << 20);
    for (int round = 0; round < 2; round++) {
        for (size_t align = 1; align <= 4096; align *= 2) {
            for (size_t n = 0; n < 70; n += 3) {
                unsigned char *p = arena_alloc(&a, n, 1, align);
                assert_non_null(p);
                assert_true(n == 0 || (uintptr_t)p % align == 0);
                for (size_t i = 0; i < n; i++) {
                    assert_int_equal(p[i], 0);
                }
                memset(p, 0xff, n);
            }
        }
        arena_reset(&a); /* what was written must not show through in the second round */
    }
    arena_done(&a);
}

/* A large allocation gets a chunk of its own and leaves the room in the current chunk usable. */
static void test_large_keeps_room(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 64 << 20);
    char *first = arena_bytes(&a, 16);
    assert_non_null(first);
    for (int i = 0; i < 20; i++) {
        assert_non_null(arena_bytes(&a, 100000));
        size_t used = a.used;
        char *next = arena_bytes(&a, 16);
        assert_int_equal(a.used, used);
        assert_true(next > first && next - first < 4096);
    }
    arena_done(&a);
}

static void test_growth(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, SIZE_MAX);
    size_t chunks = 0, last = 0, biggest = 0, first = 0;
    for (size_t i = 0; i < 40000; i++) {
        assert_non_null(arena_bytes(&a, 100));
        if (a.used != last) {
            first = first ? first : a.used;
            biggest = a.used - last > biggest ? a.used - last : biggest;
            last = a.used;
            chunks++;
        }
    }
    assert_int_equal(first, 4096);
    assert_int_equal(biggest, 256 * 1024);
    assert_true(chunks < 30);
    arena_done(&a);
}

/* Allocations of every size are filled, and keep their bytes until the reset. */
static void test_no_overlap(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 512 << 20);
    enum { N = 3000 };
    static struct {
        unsigned char *p;
        size_t n;
    } got[N];
    for (int round = 0; round < 3; round++) {
        uint64_t x = 12345 + (uint64_t)round;
        for (size_t i = 0; i < N; i++) {
            x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
            size_t n = (size_t)(x >> 33) % (i % 50 == 0 ? 200000 : i % 7 == 0 ? 3000 : 60);
            got[i].n = n;
            got[i].p = i % 2 ? arena_alloc(&a, n, 1, 8) : (unsigned char *)arena_bytes(&a, n);
            assert_non_null(got[i].p);
            memset(got[i].p, (int)(i & 0xff), n);
        }
        for (size_t i = 0; i < N; i++) {
            for (size_t k = 0; k < got[i].n; k++) {
                assert_true(got[i].p[k] == (i & 0xff));
            }
        }
        arena_reset(&a);
        assert_true(a.used <= 4096 + 200000);
    }
    arena_done(&a);
}

static void test_text(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    struct str s = arena_str(&a, STR_LIT("a\0b"));
    assert_true(str_eq(s, STR_LIT("a\0b")));
    assert_int_equal(s.p[3], 0);
    s = arena_str(&a, STR_LIT(""));
    assert_true(str_has(s));
    assert_int_equal(s.p[0], 0);
    assert_false(str_has(arena_str(&a, STR_NONE)));
    assert_false(a.failed);
    assert_true(str_eq_c(arena_printf(&a, "%d-%s", 7, "x"), "7-x"));
    for (int n = 250; n < 260; n++) { /* around the size of the stack buffer */
        s = arena_printf(&a, "%0*d", n, 1);
        assert_int_equal(s.n, n);
        assert_int_equal(strlen(s.p), n);
        assert_int_equal(s.p[n - 1], '1');
    }
    arena_done(&a);
    arena_init(&a, 8);
    assert_false(str_has(arena_str(&a, STR_LIT(""))));
    assert_true(a.failed);
    arena_done(&a);
}

static bool use_all(struct arena *a) {
    bool ok = arena_new(a, int, 10) != NULL;
    ok = str_has(arena_str(a, STR_LIT("text"))) && ok;
    ok = arena_bytes(a, 100000) != NULL && ok;
    ok = str_has(arena_printf(a, "%05000d", 1)) && ok;
    return ok;
}

static void test_fail_nth(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct arena a;
        arena_init(&a, 1 << 20);
        alloc_fail_at(n);
        bool ok = use_all(&a);
        alloc_fail_at(0);
        assert_int_equal(ok, !a.failed);
        arena_done(&a);
        if (ok) {
            assert_true(n > 3);
            break;
        }
    }
    alloc_fail_at(2);
    assert_false(alloc_should_fail());
    assert_true(alloc_should_fail());
    assert_false(alloc_should_fail());
}

static void test_poison(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    struct arena a;
    arena_init(&a, 1 << 20);
    char *p = arena_bytes(&a, 24), *q = arena_bytes(&a, 8);
    assert_non_null(p);
    assert_non_null(q);
    assert_false(__asan_address_is_poisoned(p + 23));
    assert_true(__asan_address_is_poisoned(p + 24));
    assert_true(__asan_address_is_poisoned(q + 8));
    arena_reset(&a);
    assert_true(__asan_address_is_poisoned(p));
    arena_done(&a);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),    cmocka_unit_test(test_limit_small), cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_empty),    cmocka_unit_test(test_align_zero),  cmocka_unit_test(test_large_keeps_room),
        cmocka_unit_test(test_growth),   cmocka_unit_test(test_no_overlap),  cmocka_unit_test(test_text),
        cmocka_unit_test(test_fail_nth), cmocka_unit_test(test_poison),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
