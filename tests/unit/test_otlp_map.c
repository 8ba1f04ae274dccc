/* test_otlp_map.c -- what one span becomes: fields by the table of rules, metadata, what its resource and scope add. */
#include "otlp_spans.h"

#include "model/otlp_rules.h"

/* ---- fields of one span ---- */

enum field {
    TYPE,
    LEVEL,
    STATUS,
    MODEL,
    PARAMS,
    INPUT,
    OUTPUT,
    USAGE,
    COST,
    PROMPT,
    PROMPT_VERSION,
    ENV,
    VERSION,
    META,
    T_NAME,
    T_USER,
    T_SESSION,
    T_RELEASE,
    T_VERSION,
    T_ENV,
    T_INPUT,
    T_OUTPUT,
    T_META
};

static struct str field_of(const struct batch *b, enum field f) {
    const struct observation *o = &b->observations[0];
    const struct trace *t = &b->traces[0];
    const struct str all[] = {
        o->type,    o->level,       o->status_message, o->model,       o->model_parameters, o->input,
        o->output,  o->usage,       o->cost_buckets,   o->prompt_name, o->prompt_version,   o->environment,
        o->version, o->metadata,    t->name,           t->user,        t->session,          t->release,
        t->version, t->environment, t->input,          t->output,      t->metadata,
    };
    return all[f];
}

