/* test_event.c -- lists that grow in the batch's arena, and label sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/event.h"

static void new_records_are_absent(void **state) {
    (void)state;
    struct batch *b = batch_new(1 << 20);
    assert_non_null(b);
    assert_true(b->received > 0);
    struct trace *t = batch_add_trace(b);
    assert_non_null(t);
    assert_false(id_has(&t->id));
    assert_true(t->timestamp == TIME_NONE);
    assert_true(isnan(t->latency));
    assert_false(str_has(t->name) || t->tags_has || t->total_cost.has);
    assert_true(t->index == SIZE_MAX);
    struct observation *o = batch_add_observation(b);
    assert_non_null(o);
    assert_false(id_has(&o->id) || id_has(&o->parent_id) || o->tokens_in.has || o->cost_total.has || str_has(o->type));
    assert_true(o->start == TIME_NONE && o->end == TIME_NONE && o->completion_start == TIME_NONE);
    assert_true(isnan(o->input_price) && isnan(o->output_price) && isnan(o->total_price));
    assert_true(isnan(o->latency) && isnan(o->time_to_first_token));
    struct sample *s = batch_add_sample(b);
    assert_non_null(s);
    assert_true(s->timestamp == TIME_NONE && s->nlabels == 0);
    assert_int_equal(batch_records(b), 3);
    assert_true(batch_bytes(b) > sizeof *b);
    batch_free(b);
    batch_free(NULL);
}

static void lists_keep_what_they_hold_while_they_grow(void **state) {
    (void)state;
    struct batch *b = batch_new((size_t)64 << 20);
    assert_non_null(b);
    for (size_t i = 0; i < 5000; i++) {
        struct observation *o = batch_add_observation(b);
        assert_non_null(o);
        o->index = i;
    }
    assert_true(b->arena.used < 4 * 5000 * sizeof(struct observation));
    for (size_t i = 0; i < 5000; i++) {
        assert_int_equal(b->observations[i].index, i);
        assert_true(b->observations[i].start == TIME_NONE);
    }
    batch_free(b);
}

static void reserved_lists_do_not_grow(void **state) {
    (void)state;
    struct batch *b = batch_new((size_t)64 << 20);
    assert_non_null(b);
    assert_true(batch_reserve(b, 1, 1000, 0));
    struct observation *first = b->observations;
    for (size_t i = 0; i < 1000; i++) {
        assert_non_null(batch_add_observation(b));
    }
    assert_ptr_equal(first, b->observations);
    assert_int_equal(b->cap_observations, 1000);
    assert_false(batch_reserve(b, 0, 0, SIZE_MAX));
    assert_false(batch_reserve(b, 0, SIZE_MAX - 1, 0));
    batch_free(b);
}

static void a_full_arena_gives_null(void **state) {
    (void)state;
    struct batch *b = batch_new(64 * 1024);
    assert_non_null(b);
    size_t n = 0;
    while (batch_add_observation(b)) {
        n++;
    }
    assert_true(n > 0 && n < 200);
    assert_int_equal(b->nobservations, n);
    batch_free(b);
}

static void missing_memory_is_reported(void **state) {
    (void)state;
    alloc_fail_at(1);
    assert_null(batch_new(1 << 20));
    struct batch *b = batch_new(1 << 20);
    assert_non_null(b);
    alloc_fail_at(1);
    assert_null(batch_add_trace(b));
    assert_non_null(batch_add_trace(b));
    struct label l = { STR_LIT("a"), STR_LIT("b") };
    alloc_fail_at(1);
    assert_false(str_has(labels_json(&b->arena, &l, 1)));
    alloc_fail_at(0);
    assert_true(str_eq_c(labels_json(&b->arena, &l, 1), "{\"a\":\"b\"}"));
    batch_free(b);
}

/* Names a number by `digits` letters, so that equal numbers give equal names. */
static struct str name_of(char *room, unsigned n) {
    for (size_t i = 0; i < 4; i++) {
        room[i] = (char)('a' + (n >> (12 - 4 * i) & 15));
    }
    return (struct str){ room, 4 };
}

/* Sorts n labels with names below `range` and checks order, uniqueness and that the last of equal ones stayed. */
static void check_sort(size_t n, unsigned range, uint64_t seed) {
    struct label *v = calloc(n + 1, sizeof *v);
    char(*names)[4] = calloc(n + 1, sizeof *names);
    uint32_t *last = calloc(65536, sizeof *last); /* position of a name's last one, from 1 */
    uint32_t *order = calloc(n + 1, sizeof *order);
    size_t distinct = 0;
    assert_true(v && names && last && order);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned k = (unsigned)(seed >> 33) % range;
        distinct += last[k] == 0;
        last[k] = (uint32_t)i + 1;
        order[i] = (uint32_t)i + 1;
        v[i] = (struct label){ name_of(names[i], k), { (const char *)&order[i], sizeof order[i] } };
    }
    size_t kept = labels_sort(v, n);
    assert_int_equal(kept, distinct);
    for (size_t i = 0; i < kept; i++) {
        unsigned k = 0;
        uint32_t at;
        for (size_t j = 0; j < 4; j++) {
            k = k << 4 | (unsigned)(v[i].name.p[j] - 'a');
        }
        memcpy(&at, v[i].value.p, sizeof at);
        assert_int_equal(at, last[k]);
        assert_true(i == 0 || str_cmp(v[i - 1].name, v[i].name) < 0);
    }
    free(v);
    free(names);
    free(last);
    free(order);
}

static void labels_are_sorted_and_the_last_of_equal_names_stays(void **state) {
    (void)state;
    for (size_t n = 0; n <= 70; n++) {
        for (unsigned range = 1; range < 100; range = range * 3 + 1) {
            check_sort(n, range, n * 1000 + range);
        }
    }
    check_sort(1000, 3, 1);
    check_sort(1000, 65536, 2);
    check_sort(100000, 60000, 3);
    check_sort(100000, 1, 4);
}

static void label_json_is_compact_and_escaped(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    struct label l[] = { { STR_LIT("a\"b"), STR_LIT("1\n") }, { STR_LIT("\xc3\xa9"), STR_LIT("") } };
    assert_true(str_eq_c(labels_json(&a, l, 2), "{\"a\\\"b\":\"1\\n\",\"\xc3\xa9\":\"\"}"));
    assert_true(str_eq_c(labels_json(&a, NULL, 0), "{}"));
    arena_done(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_records_are_absent),
        cmocka_unit_test(lists_keep_what_they_hold_while_they_grow),
        cmocka_unit_test(reserved_lists_do_not_grow),
        cmocka_unit_test(a_full_arena_gives_null),
        cmocka_unit_test(missing_memory_is_reported),
        cmocka_unit_test(labels_are_sorted_and_the_last_of_equal_names_stays),
        cmocka_unit_test(label_json_is_compact_and_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
