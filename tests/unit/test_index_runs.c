/* test_index_runs.c -- seals, merges and what they leave, through the store: whatever the index does between groups, every
 * row is found, nothing is found twice, and totals are those of the rows. Run with the small limits it merges all the
 * time; with the usual ones it seals once or twice. */
#include <time.h>

#include "sqlite_fixture.h"
#include "trace_fixture.h"

#include "store/limits.h"
#include "store/sqlite/index.h"
#include "store/sqlite/lookup.h"

#define SMALL (INDEX_HOT_TRACES < 1000)

static int64_t number(const struct fixture *f, const char *sql) { return fixture_query(f, sql); }

/* No power is cut here: commits need not wait for the disk. */
static void hurry(struct fixture *f) {
    assert_int_equal(conn_exec(&engine_of(&f->store)->writer, "PRAGMA synchronous=OFF", &f->err), XT_OK);
}

static void open_again(struct fixture *f) {
    fixture_reopen(f);
    hurry(f);
}

static int setup(void **state) {
    fixture_setup(state);
    hurry(*state);
    return 0;
}

/* Trace i of a steady stream: 7 users, 3 names, a session for each ten, two tags. */
static void stream_trace(struct batch *b, int i, int observations) {
    char id[24], text[40];
    snprintf(id, sizeof id, "trace-%d", i);
    struct trace *t = add_trace(b, id);
    t->timestamp = i * SEC;
    snprintf(text, sizeof text, "user-%d", i % 7);
    t->user = text_in(b, text);
    snprintf(text, sizeof text, "name-%d", i % 3);
    t->name = text_in(b, text);
    snprintf(text, sizeof text, "session-%d", i / 10);
    t->session = text_in(b, text);
    set_tags(b, t, i % 2 ? "all,odd" : "all,even");
    for (int k = 0; k < observations; k++) {
        snprintf(text, sizeof text, "obs-%d-%d", i, k);
        add_obs(b, id, text)->start = i * SEC + k;
    }
}

static void stream(struct fixture *f, int from, int to, int group, int observations) {
    for (int i = from; i < to;) {
        struct batch *b = batch_at(i * SEC + 1);
        for (int k = 0; k < group && i < to; k++)
            stream_trace(b, i++, observations);
        write_one(f, b);
    }
}

/* Until nothing is due. */
static void tidy_all(struct fixture *f) {
    for (int i = 0; i < 5000; i++)
        index_tidy(engine_of(&f->store));
    f->store.ops->tidy(&f->store);
    assert_int_equal(number(f, "SELECT count(*) FROM ixrun WHERE state <> 1"), 0);
}

/* Total of the list, and as many rows on its pages, newest first without a gap. */
static int64_t listed(struct fixture *f, struct trace_query q) {
    struct buf out;
    int64_t total, rows = 0;
    buf_init(&out, (size_t)64 << 20);
    q.limit = 1000;
    do {
        buf_clear(&out);
        q.offset = rows;
        total = read_list(f, &q, &out);
        for (size_t i = 0; i < out.n; i++)
            rows += out.p[i] == '\n';
    } while (rows < total && out.n > 0);
    buf_done(&out);
    assert_int_equal(rows, total);
    return total;
}

static void assert_lists(struct fixture *f, int n) {
    struct trace_query q = all_traces();
    q.user = STR_LIT("user-3");
    assert_int_equal(listed(f, q), (n + 3) / 7);
    q = all_traces();
    q.name = STR_LIT("name-0");
    assert_int_equal(listed(f, q), (n + 2) / 3);
    q = all_traces();
    q.session = STR_LIT("session-1");
    assert_int_equal(listed(f, q), 10);
    static const struct str tag = { "all", 3 };
    q = all_traces();
    q.tags = &tag;
    q.ntags = 1;
    assert_int_equal(listed(f, q), n);
    q.from = 5 * SEC;
    q.to = 14 * SEC;
    assert_int_equal(listed(f, q), 10);
    q.descending = false;
    assert_int_equal(listed(f, q), 10);
}

#define SOME (SMALL ? 400 : INDEX_HOT_TRACES + 500)

