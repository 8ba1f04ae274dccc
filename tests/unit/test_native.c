/* test_native.c -- the native batch and its single-record forms. */
#include "decoding.h"

#define A "\"5b8efff7-9803-8103-d269-b633813fc60c\""
#define O "\"00000000-0000-0000-eee1-9b7ec3c1b174\""

typedef enum xt_code decoder(struct arena *scratch, struct str body, struct batch *b, struct xt_err *err);

static void decode_with(struct decoded *d, decoder *fn, struct str text) {
    decoded_init(d, text);
    d->code = fn(&d->scratch, d->body, d->b, &d->err);
    decoded_end_of_call(d);
}

static void decode(struct decoded *d, const char *text) { decode_with(d, decode_native_batch, str_c(text)); }

static struct str printed(struct batch *b, const struct id *id) {
    return id_print(&b->arena, id->key, id->spell, id->text);
}

/* Whole bodies: the code, and what the message must hold. */
static const struct {
    const char *body;
    enum xt_code code;
    const char *message;
} bodies[] = {
    { "{}", XT_OK, NULL },
    { "{\"trace\":null,\"observations\":[],\"x\":1}", XT_OK, NULL },
    { "{\"trace\":null,\"observations\":null}", XT_OK, NULL },
    { " {\"trace\":{\"id\":" A "}} ", XT_OK, NULL },
    { "{\"x\":{\"y\":[1,{\"id\":5}]},\"trace\":{\"id\":" A ",\"user_id\":5,\"z\":[[]]}}", XT_OK, NULL },
    { "null", XT_ESCHEMA, "invalid type: null, expected an object" },
    { "\"x\"", XT_ESCHEMA, "invalid type: string `x`, expected an object" },
    { "1", XT_ESCHEMA, "expected an object" },
    { "true", XT_ESCHEMA, "expected an object" },
    { "[]", XT_ESCHEMA, "expected an object" },
    { "[null,[]]", XT_ESCHEMA, "expected an object" },
    { "", XT_EINVAL, "Failed to parse the request body as JSON: " },
    { "{", XT_EINVAL, "Failed to parse the request body as JSON: " },
    { "{} xyz", XT_EINVAL, NULL },
    { "{\"observations\":[1e999]}", XT_EINVAL, NULL },
    { "{\"trace\":{\"id\":" A ",\"input\":\"\\ud800\"}}", XT_EINVAL, NULL },
    { "{\"trace\":{\"id\":" A ",\"input\":NaN}}", XT_EINVAL, NULL },
    { "{\"trace\":{}}", XT_ESCHEMA, "trace: missing field `id`" },
    { "{\"trace\":{\"id\":null}}", XT_ESCHEMA, "trace.id: invalid type: null" },
    { "{\"trace\":{\"id\":\"zz\"}}", XT_ESCHEMA, "trace.id: UUID parsing failed: string `zz`" },
    { "{\"trace\":{\"id\":7}}", XT_ESCHEMA, "trace.id: invalid type: integer `7`, expected a UUID" },
    { "{\"trace\":{\"id\":\"eee19b7ec3c1b174\"}}", XT_ESCHEMA, "trace.id: UUID" },
    { "{\"trace\":[]}", XT_ESCHEMA, "trace: invalid type: array, expected an object" },
    { "{\"trace\":[[1],[2]]}", XT_ESCHEMA, "trace: invalid type: array, expected an object" },
    { "{\"trace\":5}", XT_ESCHEMA, "trace: invalid type: integer `5`" },
    { "{\"observations\":{}}", XT_ESCHEMA, "observations: invalid type: object, expected a sequence" },
    { "{\"observations\":[null]}", XT_ESCHEMA, "observations[0]: invalid type: null" },
    { "{\"observations\":[[]]}", XT_ESCHEMA, "observations[0]: invalid type: array, expected an object" },
    { "{\"observations\":[{\"id\":" O "}]}", XT_ESCHEMA, "observations[0]: missing field `traceId`" },
    { "{\"observations\":[{\"id\":" O ",\"traceId\":" A "},{\"id\":" O ",\"traceId\":" A
      ",\"startTime\":\"2026-01-01\"}]}",
      XT_ESCHEMA, "observations[1].startTime: string `2026-01-01`" },
    { "{\"trace\":null,\"trace\":null}", XT_ESCHEMA, "duplicate field `trace`" },
    { "{\"observations\":[],\"observations\":[]}", XT_ESCHEMA, "duplicate field `observations`" },
};

