/* catalog.c -- projects and API keys: small tables on a connection of their own, guarded by catalog_mu.
 *
 *  1. Every change of a key bumps keys_version in its own transaction, so that a running server sees what another
 *     process did.
 *  2. Writes wait for the ingest writer by the connection's busy handler, never in its queue. */
#include "store/sqlite/engine.h"

#include <string.h>

/* The catalog connection, opened on first use, for this thread until catalog_unlock. NULL: err filled, nothing locked. */
static struct conn *catalog_lock(struct sqlite_store *e, struct xt_err *err) {
    pthread_mutex_lock(&e->catalog_mu);
    struct conn *c = &e->catalog;
    if (c->broken)
        conn_close(c);
    enum xt_code code = c->db ? XT_OK : conn_open(c, e, CONN_CATALOG, err);
    if (code != XT_OK) {
        pthread_mutex_unlock(&e->catalog_mu);
        xt_fail(err, code == XT_ENOMEM ? code : XT_EUNAVAILABLE, "the store's catalog can't be opened");
        return NULL;
    }
    c->failed = XT_OK;
    return c;
}

static void catalog_unlock(struct sqlite_store *e, struct conn *c) {
    conn_rollback(c);
    pthread_mutex_unlock(&e->catalog_mu);
}

/* ---- projects ---- */

/* XT_ENOTFOUND (err untouched) when there is none. */
static enum xt_code project_find(struct conn *c, struct str name, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_PROJECT_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, name);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    if (rc == SQLITE_DONE)
        return XT_ENOTFOUND;
    return rc == SQLITE_ROW ? XT_OK : conn_fail(c, rc, "project", err);
}

static enum xt_code project_add(struct conn *c, struct str name, int64_t *ret, struct xt_err *err) {
    enum xt_code code = conn_begin(c, true, err);
    if (code != XT_OK)
        return code;
    code = project_find(c, name, ret, err); /* another process may have been faster */
    if (code != XT_ENOTFOUND)
        return code;
    sqlite3_stmt *st = conn_stmt(c, SQL_PROJECT_ADD, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, name);
    bind_time(st, 2, clock_now_ns());
    code = conn_run(c, st, "project", err);
    int64_t number = sqlite3_last_insert_rowid(c->db);
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code == XT_OK)
        *ret = number;
    return code;
}

enum xt_code sqlite_project_open(struct store *s, struct str name, int64_t *ret_number, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = catalog_lock(e, err);
    if (!c)
        return err->code;
    enum xt_code code = project_find(c, name, ret_number, err);
    if (code == XT_ENOTFOUND)
        code = project_add(c, name, ret_number, err);
    catalog_unlock(e, c);
    return code;
}

/* ---- keys ---- */

static enum xt_code version_read(struct conn *c, uint64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, STR_LIT("keys_version"));
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW)
        return conn_fail(c, rc, "version of the keys", err);
    *ret = (uint64_t)sqlite3_column_int64(st, 0);
    return XT_OK;
}

enum xt_code sqlite_keys_version(struct store *s, uint64_t *ret, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = catalog_lock(e, err);
    if (!c)
        return err->code;
    enum xt_code code = version_read(c, ret, err);
    catalog_unlock(e, c);
    return code;
}

/* Copies the present row. False: no memory, or not a key. */
static bool key_read(sqlite3_stmt *st, struct arena *a, struct store_key *k) {
    struct str hash = col_blob(st, 5);
    if (hash.n != sizeof k->secret_hash)
        return false;
    *k = (struct store_key){
        .id = sqlite3_column_int64(st, 0),
        .project = sqlite3_column_int64(st, 1),
        .project_name = arena_str(a, col_str(st, 2)),
        .public_key = arena_str(a, col_str(st, 3)),
        .name = arena_str(a, col_str(st, 4)),
        .rights = (unsigned)sqlite3_column_int64(st, 6),
        .created = sqlite3_column_int64(st, 7),
        .revoked = col_time(st, 8),
    };
    memcpy(k->secret_hash, hash.p, hash.n);
    return !a->failed;
}

