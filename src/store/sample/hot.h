/* hot.h -- the points that no generation holds yet, in memory, in order of arrival; the same for every engine.
 *
 * A part has tables of strings, names (metric of a project), label sets and points, each numbered from 0 in the order in
 * which it came. Values of 32 hex digits are kept as 16 bytes and never interned. A set is found by a hash, and a hit is
 * compared with the labels.
 *
 * Threads: one writer; any number of readers. What a reader may see is what hot_publish_points said so far: it never moves and
 * never changes, so a hot_view needs no lock. The writer takes back what it has not published by hot_cut.
 * Ownership: counted references; a part holds copies of all text. */
#pragma once
#include <stdatomic.h>

#include "base/err.h"
#include "model/event.h"
#include "store/limits.h"
#include "store/sample/pack.h"

#define HOT_HEX PACK_ID /* in pack_label.value: a number in the table of 16-byte values, else of a string */
#define HOT_NONE UINT32_MAX
#define HOT_DIR 4096 /* chunks of a table */
#ifndef XTRACE_SMALL_LIMITS
#define HOT_POINT_SHIFT 13 /* points of a chunk, as a power of two */
#define HOT_ITEM_SHIFT 12  /* the same for the other tables */
#else
#define HOT_POINT_SHIFT 6
#define HOT_ITEM_SHIFT 6
#endif
#define HOT_BYTES_HEX 16

struct hot_string {
    const char *p; /* NULL: lost with a damaged log row */
    uint32_t n, hash;
};
struct hot_name {
    int64_t project;
    uint32_t text, hash;
};
struct hot_set {
    const struct pack_label *labels; /* sorted by the keys' text */
    uint32_t name;                   /* HOT_NONE: lost with a damaged log row, no point belongs to it */
    uint32_t nlabels : 31;
    uint32_t replaces : 1; /* a later point replaces an earlier one of the same time */
    uint32_t hash;
};
struct hot_points {
    uint32_t set[1u << HOT_POINT_SHIFT];
    int64_t time[1u << HOT_POINT_SHIFT];
    double value[1u << HOT_POINT_SHIFT];
};
struct hot_hex {
    uint8_t bytes[HOT_BYTES_HEX];
};

/* What there is so far, or was at some time. */
struct hot_count {
    uint32_t strings, hexes, names, sets, points;
};
struct hot_map {
    uint64_t *slots; /* hash and number + 1; 0: free */
    size_t cap, count;
};
struct hot_slab;
/* Where hot_cut goes back to. */
struct hot_mark {
    struct hot_count count;
    struct hot_slab *slab;
    size_t slab_used, text;
};

struct hot {
    _Atomic int refs;
    struct hot_string *strings[HOT_DIR];
    struct hot_hex *hexes[HOT_DIR];
    struct hot_name *names[HOT_DIR];
    struct hot_set *sets[HOT_DIR];
    struct hot_points *points[HOT_DIR];
    /* The writer's. */
    struct hot_count n;
    size_t text; /* bytes of strings, values and label lists */
    struct hot_slab *slab;
    struct hot_map string_map, name_map, set_map;
    int64_t t0, t1; /* of the published points; t0 > t1: none */
    /* Published. */
    _Atomic uint32_t seen_strings, seen_hexes, seen_names, seen_sets, seen_points;
};

struct hot *hot_part_new(void); /* NULL: no memory */
void hot_part_ref(struct hot *h);
void hot_part_unref(struct hot *h); /* NULL is fine */

