/* group.c -- collects and folds the records of one transaction; see group.h. */
#include "store/sqlite/group.h"

#include <assert.h>
#include <string.h>

void group_init(struct group *g, struct sqlite_store *e) {
    *g = (struct group){ .e = e, .c = &e->writer, .ws = e->ws, .a = &e->ws->arena };
    map_init(&g->traces, g->a);
    map_init(&g->observations, g->a);
    rollup_init(&g->rollups, g->a);
}

/* `number` and the key in one string, in `room` when it fits. Absent: no memory. */
static struct str numbered(struct arena *a, int64_t number, struct str key, char *room, size_t room_bytes) {
    size_t n = sizeof number + key.n;
    char *p = n <= room_bytes ? room : arena_bytes(a, n);
    if (!p)
        return STR_NONE;
    memcpy(p, &number, sizeof number);
    memcpy(p + sizeof number, key.p, key.n);
    return (struct str){ p, n };
}

static bool remember(struct group *g, struct map *m, struct str key, void *value) {
    struct str kept = arena_str(g->a, key);
    return str_has(kept) && map_put(m, kept, value);
}

/* ---- traces ---- */

static enum xt_code load_trace(struct group *g, int64_t tseq, struct trace_state *t, struct xt_err *err) {
    sqlite3_stmt *st = conn_stmt(g->c, SQL_TRACE_GET, err);
    if (!st)
        return g->c->failed;
    sqlite3_bind_int64(st, 1, tseq);
    int rc = sqlite3_step(st);
    bool ok = rc == SQLITE_ROW && trace_rec_read(st, g->a, &t->before);
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? row_damaged(err) : conn_fail(g->c, rc, "trace", err);
    if (!ok)
        return no_memory(err);
    t->stored = true;
    t->now = t->before;
    return XT_OK;
}

/* The first record that speaks of a trace decides what nobody stated: created, spelling, environment, label. */
struct first_word {
    const struct batch *b;
    const struct id *id;
    struct str environment, label;
};

static void new_trace(struct group *g, const struct first_word *f, struct trace_state *t) {
    t->now = (struct trace_rec){
        .tseq = g->ws->next_tseq++,
        .project = f->b->project,
        .id = *f->id,
        .ts = f->b->received,
        .ts_source = TS_FIRST_WRITE,
        .created = f->b->received,
        .updated = f->b->received,
        .env = str_has(f->environment) ? f->environment : STR_LIT("default"),
        .label = str_has(f->label) ? f->label : f->b->default_label,
        .latency = (double)NAN,
        .t0 = TIME_NONE,
        .t1 = TIME_NONE,
    };
    if (!str_has(t->now.label))
        t->now.label = STR_LIT("");
}

static enum xt_code find_trace(struct group *g, const struct first_word *f, struct trace_state **ret,
                               struct xt_err *err) {
    char room[64];
    int64_t tseq;
    if (g->last && g->last->now.project == f->b->project && str_eq(g->last->now.id.key, f->id->key)) {
        *ret = g->last;
        return XT_OK;
    }
    struct str key = numbered(g->a, f->b->project, f->id->key, room, sizeof room);
    if (!str_has(key))
        return no_memory(err);
    struct trace_state *t = map_get(&g->traces, key);
    if (t) {
        *ret = t;
        return XT_OK;
    }
    t = arena_new(g->a, struct trace_state, 1);
    if (!t || !remember(g, &g->traces, key, t))
        return no_memory(err);
    enum xt_code code = lookup_trace(g->c, f->b->project, f->id->key, &tseq, err);
    if (code == XT_OK && tseq != 0)
        code = load_trace(g, tseq, t, err);
    else if (code == XT_OK)
        new_trace(g, f, t);
    if (code != XT_OK)
        return code;
    if (g->last)
        g->last->next = t;
    else
        g->first = t;
    g->last = t;
    *ret = t;
    return XT_OK;
}

/* Is the text one that merging made, so that nobody prepared its stored form? */
static void note_remade(bool *remade, struct str before, struct str given, struct str after) {
    if (after.p != before.p)
        *remade = after.p != given.p;
}

static enum xt_code add_trace(struct group *g, const struct batch *b, const struct trace *given, struct xt_err *err) {
    const struct first_word f = { b, &given->id, given->environment, given->project_label };
    struct trace_state *t = NULL;
    enum xt_code code = find_trace(g, &f, &t, err);
    if (code != XT_OK)
        return code;
    assert(t);
    t->touched = true;
    if (b->received > t->now.updated)
        t->now.updated = b->received;
    if (merge_needs_metadata(given->merge, given->metadata) && !str_has(t->texts.text[PAYLOAD_METADATA])) {
        code = payload_get(g->c, &g->ws->codec, g->a, t->now.pid[PAYLOAD_METADATA], &t->metadata_known, err);
        if (code != XT_OK)
            return code;
        t->texts.text[PAYLOAD_METADATA] = t->metadata_known;
    }
    const struct str before = t->texts.text[PAYLOAD_METADATA];
    if (!merge_trace(g->a, &t->now, &t->texts, given))
        return no_memory(err);
    note_remade(&t->metadata_remade, before, given->metadata, t->texts.text[PAYLOAD_METADATA]);
    return XT_OK;
}

