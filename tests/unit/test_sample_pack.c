/* test_sample_pack.c -- parts of generations: everything comes back bit for bit, queries over parts give what a sink fed
 * point by point gives, damaged parts do no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <math.h>
#include <cmocka.h>

#include "sample_source.h"

static uint64_t seed = 1;
static uint64_t draw(uint64_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 20) % below;
}

/* ---- making sources ---- */

/* Text that lives until the end of the test. */
static struct arena texts;
static struct str text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct str text_of(const char *format, ...) {
    char room[400];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(room, sizeof room, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof room);
    return arena_str(&texts, (struct str){ room, (size_t)n });
}
static struct str hex_text(void) {
    return text_of("%016llx%016llx", (unsigned long long)draw(1ull << 44) << 20, (unsigned long long)draw(1ull << 40));
}
static struct str uuid_text(void) {
    return text_of("%08x-%04x-%04x-%04x-%012llx", (unsigned)draw(1ull << 32), (unsigned)draw(65536),
                   (unsigned)draw(65536), (unsigned)draw(65536), (unsigned long long)draw(1ull << 44));
}

static void source_init(struct source *s, size_t nsets, size_t npoints) {
    memset(s, 0, sizeof *s);
    s->sets = calloc(nsets + 1, sizeof *s->sets);
    s->points = calloc(npoints + 1, sizeof *s->points);
    assert_true(s->sets && s->points);
    s->nsets = nsets;
    s->npoints = npoints;
}
static void source_free(struct source *s) {
    source_done(s);
    free(s->sets);
    free(s->points);
}
static void add_label(struct source *s, size_t set, struct str name, struct str value) {
    struct source_set *to = &s->sets[set];
    struct label *more = arena_new(&texts, struct label, to->nlabels + 1);
    assert_non_null(more);
    if (to->nlabels)
        memcpy(more, to->labels, to->nlabels * sizeof *more);
    more[to->nlabels] = (struct label){ name, value };
    to->labels = more;
    to->nlabels = labels_sort(more, to->nlabels + 1);
}

/* ---- round trips ---- */

struct check {
    const struct source *s;
    const uint32_t *order; /* points by set and time */
    size_t at, npoints;
};
static bool same_labels(const struct pack_run *run, const struct source_set *set) {
    if (run->nlabels != set->nlabels || run->replaces != set->replaces)
        return false;
    for (size_t i = 0; i < set->nlabels; i++)
        if (!str_eq(run->labels[i].name, set->labels[i].name) || !str_eq(run->labels[i].value, set->labels[i].value))
            return false;
    return true;
}
static bool check_run(void *arg, const struct pack_run *run) {
    struct check *c = arg;
    for (size_t i = 0; i < run->n; i++) {
        assert_true(c->at < c->npoints);
        const struct source_point *p = &c->s->points[c->order[c->at++]];
        assert_true(same_labels(run, &c->s->sets[p->set]));
        assert_true(run->times[i] == p->time);
        assert_memory_equal(&run->values[i], &p->value, sizeof p->value);
    }
    return true;
}

static void build(struct source *s, struct source_parts *parts, struct filter *filter) {
    struct xt_err err;
    struct pack_builder *b = pack_builder_new();
    assert_non_null(b);
    memset(parts, 0, sizeof *parts);
    assert_int_equal(source_build(s, b, 7, source_keep, parts, &err), XT_OK);
    if (filter)
        assert_int_equal(pack_filter(b, filter, &err), XT_OK);
    pack_builder_free(b);
}

