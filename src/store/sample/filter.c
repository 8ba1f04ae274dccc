/* filter.c -- see filter.h. 12 bits for each hash, six of them set in one line. */
#include "store/sample/filter.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/codec.h"
#include "base/map.h"

#define BITS_EACH 12
#define PROBES 6

/* Fixed for ever: they are in every file. */
static const uint64_t label_key[2] = { UINT64_C(0x78747261636573d1), UINT64_C(0x6d657472696373e7) };
#define VALUE_KEY UINT64_C(0x9e3779b97f4a7c15)
#define MIX_1 UINT64_C(0xbf58476d1ce4e5b9)
#define MIX_2 UINT64_C(0x94d049bb133111eb)

static inline uint64_t mix(uint64_t h) {
    h = (h ^ h >> 30) * MIX_1;
    h = (h ^ h >> 27) * MIX_2;
    return h ^ h >> 31;
}

uint64_t filter_label(int64_t metric, struct str key) {
    uint64_t seed[2] = { label_key[0] ^ (uint64_t)metric, label_key[1] };
    return map_siphash(seed, 1, 3, str_has(key) ? key : STR_LIT(""));
}

uint64_t filter_id(uint64_t label, const uint8_t id[16]) {
    uint64_t low = 0, high = 0;
    for (int i = 7; i >= 0; i--) {
        low = low << 8 | id[i];
        high = high << 8 | id[i + 8];
    }
    return mix(mix(label ^ low) + high);
}

uint64_t filter_text(uint64_t label, struct str value) {
    uint8_t id[16];
    if (value.n == 32 && hex_decode(value, id, 16)) {
        char again[32];
        hex_encode(id, 16, again);
        if (memcmp(again, value.p, 32) == 0)
            return filter_id(label, id);
    }
    const uint64_t seed[2] = { label, VALUE_KEY };
    return map_siphash(seed, 1, 3, str_has(value) ? value : STR_LIT(""));
}

uint64_t filter_hash(int64_t metric, struct str key, struct str value) {
    return filter_text(filter_label(metric, key), value);
}

/* ---- lines ---- */

/* Line of the whole filter: the upper half of the hash, scaled to `lines` (below 2^32). */
static inline uint64_t line_of(uint64_t hash, uint64_t lines) { return (hash >> 32) * lines >> 32; }
/* Six times nine bits for the places in a line. */
static inline uint64_t places_of(uint64_t hash) { return hash * VALUE_KEY >> 10; }

static inline void line_set(uint8_t *line, uint64_t hash) {
    uint64_t at = places_of(hash);
    for (int i = 0; i < PROBES; i++, at >>= 9)
        line[(at & 511) / 8] |= (uint8_t)(1u << (at & 7));
}

bool filter_make(const uint64_t *hashes, size_t n, struct filter *ret) {
    size_t lines = n / (FILTER_LINE * 8 / BITS_EACH) + 1, rows = (lines + FILTER_ROW_LINES - 1) / FILTER_ROW_LINES;
    if (lines > UINT32_MAX)
        return false;
    uint8_t *bytes = alloc_should_fail() ? NULL : calloc(rows, FILTER_ROW);
    if (!bytes)
        return false;
    for (size_t i = 0; i < n; i++)
        line_set(bytes + line_of(hashes[i], rows * FILTER_ROW_LINES) * FILTER_LINE, hashes[i]);
    *ret = (struct filter){ bytes, rows };
    return true;
}

void filter_done(struct filter *f) {
    free(f->bytes);
    *f = (struct filter){ NULL, 0 };
}

size_t filter_row(uint64_t hash, size_t rows) {
    return (size_t)(line_of(hash, rows * (uint64_t)FILTER_ROW_LINES) / FILTER_ROW_LINES);
}

bool filter_maybe(struct str row, size_t rows, uint64_t hash) {
    if (row.n != FILTER_ROW)
        return true;
    const uint8_t *line =
        (const uint8_t *)row.p + line_of(hash, rows * (uint64_t)FILTER_ROW_LINES) % FILTER_ROW_LINES * FILTER_LINE;
    uint64_t at = places_of(hash);
    for (int i = 0; i < PROBES; i++, at >>= 9)
        if (!(line[(at & 511) / 8] & 1u << (at & 7)))
            return false;
    return true;
}
