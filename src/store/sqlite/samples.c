/* samples.c -- samples as plain rows: metric, series (a label set), points. Writing and retention; the writer's thread.
 *
 *  1. A point has no identity: its number of arrival (seq) makes it a row. The next number is kept in memory, and
 *     written to `state` in the transaction that used it, so that none is used twice, whatever crashes.
 *  2. The cache knows numbers of metrics and series by their text. It may name rows of the open transaction, so it is
 *     forgotten after a rollback, and after retention removed a series or metric: the next point makes the row anew.
 *  3. The cache is bounded in entries and bytes; full, it starts over. A miss costs a look-up, never correctness.
 *  4. A hash finds candidates only: texts are compared, in the cache and in the table. */
#include "store/sqlite/engine.h"

#include <stdlib.h>

#define CACHE_ENTRIES 65536
#define CACHE_BYTES (24u << 20)
#define CACHE_TEXT_MAX 4096      /* longer texts are looked up each time */
#define LABELS_MAX (16u << 20)   /* bytes of one label set */
#define SCRATCH_MAX (256u << 20) /* the same as JSON: six bytes for a control character */
#define RETAIN_SERIES 2000       /* looked at in one slice */
#define RETAIN_POINTS 5000       /* removed in one slice */

/* A metric of a project, or a label set of a metric. */
struct known {
    struct known *next;
    int64_t owner, id, hash; /* hash covers kind, owner and text */
    struct str text;
};

struct sample_state {
    struct known **heads; /* CACHE_ENTRIES; chains */
    size_t count;
    struct arena cache, scratch;
    int64_t next;      /* seq of the next point; 0: not read yet */
    int64_t retain_at; /* where the next slice of retention goes on; 0: from the start */
};

/* ---- cache ---- */

/* Made on first use. NULL: no memory (err filled). */
static struct sample_state *state_get(struct sqlite_store *e, struct xt_err *err) {
    if (e->samples)
        return e->samples;
    struct sample_state *s = alloc_should_fail() ? NULL : calloc(1, sizeof *s);
    if (s)
        s->heads = alloc_should_fail() ? NULL : calloc(CACHE_ENTRIES, sizeof(struct known *));
    if (!s || !s->heads) {
        free(s);
        xt_fail(err, XT_ENOMEM, "out of memory");
        return NULL;
    }
    arena_init(&s->cache, CACHE_BYTES);
    arena_init(&s->scratch, SCRATCH_MAX);
    e->samples = s;
    return s;
}

static void cache_clear(struct sample_state *s) {
    if (s->count)
        memset(s->heads, 0, CACHE_ENTRIES * sizeof(struct known *));
    s->count = 0;
    arena_reset(&s->cache);
    s->cache.failed = false;
}

void samples_forget(struct sqlite_store *e) {
    if (!e->samples)
        return;
    cache_clear(e->samples);
    e->samples->next = 0;
}

void samples_free(struct sqlite_store *e) {
    struct sample_state *s = e->samples;
    if (!s)
        return;
    arena_done(&s->cache);
    arena_done(&s->scratch);
    free(s->heads);
    free(s);
    e->samples = NULL;
}

static struct known **head_of(const struct sample_state *s, int64_t hash) {
    return &s->heads[(uint64_t)hash % CACHE_ENTRIES];
}

static bool cache_get(const struct sample_state *s, int64_t owner, int64_t hash, struct str text, int64_t *ret) {
    for (const struct known *k = *head_of(s, hash); k; k = k->next) {
        if (k->hash == hash && k->owner == owner && str_eq(k->text, text)) {
            *ret = k->id;
            return true;
        }
    }
    return false;
}

static void cache_put(struct sample_state *s, int64_t owner, int64_t hash, struct str text, int64_t id) {
    if (text.n > CACHE_TEXT_MAX)
        return;
    if (s->count >= CACHE_ENTRIES)
        cache_clear(s);
    struct known *k = arena_new(&s->cache, struct known, 1);
    if (k)
        *k = (struct known){ .owner = owner, .id = id, .hash = hash, .text = arena_str(&s->cache, text) };
    if (!k || !str_has(k->text)) {
        cache_clear(s); /* full: the next ones find room */
        return;
    }
    struct known **head = head_of(s, hash);
    k->next = *head;
    *head = k;
    s->count++;
}

/* ---- finding or making rows ---- */

static enum xt_code metric_find(struct conn *c, int64_t project, struct str name, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_METRIC_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, project);
    bind_str(st, 2, name);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    if (rc == SQLITE_ROW)
        return XT_OK;
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "metric", err);
    if (!(st = conn_stmt(c, SQL_METRIC_ADD, err)))
        return c->failed;
    sqlite3_bind_int64(st, 1, project);
    bind_str(st, 2, name);
    enum xt_code code = conn_run(c, st, "metric", err);
    if (code == XT_OK)
        *ret = sqlite3_last_insert_rowid(c->db);
    return code;
}

