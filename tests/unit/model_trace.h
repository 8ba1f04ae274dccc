/* model_trace.h -- a plain model in memory of what a store of traces must answer: records are applied one by one to arrays,
 * and every read is a loop over all of them. Included by the tests that compare a store with it. */
#pragma once
#include "trace_fixture.h"

#include "json/json_merge.h"
#include "store/fold/rollup_fold.h"

#define MODEL_TRACES 1024
#define MODEL_OBS 24

struct m_obs {
    struct observation v;
    struct str label, env;
    int64_t created, updated;
};
struct m_trace {
    int64_t project, arrival, created, updated;
    struct trace v; /* timestamp: the explicit one */
    struct m_obs obs[MODEL_OBS];
    size_t nobs;
};
struct model {
    struct arena a;
    struct m_trace t[MODEL_TRACES];
    size_t n;
    int64_t arrivals;
};
static struct model model;

static struct m_trace *m_find(int64_t project, struct str key) {
    for (size_t i = 0; i < model.n; i++)
        if (model.t[i].project == project && str_eq(model.t[i].v.id.key, key))
            return &model.t[i];
    return NULL;
}

static struct str keep(struct str s) { return arena_str(&model.a, s); }
static struct id keep_id(struct id id) { return (struct id){ keep(id.key), id.spell, keep(id.text) }; }

static struct m_trace *m_trace_of(const struct batch *b, struct id id, struct str env, struct str label) {
    struct m_trace *t = m_find(b->project, id.key);
    if (t)
        return t;
    assert_true(model.n < MODEL_TRACES);
    t = &model.t[model.n++];
    memset(t, 0, sizeof *t);
    t->project = b->project;
    t->arrival = model.arrivals++;
    t->created = t->updated = b->received;
    t->v.id = keep_id(id);
    t->v.timestamp = TIME_NONE;
    t->v.latency = (double)NAN;
    t->v.environment = str_has(env) ? keep(env) : STR_LIT("default");
    t->v.project_label = str_has(label) ? keep(label) : keep(b->default_label);
    return t;
}

static void m_str(struct str *into, struct str given) {
    if (str_has(given))
        *into = keep(given);
}
static void m_meta(struct str *into, enum merge_mode mode, struct str given) {
    if (str_has(given))
        *into = keep(mode == MERGE_DEEP ? json_merge(&model.a, *into, keep(given)) : given);
}
static void m_money(struct opt_money *into, struct opt_money given) {
    if (given.has)
        *into = (struct opt_money){ given.v, true, keep(given.text) };
}

static bool m_has_tag(const struct str *tags, size_t n, struct str tag) {
    for (size_t i = 0; i < n; i++)
        if (str_eq(tags[i], tag))
            return true;
    return false;
}

static void m_tags(struct trace *v, const struct trace *given) {
    struct str *tags = arena_new(&model.a, struct str, v->ntags + given->ntags);
    size_t n = 0;
    if (given->merge == MERGE_DEEP)
        for (size_t i = 0; i < v->ntags; i++)
            if (!m_has_tag(tags, n, v->tags[i]))
                tags[n++] = v->tags[i];
    for (size_t i = 0; i < given->ntags; i++)
        if (given->merge != MERGE_DEEP || !m_has_tag(tags, n, given->tags[i]))
            tags[n++] = keep(given->tags[i]);
    v->tags = tags;
    v->ntags = n;
}

