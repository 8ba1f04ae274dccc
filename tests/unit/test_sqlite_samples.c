/* test_sqlite_samples.c -- points in and out, numbers of arrival, the cache, retention. */
#include "sqlite_fixture.h"

#include <float.h>

#include "store/sqlite/labels.h"

static int64_t count(struct fixture *f, const char *table) {
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    return fixture_query(f, sql);
}
static void read_is(struct fixture *f, const struct series_query *q, const char *want) {
    char got[4000];
    series_read_text(f, q, got, sizeof got);
    assert_string_equal(got, want);
}

static void write_and_read(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    sample_add(b, "gpu", "node=a,gpu=0", 10 * NS_PER_SEC, 1.5);
    sample_add(b, "gpu", "gpu=0,node=a", 20 * NS_PER_SEC, 2.5);
    sample_add(b, "gpu", "gpu=1,node=a", 70 * NS_PER_SEC, 4);
    sample_add(b, "gpu", "", 5 * NS_PER_SEC, 8);
    sample_add(b, "other", "", 5 * NS_PER_SEC, 16);
    sample_add(b, "", "k=", -5 * NS_PER_SEC, 32);
    samples_store(f, b);
    b = sample_batch(2);
    sample_add(b, "gpu", "gpu=0,node=a", 10 * NS_PER_SEC, 100);
    samples_store(f, b);
    struct series_query q = series_of_name("gpu");
    const char *want = "{\"gpu\":\"0\",\"node\":\"a\"} 0=4; {\"gpu\":\"1\",\"node\":\"a\"} 60=4; {} 0=8; latest=70";
    read_is(f, &q, want);
    q.project = 2;
    read_is(f, &q, "{\"gpu\":\"0\",\"node\":\"a\"} 0=100; latest=10");
    q.project = 3;
    read_is(f, &q, "latest=none");
    q = series_of_name("");
    read_is(f, &q, "{\"k\":\"\"} -60=32; latest=-5");
    q = series_of_name("unknown");
    read_is(f, &q, "latest=none");
    q = series_of_name("gpu");
    q.match_none = true;
    read_is(f, &q, "latest=none");
    /* The same after a restart, and new points join the stored series. */
    fixture_reopen(f);
    q = series_of_name("gpu");
    read_is(f, &q, want);
    b = sample_batch(1);
    sample_add(b, "gpu", "gpu=1,node=a", 71 * NS_PER_SEC, 1);
    samples_store(f, b);
    assert_int_equal(count(f, "series"), 6);
    assert_int_equal(count(f, "metric"), 4);
    q.from = 71 * NS_PER_SEC;
    read_is(f, &q, "{\"gpu\":\"1\",\"node\":\"a\"} 60=1; latest=71");
}

/* Labels of any content come back as they were sent. */
static void hostile_labels(void **state) {
    struct fixture *f = *state;
    static const struct str texts[] = {
        STR_LIT(""),
        STR_LIT("\""),
        STR_LIT("\\"),
        STR_LIT("\\\\\""),
        STR_LIT("\x01\x1f\n\t\r\b\f"),
        STR_LIT("\x7f"),
        STR_LIT("\xc3\xa9"),
        STR_LIT("\xf0\x9f\x98\x80"),
        STR_LIT("a\0b"),
        STR_LIT("\",\"x\":\""),
        STR_LIT("}"),
        STR_LIT("\\u0041"),
        STR_LIT("/"),
    };
    size_t n = sizeof texts / sizeof *texts;
    struct batch *b = sample_batch(1);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            struct sample *p = batch_add_sample(b);
            struct label *l = arena_new(&b->arena, struct label, 1);
            assert_true(p && l);
            *l = (struct label){ texts[i], texts[k] };
            *p = (struct sample){ .name = texts[k], .labels = l, .nlabels = 1, .timestamp = (int64_t)k, .value = 1 };
        }
    }
    samples_store(f, b);
    assert_int_equal(count(f, "series"), (int)(n * n));
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < n; i++) {
            struct label l = { texts[i], texts[k] };
            struct series_query q = series_of_name("");
            q.name = texts[k];
            q.labels = &l;
            q.nlabels = 1;
            struct series_sink *sink = series_sink_new(&q, 1 << 20);
            const struct series_result *r;
            size_t nr = 0;
            int64_t latest;
            bool cut;
            assert_int_equal(f->store.ops->series(&f->store, &q, sink, &f->err), XT_OK);
            assert_int_equal(series_sink_finish(sink, &r, &nr, &latest, &cut, &f->err), XT_OK);
            assert_int_equal(nr, 1);
            struct arena a;
            arena_init(&a, 1 << 20);
            assert_true(str_eq(r[0].labels, labels_json(&a, &l, 1)));
            arena_done(&a);
            series_sink_free(sink);
        }
    }
}

