/* journal.c -- preloaded into the server: writes down, in order, what it does to the files of its data directory and when
 * it answers a request with 2xx. tests/crash/disk.py rebuilds from it what a disk may hold after a power cut.
 *
 *   XTRACE_TEST_DIR=DIR        the data directory (watch.h)
 *   XTRACE_TEST_JOURNAL=FILE   the journal, made anew
 *
 *  1. A record is written before its operation is done (changes, answers) or after it (syncs): the journal never claims
 *     more than the disk was asked for, and never an answer later than it went out.
 *  2. A sync covers what was in the journal when it began, so each sync record carries the number of the last record
 *     before it. Records are numbered from 1.
 *  3. Changes of files are done with `mu` held: their order in the journal is their order in the files.
 *  4. Memory-mapped changes are not seen: that is the wal-index (-shm) alone, which no start trusts. */
#include "watch.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum kind { OPEN = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, ANSWER };

/* As struct.unpack("<IiQQI") reads it; `n` bytes follow. */
struct __attribute__((packed)) record {
    uint32_t kind;
    int32_t handle;
    uint64_t a, b;
    uint32_t n;
};

#define HEAD_MAX 1024 /* bytes of an answer that are kept: its headers */

static int journal = -2; /* -2: not looked at yet, -1: none */
static uint64_t count;   /* records written; mu */

/* mu is held. Raw system calls: write and writev are wrapped here. */
static void add(enum kind kind, int32_t handle, uint64_t a, uint64_t b, const void *data, size_t n) {
    if (journal == -2) {
        const char *name = getenv("XTRACE_TEST_JOURNAL");
        journal =
            name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600)
                 : -1;
    }
    if (journal < 0)
        return;
    struct record r = { (uint32_t)kind, handle, a, b, (uint32_t)n };
    struct iovec v[2] = { { &r, sizeof r }, { (void *)(uintptr_t)data, n } };
    if (syscall(SYS_writev, journal, v, 2) != (long)(sizeof r + n))
        abort(); /* half a journal proves nothing */
    count++;
}

static void on_open(int32_t handle, const char *path, int flags) {
    add(OPEN, handle, (uint64_t)(unsigned)flags, 0, path, strlen(path));
}

/* ---- files ---- */

static off_t end_of(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_size : 0;
}

/* Where write() puts its bytes. */
static off_t position(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_APPEND) ? end_of(fd) : lseek(fd, 0, SEEK_CUR);
}

#define WATCHED(fd, kind, a, data, n, call)                        \
    __extension__({                                                \
        pthread_mutex_lock(&mu);                                   \
        add((kind), handle_of(fd), (uint64_t)(a), 0, (data), (n)); \
        __typeof__(call) got_ = (call);                            \
        int saved_ = errno;                                        \
        pthread_mutex_unlock(&mu);                                 \
        errno = saved_;                                            \
        got_;                                                      \
    })

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    if (!handle_of(fd))
        return NEXT(pwrite)(fd, data, n, at);
    return WATCHED(fd, WRITE, at, data, n, NEXT(pwrite)(fd, data, n, at));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    if (!handle_of(fd))
        return NEXT(pwrite64)(fd, data, n, at);
    return WATCHED(fd, WRITE, at, data, n, NEXT(pwrite64)(fd, data, n, at));
}

int ftruncate(int fd, off_t size) {
    if (!handle_of(fd))
        return NEXT(ftruncate)(fd, size);
    return WATCHED(fd, TRUNCATE, size, NULL, 0, NEXT(ftruncate)(fd, size));
}

int ftruncate64(int fd, off64_t size) {
    if (!handle_of(fd))
        return NEXT(ftruncate64)(fd, size);
    return WATCHED(fd, TRUNCATE, size, NULL, 0, NEXT(ftruncate64)(fd, size));
}

static int synced(int fd, int (*sync)(int)) {
    int32_t h = handle_of(fd);
    if (!h)
        return sync(fd);
    pthread_mutex_lock(&mu);
    uint64_t covers = count;
    pthread_mutex_unlock(&mu);
    int rc = sync(fd);
    int saved = errno;
    if (rc == 0) {
        pthread_mutex_lock(&mu);
        add(SYNC, h, covers, 0, NULL, 0);
        pthread_mutex_unlock(&mu);
    }
    errno = saved;
    return rc;
}

int fsync(int fd) { return synced(fd, NEXT(fsync)); }
int fdatasync(int fd) { return synced(fd, NEXT(fdatasync)); }

int rename(const char *from, const char *to) {
    char both[8192];
    int n = is_watched(to) ? snprintf(both, sizeof both, "%s%c%s", from, 0, to) : 0;
    if (n <= 0 || (size_t)n >= sizeof both)
        return NEXT(rename)(from, to);
    return WATCHED(-1, RENAME, 0, both, (size_t)n, NEXT(rename)(from, to));
}

int unlink(const char *path) {
    if (!is_watched(path))
        return NEXT(unlink)(path);
    return WATCHED(-1, UNLINK, 0, path, strlen(path), NEXT(unlink)(path));
}

/* ---- answers ---- */

static void look_at(const void *data, size_t n) {
    static const char start[] = "HTTP/1.1 2";
    if (n < sizeof start - 1 || memcmp(data, start, sizeof start - 1) != 0)
        return;
    int saved = errno;
    pthread_mutex_lock(&mu);
    add(ANSWER, 0, 0, 0, data, n < HEAD_MAX ? n : HEAD_MAX);
    pthread_mutex_unlock(&mu);
    errno = saved;
}

ssize_t write(int fd, const void *data, size_t n) {
    if (handle_of(fd))
        return WATCHED(fd, WRITE, position(fd), data, n, NEXT(write)(fd, data, n));
    look_at(data, n);
    return NEXT(write)(fd, data, n);
}

ssize_t writev(int fd, const struct iovec *v, int n) {
    if (handle_of(fd))
        abort(); /* nobody does; would go unseen */
    if (n > 0)
        look_at(v[0].iov_base, v[0].iov_len);
    return NEXT(writev)(fd, v, n);
}

ssize_t send(int fd, const void *data, size_t n, int flags) {
    look_at(data, n);
    return NEXT(send)(fd, data, n, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    if (m->msg_iovlen > 0)
        look_at(m->msg_iov[0].iov_base, m->msg_iov[0].iov_len);
    return NEXT(sendmsg)(fd, m, flags);
}
