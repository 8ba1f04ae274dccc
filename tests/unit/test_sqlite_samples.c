/* test_sqlite_samples.c -- points: failures of commits, the program's end inside a seal, damage. */
#include "sqlite_fixture.h"

static int refuse(void *arg) {
    int *left = arg;
    return *left > 0 && --*left == 0;
}

/* A commit that fails leaves nothing in memory, and what is sent again is there once. */
static void failed_commits(void **state) {
    struct fixture *f = *state;
    int left = 0, written = 0, failed = 0;
    for (int i = 0; i < 60; i++) {
        sqlite3_commit_hook(engine_of(&f->store)->writer.db, refuse, &left);
        left = 1 + i % 4;
        struct batch *b = sample_batch(1);
        for (int k = 0; k < 30; k++) {
            char label[40];
            snprintf(label, sizeof label, "id=%d", i * 20 + k);
            sample_add(b, k % 2 ? "m" : "n", label, i, 1);
        }
        while (samples_commit(f, b) != XT_OK) {
            failed++;
            assert_int_equal(fixture_points(f), written);
        }
        batch_free(b);
        written += 30;
        if (i % 20 == 19)
            fixture_reopen(f);
    }
    assert_true(failed >= 15);
    assert_int_equal(fixture_points(f), written);
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("none");
    series_is(f, &q, "{\"none\":null} 0=900; latest=0");
    fixture_seal(f, false);
    series_is(f, &q, "{\"none\":null} 0=900; latest=0");
    samples_sound(f);
}

/* A commit that is said to have failed and is in the file all the same: memory follows the file. */
static void commit_that_landed(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct series_query q = series_of_name("m");
    for (int i = 1; i <= 3; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", i == 2 ? "a=1" : "", i, i);
        struct batch_part part = { .b = b, .sample_to = 1 };
        assert_int_equal(samples_ready(e, &f->err), XT_OK);
        assert_int_equal(conn_begin(&e->writer, true, &f->err), XT_OK);
        assert_int_equal(samples_add(e, &part, &f->err), XT_OK);
        assert_int_equal(samples_log(e, &f->err), XT_OK);
        assert_int_equal(conn_commit(&e->writer, &f->err), XT_OK);
        samples_end(e, i != 2);
        batch_free(b);
    }
    series_is(f, &q, "{\"a\":\"1\"} 0=2; {} 0=4; latest=0");
    fixture_reopen(f);
    series_is(f, &q, "{\"a\":\"1\"} 0=2; {} 0=4; latest=0");
    samples_sound(f);
}

static int interrupt_row(unsigned what, void *db, void *statement, void *unused) {
    (void)what, (void)statement, (void)unused;
    sqlite3_interrupt(db);
    return 0;
}

/* As above, and the second reading breaks off behind the row: it is not there twice after the third. */
static void reading_that_failed(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct series_query q = series_of_name("m");
    for (int i = 1; i <= 2; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", "", i, i);
        struct batch_part part = { .b = b, .sample_to = 1 };
        assert_int_equal(samples_ready(e, &f->err), XT_OK);
        assert_int_equal(conn_begin(&e->writer, true, &f->err), XT_OK);
        assert_int_equal(samples_add(e, &part, &f->err), XT_OK);
        assert_int_equal(samples_log(e, &f->err), XT_OK);
        assert_int_equal(conn_commit(&e->writer, &f->err), XT_OK);
        samples_end(e, i == 1);
        batch_free(b);
    }
    sqlite3_trace_v2(e->writer.db, SQLITE_TRACE_ROW, interrupt_row, e->writer.db);
    assert_int_not_equal(samples_loaded(e, &f->err), XT_OK);
    series_is(f, &q, "{} 0=1; latest=0");
    sqlite3_trace_v2(e->writer.db, 0, NULL, NULL);
    assert_int_equal(samples_loaded(e, &f->err), XT_OK);
    assert_int_equal(samples_hot(e->samples->now)->n.points, 2);
    series_is(f, &q, "{} 0=3; latest=0");
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

/* The end of the program at each step of a seal: the next start has everything once. */
static void ends_in_seals(void **state) {
    struct fixture *f = *state;
    static char before[1 << 20], after[1 << 20];
    bool whole = false;
    seed = 5;
    for (int steps = 0; !whole; steps++) {
        struct sqlite_store *e = engine_of(&f->store);
        for (int i = 0; i < 4; i++)
            random_group(f, steps * 4 + i, false);
        assert_int_equal(samples_seal_finish(e, &f->err), XT_OK);
        answers(f, before, sizeof before);
        int64_t points = fixture_points(f);
        assert_int_equal(samples_seal_start(e, TIME_MIN, steps % 4 == 3, &f->err), XT_OK);
        for (int i = 0; i < steps && e->samples->job; i++)
            assert_int_equal(samples_seal_step(e, NS_PER_SEC, &f->err), XT_OK);
        whole = !e->samples->job;
        answers(f, after, sizeof after);
        assert_string_equal(before, after);
        e->conf.exclusive = false;
        fixture_reopen(f);
        answers(f, after, sizeof after);
        assert_string_equal(before, after);
        assert_int_equal(fixture_points(f), points);
        samples_sound(f);
    }
}

/* A damaged row of the log takes its points along and nothing else; it is kept, and told. */
static void damaged_log(void **state) {
    struct fixture *f = *state;
    for (int i = 1; i <= 4; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", i % 2 ? "a=1" : "a=2", i, i);
        samples_store(f, b);
    }
    struct series_query q = series_of_name("m");
    assert_int_equal(
        conn_exec(&engine_of(&f->store)->writer,
                  "UPDATE mlog SET z = cast(substr(z, 1, length(z) - 1) || x'55' AS BLOB) WHERE (k & 4294967295) = 2",
                  &f->err),
        XT_OK);
    fixture_reopen(f);
    series_is(f, &q, "{\"a\":\"1\"} 0=4; latest=0"); /* a=2 came with the second row */
    struct buf report;
    buf_init(&report, 1 << 20);
    assert_int_equal(f->store.ops->check(&f->store, true, &report, &f->err), XT_ESTORE);
    assert_non_null(strstr(report.p, "1 rows of the log are damaged, 1 points of others are lost"));
    buf_done(&report);
    struct batch *b = sample_batch(1);
    sample_add(b, "m", "a=2", 5, 5);
    samples_store(f, b);
    series_is(f, &q, "{\"a\":\"1\"} 0=4; {\"a\":\"2\"} 0=5; latest=0");
    fixture_seal(f, false);
    fixture_reopen(f);
    series_is(f, &q, "{\"a\":\"1\"} 0=4; {\"a\":\"2\"} 0=5; latest=0");
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM mlog WHERE k < 0"), 1);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM mlog WHERE k > 0"), 0);
}