static void m_apply_trace(const struct batch *b, const struct trace *g) {
    struct m_trace *t = m_trace_of(b, g->id, g->environment, g->project_label);
    struct trace *v = &t->v;
    if (b->received > t->updated)
        t->updated = b->received;
    if (g->timestamp != TIME_NONE)
        v->timestamp = g->timestamp;
    if (!(g->name_weak && str_has(v->name)))
        m_str(&v->name, g->name);
    m_str(&v->user, g->user);
    m_str(&v->session, g->session);
    m_str(&v->release, g->release);
    m_str(&v->version, g->version);
    m_str(&v->environment, g->environment);
    m_str(&v->project_label, g->project_label);
    m_str(&v->external_id, g->external_id);
    m_str(&v->input, g->input);
    m_str(&v->output, g->output);
    m_meta(&v->metadata, g->merge, g->metadata);
    if (g->tags_has)
        m_tags(v, g);
    if (g->is_public != TRI_NONE && !(g->merge == MERGE_DEEP && v->is_public == TRI_TRUE))
        v->is_public = g->is_public;
    if (g->bookmarked != TRI_NONE)
        v->bookmarked = g->bookmarked;
    if (!isnan(g->latency))
        v->latency = g->latency;
    m_money(&v->total_cost, g->total_cost);
}

static void m_apply_obs(const struct batch *b, const struct observation *g) {
    struct m_trace *t = m_trace_of(b, g->trace_id, g->environment, g->project_label);
    struct m_obs *o = NULL;
    for (size_t i = 0; i < t->nobs; i++)
        if (str_eq(t->obs[i].v.id.key, g->id.key))
            o = &t->obs[i];
    if (!o) {
        assert_true(t->nobs < MODEL_OBS);
        o = &t->obs[t->nobs++];
        memset(o, 0, sizeof *o);
        o->v.id = keep_id(g->id);
        o->v.type = STR_LIT("GENERATION");
        o->v.start = o->v.end = o->v.completion_start = TIME_NONE;
        o->v.latency = o->v.time_to_first_token = o->v.input_price = o->v.output_price = o->v.total_price = (double)NAN;
        o->env = STR_LIT("default");
        o->label = keep(b->default_label);
        o->created = o->updated = b->received;
    }
    struct observation *v = &o->v;
    if (b->received > o->updated)
        o->updated = b->received;
    if (id_has(&g->parent_id)) {
        v->parent_id = keep_id(g->parent_id);
        if (g->parent_id.spell != ID_TEXT && g->parent_id.spell == g->id.spell && v->id.spell != ID_TEXT)
            v->parent_id.spell = v->id.spell;
    }
    struct str *const into[] = {
        &v->type,          &v->name,         &v->model,       &v->model_parameters, &v->input,
        &v->output,        &v->unit,         &v->level,       &v->status_message,   &o->env,
        &o->label,         &v->prompt_id,    &v->prompt_name, &v->prompt_version,   &v->model_id,
        &v->usage_buckets, &v->cost_buckets, &v->version
    };
    const struct str given[] = { g->type,          g->name,         g->model,       g->model_parameters, g->input,
                                 g->output,        g->unit,         g->level,       g->status_message,   g->environment,
                                 g->project_label, g->prompt_id,    g->prompt_name, g->prompt_version,   g->model_id,
                                 g->usage_buckets, g->cost_buckets, g->version };
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        m_str(into[i], given[i]);
    m_meta(&v->metadata, g->merge, g->metadata);
    int64_t *const times[] = { &v->start, &v->end, &v->completion_start };
    const int64_t given_times[] = { g->start, g->end, g->completion_start };
    for (int i = 0; i < 3; i++)
        if (given_times[i] != TIME_NONE)
            *times[i] = given_times[i];
    double *const numbers[] = { &v->latency, &v->time_to_first_token, &v->input_price, &v->output_price,
                                &v->total_price };
    const double given_numbers[] = { g->latency, g->time_to_first_token, g->input_price, g->output_price,
                                     g->total_price };
    for (int i = 0; i < 5; i++)
        if (!isnan(given_numbers[i]))
            *numbers[i] = given_numbers[i];
    struct opt_i64 *const tokens[] = { &v->tokens_in, &v->tokens_out, &v->tokens_total };
    const struct opt_i64 given_tokens[] = { g->tokens_in, g->tokens_out, g->tokens_total };
    for (int i = 0; i < 3; i++) {
        if (!given_tokens[i].has)
            continue;
        *tokens[i] = given_tokens[i];
        v->usage_buckets = keep(g->usage_buckets); /* the stored map is untrue now */
    }
    if (g->cost_input.has || g->cost_output.has || g->cost_total.has)
        v->cost_buckets = keep(g->cost_buckets); /* likewise */
    m_money(&v->cost_input, g->cost_input);
    m_money(&v->cost_output, g->cost_output);
    m_money(&v->cost_total, g->cost_total);
}

