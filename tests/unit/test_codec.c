/* test_codec.c -- encodings from outside. Outputs have exactly the promised room, inputs no byte more than theirs, so
 * that the sanitizer sees any step beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void *room(size_t n) {
    void *p = malloc(n ? n : 1);
    assert_non_null(p);
    return p;
}

/* free() the result's p. */
static struct str exact(struct str s) {
    char *p = room(s.n);
    memcpy(p, s.p, s.n);
    return (struct str){ p, s.n };
}

static void drop(struct str s) { free((void *)(uintptr_t)s.p); }

static void test_hex(void **state) {
    (void)state;
    uint8_t all[256], back[256];
    char text[512];
    for (size_t i = 0; i < 256; i++) {
        all[i] = (uint8_t)i;
    }
    hex_encode(all, 256, text);
    assert_memory_equal(text, "000102", 6);
    assert_memory_equal(text + 510, "ff", 2);
    assert_true(hex_decode((struct str){ text, 512 }, back, 256));
    assert_memory_equal(all, back, 256);
    assert_true(hex_decode(STR_LIT("aAfF09"), back, 3));
    assert_memory_equal(back, "\xaa\xff\x09", 3);
    assert_true(hex_decode(STR_LIT(""), back, 0));
    assert_true(hex_decode(STR_NONE, back, 0));
    assert_false(hex_decode(STR_LIT("00"), back, 0));
    assert_false(hex_decode(STR_LIT("000"), back, 1));
    assert_false(hex_decode(STR_LIT("0"), back, 1));
    assert_false(hex_decode(STR_LIT("00"), back, 2));
    for (int c = 0; c < 256; c++) { /* each byte in each place */
        char pair[2] = { (char)c, '0' }, swapped[2] = { '0', (char)c };
        bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        assert_int_equal(hex_decode((struct str){ pair, 2 }, back, 1), digit);
        assert_int_equal(hex_decode((struct str){ swapped, 2 }, back, 1), digit);
    }
}

static void test_base64(void **state) {
    (void)state;
    static const struct {
        const char *in;
        bool strict, lenient;
        const char *out;
    } cases[] = {
        { "", true, true, "" },
        { "Zg==", true, true, "f" },
        { "Zm8=", true, true, "fo" },
        { "Zm9v", true, true, "foo" },
        { "Zm9vYmFy", true, true, "foobar" },
        { "cGs6c2s=", true, true, "pk:sk" },
        { "+/+/", true, true, "\xfb\xff\xbf" },
        { "-_-_", false, true, "\xfb\xff\xbf" },
        { "Zg", false, true, "f" },
        { "Zm8", false, true, "fo" },
        { "Zg=", false, true, "f" },
        { "Zh==", false, true, "f" }, /* bits set after the last byte */
        { "Zm9=", false, true, "fo" },
        { "Z", false, false, NULL },
        { "Z===", false, false, NULL },
        { "=", false, false, NULL },
        { "==", false, false, NULL },
        { "====", false, false, NULL },
        { "Zm8==", false, false, NULL },
        { "Zm9v=", false, false, NULL },
        { "Zm9v====", false, false, NULL },
        { "Zg==Zg==", false, false, NULL },
        { "Z=g=", false, false, NULL },
        { "Zm9v\n", false, false, NULL },
        { " Zm9v", false, false, NULL },
        { "Zm9*", false, false, NULL },
        { "Zm\xc3\xa9", false, false, NULL },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str s = exact(str_c(cases[i].in));
        uint8_t *out = room(s.n / 4 * 3 + s.n % 4 * 3 / 4);
        size_t n = 99;
        assert_int_equal(base64_decode(s, out, &n), cases[i].strict);
        assert_int_equal(n, cases[i].strict ? strlen(cases[i].out) : 99);
        n = 99;
        assert_int_equal(base64_decode_lenient(s, out, &n), cases[i].lenient);
        assert_int_equal(n, cases[i].lenient ? strlen(cases[i].out) : 99);
        if (cases[i].lenient) {
            assert_memory_equal(out, cases[i].out, n);
        }
        free(out);
        drop(s);
    }
}

