/* test_store_read.c -- lists and details: filters, orders, pages, totals, what is derived. */
#include "trace_fixture.h"

#include <pthread.h>

#include "store/sqlite/order.h"

/* ---- a small store that most tests ask ---- */

/* id, minute of the timestamp, and fields ("" absent) */
static const struct {
    const char *id;
    int minute;
    const char *name, *user, *session, *tags, *env, *release, *version, *label;
    double latency;
    const char *cost;
    bool is_public;
} traces[] = {
    { "t1", 0, "chat", "ann", "s1", "a,b", "prod", "r1", "v1", "", 1.5, "0.5", true },
    { "t2", 5, "chat", "bob", "s1", "b", "", "r1", "", "other", NAN, "", false },
    { "t3", 5, "embed", "ann", "", "a", "prod", "", "v2", "", 0.5, "2", false },
    { "t4", 59, "", "ann", "s2", "", "test", "r2", "v1", "", NAN, "0.5", false },
    { "t5", 60, "Chat", "", "s2", "a,b,c", "", "r1", "v1", "", 3, "", true },
    { "t6", 61, "chat", "ann", "s1", "b,a", "prod", "r1", "v1", "", 0.5, "1", false },
    { "t7", 600, "embed", "bob", "s3", "c", "test", "", "", "", -1, "-1", false },
};
#define MINUTE (60 * SEC)
#define BASE (1767225600 * SEC)

static struct str opt(const char *s) { return *s ? str_c(s) : STR_NONE; }

static int small_store(void **state) {
    fixture_setup(state);
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        struct batch *b = batch_at(BASE + (int64_t)i);
        struct trace *t = add_trace(b, traces[i].id);
        t->timestamp = BASE + traces[i].minute * MINUTE;
        t->name = opt(traces[i].name);
        t->user = opt(traces[i].user);
        t->session = opt(traces[i].session);
        t->environment = opt(traces[i].env);
        t->release = opt(traces[i].release);
        t->version = opt(traces[i].version);
        t->project_label = opt(traces[i].label);
        t->latency = traces[i].latency;
        t->is_public = traces[i].is_public ? TRI_TRUE : TRI_NONE;
        if (*traces[i].cost)
            t->total_cost = usd(traces[i].cost);
        if (*traces[i].tags)
            set_tags(b, t, traces[i].tags);
        write_one(f, b);
    }
    struct batch *b = batch_at(BASE); /* another tenant's, never seen */
    b->project = 2;
    add_trace(b, "t1")->user = STR_LIT("ann");
    write_one(f, b);
    return 0;
}

static void ask(struct fixture *f, const struct trace_query *q, int64_t total, const char *ids, size_t line) {
    struct buf out;
    char words[512];
    buf_init(&out, 1 << 20);
    int64_t got = read_list(f, q, &out);
    first_words(&out, words, sizeof words);
    if (got != total || strcmp(words, ids) != 0)
        fail_msg("case %zu: total %lld \"%s\", wanted %lld \"%s\"", line, (long long)got, words, (long long)total, ids);
    buf_done(&out);
}

