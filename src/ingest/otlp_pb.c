/* otlp_pb.c -- ExportTraceServiceRequest in protobuf -> the OTLP mapper.
 *
 *  1. A message is read twice where its parts may come in any order: first what its children share (resource, scope),
 *     then the children. The first reading only steps over lengths.
 *  2. An embedded message that comes twice is merged; of scalars the last counts; unknown fields are passed over.
 *  3. Strings that are no UTF-8 are repaired, not refused. Values nest ATTR_MAX_DEPTH deep at most.
 *  4. Attributes and events of a span live in an arena that is emptied after each span: it stays as small as the largest
 *     span, and in the cache. Resource and scope live in scratch until the request is done. */
#include <stdlib.h>

#include "base/codec.h"
#include "ingest/decode.h"
#include "ingest/pb.h"

#define LIBRARY_SPANS 1000 /* before OTLP 0.19: as scope_spans = 2, whose scope was called a library */

/* The request under way. `code` holds the first failure; every reader below returns false once it is set. */
struct otlp_pb {
    struct arena *arena; /* where the message at hand puts its lists and repaired strings */
    struct arena *scratch, span_arena;
    struct otlp_mapper *mapper;
    struct batch *b;
    enum xt_code code;
    struct xt_err *err;
};

static bool bad_message(struct otlp_pb *d, const char *what) {
    if (d->code == XT_OK)
        d->code = xt_fail(d->err, XT_EINVAL, "invalid protobuf: %s is malformed", what);
    return false;
}

static bool no_memory(struct otlp_pb *d) {
    if (d->code == XT_OK)
        d->code = xt_fail(d->err, XT_ETOOBIG, "the request needs too much memory");
    return false;
}

/* All fields of a message were read: was it well-formed? */
static bool finished(struct otlp_pb *d, const struct pb_reader *r, const char *what) {
    return d->code == XT_OK && (!r->bad || bad_message(d, what));
}

static bool read_text(struct otlp_pb *d, struct str bytes, struct str *ret) {
    char *room;

    *ret = bytes;
    if (utf8_valid(bytes))
        return true;
    room = bytes.n < SIZE_MAX / 3 ? arena_bytes(d->arena, 3 * bytes.n) : NULL;
    if (!room)
        return no_memory(d);
    *ret = (struct str){ room, utf8_repair(bytes, room) };
    return true;
}

/* ---- values ---- */

static bool read_value(struct otlp_pb *d, struct str message, unsigned depth, struct attr_value *v);
static bool read_attribute(struct otlp_pb *d, struct str message, unsigned depth, struct attr *a);

/* Room for one more element of a list whose capacity is the power of two (from 4) at or above its count. */
static void *grow(struct otlp_pb *d, void *list, size_t n, size_t size) {
    void *bigger;

    if (n != 0 && (n < 4 || (n & (n - 1)) != 0))
        return list;
    bigger = arena_alloc(d->arena, n ? 2 * n : 4, size, _Alignof(max_align_t));
    if (!bigger) {
        no_memory(d);
        return NULL;
    }
    if (n)
        memcpy(bigger, list, n * size);
    return bigger;
}

static bool read_items(struct otlp_pb *d, struct str message, unsigned depth, struct attr_value *v) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        struct attr_value *bigger;
        if (!pb_is(&f, 1, PB_BYTES))
            continue;
        bigger = grow(d, v->items, v->n, sizeof *bigger);
        if (!bigger)
            return false;
        v->items = bigger;
        v->items[v->n] = (struct attr_value){ .type = ATTR_EMPTY };
        if (!read_value(d, f.bytes, depth + 1, &v->items[v->n++]))
            return false;
    }
    return finished(d, &r, "an array value");
}

