/* lease.c -- what only one server may do at a time, as rows with an end: nothing depends on a session, and a server that
 * died is out by time. Only the database's clock is asked. A lease that is checked inside a transaction (a share lock on
 * its row) stays its holder's until that transaction ends, whatever the clock says; so renew in the transaction that
 * works, not beside it. */
#include "store/postgres/engine.h"

static struct str holder_of(const struct pg_store *e) {
    return (struct str){ (const char *)e->holder, sizeof e->holder };
}

/* Runs a statement of name and holder; *ret_any: it gave or touched a row. */
static enum xt_code ask(struct pg_store *e, struct pg_conn *c, const char *sql, struct str name, int64_t ns,
                        bool *ret_any, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_text(&a, name);
    pg_arg_bytes(&a, holder_of(e));
    if (ns > 0)
        pg_arg_f64(&a, (double)ns / (double)NS_PER_SEC);
    enum xt_code code = pg_query(c, sql, &a, &r, err);
    pg_args_done(&a);
    if (code != XT_OK)
        return code;
    if (ret_any)
        *ret_any = PQntuples(r) > 0;
    PQclear(r);
    return XT_OK;
}

enum xt_code pg_lease_take(struct pg_store *e, struct pg_conn *c, struct str name, int64_t ns, bool *ret_mine,
                           struct xt_err *err) {
    return ask(e, c,
               "INSERT INTO xtrace.lease AS l(name, holder, until) "
               "VALUES($1, $2, clock_timestamp() + make_interval(secs => $3)) ON CONFLICT (name) DO UPDATE "
               "SET holder = excluded.holder, until = clock_timestamp() + make_interval(secs => $3) "
               "WHERE l.holder = excluded.holder OR l.until <= clock_timestamp() RETURNING 1",
               name, ns, ret_mine, err);
}

enum xt_code pg_lease_check(struct pg_store *e, struct pg_conn *c, struct str name, bool *ret_mine,
                            struct xt_err *err) {
    return ask(e, c,
               "SELECT 1 FROM xtrace.lease WHERE name = $1 AND holder = $2 AND until > clock_timestamp() FOR SHARE",
               name, 0, ret_mine, err);
}

enum xt_code pg_lease_give(struct pg_store *e, struct pg_conn *c, struct str name, struct xt_err *err) {
    return ask(e, c, "DELETE FROM xtrace.lease WHERE name = $1 AND holder = $2", name, 0, NULL, err);
}
