/* fault_vfs.h -- a disk for SQLite that fails on command: the n-th operation fails, the disk is full, or the power goes
 * and what was not synced is lost, wholly or by sectors. Included by one test each; what
 * should fail is said while no other thread writes.
 *
 *  1. A file's present content (what the system's cache would hold) is in memory; the real file holds what was synced.
 *     So a real file never knows more than a disk would after a power cut.
 *  2. Locks and shared memory are the real file's. Deleting is taken as durable at once.
 *  3. One mutex around each operation: checkpoints have a thread of their own.
 *  4. fault_install makes it the default of the process; fault_reset forgets contents: the real files are the truth. */
#pragma once
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAULT_SECTOR 512
#define FAULT_FILES 16

/* A path and its content as its readers see it. Stays when closed: closing is no sync. */
struct fault_node {
    char path[512];
    unsigned char *now;
    int64_t size, room;
    int64_t synced_size;
    unsigned char *dirty; /* a byte a sector of `room` */
    bool used;
};

static struct {
    sqlite3_vfs vfs, *real;
    struct fault_node nodes[FAULT_FILES];
    /* What to do. */
    int64_t at;       /* this operation fails: the first is 1; 0: none */
    const char *only; /* of files whose name ends so; NULL: of all */
    int code;         /* with this result */
    bool sticky;      /* and all later ones, too */
    int64_t space;    /* bytes that all files together may take; < 0: no limit */
    int64_t cut_at;   /* the power goes at this operation; 0: never */
    int cut_keep;     /* of 8 unsynced sectors this many reach the disk */
    uint64_t seed;
    /* What happened. */
    int64_t ops, syncs;
    bool failed, dead; /* dead: the power is off, nothing reaches the disk any more */
} fault;

struct fault_file {
    sqlite3_file base;
    struct fault_node *node; /* NULL: a file that is not watched */
    sqlite3_file *real;      /* behind this struct */
};

static pthread_mutex_t fault_mu = PTHREAD_MUTEX_INITIALIZER;
static inline pthread_mutex_t *fault_take(void) {
    pthread_mutex_lock(&fault_mu);
    return &fault_mu;
}
static inline void fault_give(pthread_mutex_t **mu) { pthread_mutex_unlock(*mu); }
/* Until the end of the block. */
#define FAULT_GUARD() pthread_mutex_t *guard __attribute__((cleanup(fault_give), unused)) = fault_take()

static inline uint64_t fault_random(void) {
    fault.seed = fault.seed * 6364136223846793005u + 1442695040888963407u;
    return fault.seed >> 33;
}

/* ---- content ---- */

static inline bool fault_room(struct fault_node *n, int64_t size) {
    if (size <= n->room)
        return true;
    int64_t room = (size * 2 + FAULT_SECTOR * 64) / FAULT_SECTOR * FAULT_SECTOR;
    unsigned char *now = realloc(n->now, (size_t)room);
    if (!now)
        return false;
    n->now = now;
    unsigned char *dirty = realloc(n->dirty, (size_t)(room / FAULT_SECTOR));
    if (!dirty)
        return false;
    n->dirty = dirty;
    memset(now + n->room, 0, (size_t)(room - n->room));
    memset(dirty + n->room / FAULT_SECTOR, 0, (size_t)((room - n->room) / FAULT_SECTOR));
    n->room = room;
    return true;
}

static inline struct fault_node *fault_find(const char *path) {
    for (size_t i = 0; path && i < FAULT_FILES; i++)
        if (fault.nodes[i].used && strcmp(fault.nodes[i].path, path) == 0)
            return &fault.nodes[i];
    return NULL;
}

static inline void fault_forget(struct fault_node *n) {
    free(n->now);
    free(n->dirty);
    memset(n, 0, sizeof *n);
}

