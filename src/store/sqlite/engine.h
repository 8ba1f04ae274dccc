/* engine.h -- private to the SQLite engine: connections, prepared statements, errors.
 *
 *  1. One write connection, used by the ingest writer's thread only (after open and migrate).
 *  2. A pool of read connections; each is used by one thread at a time between reader_get and reader_put. pool_mu guards
 *     the free list and nothing else.
 *  3. A catalog connection for keys and projects, guarded by catalog_mu; its writes wait for the writer by busy timeout.
 *  4. Statements are prepared once a connection, on first use, from the table of statements of the file that uses them.
 *  5. WAL, synchronous=FULL, 4 KB pages, wal_autocheckpoint=0: checkpoint.h.
 *  6. The data directory's lock file is held by flock for as long as an exclusive store is open.
 *  7. What was committed to a file without its name is lost at the next start: an exclusive store looks before and after each
 *     group whether the database and its log still stand where they were opened, and opens no others in their place. */
#pragma once
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "store/store.h"

#define SQL_MAX_STATEMENTS 128

struct index; /* index.h: look-ups */
struct ix_set;
#define IX_KINDS 4
struct ix_counts {
    uint32_t n[IX_KINDS];
};
/* What of the index belongs to a connection's snapshot. */
struct ix_view {
    struct ix_set *set; /* NULL: not pinned */
    bool borrowed;      /* the writer's own view: no reference */
    bool has_gone;
    int64_t gone;              /* see lookup_gone */
    struct ix_counts limit[2]; /* entries of the hot parts that count */
};

/* A connection with its cache of prepared statements, by slot. Opened on first use (the writer: by open). */
struct conn {
    sqlite3 *db;                             /* NULL: not open */
    sqlite3_stmt *stmts[SQL_MAX_STATEMENTS]; /* by enum sql_id */
    int64_t deadline;                        /* monotonic ns; TIME_NONE: none. Checked by the progress handler */
    int64_t busy_ns, busy_until;             /* how long a locked file is tried again; when the present wait ends */
    enum xt_code failed;                     /* of the present use: last code that conn_fail gave */
    bool broken;                             /* file trouble: reopen before the next use */
    struct index *index;                     /* of the store */
    struct ix_view view;                     /* until the transaction ends */
    struct conn *next;                       /* free list of the pool */
    struct dicts *dicts;                     /* of the store; NULL: of none */
};
enum conn_role {
    CONN_WRITER,
    CONN_CATALOG,
    CONN_READER,
    CONN_COPY,      /* backup, check: long reads */
    CONN_CHECKPOINT /* copies the log; reads no table */
};

/* All statements that are prepared once; texts in statements.c (one table). Add rows there, never SQL elsewhere on a hot
 * path. */
enum sql_id {
#define SQL(id, text) id,
#include "store/sqlite/statements.inc"
#undef SQL
    SQL_COUNT
};
_Static_assert(SQL_COUNT <= SQL_MAX_STATEMENTS, "raise SQL_MAX_STATEMENTS");

struct dicts;
struct write_state;  /* write.c: what the writer keeps between groups (counters, caches) */
struct sample_state; /* samples.h */
struct checkpoint;   /* checkpoint.c: who copies the log into the file */

/* Which file stood at a name. */
struct file_mark {
    bool known;
    dev_t dev;
    ino_t ino;
};

struct sqlite_store {
    struct store_conf conf; /* strings copied */
    char *path;
    struct file_mark file, log; /* as the server opened them; unchanged afterwards */
    int lock_fd;                /* -1: not held */
    struct conn writer;
    struct dicts *dicts; /* of texts: store/text/dict.h */
    struct write_state *ws;
    struct sample_state *samples; /* samples.h */
    struct checkpoint *ckpt;      /* checkpoint.c; NULL: the store is not written to */
    struct index *index;
    struct conn catalog;
    pthread_mutex_t catalog_mu;
    struct conn *readers; /* array of conf.readers */
    struct conn *free_readers;
    struct conn ping; /* reserved, so that busy readers can't starve it */
    bool ping_taken;
    pthread_mutex_t pool_mu; /* free_readers, ping_taken */
    pthread_cond_t pool_cv;  /* monotonic clock */
    uint64_t hash_key[2];    /* of index entries, from state */
    /* Counters, relaxed: statistics only. */
    _Atomic uint64_t reads, read_errors, read_timeouts, removed_traces;
};
static inline struct sqlite_store *engine_of(struct store *s) { return (struct sqlite_store *)s->engine; }

