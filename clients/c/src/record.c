/* record.c -- the tables of fields, and what is done by them. */
#include "record.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/codec.h"

enum field_type { F_ID, F_TEXT, F_JSON, F_TIME, F_F64, F_I64, F_BOOL, F_TAGS, F_LABELS, F_NUMBER };

/* F_NUMBER is a double that must be there. For F_TAGS and F_LABELS `count` is where the number of elements stands. */
struct field {
    const char *name; /* in JSON, and in errors */
    enum field_type type;
    bool required;
    size_t at, count;
};

#define T(name, type, field) \
    { name, type, false, offsetof(xtrace_trace, field), 0 }
static const struct field trace_fields[] = {
    { "id", F_ID, true, offsetof(xtrace_trace, id), 0 },
    T("timestamp", F_TIME, timestamp),
    T("name", F_TEXT, name),
    T("userId", F_TEXT, user_id),
    T("sessionId", F_TEXT, session_id),
    T("release", F_TEXT, release),
    T("version", F_TEXT, version),
    T("environment", F_TEXT, environment),
    T("externalId", F_TEXT, external_id),
    T("projectId", F_TEXT, project_id),
    T("input", F_JSON, input_json),
    T("output", F_JSON, output_json),
    T("metadata", F_JSON, metadata_json),
    { "tags", F_TAGS, false, offsetof(xtrace_trace, tags), offsetof(xtrace_trace, tag_count) },
    T("public", F_BOOL, is_public),
    T("bookmarked", F_BOOL, bookmarked),
    T("latency", F_F64, latency),
    T("totalCost", F_F64, total_cost),
};
#define O(name, type, field) \
    { name, type, false, offsetof(xtrace_observation, field), 0 }
static const struct field observation_fields[] = {
    { "id", F_ID, true, offsetof(xtrace_observation, id), 0 },
    { "traceId", F_ID, true, offsetof(xtrace_observation, trace_id), 0 },
    O("parentObservationId", F_ID, parent_id),
    O("type", F_TEXT, type),
    O("name", F_TEXT, name),
    O("level", F_TEXT, level),
    O("statusMessage", F_TEXT, status_message),
    O("environment", F_TEXT, environment),
    O("projectId", F_TEXT, project_id),
    O("startTime", F_TIME, start_time),
    O("endTime", F_TIME, end_time),
    O("completionStartTime", F_TIME, completion_start_time),
    O("model", F_TEXT, model),
    O("modelParameters", F_JSON, model_parameters_json),
    O("input", F_JSON, input_json),
    O("output", F_JSON, output_json),
    O("usage", F_JSON, usage_json),
    O("metadata", F_JSON, metadata_json),
    O("promptId", F_TEXT, prompt_id),
    O("promptName", F_TEXT, prompt_name),
    O("promptVersion", F_TEXT, prompt_version),
    O("modelId", F_TEXT, model_id),
    O("unit", F_TEXT, unit),
    O("inputPrice", F_F64, input_price),
    O("outputPrice", F_F64, output_price),
    O("totalPrice", F_F64, total_price),
    O("calculatedInputCost", F_F64, input_cost),
    O("calculatedOutputCost", F_F64, output_cost),
    O("calculatedTotalCost", F_F64, total_cost),
    O("latency", F_F64, latency),
    O("timeToFirstToken", F_F64, time_to_first_token),
    O("promptTokens", F_I64, prompt_tokens),
    O("completionTokens", F_I64, completion_tokens),
    O("totalTokens", F_I64, total_tokens),
};
static const struct field metric_fields[] = {
    { "name", F_TEXT, true, offsetof(xtrace_metric, name), 0 },
    { "labels", F_LABELS, false, offsetof(xtrace_metric, labels), offsetof(xtrace_metric, label_count) },
    { "value", F_NUMBER, true, offsetof(xtrace_metric, value), 0 },
    { "timestamp", F_TIME, false, offsetof(xtrace_metric, timestamp), 0 },
};

static const struct shape {
    const struct field *fields;
    size_t count, size;
} shapes[RECORD_KINDS] = {
    [RECORD_TRACE] = { trace_fields, sizeof trace_fields / sizeof *trace_fields, sizeof(xtrace_trace) },
    [RECORD_OBSERVATION] = { observation_fields, sizeof observation_fields / sizeof *observation_fields,
                             sizeof(xtrace_observation) },
    [RECORD_METRIC] = { metric_fields, sizeof metric_fields / sizeof *metric_fields, sizeof(xtrace_metric) },
};

