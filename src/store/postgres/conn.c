/* conn.c -- statements and transactions on a connection.
 *
 *  1. Every statement goes through libpq's pipeline mode, alone or with others; COPY and scripts are the exceptions.
 *  2. `skip` answers of the transaction's beginning come before the first one that a caller asked for; an error in one of
 *     them is the error of that statement.
 *  3. A failure of a statement leaves the connection usable after pg_rollback; a failure of the connection closes it.
 *  4. Messages: fit for clients. What the server said is in `detail`; only a missing right is shown, because its text
 *     names nothing but the object. */
#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "base/id.h"
#include "store/postgres/inner.h"

#define SETTLE_NS (2 * NS_PER_SEC) /* at least so long a COMMIT's fate is asked for */
#define AGAIN_NS (50 * (NS_PER_SEC / 1000))

/* ---- failures ---- */

static bool class_is(const char *state, const char *class) { return strncmp(state, class, strlen(class)) == 0; }

static enum xt_code code_of(const struct pg_conn *c, const char *state) {
    if (class_is(state, "22") || class_is(state, "23") || class_is(state, "54"))
        return XT_EREFUSED;
    if (strcmp(state, "57014") == 0) /* statement_timeout */
        return c->write ? XT_EUNAVAILABLE : XT_ETIMEOUT;
    return XT_EUNAVAILABLE;
}

static const char *text_of(const char *state) {
    static const struct {
        const char *class, *text;
    } texts[] = {
        { "57014", "the time limit of the query passed" },
        { "22", "the database refuses a value" },
        { "23", "the database refuses a record" },
        { "54", "a record is too large for the database" },
        { "25006", "the database is read-only" },
        { "25P03", "the database does not answer in time" },
        { "40", "the database is busy with the same records" },
        { "53", "the database is out of resources" },
        { "55P03", "the database is busy with the same records" },
        { "57P", "the database is stopping or starting" },
        { "08", "the connection to the database broke" },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (class_is(state, texts[i].class))
            return texts[i].text;
    return "the database refuses a statement";
}

enum xt_code conn_failed(struct pg_conn *c, const PGresult *r, struct xt_err *err) {
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (!state) /* libpq's own: the connection, or no memory */
        return conn_lost(c, err);
    snprintf(c->sqlstate, sizeof c->sqlstate, "%s", state);
    keep_detail(c, text ? text : "");
    enum xt_code code = code_of(c, c->sqlstate);
    bool over =
        class_is(state, "57P") || class_is(state, "08") || class_is(state, "25P03") || PQstatus(c->db) != CONNECTION_OK;
    if (over)
        pg_close(c);
    c->lost = over;
    c->failed = code;
    if (strcmp(c->sqlstate, "42501") == 0)
        return xt_fail(err, code, "the database's user lacks a right: %.160s", text ? text : "");
    return xt_fail(err, code, "%s (%s)", text_of(c->sqlstate), c->sqlstate);
}

bool pg_state_is(const struct pg_conn *c, const char *sqlstate) { return strcmp(c->sqlstate, sqlstate) == 0; }

bool pg_again(const struct pg_conn *c) {
    return !c->unsettled && (c->lost || pg_state_is(c, "40001") || pg_state_is(c, "40P01"));
}

/* ---- bytes out, results in ---- */

enum xt_code conn_push(struct pg_conn *c, struct xt_err *err) {
    int rc;
    while ((rc = PQflush(c->db)) == 1) {
        enum xt_code code = conn_wait(c, true, err);
        if (code != XT_OK)
            return code;
    }
    return rc == 0 ? XT_OK : conn_lost(c, err);
}

enum xt_code conn_next(struct pg_conn *c, PGresult **ret, struct xt_err *err) {
    while (PQisBusy(c->db)) {
        int rc = PQflush(c->db);
        /* A server that ended has said why: that is still to be read. */
        enum xt_code code = conn_wait(c, rc == 1, err);
        if (code != XT_OK)
            return code;
    }
    *ret = PQgetResult(c->db);
    return XT_OK;
}

/* ---- a transaction's beginning ---- */

static int64_t ms_left(const struct pg_conn *c) {
    int64_t ms = (c->until - PG_GRACE_NS - clock_mono_ns()) / NS_PER_MS;
    return ms > 1 ? ms : 1;
}

static void arg_ms(struct pg_args *a, int64_t ms) {
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)ms);
    pg_arg_text(a, (struct str){ text, (size_t)n });
}

