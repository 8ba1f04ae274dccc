/* test_sample_log.c -- rows of the samples' log: there and back, damaged ones, rows of bounded size. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/sample/log.h"

static uint32_t seed = 7;
static uint32_t any(uint32_t below) {
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

static const int64_t times[] = {
    0, -1, 1, TIME_MIN, TIME_MAX, INT64_C(1770000000000000000), INT64_C(1770000000123000000)
};
static const double values[] = { 0,
                                 -0.0,
                                 1,
                                 -1,
                                 0.1,
                                 DBL_MAX,
                                 -DBL_MAX,
                                 5e-324,
                                 4503599627370496.0,
                                 4503599627370497.0,
                                 9007199254740993.0,
                                 -4503599627370496.0,
                                 1e300,
                                 42 };

static void add_some(struct hot *h, int n) {
    struct xt_err err;
    for (int i = 0; i < n; i++) {
        char name[20], v[2][40];
        struct label l[2] = { { STR_LIT("a"), { v[0], 0 } }, { STR_LIT("b\0c"), { v[1], 0 } } };
        snprintf(name, sizeof name, "m%u", any(5));
        for (int k = 0; k < 2; k++)
            l[k].value.n = (size_t)snprintf(v[k], sizeof v[k], any(2) ? "%032x" : "v%u", any(50));
        struct sample p = { .name = str_c(name), .labels = l, .nlabels = any(3), .replaces = any(4) == 0 };
        p.timestamp = any(4) ? INT64_C(1770000000000000000) + any(1000) * INT64_C(1000000) : times[any(7)];
        p.value = values[any(14)];
        assert_int_equal(hot_add(h, any(3), &p, &err), XT_OK);
    }
}

static void same(const struct hot *a, const struct hot *b, uint32_t from) {
    assert_int_equal(a->n.points, b->n.points);
    assert_int_equal(a->n.sets, b->n.sets);
    for (uint32_t i = from; i < a->n.points; i++) {
        double x = hot_point_value(a, i), y = hot_point_value(b, i);
        assert_int_equal(hot_point_set(a, i), hot_point_set(b, i));
        assert_true(hot_point_time(a, i) == hot_point_time(b, i));
        assert_memory_equal(&x, &y, sizeof x);
    }
    for (uint32_t i = 0; i < a->n.sets; i++)
        assert_int_equal(hot_find_set(b, a, i), i);
}

/* Groups of any content, some taken back; the log makes the same part. */
static void there_and_back(void **state) {
    (void)state;
    struct hot *h = hot_part_new(), *copy = hot_part_new();
    struct xt_err err;
    uint64_t lost = 0;
    for (int round = 0; round < 60; round++) {
        struct hot_mark mark;
        struct buf row;
        uint32_t before = h->n.points;
        hot_mark(h, &mark);
        add_some(h, (int)any(40));
        if (any(3) == 0) {
            hot_cut(h, &mark);
            continue;
        }
        buf_init(&row, 1 << 20);
        assert_true(sample_log_encode(h, &mark, &row));
        assert_int_equal(sample_log_replay(copy, buf_str(&row), &lost, &err), XT_OK);
        same(h, copy, before);
        buf_done(&row);
    }
    assert_int_equal(lost, 0);
    hot_part_unref(h);
    hot_part_unref(copy);
}

static void bounded_rows(void **state) {
    (void)state;
    struct hot *h = hot_part_new(), *copy = hot_part_new();
    struct hot_count at = { 0 }, next;
    struct xt_err err;
    uint64_t lost = 0;
    int rows = 0;
    add_some(h, 2000);
    for (; sample_log_next(h, &at, 500, &next); at = next, rows++) {
        struct buf row;
        buf_init(&row, 1 << 20);
        assert_true(sample_log_encode_to(h, &at, &next, &row));
        assert_true(row.n < 3000);
        assert_int_equal(sample_log_replay(copy, buf_str(&row), &lost, &err), XT_OK);
        buf_done(&row);
    }
    assert_true(rows > 20);
    same(h, copy, 0);
    hot_part_unref(h);
    hot_part_unref(copy);
}

/* Each row in a block of its own size, so that a read past its end is seen. */
static enum xt_code replay(struct hot *h, const char *p, size_t n, uint64_t *lost) {
    char *copy = malloc(n ? n : 1);
    struct xt_err err;
    assert_non_null(copy);
    memcpy(copy, p, n);
    enum xt_code code = sample_log_replay(h, (struct str){ copy, n }, lost, &err);
    free(copy);
    return code;
}

/* Each label of a set once, in order: what is sealed later could not be read otherwise. */
static bool labels_in_order(const struct hot *h) {
    for (uint32_t i = 0; i < h->n.sets; i++) {
        const struct hot_set *s = hot_set(h, i);
        for (uint32_t k = 1; k < s->nlabels; k++)
            if (str_cmp(hot_text(h, s->labels[k - 1].key), hot_text(h, s->labels[k].key)) >= 0)
                return false;
    }
    return true;
}

