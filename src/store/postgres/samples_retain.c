/* samples_retain.c -- removing samples that are too old. The writer's thread; one bounded step a call, under the lease `jobs`.
 *
 *  1. Points that are in no generation yet: our part is ended and sealed without the old ones; streams whose server is gone
 *     are sealed whole. Other servers hear of the cutoff by `state.sample_cut` and do the same with their parts.
 *  2. In one statement every generation gets its `cut`: points before it are gone for readers from then on, also in a
 *     generation that stays. Generations without any others go, some a step; of the rest the parts that are wholly past.
 *  3. Then names that no generation has; those that a seal under way numbers are locked, and stay. Last, in a transaction
 *     of their own, partitions of packs that no generation is in. */
#include <stdio.h>
#include <time.h>

#include "store/postgres/samples.h"

#define LEASE_NS (15 * NS_PER_SEC)
#define SEAL_WAIT_NS (20 * INT64_C(1000000))

/* Waits a little for the thread; true: it is behind still. */
static bool behind(struct pg_samples *s) {
    int64_t until = clock_mono_ns() + SEAL_WAIT_NS;
    struct timespec ts = { (time_t)(until / NS_PER_SEC), (long)(until % NS_PER_SEC) };
    pthread_mutex_lock(&s->seal_mu);
    while (s->threaded && !s->gone && s->own != 0 && s->sealed < s->full_part &&
           pthread_cond_timedwait(&s->seal_cv, &s->seal_mu, &ts) == 0) {}
    bool left = s->threaded && !s->gone && s->own != 0 && s->sealed < s->full_part;
    pthread_mutex_unlock(&s->seal_mu);
    return left;
}

/* Our own part. *ret_busy: come again. */
static void own_part(struct pg_store *e, int64_t cutoff, bool *ret_busy) {
    struct pg_samples *s = e->samples;
    *ret_busy = false;
    pthread_mutex_lock(&s->seal_mu);
    s->heard_cut = TIME_MIN; /* this round is the last word */
    pthread_mutex_unlock(&s->seal_mu);
    pg_samples_tidy(e); /* the thread is there */
    /* What comes afterwards is for the next round. */
    const bool cut = s->cut_for == cutoff || pg_samples_cut_old(e, cutoff);
    *ret_busy = behind(s) || !cut;
}

static enum xt_code run(struct pg_conn *c, const char *sql, int64_t v, int64_t *ret_touched, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_i64(&a, v);
    enum xt_code code = pg_query(c, sql, &a, &r, err);
    if (code == XT_OK && ret_touched)
        *ret_touched += pg_touched(r);
    PQclear(r);
    pg_args_done(&a);
    return code;
}

static enum xt_code plain(struct pg_conn *c, const char *sql, int64_t *ret_touched, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = pg_query(c, sql, NULL, &r, err);
    if (code == XT_OK && ret_touched)
        *ret_touched += pg_touched(r);
    PQclear(r);
    return code;
}

#define SOME_GENS "32"
#define SOME_NAMES "100000" /* a round */

/* Generations that are wholly past, some of them. Their packs go with their partition, or here when that one stays. */
static enum xt_code drop_gens(struct pg_conn *c, int64_t *ret_n, struct xt_err *err) {
    static const char *const tables[] = {
        "DELETE FROM xtrace.mpack p USING (SELECT gen, week FROM xtrace.mgen WHERE t1 < cut ORDER BY gen "
        "LIMIT " SOME_GENS ") g WHERE p.week = g.week AND p.gen = g.gen",
        "DELETE FROM xtrace.mfilter WHERE gen IN (SELECT gen FROM xtrace.mgen WHERE t1 < cut ORDER BY gen "
        "LIMIT " SOME_GENS ")",
        "DELETE FROM xtrace.mdir WHERE gen IN (SELECT gen FROM xtrace.mgen WHERE t1 < cut ORDER BY gen LIMIT " SOME_GENS
        ")",
    };
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && code == XT_OK; i++)
        code = plain(c, tables[i], NULL, err);
    if (code == XT_OK)
        code = plain(c,
                     "DELETE FROM xtrace.mgen WHERE gen IN (SELECT gen FROM xtrace.mgen WHERE t1 < cut ORDER BY gen"
                     " LIMIT " SOME_GENS ")",
                     ret_n, err);
    return code;
}

/* Of generations that stay: parts and directories that are wholly past, generation by generation. */
static enum xt_code sweep_gens(struct pg_conn *c, int64_t *ret_n, struct xt_err *err) {
    static const char some[] =
        "(SELECT gen, week, cut FROM xtrace.mgen WHERE swept < cut AND t1 >= cut ORDER BY gen LIMIT " SOME_GENS ")";
    char sql[1024];
    enum xt_code code = XT_OK;
    snprintf(sql, sizeof sql, "DELETE FROM xtrace.mdir d USING %s g WHERE d.gen = g.gen AND d.t1 < g.cut", some);
    code = plain(c, sql, NULL, err);
    if (code == XT_OK) {
        snprintf(
            sql, sizeof sql,
            "WITH gone AS (DELETE FROM xtrace.mpack p USING %s g WHERE p.week = g.week AND p.gen = g.gen AND p.t1 < "
            "g.cut"
            " RETURNING p.gen, p.part, p.n) UPDATE xtrace.mdir d SET n = d.n - x.n FROM (SELECT d2.name, d2.gen,"
            " sum(gone.n) AS n FROM gone JOIN xtrace.mdir d2 ON d2.gen = gone.gen AND gone.part >= d2.first"
            " AND gone.part < d2.first + d2.parts GROUP BY d2.name, d2.gen) x WHERE d.name = x.name AND d.gen = x.gen",
            some);
        code = plain(c, sql, NULL, err);
    }
    if (code == XT_OK) {
        snprintf(sql, sizeof sql, "UPDATE xtrace.mgen m SET swept = m.cut FROM %s g WHERE m.gen = g.gen", some);
        code = plain(c, sql, ret_n, err);
    }
    return code;
}