static bool read_members(struct otlp_pb *d, struct str message, unsigned depth, struct attr_value *v) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        struct attr *bigger;
        if (!pb_is(&f, 1, PB_BYTES))
            continue;
        bigger = grow(d, v->members, v->n, sizeof *bigger);
        if (!bigger)
            return false;
        v->members = bigger;
        v->members[v->n] = (struct attr){ .key = STR_LIT("") };
        if (!read_attribute(d, f.bytes, depth + 1, &v->members[v->n++]))
            return false;
    }
    return finished(d, &r, "a key-value list");
}

/* Starts or, for the same kind, goes on with a list: the parts of a message that came twice are one. */
static void become(struct attr_value *v, enum attr_type type) {
    if (v->type != type)
        *v = (struct attr_value){ .type = type };
}

static bool read_value_field(struct otlp_pb *d, const struct pb_field *f, unsigned depth, struct attr_value *v) {
    switch ((unsigned)f->wire << 8 | f->number) {
    case PB_BYTES << 8 | 1: *v = (struct attr_value){ .type = ATTR_STR }; return read_text(d, f->bytes, &v->s);
    case PB_VARINT << 8 | 2: *v = (struct attr_value){ .type = ATTR_BOOL, .boolean = f->value != 0 }; return true;
    case PB_VARINT << 8 | 3: *v = (struct attr_value){ .type = ATTR_INT, .i = (int64_t)f->value }; return true;
    case PB_FIXED64 << 8 | 4: *v = (struct attr_value){ .type = ATTR_DOUBLE, .d = pb_double(f) }; return true;
    case PB_BYTES << 8 | 5: become(v, ATTR_ARRAY); return read_items(d, f->bytes, depth, v);
    case PB_BYTES << 8 | 6: become(v, ATTR_KVLIST); return read_members(d, f->bytes, depth, v);
    case PB_BYTES << 8 | 7: *v = (struct attr_value){ .type = ATTR_BYTES, .s = f->bytes }; return true;
    default: return true;
    }
}

static bool read_value(struct otlp_pb *d, struct str message, unsigned depth, struct attr_value *v) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    if (depth > ATTR_MAX_DEPTH)
        return bad_message(d, "an attribute nested more than 100 deep");
    while (pb_next(&r, &f)) {
        if (f.number <= 7 && !read_value_field(d, &f, depth, v))
            return false;
    }
    return finished(d, &r, "an attribute value");
}

static bool read_attribute(struct otlp_pb *d, struct str message, unsigned depth, struct attr *a) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_BYTES) && !read_text(d, f.bytes, &a->key))
            return false;
        if (pb_is(&f, 2, PB_BYTES) && !read_value(d, f.bytes, depth, &a->value))
            return false;
    }
    return finished(d, &r, "an attribute");
}

static bool add_attribute(struct otlp_pb *d, struct str message, struct attr_list *l) {
    struct attr *a = attr_list_add(d->arena, l);

    if (!a)
        return no_memory(d);
    a->key = STR_LIT("");
    return read_attribute(d, message, 1, a);
}

/* ---- spans ---- */

static bool read_event(struct otlp_pb *d, struct str message, struct otlp_event *e) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    e->time = TIME_NONE;
    while (pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_FIXED64))
            e->time = otlp_time(f.value);
        if (pb_is(&f, 2, PB_BYTES) && !read_text(d, f.bytes, &e->name))
            return false;
        if (pb_is(&f, 3, PB_BYTES) && !add_attribute(d, f.bytes, &e->attributes))
            return false;
        if (pb_is(&f, 4, PB_VARINT))
            e->dropped_attributes = (uint32_t)f.value;
    }
    return finished(d, &r, "an event");
}

static bool read_link(struct otlp_pb *d, struct str message, struct otlp_link *l) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_BYTES))
            l->trace_id = f.bytes;
        if (pb_is(&f, 2, PB_BYTES))
            l->span_id = f.bytes;
        if (pb_is(&f, 3, PB_BYTES) && !read_text(d, f.bytes, &l->trace_state))
            return false;
        if (pb_is(&f, 4, PB_BYTES) && !add_attribute(d, f.bytes, &l->attributes))
            return false;
        if (pb_is(&f, 5, PB_VARINT))
            l->dropped_attributes = (uint32_t)f.value;
        if (pb_is(&f, 6, PB_FIXED32))
            l->flags = (uint32_t)f.value;
    }
    return finished(d, &r, "a link");
}