/* ---- conn.c ---- */
/* Opens it with the settings of its role. On failure db stays NULL. The messages name the file: for stderr. */
enum xt_code conn_open(struct conn *c, const struct sqlite_store *e, enum conn_role role, struct xt_err *err);
void conn_close(struct conn *c); /* finalizes its statements; also one that is not open */
/* The statement of that slot, reset and with bindings cleared. NULL: prepare failed (err and c->failed filled). */
sqlite3_stmt *conn_stmt(struct conn *c, enum sql_id id, struct xt_err *err);
/* Maps an SQLite result to our codes and fills err; never returns XT_OK. `what` is for the log, not for SQL text.
 * INTERRUPT: XT_ETIMEOUT; TOOBIG, CONSTRAINT, MISMATCH, RANGE: XT_EREFUSED; NOMEM: XT_ENOMEM; the rest, damage of the file
 * included, XT_EUNAVAILABLE. XT_ESTORE is for rows that can be read and make no sense. */
enum xt_code conn_fail(struct conn *c, int rc, const char *what, struct xt_err *err);
/* A statement of its own, for checks and repairs: sqlite3_finalize. NULL: as conn_stmt. */
sqlite3_stmt *conn_prepare(struct conn *c, const char *sql, const char *what, struct xt_err *err);
enum xt_code conn_exec(struct conn *c, const char *sql, struct xt_err *err);
/* Steps a statement that returns no rows, then resets it. */
enum xt_code conn_run(struct conn *c, sqlite3_stmt *st, const char *what, struct xt_err *err);
/* Begins a transaction: immediate to write, else one snapshot of reads. */
enum xt_code conn_begin(struct conn *c, bool immediate, struct xt_err *err);
/* Commits; when that fails the transaction is rolled back and the connection is usable again. */
enum xt_code conn_commit(struct conn *c, struct xt_err *err);
/* Resets running statements and ends an open transaction, if SQLite has not done so itself. Never fails. */
void conn_rollback(struct conn *c);
/* ---- engine.c ---- */
/* Takes a read connection, waiting until the deadline. NULL: err filled (XT_ETIMEOUT). Begins nothing. */
struct conn *reader_get(struct sqlite_store *e, int64_t deadline, struct xt_err *err);
void reader_put(struct sqlite_store *e, struct conn *c); /* resets all statements, ends an open transaction */
/* ---- value.c ---- */
/* Binding and reading text; absent <-> NULL. Column text is valid until the next step. Bound bytes are not copied: they
 * live until the statement was stepped. What SQLite can't take (over its length limit) is bound as a value of a type
 * that every STRICT column refuses, so that the statement fails with XT_EREFUSED instead of losing data. */
