/* test_store_daily.c -- the daily view: days, usage, ragged ends, filters, paging. */
#include "trace_fixture.h"

#define BASE (1767225600 * SEC) /* 2026-01-01T00:00:00Z */
#define DAY NS_PER_DAY

static void ask(struct fixture *f, const struct daily_query *q, int64_t total, const char *text) {
    struct buf out;
    buf_init(&out, 1 << 20);
    int64_t got = read_days(f, q, &out);
    if (got != total || strcmp(out.p ? out.p : "", text) != 0)
        fail_msg("total %lld, wanted %lld:\n%swanted:\n%s", (long long)got, (long long)total, out.p ? out.p : "", text);
    buf_done(&out);
}

static struct observation *generation(struct batch *b, const char *trace, const char *id, const char *model) {
    struct observation *o = add_obs(b, trace, id);
    o->model = model ? str_c(model) : STR_NONE;
    return o;
}

/* Contract Y02, Y03: two traces, three generations of m1 and a span, none of them with a cost; one without a model. */
static void one_day(void **state) {
    struct fixture *f = *state;
    struct daily_query q = all_days();
    ask(f, &q, 0, "");
    struct batch *b = batch_at(BASE);
    struct trace *t = add_trace(b, "a");
    t->timestamp = BASE;
    t->total_cost = usd("0.5");
    add_trace(b, "b")->timestamp = BASE + DAY - 1;
    generation(b, "a", "1", "m1")->tokens_in = (struct opt_i64){ 5, true };
    generation(b, "a", "2", "m1")->tokens_total = (struct opt_i64){ 7, true };
    generation(b, "b", "3", "m1");
    generation(b, "b", "4", "m1")->type = STR_LIT("SPAN");
    generation(b, "b", "5", "m1")->type = STR_LIT("generation"); /* exactly GENERATION */
    write_one(f, b);
    ask(f, &q, 1, "2026-01-01 traces=2 obs=5 cost=0.5 [m1 n=3 traces=2 in=5 out=0 total=7 cost=0.0]\n");
    b = batch_at(BASE);
    generation(b, "b", "6", NULL)->cost_total = usd("0.25");
    write_one(f, b);
    ask(f, &q, 1,
        "2026-01-01 traces=2 obs=6 cost=0.75 [unknown n=1 traces=1 in=0 out=0 total=0 cost=0.25]"
        " [m1 n=3 traces=2 in=5 out=0 total=7 cost=0.0]\n");
    b = batch_at(BASE); /* a model that is called what no model is called */
    generation(b, "a", "7", "unknown");
    write_one(f, b);
    ask(f, &q, 1,
        "2026-01-01 traces=2 obs=7 cost=0.75 [unknown n=2 traces=2 in=0 out=0 total=0 cost=0.25]"
        " [m1 n=3 traces=2 in=5 out=0 total=7 cost=0.0]\n");
    b = batch_at(BASE); /* both in one trace, which counts once */
    generation(b, "a", "8", NULL);
    write_one(f, b);
    ask(f, &q, 1,
        "2026-01-01 traces=2 obs=8 cost=0.75 [unknown n=3 traces=2 in=0 out=0 total=0 cost=0.25]"
        " [m1 n=3 traces=2 in=5 out=0 total=7 cost=0.0]\n");
    assert_sound(f);
}

/* A sum beyond the range of one amount is kept exactly, and taken back exactly. */
static void huge_costs(void **state) {
    struct fixture *f = *state;
    struct daily_query q = all_days();
    static const char *const wanted[] = { "10000000000.0", "10000000000.0", "-20000000000.0", "1.5" };
    static const int64_t dollars[] = { 10000000000, 10000000000, -20000000000, 0 };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        char line[200];
        struct batch *b = batch_at(BASE);
        generation(b, "a", "1", "m")->cost_total =
            dollars[i] ? (struct opt_money){ .v = (money)dollars[i] * 1000000000000000000, .has = true } : usd("1.5");
        write_one(f, b);
        snprintf(line, sizeof line, "2026-01-01 traces=1 obs=1 cost=%s [m n=1 traces=1 in=0 out=0 total=0 cost=%s]\n",
                 wanted[i], wanted[i]);
        ask(f, &q, 1, line);
        assert_sound(f);
    }
}