static bool add_event(struct otlp_pb *d, struct str message, struct otlp_span *s) {
    struct otlp_event *bigger = grow(d, s->events, s->nevents, sizeof *bigger);

    if (!bigger)
        return false;
    s->events = bigger;
    s->events[s->nevents] = (struct otlp_event){ .time = TIME_NONE };
    return read_event(d, message, &s->events[s->nevents++]);
}

static bool add_link(struct otlp_pb *d, struct str message, struct otlp_span *s) {
    struct otlp_link *bigger = grow(d, s->links, s->nlinks, sizeof *bigger);

    if (!bigger)
        return false;
    s->links = bigger;
    s->links[s->nlinks] = (struct otlp_link){ .trace_id = STR_NONE };
    return read_link(d, message, &s->links[s->nlinks++]);
}

static bool read_status(struct otlp_pb *d, struct str message, struct otlp_span *s) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (pb_is(&f, 2, PB_BYTES) && !read_text(d, f.bytes, &s->status_message))
            return false;
        if (pb_is(&f, 3, PB_VARINT))
            s->status_code = (int32_t)(uint32_t)f.value;
    }
    return finished(d, &r, "a status");
}

static bool read_span_message(struct otlp_pb *d, const struct pb_field *f, struct otlp_span *s) {
    switch (f->number) {
    case 1: s->trace_id = f->bytes; return true;
    case 2: s->span_id = f->bytes; return true;
    case 3: return read_text(d, f->bytes, &s->trace_state);
    case 4: s->parent_id = f->bytes; return true;
    case 5: return read_text(d, f->bytes, &s->name);
    case 9: return add_attribute(d, f->bytes, &s->attributes);
    case 11: return add_event(d, f->bytes, s);
    case 13: return add_link(d, f->bytes, s);
    case 15: return read_status(d, f->bytes, s);
    default: return true;
    }
}

static void read_span_number(const struct pb_field *f, struct otlp_span *s) {
    switch ((unsigned)f->wire << 8 | f->number) {
    case PB_VARINT << 8 | 6: s->kind = f->value <= 5 ? (int32_t)f->value : 0; break;
    case PB_FIXED64 << 8 | 7: s->start = otlp_time(f->value); break;
    case PB_FIXED64 << 8 | 8: s->end = otlp_time(f->value); break;
    case PB_VARINT << 8 | 10: s->dropped_attributes = (uint32_t)f->value; break;
    case PB_VARINT << 8 | 12: s->dropped_events = (uint32_t)f->value; break;
    case PB_VARINT << 8 | 14: s->dropped_links = (uint32_t)f->value; break;
    case PB_FIXED32 << 8 | 16: s->flags = (uint32_t)f->value; break;
    default: break;
    }
}

static bool read_span(struct otlp_pb *d, struct str message, const struct otlp_resource *res,
                      const struct otlp_scope *scope) {
    struct otlp_span span = { .start = TIME_NONE, .end = TIME_NONE };
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (f.number > 16)
            continue;
        if (f.wire != PB_BYTES)
            read_span_number(&f, &span);
        else if (!read_span_message(d, &f, &span))
            return false;
    }
    if (!finished(d, &r, "a span"))
        return false;
    d->code = otlp_map_span(d->mapper, res, scope, &span, d->err);
    return d->code == XT_OK;
}

/* ---- what spans share ---- */

static bool read_resource(struct otlp_pb *d, struct str message, struct otlp_resource *res) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    res->present = true;
    while (pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_BYTES) && !add_attribute(d, f.bytes, &res->attributes))
            return false;
        if (pb_is(&f, 2, PB_VARINT))
            res->dropped_attributes = (uint32_t)f.value;
    }
    return finished(d, &r, "a resource");
}

