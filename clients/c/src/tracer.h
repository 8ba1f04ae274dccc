/* tracer.h -- tracers, spans and what the spans of one trace share. Private.
 *
 *  1. A span that records owns its record until it ends; then the sender does. One that records nothing has none.
 *  2. A thread's current spans are a chain by `below`; only that thread changes it. A span that is ended on another thread
 *     while it is current is only marked (`ended`, its last access): the owner frees it when it comes across it.
 *  3. What belongs to the trace (user, session, tags, name) is shared by its spans of this process and sent with the
 *     local root, and again with a later span if it changed after that. */
#pragma once
#include "sender.h"

struct xtrace_tracer {
    struct xtrace_sender *sender;
    double sample_rate;
    bool span_duration;
    const char *environment, *release, *version, *project_id; /* the sender's: records outlive the tracer */
};

struct trace_shared {
    _Atomic unsigned refs;
    pthread_mutex_t mu; /* everything below */
    bool changed;       /* there is something to send */
    bool root_ended;
    int64_t start_ns; /* TIME_NONE: the trace began elsewhere */
    char *name, *user, *session;
    char **tags;
    size_t tag_count;
};

struct xtrace_span {
    struct xtrace_tracer *tracer;
    struct record *record;       /* NULL: records nothing */
    struct trace_shared *shared; /* NULL when record is */
    struct xtrace_span *below;
    const void *owner; /* of the chain it is in; NULL: in none */
    _Atomic bool ended;
    bool root;     /* the first of its trace in this process */
    bool has_ids;  /* context is valid */
    bool is_event; /* a moment: it has no end and no duration */
    int64_t start_mono_ns;
    uint64_t epoch; /* of the process that started it */
    xtrace_context context;
};

/* A span below another one, not current. Never NULL, but it may record nothing. */
struct xtrace_span *span_below(struct xtrace_span *above, const char *name);

/* ---- shared.c ---- */
struct trace_shared *shared_new(int64_t start_ns); /* one reference. NULL: no memory */
struct trace_shared *shared_ref(struct trace_shared *t);
void shared_unref(struct trace_shared *t); /* NULL is fine */
/* Replaces a text / adds a tag. XTRACE_OK or XTRACE_ENOMEM. */
int shared_set(struct trace_shared *t, char **slot, const char *text);
int shared_add_tag(struct trace_shared *t, const char *tag);
/* At the end of a span: hands the trace to the sender, if it is time. `name`: of the root span, for a trace without. */
void shared_send(struct xtrace_span *span, const char *name);
