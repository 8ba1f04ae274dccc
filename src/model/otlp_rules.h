/* otlp_rules.h -- the table that says which attribute feeds which field. Conventions are rows; code is in otlp_map.c.
 *
 *  1. Rows of one field stand together, the one that wins first: a field is done with its first row that yields.
 *  2. An attribute that a row took is left out of the observation's metadata, unless the decoder says to keep it. Rows of
 *     the trace's own fields take it from a root only: below it, another span's value may win.
 *  3. A key may feed several fields. EXACT rows are found by one look-up an attribute, whatever the number of rows. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "model/attr.h"
#include "model/event.h"

enum otlp_match {
    MATCH_EXACT, /* the attribute's key */
    MATCH_PREFIX /* every key that starts so; what follows is the entry's key */
};
enum otlp_decoder {
    AS_TEXT,    /* struct str: a string that is not empty; other values as their JSON text */
    AS_TYPE,    /* struct str: an observation type, upper case; unknown ones yield nothing */
    AS_LEVEL,   /* struct str: a level by its name or alias; an alias stays in metadata */
    AS_ENV,     /* struct str: an environment, normalised, in metadata as sent if that changed it; what
                 * cannot be one yields nothing */
    AS_PAYLOAD, /* struct str: JSON; a string that holds JSON is taken as that, other strings as strings */
    AS_OBJECT,  /* struct str: a JSON object, as string or key-value list */
    AS_USAGE, /* struct str: as AS_OBJECT, in metadata too if a member is no count; other JSON says that there is no usage,
                 * and ends the search */
    AS_COST,   /* struct str: a JSON object's amounts from 0; stays in metadata if it holds anything else */
    AS_COUNT,  /* struct opt_i64: int, whole double or decimal string, from 0; unless AS_USAGE has spoken */
    AS_TIME,   /* int64_t: RFC 3339, also within quotes */
    AS_BOOL,   /* enum tri: a boolean or its name */
    AS_FLAG,   /* enum tri: as AS_BOOL, but stays in metadata */
    AS_ATTR,   /* const struct attr_value *: anything but an empty value */
    AS_ENTRIES /* struct otlp_entries: an object's members; anything else as member `metadata`. Or one PREFIX match */
};
enum { IN_SPAN = 1, IN_RESOURCE = 2 /* looked at after the span */, OF_TRACE = 4 /* the field is the trace's alone */ };

/* A member of metadata: its value is JSON text or an attribute. */
struct otlp_entry {
    struct str key, json;
    const struct attr_value *value;
};
/* Members by key, in order of arrival; a later value replaces an earlier one. */
struct otlp_entries {
    struct otlp_entry *v;
    size_t n, cap;
    struct map index; /* key -> number + 1, once there are many */
    bool indexed;
};
/* What the rules find on one span and its resource. */
struct otlp_fields {
    struct str type, level, status_message, model, model_parameters, input, output;
    struct str usage, cost;
    bool usage_said; /* AS_USAGE has spoken: single counts no longer count */
    struct opt_i64 tokens_in, tokens_out, tokens_total;
    struct str prompt_name, prompt_version;
    int64_t completion_start;
    struct otlp_entries metadata;
    struct str environment, release, version;
    struct str trace_name, user, session, trace_input, trace_output;
    const struct attr_value *tags;
    enum tri is_public, as_root;
    struct otlp_entries trace_metadata;
};
struct otlp_rule {
    const char *key;
    uint8_t key_n, match, decoder, where;
    uint16_t offset; /* of the field in struct otlp_fields */
};
extern const struct otlp_rule otlp_rules[];
extern const size_t otlp_rules_n;