static const struct {
    const char *attributes;
    enum field field;
    const char *want; /* NULL: absent */
} fields[] = {
    { "", TYPE, "SPAN" },
    { TEXT("langfuse.observation.type", "span"), TYPE, "SPAN" },
    { TEXT("langfuse.observation.type", "generation"), TYPE, "GENERATION" },
    { TEXT("langfuse.observation.type", " Evaluator "), TYPE, "EVALUATOR" },
    { TEXT("langfuse.observation.type", "nonsense"), TYPE, "SPAN" },
    { TEXT("langfuse.observation.type", "nonsense"), META,
      "{\"attributes\":{\"langfuse.observation.type\":\"nonsense\"}}" },
    { TEXT("gen_ai.request.model", "m"), TYPE, "GENERATION" },
    { ATTR("gen_ai.usage.input_tokens", "\"intValue\":\"0\""), TYPE, "GENERATION" },
    { TEXT("langfuse.observation.usage_details", "{}"), TYPE, "GENERATION" },
    { TEXT("langfuse.observation.type", "tool") "," TEXT("gen_ai.request.model", "m"), TYPE, "TOOL" },
    { TEXT("langfuse.observation.type", "span") "," TEXT("langfuse.observation.model.name", "m"), TYPE, "SPAN" },
    { TEXT("langfuse.observation.level", " warn "), LEVEL, "WARNING" },
    { TEXT("langfuse.observation.level", "FATAL"), LEVEL, "ERROR" },
    { TEXT("langfuse.observation.level", "info"), LEVEL, "DEFAULT" },
    { TEXT("langfuse.observation.level", "verbose"), LEVEL, "DEBUG" },
    { TEXT("langfuse.observation.level", "odd"), LEVEL, NULL },
    { "", LEVEL, NULL },
    { TEXT("langfuse.observation.status_message", "sm"), STATUS, "sm" },
    { TEXT("gen_ai.request.model", "a") "," TEXT("gen_ai.response.model", "b"), MODEL, "b" },
    { TEXT("gen_ai.request.model", "a") "," TEXT("gen_ai.response.model", ""), MODEL, "a" },
    { TEXT("gen_ai.response.model", "b") "," TEXT("langfuse.observation.model.name", "c"), MODEL, "c" },
    { TEXT("langfuse.generation.model", "g") "," TEXT("gen_ai.request.model", "a"), MODEL, "g" },
    { TEXT("gen_ai.request.model", "a") "," TEXT("gen_ai.response.model", "b"), META,
      "{\"attributes\":{\"gen_ai.request.model\":\"a\"}}" },
    { ATTR("gen_ai.request.model", "\"intValue\":5"), MODEL, "5" },
    { TEXT("gen_ai.request.model", "a") "," TEXT("gen_ai.request.model", "z"), MODEL, "z" },
    { TEXT("langfuse.observation.model.parameters", "{\\\"n\\\":null}"), PARAMS, "{\"n\":null}" },
    { TEXT("langfuse.observation.model.parameters", "text"), PARAMS, NULL },
    { ATTR("langfuse.observation.model.parameters",
           "\"kvlistValue\":{\"values\":[{\"key\":\"t\",\"value\":{\"doubleValue\":0.5}}]}"),
      PARAMS, "{\"t\":0.5}" },
    { TEXT("langfuse.observation.input", "plain"), INPUT, "\"plain\"" },
    { TEXT("langfuse.observation.input", ""), INPUT, "\"\"" },
    { TEXT("langfuse.observation.input", "null"), INPUT, NULL },
    { TEXT("langfuse.observation.input", "{\\\"a\\\": 1}"), INPUT, "{\"a\": 1}" },
    { TEXT("langfuse.observation.input", "{a: 1}"), INPUT, "\"{a: 1}\"" },
    { ATTR("langfuse.observation.output", "\"boolValue\":true"), OUTPUT, "true" },
    { ATTR("langfuse.observation.output", "\"arrayValue\":{\"values\":[{\"intValue\":1},{}]}"), OUTPUT, "[1,null]" },
    { TEXT("langfuse.observation.usage_details", "{\\\"input\\\":1}"), USAGE, "{\"input\":1}" },
    { TEXT("langfuse.observation.usage_details", "[1]"), USAGE, NULL },
    { TEXT("langfuse.observation.usage_details", "{bad"), USAGE, NULL },
    { TEXT("langfuse.observation.usage_details", "{bad"), META,
      "{\"attributes\":{\"langfuse.observation.usage_details\":\"{bad\"}}" },
    { TEXT("langfuse.observation.cost_details", "{\\\"input\\\":0.10,\\\"total\\\":3e-1}"), COST,
      "{\"input\":0.10,\"total\":3e-1}" },
    { TEXT("langfuse.observation.cost_details", "{\\\"input\\\":0.10,\\\"total\\\":3e-1}"), META, NULL },
    { TEXT("langfuse.observation.cost_details", "{\\\"a\\\":-1,\\\"b\\\":\\\"x\\\",\\\"total\\\":1}"), COST,
      "{\"total\":1}" },
    { TEXT("langfuse.observation.cost_details", "{\\\"a\\\":-1,\\\"total\\\":1}"), META,
      "{\"attributes\":{\"langfuse.observation.cost_details\":\"{\\\"a\\\":-1,\\\"total\\\":1}\"}}" },
    { TEXT("langfuse.observation.cost_details", "{\\\"total\\\":1,\\\"total\\\":2}"), COST, "{\"total\":2}" },
    { ATTR("langfuse.observation.cost_details",
           "\"kvlistValue\":{\"values\":[{\"key\":\"total\",\"value\":{\"doubleValue\":0.25}}]}"),
      COST, "{\"total\":0.25}" },
    { TEXT("langfuse.observation.prompt.name", "p"), PROMPT, "p" },
    { TEXT("langfuse.prompt.name", "p2"), PROMPT, "p2" },
    { ATTR("langfuse.observation.prompt.version", "\"intValue\":3"), PROMPT_VERSION, "3" },
    { TEXT("langfuse.environment", "Prod"), ENV, "prod" },
    { TEXT("langfuse.environment", "langfuse-prod"), ENV, "prod" },
    { TEXT("langfuse.environment", "langfuse_langfuse-x"), ENV, "x" },
    { TEXT("langfuse.environment", "langfuse"), ENV, NULL },
    { TEXT("langfuse.environment", "a b"), ENV, NULL },
    { TEXT("langfuse.environment", ""), ENV, NULL },
    { TEXT("langfuse.environment", "\xc3\xbcn\xc3\xaf"), ENV, NULL },
    { ATTR("langfuse.environment", "\"intValue\":5"), ENV, NULL },
    { TEXT("langfuse.environment", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), ENV,
      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
    { TEXT("deployment.environment", "d"), T_ENV, "d" },
    { TEXT("deployment.environment", "d") "," TEXT("deployment.environment.name", "n"), T_ENV, "n" },
    { TEXT("langfuse.version", "v"), VERSION, "v" },
    { TEXT("langfuse.version", "v"), T_VERSION, "v" },
    { TEXT("langfuse.release", "r"), T_RELEASE, "r" },
    { TEXT("langfuse.trace.name", "tn"), T_NAME, "tn" },
    { "", T_NAME, "span " ID1 },
    { TEXT("user.id", "u") "," TEXT("langfuse.user.id", "cu"), T_USER, "cu" },
    { ATTR("user.id", "\"intValue\":42"), T_USER, "42" },
    { TEXT("langfuse.observation.metadata.langfuse_user_id", "mu"), T_USER, "mu" },
    { TEXT("session.id", "s"), T_SESSION, "s" },
    { TEXT("langfuse.session.id", "cs") "," TEXT("session.id", "s"), T_SESSION, "cs" },
    { TEXT("langfuse.trace.input", "[1]"), T_INPUT, "[1]" },
    { TEXT("langfuse.trace.output", "x"), T_OUTPUT, "\"x\"" },
    { TEXT("langfuse.observation.input", "x"), T_INPUT, NULL },
    /* metadata of the observation */
    { "", META, NULL },
    { TEXT("a", "1"), META, "{\"attributes\":{\"a\":\"1\"}}" },
    { TEXT("langfuse.observation.metadata", "{\\\"a\\\":{\\\"b\\\":1},\\\"c\\\":0}") "," TEXT(
          "langfuse.observation.metadata.c", "2") "," TEXT("langfuse.metadata.d", "3"),
      META, "{\"a\":{\"b\":1},\"c\":\"2\",\"d\":\"3\"}" },
    { TEXT("langfuse.metadata", "{\\\"x\\\":1}"), META, "{\"x\":1}" },
    { TEXT("langfuse.metadata", "{\\\"x\\\":1}"), T_META, "{\"x\":1}" },
    { TEXT("langfuse.observation.metadata", "just text"), META, "{\"metadata\":\"just text\"}" },
    { TEXT("langfuse.observation.metadata", "[1, 2]"), META, "{\"metadata\":[1, 2]}" },
    { TEXT("langfuse.observation.metadata.n", "{\\\"x\\\":1}"), META, "{\"n\":{\"x\":1}}" },
    { TEXT("langfuse.observation.metadata.n", "{x:1}"), META, "{\"n\":\"{x:1}\"}" },
    { TEXT("langfuse.observation.metadata.n", "12"), META, "{\"n\":\"12\"}" },
    { ATTR("langfuse.observation.metadata.n", "\"intValue\":12"), META, "{\"n\":12}" },
    { TEXT("langfuse.observation.metadata.d.o.t", "x"), META, "{\"d.o.t\":\"x\"}" },
    { TEXT("langfuse.observation.metadata.", "x"), META,
      "{\"attributes\":{\"langfuse.observation.metadata.\":\"x\"}}" },
    { TEXT("langfuse.observation.metadata.attributes", "mine") "," TEXT("k", "v"), META,
      "{\"attributes\":\"mine\",\"otel.attributes\":{\"k\":\"v\"}}" },
    { TEXT("k", "1") "," TEXT("k", "2"), META, "{\"attributes\":{\"k\":\"2\"}}" },
    { TEXT("langfuse.trace.metadata", "{\\\"a\\\":1}") "," TEXT("langfuse.trace.metadata.b", "x"), T_META,
      "{\"a\":1,\"b\":\"x\"}" },
};

static void single_fields(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        struct decoded d;
        decode_attributes(&d, "", fields[i].attributes);
        assert_int_equal(d.b->nobservations, 1);
        assert_int_equal(d.b->ntraces, 1);
        struct str got = field_of(d.b, fields[i].field);
        if (fields[i].want ? !str_eq_c(got, fields[i].want) : str_has(got)) {
            fail_msg("%s: field %d is %.*s, not %s", fields[i].attributes, (int)fields[i].field, STR_FMT(got),
                     fields[i].want ? fields[i].want : "(absent)");
        }
        decoded_done(&d);
    }
}

