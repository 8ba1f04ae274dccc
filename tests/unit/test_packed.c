/* test_packed.c -- the packed fields of an observation: what goes in comes out, and no bytes do harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/fold/packed.h"

static struct observation nothing(void) {
    struct observation o;
    memset(&o, 0, sizeof o);
    o.start = o.end = o.completion_start = TIME_NONE;
    o.input_price = o.output_price = o.total_price = o.latency = o.time_to_first_token = (double)NAN;
    return o;
}

static struct observation everything(void) {
    struct observation o = nothing();
    o.id = (struct id){ STR_LIT("k"), ID_TEXT, STR_LIT("Id Text") };
    o.parent_id = (struct id){ STR_LIT("12345678"), ID_HEX16, STR_NONE };
    o.environment = STR_LIT("prod");
    o.project_label = STR_LIT("p");
    o.status_message = STR_LIT("");
    o.model_parameters = STR_LIT("{\"t\":1}");
    o.usage = STR_LIT("{\"input\":1}");
    o.usage_buckets = STR_LIT("{}");
    o.cost_buckets = STR_LIT("{\"input\":0.1}");
    o.unit = STR_LIT("TOKENS");
    o.prompt_id = STR_LIT("a\0b");
    o.prompt_name = STR_LIT("n");
    o.prompt_version = STR_LIT("2");
    o.version = STR_LIT("1.0");
    o.model_id = STR_LIT("m");
    o.input_price = 0.1;
    o.output_price = -0.0;
    o.total_price = 1e308;
    o.latency = 5e-324;
    o.time_to_first_token = 2;
    o.cost_input = (struct opt_money){ -1, true, STR_NONE };
    o.cost_output = (struct opt_money){ (money)INT64_MAX * INT64_MAX, true, STR_LIT("1.00000000000000000001") };
    o.cost_total = (struct opt_money){ 0, false, STR_LIT("7") };
    return o;
}

static void assert_same_str(struct str a, struct str b) { assert_true(str_eq(a, b)); }
static void assert_same_bits(double a, double b) { assert_memory_equal(&a, &b, sizeof a); }

static void round_trip(void **state) {
    (void)state;
    struct observation o = everything(), back = nothing();
    struct buf out;
    buf_init(&out, SIZE_MAX / 2);
    assert_true(packed_write(&out, &o));
    assert_true(packed_read(buf_str(&out), &back));
    assert_same_str(back.id.text, o.id.text);
    assert_int_equal(back.parent_id.spell, ID_HEX16);
    assert_same_str(back.parent_id.text, STR_NONE);
    assert_same_str(back.environment, o.environment);
    assert_same_str(back.project_label, o.project_label);
    assert_same_str(back.status_message, STR_LIT("")); /* present, empty */
    assert_same_str(back.model_parameters, o.model_parameters);
    assert_same_str(back.usage, o.usage);
    assert_same_str(back.usage_buckets, o.usage_buckets);
    assert_same_str(back.cost_buckets, o.cost_buckets);
    assert_same_str(back.unit, o.unit);
    assert_same_str(back.prompt_id, o.prompt_id);
    assert_same_str(back.prompt_name, o.prompt_name);
    assert_same_str(back.prompt_version, o.prompt_version);
    assert_same_str(back.version, o.version);
    assert_same_str(back.model_id, o.model_id);
    assert_same_bits(back.input_price, 0.1);
    assert_same_bits(back.output_price, -0.0);
    assert_same_bits(back.total_price, 1e308);
    assert_same_bits(back.latency, 5e-324);
    assert_same_bits(back.time_to_first_token, 2);
    assert_true(back.cost_input.has && back.cost_input.v == -1);
    assert_true(back.cost_output.has && back.cost_output.v == o.cost_output.v);
    assert_same_str(back.cost_output.text, o.cost_output.text);
    assert_false(back.cost_total.has);
    assert_same_str(back.cost_total.text, STR_LIT("7"));
    struct str text;
    assert_true(packed_read_id(buf_str(&out), &text));
    assert_same_str(text, STR_LIT("Id Text"));
    buf_done(&out);
}

