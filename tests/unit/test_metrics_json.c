/* test_metrics_json.c -- points of the native metrics route. */
#include "decoding.h"

#define T "\"timestamp\":\"2026-02-12T10:00:10Z\""

static void decode(struct decoded *d, struct str text) {
    decoded_init(d, text);
    d->code = decode_metrics_batch(&d->scratch, d->body, d->b, &d->err);
    decoded_end_of_call(d);
}

static const struct {
    const char *body;
    enum xt_code code;
    const char *message;
    size_t points, dropped;
} bodies[] = {
    { "{}", XT_ESCHEMA, "missing field `metrics`", 0, 0 },
    { "{\"metrics\":null}", XT_ESCHEMA, "metrics: invalid type: null, expected a sequence", 0, 0 },
    { "{\"metrics\":{}}", XT_ESCHEMA, "metrics: invalid type: object", 0, 0 },
    { "{\"metrics\":[],\"metrics\":[]}", XT_ESCHEMA, "duplicate field `metrics`", 0, 0 },
    { "[]", XT_ESCHEMA, "expected an object", 0, 0 },
    { "null", XT_ESCHEMA, "expected an object", 0, 0 },
    { "{\"metrics\":[[\"m\",{},1,\"2026-01-01T00:00:00Z\"]]}", XT_ESCHEMA, "metrics[0]: invalid type: array", 0, 0 },
    { "{\"metrics\":[}", XT_EINVAL, "Failed to parse", 0, 0 },
    { "{\"metrics\":[]}", XT_OK, NULL, 0, 0 },
    { "{\"metrics\":[{\"name\":\"\",\"value\":1," T "}]}", XT_OK, NULL, 1, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1," T ",\"labels\":null,\"x\":{}}]}", XT_OK, NULL, 1, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1," T "},{\"name\":\"a\",\"value\":null," T
      "},{\"name\":\"a\",\"value\":-2e5," T "}]}",
      XT_OK, NULL, 2, 1 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":null}]}", XT_ESCHEMA, "metrics[0]: missing field `timestamp`", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1}]}", XT_ESCHEMA, "metrics[0]: missing field `timestamp`", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\"," T "}]}", XT_ESCHEMA, "metrics[0]: missing field `value`", 0, 0 },
    { "{\"metrics\":[{\"value\":1," T "}]}", XT_ESCHEMA, "metrics[0]: missing field `name`", 0, 0 },
    { "{\"metrics\":[{\"name\":null,\"value\":1," T "}]}", XT_ESCHEMA, "metrics[0].name: invalid type: null", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":\"1\"," T "}]}", XT_ESCHEMA,
      "metrics[0].value: invalid type: string `1`, expected a number", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":true," T "}]}", XT_ESCHEMA, "metrics[0].value", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1,\"value\":1," T "}]}", XT_ESCHEMA,
      "metrics[0]: duplicate field `value`", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1,\"name\":\"a\"," T "}]}", XT_ESCHEMA,
      "metrics[0]: duplicate field `name`", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1," T ",\"labels\":{\"k\":1}}]}", XT_ESCHEMA,
      "metrics[0].labels: k: invalid type: integer `1`, expected a string", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1," T ",\"labels\":{\"k\":null}}]}", XT_ESCHEMA,
      "labels: k: invalid type: null", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1," T ",\"labels\":[]}]}", XT_ESCHEMA,
      "metrics[0].labels: invalid type: array, expected a map", 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1e999," T "}]}", XT_EINVAL, NULL, 0, 0 },
    { "{\"metrics\":[{\"name\":\"a\",\"value\":1,\"timestamp\":\"+12345-01-01T00:00:00Z\"}]}", XT_ESCHEMA,
      "metrics[0].timestamp: string `+12345-01-01T00:00:00Z` is out of range", 0, 0 },
};

static void whole_bodies(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct decoded d;
        decode(&d, str_c(bodies[i].body));
        if (d.code != bodies[i].code || (bodies[i].message && !strstr(d.err.msg, bodies[i].message))) {
            fail_msg("%s: code %d, message \"%s\"", bodies[i].body, (int)d.code, d.err.msg);
        }
        if (d.code == XT_OK) {
            assert_int_equal(d.b->nsamples, bodies[i].points);
            assert_int_equal(d.b->dropped, bodies[i].dropped);
        }
        decoded_done(&d);
    }
}

static void a_point_is_read_whole(void **state) {
    (void)state;
    struct decoded d;
    decode(&d, str_c("{\"metrics\":[{\"labels\":{\"b\":\"2\",\"a\":\"\\n\",\"b\":\"3\",\"\":\"\"},\"name\":\"m:x\","
                     "\"value\":85,\"timestamp\":\"2026-02-12T10:00:10.123456789Z\"}]}"));
    assert_int_equal(d.code, XT_OK);
    const struct sample *s = &d.b->samples[0];
    assert_str(s->name, "m:x");
    assert_true(s->value == 85 && s->timestamp == INT64_C(1770890410123456789));
    assert_int_equal(s->nlabels, 3);
    assert_str(s->labels[0].name, "");
    assert_str(s->labels[1].name, "a");
    assert_str(s->labels[1].value, "\n");
    assert_str(s->labels[2].name, "b");
    assert_str(s->labels[2].value, "3");
    decoded_done(&d);
}

/* A million label names, in descending order, each twice: refused for memory or read, but soon. */
static void a_million_labels_do_not_hang(void **state) {
    (void)state;
    const size_t n = 1000000;
    char *text = malloc(n * 16 + 200);
    struct decoded d;
    assert_non_null(text);
    size_t at = (size_t)sprintf(text, "{\"metrics\":[{\"name\":\"m\",\"value\":1," T ",\"labels\":{");
    for (size_t i = 0; i < n; i++) {
        at += (size_t)sprintf(text + at, "%s\"%06zu\":\"\"", i ? "," : "", (n - i) / 2);
    }
    at += (size_t)sprintf(text + at, "}}]}");
    decode(&d, (struct str){ text, at });
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(d.b->samples[0].nlabels, n / 2 + 1);
    decoded_done(&d);
    free(text);
}

static void many_points(void **state) {
    (void)state;
    const size_t n = 20000;
    char *text = malloc(n * 100);
    struct decoded d;
    assert_non_null(text);
    size_t at = (size_t)sprintf(text, "{\"metrics\":[");
    for (size_t i = 0; i < n; i++) {
        at += (size_t)sprintf(text + at, "%s{\"name\":\"m\",\"value\":%zu," T "}", i ? "," : "", i);
    }
    at += (size_t)sprintf(text + at, "]}");
    decode(&d, (struct str){ text, at });
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(d.b->nsamples, n);
    assert_true(d.b->samples[n - 1].value == (double)(n - 1));
    decoded_done(&d);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_bodies),
        cmocka_unit_test(a_point_is_read_whole),
        cmocka_unit_test(a_million_labels_do_not_hang),
        cmocka_unit_test(many_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
