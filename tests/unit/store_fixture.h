/* store_fixture.h -- an empty store of its own for each test, on the engine that XTRACE_TEST_ENGINE names (sqlite, which is
 * the default, or postgresql): what store.h promises is tested by the same programs (test_store_*) on every engine. Included
 * by one test each.
 *
 * main() begins with STORE_OR_SKIP(). What a test needs to know of an engine's inside (how many rows a table has, what is on
 * disk) it asks the fixture; what only one engine has is tested by programs of that engine. */
#pragma once
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "pg_fixture.h"

#include "base/clock.h"
#include "store/series_sink.h"
#include "store/sqlite/samples.h"

#define UNUSED __attribute__((unused))

struct fixture {
    bool postgresql;       /* else SQLite */
    char dir[100];         /* SQLite: below TMPDIR */
    char url[200];         /* of the store */
    char path[200];        /* SQLite: the database's file */
    struct pg_database db; /* PostgreSQL */
    struct store store;
    struct xt_err err;
};

/* ---- engines ---- */

static inline bool fixture_on_postgresql(void) {
    const char *engine = getenv("XTRACE_TEST_ENGINE");
    if (engine && strcmp(engine, "postgresql") != 0 && strcmp(engine, "sqlite") != 0)
        fail_msg("XTRACE_TEST_ENGINE=%s: sqlite or postgresql", engine);
    return engine && strcmp(engine, "postgresql") == 0;
}
#define STORE_OR_SKIP()              \
    do {                             \
        if (fixture_on_postgresql()) \
            PG_OR_SKIP();            \
    } while (0)

/* A database with the schema takes the server a third of a second: those that a test is done with are emptied for the next
 * one of the program. What a fresh schema holds is kept aside for that, in another one. */
struct fixture_pool {
    struct pg_database idle[4];
    size_t n;
};
static inline struct fixture_pool *fixture_pool(void) {
    static struct fixture_pool pool;
    return &pool;
}
#define FIXTURE_TABLES                                                                                            \
    " FROM pg_class WHERE relnamespace = 'xtrace'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition" \
    " AND relname <> 'migration'"
static inline void fixture_database_make(struct pg_database *d) {
    struct store store;
    struct xt_err err;
    pg_database_make(d);
    struct store_conf conf = { .url = d->url, .readers = 1, .cache_bytes = 4 << 20, .exclusive = true };
    enum xt_code code = store_open(&store, &conf, &err);
    if (code == XT_OK)
        code = store.ops->migrate(&store, &err);
    store_close(&store);
    if (code != XT_OK)
        fail_msg("schema: %s", err.msg);
    pg_run(d->conn, "CREATE SCHEMA fresh; DO $$ DECLARE t text; BEGIN FOR t IN SELECT relname" FIXTURE_TABLES
                    " LOOP EXECUTE format('CREATE TABLE fresh.%I AS TABLE xtrace.%I', t, t); END LOOP; END $$");
}
static inline void fixture_database_clear(struct pg_database *d) {
    pg_run(d->conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()");
    pg_run(d->conn,
           "DO $$ DECLARE t text; BEGIN"
           " EXECUTE 'TRUNCATE ' || (SELECT string_agg(oid::regclass::text, ', ')" FIXTURE_TABLES
           ") || ' RESTART IDENTITY';"
           " FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'fresh'::regnamespace AND relkind = 'r' LOOP"
           " EXECUTE format('INSERT INTO xtrace.%I OVERRIDING SYSTEM VALUE SELECT * FROM fresh.%I', t, t); END LOOP;"
           " FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'xtrace'::regnamespace AND relkind = 'S' LOOP"
           " EXECUTE format('ALTER SEQUENCE xtrace.%I RESTART', t); END LOOP; END $$");
}
static inline void fixture_database_take(struct pg_database *d) {
    struct fixture_pool *p = fixture_pool();
    if (p->n == 0) {
        fixture_database_make(d);
        return;
    }
    *d = p->idle[--p->n];
    fixture_database_clear(d);
}
static inline void fixture_database_give(struct pg_database *d) {
    struct fixture_pool *p = fixture_pool();
    if (p->n == sizeof p->idle / sizeof *p->idle)
        pg_database_drop(d);
    else
        p->idle[p->n++] = *d;
}

static inline void fixture_make(struct fixture *f) {
    memset(f, 0, sizeof *f);
    f->postgresql = fixture_on_postgresql();
    if (f->postgresql) {
        fixture_database_take(&f->db);
        snprintf(f->url, sizeof f->url, "%s", f->db.url);
        return;
    }
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.70s/xtrace-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->url, sizeof f->url, "sqlite:%s/data/xtrace.db", f->dir);
    snprintf(f->path, sizeof f->path, "%s/data/xtrace.db", f->dir);
}
static inline void fixture_remove(struct fixture *f) {
    store_close(&f->store);
    if (f->postgresql) {
        fixture_database_give(&f->db);
        return;
    }
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
}
static inline struct store_conf fixture_conf(const struct fixture *f, bool exclusive) {
    return (struct store_conf){ .url = f->url, .readers = 2, .cache_bytes = 4 << 20, .exclusive = exclusive };
}
/* Opens and migrates; the code of what failed first. */
static inline enum xt_code fixture_try(struct fixture *f, bool exclusive) {
    struct store_conf conf = fixture_conf(f, exclusive);
    enum xt_code code = store_open(&f->store, &conf, &f->err);
    if (code == XT_OK)
        code = f->store.ops->migrate(&f->store, &f->err);
    return code;
}
static inline void fixture_open(struct fixture *f) {
    enum xt_code code = fixture_try(f, true);
    if (code != XT_OK)
        fail_msg("open: %s", f->err.msg);
}
static inline void fixture_reopen(struct fixture *f) {
    store_close(&f->store);
    fixture_open(f);
}

