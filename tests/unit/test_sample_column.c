/* test_sample_column.c -- lists of integers and doubles: they come back, they are short, damaged ones do no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>
#include <cmocka.h>

#include "store/sample/column.h"

#define LONG 8192

static uint64_t seed = 1;
static uint64_t draw(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 11 ^ seed << 31;
}

static size_t round_trip(const int64_t *v, size_t n) {
    struct buf out;
    buf_init(&out, 1 << 20);
    column_put_ints(&out, v, n);
    assert_false(out.failed);
    /* Exactly as long as it is, so that a read beyond the end is seen. */
    char *copy = malloc(out.n ? out.n : 1);
    int64_t *back = calloc(n ? n : 1, sizeof *back);
    assert_true(copy && back);
    if (out.n)
        memcpy(copy, out.p, out.n);
    struct column_in in = column_in((struct str){ copy, out.n });
    assert_true(column_ints(&in, back, n));
    assert_true(in.p == in.end);
    if (n)
        assert_memory_equal(back, v, n * sizeof *v);
    size_t bytes = out.n;
    free(copy);
    free(back);
    buf_done(&out);
    return bytes;
}

static void fill(int64_t *v, size_t n, int shape, unsigned bits) {
    for (size_t i = 0; i < n; i++) {
        uint64_t r = draw(), mask = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
        switch (shape) {
        case 0: v[i] = (int64_t)(r & mask); break;
        case 1: v[i] = -(int64_t)(r & mask >> 1); break;
        case 2: v[i] = (int64_t)((r & mask) - mask / 2); break;
        case 3: v[i] = i % 19 ? (int64_t)(r & mask) : INT64_MIN + (int64_t)(r & 3); break;
        case 4: v[i] = i % 23 ? (int64_t)(r & mask) : INT64_MAX - (int64_t)(r & 3); break;
        case 5: v[i] = r & 1 ? INT64_MIN : INT64_MAX; break;
        default: v[i] = i % 31 ? 15000 + (int64_t)(r & 7) : -(int64_t)(r & mask >> 1); break;
        }
    }
}

static void integers(void **state) {
    (void)state;
    static int64_t v[LONG];
    static const size_t lengths[] = { 0, 1, 2, 7, 127, 128, 129, 255, 256, 257, 1000 };
    for (int shape = 0; shape < 7; shape++) {
        for (unsigned bits = 0; bits <= 64; bits++) {
            for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
                fill(v, lengths[k], shape, bits);
                round_trip(v, lengths[k]);
            }
        }
    }
}

static void sizes(void **state) {
    (void)state;
    static int64_t v[LONG];
    for (size_t i = 0; i < LONG; i++)
        v[i] = 123456789;
    assert_true(round_trip(v, LONG) <= LONG / 128 * 6);
    for (size_t i = 0; i < LONG; i++)
        v[i] = (int64_t)(draw() % 32);
    assert_true(round_trip(v, LONG) <= LONG * 5 / 8 + LONG / 128 * 3);
    /* One in 20 far off, above or below: plain frames of reference would take 5 bytes each. */
    for (int sign = -1; sign <= 1; sign += 2) {
        for (size_t i = 0; i < LONG; i++)
            v[i] = draw() % 20 ? 15000000 + (int64_t)(draw() % 16) : 15000000 + sign * (int64_t)(draw() % 10000000000);
        assert_true(round_trip(v, LONG) <= LONG);
    }
}

