/* test_pg_text.c -- texts of a page in one statement; dictionaries as rows of a PostgreSQL database. */
#include "pg_fixture.h"

#include <zdict.h>

#include "base/clock.h"
#include "base/sha.h"
#include "store/postgres/migrations.h"
#include "store/postgres/text.h"

#define OK(f, call)                                                      \
    do {                                                                 \
        enum xt_code code_ = (call);                                     \
        if (code_ != XT_OK)                                              \
            fail_msg("%s: %s (%s)", #call, (f)->err.msg, (f)->c.detail); \
    } while (0)

struct fixture {
    struct pg_database d;
    struct pg_target *target;
    struct pg_conn c;
    struct dicts *dicts;
    struct arena a;
    struct xt_err err;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    pg_database_make(&f->d);
    pg_run(f->d.conn, "CREATE SCHEMA xtrace");
    pg_run(f->d.conn, postgres_migrations[0].sql);
    pg_run(f->d.conn, "SELECT xtrace.partitions_ensure(2900), xtrace.partitions_ensure(2901)");
    assert_int_equal(pg_target_new(f->d.url, &f->target, &f->err), XT_OK);
    pg_conn_init(&f->c, f->target, false);
    f->c.deadline = TIME_NONE;
    f->dicts = dicts_new();
    assert_non_null(f->dicts);
    arena_init(&f->a, (size_t)1 << 30);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    alloc_fail_at(0);
    pg_conn_done(&f->c);
    pg_target_free(f->target);
    dicts_free(f->dicts);
    arena_done(&f->a);
    pg_database_drop(&f->d);
    free(f);
    return 0;
}

/* ---- rows ---- */

static void add_row(struct fixture *f, int32_t week, int64_t pid, int64_t n, struct str z) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i32(&a, week);
    pg_arg_i64(&a, pid);
    pg_arg_i64(&a, n);
    pg_arg_bytes(&a, z);
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_query(&f->c, "INSERT INTO xtrace.payload(week, pid, n, z) VALUES ($1, $2, $3, $4)", &a, NULL, &f->err));
    OK(f, pg_commit(&f->c, &f->err));
    pg_args_done(&a);
}

/* What text number `pid` says: longer ones for higher numbers, and some that begin as stored forms do. */
static struct str text_of(struct fixture *f, int64_t pid) {
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_printf(&b, pid % 7 == 3 ? "\2%lld" : "{\"text\":%lld,\"words\":\"", (long long)pid);
    for (int64_t i = 0; i < pid % 90; i++)
        buf_printf(&b, "%lld apples and pears, ", (long long)i * (pid % 1000));
    buf_add_c(&b, "\"}");
    struct str s = arena_str(&f->a, buf_str(&b));
    assert_true(str_has(s));
    buf_done(&b);
    return s;
}

static void add_texts(struct fixture *f, int32_t week, int64_t pid, size_t n) {
    struct codec k = { .dicts = f->dicts };
    struct str texts[64], z;
    assert_true(n <= 64);
    for (size_t i = 0; i < n; i++)
        texts[i] = text_of(f, pid + (int64_t)i);
    if (n == 1) {
        assert_true(payload_encode(&k, &f->a, texts[0], &z));
        if (!str_has(z))
            z = texts[0];
    } else {
        assert_true(payload_encode_pack(&k, &f->a, texts, n, &z));
    }
    add_row(f, week, pid, (int64_t)n, z);
    codec_done(&k);
}

static const struct {
    int32_t week;
    int64_t pid;
    size_t n;
} page[] = {
    { 2900, 65536, 10 },       { 2900, 65546, 1 }, { 2900, 65547, 64 }, { 2901, 131072, 1 }, { 2901, 131073, 3 },
    { 2902, 196608, 2 },       { -7, 17, 1 },      { -7, 18, 20 },      { 2900, 262144, 1 }, { 2900, 262145, 40 },
    { 2901, INT64_MAX - 9, 9 }
};
#define PAGE (sizeof page / sizeof *page)

static void add_page(struct fixture *f) {
    for (size_t i = 0; i < PAGE; i++)
        add_texts(f, page[i].week, page[i].pid, page[i].n);
}

