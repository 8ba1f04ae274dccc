/* put.c -- writes what a group folded: new rows by COPY, stored ones by one statement a table.
 *
 *  1. The order is that of write.h: new traces in order of keys, what belongs to traces, then stored traces.
 *  2. A new trace's timestamp is known before its row is written: all its observations are in the group. That of a stored
 *     one may follow from rows that the group leaves as they are: first start and last end are read after the
 *     observations were written.
 *  3. A stored row that is not there any more when it is written breaks the group: its lock should have kept it. */
#include <string.h>

#include "store/fold/packed.h"
#include "store/postgres/write.h"

#define SQL_COPY_TRACES                                                                                       \
    "COPY xtrace.trace(tseq, week, project, id, key, spell, id_text, ts, ts_source, created, updated, name, " \
    "user_id, session, tags, env, release, version, label, external, public, bookmarked, latency, cost, "     \
    "cost_text, nobs, t0, t1, ocost, ocost_n, pin, pout, pmeta) FROM STDIN (FORMAT binary)"
#define TRACE_COPIED 33
#define SQL_COPY_OBSERVATIONS                                                                                \
    "COPY xtrace.observation(week, tseq, oid, key, project, spell, created, updated, start_at, end_at, "     \
    "completion, type, level, name, model, parent, tin, tout, ttotal, cost, cost_source, price, pin, pout, " \
    "pmeta, rest) FROM STDIN (FORMAT binary)"
#define OBS_COPIED 26
#define SQL_SET_TRACES                                                                                            \
    "UPDATE xtrace.trace t SET ts = k.ts, ts_source = k.ts_source, updated = k.updated, name = k.name, "          \
    "user_id = k.user_id, session = k.session, env = k.env, release = k.release, version = k.version, "           \
    "label = k.label, external = k.external, public = k.public, bookmarked = k.bookmarked, "                      \
    "latency = k.latency, cost = k.cost, cost_text = k.cost_text, nobs = k.nobs, t0 = k.t0, t1 = k.t1, "          \
    "ocost = k.ocost, ocost_n = k.ocost_n, pin = k.pin, pout = k.pout, pmeta = k.pmeta FROM unnest($1, $2, $3, "  \
    "$4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25) AS " \
    "k(tseq, ts, ts_source, updated, name, user_id, session, env, release, version, label, external, public, "    \
    "bookmarked, latency, cost, cost_text, nobs, t0, t1, ocost, ocost_n, pin, pout, pmeta) WHERE t.tseq = k.tseq"
/* Lists of tags have no place in an array of their own: they travel one behind the other, with the number of each. */
#define SQL_SET_TAGS                                                                            \
    "UPDATE xtrace.trace t SET tags = ($3::text[])[k.first:k.last] FROM unnest($1, $2, $4) AS " \
    "k(tseq, first, last) WHERE t.tseq = k.tseq"
/* They are there: as an upsert because that goes by the key alone, whatever the planner thinks of a fresh partition. */
#define SQL_SET_OBSERVATIONS                                                                                     \
    "INSERT INTO xtrace.observation AS o (week, tseq, oid, project, spell, created, updated, start_at, end_at, " \
    "completion, type, level, name, model, parent, tin, tout, ttotal, cost, cost_source, price, pin, pout, "     \
    "pmeta, rest) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, "  \
    "$17, $18, $19, $20, $21, $22, $23, $24, $25) ON CONFLICT (week, tseq, oid) DO UPDATE SET "                  \
    "updated = excluded.updated, start_at = excluded.start_at, end_at = excluded.end_at, "                       \
    "completion = excluded.completion, type = excluded.type, level = excluded.level, name = excluded.name, "     \
    "model = excluded.model, parent = excluded.parent, tin = excluded.tin, tout = excluded.tout, "               \
    "ttotal = excluded.ttotal, cost = excluded.cost, cost_source = excluded.cost_source, "                       \
    "price = excluded.price, pin = excluded.pin, pout = excluded.pout, pmeta = excluded.pmeta, "                 \
    "rest = excluded.rest"
#define SQL_SPANS                                                                                    \
    "SELECT k.i, o.* FROM unnest($1, $2, $3) AS k(week, tseq, i), LATERAL (SELECT min(o.start_at), " \
    "max(o.end_at) FROM xtrace.observation o WHERE o.week = k.week AND o.tseq = k.tseq AND o.week = ANY($4)) o"

static const struct pg_trace *trace_of(const struct trace_state *t) { return t->arg; }

/* ---- values ---- */

