/* test_sqlite_engine.c -- opening, refusing, locking, migrating, readers, checkpoints, values. */
#include "sqlite_fixture.h"

#include "store/sqlite/checkpoint.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>

#include "store/sqlite/migrations.h"

/* ---- URLs ---- */

static void urls(void **state) {
    (void)state;
    static const struct {
        const char *url, *path; /* NULL: refused */
    } cases[] = {
        { "sqlite:data/x.db", "./data/x.db" },
        { "sqlite:/var/x.db", "/var/x.db" },
        { "sqlite:///var/x.db", "/var/x.db" },
        { "sqlite://x.db", "./x.db" },
        { "sqlite::memory:", "./:memory:" },
        { "sqlite:file:x?mode=memory", "./file:x?mode=memory" },
        { "sqlite:", NULL },
        { "sqlite:/var/", NULL },
        { "sqlite://", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = NULL;
        struct xt_err err;
        enum xt_code code = url_to_path(cases[i].url, &path, &err);
        assert_int_equal(code, cases[i].path ? XT_OK : XT_EINVAL);
        if (cases[i].path)
            assert_string_equal(path, cases[i].path);
        free(path);
    }
    static const char *const foreign[] = { "mysql://u:secret@h/d", "x.db", "", "SQLITE:x" };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        struct store s;
        struct store_conf conf = { .url = foreign[i], .readers = 1 };
        struct xt_err err;
        assert_int_equal(store_open(&s, &conf, &err), XT_EINVAL);
        assert_null(strstr(err.msg, "secret"));
        store_close(&s);
    }
}

/* ---- files ---- */

static mode_t mode_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void creates_directory_and_file(void **state) {
    struct fixture *f = *state;
    snprintf(f->url, sizeof f->url, "sqlite:%s/a/b/data/xtrace.db", f->dir);
    snprintf(f->path, sizeof f->path, "%s/a/b/data/xtrace.db", f->dir);
    mode_t old = umask(0);
    fixture_open(f);
    umask(old);
    assert_int_equal(mode_of(f->path), 0600);
    char name[300];
    snprintf(name, sizeof name, "%s-wal", f->path);
    assert_int_equal(mode_of(name), 0600);
    snprintf(name, sizeof name, "%s/a/b/data", f->dir);
    assert_int_equal(mode_of(name), 0700);
    snprintf(name, sizeof name, "%s/a/b/data/xtrace.lock", f->dir);
    assert_int_equal(mode_of(name), 0600);
    assert_int_equal(fixture_query(f, "PRAGMA user_version"), (int)sqlite_migration_count);
    struct store_stats stats;
    f->store.ops->stats(&f->store, &stats);
    assert_true(stats.file_bytes >= 4096 && stats.wal_bytes > 0);
    /* An orderly stop leaves one complete file. */
    store_close(&f->store);
    snprintf(name, sizeof name, "%s-wal", f->path);
    assert_int_not_equal(access(name, F_OK), 0);
}

static void settings(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    static const struct {
        const char *sql, *want;
    } cases[] = {
        { "PRAGMA journal_mode", "wal" },  { "PRAGMA synchronous", "2" },        { "PRAGMA foreign_keys", "0" },
        { "PRAGMA mmap_size", "0" },       { "PRAGMA trusted_schema", "0" },     { "PRAGMA temp_store", "2" },
        { "PRAGMA cell_size_check", "1" }, { "PRAGMA wal_autocheckpoint", "0" }, { "PRAGMA page_size", "4096" },
    };
    struct conn *reader = reader_get(e, TIME_NONE, &f->err);
    assert_non_null(reader);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < 2; k++) {
            sqlite3_stmt *st = NULL;
            assert_int_equal(sqlite3_prepare_v2(k ? reader->db : e->writer.db, cases[i].sql, -1, &st, NULL), SQLITE_OK);
            assert_int_equal(sqlite3_step(st), SQLITE_ROW);
            assert_string_equal(sqlite3_column_text(st, 0), cases[i].want);
            sqlite3_finalize(st);
        }
    }
    assert_int_equal(conn_exec(reader, "DELETE FROM state", &f->err), XT_EUNAVAILABLE);
    reader_put(e, reader);
    /* The schema is out of reach even of SQL that slipped in. */
    assert_int_not_equal(conn_exec(&e->writer, "PRAGMA writable_schema=ON; DELETE FROM sqlite_schema", &f->err), XT_OK);
}

