/* test_sqlite_payload.c -- packs of texts, trained dictionaries, and what damage to either ends in. */
#include "sqlite_fixture.h"
#include "trace_fixture.h"

#include "store/sqlite/payload.h"

static int64_t rows(const struct fixture *f, const char *table) {
    char sql[96];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    return fixture_query(f, sql);
}

static void expect(struct fixture *f, const char *id, const char *piece) {
    struct buf out;
    buf_init(&out, 8 << 20);
    read_trace(f, 1, id, &out);
    assert_has(&out, piece);
    buf_done(&out);
}

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* A chat message: words that all of them share, and a number of its own. */
static struct str chat(struct batch *b, uint64_t *seed) {
    static const char *const words[] = { "retrieval", "document", "answer", "context", "because", "summary",
                                         "latency",   "request",  "model",  "returns", "please",  "question" };
    struct buf t;
    buf_init(&t, 10000);
    buf_add_c(&t, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    for (int i = 0; i < 16; i++)
        buf_printf(&t, "%s %llu ", words[next_random(seed) % 12], (unsigned long long)(next_random(seed) % 100));
    buf_add_c(&t, "\"}],\"temperature\":0.7}");
    struct str s = arena_str(&b->arena, buf_str(&t));
    buf_done(&t);
    return s;
}

/* One observation in each of n traces. */
static void write_chats(struct fixture *f, const char *prefix, int n, uint64_t seed) {
    struct batch *b = batch_at(1000);
    for (int i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "%s%d", prefix, i);
        add_obs(b, id, id)->input = chat(b, &seed);
    }
    write_one(f, b);
}

/* What chat() gave text number i of write_chats. */
static void expect_chat(struct fixture *f, const char *prefix, int i, uint64_t seed) {
    char id[32];
    struct batch *b = batch_at(0);
    struct str s = STR_NONE;
    struct buf want;
    for (int k = 0; k <= i; k++)
        s = chat(b, &seed);
    snprintf(id, sizeof id, "%s%d", prefix, i);
    buf_init(&want, 10000);
    buf_add_c(&want, " in=");
    buf_add_str(&want, s);
    expect(f, id, want.p);
    buf_done(&want);
    batch_free(b);
}

/* ---- packs ---- */

/* Three turns, each of which repeats those before: one row, much smaller than its texts. */
static void add_conversation(struct batch *b, int turns) {
    uint64_t seed = 7;
    struct buf all;
    buf_init(&all, 1 << 20);
    for (int i = 0; i < turns; i++) {
        char id[16];
        snprintf(id, sizeof id, "turn%d", i);
        struct observation *o = add_obs(b, "talk", id);
        buf_printf(&all, "%d:", i);
        buf_add_str(&all, chat(b, &seed));
        o->input = arena_str(&b->arena, buf_str(&all));
        o->output = arena_printf(&b->arena, "\"answer %d\"", i);
        o->metadata = i % 2 ? STR_NONE : STR_LIT("{}");
    }
    buf_done(&all);
}

static void conversation(struct fixture *f, int turns) {
    struct batch *b = batch_at(1000);
    add_conversation(b, turns);
    write_one(f, b);
}

static void one_row_a_trace(void **state) {
    struct fixture *f = *state;
    conversation(f, 30);
    assert_int_equal(rows(f, "payload"), 1);
    assert_int_equal(fixture_query(f, "SELECT n FROM payload"), 75);
    assert_true(fixture_query(f, "SELECT length(z) FROM payload") < 10000); /* of 130 KB */
    for (int i = 0; i < 30; i++) {
        char piece[40];
        snprintf(piece, sizeof piece, " in=0:{\"messages\"");
        expect(f, "talk", piece);
        snprintf(piece, sizeof piece, " out=\"answer %d\"", i);
        expect(f, "talk", piece);
    }
    assert_sound(f);
}

static void replace(struct fixture *f, int turn, bool input, bool output, bool metadata) {
    char id[16];
    struct batch *b = batch_at(2000);
    snprintf(id, sizeof id, "turn%d", turn);
    struct observation *o = add_obs(b, "talk", id);
    if (input)
        o->input = STR_LIT("\"new input\"");
    if (output)
        o->output = STR_LIT("\"new output\"");
    if (metadata)
        o->metadata = STR_LIT("{\"new\":1}");
    write_one(f, b);
    assert_sound(f);
}

