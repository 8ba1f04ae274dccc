/* store.h -- the one interface to storage, in the terms of the domain. Engines are free inside; nothing
 * above store/ asks which engine it is. The programs tests/unit/test_store_* hold every engine to it.
 *
 * Threads: what is marked [writer] runs on the ingest writer's thread only (one at a time); [any] on any thread; reads
 * take a pooled connection. Durability: a [writer] call that returned XT_OK is on disk and visible to reads.
 * Errors: XT_EREFUSED, this data can't be stored (try smaller parts); XT_EUNAVAILABLE, try again later (disk full, store
 * away, locked); XT_ETIMEOUT, the deadline of a read passed; XT_ESTORE, anything else. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "model/event.h"
#include "store/query.h"

struct store;

struct store_conf {
    const char *url;           /* "sqlite:PATH" of the database file, "postgresql://..." */
    uint64_t readers;          /* connections for reads, >= 1 */
    uint64_t cache_bytes;      /* page cache of the writer */
    uint64_t write_timeout_ms; /* of one write transaction in a database server; 0: the engine's own */
    bool read_only;            /* check beside a running server */
    bool exclusive;            /* serve: take the lock of the data directory for as long as the store is open */
};

/* A piece of a batch: records [from, to) of each kind. */
struct batch_part {
    const struct batch *b;
    size_t trace_from, trace_to, observation_from, observation_to, sample_from, sample_to;
};

/* An API key. Secrets are never stored: SHA-256 of the secret key. */
struct store_key {
    int64_t id, project;
    struct str project_name, public_key, name;
    uint8_t secret_hash[32];
    unsigned rights; /* RIGHT_READ 1, RIGHT_WRITE 2, RIGHT_ADMIN 4 */
    int64_t created;
    int64_t revoked; /* TIME_NONE: valid */
};

#define TIDY_NOTHING INT64_MAX

enum retain_kind { RETAIN_TRACES, RETAIN_SAMPLES };
struct store_stats { /* for /metrics; cheap */
    int64_t file_bytes, wal_bytes;
    uint64_t reads, read_errors, read_timeouts;
    uint64_t checkpoints, checkpoint_errors; /* of the log into the file */
    uint64_t removed_traces;                 /* by retention */
};

/* How far the taking over of another program's data is. */
struct store_takeover {
    int64_t project;                      /* given: the default project ... */
    struct str project_name;              /* ... and its name */
    bool done;                            /* nothing is left to do, or there never was */
    int64_t traces, observations, points; /* taken over so far, also by others */
};

struct store_ops {
    const char *scheme; /* "sqlite", "postgresql" */
    const char *alias;  /* another word for it in URLs; NULL: none */
    bool remote;        /* the data are in a server of their own, which may be away when this one starts */
    enum xt_code (*open)(struct store *s, const struct store_conf *conf, struct xt_err *err);
    void (*close)(struct store *s); /* also a half-opened store */
    /* [open thread, before anything else] Applies the missing migrations; refuses a newer schema. */
    enum xt_code (*migrate)(struct store *s, struct xt_err *err);

    /* [open thread, after migrate, before there is a writer] One bounded step of taking over what another program left where
     * this store is; until it says `done` nothing else may use the store. XT_EBUSY: another server is at it, ask again.
     * XT_EUNAVAILABLE, XT_ETIMEOUT: try again. NULL: there is never anything to take over. */
    enum xt_code (*take_over)(struct store *s, struct store_takeover *to, struct xt_err *err);

    /* [any] Engine's own preparation of a batch on the decoding thread (payload compression); fills the *_z fields. */
    enum xt_code (*prepare)(struct store *s, struct batch *b, struct xt_err *err);
    /* [writer] All parts in one transaction, all or nothing, in order. Same ids twice leave one row each. */
    enum xt_code (*write)(struct store *s, const struct batch_part *parts, size_t n, struct xt_err *err);
    /* [writer] A tiny durable write: is the store writable? */
    enum xt_code (*probe)(struct store *s, struct xt_err *err);
    /* [writer] A step of housekeeping between groups (checkpoint, seals, merges); bounded, cheap when nothing is due.
     * Returns when the next one is due though no group comes (monotonic ns, the past: at once), or TIDY_NOTHING. */
    int64_t (*tidy)(struct store *s);
    /* [writer] Removes one slice of what was created (traces) or stamped (samples) before `cutoff`; rollups follow.
     * *ret_more: call again. */
    enum xt_code (*retain)(struct store *s, enum retain_kind kind, int64_t cutoff, bool *ret_more, struct xt_err *err);

