/* test_sqlite_backup.c -- copies beside a running writer, restore, self-test. */
#include "sqlite_fixture.h"

#include <pthread.h>

static void fill(struct fixture *f, int points) {
    int64_t project;
    assert_int_equal(f->store.ops->project_open(&f->store, STR_LIT("p"), &project, &f->err), XT_OK);
    struct batch *b = sample_batch(project);
    for (int i = 0; i < points; i++)
        sample_add(b, "m", i % 2 ? "a=1" : "a=2", i, i);
    samples_store(f, b);
}
static void backup_and_restore(void **state) {
    struct fixture *f = *state;
    fill(f, 100);
    char copy[200];
    snprintf(copy, sizeof copy, "%s/copy.db", f->dir);
    mode_t old = umask(0);
    assert_int_equal(f->store.ops->backup(&f->store, copy, &f->err), XT_OK);
    umask(old);
    struct stat st;
    assert_int_equal(stat(copy, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(fixture_sum(copy), 4950);
    /* An existing file is never touched. */
    assert_int_equal(f->store.ops->backup(&f->store, copy, &f->err), XT_ECONFLICT);
    assert_int_equal(fixture_sum(copy), 4950);
    /* Not beside a server, not over data. */
    assert_int_equal(store_restore(f->url, copy, &f->err), XT_ECONFLICT);
    assert_non_null(strstr(f->err.msg, "in use"));
    store_close(&f->store);
    assert_int_equal(store_restore(f->url, copy, &f->err), XT_ECONFLICT);
    assert_non_null(strstr(f->err.msg, "exists already"));
    char url[200];
    snprintf(url, sizeof url, "sqlite:%s/new/place/xtrace.db", f->dir);
    assert_int_equal(store_restore(url, copy, &f->err), XT_OK);
    memcpy(f->url, url, sizeof f->url);
    snprintf(f->path, sizeof f->path, "%s/new/place/xtrace.db", f->dir);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    fixture_open(f);
    assert_int_equal(fixture_sum(f->path), 4950);
    fill(f, 10);
    assert_int_equal(fixture_points_in_file(f), 110);
    /* Nothing else is left in the directory. */
    char command[300];
    snprintf(command, sizeof command, "test -z \"$(ls '%s/new/place' | grep -v '^xtrace\\.')\"", f->dir);
    assert_int_equal(system(command), 0);
}

struct load {
    struct fixture *f;
    _Atomic bool stop;
    _Atomic int groups;
};
/* Each group is two points whose sum is 0: a copy that is no snapshot would show another sum. */
static void *write_thread(void *arg) {
    struct load *l = arg;
    for (int i = 1; !l->stop; i++) {
        struct batch *b = sample_batch(1);
        sample_add(b, "m", "a=1", i, i);
        sample_add(b, "m", "a=2", i, -i);
        enum xt_code code = samples_commit(l->f, b);
        batch_free(b);
        if (code != XT_OK)
            return l;
        l->f->store.ops->tidy(&l->f->store);
        l->groups++;
    }
    return NULL;
}
static void backup_under_load(void **state) {
    struct fixture *f = *state;
    fill(f, 0);
    struct load l = { .f = f };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_thread, &l), 0);
    for (int i = 0; i < 5; i++) {
        fixture_wait(&l.groups, l.groups + 20);
        struct store other;
        struct store_conf conf = fixture_conf(f, false);
        conf.read_only = true;
        struct xt_err err;
        char copy[200];
        snprintf(copy, sizeof copy, "%s/copy-%d.db", f->dir, i);
        assert_int_equal(store_open(&other, &conf, &err), XT_OK);
        int before = l.groups;
        assert_int_equal(other.ops->backup(&other, copy, &err), XT_OK);
        store_close(&other);
        struct fixture seen = { .dir = "" };
        snprintf(seen.path, sizeof seen.path, "%.199s", copy);
        assert_int_equal(fixture_sum(seen.path), 0);
        assert_true(fixture_points_in_file(&seen) >= 2 * before);
    }
    l.stop = true;
    void *failed;
    pthread_join(thread, &failed);
    assert_null(failed);
}

static void write_file(const char *path, const void *bytes, size_t n) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(out);
}