static void labels_texts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int n; /* -1: refused */
    } cases[] = {
        { "{}", 0 },
        { "{\"a\":\"b\"}", 1 },
        { "{\"a\":\"b\",\"c\":\"\\\"\"}", 2 },
        { "", -1 },
        { "{", -1 },
        { "{}x", -1 },
        { "{\"a\":1}", -1 },
        { "{\"a\":\"b\"", -1 },
        { "{\"a\"}", -1 },
        { "{\"a\":\"b\",}", -1 },
        { "{,}", -1 },
        { "{\"a\":\"\\\"}", -1 },
        { "{\"a\":\"\\q\"}", -1 },
        { "[]", -1 },
        { "{\"a\":\"b\"\"c\":\"d\"}", -1 },
        { "{ }", -1 },
        { "{\"a\":\"b\\", -1 },
        { "{\"", -1 },
        { "{\"a\":", -1 },
        { "{\"a\":\"", -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena a;
        arena_init(&a, 1 << 20);
        /* Exactly as long as the text, so that a read past its end is seen. */
        size_t len = strlen(cases[i].text);
        char *copy = malloc(len ? len : 1);
        assert_non_null(copy);
        memcpy(copy, cases[i].text, len);
        struct label *labels = NULL;
        size_t n = 0;
        bool ok = labels_parse(&a, (struct str){ copy, len }, &labels, &n);
        assert_int_equal(ok ? (int)n : -1, cases[i].n);
        free(copy);
        arena_done(&a);
    }
}

static bool names_join(void *arg, struct str name) {
    char *out = arg;
    size_t used = strlen(out);
    snprintf(out + used, 200 - used, "%.*s;", STR_FMT(name));
    return used < 60;
}
static void names(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    static const char *const list[] = { "b", "a", "B", "\xc3\xa9", "", "a.b", "a b" };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        sample_add(b, list[i], "", 0, 1);
    samples_store(f, b);
    b = sample_batch(2);
    sample_add(b, "foreign", "", 0, 1);
    samples_store(f, b);
    char got[200] = "";
    assert_int_equal(f->store.ops->metric_names(&f->store, 1, TIME_NONE, names_join, got, &f->err), XT_OK);
    assert_string_equal(got, ";B;a;a b;a.b;b;\xc3\xa9;");
    snprintf(got, sizeof got, "%060d", 0);
    assert_int_equal(f->store.ops->metric_names(&f->store, 1, TIME_NONE, names_join, got, &f->err), XT_OK);
    assert_int_equal(strlen(got), 61); /* the visitor stopped it */
    assert_int_equal(f->store.ops->metric_names(&f->store, 1, 1, names_join, got, &f->err),
                     XT_OK); /* too short to stop */
}

/* Equal points are two points; `last` of equal times is the one that arrived last, also over several sets. */
static void no_identity(void **state) {
    struct fixture *f = *state;
    for (int i = 1; i <= 3; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", i == 2 ? "a=1,g=x" : "a=2,g=x", 7, i);
        samples_store(f, b);
        fixture_reopen(f);
    }
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("g");
    read_is(f, &q, "{\"g\":\"x\"} 0=6; latest=0");
    q.agg = AGG_LAST;
    read_is(f, &q, "{\"g\":\"x\"} 0=3; latest=0");
    struct batch *b = sample_batch(1);
    sample_add(b, "m", "a=1,g=x", 7, 4);
    samples_store(f, b);
    read_is(f, &q, "{\"g\":\"x\"} 0=4; latest=0");
    assert_int_equal(count(f, "sample"), 4);
}

static void extreme_values(void **state) {
    struct fixture *f = *state;
    static const double values[] = { DBL_MAX, -DBL_MAX, DBL_MIN, 5e-324, -0.0, 0.1, 1e15 + 0.5, 9007199254740993.0 };
    struct batch *b = sample_batch(1);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        sample_add(b, "m", "", (int64_t)i * 60 * NS_PER_SEC, values[i]);
    sample_add(b, "m", "", TIME_MIN, 1);
    sample_add(b, "m", "", TIME_MAX, 2);
    samples_store(f, b);
    struct series_query q = series_of_name("m");
    struct series_sink *sink = series_sink_new(&q, 1 << 20);
    const struct series_result *r;
    size_t n;
    int64_t latest;
    bool cut;
    assert_int_equal(f->store.ops->series(&f->store, &q, sink, &f->err), XT_OK);
    assert_int_equal(series_sink_finish(sink, &r, &n, &latest, &cut, &f->err), XT_OK);
    assert_true(n == 1 && r[0].nvalues == 10 && latest == TIME_MAX && r[0].values[9].value == 2);
    for (size_t i = 0; i < 8; i++)
        assert_true(r[0].values[i + 1].value == values[i]); /* the sign of -0.0 is lost in SQLite */
    series_sink_free(sink);
}

