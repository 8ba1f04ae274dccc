/* log.c -- see log.h. A row:
 *
 *   crc32 of the rest (4 bytes, little-endian), version 1, time unit (0 s, 1 ms, 2 us, 3 ns), then varints:
 *   numbers of the first string, name and set; counts of strings, names, sets and points;
 *   string: length, bytes            name: project (zigzag), string
 *   set: 2 * name + replaces, count of labels, a label each: key, then 2 * string, or 1 and 16 bytes
 *   point: set (zigzag, less that of the point before), time in units (the same), value: an integer as 2 * zigzag, else 1
 *   and the 8 bytes of the double (little-endian)
 *
 * Numbers of 16-byte values are not written: they follow from the order. */
#include "store/sample/log.h"

#include <string.h>
#include <zlib.h>

#include "store/sample/column.h"

#define VERSION 1
#define CRC_BYTES 4
#define WHOLE_MAX 4503599627370496.0 /* 2^52: exact as an integer, and 2 * zigzag of it fits 64 bits */
#define GAP_MAX (UINT32_C(1) << 22)  /* rows of a table that a damaged row may have held */

static const int64_t units[] = { NS_PER_SEC, 1000000, 1000, 1 };

/* ---- writing ---- */

static inline char *put_varint(char *p, uint64_t v) {
    while (v >= 0x80) {
        *p++ = (char)(v | 0x80);
        v >>= 7;
    }
    *p++ = (char)v;
    return p;
}
static void add_varint(struct buf *b, uint64_t v) {
    char room[10];
    buf_add(b, room, (size_t)(put_varint(room, v) - room));
}
static inline uint64_t zigzag(int64_t v) { return (uint64_t)v << 1 ^ (uint64_t)(v >> 63); }
static inline int64_t unzigzag(uint64_t v) { return (int64_t)(v >> 1 ^ (0 - (v & 1))); }

/* The coarsest unit in which all times are whole. */
static unsigned unit_of(const struct hot *h, uint32_t from, uint32_t to) {
    unsigned unit = 0;
    for (uint32_t i = from; i < to; i++)
        while (hot_point_time(h, i) % units[unit] != 0)
            unit++;
    return unit;
}

static void add_set(struct buf *out, const struct hot *h, const struct hot_set *s) {
    add_varint(out, (uint64_t)s->name << 1 | s->replaces);
    add_varint(out, s->nlabels);
    for (size_t i = 0; i < s->nlabels; i++) {
        uint32_t v = s->labels[i].value;
        add_varint(out, s->labels[i].key);
        if (v & HOT_HEX) {
            add_varint(out, 1);
            buf_add(out, hot_hex(h, v & ~HOT_HEX)->bytes, HOT_BYTES_HEX);
        } else {
            add_varint(out, (uint64_t)v << 1);
        }
    }
}

/* Is it an integer that comes back bit for bit? Not so -0.0. */
static inline bool is_whole(double v, int64_t *ret) {
    if (!(v >= -WHOLE_MAX && v <= WHOLE_MAX))
        return false;
    *ret = (int64_t)v;
    double back = (double)*ret;
    return same_bits(back, v);
}

static void add_points(struct buf *out, const struct hot *h, uint32_t from, uint32_t to, unsigned unit) {
    int64_t set = 0, time = 0, whole;
    for (uint32_t i = from; i < to && !out->failed; i++) {
        char room[40], *p = room;
        int64_t s = hot_point_set(h, i), t = hot_point_time(h, i) / units[unit];
        double v = hot_point_value(h, i);
        p = put_varint(p, zigzag(s - set));
        p = put_varint(p, zigzag((int64_t)((uint64_t)t - (uint64_t)time)));
        if (is_whole(v, &whole)) {
            p = put_varint(p, zigzag(whole) << 1);
        } else {
            uint64_t bits;
            memcpy(&bits, &v, sizeof bits);
            *p++ = 1;
            for (int k = 0; k < 8; k++)
                *p++ = (char)(bits >> (8 * k));
        }
        buf_add(out, room, (size_t)(p - room));
        set = s;
        time = t;
    }
}

static void seal_crc(struct buf *out, size_t at) {
    uLong crc = crc32_z(0, (const Bytef *)out->p + at + CRC_BYTES, out->n - at - CRC_BYTES);
    for (int k = 0; k < CRC_BYTES; k++)
        out->p[at + (size_t)k] = (char)(crc >> (8 * k));
}