static void order_of_usage(void **state) {
    struct fixture *f = *state;
    struct daily_query q = all_days();
    struct batch *b = batch_at(BASE);
    add_trace(b, "t")->timestamp = BASE;
    generation(b, "t", "1", "z");
    generation(b, "t", "2", "b")->cost_total = usd("0.1");
    generation(b, "t", "3", "a")->cost_total = usd("0.1");
    generation(b, "t", "4", "c")->cost_total = usd("0.100000000000000001");
    generation(b, "t", "5", "");
    generation(b, "t", "6", "d")->cost_total = usd("-1");
    write_one(f, b);
    ask(f, &q, 1,
        "2026-01-01 traces=1 obs=6 cost=-0.699999999999999999"
        " [c n=1 traces=1 in=0 out=0 total=0 cost=0.100000000000000001]"
        " [a n=1 traces=1 in=0 out=0 total=0 cost=0.1] [b n=1 traces=1 in=0 out=0 total=0 cost=0.1]"
        " [ n=1 traces=1 in=0 out=0 total=0 cost=0.0] [z n=1 traces=1 in=0 out=0 total=0 cost=0.0]"
        " [d n=1 traces=1 in=0 out=0 total=0 cost=-1.0]\n");
}

/* Y05: an observation counts on its trace's day; and what a trace adds moves with it. */
static void moves(void **state) {
    struct fixture *f = *state;
    struct daily_query q = all_days();
    struct batch *b = batch_at(BASE + 30 * 60 * SEC);
    generation(b, "t", "1", "m")->start = BASE + DAY + 600 * SEC; /* before the trace itself is known */
    write_one(f, b);
    ask(f, &q, 1, "2026-01-02 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n");
    b = batch_at(BASE);
    struct trace *t = add_trace(b, "t");
    t->timestamp = BASE + DAY - 1800 * SEC;
    t->name = STR_LIT("n");
    write_one(f, b);
    ask(f, &q, 1, "2026-01-01 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n");
    b = batch_at(BASE);
    t = add_trace(b, "t");
    t->name = STR_LIT("other");
    t->project_label = STR_LIT("label");
    t->environment = STR_LIT("env");
    generation(b, "t", "1", "m2")->type = STR_LIT("GENERATION");
    write_one(f, b);
    ask(f, &q, 1, "2026-01-01 traces=1 obs=1 cost=0.0 [m2 n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n");
    q.trace_name = STR_LIT("n");
    ask(f, &q, 0, "");
    q.trace_name = STR_LIT("other");
    q.label = STR_LIT("label");
    ask(f, &q, 1, "2026-01-01 traces=1 obs=1 cost=0.0 [m2 n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n");
    b = batch_at(BASE);
    generation(b, "t", "1", NULL)->type = STR_LIT("SPAN");
    write_one(f, b);
    ask(f, &q, 1, "2026-01-01 traces=1 obs=1 cost=0.0\n");
    assert_sound(f);
}

/* Five days, a trace every 20 minutes with one generation each; every tenth has a user, a tag, a version, a release. */
static void fill_days(struct fixture *f) {
    struct batch *b = batch_at(BASE);
    for (int i = 0; i < 5 * 72; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i);
        struct trace *t = add_trace(b, id);
        t->timestamp = BASE + i * 1200 * SEC;
        t->name = i % 2 ? STR_LIT("odd") : STR_LIT("even");
        t->project_label = i % 3 ? STR_NONE : STR_LIT("third");
        if (i % 10 == 0) {
            t->user = STR_LIT("ann");
            set_tags(b, t, i % 20 ? "x" : "x,y");
            t->version = STR_LIT("v");
            t->release = STR_LIT("r");
        }
        struct observation *o = generation(b, id, "o", i % 5 ? "m" : "n");
        o->tokens_in = (struct opt_i64){ 1, true };
        o->cost_total = usd("0.01");
    }
    write_one(f, b);
    assert_sound(f);
}

