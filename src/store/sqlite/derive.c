/* derive.c -- see derive.h. */
#include "store/sqlite/derive.h"

#include "store/sqlite/scan.h"

#define HOUR_BYTES ((size_t)1 << 30)
#define TRACE_BYTES ((size_t)1 << 30)

/* ---- one trace ---- */

void derive_begin(struct trace_state *t, struct map *models, struct arena *a) {
    map_init(models, a);
    t->models = NULL;
    t->now = t->before;
    t->now.nobs = t->now.ocost_n = 0;
    t->now.ocost = 0;
    t->now.t0 = t->now.t1 = TIME_NONE;
}

/* Sums of one model; `before` of the trace's list is for what the rows say. */
static struct tmodel *model_of(struct arena *a, struct trace_state *t, struct map *models, struct str model) {
    struct str key = rollup_text(a, model);
    struct tmodel *m = str_has(key) ? map_get(models, key) : NULL;
    if (m || !str_has(key))
        return m;
    m = arena_new(a, struct tmodel, 1);
    if (!m || !map_put(models, key, m))
        return NULL;
    m->model = key;
    m->next = t->models;
    t->models = m;
    return m;
}

bool derive_add(struct arena *a, struct trace_state *t, struct map *models, const struct observation *o) {
    struct trace_rec *n = &t->now;
    struct obs_share s;
    obs_share_of(o, &s);
    n->nobs++;
    n->ocost += s.cost;
    n->ocost_n += s.cost_known;
    if (s.start != TIME_NONE && (n->t0 == TIME_NONE || s.start < n->t0))
        n->t0 = s.start;
    if (s.end != TIME_NONE && (n->t1 == TIME_NONE || s.end > n->t1))
        n->t1 = s.end;
    if (!s.generation)
        return true;
    const struct model_sums one = { 1, s.in, s.out, s.total, s.cost };
    struct tmodel *m = model_of(a, t, models, s.model);
    if (m)
        model_sums_add(&m->now, &one, 1);
    return m != NULL;
}

bool derive_timestamp_holds(const struct trace_rec *row, const struct trace_rec *real) {
    if (row->ts_source == TS_EARLIEST_START)
        return row->ts == real->t0;
    return row->ts_source == TS_EXPLICIT || (row->ts == row->created && real->t0 == TIME_NONE);
}

/* ---- hours ---- */

struct hours {
    struct conn *c;
    struct group g; /* for trace_models_load: its arena is that of the present trace */
    struct arena trace, a;
    struct rollup_hour hour; /* start TIME_NONE: none yet */
    hour_visitor *visit;
    void *arg;
    int64_t n;
};

static enum xt_code hour_add(struct hours *h, int64_t tseq, struct xt_err *err) {
    struct trace_state t = { 0 };
    bool found;
    arena_reset(&h->trace);
    enum xt_code code = trace_fetch(h->c, SQL_TRACE_GET, tseq, &h->trace, &t.now, &found, err);
    if (code == XT_OK && found)
        code = trace_models_load(&h->g, &t, err);
    if (code != XT_OK || !found)
        return code;
    bool ok = rollup_trace(&h->hour.fold, &t.now, 1);
    for (const struct tmodel *m = t.models; m && ok; m = m->next)
        ok = rollup_model(&h->hour.fold, &t.now, m->model, &m->before, 1);
    h->hour.traces++;
    return ok ? XT_OK : no_memory(err);
}

static enum xt_code hour_next(struct hours *h, int64_t project, int64_t start, struct xt_err *err) {
    enum xt_code code = h->n > 0 ? h->visit(h->arg, &h->hour, err) : XT_OK;
    arena_reset(&h->a);
    h->hour = (struct rollup_hour){ .project = project, .start = start };
    rollup_init(&h->hour.fold, &h->a);
    h->n++;
    return code;
}

/* Traces come by project and time, so that one hour after the other is complete. */
static enum xt_code walk(struct hours *h, sqlite3_stmt *st, struct xt_err *err) {
    enum xt_code code = XT_OK;
    int rc = SQLITE_DONE;
    while (code == XT_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t project = sqlite3_column_int64(st, 0), start = time_floor(sqlite3_column_int64(st, 1), ROLLUP_HOUR);
        if (h->n == 0 || project != h->hour.project || start != h->hour.start)
            code = hour_next(h, project, start, err);
        if (code == XT_OK)
            code = hour_add(h, sqlite3_column_int64(st, 2), err);
    }
    if (code == XT_OK && rc != SQLITE_DONE)
        code = conn_fail(h->c, rc, "traces by time", err);
    return code == XT_OK && h->n > 0 ? h->visit(h->arg, &h->hour, err) : code;
}

enum xt_code derive_hours(struct sqlite_store *e, struct conn *c, hour_visitor *visit, void *arg, int64_t *ret_hours,
                          struct xt_err *err) {
    struct hours h = { .c = c, .visit = visit, .arg = arg };
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "SELECT project, ts, tseq FROM trace ORDER BY project, ts, tseq", -1, &st, NULL);
    if (rc != SQLITE_OK)
        return conn_fail(c, rc, "traces by time", err);
    arena_init(&h.a, HOUR_BYTES);
    arena_init(&h.trace, TRACE_BYTES);
    h.g = (struct group){ .e = e, .c = c, .a = &h.trace };
    enum xt_code code = walk(&h, st, err);
    sqlite3_finalize(st);
    arena_done(&h.trace);
    arena_done(&h.a);
    *ret_hours = h.n;
    return code;
}
