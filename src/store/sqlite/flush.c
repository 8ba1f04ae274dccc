/* flush.c -- writes what a group folded: payloads, observations, traces, their index entries, sums by model and their shares
 * of the rollups. What changes is said by the fold; a row is written once. */
#include <stdlib.h>

#include "store/fold/keys.h"
#include "store/fold/packed.h"
#include "store/sqlite/group.h"

#define REST_INLINE_BYTES 700 /* beyond, a row of a WITHOUT ROWID table spills to pages of its own */

/* ---- payloads ---- */

/* The number of a text in a pack; the first one of a group writes the pack. */
static enum xt_code put_part(struct group *g, int64_t *pid, struct stored z, struct xt_err *err) {
    struct pack *p = z.pack;
    if (p->group != g->ws->group) {
        p->group = g->ws->group;
        p->used = 0;
        p->first = g->ws->next_pid;
        g->ws->next_pid += p->n;
        p->next = g->packs;
        g->packs = p;
        enum xt_code code = payload_add_pack(g->c, p->first, p, err);
        if (code != XT_OK)
            return code;
    }
    p->used++;
    *pid = p->first + z.part;
    return XT_OK;
}

/* Text *pid becomes this one: nothing happens when it is that already, else one is added and the old one goes. */
static enum xt_code put_payload(struct group *g, int64_t *pid, struct str text, struct stored z, struct xt_err *err) {
    bool same = false;
    enum xt_code code = XT_OK;
    if (*pid != 0)
        code = payload_same(g->c, &g->ws->codec, g->a, *pid, text, &same, err);
    if (code != XT_OK || same)
        return code;
    code = payload_drop(g->c, *pid, err);
    if (code != XT_OK)
        return code;
    if (z.pack)
        return put_part(g, pid, z, err);
    *pid = g->ws->next_pid++;
    return payload_add(g->c, *pid, text, z.z, err);
}

/* Texts of packs that nothing points to: their record was refused, or a later one of the group replaced them. */
static enum xt_code settle_packs(struct group *g, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (const struct pack *p = g->packs; p && code == XT_OK; p = p->next)
        if (p->used < p->n)
            code = payload_lose(g->c, p->first, p->n, p->n - p->used, err);
    return code;
}

static enum xt_code put_texts(struct group *g, int64_t pid[PAYLOADS], const struct fold_text texts[PAYLOADS],
                              struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (int i = 0; i < PAYLOADS && code == XT_OK; i++) {
        struct stored z = texts[i].z;
        if (!str_has(texts[i].text))
            continue;
        if (texts[i].remade) { /* merging made it: it is compressed here */
            z = (struct stored){ .part = 0 };
            if (!payload_encode(&g->ws->codec, g->a, texts[i].text, &z.z))
                return no_memory(err);
        }
        code = put_payload(g, &pid[i], texts[i].text, z, err);
    }
    return code;
}

/* The record's keys are those of its metadata, when that is new; oid '': the trace's own. */
static enum xt_code put_keys(struct group *g, const struct trace_rec *t, struct str oid, bool stored,
                             struct str metadata, struct xt_err *err) {
    struct record_keys keys;
    enum xt_code code = XT_OK;
    if (!str_has(metadata))
        return XT_OK;
    if (!record_keys_of(g->a, metadata, &keys))
        return no_memory(err);
    if (stored)
        code = record_keys_drop(g->c, t->tseq, oid, err);
    for (int i = 0; i < RECORD_KEYS && code == XT_OK; i++)
        if (str_has(keys.v[i]))
            code = record_keys_add(g->c, t->project, i + 1, keys.v[i], t->tseq, oid, err);
    return code;
}

/* ---- observations ---- */

/* Packs the rare fields; a long blob goes out of line and *ret is absent. */
static enum xt_code put_rest(struct group *g, struct obs_state *o, const struct observation *v, struct str *ret,
                             struct xt_err *err) {
    struct buf *rest = &g->ws->rest;
    struct stored z = { .part = 0 };
    buf_clear(rest);
    if (!packed_write(rest, v))
        return no_memory(err);
    *ret = buf_str(rest);
    if (rest->n <= REST_INLINE_BYTES) {
        enum xt_code code = payload_drop(g->c, o->prest, err);
        o->prest = 0;
        return code;
    }
    if (!payload_encode(&g->ws->codec, g->a, *ret, &z.z))
        return no_memory(err);
    enum xt_code code = put_payload(g, &o->prest, *ret, z, err);
    *ret = STR_NONE;
    return code;
}

