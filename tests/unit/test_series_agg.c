/* test_series_agg.c -- buckets, aggregates, groups, limits. */
#include "sqlite_fixture.h"
#include "store/limits.h"

#include <float.h>
#include <math.h>

/* One point; points of one sink arrive in the order of the calls. */
static bool series_sink_arrival(struct series_sink *s, uint32_t group, int64_t time, int64_t arrival, double value) {
    return series_sink_feed(s, &(struct series_points){ &group, &time, &value, &arrival, 1 });
}
static bool series_sink_point(struct series_sink *s, uint32_t group, int64_t time, double value) {
    static int64_t arrivals;
    return series_sink_arrival(s, group, time, arrivals++, value);
}

struct point {
    const char *labels; /* "a=1,b=2", sorted */
    int64_t second;
    double value;
};

static size_t labels_of(const char *text, struct label *out) {
    struct str rest = str_c(text), part;
    size_t n = 0;
    while (rest.n > 0 && str_split(&rest, ',', &part)) {
        size_t eq = str_find(part, '=');
        out[n].name = str_sub(part, 0, eq);
        out[n++].value = str_sub(part, eq + 1, part.n);
    }
    return n;
}
static void feed(struct series_sink *s, const struct point *p) {
    struct label labels[8];
    uint32_t group = series_sink_set(s, labels, labels_of(p->labels, labels));
    if (group != SERIES_NO_GROUP)
        assert_true(series_sink_point(s, group, p->second * NS_PER_SEC, p->value));
}
static void check(const struct series_query *q, const struct point *points, size_t n, const char *want) {
    char got[4000];
    struct series_sink *s = series_sink_new(q, (size_t)16 << 20);
    assert_non_null(s);
    for (size_t i = 0; i < n; i++)
        feed(s, &points[i]);
    series_text(s, got, sizeof got);
    series_sink_free(s);
    assert_string_equal(got, want);
}
#define CHECK(q, points, want) check(q, points, sizeof(points) / sizeof *(points), want)

