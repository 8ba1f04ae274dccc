/* otlp_map.c -- one span -> one observation and its share of a trace, by the rows of otlp_rules.c.
 *
 *  1. An attribute is looked up once in the index of the rows' keys; rows then read slots. The index is made once a
 *     request and holds the rows' keys only, so hostile keys can neither grow nor slow it.
 *  2. What follows from a resource and from a scope is worked out once for the spans that come in a row.
 *  3. Times: an end before the start is the start; of a missing start or end the other stands in.
 * Threads: one mapper belongs to one thread. */
#include "model/otlp_map.h"

#include <assert.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/map.h"
#include "model/otlp_meta.h"
#include "model/otlp_rules.h"
#include "model/otlp_trace.h"
#include "model/otlp_value.h"

#define NO_SLOT UINT16_MAX
#define RULE_WORDS 2 /* of 64 rules */
#define SPAN_ID_BYTES 8

/* Rows by number, in their order. */
struct rule_set {
    uint64_t bits[RULE_WORDS];
};

struct otlp_mapper {
    struct arena *scratch;
    struct batch *b;
    struct otlp_values values;
    /* the index */
    uint16_t *table; /* hash table of slots */
    size_t table_mask;
    uint16_t *slot_of;   /* rule -> slot */
    uint16_t *slot_rule; /* slot -> a rule with its key */
    size_t nslots;
    uint16_t *prefix_rule; /* the PREFIX rows */
    size_t nprefixes;
    struct rule_set *slot_rules; /* slot -> the rows with its key */
    /* the span at hand: slot -> number of its attribute + 1, 0 none */
    uint32_t *span_slot;
    bool below;            /* it has a parent */
    struct rule_set asked; /* rows for which the span or its resource has an attribute */
    bool *used;            /* a flag an attribute */
    size_t used_cap;
    struct otlp_fields fields;
    /* resource and scope of the spans at hand */
    const struct otlp_resource *res;
    struct attr_list res_list;
    const struct attr_value **res_slot;
    struct rule_set res_rules;
    struct str res_json;
    bool res_is_python;
    const struct otlp_scope *scope;
    struct otlp_scope scope_seen;
    struct str scope_json;
    bool scope_is_langfuse;
    bool scope_quotes; /* Langfuse's SDK from version 5 on */
    /* traces */
    struct map by_id; /* raw id -> struct otlp_trace */
    struct otlp_trace *first, *last, *recent;
    size_t nspans; /* seen, rejected ones included */
    struct otlp_rejects rejects;
};

/* ---- the index ---- */

/* Rows' keys differ in their ends: eight bytes and the length tell most of them apart. */
static size_t key_hash(struct str key) {
    uint64_t tail = 0;
    size_t n = key.n < 8 ? key.n : 8;
    if (n > 0)
        memcpy(&tail, key.p + key.n - n, n);
    tail = (tail ^ key.n) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(tail >> 40);
}

static uint16_t find_slot(const struct otlp_mapper *m, struct str key) {
    for (size_t i = key_hash(key) & m->table_mask;; i = (i + 1) & m->table_mask) {
        uint16_t slot = m->table[i];
        const struct otlp_rule *r;
        if (slot == NO_SLOT)
            return NO_SLOT;
        r = &otlp_rules[m->slot_rule[slot]];
        if (r->key_n == key.n && memcmp(r->key, key.p, key.n) == 0)
            return slot;
    }
}

static void insert_slot(struct otlp_mapper *m, struct str key, uint16_t slot) {
    size_t i = key_hash(key) & m->table_mask;
    while (m->table[i] != NO_SLOT)
        i = (i + 1) & m->table_mask;
    m->table[i] = slot;
}

static void rules_add(struct rule_set *s, const struct rule_set *more) {
    for (size_t i = 0; i < RULE_WORDS; i++)
        s->bits[i] |= more->bits[i];
}

