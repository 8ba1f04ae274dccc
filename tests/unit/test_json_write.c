/* test_json_write.c -- the writer's output byte for byte, and that what is wrongly nested fails. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "json/json_write.h"

static void assert_text(const struct buf *b, const char *want) { assert_string_equal(b->p ? b->p : "", want); }

static void test_document(void **state) {
    (void)state;
    struct buf b;
    struct json_writer w;
    buf_init(&b, 4096);
    jw_init(&w, &b);
    assert_false(jw_done(&w));
    jw_obj(&w);
    jw_kv_str(&w, "s", STR_LIT("v"));
    jw_kv_str(&w, "none", STR_NONE);
    jw_kv_cstr(&w, "c", "w");
    jw_kv_cstr(&w, "nullc", NULL);
    jw_kv_i64(&w, "i", -7);
    jw_kv_f64(&w, "f", 1.5);
    jw_kv_bool(&w, "t", true);
    jw_kv_bool(&w, "b", false);
    jw_kv_null(&w, "n");
    jw_kv_raw(&w, "raw", STR_LIT("{\"a\" : [1]}"));
    jw_kv_raw(&w, "noraw", STR_NONE);
    jw_key_str(&w, STR_LIT("k\"\n"));
    jw_money(&w, (money)1500000000000000000);
    jw_key(&w, "list");
    jw_arr(&w);
    jw_arr(&w);
    jw_end(&w);
    jw_obj(&w);
    jw_end(&w);
    jw_i64(&w, 1);
    jw_end(&w);
    assert_false(jw_done(&w));
    jw_end(&w);
    assert_true(jw_done(&w));
    assert_text(&b, "{\"s\":\"v\",\"none\":null,\"c\":\"w\",\"nullc\":null,\"i\":-7,\"f\":1.5,\"t\":true,\"b\":false,"
                    "\"n\":null,\"raw\":{\"a\" : [1]},\"noraw\":null,\"k\\\"\\n\":1.5,\"list\":[[],{},1]}");
    buf_done(&b);
}

static const struct {
    struct str in;
    const char *out;
} string_cases[] = {
    { STR_LIT(""), "\"\"" },
    { STR_LIT("plain"), "\"plain\"" },
    { STR_LIT("\"\\/"), "\"\\\"\\\\/\"" },
    { STR_LIT("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"" },
    { STR_LIT("a\0b"), "\"a\\u0000b\"" },
    { STR_LIT("\x01\x0b\x0e\x1b\x1f"), "\"\\u0001\\u000b\\u000e\\u001b\\u001f\"" },
    { STR_LIT("\x20\x7f\xc3\xa4\xf0\x9f\x98\x80"), "\"\x20\x7f\xc3\xa4\xf0\x9f\x98\x80\"" },
    { STR_LIT("end\\"), "\"end\\\\\"" },
};

static void test_strings(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(string_cases) / sizeof(*string_cases); i++) {
        struct buf b;
        struct json_writer w;
        buf_init(&b, 4096);
        jw_init(&w, &b);
        jw_str(&w, string_cases[i].in);
        assert_true(jw_done(&w));
        assert_text(&b, string_cases[i].out);
        buf_done(&b);
    }
}

static const struct {
    double v;
    const char *text;
} double_cases[] = {
    { 0.0, "0.0" },
    { -0.0, "-0.0" },
    { 1, "1.0" },
    { -1, "-1.0" },
    { 85, "85.0" },
    { 0.1, "0.1" },
    { 0.1 + 0.2, "0.30000000000000004" },
    { 12.5, "12.5" },
    { 1e15, "1000000000000000.0" },
    { 1.5e15, "1500000000000000.0" },
    { 9007199254740993.0, "9007199254740992.0" },
    { 1234567890123456.7, "1234567890123456.8" },
    { 1e16, "1e16" },
    { -1e16, "-1e16" },
    { 123456789012345680.0, "1.2345678901234568e17" },
    { 1.5e300, "1.5e300" },
    { 0.00001, "0.00001" },
    { 0.000012345, "0.000012345" },
    { 0.000001, "1e-6" },
    { 0.0000015, "1.5e-6" },
    { -1e-7, "-1e-7" },
    { 0.05, "0.05" },
    { 5e-324, "5e-324" },
    { DBL_MIN, "2.2250738585072014e-308" },
    { DBL_MAX, "1.7976931348623157e308" },
    { -DBL_MAX, "-1.7976931348623157e308" },
    { INFINITY, "1.7976931348623157e308" },
    { -INFINITY, "-1.7976931348623157e308" },
    { NAN, "null" },
};

static void test_doubles(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(double_cases) / sizeof(*double_cases); i++) {
        struct buf b;
        struct json_writer w;
        buf_init(&b, 64);
        jw_init(&w, &b);
        jw_f64(&w, double_cases[i].v);
        assert_true(jw_done(&w));
        assert_text(&b, double_cases[i].text);
        buf_done(&b);
    }
}

/* Any double reads back as itself, in at most 31 bytes. */
static void test_doubles_round_trip(void **state) {
    (void)state;
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 200000; i++) {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        double v, back;
        memcpy(&v, &bits, sizeof(v));
        if (!isfinite(v)) {
            continue;
        }
        char text[32];
        size_t n = json_format_f64(v, text);
        assert_true(n < sizeof(text) && text[n] == '\0' && strlen(text) == n);
        back = strtod(text, NULL);
        assert_memory_equal(&back, &v, sizeof(v));
        assert_non_null(strpbrk(text, ".e"));
    }
}

