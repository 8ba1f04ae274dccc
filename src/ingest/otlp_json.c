/* otlp_json.c -- ExportTraceServiceRequest in JSON -> the OTLP mapper, as real senders write it.
 *
 *  1. Member names in lowerCamelCase or snake_case; null is absent; unknown members are passed over.
 *  2. 64-bit integers are numbers or strings, also 5.0 and 1.76e18; a number that no int64 can be stays a double or its
 *     text. Enums are numbers or names. Ids are hex of any case with blanks around, or base64 known by its length.
 *  3. A list that is no list, or a message that is no object, sinks the request with the place's name; a bad id only its
 *     span. A time that makes no sense is absent.
 *  4. Lists of a span live in an arena that is emptied after each span, as in otlp_pb.c. */
#include <math.h>
#include <stdio.h>

#include "base/codec.h"
#include "ingest/decode.h"
#include "json/json_read.h"

#define OTLP_DEPTH 512 /* containers of the document: 100 levels of key-value lists take 410 */

struct otlp_json {
    struct arena *arena; /* where the message at hand puts its lists */
    struct arena *scratch, span_arena;
    struct otlp_mapper *mapper;
    struct batch *b;
    enum xt_code code;
    struct xt_err *err;
    size_t at_resource, at_scope, at_span; /* place for messages; SIZE_MAX: not inside */
};

/* ---- failures ---- */

/* `member` below the place at hand; "": the place itself. */
static bool bad(struct otlp_json *d, const char *member, const char *want) {
    char place[128];
    size_t n = 0;

    if (d->code != XT_OK)
        return false;
    if (d->at_resource != SIZE_MAX)
        n += (size_t)snprintf(place, sizeof place, "resourceSpans[%zu].", d->at_resource);
    if (d->at_scope != SIZE_MAX)
        n += (size_t)snprintf(place + n, sizeof place - n, "scopeSpans[%zu].", d->at_scope);
    if (d->at_span != SIZE_MAX)
        n += (size_t)snprintf(place + n, sizeof place - n, "spans[%zu].", d->at_span);
    if (!member[0] && n > 0)
        n--; /* the dot */
    d->code = xt_fail(d->err, XT_EINVAL, "invalid json: %.*s%s: expected %s", (int)n, place, member, want);
    return false;
}

static bool no_memory(struct otlp_json *d) {
    if (d->code == XT_OK)
        d->code = xt_fail(d->err, XT_ETOOBIG, "the request needs too much memory");
    return false;
}

/* ---- members ---- */

/* A member in both spellings; rows of a table are in the order in which senders write them. */
struct name {
    const char *camel, *snake;
};

/* Number of the member's row, or n for an unknown one and for null. */
static size_t find_name(const struct name *names, size_t n, const struct json *m) {
    if (m->type == JSON_NULL)
        return n;
    for (size_t i = 0; i < n; i++) {
        if (str_eq_c(m->key, names[i].camel) || (names[i].snake && str_eq_c(m->key, names[i].snake)))
            return i;
    }
    return n;
}

static bool is_object(struct otlp_json *d, const struct json *v, const char *member) {
    return v->type == JSON_OBJECT || bad(d, member, "an object");
}

static bool is_array(struct otlp_json *d, const struct json *v, const char *member) {
    return v->type == JSON_ARRAY || bad(d, member, "an array");
}

static bool read_text(struct otlp_json *d, const struct json *v, const char *member, struct str *ret) {
    if (v->type != JSON_STRING)
        return bad(d, member, "a string");
    *ret = v->text;
    return true;
}

static size_t count(const struct json *list) {
    size_t n = 0;
    for (const struct json *e = list->child; e; e = e->next)
        n++;
    return n;
}

/* ---- scalars ---- */

/* Digits of a number, or of a number written as a string. Absent: neither. */
static struct str digits_of(const struct json *v) {
    return v->type == JSON_NUMBER ? v->raw : v->type == JSON_STRING ? str_trim(v->text) : STR_NONE;
}

