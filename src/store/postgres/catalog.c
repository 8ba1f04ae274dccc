/* catalog.c -- projects and API keys: small tables on a connection of their own, guarded by catalog_mu.
 *
 *  1. Every change of a key bumps keys_version in its own transaction, so that every server sees what another did.
 *  2. The wait is short: requests are authorised through here. A database that did not answer is not asked again for
 *     a while (AWAY_NS), unless somebody else got an answer meanwhile. */
#include <string.h>

#include "store/postgres/engine.h"

#define CATALOG_NS NS_PER_SEC
#define CHANGE_NS (10 * NS_PER_SEC)
#define AWAY_NS (3 * NS_PER_SEC)

/* The connection in a transaction, for this thread until catalog_unlock. NULL: err filled, nothing locked. */
static struct pg_conn *catalog_lock(struct pg_store *e, bool write, struct xt_err *err) {
    int64_t now = clock_mono_ns();
    pthread_mutex_lock(&e->catalog_mu);
    struct pg_conn *c = &e->catalog;
    if (!write && now < e->catalog_again) {
        pthread_mutex_unlock(&e->catalog_mu);
        xt_fail(err, XT_EUNAVAILABLE, "the database does not answer");
        return NULL;
    }
    c->deadline = clock_mono_ns() + (write ? CHANGE_NS : CATALOG_NS);
    enum xt_code code = pg_begin(c, write, err);
    if (code == XT_OK)
        return c;
    e->catalog_again = clock_mono_ns() + AWAY_NS;
    pthread_mutex_unlock(&e->catalog_mu);
    return NULL;
}

static enum xt_code catalog_unlock(struct pg_store *e, struct pg_conn *c, enum xt_code code, struct xt_err *err) {
    e->catalog_again = c->db ? 0 : clock_mono_ns() + AWAY_NS;
    pg_rollback(c);
    pthread_mutex_unlock(&e->catalog_mu);
    return code == XT_ETIMEOUT ? xt_fail(err, XT_EUNAVAILABLE, "the database does not answer in time") : code;
}

/* ---- projects ---- */

/* XT_ENOTFOUND (err untouched) when the statement gives no row. */
static enum xt_code number_of(struct pg_conn *c, const char *sql, const struct pg_args *a, int64_t *ret,
                              struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = pg_query(c, sql, a, &r, err);
    if (code != XT_OK)
        return code;
    if (PQntuples(r) > 0)
        *ret = pg_i64(r, 0, 0);
    code = PQntuples(r) > 0 ? XT_OK : XT_ENOTFOUND;
    PQclear(r);
    return code;
}

static enum xt_code project_find(struct pg_conn *c, struct str name, int64_t *ret, struct xt_err *err) {
    char room[PG_SHORT_MAX];
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_text(&a, pg_short(name, room));
    enum xt_code code = number_of(c, "SELECT id FROM xtrace.project WHERE short = $1", &a, ret, err);
    pg_args_done(&a);
    return code;
}

static enum xt_code project_add(struct pg_conn *c, struct str name, int64_t *ret, struct xt_err *err) {
    char room[PG_SHORT_MAX];
    int64_t number = 0;
    struct pg_args a;
    enum xt_code code = pg_begin(c, true, err);
    if (code != XT_OK)
        return code;
    pg_args_init(&a);
    pg_arg_text(&a, name);
    pg_arg_text(&a, pg_short(name, room));
    pg_arg_time(&a, clock_now_ns());
    code = number_of(c,
                     "INSERT INTO xtrace.project(name, short, created) VALUES($1, $2, $3) "
                     "ON CONFLICT (short) DO NOTHING RETURNING id",
                     &a, &number, err);
    pg_args_done(&a);
    if (code == XT_ENOTFOUND) /* another server was faster, and has committed */
        code = project_find(c, name, &number, err);
    if (code == XT_ENOTFOUND)
        return xt_fail(err, XT_EUNAVAILABLE, "the database is busy with the same records");
    if (code == XT_OK)
        code = pg_commit(c, err);
    if (code == XT_OK)
        *ret = number;
    return code;
}

enum xt_code postgres_project_open(struct store *s, struct str name, int64_t *ret_number, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_conn *c = catalog_lock(e, false, err);
    if (!c)
        return err->code;
    enum xt_code code = project_find(c, name, ret_number, err);
    if (code == XT_ENOTFOUND) {
        c->deadline = clock_mono_ns() + CHANGE_NS;
        code = project_add(c, name, ret_number, err);
    }
    return catalog_unlock(e, c, code, err);
}

/* ---- keys ---- */

enum xt_code postgres_keys_version(struct store *s, uint64_t *ret, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_conn *c = catalog_lock(e, false, err);
    if (!c)
        return err->code;
    int64_t v = 0;
    enum xt_code code = number_of(c, "SELECT v FROM xtrace.state WHERE k = 'keys_version'", NULL, &v, err);
    if (code == XT_ENOTFOUND)
        code = xt_fail(err, XT_ESTORE, "the version of the keys is missing");
    if (code == XT_OK)
        *ret = (uint64_t)v;
    return catalog_unlock(e, c, code, err);
}

