/* conn.c -- one SQLite connection: settings, cached statements, transactions, errors.
 *
 *  1. A connection is used by one thread at a time (SQLITE_OPEN_NOMUTEX); who may use which is said in engine.h.
 *  2. After any failed call conn_rollback (or reader_put) makes the connection usable again: whether a transaction is
 *     still open is asked of SQLite, which ends one by itself after some errors, never remembered here.
 *  3. A locked file is tried again every millisecond for busy_ns: SQLite's own handler backs off to 100 ms and would
 *     hardly ever meet the gap between two groups of a busy writer.
 *  4. Messages of conn_fail may reach clients: no SQL, no path. Those of conn_open name the file: they go to stderr. */
#include "store/sqlite/engine.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define OPEN_WAIT (5 * NS_PER_SEC)  /* for others that open the file; a query waits less, as its role says */
#define PROGRESS_OPS 1000           /* virtual machine steps between two looks at the clock: some 20 us */
#define JOURNAL_KEEP_BYTES 67108864 /* a longer log is cut to this when it starts over */

static const char *const sql_texts[SQL_COUNT] = {
#define SQL(id, text) [id] = (text),
#include "store/sqlite/statements.inc"
#undef SQL
};

struct role {
    int64_t busy_ns;
    bool writes, timed; /* timed: looks at conn.deadline while a statement runs */
    int cache_kib;      /* 0: the configured one */
};
static const struct role roles[] = {
    /* A parked request is told to come back after 4 s: the writer must know by then. */
    [CONN_WRITER] = { 2000 * NS_PER_MS, true, false, 0 },      [CONN_CATALOG] = { 5000 * NS_PER_MS, true, false, 256 },
    [CONN_READER] = { 500 * NS_PER_MS, false, true, 2048 },    [CONN_COPY] = { 5000 * NS_PER_MS, false, false, 2048 },
    [CONN_CHECKPOINT] = { 500 * NS_PER_MS, true, false, 256 },
};

static int on_busy(void *arg, int tries) {
    struct conn *c = arg;
    int64_t now = clock_mono_ns();
    if (tries == 0)
        c->busy_until = now + c->busy_ns;
    if (now >= c->busy_until || (c->deadline != TIME_NONE && now >= c->deadline))
        return 0;
    struct timespec pause = { 0, (long)NS_PER_MS };
    nanosleep(&pause, NULL);
    return 1;
}

static int on_progress(void *arg) {
    const struct conn *c = arg;
    return c->deadline != TIME_NONE && clock_mono_ns() > c->deadline;
}

/* ---- opening ---- */

/* Says why the file can't be used. The first word is the file: what stands in the message is for the operator. */
static enum xt_code open_fail(const struct sqlite_store *e, sqlite3 *db, int rc, struct xt_err *err) {
    switch (rc & 0xff) {
    case SQLITE_NOTADB: return xt_fail(err, XT_ESTORE, "%.160s is not a database, or its start is damaged", e->path);
    case SQLITE_CORRUPT: return xt_fail(err, XT_ESTORE, "%.160s is damaged", e->path);
    case SQLITE_READONLY: return xt_fail(err, XT_EUNAVAILABLE, "%.160s is not writable", e->path);
    case SQLITE_NOMEM: return xt_fail(err, XT_ENOMEM, "out of memory");
    case SQLITE_CANTOPEN: {
        int os = db ? sqlite3_system_errno(db) : 0;
        return xt_fail(err, XT_EUNAVAILABLE, "can't open %.160s: %s", e->path, os ? strerror(os) : "no such file");
    }
    default: return xt_fail(err, XT_EUNAVAILABLE, "can't open %.160s: %s (%d)", e->path, sqlite3_errstr(rc), rc);
    }
}

/* Runs one statement and compares the text of its first column with `want` (NULL: anything goes). */
static int pragma_is(sqlite3 *db, const char *sql, const char *want, bool *ret_same) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && want) {
        const char *got = (const char *)sqlite3_column_text(st, 0);
        *ret_same = got && strcmp(got, want) == 0;
    }
    int end = sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : end;
}

/* WAL is a property of the file: the first connection of all sets it, which needs the file for itself for a moment.
 * SQLite gives up without asking the busy handler where two processes would wait for each other, hence the loop. */
