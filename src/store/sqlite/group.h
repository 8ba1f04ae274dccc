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
struct retain_round {
    bool active;
    int64_t cutoff;
    int64_t at;     /* traces up to this number have been looked at */
    bool beyond;    /* past the first run of young ones */
    int64_t run;    /* young ones in a row, until then */
    int64_t left;   /* beyond: to be looked at yet */
    int64_t resume; /* where the round before ended */
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