static void put_tri(struct pg_conn *c, enum tri v) {
    if (v == TRI_NONE)
        pg_put_null(c);
    else
        pg_put_bool(c, v == TRI_TRUE);
}

static void put_opt(struct pg_conn *c, const struct opt_i64 *v) {
    if (v->has)
        pg_put_i64(c, v->v);
    else
        pg_put_null(c);
}

static void put_money(struct pg_conn *c, const struct opt_money *v) {
    if (v->has)
        pg_put_num(c, v->v);
    else
        pg_put_null(c);
}

static void put_nonzero(struct pg_conn *c, int64_t v) {
    if (v)
        pg_put_i64(c, v);
    else
        pg_put_null(c);
}

static void item_tri(struct pg_args *a, enum tri v) {
    if (v == TRI_NONE)
        pg_item_null(a);
    else
        pg_item_bool(a, v == TRI_TRUE);
}

static void item_opt(struct pg_args *a, const struct opt_i64 *v) {
    if (v->has)
        pg_item_i64(a, v->v);
    else
        pg_item_null(a);
}

static void item_money(struct pg_args *a, const struct opt_money *v) {
    if (v->has)
        pg_item_num(a, v->v);
    else
        pg_item_null(a);
}

static void item_nonzero(struct pg_args *a, int64_t v) {
    if (v)
        pg_item_i64(a, v);
    else
        pg_item_null(a);
}

static void item_source(struct pg_args *a, int v) {
    if (v)
        pg_item_i16(a, (int16_t)v);
    else
        pg_item_null(a);
}

/* The whole key beside its short form, when they differ. */
static struct str whole(struct str key, struct str shorter) { return shorter.p == key.p ? STR_NONE : key; }

/* ---- new traces ---- */

static void copy_tags(struct pg_group *g, struct str json, bool *ok) {
    struct str *tags;
    size_t n;
    if (!str_has(json)) {
        pg_put_null(g->c);
    } else if (tags_decode(g->a, json, &tags, &n)) {
        pg_put_texts(g->c, tags, n);
    } else {
        pg_put_null(g->c);
        *ok = false;
    }
}

static void copy_trace(struct pg_group *g, const struct pg_trace *p, bool *ok) {
    const struct trace_rec *r = &p->t->now;
    struct pg_conn *c = g->c;
    pg_copy_row(c, TRACE_COPIED);
    pg_put_i64(c, r->tseq);
    pg_put_i32(c, p->week);
    pg_put_i64(c, r->project);
    pg_put_bytes(c, p->id);
    pg_put_bytes(c, whole(r->id.key, p->id));
    pg_put_i16(c, (int16_t)r->id.spell);
    pg_put_text(c, r->id.spell == ID_TEXT ? r->id.text : STR_NONE);
    pg_put_i64(c, r->ts);
    pg_put_i16(c, (int16_t)r->ts_source);
    pg_put_i64(c, r->created);
    pg_put_i64(c, r->updated);
    pg_put_text(c, r->name);
    pg_put_text(c, r->user);
    pg_put_text(c, r->session);
    copy_tags(g, r->tags, ok);
    pg_put_text(c, r->env);
    pg_put_text(c, r->release);
    pg_put_text(c, r->version);
    pg_put_text(c, r->label);
    pg_put_text(c, r->external);
    put_tri(c, r->is_public);
    put_tri(c, r->bookmarked);
    pg_put_f64(c, r->latency);
    put_money(c, &r->cost);
    pg_put_text(c, r->cost.text);
    pg_put_i64(c, r->nobs);
    pg_put_time(c, r->t0);
    pg_put_time(c, r->t1);
    pg_put_num(c, r->ocost);
    pg_put_i64(c, r->ocost_n);
    for (int k = 0; k < PAYLOADS; k++)
        put_nonzero(c, r->pid[k]);
}

static enum xt_code copy_traces(struct pg_group *g, struct xt_err *err) {
    bool ok = true;
    if (g->nstored == g->ntraces)
        return XT_OK;
    enum xt_code code = pg_copy_begin(g->c, SQL_COPY_TRACES, err);
    if (code != XT_OK)
        return code;
    for (size_t i = 0; i < g->ntraces; i++)
        if (!g->traces[i].found)
            copy_trace(g, &g->traces[i], &ok);
    g->trips += 2;
    code = pg_copy_end(g->c, NULL, err);
    return code == XT_OK && !ok ? no_memory(err) : code;
}

/* ---- observations ---- */

