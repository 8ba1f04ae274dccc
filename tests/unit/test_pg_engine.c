/* test_pg_engine.c -- the PostgreSQL engine around its data: schema, versions, roles, leases, the pool of readers. What it
 * shares with other engines is tested by test_store_*. */
#include "pg_fixture.h"

#include <pthread.h>

#include "base/id.h"
#include "store/postgres/engine.h"

struct fixture {
    struct pg_database d;
    struct store s;
    struct xt_err err;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    pg_database_make(&f->d);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    store_close(&f->s);
    pg_database_drop(&f->d);
    free(f);
    return 0;
}

static enum xt_code open_as(struct store *s, const char *url, bool look, struct xt_err *err) {
    struct store_conf conf = { .url = url, .readers = 2, .read_only = look, .exclusive = !look };
    *s = (struct store){ .ops = &store_postgres_ops };
    enum xt_code code = s->ops->open(s, &conf, err);
    return code == XT_OK ? s->ops->migrate(s, err) : code;
}

static void must_open(struct fixture *f) {
    if (open_as(&f->s, f->d.url, false, &f->err) != XT_OK)
        fail_msg("open: %s", f->err.msg);
}

/* ---- schema ---- */

struct starter {
    const char *url;
    pthread_barrier_t *start;
    enum xt_code code;
    struct xt_err err;
};
static void *starter_main(void *arg) {
    struct starter *w = arg;
    struct store s;
    pthread_barrier_wait(w->start);
    w->code = open_as(&s, w->url, false, &w->err);
    store_close(&s);
    return NULL;
}

static void test_started_together(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 4; round++) {
        enum { N = 6 };
        pthread_barrier_t start;
        pthread_t threads[N];
        struct starter w[N];
        pthread_barrier_init(&start, NULL, N);
        for (int i = 0; i < N; i++) {
            w[i] = (struct starter){ .url = f->d.url, .start = &start };
            assert_int_equal(pthread_create(&threads[i], NULL, starter_main, &w[i]), 0);
        }
        for (int i = 0; i < N; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < N; i++)
            if (w[i].code != XT_OK)
                fail_msg("%d: %s", i, w[i].err.msg);
        pthread_barrier_destroy(&start);
        assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM xtrace.migration"), 1);
        assert_int_equal(
            pg_number(f->d.conn, "SELECT count(*) FROM pg_class WHERE relname = 'trace' AND relkind = 'r'"), 1);
        pg_run(f->d.conn, "DROP SCHEMA xtrace CASCADE");
    }
}

static void test_versions(void **state) {
    struct fixture *f = *state;
    /* Looking makes nothing. */
    assert_int_equal(open_as(&f->s, f->d.url, true, &f->err), XT_ECONFLICT);
    assert_non_null(strstr(f->err.msg, "xtrace migrate"));
    store_close(&f->s);
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'xtrace'"), 0);
    must_open(f);
    store_close(&f->s);
    assert_int_equal(open_as(&f->s, f->d.url, true, &f->err), XT_OK);
    store_close(&f->s);
    pg_run(f->d.conn, "INSERT INTO xtrace.migration(version, name) VALUES(1000, 'later')");
    assert_int_equal(open_as(&f->s, f->d.url, false, &f->err), XT_ECONFLICT);
    assert_non_null(strstr(f->err.msg, "newer"));
    store_close(&f->s);
    /* A schema of somebody else's with our name is not touched. */
    pg_run(f->d.conn, "DROP SCHEMA xtrace CASCADE; CREATE SCHEMA xtrace; CREATE TABLE xtrace.trace(a int)");
    assert_int_equal(open_as(&f->s, f->d.url, false, &f->err), XT_ESTORE); /* no matter of waiting */
    store_close(&f->s);
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM pg_class WHERE relnamespace = 'xtrace'::regnamespace"),
                     1);
}

