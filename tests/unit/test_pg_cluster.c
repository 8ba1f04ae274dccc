/* test_pg_cluster.c -- the cluster that the tests of the PostgreSQL engine run on. */
#include "pg_fixture.h"

/* Each test has a database of its own, which goes with it. */
static void databases(void **state) {
    (void)state;
    struct pg_database one, two;
    char name[64];
    pg_database_make(&one);
    pg_database_make(&two);
    pg_run(one.conn, "CREATE TABLE t(n int)");
    assert_int_equal(pg_number(one.conn, "SELECT count(*) FROM pg_class WHERE relname = 't'"), 1);
    assert_int_equal(pg_number(two.conn, "SELECT count(*) FROM pg_class WHERE relname = 't'"), 0);
    assert_int_equal(pg_number(two.conn, "SELECT nothing"), -1);
    memcpy(name, one.name, sizeof name);
    PGconn *other = pg_connect(one.url);
    pg_database_drop(&one);
    assert_int_equal(pg_number(other, "SELECT 1"), -1); /* thrown out */
    PQfinish(other);
    char sql[160];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_database WHERE datname = '%s'", name);
    assert_int_equal(pg_number(two.conn, sql), 0);
    pg_database_drop(&two);
    pg_database_drop(&two); /* again: nothing */
}

/* What the engine asks for: PostgreSQL 14 or newer, texts by bytes. */
static void a_fit_server(void **state) {
    (void)state;
    struct pg_database d;
    pg_database_make(&d);
    assert_true(PQserverVersion(d.conn) >= 140000);
    assert_string_equal(PQparameterStatus(d.conn, "server_encoding"), "UTF8");
    pg_database_drop(&d);
}

int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(databases),
        cmocka_unit_test(a_fit_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
