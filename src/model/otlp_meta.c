/* otlp_meta.c -- writes the object that otlp_meta.h describes, straight into a buffer.
 *
 *  1. Member names of one object are unique: our own give way to the sender's.
 *  2. Depth is bounded by ATTR_MAX_DEPTH and what attr_is_container_json allows. */
#include "model/otlp_meta.h"

#include "base/clock.h"
#include "base/codec.h"
#include "json/json_write.h"
#include "model/otlp_value.h"

/* An object under way: `sep` stands before the next member. */
struct object {
    struct buf *out;
    char sep;
};

static void open(struct object *o, struct buf *out) { *o = (struct object){ out, '{' }; }

static void put_key(struct object *o, struct str key) {
    buf_add_char(o->out, o->sep);
    attr_write_str(o->out, str_has(key) ? key : STR_LIT(""));
    buf_add_char(o->out, ':');
    o->sep = ',';
}

/* Keys of ours need no escapes. */
static void put_name(struct object *o, const char *name) {
    const char head[2] = { o->sep, '"' };
    buf_add(o->out, head, sizeof head);
    buf_add_c(o->out, name);
    buf_add(o->out, "\":", 2);
    o->sep = ',';
}

static void put_text(struct object *o, const char *name, struct str s) {
    if (s.n == 0)
        return;
    put_name(o, name);
    attr_write_str(o->out, s);
}

static void put_number(struct object *o, const char *name, uint64_t n) {
    struct json_writer w;
    if (n == 0)
        return;
    put_name(o, name);
    jw_init(&w, o->out);
    jw_i64(&w, (int64_t)n);
}

static void put_time(struct object *o, const char *name, int64_t ns) {
    char text[TIME_TEXT_MAX];
    if (ns == TIME_NONE)
        return;
    put_text(o, name, (struct str){ text, time_format_offset(ns, text) });
}

static void put_attributes(struct object *o, const char *name, const struct attr_list *l) {
    if (l->n == 0)
        return;
    put_name(o, name);
    attr_list_write_json(o->out, l, NULL);
}

static void close(struct object *o, const char *empty) {
    if (o->sep == '{')
        buf_add_c(o->out, empty);
    else
        buf_add_char(o->out, '}');
}

static void put_hex(struct object *o, const char *name, struct str bytes) {
    char text[64];
    if (bytes.n == 0 || bytes.n > sizeof text / 2)
        return;
    hex_encode((const uint8_t *)bytes.p, bytes.n, text);
    put_text(o, name, (struct str){ text, 2 * bytes.n });
}

void otlp_meta_write_entry(struct buf *out, const struct otlp_entry *e) {
    if (str_has(e->json)) {
        buf_add_str(out, e->json);
    } else if (e->value->type == ATTR_STR && attr_is_container_json(e->value->s)) {
        buf_add_str(out, str_trim(e->value->s));
    } else {
        attr_write_json(out, e->value);
    }
}

struct str otlp_meta_scope(struct arena *a, const struct otlp_scope *scope) {
    struct str text = STR_NONE;
    struct object o;
    struct buf out;

    if (!scope || (scope->name.n == 0 && scope->version.n == 0 && scope->attributes.n == 0 &&
                   scope->schema_url.n == 0 && scope->dropped_attributes == 0)) {
        return STR_NONE;
    }
    buf_init(&out, SIZE_MAX);
    open(&o, &out);
    put_text(&o, "name", scope->name);
    put_text(&o, "version", scope->version);
    put_name(&o, "attributes");
    attr_list_write_json(&out, &scope->attributes, NULL);
    put_text(&o, "schemaUrl", scope->schema_url);
    put_number(&o, "droppedAttributesCount", scope->dropped_attributes);
    close(&o, "");
    if (out.failed)
        a->failed = true;
    else
        text = arena_str(a, buf_str(&out));
    buf_done(&out);
    return text;
}

