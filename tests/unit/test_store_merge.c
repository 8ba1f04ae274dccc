/* test_store_merge.c -- how records of one trace or observation meet. Each case is written
 * record by record, each in a group of its own, and once more all in one group: both must give the same rows. */
#include "trace_fixture.h"

#define T0 (1767225600 * SEC) /* 2026-01-01 */
#define ID "0af7651916cd43dd8448eb211c80319c"
#define OID "b7ad6b7169203331"

/* A record of a case: sets fields of a trace (o NULL) or of an observation (t NULL). */
typedef void fill(struct batch *b, struct trace *t, struct observation *o);
enum kind { END, TRACE, OBS, TRACE_DEEP, OBS_DEEP };
struct record {
    enum kind kind;
    fill *fill; /* NULL: nothing but the id */
};

static void t_name(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o, t->name = STR_LIT("n");
}
static void t_name2(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o, t->name = STR_LIT("other");
}
static void t_weak(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o, t->name = STR_LIT("root span"), t->name_weak = true;
}
static void t_all(struct batch *b, struct trace *t, struct observation *o) {
    (void)o;
    t->timestamp = T0 + 7;
    t->name = STR_LIT("n");
    t->user = STR_LIT("u");
    t->session = STR_LIT("s");
    t->release = STR_LIT("r");
    t->version = STR_LIT("v");
    t->environment = STR_LIT("prod");
    t->external_id = STR_LIT("x");
    t->project_label = STR_LIT("label");
    set_tags(b, t, "a,b");
    t->is_public = TRI_TRUE;
    t->bookmarked = TRI_TRUE;
    t->latency = 1.5;
    t->total_cost = usd("0.25");
    t->input = STR_LIT("{\"i\":1}");
    t->output = STR_LIT("\"o\"");
    t->metadata = STR_LIT("{\"a\":{\"x\":1},\"b\":2}");
}
static void t_empty_texts(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o;
    t->name = t->user = t->session = STR_LIT("");
}
static void t_meta2(struct batch *b, struct trace *t, struct observation *o) {
    (void)o;
    set_tags(b, t, "b,c,c");
    t->metadata = STR_LIT("{\"a\":{\"y\":2},\"c\":3}");
    t->is_public = TRI_FALSE;
    t->bookmarked = TRI_FALSE;
}
static void t_no_tags(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o;
    t->tags_has = true;
}
static void t_time(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o, t->timestamp = T0 + 99;
}
static void t_cost_text(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)o, t->total_cost = usd("0.1234567890123456789");
}
static void o_start5(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)t;
    o->start = T0 + 5 * SEC;
    o->end = T0 + 6 * SEC;
    o->environment = STR_LIT("staging");
}
static void o_start9(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)t, o->start = T0 + 9 * SEC;
}
static void o_start2(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)t, o->start = T0 + 2 * SEC;
}
static void o_other(struct batch *b, struct trace *t, struct observation *o) {
    (void)t;
    o->id = id_of(b, "00000000000000aa");
    o->start = T0 + 3 * SEC;
    o->end = T0 + 4 * SEC;
}
static void o_all(struct batch *b, struct trace *t, struct observation *o) {
    (void)t;
    o->parent_id = id_of(b, "00000000000000ff");
    o->type = STR_LIT("SPAN");
    o->name = STR_LIT("n");
    o->start = T0;
    o->end = T0 + SEC;
    o->completion_start = T0 + SEC / 4;
    o->model = STR_LIT("m");
    o->model_parameters = STR_LIT("{\"t\":1}");
    o->input = STR_LIT("[1]");
    o->output = STR_LIT("[2]");
    o->metadata = STR_LIT("{\"a\":{\"x\":1}}");
    o->usage = STR_LIT("{\"input\":1}");
    o->usage_buckets = STR_LIT("{\"input\":1}");
    o->cost_buckets = STR_LIT("{\"input\":0.5}");
    o->unit = STR_LIT("TOKENS");
    o->level = STR_LIT("ERROR");
    o->status_message = STR_LIT("bad");
    o->environment = STR_LIT("prod");
    o->project_label = STR_LIT("label");
    o->prompt_id = STR_LIT("pi");
    o->prompt_name = STR_LIT("pn");
    o->prompt_version = STR_LIT("2");
    o->version = STR_LIT("v7");
    o->model_id = STR_LIT("mi");
    o->input_price = 0.5;
    o->output_price = 0.25;
    o->total_price = 0.75;
    o->cost_input = usd("0.1");
    o->cost_output = usd("0.2");
    o->cost_total = usd("0.3");
    o->latency = 2;
    o->time_to_first_token = 3;
    o->tokens_in = (struct opt_i64){ 1, true };
    o->tokens_out = (struct opt_i64){ 2, true };
    o->tokens_total = (struct opt_i64){ 3, true };
}
static void o_meta2(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)t;
    o->metadata = STR_LIT("{\"a\":{\"y\":2},\"z\":0}");
    o->usage_buckets = STR_LIT("{\"output\":2}");
    o->cost_total = usd("0");
    o->tokens_in = (struct opt_i64){ 0, true };
}
static void o_default_env(struct batch *b, struct trace *t, struct observation *o) {
    (void)b, (void)t, o->environment = STR_LIT("default");
}