static void fix_crc(struct buf *row) {
    uLong crc = crc32(0, (const Bytef *)row->p + 4, (uInt)(row->n - 4));
    for (int k = 0; k < 4; k++)
        row->p[k] = (char)(crc >> (8 * k));
}

/* Any byte changed, any end cut off: damaged, and nothing was added. With a right checksum: no crash, and what is in fits
 * together. */
static void damaged_rows(void **state) {
    (void)state;
    struct hot *h = hot_part_new();
    struct hot_mark mark;
    struct buf row;
    uint64_t lost = 0;
    buf_init(&row, 1 << 20);
    hot_mark(h, &mark);
    add_some(h, 60);
    assert_true(sample_log_encode(h, &mark, &row));
    for (size_t i = 0; i < row.n; i++) {
        struct hot *copy = hot_part_new();
        row.p[i] ^= 0x21;
        assert_int_equal(replay(copy, row.p, row.n, &lost), XT_ESTORE);
        row.p[i] ^= 0x21;
        assert_int_equal(replay(copy, row.p, i, &lost), XT_ESTORE);
        assert_int_equal(copy->n.points + copy->n.sets + copy->n.strings, 0);
        hot_part_unref(copy);
    }
    int accepted = 0;
    for (int round = 0; round < 20000; round++) {
        struct hot *copy = hot_part_new();
        char saved[4096];
        assert_true(row.n < sizeof saved);
        memcpy(saved, row.p, row.n);
        for (uint32_t k = any(3) + 1; k > 0; k--)
            row.p[4 + any((uint32_t)row.n - 4)] = (char)any(256);
        fix_crc(&row);
        if (replay(copy, row.p, row.n, &lost) == XT_OK) {
            accepted++;
            for (uint32_t i = 0; i < copy->n.points; i++)
                assert_true(hot_set(copy, hot_point_set(copy, i))->name < copy->n.names);
            assert_true(labels_in_order(copy));
        } else {
            assert_int_equal(copy->n.points + copy->n.sets + copy->n.strings, 0);
        }
        memcpy(row.p, saved, row.n);
        hot_part_unref(copy);
    }
    assert_true(accepted > 100);
    buf_done(&row);
    hot_part_unref(h);
}

/* A row that is lost takes with it only what refers to it. */
static void lost_row(void **state) {
    (void)state;
    for (int missing = 0; missing < 6; missing++) {
        struct hot *h = hot_part_new(), *copy = hot_part_new();
        uint64_t lost = 0;
        uint32_t expected = 0;
        bool known[2000] = { false };
        for (int i = 0; i < 6; i++) {
            struct hot_mark mark;
            struct buf row;
            buf_init(&row, 1 << 20);
            hot_mark(h, &mark);
            add_some(h, 100);
            assert_true(h->n.sets < 2000 && sample_log_encode(h, &mark, &row));
            if (i != missing) {
                assert_int_equal(replay(copy, row.p, row.n, &lost), XT_OK);
                for (uint32_t s = mark.count.sets; s < h->n.sets; s++)
                    known[s] = hot_set(copy, s)->name != HOT_NONE;
                for (uint32_t p = mark.count.points; p < h->n.points; p++)
                    expected += known[hot_point_set(h, p)];
            }
            buf_done(&row);
        }
        assert_int_equal(copy->n.points, expected);
        assert_int_equal(lost, 500 - expected);
        assert_true(missing == 5 ? lost == 0 : lost > 0 || missing > 2);
        if (missing < 5)
            assert_int_equal(copy->n.sets, h->n.sets);
        for (uint32_t s = 0; s < copy->n.sets; s++)
            if (hot_set(copy, s)->name != HOT_NONE)
                assert_int_equal(hot_find_set(h, copy, s), s);
        hot_part_unref(h);
        hot_part_unref(copy);
    }
}

static void small(void **state) {
    (void)state;
    struct hot *h = hot_part_new();
    struct hot_mark mark;
    struct xt_err err;
    struct buf row;
    buf_init(&row, 1 << 20);
    for (int g = 0; g < 10; g++) {
        hot_mark(h, &mark);
        buf_clear(&row);
        for (int i = 0; i < 500; i++) {
            char v[20];
            struct label l = { STR_LIT("host"), { v, (size_t)snprintf(v, sizeof v, "h%d", i) } };
            struct sample p = { .name = STR_LIT("gpu"), .labels = &l, .nlabels = 1, .value = 50 + i % 20 };
            p.timestamp = (INT64_C(1770000000000) + g * 15000) * 1000000;
            assert_int_equal(hot_add(h, 1, &p, &err), XT_OK);
        }
        assert_true(sample_log_encode(h, &mark, &row));
        if (g > 0)
            assert_true(row.n < 500 * 4 + 64); /* a byte each for set and time, two for the value */
    }
    buf_done(&row);
    hot_part_unref(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(bounded_rows), cmocka_unit_test(damaged_rows),
        cmocka_unit_test(lost_row),       cmocka_unit_test(small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
