/* test_postgres_write.c -- writing groups into PostgreSQL: what is kept beside the rows follows from them, also when two
 * servers write the same traces; values that PostgreSQL can't take as they are; unanswered, refused and repeated groups. */
#include <pthread.h>

#include "model_random.h"
#include "pg_fixture.h"
#include "trace_fixture.h"

#include "store/postgres/write.h"
#include "store/text/text.h"

/* A server: an engine of its own on the test's database. */
struct server {
    struct store store;
    struct pg_store *e;
    struct xt_err err;
};
struct world {
    struct pg_database db;
    struct server one, two;
};

static void server_start(struct server *s, const char *url) {
    const struct store_conf conf = { .url = url, .readers = 1 };
    memset(s, 0, sizeof *s);
    s->store.ops = &store_postgres_ops;
    enum xt_code code = s->store.ops->open(&s->store, &conf, &s->err);
    if (code == XT_OK)
        code = s->store.ops->migrate(&s->store, &s->err);
    if (code != XT_OK)
        fail_msg("start: %s", s->err.msg);
    s->e = pg_of(&s->store);
}
static void server_stop(struct server *s) { s->store.ops->close(&s->store); }

static int world_make(void **state) {
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    pg_database_make(&w->db);
    server_start(&w->one, w->db.url);
    server_start(&w->two, w->db.url);
    *state = w;
    return 0;
}
static int world_end(void **state) {
    struct world *w = *state;
    server_stop(&w->one);
    server_stop(&w->two);
    pg_database_drop(&w->db);
    free(w);
    return 0;
}

/* ---- writing ---- */

static enum xt_code try_group(struct server *s, struct batch **b, size_t n) {
    struct batch_part parts[8];
    assert_true(n <= 8);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(texts_prepare(s->e->dicts, b[i], &s->err), XT_OK);
        parts[i] = whole(b[i]);
    }
    enum xt_code code = postgres_write(&s->store, parts, n, &s->err);
    for (size_t i = 0; i < n; i++)
        batch_free(b[i]);
    return code;
}
static void put_group(struct server *s, struct batch **b, size_t n) {
    if (try_group(s, b, n) != XT_OK)
        fail_msg("write: %s (%s %s)", s->err.msg, s->e->writer.sqlstate, s->e->writer.detail);
}
static void put_one(struct server *s, struct batch *b) { put_group(s, &b, 1); }

/* ---- what must hold ---- */

