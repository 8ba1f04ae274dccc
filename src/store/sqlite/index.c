/* index.c -- the index beside the writer: opening, the log row of each group, and the work between groups (seals, merges,
 * deleting what is dead); see index.h. Everything here but index_new and index_free runs on the writer's thread.
 *
 *  1. A slice of work is one transaction. What it means for look-ups changes with its commit, in the file and then in
 *     memory; in between readers see a version that memory has not and read the file.
 *  2. When a slice fails its job is dropped, the state of the file is read anew before the next write or slice, and work
 *     rests for a second. Writes go on: what is not sealed stays in the hot part and in the log.
 *  3. Log rows up to state.ix_sealed mean nothing any more; they and dead runs are deleted when nothing else is to do. */
#include <limits.h>
#include <stdlib.h>

#include "store/sqlite/index.h"
#include "store/sqlite/lookup.h"

#define LOG_ROW_MAX ((size_t)1 << 30)
#define LOG_ROW_KEEP ((size_t)1 << 20)
#define ENTRIES_PER_STEP 2048 /* a slice is due for so many new entries, and one a group */
#define STEPS_MAX 64          /* at one time */
#define GARBAGE_ROWS 256      /* deleted in a slice */
#define SEAL_ALL (SIZE_MAX / 1024)

static enum xt_code out_of_memory(struct xt_err *err) { return xt_fail(err, XT_ENOMEM, "out of memory"); }

/* ---- life ---- */

enum xt_code index_new(struct sqlite_store *e, struct xt_err *err) {
    struct index *ix = alloc_should_fail() ? NULL : calloc(1, sizeof *ix);
    if (!ix)
        return out_of_memory(err);
    ix->e = e;
    ix->bits = INDEX_HASH_BITS;
    ix->seal = calloc(1, sizeof *ix->seal);
    ix->merge = calloc(1, sizeof *ix->merge);
    pthread_mutex_init(&ix->mu, NULL);
    pthread_mutex_init(&ix->load_mu, NULL);
    buf_init(&ix->row, LOG_ROW_MAX);
    e->index = ix;
    return ix->seal && ix->merge ? XT_OK : out_of_memory(err);
}

void index_free(struct sqlite_store *e) {
    struct index *ix = e->index;
    if (!ix)
        return;
    job_drop(ix->seal);
    job_drop(ix->merge);
    free(ix->seal);
    free(ix->merge);
    set_unref(ix->set);
    buf_done(&ix->row);
    pthread_mutex_destroy(&ix->mu);
    pthread_mutex_destroy(&ix->load_mu);
    free(ix);
    e->index = NULL;
}

static enum xt_code get_state(struct conn *c, const char *key, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, str_c(key));
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "look-up", err);
}

static enum xt_code set_state(struct conn *c, const char *key, int64_t v, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_SET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, str_c(key));
    sqlite3_bind_int64(st, 2, v);
    return conn_run(c, st, "look-up", err);
}

/* How many bits entries keep is the file's word; a file without entries takes this program's. */
static enum xt_code read_bits(struct sqlite_store *e, struct xt_err *err) {
    int64_t bits = 0;
    enum xt_code code = get_state(&e->writer, "ix_bits", &bits, err);
    if (code != XT_OK)
        return code;
    if (bits == 0) {
        bits = INDEX_HASH_BITS;
        code = e->conf.read_only ? XT_OK : set_state(&e->writer, "ix_bits", bits, err);
        if (code != XT_OK)
            return code;
    }
    e->index->bits_damaged = bits < 1 || bits > 40; /* said when the entries are wanted; check --repair can open it */
    e->index->bits = e->index->bits_damaged ? INDEX_HASH_BITS : (int)bits;
    return XT_OK;
}

enum xt_code index_start(struct sqlite_store *e, struct xt_err *err) {
    struct conn *c = &e->writer;
    enum xt_code code = read_bits(e, err);
    if (code != XT_OK || !e->conf.exclusive)
        return code;
    code = conn_begin(c, false, err);
    if (code == XT_OK) {
        code = index_load(e->index, err);
        if (code == XT_EUNAVAILABLE && !c->broken)
            code = XT_OK; /* damage: each look-up and each write says so, and check --repair can open the store */
    }
    conn_rollback(c);
    return code;
}

/* ---- a group ---- */

static uint64_t entries(const struct ix_counts *n) {
    uint64_t sum = 0;
    for (int k = 0; k < IX_KINDS; k++)
        sum += n->n[k];
    return sum;
}

static struct ix_hot *active(const struct index *ix) { return ix->set->hot[ix->set->nhot - 1]; }

