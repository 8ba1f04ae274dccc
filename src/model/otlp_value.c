/* otlp_value.c -- the decoders of otlp_rules.h.
 *
 *  1. A decoder that cannot make sense of a value yields nothing: the attribute then stays readable in metadata.
 *  2. Nothing is parsed twice for an entry of metadata: its value stays an attribute until it is written.
 *  3. Work is linear in the size of the value, whatever it holds. */
#include "model/otlp_value.h"

#include <math.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/codec.h"
#include "json/json_read.h"
#include "json/json_write.h"

#define FEW_ENTRIES 16 /* up to here, keys are compared one by one */
#define FIRST_ENTRIES 16
#define JSON_TEXT_DEPTH 1000
#define ENV_MAX 40 /* characters of an environment */

/* ---- entries ---- */

void otlp_entries_clear(struct otlp_entries *e) {
    e->n = 0;
    e->indexed = false;
}

struct otlp_entry *otlp_entries_find(const struct otlp_entries *e, struct str key) {
    if (e->indexed) {
        uintptr_t at = (uintptr_t)map_get(&e->index, key);
        return at ? &e->v[at - 1] : NULL;
    }
    for (size_t i = 0; i < e->n; i++) {
        if (str_eq(e->v[i].key, key))
            return &e->v[i];
    }
    return NULL;
}

static bool index_entry(struct otlp_entries *e, size_t i) {
    return map_put(&e->index, e->v[i].key, (void *)(uintptr_t)(i + 1));
}

bool otlp_entries_set(struct arena *a, struct otlp_entries *e, struct otlp_entry entry) {
    struct otlp_entry *old = otlp_entries_find(e, entry.key);

    if (old) {
        old->json = entry.json;
        old->value = entry.value;
        return true;
    }
    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : FIRST_ENTRIES;
        struct otlp_entry *bigger = arena_new(a, struct otlp_entry, cap);
        if (!bigger)
            return false;
        if (e->n > 0)
            memcpy(bigger, e->v, e->n * sizeof *bigger);
        e->v = bigger;
        e->cap = cap;
    }
    e->v[e->n++] = entry;
    if (e->indexed)
        return index_entry(e, e->n - 1);
    if (e->n <= FEW_ENTRIES)
        return true;
    map_init(&e->index, a);
    e->indexed = true;
    for (size_t i = 0; i < e->n; i++) {
        if (!index_entry(e, i))
            return false;
    }
    return true;
}

/* ---- text ---- */

static bool within(struct str s, const char *p, size_t n) {
    return p && (uintptr_t)s.p >= (uintptr_t)p && (uintptr_t)s.p - (uintptr_t)p <= n &&
           s.n <= n - ((uintptr_t)s.p - (uintptr_t)p);
}

struct str otlp_keep(const struct otlp_values *c, struct str s) {
    if (!str_has(s) || s.n == 0)
        return str_has(s) ? STR_LIT("") : s;
    return within(s, c->b->body, c->b->body_bytes) ? s : arena_str(&c->b->arena, s);
}

/* attr_payload_json, whose failure is that of the arena: it is looked at once a span. */
static struct str json_of(struct arena *a, const struct attr_value *v) {
    struct str json = attr_payload_json(a, v);
    if (!str_has(json) && v->type != ATTR_EMPTY)
        a->failed = true;
    return json;
}

/* Text of a value: a string as it is (kept), anything else as its JSON. Absent: empty or no memory. */
static struct str as_text(const struct otlp_values *c, const struct attr_value *v) {
    if (v->type == ATTR_STR)
        return v->s.n > 0 ? otlp_keep(c, v->s) : STR_NONE;
    return json_of(&c->b->arena, v);
}

/* JSON text that lies in the attribute itself is kept; what was made of it lies in the batch already. */
static struct str as_payload(const struct otlp_values *c, const struct attr_value *v) {
    struct str json = json_of(&c->b->arena, v);

    if (str_eq_c(json, "null"))
        return STR_NONE;
    return v->type == ATTR_STR && within(json, v->s.p, v->s.n) ? otlp_keep(c, json) : json;
}

static bool expand_none(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg, (void)depth, (void)parent, (void)key;
    return false;
}

/* The text as nodes, one level deep. NULL: no JSON (or no memory). */
static const struct json *parse_flat(const struct otlp_values *c, struct str text) {
    const struct json_opts opts = { .max_depth = JSON_TEXT_DEPTH, .expand = expand_none };
    const struct json *root = NULL;
    char *padded = arena_bytes(c->scratch, text.n + JSON_PADDING);
    enum xt_code code;

    if (!padded)
        return NULL;
    memcpy(padded, text.p, text.n);
    memset(padded + text.n, 0, JSON_PADDING);
    code = json_parse(c->scratch, (struct str){ padded, text.n }, &opts, &root, NULL);
    if (code != XT_OK && code != XT_EINVAL)
        c->scratch->failed = true;
    return code == XT_OK ? root : NULL;
}

