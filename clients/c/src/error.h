/* error.h -- filling xtrace_error, and the library's log lines. */
#pragma once
#include "base/str.h"
#include "xtrace.h"

/* Clears *e (NULL is fine). */
void error_clear(xtrace_error *e);
/* Fills *e (NULL is fine) and returns `code`. */
int error_set(xtrace_error *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* XTRACE_EINVAL for the argument with that name. */
int error_argument(xtrace_error *e, const char *argument, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

struct logger {
    xtrace_log_fn *fn;
    void *arg;
    int level;
};
/* What an _init function does: the first `size` bytes of the defaults, the rest zero, the size itself in front. NULL, or no
 * room for a size: nothing. */
void init_sized(void *out, size_t size, const void *defaults, size_t ours);
void log_to(const struct logger *l, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
