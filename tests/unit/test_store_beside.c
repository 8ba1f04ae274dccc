/* test_store_beside.c -- readers beside the writer. What a record must look like follows from its number alone, so each
 * reader knows what it must see: everything that was acknowledged before its question, exactly once, in order, whole;
 * nothing that was begun after the answer; one snapshot a question.
 *
 *  1. The writer publishes a number as begun before it writes, as acknowledged after; likewise where retention cuts.
 *  2. A question is asked from the cut onwards; when the cut moved past its beginning meanwhile, the answer is not judged.
 *  3. Threads do not assert: the first problem is kept, all stop, the test shows it.
 * XTRACE_TEST_SECONDS (3) bounds the time; XTRACE_TEST_SEED chooses another course. */
#include "trace_fixture.h"

#include <pthread.h>

#define BASE (1767225600 * SEC)
#define MOST 40000 /* traces, and groups */
#define READERS 3
#define KEPT 300 /* traces that retention leaves */

/* ---- what is where ---- */

static struct fixture f;
static _Atomic int64_t begun, acked, groups_begun, groups_acked, cut; /* traces from 0; groups; first trace to stay */
static _Atomic int more_begun[MOST], more_acked[MOST];                /* observations that updates brought */
static _Atomic int64_t group_first[MOST];                             /* its first trace */
static _Atomic bool stop;
static _Atomic int64_t judged;
static pthread_mutex_t problem_mu = PTHREAD_MUTEX_INITIALIZER;
static char problem[600]; /* problem_mu */

static uint64_t next_random(uint64_t *state, uint64_t n) {
    *state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % n;
}

static void __attribute__((format(printf, 1, 2))) found(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    pthread_mutex_lock(&problem_mu);
    if (!problem[0])
        vsnprintf(problem, sizeof problem, fmt, args);
    pthread_mutex_unlock(&problem_mu);
    va_end(args);
    stop = true;
}

struct text {
    char s[48];
};
static struct text id_text(int64_t i) {
    struct text t;
    uint64_t state = (uint64_t)i;
    uint64_t a = next_random(&state, UINT64_MAX), b = next_random(&state, UINT64_MAX);
    snprintf(t.s, sizeof t.s, "%016llx%016llx", (unsigned long long)a | 1, (unsigned long long)b);
    return t;
}
static int64_t ts_of(int64_t i) { return BASE + i * SEC; }
static int own_observations(int64_t i) { return 1 + (int)(i % 3); }

/* Fields of trace i: a letter, then a number that few, several or many traces share. */
enum field { BY_USER, BY_SESSION, BY_TAG, BY_NAME, BY_NOTHING };
static int64_t value_of(enum field by, int64_t i) {
    switch (by) {
    case BY_USER: return i % 5;
    case BY_SESSION: return i / 10;
    case BY_TAG: return i % 3;
    case BY_NAME: return i % 4;
    default: return 0;
    }
}
static struct text field_text(enum field by, int64_t i) {
    struct text t;
    snprintf(t.s, sizeof t.s, "%c%lld", "ustn"[by == BY_NOTHING ? 0 : by], (long long)value_of(by, i));
    return t;
}

/* ---- writing ---- */

static void add_observation(struct batch *b, int64_t i, int number) {
    char text[24];
    struct text trace = id_text(i);
    snprintf(text, sizeof text, "o%lld-%d", (long long)i, number);
    struct observation *o = add_obs(b, text_in(b, trace.s).p, text_in(b, text).p);
    o->type = STR_LIT("GENERATION");
    o->start = ts_of(i);
    o->tokens_in = (struct opt_i64){ 1, true };
}

static void add_new(struct batch *b, int64_t i) {
    struct text id = id_text(i), user = field_text(BY_USER, i), session = field_text(BY_SESSION, i),
                tag = field_text(BY_TAG, i), name = field_text(BY_NAME, i);
    char labels[80];
    struct trace *t = add_trace(b, text_in(b, id.s).p);
    t->timestamp = ts_of(i);
    t->user = text_in(b, user.s);
    t->session = text_in(b, session.s);
    t->name = text_in(b, name.s);
    set_tags(b, t, tag.s);
    for (int k = 0; k < own_observations(i); k++)
        add_observation(b, i, k);
    snprintf(labels, sizeof labels, "side=%c,trace_id=%s", i % 2 ? 'a' : 'b', id.s);
    sample_add(b, "each", labels, ts_of(i), (double)i);
}