static void m_apply(const struct batch *b) {
    for (size_t i = 0; i < b->ntraces; i++)
        m_apply_trace(b, &b->traces[i]);
    for (size_t i = 0; i < b->nobservations; i++)
        m_apply_obs(b, &b->observations[i]);
}

static void m_retain(int64_t cutoff) {
    size_t n = 0;
    for (size_t i = 0; i < model.n; i++)
        if (model.t[i].created >= cutoff)
            memmove(&model.t[n++], &model.t[i], sizeof model.t[i]);
    model.n = n;
}

/* ---- what the model says ---- */

static int64_t m_ts(const struct m_trace *t) {
    int64_t first = TIME_NONE;
    if (t->v.timestamp != TIME_NONE)
        return t->v.timestamp;
    for (size_t i = 0; i < t->nobs; i++)
        if (t->obs[i].v.start != TIME_NONE && (first == TIME_NONE || t->obs[i].v.start < first))
            first = t->obs[i].v.start;
    return first == TIME_NONE ? t->created : first;
}

static bool m_cost(const struct m_trace *t, money *ret) {
    bool known = t->v.total_cost.has;
    *ret = t->v.total_cost.v;
    for (size_t i = 0; i < t->nobs && !t->v.total_cost.has; i++)
        if (t->obs[i].v.cost_total.has) {
            *ret += t->obs[i].v.cost_total.v;
            known = true;
        }
    return known;
}

static double m_latency(const struct m_trace *t) {
    int64_t first = TIME_NONE, last = TIME_NONE;
    for (size_t i = 0; i < t->nobs; i++) {
        const struct observation *v = &t->obs[i].v;
        if (v->start != TIME_NONE && (first == TIME_NONE || v->start < first))
            first = v->start;
        if (v->end != TIME_NONE && (last == TIME_NONE || v->end > last))
            last = v->end;
    }
    if (!isnan(t->v.latency) || first == TIME_NONE || last == TIME_NONE)
        return t->v.latency;
    return (double)(last - first) / 1e9;
}

static int m_before(const void *a, const void *b) { /* order of a trace's observations */
    const struct m_obs *x = *(const struct m_obs *const *)a, *y = *(const struct m_obs *const *)b;
    bool nx = x->v.start == TIME_NONE, ny = y->v.start == TIME_NONE;
    if (nx != ny)
        return nx - ny;
    if (x->v.start != y->v.start)
        return x->v.start < y->v.start ? -1 : 1;
    if (x->created != y->created)
        return x->created < y->created ? -1 : 1;
    return str_cmp(x->v.id.key, y->v.id.key);
}

static size_t m_sorted(const struct m_trace *t, const struct m_obs **out) {
    for (size_t i = 0; i < t->nobs; i++)
        out[i] = &t->obs[i];
    qsort(out, t->nobs, sizeof *out, m_before);
    return t->nobs;
}

static const struct m_obs *m_root(const struct m_trace *t) {
    const struct m_obs *all[MODEL_OBS];
    size_t n = m_sorted(t, all);
    for (size_t i = 0; i < n; i++) {
        bool inside = false;
        for (size_t k = 0; k < n; k++)
            inside = inside || (id_has(&all[i]->v.parent_id) && str_eq(all[k]->v.id.key, all[i]->v.parent_id.key));
        if (!inside)
            return all[i];
    }
    return NULL;
}

