/* map.c -- open addressing with linear probing, at most three quarters full, doubling. Nothing is ever removed.
 *
 *  1. A slot is taken when its mark is not 0; the mark is the key's hash with its top bit set.
 *  2. cap is 0 or a power of two; a grown map leaves its old slots to the arena.
 *  3. The process key is drawn once, on the first hash, and is const afterwards. */
#include "base/map.h"

#include <assert.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"

#define CAP_FIRST 16
#define MARK (UINT64_C(1) << 63)

struct map_slot {
    uint64_t mark;
    struct str key;
    void *value;
};

/* ---- SipHash (Aumasson, Bernstein 2012), from its definition ---- */

static inline uint64_t rotl(uint64_t v, unsigned n) { return v << n | v >> (64 - n); }

static inline void sip_rounds(uint64_t v[4], unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
    }
}

/* Little-endian integer of n <= 8 bytes. */
static inline uint64_t load_le(const char *p, size_t n) {
    uint64_t v = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n == 8) {
        memcpy(&v, p, 8);
        return v;
    }
#endif
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)(unsigned char)p[i] << (8 * i);
    }
    return v;
}

static inline __attribute__((always_inline)) uint64_t siphash(const uint64_t key[2], unsigned c, unsigned d,
                                                              struct str s) {
    uint64_t v[4] = { key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                      key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573) };
    size_t whole = s.n & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = load_le(s.p + i, 8);
        v[3] ^= word;
        sip_rounds(v, c);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)(s.n & 0xff) << 56 | load_le(s.p + whole, s.n - whole);
    v[3] ^= last;
    sip_rounds(v, c);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t map_siphash(const uint64_t key[2], unsigned c, unsigned d, struct str s) { return siphash(key, c, d, s); }

static uint64_t process_key[2];
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;

static void draw_process_key(void) {
    if (!random_bytes(process_key, sizeof(process_key))) { /* no getrandom: what an attacker can hardly know */
        process_key[0] = (uint64_t)clock_now_ns() ^ (uint64_t)(uintptr_t)&process_key_once;
        process_key[1] = (uint64_t)clock_mono_ns() ^ (uint64_t)getpid() << 40;
    }
}

/* 1-3: the variant of hash tables; 2-4 is for authenticating messages. */
uint64_t map_hash(struct str key) {
    pthread_once(&process_key_once, draw_process_key);
    return siphash(process_key, 1, 3, key);
}

/* ---- the table ---- */

void map_init(struct map *m, struct arena *a) { *m = (struct map){ .arena = a }; }

/* The slot that holds key, or the free one where it belongs. cap > count. */
static struct map_slot *find(const struct map *m, uint64_t mark, struct str key) {
    for (size_t i = mark & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *slot = &m->slots[i];
        if (slot->mark == 0 || (slot->mark == mark && str_eq(slot->key, key))) {
            return slot;
        }
    }
}

void *map_get(const struct map *m, struct str key) {
    return m->count ? find(m, map_hash(key) | MARK, key)->value : NULL;
}

static bool grow(struct map *m) {
    size_t cap = m->cap ? m->cap * 2 : CAP_FIRST;
    struct map bigger = { .arena = m->arena, .count = m->count, .cap = cap };
    bigger.slots = cap > m->cap ? arena_new(m->arena, struct map_slot, cap) : NULL;
    if (!bigger.slots) {
        return false;
    }
    for (size_t i = 0; i < m->cap; i++) {
        const struct map_slot *slot = &m->slots[i];
        if (slot->mark) {
            *find(&bigger, slot->mark, slot->key) = *slot;
        }
    }
    *m = bigger;
    return true;
}

bool map_put(struct map *m, struct str key, void *value) {
    uint64_t mark = map_hash(key) | MARK;
    struct map_slot *slot = m->cap ? find(m, mark, key) : NULL;
    if (slot && slot->mark) {
        slot->value = value;
        return true;
    }
    if (m->count >= m->cap / 4 * 3) {
        if (!grow(m)) {
            return false;
        }
        slot = find(m, mark, key);
    }
    assert(slot); /* an empty map grew above */
    *slot = (struct map_slot){ mark, key, value };
    m->count++;
    return true;
}
