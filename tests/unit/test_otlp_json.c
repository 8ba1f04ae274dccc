/* test_otlp_json.c -- OTLP requests in JSON as clients really write them. */
#include "decoding.h"

#include "base/buf.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define ID "b7ad6b7169203331"

static void decode(struct decoded *d, struct str body, bool need, struct otlp_rejects *rejects) {
    *rejects = (struct otlp_rejects){ 0, "" };
    decoded_init(d, body);
    d->code = decode_otlp_traces_json(&d->scratch, d->body, d->b, need, rejects, &d->err);
    decoded_end_of_call(d);
}

#define REQUEST(spans) "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[" spans "]}]}]}"
#define SPAN(more) "{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID "\"" more "}"
#define IDS_OF(trace, span) "{\"traceId\":" trace ",\"spanId\":" span "}"

/* Whole requests: spans stored and rejected, or what the message must be. */
static const struct {
    const char *body;
    size_t spans, rejected;
    const char *message;
} requests[] = {
    { "{\"resourceSpans\":[]}", 0, 0, NULL },
    { "{\"resource_spans\":[{\"scope_spans\":[{\"spans\":[{\"trace_id\":\"" TRACE "\",\"span_id\":\"" ID "\"}]}]}]}", 1,
      0, NULL },
    { "{\"x\":{\"y\":[[]]},\"resourceSpans\":[{\"resource\":null,\"scopeSpans\":null}]}", 0, 0, NULL },
    { "{\"resourceSpans\":[{\"resource\":{\"attributes\":null,\"z\":1},\"scopeSpans\":[{\"scope\":null,\"spans\":null}]"
      "}]}",
      0, 0, NULL },
    { REQUEST(SPAN(",\"name\":null,\"events\":null,\"links\":null,\"status\":null,\"attributes\":null,\"kind\":null")),
      1, 0, NULL },
    { REQUEST(IDS_OF("\" 0AF7651916CD43DD8448EB211C80319C \"", "\"B7AD6B7169203331\"")), 1, 0, NULL },
    { REQUEST(IDS_OF("\"CvdlGRbNQ92ESOshHIAxnA==\"", "\"t61rcWkgMzE=\"")), 1, 0, NULL },
    { REQUEST(IDS_OF("\"CvdlGRbNQ92ESOshHIAx\"", "\"" ID "\"")), 0, 1, NULL },
    { REQUEST(IDS_OF("5", "\"" ID "\"")), 0, 1, NULL },
    { REQUEST(IDS_OF("\"zzf7651916cd43dd8448eb211c80319c\"", "\"" ID "\"")), 0, 1, NULL },
    { REQUEST(IDS_OF("null", "\"" ID "\"")), 0, 1, NULL },
    { REQUEST(IDS_OF("\"\"", "\"\"") "," SPAN("")), 1, 1, NULL },
    { "{}", 0, 0, "invalid json: resourceSpans: expected an array, but it is missing" },
    { "{\"resourceSpans\":null}", 0, 0, "invalid json: resourceSpans: expected an array, but it is missing" },
    { "{\"resourceSpans\":{}}", 0, 0, "invalid json: resourceSpans: expected an array" },
    { "[]", 0, 0, "invalid json: the request: expected an object" },
    { "{\"resourceSpans\":[1]}", 0, 0, "invalid json: resourceSpans[0]: expected an object" },
    { "{\"resourceSpans\":[{\"scopeSpans\":{}}]}", 0, 0,
      "invalid json: resourceSpans[0].scopeSpans: expected an array" },
    { "{\"resourceSpans\":[{\"resource\":[]}]}", 0, 0, "invalid json: resourceSpans[0].resource: expected an object" },
    { "{\"resourceSpans\":[{\"scopeSpans\":[{\"scope\":{\"name\":5}}]}]}", 0, 0,
      "invalid json: resourceSpans[0].scopeSpans[0].scope.name: expected a string" },
    { "{\"resourceSpans\":[{},{\"scopeSpans\":[{},{\"spans\":{}}]}]}", 0, 0,
      "invalid json: resourceSpans[1].scopeSpans[1].spans: expected an array" },
    { REQUEST(SPAN("") "," SPAN(",\"attributes\":{}")), 0, 0,
      "invalid json: resourceSpans[0].scopeSpans[0].spans[1].attributes: expected an array" },
    { REQUEST(SPAN(",\"name\":5")), 0, 0,
      "invalid json: resourceSpans[0].scopeSpans[0].spans[0].name: expected a string" },
    { REQUEST(SPAN(",\"events\":5")), 0, 0,
      "invalid json: resourceSpans[0].scopeSpans[0].spans[0].events: expected an array" },
    { REQUEST("null"), 0, 0, "invalid json: resourceSpans[0].scopeSpans[0].spans[0]: expected an object" },
    { REQUEST(SPAN(",\"attributes\":[5]")), 0, 0,
      "invalid json: resourceSpans[0].scopeSpans[0].spans[0].attributes: expected objects with key and value" },
    { REQUEST(SPAN(",\"attributes\":[{\"key\":\"a\",\"value\":\"bare\"}]")), 0, 0,
      "invalid json: resourceSpans[0].scopeSpans[0].spans[0].value: expected an object" },
};