static struct trace_row m_row(const struct m_trace *t, bool io) {
    const struct trace *v = &t->v;
    struct trace_row r = {
        .id = id_print(&model.a, v->id.key, v->id.spell, v->id.text),
        .timestamp = m_ts(t),
        .created = t->created,
        .updated = t->updated,
        .name = v->name,
        .user = v->user,
        .session = v->session,
        .release = v->release,
        .version = v->version,
        .environment = v->environment,
        .external_id = v->external_id,
        .label = v->project_label,
        .tags = v->tags,
        .ntags = v->ntags,
        .is_public = v->is_public == TRI_TRUE,
        .bookmarked = v->bookmarked == TRI_TRUE,
        .latency = m_latency(t),
        .cost_text = v->total_cost.text,
    };
    r.cost_known = m_cost(t, &r.cost);
    if (io) {
        const struct m_obs *root = m_root(t);
        r.input = str_has(v->input) || !root ? v->input : root->v.input;
        r.output = str_has(v->output) || !root ? v->output : root->v.output;
        r.metadata = v->metadata;
    }
    return r;
}

static void m_show_obs(const struct m_obs *o, struct str trace_id, struct buf *out) {
    const struct observation *v = &o->v;
    struct observation_row r = {
        .id = id_print(&model.a, v->id.key, v->id.spell, v->id.text),
        .trace_id = trace_id,
        .type = v->type,
        .name = v->name,
        .level = v->level,
        .status_message = v->status_message,
        .environment = o->env,
        .label = o->label,
        .start = v->start,
        .end = v->end,
        .completion_start = v->completion_start,
        .created = o->created,
        .updated = o->updated,
        .model = v->model,
        .model_parameters = v->model_parameters,
        .input = v->input,
        .output = v->output,
        .metadata = v->metadata,
        .unit = v->unit,
        .prompt_id = v->prompt_id,
        .prompt_name = v->prompt_name,
        .prompt_version = v->prompt_version,
        .version = v->version,
        .model_id = v->model_id,
        .input_price = v->input_price,
        .output_price = v->output_price,
        .total_price = v->total_price,
        .cost_input = v->cost_input,
        .cost_output = v->cost_output,
        .cost_total = v->cost_total,
        .usage_buckets = v->usage_buckets,
        .cost_buckets = v->cost_buckets,
        .cost_source = v->cost_total.has ? STR_LIT("given") : STR_NONE,
        .latency = v->latency,
        .time_to_first_token = v->time_to_first_token,
        .tokens_in = v->tokens_in,
        .tokens_out = v->tokens_out,
        .tokens_total = v->tokens_total,
    };
    if (id_has(&v->parent_id))
        r.parent_id = id_print(&model.a, v->parent_id.key, v->parent_id.spell, v->parent_id.text);
    if (isnan(r.latency) && v->start != TIME_NONE && v->end != TIME_NONE)
        r.latency = (double)(v->end - v->start) / 1e9;
    if (isnan(r.time_to_first_token) && v->start != TIME_NONE && v->completion_start != TIME_NONE)
        r.time_to_first_token = (double)(v->completion_start - v->start) / 1e9;
    out_obs(out, &r);
}

static void m_get(int64_t project, const char *id, struct buf *out) {
    struct str key;
    assert_true(id_key(&model.a, str_c(id), &key));
    const struct m_trace *t = m_find(project, key);
    const struct m_obs *all[MODEL_OBS];
    if (!t) {
        buf_add_c(out, "not found\n");
        return;
    }
    struct trace_row row = m_row(t, true);
    out_trace(out, &row);
    size_t n = m_sorted(t, all);
    for (size_t i = 0; i < n; i++)
        m_show_obs(all[i], row.id, out);
}

/* Traces stand in order of arrival. */
static void m_observations(int64_t project, struct str key, struct buf *out) {
    for (size_t i = model.n; i-- > 0;) {
        const struct m_trace *t = &model.t[i];
        for (size_t k = 0; k < t->nobs && t->project == project; k++)
            if (str_eq(t->obs[k].v.id.key, key))
                m_show_obs(&t->obs[k], id_print(&model.a, t->v.id.key, t->v.id.spell, t->v.id.text), out);
    }
}

