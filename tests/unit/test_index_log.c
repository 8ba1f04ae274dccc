/* test_index_log.c -- the hot part and its log rows: what goes in comes back, what was rolled back is gone, and a row that
 * is damaged is refused whole, whatever its bytes are. */
#include "sqlite_fixture.h"

#include "store/sqlite/index.h"

#define BITS 40

static uint64_t seed;

static uint64_t noise(void) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return seed ^ seed >> 29;
}

static struct ix_entry random_entry(enum ix_kind kind) {
    struct ix_entry e = { .h = noise(), .tseq = 1 + (int64_t)(noise() % 1000000) };
    if (ix_timed(kind))
        e.ts = noise() % 5 ? ix_time((int64_t)(noise() % 1000)) : noise();
    else
        e.h >>= 64 - BITS;
    return e;
}

static void stage_some(struct ix_hot *h, int n) {
    for (int i = 0; i < n; i++)
        for (enum ix_kind k = 0; k < IX_KINDS; k++) {
            struct ix_entry e = random_entry(k);
            if (k != IX_UNPOST || i % 7 == 0)
                assert_true(hot_stage(h, k, &e));
        }
}

static void assert_same(const struct ix_hot *a, const struct ix_hot *b) {
    assert_memory_equal(&a->published, &b->published, sizeof a->published);
    for (enum ix_kind k = 0; k < IX_KINDS; k++)
        for (uint32_t i = 0; i < a->published.n[k]; i++) {
            struct ix_entry x = hot_entry(a, k, i), y = hot_entry(b, k, i);
            assert_int_equal(ix_cmp(&x, &y), 0);
        }
}

static void publish(struct ix_hot *h) {
    assert_true(hot_reserve(h));
    hot_publish(h);
}

/* Groups of all sizes, past the ends of segments; rolled back ones leave nothing. */
static void rows_come_back(void **state) {
    static const int sizes[] = { 1, 0, 3, 1000, 24, 1, 5000, 2 };
    struct ix_hot *h = hot_new(7), *back = hot_new(7);
    struct buf row;
    (void)state;
    seed = 1;
    buf_init(&row, 1 << 24);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct xt_err err;
        stage_some(h, 5);
        hot_forget(h);
        stage_some(h, sizes[i]);
        assert_true(log_encode(h, &row));
        publish(h);
        assert_int_equal(log_decode(back, BITS, buf_str(&row), &err), XT_OK);
        publish(back);
        assert_same(h, back);
    }
    assert_int_equal(hot_counts_at(h, 7).n[IX_TRACE], 0);
    assert_int_equal(hot_counts_at(h, 8).n[IX_TRACE], 1);
    assert_int_equal(hot_counts_at(h, 10).n[IX_OBS], 4);
    assert_int_equal(hot_counts_at(h, 15).n[IX_OBS], h->published.n[IX_OBS]);
    hot_unref(h);
    hot_unref(back);
    buf_done(&row);
}