static void second_server_is_refused(void **state) {
    struct fixture *f = *state;
    struct store second;
    struct store_conf conf = fixture_conf(f, true);
    struct xt_err err;
    assert_int_equal(store_open(&second, &conf, &err), XT_ECONFLICT);
    char want[300];
    snprintf(want, sizeof want, "data directory %s/data is in use by another xtrace server", f->dir);
    assert_string_equal(err.msg, want);
    /* Beside it: keys, backup, check. */
    conf.exclusive = false;
    assert_int_equal(store_open(&second, &conf, &err), XT_OK);
    assert_int_equal(second.ops->migrate(&second, &err), XT_OK);
    assert_int_equal(second.ops->ping(&second, &err), XT_OK);
    store_close(&second);
    conf.read_only = true;
    assert_int_equal(store_open(&second, &conf, &err), XT_OK);
    assert_int_equal(second.ops->migrate(&second, &err), XT_OK);
    int64_t number = 0;
    assert_int_equal(second.ops->project_open(&second, STR_LIT("new"), &number, &err), XT_EUNAVAILABLE);
    store_close(&second);
    assert_int_equal(f->store.ops->probe(&f->store, &f->err), XT_OK);
    /* The lock goes with the store. */
    store_close(&f->store);
    conf.read_only = false;
    conf.exclusive = true;
    assert_int_equal(store_open(&second, &conf, &err), XT_OK);
    store_close(&second);
}

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(out);
}

