/* json_merge.c -- both texts are parsed into nodes of a scratch arena (arrays stay raw), then written as one object.
 *
 * Order: the stored members first, in their order, then what is new. A name given twice counts with its last value.
 * The result is never longer than both texts together: names come back with the same or shorter escapes. */
#include "json/json_merge.h"

#include <string.h>

#include "base/buf.h"
#include "base/map.h"
#include "json/json_read.h"
#include "json/json_write.h"

#define MERGE_DEPTH 1000

/* One name of the result. */
struct pair {
    struct str key;
    const struct json *stored, *given; /* the last of that name, or NULL */
    struct pair *next;
};

struct pairs {
    struct map by_key;
    struct pair *first, **tail;
};

/* The pair of that name, new at the end when there is none. NULL: no memory. */
static struct pair *find_pair(struct pairs *pairs, struct arena *scratch, struct str key) {
    struct pair *p = map_get(&pairs->by_key, key);
    if (p) {
        return p;
    }
    p = arena_new(scratch, struct pair, 1);
    if (!p || !map_put(&pairs->by_key, key, p)) {
        return NULL;
    }
    p->key = key;
    *pairs->tail = p;
    pairs->tail = &p->next;
    return p;
}

static bool is_object(const struct json *v) { return v && v->type == JSON_OBJECT; }

/* Appends the union of two objects. Recursion is bounded by MERGE_DEPTH, which the parser keeps. */
static bool merge_objects(struct arena *scratch, struct buf *out, const struct json *stored, const struct json *given) {
    struct pairs pairs = { .tail = &pairs.first };
    map_init(&pairs.by_key, scratch);
    for (const struct json *m = stored->child; m; m = m->next) {
        struct pair *p = find_pair(&pairs, scratch, m->key);
        if (!p) {
            return false;
        }
        p->stored = m;
    }
    for (const struct json *m = given->child; m; m = m->next) {
        struct pair *p = find_pair(&pairs, scratch, m->key);
        if (!p) {
            return false;
        }
        p->given = m;
    }
    buf_add_char(out, '{');
    for (const struct pair *p = pairs.first; p; p = p->next) {
        struct json_writer name; /* only for the quotes and escapes of the name */
        jw_init(&name, out);
        jw_str(&name, p->key);
        buf_add_char(out, ':');
        if (!is_object(p->stored) || !is_object(p->given)) {
            buf_add_str(out, p->given ? p->given->raw : p->stored->raw);
        } else if (!merge_objects(scratch, out, p->stored, p->given)) {
            return false;
        }
        if (p->next) {
            buf_add_char(out, ',');
        }
    }
    buf_add_char(out, '}');
    return !out->failed;
}

static enum xt_code parse_padded(struct arena *scratch, struct str text, const struct json **ret) {
    static const struct json_opts opts = { .max_depth = MERGE_DEPTH, .lenient = true, .raw_arrays = true };
    char *copy = text.n < SIZE_MAX - JSON_PADDING ? arena_bytes(scratch, text.n + JSON_PADDING) : NULL;
    if (!copy) {
        return XT_ENOMEM;
    }
    memcpy(copy, text.p, text.n);
    memset(copy + text.n, ' ', JSON_PADDING);
    return json_parse(scratch, (struct str){ copy, text.n }, &opts, ret, NULL);
}

/* `given` when one of the two is no object, or no JSON that can be merged. */
static struct str merge(struct arena *a, struct arena *scratch, struct buf *out, struct str stored, struct str given) {
    const struct json *old = NULL, *new = NULL;
    enum xt_code code = parse_padded(scratch, stored, &old);
    if (code == XT_OK) {
        code = parse_padded(scratch, given, &new);
    }
    if (code == XT_EINVAL) { /* too deep */
        return given;
    }
    if (code == XT_OK && (!is_object(old) || !is_object(new))) {
        return given;
    }
    if (code != XT_OK || !buf_reserve(out, stored.n + given.n) || !merge_objects(scratch, out, old, new)) {
        a->failed = true;
        return STR_NONE;
    }
    return arena_str(a, buf_str(out));
}

static bool begins_object(struct str s) {
    s = str_trim(s);
    return s.n > 0 && s.p[0] == '{';
}

struct str json_merge(struct arena *a, struct str stored, struct str given) {
    if (!given.p) {
        return stored;
    }
    if (!stored.p || !begins_object(stored) || !begins_object(given)) {
        return given;
    }
    struct arena scratch;
    struct buf out;
    arena_init(&scratch, a->limit);
    buf_init(&out, stored.n + given.n);
    struct str ret = merge(a, &scratch, &out, stored, given);
    buf_done(&out);
    arena_done(&scratch);
    return ret;
}