static const struct {
    const char *value;
    int64_t want; /* -1: absent */
} counts[] = {
    { "\"intValue\":\"9223372036854775807\"", INT64_MAX },
    { "\"intValue\":0", 0 },
    { "\"intValue\":-1", -1 },
    { "\"doubleValue\":17", 17 },
    { "\"doubleValue\":17.5", -1 },
    { "\"doubleValue\":\"NaN\"", -1 },
    { "\"doubleValue\":1e300", -1 },
    { "\"doubleValue\":-3", -1 },
    { "\"stringValue\":\"17\"", 17 },
    { "\"stringValue\":\"-17\"", -1 },
    { "\"stringValue\":\"x\"", -1 },
    { "\"boolValue\":true", -1 },
    { "", -1 },
};

static void token_counts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char text[512];
        struct decoded d;
        snprintf(text, sizeof text, ATTR("gen_ai.usage.input_tokens", "%s"), counts[i].value);
        decode_attributes(&d, "", text);
        const struct opt_i64 *got = &d.b->observations[0].tokens_in;
        if (counts[i].want < 0 ? got->has : !got->has || got->v != counts[i].want) {
            fail_msg("%s: %d %lld", counts[i].value, got->has, (long long)got->v);
        }
        decoded_done(&d);
    }
    struct decoded d;
    decode_attributes(&d, "",
                      ATTR("gen_ai.usage.prompt_tokens", "\"intValue\":1") "," ATTR(
                          "gen_ai.usage.completion_tokens", "\"intValue\":2") "," ATTR("gen_ai.usage.total_tokens",
                                                                                       "\"intValue\":3"));
    const struct observation *o = &d.b->observations[0];
    assert_true(o->tokens_in.v == 1 && o->tokens_out.v == 2 && o->tokens_total.v == 3);
    decoded_done(&d);
    /* A usage map speaks for all counts, also one that is no map. */
    decode_attributes(&d, "",
                      TEXT("langfuse.observation.usage_details",
                           "{\\\"output\\\":1}") "," ATTR("gen_ai.usage.input_tokens", "\"intValue\":3"));
    assert_false(d.b->observations[0].tokens_in.has);
    decoded_done(&d);
    decode_attributes(
        &d, "",
        TEXT("langfuse.observation.usage_details", "[1]") "," ATTR("gen_ai.usage.input_tokens", "\"intValue\":3"));
    assert_false(d.b->observations[0].tokens_in.has);
    decoded_done(&d);
    decode_attributes(
        &d, "",
        TEXT("langfuse.observation.usage_details", "{bad") "," ATTR("gen_ai.usage.input_tokens", "\"intValue\":3"));
    assert_true(d.b->observations[0].tokens_in.v == 3);
    decoded_done(&d);
}