/* Statements that count what is wrong, or name it: each must answer 0. Everything beside the rows is found anew by SQL. */
#define KEYED(table, cols) "SELECT " cols " FROM xtrace." table
#define STARTS "(VALUES (0, 3600000000000), (1, 3600000000000), (2, 86400000000000)) l(level, span)"
#define FLOOR(v, span) "((" v ") - (((" v ") % " span ") + " span ") % " span ")"
static const struct {
    const char *what, *sql;
    bool not_after_retention; /* what removed traces leave goes with their week */
} laws[] = {
    { "aggregates of traces",
      "SELECT count(*) FROM xtrace.trace t LEFT JOIN (SELECT tseq, count(*) n, min(start_at) t0, max(end_at) t1,"
      " coalesce(sum(cost), 0) c, count(cost) cn FROM xtrace.observation GROUP BY tseq) o USING (tseq)"
      " WHERE (t.nobs, t.t0, t.t1, t.ocost, t.ocost_n) IS DISTINCT FROM"
      " (coalesce(o.n, 0), o.t0, o.t1, coalesce(o.c, 0), coalesce(o.cn, 0))",
      false },
    { "timestamps",
      "SELECT count(*) FROM xtrace.trace WHERE ts_source <> 2 AND (ts, ts_source) IS DISTINCT FROM"
      " (coalesce(t0, created), CASE WHEN t0 IS NULL THEN 0 ELSE 1 END)",
      false },
    { "weeks",
      "SELECT (SELECT count(*) FROM xtrace.trace WHERE week <> floor(created / 604800e9)) +"
      " (SELECT count(*) FROM xtrace.observation o LEFT JOIN xtrace.trace t USING (tseq)"
      "  WHERE t.week IS DISTINCT FROM o.week OR t.project <> o.project)",
      true },
    { "keys",
      "SELECT count(*) FROM (SELECT project, v, ts, tseq FROM xtrace.trace_key WHERE kind = 1) k FULL JOIN"
      " (SELECT DISTINCT project, unnest(tags) v, ts, tseq FROM xtrace.trace) t USING (project, v, ts, tseq)"
      " WHERE (k.project IS NULL OR t.project IS NULL) AND octet_length(v) < 200",
      false },
    { "texts that nothing holds, or that are held twice",
      "WITH used AS (SELECT week, unnest(ARRAY[pin, pout, pmeta]) pid FROM xtrace.trace UNION ALL"
      " SELECT week, unnest(ARRAY[pin, pout, pmeta]) FROM xtrace.observation), u AS (SELECT * FROM used WHERE pid > 0),"
      " p AS (SELECT p.week, p.pid, p.n, p.gone, count(u.pid) used, count(DISTINCT u.pid) pids FROM xtrace.payload p"
      "  LEFT JOIN u ON u.week = p.week AND u.pid >= p.pid AND u.pid < p.pid + p.n GROUP BY 1, 2, 3, 4)"
      " SELECT (SELECT count(*) FROM p WHERE used <> n - gone OR used <> pids OR used = 0)"
      " + abs((SELECT count(*) FROM u) - (SELECT coalesce(sum(used), 0) FROM p))",
      true },
    { "rollups of traces",
      "WITH s AS (SELECT t.project, l.level, " FLOOR(
          "t.ts",
          "l.span") " start,"
                    " CASE WHEN l.level > 0 THEN '' WHEN t.name IS NULL THEN '' ELSE '=' || t.name END AS name, "
                    "t.label, t.env,"
                    " count(*) n, sum(t.nobs) nobs, sum(coalesce(t.cost, t.ocost)) cost FROM xtrace.trace t, " STARTS
                    " GROUP BY 1, 2, 3, 4, 5, 6) SELECT count(*) FROM s FULL JOIN xtrace.rollup_trace r"
                    " USING (project, level, start, name, label, env)"
                    " WHERE (s.n, s.nobs, s.cost) IS DISTINCT FROM (r.n, r.nobs, r.cost)",
      false },
    { "rollups of models",
      "WITH m AS (SELECT tseq, CASE WHEN coalesce(model, 'unknown') = 'unknown' THEN '' ELSE '=' || model END model,"
      " count(*) n, coalesce(sum(tin), 0) tin, coalesce(sum(tout), 0) tout, coalesce(sum(ttotal), 0) ttotal,"
      " coalesce(sum(cost), 0) cost FROM xtrace.observation WHERE type = 'GENERATION' GROUP BY 1, 2),"
      " s AS (SELECT t.project, l.level, " FLOOR(
          "t.ts",
          "l.span") " start,"
                    " CASE WHEN l.level > 0 THEN '' WHEN t.name IS NULL THEN '' ELSE '=' || t.name END AS name, "
                    "t.label, t.env,"
                    " m.model, sum(m.n) n, count(*) ntrace, sum(m.tin) tin, sum(m.tout) tout, sum(m.ttotal) ttotal,"
                    " sum(m.cost) cost FROM m JOIN xtrace.trace t USING (tseq), " STARTS
                    " GROUP BY 1, 2, 3, 4, 5, 6, 7)"
                    " SELECT count(*) FROM s FULL JOIN xtrace.rollup_model r USING (project, level, start, name, "
                    "label, env, model)"
                    " WHERE (s.n, s.ntrace, s.tin, s.tout, s.ttotal, s.cost) IS DISTINCT FROM"
                    " (r.n, r.ntrace, r.tin, r.tout, r.ttotal, r.cost)",
      false },
    { "counts",
      "WITH s AS (SELECT t.project, l.span, " FLOOR(
          "t.ts", "(l.span * 1000000000)") " start, count(*) n"
                                           " FROM xtrace.trace t, (VALUES (10::bigint), (3600), (86400)) "
                                           "l(span) GROUP BY 1, 2, 3)"
                                           " SELECT count(*) FROM s FULL JOIN xtrace.rollup_count r USING "
                                           "(project, span, start)"
                                           " WHERE s.n IS DISTINCT FROM r.n",
      false },
};