static void seals_and_merges(void **state) {
    struct fixture *f = *state;
    stream(f, 0, SOME, SMALL ? 7 : 500, SMALL ? 2 : 0);
    tidy_all(f);
    assert_true(number(f, "SELECT count(*) FROM ixrun WHERE state = 1") > 0);
    if (INDEX_FAN_IN < 10)
        assert_true(number(f, "SELECT max(level) FROM ixrun") >= 2);
    assert_sound(f);
    assert_lists(f, SOME);
    open_again(f);
    assert_sound(f);
    assert_lists(f, SOME);
    struct buf out;
    buf_init(&out, 1 << 20);
    read_trace(f, 1, "trace-17", &out);
    if (SMALL)
        assert_non_null(strstr(out.p, "obs-17-1"));
    buf_clear(&out);
    read_trace(f, 1, "trace-none", &out);
    assert_string_equal(out.p, "not found\n");
    buf_done(&out);
    stream(f, 0, 50, 5, 3); /* known ones: each gets an observation more, none becomes two */
    assert_int_equal(number(f, "SELECT count(*) FROM trace"), SOME);
    assert_sound(f);
}

/* Values and times that change, in the same hot part and in later runs. */
static void moves(void **state) {
    struct fixture *f = *state;
    int n = SMALL ? 120 : 300;
    stream(f, 0, n, 5, 1);
    for (int round = 0; round < 6; round++) {
        for (int i = round; i < n; i += 5) {
            char id[24];
            struct batch *b = batch_at(n * SEC);
            snprintf(id, sizeof id, "trace-%d", i);
            struct trace *t = add_trace(b, id);
            t->user = STR_LIT("moved");
            t->timestamp = (round % 2 ? i : n + i) * SEC;
            set_tags(b, t, round % 3 ? "all,odd" : "all");
            write_one(f, b);
        }
        assert_sound(f);
        struct trace_query q = all_traces();
        q.user = STR_LIT("moved");
        listed(f, q);
        static const struct str tag = { "all", 3 };
        q = all_traces();
        q.tags = &tag;
        q.ntags = 1;
        assert_int_equal(listed(f, q), n);
    }
    tidy_all(f);
    assert_sound(f);
    open_again(f);
    assert_sound(f);
}

/* Entries that outlive their rows: totals are right, an id that comes again is a new trace, and dead runs go. */
static void outlived(void **state) {
    struct fixture *f = *state;
    int n = SMALL ? 300 : 600;
    bool more = true;
    stream(f, 0, n, 10, 1);
    tidy_all(f);
    while (more)
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, (n / 2) * SEC, &more, &f->err), XT_OK);
    int64_t left = number(f, "SELECT count(*) FROM trace");
    assert_true(left > 0 && left < n);
    assert_sound(f);
    static const struct str tag = { "all", 3 };
    struct trace_query q = all_traces();
    q.tags = &tag;
    q.ntags = 1;
    assert_int_equal(listed(f, q), left);
    q.from = (n / 2 - 40) * SEC;
    q.to = (n / 2 + 40) * SEC;
    assert_true(listed(f, q) <= 81);
    stream(f, 0, 20, 5, 1); /* again */
    assert_int_equal(number(f, "SELECT count(*) FROM trace"), left + 20);
    assert_sound(f);
    tidy_all(f);
    assert_sound(f);
    more = true;
    while (more)
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, TIME_MAX, &more, &f->err), XT_OK);
    tidy_all(f);
    assert_int_equal(number(f, "SELECT count(*) FROM ixrun"), 0);
    assert_int_equal(number(f, "SELECT count(*) FROM ixblk"), 0);
    assert_sound(f);
}

/* A copy of the file after each group, opened as if the writer had been killed there. */
static void copies(void **state) {
    struct fixture *f = *state;
    struct fixture other = { 0 };
    int steps = SMALL ? 90 : 2, group = SMALL ? 3 : 200;
    fixture_make(&other);
    for (int i = 0; i < steps; i++) {
        char command[600];
        stream(f, i * group, (i + 1) * group, group, 1);
        if (SMALL && i % 3 != 0)
            continue;
        snprintf(command, sizeof command, "mkdir -p '%s/data' && cp '%s/data/xtrace.db'* '%s/data/'", other.dir, f->dir,
                 other.dir);
        assert_int_equal(system(command), 0);
        fixture_open(&other);
        hurry(&other);
        assert_int_equal(number(&other, "SELECT count(*) FROM trace"), (i + 1) * group);
        assert_sound(&other);
        stream(&other, (i + 1) * group, (i + 2) * group, group, 1);
        tidy_all(&other);
        assert_sound(&other);
        store_close(&other.store);
        snprintf(command, sizeof command, "rm -rf '%s/data'", other.dir);
        assert_int_equal(system(command), 0);
    }
    fixture_remove(&other);
}