/* A few new traces, an observation more for some that are there, and a pair of points. */
static void write_some(uint64_t *rng) {
    int64_t first = acked, n = 1 + (int64_t)next_random(rng, 12), group = groups_acked, moved[4];
    size_t nmoved = next_random(rng, 4);
    struct batch *b = batch_at(ts_of(first));
    for (int64_t i = first; i < first + n; i++)
        add_new(b, i);
    for (size_t k = 0; k < nmoved; k++) {
        int64_t room = first - cut;
        moved[k] = room > 0 ? first - 1 - (int64_t)next_random(rng, room < 80 ? (uint64_t)room : 80) : first;
        add_observation(b, moved[k], own_observations(moved[k]) + more_begun[moved[k]]++);
    }
    sample_add(b, "pairs", "side=a", ts_of(first), 1);
    sample_add(b, "pairs", "side=b", ts_of(first), 1);
    group_first[group] = first;
    begun = first + n;
    groups_begun = group + 1;
    write_one(&f, b);
    acked = first + n;
    groups_acked = group + 1;
    for (size_t k = 0; k < nmoved; k++)
        more_acked[moved[k]]++;
}

/* Traces go by the time of their group. */
static int64_t group_start(int64_t i) {
    int64_t g = groups_acked - 1;
    while (group_first[g] > i)
        g--;
    return group_first[g];
}

static void retain_to(int64_t first_to_stay) {
    static const enum retain_kind kinds[] = { RETAIN_TRACES, RETAIN_SAMPLES };
    cut = first_to_stay;
    for (int k = 0; k < 2; k++) {
        bool more = true;
        while (more)
            assert_int_equal(f.store.ops->retain(&f.store, kinds[k], ts_of(first_to_stay), &more, &f.err), XT_OK);
    }
}

/* ---- questions ---- */

struct asking {
    uint64_t rng;
    int64_t from, to; /* traces that were acknowledged: [from, to) */
};

/* The answer may be judged: retention has not come nearer than the first trace asked for. */
static bool may_judge(int64_t first) {
    bool fine = cut <= first;
    judged += fine;
    return fine;
}

struct detail {
    int64_t i;
    int n;
    uint64_t seen;
    bool odd;
};
static bool on_detail_trace(void *arg, const struct trace_row *t) {
    struct detail *d = arg;
    d->odd = !str_eq_c(t->user, field_text(BY_USER, d->i).s) || !str_eq_c(t->id, id_text(d->i).s) || t->ntags != 1;
    return true;
}
static bool on_detail_obs(void *arg, const struct observation_row *o) {
    struct detail *d = arg;
    int64_t i = -1, k = 64;
    size_t dash = str_find(o->id, '-');
    d->odd = d->odd || dash == o->id.n || !str_to_i64(str_sub(o->id, 1, dash - 1), &i) ||
             !str_to_i64(str_sub(o->id, dash + 1, o->id.n), &k) || i != d->i || k < 0 || k > 63 || d->seen >> k & 1;
    d->seen |= UINT64_C(1) << (k & 63);
    d->n++;
    return true;
}

static void ask_one(struct asking *a) {
    struct detail d = { .i = a->from + (int64_t)next_random(&a->rng, (uint64_t)(a->to - a->from)) };
    struct trace_ref ref = { .project = 1, .deadline = TIME_NONE };
    struct text text = id_text(d.i);
    struct arena arena;
    struct xt_err err;
    int least = own_observations(d.i) + more_acked[d.i];
    arena_init(&arena, 4096);
    if (id_key(&arena, str_c(text.s), &ref.key)) {
        enum xt_code code = f.store.ops->trace_get(&f.store, &ref, on_detail_trace, on_detail_obs, &d, &err);
        int most = own_observations(d.i) + more_begun[d.i];
        if (may_judge(d.i) && (code != XT_OK || d.odd || d.n < least || d.n > most))
            found("trace %lld: %s, %d observations, between %d and %d were written", (long long)d.i,
                  code == XT_OK ? d.odd ? "odd" : "found" : err.msg, d.n, least, most);
    }
    arena_done(&arena);
}

struct listing {
    enum field by;
    int64_t value, next; /* the next trace that must come */
    int step;            /* 1 or -1 */
    int64_t n;
    bool odd;
};
static int64_t next_match(const struct listing *l, int64_t i) {
    while (i >= 0 && i < MOST && value_of(l->by, i) != l->value)
        i += l->step;
    return i;
}
static bool on_listed(void *arg, const struct trace_row *t) {
    struct listing *l = arg;
    l->next = next_match(l, l->next);
    l->odd = l->odd || t->timestamp != ts_of(l->next) || !str_eq_c(t->id, id_text(l->next).s);
    l->next += l->step;
    l->n++;
    return !l->odd;
}