/* What a query must give, counted by hand from the same rule. */
static int64_t count(const struct daily_query *q, char *text, size_t room) {
    int64_t days = 0;
    size_t n = 0;
    text[0] = '\0';
    for (int day = 4; day >= 0; day--) {
        int traces = 0, of_m = 0, of_n = 0;
        for (int i = day * 72; i < (day + 1) * 72; i++) {
            int64_t ts = BASE + i * 1200 * SEC;
            bool has = i % 10 == 0, y = i % 20 == 0;
            if (ts < q->from || ts > q->to || (str_has(q->label) && i % 3) ||
                (str_has(q->trace_name) && str_eq_c(q->trace_name, i % 2 ? "even" : "odd")) ||
                ((str_has(q->user) || str_has(q->version) || str_has(q->release) || q->ntags > 0) && !has) ||
                (q->ntags > 1 && !y))
                continue;
            traces++;
            of_m += i % 5 != 0;
            of_n += i % 5 == 0;
        }
        if (traces == 0)
            continue;
        days++;
        if (days <= q->offset || days > q->offset + q->limit)
            continue;
        n += (size_t)snprintf(text + n, room - n, "2026-01-%02d traces=%d obs=%d cost=%d.%02d", day + 1, traces, traces,
                              traces / 100, traces % 100);
        while (text[n - 1] == '0' && text[n - 2] != '.')
            text[--n] = '\0';
        for (int k = 0; k < 2; k++) { /* the dearer first; at equal cost m comes before n */
            bool m_first = of_m >= of_n;
            bool m = k == 0 ? m_first : !m_first;
            int c = m ? of_m : of_n;
            if (c == 0)
                continue;
            n += (size_t)snprintf(text + n, room - n, " [%s n=%d traces=%d in=%d out=0 total=0 cost=%d.%02d",
                                  m ? "m" : "n", c, c, c, c / 100, c % 100);
            while (text[n - 1] == '0' && text[n - 2] != '.')
                text[--n] = '\0';
            n += (size_t)snprintf(text + n, room - n, "]");
        }
        n += (size_t)snprintf(text + n, room - n, "\n");
    }
    return days;
}

static const struct {
    const char *name, *user, *version, *release, *label;
    int tags;
} filters[] = {
    { NULL, NULL, NULL, NULL, NULL, 0 },    { "odd", NULL, NULL, NULL, NULL, 0 },
    { NULL, NULL, NULL, NULL, "third", 0 }, { "even", NULL, NULL, NULL, "third", 0 },
    { NULL, "ann", NULL, NULL, NULL, 0 },   { NULL, NULL, "v", NULL, NULL, 0 },
    { NULL, NULL, NULL, "r", NULL, 0 },     { NULL, NULL, NULL, NULL, NULL, 1 },
    { NULL, NULL, NULL, NULL, NULL, 2 },    { "even", "ann", "v", "r", "third", 2 },
    { "odd", "ann", NULL, NULL, NULL, 0 },
};

static const struct {
    int64_t from, to; /* ns after BASE; 0, 0: open */
} ranges[] = {
    { 0, 0 },
    { 1, 5 * DAY },
    { 0, 5 * DAY - 1200 * SEC - 1 },
    { DAY, 2 * DAY - 1 },                     /* a day to the nanosecond */
    { DAY + 1, 2 * DAY },                     /* shifted by one */
    { HOUR, 3 * HOUR - 1 },                   /* whole hours */
    { HOUR + 1200 * SEC, HOUR + 1200 * SEC }, /* one trace, inside an hour */
    { HOUR + 1, HOUR + 1199 * SEC },          /* inside an hour, none */
    { HOUR + 1201 * SEC, 2 * HOUR - 1 },      /* the end of an hour */
    { 23 * HOUR + 2000 * SEC, DAY + 100 },    /* across midnight */
    { 3 * DAY - 1, 3 * DAY + 1 },
    { 2 * DAY, DAY }, /* the wrong way round */
    { -DAY, -1 },
    { 10 * DAY, 20 * DAY },
    { -DAY + 1, 4 * DAY + 40 * 60 * SEC },
};

