/* test_pg_value.c -- binary values of PostgreSQL, without a server: numeric, escaping, short forms, arrays, results. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/postgres/wire.h"

#define I128_MAX (__int128)(~(unsigned __int128)0 >> 1)
#define I128_MIN (-I128_MAX - 1)

static struct str bytes_of(const uint8_t *p, size_t n) { return (struct str){ (const char *)p, n }; }

static void test_num_known(void **state) {
    (void)state;
    static const struct {
        int64_t v;
        const char *bytes;
        size_t n;
    } cases[] = {
        { 0, "\0\0\0\0\0\0\0\0", 8 },
        { 1, "\0\1\0\0\0\0\0\0\0\1", 10 },
        { -1, "\0\1\0\0\x40\0\0\0\0\1", 10 },
        { 9999, "\0\1\0\0\0\0\0\0\x27\x0f", 10 },
        { 10000, "\0\1\0\1\0\0\0\0\0\1", 10 },
        { 10001, "\0\2\0\1\0\0\0\0\0\1\0\1", 12 },
        { 1000000000000, "\0\1\0\3\0\0\0\0\0\1", 10 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[PG_NUM_BYTES];
        size_t n = pg_num_encode(cases[i].v, out);
        assert_int_equal(n, cases[i].n);
        assert_memory_equal(out, cases[i].bytes, n);
    }
}

static void check_num(__int128 v) {
    uint8_t out[PG_NUM_BYTES];
    __int128 back = ~v;
    size_t n = pg_num_encode(v, out);
    assert_true(n <= PG_NUM_BYTES);
    assert_true(pg_num_decode(bytes_of(out, n), &back));
    assert_true(back == v);
}

static void test_num_edges(void **state) {
    (void)state;
    check_num(I128_MAX);
    check_num(I128_MIN);
    check_num(I128_MIN + 1);
    __int128 p = 1;
    for (int i = 0; i < 39; i++) {
        check_num(p);
        check_num(p - 1);
        check_num(p + 1);
        check_num(-p);
        if (i < 38)
            p *= 10;
    }
    for (int i = 0; i < 127; i++)
        check_num((__int128)1 << i);
}

static void test_num_decode(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        bool ok;
        int64_t want; /* INT64_MAX and INT64_MIN stand for the ends of __int128 */
    } cases[] = {
        { "\0\1\0\x7f\0\0\0\0\0\1", 10, true, INT64_MAX }, /* 10^508 */
        { "\0\1\0\x7f\x40\0\0\0\0\1", 10, true, INT64_MIN },
        { "\0\0\0\0\xD0\0\0\0", 8, true, INT64_MAX }, /* infinities */
        { "\0\0\0\0\xF0\0\0\0", 8, true, INT64_MIN },
        { "\0\0\0\0\xC0\0\0\0", 8, false, 0 },           /* NaN */
        { "\0\2\0\0\0\0\0\4\0\7\x13\x88", 12, true, 7 }, /* 7.5 */
        { "\0\1\xff\xff\0\0\0\4\x13\x88", 10, true, 0 }, /* 0.5 */
        { "\0\0\x7f\xff\0\0\0\0", 8, true, 0 },          /* no digits, far weight */
        { "\0\2\0\0\0\0\0\0\0\1", 10, false, 0 },        /* cut */
        { "\0\1\0\0\0\0\0\0\x27\x10", 10, false, 0 },    /* no digit */
        { "\0\1\0\0\x12\x34\0\0\0\1", 10, false, 0 },    /* no sign */
        { "\0\0\0\0\0\0\0", 7, false, 0 },
        { "", 0, false, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        __int128 v = 42;
        assert_int_equal(pg_num_decode((struct str){ cases[i].bytes, cases[i].n }, &v), cases[i].ok);
        __int128 want = cases[i].want == INT64_MAX ? I128_MAX : cases[i].want == INT64_MIN ? I128_MIN : cases[i].want;
        if (cases[i].ok)
            assert_true(v == want);
    }
    /* One more than the largest, and the smallest: 2^127 with both signs. */
    uint8_t out[PG_NUM_BYTES];
    size_t n = pg_num_encode(I128_MIN, out);
    __int128 v;
    assert_true(pg_num_decode(bytes_of(out, n), &v) && v == I128_MIN);
    out[4] = 0;
    assert_true(pg_num_decode(bytes_of(out, n), &v) && v == I128_MAX);
}

static struct str escape(struct arena *a, struct str s) {
    size_t n = pg_escaped_size(s);
    char *p = arena_bytes(a, n);
    assert_non_null(p);
    pg_escape(s, p);
    return (struct str){ p, n };
}