static enum xt_code write_obs(struct group *g, enum sql_id id, const struct obs_rec *r, struct str rest,
                              struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(g->c, id, err);
    if (!st)
        return g->c->failed;
    obs_rec_bind(st, r, rest);
    return conn_run(g->c, st, "observation", err);
}

static enum xt_code put_obs_row(struct group *g, const struct trace_state *t, struct obs_state *o, struct xt_err *err) {
    struct obs_rec r;
    struct str rest = STR_NONE;
    fold_observation_row(t, o, &r);
    enum xt_code code = put_rest(g, o, &r.v, &rest, err);
    if (code != XT_OK)
        return code;
    r.prest = o->prest;
    if (!o->stored)
        return write_obs(g, SQL_OBS_ADD, &r, rest, err);
    code = write_obs(g, SQL_OBS_SET, &r, rest, err);
    if (code == XT_OK && r.v.start != o->before.start)
        code = write_obs(g, SQL_OBS_MOVE, &r, rest, err);
    return code;
}

/* ---- sums ---- */

enum xt_code trace_models_load(struct group *g, struct trace_state *t, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(g->c, SQL_TMODEL_OF, err);
    int rc;
    if (!st)
        return g->c->failed;
    sqlite3_bind_int64(st, 1, t->now.tseq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct str model = arena_str(g->a, col_str(st, 0));
        struct model_sums sums = { .n = sqlite3_column_int64(st, 1) };
        model_sums_read(st, 2, &sums);
        if (!str_has(model) || !fold_model(g->a, t, model, &sums)) {
            sqlite3_reset(st);
            return no_memory(err);
        }
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? XT_OK : conn_fail(g->c, rc, "trace", err);
}

enum xt_code trace_model_put(struct group *g, const struct trace_rec *r, const struct tmodel *m, struct xt_err *err) {
    bool gone = m->now.n == 0;
    sqlite3_stmt *st = conn_stmt(g->c, gone ? SQL_TMODEL_DROP : SQL_TMODEL_SET, err);
    if (!st)
        return g->c->failed;
    if (gone) {
        sqlite3_bind_int64(st, 1, r->tseq);
        bind_str(st, 2, m->model);
    } else {
        sqlite3_bind_int64(st, 1, m->now.n);
        model_sums_bind(st, 2, &m->now);
        sqlite3_bind_int64(st, 10, r->tseq);
        bind_str(st, 11, m->model);
    }
    return conn_run(g->c, st, "trace", err);
}

/* First start and last end among the rows, after they were written. */
static enum xt_code find_span(struct group *g, struct trace_rec *r, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(g->c, SQL_OBS_SPAN, err);
    if (!st)
        return g->c->failed;
    sqlite3_bind_int64(st, 1, r->tseq);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        r->t0 = col_time(st, 0);
        r->t1 = col_time(st, 1);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? XT_OK : conn_fail(g->c, rc, "trace", err);
}

/* ---- look-ups ---- */

static int compare_i64(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum xt_code trace_hashes(struct group *g, const struct trace_rec *r, int64_t **ret, size_t *ret_n,
                          struct xt_err *err) {
    struct str *tags = NULL;
    size_t ntags = 0, n = 0, kept = 0;
    if (!tags_decode(g->a, r->tags, &tags, &ntags)) {
        if (g->a->failed)
            return no_memory(err);
        ntags = 0; /* damaged */
    }
    int64_t *h = ntags < SIZE_MAX - 3 ? arena_new(g->a, int64_t, ntags + 3) : NULL;
    if (!h)
        return no_memory(err);
    if (str_has(r->user))
        h[n++] = lookup_hash(g->e, LOOK_USER, r->project, r->user);
    if (str_has(r->session))
        h[n++] = lookup_hash(g->e, LOOK_SESSION, r->project, r->session);
    if (str_has(r->name))
        h[n++] = lookup_hash(g->e, LOOK_NAME, r->project, r->name);
    for (size_t i = 0; i < ntags; i++)
        h[n++] = lookup_hash(g->e, LOOK_TAG, r->project, tags[i]);
    qsort(h, n, sizeof *h, compare_i64);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || h[kept - 1] != h[i])
            h[kept++] = h[i];
    *ret = h;
    *ret_n = kept;
    return XT_OK;
}

/* Removes the entries that only `before` has and adds those that only `now` has: a merge of two sorted lists. When the
 * time moved they have none in common. */
static enum xt_code move_posts(struct group *g, const struct trace_state *t, struct xt_err *err) {
    int64_t *old = NULL, *new = NULL;
    size_t nold = 0, nnew = 0, i = 0, k = 0;
    bool moved = t->stored && t->before.ts != t->now.ts;
    enum xt_code code = t->stored ? trace_hashes(g, &t->before, &old, &nold, err) : XT_OK;
    if (code == XT_OK)
        code = trace_hashes(g, &t->now, &new, &nnew, err);
    while (code == XT_OK && (i < nold || k < nnew)) {
        bool has_old = i < nold, has_new = k < nnew;
        if (!moved && has_old && has_new && old[i] == new[k]) {
            i++;
            k++;
        } else if (has_old && (!has_new || moved || old[i] < new[k])) {
            code = lookup_drop_post(g->c, old[i++], t->before.ts, t->now.tseq, err);
        } else {
            code = lookup_add_post(g->c, new[k++], t->now.ts, t->now.tseq, err);
        }
    }
    return code;
}

static bool same_posts(const struct trace_rec *a, const struct trace_rec *b) {
    return a->ts == b->ts && str_eq(a->user, b->user) && str_eq(a->session, b->session) && str_eq(a->name, b->name) &&
           str_eq(a->tags, b->tags);
}

static enum xt_code put_lookups(struct group *g, const struct trace_state *t, struct xt_err *err) {
    if (t->stored)
        return same_posts(&t->before, &t->now) ? XT_OK : move_posts(g, t, err);
    enum xt_code code = lookup_add_trace(g->c, t->now.project, t->now.id.key, t->now.tseq, err);
    return code == XT_OK ? move_posts(g, t, err) : code;
}

/* ---- traces ---- */

static enum xt_code write_trace(struct group *g, enum sql_id id, const struct trace_rec *r, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(g->c, id, err);
    if (!st)
        return g->c->failed;
    trace_rec_bind(st, r);
    return conn_run(g->c, st, "trace", err);
}

static enum xt_code put_trace_row(struct group *g, struct trace_state *t, struct xt_err *err) {
    struct fold_text texts[PAYLOADS];
    fold_trace_texts(t, texts);
    enum xt_code code = put_texts(g, t->now.pid, texts, err);
    if (code == XT_OK)
        code = put_keys(g, &t->now, STR_LIT(""), t->stored, texts[PAYLOAD_METADATA].text, err);
    if (code != XT_OK)
        return code;
    if (!t->stored)
        return write_trace(g, SQL_TRACE_ADD, &t->now, err);
    code = write_trace(g, t->touched ? SQL_TRACE_SET : SQL_TRACE_SUMS, &t->now, err);
    if (code == XT_OK && t->moved)
        code = write_trace(g, SQL_TRACE_MOVE, &t->now, err);
    return code;
}

static enum xt_code flush_observation(struct group *g, const struct trace_state *t, struct obs_state *o,
                                      struct xt_err *err) {
    struct fold_text texts[PAYLOADS];
    fold_observation_texts(o, texts);
    enum xt_code code = put_texts(g, o->pid, texts, err);
    if (code == XT_OK)
        code = put_obs_row(g, t, o, err);
    if (code == XT_OK)
        code = put_keys(g, &t->now, o->v->id.key, o->stored, texts[PAYLOAD_METADATA].text, err);
    if (code == XT_OK && !o->stored)
        code = lookup_add_observation(g->c, t->now.project, o->v->id.key, t->now.tseq, err);
    return code;
}

static enum xt_code flush_trace(struct group *g, struct trace_state *t, struct xt_err *err) {
    enum xt_code code = fold_sums(&g->fold, t, err);
    for (struct obs_state *o = t->first; o && code == XT_OK; o = o->next)
        code = flush_observation(g, t, o, err);
    if (code == XT_OK && t->respan)
        code = find_span(g, &t->now, err);
    if (code == XT_OK)
        code = fold_settle(&g->fold, t, err);
    if (code == XT_OK)
        code = put_trace_row(g, t, err);
    if (code == XT_OK)
        code = put_lookups(g, t, err);
    for (const struct tmodel *m = t->models; m && code == XT_OK; m = m->next)
        if (!model_sums_equal(&m->before, &m->now))
            code = trace_model_put(g, &t->now, m, err);
    return code;
}

enum xt_code group_flush(struct group *g, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (struct trace_state *t = g->fold.first; t && code == XT_OK; t = t->next)
        code = flush_trace(g, t, err);
    if (code == XT_OK)
        code = settle_packs(g, err);
    return code == XT_OK ? rollup_flush(&g->fold.rollups, g->c, err) : code;
}
