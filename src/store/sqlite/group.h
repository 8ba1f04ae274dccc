/* group.h -- the records of one transaction: what they become is the fold's to say (store/fold/fold.h); here it is told what
 * is stored, one record at a time, and what it says is written.
 *
 *  1. group_add folds; nothing is written. group_flush then writes each trace and observation once.
 *  2. The group's arena outlives group_flush, as the batches do.
 * Used by the writer's thread only, inside its transaction; checks and repairs use parts of it with a connection and an arena
 * of their own. */
#pragma once
#include "store/fold/fold.h"
#include "store/sqlite/lookup.h"
#include "store/sqlite/payload.h"
#include "store/sqlite/rollup.h"
#include "store/sqlite/row.h"

/* Where retention of traces is (retain.c). */
/* Where a round of retention is: see retain.c. Numbers of traces that were looked at last. */
enum retain_phase { RETAIN_FRONT, RETAIN_EDGE, RETAIN_SWEEP };
struct retain_round {
    bool active;
    int64_t cutoff;
    int64_t at;
    enum retain_phase phase;
    int64_t run;   /* young ones in a row */
    int64_t left;  /* RETAIN_SWEEP: young ones to be looked at yet */
    int64_t front; /* where that phase ended */
    bool found;    /* old ones at the edge, or in the sweep that are the edge now */
    bool fixed;    /* and behind them young ones: the edge stays */
    /* From round to round. */
    int64_t edge;   /* up to here there was nothing but what the sweep finds */
    int64_t resume; /* where the sweep ended */
    int64_t next;   /* of numbers, when it began; 0: no round yet */
};

struct write_state {
    struct retain_round retain;
    int64_t next_tseq, next_pid;
    bool known;         /* they are those of the file */
    uint64_t group;     /* number of the transaction, in this process */
    struct arena arena; /* of the transaction */
    struct codec codec;
    struct buf rest; /* scratch */
};

struct group {
    struct sqlite_store *e;
    struct conn *c;
    struct write_state *ws;
    struct arena *a;
    struct fold fold;
    struct pack *packs; /* of which a text was written in this group */
};

void group_init(struct group *g, struct sqlite_store *e);
enum xt_code group_add(struct group *g, const struct batch_part *part, struct xt_err *err);

/* ---- flush.c ---- */
enum xt_code group_flush(struct group *g, struct xt_err *err);
/* Reads all rows of trace_model of a stored trace. */
enum xt_code trace_models_load(struct group *g, struct trace_state *t, struct xt_err *err);
/* Writes the row of m->now, or removes it when that counts nothing. */
enum xt_code trace_model_put(struct group *g, const struct trace_rec *r, const struct tmodel *m, struct xt_err *err);
/* Hashes of the trace's postings (user, session, tags, name): sorted, each once. */
enum xt_code trace_hashes(struct group *g, const struct trace_rec *r, int64_t **ret, size_t *ret_n, struct xt_err *err);
