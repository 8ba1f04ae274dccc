/* test_rollup_fold.c -- what traces add to the rollups, per key: moves leave nothing behind, coarser levels follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/fold/rollup_fold.h"

#define T0 (INT64_C(1767225600) * NS_PER_SEC) /* 2026-01-01 */

static struct arena arena;
static struct rollup_fold fold;

static int begin(void **state) {
    (void)state;
    arena_init(&arena, SIZE_MAX / 2);
    rollup_init(&fold, &arena);
    return 0;
}
static int end(void **state) {
    (void)state;
    arena_done(&arena);
    return 0;
}

static struct trace_rec trace(int64_t ts, const char *name) {
    return (struct trace_rec){ .tseq = 1,
                               .project = 7,
                               .ts = ts,
                               .name = name ? str_c(name) : STR_NONE,
                               .label = STR_LIT("l"),
                               .env = STR_LIT("default"),
                               .nobs = 3,
                               .ocost_n = 2,
                               .ocost = 5 };
}

/* The delta with that key that says something, or NULL; `name` and `model` in stored form. */
static const struct rollup_delta *find(enum rollup_level level, int64_t start, const char *name, const char *model) {
    for (const struct rollup_delta *d = fold.first; d; d = d->next) {
        bool same_model = model ? str_eq_c(d->model, model) : !str_has(d->model);
        if (d->level == (int64_t)level && d->start == start && str_eq_c(d->name, name) && same_model) {
            assert_int_equal(d->project, 7);
            assert_true(str_eq_c(d->label, "l") && str_eq_c(d->env, "default"));
            return rollup_is_nothing(d) ? NULL : d;
        }
    }
    return NULL;
}

static int64_t counted(int64_t span, int64_t start) {
    for (const struct rollup_count *c = fold.counts; c; c = c->next)
        if (c->project == 7 && c->span == span && c->start == start)
            return c->n;
    return 0;
}

static size_t speaking(void) {
    size_t n = 0;
    for (const struct rollup_delta *d = fold.first; d; d = d->next)
        n += !rollup_is_nothing(d);
    for (const struct rollup_count *c = fold.counts; c; c = c->next)
        n += c->n != 0;
    return n;
}

static void levels(void **state) {
    (void)state;
    const struct trace_rec a = trace(T0 + 5 * NS_PER_SEC, "a"), none = trace(T0 + 2 * ROLLUP_HOUR, NULL);
    const struct model_sums sums = { 2, 10, 20, 30, 5 };
    assert_true(rollup_trace(&fold, &a, 1));
    assert_true(rollup_trace(&fold, &a, 1)); /* another one with the same key */
    assert_true(rollup_trace(&fold, &none, 1));
    assert_true(rollup_model(&fold, &a, STR_LIT("=m"), &sums, 1));
    assert_true(rollup_model(&fold, &none, STR_LIT(""), &sums, 1));
    assert_true(rollup_derive(&fold));

    const struct rollup_delta *d = find(ROLLUP_NAMED_HOUR, T0, "=a", NULL);
    assert_non_null(d);
    assert_true(d->ntrace == 2 && d->nobs == 6 && d->cost == 10);
    d = find(ROLLUP_NAMED_HOUR, T0 + 2 * ROLLUP_HOUR, "", NULL);
    assert_non_null(d);
    assert_true(d->ntrace == 1 && d->nobs == 3 && d->cost == 5);
    d = find(ROLLUP_ALL_HOUR, T0, "", NULL);
    assert_non_null(d);
    assert_true(d->ntrace == 2 && d->nobs == 6 && d->cost == 10);
    d = find(ROLLUP_ALL_DAY, T0, "", NULL);
    assert_non_null(d);
    assert_true(d->ntrace == 3 && d->nobs == 9 && d->cost == 15);
    d = find(ROLLUP_ALL_DAY, T0, "", "=m");
    assert_non_null(d);
    assert_true(d->ntrace == 1 && model_sums_equal(&d->sums, &sums));
    d = find(ROLLUP_ALL_DAY, T0, "", "");
    assert_non_null(d);
    assert_true(d->ntrace == 1 && model_sums_equal(&d->sums, &sums));

    assert_int_equal(counted(ROLLUP_TICK, T0), 2);
    assert_int_equal(counted(ROLLUP_TICK, T0 + 2 * ROLLUP_HOUR), 1);
    assert_int_equal(counted(ROLLUP_HOUR, T0), 2);
    assert_int_equal(counted(NS_PER_DAY, T0), 3);
    assert_int_equal(speaking(), 2 + 2 + 1 + 2 + 2 + 2 + 2 + 2 + 1);
}

