/* test_store_retain.c -- retention of traces: what goes, slice by slice, and that nothing of it stays behind. */
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
    t->metadata = STR_LIT("{}");
    for (int i = 0; i < observations; i++) {
        char oid[16];
        snprintf(oid, sizeof oid, "o%d", i);
        struct observation *o = add_obs(b, id, oid);
        o->model = i % 2 ? STR_LIT("m") : STR_LIT("n");
        o->input = STR_LIT("[1]");
        o->output = STR_LIT("[2]");
        o->metadata = STR_LIT("{}");
        o->tokens_in = (struct opt_i64){ INT64_MAX, true };
        o->cost_total = usd("0.000000000000000001");
        o->status_message = i % 7 ? STR_NONE : arena_printf(&b->arena, "%0800d", i);
    }
}

static void assert_empty(struct fixture *f) {
    static const char *const tables[] = { "trace",       "obs",          "payload",      "payload_gone", "trash",
                                          "trace_model", "rollup_trace", "rollup_model", "rollup_count" };
    static const char *const on_postgresql[] = { "trace",        "trace_key",    "obs",         "payload",
                                                 "rollup_trace", "rollup_model", "rollup_count" };
    const char *const *t = f->postgresql ? on_postgresql : tables;
    size_t n = f->postgresql ? sizeof on_postgresql / sizeof *t : sizeof tables / sizeof *t;
    for (size_t i = 0; i < n; i++)
        if (rows(f, t[i]) != 0)
            fail_msg("%lld rows left in %s", (long long)rows(f, t[i]), t[i]);
}

/* Everything is gone that retention has to remove at once; PostgreSQL keeps what no trace leads to any more until its week
 * has passed. */
static void assert_gone(struct fixture *f) {
    assert_int_equal(rows(f, "trace"), 0);
    if (f->postgresql)
        retain(f, TIME_MAX);
    assert_empty(f);
}
/* Observations that are there: of PostgreSQL's those of whole weeks go. */
static void assert_observations(struct fixture *f, int64_t left, int64_t written) {
    assert_int_equal(rows(f, "obs"), f->postgresql ? written : left);
}

static void nothing_to_do(void **state) {
    struct fixture *f = *state;
    assert_int_equal(retain(f, TIME_MAX), 1);
    struct batch *b = batch_at(1000);
    full_trace(b, "t", 3);
    write_one(f, b);
    assert_int_equal(retain(f, 1000), 1); /* created before the cutoff, not at it */
    assert_int_equal(retain(f, TIME_MIN), 1);
    assert_int_equal(rows(f, "obs"), 3);
    retain(f, 1001);
    assert_gone(f);
}

/* 250 traces: some slices; the young ones stay, with all that is theirs. */
static void by_age(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 250; i++) {
        char id[16];
        struct batch *b = batch_at(i * HOUR / 4);
        snprintf(id, sizeof id, "t%d", i);
        full_trace(b, id, 3);
        write_one(f, b);
    }
    int slices = retain(f, 230 * HOUR / 4);
    assert_true(slices >= (f->postgresql ? 1 : 3));
    assert_int_equal(rows(f, "trace"), 20);
    assert_observations(f, 60, 750);
    struct trace_query q = all_traces();
    struct buf out;
    buf_init(&out, 1 << 20);
    q.user = STR_LIT("u");
    assert_int_equal(read_list(f, &q, &out), 20);
    q.session = STR_LIT("t229");
    assert_int_equal(read_list(f, &q, &out), 0);
    q.session = STR_LIT("t230");
    assert_int_equal(read_list(f, &q, &out), 1);
    buf_clear(&out);
    struct daily_query d = all_days();
    assert_int_equal(read_days(f, &d, &out), 1);
    assert_has(&out, "1970-01-03 traces=20 obs=60 cost=0.00000000000000006 [n n=40 traces=20 in=9223372036854775807");
    buf_done(&out);
    retain(f, TIME_MAX);
    assert_empty(f);
}

