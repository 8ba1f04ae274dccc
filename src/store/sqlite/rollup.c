/* rollup.c -- see rollup.h. */
#include "store/sqlite/rollup.h"

/* ---- sums ---- */

static __int128 read_sum(sqlite3_stmt *st, int col) {
    return sum_join(sqlite3_column_int64(st, col), sqlite3_column_int64(st, col + 1));
}

static void bind_sum(sqlite3_stmt *st, int i, __int128 v) {
    int64_t hi, lo;
    sum_split(v, &hi, &lo);
    sqlite3_bind_int64(st, i, hi);
    sqlite3_bind_int64(st, i + 1, lo);
}

void model_sums_read(sqlite3_stmt *st, int col, struct model_sums *ret) {
    ret->in = read_sum(st, col);
    ret->out = read_sum(st, col + 2);
    ret->total = read_sum(st, col + 4);
    ret->cost = read_sum(st, col + 6);
}

void model_sums_bind(sqlite3_stmt *st, int i, const struct model_sums *m) {
    bind_sum(st, i, m->in);
    bind_sum(st, i + 2, m->out);
    bind_sum(st, i + 4, m->total);
    bind_sum(st, i + 6, m->cost);
}

/* ---- flushing ---- */

static void bind_key(sqlite3_stmt *st, const struct rollup_delta *d) {
    sqlite3_bind_int64(st, 1, d->project);
    sqlite3_bind_int64(st, 2, d->level);
    sqlite3_bind_int64(st, 3, d->start);
    bind_str(st, 4, d->name);
    bind_str(st, 5, d->label);
    bind_str(st, 6, d->env);
    if (str_has(d->model))
        bind_str(st, 7, d->model);
}

/* Steps a statement that reads at most one row; *ret_found says if there is one, the caller resets. */
static enum xt_code step_row(struct conn *c, sqlite3_stmt *st, bool *ret_found, struct xt_err *err) {
    int rc = sqlite3_step(st);
    *ret_found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return XT_OK;
    sqlite3_reset(st);
    return conn_fail(c, rc, "rollup", err);
}

static enum xt_code drop(struct conn *c, enum sql_id id, const struct rollup_delta *d, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, id, err);
    if (!st)
        return c->failed;
    bind_key(st, d);
    return conn_run(c, st, "rollup", err);
}

static void bind_count(sqlite3_stmt *st, const struct rollup_count *n) {
    sqlite3_bind_int64(st, 1, n->project);
    sqlite3_bind_int64(st, 2, n->span / NS_PER_SEC);
    sqlite3_bind_int64(st, 3, n->start);
}

static enum xt_code add_count(struct conn *c, const struct rollup_count *n, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_ROLLUP_COUNT_ADD, err);
    if (!st)
        return c->failed;
    bind_count(st, n);
    sqlite3_bind_int64(st, 4, n->n);
    enum xt_code code = conn_run(c, st, "rollup", err);
    if (code != XT_OK || n->n > 0)
        return code;
    st = conn_stmt(c, SQL_ROLLUP_COUNT_CLEAN, err);
    if (!st)
        return c->failed;
    bind_count(st, n);
    return conn_run(c, st, "rollup", err);
}

static enum xt_code add_trace(struct conn *c, const struct rollup_delta *d, struct xt_err *err) {
    int64_t n = d->ntrace, nobs = d->nobs;
    money cost = d->cost;
    bool found;
    sqlite3_stmt *st = conn_stmt(c, SQL_ROLLUP_TRACE_GET, err);
    if (!st)
        return c->failed;
    bind_key(st, d);
    enum xt_code code = step_row(c, st, &found, err);
    if (code != XT_OK)
        return code;
    if (found) {
        n += sqlite3_column_int64(st, 0);
        nobs += sqlite3_column_int64(st, 1);
        cost += read_sum(st, 2);
    }
    sqlite3_reset(st);
    if (n == 0)
        return found ? drop(c, SQL_ROLLUP_TRACE_DROP, d, err) : XT_OK;
    st = conn_stmt(c, SQL_ROLLUP_TRACE_SET, err);
    if (!st)
        return c->failed;
    bind_key(st, d);
    sqlite3_bind_int64(st, 7, n);
    sqlite3_bind_int64(st, 8, nobs);
    bind_sum(st, 9, cost);
    return conn_run(c, st, "rollup", err);
}

