/* test_pg_fault.c -- the PostgreSQL engine's connections in trouble: broken and silent networks, servers that are stopped,
 * killed and frozen, backends that are ended, locks, a database that became read-only. What was said to be committed is
 * there, what was said not to be is not, every call ends in its time, and all goes on by itself afterwards. */
#include "pg_fixture.h"
#include "pg_proxy.h"
#include "slow.h"

#include "store/postgres/engine.h"

#define MS (NS_PER_SEC / 1000)

/* A cluster of this program's own, which it may stop and freeze. */
static struct {
    FILE *orders, *answers;
    pid_t pid;
    char url[160];
    int port;
} own;

static void cluster_start(void) {
    int in[2], out[2];
    char script[300];
    snprintf(script, sizeof script, "%s", __FILE__);
    char *at = strstr(script, "unit/test_pg_fault.c");
    assert_non_null(at);
    snprintf(at, sizeof script - (size_t)(at - script), "lib/pg.py");
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    own.pid = fork();
    if (own.pid == 0) {
        dup2(in[0], 0), dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execlp("python3", "python3", script, "serve", (char *)NULL);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    own.orders = fdopen(in[1], "w");
    own.answers = fdopen(out[0], "r");
    assert_non_null(fgets(own.url, sizeof own.url, own.answers));
    own.url[strcspn(own.url, "\n")] = '\0';
    const char *colon = strrchr(own.url, ':');
    assert_non_null(colon);
    own.port = (int)strtol(colon + 1, NULL, 10);
}

static void cluster(const char *order) {
    char line[40];
    fprintf(own.orders, "%s\n", order);
    fflush(own.orders);
    assert_non_null(fgets(line, sizeof line, own.answers));
    assert_string_equal(line, "ok\n");
}

/* ---- fixture: a store behind the proxy, and the test's own view past it ---- */

struct fixture {
    struct pg_proxy proxy;
    struct store s;
    struct xt_err err;
    char url[200];
    char name[40];
    int64_t tried, committed, unknown;
    uint32_t random;
};

static PGconn *look(struct fixture *f) {
    char url[200];
    snprintf(url, sizeof url, "%.*s/%s", (int)(strrchr(own.url, '/') - own.url), own.url, f->name);
    return pg_connect(url);
}

static int setup(void **state) {
    static unsigned count;
    struct fixture *f = calloc(1, sizeof *f);
    char sql[100];
    assert_non_null(f);
    f->random = 12345;
    snprintf(f->name, sizeof f->name, "f%u", count++);
    PGconn *c = pg_connect(own.url);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0", f->name);
    pg_run(c, sql);
    PQfinish(c);
    assert_true(proxy_start(&f->proxy, own.port));
    snprintf(f->url, sizeof f->url, "postgresql://xtrace:s3cret@127.0.0.1:%d/%s", f->proxy.port, f->name);
    struct store_conf conf = { .url = f->url, .readers = 2, .exclusive = true };
    f->s = (struct store){ .ops = &store_postgres_ops };
    if (f->s.ops->open(&f->s, &conf, &f->err) != XT_OK || f->s.ops->migrate(&f->s, &f->err) != XT_OK)
        fail_msg("%s", f->err.msg);
    c = look(f);
    pg_run(c, "CREATE TABLE xtrace.t(n bigint PRIMARY KEY, s text)");
    PQfinish(c);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    atomic_store(&f->proxy.mode, PROXY_PASS);
    store_close(&f->s);
    proxy_end(&f->proxy);
    free(f);
    return 0;
}

static uint32_t rnd(struct fixture *f, uint32_t below) {
    f->random = f->random * 1664525u + 1013904223u;
    return (f->random >> 8) % below;
}

/* One transaction of the writer, by statements or COPY, with a number of its own. */
static enum xt_code transact(struct fixture *f, int64_t n, int64_t ns) {
    struct pg_conn *c = &pg_of(&f->s)->writer;
    struct pg_args a;
    c->deadline = clock_mono_ns() + ns;
    enum xt_code code = pg_begin(c, true, &f->err);
    pg_args_init(&a);
    pg_arg_i64(&a, n);
    if (code == XT_OK && n % 2)
        code = pg_query(c, "INSERT INTO xtrace.t(n, s) VALUES($1, 'x')", &a, NULL, &f->err);
    pg_args_done(&a);
    if (code == XT_OK && n % 2 == 0 &&
        (code = pg_copy_begin(c, "COPY xtrace.t FROM STDIN (FORMAT binary)", &f->err)) == XT_OK) {
        pg_copy_row(c, 2);
        pg_put_i64(c, n);
        pg_put_text(c, STR_LIT("some text"));
        code = pg_copy_end(c, NULL, &f->err);
    }
    if (code == XT_OK)
        code = pg_commit(c, &f->err);
    bool unsettled = c->unsettled;
    pg_rollback(c);
    c->unsettled = unsettled;
    return code;
}

/* What was answered, by number: 1 committed, 2 not, 3 unknown. */
#define MOST 4000
static char answers[MOST];

static void note(struct fixture *f, int64_t n, enum xt_code code) {
    bool unsettled = pg_of(&f->s)->writer.unsettled;
    assert_true(n < MOST);
    if (code != XT_OK && code != XT_EUNAVAILABLE)
        fail_msg("transaction %d: code %d, %s", (int)n, (int)code, f->err.msg);
    answers[n] = code == XT_OK ? 1 : unsettled ? 3 : 2;
    f->tried++;
    f->committed += code == XT_OK;
    f->unknown += answers[n] == 3;
}

/* Every answer was true. */
static void must_be_true(struct fixture *f, int64_t from, int64_t to) {
    PGconn *c = look(f);
    for (int64_t n = from; n < to; n++) {
        char sql[80];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM xtrace.t WHERE n = %d", (int)n);
        int64_t there = pg_number(c, sql);
        if (answers[n] != 3 && there != (answers[n] == 1))
            fail_msg("transaction %d was said to be %scommitted", (int)n, answers[n] == 1 ? "" : "not ");
    }
    PQfinish(c);
}

/* ---- networks ---- */

/* The connection breaks after any number of bytes of a transaction. */
static void test_broken_network(void **state) {
    struct fixture *f = *state;
    for (int64_t n = 0; n < 400; n++) {
        atomic_store(&f->proxy.mute_then, PROXY_PASS);
        atomic_store(&f->proxy.cut_after, n % 4 == 3 ? -1 : (long)rnd(f, 1400));
        note(f, n, transact(f, n, 5 * NS_PER_SEC));
    }
    atomic_store(&f->proxy.cut_after, -1);
    assert_int_equal(f->unknown, 0);
    assert_true(f->committed > 100 && f->committed < 400);
    must_be_true(f, 0, 400);
}

static void *heal_main(void *arg) {
    struct fixture *f = arg;
    while (atomic_load(&f->proxy.mode) == PROXY_PASS)
        usleep(1000);
    usleep(50000);
    atomic_store(&f->proxy.mode, PROXY_CUT); /* what hung is gone, and the network works again */
    usleep(20000);
    atomic_store(&f->proxy.mode, PROXY_PASS);
    return NULL;
}

/* It falls silent at any point, and comes back without the old connections. */
static void test_silent_network(void **state) {
    struct fixture *f = *state;
    for (int64_t n = 0; n < 40; n++) {
        pthread_t healer;
        atomic_store(&f->proxy.mute_then, n % 3 ? PROXY_MUTE : PROXY_HANG);
        atomic_store(&f->proxy.cut_after, (long)(n * 25));
        assert_int_equal(pthread_create(&healer, NULL, heal_main, f), 0);
        note(f, n, transact(f, n, 4 * NS_PER_SEC));
        if (atomic_exchange(&f->proxy.cut_after, -1) >= 0) /* the transaction was shorter than that */
            atomic_store(&f->proxy.mode, PROXY_MUTE);
        pthread_join(healer, NULL);
    }
    assert_int_equal(f->unknown, 0);
    must_be_true(f, 0, 40);
}

/* The answer to COMMIT is lost, for as long as anybody waits: what is said afterwards is true. */
static void test_commit_unanswered(void **state) {
    struct fixture *f = *state;
    struct pg_conn *c = &pg_of(&f->s)->writer;
    for (int64_t n = 0; n < 2; n++) {
        pthread_t healer;
        c->deadline = clock_mono_ns() + NS_PER_SEC / 2;
        assert_int_equal(pg_begin(c, true, &f->err), XT_OK);
        assert_int_equal(
            pg_query(c, n ? "INSERT INTO xtrace.t VALUES(1)" : "INSERT INTO xtrace.t VALUES(0)", NULL, NULL, &f->err),
            XT_OK);
        assert_int_equal(pthread_create(&healer, NULL, heal_main, f), 0);
        /* n = 0: the server never gets it; 1: it does, and its answer is lost. */
        atomic_store(&f->proxy.mode, n ? PROXY_MUTE : PROXY_HANG);
        note(f, n, pg_commit(c, &f->err));
        pthread_join(healer, NULL);
        assert_int_equal(answers[n], n ? 1 : 2);
    }
    must_be_true(f, 0, 2);
    /* The network does not come back in time: nobody knows; later somebody does. */
    c->deadline = clock_mono_ns() + NS_PER_SEC / 4;
    assert_int_equal(pg_begin(c, true, &f->err), XT_OK);
    assert_int_equal(pg_query(c, "INSERT INTO xtrace.t VALUES(2)", NULL, NULL, &f->err), XT_OK);
    atomic_store(&f->proxy.mode, PROXY_MUTE);
    int64_t start = clock_mono_ns();
    assert_int_equal(pg_commit(c, &f->err), XT_EUNAVAILABLE);
    assert_true(clock_mono_ns() - start < 4 * NS_PER_SEC * SLOW);
    assert_true(c->unsettled);
    assert_null(strstr(f->err.msg, "127.0.0.1"));
    atomic_store(&f->proxy.mode, PROXY_PASS);
    bool done = false;
    c->deadline = clock_mono_ns() + 5 * NS_PER_SEC;
    assert_int_equal(pg_settle(c, &done, &f->err), XT_OK);
    assert_true(done);
    assert_false(c->unsettled);
}

/* Nothing goes through: every call ends in its time. */
static void test_hanging_network(void **state) {
    struct fixture *f = *state;
    struct pg_store *e = pg_of(&f->s);
    uint64_t v;
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
    assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_OK);
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + NS_PER_SEC / 2, &f->err);
    assert_non_null(c);
    atomic_store(&f->proxy.mode, PROXY_HANG);
    int64_t start = clock_mono_ns();
    assert_int_equal(pg_query(c, "SELECT 1", NULL, NULL, &f->err), XT_ETIMEOUT);
    pg_reader_put(e, c);
    assert_true(clock_mono_ns() - start < NS_PER_SEC * SLOW);
    for (int round = 0; round < 2; round++) { /* an open connection, then none */
        start = clock_mono_ns();
        assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_EUNAVAILABLE);
        assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_EUNAVAILABLE);
        assert_int_equal(f->s.ops->keys_version(&f->s, &v, &f->err), XT_EUNAVAILABLE);
        assert_true(clock_mono_ns() - start < 45 * NS_PER_SEC / 10 * SLOW);
        assert_null(pg_reader_get(e, clock_mono_ns() + NS_PER_SEC / 4, &f->err)); /* it can't connect */
    }
    /* Who authorises does not wait each time. */
    start = clock_mono_ns();
    for (int i = 0; i < 20; i++)
        assert_int_equal(f->s.ops->keys_version(&f->s, &v, &f->err), XT_EUNAVAILABLE);
    assert_true(clock_mono_ns() - start < 2 * NS_PER_SEC * SLOW);
    atomic_store(&f->proxy.mode, PROXY_CUT);
    usleep(20000);
    atomic_store(&f->proxy.mode, PROXY_PASS);
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
    assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_OK);
}

