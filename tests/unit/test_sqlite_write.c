/* test_sqlite_write.c -- writing groups: stored forms of payloads, counters, refusals, damage. */
#include "sqlite_fixture.h"
#include "trace_fixture.h"

#include "store/sqlite/payload.h"

static int64_t rows(const struct fixture *f, const char *table) { return fixture_rows(f, table); }

/* ---- payloads ---- */

static struct str noise(struct batch *b, size_t n) { /* a JSON string that does not compress */
    char *p = arena_bytes(&b->arena, n + 2);
    uint64_t x = 88172645463325252u;
    assert_non_null(p);
    for (size_t i = 1; i <= n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (char)('#' + x % 57); /* neither quote nor backslash */
    }
    p[0] = p[n + 1] = '"';
    return (struct str){ p, n + 2 };
}

/* A stored form of every kind comes back; a damaged one is an error. */
static void payload_forms(void **state) {
    (void)state;
    struct codec k = { 0 };
    struct arena a;
    struct xt_err err;
    struct str z, back;
    arena_init(&a, 1 << 20);
    static const char zeros[1000];
    static const struct str texts[] = {
        { "", 0 }, { "\0\1\2", 3 }, { "\1x", 2 }, { "{}", 2 }, { zeros, sizeof zeros }
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_true(payload_encode(&k, &a, texts[i], &z));
        struct str stored = str_has(z) ? z : texts[i];
        assert_int_equal(payload_decode(&k, &a, stored, &back, &err), XT_OK);
        assert_int_equal(back.n, texts[i].n);
        assert_memory_equal(back.p, texts[i].p, back.n);
    }
    assert_true(payload_encode(&k, &a, texts[4], &z));
    assert_true(z.n < 100);
    for (size_t n = 1; n < z.n; n++) /* every truncation */
        assert_int_equal(payload_decode(&k, &a, (struct str){ z.p, n }, &back, &err), XT_ESTORE);
    static const struct str bad[] = {
        { "", 0 },
        { "\2abc", 4 },
        { "\x08", 1 },
        { "\1\x28\xb5\x2f\xfd", 5 },
        /* a frame that claims 4 GB */
        { "\1\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff\x01\x00\x00", 13 },
        /* and one that does not say how large it is */
        { "\1\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00", 10 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(payload_decode(&k, &a, bad[i], &back, &err), XT_ESTORE);
    codec_done(&k);
    arena_done(&a);
}

/* A record that SQLite refuses (a text beyond its limit) is refused as such; the group leaves nothing. */
static void refused(void **state) {
    struct fixture *f = *state;
    sqlite3_limit(engine_of(&f->store)->writer.db, SQLITE_LIMIT_LENGTH, 20000);
    struct batch *b = batch_at(1000);
    add_trace(b, "good");
    add_trace(b, "bad")->name = noise(b, 30000);
    struct batch_part p = whole(b);
    assert_int_equal(f->store.ops->write(&f->store, &p, 1, &f->err), XT_EREFUSED);
    assert_int_equal(rows(f, "trace"), 0);
    p.trace_to = 1;
    assert_int_equal(f->store.ops->write(&f->store, &p, 1, &f->err), XT_OK);
    p.trace_from = 1, p.trace_to = 2;
    assert_int_equal(f->store.ops->write(&f->store, &p, 1, &f->err), XT_EREFUSED);
    batch_free(b);
    sqlite3_limit(engine_of(&f->store)->writer.db, SQLITE_LIMIT_LENGTH, 1000000000);
    assert_int_equal(rows(f, "trace"), 1);
    assert_int_equal(fixture_query(f, "SELECT v FROM state WHERE k = 'next_tseq'"), 2);
    assert_sound(f);
}

/* A commit that failed may be on disk nevertheless: after one the counters are what the file says. */
static void counters_after_failure(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct batch *b = batch_at(1000), *bad = batch_at(1000);
    add_trace(b, "a")->input = text_in(b, "1");
    sqlite3_limit(e->writer.db, SQLITE_LIMIT_LENGTH, 20000);
    add_trace(bad, "bad")->name = noise(bad, 30000);
    struct batch_part p = whole(b), q = whole(bad);
    assert_int_equal(f->store.ops->write(&f->store, &q, 1, &f->err), XT_EREFUSED);
    batch_free(bad);
    assert_int_equal(conn_exec(&e->writer, "UPDATE state SET v = 70 WHERE k IN ('next_tseq', 'next_pid')", &f->err),
                     XT_OK);
    assert_int_equal(f->store.ops->write(&f->store, &p, 1, &f->err), XT_OK);
    batch_free(b);
    assert_int_equal(fixture_query(f, "SELECT max(tseq) FROM trace"), 70);
    assert_int_equal(fixture_query(f, "SELECT max(pid) FROM payload"), 70);
    assert_sound(f);
}

/* Damage in the file ends in an error, not in a crash, and harms no other record. */
static void damaged_rows(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    struct observation *o = add_obs(b, "t", "step");
    o->metadata = STR_LIT("{\"a\":1}");
    add_obs(b, "u", "step");
    write_one(f, b);
    static const char *const damage[] = {
        "UPDATE obs SET rest = x'0bff' WHERE tseq = 1",
        "UPDATE obs SET rest = NULL, spell = 3 WHERE tseq = 1",
        "UPDATE trace SET tags = '[\"a' WHERE tseq = 1",
        "UPDATE trace SET spell = 77, id_text = NULL WHERE tseq = 1",
        "DELETE FROM payload",
        "INSERT INTO payload VALUES (1, 1, x'0128b52ffd')",
        "UPDATE payload SET z = x''",
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct buf out;
        (void)fixture_query(f, damage[i]);
        buf_init(&out, 1 << 20);
        read_trace(f, 1, "t", &out);
        assert_has(&out, "failed: ");
        buf_clear(&out);
        read_trace(f, 1, "u", &out);
        assert_has(&out, "- step of=u");
        buf_clear(&out);
        assert_int_not_equal(f->store.ops->check(&f->store, true, &out, &f->err), XT_OK);
        buf_done(&out);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payload_forms),
        TEST(refused),
        TEST(counters_after_failure),
        TEST(damaged_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
