/* backup.c -- a consistent copy to a new file beside a running server, and back.
 *
 *  1. Both directions are VACUUM INTO on a connection of their own: one read snapshot, however long it takes. (The
 *     stepwise backup API starts over at each foreign commit and never ends under load.) Until it ends the log can't be
 *     reset and grows.
 *  2. A name is given only to a complete, synced file: the copy is made under a name of this process, then renamed. A
 *     copy cut short by a crash leaves "FILE.part-PID" and its "-journal" behind, nothing else.
 *  3. Restore holds the lock of the data directory, and checks the backup before anything is written. What root restores
 *     belongs to the directory's owner.
 *  Messages name files: they are for the operator's terminal. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/sqlite/engine.h"

/* "DIR/NAME" + suffix, malloc'd; absolute or starting with "./", as SQLite wants it (see url_to_path). */
static char *name_with(const char *path, const char *suffix) {
    size_t room = strlen(path) + strlen(suffix) + 3;
    char *name = alloc_should_fail() ? NULL : malloc(room);
    if (name)
        snprintf(name, room, "%s%s%s", path[0] == '/' || strncmp(path, "./", 2) == 0 ? "" : "./", path, suffix);
    return name;
}

static char *part_name(const char *path) {
    char suffix[40];
    snprintf(suffix, sizeof suffix, ".part-%ld", (long)getpid());
    return name_with(path, suffix);
}

/* An empty file of ours for SQLite to fill; what an earlier process of this number left is removed. */
static enum xt_code part_create(const char *part, struct xt_err *err) {
    unlink(part);
    int fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return xt_fail(err, XT_EUNAVAILABLE, "can't create %.160s: %s", part, strerror(errno));
    close(fd);
    return XT_OK;
}

static enum xt_code file_sync(const char *path, struct xt_err *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return xt_fail(err, XT_EUNAVAILABLE, "can't open %.160s: %s", path, strerror(errno));
    int rc = fsync(fd), why = errno;
    close(fd);
    return rc == 0 ? XT_OK : xt_fail(err, XT_EUNAVAILABLE, "can't sync %.160s: %s", path, strerror(why));
}

/* Copies what the connection sees into the file `part`, synced. */
static enum xt_code copy_into(struct conn *c, const char *part, struct xt_err *err) {
    enum xt_code code = part_create(part, err);
    if (code != XT_OK)
        return code;
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "VACUUM INTO ?1", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(st, 1, part, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    sqlite3_finalize(st);
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "copy of the database", err);
    return file_sync(part, err);
}

/* Gives the copy its name, which must be free. */
static enum xt_code publish(const char *part, const char *file, struct xt_err *err) {
    int rc = renameat2(AT_FDCWD, part, AT_FDCWD, file, RENAME_NOREPLACE);
    if (rc != 0 && (errno == EINVAL || errno == ENOSYS)) { /* a file system that can't */
        rc = link(part, file);
        if (rc == 0)
            unlink(part);
    }
    if (rc == 0)
        return XT_OK;
    if (errno == EEXIST)
        return xt_fail(err, XT_ECONFLICT, "%.160s exists already", file);
    return xt_fail(err, XT_EUNAVAILABLE, "can't create %.160s: %s", file, strerror(errno));
}

static enum xt_code sync_parent(const char *file, struct xt_err *err) {
    char *dir = path_dir(file);
    if (!dir)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    enum xt_code code = dir_sync(dir, err);
    free(dir);
    return code;
}

/* ---- backup ---- */

static enum xt_code backup_to(struct conn *c, const struct sqlite_store *e, const char *file, const char *part,
                              struct xt_err *err) {
    int version = 0;
    enum xt_code code = schema_version(c, e->path, &version, err);
    if (code == XT_OK && version == 0)
        return xt_fail(err, XT_ENOTFOUND, "%.160s is empty: nothing to back up", e->path);
    if (code == XT_OK)
        code = copy_into(c, part, err);
    if (code == XT_OK)
        code = publish(part, file, err);
    if (code != XT_OK) {
        unlink(part);
        return code;
    }
    return sync_parent(file, err);
}

enum xt_code sqlite_backup(struct store *s, const char *file, struct xt_err *err) {
    struct sqlite_store *e = engine_of(s);
    struct stat st;
    if (lstat(file, &st) == 0)
        return xt_fail(err, XT_ECONFLICT, "%.160s exists already", file);
    char *part = part_name(file);
    if (!part)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    struct conn c = { 0 };
    enum xt_code code = conn_open(&c, e, CONN_COPY, err);
    if (code == XT_OK)
        code = backup_to(&c, e, file, part, err);
    conn_close(&c);
    free(part);
    return code;
}