/* Group, setup and teardown for cmocka. */
static inline int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    fixture_make(f);
    fixture_open(f);
    *state = f;
    return 0;
}
static inline int fixture_setup_closed(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    fixture_make(f);
    *state = f;
    return 0;
}
static inline int fixture_teardown(void **state) {
    fixture_remove(*state);
    free(*state);
    return 0;
}

/* Rows of a table, by a connection that knows nothing of the engine. The engines' names are the same but for
 * that of observations. */
static inline int64_t fixture_rows(const struct fixture *f, const char *table) {
    char sql[160];
    if (f->postgresql) {
        snprintf(sql, sizeof sql, "SELECT count(*) FROM xtrace.%s", strcmp(table, "obs") == 0 ? "observation" : table);
        return pg_number(f->db.conn, sql);
    }
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    int64_t n = -1;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    if (sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* Waits until a counter that another thread raises reaches `wanted`; fails after 20 s. */
static inline void fixture_wait(const _Atomic int *counter, int wanted) {
    int64_t until = clock_mono_ns() + 20 * NS_PER_SEC;
    while (*counter < wanted) {
        if (clock_mono_ns() > until)
            fail_msg("waited too long for %d, got %d", wanted, *counter);
        sched_yield();
    }
}

/* ---- samples ---- */

/* Adds a point to a batch. `labels` is "a=1,b=2" or "". Text is copied into the batch. */
static inline void sample_add(struct batch *b, const char *name, const char *labels, int64_t ts, double value) {
    struct sample *p = batch_add_sample(b);
    assert_non_null(p);
    p->name = arena_str(&b->arena, str_c(name));
    p->timestamp = ts;
    p->value = value;
    p->labels = arena_new(&b->arena, struct label, 8);
    struct str rest = arena_str(&b->arena, str_c(labels)), part;
    while (rest.n > 0 && str_split(&rest, ',', &part)) {
        size_t eq = str_find(part, '=');
        p->labels[p->nlabels].name = str_sub(part, 0, eq);
        p->labels[p->nlabels++].value = str_sub(part, eq + 1, part.n);
    }
    p->nlabels = labels_sort(p->labels, p->nlabels);
}
static inline struct batch *sample_batch(int64_t project) {
    struct batch *b = batch_new((size_t)64 << 20);
    assert_non_null(b);
    b->project = project;
    return b;
}
/* As the ingest does: prepared, one transaction, housekeeping. */
static inline enum xt_code samples_commit(struct fixture *f, struct batch *b) {
    struct batch_part part = { .b = b, .sample_to = b->nsamples };
    enum xt_code code = f->store.ops->prepare(&f->store, b, &f->err);
    if (code == XT_OK)
        code = f->store.ops->write(&f->store, &part, 1, &f->err);
    f->store.ops->tidy(&f->store);
    return code;
}
static inline void samples_store(struct fixture *f, struct batch *b) {
    if (samples_commit(f, b) != XT_OK)
        fail_msg("write: %s", f->err.msg);
    batch_free(b);
}

static inline struct series_query series_of_name(const char *name) {
    return (struct series_query){ .project = 1,
                                  .name = str_c(name),
                                  .from = TIME_MIN,
                                  .to = TIME_MAX,
                                  .step = 60 * NS_PER_SEC,
                                  .agg = AGG_SUM,
                                  .deadline = TIME_NONE,
                                  .max_points = 1000,
                                  .max_series = 50 };
}
/* The answer as text: "{labels} start=value ...;" with starts in seconds, then "latest=seconds" and "cut". */
static inline void series_text(struct series_sink *sink, char *out, size_t room) {
    const struct series_result *r = NULL;
    size_t n = 0, used = 0;
    int64_t latest = 0;
    bool cut = false;
    struct xt_err err;
    out[0] = '\0';
    if (series_sink_finish(sink, &r, &n, &latest, &cut, &err) != XT_OK) {
        snprintf(out, room, "failed: %s", err.msg);
        return;
    }
    for (size_t i = 0; i < n && used < room; i++) {
        used += (size_t)snprintf(out + used, room - used, "%.*s", STR_FMT(r[i].labels));
        for (size_t v = 0; v < r[i].nvalues && used < room; v++)
            used += (size_t)snprintf(out + used, room - used, " %lld=%.17g",
                                     (long long)(r[i].values[v].timestamp / NS_PER_SEC), r[i].values[v].value);
        if (used < room)
            used += (size_t)snprintf(out + used, room - used, "; ");
    }
    if (used < room && latest == TIME_NONE)
        used += (size_t)snprintf(out + used, room - used, "latest=none");
    else if (used < room)
        used += (size_t)snprintf(out + used, room - used, "latest=%lld", (long long)(latest / NS_PER_SEC));
    if (used < room && cut)
        snprintf(out + used, room - used, " cut");
}
static inline void series_read_text(struct fixture *f, const struct series_query *q, char *out, size_t room) {
    struct series_sink *sink = series_sink_new(q, (size_t)64 << 20);
    assert_non_null(sink);
    if (f->store.ops->series(&f->store, q, sink, &f->err) != XT_OK)
        snprintf(out, room, "failed: %.150s", f->err.msg);
    else
        series_text(sink, out, room);
    series_sink_free(sink);
}

/* ---- what is stored ---- */

/* Every point that is in the file, from the log and the generations, by a connection of its own. */
struct fixture_visit {
    void (*visit)(void *arg, int64_t time, double value);
    void *arg;
    int64_t cut;
};
static inline bool fixture_run(void *arg, const struct pack_run *run) {
    const struct fixture_visit *p = arg;
    for (size_t i = 0; i < run->n; i++)
        if (run->times[i] >= p->cut)
            p->visit(p->arg, run->times[i], run->values[i]);
    return true;
}
static inline void fixture_each_point(const char *path, void (*visit)(void *arg, int64_t time, double value),
                                      void *arg) {
    struct fixture_visit p = { visit, arg, TIME_MIN };
    struct samples_log log;
    struct xt_err err;
    struct conn c = { 0 };
    sqlite3_stmt *st = NULL;
    struct sqlite_store e = { .path = (char *)(uintptr_t)path, .conf = { .read_only = true } };
    assert_int_equal(conn_open(&c, &e, CONN_COPY, &err), XT_OK);
    assert_int_equal(conn_begin(&c, false, &err), XT_OK);
    assert_int_equal(samples_log_read(&c, &log, &err), XT_OK);
    for (size_t i = 0; i < log.v->n; i++)
        for (uint32_t k = 0; k < log.v->parts[i]->n.points; k++)
            visit(arg, hot_point_time(log.v->parts[i], k), hot_point_value(log.v->parts[i], k));
    assert_int_equal(
        sqlite3_prepare_v2(c.db,
                           "SELECT g.cut, p.lab, p.pts, p.raw FROM mgen g JOIN mpack p ON p.k >= g.gen << 24"
                           " AND p.k < (g.gen + 1) << 24 WHERE g.gen < ?1",
                           -1, &st, NULL),
        SQLITE_OK);
    sqlite3_bind_int64(st, 1, log.v->next_gen);
    while (sqlite3_step(st) == SQLITE_ROW) {
        p.cut = sqlite3_column_int64(st, 0);
        assert_int_equal(pack_each(col_blob(st, 1), col_blob(st, 2), col_blob(st, 3), fixture_run, &p, &err), XT_OK);
    }
    sqlite3_finalize(st);
    samples_version_unref(log.v);
    conn_rollback(&c);
    conn_close(&c);
}
static inline void fixture_count_one(void *arg, int64_t time, double value) {
    (void)time;
    (void)value;
    ++*(int64_t *)arg;
}
static inline int64_t fixture_points_of(const char *path) {
    int64_t n = 0;
    fixture_each_point(path, fixture_count_one, &n);
    return n;
}
static inline int64_t fixture_points_in_file(const struct fixture *f) { return fixture_points_of(f->path); }
struct stored_points {
    int64_t n;
    double sum;
};
struct fixture_names {
    struct arena a;
    struct str name[100];
    size_t n;
};
static inline bool fixture_name(void *arg, struct str name) {
    struct fixture_names *l = arg;
    assert_true(l->n < sizeof l->name / sizeof *l->name);
    l->name[l->n++] = arena_str(&l->a, name);
    return true;
}
/* What the sink's cells have counted; all points fall into few buckets of one group. */
static inline void fixture_count_cells(const struct series_sink *sink, struct stored_points *into) {
    for (uint32_t g = 0; g < sink->ngroups; g++) {
        size_t at = 0;
        int64_t start;
        if (!sink->groups[g])
            continue;
        for (struct cell *c; (c = buckets_next(&sink->groups[g]->buckets, &sink->axis, &at, &start)) != NULL;) {
            into->n += c->n;
            into->sum += c->add.sum;
        }
    }
}
/* The points that another process finds in the store, of projects 1 to 3, with times in [from, to]. */
static inline struct stored_points fixture_points_between(const struct fixture *f, int64_t from, int64_t to) {
    struct stored_points found = { 0, 0 };
    struct fixture_names names = { .n = 0 };
    struct store_conf conf = fixture_conf(f, false);
    struct store beside;
    struct xt_err err;
    if (store_open(&beside, &conf, &err) != XT_OK)
        fail_msg("open beside: %s", err.msg);
    arena_init(&names.a, 1 << 20);
    for (int64_t project = 1; project <= 3; project++) {
        names.n = 0;
        if (beside.ops->metric_names(&beside, project, TIME_NONE, fixture_name, &names, &err) != XT_OK)
            fail_msg("names: %s", err.msg);
        for (size_t i = 0; i < names.n; i++) {
            struct series_query q = series_of_name("");
            q.project = project, q.name = names.name[i];
            q.from = from, q.to = to, q.step = INT64_C(1000000) * NS_PER_SEC * 1000;
            q.grouped = true, q.group_by = STR_LIT("there is no such label");
            struct series_sink *sink = series_sink_new(&q, (size_t)64 << 20);
            assert_non_null(sink);
            if (beside.ops->series(&beside, &q, sink, &err) != XT_OK)
                fail_msg("series: %s", err.msg);
            fixture_count_cells(sink, &found);
            series_sink_free(sink);
        }
    }
    arena_done(&names.a);
    store_close(&beside);
    return found;
}
static inline int64_t fixture_points(const struct fixture *f) {
    int64_t n = fixture_points_between(f, TIME_MIN, TIME_MAX).n;
    if (!f->postgresql)
        assert_int_equal(fixture_points_in_file(f), n);
    return n;
}

/* Brings what is in memory of the samples into their last form, as a full hot part would; `carry_all`: what is young, too. */
static inline enum xt_code fixture_try_seal(struct fixture *f, bool carry_all) {
    if (f->postgresql)
        return XT_OK;
    struct sqlite_store *e = f->store.engine;
    enum xt_code code = samples_loaded(e, &f->err);
    if (code == XT_OK)
        code = samples_seal_finish(e, &f->err);
    if (code == XT_OK)
        code = samples_seal_start(e, TIME_MIN, carry_all, &f->err);
    if (code == XT_OK)
        code = samples_seal_finish(e, &f->err);
    return code;
}
static inline void fixture_seal(struct fixture *f, bool carry_all) {
    if (fixture_try_seal(f, carry_all) != XT_OK)
        fail_msg("seal: %s", f->err.msg);
}

/* The store's deep check is content, and its projects are the two that the tests of samples write to. */
static inline void samples_sound(struct fixture *f) {
    struct buf report;
    int64_t project;
    assert_int_equal(f->store.ops->project_open(&f->store, STR_LIT("one"), &project, &f->err), XT_OK);
    assert_int_equal(f->store.ops->project_open(&f->store, STR_LIT("two"), &project, &f->err), XT_OK);
    assert_int_equal(project, 2);
    buf_init(&report, 1 << 20);
    if (f->store.ops->check(&f->store, true, &report, &f->err) != XT_OK)
        fail_msg("%s: %.*s", f->err.msg, STR_FMT(buf_str(&report)));
    buf_done(&report);
}
static inline void series_is(struct fixture *f, const struct series_query *q, const char *want) {
    char got[4000];
    series_read_text(f, q, got, sizeof got);
    assert_string_equal(got, want);
}
/* The end of the program without an orderly close, and the next start. */
static inline void fixture_reopen_hard(struct fixture *f) {
    if (f->postgresql)
        pg_run(f->db.conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           " WHERE datname = current_database() AND pid <> pg_backend_pid()");
    else
        ((struct sqlite_store *)f->store.engine)->conf.exclusive = false;
    fixture_reopen(f);
}
