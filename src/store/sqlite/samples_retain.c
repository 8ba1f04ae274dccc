/* samples_retain.c -- removing samples that are too old. The writer's thread; one bounded step a call.
 *
 *  1. First the parts in memory: when they hold old points, they are frozen and carried over (or sealed) without them.
 *  2. Then, in one statement, every generation gets its `cut`: points before it are gone for readers from then on, also in
 *     a generation that stays. Their parts, and generations without any others, are removed step by step afterwards, so
 *     that one point of an absurd time keeps its own part and nothing else.
 *  3. Then the names that no generation has any more. */
#include "store/sqlite/samples.h"

#define STEP_PARTS 16
#define STEP_NAMES 5000
#define STEP_WAIT_NS (10 * NS_PER_MS) /* for packs that are being made */

static enum xt_code run_3(struct conn *c, enum sql_id id, int64_t a, int64_t b, int64_t d, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    const int64_t values[] = { a, b, d };
    for (int i = 0; i < 3 && i < sqlite3_bind_parameter_count(st); i++)
        sqlite3_bind_int64(st, i + 1, values[i]);
    return conn_run(c, st, "retention", err);
}

/* ---- generations ---- */

struct old_gen {
    int64_t gen, t1, cut; /* gen 0: none is left */
};

static enum xt_code next_gen(struct conn *c, struct old_gen *ret, struct xt_err *err) {
    *ret = (struct old_gen){ 0, 0, 0 };
    sqlite3_stmt *st = conn_stmt(c, SQL_MGEN_SWEEP, err);
    if (!st)
        return c->failed;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret =
            (struct old_gen){ sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2) };
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "retention", err);
}

/* Removes some parts without younger points; *ret_n: how many. */
static enum xt_code drop_parts(struct conn *c, const struct old_gen *g, size_t *ret_n, struct xt_err *err) {
    int64_t keys[STEP_PARTS] = { 0 }, points[STEP_PARTS] = { 0 };
    sqlite3_stmt *st = conn_stmt(c, SQL_MPACK_OLD, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, g->gen << SAMPLE_PACK_BITS);
    sqlite3_bind_int64(st, 2, (g->gen + 1) << SAMPLE_PACK_BITS);
    sqlite3_bind_int64(st, 3, g->cut);
    sqlite3_bind_int(st, 4, STEP_PARTS);
    size_t n = 0;
    int rc = SQLITE_DONE;
    while (n < STEP_PARTS && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        keys[n] = sqlite3_column_int64(st, 0);
        points[n++] = sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "retention", err);
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < n && code == XT_OK; i++) {
        code = run_3(c, SQL_MPACK_CUT, keys[i], keys[i], 0, err);
        if (code == XT_OK)
            code = run_3(c, SQL_MDIR_LESS, g->gen, keys[i] - (g->gen << SAMPLE_PACK_BITS), points[i], err);
    }
    *ret_n = n;
    return code;
}

/* A bounded part of one generation. */
static enum xt_code sweep(struct conn *c, const struct old_gen *g, struct xt_err *err) {
    size_t n = 0; /* parts removed */
    enum xt_code code = drop_parts(c, g, &n, err);
    if (code != XT_OK || n == STEP_PARTS)
        return code;
    code = run_3(c, SQL_MDIR_OLD, g->gen, g->cut, 0, err);
    if (code == XT_OK && g->t1 >= g->cut)
        return run_3(c, SQL_MGEN_SWEPT, g->gen, g->cut, 0, err);
    if (code == XT_OK)
        code = run_3(c, SQL_MFILTER_CUT, g->gen << SAMPLE_PACK_BITS, ((g->gen + 1) << SAMPLE_PACK_BITS) - 1, 0, err);
    return code == XT_OK ? run_3(c, SQL_MGEN_DROP, g->gen, 0, 0, err) : code;
}

/* ---- names ---- */

/* Looks at some names; *ret_at: where the next step goes on, 0 at the end. */
static enum xt_code drop_names(struct conn *c, int64_t after, int64_t *ret_at, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_MNAME_NTH, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, after);
    sqlite3_bind_int(st, 2, STEP_NAMES);
    int rc = sqlite3_step(st);
    *ret_at = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return conn_fail(c, rc, "retention", err);
    return run_3(c, SQL_MNAME_DROP, after, *ret_at ? *ret_at : INT64_MAX, 0, err);
}

/* ---- all ---- */

static enum xt_code step(struct conn *c, int64_t cutoff, int64_t *name, bool *ret_more, struct xt_err *err) {
    struct old_gen g;
    enum xt_code code = run_3(c, SQL_MGEN_AGE, cutoff, 0, 0, err);
    if (code == XT_OK)
        code = next_gen(c, &g, err);
    if (code != XT_OK)
        return code;
    *ret_more = true;
    if (g.gen != 0)
        return sweep(c, &g, err);
    code = drop_names(c, *name, name, err);
    *ret_more = *name != 0;
    return code;
}

/* Sees to the parts in memory; *ret_busy: come again. */
static enum xt_code parts(struct sqlite_store *e, int64_t cutoff, bool *ret_busy, struct xt_err *err) {
    struct sample_state *s = e->samples;
    *ret_busy = s->job != NULL || samples_frozen(e);
    if (s->job)
        return samples_seal_step(e, STEP_WAIT_NS, err);
    bool old = false, full = false;
    for (size_t i = 0; i < s->now->n; i++) {
        old = old || s->now->parts[i]->t0 < cutoff;
        full = full || hot_full(s->now->parts[i]);
    }
    bool seen = s->retaining && s->retain_cutoff == cutoff; /* what came since is for the next round */
    if (!*ret_busy && (!old || seen))
        return XT_OK;
    s->retaining = true;
    s->retain_cutoff = cutoff;
    *ret_busy = true;
    return samples_seal_start(e, cutoff, !full, err);
}

enum xt_code sqlite_retain_samples(struct sqlite_store *e, int64_t cutoff, bool *ret_more, struct xt_err *err) {
    struct sample_state *s = e->samples;
    struct conn *c = &e->writer;
    bool busy = false, more = false;
    enum xt_code code = samples_loaded(e, err);
    if (code == XT_OK)
        code = parts(e, cutoff, &busy, err);
    if (code != XT_OK || busy) {
        *ret_more = code == XT_OK;
        return code;
    }
    int64_t name = s->retain_name;
    code = conn_begin(c, true, err);
    if (code == XT_OK)
        code = step(c, cutoff, &name, &more, err);
    if (code == XT_OK)
        code = conn_commit(c, err);
    if (code != XT_OK) {
        conn_rollback(c);
        s->suspect = true;
        return code;
    }
    s->retain_name = name;
    s->retaining = s->retaining && more;
    *ret_more = more;
    return XT_OK;
}
