/* fold.h -- what records become: the records of one transaction, folded by trace and observation before a row is touched.
 * Every engine writes what the fold says; an update costs little more than an insert.
 *
 *  1. fold_add looks each trace and observation up once in what is stored (struct fold_source) and applies the records in
 *     order of arrival; nothing is written. An engine that loads by sets calls fold_collect for all parts first: then the
 *     states to load are known, and its source answers from what it hung on them (`arg`).
 *  2. Then, for each trace: fold_sums (its aggregates; may say `respan`), fold_settle (timestamp, what changed, rollups).
 *     The engine writes rows from the states, and the rollups at the end.
 *  3. `before` is the stored row, `now` what it becomes; every index entry, aggregate and rollup follows from the two.
 *  4. States point into the batches, into what the source gave and into the fold's arena: all outlive the fold. A state in
 *     the lists always has something to write.
 * Used by one thread at a time. Codes: those of the source, XT_ENOMEM. */
#pragma once
#include "base/map.h"
#include "store/fold/merge.h"
#include "store/fold/rollup_fold.h"
#include "store/store.h"

/* What an observation adds to its trace. */
struct obs_share {
    bool generation;  /* type exactly GENERATION */
    struct str model; /* absent: none, or "unknown" */
    int64_t start, end;
    int64_t in, out, total; /* 0 for none */
    bool cost_known;
    money cost;
};
void obs_share_of(const struct observation *v, struct obs_share *ret);
/* Adds it to its trace's cost and span; the number of observations and the sums by model are the caller's. */
void obs_share_add(struct trace_rec *t, const struct obs_share *s);

struct obs_state {
    struct obs_state *next; /* of its trace, in order of first appearance */
    struct str oid;
    void *arg;                   /* the engine's */
    bool loaded;                 /* what is stored was asked for */
    bool wants_metadata;         /* fold_collect: something may merge into the stored metadata */
    const struct observation *v; /* value now: the batch's record until something merges into it */
    struct observation *own;     /* the merged one, or NULL */
    struct str default_label;    /* of its first batch */
    bool stored;                 /* there is a row: set, else added */
    int64_t created, updated;
    int cost_source;
    int64_t price;
    int64_t pid[PAYLOADS], prest; /* as stored; the engine sets what its row gets */
    struct str metadata_known;    /* as stored, when it had to be read */
    bool metadata_remade;         /* the text is a merged one: no thread prepared its stored form */
    struct obs_share before;      /* when stored */
};

/* A trace's sums of one model. */
struct tmodel {
    struct tmodel *next;
    struct str model; /* stored form: rollup_text */
    struct model_sums before, now;
};

struct trace_state {
    struct trace_state *next; /* in order of first appearance */
    void *arg;                /* the engine's */
    bool loaded;              /* what is stored was asked for; before, `now` holds project and id.key alone */
    bool wants_metadata;      /* fold_collect: something may merge into the stored metadata */
    bool stored;              /* there is a row: `before` */
    bool touched;             /* a record of the trace itself came; else only sums and timestamp can have changed */
    bool respan;              /* t0 or t1 must be found anew among its rows (fold_sums) */
    bool moved;               /* stored, and ts or ts_source changed (fold_settle) */
    struct trace_rec before, now;
    struct trace_texts texts; /* see fold_trace_texts */
    struct str metadata_known;
    bool metadata_remade;
    struct obs_state *first, *last;
    struct tmodel *models; /* those whose `before` and `now` differ have changed */
    size_t nmodels;
    struct map model_map; /* when there are many */
};

/* What is stored, as the transaction sees it. What is given must live as long as the fold. Called at most once for each
 * trace and each observation, in order of first appearance. */
struct fold_source {
    void *arg;
    /* The row of a trace: t->now holds its project and id.key. */
    enum xt_code (*trace)(void *arg, const struct trace_state *t, struct trace_rec *ret, bool *ret_found,
                          struct xt_err *err);
    /* The row of an observation (o->oid) of a stored trace (t->now, with tseq). */
    enum xt_code (*observation)(void *arg, const struct trace_state *t, const struct obs_state *o, struct obs_rec *ret,
                                bool *ret_found, struct xt_err *err);
    /* The stored metadata that something merges into: text number `pid` (never 0), of the trace (o NULL) or of `o`. */
    enum xt_code (*metadata)(void *arg, const struct trace_state *t, const struct obs_state *o, int64_t pid,
                             struct str *ret, struct xt_err *err);
    /* Calls fold_model for each model that the stored trace has sums of, as they are before this transaction. */
    enum xt_code (*models)(void *arg, struct trace_state *t, struct xt_err *err);
    /* The number of a new trace. */
    enum xt_code (*number)(void *arg, const struct trace_state *t, int64_t *ret_tseq, struct xt_err *err);
};

struct fold {
    struct fold_source from;
    struct arena *a;
    struct map traces, observations;
    struct trace_state *first, *last;
    struct rollup_fold rollups;
};
void fold_init(struct fold *f, struct arena *a, const struct fold_source *from);
/* Makes the states of the part's records, not loaded: for all parts before fold_add is called for the first of them. */
enum xt_code fold_collect(struct fold *f, const struct batch_part *part, struct xt_err *err);
/* Applies the traces and observations of the part. */
enum xt_code fold_add(struct fold *f, const struct batch_part *part, struct xt_err *err);

/* Does fold_sums ask the source for the trace's models? For engines that load them for many traces at once. */
bool fold_wants_models(const struct trace_state *t);
/* After the last fold_add: the aggregates of the trace and its sums by model. Once for a trace. When it sets `respan`, the
 * engine puts first start and last end of the trace's rows, as they become, into now.t0 and now.t1 before fold_settle. */
enum xt_code fold_sums(struct fold *f, struct trace_state *t, struct xt_err *err);
/* The trace's timestamp and `moved`; its share of the rollups. Once for a trace. */
enum xt_code fold_settle(struct fold *f, struct trace_state *t, struct xt_err *err);

/* For source->models: `model` in its stored form; both are kept as they are. False: no memory. */
bool fold_model(struct arena *a, struct trace_state *t, struct str model, const struct model_sums *stored);

/* The row an observation becomes, with the numbers of texts that the state has now. */
void fold_observation_row(const struct trace_state *t, const struct obs_state *o, struct obs_rec *ret);
/* Payload texts that may be new (an engine still compares them with what is stored); absent: nothing to do. */
struct fold_text {
    struct str text;
    struct stored z; /* prepared stored form */
    bool remade;     /* merging made the text: its stored form is yet to be made */
};
void fold_trace_texts(const struct trace_state *t, struct fold_text ret[PAYLOADS]);
void fold_observation_texts(const struct obs_state *o, struct fold_text ret[PAYLOADS]);

/* Explicit, else the earliest start (r->t0), else the time of the first write. */
void trace_settle_timestamp(struct trace_rec *r);
