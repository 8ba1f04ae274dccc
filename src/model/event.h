/* event.h -- the one form that every protocol ends in: a batch of records in one arena.
 *
 * Absent: strings and ids by p == NULL, times by TIME_NONE, doubles by NaN, the rest by a `has` or a tri-state.
 * Free JSON (input, output, metadata ...) is text that was checked when it came in.
 * Ownership: a batch owns its arena and the body its strings point into; whoever holds the batch may read it, the
 * ingest queue takes it whole. A batch is written by one thread (the decoder), then read-only. */
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/money.h"
#include "base/str.h"

enum tri { TRI_NONE = 0, TRI_FALSE, TRI_TRUE };
struct opt_i64 {
    int64_t v;
    bool has;
};
/* A stated amount: exact when it fits 1e-18 USD, its text beside when it does not. */
struct opt_money {
    money v;
    bool has;
    struct str text; /* only when v is not exact */
};
/* How given values meet stored ones. */
enum merge_mode {
    MERGE_REPLACE, /* native routes: a given value replaces whole, metadata, tags and public:false included */
    MERGE_DEEP     /* OTLP and Langfuse events: metadata by key, tags united, public stays true */
};
enum ts_source { TS_FIRST_WRITE = 0, TS_EARLIEST_START, TS_EXPLICIT }; /* lowest to highest */

/* How the store keeps a text: its prepare makes that, nobody else looks inside. Zero: not prepared. */
struct pack;
struct stored {
    struct str z;      /* alone; absent: as it is, or in the pack */
    struct pack *pack; /* with others of its trace, as part number `part` */
    uint32_t part;
};

struct trace {
    struct id id;
    enum merge_mode merge;
    int64_t timestamp;        /* explicit one, or TIME_NONE */
    int64_t created, updated; /* of a record that another store kept; TIME_NONE: when its batch came */
    struct str name, user, session, release, version, environment, external_id;
    bool name_weak;           /* the name is the root span's: it fills a missing name and never replaces a stored one */
    struct str project_label; /* client's projectId; shown and filtered inside the tenant */
    struct str *tags;         /* tags_has: a list was given, maybe empty */
    size_t ntags;
    bool tags_has;
    enum tri is_public, bookmarked;
    double latency; /* seconds, stated */
    struct opt_money total_cost;
    struct str input, output, metadata;          /* JSON text */
    struct stored input_z, output_z, metadata_z; /* the same as the store keeps it: filled by store prepare */
    size_t index; /* position in the request, for messages: -1 as SIZE_MAX when it was the lone trace */
};

struct observation {
    struct id id, trace_id, parent_id;
    enum merge_mode merge;
    struct str type, name; /* type upper case for OTLP, as sent natively; absent: GENERATION on first insert */
    struct str version;    /* of the application, as OTLP and Langfuse events state it beside the trace's */
    int64_t start, end, completion_start;
    int64_t created, updated;                                    /* as in struct trace */
    struct str model, model_parameters, input, output, metadata; /* the last four JSON text */
    struct str usage;                                            /* JSON text as sent (kept; not returned) */
    struct str unit;
    struct str level, status_message, environment, project_label;
    struct str prompt_id, prompt_name, prompt_version, model_id;
    double input_price, output_price, total_price; /* USD per unit as sent */
    struct opt_money cost_input, cost_output, cost_total;
    bool cost_total_parts;    /* nobody stated cost_total: it is the sum of the two parts */
    struct str usage_buckets; /* JSON object of integers: disjoint buckets; absent when nothing was sent */
    struct str cost_buckets;  /* JSON object of decimals as sent (costDetails); absent when nothing was sent */
    double latency, time_to_first_token; /* seconds, stated */
    struct opt_i64 tokens_in, tokens_out, tokens_total;
    struct stored input_z, output_z, metadata_z; /* as in struct trace */
    size_t index;                                /* position in the request */
};

struct label {
    struct str name, value;
};
/* One point of a series. Labels are sorted bytewise by name, names unique (the decoder's duty, labels_sort). */
struct sample {
    struct str name;
    struct label *labels;
    size_t nlabels;
    int64_t timestamp;
    double value;      /* finite */
    bool replaces;     /* takes the place of an earlier point of the same series and time, by the protocol's identity */
    uint32_t set_hash; /* of name, labels and kind, made by the store on the decoding thread; 0: not yet */
};

/* A batch: one request. Which project it belongs to is decided by its credential. */
struct batch {
    struct arena arena;
    char *body; /* malloc'd bytes that slices point into, or NULL */
    size_t body_bytes;
    int64_t project;          /* number of the tenant (store catalog) */
    struct str default_label; /* projectId of records that state none: the project's name */
    int64_t received;         /* wall clock of arrival: createdAt/updatedAt, first-write timestamp */
    struct trace *traces;
    size_t ntraces, cap_traces;
    struct observation *observations;
    size_t nobservations, cap_observations;
    struct sample *samples;
    size_t nsamples, cap_samples;
    size_t dropped; /* points without a value and the like: counted, not stored */
};

/* Heap object; `arena_limit` bytes bound everything it will hold beside the body. `received` is now. NULL: no memory. */
struct batch *batch_new(size_t arena_limit);
void batch_free(struct batch *b); /* NULL is fine */
/* Room for so many more records, so that the lists need not grow; false: no memory. */
bool batch_reserve(struct batch *b, size_t traces, size_t observations, size_t samples);
/* New zeroed-to-absent record at the end of the list, or NULL (no memory). Pointers move as lists grow: index again. */
struct trace *batch_add_trace(struct batch *b);
struct observation *batch_add_observation(struct batch *b);
struct sample *batch_add_sample(struct batch *b);
size_t batch_records(const struct batch *b);
size_t batch_bytes(const struct batch *b); /* memory it holds: body and arena */
/* Sorts labels bytewise by name; of equal names the last one given stays. Returns the new count. */
size_t labels_sort(struct label *labels, size_t n);
/* Compact JSON object of sorted labels: the text that orders and names a series. */
struct str labels_json(struct arena *a, const struct label *labels, size_t n);
