/* test_normalize.c -- what follows from a record: tokens, buckets, unit and costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/normalize.h"

#define NONE INT64_MIN

static const struct {
    const char *usage, *buckets;
    int64_t in, out, total; /* NONE: absent */
} usages[] = {
    { "{\"input\":3,\"output\":4,\"total\":7}", "{\"input\":3,\"output\":4,\"total\":7}", 3, 4, 7 },
    { "{\"promptTokens\":1,\"completionTokens\":2,\"totalTokens\":3}", "{\"input\":1,\"output\":2,\"total\":3}", 1, 2,
      3 },
    { "{\"prompt_tokens\":1,\"completion_tokens\":2}", "{\"input\":1,\"output\":2,\"total\":3}", 1, 2, 3 },
    { "{\"input\":5,\"prompt_tokens\":9}", "{\"input\":5,\"total\":5}", 5, NONE, 5 },
    { "{\"input\":null,\"prompt_tokens\":9}", "{\"input\":9,\"total\":9}", 9, NONE, 9 },
    { "{\"input\":1,\"input\":2}", "{\"input\":2,\"total\":2}", 2, NONE, 2 },
    { "{\"total\":9}", "{\"total\":9}", NONE, NONE, 9 },
    { "{\"input\":5.0,\"output\":\"6\"}", "{\"input\":5,\"output\":6,\"total\":11}", 5, 6, 11 },
    { "{\"input\":9007199254740993,\"output\":1e3}",
      "{\"input\":9007199254740993,\"output\":1000,\"total\":9007199254741993}", 9007199254740993, 1000,
      9007199254741993 },
    { "{\"input\":1.5,\"output\":-4,\"total\":true}", NULL, NONE, NONE, NONE },
    { "{\"input\":\"x\",\"output\":[1],\"total\":{}}", NULL, NONE, NONE, NONE },
    { "{\"input\":9223372036854775807,\"output\":9223372036854775808}",
      "{\"input\":9223372036854775807,\"total\":9223372036854775807}", INT64_MAX, NONE, INT64_MAX },
    { "{}", NULL, NONE, NONE, NONE },
    { "[1,2]", NULL, NONE, NONE, NONE },
    { "\"text\"", NULL, NONE, NONE, NONE },
    { "5", NULL, NONE, NONE, NONE },
    { "{\"input\":10,\"output\":20,\"total\":30,\"unit\":\"TOKENS\",\"inputCost\":1,\"outputCost\":null}",
      "{\"input\":10,\"output\":20,\"total\":30}", 10, 20, 30 },
    { "{\"input\":12,\"output\":3,\"cache_read_input_tokens\":5}",
      "{\"input\":12,\"output\":3,\"cache_read_input_tokens\":5,\"total\":20}", 17, 3, 20 },
    { "{\"input\":1,\"mine\":5,\"cost\":0,\"cost_in_usd_ticks\":7}", "{\"input\":1,\"mine\":5,\"total\":1}", 1, NONE,
      1 },
    { "{\"input_cached_tokens\":9223372036854775807,\"input\":9223372036854775807}",
      "{\"input\":9223372036854775807,\"input_cached_tokens\":9223372036854775807,\"total\":9223372036854775807}",
      INT64_MAX, NONE, INT64_MAX },
    { "{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15,\"prompt_tokens_details\":{\"cached_tokens\":"
      "4,"
      "\"audio_tokens\":null},\"completion_tokens_details\":{\"reasoning_tokens\":2}}",
      "{\"input\":6,\"output\":3,\"input_cached_tokens\":4,\"output_reasoning_tokens\":2,\"total\":15}", 10, 5, 15 },
    { "{\"input_tokens\":10,\"output_tokens\":5,\"input_tokens_details\":{\"cached_tokens\":4,\"text_tokens\":6},"
      "\"output_tokens_details\":{\"reasoning_tokens\":0}}",
      "{\"input\":6,\"output\":5,\"input_cached_tokens\":4,\"output_reasoning_tokens\":0,\"total\":15}", 10, 5, 15 },
    { "{\"input_tokens\":1,\"input_tokens_details\":{\"cached_tokens\":4}}",
      "{\"input\":0,\"input_cached_tokens\":4,\"total\":4}", 4, NONE, 4 },
};

