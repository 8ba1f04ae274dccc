/* test_store_write.c -- writing groups: identity, parts, payloads, rollback, extremes. */
#include "sqlite_fixture.h"
#include "trace_fixture.h"

static int64_t rows(const struct fixture *f, const char *table) { return fixture_rows(f, table); }

static void expect(struct fixture *f, int64_t project, const char *id, const char *piece) {
    struct buf out;
    buf_init(&out, (size_t)64 << 20);
    read_trace(f, project, id, &out);
    assert_has(&out, piece);
    buf_done(&out);
}

/* ---- identity ---- */

/* The same observation id in two traces is two observations. */
static void same_id_in_two_traces(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    add_obs(b, "trace-a", "step")->name = STR_LIT("in a");
    add_obs(b, "trace-b", "step")->name = STR_LIT("in b");
    write_one(f, b);
    b = batch_at(2000);
    add_obs(b, "trace-b", "step")->level = STR_LIT("ERROR");
    write_one(f, b);
    expect(f, 1, "trace-a", "- step of=trace-a type=GENERATION name=in a env=");
    expect(f, 1, "trace-b", "- step of=trace-b type=GENERATION name=in b level=ERROR env=");
    assert_int_equal(rows(f, "obs"), 2);
    assert_sound(f);
}

static void same_id_in_two_projects(void **state) {
    struct fixture *f = *state;
    struct batch *b[2] = { batch_at(1000), batch_at(1000) };
    b[1]->project = 2;
    b[1]->default_label = STR_LIT("second");
    add_trace(b[0], "t")->name = STR_LIT("one");
    add_trace(b[1], "t")->name = STR_LIT("two");
    write_group(f, b, 2);
    expect(f, 1, "t", "name=one env=default label=default");
    expect(f, 2, "t", "name=two env=default label=second");
    expect(f, 3, "t", "not found");
    assert_sound(f);
}

static void every_spelling_is_one_trace(void **state) {
    struct fixture *f = *state;
    static const char *const ids[] = {
        "0af76519-16cd-43dd-8448-eb211c80319c",
        "0AF7651916CD43DD8448EB211C80319C",
        "0af7651916cd43dd8448eb211c80319c",
        "{0af76519-16cd-43dd-8448-eb211c80319c}",
        "urn:uuid:0af76519-16cd-43dd-8448-eb211c80319c",
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct batch *b = batch_at(1000);
        add_obs(b, ids[i], "x");
        write_one(f, b);
        expect(f, 1, ids[i], "0af76519-16cd-43dd-8448-eb211c80319c ts=");
    }
    assert_int_equal(rows(f, "trace"), 1);
    assert_int_equal(rows(f, "obs"), 1);
}

/* ---- parts ---- */

static void parts_of_a_batch(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    for (int i = 0; i < 10; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i);
        add_trace(b, id);
        add_obs(b, id, "o");
    }
    struct batch_part parts[2] = {
        { .b = b, .trace_from = 2, .trace_to = 4, .observation_from = 3, .observation_to = 6 },
        { .b = b, .trace_from = 8, .trace_to = 8, .observation_from = 9, .observation_to = 10 }
    };
    assert_int_equal(f->store.ops->write(&f->store, parts, 2, &f->err), XT_OK);
    batch_free(b);
    assert_int_equal(rows(f, "trace"), 5); /* 2, 3 and, by their observations, 4, 5, 9 */
    assert_int_equal(rows(f, "obs"), 4);
    expect(f, 1, "t2", "t2 ts=");
    expect(f, 1, "t9", "- o of=t9");
    expect(f, 1, "t8", "not found");
    assert_int_equal(f->store.ops->write(&f->store, NULL, 0, &f->err), XT_OK);
    assert_sound(f);
}

/* Traces, observations and samples share the transaction. */
static void samples_too(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    add_trace(b, "t");
    sample_add(b, "m", "a=1", 5 * SEC, 1.5);
    write_one(f, b);
    assert_int_equal(fixture_points(f), 1);
    assert_int_equal(rows(f, "trace"), 1);
}

