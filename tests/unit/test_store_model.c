/* test_store_model.c -- the store against plain models in memory (model_trace.h, model_sample.h): random groups of traces,
 * observations and samples (few ids and values, so that they meet), retention and restarts; then every read must give what
 * the models give, and the deep check must be content.
 *
 * Seeds follow one another until XTRACE_TEST_SECONDS (4) are over. A seed that fails says its number: alone and whole it
 * runs as `test_store_model SEED`, or with XTRACE_TEST_SEED. Even seeds have many ids, odd ones few. */
#include "model_random.h"
#include "model_sample.h"
#include "model_trace.h"
#include "trace_fixture.h"

#define STEPS 300 /* of a seed */

static void random_group(struct fixture *f, int64_t now) {
    struct batch *b[4];
    size_t n = 1 + rnd(4), more = wide ? 12 : 0;
    for (size_t i = 0; i < n; i++) {
        b[i] = batch_at(now + (int64_t)rnd(3) * SEC);
        b[i]->project = 1 + (int64_t)rnd(PROJECTS);
        for (uint64_t k = rnd(4 + more); k > 0; k--)
            random_trace(b[i]);
        for (uint64_t k = rnd(8 + more); k > 0; k--)
            random_obs(b[i]);
        if (chance(40) && points_room(400))
            random_samples(b[i], (unsigned)rnd(chance(10) ? 90 : 20));
        m_apply(b[i]);
        points_apply(b[i]);
    }
    write_group(f, b, n);
}

/* ---- comparing ---- */

static void compare(struct buf *store, struct buf *want, int64_t total, int64_t want_total, const char *what) {
    if (total != want_total || store->n != want->n || (want->n > 0 && memcmp(store->p, want->p, want->n) != 0))
        fail_msg("seed %llu, %s: total %lld:\n%swanted %lld:\n%s", (unsigned long long)seed_now, what, (long long)total,
                 store->p ? store->p : "", (long long)want_total, want->p ? want->p : "");
    buf_done(store);
    buf_done(want);
}

static void compare_get(struct fixture *f) {
    struct buf store, want;
    int64_t project = 1 + (int64_t)rnd(PROJECTS);
    const char *id = random_trace_id();
    buf_init(&store, 1 << 20);
    buf_init(&want, 1 << 20);
    read_trace(f, project, id, &store);
    m_get(project, id, &want);
    compare(&store, &want, 0, 0, "detail");
}

/* All observations of one id, that of the trace that came last first. */
static void compare_observation(struct fixture *f) {
    struct buf store, want;
    struct arena a;
    struct observation_ref ref = { .project = 1 + (int64_t)rnd(PROJECTS), .deadline = TIME_NONE };
    arena_init(&a, 4096);
    assert_true(id_key(&a, str_c(PICK(obs_ids)), &ref.key));
    buf_init(&store, 8 << 20);
    buf_init(&want, 8 << 20);
    m_observations(ref.project, ref.key, &want);
    enum xt_code code = f->store.ops->observation_get(&f->store, &ref, visit_obs, &store, &f->err);
    assert_int_equal(code, want.n > 0 ? XT_OK : XT_ENOTFOUND);
    compare(&store, &want, 0, 0, "observation");
    arena_done(&a);
}

static void random_range(int64_t *from, int64_t *to) {
    if (chance(50))
        *from = random_time();
    if (chance(50))
        *to = random_time();
}