    /* [one thread] Looks whether the stored data has something to teach (a dictionary for its texts) and works it out,
     * without a write; at most a few tenths of a second, nothing at all when it is not due. Empty: nothing to learn. */
    enum xt_code (*study)(struct store *s, struct buf *ret, struct xt_err *err);
    /* [writer] Keeps what study() found, and uses it from then on. */
    enum xt_code (*learn)(struct store *s, struct str what, struct xt_err *err);

    /* [any] A trivial read; must return within about a second or XT_EUNAVAILABLE. */
    enum xt_code (*ping)(struct store *s, struct xt_err *err);
    /* [any] Reads: visitors get rows that are valid only inside the call; false stops early. One snapshot each. */
    enum xt_code (*traces_list)(struct store *s, const struct trace_query *q, trace_visitor *visit, void *arg,
                                int64_t *ret_total, struct xt_err *err);
    /* XT_ENOTFOUND when the trace is unknown. `trace` is visited first, then its observations in order. */
    enum xt_code (*trace_get)(struct store *s, const struct trace_ref *ref, trace_visitor *trace,
                              observation_visitor *observation, void *arg, struct xt_err *err);
    /* Every observation with that id, one a trace, that of the trace that came last first. XT_ENOTFOUND: none. */
    enum xt_code (*observation_get)(struct store *s, const struct observation_ref *ref, observation_visitor *visit,
                                    void *arg, struct xt_err *err);
    enum xt_code (*daily)(struct store *s, const struct daily_query *q, day_visitor *visit, void *arg,
                          int64_t *ret_total, struct xt_err *err);
    enum xt_code (*metric_names)(struct store *s, int64_t project, int64_t deadline, name_visitor *visit, void *arg,
                                 struct xt_err *err);
    enum xt_code (*series)(struct store *s, const struct series_query *q, struct series_sink *sink, struct xt_err *err);
    void (*stats)(struct store *s, struct store_stats *ret);

    /* [any] Catalog; small, its own connection. */
    enum xt_code (*project_open)(struct store *s, struct str name, int64_t *ret_number,
                                 struct xt_err *err);                                 /* creates */
    enum xt_code (*keys_version)(struct store *s, uint64_t *ret, struct xt_err *err); /* changes when keys change */
    enum xt_code (*keys_list)(struct store *s, struct arena *a, struct store_key **ret, size_t *ret_n,
                              struct xt_err *err); /* revoked ones included */
    enum xt_code (*key_create)(struct store *s, const struct store_key *k, int64_t *ret_id, struct xt_err *err);
    enum xt_code (*key_revoke)(struct store *s, int64_t id, struct xt_err *err); /* XT_ENOTFOUND */

    /* [any] Consistent copy to a new file, beside a running server; XT_ECONFLICT when the file exists. */
    enum xt_code (*backup)(struct store *s, const char *file, struct xt_err *err);
    /* Self-test: integrity, rollups and indexes against rows when deep; one line a finding into `report`, and a last
     * line of counts. XT_ESTORE when there are findings. */
    enum xt_code (*check)(struct store *s, bool deep, struct buf *report, struct xt_err *err);
    /* [an exclusive store that nothing else uses] The deep check, then what was found wrong beside the rows is made anew from
     * them in one transaction: aggregates and sums of traces, look-ups, rollups, indexes. Rows are never invented. One line
     * a finding, one a repair ("repaired: ..."), one for what is left ("left: ..."), last the counts. XT_ESTORE: some is
     * left. */
    enum xt_code (*repair)(struct store *s, struct buf *report, struct xt_err *err);
    /* No store is open: puts a backup where `url` says. XT_ECONFLICT when there is data already or a server runs. */
    enum xt_code (*restore)(const char *url, const char *file, struct xt_err *err);
};

struct store {
    const struct store_ops *ops;
    void *engine; /* struct sqlite_store ... */
};

extern const struct store_ops store_sqlite_ops, store_postgres_ops;

/* Chooses the engine by the URL's scheme, opens. On failure nothing stays open. */
enum xt_code store_open(struct store *s, const struct store_conf *conf, struct xt_err *err);
void store_close(struct store *s);
/* Is that the URL of an engine whose data are elsewhere? */
bool store_is_remote(const char *url);
/* Puts a backup in the place of a store that does not exist yet: checked first, then all or nothing. */
enum xt_code store_restore(const char *url, const char *file, struct xt_err *err);
