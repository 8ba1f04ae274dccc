/* rollup.c -- what a transaction adds to the rollups: one statement a table that adds in place, all in one round trip.
 *
 *  1. Rows are added to in order of their keys, tables in one order: servers that wait for each other's rows wait in one
 *     direction. The locks last until COMMIT, so nothing else comes between.
 *  2. Sums are NUMERIC and exact; a row whose count reaches zero is removed by the transaction that brought it there, which
 *     holds it.
 *  3. `h` stands for the texts of a key, which may be of any length: the first 16 bytes of the SHA-256 over them, each
 *     behind its length as eight bytes, low first. */
#include "base/sha.h"
#include "store/postgres/write.h"

#define SQL_TRACES                                                                                               \
    "INSERT INTO xtrace.rollup_trace AS r (project, level, start, h, name, label, env, n, nobs, cost)"           \
    " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"                                             \
    " AS k(project, level, start, h, name, label, env, n, nobs, cost) ORDER BY project, level, start, h"         \
    " ON CONFLICT (project, level, start, h) DO UPDATE SET n = r.n + excluded.n, nobs = r.nobs + excluded.nobs," \
    " cost = r.cost + excluded.cost"
#define SQL_MODELS                                                                                     \
    "INSERT INTO xtrace.rollup_model AS r"                                                             \
    " (project, level, start, h, name, label, env, model, n, ntrace, tin, tout, ttotal, cost)"         \
    " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"               \
    " AS k(project, level, start, h, name, label, env, model, n, ntrace, tin, tout, ttotal, cost)"     \
    " ORDER BY project, level, start, h"                                                               \
    " ON CONFLICT (project, level, start, h) DO UPDATE SET n = r.n + excluded.n,"                      \
    " ntrace = r.ntrace + excluded.ntrace, tin = r.tin + excluded.tin, tout = r.tout + excluded.tout," \
    " ttotal = r.ttotal + excluded.ttotal, cost = r.cost + excluded.cost"
#define SQL_COUNTS                                                                                      \
    "INSERT INTO xtrace.rollup_count AS r (project, span, start, n)"                                    \
    " SELECT * FROM unnest($1, $2, $3, $4) AS k(project, span, start, n) ORDER BY project, span, start" \
    " ON CONFLICT (project, span, start) DO UPDATE SET n = r.n + excluded.n"
#define SQL_CLEAN(table)                                                                         \
    "DELETE FROM xtrace." table " r USING unnest($1, $2, $3, $4) AS k(project, level, start, h)" \
    " WHERE r.project = k.project AND r.level = k.level AND r.start = k.start AND r.h = k.h AND r.n = 0"
#define SQL_CLEAN_COUNTS                                                                    \
    "DELETE FROM xtrace.rollup_count r USING unnest($1, $2, $3) AS k(project, span, start)" \
    " WHERE r.project = k.project AND r.span = k.span AND r.start = k.start AND r.n = 0"

#define HASH_BYTES 16

/* The rows of one table that change. */
struct deltas {
    const struct rollup_delta **v;
    uint8_t (*h)[HASH_BYTES];
    size_t n;
};

static bool hash_key(struct buf *scratch, const struct rollup_delta *d, uint8_t out[HASH_BYTES]) {
    const struct str parts[4] = { d->name, d->label, d->env, d->model };
    uint8_t whole[SHA256_BYTES];
    buf_clear(scratch);
    for (int i = 0; i < (str_has(d->model) ? 4 : 3); i++) {
        char length[8];
        uint64_t n = parts[i].n;
        for (int k = 0; k < 8; k++, n >>= 8)
            length[k] = (char)(n & 0xff);
        buf_add(scratch, length, sizeof length);
        buf_add_str(scratch, parts[i]);
    }
    if (scratch->failed || !sha256(buf_str(scratch), whole))
        return false;
    memcpy(out, whole, HASH_BYTES);
    return true;
}

/* Rows of models or of traces. */
static bool list_deltas(struct rollup_fold *f, bool models, struct buf *scratch, struct deltas *ret) {
    size_t n = 0;
    for (const struct rollup_delta *d = f->first; d; d = d->next)
        n += str_has(d->model) == models && !rollup_is_nothing(d);
    ret->n = 0;
    ret->v = arena_new(f->arena, const struct rollup_delta *, n);
    ret->h = arena_alloc(f->arena, n, HASH_BYTES, 1);
    if (!ret->v || !ret->h)
        return false;
    for (const struct rollup_delta *d = f->first; d; d = d->next)
        if (str_has(d->model) == models && !rollup_is_nothing(d)) {
            if (!hash_key(scratch, d, ret->h[ret->n]))
                return false;
            ret->v[ret->n++] = d;
        }
    return true;
}

static void arg_keys(struct pg_args *a, const struct deltas *d) {
    pg_args_clear(a);
    COLUMN(a, PG_INT8, d->n, pg_item_i64(a, d->v[i]->project));
    COLUMN(a, PG_INT2, d->n, pg_item_i16(a, (int16_t)d->v[i]->level));
    COLUMN(a, PG_INT8, d->n, pg_item_i64(a, d->v[i]->start));
    COLUMN(a, PG_BYTEA, d->n, pg_item_bytes(a, (struct str){ (const char *)d->h[i], HASH_BYTES }));
}