static void rebuild(struct fixture *f) {
    struct sqlite_store *e = engine_of(&f->store);
    assert_int_equal(conn_begin(&e->writer, true, &f->err), XT_OK);
    assert_int_equal(lookup_rebuild(e, &f->err), XT_OK);
    assert_int_equal(conn_commit(&e->writer, &f->err), XT_OK);
    index_abort(e);
}

static void rebuilt(void **state) {
    struct fixture *f = *state;
    int n = SMALL ? 200 : 300;
    stream(f, 0, n, 10, 2);
    tidy_all(f);
    rebuild(f);
    assert_sound(f);
    stream(f, n, n + 20, 10, 2);
    tidy_all(f);
    assert_sound(f);
    assert_lists(f, n + 20);
    open_again(f);
    /* Damage of each table is found, refuses no start of a check, and is repaired. */
    static const char *const harm[] = {
        "DELETE FROM ixblk WHERE k = (SELECT min(k) FROM ixblk) RETURNING 1",
        "UPDATE ixblk SET z = substr(z, 1, 10) WHERE k = (SELECT max(k) FROM ixblk) RETURNING 1",
        "UPDATE ixblk SET z = zeroblob(length(z)) WHERE k IN (SELECT min(k) FROM ixblk) RETURNING 1",
        "DELETE FROM ixrun WHERE run = (SELECT max(run) FROM ixrun) RETURNING 1",
        "UPDATE ixrun SET n_obs = n_obs + 1000000 RETURNING 1",
    };
    for (size_t i = 0; i < sizeof harm / sizeof *harm; i++) {
        struct buf report;
        stream(f, n + 20, n + 21, 1, 2);
        tidy_all(f);
        store_close(&f->store);
        assert_int_equal(number(f, harm[i]), 1);
        fixture_open(f);
        hurry(f);
        buf_init(&report, 1 << 20);
        assert_int_equal(f->store.ops->check(&f->store, true, &report, &f->err), XT_ESTORE);
        buf_done(&report);
        rebuild(f);
        assert_sound(f);
    }
}

/* ---- snapshots ---- */

struct snapshot {
    struct conn *c;
    int traces; /* of the stream it has */
};

static bool count_trace(void *arg, int64_t tseq) {
    ++*(int *)arg;
    return tseq > 0;
}

/* Everything of the snapshot is found, once; nothing that came later is. */
static void assert_snapshot(struct fixture *f, const struct snapshot *s) {
    const struct sqlite_store *e = engine_of(&f->store);
    struct look_walk w;
    int64_t ts, tseq, before = INT64_MAX, n = 0;
    bool exact;
    for (int i = 0; i < s->traces + 5; i += 1 + s->traces / 40) {
        char text[40];
        struct batch *b = batch_at(0);
        int hits = 0;
        snprintf(text, sizeof text, "trace-%d", i);
        assert_int_equal(lookup_trace(s->c, 1, id_of(b, text).key, &tseq, &f->err), XT_OK);
        assert_true((tseq != 0) == (i < s->traces));
        snprintf(text, sizeof text, "obs-%d-0", i);
        assert_int_equal(lookup_observation(s->c, 1, id_of(b, text).key, count_trace, &hits, &f->err), XT_OK);
        assert_int_equal(hits, i < s->traces);
        batch_free(b);
    }
    int64_t h = lookup_hash(e, LOOK_TAG, 1, STR_LIT("all"));
    assert_int_equal(lookup_count(s->c, h, TIME_MIN, TIME_MAX, &n, &exact, &f->err), XT_OK);
    assert_int_equal(n, s->traces);
    assert_true(exact);
    assert_int_equal(look_walk_open(&w, s->c, h, TIME_MIN, TIME_MAX, true, &f->err), XT_OK);
    for (n = 0; look_walk_next(&w, &ts, &tseq, &f->err) == XT_OK && tseq != 0; n++) {
        assert_true(ts < before);
        before = ts;
    }
    look_walk_close(&w);
    assert_int_equal(n, s->traces);
}

