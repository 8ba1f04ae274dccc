/* samples.c -- samples on their way in: the log and the hot part; and reading the log at the start. See samples.h.
 *
 *  1. A group's points go into the hot part unseen, then as one row into the log in the group's transaction; they are
 *     published after its COMMIT, and taken back when it fails.
 *  2. A COMMIT that failed may yet have reached the file. Before the next group the log is compared with what is in
 *     memory, and what it has more is published.
 *  3. A row that can't be read is no reason to refuse service: it is passed over, kept aside and reported by check. */
#include "store/sqlite/samples.h"

#include <stdlib.h>

#define ROW_KEEP_BYTES ((size_t)1 << 20)

/* ---- versions ---- */

struct samples_version *samples_version_new(int64_t next_gen) {
    struct samples_version *v = alloc_should_fail() ? NULL : calloc(1, sizeof *v);
    if (!v)
        return NULL;
    atomic_init(&v->refs, 1);
    v->next_gen = next_gen;
    return v;
}

void samples_version_add(struct samples_version *v, struct hot *part, int64_t number) {
    v->numbers[v->n] = number;
    v->parts[v->n++] = part;
}

void samples_version_unref(struct samples_version *v) {
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < v->n; i++)
        hot_part_unref(v->parts[i]);
    free(v);
}

void samples_version_set(struct sqlite_store *e, struct samples_version *v) {
    struct sample_state *s = e->samples;
    pthread_mutex_lock(&s->mu);
    struct samples_version *old = s->now;
    s->now = v;
    pthread_mutex_unlock(&s->mu);
    samples_version_unref(old);
}

/* ---- life ---- */

enum xt_code samples_open(struct sqlite_store *e, struct xt_err *err) {
    struct sample_state *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (!s)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    pthread_mutex_init(&s->mu, NULL);
    buf_init(&s->text, SIZE_MAX / 2);
    e->samples = s;
    return XT_OK;
}

void samples_close(struct sqlite_store *e) {
    struct sample_state *s = e->samples;
    if (!s)
        return;
    samples_seal_drop(e);
    samples_version_unref(s->now);
    buf_done(&s->text);
    pthread_mutex_destroy(&s->mu);
    free(s);
    e->samples = NULL;
}

/* ---- reading the log ---- */

static enum xt_code next_gen_get(struct conn *c, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, STR_LIT("next_gen"));
    int rc = sqlite3_step(st);
    int64_t next = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "generation of samples", err);
    if (next < 1 || next > SAMPLE_GEN_MAX)
        return xt_fail(err, XT_EUNAVAILABLE, "the store's counter next_gen is missing or damaged");
    *ret = next;
    return XT_OK;
}

/* The part of the version with this number, made when it is the next one. NULL: no memory, or no part may be there. */
static struct hot *part_of(struct samples_version *v, int64_t number) {
    int64_t carried = 2 * v->next_gen - 1;
    if (v->n > 0 && v->numbers[v->n - 1] == number)
        return v->parts[v->n - 1];
    bool fits = number == carried || number == carried + 1 || number == carried + 3;
    struct hot *h = fits && v->n < SAMPLE_PARTS ? hot_part_new() : NULL;
    if (h)
        samples_version_add(v, h, number);
    return h;
}

static void note_damaged(struct samples_log *r, int64_t key) {
    if (r->ndamaged < sizeof r->damaged / sizeof *r->damaged)
        r->damaged[r->ndamaged] = key;
    r->ndamaged++;
}

/* One row of the log into its part. What can't be read is noted and passed over. */
static enum xt_code replay_row(struct samples_log *r, sqlite3_stmt *st, struct xt_err *err) {
    int64_t key = sqlite3_column_int64(st, 0), number = key >> SAMPLE_ROW_BITS;
    int64_t carried = 2 * r->v->next_gen - 1;
    if (number != carried && number != carried + 1 && number != carried + 3)
        return XT_OK; /* of a generation that is sealed already, or that was never finished */
    struct hot *h = part_of(r->v, number);
    if (!h)
        return xt_fail(err, XT_ENOMEM, "out of memory");
    enum xt_code code = sample_log_replay(h, col_blob(st, 1), &r->lost, err);
    if (code == XT_ESTORE) {
        note_damaged(r, key);
        code = XT_OK;
    }
    r->last = key;
    return code;
}

static enum xt_code replay_from(struct samples_log *r, struct conn *c, int64_t after, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_MLOG_FROM, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, after);
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        code = replay_row(r, st, err);
    sqlite3_reset(st);
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(c, rc, "log of samples", err);
    return code;
}