static void arg_texts(struct pg_args *a, const struct deltas *d) {
    COLUMN(a, PG_TEXT, d->n, pg_item_text(a, d->v[i]->name));
    COLUMN(a, PG_TEXT, d->n, pg_item_text(a, d->v[i]->label));
    COLUMN(a, PG_TEXT, d->n, pg_item_text(a, d->v[i]->env));
}

/* Does any of them take away, so that a row may reach zero? */
static bool takes(const struct deltas *d) {
    for (size_t i = 0; i < d->n; i++)
        if (d->v[i]->ntrace < 0 || d->v[i]->sums.n < 0)
            return true;
    return false;
}

static enum xt_code send_traces(struct pg_conn *c, struct pg_args *a, const struct deltas *d, struct xt_err *err) {
    arg_keys(a, d);
    arg_texts(a, d);
    COLUMN(a, PG_INT8, d->n, pg_item_i64(a, d->v[i]->ntrace));
    COLUMN(a, PG_INT8, d->n, pg_item_i64(a, d->v[i]->nobs));
    COLUMN(a, PG_NUMERIC, d->n, pg_item_num(a, d->v[i]->cost));
    return pg_send(c, SQL_TRACES, a, err);
}

static enum xt_code send_models(struct pg_conn *c, struct pg_args *a, const struct deltas *d, struct xt_err *err) {
    arg_keys(a, d);
    arg_texts(a, d);
    COLUMN(a, PG_TEXT, d->n, pg_item_text(a, d->v[i]->model));
    COLUMN(a, PG_INT8, d->n, pg_item_i64(a, d->v[i]->sums.n));
    COLUMN(a, PG_INT8, d->n, pg_item_i64(a, d->v[i]->ntrace));
    COLUMN(a, PG_NUMERIC, d->n, pg_item_num(a, d->v[i]->sums.in));
    COLUMN(a, PG_NUMERIC, d->n, pg_item_num(a, d->v[i]->sums.out));
    COLUMN(a, PG_NUMERIC, d->n, pg_item_num(a, d->v[i]->sums.total));
    COLUMN(a, PG_NUMERIC, d->n, pg_item_num(a, d->v[i]->sums.cost));
    return pg_send(c, SQL_MODELS, a, err);
}

static enum xt_code send_clean(struct pg_conn *c, struct pg_args *a, const char *sql, const struct deltas *d,
                               struct xt_err *err) {
    arg_keys(a, d);
    return pg_send(c, sql, a, err);
}

/* Counts of traces; *ret_sent statements went out. */
static enum xt_code send_counts(struct pg_conn *c, struct pg_args *a, struct rollup_fold *f, size_t *ret_sent,
                                struct xt_err *err) {
    const struct rollup_count **v;
    size_t n = 0, k = 0;
    bool taken = false;
    *ret_sent = 0;
    for (const struct rollup_count *p = f->counts; p; p = p->next)
        n += p->n != 0;
    v = arena_new(f->arena, const struct rollup_count *, n);
    if (!v)
        return no_memory(err);
    for (const struct rollup_count *p = f->counts; p; p = p->next)
        if (p->n != 0) {
            v[k++] = p;
            taken = taken || p->n < 0;
        }
    if (n == 0)
        return XT_OK;
    pg_args_clear(a);
    COLUMN(a, PG_INT8, n, pg_item_i64(a, v[i]->project));
    COLUMN(a, PG_INT4, n, pg_item_i32(a, (int32_t)(v[i]->span / NS_PER_SEC)));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, v[i]->start));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, v[i]->n));
    enum xt_code code = pg_send(c, SQL_COUNTS, a, err);
    *ret_sent = 1;
    if (code != XT_OK || !taken)
        return code;
    pg_args_clear(a);
    COLUMN(a, PG_INT8, n, pg_item_i64(a, v[i]->project));
    COLUMN(a, PG_INT4, n, pg_item_i32(a, (int32_t)(v[i]->span / NS_PER_SEC)));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, v[i]->start));
    *ret_sent = 2;
    return pg_send(c, SQL_CLEAN_COUNTS, a, err);
}

enum xt_code pg_rollups_add(struct pg_conn *c, struct pg_args *args, struct rollup_fold *f, struct xt_err *err) {
    struct deltas traces = { .n = 0 }, models = { .n = 0 };
    struct buf scratch;
    size_t sent = 0, counts = 0;
    buf_init(&scratch, SIZE_MAX / 2);
    bool ok = rollup_derive(f) && list_deltas(f, false, &scratch, &traces) && list_deltas(f, true, &scratch, &models);
    buf_done(&scratch);
    if (!ok)
        return no_memory(err);
    enum xt_code code = pg_pipe(c, err);
    if (code != XT_OK)
        return code;
    if (traces.n) {
        code = send_traces(c, args, &traces, err);
        sent++;
    }
    if (code == XT_OK && models.n) {
        code = send_models(c, args, &models, err);
        sent++;
    }
    if (code == XT_OK) {
        code = send_counts(c, args, f, &counts, err);
        sent += counts;
    }
    if (code == XT_OK && takes(&traces)) {
        code = send_clean(c, args, SQL_CLEAN("rollup_trace"), &traces, err);
        sent++;
    }
    if (code == XT_OK && takes(&models)) {
        code = send_clean(c, args, SQL_CLEAN("rollup_model"), &models, err);
        sent++;
    }
    if (code == XT_OK && sent)
        code = pg_flush(c, err);
    for (size_t i = 0; i < sent && code == XT_OK; i++)
        code = pg_answer(c, NULL, err);
    enum xt_code end = pg_drain(c, err);
    return code == XT_OK ? end : code;
}