/* ---- payloads ---- */

static struct str noise(struct batch *b, size_t n) { /* a JSON string that does not compress */
    char *p = arena_bytes(&b->arena, n + 2);
    uint64_t x = 88172645463325252u;
    assert_non_null(p);
    for (size_t i = 1; i <= n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (char)('#' + x % 57); /* neither quote nor backslash */
    }
    p[0] = p[n + 1] = '"';
    return (struct str){ p, n + 2 };
}

static struct str repeated(struct batch *b, size_t n) {
    char *p = arena_bytes(&b->arena, n);
    assert_non_null(p);
    memset(p, '7', n);
    return (struct str){ p, n };
}

struct want_io {
    struct str input, output;
    bool seen;
};

static bool compare_io(void *arg, const struct trace_row *t) {
    (void)arg, (void)t;
    return true;
}

static bool compare_obs_io(void *arg, const struct observation_row *o) {
    struct want_io *w = arg;
    assert_true(str_eq(w->input, o->input));
    assert_true(str_eq(w->output, o->output));
    w->seen = true;
    return true;
}

static void payload_sizes(void **state) {
    struct fixture *f = *state;
    static const size_t sizes[] = { 1, 2, 61, 62, 63, 64, 65, 200, 4096, 70000, 5 << 20 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char id[16];
        struct batch *b = batch_at(1000), *keep = batch_at(1000);
        struct want_io want = { noise(keep, sizes[i]), repeated(keep, sizes[i]), false };
        struct trace_ref ref = { .project = 1, .deadline = TIME_NONE };
        snprintf(id, sizeof id, "t%zu", i);
        struct observation *o = add_obs(b, id, "o");
        o->input = want.input;
        o->output = want.output;
        snprintf(id, sizeof id, "r%zu", i);
        add_obs(b, id, "o")->input = want.output; /* alone in its trace */
        write_one(f, b);
        snprintf(id, sizeof id, "t%zu", i);
        assert_true(id_key(&keep->arena, str_c(id), &ref.key));
        assert_int_equal(f->store.ops->trace_get(&f->store, &ref, compare_io, compare_obs_io, &want, &f->err), XT_OK);
        assert_true(want.seen);
        batch_free(keep);
    }
    if (f->postgresql)
        return;
    assert_int_equal(rows(f, "payload"), 9 + 2 * 2 + 11); /* the packs; two of 4 KB and of 5 MB; the lone ones */
    assert_true(fixture_query(f, "SELECT max(length(z)) FROM payload") > 3 << 20);
    assert_int_equal(
        fixture_query(f, "SELECT count(*) FROM payload WHERE length(z) < 2000 AND hex(substr(z,1,1)) = '01'"),
        6 + 2); /* the repetitions from 64 bytes on */
}

/* Sending the same again neither adds rows nor numbers. */
static void repeating_keeps_rows(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        struct batch *b = batch_at(1000 + i);
        struct trace *t = add_trace(b, "t");
        t->input =
            STR_LIT("{\"messages\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}");
        t->metadata = STR_LIT("{\"k\":1}");
        t->merge = i == 1 ? MERGE_DEEP : MERGE_REPLACE;
        struct observation *o = add_obs(b, "t", "o");
        o->output = STR_LIT("\"x\"");
        o->metadata = STR_LIT("{\"k\":1}");
        o->merge = t->merge;
        write_one(f, b);
    }
    assert_int_equal(rows(f, "trace"), 1);
    assert_int_equal(rows(f, "obs"), 1);
    if (!f->postgresql) {
        assert_int_equal(rows(f, "payload"), 1); /* a pack of four */
        assert_int_equal(fixture_query(f, "SELECT v FROM state WHERE k = 'next_pid'"), 5);
        assert_int_equal(fixture_query(f, "SELECT v FROM state WHERE k = 'next_tseq'"), 2);
    }
    assert_sound(f);
}

