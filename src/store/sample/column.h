/* column.h -- lists of integers and doubles as bytes, for parts of samples.
 *
 * Integers go in blocks of 128: a base, a width in bits, the distances from the base in that width, and the few that do
 * not fit apart. All arithmetic wraps in 64 bits, so every list comes back, whatever it holds. Readers trust nothing. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

/* The same double bit for bit: -0.0 is not 0.0, and a NaN is itself. */
static inline bool same_bits(double a, double b) {
    uint64_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return x == y;
}

#define COLUMN_BLOCK 128

/* Bytes that are read from the front; `bad` sticks. */
struct column_in {
    const uint8_t *p, *end;
    bool bad;
};
static inline struct column_in column_in(struct str s) {
    const uint8_t *p = (const uint8_t *)s.p;
    return (struct column_in){ p, p ? p + s.n : p, false };
}

void column_put_varint(struct buf *out, uint64_t v);
uint64_t column_varint(struct column_in *in);
/* A number that must be at most `max`; else 0 and bad. */
uint64_t column_number(struct column_in *in, uint64_t max);
/* The next n bytes; NULL and bad: there are not so many. */
const uint8_t *column_bytes(struct column_in *in, uint64_t n);

/* n integers. Failure sticks in out->failed. */
void column_put_ints(struct buf *out, const int64_t *v, size_t n);
/* Reads back n integers. False: damaged. `room` holds n rounded up to COLUMN_BLOCK elements. */
bool column_ints(struct column_in *in, int64_t *room, size_t n);

/* A scale at which all of n doubles are exact as integers: v[i] == whole / 10^(3 * scale), bit for bit, for the integers
 * that are written to ret. COLUMN_NO_SCALE: there is none (-0.0, NaN and infinities have none). */
#define COLUMN_SCALES 4
#define COLUMN_NO_SCALE COLUMN_SCALES
unsigned column_scale(const double *v, size_t n, int64_t *ret);
/* The doubles of n integers. scale < COLUMN_SCALES. */
void column_unscale(const int64_t *v, size_t n, unsigned scale, double *ret);