static const struct {
    const char *user, *name, *session, *version, *release, *label, *tags, *envs;
    int from, to; /* minutes; both 0: open */
    const char *ids;
} filters[] = {
    { "", "", "", "", "", "", "", "", 0, 0, "t7 t6 t5 t4 t3 t2 t1" },
    { "ann", "", "", "", "", "", "", "", 0, 0, "t6 t4 t3 t1" },
    { "Ann", "", "", "", "", "", "", "", 0, 0, "" },
    { "", "chat", "", "", "", "", "", "", 0, 0, "t6 t2 t1" },
    { "", "", "s1", "", "", "", "", "", 0, 0, "t6 t2 t1" },
    { "ann", "chat", "s1", "", "", "", "", "", 0, 0, "t6 t1" },
    { "", "", "", "v1", "", "", "", "", 0, 0, "t6 t5 t4 t1" },
    { "", "", "", "", "r1", "", "", "", 0, 0, "t6 t5 t2 t1" },
    { "", "", "", "v1", "r1", "", "", "", 0, 0, "t6 t5 t1" },
    { "", "", "", "", "", "other", "", "", 0, 0, "t2" },
    { "", "", "", "", "", "default", "", "", 0, 0, "t7 t6 t5 t4 t3 t1" },
    { "", "chat", "", "", "", "default", "", "", 0, 0, "t6 t1" },
    { "", "", "", "", "", "", "a", "", 0, 0, "t6 t5 t3 t1" },
    { "", "", "", "", "", "", "a,b", "", 0, 0, "t6 t5 t1" },
    { "", "", "", "", "", "", "a,a", "", 0, 0, "t6 t5 t3 t1" },
    { "", "", "", "", "", "", "a,b,c", "", 0, 0, "t5" },
    { "", "", "", "", "", "", "c,a,x", "", 0, 0, "" },
    { "ann", "", "", "", "", "", "b", "", 0, 0, "t6 t1" },
    { "", "", "", "", "", "", "", "prod", 0, 0, "t6 t3 t1" },
    { "", "", "", "", "", "", "", "default", 0, 0, "t5 t2" },
    { "", "", "", "", "", "", "", "prod,default", 0, 0, "t6 t5 t3 t2 t1" },
    { "", "", "", "", "", "", "", "nowhere", 0, 0, "" },
    { "", "chat", "", "", "", "", "", "prod", 0, 0, "t6 t1" },
    { "bob", "", "", "", "", "", "", "test", 0, 0, "t7" },
    /* bounds are inclusive; ends inside an hour, across hours, of one instant, the wrong way round */
    { "", "", "", "", "", "", "", "", 5, 5, "t3 t2" },
    { "", "", "", "", "", "", "", "", 1, 59, "t4 t3 t2" },
    { "", "", "", "", "", "", "", "", 5, 61, "t6 t5 t4 t3 t2" },
    { "", "", "", "", "", "", "", "", 6, 60, "t5 t4" },
    { "", "", "", "", "", "", "", "", 61, 5, "" },
    { "", "", "", "", "", "", "", "", 62, 599, "" },
    { "", "", "", "", "", "", "", "prod", 5, 61, "t6 t3" },
    { "", "chat", "", "", "", "", "", "", 5, 60, "t2" },
    { "", "chat", "", "", "", "", "", "default", 5, 60, "t2" },
    { "ann", "", "", "", "", "", "", "", 1, 60, "t4 t3" },
    { "", "", "", "", "", "", "b", "", 1, 60, "t5 t2" },
    { "", "", "", "", "", "other", "", "", 5, 5, "t2" },
    { "", "", "", "v1", "", "", "", "", 1, 60, "t5 t4" },
};

static size_t split(const char *list, struct str *out) {
    struct str rest = str_c(list), part;
    size_t n = 0;
    while (rest.n > 0 && str_split(&rest, ',', &part))
        out[n++] = part;
    return n;
}

static size_t words_in(const char *s) {
    size_t n = *s != '\0';
    for (; *s; s++)
        n += *s == ' ';
    return n;
}

/* Each filter newest first, oldest first, and page by page of one. */
static void filtered(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        struct trace_query q = all_traces();
        struct str tags[4], envs[4];
        q.user = opt(filters[i].user);
        q.name = opt(filters[i].name);
        q.session = opt(filters[i].session);
        q.version = opt(filters[i].version);
        q.release = opt(filters[i].release);
        q.label = opt(filters[i].label);
        q.tags = tags;
        q.ntags = split(filters[i].tags, tags);
        q.environments = envs;
        q.nenvironments = split(filters[i].envs, envs);
        if (filters[i].from || filters[i].to) {
            q.from = BASE + filters[i].from * MINUTE;
            q.to = BASE + filters[i].to * MINUTE;
        }
        int64_t total = (int64_t)words_in(filters[i].ids);
        ask(f, &q, total, filters[i].ids, i);
        q.limit = 1;
        const char *at = filters[i].ids;
        for (q.offset = 0; q.offset <= total; q.offset++) {
            char one[16];
            size_t n = strcspn(at, " ");
            snprintf(one, sizeof one, "%.*s", (int)n, at);
            ask(f, &q, total, one, i);
            at += n + (at[n] == ' ');
        }
        q.offset = INT64_MAX;
        ask(f, &q, total, "", i);
        q.order = ORDER_LATENCY;
        ask(f, &q, total, "", i);
    }
}