static bool make_index(struct otlp_mapper *m) {
    size_t cap = 16;

    assert(otlp_rules_n <= (size_t)64 * RULE_WORDS);
    while (cap < 4 * otlp_rules_n)
        cap *= 2;
    m->table = arena_new(m->scratch, uint16_t, cap);
    m->slot_of = arena_new(m->scratch, uint16_t, otlp_rules_n);
    m->slot_rule = arena_new(m->scratch, uint16_t, otlp_rules_n);
    m->prefix_rule = arena_new(m->scratch, uint16_t, otlp_rules_n);
    m->slot_rules = arena_new(m->scratch, struct rule_set, otlp_rules_n);
    m->span_slot = arena_new(m->scratch, uint32_t, otlp_rules_n);
    m->res_slot = arena_new(m->scratch, const struct attr_value *, otlp_rules_n);
    if (m->scratch->failed)
        return false;
    m->table_mask = cap - 1;
    memset(m->table, 0xff, cap * sizeof *m->table); /* NO_SLOT */
    for (size_t i = 0; i < otlp_rules_n; i++) {
        struct str key = { otlp_rules[i].key, otlp_rules[i].key_n };
        m->slot_of[i] = NO_SLOT;
        if (otlp_rules[i].match == MATCH_PREFIX) {
            m->prefix_rule[m->nprefixes++] = (uint16_t)i;
            continue;
        }
        m->slot_of[i] = find_slot(m, key);
        if (m->slot_of[i] == NO_SLOT) {
            m->slot_of[i] = (uint16_t)m->nslots++;
            m->slot_rule[m->slot_of[i]] = (uint16_t)i;
            insert_slot(m, key, m->slot_of[i]);
        }
        m->slot_rules[m->slot_of[i]].bits[i / 64] |= UINT64_C(1) << (i % 64);
    }
    return true;
}

struct otlp_mapper *otlp_map_new(struct arena *scratch, struct batch *b) {
    struct otlp_mapper *m = arena_new(scratch, struct otlp_mapper, 1);

    if (!m)
        return NULL;
    m->scratch = scratch;
    m->b = b;
    m->values = (struct otlp_values){ b, scratch };
    map_init(&m->by_id, scratch);
    return make_index(m) ? m : NULL;
}

/* ---- resource and scope ---- */

static bool set_resource(struct otlp_mapper *m, const struct otlp_resource *res) {
    const struct attr_list none = { NULL, 0, 0 }, *l = res ? &res->attributes : &none;
    const struct attr_value *language;

    if (m->res == res && m->res_list.v == l->v && m->res_list.n == l->n)
        return true;
    m->res = res;
    m->res_list = *l;
    memset(m->res_slot, 0, m->nslots * sizeof(*m->res_slot));
    m->res_rules = (struct rule_set){ { 0 } };
    for (size_t i = 0; i < l->n; i++) {
        uint16_t slot = find_slot(m, l->v[i].key);
        if (slot == NO_SLOT)
            continue;
        m->res_slot[slot] = &l->v[i].value;
        rules_add(&m->res_rules, &m->slot_rules[slot]);
    }
    language = attr_find(l, "telemetry.sdk.language");
    m->res_is_python = language && language->type == ATTR_STR && str_eq_c(language->s, "python");
    m->res_json = l->n > 0 ? attr_list_json(m->scratch, l) : STR_NONE;
    return l->n == 0 || str_has(m->res_json);
}

static bool set_scope(struct otlp_mapper *m, const struct otlp_scope *scope) {
    if (m->scope == scope && (!scope || memcmp(&m->scope_seen, scope, sizeof *scope) == 0))
        return true;
    m->scope = scope;
    m->scope_is_langfuse = scope && str_starts(scope->name, "langfuse-sdk");
    m->scope_quotes = false;
    int64_t major = 0;
    if (scope && str_eq_c(scope->name, "langfuse-sdk"))
        m->scope_quotes = str_to_i64(str_sub(scope->version, 0, str_find(scope->version, '.')), &major) && major >= 5;
    if (scope)
        m->scope_seen = *scope;
    m->scope_json = otlp_meta_scope(m->scratch, scope);
    return !m->scratch->failed;
}

/* ---- fields ---- */

static bool clear_used(struct otlp_mapper *m, size_t n) {
    if (n > m->used_cap) {
        size_t cap = m->used_cap ? m->used_cap : 64;
        while (cap < n)
            cap *= 2;
        m->used = arena_new(m->scratch, bool, cap);
        if (!m->used)
            return false;
        m->used_cap = cap;
    }
    if (n > 0)
        memset(m->used, 0, n);
    return true;
}

static void sort_attributes(struct otlp_mapper *m, const struct attr_list *l) {
    memset(m->span_slot, 0, m->nslots * sizeof *m->span_slot);
    m->asked = m->res_rules;
    for (size_t i = 0; i < l->n; i++) {
        uint16_t slot = find_slot(m, l->v[i].key);
        if (slot == NO_SLOT)
            continue;
        m->span_slot[slot] = (uint32_t)i + 1; /* of equal keys the last one */
        rules_add(&m->asked, &m->slot_rules[slot]);
    }
}

