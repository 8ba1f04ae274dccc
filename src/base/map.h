/* map.h -- hash map from bytes to a pointer-sized value, in an arena. Keyed hash (random per process), so that hostile
 * keys cannot make it slow. Keys are not copied: they must live as long as the map. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

struct map_slot;
struct map {
    struct arena *arena;
    struct map_slot *slots;
    size_t count, cap;
};
void map_init(struct map *m, struct arena *a);
/* Value of key, or NULL. */
void *map_get(const struct map *m, struct str key);
/* Adds or replaces. False: no memory. */
bool map_put(struct map *m, struct str key, void *value);
/* The hash itself (SipHash-like, keyed per process). */
uint64_t map_hash(struct str key);
/* SipHash-c-d under a given key, which map_hash applies with c = 1, d = 3: for tests against published values. */
uint64_t map_siphash(const uint64_t key[2], unsigned c, unsigned d, struct str s);

#ifdef __cplusplus
}
#endif
