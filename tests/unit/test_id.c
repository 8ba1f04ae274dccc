/* test_id.c -- spellings that are one id, keys that never collide, and printing as it came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/id.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define KEY_A STR_LIT("\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c")
#define KEY_SPAN STR_LIT("\xb7\xad\x6b\x71\x69\x20\x33\x31")

static const struct {
    const char *in;
    struct str key;
    enum id_spell spell;
    bool uuid; /* also an id of the native routes */
} spell_cases[] = {
    { "0af76519-16cd-43dd-8448-eb211c80319c", KEY_A, ID_UUID, true },
    { "0AF76519-16cd-43DD-8448-EB211C80319C", KEY_A, ID_TEXT, true },
    { "0af7651916cd43dd8448eb211c80319c", KEY_A, ID_HEX32, true },
    { "0AF7651916CD43DD8448EB211C80319C", KEY_A, ID_TEXT, true },
    { "{0af76519-16cd-43dd-8448-eb211c80319c}", KEY_A, ID_TEXT, true },
    { "urn:uuid:0af76519-16cd-43dd-8448-eb211c80319c", KEY_A, ID_TEXT, true },
    { "URN:UUID:0AF76519-16CD-43DD-8448-EB211C80319C", KEY_A, ID_TEXT, true },
    { "b7ad6b7169203331", KEY_SPAN, ID_HEX16, false },
    { "B7AD6B7169203331", KEY_SPAN, ID_TEXT, false },
    { "0000000000000000b7ad6b7169203331", KEY_SPAN, ID_HEX32, true },
    { "00000000-0000-0000-b7ad-6b7169203331", KEY_SPAN, ID_UUID, true },
    { "0000000000000000", STR_LIT("\0\0\0\0\0\0\0\0"), ID_HEX16, false },
    { "00000000-0000-0000-0000-000000000000", STR_LIT("\0\0\0\0\0\0\0\0"), ID_UUID, true },
    { "00000000000000010000000000000000", STR_LIT("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0"), ID_HEX32, true },
    /* texts: a NUL in front, and one behind where the length would be that of a binary key */
    { "x", STR_LIT("\0x"), ID_TEXT, false },
    { "123456",
      STR_LIT("\000"
              "123456"),
      ID_TEXT, false },
    { "1234567",
      STR_LIT("\000"
              "1234567\0"),
      ID_TEXT, false },
    { "12345678",
      STR_LIT("\000"
              "12345678"),
      ID_TEXT, false },
    { "my-trace-12345", STR_LIT("\0my-trace-12345"), ID_TEXT, false },
    { "my-trace-123456", STR_LIT("\0my-trace-123456\0"), ID_TEXT, false },
    { "my-trace-1234567", STR_LIT("\0my-trace-1234567"), ID_TEXT, false }, /* 16 characters, no hex */
    { "a/b c%\xc3\xa9", STR_LIT("\0a/b c%\xc3\xa9"), ID_TEXT, false },
    { "0af76519-16cd-43dd-8448-eb211c80319",
      STR_LIT("\0"
              "0af76519-16cd-43dd-8448-eb211c80319"),
      ID_TEXT, false },
    { "0af76519x16cd-43dd-8448-eb211c80319c",
      STR_LIT("\0"
              "0af76519x16cd-43dd-8448-eb211c80319c"),
      ID_TEXT, false },
    { "0af765191-6cd-43dd-8448-eb211c80319c",
      STR_LIT("\0"
              "0af765191-6cd-43dd-8448-eb211c80319c"),
      ID_TEXT, false },
    { "{0af76519-16cd-43dd-8448-eb211c80319c)", STR_LIT("\0{0af76519-16cd-43dd-8448-eb211c80319c)"), ID_TEXT, false },
    { "urn:UUIX:0af76519-16cd-43dd-8448-eb211c80319c", STR_LIT("\0urn:UUIX:0af76519-16cd-43dd-8448-eb211c80319c"),
      ID_TEXT, false },
    { "0af7651916cd43dd8448eb211c80319g",
      STR_LIT("\0"
              "0af7651916cd43dd8448eb211c80319g"),
      ID_TEXT, false },
    { "b7ad6b716920333", STR_LIT("\0b7ad6b716920333\0"), ID_TEXT, false },
};

static void test_spellings(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < COUNT(spell_cases); i++) {
        size_t n = strlen(spell_cases[i].in);
        char *p = malloc(n); /* of the exact size, and gone before the id is looked at */
        assert_non_null(p);
        memcpy(p, spell_cases[i].in, n);
        struct id id = ID_NONE, native = ID_NONE;
        struct str key;
        assert_true(id_from_text(&a, (struct str){ p, n }, &id));
        assert_true(id_key(&a, (struct str){ p, n }, &key));
        assert_int_equal(id_from_uuid(&a, (struct str){ p, n }, &native), spell_cases[i].uuid);
        free(p);
        assert_true(str_eq(id.key, spell_cases[i].key));
        assert_true(str_eq(key, spell_cases[i].key));
        assert_int_equal(id.spell, spell_cases[i].spell);
        assert_int_equal(str_has(id.text), id.spell == ID_TEXT);
        assert_true(str_eq_c(id_print(&a, id.key, id.spell, id.text), spell_cases[i].in));
        assert_true(id_has(&id));
        assert_int_equal(id_has(&native), spell_cases[i].uuid);
        if (spell_cases[i].uuid) {
            assert_true(str_eq(native.key, spell_cases[i].key));
            assert_int_equal(native.spell, ID_UUID);
        }
        /* equal keys exactly where the table says so */
        for (size_t k = 0; k < i; k++) {
            struct str other;
            assert_true(id_key(&a, str_c(spell_cases[k].in), &other));
            assert_int_equal(str_eq(key, other), str_eq(spell_cases[i].key, spell_cases[k].key));
        }
    }
    arena_done(&a);
}

