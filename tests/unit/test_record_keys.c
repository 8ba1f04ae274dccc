/* test_record_keys.c -- which members of metadata say a turn, a run, a step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/fold/keys.h"

static const struct {
    const char *metadata;
    const char *turn, *run, *step, *parent; /* NULL: absent */
} cases[] = {
    { "{\"turn_id\":\"t\",\"run_id\":\"r\",\"step_id\":\"s\",\"parent_step_id\":\"p\"}", "t", "r", "s", "p" },
    { "{}", NULL, NULL, NULL, NULL },
    { "{\"a\":{\"run_id\":\"r\"},\"b\":[{\"turn_id\":\"t\"}]}", NULL, NULL, NULL, NULL },
    { "{\"run_id\":\"one\",\"run_id\":\"two\"}", NULL, "two", NULL, NULL },
    { "{\"run_id\":17,\"turn_id\":-1.50e3,\"step_id\":true,\"parent_step_id\":null}", "-1.50e3", "17", NULL, NULL },
    { "{\"run_id\":[\"r\"],\"turn_id\":{\"a\":1}}", NULL, NULL, NULL, NULL },
    { "{\"run_id\":\"\",\"turn_id\":\"a\\u0041\\n\"}", "aA\n", "", NULL, NULL },
    { "{\"run\\u005fid\":\"escaped\"}", NULL, "escaped", NULL, NULL },
    { "{\"run_ids\":\"r\",\"Run_id\":\"r\",\"xrun_id\":\"r\"}", NULL, NULL, NULL, NULL },
    { "[\"run_id\"]", NULL, NULL, NULL, NULL },
    { "\"run_id\"", NULL, NULL, NULL, NULL },
    { "{\"run_id\":\"not JSON", NULL, NULL, NULL, NULL },
};

static void check(struct str got, const char *want) {
    assert_int_equal(str_has(got), want != NULL);
    if (want)
        assert_true(str_eq_c(got, want));
}

static void members(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena a;
        struct record_keys k;
        arena_init(&a, 1 << 20);
        assert_true(record_keys_of(&a, str_c(cases[i].metadata), &k));
        check(k.v[KEY_TURN_ID - 1], cases[i].turn);
        check(k.v[KEY_RUN_ID - 1], cases[i].run);
        check(k.v[KEY_STEP_ID - 1], cases[i].step);
        check(k.v[KEY_PARENT_STEP_ID - 1], cases[i].parent);
        assert_int_equal(record_keys_any(&k), cases[i].turn || cases[i].run || cases[i].step || cases[i].parent);
        arena_done(&a);
    }
}

static void absent_or_no_memory(void **state) {
    (void)state;
    struct arena a;
    struct record_keys k;
    arena_init(&a, 1 << 20);
    assert_true(record_keys_of(&a, STR_NONE, &k));
    assert_false(record_keys_any(&k));
    arena_done(&a);
    arena_init(&a, 16);
    assert_false(record_keys_of(&a, str_c(cases[0].metadata), &k));
    arena_done(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(members), cmocka_unit_test(absent_or_no_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
