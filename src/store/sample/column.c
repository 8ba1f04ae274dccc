/* column.c -- see column.h. A block of up to 128 integers:
 *
 *   width in bits (0 to 64), plus 128 if there are exceptions; base (zigzag varint); number of exceptions, if any;
 *   n distances of `width` bits, lowest first, filled up to a byte; place of each exception (a byte), then its distance
 *   from the base (zigzag varint).
 *
 *  1. Distances wrap in 64 bits, so that base + distance is the value whatever the two are.
 *  2. The base is the least value, unless a few values lie far below the rest (late points): then it is the least of the
 *     rest, and those few are exceptions as those far above are. */
#include "store/sample/column.h"

#include <string.h>

#define EXCEPTIONS 0x80
#define VARINT_MAX 10
#define BLOCK_MAX (2 + VARINT_MAX + COLUMN_BLOCK * (8 + 1 + VARINT_MAX))
#define GOOD_WIDTH 3 /* bits a value: below it no other base is tried */
#define WHOLE_MAX 0x1p53

/* ---- numbers ---- */

static inline uint64_t zigzag(uint64_t v) { return v << 1 ^ (0 - (v >> 63)); }
static inline uint64_t unzigzag(uint64_t v) { return v >> 1 ^ (0 - (v & 1)); }
static inline unsigned bits_of(uint64_t v) { return v ? 64 - (unsigned)__builtin_clzll(v) : 0; }

static inline uint64_t le64(uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(v);
#else
    return v;
#endif
}
static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64(v);
}
static inline void store64(uint8_t *p, uint64_t v) {
    v = le64(v);
    memcpy(p, &v, sizeof v);
}

static uint8_t *write_varint(uint8_t *p, uint64_t v) {
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

void column_put_varint(struct buf *out, uint64_t v) {
    uint8_t room[VARINT_MAX];
    buf_add(out, room, (size_t)(write_varint(room, v) - room));
}

static uint64_t fail(struct column_in *in) {
    in->bad = true;
    in->p = in->end;
    return 0;
}

uint64_t column_varint(struct column_in *in) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && in->p < in->end; shift += 7) {
        uint8_t c = *in->p++;
        if (shift == 63 && c > 1)
            break;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            return v;
    }
    return fail(in);
}

uint64_t column_number(struct column_in *in, uint64_t max) {
    uint64_t v = column_varint(in);
    return v <= max ? v : fail(in);
}

const uint8_t *column_bytes(struct column_in *in, uint64_t n) {
    const uint8_t *p = in->p;
    if (in->bad || n > (uint64_t)(in->end - in->p)) {
        fail(in);
        return NULL;
    }
    in->p += n;
    return p;
}

/* ---- choosing base and width ---- */

struct shape {
    int64_t base;
    unsigned width;
    size_t exceptions;
    size_t cost; /* bits */
};

static inline size_t exception_cost(unsigned bits) { return 8 + (bits + 7) / 7 * 8; }

/* The cheapest width for a base; what lies below the base is an exception. */
static struct shape width_of(const int64_t *v, size_t n, int64_t base) {
    uint8_t count[65] = { 0 };
    struct shape s = { .base = base, .cost = SIZE_MAX };
    size_t bits = 0, exceptions = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i] >= base) {
            count[bits_of((uint64_t)v[i] - (uint64_t)base)]++;
        } else {
            bits += exception_cost(bits_of((uint64_t)base - (uint64_t)v[i]));
            exceptions++;
        }
    }
    for (unsigned w = 64;; w--) {
        if (n * w + bits < s.cost)
            s = (struct shape){ base, w, exceptions, n * w + bits };
        if (w == 0)
            return s;
        bits += count[w] * exception_cost(w);
        exceptions += count[w];
    }
}

