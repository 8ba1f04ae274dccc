/* requests.c -- see requests.h. */
#include "requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_SEC INT64_C(1000000000)
#define PAGE 50
#define DEEP_MAX 2000 /* pages */
#define RANGE_MAX 120 /* two names and two times */

#define JSON "application/json"
#define LISTED "/api/public/traces?limit=50"
#define SERIES "/api/public/metrics/query?name="

const struct mode_row modes[MODES] = {
    [NATIVE] = { "native", "/v1/l/batch", JSON, BODY_OBSERVATIONS },
    [UPDATES_TOO] = { "updates", "/v1/l/batch", JSON, BODY_OBSERVATIONS + TRACES },
    [LONE] = { "lone", "/v1/l/batch", JSON, 1 },
    [AGENT] = { "agent", "/v1/l/batch", JSON, 30 },
    [OTLP] = { "otlp", "/v1/traces", "application/x-protobuf", BODY_OBSERVATIONS },
    [POINTS_50] = { "points-50", "/v1/metrics/batch", JSON, POINTS },
    [POINTS_1600] = { "points-1600", "/v1/metrics/batch", JSON, POINTS },
    [POINTS_5000] = { "points-5000", "/v1/metrics/batch", JSON, POINTS },
    [POINTS_ONCE] = { "points-once", "/v1/metrics/batch", JSON, POINTS },
    [TRACE] = { "trace", "/api/public/traces/", NULL, 1 },
    [OBSERVATION] = { "observation", "/api/public/observations/", NULL, 1 },
    [LIST] = { "list", LISTED, NULL, 1 },
    [USER_COMMON] = { "user-common", LISTED "&userId=", NULL, 1 },
    [USER_RARE] = { "user-rare", LISTED "&userId=", NULL, 1 },
    [USER_RANGE] = { "user-range", LISTED "&userId=", NULL, 1 },
    [SESSION] = { "session", LISTED "&sessionId=", NULL, 1 },
    [TAG_COMMON] = { "tag-common", LISTED "&tags=", NULL, 1 },
    [TAG_ONCE] = { "tag-once", LISTED "&tags=", NULL, 1 },
    [NAME] = { "name", LISTED "&name=", NULL, 1 },
    [RANGE] = { "range", LISTED "&", NULL, 1 },
    [DEEP] = { "deep", LISTED "&page=", NULL, 1 },
    [DAILY] = { "daily", "/api/public/metrics/daily", NULL, 1 },
    [NAMES] = { "names", "/api/public/metrics/names", NULL, 1 },
    [QUERY] = { "query", SERIES "queue_depth&agg=avg&step=1m&", NULL, 1 },
    [QUERY_SERIES] = { "query-series", SERIES "queue_depth&agg=last&step=1m&labels=%7B%22node_id%22%3A%22node-", NULL,
                       1 },
    [GROUP] = { "group", SERIES "span_duration&agg=p99&step=1m&group_by=span_name&", NULL, 1 },
    [TRACE_ID] = { "trace-id", SERIES "span_duration&agg=avg&labels=%7B%22trace_id%22%3A%22", NULL, 1 },
    [HEALTH] = { "healthz", "/healthz", NULL, 1 },
};

enum mode mode_of(const char *name) {
    int i = 0;
    while (i < MODES && strcmp(modes[i].name, name) != 0)
        i++;
    return (enum mode)i;
}

bool reader_add(struct reader *r, const char *text) {
    char name[32];
    unsigned long long from, to;
    if (r->nstored == STORED_MAX || sscanf(text, "%31[^:]:%llu-%llu", name, &from, &to) != 3 || from > to)
        return false;
    enum mode mode = mode_of(name);
    r->stored[r->nstored++] = (struct stored){ mode, from, to };
    r->bodies += to - from;
    return mode < READS;
}

/* A random body that is stored. */
static uint64_t any_body(struct reader *r, enum mode *ret_mode) {
    uint64_t k = rng(&r->random) % r->bodies;
    for (size_t i = 0; i < r->nstored; i++) {
        const struct stored *s = &r->stored[i];
        if (k < s->to - s->from) {
            *ret_mode = s->mode;
            return s->from + k;
        }
        k -= s->to - s->from;
    }
    *ret_mode = NATIVE;
    return 0;
}

static uint64_t any_trace(struct reader *r, enum mode *ret_mode) {
    uint64_t body = any_body(r, ret_mode);
    return body * TRACES + (*ret_mode == LONE || *ret_mode == AGENT ? 0 : rng(&r->random) % TRACES);
}

/* One whose user, session, tags and name were sent: the native batch has room for one trace object. */
static void any_told_trace(struct reader *r, uint64_t *ret_number, struct trace_shape *ret) {
    enum mode mode;
    uint64_t body = any_body(r, &mode);
    *ret_number = body * TRACES + (mode == OTLP ? rng(&r->random) % TRACES : 0);
    shape_trace(&r->shape, *ret_number, ret);
}

