/* shared.c -- what the spans of one trace share. */
#include <stdlib.h>

#include "base/clock.h"
#include "tracer.h"

struct trace_shared *shared_new(int64_t start_ns) {
    struct trace_shared *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->mu, NULL);
    t->start_ns = start_ns;
    t->changed = start_ns != TIME_NONE;
    return t;
}

struct trace_shared *shared_ref(struct trace_shared *t) {
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void shared_unref(struct trace_shared *t) {
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&t->mu);
    for (size_t i = 0; i < t->tag_count; i++)
        free(t->tags[i]);
    free(t->tags);
    free(t->name);
    free(t->user);
    free(t->session);
    free(t);
}

int shared_set(struct trace_shared *t, char **slot, const char *text) {
    char *copy = strdup(text);

    if (!copy)
        return XTRACE_ENOMEM;
    pthread_mutex_lock(&t->mu);
    free(*slot);
    *slot = copy;
    t->changed = true;
    pthread_mutex_unlock(&t->mu);
    return XTRACE_OK;
}

int shared_add_tag(struct trace_shared *t, const char *tag) {
    char *copy = strdup(tag), **more;

    pthread_mutex_lock(&t->mu);
    more = copy ? realloc(t->tags, (t->tag_count + 1) * sizeof *more) : NULL;
    if (more) {
        more[t->tag_count++] = copy;
        t->tags = more;
        t->changed = true;
    }
    pthread_mutex_unlock(&t->mu);
    if (!more)
        free(copy);
    return more ? XTRACE_OK : XTRACE_ENOMEM;
}

void shared_send(struct xtrace_span *span, const char *name) {
    const struct xtrace_tracer *tracer = span->tracer;
    struct trace_shared *t = span->shared;
    union any_record v;
    struct record *r = NULL;
    bool due;

    pthread_mutex_lock(&t->mu);
    if (span->root)
        t->root_ended = true;
    due = t->changed && t->root_ended;
    if (due) {
        t->changed = false;
        record_init(RECORD_TRACE, &v, sizeof v.trace);
        v.trace.timestamp = t->start_ns;
        /* Another process names a trace that began there. */
        v.trace.name = t->name || t->start_ns == TIME_NONE || !span->root ? t->name : name;
        v.trace.user_id = t->user;
        v.trace.session_id = t->session;
        v.trace.tags = (const char *const *)t->tags;
        v.trace.tag_count = t->tag_count;
        v.trace.environment = tracer->environment;
        v.trace.release = tracer->release;
        v.trace.version = tracer->version;
        v.trace.project_id = tracer->project_id;
        r = record_copy(RECORD_TRACE, &v);
    }
    pthread_mutex_unlock(&t->mu);
    if (!due)
        return;
    if (!r) {
        sender_lost(tracer->sender, XTRACE_ENOMEM);
        return;
    }
    r->by_ids = true;
    memcpy(r->ids.trace, span->context.trace_id, sizeof r->ids.trace);
    (void)sender_add(tracer->sender, r);
}
