/* datadir.c -- the directory that holds the database: its path, creation, the lock that keeps a second server out, and whether
 * the files are still where they were.
 * Messages name paths: they are for the operator's terminal, no client sees them. */
#include "store/sqlite/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME "xtrace.lock"

enum xt_code url_to_path(const char *url, char **ret_path, struct xt_err *err) {
    const char *p = strchr(url, ':');
    p = p ? p + 1 : url;
    if (strncmp(p, "//", 2) == 0)
        p += 2;
    size_t n = strlen(p);
    if (n == 0 || p[n - 1] == '/')
        return xt_fail(err, XT_EINVAL, "database URL: names no file; use sqlite:PATH");
    /* With "./" in front neither ":memory:" nor "file:..." means anything special to SQLite. */
    size_t room = n + 3;
    char *path = alloc_should_fail() ? NULL : malloc(room);
    if (!path)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    snprintf(path, room, "%s%s", p[0] == '/' || strncmp(p, "./", 2) == 0 ? "" : "./", p);
    *ret_path = path;
    return XT_OK;
}

char *path_dir(const char *path) {
    if (alloc_should_fail())
        return NULL;
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

enum xt_code dir_sync(const char *dir, struct xt_err *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return xt_fail(err, XT_EUNAVAILABLE, "can't open directory %.160s: %s", dir, strerror(errno));
    int rc = fsync(fd);
    int why = errno;
    close(fd);
    /* Some file systems can't sync directories and say EINVAL: nothing to be done there. */
    if (rc != 0 && why != EINVAL)
        return xt_fail(err, XT_EUNAVAILABLE, "can't sync directory %.160s: %s", dir, strerror(why));
    return XT_OK;
}

/* One level; an existing directory is fine. The entry in its parent is made durable. */
static enum xt_code make_level(const char *dir, struct xt_err *err) {
    if (mkdir(dir, 0700) == 0) {
        char *parent = path_dir(dir);
        if (!parent)
            return xt_fail(err, XT_ENOMEM, "out of memory");
        enum xt_code code = dir_sync(parent, err);
        free(parent);
        return code;
    }
    int why = errno;
    struct stat st;
    if (why == EEXIST || why == EISDIR) {
        if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
            return XT_OK;
        why = ENOTDIR;
    }
    return xt_fail(err, XT_EUNAVAILABLE, "can't create data directory %.160s: %s", dir, strerror(why));
}

enum xt_code dir_create(const char *dir, struct xt_err *err) {
    struct stat st;
    if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
        return XT_OK;
    char *part = alloc_should_fail() ? NULL : strdup(dir);
    if (!part)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    enum xt_code code = XT_OK;
    for (char *p = part + 1; code == XT_OK && *p; p++) {
        if (*p != '/' || p[-1] == '/')
            continue;
        *p = '\0';
        code = stat(part, &st) == 0 && S_ISDIR(st.st_mode) ? XT_OK : make_level(part, err);
        *p = '/';
    }
    if (code == XT_OK)
        code = make_level(part, err);
    free(part);
    return code;
}

/* What root makes for a server that runs as somebody else (restore, check, migrate) belongs to the directory's owner, as
 * SQLite's own files do; else the server could not open it. fd is a file that this process has just made. */
static bool give_to_owner(int fd, const char *dir) {
    struct stat st;
    return geteuid() != 0 || (stat(dir, &st) == 0 && (st.st_uid == 0 || fchown(fd, st.st_uid, st.st_gid) == 0));
}

enum xt_code file_made(int fd, const char *path, struct xt_err *err) {
    char *dir = path_dir(path);
    if (!dir)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    bool ok = give_to_owner(fd, dir);
    int why = errno;
    free(dir);
    return ok ? XT_OK
              : xt_fail(err, XT_EUNAVAILABLE, "can't give %.160s to the directory's owner: %s", path, strerror(why));
}

enum xt_code dir_lock(const char *dir, int *ret_fd, struct xt_err *err) {
    char name[4096];
    int n = snprintf(name, sizeof name, "%s/" LOCK_NAME, dir);
    if (n < 0 || (size_t)n >= sizeof name)
        return xt_fail(err, XT_EINVAL, "the path of the data directory is too long");
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && give_to_owner(fd, dir);
    if (fd < 0 && errno == EEXIST) {
        fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        ok = fd >= 0;
    }
    if (!ok) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        return xt_fail(err, XT_EUNAVAILABLE, "data directory %.160s is not usable: " LOCK_NAME ": %s", dir,
                       strerror(why));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int why = errno;
        close(fd);
        if (why == EWOULDBLOCK)
            return xt_fail(err, XT_ECONFLICT, "data directory %.160s is in use by another xtrace server", dir);
        return xt_fail(err, XT_EUNAVAILABLE, "can't lock data directory %.160s: %s", dir, strerror(why));
    }
    *ret_fd = fd;
    return XT_OK;
}

enum xt_code file_create(const char *path, struct xt_err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        enum xt_code code = file_made(fd, path, err);
        close(fd);
        return code;
    }
    if (errno == EEXIST)
        return XT_OK;
    return xt_fail(err, XT_EUNAVAILABLE, "can't create %.160s: %s", path, strerror(errno));
}

/* ---- do the files still stand at their names? ---- */

static struct file_mark mark_of(const struct sqlite_store *e, const char *suffix) {
    char name[4096];
    struct stat st;
    int n = snprintf(name, sizeof name, "%s%s", e->path, suffix);
    if (n < 0 || (size_t)n >= sizeof name || stat(name, &st) != 0)
        return (struct file_mark){ .known = false };
    return (struct file_mark){ true, st.st_dev, st.st_ino };
}

static bool stands(const struct sqlite_store *e, const struct file_mark *was, const char *suffix) {
    struct file_mark is = was->known ? mark_of(e, suffix) : *was;
    return is.known == was->known && is.dev == was->dev && is.ino == was->ino;
}

void files_note(struct sqlite_store *e) {
    e->file = mark_of(e, "");
    e->log = mark_of(e, "-wal");
}

enum xt_code files_stand(const struct sqlite_store *e, struct xt_err *err) {
    if (!stands(e, &e->file, ""))
        return xt_fail(err, XT_EUNAVAILABLE, "the file of the database was moved, removed or replaced");
    if (!stands(e, &e->log, "-wal"))
        return xt_fail(err, XT_EUNAVAILABLE, "the log of the database was moved, removed or replaced");
    return XT_OK;
}