static void test_encoding(void **state) {
    struct fixture *f = *state;
    char url[220], sql[200];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s_l ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", f->d.name);
    pg_run(f->d.conn, sql);
    snprintf(url, sizeof url, "%s_l", f->d.url);
    assert_int_equal(open_as(&f->s, url, false, &f->err), XT_EINVAL);
    assert_non_null(strstr(f->err.msg, "UTF8"));
    store_close(&f->s);
    snprintf(sql, sizeof sql, "DROP DATABASE %s_l WITH (FORCE)", f->d.name);
    pg_run(f->d.conn, sql);
}

/* Not there: migrate says so, and says nothing of the password. */
static void test_away(void **state) {
    struct fixture *f = *state;
    static const char *const urls[] = { "postgresql://u:s3cret@127.0.0.1:1/x",
                                        "postgresql://u:s3cret@/x?host=/nowhere" };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(open_as(&f->s, urls[i], false, &f->err), XT_EUNAVAILABLE);
        assert_null(strstr(f->err.msg, "s3cret"));
        uint64_t v;
        assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_EUNAVAILABLE);
        assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_EUNAVAILABLE);
        assert_int_equal(f->s.ops->keys_version(&f->s, &v, &f->err), XT_EUNAVAILABLE);
        assert_null(strstr(f->err.msg, "127.0.0.1"));
        store_close(&f->s);
    }
}

/* ---- roles ---- */

/* The URL of another role of the same database; trust is how tests log in. */
static void url_of(const struct fixture *f, const char *role, char *out, size_t size) {
    PQconninfoOption *o = PQconninfo(f->d.conn);
    const char *host = "", *port = "";
    for (PQconninfoOption *p = o; p->keyword; p++) {
        if (strcmp(p->keyword, "host") == 0)
            host = p->val;
        if (strcmp(p->keyword, "port") == 0)
            port = p->val;
    }
    snprintf(out, size, "postgresql:///%s?host=%s&port=%s&user=%s", f->d.name, host, port, role);
    PQconninfoFree(o);
}

/* The statements of docs/operations.md, for that role. */
static void grant(struct fixture *f, const char *role) {
    char path[300], line[200], sql[300];
    bool inside = false;
    int done = 0;
    snprintf(path, sizeof path, "%s", __FILE__);
    char *at = strstr(path, "tests/unit/test_pg_engine.c");
    assert_non_null(at);
    snprintf(at, sizeof path - (size_t)(at - path), "docs/operations.md");
    FILE *doc = fopen(path, "r");
    assert_non_null(doc);
    while (fgets(line, sizeof line, doc)) {
        char *name = strstr(line, "xtrace_run;");
        if (strncmp(line, "```", 3) == 0)
            inside = strcmp(line, "```sql\n") == 0;
        if (!inside || !name)
            continue;
        snprintf(sql, sizeof sql, "%.*s%s", (int)(name - line), line, role);
        pg_run(f->d.conn, sql);
        done++;
    }
    fclose(doc);
    assert_int_equal(done, 7);
}