/* A replaced text goes; what merging made is compressed, too. */
static void replaced_payloads_go(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        struct batch *b = batch_at(1000 + i);
        struct observation *o = add_obs(b, "t", "o");
        o->merge = MERGE_DEEP;
        o->input = arena_printf(&b->arena, "%d", i);
        o->metadata = arena_printf(&b->arena, "{\"key%d\":\"%0200d\"}", i, 0);
        write_one(f, b);
    }
    if (!f->postgresql) {
        assert_int_equal(rows(f, "payload"), 2);
        assert_true(fixture_query(f, "SELECT max(length(z)) FROM payload") < 200);
    }
    expect(f, 1, "t", " in=4 ");
    expect(f, 1, "t", "\"key0\":");
    expect(f, 1, "t", "\"key4\":");
    assert_sound(f);
}

/* Rare fields beyond the row's room go out of line, and come back when they shrink. */
static void long_rest(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++) {
        struct batch *b = batch_at(1000 + i);
        struct observation *o = add_obs(b, "t", "my step");
        o->status_message = i == 3 ? STR_LIT("short") : noise(b, 3000 + 500 * (size_t)(i / 2));
        write_one(f, b);
        if (!f->postgresql) {
            assert_int_equal(fixture_query(f, "SELECT prest IS NOT NULL AND rest IS NULL FROM obs"), i < 3);
            assert_int_equal(rows(f, "payload"), i < 3);
        }
        assert_sound(f);
    }
    expect(f, 1, "t", "- my step of=t type=GENERATION status=short");
    struct trace_query q = all_traces();
    struct batch *b = batch_at(1000);
    struct buf out;
    add_obs(b, "t", "my step")->status_message = noise(b, 3000);
    write_one(f, b);
    buf_init(&out, 1 << 20);
    q.want_observations = true;
    assert_int_equal(read_list(f, &q, &out), 1);
    assert_has(&out, " obs=my step\n");
    buf_done(&out);
}

/* ---- values ---- */

/* Token counts whose sum leaves 64 bits; amounts at the ends. */
static void extremes(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 6; i++) {
        char id[16];
        struct batch *b = batch_at(1000);
        snprintf(id, sizeof id, "o%d", i);
        struct observation *o = add_obs(b, "t", id);
        o->model = STR_LIT("m");
        o->tokens_in = (struct opt_i64){ INT64_MAX, true };
        o->tokens_out = (struct opt_i64){ INT64_MIN, true };
        o->tokens_total = (struct opt_i64){ i % 2 ? INT64_MIN : INT64_MAX, true };
        o->cost_total = usd(i % 2 ? "9223372036.999999999999999999" : "1e300");
        o->start = i % 2 ? TIME_MIN : TIME_MAX;
        o->end = i % 2 ? TIME_MAX : TIME_MIN;
        write_one(f, b);
        assert_sound(f);
    }
    struct daily_query q = all_days();
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(read_days(f, &q, &out), 1);
    assert_has(&out, "-957531-02-11 traces=1 obs=6 cost=5534023222");
    assert_has(&out, "[m n=6 traces=1 in=9223372036854775807 out=-9223372036854775808 total=-3 cost=5534023222");
    buf_done(&out);
    struct batch *b = batch_at(2000); /* and they leave as they came */
    struct observation *o = add_obs(b, "t", "o1");
    o->tokens_in = (struct opt_i64){ 0, true };
    o->start = 0;
    write_one(f, b);
    assert_sound(f);
}

static void extreme_times(void **state) {
    struct fixture *f = *state;
    static const int64_t times[] = { TIME_MIN, TIME_MIN + 1, TIME_MIN + HOUR, -1, 0, 1, TIME_MAX - HOUR, TIME_MAX };
    struct trace_query q = all_traces();
    struct buf out;
    char words[256];
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char id[16];
        struct batch *b = batch_at(1000);
        snprintf(id, sizeof id, "t%zu", i);
        add_trace(b, id)->timestamp = times[i];
        write_one(f, b);
    }
    assert_sound(f);
    buf_init(&out, 1 << 20);
    q.descending = false;
    assert_int_equal(read_list(f, &q, &out), 8);
    first_words(&out, words, sizeof words);
    assert_string_equal(words, "t0 t1 t2 t3 t4 t5 t6 t7");
    buf_clear(&out);
    q.from = TIME_MIN + 1;
    q.to = TIME_MAX - 1;
    assert_int_equal(read_list(f, &q, &out), 6);
    buf_clear(&out);
    struct daily_query d = all_days();
    assert_int_equal(read_days(f, &d, &out), 4);
    buf_done(&out);
}

