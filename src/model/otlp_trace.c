/* otlp_trace.c -- merging as otlp_trace.h says. What is kept lies in the batch: spans come and go.
 *
 * The values that Langfuse's SDKs put on every span are met thousands of times: the same tag costs one look-up, the same
 * metadata a comparison. */
#include "model/otlp_trace.h"

#include "base/buf.h"
#include "model/otlp_meta.h"

static void set_ranked(struct otlp_ranked *field, struct str s, uint8_t rank) {
    if (str_has(s) && rank > field->rank)
        *field = (struct otlp_ranked){ s, rank };
}

/* Is `json` what writing the entry would give? Saves making it anew for values that every span repeats. */
static bool same_json(struct str json, const struct otlp_entry *e) {
    struct str s;

    if (str_has(e->json))
        return str_eq(json, e->json);
    if (e->value->type != ATTR_STR)
        return false;
    s = e->value->s;
    if (s.n > 0 && memchr(s.p, '\\', s.n))
        return false;
    if (str_eq(json, s))
        return s.n > 0 && (s.p[0] == '{' || s.p[0] == '[');
    return json.n == s.n + 2 && json.p[0] == '"' && memcmp(json.p + 1, s.p, s.n) == 0;
}

static bool merge_metadata(const struct otlp_values *c, struct otlp_trace *t, const struct otlp_entry *e) {
    struct otlp_entry *old = otlp_entries_find(&t->metadata, e->key);
    struct otlp_entry kept = { .key = old ? old->key : otlp_keep(c, e->key) };
    struct buf out;

    if (old && same_json(old->json, e))
        return true;
    buf_init(&out, SIZE_MAX);
    otlp_meta_write_entry(&out, e);
    if (!out.failed)
        kept.json = arena_str(&c->b->arena, buf_str(&out));
    buf_done(&out);
    return str_has(kept.key) && str_has(kept.json) && otlp_entries_set(c->scratch, &t->metadata, kept);
}

struct tag_sink {
    const struct otlp_values *c;
    struct otlp_trace *t;
};

static void add_tag(void *arg, struct str tag) {
    struct tag_sink *sink = arg;
    const struct otlp_values *c = sink->c;

    if (otlp_entries_find(&sink->t->tags, tag))
        return;
    tag = otlp_keep(c, tag);
    if (!str_has(tag) || !otlp_entries_set(c->scratch, &sink->t->tags, (struct otlp_entry){ .key = tag })) {
        c->scratch->failed = true;
    }
}

bool otlp_trace_merge(const struct otlp_values *c, struct otlp_trace *t, const struct otlp_fields *f, struct str name,
                      bool root) {
    uint8_t rank = root ? 2 : 1;

    set_ranked(&t->name, f->trace_name, rank);
    set_ranked(&t->user, f->user, rank);
    set_ranked(&t->session, f->session, rank);
    set_ranked(&t->release, f->release, rank);
    set_ranked(&t->version, f->version, rank);
    set_ranked(&t->environment, f->environment, rank);
    set_ranked(&t->input, f->trace_input, rank);
    set_ranked(&t->output, f->trace_output, rank);
    if (root && !str_has(t->root_name) && name.n > 0)
        t->root_name = name;
    if (f->is_public > t->is_public)
        t->is_public = f->is_public;
    if (f->tags)
        otlp_each_tag(c, f->tags, add_tag, &(struct tag_sink){ c, t });
    for (size_t i = 0; i < f->trace_metadata.n; i++) {
        if (!merge_metadata(c, t, &f->trace_metadata.v[i]))
            return false;
    }
    return !c->scratch->failed && !c->b->arena.failed;
}

static bool set_trace_lists(const struct otlp_values *c, const struct otlp_trace *s, struct trace *t) {
    struct buf out;

    t->tags_has = s->tags.n > 0;
    t->tags = arena_new(&c->b->arena, struct str, s->tags.n);
    if (!t->tags)
        return false;
    for (size_t i = 0; i < s->tags.n; i++)
        t->tags[i] = s->tags.v[i].key;
    t->ntags = s->tags.n;
    if (s->metadata.n == 0)
        return true;
    buf_init(&out, SIZE_MAX);
    for (size_t i = 0; i < s->metadata.n && !out.failed; i++) {
        buf_add_char(&out, i > 0 ? ',' : '{');
        attr_write_str(&out, s->metadata.v[i].key);
        buf_add_char(&out, ':');
        buf_add_str(&out, s->metadata.v[i].json);
    }
    buf_add_char(&out, '}');
    if (!out.failed)
        t->metadata = arena_str(&c->b->arena, buf_str(&out));
    buf_done(&out);
    return str_has(t->metadata);
}

bool otlp_trace_add(const struct otlp_values *c, const struct otlp_trace *s) {
    struct trace *t = batch_add_trace(c->b);

    if (!t)
        return false;
    t->id = s->id;
    t->merge = MERGE_DEEP;
    t->name_weak = s->name.rank == 0 && str_has(s->root_name);
    t->name = t->name_weak ? s->root_name : s->name.s;
    t->user = s->user.s;
    t->session = s->session.s;
    t->release = s->release.s;
    t->version = s->version.s;
    t->environment = s->environment.s;
    t->input = s->input.s;
    t->output = s->output.s;
    t->is_public = s->is_public;
    return set_trace_lists(c, s, t);
}