static void test_roles(void **state) {
    struct fixture *f = *state;
    char role[80], url[300], sql[600];
    snprintf(role, sizeof role, "%s_r", f->d.name);
    snprintf(sql, sizeof sql, "CREATE ROLE %s LOGIN", role);
    pg_run(f->d.conn, sql);
    url_of(f, role, url, sizeof url);
    /* No schema, and no right to make one. */
    assert_int_equal(open_as(&f->s, url, false, &f->err), XT_EFORBIDDEN);
    assert_non_null(strstr(f->err.msg, "permission denied for database"));
    store_close(&f->s);
    must_open(f);
    store_close(&f->s);
    assert_int_equal(open_as(&f->s, url, false, &f->err), XT_EFORBIDDEN);
    assert_non_null(strstr(f->err.msg, "schema xtrace"));
    store_close(&f->s);
    grant(f, role);
    if (open_as(&f->s, url, false, &f->err) != XT_OK)
        fail_msg("with all rights: %s", f->err.msg);
    int64_t project;
    PGresult *r = NULL;
    assert_int_equal(f->s.ops->project_open(&f->s, STR_LIT("default"), &project, &f->err), XT_OK);
    assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_OK);
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
    /* Partitions are made and dropped by functions of the owner's. */
    struct pg_store *e = pg_of(&f->s);
    assert_int_equal(pg_writer_begin(e, &f->err), XT_OK);
    assert_int_equal(pg_query(&e->writer, "SELECT xtrace.partitions_ensure(3000)", NULL, &r, &f->err), XT_OK);
    assert_true(pg_bool(r, 0, 0));
    PQclear(r);
    assert_int_equal(pg_query(&e->writer, "SELECT xtrace.partitions_drop('observation', 3001)", NULL, &r, &f->err),
                     XT_OK);
    assert_int_equal(pg_i64(r, 0, 0), 1);
    PQclear(r);
    assert_int_equal(pg_query(&e->writer, "CREATE TABLE xtrace.mine(a int)", NULL, NULL, &f->err), XT_EUNAVAILABLE);
    assert_non_null(strstr(f->err.msg, "permission denied for schema xtrace"));
    pg_rollback(&e->writer);
    store_close(&f->s);
    /* Each right that is missing is named. */
    static const struct {
        const char *revoke, *say;
    } cases[] = {
        { "REVOKE INSERT ON xtrace.trace FROM %s", "INSERT on table xtrace.trace" },
        { "REVOKE DELETE ON xtrace.mlog FROM %s", "DELETE on table xtrace.mlog" },
        { "REVOKE USAGE ON SEQUENCE xtrace.trace_tseq FROM %s", "USAGE on sequence xtrace.trace_tseq" },
        { "REVOKE EXECUTE ON FUNCTION xtrace.partitions_ensure(int) FROM %s",
          "EXECUTE on function xtrace.partitions_ensure" },
        { "REVOKE SELECT ON xtrace.migration FROM %s", "table migration" },
        { "REVOKE USAGE ON SCHEMA xtrace FROM %s", "schema xtrace" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(sql, sizeof sql, cases[i].revoke, role);
        pg_run(f->d.conn, sql);
        assert_int_equal(open_as(&f->s, url, false, &f->err), XT_EFORBIDDEN);
        if (!strstr(f->err.msg, cases[i].say))
            fail_msg("%s: %s", cases[i].say, f->err.msg);
        store_close(&f->s);
        grant(f, role);
    }
    snprintf(sql, sizeof sql, "DROP OWNED BY %s; DROP ROLE %s", role, role);
    pg_run(f->d.conn, sql);
}

/* ---- partitions ---- */

static void test_partitions(void **state) {
    struct fixture *f = *state;
    must_open(f);
    assert_int_equal(pg_week(-1), -1);
    assert_int_equal(pg_week(0), 0);
    assert_int_equal(pg_week(PG_WEEK_NS), 1);
    static const char count[] = "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('xtrace.observation'::regclass, "
                                "'xtrace.payload'::regclass, 'xtrace.mpack'::regclass)";
    assert_int_equal(pg_number(f->d.conn, count), 3);
    pg_run(f->d.conn, "SELECT xtrace.partitions_ensure(w) FROM generate_series(-2, 2) w, generate_series(1, 2)");
    assert_int_equal(pg_number(f->d.conn, count), 3 + 15);
    pg_run(f->d.conn,
           "INSERT INTO xtrace.payload(week, pid, n, z) SELECT w, w + 10, 1, 'x' FROM generate_series(-4, 4) w");
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM xtrace.payload_far"), 4);
    /* A week whose rows came before its partition stays with the DEFAULT one. */
    pg_run(f->d.conn, "SELECT xtrace.partitions_ensure(3)");
    assert_int_equal(pg_number(f->d.conn, count), 3 + 15 + 2);
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM xtrace.payload"), 9);
    assert_int_equal(pg_number(f->d.conn, "SELECT xtrace.partitions_drop('payload', 0)"), 2);
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM xtrace.payload"), 7);
    assert_int_equal(pg_number(f->d.conn, "SELECT xtrace.partitions_drop('payload', 0)"), 0);
    assert_int_equal(pg_number(f->d.conn, count), 3 + 15);
    assert_int_equal(pg_number(f->d.conn, "SELECT xtrace.partitions_drop('trace', 100)"), -1);
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
                                          "WHERE c.relname IN ('payload_w0001', 'payload_far') AND attname = 'z' AND "
                                          "attstorage = 'e'"),
                     2);
}

