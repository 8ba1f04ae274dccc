/* requests.h -- what the load generator can ask: one row a mode, and the paths of those that read. */
#pragma once
#include <stdbool.h>

#include "samples.h"
#include "shape.h"

enum mode {
    NATIVE,
    UPDATES_TOO,
    LONE,
    AGENT,
    OTLP,
    POINTS_50,
    POINTS_1600,
    POINTS_5000,
    POINTS_ONCE,
    READS, /* from here on */
    TRACE = READS,
    OBSERVATION,
    LIST,
    USER_COMMON,
    USER_RARE,
    USER_RANGE,
    SESSION,
    TAG_COMMON,
    TAG_ONCE,
    NAME,
    RANGE,
    DEEP,
    DAILY,
    NAMES,
    QUERY,
    QUERY_SERIES,
    GROUP,
    TRACE_ID,
    HEALTH,
    MODES
};

struct mode_row {
    const char *name, *path, *type; /* type: of the body, NULL: a GET */
    unsigned records;               /* of one request */
};
extern const struct mode_row modes[MODES];

enum mode mode_of(const char *name); /* MODES: no such mode */

/* Bodies that are stored: [from, to), written by one mode. */
#define STORED_MAX 64
struct stored {
    enum mode mode;
    uint64_t from, to;
};

struct reader {
    struct shape shape;
    struct stored stored[STORED_MAX];
    size_t nstored;
    uint64_t bodies; /* of all of them */
    int64_t samples_ns;
    uint64_t points; /* of the kind "once" */
    uint64_t random;
};

bool reader_add(struct reader *r, const char *text); /* "native:0-100" */

/* Writes what follows the mode's path, with a terminating 0, for a request on something random that is stored. False: it
 * does not fit or nothing is stored. */
bool request_tail(struct reader *r, enum mode mode, char *to, size_t cap);