static void test_refused(void **state) {
    (void)state;
    static const struct str cases[] = {
        { NULL, 0 }, STR_LIT(""), STR_LIT("a\0b"), STR_LIT("a\rb"), STR_LIT("\r"), STR_LIT("\xff"), STR_LIT("caf\xc3"),
    };
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct id id = ID_NONE;
        struct str key = STR_NONE;
        assert_false(id_from_text(&a, cases[i], &id));
        assert_false(id_key(&a, cases[i], &key));
        assert_false(id_from_uuid(&a, cases[i], &id));
        assert_false(id_has(&id));
        assert_false(str_has(key));
    }
    assert_false(a.failed);
    arena_done(&a);
}

static void test_length(void **state) {
    (void)state;
    static const char *const characters[] = { "x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };
    struct arena a;
    arena_init(&a, 1 << 20);
    for (size_t c = 0; c < COUNT(characters); c++) {
        size_t len = strlen(characters[c]);
        for (size_t n = ID_MAX - 1; n <= ID_MAX + 1; n++) {
            char text[4 * (ID_MAX + 1)];
            for (size_t i = 0; i < n; i++) {
                memcpy(text + i * len, characters[c], len);
            }
            struct id id;
            assert_int_equal(id_from_text(&a, (struct str){ text, n * len }, &id), n <= ID_MAX);
        }
    }
    arena_done(&a);
}

static void test_bytes(void **state) {
    (void)state;
    struct arena a;
    struct id id = ID_NONE;
    uint8_t bytes[17] = {
        0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c
    };
    arena_init(&a, 1 << 20);
    assert_true(id_from_bytes(&a, bytes, 16, &id));
    assert_true(str_eq(id.key, KEY_A));
    assert_true(str_eq_c(id_print(&a, id.key, id.spell, id.text), "0af7651916cd43dd8448eb211c80319c"));
    assert_true(str_eq_c(id_print(&a, id.key, ID_UUID, STR_NONE), "0af76519-16cd-43dd-8448-eb211c80319c"));
    assert_true(str_eq_c(id_print(&a, id.key, ID_HEX16, STR_NONE), "0af7651916cd43dd8448eb211c80319c"));
    assert_true(id_from_bytes(&a, bytes, 8, &id));
    assert_int_equal(id.key.n, 8);
    assert_true(str_eq_c(id_print(&a, id.key, id.spell, id.text), "0af7651916cd43dd"));
    assert_true(str_eq_c(id_print(&a, id.key, ID_HEX32, STR_NONE), "00000000000000000af7651916cd43dd"));
    memset(bytes, 0, 8);
    assert_true(id_from_bytes(&a, bytes, 16, &id)); /* a trace id of 64 bits keeps its 32 digits */
    assert_int_equal(id.key.n, 8);
    assert_true(str_eq_c(id_print(&a, id.key, id.spell, id.text), "00000000000000008448eb211c80319c"));
    static const size_t wrong[] = { 0, 1, 7, 9, 15, 17 };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        assert_false(id_from_bytes(&a, bytes, wrong[i], &id));
    }
    assert_false(str_has(id_print(&a, STR_LIT("\0abc"), ID_UUID, STR_NONE))); /* a text key without its text */
    arena_done(&a);
}

static void test_fail_nth(void **state) {
    (void)state;
    static const char *const texts[] = { "0af7651916cd43dd8448eb211c80319c", "B7AD6B7169203331", "text" };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct arena a;
        arena_init(&a, 1 << 20);
        struct id id = ID_NONE;
        alloc_fail_at(1);
        assert_false(id_from_text(&a, str_c(texts[i]), &id));
        alloc_fail_at(0);
        assert_true(a.failed);
        assert_false(id_has(&id));
        arena_done(&a);
    }
    /* the key fits, the text does not */
    struct arena a;
    struct id id = ID_NONE;
    char text[500];
    memset(text, 'x', sizeof(text));
    arena_init(&a, 700);
    assert_false(id_from_text(&a, (struct str){ text, sizeof(text) }, &id));
    assert_false(id_has(&id));
    arena_done(&a);
    arena_init(&a, 0);
    assert_false(id_from_uuid(&a, STR_LIT("0af7651916cd43dd8448eb211c80319c"), &id));
    assert_false(id_from_bytes(&a, (const uint8_t *)text, 16, &id));
    assert_false(str_has(id_print(&a, KEY_A, ID_UUID, STR_NONE)));
    assert_false(id_has(&id));
}

static void test_random(void **state) {
    (void)state;
    assert_true(random_bytes(NULL, 0));
    static uint8_t big[100000];
    assert_true(random_bytes(big, sizeof(big)));
    size_t zeros = 0;
    for (size_t i = 0; i < sizeof(big); i++) {
        zeros += big[i] == 0;
    }
    assert_true(zeros < 1000); /* about 390 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings), cmocka_unit_test(test_refused),  cmocka_unit_test(test_length),
        cmocka_unit_test(test_bytes),     cmocka_unit_test(test_fail_nth), cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
