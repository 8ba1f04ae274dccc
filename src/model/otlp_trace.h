/* otlp_trace.h -- what the spans of a request say about their traces (private to the OTLP mapper).
 *
 *  1. A trace is one record: of its scalars the root span's value wins, else the first that is given; tags are united;
 *     metadata is merged by key, the later span wins; public stays true.
 *  2. Its name is the one that is stated; failing that the root span's, as a weak one.
 *  3. Timestamp, and input and output that nobody states, are left to the store: it sees the spans of other requests. */
#pragma once
#include "model/otlp_rules.h"
#include "model/otlp_value.h"

#define TRACE_ID_BYTES 16

/* A field of a trace and who gave it. */
struct otlp_ranked {
    struct str s;
    uint8_t rank; /* 0 nobody, 1 a span, 2 the root */
};
/* One trace of the request while its spans come in. */
struct otlp_trace {
    struct otlp_trace *next; /* in order of appearance */
    struct id id;
    uint8_t raw[TRACE_ID_BYTES];
    struct otlp_ranked name, user, session, release, version, environment, input, output;
    struct str root_name;
    enum tri is_public;
    struct otlp_entries metadata; /* keys and JSON kept in the batch */
    struct otlp_entries tags;     /* keys only, kept in the batch */
};

/* Takes what one span says; `name` is its observation's. False: no memory. */
bool otlp_trace_merge(const struct otlp_values *c, struct otlp_trace *t, const struct otlp_fields *f, struct str name,
                      bool root);
/* Adds the record to the batch. False: no memory. */
bool otlp_trace_add(const struct otlp_values *c, const struct otlp_trace *s);