static void times_within_quotes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        { "\\\"2026-01-01T00:00:00.500Z\\\"", true },
        { "2026-01-01T00:00:00.5Z", true },
        { "\\\"", false },
        { "\\\"\\\"", false },
        { "2026", false },
        { "9999-01-01T00:00:00Z", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct decoded d;
        snprintf(text, sizeof text, TEXT("langfuse.observation.completion_start_time", "%s"), cases[i].text);
        decode_attributes(&d, "", text);
        int64_t got = d.b->observations[0].completion_start;
        assert_true(cases[i].ok ? got == INT64_C(1767225600500000000) : got == TIME_NONE);
        decoded_done(&d);
    }
}

static void old_python_spans_are_generations(void **state) {
    (void)state;
    static const struct {
        const char *version, *language, *type;
    } cases[] = {
        { "3.3.0", "python", "GENERATION" }, { "2.9", "python", "GENERATION" }, { "3.4.0", "python", "SPAN" },
        { "4.0.0", "python", "SPAN" },       { "3.3.0", "nodejs", "SPAN" },     { "x", "python", "SPAN" },
        { "3", "python", "SPAN" },           { "", "python", "SPAN" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char scope[128], resource[256];
        struct decoded d;
        snprintf(scope, sizeof scope, "\"scope\":{\"name\":\"langfuse-sdk\",\"version\":\"%s\"}", cases[i].version);
        snprintf(resource, sizeof resource, "\"resource\":{\"attributes\":[" TEXT("telemetry.sdk.language", "%s") "]}",
                 cases[i].language);
        decode(&d, resource, scope,
               SPAN(ID1, ATTRS(TEXT("langfuse.observation.type", "span") "," TEXT("langfuse.observation.prompt.name",
                                                                                  "p"))));
        assert_str(d.b->observations[0].type, cases[i].type);
        decoded_done(&d);
    }
}

/* ---- the span itself ---- */

static void ids_times_and_parent(void **state) {
    (void)state;
    struct decoded d;
    /* clang-format off */
    decode(&d, "", "",
           SPAN(ID1, ",\"startTimeUnixNano\":\"1000\",\"endTimeUnixNano\":\"3000\"") ","
           SPAN(ID2, PARENT(ID1) ",\"startTimeUnixNano\":\"2000\"") ","
           SPAN(ID3, PARENT("0000000000000000") ",\"endTimeUnixNano\":\"2000\"") ","
           "{\"traceId\":\"1" TRACE "\",\"spanId\":\"" ID1 "\"},"
           SPAN("b7ad6b7169203334", ",\"parentSpanId\":\"xyz\",\"startTimeUnixNano\":\"9\",\"endTimeUnixNano\":\"5\""));
    /* clang-format on */
    assert_int_equal(d.b->nobservations, 4);
    assert_int_equal(d.b->ntraces, 1);
    const struct observation *o = d.b->observations;
    const struct trace *t = d.b->traces;
    assert_str(id_print(&d.b->arena, t->id.key, t->id.spell, t->id.text), TRACE);
    assert_str(id_print(&d.b->arena, o[0].id.key, o[0].id.spell, o[0].id.text), ID1);
    assert_str(id_print(&d.b->arena, o[1].parent_id.key, o[1].parent_id.spell, o[1].parent_id.text), ID1);
    assert_int_equal(o[0].id.spell, ID_HEX16);
    assert_int_equal(o[0].trace_id.spell, ID_HEX32);
    assert_false(id_has(&o[0].parent_id) || id_has(&o[2].parent_id) || id_has(&o[3].parent_id));
    assert_true(o[0].start == 1000 && o[0].end == 3000);
    assert_true(o[1].start == 2000 && o[1].end == 2000);
    assert_true(o[2].start == 2000 && o[2].end == 2000);
    assert_true(o[3].start == 9 && o[3].end == 9);
    assert_str(o[3].metadata, "{\"otel\":{\"end\":\"1970-01-01T00:00:00.000000005+00:00\"}}");
    assert_int_equal(o[3].index, 4);
    assert_int_equal(o[0].merge, MERGE_DEEP);
    assert_int_equal(t->merge, MERGE_DEEP);
    assert_true(t->timestamp == TIME_NONE);
    decoded_done(&d);
}

static void bad_ids_reject_the_span_alone(void **state) {
    (void)state;
    static const char body[] =
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"" TRACE "\",\"spanId\":\"b7ad6b71692033\"},"
        "{\"traceId\":\"00000000000000000000000000000000\",\"spanId\":\"" ID1 "\"},{\"traceId\":\"" TRACE
        "\",\"spanId\":\"0000000000000000\"},{\"spanId\":\"" ID1 "\"},{\"traceId\":\"" TRACE "\"},"
        "{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID1 "\",\"name\":\"good\"}]}]}]}";
    struct otlp_rejects rejects = { 0, "" };
    struct decoded d;
    decoded_init(&d, str_c(body));
    assert_int_equal(decode_otlp_traces_json(&d.scratch, d.body, d.b, true, &rejects, &d.err), XT_OK);
    decoded_end_of_call(&d);
    assert_int_equal(rejects.spans, 5);
    assert_string_equal(rejects.reason, "span 0: span id of 7 bytes instead of 8");
    assert_int_equal(d.b->nobservations, 1);
    assert_str(d.b->observations[0].name, "good");
    decoded_done(&d);
}

static const struct {
    const char *members; /* of the span */
    const char *level, *message, *metadata;
} statuses[] = {
    { ",\"status\":{\"code\":2,\"message\":\"boom\"}", "ERROR", "boom", NULL },
    { ",\"status\":{\"code\":1}", NULL, NULL, "{\"otel\":{\"status\":\"OK\"}}" },
    { ",\"status\":{\"code\":0}", NULL, NULL, NULL },
    { ",\"status\":{\"code\":2,\"message\":\"boom\"}" ATTRS(TEXT("langfuse.observation.level", "debug")), "DEBUG",
      "boom", "{\"otel\":{\"status\":\"ERROR\"}}" },
    { ",\"status\":{\"code\":2,\"message\":\"boom\"}" ATTRS(TEXT("langfuse.observation.status_message", "mine")),
      "ERROR", "mine", "{\"otel\":{\"statusMessage\":\"boom\"}}" },
    { ",\"status\":{\"message\":\"boom\"}" ATTRS(TEXT("langfuse.observation.status_message", "boom")), NULL, "boom",
      NULL },
    { ",\"events\":[{\"timeUnixNano\":\"5\",\"name\":\"exception\",\"attributes\":[" TEXT(
          "exception.type", "T") "," TEXT("exception.message", "M") "]}]",
      NULL, "T: M",
      "{\"otel\":{\"events\":[{\"time\":\"1970-01-01T00:00:00.000000005+00:00\",\"name\":\"exception\",\"attributes\":{"
      "\"exception.type\":\"T\",\"exception.message\":\"M\"}}]}}" },
    { ",\"status\":{\"code\":2},\"events\":[{\"name\":\"exception\",\"attributes\":[" TEXT("exception.message",
                                                                                           "M") "]},"
                                                                                                "{\"name\":\"other\"}]",
      "ERROR", "M",
      "{\"otel\":{\"events\":[{\"name\":\"exception\",\"attributes\":{\"exception.message\":\"M\"}},{\"name\":"
      "\"other\"}]}}" },
    { ",\"status\":{\"code\":2,\"message\":\"boom\"},\"events\":[{\"name\":\"exception\",\"attributes\":[" TEXT(
          "exception.type", "T") "]}]",
      "ERROR", "boom", "{\"otel\":{\"events\":[{\"name\":\"exception\",\"attributes\":{\"exception.type\":\"T\"}}]}}" },
    { ",\"events\":[{\"name\":\"exception\"}]", NULL, NULL, "{\"otel\":{\"events\":[{\"name\":\"exception\"}]}}" },
    { ",\"kind\":3,\"traceState\":\"a=b\",\"flags\":257,\"droppedAttributesCount\":1,\"droppedEventsCount\":2,"
      "\"droppedLinksCount\":3,\"links\":[{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID2 "\",\"traceState\":\"x\","
      "\"attributes\":[" TEXT("k", "v") "]},{}]",
      NULL, NULL,
      "{\"otel\":{\"kind\":\"CLIENT\",\"traceState\":\"a=b\",\"flags\":257,\"links\":[{\"traceId\":\"" TRACE
      "\",\"spanId\":\"" ID2 "\",\"traceState\":\"x\",\"attributes\":{\"k\":\"v\"}},{}],\"droppedAttributesCount\":1,"
      "\"droppedEventsCount\":2,\"droppedLinksCount\":3}}" },
    { ",\"kind\":1", NULL, NULL, NULL },
};

static void status_events_and_the_rest(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        char text[4096];
        struct decoded d;
        snprintf(text, sizeof text, "{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID1 "\",\"name\":\"n\"%s}",
                 statuses[i].members);
        decode(&d, "", "", text);
        const struct observation *o = &d.b->observations[0];
        assert_str(o->level, statuses[i].level);
        assert_str(o->status_message, statuses[i].message);
        assert_str(o->metadata, statuses[i].metadata);
        decoded_done(&d);
    }
}