static void put_events(struct object *o, const struct otlp_span *span) {
    if (span->nevents == 0)
        return;
    put_name(o, "events");
    for (size_t i = 0; i < span->nevents && !o->out->failed; i++) {
        const struct otlp_event *e = &span->events[i];
        struct object item;
        buf_add_char(o->out, i > 0 ? ',' : '[');
        open(&item, o->out);
        put_time(&item, "time", e->time);
        put_text(&item, "name", e->name);
        put_attributes(&item, "attributes", &e->attributes);
        put_number(&item, "droppedAttributesCount", e->dropped_attributes);
        close(&item, "{}");
    }
    buf_add_char(o->out, ']');
}

static void put_links(struct object *o, const struct otlp_span *span) {
    if (span->nlinks == 0)
        return;
    put_name(o, "links");
    for (size_t i = 0; i < span->nlinks && !o->out->failed; i++) {
        const struct otlp_link *l = &span->links[i];
        struct object item;
        buf_add_char(o->out, i > 0 ? ',' : '[');
        open(&item, o->out);
        put_hex(&item, "traceId", l->trace_id);
        put_hex(&item, "spanId", l->span_id);
        put_text(&item, "traceState", l->trace_state);
        put_attributes(&item, "attributes", &l->attributes);
        put_number(&item, "droppedAttributesCount", l->dropped_attributes);
        put_number(&item, "flags", l->flags);
        close(&item, "{}");
    }
    buf_add_char(o->out, ']');
}

/* The value of `otel`; nothing when there is nothing. */
static void write_otel(struct buf *out, const struct otlp_meta *m) {
    static const char *const kinds[] = { "", "", "SERVER", "CLIENT", "PRODUCER", "CONSUMER" };
    const struct otlp_span *s = m->span;
    struct object o;

    open(&o, out);
    if (s->kind >= 2 && s->kind <= 5)
        put_text(&o, "kind", str_c(kinds[s->kind]));
    put_text(&o, "traceState", s->trace_state);
    put_number(&o, "flags", s->flags);
    if (s->status_code == 1)
        put_text(&o, "status", STR_LIT("OK"));
    if (s->status_code == 2 && !m->status_shown)
        put_text(&o, "status", STR_LIT("ERROR"));
    if (!m->message_shown)
        put_text(&o, "statusMessage", s->status_message);
    if (!m->end_shown)
        put_time(&o, "end", s->end);
    put_events(&o, s);
    put_links(&o, s);
    put_number(&o, "droppedAttributesCount", s->dropped_attributes);
    put_number(&o, "droppedEventsCount", s->dropped_events);
    put_number(&o, "droppedLinksCount", s->dropped_links);
    if (m->res) {
        put_text(&o, "schemaUrl", m->res->schema_url);
        put_number(&o, "droppedResourceAttributesCount", m->res->dropped_attributes);
    }
    close(&o, "");
}

/* A member of ours, under another name when the sender has one of this. */
static void put_ours(struct object *o, const struct otlp_meta *m, const char *name, const char *other_name) {
    put_name(o, otlp_entries_find(m->own, str_c(name)) ? other_name : name);
}

static bool has_unused(const struct otlp_meta *m) {
    for (size_t i = 0; i < m->attributes->n; i++) {
        if (!m->used[i])
            return true;
    }
    return false;
}

void otlp_meta_write(struct buf *out, const struct otlp_meta *m) {
    struct object o;
    size_t before_otel;
    char sep;

    open(&o, out);
    for (size_t i = 0; i < m->own->n && !out->failed; i++) {
        put_key(&o, m->own->v[i].key);
        otlp_meta_write_entry(out, &m->own->v[i]);
    }
    if (m->always || has_unused(m)) {
        put_ours(&o, m, "attributes", "otel.attributes");
        attr_list_write_json(out, m->attributes, m->used);
    }
    if (str_has(m->resource)) {
        put_ours(&o, m, "resourceAttributes", "otel.resourceAttributes");
        buf_add_str(out, m->resource);
    }
    if (str_has(m->scope)) {
        put_ours(&o, m, "scope", "otel.scope");
        buf_add_str(out, m->scope);
    }
    before_otel = out->n;
    sep = o.sep;
    put_ours(&o, m, "otel", "otel.otel");
    if (!out->failed) {
        size_t start = out->n;
        write_otel(out, m);
        if (out->n == start) { /* nothing to say: take the name back */
            out->n = before_otel;
            out->p[out->n] = '\0';
            o.sep = sep;
        }
    }
    close(&o, "");
}