static void want_page(struct fixture *f, struct pg_texts *t) {
    (void)f;
    for (size_t i = PAGE; i-- > 0;)
        for (size_t j = 0; j < page[i].n; j++) {
            assert_true(pg_texts_want(t, page[i].week, page[i].pid + (int64_t)(page[i].n - 1 - j)));
            assert_true(pg_texts_want(t, page[i].week, page[i].pid));
            assert_true(pg_texts_want(t, page[i].week, 0));
        }
}

static void expect_text(struct fixture *f, struct pg_texts *t, int64_t pid) {
    struct text_source from = pg_texts_source(t);
    struct str got;
    OK(f, from.get(from.arg, &f->a, pid, &got, &f->err));
    struct str want = text_of(f, pid);
    if (!str_eq(got, want))
        fail_msg("text %lld is %.*s", (long long)pid, STR_FMT(got));
}

static void expect_page(struct fixture *f, struct pg_texts *t) {
    for (size_t i = 0; i < PAGE; i++)
        for (size_t j = 0; j < page[i].n; j++)
            expect_text(f, t, page[i].pid + (int64_t)j);
    for (size_t i = PAGE; i-- > 0;)
        expect_text(f, t, page[i].pid + (int64_t)page[i].n - 1);
}

/* All that was wanted is in the answer: nothing more is asked of the database, which is gone when the texts are got. */
static void a_page_is_one_statement(void **state) {
    struct fixture *f = *state;
    struct pg_texts t;
    add_page(f);
    pg_texts_init(&t, &f->c, f->dicts);
    OK(f, pg_begin(&f->c, false, &f->err));
    OK(f, pg_texts_load(&t, &f->err)); /* nothing */
    want_page(f, &t);
    OK(f, pg_texts_load(&t, &f->err));
    assert_int_equal(PQntuples(t.rows), PAGE);
    pg_close(&f->c);
    uint64_t opened = f->c.opened;
    expect_page(f, &t);
    assert_int_equal(f->c.opened, opened);
    pg_texts_done(&t);
}

/* Rows beyond the bytes that a load may bring come when they are asked for. */
static void large_ones_come_late(void **state) {
    static const int64_t most[] = { 0, 300, 900 };
    struct fixture *f = *state;
    add_page(f);
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        struct pg_texts t;
        int left_out = 0;
        pg_texts_init(&t, &f->c, f->dicts);
        t.most = most[i];
        OK(f, pg_begin(&f->c, false, &f->err));
        want_page(f, &t);
        OK(f, pg_texts_load(&t, &f->err));
        for (int row = 0; row < PQntuples(t.rows); row++)
            left_out += pg_is_null(t.rows, row, 3);
        assert_true(left_out > 0 && (most[i] == 0) == (left_out == (int)PAGE));
        expect_page(f, &t);
        pg_rollback(&f->c);
        pg_texts_done(&t);
    }
}

/* A load forgets the one before. */
static void loads_follow_each_other(void **state) {
    struct fixture *f = *state;
    struct pg_texts t;
    struct str got;
    add_page(f);
    pg_texts_init(&t, &f->c, f->dicts);
    struct text_source from = pg_texts_source(&t);
    OK(f, pg_begin(&f->c, false, &f->err));
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < PAGE; i++) {
            assert_true(pg_texts_want(&t, page[i].week, page[i].pid));
            OK(f, pg_texts_load(&t, &f->err));
            assert_int_equal(PQntuples(t.rows), 1);
            expect_text(f, &t, page[i].pid);
        }
    assert_int_equal(from.get(from.arg, &f->a, 17, &got, &f->err), XT_ESTORE);
    OK(f, from.get(from.arg, &f->a, 0, &got, &f->err));
    assert_false(str_has(got));
    pg_rollback(&f->c);
    pg_texts_done(&t);
}