static int64_t median(const int64_t *from, size_t n) {
    int64_t v[COLUMN_BLOCK];
    memcpy(v, from, n * sizeof *v);
    size_t low = 0, high = n - 1, k = n / 2;
    while (low < high) {
        int64_t pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i >= j)
                break;
            int64_t t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        if (k <= j)
            high = j;
        else
            low = j + 1;
    }
    return v[k];
}

/* A base near the middle of the list, below which few values lie (invariant 2). */
static int64_t base_of_most(const int64_t *v, size_t n) {
    uint8_t count[65] = { 0 };
    int64_t middle = median(v, n), base = middle;
    for (size_t i = 0; i < n; i++)
        if (v[i] < middle)
            count[bits_of((uint64_t)middle - (uint64_t)v[i])]++;
    size_t best = SIZE_MAX, bits = 0;
    unsigned reach = 0;
    for (unsigned w = 64;; w--) {
        if (n * w + bits < best) {
            best = n * w + bits;
            reach = w;
        }
        if (w == 0)
            break;
        bits += count[w] * exception_cost(w);
    }
    for (size_t i = 0; i < n; i++)
        if (v[i] < base && bits_of((uint64_t)middle - (uint64_t)v[i]) <= reach)
            base = v[i];
    return base;
}

static struct shape shape_of(const int64_t *v, size_t n) {
    int64_t low = v[0];
    for (size_t i = 1; i < n; i++)
        low = v[i] < low ? v[i] : low;
    struct shape s = width_of(v, n, low);
    if (s.cost <= n * GOOD_WIDTH)
        return s;
    int64_t base = base_of_most(v, n);
    if (base == low)
        return s;
    struct shape other = width_of(v, n, base);
    return other.cost < s.cost ? other : s;
}

/* ---- blocks ---- */

static uint8_t *put_bits(uint8_t *p, const int64_t *v, size_t n, const struct shape *s) {
    uint64_t mask = s->width == 64 ? UINT64_MAX : (UINT64_C(1) << s->width) - 1, held = 0;
    unsigned nheld = 0;
    for (size_t i = 0; i < n && s->width > 0; i++) {
        uint64_t d = (uint64_t)v[i] - (uint64_t)s->base;
        d = d > mask ? 0 : d;
        held |= d << nheld;
        if (nheld + s->width >= 64) {
            store64(p, held);
            p += 8;
            held = nheld ? d >> (64 - nheld) : 0;
            nheld = nheld + s->width - 64;
        } else {
            nheld += s->width;
        }
    }
    for (; nheld > 0; nheld = nheld > 8 ? nheld - 8 : 0) {
        *p++ = (uint8_t)held;
        held >>= 8;
    }
    return p;
}

static uint8_t *put_exceptions(uint8_t *p, const int64_t *v, size_t n, const struct shape *s) {
    uint64_t d[COLUMN_BLOCK];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t far = (uint64_t)v[i] - (uint64_t)s->base;
        if (v[i] >= s->base && bits_of(far) <= s->width)
            continue;
        *p++ = (uint8_t)i;
        d[k++] = far;
    }
    for (size_t i = 0; i < k; i++)
        p = write_varint(p, zigzag(d[i]));
    return p;
}

static void put_block(struct buf *out, const int64_t *v, size_t n) {
    if (!buf_reserve(out, BLOCK_MAX))
        return;
    struct shape s = shape_of(v, n);
    uint8_t *start = (uint8_t *)out->p + out->n, *p = start;
    *p++ = (uint8_t)(s.width | (s.exceptions ? EXCEPTIONS : 0));
    p = write_varint(p, zigzag((uint64_t)s.base));
    if (s.exceptions)
        *p++ = (uint8_t)s.exceptions;
    p = put_bits(p, v, n, &s);
    if (s.exceptions)
        p = put_exceptions(p, v, n, &s);
    out->n += (size_t)(p - start);
    out->p[out->n] = '\0';
}