static void resource_and_scope_are_kept(void **state) {
    (void)state;
    struct decoded d;
    const char *resource = "\"schemaUrl\":\"ru\",\"resource\":{\"attributes\":[" TEXT("service.name", "svc") "," TEXT(
        "service.version", "sv") "," TEXT("langfuse.environment", "stag") "," TEXT("langfuse.release", "r") "]}";
    const char *scope =
        "\"schemaUrl\":\"su\",\"scope\":{\"name\":\"lib\",\"version\":\"1\",\"attributes\":[" TEXT("a", "b") "]}";
    decode(&d, resource, scope,
           SPAN(ID1, "") "," SPAN(ID2, ATTRS(TEXT("langfuse.observation.metadata.scope", "mine"))));
    static const char rest[] = "\"resourceAttributes\":{\"service.name\":\"svc\",\"service.version\":\"sv\","
                               "\"langfuse.environment\":\"stag\",\"langfuse.release\":\"r\"}";
    char want[1024];
    snprintf(want, sizeof want,
             "{\"attributes\":{},%s,\"scope\":{\"name\":\"lib\",\"version\":\"1\",\"attributes\":{\"a\":\"b\"},"
             "\"schemaUrl\":\"su\"},\"otel\":{\"schemaUrl\":\"ru\"}}",
             rest);
    assert_str(d.b->observations[0].metadata, want);
    snprintf(want, sizeof want,
             "{\"scope\":\"mine\",\"attributes\":{},%s,\"otel.scope\":{\"name\":\"lib\",\"version\":\"1\","
             "\"attributes\":{\"a\":\"b\"},\"schemaUrl\":\"su\"},\"otel\":{\"schemaUrl\":\"ru\"}}",
             rest);
    assert_str(d.b->observations[1].metadata, want);
    assert_str(d.b->observations[0].environment, "stag");
    assert_str(d.b->observations[0].version, "sv");
    assert_str(d.b->traces[0].release, "r");
    assert_str(d.b->traces[0].version, "sv");
    decoded_done(&d);
    /* Spans of Langfuse's own SDKs show left-over attributes only if there are some. */
    decode(&d, "", "\"scope\":{\"name\":\"langfuse-sdk\"}", SPAN(ID1, "") "," SPAN(ID2, ATTRS(TEXT("k", "v"))));
    assert_str(d.b->observations[0].metadata, "{\"scope\":{\"name\":\"langfuse-sdk\",\"attributes\":{}}}");
    assert_str(d.b->observations[1].metadata,
               "{\"attributes\":{\"k\":\"v\"},\"scope\":{\"name\":\"langfuse-sdk\",\"attributes\":{}}}");
    decoded_done(&d);
}

