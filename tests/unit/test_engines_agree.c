/* test_engines_agree.c -- one meaning, two engines: the same random batches go into SQLite and into PostgreSQL, then both
 * answer the same random queries in the same words. Seeds are fixed; a failure names seed and query. XTRACE_TEST_SEED=N
 * runs that one alone. */
#include "trace_fixture.h"

#define BASE (1767225600 * SEC) /* 2026-01-01T00:00:00Z, a full hour and day */
#define IDS 40
#define TEXTS 10
#define GROUPS 14
#define QUERIES 260

struct two {
    struct fixture sqlite, postgresql;
};

/* ---- chance ---- */

struct dice {
    uint64_t s;
};
static uint64_t roll(struct dice *d, uint64_t n) {
    d->s ^= d->s << 13;
    d->s ^= d->s >> 7;
    d->s ^= d->s << 17;
    return (d->s * UINT64_C(2685821657736338717) >> 11) % n;
}
static bool one_in(struct dice *d, uint64_t n) { return roll(d, n) == 0; }

/* ---- values: few of them, so that records meet; among them what engines store in other ways ---- */

static struct str spread(struct arena *a, char c, size_t n, const char *end) {
    char *p = arena_bytes(a, n + strlen(end));
    assert_non_null(p);
    memset(p, c, n);
    memcpy(p + n, end, strlen(end));
    return (struct str){ p, n + strlen(end) };
}

/* Short and long ones, some alike in all that an index keeps, NUL and its neighbours, characters of several bytes. */
static struct str some_text(struct dice *d, struct arena *a) {
    switch (roll(d, TEXTS)) {
    case 0: return STR_LIT("a");
    case 1: return STR_LIT("b");
    case 2: return STR_LIT("a\0b");
    case 3: return STR_LIT("a\1b");
    case 4: return STR_LIT("");
    case 5: return STR_LIT("\xc3\xa4\xe2\x82\xac");
    case 6: return spread(a, 'l', 300, "1");
    case 7: return spread(a, 'l', 300, "2");
    case 8: return spread(a, 'v', 5000, one_in(d, 2) ? "1" : "2");
    default: return STR_LIT("unknown");
    }
}

static struct str some_id(struct dice *d, struct arena *a) {
    uint64_t n = roll(d, IDS);
    switch (n % 5) {
    case 0: return arena_printf(a, "00000000-0000-4000-8000-%012llx", (unsigned long long)(n / 5 * 7919));
    case 1: return arena_printf(a, "%016llx", (unsigned long long)(n * 104729 + 1));
    case 2: return arena_printf(a, "text-%llu", (unsigned long long)n);
    case 3: return spread(a, 'i', 250, n % 2 ? "1" : "2");
    default: return arena_printf(a, "%032llx", (unsigned long long)n << 40);
    }
}

static struct id an_id(struct dice *d, struct arena *a) {
    struct id id;
    assert_true(id_from_text(a, some_id(d, a), &id));
    return id;
}

/* Mostly within three days, often at their edges and those of hours. */
static int64_t some_time(struct dice *d) {
    switch (roll(d, 12)) {
    case 0: return BASE + (int64_t)roll(d, 3) * NS_PER_DAY - (int64_t)roll(d, 2);
    case 1: return BASE + (int64_t)roll(d, 72) * HOUR - (int64_t)roll(d, 2);
    case 2: return BASE + (int64_t)roll(d, 1000) * 10 * SEC;
    case 3: return one_in(d, 8) ? TIME_MAX : BASE + 30 * NS_PER_DAY;
    case 4: return one_in(d, 8) ? TIME_MIN : -1 - (int64_t)roll(d, 1000);
    default: return BASE + (int64_t)roll(d, 3 * (uint64_t)NS_PER_DAY);
    }
}

static struct opt_money some_money(struct dice *d, struct arena *a) {
    static const char *const values[] = { "0",         "0.1",   "0.000000000000000001",
                                          "12345.678", "1e-30", "99999999999999999999",
                                          "-3" };
    (void)a;
    return usd(values[roll(d, sizeof values / sizeof *values)]);
}

static const char *const runs[] = { "\"r1\"", "\"a \\u0000 b\"", "17", "\"\"", "null" };

