/* buf.h -- growable byte buffer with a hard maximum. The first failure (full, out of memory) sticks: later appends do
 * nothing, so a writer checks `failed` once at the end. Ownership: buf_done frees; buf_take moves the bytes out. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

struct buf {
    char *p; /* NUL-terminated when not NULL */
    size_t n, cap, max;
    bool failed;
};

void buf_init(struct buf *b, size_t max /* bytes, without the NUL */);
void buf_done(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory, clears `failed` */
bool buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_str(struct buf *b, struct str s);
void buf_add_c(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline struct str buf_str(const struct buf *b) { return (struct str){ b->p ? b->p : "", b->n }; }
/* Moves the bytes out (free() them); the buffer is empty afterwards. NULL when nothing was ever written. */
char *buf_take(struct buf *b, size_t *ret_n);

#ifdef __cplusplus
}
#endif
