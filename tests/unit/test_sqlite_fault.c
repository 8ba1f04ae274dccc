/* test_sqlite_fault.c -- the store on a disk that fails, fills up or loses its power: nothing acknowledged is lost, no
 * group is torn, and the store is usable again as soon as the disk is. */
#include "sqlite_fixture.h"

#include "fault_vfs.h"
#include "model/normalize.h"
#include "store/sqlite/checkpoint.h"

#define GROUPS 9
#define POINTS 30 /* of one group */

static struct fixture made; /* a migrated, closed store: where every round starts from */
static char *made_bytes;
static size_t made_size;

/* ---- rounds ---- */

static void put_file(const char *path, const char *bytes, size_t n) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(out);
}
/* A fresh copy of the made store, closed, on a healthy disk. */
static void start(void) {
    char name[200];
    store_close(&made.store);
    fault_reset();
    static const char *const beside[] = { "-wal", "-shm", "-journal" };
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", made.path, beside[i]);
        unlink(name);
    }
    put_file(made.path, made_bytes, made_size);
}

/* Group g: points of value g, one old point, a trace with two observations, and one more of the trace before. */
static struct batch *group_batch(int g) {
    struct batch *b = sample_batch(1);
    b->default_label = STR_LIT("default");
    b->received = clock_now_ns();
    for (int i = 0; i < POINTS; i++) {
        char label[40];
        snprintf(label, sizeof label, "id=%d", i % 3 ? i : g * 1000 + i);
        sample_add(b, "m", label, 1000 + g, g);
    }
    sample_add(b, "old", "", g, -1);
    char id[40], text[400];
    snprintf(text, sizeof text, "\"%0300d\"", g);
    for (int i = 0; i < 2 && g - i > 0; i++) {
        snprintf(id, sizeof id, "00000000-0000-4000-8000-%012d", g - i);
        struct trace *t = batch_add_trace(b);
        assert_true(t && id_from_uuid(&b->arena, str_c(id), &t->id));
        t->name = arena_printf(&b->arena, "g%d", g - i);
        t->input = arena_str(&b->arena, str_c(text));
        for (int k = 0; k < 2; k++) {
            struct observation *o = batch_add_observation(b);
            assert_true(o && id_from_uuid(&b->arena, str_c(id), &o->trace_id));
            snprintf(text, sizeof text, "10000000-0000-4000-8000-%06d%06d", g, i * 2 + k);
            assert_true(id_from_uuid(&b->arena, str_c(text), &o->id));
            o->model = STR_LIT("m");
            snprintf(text, sizeof text, "\"%0300d\"", g);
        }
    }
    assert_int_equal(normalize_batch(b, &made.err), XT_OK);
    assert_int_equal(made.store.ops->prepare(&made.store, b, &made.err), XT_OK);
    return b;
}
static enum xt_code write_group(int g) {
    struct batch *b = group_batch(g);
    struct batch_part part = {
        .b = b, .trace_to = b->ntraces, .observation_to = b->nobservations, .sample_to = b->nsamples
    };
    enum xt_code code = made.store.ops->write(&made.store, &part, 1, &made.err);
    batch_free(b);
    return code;
}
/* What the server does beside writing: checkpoints of all kinds, retention, probes. */
static void between(int g) {
    sqlite3 *db = engine_of(&made.store)->writer.db;
    bool more;
    if (g % 3 == 0)
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (g % 4 == 0)
        made.store.ops->retain(&made.store, RETAIN_SAMPLES, 1000, &more, &made.err);
    if (g % 5 == 0)
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (g % 7 == 0)
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    made.store.ops->tidy(&made.store);
    checkpoint_settle(engine_of(&made.store)->ckpt); /* the next fault is of the writer's own choosing */
}