/* Does a row that found its value use the attribute up? */
static bool takes(const struct otlp_mapper *m, const struct otlp_rule *r) {
    return !m->below || !(r->where & OF_TRACE);
}

/* Offers an attribute to a row; true ends the field's search. */
static bool offer(struct otlp_mapper *m, const struct otlp_rule *r, const struct attr_value *v, bool *used) {
    switch (otlp_decode(&m->values, r, v, STR_NONE, &m->fields)) {
    case FOUND_NO: return false;
    case FOUND_YES:
        if (used && takes(m, r))
            *used = true;
        return true;
    case FOUND_KEEP:
    case FOUND_STOP: return true;
    }
    return false;
}

/* Offers a row what the span has for it, then what the resource has; true ends the field's search. */
static bool apply_rule(struct otlp_mapper *m, size_t rule, const struct attr_list *l) {
    const struct otlp_rule *r = &otlp_rules[rule];
    uint16_t slot = m->slot_of[rule];
    uint32_t at = r->where & IN_SPAN ? m->span_slot[slot] : 0;

    if (at && offer(m, r, &l->v[at - 1].value, &m->used[at - 1]))
        return true;
    return r->where & IN_RESOURCE && m->res_slot[slot] && offer(m, r, m->res_slot[slot], NULL);
}

static void apply_exact(struct otlp_mapper *m, const struct attr_list *l) {
    size_t done = SIZE_MAX; /* offset of the field that has its value */

    for (size_t word = 0; word < RULE_WORDS; word++) {
        for (uint64_t bits = m->asked.bits[word]; bits; bits &= bits - 1) {
            size_t i = 64 * word + (size_t)__builtin_ctzll(bits);
            if (otlp_rules[i].offset != done && apply_rule(m, i, l))
                done = otlp_rules[i].offset;
        }
    }
}

static bool has_prefix(struct str key, const struct otlp_rule *r) {
    return key.n > r->key_n && key.p[0] == r->key[0] && memcmp(key.p, r->key, r->key_n) == 0;
}

/* A key may feed several fields, so each prefix row is asked. */
static void apply_prefixes(struct otlp_mapper *m, const struct attr_list *l) {
    for (size_t i = 0; i < l->n; i++) {
        struct str key = l->v[i].key;
        for (size_t j = 0; j < m->nprefixes; j++) {
            const struct otlp_rule *r = &otlp_rules[m->prefix_rule[j]];
            if (!has_prefix(key, r))
                continue;
            if (otlp_decode(&m->values, r, &l->v[i].value, str_sub(key, r->key_n, key.n), &m->fields) == FOUND_YES &&
                takes(m, r)) {
                m->used[i] = true;
            }
        }
    }
}

static bool find_fields(struct otlp_mapper *m, const struct otlp_span *span) {
    struct otlp_entries metadata = m->fields.metadata, trace_metadata = m->fields.trace_metadata;

    if (!clear_used(m, span->attributes.n))
        return false;
    m->fields = (struct otlp_fields){ .completion_start = TIME_NONE };
    otlp_entries_clear(&metadata); /* keep their room */
    otlp_entries_clear(&trace_metadata);
    m->fields.metadata = metadata;
    m->fields.trace_metadata = trace_metadata;
    sort_attributes(m, &span->attributes);
    apply_exact(m, &span->attributes);
    apply_prefixes(m, &span->attributes);
    return !m->scratch->failed && !m->b->arena.failed;
}

/* ---- the observation ---- */

/* Python SDKs up to 3.3 called every observation a span. */
static bool is_old_python(const struct otlp_mapper *m) {
    struct str version = m->scope ? m->scope->version : STR_NONE, part;
    int64_t number[2] = { 0, 0 };

    if (!m->res_is_python || !m->scope || !str_eq_c(m->scope->name, "langfuse-sdk"))
        return false;
    for (int i = 0; i < 2; i++) {
        if (!str_has(version) || !str_split(&version, '.', &part) || !str_to_i64(part, &number[i]))
            return false;
    }
    return number[0] < 3 || (number[0] == 3 && number[1] <= 3);
}

static struct str pick_type(const struct otlp_mapper *m) {
    const struct otlp_fields *f = &m->fields;
    bool usage = str_has(f->usage) || f->tokens_in.has || f->tokens_out.has || f->tokens_total.has;
    bool more = str_has(f->cost) || str_has(f->model_parameters) || str_has(f->prompt_name) ||
                str_has(f->prompt_version) || f->completion_start != TIME_NONE;

