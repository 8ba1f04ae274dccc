/* test_postgres_samples.c -- points of several servers on one database: what one acknowledged is there once through each of
 * them at the next question, also while generations are made, when a server's stream goes to another one, in retention. */
#include <pthread.h>

#include "store_fixture.h"

#include "store/postgres/samples.h"

#define WAIT_NS (30 * NS_PER_SEC)
#define GROUPS 120
#define PER_GROUP 40

struct server {
    struct fixture f; /* its store and err; the rest is unused */
    _Atomic int64_t begun, acked;
    _Atomic bool done, wrong;
    struct servers *all;
};
struct servers {
    struct pg_database db;
    struct server s[2];
};

static void server_start(struct server *s, const char *url) {
    const struct store_conf conf = { .url = url, .readers = 2 };
    s->f.store.ops = &store_postgres_ops;
    enum xt_code code = s->f.store.ops->open(&s->f.store, &conf, &s->f.err);
    if (code == XT_OK)
        code = s->f.store.ops->migrate(&s->f.store, &s->f.err);
    if (code != XT_OK)
        fail_msg("start: %s", s->f.err.msg);
}
static void server_stop(struct server *s) { s->f.store.ops->close(&s->f.store); }
static struct pg_samples *samples_of(struct server *s) { return pg_of(&s->f.store)->samples; }

static int servers_make(void **state) {
    struct servers *w = calloc(1, sizeof *w);
    assert_non_null(w);
    pg_database_make(&w->db);
    for (int i = 0; i < 2; i++) {
        w->s[i].all = w;
        server_start(&w->s[i], w->db.url);
    }
    *state = w;
    return 0;
}
static int servers_end(void **state) {
    struct servers *w = *state;
    for (int i = 0; i < 2; i++)
        server_stop(&w->s[i]);
    pg_database_drop(&w->db);
    free(w);
    return 0;
}

/* The points that the server answers with, all within one minute; -1: it failed. */
static int64_t count_points(struct server *s) {
    struct series_query q = series_of_name("m");
    struct xt_err err;
    const struct series_result *r = NULL;
    size_t n = 0;
    int64_t latest, sum = 0;
    bool cut;
    q.grouped = true;
    q.group_by = STR_LIT("none");
    q.deadline = clock_mono_ns() + WAIT_NS;
    struct series_sink *sink = series_sink_new(&q, (size_t)64 << 20);
    if (!sink || s->f.store.ops->series(&s->f.store, &q, sink, &err) != XT_OK ||
        series_sink_finish(sink, &r, &n, &latest, &cut, &err) != XT_OK) {
        printf("# query: %s\n", err.msg);
        sum = -1;
    }
    for (size_t i = 0; sum >= 0 && i < n; i++)
        for (size_t v = 0; v < r[i].nvalues; v++)
            sum += (int64_t)r[i].values[v].value;
    series_sink_free(sink);
    return sum;
}

/* A group of n points of value 1. */
static enum xt_code put_points(struct server *s, int n, int64_t ts, int round) {
    struct batch *b = sample_batch(1);
    for (int i = 0; i < n; i++) {
        char label[40];
        snprintf(label, sizeof label, "id=%d,of=%d", round * n + i, (int)(s - s->all->s));
        sample_add(b, "m", i % 2 ? label : "", ts, 1);
    }
    enum xt_code code = samples_commit(&s->f, b);
    batch_free(b);
    return code;
}
static void put_sure(struct server *s, int n, int64_t ts, int round) {
    if (put_points(s, n, ts, round) != XT_OK)
        fail_msg("write: %s", s->f.err.msg);
}
static void both_have(struct servers *w, int64_t want) {
    assert_int_equal(count_points(&w->s[0]), want);
    assert_int_equal(count_points(&w->s[1]), want);
}

/* ---- at the same time ---- */

