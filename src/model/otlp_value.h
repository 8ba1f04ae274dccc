/* otlp_value.h -- attribute values -> field values, one decoder a kind (private to the OTLP mapper). */
#pragma once
#include "base/arena.h"
#include "model/event.h"
#include "model/otlp_rules.h"

enum otlp_found {
    FOUND_NO,   /* the next row may try */
    FOUND_YES,  /* the field is set, the attribute is used up */
    FOUND_KEEP, /* the field is set, the attribute stays readable in metadata */
    FOUND_STOP  /* the field stays absent, no further row is asked */
};
/* Where results live: text in the batch (its body or arena), entries and nodes in scratch. Missing memory gives FOUND_NO
 * and leaves `failed` of one of the arenas set: the mapper looks there once a span. */
struct otlp_values {
    struct batch *b;
    struct arena *scratch;
};

/* Decodes v into the rule's field of *f. For a PREFIX rule, `entry` is the entry's key. */
enum otlp_found otlp_decode(const struct otlp_values *c, const struct otlp_rule *rule, const struct attr_value *v,
                            struct str entry, struct otlp_fields *f);
/* A string that holds a JSON scalar becomes that value; text of objects, arrays and of no JSON stays. Unescaped text is
 * placed in `a`. */
void otlp_decode_json_text(struct arena *a, struct attr_value *v);
/* The text where it outlives the span: in the body if it is there, else copied to the batch's arena. */
struct str otlp_keep(const struct otlp_values *c, struct str s);
/* Calls add(arg, tag) for each tag in one of their forms: array, JSON array text, comma text, single text. */
void otlp_each_tag(const struct otlp_values *c, const struct attr_value *v, void (*add)(void *arg, struct str tag),
                   void *arg);

/* ---- entries ---- */
void otlp_entries_clear(struct otlp_entries *e);
/* Adds or replaces; false: no memory. The key must outlive the entries. */
bool otlp_entries_set(struct arena *a, struct otlp_entries *e, struct otlp_entry entry);
struct otlp_entry *otlp_entries_find(const struct otlp_entries *e, struct str key);