enum xt_code index_begin(struct sqlite_store *e, struct xt_err *err) {
    struct index *ix = e->index;
    enum xt_code code = ix->in_sync ? XT_OK : index_load(ix, err);
    if (code != XT_OK)
        return code;
    hot_forget(active(ix));
    if (entries(&active(ix)->published) > INDEX_HOT_MAX)
        return xt_fail(err, XT_EUNAVAILABLE, "new look-up entries can't be written out");
    return XT_OK;
}

enum xt_code index_stage(struct sqlite_store *e, enum ix_kind kind, const struct ix_entry *entry, struct xt_err *err) {
    return hot_stage(active(e->index), kind, entry) ? XT_OK : out_of_memory(err);
}

enum xt_code index_log(struct sqlite_store *e, struct xt_err *err) {
    struct index *ix = e->index;
    struct ix_hot *h = active(ix);
    struct conn *c = &e->writer;
    if (entries(&h->staged) == entries(&h->published))
        return XT_OK;
    if (!hot_reserve(h) || !log_encode(h, &ix->row))
        return out_of_memory(err);
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_LOG_ADD, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, atomic_load_explicit(&h->last_seq, memory_order_relaxed) + 1);
    bind_blob(st, 2, buf_str(&ix->row));
    enum xt_code code = conn_run(c, st, "look-up", err);
    if (ix->row.cap > LOG_ROW_KEEP) {
        sqlite3_clear_bindings(st);
        buf_done(&ix->row);
        buf_init(&ix->row, LOG_ROW_MAX);
    }
    return code;
}

void index_commit(struct sqlite_store *e) {
    struct index *ix = e->index;
    struct ix_hot *h = active(ix);
    uint64_t new = entries(&h->staged) - entries(&h->published);
    if (new > 0)
        hot_publish(h);
    ix->added += new;
}

void index_abort(struct sqlite_store *e) {
    struct index *ix = e->index;
    if (ix->set)
        hot_forget(active(ix));
    ix->in_sync = false; /* a commit that failed may yet have reached the file */
}

/* ---- new sets ---- */

/* The present set less the runs that are left out, with one more; hot parts from `from` on. */
static struct ix_set *next_set(const struct index *ix, size_t hot_from, struct ix_run *const *out, size_t nout,
                               struct ix_run *more) {
    const struct ix_set *now = ix->set;
    struct ix_set *s = set_new(now->nruns + 1);
    if (!s)
        return NULL;
    s->version = now->version;
    s->sealed = now->sealed;
    for (size_t i = hot_from; i < now->nhot; i++)
        s->hot[s->nhot++] = hot_ref(now->hot[i]);
    for (size_t i = 0; i < now->nruns; i++) {
        bool left_out = false;
        for (size_t k = 0; k < nout; k++)
            left_out = left_out || out[k] == now->runs[i];
        if (!left_out)
            s->runs[s->nruns++] = run_ref(now->runs[i]);
    }
    if (more)
        s->runs[s->nruns++] = run_ref(more);
    return s;
}

/* A full hot part is frozen; new entries go into a fresh one. */
static bool freeze(struct index *ix) {
    struct ix_hot *full = active(ix);
    struct ix_set *s = next_set(ix, 0, NULL, 0, NULL);
    struct ix_hot *fresh = s ? hot_new(atomic_load_explicit(&full->last_seq, memory_order_relaxed)) : NULL;
    if (!fresh) {
        set_unref(s);
        return false;
    }
    s->hot[s->nhot++] = fresh;
    seal_begin(ix->seal, full);
    index_set_put(ix, s);
    return true;
}

/* ---- slices of work ---- */

static enum xt_code set_run_state(struct conn *c, int64_t run, int state, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_RUN_STATE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, run);
    sqlite3_bind_int(st, 2, state);
    return conn_run(c, st, "look-up", err);
}

/* Ends the transaction of a slice that changes the list of runs, and publishes `s` (its reference is taken). */
static enum xt_code commit_set(struct index *ix, struct ix_set *s, struct xt_err *err) {
    struct conn *c = &ix->e->writer;
    if (!s)
        return out_of_memory(err);
    s->version++;
    enum xt_code code = set_state(c, "ix_version", s->version, err);
    if (code == XT_OK && s->sealed != ix->set->sealed)
        code = set_state(c, "ix_sealed", s->sealed, err);
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code == XT_OK)
        index_set_put(ix, s);
    else
        set_unref(s);
    return code;
}