static void assert_laws(struct world *w, bool after_retention) {
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
        int64_t n = after_retention && laws[i].not_after_retention ? 0 : pg_number(w->db.conn, laws[i].sql);
        if (n != 0)
            fail_msg("seed %llu, %s: %lld wrong %s", (unsigned long long)seed_now, laws[i].what, (long long)n,
                     PQerrorMessage(w->db.conn));
    }
}
static void assert_lawful(struct world *w) { assert_laws(w, false); }
static int64_t number(struct world *w, const char *sql) { return pg_number(w->db.conn, sql); }
static void assert_text(struct world *w, const char *sql, const char *want) {
    PGresult *r = PQexec(w->db.conn, sql);
    assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    assert_int_equal(PQntuples(r), 1);
    assert_string_equal(PQgetvalue(r, 0, 0), want);
    PQclear(r);
}

static size_t retain_all(struct server *s, int64_t cutoff) {
    size_t slices = 0;
    for (bool more = true; more; slices++) {
        assert_true(slices < 100);
        if (postgres_retain(&s->store, RETAIN_TRACES, cutoff, &more, &s->err) != XT_OK)
            fail_msg("retain: %s %s", s->err.msg, s->e->writer.detail);
    }
    return slices;
}

/* ---- tests ---- */

static void a_trace_with_its_observations(void **state) {
    struct world *w = *state;
    struct batch *b = batch_at(BASE);
    struct trace *t = add_trace(b, "0af7651916cd43dd8448eb211c80319c");
    t->name = STR_LIT("chat");
    t->input = STR_LIT("{\"a\":1}");
    set_tags(b, t, "x,y,x");
    for (int i = 0; i < 3; i++) {
        char id[16];
        snprintf(id, sizeof id, "o%d", i);
        struct observation *o = add_obs(b, "0af7651916cd43dd8448eb211c80319c", id);
        o->start = BASE + i * SEC;
        o->end = BASE + (i + 1) * SEC;
        o->model = STR_LIT("gpt");
        o->tokens_in = (struct opt_i64){ INT64_MAX, true };
        o->cost_total = usd("0.5");
        o->input = STR_LIT("{\"messages\":[1,2,3]}");
    }
    put_one(&w->one, b);
    assert_lawful(w);
    assert_int_equal(number(w, "SELECT nobs FROM xtrace.trace WHERE name = 'chat' AND t1 - t0 = 3000000000"), 3);
    assert_text(w, "SELECT tin FROM xtrace.rollup_model WHERE level = 2", "27670116110564327421");
    assert_text(w, "SELECT string_agg(v, ' ' ORDER BY v) FROM xtrace.trace_key", "x y");
    /* The same again changes nothing; an update changes what it says. */
    b = batch_at(BASE + SEC);
    struct observation *o = add_obs(b, "0af7651916cd43dd8448eb211c80319c", "o0");
    o->start = BASE + 5 * SEC; /* the span shrinks */
    o->input = STR_LIT("{\"messages\":[1,2,3]}");
    t = add_trace(b, "0af7651916cd43dd8448eb211c80319c");
    t->name = STR_LIT("other");
    set_tags(b, t, "z");
    put_one(&w->one, b);
    assert_lawful(w);
    assert_int_equal(number(w, "SELECT (t1 - t0) / 1000000000 FROM xtrace.trace WHERE name = 'other'"), 2);
    assert_text(w, "SELECT string_agg(v, ' ' ORDER BY v) FROM xtrace.trace_key", "z");
    assert_int_equal(number(w, "SELECT sum(gone) FROM xtrace.payload"), 0); /* the input came again as it was */
}