/* A pack loses texts one by one, and goes with the last one. */
static void texts_are_replaced(void **state) {
    struct fixture *f = *state;
    conversation(f, 3); /* 8 texts */
    assert_int_equal(rows(f, "payload"), 1);
    replace(f, 0, true, false, false);
    expect(f, "talk",
           "- turn0 of=talk type=GENERATION env=default label=default created=1000 updated=2000 "
           "in=\"new input\" out=\"answer 0\" meta={}");
    expect(f, "talk", " out=\"answer 2\"");
    assert_int_equal(fixture_query(f, "SELECT n FROM payload_gone WHERE pid = 1"), 1);
    replace(f, 0, true, false, false); /* the same again: nothing changes */
    assert_int_equal(rows(f, "payload"), 2);
    assert_int_equal(fixture_query(f, "SELECT v FROM state WHERE k = 'next_pid'"), 10);
    replace(f, 0, false, true, true);
    replace(f, 1, true, true, false);
    replace(f, 2, true, true, false);
    assert_int_equal(fixture_query(f, "SELECT n FROM payload_gone WHERE pid = 1"), 7);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM payload WHERE pid = 1"), 1);
    replace(f, 2, false, false, true);
    assert_int_equal(rows(f, "payload_gone"), 0);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM payload WHERE pid = 1"), 0);
    expect(f, "talk", "in=\"new input\" out=\"new output\" meta={\"new\":1}");
    bool more = true;
    while (more)
        assert_int_equal(f->store.ops->retain(&f->store, RETAIN_TRACES, TIME_MAX, &more, &f->err), XT_OK);
    assert_int_equal(rows(f, "payload"), 0);
    assert_int_equal(rows(f, "payload_gone"), 0);
}

/* A group that the store refuses is written in pieces: each has its own copy of what it needs. */
static void pieces_of_a_batch(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    add_conversation(b, 6);
    assert_int_equal(f->store.ops->prepare(&f->store, b, &f->err), XT_OK);
    for (size_t i = 0; i < 6; i += 2) {
        struct batch_part part = { .b = b, .observation_from = i, .observation_to = i + 2 };
        assert_int_equal(f->store.ops->write(&f->store, &part, 1, &f->err), XT_OK);
        assert_sound(f);
    }
    batch_free(b);
    assert_true(rows(f, "payload") >= 3);
    for (int i = 0; i < 6; i++) {
        char piece[40];
        snprintf(piece, sizeof piece, " out=\"answer %d\"", i);
        expect(f, "talk", piece);
    }
}

/* In one group the later word wins, whatever pack it is in. */
static void packs_meet_in_a_group(void **state) {
    struct fixture *f = *state;
    struct batch *b[3];
    for (int i = 0; i < 3; i++) {
        b[i] = batch_at(1000 + i);
        struct observation *o = add_obs(b[i], "talk", "o");
        o->input = arena_printf(&b[i]->arena, "\"input %d\"", i);
        if (i != 2)
            o->output = arena_printf(&b[i]->arena, "\"output %d\"", i);
        o->metadata = arena_printf(&b[i]->arena, "{\"key%d\":1}", i);
        o->merge = MERGE_DEEP;
    }
    write_group(f, b, 3);
    expect(f, "talk", "in=\"input 2\" out=\"output 1\" meta={\"key0\":1,\"key1\":1,\"key2\":1}");
    assert_sound(f);
}

/* Traces that take turns in a request, large and small texts mixed. */
static void many_traces(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    static const size_t sizes[] = { 1, 50, 300, 2000, 30000, 140000, 100, 260000, 3 };
    const size_t nsizes = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < 300; i++) {
        char trace[16], id[16];
        snprintf(trace, sizeof trace, "t%zu", i % 7);
        snprintf(id, sizeof id, "o%zu", i);
        struct observation *o = add_obs(b, trace, id);
        size_t n = i < 40 ? sizes[i % nsizes] : 200;
        char *p = arena_bytes(&b->arena, n);
        memset(p, 'a' + (int)(i % 26), n);
        o->input = (struct str){ p, n };
        o->output = arena_printf(&b->arena, "<%zu>", i);
    }
    write_one(f, b);
    assert_sound(f);
    for (int i = 0; i < 7; i++) {
        char id[16];
        struct buf out;
        size_t found = 0;
        buf_init(&out, 8 << 20);
        snprintf(id, sizeof id, "t%d", i);
        read_trace(f, 1, id, &out);
        for (size_t k = (size_t)i; k < 300; k += 7) {
            char piece[64];
            snprintf(piece, sizeof piece, "%c out=<%zu>", (char)('a' + (int)(k % 26)), k);
            assert_has(&out, piece);
            found++;
        }
        assert_true(found > 40);
        buf_done(&out);
    }
}

/* ---- dictionaries ---- */

static size_t learn(struct fixture *f) {
    struct buf lesson;
    buf_init(&lesson, 1 << 20);
    assert_int_equal(f->store.ops->study(&f->store, &lesson, &f->err), XT_OK);
    size_t n = lesson.n;
    if (n)
        assert_int_equal(f->store.ops->learn(&f->store, buf_str(&lesson), &f->err), XT_OK);
    buf_done(&lesson);
    return n;
}

