/* hot.c -- see hot.h.
 *
 *  1. Tables are lists of chunks that never move, so that readers need no lock; text and label lists lie in slabs.
 *  2. Counts of a table grow before the points that need it are published, and points are published last.
 *  3. Maps belong to the writer. An entry is removed by shifting its followers back: no tombstones, whatever was cut. */
#include "store/sample/hot.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/codec.h"
#include "base/map.h"

#define SLAB_BYTES ((size_t)64 << 10)
#define MAP_FIRST 64
#define LABELS_MAX ((size_t)1 << 30)
#define POINT_BYTES_MAX ((size_t)16 << 20) /* texts of one point */
#define PART_BYTES_MAX ((size_t)512 << 20) /* texts of a part, past what hot_full says: of one group */

struct hot_slab {
    struct hot_slab *prev;
    size_t used, cap;
    _Alignas(8) char bytes[];
};

/* ---- life ---- */

struct hot *hot_part_new(void) {
    struct hot *h = alloc_should_fail() ? NULL : calloc(1, sizeof *h);
    if (!h)
        return NULL;
    atomic_init(&h->refs, 1);
    h->t0 = TIME_MAX;
    h->t1 = TIME_MIN;
    return h;
}

void hot_part_ref(struct hot *h) { atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed); }

static void chunks_free(void **dir) {
    for (size_t i = 0; i < HOT_DIR && dir[i]; i++)
        free(dir[i]);
}

void hot_part_unref(struct hot *h) {
    if (!h || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1)
        return;
    chunks_free((void **)h->strings);
    chunks_free((void **)h->hexes);
    chunks_free((void **)h->names);
    chunks_free((void **)h->sets);
    chunks_free((void **)h->points);
    while (h->slab) {
        struct hot_slab *prev = h->slab->prev;
        free(h->slab);
        h->slab = prev;
    }
    free(h->string_map.slots);
    free(h->name_map.slots);
    free(h->set_map.slots);
    free(h);
}

static void *room(struct hot *h, size_t bytes) {
    size_t need = (bytes + 7) & ~(size_t)7;
    if (!h->slab || h->slab->cap - h->slab->used < need) {
        size_t cap = need > SLAB_BYTES ? need : SLAB_BYTES;
        struct hot_slab *s = alloc_should_fail() ? NULL : malloc(sizeof *s + cap);
        if (!s)
            return NULL;
        s->prev = h->slab;
        s->used = 0;
        s->cap = cap;
        h->slab = s;
    }
    void *p = h->slab->bytes + h->slab->used;
    h->slab->used += need;
    return p;
}

/* The chunk for number i of a table, made on first use. Rows come one by one, so i is at most one chunk ahead. */
static bool chunk(void **dir, uint32_t i, unsigned shift, size_t bytes) {
    size_t at = i >> shift;
    if (at >= HOT_DIR)
        return false;
    if (!dir[at])
        dir[at] = alloc_should_fail() ? NULL : malloc(bytes);
    return dir[at] != NULL;
}
#define CHUNK(dir, i, shift, size) chunk((void **)(dir), (i), (shift), (size))

/* ---- maps ---- */