static enum xt_code send_one(struct pg_conn *c, const char *sql, const struct pg_args *a, struct xt_err *err) {
    struct args_view v;
    if (a && !args_view(a, &v)) {
        c->failed = a->too_big ? XT_EREFUSED : XT_ENOMEM;
        return xt_fail(err, c->failed, a->too_big ? "too large for the database" : "out of memory");
    }
    if (a ? PQsendQueryParams(c->db, sql, a->n, a->types, v.values, v.lengths, v.formats, 1)
          : PQsendQueryParams(c->db, sql, 0, NULL, NULL, NULL, NULL, 1))
        return XT_OK;
    return conn_lost(c, err);
}

static enum xt_code send_settings(struct pg_conn *c, struct xt_err *err) {
    int64_t ms = ms_left(c);
    struct pg_args a;
    pg_args_init(&a);
    arg_ms(&a, ms);
    if (c->write) {
        arg_ms(&a, ms > 2000 ? ms - 1000 : ms / 2 + 1);
        arg_ms(&a, ms + 1000);
    }
    enum xt_code code =
        send_one(c,
                 c->write ? "SELECT set_config('statement_timeout',$1,true), set_config('lock_timeout',$2,true), "
                            "set_config('idle_in_transaction_session_timeout',$3,true), "
                            "set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
                            "WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
                          : "SELECT set_config('statement_timeout',$1,true), set_config('jit','off',true), "
                            "set_config('max_parallel_workers_per_gather','0',true), "
                            "set_config('enable_bitmapscan','off',true)",
                 &a, err);
    pg_args_done(&a);
    return code;
}

static bool holder_ready(struct pg_conn *c) {
    if (!c->has_holder)
        c->has_holder = random_bytes(c->holder, sizeof c->holder);
    return c->has_holder;
}

static struct str holder_of(const struct pg_conn *c) {
    return (struct str){ (const char *)c->holder, sizeof c->holder };
}

static enum xt_code send_mark(struct pg_conn *c, struct xt_err *err) {
    if (!holder_ready(c)) {
        c->failed = XT_EUNAVAILABLE;
        return xt_fail(err, XT_EUNAVAILABLE, "the system has no randomness");
    }
    struct pg_args a;
    pg_args_init(&a);
    pg_arg_bytes(&a, holder_of(c));
    pg_arg_i64(&a, ++c->mark);
    enum xt_code code = send_one(c,
                                 "INSERT INTO xtrace.mark(holder, n, at) VALUES($1, $2, now()) "
                                 "ON CONFLICT (holder) DO UPDATE SET n = excluded.n, at = excluded.at",
                                 &a, err);
    pg_args_done(&a);
    return code;
}

/* In pipeline mode. */
static enum xt_code send_begin(struct pg_conn *c, struct xt_err *err) {
    enum xt_code code = send_one(
        c, c->write ? "BEGIN ISOLATION LEVEL READ COMMITTED" : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NULL,
        err);
    if (code == XT_OK)
        code = send_settings(c, err);
    if (code == XT_OK && c->write && c->witnessed)
        code = send_mark(c, err);
    if (code != XT_OK)
        return code;
    c->tx = PG_TX_OPEN;
    c->skip = c->write && c->witnessed ? 3 : 2;
    return XT_OK;
}

/* ---- pipelines ---- */

enum xt_code pg_pipe(struct pg_conn *c, struct xt_err *err) {
    assert(!c->piped && !c->copying);
    call_begin(c);
    enum xt_code code = conn_ready(c, err);
    if (code != XT_OK)
        return code;
    if (PQenterPipelineMode(c->db) != 1)
        return conn_lost(c, err);
    c->piped = true;
    c->synced = false;
    c->owed = 0;
    return XT_OK;
}

/* The connection was closed by an earlier call: what it said then still holds. */
static enum xt_code gone(struct pg_conn *c, struct xt_err *err) {
    enum xt_code code = c->failed != XT_OK ? c->failed : XT_EUNAVAILABLE;
    return xt_fail(err, code, "the connection to the database broke");
}

