/* fold.c -- applies the records of a transaction to what is stored, and finds what follows from them; see fold.h. */
#include "store/fold/fold.h"

#include <assert.h>
#include <string.h>

#define FEW_MODELS 8

void fold_init(struct fold *f, struct arena *a, const struct fold_source *from) {
    *f = (struct fold){ .from = *from, .a = a };
    map_init(&f->traces, a);
    map_init(&f->observations, a);
    rollup_init(&f->rollups, a);
}

/* The bytes of `in` and the key in one string, in `room` when it fits. Absent: no memory. */
static struct str key_in(struct arena *a, const void *in, struct str key, char *room, size_t room_bytes) {
    const size_t n = sizeof(int64_t) + key.n;
    char *p = n <= room_bytes ? room : arena_bytes(a, n);
    if (!p)
        return STR_NONE;
    memcpy(p, in, sizeof(int64_t));
    if (key.n > 0)
        memcpy(p + sizeof(int64_t), key.p, key.n);
    return (struct str){ p, n };
}

/* Puts the value under a copy of the key; *ret is the part of it that the caller gave to key_in. */
static bool remember(struct fold *f, struct map *m, struct str key, void *value, struct str *ret) {
    struct str kept = arena_str(f->a, key);
    if (!str_has(kept) || !map_put(m, kept, value))
        return false;
    *ret = str_sub(kept, sizeof(int64_t), kept.n);
    return true;
}

/* ---- states ---- */

/* The trace's state, made if need be. NULL: no memory. */
static struct trace_state *trace_of(struct fold *f, int64_t project, struct str id) {
    char room[64];
    if (f->last && f->last->now.project == project && str_eq(f->last->now.id.key, id))
        return f->last;
    struct str key = key_in(f->a, &project, id, room, sizeof room);
    struct trace_state *t = str_has(key) ? map_get(&f->traces, key) : NULL;
    if (t || !str_has(key))
        return t;
    t = arena_new(f->a, struct trace_state, 1);
    if (!t || !remember(f, &f->traces, key, t, &t->now.id.key))
        return NULL;
    t->now.project = project;
    if (f->last)
        f->last->next = t;
    else
        f->first = t;
    f->last = t;
    return t;
}

static struct obs_state *observation_of(struct fold *f, struct trace_state *t, struct str oid) {
    char room[64];
    const int64_t place = (int64_t)(uintptr_t)t; /* traces have no numbers yet */
    struct str key = key_in(f->a, &place, oid, room, sizeof room);
    struct obs_state *o = str_has(key) ? map_get(&f->observations, key) : NULL;
    if (o || !str_has(key))
        return o;
    o = arena_new(f->a, struct obs_state, 1);
    if (!o || !remember(f, &f->observations, key, o, &o->oid))
        return NULL;
    if (t->last)
        t->last->next = o;
    else
        t->first = o;
    t->last = o;
    return o;
}

enum xt_code fold_collect(struct fold *f, const struct batch_part *part, struct xt_err *err) {
    const struct batch *b = part->b;
    for (size_t i = part->trace_from; i < part->trace_to; i++) {
        const struct trace *given = &b->traces[i];
        struct trace_state *t = trace_of(f, b->project, given->id.key);
        if (!t)
            return no_memory(err);
        t->wants_metadata = t->wants_metadata || merge_needs_metadata(given->merge, given->metadata);
    }
    for (size_t i = part->observation_from; i < part->observation_to; i++) {
        const struct observation *given = &b->observations[i];
        struct trace_state *t = trace_of(f, b->project, given->trace_id.key);
        struct obs_state *o = t ? observation_of(f, t, given->id.key) : NULL;
        if (!o)
            return no_memory(err);
        o->wants_metadata = o->wants_metadata || merge_needs_metadata(given->merge, given->metadata);
    }
    return XT_OK;
}

/* ---- traces ---- */

/* The first record that speaks of a trace decides what nobody stated: created, spelling, environment, label. */
struct first_word {
    const struct batch *b;
    const struct id *id;
    struct str environment, label;
    int64_t created, updated;
};

/* When a record came: its batch's word, unless it brings its own. */
static int64_t time_or(int64_t own, int64_t received) { return own != TIME_NONE ? own : received; }