/* Reading and writing a member by its place. */
#define MEMBER(T, v, f) (*(T *)(void *)((char *)(v) + (f)->at))
#define CMEMBER(T, v, f) (*(const T *)(const void *)((const char *)(v) + (f)->at))
#define COUNT(v, f) (*(const size_t *)(const void *)((const char *)(v) + (f)->count))

/* ---- defaults ---- */

static size_t field_bytes(enum field_type t) {
    return t == F_BOOL                   ? sizeof(int)
           : t == F_TIME || t == F_I64   ? sizeof(int64_t)
           : t == F_F64 || t == F_NUMBER ? sizeof(double)
                                         : sizeof(void *);
}

void record_init(enum record_kind kind, void *v, size_t size) {
    const struct shape *s = &shapes[kind];

    if (!v || size < sizeof size)
        return;
    memset(v, 0, size);
    memcpy(v, &size, sizeof size);
    for (size_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->at + field_bytes(f->type) > size)
            continue;
        if (f->type == F_TIME || f->type == F_I64)
            MEMBER(int64_t, v, f) = INT64_MIN;
        else if (f->type == F_F64 || f->type == F_NUMBER)
            MEMBER(double, v, f) = NAN;
        else if (f->type == F_BOOL)
            MEMBER(int, v, f) = -1;
    }
}
void xtrace_trace_init_sized(xtrace_trace *t, size_t size) { record_init(RECORD_TRACE, t, size); }
void xtrace_observation_init_sized(xtrace_observation *o, size_t size) { record_init(RECORD_OBSERVATION, o, size); }
void xtrace_metric_init_sized(xtrace_metric *m, size_t size) { record_init(RECORD_METRIC, m, size); }

bool record_take(enum record_kind kind, const void *given, union any_record *ret) {
    const size_t ours = shapes[kind].size;
    size_t theirs;

    memcpy(&theirs, given, sizeof theirs);
    if (theirs < sizeof theirs || theirs > 65536)
        return false;
    record_init(kind, ret, ours);
    memcpy(ret, given, theirs < ours ? theirs : ours);
    memcpy(ret, &ours, sizeof ours);
    return true;
}

/* ---- checks ---- */