static void *keep_writing(void *arg) {
    struct server *s = arg;
    for (int i = 0; i < GROUPS; i++) {
        atomic_fetch_add(&s->begun, PER_GROUP);
        if (put_points(s, PER_GROUP, i % 50 * NS_PER_SEC, i) == XT_OK) {
            atomic_fetch_add(&s->acked, PER_GROUP);
        } else {
            printf("# write: %s\n", s->f.err.msg);
            atomic_store(&s->wrong, true);
        }
    }
    atomic_store(&s->done, true);
    return NULL;
}
/* At least what was acknowledged before the question, at most what was begun before the answer. */
static void *keep_reading(void *arg) {
    struct server *s = arg;
    struct server *all = s->all->s;
    while (!atomic_load(&s->wrong) && !(atomic_load(&all[0].done) && atomic_load(&all[1].done))) {
        int64_t least = atomic_load(&all[0].acked) + atomic_load(&all[1].acked);
        int64_t n = count_points(s);
        int64_t most = atomic_load(&all[0].begun) + atomic_load(&all[1].begun);
        if (n < least || n > most) {
            printf("# %lld points, not %lld to %lld\n", (long long)n, (long long)least, (long long)most);
            atomic_store(&s->wrong, true);
        }
    }
    return NULL;
}

static void written_and_read_at_once(void **state) {
    struct servers *w = *state;
    pthread_t write[2], read[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&read[i], NULL, keep_reading, &w->s[i]), 0);
        assert_int_equal(pthread_create(&write[i], NULL, keep_writing, &w->s[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(write[i], NULL);
        pthread_join(read[i], NULL);
        assert_false(w->s[i].wrong);
    }
    both_have(w, (int64_t)2 * GROUPS * PER_GROUP);
    printf("# %lld generations, %lld rows of logs\n",
           (long long)pg_number(w->db.conn, "SELECT count(*) FROM xtrace.mgen"),
           (long long)pg_number(w->db.conn, "SELECT count(*) FROM xtrace.mlog"));
}

/* ---- streams ---- */

/* Until the statement answers 0, with housekeeping on both servers. */
static void wait_for_none(struct servers *w, const char *sql) {
    const int64_t until = clock_mono_ns() + WAIT_NS;
    while (pg_number(w->db.conn, sql) != 0) {
        if (clock_mono_ns() > until) {
            printf("# gens %lld, streams %lld, sealed %lld, parts %lld, part at hand %lld\n",
                   (long long)pg_number(w->db.conn, "SELECT count(*) FROM xtrace.mgen"),
                   (long long)pg_number(w->db.conn, "SELECT count(*) FROM xtrace.mstream"),
                   (long long)pg_number(w->db.conn, "SELECT sealed FROM xtrace.mstream"),
                   (long long)pg_number(w->db.conn, "SELECT count(distinct k >> 32) FROM xtrace.mlog"),
                   (long long)samples_of(&w->s[0])->part);
            fail_msg("still not: %s", sql);
        }
        for (int i = 0; i < 2; i++)
            w->s[i].f.store.ops->tidy(&w->s[i].f.store);
        usleep(20000);
    }
}

/* A server that was asleep past its time: another one takes its stream, and it goes on with a new one. */
static void stream_taken_over(void **state) {
    struct servers *w = *state;
    char sql[200];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) {
            put_sure(&w->s[0], 20, NS_PER_SEC, round * 10 + i);
            put_sure(&w->s[1], 20, NS_PER_SEC, round * 10 + i);
        }
        both_have(w, round * 201 + 200);
        int64_t stream = samples_of(&w->s[1])->stream;
        snprintf(sql, sizeof sql,
                 "UPDATE xtrace.mstream SET holder = '\\x00', until = now() - interval '1 hour' WHERE stream = %lld",
                 (long long)stream);
        pg_run(w->db.conn, sql);
        both_have(w, round * 201 + 200);
        put_sure(&w->s[1], 1, NS_PER_SEC, 1000 + round); /* finds it out inside its transaction */
        assert_int_not_equal(samples_of(&w->s[1])->stream, stream);
        both_have(w, round * 201 + 201);
        snprintf(sql, sizeof sql,
                 "SELECT (SELECT count(*) FROM xtrace.mstream WHERE stream = %lld) + (SELECT count(*) FROM xtrace.mlog"
                 " WHERE stream = %lld)",
                 (long long)stream, (long long)stream);
        wait_for_none(w, sql);
        both_have(w, round * 201 + 201);
    }
}