enum xt_code pg_send(struct pg_conn *c, const char *sql, const struct pg_args *a, struct xt_err *err) {
    call_begin(c);
    if (!c->piped)
        return gone(c, err);
    enum xt_code code = c->tx == PG_TX_DUE ? send_begin(c, err) : XT_OK;
    if (code == XT_OK)
        code = send_one(c, sql, a, err);
    if (code == XT_OK)
        c->owed++;
    return code;
}

enum xt_code pg_flush(struct pg_conn *c, struct xt_err *err) {
    call_begin(c);
    if (!c->piped)
        return gone(c, err);
    if (!PQpipelineSync(c->db))
        return conn_lost(c, err);
    c->synced = true;
    return conn_push(c, err);
}

/* One statement's result. */
static enum xt_code take(struct pg_conn *c, PGresult **ret, struct xt_err *err) {
    PGresult *r = NULL, *more = NULL;
    enum xt_code code = conn_next(c, &r, err);
    if (code != XT_OK)
        return code;
    if (!r)
        return conn_lost(c, err);
    code = conn_next(c, &more, err);
    if (code != XT_OK || more) {
        PQclear(r);
        PQclear(more);
        return code != XT_OK ? code : conn_lost(c, err);
    }
    c->used = true;
    switch (PQresultStatus(r)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY: *ret = r; return XT_OK;
    case PGRES_PIPELINE_ABORTED:
        code =
            xt_fail(err, c->failed != XT_OK ? c->failed : XT_EUNAVAILABLE, "the database refused an earlier statement");
        break;
    default: code = conn_failed(c, r, err); break;
    }
    PQclear(r);
    return code;
}

enum xt_code pg_answer(struct pg_conn *c, PGresult **ret, struct xt_err *err) {
    call_begin(c);
    if (!c->piped)
        return gone(c, err);
    assert(c->synced && c->owed > 0);
    PGresult *r = NULL;
    enum xt_code code = XT_OK;
    while (code == XT_OK && c->skip > 0) {
        c->skip--;
        code = take(c, &r, err);
        if (code == XT_OK)
            PQclear(r);
    }
    /* When the beginning failed, what is owed is aborted: pg_drain takes it. */
    if (code == XT_OK) {
        c->owed--;
        code = take(c, &r, err);
    }
    if (code != XT_OK)
        return code;
    if (ret)
        *ret = r;
    else
        PQclear(r);
    return XT_OK;
}

enum xt_code pg_drain(struct pg_conn *c, struct xt_err *err) {
    call_begin(c);
    if (!c->piped)
        return c->db ? XT_OK : gone(c, err);
    enum xt_code failed = XT_OK;
    if (!c->synced) {
        enum xt_code code = pg_flush(c, err);
        if (code != XT_OK)
            return code;
    }
    for (int gaps = 0;;) {
        PGresult *r = NULL;
        enum xt_code code = conn_next(c, &r, err);
        if (code != XT_OK)
            return code;
        if (!r) { /* between two statements; more than one means that the end was lost */
            if (++gaps > 2)
                return conn_lost(c, err);
            continue;
        }
        gaps = 0;
        ExecStatusType status = PQresultStatus(r);
        if (status == PGRES_FATAL_ERROR) {
            failed = conn_failed(c, r, err);
            if (!c->db) {
                PQclear(r);
                return failed;
            }
        }
        PQclear(r);
        if (status == PGRES_PIPELINE_SYNC)
            break;
    }
    c->owed = c->skip = 0;
    c->piped = c->synced = false;
    if (PQexitPipelineMode(c->db) != 1)
        return conn_lost(c, err);
    return failed;
}

/* ---- one statement ---- */

static enum xt_code query_once(struct pg_conn *c, const char *sql, const struct pg_args *a, PGresult **ret,
                               struct xt_err *err) {
    PGresult *r = NULL;
    struct xt_err later;
    enum xt_code code = pg_pipe(c, err);
    if (code != XT_OK)
        return code;
    code = pg_send(c, sql, a, err);
    if (code == XT_OK)
        code = pg_flush(c, err);
    if (code == XT_OK)
        code = pg_answer(c, &r, err);
    enum xt_code end = c->piped ? pg_drain(c, code == XT_OK ? err : &later) : XT_OK;
    if (code == XT_OK && end != XT_OK) {
        PQclear(r);
        code = end;
    }
    if (code != XT_OK)
        return code;
    if (ret)
        *ret = r;
    else
        PQclear(r);
    return XT_OK;
}

