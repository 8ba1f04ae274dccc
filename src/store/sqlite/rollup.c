/* rollup.c -- see rollup.h. */
#include "store/sqlite/rollup.h"

#include <string.h>

/* Project, hour, four lengths, the mark before a name. */
#define KEY_FIXED_BYTES (2 * sizeof(int64_t) + 4 * sizeof(uint64_t) + 1)

/* What is to be added to one row. */
struct rollup_delta {
    struct rollup_delta *next;
    int64_t project, hour;
    struct str label, env, name; /* name in its stored form */
    struct str model;            /* absent: a row of rollup_trace */
    int64_t ntrace, nobs;        /* nobs: rollup_trace only */
    money cost;                  /* rollup_trace only */
    struct model_sums sums;      /* rollup_model only */
};

/* ---- sums ---- */

void model_sums_add(struct model_sums *to, const struct model_sums *more, int sign) {
    to->n += sign * more->n;
    to->in += sign * more->in;
    to->out += sign * more->out;
    to->total += sign * more->total;
    to->cost += sign * more->cost;
}

bool model_sums_equal(const struct model_sums *a, const struct model_sums *b) {
    return a->n == b->n && a->in == b->in && a->out == b->out && a->total == b->total && a->cost == b->cost;
}

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

struct str rollup_text(struct arena *a, struct str text) {
    if (!str_has(text))
        return STR_LIT("");
    char *p = arena_bytes(a, text.n + 1);
    if (!p)
        return STR_NONE;
    p[0] = '=';
    if (text.n > 0)
        memcpy(p + 1, text.p, text.n);
    return (struct str){ p, text.n + 1 };
}

/* ---- folding ---- */

void rollup_init(struct rollup_fold *f, struct arena *a) {
    *f = (struct rollup_fold){ .arena = a };
    map_init(&f->map, a);
}

/* A key is all its parts in one string: project, hour, then each text with its length in front (0 for an absent one, else
 * 1 more than it has). The texts of a delta are slices of its key. */
static char *put_bytes(char *at, const void *p, size_t n) {
    if (n > 0)
        memcpy(at, p, n);
    return at + n;
}

/* `mark`: a byte before the text, or 0. */
static char *put_part(char *at, struct str s, char mark) {
    size_t more = mark != 0;
    uint64_t n = str_has(s) ? s.n + more + 1 : 0;
    at = put_bytes(at, &n, sizeof n);
    return put_bytes(put_bytes(at, &mark, more), s.p, s.n);
}

static const char *take_part(const char *at, struct str *ret) {
    uint64_t n;
    memcpy(&n, at, sizeof n);
    *ret = n > 0 ? (struct str){ at + sizeof n, (size_t)n - 1 } : STR_NONE;
    return at + sizeof n + ret->n;
}

/* The key of the trace's share of a model (absent: its own share), in `room` when it fits. Absent: no memory. */
static struct str delta_key(struct arena *a, const struct trace_rec *t, struct str model, char *room,
                            size_t room_bytes) {
    size_t n = KEY_FIXED_BYTES + t->label.n + t->env.n + t->name.n + model.n;
    char *key = n <= room_bytes ? room : arena_bytes(a, n);
    int64_t hour = time_floor(t->ts, ROLLUP_HOUR);
    if (!key)
        return STR_NONE;
    char *at = put_bytes(key, &t->project, sizeof t->project);
    at = put_bytes(at, &hour, sizeof hour);
    at = put_part(at, t->label, 0);
    at = put_part(at, t->env, 0);
    at = str_has(t->name) ? put_part(at, t->name, '=') : put_part(at, STR_LIT(""), 0);
    at = put_part(at, model, 0);
    return (struct str){ key, (size_t)(at - key) };
}

