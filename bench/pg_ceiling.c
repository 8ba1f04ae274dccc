/* pg_ceiling.c -- yardsticks for bench/postgres: what PostgreSQL alone takes here, with no server in front of it.
 *
 *   pg_ceiling copy URL SECONDS BYTES      groups by binary COPY into session tables and one upsert a table; BYTES of stored
 *                                          payload an observation
 *   pg_ceiling original URL SECONDS BYTES  the write pattern of the original: its tables and indexes, two statements an
 *                                          observation one after the other, prepared; BYTES of JSON an observation
 *
 * A transaction holds what 32 connections with 100 observations a body make of one. Tables are made in a schema of their own,
 * which is dropped first. Random ids, ten observations a trace, nothing decoded. */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shape.h"

#define GROUP 3200 /* observations */
#define SCHEMA "bench_ceiling"

static const char copy_schema[] =
    "DROP SCHEMA IF EXISTS " SCHEMA " CASCADE; CREATE SCHEMA " SCHEMA ";"
    "CREATE TABLE " SCHEMA
    ".trace(id uuid PRIMARY KEY, ts bigint NOT NULL, created bigint NOT NULL, updated bigint NOT NULL,"
    "  name text, user_id text, session text, env text NOT NULL);"
    "CREATE INDEX ON " SCHEMA ".trace(ts);"
    "CREATE TABLE " SCHEMA
    ".obs(trace uuid NOT NULL, id uuid NOT NULL, created bigint NOT NULL, updated bigint NOT NULL,"
    "  start_at bigint, end_at bigint, type text, name text, model text, tin bigint, tout bigint, ttotal bigint, "
    "payload bytea,"
    "  PRIMARY KEY(trace, id));"
    "ALTER TABLE " SCHEMA ".obs ALTER COLUMN payload SET STORAGE EXTERNAL;"
    "CREATE TEMP TABLE new_trace(LIKE " SCHEMA ".trace); CREATE TEMP TABLE new_obs(LIKE " SCHEMA ".obs);";

static const char upserts[] =
    "INSERT INTO " SCHEMA
    ".trace SELECT * FROM new_trace ORDER BY id ON CONFLICT (id) DO UPDATE SET updated = excluded.updated,"
    "  name = coalesce(excluded.name, trace.name), user_id = coalesce(excluded.user_id, trace.user_id);"
    "INSERT INTO " SCHEMA ".obs SELECT * FROM new_obs ON CONFLICT (trace, id) DO UPDATE SET updated = excluded.updated,"
    "  end_at = coalesce(excluded.end_at, obs.end_at), payload = coalesce(excluded.payload, obs.payload);"
    "TRUNCATE new_trace, new_obs; COMMIT;";

static const char original_schema[] =
    "DROP SCHEMA IF EXISTS " SCHEMA " CASCADE; CREATE SCHEMA " SCHEMA ";"
    "CREATE TABLE " SCHEMA
    ".traces(id uuid PRIMARY KEY, project_id text NOT NULL, \"timestamp\" timestamptz NOT NULL, name text,"
    "  session_id text, user_id text, tags text[] NOT NULL DEFAULT '{}', environment text NOT NULL DEFAULT 'default',"
    "  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());"
    "CREATE INDEX ON " SCHEMA ".traces(environment); CREATE INDEX ON " SCHEMA ".traces(project_id, \"timestamp\" DESC);"
    "CREATE INDEX ON " SCHEMA ".traces(session_id); CREATE INDEX ON " SCHEMA ".traces USING gin(tags);"
    "CREATE INDEX ON " SCHEMA ".traces(user_id);"
    "CREATE TABLE " SCHEMA ".observations(id uuid PRIMARY KEY, trace_id uuid NOT NULL REFERENCES " SCHEMA
    ".traces(id) ON DELETE"
    "  CASCADE, type text NOT NULL, name text, start_time timestamptz, end_time timestamptz, model text, input jsonb,"
    "  output jsonb, usage jsonb, prompt_tokens bigint, completion_tokens bigint, total_tokens bigint, metadata jsonb,"
    "  project_id text NOT NULL, environment text NOT NULL DEFAULT 'default', created_at timestamptz NOT NULL DEFAULT "
    "now(),"
    "  updated_at timestamptz NOT NULL DEFAULT now());"
    "CREATE INDEX ON " SCHEMA ".observations(environment); CREATE INDEX ON " SCHEMA ".observations(project_id);"
    "CREATE INDEX ON " SCHEMA ".observations(trace_id, start_time);";