static inline struct fault_node *fault_load(const char *path, sqlite3_file *real) {
    struct fault_node *n = fault_find(path);
    if (n)
        return n;
    for (size_t i = 0; i < FAULT_FILES && !n; i++)
        n = fault.nodes[i].used ? NULL : &fault.nodes[i];
    sqlite3_int64 size = 0;
    if (!n || strlen(path) >= sizeof n->path || real->pMethods->xFileSize(real, &size) != SQLITE_OK ||
        !fault_room(n, size))
        return NULL;
    if (size > 0 && real->pMethods->xRead(real, n->now, (int)size, 0) != SQLITE_OK)
        return NULL;
    memcpy(n->path, path, strlen(path) + 1);
    n->size = n->synced_size = size;
    n->used = true;
    return n;
}

/* Number of sectors that a power cut would endanger in files whose name ends so. */
static inline int64_t fault_dirty(const char *suffix) {
    int64_t count = 0;
    for (size_t i = 0; i < FAULT_FILES; i++) {
        const struct fault_node *n = &fault.nodes[i];
        size_t len = strlen(n->path), end = strlen(suffix);
        if (!n->used || len < end || strcmp(n->path + len - end, suffix) != 0)
            continue;
        for (int64_t k = 0; k < n->room / FAULT_SECTOR; k++)
            count += n->dirty[k];
        count += n->size != n->synced_size;
    }
    return count;
}