static int64_t number(const char *fmt, ...) {
    char sql[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(sql, sizeof sql, fmt, args);
    va_end(args);
    return fixture_query(&made, sql);
}
/* On a healthy disk again: the file is whole, every acknowledged group is there, each other one wholly or not at all. */
static void verify(const bool *acked, const char *what, int64_t n) {
    store_close(&made.store);
    fault_reset();
    if (fixture_try(&made, true) != XT_OK)
        fail_msg("%s %lld: can't reopen: %s", what, (long long)n, made.err.msg);
    struct buf report;
    buf_init(&report, 1 << 20);
    if (made.store.ops->check(&made.store, true, &report, &made.err) != XT_OK)
        fail_msg("%s %lld: %.*s", what, (long long)n, STR_FMT(buf_str(&report)));
    buf_done(&report);
    for (int g = 1; g <= GROUPS; g++) {
        int64_t points = fixture_points_with(&made, g);
        int64_t observations = number("SELECT count(*) FROM obs WHERE hex(oid) LIKE '10000000000040008000%06d%%'", g);
        bool whole = points == POINTS && observations == (g > 1 ? 4 : 2);
        bool none = points == 0 && observations == 0;
        if (!(acked[g] ? whole : whole || none))
            fail_msg("%s %lld: group %d: %lld points, %lld observations", what, (long long)n, g, (long long)points,
                     (long long)observations);
    }
}

static int make(void **state) {
    (void)state;
    fault_install();
    fixture_make(&made);
    fixture_open(&made);
    int64_t project;
    assert_int_equal(made.store.ops->project_open(&made.store, STR_LIT("default"), &project, &made.err), XT_OK);
    assert_int_equal(project, 1);
    store_close(&made.store);
    fault_reset();
    FILE *in = fopen(made.path, "rb");
    assert_non_null(in);
    made_bytes = malloc(1 << 20);
    made_size = made_bytes ? fread(made_bytes, 1, 1 << 20, in) : 0;
    fclose(in);
    assert_true(made_size > 4096 && made_size < 1 << 20);
    return 0;
}
static int unmake(void **state) {
    (void)state;
    fixture_remove(&made);
    fault_reset();
    free(made_bytes);
    return 0;
}

/* ---- tests ---- */

/* When the call returns, nothing of the log is left for a power cut to take. */
static void every_commit_is_synced(void **state) {
    (void)state;
    start();
    fixture_open(&made);
    bool acked[GROUPS + 1] = { false };
    for (int g = 1; g <= GROUPS; g++) {
        int64_t syncs = fault.syncs;
        assert_int_equal(write_group(g), XT_OK);
        assert_true(fault.syncs > syncs);
        assert_int_equal(fault_dirty("-wal"), 0);
        between(g);
        syncs = fault.syncs;
        assert_int_equal(made.store.ops->probe(&made.store, &made.err), XT_OK);
        assert_true(fault.syncs > syncs);
        assert_int_equal(fault_dirty("-wal"), 0);
        acked[g] = true;
    }
    verify(acked, "healthy disk", 0);
    int64_t id;
    fault_reset();
    struct store_key k = { .project = 1, .public_key = STR_LIT("pk"), .rights = 1 };
    assert_int_equal(made.store.ops->project_open(&made.store, STR_LIT("p"), &id, &made.err), XT_OK);
    assert_int_equal(fault_dirty(""), 0);
    assert_int_equal(made.store.ops->key_create(&made.store, &k, &id, &made.err), XT_OK);
    assert_int_equal(fault_dirty(""), 0);
}

static const int codes[] = { SQLITE_IOERR_WRITE, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, 0 };

/* One run with a fault at operation n. False: it ended before. */
static bool run_with_fault(int64_t n, int code, bool sticky) {
    bool acked[GROUPS + 1] = { false };
    start();
    fixture_open(&made);
    fault.ops = 0;
    fault.at = n;
    fault.code = code;
    fault.sticky = sticky;
    for (int g = 1; g <= GROUPS; g++) {
        enum xt_code got = write_group(g);
        acked[g] = got == XT_OK;
        if (got != XT_OK && (!fault.failed || got != XT_EUNAVAILABLE))
            fail_msg("operation %lld: group %d: %s", (long long)n, g, made.err.msg);
        if (got != XT_OK && sticky) {
            /* The disk stays away: reads go on, writes fail, nothing hangs. */
            char text[400];
            struct series_query q = series_of_name("m");
            q.grouped = true;
            q.group_by = STR_LIT("none");
            series_read_text(&made, &q, text, sizeof text);
            assert_null(strstr(text, "failed"));
            assert_int_equal(made.store.ops->ping(&made.store, &made.err), XT_OK);
            assert_int_equal(made.store.ops->probe(&made.store, &made.err), XT_EUNAVAILABLE);
            assert_int_equal(write_group(g), XT_EUNAVAILABLE);
            fault.at = 0; /* and back again */
        }
        if (got != XT_OK) {
            if (made.store.ops->probe(&made.store, &made.err) != XT_OK || write_group(g) != XT_OK)
                fail_msg("operation %lld: not usable again: %s", (long long)n, made.err.msg);
            acked[g] = true;
        }
        between(g);
    }
    bool failed = fault.failed;
    verify(acked, "operation", n);
    return failed;
}
static void nth_operation_fails(void **state) {
    (void)state;
    int64_t n = 1, most = 0;
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        for (int sticky = 0; sticky < 2; sticky++) {
            for (n = 1 + (int64_t)c; run_with_fault(n, codes[c], sticky); n += 13) {}
            most = n > most ? n : most;
        }
    }
    print_message("%lld operations\n", (long long)most);
    assert_true(most > 200);
}