static struct str some_json(struct dice *d, struct arena *a) {
    switch (roll(d, 7)) {
    case 5:
    case 6:
        return arena_printf(a, "{\"%s\":%s,\"step_id\":%s}", one_in(d, 2) ? "run_id" : "turn_id", runs[roll(d, 5)],
                            runs[roll(d, 5)]);
    case 0: return STR_LIT("null");
    case 1: return arena_printf(a, "{\"k\":%llu}", (unsigned long long)roll(d, 5));
    case 2: return STR_LIT("\"a \\u0000 b\"");
    case 3:
        return arena_printf(a, "{\"m\":{\"x\":%llu},\"text\":\"%s\"}", (unsigned long long)roll(d, 3),
                            "the same words again and again, the same words again and again");
    default: return arena_printf(a, "\"%.*s\"", (int)(20000 + roll(d, 3)), spread(a, 'j', 20003, "").p);
    }
}

static int64_t some_count(struct dice *d) {
    return one_in(d, 10) ? (one_in(d, 2) ? INT64_MAX : INT64_MIN) : (int64_t)roll(d, 1000);
}

/* ---- batches ---- */

static void some_trace(struct dice *d, struct batch *b) {
    struct arena *a = &b->arena;
    struct trace *t = batch_add_trace(b);
    assert_non_null(t);
    t->id = an_id(d, a);
    t->merge = one_in(d, 2) ? MERGE_DEEP : MERGE_REPLACE;
    if (one_in(d, 2))
        t->timestamp = some_time(d);
    struct str *const texts[] = { &t->name,    &t->user,        &t->session,     &t->release,
                                  &t->version, &t->environment, &t->external_id, &t->project_label };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (one_in(d, 3))
            *texts[i] = some_text(d, a);
    if (!str_has(t->environment) || t->environment.n == 0)
        t->environment = STR_NONE;
    t->name_weak = one_in(d, 4);
    if (one_in(d, 3)) {
        t->tags_has = true;
        t->ntags = roll(d, 4);
        t->tags = arena_new(a, struct str, 4);
        for (size_t i = 0; i < t->ntags; i++)
            t->tags[i] = some_text(d, a);
    }
    t->is_public = (enum tri)roll(d, 3);
    t->bookmarked = (enum tri)roll(d, 3);
    if (one_in(d, 5))
        t->latency = (double)roll(d, 100) / 7;
    if (one_in(d, 5))
        t->total_cost = some_money(d, a);
    if (one_in(d, 2))
        t->input = some_json(d, a);
    if (one_in(d, 3))
        t->output = some_json(d, a);
    if (one_in(d, 3))
        t->metadata = some_json(d, a);
}