void column_put_ints(struct buf *out, const int64_t *v, size_t n) {
    for (size_t i = 0; i < n && !out->failed; i += COLUMN_BLOCK)
        put_block(out, v + i, n - i < COLUMN_BLOCK ? n - i : COLUMN_BLOCK);
}

/* p has 8 bytes more than the block's bits. */
static void unpack(const uint8_t *p, int64_t *room, size_t n, uint64_t base, unsigned width) {
    uint64_t mask = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
    if (width <= 56) {
        for (size_t i = 0, bit = 0; i < n; i++, bit += width)
            room[i] = (int64_t)(base + (load64(p + bit / 8) >> bit % 8 & mask));
        return;
    }
    for (size_t i = 0, bit = 0; i < n; i++, bit += width) {
        uint64_t d = load64(p + bit / 8) >> bit % 8;
        if (bit % 8)
            d |= (uint64_t)p[bit / 8 + 8] << (64 - bit % 8);
        room[i] = (int64_t)(base + (d & mask));
    }
}

static void get_bits(struct column_in *in, int64_t *room, size_t n, uint64_t base, unsigned width) {
    uint8_t end[COLUMN_BLOCK * 8 + 8];
    size_t bytes = (n * width + 7) / 8;
    const uint8_t *p = column_bytes(in, bytes);
    if (!p)
        return;
    if (in->end - in->p < 8) { /* the last ones: not beyond the end of what is there */
        memcpy(end, p, bytes);
        memset(end + bytes, 0, 8);
        p = end;
    }
    unpack(p, room, n, base, width);
}

static void get_block(struct column_in *in, int64_t *room, size_t n) {
    const uint8_t *head = column_bytes(in, 1);
    unsigned width = head ? *head & 0x7f : 0;
    if (!head || width > 64) {
        fail(in);
        return;
    }
    uint64_t base = unzigzag(column_varint(in)), exceptions = 0;
    if (*head & EXCEPTIONS) {
        const uint8_t *count = column_bytes(in, 1);
        exceptions = count ? *count : 0;
    }
    if (in->bad || exceptions > n) {
        fail(in);
        return;
    }
    get_bits(in, room, n, base, width);
    const uint8_t *places = column_bytes(in, exceptions);
    for (size_t i = 0; i < exceptions && !in->bad; i++) {
        uint64_t d = unzigzag(column_varint(in));
        if (places[i] >= n)
            fail(in);
        else
            room[places[i]] = (int64_t)(base + d);
    }
}

bool column_ints(struct column_in *in, int64_t *room, size_t n) {
    for (size_t i = 0; i < n && !in->bad; i += COLUMN_BLOCK)
        get_block(in, room + i, n - i < COLUMN_BLOCK ? n - i : COLUMN_BLOCK);
    return !in->bad;
}

/* ---- doubles as integers ---- */

static const double scales[COLUMN_SCALES] = { 1, 1e3, 1e6, 1e9 };

/* How many of the doubles, from the front, are whole at this scale. */
static size_t whole_at(const double *v, size_t n, double scale, int64_t *ret) {
    for (size_t i = 0; i < n; i++) {
        double x = v[i] * scale;
        if (!(x >= -WHOLE_MAX && x <= WHOLE_MAX))
            return i;
        ret[i] = (int64_t)(x < 0 ? x - 0.5 : x + 0.5);
        double back = (double)ret[i] / scale;
        if (!same_bits(back, v[i]))
            return i;
    }
    return n;
}

unsigned column_scale(const double *v, size_t n, int64_t *ret) {
    unsigned scale = 0;
    while (scale < COLUMN_SCALES && whole_at(v, n, scales[scale], ret) < n)
        scale++;
    return scale;
}

void column_unscale(const int64_t *v, size_t n, unsigned scale, double *ret) {
    if (scale == 0) {
        for (size_t i = 0; i < n; i++)
            ret[i] = (double)v[i];
        return;
    }
    for (size_t i = 0; i < n; i++)
        ret[i] = (double)v[i] / scales[scale];
}