/* All traces of [first, last] with one value of a field, page by page; `limit` a page. */
static void ask_list(struct asking *a, int64_t first, int64_t last, int64_t limit) {
    struct listing l = { .by = (enum field)next_random(&a->rng, BY_NOTHING + 1), .step = 1 };
    int64_t of = first + (int64_t)next_random(&a->rng, (uint64_t)(last - first + 1)), want = 0, total = 0;
    struct text value = field_text(l.by, of), *const v = &value;
    struct str tag = str_c(v->s);
    struct trace_query q = all_traces();
    struct xt_err err;
    l.value = value_of(l.by, of);
    for (int64_t i = first; i <= last; i++)
        want += value_of(l.by, i) == l.value;
    q.user = l.by == BY_USER ? tag : STR_NONE;
    q.session = l.by == BY_SESSION ? tag : STR_NONE;
    q.name = l.by == BY_NAME ? tag : STR_NONE;
    q.tags = &tag, q.ntags = l.by == BY_TAG;
    q.from = ts_of(first), q.to = ts_of(last), q.limit = limit;
    q.descending = next_random(&a->rng, 2);
    l.step = q.descending ? -1 : 1;
    l.next = q.descending ? last : first;
    for (; q.offset < want; q.offset += limit) {
        enum xt_code code = f.store.ops->traces_list(&f.store, &q, on_listed, &l, &total, &err);
        if (!may_judge(first))
            return;
        if (code != XT_OK || l.odd || total != want || l.n != (q.offset + limit < want ? q.offset + limit : want))
            return found("list of %s in %lld..%lld at %lld: %s%s, total %lld of %lld, %lld rows up to here", v->s,
                         (long long)first, (long long)last, (long long)q.offset, code == XT_OK ? "" : err.msg,
                         l.odd ? "a wrong row" : "", (long long)total, (long long)want, (long long)l.n);
    }
}

static bool stop_at_once(void *arg, const struct trace_row *t) {
    (void)arg, (void)t;
    return false;
}
static bool add_day(void *arg, const struct day_row *d) {
    *(int64_t *)arg += d->traces;
    return true;
}

/* Totals: at least what was acknowledged, at most what was begun. */
static void ask_totals(struct asking *a) {
    struct trace_query q = all_traces();
    struct daily_query d = all_days();
    int64_t total = 0, days = 0, sum = 0;
    struct xt_err err = { 0 };
    q.from = d.from = ts_of(a->from);
    q.limit = 1;
    enum xt_code code = f.store.ops->traces_list(&f.store, &q, stop_at_once, NULL, &total, &err);
    int64_t most = begun - a->from, least = a->to - a->from;
    if (may_judge(a->from) && (code != XT_OK || total < least || total > most))
        found("total %lld, between %lld and %lld: %s", (long long)total, (long long)least, (long long)most, err.msg);
    code = f.store.ops->daily(&f.store, &d, add_day, &sum, &days, &err);
    most = begun - a->from;
    if (may_judge(a->from) && (code != XT_OK || sum < least || sum > most))
        found("traces of all days: %lld, between %lld and %lld: %s", (long long)sum, (long long)least, (long long)most,
              err.msg);
}

/* Sums of the two sides; -1: the answer failed or is odd. */
static void ask_sides(const struct series_query *q, double *ret_a, double *ret_b) {
    const struct series_result *r = NULL;
    size_t n = 0;
    int64_t latest;
    bool odd;
    struct xt_err err;
    struct series_sink *sink = series_sink_new(q, (size_t)64 << 20);
    *ret_a = *ret_b = -1;
    if (!sink || f.store.ops->series(&f.store, q, sink, &err) != XT_OK ||
        series_sink_finish(sink, &r, &n, &latest, &odd, &err) != XT_OK || odd) {
        found("series: %s", sink ? err.msg : "no memory");
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < r[i].nvalues; k++)
            sum += r[i].values[k].value;
        *(str_eq_c(r[i].labels, "{\"side\":\"a\"}") ? ret_a : ret_b) = sum;
    }
    series_sink_free(sink);
}

static int64_t groups_from(int64_t first, int64_t end) { /* that begin with this trace or a later one */
    int64_t n = 0;
    while (end - n > 0 && group_first[end - n - 1] >= first)
        n++;
    return n;
}