    if (str_has(f->type)) {
        bool mistyped = str_eq_c(f->type, "SPAN") && (str_has(f->model) || usage || more) && is_old_python(m);
        return mistyped ? STR_LIT("GENERATION") : f->type;
    }
    return str_has(f->model) || usage ? STR_LIT("GENERATION") : STR_LIT("SPAN");
}

static struct str text_attribute(const struct attr_list *l, const char *key) {
    const struct attr_value *v = attr_find(l, key);
    return v && v->type == ATTR_STR && v->s.n > 0 ? v->s : STR_NONE;
}

/* "type: message" of the last exception event; absent: there is none. */
static struct str exception_message(struct otlp_mapper *m, const struct otlp_span *span) {
    for (size_t i = span->nevents; i-- > 0;) {
        const struct otlp_event *e = &span->events[i];
        struct str type, message;
        char *both;

        if (!str_eq_c(e->name, "exception"))
            continue;
        type = text_attribute(&e->attributes, "exception.type");
        message = text_attribute(&e->attributes, "exception.message");
        if (!str_has(type) || !str_has(message))
            return otlp_keep(&m->values, str_has(type) ? type : message);
        both = arena_bytes(&m->b->arena, type.n + 2 + message.n);
        if (!both)
            return STR_NONE;
        memcpy(both, type.p, type.n);
        memcpy(both + type.n, ": ", 2);
        memcpy(both + type.n + 2, message.p, message.n);
        return (struct str){ both, type.n + 2 + message.n };
    }
    return STR_NONE;
}

static void set_times(struct observation *o, const struct otlp_span *span) {
    o->start = span->start != TIME_NONE ? span->start : span->end;
    o->end = span->end != TIME_NONE ? span->end : span->start;
    if (o->end < o->start)
        o->end = o->start;
}

static bool set_metadata(struct otlp_mapper *m, const struct otlp_span *span, struct observation *o) {
    const struct otlp_meta meta = {
        .own = &m->fields.metadata,
        .attributes = &span->attributes,
        .used = m->used,
        .always = str_has(m->scope_json) && !m->scope_is_langfuse,
        .resource = m->res_json,
        .scope = m->scope_json,
        .res = m->res,
        .span = span,
        .status_shown = str_eq_c(o->level, "ERROR"),
        .message_shown = str_eq(o->status_message, span->status_message),
        .end_shown = span->end == TIME_NONE || o->end == span->end,
    };
    bool ok;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_reserve(&out, 256 + m->res_json.n + m->scope_json.n + 48 * span->attributes.n);
    otlp_meta_write(&out, &meta);
    if (!out.failed && out.n > 0)
        o->metadata = arena_str(&m->b->arena, buf_str(&out));
    ok = !out.failed && (out.n == 0 || str_has(o->metadata));
    buf_done(&out);
    return ok;
}

static bool add_observation(struct otlp_mapper *m, const struct otlp_trace *t, const struct otlp_span *span,
                            bool has_parent) {
    const struct otlp_fields *f = &m->fields;
    struct observation *o = batch_add_observation(m->b);
    bool own_message = str_has(f->status_message);

    if (!o)
        return false;
    o->index = m->nspans;
    o->merge = MERGE_DEEP;
    o->trace_id = t->id;
    if (!id_from_bytes(&m->b->arena, (const uint8_t *)span->span_id.p, SPAN_ID_BYTES, &o->id))
        return false;
    if (has_parent && !id_from_bytes(&m->b->arena, (const uint8_t *)span->parent_id.p, SPAN_ID_BYTES, &o->parent_id))
        return false;
    o->type = pick_type(m);
    o->name = otlp_keep(&m->values, str_has(span->name) ? span->name : STR_LIT(""));
    o->version = f->version;
    set_times(o, span);
    o->completion_start = f->completion_start;
    o->model = f->model;
    o->model_parameters = f->model_parameters;
    o->input = f->input;
    o->output = f->output;
    o->usage = f->usage;
    o->cost_buckets = f->cost;
    o->tokens_in = f->tokens_in;
    o->tokens_out = f->tokens_out;
    o->tokens_total = f->tokens_total;
    o->prompt_name = f->prompt_name;
    o->prompt_version = f->prompt_version;
    o->environment = f->environment;
    o->level = str_has(f->level) ? f->level : span->status_code == 2 ? STR_LIT("ERROR") : STR_NONE;
    o->status_message = f->status_message;
    if (!own_message && span->status_message.n > 0)
        o->status_message = otlp_keep(&m->values, span->status_message);
    else if (!own_message)
        o->status_message = exception_message(m, span);
    return set_metadata(m, span, o) && !m->b->arena.failed;
}