static void resources_do_not_mix(void **state) {
    (void)state;
    /* clang-format off */
    static const char body[] =
        "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" TEXT("langfuse.environment", "one") "]},\"scopeSpans\":["
        "{\"scope\":{\"name\":\"a\"},\"spans\":[" SPAN(ID1, "") "]},"
        "{\"spans\":[" SPAN(ID2, "") "]}]},"
        "{\"scopeSpans\":[{\"scope\":{\"name\":\"b\"},\"spans\":[" SPAN(ID3, "") "]}]}]}";
    /* clang-format on */
    struct otlp_rejects rejects;
    struct decoded d;
    decoded_init(&d, str_c(body));
    assert_int_equal(decode_otlp_traces_json(&d.scratch, d.body, d.b, true, &rejects, &d.err), XT_OK);
    decoded_end_of_call(&d);
    const struct observation *o = d.b->observations;
    assert_str(o[0].environment, "one");
    assert_str(o[1].environment, "one");
    assert_str(o[2].environment, NULL);
    assert_str(o[0].metadata,
               "{\"attributes\":{},\"resourceAttributes\":{\"langfuse.environment\":\"one\"},\"scope\":{\"name\":\"a\","
               "\"attributes\":{}}}");
    assert_str(o[1].metadata, "{\"resourceAttributes\":{\"langfuse.environment\":\"one\"}}");
    assert_str(o[2].metadata, "{\"attributes\":{},\"scope\":{\"name\":\"b\",\"attributes\":{}}}");
    decoded_done(&d);
}