static void ask_pairs(struct asking *a) {
    struct series_query q = series_of_name("pairs");
    double x, y;
    int64_t least = groups_from(a->from, groups_acked);
    q.from = ts_of(a->from), q.step = NS_PER_DAY, q.grouped = true, q.group_by = STR_LIT("side");
    if (least == 0)
        return;
    ask_sides(&q, &x, &y);
    int64_t most = groups_from(a->from, groups_begun);
    if (may_judge(a->from) && (x != y || x < (double)least || x > (double)most))
        found("pairs: %g and %g, between %lld and %lld", x, y, (long long)least, (long long)most);
}

static void ask_points(struct asking *a, int64_t first, int64_t last) {
    struct series_query q = series_of_name("each");
    double x, y, sums[2] = { 0, 0 };
    int64_t i = first + (int64_t)next_random(&a->rng, (uint64_t)(last - first + 1));
    struct text id = id_text(i);
    struct label one = { STR_LIT("trace_id"), str_c(id.s) };
    q.step = NS_PER_DAY, q.grouped = true, q.group_by = STR_LIT("side");
    q.labels = &one, q.nlabels = 1;
    ask_sides(&q, &x, &y);
    double mine = i % 2 ? x : y, other = i % 2 ? y : x;
    if (may_judge(i) && (mine != (double)i || other != -1))
        found("the point of trace %lld: %g, the other side %g", (long long)i, mine, other);
    if (first == last)
        return;
    for (int64_t k = first; k <= last; k++)
        sums[k % 2] += (double)k;
    q.nlabels = 0;
    q.from = ts_of(first), q.to = ts_of(last);
    ask_sides(&q, &x, &y);
    if (may_judge(first) && (y != sums[0] || x != sums[1]))
        found("points of %lld..%lld: %g and %g, should be %g and %g", (long long)first, (long long)last, x, y, sums[1],
              sums[0]);
}

static void ask_anything(uint64_t *rng) {
    struct asking a = { .rng = *rng, .from = cut, .to = acked };
    if (a.to - a.from > 1) {
        uint64_t n = (uint64_t)(a.to - a.from);
        int64_t first = a.from + (int64_t)next_random(&a.rng, n);
        int64_t last = first + (int64_t)next_random(&a.rng, 200);
        last = last < a.to ? last : a.to - 1;
        switch (next_random(&a.rng, 8)) {
        case 0: ask_totals(&a); break;
        case 1: ask_pairs(&a); break;
        case 2: ask_points(&a, first, last); break;
        case 3: ask_list(&a, first, last, 7); break;
        case 4:
        case 5: ask_list(&a, first, last, 200); break;
        default: ask_one(&a); break;
        }
    }
    *rng = a.rng;
}

static void *reader(void *arg) {
    uint64_t rng = (uint64_t)(uintptr_t)arg;
    while (!stop)
        ask_anything(&rng);
    return NULL;
}

static void readers_beside_the_writer(void **state) {
    const char *seconds = getenv("XTRACE_TEST_SECONDS"), *seed = getenv("XTRACE_TEST_SEED");
    uint64_t rng = seed ? strtoull(seed, NULL, 10) : 1;
    int64_t until = clock_mono_ns() + (seconds ? strtoll(seconds, NULL, 10) : 3) * SEC, number = 0;
    pthread_t threads[READERS];
    (void)state;
    fixture_make(&f);
    fixture_open(&f);
    assert_int_equal(f.store.ops->project_open(&f.store, STR_LIT("default"), &number, &f.err), XT_OK);
    for (uintptr_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, (void *)(rng * 1000 + i)), 0);
    for (int64_t round = 1; !stop && clock_mono_ns() < until && acked + 16 < MOST; round++) {
        write_some(&rng);
        f.store.ops->tidy(&f.store);
        if (round % 16 == 0 && acked - cut > KEPT)
            retain_to(group_start(acked - KEPT + (int64_t)next_random(&rng, 50)));
        if (round % 200 == 0)
            assert_sound(&f);
    }
    stop = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    if (problem[0])
        fail_msg("%s (%lld traces, cut at %lld)", problem, (long long)acked, (long long)cut);
    assert_sound(&f);
    fixture_reopen(&f);
    for (int i = 0; i < 200 && !problem[0]; i++)
        ask_anything(&rng);
    if (problem[0])
        fail_msg("after a restart: %s", problem);
    printf("# %lld traces in %lld groups, %lld answers judged\n", (long long)acked, (long long)groups_acked,
           (long long)judged);
    assert_true(judged > 0);
    fixture_remove(&f);
}

int main(void) {
    STORE_OR_SKIP();
    const struct CMUnitTest tests[] = { cmocka_unit_test(readers_beside_the_writer) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