static void some_observation(struct dice *d, struct batch *b) {
    struct arena *a = &b->arena;
    struct observation *o = batch_add_observation(b);
    assert_non_null(o);
    o->id = an_id(d, a);
    o->trace_id = an_id(d, a);
    if (one_in(d, 2))
        o->parent_id = an_id(d, a);
    o->merge = one_in(d, 2) ? MERGE_DEEP : MERGE_REPLACE;
    if (one_in(d, 2))
        o->type = one_in(d, 2) ? STR_LIT("GENERATION") : STR_LIT("SPAN");
    struct str *const texts[] = {
        &o->name,           &o->version,     &o->model,         &o->unit,      &o->level,
        &o->status_message, &o->environment, &o->project_label, &o->prompt_id, &o->prompt_name
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (one_in(d, 4))
            *texts[i] = some_text(d, a);
    if (one_in(d, 2))
        o->start = some_time(d);
    if (one_in(d, 2))
        o->end = o->start != TIME_NONE && one_in(d, 2) ? time_add(o->start, (int64_t)roll(d, 10 * SEC)) : some_time(d);
    if (one_in(d, 4))
        o->completion_start = some_time(d);
    struct str *const json[] = { &o->input, &o->output, &o->metadata, &o->model_parameters };
    for (size_t i = 0; i < sizeof json / sizeof *json; i++)
        if (one_in(d, 3))
            *json[i] = some_json(d, a);
    struct opt_i64 *const tokens[] = { &o->tokens_in, &o->tokens_out, &o->tokens_total };
    for (size_t i = 0; i < 3; i++)
        if (one_in(d, 2))
            *tokens[i] = (struct opt_i64){ some_count(d), true };
    if (one_in(d, 3))
        o->cost_total = some_money(d, a);
    if (one_in(d, 5))
        o->input_price = (double)roll(d, 10) / 3;
}

static struct batch *some_batch(struct dice *d) {
    struct batch *b = batch_new((size_t)1 << 30);
    assert_non_null(b);
    b->project = one_in(d, 6) ? 2 : 1;
    b->default_label = STR_LIT("default");
    b->received = BASE + (int64_t)roll(d, 30) * NS_PER_DAY + (int64_t)roll(d, 3);
    const size_t traces = roll(d, 12), observations = roll(d, 40);
    for (size_t i = 0; i < traces; i++)
        some_trace(d, b);
    for (size_t i = 0; i < observations; i++)
        some_observation(d, b);
    return b;
}

/* The same groups into both: made twice from one state of the dice. */
static void fill(struct two *t, struct dice *d) {
    for (int g = 0; g < GROUPS; g++) {
        struct batch *same[2][3];
        const size_t n = 1 + roll(d, 3);
        const struct dice before = *d;
        for (int side = 0; side < 2; side++) {
            *d = before;
            for (size_t i = 0; i < n; i++)
                same[side][i] = some_batch(d);
        }
        write_group(&t->sqlite, same[0], n);
        write_group(&t->postgresql, same[1], n);
    }
}

/* ---- queries ---- */

struct asked {
    struct arena a;
    struct str tags[3], environments[3];
};

static struct str maybe_text(struct dice *d, struct asked *k, uint64_t n) {
    if (!one_in(d, n))
        return STR_NONE;
    return one_in(d, 20) ? STR_LIT("\xff") : some_text(d, &k->a);
}

static void some_range(struct dice *d, int64_t *from, int64_t *to) {
    *from = one_in(d, 2) ? TIME_MIN : some_time(d);
    *to = one_in(d, 2) ? TIME_MAX : some_time(d);
    if (*from > *to && !one_in(d, 8)) {
        int64_t t = *from;
        *from = *to;
        *to = t;
    }
}

static struct trace_query some_list(struct dice *d, struct asked *k) {
    struct trace_query q = all_traces();
    q.project = one_in(d, 8) ? 2 : 1;
    q.user = maybe_text(d, k, 6);
    q.name = maybe_text(d, k, 6);
    q.session = maybe_text(d, k, 8);
    q.version = maybe_text(d, k, 10);
    q.release = maybe_text(d, k, 10);
    if (one_in(d, 6))
        q.label = one_in(d, 2) ? STR_LIT("default") : some_text(d, &k->a);
    if (one_in(d, 4)) {
        q.tags = k->tags;
        q.ntags = 1 + roll(d, 2);
        for (size_t i = 0; i < q.ntags; i++)
            k->tags[i] = some_text(d, &k->a);
    }
    if (one_in(d, 5)) {
        q.environments = k->environments;
        q.nenvironments = 1 + roll(d, 2);
        for (size_t i = 0; i < q.nenvironments; i++)
            k->environments[i] = one_in(d, 2) ? STR_LIT("default") : some_text(d, &k->a);
    }
    for (int i = 0; i < RECORD_KEYS; i++)
        if (one_in(d, 16))
            q.keys.v[i] = one_in(d, 2) ? STR_LIT("r1") : one_in(d, 2) ? STR_LIT("17") : STR_LIT("a \0 b");
    some_range(d, &q.from, &q.to);
    q.order = (enum trace_order)(one_in(d, 2) ? 0 : roll(d, ORDER_TOTAL_COST + 1));
    q.descending = one_in(d, 2);
    q.offset = one_in(d, 3) ? (int64_t)roll(d, 20) : one_in(d, 10) ? 100000 : 0;
    q.limit = 1 + (int64_t)roll(d, 60);
    q.want_io = one_in(d, 2);
    q.want_observations = one_in(d, 2);
    return q;
}

static struct daily_query some_days(struct dice *d, struct asked *k) {
    struct daily_query q = all_days();
    q.project = one_in(d, 8) ? 2 : 1;
    q.user = maybe_text(d, k, 6);
    q.trace_name = maybe_text(d, k, 4);
    q.version = maybe_text(d, k, 10);
    q.release = maybe_text(d, k, 10);
    if (one_in(d, 4))
        q.label = one_in(d, 2) ? STR_LIT("default") : some_text(d, &k->a);
    if (one_in(d, 6)) {
        q.tags = k->tags;
        q.ntags = 1;
        k->tags[0] = some_text(d, &k->a);
    }
    some_range(d, &q.from, &q.to);
    q.offset = one_in(d, 3) ? (int64_t)roll(d, 5) : 0;
    q.limit = 1 + (int64_t)roll(d, 10);
    return q;
}

static void read_observation(struct fixture *f, int64_t project, struct str key, struct buf *out) {
    struct observation_ref ref = { .project = project, .key = key, .deadline = TIME_NONE };
    enum xt_code code = f->store.ops->observation_get(&f->store, &ref, visit_obs, out, &f->err);
    if (code == XT_ENOTFOUND)
        buf_add_c(out, "not found\n");
    else if (code != XT_OK)
        buf_printf(out, "failed: %s\n", f->err.msg);
}

/* One query; the dice say which. */
static void ask(struct fixture *f, struct dice *d, struct buf *out) {
    struct asked k;
    char id[400];
    arena_init(&k.a, (size_t)16 << 20);
    const uint64_t kind = roll(d, 8);
    if (kind < 4) {
        const struct trace_query q = some_list(d, &k);
        int64_t total = read_list(f, &q, out);
        buf_printf(out, "total %lld; order %d %s offset %lld limit %lld\n", (long long)total, (int)q.order,
                   q.descending ? "desc" : "asc", (long long)q.offset, (long long)q.limit);
    } else if (kind < 6) {
        const struct daily_query q = some_days(d, &k);
        int64_t total = read_days(f, &q, out);
        buf_printf(out, "%lld days; %lld to %lld\n", (long long)total, (long long)q.from, (long long)q.to);
    } else {
        const int64_t project = one_in(d, 8) ? 2 : 1;
        struct str text = some_id(d, &k.a), key;
        snprintf(id, sizeof id, "%.*s", (int)text.n, text.p);
        if (kind == 6) {
            read_trace(f, project, id, out);
        } else {
            assert_true(id_key(&k.a, text, &key));
            read_observation(f, project, key, out);
        }
    }
    arena_done(&k.a);
}

/* The first line in which they differ. */
static void show_difference(uint64_t seed, int query, const struct buf *a, const struct buf *b) {
    struct str x = buf_str(a), y = buf_str(b), p = STR_NONE, q = STR_NONE;
    int line = 0;
    do {
        bool more = x.n > 0 && str_split(&x, '\n', &p), too = y.n > 0 && str_split(&y, '\n', &q);
        p = more ? p : STR_LIT("(end)");
        q = too ? q : STR_LIT("(end)");
        line++;
        if (!more && !too)
            break;
    } while (str_eq(p, q));
    fail_msg("seed %llu, query %d, line %d\nSQLite:     %.*s\nPostgreSQL: %.*s\nlast line: %.*s",
             (unsigned long long)seed, query, line, (int)(p.n < 3000 ? p.n : 3000), p.p, (int)(q.n < 3000 ? q.n : 3000),
             q.p, (int)(a->n < 100 ? a->n : 100), buf_str(a).p + (a->n < 100 ? 0 : a->n - 100));
}

static void compare(struct two *t, struct dice *d, uint64_t seed) {
    for (int i = 0; i < QUERIES; i++) {
        struct buf a, b;
        const struct dice before = *d;
        buf_init(&a, (size_t)64 << 20);
        buf_init(&b, (size_t)64 << 20);
        ask(&t->sqlite, d, &a);
        *d = before;
        ask(&t->postgresql, d, &b);
        if (!str_eq(buf_str(&a), buf_str(&b)))
            show_difference(seed, i, &a, &b);
        assert_false(a.failed || b.failed);
        buf_done(&a);
        buf_done(&b);
    }
}

static void open_postgresql(struct fixture *f) {
    struct store_conf conf = fixture_conf(f, true);
    f->store.ops = &store_postgres_ops;
    if (f->store.ops->open(&f->store, &conf, &f->err) != XT_OK || f->store.ops->migrate(&f->store, &f->err) != XT_OK)
        fail_msg("open: %s", f->err.msg);
}

static void agree(uint64_t seed) {
    struct two t;
    struct dice d = { seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
    setenv("XTRACE_TEST_ENGINE", "sqlite", 1);
    fixture_make(&t.sqlite);
    setenv("XTRACE_TEST_ENGINE", "postgresql", 1);
    fixture_make(&t.postgresql);
    fixture_open(&t.sqlite);
    open_postgresql(&t.postgresql);
    fill(&t, &d);
    compare(&t, &d, seed);
    fixture_remove(&t.sqlite);
    fixture_remove(&t.postgresql);
}

static void engines_agree(void **state) {
    const char *only = getenv("XTRACE_TEST_SEED");
    (void)state;
    for (uint64_t seed = 1; seed <= 3 && !only; seed++)
        agree(seed);
    if (only)
        agree(strtoull(only, NULL, 10));
}

int main(void) {
    PG_OR_SKIP();
    const struct CMUnitTest tests[] = { cmocka_unit_test(engines_agree) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
