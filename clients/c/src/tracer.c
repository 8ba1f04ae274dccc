/* tracer.c -- tracers; spans from their start to their end. */
#include "tracer.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"

/* ---- tracers ---- */

void xtrace_tracer_options_init_sized(xtrace_tracer_options *options, size_t size) {
    const xtrace_tracer_options o = { .sample_rate = 1.0 };

    init_sized(options, size, &o, sizeof o);
}

xtrace_tracer *xtrace_tracer_new(xtrace_sender *sender, const xtrace_tracer_options *options, xtrace_error *error) {
    xtrace_tracer_options o;
    struct xtrace_tracer *t;

    error_clear(error);
    xtrace_tracer_options_init(&o);
    if (!sender) {
        error_argument(error, "sender", "NULL");
        return NULL;
    }
    if (options) {
        if (options->size < sizeof(size_t) || options->size > 65536) {
            error_argument(error, "options.size", "call xtrace_tracer_options_init first");
            return NULL;
        }
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    }
    const struct {
        const char *name, *text;
    } texts[] = { { "environment", o.environment },
                  { "release", o.release },
                  { "version", o.version },
                  { "project_id", o.project_id } };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].text && !utf8_valid(str_c(texts[i].text))) {
            error_argument(error, texts[i].name, "not UTF-8");
            return NULL;
        }
    }
    if (!(o.sample_rate >= 0 && o.sample_rate <= 1)) {
        error_argument(error, "sample_rate", "not between 0 and 1");
        return NULL;
    }
    t = calloc(1, sizeof *t);
    if (t) {
        t->sender = sender;
        t->sample_rate = o.sample_rate;
        t->span_duration = o.span_duration != 0;
        t->environment = sender_keep(sender, o.environment);
        t->release = sender_keep(sender, o.release);
        t->version = sender_keep(sender, o.version);
        t->project_id = sender_keep(sender, o.project_id);
    }
    if (!t || !t->environment != !o.environment || !t->release != !o.release || !t->version != !o.version ||
        !t->project_id != !o.project_id) {
        xtrace_tracer_free(t);
        error_set(error, XTRACE_ENOMEM, "no memory");
        return NULL;
    }
    return t;
}

void xtrace_tracer_free(xtrace_tracer *t) { free(t); }

/* ---- the thread's chain ---- */

static _Thread_local struct xtrace_span *current;

/* What every failure to make a span gives: records nothing, is never current, is never freed. */
static struct xtrace_span nothing;

/* The current span; those that ended elsewhere are freed on the way. */
static struct xtrace_span *top(void) {
    while (current && atomic_load_explicit(&current->ended, memory_order_acquire)) {
        struct xtrace_span *gone = current;
        current = gone->below;
        free(gone);
    }
    return current;
}

static void push(struct xtrace_span *s) {
    s->below = current;
    s->owner = &current;
    current = s;
}

/* Takes a span out of this thread's chain. */
static void unlink_span(struct xtrace_span *s) {
    for (struct xtrace_span **p = &current; *p; p = &(*p)->below) {
        if (*p == s) {
            *p = s->below;
            break;
        }
    }
    s->owner = NULL;
}

xtrace_span *xtrace_span_current(void) { return top(); }

void xtrace_span_enter(xtrace_span *s) {
    if (s && s != &nothing && !s->owner)
        push(s);
}

void xtrace_span_leave(xtrace_span *s) {
    if (s && s->owner == &current)
        unlink_span(s);
}

/* ---- start ---- */

static struct xtrace_span *span_new(struct xtrace_tracer *t) {
    struct xtrace_span *s = malloc(sizeof *s);

    if (!s)
        return NULL;
    s->tracer = t;
    s->record = NULL;
    s->shared = NULL;
    s->below = NULL;
    s->owner = NULL;
    atomic_init(&s->ended, false);
    s->root = s->has_ids = s->is_event = false;
    return s;
}

static void random_id(uint64_t epoch, unsigned char *out, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        uint64_t r = random_u64(epoch);
        while (r == 0)
            r = random_u64(epoch);
        memcpy(out + i, &r, 8);
    }
}

/* RFC 9562, 4.1 and 4.2: version 4, variant 10, so that the id is a proper UUID. */
static void random_trace_id(uint64_t epoch, unsigned char out[16]) {
    random_id(epoch, out, 16);
    out[6] = (unsigned char)((out[6] & 0x0f) | 0x40);
    out[8] = (unsigned char)((out[8] & 0x3f) | 0x80);
}

static bool sampled(const struct xtrace_tracer *t, uint64_t epoch) {
    return t->sample_rate >= 1 ||
           (t->sample_rate > 0 && (double)(random_u64(epoch) >> 11) < t->sample_rate * 9007199254740992.0);
}

/* Makes the span record. `parent` NULL: a new trace. `shared` NULL: the first of its trace here. */
static bool record_span(struct xtrace_span *s, uint64_t epoch, const char *name, const xtrace_context *parent,
                        struct trace_shared *shared) {
    const size_t n = utf8_cut(str_c(name), s->tracer->sender->o.max_record_bytes);
    const int64_t now = clock_now_ns();
    char *text;
    struct record *r = record_new(RECORD_OBSERVATION, n + 1, &text);

    if (!r)
        return false;
    s->shared = shared ? shared_ref(shared) : shared_new(parent ? TIME_NONE : now);
    if (!s->shared) {
        record_free(r);
        return false;
    }
    memcpy(text, name, n);
    text[n] = '\0';
    s->root = !shared;
    s->context.sampled = s->context.valid = 1;
    if (parent)
        memcpy(s->context.trace_id, parent->trace_id, sizeof s->context.trace_id);
    else
        random_trace_id(epoch, s->context.trace_id);
    random_id(epoch, s->context.span_id, sizeof s->context.span_id);
    s->has_ids = true;
    s->epoch = epoch;
    s->start_mono_ns = clock_mono_ns();

    r->by_ids = true;
    memcpy(r->ids.trace, s->context.trace_id, sizeof r->ids.trace);
    memcpy(r->ids.span, s->context.span_id, sizeof r->ids.span);
    if (parent) {
        memcpy(r->ids.parent, parent->span_id, sizeof r->ids.parent);
        r->ids.has_parent = true;
    }
    r->v.observation.name = text;
    r->v.observation.type = "SPAN";
    r->v.observation.start_time = now;
    r->v.observation.environment = s->tracer->environment;
    r->v.observation.project_id = s->tracer->project_id;
    s->record = r;
    return true;
}