static void absent_is_nothing(void **state) {
    (void)state;
    struct observation o = nothing(), back = nothing();
    struct buf out;
    buf_init(&out, SIZE_MAX / 2);
    assert_true(packed_write(&out, &o));
    assert_int_equal(out.n, 0);
    assert_true(packed_read(STR_NONE, &back));
    assert_memory_equal(&back, &o, sizeof o);
    buf_done(&out);
}

/* Lengths around the steps of the varint. */
static void lengths(void **state) {
    (void)state;
    static const size_t sizes[] = { 0, 1, 127, 128, 129, 16383, 16384, 2097151, 2097152 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct observation o = nothing(), back = nothing();
        struct buf out;
        char *text = malloc(sizes[i] + 1);
        memset(text, 'x', sizes[i] + 1);
        o.status_message = (struct str){ text, sizes[i] };
        o.unit = STR_LIT("after");
        buf_init(&out, SIZE_MAX / 2);
        assert_true(packed_write(&out, &o));
        assert_true(packed_read(buf_str(&out), &back));
        assert_same_str(back.status_message, o.status_message);
        assert_same_str(back.unit, o.unit);
        buf_done(&out);
        free(text);
    }
}

static const struct {
    const char *bytes;
    size_t n;
    bool ok;
} blobs[] = {
    { "", 0, true },
    { "\x0b\x02TO", 4, true },
    { "\x7f\x02xy\x0b\x01T", 7, true }, /* a tag of the future is skipped */
    { "\x0b", 1, false },               /* no length */
    { "\x0b\x03TO", 4, false },         /* longer than what is there */
    { "\x0b\x80", 2, false },           /* the length goes on */
    { "\x0b\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10, false },
    { "\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, false },
    { "\x10\x07zzzzzzz", 9, false }, /* a double of 7 bytes */
    { "\x10\x00", 2, false },
    { "\x15\x0fzzzzzzzzzzzzzzz", 17, false }, /* an amount of 15 bytes */
    { "\x03\x01\x04", 3, false },             /* no such spelling */
    { "\x03\x01\x01", 3, true },
    { "\x00\x00", 2, true }, /* tag 0 is unknown, too */
};

static void damaged(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof blobs / sizeof *blobs; i++) {
        struct observation o = nothing();
        char *exact = malloc(blobs[i].n + 1); /* so that a sanitizer sees the first byte too many */
        memcpy(exact, blobs[i].bytes, blobs[i].n);
        if (packed_read((struct str){ exact, blobs[i].n }, &o) != blobs[i].ok)
            fail_msg("blob %zu", i);
        free(exact);
    }
}

static uint64_t seed = 88172645463325252u;
static uint64_t next_random(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void mutated(void **state) {
    (void)state;
    struct observation o = everything();
    struct buf out;
    buf_init(&out, SIZE_MAX / 2);
    assert_true(packed_write(&out, &o));
    for (int round = 0; round < 200000; round++) {
        size_t n = next_random() % (out.n + 1), changes = next_random() % 4;
        char *copy = malloc(n + 1);
        memcpy(copy, out.p, n);
        for (size_t i = 0; i < changes && n > 0; i++)
            copy[next_random() % n] = (char)next_random();
        struct observation back = nothing();
        struct str text;
        (void)packed_read((struct str){ copy, n }, &back);
        (void)packed_read_id((struct str){ copy, n }, &text);
        if (str_has(back.unit)) /* what was read lies inside */
            assert_true(back.unit.p >= copy && back.unit.p + back.unit.n <= copy + n);
        assert_true(back.parent_id.spell <= ID_TEXT);
        free(copy);
    }
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(absent_is_nothing), cmocka_unit_test(lengths),
        cmocka_unit_test(damaged),    cmocka_unit_test(mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