static void ranges_and_filters(void **state) {
    struct fixture *f = *state;
    static const struct str tags[2] = { { "x", 1 }, { "y", 1 } };
    char want[4096];
    fill_days(f);
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        for (size_t k = 0; k < sizeof ranges / sizeof *ranges; k++) {
            struct daily_query q = all_days();
            q.trace_name = str_c(filters[i].name);
            q.user = str_c(filters[i].user);
            q.version = str_c(filters[i].version);
            q.release = str_c(filters[i].release);
            q.label = str_c(filters[i].label);
            q.tags = tags;
            q.ntags = (size_t)filters[i].tags;
            if (ranges[k].from || ranges[k].to) {
                q.from = BASE + ranges[k].from;
                q.to = BASE + ranges[k].to;
            }
            for (q.limit = 50; q.limit > 0; q.limit = q.limit == 50 ? 2 : 0)
                for (q.offset = 0; q.offset < (q.limit == 2 ? 7 : 1); q.offset++) {
                    int64_t total = count(&q, want, sizeof want);
                    ask(f, &q, total, want);
                }
            q.limit = 50;
            q.offset = INT64_MAX;
            ask(f, &q, count(&q, want, sizeof want), "");
        }
    }
}

static bool stop(void *arg, const struct day_row *d) {
    (void)d;
    ++*(int *)arg;
    return false;
}

static void visitor_stops(void **state) {
    struct fixture *f = *state;
    fill_days(f);
    for (int filtered = 0; filtered < 2; filtered++) {
        struct daily_query q = all_days();
        int seen = 0;
        int64_t total = 0;
        q.user = filtered ? STR_LIT("ann") : STR_NONE;
        assert_int_equal(f->store.ops->daily(&f->store, &q, stop, &seen, &total, &f->err), XT_OK);
        assert_int_equal(seen, 1);
        assert_int_equal(total, 5);
    }
}

/* Days at both ends of time, which are cut. */
static void ends_of_time(void **state) {
    struct fixture *f = *state;
    static const int64_t times[] = { TIME_MIN,       TIME_MIN + HOUR, TIME_MIN + DAY,
                                     TIME_MAX - DAY, TIME_MAX - HOUR, TIME_MAX };
    struct batch *b = batch_at(BASE);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%zu", i);
        add_trace(b, id)->timestamp = times[i];
        generation(b, id, "o", "m");
    }
    write_one(f, b);
    assert_sound(f);
    struct daily_query q = all_days();
    const char *want = "+958757-02-28 traces=2 obs=2 cost=0.0 [m n=2 traces=2 in=0 out=0 total=0 cost=0.0]\n"
                       "+956019-04-03 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n"
                       "-954818-11-03 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n"
                       "-957531-02-11 traces=2 obs=2 cost=0.0 [m n=2 traces=2 in=0 out=0 total=0 cost=0.0]\n";
    ask(f, &q, 4, want);
    q.version = STR_LIT("none");
    ask(f, &q, 0, "");
    q.version = STR_NONE;
    q.from = TIME_MIN + 1;
    q.to = TIME_MAX - 1;
    ask(f, &q, 4,
        "+958757-02-28 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n"
        "+956019-04-03 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n"
        "-954818-11-03 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n"
        "-957531-02-11 traces=1 obs=1 cost=0.0 [m n=1 traces=1 in=0 out=0 total=0 cost=0.0]\n");
}

/* ---- counters ---- */

#define COUNTED 600

static int64_t pick(uint64_t *seed, uint64_t n) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((*seed >> 33) % n);
}