static void moving_away(void **state) {
    (void)state;
    const struct trace_rec was = trace(T0, "a"), is = trace(T0 + NS_PER_DAY, "b");
    const struct model_sums sums = { 1, (__int128)1 << 100, -((__int128)1 << 100), 0, (money)1 << 90 }, none = { 0 };
    assert_true(rollup_trace(&fold, &was, -1) && rollup_trace(&fold, &is, 1));
    assert_true(rollup_model(&fold, &was, STR_LIT("=m"), &sums, -1));
    assert_true(rollup_model(&fold, &is, STR_LIT("=m"), &sums, 1));
    assert_true(rollup_model(&fold, &is, STR_LIT("=n"), &none, 1)); /* no observation, no share */
    assert_true(rollup_trace(&fold, &is, -1) && rollup_trace(&fold, &was, 1));
    assert_true(rollup_model(&fold, &was, STR_LIT("=m"), &sums, 1));
    assert_true(rollup_derive(&fold));
    const struct rollup_delta *d = find(ROLLUP_NAMED_HOUR, T0 + NS_PER_DAY, "=b", "=m");
    assert_non_null(d);
    assert_true(d->ntrace == 1 && model_sums_equal(&d->sums, &sums));
    assert_int_equal(speaking(), 3); /* that one, by hour and by day: all else came back */
    assert_null(find(ROLLUP_NAMED_HOUR, T0 + NS_PER_DAY, "=b", "=n"));
}

/* Keys hold texts with their lengths: no two places meet. */
static void keys(void **state) {
    (void)state;
    struct trace_rec a = trace(T0, "b"), b = trace(T0, ""), c = trace(T0, NULL);
    a.label = STR_LIT("la"), b.label = STR_LIT("l"), b.env = STR_LIT("adefault");
    a.env = STR_LIT("default"), c.label = STR_LIT("l\0a");
    assert_true(rollup_trace(&fold, &a, 1) && rollup_trace(&fold, &b, 1) && rollup_trace(&fold, &c, 1));
    size_t n = 0;
    for (const struct rollup_delta *d = fold.first; d; d = d->next, n++)
        assert_int_equal(d->ntrace, 1);
    assert_int_equal(n, 3);
    assert_true(str_eq(fold.first->name, STR_LIT("=b")) && str_eq(fold.first->next->name, STR_LIT("=")));
    assert_true(str_eq(fold.last->name, STR_LIT("")) && str_eq(fold.last->label, STR_LIT("l\0a")));
    assert_false(str_has(rollup_text_of(fold.last->name)));
    assert_true(str_eq(rollup_text_of(fold.first->name), STR_LIT("b")));
}

static void intervals(void **state) {
    (void)state;
    static const struct {
        int64_t from, to, first, last; /* first > last: none */
    } cases[] = {
        { T0, T0 + ROLLUP_HOUR - 1, T0, T0 },
        { T0, T0 + ROLLUP_HOUR - 2, 1, 0 },
        { T0 + 1, T0 + 2 * ROLLUP_HOUR, T0 + ROLLUP_HOUR, T0 + ROLLUP_HOUR },
        { T0 + 1, T0 + ROLLUP_HOUR, 1, 0 },
        { T0, T0 + 3 * ROLLUP_HOUR - 1, T0, T0 + 2 * ROLLUP_HOUR },
        { -1, 0, 1, 0 },
        { -ROLLUP_HOUR, ROLLUP_HOUR, -ROLLUP_HOUR, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t first = 0, last = 0;
        bool any = rollup_whole(cases[i].from, cases[i].to, ROLLUP_HOUR, &first, &last);
        assert_int_equal(any, cases[i].first <= cases[i].last);
        if (any)
            assert_true(first == cases[i].first && last == cases[i].last);
    }
    int64_t first, last; /* all of time: short intervals at both ends */
    assert_true(rollup_whole(TIME_MIN, TIME_MAX, NS_PER_DAY, &first, &last));
    assert_true(first == TIME_MIN && rollup_end(last, NS_PER_DAY) == TIME_MAX);
    assert_true(rollup_end(first, NS_PER_DAY) < TIME_MIN + NS_PER_DAY);
}

static void saturating(void **state) {
    (void)state;
    assert_true(sum_to_i64((__int128)INT64_MAX + 1) == INT64_MAX && sum_to_i64((__int128)INT64_MIN - 1) == INT64_MIN);
    assert_true(sum_to_i64(-5) == -5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(levels, begin, end),
        cmocka_unit_test_setup_teardown(moving_away, begin, end),
        cmocka_unit_test_setup_teardown(keys, begin, end),
        cmocka_unit_test(intervals),
        cmocka_unit_test(saturating),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