static void copy_observation(struct pg_group *g, const struct pg_trace *p, const struct obs_rec *r, struct str rest) {
    const struct observation *v = &r->v;
    struct pg_conn *c = g->c;
    char room[PG_SHORT_MAX];
    struct str oid = pg_short(v->id.key, room);
    pg_copy_row(c, OBS_COPIED);
    pg_put_i32(c, p->week);
    pg_put_i64(c, r->tseq);
    pg_put_bytes(c, oid);
    pg_put_bytes(c, whole(v->id.key, oid));
    pg_put_i64(c, r->project);
    pg_put_i16(c, (int16_t)v->id.spell);
    pg_put_i64(c, r->created);
    pg_put_i64(c, r->updated);
    pg_put_time(c, v->start);
    pg_put_time(c, v->end);
    pg_put_time(c, v->completion_start);
    pg_put_text(c, v->type);
    pg_put_text(c, v->level);
    pg_put_text(c, v->name);
    pg_put_text(c, v->model);
    pg_put_bytes(c, v->parent_id.key);
    put_opt(c, &v->tokens_in);
    put_opt(c, &v->tokens_out);
    put_opt(c, &v->tokens_total);
    put_money(c, &v->cost_total);
    if (r->cost_source)
        pg_put_i16(c, (int16_t)r->cost_source);
    else
        pg_put_null(c);
    put_nonzero(c, r->price);
    for (int k = 0; k < PAYLOADS; k++)
        put_nonzero(c, r->pid[k]);
    pg_put_bytes(c, rest.n ? rest : STR_NONE);
}

static size_t count_observations(const struct pg_group *g, bool stored) {
    size_t n = 0;
    for (size_t i = 0; i < g->ntraces; i++)
        for (const struct obs_state *o = g->traces[i].t->first; o; o = o->next)
            n += o->stored == stored;
    return n;
}

/* In order of arrival, as traces are numbered: neighbours in the table's key. */
static enum xt_code copy_observations(struct pg_group *g, struct xt_err *err) {
    struct buf *rest = &g->w->rest;
    struct obs_rec r;
    bool ok = true;
    if (count_observations(g, false) == 0)
        return XT_OK;
    enum xt_code code = pg_copy_begin(g->c, SQL_COPY_OBSERVATIONS, err);
    if (code != XT_OK)
        return code;
    for (const struct trace_state *t = g->f.first; t; t = t->next)
        for (const struct obs_state *o = t->first; o; o = o->next) {
            if (o->stored)
                continue;
            fold_observation_row(t, o, &r);
            buf_clear(rest);
            ok = packed_write(rest, &r.v) && ok;
            copy_observation(g, trace_of(t), &r, buf_str(rest));
        }
    g->trips += 2;
    code = pg_copy_end(g->c, NULL, err);
    return code == XT_OK && !ok ? no_memory(err) : code;
}

/* A stored observation's new values. */
struct obs_set {
    int32_t week;
    struct str oid, rest;
    struct obs_rec r;
};

static enum xt_code list_sets(struct pg_group *g, struct obs_set *set, struct xt_err *err) {
    struct buf *rest = &g->w->rest;
    for (const struct trace_state *t = g->f.first; t; t = t->next)
        for (const struct obs_state *o = t->first; o; o = o->next) {
            if (!o->stored)
                continue;
            fold_observation_row(t, o, &set->r);
            buf_clear(rest);
            bool ok = packed_write(rest, &set->r.v);
            set->rest = rest->n ? arena_str(g->a, buf_str(rest)) : STR_NONE;
            set->oid = ((const struct pg_obs *)o->arg)->oid;
            set->week = trace_of(t)->week;
            if (!ok || g->a->failed)
                return no_memory(err);
            set++;
        }
    return XT_OK;
}