/* Copies a row. False: no memory, or not a key. */
static bool key_read(const PGresult *r, int row, struct arena *a, struct store_key *k) {
    struct str hash = pg_bytes(r, row, 5);
    if (hash.n != sizeof k->secret_hash)
        return false;
    *k = (struct store_key){
        .id = pg_i64(r, row, 0),
        .project = pg_i64(r, row, 1),
        .project_name = arena_str(a, pg_text(a, r, row, 2)),
        .public_key = arena_str(a, pg_text(a, r, row, 3)),
        .name = arena_str(a, pg_text(a, r, row, 4)),
        .rights = (unsigned)pg_i64(r, row, 6),
        .created = pg_i64(r, row, 7),
        .revoked = pg_time(r, row, 8),
    };
    memcpy(k->secret_hash, hash.p, hash.n);
    return !a->failed;
}

static enum xt_code keys_read(const PGresult *r, struct arena *a, struct store_key **ret, size_t *ret_n,
                              struct xt_err *err) {
    int n = PQntuples(r);
    struct store_key *keys = arena_new(a, struct store_key, (size_t)n);
    for (int i = 0; keys && i < n; i++)
        if (!key_read(r, i, a, &keys[i])) {
            if (!a->failed)
                return xt_fail(err, XT_ESTORE, "a key is damaged");
            break;
        }
    if (a->failed)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    *ret = keys;
    *ret_n = (size_t)n;
    return XT_OK;
}

enum xt_code postgres_keys_list(struct store *s, struct arena *a, struct store_key **ret, size_t *ret_n,
                                struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    PGresult *r = NULL;
    struct pg_conn *c = catalog_lock(e, false, err);
    if (!c)
        return err->code;
    enum xt_code code =
        pg_query(c,
                 "SELECT k.id, k.project, p.name, k.public_key, k.name, k.secret_hash, k.rights, k.created, k.revoked "
                 "FROM xtrace.api_key k JOIN xtrace.project p ON p.id = k.project ORDER BY k.id",
                 NULL, &r, err);
    if (code == XT_OK) {
        code = keys_read(r, a, ret, ret_n, err);
        PQclear(r);
    }
    return catalog_unlock(e, c, code, err);
}

/* Bumps the version and commits what the transaction holds. */
static enum xt_code keys_commit(struct pg_conn *c, struct xt_err *err) {
    enum xt_code code = pg_query(c, "UPDATE xtrace.state SET v = v + 1 WHERE k = 'keys_version'", NULL, NULL, err);
    return code == XT_OK ? pg_commit(c, err) : code;
}

static enum xt_code key_add(struct pg_conn *c, const struct store_key *k, int64_t *ret_id, struct xt_err *err) {
    int64_t id = 0;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, k->project);
    pg_arg_text(&a, k->public_key);
    pg_arg_bytes(&a, (struct str){ (const char *)k->secret_hash, sizeof k->secret_hash });
    pg_arg_i32(&a, (int32_t)k->rights);
    pg_arg_text(&a, k->name);
    pg_arg_i64(&a, k->created);
    enum xt_code code = number_of(c,
                                  "INSERT INTO xtrace.api_key(project, public_key, secret_hash, rights, name, created) "
                                  "SELECT id, $2, $3, $4, $5, $6 FROM xtrace.project WHERE id = $1 RETURNING id",
                                  &a, &id, err);
    pg_args_done(&a);
    if (code == XT_ENOTFOUND)
        return xt_fail(err, XT_ENOTFOUND, "there is no such project");
    if (code == XT_EREFUSED && pg_state_is(c, "23505"))
        return xt_fail(err, XT_ECONFLICT, "there is a key with this public part already");
    if (code == XT_OK)
        code = keys_commit(c, err);
    if (code == XT_OK)
        *ret_id = id;
    return code;
}

enum xt_code postgres_key_create(struct store *s, const struct store_key *k, int64_t *ret_id, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_conn *c = catalog_lock(e, true, err);
    if (!c)
        return err->code;
    return catalog_unlock(e, c, key_add(c, k, ret_id, err), err);
}

static enum xt_code key_end(struct pg_conn *c, int64_t id, struct xt_err *err) {
    int64_t number = 0;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, id);
    pg_arg_i64(&a, clock_now_ns());
    enum xt_code code = number_of(
        c, "UPDATE xtrace.api_key SET revoked = coalesce(revoked, $2) WHERE id = $1 RETURNING id", &a, &number, err);
    pg_args_done(&a);
    if (code == XT_ENOTFOUND)
        return xt_fail(err, XT_ENOTFOUND, "there is no key with this number");
    return code == XT_OK ? keys_commit(c, err) : code;
}

enum xt_code postgres_key_revoke(struct store *s, int64_t id, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    struct pg_conn *c = catalog_lock(e, true, err);
    if (!c)
        return err->code;
    return catalog_unlock(e, c, key_end(c, id, err), err);
}
