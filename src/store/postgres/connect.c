/* connect.c -- where the database is, opening and closing, and every wait.
 *
 *  1. The URL's parts go to libpq and nowhere else: they hold passwords. libpq's own messages about connections name
 *     hosts and users, never passwords; they go to `detail`.
 *  2. A connection attempt ends at the caller's deadline or after connect_timeout seconds (5 when the URL has none).
 *  3. A wait that ends at its deadline leaves the connection in a state that nobody can continue from: it is closed. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/postgres/inner.h"

#define CONNECT_SECONDS 5
#define LIMIT_LOOK_MS 200 /* how soon a wait hears of a limit */

struct pg_target {
    PQconninfoOption *options; /* the values point into it */
    const char **keys, **values;
    int64_t connect_ns;
};

/* ---- the URL ---- */

/* Options that are ours to decide: results must be in UTF-8, and notices would go nowhere. */
static bool is_ours(const char *keyword) {
    return strcmp(keyword, "client_encoding") == 0 || strcmp(keyword, "fallback_application_name") == 0 ||
           strcmp(keyword, "replication") == 0;
}

/* Several hosts and no word about which: a standby that answers first would only refuse writes. */
static bool wants_primary(const PQconninfoOption *options) {
    bool several = false, said = getenv("PGTARGETSESSIONATTRS") != NULL;
    for (const PQconninfoOption *o = options; o->keyword; o++) {
        bool is_host = strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0;
        several = several || (is_host && o->val && strchr(o->val, ','));
        said = said || (strcmp(o->keyword, "target_session_attrs") == 0 && o->val && o->val[0]);
    }
    return several && !said;
}

static void target_fill(struct pg_target *t) {
    size_t n = 0;
    t->connect_ns = CONNECT_SECONDS * NS_PER_SEC;
    for (PQconninfoOption *o = t->options; o->keyword; o++) {
        int64_t seconds = 0;
        if (!o->val || !o->val[0] || is_ours(o->keyword))
            continue;
        if (strcmp(o->keyword, "connect_timeout") == 0 && str_to_i64(str_c(o->val), &seconds) && seconds > 0)
            t->connect_ns = (seconds < 600 ? seconds : 600) * NS_PER_SEC;
        t->keys[n] = o->keyword;
        t->values[n++] = o->val;
    }
    if (wants_primary(t->options)) {
        t->keys[n] = "target_session_attrs";
        t->values[n++] = "read-write";
    }
    t->keys[n] = "client_encoding";
    t->values[n++] = "UTF8";
    t->keys[n] = "fallback_application_name";
    t->values[n++] = "xtrace";
}

