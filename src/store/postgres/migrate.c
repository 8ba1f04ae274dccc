/* migrate.c -- brings the schema up to date, forward only, and sees that it can be served from.
 *
 *  1. xtrace.migration holds the numbers of what was applied. One migration, one transaction, which also writes its number;
 *     it holds an advisory lock of the transaction: of several servers that start at once one works, the others wait and
 *     then see that there is nothing left to do.
 *  2. A schema of a newer program, a server older than 14, an encoding other than UTF8 are refused untouched.
 *  3. A current schema is not written to: a role without the right to create can serve. It needs the rights that
 *     docs/operations.md lists; the first that is missing is named. */
#include <stdio.h>
#include <string.h>

#include "store/postgres/engine.h"
#include "store/postgres/migrations.h"

#define LOCK_SQL "SELECT pg_advisory_xact_lock(x'78747263'::int, 1)"
#define LOOK_NS (10 * NS_PER_SEC)
#define MIGRATE_NS (600 * NS_PER_SEC) /* of one migration, waiting for another server's included */
#define SERVER_LEAST 140000

static int newest_version(void) {
    return postgres_migration_count ? postgres_migrations[postgres_migration_count - 1].version : 0;
}

/* To the operator's terminal: what the server or libpq said is worth more than our words for clients. */
static enum xt_code explain(const struct pg_conn *c, enum xt_code code, const char *what, struct xt_err *err) {
    struct xt_err plain = *err;
    bool told = pg_state_is(c, "42501") || !c->detail[0]; /* the message says it already */
    return xt_fail(err, code, "%s%.60s%s%.150s", what, told ? "" : plain.msg, told ? "" : ": ",
                   told ? plain.msg : c->detail);
}

static enum xt_code server_check(struct pg_conn *c, struct xt_err *err) {
    int version = PQserverVersion(c->db);
    if (version < SERVER_LEAST)
        return xt_fail(err, XT_EINVAL, "the database server is PostgreSQL %d.%d: xtrace needs 14 or newer",
                       version / 10000, version % 10000);
    const char *encoding = PQparameterStatus(c->db, "server_encoding");
    if (!encoding || strcmp(encoding, "UTF8") != 0)
        return xt_fail(err, XT_EINVAL, "the database has the encoding %.40s: xtrace needs one with UTF8",
                       encoding ? encoding : "(unknown)");
    return XT_OK;
}

/* In a transaction. 0: there is no schema yet. */
static enum xt_code version_read(struct pg_conn *c, int *ret, struct xt_err *err) {
    PGresult *r = NULL;
    bool there = false;
    /* From the tables, not by to_regclass: that may answer from a cache of before the lock was got. */
    enum xt_code code = pg_query(c,
                                 "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                                 "ON n.oid = c.relnamespace WHERE n.nspname = 'xtrace' AND c.relname = 'migration')",
                                 NULL, &r, err);
    if (code == XT_OK) {
        there = PQntuples(r) == 1 && pg_bool(r, 0, 0);
        PQclear(r);
    }
    *ret = 0;
    if (code != XT_OK || !there)
        return code;
    code = pg_query(c, "SELECT coalesce(max(version), 0) FROM xtrace.migration", NULL, &r, err);
    if (code == XT_OK) {
        *ret = PQntuples(r) == 1 ? (int)pg_i64(r, 0, 0) : 0;
        PQclear(r);
    }
    return code;
}

static enum xt_code schema_look(struct pg_conn *c, int *ret, struct xt_err *err) {
    enum xt_code code = pg_begin(c, false, err);
    if (code == XT_OK)
        code = server_check(c, err);
    if (code == XT_OK)
        code = version_read(c, ret, err);
    pg_rollback(c);
    if (code == XT_OK && *ret > newest_version())
        return xt_fail(err, XT_ECONFLICT,
                       "the database was written by a newer xtrace (schema %d, this program knows %d): use the newer "
                       "program",
                       *ret, newest_version());
    return code;
}

/* In a transaction that holds the lock. */
static enum xt_code mark_applied(struct pg_conn *c, const struct postgres_migration *m, struct xt_err *err) {
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i32(&a, m->version);
    pg_arg_text(&a, str_c(m->name));
    enum xt_code code = pg_query(c, "INSERT INTO xtrace.migration(version, name) VALUES($1, $2)", &a, NULL, err);
    pg_args_done(&a);
    return code;
}

/* Applies one migration unless another server did meanwhile. */
static enum xt_code apply(struct pg_conn *c, const struct postgres_migration *m, struct xt_err *err) {
    int version = 0;
    enum xt_code code = pg_begin(c, true, err);
    if (code == XT_OK)
        code = pg_query(c, LOCK_SQL, NULL, NULL, err);
    if (code == XT_OK)
        code = version_read(c, &version, err);
    if (code == XT_OK && version >= m->version) {
        pg_rollback(c);
        return XT_OK;
    }
    if (code == XT_OK && version == 0)
        code = pg_script(c,
                         "CREATE SCHEMA IF NOT EXISTS xtrace; CREATE TABLE IF NOT EXISTS xtrace.migration("
                         "version int PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
                         err);
    if (code == XT_OK)
        code = pg_script(c, m->sql, err);
    if (code == XT_OK)
        code = mark_applied(c, m, err);
    if (code == XT_OK)
        code = pg_commit(c, err);
    pg_rollback(c);
    return code;
}