/* A snapshot taken at any moment of seals, merges and deletions, asked at once, later, or both. */
static void snapshots(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct conn own[2] = { 0 }; /* the pool's are needed by the writer's side */
    int steps = SMALL ? 60 : 12, n = 0;
    for (int i = 0; i < steps; i++) {
        struct snapshot s[2] = { { &own[0], n }, { &own[1], n } };
        for (int k = 0; k < 2; k++) {
            assert_int_equal(conn_open(&own[k], e, CONN_READER, &f->err), XT_OK);
            assert_int_equal(conn_begin(&own[k], false, &f->err), XT_OK);
            assert_int_equal(conn_run(&own[k], conn_stmt(&own[k], SQL_STATE_GET, &f->err), "x", &f->err), XT_OK);
        }
        assert_snapshot(f, &s[0]);
        int more = SMALL ? i % 20 : 1 + i % 3;
        stream(f, n, n + more, 4, 1);
        n += more;
        for (int k = 0; k < i % 40; k++)
            index_tidy(e); /* the index alone: checkpoints would wait for our snapshots */
        assert_snapshot(f, &s[0]);
        assert_snapshot(f, &s[1]);
        conn_close(&own[0]);
        conn_close(&own[1]);
    }
    assert_sound(f);
}

/* ---- failures ---- */

static void run_sql(const struct fixture *f, const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Work between groups that fails, at each of its statements: writes go on, everything is found, and it is done later. */
static void failing_work(void **state) {
    struct fixture *f = *state;
    struct index *ix = engine_of(&f->store)->index;
    static const char *const events[] = { "INSERT ON ixblk", "INSERT ON ixrun",          "DELETE ON ixlog",
                                          "DELETE ON ixblk", "UPDATE OF state ON ixrun", "DELETE ON ixrun" };
    int n = 0, more = SMALL ? 90 : 10;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "CREATE TRIGGER trouble BEFORE %s BEGIN SELECT RAISE(ABORT, 'no'); END", events[i]);
        run_sql(f, sql);
        for (int k = 0; k < 3; k++) {
            stream(f, n, n + more, 3, 1);
            n += more;
            ix->retry_at = 0;
            f->store.ops->tidy(&f->store);
            ix->retry_at = 0;
        }
        assert_sound(f);
        run_sql(f, "DROP TRIGGER trouble");
        stream(f, n, n + more, 3, 1);
        n += more;
        ix->retry_at = 0;
        tidy_all(f);
        assert_sound(f);
        assert_lists(f, n);
        if (SMALL)
            assert_true(number(f, "SELECT count(*) FROM ixlog") < 40);
    }
}

static enum xt_code try_write(struct fixture *f, int i) {
    struct batch *b = batch_at(i * SEC + 1);
    for (int k = 0; k < 20; k++)
        stream_trace(b, i * 20 + k, 3);
    assert_int_equal(f->store.ops->prepare(&f->store, b, &f->err), XT_OK);
    const struct batch_part part = whole(b);
    enum xt_code code = f->store.ops->write(&f->store, &part, 1, &f->err);
    engine_of(&f->store)->index->retry_at = 0;
    f->store.ops->tidy(&f->store);
    batch_free(b);
    return code;
}

/* Memory is full of entries that no seal could write out: writes wait, and go on when a seal works again. */
static void full_memory(void **state) {
    struct fixture *f = *state;
    int i = 0;
    if (!SMALL)
        skip();
    run_sql(f, "CREATE TRIGGER trouble BEFORE INSERT ON ixblk BEGIN SELECT RAISE(ABORT, 'no'); END");
    while (i < 200 && try_write(f, i) == XT_OK)
        i++;
    assert_in_range(i, 2, 199);
    assert_int_equal(try_write(f, i), XT_EUNAVAILABLE);
    run_sql(f, "DROP TRIGGER trouble");
    for (int k = 0; k < 5 && try_write(f, i) != XT_OK; k++) {}
    assert_int_equal(try_write(f, i + 1), XT_OK);
    tidy_all(f);
    assert_sound(f);
}

