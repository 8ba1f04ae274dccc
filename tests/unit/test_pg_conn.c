/* test_pg_conn.c -- connections to PostgreSQL: statements, pipelines, COPY, transactions, what failures become. */
#include "pg_fixture.h"

#include <math.h>

#include "store/postgres/conn.h"

struct fixture {
    struct pg_database d;
    struct pg_target *target;
    struct pg_conn c;
    struct xt_err err;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    pg_database_make(&f->d);
    assert_int_equal(pg_target_new(f->d.url, &f->target, &f->err), XT_OK);
    pg_conn_init(&f->c, f->target, true);
    pg_run(f->d.conn, "CREATE SCHEMA xtrace; CREATE TABLE xtrace.mark(holder bytea PRIMARY KEY, n bigint NOT NULL, "
                      "at timestamptz NOT NULL); CREATE TABLE t(n bigint PRIMARY KEY, s text)");
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    pg_conn_done(&f->c);
    pg_target_free(f->target);
    pg_database_drop(&f->d);
    free(f);
    return 0;
}

#define OK(f, call)                                                      \
    do {                                                                 \
        enum xt_code code_ = (call);                                     \
        if (code_ != XT_OK)                                              \
            fail_msg("%s: %s (%s)", #call, (f)->err.msg, (f)->c.detail); \
    } while (0)

/* Every kind of value goes there and comes back. */
static void test_values(void **state) {
    struct fixture *f = *state;
    struct pg_args a;
    struct arena mem;
    PGresult *r = NULL;
    __int128 big = -(((__int128)1 << 126) + 12345);
    pg_args_init(&a);
    arena_init(&mem, 1 << 20);
    pg_arg_i64(&a, INT64_MIN);
    pg_arg_i32(&a, -7);
    pg_arg_i16(&a, 300);
    pg_arg_f64(&a, -0.1);
    pg_arg_bool(&a, true);
    pg_arg_text(&a, STR_LIT("nul \0 one \1 \xe2\x82\xac"));
    pg_arg_bytes(&a, STR_LIT("\0\377"));
    pg_arg_num(&a, big);
    pg_arg_null(&a, PG_TEXT);
    pg_arg_time(&a, TIME_NONE);
    OK(f, pg_begin(&f->c, false, &f->err));
    OK(f,
       pg_query(&f->c, "SELECT $1,$2,$3,$4,$5,$6,$7,$8,$9,$10, $8 * 10000000000, octet_length($6)", &a, &r, &f->err));
    assert_true(pg_i64(r, 0, 0) == INT64_MIN);
    assert_int_equal(pg_i64(r, 0, 1), -7);
    assert_int_equal(pg_i64(r, 0, 2), 300);
    assert_true(pg_f64(r, 0, 3) == -0.1);
    assert_true(pg_bool(r, 0, 4));
    assert_true(str_eq(pg_text(&mem, r, 0, 5), STR_LIT("nul \0 one \1 \xe2\x82\xac")));
    assert_true(str_eq(pg_bytes(r, 0, 6), STR_LIT("\0\377")));
    assert_true(pg_num(r, 0, 7) == big);
    assert_true(pg_is_null(r, 0, 8));
    assert_true(pg_time(r, 0, 9) == TIME_NONE);
    assert_true(pg_num(r, 0, 10) < -((__int128)1 << 126)); /* saturates */
    assert_int_equal(pg_i64(r, 0, 11), 17);
    PQclear(r);
    pg_args_clear(&a);
    pg_arg_array(&a, PG_INT8, 3);
    for (int64_t i = 1; i <= 3; i++)
        pg_item_i64(&a, i);
    pg_arg_array(&a, PG_TEXT, 3);
    pg_item_text(&a, STR_LIT("x"));
    pg_item_null(&a);
    pg_item_text(&a, STR_LIT("\0"));
    pg_arg_array(&a, PG_NUMERIC, 3);
    pg_item_num(&a, 0);
    pg_item_num(&a, big);
    pg_item_null(&a);
    pg_arg_array(&a, PG_FLOAT8, 0);
    OK(f, pg_query(&f->c, "SELECT u.n, u.s, u.m, $2, cardinality($4) FROM unnest($1, $2, $3) u(n, s, m) ORDER BY n", &a,
                   &r, &f->err));
    assert_int_equal(PQntuples(r), 3);
    assert_int_equal(pg_i64(r, 2, 0), 3);
    assert_true(str_eq(pg_text(&mem, r, 2, 1), STR_LIT("\0")));
    assert_true(pg_is_null(r, 1, 1));
    assert_true(pg_num(r, 1, 2) == big);
    struct str *v = NULL;
    size_t n = 0;
    assert_true(pg_texts(&mem, r, 0, 3, &v, &n) && n == 3 && str_eq(v[2], STR_LIT("\0")) && !str_has(v[1]));
    assert_int_equal(pg_i64(r, 0, 4), 0);
    PQclear(r);
    pg_rollback(&f->c);
    pg_args_done(&a);
    arena_done(&mem);
}

static void insert(struct fixture *f, int64_t n) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, n);
    OK(f, pg_query(&f->c, "INSERT INTO t(n) VALUES($1)", &a, NULL, &f->err));
    pg_args_done(&a);
}