static inline size_t slot_of(const struct hot_map *m, uint32_t hash) {
    return (size_t)(hash * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (m->cap - 1);
}

/* The next number with this hash from slot *at on, HOT_NONE at the first free slot. *at then is behind it. */
static inline uint32_t map_next(const struct hot_map *m, uint32_t hash, size_t *at) {
    for (;;) {
        uint64_t slot = m->slots[*at];
        if (slot == 0)
            return HOT_NONE;
        *at = (*at + 1) & (m->cap - 1);
        if ((uint32_t)(slot >> 32) == hash)
            return (uint32_t)slot - 1;
    }
}

static void map_place(struct hot_map *m, uint64_t slot) {
    size_t at = slot_of(m, (uint32_t)(slot >> 32));
    while (m->slots[at] != 0)
        at = (at + 1) & (m->cap - 1);
    m->slots[at] = slot;
}

static bool map_add(struct hot_map *m, uint32_t hash, uint32_t number) {
    if (m->count * 2 >= m->cap) {
        struct hot_map wide = { .cap = m->cap ? m->cap * 2 : MAP_FIRST };
        wide.slots = alloc_should_fail() ? NULL : calloc(wide.cap, sizeof *wide.slots);
        if (!wide.slots)
            return false;
        for (size_t i = 0; i < m->cap; i++)
            if (m->slots[i])
                map_place(&wide, m->slots[i]);
        free(m->slots);
        m->slots = wide.slots;
        m->cap = wide.cap;
    }
    map_place(m, (uint64_t)hash << 32 | (number + UINT64_C(1)));
    m->count++;
    return true;
}

/* A number that is not there (its row was lost, or never got in) is no error. */
static void map_remove(struct hot_map *m, uint32_t hash, uint32_t number) {
    const uint64_t want = (uint64_t)hash << 32 | (number + UINT64_C(1));
    if (m->cap == 0)
        return;
    size_t at = slot_of(m, hash), mask = m->cap - 1;
    while (m->slots[at] != want) {
        if (m->slots[at] == 0)
            return;
        at = (at + 1) & mask;
    }
    for (size_t next = (at + 1) & mask; m->slots[next] != 0; next = (next + 1) & mask) {
        size_t home = slot_of(m, (uint32_t)(m->slots[next] >> 32));
        if (((next - home) & mask) >= ((next - at) & mask)) { /* it may stand at the gap */
            m->slots[at] = m->slots[next];
            at = next;
        }
    }
    m->slots[at] = 0;
    m->count--;
}

/* ---- hashes ---- */

static uint32_t text_hash(struct str s) { return (uint32_t)map_hash(s); }

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}
static uint64_t hash_begin(int64_t project, uint32_t name, bool replaces) {
    return mix(mix(replaces ? 2 : 1, (uint64_t)project), name);
}
static uint32_t hash_end(uint64_t h) {
    uint32_t r = (uint32_t)(h >> 32 ^ h);
    return r ? r : 1;
}

enum xt_code hot_check(const struct sample *p, struct xt_err *err) {
    size_t n = p->name.n;
    for (size_t i = 0; i < p->nlabels && n <= POINT_BYTES_MAX; i++)
        n += p->labels[i].name.n + p->labels[i].value.n + sizeof(struct pack_label);
    return n <= POINT_BYTES_MAX ? XT_OK : xt_fail(err, XT_EREFUSED, "the name and labels of a sample are too long");
}

uint32_t hot_hash(int64_t project, const struct sample *p) {
    uint64_t h = hash_begin(project, text_hash(p->name), p->replaces);
    for (size_t i = 0; i < p->nlabels; i++)
        h = mix(mix(h, text_hash(p->labels[i].name)), text_hash(p->labels[i].value));
    return hash_end(h);
}

enum xt_code hot_prepare(struct batch *b, struct xt_err *err) {
    for (size_t i = 0; i < b->nsamples; i++) {
        enum xt_code code = hot_check(&b->samples[i], err);
        if (code != XT_OK)
            return code;
        b->samples[i].set_hash = hot_hash(b->project, &b->samples[i]);
    }
    return XT_OK;
}

bool hot_hex_text(struct str s, uint8_t ret[HOT_BYTES_HEX]) {
    if (s.n != 2 * HOT_BYTES_HEX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        unsigned digit = c - (unsigned)'0', letter = c - (unsigned)'a';
        if (digit > 9 && letter > 5)
            return false;
        unsigned v = digit <= 9 ? digit : letter + 10;
        ret[i / 2] = (uint8_t)(i % 2 ? ret[i / 2] | v : v << 4);
    }
    return true;
}

struct str hot_value(const struct hot *h, uint32_t value, char out[2 * HOT_BYTES_HEX]) {
    if (!(value & HOT_HEX))
        return hot_text(h, value);
    hex_encode(hot_hex(h, value & ~HOT_HEX)->bytes, HOT_BYTES_HEX, out);
    return (struct str){ out, 2 * HOT_BYTES_HEX };
}

static uint32_t value_hash(const struct hot *h, uint32_t value) {
    char text[2 * HOT_BYTES_HEX];
    return value & HOT_HEX ? text_hash(hot_value(h, value, text)) : hot_string(h, value)->hash;
}

/* ---- tables ---- */

uint32_t hot_put_string(struct hot *h, struct str text) {
    uint32_t i = h->n.strings;
    if (text.n > UINT32_MAX || !CHUNK(h->strings, i, HOT_ITEM_SHIFT, sizeof(struct hot_string) << HOT_ITEM_SHIFT))
        return HOT_NONE;
    struct hot_string *s = (struct hot_string *)(uintptr_t)hot_string(h, i);
    *s = (struct hot_string){ NULL, 0, 0 };
    if (str_has(text)) {
        char *p = room(h, text.n ? text.n : 1);
        if (!p)
            return HOT_NONE;
        if (text.n)
            memcpy(p, text.p, text.n);
        *s = (struct hot_string){ p, (uint32_t)text.n, text_hash(text) };
        if (!map_add(&h->string_map, s->hash, i))
            return HOT_NONE;
    }
    h->text += text.n;
    h->n.strings++;
    return i;
}