/* ---- leases ---- */

static bool lease(struct store *s, const char *what, int64_t ns) {
    struct pg_store *e = pg_of(s);
    struct xt_err err;
    bool mine = true;
    struct str name = STR_LIT("jobs");
    assert_int_equal(pg_writer_begin(e, &err), XT_OK);
    enum xt_code code = strcmp(what, "take") == 0    ? pg_lease_take(e, &e->writer, name, ns, &mine, &err)
                        : strcmp(what, "check") == 0 ? pg_lease_check(e, &e->writer, name, &mine, &err)
                                                     : pg_lease_give(e, &e->writer, name, &err);
    assert_int_equal(code, XT_OK);
    assert_int_equal(pg_commit(&e->writer, &err), XT_OK);
    return mine;
}

static void test_leases(void **state) {
    struct fixture *f = *state;
    struct store other;
    must_open(f);
    assert_int_equal(open_as(&other, f->d.url, false, &f->err), XT_OK);
    assert_false(lease(&f->s, "check", 0));
    assert_true(lease(&f->s, "take", 60 * NS_PER_SEC));
    assert_true(lease(&f->s, "take", 60 * NS_PER_SEC)); /* renewed */
    assert_true(lease(&f->s, "check", 0));
    assert_false(lease(&other, "take", 60 * NS_PER_SEC));
    assert_false(lease(&other, "check", 0));
    lease(&other, "give", 0); /* not theirs to give */
    assert_true(lease(&f->s, "check", 0));
    lease(&f->s, "give", 0);
    assert_true(lease(&other, "take", 60 * NS_PER_SEC));
    /* Its end came: the next one has it, the old one is told so. */
    pg_run(f->d.conn, "UPDATE xtrace.lease SET until = clock_timestamp() - interval '1 ms'");
    assert_false(lease(&other, "check", 0));
    assert_true(lease(&f->s, "take", 60 * NS_PER_SEC));
    assert_false(lease(&other, "check", 0));
    /* Checked in a transaction, it stays until that ends: who wants it waits. */
    struct pg_store *e = pg_of(&f->s), *o = pg_of(&other);
    bool mine = false;
    assert_int_equal(pg_writer_begin(e, &f->err), XT_OK);
    assert_int_equal(pg_lease_check(e, &e->writer, STR_LIT("jobs"), &mine, &f->err), XT_OK);
    assert_true(mine);
    o->writer.deadline = clock_mono_ns() + NS_PER_SEC / 4;
    assert_int_equal(pg_begin(&o->writer, true, &f->err), XT_OK);
    assert_int_equal(pg_lease_take(o, &o->writer, STR_LIT("jobs"), NS_PER_SEC, &mine, &f->err), XT_EUNAVAILABLE);
    assert_true(pg_state_is(&o->writer, "55P03"));
    pg_rollback(&o->writer);
    assert_int_equal(pg_commit(&e->writer, &f->err), XT_OK);
    store_close(&other);
}

/* ---- the pool ---- */

struct reading {
    struct store *s;
    int rounds;
    bool ok;
};
static void *reading_main(void *arg) {
    struct reading *w = arg;
    struct pg_store *e = pg_of(w->s);
    struct xt_err err;
    w->ok = true;
    for (int i = 0; i < w->rounds && w->ok; i++) {
        struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + 20 * NS_PER_SEC, &err);
        w->ok = c && pg_query(c, "SELECT 1", NULL, NULL, &err) == XT_OK;
        if (c)
            pg_reader_put(e, c);
    }
    return NULL;
}

