/* bodies.c -- templates and their filling, and the native batches; see bodies.h. bodies_otlp.c builds the others. */
#include "bodies.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_BYTES ((size_t)16 << 20)
#define SYSTEM_STEP 4096 /* bytes from one system prompt's text to the next, at the start of the words */
#define TURNS_MAX (2 * AGENT_TURNS)

/* ---- the words ---- */

/* Made-up words, common ones far more often than rare ones, with a number and stops now and then. zstd -1 leaves 1/1.30 of
 * 211 bytes of it and 1/1.81 of 4,450; of the documentation of packages it left 1/1.21 and 1/1.82. */
void words_make(struct words *w, uint64_t seed) {
    enum { VOCABULARY = 20000, WORD_MAX = 20 };
    static const char *const onsets[] = { "b",  "c",  "d",  "f",  "g",  "h", "j",  "k",  "l",  "m",  "n",
                                          "p",  "qu", "r",  "s",  "t",  "v", "w",  "z",  "st", "tr", "pr",
                                          "ch", "sh", "th", "pl", "gr", "x", "bl", "cr", "",   "y" };
    static const char *const rimes[] = { "a",  "e",  "i",  "o",   "u",   "an",  "er", "in", "on",   "al",  "ent",
                                         "ow", "ee", "es", "at",  "or",  "ick", "um", "y",  "ough", "arm", "if",
                                         "op", "ud", "ax", "ion", "ing", "ive", "ap", "el", "ir",   "ance" };
    char(*vocabulary)[WORD_MAX] = need(calloc(VOCABULARY, WORD_MAX));
    for (unsigned i = 0; i < VOCABULARY; i++) {
        unsigned syllables = i < 100 ? 1 : 2 + (unsigned)(rng(&seed) % 2);
        for (unsigned s = 0; s < syllables; s++) {
            size_t n = strlen(vocabulary[i]);
            uint64_t r = rng(&seed);
            snprintf(vocabulary[i] + n, WORD_MAX - n, "%s%s", onsets[r % 32], rimes[r >> 8 & 31]);
        }
        if (i % 9 == 0)
            vocabulary[i][0] = (char)(vocabulary[i][0] - 'a' + 'A');
    }
    w->p = need(malloc(WORDS_BYTES));
    w->n = 0;
    while (w->n < WORDS_BYTES) {
        uint64_t r = rng(&seed);
        char text[WORD_MAX + 4];
        int n = r % 29 == 0 ? snprintf(text, sizeof text, "%x ", (unsigned)(r >> 20 & 0xffffff))
                            : snprintf(text, sizeof text, "%s%s", vocabulary[shape_skewed(r, VOCABULARY)],
                                       r % 13 == 0   ? ". "
                                       : r % 11 == 0 ? ", "
                                                     : " ");
        size_t left = WORDS_BYTES - w->n, len = n > 0 ? (size_t)n : 0;
        memcpy(w->p + w->n, text, len < left ? len : left);
        w->n += len < left ? len : left;
    }
    free(vocabulary);
}

void words_free(struct words *w) {
    free(w->p);
    *w = (struct words){ 0 };
}

/* ---- building ---- */

