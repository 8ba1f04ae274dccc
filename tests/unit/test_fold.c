/* test_fold.c -- folding against a source in memory: what is asked, what states say, one by one and collected first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/fold/derive.h"

#define T0 (INT64_C(1767225600) * NS_PER_SEC) /* 2026-01-01 */
#define MOST 8

/* What is stored, and how often each thing was asked for. */
struct memory {
    struct trace_rec traces[MOST];
    struct obs_rec obs[MOST];
    size_t ntraces, nobs;
    struct str text; /* of every number */
    struct model_sums sums;
    struct str model; /* absent: no sums */
    int asked_traces, asked_obs, asked_texts, asked_models, numbers;
    enum xt_code fails; /* answer of every question */
};

static enum xt_code m_trace(void *arg, const struct trace_state *t, struct trace_rec *ret, bool *ret_found,
                            struct xt_err *err) {
    struct memory *m = arg;
    m->asked_traces++;
    *ret_found = false;
    for (size_t i = 0; i < m->ntraces; i++)
        if (m->traces[i].project == t->now.project && str_eq(m->traces[i].id.key, t->now.id.key)) {
            *ret = m->traces[i];
            *ret_found = true;
        }
    return m->fails == XT_OK ? XT_OK : xt_fail(err, m->fails, "as told");
}

static enum xt_code m_observation(void *arg, const struct trace_state *t, const struct obs_state *o,
                                  struct obs_rec *ret, bool *ret_found, struct xt_err *err) {
    struct memory *m = arg;
    (void)err;
    m->asked_obs++;
    *ret_found = false;
    for (size_t i = 0; i < m->nobs; i++)
        if (m->obs[i].tseq == t->now.tseq && str_eq(m->obs[i].v.id.key, o->oid)) {
            *ret = m->obs[i];
            *ret_found = true;
        }
    return XT_OK;
}

static enum xt_code m_metadata(void *arg, const struct trace_state *t, const struct obs_state *o, int64_t pid,
                               struct str *ret, struct xt_err *err) {
    struct memory *m = arg;
    (void)t, (void)o, (void)err;
    assert_true(pid > 0);
    m->asked_texts++;
    *ret = m->text;
    return XT_OK;
}

static enum xt_code m_models(void *arg, struct trace_state *t, struct xt_err *err) {
    struct memory *m = arg;
    m->asked_models++;
    if (!str_has(m->model))
        return XT_OK;
    struct arena *a = t->arg; /* of the fold */
    return fold_model(a, t, m->model, &m->sums) ? XT_OK : no_memory(err);
}

static enum xt_code m_number(void *arg, const struct trace_state *t, int64_t *ret_tseq, struct xt_err *err) {
    struct memory *m = arg;
    (void)t, (void)err;
    *ret_tseq = 100 + m->numbers++;
    return XT_OK;
}

/* ---- a fold and the batch it is given ---- */

struct run {
    struct arena a;
    struct memory m;
    struct fold f;
    struct batch *b;
    struct xt_err err;
};

static struct id id(const char *key) { return (struct id){ str_c(key), ID_HEX16, STR_NONE }; }

static void run_begin(struct run *r) {
    const struct fold_source from = { &r->m, m_trace, m_observation, m_metadata, m_models, m_number };
    memset(r, 0, sizeof *r);
    arena_init(&r->a, SIZE_MAX / 2);
    fold_init(&r->f, &r->a, &from);
    r->b = batch_new(SIZE_MAX / 2);
    assert_non_null(r->b);
    r->b->project = 7;
    r->b->default_label = STR_LIT("project");
    r->b->received = T0 + 1;
}

static void run_end(struct run *r) {
    batch_free(r->b);
    arena_done(&r->a);
}

static struct trace *give_trace(struct run *r, const char *key) {
    struct trace *t = batch_add_trace(r->b);
    assert_non_null(t);
    t->id = id(key);
    return t;
}

static struct observation *give_obs(struct run *r, const char *trace, const char *key) {
    struct observation *o = batch_add_observation(r->b);
    assert_non_null(o);
    o->id = id(key);
    o->trace_id = id(trace);
    return o;
}

static struct trace_rec *store_trace(struct run *r, const char *key, int64_t tseq) {
    struct trace_rec *t = &r->m.traces[r->m.ntraces++];
    *t = (struct trace_rec){ .tseq = tseq,
                             .project = 7,
                             .id = id(key),
                             .ts = T0,
                             .ts_source = TS_FIRST_WRITE,
                             .created = T0,
                             .updated = T0,
                             .env = STR_LIT("prod"),
                             .label = STR_LIT("stored"),
                             .latency = (double)NAN,
                             .t0 = TIME_NONE,
                             .t1 = TIME_NONE };
    return t;
}