static void test_base64_round(void **state) {
    (void)state;
    uint8_t data[300];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 89 + 7);
    }
    for (size_t n = 0; n <= sizeof(data); n++) {
        size_t len = 4 * ((n + 2) / 3), back_n;
        char *text = room(len);
        assert_int_equal(base64_encode(data, n, text), len);
        uint8_t *back = room(len / 4 * 3);
        assert_true(base64_decode((struct str){ text, len }, back, &back_n));
        assert_int_equal(back_n, n);
        assert_memory_equal(back, data, n);
        free(back);
        free(text);
    }
}

static void test_percent(void **state) {
    (void)state;
    static const struct {
        struct str in, path, query;
    } cases[] = {
        { STR_LIT(""), STR_LIT(""), STR_LIT("") },
        { STR_LIT("abc"), STR_LIT("abc"), STR_LIT("abc") },
        { STR_LIT("a+b"), STR_LIT("a+b"), STR_LIT("a b") },
        { STR_LIT("a%2Fb%2f"), STR_LIT("a/b/"), STR_LIT("a/b/") },
        { STR_LIT("%2B%20"), STR_LIT("+ "), STR_LIT("+ ") },
        { STR_LIT("%00"), STR_LIT("\0"), STR_LIT("\0") },
        { STR_LIT("%ff"), STR_LIT("\xff"), STR_LIT("\xff") },
        { STR_LIT("%"), STR_LIT("%"), STR_LIT("%") },
        { STR_LIT("%4"), STR_LIT("%4"), STR_LIT("%4") },
        { STR_LIT("%4g"), STR_LIT("%4g"), STR_LIT("%4g") },
        { STR_LIT("%g4"), STR_LIT("%g4"), STR_LIT("%g4") },
        { STR_LIT("%%41"), STR_LIT("%A"), STR_LIT("%A") },
        { STR_LIT("%+1"), STR_LIT("%+1"), STR_LIT("% 1") },
        { STR_LIT("%2541"), STR_LIT("%41"), STR_LIT("%41") }, /* decoded once */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str s = exact(cases[i].in);
        char *out = room(s.n);
        size_t n = percent_decode(s, false, out);
        assert_true(str_eq((struct str){ out, n }, cases[i].path));
        n = percent_decode(s, true, out);
        assert_true(str_eq((struct str){ out, n }, cases[i].query));
        free(out);
        drop(s);
    }
}

#define FFFD "\xef\xbf\xbd"

static const struct {
    struct str in;
    const char *repaired; /* NULL: valid as it is */
} utf8_cases[] = {
    { STR_LIT(""), NULL },
    { STR_LIT("plain"), NULL },
    { STR_LIT("a\0b"), NULL },
    { STR_LIT("\x7f"), NULL },
    { STR_LIT("\xc2\x80"), NULL },
    { STR_LIT("\xdf\xbf"), NULL },
    { STR_LIT("\xe0\xa0\x80"), NULL },
    { STR_LIT("\xed\x9f\xbf"), NULL },
    { STR_LIT("\xee\x80\x80"), NULL },
    { STR_LIT("\xef\xbf\xbf"), NULL },
    { STR_LIT("\xf0\x90\x80\x80"), NULL },
    { STR_LIT("\xf4\x8f\xbf\xbf"), NULL },
    { STR_LIT("0123456789abcde\xf0\x9f\x98\x80xyz"), NULL },
    { STR_LIT("\x80"), FFFD },
    { STR_LIT("\xbf\xbf"), FFFD FFFD },
    { STR_LIT("\xc0\x80"), FFFD FFFD },
    { STR_LIT("\xc1\xbf"), FFFD FFFD },
    { STR_LIT("\xc2"), FFFD },
    { STR_LIT("\xc2x"), FFFD "x" },
    { STR_LIT("\xe0\x9f\xbf"), FFFD FFFD FFFD },
    { STR_LIT("\xe1\x80"), FFFD },
    { STR_LIT("\xe1\x80x"), FFFD "x" },
    { STR_LIT("\xe1\xe1\x80\x80"), FFFD "\xe1\x80\x80" },
    { STR_LIT("\xed\xa0\x80"), FFFD FFFD FFFD }, /* a surrogate */
    { STR_LIT("\xed\xbf\xbf"), FFFD FFFD FFFD },
    { STR_LIT("\xf0\x8f\xbf\xbf"), FFFD FFFD FFFD FFFD },
    { STR_LIT("\xf0\x90\x80"), FFFD },
    { STR_LIT("\xf0\x90\x80\xc3\xa9"), FFFD "\xc3\xa9" },
    { STR_LIT("\xf4\x90\x80\x80"), FFFD FFFD FFFD FFFD },
    { STR_LIT("\xf5\x80\x80\x80"), FFFD FFFD FFFD FFFD },
    { STR_LIT("\xff"), FFFD },
    { STR_LIT("01234567\xfe"
              "89"),
      "01234567" FFFD "89" },
};