static const struct {
    enum trace_order order;
    bool descending;
    const char *ids;
} orders[] = {
    { ORDER_TIMESTAMP, true, "t7 t6 t5 t4 t3 t2 t1" },  { ORDER_TIMESTAMP, false, "t1 t2 t3 t4 t5 t6 t7" },
    { ORDER_ID, true, "t7 t6 t5 t4 t3 t2 t1" },         { ORDER_ID, false, "t1 t2 t3 t4 t5 t6 t7" },
    { ORDER_NAME, false, "t5 t1 t2 t6 t3 t7 t4" },      { ORDER_NAME, true, "t4 t7 t3 t6 t2 t1 t5" },
    { ORDER_USER, false, "t1 t3 t4 t6 t2 t7 t5" },      { ORDER_USER, true, "t5 t7 t2 t6 t4 t3 t1" },
    { ORDER_SESSION, false, "t1 t2 t6 t4 t5 t7 t3" },   { ORDER_SESSION, true, "t3 t7 t5 t4 t6 t2 t1" },
    { ORDER_RELEASE, false, "t1 t2 t5 t6 t4 t3 t7" },   { ORDER_VERSION, true, "t7 t2 t3 t6 t5 t4 t1" },
    { ORDER_LATENCY, true, "t4 t2 t5 t1 t6 t3 t7" },    { ORDER_LATENCY, false, "t7 t3 t6 t1 t5 t2 t4" },
    { ORDER_TOTAL_COST, true, "t5 t2 t3 t6 t4 t1 t7" }, { ORDER_TOTAL_COST, false, "t7 t1 t4 t6 t3 t2 t5" },
    { ORDER_PUBLIC, true, "t5 t1 t7 t6 t4 t3 t2" },     { ORDER_PUBLIC, false, "t2 t3 t4 t6 t7 t1 t5" },
    { ORDER_BOOKMARKED, true, "t7 t6 t5 t4 t3 t2 t1" },
};

static void ordered(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        struct trace_query q = all_traces();
        q.order = orders[i].order;
        q.descending = orders[i].descending;
        ask(f, &q, 7, orders[i].ids, i);
        q.limit = 3;
        for (q.offset = 0; q.offset < 9; q.offset += 3) {
            char page[32] = "";
            if (q.offset < 7) {
                size_t n = q.offset == 6 ? 2 : 8;
                snprintf(page, sizeof page, "%.*s", (int)n, orders[i].ids + q.offset * 3);
            }
            ask(f, &q, 7, page, i);
        }
    }
}

static void order_and_filter(void **state) {
    struct fixture *f = *state;
    struct trace_query q = all_traces();
    q.user = STR_LIT("ann");
    q.order = ORDER_TOTAL_COST;
    ask(f, &q, 4, "t3 t6 t4 t1", 0);
    q.version = STR_LIT("v1");
    ask(f, &q, 3, "t6 t4 t1", 1);
    q.descending = false;
    q.limit = 2;
    q.offset = 1;
    ask(f, &q, 3, "t4 t6", 2);
}

static bool stop_after_two(void *arg, const struct trace_row *t) {
    (void)t;
    return ++*(int *)arg < 2;
}

static void visitor_stops(void **state) {
    struct fixture *f = *state;
    struct trace_query q = all_traces();
    int seen = 0;
    int64_t total = 0;
    assert_int_equal(f->store.ops->traces_list(&f->store, &q, stop_after_two, &seen, &total, &f->err), XT_OK);
    assert_int_equal(seen, 2);
    assert_int_equal(total, 7);
}

/* ---- orders at size ---- */

#define DEEP (ORDER_KEEP + 600)
struct deep {
    int number;
    char name[100]; /* "": none */
};

/* Ascending by name, none last, then by number. */
static int compare_deep(const void *a, const void *b) {
    const struct deep *x = a, *y = b;
    int cmp = (*x->name == '\0') - (*y->name == '\0');
    if (cmp == 0)
        cmp = strcmp(x->name, y->name);
    return cmp ? cmp : x->number - y->number;
}

/* More traces than one pass keeps, with texts that differ only far behind the part that is kept. */
static void deep_pages(void **state) {
    struct fixture *f = *state;
    struct deep *all = calloc(DEEP, sizeof *all);
    for (int at = 0; at < DEEP;) {
        struct batch *b = batch_at(BASE);
        for (int i = 0; i < 2000 && at < DEEP; i++, at++) {
            char id[16];
            snprintf(id, sizeof id, "t%05d", at);
            all[at].number = at;
            if (at % 3)
                snprintf(all[at].name, sizeof all[at].name, "%0*d", at % 2 ? 70 : 90, (at * 7919) % 9000);
            struct trace *t = add_trace(b, id);
            t->timestamp = BASE + at;
            t->name = opt(all[at].name);
        }
        write_one(f, b);
    }
    qsort(all, DEEP, sizeof *all, compare_deep);
    static const int offsets[] = { 0, 137, ORDER_KEEP - 100, ORDER_KEEP - 30, ORDER_KEEP, ORDER_KEEP + 30, DEEP - 7 };
    for (size_t i = 0; i < 2 * sizeof offsets / sizeof *offsets; i++) {
        struct trace_query q = all_traces();
        struct buf out;
        char words[2048], want[2048] = "";
        buf_init(&out, 1 << 20);
        q.order = ORDER_NAME;
        q.descending = i % 2;
        q.offset = offsets[i / 2];
        assert_int_equal(read_list(f, &q, &out), DEEP);
        first_words(&out, words, sizeof words);
        for (int64_t k = q.offset; k < q.offset + 50 && k < DEEP; k++) {
            const struct deep *d = &all[q.descending ? DEEP - 1 - k : k];
            snprintf(want + strlen(want), sizeof want - strlen(want), "%st%05d", *want ? " " : "", d->number);
        }
        assert_string_equal(words, want);
        buf_done(&out);
    }
    free(all);
}

