/* shape.h -- what the generated history holds. Every trace, observation and point is a function of (seed, its number), so
 * that a reader can ask for anything that was ever stored without a list of it.
 *
 *  1. Body b of a writing mode holds the traces 10 b to 10 b + 9 with ten observations each.
 *  2. Traces are stored in the order of their numbers, `step_ns` apart in time: the history's length is chosen freely.
 *  3. Users are skewed (the number of traces of user k falls with 1/k), a session has about five traces that are near
 *     each other, a trace has two tags, one of a few and one of some hundred, and the first trace of a body a third tag
 *     that nobody else has.
 * Also here: fixed-length text for all of it, and memory that is there. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TRACES 10 /* of a body */
#define OBSERVATIONS_EACH 10
#define BODY_OBSERVATIONS (TRACES * OBSERVATIONS_EACH)
#define USERS 10000
#define USERS_COMMON 10 /* each of these has over a hundredth of all traces */
#define TEAMS 300
#define TRACE_NAMES 20
#define COMMON_TAGS 6

#define UUID_TEXT 36
#define TIME_TEXT 24
#define USER_TEXT 10
#define SESSION_TEXT 24
#define NAME_TEXT 11
#define TAG_TEXT 4
#define TEAM_TEXT 8
#define ONCE_TEXT 15

struct shape {
    uint64_t seed;
    int64_t start_ns, step_ns; /* time of trace 0; from one trace to the next */
};

/* Of one trace. */
struct trace_shape {
    uint64_t id[2];
    int64_t start_ns;
    unsigned user, name, tag, team;
    uint64_t session;
};

void shape_trace(const struct shape *s, uint64_t number, struct trace_shape *ret);
void shape_observation_id(const struct shape *s, uint64_t trace, unsigned observation, uint64_t ret_id[2]);
void shape_point_id(const struct shape *s, uint64_t point, uint64_t ret_id[2]);
unsigned shape_skewed(uint64_t random, unsigned n); /* 0 to n-1, small ones far more often */

/* 64 well mixed bits of a number; streams with different `kind` have nothing to do with each other. */
uint64_t shape_mix(uint64_t seed, uint64_t kind, uint64_t number);

/* A stream of random numbers. */
static inline uint64_t rng(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15)); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- text of a fixed length, without a terminating 0 ---- */

void put_hex(char *to, uint64_t v, unsigned digits);
void put_decimal(char *to, uint64_t v, unsigned digits);
void put_uuid(char *to, const uint64_t id[2]);
void put_raw(char *to, uint64_t v);  /* 8 bytes, the most significant first */
void put_time(char *to, int64_t ns); /* RFC 3339, milliseconds */
void put_user(char *to, unsigned user);
void put_session(char *to, uint64_t session);
void put_name(char *to, unsigned name);
void put_tag(char *to, unsigned tag);
void put_team(char *to, unsigned team);
void put_once(char *to, uint64_t trace);

/* Ends the program without memory: these are tools. */
void *need(void *p);