static void expect_damage(struct fixture *f, int32_t week, int64_t pid, const char *message) {
    struct pg_texts t;
    struct str got;
    pg_texts_init(&t, &f->c, f->dicts);
    struct text_source from = pg_texts_source(&t);
    OK(f, pg_begin(&f->c, false, &f->err));
    assert_true(pg_texts_want(&t, week, pid));
    OK(f, pg_texts_load(&t, &f->err));
    assert_int_equal(from.get(from.arg, &f->a, pid, &got, &f->err), XT_ESTORE);
    assert_string_equal(f->err.msg, message);
    assert_false(str_has(got));
    pg_rollback(&f->c);
    pg_texts_done(&t);
}

static void what_is_missing_or_damaged(void **state) {
    struct fixture *f = *state;
    const char *plain = "a stored text is damaged";
    add_texts(f, 2900, 100, 5);
    expect_damage(f, 2900, 99, plain);
    expect_damage(f, 2900, 105, plain);
    expect_damage(f, 2901, 100, plain); /* not in that week */
    expect_damage(f, 7, 100, plain);
    expect_damage(f, 2900, -1, plain);
    expect_damage(f, 2900, INT64_MAX, plain);
    add_row(f, 2900, 200, 1, STR_LIT("\1not a frame"));
    add_row(f, 2900, 201, 1, STR_LIT(""));
    add_row(f, 2900, 202, 1, STR_LIT("\3\1\1ab"));
    add_row(f, 2900, 300, 3, STR_LIT("\3\1\1\1\0ab"));
    add_row(f, 2900, 310, 3, STR_LIT("{}"));
    add_row(f, 2900, 400, 0, STR_LIT("{}"));
    add_row(f, 2900, 401, -5, STR_LIT("{}"));
    add_row(f, 2900, 500, 2000000000, STR_LIT("{}"));
    for (int64_t pid = 200; pid <= 202; pid++)
        expect_damage(f, 2900, pid, plain);
    expect_damage(f, 2900, 301, plain);
    expect_damage(f, 2900, 312, plain);
    expect_damage(f, 2900, 400, plain);
    expect_damage(f, 2900, 401, plain);
    expect_damage(f, 2900, 500, plain);
    expect_damage(f, 2900, 50000, plain);
}

/* ---- dictionaries ---- */

static struct str train(struct fixture *f) {
    size_t sizes[400], n = 0;
    struct buf b;
    buf_init(&b, 1 << 22);
    for (size_t i = 0; i < 400; i++) {
        struct str s = text_of(f, (int64_t)(i * 17 % 400));
        buf_add_str(&b, s);
        sizes[i] = s.n;
    }
    char *z = arena_bytes(&f->a, 8192);
    assert_non_null(z);
    n = ZDICT_trainFromBuffer(z, 8192, b.p, sizes, 400);
    assert_false(ZDICT_isError(n));
    buf_done(&b);
    return (struct str){ z, n };
}

static void add_dict(struct fixture *f, int64_t number, struct str z, bool sound) {
    uint8_t sum[SHA256_BYTES];
    struct pg_args a;
    assert_true(sha256(z, sum));
    sum[5] ^= sound ? 0 : 1;
    pg_args_init(&a);
    pg_arg_i64(&a, number);
    pg_arg_bytes(&a, z);
    pg_arg_bytes(&a, (struct str){ (const char *)sum, sizeof sum });
    OK(f, pg_begin(&f->c, true, &f->err));
    OK(f, pg_query(&f->c, "INSERT INTO xtrace.dict(id, created, z, sum) VALUES ($1, 0, $2, $3)", &a, NULL, &f->err));
    OK(f, pg_commit(&f->c, &f->err));
    pg_args_done(&a);
}