static void whole_bodies(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct decoded d;
        decode(&d, bodies[i].body);
        if (d.code != bodies[i].code || (bodies[i].message && !strstr(d.err.msg, bodies[i].message))) {
            fail_msg("%s: code %d, message \"%s\"", bodies[i].body, (int)d.code, d.err.msg);
        }
        decoded_done(&d);
    }
}

/* One member of a trace: NULL is accepted, else what the message must hold. */
static const struct {
    const char *member, *message;
} trace_members[] = {
    { "\"timestamp\":\"2026-01-01T08:00:00.5+08:00\"", NULL },
    { "\"timestamp\":\"2026-01-01\"", "trace.timestamp: string `2026-01-01` is not" },
    { "\"timestamp\":1767225600", "trace.timestamp: invalid type: integer `1767225600`" },
    { "\"timestamp\":\"\"", "trace.timestamp" },
    { "\"timestamp\":\"-9999-01-01T00:00:00Z\"", "trace.timestamp: string `-9999-01-01T00:00:00Z` is out of range" },
    { "\"timestamp\":null", NULL },
    { "\"name\":5", "trace.name: invalid type: integer `5`, expected a string" },
    { "\"name\":\"a\\u0000b\"", NULL },
    { "\"session_id\":\"s\",\"sessionId\":\"s\"", "trace: duplicate field `session_id`" },
    { "\"sessionId\":null,\"session_id\":null", "trace: duplicate field `session_id`" },
    { "\"name\":\"a\",\"name\":\"a\"", "trace: duplicate field `name`" },
    { "\"x\":1,\"x\":2", NULL },
    { "\"id\":" A, "trace: duplicate field `id`" },
    { "\"tags\":null", NULL },
    { "\"tags\":[]", NULL },
    { "\"tags\":{}", "trace.tags: invalid type: object, expected a sequence" },
    { "\"tags\":\"a\"", "trace.tags: invalid type: string `a`, expected a sequence" },
    { "\"tags\":[\"a\",1]", "trace.tags[1]: invalid type: integer `1`, expected a string" },
    { "\"tags\":[null]", "trace.tags[0]: invalid type: null, expected a string" },
    { "\"tags\":[[]]", "trace.tags[0]: invalid type: array" },
    { "\"public\":1", "trace.public: invalid type: integer `1`, expected a boolean" },
    { "\"public\":\"true\"", "trace.public" },
    { "\"bookmarked\":false", NULL },
    { "\"latency\":\"1\"", "trace.latency: invalid type: string `1`, expected a number" },
    { "\"latency\":1", NULL },
    { "\"totalCost\":\"1\"", "trace.totalCost" },
    { "\"totalCost\":-1e-30", NULL },
    { "\"metadata\":[1,{\"a\":null}]", NULL },
    { "\"userId\":true", "trace.userId: invalid type: boolean `true`" },
    { "\"name\":"
      "\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
      "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"",
      NULL },
};

static void members_of_a_trace(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof trace_members / sizeof *trace_members; i++) {
        char text[1024];
        struct decoded d;
        snprintf(text, sizeof text, "{\"trace\":{\"id\":" A ",%s}}", trace_members[i].member);
        decode(&d, text);
        bool refused = trace_members[i].message != NULL;
        if ((d.code == XT_ESCHEMA) != refused || (refused && !strstr(d.err.msg, trace_members[i].message))) {
            fail_msg("%s: code %d, message \"%s\"", text, (int)d.code, d.err.msg);
        }
        decoded_done(&d);
    }
}

static const struct {
    const char *member, *message;
} observation_members[] = {
    { "\"promptTokens\":1.0", "observations[0].promptTokens: invalid type" },
    { "\"promptTokens\":\"1\"", "observations[0].promptTokens: invalid type: string `1`, expected an integer" },
    { "\"promptTokens\":9223372036854775807", NULL },
    { "\"promptTokens\":9223372036854775808", "observations[0].promptTokens" },
    { "\"completionTokens\":-5", NULL },
    { "\"promptVersion\":\"v2\"", NULL },
    { "\"promptVersion\":2", NULL },
    { "\"promptVersion\":2.5", "observations[0].promptVersion: invalid type: number `2.5`" },
    { "\"promptVersion\":true", "observations[0].promptVersion" },
    { "\"parentObservationId\":\"eee19b7ec3c1b174\"", "observations[0].parentObservationId: UUID" },
    { "\"parentObservationId\":null", NULL },
    { "\"parentObservationId\":\"\"", "observations[0].parentObservationId" },
    { "\"inputPrice\":\"0.1\"", "observations[0].inputPrice" },
    { "\"calculatedTotalCost\":0.1234567890123456789012345", NULL },
    { "\"calculatedTotalCost\":1e300", NULL },
    { "\"level\":5", "observations[0].level" },
    { "\"usage\":\"text\"", NULL },
    { "\"usage\":[1]", NULL },
};