enum xt_code pg_query(struct pg_conn *c, const char *sql, const struct pg_args *a, PGresult **ret, struct xt_err *err) {
    bool first = c->tx == PG_TX_DUE && c->db && c->used, write = c->write;
    enum xt_code code = query_once(c, sql, a, ret, err);
    if (code == XT_OK || !first || !c->lost || c->db)
        return code;
    c->tx = PG_TX_DUE; /* it died while nobody looked: nothing of the transaction had happened */
    c->write = write;
    return query_once(c, sql, a, ret, err);
}

int64_t pg_touched(const PGresult *r) {
    int64_t n = 0;
    return str_to_i64(str_c(PQcmdTuples((PGresult *)(uintptr_t)r)), &n) ? n : 0;
}

enum xt_code conn_send_alone(struct pg_conn *c, const char *sql, struct xt_err *err) {
    enum xt_code code = c->tx == PG_TX_DUE ? pg_query(c, "SELECT 1", NULL, NULL, err) : XT_OK;
    call_begin(c);
    if (code == XT_OK)
        code = conn_ready(c, err);
    if (code != XT_OK)
        return code;
    return PQsendQuery(c->db, sql) ? conn_push(c, err) : conn_lost(c, err);
}

enum xt_code pg_script(struct pg_conn *c, const char *sql, struct xt_err *err) {
    enum xt_code code = conn_send_alone(c, sql, err);
    enum xt_code failed = XT_OK;
    struct xt_err later;
    while (code == XT_OK) {
        PGresult *r = NULL;
        code = conn_next(c, &r, failed == XT_OK ? err : &later);
        if (code != XT_OK || !r)
            break;
        c->used = true;
        ExecStatusType status = PQresultStatus(r);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && failed == XT_OK)
            failed = conn_failed(c, r, err);
        PQclear(r);
        if (!c->db)
            break;
    }
    return failed != XT_OK ? failed : code;
}

/* ---- transactions ---- */

enum xt_code pg_begin(struct pg_conn *c, bool write, struct xt_err *err) {
    if (c->tx != PG_TX_NONE || c->piped || c->copying)
        pg_rollback(c);
    call_begin(c);
    c->failed = XT_OK;
    c->sqlstate[0] = c->detail[0] = '\0';
    c->lost = false;
    c->write = write;
    if (write)
        c->unsettled = false;
    enum xt_code code = conn_ready(c, err);
    if (code == XT_OK)
        c->tx = PG_TX_DUE;
    return code;
}

/* Sends the end of a transaction without a wait for the answer, which conn_ended takes at the next use. */
static bool send_rollback(struct pg_conn *c) {
    return PQenterPipelineMode(c->db) == 1 && PQsendQueryParams(c->db, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 1) &&
           PQpipelineSync(c->db) && PQflush(c->db) == 0;
}

/* What is known of the failure that led to the rollback stays, whatever else fails on the way. */
struct failure {
    enum xt_code failed;
    bool lost;
    char sqlstate[6], detail[240];
};
static struct failure failure_of(const struct pg_conn *c) {
    struct failure f = { .failed = c->failed, .lost = c->lost };
    memcpy(f.sqlstate, c->sqlstate, sizeof f.sqlstate);
    memcpy(f.detail, c->detail, sizeof f.detail);
    return f;
}
static void failure_back(struct pg_conn *c, const struct failure *f) {
    c->failed = f->failed;
    c->lost = f->lost;
    memcpy(c->sqlstate, f->sqlstate, sizeof c->sqlstate);
    memcpy(c->detail, f->detail, sizeof c->detail);
}

void pg_rollback(struct pg_conn *c) {
    struct xt_err ignored;
    if (c->copying)
        pg_close(c);
    if (c->piped) {
        struct failure f = failure_of(c);
        pg_drain(c, &ignored);
        failure_back(c, &f);
    }
    if (c->db && c->tx == PG_TX_OPEN) {
        if (PQtransactionStatus(c->db) == PQTRANS_IDLE) {
            c->tx = PG_TX_NONE;
        } else if (send_rollback(c)) {
            c->ending = true;
        } else {
            pg_close(c);
        }
    }
    c->tx = PG_TX_NONE;
    c->write = false;
}