static void whole_requests(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct otlp_rejects rejects;
        struct decoded d;
        decode(&d, str_c(requests[i].body), true, &rejects);
        bool ok = requests[i].message ? d.code == XT_EINVAL && strcmp(d.err.msg, requests[i].message) == 0
                                      : d.code == XT_OK && rejects.spans == requests[i].rejected &&
                                            d.b->nobservations == requests[i].spans;
        if (!ok) {
            fail_msg("%s: code %d \"%s\", %zu spans, %zu rejected", requests[i].body, (int)d.code, d.err.msg,
                     d.b->nobservations, rejects.spans);
        }
        if (d.code == XT_OK && requests[i].spans) {
            const struct observation *o = &d.b->observations[0];
            assert_str(id_print(&d.b->arena, o->id.key, o->id.spell, o->id.text), ID);
            assert_str(id_print(&d.b->arena, o->trace_id.key, o->trace_id.spell, o->trace_id.text), TRACE);
        }
        decoded_done(&d);
    }
}

static void syntax_errors(void **state) {
    (void)state;
    static const char *const bodies[] = { "", "{", "{} x", "{\"resourceSpans\":[1e999]}", "nonsense" };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct otlp_rejects rejects;
        struct decoded d;
        decode(&d, str_c(bodies[i]), false, &rejects);
        assert_int_equal(d.code, XT_EINVAL);
        assert_true(str_starts(str_c(d.err.msg), "invalid json: "));
        decoded_done(&d);
    }
}

static void an_empty_request_is_fine_where_otlp_says_so(void **state) {
    (void)state;
    struct otlp_rejects rejects;
    struct decoded d;
    decode(&d, str_c("{}"), false, &rejects);
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(batch_records(d.b), 0);
    decoded_done(&d);
}