void add(struct template *t, const void *p, size_t n) {
    if (t->n + n > t->cap) {
        t->cap = (t->n + n) * 2;
        t->p = need(realloc(t->p, t->cap));
    }
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

void add_text(struct template *t, const char *s) { add(t, s, strlen(s)); }

static void remember(struct template *t, struct place p) {
    if (t->nplaces == t->places_cap) {
        t->places_cap = t->places_cap * 2 + 64;
        t->places = need(realloc(t->places, t->places_cap * sizeof *t->places));
    }
    t->places[t->nplaces++] = p;
}

void add_sized(struct template *t, enum place_kind kind, size_t length, unsigned index) {
    remember(t, (struct place){ t->n, length, kind, index });
    for (size_t i = 0; i < length; i++)
        add(t, "0", 1);
}

void add_place(struct template *t, enum place_kind kind, unsigned index) {
    static const size_t sizes[PLACE_KINDS] = {
        [PLACE_TRACE_UUID] = UUID_TEXT,
        [PLACE_TRACE_RAW] = 16,
        [PLACE_ID_UUID] = UUID_TEXT,
        [PLACE_ID_RAW] = 8,
        [PLACE_START] = TIME_TEXT,
        [PLACE_END] = TIME_TEXT,
        [PLACE_START_FIXED] = 8,
        [PLACE_END_FIXED] = 8,
        [PLACE_USER] = USER_TEXT,
        [PLACE_SESSION] = SESSION_TEXT,
        [PLACE_NAME] = NAME_TEXT,
        [PLACE_TAG] = TAG_TEXT,
        [PLACE_TEAM] = TEAM_TEXT,
        [PLACE_ONCE] = ONCE_TEXT,
        [PLACE_VARINT] = 2,
    };
    add_sized(t, kind, sizes[kind], index);
}

void add_template(struct template *t, struct template *inner) {
    for (size_t i = 0; i < inner->nplaces; i++) {
        struct place p = inner->places[i];
        p.at += t->n;
        remember(t, p);
    }
    add(t, inner->p, inner->n);
    template_free(inner);
}

void template_free(struct template *t) {
    free(t->p);
    free(t->places);
    *t = (struct template){ 0 };
}

/* ---- the native batch: one trace object, observations of ten traces ---- */

static void add_trace(struct template *t) {
    add_text(t, "{\"trace\":{\"id\":\"");
    add_place(t, PLACE_TRACE_UUID, 0);
    add_text(t, "\",\"timestamp\":\"");
    add_place(t, PLACE_START, 0);
    add_text(t, "\",\"name\":\"");
    add_place(t, PLACE_NAME, 0);
    add_text(t, "\",\"userId\":\"");
    add_place(t, PLACE_USER, 0);
    add_text(t, "\",\"sessionId\":\"");
    add_place(t, PLACE_SESSION, 0);
    add_text(t, "\",\"tags\":[\"");
    add_place(t, PLACE_TAG, 0);
    add_text(t, "\",\"");
    add_place(t, PLACE_TEAM, 0);
    add_text(t, "\",\"");
    add_place(t, PLACE_ONCE, 0);
    add_text(t, "\"],\"metadata\":{\"region\":\"eu-1\",\"turn\":");
    add_sized(t, PLACE_DIGITS, 3, 0);
    add_text(t, "}},\"observations\":[");
}

static const char *model_of(unsigned o) {
    static const char *const models[] = { "gpt-4o-mini", "gpt-4o", "claude-sonnet-4", "llama-3.1-70b" };
    return models[o % 4];
}

static void add_key(struct template *t, const char *key, const char *value) {
    add_text(t, ",\"");
    add_text(t, key);
    add_text(t, "\":\"");
    add_text(t, value);
    add_text(t, "\"");
}

static void add_ids(struct template *t, unsigned trace, unsigned id) {
    add_text(t, "{\"id\":\"");
    add_place(t, PLACE_ID_UUID, id);
    add_text(t, "\",\"traceId\":\"");
    add_place(t, PLACE_TRACE_UUID, trace);
    add_text(t, "\"");
}

/* The later half of an observation: when it ended and what came out. */
static void add_outcome(struct template *t, unsigned id, size_t text) {
    add_text(t, ",\"endTime\":\"");
    add_place(t, PLACE_END, id);
    add_text(t, "\",\"promptTokens\":");
    add_sized(t, PLACE_DIGITS, 3, 0);
    add_text(t, ",\"completionTokens\":");
    add_sized(t, PLACE_DIGITS, 3, 0);
    add_text(t, ",\"output\":\"");
    add_sized(t, PLACE_TEXT, text, 0);
    add_text(t, "\"}");
}

static void add_messages(struct template *t, size_t text) {
    add_text(t, ",\"input\":[{\"role\":\"system\",\"content\":\"");
    add_sized(t, PLACE_SYSTEM, text / 3, 0);
    add_text(t, "\"},{\"role\":\"user\",\"content\":\"");
    add_sized(t, PLACE_TEXT, text - text / 3, 0);
    add_text(t, "\"}]");
}

/* The first two of a trace are spans, the others generations below the first. Called twice: to learn what is left for
 * text, then with it. */
static void add_observation_with(struct template *t, unsigned trace, unsigned o, bool open, size_t text) {
    static const char *const names[] = { "agent", "retrieve", "plan", "answer", "critique" };
    unsigned id = trace * OBSERVATIONS_EACH + o;
    add_ids(t, trace, id);
    if (o > 0) {
        add_text(t, ",\"parentObservationId\":\"");
        add_place(t, PLACE_ID_UUID, trace * OBSERVATIONS_EACH);
        add_text(t, "\"");
    }
    add_key(t, "type", o < 2 ? "SPAN" : "GENERATION");
    add_key(t, "name", names[o < 2 ? o : 2 + o % 3]);
    if (o >= 2)
        add_key(t, "model", model_of(o));
    add_text(t, ",\"startTime\":\"");
    add_place(t, PLACE_START, id);
    add_text(t, "\"");
    add_messages(t, text / 2);
    if (open)
        add_text(t, "}");
    else
        add_outcome(t, id, text - text / 2);
    add_text(t, ",");
}

static void add_observation(struct template *t, unsigned trace, unsigned o, bool open, size_t size) {
    struct template bare = { 0 };
    add_observation_with(&bare, trace, o, open, 0);
    size_t used = bare.n;
    template_free(&bare);
    add_observation_with(t, trace, o, open, size > used + 8 ? size - used : 8);
}

static void add_update(struct template *t, unsigned k, size_t size) {
    add_ids(t, UPDATED + k, UPDATED + k);
    add_outcome(t, UPDATED + k, size / 4);
    add_text(t, ",");
}

void build_native(struct template *t, size_t size, bool updates) {
    add_trace(t);
    for (unsigned k = 0; k < TRACES; k++)
        for (unsigned o = 0; o < OBSERVATIONS_EACH; o++)
            add_observation(t, k, o, updates && o == OPEN_OBSERVATION, size);
    for (unsigned k = 0; updates && k < UPDATES; k++)
        add_update(t, k, size);
    t->n--; /* the last comma */
    add_text(t, "]}");
}

void build_lone(struct template *t, size_t size) {
    add_trace(t);
    add_observation(t, 0, 0, false, size);
    t->n--;
    add_text(t, "]}");
}

void build_agent(struct template *t, size_t turn) {
    add_trace(t);
    for (unsigned o = 0; o < AGENT_TURNS; o++) {
        add_ids(t, 0, o);
        add_key(t, "type", "GENERATION");
        add_key(t, "name", "step");
        add_key(t, "model", model_of(0));
        add_text(t, ",\"startTime\":\"");
        add_place(t, PLACE_START, o);
        add_text(t, "\",\"input\":[{\"role\":\"system\",\"content\":\"");
        add_sized(t, PLACE_SYSTEM, turn, 0);
        for (unsigned k = 0; k <= o; k++) {
            add_text(t, k ? "\"},{\"role\":\"assistant\",\"content\":\"" : "");
            if (k)
                add_sized(t, PLACE_TURN, turn, 2 * k - 1);
            add_text(t, "\"},{\"role\":\"user\",\"content\":\"");
            add_sized(t, PLACE_TURN, turn, 2 * k);
        }
        add_text(t, "\"}],\"output\":\"");
        add_sized(t, PLACE_TURN, turn, 2 * o + 1);
        add_text(t, "\",\"endTime\":\"");
        add_place(t, PLACE_END, o);
        add_text(t, "\",\"promptTokens\":");
        add_sized(t, PLACE_DIGITS, 4, 0);
        add_text(t, ",\"completionTokens\":");
        add_sized(t, PLACE_DIGITS, 3, 0);
        add_text(t, "},");
    }
    t->n--;
    add_text(t, "]}");
}

/* ---- making a body ---- */

struct filling {
    const struct shape *shape;
    const struct words *words;
    uint64_t body, earlier, random;
    struct trace_shape traces[TRACES + UPDATES];
    size_t turns[TURNS_MAX]; /* where each turn's text starts */
    size_t system;
};

/* Trace `index` of the body; UPDATED + k: trace k of the earlier one. */
static const struct trace_shape *trace_at(const struct filling *f, unsigned index) {
    return &f->traces[index < UPDATED ? index : TRACES + (index - UPDATED)];
}

static const struct trace_shape *trace_of(const struct filling *f, unsigned observation) {
    return observation < UPDATED ? &f->traces[observation / OBSERVATIONS_EACH % TRACES] : trace_at(f, observation);
}

static void id_of(const struct filling *f, unsigned observation, uint64_t ret_id[2]) {
    if (observation < UPDATED)
        shape_observation_id(f->shape, f->body * TRACES + observation / OBSERVATIONS_EACH,
                             observation % OBSERVATIONS_EACH, ret_id);
    else
        shape_observation_id(f->shape, f->earlier * TRACES + (observation - UPDATED), OPEN_OBSERVATION, ret_id);
}

/* Observations of a trace start 100 ms apart and take 50 to 1,200 ms. */
static int64_t start_of(const struct filling *f, unsigned observation) {
    unsigned o = observation < UPDATED ? observation % OBSERVATIONS_EACH : OPEN_OBSERVATION;
    return trace_of(f, observation)->start_ns + (int64_t)o * 100000000;
}

static int64_t end_of(struct filling *f, unsigned observation) {
    return start_of(f, observation) + 50000000 + (int64_t)(rng(&f->random) % 1150000000);
}

static void put_number(struct filling *f, char *to, size_t digits) {
    put_decimal(to, rng(&f->random) % 10000000000, (unsigned)digits);
    if (*to == '0')
        *to = '1';
}

static void put_fixed(char *to, int64_t v) { memcpy(to, &v, 8); } /* protobuf's order is that of the machines we know */

static void put_slice(struct filling *f, char *to, size_t n, size_t at) {
    memcpy(to, f->words->p + at % (f->words->n - n), n);
}

static void fill_place(struct filling *f, const struct place *pl, char *to) {
    const struct trace_shape *trace = trace_at(f, pl->index < UPDATED ? pl->index % TRACES : pl->index);
    uint64_t id[2];
    switch (pl->kind) {
    case PLACE_TRACE_UUID: put_uuid(to, trace->id); break;
    case PLACE_TRACE_RAW:
        put_raw(to, trace->id[0]);
        put_raw(to + 8, trace->id[1]);
        break;
    case PLACE_ID_UUID:
        id_of(f, pl->index, id);
        put_uuid(to, id);
        break;
    case PLACE_ID_RAW:
        id_of(f, pl->index, id);
        put_raw(to, id[0]);
        break;
    case PLACE_START: put_time(to, start_of(f, pl->index)); break;
    case PLACE_END: put_time(to, end_of(f, pl->index)); break;
    case PLACE_START_FIXED: put_fixed(to, start_of(f, pl->index)); break;
    case PLACE_END_FIXED: put_fixed(to, end_of(f, pl->index)); break;
    case PLACE_USER: put_user(to, trace->user); break;
    case PLACE_SESSION: put_session(to, trace->session); break;
    case PLACE_NAME: put_name(to, trace->name); break;
    case PLACE_TAG: put_tag(to, trace->tag); break;
    case PLACE_TEAM: put_team(to, trace->team); break;
    case PLACE_ONCE: put_once(to, f->body * TRACES + pl->index); break;
    case PLACE_DIGITS: put_number(f, to, pl->length); break;
    case PLACE_VARINT:
        to[0] = (char)(rng(&f->random) | 128);
        to[1] = (char)(1 + rng(&f->random) % 15);
        break;
    case PLACE_SYSTEM: put_slice(f, to, pl->length, rng(&f->random) % SYSTEM_PROMPTS * SYSTEM_STEP); break;
    case PLACE_TEXT: put_slice(f, to, pl->length, rng(&f->random)); break;
    case PLACE_TURN: put_slice(f, to, pl->length, f->turns[pl->index % TURNS_MAX]); break;
    case PLACE_KINDS: break;
    }
}

void template_fill(struct template *t, const struct shape *s, const struct words *w, uint64_t body, uint64_t earlier) {
    struct filling f = { .shape = s, .words = w, .body = body, .earlier = earlier };
    f.random = shape_mix(s->seed, 1000, body);
    for (unsigned k = 0; k < TRACES; k++) {
        shape_trace(s, body * TRACES + k, &f.traces[k]);
        shape_trace(s, earlier * TRACES + k, &f.traces[TRACES + k]);
    }
    for (unsigned k = 0; k < TURNS_MAX; k++)
        f.turns[k] = (size_t)rng(&f.random);
    for (size_t i = 0; i < t->nplaces; i++)
        fill_place(&f, &t->places[i], t->p + t->places[i].at);
}