static void arg_sets(struct pg_args *a, const struct obs_set *s, size_t n) {
    COLUMN(a, PG_INT4, n, pg_item_i32(a, s[i].week));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, s[i].r.tseq));
    COLUMN(a, PG_BYTEA, n, pg_item_bytes(a, s[i].oid));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, s[i].r.project));
    COLUMN(a, PG_INT2, n, pg_item_i16(a, (int16_t)s[i].r.v.id.spell));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, s[i].r.created));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, s[i].r.updated));
    COLUMN(a, PG_INT8, n, pg_item_time(a, s[i].r.v.start));
    COLUMN(a, PG_INT8, n, pg_item_time(a, s[i].r.v.end));
    COLUMN(a, PG_INT8, n, pg_item_time(a, s[i].r.v.completion_start));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, s[i].r.v.type));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, s[i].r.v.level));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, s[i].r.v.name));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, s[i].r.v.model));
    COLUMN(a, PG_BYTEA, n, pg_item_bytes(a, s[i].r.v.parent_id.key));
    COLUMN(a, PG_INT8, n, item_opt(a, &s[i].r.v.tokens_in));
    COLUMN(a, PG_INT8, n, item_opt(a, &s[i].r.v.tokens_out));
    COLUMN(a, PG_INT8, n, item_opt(a, &s[i].r.v.tokens_total));
    COLUMN(a, PG_NUMERIC, n, item_money(a, &s[i].r.v.cost_total));
    COLUMN(a, PG_INT2, n, item_source(a, s[i].r.cost_source));
    COLUMN(a, PG_INT8, n, item_nonzero(a, s[i].r.price));
    for (int k = 0; k < PAYLOADS; k++)
        COLUMN(a, PG_INT8, n, item_nonzero(a, s[i].r.pid[k]));
    COLUMN(a, PG_BYTEA, n, pg_item_bytes(a, s[i].rest));
}

/* Runs an UPDATE of rows that this transaction holds. */
static enum xt_code run_set(struct pg_group *g, const char *sql, size_t rows, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = pg_query(g->c, sql, &g->w->args, &r, err);
    g->trips++;
    if (code == XT_OK && pg_touched(r) != (int64_t)rows)
        code = xt_fail(err, XT_EUNAVAILABLE, "stored rows vanished while they were written");
    PQclear(r);
    return code;
}

static enum xt_code set_observations(struct pg_group *g, struct xt_err *err) {
    size_t n = count_observations(g, true);
    if (n == 0)
        return XT_OK;
    struct obs_set *set = arena_new(g->a, struct obs_set, n);
    if (!set)
        return no_memory(err);
    enum xt_code code = list_sets(g, set, err);
    if (code != XT_OK)
        return code;
    pg_args_clear(&g->w->args);
    arg_sets(&g->w->args, set, n);
    return run_set(g, SQL_SET_OBSERVATIONS, n, err);
}

/* ---- stored traces ---- */

static enum xt_code take_spans(struct pg_group *g, const PGresult *r, struct xt_err *err) {
    if (PQnfields(r) != 3)
        return row_damaged(err);
    for (int row = 0; row < PQntuples(r); row++) {
        int64_t i = pg_i64(r, row, 0);
        if (i < 0 || (uint64_t)i >= g->ntraces)
            return row_damaged(err);
        struct trace_rec *now = &g->traces[i].t->now;
        now->t0 = pg_time(r, row, 1);
        now->t1 = pg_time(r, row, 2);
    }
    return XT_OK;
}

/* First start and last end among the rows, where they may have moved inwards. */
static enum xt_code find_spans(struct pg_group *g, struct xt_err *err) {
    struct pg_args *a = &g->w->args;
    struct pg_weeks weeks = { .n = 0 };
    const struct pg_trace **list = arena_new(g->a, const struct pg_trace *, g->nstored);
    PGresult *r = NULL;
    size_t n = 0;
    if (!list)
        return no_memory(err);
    for (size_t i = 0; i < g->ntraces; i++)
        if (g->traces[i].t->respan) {
            list[n++] = &g->traces[i];
            if (!pg_weeks_add(g->a, &weeks, g->traces[i].week))
                return no_memory(err);
        }
    if (n == 0)
        return XT_OK;
    pg_args_clear(a);
    COLUMN(a, PG_INT4, n, pg_item_i32(a, list[i]->week));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, list[i]->t->now.tseq));
    COLUMN(a, PG_INT4, n, pg_item_i32(a, (int32_t)(list[i] - g->traces)));
    pg_arg_weeks(a, &weeks);
    enum xt_code code = pg_query(g->c, SQL_SPANS, a, &r, err);
    g->trips++;
    if (code == XT_OK)
        code = take_spans(g, r, err);
    PQclear(r);
    return code;
}