static bool is_i64(struct opt_i64 v, int64_t want) { return want == NONE ? !v.has : v.has && v.v == want; }

static void usage_gives_tokens_and_buckets(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof usages / sizeof *usages; i++) {
        struct batch *b = batch_new(1 << 20);
        struct observation *o = b ? batch_add_observation(b) : NULL;
        assert_non_null(o);
        o->usage = str_c(usages[i].usage);
        for (int pass = 0; pass < 2; pass++) { /* the second must change nothing */
            assert_int_equal(normalize_batch(b, NULL), XT_OK);
            if (!is_i64(o->tokens_in, usages[i].in) || !is_i64(o->tokens_out, usages[i].out) ||
                !is_i64(o->tokens_total, usages[i].total) ||
                !(usages[i].buckets ? str_eq_c(o->usage_buckets, usages[i].buckets) : !str_has(o->usage_buckets))) {
                fail_msg("%s: %lld %lld %lld %.*s", usages[i].usage, (long long)o->tokens_in.v,
                         (long long)o->tokens_out.v, (long long)o->tokens_total.v, STR_FMT(o->usage_buckets));
            }
        }
        batch_free(b);
    }
}

static void stated_tokens_and_costs_win(void **state) {
    (void)state;
    struct batch *b = batch_new(1 << 20);
    struct observation *o = batch_add_observation(b);
    assert_non_null(o);
    o->usage = STR_LIT("{\"input\":3,\"output\":4,\"total\":7,\"unit\":\"X\",\"totalCost\":5}");
    o->tokens_in = (struct opt_i64){ -1, true };
    o->unit = STR_LIT("MINE");
    o->cost_total = (struct opt_money){ 42, true, STR_NONE };
    assert_int_equal(normalize_batch(b, NULL), XT_OK);
    assert_true(o->tokens_in.v == -1 && o->tokens_out.v == 4);
    assert_true(str_eq_c(o->unit, "MINE") && o->cost_total.v == 42);
    batch_free(b);
}

static void unit_and_costs_come_from_usage(void **state) {
    (void)state;
    struct batch *b = batch_new(1 << 20);
    struct observation *o = batch_add_observation(b);
    assert_non_null(o);
    o->usage =
        STR_LIT("{\"unit\":\"TOK\\u0045NS\",\"inputCost\":0.25,\"outputCost\":-1,\"totalCost\":0.1234567890123456789}");
    assert_int_equal(normalize_batch(b, NULL), XT_OK);
    assert_true(str_eq_c(o->unit, "TOKENS"));
    assert_true(o->cost_input.has && o->cost_input.v == (money)250000000000000000);
    assert_false(o->cost_output.has);
    assert_true(str_eq_c(o->cost_total.text, "0.1234567890123456789"));
    batch_free(b);
}

static const struct {
    const char *costs;
    const char *in, *out, *total; /* NULL: absent */
} costs[] = {
    { "{\"input\":0.1,\"output\":0.2}", "0.1", "0.2", "0.3" },
    { "{\"input\":0.1,\"total\":0.3}", "0.1", NULL, "0.3" },
    { "{\"input\":0.1,\"input_cached_tokens\":0.02,\"output\":1,\"web\":5}", "0.12", "1.0", "6.12" },
    { "{\"total\":0}", NULL, NULL, "0.0" },
    { "{}", NULL, NULL, NULL },
    { "[1]", NULL, NULL, NULL },
};

static bool is_money(struct opt_money v, const char *want) {
    char text[MONEY_TEXT_MAX];
    if (!want || !v.has)
        return !want && !v.has;
    return str_eq_c((struct str){ text, money_format(v.v, text) }, want);
}