/* ---- numbers and cache ---- */

static void rollback_forgets(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct batch *b = sample_batch(1);
    sample_add(b, "m", "a=1", 1, 1);
    struct batch_part part = { .b = b, .sample_to = 1 };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(conn_begin(&e->writer, true, &f->err), XT_OK);
        assert_int_equal(samples_write(e, &part, &f->err), XT_OK);
        conn_rollback(&e->writer);
        samples_forget(e);
    }
    assert_int_equal(count(f, "series"), 0);
    samples_store(f, b);
    assert_int_equal(fixture_query(f, "SELECT seq FROM sample"), 1);
    assert_int_equal(fixture_query(f, "SELECT v FROM state WHERE k = 'next_sample'"), 2);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM sample JOIN series USING (sid) JOIN metric ON id = metric"),
                     1);
}

static void numbers_are_unique(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 20; i++) {
        struct batch *b = sample_batch(1);
        for (int k = 0; k < 50; k++)
            sample_add(b, "m", k % 2 ? "a=1" : "a=2", k, 1);
        samples_store(f, b);
        if (i % 3 == 0)
            fixture_reopen(f);
    }
    assert_int_equal(fixture_query(f, "SELECT count(DISTINCT seq) FROM sample"), 1000);
    assert_int_equal(fixture_query(f, "SELECT max(seq) FROM sample"), 1000);
}

/* Parts of one batch, as the writer splits it after a refusal. */
static void parts(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct batch *b = sample_batch(1);
    for (int k = 0; k < 10; k++)
        sample_add(b, "m", "", k, 1);
    struct batch_part list[] = { { .b = b, .sample_from = 2, .sample_to = 5 },
                                 { .b = b, .sample_from = 9, .sample_to = 10 },
                                 { .b = b, .sample_from = 4, .sample_to = 4 } };
    assert_int_equal(conn_begin(&e->writer, true, &f->err), XT_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(samples_write(e, &list[i], &f->err), XT_OK);
    assert_int_equal(conn_commit(&e->writer, &f->err), XT_OK);
    batch_free(b);
    assert_int_equal(fixture_query(f, "SELECT sum(ts) FROM sample"), 2 + 3 + 4 + 9);
}

/* More label sets than the cache holds, twice over: each is one series. */
static void more_sets_than_cache(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 2; round++) {
        struct batch *b = sample_batch(1);
        for (int i = 0; i < 70000; i++) {
            char label[40];
            snprintf(label, sizeof label, "id=%d", i);
            sample_add(b, "m", label, i, 1);
        }
        samples_store(f, b);
    }
    assert_int_equal(count(f, "series"), 70000);
    assert_int_equal(count(f, "sample"), 140000);
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("none");
    read_is(f, &q, "{\"none\":null} 0=140000; latest=0");
}

static void huge_labels(void **state) {
    struct fixture *f = *state;
    static char text[17 << 20];
    memset(text, '\x01', sizeof text);
    struct label l = { STR_LIT("k"), { text, 100000 } };
    struct batch *b = sample_batch(1);
    struct sample *p = batch_add_sample(b);
    *p = (struct sample){ .name = STR_LIT("m"), .labels = &l, .nlabels = 1, .timestamp = 1, .value = 1 };
    assert_int_equal(samples_commit(f, b), XT_OK);
    assert_int_equal(samples_commit(f, b), XT_OK);
    assert_int_equal(count(f, "series"), 1);
    l.value.n = sizeof text;
    assert_int_equal(samples_commit(f, b), XT_EREFUSED);
    assert_non_null(strstr(f->err.msg, "labels"));
    batch_free(b);
    assert_int_equal(count(f, "sample"), 2);
}

static void deadline(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    for (int i = 0; i < 20000; i++) {
        char label[40];
        snprintf(label, sizeof label, "id=%d", i);
        sample_add(b, "m", label, i, 1);
    }
    samples_store(f, b);
    struct series_query q = series_of_name("m");
    q.deadline = clock_mono_ns() + 1000000;
    struct series_sink *sink = series_sink_new(&q, 1 << 24);
    assert_int_equal(f->store.ops->series(&f->store, &q, sink, &f->err), XT_ETIMEOUT);
    series_sink_free(sink);
    /* A sink that is full ends the reading, and says so itself. */
    q.deadline = TIME_NONE;
    q.agg = AGG_P50;
    q.grouped = true;
    q.group_by = STR_LIT("none");
    sink = series_sink_new(&q, 20000);
    assert_int_equal(f->store.ops->series(&f->store, &q, sink, &f->err), XT_OK);
    const struct series_result *r;
    size_t n;
    int64_t latest;
    bool cut;
    assert_int_equal(series_sink_finish(sink, &r, &n, &latest, &cut, &f->err), XT_ETOOBIG);
    series_sink_free(sink);
}