static void test_escape(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    assert_true(str_eq(escape(&a, STR_LIT("a\0b\1c\2")), STR_LIT("a\1\1b\1\2c\2")));
    /* All strings of up to 4 bytes of {0, 1, 2, x}: they come back, and keep their order and difference. */
    static const char letters[] = { 0, 1, 2, 'x' };
    struct str plain[341], made[341];
    size_t n = 0, from = 0;
    plain[n++] = STR_LIT("");
    for (int length = 1; length <= 4; length++) {
        size_t end = n;
        for (; from < end; from++)
            for (size_t k = 0; k < 4; k++) {
                char *p = arena_bytes(&a, plain[from].n + 1);
                assert_non_null(p);
                memcpy(p, plain[from].p, plain[from].n);
                p[plain[from].n] = letters[k];
                plain[n++] = (struct str){ p, plain[from].n + 1 };
            }
    }
    assert_int_equal(n, 341);
    for (size_t i = 0; i < n; i++) {
        struct str back;
        made[i] = escape(&a, plain[i]);
        assert_null(memchr(made[i].p, 0, made[i].n));
        assert_true(pg_unescape(&a, made[i], &back));
        assert_true(str_eq(back, plain[i]));
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) {
            int x = str_cmp(plain[i], plain[k]), y = str_cmp(made[i], made[k]);
            assert_true((x < 0) == (y < 0) && (x == 0) == (y == 0));
        }
    /* What no escaping makes is kept. */
    static const char *const odd[] = { "\1", "a\1", "\1x", "\1\3" };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct str back;
        assert_true(pg_unescape(&a, str_c(odd[i]), &back));
        assert_true(str_eq_c(back, odd[i]));
    }
    arena_done(&a);
}

static void test_short(void **state) {
    (void)state;
    char text[1000], one[PG_SHORT_MAX], two[PG_SHORT_MAX];
    memset(text, 'a', sizeof text);
    for (size_t n = 0; n <= 200; n += 50) {
        struct str s = pg_short((struct str){ text, n }, one);
        assert_ptr_equal(s.p, text);
        assert_int_equal(s.n, n);
    }
    struct str s = pg_short((struct str){ text, 201 }, one);
    assert_int_equal(s.n, 204);
    assert_memory_equal(s.p, text, 140);
    struct str t = pg_short((struct str){ text, 202 }, two);
    assert_false(str_eq(s, t));
    assert_memory_equal(s.p, t.p, 140);
    /* A character is never cut: "aaa" and then characters of two, three, four bytes. */
    static const char *const letters[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };
    for (size_t l = 0; l < 3; l++)
        for (size_t shift = 0; shift < 4; shift++) {
            size_t size = strlen(letters[l]), n = shift;
            while (n + size < sizeof text) {
                memcpy(text + n, letters[l], size);
                n += size;
            }
            s = pg_short((struct str){ text, n }, one);
            assert_true(s.n > PG_SHORT_KEEP && s.n <= PG_SHORT_MAX);
            assert_int_equal((s.n - 64 - shift) % size, 0);
            assert_memory_equal(s.p, text, s.n - 64);
        }
    /* A short form is no value that is kept as it is, nor its own short form's. */
    t = pg_short(s, two);
    assert_false(str_eq(s, t));
}

static void test_args(void **state) {
    (void)state;
    struct pg_args a;
    struct args_view v;
    pg_args_init(&a);
    for (int round = 0; round < 2; round++) {
        pg_arg_i64(&a, -2);
        pg_arg_time(&a, TIME_NONE);
        pg_arg_array(&a, PG_TEXT, 3);
        pg_item_text(&a, STR_LIT("x\0"));
        pg_item_null(&a);
        pg_item_text(&a, STR_LIT(""));
        pg_arg_array(&a, PG_INT8, 0);
        pg_arg_f64(&a, NAN);
        pg_arg_bool(&a, true);
        pg_arg_array(&a, PG_NUMERIC, 1);
        pg_item_num(&a, 5);
        assert_true(args_view(&a, &v));
        assert_int_equal(a.n, 7);
        assert_int_equal(v.lengths[0], 8);
        assert_memory_equal(v.values[0], "\377\377\377\377\377\377\377\376", 8);
        assert_null(v.values[1]);
        assert_int_equal(a.types[2], PG_TEXT_ARRAY);
        assert_int_equal(v.lengths[2], 20 + 7 + 4 + 4);
        assert_memory_equal(v.values[2],
                            "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\3\0\0\0\1\0\0\0\3x\1\1\377\377\377\377\0\0\0\0", 35);
        assert_int_equal(v.lengths[3], 12);
        assert_null(v.values[4]);
        assert_int_equal(v.lengths[5], 1);
        assert_int_equal(v.lengths[6], 20 + 14);
        pg_args_clear(&a);
    }
    assert_true(args_view(&a, &v));
    /* Memory that runs out shows at the end, once. */
    pg_args_done(&a);
    for (uint64_t k = 1; k <= 3; k++) {
        pg_args_init(&a);
        alloc_fail_at(k);
        pg_arg_i64(&a, 1);
        pg_arg_array(&a, PG_BYTEA, 2);
        pg_item_bytes(&a, (struct str){ (const char[2000]){ 0 }, 2000 });
        pg_item_bytes(&a, STR_NONE);
        alloc_fail_at(0);
        assert_int_equal(args_view(&a, &v), k == 3);
        assert_false(a.too_big);
        pg_args_done(&a);
    }
}