/* Brings sectors to the real file: all (a sync, keep 8), or `keep` of 8 by chance (a cut). */
static inline void fault_flush(struct fault_node *n, int keep) {
    int fd = open(n->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return; /* deleted by other means */
    int64_t size = keep == 8 || (int)(fault_random() % 8) < keep ? n->size : n->synced_size;
    bool ok = true;
    for (int64_t k = 0; k * FAULT_SECTOR < n->size; k++) {
        if (!n->dirty[k] || (keep < 8 && (int)(fault_random() % 8) >= keep))
            continue;
        int64_t from = k * FAULT_SECTOR, len = n->size - from < FAULT_SECTOR ? n->size - from : FAULT_SECTOR;
        ok = pwrite(fd, n->now + from, (size_t)len, from) == len && ok;
        if (from + len > size)
            size = from + len;
    }
    ok = ftruncate(fd, size) == 0 && ok;
    /* Closing drops the process' locks on the file; nobody but this process is there to notice. */
    close(fd);
    if (!ok)
        abort();
    n->synced_size = size;
    if (n->dirty)
        memset(n->dirty, 0, (size_t)(n->room / FAULT_SECTOR));
}

/* The power goes: of what was not synced, chance keeps a share. */
static inline void fault_cut(void) {
    for (size_t i = 0; i < FAULT_FILES && !fault.dead; i++)
        if (fault.nodes[i].used)
            fault_flush(&fault.nodes[i], fault.cut_keep);
    fault.dead = true;
}

/* Counts one operation that changes the disk; SQLITE_OK: do it. */
static inline int fault_step(const struct fault_node *n, int other) {
    size_t len = strlen(n->path), end = fault.only ? strlen(fault.only) : 0;
    if (fault.dead)
        return SQLITE_IOERR;
    if (len < end || (fault.only && strcmp(n->path + len - end, fault.only) != 0))
        return SQLITE_OK;
    fault.ops++;
    if (fault.cut_at && fault.ops >= fault.cut_at) {
        fault_cut();
        return SQLITE_IOERR;
    }
    if (fault.at && (fault.ops == fault.at || (fault.sticky && fault.ops > fault.at))) {
        fault.failed = true;
        return fault.code ? fault.code : other;
    }
    return SQLITE_OK;
}

static inline int64_t fault_total(void) {
    int64_t total = 0;
    for (size_t i = 0; i < FAULT_FILES; i++)
        total += fault.nodes[i].used ? fault.nodes[i].size : 0;
    return total;
}

/* ---- methods of a file ---- */

static inline sqlite3_file *fault_real(sqlite3_file *f) { return ((struct fault_file *)f)->real; }

static int fault_close(sqlite3_file *f) {
    sqlite3_file *real = fault_real(f);
    return real->pMethods ? real->pMethods->xClose(real) : SQLITE_OK;
}
static int fault_read(sqlite3_file *f, void *out, int amount, sqlite3_int64 at) {
    FAULT_GUARD();
    const struct fault_node *n = ((struct fault_file *)f)->node;
    if (!n)
        return fault_real(f)->pMethods->xRead(fault_real(f), out, amount, at);
    int64_t have = n->size > at ? n->size - at : 0;
    if (have >= amount) {
        memcpy(out, n->now + at, (size_t)amount);
        return SQLITE_OK;
    }
    if (have > 0)
        memcpy(out, n->now + at, (size_t)have);
    memset((char *)out + have, 0, (size_t)(amount - have));
    return SQLITE_IOERR_SHORT_READ;
}
static int fault_write(sqlite3_file *f, const void *data, int amount, sqlite3_int64 at) {
    FAULT_GUARD();
    struct fault_node *n = ((struct fault_file *)f)->node;
    if (!n)
        return fault_real(f)->pMethods->xWrite(fault_real(f), data, amount, at);
    int rc = fault_step(n, SQLITE_IOERR_WRITE);
    if (rc != SQLITE_OK)
        return rc;
    if (fault.space >= 0 && at + amount > n->size && fault_total() + at + amount - n->size > fault.space) {
        fault.failed = true;
        return SQLITE_FULL;
    }
    if (!fault_room(n, at + amount))
        return SQLITE_IOERR_NOMEM;
    memcpy(n->now + at, data, (size_t)amount);
    for (int64_t k = at / FAULT_SECTOR; k * FAULT_SECTOR < at + amount; k++)
        n->dirty[k] = 1;
    n->size = at + amount > n->size ? at + amount : n->size;
    return SQLITE_OK;
}
static int fault_truncate(sqlite3_file *f, sqlite3_int64 size) {
    FAULT_GUARD();
    struct fault_node *n = ((struct fault_file *)f)->node;
    if (!n)
        return fault_real(f)->pMethods->xTruncate(fault_real(f), size);
    int rc = fault_step(n, SQLITE_IOERR_TRUNCATE);
    if (rc != SQLITE_OK)
        return rc;
    if (!fault_room(n, size))
        return SQLITE_IOERR_NOMEM;
    if (size < n->size)
        memset(n->now + size, 0, (size_t)(n->size - size));
    n->size = size;
    return SQLITE_OK;
}
static int fault_sync(sqlite3_file *f, int flags) {
    FAULT_GUARD();
    struct fault_node *n = ((struct fault_file *)f)->node;
    if (!n)
        return fault_real(f)->pMethods->xSync(fault_real(f), flags);
    int rc = fault_step(n, SQLITE_IOERR_FSYNC);
    if (rc != SQLITE_OK)
        return rc;
    fault.syncs++;
    fault_flush(n, 8);
    return SQLITE_OK;
}
static int fault_size(sqlite3_file *f, sqlite3_int64 *ret) {
    FAULT_GUARD();
    const struct fault_node *n = ((struct fault_file *)f)->node;
    if (!n)
        return fault_real(f)->pMethods->xFileSize(fault_real(f), ret);
    *ret = n->size;
    return SQLITE_OK;
}
static int fault_lock(sqlite3_file *f, int level) { return fault_real(f)->pMethods->xLock(fault_real(f), level); }
static int fault_unlock(sqlite3_file *f, int level) { return fault_real(f)->pMethods->xUnlock(fault_real(f), level); }
static int fault_reserved(sqlite3_file *f, int *ret) {
    return fault_real(f)->pMethods->xCheckReservedLock(fault_real(f), ret);
}
static int fault_control(sqlite3_file *f, int op, void *arg) {
    if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE || op == SQLITE_FCNTL_MMAP_SIZE)
        return SQLITE_NOTFOUND; /* they would touch the real file */
    return fault_real(f)->pMethods->xFileControl(fault_real(f), op, arg);
}
static int fault_sector(sqlite3_file *f) { return fault_real(f)->pMethods->xSectorSize(fault_real(f)); }
static int fault_traits(sqlite3_file *f) { return fault_real(f)->pMethods->xDeviceCharacteristics(fault_real(f)); }
static int fault_shm_map(sqlite3_file *f, int region, int bytes, int extend, void volatile **ret) {
    return fault_real(f)->pMethods->xShmMap(fault_real(f), region, bytes, extend, ret);
}
static int fault_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return fault_real(f)->pMethods->xShmLock(fault_real(f), offset, n, flags);
}
static void fault_shm_barrier(sqlite3_file *f) { fault_real(f)->pMethods->xShmBarrier(fault_real(f)); }
static int fault_shm_unmap(sqlite3_file *f, int remove) {
    return fault_real(f)->pMethods->xShmUnmap(fault_real(f), remove);
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 2,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_reserved,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector,
    .xDeviceCharacteristics = fault_traits,
    .xShmMap = fault_shm_map,
    .xShmLock = fault_shm_lock,
    .xShmBarrier = fault_shm_barrier,
    .xShmUnmap = fault_shm_unmap,
};

