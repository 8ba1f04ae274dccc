/* arena.h -- bump allocator with a byte limit: what belongs to one request or one batch lives and dies together.
 *
 * Ownership: everything allocated belongs to the arena; nothing is freed alone. Not thread-safe: one owner at a time.
 * Failure: NULL when the limit or the machine's memory is exhausted; `failed` then stays set. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

struct arena_chunk;
struct arena {
    struct arena_chunk *head;
    size_t used;  /* bytes taken from the system, chunk heads included */
    size_t limit; /* bytes; an allocation that would pass it gives NULL */
    bool failed;
};

void arena_init(struct arena *a, size_t limit);
void arena_done(struct arena *a);
/* Frees all chunks but the first and forgets everything allocated. */
void arena_reset(struct arena *a);
/* Zeroed memory for n elements; n * size is checked for overflow; n == 0 gives a non-NULL pointer. */
void *arena_alloc(struct arena *a, size_t n, size_t size, size_t align) __attribute__((warn_unused_result));
/* The same, not zeroed. */
void *arena_raw(struct arena *a, size_t n, size_t size, size_t align) __attribute__((warn_unused_result));
#define arena_new(a, T, n) ((T *)arena_alloc((a), (n), sizeof(T), _Alignof(T)))
/* Copies bytes and adds a terminating NUL that is not counted. An absent string stays absent.
 * On failure returns STR_NONE for a present string: check a->failed. */
struct str arena_str(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Uninitialised bytes (for decoders that fill them at once). NULL on failure. */
char *arena_bytes(struct arena *a, size_t n) __attribute__((warn_unused_result));

/* For tests: the n-th allocation from the system by any arena or buf of this process fails (0 = never). */
void alloc_fail_at(uint64_t n);
/* True when the fault injected above is due; called by arena and buf (and by wrappers of other allocations). */
bool alloc_should_fail(void);

#ifdef __cplusplus
}
#endif
