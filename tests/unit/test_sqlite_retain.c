/* test_sqlite_retain.c -- retention of traces: how much a slice takes, numbers, young traces in the way. */
#include "sqlite_fixture.h"
#include "trace_fixture.h"

#include "store/limits.h"

static int64_t rows(const struct fixture *f, const char *table) { return fixture_rows(f, table); }

/* Runs slices until there is no more; after each the store must be sound. */
static int retain(struct fixture *f, int64_t cutoff) {
    bool more = true;
    int slices = 0;
    while (more) {
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, cutoff, &more, &f->err), XT_OK);
        slices++;
        assert_sound(f);
        assert_true(slices < 100);
    }
    return slices;
}

static void full_trace(struct batch *b, const char *id, int observations) {
    struct trace *t = add_trace(b, id);
    t->timestamp = b->received;
    t->name = STR_LIT("n");
    t->user = STR_LIT("u");
    t->session = text_in(b, id);
    set_tags(b, t, "a,b");
    t->input = STR_LIT("[0]");
    t->metadata = STR_LIT("{\"run_id\":\"r\",\"turn_id\":1}");
    for (int i = 0; i < observations; i++) {
        char oid[16];
        snprintf(oid, sizeof oid, "o%d", i);
        struct observation *o = add_obs(b, id, oid);
        o->model = i % 2 ? STR_LIT("m") : STR_LIT("n");
        o->input = STR_LIT("[1]");
        o->output = STR_LIT("[2]");
        o->metadata = i % 3 ? STR_LIT("{}") : STR_LIT("{\"run_id\":\"r\",\"step_id\":\"s\"}");
        o->tokens_in = (struct opt_i64){ INT64_MAX, true };
        o->cost_total = usd("0.000000000000000001");
        o->status_message = i % 7 ? STR_NONE : arena_printf(&b->arena, "%0800d", i);
    }
}

static void assert_empty(struct fixture *f) {
    static const char *const tables[] = { "trace",       "obs",          "payload",      "payload_gone", "trash",
                                          "trace_model", "rollup_trace", "rollup_model", "rollup_count", "record_key" };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (rows(f, tables[i]) != 0)
            fail_msg("%lld rows left in %s", (long long)rows(f, tables[i]), tables[i]);
}

/* A trace with many observations is gone at once; its rows go slice by slice, and what is written meanwhile is new. */
static void large_trace(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    full_trace(b, "small", 2);
    full_trace(b, "large", 7000);
    full_trace(b, "last", 2);
    write_one(f, b);
    struct trace_query q = all_traces();
    struct daily_query d = all_days();
    struct buf out;
    buf_init(&out, 1 << 20);
    /* How much a slice does is a matter of its time: on a slow machine the first ends before the large trace. */
    for (int slices = 0; slices == 0 || !str_eq(buf_str(&out), STR_LIT("not found\n")); slices++) {
        bool more = false;
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, 2000, &more, &f->err), XT_OK);
        assert_true(more && slices < 2);
        buf_clear(&out);
        read_trace(f, 1, "large", &out);
    }
    assert_sound(f);
    buf_clear(&out);
    assert_int_equal(read_list(f, &q, &out), 1);
    buf_clear(&out);
    read_days(f, &d, &out);
    assert_has(&out, "1970-01-01 traces=1 obs=2 cost=0.000000000000000002 [m n=1 traces=1");
    int64_t left = rows(f, "obs");
    assert_true(left > 4000 && left < 7000);

    b = batch_at(5000); /* the same ids again: another trace */
    full_trace(b, "large", 3);
    write_one(f, b);
    assert_int_equal(rows(f, "obs"), left + 3);
    buf_clear(&out);
    read_trace(f, 1, "large", &out);
    assert_has(&out, "large ts=5000 created=5000 updated=5000");
    assert_has(&out, "- o2 ");
    assert_lacks(&out, "- o3 ");
    buf_done(&out);
    assert_true(retain(f, 2000) >= 3);
    assert_int_equal(rows(f, "obs"), 3);
    assert_int_equal(rows(f, "trash"), 0);
    assert_sound(f);
    retain(f, TIME_MAX);
    assert_empty(f);
}

