/* conn.h -- connections to PostgreSQL: every wait has a deadline, every value is binary, nothing belongs to a session.
 *
 *  1. libpq is used without blocking; a connection that missed its deadline or broke is closed, and opened anew at its
 *     next use. (Looking up a host's name blocks: libpq offers no other way.)
 *  2. Statements are unnamed; results come in binary form. Nothing outlives a transaction (poolers in transaction mode).
 *  3. A connection is used by one thread at a time, and holds at most one of: transaction, pipeline, COPY.
 *  4. What begins a transaction travels with its first statement; what ends a read is sent and not waited for: its answer
 *     is taken at the next use. A read of one statement is one round trip.
 *  5. A COMMIT whose answer never came is settled by a witness: the transaction wrote the connection's row of
 *     xtrace.mark with a number of its own. A new connection asks for that row (and so waits for a transaction that still
 *     runs): the number stands there or the transaction is gone. Numbers of transactions would not do: after a crash
 *     PostgreSQL gives the same ones again. */
#pragma once
#include <libpq-fe.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"

/* Types, as pg_type.dat numbers them; they never change. */
#define PG_BOOL 16
#define PG_BYTEA 17
#define PG_INT8 20
#define PG_INT2 21
#define PG_INT4 23
#define PG_TEXT 25
#define PG_FLOAT8 701
#define PG_NUMERIC 1700
#define PG_TEXT_ARRAY 1009

#define PG_ARGS_MAX 64
#define PG_BYTES_MAX ((size_t)1000 << 20) /* of one statement's parameters: PostgreSQL's messages end at 1 GiB */

/* ---- parameters: built once, sent once; bytes are copied. Errors stick and are reported by who sends. ---- */
struct pg_args {
    struct buf data;
    int n;
    Oid types[PG_ARGS_MAX];
    size_t at[PG_ARGS_MAX];   /* where in data */
    int lengths[PG_ARGS_MAX]; /* -1: NULL */
    bool too_big;
    size_t items_left; /* of the array that is being filled */
};
void pg_args_init(struct pg_args *a);
void pg_args_done(struct pg_args *a);
void pg_args_clear(struct pg_args *a); /* keeps the memory */
void pg_arg_i64(struct pg_args *a, int64_t v);
void pg_arg_time(struct pg_args *a, int64_t ns); /* TIME_NONE: NULL */
void pg_arg_i32(struct pg_args *a, int32_t v);
void pg_arg_i16(struct pg_args *a, int16_t v);
void pg_arg_f64(struct pg_args *a, double v); /* NaN: NULL */
void pg_arg_bool(struct pg_args *a, bool v);
void pg_arg_text(struct pg_args *a, struct str s);  /* escaped; absent: NULL */
void pg_arg_bytes(struct pg_args *a, struct str s); /* bytea; absent: NULL */
void pg_arg_num(struct pg_args *a, __int128 v);     /* numeric */
void pg_arg_null(struct pg_args *a, Oid type);
/* An array for unnest(): the type of its elements, their number, then exactly so many pg_item_*, in order. */
void pg_arg_array(struct pg_args *a, Oid element, size_t n);
void pg_item_i64(struct pg_args *a, int64_t v);
void pg_item_time(struct pg_args *a, int64_t ns);
void pg_item_i32(struct pg_args *a, int32_t v);
void pg_item_i16(struct pg_args *a, int16_t v);
void pg_item_f64(struct pg_args *a, double v);
void pg_item_bool(struct pg_args *a, bool v);
void pg_item_text(struct pg_args *a, struct str s);
void pg_item_bytes(struct pg_args *a, struct str s);
void pg_item_num(struct pg_args *a, __int128 v);
void pg_item_null(struct pg_args *a);

/* ---- a connection ---- */
struct pg_target; /* connect.c: the parsed URL; shared by all connections of a store, constant */
/* libpq's own grammar: "postgresql://..." with all its parameters. Messages never hold what the URL says. */
enum xt_code pg_target_new(const char *url, struct pg_target **ret, struct xt_err *err);
void pg_target_free(struct pg_target *t);

