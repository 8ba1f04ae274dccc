/* samples_seal.c -- from full hot parts to a generation, beside the groups.
 *
 *  1. The frozen parts stay readable, and in the log, until everything is written. A thread of its own makes the packs;
 *     the writer stores them between groups, a slice of SLICE_BYTES at a time; the last step, which makes it all count,
 *     writes two rows: that of the generation and `next_gen`.
 *  2. Until then rows of the generation mean nothing: a start over, or an end of the program, leaves them, and the first
 *     step of the next try removes them. The log's rows go last, in slices.
 *  3. When the next hot part is full before that, the writer waits: memory stays bounded.
 *  4. What fails is tried again after SAMPLE_RETRY; nothing is lost but time. */
#include "store/sqlite/samples.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define SLICE_BYTES ((size_t)1 << 20)
#define SLICE_ROWS 1000
#define PURGE_ROWS 64

enum stage { STAGE_MAKE, STAGE_CLEAN, STAGE_PACKS, STAGE_DIRS, STAGE_FILTER, STAGE_CARRY, STAGE_COMMIT, STAGE_PURGE };

/* A part of the generation as it will be stored; one block of memory. */
struct job_pack {
    uint32_t points;
    int64_t t0, t1;
    char *bytes;
    size_t lab, pts, raw; /* lengths, in this order */
};

struct seal_job {
    struct sqlite_store *e;
    int64_t gen;
    struct seal seal;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t mu;
    pthread_cond_t cv;
    bool made; /* mu */
    /* The thread's until made, then the writer's. */
    enum xt_code code;
    struct xt_err err;
    struct conn c;
    int64_t next_metric;
    struct job_pack *packs;
    size_t npacks, cap;
    /* The writer's. */
    enum stage stage;
    size_t at;
    struct hot_count carried;
    int64_t row;
};

/* ---- making ---- */

/* The number of a metric; a new one gets the next, and its row with the others of the generation. */
static enum xt_code job_metric(void *arg, int64_t project, struct str name, int64_t *ret, struct xt_err *err) {
    struct seal_job *j = arg;
    sqlite3_stmt *st = conn_stmt(&j->c, SQL_MNAME_GET, err);
    if (!st)
        return j->c.failed;
    sqlite3_bind_int64(st, 1, project);
    bind_str(st, 2, name);
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : j->next_metric++;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(&j->c, rc, "metric", err);
}

static enum xt_code job_pack(void *arg, uint32_t number, const struct pack_part *p, struct xt_err *err) {
    struct seal_job *j = arg;
    (void)number; /* they come in order */
    if (j->npacks == j->cap) {
        size_t cap = j->cap ? j->cap * 2 : 64;
        struct job_pack *more = alloc_should_fail() ? NULL : realloc(j->packs, cap * sizeof *more);
        if (!more)
            return xt_fail(err, XT_ENOMEM, "out of memory");
        j->packs = more;
        j->cap = cap;
    }
    struct job_pack *k = &j->packs[j->npacks];
    *k = (struct job_pack){ p->points, p->t0, p->t1, NULL, p->lab.n, p->pts.n, p->raw.n };
    k->bytes = alloc_should_fail() ? NULL : malloc(k->lab + k->pts + k->raw + 1);
    if (!k->bytes)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    char *to = k->bytes;
    const struct str all[] = { p->lab, p->pts, p->raw };
    for (size_t i = 0; i < 3; i++) {
        if (all[i].n)
            memcpy(to, all[i].p, all[i].n);
        to += all[i].n;
    }
    j->npacks++;
    return XT_OK;
}

static enum xt_code job_numbers(struct seal_job *j, struct xt_err *err) {
    enum xt_code code = conn_open(&j->c, j->e, CONN_COPY, err);
    sqlite3_stmt *st = code == XT_OK ? conn_stmt(&j->c, SQL_MNAME_LAST, err) : NULL;
    if (!st)
        return code == XT_OK ? j->c.failed : code;
    int rc = sqlite3_step(st);
    j->next_metric = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) + 1 : 1;
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? XT_OK : conn_fail(&j->c, rc, "metric", err);
}