uint32_t hot_put_hex(struct hot *h, const uint8_t bytes[HOT_BYTES_HEX]) {
    uint32_t i = h->n.hexes;
    if (!CHUNK(h->hexes, i, HOT_ITEM_SHIFT, sizeof(struct hot_hex) << HOT_ITEM_SHIFT))
        return HOT_NONE;
    memcpy((void *)(uintptr_t)hot_hex(h, i)->bytes, bytes, HOT_BYTES_HEX);
    h->text += HOT_BYTES_HEX;
    h->n.hexes++;
    return i;
}

uint32_t hot_put_name(struct hot *h, int64_t project, uint32_t text) {
    uint32_t i = h->n.names;
    if (!CHUNK(h->names, i, HOT_ITEM_SHIFT, sizeof(struct hot_name) << HOT_ITEM_SHIFT))
        return HOT_NONE;
    struct hot_name *n = (struct hot_name *)(uintptr_t)hot_name(h, i);
    bool lost = text == HOT_NONE || !str_has(hot_text(h, text));
    *n = (struct hot_name){ project, lost ? HOT_NONE : text, 0 };
    if (!lost) {
        n->hash = hash_end(mix((uint64_t)project, hot_string(h, text)->hash));
        if (!map_add(&h->name_map, n->hash, i))
            return HOT_NONE;
    }
    h->n.names++;
    return i;
}

struct pack_label *hot_room(struct hot *h, size_t nlabels) {
    return nlabels < LABELS_MAX ? room(h, nlabels * sizeof(struct pack_label)) : NULL;
}

static uint32_t add_set(struct hot *h, const struct hot_set *set) {
    uint32_t i = h->n.sets;
    if (!CHUNK(h->sets, i, HOT_ITEM_SHIFT, sizeof(struct hot_set) << HOT_ITEM_SHIFT))
        return HOT_NONE;
    *(struct hot_set *)(uintptr_t)hot_set(h, i) = *set;
    if (set->name != HOT_NONE && !map_add(&h->set_map, set->hash, i))
        return HOT_NONE;
    h->text += set->nlabels * sizeof(struct pack_label);
    h->n.sets++;
    return i;
}

uint32_t hot_put_set(struct hot *h, uint32_t name, const struct pack_label *labels, size_t n, bool replaces) {
    struct hot_set set = { labels, name, (uint32_t)n & 0x7fffffffu, replaces, 0 };
    bool lost = name == HOT_NONE || hot_name(h, name)->text == HOT_NONE;
    uint64_t hash = 0;
    if (!lost)
        hash = hash_begin(hot_name(h, name)->project, hot_string(h, hot_name(h, name)->text)->hash, replaces);
    for (size_t i = 0; i < n && !lost; i++) {
        lost = !str_has(hot_text(h, labels[i].key)) ||
               (!(labels[i].value & HOT_HEX) && !str_has(hot_text(h, labels[i].value)));
        hash = lost ? 0 : mix(mix(hash, hot_string(h, labels[i].key)->hash), value_hash(h, labels[i].value));
    }
    set.hash = hash_end(hash);
    if (lost) {
        set.name = HOT_NONE;
        set.nlabels = 0;
    }
    return add_set(h, &set);
}

bool hot_put_point(struct hot *h, uint32_t set, int64_t time, double value) {
    uint32_t i = h->n.points, at = i & ((1u << HOT_POINT_SHIFT) - 1);
    if (!CHUNK(h->points, i, HOT_POINT_SHIFT, sizeof(struct hot_points)))
        return false;
    struct hot_points *p = h->points[i >> HOT_POINT_SHIFT];
    p->set[at] = set;
    p->time[at] = time;
    p->value[at] = value;
    h->n.points++;
    return true;
}

/* ---- adding points ---- */

static uint32_t string_of(struct hot *h, struct str text) {
    uint32_t hash = text_hash(text), i;
    if (h->string_map.cap) {
        size_t at = slot_of(&h->string_map, hash);
        while ((i = map_next(&h->string_map, hash, &at)) != HOT_NONE) {
            const struct hot_string *s = hot_string(h, i);
            if (s->n == text.n && memcmp(s->p, text.p, text.n) == 0)
                return i;
        }
    }
    return hot_put_string(h, text);
}

