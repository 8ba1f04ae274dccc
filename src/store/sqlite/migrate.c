/* migrate.c -- brings the schema up to date, forward only.
 *
 *  1. PRAGMA user_version is the number of the last migration; application_id says that the file is ours. Both are in
 *     the file's header and change in the transaction of the migration.
 *  2. One migration, one transaction, begun as a writer: of two processes that start at once one waits, then sees that
 *     there is nothing left to do.
 *  3. A file of somebody else's, or of a newer program, is refused untouched. */
#include "store/sqlite/engine.h"
#include "store/sqlite/migrations.h"

#include <stdio.h>
#include <string.h>

static enum xt_code read_int(struct conn *c, const char *sql, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "schema", err);
}

static int newest_version(void) {
    return sqlite_migration_count ? sqlite_migrations[sqlite_migration_count - 1].version : 0;
}

enum xt_code schema_version(struct conn *c, const char *path, int *ret, struct xt_err *err) {
    int64_t app = 0, version = 0, objects = 0;
    enum xt_code code = conn_begin(c, false, err); /* one snapshot: another process may be migrating */
    if (code == XT_OK)
        code = read_int(c, "PRAGMA application_id", &app, err);
    if (code == XT_OK)
        code = read_int(c, "PRAGMA user_version", &version, err);
    if (code == XT_OK)
        code = read_int(c, "SELECT count(*) FROM sqlite_schema", &objects, err);
    conn_rollback(c);
    if (code != XT_OK)
        return code;
    bool empty = app == 0 && version == 0 && objects == 0;
    if (!empty && (app != SQLITE_APPLICATION_ID || version < 1))
        return xt_fail(err, XT_EINVAL, "%.160s is a database of another program", path);
    if (version > newest_version())
        return xt_fail(
            err, XT_ECONFLICT,
            "%.120s was written by a newer xtrace (schema %lld, this program knows %d): use the newer program", path,
            (long long)version, newest_version());
    *ret = (int)version;
    return XT_OK;
}

/* Applies one migration unless somebody else did meanwhile. */
static enum xt_code apply(struct conn *c, const struct sqlite_migration *m, struct xt_err *err) {
    enum xt_code code = conn_begin(c, true, err);
    int64_t version = 0;
    if (code == XT_OK)
        code = read_int(c, "PRAGMA user_version", &version, err);
    if (code == XT_OK && version < m->version) {
        char mark[120];
        snprintf(mark, sizeof mark, "PRAGMA application_id=%d; PRAGMA user_version=%d", SQLITE_APPLICATION_ID,
                 m->version);
        code = conn_exec(c, m->sql, err);
        if (code == XT_OK)
            code = conn_exec(c, mark, err);
    }
    if (code == XT_OK)
        return conn_commit(c, err);
    conn_rollback(c);
    return code;
}

static enum xt_code load_hash_key(struct sqlite_store *e, struct xt_err *err) {
    struct conn *c = &e->writer;
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, STR_LIT("hash_key"));
    int rc = sqlite3_step(st);
    struct str key = rc == SQLITE_ROW ? col_blob(st, 0) : STR_NONE;
    enum xt_code code = XT_OK;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = conn_fail(c, rc, "hash key", err);
    else if (key.n != sizeof e->hash_key)
        code = xt_fail(err, XT_ESTORE, "%.160s is damaged: it has no hash key", e->path);
    else
        memcpy(e->hash_key, key.p, sizeof e->hash_key);
    sqlite3_reset(st);
    return code;
}

enum xt_code sqlite_migrate(struct store *s, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    int version = 0;
    enum xt_code code = schema_version(&e->writer, e->path, &version, err);
    if (code == XT_OK && e->conf.read_only && version < newest_version())
        code =
            xt_fail(err, XT_ECONFLICT, "%.160s has an older schema (%d): run xtrace migrate first", e->path, version);
    for (size_t i = 0; code == XT_OK && i < sqlite_migration_count; i++) {
        const struct sqlite_migration *m = &sqlite_migrations[i];
        if (m->version <= version)
            continue;
        struct xt_err why = { 0 };
        code = apply(&e->writer, m, &why);
        if (code != XT_OK)
            code = xt_fail(err, code, "migration %d (%s): %.160s", m->version, m->name, why.msg);
    }
    if (code == XT_OK)
        code = load_hash_key(e, err);
    if (code == XT_OK)
        code = index_start(e, err);
    if (code == XT_OK)
        code = write_state_load(e, err);
    return code == XT_OK && e->conf.exclusive ? samples_start(e, err) : code;
}
