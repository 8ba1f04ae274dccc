/* bodies_otlp.c -- OTLP in protobuf: ten traces of ten spans; user, session, tags and name on each trace's first span. */
#include <string.h>

#include "bodies.h"

static void add_varint(struct template *t, uint64_t v) {
    char b[10];
    size_t n = 0;
    for (; v > 127; v >>= 7)
        b[n++] = (char)(v | 128);
    b[n++] = (char)v;
    add(t, b, n);
}

static void add_field(struct template *t, unsigned number, struct template *inner) {
    add_varint(t, number << 3 | 2);
    add_varint(t, inner->n);
    add_template(t, inner);
}

static void add_bytes(struct template *t, unsigned number, const char *s) {
    add_varint(t, number << 3 | 2);
    add_varint(t, strlen(s));
    add_text(t, s);
}

static void add_fixed_place(struct template *t, unsigned number, size_t n, enum place_kind kind, unsigned index) {
    add_varint(t, number << 3 | 2);
    add_varint(t, n);
    add_place(t, kind, index);
}

/* ---- attributes; `value` is an AnyValue, which is consumed ---- */

static void add_attribute(struct template *span, const char *key, struct template *value) {
    struct template kv = { 0 };
    add_bytes(&kv, 1, key);
    add_field(&kv, 2, value);
    add_field(span, 9, &kv);
}

static void add_string(struct template *span, const char *key, const char *text) {
    struct template value = { 0 };
    add_bytes(&value, 1, text);
    add_attribute(span, key, &value);
}

static void add_string_place(struct template *span, const char *key, enum place_kind kind, unsigned index) {
    struct template value = { 0 }, string = { 0 };
    add_place(&string, kind, index);
    add_field(&value, 1, &string);
    add_attribute(span, key, &value);
}

static void add_count(struct template *span, const char *key) {
    struct template value = { 0 };
    add_varint(&value, 3 << 3);
    add_place(&value, PLACE_VARINT, 0);
    add_attribute(span, key, &value);
}

static void add_tag(struct template *array, enum place_kind kind, unsigned trace) {
    struct template value = { 0 }, string = { 0 };
    add_place(&string, kind, trace);
    add_field(&value, 1, &string);
    add_field(array, 1, &value);
}

static void add_tags(struct template *span, unsigned trace) {
    struct template value = { 0 }, array = { 0 };
    add_tag(&array, PLACE_TAG, trace);
    add_tag(&array, PLACE_TEAM, trace);
    if (trace == 0)
        add_tag(&array, PLACE_ONCE, trace);
    add_field(&value, 5, &array);
    add_attribute(span, "langfuse.trace.tags", &value);
}

static void add_messages(struct template *span, size_t text) {
    struct template value = { 0 }, string = { 0 };
    add_text(&string, "[{\"role\":\"system\",\"content\":\"");
    add_sized(&string, PLACE_SYSTEM, text / 3, 0);
    add_text(&string, "\"},{\"role\":\"user\",\"content\":\"");
    add_sized(&string, PLACE_TEXT, text - text / 3, 0);
    add_text(&string, "\"}]");
    add_field(&value, 1, &string);
    add_attribute(span, "langfuse.observation.input", &value);
}

static void add_output(struct template *span, size_t text) {
    struct template value = { 0 }, string = { 0 };
    add_sized(&string, PLACE_TEXT, text, 0);
    add_field(&value, 1, &string);
    add_attribute(span, "langfuse.observation.output", &value);
}

/* ---- spans ---- */

static void add_span_with(struct template *span, unsigned trace, unsigned o, size_t text) {
    static const char *const names[] = { "agent", "retrieve", "plan", "answer", "critique" };
    unsigned root = trace * OBSERVATIONS_EACH;
    add_fixed_place(span, 1, 16, PLACE_TRACE_RAW, trace);
    add_fixed_place(span, 2, 8, PLACE_ID_RAW, root + o);
    if (o)
        add_fixed_place(span, 4, 8, PLACE_ID_RAW, root);
    add_bytes(span, 5, names[o < 2 ? o : 2 + o % 3]);
    add_varint(span, 7 << 3 | 1);
    add_place(span, PLACE_START_FIXED, root + o);
    add_varint(span, 8 << 3 | 1);
    add_place(span, PLACE_END_FIXED, root + o);
    add_string(span, "langfuse.observation.type", o < 2 ? "span" : "generation");
    if (o >= 2) {
        add_string(span, "gen_ai.request.model", o % 2 ? "gpt-4o-mini" : "claude-sonnet-4");
        add_count(span, "gen_ai.usage.input_tokens");
        add_count(span, "gen_ai.usage.output_tokens");
    }
    if (o == 0) {
        add_string_place(span, "langfuse.trace.name", PLACE_NAME, trace);
        add_string_place(span, "user.id", PLACE_USER, trace);
        add_string_place(span, "session.id", PLACE_SESSION, trace);
        add_tags(span, trace);
        add_string(span, "langfuse.trace.metadata.region", "eu-1");
    }
    add_messages(span, text / 2);
    add_output(span, text - text / 2);
}

static void add_span(struct template *spans, unsigned trace, unsigned o, size_t size) {
    struct template bare = { 0 }, span = { 0 };
    add_span_with(&bare, trace, o, 0);
    size_t used = bare.n + 8; /* longer lengths */
    template_free(&bare);
    add_span_with(&span, trace, o, size > used + 8 ? size - used : 8);
    add_field(spans, 2, &span);
}

void build_otlp(struct template *t, size_t size) {
    struct template spans = { 0 }, scope = { 0 }, resource = { 0 };
    add_bytes(&scope, 1, "bench");
    add_field(&spans, 1, &scope);
    for (unsigned k = 0; k < TRACES; k++)
        for (unsigned o = 0; o < OBSERVATIONS_EACH; o++)
            add_span(&spans, k, o, size);
    add_field(&resource, 2, &spans);
    add_field(t, 1, &resource);
}
