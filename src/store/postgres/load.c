/* load.c -- what is stored of the records a group brings: a handful of statements over sets, answers hung on the states of
 * the fold, which then asks as if row by row.
 *
 *  1. Traces are locked by the statement that loads them; everything else is read after their locks are held, by statements
 *     of their own, so that it is what the last holder left.
 *  2. Sets travel as arrays; each element carries the number of its state, and every answer names it: nothing is looked up
 *     by key. A number that was not asked for is damage.
 *  3. Weeks stand beside as a constant list, so that the planner sees few partitions. Of fresh ones it knows too little to
 *     choose well, so it is left no choice: what is asked for once an element is LATERAL behind a barrier (LIMIT, GROUP BY),
 *     and plans over whole tables are off for the time of the transaction. */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/write.h"

#define SQL_PLANS                                                                                    \
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), " \
    "set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true), " PG_SQL_STARTED
#define PLANS_STARTED 4 /* column */
#define SQL_TRACES                                                                  \
    "SELECT k.i, " PG_TRACE_COLUMNS " FROM unnest($1, $2, $3) AS k(project, id, i)" \
    " JOIN xtrace.trace t ON t.project = k.project AND t.id = k.id"                 \
    " ORDER BY t.project, t.id FOR UPDATE OF t"
#define SQL_TSEQS "SELECT nextval('xtrace.trace_tseq') FROM generate_series(1, $1)"
#define SQL_PIDS "SELECT nextval('xtrace.payload_pid') FROM generate_series(1, $1)"
#define SQL_OBSERVATIONS                                                            \
    "SELECT k.i, o.* FROM unnest($1, $2, $3, $4) AS k(week, tseq, oid, i), LATERAL" \
    " (SELECT " PG_OBS_COLUMNS " FROM xtrace.observation o WHERE o.week = k.week"   \
    "  AND o.tseq = k.tseq AND o.oid = k.oid AND o.week = ANY($5) LIMIT 1) o"
/* 'unknown' is what no model is called. */
#define SQL_MODELS                                                                               \
    "SELECT k.i, o.* FROM unnest($1, $2, $3) AS k(week, tseq, i), LATERAL"                       \
    " (SELECT nullif(o.model, 'unknown'), count(*), coalesce(sum(o.tin), 0),"                    \
    "  coalesce(sum(o.tout), 0), coalesce(sum(o.ttotal), 0), coalesce(sum(o.cost), 0)"           \
    "  FROM xtrace.observation o WHERE o.week = k.week AND o.tseq = k.tseq AND o.week = ANY($4)" \
    "  AND o.type = 'GENERATION' GROUP BY 1) o"

bool pg_group_keep(struct pg_group *g, PGresult *r) {
    if (!r)
        return true;
    if (g->nresults == GROUP_RESULTS) {
        PQclear(r);
        return false;
    }
    g->results[g->nresults++] = r;
    return true;
}

/* The state an answer's row speaks of, or n. */
static size_t number_at(const PGresult *r, int row, size_t n) {
    int64_t i = pg_is_null(r, row, 0) ? -1 : pg_i64(r, row, 0);
    return i >= 0 && (uint64_t)i < n ? (size_t)i : n;
}

/* ---- numbers ---- */

static bool has_pids(const struct pg_write_state *w, size_t most) {
    size_t left = 0;
    for (size_t i = 0; i < w->npids; i++) {
        size_t n = (size_t)(w->pids[i].end - w->pids[i].next);
        left += n > PACK_MAX_TEXTS ? n - PACK_MAX_TEXTS : 0; /* what a pack may leave at the end of a block */
    }
    return left >= most;
}

/* Blocks to ask for, so that `most` texts get numbers. */
static size_t missing_blocks(const struct pg_write_state *w, size_t most) {
    return has_pids(w, most) ? 0 : most / (PID_BLOCK - PACK_MAX_TEXTS) + 1;
}

