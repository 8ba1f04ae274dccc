/* derive.c -- see derive.h. */
#include "store/fold/derive.h"

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
    struct obs_share s;
    obs_share_of(o, &s);
    t->now.nobs++;
    obs_share_add(&t->now, &s);
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