static void bad_backups(void **state) {
    struct fixture *f = *state;
    fill(f, 2000);
    char copy[200], target[200], url[220], path[220];
    snprintf(copy, sizeof copy, "%s/copy.db", f->dir);
    snprintf(target, sizeof target, "%s/target", f->dir);
    snprintf(url, sizeof url, "sqlite:%s/xtrace.db", target);
    snprintf(path, sizeof path, "%s/xtrace.db", target);
    assert_int_equal(store_restore(url, copy, &f->err), XT_EUNAVAILABLE); /* no such file */
    write_file(copy, "", 0);
    assert_int_equal(store_restore(url, copy, &f->err), XT_EINVAL);
    char text[8192];
    memset(text, 'x', sizeof text);
    write_file(copy, text, sizeof text);
    assert_int_equal(store_restore(url, copy, &f->err), XT_ESTORE);
    unlink(copy);
    /* A page of the copy overwritten. */
    assert_int_equal(f->store.ops->backup(&f->store, copy, &f->err), XT_OK);
    FILE *io = fopen(copy, "r+b");
    assert_non_null(io);
    fseek(io, 0, SEEK_END);
    long pages = ftell(io) / 4096;
    for (long i = pages / 2; i < pages; i++) {
        fseek(io, i * 4096, SEEK_SET);
        fwrite(text, 1, 4096, io);
    }
    fclose(io);
    assert_int_equal(store_restore(url, copy, &f->err), XT_ESTORE);
    /* Nothing came into being. */
    assert_int_not_equal(access(path, F_OK), 0);
    unlink(copy);
    /* A log without its database is somebody's data. */
    assert_int_equal(f->store.ops->backup(&f->store, copy, &f->err), XT_OK);
    snprintf(text, sizeof text, "%s-wal", path);
    write_file(text, "data", 4);
    assert_int_equal(store_restore(url, copy, &f->err), XT_ECONFLICT);
    write_file(text, "", 0);
    write_file(path, "", 0);
    assert_int_equal(store_restore(url, copy, &f->err), XT_OK);
    assert_int_equal(fixture_sum(path), 1999000);
    /* Nowhere to write; nothing to copy. */
    snprintf(text, sizeof text, "%s/none/copy.db", f->dir);
    assert_int_equal(f->store.ops->backup(&f->store, text, &f->err), XT_EUNAVAILABLE);
    struct store empty;
    struct store_conf conf = fixture_conf(f, false);
    snprintf(url, sizeof url, "sqlite:%s/empty/xtrace.db", f->dir);
    conf.url = url;
    assert_int_equal(store_open(&empty, &conf, &f->err), XT_OK);
    snprintf(text, sizeof text, "%s/empty-copy.db", f->dir);
    assert_int_equal(empty.ops->backup(&empty, text, &f->err), XT_ENOTFOUND);
    assert_int_not_equal(access(text, F_OK), 0);
    store_close(&empty);
}

static enum xt_code check(struct fixture *f, bool deep, char *out, size_t room) {
    struct buf report;
    buf_init(&report, 1 << 20);
    enum xt_code code = f->store.ops->check(&f->store, deep, &report, &f->err);
    snprintf(out, room, "%.*s", STR_FMT(buf_str(&report)));
    buf_done(&report);
    return code;
}

static void self_test(void **state) {
    struct fixture *f = *state;
    char out[4000];
    fill(f, 7);
    for (int deep = 0; deep < 2; deep++) {
        if (check(f, deep, out, sizeof out) != XT_OK)
            fail_msg("%s: %s", f->err.msg, out);
        assert_string_equal(out, "projects 1, keys 0, traces 0, observations 0, samples 7\n");
    }
    static const struct {
        const char *harm, *line;
    } cases[] = {
        { "DELETE FROM mname", "no metric 1" },
        { "UPDATE mname SET project = 9", "metric 1: no project 9" },
        { "DELETE FROM mgen", "a directory and no row" },
        { "UPDATE mgen SET n = n + 1", "it counts 8 points, its directory 7" },
        { "UPDATE mdir SET n = n - 1", "not the parts of its directory" },
        { "UPDATE mdir SET t1 = t1 + 1", "not the parts of its directory" },
        { "DELETE FROM mpack", "not the parts of its directory" },
        { "DELETE FROM mdir", "in no directory" },
        { "UPDATE mpack SET pts = substr(pts, 1, length(pts) - 1)", "is damaged" },
        { "UPDATE mpack SET t0 = t0 - 1", "not the points or times of its row" },
        { "UPDATE mfilter SET z = zeroblob(length(z))", "labels that the filter does not know" },
        { "INSERT INTO mlog(k, z) SELECT (max(v) * 2) << 32 | 1, x'00' FROM state WHERE k = 'next_gen'",
          "1 rows of the log are damaged" },
        { "INSERT INTO mlog(k, z) VALUES (-4294967297, x'00')", "row 1 of part 1 of the log was put aside" },
    };
    struct sqlite_store *e = engine_of(&f->store);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_remove(f);
        fixture_make(f);
        fixture_open(f);
        e = engine_of(&f->store);
        fill(f, 7);
        assert_int_equal(samples_seal_start(e, TIME_MIN, false, &f->err), XT_OK);
        assert_int_equal(samples_seal_finish(e, &f->err), XT_OK);
        assert_int_equal(check(f, true, out, sizeof out), XT_OK);
        assert_int_equal(conn_exec(&e->writer, cases[i].harm, &f->err), XT_OK);
        assert_int_equal(check(f, true, out, sizeof out), XT_ESTORE);
        assert_non_null(strstr(f->err.msg, "findings"));
        if (!strstr(out, cases[i].line))
            fail_msg("%s: %s", cases[i].harm, out);
    }
}

int main(void) {
#define OPEN(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        OPEN(backup_and_restore),
        OPEN(backup_under_load),
        OPEN(bad_backups),
        OPEN(self_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