static uint32_t name_of(struct hot *h, int64_t project, struct str text) {
    uint32_t string = string_of(h, text), i;
    if (string == HOT_NONE)
        return HOT_NONE;
    uint32_t hash = hash_end(mix((uint64_t)project, hot_string(h, string)->hash));
    if (h->name_map.cap) {
        size_t at = slot_of(&h->name_map, hash);
        while ((i = map_next(&h->name_map, hash, &at)) != HOT_NONE)
            if (hot_name(h, i)->project == project && hot_name(h, i)->text == string)
                return i;
    }
    return hot_put_name(h, project, string);
}

static bool text_is(const struct hot *h, uint32_t string, struct str text) {
    const struct hot_string *s = hot_string(h, string);
    return s->n == text.n && memcmp(s->p, text.p, text.n) == 0;
}

static bool value_is(const struct hot *h, uint32_t value, struct str text) {
    uint8_t bytes[HOT_BYTES_HEX];
    if (!(value & HOT_HEX))
        return text_is(h, value, text);
    return hot_hex_text(text, bytes) && memcmp(bytes, hot_hex(h, value & ~HOT_HEX)->bytes, sizeof bytes) == 0;
}

static bool set_is(const struct hot *h, const struct hot_set *s, int64_t project, const struct sample *p) {
    const struct hot_name *name = hot_name(h, s->name);
    if (s->nlabels != p->nlabels || s->replaces != p->replaces || name->project != project ||
        !text_is(h, name->text, p->name))
        return false;
    for (size_t i = 0; i < p->nlabels; i++)
        if (!text_is(h, s->labels[i].key, p->labels[i].name) || !value_is(h, s->labels[i].value, p->labels[i].value))
            return false;
    return true;
}

/* Code of a label's value, interned or as bytes. */
static bool value_of(struct hot *h, struct str text, uint32_t *ret) {
    uint8_t bytes[HOT_BYTES_HEX];
    bool hex = hot_hex_text(text, bytes);
    uint32_t i = hex ? hot_put_hex(h, bytes) : string_of(h, text);
    *ret = hex ? i | HOT_HEX : i;
    return i != HOT_NONE;
}

static uint32_t set_new(struct hot *h, int64_t project, const struct sample *p, uint32_t hash) {
    struct hot_set set = { NULL, name_of(h, project, p->name), (uint32_t)p->nlabels & 0x7fffffffu, p->replaces, hash };
    struct pack_label *labels = set.name == HOT_NONE ? NULL : hot_room(h, p->nlabels);
    if (!labels)
        return HOT_NONE;
    for (size_t i = 0; i < p->nlabels; i++) {
        labels[i].key = string_of(h, p->labels[i].name);
        if (labels[i].key == HOT_NONE || !value_of(h, p->labels[i].value, &labels[i].value))
            return HOT_NONE;
    }
    set.labels = labels;
    return add_set(h, &set);
}

enum xt_code hot_add(struct hot *h, int64_t project, const struct sample *p, struct xt_err *err) {
    uint32_t hash = p->set_hash ? p->set_hash : hot_hash(project, p), set = HOT_NONE;
    if (h->set_map.cap) {
        size_t at = slot_of(&h->set_map, hash);
        while ((set = map_next(&h->set_map, hash, &at)) != HOT_NONE && !set_is(h, hot_set(h, set), project, p))
            continue;
    }
    if (set == HOT_NONE && h->text <= PART_BYTES_MAX)
        set = set_new(h, project, p, hash);
    if (set != HOT_NONE && hot_put_point(h, set, p->timestamp, p->value))
        return XT_OK;
    if (h->n.points >> HOT_POINT_SHIFT >= HOT_DIR || h->n.sets >> HOT_ITEM_SHIFT >= HOT_DIR ||
        h->n.strings >> HOT_ITEM_SHIFT >= HOT_DIR || h->n.hexes >> HOT_ITEM_SHIFT >= HOT_DIR ||
        h->text > PART_BYTES_MAX)
        return xt_fail(err, XT_EREFUSED, "too many points in one batch");
    return xt_fail(err, XT_ENOMEM, "out of memory");
}

/* ---- copies of sets ---- */

static bool same_set(const struct hot *h, const struct hot_set *s, const struct hot *from, const struct hot_set *f) {
    char room_a[2 * HOT_BYTES_HEX];
    const struct hot_name *a = hot_name(h, s->name), *b = hot_name(from, f->name);
    if (s->nlabels != f->nlabels || s->replaces != f->replaces || a->project != b->project ||
        !text_is(h, a->text, hot_text(from, b->text)))
        return false;
    for (size_t i = 0; i < s->nlabels; i++)
        if (!text_is(h, s->labels[i].key, hot_text(from, f->labels[i].key)) ||
            !value_is(h, s->labels[i].value, hot_value(from, f->labels[i].value, room_a)))
            return false;
    return true;
}

