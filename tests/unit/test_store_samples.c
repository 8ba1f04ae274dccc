/* test_store_samples.c -- points in and out: the same answers from what is young, from what is sealed and after a restart;
 * retention, memory that runs out. */
#include "store_fixture.h"

#include <float.h>

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
    series_is(f, &q, want);
    q.project = 2;
    series_is(f, &q, "{\"gpu\":\"0\",\"node\":\"a\"} 0=100; latest=10");
    q.project = 3;
    series_is(f, &q, "latest=none");
    q = series_of_name("");
    series_is(f, &q, "{\"k\":\"\"} -60=32; latest=-5");
    q = series_of_name("unknown");
    series_is(f, &q, "latest=none");
    q = series_of_name("gpu");
    q.match_none = true;
    series_is(f, &q, "latest=none");
    /* The same after a restart, and new points join the stored series. */
    fixture_reopen(f);
    q = series_of_name("gpu");
    series_is(f, &q, want);
    b = sample_batch(1);
    sample_add(b, "gpu", "gpu=1,node=a", 71 * NS_PER_SEC, 1);
    samples_store(f, b);
    assert_int_equal(fixture_points(f), 8);
    q.from = 71 * NS_PER_SEC;
    series_is(f, &q, "{\"gpu\":\"1\",\"node\":\"a\"} 60=1; latest=71");
    fixture_seal(f, false);
    series_is(f, &q, "{\"gpu\":\"1\",\"node\":\"a\"} 60=1; latest=71");
    samples_sound(f);
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
    for (size_t k = 0; k < 3 * n; k++) {
        if (k == n)
            fixture_reopen(f);
        if (k == 2 * n)
            fixture_seal(f, false);
        for (size_t i = 0; i < n; i++) {
            struct label l = { texts[i], texts[k % n] };
            struct series_query q = series_of_name("");
            q.name = texts[k % n];
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
    fixture_seal(f, false);
    b = sample_batch(1);
    sample_add(b, "a", "", 0, 1);
    sample_add(b, "A", "", 0, 1);
    samples_store(f, b);
    got[0] = '\0';
    assert_int_equal(f->store.ops->metric_names(&f->store, 1, TIME_NONE, names_join, got, &f->err), XT_OK);
    assert_string_equal(got, ";A;B;a;a b;a.b;b;\xc3\xa9;");
    snprintf(got, sizeof got, "%060d", 0);
    assert_int_equal(f->store.ops->metric_names(&f->store, 1, TIME_NONE, names_join, got, &f->err), XT_OK);
    assert_int_equal(strlen(got), 61); /* the visitor stopped it */
    enum xt_code code = f->store.ops->metric_names(&f->store, 1, 1, names_join, got, &f->err);
    assert_int_equal(code == XT_OK, !f->postgresql); /* in the file it is too short to stop */
}

/* Equal points are two points; `last` of equal times is the one that arrived last, also over several sets. */
static void no_identity(void **state) {
    struct fixture *f = *state;
    for (int i = 1; i <= 3; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", i == 2 ? "a=1,g=x" : "a=2,g=x", 7, i);
        samples_store(f, b);
        if (i == 2)
            fixture_seal(f, false);
        fixture_reopen(f);
    }
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("g");
    series_is(f, &q, "{\"g\":\"x\"} 0=6; latest=0");
    q.agg = AGG_LAST;
    series_is(f, &q, "{\"g\":\"x\"} 0=3; latest=0");
    struct batch *b = sample_batch(1);
    sample_add(b, "m", "a=1,g=x", 7, 4);
    samples_store(f, b);
    series_is(f, &q, "{\"g\":\"x\"} 0=4; latest=0");
    assert_int_equal(fixture_points(f), 4);
    fixture_seal(f, false);
    series_is(f, &q, "{\"g\":\"x\"} 0=4; latest=0");
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
        assert_memory_equal(&r[0].values[i + 1].value, &values[i], sizeof values[i]);
    series_sink_free(sink);
}

/* ---- groups ---- */

/* Parts of one batch, as the writer splits it after a refusal. */
static void parts(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    for (int k = 0; k < 10; k++)
        sample_add(b, "m", "", k, k);
    struct batch_part list[] = { { .b = b, .sample_from = 2, .sample_to = 5 },
                                 { .b = b, .sample_from = 9, .sample_to = 10 },
                                 { .b = b, .sample_from = 4, .sample_to = 4 } };
    assert_int_equal(f->store.ops->write(&f->store, list, 3, &f->err), XT_OK);
    batch_free(b);
    assert_int_equal((int64_t)fixture_points_between(f, TIME_MIN, TIME_MAX).sum, 2 + 3 + 4 + 9);
}

/* Many label sets, twice over: each is one series. */
static void many_sets(void **state) {
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
    assert_int_equal(fixture_points(f), 140000);
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("none");
    series_is(f, &q, "{\"none\":null} 0=140000; latest=0");
    struct label l = { STR_LIT("id"), STR_LIT("69999") };
    q.grouped = false;
    q.labels = &l;
    q.nlabels = 1;
    series_is(f, &q, "{\"id\":\"69999\"} 0=2; latest=0");
    fixture_seal(f, false);
    series_is(f, &q, "{\"id\":\"69999\"} 0=2; latest=0");
    samples_sound(f);
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
    l.value.n = sizeof text;
    assert_int_equal(samples_commit(f, b), XT_EREFUSED);
    assert_non_null(strstr(f->err.msg, "labels"));
    batch_free(b);
    assert_int_equal(fixture_points(f), 2);
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
    int64_t written = 0;
    for (uint64_t n = 1; n < 120; n++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", "a=1", 1, 1);
        sample_add(b, "n", "a=2", 1, 1);
        if (n % 7 == 0)
            fixture_reopen(f);
        alloc_fail_at(n % 60);
        enum xt_code code = samples_commit(f, b);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        written += code == XT_OK ? 2 : 0;
        batch_free(b);
        struct series_query q = series_of_name("m");
        alloc_fail_at(n % 60);
        struct series_sink *sink = series_sink_new(&q, 1 << 20);
        if (sink)
            f->store.ops->series(&f->store, &q, sink, &f->err);
        if (n % 3 == 0)
            fixture_try_seal(f, n % 2);
        alloc_fail_at(0);
        series_sink_free(sink);
    }
    assert_int_equal(fixture_points(f), written);
    fixture_seal(f, false);
    assert_int_equal(fixture_points(f), written);
    samples_sound(f);
}

/* ---- generations ---- */

static const char *const queries[] = { "", "g", "id", "none" };
/* Many answers in one text. */
static void answers(struct fixture *f, char *out, size_t room) {
    size_t used = 0;
    out[0] = '\0';
    for (int project = 1; project <= 2; project++)
        for (int name = 0; name < 4; name++)
            for (size_t g = 0; g < 4; g++) {
                static const char *const names[] = { "churn", "wide", "few", "late" };
                struct series_query q = series_of_name(names[name]);
                struct label l = { STR_LIT("g"), STR_LIT("g3") };
                char text[9000];
                q.project = project;
                q.grouped = g > 0;
                q.group_by = str_c(queries[g]);
                q.agg = (enum series_agg)((size_t)name * 2 + g + (size_t)project) % (AGG_P99 + 1);
                q.step = 7 * NS_PER_SEC;
                q.from = g == 2 ? 11 * NS_PER_SEC : TIME_MIN;
                q.to = g == 3 ? 200 * NS_PER_SEC : TIME_MAX;
                q.labels = &l;
                q.nlabels = (name + (int)g) % 2 ? 1 : 0;
                series_read_text(f, &q, text, sizeof text);
                used +=
                    (size_t)snprintf(out + used, room - used, "%d %s %s: %s\n", project, names[name], queries[g], text);
                assert_true(used < room);
            }
}

static uint32_t seed;
static uint32_t any(uint32_t below) {
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

static void random_group(struct fixture *f, int round, bool replaces) {
    struct batch *b = sample_batch(1 + round % 2);
    for (int i = 0; i < 40; i++) {
        char label[80];
        uint32_t kind = any(10);
        snprintf(label, sizeof label, "g=g%u,id=%08x%08x%08x%08x", any(5), any(1000), any(1000), any(1000), any(1000));
        if (kind < 4)
            sample_add(b, "churn", label, (round + (int)any(3)) * NS_PER_SEC, any(1000));
        else if (kind < 7)
            sample_add(b, "wide", any(2) ? "g=g1,host=a" : "g=g3,host=b", (round + (int)any(2)) * NS_PER_SEC,
                       any(100) / 4.0);
        else if (kind < 9)
            sample_add(b, "late", any(2) ? "g=g3" : "", (any(4) ? round : (int)any(200)) * NS_PER_SEC, any(50));
        else
            sample_add(b, "few", "", round * NS_PER_SEC, round);
        b->samples[b->nsamples - 1].replaces = replaces && any(2);
    }
    samples_store(f, b);
}

/* Sealing, carrying, restarts with and without an orderly end: never another answer. */
static void same_answers(void **state) {
    struct fixture *f = *state;
    static char before[1 << 20], after[1 << 20];
    seed = 11;
    for (int round = 0; round < 120; round++) {
        random_group(f, round, round > 60);
        answers(f, before, sizeof before);
        switch (any(6)) {
        case 0: fixture_reopen(f); break;
        case 1: fixture_seal(f, false); break;
        case 2: fixture_seal(f, true); break;
        case 3: fixture_reopen_hard(f); break;
        default: continue;
        }
        answers(f, after, sizeof after);
        if (strcmp(before, after) != 0) {
            size_t i = 0;
            while (before[i] == after[i])
                i++;
            i -= i < 300 ? i : 300;
            fail_msg("round %d:\n%.900s\n----\n%.900s", round, before + i, after + i);
        }
    }
    samples_sound(f);
}

static void replaced(void **state) {
    struct fixture *f = *state;
    struct series_query q = series_of_name("m");
    const char *want = "{\"a\":\"1\"} 0=3; {\"a\":\"2\"} 0=7 60=9; latest=61";
    for (int i = 1; i <= 3; i++) {
        struct batch *b = sample_batch(1);
        for (int k = 0; k < 2; k++) /* the second takes the first's place at once */
            sample_add(b, "m", "a=1", 7, i);
        sample_add(b, "m", "a=2", i == 1 ? 8 : 8 + i, i);
        if (i == 2) {
            sample_add(b, "m", "a=2", 8, 2);
            sample_add(b, "m", "a=2", 61 * NS_PER_SEC, 9);
        }
        for (size_t k = 0; k < b->nsamples; k++)
            b->samples[k].replaces = true;
        samples_store(f, b);
        if (i < 3)
            fixture_seal(f, i == 2);
    }
    series_is(f, &q, want);
    fixture_reopen(f);
    series_is(f, &q, want);
    fixture_seal(f, false);
    series_is(f, &q, want);
    /* What has no identity counts beside it. */
    struct batch *b = sample_batch(1);
    sample_add(b, "m", "a=1", 7, 10);
    sample_add(b, "m", "a=1", 7, 10);
    samples_store(f, b);
    series_is(f, &q, "{\"a\":\"1\"} 0=23; {\"a\":\"2\"} 0=7 60=9; latest=61");
    fixture_seal(f, false);
    series_is(f, &q, "{\"a\":\"1\"} 0=23; {\"a\":\"2\"} 0=7 60=9; latest=61");
    samples_sound(f);
}

/* ---- retention ---- */

static int retain(struct fixture *f, int64_t cutoff) {
    bool more = true;
    int calls = 0;
    for (; more && calls < 2000; calls++)
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_SAMPLES, cutoff, &more, &f->err), XT_OK);
    assert_true(calls < 2000);
    return calls;
}