static void damaged_generation(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    for (int i = 0; i < 50; i++)
        sample_add(b, i % 2 ? "m" : "n", "a=1", i, i);
    samples_store(f, b);
    fixture_seal(f, false);
    struct sqlite_store *e = engine_of(&f->store);
    struct series_query q = series_of_name("m");
    char out[400];
    assert_int_equal(conn_exec(&e->writer,
                               "UPDATE mpack SET pts = cast(x'ff' || substr(pts, 2) AS BLOB) WHERE (k & 65535) = 0",
                               &f->err),
                     XT_OK);
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        q.name = i ? STR_LIT("m") : STR_LIT("n");
        series_read_text(f, &q, out, sizeof out);
        failed += strstr(out, "damaged") != NULL;
    }
    assert_int_equal(failed, 1); /* the other metric is still answered */
}

/* Housekeeping as the writer does it while no group comes. */
static void tidy_until_idle(struct fixture *f) {
    int64_t due, until = clock_mono_ns() + 20 * NS_PER_SEC;
    while ((due = f->store.ops->tidy(&f->store)) != TIDY_NOTHING) {
        assert_true(clock_mono_ns() < until);
        assert_true(due <= clock_mono_ns() + NS_PER_SEC);
        while (clock_mono_ns() < due)
            sched_yield();
    }
}

/* A part that is frozen becomes a generation though nothing comes any more; also after a group that failed. */
static void idle_seals(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    for (int round = 1; round <= 2; round++) {
        struct batch *b = sample_batch(1);
        for (int i = 0; i < 50; i++)
            sample_add(b, "m", "a=1", i, i);
        samples_store(f, b);
        tidy_until_idle(f);
        assert_int_equal(samples_seal_start(e, TIME_MIN, false, &f->err), XT_OK);
        if (round == 2)
            samples_end(e, false);
        tidy_until_idle(f);
        assert_false(samples_frozen(e));
        assert_null(e->samples->job);
        assert_int_equal(fixture_query(f, "SELECT count(*) FROM mgen"), round);
        assert_int_equal(fixture_query(f, "SELECT count(*) FROM mlog"), 0);
    }
    assert_int_equal(fixture_points(f), 100);
    samples_sound(f);
}

/* A seal for retention that failed is begun again as it was: old points fall away, the others stay in the log. */
static void retention_seal_again(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct batch *b = sample_batch(1);
    for (int i = -10; i < 40; i++)
        sample_add(b, "m", "", i, i);
    samples_store(f, b);
    assert_int_equal(samples_seal_start(e, 20, true, &f->err), XT_OK);
    samples_seal_drop(e); /* as after one that failed */
    assert_true(samples_frozen(e));
    tidy_until_idle(f);
    assert_false(samples_frozen(e));
    assert_int_equal(fixture_points(f), 20);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM mgen"), 0);
    /* The next seal has nothing of it. */
    b = sample_batch(1);
    sample_add(b, "m", "", -5, 1);
    samples_store(f, b);
    fixture_seal(f, false);
    assert_int_equal(fixture_points(f), 21);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM mgen"), 1);
    samples_sound(f);
}

/* A row that is found damaged when the log is read again, after a failure, is kept like one found at the start. */
static void damaged_behind_a_failure(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct batch *b = sample_batch(1);
    sample_add(b, "m", "", 1, 1);
    samples_store(f, b);
    tidy_until_idle(f);
    assert_int_equal(conn_exec(&e->writer, "INSERT INTO mlog(k, z) SELECT max(k) + 1, x'00' FROM mlog", &f->err),
                     XT_OK);
    samples_end(e, false);
    fixture_seal(f, false);
    tidy_until_idle(f);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM mlog WHERE k < 0"), 1);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM mlog WHERE k >= 0"), 0);
    assert_int_equal(fixture_points(f), 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(failed_commits), TEST(commit_that_landed),   TEST(reading_that_failed),
        TEST(ends_in_seals),  TEST(damaged_log),          TEST(damaged_generation),
        TEST(idle_seals),     TEST(retention_seal_again), TEST(damaged_behind_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