/* A server that stops leaves its log; a new one has the points at once, and seals them. */
static void restarts(void **state) {
    struct servers *w = *state;
    for (int i = 1; i <= 6; i++) {
        put_sure(&w->s[i % 2], 30, NS_PER_SEC, i);
        server_stop(&w->s[i % 2]);
        server_start(&w->s[i % 2], w->db.url);
        both_have(w, 30 * i);
    }
    wait_for_none(w, "SELECT count(*) FROM xtrace.mstream WHERE until < now()");
    both_have(w, 180);
}

/* ---- retention ---- */

static void retain_all(struct servers *w, struct server *s, int64_t cutoff) {
    const int64_t until = clock_mono_ns() + WAIT_NS;
    bool more = true;
    (void)w;
    while (more) {
        if (s->f.store.ops->retain(&s->f.store, RETAIN_SAMPLES, cutoff, &more, &s->f.err) != XT_OK)
            fail_msg("retention: %s", s->f.err.msg);
        assert_true(clock_mono_ns() < until);
    }
}

static void old_points_go(void **state) {
    struct servers *w = *state;
    for (int i = 0; i < 2; i++) {
        put_sure(&w->s[i], 30, 10 * NS_PER_SEC, 1);
        put_sure(&w->s[i], 7, 40 * NS_PER_SEC, 2);
    }
    both_have(w, 74);
    retain_all(w, &w->s[0], 30 * NS_PER_SEC);
    /* Its own at once, the other server's when that has heard of it. */
    const int64_t until = clock_mono_ns() + WAIT_NS;
    while (count_points(&w->s[0]) != 14) {
        assert_true(clock_mono_ns() < until);
        w->s[1].f.store.ops->tidy(&w->s[1].f.store);
        retain_all(w, &w->s[0], 30 * NS_PER_SEC);
        usleep(20000);
    }
    both_have(w, 14);
    /* What comes later is for a later round, also when its part is sealed; there may be none. */
    for (int i = 0; i < 2; i++) {
        put_sure(&w->s[i], 5, 20 * NS_PER_SEC, 3);
        pg_samples_cut_part(pg_of(&w->s[i].f.store));
    }
    wait_for_none(w, "SELECT count(*) FROM xtrace.mlog WHERE k % (1::bigint << 32) > 0 AND (k >> 32) % 2 = 0");
    both_have(w, 24);
    server_stop(&w->s[1]);
    server_start(&w->s[1], w->db.url);
    put_sure(&w->s[1], 5, 20 * NS_PER_SEC, 4);
    wait_for_none(w, "SELECT count(*) FROM xtrace.mstream WHERE until < now()");
    both_have(w, 29);
}

/* ---- rows that are lost ---- */

/* A failover to a standby that lacked the last transactions: what is acknowledged afterwards refers to nothing that was lost,
 * and is there for whoever comes. */
static void database_went_back(void **state) {
    struct servers *w = *state;
    put_sure(&w->s[0], 10, NS_PER_SEC, 0);
    put_sure(&w->s[0], 10, NS_PER_SEC, 1);
    both_have(w, 20);
    pg_run(w->db.conn, "DELETE FROM xtrace.mlog WHERE k = (SELECT max(k) FROM xtrace.mlog)");
    put_sure(&w->s[0], 10, NS_PER_SEC, 1);
    for (int i = 0; i < 2; i++) {
        server_stop(&w->s[i]);
        server_start(&w->s[i], w->db.url);
    }
    both_have(w, 20);
}

/* The same with a generation that is gone again: readers and the seal go on. */
static void seal_went_back(void **state) {
    struct servers *w = *state;
    put_sure(&w->s[0], 10, NS_PER_SEC, 0);
    pg_samples_cut_part(pg_of(&w->s[0].f.store));
    wait_for_none(w, "SELECT 0 WHERE (SELECT count(*) FROM xtrace.mgen) >= 1");
    both_have(w, 10);
    pg_run(w->db.conn, "UPDATE xtrace.mstream SET sealed = 0");
    both_have(w, 10);
    put_sure(&w->s[0], 10, NS_PER_SEC, 1);
    both_have(w, 20);
    pg_samples_cut_part(pg_of(&w->s[0].f.store));
    wait_for_none(w, "SELECT 0 WHERE (SELECT count(*) FROM xtrace.mgen) >= 2");
    both_have(w, 20);
}