/* Whatever stands where the database should be ends in one clear line. */
static void refuses(void **state) {
    struct fixture *f = *state;
    char dir[160], name[300];
    snprintf(dir, sizeof dir, "%s/data", f->dir);
    /* The directory is a file. */
    write_file(dir, "x", 1);
    assert_int_equal(fixture_try(f, true), XT_EUNAVAILABLE);
    assert_non_null(strstr(f->err.msg, "Not a directory"));
    unlink(dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    /* The database is a directory, the lock is one. */
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(fixture_try(f, true), XT_EINVAL);
    assert_int_equal(rmdir(f->path), 0);
    snprintf(name, sizeof name, "%s/xtrace.lock", dir);
    unlink(name);
    assert_int_equal(mkdir(name, 0700), 0);
    assert_int_equal(fixture_try(f, true), XT_EUNAVAILABLE);
    rmdir(name);
    /* Not a database; another program's database; a newer one. */
    char text[8192];
    memset(text, 'x', sizeof text);
    write_file(f->path, text, sizeof text);
    assert_int_equal(fixture_try(f, true), XT_ESTORE);
    assert_non_null(strstr(f->err.msg, "is not a database"));
    store_close(&f->store);
    unlink(f->path);
    assert_int_equal(fixture_query(f, "CREATE TABLE t(x)"), -1); /* no such file: not created */
    write_file(f->path, "", 0);
    fixture_query(f, "CREATE TABLE t(x)");
    assert_int_equal(fixture_try(f, true), XT_EINVAL);
    assert_non_null(strstr(f->err.msg, "another program"));
    store_close(&f->store);
    unlink(f->path);
    fixture_open(f);
    store_close(&f->store);
    fixture_query(f, "PRAGMA user_version=99");
    assert_int_equal(fixture_try(f, true), XT_ECONFLICT);
    assert_non_null(strstr(f->err.msg, "newer xtrace (schema 99, this program knows"));
    store_close(&f->store);
    fixture_query(f, "PRAGMA user_version=1");
    fixture_query(f, "UPDATE state SET v = x'00' WHERE k = 'hash_key' RETURNING 1");
    assert_int_equal(fixture_try(f, true), XT_ESTORE);
    assert_non_null(strstr(f->err.msg, "hash key"));
    /* Read only, and nothing there. */
    store_close(&f->store);
    unlink(f->path);
    struct store_conf conf = fixture_conf(f, false);
    conf.read_only = true;
    assert_int_equal(store_open(&f->store, &conf, &f->err), XT_ENOTFOUND);
    assert_int_not_equal(access(f->path, F_OK), 0);
    write_file(f->path, "", 0);
    assert_int_equal(store_open(&f->store, &conf, &f->err), XT_OK);
    assert_int_equal(f->store.ops->migrate(&f->store, &f->err), XT_ECONFLICT);
    assert_non_null(strstr(f->err.msg, "xtrace migrate"));
}

static bool any_name(void *arg, struct str name) {
    (void)arg;
    (void)name;
    return true;
}

/* Random damage: refusal or service, never a crash (sanitizers look on). */
static void damaged_files(void **state) {
    struct fixture *f = *state;
    struct batch *b = sample_batch(1);
    for (int i = 0; i < 3000; i++) {
        char label[40];
        snprintf(label, sizeof label, "id=%d", i % 500);
        sample_add(b, i % 2 ? "m" : "n", label, i * NS_PER_SEC, i);
    }
    samples_store(f, b);
    store_close(&f->store);
    FILE *in = fopen(f->path, "rb");
    assert_non_null(in);
    static char whole[4 << 20], hurt[4 << 20];
    size_t size = fread(whole, 1, sizeof whole, in);
    fclose(in);
    assert_true(size > 40000 && size < sizeof whole);
    uint64_t seed = 42;
    int refused = 0;
    for (int round = 0; round < 150; round++) {
        memcpy(hurt, whole, size);
        size_t n = size;
        for (int k = 0; k < 1 + round % 40; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t at = (size_t)(seed >> 20) % (round % 3 == 0 ? 8192 : size);
            hurt[at] = (char)(seed >> 56);
        }
        if (round % 5 == 0)
            n = (size_t)(seed >> 24) % size;
        write_file(f->path, hurt, n);
        if (fixture_try(f, true) != XT_OK) {
            assert_true(f->err.msg[0] != '\0');
            refused++;
        } else {
            char out[2000];
            struct series_query q = series_of_name("m");
            series_read_text(f, &q, out, sizeof out);
            f->store.ops->metric_names(&f->store, 1, TIME_NONE, any_name, NULL, &f->err);
            b = sample_batch(1);
            sample_add(b, "m", "id=7", 1, 1);
            samples_commit(f, b);
            batch_free(b);
            struct buf report;
            buf_init(&report, 1 << 20);
            f->store.ops->check(&f->store, true, &report, &f->err);
            buf_done(&report);
            bool more;
            sqlite_retain_samples(engine_of(&f->store), 100 * NS_PER_SEC, &more, &f->err);
        }
        store_close(&f->store);
        char name[300];
        snprintf(name, sizeof name, "%s-wal", f->path);
        unlink(name);
        snprintf(name, sizeof name, "%s-shm", f->path);
        unlink(name);
    }
    assert_true(refused > 10);
}

/* ---- migrations ---- */

static void *migrate_thread(void *arg) {
    struct fixture *f = arg;
    struct store s;
    struct store_conf conf = fixture_conf(f, false);
    struct xt_err err = { 0 };
    enum xt_code code = store_open(&s, &conf, &err);
    if (code == XT_OK)
        code = s.ops->migrate(&s, &err);
    if (code != XT_OK)
        print_message("migrate: %s\n", err.msg);
    store_close(&s);
    return code == XT_OK ? NULL : f;
}

static void many_start_at_once(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 5; round++) {
        snprintf(f->url, sizeof f->url, "sqlite:%s/r%d/xtrace.db", f->dir, round);
        snprintf(f->path, sizeof f->path, "%s/r%d/xtrace.db", f->dir, round);
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, migrate_thread, f), 0);
        for (int i = 0; i < 4; i++) {
            void *failed;
            pthread_join(threads[i], &failed);
            assert_null(failed);
        }
        assert_int_equal(fixture_query(f, "PRAGMA user_version"), (int)sqlite_migration_count);
        assert_int_equal(fixture_query(f, "SELECT count(*) FROM state WHERE k = 'hash_key'"), 1);
    }
}

