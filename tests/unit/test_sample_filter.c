/* test_sample_filter.c -- the filter never says no to what it holds, rarely maybe to the rest, and hashes are for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "store/sample/filter.h"
#include "store/sample/ident.h"

static bool maybe(const struct filter *f, uint64_t hash) {
    size_t row = filter_row(hash, f->rows);
    assert_true(row < f->rows);
    return filter_maybe((struct str){ (const char *)f->bytes + row * FILTER_ROW, FILTER_ROW }, f->rows, hash);
}
static uint64_t hash_of(int64_t metric, uint64_t i, const char *format) {
    char text[64];
    int n = snprintf(text, sizeof text, format, (unsigned long long)i);
    return filter_hash(metric, STR_LIT("trace_id"), (struct str){ text, (size_t)n });
}

static void members(void **state) {
    (void)state;
    static const size_t sizes[] = { 0, 1, 2, 41, 42, 43, 2600, 2700, 200000 };
    static const char *const formats[] = { "req-%llu", "%032llx" };
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (size_t f = 0; f < 2; f++) {
            size_t n = sizes[k], wrong = 0;
            uint64_t *hashes = calloc(n + 1, sizeof *hashes);
            assert_non_null(hashes);
            for (size_t i = 0; i < n; i++)
                hashes[i] = hash_of(5, i, formats[f]);
            struct filter filter;
            assert_true(filter_make(hashes, n, &filter));
            assert_true(filter.rows >= 1 && filter.rows * FILTER_ROW * 8 < n * 13 + FILTER_ROW * 8 * 2);
            for (size_t i = 0; i < n; i++)
                assert_true(maybe(&filter, hashes[i]));
            for (size_t i = 0; i < 20000; i++)
                wrong += maybe(&filter, hash_of(6, i, formats[f])) + maybe(&filter, hash_of(5, n + i, formats[f]));
            assert_true(wrong < 40000 / 100);
            filter_done(&filter);
            free(hashes);
        }
    }
}

/* A file is read by the next version too. */
static void for_ever(void **state) {
    (void)state;
    static const struct {
        int64_t metric;
        struct str key, value;
        uint64_t hash;
    } cases[] = {
        { 1, STR_LIT("model"), STR_LIT("gpt-4o"), UINT64_C(0x36a1c681b814f192) },
        { 2, STR_LIT("model"), STR_LIT("gpt-4o"), UINT64_C(0xd726d8606e374509) },
        { 1, STR_LIT(""), STR_LIT(""), UINT64_C(0xb84109b6fc8efd04) },
        { 1, STR_LIT("trace_id"), STR_LIT("0af7651916cd43dd8448eb211c80319c"), UINT64_C(0xba67fc1d4a5e7a9d) },
        { 1, STR_LIT("trace_id"), STR_LIT("0AF7651916CD43DD8448EB211C80319C"), UINT64_C(0xf87ca82bd8a1e3e1) },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t got = filter_hash(cases[i].metric, cases[i].key, cases[i].value);
        if (got != cases[i].hash)
            fail_msg("case %zu: 0x%016llx", i, (unsigned long long)got);
    }
    uint8_t id[16];
    assert_int_equal(ident_parse(cases[3].value, id), IDENT_HEX);
    assert_true(filter_id(filter_label(1, STR_LIT("trace_id")), id) == cases[3].hash);
}

static void damaged_rows_say_maybe(void **state) {
    (void)state;
    char row[FILTER_ROW + 1] = { 0 };
    assert_false(filter_maybe((struct str){ row, FILTER_ROW }, 1, 12345));
    assert_true(filter_maybe((struct str){ row, FILTER_ROW - 1 }, 1, 12345));
    assert_true(filter_maybe((struct str){ row, FILTER_ROW + 1 }, 1, 12345));
    assert_true(filter_maybe(STR_NONE, 1, 12345));
}

static void no_memory(void **state) {
    (void)state;
    struct filter f;
    alloc_fail_at(1);
    bool ok = filter_make(NULL, 0, &f);
    alloc_fail_at(0);
    assert_false(ok);
}

/* Only what comes back as the very same text is taken for 16 bytes. */
static void idents(void **state) {
    (void)state;
    static const struct {
        struct str text;
        unsigned form;
    } cases[] = {
        { STR_LIT("0af7651916cd43dd8448eb211c80319c"), IDENT_HEX },
        { STR_LIT("00000000000000000000000000000000"), IDENT_HEX },
        { STR_LIT("0AF7651916cd43dd8448eb211c80319c"), IDENT_TEXT },
        { STR_LIT("0af7651916cd43dd8448eb211c80319"), IDENT_TEXT },
        { STR_LIT("0af7651916cd43dd8448eb211c80319cc"), IDENT_TEXT },
        { STR_LIT("0af7651916cd43dd8448eb211c80319g"), IDENT_TEXT },
        { STR_LIT("0af76519-16cd-43dd-8448-eb211c80319c"), IDENT_UUID },
        { STR_LIT("0af76519-16cd-43dd-8448-eb211c80319C"), IDENT_TEXT },
        { STR_LIT("0af7651-916cd-43dd-8448-eb211c80319c"), IDENT_TEXT },
        { STR_LIT("0af7651916cd43dd8448eb211c80319c----"), IDENT_TEXT },
        { STR_LIT("------------------------------------"), IDENT_TEXT },
        { STR_LIT("0af76519-16cd-43dd-8448-eb211c8031\0c"), IDENT_TEXT },
        { STR_LIT(""), IDENT_TEXT },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t id[IDENT_BYTES];
        char room[IDENT_CHARS];
        assert_int_equal(ident_parse(cases[i].text, id), cases[i].form);
        if (cases[i].form != IDENT_TEXT) {
            assert_int_equal(ident_text(cases[i].form, id, room), cases[i].text.n);
            assert_memory_equal(room, cases[i].text.p, cases[i].text.n);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members),   cmocka_unit_test(for_ever), cmocka_unit_test(damaged_rows_say_maybe),
        cmocka_unit_test(no_memory), cmocka_unit_test(idents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
