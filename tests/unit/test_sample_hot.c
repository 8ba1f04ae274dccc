/* test_sample_hot.c -- the hot part: finding sets again, taking back, publishing, memory that runs out. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/sample/hot.h"

static struct label labels[8];
static struct sample point(const char *name, const char *a, const char *b, int64_t time, double value) {
    labels[0] = (struct label){ STR_LIT("a"), str_c(a) };
    labels[1] = (struct label){ STR_LIT("b"), str_c(b) };
    return (struct sample){ .name = str_c(name),
                            .labels = labels,
                            .nlabels = b   ? 2
                                       : a ? 1
                                           : 0,
                            .timestamp = time,
                            .value = value };
}
static uint32_t add(struct hot *h, int64_t project, struct sample p) {
    struct xt_err err;
    assert_int_equal(hot_add(h, project, &p, &err), XT_OK);
    return hot_point_set(h, h->n.points - 1);
}

#define HEX_A "0123456789abcdef0123456789abcdef"
#define HEX_B "0123456789abcdef0123456789abcdee"

static void sets_are_found_again(void **state) {
    (void)state;
    struct hot *h = hot_part_new();
    static const struct {
        int64_t project;
        const char *name, *a, *b;
    } sets[] = {
        { 1, "m", NULL, NULL },
        { 1, "m", "x", NULL },
        { 1, "m", "x", "y" },
        { 1, "m", "y", "x" },
        { 2, "m", "x", "y" },
        { 1, "n", "x", "y" },
        { 1, "", "", NULL },
        { 1, "m", HEX_A, "y" },
        { 1, "m", HEX_B, "y" },
        { 1, "m", HEX_A, HEX_B },
        { 1, "m", "0123456789ABCDEF0123456789abcdef", "y" },
        { 1, HEX_A, "x", "y" },
    };
    const size_t n = sizeof sets / sizeof *sets;
    for (int round = 0; round < 3; round++)
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(add(h, sets[i].project, point(sets[i].name, sets[i].a, sets[i].b, 5, i)), i);
    assert_int_equal(h->n.sets, n);
    assert_int_equal(h->n.points, 3 * n);
    struct sample replacing = point("m", "x", "y", 5, 1);
    replacing.replaces = true;
    assert_int_equal(add(h, 1, replacing), n); /* a kind of its own */
    assert_true(hot_set(h, (uint32_t)n)->replaces);
    /* Hex values are not interned and come back as text. */
    char room[32];
    struct str text = hot_value(h, hot_set(h, 7)->labels[0].value, room);
    assert_true(str_eq_c(text, HEX_A));
    assert_true(!(hot_set(h, 10)->labels[0].value & HOT_HEX));
    hot_part_unref(h);
}

static void hash_is_of_everything(void **state) {
    (void)state;
    struct sample p = point("m", "x", "y", 1, 1), q = p;
    uint32_t h = hot_hash(1, &p);
    assert_true(h != 0 && h == hot_hash(1, &q));
    q.timestamp = 9;
    q.value = 9;
    assert_int_equal(h, hot_hash(1, &q));
    assert_int_not_equal(h, hot_hash(2, &p));
    q.replaces = true;
    assert_int_not_equal(h, hot_hash(1, &q));
    p = point("m", "y", "x", 1, 1);
    assert_int_not_equal(h, hot_hash(1, &p));
}

/* Random groups, half of them taken back: what is left is what a list says. */
static void cut(void **state) {
    (void)state;
    struct hot *h = hot_part_new();
    struct hot_mark mark;
    uint32_t points = 0, seed = 1;
    for (int round = 0; round < 400; round++) {
        struct hot_count before = h->n;
        size_t text = h->text;
        hot_mark(h, &mark);
        for (int i = 0; i < 20; i++) {
            char name[20], a[40];
            seed = seed * 1664525 + 1013904223;
            snprintf(name, sizeof name, "m%u", (seed >> 8) % 7);
            snprintf(a, sizeof a, (seed >> 16) % 2 ? "%032x" : "v%u", (seed >> 12) % (unsigned)(round + 1));
            add(h, 1, point(name, a, NULL, round, i));
        }
        if (seed >> 24 & 1) {
            hot_publish_points(h);
            points += 20;
        } else {
            hot_cut(h, &mark);
            assert_memory_equal(&h->n, &before, sizeof before);
            assert_int_equal(h->text, text);
        }
        assert_int_equal(hot_seen(h).points, points);
    }
    /* Every set is found under its own number, and no other has its labels. */
    for (uint32_t i = 0; i < h->n.sets; i++)
        assert_int_equal(hot_find_set(h, h, i), i);
    hot_part_unref(h);
}

