/* index_hot.c -- the hot part of the index: what no run has yet, in memory; see index.h, 1 and 5.
 *
 *  1. Segments are allocated before they are pointed to, and an entry is written before a mark counts it; last_seq is
 *     released after both. A reader acquires last_seq, takes the mark of its log row and reads nothing beyond it.
 *  2. The map is the writer's alone. */
#include <stdlib.h>

#include "store/sqlite/index.h"

static size_t segment_of(size_t i, size_t *ret_at) {
    size_t q = i / HOT_FIRST + 1;
    size_t s = (size_t)(63 - __builtin_clzll(q));
    *ret_at = i - HOT_FIRST * (((size_t)1 << s) - 1);
    return s;
}

static size_t segment_cap(size_t s) { return (size_t)HOT_FIRST << s; }

struct ix_hot *hot_new(int64_t first_seq) {
    struct ix_hot *h = alloc_should_fail() ? NULL : calloc(1, sizeof *h);
    if (!h)
        return NULL;
    atomic_init(&h->refs, 1);
    atomic_init(&h->last_seq, first_seq);
    h->first_seq = first_seq;
    return h;
}

void hot_unref(struct ix_hot *h) {
    if (!h || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t s = 0; s < HOT_SEGMENTS; s++) {
        for (int k = 0; k < IX_KINDS; k++)
            free(h->seg[k][s]);
        free(h->marks[s]);
    }
    free(h->map);
    free(h);
}

/* ---- the writer's map of trace entries ---- */

static size_t map_slot(const struct ix_hot *h, uint64_t hash) {
    return (size_t)((hash * UINT64_C(0x9E3779B97F4A7C15)) >> 20) & (h->map_cap - 1);
}

static void map_insert(struct ix_hot *h, uint32_t i) {
    size_t slot = map_slot(h, hot_entry(h, IX_TRACE, i).h);
    while (h->map[slot] != 0)
        slot = (slot + 1) & (h->map_cap - 1);
    h->map[slot] = i + 1;
    h->map_used++;
}

/* Room for `n` entries in all. */
static bool map_reserve(struct ix_hot *h, size_t n) {
    size_t cap = h->map_cap ? h->map_cap : 256;
    while (cap < n * 2)
        cap *= 2;
    if (cap == h->map_cap)
        return true;
    uint32_t *bigger = alloc_should_fail() ? NULL : calloc(cap, sizeof *bigger);
    if (!bigger)
        return false;
    free(h->map);
    h->map = bigger;
    h->map_cap = cap;
    h->map_used = 0;
    for (uint32_t i = 0; i < h->published.n[IX_TRACE]; i++)
        map_insert(h, i);
    return true;
}

bool hot_map_next(const struct ix_hot *h, uint64_t hash, size_t *at, struct ix_entry *ret) {
    if (h->map_used == 0)
        return false;
    for (size_t slot = map_slot(h, hash) + *at;; slot++) {
        uint32_t i = h->map[slot & (h->map_cap - 1)];
        if (i == 0)
            return false;
        ++*at;
        *ret = hot_entry(h, IX_TRACE, i - 1);
        if (ret->h == hash)
            return true;
    }
}

/* ---- entries ---- */

/* A segment holds the hashes of all its entries, then their traces, then for postings their times. */
bool hot_stage(struct ix_hot *h, enum ix_kind kind, const struct ix_entry *e) {
    size_t at, s = segment_of(h->staged.n[kind], &at);
    if (s >= HOT_SEGMENTS || h->staged.n[kind] == UINT32_MAX)
        return false;
    size_t cap = segment_cap(s);
    if (!h->seg[kind][s]) {
        h->seg[kind][s] = alloc_should_fail() ? NULL : malloc(cap * (ix_timed(kind) ? 24 : 16));
        if (!h->seg[kind][s])
            return false;
    }
    if (kind == IX_TRACE && !map_reserve(h, (size_t)h->staged.n[kind] + 1))
        return false;
    uint64_t *p = h->seg[kind][s];
    p[at] = e->h;
    p[cap + at] = (uint64_t)e->tseq;
    if (ix_timed(kind))
        p[2 * cap + at] = e->ts;
    h->staged.n[kind]++;
    return true;
}

void hot_forget(struct ix_hot *h) { h->staged = h->published; }

bool hot_reserve(struct ix_hot *h) {
    int64_t row = atomic_load_explicit(&h->last_seq, memory_order_relaxed) - h->first_seq;
    size_t at, s = segment_of((size_t)row, &at);
    if (s >= HOT_SEGMENTS)
        return false;
    if (!h->marks[s])
        h->marks[s] = alloc_should_fail() ? NULL : malloc(segment_cap(s) * sizeof **h->marks);
    return h->marks[s] != NULL;
}