static void members_of_an_observation(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof observation_members / sizeof *observation_members; i++) {
        char text[1024];
        struct decoded d;
        snprintf(text, sizeof text, "{\"observations\":[{\"id\":" O ",\"traceId\":" A ",%s}]}",
                 observation_members[i].member);
        decode(&d, text);
        bool refused = observation_members[i].message != NULL;
        if ((d.code == XT_ESCHEMA) != refused || (refused && !strstr(d.err.msg, observation_members[i].message))) {
            fail_msg("%s: code %d, message \"%s\"", text, (int)d.code, d.err.msg);
        }
        decoded_done(&d);
    }
}

static void every_field_of_a_trace(void **state) {
    (void)state;
    struct decoded d;
    decode(
        &d,
        "{\"trace\":{\"id\":\"{5B8EFFF7-9803-8103-D269-B633813FC60C}\",\"timestamp\":\"2026-01-01T08:00:00.5+08:00\","
        "\"name\":\"n\\\"\\u00e9\",\"input\":{\"b\":1,\"a\":[1.0,1e3,\"\\u00e9\",null]},\"output\":false,"
        "\"session_id\":\"s\",\"release\":\"r\",\"version\":\"\",\"userId\":\"u\",\"metadata\":{\"k\": {} },"
        "\"tags\":[\"x\",\"\\ty\"],\"public\":true,\"environment\":\"e\",\"externalId\":\"ex\","
        "\"bookmarked\":false,\"latency\":1.5,\"totalCost\":0.123456789012345678,\"projectId\":\"p\"}}");
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(batch_records(d.b), 1);
    const struct trace *t = &d.b->traces[0];
    assert_str(printed(d.b, &t->id), "5b8efff7-9803-8103-d269-b633813fc60c");
    assert_int_equal(t->merge, MERGE_REPLACE);
    assert_true(t->timestamp == INT64_C(1767225600500000000));
    assert_str(t->name, "n\"\xc3\xa9");
    assert_str(t->input, "{\"b\":1,\"a\":[1.0,1e3,\"\\u00e9\",null]}");
    assert_str(t->output, "false");
    assert_str(t->session, "s");
    assert_str(t->release, "r");
    assert_str(t->version, "");
    assert_str(t->user, "u");
    assert_str(t->metadata, "{\"k\": {} }");
    assert_true(t->tags_has);
    assert_int_equal(t->ntags, 2);
    assert_str(t->tags[0], "x");
    assert_str(t->tags[1], "\ty");
    assert_int_equal(t->is_public, TRI_TRUE);
    assert_int_equal(t->bookmarked, TRI_FALSE);
    assert_str(t->environment, "e");
    assert_str(t->external_id, "ex");
    assert_true(t->latency == 1.5);
    assert_true(t->total_cost.has && t->total_cost.v == (money)INT64_C(123456789012345678));
    assert_str(t->total_cost.text, NULL);
    assert_str(t->project_label, "p");
    assert_true(t->index == SIZE_MAX);
    decoded_done(&d);
}

