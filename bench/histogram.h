/* histogram.h -- latencies in buckets of 2 to 3 %: 32 for each power of two of nanoseconds. */
#pragma once
#include <stdint.h>

struct histogram {
    uint64_t count[64 * 64], n;
    int64_t max, first; /* the first one that was added */
};

void histogram_add(struct histogram *h, int64_t ns);
double histogram_at(const struct histogram *h, double share); /* upper end of the bucket that holds it, milliseconds */