static enum xt_code take_tseqs(struct pg_write_state *w, const PGresult *r, struct xt_err *err) {
    size_t n = (size_t)PQntuples(r);
    if (w->ntseqs + n > w->cap_tseqs) {
        size_t cap = w->ntseqs + n + 1024;
        int64_t *p = alloc_should_fail() ? NULL : realloc(w->tseqs, cap * sizeof *p);
        if (!p)
            return no_memory(err);
        w->tseqs = p;
        w->cap_tseqs = cap;
    }
    /* The lowest one is taken first: from the end. */
    memmove(w->tseqs + n, w->tseqs, w->ntseqs * sizeof *w->tseqs);
    for (size_t i = 0; i < n; i++)
        w->tseqs[n - 1 - i] = pg_i64(r, (int)i, 0);
    w->ntseqs += n;
    return XT_OK;
}

static enum xt_code take_pids(struct pg_write_state *w, const PGresult *r, struct xt_err *err) {
    size_t n = (size_t)PQntuples(r), kept = 0;
    for (size_t i = 0; i < w->npids; i++) /* blocks that are used up make room, then the oldest ones */
        if (w->pids[i].next < w->pids[i].end)
            w->pids[kept++] = w->pids[i];
    w->npids = kept;
    if (n > PID_BLOCKS_MAX)
        return xt_fail(err, XT_EREFUSED, "too many texts at once");
    if (kept + n > PID_BLOCKS_MAX) {
        size_t drop = kept + n - PID_BLOCKS_MAX;
        memmove(w->pids, w->pids + drop, (kept - drop) * sizeof *w->pids);
        w->npids = kept - drop;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t first = pg_i64(r, (int)i, 0);
        if (first < 1 || first > INT64_MAX - PID_BLOCK)
            return xt_fail(err, XT_EUNAVAILABLE, "the store's sequence of texts is damaged");
        w->pids[w->npids++] = (struct pid_block){ first, first + PID_BLOCK };
    }
    return XT_OK;
}

/* ---- sets ---- */

bool pg_weeks_add(struct arena *a, struct pg_weeks *s, int32_t week) {
    for (size_t i = s->n; i-- > 0;)
        if (s->v[i] == week)
            return true;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        int32_t *v = arena_new(a, int32_t, cap);
        if (!v)
            return false;
        if (s->n > 0)
            memcpy(v, s->v, s->n * sizeof *v);
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = week;
    return true;
}

void pg_arg_weeks(struct pg_args *args, const struct pg_weeks *s) {
    pg_arg_array(args, PG_INT4, s->n);
    for (size_t i = 0; i < s->n; i++)
        pg_item_i32(args, s->v[i]);
}

/* ---- traces ---- */

static int by_key(const void *a, const void *b) {
    const struct pg_trace *x = a, *y = b;
    if (x->t->now.project != y->t->now.project)
        return x->t->now.project < y->t->now.project ? -1 : 1;
    return str_cmp(x->id, y->id);
}

/* pg_short() of a key, where it lives as long as the group. Absent: no memory. */
struct str pg_short_key(struct arena *a, struct str key) {
    char room[PG_SHORT_MAX];
    struct str s = pg_short(key, room);
    return s.p == room ? arena_str(a, s) : s;
}

static enum xt_code list_traces(struct pg_group *g, struct xt_err *err) {
    size_t n = 0, i = 0;
    for (const struct trace_state *t = g->f.first; t; t = t->next)
        n++;
    g->traces = arena_new(g->a, struct pg_trace, n);
    if (!g->traces)
        return no_memory(err);
    for (struct trace_state *t = g->f.first; t; t = t->next, i++) {
        g->traces[i] = (struct pg_trace){ .t = t, .id = pg_short_key(g->a, t->now.id.key) };
        if (!str_has(g->traces[i].id))
            return no_memory(err);
    }
    g->ntraces = n;
    if (n > 1)
        qsort(g->traces, n, sizeof *g->traces, by_key);
    for (i = 0; i < n; i++)
        g->traces[i].t->arg = &g->traces[i];
    return XT_OK;
}