static const char original_trace[] =
    "INSERT INTO " SCHEMA ".traces(id, project_id, \"timestamp\", name, session_id, user_id, tags)"
    " VALUES ($1::uuid, 'default', now(), 'chat', $2, $3, '{a,b}') ON CONFLICT (id) DO NOTHING";
static const char original_observation[] =
    "INSERT INTO " SCHEMA ".observations(id, trace_id, type, name, start_time, end_time, model, input, output, usage,"
    " prompt_tokens, completion_tokens, total_tokens, project_id) VALUES ($1::uuid, $2::uuid, 'GENERATION', 'answer', "
    "now(), now(),"
    " 'gpt-4o-mini', $3::jsonb, $4::jsonb, '{\"input\":12,\"output\":4,\"total\":16}', 12, 4, 16, 'default')"
    " ON CONFLICT (id) DO UPDATE SET trace_id = excluded.trace_id, type = excluded.type, name = excluded.name,"
    " start_time = excluded.start_time, end_time = excluded.end_time, model = excluded.model, input = excluded.input,"
    " output = excluded.output, usage = excluded.usage, updated_at = now()";

struct ceiling {
    PGconn *pg;
    uint64_t random;
    char bytes[65536]; /* random: payloads are stored compressed */
    char *out;         /* of the COPY at hand */
    size_t n, cap;
};

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void check(struct ceiling *c, PGresult *r) {
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN) {
        fprintf(stderr, "pg_ceiling: %s", PQerrorMessage(c->pg));
        exit(1);
    }
    PQclear(r);
}

static void run(struct ceiling *c, const char *sql) { check(c, PQexec(c->pg, sql)); }

/* ---- COPY ---- */

static void put(struct ceiling *c, const void *p, size_t n) {
    if (c->cap - c->n < n) {
        c->cap = (c->cap + n) * 2;
        c->out = need(realloc(c->out, c->cap));
    }
    memcpy(c->out + c->n, p, n);
    c->n += n;
}