static int64_t bytes_of_rows(const struct fixture *f, int64_t from) {
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT sum(length(z)) FROM payload WHERE pid >= %lld", (long long)from);
    return fixture_query(f, sql);
}

#define SEED 88172645463325252u

static void trained_store(struct fixture *f) {
    write_chats(f, "plain", 3500, SEED);
    assert_true(learn(f) > 1000);
}

static void dictionary_is_trained(void **state) {
    struct fixture *f = *state;
    write_chats(f, "few", 2900, SEED);
    assert_int_equal(learn(f), 0); /* not yet due */
    write_chats(f, "more", 600, SEED + 1);
    assert_true(learn(f) > 1000);
    assert_int_equal(learn(f), 0); /* not again */
    assert_int_equal(rows(f, "dict"), 1);
    int64_t before = bytes_of_rows(f, 1) * 600 / 3500, from = fixture_query(f, "SELECT max(pid) + 1 FROM payload");
    write_chats(f, "later", 600, SEED + 2);
    assert_true(bytes_of_rows(f, from) < before * 3 / 4);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM payload WHERE hex(substr(z,1,2)) = '0201'"), 600);
    expect_chat(f, "later", 599, SEED + 2);
    expect_chat(f, "few", 0, SEED);
    conversation(f, 5); /* packs use it, too */
    expect(f, "talk", " out=\"answer 4\"");
    assert_sound(f);
    fixture_reopen(f); /* found again, for reading and for writing */
    expect_chat(f, "later", 0, SEED + 2);
    write_chats(f, "last", 1, SEED + 3);
    assert_int_equal(fixture_query(f, "SELECT count(*) FROM payload WHERE hex(substr(z,1,2)) = '0201'"), 601);
    expect_chat(f, "last", 0, SEED + 3);
    assert_sound(f);
}

/* Random bytes teach nothing; so do texts that are too few bytes. */
static void nothing_to_learn(void **state) {
    struct fixture *f = *state;
    struct batch *b = batch_at(1000);
    uint64_t x = SEED;
    for (int i = 0; i < 3500; i++) {
        char id[16], *p = arena_bytes(&b->arena, 200);
        snprintf(id, sizeof id, "t%d", i);
        for (int k = 0; k < 200; k++)
            p[k] = (char)(next_random(&x) >> 20);
        p[0] = '"';
        add_obs(b, id, id)->input = (struct str){ p, 200 };
    }
    write_one(f, b);
    assert_int_equal(learn(f), 0);
    assert_int_equal(rows(f, "dict"), 0);
}

static void missing_dictionary(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *damage, *says;
    } cases[] = {
        { "DELETE FROM dict", "its dictionary 1 is missing" },
        { "INSERT INTO dict VALUES (1, 0, x'37a430ec0102030405', x'00')", "its dictionary 1 is damaged" },
    };
    trained_store(f);
    write_chats(f, "later", 30, SEED + 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        (void)fixture_query(f, cases[i].damage);
        fixture_reopen(f);
        read_trace(f, 1, "later3", &out);
        assert_has(&out, cases[i].says);
        buf_clear(&out);
        assert_int_equal(f->store.ops->check(&f->store, true, &out, &f->err), XT_ESTORE);
        assert_has(&out, cases[i].says);
        expect_chat(f, "plain", 5, SEED); /* what needs no dictionary */
        write_chats(f, "yet", 3, SEED + 4);
        expect_chat(f, "yet", 2, SEED + 4);
        buf_done(&out);
    }
}

/* A backup holds what its texts need. */
static void backup_carries_it(void **state) {
    struct fixture *f = *state, copy;
    char file[300];
    trained_store(f);
    write_chats(f, "later", 30, SEED + 2);
    snprintf(file, sizeof file, "%s/copy", f->dir);
    assert_int_equal(f->store.ops->backup(&f->store, file, &f->err), XT_OK);
    fixture_make(&copy);
    assert_int_equal(store_restore(copy.url, file, &copy.err), XT_OK);
    fixture_open(&copy);
    expect_chat(&copy, "later", 29, SEED + 2);
    assert_sound(&copy);
    fixture_remove(&copy);
}

/* ---- damage ---- */

