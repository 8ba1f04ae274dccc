/* buf.c -- growth by doubling up to max + 1 (the NUL).
 *
 *  1. b->n <= b->max, b->n < b->cap and b->p[b->n] == 0 whenever b->p is not NULL.
 *  2. After a failure the content stays as it was before the call that failed. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

#define CAP_FIRST ((size_t)256)

void buf_init(struct buf *b, size_t max) {
    *b = (struct buf){ .max = max < PTRDIFF_MAX ? max : (size_t)PTRDIFF_MAX - 1 };
}

void buf_done(struct buf *b) {
    free(b->p);
    *b = (struct buf){ .max = b->max };
}

void buf_clear(struct buf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p) {
        b->p[0] = '\0';
    }
}

static __attribute__((noinline)) bool grow(struct buf *b, size_t more) {
    if (more > b->max - b->n) {
        b->failed = true;
        return false;
    }
    size_t need = b->n + more + 1;
    size_t cap = b->cap ? b->cap : CAP_FIRST;
    while (cap < need) {
        cap *= 2; /* no overflow: need <= max + 1 <= PTRDIFF_MAX */
    }
    cap = cap < b->max + 1 ? cap : b->max + 1;
    char *p = alloc_should_fail() ? NULL : realloc(b->p, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    p[b->n] = '\0';
    b->p = p;
    b->cap = cap;
    return true;
}

bool buf_reserve(struct buf *b, size_t more) {
    if (b->failed) {
        return false;
    }
    /* cap may be larger than max + 1 when a caller lowered max: both bounds count. */
    return (more < b->cap - b->n && b->n <= b->max && more <= b->max - b->n) || grow(b, more);
}

void buf_add(struct buf *b, const void *p, size_t n) {
    if (n == 0 || !buf_reserve(b, n)) {
        return;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void buf_add_str(struct buf *b, struct str s) { buf_add(b, s.p, s.n); }

void buf_add_c(struct buf *b, const char *s) { buf_add(b, s, strlen(s)); }

void buf_add_char(struct buf *b, char c) {
    if (buf_reserve(b, 1)) {
        b->p[b->n++] = c;
        b->p[b->n] = '\0';
    }
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    if (b->failed) {
        return;
    }
    char small[256];
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(small, sizeof(small), fmt, args);
    va_end(args);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < sizeof(small)) {
        buf_add(b, small, (size_t)n);
    } else if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

char *buf_take(struct buf *b, size_t *ret_n) {
    char *p = b->p;
    *ret_n = b->n;
    b->p = NULL;
    b->n = b->cap = 0;
    return p;
}