static struct obs_rec *store_obs(struct run *r, int64_t tseq, const char *key, int64_t start, int64_t end) {
    struct obs_rec *o = &r->m.obs[r->m.nobs++];
    memset(o, 0, sizeof *o);
    o->tseq = tseq;
    o->project = 7;
    o->created = o->updated = T0;
    o->v.id = id(key);
    o->v.type = STR_LIT("SPAN");
    o->v.start = start;
    o->v.end = end;
    o->v.completion_start = TIME_NONE;
    return o;
}

static void fold(struct run *r, bool collect) {
    const struct batch_part part = { .b = r->b, .trace_to = r->b->ntraces, .observation_to = r->b->nobservations };
    if (collect)
        assert_int_equal(fold_collect(&r->f, &part, &r->err), XT_OK);
    assert_int_equal(r->m.asked_traces, 0);
    assert_int_equal(fold_add(&r->f, &part, &r->err), XT_OK);
    for (struct trace_state *t = r->f.first; t; t = t->next) {
        t->arg = &r->a;
        assert_int_equal(fold_sums(&r->f, t, &r->err), XT_OK);
    }
}

static void settle(struct run *r) {
    for (struct trace_state *t = r->f.first; t; t = t->next)
        assert_int_equal(fold_settle(&r->f, t, &r->err), XT_OK);
}

/* ---- cases, each one by one and collected ---- */

static void new_records(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    struct observation *o = give_obs(&r, "t", "o1"); /* speaks first: its environment, not the trace's label */
    o->environment = STR_LIT("test");
    o->start = T0 + 10, o->end = T0 + 20;
    o->model = STR_LIT("m");
    o->tokens_in = (struct opt_i64){ 3, true };
    o->cost_total = (struct opt_money){ 50, true, STR_NONE };
    o = give_obs(&r, "t", "o2");
    o->type = STR_LIT("SPAN");
    o->start = T0 + 5;
    o = give_obs(&r, "t", "o1"); /* merges into the first */
    o->model = STR_LIT("n");
    give_obs(&r, "other", "o1");
    fold(&r, collect);
    assert_int_equal(r.m.asked_traces, 2);
    assert_int_equal(r.m.asked_obs + r.m.asked_models + r.m.asked_texts, 0); /* of new traces nothing is stored */
    settle(&r);

    const struct trace_state *t = r.f.first;
    assert_true(!t->stored && !t->touched && !t->respan && !t->moved && t->next && !t->next->next);
    assert_int_equal(t->now.tseq, 100);
    assert_int_equal(t->next->now.tseq, 101);
    assert_true(str_eq_c(t->now.env, "test") && str_eq_c(t->now.label, "project"));
    assert_true(t->now.created == T0 + 1 && t->now.ts == T0 + 5 && t->now.ts_source == TS_EARLIEST_START);
    assert_true(t->now.nobs == 2 && t->now.ocost == 50 && t->now.ocost_n == 1);
    assert_true(t->now.t0 == T0 + 5 && t->now.t1 == T0 + 20);
    assert_true(t->models && !t->models->next && str_eq_c(t->models->model, "=n"));
    assert_true(t->models->now.n == 1 && t->models->now.in == 3 && t->models->now.cost == 50);
    assert_true(str_eq_c(t->first->oid, "o1") && str_eq_c(t->last->oid, "o2") && t->first->next == t->last);

    struct obs_rec row;
    fold_observation_row(t, t->first, &row);
    assert_true(row.tseq == 100 && row.project == 7 && row.cost_source == COST_GIVEN && row.created == T0 + 1);
    assert_true(str_eq_c(row.v.type, "GENERATION") && str_eq_c(row.v.project_label, "project"));
    assert_true(str_eq_c(row.v.model, "n") && str_eq_c(row.v.environment, "test"));
    t = t->next; /* nothing but ids: the time of the first write */
    assert_true(t->now.ts == T0 + 1 && t->now.ts_source == TS_FIRST_WRITE && str_eq_c(t->now.env, "default"));
    run_end(&r);
}