/* An integer in any of its forms. */
static bool read_i64(const struct json *v, int64_t *ret) {
    struct str s = digits_of(v);
    double d;

    if (!str_has(s))
        return false;
    if (str_to_i64(s, ret))
        return true;
    if (!str_to_f64(s, &d) || floor(d) != d || !(d >= -9223372036854775808.0 && d < 9223372036854775808.0))
        return false;
    *ret = (int64_t)d;
    return true;
}

static int64_t read_time(const struct json *v) {
    int64_t ns;
    return read_i64(v, &ns) && ns > 0 ? otlp_time((uint64_t)ns) : TIME_NONE;
}

static uint32_t read_u32(const struct json *v) {
    int64_t n;
    return read_i64(v, &n) && n >= 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

/* An enum by number or by name, with or without its type's prefix; what is unknown is 0. */
static int32_t read_enum(const struct json *v, const char *prefix, const char *const *names, size_t n) {
    struct str s = v->type == JSON_STRING ? str_trim(v->text) : STR_NONE;
    int64_t number;

    if (read_i64(v, &number))
        return number >= 0 && (uint64_t)number < n ? (int32_t)number : 0;
    if (str_has(s) && str_starts(s, prefix))
        s = str_sub(s, strlen(prefix), s.n);
    for (size_t i = 0; i < n; i++) {
        if (str_has(s) && str_eq_nocase(s, str_c(names[i])))
            return (int32_t)i;
    }
    return 0;
}

/* Raw bytes of an id; empty when it is none, so that the mapper rejects the span. */
static bool read_id(struct otlp_json *d, const struct json *v, size_t want, struct str *ret) {
    struct str s = v->type == JSON_STRING ? str_trim(v->text) : STR_LIT("");
    size_t n = s.n / 2;
    uint8_t *bytes = arena_alloc(d->arena, s.n + 1, 1, 1); /* room for either decoding */

    if (!bytes)
        return no_memory(d);
    *ret = (struct str){ (const char *)bytes, 0 };
    if (s.n == 4 * ((want + 2) / 3)) { /* 24 characters for 16 bytes, 12 for 8: no hex id is that long */
        if (base64_decode_lenient(s, bytes, &n) && n == want)
            ret->n = n;
    } else if (s.n % 2 == 0 && hex_decode(s, bytes, n)) {
        ret->n = n;
    }
    return true;
}

/* ---- values ---- */

static bool read_value(struct otlp_json *d, const struct json *v, unsigned depth, struct attr_value *ret);
static bool read_attributes(struct otlp_json *d, const struct json *v, const char *member, unsigned depth,
                            struct attr_list *ret);

static void read_int(const struct json *v, struct attr_value *ret) {
    struct str s = digits_of(v);
    double number;

    *ret = (struct attr_value){ .type = ATTR_INT };
    if (read_i64(v, &ret->i))
        return;
    if (str_find(s, '.') + str_find(s, 'e') + str_find(s, 'E') < 3 * s.n && str_to_f64(s, &number)) {
        *ret =
            (struct attr_value){ .type = ATTR_DOUBLE, .d = number }; /* JavaScript calls the double 1e300 an integer */
        return;
    }
    *ret = (struct attr_value){ .type = ATTR_STR, .s = v->type == JSON_STRING ? v->text : v->raw };
}

static void read_double(const struct json *v, struct attr_value *ret) {
    struct str s = digits_of(v);

    *ret = (struct attr_value){ .type = ATTR_DOUBLE };
    if (str_to_f64(s, &ret->d))
        return;
    if (str_eq_c(s, "NaN"))
        ret->d = (double)NAN;
    else if (str_eq_c(s, "Infinity"))
        ret->d = (double)INFINITY;
    else if (str_eq_c(s, "-Infinity"))
        ret->d = -(double)INFINITY;
    else
        *ret = (struct attr_value){ .type = ATTR_STR, .s = v->type == JSON_STRING ? v->text : v->raw };
}

static bool read_bool(struct otlp_json *d, const struct json *v, struct attr_value *ret) {
    bool text = v->type == JSON_STRING && (str_eq_c(v->text, "true") || str_eq_c(v->text, "false"));

    if (v->type != JSON_BOOL && !text)
        return bad(d, "boolValue", "a boolean");
    *ret = (struct attr_value){ .type = ATTR_BOOL, .boolean = text ? v->text.n == 4 : v->boolean };
    return true;
}

/* Text that is no base64 stays text. */
static bool read_bytes(struct otlp_json *d, const struct json *v, struct attr_value *ret) {
    uint8_t *room;
    size_t n;

    if (v->type != JSON_STRING)
        return bad(d, "bytesValue", "a string");
    room = arena_alloc(d->arena, v->text.n + 1, 1, 1);
    if (!room)
        return no_memory(d);
    *ret = (struct attr_value){ .type = ATTR_STR, .s = v->text };
    if (base64_decode_lenient(v->text, room, &n)) {
        *ret = (struct attr_value){ .type = ATTR_BYTES, .s = { (const char *)room, n } };
    }
    return true;
}

/* The `values` of an arrayValue or kvlistValue; NULL: none. */
static const struct json *values_of(const struct json *v) {
    const struct json *values = json_get(v, "values");
    return values && values->type != JSON_NULL ? values : NULL;
}

static bool read_array(struct otlp_json *d, const struct json *v, unsigned depth, struct attr_value *ret) {
    const struct json *values;

    if (!is_object(d, v, "arrayValue"))
        return false;
    *ret = (struct attr_value){ .type = ATTR_ARRAY };
    values = values_of(v);
    if (!values)
        return true;
    if (!is_array(d, values, "arrayValue.values"))
        return false;
    ret->items = arena_new(d->arena, struct attr_value, count(values));
    if (!ret->items)
        return no_memory(d);
    for (const struct json *e = values->child; e; e = e->next) {
        if (!read_value(d, e, depth + 1, &ret->items[ret->n++]))
            return false;
    }
    return true;
}

static bool read_kvlist(struct otlp_json *d, const struct json *v, unsigned depth, struct attr_value *ret) {
    struct attr_list list = { NULL, 0, 0 };
    const struct json *values;

    if (!is_object(d, v, "kvlistValue"))
        return false;
    values = values_of(v);
    if (values && !read_attributes(d, values, "kvlistValue.values", depth + 1, &list))
        return false;
    *ret = (struct attr_value){ .type = ATTR_KVLIST, .members = list.v, .n = list.n };
    return true;
}

/* Of several members, which the format forbids, the last one counts. */
static bool read_value(struct otlp_json *d, const struct json *v, unsigned depth, struct attr_value *ret) {
    static const struct name names[] = {
        { "stringValue", "string_value" }, { "intValue", "int_value" },     { "boolValue", "bool_value" },
        { "doubleValue", "double_value" }, { "arrayValue", "array_value" }, { "kvlistValue", "kvlist_value" },
        { "bytesValue", "bytes_value" },
    };
    bool ok = true;

    *ret = (struct attr_value){ .type = ATTR_EMPTY };
    if (v->type == JSON_NULL)
        return true;
    if (!is_object(d, v, "value"))
        return false;
    if (depth > ATTR_MAX_DEPTH)
        return bad(d, "value", "at most 100 nested levels");
    for (const struct json *m = v->child; m && ok; m = m->next) {
        switch (find_name(names, sizeof names / sizeof names[0], m)) {
        case 0:
            *ret = (struct attr_value){ .type = ATTR_STR };
            ok = read_text(d, m, "stringValue", &ret->s);
            break;
        case 1: read_int(m, ret); break;
        case 2: ok = read_bool(d, m, ret); break;
        case 3: read_double(m, ret); break;
        case 4: ok = read_array(d, m, depth, ret); break;
        case 5: ok = read_kvlist(d, m, depth, ret); break;
        case 6: ok = read_bytes(d, m, ret); break;
        default: break;
        }
    }
    return ok;
}

static bool read_attributes(struct otlp_json *d, const struct json *v, const char *member, unsigned depth,
                            struct attr_list *ret) {
    static const struct name names[] = { { "key", NULL }, { "value", NULL } };

    if (!is_array(d, v, member))
        return false;
    ret->n = 0;
    ret->cap = count(v);
    ret->v = arena_new(d->arena, struct attr, ret->cap);
    if (!ret->v)
        return no_memory(d);
    for (const struct json *e = v->child; e; e = e->next) {
        struct attr *a = &ret->v[ret->n++];
        a->key = STR_LIT("");
        if (e->type != JSON_OBJECT)
            return bad(d, member, "objects with key and value");
        for (const struct json *m = e->child; m; m = m->next) {
            size_t which = find_name(names, 2, m);
            if (which == 0 && !read_text(d, m, "key", &a->key))
                return false;
            if (which == 1 && !read_value(d, m, depth, &a->value))
                return false;
        }
    }
    return true;
}

/* ---- spans ---- */

static bool read_event(struct otlp_json *d, const struct json *v, struct otlp_event *e) {
    static const struct name names[] = { { "timeUnixNano", "time_unix_nano" },
                                         { "name", NULL },
                                         { "attributes", NULL },
                                         { "droppedAttributesCount", "dropped_attributes_count" } };
    bool ok = is_object(d, v, "events");

    e->time = TIME_NONE;
    for (const struct json *m = ok ? v->child : NULL; m && ok; m = m->next) {
        switch (find_name(names, 4, m)) {
        case 0: e->time = read_time(m); break;
        case 1: ok = read_text(d, m, "events.name", &e->name); break;
        case 2: ok = read_attributes(d, m, "events.attributes", 1, &e->attributes); break;
        case 3: e->dropped_attributes = read_u32(m); break;
        default: break;
        }
    }
    return ok;
}

static bool read_link(struct otlp_json *d, const struct json *v, struct otlp_link *l) {
    static const struct name names[] = {
        { "traceId", "trace_id" },
        { "spanId", "span_id" },
        { "traceState", "trace_state" },
        { "attributes", NULL },
        { "droppedAttributesCount", "dropped_attributes_count" },
        { "flags", NULL },
    };
    bool ok = is_object(d, v, "links");

    for (const struct json *m = ok ? v->child : NULL; m && ok; m = m->next) {
        switch (find_name(names, sizeof names / sizeof names[0], m)) {
        case 0: ok = read_id(d, m, 16, &l->trace_id); break;
        case 1: ok = read_id(d, m, 8, &l->span_id); break;
        case 2: ok = read_text(d, m, "links.traceState", &l->trace_state); break;
        case 3: ok = read_attributes(d, m, "links.attributes", 1, &l->attributes); break;
        case 4: l->dropped_attributes = read_u32(m); break;
        case 5: l->flags = read_u32(m); break;
        default: break;
        }
    }
    return ok;
}

static bool read_events(struct otlp_json *d, const struct json *v, struct otlp_span *s) {
    if (!is_array(d, v, "events"))
        return false;
    s->events = arena_new(d->arena, struct otlp_event, count(v));
    if (!s->events)
        return no_memory(d);
    s->nevents = 0;
    for (const struct json *e = v->child; e; e = e->next) {
        if (!read_event(d, e, &s->events[s->nevents++]))
            return false;
    }
    return true;
}

static bool read_links(struct otlp_json *d, const struct json *v, struct otlp_span *s) {
    if (!is_array(d, v, "links"))
        return false;
    s->links = arena_new(d->arena, struct otlp_link, count(v));
    if (!s->links)
        return no_memory(d);
    s->nlinks = 0;
    for (const struct json *e = v->child; e; e = e->next) {
        if (!read_link(d, e, &s->links[s->nlinks++]))
            return false;
    }
    return true;
}

static bool read_status(struct otlp_json *d, const struct json *v, struct otlp_span *s) {
    static const struct name names[] = { { "code", NULL }, { "message", NULL } };
    static const char *const codes[] = { "UNSET", "OK", "ERROR" };
    bool ok = is_object(d, v, "status");

    for (const struct json *m = ok ? v->child : NULL; m && ok; m = m->next) {
        size_t which = find_name(names, 2, m);
        if (which == 0)
            s->status_code = read_enum(m, "STATUS_CODE_", codes, 3);
        if (which == 1)
            ok = read_text(d, m, "status.message", &s->status_message);
    }
    return ok;
}

enum span_member {
    SPAN_TRACE_ID,
    SPAN_SPAN_ID,
    SPAN_PARENT,
    SPAN_NAME,
    SPAN_KIND,
    SPAN_START,
    SPAN_END,
    SPAN_ATTRIBUTES,
    SPAN_DROPPED_ATTRIBUTES,
    SPAN_EVENTS,
    SPAN_DROPPED_EVENTS,
    SPAN_STATUS,
    SPAN_LINKS,
    SPAN_DROPPED_LINKS,
    SPAN_FLAGS,
    SPAN_STATE,
    SPAN_MEMBERS
};
static const struct name span_names[SPAN_MEMBERS] = {
    [SPAN_TRACE_ID] = { "traceId", "trace_id" },
    [SPAN_SPAN_ID] = { "spanId", "span_id" },
    [SPAN_PARENT] = { "parentSpanId", "parent_span_id" },
    [SPAN_NAME] = { "name", NULL },
    [SPAN_KIND] = { "kind", NULL },
    [SPAN_START] = { "startTimeUnixNano", "start_time_unix_nano" },
    [SPAN_END] = { "endTimeUnixNano", "end_time_unix_nano" },
    [SPAN_ATTRIBUTES] = { "attributes", NULL },
    [SPAN_DROPPED_ATTRIBUTES] = { "droppedAttributesCount", "dropped_attributes_count" },
    [SPAN_EVENTS] = { "events", NULL },
    [SPAN_DROPPED_EVENTS] = { "droppedEventsCount", "dropped_events_count" },
    [SPAN_STATUS] = { "status", NULL },
    [SPAN_LINKS] = { "links", NULL },
    [SPAN_DROPPED_LINKS] = { "droppedLinksCount", "dropped_links_count" },
    [SPAN_FLAGS] = { "flags", NULL },
    [SPAN_STATE] = { "traceState", "trace_state" },
};

static bool read_span_member(struct otlp_json *d, const struct json *m, struct otlp_span *s) {
    static const char *const kinds[] = { "UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER" };

    switch ((enum span_member)find_name(span_names, SPAN_MEMBERS, m)) {
    case SPAN_TRACE_ID: return read_id(d, m, 16, &s->trace_id);
    case SPAN_SPAN_ID: return read_id(d, m, 8, &s->span_id);
    case SPAN_PARENT: return read_id(d, m, 8, &s->parent_id);
    case SPAN_NAME: return read_text(d, m, "name", &s->name);
    case SPAN_KIND: s->kind = read_enum(m, "SPAN_KIND_", kinds, 6); return true;
    case SPAN_START: s->start = read_time(m); return true;
    case SPAN_END: s->end = read_time(m); return true;
    case SPAN_ATTRIBUTES: return read_attributes(d, m, "attributes", 1, &s->attributes);
    case SPAN_DROPPED_ATTRIBUTES: s->dropped_attributes = read_u32(m); return true;
    case SPAN_EVENTS: return read_events(d, m, s);
    case SPAN_DROPPED_EVENTS: s->dropped_events = read_u32(m); return true;
    case SPAN_STATUS: return read_status(d, m, s);
    case SPAN_LINKS: return read_links(d, m, s);
    case SPAN_DROPPED_LINKS: s->dropped_links = read_u32(m); return true;
    case SPAN_FLAGS: s->flags = read_u32(m); return true;
    case SPAN_STATE: return read_text(d, m, "traceState", &s->trace_state);
    case SPAN_MEMBERS: break;
    }
    return true;
}

static bool read_span(struct otlp_json *d, const struct json *v, const struct otlp_resource *res,
                      const struct otlp_scope *scope) {
    struct otlp_span span = { .start = TIME_NONE, .end = TIME_NONE };

    if (v->type != JSON_OBJECT)
        return bad(d, "", "an object");
    for (const struct json *m = v->child; m; m = m->next) {
        if (!read_span_member(d, m, &span))
            return false;
    }
    d->code = otlp_map_span(d->mapper, res, scope, &span, d->err);
    return d->code == XT_OK;
}

static bool read_spans(struct otlp_json *d, const struct json *v, const struct otlp_resource *res,
                       const struct otlp_scope *scope) {
    bool ok = is_array(d, v, "spans");
    size_t n = ok ? count(v) : 0;

    if (n > 0 && !batch_reserve(d->b, 0, n, 0))
        return no_memory(d);
    d->at_span = 0;
    for (const struct json *e = ok ? v->child : NULL; e && ok; e = e->next, d->at_span++) {
        d->arena = &d->span_arena;
        ok = read_span(d, e, res, scope);
        d->arena = d->scratch;
        arena_reset(&d->span_arena);
    }
    d->at_span = SIZE_MAX;
    return ok;
}

/* ---- what spans share ---- */

static bool read_scope(struct otlp_json *d, const struct json *v, struct otlp_scope *scope) {
    static const struct name names[] = { { "name", NULL },
                                         { "version", NULL },
                                         { "attributes", NULL },
                                         { "droppedAttributesCount", "dropped_attributes_count" } };
    bool ok = is_object(d, v, "scope");

    for (const struct json *m = ok ? v->child : NULL; m && ok; m = m->next) {
        switch (find_name(names, 4, m)) {
        case 0: ok = read_text(d, m, "scope.name", &scope->name); break;
        case 1: ok = read_text(d, m, "scope.version", &scope->version); break;
        case 2: ok = read_attributes(d, m, "scope.attributes", 1, &scope->attributes); break;
        case 3: scope->dropped_attributes = read_u32(m); break;
        default: break;
        }
    }
    return ok;
}

static bool read_scope_spans(struct otlp_json *d, const struct json *v, const struct otlp_resource *res) {
    static const struct name names[] = { { "scope", NULL },
                                         { "schemaUrl", "schema_url" },
                                         { "spans", NULL },
                                         { "instrumentationLibrary", "instrumentation_library" } };
    struct otlp_scope *scope = arena_new(d->scratch, struct otlp_scope, 1);
    const struct json *spans = NULL;
    bool ok = true;

    if (!scope)
        return no_memory(d);
    if (v->type != JSON_OBJECT)
        return bad(d, "", "an object");
    for (const struct json *m = v->child; m && ok; m = m->next) {
        switch (find_name(names, 4, m)) {
        case 3: /* its name before OTLP 0.19 */
        case 0: ok = read_scope(d, m, scope); break;
        case 1: ok = read_text(d, m, "schemaUrl", &scope->schema_url); break;
        case 2: spans = m; break;
        default: break;
        }
    }
    return ok && (!spans || read_spans(d, spans, res, scope));
}

static bool read_resource(struct otlp_json *d, const struct json *v, struct otlp_resource *res) {
    static const struct name names[] = { { "attributes", NULL },
                                         { "droppedAttributesCount", "dropped_attributes_count" } };
    bool ok = is_object(d, v, "resource");

    res->present = true;
    for (const struct json *m = ok ? v->child : NULL; m && ok; m = m->next) {
        size_t which = find_name(names, 2, m);
        if (which == 0)
            ok = read_attributes(d, m, "resource.attributes", 1, &res->attributes);
        if (which == 1)
            res->dropped_attributes = read_u32(m);
    }
    return ok;
}

static bool read_scopes(struct otlp_json *d, const struct json *v, const char *member,
                        const struct otlp_resource *res) {
    bool ok = is_array(d, v, member);

    d->at_scope = 0;
    for (const struct json *e = ok ? v->child : NULL; e && ok; e = e->next, d->at_scope++)
        ok = read_scope_spans(d, e, res);
    d->at_scope = SIZE_MAX;
    return ok;
}

static bool read_resource_spans(struct otlp_json *d, const struct json *v) {
    static const struct name names[] = { { "resource", NULL },
                                         { "schemaUrl", "schema_url" },
                                         { "scopeSpans", "scope_spans" },
                                         { "instrumentationLibrarySpans", "instrumentation_library_spans" } };
    struct otlp_resource *res = arena_new(d->scratch, struct otlp_resource, 1);
    const struct json *scopes = NULL, *libraries = NULL; /* the latter: what scopes were before OTLP 0.19 */
    bool ok = true;

    if (!res)
        return no_memory(d);
    if (v->type != JSON_OBJECT)
        return bad(d, "", "an object");
    for (const struct json *m = v->child; m && ok; m = m->next) {
        switch (find_name(names, 4, m)) {
        case 0: ok = read_resource(d, m, res); break;
        case 1: ok = read_text(d, m, "schemaUrl", &res->schema_url); break;
        case 2: scopes = m; break;
        case 3: libraries = m; break;
        default: break;
        }
    }
    ok = ok && (!scopes || read_scopes(d, scopes, "scopeSpans", res));
    return ok && (!libraries || read_scopes(d, libraries, "instrumentationLibrarySpans", res));
}

static bool read_request(struct otlp_json *d, const struct json *root, bool need_resource_spans) {
    static const struct name names[] = { { "resourceSpans", "resource_spans" } };
    const struct json *list = NULL;
    bool ok = true;

    if (root->type != JSON_OBJECT)
        return bad(d, "the request", "an object");
    for (const struct json *m = root->child; m; m = m->next) {
        if (find_name(names, 1, m) == 0)
            list = m;
    }
    if (!list)
        return !need_resource_spans || bad(d, "resourceSpans", "an array, but it is missing");
    if (!is_array(d, list, "resourceSpans"))
        return false;
    d->at_resource = 0;
    for (const struct json *e = list->child; e && ok; e = e->next, d->at_resource++)
        ok = read_resource_spans(d, e);
    return ok;
}

enum xt_code decode_otlp_traces_json(struct arena *scratch, struct str body, struct batch *b, bool need_resource_spans,
                                     struct otlp_rejects *rejects, struct xt_err *err) {
    const struct json_opts opts = { .max_depth = OTLP_DEPTH, .lenient = true };
    struct otlp_json d = { .arena = scratch, .scratch = scratch, .b = b, .code = XT_OK, .err = err };
    struct xt_err why = { XT_OK, "" };
    const struct json *root;
    enum xt_code code = json_parse(scratch, body, &opts, &root, &why);

    if (code == XT_EINVAL)
        return xt_fail(err, code, "invalid json: %s", why.msg);
    if (code != XT_OK)
        return xt_fail(err, code, "%s", why.msg);
    d.at_resource = d.at_scope = d.at_span = SIZE_MAX;
    d.mapper = otlp_map_new(scratch, b);
    if (!d.mapper) {
        no_memory(&d);
        return d.code;
    }
    arena_init(&d.span_arena, scratch->limit);
    read_request(&d, root, need_resource_spans);
    arena_done(&d.span_arena);
    return d.code == XT_OK ? otlp_map_finish(d.mapper, rejects, err) : d.code;
}
