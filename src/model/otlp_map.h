/* otlp_map.h -- OTLP spans -> traces and observations, by a table of rules.
 *
 * Both wire forms end in struct otlp_span. One rule row: target field, attribute key, decoder, where it may stand (span,
 * resource); for each target the first row that yields a value wins. Attributes that no row consumed stay readable under
 * metadata. Later conventions are further rows. */
#pragma once
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "model/attr.h"
#include "model/event.h"

/* The time of a timeUnixNano: 0 is absent, as is what no near time (base/clock.h) can be. */
static inline int64_t otlp_time(uint64_t unix_nano) {
    return unix_nano == 0 || unix_nano > (uint64_t)TIME_NEAR_MAX ? TIME_NONE : (int64_t)unix_nano;
}

struct otlp_event {
    int64_t time; /* TIME_NONE: absent */
    struct str name;
    struct attr_list attributes;
    uint32_t dropped_attributes; /* here and below: what the sender left out */
};
struct otlp_link {
    struct str trace_id, span_id; /* raw bytes */
    struct str trace_state;
    struct attr_list attributes;
    uint32_t dropped_attributes, flags;
};
struct otlp_scope {
    struct str name, version, schema_url;
    struct attr_list attributes;
    uint64_t dropped_attributes; /* 64 bits: scopes are compared bytewise and have no padding */
};
struct otlp_resource {
    struct attr_list attributes;
    struct str schema_url;
    uint32_t dropped_attributes;
    bool present;
};
struct otlp_span {
    struct str trace_id, span_id, parent_id; /* raw bytes; parent absent, empty or zero: a root */
    struct str name, trace_state;
    int32_t kind; /* 0..5 */
    int32_t status_code;
    struct str status_message;
    int64_t start, end; /* TIME_NONE: absent */
    uint32_t flags;
    uint32_t dropped_attributes, dropped_events, dropped_links;
    struct attr_list attributes; /* the mapper may decode values in place */
    struct otlp_event *events;
    size_t nevents;
    struct otlp_link *links;
    size_t nlinks;
};

/* What a request left out, for partial_success and the log. */
struct otlp_rejects {
    size_t spans;
    char reason[160]; /* of the first rejected one */
};

/* State of one request: spans are added one after the other, then finished into the batch. */
struct otlp_mapper;
/* `scratch` holds the mapper's own state and may be freed after otlp_map_finish; what goes into the batch is copied to or
 * already lives in the batch's arena or body. A mapper needs no freeing. NULL: no memory. */
struct otlp_mapper *otlp_map_new(struct arena *scratch, struct batch *b);
/* Bad ids (wrong length, all zero) reject the span alone: counted, XT_OK. Other codes: XT_ENOMEM/XT_ETOOBIG.
 * The span's own memory need not outlive the call. Resource and scope (NULL: none) are complete and stay as they are
 * until finish: what follows from them is worked out once for the spans of one resource and scope in a row. */
enum xt_code otlp_map_span(struct otlp_mapper *m, const struct otlp_resource *res, const struct otlp_scope *scope,
                           const struct otlp_span *span, struct xt_err *err) __attribute__((warn_unused_result));
/* Makes the traces of the request (one record a trace id, fields merged over its spans). */
enum xt_code otlp_map_finish(struct otlp_mapper *m, struct otlp_rejects *ret, struct xt_err *err)
    __attribute__((warn_unused_result));
