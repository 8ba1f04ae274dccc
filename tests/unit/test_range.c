/* test_range.c -- a range of time in whole intervals and rows: every instant counts once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/fold/range.h"

#define HOUR ROLLUP_HOUR
#define DAY NS_PER_DAY

static int64_t end_of(const struct range_piece *p) { return p->span ? rollup_end(p->to, p->span) : p->to; }

/* How often the pieces count an instant. */
static int times(const struct range_pieces *p, int64_t at) {
    int n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].from <= at && at <= end_of(&p->v[i]))
            n += p->v[i].sign;
    return n;
}

static void check_once(const int64_t *spans, size_t n, int64_t from, int64_t to) {
    struct range_pieces p;
    range_split(spans, n, from, to, &p);
    assert_int_equal(times(&p, from), 1);
    assert_int_equal(times(&p, to), 1);
    assert_int_equal(times(&p, from + (to / 2 - from / 2)), 1);
    if (from > TIME_MIN)
        assert_int_equal(times(&p, from - 1), 0);
    if (to < TIME_MAX)
        assert_int_equal(times(&p, to + 1), 0);
    /* Where the count could change: at both ends of every piece. */
    for (size_t i = 0; i < p.n; i++) {
        const int64_t edges[] = { time_add(p.v[i].from, -1), p.v[i].from, end_of(&p.v[i]),
                                  time_add(end_of(&p.v[i]), 1) };
        for (size_t k = 0; k < sizeof edges / sizeof *edges; k++)
            assert_int_equal(times(&p, edges[k]), from <= edges[k] && edges[k] <= to);
        if (p.v[i].span) { /* starts of whole intervals */
            assert_true(p.v[i].from == time_floor(p.v[i].from, p.v[i].span));
            assert_true(p.v[i].to == time_floor(p.v[i].to, p.v[i].span));
        }
    }
}

/* At random, near boundaries, at the ends of all time. */
static void every_instant_once(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 40000; round++) {
        int64_t spans[RANGE_SPANS], at[2];
        const size_t n = range_spans(round & 1, round & 2, spans);
        for (int i = 0; i < 2; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            const int64_t unit[] = { 1, ROLLUP_TICK, HOUR, DAY, 40 * DAY };
            const int64_t base = (seed >> 60) == 0 ? TIME_MIN : (seed >> 60) == 1 ? TIME_MAX : INT64_C(-3) * DAY;
            at[i] = time_add(base, ((int64_t)(seed >> 40 & 255) - 128) * unit[(seed >> 50) % 5]);
            at[i] = time_add(at[i], (int64_t)(seed >> 34 & 3) - 1);
        }
        check_once(spans, n, at[0] < at[1] ? at[0] : at[1], at[0] < at[1] ? at[1] : at[0]);
    }
    int64_t spans[RANGE_SPANS];
    check_once(spans, range_spans(false, true, spans), TIME_MIN, TIME_MAX);
}

/* What costs: whole intervals as coarse as can be, rows of less than half an interval at each end. */
static void few_rows(void **state) {
    (void)state;
    int64_t spans[RANGE_SPANS];
    struct range_pieces p;
    assert_int_equal(range_spans(false, true, spans), 3);
    range_split(spans, 3, 3 * DAY, 9 * DAY - 1, &p);
    assert_int_equal(p.n, 1);
    assert_true(p.v[0].span == DAY && p.v[0].from == 3 * DAY && p.v[0].to == 8 * DAY && p.v[0].sign == 1);
    assert_int_equal(range_spans(true, false, spans), 1);
    range_split(spans, 1, 5 * HOUR + 1, 7 * HOUR - 1, &p);
    for (size_t i = 0; i < p.n; i++)
        assert_true(p.v[i].span == HOUR || end_of(&p.v[i]) - p.v[i].from < HOUR / 2);
    range_split(spans, 1, 2, 1, &p);
    assert_int_equal(p.n, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instant_once),
        cmocka_unit_test(few_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