/* The database file takes nothing, the log does: checkpoints fail, writes go on, nothing is lost, and the log starts over
 * as soon as the file is well again. */
static void checkpoint_fails(void **state) {
    (void)state;
    struct store_stats s;
    char sql[160];
    snprintf(
        sql, sizeof sql,
        "INSERT INTO payload(pid, n, z) VALUES (1 << 40, 1, zeroblob(%d)); DELETE FROM payload WHERE pid = 1 << 40",
        CHECKPOINT_FRAMES / 3 * 4080);
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        bool acked[GROUPS + 1] = { false };
        start();
        fixture_open(&made);
        fault.only = "xtrace.db";
        fault.at = 1;
        fault.sticky = true;
        fault.code = codes[c];
        for (int g = 1; g <= GROUPS; g++) {
            if (write_group(g) != XT_OK)
                fail_msg("group %d: %s", g, made.err.msg);
            acked[g] = true;
            assert_int_equal(conn_exec(&engine_of(&made.store)->writer, sql, &made.err), XT_OK);
            made.store.ops->tidy(&made.store);
            checkpoint_settle(engine_of(&made.store)->ckpt);
        }
        made.store.ops->stats(&made.store, &s);
        assert_true(fault.failed && s.checkpoint_errors > 0);
        assert_int_equal(s.checkpoints, 0);
        fault.at = 0;
        for (int i = 0; i < 8; i++) {
            assert_int_equal(conn_exec(&engine_of(&made.store)->writer, sql, &made.err), XT_OK);
            made.store.ops->tidy(&made.store);
            checkpoint_settle(engine_of(&made.store)->ckpt);
        }
        made.store.ops->stats(&made.store, &s);
        assert_true(s.checkpoints > 0);
        verify(acked, "failing checkpoint", codes[c]);
    }
}

/* Of the groups' points, as the running store answers: also from its memory. */
static int64_t live_sum(void) {
    char text[400];
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("none");
    q.step = 1000000 * NS_PER_SEC;
    series_read_text(&made, &q, text, sizeof text);
    const char *end = strchr(text, '}'), *value = end ? strchr(end, '=') : NULL;
    if (!value)
        fail_msg("series: %s", text);
    return strtoll(value + 1, NULL, 10);
}

static int move_away(void *to) { return rename(made.path, to); }

/* The file loses its name in the middle of a commit: the group is not acknowledged, though it is in the file. When the file
 * is back the server knows what is in it: the next group takes no number twice, and no point is missing or double. */
static void commit_to_a_moved_file(void **state) {
    (void)state;
    bool there[GROUPS + 1] = { false };
    char away[240];
    int64_t sum = 0;
    start();
    fixture_open(&made);
    snprintf(away, sizeof away, "%s.away", made.path);
    for (int g = 1; g <= GROUPS; g++) {
        sqlite3 *db = engine_of(&made.store)->writer.db;
        if (g % 3 == 2) {
            sqlite3_commit_hook(db, move_away, away);
            assert_int_equal(write_group(g), XT_EUNAVAILABLE);
            sqlite3_commit_hook(db, NULL, NULL);
            assert_int_equal(write_group(g), XT_EUNAVAILABLE);
            assert_int_equal(made.store.ops->probe(&made.store, &made.err), XT_EUNAVAILABLE);
            assert_int_equal(rename(away, made.path), 0);
            assert_int_equal(made.store.ops->probe(&made.store, &made.err), XT_OK);
        } else if (write_group(g) != XT_OK) {
            fail_msg("group %d: %s", g, made.err.msg);
        }
        there[g] = true;
        sum += (int64_t)POINTS * g;
        if (g % 3 != 2)
            assert_int_equal(live_sum(), sum);
        between(g);
    }
    verify(there, "moved file", 0);
}

