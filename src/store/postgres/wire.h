/* wire.h -- private: values in PostgreSQL's binary form, each behind its length (a field of COPY, an element of an array).
 * The one place that knows these layouts; value.c reads them. All numbers are big-endian. */
#pragma once
#include <endian.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "store/postgres/conn.h"

static inline void wire_u16(char *p, uint16_t v) {
    uint16_t be = htobe16(v);
    memcpy(p, &be, sizeof be);
}
static inline void wire_u32(char *p, uint32_t v) {
    uint32_t be = htobe32(v);
    memcpy(p, &be, sizeof be);
}
static inline void wire_u64(char *p, uint64_t v) {
    uint64_t be = htobe64(v);
    memcpy(p, &be, sizeof be);
}
static inline uint16_t wire_get16(const char *p) {
    uint16_t be;
    memcpy(&be, p, sizeof be);
    return be16toh(be);
}
static inline uint32_t wire_get32(const char *p) {
    uint32_t be;
    memcpy(&be, p, sizeof be);
    return be32toh(be);
}
static inline uint64_t wire_get64(const char *p) {
    uint64_t be;
    memcpy(&be, p, sizeof be);
    return be64toh(be);
}

/* Room for a length and n bytes, the length written; NULL: the buffer is full or there is no memory (it remembers). */
static inline char *wire_field(struct buf *b, size_t n) {
    if (!buf_reserve(b, n + 4))
        return NULL;
    char *p = b->p + b->n;
    wire_u32(p, (uint32_t)n);
    b->n += n + 4;
    b->p[b->n] = '\0';
    return p + 4;
}
static inline void wire_put_null(struct buf *b) {
    if (!buf_reserve(b, 4))
        return;
    wire_u32(b->p + b->n, UINT32_MAX);
    b->n += 4;
    b->p[b->n] = '\0';
}
static inline void wire_put_i64(struct buf *b, int64_t v) {
    char *p = wire_field(b, 8);
    if (p)
        wire_u64(p, (uint64_t)v);
}
static inline void wire_put_i32(struct buf *b, int32_t v) {
    char *p = wire_field(b, 4);
    if (p)
        wire_u32(p, (uint32_t)v);
}
static inline void wire_put_i16(struct buf *b, int16_t v) {
    char *p = wire_field(b, 2);
    if (p)
        wire_u16(p, (uint16_t)v);
}
static inline void wire_put_bool(struct buf *b, bool v) {
    char *p = wire_field(b, 1);
    if (p)
        *p = v ? 1 : 0;
}
static inline void wire_put_time(struct buf *b, int64_t ns) {
    if (ns == TIME_NONE)
        wire_put_null(b);
    else
        wire_put_i64(b, ns);
}
static inline void wire_put_f64(struct buf *b, double v) {
    uint64_t bits;
    if (isnan(v)) {
        wire_put_null(b);
        return;
    }
    memcpy(&bits, &v, sizeof bits);
    wire_put_i64(b, (int64_t)bits);
}
static inline void wire_put_bytes(struct buf *b, struct str s) {
    if (!str_has(s)) {
        wire_put_null(b);
        return;
    }
    char *p = wire_field(b, s.n);
    if (p && s.n)
        memcpy(p, s.p, s.n);
}
static inline void wire_put_text(struct buf *b, struct str s) {
    if (!str_has(s)) {
        wire_put_null(b);
        return;
    }
    size_t n = pg_escaped_size(s);
    char *p = wire_field(b, n);
    if (p && n == s.n && n)
        memcpy(p, s.p, n);
    else if (p && n)
        pg_escape(s, p);
}
static inline void wire_put_num(struct buf *b, __int128 v) {
    uint8_t bytes[PG_NUM_BYTES];
    size_t n = pg_num_encode(v, bytes);
    char *p = wire_field(b, n);
    if (p)
        memcpy(p, bytes, n);
}
/* The head of an array of one dimension with n elements, which follow as fields. An empty one has no dimension. */
static inline void wire_put_array_head(struct buf *b, uint32_t element, size_t n) {
    char head[20];
    wire_u32(head, n ? 1 : 0);
    wire_u32(head + 4, 0); /* the server looks for NULLs itself */
    wire_u32(head + 8, element);
    wire_u32(head + 12, (uint32_t)n);
    wire_u32(head + 16, 1);
    buf_add(b, head, n ? 20 : 12);
}

/* args.c: an array whose length follows from where the next parameter begins. */
#define PG_ARRAY_OPEN (-2)
/* What libpq takes; points into the parameters. */
struct args_view {
    const char *values[PG_ARGS_MAX];
    int lengths[PG_ARGS_MAX], formats[PG_ARGS_MAX];
};
/* False: the parameters did not fit (too_big) or there was no memory. */
bool args_view(const struct pg_args *a, struct args_view *ret);