bool json_text_valid(const char *json, size_t n) {
    json_error_t why;
    json_t *v = json_loadb(json, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    const bool ok = v != NULL;

    json_decref(v);
    return ok;
}

/* A UUID in one of the spellings that the native routes take. */
static bool id_valid(const char *s) {
    size_t n = strlen(s);

    if (n > 9 && memcmp(s, "urn:uuid:", 9) == 0) {
        s += 9;
        n -= 9;
    } else if (n > 1 && s[0] == '{' && s[n - 1] == '}') {
        s++;
        n -= 2;
    }
    if (n != 36 && n != 32)
        return false;
    for (size_t i = 0; i < n; i++) {
        const bool dash = n == 36 && (i == 8 || i == 13 || i == 18 || i == 23);
        const char c = s[i];
        if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    return true;
}

struct checking {
    const char *prefix;
    xtrace_error *error;
    size_t room; /* bytes of text that may still come */
};

static int bad(const struct checking *c, const char *name, const char *why) {
    char argument[64];
    (void)snprintf(argument, sizeof argument, "%s%s", c->prefix, name);
    return error_argument(c->error, argument, "%s", why);
}

static int check_text(struct checking *c, const char *name, const char *text, bool json) {
    const size_t n = strlen(text);

    if (n > c->room)
        return bad(c, name, "the record is too large");
    c->room -= n;
    if (!utf8_valid((struct str){ text, n }))
        return bad(c, name, "not UTF-8");
    if (json && !json_text_valid(text, n))
        return bad(c, name, "not a JSON value");
    return XTRACE_OK;
}

static int check_list(struct checking *c, const struct field *f, const void *v) {
    const size_t n = COUNT(v, f);
    const void *list = CMEMBER(void *const, v, f);
    int code = XTRACE_OK;

    if (!list)
        return n == 0 ? XTRACE_OK : bad(c, f->name, "NULL, but not empty");
    if (n > c->room)
        return bad(c, f->name, "the record is too large");
    for (size_t i = 0; i < n && code == XTRACE_OK; i++) {
        if (f->type == F_TAGS) {
            const char *tag = ((const char *const *)list)[i];
            code = tag ? check_text(c, f->name, tag, false) : bad(c, f->name, "an element is NULL");
        } else {
            const xtrace_label *l = &((const xtrace_label *)list)[i];
            if (!l->name || !l->value)
                return bad(c, f->name, "an element is NULL");
            code = check_text(c, f->name, l->name, false);
            if (code == XTRACE_OK)
                code = check_text(c, f->name, l->value, false);
        }
    }
    return code;
}

static int check_field(struct checking *c, const struct field *f, const void *v) {
    const char *text;
    double number;

    switch (f->type) {
    case F_ID:
    case F_TEXT:
    case F_JSON:
        text = CMEMBER(char *const, v, f);
        if (!text)
            return f->required ? bad(c, f->name, "missing") : XTRACE_OK;
        if (f->type == F_ID && !id_valid(text))
            return bad(c, f->name, "not a UUID");
        return check_text(c, f->name, text, f->type == F_JSON);
    case F_TAGS:
    case F_LABELS: return check_list(c, f, v);
    case F_F64:
    case F_NUMBER:
        number = CMEMBER(double, v, f);
        if (isinf(number) || (f->type == F_NUMBER && isnan(number)))
            return bad(c, f->name, "not a finite number");
        return XTRACE_OK;
    case F_BOOL:
        return CMEMBER(int, v, f) < -1 || CMEMBER(int, v, f) > 1 ? bad(c, f->name, "neither 1, 0 nor -1") : XTRACE_OK;
    case F_TIME:
    case F_I64: break;
    }
    return XTRACE_OK;
}

int record_check(enum record_kind kind, const union any_record *v, const char *prefix, size_t max_bytes,
                 xtrace_error *e) {
    struct checking c = { prefix, e, max_bytes };
    int code = XTRACE_OK;

    for (size_t i = 0; i < shapes[kind].count && code == XTRACE_OK; i++)
        code = check_field(&c, &shapes[kind].fields[i], v);
    return code;
}

/* ---- records of the queue ---- */

struct record *record_new(enum record_kind kind, size_t extra, char **ret_extra) {
    const size_t own = offsetof(struct record, v) + shapes[kind].size;
    struct record *r;

    if (extra > SIZE_MAX - own)
        return NULL;
    r = malloc(own + extra);
    if (!r)
        return NULL;
    memset(r, 0, offsetof(struct record, v));
    r->kind = kind;
    r->bytes = own + extra;
    record_init(kind, &r->v, shapes[kind].size);
    if (ret_extra)
        *ret_extra = (char *)r + own;
    return r;
}

void record_free(struct record *r) {
    if (!r)
        return;
    for (struct piece *p = r->pieces, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    free(r);
}

void *record_room(struct record *r, size_t n) {
    struct piece *p;

    if (n > SIZE_MAX - sizeof *p || !(p = malloc(sizeof *p + n)))
        return NULL;
    p->next = r->pieces;
    p->bytes = sizeof *p + n;
    r->pieces = p;
    r->bytes += p->bytes;
    return p->room;
}

size_t record_room_of(const struct record *r, const void *room) {
    for (const struct piece *p = r->pieces; p && room; p = p->next)
        if (p->room == room)
            return p->bytes;
    return 0;
}

void record_drop(struct record *r, const void *room) {
    for (struct piece **at = &r->pieces, *p; room && (p = *at) != NULL; at = &p->next) {
        if (p->room == room) {
            *at = p->next;
            r->bytes -= p->bytes;
            free(p);
            return;
        }
    }
}

const char *record_text(struct record *r, const char *text, size_t n) {
    char *copy = n < SIZE_MAX ? record_room(r, n + 1) : NULL;

    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

/* Walks all texts of a record: with `out` NULL it counts what a copy needs, else it copies and redirects. Pointers come
 * first, so that they stay aligned. */
static size_t copy_lists(const struct shape *s, union any_record *v, char *out) {
    size_t n = 0;

    for (size_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->type != F_TAGS && f->type != F_LABELS)
            continue;
        const void *list = CMEMBER(void *const, v, f);
        const size_t bytes = COUNT(v, f) * (f->type == F_TAGS ? sizeof(char *) : sizeof(xtrace_label));
        if (!list)
            continue;
        if (out) {
            memcpy(out + n, list, bytes);
            MEMBER(const void *, v, f) = out + n;
        }
        n += bytes;
    }
    return n;
}

static size_t copy_one(const char **slot, char *out) {
    if (!*slot)
        return 0;
    const size_t n = strlen(*slot) + 1;
    if (out) {
        memcpy(out, *slot, n);
        *slot = out;
    }
    return n;
}

static size_t copy_texts(const struct shape *s, union any_record *v, char *out) {
    size_t n = 0;

#define NEXT (out ? out + n : NULL)
    for (size_t i = 0; i < s->count; i++) {
        const struct field *f = &s->fields[i];
        if (f->type == F_ID || f->type == F_TEXT || f->type == F_JSON) {
            n += copy_one(&MEMBER(const char *, v, f), NEXT);
        } else if (f->type == F_TAGS || f->type == F_LABELS) {
            /* In the copy the list is ours; while counting nothing is written. */
            char *list = MEMBER(char *, v, f);
            const size_t texts = COUNT(v, f) * (f->type == F_TAGS ? 1 : 2);
            for (size_t k = 0; list && k < texts; k++)
                n += copy_one(&((const char **)(void *)list)[k], NEXT);
        }
    }
#undef NEXT
    return n;
}

struct record *record_copy(enum record_kind kind, const union any_record *given) {
    const struct shape *s = &shapes[kind];
    union any_record v;
    struct record *r;
    char *extra;

    memcpy(&v, given, s->size);
    const size_t lists = copy_lists(s, &v, NULL), texts = copy_texts(s, &v, NULL);
    r = record_new(kind, lists + texts, &extra);
    if (!r)
        return NULL;
    memcpy(&r->v, &v, s->size);
    copy_lists(s, &r->v, extra);
    copy_texts(s, &r->v, extra + lists);
    return r;
}

/* ---- JSON ---- */

static void uuid_text(const unsigned char b[16], char out[37]) {
    char hex[32];

    hex_encode(b, 16, hex);
    (void)snprintf(out, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}
void uuid_of_trace(const unsigned char id[16], char out[37]) { uuid_text(id, out); }
void uuid_of_span(const unsigned char id[8], char out[37]) {
    unsigned char b[16] = { 0 };
    memcpy(b + 8, id, 8);
    uuid_text(b, out);
}

static void encode_list(struct json_writer *w, const struct field *f, const void *v) {
    const void *list = CMEMBER(void *const, v, f);

    if (!list)
        return;
    jw_key(w, f->name);
    if (f->type == F_TAGS) {
        jw_arr(w);
        for (size_t i = 0; i < COUNT(v, f); i++)
            jw_cstr(w, ((const char *const *)list)[i]);
    } else {
        jw_obj(w);
        for (size_t i = 0; i < COUNT(v, f); i++) {
            const xtrace_label *l = &((const xtrace_label *)list)[i];
            jw_key_str(w, str_c(l->name));
            jw_cstr(w, l->value);
        }
    }
    jw_end(w);
}

static void encode_field(struct json_writer *w, const struct field *f, const void *v) {
    char time[TIME_TEXT_MAX];
    const char *text;
    int64_t i;
    double d;

    switch (f->type) {
    case F_ID:
    case F_TEXT:
        if ((text = CMEMBER(char *const, v, f)) != NULL)
            jw_kv_cstr(w, f->name, text);
        break;
    case F_JSON:
        if ((text = CMEMBER(char *const, v, f)) != NULL)
            jw_kv_raw(w, f->name, str_c(text));
        break;
    case F_TIME:
        if ((i = CMEMBER(int64_t, v, f)) != XTRACE_TIME_NONE)
            jw_kv_str(w, f->name, (struct str){ time, time_format_offset(i, time) });
        break;
    case F_I64:
        if ((i = CMEMBER(int64_t, v, f)) != XTRACE_INT_NONE)
            jw_kv_i64(w, f->name, i);
        break;
    case F_F64:
    case F_NUMBER:
        if (!isnan(d = CMEMBER(double, v, f)))
            jw_kv_f64(w, f->name, d);
        break;
    case F_BOOL:
        if (CMEMBER(int, v, f) >= 0)
            jw_kv_bool(w, f->name, CMEMBER(int, v, f) == 1);
        break;
    case F_TAGS:
    case F_LABELS: encode_list(w, f, v); break;
    }
}

/* What a span keeps in another form than the public structure. */
static void encode_span(struct json_writer *w, const struct record *r) {
    char id[37];

    uuid_of_trace(r->ids.trace, id);
    jw_kv_cstr(w, r->kind == RECORD_TRACE ? "id" : "traceId", id);
    if (r->kind == RECORD_OBSERVATION) {
        uuid_of_span(r->ids.span, id);
        jw_kv_cstr(w, "id", id);
        if (r->ids.has_parent) {
            uuid_of_span(r->ids.parent, id);
            jw_kv_cstr(w, "parentObservationId", id);
        }
    }
    if (!r->meta)
        return;
    jw_key(w, "metadata");
    jw_obj(w);
    for (const struct meta *m = r->meta; m; m = m->next) {
        jw_key_str(w, str_c(m->key));
        jw_raw(w, str_c(m->json));
    }
    jw_end(w);
}

void record_encode(struct json_writer *w, enum record_kind kind, const union any_record *v, const struct record *r) {
    const struct shape *s = &shapes[kind];

    jw_obj(w);
    if (r && r->by_ids)
        encode_span(w, r);
    for (size_t i = 0; i < s->count; i++)
        encode_field(w, &s->fields[i], v);
    jw_end(w);
}
