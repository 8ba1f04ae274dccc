/* samples.h -- bodies of metric points: 500 of them, as JSON.
 *
 *  1. Point p of a kind is a function of p alone: its series is p modulo the number of series, its time grows with p.
 *  2. Gauges are integers that wander; a point of the "once" kind has a trace_id of its own, as the tracing layer of the
 *     original's client sends it for every span that closes: a new series with one point. */
#pragma once
#include <stdint.h>

#include "shape.h"

#define POINTS 500 /* of a body */
#define SPAN_NAMES 20
#define SAMPLES_ONCE_STEP_NS 3600000 /* a million points in an hour */

enum samples_kind {
    SAMPLES_50,   /* one name, 50 series, 3 s apart: a million points in 1,000 minutes */
    SAMPLES_1600, /* 4 names, 15 s apart, give or take 5 ms */
    SAMPLES_5000,
    SAMPLES_ONCE,
};

struct samples {
    enum samples_kind kind;
    int64_t start_ns;
    unsigned nseries;
    char (*series)[160]; /* the part of a point that names it */
    char *p;             /* the body */
    size_t n;
};

void samples_make(struct samples *s, enum samples_kind kind, int64_t start_ns);
void samples_fill(struct samples *s, const struct shape *shape, uint64_t body);
void samples_free(struct samples *s);