static void *job_make(void *arg) {
    struct seal_job *j = arg;
    const struct seal_engine engine = { j, job_metric, job_pack };
    enum xt_code code = job_numbers(j, &j->err);
    if (code == XT_OK)
        code = seal_make(&j->seal, &engine, &j->err);
    conn_close(&j->c);
    pthread_mutex_lock(&j->mu);
    j->code = code;
    j->made = true;
    pthread_cond_signal(&j->cv);
    pthread_mutex_unlock(&j->mu);
    return NULL;
}

/* Waits for the thread, at most so long; true: it is done. */
static bool job_wait(struct seal_job *j, int64_t ns) {
    int64_t until = clock_mono_ns() + ns;
    struct timespec ts = { (time_t)(until / NS_PER_SEC), (long)(until % NS_PER_SEC) };
    pthread_mutex_lock(&j->mu);
    while (!j->made && ns > 0 && pthread_cond_timedwait(&j->cv, &j->mu, &ts) != ETIMEDOUT)
        continue;
    bool made = j->made;
    pthread_mutex_unlock(&j->mu);
    return made;
}

static void job_join(struct seal_job *j) {
    if (j->threaded)
        pthread_join(j->thread, NULL);
    j->threaded = false;
}

void samples_seal_drop(struct sqlite_store *e) {
    struct seal_job *j = e->samples->job;
    if (!j)
        return;
    job_join(j);
    seal_done(&j->seal);
    for (size_t i = 0; i < j->npacks; i++)
        free(j->packs[i].bytes);
    free(j->packs);
    for (size_t i = 0; i < j->seal.nparts; i++)
        hot_part_unref(j->seal.parts[i]);
    pthread_mutex_destroy(&j->mu);
    pthread_cond_destroy(&j->cv);
    free(j);
    e->samples->job = NULL;
}

/* ---- starting ---- */

/* Puts a new hot part behind the present one. */
static enum xt_code freeze(struct sqlite_store *e, struct xt_err *err) {
    struct sample_state *s = e->samples;
    const struct samples_version *old = s->now;
    struct samples_version *v = samples_version_new(old->next_gen);
    struct hot *hot = hot_part_new();
    if (!v || !hot) {
        samples_version_unref(v);
        hot_part_unref(hot);
        return xt_fail(err, XT_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < old->n; i++) {
        hot_part_ref(old->parts[i]);
        samples_version_add(v, old->parts[i], old->numbers[i]);
    }
    samples_version_add(v, hot, 2 * old->next_gen + 2);
    s->row = samples_part_key(2 * old->next_gen + 2);
    samples_version_set(e, v);
    return XT_OK;
}

static enum xt_code job_new(struct sqlite_store *e, int64_t cutoff, bool carry_all, struct xt_err *err) {
    const struct samples_version *v = e->samples->now;
    struct seal_job *j = alloc_should_fail() ? NULL : calloc(1, sizeof *j);
    if (!j)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->cv, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&j->mu, NULL);
    j->e = e;
    j->gen = v->next_gen;
    j->seal.cutoff = cutoff;
    j->seal.carry_all = carry_all;
    for (size_t i = 0; i + 1 < v->n; i++) {
        hot_part_ref(v->parts[i]);
        j->seal.parts[j->seal.nparts++] = v->parts[i];
    }
    e->samples->job = j;
    j->threaded = pthread_create(&j->thread, NULL, job_make, j) == 0;
    if (j->threaded)
        pthread_setname_np(j->thread, "xt-seal");
    else
        job_make(j);
    return XT_OK;
}

bool samples_frozen(const struct sqlite_store *e) {
    const struct samples_version *v = e->samples->now;
    return v->numbers[v->n - 1] != 2 * v->next_gen;
}