static void stored_records(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    struct trace_rec *was = store_trace(&r, "t", 5);
    was->nobs = 2, was->t0 = T0 + 10, was->t1 = T0 + 30, was->ts = T0 + 10, was->ts_source = TS_EARLIEST_START;
    was->ocost = 9, was->ocost_n = 1;
    struct obs_rec *had = store_obs(&r, 5, "o1", T0 + 10, T0 + 30);
    had->v.type = STR_LIT("GENERATION");
    had->v.model = STR_LIT("m");
    had->v.cost_total = (struct opt_money){ 9, true, STR_NONE };
    had->cost_source = COST_GIVEN;
    had->prest = 77;
    r.m.model = STR_LIT("=m");
    r.m.sums = (struct model_sums){ 2, 5, 5, 10, 9 };
    struct observation *o = give_obs(&r, "t", "o1");
    o->start = T0 + 12; /* the earliest one starts later: who is the earliest now? */
    o->cost_total = (struct opt_money){ 4, true, STR_NONE };
    o = give_obs(&r, "t", "o3");
    o->type = STR_LIT("EVENT");
    fold(&r, collect);
    struct trace_state *t = r.f.first;
    assert_true(t->stored && t->respan && !t->touched);
    assert_int_equal(r.m.asked_obs, 2);
    assert_int_equal(r.m.asked_models, 1);
    assert_true(t->first->stored && t->first->prest == 77 && !t->last->stored);
    t->now.t0 = T0 + 11; /* the engine's answer: another one that was not touched */
    settle(&r);
    assert_true(t->moved && t->now.ts == T0 + 11 && t->before.ts == T0 + 10);
    assert_true(t->now.nobs == 3 && t->now.ocost == 4 && t->now.ocost_n == 1 && t->now.created == T0);
    assert_true(t->models && !t->models->next);
    assert_true(t->models->before.n == 2 && t->models->now.n == 2 && t->models->now.cost == 4);
    assert_int_equal(r.f.rollups.first->nobs, 1);
    assert_true(r.f.rollups.first->ntrace == 0 && r.f.rollups.first->cost == -5);
    run_end(&r);
}

/* A trace alone: its sums by model are needed only when its key in the rollups changes. */
static void renamed(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    store_trace(&r, "a", 5)->name = STR_LIT("n");
    store_trace(&r, "b", 6)->name = STR_LIT("n");
    r.m.model = STR_LIT("=m");
    r.m.sums = (struct model_sums){ 1, 1, 1, 2, 3 };
    give_trace(&r, "a")->user = STR_LIT("u");
    give_trace(&r, "b")->name = STR_LIT("o");
    fold(&r, collect);
    assert_int_equal(r.m.asked_models, 1);
    settle(&r);
    struct trace_state *a = r.f.first, *b = a->next;
    assert_true(a->touched && !a->moved && !a->models && str_eq_c(a->now.user, "u"));
    assert_true(!fold_wants_models(a) && fold_wants_models(b) && b->models && b->models->now.n == 1);
    assert_true(rollup_derive(&r.f.rollups));
    size_t n = 0;
    for (const struct rollup_delta *d = r.f.rollups.first; d; d = d->next)
        if (!rollup_is_nothing(d)) {
            assert_true(d->level == ROLLUP_NAMED_HOUR && d->ntrace == (str_eq_c(d->name, "=o") ? 1 : -1));
            n++;
        }
    assert_int_equal(n, 4); /* the trace and its model, from one name to the other */
    run_end(&r);
}

static void texts(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    struct trace_rec *was = store_trace(&r, "t", 5);
    was->pid[PAYLOAD_METADATA] = 3;
    store_obs(&r, 5, "o", T0, T0)->pid[PAYLOAD_METADATA] = 4;
    r.m.text = STR_LIT("{\"a\":1}");
    struct trace *t = give_trace(&r, "t");
    t->merge = MERGE_DEEP;
    t->metadata = STR_LIT("{\"b\":2}");
    t->input = STR_LIT("\"in\"");
    struct observation *o = give_obs(&r, "t", "o");
    o->merge = MERGE_DEEP;
    o->metadata = STR_LIT("{\"a\":1}"); /* nothing new */
    o->output = STR_LIT("\"out\"");
    o->output_z.z = STR_LIT("prepared");
    fold(&r, collect);
    settle(&r);
    assert_int_equal(r.m.asked_texts, 2);
    struct fold_text got[PAYLOADS];
    fold_trace_texts(r.f.first, got);
    assert_true(r.f.first->wants_metadata == collect);
    assert_true(str_eq_c(got[PAYLOAD_INPUT].text, "\"in\"") && !str_has(got[PAYLOAD_OUTPUT].text));
    assert_true(str_eq_c(got[PAYLOAD_METADATA].text, "{\"a\":1,\"b\":2}") && got[PAYLOAD_METADATA].remade);
    fold_observation_texts(r.f.first->first, got);
    assert_false(str_has(got[PAYLOAD_METADATA].text));
    assert_true(str_eq_c(got[PAYLOAD_OUTPUT].text, "\"out\"") && str_eq_c(got[PAYLOAD_OUTPUT].z.z, "prepared"));
    run_end(&r);
}