static enum xt_code series_find(struct conn *c, int64_t metric, int64_t hash, struct str labels, int64_t *ret,
                                struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_SERIES_GET, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, metric);
    sqlite3_bind_int64(st, 2, hash);
    int rc;
    bool found = false;
    while (!found && (rc = sqlite3_step(st)) == SQLITE_ROW)
        if ((found = str_eq(col_str(st, 1), labels)))
            *ret = sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    if (found)
        return XT_OK;
    if (rc != SQLITE_DONE)
        return conn_fail(c, rc, "series", err);
    if (!(st = conn_stmt(c, SQL_SERIES_ADD, err)))
        return c->failed;
    sqlite3_bind_int64(st, 1, metric);
    sqlite3_bind_int64(st, 2, hash);
    bind_str(st, 3, labels);
    enum xt_code code = conn_run(c, st, "series", err);
    if (code == XT_OK)
        *ret = sqlite3_last_insert_rowid(c->db);
    return code;
}

static enum xt_code metric_of(struct sqlite_store *e, int64_t project, struct str name, int64_t *ret,
                              struct xt_err *err) {
    int64_t hash = key_hash(e, HASH_METRIC, project, name);
    if (cache_get(e->samples, project, hash, name, ret))
        return XT_OK;
    enum xt_code code = metric_find(&e->writer, project, name, ret, err);
    if (code == XT_OK)
        cache_put(e->samples, project, hash, name, *ret);
    return code;
}

static enum xt_code series_of(struct sqlite_store *e, int64_t metric, const struct sample *p, int64_t *ret,
                              struct xt_err *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < p->nlabels; i++)
        bytes += p->labels[i].name.n + p->labels[i].value.n;
    if (bytes > LABELS_MAX)
        return xt_fail(err, XT_EREFUSED, "labels: more than %u bytes", LABELS_MAX);
    arena_reset(&e->samples->scratch);
    struct str text = labels_json(&e->samples->scratch, p->labels, p->nlabels);
    if (!str_has(text))
        return xt_fail(err, XT_ENOMEM, "out of memory");
    int64_t hash = key_hash(e, HASH_SERIES, metric, text);
    if (cache_get(e->samples, metric, hash, text, ret))
        return XT_OK;
    enum xt_code code = series_find(&e->writer, metric, hash, text, ret, err);
    if (code == XT_OK)
        cache_put(e->samples, metric, hash, text, *ret);
    return code;
}

/* ---- writing ---- */

static enum xt_code counter_load(struct sqlite_store *e, struct xt_err *err) {
    struct conn *c = &e->writer;
    sqlite3_stmt *st = conn_stmt(c, SQL_STATE_GET, err);
    if (!st)
        return c->failed;
    bind_str(st, 1, STR_LIT("next_sample"));
    int rc = sqlite3_step(st);
    int64_t next = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "number of the next sample", err);
    if (next < 1)
        return xt_fail(err, XT_EUNAVAILABLE, "the store's counter next_sample is missing or damaged");
    e->samples->next = next;
    return XT_OK;
}

static enum xt_code counter_save(struct sqlite_store *e, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(&e->writer, SQL_STATE_SET, err);
    if (!st)
        return e->writer.failed;
    bind_str(st, 1, STR_LIT("next_sample"));
    sqlite3_bind_int64(st, 2, e->samples->next);
    return conn_run(&e->writer, st, "number of the next sample", err);
}

static enum xt_code point_add(struct sqlite_store *e, int64_t sid, const struct sample *p, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(&e->writer, SQL_SAMPLE_ADD, err);
    if (!st)
        return e->writer.failed;
    sqlite3_bind_int64(st, 1, sid);
    sqlite3_bind_int64(st, 2, p->timestamp);
    sqlite3_bind_int64(st, 3, e->samples->next++);
    bind_f64(st, 4, p->value);
    return conn_run(&e->writer, st, "sample", err);
}

enum xt_code samples_write(struct sqlite_store *e, const struct batch_part *part, struct xt_err *err) {
    if (part->sample_from >= part->sample_to)
        return XT_OK;
    struct sample_state *s = state_get(e, err);
    if (!s)
        return XT_ENOMEM;
    enum xt_code code = s->next == 0 ? counter_load(e, err) : XT_OK;
    struct str name = STR_NONE; /* neighbours mostly share their metric */
    int64_t metric = 0, sid = 0;
    for (size_t i = part->sample_from; code == XT_OK && i < part->sample_to; i++) {
        const struct sample *p = &part->b->samples[i];
        if (!str_has(name) || !str_eq(name, p->name)) {
            code = metric_of(e, part->b->project, p->name, &metric, err);
            name = p->name;
        }
        if (code == XT_OK)
            code = series_of(e, metric, p, &sid, err);
        if (code == XT_OK)
            code = point_add(e, sid, p, err);
    }
    return code == XT_OK ? counter_save(e, err) : code;
}