/* ---- scale and memory ---- */

static void many_attributes_of_one_span(void **state) {
    (void)state;
    const int n = 50000;
    struct buf span;
    struct decoded d;
    buf_init(&span, (size_t)1 << 28);
    buf_add_c(&span, "{\"traceId\":\"" TRACE "\",\"spanId\":\"" ID1 "\",\"attributes\":[");
    for (int i = 0; i < n; i++) {
        buf_printf(&span, "%s" TEXT("langfuse.observation.metadata.k%d", "v") "," TEXT("k%d", "v"), i ? "," : "",
                   i % 40000, i);
    }
    buf_add_c(&span, "]}");
    decode(&d, "", "", span.p);
    buf_done(&span);
    assert_true(str_starts(d.b->observations[0].metadata, "{\"k0\":\"v\",\"k1\":\"v\","));
    assert_true(str_ends(d.b->observations[0].metadata, ",\"k49999\":\"v\"}}"));
    assert_true(json_valid(d.b->observations[0].metadata, 10));
    decoded_done(&d);
}

/* Every allocation in turn fails: an error or the whole result, never a crash or a part of it. */
static void missing_memory_is_an_error(void **state) {
    (void)state;
    /* clang-format off */
    static const char body[] =
        "{\"resourceSpans\":[{\"resource\":{\"attributes\":[" TEXT("service.name", "a\\n") "]},"
        "\"scopeSpans\":[{\"scope\":{\"name\":\"lib\"},\"spans\":["
        SPAN(ID1, ATTRS(TEXT("langfuse.observation.input", "a\\nb") ","
                        TEXT("user.id", "\\u00e9") ","
                        TEXT("langfuse.observation.cost_details", "{\\\"total\\\":1}") ","
                        TEXT("langfuse.trace.metadata.x", "1") ","
                        TEXT("langfuse.observation.metadata", "{\\\"m\\\":1}") ","
                        TEXT("langfuse.tags", "[\\\"t\\\"]"))
                  ",\"events\":[{\"name\":\"exception\",\"attributes\":["
                  TEXT("exception.type", "T") "," TEXT("exception.message", "M") "]}]")
        "]}]}]}";
    /* clang-format on */
    for (uint64_t n = 1; n < 1000; n++) {
        struct otlp_rejects rejects;
        struct decoded d;
        decoded_init(&d, str_c(body));
        alloc_fail_at(n);
        d.code = decode_otlp_traces_json(&d.scratch, d.body, d.b, true, &rejects, &d.err);
        alloc_fail_at(0);
        assert_true(d.code == XT_OK || d.code == XT_ETOOBIG || d.code == XT_ENOMEM);
        bool whole = d.code == XT_OK && str_eq_c(d.b->observations[0].input, "\"a\\nb\"") &&
                     str_eq_c(d.b->observations[0].status_message, "T: M") &&
                     str_eq_c(d.b->traces[0].user, "\xc3\xa9") && str_eq_c(d.b->traces[0].metadata, "{\"x\":\"1\"}") &&
                     d.b->traces[0].ntags == 1 && str_eq_c(d.b->observations[0].cost_buckets, "{\"total\":1}");
        if (d.code == XT_OK && !whole) {
            fail_msg("allocation %d: %.*s %.*s %.*s %zu", (int)n, STR_FMT(d.b->observations[0].input),
                     STR_FMT(d.b->observations[0].status_message), STR_FMT(d.b->traces[0].metadata),
                     d.b->traces[0].ntags);
        }
        decoded_done(&d);
        if (whole) {
            assert_true(n > 5);
            return;
        }
    }
    fail_msg("never succeeded");
}