static enum xt_code send_traces(struct pg_group *g, struct xt_err *err) {
    struct pg_args *args = &g->w->args;
    pg_args_clear(args);
    pg_arg_array(args, PG_INT8, g->ntraces);
    for (size_t i = 0; i < g->ntraces; i++)
        pg_item_i64(args, g->traces[i].t->now.project);
    pg_arg_array(args, PG_BYTEA, g->ntraces);
    for (size_t i = 0; i < g->ntraces; i++)
        pg_item_bytes(args, g->traces[i].id);
    pg_arg_array(args, PG_INT4, g->ntraces);
    for (size_t i = 0; i < g->ntraces; i++)
        pg_item_i32(args, (int32_t)i);
    return pg_send(g->c, SQL_TRACES, args, err);
}

static enum xt_code take_traces(struct pg_group *g, const PGresult *r, struct xt_err *err) {
    if (PQnfields(r) != 1 + PG_TRACE_NCOLUMNS)
        return row_damaged(err);
    for (int row = 0; row < PQntuples(r); row++) {
        size_t i = number_at(r, row, g->ntraces);
        if (i == g->ntraces || g->traces[i].found)
            return row_damaged(err);
        struct pg_trace *p = &g->traces[i];
        enum xt_code code = pg_trace_read(r, row, 1, g->a, &p->rec, err);
        if (code != XT_OK)
            return code;
        p->found = true;
        p->week = pg_week(p->rec.created);
        g->nstored++;
    }
    return XT_OK;
}

static enum xt_code send_number(struct pg_group *g, const char *sql, size_t n, struct xt_err *err) {
    if (n == 0)
        return XT_OK;
    pg_args_clear(&g->w->args);
    pg_arg_i64(&g->w->args, (int64_t)n);
    return pg_send(g->c, sql, &g->w->args, err);
}

/* The next answer of a pipeline, kept until the group ends. */
static enum xt_code answer(struct pg_group *g, PGresult **ret, struct xt_err *err) {
    *ret = NULL;
    enum xt_code code = pg_answer(g->c, ret, err);
    if (code == XT_OK && !pg_group_keep(g, *ret))
        code = xt_fail(err, XT_ESTORE, "too many answers at once");
    return code;
}

/* A database that started anew may have gone back behind the numbers it gave (a crash, a failover): it gives them again, maybe
 * to others, so what is left of them is not used. */
static bool numbers_void(struct pg_write_state *w, int64_t started) {
    const bool anew = w->started != 0 && w->started != started;
    w->started = started;
    if (anew)
        w->ntseqs = w->npids = 0;
    return anew;
}

static enum xt_code load_numbers(struct pg_group *g, size_t tseqs, size_t blocks, struct xt_err *err) {
    PGresult *r = NULL;
    enum xt_code code = XT_OK;
    if (tseqs) {
        code = answer(g, &r, err);
        if (code == XT_OK)
            code = take_tseqs(g->w, r, err);
    }
    if (code == XT_OK && blocks) {
        code = answer(g, &r, err);
        if (code == XT_OK)
            code = take_pids(g->w, r, err);
    }
    return code;
}

static size_t missing_tseqs(const struct pg_group *g) {
    return g->ntraces > g->w->ntseqs ? g->ntraces - g->w->ntseqs : 0;
}

/* Numbers anew, when those in hand turned out to be void. */
static enum xt_code load_more_numbers(struct pg_group *g, struct xt_err *err) {
    size_t tseqs = missing_tseqs(g), blocks = missing_blocks(g->w, 3 * g->records);
    if (tseqs == 0 && blocks == 0)
        return XT_OK;
    enum xt_code code = pg_pipe(g->c, err);
    if (code == XT_OK)
        code = send_number(g, SQL_TSEQS, tseqs, err);
    if (code == XT_OK)
        code = send_number(g, SQL_PIDS, blocks, err);
    if (code == XT_OK)
        code = pg_flush(g->c, err);
    if (code == XT_OK)
        code = load_numbers(g, tseqs, blocks, err);
    enum xt_code end = pg_drain(g->c, err);
    g->trips++;
    return code == XT_OK ? end : code;
}