static void test_utf8(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(utf8_cases); i++) {
        for (size_t shift = 0; shift < 17; shift++) { /* in every place of a word */
            struct str in = utf8_cases[i].in;
            char *p = room(in.n + shift);
            memset(p, 'a', shift);
            memcpy(p + shift, in.p, in.n);
            struct str s = { p, in.n + shift };
            assert_int_equal(utf8_valid(s), utf8_cases[i].repaired == NULL);
            char *out = room(3 * s.n);
            struct str got = { out, utf8_repair(s, out) };
            assert_true(utf8_valid(got));
            struct str want = utf8_cases[i].repaired ? str_c(utf8_cases[i].repaired) : in;
            assert_true(str_eq(str_sub(got, shift, got.n), want));
            free(out);
            free(p);
        }
    }
    assert_true(utf8_valid(STR_NONE));
}

/* The sequence of a code point, also of surrogates and of what lies beyond Unicode. */
static size_t encode(uint32_t c, unsigned char out[4]) {
    static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) {
        out[i] = (unsigned char)(0x80 | (c & 63));
    }
    out[0] = (unsigned char)(lead[n == 1 ? 0 : n] | c);
    return n;
}

static void test_utf8_all(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        unsigned char bytes[4];
        size_t n = encode(c, bytes);
        bool want = c < 0x110000 && (c < 0xd800 || c > 0xdfff);
        assert_int_equal(utf8_valid((struct str){ (char *)bytes, n }), want);
    }
    /* a valid two-byte text begins with ASCII or is one sequence */
    for (unsigned v = 0; v < 65536; v++) {
        char b[2] = { (char)(v >> 8), (char)(v & 255) };
        unsigned hi = v >> 8, lo = v & 255;
        bool want = (hi < 0x80 && lo < 0x80) || (hi >= 0xc2 && hi < 0xe0 && lo >= 0x80 && lo < 0xc0);
        assert_int_equal(utf8_valid((struct str){ b, 2 }), want);
    }
}