static void migration_is_repeatable(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    uint64_t key[2] = { e->hash_key[0], e->hash_key[1] };
    assert_true(key[0] != 0 || key[1] != 0);
    assert_int_equal(f->store.ops->migrate(&f->store, &f->err), XT_OK);
    fixture_reopen(f);
    e = engine_of(&f->store);
    assert_true(e->hash_key[0] == key[0] && e->hash_key[1] == key[1]);
}

/* ---- readers ---- */

static void readers(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct conn *a = reader_get(e, TIME_NONE, &f->err), *b = reader_get(e, TIME_NONE, &f->err);
    assert_true(a && b && a != b);
    /* None is free: the third waits until its deadline; ping has its own. */
    int64_t start = clock_mono_ns();
    assert_null(reader_get(e, start + 30000000, &f->err));
    assert_int_equal(f->err.code, XT_ETIMEOUT);
    assert_true(clock_mono_ns() - start >= 30000000);
    assert_int_equal(f->store.ops->ping(&f->store, &f->err), XT_OK);
    /* A reader comes back clean, whatever was left running. */
    assert_int_equal(conn_begin(a, false, &f->err), XT_OK);
    sqlite3_stmt *st = conn_stmt(a, SQL_MNAME_LIST, &f->err);
    assert_non_null(st);
    sqlite3_step(st);
    reader_put(e, a);
    struct conn *again = reader_get(e, TIME_NONE, &f->err);
    assert_ptr_equal(again, a);
    assert_true(sqlite3_get_autocommit(again->db));
    reader_put(e, again);
    reader_put(e, b);
    struct store_stats stats;
    f->store.ops->stats(&f->store, &stats);
    assert_int_equal(stats.reads, 4);
    assert_int_equal(stats.read_timeouts, 1);
    assert_int_equal(stats.read_errors, 0);
}