/* The transaction's first round trip: traces, and numbers for what is new. */
static enum xt_code load_traces(struct pg_group *g, struct xt_err *err) {
    struct pg_write_state *w = g->w;
    const size_t tseqs = missing_tseqs(g), blocks = missing_blocks(w, 3 * g->records);
    bool anew = false;
    PGresult *r;
    enum xt_code code = pg_pipe(g->c, err);
    if (code == XT_OK)
        code = pg_send(g->c, SQL_PLANS, NULL, err);
    if (code == XT_OK)
        code = send_traces(g, err);
    if (code == XT_OK)
        code = send_number(g, SQL_TSEQS, tseqs, err);
    if (code == XT_OK)
        code = send_number(g, SQL_PIDS, blocks, err);
    if (code == XT_OK)
        code = pg_flush(g->c, err);
    if (code == XT_OK)
        code = answer(g, &r, err);
    if (code == XT_OK)
        anew = numbers_void(w, pg_i64(r, 0, PLANS_STARTED));
    if (code == XT_OK)
        code = answer(g, &r, err);
    if (code == XT_OK)
        code = take_traces(g, r, err);
    if (code == XT_OK)
        code = load_numbers(g, tseqs, blocks, err);
    enum xt_code end = pg_drain(g->c, err);
    g->trips++;
    if (code == XT_OK)
        code = end;
    return code == XT_OK && anew ? load_more_numbers(g, err) : code;
}

/* ---- observations ---- */

/* Observations of stored traces, with what hangs on them. */
struct obs_list {
    struct pg_obs **v;
    struct trace_state **of;
    size_t n;
};

static enum xt_code list_observations(struct pg_group *g, struct obs_list *ret, struct xt_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < g->ntraces; i++)
        for (const struct obs_state *o = g->traces[i].found ? g->traces[i].t->first : NULL; o; o = o->next)
            n++;
    ret->v = arena_new(g->a, struct pg_obs *, n);
    ret->of = arena_new(g->a, struct trace_state *, n);
    if (!ret->v || !ret->of)
        return no_memory(err);
    for (size_t i = 0; i < g->ntraces; i++)
        for (struct obs_state *o = g->traces[i].found ? g->traces[i].t->first : NULL; o; o = o->next) {
            struct pg_obs *p = arena_new(g->a, struct pg_obs, 1);
            if (!p)
                return no_memory(err);
            p->oid = pg_short_key(g->a, o->oid);
            if (!str_has(p->oid))
                return no_memory(err);
            o->arg = p;
            ret->of[ret->n] = g->traces[i].t;
            ret->v[ret->n++] = p;
        }
    return XT_OK;
}

static const struct pg_trace *trace_of(const struct trace_state *t) { return t->arg; }

static enum xt_code take_observations(struct pg_group *g, const struct obs_list *l, const PGresult *r,
                                      struct xt_err *err) {
    if (PQnfields(r) != 1 + PG_OBS_NCOLUMNS)
        return row_damaged(err);
    for (int row = 0; row < PQntuples(r); row++) {
        size_t i = number_at(r, row, l->n);
        if (i == l->n || l->v[i]->found)
            return row_damaged(err);
        enum xt_code code = pg_obs_read(r, row, 1, g->a, &l->v[i]->rec, err);
        if (code != XT_OK)
            return code;
        l->v[i]->found = true;
    }
    return XT_OK;
}

static enum xt_code load_observations(struct pg_group *g, struct xt_err *err) {
    struct pg_args *args = &g->w->args;
    struct pg_weeks weeks = { .n = 0 };
    struct obs_list l = { .n = 0 };
    PGresult *r = NULL;
    bool ok = true;
    enum xt_code code = list_observations(g, &l, err);
    if (code != XT_OK || l.n == 0)
        return code;
    pg_args_clear(args);
    pg_arg_array(args, PG_INT4, l.n);
    for (size_t i = 0; i < l.n; i++) {
        const struct pg_trace *t = trace_of(l.of[i]);
        pg_item_i32(args, t->week);
        ok = ok && pg_weeks_add(g->a, &weeks, t->week);
    }
    pg_arg_array(args, PG_INT8, l.n);
    for (size_t i = 0; i < l.n; i++)
        pg_item_i64(args, trace_of(l.of[i])->rec.tseq);
    pg_arg_array(args, PG_BYTEA, l.n);
    for (size_t i = 0; i < l.n; i++)
        pg_item_bytes(args, l.v[i]->oid);
    pg_arg_array(args, PG_INT4, l.n);
    for (size_t i = 0; i < l.n; i++)
        pg_item_i32(args, (int32_t)i);
    pg_arg_weeks(args, &weeks);
    if (!ok)
        return no_memory(err);
    code = pg_query(g->c, SQL_OBSERVATIONS, args, &r, err);
    g->trips++;
    if (code == XT_OK && !pg_group_keep(g, r))
        code = xt_fail(err, XT_ESTORE, "too many answers at once");
    return code == XT_OK ? take_observations(g, &l, r, err) : code;
}