static void long_texts_in_order(void **state) {
    struct fixture *f = *state;
    char name[4][200];
    struct batch *b = batch_at(BASE);
    static const struct {
        const char *id;
        int n; /* length */
        char last;
    } texts[] = { { "c", 150, 'c' }, { "a", 64, 'x' }, { "d", 150, 'd' }, { "b", 65, 'a' } };
    for (int i = 0; i < 4; i++) {
        memset(name[i], 'x', sizeof name[i]);
        name[i][texts[i].n - 1] = texts[i].last;
        add_trace(b, texts[i].id)->name = (struct str){ name[i], (size_t)texts[i].n };
    }
    write_one(f, b);
    struct trace_query q = all_traces();
    q.order = ORDER_NAME;
    q.descending = false;
    ask(f, &q, 4, "a b c d", 0);
    q.descending = true;
    ask(f, &q, 4, "d c b a", 1);
}

static void time_limit(void **state) {
    struct fixture *f = *state;
    for (int k = 0; k < 3; k++) {
        struct batch *b = batch_at(BASE);
        for (int i = 0; i < 2000; i++) {
            char id[32];
            snprintf(id, sizeof id, "t%d-%d", k, i);
            add_trace(b, id);
            add_obs(b, "one", id);
        }
        write_one(f, b);
    }
    struct trace_query q = all_traces();
    struct daily_query d = all_days();
    struct arena a;
    struct trace_ref ref = { .project = 1 };
    struct buf out;
    int64_t total;
    arena_init(&a, 4096);
    buf_init(&out, (size_t)8 << 20);
    assert_true(id_key(&a, STR_LIT("one"), &ref.key));
    q.deadline = d.deadline = ref.deadline = clock_mono_ns() - 1;
    q.version = d.version = STR_LIT("none such");
    assert_int_equal(f->store.ops->traces_list(&f->store, &q, visit_trace, &out, &total, &f->err), XT_ETIMEOUT);
    assert_int_equal(f->store.ops->daily(&f->store, &d, visit_day, &out, &total, &f->err), XT_ETIMEOUT);
    assert_int_equal(f->store.ops->trace_get(&f->store, &ref, visit_trace, visit_obs, &out, &f->err), XT_ETIMEOUT);
    q.deadline = d.deadline = TIME_NONE; /* the connection serves again */
    assert_int_equal(read_list(f, &q, &out), 0);
    arena_done(&a);
    buf_done(&out);
}

/* ---- details ---- */

static void observations_in_order(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *id;
        int start, created; /* start 0: none */
    } rows[] = { { "e", 0, 1 }, { "b", 2, 2 },  { "f", 0, 3 }, { "a", 1, 4 },
                 { "d", 3, 5 }, { "c2", 2, 5 }, { "c1", 2, 5 } };
    struct buf out;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct batch *b = batch_at(rows[i].created);
        add_obs(b, "t", rows[i].id)->start = rows[i].start ? rows[i].start : TIME_NONE;
        write_one(f, b);
    }
    buf_init(&out, 1 << 20);
    read_trace(f, 1, "t", &out);
    static const char *const want[] = { "- a ", "- b ", "- c1 ", "- c2 ", "- d ", "- e ", "- f " };
    const char *at = out.p;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        at = strstr(at, want[i]);
        if (!at)
            fail_msg("%s is not in its place:\n%s", want[i], out.p);
    }
    buf_done(&out);
}