/* Random groups by one server, then by two in turns: sums follow from rows. */
static void random_groups(void **state) {
    struct world *w = *state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        random_begin(seed);
        random_ids(seed % 2 == 0);
        for (int step = 0; step < 40; step++) {
            struct batch *b[4];
            size_t n = 1 + rnd(4);
            for (size_t i = 0; i < n; i++) {
                b[i] = batch_at(BASE + step * HOUR + (int64_t)rnd(3) * SEC);
                b[i]->project = 1 + (int64_t)rnd(PROJECTS);
                for (uint64_t k = rnd(8); k > 0; k--)
                    random_trace(b[i]);
                for (uint64_t k = rnd(16); k > 0; k--)
                    random_obs(b[i]);
            }
            put_group(seed < 3 || rnd(2) ? &w->one : &w->two, b, n);
        }
        assert_lawful(w);
    }
}

/* The laws see what is wrong. */
static void laws_can_fail(void **state) {
    struct world *w = *state;
    static const char *const breaks[] = {
        "UPDATE xtrace.trace SET nobs = nobs + 1",
        "UPDATE xtrace.trace SET ts = ts + 1",
        "UPDATE xtrace.trace SET week = 0",
        "DELETE FROM xtrace.trace_key",
        "UPDATE xtrace.payload SET gone = gone + 1",
        "UPDATE xtrace.rollup_trace SET cost = cost + 1 WHERE level = 2",
        "UPDATE xtrace.rollup_model SET tout = tout + 1 WHERE level = 0",
        "UPDATE xtrace.rollup_count SET n = n + 1",
    };
    assert_int_equal(sizeof breaks / sizeof *breaks, sizeof laws / sizeof *laws);
    struct batch *b = batch_at(BASE);
    struct trace *t = add_trace(b, "t");
    set_tags(b, t, "a");
    t->input = STR_LIT("\"text\"");
    add_obs(b, "t", "o");
    put_one(&w->one, b);
    for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
        pg_run(w->db.conn, "BEGIN");
        pg_run(w->db.conn, breaks[i]);
        assert_true(pg_number(w->db.conn, laws[i].sql) > 0);
        pg_run(w->db.conn, "ROLLBACK");
    }
    assert_lawful(w);
}

/* Turns, runs and steps that metadata names are those of the metadata as it is. */
static void names_in_metadata(void **state) {
    struct world *w = *state;
    const char *all = "SELECT coalesce(string_agg(kind || '=' || v, ' ' ORDER BY octet_length(oid), kind), '') FROM "
                      "xtrace.record_key";
    struct batch *b = batch_at(BASE);
    add_trace(b, "t")->metadata = STR_LIT("{\"run_id\":\"r1\",\"turn_id\":7}");
    add_obs(b, "t", "o")->metadata = STR_LIT("{\"step_id\":\"s\",\"parent_step_id\":\"p\"}");
    add_obs(b, "t", "p")->metadata = STR_LIT("{\"other_id\":\"s\"}");
    put_one(&w->one, b);
    assert_text(w, all, "1=7 2=r1 3=s 4=p");
    b = batch_at(BASE + SEC);
    struct trace *t = add_trace(b, "t");
    t->metadata = STR_LIT("{\"run_id\":\"r2\"}");
    t->merge = MERGE_DEEP;
    add_obs(b, "t", "o")->metadata = STR_LIT("{}");
    put_one(&w->one, b);
    assert_text(w, all, "1=7 2=r2");
    b = batch_at(BASE + 2 * SEC);
    add_trace(b, "t")->name = STR_LIT("no metadata");
    put_one(&w->one, b);
    assert_text(w, all, "1=7 2=r2");
    retain_all(&w->one, BASE + SEC);
    assert_text(w, all, "");
}

/* ---- what PostgreSQL can't take as it is ---- */

static struct str long_text(struct batch *b, size_t n, char end) {
    char *p = arena_bytes(&b->arena, n);
    assert_non_null(p);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + (x = x * 1664525 + 1013904223) % 26); /* does not compress away */
    p[n - 1] = end;
    return (struct str){ p, n };
}