static void add_many(struct fixture *f, int64_t received, int n) {
    static int number;
    struct batch *b = batch_at(received);
    for (int i = 0; i < n; i++) {
        char id[16];
        snprintf(id, sizeof id, "m%d", number++);
        add_trace(b, id);
    }
    write_one(f, b);
}

/* As the server does it: slices until there is no more to do, without looking at the store in between. */
static void round_of(struct fixture *f, int64_t cutoff) {
    bool more = true;
    for (int slices = 0; more; slices++) {
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, cutoff, &more, &f->err), XT_OK);
        assert_true(slices < 20000);
    }
}

/* However many young traces have low numbers: what is too old behind them goes, some rounds later, and the rounds after
 * that begin with the oldest numbers again. */
static void many_ran_ahead(void **state) {
    struct fixture *f = *state;
    const int young = RETAIN_YOUNG_RUN + 2 * RETAIN_LOOK + 50;
    add_many(f, TIME_MAX, young);
    add_many(f, 1000, 300);
    add_many(f, TIME_MAX, 20);
    add_many(f, 1000, 5);
    int rounds = 0;
    for (; rows(f, "trace") > young + 20; rounds++) {
        assert_true(rounds < 5);
        round_of(f, 2000 + rounds);
    }
    assert_int_equal(rounds, 3);
    struct store_stats stats;
    f->store.ops->stats(&f->store, &stats);
    assert_int_equal(stats.removed_traces, 305);
    /* The cutoff passes the low numbers: they go at once, wherever the last round got to. */
    round_of(f, 2000);
    round_of(f, TIME_MAX);
    assert_int_equal(rows(f, "trace"), young + 20);
    assert_int_equal(fixture_query(f, "UPDATE trace SET created = 5 WHERE tseq <= 7 RETURNING 1"), 1);
    round_of(f, 3000);
    assert_int_equal(rows(f, "trace"), young + 20 - 7);
    assert_sound(f);
}

/* Traces that never get old stand in front, and more come in a round than a sweep looks at: what gets old behind them goes
 * in each round all the same; and what got old later than its neighbours goes some rounds later. */
static void more_than_a_sweep(void **state) {
    struct fixture *f = *state;
    enum { ROUNDS = 14, LATE = 3, SLACK = 6 };
    if (RETAIN_LOOK > 1000)
        skip(); /* the same code with small limits */
    add_many(f, TIME_MAX, RETAIN_YOUNG_RUN + 10);
    for (int i = 1; i <= ROUNDS; i++) {
        char sql[100];
        add_many(f, 1000 * i, RETAIN_LOOK);
        add_many(f, 1000 * (i + LATE), 1);
        add_many(f, 1000 * i, 3 * RETAIN_LOOK);
        round_of(f, 1000 * i - 1500);
        snprintf(sql, sizeof sql, "SELECT count(*) FROM trace WHERE created < %d", 1000 * i - 1500);
        int64_t old = fixture_query(f, sql);
        if (old > (i < 4 ? 8 * RETAIN_LOOK : SLACK))
            fail_msg("round %d left %lld old traces", i, (long long)old);
        snprintf(sql, sizeof sql, "SELECT count(*) FROM trace WHERE created < %d", 1000 * (i - SLACK) - 1500);
        assert_int_equal(fixture_query(f, sql), 0);
    }
    assert_sound(f);
}

/* Numbers are not used again, not even after a restart. */
static void numbers_are_new(void **state) {
    struct fixture *f = *state;
    for (int i = 1; i <= 3; i++) {
        struct batch *b = batch_at(1000);
        full_trace(b, "t", 1);
        write_one(f, b);
        assert_int_equal(fixture_query(f, "SELECT max(tseq) FROM trace"), i);
        assert_int_equal(fixture_query(f, "SELECT max(pid) FROM payload"), 6 * i);
        retain(f, TIME_MAX);
        fixture_reopen(f);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(large_trace),
        TEST(many_ran_ahead),
        TEST(more_than_a_sweep),
        TEST(numbers_are_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
