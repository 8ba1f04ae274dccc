/* keys.c -- see keys.h. Most metadata has none of the names: that is seen without parsing. */
#include "store/fold/keys.h"

#include <string.h>

#include "json/json_read.h"

#define DEPTH 1024

static const char *const names[RECORD_KEYS] = { "turn_id", "run_id", "step_id", "parent_step_id" };

static bool may_have(struct str metadata) {
    return memmem(metadata.p, metadata.n, "_id", 3) || memmem(metadata.p, metadata.n, "\\u", 2);
}

static bool never(void *arg, unsigned depth, const struct json *parent, struct str key) {
    (void)arg;
    (void)depth;
    (void)parent;
    (void)key;
    return false;
}

bool record_keys_of(struct arena *a, struct str metadata, struct record_keys *ret) {
    const struct json_opts opts = { .max_depth = DEPTH, .lenient = true, .expand = never, .raw_arrays = true };
    const struct json *doc = NULL;
    memset(ret, 0, sizeof *ret);
    if (!str_has(metadata) || metadata.n < 2 || metadata.p[0] != '{' || !may_have(metadata))
        return true;
    char *copy = arena_bytes(a, metadata.n + JSON_PADDING);
    if (!copy)
        return false;
    memcpy(copy, metadata.p, metadata.n);
    memset(copy + metadata.n, 0, JSON_PADDING);
    if (json_parse(a, (struct str){ copy, metadata.n }, &opts, &doc, NULL) != XT_OK)
        return !a->failed; /* what is no JSON has no members */
    for (size_t i = 0; i < RECORD_KEYS; i++) {
        const struct json *m = json_get(doc, names[i]);
        if (m && m->type == JSON_STRING)
            ret->v[i] = m->text;
        else if (m && m->type == JSON_NUMBER)
            ret->v[i] = m->raw;
    }
    return true;
}

bool record_keys_any(const struct record_keys *k) {
    for (size_t i = 0; i < RECORD_KEYS; i++)
        if (str_has(k->v[i]))
            return true;
    return false;
}