static void copies(void **state) {
    (void)state;
    struct hot *from = hot_part_new(), *to = hot_part_new();
    add(to, 1, point("z", HEX_A, "q", 1, 1));
    for (int i = 0; i < 300; i++) {
        char a[40];
        snprintf(a, sizeof a, i % 2 ? "%032d" : "v%d", i);
        struct sample p = point(i % 3 ? "m" : "n", a, "y", i, i);
        p.replaces = i % 5 == 0;
        add(from, i % 7, p);
    }
    for (uint32_t i = 0; i < from->n.sets; i++) {
        uint32_t k = hot_copy_set(to, from, i);
        assert_int_equal(k, i + 1);
        assert_int_equal(hot_copy_set(to, from, i), k);
        assert_int_equal(hot_find_set(from, to, k), i);
        assert_int_equal(hot_set(to, k)->replaces, hot_set(from, i)->replaces);
    }
    hot_part_unref(from);
    hot_part_unref(to);
}

static void full(void **state) {
    (void)state;
    struct hot *h = hot_part_new();
    uint32_t i = 0;
    for (; !hot_full(h); i++) {
        char a[40];
        snprintf(a, sizeof a, "%032u", i);
        add(h, 1, point("m", a, NULL, i, 1));
    }
    assert_true(i == SAMPLE_HOT_SETS || h->text >= SAMPLE_HOT_TEXT);
    hot_part_unref(h);
    h = hot_part_new();
    for (i = 0; !hot_full(h); i++)
        add(h, 1, point("m", "x", NULL, i, 1));
    assert_int_equal(i, SAMPLE_HOT_POINTS);
    hot_part_unref(h);
}

static void without_memory(void **state) {
    (void)state;
    int failures = 0;
    for (uint64_t n = 1; n < 40; n++) {
        struct hot *h = hot_part_new();
        struct hot_mark mark;
        struct xt_err err;
        enum xt_code code = XT_OK;
        hot_mark(h, &mark);
        alloc_fail_at(n);
        for (int i = 0; i < 200 && code == XT_OK; i++) {
            char a[40];
            snprintf(a, sizeof a, i % 2 ? "%032d" : "v%d", i);
            struct sample p = point("m", a, "y", i, i);
            code = hot_add(h, 1, &p, &err);
        }
        alloc_fail_at(0);
        if (code != XT_OK) {
            assert_int_equal(code, XT_ENOMEM);
            failures++;
            hot_cut(h, &mark);
            assert_int_equal(h->n.points + h->n.sets + h->n.strings, 0);
        }
        /* It goes on as if nothing had been. */
        for (int i = 0; i < 200; i++) {
            char a[40];
            snprintf(a, sizeof a, "w%d", i % 100);
            add(h, 1, point("m", a, "y", i, i));
        }
        for (uint32_t i = 0; i < h->n.sets; i++)
            assert_int_equal(hot_find_set(h, h, i), i);
        hot_part_unref(h);
    }
    assert_true(failures > 5);
}

/* ---- readers beside the writer ---- */

struct race {
    struct hot *h;
    _Atomic bool stop;
    _Atomic int rounds;
};

/* Everything below the counts is there and fits together. */
static void *look(void *arg) {
    struct race *r = arg;
    while (!r->stop) {
        struct hot_count n = hot_seen(r->h);
        double sum = 0;
        for (uint32_t i = 0; i < n.points; i++) {
            uint32_t set = hot_point_set(r->h, i);
            const struct hot_set *s = set < n.sets ? hot_set(r->h, set) : NULL;
            char room[32];
            if (!s || s->name >= n.names || hot_value(r->h, s->labels[0].value, room).n < 2)
                abort();
            sum += hot_point_value(r->h, i);
        }
        if (sum != (double)n.points)
            abort();
        r->rounds++;
    }
    return NULL;
}

static void readers_beside(void **state) {
    (void)state;
    struct race r = { .h = hot_part_new() };
    pthread_t threads[2];
    struct hot_mark mark;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look, &r), 0);
    for (int round = 0; round < 300 || r.rounds < 20; round++) {
        if (round > 3000)
            continue;
        hot_mark(r.h, &mark);
        for (int i = 0; i < 50; i++) {
            char a[40];
            snprintf(a, sizeof a, i % 2 ? "%032d" : "v%d", round * 20 + i);
            add(r.h, 1, point(i % 9 ? "m" : "n", a, "y", i, round % 3 ? 1 : 7));
        }
        if (round % 3)
            hot_publish_points(r.h);
        else
            hot_cut(r.h, &mark);
    }
    r.stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    hot_part_unref(r.h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_are_found_again),
        cmocka_unit_test(hash_is_of_everything),
        cmocka_unit_test(cut),
        cmocka_unit_test(copies),
        cmocka_unit_test(full),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(readers_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
