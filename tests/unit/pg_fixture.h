/* pg_fixture.h -- databases in a throw-away PostgreSQL cluster, for tests in C. The cluster is the one that
 * XTRACE_TEST_PG_URL names (tests/run starts it), else one of this program's own, which tests/lib/pg.py starts and ends
 * with it.
 *
 * main() of a test that needs PostgreSQL begins with PG_OR_SKIP(): without a server installed it says so in TAP and the
 * program ends. A test alone runs from the directory that holds tests/. */
#pragma once
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libpq-fe.h>
#include <cmocka.h>

struct pg_database {
    char name[64];
    char url[200];
    PGconn *conn; /* the test's own look into it; none of the engine's code */
};

/* The cluster's helper of this process: it ends when `hold` is closed, at the latest with this process. */
struct pg_helper {
    char url[160];
    pid_t pid;
    int hold;
};
static inline struct pg_helper *pg_helper(void) {
    static struct pg_helper h;
    return &h;
}
static inline void pg_helper_end(void) {
    struct pg_helper *h = pg_helper();
    close(h->hold);
    while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}
static inline bool pg_helper_start(struct pg_helper *h) {
    char script[300];
    snprintf(script, sizeof script, "%s", __FILE__);
    char *at = strstr(script, "unit/pg_fixture.h");
    if (!at)
        return false;
    snprintf(at, sizeof script - (size_t)(at - script), "lib/pg.py");
    int in[2], out[2];
    if (pipe(in) != 0)
        return false;
    if (pipe(out) != 0) {
        close(in[0]), close(in[1]);
        return false;
    }
    h->pid = fork();
    if (h->pid == 0) {
        dup2(in[0], 0), dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execlp("python3", "python3", script, "serve", (char *)NULL);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    size_t n = 0;
    for (ssize_t got = 1; h->pid > 0 && n + 1 < sizeof h->url && got > 0 && !memchr(h->url, '\n', n);) {
        got = read(out[0], h->url + n, sizeof h->url - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    close(out[0]);
    h->url[strcspn(h->url, "\n")] = '\0';
    h->hold = in[1];
    if (h->pid < 0) {
        close(h->hold);
        return false;
    }
    atexit(pg_helper_end);
    return h->url[0] != '\0';
}

/* The cluster's URL, with a database that always exists; NULL: there is none and none can be started. */
static inline const char *pg_cluster_url(void) {
    const char *given = getenv("XTRACE_TEST_PG_URL");
    if (given && *given)
        return given;
    struct pg_helper *h = pg_helper();
    if (h->pid == 0 && !pg_helper_start(h))
        h->url[0] = '\0';
    return h->url[0] ? h->url : NULL;
}

#define PG_OR_SKIP()                                                                              \
    do {                                                                                          \
        if (!pg_cluster_url()) {                                                                  \
            printf("1..1\nok 1 # SKIP no PostgreSQL server is installed (package postgresql)\n"); \
            return 0;                                                                             \
        }                                                                                         \
    } while (0)

/* ---- looking into it ---- */

static inline void pg_run(PGconn *conn, const char *sql) {
    PGresult *r = PQexec(conn, sql);
    ExecStatusType st = PQresultStatus(r);
    PQclear(r);
    if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
        fail_msg("%.300s: %s", sql, PQerrorMessage(conn));
}
/* The number a statement answers with. -1: it failed, or there is no row. */
static inline int64_t pg_number(PGconn *conn, const char *sql) {
    PGresult *r = PQexec(conn, sql);
    int64_t n = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) > 0 ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : -1;
    PQclear(r);
    return n;
}

/* ---- databases ---- */

static inline PGconn *pg_connect(const char *url) {
    PGconn *conn = PQconnectdb(url);
    if (PQstatus(conn) != CONNECTION_OK) {
        char msg[300];
        snprintf(msg, sizeof msg, "%s", PQerrorMessage(conn));
        PQfinish(conn);
        fail_msg("%s: %s", url, msg);
    }
    return conn;
}
/* An empty database of this test's own. */
static inline void pg_database_make(struct pg_database *d) {
    static unsigned count;
    const char *cluster = pg_cluster_url();
    char sql[160];
    memset(d, 0, sizeof *d);
    assert_non_null(cluster);
    snprintf(d->name, sizeof d->name, "u_%d_%u", (int)getpid(), count++);
    PGconn *conn = pg_connect(cluster);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0", d->name);
    pg_run(conn, sql);
    PQfinish(conn);
    const char *slash = strrchr(cluster, '/');
    snprintf(d->url, sizeof d->url, "%.*s/%s", (int)(slash - cluster), cluster, d->name);
    d->conn = pg_connect(d->url);
    pg_run(d->conn, "SET client_min_messages = error");
}
/* Whoever is still connected is thrown out. */
static inline void pg_database_drop(struct pg_database *d) {
    char sql[160];
    if (!d->name[0])
        return;
    PQfinish(d->conn);
    PGconn *conn = pg_connect(pg_cluster_url());
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", d->name);
    pg_run(conn, sql);
    PQfinish(conn);
    memset(d, 0, sizeof *d);
}