static void test_pool(void **state) {
    struct fixture *f = *state;
    struct pg_store *e;
    must_open(f);
    e = pg_of(&f->s);
    struct pg_conn *one = pg_reader_get(e, TIME_NONE, &f->err), *two = pg_reader_get(e, TIME_NONE, &f->err);
    assert_non_null(one);
    assert_non_null(two);
    assert_null(pg_reader_get(e, clock_mono_ns() + NS_PER_SEC / 50, &f->err));
    assert_int_equal(f->err.code, XT_ETIMEOUT);
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK); /* has its own */
    pg_reader_put(e, one);
    pg_reader_put(e, two);
    struct reading w[6];
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        w[i] = (struct reading){ &f->s, 200, false };
        assert_int_equal(pthread_create(&threads[i], NULL, reading_main, &w[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_true(w[i].ok);
    }
    /* Two readers, ping, catalog. */
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xtrace' AND "
                                          "datname = current_database()"),
                     4);
    struct store_stats stats;
    f->s.ops->stats(&f->s, &stats);
    assert_int_equal(stats.reads, 3 + 1200);
    assert_int_equal(stats.read_timeouts, 1);
    assert_true(stats.file_bytes > 100000);
}

/* Ends the engine's backends, and sees them gone. */
static void end_backends(struct fixture *f) {
    static const char ours[] =
        "FROM pg_stat_activity WHERE application_name = 'xtrace' AND datname = current_database()";
    char end[200], count[200];
    snprintf(end, sizeof end, "SELECT pg_terminate_backend(pid) %s", ours);
    snprintf(count, sizeof count, "SELECT count(*) %s", ours);
    int64_t limit = clock_mono_ns() + 20 * NS_PER_SEC;
    pg_run(f->d.conn, end);
    while (pg_number(f->d.conn, count) > 0)
        assert_true(clock_mono_ns() < limit);
}

/* Its server ends every connection, 500 times: none is left behind, neither here nor there. */
static void test_no_leaks(void **state) {
    struct fixture *f = *state;
    must_open(f);
    struct pg_store *e = pg_of(&f->s);
    int first = -1, last = -1;
    for (int i = 0; i < 500; i++) {
        struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + 5 * NS_PER_SEC, &f->err);
        assert_non_null(c);
        assert_int_equal(pg_query(c, "SELECT 1", NULL, NULL, &f->err), XT_OK);
        if (i % 3 == 0) /* in the middle of a transaction */
            end_backends(f);
        if (i % 3 == 0)
            assert_int_equal(pg_query(c, "SELECT 1", NULL, NULL, &f->err), XT_EUNAVAILABLE);
        last = c->db ? PQsocket(c->db) : last;
        pg_reader_put(e, c);
        if (i % 3 == 1)
            end_backends(f);
        if (i == 10)
            first = last;
    }
    assert_true(last <= first + 2); /* descriptors are reused, so none was lost */
    assert_true(pg_number(f->d.conn,
                          "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xtrace' AND datname "
                          "= current_database()") <= 2);
}

static void test_check(void **state) {
    struct fixture *f = *state;
    must_open(f);
    int64_t project;
    struct buf report;
    buf_init(&report, 1 << 20);
    assert_int_equal(f->s.ops->project_open(&f->s, STR_LIT("p"), &project, &f->err), XT_OK);
    assert_int_equal(f->s.ops->check(&f->s, false, &report, &f->err), XT_OK);
    assert_string_equal(report.p, "projects 1, keys 0, traces 0, observations 0\n");
    assert_int_equal(f->s.ops->backup(&f->s, "/tmp/nothing", &f->err), XT_EINVAL);
    assert_non_null(strstr(f->err.msg, "pg_dump"));
    assert_int_equal(f->s.ops->restore(f->d.url, "/tmp/nothing", &f->err), XT_EINVAL);
    assert_non_null(strstr(f->err.msg, "pg_restore"));
    buf_done(&report);
}

int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_started_together, setup, teardown),
        cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encoding, setup, teardown),
        cmocka_unit_test_setup_teardown(test_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_partitions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_leaks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
