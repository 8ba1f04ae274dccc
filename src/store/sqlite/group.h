/* group.h -- the records of one transaction, folded by trace and observation before a row is touched (design section 6:
 * an update costs five inserts).
 *
 *  1. group_add looks each trace and observation up once, loads what is stored and applies the records in order of
 *     arrival; nothing is written. group_flush then writes each trace and observation once.
 *  2. States point into the batches and the group's arena: both outlive group_flush.
 *  3. `before` is the stored row, `now` what it becomes; every index entry, aggregate and rollup follows from the two.
 * Used by the writer's thread only, inside its transaction. */
#pragma once
#include "base/map.h"
#include "store/sqlite/lookup.h"
#include "store/sqlite/merge.h"
#include "store/sqlite/rollup.h"

/* What an observation adds to its trace. */
struct obs_share {
    bool generation;  /* type exactly GENERATION */
    struct str model; /* absent: none, or "unknown" */
    int64_t start, end;
    int64_t in, out, total; /* 0 for none */
    bool cost_known;
    money cost;
};

struct obs_state {
    struct obs_state *next;      /* of its trace, in order of first appearance */
    const struct observation *v; /* value now: the batch's record until something merges into it */
    struct observation *own;     /* the merged one, or NULL */
    struct str default_label;    /* of its first batch */
    bool stored;                 /* there is a row */
    int64_t created, updated;
    int cost_source;
    int64_t price;
    int64_t pid[PAYLOADS], prest;
    struct str metadata_known; /* as stored, when it had to be read */
    bool metadata_remade;      /* the text is a merged one: no thread prepared its stored form */
    struct obs_share before;   /* when stored */
};

/* A trace's sums of one model: a row of trace_model. */
struct tmodel {
    struct tmodel *next;
    struct str model; /* stored form */
    struct model_sums before, now;
};

struct trace_state {
    struct trace_state *next;
    bool stored;  /* there is a row: `before` */
    bool touched; /* a record of the trace itself came */
    bool respan;  /* t0 or t1 must be found anew among its rows */
    struct trace_rec before, now;
    struct trace_texts texts;
    struct str metadata_known;
    bool metadata_remade;
    struct obs_state *first, *last;
    struct tmodel *models;
    size_t nmodels;
    struct map model_map; /* when there are many */
};

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
    struct map traces, observations;
    struct trace_state *first, *last;
    struct rollup_fold rollups;
    struct pack *packs; /* of which a text was written in this group */
};

void group_init(struct group *g, struct sqlite_store *e);
enum xt_code group_add(struct group *g, const struct batch_part *part, struct xt_err *err);
void obs_share_of(const struct observation *v, struct obs_share *ret);

/* ---- flush.c ---- */
enum xt_code group_flush(struct group *g, struct xt_err *err);
/* Reads all rows of trace_model of a stored trace. */
enum xt_code trace_models_load(struct group *g, struct trace_state *t, struct xt_err *err);
/* Writes the row of m->now, or removes it when that counts nothing. */
enum xt_code trace_model_put(struct group *g, const struct trace_rec *r, const struct tmodel *m, struct xt_err *err);
/* D17: explicit, else the earliest start (r->t0), else the time of the first write. */
void trace_settle_timestamp(struct trace_rec *r);
/* Hashes of the trace's postings (user, session, tags, name): sorted, each once. */
enum xt_code trace_hashes(struct group *g, const struct trace_rec *r, int64_t **ret, size_t *ret_n, struct xt_err *err);
