/* lookup.c -- the index of index.h behind lookup.h: hashes of keys, comparison of hits with rows. */
#include "store/sqlite/lookup.h"

#include "store/sqlite/index_read.h"

/* What an entry of an id keeps of its hash. */
static uint64_t id_hash(const struct index *ix, enum look_kind kind, int64_t project, struct str key) {
    return (uint64_t)key_hash(ix->e, (unsigned)kind, project, key) >> (64 - ix->bits);
}

/* ---- traces ---- */

struct trace_hunt {
    int64_t project, found;
    struct str key;
};

static enum xt_code is_row(struct conn *c, sqlite3_stmt *st, bool *ret, struct xt_err *err) {
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    *ret = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "look-up", err);
}

static enum xt_code is_trace(void *arg, struct conn *c, int64_t tseq, bool *go_on, struct xt_err *err) {
    struct trace_hunt *hunt = arg;
    bool same;
    sqlite3_stmt *st = conn_stmt(c, SQL_LOOK_TRACE, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    sqlite3_bind_int64(st, 2, hunt->project);
    bind_blob(st, 3, hunt->key);
    enum xt_code code = is_row(c, st, &same, err);
    if (code == XT_OK && same) {
        hunt->found = tseq;
        *go_on = false;
    }
    return code;
}

enum xt_code lookup_trace(struct conn *c, int64_t project, struct str key, int64_t *ret_tseq, struct xt_err *err) {
    struct trace_hunt hunt = { .project = project, .key = key };
    enum xt_code code = ix_find(c, IX_TRACE, id_hash(c->index, LOOK_TRACE, project, key), is_trace, &hunt, err);
    *ret_tseq = hunt.found;
    return code;
}

static enum xt_code add_id(struct conn *c, enum ix_kind kind, uint64_t h, int64_t tseq, struct xt_err *err) {
    const struct ix_entry e = { .h = h, .tseq = tseq };
    return index_stage(c->index->e, kind, &e, err);
}

enum xt_code lookup_add_trace(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err) {
    return add_id(c, IX_TRACE, id_hash(c->index, LOOK_TRACE, project, key), tseq, err);
}

/* ---- observations ---- */

struct obs_hunt {
    int64_t project;
    struct str key;
    look_visitor *visit;
    void *arg;
};

static enum xt_code is_observation(void *arg, struct conn *c, int64_t tseq, bool *go_on, struct xt_err *err) {
    struct obs_hunt *hunt = arg;
    bool same;
    sqlite3_stmt *st = conn_stmt(c, SQL_LOOK_OBS, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    sqlite3_bind_int64(st, 2, hunt->project);
    bind_blob(st, 3, hunt->key);
    enum xt_code code = is_row(c, st, &same, err);
    if (code == XT_OK && same)
        *go_on = hunt->visit(hunt->arg, tseq);
    return code;
}

enum xt_code lookup_observation(struct conn *c, int64_t project, struct str key, look_visitor *visit, void *arg,
                                struct xt_err *err) {
    struct obs_hunt hunt = { project, key, visit, arg };
    return ix_find(c, IX_OBS, id_hash(c->index, LOOK_OBSERVATION, project, key), is_observation, &hunt, err);
}

enum xt_code lookup_has_observation(struct conn *c, int64_t project, struct str key, int64_t tseq, bool *ret,
                                    struct xt_err *err) {
    const struct ix_entry e = { .h = id_hash(c->index, LOOK_OBSERVATION, project, key), .tseq = tseq };
    int64_t n = 0;
    enum xt_code code = ix_count_entry(c, IX_OBS, &e, &n, err);
    *ret = n > 0;
    return code;
}

enum xt_code lookup_add_observation(struct conn *c, int64_t project, struct str key, int64_t tseq, struct xt_err *err) {
    return add_id(c, IX_OBS, id_hash(c->index, LOOK_OBSERVATION, project, key), tseq, err);
}

/* ---- turns, runs, steps ---- */

enum xt_code record_keys_add(struct conn *c, int64_t project, int kind, struct str v, int64_t tseq, struct str oid,
                             struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_RKEY_ADD, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, project);
    sqlite3_bind_int(st, 2, kind);
    bind_blob(st, 3, v);
    sqlite3_bind_int64(st, 4, tseq);
    bind_blob(st, 5, oid);
    return conn_run(c, st, "look-up", err);
}

enum xt_code record_keys_drop(struct conn *c, int64_t tseq, struct str oid, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_RKEY_DROP, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    bind_blob(st, 2, oid);
    return conn_run(c, st, "look-up", err);
}

/* ---- postings ---- */

static enum xt_code add_post(struct conn *c, enum ix_kind kind, int64_t h, int64_t ts, int64_t tseq,
                             struct xt_err *err) {
    const struct ix_entry e = { .h = (uint64_t)h, .ts = ix_time(ts), .tseq = tseq };
    return index_stage(c->index->e, kind, &e, err);
}

enum xt_code lookup_add_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err) {
    return add_post(c, IX_POST, h, ts, tseq, err);
}