/* Returns the bytes of all parts. No set may be replacing, unless its times differ. */
static size_t round_trip(struct source *s) {
    struct source_parts parts;
    struct filter filter;
    struct xt_err err;
    size_t bytes = 0, points = 0;
    build(s, &parts, &filter);
    uint32_t *order = calloc(s->npoints + 1, sizeof *order);
    assert_non_null(order);
    for (size_t i = 0; i < s->npoints; i++)
        order[i] = (uint32_t)i;
    source_sorting = s;
    qsort(order, s->npoints, sizeof *order, source_by_set_and_time);
    struct check c = { s, order, 0, s->npoints };
    for (size_t i = 0; i < parts.n; i++) {
        const struct source_part *p = &parts.part[i];
        size_t from = c.at;
        if (pack_each(p->lab, p->pts, p->raw, check_run, &c, &err) != XT_OK)
            fail_msg("part %zu: %s", i, err.msg);
        assert_int_equal(c.at - from, p->points);
        for (size_t k = from; k < c.at; k++)
            assert_true(s->points[order[k]].time >= p->t0 && s->points[order[k]].time <= p->t1);
        assert_true(p->points == SAMPLE_PACK_POINTS || i + 1 == parts.n);
        bytes += p->lab.n + p->pts.n + p->raw.n;
        points += p->points;
    }
    assert_int_equal(points, s->npoints);
    for (size_t i = 0; i < s->npoints; i++) {
        const struct source_set *set = &s->sets[s->points[i].set];
        for (size_t k = 0; k < set->nlabels; k++) {
            uint64_t h = filter_hash(7, set->labels[k].name, set->labels[k].value);
            size_t row = filter_row(h, filter.rows);
            assert_true(row < filter.rows);
            assert_true(filter_maybe((struct str){ (const char *)filter.bytes + row * FILTER_ROW, FILTER_ROW },
                                     filter.rows, h));
        }
    }
    filter_done(&filter);
    parts_done(&parts);
    free(order);
    return bytes;
}

static void shapes(void **state) {
    (void)state;
    static const int64_t t0 = INT64_C(1767225600) * NS_PER_SEC;
    for (int shape = 0; shape < 12; shape++) {
        struct source s;
        source_init(&s, 20, 20000);
        for (size_t i = 0; i < s.nsets; i++)
            add_label(&s, i, STR_LIT("instance"), text_of("host-%zu", i));
        int64_t walk[20] = { 0 };
        for (size_t i = 0; i < s.npoints; i++) {
            size_t set = i % s.nsets;
            struct source_point *p = &s.points[i];
            *p = (struct source_point){ (uint32_t)set, t0 + (int64_t)(i / s.nsets) * 15 * NS_PER_SEC, 0 };
            walk[set] += (int64_t)draw(41) - 20;
            switch (shape) {
            case 0: p->value = 42; break;        /* constant */
            case 1: p->value = (double)i; break; /* ramp */
            case 2:
                p->value = (double)walk[set];
                p->time += (int64_t)draw(10) * 1000000;
                break;                                         /* gauge */
            case 3: p->value = (double)walk[set] / 1e3; break; /* decimals */
            case 4: p->value = (double)draw(1u << 30) / 1e9; break;
            case 5: p->value = (double)draw(1ull << 43) * 1e-20; break; /* none of them */
            case 6:
                p->value = (double)walk[set]; /* 5 % late */
                p->time += (int64_t)draw(10) * 1000000 - (draw(20) ? 0 : (int64_t)draw(7200) * NS_PER_SEC);
                break;
            case 7: p->time = draw(2) ? INT64_MAX - (int64_t)draw(3) : TIME_MIN + (int64_t)draw(3); break;
            case 8:
                p->time += (int64_t)draw(1000000007);
                p->value = draw(2) ? -0.0 : 1;
                break;
            case 9: {
                uint64_t bits = draw(1ull << 44) << 20 | draw(1u << 20);
                memcpy(&p->value, &bits, 8);
            } break;
            case 10:
                p->value = (double)(1ull << 53) - (double)draw(3);
                p->time = t0;
                break; /* one time for all */
            default:
                p->value = i % 997 == 0 ? 1e15 : (double)(i % 7);
                p->time -= (int64_t)draw(3) * 1000;
                break;
            }
        }
        size_t bytes = round_trip(&s);
        if (shape <= 1 && SAMPLE_PACK_POINTS > 1000)
            assert_true(bytes < s.npoints / 4 + 2000);
        if (shape == 2 && SAMPLE_PACK_POINTS > 1000)
            assert_true(bytes < s.npoints * 2);
        if (shape == 6 && SAMPLE_PACK_POINTS > 1000)
            assert_true(bytes < s.npoints * 5 / 2);
        source_free(&s);
    }
}

