/* pb.c -- see pb.h for what holds. Varints may be written longer than needed; bits beyond 64 are dropped, as protobuf's
 * own readers do. */
#include "ingest/pb.h"

#define VARINT_BYTES 10

static bool read_long_varint(struct pb_reader *r, uint64_t *ret) {
    uint64_t value = 0;

    for (unsigned i = 0; i < VARINT_BYTES && r->p < r->end; i++) {
        uint8_t byte = *r->p++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

/* Nearly all tags and lengths are one byte. */
static inline bool read_varint(struct pb_reader *r, uint64_t *ret) {
    if (r->p < r->end && *r->p < 0x80) {
        *ret = *r->p++;
        return true;
    }
    return read_long_varint(r, ret);
}

/* Little-endian integer of n bytes. */
static bool read_fixed(struct pb_reader *r, size_t n, uint64_t *ret) {
    uint64_t value = 0;

    if ((size_t)(r->end - r->p) < n)
        return false;
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)r->p[i] << (8 * i);
    r->p += n;
    *ret = value;
    return true;
}

static inline bool read_value(struct pb_reader *r, struct pb_field *f) {
    uint64_t n;

    switch (f->wire) {
    case PB_VARINT: return read_varint(r, &f->value);
    case PB_FIXED64: return read_fixed(r, 8, &f->value);
    case PB_FIXED32: return read_fixed(r, 4, &f->value);
    case PB_BYTES:
        if (!read_varint(r, &n) || n > (uint64_t)(r->end - r->p))
            return false;
        f->bytes = (struct str){ (const char *)r->p, (size_t)n };
        r->p += n;
        return true;
    }
    return false; /* groups, and the two wire types that nobody uses */
}

bool pb_next(struct pb_reader *r, struct pb_field *ret) {
    uint64_t tag;

    if (r->bad || r->p >= r->end)
        return false;
    if (read_varint(r, &tag) && tag >> 3 >= 1 && tag >> 3 <= UINT32_MAX >> 3) {
        ret->number = (uint32_t)(tag >> 3);
        ret->wire = (enum pb_wire)(tag & 7);
        if (read_value(r, ret))
            return true;
    }
    r->bad = true;
    return false;
}