#define ALL_TRACE                                                                                                \
    " name=n user=u session=s release=r version=v env=prod external=x label=label tag=a tag=b public bookmarked" \
    " in={\"i\":1} out=\"o\" meta={\"a\":{\"x\":1},\"b\":2} latency=1.5 cost=0.25\n"
#define ALL_OBS                                                                                                       \
    " parent=00000000000000ff type=SPAN name=n level=ERROR status=bad env=prod label=label start=1767225600000000000" \
    " end=1767225601000000000 completion=1767225600250000000"
#define ALL_OBS_REST                                                                                              \
    " model=m params={\"t\":1} in=[1] out=[2] meta={\"a\":{\"x\":1}} unit=TOKENS pid=pi pname=pn pversion=2 "     \
    "version=v7 mid=mi"                                                                                           \
    " iprice=0.5 oprice=0.25 tprice=0.75 icost=0.1 ocost=0.2 tcost=0.3 usage={\"input\":1} costs={\"input\":0.5}" \
    " source=given latency=2 ttft=3 tin=1 tout=2 ttotal=3\n"

static const struct {
    const char *what;
    struct record records[4];
    const char *has[4];   /* pieces of the answer */
    const char *lacks[2]; /* and of what it must not hold */
} cases[] = {
    { "a bare trace",
      { { TRACE, NULL } },
      { ID " ts=1000 created=1000 updated=1000 env=default label=default\n" },
      { "name=", "public" } },
    { "all fields", { { TRACE, t_all } }, { ALL_TRACE, " ts=1767225600000000007 " }, { NULL } },
    { "absent keeps", { { TRACE, t_all }, { TRACE, NULL } }, { ALL_TRACE, " updated=1001" }, { NULL } },
    { "absent keeps, deep", { { TRACE, t_all }, { TRACE_DEEP, NULL } }, { ALL_TRACE }, { NULL } },
    { "given after absent",
      { { TRACE, NULL }, { TRACE, t_all } },
      { ALL_TRACE, " created=1000 updated=1001" },
      { NULL } },
    { "empty is given",
      { { TRACE, t_all }, { TRACE, t_empty_texts } },
      { " name= user= session= release=r" },
      { NULL } },
    { "replaced whole",
      { { TRACE, t_all }, { TRACE, t_meta2 } },
      { " tag=b tag=c tag=c in=", " meta={\"a\":{\"y\":2},\"c\":3}" },
      { "public", "bookmarked" } },
    { "merged deeply",
      { { TRACE, t_all }, { TRACE_DEEP, t_meta2 } },
      { " tag=a tag=b tag=c public in=", " meta={\"a\":{\"x\":1,\"y\":2},\"b\":2,\"c\":3}" },
      { "bookmarked" } },
    { "deep first",
      { { TRACE_DEEP, t_meta2 }, { TRACE_DEEP, t_all } },
      { " tag=b tag=c tag=a public bookmarked", " meta={\"a\":{\"y\":2,\"x\":1},\"c\":3,\"b\":2}" },
      { NULL } },
    { "replace, then deep, then replace",
      { { TRACE, t_all }, { TRACE_DEEP, t_meta2 }, { TRACE, t_meta2 } },
      { " tag=b tag=c tag=c in=", " meta={\"a\":{\"y\":2},\"c\":3}" },
      { "public" } },
    { "tags emptied", { { TRACE, t_all }, { TRACE, t_no_tags } }, { " label=label public" }, { "tag=" } },
    { "no tags added", { { TRACE, t_all }, { TRACE_DEEP, t_no_tags } }, { " tag=a tag=b" }, { NULL } },
    { "a weak name fills", { { TRACE_DEEP, t_weak } }, { " name=root span" }, { NULL } },
    { "a weak name yields", { { TRACE_DEEP, t_weak }, { TRACE, t_name } }, { " name=n " }, { NULL } },
    { "a weak name never replaces", { { TRACE, t_name }, { TRACE_DEEP, t_weak } }, { " name=n " }, { NULL } },
    { "the last name wins", { { TRACE, t_name }, { TRACE, t_name2 } }, { " name=other " }, { NULL } },
    { "an amount keeps its text",
      { { TRACE, t_cost_text } },
      { " cost=0.123456789012345678 as=0.1234567890123456789" },
      { NULL } },
    { "an amount loses its text", { { TRACE, t_cost_text }, { TRACE, t_all } }, { " cost=0.25\n" }, { "as=" } },

    { "timestamp: first write", { { TRACE, t_name } }, { " ts=1000 " }, { NULL } },
    { "timestamp: earliest start",
      { { TRACE, t_name }, { OBS, o_start5 }, { OBS, o_other } },
      { " ts=1767225603000000000 " },
      { NULL } },
    { "timestamp: explicit wins", { { TRACE, t_time }, { OBS, o_start5 } }, { " ts=1767225600000000099 " }, { NULL } },
    { "timestamp: explicit wins late",
      { { OBS, o_start5 }, { TRACE, t_time } },
      { " ts=1767225600000000099 " },
      { NULL } },
    { "timestamp: a start that moves up",
      { { OBS, o_start5 }, { OBS, o_start9 } },
      { " ts=1767225609000000000 " },
      { NULL } },
    { "timestamp: up, behind another",
      { { OBS, o_start2 }, { OBS, o_other }, { OBS, o_start9 } },
      { " ts=1767225603000000000 " },
      { NULL } },
    { "timestamp: a start that moves down",
      { { OBS, o_start5 }, { OBS, o_start2 } },
      { " ts=1767225602000000000 " },
      { NULL } },

    { "an orphan makes its trace",
      { { OBS, o_start5 } },
      { ID " ts=1767225605000000000 created=1000 updated=1000 env=staging label=default latency=1\n",
        "type=GENERATION env=staging label=default" },
      { NULL } },
    { "its trace comes",
      { { OBS, o_start5 }, { TRACE, t_all } },
      { " name=n user=u", " env=prod ", "created=1000 updated=1001" },
      { NULL } },
    { "a bare observation",
      { { OBS, NULL } },
      { "- " OID " of=" ID " type=GENERATION env=default label=default created=1000 updated=1000\n" },
      { NULL } },
    { "all of an observation", { { OBS, o_all } }, { ALL_OBS, ALL_OBS_REST, " cost=0.3\n" }, { NULL } },
    { "absent keeps: observation",
      { { OBS, o_all }, { OBS, NULL } },
      { ALL_OBS " created=1000 updated=1001" ALL_OBS_REST },
      { NULL } },
    { "given after absent: observation",
      { { OBS, NULL }, { OBS, o_all } },
      { ALL_OBS " created=1000 updated=1001" ALL_OBS_REST },
      { NULL } },
    { "replaced: observation",
      { { OBS, o_all }, { OBS, o_meta2 } },
      { " meta={\"a\":{\"y\":2},\"z\":0}", " tcost=0.0 usage={\"output\":2} source=given", " tin=0 tout=2",
        " cost=0.0\n" },
      { "costs=" } }, /* a map that the new total makes untrue */
    { "merged deeply: observation",
      { { OBS, o_all }, { OBS_DEEP, o_meta2 } },
      { " meta={\"a\":{\"x\":1,\"y\":2},\"z\":0}", " usage={\"output\":2}" },
      { NULL } },
    { "the default environment is an environment",
      { { OBS, o_all }, { OBS, o_default_env } },
      { "type=SPAN name=n level=ERROR status=bad env=default label=label" },
      { NULL } },
    { "repeated", { { TRACE, t_all }, { TRACE, t_all }, { TRACE, t_all } }, { ALL_TRACE }, { NULL } },
    { "repeated deeply", { { TRACE_DEEP, t_all }, { TRACE_DEEP, t_all } }, { ALL_TRACE }, { NULL } },
};