/* A merge or seal that never comes to its end does not fill the file with what it leaves. */
static void left_over(void **state) {
    static const char *const events[] = { "UPDATE OF state ON ixrun WHEN old.state = 1",
                                          "INSERT ON ixblk WHEN (new.k >> 28 & 15) = 8" };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "CREATE TRIGGER trouble BEFORE %s BEGIN SELECT RAISE(ABORT, 'no'); END", events[i]);
        run_sql(f, sql);
        stream(f, (int)i * 400, (int)i * 400 + 300, 10, 1);
        for (int k = 0; k < 200; k++) {
            stream(f, (int)i * 400, (int)i * 400 + 1, 1, 0);
            for (int n = 0; n < 20; n++) {
                engine_of(&f->store)->index->retry_at = 0;
                index_tidy(engine_of(&f->store));
            }
        }
        int64_t live = number(f, "SELECT count(*) FROM ixblk WHERE k >> 32 IN (SELECT run FROM ixrun WHERE state = 1)");
        assert_in_range(number(f, "SELECT count(*) FROM ixblk"), live, 2 * live + 100);
        run_sql(f, "DROP TRIGGER trouble");
        engine_of(&f->store)->index->retry_at = 0;
        stream(f, (int)i * 400 + 300, (int)i * 400 + 301, 10, 1);
        tidy_all(f);
        assert_sound(f);
    }
}

/* A number of hash bits that the entries do not have: found, nothing is read where it is not. */
static void other_bits(void **state) {
    struct fixture *f = *state;
    struct buf report;
    stream(f, 0, SMALL ? 100 : INDEX_HOT_TRACES + 10, SMALL ? 10 : 1000, 0);
    tidy_all(f);
    store_close(&f->store);
    assert_int_equal(number(f, "UPDATE state SET v = 2 WHERE k = 'ix_bits' RETURNING 2"), 2);
    fixture_open(f);
    buf_init(&report, 1 << 20);
    assert_int_equal(f->store.ops->check(&f->store, true, &report, &f->err), XT_ESTORE);
    buf_done(&report);
}

static bool count_observation(void *arg, const struct observation_row *row) {
    ++*(int *)arg;
    return row != NULL;
}

/* Observations of one trace whose hashes collide are still shown once each. */
static void colliding_observations(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(SEC);
    int n = 150;
    stream_trace(b, 0, n);
    write_one(f, b);
    tidy_all(f);
    for (int i = 0; i < n; i++) {
        char text[40];
        int shown = 0;
        b = batch_at(0);
        snprintf(text, sizeof text, "obs-0-%d", i);
        const struct observation_ref ref = { .project = 1, .key = id_of(b, text).key, .deadline = TIME_NONE };
        assert_int_equal(f->store.ops->observation_get(&f->store, &ref, count_observation, &shown, &f->err), XT_OK);
        assert_int_equal(shown, 1);
        batch_free(b);
    }
}

/* CPU time of a deep check of n traces of one user and one time, each with an observation of the same id. */
static double check_of_likes(int n) {
    struct fixture f;
    struct buf report;
    struct timespec a, b;
    fixture_make(&f);
    fixture_open(&f);
    for (int i = 0; i < n;) {
        struct batch *batch = batch_at(SEC);
        for (int k = 0; k < 500 && i < n; k++, i++) {
            char id[24];
            snprintf(id, sizeof id, "trace-%d", i);
            struct trace *t = add_trace(batch, id);
            t->timestamp = SEC;
            t->user = STR_LIT("u");
            add_obs(batch, id, "same")->start = SEC;
        }
        write_one(&f, batch);
    }
    tidy_all(&f);
    buf_init(&report, 1 << 20);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    if (f.store.ops->check(&f.store, true, &report, &f.err) != XT_OK)
        fail_msg("%.*s", STR_FMT(buf_str(&report)));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    buf_done(&report);
    fixture_remove(&f);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
}

/* However many traces share an observation's id, a value and a time, the check reads about as much for each. */
static void check_is_linear(void **state) {
    (void)state;
    if (SMALL)
        skip(); /* hashes of nine bits collide as well */
    double few = check_of_likes(1500), many = check_of_likes(12000);
    if (many > 3 * 8 * few + 0.2)
        fail_msg("1500 traces took %.3f s, 12000 took %.3f s", few, many);
    print_message("1500 traces: %.3f s, 12000: %.3f s\n", few, many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(seals_and_merges, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(moves, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(outlived, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(copies, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(snapshots, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(failing_work, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(full_memory, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(left_over, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(other_bits, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(colliding_observations, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(rebuilt, setup, fixture_teardown),
        cmocka_unit_test(check_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