static void compare_list(struct fixture *f) {
    struct buf store, want;
    struct str tags[2] = { str_c(PICK(tag_lists)), STR_LIT("a") },
               environments[2] = { str_c(PICK(envs)), str_c(PICK(envs)) };
    struct trace_query q = all_traces();
    q.project = 1 + (int64_t)rnd(PROJECTS);
    q.label = MAYBE(20, labels);
    q.user = MAYBE(20, users);
    q.name = MAYBE(20, names);
    q.session = MAYBE(20, sessions);
    q.version = MAYBE(10, users);
    q.release = MAYBE(10, users);
    q.tags = tags;
    q.ntags = chance(70) ? 0 : rnd(3);
    q.environments = environments;
    q.nenvironments = chance(70) ? 0 : rnd(3);
    random_range(&q.from, &q.to);
    q.order = chance(40) ? ORDER_TIMESTAMP : (enum trace_order)rnd(ORDER_TOTAL_COST + 1);
    q.descending = chance(50);
    q.limit = 1 + (int64_t)rnd(6);
    q.offset = chance(50) ? 0 : (int64_t)rnd(8);
    q.want_io = chance(50);
    q.want_observations = chance(50);
    buf_init(&store, 1 << 20);
    buf_init(&want, 1 << 20);
    int64_t total = read_list(f, &q, &store), want_total = m_list(&q, &want);
    compare(&store, &want, total, want_total, "list");
}

static void compare_daily(struct fixture *f) {
    struct buf store, want;
    struct str tags[2] = { str_c(PICK(tag_lists)), STR_LIT("a") };
    struct daily_query q = all_days();
    q.project = 1 + (int64_t)rnd(PROJECTS);
    q.label = MAYBE(20, labels);
    q.trace_name = MAYBE(20, names);
    q.user = MAYBE(15, users);
    q.version = MAYBE(5, users);
    q.release = MAYBE(5, users);
    q.tags = tags;
    q.ntags = chance(80) ? 0 : rnd(3);
    random_range(&q.from, &q.to);
    q.limit = 1 + (int64_t)rnd(4);
    q.offset = chance(60) ? 0 : (int64_t)rnd(4);
    buf_init(&store, 1 << 20);
    buf_init(&want, 1 << 20);
    int64_t total = read_days(f, &q, &store), want_total = m_daily(&q, &want);
    compare(&store, &want, total, want_total, "daily");
}

/* A random question; what retention left open is not asked for. */
static void compare_series(struct fixture *f) {
    struct buf store, want;
    struct label filter[] = { { STR_LIT("a"), str_c(PICK(label_values)) }, { STR_LIT("b"), STR_LIT("2") } };
    static const int64_t steps[] = { 1, 60, 3600, 7 };
    struct series_query q = series_of_name(PICK(metric_names));
    q.project = 1 + (int64_t)rnd(PROJECTS);
    q.labels = filter;
    q.nlabels = chance(60) ? 0 : 1 + rnd(2);
    if (chance(50))
        q.from = random_sample_time();
    if (chance(50))
        q.to = random_sample_time();
    if (q.from < points.cut)
        q.from = points.cut;
    q.step = PICK(steps) * SEC;
    q.agg = (enum series_agg)rnd(AGG_P99 + 1);
    q.grouped = chance(60);
    q.group_by = chance(50) ? STR_LIT("a") : chance(50) ? STR_LIT("trace_id") : STR_LIT("b");
    q.max_points = chance(70) ? 1000 : 1 + rnd(6);
    q.max_series = chance(70) ? 50 : 1 + rnd(4);
    buf_init(&store, 8 << 20);
    buf_init(&want, 8 << 20);
    read_series(f, &q, &store);
    m_series(&q, &want);
    compare(&store, &want, 0, 0, "series");
}

struct seen_names {
    bool seen[sizeof metric_names / sizeof *metric_names];
    size_t n;
    bool odd;
    char last[16];
};

static bool visit_name(void *arg, struct str name) {
    struct seen_names *s = arg;
    size_t i = 0;
    while (i < sizeof s->seen && !str_eq_c(name, metric_names[i]))
        i++;
    s->odd = s->odd || i == sizeof s->seen || s->seen[i] || (s->n > 0 && str_cmp(str_c(s->last), name) >= 0);
    if (!s->odd) {
        s->seen[i] = true;
        snprintf(s->last, sizeof s->last, "%.*s", STR_FMT(name));
        s->n++;
    }
    return true;
}