bool sample_log_encode_to(const struct hot *h, const struct hot_count *from, const struct hot_count *to,
                          struct buf *out) {
    size_t at = out->n;
    unsigned unit = unit_of(h, from->points, to->points);
    buf_add(out, "\0\0\0\0", CRC_BYTES);
    buf_add_char(out, VERSION);
    buf_add_char(out, (char)unit);
    add_varint(out, from->strings);
    add_varint(out, from->names);
    add_varint(out, from->sets);
    add_varint(out, to->strings - from->strings);
    add_varint(out, to->names - from->names);
    add_varint(out, to->sets - from->sets);
    add_varint(out, to->points - from->points);
    for (uint32_t i = from->strings; i < to->strings; i++) {
        add_varint(out, hot_string(h, i)->n);
        buf_add_str(out, hot_text(h, i));
    }
    for (uint32_t i = from->names; i < to->names; i++) {
        add_varint(out, zigzag(hot_name(h, i)->project));
        add_varint(out, hot_name(h, i)->text);
    }
    for (uint32_t i = from->sets; i < to->sets; i++)
        add_set(out, h, hot_set(h, i));
    add_points(out, h, from->points, to->points, unit);
    if (!out->failed)
        seal_crc(out, at);
    return !out->failed;
}

#define NAME_BYTES 6 /* about */
#define POINT_BYTES 6

bool sample_log_next(const struct hot *h, const struct hot_count *from, size_t bytes, struct hot_count *ret) {
    struct hot_count n = *from;
    size_t used = 0;
    while (n.strings < h->n.strings && used < bytes)
        used += 2 + (size_t)hot_string(h, n.strings++)->n;
    while (n.strings == h->n.strings && n.names < h->n.names && used < bytes) {
        used += NAME_BYTES;
        n.names++;
    }
    while (n.names == h->n.names && n.sets < h->n.sets && used < bytes)
        used += 4 + (size_t)hot_set(h, n.sets++)->nlabels * (2 + HOT_BYTES_HEX);
    if (n.strings == h->n.strings && n.names == h->n.names && n.sets == h->n.sets && used < bytes) {
        size_t fit = (bytes - used) / POINT_BYTES + 1;
        n.points += (uint32_t)(h->n.points - n.points < fit ? h->n.points - n.points : fit);
    }
    *ret = n;
    return n.strings > from->strings || n.names > from->names || n.sets > from->sets || n.points > from->points;
}

bool sample_log_encode(const struct hot *h, const struct hot_mark *from, struct buf *out) {
    return sample_log_encode_to(h, &from->count, &h->n, out);
}

/* ---- reading ---- */

struct reader {
    const uint8_t *p, *end;
    bool bad;
};

static uint64_t slow_varint(struct reader *r) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->p == r->end)
            break;
        uint8_t c = *r->p++;
        if (shift == 63 && c > 1)
            break;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}
static inline uint64_t varint(struct reader *r) {
    if (r->p < r->end && !(*r->p & 0x80))
        return *r->p++;
    return slow_varint(r);
}
/* A number below `below`, else the row is bad. */
static inline uint32_t number(struct reader *r, uint64_t below) {
    uint64_t v = varint(r);
    if (v >= below) {
        r->bad = true;
        return 0;
    }
    return (uint32_t)v;
}
static const uint8_t *bytes(struct reader *r, uint64_t n) {
    const uint8_t *p = r->p;
    if ((uint64_t)(r->end - r->p) < n) {
        r->bad = true;
        return NULL;
    }
    r->p += n;
    return p;
}

/* Rows that an earlier, damaged row of the log would have added. */
static bool fill_gap(struct hot *h, const struct hot_count *first) {
    while (h->n.strings < first->strings)
        if (hot_put_string(h, STR_NONE) == HOT_NONE)
            return false;
    while (h->n.names < first->names)
        if (hot_put_name(h, 0, HOT_NONE) == HOT_NONE)
            return false;
    while (h->n.sets < first->sets)
        if (hot_put_set(h, HOT_NONE, NULL, 0, false) == HOT_NONE)
            return false;
    return true;
}

/* Does the label belong behind the one before it? One that is lost takes the set with it anyway. */
static bool in_order(const struct hot *h, const struct pack_label *labels, size_t i) {
    struct str before = i > 0 ? hot_text(h, labels[i - 1].key) : STR_NONE, key = hot_text(h, labels[i].key);
    return !str_has(before) || !str_has(key) || str_cmp(before, key) < 0;
}

/* False: no memory, or the row is bad. */
static bool read_set(struct hot *h, struct reader *r) {
    uint64_t head = varint(r), nlabels = varint(r);
    if (r->bad || head >> 1 >= h->n.names || nlabels > (uint64_t)(r->end - r->p) / 2) {
        r->bad = true;
        return false;
    }
    struct pack_label *labels = hot_room(h, (size_t)nlabels);
    if (!labels)
        return false;
    for (size_t i = 0; i < nlabels; i++) {
        labels[i].key = number(r, h->n.strings);
        r->bad = r->bad || !in_order(h, labels, i);
        uint64_t v = varint(r);
        if (!r->bad && v == 1) {
            const uint8_t *hex = bytes(r, HOT_BYTES_HEX);
            uint32_t code = hex ? hot_put_hex(h, hex) : HOT_NONE;
            if (code == HOT_NONE)
                return false;
            labels[i].value = code | HOT_HEX;
        } else {
            r->bad = r->bad || (v & 1) || v >> 1 >= h->n.strings;
            labels[i].value = (uint32_t)(v >> 1);
        }
        if (r->bad)
            return false;
    }
    return hot_put_set(h, (uint32_t)(head >> 1), labels, (size_t)nlabels, head & 1) != HOT_NONE;
}

