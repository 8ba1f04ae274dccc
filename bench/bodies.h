/* bodies.h -- request bodies as templates: bytes that stay, and places where every request writes something fresh.
 *
 * A template is built once for each connection with text of its own; making the next request is a pass over its places:
 * about 5 us for 100 observations, so that the generator does not compete with the server it measures. All fresh values
 * have a fixed length, in JSON as in protobuf.
 *
 * Included by load.c alone. Allocation failures end the program: this is a tool. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "random.h"

#define TRACES 10 /* in a body */
#define POINTS 500
#define IDS_MAX (TRACES * (OBSERVATIONS_EACH + 1))
#define UUID_TEXT 36

/* What a place gets. `index` chooses one of the request's ids, so that several places show the same one. */
enum place_kind { PLACE_UUID, PLACE_RAW16, PLACE_RAW8, PLACE_HEX32, PLACE_TIME, PLACE_NANOS, PLACE_USER, PLACE_VALUE };
struct place {
    size_t at;
    enum place_kind kind;
    unsigned index;
};
struct template {
    char *p;
    size_t n, cap;
    struct place *places;
    size_t nplaces, places_cap;
};

struct fresh { /* of one request */
    uint64_t id[IDS_MAX][2];
    unsigned user;
};

/* ---- building ---- */