/* A row that can't be read: others are, and it stays to be looked at. */
static void damaged_row(void **state) {
    struct servers *w = *state;
    struct buf report;
    for (int i = 0; i < 3; i++)
        put_sure(&w->s[0], 10, NS_PER_SEC, i);
    server_stop(&w->s[0]);
    pg_run(w->db.conn,
           "UPDATE xtrace.mlog SET z = overlay(z PLACING decode('ff', 'hex') FROM 8) WHERE k = (SELECT max(k)"
           " FROM xtrace.mlog)");
    server_start(&w->s[0], w->db.url);
    both_have(w, 20);
    wait_for_none(w, "SELECT count(*) FROM xtrace.mlog WHERE k > 0");
    both_have(w, 20);
    assert_int_equal(pg_number(w->db.conn, "SELECT count(*) FROM xtrace.mlog WHERE k < 0"), 1);
    buf_init(&report, SIZE_MAX / 2);
    assert_int_not_equal(w->s[0].f.store.ops->check(&w->s[0].f.store, true, &report, &w->s[0].f.err), XT_OK);
    buf_add_char(&report, '\0');
    assert_non_null(strstr(report.p, "rows of the log of samples"));
    buf_done(&report);
}

/* ---- a seal that is behind ---- */

/* The part at hand is ended in vain while others wait to be sealed: what it gets afterwards is not lost. */
static void ended_in_vain(void **state) {
    struct servers *w = *state;
    struct server *s = &w->s[0];
    int64_t n = 0;
    put_sure(s, 10, NS_PER_SEC, 0);
    n += 10;
    PGconn *hold = pg_connect(w->db.url);
    pg_run(hold, "BEGIN; LOCK TABLE xtrace.mpack IN SHARE MODE");
    for (int i = 1; i < 8; i++) {
        pg_samples_cut_part(pg_of(&s->f.store));
        put_sure(s, 10, NS_PER_SEC, i);
        n += 10;
    }
    both_have(w, n);
    pg_run(hold, "ROLLBACK");
    PQfinish(hold);
    wait_for_none(w, "SELECT 0 WHERE (SELECT count(*) FROM xtrace.mgen) >= 2");
    for (int i = 8; i < 12; i++) {
        put_sure(s, 10, NS_PER_SEC, i);
        n += 10;
        both_have(w, n);
    }
    pg_samples_cut_part(pg_of(&s->f.store));
    both_have(w, n);
}

/* ---- damage ---- */

static enum xt_code ask(struct server *s, struct xt_err *err) {
    struct series_query q = series_of_name("m");
    q.deadline = clock_mono_ns() + WAIT_NS;
    struct series_sink *sink = series_sink_new(&q, (size_t)64 << 20);
    assert_non_null(sink);
    enum xt_code code = s->f.store.ops->series(&s->f.store, &q, sink, err);
    series_sink_free(sink);
    return code;
}

/* A row of a directory that cannot be is an error: no answer without its points, no walk over millions of parts. */
static void damaged_directory(void **state) {
    struct servers *w = *state;
    struct server *s = &w->s[0];
    struct xt_err err;
    put_sure(s, 10, NS_PER_SEC, 0);
    pg_samples_cut_part(pg_of(&s->f.store));
    wait_for_none(w, "SELECT count(*) FROM xtrace.mlog WHERE k % (1::bigint << 32) > 0 AND (k >> 32) % 2 = 0");
    assert_int_equal(pg_number(w->db.conn, "SELECT count(*) FROM xtrace.mdir"), 1);
    assert_int_equal(ask(s, &err), XT_OK);
    static const char *const damages[] = { "first = -1, parts = 1", "first = 0, parts = 0",
                                           "first = 1000, parts = 2147483647", "first = 0, parts = 16777217",
                                           "first = 2147483647, parts = 1" };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        char sql[120];
        snprintf(sql, sizeof sql, "UPDATE xtrace.mdir SET %s", damages[i]);
        pg_run(w->db.conn, sql);
        enum xt_code code = ask(s, &err);
        if (code != XT_ESTORE)
            fail_msg("%s: code %d", damages[i], (int)code);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(written_and_read_at_once, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(stream_taken_over, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(restarts, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(old_points_go, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(database_went_back, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(seal_went_back, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(damaged_row, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(ended_in_vain, servers_make, servers_end),
        cmocka_unit_test_setup_teardown(damaged_directory, servers_make, servers_end),
    };
    PG_OR_SKIP();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