static void hard_values(void **state) {
    struct world *w = *state;
    const size_t big = 100000;
    char id[ID_MAX + 1];
    memset(id, 'i', ID_MAX);
    id[ID_MAX] = '\0';
    for (int round = 0; round < 2; round++) {
        struct batch *b = batch_at(BASE + round);
        for (char end = 'a'; end < 'c'; end++) {
            id[ID_MAX - 1] = end; /* two ids that differ at their end */
            struct trace *t = add_trace(b, id);
            t->session = long_text(b, big, end);
            t->user = long_text(b, big, end);
            t->name = long_text(b, big, end);
            t->version = (struct str){ "a\0b\1c", 5 };
            t->tags = arena_new(&b->arena, struct str, 3);
            t->tags[0] = long_text(b, big, 'x');
            t->tags[1] = long_text(b, big, 'y');
            t->tags[2] = (struct str){ "\0", 1 };
            t->ntags = 3;
            t->tags_has = true;
            t->input = STR_LIT("\"\\u0000\"");
            for (char o_end = 'a'; o_end < 'c'; o_end++) {
                char oid[ID_MAX + 1];
                memcpy(oid, id, sizeof oid);
                oid[ID_MAX - 2] = o_end;
                struct observation *o = add_obs(b, id, oid);
                o->name = (struct str){ "\0\1", 2 };
                o->model = long_text(b, big, end);
                o->parent_id = id_of(b, id);
                o->tokens_in = (struct opt_i64){ INT64_MAX, true };
                o->tokens_out = (struct opt_i64){ INT64_MIN, true };
                o->cost_total = (struct opt_money){ ((money)1 << 93), true, STR_NONE };
                o->status_message = long_text(b, big, end);
            }
        }
        put_one(&w->one, b);
        assert_lawful(w);
        assert_int_equal(number(w, "SELECT count(*) FROM xtrace.trace WHERE length(key) = 801 AND length(id) <= 204"),
                         2);
        assert_int_equal(number(w, "SELECT count(*) FROM xtrace.observation WHERE key IS NOT NULL AND"
                                   " length(name) = 4 AND length(rest) > 100000"),
                         4);
        assert_int_equal(number(w, "SELECT count(*) FROM xtrace.trace_key WHERE octet_length(v) <= 204"), 6);
        assert_text(w, "SELECT sum(tin) FROM xtrace.rollup_model WHERE level = 2", "36893488147419103228");
        assert_int_equal(number(w, "SELECT count(*) FROM xtrace.rollup_trace WHERE octet_length(name) > 100000"), 2);
    }
}

/* ---- several servers ---- */

#define HAMMERS 6
#define HAMMER_TRACES 100
#define HAMMER_GROUPS 25
#define HAMMER_OBS 40 /* of a group */

struct hammer {
    struct server s;
    unsigned number, failed;
    uint64_t tries;
    const char *url;
};

/* Group `g` of hammer `h`: observations of its own in traces that all share, whose fields depend on their numbers alone, so
 * that the order in which groups commit can't be seen in the result. */
static struct batch *hammer_batch(unsigned h, unsigned g) {
    struct batch *b = batch_at(BASE);
    uint64_t x = h * 1000 + g + 1;
    for (unsigned i = 0; i < HAMMER_OBS; i++) {
        char trace[40], oid[40];
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        unsigned t = (unsigned)(x % HAMMER_TRACES), n = (h * HAMMER_GROUPS + g) * HAMMER_OBS + i;
        snprintf(trace, sizeof trace, "%08x7651916cd43dd8448eb21%07x", t * 2654435761U, t);
        snprintf(oid, sizeof oid, "%016x", n + 1);
        if (i % 4 == 0) {
            struct trace *tr = add_trace(b, trace);
            tr->name = arena_printf(&b->arena, "name %u", t % 7);
            tr->merge = MERGE_DEEP;
            tr->tags = arena_new(&b->arena, struct str, 1);
            tr->tags[0] = arena_printf(&b->arena, "tag %u", t % 5);
            tr->ntags = 1;
            tr->tags_has = true;
            tr->metadata = arena_printf(&b->arena, "{\"k%u\":%u}", n, n);
        }
        struct observation *o = add_obs(b, trace, oid);
        o->start = BASE + (int64_t)((x >> 20) % 7200) * SEC;
        o->end = o->start + SEC;
        o->model = arena_printf(&b->arena, "model %u", n % 3);
        o->tokens_in = (struct opt_i64){ n, true };
        o->cost_total = usd("0.000000000000000001");
        o->input = arena_printf(&b->arena, "{\"n\":%u}", n);
    }
    return b;
}

