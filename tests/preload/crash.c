/* crash.c -- preloaded into the server: ends it, as kill -9 does, at a chosen write or sync of its database, so that deaths
 * fall into every step of a commit, a seal or a checkpoint; and sets its calendar, so that records grow old.
 *
 *   XTRACE_TEST_DIR=DIR     the data directory (watch.h)
 *   XTRACE_TEST_CRASH=FILE  struct control, mapped shared: the test writes it while the server runs
 *
 *  1. `left[k]` counts down with each operation of kind k; what would bring it to 0 is not done (of a write, half is done
 *     when `half` is set) and the process ends. 0: that kind never ends it.
 *  2. `hit` says at which kind it ended, before it does: kind + 1, where and how many bytes.
 *  3. CLOCK_REALTIME is `ahead` nanoseconds ahead. Other clocks are left alone. */
#include "watch.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

enum op { DB_WRITE, DB_SYNC, LOG_WRITE, LOG_SYNC, OPS };

/* As struct.pack("<8q") writes it. */
struct control {
    _Atomic int64_t left[OPS];
    _Atomic int64_t half, ahead;
    _Atomic int64_t hit, bytes;
};

static struct control *control(void) {
    static struct control *volatile mapped;
    static struct control none;
    if (mapped)
        return mapped;
    const char *name = getenv("XTRACE_TEST_CRASH");
    int fd = name ? NEXT(open)(name, O_RDWR | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        NEXT(close)(fd);
    mapped = p == MAP_FAILED ? &none : (struct control *)p; /* twice at worst: both are the same memory */
    return mapped;
}

/* By handle: 0 for neither, else 1 the database, 2 its log. Guarded by mu when written; a handle is read after its open. */
static uint8_t roles[FDS_MAX];

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void on_open(int32_t handle, const char *path, int flags) {
    (void)flags;
    if (handle < FDS_MAX)
        roles[handle] = ends_with(path, ".db") ? 1 : ends_with(path, ".db-wal") ? 2 : 0;
}

static int role_of(int fd) {
    int32_t h = handle_of(fd);
    return h > 0 && h < FDS_MAX ? roles[h] : 0;
}

/* Is this operation the one to die at? */
static bool counted(enum op op) {
    int64_t left = atomic_load(&control()->left[op]);
    while (left > 0 && !atomic_compare_exchange_weak(&control()->left[op], &left, left - 1)) {}
    return left == 1;
}

static void die(enum op op, size_t n) {
    control()->bytes = (int64_t)n;
    control()->hit = (int64_t)op + 1;
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static enum op kind_of(int role, enum op database) { return role == 1 ? database : (enum op)(database + LOG_WRITE); }

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    int role = role_of(fd);
    if (role && counted(kind_of(role, DB_WRITE))) {
        if (control()->half && NEXT(pwrite)(fd, data, n / 2, at) < 0)
            n = 0;
        die(kind_of(role, DB_WRITE), n);
    }
    return NEXT(pwrite)(fd, data, n, at);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    int role = role_of(fd);
    if (role && counted(kind_of(role, DB_WRITE))) {
        if (control()->half && NEXT(pwrite64)(fd, data, n / 2, at) < 0)
            n = 0;
        die(kind_of(role, DB_WRITE), n);
    }
    return NEXT(pwrite64)(fd, data, n, at);
}

static int synced(int fd, int (*sync)(int)) {
    int role = role_of(fd);
    if (role && counted(kind_of(role, DB_SYNC)))
        die(kind_of(role, DB_SYNC), 0);
    return sync(fd);
}

int fsync(int fd) { return synced(fd, NEXT(fsync)); }
int fdatasync(int fd) { return synced(fd, NEXT(fdatasync)); }

int clock_gettime(clockid_t id, struct timespec *ts) {
    int rc = NEXT(clock_gettime)(id, ts);
    int64_t ahead = id == CLOCK_REALTIME && rc == 0 ? atomic_load(&control()->ahead) : 0;
    if (ahead != 0) {
        int64_t ns = ts->tv_nsec + ahead % 1000000000;
        ts->tv_sec += ahead / 1000000000 + (ns < 0 ? -1 : ns / 1000000000);
        ts->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    }
    return rc;
}