/* A new set for nearly every point, and other things that labels may be. */
static void fill_labels(struct source *s, int shape) {
    char bytes[255];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i + 1);
    struct str shared = hex_text();
    for (size_t i = 0; i < s->nsets; i++) {
        switch (shape) {
        case 0: /* what a tracing layer sends */
            add_label(s, i, STR_LIT("model"), text_of("model-%d", (int)draw(5)));
            add_label(s, i, STR_LIT("span_name"), text_of("span-%d", (int)draw(20)));
            add_label(s, i, STR_LIT("trace_id"), hex_text());
            break;
        case 1: /* several spans of a trace; some ids are no ids */
            if (i % 5 == 0)
                shared = i % 35 == 0 ? text_of("req-%zu", i) : draw(2) ? hex_text() : uuid_text();
            add_label(s, i, STR_LIT("span_name"), text_of("span-%d", (int)(i % 5)));
            add_label(s, i, STR_LIT("trace_id"), shared);
            break;
        case 2: /* upper case and near misses must come back as they are */
            add_label(s, i, STR_LIT("a"), i % 3 ? uuid_text() : text_of("%032X", (unsigned)draw(1u << 31)));
            add_label(s, i, STR_LIT("b"), text_of("%031x", (unsigned)draw(1u << 31)));
            add_label(s, i, STR_LIT("c"), text_of("%08x-%04x-%04x-%04x%013x", (unsigned)i, 0u, 1u, 2u, 3u));
            add_label(s, i, STR_LIT("d"), text_of("%s", ""));
            break;
        case 3: /* nothing in common */
            for (int k = 0; k < 65; k++)
                add_label(s, i, text_of("key-%zu-%d", i % 40, k), text_of("%d", (int)draw(3)));
            break;
        case 4: /* every byte, empty names and values, none at all */
            if (i % 3 == 0)
                add_label(s, i, STR_LIT(""), arena_str(&texts, (struct str){ bytes, sizeof bytes }));
            if (i % 3 == 1)
                add_label(s, i, arena_str(&texts, (struct str){ bytes, 1 + i % sizeof bytes }), text_of("%zu", i));
            if (i % 7 == 0)
                add_label(s, i, arena_str(&texts, (struct str){ "a\0b", 3 }), STR_LIT(""));
            break;
        default: /* text of its own for each */
            add_label(s, i, STR_LIT("url"), text_of("/api/items/%zu?page=%d", i, (int)draw(9)));
            if (draw(4) == 0)
                add_label(s, i, STR_LIT("rare"), text_of("%d", (int)draw(2000)));
            break;
        }
    }
}

static void labels(void **state) {
    (void)state;
    static const int64_t t0 = INT64_C(1767225600) * NS_PER_SEC;
    for (int shape = 0; shape < 6; shape++) {
        for (int per_set = 1; per_set <= 3; per_set += 2) {
            struct source s;
            size_t nsets = shape == 3 ? 120 : 11000;
            source_init(&s, nsets, nsets * (size_t)per_set);
            fill_labels(&s, shape);
            for (size_t i = 0; i < s.npoints; i++)
                s.points[i] =
                    (struct source_point){ (uint32_t)(i % nsets), t0 + (int64_t)(i * 3600000 + draw(50) * 1000000),
                                           (double)draw(1000) };
            size_t bytes = round_trip(&s);
            if (shape == 0 && per_set == 1 && SAMPLE_PACK_POINTS > 1000)
                assert_true(bytes < s.npoints * 24);
            source_free(&s);
            arena_reset(&texts);
        }
    }
}

/* ---- queries ---- */