void bind_str(sqlite3_stmt *st, int i, struct str s);
void bind_blob(sqlite3_stmt *st, int i, struct str s);
void bind_time(sqlite3_stmt *st, int i, int64_t ns); /* TIME_NONE <-> NULL */
void bind_f64(sqlite3_stmt *st, int i, double v);    /* NaN <-> NULL */
struct str col_str(sqlite3_stmt *st, int i);
struct str col_blob(sqlite3_stmt *st, int i);
int64_t col_time(sqlite3_stmt *st, int i);
double col_f64(sqlite3_stmt *st, int i);
/* 128-bit sums as two columns (schema comment): value = hi * 10^18 + lo. */
void sum_split(__int128 v, int64_t *ret_hi, int64_t *ret_lo); /* saturates */
__int128 sum_join(int64_t hi, int64_t lo);
/* Keyed hash of index entries: SipHash of kind, project and key with the store's hash_key. */
int64_t key_hash(const struct sqlite_store *e, unsigned kind, int64_t project, struct str key);
/* ---- index.c, the writer's thread; index_unpin: whoever uses the connection ---- */
enum xt_code index_new(struct sqlite_store *e, struct xt_err *err); /* before any connection */
void index_free(struct sqlite_store *e);                            /* after all of them; also when there is none */
/* After the migrations: reads what the file says of it; a server's store also the log, so that it is ready. */
enum xt_code index_start(struct sqlite_store *e, struct xt_err *err);
/* In the writer's transaction: before entries are added, and when all were. */
enum xt_code index_begin(struct sqlite_store *e, struct xt_err *err);
enum xt_code index_log(struct sqlite_store *e, struct xt_err *err);
void index_commit(struct sqlite_store *e); /* after the commit */
void index_abort(struct sqlite_store *e);  /* after a rollback, or a commit that failed */
/* Between groups: a few slices of sealing, merging or deleting, if any is due. Returns as the op does. */
int64_t index_tidy(struct sqlite_store *e);
/* The transaction of the connection has ended. */
void index_unpin(struct conn *c);

/* ---- datadir.c ---- */
/* Path of the database file named by "sqlite:PATH" or "sqlite://PATH": malloc'd, absolute or starting with "./". */
enum xt_code url_to_path(const char *url, char **ret_path, struct xt_err *err);
/* Directory of that file, malloc'd. NULL: no memory. */
char *path_dir(const char *path);
/* Creates the directory (0700, and what is missing above it). */
enum xt_code dir_create(const char *dir, struct xt_err *err);
/* Takes the lock of the directory. XT_ECONFLICT: another server has it. Released by close (or by the process' end). */
enum xt_code dir_lock(const char *dir, int *ret_fd, struct xt_err *err);
/* Makes the entries of a directory durable. */
enum xt_code dir_sync(const char *dir, struct xt_err *err);
/* fd is the file at `path` that this process has just made: as root, gives it to the owner of its directory. */
enum xt_code file_made(int fd, const char *path, struct xt_err *err);
/* Makes an empty file of mode 0600, as file_made has it, unless there is one: SQLite would use 0644. */
enum xt_code file_create(const char *path, struct xt_err *err);
/* Remembers which files the database and its log are, once they are open. */
void files_note(struct sqlite_store *e);
/* Do they stand at their names? Otherwise they were moved, removed or replaced: XT_EUNAVAILABLE. XT_OK where nothing was
 * noted. Any thread. */
enum xt_code files_stand(const struct sqlite_store *e, struct xt_err *err);
#define TIDY_POLL (20 * NS_PER_MS) /* housekeeping looks so often whether its thread is done */
/* ---- files of the engine, one op each ---- */
enum xt_code sqlite_migrate(struct store *s, struct xt_err *err); /* migrate.c */
#define SQLITE_APPLICATION_ID 0x78747263                          /* "xtrc", in the header of every database of ours */
/* Which schema is in that connection's file? 0: an empty file. Refuses foreign files and newer schemas. */
enum xt_code schema_version(struct conn *c, const char *path, int *ret, struct xt_err *err);
enum xt_code sqlite_prepare(struct store *s, struct batch *b, struct xt_err *err); /* dictionary.c, as the next two */
enum xt_code sqlite_study(struct store *s, struct buf *ret, struct xt_err *err);
enum xt_code sqlite_learn(struct store *s, struct str bytes, struct xt_err *err);
enum xt_code sqlite_write(struct store *s, const struct batch_part *parts, size_t n, struct xt_err *err); /* write.c */
enum xt_code write_state_load(struct sqlite_store *e, struct xt_err *err);
void write_state_free(struct sqlite_store *e);
/* samples.c. A group: ready before the transaction, add for each part and log in it, end after it. */
enum xt_code samples_open(struct sqlite_store *e, struct xt_err *err);
void samples_close(struct sqlite_store *e);
enum xt_code samples_start(struct sqlite_store *e, struct xt_err *err); /* reads the log */
void samples_stop(struct sqlite_store *e);                              /* an orderly end: little is left in the log */
enum xt_code samples_ready(struct sqlite_store *e, struct xt_err *err);
enum xt_code samples_add(struct sqlite_store *e, const struct batch_part *part, struct xt_err *err);
enum xt_code samples_log(struct sqlite_store *e, struct xt_err *err);
void samples_end(struct sqlite_store *e, bool committed);
int64_t samples_tidy(struct sqlite_store *e); /* a step of sealing; returns as the op does */
enum xt_code sqlite_retain_samples(struct sqlite_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err);
enum xt_code sqlite_retain_traces(struct sqlite_store *e, int64_t cutoff, bool *ret_more,
                                  struct xt_err *err); /* retain.c */