static double read_value(struct reader *r) {
    uint64_t v = varint(r);
    if (!(v & 1))
        return (double)unzigzag(v >> 1);
    const uint8_t *p = bytes(r, 8);
    r->bad = r->bad || v != 1;
    uint64_t bits = 0;
    for (int k = 0; p && k < 8; k++)
        bits |= (uint64_t)p[k] << (8 * k);
    double d;
    memcpy(&d, &bits, sizeof d);
    r->bad = r->bad || !(d - d == 0); /* NaN and infinities never came in */
    return d;
}

static bool read_points(struct hot *h, struct reader *r, uint32_t n, int64_t unit, uint64_t *ret_lost) {
    int64_t set = 0, count = 0;
    for (uint32_t i = 0; i < n; i++) {
        set = (int64_t)((uint64_t)set + (uint64_t)unzigzag(varint(r)));
        count = (int64_t)((uint64_t)count + (uint64_t)unzigzag(varint(r)));
        int64_t time;
        bool fits = !__builtin_mul_overflow(count, unit, &time);
        double value = read_value(r);
        if (r->bad || !fits || set < 0 || set >= h->n.sets) {
            r->bad = true;
            return false;
        }
        if (hot_set(h, (uint32_t)set)->name == HOT_NONE)
            ++*ret_lost;
        else if (!hot_put_point(h, (uint32_t)set, time, value))
            return false;
    }
    return true;
}

/* False: no memory, or the row is bad. */
static bool read_row(struct hot *h, struct reader *r, uint64_t *ret_lost) {
    unsigned unit = r->end - r->p > 2 ? r->p[1] : 9;
    r->bad = unit > 3 || r->p[0] != VERSION;
    if (r->bad)
        return false;
    r->p += 2;
    struct hot_count first = { .strings = number(r, UINT32_MAX), .names = number(r, UINT32_MAX) };
    first.sets = number(r, UINT32_MAX);
    uint64_t left = (uint64_t)(r->end - r->p);
    uint32_t strings = number(r, left + 1), names = number(r, left + 1), sets = number(r, left + 1),
             points = number(r, left + 1); /* each takes a byte at least */
    r->bad = r->bad || first.strings < h->n.strings || first.names < h->n.names || first.sets < h->n.sets ||
             first.strings - h->n.strings > GAP_MAX || first.names - h->n.names > GAP_MAX ||
             first.sets - h->n.sets > GAP_MAX;
    if (r->bad || !fill_gap(h, &first))
        return false;
    for (uint32_t i = 0; i < strings; i++) {
        uint64_t n = varint(r);
        const uint8_t *p = bytes(r, n);
        if (!p || hot_put_string(h, (struct str){ (const char *)p, (size_t)n }) == HOT_NONE)
            return false;
    }
    for (uint32_t i = 0; i < names; i++) {
        int64_t project = unzigzag(varint(r));
        uint32_t text = number(r, h->n.strings);
        if (r->bad || hot_put_name(h, project, text) == HOT_NONE)
            return false;
    }
    for (uint32_t i = 0; i < sets; i++)
        if (!read_set(h, r))
            return false;
    if (!read_points(h, r, points, units[unit], ret_lost))
        return false;
    r->bad = r->p != r->end;
    return !r->bad;
}

enum xt_code sample_log_replay(struct hot *h, struct str row, uint64_t *ret_lost, struct xt_err *err) {
    struct reader r = { (const uint8_t *)row.p, (const uint8_t *)row.p + row.n, row.n < CRC_BYTES + 2 };
    struct hot_mark mark;
    uint64_t lost = 0;
    if (!r.bad) {
        uLong crc = crc32_z(0, (const Bytef *)row.p + CRC_BYTES, row.n - CRC_BYTES);
        for (int k = 0; k < CRC_BYTES; k++)
            r.bad = r.bad || (uint8_t)(crc >> (8 * k)) != r.p[k];
        r.p += CRC_BYTES;
    }
    hot_mark(h, &mark);
    if (!r.bad && read_row(h, &r, &lost)) {
        *ret_lost += lost;
        return XT_OK;
    }
    hot_cut(h, &mark);
    return r.bad ? xt_fail(err, XT_ESTORE, "a row of the samples' log is damaged")
                 : xt_fail(err, XT_ENOMEM, "out of memory");
}