/* ---- servers ---- */

/* Backends are ended while transactions run. */
struct ender {
    struct fixture *f;
    _Atomic bool stop;
};
static void *ender_main(void *arg) {
    struct ender *e = arg;
    PGconn *c = look(e->f);
    pg_run(c, "SET client_min_messages = error"); /* backends that are gone already */
    while (!atomic_load(&e->stop)) {
        PQclear(PQexec(c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xtrace'"));
        usleep(700);
    }
    PQfinish(c);
    return NULL;
}

static void test_ended_backends(void **state) {
    struct fixture *f = *state;
    struct ender e = { .f = f };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ender_main, &e), 0);
    for (int64_t n = 0; n < 150; n++)
        note(f, n, transact(f, n, 30 * NS_PER_SEC));
    atomic_store(&e.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(f->unknown, 0);
    must_be_true(f, 0, 150);
    assert_int_equal(transact(f, 150, 5 * NS_PER_SEC), XT_OK);
    PGconn *c = look(f);
    assert_int_equal(pg_number(c, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xtrace' AND "
                                  "datname = current_database()"),
                     1); /* the writer's: no backend was left behind */
    PQfinish(c);
}

/* The server is stopped at once, or killed, and started again, under a writer. */
struct stopping {
    struct fixture *f;
    const char *order;
    int rounds;
    _Atomic bool over;
};
static void *stopping_main(void *arg) {
    struct stopping *s = arg;
    for (int i = 0; i < s->rounds; i++) {
        usleep(120000);
        cluster(s->order);
        cluster("start");
    }
    atomic_store(&s->over, true);
    return NULL;
}

static void stops(struct fixture *f, const char *order) {
    struct stopping s = { .f = f, .order = order, .rounds = 5 };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stopping_main, &s), 0);
    int64_t n = 0;
    while (!atomic_load(&s.over) && n < MOST - 1) {
        note(f, n, transact(f, n, NS_PER_SEC));
        n++;
        if (answers[n - 1] != 1) /* as often as a server that retries */
            usleep(5000);
        else
            usleep(300);
    }
    pthread_join(thread, NULL);
    assert_true(f->committed > 20);
    assert_true(f->committed < f->tried);
    must_be_true(f, 0, n);
    assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_OK);
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
}
static void test_stopped(void **state) { stops(*state, "stop immediate"); }
static void test_killed(void **state) { stops(*state, "kill"); }