uint32_t hot_find_set(const struct hot *h, const struct hot *from, uint32_t set) {
    const struct hot_set *f = hot_set(from, set);
    uint32_t i = HOT_NONE;
    if (f->name == HOT_NONE || h->set_map.cap == 0)
        return HOT_NONE;
    size_t at = slot_of(&h->set_map, f->hash);
    while ((i = map_next(&h->set_map, f->hash, &at)) != HOT_NONE && !same_set(h, hot_set(h, i), from, f))
        continue;
    return i;
}

uint32_t hot_copy_set(struct hot *h, const struct hot *from, uint32_t set) {
    const struct hot_set *f = hot_set(from, set);
    uint32_t i = hot_find_set(h, from, set);
    if (i != HOT_NONE || f->name == HOT_NONE)
        return i;
    const struct hot_name *n = hot_name(from, f->name);
    struct hot_set copy = *f;
    copy.name = name_of(h, n->project, hot_text(from, n->text));
    struct pack_label *labels = copy.name == HOT_NONE ? NULL : hot_room(h, f->nlabels);
    if (!labels)
        return HOT_NONE;
    for (size_t k = 0; k < f->nlabels; k++) {
        uint32_t v = f->labels[k].value;
        labels[k].key = string_of(h, hot_text(from, f->labels[k].key));
        uint32_t value =
            v & HOT_HEX ? hot_put_hex(h, hot_hex(from, v & ~HOT_HEX)->bytes) : string_of(h, hot_text(from, v));
        if (labels[k].key == HOT_NONE || value == HOT_NONE)
            return HOT_NONE;
        labels[k].value = v & HOT_HEX ? value | HOT_HEX : value;
    }
    copy.labels = labels;
    return add_set(h, &copy);
}

/* ---- marks ---- */

void hot_mark(const struct hot *h, struct hot_mark *ret) {
    *ret = (struct hot_mark){ h->n, h->slab, h->slab ? h->slab->used : 0, h->text };
}

void hot_cut(struct hot *h, const struct hot_mark *m) {
    for (uint32_t i = h->n.sets; i > m->count.sets; i--)
        map_remove(&h->set_map, hot_set(h, i - 1)->hash, i - 1);
    for (uint32_t i = h->n.names; i > m->count.names; i--)
        map_remove(&h->name_map, hot_name(h, i - 1)->hash, i - 1);
    for (uint32_t i = h->n.strings; i > m->count.strings; i--)
        map_remove(&h->string_map, hot_string(h, i - 1)->hash, i - 1);
    while (h->slab != m->slab) {
        struct hot_slab *prev = h->slab->prev;
        free(h->slab);
        h->slab = prev;
    }
    if (h->slab)
        h->slab->used = m->slab_used;
    h->n = m->count;
    h->text = m->text;
}

void hot_publish_points(struct hot *h) {
    uint32_t from = atomic_load_explicit(&h->seen_points, memory_order_relaxed);
    for (uint32_t i = from; i < h->n.points; i++) {
        int64_t t = hot_point_time(h, i);
        h->t0 = t < h->t0 ? t : h->t0;
        h->t1 = t > h->t1 ? t : h->t1;
    }
    atomic_store_explicit(&h->seen_strings, h->n.strings, memory_order_release);
    atomic_store_explicit(&h->seen_hexes, h->n.hexes, memory_order_release);
    atomic_store_explicit(&h->seen_names, h->n.names, memory_order_release);
    atomic_store_explicit(&h->seen_sets, h->n.sets, memory_order_release);
    atomic_store_explicit(&h->seen_points, h->n.points, memory_order_release);
}

struct hot_count hot_seen(const struct hot *h) {
    struct hot_count n;
    n.points = atomic_load_explicit(&h->seen_points, memory_order_acquire); /* first: see invariant 2 */
    n.sets = atomic_load_explicit(&h->seen_sets, memory_order_acquire);
    n.names = atomic_load_explicit(&h->seen_names, memory_order_acquire);
    n.hexes = atomic_load_explicit(&h->seen_hexes, memory_order_acquire);
    n.strings = atomic_load_explicit(&h->seen_strings, memory_order_acquire);
    return n;
}

bool hot_full(const struct hot *h) {
    return h->n.points >= SAMPLE_HOT_POINTS || h->n.sets >= SAMPLE_HOT_SETS || h->text >= SAMPLE_HOT_TEXT;
}