enum xt_code pg_target_new(const char *url, struct pg_target **ret, struct xt_err *err) {
    struct pg_target *t = alloc_should_fail() ? NULL : calloc(1, sizeof *t);
    if (!t)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    char *why = NULL;
    t->options = PQconninfoParse(url, &why);
    if (!t->options) {
        /* Only these two quote nothing but the name of a parameter. */
        static const char *const harmless[] = { "invalid URI query parameter", "missing key/value separator" };
        const char *shown = "libpq can't read it; see \"Connection URIs\" in PostgreSQL's documentation";
        for (size_t i = 0; why && i < sizeof harmless / sizeof *harmless; i++)
            if (strncmp(why, harmless[i], strlen(harmless[i])) == 0)
                shown = why;
        enum xt_code code = xt_fail(err, XT_EINVAL, "database URL: %.*s", (int)strcspn(shown, "\n"), shown);
        PQfreemem(why);
        pg_target_free(t);
        return code;
    }
    size_t n = 0;
    while (t->options[n].keyword)
        n++;
    t->keys = calloc(n + 4, sizeof *t->keys);
    t->values = calloc(n + 4, sizeof *t->values);
    if (!t->keys || !t->values) {
        pg_target_free(t);
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    target_fill(t);
    *ret = t;
    return XT_OK;
}

void pg_target_free(struct pg_target *t) {
    if (!t)
        return;
    PQconninfoFree(t->options);
    free(t->keys);
    free(t->values);
    free(t);
}

/* ---- waits ---- */

void call_begin(struct pg_conn *c) {
    int64_t now = clock_mono_ns();
    /* The server ends a statement at the deadline itself; a little later nobody waits for it any more. */
    c->until = c->deadline == TIME_NONE ? now + PG_WAIT_NS : time_add(c->deadline, PG_GRACE_NS);
}

/* Waits for the socket. False: `until` passed, or the connection's limit. */
static bool wait_fd(const struct pg_conn *c, int fd, short events, int64_t until) {
    struct pollfd p = { .fd = fd, .events = events };
    const int64_t most = c->limit ? LIMIT_LOOK_MS : 60000;
    for (;;) {
        int64_t limit = c->limit ? atomic_load_explicit(c->limit, memory_order_relaxed) : INT64_MAX;
        int64_t left = (limit < until ? limit : until) - clock_mono_ns();
        if (left <= 0)
            return false;
        int64_t ms = left / NS_PER_MS + 1;
        int n = poll(&p, 1, (int)(ms < most ? ms : most));
        if (n > 0 || (n < 0 && errno != EINTR))
            return true; /* libpq finds out what is wrong with the socket */
    }
}

enum xt_code conn_wait(struct pg_conn *c, bool to_write, struct xt_err *err) {
    if (!wait_fd(c, PQsocket(c->db), (short)(POLLIN | (to_write ? POLLOUT : 0)), c->until))
        return conn_late(c, err);
    if (!PQconsumeInput(c->db))
        return conn_lost(c, err);
    return XT_OK;
}

/* ---- failures of the connection ---- */

void keep_detail(struct pg_conn *c, const char *text) {
    snprintf(c->detail, sizeof c->detail, "%.*s", (int)strcspn(text, "\n"), text);
    for (char *p = c->detail; (p = strchr(p, '"')) != NULL;) /* log lines put it between such marks */
        *p = '\'';
}

enum xt_code conn_lost(struct pg_conn *c, struct xt_err *err) {
    keep_detail(c, PQerrorMessage(c->db));
    pg_close(c);
    c->lost = true;
    c->sqlstate[0] = '\0';
    c->failed = XT_EUNAVAILABLE;
    return xt_fail(err, c->failed, "the connection to the database broke");
}

enum xt_code conn_late(struct pg_conn *c, struct xt_err *err) {
    bool write = c->write;
    pg_close(c);
    keep_detail(c, "no answer in time");
    c->lost = false;
    c->sqlstate[0] = '\0';
    c->failed = write ? XT_EUNAVAILABLE : XT_ETIMEOUT;
    return xt_fail(err, c->failed,
                   write ? "the database does not answer in time" : "the time limit of the query passed");
}

/* ---- open and close ---- */

void pg_conn_init(struct pg_conn *c, const struct pg_target *t, bool witnessed) {
    *c = (struct pg_conn){ .target = t, .deadline = TIME_NONE, .witnessed = witnessed };
    buf_init(&c->copy, PG_BYTES_MAX);
}

void pg_close(struct pg_conn *c) {
    if (c->db)
        PQfinish(c->db);
    c->db = NULL;
    c->tx = PG_TX_NONE;
    c->piped = c->copying = c->used = c->ending = c->synced = false;
    c->skip = c->owed = 0;
    c->copy_left = 0;
    buf_clear(&c->copy);
}

void pg_conn_done(struct pg_conn *c) {
    pg_close(c);
    buf_done(&c->copy);
}

static void notice_ignore(void *arg, const PGresult *r) {
    (void)arg;
    (void)r;
}

static enum xt_code connect_failed(struct pg_conn *c, PGconn *db, struct xt_err *err) {
    keep_detail(c, PQerrorMessage(db));
    PQfinish(db);
    c->lost = false;
    c->sqlstate[0] = '\0';
    c->failed = XT_EUNAVAILABLE;
    return xt_fail(err, c->failed, "the database can't be reached");
}

static enum xt_code connect_new(struct pg_conn *c, struct xt_err *err) {
    int64_t limit = clock_mono_ns() + c->target->connect_ns;
    if (limit > c->until)
        limit = c->until;
    PGconn *db = PQconnectStartParams(c->target->keys, c->target->values, 0);
    if (!db) {
        c->failed = XT_ENOMEM;
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    PQsetNoticeReceiver(db, notice_ignore, NULL);
    PostgresPollingStatusType state = PQstatus(db) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
        if (!wait_fd(c, PQsocket(db), state == PGRES_POLLING_READING ? POLLIN : POLLOUT, limit)) {
            enum xt_code code = connect_failed(c, db, err);
            keep_detail(c, "no connection in time");
            return code;
        }
        state = PQconnectPoll(db);
    }
    if (state != PGRES_POLLING_OK || PQsetnonblocking(db, 1) != 0)
        return connect_failed(c, db, err);
    c->db = db;
    c->opened++;
    return XT_OK;
}

/* Did the server say something while the connection was idle? It says only that it closes it. */
static bool is_dead(struct pg_conn *c) {
    struct pollfd p = { .fd = PQsocket(c->db), .events = POLLIN };
    if (p.fd >= 0 && poll(&p, 1, 0) == 0)
        return false;
    return !PQconsumeInput(c->db) || PQstatus(c->db) != CONNECTION_OK;
}

enum xt_code conn_ready(struct pg_conn *c, struct xt_err *err) {
    if (c->db && c->ending)
        conn_ended(c); /* closes it when that did not work */
    if (c->db && c->tx != PG_TX_OPEN && !c->piped && is_dead(c)) {
        enum pg_tx tx = c->tx;
        pg_close(c);
        c->tx = tx;
    }
    return c->db ? XT_OK : connect_new(c, err);
}

enum xt_code pg_open(struct pg_conn *c, struct xt_err *err) {
    call_begin(c);
    return conn_ready(c, err);
}