/* One attribute's value: what it is in metadata. */
static const struct {
    const char *value, *json;
} values[] = {
    { "{\"stringValue\":\"a\\u0000\\t\\\"\"}", "\"a\\u0000\\t\\\"\"" },
    { "{\"stringValue\":\"\\ud83d\\ude80\"}", "\"\xf0\x9f\x9a\x80\"" },
    { "{\"stringValue\":\"\\ud83d\"}", "\"\xef\xbf\xbd\"" },
    { "{\"string_value\":\"x\"}", "\"x\"" },
    { "{\"intValue\":5}", "5" },
    { "{\"intValue\":\"5\"}", "5" },
    { "{\"intValue\":\"-9223372036854775808\"}", "-9223372036854775808" },
    { "{\"intValue\":9223372036854775807}", "9223372036854775807" },
    { "{\"intValue\":9223372036854775808}", "\"9223372036854775808\"" },
    { "{\"intValue\":\"9223372036854775808\"}", "\"9223372036854775808\"" },
    { "{\"intValue\":1e+300}", "1e300" },
    { "{\"intValue\":\"1e+300\"}", "1e300" },
    { "{\"intValue\":5.0}", "5" },
    { "{\"intValue\":5.5}", "5.5" },
    { "{\"intValue\":1e3}", "1000" },
    { "{\"intValue\":\"abc\"}", "\"abc\"" },
    { "{\"intValue\":\"\"}", "\"\"" },
    { "{\"doubleValue\":1}", "1.0" },
    { "{\"doubleValue\":-0.5}", "-0.5" },
    { "{\"doubleValue\":\"NaN\"}", "\"NaN\"" },
    { "{\"doubleValue\":\"Infinity\"}", "\"Infinity\"" },
    { "{\"doubleValue\":\"-Infinity\"}", "\"-Infinity\"" },
    { "{\"doubleValue\":\"1.5\"}", "1.5" },
    { "{\"doubleValue\":\"many\"}", "\"many\"" },
    { "{\"boolValue\":true}", "true" },
    { "{\"boolValue\":\"false\"}", "false" },
    { "{\"bytesValue\":\"AAEC/w==\"}", "\"AAEC/w==\"" },
    { "{\"bytesValue\":\"AAEC_w\"}", "\"AAEC/w==\"" },
    { "{\"bytesValue\":\"?\"}", "\"?\"" },
    { "{\"arrayValue\":{}}", "[]" },
    { "{\"arrayValue\":{\"values\":null}}", "[]" },
    { "{\"arrayValue\":{\"values\":[{\"intValue\":1},null,{},{\"arrayValue\":{\"values\":[{\"boolValue\":false}]}}]}}",
      "[1,null,null,[false]]" },
    { "{\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":{\"stringValue\":\"v\"}},{\"key\":\"n\"}]}}",
      "{\"k\":\"v\",\"n\":null}" },
    { "{\"kvlistValue\":{}}", "{}" },
    { "{}", "null" },
    { "null", "null" },
    { "{\"futureValue\":1}", "null" },
    { "{\"stringValue\":null,\"intValue\":3}", "3" },
};

static void every_value(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct otlp_rejects rejects;
        struct decoded d;
        char body[1024], want[512];
        snprintf(body, sizeof body, REQUEST(SPAN(",\"attributes\":[{\"key\":\"k\",\"value\":%s}]")), values[i].value);
        snprintf(want, sizeof want, "{\"attributes\":{\"k\":%s}}", values[i].json);
        decode(&d, str_c(body), true, &rejects);
        if (d.code != XT_OK || !str_eq_c(d.b->observations[0].metadata, want)) {
            fail_msg("%s: code %d %s, %.*s", values[i].value, (int)d.code, d.err.msg,
                     STR_FMT(d.code == XT_OK ? d.b->observations[0].metadata : STR_NONE));
        }
        decoded_done(&d);
    }
}

static const struct {
    const char *value;
    int64_t ns; /* 0: absent */
} times[] = {
    { "\"1760000000000000001\"", 1760000000000000001 },
    { "1760000000000000001", 1760000000000000001 },
    { "1.760000001e18", 1760000001000000000 },
    { "\" 5 \"", 5 },
    { "0", 0 },
    { "\"0\"", 0 },
    { "-5", 0 },
    { "\"x\"", 0 },
    { "1e300", 0 },
    { "\"99999999999999999999\"", 0 },
    { "true", 0 },
    { "{}", 0 },
};

static void times_of_all_forms(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct otlp_rejects rejects;
        struct decoded d;
        char body[512];
        snprintf(body, sizeof body, REQUEST(SPAN(",\"startTimeUnixNano\":%s")), times[i].value);
        decode(&d, str_c(body), true, &rejects);
        assert_int_equal(d.code, XT_OK);
        int64_t got = d.b->observations[0].start;
        if (got != (times[i].ns ? times[i].ns : TIME_NONE)) {
            fail_msg("%s: %lld", times[i].value, (long long)got);
        }
        decoded_done(&d);
    }
}