static void every_field_of_an_observation(void **state) {
    (void)state;
    struct decoded d;
    decode(&d,
           "{\"observations\":[{\"id\":" O
           ",\"traceId\":\"5b8efff798038103d269b633813fc60c\",\"type\":\"t\",\"name\":\"n\","
           "\"startTime\":\"2026-01-01T00:00:00Z\",\"endTime\":\"2026-01-01 00:00:01Z\","
           "\"completionStartTime\":\"2026-01-01T00:00:00.000000001Z\",\"model\":\"m\",\"modelParameters\":{\"a\":1},"
           "\"input\":\"i\",\"output\":[1],\"usage\":{\"input\":3},\"level\":\"odd\",\"statusMessage\":\"sm\","
           "\"parentObservationId\":" A ",\"promptId\":\"pi\",\"promptName\":\"pn\",\"promptVersion\":7,"
           "\"modelId\":\"mi\",\"inputPrice\":1,\"outputPrice\":2.5,\"totalPrice\":1e-9,\"calculatedInputCost\":1,"
           "\"calculatedOutputCost\":2e-1,\"calculatedTotalCost\":0.1234567890123456789,\"latency\":3,"
           "\"timeToFirstToken\":0.25,\"completionTokens\":-1,\"promptTokens\":0,\"totalTokens\":9223372036854775807,"
           "\"unit\":\"TOKENS\",\"metadata\":null,\"environment\":\"e\",\"projectId\":\"p\"},"
           "{\"id\":" A ",\"traceId\":" A "}]}");
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(d.b->nobservations, 2);
    const struct observation *o = &d.b->observations[0];
    assert_str(printed(d.b, &o->id), "00000000-0000-0000-eee1-9b7ec3c1b174");
    assert_str(printed(d.b, &o->trace_id), "5b8efff7-9803-8103-d269-b633813fc60c");
    assert_str(printed(d.b, &o->parent_id), "5b8efff7-9803-8103-d269-b633813fc60c");
    assert_str(o->type, "t");
    assert_str(o->name, "n");
    assert_true(o->end - o->start == NS_PER_SEC && o->completion_start - o->start == 1);
    assert_str(o->model, "m");
    assert_str(o->model_parameters, "{\"a\":1}");
    assert_str(o->input, "\"i\"");
    assert_str(o->output, "[1]");
    assert_str(o->usage, "{\"input\":3}");
    assert_str(o->metadata, NULL);
    assert_str(o->level, "odd");
    assert_str(o->status_message, "sm");
    assert_str(o->prompt_id, "pi");
    assert_str(o->prompt_name, "pn");
    assert_str(o->prompt_version, "7");
    assert_str(o->model_id, "mi");
    assert_true(o->input_price == 1 && o->output_price == 2.5 && o->total_price == 1e-9);
    assert_true(o->cost_input.v == (money)1000000000000000000 && o->cost_output.v == (money)200000000000000000);
    assert_str(o->cost_total.text, "0.1234567890123456789");
    assert_true(o->latency == 3 && o->time_to_first_token == 0.25);
    assert_true(o->tokens_out.has && o->tokens_out.v == -1 && o->tokens_in.has && o->tokens_in.v == 0);
    assert_true(o->tokens_total.v == INT64_MAX);
    assert_str(o->unit, "TOKENS");
    assert_str(o->environment, "e");
    assert_str(o->project_label, "p");
    assert_int_equal(o->merge, MERGE_REPLACE);
    assert_int_equal(d.b->observations[1].index, 1);
    assert_true(d.b->observations[1].start == TIME_NONE && !str_has(d.b->observations[1].type));
    decoded_done(&d);
}

static void plain_strings_stay_in_the_body(void **state) {
    (void)state;
    struct decoded d;
    decode(&d, "{\"trace\":{\"id\":" A ",\"name\":\"plain\",\"userId\":\"esc\\n\",\"tags\":[\"t\"]}}");
    assert_int_equal(d.code, XT_OK);
    const struct trace *t = &d.b->traces[0];
    assert_true(t->name.p > d.b->body && t->name.p < d.b->body + d.b->body_bytes);
    assert_true(t->tags[0].p > d.b->body && t->tags[0].p < d.b->body + d.b->body_bytes);
    assert_false(t->user.p >= d.b->body && t->user.p < d.b->body + d.b->body_bytes);
    assert_str(t->user, "esc\n");
    decoded_done(&d);
}

static void null_and_empty_tags_differ(void **state) {
    (void)state;
    struct decoded d;
    decode(&d, "{\"trace\":{\"id\":" A ",\"tags\":null}}");
    assert_false(d.b->traces[0].tags_has);
    decoded_done(&d);
    decode(&d, "{\"trace\":{\"id\":" A ",\"tags\":[]}}");
    assert_true(d.b->traces[0].tags_has);
    assert_int_equal(d.b->traces[0].ntags, 0);
    decoded_done(&d);
}

static void bare_records(void **state) {
    (void)state;
    struct decoded d;
    decode_with(&d, decode_native_trace, str_c("{\"id\":" A ",\"tags\":[\"a\"],\"input\":{\"trace\":{\"tags\":[1]}}}"));
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(d.b->ntraces, 1);
    assert_int_equal(d.b->traces[0].ntags, 1);
    assert_str(d.b->traces[0].input, "{\"trace\":{\"tags\":[1]}}");
    decoded_done(&d);
    decode_with(&d, decode_native_observation, str_c("{\"id\":" O ",\"traceId\":" A ",\"metadata\":{\"tags\":[]}}"));
    assert_int_equal(d.code, XT_OK);
    assert_str(d.b->observations[0].metadata, "{\"tags\":[]}");
    decoded_done(&d);
    decode_with(&d, decode_native_observation, str_c("{\"id\":" O "}"));
    assert_int_equal(d.code, XT_ESCHEMA);
    assert_non_null(strstr(d.err.msg, "missing field `traceId`"));
    decoded_done(&d);
    decode_with(&d, decode_native_trace, str_c("{\"id\":" A ",\"public\":\"x\"}"));
    assert_non_null(strstr(d.err.msg, "type: public: invalid type: string `x`"));
    decoded_done(&d);
}

