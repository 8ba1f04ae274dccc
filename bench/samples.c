/* samples.c -- see samples.h. */
#include "samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINT_MAX ((size_t)256) /* bytes of one point */
#define KIND_VALUE 100

static char *put(char *to, const char *s) {
    size_t n = strlen(s);
    memcpy(to, s, n);
    return to + n;
}

void samples_make(struct samples *s, enum samples_kind kind, int64_t start_ns) {
    static const unsigned series[] = {
        [SAMPLES_50] = 50, [SAMPLES_1600] = 1600, [SAMPLES_5000] = 5000, [SAMPLES_ONCE] = SPAN_NAMES
    };
    static const char *const gauges[] = { "gpu_utilization", "gpu_temperature", "kv_cache_usage", "pending_requests" };
    *s = (struct samples){ .kind = kind, .start_ns = start_ns, .nseries = series[kind] };
    s->series = need(calloc(s->nseries, sizeof *s->series));
    s->p = need(malloc(POINTS * POINT_MAX + 64));
    for (unsigned i = 0; i < s->nseries; i++) {
        char *to = s->series[i];
        size_t cap = sizeof *s->series;
        if (kind == SAMPLES_50)
            snprintf(to, cap, "{\"name\":\"queue_depth\",\"labels\":{\"node_id\":\"node-%02u\",\"zone\":\"z%u\"}", i,
                     i % 5);
        else if (kind == SAMPLES_ONCE)
            snprintf(to, cap, "{\"name\":\"span_duration\",\"labels\":{\"span_name\":\"step-%02u\",\"trace_id\":\"", i);
        else
            snprintf(to, cap, "{\"name\":\"%s\",\"labels\":{\"node_id\":\"node-%03u\",\"gpu_index\":\"%u\"}",
                     gauges[i % 4], i / 4 / 8, i / 4 % 8);
    }
}

/* An integer around 5,000 that wanders by up to 20 from one to the next: a triangle of 200 points and a little noise. */
static uint64_t gauge_value(const struct shape *shape, uint64_t series, uint64_t k) {
    uint64_t wave = (k + series * 17) % 200, noise = shape_mix(shape->seed, KIND_VALUE, series << 40 | k) % 20;
    return 5000 + (wave < 100 ? wave : 200 - wave) * 8 + noise;
}

static char *put_gauge(const struct samples *s, const struct shape *shape, uint64_t p, char *to) {
    uint64_t series = p % s->nseries, k = p / s->nseries;
    int64_t jitter = (int64_t)(shape_mix(shape->seed, KIND_VALUE + 1, p) % 11) - 5;
    int64_t ns =
        s->start_ns + (s->kind == SAMPLES_50 ? (int64_t)k * 3000000000 : (int64_t)k * 15000000000 + jitter * 1000000);
    to = put(to, s->series[series]);
    to = put(to, ",\"value\":");
    put_decimal(to, gauge_value(shape, series, k), 4);
    to = put(to + 4, ",\"timestamp\":\"");
    put_time(to, ns);
    return put(to + TIME_TEXT, "\"},");
}

static char *put_once_point(const struct samples *s, const struct shape *shape, uint64_t p, char *to) {
    uint64_t id[2];
    shape_point_id(shape, p, id);
    to = put(to, s->series[id[1] % s->nseries]);
    put_hex(to, id[0], 16);
    put_hex(to + 16, id[1], 16);
    to = put(to + 32, "\"},\"value\":0.");
    put_decimal(to, shape_mix(shape->seed, KIND_VALUE, p) % 1000000000, 9);
    to = put(to + 9, ",\"timestamp\":\"");
    put_time(to, s->start_ns + (int64_t)p * SAMPLES_ONCE_STEP_NS);
    return put(to + TIME_TEXT, "\"},");
}

void samples_fill(struct samples *s, const struct shape *shape, uint64_t body) {
    char *to = put(s->p, "{\"metrics\":[");
    for (unsigned i = 0; i < POINTS; i++) {
        uint64_t p = body * POINTS + i;
        to = s->kind == SAMPLES_ONCE ? put_once_point(s, shape, p, to) : put_gauge(s, shape, p, to);
    }
    to = put(to - 1, "]}"); /* over the last comma */
    s->n = (size_t)(to - s->p);
}

void samples_free(struct samples *s) {
    free(s->series);
    free(s->p);
    *s = (struct samples){ 0 };
}