static void aggregates(void **state) {
    (void)state;
    static const struct point p[] = { { "", 10, 85 }, { "", 50, 87 }, { "", 60, -3 }, { "", -1, 4 }, { "", -60, 5 } };
    static const struct {
        enum series_agg agg;
        const char *want;
    } cases[] = {
        { AGG_AVG, "{} -60=4.5 0=86 60=-3; latest=60" }, { AGG_SUM, "{} -60=9 0=172 60=-3; latest=60" },
        { AGG_MAX, "{} -60=5 0=87 60=-3; latest=60" },   { AGG_MIN, "{} -60=4 0=85 60=-3; latest=60" },
        { AGG_LAST, "{} -60=4 0=87 60=-3; latest=60" },  { AGG_P50, "{} -60=4.5 0=86 60=-3; latest=60" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct series_query q = series_of_name("m");
        q.agg = cases[i].agg;
        CHECK(&q, p, cases[i].want);
    }
}

static void percentiles(void **state) {
    (void)state;
    static const struct point p[] = { { "", 0, 4 }, { "", 1, 2 }, { "", 2, 1 }, { "", 3, 3 } };
    struct series_query q = series_of_name("m");
    q.agg = AGG_P50;
    CHECK(&q, p, "{} 0=2.5; latest=3");
    q.agg = AGG_P90;
    char want[100];
    snprintf(want, sizeof want, "{} 0=%.17g; latest=3", 3.7);
    CHECK(&q, p, want);
    q.agg = AGG_P99;
    snprintf(want, sizeof want, "{} 0=%.17g; latest=3", 3.9699999999999998);
    CHECK(&q, p, want);
    static const struct point one[] = { { "", 5, 7 } };
    CHECK(&q, one, "{} 0=7; latest=5");
    static const struct point two[] = { { "", 5, 10 }, { "", 5, 20 } };
    q.agg = AGG_P90;
    CHECK(&q, two, "{} 0=19; latest=5");
    /* The distance of the two overflows. */
    static const struct point far[] = { { "", 0, -DBL_MAX }, { "", 0, DBL_MAX } };
    q.agg = AGG_P50;
    CHECK(&q, far, "{} 0=0; latest=0");
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
/* Against sorting, for many sizes and shapes, also those that are bad for picking pivots; all in one bucket, so no more
 * than one pass holds. */
static void percentiles_brute(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (size_t n = 1; n < 3000 && n <= SERIES_PASS_VALUES; n = n + 1 + n / 7) {
        for (int shape = 0; shape < 5; shape++) {
            double *v = calloc(n, sizeof *v);
            struct series_query q = series_of_name("m");
            q.agg = (enum series_agg)(AGG_P50 + n % 3);
            struct series_sink *s = series_sink_new(&q, (size_t)16 << 20);
            assert_true(v && s);
            uint32_t group = series_sink_set(s, NULL, 0);
            for (size_t i = 0; i < n; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                switch (shape) {
                case 0: v[i] = (double)(seed >> 40); break;
                case 1: v[i] = (double)i; break;
                case 2: v[i] = -(double)i; break;
                case 3: v[i] = (double)(seed >> 62); break;
                default: v[i] = i % 2 ? (double)i : (double)(n - i); break;
                }
                assert_true(series_sink_point(s, group, (int64_t)i, v[i]));
            }
            qsort(v, n, sizeof *v, by_value);
            double p = q.agg == AGG_P50 ? 0.5 : q.agg == AGG_P90 ? 0.9 : 0.99;
            double at = p * (double)(n - 1), lo = v[(size_t)floor(at)], hi = v[(size_t)ceil(at)];
            volatile double part = (at - floor(at)) * (hi - lo);
            double want = floor(at) == ceil(at) ? lo : lo + part;
            const struct series_result *r;
            size_t nr;
            int64_t latest;
            bool cut;
            assert_int_equal(series_sink_finish(s, &r, &nr, &latest, &cut, NULL), XT_OK);
            assert_int_equal(nr, 1);
            assert_true(r[0].values[0].value == want);
            series_sink_free(s);
            free(v);
        }
    }
}

static void overflow(void **state) {
    (void)state;
    static const struct point p[] = { { "", 0, DBL_MAX }, { "", 0, DBL_MAX } };
    static const struct point minus[] = { { "", 0, -DBL_MAX }, { "", 0, -DBL_MAX }, { "", 0, -1 } };
    static const struct point back[] = { { "", 0, 1e308 }, { "", 0, 1e308 }, { "", 0, -1e308 } };
    static const struct point zero[] = { { "", 0, -0.0 } };
    char want[100];
    struct series_query q = series_of_name("m");
    snprintf(want, sizeof want, "{} 0=%.17g; latest=0", DBL_MAX);
    CHECK(&q, p, want);
    q.agg = AGG_AVG;
    CHECK(&q, p, want);
    q.agg = AGG_SUM;
    snprintf(want, sizeof want, "{} 0=%.17g; latest=0", -DBL_MAX);
    CHECK(&q, minus, want);
    snprintf(want, sizeof want, "{} 0=%.17g; latest=0", 1e308);
    CHECK(&q, back, want);
    CHECK(&q, zero, "{} 0=-0; latest=0");
}

static void last_of_equal_times(void **state) {
    (void)state;
    struct series_query q = series_of_name("m");
    q.agg = AGG_LAST;
    static const struct point p[] = { { "", 7, 1 }, { "", 7, 2 }, { "", 3, 9 } };
    CHECK(&q, p, "{} 0=2; latest=7");
    /* Over the sets of a group the number of arrival decides, not the order of feeding. */
    q.grouped = true;
    q.group_by = STR_LIT("g");
    struct label x[] = { { STR_LIT("a"), STR_LIT("1") }, { STR_LIT("g"), STR_LIT("x") } };
    struct series_sink *s = series_sink_new(&q, 1 << 20);
    assert_non_null(s);
    assert_true(series_sink_arrival(s, series_sink_set(s, x, 2), 5, 20, 200));
    x[0].value = STR_LIT("2");
    assert_true(series_sink_arrival(s, series_sink_set(s, x, 2), 5, 10, 100));
    char got[200];
    series_text(s, got, sizeof got);
    series_sink_free(s);
    assert_string_equal(got, "{\"g\":\"x\"} 0=200; latest=0");
}

static void range_is_inclusive(void **state) {
    (void)state;
    static const struct point p[] = { { "", 99, 1 }, { "", 100, 2 }, { "", 200, 4 }, { "", 201, 8 } };
    struct series_query q = series_of_name("m");
    q.from = 100 * NS_PER_SEC;
    q.to = 200 * NS_PER_SEC;
    CHECK(&q, p, "{} 60=2 180=4; latest=200");
    q.from = q.to = 150 * NS_PER_SEC;
    CHECK(&q, p, "latest=none");
}

static void absurd_times(void **state) {
    (void)state;
    struct series_query q = series_of_name("m");
    q.agg = AGG_LAST;
    q.step = NS_PER_DAY;
    struct series_sink *s = series_sink_new(&q, 1 << 20);
    assert_non_null(s);
    uint32_t group = series_sink_set(s, NULL, 0);
    static const int64_t times[] = { TIME_MIN, TIME_MIN + 1, TIME_MAX, 0, -1, TIME_MIN + 2 * NS_PER_DAY, TIME_MAX - 1 };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        assert_true(series_sink_point(s, group, times[i], (double)i));
    const struct series_result *r;
    size_t n;
    int64_t latest;
    bool cut;
    assert_int_equal(series_sink_finish(s, &r, &n, &latest, &cut, NULL), XT_OK);
    assert_int_equal(n, 1);
    assert_int_equal(r[0].nvalues, 5);
    assert_true(latest == TIME_MAX);
    for (size_t i = 0; i < r[0].nvalues; i++)
        assert_true(i == 0 || r[0].values[i].timestamp > r[0].values[i - 1].timestamp);
    assert_true(r[0].values[0].timestamp == TIME_MIN && r[0].values[0].value == 1);
    assert_true(r[0].values[4].value == 2);
    series_sink_free(s);
}

static void filters(void **state) {
    (void)state;
    static const struct point p[] = {
        { "a=1,b=x", 0, 1 }, { "a=2", 0, 2 }, { "", 0, 4 }, { "a=1", 0, 8 }, { "aa=1", 0, 16 }, { "a=", 0, 32 },
    };
    struct series_query q = series_of_name("m");
    static const struct label a1 = { STR_LIT("a"), STR_LIT("1") };
    q.labels = &a1;
    q.nlabels = 1;
    CHECK(&q, p, "{\"a\":\"1\",\"b\":\"x\"} 0=1; {\"a\":\"1\"} 0=8; latest=0");
    static const struct label both[] = { { STR_LIT("a"), STR_LIT("1") }, { STR_LIT("b"), STR_LIT("x") } };
    q.labels = both;
    q.nlabels = 2;
    CHECK(&q, p, "{\"a\":\"1\",\"b\":\"x\"} 0=1; latest=0");
    static const struct label empty = { STR_LIT("a"), STR_LIT("") };
    q.labels = &empty;
    q.nlabels = 1;
    CHECK(&q, p, "{\"a\":\"\"} 0=32; latest=0");
    q.nlabels = 0;
    q.match_none = true;
    CHECK(&q, p, "latest=none");
}

static void groups(void **state) {
    (void)state;
    static const struct point p[] = {
        { "a=1,b=x", 0, 1 },  { "a=2,b=x", 60, 2 }, { "a=3", 0, 4 },       { "b=", 0, 8 },
        { "a=4,b=x", 0, 16 }, { "", 60, 32 },       { "b=\"\\\n", 0, 64 },
    };
    struct series_query q = series_of_name("m");
    q.grouped = true;
    q.group_by = STR_LIT("b");
    CHECK(&q, p,
          "{\"b\":\"\"} 0=8; {\"b\":\"\\\"\\\\\\n\"} 0=64; {\"b\":\"x\"} 0=17 60=2; {\"b\":null} 0=4 60=32; latest=60");
    q.group_by = STR_LIT("");
    static const struct point e[] = { { "=v", 0, 1 }, { "a=1", 0, 2 } };
    CHECK(&q, e, "{\"\":\"v\"} 0=1; {\"\":null} 0=2; latest=0");
    q.group_by = STR_LIT("q\"k");
    static const struct point k[] = { { "a=1", 0, 2 } };
    CHECK(&q, k, "{\"q\\\"k\":null} 0=2; latest=0");
    /* Filter first, then groups. */
    static const struct label a3 = { STR_LIT("a"), STR_LIT("3") };
    q.group_by = STR_LIT("b");
    q.labels = &a3;
    q.nlabels = 1;
    CHECK(&q, p, "{\"b\":null} 0=4; latest=0");
}

/* Feeds n sets of one point each, named in rising, falling or mixed order; the first 50 in order must come out. */
static void series_limit(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 49, 50, 51, 100, 163, 164, 165, 400, 5000 };
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (int mode = 0; mode < 6; mode++) {
            size_t total = sizes[k], want = total < 50 ? total : 50;
            struct series_query q = series_of_name("m");
            q.grouped = mode >= 3;
            q.group_by = STR_LIT("k");
            struct series_sink *s = series_sink_new(&q, 1 << 20);
            assert_non_null(s);
            for (size_t i = 0; i < total; i++) {
                size_t id = mode % 3 == 0 ? i : mode % 3 == 1 ? total - 1 - i : i * 7919 % 10007 % 100000;
                if (mode % 3 == 2)
                    id = (i * 2654435761u) % 1000003;
                char text[32];
                snprintf(text, sizeof text, "%08zu", id);
                struct label l = { STR_LIT("k"), str_c(text) };
                uint32_t group = series_sink_set(s, &l, 1);
                assert_true(group != SERIES_NO_GROUP);
                assert_true(series_sink_point(s, group, (int64_t)id, 1));
                /* A second point by the same number, also when the group was dropped meanwhile. */
                assert_true(series_sink_point(s, group, (int64_t)id, 1));
            }
            const struct series_result *r;
            size_t n;
            int64_t latest;
            bool cut;
            assert_int_equal(series_sink_finish(s, &r, &n, &latest, &cut, NULL), XT_OK);
            assert_int_equal(n, want);
            assert_int_equal(cut, total > 50);
            for (size_t i = 0; i < n; i++) {
                assert_true(r[i].nvalues == 1 && r[i].values[0].value == 2);
                assert_true(i == 0 || str_cmp(r[i - 1].labels, r[i].labels) < 0);
                char text[32];
                snprintf(text, sizeof text, "{\"k\":\"%08zu\"}", i);
                if (mode % 3 != 2)
                    assert_true(str_eq_c(r[i].labels, text));
            }
            if (mode % 3 != 2)
                assert_int_equal(latest, total - 1);
            series_sink_free(s);
        }
    }
}