static enum xt_code bring_up_to_date(struct pg_conn *c, int version, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; code == XT_OK && i < postgres_migration_count; i++) {
        const struct postgres_migration *m = &postgres_migrations[i];
        if (m->version <= version)
            continue;
        int tries = 3; /* a connection that breaks, a deadlock: nothing of it stays */
        do {
            c->deadline = clock_mono_ns() + MIGRATE_NS;
            code = apply(c, m, err);
        } while (code != XT_OK && pg_again(c) && --tries > 0);
        if (code != XT_OK) {
            char what[80];
            snprintf(what, sizeof what, "migration %d (%s): ", m->version, m->name);
            explain(c, code, what, err);
        }
    }
    return code;
}

/* ---- rights ---- */

/* What serving needs, on every table, sequence and function of the schema; partitions are reached through their table. */
static const char rights_sql[] =
    "SELECT what FROM ("
    "SELECT 1 AS o, 'USAGE on schema xtrace' AS what WHERE NOT has_schema_privilege('xtrace', 'USAGE') "
    "UNION ALL SELECT 2, p || ' on table xtrace.' || c.relname FROM pg_catalog.pg_class c, "
    "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p "
    "WHERE c.relnamespace = to_regnamespace('xtrace') AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
    "AND (p = 'SELECT' OR ($1 AND c.relname <> 'migration')) AND NOT has_table_privilege(c.oid, p) "
    "UNION ALL SELECT 3, 'USAGE on sequence xtrace.' || c.relname FROM pg_catalog.pg_class c "
    "WHERE $1 AND c.relnamespace = to_regnamespace('xtrace') " /* CASE: no other kind may be asked about */
    "AND CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') ELSE false END "
    "UNION ALL SELECT 4, 'EXECUTE on function xtrace.' || f.proname FROM pg_catalog.pg_proc f "
    "WHERE $1 AND f.pronamespace = to_regnamespace('xtrace') AND NOT has_function_privilege(f.oid, 'EXECUTE')"
    ") missing ORDER BY o, what LIMIT 1";

enum xt_code pg_rights_check(struct pg_store *e, struct pg_conn *c, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    enum xt_code code = pg_begin(c, false, err);
    pg_args_init(&a);
    pg_arg_bool(&a, !e->conf.read_only);
    if (code == XT_OK)
        code = pg_query(c, rights_sql, &a, &r, err);
    pg_args_done(&a);
    pg_rollback(c);
    if (code != XT_OK)
        return code;
    if (PQntuples(r) > 0) {
        struct str what = pg_bytes(r, 0, 0);
        code = xt_fail(err, XT_EFORBIDDEN, "the database's user lacks a right: %.*s", STR_FMT(str_sub(what, 0, 150)));
    }
    PQclear(r);
    return code;
}

/* What the server refuses does not come by waiting, but for what goes by (connections, conflicts, resources, a server that
 * stops, starts or is a standby now). */
static enum xt_code lasting(const struct pg_conn *c, enum xt_code code) {
    static const char *const passing[] = { "08", "25", "40", "53", "55", "57" };
    if (!c->sqlstate[0])
        return code;
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (memcmp(c->sqlstate, passing[i], 2) == 0)
            return code;
    return pg_state_is(c, "42501") ? XT_EFORBIDDEN : XT_ESTORE;
}

/* Witnesses of connections that are long gone; one that was only idle writes its row again. No matter if it fails. */
static void forget_marks(struct pg_conn *c) {
    struct xt_err ignored;
    if (pg_begin(c, true, &ignored) == XT_OK &&
        pg_query(c, "DELETE FROM xtrace.mark WHERE at < now() - interval '1 day'", NULL, NULL, &ignored) == XT_OK)
        pg_commit(c, &ignored);
    pg_rollback(c);
}

/* On the catalog's connection: the writer's would want its witness, which is part of the schema. catalog_mu held. */
static enum xt_code migrate_on(struct pg_store *e, struct pg_conn *c, struct xt_err *err) {
    int version = 0;
    c->deadline = clock_mono_ns() + LOOK_NS;
    enum xt_code code = schema_look(c, &version, err);
    if (code == XT_EUNAVAILABLE || code == XT_ETIMEOUT)
        return explain(c, XT_EUNAVAILABLE, "", err);
    if (code != XT_OK)
        return code;
    if (e->conf.read_only && version < newest_version())
        return xt_fail(err, XT_ECONFLICT,
                       version ? "the database has an older schema (%d): run xtrace migrate first"
                               : "the database has no schema of xtrace (%d): run xtrace migrate first",
                       version);
    code = bring_up_to_date(c, version, err);
    c->deadline = clock_mono_ns() + LOOK_NS;
    if (code == XT_OK)
        code = pg_rights_check(e, c, err);
    if (code == XT_OK && e->conf.exclusive)
        forget_marks(c);
    return code;
}

enum xt_code postgres_migrate(struct store *s, struct xt_err *err) {
    struct pg_store *e = pg_of(s);
    pthread_mutex_lock(&e->catalog_mu);
    enum xt_code code = migrate_on(e, &e->catalog, err);
    if (code == XT_EUNAVAILABLE)
        code = err->code = lasting(&e->catalog, code);
    pthread_mutex_unlock(&e->catalog_mu);
    return code;
}