/* ---- sums by model ---- */

static enum xt_code arg_models(struct pg_group *g, bool all, size_t *ret_n, struct xt_err *err) {
    struct pg_args *args = &g->w->args;
    struct pg_weeks weeks = { .n = 0 };
    uint32_t *of = arena_new(g->a, uint32_t, g->nstored);
    size_t n = 0;
    if (!of)
        return no_memory(err);
    for (size_t i = 0; i < g->ntraces; i++)
        if (g->traces[i].found && (all || fold_wants_models(g->traces[i].t))) {
            of[n++] = (uint32_t)i;
            if (!pg_weeks_add(g->a, &weeks, g->traces[i].week))
                return no_memory(err);
        }
    *ret_n = n;
    if (n == 0)
        return XT_OK;
    pg_args_clear(args);
    pg_arg_array(args, PG_INT4, n);
    for (size_t i = 0; i < n; i++)
        pg_item_i32(args, g->traces[of[i]].week);
    pg_arg_array(args, PG_INT8, n);
    for (size_t i = 0; i < n; i++)
        pg_item_i64(args, g->traces[of[i]].rec.tseq);
    pg_arg_array(args, PG_INT4, n);
    for (size_t i = 0; i < n; i++)
        pg_item_i32(args, (int32_t)of[i]);
    pg_arg_weeks(args, &weeks);
    return XT_OK;
}

static enum xt_code take_models(struct pg_group *g, const PGresult *r, struct xt_err *err) {
    if (PQnfields(r) != 7)
        return row_damaged(err);
    for (int row = 0; row < PQntuples(r); row++) {
        size_t i = number_at(r, row, g->ntraces);
        if (i == g->ntraces)
            return row_damaged(err);
        struct pg_trace *p = &g->traces[i];
        struct pg_model *m = arena_new(g->a, struct pg_model, 1);
        if (!m)
            return no_memory(err);
        m->model = rollup_text(g->a, pg_text(g->a, r, row, 1));
        if (!str_has(m->model) || g->a->failed)
            return no_memory(err);
        m->sums = (struct model_sums){ .n = pg_i64(r, row, 2),
                                       .in = pg_num(r, row, 3),
                                       .out = pg_num(r, row, 4),
                                       .total = pg_num(r, row, 5),
                                       .cost = pg_num(r, row, 6) };
        m->next = p->models;
        p->models = m;
    }
    return XT_OK;
}

enum xt_code pg_load_models(struct pg_group *g, bool all, struct xt_err *err) {
    size_t n = 0;
    PGresult *r = NULL;
    enum xt_code code = arg_models(g, all, &n, err);
    if (code != XT_OK || n == 0)
        return code;
    code = pg_query(g->c, SQL_MODELS, &g->w->args, &r, err);
    g->trips++;
    if (code == XT_OK && !pg_group_keep(g, r))
        code = xt_fail(err, XT_ESTORE, "too many answers at once");
    return code == XT_OK ? take_models(g, r, err) : code;
}

/* ---- the whole ---- */

static enum xt_code want_metadata(struct pg_group *g, struct xt_err *err) {
    bool ok = true;
    for (size_t i = 0; i < g->ntraces && ok; i++) {
        struct pg_trace *p = &g->traces[i];
        if (!p->found)
            continue;
        if (p->t->wants_metadata)
            ok = group_text_want(g, p->week, p->rec.pid[PAYLOAD_METADATA]);
        for (const struct obs_state *o = p->t->first; o && ok; o = o->next) {
            const struct pg_obs *b = o->arg;
            if (o->wants_metadata && b->found)
                ok = group_text_want(g, p->week, b->rec.pid[PAYLOAD_METADATA]);
        }
    }
    return ok ? XT_OK : no_memory(err);
}