/* What lies behind the limit counts for latest alone. */
static void latest_of_cut_series(void **state) {
    (void)state;
    struct series_query q = series_of_name("m");
    struct series_sink *s = series_sink_new(&q, 1 << 20);
    assert_non_null(s);
    for (int i = 0; i < 1000; i++) {
        char text[32];
        snprintf(text, sizeof text, "%04d", i);
        struct label l = { STR_LIT("k"), str_c(text) };
        assert_true(series_sink_point(s, series_sink_set(s, &l, 1), i == 999 ? 5000 * NS_PER_SEC : 0, 1));
    }
    const struct series_result *r;
    size_t n;
    int64_t latest;
    bool cut;
    assert_int_equal(series_sink_finish(s, &r, &n, &latest, &cut, NULL), XT_OK);
    assert_true(n == 50 && cut && latest == 5000 * NS_PER_SEC);
    series_sink_free(s);
}

/* n buckets fed forwards, backwards and mixed: the newest 1000 stay, with all their points. */
static void points_limit(void **state) {
    (void)state;
    static const int64_t sizes[] = { 1, 999, 1000, 1001, 1999, 2000, 2001, 2500, 10007 };
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (int mode = 0; mode < 6; mode++) {
            int64_t total = sizes[k], keep = total < 1000 ? total : 1000;
            struct series_query q = series_of_name("m");
            q.agg = mode >= 3 ? AGG_P90 : AGG_SUM;
            if (mode >= 3 && 2 * total > SERIES_PASS_VALUES)
                continue; /* more than one pass: many_values */
            struct series_sink *s = series_sink_new(&q, 1 << 20);
            assert_non_null(s);
            uint32_t group = series_sink_set(s, NULL, 0);
            for (int round = 0; round < 2; round++) {
                for (int64_t i = 0; i < total; i++) {
                    int64_t at = mode % 3 == 0 ? i : mode % 3 == 1 ? total - 1 - i : i * 7919 % total;
                    assert_true(series_sink_point(s, group, at * 60 * NS_PER_SEC + round, (double)at));
                }
            }
            const struct series_result *r;
            size_t n;
            int64_t latest;
            bool cut;
            assert_int_equal(series_sink_finish(s, &r, &n, &latest, &cut, NULL), XT_OK);
            assert_true(n == 1 && (int64_t)r[0].nvalues == keep && cut == (total > 1000));
            for (int64_t i = 0; i < keep; i++) {
                int64_t at = total - keep + i;
                assert_true(r[0].values[i].timestamp == at * 60 * NS_PER_SEC);
                assert_true(r[0].values[i].value == (double)(mode >= 3 ? at : 2 * at));
            }
            series_sink_free(s);
        }
    }
}