static void cost_details_give_costs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        struct batch *b = batch_new(1 << 20);
        struct observation *o = b ? batch_add_observation(b) : NULL;
        assert_non_null(o);
        o->cost_buckets = str_c(costs[i].costs);
        assert_int_equal(normalize_batch(b, NULL), XT_OK);
        assert_int_equal(normalize_batch(b, NULL), XT_OK);
        if (!is_money(o->cost_input, costs[i].in) || !is_money(o->cost_output, costs[i].out) ||
            !is_money(o->cost_total, costs[i].total)) {
            fail_msg("%s", costs[i].costs);
        }
        batch_free(b);
    }
}

static void parts_without_a_total_add_up(void **state) {
    (void)state;
    struct batch *b = batch_new(1 << 20);
    struct observation *o = batch_add_observation(b);
    assert_non_null(o);
    o->cost_input = (struct opt_money){ 1, true, STR_NONE };
    o->cost_output = (struct opt_money){ 2, true, STR_NONE };
    o = batch_add_observation(b);
    assert_non_null(o);
    o->cost_output = (struct opt_money){ 7, true, STR_NONE };
    assert_non_null(batch_add_observation(b));
    assert_int_equal(normalize_batch(b, NULL), XT_OK);
    assert_true(b->observations[0].cost_total.has && b->observations[0].cost_total.v == 3);
    assert_true(b->observations[1].cost_total.has && b->observations[1].cost_total.v == 7);
    assert_false(b->observations[2].cost_total.has);
    batch_free(b);
}

static void a_huge_map_is_kept_and_not_read(void **state) {
    (void)state;
    size_t n = 1 << 20;
    char *text = malloc(n);
    struct batch *b = batch_new(1 << 20);
    struct observation *o = b ? batch_add_observation(b) : NULL;
    assert_non_null(text);
    assert_non_null(o);
    memset(text, ' ', n);
    memcpy(text, "{\"input\":1", 10);
    text[n - 1] = '}';
    o->usage = (struct str){ text, n };
    assert_int_equal(normalize_batch(b, NULL), XT_OK);
    assert_false(o->tokens_in.has);
    assert_true(o->usage.p == text);
    batch_free(b);
    free(text);
}

static void many_buckets_are_cut(void **state) {
    (void)state;
    char text[4096] = "{\"input\":1";
    size_t at = strlen(text);
    for (int i = 0; i < 300; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, ",\"k%d\":1", i);
    }
    snprintf(text + at, sizeof text - at, "}");
    struct batch *b = batch_new(1 << 20);
    struct observation *o = b ? batch_add_observation(b) : NULL;
    assert_non_null(o);
    o->usage = str_c(text);
    assert_int_equal(normalize_batch(b, NULL), XT_OK);
    assert_true(str_ends(o->usage_buckets, ",\"k63\":1,\"total\":1}"));
    batch_free(b);
}

static void missing_memory_is_reported(void **state) {
    (void)state;
    for (uint64_t n = 1; n < 100; n++) {
        struct batch *b = batch_new(1 << 20);
        struct observation *o = b ? batch_add_observation(b) : NULL;
        assert_non_null(o);
        o->usage = STR_LIT(
            "{\"input\":3,\"unit\":\"T\",\"totalCost\":0.1234567890123456789,\"prompt_tokens_details\":{\"a\":1}}");
        o->cost_buckets = STR_LIT("{\"input\":0.1234567890123456789}");
        alloc_fail_at(n);
        enum xt_code code = normalize_batch(b, NULL);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ETOOBIG);
        batch_free(b);
        if (code == XT_OK) {
            assert_true(n > 2);
            return;
        }
    }
    fail_msg("never succeeded");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usage_gives_tokens_and_buckets), cmocka_unit_test(stated_tokens_and_costs_win),
        cmocka_unit_test(unit_and_costs_come_from_usage), cmocka_unit_test(cost_details_give_costs),
        cmocka_unit_test(parts_without_a_total_add_up),   cmocka_unit_test(a_huge_map_is_kept_and_not_read),
        cmocka_unit_test(many_buckets_are_cut),           cmocka_unit_test(missing_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