static void *hammer_run(void *arg) {
    struct hammer *h = arg;
    server_start(&h->s, h->url);
    for (unsigned g = 0; g < HAMMER_GROUPS; g++) {
        struct batch *b = hammer_batch(h->number, g);
        if (texts_prepare(h->s.e->dicts, b, &h->s.err) != XT_OK)
            h->failed++;
        const struct batch_part part = whole(b);
        if (postgres_write(&h->s.store, &part, 1, &h->s.err) != XT_OK)
            h->failed++;
        batch_free(b);
    }
    h->tries = h->s.e->ws->tries;
    server_stop(&h->s);
    return NULL;
}

#define DIGEST(cols, table) "SELECT md5(string_agg((" cols ")::text, ';' ORDER BY " cols ")) FROM xtrace." table
static const char *const digests[] = {
    DIGEST("(r.project, r.level, r.start, r.name, r.label, r.env, r.n, r.nobs, r.cost)", "rollup_trace r"),
    DIGEST("(r.project, r.level, r.start, r.name, r.model, r.n, r.ntrace, r.tin, r.tout, r.ttotal, r.cost)",
           "rollup_model r"),
    DIGEST("(r.project, r.span, r.start, r.n)", "rollup_count r"),
    DIGEST("(t.id, t.ts, t.name, t.nobs, t.t0, t.t1, t.ocost, t.ocost_n, t.tags)", "trace t"),
    DIGEST("(o.oid, o.start_at, o.end_at, o.tin, o.cost, o.model)", "observation o"),
    "SELECT count(*) FROM xtrace.trace_key",
};

static void several_servers(void **state) {
    struct world *w = *state;
    static struct hammer h[HAMMERS];
    pthread_t threads[HAMMERS];
    struct pg_database alone;
    uint64_t tries = 0;
    for (unsigned i = 0; i < HAMMERS; i++) {
        h[i] = (struct hammer){ .number = i, .url = w->db.url };
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_run, &h[i]), 0);
    }
    for (unsigned i = 0; i < HAMMERS; i++) {
        pthread_join(threads[i], NULL);
        if (h[i].failed)
            fail_msg("%u groups of writer %u: %s", h[i].failed, i, h[i].s.err.msg);
        tries += h[i].tries;
    }
    assert_lawful(w);
    /* New traces are inserted twice at most while there are new ones; after that nobody tries again. */
    assert_in_range(tries, HAMMERS * HAMMER_GROUPS, HAMMERS * HAMMER_GROUPS + HAMMERS * HAMMERS);
    assert_int_equal(number(w, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"), 0);
    /* One server that writes the same groups one after the other makes the same of them. */
    pg_database_make(&alone);
    struct server one;
    server_start(&one, alone.url);
    for (unsigned i = 0; i < HAMMERS; i++)
        for (unsigned g = 0; g < HAMMER_GROUPS; g++)
            put_one(&one, hammer_batch(i, g));
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++) {
        PGresult *both = PQexec(w->db.conn, digests[i]), *own = PQexec(alone.conn, digests[i]);
        assert_int_equal(PQresultStatus(both), PGRES_TUPLES_OK);
        assert_int_equal(PQresultStatus(own), PGRES_TUPLES_OK);
        assert_string_equal(PQgetvalue(both, 0, 0), PQgetvalue(own, 0, 0));
        PQclear(both);
        PQclear(own);
    }
    server_stop(&one);
    pg_database_drop(&alone);
}

/* ---- a database that goes away ---- */

struct killer {
    const char *url;
    _Atomic bool stop;
    _Atomic unsigned tries; /* of the group at hand */
    unsigned kills;
};