static void feed_plain(const struct source *s, const struct series_query *q, struct series_sink *sink) {
    (void)q;
    do {
        for (size_t i = 0; i < s->npoints; i++) {
            const struct source_point *p = &s->points[i];
            const struct source_set *set = &s->sets[p->set];
            int64_t from, to, arrival = (int64_t)i;
            series_sink_range(sink, &from, &to);
            if (p->time < from || p->time > to || !series_sink_wants(sink, set->labels, set->nlabels))
                continue;
            uint32_t group = series_sink_set(sink, set->labels, set->nlabels);
            struct series_points one = { &group, &p->time, &p->value, &arrival, 1 };
            assert_true(set->replaces
                            ? series_sink_feed_replacing(sink, series_identity(set->labels, set->nlabels), &one)
                            : series_sink_feed(sink, &one));
        }
    } while (series_sink_again(sink));
}

static void same_answers(struct series_sink *a, struct series_sink *b, enum series_agg agg) {
    const struct series_result *x, *y;
    size_t nx, ny;
    int64_t latest_x, latest_y;
    bool cut_x, cut_y;
    struct xt_err err;
    assert_int_equal(series_sink_finish(a, &x, &nx, &latest_x, &cut_x, &err), XT_OK);
    assert_int_equal(series_sink_finish(b, &y, &ny, &latest_y, &cut_y, &err), XT_OK);
    assert_int_equal(nx, ny);
    assert_true(latest_x == latest_y);
    assert_int_equal(cut_x, cut_y);
    for (size_t i = 0; i < nx; i++) {
        assert_true(str_eq(x[i].labels, y[i].labels));
        assert_int_equal(x[i].nvalues, y[i].nvalues);
        for (size_t k = 0; k < x[i].nvalues; k++) {
            assert_true(x[i].values[k].timestamp == y[i].values[k].timestamp);
            double u = x[i].values[k].value, v = y[i].values[k].value;
            if (agg == AGG_AVG || agg == AGG_SUM) /* in another order */
                assert_true(fabs(u - v) <= 1e-9 * fmax(fabs(u), 1));
            else
                assert_memory_equal(&u, &v, sizeof u);
        }
    }
}

/* Random queries over random sources, against a sink that gets every point alone in order of arrival. */
static void queries(void **state) {
    (void)state;
    static const int64_t t0 = INT64_C(1767225600) * NS_PER_SEC;
    static const char *const keys[] = { "model", "span_name", "trace_id", "a", "url", "rare", "", "absent" };
    for (int round = 0; round < 60; round++) {
        struct source s;
        int shape = (int)draw(6);
        size_t nsets = shape == 3 ? 50 : 1 + draw(3000);
        source_init(&s, nsets, nsets * (1 + draw(4)));
        fill_labels(&s, shape);
        bool replacing = draw(3) == 0;
        for (size_t i = 0; i < nsets; i++)
            s.sets[i].replaces = replacing && draw(2);
        for (size_t i = 0; i < s.npoints; i++)
            s.points[i] = (struct source_point){ (uint32_t)draw(nsets), t0 + (int64_t)draw(240) * 30 * NS_PER_SEC,
                                                 (double)draw(1000) - 500 };
        /* In order of arrival sets come as they first appear: number them so. */
        uint32_t *number = calloc(nsets, sizeof *number), next = 0;
        assert_non_null(number);
        for (size_t i = 0; i < s.npoints; i++) {
            if (number[s.points[i].set] == 0)
                number[s.points[i].set] = ++next;
            s.points[i].set = number[s.points[i].set] - 1;
        }
        free(number);
        struct source_parts parts;
        build(&s, &parts, NULL);
        for (int k = 0; k < 12; k++) {
            struct series_query q = { .from = draw(3) ? t0 + (int64_t)draw(3600) * NS_PER_SEC : TIME_MIN,
                                      .to = draw(3) ? t0 + 3600 * NS_PER_SEC + (int64_t)draw(3600) * NS_PER_SEC
                                                    : TIME_MAX,
                                      .step = 60 * NS_PER_SEC,
                                      .agg = (enum series_agg)draw(8),
                                      .grouped = draw(2),
                                      .group_by = str_c(keys[draw(8)]),
                                      .deadline = TIME_NONE,
                                      .max_points = 1 + draw(300),
                                      .max_series = 1 + draw(60) };
            struct label filter[2];
            const struct source_set *like = &s.sets[draw(nsets)];
            for (size_t l = 0; l < like->nlabels && q.nlabels < 2; l++)
                if (draw(3) == 0)
                    filter[q.nlabels++] = like->labels[l];
            q.labels = filter;
            struct series_sink *plain = series_sink_new(&q, (size_t)64 << 20);
            struct series_sink *packed = series_sink_new(&q, (size_t)64 << 20);
            assert_true(plain && packed);
            feed_plain(&s, &q, plain);
            struct xt_err err;
            assert_int_equal(parts_query(&parts, &q, 3, packed, &err), XT_OK);
            same_answers(plain, packed, q.agg);
            series_sink_free(plain);
            series_sink_free(packed);
        }
        parts_done(&parts);
        source_free(&s);
        arena_reset(&texts);
    }
}