static bool m_is(struct str want, struct str have) { return !str_has(want) || str_eq(want, have); }

static bool m_match(const struct m_trace *t, const struct trace_query *q) {
    const struct trace *v = &t->v;
    bool tags = true;
    for (size_t i = 0; i < q->ntags; i++)
        tags = tags && m_has_tag(v->tags, v->ntags, q->tags[i]);
    return t->project == q->project && m_ts(t) >= q->from && m_ts(t) <= q->to && m_is(q->label, v->project_label) &&
           m_is(q->user, v->user) && m_is(q->name, v->name) && m_is(q->session, v->session) &&
           m_is(q->version, v->version) && m_is(q->release, v->release) && tags &&
           (q->nenvironments == 0 || m_has_tag(q->environments, q->nenvironments, v->environment));
}

static const struct trace_query *m_asked; /* of the sort in progress */

static int m_cmp_str(struct str a, struct str b) {
    if (str_has(a) != str_has(b))
        return str_has(a) ? -1 : 1; /* none is the greatest */
    return str_cmp(a, b);
}

static int m_cmp_f64(double a, double b) {
    if (isnan(a) || isnan(b))
        return isnan(a) - isnan(b);
    return (a > b) - (a < b);
}

static int m_cmp(const void *a, const void *b) {
    const struct m_trace *x = *(const struct m_trace *const *)a, *y = *(const struct m_trace *const *)b;
    money cx, cy;
    int cmp = 0;
    switch (m_asked->order) {
    case ORDER_TIMESTAMP: cmp = (m_ts(x) > m_ts(y)) - (m_ts(x) < m_ts(y)); break;
    case ORDER_ID: cmp = m_cmp_str(x->v.id.key, y->v.id.key); break;
    case ORDER_NAME: cmp = m_cmp_str(x->v.name, y->v.name); break;
    case ORDER_USER: cmp = m_cmp_str(x->v.user, y->v.user); break;
    case ORDER_RELEASE: cmp = m_cmp_str(x->v.release, y->v.release); break;
    case ORDER_VERSION: cmp = m_cmp_str(x->v.version, y->v.version); break;
    case ORDER_SESSION: cmp = m_cmp_str(x->v.session, y->v.session); break;
    case ORDER_PUBLIC: cmp = (x->v.is_public == TRI_TRUE) - (y->v.is_public == TRI_TRUE); break;
    case ORDER_BOOKMARKED: cmp = (x->v.bookmarked == TRI_TRUE) - (y->v.bookmarked == TRI_TRUE); break;
    case ORDER_LATENCY: cmp = m_cmp_f64(m_latency(x), m_latency(y)); break;
    case ORDER_TOTAL_COST: {
        bool kx = m_cost(x, &cx), ky = m_cost(y, &cy);
        cmp = kx != ky ? ky - kx : kx ? (cx > cy) - (cx < cy) : 0;
        break;
    }
    }
    if (cmp == 0)
        cmp = (x->arrival > y->arrival) - (x->arrival < y->arrival);
    return m_asked->descending ? -cmp : cmp;
}

static int m_cmp_key(const void *a, const void *b) {
    return str_cmp((*(const struct m_obs *const *)a)->v.id.key, (*(const struct m_obs *const *)b)->v.id.key);
}