/* Langfuse's SDKs: Python 5 and later quote, JavaScript and older ones do not. */
static void quoted_metadata_is_decoded_once(void **state) {
    (void)state;
    static const struct {
        const char *language, *version, *observation, *trace, *user;
    } cases[] = {
        { "python", "5.0.4", "{\"s\":\"text\",\"n\":\"123\",\"i\":7,\"b\":true,\"o\":{\"a\":1}",
          "{\"tenant\":\"acme\",", "ann" },
        { "python", "4.18.0",
          "{\"s\":\"\\\"text\\\"\",\"n\":\"\\\"123\\\"\",\"i\":\"7\",\"b\":\"true\",\"o\":{\"a\":1}",
          "{\"tenant\":\"\\\"acme\\\"\",", "\"ann\"" },
        { "nodejs", "5.11.1",
          "{\"s\":\"\\\"text\\\"\",\"n\":\"\\\"123\\\"\",\"i\":\"7\",\"b\":\"true\",\"o\":{\"a\":1}",
          "{\"tenant\":\"\\\"acme\\\"\",", "\"ann\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char resource[200], scope[200];
        struct decoded d;
        snprintf(resource, sizeof resource, "\"resource\":{\"attributes\":[" TEXT("telemetry.sdk.language", "%s") "]}",
                 cases[i].language);
        snprintf(scope, sizeof scope, "\"scope\":{\"name\":\"langfuse-sdk\",\"version\":\"%s\"}", cases[i].version);
        /* clang-format off */
        decode(&d, resource, scope,
               SPAN(ID1, ATTRS(TEXT("langfuse.observation.metadata.s", "\\\"text\\\"") ","
                               TEXT("langfuse.observation.metadata.n", "\\\"123\\\"") ","
                               TEXT("langfuse.observation.metadata.i", "7") ","
                               TEXT("langfuse.observation.metadata.b", "true") ","
                               TEXT("langfuse.observation.metadata.o", "{\\\"a\\\":1}") ","
                               TEXT("langfuse.trace.metadata.tenant", "\\\"acme\\\"") ","
                               TEXT("langfuse.trace.metadata.langfuse_user_id", "\\\"ann\\\""))));
        /* clang-format on */
        struct str metadata = d.b->observations[0].metadata;
        if (!str_starts(metadata, cases[i].observation)) {
            fail_msg("%s %s: %.*s", cases[i].language, cases[i].version, STR_FMT(metadata));
        }
        assert_str(d.b->traces[0].user, cases[i].user);
        assert_true(str_starts(d.b->traces[0].metadata, cases[i].trace));
        decoded_done(&d);
    }
}

static void rows_of_a_field_stand_together(void **state) {
    (void)state;
    for (size_t i = 0; i < otlp_rules_n; i++) {
        assert_int_equal(otlp_rules[i].key_n, strlen(otlp_rules[i].key));
        for (size_t j = i + 1; j < otlp_rules_n; j++) {
            bool same = otlp_rules[i].offset == otlp_rules[j].offset;
            if (same && otlp_rules[j - 1].offset != otlp_rules[i].offset) {
                fail_msg("%s stands apart", otlp_rules[j].key);
            }
            if (same && strcmp(otlp_rules[i].key, otlp_rules[j].key) == 0) {
                fail_msg("%s stands twice", otlp_rules[j].key);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_fields),
        cmocka_unit_test(token_counts),
        cmocka_unit_test(times_within_quotes),
        cmocka_unit_test(old_python_spans_are_generations),
        cmocka_unit_test(ids_times_and_parent),
        cmocka_unit_test(bad_ids_reject_the_span_alone),
        cmocka_unit_test(status_events_and_the_rest),
        cmocka_unit_test(resource_and_scope_are_kept),
        cmocka_unit_test(resources_do_not_mix),
        cmocka_unit_test(many_attributes_of_one_span),
        cmocka_unit_test(missing_memory_is_an_error),
        cmocka_unit_test(quoted_metadata_is_decoded_once),
        cmocka_unit_test(rows_of_a_field_stand_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