static enum xt_code add_model(struct conn *c, const struct rollup_delta *d, struct xt_err *err) {
    int64_t ntrace = d->ntrace;
    struct model_sums sums = d->sums, stored = { 0 };
    bool found;
    sqlite3_stmt *st = conn_stmt(c, SQL_ROLLUP_MODEL_GET, err);
    if (!st)
        return c->failed;
    bind_key(st, d);
    enum xt_code code = step_row(c, st, &found, err);
    if (code != XT_OK)
        return code;
    if (found) {
        stored.n = sqlite3_column_int64(st, 0);
        ntrace += sqlite3_column_int64(st, 1);
        model_sums_read(st, 2, &stored);
        model_sums_add(&sums, &stored, 1);
    }
    sqlite3_reset(st);
    if (sums.n == 0)
        return found ? drop(c, SQL_ROLLUP_MODEL_DROP, d, err) : XT_OK;
    st = conn_stmt(c, SQL_ROLLUP_MODEL_SET, err);
    if (!st)
        return c->failed;
    bind_key(st, d);
    sqlite3_bind_int64(st, 8, sums.n);
    sqlite3_bind_int64(st, 9, ntrace);
    model_sums_bind(st, 10, &sums);
    return conn_run(c, st, "rollup", err);
}

enum xt_code rollup_flush(struct rollup_fold *f, struct conn *c, struct xt_err *err) {
    enum xt_code code = rollup_derive(f) ? XT_OK : no_memory(err);
    for (const struct rollup_delta *d = f->first; d && code == XT_OK; d = d->next)
        if (!rollup_is_nothing(d))
            code = str_has(d->model) ? add_model(c, d, err) : add_trace(c, d, err);
    for (const struct rollup_count *n = f->counts; n && code == XT_OK; n = n->next)
        if (n->n != 0)
            code = add_count(c, n, err);
    return code;
}

/* ---- comparing ---- */

/* Does the row hold exactly the delta? */
static bool row_equals(sqlite3_stmt *st, const struct rollup_delta *d) {
    if (!str_has(d->model))
        return sqlite3_column_int64(st, 0) == d->ntrace && sqlite3_column_int64(st, 1) == d->nobs &&
               read_sum(st, 2) == d->cost;
    struct model_sums stored = { .n = sqlite3_column_int64(st, 0) };
    model_sums_read(st, 2, &stored);
    return sqlite3_column_int64(st, 1) == d->ntrace && model_sums_equal(&stored, &d->sums);
}

static enum xt_code compare_delta(struct conn *c, const struct rollup_delta *d, struct rollup_verdict *v,
                                  struct xt_err *err) {
    bool found, model = str_has(d->model);
    sqlite3_stmt *st = conn_stmt(c, model ? SQL_ROLLUP_MODEL_GET : SQL_ROLLUP_TRACE_GET, err);
    if (!st)
        return c->failed;
    bind_key(st, d);
    enum xt_code code = step_row(c, st, &found, err);
    if (code != XT_OK)
        return code;
    v->trace_rows += !model;
    v->model_rows += model;
    v->missing += !found;
    v->wrong += found && !row_equals(st, d);
    sqlite3_reset(st);
    return XT_OK;
}

static enum xt_code compare_one_count(struct conn *c, const struct rollup_count *n, struct rollup_verdict *v,
                                      struct xt_err *err) {
    bool found;
    sqlite3_stmt *st = conn_stmt(c, SQL_ROLLUP_COUNT_GET, err);
    if (!st)
        return c->failed;
    bind_count(st, n);
    enum xt_code code = step_row(c, st, &found, err);
    if (code != XT_OK)
        return code;
    v->count_rows++;
    v->missing += !found;
    v->wrong += found && sqlite3_column_int64(st, 0) != n->n;
    sqlite3_reset(st);
    return XT_OK;
}

enum xt_code rollup_compare(struct rollup_fold *f, struct conn *c, struct rollup_verdict *v, struct xt_err *err) {
    enum xt_code code = rollup_derive(f) ? XT_OK : no_memory(err);
    for (const struct rollup_delta *d = f->first; d && code == XT_OK; d = d->next)
        code = compare_delta(c, d, v, err);
    for (const struct rollup_count *n = f->counts; n && code == XT_OK; n = n->next)
        code = compare_one_count(c, n, v, err);
    return code;
}
