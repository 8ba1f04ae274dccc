/* ceiling.c -- yardsticks for bench/run: what SQLite and the disk alone give here, with no server around them.
 *
 *   ceiling insert FILE SECONDS BYTES   rows of observations with BYTES of stored payload each, in groups of 1,000
 *   ceiling sync FILE SECONDS           4 KB appended, then fdatasync: the least that an acknowledgement can cost
 *
 * The rows are those a trace store cannot do without: for ten observations a trace with an index entry for its id and one
 * for its time; each observation clustered by trace, with an index entry for its time and its payload in two rows. WAL,
 * synchronous=FULL, 64 MB of cache, a passive checkpoint every 10,000 frames. Random ids, nothing decoded or compressed. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shape.h"

#define GROUP 1000 /* observations */
#define SYNCS_MAX 1000000

static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-65536;"
    "CREATE TABLE trace(n INTEGER PRIMARY KEY, project INT, id BLOB, ts INT, created INT, updated INT, name TEXT, user "
    "TEXT,"
    "  session TEXT, env TEXT);"
    "CREATE INDEX trace_ts ON trace(project, ts);"
    "CREATE TABLE ix(project INT, id BLOB, n INT, PRIMARY KEY(project, id)) WITHOUT ROWID;"
    "CREATE TABLE obs(n INT, id BLOB, project INT, created INT, updated INT, start INT, end INT, type TEXT, name TEXT,"
    "  model TEXT, a INT, b INT, c INT, pin INT, pout INT, PRIMARY KEY(n, id)) WITHOUT ROWID;"
    "CREATE INDEX obs_start ON obs(project, start);"
    "CREATE TABLE payload(n INTEGER PRIMARY KEY, z BLOB);";

enum { TRACE, IX, OBS, PAYLOAD, STATEMENTS };
static const char *const inserts[STATEMENTS] = {
    [TRACE] = "INSERT INTO trace VALUES(?1, 1, ?2, ?3, ?3, ?3, 'chat', ?4, ?5, 'default')",
    [IX] = "INSERT INTO ix VALUES(1, ?2, ?1)",
    [OBS] =
        "INSERT INTO obs VALUES(?1, ?2, 1, ?3, ?3, ?3, ?3, 'GENERATION', 'answer', 'gpt-4o-mini', 12, 4, 16, ?4, ?5)",
    [PAYLOAD] = "INSERT INTO payload VALUES(?1, ?2)",
};

struct ceiling {
    sqlite3 *db;
    sqlite3_stmt *st[STATEMENTS];
    int64_t trace, payload;
    uint64_t random;
    char bytes[65536]; /* random: payloads are stored compressed */
    int frames;
};

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void check(struct ceiling *c, int rc) {
    if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW)
        return;
    fprintf(stderr, "ceiling: %s\n", c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
    exit(1);
}

static int on_wal(void *arg, sqlite3 *db, const char *name, int frames) {
    (void)db;
    (void)name;
    ((struct ceiling *)arg)->frames = frames;
    return SQLITE_OK;
}

static void step(struct ceiling *c, int which) {
    check(c, sqlite3_step(c->st[which]));
    check(c, sqlite3_reset(c->st[which]));
}

static void add_payload(struct ceiling *c, size_t n) {
    sqlite3_bind_int64(c->st[PAYLOAD], 1, ++c->payload);
    sqlite3_bind_blob(c->st[PAYLOAD], 2, c->bytes + rng(&c->random) % (sizeof c->bytes - n), (int)n, SQLITE_STATIC);
    step(c, PAYLOAD);
}

