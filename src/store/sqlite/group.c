/* group.c -- what is stored, as the fold asks for it: one record at a time; see group.h. */
#include "store/sqlite/group.h"

static enum xt_code load_trace(void *arg, const struct trace_state *t, struct trace_rec *ret, bool *ret_found,
                               struct xt_err *err) {
    struct group *g = arg;
    int64_t tseq;
    enum xt_code code = lookup_trace(g->c, t->now.project, t->now.id.key, &tseq, err);
    *ret_found = code == XT_OK && tseq != 0;
    if (!*ret_found)
        return code;
    sqlite3_stmt *st = conn_stmt(g->c, SQL_TRACE_GET, err);
    if (!st)
        return g->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    int rc = sqlite3_step(st);
    bool ok = rc == SQLITE_ROW && trace_rec_read(st, g->a, ret);
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? row_damaged(err) : conn_fail(g->c, rc, "trace", err);
    return ok ? XT_OK : no_memory(err);
}

static enum xt_code load_observation(void *arg, const struct trace_state *t, const struct obs_state *o,
                                     struct obs_rec *ret, bool *ret_found, struct xt_err *err) {
    struct group *g = arg;
    sqlite3_stmt *st = conn_stmt(g->c, SQL_OBS_GET, err);
    if (!st)
        return g->c->failed;
    sqlite3_bind_int64(st, 1, t->now.tseq);
    bind_blob(st, 2, o->oid);
    int rc = sqlite3_step(st);
    *ret_found = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW) {
        sqlite3_reset(st);
        return rc == SQLITE_DONE ? XT_OK : conn_fail(g->c, rc, "observation", err);
    }
    enum xt_code code = obs_rec_read(g->c, &g->ws->codec, st, g->a, true, ret, err);
    sqlite3_reset(st);
    return code;
}

static enum xt_code load_metadata(void *arg, const struct trace_state *t, const struct obs_state *o, int64_t pid,
                                  struct str *ret, struct xt_err *err) {
    struct group *g = arg;
    (void)t, (void)o;
    return payload_get(g->c, &g->ws->codec, g->a, pid, ret, err);
}

static enum xt_code load_models(void *arg, struct trace_state *t, struct xt_err *err) {
    return trace_models_load(arg, t, err);
}

static enum xt_code next_number(void *arg, const struct trace_state *t, int64_t *ret_tseq, struct xt_err *err) {
    struct group *g = arg;
    (void)t, (void)err;
    *ret_tseq = g->ws->next_tseq++;
    return XT_OK;
}

void group_init(struct group *g, struct sqlite_store *e) {
    const struct fold_source stored = { .arg = g,
                                        .trace = load_trace,
                                        .observation = load_observation,
                                        .metadata = load_metadata,
                                        .models = load_models,
                                        .number = next_number };
    *g = (struct group){ .e = e, .c = &e->writer, .ws = e->ws, .a = &e->ws->arena };
    fold_init(&g->fold, g->a, &stored);
}

enum xt_code group_add(struct group *g, const struct batch_part *part, struct xt_err *err) {
    return fold_add(&g->fold, part, err);
}
