/* write.h -- one group on its way into PostgreSQL: loaded by sets, folded in memory, written by sets.
 *
 *  1. A group is one transaction of a dozen round trips, whatever its size; no statement is about a single record.
 *  2. Locks are taken in one order by every server, so that none waits for one that waits for it: stored traces FOR UPDATE
 *     in order of (project, id); new traces, inserted in that order; then stored traces are changed; rollup rows in order
 *     of their keys, last. Observations, texts and keys of a trace belong to whoever holds its row.
 *  3. Two servers that insert the same new trace: the second one waits for the first, finds the key taken, and runs its
 *     group again, which then finds the trace stored.
 *  4. Numbers of traces and texts come from sequences in blocks. What a group that failed took is used by the next one, or
 *     by none: a number is never used twice.
 * Everything here is the writer's thread's. */
#pragma once
#include "store/fold/fold.h"
#include "store/postgres/engine.h"
#include "store/postgres/row.h"
#include "store/text/codec.h"

/* A block of the sequence payload_pid: texts of one row need numbers in a row. */
#define PID_BLOCK 65536
#define PID_BLOCKS_MAX 64
#define GROUP_RESULTS 16

struct pid_block {
    int64_t next, end; /* end: first that is not ours */
};

/* What lives from group to group. */
struct pg_write_state {
    int64_t *tseqs; /* taken and not used; malloc'd */
    size_t ntseqs, cap_tseqs;
    struct pid_block pids[PID_BLOCKS_MAX];
    size_t npids;
    int64_t
        started; /* when the database started that gave those numbers; another one may give them again. 0: none yet */
    uint64_t group; /* number of the try, in this process */
    struct arena arena;
    struct codec codec;
    struct buf rest; /* scratch */
    struct pg_args args;
    bool ensured; /* there are partitions for this week and the two to come: */
    int32_t ensured_week;
    int64_t ensure_after;  /* monotonic: not before, after a failure */
    uint64_t trips, tries; /* round trips and transactions so far: for tests */
    bool leads;            /* may hold the lease `jobs` */
};

/* The distinct weeks of a set: a statement's constant list of partitions. */
struct pg_weeks {
    int32_t *v;
    size_t n, cap;
};
bool pg_weeks_add(struct arena *a, struct pg_weeks *s, int32_t week); /* false: no memory */
void pg_arg_weeks(struct pg_args *args, const struct pg_weeks *s);
/* pg_short() of a key, living as long as the arena and the key. Absent: no memory. */
struct str pg_short_key(struct arena *a, struct str key);

/* A stored text that is needed: metadata that something merges into, or one that is given again. */
struct pg_stored_text {
    int32_t week;
    int64_t pid;
    struct str text; /* absent: not there, or damaged */
};

/* A stored trace's sums of one model. */
struct pg_model {
    struct pg_model *next;
    struct str model; /* rollup_text */
    struct model_sums sums;
};
/* What hangs on a trace's state (`arg`). */
struct pg_trace {
    struct trace_state *t;
    struct str id; /* short form */
    bool found;
    struct trace_rec rec; /* found */
    int32_t week;         /* of a stored one; of a new one since it was folded */
    struct pg_model *models;
};
/* On the state of an observation of a stored trace. */
struct pg_obs {
    struct str oid; /* short form */
    bool found;
    struct obs_rec rec;
};

/* A row of `payload` to be added. */
struct pg_text_row {
    struct pg_text_row *next;
    int32_t week;
    int64_t pid;
    const struct pack *pack; /* or NULL: */
    struct str z;
};

/* What else the group's transaction does, after all rows are written and just before COMMIT; once a try. */
struct pg_also {
    void *arg;
    enum xt_code (*in_group)(void *arg, struct pg_conn *c, struct xt_err *err);
};

