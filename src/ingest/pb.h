/* pb.h -- the protobuf wire format, one field at a time, over bytes that nobody has checked.
 *
 *  1. The reader never passes `end`; lengths are compared with what is left before they are used.
 *  2. A field is a varint, a fixed 32 or 64, or a slice of the message. Groups are refused: OTLP has none, and skipping
 *     them would need a depth of its own.
 *  3. What does not fit the field (another wire type) is for the caller to pass over, like an unknown number.
 *  4. After the first malformed byte `bad` is set and no field comes any more: check it after the loop. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };
struct pb_reader {
    const uint8_t *p, *end;
    bool bad;
};
struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;   /* PB_VARINT, PB_FIXED64, PB_FIXED32; else undefined */
    struct str bytes; /* PB_BYTES: never absent; else undefined */
};

static inline struct pb_reader pb_open(struct str message) {
    const uint8_t *p = (const uint8_t *)message.p;
    return (struct pb_reader){ p, p ? p + message.n : p, false };
}
/* The next field, or false at the end and after a malformed byte. */
bool pb_next(struct pb_reader *r, struct pb_field *ret);
/* A fixed64 or varint field as double, int64 ...: the bits, reinterpreted. */
static inline double pb_double(const struct pb_field *f) {
    double d;
    memcpy(&d, &f->value, sizeof d);
    return d;
}
static inline bool pb_is(const struct pb_field *f, uint32_t number, enum pb_wire wire) {
    return f->number == number && f->wire == wire;
}