/* Weeks of packs that no generation is in. The last one may have one that is being stored. Readers that are at a partition
 * make it stay until the next round. */
static void drop_weeks(struct pg_store *e) {
    struct pg_conn *c = &e->writer;
    struct xt_err unheard;
    enum xt_code code = pg_writer_begin(e, &unheard);
    if (code == XT_OK)
        code = plain(c, "SET LOCAL lock_timeout = '200ms'", NULL, &unheard);
    if (code == XT_OK)
        code = run(c, "SELECT xtrace.partitions_drop('mpack', least($1, (SELECT min(week) FROM xtrace.mgen))::int)",
                   pg_week(clock_now_ns()) - 1, NULL, &unheard);
    if (code == XT_OK)
        code = pg_commit(c, &unheard);
    if (code != XT_OK)
        pg_rollback(c);
}

/* Logs of servers that are gone: the thread makes generations of them. */
static enum xt_code left_behind(struct pg_store *e, struct pg_conn *c, bool *ret, struct xt_err *err) {
    struct pg_samples *s = e->samples;
    PGresult *r = NULL;
    enum xt_code code =
        pg_query(c, "SELECT 1 FROM xtrace.mstream WHERE until <= clock_timestamp() LIMIT 1", NULL, &r, err);
    *ret = code == XT_OK && PQntuples(r) > 0 && s->threaded;
    PQclear(r);
    if (*ret) {
        pthread_mutex_lock(&s->seal_mu);
        s->asked = true;
        pthread_cond_broadcast(&s->seal_cv);
        pthread_mutex_unlock(&s->seal_mu);
    }
    return code;
}

/* Names without points. They are locked first, those that a seal under way numbers are passed over; then a second look,
 * which sees what was sealed up to the lock: the first one's snapshot may be older than a seal that just ended. */
static enum xt_code drop_names(struct pg_conn *c, struct xt_err *err) {
    PGresult *r = NULL;
    struct pg_args a;
    enum xt_code code = pg_query(c,
                                 "SELECT id FROM xtrace.mname m WHERE NOT EXISTS (SELECT FROM xtrace.mdir d"
                                 " WHERE d.name = m.id) LIMIT " SOME_NAMES " FOR UPDATE SKIP LOCKED",
                                 NULL, &r, err);
    size_t n = code == XT_OK ? (size_t)PQntuples(r) : 0;
    pg_args_init(&a);
    pg_arg_array(&a, PG_INT8, n);
    for (size_t i = 0; i < n; i++)
        pg_item_i64(&a, pg_i64(r, (int)i, 0));
    if (n > 0)
        code = pg_query(c,
                        "DELETE FROM xtrace.mname m USING unnest($1) AS u(id) WHERE m.id = u.id AND NOT EXISTS"
                        " (SELECT FROM xtrace.mdir d WHERE d.name = m.id)",
                        &a, NULL, err);
    pg_args_done(&a);
    PQclear(r);
    return code;
}

static enum xt_code step(struct pg_store *e, struct pg_conn *c, int64_t cutoff, bool *ret_mine, bool *ret_more,
                         struct xt_err *err) {
    int64_t n = 0;
    bool left = false;
    enum xt_code code = pg_lease_take(e, c, STR_LIT("jobs"), LEASE_NS, ret_mine, err);
    if (code == XT_OK && *ret_mine)
        code = left_behind(e, c, &left, err);
    *ret_more = left;
    if (code != XT_OK || !*ret_mine || left)
        return code;
    code = run(c,
               "INSERT INTO xtrace.state(k, v) VALUES ('sample_cut', $1) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
               " WHERE state.v <> excluded.v",
               cutoff, NULL, err);
    if (code == XT_OK)
        code = run(c, "UPDATE xtrace.mgen SET cut = $1 WHERE t0 < $1 AND cut < $1 AND cut <= t1", cutoff, NULL, err);
    if (code == XT_OK)
        code = drop_gens(c, &n, err);
    if (code == XT_OK && n == 0)
        code = sweep_gens(c, &n, err);
    if (code == XT_OK && n == 0)
        code = drop_names(c, err);
    *ret_more = n > 0;
    return code;
}

enum xt_code pg_retain_samples(struct pg_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    struct pg_conn *c = &e->writer;
    bool busy = false, mine = false;
    *ret_more = false;
    own_part(e, cutoff, &busy);
    if (busy) {
        *ret_more = true;
        return XT_OK;
    }
    enum xt_code code = pg_writer_begin(e, err);
    if (code == XT_OK)
        code = step(e, c, cutoff, &mine, ret_more, err);
    if (code == XT_OK)
        code = pg_commit(c, err);
    if (code == XT_OK && *ret_more)
        behind(e->samples); /* a pause, while the thread works */
    if (code != XT_OK) {
        *ret_more = false;
        pg_rollback(c);
    } else if (mine && !*ret_more) {
        drop_weeks(e);
    }
    return code;
}