static const struct {
    int64_t v;
    const char *text;
} int_cases[] = {
    { 0, "0" },
    { 9, "9" },
    { -10, "-10" },
    { 1234567890123, "1234567890123" },
    { INT64_MAX, "9223372036854775807" },
    { INT64_MIN, "-9223372036854775808" },
};

static void test_ints(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(int_cases) / sizeof(*int_cases); i++) {
        struct buf b;
        struct json_writer w;
        buf_init(&b, 64);
        jw_init(&w, &b);
        jw_i64(&w, int_cases[i].v);
        assert_true(jw_done(&w));
        assert_text(&b, int_cases[i].text);
        buf_done(&b);
    }
}

/* A little language: { [ ) open and close, k key, v value, r empty raw text, K absent key. */
static const struct {
    const char *calls;
    bool done;
} nesting_cases[] = {
    { "v", true },   { "{)", true },     { "[)", true },   { "{kv)", true },  { "[vv)", true },   { "{k{)k[))", true },
    { "", false },   { "vv", false },    { "{)v", false }, { "{)[)", false }, { "{", false },     { "[v", false },
    { ")", false },  { "[))", false },   { "{v)", false }, { "{k)", false },  { "{kkv)", false }, { "[kv)", false },
    { "kv", false }, { "{kvv)", false }, { "r", false },   { "[r)", false },  { "{Kv)", false },  { "{[))", false },
};

static void test_nesting(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(nesting_cases) / sizeof(*nesting_cases); i++) {
        struct buf b;
        struct json_writer w;
        buf_init(&b, 4096);
        jw_init(&w, &b);
        for (const char *p = nesting_cases[i].calls; *p; p++) {
            switch (*p) {
            case '{': jw_obj(&w); break;
            case '[': jw_arr(&w); break;
            case ')': jw_end(&w); break;
            case 'k': jw_key(&w, "k"); break;
            case 'K': jw_key(&w, NULL); break;
            case 'r': jw_raw(&w, STR_LIT("")); break;
            default: jw_null(&w); break;
            }
        }
        if (jw_done(&w) != nesting_cases[i].done) {
            fail_msg("\"%s\" gave %d", nesting_cases[i].calls, !nesting_cases[i].done);
        }
        buf_done(&b);
    }
}

static bool nest(unsigned depth) {
    struct buf b;
    struct json_writer w;
    buf_init(&b, 4096);
    jw_init(&w, &b);
    for (unsigned i = 0; i < depth; i++) {
        jw_arr(&w);
    }
    for (unsigned i = 0; i < depth; i++) {
        jw_end(&w);
    }
    bool done = jw_done(&w);
    buf_done(&b);
    return done;
}

static void test_depth(void **state) {
    (void)state;
    assert_true(nest(JW_DEPTH - 1));
    assert_true(nest(JW_DEPTH));
    assert_false(nest(JW_DEPTH + 1));
}

/* A full buffer, or no memory for it, is seen at the end, and what was written until then stays within the bound. */
static void test_full(void **state) {
    (void)state;
    for (size_t max = 0; max < 12; max++) {
        struct buf b;
        struct json_writer w;
        buf_init(&b, max);
        jw_init(&w, &b);
        jw_obj(&w);
        jw_kv_str(&w, "a", STR_LIT("bcd"));
        jw_end(&w);
        assert_int_equal(jw_done(&w), max >= 11);
        assert_true(b.n <= max);
        buf_done(&b);
    }
    struct buf b;
    struct json_writer w;
    buf_init(&b, 4096);
    jw_init(&w, &b);
    alloc_fail_at(1);
    jw_null(&w);
    alloc_fail_at(0);
    assert_false(jw_done(&w));
    buf_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_doubles),  cmocka_unit_test(test_doubles_round_trip),
        cmocka_unit_test(test_ints),     cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