enum pg_tx {
    PG_TX_NONE,
    PG_TX_DUE, /* pg_begin was called, nothing sent yet */
    PG_TX_OPEN
};
struct pg_conn {
    const struct pg_target *target;
    PGconn *db;       /* NULL: not open */
    int64_t deadline; /* monotonic ns, of every wait; the owner sets it before a use. TIME_NONE: PG_WAIT_NS each call */
    int64_t until;    /* of the present call, from the deadline */
    /* NULL, or monotonic ns that no wait outlasts, whatever the deadline: who stops a thread sets it. INT64_MAX: not yet. */
    const _Atomic int64_t *limit;
    enum pg_tx tx;
    bool write;          /* the transaction writes: decides codes of failures too */
    bool witnessed;      /* its write transactions write xtrace.mark, so that a COMMIT can be settled */
    bool piped;          /* between pg_pipe and pg_drain */
    bool copying;        /* between pg_copy_begin and pg_copy_end */
    bool used;           /* has answered something since it was opened: may have died while idle */
    bool lost;           /* the last failure was the connection's end, not its deadline */
    bool ending;         /* a ROLLBACK was sent whose answer was not taken */
    bool unsettled;      /* the last COMMIT's fate is unknown: pg_settle may tell later */
    bool has_holder;     /* `holder` was drawn */
    int skip;            /* answers of the transaction's beginning that are still to come */
    int owed;            /* statements of the pipeline whose answer nobody took yet */
    bool synced;         /* the pipeline's end was sent */
    char sqlstate[6];    /* of the last failure; "" when it did not come from the server */
    char detail[240];    /* its text, for stderr alone: it may name hosts, tables, values */
    enum xt_code failed; /* since pg_begin: last code that a call gave */
    uint8_t holder[16];  /* whose row of xtrace.mark */
    int64_t mark;        /* of the last write transaction */
    struct buf copy;     /* rows not sent yet */
    int copy_left;       /* columns that the row still lacks */
    enum xt_code copy_code;
    bool copy_too_big;
    uint64_t opened;      /* how often it was opened */
    struct pg_conn *next; /* free list of the pool */
};
#define PG_WAIT_NS (10 * NS_PER_SEC)

void pg_conn_init(struct pg_conn *c, const struct pg_target *t, bool witnessed);
void pg_conn_done(struct pg_conn *c); /* closes; also one that is not open */
/* Opens it unless it is open and well. Calls below do so by themselves. */
enum xt_code pg_open(struct pg_conn *c, struct xt_err *err);
void pg_close(struct pg_conn *c); /* at once, whatever it does; stays usable */

/* ---- statements. Codes: see pg_fail in conn.c. Messages are fit for clients. ---- */
/* One statement, one answer; *ret is freed by PQclear (NULL ret: rows are not wanted). `a` NULL: no parameters. A statement
 * that comes first in its transaction is sent again once when the connection turns out to have died while idle. */
enum xt_code pg_query(struct pg_conn *c, const char *sql, const struct pg_args *a, PGresult **ret, struct xt_err *err);
/* One or more statements without parameters in one text, text protocol: migrations only. */
enum xt_code pg_script(struct pg_conn *c, const char *sql, struct xt_err *err);
/* Several in one round trip: pg_pipe, pg_send each, pg_flush, then one pg_answer each in order, then pg_drain, also after a
 * failure (after one the rest fails with the same code). `a` may be reused after pg_send. No COPY in between. */
enum xt_code pg_pipe(struct pg_conn *c, struct xt_err *err);
enum xt_code pg_send(struct pg_conn *c, const char *sql, const struct pg_args *a, struct xt_err *err);
enum xt_code pg_flush(struct pg_conn *c, struct xt_err *err);
enum xt_code pg_answer(struct pg_conn *c, PGresult **ret, struct xt_err *err);
enum xt_code pg_drain(struct pg_conn *c, struct xt_err *err);
/* Rows that an INSERT, UPDATE, DELETE touched. */
int64_t pg_touched(const PGresult *r);

/* Begins a transaction, without a round trip (invariant 4). Read: one snapshot, REPEATABLE READ READ ONLY. Write: READ
 * COMMITTED, timeouts of the server's end the deadline's. An open transaction is rolled back first. */