static enum xt_code new_trace(struct fold *f, const struct first_word *w, struct trace_state *t, struct xt_err *err) {
    t->now = (struct trace_rec){
        .project = w->b->project,
        .id = *w->id,
        .ts = w->b->received,
        .ts_source = TS_FIRST_WRITE,
        .created = time_or(w->created, w->b->received),
        .updated = time_or(w->updated, w->b->received),
        .env = str_has(w->environment) ? w->environment : STR_LIT("default"),
        .label = str_has(w->label) ? w->label : w->b->default_label,
        .latency = (double)NAN,
        .t0 = TIME_NONE,
        .t1 = TIME_NONE,
    };
    if (!str_has(t->now.label))
        t->now.label = STR_LIT("");
    return f->from.number(f->from.arg, t, &t->now.tseq, err);
}

static enum xt_code find_trace(struct fold *f, const struct first_word *w, struct trace_state **ret,
                               struct xt_err *err) {
    struct trace_state *t = trace_of(f, w->b->project, w->id->key);
    *ret = t;
    if (!t)
        return no_memory(err);
    if (t->loaded)
        return XT_OK;
    enum xt_code code = f->from.trace(f->from.arg, t, &t->before, &t->stored, err);
    if (code != XT_OK)
        return code;
    t->loaded = true;
    if (!t->stored)
        return new_trace(f, w, t, err);
    t->now = t->before;
    return XT_OK;
}

/* Stored metadata of the trace (o NULL) or of `o`; absent: there is none. */
static enum xt_code stored_metadata(struct fold *f, const struct trace_state *t, const struct obs_state *o, int64_t pid,
                                    struct str *ret, struct xt_err *err) {
    *ret = STR_NONE;
    return pid != 0 ? f->from.metadata(f->from.arg, t, o, pid, ret, err) : XT_OK;
}

/* Is the text one that merging made, so that nobody prepared its stored form? */
static void note_remade(bool *remade, struct str before, struct str given, struct str after) {
    if (after.p != before.p)
        *remade = after.p != given.p;
}

static enum xt_code add_trace(struct fold *f, const struct batch *b, const struct trace *given, struct xt_err *err) {
    const struct first_word w = {
        b, &given->id, given->environment, given->project_label, given->created, given->updated
    };
    const int64_t updated = time_or(given->updated, b->received);
    struct trace_state *t = NULL;
    enum xt_code code = find_trace(f, &w, &t, err);
    if (code != XT_OK)
        return code;
    assert(t);
    t->touched = true;
    if (updated > t->now.updated)
        t->now.updated = updated;
    if (merge_needs_metadata(given->merge, given->metadata) && !str_has(t->texts.text[PAYLOAD_METADATA])) {
        code = stored_metadata(f, t, NULL, t->now.pid[PAYLOAD_METADATA], &t->metadata_known, err);
        if (code != XT_OK)
            return code;
        t->texts.text[PAYLOAD_METADATA] = t->metadata_known;
    }
    const struct str before = t->texts.text[PAYLOAD_METADATA];
    if (!merge_trace(f->a, &t->now, &t->texts, given))
        return no_memory(err);
    note_remade(&t->metadata_remade, before, given->metadata, t->texts.text[PAYLOAD_METADATA]);
    return XT_OK;
}

/* ---- observations ---- */

