/* arena.c -- chunks from malloc, carved from the front.
 *
 *  1. a->head is the only chunk that is carved; the chunks behind it are only kept to be freed.
 *  2. a->used is the sum of what malloc was asked for and never passes a->limit.
 *  3. Chunks grow from 4 KB by doubling to 256 KB. What is larger than LARGE gets a chunk of its own behind the head,
 *     so that the space left in the head is not lost; of a new ordinary chunk and the old head, the one with more room
 *     becomes the head.
 *  4. Under AddressSanitizer all space that is not handed out is poisoned, and each allocation is followed by up to
 *     REDZONE poisoned bytes if the chunk has them: limits and failures stay the same as without it. */
#include "base/arena.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#define REDZONE 16u
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#define REDZONE 0u
#endif

#define CHUNK_FIRST ((size_t)4096)      /* bytes, head included */
#define CHUNK_LAST ((size_t)256 * 1024) /* bytes, head included */
#define LARGE ((size_t)64 * 1024)       /* bytes; above: a chunk of its own */

struct arena_chunk {
    _Alignas(max_align_t) struct arena_chunk *next;
    size_t size; /* bytes of data */
    size_t fill; /* bytes of data handed out or skipped */
    size_t grow; /* bytes the next ordinary chunk takes, head included; read from the head only */
    _Alignas(max_align_t) char data[];
};

/* Test hook: counts down to the allocation that fails; 0 is off. Atomic because tests run threads too. */
static _Atomic uint64_t fail_countdown;

void alloc_fail_at(uint64_t n) { atomic_store_explicit(&fail_countdown, n, memory_order_relaxed); }

bool alloc_should_fail(void) {
    uint64_t n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (n != 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_countdown, &n, n - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return n == 1;
        }
    }
    return false;
}

void arena_init(struct arena *a, size_t limit) { *a = (struct arena){ .limit = limit }; }

static void free_chunk(struct arena_chunk *c) {
    UNPOISON(c->data, c->size);
    free(c);
}

void arena_done(struct arena *a) {
    for (struct arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free_chunk(c);
    }
    *a = (struct arena){ .limit = a->limit };
}

void arena_reset(struct arena *a) {
    struct arena_chunk *c = a->head;
    while (c && c->next) {
        struct arena_chunk *next = c->next;
        free_chunk(c);
        c = next;
    }
    a->head = c;
    a->used = 0;
    a->failed = false;
    if (c) {
        c->fill = 0;
        c->grow = CHUNK_FIRST * 2;
        a->used = sizeof(*c) + c->size;
        POISON(c->data, c->size);
    }
}

static size_t room(const struct arena_chunk *c) { return c->size - c->fill; }

/* Takes n bytes off the chunk, or NULL when they do not fit. align is a power of two. */
static inline void *carve(struct arena_chunk *c, size_t n, size_t align) {
    size_t skip = (size_t)(-((uintptr_t)c->data + c->fill)) & (align - 1);
    size_t left = room(c);
    if (skip > left || n > left - skip) {
        return NULL;
    }
    char *p = c->data + c->fill + skip;
    left -= skip + n;
    c->fill += skip + n + (REDZONE < left ? REDZONE : left);
    UNPOISON(p, n);
    return p;
}

/* A new chunk of `total` bytes (head included); the arena's account is charged. */
static struct arena_chunk *add_chunk(struct arena *a, size_t total) {
    struct arena_chunk *c = alloc_should_fail() ? NULL : malloc(total);
    if (!c) {
        return NULL;
    }
    *c = (struct arena_chunk){ .size = total - sizeof(*c), .grow = CHUNK_FIRST };
    a->used += total;
    POISON(c->data, c->size);
    return c;
}

/* The allocation that does not fit the head. */
static __attribute__((noinline)) void *alloc_slow(struct arena *a, size_t n, size_t align) {
    size_t slack = align > _Alignof(max_align_t) ? align : 0;
    size_t need, left = a->limit - a->used;
    if (__builtin_add_overflow(n, sizeof(struct arena_chunk) + slack, &need) || need > left) {
        a->failed = true;
        return NULL;
    }
    size_t grow = a->head ? a->head->grow : CHUNK_FIRST;
    size_t total = need;
    if (n <= LARGE) {
        while (grow < need) {
            grow *= 2;
        }
        total = grow < left ? grow : left; /* near the limit: what remains, but at least `need` */
        grow = grow < CHUNK_LAST ? grow * 2 : CHUNK_LAST;
    }
    struct arena_chunk *c = add_chunk(a, total);
    if (!c) {
        a->failed = true;
        return NULL;
    }
    void *p = carve(c, n, align);
    struct arena_chunk *old = a->head;
    if (old && room(old) >= room(c)) {
        c->next = old->next;
        old->next = c;
    } else {
        c->next = old;
        a->head = c;
    }
    a->head->grow = grow;
    return p;
}

/* What an allocation of no bytes points to: never written or read. */
static const max_align_t nothing;

static inline void *alloc(struct arena *a, size_t n, size_t align) {
    void *p = a->head ? carve(a->head, n, align) : NULL;
    if (p) {
        return p;
    }
    return n ? alloc_slow(a, n, align) : (void *)(uintptr_t)&nothing;
}

void *arena_raw(struct arena *a, size_t n, size_t size, size_t align) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        a->failed = true;
        return NULL;
    }
    return alloc(a, bytes, align);
}

void *arena_alloc(struct arena *a, size_t n, size_t size, size_t align) {
    void *p = arena_raw(a, n, size, align);
    return p ? memset(p, 0, n * size) : NULL;
}

char *arena_bytes(struct arena *a, size_t n) { return alloc(a, n, 1); }

struct str arena_str(struct arena *a, struct str s) {
    if (!s.p) {
        return STR_NONE;
    }
    char *p = s.n < SIZE_MAX ? alloc(a, s.n + 1, 1) : NULL;
    if (!p) {
        return STR_NONE;
    }
    if (s.n) {
        memcpy(p, s.p, s.n);
    }
    p[s.n] = '\0';
    return (struct str){ p, s.n };
}

struct str arena_printf(struct arena *a, const char *fmt, ...) {
    char small[256];
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(small, sizeof(small), fmt, args);
    va_end(args);
    struct str ret = STR_NONE;
    if (n < 0) {
        a->failed = true;
    } else if ((size_t)n < sizeof(small)) {
        ret = arena_str(a, (struct str){ small, (size_t)n });
    } else {
        char *p = alloc(a, (size_t)n + 1, 1);
        if (p) {
            vsnprintf(p, (size_t)n + 1, fmt, again);
            ret = (struct str){ p, (size_t)n };
        }
    }
    va_end(again);
    return ret;
}