static void test_utf8_cut(void **state) {
    (void)state;
    static const struct {
        const char *in;
        size_t n, want;
    } cases[] = {
        { "abc", 0, 0 },
        { "abc", 2, 2 },
        { "abc", 3, 3 },
        { "abc", 4, 3 },
        { "a\xc3\xa9z", 1, 1 },
        { "a\xc3\xa9z", 2, 1 },
        { "a\xc3\xa9z", 3, 3 },
        { "\xf0\x9f\x98\x80", 1, 0 },
        { "\xf0\x9f\x98\x80", 3, 0 },
        { "\xf0\x9f\x98\x80", 4, 4 },
        { "x\xf0\x9f\x98\x80", 4, 1 },
        { "\x80\x80\x80\x80\x80\x80", 5, 5 }, /* not UTF-8: anywhere */
        { "\x80\x80", 1, 1 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str s = exact(str_c(cases[i].in));
        assert_int_equal(utf8_cut(s, cases[i].n), cases[i].want);
        drop(s);
    }
}

static const struct {
    const char *in, *strict, *lenient; /* NULL: refused */
} unescape_cases[] = {
    { "", "", "" },
    { "plain \xc3\xa9", "plain \xc3\xa9", "plain \xc3\xa9" },
    { "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", "\"\\/\b\f\n\r\t" },
    { "a\\u0041z", "aAz", "aAz" },
    { "\\u00e9\\u00E9", "\xc3\xa9\xc3\xa9", "\xc3\xa9\xc3\xa9" },
    { "\\u007f\\u0080\\u07ff\\u0800\\uffff", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf",
      "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf" },
    { "\\ud83d\\ude00", "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
    { "\\ud800\\udc00\\udbff\\udfff", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf" },
    { "\\ud83d", NULL, FFFD },
    { "\\ude00", NULL, FFFD },
    { "\\ud83dx", NULL, FFFD "x" },
    { "\\ud83d\\n", NULL, FFFD "\n" },
    { "\\ud83d\\u0041", NULL, FFFD "A" },
    { "\\ud83d\\ud83d\\ude00", NULL, FFFD "\xf0\x9f\x98\x80" },
    { "\\ude00\\ud83d", NULL, FFFD FFFD },
    { "\\ud83d\\ude0", NULL, NULL },
    { "\\", NULL, NULL },
    { "a\\", NULL, NULL },
    { "\\x41", NULL, NULL },
    { "\\N", NULL, NULL },
    { "\\0", NULL, NULL },
    { "\\u", NULL, NULL },
    { "\\u004", NULL, NULL },
    { "\\u004g", NULL, NULL },
    { "\\U0041", NULL, NULL },
};

static void test_unescape(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(unescape_cases); i++) {
        struct str s = exact(str_c(unescape_cases[i].in));
        char *out = room(s.n);
        for (int lenient = 0; lenient <= 1; lenient++) {
            const char *want = lenient ? unescape_cases[i].lenient : unescape_cases[i].strict;
            size_t n = json_unescape(s, lenient, out);
            if (n == SIZE_MAX ? want != NULL : !want || n != strlen(want) || memcmp(out, want, n) != 0) {
                fail_msg("%s lenient %d gave %zu bytes", unescape_cases[i].in, lenient, n);
            }
        }
        free(out);
        drop(s);
    }
    char out[6];
    assert_int_equal(json_unescape(STR_LIT("\\u0000"), false, out), 1);
    assert_int_equal(out[0], 0);
}

static void test_mem_eq(void **state) {
    (void)state;
    assert_true(mem_eq_const_time(STR_LIT("secret"), STR_LIT("secret")));
    assert_false(mem_eq_const_time(STR_LIT("secret"), STR_LIT("secreT")));
    assert_false(mem_eq_const_time(STR_LIT("secret"), STR_LIT("Secret")));
    assert_false(mem_eq_const_time(STR_LIT("secret"), STR_LIT("secret2")));
    assert_false(mem_eq_const_time(STR_LIT("\x80"), STR_LIT("\x00")));
    assert_true(mem_eq_const_time(STR_LIT(""), STR_LIT("")));
    assert_false(mem_eq_const_time(STR_NONE, STR_NONE)); /* an absent secret equals nothing */
    assert_false(mem_eq_const_time(STR_LIT(""), STR_NONE));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex),      cmocka_unit_test(test_base64),   cmocka_unit_test(test_base64_round),
        cmocka_unit_test(test_percent),  cmocka_unit_test(test_utf8),     cmocka_unit_test(test_utf8_all),
        cmocka_unit_test(test_utf8_cut), cmocka_unit_test(test_unescape), cmocka_unit_test(test_mem_eq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