/* ---- order of arrival ---- */

/* Sets that take turns in any order at the same few times: `last` is what arrived last, over sets and parts, and a later
 * generation comes after an earlier one. */
static void last_of_equal_times(void **state) {
    (void)state;
    for (int round = 0; round < 40; round++) {
        struct source s;
        size_t nsets = 1 + draw(20), times = 1 + draw(30);
        source_init(&s, nsets, 1 + draw(SAMPLE_PACK_POINTS > 1000 ? 30000 : 500));
        for (size_t i = 0; i < nsets; i++) {
            add_label(&s, i, STR_LIT("g"), text_of("%d", (int)(i % 2)));
            add_label(&s, i, STR_LIT("n"), text_of("%zu", i));
        }
        int64_t want[2] = { -1, -1 }, latest[2] = { TIME_NONE, TIME_NONE };
        for (size_t i = 0; i < s.npoints; i++) {
            struct source_point *p = &s.points[i];
            *p = (struct source_point){ (uint32_t)draw(nsets), (int64_t)draw(times), (double)i };
            unsigned g = p->set % 2;
            if (p->time >= latest[g]) {
                latest[g] = p->time;
                want[g] = (int64_t)i;
            }
        }
        struct source_parts parts;
        build(&s, &parts, NULL);
        struct series_query q = { .from = TIME_MIN,
                                  .to = TIME_MAX,
                                  .step = 60 * NS_PER_SEC,
                                  .agg = AGG_LAST,
                                  .grouped = true,
                                  .group_by = STR_LIT("g"),
                                  .deadline = TIME_NONE,
                                  .max_points = 1000,
                                  .max_series = 50 };
        struct series_sink *sink = series_sink_new(&q, (size_t)64 << 20);
        assert_non_null(sink);
        struct xt_err err;
        assert_int_equal(parts_query(&parts, &q, 3, sink, &err), XT_OK);
        const struct series_result *r;
        size_t n;
        int64_t newest;
        bool cut;
        assert_int_equal(series_sink_finish(sink, &r, &n, &newest, &cut, &err), XT_OK);
        for (size_t i = 0; i < n; i++) {
            size_t g = str_eq_c(r[i].labels, "{\"g\":\"1\"}");
            assert_true(r[i].nvalues == 1 && r[i].values[0].value == (double)want[g]);
        }
        series_sink_free(sink);
        parts_done(&parts);
        source_free(&s);
        arena_reset(&texts);
    }
    assert_true(pack_arrival(4, 0) > pack_arrival(3, (1u << 27) - 1));
}