static size_t put_observation(struct reader *r, char *to) {
    enum mode mode;
    uint64_t trace = any_trace(r, &mode), id[2];
    unsigned o = mode == LONE ? 0 : (unsigned)(rng(&r->random) % OBSERVATIONS_EACH);
    shape_observation_id(&r->shape, trace, o, id);
    if (mode == OTLP) {
        put_hex(to, id[0], 16);
        return 16;
    }
    put_uuid(to, id);
    return UUID_TEXT;
}

static size_t put_range(char *to, const char *from, const char *until, int64_t start_ns, int64_t end_ns) {
    char a[TIME_TEXT + 1] = "", b[TIME_TEXT + 1] = "";
    put_time(a, start_ns);
    put_time(b, end_ns);
    return (size_t)snprintf(to, RANGE_MAX, "%s=%s&%s=%s", from, a, until, b);
}

/* Some hours of the history. */
static size_t put_hours(struct reader *r, char *to) {
    enum mode mode;
    struct trace_shape trace;
    shape_trace(&r->shape, any_trace(r, &mode), &trace);
    int64_t hours = (int64_t)(1 + rng(&r->random) % 24);
    return put_range(to, "fromTimestamp", "toTimestamp", trace.start_ns - hours * 3600 * NS_PER_SEC, trace.start_ns);
}

static size_t put_value(struct reader *r, enum mode mode, char *to) {
    uint64_t number, last = r->bodies * TRACES / PAGE / 2;
    struct trace_shape trace;
    any_told_trace(r, &number, &trace);
    switch (mode) {
    case USER_COMMON: put_user(to, (unsigned)(rng(&r->random) % USERS_COMMON)); return USER_TEXT;
    case USER_RARE: put_user(to, USERS / 10 + (unsigned)(rng(&r->random) % (USERS - USERS / 10))); return USER_TEXT;
    case USER_RANGE: {
        put_user(to, trace.user);
        to[USER_TEXT] = '&';
        return USER_TEXT + 1 + put_hours(r, to + USER_TEXT + 1);
    }
    case SESSION: put_session(to, trace.session); return SESSION_TEXT;
    case TAG_COMMON: put_tag(to, trace.tag); return TAG_TEXT;
    case TAG_ONCE: put_once(to, number / TRACES * TRACES); return ONCE_TEXT;
    case NAME: put_name(to, trace.name); return NAME_TEXT;
    default:
        last = 1 + rng(&r->random) % (last < DEEP_MAX ? last + 1 : DEEP_MAX);
        return (size_t)snprintf(to, RANGE_MAX, "%llu", (unsigned long long)last);
    }
}

static size_t put_series(struct reader *r, enum mode mode, char *to) {
    static const int64_t hour = 3600 * NS_PER_SEC;
    uint64_t id[2];
    switch (mode) {
    case QUERY: return put_range(to, "from", "to", r->samples_ns, r->samples_ns + 17 * hour);
    case GROUP: return put_range(to, "from", "to", r->samples_ns, r->samples_ns + hour);
    case QUERY_SERIES: {
        put_decimal(to, rng(&r->random) % 50, 2);
        memcpy(to + 2, "%22%7D&", 7);
        return 9 + put_range(to + 9, "from", "to", r->samples_ns, r->samples_ns + 17 * hour);
    }
    default:
        shape_point_id(&r->shape, rng(&r->random) % (r->points ? r->points : 1), id);
        put_hex(to, id[0], 16);
        put_hex(to + 16, id[1], 16);
        memcpy(to + 32, "%22%7D&", 7);
        return 39 + put_range(to + 39, "from", "to", r->samples_ns, r->samples_ns + 48 * hour);
    }
}

bool request_tail(struct reader *r, enum mode mode, char *to, size_t cap) {
    char text[256] = "";
    bool fixed = mode == LIST || mode == DAILY || mode == NAMES || mode == HEALTH;
    bool samples = mode == QUERY || mode == QUERY_SERIES || mode == GROUP || mode == TRACE_ID;
    size_t n = 0;
    if (!fixed && !samples && r->bodies == 0)
        return false;
    if (samples) {
        n = put_series(r, mode, text);
    } else if (mode == TRACE) {
        enum mode written;
        struct trace_shape trace;
        shape_trace(&r->shape, any_trace(r, &written), &trace);
        put_uuid(text, trace.id);
        n = UUID_TEXT;
    } else if (mode == OBSERVATION) {
        n = put_observation(r, text);
    } else if (mode == RANGE) {
        n = put_hours(r, text);
    } else if (!fixed) {
        n = put_value(r, mode, text);
    }
    if (n >= cap)
        return false;
    memcpy(to, text, n);
    to[n] = '\0';
    return true;
}