static void add_trace_row(struct ceiling *c, int64_t ts) {
    uint64_t id[2] = { rng(&c->random), rng(&c->random) };
    char user[USER_TEXT], session[SESSION_TEXT];
    put_user(user, shape_skewed(rng(&c->random), USERS));
    put_session(session, rng(&c->random));
    c->trace++;
    for (int which = TRACE; which <= IX; which++) {
        sqlite3_bind_int64(c->st[which], 1, c->trace);
        sqlite3_bind_blob(c->st[which], 2, id, sizeof id, SQLITE_STATIC);
    }
    sqlite3_bind_int64(c->st[TRACE], 3, ts);
    sqlite3_bind_text(c->st[TRACE], 4, user, USER_TEXT, SQLITE_STATIC);
    sqlite3_bind_text(c->st[TRACE], 5, session, SESSION_TEXT, SQLITE_STATIC);
    step(c, TRACE);
    step(c, IX);
}

static void add_group(struct ceiling *c, size_t bytes) {
    check(c, sqlite3_exec(c->db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
    for (int i = 0; i < GROUP; i++) {
        int64_t ts = now();
        uint64_t id[2] = { rng(&c->random), rng(&c->random) };
        if (i % OBSERVATIONS_EACH == 0)
            add_trace_row(c, ts);
        add_payload(c, bytes / 2);
        add_payload(c, bytes - bytes / 2);
        sqlite3_bind_int64(c->st[OBS], 1, c->trace);
        sqlite3_bind_blob(c->st[OBS], 2, id, sizeof id, SQLITE_STATIC);
        sqlite3_bind_int64(c->st[OBS], 3, ts);
        sqlite3_bind_int64(c->st[OBS], 4, c->payload - 1);
        sqlite3_bind_int64(c->st[OBS], 5, c->payload);
        step(c, OBS);
    }
    check(c, sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL));
    if (c->frames >= 10000) {
        check(c, sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL));
        c->frames = 0;
    }
}

static int run_insert(const char *file, double seconds, size_t bytes) {
    static struct ceiling c;
    if (bytes < 2 || bytes > sizeof c.bytes / 2) {
        fputs("ceiling: BYTES must be 2 to 32768\n", stderr);
        return 1;
    }
    c.random = (uint64_t)now();
    for (size_t i = 0; i < sizeof c.bytes; i++)
        c.bytes[i] = (char)rng(&c.random);
    check(&c, sqlite3_open(file, &c.db));
    check(&c, sqlite3_exec(c.db, schema, NULL, NULL, NULL));
    sqlite3_wal_hook(c.db, on_wal, &c);
    for (int i = 0; i < STATEMENTS; i++)
        check(&c, sqlite3_prepare_v2(c.db, inserts[i], -1, &c.st[i], NULL));
    int64_t start = now(), end = start + (int64_t)(seconds * 1e9), groups = 0;
    for (; now() < end; groups++)
        add_group(&c, bytes);
    printf("{\"observations_per_second\":%.0f}\n", (double)(groups * GROUP) / ((double)(now() - start) / 1e9));
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(c.st[i]);
    sqlite3_close(c.db);
    return 0;
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int run_sync(const char *file, double seconds) {
    static char block[4096];
    int64_t *took = need(calloc(SYNCS_MAX, sizeof *took)), end = now() + (int64_t)(seconds * 1e9);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    size_t n = 0;
    for (int64_t start; fd >= 0 && n < SYNCS_MAX && (start = now()) < end; n++) {
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block || fdatasync(fd) != 0)
            break;
        took[n] = now() - start;
    }
    if (n == 0) {
        fprintf(stderr, "ceiling: %s: %s\n", file, strerror(errno));
        free(took);
        return 1;
    }
    qsort(took, n, sizeof *took, compare);
    printf("{\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", (double)took[n / 2] / 1e6, (double)took[n * 99 / 100] / 1e6);
    close(fd);
    free(took);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "insert") == 0)
        return run_insert(argv[2], strtod(argv[3], NULL), strtoul(argv[4], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "sync") == 0)
        return run_sync(argv[2], strtod(argv[3], NULL));
    fputs("usage: ceiling insert FILE SECONDS BYTES | ceiling sync FILE SECONDS\n", stderr);
    return 1;
}