/* Many models of one trace are found by map, few by list. */
static void many_models(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    for (int i = 0; i < 60; i++) {
        struct observation *o = give_obs(&r, "t", (char *)arena_printf(&r.b->arena, "o%02d", i).p);
        o->model = arena_printf(&r.b->arena, "m%d", i % 20);
    }
    fold(&r, collect);
    size_t n = 0;
    for (const struct tmodel *m = r.f.first->models; m; m = m->next, n++)
        assert_int_equal(m->now.n, 3);
    assert_int_equal(n, 20);
    assert_int_equal(r.f.first->nmodels, 20);
    run_end(&r);
}

static void failing_source(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    give_trace(&r, "t");
    r.m.fails = XT_EUNAVAILABLE;
    const struct batch_part part = { .b = r.b, .trace_to = 1 };
    if (collect)
        assert_int_equal(fold_collect(&r.f, &part, &r.err), XT_OK);
    assert_int_equal(fold_add(&r.f, &part, &r.err), XT_EUNAVAILABLE);
    run_end(&r);
}

/* Records that bring the times another store kept for them; the others have those of their batch. */
static void kept_times(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    run_begin(&r);
    store_trace(&r, "old", 5)->updated = T0 - 3;
    store_obs(&r, 5, "o", T0, T0)->updated = T0 - 3;
    struct trace *t = give_trace(&r, "t");
    t->created = T0 - 9, t->updated = T0 - 5;
    struct observation *o = give_obs(&r, "t", "o");
    o->created = T0 - 8, o->updated = T0 - 4;
    o = give_obs(&r, "u", "o"); /* nobody said anything of its trace */
    o->created = o->updated = T0 - 7;
    give_trace(&r, "old")->updated = T0 - 2;
    give_obs(&r, "old", "o")->updated = T0 - 2;
    fold(&r, collect);
    settle(&r);
    for (const struct trace_state *s = r.f.first; s; s = s->next) {
        if (str_eq_c(s->now.id.key, "t"))
            assert_true(s->now.created == T0 - 9 && s->now.updated == T0 - 5 && s->first->created == T0 - 8 &&
                        s->first->updated == T0 - 4 && s->now.ts == T0 - 9);
        else if (str_eq_c(s->now.id.key, "u"))
            assert_true(s->now.created == T0 - 7 && s->now.updated == T0 - 7 && s->now.ts == T0 - 7);
        else
            assert_true(s->now.created == T0 && s->now.updated == T0 - 2 && s->first->updated == T0 - 2);
    }
    give_trace(&r, "t")->name = STR_LIT("n");
    const struct batch_part part = { .b = r.b, .trace_from = 2, .trace_to = 3 };
    assert_int_equal(fold_add(&r.f, &part, &r.err), XT_OK);
    assert_true(r.f.first->now.created == T0 - 9 && r.f.first->now.updated == T0 + 1);
    run_end(&r);
}

/* What fold_sums adds up record by record is what is found anew from all of them. */
static void derived(void **state) {
    const bool collect = *state != NULL;
    struct run r;
    struct map models;
    run_begin(&r);
    for (int i = 0; i < 12; i++) {
        struct observation *o = give_obs(&r, "t", (char *)arena_printf(&r.b->arena, "o%02d", i).p);
        o->type = i % 3 ? STR_NONE : STR_LIT("SPAN");
        o->model = i % 2 ? STR_LIT("m") : STR_LIT("unknown");
        o->start = i == 4 ? TIME_NONE : T0 + 100 - i;
        o->end = T0 + 200 + i;
        o->tokens_total = (struct opt_i64){ i, i > 5 };
    }
    fold(&r, collect);
    settle(&r);
    const struct trace_state *t = r.f.first;
    struct trace_state again = { .before = t->now };
    derive_begin(&again, &models, &r.a);
    for (const struct obs_state *o = t->first; o; o = o->next)
        assert_true(derive_add(&r.a, &again, &models, o->v));
    assert_true(again.now.nobs == t->now.nobs && again.now.t0 == t->now.t0 && again.now.t1 == t->now.t1);
    assert_true(derive_timestamp_holds(&t->now, &again.now));
    for (const struct tmodel *m = t->models; m; m = m->next) {
        const struct tmodel *real = map_get(&models, m->model);
        assert_non_null(real);
        assert_true(model_sums_equal(&real->now, &m->now));
    }
    assert_int_equal(models.count, t->nmodels);
    run_end(&r);
}

int main(void) {
    static int yes;
#define BOTH(f) \
    { #f, f, NULL, NULL, NULL }, { #f " (collected)", f, NULL, NULL, &yes }
    const struct CMUnitTest tests[] = {
        BOTH(new_records), BOTH(stored_records), BOTH(renamed), BOTH(texts),
        BOTH(many_models), BOTH(failing_source), BOTH(derived), BOTH(kept_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