enum xt_code sqlite_traces_list(struct store *s, const struct trace_query *q, trace_visitor *visit, void *arg,
                                int64_t *ret_total, struct xt_err *err); /* list.c */
enum xt_code sqlite_trace_get(struct store *s, const struct trace_ref *ref, trace_visitor *trace,
                              observation_visitor *observation, void *arg, struct xt_err *err); /* detail.c */
enum xt_code sqlite_observation_get(struct store *s, const struct observation_ref *ref, observation_visitor *visit,
                                    void *arg, struct xt_err *err); /* detail.c */
enum xt_code sqlite_daily(struct store *s, const struct daily_query *q, day_visitor *visit, void *arg,
                          int64_t *ret_total, struct xt_err *err); /* daily.c */
enum xt_code sqlite_metric_names(struct store *s, int64_t project, int64_t deadline, name_visitor *visit, void *arg,
                                 struct xt_err *err); /* samples_read.c */
enum xt_code sqlite_series(struct store *s, const struct series_query *q, struct series_sink *sink, struct xt_err *err);
enum xt_code sqlite_project_open(struct store *s, struct str name, int64_t *ret_number,
                                 struct xt_err *err); /* catalog.c */
enum xt_code sqlite_keys_version(struct store *s, uint64_t *ret, struct xt_err *err);
enum xt_code sqlite_keys_list(struct store *s, struct arena *a, struct store_key **ret, size_t *ret_n,
                              struct xt_err *err);
enum xt_code sqlite_key_create(struct store *s, const struct store_key *k, int64_t *ret_id, struct xt_err *err);
enum xt_code sqlite_key_revoke(struct store *s, int64_t id, struct xt_err *err);
enum xt_code sqlite_backup(struct store *s, const char *file, struct xt_err *err); /* backup.c */
enum xt_code sqlite_restore(const char *url, const char *file, struct xt_err *err);
enum xt_code sqlite_check(struct store *s, bool deep, struct buf *report, struct xt_err *err); /* check.c */
/* What of it can be made anew from the rows was found wrong. */
struct verify_found {
    bool structure; /* of the file: maybe only an index */
    bool sums;      /* aggregates of traces, their sums by model, numbers */
    bool lookups, rollups;
    bool keys; /* record_key */
};
/* check.c: all findings of one snapshot (of a transaction of `c`), a line each. A table that cannot be read to its end is a
 * finding and the code that says so. */
enum xt_code check_deep(struct sqlite_store *e, struct conn *c, struct buf *report, struct verify_found *ret,
                        struct xt_err *err);
size_t check_lines(const struct buf *report);
void check_totals(struct conn *c, struct buf *report); /* the report's last line */
/* verify.c, called by check_deep: rollups, trace aggregates and look-ups against the rows. */
enum xt_code sqlite_verify(struct sqlite_store *e, struct conn *c, struct buf *report, struct verify_found *ret,
                           struct xt_err *err);
enum xt_code sqlite_repair(struct store *s, struct buf *report, struct xt_err *err); /* repair.c */
/* The same for samples: directories, packs and filters against each other, and the log (verify_samples.c). */
enum xt_code sqlite_verify_samples(struct conn *c, struct buf *report, struct xt_err *err);
/* Points in generations and in the log. */
enum xt_code sqlite_count_samples(struct conn *c, int64_t *ret, struct xt_err *err);