#ifndef XTRACE_SMALL_LIMITS
static void memory_is_bounded(void **state) {
    (void)state;
    struct series_query q = series_of_name("m");
    q.agg = AGG_P99;
    struct series_sink *s = series_sink_new(&q, 100000);
    assert_non_null(s);
    uint32_t group = series_sink_set(s, NULL, 0);
    size_t n = 0;
    while (n < 100000 && series_sink_point(s, group, 0, 1))
        n++;
    assert_true(n > 4000 && n < 12500);
    const struct series_result *r;
    int64_t latest;
    bool cut;
    struct xt_err err;
    assert_int_equal(series_sink_finish(s, &r, &n, &latest, &cut, &err), XT_ETOOBIG);
    assert_non_null(strstr(err.msg, "narrow the range"));
    series_sink_free(s);
    /* Other aggregates need no memory for points, and a dropped group only its number: here 256 KB of 5 MB. */
    q.agg = AGG_MAX;
    s = series_sink_new(&q, 400000);
    assert_non_null(s);
    for (int i = 30000; i > 0; i--) {
        char text[32];
        snprintf(text, sizeof text, "%06d", i);
        struct label l = { STR_LIT("k"), str_c(text) };
        group = series_sink_set(s, &l, 1);
        for (int k = 0; k < 3; k++)
            assert_true(series_sink_point(s, group, k * NS_PER_DAY, 1));
    }
    series_sink_free(s);
}
#endif