/* Another server wrote with a dictionary that this one never saw. */
static void dictionaries_of_others(void **state) {
    struct fixture *f = *state;
    struct str z = train(f);
    struct pg_texts t;
    add_dict(f, 3, z, true);
    add_dict(f, 4, z, false);
    for (int64_t number = 3; number <= 5; number++) {
        struct dicts *mine = f->dicts;
        f->dicts = dicts_new(); /* the other server's */
        assert_true(dicts_use(f->dicts, number, z));
        add_texts(f, 2900, number * 1000 + 5, 1);
        add_texts(f, 2901, number * 1000 + 6, 4);
        dicts_free(f->dicts);
        f->dicts = mine;
    }
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM xtrace.payload WHERE get_byte(z, 0) = 2"), 3);
    pg_texts_init(&t, &f->c, f->dicts);
    OK(f, pg_begin(&f->c, false, &f->err));
    assert_true(pg_texts_want(&t, 2900, 3005) && pg_texts_want(&t, 2901, 3007) && pg_texts_want(&t, 2901, 3009));
    OK(f, pg_texts_load(&t, &f->err));
    expect_text(f, &t, 3009);
    expect_text(f, &t, 3005);
    expect_text(f, &t, 3007);
    pg_rollback(&f->c);
    pg_texts_done(&t);
    expect_damage(f, 2900, 4005, "a stored text is damaged: its dictionary 4 is damaged");
    expect_damage(f, 2900, 5005, "a stored text is damaged: its dictionary 5 is missing");
}

static void the_newest_dictionary(void **state) {
    struct fixture *f = *state;
    struct dict_source from = pg_dict_source(&f->c);
    struct str z = train(f);
    OK(f, pg_begin(&f->c, false, &f->err));
    dicts_load_current(f->dicts, &from);
    assert_null(dicts_current(f->dicts));
    pg_rollback(&f->c);
    add_dict(f, 8, z, true);
    add_dict(f, 7, z, true);
    struct dicts *other = dicts_new();
    OK(f, pg_begin(&f->c, false, &f->err));
    dicts_load_current(other, &from);
    assert_non_null(dicts_current(other));
    assert_int_equal(dicts_current(other)->number, 8);
    pg_rollback(&f->c);
    dicts_free(other);
}

/* ---- trouble ---- */

/* Every allocation fails once: the answer is right or says so. */
static void without_memory(void **state) {
    struct fixture *f = *state;
    bool whole = false;
    add_page(f);
    for (uint64_t n = 1; !whole && n < 200; n++) {
        struct pg_texts t;
        struct str got = STR_NONE;
        pg_texts_init(&t, &f->c, f->dicts);
        struct text_source from = pg_texts_source(&t);
        enum xt_code code = pg_begin(&f->c, false, &f->err);
        alloc_fail_at(n);
        bool wanted = true;
        for (size_t i = 0; i < PAGE; i++)
            wanted = wanted && pg_texts_want(&t, page[i].week, page[i].pid);
        if (code == XT_OK && wanted)
            code = pg_texts_load(&t, &f->err);
        for (size_t i = 0; i < PAGE && code == XT_OK && wanted; i++) {
            code = from.get(from.arg, &f->a, page[i].pid, &got, &f->err);
            alloc_fail_at(code == XT_OK ? 0 : n);
            whole = code == XT_OK && i + 1 == PAGE;
            if (code == XT_OK)
                assert_true(str_eq(got, text_of(f, page[i].pid)));
        }
        alloc_fail_at(0);
        assert_true(whole || !wanted || code == XT_ENOMEM);
        f->a.failed = false;
        pg_rollback(&f->c);
        pg_texts_done(&t);
    }
    assert_true(whole);
}

/* A database that went away between two loads. */
static void the_connection_breaks(void **state) {
    struct fixture *f = *state;
    struct pg_texts t;
    add_page(f);
    pg_texts_init(&t, &f->c, f->dicts);
    OK(f, pg_begin(&f->c, false, &f->err));
    assert_true(pg_texts_want(&t, 2900, 65536));
    OK(f, pg_texts_load(&t, &f->err));
    pg_run(f->d.conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
                      "datname = current_database()");
    want_page(f, &t);
    assert_int_equal(pg_texts_load(&t, &f->err), XT_EUNAVAILABLE);
    pg_rollback(&f->c);
    OK(f, pg_begin(&f->c, false, &f->err));
    want_page(f, &t);
    OK(f, pg_texts_load(&t, &f->err));
    expect_page(f, &t);
    pg_rollback(&f->c);
    pg_texts_done(&t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = {
        TEST(a_page_is_one_statement), TEST(large_ones_come_late),
        TEST(loads_follow_each_other), TEST(what_is_missing_or_damaged),
        TEST(dictionaries_of_others),  TEST(the_newest_dictionary),
        TEST(without_memory),          TEST(the_connection_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