enum xt_code lookup_drop_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, struct xt_err *err) {
    return add_post(c, IX_UNPOST, h, ts, tseq, err);
}

enum xt_code lookup_has_post(struct conn *c, int64_t h, int64_t ts, int64_t tseq, bool *ret, struct xt_err *err) {
    const struct ix_entry e = { .h = (uint64_t)h, .ts = ix_time(ts), .tseq = tseq };
    int64_t posts = 0, unposts = 0;
    enum xt_code code = ix_count_entry(c, IX_POST, &e, &posts, err);
    if (code == XT_OK)
        code = ix_count_entry(c, IX_UNPOST, &e, &unposts, err);
    *ret = posts > unposts;
    return code;
}

enum xt_code lookup_gone(struct conn *c, int64_t *ret, struct xt_err *err) {
    struct ix_view *v;
    enum xt_code code = view_pin(c, &v, err);
    if (code == XT_OK)
        *ret = v->has_gone ? v->gone : TIME_NONE;
    return code;
}

/* Entries of removed traces stay until their run goes, also those that say what no longer holds: neither may be counted
 * against the other then. */
enum xt_code lookup_count(struct conn *c, int64_t h, int64_t from, int64_t to, int64_t *ret, bool *ret_exact,
                          struct xt_err *err) {
    int64_t posts = 0, unposts = 0, gone = TIME_NONE;
    enum xt_code code = lookup_gone(c, &gone, err);
    if (code == XT_OK)
        code = ix_count(c, IX_POST, (uint64_t)h, ix_time(from), ix_time(to), &posts, err);
    if (code == XT_OK)
        code = ix_count(c, IX_UNPOST, (uint64_t)h, ix_time(from), ix_time(to), &unposts, err);
    if (code != XT_OK)
        return code;
    bool touched = gone != TIME_NONE && (from <= gone || unposts > 0);
    *ret = touched ? posts : posts - unposts;
    *ret_exact = !touched;
    return XT_OK;
}

enum xt_code look_walk_open(struct look_walk *w, struct conn *c, int64_t h, int64_t from, int64_t to, bool descending,
                            struct xt_err *err) {
    w->walk = NULL;
    if (from > to)
        return XT_OK;
    return ix_walk_open(c, (uint64_t)h, ix_time(from), ix_time(to), descending, &w->walk, err);
}

enum xt_code look_walk_next(struct look_walk *w, int64_t *ret_ts, int64_t *ret_tseq, struct xt_err *err) {
    struct ix_entry e = { 0 };
    bool end = true;
    enum xt_code code = w->walk ? ix_walk_next(w->walk, &e, &end, err) : XT_OK;
    *ret_tseq = code == XT_OK && !end ? e.tseq : 0;
    *ret_ts = ix_time_back(e.ts);
    if (end)
        look_walk_close(w);
    return code;
}

void look_walk_close(struct look_walk *w) {
    ix_walk_close(w->walk);
    w->walk = NULL;
}