/* Ends every backend that serves a writer, again and again; the more often a group failed, the more time it is given. */
static void *kill_run(void *arg) {
    struct killer *k = arg;
    PGconn *conn = pg_connect(k->url);
    unsigned ms = 0;
    while (!atomic_load(&k->stop)) {
        k->kills += pg_number(conn, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname ="
                                    " current_database() AND state <> 'idle' AND pid <> pg_backend_pid()") > 0;
        ms = (ms + 7) % 60; /* at every point of a group, and some get through */
        const long wait = (long)ms * (1 + (long)atomic_load(&k->tries) / 4);
        const struct timespec pause = { .tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1000000 };
        nanosleep(&pause, NULL);
    }
    PQfinish(conn);
    return NULL;
}

/* A database that went back gives numbers of texts again, to another server: those in hand are not used. */
static void numbers_given_again(void **state) {
    struct world *w = *state;
    char sql[100];
    struct server *order[] = { &w->one, &w->two, &w->one, &w->two };
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        struct batch *b = hammer_batch(i, 0);
        if (i == 1) {
            snprintf(sql, sizeof sql, "SELECT setval('xtrace.payload_pid', %lld, false)",
                     (long long)w->one.e->ws->pids[0].next + 1);
            assert_true(number(w, sql) > 0);
            w->one.e->ws->started--; /* as if it were another start of the database */
        }
        if (try_group(order[i], &b, 1) != XT_OK)
            fail_msg("group %u: %s", i, order[i]->err.msg);
    }
    assert_lawful(w);
    assert_int_equal(number(w, "SELECT count(*) FROM xtrace.observation"), 4 * HAMMER_OBS);
    for (size_t i = 0; i < w->one.e->ws->npids; i++)
        assert_true(w->one.e->ws->pids[i].next >= w->two.e->ws->pids[0].end);
}

/* What was acknowledged is there, once; what was not may be sent again. */
static void backends_that_die(void **state) {
    struct world *w = *state;
    struct killer k = { .url = w->db.url };
    pthread_t thread;
    enum xt_code code = XT_OK;
    assert_int_equal(pthread_create(&thread, NULL, kill_run, &k), 0);
    for (unsigned g = 0; g < HAMMER_GROUPS && code == XT_OK; g++) {
        code = XT_EUNAVAILABLE;
        for (unsigned i = 0; code == XT_EUNAVAILABLE && i < 50; i++) {
            atomic_store(&k.tries, i);
            struct batch *b = hammer_batch(7, g);
            code = try_group(&w->one, &b, 1);
        }
    }
    atomic_store(&k.stop, true);
    pthread_join(thread, NULL);
    if (code != XT_OK)
        fail_msg("%d: %s", (int)code, w->one.err.msg);
    assert_true(k.kills > 0);
    assert_lawful(w);
    assert_int_equal(number(w, "SELECT count(*) FROM xtrace.observation"), HAMMER_GROUPS * HAMMER_OBS);
    assert_int_equal(number(w, "SELECT sum(n) FROM xtrace.rollup_model WHERE level = 2"), HAMMER_GROUPS * HAMMER_OBS);
}

/* Memory that runs out anywhere gives a code; the next try finds all as it should be. */
static void without_memory(void **state) {
    struct world *w = *state;
    unsigned failed = 0, done = 0;
    put_one(&w->one, hammer_batch(8, 0)); /* the connection is open, there is something to merge with */
    for (uint64_t at = 1; done < 3 && at < 400; at += 1 + at / 8) {
        struct batch *b = hammer_batch(8, (unsigned)at % HAMMER_GROUPS);
        assert_int_equal(texts_prepare(w->one.e->dicts, b, &w->one.err), XT_OK);
        const struct batch_part part = whole(b);
        alloc_fail_at(at);
        enum xt_code code = postgres_write(&w->one.store, &part, 1, &w->one.err);
        alloc_fail_at(0);
        failed += code != XT_OK;
        done += code == XT_OK;
        if (code != XT_OK && code != XT_ENOMEM && code != XT_EUNAVAILABLE)
            fail_msg("allocation %d: %d %s", (int)at, (int)code, w->one.err.msg);
        batch_free(b);
    }
    assert_true(failed > 0 && done == 3);
    assert_lawful(w);
}