static void scales(void **state) {
    (void)state;
    static const struct {
        double v;
        unsigned scale;
    } cases[] = {
        { 0.0, 0 },
        { -0.0, COLUMN_NO_SCALE },
        { 1, 0 },
        { -17, 0 },
        { 9007199254740992.0, 0 },
        { 18014398509481984.0, COLUMN_NO_SCALE },
        { 1.5, 1 },
        { 0.001, 1 },
        { -3.0005, 2 },
        { 0.000001, 2 },
        { 0.123456789, 3 },
        { 1e-9, 3 },
        { 1e-10, COLUMN_NO_SCALE },
        { 1.0 / 3, COLUMN_NO_SCALE },
        { 0.1 + 0.2, COLUMN_NO_SCALE },
        { 1e300, COLUMN_NO_SCALE },
        { 5e-324, COLUMN_NO_SCALE },
        { INFINITY, COLUMN_NO_SCALE },
        { -INFINITY, COLUMN_NO_SCALE },
        { NAN, COLUMN_NO_SCALE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t whole;
        assert_int_equal(column_scale(&cases[i].v, 1, &whole), cases[i].scale);
        if (cases[i].scale < COLUMN_NO_SCALE) {
            double back;
            column_unscale(&whole, 1, cases[i].scale, &back);
            assert_memory_equal(&back, &cases[i].v, sizeof back);
        }
        /* One for all: the worst decides. */
        double list[3] = { 2, cases[i].v, 1 };
        int64_t wholes[3];
        assert_int_equal(column_scale(list, 3, wholes), cases[i].scale);
    }
    for (int i = 0; i < 200000; i++) {
        double v, back;
        uint64_t bits = draw();
        int64_t whole;
        memcpy(&v, &bits, sizeof v);
        if (i % 2)
            v = (double)(int64_t)(draw() >> (20 + i % 40)) / (i % 4 == 1 ? 1e3 : i % 4 == 3 ? 1e6 : 1e9);
        unsigned scale = column_scale(&v, 1, &whole);
        if (scale == COLUMN_NO_SCALE)
            continue;
        column_unscale(&whole, 1, scale, &back);
        assert_memory_equal(&back, &v, sizeof v);
    }
}

/* Cut at each length, each bit turned round: an error or some values, nothing else. */
static void damaged(void **state) {
    (void)state;
    int64_t v[300], back[300];
    for (int shape = 0; shape < 7; shape++) {
        struct buf out;
        fill(v, 300, shape, 13 + (unsigned)shape * 8);
        buf_init(&out, 1 << 16);
        column_put_ints(&out, v, 300);
        for (size_t n = 0; n < out.n; n++) {
            char *copy = malloc(n ? n : 1);
            assert_non_null(copy);
            memcpy(copy, out.p, n);
            struct column_in in = column_in((struct str){ copy, n });
            assert_false(column_ints(&in, back, 300));
            free(copy);
        }
        for (size_t bit = 0; bit < out.n * 8; bit++) {
            out.p[bit / 8] ^= (char)(1 << bit % 8);
            struct column_in in = column_in(buf_str(&out));
            (void)column_ints(&in, back, 300);
            out.p[bit / 8] ^= (char)(1 << bit % 8);
        }
        buf_done(&out);
    }
}

static void varints(void **state) {
    (void)state;
    static const uint64_t cases[] = { 0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX >> 1, UINT64_MAX };
    struct buf out;
    buf_init(&out, 100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&out);
        column_put_varint(&out, cases[i]);
        struct column_in in = column_in(buf_str(&out));
        assert_true(column_varint(&in) == cases[i] && !in.bad && in.p == in.end);
        in = column_in((struct str){ out.p, out.n - 1 });
        assert_true(column_varint(&in) == 0 && in.bad);
        in = column_in(buf_str(&out));
        assert_true(column_number(&in, cases[i]) == cases[i] && !in.bad);
        in = column_in(buf_str(&out));
        assert_true(cases[i] == 0 || (column_number(&in, cases[i] - 1) == 0 && in.bad));
    }
    buf_done(&out);
    struct column_in in = column_in(STR_LIT("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"));
    assert_true(column_varint(&in) == 0 && in.bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers), cmocka_unit_test(sizes),   cmocka_unit_test(scales),
        cmocka_unit_test(damaged),  cmocka_unit_test(varints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
