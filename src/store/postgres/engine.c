/* engine.c -- the PostgreSQL engine's life and its table of ops.
 *
 *  1. Opening reads the URL and reserves what is needed; the database is asked for the first time by migrate.
 *  2. Nothing is kept that the database does not have: closing is forgetting. */
#include "store/postgres/engine.h"

#include <stdlib.h>

#include "base/id.h"
#include "store/postgres/samples.h"
#include "store/postgres/write.h"
#include "store/text/dict.h"

#define PROBE_NS (1200 * (NS_PER_SEC / 1000)) /* with the grace of a wait: an answer within 1.5 s */

static enum xt_code postgres_open(struct store *s, const struct store_conf *conf, struct xt_err *err) {
    struct pg_store *e = alloc_should_fail() ? NULL : calloc(1, sizeof *e);
    if (!e)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    e->conf = *conf;
    e->conf.url = NULL;
    enum xt_code code = pg_target_new(conf->url, &e->target, err);
    if (code != XT_OK) {
        free(e);
        return code;
    }
    s->engine = e;
    if (!random_bytes(e->holder, sizeof e->holder))
        xt_fail(err, code = XT_EUNAVAILABLE, "the system has no randomness");
    e->dicts = dicts_new();
    if (!e->dicts && code == XT_OK)
        xt_fail(err, code = XT_ENOMEM, "out of memory");
    enum xt_code pool = pg_pool_init(e, code == XT_OK ? err : NULL);
    if (code == XT_OK)
        code = pool;
    if (code == XT_OK)
        code = pg_samples_new(e, err);
    return code == XT_OK ? pg_write_state_new(e, err) : code;
}

static void postgres_close(struct store *s) {
    struct pg_store *e = pg_of(s);
    if (!e)
        return;
    pg_takeover_free(e);
    pg_samples_free(e); /* its thread takes the jobs as well */
    pg_jobs_give(e);
    pg_write_state_free(e);
    pg_pool_done(e);
    dicts_free(e->dicts);
    pg_target_free(e->target);
    free(e);
    s->engine = NULL;
}

/* Every write transaction of the writer writes its witness: an empty one is a tiny durable write. */
static enum xt_code postgres_probe(struct store *s, struct xt_err *err) {
    struct pg_conn *c = &pg_of(s)->writer;
    c->deadline = clock_mono_ns() + PROBE_NS;
    enum xt_code code = pg_begin(c, true, err);
    if (code == XT_OK)
        code = pg_query(c, "SELECT 1", NULL, NULL, err);
    if (code == XT_OK)
        code = pg_commit(c, err);
    pg_rollback(c);
    return code;
}

static void postgres_stats(struct store *s, struct store_stats *ret) {
    struct pg_store *e = pg_of(s);
    *ret = (struct store_stats){
        .file_bytes = atomic_load_explicit(&e->size, memory_order_relaxed),
        .reads = atomic_load_explicit(&e->reads, memory_order_relaxed),
        .read_errors = atomic_load_explicit(&e->read_errors, memory_order_relaxed),
        .read_timeouts = atomic_load_explicit(&e->read_timeouts, memory_order_relaxed),
        .removed_traces = atomic_load_explicit(&e->removed_traces, memory_order_relaxed),
    };
}

/* ---- what PostgreSQL's own tools do ---- */

static enum xt_code postgres_backup(struct store *s, const char *file, struct xt_err *err) {
    (void)s;
    (void)file;
    return xt_fail(err, XT_EINVAL, "this store is a PostgreSQL database: back it up with pg_dump --schema=xtrace");
}

static enum xt_code postgres_restore(const char *url, const char *file, struct xt_err *err) {
    (void)url;
    (void)file;
    return xt_fail(err, XT_EINVAL, "this store is a PostgreSQL database: restore a dump of it with pg_restore or psql");
}

static enum xt_code postgres_repair(struct store *s, struct buf *report, struct xt_err *err) {
    (void)s;
    (void)report;
    return xt_fail(err, XT_EINVAL, "this store is a PostgreSQL database: there is nothing to repair it with yet");
}

const struct store_ops store_postgres_ops = {
    .scheme = "postgresql",
    .alias = "postgres",
    .remote = true,
    .open = postgres_open,
    .close = postgres_close,
    .migrate = postgres_migrate,
    .take_over = postgres_take_over,
    .prepare = postgres_prepare,
    .write = postgres_write,
    .probe = postgres_probe,
    .tidy = postgres_tidy,
    .retain = postgres_retain,
    .metric_names = postgres_metric_names,
    .series = postgres_series,
    .study = postgres_study,
    .learn = postgres_learn,
    .ping = postgres_ping,
    .traces_list = postgres_traces_list,
    .trace_get = postgres_trace_get,
    .observation_get = postgres_observation_get,
    .daily = postgres_daily,
    .stats = postgres_stats,
    .project_open = postgres_project_open,
    .keys_version = postgres_keys_version,
    .keys_list = postgres_keys_list,
    .key_create = postgres_key_create,
    .key_revoke = postgres_key_revoke,
    .backup = postgres_backup,
    .check = postgres_check,
    .repair = postgres_repair,
    .restore = postgres_restore,
};