/* ---- retention ---- */

struct slice {
    struct sqlite_store *e;
    int64_t cutoff;
    int64_t points; /* that may still go */
    bool removed;   /* a series or metric went */
};

static enum xt_code run_3(struct conn *c, enum sql_id id, int64_t a, int64_t b, int64_t d, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, a);
    if (sqlite3_bind_parameter_count(st) > 1)
        sqlite3_bind_int64(st, 2, b);
    if (sqlite3_bind_parameter_count(st) > 2)
        sqlite3_bind_int64(st, 3, d);
    return conn_run(c, st, "retention", err);
}

/* Time of a series' oldest point, TIME_NONE when it has none. */
static enum xt_code oldest(struct conn *c, int64_t sid, int64_t *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_SAMPLE_ANY, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, sid);
    int rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : TIME_NONE;
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "retention", err);
}

/* Removes at most sl->points old points of one series; *ret_done: none is left. */
static enum xt_code cut_points(struct slice *sl, int64_t sid, bool *ret_done, struct xt_err *err) {
    struct conn *c = &sl->e->writer;
    sqlite3_stmt *st = conn_stmt(c, SQL_SAMPLE_NTH, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, sid);
    sqlite3_bind_int64(st, 2, sl->cutoff);
    sqlite3_bind_int64(st, 3, sl->points);
    int rc = sqlite3_step(st);
    bool more = rc == SQLITE_ROW;
    int64_t ts = more ? sqlite3_column_int64(st, 0) : 0, seq = more ? sqlite3_column_int64(st, 1) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "retention", err);
    enum xt_code code =
        more ? run_3(c, SQL_SAMPLE_CUT_TO, sid, ts, seq, err) : run_3(c, SQL_SAMPLE_CUT, sid, sl->cutoff, 0, err);
    sl->points -= sqlite3_changes(c->db);
    *ret_done = !more;
    return code;
}

/* One series; *ret_done false: the slice is full, this series comes first in the next one. */
static enum xt_code retain_series(struct slice *sl, int64_t sid, int64_t metric, bool *ret_done, struct xt_err *err) {
    struct conn *c = &sl->e->writer;
    int64_t first = 0;
    *ret_done = true;
    enum xt_code code = oldest(c, sid, &first, err);
    if (code == XT_OK && first != TIME_NONE && first < sl->cutoff) {
        code = cut_points(sl, sid, ret_done, err);
        if (code == XT_OK && *ret_done)
            code = oldest(c, sid, &first, err);
    }
    if (code != XT_OK || !*ret_done || first != TIME_NONE)
        return code;
    sl->removed = true;
    code = run_3(c, SQL_SERIES_DROP, sid, 0, 0, err);
    return code == XT_OK ? run_3(c, SQL_METRIC_DROP, metric, 0, 0, err) : code;
}

/* Numbers of the next series at or after `from`. */
static enum xt_code next_series(struct conn *c, int64_t from, int64_t *sids, int64_t *metrics, size_t *ret_n,
                                struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_SERIES_FROM, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, from);
    sqlite3_bind_int(st, 2, RETAIN_SERIES);
    size_t n = 0;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < RETAIN_SERIES) {
        sids[n] = sqlite3_column_int64(st, 0);
        metrics[n++] = sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    *ret_n = n;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "retention", err);
}

enum xt_code sqlite_retain_samples(struct sqlite_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    struct conn *c = &e->writer;
    struct sample_state *s = state_get(e, err);
    if (!s)
        return XT_ENOMEM;
    int64_t sids[RETAIN_SERIES], metrics[RETAIN_SERIES], at = s->retain_at;
    size_t n = 0, i = 0;
    struct slice sl = { e, cutoff, RETAIN_POINTS, false };
    enum xt_code code = conn_begin(c, true, err);
    if (code == XT_OK)
        code = next_series(c, at, sids, metrics, &n, err);
    bool done = true;
    for (; code == XT_OK && done && i < n; i++) {
        code = retain_series(&sl, sids[i], metrics[i], &done, err);
        at = done ? sids[i] + 1 : sids[i];
        done = done && sl.points > 0;
    }
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code != XT_OK) {
        conn_rollback(c);
        return code;
    }
    if (sl.removed)
        samples_forget(e);
    bool more = i < n || !done || n == RETAIN_SERIES;
    s->retain_at = more ? at : 0;
    *ret_more = more;
    return XT_OK;
}