static bool read_scope(struct otlp_pb *d, struct str message, struct otlp_scope *scope) {
    struct pb_reader r = pb_open(message);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_BYTES) && !read_text(d, f.bytes, &scope->name))
            return false;
        if (pb_is(&f, 2, PB_BYTES) && !read_text(d, f.bytes, &scope->version))
            return false;
        if (pb_is(&f, 3, PB_BYTES) && !add_attribute(d, f.bytes, &scope->attributes))
            return false;
        if (pb_is(&f, 4, PB_VARINT))
            scope->dropped_attributes = (uint32_t)f.value;
    }
    return finished(d, &r, "a scope");
}

static bool read_scope_spans(struct otlp_pb *d, struct str message, const struct otlp_resource *res) {
    struct otlp_scope *scope = arena_new(d->scratch, struct otlp_scope, 1);
    struct pb_reader r = pb_open(message);
    struct pb_field f;
    size_t spans = 0;
    bool ok = true;

    if (!scope)
        return no_memory(d);
    while (ok && pb_next(&r, &f)) {
        spans += pb_is(&f, 2, PB_BYTES);
        if (pb_is(&f, 1, PB_BYTES))
            ok = read_scope(d, f.bytes, scope);
        if (pb_is(&f, 3, PB_BYTES))
            ok = read_text(d, f.bytes, &scope->schema_url);
    }
    if (!ok || !finished(d, &r, "a list of a scope's spans"))
        return false;
    if (spans > 0 && !batch_reserve(d->b, 0, spans, 0))
        return no_memory(d);
    r = pb_open(message);
    while (ok && pb_next(&r, &f)) {
        if (!pb_is(&f, 2, PB_BYTES))
            continue;
        d->arena = &d->span_arena;
        ok = read_span(d, f.bytes, res, scope);
        d->arena = d->scratch;
        arena_reset(&d->span_arena);
    }
    return ok;
}

static bool read_resource_spans(struct otlp_pb *d, struct str message) {
    struct otlp_resource *res = arena_new(d->scratch, struct otlp_resource, 1);
    struct pb_reader r = pb_open(message);
    struct pb_field f;
    bool ok = true;

    if (!res)
        return no_memory(d);
    while (ok && pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_BYTES))
            ok = read_resource(d, f.bytes, res);
        if (pb_is(&f, 3, PB_BYTES))
            ok = read_text(d, f.bytes, &res->schema_url);
    }
    if (!ok || !finished(d, &r, "a list of a resource's spans"))
        return false;
    r = pb_open(message);
    while (ok && pb_next(&r, &f)) {
        if (pb_is(&f, 2, PB_BYTES) || pb_is(&f, LIBRARY_SPANS, PB_BYTES))
            ok = read_scope_spans(d, f.bytes, res);
    }
    return ok;
}

enum xt_code decode_otlp_traces_pb(struct arena *scratch, struct str body, struct batch *b,
                                   struct otlp_rejects *rejects, struct xt_err *err) {
    struct otlp_pb d = { .arena = scratch, .scratch = scratch, .b = b, .code = XT_OK, .err = err };
    struct pb_reader r = pb_open(body);
    struct pb_field f;
    bool ok = true;

    d.mapper = otlp_map_new(scratch, b);
    if (!d.mapper) {
        no_memory(&d);
        return d.code;
    }
    arena_init(&d.span_arena, scratch->limit);
    while (ok && pb_next(&r, &f)) {
        if (pb_is(&f, 1, PB_BYTES))
            ok = read_resource_spans(&d, f.bytes);
    }
    if (ok)
        finished(&d, &r, "the request");
    arena_done(&d.span_arena);
    return d.code == XT_OK ? otlp_map_finish(d.mapper, rejects, err) : d.code;
}