/* A trace with many observations is gone at once, however many slices its rows take; what is written meanwhile is new. */
static void large_trace(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    full_trace(b, "large", 7000);
    write_one(f, b);
    bool more = false;
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, 2000, &more, &f->err), XT_OK);
    assert_sound(f);
    read_trace(f, 1, "large", &out);
    assert_string_equal(out.p, "not found\n");
    b = batch_at(5000); /* the same ids again: another trace */
    full_trace(b, "large", 3);
    write_one(f, b);
    buf_clear(&out);
    read_trace(f, 1, "large", &out);
    assert_has(&out, "large ts=5000 created=5000 updated=5000");
    assert_has(&out, "- o2 ");
    assert_lacks(&out, "- o3 ");
    buf_done(&out);
    retain(f, 2000);
    assert_observations(f, 3, 7003);
    assert_sound(f);
    retain(f, TIME_MAX);
    assert_empty(f);
}

static void what_is_left_survives_a_restart(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    full_trace(b, "large", 5000);
    write_one(f, b);
    bool more = false;
    assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, 2000, &more, &f->err), XT_OK);
    fixture_reopen(f);
    assert_true(retain(f, TIME_MIN) >= 1); /* also when nothing is too old any more */
    assert_gone(f);
}

/* Clocks jump: traces created far ahead do not hold up what is too old behind them. */
static void clock_that_ran_ahead(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(TIME_MAX);
    const int young = RETAIN_YOUNG_RUN * 9 / 10; /* fewer than make a round stop */
    for (int i = 0; i < young; i++) {
        char id[16];
        snprintf(id, sizeof id, "f%d", i);
        add_trace(b, id);
    }
    write_one(f, b);
    b = batch_at(1000);
    full_trace(b, "old", 2);
    write_one(f, b);
    retain(f, 2000);
    assert_int_equal(rows(f, "trace"), young);
    assert_observations(f, 0, 2);
}

/* A slice that has done nothing in its time still goes on: time is no way to stand still. */
static void every_slice_goes_on(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    for (int i = 0; i < 400; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i);
        full_trace(b, id, 20);
    }
    write_one(f, b);
    bool more = true;
    for (int64_t last = 8400; more;) {
        int64_t start = clock_mono_ns();
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, 2000, &more, &f->err), XT_OK);
        int64_t took = clock_mono_ns() - start, left = rows(f, "trace") + rows(f, "obs");
        assert_true(left < last || !more);
        if (last - left > 400) /* beyond the first trace and chunk it stopped in time; a busy machine may add to it */
            assert_true(took < 2 * NS_PER_SEC);
        last = left;
    }
    assert_gone(f);
}

static void other_projects_stay(void **state) {
    struct fixture *f = *state;
    struct batch *b[2] = { batch_at(1000), batch_at(3000) };
    full_trace(b[0], "t", 2);
    b[1]->project = 2;
    full_trace(b[1], "t", 2);
    write_group(f, b, 2);
    retain(f, 2000);
    struct buf out;
    buf_init(&out, 1 << 20);
    read_trace(f, 1, "t", &out);
    assert_string_equal(out.p, "not found\n");
    buf_clear(&out);
    read_trace(f, 2, "t", &out);
    assert_has(&out, "- o1 of=t");
    buf_done(&out);
}

/* Whichever allocation fails, a slice leaves everything or nothing. */
static void memory_runs_out(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    for (int i = 0; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i);
        full_trace(b, id, 5);
    }
    write_one(f, b);
    enum xt_code code = XT_ENOMEM;
    for (uint64_t n = 1; code != XT_OK; n++) {
        bool more = false;
        alloc_fail_at(n);
        code = f->store.ops->retain(&f->store, RETAIN_TRACES, 2000, &more, &f->err);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        if (code != XT_OK)
            assert_int_equal(rows(f, "trace"), 20);
        assert_sound(f);
        assert_true(n < 100);
    }
    retain(f, 2000); /* a slice that ran out of its time left some */
    assert_gone(f);
}

int main(void) {
    STORE_OR_SKIP();
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_to_do),        TEST(by_age),
        TEST(large_trace),          TEST(what_is_left_survives_a_restart),
        TEST(clock_that_ran_ahead), TEST(every_slice_goes_on),
        TEST(other_projects_stay),  TEST(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