/* Within a generation the build drops what was replaced. */
static void replaced_points_are_left_out(void **state) {
    (void)state;
    struct source s;
    source_init(&s, 2, 3 * SAMPLE_PACK_POINTS);
    s.sets[0].replaces = true;
    add_label(&s, 0, STR_LIT("a"), STR_LIT("1"));
    add_label(&s, 1, STR_LIT("a"), STR_LIT("1"));
    for (size_t i = 0; i < s.npoints; i++)
        s.points[i] = (struct source_point){ i % 3 == 2, (int64_t)(i / 7), (double)i };
    struct source_parts parts;
    build(&s, &parts, NULL);
    size_t points = 0;
    for (size_t i = 0; i < parts.n; i++)
        points += parts.part[i].points;
    assert_int_equal(points, s.npoints / 3 + (s.npoints - 1) / 7 + 1);
    struct series_query q = { .from = TIME_MIN,
                              .to = TIME_MAX,
                              .step = 60 * NS_PER_SEC,
                              .agg = AGG_SUM,
                              .deadline = TIME_NONE,
                              .max_points = 1000,
                              .max_series = 50 };
    struct series_sink *plain = series_sink_new(&q, (size_t)64 << 20), *packed = series_sink_new(&q, (size_t)64 << 20);
    struct xt_err err;
    feed_plain(&s, &q, plain);
    assert_int_equal(parts_query(&parts, &q, 1, packed, &err), XT_OK);
    same_answers(plain, packed, q.agg);
    series_sink_free(plain);
    series_sink_free(packed);
    parts_done(&parts);
    source_free(&s);
    arena_reset(&texts);
}

/* ---- damage ---- */

static bool any_run(void *arg, const struct pack_run *run) {
    *(size_t *)arg += run->n + run->nlabels;
    return true;
}

static void read_both(const struct source_part *p) {
    struct xt_err err;
    size_t seen = 0;
    enum xt_code code = pack_each(p->lab, p->pts, p->raw, any_run, &seen, &err);
    assert_true(code == XT_OK || code == XT_ESTORE);
    struct source_parts one = { (struct source_part *)(uintptr_t)p, 1, 1 };
    const struct label filter = { STR_LIT("span_name"), STR_LIT("span-1") };
    for (int k = 0; k < 3; k++) {
        struct series_query q = { .labels = &filter,
                                  .nlabels = k == 1,
                                  .from = TIME_MIN,
                                  .to = TIME_MAX,
                                  .step = NS_PER_DAY,
                                  .agg = k ? AGG_P90 : AGG_LAST,
                                  .grouped = k != 0,
                                  .group_by = k == 1 ? STR_LIT("trace_id") : STR_LIT("span_name"),
                                  .deadline = TIME_NONE,
                                  .max_points = 1000,
                                  .max_series = 50 };
        struct series_sink *sink = series_sink_new(&q, (size_t)16 << 20);
        assert_non_null(sink);
        code = parts_query(&one, &q, 1, sink, &err);
        assert_true(code == XT_OK || code == XT_ESTORE);
        series_sink_free(sink);
    }
}

/* Each blob cut at many lengths and with bits turned round, in memory exactly as long as it is. */
static void damaged(void **state) {
    (void)state;
    for (int shape = 0; shape < 6; shape++) {
        struct source s;
        size_t nsets = 90;
        source_init(&s, nsets, nsets * (shape % 2 ? 3 : 1));
        fill_labels(&s, shape);
        for (size_t i = 0; i < s.npoints; i++)
            s.points[i] = (struct source_point){ (uint32_t)(i % nsets), (int64_t)draw(20), (double)draw(1000) / 3 };
        for (size_t i = 0; i < nsets; i++)
            s.sets[i].replaces = shape == 5 && i % 2;
        struct source_parts parts;
        build(&s, &parts, NULL);
        struct source_part good = parts.part[0];
        struct str *blobs[] = { &parts.part[0].lab, &parts.part[0].pts, &parts.part[0].raw };
        for (int k = 0; k < 3; k++) {
            struct str was = *blobs[k];
            for (size_t n = 0; n < was.n; n += 1 + was.n / 300) {
                *blobs[k] = source_copy((struct str){ was.p, n });
                read_both(&parts.part[0]);
                free((char *)(uintptr_t)blobs[k]->p);
            }
            for (size_t at = 0; at < was.n; at += 1 + was.n / 600) {
                *blobs[k] = source_copy(was);
                ((char *)(uintptr_t)blobs[k]->p)[at] ^= (char)(1u << draw(8));
                read_both(&parts.part[0]);
                free((char *)(uintptr_t)blobs[k]->p);
            }
            *blobs[k] = was;
        }
        parts.part[0] = good;
        parts_done(&parts);
        source_free(&s);
        arena_reset(&texts);
    }
}