static void allocations_fail(void **state) {
    (void)state;
    for (uint64_t n = 1; n < 2000; n++) {
        struct series_query q = series_of_name("m");
        q.agg = n % 2 ? AGG_P90 : AGG_SUM;
        q.grouped = n % 3 == 0;
        q.group_by = STR_LIT("k");
        alloc_fail_at(n);
        struct series_sink *s = series_sink_new(&q, 1 << 20);
        for (int i = 300; s && i > 0; i--) {
            char text[32];
            snprintf(text, sizeof text, "%06d", i);
            struct label l = { STR_LIT("k"), str_c(text) };
            uint32_t group = series_sink_set(s, &l, 1);
            for (int k = 0; group != SERIES_NO_GROUP && k < 8; k++)
                if (!series_sink_point(s, group, k * NS_PER_DAY / 2, 1))
                    break;
        }
        const struct series_result *r;
        size_t nr;
        int64_t latest;
        bool cut;
        struct xt_err err;
        enum xt_code code = s ? series_sink_finish(s, &r, &nr, &latest, &cut, &err) : XT_ENOMEM;
        alloc_fail_at(0);
        series_sink_free(s);
        assert_true(code == XT_OK || code == XT_ENOMEM);
    }
}

#ifndef XTRACE_SMALL_LIMITS
/* A million label sets of one point, grouped: the most important query of its users. The bound leaves room for slow
 * machines and sanitizers; it would not for work per set that grows. */
