/* shape.c -- see shape.h. */
#include "shape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_SEC INT64_C(1000000000)

enum { KIND_TRACE, KIND_OBSERVATION, KIND_POINT, KIND_TRAITS, KIND_SESSION };

void *need(void *p) {
    if (p)
        return p;
    fputs("load: out of memory\n", stderr);
    exit(1);
}

uint64_t shape_mix(uint64_t seed, uint64_t kind, uint64_t number) {
    uint64_t state = seed + kind * UINT64_C(0xd1342543de82ef95);
    uint64_t a = rng(&state);
    state = a ^ (number * UINT64_C(0x9e3779b97f4a7c15));
    return rng(&state);
}

static void mix_id(const struct shape *s, uint64_t kind, uint64_t number, uint64_t ret_id[2]) {
    ret_id[0] = shape_mix(s->seed, kind, number * 2);
    ret_id[1] = shape_mix(s->seed, kind, number * 2 + 1);
}

unsigned shape_skewed(uint64_t random, unsigned n) {
    double u = (double)(random >> 11) / 9007199254740992.0; /* 2^53 */
    unsigned v = (unsigned)(exp(u * log((double)n + 1)) - 1);
    return v < n ? v : n - 1;
}

void shape_trace(const struct shape *s, uint64_t number, struct trace_shape *ret) {
    uint64_t traits = shape_mix(s->seed, KIND_TRAITS, number);
    mix_id(s, KIND_TRACE, number, ret->id);
    ret->start_ns = s->start_ns + (int64_t)number * s->step_ns;
    ret->user = shape_skewed(traits, USERS);
    traits = rng(&traits);
    ret->name = shape_skewed(traits, TRACE_NAMES);
    ret->tag = (unsigned)(traits % COMMON_TAGS);
    ret->team = (unsigned)(traits >> 8) % TEAMS;
    ret->session = shape_mix(s->seed, KIND_SESSION, number / 64 * 12 + (traits >> 40) % 12);
}

void shape_observation_id(const struct shape *s, uint64_t trace, unsigned observation, uint64_t ret_id[2]) {
    mix_id(s, KIND_OBSERVATION, trace * OBSERVATIONS_EACH + observation, ret_id);
}

void shape_point_id(const struct shape *s, uint64_t point, uint64_t ret_id[2]) { mix_id(s, KIND_POINT, point, ret_id); }

/* ---- text ---- */

void put_hex(char *to, uint64_t v, unsigned digits) {
    static const char text[] = "0123456789abcdef";
    for (unsigned i = 0; i < digits; i++)
        to[i] = text[v >> (4 * (digits - 1 - i)) & 15];
}

void put_decimal(char *to, uint64_t v, unsigned digits) {
    for (unsigned i = digits; i-- > 0; v /= 10)
        to[i] = (char)('0' + v % 10);
}

void put_uuid(char *to, const uint64_t id[2]) {
    put_hex(to, id[0] >> 32, 8);
    put_hex(to + 9, id[0] >> 16 & 0xffff, 4);
    put_hex(to + 14, id[0] & 0xffff, 4);
    put_hex(to + 19, id[1] >> 48, 4);
    put_hex(to + 24, id[1] & 0xffffffffffff, 12);
    to[8] = to[13] = to[18] = to[23] = '-';
}

void put_raw(char *to, uint64_t v) {
    for (int i = 0; i < 8; i++)
        to[i] = (char)(v >> (56 - 8 * i) & 255);
}

/* The text of the last second is kept: most times of a body are near each other. */
void put_time(char *to, int64_t ns) {
    static int64_t last = INT64_MIN;
    static char text[TIME_TEXT + 1];
    int64_t second = ns / NS_PER_SEC;
    if (second != last) {
        time_t t = (time_t)second;
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        last = second;
    }
    memcpy(to, text, TIME_TEXT);
    put_decimal(to + 20, (uint64_t)(ns / 1000000 % 1000), 3);
}

static void put_numbered(char *to, const char *prefix, uint64_t v, unsigned digits) {
    size_t n = strlen(prefix);
    memcpy(to, prefix, n);
    put_decimal(to + n, v, digits);
}

void put_user(char *to, unsigned user) { put_numbered(to, "user-", user, 5); }
void put_name(char *to, unsigned name) { put_numbered(to, "pipeline-", name, 2); }
void put_team(char *to, unsigned team) { put_numbered(to, "team-", team, 3); }
void put_once(char *to, uint64_t trace) { put_numbered(to, "once-", trace, 10); }

void put_session(char *to, uint64_t session) {
    memcpy(to, "session-", 8);
    put_hex(to + 8, session, 16);
}

void put_tag(char *to, unsigned tag) {
    static const char tags[COMMON_TAGS][TAG_TEXT + 1] = { "prod", "beta", "eval", "chat", "tool", "test" };
    memcpy(to, tags[tag % COMMON_TAGS], TAG_TEXT);
}