/* ---- memory ---- */

static enum xt_code refuse(void *arg, const struct pack_part *part, struct xt_err *err) {
    (void)part;
    return --*(int *)arg > 0 ? XT_OK : xt_fail(err, XT_EUNAVAILABLE, "disk full");
}

static void writer_fails(void **state) {
    (void)state;
    struct source s;
    source_init(&s, 1, 3 * SAMPLE_PACK_POINTS);
    struct pack_builder *b = pack_builder_new();
    struct xt_err err;
    for (int n = 1; n <= 4; n++) {
        int left = n;
        assert_int_equal(source_build(&s, b, 1, refuse, &left, &err), n <= 3 ? XT_EUNAVAILABLE : XT_OK);
        assert_int_equal(left, n <= 3 ? 0 : 1);
    }
    pack_reset(b);
    pack_builder_free(b);
    source_free(&s);
}

static void allocations_fail(void **state) {
    (void)state;
    struct source s;
    source_init(&s, 300, 600);
    fill_labels(&s, 1);
    for (size_t i = 0; i < s.npoints; i++)
        s.points[i] = (struct source_point){ (uint32_t)draw(300), (int64_t)draw(20), (double)draw(1000) };
    s.sets[0].replaces = true;
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct source_parts parts = { 0 };
        struct filter filter = { 0 };
        struct xt_err err;
        alloc_fail_at(n);
        struct pack_builder *b = pack_builder_new();
        enum xt_code code = b ? source_build(&s, b, 7, source_keep, &parts, &err) : XT_ENOMEM;
        if (code == XT_OK)
            code = pack_filter(b, &filter, &err);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        done = code == XT_OK && n > 5;
        filter_done(&filter);
        pack_builder_free(b);
        if (done)
            parts_done(&parts), build(&s, &parts, NULL);
        for (uint64_t k = 1; done && k < 60; k++) {
            struct series_query q = { .from = TIME_MIN,
                                      .to = TIME_MAX,
                                      .step = NS_PER_DAY,
                                      .agg = AGG_P90,
                                      .grouped = k % 2,
                                      .group_by = STR_LIT("trace_id"),
                                      .deadline = TIME_NONE,
                                      .max_points = 1000,
                                      .max_series = 50 };
            struct series_sink *sink = series_sink_new(&q, (size_t)16 << 20);
            struct pack_reader *r = pack_reader_new(&q, sink);
            enum pack_want want;
            bool full = false;
            alloc_fail_at(k);
            code = pack_open(r, parts.part[0].lab, &want, &err);
            if (code == XT_OK)
                code = pack_read(r, parts.part[0].pts, parts.part[0].raw, 1, 0, &full, &err);
            alloc_fail_at(0);
            assert_true(code == XT_OK || code == XT_ENOMEM);
            pack_reader_free(r);
            series_sink_free(sink);
        }
        parts_done(&parts);
    }
    source_free(&s);
    arena_reset(&texts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(labels),
        cmocka_unit_test(queries),
        cmocka_unit_test(last_of_equal_times),
        cmocka_unit_test(replaced_points_are_left_out),
        cmocka_unit_test(damaged),
        cmocka_unit_test(writer_fails),
        cmocka_unit_test(allocations_fail),
    };
    arena_init(&texts, (size_t)512 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_done(&texts);
    return failed;
}