/* Every metric with points is named once, in order. One whose points are gone may be. */
static void check_names(struct fixture *f) {
    struct seen_names s = { 0 };
    int64_t project = 1 + (int64_t)rnd(PROJECTS);
    assert_int_equal(f->store.ops->metric_names(&f->store, project, TIME_NONE, visit_name, &s, &f->err), XT_OK);
    for (size_t i = 0; i < points.n; i++)
        for (size_t k = 0; k < sizeof s.seen; k++)
            if (points.p[i].project == project && str_eq_c(points.p[i].name, metric_names[k]) && !s.seen[k])
                s.odd = true;
    if (s.odd)
        fail_msg("seed %llu: names of metrics", (unsigned long long)seed_now);
}

static void retain(struct fixture *f, enum retain_kind kind, int64_t cutoff) {
    bool more = true;
    while (more)
        assert_int_equal(f->store.ops->retain(&f->store, kind, cutoff, &more, &f->err), XT_OK);
}

static void random_retention(struct fixture *f, int64_t now) {
    int64_t cutoff = now - (int64_t)rnd(40) * SEC;
    retain(f, RETAIN_TRACES, cutoff);
    m_retain(cutoff);
    if (chance(30)) {
        cutoff = BASE + (int64_t)rnd(15 * 60) * SEC;
        retain(f, RETAIN_SAMPLES, cutoff);
        points_retain(cutoff);
    }
}

/* What the server does between groups. */
static void random_pause(struct fixture *f, int64_t now) {
    f->store.ops->tidy(&f->store);
    if (chance(4))
        random_retention(f, now);
    if (chance(wide ? 3 : 8))
        assert_sound(f);
    if (chance(2))
        fixture_reopen(f);
}

static void run_seed(uint64_t seed, int64_t deadline) {
    struct fixture f;
    int64_t now = BASE + 10 * NS_PER_DAY;
    printf("# seed %llu; again: test_store_model %llu\n", (unsigned long long)seed, (unsigned long long)seed);
    fflush(stdout);
    random_begin(seed);
    random_ids(seed % 2 == 0);
    memset(&model, 0, sizeof model);
    arena_init(&model.a, (size_t)1 << 30);
    points_init();
    fixture_make(&f);
    fixture_open(&f);
    for (int i = 1; i <= PROJECTS; i++) {
        int64_t number = 0;
        assert_int_equal(f.store.ops->project_open(&f.store, str_c(i == 1 ? "one" : "two"), &number, &f.err), XT_OK);
        assert_int_equal(number, i);
    }
    for (int i = 0; i < STEPS && clock_mono_ns() < deadline; i++) {
        now += (int64_t)rnd(3) * SEC;
        random_group(&f, now);
        compare_get(&f);
        compare_observation(&f);
        for (int k = 0; k < 3; k++)
            compare_list(&f);
        compare_daily(&f);
        compare_series(&f);
        check_names(&f);
        random_pause(&f, now);
    }
    assert_sound(&f);
    points_done();
    arena_done(&model.a);
    fixture_remove(&f);
}

static const char *one_seed; /* of the command line */

static void against_the_model(void **state) {
    const char *one = one_seed ? one_seed : getenv("XTRACE_TEST_SEED"), *seconds = getenv("XTRACE_TEST_SECONDS");
    int64_t deadline = clock_mono_ns() + (seconds ? strtoll(seconds, NULL, 10) : 4) * SEC;
    (void)state;
    if (one) {
        run_seed(strtoull(one, NULL, 10), TIME_MAX);
        return;
    }
    for (uint64_t seed = 1; clock_mono_ns() < deadline; seed++)
        run_seed(seed, deadline);
}

int main(int argc, char **argv) {
    STORE_OR_SKIP();
    const struct CMUnitTest tests[] = { cmocka_unit_test(against_the_model) };
    one_seed = argc > 1 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
