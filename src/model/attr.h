/* attr.h -- OpenTelemetry attributes as both decoders (protobuf and JSON) deliver them, and their JSON text. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

enum attr_type { ATTR_EMPTY, ATTR_STR, ATTR_BOOL, ATTR_INT, ATTR_DOUBLE, ATTR_ARRAY, ATTR_KVLIST, ATTR_BYTES };
struct attr;
struct attr_value {
    enum attr_type type;
    bool boolean;
    int64_t i;
    double d;
    struct str s;             /* ATTR_STR: valid UTF-8; ATTR_BYTES: raw bytes */
    struct attr_value *items; /* ATTR_ARRAY */
    struct attr *members;     /* ATTR_KVLIST */
    size_t n;                 /* count of items or members */
};
struct attr {
    struct str key;
    struct attr_value value;
};
struct attr_list {
    struct attr *v;
    size_t n, cap;
};
#define ATTR_MAX_DEPTH 100 /* nested arrays and kvlists (otlp A.4) */

/* Room for one more at the end (doubles in the arena), zeroed; NULL: no memory. */
struct attr *attr_list_add(struct arena *a, struct attr_list *l);
/* The last attribute of that key (duplicates are a producer's bug: the last one counts), or NULL. */
const struct attr_value *attr_find(const struct attr_list *l, const char *key);
/* JSON text of a value: strings quoted, NaN and the infinities as the text that OTLP's JSON has for them, bytes base64,
 * empty null. Appends to out. */
void attr_write_json(struct buf *out, const struct attr_value *v);
/* A JSON string; absent: null. */
void attr_write_str(struct buf *out, struct str s);
/* JSON object of a list, last of equal keys wins; attributes i with skip[i] are left out (skip may be NULL). */
void attr_list_write_json(struct buf *out, const struct attr_list *l, const bool *skip);
/* JSON object of a list as arena text. STR_NONE: no memory. */
struct str attr_list_json(struct arena *a, const struct attr_list *l);
/* A string attribute that holds JSON (object, array, number, quoted string ... up to 1,000 levels) gives that text
 * itself, without blanks around it; other strings give their JSON string; other values their JSON. The result lives in
 * the arena or where the string does. STR_NONE: no memory or ATTR_EMPTY. */
struct str attr_payload_json(struct arena *a, const struct attr_value *v);
/* Is the string one JSON object or array of up to 1,000 levels? */
bool attr_is_container_json(struct str s);