/* ---- methods of the disk ---- */

static int fault_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *out, int flags, int *ret_flags) {
    FAULT_GUARD();
    (void)vfs;
    struct fault_file *f = (struct fault_file *)out;
    f->base.pMethods = NULL;
    f->node = NULL;
    f->real = (sqlite3_file *)(f + 1);
    int rc = fault.real->xOpen(fault.real, path, f->real, flags, ret_flags);
    if (rc != SQLITE_OK)
        return rc;
    f->base.pMethods = &fault_methods;
    bool watched = flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL);
    if (watched && !(f->node = fault_load(path, f->real))) {
        fault_close(out);
        f->base.pMethods = NULL;
        return SQLITE_CANTOPEN;
    }
    return SQLITE_OK;
}
static int fault_delete(sqlite3_vfs *vfs, const char *path, int sync_dir) {
    FAULT_GUARD();
    (void)vfs;
    struct fault_node *n = fault_find(path);
    int rc = n ? fault_step(n, SQLITE_IOERR_DELETE) : SQLITE_OK;
    if (rc != SQLITE_OK)
        return rc;
    if (n)
        fault_forget(n);
    return fault.real->xDelete(fault.real, path, sync_dir);
}
static int fault_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret) {
    FAULT_GUARD();
    (void)vfs;
    const struct fault_node *n = fault_find(path);
    if (!n || flags != SQLITE_ACCESS_EXISTS)
        return fault.real->xAccess(fault.real, path, flags, ret);
    *ret = n->size > 0;
    return SQLITE_OK;
}

/* Forgets what the files hold in memory and what should fail. No file may be open. */
static inline void fault_reset(void) {
    for (size_t i = 0; i < FAULT_FILES; i++)
        if (fault.nodes[i].used)
            fault_forget(&fault.nodes[i]);
    sqlite3_vfs vfs = fault.vfs, *real = fault.real;
    memset(&fault, 0, sizeof fault);
    fault.vfs = vfs;
    fault.real = real;
    fault.space = -1;
    fault.seed = 1;
}

static inline void fault_install(void) {
    fault.real = sqlite3_vfs_find(NULL);
    fault.vfs = *fault.real; /* what is not replaced below asks nothing of the disk that we pretend */
    fault.vfs.zName = "fault";
    fault.vfs.szOsFile = (int)sizeof(struct fault_file) + fault.real->szOsFile;
    fault.vfs.xOpen = fault_open;
    fault.vfs.xDelete = fault_delete;
    fault.vfs.xAccess = fault_access;
    sqlite3_vfs_register(&fault.vfs, 1);
    fault_reset();
}
