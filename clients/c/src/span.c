/* span.c -- what a span is told while it lives; events and metric points. */
#include <math.h>

#include "base/clock.h"
#include "base/codec.h"
#include "tracer.h"

/* May the record take n bytes more, once `old` (which may be NULL) is gone? */
static bool has_room(const struct xtrace_span *s, const char *old, size_t n) {
    const size_t max = s->tracer->sender->o.max_record_bytes;
    const size_t bytes = s->record->bytes - record_room_of(s->record, old);
    return n <= max && bytes <= max - n;
}

/* Copies text into the span's record in the place of *ret, which is freed. On failure *ret stays. */
static int keep(struct xtrace_span *s, const char *text, const char **ret) {
    const size_t n = text ? strlen(text) : 0;

    if (!text || !utf8_valid((struct str){ text, n }) || !has_room(s, *ret, n))
        return XTRACE_EINVAL;
    text = record_text(s->record, text, n);
    if (!text)
        return XTRACE_ENOMEM;
    record_drop(s->record, *ret);
    *ret = text;
    return XTRACE_OK;
}

static int keep_json(struct xtrace_span *s, const char *json, const char **ret) {
    if (json && !json_text_valid(json, strlen(json)))
        return XTRACE_EINVAL;
    return keep(s, json, ret);
}

/* Plain text as a JSON string. */
static int keep_quoted(struct xtrace_span *s, const char *text, const char **ret) {
    struct json_writer w;
    struct buf b;
    int code = XTRACE_ENOMEM;

    if (!text || !utf8_valid(str_c(text)) || !has_room(s, *ret, strlen(text)))
        return XTRACE_EINVAL;
    buf_init(&b, SIZE_MAX / 2);
    jw_init(&w, &b);
    jw_cstr(&w, text);
    if (jw_done(&w))
        code = keep(s, b.p, ret);
    buf_done(&b);
    return code;
}

#define RECORDING(s)              \
    do {                          \
        if (!(s))                 \
            return XTRACE_EINVAL; \
        if (!(s)->record)         \
            return XTRACE_OK;     \
    } while (0)

int xtrace_span_set_input(xtrace_span *s, const char *text) {
    RECORDING(s);
    return keep_quoted(s, text, &s->record->v.observation.input_json);
}
int xtrace_span_set_input_json(xtrace_span *s, const char *json) {
    RECORDING(s);
    return keep_json(s, json, &s->record->v.observation.input_json);
}
int xtrace_span_set_output(xtrace_span *s, const char *text) {
    RECORDING(s);
    return keep_quoted(s, text, &s->record->v.observation.output_json);
}
int xtrace_span_set_output_json(xtrace_span *s, const char *json) {
    RECORDING(s);
    return keep_json(s, json, &s->record->v.observation.output_json);
}

static int add_meta(struct xtrace_span *s, const char *key, const char *value, bool quoted) {
    struct record *r = s->record;
    struct meta *m = r->meta;
    const char *name = NULL, *json = NULL;
    int code;

    while (m && key && strcmp(m->key, key) != 0)
        m = m->next;
    if (m && key)
        return quoted ? keep_quoted(s, value, &m->json) : keep_json(s, value, &m->json);
    code = keep(s, key, &name);
    if (code == XTRACE_OK)
        code = quoted ? keep_quoted(s, value, &json) : keep_json(s, value, &json);
    m = code == XTRACE_OK ? record_room(r, sizeof *m) : NULL;
    if (!m) { /* nothing stays of half an entry */
        record_drop(r, name);
        record_drop(r, json);
        return code == XTRACE_OK ? XTRACE_ENOMEM : code;
    }
    *m = (struct meta){ NULL, name, json };
    if (r->meta_last)
        r->meta_last->next = m;
    else
        r->meta = m;
    r->meta_last = m;
    return XTRACE_OK;
}

int xtrace_span_set_metadata(xtrace_span *s, const char *key, const char *text) {
    RECORDING(s);
    return add_meta(s, key, text, true);
}
int xtrace_span_set_metadata_json(xtrace_span *s, const char *key, const char *json) {
    RECORDING(s);
    return add_meta(s, key, json, false);
}

int xtrace_span_set_model(xtrace_span *s, const char *model, const char *parameters_json) {
    int code;

    RECORDING(s);
    code = keep(s, model, &s->record->v.observation.model);
    if (code == XTRACE_OK && parameters_json)
        code = keep_json(s, parameters_json, &s->record->v.observation.model_parameters_json);
    return code;
}

int xtrace_span_set_usage(xtrace_span *s, int64_t input, int64_t output, int64_t total) {
    xtrace_observation *o;

    RECORDING(s);
    if ((input < 0 && input != XTRACE_INT_NONE) || (output < 0 && output != XTRACE_INT_NONE) ||
        (total < 0 && total != XTRACE_INT_NONE))
        return XTRACE_EINVAL;
    if (total == XTRACE_INT_NONE && input != XTRACE_INT_NONE && output != XTRACE_INT_NONE)
        total = input > INT64_MAX - output ? INT64_MAX : input + output;
    o = &s->record->v.observation;
    o->prompt_tokens = input;
    o->completion_tokens = output;
    o->total_tokens = total;
    o->unit = "TOKENS";
    return XTRACE_OK;
}