/* Every prefix, every byte changed to some other values: refused, or other entries, never more than what was there. */
static void damaged_rows(void **state) {
    struct ix_hot *h = hot_new(0), *back = hot_new(0);
    struct buf row;
    struct xt_err err;
    (void)state;
    seed = 2;
    buf_init(&row, 1 << 20);
    stage_some(h, 9);
    assert_true(log_encode(h, &row));
    char *copy = malloc(row.n + 1);
    for (size_t n = 0; n < row.n; n++) {
        memcpy(copy, row.p, row.n);
        char *cut = malloc(n + 1); /* so that reading on is seen */
        memcpy(cut, row.p, n);
        assert_int_equal(log_decode(back, BITS, (struct str){ cut, n }, &err), XT_EUNAVAILABLE);
        assert_int_equal(back->staged.n[IX_TRACE], 0);
        free(cut);
        for (int v = 0; v < 40; v++) {
            copy[n] = (char)noise();
            enum xt_code code = log_decode(back, BITS, (struct str){ copy, row.n }, &err);
            assert_true(code == XT_OK || code == XT_EUNAVAILABLE);
            for (enum ix_kind k = 0; k < IX_KINDS; k++)
                assert_true(back->staged.n[k] <= row.n);
            hot_forget(back);
        }
    }
    memcpy(copy, row.p, row.n);
    copy[row.n] = 0;
    assert_int_equal(log_decode(back, BITS, (struct str){ copy, row.n + 1 }, &err),
                     XT_EUNAVAILABLE);                                                         /* a byte too many */
    assert_int_equal(log_decode(back, 8, (struct str){ copy, row.n }, &err), XT_EUNAVAILABLE); /* hashes of more bits */
    for (int i = 0; i < 20000; i++) {
        char bytes[64];
        size_t n = noise() % sizeof bytes;
        for (size_t k = 0; k < n; k++)
            bytes[k] = (char)noise();
        bytes[0] = 1;
        log_decode(back, BITS, (struct str){ bytes, n }, &err);
        hot_forget(back);
    }
    free(copy);
    hot_unref(h);
    hot_unref(back);
    buf_done(&row);
}

/* Equal hashes: the map and the scan yield all of them, and nothing that is not published. */
static void equal_hashes(void **state) {
    struct ix_hot *h = hot_new(0);
    (void)state;
    for (int i = 0; i < 3000; i++) {
        const struct ix_entry e = { .h = (uint64_t)i % 5, .tseq = i + 1 };
        assert_true(hot_stage(h, IX_TRACE, &e));
        if (i % 100 == 99 && i < 2900)
            publish(h);
    }
    for (uint64_t hash = 0; hash < 6; hash++) {
        size_t at = 0, by_map = 0, by_scan = 0;
        uint32_t i = 0, limit = hot_counts_at(h, 29).n[IX_TRACE];
        struct ix_entry e;
        while (hot_map_next(h, hash, &at, &e))
            by_map++;
        for (; (i = hot_next(h, IX_TRACE, hash, i, limit)) < limit; i++)
            by_scan++;
        assert_int_equal(by_map, hash < 5 ? 580 : 0);
        assert_int_equal(by_scan, by_map);
    }
    hot_unref(h);
}

static void sorting(void **state) {
    struct ix_hot *h = hot_new(0);
    (void)state;
    seed = 3;
    stage_some(h, 4000);
    publish(h);
    for (enum ix_kind k = 0; k < IX_KINDS; k++) {
        struct ix_entry *v = hot_sorted(h, k, h->published.n[k]);
        assert_non_null(v);
        uint64_t sum = 0;
        for (uint32_t i = 0; i < h->published.n[k]; i++) {
            assert_true(i == 0 || ix_cmp(&v[i - 1], &v[i]) <= 0);
            sum += v[i].h ^ (uint64_t)v[i].tseq;
            sum -= hot_entry(h, k, i).h ^ (uint64_t)hot_entry(h, k, i).tseq;
        }
        assert_int_equal(sum, 0);
        free(v);
    }
    hot_unref(h);
}

static void no_memory(void **state) {
    (void)state;
    for (uint64_t at = 1; at < 12; at++) {
        alloc_fail_at(at);
        struct ix_hot *h = hot_new(0);
        bool ok = h != NULL;
        for (int i = 0; i < 3000 && ok; i++) {
            const struct ix_entry e = { .h = (uint64_t)i, .tseq = i + 1 };
            ok = hot_stage(h, IX_TRACE, &e);
        }
        ok = ok && hot_reserve(h);
        if (ok)
            hot_publish(h);
        else if (h)
            hot_forget(h);
        alloc_fail_at(0);
        hot_unref(h);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back), cmocka_unit_test(damaged_rows), cmocka_unit_test(equal_hashes),
        cmocka_unit_test(sorting),        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