static void enums_by_number_and_name(void **state) {
    (void)state;
    static const struct {
        const char *members, *level, *metadata;
    } cases[] = {
        { ",\"kind\":3,\"status\":{\"code\":2}", "ERROR", "{\"otel\":{\"kind\":\"CLIENT\"}}" },
        { ",\"kind\":\"SPAN_KIND_CLIENT\",\"status\":{\"code\":\"STATUS_CODE_ERROR\"}", "ERROR",
          "{\"otel\":{\"kind\":\"CLIENT\"}}" },
        { ",\"kind\":\"client\",\"status\":{\"code\":\"error\"}", "ERROR", "{\"otel\":{\"kind\":\"CLIENT\"}}" },
        { ",\"kind\":\"3\",\"status\":{\"code\":\"2\"}", "ERROR", "{\"otel\":{\"kind\":\"CLIENT\"}}" },
        { ",\"kind\":99,\"status\":{\"code\":99}", NULL, NULL },
        { ",\"kind\":-1,\"status\":{}", NULL, NULL },
        { ",\"kind\":\"odd\",\"status\":{\"code\":\"odd\"}", NULL, NULL },
        { ",\"flags\":\"257\",\"trace_state\":\"a=b\"", NULL, "{\"otel\":{\"traceState\":\"a=b\",\"flags\":257}}" },
        { ",\"flags\":-1", NULL, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct otlp_rejects rejects;
        struct decoded d;
        char body[512];
        snprintf(body, sizeof body, REQUEST(SPAN("%s")), cases[i].members);
        decode(&d, str_c(body), true, &rejects);
        assert_int_equal(d.code, XT_OK);
        assert_str(d.b->observations[0].level, cases[i].level);
        assert_str(d.b->observations[0].metadata, cases[i].metadata);
        decoded_done(&d);
    }
}

static void strings_stay_in_the_body(void **state) {
    (void)state;
    struct otlp_rejects rejects;
    struct decoded d;
    decode(&d,
           str_c(REQUEST(
               SPAN(",\"name\":\"plain\",\"attributes\":[{\"key\":\"user.id\",\"value\":{\"stringValue\":\"u\"}},{"
                    "\"key\":\"langfuse.observation.input\",\"value\":{\"stringValue\":\"{\\\"a\\\":1}\"}}]"))),
           true, &rejects);
    assert_int_equal(d.code, XT_OK);
    const char *from = d.b->body, *to = from + d.b->body_bytes;
    assert_true(d.b->observations[0].name.p > from && d.b->observations[0].name.p < to);
    assert_true(d.b->traces[0].user.p > from && d.b->traces[0].user.p < to);
    assert_str(d.b->observations[0].input, "{\"a\":1}");
    decoded_done(&d);
}

/* JSON text of `depth` levels as input: text, not structure. */
static void deep_json_in_an_attribute(void **state) {
    (void)state;
    static const char head[] =
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID
        "\",\"attributes\":[{\"key\":\"langfuse.observation.input\",\"value\":{\"stringValue\":\"";
    static const char tail[] = "\"}}]}]}]}]}";
    for (size_t depth = 986; depth <= 1001; depth += 5) {
        struct otlp_rejects rejects;
        struct decoded d;
        struct buf body;
        buf_init(&body, 1 << 20);
        buf_add_c(&body, head);
        for (size_t i = 0; i < depth; i++) {
            buf_add_char(&body, '[');
        }
        for (size_t i = 0; i < depth; i++) {
            buf_add_char(&body, ']');
        }
        buf_add_c(&body, tail);
        decode(&d, buf_str(&body), true, &rejects);
        assert_int_equal(d.code, XT_OK);
        assert_int_equal(d.b->observations[0].input.p[0], depth <= 1000 ? '[' : '"');
        decoded_done(&d);
        buf_done(&body);
    }
}

static enum xt_code nested(unsigned depth, bool map) {
    struct otlp_rejects rejects;
    struct decoded d;
    struct buf body;
    enum xt_code code;
    buf_init(&body, 1 << 20);
    buf_add_c(&body, "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID
                     "\",\"attributes\":[{\"key\":\"k\",\"value\":");
    for (unsigned i = 1; i < depth; i++) {
        buf_add_c(&body,
                  map ? "{\"kvlistValue\":{\"values\":[{\"key\":\"k\",\"value\":" : "{\"arrayValue\":{\"values\":[");
    }
    buf_add_c(&body, "{\"intValue\":1}");
    for (unsigned i = 1; i < depth; i++) {
        buf_add_c(&body, map ? "}]}}" : "]}}");
    }
    buf_add_c(&body, "}]}]}]}]}");
    decode(&d, buf_str(&body), true, &rejects);
    code = d.code;
    decoded_done(&d);
    buf_done(&body);
    return code;
}

static void nesting_is_limited(void **state) {
    (void)state;
    assert_int_equal(nested(100, false), XT_OK);
    assert_int_equal(nested(101, false), XT_EINVAL);
    assert_int_equal(nested(100, true), XT_OK);
    assert_int_equal(nested(101, true), XT_EINVAL);
    assert_int_equal(nested(3000, false), XT_EINVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_requests),
        cmocka_unit_test(syntax_errors),
        cmocka_unit_test(an_empty_request_is_fine_where_otlp_says_so),
        cmocka_unit_test(every_value),
        cmocka_unit_test(times_of_all_forms),
        cmocka_unit_test(enums_by_number_and_name),
        cmocka_unit_test(strings_stay_in_the_body),
        cmocka_unit_test(deep_json_in_an_attribute),
        cmocka_unit_test(nesting_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