void conn_ended(struct pg_conn *c) {
    struct xt_err ignored;
    struct failure f = failure_of(c);
    c->ending = false;
    c->piped = c->synced = true;
    if (pg_drain(c, &ignored) != XT_OK || PQtransactionStatus(c->db) != PQTRANS_IDLE)
        pg_close(c);
    failure_back(c, &f);
}

/* The witness, in a transaction that leaves nothing behind: waits for one that still holds the row. */
static enum xt_code ask_witness(struct pg_conn *c, int64_t *ret_mark, struct xt_err *err) {
    PGresult *r = NULL;
    c->witnessed = false; /* this transaction has no number of its own */
    enum xt_code code = pg_begin(c, true, err);
    if (code == XT_OK) {
        struct pg_args a;
        pg_args_init(&a);
        pg_arg_bytes(&a, holder_of(c));
        code = pg_query(c,
                        "INSERT INTO xtrace.mark(holder, n, at) VALUES($1, 0, now()) "
                        "ON CONFLICT (holder) DO UPDATE SET at = excluded.at RETURNING n",
                        &a, &r, err);
        pg_args_done(&a);
    }
    c->witnessed = true;
    if (code == XT_OK) {
        *ret_mark = PQntuples(r) == 1 ? pg_i64(r, 0, 0) : 0;
        PQclear(r);
    }
    pg_rollback(c);
    return code;
}

enum xt_code pg_settle(struct pg_conn *c, bool *ret_done, struct xt_err *err) {
    int64_t mark = 0;
    enum xt_code code = xt_fail(err, XT_EUNAVAILABLE, "the database does not answer");
    if (!c->has_holder)
        return code;
    do {
        code = ask_witness(c, &mark, err);
        if (code == XT_OK) {
            c->unsettled = false;
            *ret_done = mark == c->mark;
            return XT_OK;
        }
        struct timespec pause = { .tv_nsec = AGAIN_NS };
        nanosleep(&pause, NULL); /* a server that restarts refuses at once */
    } while (c->deadline != TIME_NONE && clock_mono_ns() < c->deadline);
    c->unsettled = true;
    return code;
}

/* No answer to COMMIT: the witness decides, for a while also past the deadline. */
static enum xt_code commit_settle(struct pg_conn *c, struct xt_err *err) {
    int64_t deadline = c->deadline, least = clock_mono_ns() + SETTLE_NS;
    bool done = false;
    if (!c->witnessed) {
        c->unsettled = true;
        return xt_fail(err, XT_EUNAVAILABLE, "the database did not say whether it kept the data");
    }
    if (c->deadline == TIME_NONE || c->deadline < least)
        c->deadline = least;
    enum xt_code code = pg_settle(c, &done, err);
    c->deadline = deadline;
    if (code != XT_OK)
        return xt_fail(err, XT_EUNAVAILABLE, "the database did not say whether it kept the data");
    return done ? XT_OK : xt_fail(err, XT_EUNAVAILABLE, "the connection to the database broke");
}

enum xt_code pg_commit(struct pg_conn *c, struct xt_err *err) {
    PGresult *r = NULL;
    bool write = c->write;
    if (c->tx == PG_TX_DUE) { /* nothing was asked for */
        c->tx = PG_TX_NONE;
        return XT_OK;
    }
    if (c->tx != PG_TX_OPEN)
        return gone(c, err);
    enum xt_code code = query_once(c, "COMMIT", NULL, &r, err);
    if (code != XT_OK && !c->db && write) {
        code = commit_settle(c, err);
        c->failed = code;
        return code;
    }
    /* An aborted transaction says ROLLBACK to COMMIT, as a success. */
    if (code == XT_OK && strcmp(PQcmdStatus(r), "COMMIT") != 0) {
        c->failed = XT_EUNAVAILABLE;
        code = xt_fail(err, XT_EUNAVAILABLE, "the database gave the transaction up");
    }
    if (r)
        PQclear(r);
    if (code != XT_OK)
        pg_rollback(c);
    c->tx = PG_TX_NONE;
    c->write = false;
    return code;
}