/* ---- words ---- */

static const struct {
    const char *word, *name;
} types[] = {
    { "span", "SPAN" },           { "generation", "GENERATION" }, { "event", "EVENT" },   { "embedding", "EMBEDDING" },
    { "agent", "AGENT" },         { "tool", "TOOL" },             { "chain", "CHAIN" },   { "retriever", "RETRIEVER" },
    { "guardrail", "GUARDRAIL" }, { "evaluator", "EVALUATOR" },
}, levels[] = {
    { "default", "DEFAULT" }, { "debug", "DEBUG" },     { "trace", "DEBUG" },     { "verbose", "DEBUG" },
    { "info", "DEFAULT" },    { "log", "DEFAULT" },     { "notice", "DEFAULT" },  { "ok", "DEFAULT" },
    { "success", "DEFAULT" }, { "warning", "WARNING" }, { "warn", "WARNING" },    { "error", "ERROR" },
    { "fatal", "ERROR" },     { "critical", "ERROR" },
};

static struct str as_type(const struct attr_value *v) {
    struct str word = v->type == ATTR_STR ? str_trim(v->s) : STR_NONE;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (str_eq_nocase(word, str_c(types[i].word)))
            return str_c(types[i].name);
    }
    return STR_NONE;
}

static struct str as_level(const struct attr_value *v) {
    struct str word = v->type == ATTR_STR ? str_trim(v->s) : STR_NONE;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (str_eq_nocase(word, str_c(levels[i].word)))
            return str_c(levels[i].name);
    }
    return STR_NONE;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* As Langfuse normalises environments: lower case, the reserved prefix off (repeatedly), 40 characters of [a-z0-9_-]. */
static struct str as_env(const struct otlp_values *c, const struct attr_value *v) {
    static const char reserved[] = "langfuse";
    const size_t reserved_n = sizeof reserved - 1;
    struct str s = v->type == ATTR_STR ? v->s : STR_NONE;
    char name[ENV_MAX];
    bool changed = false;

    while (s.n >= reserved_n && str_eq_nocase(str_sub(s, 0, reserved_n), str_c(reserved))) {
        s = str_sub(s, reserved_n, s.n);
        if (s.n > 0 && (s.p[0] == '-' || s.p[0] == '_'))
            s = str_sub(s, 1, s.n);
    }
    if (s.n == 0)
        return STR_NONE;
    s = str_sub(s, 0, ENV_MAX);
    for (size_t i = 0; i < s.n; i++) {
        name[i] = lower(s.p[i]);
        changed |= name[i] != s.p[i];
        if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') && name[i] != '-' &&
            name[i] != '_') {
            return STR_NONE;
        }
    }
    return changed ? arena_str(&c->b->arena, (struct str){ name, s.n }) : otlp_keep(c, s);
}

/* ---- numbers, times, booleans ---- */

static bool as_count(const struct attr_value *v, struct opt_i64 *ret) {
    int64_t n = -1;

    if (v->type == ATTR_INT)
        n = v->i;
    if (v->type == ATTR_DOUBLE && v->d >= 0 && v->d < 9223372036854775808.0 && floor(v->d) == v->d)
        n = (int64_t)v->d;
    if (v->type == ATTR_STR && !str_to_i64(str_trim(v->s), &n))
        return false;
    if (n < 0)
        return false;
    *ret = (struct opt_i64){ n, true };
    return true;
}

static bool as_time(const struct attr_value *v, int64_t *ret) {
    struct str s = v->type == ATTR_STR ? str_trim(v->s) : STR_NONE;
    int64_t ns;

    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"')
        s = str_sub(s, 1, s.n - 2);
    if (!str_has(s) || time_parse_rfc3339(s, &ns) != TIME_OK)
        return false;
    *ret = ns;
    return true;
}

static bool as_bool(const struct attr_value *v, enum tri *ret) {
    bool yes = v->type == ATTR_BOOL ? v->boolean : v->type == ATTR_STR && str_eq_c(v->s, "true");
    bool no = v->type == ATTR_BOOL ? !v->boolean : v->type == ATTR_STR && str_eq_c(v->s, "false");

    if (!yes && !no)
        return false;
    *ret = yes ? TRI_TRUE : TRI_FALSE;
    return true;
}

/* ---- objects ---- */

static struct str as_object(const struct otlp_values *c, const struct attr_value *v) {
    struct str s;