static int64_t m_list(const struct trace_query *q, struct buf *out) {
    const struct m_trace *hits[MODEL_TRACES];
    int64_t n = 0;
    for (size_t i = 0; i < model.n; i++)
        if (m_match(&model.t[i], q))
            hits[n++] = &model.t[i];
    m_asked = q;
    qsort(hits, (size_t)n, sizeof *hits, m_cmp);
    for (int64_t i = q->offset; i < n && i < q->offset + q->limit; i++) {
        struct trace_row row = m_row(hits[i], q->want_io);
        struct str ids[MODEL_OBS];
        const struct m_obs *all[MODEL_OBS];
        if (q->want_observations) {
            row.nobservation_ids = m_sorted(hits[i], all);
            qsort(all, row.nobservation_ids, sizeof *all, m_cmp_key);
            for (size_t k = 0; k < row.nobservation_ids; k++)
                ids[k] = id_print(&model.a, all[k]->v.id.key, all[k]->v.id.spell, all[k]->v.id.text);
            row.observation_ids = ids;
        }
        out_trace(out, &row);
    }
    return n;
}

static int m_cmp_usage(const void *a, const void *b) {
    const struct day_usage *x = a, *y = b;
    if (x->cost != y->cost)
        return x->cost < y->cost ? 1 : -1;
    return str_cmp(x->model, y->model);
}

static void m_day(int64_t day, const struct trace_query *f, struct buf *out) {
    struct day_usage usage[8];
    __int128 sums[8][3];
    struct day_row row = { .day = day, .usage = usage };
    for (size_t i = 0; i < model.n; i++) {
        const struct m_trace *t = &model.t[i];
        uint32_t seen = 0;
        money cost;
        if (!m_match(t, f) || time_floor(m_ts(t), NS_PER_DAY) != day)
            continue;
        row.traces++;
        row.observations += (int64_t)t->nobs;
        m_cost(t, &cost);
        row.cost += cost;
        for (size_t k = 0; k < t->nobs; k++) {
            const struct observation *v = &t->obs[k].v;
            struct str name = str_has(v->model) ? v->model : STR_LIT("unknown");
            size_t u = 0;
            if (!str_eq_c(v->type, "GENERATION"))
                continue;
            while (u < row.nusage && !str_eq(usage[u].model, name))
                u++;
            if (u == row.nusage) {
                assert_true(u < 8);
                usage[row.nusage++] = (struct day_usage){ .model = name };
                sums[u][0] = sums[u][1] = sums[u][2] = 0;
            }
            usage[u].observations++;
            usage[u].traces += !(seen >> u & 1);
            seen |= UINT32_C(1) << u;
            sums[u][0] += v->tokens_in.v;
            sums[u][1] += v->tokens_out.v;
            sums[u][2] += v->tokens_total.v;
            usage[u].cost += v->cost_total.v;
        }
    }
    for (size_t u = 0; u < row.nusage; u++) {
        usage[u].tokens_in = sum_to_i64(sums[u][0]);
        usage[u].tokens_out = sum_to_i64(sums[u][1]);
        usage[u].tokens_total = sum_to_i64(sums[u][2]);
    }
    qsort(usage, row.nusage, sizeof *usage, m_cmp_usage);
    out_day(out, &row);
}

static int m_cmp_i64(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y); /* descending */
}

static int64_t m_daily(const struct daily_query *q, struct buf *out) {
    const struct trace_query f = { .project = q->project,
                                   .label = q->label,
                                   .user = q->user,
                                   .name = q->trace_name,
                                   .version = q->version,
                                   .release = q->release,
                                   .tags = q->tags,
                                   .ntags = q->ntags,
                                   .from = q->from,
                                   .to = q->to };
    int64_t days[MODEL_TRACES], n = 0, kept = 0;
    for (size_t i = 0; i < model.n; i++)
        if (m_match(&model.t[i], &f))
            days[n++] = time_floor(m_ts(&model.t[i]), NS_PER_DAY);
    qsort(days, (size_t)n, sizeof *days, m_cmp_i64);
    for (int64_t i = 0; i < n; i++)
        if (kept == 0 || days[kept - 1] != days[i])
            days[kept++] = days[i];
    for (int64_t i = q->offset; i < kept && i < q->offset + q->limit; i++)
        m_day(days[i], &f, out);
    return kept;
}