static void put_number(struct ceiling *c, uint64_t v, size_t bytes) {
    unsigned char raw[8];
    for (size_t i = 0; i < bytes; i++)
        raw[i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
    put(c, raw, bytes);
}

static void put_value(struct ceiling *c, const void *p, size_t n) {
    put_number(c, n, 4);
    put(c, p, n);
}

static void put_i64(struct ceiling *c, int64_t v) {
    put_number(c, 8, 4);
    put_number(c, (uint64_t)v, 8);
}

static void copy_begin(struct ceiling *c, const char *sql) {
    run(c, sql);
    c->n = 0;
    put(c, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
}

static void copy_end(struct ceiling *c) {
    put_number(c, 0xffff, 2);
    if (PQputCopyData(c->pg, c->out, (int)c->n) != 1 || PQputCopyEnd(c->pg, NULL) != 1)
        fprintf(stderr, "pg_ceiling: %s", PQerrorMessage(c->pg));
    for (PGresult *r; (r = PQgetResult(c->pg));)
        check(c, r);
}

static void copy_trace(struct ceiling *c, const uint64_t id[2], int64_t ts) {
    char user[USER_TEXT], session[SESSION_TEXT];
    put_user(user, shape_skewed(rng(&c->random), USERS));
    put_session(session, rng(&c->random));
    put_number(c, 8, 2);
    put_value(c, id, 16);
    put_i64(c, ts);
    put_i64(c, ts);
    put_i64(c, ts);
    put_value(c, "chat", 4);
    put_value(c, user, sizeof user);
    put_value(c, session, sizeof session);
    put_value(c, "default", 7);
}

static void copy_observation(struct ceiling *c, const uint64_t trace[2], int64_t ts, size_t bytes) {
    const uint64_t id[2] = { rng(&c->random), rng(&c->random) };
    put_number(c, 13, 2);
    put_value(c, trace, 16);
    put_value(c, id, 16);
    for (int i = 0; i < 4; i++)
        put_i64(c, ts);
    put_value(c, "GENERATION", 10);
    put_value(c, "answer", 6);
    put_value(c, "gpt-4o-mini", 11);
    for (int64_t i = 4; i <= 12; i += 4)
        put_i64(c, i);
    put_value(c, c->bytes + rng(&c->random) % (sizeof c->bytes - bytes), bytes);
}

static void copy_group(struct ceiling *c, size_t bytes) {
    static uint64_t ids[GROUP / OBSERVATIONS_EACH][2];
    int64_t ts = now();
    run(c, "BEGIN");
    copy_begin(c, "COPY new_trace FROM STDIN (FORMAT binary)");
    for (size_t i = 0; i < GROUP / OBSERVATIONS_EACH; i++) {
        ids[i][0] = rng(&c->random);
        ids[i][1] = rng(&c->random);
        copy_trace(c, ids[i], ts);
    }
    copy_end(c);
    copy_begin(c, "COPY new_obs FROM STDIN (FORMAT binary)");
    for (size_t i = 0; i < GROUP; i++)
        copy_observation(c, ids[i / OBSERVATIONS_EACH], ts, bytes);
    copy_end(c);
    run(c, upserts);
}

/* ---- the original's pattern ---- */

static void original_group(struct ceiling *c, size_t bytes) {
    static char input[65536], output[65536];
    char trace[UUID_TEXT + 1] = "", id[UUID_TEXT + 1] = "", user[USER_TEXT + 1] = "", session[SESSION_TEXT + 1] = "";
    run(c, "BEGIN");
    for (size_t i = 0; i < GROUP; i++) {
        const uint64_t raw[2] = { rng(&c->random), rng(&c->random) };
        if (i % OBSERVATIONS_EACH == 0) {
            const uint64_t of[2] = { rng(&c->random), rng(&c->random) };
            put_uuid(trace, of);
            put_user(user, shape_skewed(rng(&c->random), USERS));
            put_session(session, rng(&c->random));
        }
        put_uuid(id, raw);
        for (int k = 0; k < 2; k++) { /* words that compress as text does */
            char *to = k ? output : input;
            size_t n = 0;
            n += (size_t)snprintf(to, sizeof input, "{\"text\":\"");
            while (n + 20 < bytes / 2)
                n += (size_t)snprintf(to + n, sizeof input - n, "word%04x ", (unsigned)(rng(&c->random) % 4096));
            snprintf(to + n, sizeof input - n, "\"}");
        }
        const char *of_trace[] = { trace, session, user }, *of_observation[] = { id, trace, input, output };
        check(c, PQexecPrepared(c->pg, "t", 3, of_trace, NULL, NULL, 0));
        check(c, PQexecPrepared(c->pg, "o", 4, of_observation, NULL, NULL, 0));
    }
    run(c, "COMMIT");
}

int main(int argc, char **argv) {
    static struct ceiling c;
    bool original = argc == 5 && strcmp(argv[1], "original") == 0;
    size_t bytes = argc == 5 ? strtoul(argv[4], NULL, 10) : 0;
    if (argc != 5 || (!original && strcmp(argv[1], "copy") != 0) || bytes < 2 || bytes > sizeof c.bytes / 2) {
        fputs("usage: pg_ceiling copy|original URL SECONDS BYTES (2 to 32768)\n", stderr);
        return 1;
    }
    c.random = (uint64_t)now();
    for (size_t i = 0; i < sizeof c.bytes; i++)
        c.bytes[i] = (char)rng(&c.random);
    c.pg = PQconnectdb(argv[2]);
    if (PQstatus(c.pg) != CONNECTION_OK) {
        fprintf(stderr, "pg_ceiling: %s", PQerrorMessage(c.pg));
        return 1;
    }
    run(&c, "SET client_min_messages = warning");
    run(&c, original ? original_schema : copy_schema);
    if (original) {
        check(&c, PQprepare(c.pg, "t", original_trace, 0, NULL));
        check(&c, PQprepare(c.pg, "o", original_observation, 0, NULL));
    }
    int64_t start = now(), end = start + (int64_t)(strtod(argv[3], NULL) * 1e9), groups = 0;
    for (; now() < end; groups++)
        (original ? original_group : copy_group)(&c, bytes);
    printf("{\"observations_per_second\":%.0f}\n", (double)(groups * GROUP) / ((double)(now() - start) / 1e9));
    run(&c, "DROP SCHEMA " SCHEMA " CASCADE");
    PQfinish(c.pg);
    free(c.out);
    return 0;
}