static void hostile_packs(void **state) {
    (void)state;
    struct codec k = { 0 };
    struct arena a;
    struct xt_err err;
    struct str z, text;
    uint32_t ends[16];
    char spoilt[200];
    uint64_t x = SEED;
    static const struct str parts[] = { { "{\"a\":1}", 7 },
                                        { "", 0 },
                                        { "\"the same again and again and again and again and again\"", 56 },
                                        { "\"the same again and again and again and again and again\"", 56 } };
    arena_init(&a, 64 << 20);
    assert_true(payload_encode_pack(&k, &a, parts, 4, &z));
    assert_true(z.n < 119);
    assert_int_equal(payload_decode_pack(&k, &a, z, 4, &text, ends, &err), XT_OK);
    assert_int_equal(text.n, 119);
    assert_int_equal(ends[2], 63);
    for (size_t n = 0; n < z.n; n++)
        assert_int_equal(payload_decode_pack(&k, &a, (struct str){ z.p, n }, 4, &text, ends, &err), XT_ESTORE);
    assert_int_equal(payload_decode_pack(&k, &a, z, 3, &text, ends, &err), XT_ESTORE);
    assert_int_equal(payload_decode_pack(&k, &a, z, 5, &text, ends, &err), XT_ESTORE);
    char sound[200];
    assert_true(z.n <= sizeof sound);
    memcpy(sound, z.p, z.n);
    for (int i = 0; i < 20000; i++) { /* any answer, but no crash and no text beyond the claim */
        memcpy(spoilt, sound, z.n);
        for (uint64_t n = next_random(&x) % 4 + 1; n > 0; n--)
            spoilt[next_random(&x) % z.n] = (char)next_random(&x);
        arena_reset(&a);
        if (payload_decode_pack(&k, &a, (struct str){ spoilt, z.n }, 4, &text, ends, &err) == XT_OK)
            assert_true(text.n == ends[3] && ends[0] <= ends[1] && ends[1] <= ends[2] && ends[2] <= ends[3]);
    }
    static const struct str bad[] = {
        { "\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\0x", 13 }, /* a length of 2^64 - 1 */
        { "\3\x80\x80\x80\x01\x01\0x", 8 },                          /* 2 MB */
        { "\3\1\1\3xx", 6 },                                         /* a pack in a pack */
        { "\2\1\1xx", 5 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(payload_decode_pack(&k, &a, bad[i], 2, &text, ends, &err), XT_ESTORE);
    codec_done(&k);
    arena_done(&a);
}

static void damaged_packs(void **state) {
    struct fixture *f = *state;
    static const char *const damage[] = {
        "UPDATE payload SET n = 74",
        "UPDATE payload SET n = 76",
        "UPDATE payload SET n = 0",
        "UPDATE payload SET n = -5",
        "UPDATE payload SET n = 9000000000000000000",
        "UPDATE payload SET n = 75, z = x'03'",
        "DELETE FROM payload",
    };
    conversation(f, 30);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        (void)fixture_query(f, damage[i]);
        read_trace(f, 1, "talk", &out);
        assert_has(&out, "failed: a stored text is damaged");
        buf_clear(&out);
        assert_int_not_equal(f->store.ops->check(&f->store, true, &out, &f->err), XT_OK);
        buf_done(&out);
    }
    struct batch *b = batch_at(2000); /* still writable: what is damaged is replaced */
    add_conversation(b, 30);
    write_one(f, b);
    expect(f, "talk", " out=\"answer 29\"");
    assert_sound(f);
}

/* Memory may end anywhere: no text is lost or mixed up. */
static void no_memory(void **state) {
    struct fixture *f = *state;
    trained_store(f);
    for (uint64_t n = 1; n < 200; n++) {
        struct batch *b = batch_at(1000);
        add_conversation(b, 4);
        alloc_fail_at(n);
        enum xt_code code = f->store.ops->prepare(&f->store, b, &f->err);
        struct batch_part part = whole(b);
        if (code == XT_OK)
            code = f->store.ops->write(&f->store, &part, 1, &f->err);
        struct buf out;
        alloc_fail_at(0);
        batch_free(b);
        assert_true(code == XT_OK || code == XT_ENOMEM);
        buf_init(&out, 1 << 20);
        alloc_fail_at(n % 20 + 1);
        struct trace_ref ref = { .project = 1, .key = { "\0talk", 5 }, .deadline = TIME_NONE };
        code = f->store.ops->trace_get(&f->store, &ref, visit_trace, visit_obs, &out, &f->err);
        alloc_fail_at(0);
        assert_true(code == XT_OK || code == XT_ENOMEM || code == XT_ENOTFOUND || code == XT_EUNAVAILABLE);
        buf_done(&out);
    }
    assert_sound(f);
    expect(f, "talk", " out=\"answer 3\"");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_row_a_trace),   TEST(texts_are_replaced),    TEST(pieces_of_a_batch), TEST(packs_meet_in_a_group),
        TEST(many_traces),       TEST(dictionary_is_trained), TEST(nothing_to_learn),  TEST(missing_dictionary),
        TEST(backup_carries_it), TEST(damaged_packs),         TEST(no_memory),         cmocka_unit_test(hostile_packs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