int xtrace_span_set_cost(xtrace_span *s, double total) {
    RECORDING(s);
    if (!isfinite(total))
        return XTRACE_EINVAL;
    s->record->v.observation.total_cost = total;
    return XTRACE_OK;
}

int xtrace_span_first_token(xtrace_span *s) {
    xtrace_observation *o;
    int64_t took;

    RECORDING(s);
    o = &s->record->v.observation;
    if (o->completion_start_time != XTRACE_TIME_NONE)
        return XTRACE_OK;
    took = clock_mono_ns() - s->start_mono_ns;
    o->completion_start_time = o->start_time + took;
    o->time_to_first_token = (double)took / 1e9;
    return XTRACE_OK;
}

int xtrace_span_set_level(xtrace_span *s, const char *level, const char *message) {
    int code;

    RECORDING(s);
    code = keep(s, level, &s->record->v.observation.level);
    if (code == XTRACE_OK && message)
        code = keep(s, message, &s->record->v.observation.status_message);
    return code;
}
int xtrace_span_set_error(xtrace_span *s, const char *message) { return xtrace_span_set_level(s, "ERROR", message); }

int xtrace_span_set_type(xtrace_span *s, const char *type) {
    RECORDING(s);
    return keep(s, type, &s->record->v.observation.type);
}

/* ---- of the trace ---- */

#define TRACE_TEXT(s, text)                                                                                   \
    do {                                                                                                      \
        RECORDING(s);                                                                                         \
        if (!(text) || !utf8_valid(str_c(text)) || !has_room((s), NULL, strlen(text)))                        \
            return XTRACE_EINVAL;                                                                             \
        if (sender_epoch((s)->tracer->sender) != (s)->epoch)                                                  \
            return XTRACE_OK; /* the parent process's trace, and perhaps a lock that nobody here will open */ \
    } while (0)

int xtrace_span_set_user(xtrace_span *s, const char *user_id) {
    TRACE_TEXT(s, user_id);
    return shared_set(s->shared, &s->shared->user, user_id);
}
int xtrace_span_set_session(xtrace_span *s, const char *session_id) {
    TRACE_TEXT(s, session_id);
    return shared_set(s->shared, &s->shared->session, session_id);
}
int xtrace_span_set_trace_name(xtrace_span *s, const char *name) {
    TRACE_TEXT(s, name);
    return shared_set(s->shared, &s->shared->name, name);
}
int xtrace_span_add_tag(xtrace_span *s, const char *tag) {
    TRACE_TEXT(s, tag);
    return shared_add_tag(s->shared, tag);
}

/* ---- events and points ---- */

int xtrace_span_event(xtrace_span *s, const char *name, const char *level, const char *message) {
    struct xtrace_span *event;
    int code;

    RECORDING(s);
    if (!name || !utf8_valid(str_c(name)) || !has_room(s, NULL, strlen(name)))
        return XTRACE_EINVAL;
    event = span_below(s, name);
    if (!event->record) {
        xtrace_span_end(event);
        return XTRACE_ENOMEM;
    }
    event->is_event = true;
    event->record->v.observation.type = "EVENT";
    code = level ? keep(event, level, &event->record->v.observation.level) : XTRACE_OK;
    if (code == XTRACE_OK && message)
        code = keep(event, message, &event->record->v.observation.status_message);
    if (code != XTRACE_OK) { /* nothing half-told */
        record_free(event->record);
        event->record = NULL;
    }
    xtrace_span_end(event);
    return code;
}

void xtrace_metric_fields_init_sized(xtrace_metric_fields *fields, size_t size) {
    const xtrace_metric_fields none = { 0 };

    init_sized(fields, size, &none, sizeof none);
}

int xtrace_metric_event(xtrace_tracer *t, const char *name, double value, const xtrace_metric_fields *fields,
                        xtrace_error *error) {
    xtrace_metric_fields f;
    xtrace_metric m;
    xtrace_label labels[9];
    char id[37];
    size_t n = 0;
    const xtrace_span *s = xtrace_span_current();

    error_clear(error);
    if (!t)
        return error_argument(error, "tracer", "NULL");
    xtrace_metric_fields_init(&f);
    if (fields) {
        if (fields->size < sizeof(size_t) || fields->size > 65536)
            return error_argument(error, "fields.size", "call xtrace_metric_fields_init first");
        memcpy(&f, fields, fields->size < sizeof f ? fields->size : sizeof f);
    }
    const xtrace_label known[] = { { "session_id", f.session_id }, { "task_id", f.task_id },
                                   { "model", f.model },           { "model_name", f.model_name },
                                   { "provider", f.provider },     { "agent_role", f.agent_role },
                                   { "tool_name", f.tool_name },   { "status", f.status } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].value)
            labels[n++] = known[i];
    if (xtrace_span_is_recording(s)) {
        uuid_of_trace(s->context.trace_id, id);
        labels[n++] = (xtrace_label){ "trace_id", id };
    }
    xtrace_metric_init(&m);
    m.name = name;
    m.value = value;
    m.labels = labels;
    m.label_count = n;
    return xtrace_send_metric(t->sender, &m, error);
}