static void deadline_ends_a_query(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    struct conn *c = reader_get(e, clock_mono_ns() + 20000000, &f->err);
    assert_non_null(c);
    int64_t start = clock_mono_ns();
    enum xt_code code =
        conn_exec(c, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", &f->err);
    assert_int_equal(code, XT_ETIMEOUT);
    assert_true(clock_mono_ns() - start < 2 * NS_PER_SEC);
    reader_put(e, c);
    c = reader_get(e, TIME_NONE, &f->err);
    assert_int_equal(conn_exec(c, "SELECT count(*) FROM state", &f->err), XT_OK);
    reader_put(e, c);
    struct store_stats stats;
    f->store.ops->stats(&f->store, &stats);
    assert_int_equal(stats.read_timeouts, 1);
}

struct load {
    struct fixture *f;
    _Atomic bool stop;
    _Atomic int pings;
};
static void *ping_thread(void *arg) {
    struct load *l = arg;
    struct xt_err err;
    while (!l->stop) {
        if (l->f->store.ops->ping(&l->f->store, &err) != XT_OK)
            return l;
        l->pings++;
    }
    return NULL;
}

/* Readers, pings and the writer at once: for the thread sanitizer, and no read fails because of a write. */
static void side_by_side(void **state) {
    struct fixture *f = *state;
    struct load l = { .f = f };
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ping_thread, &l), 0);
    for (int i = 0; i < 100 || l.pings < 100; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", "", i, 1);
        samples_store(f, b);
        f->store.ops->tidy(&f->store);
    }
    l.stop = true;
    for (int i = 0; i < 3; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

/* ---- checkpoints ---- */

static int64_t wal_bytes(struct fixture *f) {
    struct store_stats stats;
    f->store.ops->stats(&f->store, &stats);
    return stats.wal_bytes;
}

static void fill(struct fixture *f, int frames) {
    struct sqlite_store *e = engine_of(&f->store);
    assert_int_equal(conn_begin(&e->writer, true, &f->err), XT_OK);
    char sql[160];
    snprintf(sql, sizeof sql, "INSERT INTO payload(n, z) VALUES (1, zeroblob(%d)); DELETE FROM payload", frames * 4080);
    assert_int_equal(conn_exec(&e->writer, sql, &f->err), XT_OK);
    assert_int_equal(conn_commit(&e->writer, &f->err), XT_OK);
}

/* A group of so many pages, and what the server does after it. With `settle` the thread has done its part. */
static void group_of(struct fixture *f, int frames, bool settle) {
    fill(f, frames);
    f->store.ops->tidy(&f->store);
    if (settle) {
        checkpoint_settle(engine_of(&f->store)->ckpt);
        f->store.ops->tidy(&f->store);
    }
}

static struct store_stats stats_of(struct fixture *f) {
    struct store_stats stats;
    f->store.ops->stats(&f->store, &stats);
    return stats;
}

static void log_stays_bounded(void **state) {
    struct fixture *f = *state;
    const struct checkpoint *k = engine_of(&f->store)->ckpt;
    const int step = CHECKPOINT_FRAMES / 4;
    for (int i = 0; i < 30; i++)
        group_of(f, step, i % 2);
    assert_true(checkpoint_frames(k) < 3 * CHECKPOINT_FRAMES);
    assert_true(wal_bytes(f) < INT64_C(3) * CHECKPOINT_FRAMES * 4120);
    assert_true(stats_of(f).checkpoints >= 2);
    /* An old snapshot keeps the log from starting over; once it is gone the log does, and shrinks. */
    struct conn *c = reader_get(engine_of(&f->store), TIME_NONE, &f->err);
    assert_int_equal(conn_begin(c, false, &f->err), XT_OK);
    assert_int_equal(conn_exec(c, "SELECT count(*) FROM state", &f->err), XT_OK);
    int64_t longest = 0;
    uint64_t before = stats_of(f).checkpoints;
    for (int i = 0; i < 25; i++) {
        fill(f, step);
        int64_t start = clock_mono_ns();
        f->store.ops->tidy(&f->store);
        int64_t took = clock_mono_ns() - start;
        longest = took > longest ? took : longest;
        checkpoint_settle(engine_of(&f->store)->ckpt);
    }
    assert_true(checkpoint_frames(k) >= 25 * step);
    assert_int_equal(stats_of(f).checkpoints, before);
    reader_put(engine_of(&f->store), c);
    for (int i = 0; i < 6; i++)
        group_of(f, step, true);
    assert_true(checkpoint_frames(k) < 3 * CHECKPOINT_FRAMES);
    assert_true(wal_bytes(f) < (int64_t)100 << 20);
    assert_int_equal(stats_of(f).checkpoint_errors, 0);
    print_message("longest tidy under an old snapshot: %lld ms\n", (long long)(longest / 1000000));
}

/* Groups, reads and checkpoints at once: for the thread sanitizer, and everything is in one file afterwards. */
static void checkpoints_beside(void **state) {
    struct fixture *f = *state;
    struct load l = { .f = f };
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ping_thread, &l), 0);
    int n = 0;
    for (; n < 2000 && stats_of(f).checkpoints < 3; n++) {
        group_of(f, CHECKPOINT_FRAMES / 10, false);
        struct batch *b = sample_batch(1);
        sample_add(b, "m", "", n, 1);
        samples_store(f, b);
    }
    l.stop = true;
    for (int i = 0; i < 2; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(stats_of(f).checkpoints >= 3);
    char name[220];
    snprintf(name, sizeof name, "%s-wal", f->path);
    store_close(&f->store);
    assert_int_not_equal(access(name, F_OK), 0);
    fixture_open(f);
    assert_int_equal(fixture_points_in_file(f), n);
}