/* A NUL in a text is a byte like any other. */
static void nul_in_texts(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    static const struct str tag = { "t\0g", 3 };
    struct trace *t = add_trace(b, "one");
    t->user = (struct str){ "u\0a", 3 };
    t->name = (struct str){ "\0", 1 };
    t->tags = (struct str *)(uintptr_t)&tag;
    t->ntags = 1;
    t->tags_has = true;
    add_trace(b, "two")->user = (struct str){ "u\0b", 3 };
    add_trace(b, "three")->user = STR_LIT("u");
    struct observation *o = add_obs(b, "one", "o");
    o->model = (struct str){ "m\0x", 3 };
    o->type = (struct str){ "GENERATION\0", 11 };
    write_one(f, b);
    assert_sound(f);
    static const struct {
        struct str user, name, tag;
        int64_t total;
    } asked[] = {
        { { "u\0a", 3 }, STR_NONE, STR_NONE, 1 }, { { "u\0b", 3 }, STR_NONE, STR_NONE, 1 },
        { { "u\0c", 3 }, STR_NONE, STR_NONE, 0 }, { { "u", 1 }, STR_NONE, STR_NONE, 1 },
        { { "u\0", 2 }, STR_NONE, STR_NONE, 0 },  { STR_NONE, { "\0", 1 }, STR_NONE, 1 },
        { STR_NONE, { "", 0 }, STR_NONE, 0 },     { STR_NONE, STR_NONE, { "t\0g", 3 }, 1 },
        { STR_NONE, STR_NONE, { "t", 1 }, 0 },    { { "u\0a", 3 }, { "\0", 1 }, { "t\0g", 3 }, 1 },
    };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct trace_query q = all_traces();
        struct buf out;
        buf_init(&out, 1 << 20);
        q.user = asked[i].user;
        q.name = asked[i].name;
        q.tags = &asked[i].tag;
        q.ntags = str_has(asked[i].tag);
        assert_int_equal(read_list(f, &q, &out), asked[i].total);
        buf_done(&out);
    }
}

static void huge_texts(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    struct trace *t = add_trace(b, "t");
    t->session = noise(b, 100000);
    t->user = noise(b, 100000);
    t->name = noise(b, 100000);
    t->tags = arena_new(&b->arena, struct str, 10000);
    for (int i = 0; i < 10000; i++)
        t->tags[t->ntags++] = arena_printf(&b->arena, "tag %d", i % 9000);
    t->tags_has = true;
    struct observation *o = add_obs(b, "t", "o");
    o->model = noise(b, 50000);
    o->name = noise(b, 50000);
    write_one(f, b);
    assert_sound(f); /* the entries are counted, too */
    struct trace_query q = all_traces();
    struct buf out;
    static const struct str wanted[2] = { { "tag 8999", 8 }, { "tag 0", 5 } };
    buf_init(&out, (size_t)8 << 20);
    q.tags = wanted;
    q.ntags = 2;
    assert_int_equal(read_list(f, &q, &out), 1);
    buf_done(&out);
    b = batch_at(1001); /* and all of its entries move */
    add_trace(b, "t")->timestamp = 5;
    write_one(f, b);
    assert_sound(f);
}

