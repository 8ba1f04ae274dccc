/* attr.c -- attribute lists and what they look like as JSON.
 *
 *  1. Lists and key-value lists come from outside: a key may repeat a million times. The last one counts, and finding
 *     it is never quadratic (SMALL_LIST).
 *  2. Nesting is at most ATTR_MAX_DEPTH: the decoders see to it, and writing stops there as well.
 *  3. Strings are valid UTF-8: the decoders repair them. */
#include "model/attr.h"

#include <math.h>

#include "base/codec.h"
#include "base/map.h"
#include "json/json_read.h"
#include "json/json_write.h"

#define SMALL_LIST 32      /* up to here, equal keys are looked for by comparing all pairs */
#define PAYLOAD_DEPTH 1000 /* levels of JSON text in an attribute */
#define FIRST_ATTRS 8

struct attr *attr_list_add(struct arena *a, struct attr_list *l) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : FIRST_ATTRS;
        struct attr *bigger = arena_new(a, struct attr, cap);
        if (!bigger)
            return NULL;
        if (l->n > 0)
            memcpy(bigger, l->v, l->n * sizeof *bigger);
        l->v = bigger;
        l->cap = cap;
    }
    return &l->v[l->n++];
}

const struct attr_value *attr_find(const struct attr_list *l, const char *key) {
    const struct str want = str_c(key);
    for (size_t i = l->n; i-- > 0;) {
        if (str_eq(l->v[i].key, want))
            return &l->v[i].value;
    }
    return NULL;
}

void attr_write_str(struct buf *out, struct str s) {
    struct json_writer w;
    jw_init(&w, out);
    jw_str(&w, s);
}

static void write_bytes(struct buf *out, struct str bytes) {
    size_t room = 4 * ((bytes.n + 2) / 3);

    if (!buf_reserve(out, room + 2))
        return;
    buf_add_char(out, '"');
    out->n += base64_encode((const uint8_t *)bytes.p, bytes.n, out->p + out->n);
    buf_add_char(out, '"');
}

static void write_value(struct buf *out, const struct attr_value *v, unsigned depth);

/* Marks of a list: superseded[i] says that a later attribute has the same key. NULL: no memory. */
static const bool *find_superseded(struct arena *a, const struct attr *v, size_t n) {
    bool *superseded = arena_new(a, bool, n);
    struct map last;

    if (!superseded)
        return NULL;
    map_init(&last, a);
    for (size_t i = n; i-- > 0;) {
        superseded[i] = map_get(&last, v[i].key) != NULL;
        if (!superseded[i] && !map_put(&last, v[i].key, (void *)(uintptr_t)(i + 1)))
            return NULL;
    }
    return superseded;
}

static bool has_later(const struct attr *v, size_t n, size_t i) {
    for (size_t j = i + 1; j < n; j++) {
        if (v[j].key.n == v[i].key.n && str_eq(v[j].key, v[i].key))
            return true;
    }
    return false;
}

static void write_members(struct buf *out, const struct attr *v, size_t n, const bool *skip, unsigned depth) {
    struct arena marks;
    const bool *superseded = NULL;
    char before = '{';

    arena_init(&marks, SIZE_MAX);
    if (n > SMALL_LIST) {
        superseded = find_superseded(&marks, v, n);
        if (!superseded)
            out->failed = true;
    }
    for (size_t i = 0; i < n && !out->failed; i++) {
        if ((skip && skip[i]) || (superseded ? superseded[i] : has_later(v, n, i)))
            continue;
        buf_add_char(out, before);
        attr_write_str(out, str_has(v[i].key) ? v[i].key : STR_LIT(""));
        buf_add_char(out, ':');
        write_value(out, &v[i].value, depth);
        before = ',';
    }
    if (before == '{')
        buf_add_char(out, '{');
    buf_add_char(out, '}');
    arena_done(&marks);
}

static void write_array(struct buf *out, const struct attr_value *v, unsigned depth) {
    buf_add_char(out, '[');
    for (size_t i = 0; i < v->n && !out->failed; i++) {
        if (i > 0)
            buf_add_char(out, ',');
        write_value(out, &v->items[i], depth);
    }
    buf_add_char(out, ']');
}

static void write_value(struct buf *out, const struct attr_value *v, unsigned depth) {
    struct json_writer w;

    jw_init(&w, out);
    switch (depth < ATTR_MAX_DEPTH ? v->type : ATTR_EMPTY) {
    case ATTR_EMPTY: jw_null(&w); break;
    case ATTR_STR: jw_str(&w, v->s); break;
    case ATTR_BOOL: jw_bool(&w, v->boolean); break;
    case ATTR_INT: jw_i64(&w, v->i); break;
    case ATTR_DOUBLE:
        if (isfinite(v->d))
            jw_f64(&w, v->d);
        else
            jw_str(&w, isnan(v->d) ? STR_LIT("NaN") : v->d > 0 ? STR_LIT("Infinity") : STR_LIT("-Infinity"));
        break;
    case ATTR_ARRAY: write_array(out, v, depth + 1); break;
    case ATTR_KVLIST: write_members(out, v->members, v->n, NULL, depth + 1); break;
    case ATTR_BYTES: write_bytes(out, v->s); break;
    }
}

void attr_write_json(struct buf *out, const struct attr_value *v) { write_value(out, v, 0); }

void attr_list_write_json(struct buf *out, const struct attr_list *l, const bool *skip) {
    write_members(out, l->v, l->n, skip, 0);
}

struct str attr_list_json(struct arena *a, const struct attr_list *l) {
    struct buf out;
    struct str text = STR_NONE;

    buf_init(&out, SIZE_MAX);
    attr_list_write_json(&out, l, NULL);
    if (!out.failed)
        text = arena_str(a, buf_str(&out));
    buf_done(&out);
    return text;
}

bool attr_is_container_json(struct str s) {
    s = str_trim(s);
    return s.n > 1 && (s.p[0] == '{' || s.p[0] == '[') && json_valid(s, PAYLOAD_DEPTH);
}

/* Can a trimmed text be JSON at all? Most plain text is told by its first byte, without a parser. */
static bool is_json(struct str s) {
    if (s.n == 0)
        return false;
    switch (s.p[0]) {
    case 't': return str_eq_c(s, "true");
    case 'f': return str_eq_c(s, "false");
    case 'n': return str_eq_c(s, "null");
    case '{':
    case '[':
    case '"':
    case '-': return json_valid(s, PAYLOAD_DEPTH);
    default: return s.p[0] >= '0' && s.p[0] <= '9' && json_valid(s, PAYLOAD_DEPTH);
    }
}

struct str attr_payload_json(struct arena *a, const struct attr_value *v) {
    struct buf out;
    struct str text = STR_NONE;

    if (v->type == ATTR_EMPTY)
        return STR_NONE;
    if (v->type == ATTR_STR) {
        struct str trimmed = str_trim(v->s);
        if (is_json(trimmed))
            return trimmed;
    }
    buf_init(&out, SIZE_MAX);
    if (v->type == ATTR_STR)
        buf_reserve(&out, v->s.n + v->s.n / 16 + 2);
    attr_write_json(&out, v);
    if (!out.failed)
        text = arena_str(a, buf_str(&out));
    buf_done(&out);
    return text;
}