static enum xt_code finish_job(struct index *ix, struct ix_job *j, struct xt_err *err) {
    struct conn *c = &ix->e->writer;
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < j->nin && code == XT_OK; i++)
        code = set_run_state(c, j->in[i]->number, RUN_DEAD, err);
    if (code != XT_OK)
        return code;
    struct ix_set *s = next_set(ix, j->hot ? 1 : 0, j->in, j->nin, j->b.run);
    if (s && j->hot)
        s->sealed = atomic_load_explicit(&j->hot->last_seq, memory_order_relaxed);
    code = commit_set(ix, s, err);
    if (code == XT_OK) {
        job_drop(j);
        ix->garbage = true;
    }
    return code;
}

static enum xt_code work_job(struct index *ix, struct ix_job *j, size_t rows, struct xt_err *err) {
    bool done = false;
    enum xt_code code = job_step(j, ix, rows, &done, err);
    if (code == XT_OK)
        code = done ? finish_job(ix, j, err) : conn_commit(&ix->e->writer, err);
    return code;
}

static enum xt_code first_i64(struct conn *c, enum sql_id id, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "look-up", err);
}

static enum xt_code delete_some(struct conn *c, enum sql_id id, int64_t from, int64_t to, int *ret_n,
                                struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, from);
    sqlite3_bind_int64(st, 2, to);
    sqlite3_bind_int(st, 3, GARBAGE_ROWS);
    enum xt_code code = conn_run(c, st, "look-up", err);
    *ret_n = sqlite3_changes(c->db);
    return code;
}

/* Sealed rows of the log, then the first dead run. */
static enum xt_code work_garbage(struct index *ix, struct xt_err *err) {
    struct conn *c = &ix->e->writer;
    int64_t run = 0;
    int n = 0;
    enum xt_code code = XT_OK;
    if (ix->orphans && !ix->seal->active && !ix->merge->active) {
        int64_t none;
        code = first_i64(c, SQL_IX_ORPHANS, &none, err);
        ix->orphans = code != XT_OK;
    }
    if (code == XT_OK)
        code = delete_some(c, SQL_IX_LOG_CUT, INT64_MIN, ix->set->sealed, &n, err);
    if (code == XT_OK && n == 0)
        code = first_i64(c, SQL_IX_DEAD, &run, err);
    if (code == XT_OK && run > 0)
        code = delete_some(c, SQL_IX_CUT, row_key(run, 0, 0), row_key(run + 1, 0, 0), &n, err);
    if (code == XT_OK && run > 0 && n == 0) {
        sqlite3_stmt *st = conn_stmt(c, SQL_IX_RUN_DROP, err);
        if (st)
            sqlite3_bind_int64(st, 1, run);
        code = st ? conn_run(c, st, "look-up", err) : c->failed;
        n = 1;
    }
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code == XT_OK)
        ix->garbage = n > 0;
    return code;
}

static bool is_input(const struct ix_job *j, const struct ix_run *r) {
    for (size_t i = 0; i < j->nin; i++)
        if (j->in[i] == r)
            return true;
    return false;
}

/* Runs that hold nothing but removed traces die. */
static enum xt_code work_floor(struct index *ix, struct xt_err *err) {
    struct conn *c = &ix->e->writer;
    const struct ix_set *now = ix->set;
    int64_t floor = 0;
    size_t n = 0;
    enum xt_code code = first_i64(c, SQL_IX_FLOOR, &floor, err);
    struct ix_run **old = calloc(now->nruns + 1, sizeof(struct ix_run *));
    if (!old)
        code = out_of_memory(err);
    for (size_t i = 0; i < now->nruns && old && code == XT_OK; i++) {
        if (now->runs[i]->tseq1 >= floor || is_input(ix->merge, now->runs[i]))
            continue;
        code = set_run_state(c, now->runs[i]->number, RUN_DEAD, err);
        old[n++] = now->runs[i];
    }
    if (code == XT_OK && n > 0)
        code = commit_set(ix, next_set(ix, 0, old, n, NULL), err);
    else
        conn_rollback(c);
    free(old);
    if (code == XT_OK) {
        ix->floor_moved = false;
        ix->garbage = ix->garbage || n > 0;
    }
    return code;
}

/* The oldest runs of the lowest level that has enough of them. Returns how many; 0: none. */
static size_t merge_due(const struct index *ix, struct ix_run **ret) {
    for (int level = 0; level < 62; level++) {
        size_t n = 0;
        for (size_t i = 0; i < ix->set->nruns && n < INDEX_FAN_IN; i++)
            if (ix->set->runs[i]->level == level)
                ret[n++] = ix->set->runs[i];
        if (n == INDEX_FAN_IN)
            return n;
    }
    return 0;
}