/* A span below `above` (recording or not), below a context, or of a new trace. */
static struct xtrace_span *start(struct xtrace_tracer *t, const char *name, struct xtrace_span *above,
                                 const xtrace_context *context) {
    struct xtrace_span *s = span_new(t);
    uint64_t epoch;

    if (!s) {
        if (above ? above->record != NULL : context ? context->sampled : sampled(t, sender_epoch(t->sender)))
            sender_lost(t->sender, XTRACE_ENOMEM);
        return &nothing;
    }
    if (above && !above->record) { /* the trace was not sampled */
        s->has_ids = above->has_ids;
        if (above->has_ids)
            s->context = above->context;
        return s;
    }
    epoch = sender_epoch(t->sender);
    if (!above && context && !context->sampled) {
        s->context = *context;
        s->has_ids = true;
    } else if (above || context || sampled(t, epoch)) {
        /* A span of the parent process: its trace goes on, but what its spans share stays there. */
        struct trace_shared *shared = above && above->epoch == epoch ? above->shared : NULL;
        if (!record_span(s, epoch, name, above ? &above->context : context, shared))
            sender_lost(t->sender, XTRACE_ENOMEM);
    }
    return s;
}

xtrace_span *xtrace_span_start(xtrace_tracer *t, const char *name) {
    struct xtrace_span *s;

    if (!t || !name || !utf8_valid(str_c(name)))
        return &nothing;
    s = start(t, name, top(), NULL);
    if (s != &nothing)
        push(s);
    return s;
}

xtrace_span *xtrace_generation_start(xtrace_tracer *t, const char *name, const char *model) {
    struct xtrace_span *s = xtrace_span_start(t, name);

    (void)xtrace_span_set_type(s, "GENERATION");
    if (model)
        (void)xtrace_span_set_model(s, model, NULL);
    return s;
}

xtrace_span *xtrace_span_start_in(xtrace_tracer *t, const char *name, const xtrace_context *parent) {
    if (!t || !name || !utf8_valid(str_c(name)))
        return &nothing;
    return start(t, name, NULL, parent && parent->valid ? parent : NULL);
}

struct xtrace_span *span_below(struct xtrace_span *above, const char *name) {
    return start(above->tracer, name, above, NULL);
}

/* ---- while it lives ---- */

int xtrace_span_is_recording(const xtrace_span *s) { return s && s->record != NULL; }

void xtrace_span_context(xtrace_span *s, xtrace_context *context) {
    if (!context)
        return;
    memset(context, 0, sizeof *context);
    if (!s || s == &nothing)
        return;
    if (!s->has_ids) { /* not sampled: a context that says so to others */
        const uint64_t epoch = sender_epoch(s->tracer->sender);
        memset(&s->context, 0, sizeof s->context);
        random_trace_id(epoch, s->context.trace_id);
        random_id(epoch, s->context.span_id, sizeof s->context.span_id);
        s->context.valid = 1;
        s->has_ids = true;
    }
    *context = s->context;
}

/* ---- end ---- */

static void send_duration(struct xtrace_span *s, double seconds) {
    char id[37];
    const xtrace_label labels[] = { { "span_name", s->record->v.observation.name }, { "trace_id", id } };
    union any_record v;
    struct record *r;

    uuid_of_trace(s->context.trace_id, id);
    record_init(RECORD_METRIC, &v, sizeof v.metric);
    v.metric.name = "span_duration";
    v.metric.value = seconds;
    v.metric.timestamp = s->record->v.observation.end_time;
    v.metric.labels = labels;
    v.metric.label_count = 2;
    r = record_copy(RECORD_METRIC, &v);
    if (r)
        (void)sender_add(s->tracer->sender, r);
    else
        sender_lost(s->tracer->sender, XTRACE_ENOMEM);
}

static void finish(struct xtrace_span *s) {
    struct record *r = s->record;
    const int64_t took = clock_mono_ns() - s->start_mono_ns;

    if (sender_epoch(s->tracer->sender) != s->epoch) { /* the parent process will send it */
        record_free(r);
        return;
    }
    if (!s->is_event) {
        r->v.observation.end_time = r->v.observation.start_time + (took > 0 ? took : 0);
        if (s->tracer->span_duration)
            send_duration(s, (double)took / 1e9);
    }
    shared_send(s, r->v.observation.name);
    (void)sender_add(s->tracer->sender, r);
}

void xtrace_span_end(xtrace_span *s) {
    if (!s || s == &nothing)
        return;
    if (s->record)
        finish(s);
    shared_unref(s->shared);
    s->record = NULL;
    s->shared = NULL;
    if (s->owner && s->owner != &current) {
        atomic_store_explicit(&s->ended, true, memory_order_release);
        return;
    }
    if (s->owner)
        unlink_span(s);
    free(s);
}
