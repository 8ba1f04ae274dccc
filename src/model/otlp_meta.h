/* otlp_meta.h -- the metadata of an observation that came as a span (private to the OTLP mapper).
 *
 * An object of: the sender's own metadata at top level; `attributes` that no rule used up; `resourceAttributes`; `scope`
 * {name, version, attributes, schemaUrl, droppedAttributesCount}; `otel` with what has no field of its own and is not its default: kind (but
 * INTERNAL), traceState, flags, status, statusMessage, end (of a span that ends before it starts), events, links,
 * dropped*Count, schemaUrl and dropped count of the resource. Times are RFC 3339 text with up to nine digits of fraction. The sender's own
 * keys win: where one is called `scope` or the like, ours is called `otel.scope`. */
#pragma once
#include "base/buf.h"
#include "model/otlp_map.h"
#include "model/otlp_rules.h"

struct otlp_meta {
    const struct otlp_entries *own;
    const struct attr_list *attributes;
    const bool *used;           /* attributes that fields took */
    bool always;                /* `attributes` is written even when empty: scopes other than Langfuse's SDKs' */
    struct str resource, scope; /* JSON objects, absent: none */
    const struct otlp_resource *res;
    const struct otlp_span *span;
    bool status_shown, message_shown; /* the observation's level and status message tell what the span's status said */
    bool end_shown;
};
/* Appends the object; writes nothing when there is nothing to say. out->failed: no memory. */
void otlp_meta_write(struct buf *out, const struct otlp_meta *m);
/* The value of an entry as JSON: text that is an object or array is taken as that, other strings stay strings. */
void otlp_meta_write_entry(struct buf *out, const struct otlp_entry *e);
/* JSON object of a scope; absent when it says nothing. a->failed: no memory. */
struct str otlp_meta_scope(struct arena *a, const struct otlp_scope *scope);
