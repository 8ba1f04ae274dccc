/* test_pg_study.c -- dictionaries of a PostgreSQL store: trained, added, used by the servers that share it. */
#include "pg_fixture.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/postgres/engine.h"
#include "store/postgres/text.h"

/* Two servers of one database. */
struct fixture {
    struct pg_database d;
    struct store one, other;
    struct xt_err err;
};

#define OK(f, call)                                  \
    do {                                             \
        enum xt_code code_ = (call);                 \
        if (code_ != XT_OK)                          \
            fail_msg("%s: %s", #call, (f)->err.msg); \
    } while (0)

static void open_store(struct fixture *f, struct store *s) {
    struct store_conf conf = { .url = f->d.url, .readers = 2, .exclusive = true };
    *s = (struct store){ .ops = &store_postgres_ops };
    OK(f, s->ops->open(s, &conf, &f->err));
    OK(f, s->ops->migrate(s, &f->err));
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    pg_database_make(&f->d);
    open_store(f, &f->one);
    open_store(f, &f->other);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    store_close(&f->one);
    store_close(&f->other);
    pg_database_drop(&f->d);
    free(f);
    return 0;
}

/* ---- texts ---- */

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* A chat message: words that all of them share, and numbers of its own. */
static struct str chat(struct batch *b, uint64_t *seed) {
    static const char *const words[] = { "retrieval", "document", "answer", "context", "because", "summary",
                                         "latency",   "request",  "model",  "returns", "please",  "question" };
    struct buf t;
    buf_init(&t, 10000);
    buf_add_c(&t, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    for (int i = 0; i < 16; i++)
        buf_printf(&t, "%s %llu ", words[next_random(seed) % 12], (unsigned long long)(next_random(seed) % 100));
    buf_add_c(&t, "\"}],\"temperature\":0.7}");
    struct str s = arena_str(&b->arena, buf_str(&t));
    assert_true(str_has(s));
    buf_done(&t);
    return s;
}

/* One observation with an input in each of n traces, prepared by that server. */
static struct batch *prepared(struct fixture *f, struct store *s, int n, uint64_t seed) {
    struct batch *b = batch_new((size_t)1 << 28);
    assert_non_null(b);
    b->project = 1;
    b->default_label = STR_LIT("default");
    for (int i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "t%d", i);
        struct observation *o = batch_add_observation(b);
        assert_non_null(o);
        assert_true(id_from_text(&b->arena, str_c(id), &o->trace_id));
        o->id = o->trace_id;
        o->input = chat(b, &seed);
    }
    OK(f, s->ops->prepare(s, b, &f->err));
    return b;
}

static void add_row(struct fixture *f, struct pg_conn *c, int32_t week, int64_t pid, struct str z) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i32(&a, week);
    pg_arg_i64(&a, pid);
    pg_arg_bytes(&a, z);
    OK(f, pg_query(c, "INSERT INTO xtrace.payload(week, pid, n, z) VALUES ($1, $2, 1, $3)", &a, NULL, &f->err));
    pg_args_done(&a);
}

/* Stores the inputs of a batch as rows, over several weeks. */
static void store_inputs(struct fixture *f, struct store *s, const struct batch *b, int64_t pid) {
    struct pg_store *e = pg_of(s);
    OK(f, pg_writer_begin(e, &f->err));
    for (size_t i = 0; i < b->nobservations; i++) {
        const struct observation *o = &b->observations[i];
        assert_null(o->input_z.pack);
        add_row(f, &e->writer, (int32_t)i % 3, pid + (int64_t)i, str_has(o->input_z.z) ? o->input_z.z : o->input);
    }
    OK(f, pg_commit(&e->writer, &f->err));
    pg_rollback(&e->writer);
}

static size_t with_dictionary(const struct batch *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->nobservations; i++)
        n += str_has(b->observations[i].input_z.z) && b->observations[i].input_z.z.p[0] == 2;
    return n;
}

static size_t study(struct fixture *f, struct store *s, struct buf *lesson) {
    buf_init(lesson, 1 << 20);
    OK(f, s->ops->study(s, lesson, &f->err));
    return lesson->n;
}

/* Its own texts, read by the other server: through a page's load. */
static void expect_readable(struct fixture *f, struct store *s, const struct batch *b, int64_t pid) {
    struct pg_store *e = pg_of(s);
    struct pg_texts t;
    struct arena a;
    struct pg_conn *c = pg_reader_get(e, clock_mono_ns() + 10 * NS_PER_SEC, &f->err);
    assert_non_null(c);
    arena_init(&a, 1 << 26);
    pg_texts_init(&t, c, e->dicts);
    struct text_source from = pg_texts_source(&t);
    for (size_t i = 0; i < b->nobservations; i++)
        assert_true(pg_texts_want(&t, (int32_t)i % 3, pid + (int64_t)i));
    OK(f, pg_texts_load(&t, &f->err));
    for (size_t i = 0; i < b->nobservations; i++) {
        struct str got;
        OK(f, from.get(from.arg, &a, pid + (int64_t)i, &got, &f->err));
        assert_true(str_eq(got, b->observations[i].input));
    }
    pg_texts_done(&t);
    arena_done(&a);
    pg_reader_put(e, c);
}

