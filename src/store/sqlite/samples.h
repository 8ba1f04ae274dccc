/* samples.h -- samples in the SQLite engine, private to samples*.c (blocks: store/sample/).
 *
 * Points are in parts: the hot one, which groups append to; while a generation is being made of it, the frozen one before
 * it; and before both the carried one, what the last generation left over. Each part has its rows in `mlog`. A sealed
 * generation has its rows in mgen, mdir, mpack and mfilter.
 *
 *  1. Generation g is made of all parts numbered up to 2g; its carried part is 2g + 1, the hot part after it 2g + 2.
 *     `state.next_gen` is the first number that is not sealed: rows of the log below part 2 * next_gen - 1, and packs from
 *     generation next_gen on, mean nothing and are removed some time.
 *  2. A version names the parts and next_gen at one time. A reader takes the version, then the counts of its parts, then
 *     one snapshot of the file in which it reads generations below next_gen only: each point exactly once, whatever is
 *     sealed meanwhile. Versions and parts are counted references.
 *  3. mu guards the pointer to the present version, and the first reading of the log. Nothing waits for a reader.
 *  4. All else belongs to the writer's thread. The thread that makes a generation reads the carried and the frozen part, and
 *     adds the sets of the first to the tables of the second, behind what is published: readers keep to their counts, and
 *     nothing that they look at moves. While it is at it, nobody else looks at the writer's fields of these parts. */
#pragma once
#include "store/sample/log.h"
#include "store/sample/seal.h"
#include "store/sqlite/engine.h"

#define SAMPLE_PARTS 3
#define SAMPLE_ASIDE 64
#define SAMPLE_RETRY NS_PER_SEC /* after a seal that failed */
#define SAMPLE_GEN_MAX (INT64_C(1) << 29)

struct samples_version {
    _Atomic int refs;
    int64_t next_gen;
    size_t n; /* parts, oldest first; the last one is hot */
    struct hot *parts[SAMPLE_PARTS];
    int64_t numbers[SAMPLE_PARTS];
};

struct seal_job; /* samples_seal.c */

struct sample_state {
    pthread_mutex_t mu;
    struct samples_version *now; /* NULL: the log was not read yet */
    /* The writer's. */
    int64_t row; /* key of the last row of the hot part */
    struct hot_mark mark;
    struct buf text; /* of the group's row */
    bool open;       /* a group is being added: hot_cut or hot_publish_points follows */
    bool suspect;    /* a commit failed: did it reach the file? */
    struct seal_job *job;
    bool sealing;                  /* a seal was begun for the frozen part, and if it failed, the next try has ... */
    int64_t seal_cutoff;           /* ... at least this cutoff */
    bool seal_carry_all;           /* ... and this */
    int64_t retry_at;              /* monotonic; a seal failed: not before */
    bool retaining;                /* the parts were seen to in a round of retention that is not over ... */
    int64_t retain_cutoff;         /* ... with this cutoff */
    int64_t retain_name;           /* where the round looks for names without points */
    int64_t damaged[SAMPLE_ASIDE]; /* keys of rows of the log that could not be read: the next seal puts them aside */
    size_t ndamaged;
};

#define SAMPLE_ROW_BITS 32
#define SAMPLE_PACK_BITS 24 /* mpack.k: generation << 24 | part of it */
static inline int64_t samples_part_key(int64_t part) { return (int64_t)((uint64_t)part << SAMPLE_ROW_BITS); }

/* ---- samples.c ---- */
/* The present version, with a reference. Reads the log first if nobody did. NULL: err filled. */
struct samples_version *samples_version_get(struct sqlite_store *e, struct conn *c, struct xt_err *err);
void samples_version_unref(struct samples_version *v); /* NULL is fine */
/* The log as a version of its own, nothing published; inside a transaction. */
struct samples_log {
    struct samples_version *v; /* the caller's */
    int64_t last;              /* key of the last row */
    uint64_t lost;             /* points that fell out because an earlier row is damaged */
    int64_t damaged[SAMPLE_ASIDE];
    size_t ndamaged; /* may be more than were noted */
};
enum xt_code samples_log_read(struct conn *c, struct samples_log *ret, struct xt_err *err);
/* [writer] After it s->now is there, and what is in memory is what the file has. */
enum xt_code samples_loaded(struct sqlite_store *e, struct xt_err *err);
/* [writer] Makes it the present one. Takes one reference. */
void samples_version_set(struct sqlite_store *e, struct samples_version *v);
struct samples_version *samples_version_new(int64_t next_gen); /* no parts. NULL: no memory */
/* Appends a part, taking its reference. */
void samples_version_add(struct samples_version *v, struct hot *part, int64_t number);
/* [writer] Its hot part. */
static inline struct hot *samples_hot(const struct samples_version *v) { return v->parts[v->n - 1]; }
/* ---- samples_seal.c, the writer's thread; the log was read ---- */
/* Is a part frozen whose generation is not sealed? */
bool samples_frozen(const struct sqlite_store *e);
/* Freezes the hot part unless one is frozen, and starts to make a generation of it; nothing while one is being made.
 * Points before `cutoff` fall away. carry_all: all others stay in the log. A seal that failed is begun again with what it
 * had. */
enum xt_code samples_seal_start(struct sqlite_store *e, int64_t cutoff, bool carry_all, struct xt_err *err);
/* One bounded piece of what is due, in a transaction of its own. While the packs are being made it waits for them, at most
 * wait_ns. */
enum xt_code samples_seal_step(struct sqlite_store *e, int64_t wait_ns, struct xt_err *err);
/* Is its thread still at it? */
bool samples_seal_making(const struct sqlite_store *e);
/* All of it. */
enum xt_code samples_seal_finish(struct sqlite_store *e, struct xt_err *err);
void samples_seal_drop(struct sqlite_store *e); /* forgets it: the log has everything */