static void names_are(struct fixture *f, const char *want) {
    char got[200] = "";
    assert_int_equal(f->store.ops->metric_names(&f->store, 1, TIME_NONE, names_join, got, &f->err), XT_OK);
    assert_string_equal(got, want);
}

/* The same in the log, in a generation, and in both. */
static void retention(void **state) {
    struct fixture *f = *state;
    for (int sealed = 0; sealed < 3; sealed++) {
        struct batch *b = sample_batch(1);
        for (int i = 0; i < 12000; i++)
            sample_add(b, "long", "", i, i);
        for (int i = 0; i < 5000; i++) {
            char label[40];
            snprintf(label, sizeof label, "id=%d", i);
            sample_add(b, "churn", label, i * 4, 1);
        }
        sample_add(b, "old", "a=1", 5, 1);
        samples_store(f, b);
        if (sealed)
            fixture_seal(f, false);
        b = sample_batch(1);
        sample_add(b, "old", "a=2", 6, 1);
        sample_add(b, "young", "", 20000, 1);
        samples_store(f, b);
        if (sealed == 2)
            fixture_seal(f, false);
        retain(f, 0); /* nothing to do */
        assert_int_equal(fixture_points(f), 17003);
        retain(f, 10001);
        assert_int_equal(fixture_points_between(f, TIME_MIN, 10000).n, 0);
        assert_int_equal(fixture_points_between(f, 10001, 10001).n, 1); /* the cutoff itself stays */
        assert_int_equal(fixture_points(f), 12000 - 10001 + 5000 - 2501 + 1);
        names_are(f, "churn;long;young;");
        struct series_query q = series_of_name("long");
        q.step = 1000;
        q.agg = AGG_MIN;
        q.to = 10999;
        char got[200];
        series_read_text(f, &q, got, sizeof got);
        assert_string_equal(got, "{} 0=10001; latest=0");
        samples_sound(f);
        fixture_reopen(f);
        names_are(f, "churn;long;young;");
        /* What went comes back as it was. */
        b = sample_batch(1);
        sample_add(b, "old", "a=1", 20001, 7);
        sample_add(b, "churn", "id=3", 20001, 8);
        samples_store(f, b);
        q = series_of_name("old");
        series_is(f, &q, "{\"a\":\"1\"} 0=7; latest=0");
        retain(f, TIME_MAX);
        assert_int_equal(fixture_points(f), 0);
        names_are(f, "");
        static const char *const tables[] = { "mname", "mdir", "mgen", "mpack", "mfilter" };
        for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
            assert_int_equal(fixture_rows(f, tables[i]), 0);
        samples_sound(f);
    }
}

/* One point of an absurd time keeps its own part and nothing else. */
static void absurd_time(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    for (int i = 0; i < 3 * SAMPLE_PACK_POINTS; i++)
        sample_add(b, "m", i % 2 ? "a=1" : "a=2", i, 1);
    sample_add(b, "m", "a=3", TIME_MAX - 1, 1);
    for (int i = 0; i < 100; i++)
        sample_add(b, "n", "", i, 1);
    samples_store(f, b);
    fixture_seal(f, false);
    retain(f, 1 + 3 * SAMPLE_PACK_POINTS);
    assert_int_equal(fixture_points(f), 1);
    assert_int_equal(fixture_rows(f, "mpack"), 1);
    names_are(f, "m;");
    samples_sound(f);
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
    retain(f, 501);
    assert_int_equal(fixture_points(f), written);
    samples_sound(f);
}

int main(void) {
    STORE_OR_SKIP();
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(write_and_read), TEST(hostile_labels), TEST(names),
        TEST(no_identity),    TEST(extreme_values), TEST(parts),
        TEST(many_sets),      TEST(huge_labels),    TEST(deadline),
        TEST(without_memory), TEST(same_answers),   TEST(replaced),
        TEST(retention),      TEST(absurd_time),    TEST(retention_between_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