static void without_memory(void **state) {
    struct fixture *f = *state;
    for (uint64_t n = 1; n < 30; n++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", "a=1", 1, 1);
        sample_add(b, "n", "a=2", 1, 1);
        samples_free(engine_of(&f->store));
        alloc_fail_at(n);
        enum xt_code code = samples_commit(f, b);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        batch_free(b);
        struct series_query q = series_of_name("m");
        alloc_fail_at(n);
        struct series_sink *sink = series_sink_new(&q, 1 << 20);
        if (sink)
            f->store.ops->series(&f->store, &q, sink, &f->err);
        alloc_fail_at(0);
        series_sink_free(sink);
    }
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM sample") % 2, 0);
    assert_int_equal(count(f, "series"), 2);
}

/* ---- retention ---- */

static int retain(struct fixture *f, int64_t cutoff) {
    bool more = true;
    int calls = 0;
    for (; more && calls < 1000; calls++) {
        int64_t before = fixture_query(f, "SELECT count(*) FROM sample");
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_SAMPLES, cutoff, &more, &f->err), XT_OK);
        assert_true(before - fixture_query(f, "SELECT count(*) FROM sample") <= 5000);
    }
    return calls;
}

static void retention(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    for (int i = 0; i < 12000; i++)
        sample_add(b, "long", "", i, i);
    for (int i = 0; i < 5000; i++) {
        char label[40];
        snprintf(label, sizeof label, "id=%d", i);
        sample_add(b, "churn", label, i * 4, 1);
    }
    sample_add(b, "old", "a=1", 5, 1);
    sample_add(b, "old", "a=2", 6, 1);
    sample_add(b, "young", "", 20000, 1);
    samples_store(f, b);
    assert_int_equal(retain(f, 0), 3); /* looked at in three slices, nothing to do */
    assert_int_equal(count(f, "sample"), 17003);
    assert_true(retain(f, 10001) >= 4);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM sample WHERE ts < 10001"), 0);
    assert_int_equal(count(f, "sample"), 12000 - 10001 + 5000 - 2501 + 1);
    assert_int_equal(count(f, "series"), 1 + 2499 + 1);
    assert_int_equal(count(f, "metric"), 3);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM metric WHERE name = 'old'"), 0);
    /* The cutoff itself stays. */
    assert_int_equal(fixture_query(f, "SELECT min(ts) FROM sample"), 10001);
    /* What went comes back as new rows, although the writer knew it. */
    b = sample_batch(1);
    sample_add(b, "old", "a=1", 20001, 7);
    sample_add(b, "churn", "id=3", 20001, 8);
    sample_add(b, "long", "", 20001, 9);
    samples_store(f, b);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM sample JOIN series USING (sid) JOIN metric ON id = metric"),
                     count(f, "sample"));
    struct series_query q = series_of_name("old");
    read_is(f, &q, "{\"a\":\"1\"} 0=7; latest=0");
    assert_true(fixture_query(f, "SELECT max(seq) FROM sample") == 17003 + 3);
    /* All of it. */
    retain(f, TIME_MAX);
    assert_int_equal(count(f, "sample") + count(f, "series") + count(f, "metric"), 0);
    struct buf report;
    buf_init(&report, 1 << 20);
    if (f->store.ops->check(&f->store, true, &report, &f->err) != XT_OK)
        fail_msg("%s: %.*s", f->err.msg, STR_FMT(buf_str(&report)));
    buf_done(&report);
}

/* Slices between groups, as the server runs them: nothing young is lost. */
static void retention_between_writes(void **state) {
    struct fixture *f = *state;
    int64_t written = 0;
    for (int round = 0; round < 60; round++) {
        struct batch *b = sample_batch(1);
        for (int i = 0; i < 300; i++) {
            char label[40];
            snprintf(label, sizeof label, "id=%d", (round * 37 + i) % 700);
            sample_add(b, "m", label, i % 3 ? 1000 + round : round, 1);
            written += i % 3 ? 1 : 0;
        }
        samples_store(f, b);
        bool more;
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_SAMPLES, 500, &more, &f->err), XT_OK);
    }
    retain(f, 500);
    assert_int_equal(count(f, "sample"), written);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM sample JOIN series USING (sid)"), written);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM (SELECT DISTINCT labels FROM series)"), count(f, "series"));
}

int main(void) {
#define OPEN(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        OPEN(write_and_read),
        OPEN(hostile_labels),
        cmocka_unit_test(labels_texts),
        OPEN(names),
        OPEN(no_identity),
        OPEN(extreme_values),
        OPEN(rollback_forgets),
        OPEN(numbers_are_unique),
        OPEN(parts),
        OPEN(more_sets_than_cache),
        OPEN(huge_labels),
        OPEN(deadline),
        OPEN(without_memory),
        OPEN(retention),
        OPEN(retention_between_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