static void million_sets(void **state) {
    (void)state;
    struct series_query q = series_of_name("m");
    q.agg = AGG_P99;
    q.grouped = true;
    q.group_by = STR_LIT("span_name");
    struct series_sink *s = series_sink_new(&q, (size_t)64 << 20);
    assert_non_null(s);
    int64_t start = clock_mono_ns();
    uint64_t seed = 7;
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        static const char *const names[] = { "chat", "embed", "rerank", "tool", "plan", "retrieve", "judge", "route" };
        char id[17];
        for (int k = 0; k < 16; k++)
            id[k] = "0123456789abcdef"[(seed >> (4 * k)) & 15];
        struct label labels[] = { { STR_LIT("model"), STR_LIT("m1") },
                                  { STR_LIT("span_name"), str_c(names[seed >> 61]) },
                                  { STR_LIT("trace_id"), { id, 16 } } };
        uint32_t group = series_sink_set(s, labels, 3);
        assert_true(series_sink_point(s, group, (int64_t)(seed >> 20) % (3600 * NS_PER_SEC), (double)(seed >> 50)));
    }
    int64_t fed = clock_mono_ns();
    const struct series_result *r;
    size_t n;
    int64_t latest;
    bool cut;
    assert_int_equal(series_sink_finish(s, &r, &n, &latest, &cut, NULL), XT_OK);
    assert_int_equal(n, 8);
    int64_t end = clock_mono_ns();
    print_message("a million sets: fed in %lld ms, finished in %lld ms\n", (long long)((fed - start) / 1000000),
                  (long long)((end - fed) / 1000000));
    series_sink_free(s);
    assert_true(end - start < 5 * NS_PER_SEC);
}
#endif

/* More values than one pass keeps: several passes give what sorting gives, and memory is bounded. Under the usual limits
 * these are millions of points. */
static void many_values(void **state) {
    (void)state;
    const size_t n = SERIES_PASS_VALUES / 10 * 18;
    for (int mode = 0; mode < 3; mode++) {
        struct series_query q = series_of_name("m");
        q.from = mode ? 0 : TIME_MIN; /* a range of an axis, or a sparse one */
        q.to = mode ? 119 * 60 * NS_PER_SEC : TIME_MAX;
        q.agg = AGG_P90;
        q.max_points = 100;
        q.max_series = 3;
        struct series_sink *s = series_sink_new(&q, (size_t)160 << 20);
        assert_non_null(s);
        size_t passes = 0;
        do {
            uint32_t groups[4];
            for (int g = 0; g < 4; g++) {
                char text[16];
                snprintf(text, sizeof text, "%d", g);
                struct label l = { STR_LIT("k"), str_c(text) };
                groups[g] = series_sink_set(s, &l, 1);
            }
            for (size_t i = 0; i < n; i++) {
                /* Mode 2: half of all in one bucket, more than a slice should hold. */
                size_t minute = mode == 2 && i / 480 % 2 ? 50 : i % 120;
                assert_true(series_sink_arrival(s, groups[i / 120 % 4], (int64_t)minute * 60 * NS_PER_SEC, 0,
                                                (double)(i * 2654435761u % 1000003)));
            }
            passes++;
        } while (series_sink_again(s));
        assert_true(passes > 2 && passes < 8);
        const struct series_result *r;
        size_t nr;
        int64_t latest;
        bool cut;
        assert_int_equal(series_sink_finish(s, &r, &nr, &latest, &cut, NULL), XT_OK);
        assert_true(nr == 3 && cut && latest == 119 * 60 * NS_PER_SEC);
        double *v = malloc(n * sizeof *v);
        assert_non_null(v);
        for (size_t g = 0; g < nr; g++) {
            assert_int_equal(r[g].nvalues, 100);
            for (size_t k = 30; k < 32; k++) { /* minutes 50 and 51 */
                size_t count = 0;
                for (size_t i = 0; i < n; i++)
                    if (i / 120 % 4 == g && (mode == 2 && i / 480 % 2 ? 50 : i % 120) == k + 20)
                        v[count++] = (double)(i * 2654435761u % 1000003);
                assert_true(r[g].values[k].timestamp == (int64_t)(k + 20) * 60 * NS_PER_SEC);
                if (count == 0)
                    continue;
                qsort(v, count, sizeof *v, by_value);
                double at = 0.9 * (double)(count - 1), lo = v[(size_t)floor(at)], hi = v[(size_t)ceil(at)];
                volatile double part = (at - floor(at)) * (hi - lo);
                assert_true(r[g].values[k].value == lo + part);
            }
        }
        free(v);
        series_sink_free(s);
    }
    /* Who does not ask for another pass gets no answer, rather than a wrong one. */
    struct series_query q = series_of_name("m");
    q.agg = AGG_P50;
    struct series_sink *s = series_sink_new(&q, (size_t)160 << 20);
    uint32_t group = series_sink_set(s, NULL, 0);
    for (size_t i = 0; i < n; i++)
        assert_true(series_sink_point(s, group, (int64_t)i, 1));
    const struct series_result *r;
    size_t nr;
    int64_t latest;
    bool cut;
    struct xt_err err;
    assert_int_equal(series_sink_finish(s, &r, &nr, &latest, &cut, &err), XT_ETOOBIG);
    series_sink_free(s);
}