struct count {
    int n, stop_at;
};
static bool count_obs(void *arg, const struct observation_row *o) {
    struct count *c = arg;
    (void)o;
    return ++c->n != c->stop_at;
}
static bool any_trace(void *arg, const struct trace_row *t) {
    (void)arg, (void)t;
    return true;
}
static bool no_more(void *arg, const struct trace_row *t) {
    (void)arg, (void)t;
    return false;
}

static void many_observations(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(BASE);
    for (int i = 0; i < 12000; i++) {
        char id[16];
        snprintf(id, sizeof id, "o%d", i);
        struct observation *o = add_obs(b, "t", id);
        o->start = BASE - i;
        o->input = STR_LIT("[1]");
    }
    write_one(f, b);
    struct arena a;
    struct trace_ref ref = { .project = 1, .deadline = TIME_NONE };
    struct count c = { 0, 0 };
    arena_init(&a, 4096);
    assert_true(id_key(&a, STR_LIT("t"), &ref.key));
    assert_int_equal(f->store.ops->trace_get(&f->store, &ref, any_trace, count_obs, &c, &f->err), XT_OK);
    assert_int_equal(c.n, 12000);
    c = (struct count){ 0, 5 };
    assert_int_equal(f->store.ops->trace_get(&f->store, &ref, any_trace, count_obs, &c, &f->err), XT_OK);
    assert_int_equal(c.n, 5);
    c.n = 0;
    assert_int_equal(f->store.ops->trace_get(&f->store, &ref, no_more, count_obs, &c, &f->err), XT_OK);
    assert_int_equal(c.n, 0);
    arena_done(&a);
    assert_sound(f);
}

/* The root observation lends its input and output to a trace that never had any. */
static const struct {
    const char *what;
    struct {
        const char *id, *parent;
        int start;
        const char *in, *out;
    } obs[4];
    const char *trace_in, *want;
} roots[] = {
    { "the one without parent", { { "a", "b", 1, "1", "2" }, { "b", "", 2, "3", "4" } }, "", " in=3 out=4" },
    { "the earlier of two", { { "a", "", 5, "1", "2" }, { "b", "", 4, "3", "4" } }, "", " in=3 out=4" },
    { "no start comes last", { { "a", "", 0, "1", "2" }, { "b", "", 4, "3", "4" } }, "", " in=3 out=4" },
    { "a parent elsewhere", { { "a", "gone", 1, "1", "2" }, { "b", "", 2, "3", "4" } }, "", " in=1 out=2" },
    { "only half of it",
      { { "a", "", 1, "", "2" }, { "b", "a", 2, "3", "4" } },
      "",
      " env=default label=default out=2" },
    { "the trace's own input", { { "a", "", 1, "1", "2" } }, "9", " in=9 out=2" },
    { "a ring has no root", { { "a", "b", 1, "1", "2" }, { "b", "a", 2, "3", "4" } }, "", " label=default\n" },
    { "its own parent", { { "a", "a", 1, "1", "2" } }, "", " label=default\n" },
};

static void derived_io(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        char id[16];
        struct batch *b = batch_at(BASE);
        struct trace_query q = all_traces();
        struct buf out;
        snprintf(id, sizeof id, "t%zu", i);
        struct trace *t = add_trace(b, id);
        t->session = str_c(id);
        t->input = opt(roots[i].trace_in);
        for (size_t k = 0; k < 4 && roots[i].obs[k].id; k++) {
            struct observation *o = add_obs(b, id, roots[i].obs[k].id);
            if (*roots[i].obs[k].parent)
                o->parent_id = id_of(b, roots[i].obs[k].parent);
            o->start = roots[i].obs[k].start ? roots[i].obs[k].start : TIME_NONE;
            o->input = opt(roots[i].obs[k].in);
            o->output = opt(roots[i].obs[k].out);
        }
        write_one(f, b);
        buf_init(&out, 1 << 20);
        q.session = str_c(id);
        q.want_io = true;
        assert_int_equal(read_list(f, &q, &out), 1);
        if (!strstr(out.p, roots[i].want))
            fail_msg("%s: no \"%s\" in %s", roots[i].what, roots[i].want, out.p);
        buf_clear(&out);
        q.want_io = false;
        read_list(f, &q, &out);
        assert_lacks(&out, " in=");
        assert_lacks(&out, " out=");
        buf_done(&out);
    }
}