/* The hot part is there, whatever the log had. */
static bool complete(struct samples_version *v) {
    int64_t hot = 2 * v->next_gen, last = v->n ? v->numbers[v->n - 1] : 0;
    if (last == hot || last == hot + 2)
        return true;
    struct hot *h = hot_part_new();
    if (h)
        samples_version_add(v, h, hot);
    return h != NULL;
}

enum xt_code samples_log_read(struct conn *c, struct samples_log *r, struct xt_err *err) {
    int64_t next = 0;
    *r = (struct samples_log){ .v = NULL };
    enum xt_code code = next_gen_get(c, &next, err);
    if (code == XT_OK && !(r->v = samples_version_new(next)))
        code = xt_fail(err, XT_ENOMEM, "out of memory");
    if (code == XT_OK)
        code = replay_from(r, c, samples_part_key(2 * next - 1) - 1, err);
    if (code == XT_OK && !complete(r->v))
        code = xt_fail(err, XT_ENOMEM, "out of memory");
    if (code == XT_OK)
        return XT_OK;
    samples_version_unref(r->v);
    r->v = NULL;
    return code;
}

/* Into a new version; s->mu is held, or the caller is the writer and has one. */
static enum xt_code load(struct sqlite_store *e, struct conn *c, struct samples_version **ret, struct xt_err *err) {
    struct sample_state *s = e->samples;
    struct samples_log r;
    bool open = !sqlite3_get_autocommit(c->db);
    enum xt_code code = open ? XT_OK : conn_begin(c, false, err);
    if (code == XT_OK)
        code = samples_log_read(c, &r, err);
    if (!open)
        conn_rollback(c);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < r.v->n; i++)
        hot_publish_points(r.v->parts[i]);
    int64_t first = samples_part_key(r.v->numbers[r.v->n - 1]);
    s->row = r.last > first ? r.last : first;
    memcpy(s->damaged, r.damaged, sizeof s->damaged);
    s->ndamaged = r.ndamaged < SAMPLE_ASIDE ? r.ndamaged : SAMPLE_ASIDE;
    *ret = r.v;
    return XT_OK;
}

struct samples_version *samples_version_get(struct sqlite_store *e, struct conn *c, struct xt_err *err) {
    struct sample_state *s = e->samples;
    pthread_mutex_lock(&s->mu);
    enum xt_code code = s->now ? XT_OK : load(e, c, &s->now, err);
    struct samples_version *v = code == XT_OK ? s->now : NULL;
    if (v)
        atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&s->mu);
    return v;
}

/* After a failure: rows that are in the log and not in memory. A seal that was committed all the same changes so much
 * that everything is read anew. */
static enum xt_code resync(struct sqlite_store *e, struct xt_err *err) {
    struct sample_state *s = e->samples;
    int64_t next = 0;
    enum xt_code code = next_gen_get(&e->writer, &next, err);
    if (code != XT_OK)
        return code;
    if (next != s->now->next_gen) {
        struct samples_version *v = NULL;
        samples_seal_drop(e);
        code = load(e, &e->writer, &v, err);
        if (code == XT_OK)
            samples_version_set(e, v);
        s->sealing = s->sealing && code != XT_OK;
    } else {
        struct samples_log r = { .v = s->now, .last = s->row };
        struct hot_mark mark;
        hot_mark(samples_hot(s->now), &mark);
        code = replay_from(&r, &e->writer, s->row, err);
        if (code == XT_OK) {
            hot_publish_points(samples_hot(s->now));
            s->row = r.last;
            for (size_t i = 0; i < r.ndamaged && i < SAMPLE_ASIDE && s->ndamaged < SAMPLE_ASIDE; i++)
                s->damaged[s->ndamaged++] = r.damaged[i];
        } else {
            hot_cut(samples_hot(s->now), &mark); /* the next try reads the rows once more */
        }
    }
    s->suspect = code != XT_OK;
    return code;
}

enum xt_code samples_start(struct sqlite_store *e, struct xt_err *err) {
    struct samples_version *v = samples_version_get(e, &e->writer, err);
    samples_version_unref(v);
    /* A log that the file does not give away is no reason to refuse traces: who asks for samples will hear of it. */
    return v || err->code != XT_ENOMEM ? XT_OK : XT_ENOMEM;
}

