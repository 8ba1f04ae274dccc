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
    struct str s;              /* ATTR_STR: valid UTF-8; ATTR_BYTES: raw bytes */
    struct attr_value *items;  /* ATTR_ARRAY */
    struct attr *members;      /* ATTR_KVLIST */
    size_t n;                  /* count of items or members */
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
/* JSON text of a value: strings quoted, NaN/Inf null, bytes base64, empty null. Appends to out. */
void attr_write_json(struct buf *out, const struct attr_value *v);
/* JSON object of a list (last of equal keys wins), as arena text. STR_NONE: no memory. */
struct str attr_list_json(struct arena *a, const struct attr_list *l);
/* A string attribute that holds JSON (object, array, quoted string ... up to 1,000 levels, D10) gives that text; other
 * strings give their JSON string; other values their JSON. STR_NONE: no memory or ATTR_EMPTY. */
struct str attr_payload_json(struct arena *a, const struct attr_value *v);