/* ---- cases ---- */

static void trained_once_used_by_all(void **state) {
    struct fixture *f = *state;
    struct buf lesson;
    assert_int_equal(study(f, &f->one, &lesson), 0); /* nothing is there */
    struct batch *b = prepared(f, &f->one, 3500, 5);
    assert_int_equal(with_dictionary(b), 0);
    store_inputs(f, &f->one, b, 1000);
    assert_true(study(f, &f->one, &lesson) > 1000);
    struct buf again;
    assert_int_equal(study(f, &f->one, &again), 0); /* not due again */
    OK(f, f->one.ops->learn(&f->one, buf_str(&lesson), &f->err));
    assert_int_equal(pg_number(f->d.conn, "SELECT count(*) FROM xtrace.dict WHERE sum = sha256(z)"), 1);
    batch_free(b);

    b = prepared(f, &f->one, 300, 6);
    assert_true(with_dictionary(b) > 290);
    store_inputs(f, &f->one, b, 10000);
    expect_readable(f, &f->one, b, 10000);
    expect_readable(f, &f->other, b, 10000); /* which never wrote */
    batch_free(b);

    b = prepared(f, &f->other, 300, 7); /* it finds the dictionary when it begins to write */
    assert_true(with_dictionary(b) > 290);
    store_inputs(f, &f->other, b, 20000);
    expect_readable(f, &f->one, b, 20000);
    batch_free(b);
    assert_int_equal(
        pg_number(f->d.conn, "SELECT count(*) FROM xtrace.payload WHERE get_byte(z, 0) = 2"),
        pg_number(f->d.conn, "SELECT count(*) FROM xtrace.payload WHERE pid >= 10000 AND get_byte(z, 0) < 9"));
    buf_done(&lesson);
    buf_done(&again);
}

/* Rows that can't be read, and more than a slice may bring, are passed over. */
static void a_study_passes_over(void **state) {
    struct fixture *f = *state;
    struct buf lesson;
    struct batch *b = prepared(f, &f->one, 3500, 8);
    store_inputs(f, &f->one, b, 1000);
    batch_free(b);
    pg_run(f->d.conn, "INSERT INTO xtrace.payload(week, pid, n, z) SELECT 1, 1000000 + g, 1 + g % 3, '\\x0112' FROM "
                      "generate_series(1, 500) g");
    pg_run(f->d.conn,
           "INSERT INTO xtrace.payload(week, pid, n, z) SELECT 2, 2000000 + g, 1, "
           "(SELECT string_agg(md5((g * 100000 + i)::text), '') FROM generate_series(1, 90000) i)::bytea FROM "
           "generate_series(1, 5) g");
    assert_true(study(f, &f->one, &lesson) > 1000);
    buf_done(&lesson);
}

/* A dictionary that is not surely stored is not used. */
static void learning_fails(void **state) {
    struct fixture *f = *state;
    struct buf lesson;
    struct batch *b = prepared(f, &f->one, 3500, 9);
    store_inputs(f, &f->one, b, 1000);
    batch_free(b);
    assert_true(study(f, &f->one, &lesson) > 1000);
    pg_run(f->d.conn, "ALTER TABLE xtrace.dict RENAME TO elsewhere");
    assert_int_equal(f->one.ops->learn(&f->one, buf_str(&lesson), &f->err), XT_EUNAVAILABLE);
    b = prepared(f, &f->one, 100, 10);
    assert_int_equal(with_dictionary(b), 0);
    batch_free(b);
    /* Who can't ask for the newest one goes on without, and does not ask again at once. */
    b = prepared(f, &f->other, 100, 11);
    assert_int_equal(with_dictionary(b), 0);
    batch_free(b);
    pg_run(f->d.conn, "ALTER TABLE xtrace.elsewhere RENAME TO dict");
    OK(f, f->one.ops->learn(&f->one, buf_str(&lesson), &f->err));
    b = prepared(f, &f->one, 100, 12);
    assert_true(with_dictionary(b) > 90);
    batch_free(b);
    b = prepared(f, &f->other, 100, 13);
    assert_int_equal(with_dictionary(b), 0);
    batch_free(b);
    buf_done(&lesson);
}

/* Points that no store takes are refused before anything is compressed. */
static void points_are_looked_at(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_new((size_t)1 << 26);
    struct sample *p = batch_add_sample(b);
    assert_non_null(p);
    p->name = STR_LIT("latency");
    OK(f, f->one.ops->prepare(&f->one, b, &f->err));
    assert_true(b->samples[0].set_hash != 0);
    char *name = arena_bytes(&b->arena, 40 << 20);
    assert_non_null(name);
    memset(name, 'n', 40 << 20);
    b->samples[0].name = (struct str){ name, 40 << 20 };
    assert_int_equal(f->one.ops->prepare(&f->one, b, &f->err), XT_EREFUSED);
    batch_free(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = {
        TEST(trained_once_used_by_all),
        TEST(a_study_passes_over),
        TEST(learning_fails),
        TEST(points_are_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