/* Neither thread nor connection before there is something to do. */
static void nothing_at_first(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++)
        group_of(f, 1, true);
    assert_int_equal(stats_of(f).checkpoints, 0);
    checkpoint_settle(engine_of(&f->store)->ckpt); /* returns: nobody is at it */
}

static void probe(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(f->store.ops->probe(&f->store, &f->err), XT_OK);
    assert_int_equal(fixture_query(f, "SELECT v FROM state WHERE k = 'probe'"), 3);
}

/* Another process holds the write lock: told within the writer's wait, usable afterwards. */
static void locked_by_another(void **state) {
    struct fixture *f = *state;
    struct sqlite_store *e = engine_of(&f->store);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    e->writer.busy_ns = 20000000;
    assert_int_equal(f->store.ops->probe(&f->store, &f->err), XT_EUNAVAILABLE);
    assert_int_equal(f->store.ops->ping(&f->store, &f->err), XT_OK);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_int_equal(f->store.ops->probe(&f->store, &f->err), XT_OK);
}

/* ---- values ---- */

static void sums(void **state) {
    (void)state;
    const __int128 unit = (__int128)1000000000000000000;
    const __int128 cases[] = { 0,
                               1,
                               -1,
                               unit,
                               -unit,
                               unit - 1,
                               1 - unit,
                               unit * 5 + 7,
                               -unit * 5 - 7,
                               unit * INT64_MAX + unit - 1,
                               unit * INT64_MIN };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t hi, lo;
        sum_split(cases[i], &hi, &lo);
        assert_true(lo >= 0 && lo < (int64_t)unit);
        assert_true(sum_join(hi, lo) == cases[i]);
    }
    int64_t hi, lo;
    sum_split(unit * INT64_MAX + unit, &hi, &lo);
    assert_true(hi == INT64_MAX && lo == (int64_t)unit - 1);
    sum_split(unit * INT64_MIN - 1, &hi, &lo);
    assert_true(hi == INT64_MIN && lo == 0);
}

/* Values of an independent SipHash-2-4: stored hashes must mean the same on every machine and in every version. */
static void hashes(void **state) {
    (void)state;
    struct sqlite_store e = { .hash_key = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) } };
    static const char bytes[] = "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c";
    static const struct {
        size_t n;
        uint64_t hash;
    } cases[] = {
        { 0, UINT64_C(0x65690ae10391ae19) },
        { 3, UINT64_C(0xc2dd7cbad6b20b27) },
        { 8, UINT64_C(0xa7b95a95e76c6d5d) },
        { 13, UINT64_C(0x0b93c65814012ed4) },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t got = key_hash(&e, 0x03020100, INT64_C(0x0f0e0d0c0b0a0908), (struct str){ bytes, cases[i].n });
        assert_true((uint64_t)got == cases[i].hash);
    }
}