void obs_share_of(const struct observation *v, struct obs_share *ret) {
    bool unnamed = str_eq_c(v->model, UNKNOWN_MODEL); /* each trace counts once for both */
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

void obs_share_add(struct trace_rec *t, const struct obs_share *s) {
    t->ocost += s->cost;
    t->ocost_n += s->cost_known;
    if (s->start != TIME_NONE && (t->t0 == TIME_NONE || s->start < t->t0))
        t->t0 = s->start;
    if (s->end != TIME_NONE && (t->t1 == TIME_NONE || s->end > t->t1))
        t->t1 = s->end;
}

/* The stored row of the observation, if there is one. */
static enum xt_code load_observation(struct fold *f, const struct trace_state *t, struct obs_state *o,
                                     struct xt_err *err) {
    struct obs_rec r;
    bool found = false;
    enum xt_code code = f->from.observation(f->from.arg, t, o, &r, &found, err);
    if (code != XT_OK || !found)
        return code;
    o->own = arena_new(f->a, struct observation, 1);
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

static enum xt_code find_observation(struct fold *f, struct trace_state *t, struct str oid, struct obs_state **ret,
                                     struct xt_err *err) {
    struct obs_state *o = observation_of(f, t, oid);
    *ret = o;
    if (!o)
        return no_memory(err);
    if (o->loaded)
        return XT_OK;
    o->loaded = true;
    return t->stored ? load_observation(f, t, o, err) : XT_OK;
}

static enum xt_code merge_into(struct fold *f, const struct trace_state *t, struct obs_state *o,
                               const struct observation *given, struct xt_err *err) {
    if (!o->own) {
        o->own = arena_new(f->a, struct observation, 1);
        if (!o->own)
            return no_memory(err);
        *o->own = *o->v;
        o->v = o->own;
    }
    if (merge_needs_metadata(given->merge, given->metadata) && !str_has(o->own->metadata)) {
        enum xt_code code = stored_metadata(f, t, o, o->pid[PAYLOAD_METADATA], &o->metadata_known, err);
        if (code != XT_OK)
            return code;
        o->own->metadata = o->metadata_known;
    }
    const struct str before = o->own->metadata;
    if (!merge_observation(f->a, o->own, given))
        return no_memory(err);
    note_remade(&o->metadata_remade, before, given->metadata, o->own->metadata);
    return XT_OK;
}

static enum xt_code add_observation(struct fold *f, const struct batch *b, const struct observation *given,
                                    struct xt_err *err) {
    const struct first_word w = {
        b, &given->trace_id, given->environment, given->project_label, given->created, given->updated
    };
    const int64_t updated = time_or(given->updated, b->received);
    struct trace_state *t = NULL;
    struct obs_state *o = NULL;
    enum xt_code code = find_trace(f, &w, &t, err);
    if (code != XT_OK)
        return code;
    assert(t);
    code = find_observation(f, t, given->id.key, &o, err);
    if (code != XT_OK)
        return code;
    assert(o);
    if (given->cost_total.has) {
        o->cost_source = COST_GIVEN;
        o->price = 0;
    }
    if (o->v) {
        if (updated > o->updated)
            o->updated = updated;
        return merge_into(f, t, o, given, err);
    }
    o->v = given;
    o->default_label = b->default_label;
    o->created = time_or(given->created, b->received);
    o->updated = updated;
    return XT_OK;
}

enum xt_code fold_add(struct fold *f, const struct batch_part *part, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = part->trace_from; i < part->trace_to && code == XT_OK; i++)
        code = add_trace(f, part->b, &part->b->traces[i], err);
    for (size_t i = part->observation_from; i < part->observation_to && code == XT_OK; i++)
        code = add_observation(f, part->b, &part->b->observations[i], err);
    return code;
}

/* ---- rows ---- */

void fold_observation_row(const struct trace_state *t, const struct obs_state *o, struct obs_rec *ret) {
    const bool parts = o->cost_source == COST_GIVEN && o->v->cost_total_parts;
    *ret = (struct obs_rec){ .tseq = t->now.tseq,
                             .project = t->now.project,
                             .created = o->created,
                             .updated = o->updated,
                             .cost_source = parts ? COST_PARTS : o->cost_source,
                             .price = o->price,
                             .prest = o->prest,
                             .v = *o->v };
    memcpy(ret->pid, o->pid, sizeof ret->pid);
    if (!str_has(ret->v.type))
        ret->v.type = STR_LIT("GENERATION");
    if (!str_has(ret->v.project_label))
        ret->v.project_label = o->default_label;
    if (str_eq_c(ret->v.environment, "default"))
        ret->v.environment = STR_NONE; /* what absence means: readers of rows say so */
}

/* Merged metadata that is what was stored is nothing new. */
static struct fold_text metadata_text(struct str text, struct stored z, struct str known, bool remade) {
    return (struct fold_text){ str_has(text) && str_eq(text, known) ? STR_NONE : text, z, remade };
}

void fold_trace_texts(const struct trace_state *t, struct fold_text ret[PAYLOADS]) {
    const struct trace_texts *p = &t->texts;
    for (int i = 0; i < PAYLOADS; i++)
        ret[i] = (struct fold_text){ .text = p->text[i], .z = p->z[i] };
    ret[PAYLOAD_METADATA] =
        metadata_text(p->text[PAYLOAD_METADATA], p->z[PAYLOAD_METADATA], t->metadata_known, t->metadata_remade);
}

void fold_observation_texts(const struct obs_state *o, struct fold_text ret[PAYLOADS]) {
    const struct observation *v = o->v;
    ret[PAYLOAD_INPUT] = (struct fold_text){ .text = v->input, .z = v->input_z };
    ret[PAYLOAD_OUTPUT] = (struct fold_text){ .text = v->output, .z = v->output_z };
    ret[PAYLOAD_METADATA] = metadata_text(v->metadata, v->metadata_z, o->metadata_known, o->metadata_remade);
}

/* ---- sums by model ---- */

static struct tmodel *find_model(struct trace_state *t, struct str model) {
    if (t->nmodels > FEW_MODELS)
        return map_get(&t->model_map, model);
    for (struct tmodel *m = t->models; m; m = m->next)
        if (str_eq(m->model, model))
            return m;
    return NULL;
}

/* Adds an entry; past FEW_MODELS the map knows them all. */
static struct tmodel *add_model(struct arena *a, struct trace_state *t, struct str model) {
    struct tmodel *m = arena_new(a, struct tmodel, 1);
    if (!m)
        return NULL;
    m->model = model;
    m->next = t->models;
    t->models = m;
    t->nmodels++;
    if (t->nmodels == FEW_MODELS + 1) {
        map_init(&t->model_map, a);
        for (struct tmodel *i = t->models; i; i = i->next)
            if (!map_put(&t->model_map, i->model, i))
                return NULL;
    } else if (t->nmodels > FEW_MODELS && !map_put(&t->model_map, model, m)) {
        return NULL;
    }
    return m;
}

bool fold_model(struct arena *a, struct trace_state *t, struct str model, const struct model_sums *stored) {
    struct tmodel *m = add_model(a, t, model);
    if (!m)
        return false;
    m->before = m->now = *stored;
    return true;
}

static bool add_model_share(struct arena *a, struct trace_state *t, const struct obs_share *s, int sign) {
    const struct model_sums one = { 1, s->in, s->out, s->total, s->cost };
    if (!s->generation)
        return true;
    struct str model = rollup_text(a, s->model);
    if (!str_has(model))
        return false;
    struct tmodel *m = find_model(t, model);
    if (!m)
        m = add_model(a, t, model);
    if (!m)
        return false;
    model_sums_add(&m->now, &one, sign);
    return true;
}

/* ---- sums ---- */

static bool same_key(const struct trace_rec *a, const struct trace_rec *b) {
    return time_floor(a->ts, ROLLUP_TICK) == time_floor(b->ts, ROLLUP_TICK) && str_eq(a->label, b->label) &&
           str_eq(a->env, b->env) && str_eq(a->name, b->name);
}

/* The observation's share of its trace, old one out, new one in. */
static bool add_share(struct arena *a, struct trace_state *t, const struct obs_state *o) {
    struct trace_rec *n = &t->now;
    struct obs_share s;
    obs_share_of(o->v, &s);
    if (o->stored) {
        const struct obs_share *b = &o->before;
        n->ocost -= b->cost;
        n->ocost_n -= b->cost_known;
        t->respan = t->respan || (b->start != TIME_NONE && b->start == n->t0 && s.start > b->start) ||
                    (b->end != TIME_NONE && b->end == n->t1 && s.end < b->end);
    } else {
        n->nobs++;
    }
    obs_share_add(n, &s);
    return (!o->stored || add_model_share(a, t, &o->before, -1)) && add_model_share(a, t, &s, 1);
}

bool fold_wants_models(const struct trace_state *t) {
    return t->stored && (t->first || !same_key(&t->before, &t->now));
}

enum xt_code fold_sums(struct fold *f, struct trace_state *t, struct xt_err *err) {
    enum xt_code code = fold_wants_models(t) ? f->from.models(f->from.arg, t, err) : XT_OK;
    for (const struct obs_state *o = t->first; o && code == XT_OK; o = o->next)
        if (!add_share(f->a, t, o))
            code = no_memory(err);
    return code;
}

void trace_settle_timestamp(struct trace_rec *r) {
    if (r->ts_source == TS_EXPLICIT)
        return;
    r->ts_source = r->t0 == TIME_NONE ? TS_FIRST_WRITE : TS_EARLIEST_START;
    r->ts = r->t0 == TIME_NONE ? r->created : r->t0;
}

/* What the rollups get: all of a new trace; of a stored one what changed, or all of it when its key did. */
static bool fold_rollups(struct rollup_fold *to, const struct trace_state *t) {
    bool stays = t->stored && same_key(&t->before, &t->now);
    if (!stays || t->before.nobs != t->now.nobs || trace_rec_cost(&t->before) != trace_rec_cost(&t->now)) {
        if ((t->stored && !rollup_trace(to, &t->before, -1)) || !rollup_trace(to, &t->now, 1))
            return false;
    }
    for (const struct tmodel *m = t->models; m; m = m->next) {
        if (stays && model_sums_equal(&m->before, &m->now))
            continue;
        if (!rollup_model(to, t->stored ? &t->before : &t->now, m->model, &m->before, -1) ||
            !rollup_model(to, &t->now, m->model, &m->now, 1))
            return false;
    }
    return true;
}

enum xt_code fold_settle(struct fold *f, struct trace_state *t, struct xt_err *err) {
    trace_settle_timestamp(&t->now);
    t->moved = t->stored && (t->before.ts != t->now.ts || t->before.ts_source != t->now.ts_source);
    return fold_rollups(&f->rollups, t) ? XT_OK : no_memory(err);
}