/* ---- writer ---- */
/* XT_EREFUSED: its texts are too long for any part. Any thread. */
enum xt_code hot_check(const struct sample *p, struct xt_err *err);
/* Hash of a point's project, name, labels and kind, as hot_add wants it in sample.set_hash; never 0. Any thread. */
uint32_t hot_hash(int64_t project, const struct sample *p);
/* Both for the points of a batch, on the thread that decoded it. XT_EREFUSED: one is not for storing. */
enum xt_code hot_prepare(struct batch *b, struct xt_err *err);
void hot_mark(const struct hot *h, struct hot_mark *ret);
/* Takes back all that came after the mark and was not published. */
void hot_cut(struct hot *h, const struct hot_mark *m);
/* Adds a point. XT_EREFUSED: more than a part can number; XT_ENOMEM. After a failure: hot_cut. */
enum xt_code hot_add(struct hot *h, int64_t project, const struct sample *p, struct xt_err *err);
void hot_publish_points(struct hot *h);
/* Is it time to seal? */
bool hot_full(const struct hot *h);
/* Number of a stored set with the labels of set `set` of `from`, or HOT_NONE. */
uint32_t hot_find_set(const struct hot *h, const struct hot *from, uint32_t set);

/* For the log's replay and for carrying: the next of each table. HOT_NONE / false: no memory, or too many. A string, a
 * name or a set may be given as lost (p NULL; text HOT_NONE; name HOT_NONE). Numbers must be those of existing rows. */
uint32_t hot_put_string(struct hot *h, struct str text);
uint32_t hot_put_hex(struct hot *h, const uint8_t bytes[HOT_BYTES_HEX]);
uint32_t hot_put_name(struct hot *h, int64_t project, uint32_t text);
/* Room for a list of labels; it belongs to the part and goes with the set. NULL: no memory. */
struct pack_label *hot_room(struct hot *h, size_t nlabels);
uint32_t hot_put_set(struct hot *h, uint32_t name, const struct pack_label *labels, size_t n, bool replaces);
bool hot_put_point(struct hot *h, uint32_t set, int64_t time, double value);
/* The same set in another part: found, or added with its strings. */
uint32_t hot_copy_set(struct hot *h, const struct hot *from, uint32_t set);

/* ---- anybody, below the counts of a view ---- */
struct hot_count hot_seen(const struct hot *h);
static inline const struct hot_string *hot_string(const struct hot *h, uint32_t i) {
    return &h->strings[i >> HOT_ITEM_SHIFT][i & ((1u << HOT_ITEM_SHIFT) - 1)];
}
static inline const struct hot_hex *hot_hex(const struct hot *h, uint32_t i) {
    return &h->hexes[i >> HOT_ITEM_SHIFT][i & ((1u << HOT_ITEM_SHIFT) - 1)];
}
static inline const struct hot_name *hot_name(const struct hot *h, uint32_t i) {
    return &h->names[i >> HOT_ITEM_SHIFT][i & ((1u << HOT_ITEM_SHIFT) - 1)];
}
static inline const struct hot_set *hot_set(const struct hot *h, uint32_t i) {
    return &h->sets[i >> HOT_ITEM_SHIFT][i & ((1u << HOT_ITEM_SHIFT) - 1)];
}
static inline uint32_t hot_point_set(const struct hot *h, uint32_t i) {
    return h->points[i >> HOT_POINT_SHIFT]->set[i & ((1u << HOT_POINT_SHIFT) - 1)];
}
static inline int64_t hot_point_time(const struct hot *h, uint32_t i) {
    return h->points[i >> HOT_POINT_SHIFT]->time[i & ((1u << HOT_POINT_SHIFT) - 1)];
}
static inline double hot_point_value(const struct hot *h, uint32_t i) {
    return h->points[i >> HOT_POINT_SHIFT]->value[i & ((1u << HOT_POINT_SHIFT) - 1)];
}
static inline struct str hot_text(const struct hot *h, uint32_t string) {
    const struct hot_string *s = hot_string(h, string);
    return (struct str){ s->p, s->n };
}
/* Text of a label's value; a hex one is spelled into `room`. */
struct str hot_value(const struct hot *h, uint32_t value, char room[2 * HOT_BYTES_HEX]);
/* Is it 32 lower-case hex digits? Then they are decoded. */
bool hot_hex_text(struct str s, uint8_t ret[HOT_BYTES_HEX]);