    if (v->type == ATTR_KVLIST)
        return json_of(&c->b->arena, v);
    s = v->type == ATTR_STR ? str_trim(v->s) : STR_NONE;
    return s.n > 0 && s.p[0] == '{' && attr_is_container_json(s) ? otlp_keep(c, s) : STR_NONE;
}

/* Puts an object's members into entries: of JSON text or of a key-value list. False: it is neither (or no memory). */
static bool add_members(const struct otlp_values *c, const struct attr_value *v, struct otlp_entries *e) {
    const struct json *map;
    struct str text;

    if (v->type == ATTR_KVLIST) {
        for (size_t i = 0; i < v->n; i++) {
            struct otlp_entry entry = { v->members[i].key, STR_NONE, &v->members[i].value };
            if (!otlp_entries_set(c->scratch, e, entry))
                return false;
        }
        return true;
    }
    text = v->type == ATTR_STR ? str_trim(v->s) : STR_NONE;
    map = text.n > 0 && text.p[0] == '{' ? parse_flat(c, text) : NULL;
    if (!map)
        return false;
    for (const struct json *m = map->child; m; m = m->next) {
        if (!otlp_entries_set(c->scratch, e, (struct otlp_entry){ m->key, m->raw, NULL }))
            return false;
    }
    return true;
}

/* Are a usage's members numbers, or objects of them? Anything else (a service tier) has no place among the counts. */
static bool all_counts(const struct otlp_values *c, const struct attr_value *v) {
    struct otlp_entries all = { .n = 0 };

    if (!add_members(c, v, &all))
        return false;
    for (size_t i = 0; i < all.n; i++) {
        struct str json = all.v[i].json;
        if (!str_has(json) && all.v[i].value)
            json = json_of(c->scratch, all.v[i].value);
        if (json.n > 0 && !strchr("-0123456789{n", json.p[0]))
            return false;
    }
    return true;
}

static enum otlp_found as_usage(const struct otlp_values *c, const struct attr_value *v, struct otlp_fields *f) {
    f->usage = as_object(c, v);
    if (str_has(f->usage)) {
        f->usage_said = true;
        return all_counts(c, v) ? FOUND_YES : FOUND_KEEP;
    }
    /* Text that is no JSON at all is a mistake; any other value says something, though not a usage. */
    f->usage_said = v->type == ATTR_STR ? json_valid(v->s, JSON_TEXT_DEPTH) : v->type != ATTR_EMPTY;
    return f->usage_said ? FOUND_STOP : FOUND_NO;
}

/* Metadata that is no object is the member `metadata` of one. */
static enum otlp_found as_entries(const struct otlp_values *c, const struct attr_value *v, struct otlp_entries *e) {
    if (v->type == ATTR_EMPTY || (v->type == ATTR_STR && v->s.n == 0))
        return FOUND_NO;
    if (add_members(c, v, e))
        return FOUND_YES;
    return otlp_entries_set(c->scratch, e, (struct otlp_entry){ STR_LIT("metadata"), STR_NONE, v }) ? FOUND_YES
                                                                                                    : FOUND_NO;
}

/* Is it the text of a JSON number from 0? */
static bool is_amount(struct str json) {
    money amount;
    bool exact;
    return json.n > 0 && json.p[0] >= '0' && json.p[0] <= '9' && money_parse(json, &amount, &exact);
}

static enum otlp_found as_cost(const struct otlp_values *c, const struct attr_value *v, struct str *ret) {
    struct otlp_entries all = { .n = 0 };
    struct json_writer w;
    struct buf out;
    size_t amounts = 0;

    if (!add_members(c, v, &all))
        return FOUND_NO;
    buf_init(&out, SIZE_MAX);
    jw_init(&w, &out);
    jw_obj(&w);
    for (size_t i = 0; i < all.n; i++) {
        struct str json = all.v[i].json;
        if (!str_has(json) && all.v[i].value)
            json = json_of(c->scratch, all.v[i].value);
        if (!is_amount(json))
            continue;
        jw_key_str(&w, all.v[i].key);
        jw_raw(&w, json);
        amounts++;
    }
    jw_end(&w);
    if (!jw_done(&w))
        c->b->arena.failed = true;
    if (amounts > 0 && jw_done(&w))
        *ret = arena_str(&c->b->arena, buf_str(&out));
    buf_done(&out);
    if (!str_has(*ret))
        return FOUND_NO;
    return amounts == all.n ? FOUND_YES : FOUND_KEEP;
}

/* ---- tags ---- */

static void add_tag(struct str tag, void (*add)(void *arg, struct str tag), void *arg) {
    if (tag.n > 0)
        add(arg, tag);
}