static int64_t rows(struct fixture *f) { return pg_number(f->d.conn, "SELECT count(*) FROM t"); }

static void test_transactions(void **state) {
    struct fixture *f = *state;
    PGresult *r = NULL;
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_commit(&f->c, &f->err)); /* nothing was asked for */
    OK(f, pg_begin(&f->c, true, &f->err));
    insert(f, 1);
    assert_int_equal(rows(f), 0);
    OK(f, pg_commit(&f->c, &f->err));
    assert_int_equal(rows(f), 1);
    for (int i = 0; i < 5; i++) {
        OK(f, pg_begin(&f->c, true, &f->err));
        insert(f, 2);
        pg_rollback(&f->c);
    }
    /* One snapshot for a read, which can't write. */
    OK(f, pg_begin(&f->c, false, &f->err));
    OK(f, pg_query(&f->c, "SELECT count(*) FROM t", NULL, &r, &f->err));
    assert_int_equal(pg_i64(r, 0, 0), 1);
    PQclear(r);
    pg_run(f->d.conn, "INSERT INTO t(n) VALUES(9)");
    OK(f, pg_query(&f->c, "SELECT count(*) FROM t", NULL, &r, &f->err));
    assert_int_equal(pg_i64(r, 0, 0), 1);
    PQclear(r);
    assert_int_equal(pg_query(&f->c, "DELETE FROM t", NULL, NULL, &f->err), XT_EUNAVAILABLE);
    assert_true(pg_state_is(&f->c, "25006"));
    pg_rollback(&f->c);
    /* What was aborted does not commit. */
    OK(f, pg_begin(&f->c, true, &f->err));
    insert(f, 3);
    assert_int_equal(pg_query(&f->c, "INSERT INTO t(n) VALUES(1)", NULL, NULL, &f->err), XT_EREFUSED);
    assert_true(pg_state_is(&f->c, "23505"));
    assert_int_equal(pg_commit(&f->c, &f->err), XT_EUNAVAILABLE);
    assert_false(f->c.unsettled);
    assert_int_equal(rows(f), 2);
    assert_int_equal(f->c.opened, 1);
    /* No transaction is left open. */
    OK(f, pg_open(&f->c, &f->err));
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                                          "AND application_name = 'xtrace' AND state <> 'idle'"),
                     0);
}

static void test_pipeline(void **state) {
    struct fixture *f = *state;
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_pipe(&f->c, &f->err));
    for (int64_t i = 0; i < 100; i++) {
        pg_args_clear(&a);
        pg_arg_i64(&a, i);
        OK(f, pg_send(&f->c, "INSERT INTO t(n, s) VALUES($1, repeat('x', 100000)) RETURNING n, s", &a, &f->err));
    }
    OK(f, pg_flush(&f->c, &f->err));
    for (int64_t i = 0; i < 100; i++) {
        OK(f, pg_answer(&f->c, &r, &f->err));
        assert_int_equal(pg_i64(r, 0, 0), i);
        PQclear(r);
    }
    OK(f, pg_drain(&f->c, &f->err));
    OK(f, pg_commit(&f->c, &f->err));
    assert_int_equal(rows(f), 100);
    /* A failure in the middle: the ones behind it say so too, and the connection goes on. */
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_pipe(&f->c, &f->err));
    OK(f, pg_send(&f->c, "INSERT INTO t(n) VALUES(200)", NULL, &f->err));
    OK(f, pg_send(&f->c, "INSERT INTO t(n) VALUES(1)", NULL, &f->err));
    OK(f, pg_send(&f->c, "INSERT INTO t(n) VALUES(201)", NULL, &f->err));
    OK(f, pg_flush(&f->c, &f->err));
    OK(f, pg_answer(&f->c, NULL, &f->err));
    assert_int_equal(pg_answer(&f->c, NULL, &f->err), XT_EREFUSED);
    assert_int_equal(pg_answer(&f->c, NULL, &f->err), XT_EREFUSED);
    assert_int_equal(pg_drain(&f->c, &f->err), XT_OK);
    assert_true(pg_state_is(&f->c, "23505"));
    pg_rollback(&f->c);
    /* Answers that nobody takes: rolled back all the same. */
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_pipe(&f->c, &f->err));
    for (int i = 0; i < 3; i++)
        OK(f, pg_send(&f->c, "INSERT INTO t(n) SELECT max(n) + 1 FROM t", NULL, &f->err));
    pg_rollback(&f->c);
    OK(f, pg_begin(&f->c, true, &f->err));
    insert(f, 500);
    OK(f, pg_commit(&f->c, &f->err));
    assert_int_equal(rows(f), 101);
    assert_int_equal(f->c.opened, 1);
    pg_args_done(&a);
}