enum xt_code samples_seal_start(struct sqlite_store *e, int64_t cutoff, bool carry_all, struct xt_err *err) {
    struct sample_state *s = e->samples;
    if (s->job)
        return XT_OK;
    if (s->now->next_gen >= SAMPLE_GEN_MAX)
        return xt_fail(err, XT_EUNAVAILABLE, "no more generations of samples");
    bool again = samples_frozen(e) && s->sealing;
    enum xt_code code = samples_frozen(e) ? XT_OK : freeze(e, err);
    if (code != XT_OK)
        return code;
    s->seal_cutoff = again && s->seal_cutoff > cutoff ? s->seal_cutoff : cutoff;
    s->seal_carry_all = again ? s->seal_carry_all : carry_all;
    s->sealing = true;
    return job_new(e, s->seal_cutoff, s->seal_carry_all, err);
}

/* ---- storing: one slice, in an open transaction ---- */

static enum xt_code run_2(struct conn *c, enum sql_id id, int64_t a, int64_t b, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, a);
    if (sqlite3_bind_parameter_count(st) > 1)
        sqlite3_bind_int64(st, 2, b);
    return conn_run(c, st, "samples", err);
}

/* What an unfinished try left; and rows of the log that could not be read go where no reader looks. */
static enum xt_code store_clean(struct seal_job *j, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    struct sample_state *s = j->e->samples;
    int64_t carried = 2 * j->gen + 1;
    enum xt_code code = run_2(c, SQL_MPACK_CUT, j->gen << SAMPLE_PACK_BITS, INT64_MAX, err);
    if (code == XT_OK)
        code = run_2(c, SQL_MFILTER_CUT, j->gen << SAMPLE_PACK_BITS, INT64_MAX, err);
    if (code == XT_OK)
        code = run_2(c, SQL_MDIR_CUT, j->gen, 0, err);
    if (code == XT_OK)
        code = run_2(c, SQL_MGEN_CUT, j->gen, 0, err);
    if (code == XT_OK)
        code = run_2(c, SQL_MLOG_CUT, samples_part_key(carried), samples_part_key(carried + 1) - 1, err);
    for (size_t i = 0; i < s->ndamaged && code == XT_OK; i++)
        code = run_2(c, SQL_MLOG_ASIDE, s->damaged[i], 0, err);
    return code;
}

static enum xt_code store_packs(struct seal_job *j, size_t *ret_at, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    size_t bytes = 0, i = j->at;
    for (; i < j->npacks && bytes < SLICE_BYTES; i++) {
        const struct job_pack *k = &j->packs[i];
        sqlite3_stmt *st = conn_stmt(c, SQL_MPACK_ADD, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, j->gen << SAMPLE_PACK_BITS | (int64_t)i);
        sqlite3_bind_int64(st, 2, k->points);
        sqlite3_bind_int64(st, 3, k->t0);
        sqlite3_bind_int64(st, 4, k->t1);
        bind_blob(st, 5, (struct str){ k->bytes, k->lab });
        bind_blob(st, 6, (struct str){ k->bytes + k->lab, k->pts });
        bind_blob(st, 7, (struct str){ k->bytes + k->lab + k->pts, k->raw });
        enum xt_code code = conn_run(c, st, "samples", err);
        if (code != XT_OK)
            return code;
        bytes += k->lab + k->pts + k->raw;
    }
    *ret_at = i;
    return XT_OK;
}

static enum xt_code store_dirs(struct seal_job *j, size_t *ret_at, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    size_t i = j->at;
    for (size_t n = 0; i < j->seal.ndirs && n < SLICE_ROWS; i++, n++) {
        const struct seal_dir *d = &j->seal.dirs[i];
        sqlite3_stmt *st = conn_stmt(c, SQL_MNAME_ADD, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, d->metric);
        sqlite3_bind_int64(st, 2, d->project);
        bind_str(st, 3, d->name);
        enum xt_code code = conn_run(c, st, "samples", err);
        st = code == XT_OK ? conn_stmt(c, SQL_MDIR_ADD, err) : NULL;
        if (!st)
            return code == XT_OK ? c->failed : code;
        sqlite3_bind_int64(st, 1, d->metric);
        sqlite3_bind_int64(st, 2, j->gen);
        sqlite3_bind_int64(st, 3, d->first);
        sqlite3_bind_int64(st, 4, d->parts);
        sqlite3_bind_int64(st, 5, d->points);
        sqlite3_bind_int64(st, 6, d->t0);
        sqlite3_bind_int64(st, 7, d->t1);
        code = conn_run(c, st, "samples", err);
        if (code != XT_OK)
            return code;
    }
    *ret_at = i;
    return XT_OK;
}