static enum xt_code keys_read(struct conn *c, sqlite3_stmt *st, struct arena *a, struct store_key **ret, size_t *ret_n,
                              struct xt_err *err) {
    struct store_key *keys = NULL;
    size_t n = 0, cap = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (n == cap) {
            size_t wider = cap ? cap * 2 : 16;
            struct store_key *more = arena_new(a, struct store_key, wider);
            if (!more)
                return xt_fail(err, XT_ENOMEM, "out of memory");
            if (n)
                memcpy(more, keys, n * sizeof *keys);
            keys = more;
            cap = wider;
        }
        if (!key_read(st, a, &keys[n++]))
            return a->failed ? xt_fail(err, XT_ENOMEM, "out of memory") : xt_fail(err, XT_ESTORE, "a key is damaged");
    }
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "keys", err);
    *ret = keys;
    *ret_n = n;
    return XT_OK;
}

enum xt_code sqlite_keys_list(struct store *s, struct arena *a, struct store_key **ret, size_t *ret_n,
                              struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = catalog_lock(e, err);
    if (!c)
        return err->code;
    sqlite3_stmt *st = conn_stmt(c, SQL_KEYS_LIST, err);
    enum xt_code code = st ? keys_read(c, st, a, ret, ret_n, err) : c->failed;
    catalog_unlock(e, c);
    return code;
}

/* Bumps the version and commits what the transaction holds. */
static enum xt_code keys_commit(struct conn *c, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_KEYS_CHANGED, err);
    enum xt_code code = st ? conn_run(c, st, "keys", err) : c->failed;
    return code == XT_OK ? conn_commit(c, err) : code;
}

static enum xt_code key_add(struct conn *c, const struct store_key *k, int64_t *ret_id, struct xt_err *err) {
    enum xt_code code = conn_begin(c, true, err);
    sqlite3_stmt *st = code == XT_OK ? conn_stmt(c, SQL_KEY_ADD, err) : NULL;
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, k->project);
    bind_str(st, 2, k->public_key);
    bind_blob(st, 3, (struct str){ (const char *)k->secret_hash, sizeof k->secret_hash });
    sqlite3_bind_int64(st, 4, (int64_t)k->rights);
    bind_str(st, 5, k->name);
    sqlite3_bind_int64(st, 6, k->created);
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    if (rc == SQLITE_CONSTRAINT_UNIQUE)
        return xt_fail(err, XT_ECONFLICT, "there is a key with this public part already");
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "key", err);
    if (sqlite3_changes(c->db) == 0)
        return xt_fail(err, XT_ENOTFOUND, "there is no such project");
    int64_t id = sqlite3_last_insert_rowid(c->db);
    code = keys_commit(c, err);
    if (code == XT_OK)
        *ret_id = id;
    return code;
}

enum xt_code sqlite_key_create(struct store *s, const struct store_key *k, int64_t *ret_id, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = catalog_lock(e, err);
    if (!c)
        return err->code;
    enum xt_code code = key_add(c, k, ret_id, err);
    catalog_unlock(e, c);
    return code;
}

static enum xt_code key_end(struct conn *c, int64_t id, struct xt_err *err) {
    enum xt_code code = conn_begin(c, true, err);
    sqlite3_stmt *st = code == XT_OK ? conn_stmt(c, SQL_KEY_REVOKE, err) : NULL;
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, id);
    bind_time(st, 2, clock_now_ns());
    code = conn_run(c, st, "key", err);
    if (code != XT_OK)
        return code;
    if (sqlite3_changes(c->db) == 0)
        return xt_fail(err, XT_ENOTFOUND, "there is no key with this number");
    return keys_commit(c, err);
}

enum xt_code sqlite_key_revoke(struct store *s, int64_t id, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct conn *c = catalog_lock(e, err);
    if (!c)
        return err->code;
    enum xt_code code = key_end(c, id, err);
    catalog_unlock(e, c);
    return code;
}
