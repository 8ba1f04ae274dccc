/* bodies.h -- request bodies as templates: bytes that stay, and places where every request writes something fresh.
 *
 *  1. A template is built once for each connection; making the next body is a pass over its places, 10 to 20 us for 100
 *     observations, so that the generator does not compete with the server it measures.
 *  2. All fresh values have a fixed length, in JSON as in protobuf.
 *  3. What a body holds depends on (seed, number of the body) alone, not on the connection that sends it.
 *  4. Payloads are slices of one large text at random: they share words, not sentences, but for eight system prompts that
 *     every generation's input starts with one of. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shape.h"

#define UPDATES TRACES     /* of a body with updates: one observation of each trace of an earlier body */
#define OPEN_OBSERVATION 9 /* the one that is created open and completed later */
#define AGENT_TURNS 30
#define SYSTEM_PROMPTS 8

/* What a place gets. `index` says of what: a trace (0 to 9) or an observation (trace * 10 + o) of the body; UPDATED and
 * above are those of the earlier body that this one completes. */
enum place_kind {
    PLACE_TRACE_UUID,
    PLACE_TRACE_RAW, /* 16 bytes */
    PLACE_ID_UUID,
    PLACE_ID_RAW, /* 8 bytes */
    PLACE_START,  /* text of a time */
    PLACE_END,
    PLACE_START_FIXED, /* nanoseconds, fixed64 */
    PLACE_END_FIXED,
    PLACE_USER,
    PLACE_SESSION,
    PLACE_NAME,
    PLACE_TAG,
    PLACE_TEAM,
    PLACE_ONCE,
    PLACE_DIGITS, /* `length` random ones, the first not 0 */
    PLACE_VARINT, /* two bytes, 128 to 16383 */
    PLACE_SYSTEM, /* a system prompt */
    PLACE_TEXT,
    PLACE_TURN, /* text number `index`: the same in all places with this number */
    PLACE_KINDS,
};
#define UPDATED BODY_OBSERVATIONS

struct place {
    size_t at, length;
    enum place_kind kind;
    unsigned index;
};

struct template {
    char *p;
    size_t n, cap;
    struct place *places;
    size_t nplaces, places_cap;
};

/* The text that payloads are cut from. */
struct words {
    char *p;
    size_t n;
};
void words_make(struct words *w, uint64_t seed);
void words_free(struct words *w);

/* `size`: bytes of one observation in its format, about. `updates`: one observation of each trace is left open, and the
 * body completes those of an earlier one. */
void build_native(struct template *t, size_t size, bool updates);
void build_lone(struct template *t, size_t size);
void build_agent(struct template *t, size_t turn); /* one trace; each call repeats all turns before it */
void build_otlp(struct template *t, size_t size);

/* Makes `t` body number `body`; `earlier`: the body whose open observations it completes. */
void template_fill(struct template *t, const struct shape *s, const struct words *w, uint64_t body, uint64_t earlier);
void template_free(struct template *t);

/* ---- for those who build ---- */

void add(struct template *t, const void *p, size_t n);
void add_text(struct template *t, const char *s);
void add_place(struct template *t, enum place_kind kind, unsigned index);
void add_sized(struct template *t, enum place_kind kind, size_t length, unsigned index);
void add_template(struct template *t, struct template *inner); /* appends it with its places and frees it */