static struct batch *batch_of(const struct record *r, size_t n, int64_t received) {
    struct batch *b = batch_at(received);
    for (size_t i = 0; i < n; i++) {
        struct trace *t = NULL;
        struct observation *o = NULL;
        if (r[i].kind == TRACE || r[i].kind == TRACE_DEEP)
            t = add_trace(b, ID);
        else
            o = add_obs(b, ID, OID);
        if (t && r[i].kind == TRACE_DEEP)
            t->merge = MERGE_DEEP;
        if (o && r[i].kind == OBS_DEEP)
            o->merge = MERGE_DEEP;
        if (r[i].fill)
            r[i].fill(b, t, o);
    }
    return b;
}

static size_t records_of(const struct record *r) {
    size_t n = 0;
    while (n < 4 && r[n].kind != END)
        n++;
    return n;
}

static void one_by_one_and_folded(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = records_of(cases[i].records);
        struct buf apart, folded;
        buf_init(&apart, 1 << 20);
        buf_init(&folded, 1 << 20);
        for (size_t k = 0; k < n; k++)
            write_one(f, batch_of(&cases[i].records[k], 1, 1000 + (int64_t)k));
        read_trace(f, 1, ID, &apart);
        assert_sound(f);
        fixture_remove(f);
        fixture_make(f);
        fixture_open(f);
        struct batch *b[4];
        for (size_t k = 0; k < n; k++)
            b[k] = batch_of(&cases[i].records[k], 1, 1000 + (int64_t)k);
        write_group(f, b, n);
        read_trace(f, 1, ID, &folded);
        assert_sound(f);
        if (apart.n != folded.n || memcmp(apart.p, folded.p, apart.n) != 0)
            fail_msg("%s: folded differs:\n%s%s", cases[i].what, apart.p, folded.p);
        for (size_t k = 0; k < 4 && cases[i].has[k]; k++)
            if (!memmem(apart.p, apart.n, cases[i].has[k], strlen(cases[i].has[k])))
                fail_msg("%s: no \"%s\" in:\n%s", cases[i].what, cases[i].has[k], apart.p);
        for (size_t k = 0; k < 2 && cases[i].lacks[k]; k++)
            if (memmem(apart.p, apart.n, cases[i].lacks[k], strlen(cases[i].lacks[k])))
                fail_msg("%s: \"%s\" in:\n%s", cases[i].what, cases[i].lacks[k], apart.p);
        buf_done(&apart);
        buf_done(&folded);
        fixture_remove(f);
        fixture_make(f);
        fixture_open(f);
    }
}

