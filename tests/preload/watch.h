/* watch.h -- what the preloaded libraries share: the next definition of a libc function, and which descriptors belong to
 * files below one directory (XTRACE_TEST_DIR, an absolute path without symbolic links).
 *
 *  1. Every library includes this once: the state is its own.
 *  2. `mu` guards the table of handles. A descriptor's handle is a number that is never used again in this process, and
 *     0 for what is not watched.
 *  3. Wrappers may run before any constructor: everything is looked up at its first use. */
#pragma once
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 65536

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static int32_t handles[FDS_MAX];
static int32_t last_handle;

static void *next_symbol(void *volatile *slot, const char *name) {
    void *p = *slot;
    if (!p) {
        p = dlsym(RTLD_NEXT, name);
        if (!p)
            abort();
        *slot = p; /* every thread finds the same value */
    }
    return p;
}
/* The function that this library stands before. */
#define NEXT(name)                                     \
    __extension__({                                    \
        static void *volatile slot_;                   \
        (__typeof__(&name))next_symbol(&slot_, #name); \
    })

static const char *watched_dir(void) {
    const char *dir = getenv("XTRACE_TEST_DIR");
    return dir && dir[0] == '/' ? dir : NULL;
}

/* The directory itself, or something below it. */
static bool is_watched(const char *path) {
    const char *dir = watched_dir();
    size_t n = dir ? strlen(dir) : 0;
    return dir && strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int32_t handle_of(int fd) { return fd >= 0 && fd < FDS_MAX ? handles[fd] : 0; }

/* mu is held. 0: nothing left to count with. */
static int32_t handle_new(int fd) {
    if (fd < 0 || fd >= FDS_MAX)
        return 0;
    handles[fd] = ++last_handle;
    return last_handle;
}

/* The library's own part of a successful open; called with mu held. */
static void on_open(int32_t handle, const char *path, int flags);

static int watch_open(int fd, const char *path, int flags) {
    int saved = errno;
    if (fd >= 0 && is_watched(path)) {
        pthread_mutex_lock(&mu);
        int32_t h = handle_new(fd);
        if (h)
            on_open(h, path, flags);
        pthread_mutex_unlock(&mu);
    }
    errno = saved;
    return fd;
}

static mode_t mode_of(int flags, va_list ap) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0; }

int open(const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return watch_open(NEXT(open)(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return watch_open(NEXT(open64)(path, flags, mode), path, flags);
}

int openat(int at, const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return watch_open(NEXT(openat)(at, path, flags, mode), path, flags);
}

int openat64(int at, const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return watch_open(NEXT(openat64)(at, path, flags, mode), path, flags);
}

/* What fortified programs call when open() has two arguments. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __open_2(const char *path, int flags) { return watch_open(NEXT(open)(path, flags), path, flags); }
int __open64_2(const char *path, int flags) { return watch_open(NEXT(open64)(path, flags), path, flags); }

int close(int fd) {
    if (handle_of(fd)) {
        pthread_mutex_lock(&mu);
        handles[fd] = 0; /* before the number can be given out again */
        pthread_mutex_unlock(&mu);
    }
    return NEXT(close)(fd);
}