static void add(struct template *t, const void *p, size_t n) {
    if (t->n + n > t->cap) {
        t->cap = (t->n + n) * 2;
        t->p = need(realloc(t->p, t->cap));
    }
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

static void add_text(struct template *t, const char *s) { add(t, s, strlen(s)); }

static void add_place(struct template *t, enum place_kind kind, unsigned index) {
    static const size_t sizes[] = { [PLACE_UUID] = UUID_TEXT, [PLACE_RAW16] = 16, [PLACE_RAW8] = 8, [PLACE_HEX32] = 32,
                                    [PLACE_TIME] = 24,        [PLACE_NANOS] = 8,  [PLACE_USER] = 9, [PLACE_VALUE] = 5 };
    char blank[UUID_TEXT];
    memset(blank, '0', sizeof blank);
    if (t->nplaces == t->places_cap) {
        t->places_cap = t->places_cap * 2 + 64;
        t->places = need(realloc(t->places, t->places_cap * sizeof *t->places));
    }
    t->places[t->nplaces++] = (struct place){ t->n, kind, index };
    add(t, blank, sizes[kind]);
}

static void template_free(struct template *t) {
    free(t->p);
    free(t->places);
    *t = (struct template){ 0 };
}

/* Appends `inner` with its places and frees it. */
static void add_template(struct template *t, struct template *inner) {
    for (size_t i = 0; i < inner->nplaces; i++) {
        size_t before = t->n;
        t->n += inner->places[i].at;
        if (t->nplaces == t->places_cap) {
            t->places_cap = t->places_cap * 2 + 64;
            t->places = need(realloc(t->places, t->places_cap * sizeof *t->places));
        }
        t->places[t->nplaces++] = (struct place){ t->n, inner->places[i].kind, inner->places[i].index };
        t->n = before;
    }
    add(t, inner->p, inner->n);
    template_free(inner);
}

/* Text that compresses about as well as people's does: words of a small vocabulary, rare ones in between. */
static void add_words(struct template *t, size_t n) {
    static const char *const words[] = { "the ",      "model ",   "answers ", "with ",      "a ",        "summary ",
                                         "of ",       "user ",    "request ", "and ",       "context ",  "token ",
                                         "is ",       "not ",     "latency ", "retrieval ", "document ", "score ",
                                         "function ", "returns ", "because ", "prompt ",    "in ",       "to " };
    size_t end = t->n + n;
    while (t->n < end) {
        uint64_t r = rng();
        char rare[24];
        const char *word = words[r % (sizeof words / sizeof *words)];
        if (r >> 60 < 5) {
            snprintf(rare, sizeof rare, "%llx ", (unsigned long long)(r >> 34 & 0xffffff));
            word = rare;
        }
        size_t len = strlen(word);
        add(t, word, len < end - t->n ? len : end - t->n);
    }
}

/* ---- the native batch: one trace, observations of ten ---- */

static void add_observation(struct template *t, unsigned trace, unsigned id, size_t size) {
    size_t start = t->n;
    add_text(t, "{\"id\":\"");
    add_place(t, PLACE_UUID, id);
    add_text(t, "\",\"traceId\":\"");
    add_place(t, PLACE_UUID, trace);
    add_text(t, "\",\"type\":\"GENERATION\",\"name\":\"answer\",\"startTime\":\"");
    add_place(t, PLACE_TIME, 0);
    add_text(t, "\",\"endTime\":\"");
    add_place(t, PLACE_TIME, 0);
    add_text(
        t,
        "\",\"model\":\"gpt-4o-mini\",\"promptTokens\":120,\"completionTokens\":45,\"totalTokens\":165,\"input\":\"");
    size_t used = t->n - start + strlen("\",\"output\":\"\"},"), rest = size > used ? size - used : 0;
    add_words(t, rest / 2);
    add_text(t, "\",\"output\":\"");
    add_words(t, rest - rest / 2);
    add_text(t, "\"},");
}

static void add_trace(struct template *t) {
    add_text(t, "{\"trace\":{\"id\":\"");
    add_place(t, PLACE_UUID, 0);
    add_text(t, "\",\"timestamp\":\"");
    add_place(t, PLACE_TIME, 0);
    add_text(t, "\",\"name\":\"chat\",\"userId\":\"");
    add_place(t, PLACE_USER, 0);
    add_text(t, "\",\"sessionId\":\"");
    add_place(t, PLACE_HEX32, 1);
    add_text(t, "\",\"tags\":[\"bench\"]},\"observations\":[");
}

static void build_native(struct template *t, size_t size) {
    add_trace(t);
    for (unsigned k = 0; k < TRACES; k++)
        for (unsigned o = 0; o < OBSERVATIONS_EACH; o++)
            add_observation(t, k, TRACES + k * OBSERVATIONS_EACH + o, size);
    t->n--; /* the last comma */
    add_text(t, "]}");
}

/* One observation and its trace. */
static void build_lone(struct template *t, size_t size) {
    add_trace(t);
    add_observation(t, 0, TRACES, size);
    t->n--;
    add_text(t, "]}");
}

/* ---- OTLP in protobuf: ten traces of ten spans ---- */

static void add_varint(struct template *t, uint64_t v) {
    char b[10];
    size_t n = 0;
    for (; v > 127; v >>= 7)
        b[n++] = (char)(v | 128);
    b[n++] = (char)v;
    add(t, b, n);
}

static void add_field(struct template *t, unsigned number, struct template *inner) {
    add_varint(t, number << 3 | 2);
    add_varint(t, inner->n);
    add_template(t, inner);
}

static void add_bytes(struct template *t, unsigned number, const char *s) {
    add_varint(t, number << 3 | 2);
    add_varint(t, strlen(s));
    add_text(t, s);
}

static void add_fixed_place(struct template *t, unsigned number, size_t n, enum place_kind kind, unsigned index) {
    add_varint(t, number << 3 | 2);
    add_varint(t, n);
    add_place(t, kind, index);
}

/* One attribute with a text: words, a place, or `text`. */
static void add_attribute(struct template *span, const char *key, const char *text, size_t words,
                          enum place_kind place) {
    struct template kv = { 0 }, value = { 0 }, string = { 0 };
    add_bytes(&kv, 1, key);
    if (words)
        add_words(&string, words);
    else if (text)
        add_text(&string, text);
    else
        add_place(&string, place, 1);
    add_field(&value, 1, &string);
    add_field(&kv, 2, &value);
    add_field(span, 9, &kv);
}

static void build_span(struct template *span, unsigned trace, unsigned o, size_t size) {
    unsigned root = TRACES + trace * OBSERVATIONS_EACH;
    add_fixed_place(span, 1, 16, PLACE_RAW16, trace);
    add_fixed_place(span, 2, 8, PLACE_RAW8, root + o);
    if (o)
        add_fixed_place(span, 4, 8, PLACE_RAW8, root);
    add_bytes(span, 5, "answer");
    for (unsigned number = 7; number <= 8; number++) {
        add_varint(span, number << 3 | 1);
        add_place(span, PLACE_NANOS, 0);
    }
    add_attribute(span, "langfuse.observation.type", "generation", 0, PLACE_UUID);
    add_attribute(span, "langfuse.observation.model.name", "gpt-4o-mini", 0, PLACE_UUID);
    if (!o) {
        add_attribute(span, "langfuse.trace.name", "chat", 0, PLACE_UUID);
        add_attribute(span, "user.id", NULL, 0, PLACE_USER);
        add_attribute(span, "session.id", NULL, 0, PLACE_HEX32);
    }
    size_t used = span->n + 80, rest = size > used ? size - used : 2;
    add_attribute(span, "langfuse.observation.input", NULL, rest / 2, PLACE_UUID);
    add_attribute(span, "langfuse.observation.output", NULL, rest - rest / 2, PLACE_UUID);
}

static void build_otlp(struct template *t, size_t size) {
    struct template spans = { 0 }, scope = { 0 };
    add_bytes(&scope, 1, "bench");
    add_field(&spans, 1, &scope);
    for (unsigned k = 0; k < TRACES; k++)
        for (unsigned o = 0; o < OBSERVATIONS_EACH; o++) {
            struct template span = { 0 };
            build_span(&span, k, o, size);
            add_field(&spans, 2, &span);
        }
    struct template resource = { 0 };
    add_field(&resource, 2, &spans);
    add_field(t, 1, &resource);
}

/* ---- metrics ---- */

/* 1,600 series over the names and connections; `once`: a label of its own for each point. */
static void build_metrics(struct template *t, bool once, unsigned connection) {
    static const char *const names[] = { "gpu_utilization", "gpu_temperature", "kv_cache_usage", "pending_requests" };
    char text[200];
    add_text(t, "{\"metrics\":[");
    for (unsigned i = 0; i < POINTS; i++) {
        unsigned series = (connection * POINTS + i) % 1600;
        snprintf(text, sizeof text, "{\"name\":\"%s\",\"labels\":{\"node_id\":\"node-%02u\",\"gpu_index\":\"%u\"",
                 names[series % 4], series / 4 / 8, series / 4 % 8);
        add_text(t, text);
        if (once) {
            add_text(t, ",\"trace_id\":\"");
            add_place(t, PLACE_HEX32, IDS_MAX);
            add_text(t, "\"");
        }
        add_text(t, "},\"value\":");
        add_place(t, PLACE_VALUE, 0);
        add_text(t, ",\"timestamp\":\"");
        add_place(t, PLACE_TIME, 0);
        add_text(t, "\"},");
    }
    t->n--;
    add_text(t, "]}");
}

/* ---- making a request fresh ---- */

static void put_uuid(char *to, const uint64_t id[2]) {
    char hex[32];
    put_hex(hex, id[0], id[1]);
    static const int from[] = { 0, 8, 12, 16, 20 }, lengths[] = { 8, 4, 4, 4, 12 };
    for (int i = 0, at = 0; i < 5; i++) {
        if (i)
            to[at++] = '-';
        memcpy(to + at, hex + from[i], (size_t)lengths[i]);
        at += lengths[i];
    }
}

/* The 16 bytes that put_uuid prints. */
static void put_raw(char *to, const uint64_t id[2]) {
    for (int i = 0; i < 8; i++) {
        to[i] = (char)(id[0] >> (56 - 8 * i) & 255);
        to[8 + i] = (char)(id[1] >> (56 - 8 * i) & 255);
    }
}

static void put_time(char to[25], int64_t ns) {
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    char text[40];
    gmtime_r(&seconds, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%03dZ", (int)(ns / 1000000 % 1000));
    memcpy(to, text, 25);
}

static void refresh(struct template *t, struct fresh *f, int64_t now) {
    char time_text[25];
    put_time(time_text, now);
    f->user = (unsigned)(rng() % USERS);
    for (size_t i = 0; i < IDS_MAX; i++) {
        f->id[i][0] = rng();
        f->id[i][1] = rng();
    }
    for (size_t i = 0; i < t->nplaces; i++) {
        const struct place *pl = &t->places[i];
        char *to = t->p + pl->at, text[24];
        switch (pl->kind) {
        case PLACE_UUID: put_uuid(to, f->id[pl->index]); break;
        case PLACE_RAW16: put_raw(to, f->id[pl->index]); break;
        case PLACE_RAW8: memcpy(to, f->id[pl->index], 8); break;
        case PLACE_HEX32: put_hex(to, rng(), rng()); break;
        case PLACE_TIME: memcpy(to, time_text, 24); break;
        case PLACE_NANOS: memcpy(to, &now, 8); break;
        case PLACE_USER:
            snprintf(text, sizeof text, "user-%04u", f->user % 10000);
            memcpy(to, text, 9);
            break;
        case PLACE_VALUE:
            snprintf(text, sizeof text, "%05.1f", 100 + (double)(rng() % 8999) / 10);
            memcpy(to, text, 5);
            break;
        }
    }
}
