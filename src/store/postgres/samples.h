/* samples.h -- samples in the PostgreSQL engine, private to samples*.c and who writes a group (blocks: store/sample/).
 *
 * A server process writes a **stream** of its own: rows of `mlog`, key k = part << 32 | row, a row a group. A row refers to
 * what earlier rows of its part said, so a stream has one writer. Parts that are written have even numbers; when one is full
 * the next begins, and the full one is sealed into a generation (mgen, mdir, mpack, mfilter). What the generation leaves over
 * is carried: rows of part `sealed` + 1.
 *
 *  1. `mstream.sealed` is the highest part that is in a generation; its rows are gone. It moves in the transaction that stores
 *     the generation and the carried rows. A snapshot that reads the generations it sees, and of each stream the rows behind
 *     `sealed`, reads each point once.
 *  2. Rows of one stream become visible in the order of their keys: one connection writes them, one transaction after the
 *     other. So "the last key I have seen of this stream" is a horizon; a sequence over all servers would not be one.
 *  3. Readers keep a replica of the rows of all streams, their own among them, as hot parts, and before an answer read what
 *     their snapshot has more. A snapshot that is older than the replica is given back and taken anew.
 *  4. A row is written only while the stream's row names us as its holder, under a share lock on that row. When the holder's
 *     time has run out, another server takes the stream over, waits by that lock for a group under way, seals all of it and
 *     removes it. Who was only asleep finds that out at its next group, and goes on with a new stream.
 *     Likewise when the row before is missing: a database that went back (a failover to a standby that lacked the last
 *     transactions) has lost what the next rows would refer to.
 *  5. A COMMIT whose fate nobody knows ends the stream, too: its row may yet appear, and then belongs to the old one.
 *  6. The replica is of one start of the database: after another one it may have lost rows, so all is read anew.
 *  7. A row that can't be read is lost with the points that refer to it; the seal keeps the row itself, under the key -k.
 *  8. mu guards the replica. The writer's part of the state is the writer's; what the seal thread and the writer share is
 *     guarded by seal_mu. */
#pragma once
#include "store/postgres/engine.h"
#include "store/sample/log.h"
#include "store/sample/seal.h"

#define PG_ROW_BITS 32
static inline int64_t pg_part_key(int64_t part) { return (int64_t)((uint64_t)part << PG_ROW_BITS); }

/* A part of a stream, as far as it was read. */
#define PG_ASIDE 64
struct pg_part {
    int64_t number, last; /* key of the last row */
    struct hot *hot;
    int64_t damaged[PG_ASIDE]; /* keys of rows that can't be read: the seal puts them aside */
    size_t ndamaged;           /* noted */
};
struct pg_stream {
    struct pg_stream *next;
    int64_t stream, sealed;
    struct pg_part *parts; /* by number; malloc'd */
    size_t n, cap;
    bool carried_read; /* all rows of part `sealed` + 1 */
    bool seen;         /* by the look at hand */
};

struct pg_samples {
    pthread_mutex_t mu;
    struct pg_stream *streams; /* in order of their numbers */
    int64_t started;           /* when the database started that they were read from */
    uint64_t lost;             /* points of rows that could not be read. mu */

    /* The writer's. */
    int64_t stream; /* 0: none yet */
    int64_t part, row;
    struct hot *hot;
    struct hot_mark mark;
    struct buf text; /* of the group's row */
    bool open;       /* points were added that no COMMIT has confirmed */
    bool lost_stream;
    int64_t cut_for; /* the cutoff for which the part at hand was ended last; 0: none */

    /* The seal thread. */
    pthread_mutex_t seal_mu;
    pthread_cond_t seal_cv; /* monotonic clock */
    pthread_t thread;
    bool threaded, stopping;
    bool asked;         /* there is something to seal */
    int64_t full_part;  /* parts of our stream up to this one are complete; 0: none */
    int64_t own;        /* our stream, for the thread; 0: none */
    int64_t sealed;     /* of our stream */
    bool gone;          /* our stream is somebody else's */
    int64_t cutoff;     /* of the last round of retention: seals drop what is older ... */
    int64_t cut_upto;   /* ... from parts up to this one: what came later is for the next round. 0: none */
    int64_t heard_cut;  /* what a round of retention elsewhere says, until it is done here; TIME_MIN: nothing */
    int64_t stored_cut; /* as it was read last; at first by what made our stream: that round was before our points */
    bool heard;         /* there was a stream: a new stored_cut is news */
    bool leads;         /* the thread took the lease `jobs`, maybe not for the first time */
    struct pg_conn seal_conn;
    _Atomic int64_t seal_limit; /* of its waits, from the stop on */
};

/* ---- samples.c: life, and the way in ---- */
enum xt_code pg_samples_new(struct pg_store *e, struct xt_err *err);
void pg_samples_free(struct pg_store *e); /* stops the thread; the stream is left for who comes next. NULL is fine */
/* [writer] A group: ready before its transaction; add for each part and log in it; end after it. */
enum xt_code pg_samples_ready(struct pg_store *e, struct xt_err *err);
enum xt_code pg_samples_add(struct pg_store *e, const struct batch_part *part, struct xt_err *err);
/* Writes the row. lost_stream: it is no longer ours, the group has to be tried again after pg_samples_ready. */
enum xt_code pg_samples_log(struct pg_store *e, struct pg_conn *c, struct xt_err *err);
void pg_samples_end(struct pg_store *e, bool committed, bool unsettled);
/* [writer] Starts the thread; ends the part when a round of retention elsewhere asks for it. */
void pg_samples_tidy(struct pg_store *e);
/* [writer] Ends the part at hand, so that it is sealed; nothing when it is empty. */
void pg_samples_cut_part(struct pg_store *e);
/* [writer] A round of retention: seals of what was written so far drop what is older. False: not now, the part can't be
 * ended. */
bool pg_samples_cut_old(struct pg_store *e, int64_t cutoff);

/* ---- samples_view.c: the replica ---- */
#define PG_VIEW_PARTS 64
struct pg_view_part {
    struct hot *hot; /* a reference */
    struct hot_count seen;
    int64_t stream, number;
};
struct pg_view {
    struct pg_view_part *parts; /* in order of stream and number; malloc'd */
    size_t n, cap;
};
/* What the connection's snapshot has in logs: reads what the replica lacks. Begins the connection's transaction anew when its
 * snapshot is too old. */
enum xt_code pg_view_take(struct pg_store *e, struct pg_conn *c, struct pg_view *ret, struct xt_err *err);
void pg_view_done(struct pg_view *v); /* a zeroed one is fine */

/* ---- samples_seal.c ---- */
/* Runs the thread's loop until s->stopping. */
void *pg_seal_run(void *arg);

/* ---- samples_retain.c ---- */
enum xt_code pg_retain_samples(struct pg_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err);