/* Times that meet in one interval of 10 s, of an hour, of a day, or stand at the edges of all. */
static int64_t some_time(uint64_t *seed) {
    static const int64_t edges[] = { TIME_MIN, TIME_MIN + 1,   TIME_MAX, TIME_MAX - 1, 0,    -1,
                                     BASE,     BASE + DAY - 1, BASE - 1, BASE + DAY,   HOUR, 10 * SEC };
    switch (pick(seed, 6)) {
    case 0: return edges[pick(seed, sizeof edges / sizeof *edges)];
    case 1: return BASE + pick(seed, 10) * SEC;
    case 2: return BASE + pick(seed, 20) * 500000000;
    case 3: return BASE + pick(seed, 3600) * SEC;
    case 4: return BASE + pick(seed, 96) * HOUR / 4;
    default: return BASE - 2 * DAY + pick(seed, 400) * HOUR + pick(seed, 3600) * SEC;
    }
}

/* totalItems and the days between any two instants are those of the rows, whoever counts: intervals of all kinds, what is
 * left over, the shorter side of a piece. */
static void any_range(void **state) {
    struct fixture *f = *state;
    uint64_t seed = 7;
    int64_t ts[COUNTED];
    bool prod[COUNTED], named[COUNTED];
    struct batch *b = batch_at(BASE);
    for (int i = 0; i < COUNTED; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i);
        struct trace *t = add_trace(b, id);
        t->timestamp = ts[i] = some_time(&seed);
        prod[i] = pick(&seed, 2);
        named[i] = pick(&seed, 2);
        t->environment = prod[i] ? STR_LIT("prod") : STR_NONE;
        t->name = named[i] ? STR_LIT("n") : STR_NONE;
    }
    write_one(f, b);
    assert_sound(f);
    struct buf out;
    buf_init(&out, 1 << 22);
    static const struct str env = { "prod", 4 };
    for (int round = 0; round < 1500; round++) {
        int64_t from = some_time(&seed), to = some_time(&seed), want = 0, got;
        int kind = round % 5;
        for (int i = 0; i < COUNTED; i++)
            want += ts[i] >= from && ts[i] <= to && (kind < 2 || kind == 4 || prod[i]) && (kind < 3 || named[i]);
        if (kind == 1 || kind == 4) { /* all, or by name: the days of the range together */
            struct daily_query d = all_days();
            d.trace_name = kind == 4 ? STR_LIT("n") : STR_NONE;
            d.from = from;
            d.to = to;
            buf_clear(&out);
            read_days(f, &d, &out);
            got = 0;
            for (const char *at = out.p; at && (at = strstr(at, "traces=")); at += 7)
                got += strtoll(at + 7, NULL, 10);
        } else {
            struct trace_query q = all_traces();
            q.from = from;
            q.to = to;
            q.limit = 1;
            q.environments = &env;
            q.nenvironments = kind >= 2;
            q.name = kind == 3 ? STR_LIT("n") : STR_NONE;
            buf_clear(&out);
            got = read_list(f, &q, &out);
        }
        if (got != want)
            fail_msg("kind %d, %lld to %lld: %lld, should be %lld", kind, (long long)from, (long long)to,
                     (long long)got, (long long)want);
    }
    buf_done(&out);
}

/* A trace that moves within its hour moves between counters all the same. */
static void moves_within_an_hour(void **state) {
    struct fixture *f = *state;
    struct trace_query q = all_traces();
    struct buf out;
    buf_init(&out, 1 << 20);
    for (int i = 0; i < 4; i++) {
        struct batch *b = batch_at(BASE);
        add_trace(b, "t")->timestamp = BASE + i * 15 * SEC;
        write_one(f, b);
        assert_sound(f);
        q.from = BASE + i * 15 * SEC;
        q.to = BASE + HOUR;
        assert_int_equal(read_list(f, &q, &out), 1);
        q.from++;
        assert_int_equal(read_list(f, &q, &out), 0);
    }
    buf_done(&out);
}

int main(void) {
    STORE_OR_SKIP();
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(any_range), TEST(moves_within_an_hour), TEST(one_day),       TEST(huge_costs),   TEST(order_of_usage),
        TEST(moves),     TEST(ranges_and_filters),   TEST(visitor_stops), TEST(ends_of_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