void hot_publish(struct ix_hot *h) {
    int64_t last = atomic_load_explicit(&h->last_seq, memory_order_relaxed);
    size_t at, s = segment_of((size_t)(last - h->first_seq), &at);
    uint32_t from = h->published.n[IX_TRACE];
    h->marks[s][at] = h->staged;
    h->published = h->staged;
    for (uint32_t i = from; i < h->published.n[IX_TRACE]; i++)
        map_insert(h, i);
    atomic_store_explicit(&h->last_seq, last + 1, memory_order_release);
}

struct ix_counts hot_counts_at(const struct ix_hot *h, int64_t seq) {
    size_t at, s;
    if (seq <= h->first_seq)
        return (struct ix_counts){ 0 };
    s = segment_of((size_t)(seq - h->first_seq - 1), &at);
    return h->marks[s][at];
}

struct ix_entry hot_entry(const struct ix_hot *h, enum ix_kind kind, uint32_t i) {
    size_t at, s = segment_of(i, &at), cap = segment_cap(s);
    const uint64_t *p = h->seg[kind][s];
    return (struct ix_entry){ p[at], ix_timed(kind) ? p[2 * cap + at] : 0, (int64_t)p[cap + at] };
}

uint32_t hot_first(const struct ix_hot *h, enum ix_kind kind, uint64_t hash, uint64_t ts, uint32_t limit) {
    const struct ix_entry least = { .h = hash, .ts = ts };
    uint32_t lo = 0, hi = h->sorted ? limit : 0;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct ix_entry e = hot_entry(h, kind, mid);
        if (ix_cmp(&e, &least) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static uint32_t next_sorted(const struct ix_hot *h, enum ix_kind kind, uint64_t hash, uint32_t from, uint32_t limit) {
    if (from < limit && hot_entry(h, kind, from).h < hash)
        from = hot_first(h, kind, hash, 0, limit);
    return from < limit && hot_entry(h, kind, from).h == hash ? from : limit;
}

uint32_t hot_next(const struct ix_hot *h, enum ix_kind kind, uint64_t hash, uint32_t from, uint32_t limit) {
    if (h->sorted)
        return next_sorted(h, kind, hash, from, limit);
    while (from < limit) {
        size_t at, s = segment_of(from, &at), cap = segment_cap(s), end = at + (limit - from);
        const uint64_t *p = h->seg[kind][s];
        if (end > cap)
            end = cap;
        size_t i = at;
        while (i < end && p[i] != hash)
            i++;
        from += (uint32_t)(i - at);
        if (i < end)
            return from;
    }
    return limit;
}

/* ---- sorting ---- */

static uint64_t sort_word(const struct ix_entry *e, int word) {
    return word == 0 ? (uint64_t)e->tseq : word == 1 ? e->ts : e->h;
}

/* By one byte, stable; bytes that are all alike cost a count alone. Returns where the result is. */
static struct ix_entry *sort_pass(struct ix_entry *from, struct ix_entry *to, uint32_t n, int word, int shift) {
    uint32_t starts[256] = { 0 };
    for (uint32_t i = 0; i < n; i++)
        starts[sort_word(&from[i], word) >> shift & 255]++;
    if (starts[sort_word(&from[0], word) >> shift & 255] == n)
        return from;
    for (uint32_t b = 0, sum = 0; b < 256; b++) {
        uint32_t count = starts[b];
        starts[b] = sum;
        sum += count;
    }
    for (uint32_t i = 0; i < n; i++)
        to[starts[sort_word(&from[i], word) >> shift & 255]++] = from[i];
    return to;
}

struct ix_entry *hot_sorted(const struct ix_hot *h, enum ix_kind kind, uint32_t n) {
    if (n == 0 || alloc_should_fail())
        return NULL;
    struct ix_entry *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b), *at = a;
    if (!a || !b) {
        free(a);
        free(b);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++)
        a[i] = hot_entry(h, kind, i);
    for (int word = 0; word < 3; word++) {
        if (word == 1 && !ix_timed(kind))
            continue;
        for (int shift = 0; shift < 64; shift += 8)
            at = sort_pass(at, at == a ? b : a, n, word, shift);
    }
    free(at == a ? b : a);
    return at;
}

struct ix_hot *hot_sorted_copy(const struct ix_hot *h, const struct ix_counts *n) {
    struct ix_hot *copy = hot_new(h->first_seq);
    bool ok = copy != NULL;
    for (enum ix_kind k = 0; k < IX_KINDS && ok; k++) {
        struct ix_entry *v = n->n[k] ? hot_sorted(h, k, n->n[k]) : NULL;
        ok = v || n->n[k] == 0;
        for (uint32_t i = 0; i < n->n[k] && ok; i++)
            ok = hot_stage(copy, k, &v[i]);
        free(v);
    }
    if (ok) {
        copy->sorted = true;
        return copy;
    }
    hot_unref(copy);
    return NULL;
}