/* Texts that are given anew: those that come again as they are need no row. */
static bool want_again(struct pg_group *g, int32_t week, const struct fold_text given[PAYLOADS],
                       const int64_t pid[PAYLOADS]) {
    bool ok = true;
    for (int k = 0; k < PAYLOADS && ok; k++)
        if (str_has(given[k].text))
            ok = group_text_want(g, week, pid[k]);
    return ok;
}

static enum xt_code want_texts(struct pg_group *g, struct xt_err *err) {
    struct fold_text given[PAYLOADS];
    bool ok = true;
    for (size_t i = 0; i < g->ntraces && ok; i++) {
        const struct pg_trace *p = &g->traces[i];
        if (!p->found)
            continue;
        fold_trace_texts(p->t, given);
        ok = want_again(g, p->week, given, p->t->now.pid);
        for (const struct obs_state *o = p->t->first; o && ok; o = o->next)
            if (o->stored) {
                fold_observation_texts(o, given);
                ok = want_again(g, p->week, given, o->pid);
            }
    }
    return ok ? XT_OK : no_memory(err);
}

enum xt_code pg_load(struct pg_group *g, struct xt_err *err) {
    enum xt_code code = list_traces(g, err);
    if (code == XT_OK)
        code = load_traces(g, err);
    if (code != XT_OK || g->nstored == 0)
        return code;
    code = load_observations(g, err);
    if (code == XT_OK)
        code = want_metadata(g, err);
    return code == XT_OK ? group_texts_load(g, err) : code;
}

enum xt_code pg_load_more(struct pg_group *g, struct xt_err *err) {
    if (g->nstored == 0)
        return XT_OK;
    enum xt_code code = want_texts(g, err);
    if (code == XT_OK)
        code = group_texts_load(g, err);
    return code == XT_OK ? pg_load_models(g, false, err) : code;
}

/* ---- the fold's questions ---- */

static enum xt_code say_trace(void *arg, const struct trace_state *t, struct trace_rec *ret, bool *ret_found,
                              struct xt_err *err) {
    const struct pg_trace *p = t->arg;
    (void)arg;
    (void)err;
    *ret_found = p->found;
    if (p->found)
        *ret = p->rec;
    return XT_OK;
}

static enum xt_code say_observation(void *arg, const struct trace_state *t, const struct obs_state *o,
                                    struct obs_rec *ret, bool *ret_found, struct xt_err *err) {
    const struct pg_obs *p = o->arg;
    (void)arg;
    (void)t;
    (void)err;
    *ret_found = p && p->found;
    if (*ret_found)
        *ret = p->rec;
    return XT_OK;
}

static enum xt_code say_metadata(void *arg, const struct trace_state *t, const struct obs_state *o, int64_t pid,
                                 struct str *ret, struct xt_err *err) {
    (void)t;
    (void)o;
    *ret = group_text_get(arg, pid);
    return str_has(*ret) ? XT_OK : row_damaged(err);
}

static enum xt_code say_models(void *arg, struct trace_state *t, struct xt_err *err) {
    struct pg_group *g = arg;
    const struct pg_trace *p = t->arg;
    for (const struct pg_model *m = p->models; m; m = m->next)
        if (!fold_model(g->a, t, m->model, &m->sums))
            return no_memory(err);
    return XT_OK;
}

static enum xt_code say_number(void *arg, const struct trace_state *t, int64_t *ret_tseq, struct xt_err *err) {
    struct pg_write_state *w = ((struct pg_group *)arg)->w;
    (void)t;
    if (w->ntseqs == 0)
        return xt_fail(err, XT_ESTORE, "no number is left for a new trace");
    *ret_tseq = w->tseqs[--w->ntseqs];
    return XT_OK;
}

const struct fold_source pg_fold_source = { .trace = say_trace,
                                            .observation = say_observation,
                                            .metadata = say_metadata,
                                            .models = say_models,
                                            .number = say_number };