/* Points of replacing sets: of equal times the last one counts, whatever came between, also over several passes. */
static void replacing(void **state) {
    (void)state;
    static const enum series_agg aggs[] = { AGG_SUM, AGG_LAST, AGG_P50 };
    for (size_t k = 0; k < 6; k++) {
        const size_t n = k < 3 ? 100 : SERIES_PASS_REPLACING;
        struct series_query q = series_of_name("m");
        q.agg = aggs[k % 3];
        struct series_sink *s = series_sink_new(&q, (size_t)300 << 20);
        assert_non_null(s);
        size_t passes = 0;
        do {
            passes++;
            struct label x[] = { { STR_LIT("a"), STR_LIT("1") } };
            struct series_identity id = series_identity(x, 1);
            uint32_t group = series_sink_set(s, x, 1);
            for (size_t i = 0; i < n; i++) {
                int64_t t = (int64_t)(i % 600) * NS_PER_SEC + (int64_t)(i / 600), arrival[2] = { (int64_t)i + 10, 5 };
                const uint32_t groups[2] = { group, group };
                const int64_t times[2] = { t, t };
                const double values[2] = { 3, 4 }; /* the second one came first */
                const struct series_points p = { groups, times, values, arrival, 2 };
                assert_true(series_sink_feed_replacing(s, id, &p));
            }
        } while (series_sink_again(s));
        assert_true(k < 3 ? passes == 1 : passes > 1);
        const struct series_result *r;
        size_t nr;
        int64_t latest;
        bool cut;
        assert_int_equal(series_sink_finish(s, &r, &nr, &latest, &cut, NULL), XT_OK);
        assert_true(nr == 1);
        double sum = 0;
        for (size_t i = 0; i < r[0].nvalues; i++) {
            sum += r[0].values[i].value;
            assert_true(q.agg == AGG_SUM || r[0].values[i].value == 3);
        }
        assert_true(q.agg != AGG_SUM || sum == 3 * (double)n);
        series_sink_free(s);
    }
    struct label a[] = { { STR_LIT("a"), STR_LIT("bc") } }, b[] = { { STR_LIT("ab"), STR_LIT("c") } };
    struct series_identity x = series_identity(a, 1), y = series_identity(b, 1), z = series_identity(a, 1);
    assert_memory_not_equal(&x, &y, sizeof x);
    assert_memory_equal(&x, &z, sizeof x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aggregates),
        cmocka_unit_test(percentiles),
        cmocka_unit_test(percentiles_brute),
        cmocka_unit_test(overflow),
        cmocka_unit_test(last_of_equal_times),
        cmocka_unit_test(range_is_inclusive),
        cmocka_unit_test(absurd_times),
        cmocka_unit_test(filters),
        cmocka_unit_test(groups),
        cmocka_unit_test(series_limit),
        cmocka_unit_test(latest_of_cut_series),
        cmocka_unit_test(points_limit),
        cmocka_unit_test(allocations_fail),
#ifndef XTRACE_SMALL_LIMITS /* of one pass */
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(million_sets),
#endif
        cmocka_unit_test(many_values),
        cmocka_unit_test(replacing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