static enum xt_code store_filter(struct seal_job *j, size_t *ret_at, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    size_t i = j->at;
    for (size_t bytes = 0; i < j->seal.filter.rows && bytes < SLICE_BYTES; i++, bytes += FILTER_ROW) {
        sqlite3_stmt *st = conn_stmt(c, SQL_MFILTER_ADD, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, j->gen << SAMPLE_PACK_BITS | (int64_t)i);
        bind_blob(st, 2, (struct str){ (const char *)j->seal.filter.bytes + i * FILTER_ROW, FILTER_ROW });
        enum xt_code code = conn_run(c, st, "samples", err);
        if (code != XT_OK)
            return code;
    }
    *ret_at = i;
    return XT_OK;
}

/* The next rows of the log of the carried part. */
static enum xt_code store_carried(struct seal_job *j, struct hot_count *ret_at, int64_t *ret_row, bool *ret_end,
                                  struct xt_err *err) {
    struct conn *c = &j->e->writer;
    const struct hot *h = j->seal.carried;
    *ret_at = j->carried;
    *ret_row = j->row;
    *ret_end = !h || !sample_log_next(h, &j->carried, SLICE_BYTES / 2, ret_at);
    if (*ret_end)
        return XT_OK;
    struct buf row;
    buf_init(&row, SIZE_MAX / 2);
    enum xt_code code =
        sample_log_encode_to(h, &j->carried, ret_at, &row) ? XT_OK : xt_fail(err, XT_ENOMEM, "out of memory");
    sqlite3_stmt *st = code == XT_OK ? conn_stmt(c, SQL_MLOG_PUT, err) : NULL;
    if (st) {
        sqlite3_bind_int64(st, 1, samples_part_key(2 * j->gen + 1) + ++*ret_row);
        bind_blob(st, 2, buf_str(&row));
        code = conn_run(c, st, "samples", err);
    } else if (code == XT_OK) {
        code = c->failed;
    }
    buf_done(&row);
    return code;
}

static enum xt_code store_commit(struct seal_job *j, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    if (j->npacks > 0) {
        sqlite3_stmt *st = conn_stmt(c, SQL_MGEN_ADD, err);
        if (!st)
            return c->failed;
        sqlite3_bind_int64(st, 1, j->gen);
        sqlite3_bind_int64(st, 2, j->seal.t0);
        sqlite3_bind_int64(st, 3, j->seal.t1);
        sqlite3_bind_int64(st, 4, j->seal.points);
        sqlite3_bind_int64(st, 5, (int64_t)j->seal.filter.rows);
        enum xt_code code = conn_run(c, st, "samples", err);
        if (code != XT_OK)
            return code;
    }
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_SET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, STR_LIT("next_gen"));
    sqlite3_bind_int64(st, 2, j->gen + 1);
    return conn_run(c, st, "samples", err);
}

/* Removes rows of the log that are sealed: some, at most about a slice. */
static enum xt_code store_purge(struct seal_job *j, bool *ret_end, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    int64_t below = samples_part_key(2 * j->gen + 1), last = -1, bytes = 0;
    sqlite3_stmt *st = conn_stmt(c, SQL_MLOG_SIZES, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, below);
    sqlite3_bind_int(st, 2, PURGE_ROWS);
    int rc = SQLITE_DONE, n = 0;
    while (bytes < (int64_t)(2 * SLICE_BYTES) && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        last = sqlite3_column_int64(st, 0);
        bytes += sqlite3_column_int64(st, 1);
        n++;
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "samples", err);
    *ret_end = rc == SQLITE_DONE && n < PURGE_ROWS;
    return last > 0 ? run_2(c, SQL_MLOG_CUT, 1, last, err) : XT_OK;
}

/* ---- steps ---- */