/* ---- observations ---- */

void obs_share_of(const struct observation *v, struct obs_share *ret) {
    bool unnamed = str_eq_c(v->model, "unknown"); /* that is what no model is called: each trace counts once for both */
    *ret = (struct obs_share){
        .generation = !str_has(v->type) || str_eq_c(v->type, "GENERATION"),
        .model = unnamed ? STR_NONE : v->model,
        .start = v->start,
        .end = v->end,
        .in = v->tokens_in.has ? v->tokens_in.v : 0,
        .out = v->tokens_out.has ? v->tokens_out.v : 0,
        .total = v->tokens_total.has ? v->tokens_total.v : 0,
        .cost_known = v->cost_total.has,
        .cost = v->cost_total.has ? v->cost_total.v : 0,
    };
}

/* The stored row of the observation, if there is one. */
static enum xt_code load_observation(struct group *g, const struct trace_state *t, struct str oid, struct obs_state *o,
                                     struct xt_err *err) {
    struct obs_rec r;
    sqlite3_stmt *st = conn_stmt(g->c, SQL_OBS_GET, err);
    if (!st)
        return g->c->failed;
    sqlite3_bind_int64(st, 1, t->now.tseq);
    bind_blob(st, 2, oid);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW) {
        sqlite3_reset(st);
        return rc == SQLITE_DONE ? XT_OK : conn_fail(g->c, rc, "observation", err);
    }
    enum xt_code code = obs_rec_read(g->c, &g->ws->codec, st, g->a, true, &r, err);
    sqlite3_reset(st);
    if (code != XT_OK)
        return code;
    o->own = arena_new(g->a, struct observation, 1);
    if (!o->own)
        return no_memory(err);
    *o->own = r.v;
    o->v = o->own;
    o->stored = true;
    o->created = r.created;
    o->updated = r.updated;
    o->cost_source = r.cost_source == COST_PARTS ? COST_GIVEN : r.cost_source; /* the record says which */
    o->price = r.price;
    o->prest = r.prest;
    memcpy(o->pid, r.pid, sizeof o->pid);
    obs_share_of(o->v, &o->before);
    return XT_OK;
}

static enum xt_code find_observation(struct group *g, struct trace_state *t, struct str oid, struct obs_state **ret,
                                     struct xt_err *err) {
    char room[64];
    struct str key = numbered(g->a, t->now.tseq, oid, room, sizeof room);
    if (!str_has(key))
        return no_memory(err);
    struct obs_state *o = map_get(&g->observations, key);
    if (o) {
        *ret = o;
        return XT_OK;
    }
    o = arena_new(g->a, struct obs_state, 1);
    if (!o || !remember(g, &g->observations, key, o))
        return no_memory(err);
    if (t->stored) {
        enum xt_code code = load_observation(g, t, oid, o, err);
        if (code != XT_OK)
            return code;
    }
    if (t->last)
        t->last->next = o;
    else
        t->first = o;
    t->last = o;
    *ret = o;
    return XT_OK;
}

static enum xt_code merge_into(struct group *g, struct obs_state *o, const struct observation *given,
                               struct xt_err *err) {
    if (!o->own) {
        o->own = arena_new(g->a, struct observation, 1);
        if (!o->own)
            return no_memory(err);
        *o->own = *o->v;
        o->v = o->own;
    }
    if (merge_needs_metadata(given->merge, given->metadata) && !str_has(o->own->metadata)) {
        enum xt_code code = payload_get(g->c, &g->ws->codec, g->a, o->pid[PAYLOAD_METADATA], &o->metadata_known, err);
        if (code != XT_OK)
            return code;
        o->own->metadata = o->metadata_known;
    }
    const struct str before = o->own->metadata;
    if (!merge_observation(g->a, o->own, given))
        return no_memory(err);
    note_remade(&o->metadata_remade, before, given->metadata, o->own->metadata);
    return XT_OK;
}

static enum xt_code add_observation(struct group *g, const struct batch *b, const struct observation *given,
                                    struct xt_err *err) {
    const struct first_word f = { b, &given->trace_id, given->environment, given->project_label };
    struct trace_state *t = NULL;
    struct obs_state *o = NULL;
    enum xt_code code = find_trace(g, &f, &t, err);
    if (code != XT_OK)
        return code;
    assert(t);
    code = find_observation(g, t, given->id.key, &o, err);
    if (code != XT_OK)
        return code;
    assert(o);
    if (given->cost_total.has) {
        o->cost_source = COST_GIVEN;
        o->price = 0;
    }
    if (o->v) {
        if (b->received > o->updated)
            o->updated = b->received;
        return merge_into(g, o, given, err);
    }
    o->v = given;
    o->default_label = b->default_label;
    o->created = o->updated = b->received;
    return XT_OK;
}

enum xt_code group_add(struct group *g, const struct batch_part *part, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = part->trace_from; i < part->trace_to && code == XT_OK; i++)
        code = add_trace(g, part->b, &part->b->traces[i], err);
    for (size_t i = part->observation_from; i < part->observation_to && code == XT_OK; i++)
        code = add_observation(g, part->b, &part->b->observations[i], err);
    return code;
}