/* A document of exactly `levels` nested containers. */
static enum xt_code nested(size_t levels) {
    static const char head[] = "{\"trace\":{\"id\":" A ",\"input\":";
    size_t inner = levels - 2, n = sizeof head - 1;
    char *text = malloc(n + 2 * inner + 2);
    struct decoded d;
    assert_non_null(text);
    memcpy(text, head, n);
    memset(text + n, '[', inner);
    memset(text + n + inner, ']', inner);
    memcpy(text + n + 2 * inner, "}}", 2);
    decode_with(&d, decode_native_batch, (struct str){ text, n + 2 * inner + 2 });
    decoded_done(&d);
    free(text);
    return d.code;
}

static void nesting_is_limited(void **state) {
    (void)state;
    assert_int_equal(nested(126), XT_OK);
    assert_int_equal(nested(127), XT_OK);
    assert_int_equal(nested(128), XT_EINVAL);
    assert_int_equal(nested(100000), XT_EINVAL);
}

static void big_values_are_kept_whole(void **state) {
    (void)state;
    size_t n = 100000;
    char *text = malloc(2 * n + 60 * 1000);
    struct decoded d;
    assert_non_null(text);
    size_t at = (size_t)sprintf(text, "{\"trace\":{\"id\":" A ",\"sessionId\":\"");
    memset(text + at, 's', n);
    at += n;
    at += (size_t)sprintf(text + at, "\",\"tags\":[\"t0\"");
    for (int i = 1; i < 10000; i++) {
        at += (size_t)sprintf(text + at, ",\"t%d\"", i);
    }
    at += (size_t)sprintf(text + at, "]}}");
    decode_with(&d, decode_native_batch, (struct str){ text, at });
    assert_int_equal(d.code, XT_OK);
    assert_int_equal(d.b->traces[0].session.n, n);
    assert_int_equal(d.b->traces[0].ntags, 10000);
    assert_str(d.b->traces[0].tags[9999], "t9999");
    decoded_done(&d);
    free(text);
}

static const char full_body[] =
    "{\"trace\":{\"id\":" A ",\"name\":\"a\\n\",\"tags\":[\"x\",\"\\n\"],\"totalCost\":0.1234567890123456789012},"
    "\"observations\":[{\"id\":" O ",\"traceId\":" A ",\"model\":\"\\u00e9\",\"usage\":{\"input\":1}},{\"id\":" A
    ",\"traceId\":" A "}]}";

/* Every allocation in turn fails: an error, never a crash or a half-filled success. */
static void missing_memory_is_an_error(void **state) {
    (void)state;
    for (uint64_t n = 1; n < 1000; n++) {
        struct decoded d;
        decoded_init(&d, str_c(full_body));
        alloc_fail_at(n);
        d.code = decode_native_batch(&d.scratch, d.body, d.b, &d.err);
        bool done = d.code == XT_OK;
        alloc_fail_at(0);
        assert_true(done || d.code == XT_ETOOBIG || d.code == XT_ENOMEM);
        decoded_done(&d);
        if (done) {
            assert_true(n > 1);
            return;
        }
    }
    fail_msg("never succeeded");
}

static void a_full_arena_is_too_big(void **state) {
    (void)state;
    struct decoded d;
    decoded_init(&d, str_c(full_body));
    d.b->arena.limit = 500;
    assert_int_equal(decode_native_batch(&d.scratch, d.body, d.b, &d.err), XT_ETOOBIG);
    decoded_done(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_bodies),
        cmocka_unit_test(members_of_a_trace),
        cmocka_unit_test(members_of_an_observation),
        cmocka_unit_test(every_field_of_a_trace),
        cmocka_unit_test(every_field_of_an_observation),
        cmocka_unit_test(plain_strings_stay_in_the_body),
        cmocka_unit_test(null_and_empty_tags_differ),
        cmocka_unit_test(bare_records),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(big_values_are_kept_whole),
        cmocka_unit_test(missing_memory_is_an_error),
        cmocka_unit_test(a_full_arena_is_too_big),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