/* After the commit of the last step: readers see the generation, and the carried part in the place of the frozen ones. */
static enum xt_code publish(struct seal_job *j, struct samples_version *v) {
    struct sample_state *s = j->e->samples;
    struct hot *hot = samples_hot(s->now);
    if (j->seal.carried) {
        hot_part_ref(j->seal.carried);
        samples_version_add(v, j->seal.carried, 2 * j->gen + 1);
    }
    hot_part_ref(hot);
    samples_version_add(v, hot, 2 * j->gen + 2);
    samples_version_set(j->e, v);
    s->ndamaged = 0;
    s->sealing = false;
    return XT_OK;
}

/* One transaction. */
static enum xt_code store_slice(struct seal_job *j, struct xt_err *err) {
    struct conn *c = &j->e->writer;
    struct samples_version *v = NULL;
    size_t at = j->at;
    struct hot_count carried = j->carried;
    int64_t row = j->row;
    bool end = false;
    enum stage stage = j->stage;
    if (stage == STAGE_COMMIT && !(v = samples_version_new(j->gen + 1)))
        return xt_fail(err, XT_ENOMEM, "out of memory");
    enum xt_code code = conn_begin(c, true, err);
    if (code == XT_OK) {
        switch (stage) {
        case STAGE_MAKE: break;
        case STAGE_CLEAN: code = store_clean(j, err), end = true; break;
        case STAGE_PACKS: code = store_packs(j, &at, err), end = at == j->npacks; break;
        case STAGE_DIRS: code = store_dirs(j, &at, err), end = at == j->seal.ndirs; break;
        case STAGE_FILTER: code = store_filter(j, &at, err), end = at == j->seal.filter.rows; break;
        case STAGE_CARRY: code = store_carried(j, &carried, &row, &end, err); break;
        case STAGE_COMMIT: code = store_commit(j, err), end = true; break;
        case STAGE_PURGE: code = store_purge(j, &end, err); break;
        }
    }
    if (code == XT_OK)
        code = conn_commit(c, err);
    else
        conn_rollback(c);
    if (code != XT_OK) {
        j->e->samples->suspect = true;
        samples_version_unref(v);
        return code;
    }
    if (stage == STAGE_COMMIT)
        publish(j, v);
    j->at = end ? 0 : at;
    j->carried = carried;
    j->row = row;
    if (end)
        j->stage = stage + 1;
    return XT_OK;
}

static bool nothing_to_do(const struct seal_job *j) {
    switch (j->stage) {
    case STAGE_PACKS: return j->npacks == 0;
    case STAGE_DIRS: return j->seal.ndirs == 0;
    case STAGE_FILTER: return j->seal.filter.rows == 0;
    case STAGE_CARRY: return !j->seal.carried;
    case STAGE_MAKE:
    case STAGE_CLEAN:
    case STAGE_COMMIT:
    case STAGE_PURGE: break;
    }
    return false;
}

bool samples_seal_making(const struct sqlite_store *e) {
    struct seal_job *j = e->samples->job;
    return j && j->stage == STAGE_MAKE && !job_wait(j, 0);
}

enum xt_code samples_seal_step(struct sqlite_store *e, int64_t wait_ns, struct xt_err *err) {
    struct sample_state *s = e->samples;
    struct seal_job *j = s->job;
    if (!j)
        return XT_OK;
    if (j->stage == STAGE_MAKE) {
        if (!job_wait(j, wait_ns))
            return XT_OK;
        job_join(j);
        if (j->code != XT_OK) {
            enum xt_code code = j->code;
            *err = j->err;
            samples_seal_drop(e);
            s->retry_at = clock_mono_ns() + SAMPLE_RETRY;
            return code;
        }
        j->stage = STAGE_CLEAN;
    }
    while (nothing_to_do(j))
        j->stage++;
    enum xt_code code = store_slice(j, err);
    if (code == XT_OK && j->stage > STAGE_PURGE)
        samples_seal_drop(e);
    return code;
}

enum xt_code samples_seal_finish(struct sqlite_store *e, struct xt_err *err) {
    struct sample_state *s = e->samples;
    enum xt_code code = s->job || !samples_frozen(e) ? XT_OK : samples_seal_start(e, TIME_MIN, false, err);
    while (code == XT_OK && s->job)
        code = samples_seal_step(e, NS_PER_SEC, err);
    return code;
}