static void test_copy(void **state) {
    struct fixture *f = *state;
    uint64_t n = 0;
    pg_run(f->d.conn, "CREATE TABLE w(a bigint, b int, c smallint, d float8, e boolean, f text, g bytea, h numeric, i "
                      "text[], j bigint)");
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_copy_begin(&f->c, "COPY w FROM STDIN (FORMAT binary)", &f->err));
    struct str tags[] = { STR_LIT("a"), STR_LIT("\0") };
    for (int i = 0; i < 20000; i++) {
        pg_copy_row(&f->c, 10);
        pg_put_i64(&f->c, i);
        pg_put_i32(&f->c, -i);
        pg_put_i16(&f->c, 7);
        pg_put_f64(&f->c, i % 2 ? 0.5 : (double)NAN);
        pg_put_bool(&f->c, true);
        pg_put_text(&f->c, STR_LIT("a text \0 of some length"));
        pg_put_bytes(&f->c, STR_NONE);
        pg_put_num(&f->c, (__int128)i * INT64_MAX);
        pg_put_texts(&f->c, tags, (size_t)(i % 3));
        pg_put_time(&f->c, TIME_NONE);
    }
    OK(f, pg_copy_end(&f->c, &n, &f->err));
    assert_int_equal(n, 20000);
    OK(f, pg_commit(&f->c, &f->err));
    assert_int_equal(pg_number(f->d.conn,
                               "SELECT count(*) FROM w WHERE b = -a AND c = 7 AND e AND octet_length(f) = 24 "
                               "AND g IS NULL AND h = a::numeric * 9223372036854775807 AND cardinality(i) = a % 3 "
                               "AND j IS NULL AND (d IS NULL) = (a % 2 = 0)"),
                     20000);
    /* Refused: at the statement, and by a row. */
    OK(f, pg_begin(&f->c, true, &f->err));
    assert_int_equal(pg_copy_begin(&f->c, "COPY nothing FROM STDIN (FORMAT binary)", &f->err), XT_EUNAVAILABLE);
    pg_rollback(&f->c);
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_copy_begin(&f->c, "COPY t FROM STDIN (FORMAT binary)", &f->err));
    for (int64_t i = 0; i < 100000; i++) {
        pg_copy_row(&f->c, 2);
        pg_put_i64(&f->c, i == 50 ? 1 : i);
        pg_put_null(&f->c);
    }
    assert_int_equal(pg_copy_end(&f->c, &n, &f->err), XT_EREFUSED);
    assert_true(pg_state_is(&f->c, "23505"));
    pg_rollback(&f->c);
    /* Given up in the middle. */
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_copy_begin(&f->c, "COPY t FROM STDIN (FORMAT binary)", &f->err));
    pg_copy_row(&f->c, 2);
    pg_rollback(&f->c);
    assert_int_equal(rows(f), 0);
    OK(f, pg_begin(&f->c, true, &f->err));
    insert(f, 1);
    OK(f, pg_commit(&f->c, &f->err));
    assert_int_equal(rows(f), 1);
}

/* Codes by the kind of failure; a statement's failure is not the connection's. */
static void test_codes(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *sql;
        bool write;
        enum xt_code code;
        const char *sqlstate;
    } cases[] = {
        { "SELECT 1/0", false, XT_EREFUSED, "22012" },
        { "SELECT 'x'::int", false, XT_EREFUSED, "22P02" },
        { "INSERT INTO t(n) VALUES(NULL)", true, XT_EREFUSED, "23502" },
        { "SELECT nothing", false, XT_EUNAVAILABLE, "42703" },
        { "SELECT pg_sleep(20)", false, XT_ETIMEOUT, "57014" },
        { "SELECT pg_sleep(20)", true, XT_EUNAVAILABLE, "57014" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        f->c.deadline = clock_mono_ns() + NS_PER_SEC / 3;
        OK(f, pg_begin(&f->c, cases[i].write, &f->err));
        assert_int_equal(pg_query(&f->c, cases[i].sql, NULL, NULL, &f->err), cases[i].code);
        assert_string_equal(f->c.sqlstate, cases[i].sqlstate);
        assert_null(strstr(f->err.msg, "nothing"));
        assert_null(strstr(f->err.msg, "SELECT"));
        pg_rollback(&f->c);
        assert_int_equal(f->c.opened, 1);
    }
}

/* Its backend was ended while it was idle: reads and writes go on as if nothing had been. */
static void test_ended_idle(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 20; i++) {
        OK(f, pg_begin(&f->c, true, &f->err));
        insert(f, i);
        OK(f, pg_commit(&f->c, &f->err));
        pg_run(f->d.conn,
               "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'xtrace' "
               "AND datname = current_database()");
    }
    assert_int_equal(rows(f), 20);
    assert_int_equal(f->c.opened, 20);
}

int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transactions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_idle, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
