/* test_buf.c -- the hard maximum, the sticking failure, moving the bytes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void check_content(const struct buf *b, size_t n) {
    assert_int_equal(b->n, n);
    if (b->p) {
        assert_int_equal(b->p[n], 0);
        assert_true(b->cap > n);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(b->p[i], 'x');
    }
}

/* The ways to add n bytes 'x'. */
static void add_bytes(struct buf *b, const char *xs, size_t n) { buf_add(b, xs, n); }
static void add_str(struct buf *b, const char *xs, size_t n) { buf_add_str(b, (struct str){ xs, n }); }
static void add_print(struct buf *b, const char *xs, size_t n) { buf_printf(b, "%.*s", (int)n, xs); }
static void add_c(struct buf *b, const char *xs, size_t n) { buf_add_c(b, xs + strlen(xs) - n); }
static void add_chars(struct buf *b, const char *xs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        buf_add_char(b, xs[i]);
    }
}

static void test_max(void **state) {
    (void)state;
    static void (*const ways[])(struct buf *, const char *, size_t) = { add_bytes, add_str, add_print, add_c,
                                                                        add_chars };
    static const size_t maxima[] = { 0, 1, 2, 100, 255, 256, 257, 5000, 100000 };
    static char xs[100003];
    memset(xs, 'x', sizeof(xs) - 1);
    for (size_t w = 0; w < COUNT(ways); w++) {
        for (size_t i = 0; i < COUNT(maxima); i++) {
            size_t max = maxima[i];
            for (size_t n = max ? max - 1 : 0; n <= max + 1; n++) {
                struct buf b;
                buf_init(&b, max);
                ways[w](&b, xs, n);
                assert_int_equal(b.failed, n > max);
                check_content(&b, n <= max ? n : ways[w] == add_chars ? max : 0);
                assert_true(b.cap <= max + 1);
                ways[w](&b, xs, max + 1 - b.n); /* fails in any case, and changes nothing */
                assert_true(b.failed);
                check_content(&b, n <= max ? (ways[w] == add_chars ? max : n) : ways[w] == add_chars ? max : 0);
                buf_done(&b);
            }
        }
    }
}

static void test_pieces(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    for (int i = 0; i < 5; i++) {
        buf_add_c(&b, "xx");
        assert_false(b.failed);
    }
    check_content(&b, 10);
    buf_add(&b, NULL, 0);
    assert_false(b.failed);
    buf_add_char(&b, 'y');
    assert_true(b.failed);
    buf_add(&b, "", 0);
    check_content(&b, 10);
    buf_clear(&b);
    assert_false(b.failed);
    check_content(&b, 0);
    buf_add_c(&b, "x");
    check_content(&b, 1);
    buf_done(&b);
    check_content(&b, 0);
    buf_add_c(&b, "xxx"); /* usable again, with the same maximum */
    check_content(&b, 3);
    buf_done(&b);
}

static void test_failure_sticks(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 4);
    buf_add_c(&b, "xx");
    buf_add_c(&b, "xxx");
    assert_true(b.failed);
    buf_add_c(&b, "x"); /* would fit */
    buf_add_char(&b, 'x');
    buf_printf(&b, "x");
    assert_false(buf_reserve(&b, 1));
    check_content(&b, 2);
    buf_done(&b);
}

static void test_reserve(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    assert_true(buf_reserve(&b, 0));
    assert_true(buf_reserve(&b, 999));
    assert_true(buf_reserve(&b, 1000));
    char *p = b.p;
    memset(b.p, 'x', 1000);
    b.n = 1000;
    b.p[1000] = 0;
    assert_ptr_equal(p, b.p);
    assert_true(buf_reserve(&b, 0));
    assert_false(buf_reserve(&b, 1));
    buf_done(&b);
    buf_init(&b, 1000);
    assert_false(buf_reserve(&b, 1001));
    assert_true(b.failed);
    buf_done(&b);
    buf_init(&b, SIZE_MAX);
    assert_false(buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    buf_clear(&b);
    buf_add_c(&b, "x");
    assert_false(buf_reserve(&b, SIZE_MAX - 1));
    check_content(&b, 1);
    buf_done(&b);
}

static void test_take(void **state) {
    (void)state;
    struct buf b;
    size_t n = 99;
    buf_init(&b, 100);
    assert_null(buf_take(&b, &n));
    assert_int_equal(n, 0);
    assert_true(str_eq_c(buf_str(&b), ""));
    buf_printf(&b, "%s %d", "abc", 12);
    assert_true(str_eq_c(buf_str(&b), "abc 12"));
    char *p = buf_take(&b, &n);
    assert_int_equal(n, 6);
    assert_string_equal(p, "abc 12");
    free(p);
    assert_null(b.p);
    assert_int_equal(b.n, 0);
    buf_add_c(&b, "x");
    check_content(&b, 1);
    buf_done(&b);
}

static void test_fail_nth(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        alloc_fail_at(n);
        size_t good = 0;
        for (int i = 0; i < 1000 && !b.failed; i++) {
            good = b.n;
            if (i % 2) {
                buf_printf(&b, "%300s", "x");
            } else {
                buf_add_c(&b, "xxxxxxxxxx");
            }
        }
        alloc_fail_at(0);
        bool failed = b.failed;
        if (failed) {
            assert_int_equal(b.n, good);
            buf_clear(&b);
            buf_add_c(&b, "x");
            check_content(&b, 1);
        } else {
            assert_int_equal(b.n, 500 * 310);
        }
        buf_done(&b);
        if (!failed) {
            assert_true(n > 8);
            break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_max),     cmocka_unit_test(test_pieces), cmocka_unit_test(test_failure_sticks),
        cmocka_unit_test(test_reserve), cmocka_unit_test(test_take),   cmocka_unit_test(test_fail_nth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