/* Latency and cost: stated, else from the observations; an observation's times likewise. */
static void derived_numbers(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(BASE);
    struct buf out;
    struct observation *o = add_obs(b, "t", "a");
    o->start = 10 * SEC;
    o->end = 12 * SEC + SEC / 2;
    o->completion_start = 11 * SEC;
    o->cost_total = usd("0.1");
    o = add_obs(b, "t", "b");
    o->start = 11 * SEC;
    o->end = 20 * SEC;
    o->latency = 7;
    o->time_to_first_token = 0.25;
    o->cost_total = usd("0.02");
    add_obs(b, "t", "c")->type = STR_LIT("SPAN");
    add_obs(b, "bare", "c")->start = 5;
    write_one(f, b);
    buf_init(&out, 1 << 20);
    read_trace(f, 1, "t", &out);
    assert_has(&out, " latency=10 cost=0.12\n");
    assert_has(&out, " source=given latency=2.5 ttft=1\n");
    assert_has(&out, " source=given latency=7 ttft=0.25\n");
    buf_clear(&out);
    read_trace(f, 1, "bare", &out);
    assert_lacks(&out, "latency=");
    assert_lacks(&out, "cost=");
    b = batch_at(BASE);
    struct trace *t = add_trace(b, "t");
    t->latency = 0;
    t->total_cost = usd("0");
    write_one(f, b);
    buf_clear(&out);
    read_trace(f, 1, "t", &out);
    assert_has(&out, " latency=0 cost=0.0\n");
    buf_done(&out);
}

/* ---- beside a writer ---- */

struct reader {
    struct fixture *f;
    _Atomic bool *done;
    int bad, reads;
};

/* A trace is seen with all of its observations or not at all; a page and its total belong together. */
static void *read_on(void *arg) {
    struct reader *r = arg;
    struct arena a;
    arena_init(&a, 4096);
    struct trace_ref ref = { .project = 1, .deadline = TIME_NONE };
    if (!id_key(&a, STR_LIT("grows"), &ref.key))
        r->bad++;
    while (!*r->done) {
        struct xt_err err;
        struct count c = { 0, 0 };
        int64_t total = 0;
        struct trace_query q = all_traces();
        struct buf out;
        buf_init(&out, 1 << 20);
        enum xt_code code = r->f->store.ops->trace_get(&r->f->store, &ref, any_trace, count_obs, &c, &err);
        r->bad += (code != XT_OK && code != XT_ENOTFOUND) || c.n % 3 != 0;
        q.limit = 200;
        code = r->f->store.ops->traces_list(&r->f->store, &q, visit_trace, &out, &total, &err);
        int64_t lines = 0;
        for (size_t i = 0; i < out.n; i++)
            lines += out.p[i] == '\n';
        r->bad += code != XT_OK || lines != (total < 200 ? total : 200);
        r->reads++;
        buf_done(&out);
    }
    arena_done(&a);
    return NULL;
}

static void beside_a_writer(void **state) {
    struct fixture *f = *state;
    _Atomic bool done = false;
    struct reader readers[2] = { { f, &done, 0, 0 }, { f, &done, 0, 0 } };
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    for (int i = 0; i < 150; i++) {
        char id[16];
        struct batch *b = batch_at(BASE + i);
        snprintf(id, sizeof id, "t%d", i);
        add_trace(b, id);
        for (int k = 0; k < 3; k++) {
            snprintf(id, sizeof id, "o%d", 3 * i + k);
            add_obs(b, "grows", id)->start = BASE - i;
        }
        write_one(f, b);
        f->store.ops->tidy(&f->store);
    }
    done = true;
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].bad, 0);
        assert_true(readers[i].reads > 0);
    }
    assert_sound(f);
}

static void unknown(void **state) {
    struct fixture *f = *state;
    struct buf out;
    buf_init(&out, 1 << 20);
    read_trace(f, 1, "t99", &out);
    assert_string_equal(out.p, "not found\n");
    buf_clear(&out);
    read_trace(f, 2, "t2", &out);
    assert_string_equal(out.p, "not found\n");
    struct trace_query q = all_traces();
    q.project = 99;
    ask(f, &q, 0, "", 0);
    buf_done(&out);
}

int main(void) {
    STORE_OR_SKIP();
#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(filtered, small_store),
        TEST(ordered, small_store),
        TEST(order_and_filter, small_store),
        TEST(visitor_stops, small_store),
        TEST(unknown, small_store),
        TEST(deep_pages, fixture_setup),
        TEST(long_texts_in_order, fixture_setup),
        TEST(time_limit, fixture_setup),
        TEST(observations_in_order, fixture_setup),
        TEST(many_observations, fixture_setup),
        TEST(derived_io, fixture_setup),
        TEST(derived_numbers, fixture_setup),
        TEST(beside_a_writer, fixture_setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