struct pg_group {
    struct pg_store *e;
    const struct pg_also *also; /* or NULL */
    struct pg_conn *c;
    struct pg_write_state *w;
    struct arena *a;
    struct fold f;
    struct pg_trace *traces; /* in order of (project, id) */
    size_t ntraces, nstored;
    size_t records;                   /* traces and observations that were given */
    PGresult *results[GROUP_RESULTS]; /* that loaded rows point into */
    size_t nresults;
    struct map stored_texts; /* pid -> struct pg_stored_text */
    struct pg_stored_text **asked;
    size_t nasked, cap_asked;
    struct pg_text_row *texts, **texts_end;
    size_t ntexts;
    struct pg_stored_text **gone; /* texts that nothing points to any more */
    size_t ngone, cap_gone;
    size_t trips; /* round trips, for the log */
};

/* An array parameter: `put` once for each i below n. */
#define COLUMN(args, type, n, put)         \
    do {                                   \
        pg_arg_array(args, type, n);       \
        for (size_t i = 0; i < (n); i++) { \
            put;                           \
        }                                  \
    } while (0)

/* ---- write.c ---- */
enum xt_code pg_write_state_new(struct pg_store *e, struct xt_err *err); /* e->ws; at open */
void pg_write_state_free(struct pg_store *e);
/* postgres_write with something beside it (`also` may be NULL), for no parts too. */
enum xt_code pg_write_with(struct pg_store *e, const struct batch_part *parts, size_t n, const struct pg_also *also,
                           struct xt_err *err);
void pg_group_init(struct pg_group *g, struct pg_store *e);
void pg_group_done(struct pg_group *g); /* forgets all of it, the arena too */

/* ---- load.c ---- */
/* In the group's transaction, after fold_collect: locks and loads what its records meet, and takes numbers. */
enum xt_code pg_load(struct pg_group *g, struct xt_err *err);
/* After fold_add: sums by model, and the texts that new ones are compared with. */
enum xt_code pg_load_more(struct pg_group *g, struct xt_err *err);
extern const struct fold_source pg_fold_source; /* but for `arg`: the group */
/* Sums by model of the stored traces: of all, or of those that the fold asks for. */
enum xt_code pg_load_models(struct pg_group *g, bool all, struct xt_err *err);
/* Keeps a result until the group ends. NULL is fine. False: too many (a mistake of ours). */
bool pg_group_keep(struct pg_group *g, PGresult *r);

/* ---- text_write.c ---- */
/* Asks for stored text `pid` (0: none), to be read with group_texts_load. False: no memory. */
bool group_text_want(struct pg_group *g, int32_t week, int64_t pid);
enum xt_code group_texts_load(struct pg_group *g, struct xt_err *err);
/* Absent: not asked for, not there, or damaged. */
struct str group_text_get(const struct pg_group *g, int64_t pid);
/* Numbers the texts of all states and lists the rows that are to be added, and the texts that go. */
enum xt_code group_texts_assign(struct pg_group *g, struct xt_err *err);
/* Adds the rows; takes from packs what went. */
enum xt_code group_texts_put(struct pg_group *g, struct xt_err *err);

/* ---- put.c ---- */
/* Writes the rows: new ones by COPY, stored ones by one statement a table; timestamps and rollups are settled then. */
enum xt_code pg_put(struct pg_group *g, struct xt_err *err);

/* ---- put_keys.c ---- */
/* Writes what finds traces by tag and records by the names in their metadata; after timestamps are settled. */
enum xt_code pg_keys_put(struct pg_group *g, struct xt_err *err);
/* Did the stored trace get other tags? */
static inline bool pg_new_tags(const struct trace_state *t) {
    return t->stored && str_has(t->now.tags) && !str_eq(t->before.tags, t->now.tags);
}

/* ---- rollup.c ---- */
/* Adds what was folded to the rows, in order of keys; rows that reach zero go. Takes locks that others wait for: just
 * before COMMIT. */
enum xt_code pg_rollups_add(struct pg_conn *c, struct pg_args *args, struct rollup_fold *f, struct xt_err *err);

/* ---- retain.c ---- */
/* Partitions for what is created now and in the two weeks to come; nothing when they are known to be there. What goes wrong
 * is tried again later: rows without a partition have the DEFAULT one. */
void pg_partitions_ready(struct pg_store *e);
/* Gives up the lease `jobs`, if this store may hold it: another server need not wait for its end. */
void pg_jobs_give(struct pg_store *e);