enum xt_code pg_begin(struct pg_conn *c, bool write, struct xt_err *err);
/* XT_OK: committed, also when only the witness says so. Otherwise it is not, or (c->unsettled) nobody knows yet. */
enum xt_code pg_commit(struct pg_conn *c, struct xt_err *err);
/* Ends pipeline, COPY and transaction, whatever state they are in. Never fails; a connection in doubt is closed. */
void pg_rollback(struct pg_conn *c);
/* What became of the COMMIT that was not answered: *ret_done. Waits until the deadline for a transaction that still runs.
 * Not XT_OK: still unknown. */
enum xt_code pg_settle(struct pg_conn *c, bool *ret_done, struct xt_err *err);
/* Did the last failure leave nothing behind and is worth another try at once: serialization, deadlock, a connection that
 * broke before COMMIT? Stays true over pg_rollback. */
bool pg_again(const struct pg_conn *c);
bool pg_state_is(const struct pg_conn *c, const char *sqlstate); /* of the last failure: "23505" ... */

/* ---- COPY ... FROM STDIN (FORMAT binary) ---- */
enum xt_code pg_copy_begin(struct pg_conn *c, const char *sql, struct xt_err *err);
void pg_copy_row(struct pg_conn *c, int columns); /* then exactly so many pg_put_*. Failures show in pg_copy_end */
void pg_put_i64(struct pg_conn *c, int64_t v);
void pg_put_time(struct pg_conn *c, int64_t ns);
void pg_put_i32(struct pg_conn *c, int32_t v);
void pg_put_i16(struct pg_conn *c, int16_t v);
void pg_put_f64(struct pg_conn *c, double v);
void pg_put_bool(struct pg_conn *c, bool v);
void pg_put_text(struct pg_conn *c, struct str s);
void pg_put_bytes(struct pg_conn *c, struct str s);
void pg_put_num(struct pg_conn *c, __int128 v);
void pg_put_null(struct pg_conn *c);
void pg_put_texts(struct pg_conn *c, const struct str *v, size_t n); /* text[]; absent ones are NULL elements */
enum xt_code pg_copy_end(struct pg_conn *c, uint64_t *ret_rows /* NULL: not wanted */, struct xt_err *err);

/* ---- values of a result (binary). NULL becomes 0, absent, TIME_NONE, NaN. A value of a length that its type can't have
 * (a damaged answer, another schema) reads as NULL. ---- */
bool pg_is_null(const PGresult *r, int row, int col);
int64_t pg_i64(const PGresult *r, int row, int col); /* int2, int4, int8, by length */
int64_t pg_time(const PGresult *r, int row, int col);
double pg_f64(const PGresult *r, int row, int col);
bool pg_bool(const PGresult *r, int row, int col);
__int128 pg_num(const PGresult *r, int row, int col);     /* saturates; fractions are cut; NaN: 0 */
struct str pg_bytes(const PGresult *r, int row, int col); /* points into the result */
/* Points into the result when nothing was escaped, else into the arena. Out of memory: absent, a->failed. */
struct str pg_text(struct arena *a, const PGresult *r, int row, int col);
/* text[] of one dimension: *ret_n elements in the arena. False: out of memory or not such an array. NULL: 0 elements. */
bool pg_texts(struct arena *a, const PGresult *r, int row, int col, struct str **ret, size_t *ret_n);

/* ---- codecs, without a connection (value.c) ---- */
#define PG_NUM_BYTES 32 /* room for any __int128 */
size_t pg_num_encode(__int128 v, uint8_t out[PG_NUM_BYTES]);
bool pg_num_decode(struct str s, __int128 *ret); /* false: not a numeric, or NaN */
/* Text without NUL: 00 -> 01 01, 01 -> 01 02. Keeps the order. */
size_t pg_escaped_size(struct str s);
void pg_escape(struct str s, char *out); /* pg_escaped_size bytes */
/* False: out of memory. Bytes that no escaping makes stay as they are. */
bool pg_unescape(struct arena *a, struct str s, struct str *ret);
/* The form in which a value stands in keys and indexes: up to 200 bytes as it is; a longer one as its first 137 to 140
 * bytes (whole UTF-8 characters) and the hex of the whole's SHA-256: 201 to 204 bytes, so that the two never meet. The
 * result is `s` itself or in `out`. Not escaped: pg_*_text does that. */
#define PG_SHORT_KEEP 200
#define PG_SHORT_MAX 204
struct str pg_short(struct str s, char out[PG_SHORT_MAX]);