/* ---- the trace ---- */

static struct otlp_trace *find_trace(struct otlp_mapper *m, struct str raw) {
    struct otlp_trace *t;

    if (m->recent && memcmp(m->recent->raw, raw.p, TRACE_ID_BYTES) == 0)
        return m->recent;
    t = map_get(&m->by_id, raw);
    if (t)
        return m->recent = t;
    t = arena_new(m->scratch, struct otlp_trace, 1);
    if (!t)
        return NULL;
    memcpy(t->raw, raw.p, TRACE_ID_BYTES);
    if (!id_from_bytes(&m->b->arena, t->raw, TRACE_ID_BYTES, &t->id))
        return NULL;
    if (!map_put(&m->by_id, (struct str){ (const char *)t->raw, TRACE_ID_BYTES }, t))
        return NULL;
    if (m->last)
        m->last->next = t;
    else
        m->first = t;
    m->last = t;
    return m->recent = t;
}

/* ---- spans ---- */

static bool is_zero(struct str bytes) {
    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i])
            return false;
    }
    return true;
}

static bool good_id(struct otlp_mapper *m, struct str id, size_t want, const char *what) {
    if (id.n == want && !is_zero(id))
        return true;
    if (m->rejects.spans++ == 0) {
        if (id.n == want)
            snprintf(m->rejects.reason, sizeof m->rejects.reason, "span %zu: %s is zero", m->nspans, what);
        else {
            snprintf(m->rejects.reason, sizeof m->rejects.reason, "span %zu: %s of %zu bytes instead of %zu", m->nspans,
                     what, id.n, want);
        }
    }
    return false;
}

/* Langfuse's Python SDK from version 5 on sends every metadata value as JSON text, strings in quotes:
 * each is decoded once, in place, or "123" and 123 would get mixed up. Its JavaScript SDK does not quote. */
static void decode_metadata(struct otlp_mapper *m, const struct otlp_span *span) {
    for (size_t i = 0; i < span->attributes.n; i++) {
        struct attr *a = &span->attributes.v[i];
        if (str_starts(a->key, "langfuse.observation.metadata") || str_starts(a->key, "langfuse.trace.metadata"))
            otlp_decode_json_text(&m->b->arena, &a->value);
    }
}

static enum xt_code full(struct xt_err *err) { return xt_fail(err, XT_ETOOBIG, "the request needs too much memory"); }

enum xt_code otlp_map_span(struct otlp_mapper *m, const struct otlp_resource *res, const struct otlp_scope *scope,
                           const struct otlp_span *span, struct xt_err *err) {
    bool has_parent = span->parent_id.n == SPAN_ID_BYTES && !is_zero(span->parent_id), root, ok;
    struct otlp_trace *t;

    if (!good_id(m, span->trace_id, TRACE_ID_BYTES, "trace id") ||
        !good_id(m, span->span_id, SPAN_ID_BYTES, "span id")) {
        m->nspans++;
        return XT_OK;
    }
    if (!set_resource(m, res) || !set_scope(m, scope))
        return full(err);
    if (m->scope_quotes && m->res_is_python)
        decode_metadata(m, span);
    m->below = has_parent;
    if (!find_fields(m, span))
        return full(err);
    t = find_trace(m, span->trace_id);
    if (!t)
        return full(err);
    root = !has_parent || m->fields.as_root == TRI_TRUE;
    ok = add_observation(m, t, span, has_parent);
    ok = ok && otlp_trace_merge(&m->values, t, &m->fields, m->b->observations[m->b->nobservations - 1].name, root);
    m->nspans++;
    return ok ? XT_OK : full(err);
}

enum xt_code otlp_map_finish(struct otlp_mapper *m, struct otlp_rejects *ret, struct xt_err *err) {
    size_t n = 0;

    for (const struct otlp_trace *t = m->first; t; t = t->next)
        n++;
    if (n > 0 && !batch_reserve(m->b, n, 0, 0))
        return full(err);
    for (const struct otlp_trace *t = m->first; t; t = t->next) {
        if (!otlp_trace_add(&m->values, t))
            return full(err);
    }
    *ret = m->rejects;
    return XT_OK;
}