enum xt_code samples_loaded(struct sqlite_store *e, struct xt_err *err) {
    struct samples_version *v = samples_version_get(e, &e->writer, err);
    if (!v)
        return err->code;
    samples_version_unref(v); /* the present one: only the writer changes it */
    return e->samples->suspect ? resync(e, err) : XT_OK;
}

/* ---- writing ---- */

enum xt_code samples_ready(struct sqlite_store *e, struct xt_err *err) {
    struct sample_state *s = e->samples;
    enum xt_code code = samples_loaded(e, err);
    if (code != XT_OK || !hot_full(samples_hot(s->now)))
        return code;
    code = samples_seal_finish(e, err); /* the part before */
    if (code == XT_OK)
        code = samples_seal_start(e, TIME_MIN, false, err);
    /* Never the data's own fault. */
    return code == XT_OK || code == XT_ENOMEM ? code : xt_fail(err, XT_EUNAVAILABLE, "samples can't be sealed");
}

enum xt_code samples_add(struct sqlite_store *e, const struct batch_part *part, struct xt_err *err) {
    struct sample_state *s = e->samples;
    struct hot *h = samples_hot(s->now);
    if (!s->open) {
        hot_mark(h, &s->mark);
        s->open = true;
    }
    enum xt_code code = XT_OK;
    for (size_t i = part->sample_from; code == XT_OK && i < part->sample_to; i++)
        code = hot_add(h, part->b->project, &part->b->samples[i], err);
    return code;
}

enum xt_code samples_log(struct sqlite_store *e, struct xt_err *err) {
    struct sample_state *s = e->samples;
    if (!s->open)
        return XT_OK;
    buf_clear(&s->text);
    if (!sample_log_encode(samples_hot(s->now), &s->mark, &s->text))
        return xt_fail(err, XT_ENOMEM, "out of memory");
    sqlite3_stmt *st = conn_stmt(&e->writer, SQL_MLOG_ADD, err);
    if (!st)
        return e->writer.failed;
    sqlite3_bind_int64(st, 1, s->row + 1);
    bind_blob(st, 2, buf_str(&s->text));
    return conn_run(&e->writer, st, "samples", err);
}

void samples_end(struct sqlite_store *e, bool committed) {
    struct sample_state *s = e->samples;
    if (!s->now) /* then nothing was added either */
        return;
    if (!committed)
        s->suspect = true;
    if (!s->open)
        return;
    struct hot *h = samples_hot(s->now);
    if (committed) {
        s->row++;
        hot_publish_points(h);
    } else {
        hot_cut(h, &s->mark);
    }
    s->open = false;
    if (s->text.cap > ROW_KEEP_BYTES) {
        buf_done(&s->text);
        buf_init(&s->text, SIZE_MAX / 2);
    }
}

static bool tidy_due(const struct sqlite_store *e) {
    const struct sample_state *s = e->samples;
    return s->now && (s->suspect || s->job || samples_frozen(e) || hot_full(samples_hot(s->now)));
}

int64_t samples_tidy(struct sqlite_store *e) {
    struct sample_state *s = e->samples;
    struct xt_err err;
    if (!tidy_due(e))
        return TIDY_NOTHING;
    if (clock_mono_ns() < s->retry_at)
        return s->retry_at;
    enum xt_code code = samples_loaded(e, &err);
    if (code == XT_OK && s->job)
        code = samples_seal_step(e, 0, &err);
    else if (code == XT_OK && tidy_due(e))
        code = samples_seal_start(e, TIME_MIN, false, &err);
    if (code != XT_OK) { /* loses nothing: the log has the points */
        s->retry_at = clock_mono_ns() + SAMPLE_RETRY;
        return s->retry_at;
    }
    if (samples_seal_making(e))
        return clock_mono_ns() + TIDY_POLL;
    return tidy_due(e) ? clock_mono_ns() : TIDY_NOTHING;
}

void samples_stop(struct sqlite_store *e) {
    struct sample_state *s = e->samples;
    struct xt_err err;
    if (!s->now || samples_loaded(e, &err) != XT_OK)
        return;
    enum xt_code code = samples_seal_finish(e, &err);
    const struct hot *h = samples_hot(s->now);
    if (code == XT_OK &&
        (h->n.points >= SAMPLE_HOT_POINTS / 4 || h->n.sets >= SAMPLE_HOT_SETS / 4 || h->text >= SAMPLE_HOT_TEXT / 4) &&
        samples_seal_start(e, TIME_MIN, false, &err) == XT_OK)
        samples_seal_finish(e, &err);
}