/* Frozen: calls end in their time, and the same connections' successors work when it goes on. */
static void test_frozen(void **state) {
    struct fixture *f = *state;
    struct pg_store *e = pg_of(&f->s);
    uint64_t v;
    assert_int_equal(transact(f, 1, NS_PER_SEC), XT_OK);
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
    cluster("freeze");
    int64_t start = clock_mono_ns();
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_EUNAVAILABLE);
    assert_true(clock_mono_ns() - start < 15 * NS_PER_SEC / 10 * SLOW);
    start = clock_mono_ns();
    note(f, 2, transact(f, 2, NS_PER_SEC));
    assert_int_not_equal(answers[2], 1);
    assert_true(clock_mono_ns() - start < 4 * NS_PER_SEC * SLOW);
    assert_int_equal(f->s.ops->keys_version(&f->s, &v, &f->err), XT_EUNAVAILABLE);
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + NS_PER_SEC / 4, &f->err);
    if (c)
        pg_reader_put(e, c);
    cluster("thaw");
    assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
    assert_int_equal(transact(f, 3, 10 * NS_PER_SEC), XT_OK);
    must_be_true(f, 2, 3);
}

/* ---- databases ---- */

static void test_read_only(void **state) {
    struct fixture *f = *state;
    char sql[120];
    PGconn *c = look(f);
    for (int on = 1; on >= 0; on--) {
        snprintf(sql, sizeof sql, "ALTER DATABASE %s SET default_transaction_read_only = %s", f->name,
                 on ? "on" : "off");
        pg_run(c, "SET default_transaction_read_only = off");
        pg_run(c, sql);
        pg_run(c, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'xtrace'");
        assert_int_equal(f->s.ops->probe(&f->s, &f->err), on ? XT_EUNAVAILABLE : XT_OK);
        if (on)
            assert_non_null(strstr(f->err.msg, "read-only"));
        assert_int_equal(f->s.ops->ping(&f->s, &f->err), XT_OK);
    }
    PQfinish(c);
}

/* Somebody holds a lock: the wait ends in time, the connection stays. */
static void test_locks(void **state) {
    struct fixture *f = *state;
    struct pg_conn *w = &pg_of(&f->s)->writer;
    assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_OK);
    uint64_t opened = w->opened;
    PGconn *c = look(f);
    pg_run(c, "BEGIN; LOCK TABLE xtrace.t, xtrace.mark IN ACCESS EXCLUSIVE MODE");
    int64_t start = clock_mono_ns();
    assert_int_equal(f->s.ops->probe(&f->s, &f->err), XT_EUNAVAILABLE);
    assert_true(pg_state_is(w, "55P03"));
    assert_true(clock_mono_ns() - start < 15 * NS_PER_SEC / 10 * SLOW);
    assert_int_equal(transact(f, 2, NS_PER_SEC), XT_EUNAVAILABLE);
    assert_false(w->unsettled);
    pg_run(c, "ROLLBACK");
    assert_int_equal(transact(f, 2, NS_PER_SEC), XT_OK);
    assert_int_equal(w->opened, opened);
    PQfinish(c);
}

int main(void) {
    PG_OR_SKIP();
    cluster_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_broken_network, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silent_network, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commit_unanswered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hanging_network, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_backends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frozen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fclose(own.orders); /* the cluster ends with it */
    while (waitpid(own.pid, NULL, 0) < 0 && errno == EINTR) {}
    return failed;
}