static enum xt_code work_merge(struct index *ix, struct xt_err *err) {
    struct ix_run *in[INDEX_FAN_IN];
    if (!ix->merge->active) {
        int64_t floor = 0;
        enum xt_code code = first_i64(&ix->e->writer, SQL_IX_FLOOR, &floor, err);
        if (code != XT_OK)
            return code;
        merge_begin(ix->merge, in, merge_due(ix, in), floor);
    }
    return work_job(ix, ix->merge, INDEX_MERGE_BLOCKS, err);
}

/* ---- between groups ---- */

enum work { WORK_NONE, WORK_SEAL, WORK_FLOOR, WORK_MERGE, WORK_GARBAGE };

static bool hot_full(const struct index *ix) {
    const struct ix_counts *n = &active(ix)->published;
    return n->n[IX_TRACE] >= INDEX_HOT_TRACES || entries(n) >= INDEX_HOT_ENTRIES;
}

static enum work choose(struct index *ix) {
    struct ix_run *in[INDEX_FAN_IN];
    if (!ix->seal->active && ix->set->nhot > 1)
        seal_begin(ix->seal, ix->set->hot[0]); /* the one before failed */
    if (ix->seal->active)
        return WORK_SEAL;
    if (ix->set->nhot == 1 && hot_full(ix))
        return freeze(ix) ? WORK_SEAL : WORK_NONE;
    if (ix->floor_moved)
        return WORK_FLOOR;
    if (ix->merge->active)
        return WORK_MERGE;
    if (ix->garbage) /* first: a merge that fails again and again must not fill the disk with what it leaves */
        return WORK_GARBAGE;
    return merge_due(ix, in) > 0 ? WORK_MERGE : WORK_NONE;
}

static enum xt_code work_now(struct index *ix, enum work work, struct xt_err *err) {
    /* A hot part that fills before the one before it is sealed: the seal ends now. One that failed leaves nothing the
     * next time. */
    size_t rows = hot_full(ix) || ix->orphans ? SEAL_ALL : INDEX_MERGE_BLOCKS;
    switch (work) {
    case WORK_SEAL: return work_job(ix, ix->seal, rows, err);
    case WORK_FLOOR: return work_floor(ix, err);
    case WORK_MERGE: return work_merge(ix, err);
    default: return work_garbage(ix, err);
    }
}

/* One slice. False: nothing is due, or it failed. */
static bool work_once(struct index *ix) {
    struct conn *c = &ix->e->writer;
    enum work work = choose(ix);
    if (work == WORK_NONE)
        return false;
    if (conn_begin(c, true, NULL) != XT_OK) {
        ix->retry_at = clock_mono_ns() + IX_TRIES_PAUSE;
        return false;
    }
    if (work_now(ix, work, NULL) == XT_OK)
        return true;
    conn_rollback(c);
    job_drop(ix->seal);
    job_drop(ix->merge);
    ix->in_sync = false;
    ix->orphans = ix->garbage = true;
    ix->retry_at = clock_mono_ns() + IX_TRIES_PAUSE;
    return false;
}

/* After a failure. Not left to the next write: that may wait for the work to be done (INDEX_HOT_MAX). */
static bool sync_again(struct index *ix) {
    struct conn *c = &ix->e->writer;
    if (ix->in_sync)
        return true;
    enum xt_code code = conn_begin(c, false, NULL);
    if (code == XT_OK)
        code = index_load(ix, NULL);
    conn_rollback(c);
    if (code != XT_OK)
        ix->retry_at = clock_mono_ns() + IX_TRIES_PAUSE;
    return code == XT_OK;
}

int64_t index_tidy(struct sqlite_store *e) {
    struct index *ix = e->index;
    if ((ix->retry_at != 0 && clock_mono_ns() < ix->retry_at) || !sync_again(ix))
        return ix->retry_at;
    uint64_t steps = 1 + ix->added / ENTRIES_PER_STEP;
    bool more = true;
    ix->added = 0;
    ix->retry_at = 0;
    for (uint64_t i = 0; more && i < steps && i < STEPS_MAX; i++)
        more = work_once(ix);
    if (ix->retry_at != 0)
        return ix->retry_at;
    return more ? clock_mono_ns() : TIDY_NOTHING;
}

/* ---- retention and rebuilding ---- */

enum xt_code lookup_retired(struct conn *c, int64_t ts, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_IX_GONE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, ts);
    c->index->floor_moved = true;
    return conn_run(c, st, "retention", err);
}