/* The first start on a disk that fails: an error, never half a schema. */
static void creation_fails(void **state) {
    (void)state;
    bool none[GROUPS + 1] = { false };
    int64_t n = 1;
    for (bool failed = true; failed; n += 3) {
        start();
        unlink(made.path);
        fault.at = n;
        fault.code = codes[n % 5];
        fault.sticky = n % 2;
        enum xt_code code = fixture_try(&made, true);
        failed = fault.failed;
        if (code != XT_OK && !failed)
            fail_msg("operation %lld: %s", (long long)n, made.err.msg);
        verify(none, "creation", n);
        assert_int_equal(number("SELECT count(*) FROM state WHERE k = 'hash_key'"), 1);
    }
    assert_true(n > 20);
}

static void full_disk(void **state) {
    (void)state;
    bool acked[GROUPS + 1] = { false };
    for (int64_t space = 0; space < 600000; space += 9999) {
        start();
        fixture_open(&made);
        fault.space = fault_total() + space;
        int g = 1;
        memset(acked, 0, sizeof acked);
        for (; g <= GROUPS; g++) {
            enum xt_code code = write_group(g);
            acked[g] = code == XT_OK;
            if (code != XT_OK) {
                assert_int_equal(code, XT_EUNAVAILABLE);
                assert_non_null(strstr(made.err.msg, "full"));
                break;
            }
            between(g);
        }
        if (g <= GROUPS) {
            assert_int_equal(made.store.ops->ping(&made.store, &made.err), XT_OK);
            char text[400];
            struct series_query q = series_of_name("m");
            q.grouped = true;
            q.group_by = STR_LIT("none");
            series_read_text(&made, &q, text, sizeof text);
            assert_null(strstr(text, "failed"));
            assert_int_equal(write_group(g), XT_EUNAVAILABLE);
            fault.space = -1;
            assert_int_equal(made.store.ops->probe(&made.store, &made.err), XT_OK);
            assert_int_equal(write_group(g), XT_OK);
            acked[g] = true;
        }
        verify(acked, "space", space);
    }
}

/* Groups until the power goes at operation n; what is unsynced survives by chance, `keep` of 8 sectors. */
static bool run_with_cut(int64_t n, int keep, bool *acked) {
    start();
    fixture_open(&made);
    fault.ops = 0;
    fault.cut_at = n;
    fault.cut_keep = keep;
    fault.seed = (uint64_t)n * 8 + (uint64_t)keep;
    for (int g = 1; g <= GROUPS && !fault.dead; g++) {
        acked[g] = write_group(g) == XT_OK && !fault.dead;
        if (!fault.dead)
            between(g);
    }
    bool cut = fault.dead;
    fault_cut(); /* at the latest now: an orderly close would sync */
    return cut;
}
static void power_cut(void **state) {
    (void)state;
    int rounds = 0;
    for (int64_t n = 1;; n += 3) {
        bool acked[GROUPS + 1] = { false };
        bool cut = run_with_cut(n, (int)(n / 3 % 8), acked);
        verify(acked, "power cut at operation", n);
        rounds++;
        if (!cut)
            break;
    }
    print_message("%d power cuts\n", rounds);
    assert_true(rounds > 80);
}

/* The same with syncs switched off must lose something, or the test above sees nothing. */
static void power_cut_is_seen(void **state) {
    (void)state;
    int lost = 0;
    for (int64_t n = 20; n < 200; n += 20) {
        bool acked[GROUPS + 1] = { false };
        start();
        fixture_open(&made);
        assert_int_equal(conn_exec(&engine_of(&made.store)->writer, "PRAGMA synchronous=OFF", &made.err), XT_OK);
        fault.ops = 0;
        fault.cut_at = n;
        for (int g = 1; g <= GROUPS && !fault.dead; g++)
            acked[g] = write_group(g) == XT_OK && !fault.dead;
        store_close(&made.store);
        fault_reset();
        for (int g = 1; g <= GROUPS; g++)
            lost += acked[g] && fixture_points_with(&made, g) != POINTS;
    }
    assert_true(lost > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_commit_is_synced),
        cmocka_unit_test(nth_operation_fails),
        cmocka_unit_test(checkpoint_fails),
        cmocka_unit_test(commit_to_a_moved_file),
        cmocka_unit_test(creation_fails),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(power_cut),
        cmocka_unit_test(power_cut_is_seen),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