static void each_json_tag(const struct otlp_values *c, struct str text, void (*add)(void *arg, struct str tag),
                          void *arg) {
    const struct json *list = parse_flat(c, text);

    if (!list)
        add_tag(text, add, arg);
    for (const struct json *e = list ? list->child : NULL; e; e = e->next) {
        if (e->type != JSON_NULL)
            add_tag(e->type == JSON_STRING ? e->text : e->raw, add, arg);
    }
}

void otlp_each_tag(const struct otlp_values *c, const struct attr_value *v, void (*add)(void *arg, struct str tag),
                   void *arg) {
    struct str text, part;

    if (v->type == ATTR_ARRAY) {
        for (size_t i = 0; i < v->n; i++) {
            const struct attr_value *item = &v->items[i];
            text = item->type == ATTR_STR ? item->s : json_of(c->scratch, item);
            if (str_has(text))
                add_tag(text, add, arg);
        }
        return;
    }
    text = v->type == ATTR_STR ? str_trim(v->s) : json_of(c->scratch, v);
    if (text.n > 0 && text.p[0] == '[') {
        each_json_tag(c, text, add, arg);
        return;
    }
    if (text.n == 0)
        return;
    while (str_split(&text, ',', &part))
        add_tag(str_trim(part), add, arg);
}

/* ---- JSON text ---- */

void otlp_decode_json_text(struct arena *a, struct attr_value *v) {
    struct str s = v->type == ATTR_STR ? str_trim(v->s) : STR_NONE;
    if (s.n == 0 || s.p[0] == '{' || s.p[0] == '[' || !json_valid(s, 1))
        return;
    if (s.p[0] == '"') {
        char *text = arena_bytes(a, s.n);
        size_t n = text ? json_unescape(str_sub(s, 1, s.n - 2), false, text) : SIZE_MAX;
        if (n != SIZE_MAX)
            v->s = (struct str){ text, n };
    } else if (s.p[0] == 't' || s.p[0] == 'f') {
        *v = (struct attr_value){ .type = ATTR_BOOL, .boolean = s.p[0] == 't' };
    } else if (s.p[0] == 'n') {
        *v = (struct attr_value){ .type = ATTR_EMPTY };
    } else if (str_to_i64(s, &v->i)) {
        v->type = ATTR_INT;
    } else if (str_to_f64(s, &v->d)) {
        v->type = ATTR_DOUBLE;
    }
}

/* ---- one rule ---- */

static enum otlp_found found_text(struct str s, void *field) {
    if (!str_has(s))
        return FOUND_NO;
    *(struct str *)field = s;
    return FOUND_YES;
}

/* A word that says less than the attribute did (an alias, cut, in other letters) leaves it in metadata. */
static enum otlp_found found_word(struct str s, const struct attr_value *v, void *field) {
    enum otlp_found found = found_text(s, field);
    return found == FOUND_YES && !str_eq_nocase(s, str_trim(v->s)) ? FOUND_KEEP : found;
}

enum otlp_found otlp_decode(const struct otlp_values *c, const struct otlp_rule *rule, const struct attr_value *v,
                            struct str entry, struct otlp_fields *f) {
    void *field = (char *)f + rule->offset;

    if (rule->match == MATCH_PREFIX) {
        struct otlp_entry e = { entry, STR_NONE, v };
        return otlp_entries_set(c->scratch, field, e) ? FOUND_YES : FOUND_NO;
    }
    switch ((enum otlp_decoder)rule->decoder) {
    case AS_TEXT: return found_text(as_text(c, v), field);
    case AS_TYPE: return found_text(as_type(v), field);
    case AS_LEVEL: return found_word(as_level(v), v, field);
    case AS_ENV: return found_word(as_env(c, v), v, field);
    case AS_PAYLOAD: return found_text(as_payload(c, v), field);
    case AS_OBJECT: return found_text(as_object(c, v), field);
    case AS_USAGE: return as_usage(c, v, f);
    case AS_COST: return as_cost(c, v, field);
    case AS_COUNT: return !f->usage_said && as_count(v, field) ? FOUND_YES : FOUND_NO;
    case AS_TIME: return as_time(v, field) ? FOUND_YES : FOUND_NO;
    case AS_BOOL: return as_bool(v, field) ? FOUND_YES : FOUND_NO;
    case AS_FLAG: return as_bool(v, field) ? FOUND_KEEP : FOUND_NO;
    case AS_ATTR:
        if (v->type == ATTR_EMPTY || (v->type == ATTR_STR && v->s.n == 0))
            return FOUND_NO;
        *(const struct attr_value **)field = v;
        return FOUND_YES;
    case AS_ENTRIES: return as_entries(c, v, field);
    }
    return FOUND_NO;
}