/* Many models in one trace: beyond a few a map finds them. */
static void many_models(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 3; round++) {
        struct batch *b = batch_at(1000);
        for (int i = 0; i < 300; i++) {
            char id[16];
            snprintf(id, sizeof id, "o%d", i);
            struct observation *o = add_obs(b, "t", id);
            o->model = arena_printf(&b->arena, "m%d", (i + round) % (200 - round));
            o->tokens_in = (struct opt_i64){ i, true };
        }
        write_one(f, b);
        assert_sound(f);
    }
    if (!f->postgresql)
        assert_int_equal(rows(f, "trace_model"), 198);
    assert_int_equal(rows(f, "rollup_model"), 3 * 198); /* by hour and name, by hour, by day */
}

/* ---- failures ---- */

static struct batch *mixed(int round) {
    struct batch *b = batch_at(1000 + round);
    for (int i = 0; i < 5; i++) {
        char id[16];
        snprintf(id, sizeof id, "t%d", i + round);
        struct trace *t = add_trace(b, id);
        t->merge = MERGE_DEEP;
        set_tags(b, t, round % 2 ? "a,b" : "b,c");
        t->metadata = STR_LIT("{\"a\":{\"b\":1}}");
        t->user = arena_printf(&b->arena, "u%d", i + 2 * round);
        struct observation *o = add_obs(b, id, "o");
        o->merge = MERGE_DEEP;
        o->metadata = arena_printf(&b->arena, "{\"k%d\":[1,2]}", round);
        o->input = arena_printf(&b->arena, "\"%0500d\"", round);
        o->model = STR_LIT("m");
        o->status_message = arena_printf(&b->arena, "%0900d", round);
    }
    return b;
}

/* Whichever allocation fails: nothing of the group stays, and the same group can be written afterwards. */
static void no_memory_is_no_trace(void **state) {
    struct fixture *f = *state;
    write_one(f, mixed(0));
    struct buf before, after;
    struct trace_query q = all_traces();
    buf_init(&before, 1 << 20);
    buf_init(&after, 1 << 20);
    q.want_io = q.want_observations = true;
    read_list(f, &q, &before);
    static const char counter[] = "SELECT v FROM state WHERE k = 'next_pid'";
    int64_t pid = f->postgresql ? 0 : fixture_query(f, counter);
    bool failed = true;
    int n = 0;
    for (; failed; n++) {
        struct batch *b = mixed(1);
        assert_int_equal(f->store.ops->prepare(&f->store, b, &f->err), XT_OK);
        struct batch_part p = whole(b);
        alloc_fail_at((uint64_t)n + 1);
        enum xt_code code = f->store.ops->write(&f->store, &p, 1, &f->err);
        alloc_fail_at(0);
        failed = code != XT_OK;
        if (failed) {
            assert_int_equal(code, XT_ENOMEM);
            buf_clear(&after);
            read_list(f, &q, &after);
            assert_int_equal(after.n, before.n);
            assert_memory_equal(after.p, before.p, before.n);
            if (!f->postgresql)
                assert_int_equal(fixture_query(f, counter), pid);
        }
        batch_free(b);
        assert_true(n < 1000);
    }
    assert_true(n > 3);
    assert_int_equal(rows(f, "trace"), 6);
    assert_sound(f);
    buf_done(&before);
    buf_done(&after);
}

/* Without memory for compression texts are stored as they are. */
static void no_memory_to_compress(void **state) {
    struct fixture *f = *state;
    for (uint64_t n = 1; n < 4; n++) {
        struct batch *b = mixed((int)n);
        alloc_fail_at(n);
        enum xt_code code = f->store.ops->prepare(&f->store, b, &f->err);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        write_one(f, b);
    }
    assert_sound(f);
}

int main(void) {
    STORE_OR_SKIP();
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(same_id_in_two_traces),
        TEST(same_id_in_two_projects),
        TEST(every_spelling_is_one_trace),
        TEST(parts_of_a_batch),
        TEST(samples_too),
        TEST(payload_sizes),
        TEST(repeating_keeps_rows),
        TEST(replaced_payloads_go),
        TEST(long_rest),
        TEST(extremes),
        TEST(extreme_times),
        TEST(nul_in_texts),
        TEST(huge_texts),
        TEST(many_models),
        TEST(no_memory_is_no_trace),
        TEST(no_memory_to_compress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