/* Spellings: the first writer's; a parent is spelled as its child is. */
static const struct {
    const char *first, *second, *parent1, *parent2; /* observation ids as two writers send them, and their parents */
    const char *want;
} spellings[] = {
    { "b7ad6b7169203331", NULL, "00f067aa0ba902b7", NULL, "- b7ad6b7169203331 of=" ID " parent=00f067aa0ba902b7" },
    { "00000000-0000-0000-b7ad-6b7169203331", "b7ad6b7169203331", NULL, "00f067aa0ba902b7",
      "- 00000000-0000-0000-b7ad-6b7169203331 of=" ID " parent=00000000-0000-0000-00f0-67aa0ba902b7" },
    { "b7ad6b7169203331", "00000000-0000-0000-b7ad-6b7169203331", NULL, "00000000-0000-0000-00f0-67aa0ba902b7",
      "- b7ad6b7169203331 of=" ID " parent=00f067aa0ba902b7" },
    { "b7ad6b7169203331", NULL, "my step", NULL, "- b7ad6b7169203331 of=" ID " parent=my step" },
    { "My Step", NULL, "B7AD6B7169203331", NULL, "- My Step of=" ID " parent=B7AD6B7169203331" },
    { "My Step", NULL, "b7ad6b7169203331", NULL, "- My Step of=" ID " parent=b7ad6b7169203331" },
    { "step", "step", "a", "b", "- step of=" ID " parent=b" },
    { "step", "step", "a", "00f067aa0ba902b7", "- step of=" ID " parent=00f067aa0ba902b7" },
    { "4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", NULL, NULL,
      "- 4BF92F3577B34DA6A3CE929D0E0E4736 of=" },
};

static void spelling(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        const char *ids[2] = { spellings[i].first, spellings[i].second };
        const char *parents[2] = { spellings[i].parent1, spellings[i].parent2 };
        struct buf out;
        buf_init(&out, 1 << 20);
        for (int k = 0; k < 2 && ids[k]; k++) {
            struct batch *b = batch_at(1000);
            struct observation *o = add_obs(b, ID, ids[k]);
            if (parents[k])
                o->parent_id = id_of(b, parents[k]);
            write_one(f, b);
        }
        read_trace(f, 1, "0AF76519-16CD-43DD-8448-EB211C80319C", &out);
        assert_has(&out, spellings[i].want);
        buf_done(&out);
        fixture_remove(f);
        fixture_make(f);
        fixture_open(f);
    }
}

int main(void) {
    STORE_OR_SKIP();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_by_one_and_folded, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(spelling, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