/* ---- retention ---- */

/* A thousand traces created then, with an observation, a tag and a text each. */
static void put_created(struct server *s, int64_t created, int n) {
    struct batch *b = batch_at(created);
    for (int i = 0; i < n; i++) {
        char id[40];
        snprintf(id, sizeof id, "trace %d of %lld", i, (long long)created);
        struct trace *t = add_trace(b, id);
        set_tags(b, t, "a");
        t->input = STR_LIT("\"text\"");
        t->name = STR_LIT("n");
        add_obs(b, id, "o")->cost_total = usd("1.5");
    }
    put_one(s, b);
}

static void retention(void **state) {
    struct world *w = *state;
    const int64_t now = clock_now_ns(), week = PG_WEEK_NS, cutoff = now - 2 * week;
    char sql[200];
    const int32_t past = pg_week(now - 4 * week);
    snprintf(sql, sizeof sql, "SELECT xtrace.partitions_ensure(%d)", past);
    pg_run(w->db.conn, sql);
    put_created(&w->one, now - 4 * week, 700);    /* in a partition of its own */
    put_created(&w->one, BASE - 100 * week, 700); /* among what is far off */
    put_created(&w->one, cutoff - 1, 10);
    put_created(&w->one, cutoff, 10);
    put_created(&w->two, now, 10);
    assert_lawful(w);
    assert_true(retain_all(&w->one, cutoff) > 3);
    assert_laws(w, true);
    assert_int_equal(number(w, "SELECT count(*) FROM xtrace.trace"), 20);
    assert_int_equal(number(w, "SELECT count(*) FROM xtrace.trace_key"), 20);
    assert_int_equal(number(w, "SELECT sum(n) FROM xtrace.rollup_count WHERE span = 3600"), 20);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_class WHERE relname IN ('observation_w%d', 'payload_w%d')", past,
             past);
    assert_int_equal(number(w, sql), 0);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM xtrace.observation WHERE week < %d", pg_week(cutoff));
    assert_int_equal(number(w, sql), 0);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM xtrace.payload WHERE week < %d", pg_week(cutoff));
    assert_int_equal(number(w, sql), 0);
    assert_int_equal(atomic_load(&w->one.e->removed_traces), 1410);
    /* Another server finds the lease taken and leaves it all alone. */
    assert_int_equal(retain_all(&w->two, now + week), 1);
    assert_int_equal(number(w, "SELECT count(*) FROM xtrace.trace"), 20);
    pg_run(w->db.conn, "UPDATE xtrace.lease SET until = now()");
    retain_all(&w->two, now + 5 * week);
    assert_int_equal(number(w, "SELECT count(*) FROM xtrace.trace"), 0);
    assert_int_equal(number(w, "SELECT (SELECT count(*) FROM xtrace.rollup_trace) +"
                               " (SELECT count(*) FROM xtrace.rollup_model) +"
                               " (SELECT count(*) FROM xtrace.rollup_count) +"
                               " (SELECT count(*) FROM xtrace.observation)"),
                     0);
    /* Traces come again. */
    put_created(&w->one, now, 10);
    assert_laws(w, true);
}

int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_trace_with_its_observations, world_make, world_end),
        cmocka_unit_test_setup_teardown(laws_can_fail, world_make, world_end),
        cmocka_unit_test_setup_teardown(random_groups, world_make, world_end),
        cmocka_unit_test_setup_teardown(names_in_metadata, world_make, world_end),
        cmocka_unit_test_setup_teardown(hard_values, world_make, world_end),
        cmocka_unit_test_setup_teardown(several_servers, world_make, world_end),
        cmocka_unit_test_setup_teardown(numbers_given_again, world_make, world_end),
        cmocka_unit_test_setup_teardown(backends_that_die, world_make, world_end),
        cmocka_unit_test_setup_teardown(without_memory, world_make, world_end),
        cmocka_unit_test_setup_teardown(retention, world_make, world_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