static int set_wal(sqlite3 *db, bool writes, int64_t wait_ns, bool *ret_wal) {
    int64_t until = clock_mono_ns() + wait_ns;
    for (;;) {
        int rc = pragma_is(db, writes ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode", "wal", ret_wal);
        if ((rc & 0xff) != SQLITE_BUSY || clock_mono_ns() > until)
            return rc;
        struct timespec pause = { 0, (long)(5 * NS_PER_MS) };
        nanosleep(&pause, NULL);
    }
}

static int set_pragmas(sqlite3 *db, const struct sqlite_store *e, const struct role *role) {
    uint64_t kib = role->cache_kib ? (uint64_t)role->cache_kib : e->conf.cache_bytes / 1024;
    if (kib < 256)
        kib = 256;
    if (kib > INT_MAX)
        kib = INT_MAX;
    char sql[512];
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;"
             "PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA journal_size_limit=%d;"
             "PRAGMA cache_size=-%d",
             JOURNAL_KEEP_BYTES, (int)kib);
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static enum xt_code configure(sqlite3 *db, struct conn *c, const struct sqlite_store *e, const struct role *role,
                              bool writes, struct xt_err *err) {
    sqlite3_extended_result_codes(db, 1);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    c->busy_ns = role->busy_ns;
    sqlite3_busy_handler(db, on_busy, c);
    if (role->timed)
        sqlite3_progress_handler(db, PROGRESS_OPS, on_progress, c);
    if (writes && sqlite3_db_readonly(db, "main") == 1)
        return open_fail(e, db, SQLITE_READONLY, err);
    bool wal = false;
    int rc = set_pragmas(db, e, role);
    if (rc == SQLITE_OK)
        rc = set_wal(db, writes, role->timed ? role->busy_ns : OPEN_WAIT, &wal);
    /* Reads the schema, so that damage there shows now. */
    if (rc == SQLITE_OK)
        rc = pragma_is(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL);
    if (rc != SQLITE_OK)
        return open_fail(e, db, rc, err);
    if (writes && !wal)
        return xt_fail(err, XT_ESTORE, "%.160s: the file system can't hold a write-ahead log", e->path);
    return XT_OK;
}

enum xt_code conn_open(struct conn *c, const struct sqlite_store *e, enum conn_role role, struct xt_err *err) {
    bool writes = roles[role].writes && !e->conf.read_only;
    sqlite3 *db = NULL;
    memset(c->stmts, 0, sizeof c->stmts);
    c->deadline = TIME_NONE;
    c->failed = XT_OK;
    c->broken = false;
    c->dicts = e->dicts;
    c->index = e->index;
    if (files_stand(e, err) != XT_OK) /* never another file beside those that are open */
        return XT_EUNAVAILABLE;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    flags |= writes ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    int rc = sqlite3_open_v2(e->path, &db, flags, NULL);
    enum xt_code code = rc == SQLITE_OK ? configure(db, c, e, &roles[role], writes, err) : open_fail(e, db, rc, err);
    if (code != XT_OK) {
        sqlite3_close_v2(db);
        return code;
    }
    c->db = db;
    return XT_OK;
}

void conn_close(struct conn *c) {
    index_unpin(c);
    for (size_t i = 0; i < SQL_COUNT; i++) {
        sqlite3_finalize(c->stmts[i]);
        c->stmts[i] = NULL;
    }
    sqlite3_close_v2(c->db);
    c->db = NULL;
}

/* ---- statements ---- */

sqlite3_stmt *conn_stmt(struct conn *c, enum sql_id id, struct xt_err *err) {
    sqlite3_stmt *st = c->stmts[id];
    if (st) {
        sqlite3_reset(st);
        sqlite3_clear_bindings(st);
        return st;
    }
    int rc = sqlite3_prepare_v3(c->db, sql_texts[id], -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK) {
        conn_fail(c, rc, "prepare", err);
        return NULL;
    }
    c->stmts[id] = st;
    return st;
}

sqlite3_stmt *conn_prepare(struct conn *c, const char *sql, const char *what, struct xt_err *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);
    if (rc != SQLITE_OK)
        conn_fail(c, rc, what, err);
    return st;
}

enum xt_code conn_exec(struct conn *c, const char *sql, struct xt_err *err) {
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? XT_OK : conn_fail(c, rc, "store", err);
}

enum xt_code conn_run(struct conn *c, sqlite3_stmt *st, const char *what, struct xt_err *err) {
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, what, err);
}

enum xt_code conn_begin(struct conn *c, bool immediate, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, immediate ? SQL_BEGIN_IMMEDIATE : SQL_BEGIN, err);
    return st ? conn_run(c, st, "begin", err) : c->failed;
}

enum xt_code conn_commit(struct conn *c, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_COMMIT, err);
    enum xt_code code = st ? conn_run(c, st, "commit", err) : c->failed;
    if (code != XT_OK)
        conn_rollback(c);
    return code;
}

void conn_rollback(struct conn *c) {
    index_unpin(c);
    if (!c->db)
        return;
    for (size_t i = 0; i < SQL_COUNT; i++)
        if (c->stmts[i])
            sqlite3_reset(c->stmts[i]);
    if (!sqlite3_get_autocommit(c->db))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- errors ---- */

/* Only what can be the data's own fault is a refusal; a damaged file is not: the sender keeps its data and tries again. */
static enum xt_code code_of(int rc) {
    if (rc == SQLITE_IOERR_NOMEM)
        return XT_ENOMEM;
    switch (rc & 0xff) {
    case SQLITE_INTERRUPT: return XT_ETIMEOUT;
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE: return XT_EREFUSED;
    case SQLITE_NOMEM: return XT_ENOMEM;
    default: return XT_EUNAVAILABLE;
    }
}

/* What a reopened connection might cure: stale file handles, a lost log. */
static bool is_file_trouble(int rc) {
    switch (rc & 0xff) {
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_PROTOCOL: return rc != SQLITE_IOERR_NOMEM;
    default: return false;
    }
}

enum xt_code conn_fail(struct conn *c, int rc, const char *what, struct xt_err *err) {
    enum xt_code code = code_of(rc);
    if (c) {
        c->failed = code;
        c->broken = c->broken || is_file_trouble(rc);
    }
    const char *why = code == XT_ETIMEOUT ? "the time limit of the query passed" : sqlite3_errstr(rc);
    return xt_fail(err, code, "%s: %s (%d)", what, why, rc);
}