static void test_results(void **state) {
    (void)state;
    static char names[10][16];
    PGresAttDesc at[10];
    for (int i = 0; i < 10; i++) {
        snprintf(names[i], sizeof names[i], "c%d", i);
        at[i] = (PGresAttDesc){ .name = names[i], .format = 1 };
    }
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_non_null(r);
    assert_true(PQsetResultAttrs(r, 10, at));
    const struct {
        const char *p;
        int n;
    } row[10] = { { "\377\377\377\377\377\377\377\377", 8 },
                  { "\377\376", 2 },
                  { "\0\0\1\0", 4 },
                  { "\x3f\xf8\0\0\0\0\0\0", 8 },
                  { "\1", 1 },
                  { "ab\1\1", 4 },
                  { NULL, -1 },
                  { "\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\3\0\0\0\1\0\0\0\1x\377\377\377\377\0\0\0\2\1\2", 35 },
                  { "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\3\0\0\0\1\0\0\0\1x\377\377\377\377\0\0\0\7\1\2", 35 },
                  { "abc", 3 } };
    for (int i = 0; i < 10; i++)
        assert_true(PQsetvalue(r, 0, i, (char *)(uintptr_t)row[i].p, row[i].n));
    struct arena a;
    arena_init(&a, 1 << 16);
    assert_int_equal(pg_i64(r, 0, 0), -1);
    assert_int_equal(pg_i64(r, 0, 1), -2);
    assert_int_equal(pg_i64(r, 0, 2), 256);
    assert_true(pg_f64(r, 0, 3) == 1.5);
    assert_true(pg_bool(r, 0, 4));
    assert_true(str_eq(pg_text(&a, r, 0, 5), STR_LIT("ab\0")));
    assert_true(pg_is_null(r, 0, 6));
    assert_int_equal(pg_i64(r, 0, 6), 0);
    assert_true(pg_time(r, 0, 6) == TIME_NONE);
    assert_true(isnan(pg_f64(r, 0, 6)));
    assert_false(str_has(pg_text(&a, r, 0, 6)));
    assert_false(str_has(pg_bytes(r, 0, 6)));
    assert_true(pg_num(r, 0, 6) == 0);
    struct str *v = NULL;
    size_t n = 9;
    assert_true(pg_texts(&a, r, 0, 7, &v, &n));
    assert_int_equal(n, 3);
    assert_true(str_eq_c(v[0], "x") && !str_has(v[1]) && str_eq_c(v[2], "\1"));
    assert_false(pg_texts(&a, r, 0, 8, &v, &n)); /* an element longer than the rest */
    assert_false(pg_texts(&a, r, 0, 9, &v, &n));
    assert_true(pg_texts(&a, r, 0, 6, &v, &n));
    assert_int_equal(n, 0);
    /* Three bytes are no number, time or truth. */
    assert_int_equal(pg_i64(r, 0, 9), 0);
    assert_true(pg_time(r, 0, 9) == TIME_NONE);
    assert_true(isnan(pg_f64(r, 0, 9)));
    assert_false(pg_bool(r, 0, 9));
    assert_true(pg_num(r, 0, 9) == 0);
    arena_done(&a);
    PQclear(r);
}

static void test_urls(void **state) {
    (void)state;
    static const struct {
        const char *url;
        enum xt_code code;
        const char *say; /* NULL: only what it must not say */
    } cases[] = {
        { "postgresql://u:s3cret@db.example:5433/x?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=3", XT_OK,
          NULL },
        { "postgres://u:s3cret@/x?host=/run/postgresql", XT_OK, NULL },
        { "postgresql://a:1,b:2/x?target_session_attrs=read-write", XT_OK, NULL },
        { "postgresql://u:s3cret@db/x?sslmod=require", XT_EINVAL, "sslmod" },
        { "postgresql://u:s3cret%@db/x", XT_EINVAL, NULL },
        { "postgresql://u:s3cret%zz@db/x", XT_EINVAL, NULL },
        { "postgresql://u:s3cret@[::1/x", XT_EINVAL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pg_target *t = NULL;
        struct xt_err err = { 0 };
        assert_int_equal(pg_target_new(cases[i].url, &t, &err), cases[i].code);
        assert_null(strstr(err.msg, "s3cret"));
        if (cases[i].say)
            assert_non_null(strstr(err.msg, cases[i].say));
        pg_target_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_num_known), cmocka_unit_test(test_num_edges), cmocka_unit_test(test_num_decode),
        cmocka_unit_test(test_escape),    cmocka_unit_test(test_short),     cmocka_unit_test(test_args),
        cmocka_unit_test(test_results),   cmocka_unit_test(test_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