static void arg_traces(struct pg_args *a, struct trace_state *const *t, size_t n) {
    COLUMN(a, PG_INT8, n, pg_item_i64(a, t[i]->now.tseq));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, t[i]->now.ts));
    COLUMN(a, PG_INT2, n, pg_item_i16(a, (int16_t)t[i]->now.ts_source));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, t[i]->now.updated));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.name));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.user));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.session));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.env));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.release));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.version));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.label));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.external));
    COLUMN(a, PG_BOOL, n, item_tri(a, t[i]->now.is_public));
    COLUMN(a, PG_BOOL, n, item_tri(a, t[i]->now.bookmarked));
    COLUMN(a, PG_FLOAT8, n, pg_item_f64(a, t[i]->now.latency));
    COLUMN(a, PG_NUMERIC, n, item_money(a, &t[i]->now.cost));
    COLUMN(a, PG_TEXT, n, pg_item_text(a, t[i]->now.cost.text));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, t[i]->now.nobs));
    COLUMN(a, PG_INT8, n, pg_item_time(a, t[i]->now.t0));
    COLUMN(a, PG_INT8, n, pg_item_time(a, t[i]->now.t1));
    COLUMN(a, PG_NUMERIC, n, pg_item_num(a, t[i]->now.ocost));
    COLUMN(a, PG_INT8, n, pg_item_i64(a, t[i]->now.ocost_n));
    for (int k = 0; k < PAYLOADS; k++)
        COLUMN(a, PG_INT8, n, item_nonzero(a, t[i]->now.pid[k]));
}

/* Tags that a stored trace got: they never go back to "never given". */
static enum xt_code set_tags(struct pg_group *g, struct trace_state *const *list, size_t nlist, struct xt_err *err) {
    struct pg_args *a = &g->w->args;
    size_t n = 0, total = 0, at = 0;
    struct tag_list {
        struct trace_state *t;
        struct str *v;
        size_t n;
    } *l = arena_new(g->a, struct tag_list, nlist);
    if (!l)
        return no_memory(err);
    for (size_t i = 0; i < nlist; i++)
        if (pg_new_tags(list[i])) {
            l[n].t = list[i];
            if (!tags_decode(g->a, list[i]->now.tags, &l[n].v, &l[n].n))
                return no_memory(err);
            total += l[n++].n;
        }
    if (n == 0)
        return XT_OK;
    pg_args_clear(a);
    COLUMN(a, PG_INT8, n, pg_item_i64(a, l[i].t->now.tseq));
    COLUMN(a, PG_INT4, n, {
        pg_item_i32(a, (int32_t)at + 1);
        at += l[i].n;
    });
    pg_arg_array(a, PG_TEXT, total);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < l[i].n; k++)
            pg_item_text(a, l[i].v[k]);
    at = 0;
    COLUMN(a, PG_INT4, n, {
        at += l[i].n;
        pg_item_i32(a, (int32_t)at);
    });
    return run_set(g, SQL_SET_TAGS, n, err);
}

static enum xt_code set_traces(struct pg_group *g, struct xt_err *err) {
    struct trace_state **list = arena_new(g->a, struct trace_state *, g->nstored);
    size_t n = 0;
    if (!list)
        return no_memory(err);
    for (struct trace_state *t = g->f.first; t; t = t->next)
        if (t->stored)
            list[n++] = t;
    if (n == 0)
        return XT_OK;
    pg_args_clear(&g->w->args);
    arg_traces(&g->w->args, list, n);
    enum xt_code code = run_set(g, SQL_SET_TRACES, n, err);
    return code == XT_OK ? set_tags(g, list, n, err) : code;
}

/* ---- all of it ---- */

static enum xt_code settle(struct pg_group *g, bool stored, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (struct trace_state *t = g->f.first; t && code == XT_OK; t = t->next)
        if (t->stored == stored)
            code = fold_settle(&g->f, t, err);
    return code;
}

enum xt_code pg_put(struct pg_group *g, struct xt_err *err) {
    enum xt_code code = XT_OK;
    for (size_t i = 0; i < g->ntraces && code == XT_OK; i++) {
        struct pg_trace *p = &g->traces[i];
        if (!p->found)
            p->week = pg_week(p->t->now.created);
        code = fold_sums(&g->f, p->t, err);
    }
    if (code == XT_OK)
        code = settle(g, false, err);
    if (code == XT_OK)
        code = group_texts_assign(g, err);
    if (code == XT_OK)
        code = copy_traces(g, err);
    if (code == XT_OK)
        code = copy_observations(g, err);
    if (code == XT_OK)
        code = set_observations(g, err);
    if (code == XT_OK)
        code = group_texts_put(g, err);
    if (code == XT_OK && g->nstored > 0)
        code = find_spans(g, err);
    if (code == XT_OK)
        code = settle(g, true, err);
    if (code == XT_OK)
        code = set_traces(g, err);
    return code == XT_OK ? pg_keys_put(g, err) : code;
}
