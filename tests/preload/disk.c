/* disk.c -- preloaded into the server: a disk that is full, fails or hangs when the test says so.
 *
 *   XTRACE_TEST_DIR=DIR     the data directory (watch.h)
 *   XTRACE_TEST_DISK=FILE   struct control, mapped shared: the test writes it while the server runs
 *
 * Full: the files below DIR may have `space` bytes together. What would grow them past that is cut short, then fails with
 * ENOSPC, as on a real disk; overwriting and reading go on. Failing: the next `fail_syncs` syncs give EIO and do nothing.
 * Hanging: every sync waits while `hang` is not 0. */
#include "watch.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* As struct.pack("<QQQ") writes it. */
struct control {
    _Atomic uint64_t space; /* bytes; UINT64_MAX: no limit */
    _Atomic uint64_t fail_syncs;
    _Atomic uint64_t hang;
};

static struct control *control(void) {
    static struct control *volatile mapped;
    static struct control none = { UINT64_MAX, 0, 0 };
    if (mapped)
        return mapped;
    const char *name = getenv("XTRACE_TEST_DISK");
    int fd = name ? NEXT(open)(name, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        NEXT(close)(fd);
    mapped = p == MAP_FAILED ? &none : (struct control *)p; /* twice at worst: both are the same memory */
    return mapped;
}

static void on_open(int32_t handle, const char *path, int flags) {
    (void)handle;
    (void)path;
    (void)flags;
}

/* Bytes of all files in the directory; it has no directories in it. */
static uint64_t used_bytes(void) {
    DIR *d = opendir(watched_dir());
    uint64_t sum = 0;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_size;
    }
    if (d)
        closedir(d);
    return sum;
}

/* How many of n bytes at `at` there is room for; mu is held, so that two threads cannot take the same room. */
static size_t room(int fd, off64_t at, size_t n) {
    struct stat st;
    uint64_t space = atomic_load(&control()->space);
    if (space == UINT64_MAX || fstat(fd, &st) != 0 || at + (off64_t)n <= st.st_size)
        return n;
    uint64_t used = used_bytes();
    uint64_t free_bytes = used < space ? space - used : 0;
    uint64_t inside = at < st.st_size ? (uint64_t)(st.st_size - at) : 0; /* overwritten: needs no room */
    uint64_t fits = inside + free_bytes;
    return fits < n ? (size_t)fits : n;
}

#define LIMITED(fd, at, n, call)           \
    __extension__({                        \
        ssize_t got_ = -1;                 \
        pthread_mutex_lock(&mu);           \
        size_t m_ = room((fd), (at), (n)); \
        int why_ = ENOSPC;                 \
        if (m_ > 0 || (n) == 0) {          \
            (n) = m_;                      \
            got_ = (call);                 \
            why_ = errno;                  \
        }                                  \
        pthread_mutex_unlock(&mu);         \
        errno = why_;                      \
        got_;                              \
    })

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    return handle_of(fd) ? LIMITED(fd, at, n, NEXT(pwrite)(fd, data, n, at)) : NEXT(pwrite)(fd, data, n, at);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    return handle_of(fd) ? LIMITED(fd, at, n, NEXT(pwrite64)(fd, data, n, at)) : NEXT(pwrite64)(fd, data, n, at);
}

ssize_t write(int fd, const void *data, size_t n) {
    if (!handle_of(fd))
        return NEXT(write)(fd, data, n);
    return LIMITED(fd, lseek(fd, 0, SEEK_CUR), n, NEXT(write)(fd, data, n));
}

static int synced(int fd, int (*sync)(int)) {
    struct control *c = control();
    if (!handle_of(fd))
        return sync(fd);
    while (atomic_load(&c->hang)) {
        struct timespec pause = { 0, 5000000 };
        nanosleep(&pause, NULL);
    }
    uint64_t left = atomic_load(&c->fail_syncs);
    while (left > 0 && !atomic_compare_exchange_weak(&c->fail_syncs, &left, left - 1)) {}
    if (left > 0) {
        errno = EIO;
        return -1;
    }
    return sync(fd);
}

int fsync(int fd) { return synced(fd, NEXT(fsync)); }
int fdatasync(int fd) { return synced(fd, NEXT(fdatasync)); }
