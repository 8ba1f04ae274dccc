/* view.c -- see view.h. */
#include "store/sqlite/view.h"

static enum xt_code get_text(void *arg, struct arena *a, int64_t pid, struct str *ret, struct xt_err *err) {
    struct sql_view *v = arg;
    return payload_get(v->c, &v->codec, a, pid, ret, err);
}

void sql_view_init(struct sql_view *v, struct conn *c) {
    *v = (struct sql_view){ .c = c };
    view_init(&v->view, &(struct text_source){ v, get_text });
}

void sql_view_done(struct sql_view *v) {
    view_done(&v->view);
    codec_done(&v->codec);
}

/* ---- the root observation ---- */

static enum xt_code has_observation(struct conn *c, int64_t tseq, struct str oid, bool *ret, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(c, SQL_OBS_HAS, err);
    if (!st)
        return c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    bind_blob(st, 2, oid);
    int rc = sqlite3_step(st);
    sqlite3_reset(st);
    *ret = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? XT_OK : conn_fail(c, rc, "observation", err);
}

/* The row becomes the root when it comes before the present one and its parent is not in the trace. */
static enum xt_code consider(struct sql_view *v, int64_t tseq, sqlite3_stmt *st, struct obs_root *root,
                             struct xt_err *err) {
    struct obs_place place = { col_time(st, 2), sqlite3_column_int64(st, 3), col_blob(st, 0) };
    struct str parent = col_blob(st, 1);
    bool dangling = true;
    if (!obs_root_gives_way(root, &place))
        return XT_OK;
    if (str_has(parent)) {
        bool there = false;
        enum xt_code code = has_observation(v->c, tseq, parent, &there, err);
        if (code != XT_OK)
            return code;
        dangling = !there;
    }
    if (!dangling)
        return XT_OK;
    root->place = place;
    root->place.oid = arena_str(&v->view.arena, place.oid);
    root->pid[0] = sqlite3_column_int64(st, 4);
    root->pid[1] = sqlite3_column_int64(st, 5);
    root->found = true;
    return str_has(root->place.oid) ? XT_OK : no_memory(err);
}

static enum xt_code find_root(struct sql_view *v, int64_t tseq, struct obs_root *root, struct xt_err *err) {
    int rc;
    enum xt_code code = XT_OK;
    sqlite3_stmt *st = conn_stmt(v->c, SQL_OBS_ROOTS, err);
    if (!st)
        return v->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && code == XT_OK)
        code = consider(v, tseq, st, root, err);
    sqlite3_reset(st);
    if (code != XT_OK)
        return code;
    return rc == SQLITE_DONE ? XT_OK : conn_fail(v->c, rc, "observation", err);
}

/* ---- traces ---- */

enum xt_code sql_view_trace(struct sql_view *v, const struct trace_rec *r, bool io, struct trace_row *ret,
                            struct xt_err *err) {
    struct obs_root root = { .found = false };
    int64_t pid[PAYLOADS];
    enum xt_code code = io && view_wants_root(r) ? find_root(v, r->tseq, &root, err) : XT_OK;
    if (code != XT_OK)
        return code;
    view_trace_texts(r, &root, pid);
    return view_trace(&v->view, r, io ? pid : NULL, ret, err);
}

enum xt_code sql_view_observation_ids(struct sql_view *v, int64_t tseq, struct trace_row *row, struct xt_err *err) {
    struct id_list ids = { .n = 0 };
    int rc;
    enum xt_code code = XT_OK;
    sqlite3_stmt *st = conn_stmt(v->c, SQL_OBS_IDS, err);
    if (!st)
        return v->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && code == XT_OK)
        code = view_add_id(&v->view, &ids, col_blob(st, 0), sqlite3_column_int(st, 1), col_blob(st, 2),
                           sqlite3_column_int64(st, 3), err);
    sqlite3_reset(st);
    if (code != XT_OK)
        return code;
    if (rc != SQLITE_DONE)
        return conn_fail(v->c, rc, "observation", err);
    row->observation_ids = ids.v;
    row->nobservation_ids = ids.n;
    return XT_OK;
}