static void binding(void **state) {
    struct fixture *f = *state;
    struct conn *c = &engine_of(&f->store)->writer;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_prepare_v2(c->db, "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7", -1, &st, NULL), SQLITE_OK);
    bind_str(st, 1, STR_NONE);
    bind_str(st, 2, STR_LIT(""));
    bind_str(st, 3, (struct str){ "a\0b", 3 });
    bind_blob(st, 4, STR_LIT(""));
    bind_time(st, 5, TIME_NONE);
    bind_f64(st, 6, (double)NAN);
    bind_f64(st, 7, -0.0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_false(str_has(col_str(st, 0)));
    assert_true(str_has(col_str(st, 1)) && col_str(st, 1).n == 0);
    assert_true(str_eq(col_str(st, 2), (struct str){ "a\0b", 3 }));
    assert_true(str_has(col_blob(st, 3)) && col_blob(st, 3).n == 0);
    assert_true(col_time(st, 4) == TIME_NONE);
    assert_true(isnan(col_f64(st, 5)) && col_f64(st, 6) == 0);
    sqlite3_finalize(st);
    /* Longer than SQLite takes: the row is refused, not stored without it. */
    sqlite3_limit(c->db, SQLITE_LIMIT_LENGTH, 100);
    st = conn_stmt(c, SQL_MNAME_ADD, &f->err);
    assert_non_null(st);
    char text[200];
    memset(text, 'x', sizeof text);
    sqlite3_bind_int64(st, 1, 1);
    sqlite3_bind_int64(st, 2, 1);
    bind_str(st, 3, (struct str){ text, sizeof text });
    assert_int_equal(conn_run(c, st, "metric", &f->err), XT_EREFUSED);
}

static void open_without_memory(void **state) {
    struct fixture *f = *state;
    for (uint64_t n = 1; n < 20; n++) {
        struct store_conf conf = fixture_conf(f, true);
        alloc_fail_at(n);
        enum xt_code code = store_open(&f->store, &conf, &f->err);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        store_close(&f->store);
    }
}

/* Only what may be the data's own fault refuses it: the writer drops what is refused. */
static void errors(void **state) {
    (void)state;
    static const struct {
        int rc;
        enum xt_code code;
    } cases[] = {
        { SQLITE_BUSY, XT_EUNAVAILABLE },
        { SQLITE_BUSY_SNAPSHOT, XT_EUNAVAILABLE },
        { SQLITE_PROTOCOL, XT_EUNAVAILABLE },
        { SQLITE_FULL, XT_EUNAVAILABLE },
        { SQLITE_IOERR_FSYNC, XT_EUNAVAILABLE },
        { SQLITE_CORRUPT, XT_EUNAVAILABLE },
        { SQLITE_CORRUPT_INDEX, XT_EUNAVAILABLE },
        { SQLITE_NOTADB, XT_EUNAVAILABLE },
        { SQLITE_ERROR, XT_EUNAVAILABLE },
        { SQLITE_ABORT_ROLLBACK, XT_EUNAVAILABLE },
        { SQLITE_INTERRUPT, XT_ETIMEOUT },
        { SQLITE_CONSTRAINT_DATATYPE, XT_EREFUSED },
        { SQLITE_TOOBIG, XT_EREFUSED },
        { SQLITE_NOMEM, XT_ENOMEM },
        { SQLITE_IOERR_NOMEM, XT_ENOMEM },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct conn c = { 0 };
        struct xt_err err;
        assert_int_equal(conn_fail(&c, cases[i].rc, "test", &err), cases[i].code);
        assert_int_equal(c.failed, cases[i].code);
    }
}

int main(void) {
#define OPEN(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
#define CLOSED(t) cmocka_unit_test_setup_teardown(t, fixture_setup_closed, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        CLOSED(creates_directory_and_file),
        OPEN(settings),
        OPEN(second_server_is_refused),
        CLOSED(refuses),
        OPEN(damaged_files),
        CLOSED(many_start_at_once),
        OPEN(migration_is_repeatable),
        OPEN(readers),
        OPEN(deadline_ends_a_query),
        OPEN(side_by_side),
        OPEN(log_stays_bounded),
        OPEN(checkpoints_beside),
        OPEN(nothing_at_first),
        OPEN(probe),
        OPEN(locked_by_another),
        cmocka_unit_test(errors),
        cmocka_unit_test(sums),
        cmocka_unit_test(hashes),
        OPEN(binding),
        CLOSED(open_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