/* ---- restore ---- */

/* Is the place of the database free? A log without its database is data, too. */
static enum xt_code target_free(const char *path, struct xt_err *err) {
    struct stat st;
    if (stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > 0))
        return xt_fail(err, XT_ECONFLICT, "%.160s exists already: move it away first", path);
    char *wal = name_with(path, "-wal");
    if (!wal)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    enum xt_code code = XT_OK;
    if (stat(wal, &st) == 0 && st.st_size > 0)
        code = xt_fail(err, XT_ECONFLICT, "%.160s exists: move it away first", wal);
    free(wal);
    return code;
}

/* What SQLite would otherwise take for parts of the restored database. */
static enum xt_code leftovers_remove(const char *path, struct xt_err *err) {
    static const char *const suffixes[] = { "-wal", "-shm", "-journal" };
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *name = name_with(path, suffixes[i]);
        if (!name)
            return xt_fail(err, XT_ENOMEM, "out of memory");
        int rc = unlink(name), why = errno;
        free(name);
        if (rc != 0 && why != ENOENT)
            return xt_fail(err, XT_EUNAVAILABLE, "can't remove %.140s%s: %s", path, suffixes[i], strerror(why));
    }
    return XT_OK;
}

static enum xt_code intact(struct conn *c, const char *file, struct xt_err *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA integrity_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    enum xt_code code = XT_OK;
    if (rc != SQLITE_ROW)
        code = conn_fail(c, rc, "check of the backup", err);
    else if (!str_eq_c(col_str(st, 0), "ok"))
        code = xt_fail(err, XT_ESTORE, "%.160s is damaged: %.*s", file, 60, (const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    return code;
}

/* Checks the backup and copies it to `part`. */
static enum xt_code restore_copy(const char *file, const char *part, struct xt_err *err) {
    struct sqlite_store source = { .path = name_with(file, ""), .conf = { .read_only = true }, .lock_fd = -1 };
    if (!source.path)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    struct conn c = { 0 };
    int version = 0;
    enum xt_code code = conn_open(&c, &source, CONN_COPY, err);
    if (code == XT_OK)
        code = schema_version(&c, file, &version, err);
    if (code == XT_OK && version == 0)
        code = xt_fail(err, XT_EINVAL, "%.160s is empty, not a backup", file);
    if (code == XT_OK)
        code = intact(&c, file, err);
    if (code == XT_OK)
        code = copy_into(&c, part, err);
    conn_close(&c);
    free(source.path);
    return code;
}

/* The server that will open the file may run as somebody else than root, who restores. */
static enum xt_code give_away(const char *part, struct xt_err *err) {
    int fd = open(part, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return xt_fail(err, XT_EUNAVAILABLE, "can't open %.160s: %s", part, strerror(errno));
    enum xt_code code = file_made(fd, part, err);
    close(fd);
    return code;
}

static enum xt_code restore_to(const char *path, const char *file, struct xt_err *err) {
    char *part = part_name(path);
    if (!part)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    enum xt_code code = target_free(path, err);
    if (code == XT_OK)
        code = restore_copy(file, part, err);
    if (code == XT_OK)
        code = give_away(part, err);
    if (code == XT_OK)
        code = leftovers_remove(path, err);
    if (code == XT_OK && rename(part, path) != 0)
        code = xt_fail(err, XT_EUNAVAILABLE, "can't create %.160s: %s", path, strerror(errno));
    if (code != XT_OK)
        unlink(part);
    free(part);
    return code == XT_OK ? sync_parent(path, err) : code;
}

enum xt_code sqlite_restore(const char *url, const char *file, struct xt_err *err) {
    char *path = NULL, *dir = NULL;
    int lock = -1;
    enum xt_code code = url_to_path(url, &path, err);
    if (code == XT_OK && !(dir = path_dir(path)))
        code = xt_fail(err, XT_ENOMEM, "out of memory");
    if (code == XT_OK)
        code = dir_create(dir, err);
    if (code == XT_OK)
        code = dir_lock(dir, &lock, err);
    if (code == XT_OK)
        code = restore_to(path, file, err);
    if (lock >= 0)
        close(lock);
    free(dir);
    free(path);
    return code;
}