/* The delta with that key, made if need be. NULL: no memory. */
static struct rollup_delta *delta_of(struct rollup_fold *f, const struct trace_rec *t, struct str model) {
    char room[512];
    struct str key = delta_key(f->arena, t, model, room, sizeof room);
    if (!str_has(key))
        return NULL;
    struct rollup_delta *d = map_get(&f->map, key);
    if (d)
        return d;
    key = arena_str(f->arena, key);
    d = arena_new(f->arena, struct rollup_delta, 1);
    if (!d || !str_has(key) || !map_put(&f->map, key, d))
        return NULL;
    memcpy(&d->project, key.p, sizeof d->project);
    memcpy(&d->hour, key.p + sizeof d->project, sizeof d->hour);
    const char *at = take_part(key.p + sizeof d->project + sizeof d->hour, &d->label);
    at = take_part(at, &d->env);
    at = take_part(at, &d->name);
    take_part(at, &d->model);
    if (f->last)
        f->last->next = d;
    else
        f->first = d;
    f->last = d;
    return d;
}

bool rollup_trace(struct rollup_fold *f, const struct trace_rec *t, int sign) {
    struct rollup_delta *d = delta_of(f, t, STR_NONE);
    if (!d)
        return false;
    d->ntrace += sign;
    d->nobs += sign * t->nobs;
    d->cost += sign * trace_rec_cost(t);
    return true;
}

bool rollup_model(struct rollup_fold *f, const struct trace_rec *t, struct str model, const struct model_sums *m,
                  int sign) {
    if (m->n == 0)
        return true; /* no observation, no share */
    struct rollup_delta *d = delta_of(f, t, model);
    if (!d)
        return false;
    d->ntrace += sign;
    model_sums_add(&d->sums, m, sign);
    return true;
}

/* ---- flushing ---- */

static void bind_key(sqlite3_stmt *st, const struct rollup_delta *d) {
    sqlite3_bind_int64(st, 1, d->project);
    sqlite3_bind_int64(st, 2, d->hour);
    bind_str(st, 3, d->label);
    bind_str(st, 4, d->env);
    bind_str(st, 5, d->name);
    if (str_has(d->model))
        bind_str(st, 6, d->model);
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

static enum xt_code add_hour(struct conn *c, const struct rollup_delta *d, struct xt_err *err) {
    sqlite3_stmt *st = d->ntrace ? conn_stmt(c, SQL_ROLLUP_HOUR_ADD, err) : NULL;
    if (!st)
        return d->ntrace ? c->failed : XT_OK;
    sqlite3_bind_int64(st, 1, d->project);
    sqlite3_bind_int64(st, 2, d->hour);
    sqlite3_bind_int64(st, 3, d->ntrace);
    enum xt_code code = conn_run(c, st, "rollup", err);
    if (code != XT_OK || d->ntrace > 0)
        return code;
    st = conn_stmt(c, SQL_ROLLUP_HOUR_CLEAN, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, d->project);
    sqlite3_bind_int64(st, 2, d->hour);
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
    sqlite3_bind_int64(st, 6, n);
    sqlite3_bind_int64(st, 7, nobs);
    bind_sum(st, 8, cost);
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
    sqlite3_bind_int64(st, 7, sums.n);
    sqlite3_bind_int64(st, 8, ntrace);
    model_sums_bind(st, 9, &sums);
    return conn_run(c, st, "rollup", err);
}

static bool is_nothing(const struct rollup_delta *d) {
    const struct model_sums none = { 0 };
    return d->ntrace == 0 && d->nobs == 0 && d->cost == 0 && model_sums_equal(&d->sums, &none);
}

enum xt_code rollup_flush(struct rollup_fold *f, struct conn *c, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (const struct rollup_delta *d = f->first; d && code == XT_OK; d = d->next) {
        if (is_nothing(d))
            continue;
        if (str_has(d->model))
            code = add_model(c, d, err);
        else if ((code = add_hour(c, d, err)) == XT_OK)
            code = add_trace(c, d, err);
    }
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

enum xt_code rollup_compare(struct rollup_fold *f, struct conn *c, struct rollup_verdict *v, struct xt_err *err) {
    for (const struct rollup_delta *d = f->first; d; d = d->next) {
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
    }
    return XT_OK;
}
