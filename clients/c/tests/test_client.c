/* test_client.c -- the inner modules without a server: contexts, checks, JSON out, answers, arguments, memory that ends. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "answer.h"
#include "base/arena.h"
#include "client.h"
#include "process.h"
#include "record.h"
#include "tracer.h"

/* ---- W3C Trace Context ---- */

static void test_context(void **state) {
    static const struct {
        const char *text;
        int code, sampled;
    } rows[] = {
        { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", XTRACE_OK, 1 },
        { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", XTRACE_OK, 0 },
        { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", XTRACE_OK, 1 },
        { "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-is", XTRACE_OK, 1 },
        { "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", XTRACE_OK, 1 },
        { "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.", XTRACE_EINVAL, 0 },
        { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", XTRACE_EINVAL, 0 },
        { "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", XTRACE_EINVAL, 0 },
        { "00-00000000000000000000000000000000-00f067aa0ba902b7-01", XTRACE_EINVAL, 0 },
        { "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", XTRACE_EINVAL, 0 },
        { "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", XTRACE_EINVAL, 0 },
        { "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", XTRACE_EINVAL, 0 },
        { "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", XTRACE_EINVAL, 0 },
        { "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", XTRACE_EINVAL, 0 },
        { "", XTRACE_EINVAL, 0 },
        { NULL, XTRACE_EINVAL, 0 },
    };
    char out[XTRACE_TRACEPARENT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        xtrace_context c;
        assert_int_equal(xtrace_context_parse(rows[i].text, &c), rows[i].code);
        assert_int_equal(c.valid, rows[i].code == XTRACE_OK);
        assert_int_equal(c.sampled, rows[i].sampled);
        xtrace_context_format(&c, out);
        if (i < 2)
            assert_string_equal(out, rows[i].text);
        if (rows[i].code != XTRACE_OK)
            assert_string_equal(out, "");
    }
    assert_int_equal(xtrace_context_parse("00", NULL), XTRACE_EINVAL);
}

/* ---- checks name the argument ---- */

#define ID "11111111-2222-3333-4444-555555555555"

static void test_bad_records(void **state) {
    char *huge = malloc(((size_t)100 << 20) + 1);
    const char *const no_tag[] = { "a", NULL };
    const xtrace_label no_value = { "k", NULL };
    union any_record v;
    xtrace_error e;

    (void)state;
    assert_non_null(huge);
    memset(huge, 'x', (size_t)100 << 20);
    huge[(size_t)100 << 20] = '\0';
#define CHECK(kind, set, wrong)                                                                              \
    do {                                                                                                     \
        const char *want = (wrong);                                                                          \
        record_init(kind, &v, sizeof v);                                                                     \
        if ((kind) == RECORD_METRIC)                                                                         \
            v.metric.name = "m", v.metric.value = 1;                                                         \
        else if ((kind) == RECORD_TRACE)                                                                     \
            v.trace.id = ID;                                                                                 \
        else                                                                                                 \
            v.observation.id = v.observation.trace_id = ID;                                                  \
        set;                                                                                                 \
        error_clear(&e);                                                                                     \
        assert_int_equal(record_check(kind, &v, "", (size_t)1 << 20, &e), want ? XTRACE_EINVAL : XTRACE_OK); \
        assert_string_equal(e.argument, want ? want : "");                                                   \
    } while (0)
    CHECK(RECORD_TRACE, (void)0, (const char *)NULL);
    CHECK(RECORD_TRACE, v.trace.id = NULL, "id");
    CHECK(RECORD_TRACE, v.trace.id = "", "id");
    CHECK(RECORD_TRACE, v.trace.id = "not a uuid", "id");
    CHECK(RECORD_TRACE, v.trace.id = "1111111122223333444455555555555", "id");
    CHECK(RECORD_TRACE, v.trace.id = "1111111122223333444455555555555g", "id");
    CHECK(RECORD_TRACE, v.trace.id = "11111111222233334444555555555555", (const char *)NULL);
    CHECK(RECORD_TRACE, v.trace.id = "{" ID "}", (const char *)NULL);
    CHECK(RECORD_TRACE, v.trace.id = "urn:uuid:" ID, (const char *)NULL);
    CHECK(RECORD_TRACE, v.trace.name = "\xff", "name");
    CHECK(RECORD_TRACE, v.trace.name = huge, "name");
    CHECK(RECORD_TRACE, v.trace.input_json = "{", "input");
    CHECK(RECORD_TRACE, v.trace.input_json = "1e999", "input");
    CHECK(RECORD_TRACE, v.trace.input_json = "18446744073709551616", (const char *)NULL);
    CHECK(RECORD_TRACE, v.trace.input_json = "\"\\u0000\"", (const char *)NULL);
    CHECK(RECORD_TRACE, (v.trace.tags = no_tag, v.trace.tag_count = 2), "tags");
    CHECK(RECORD_TRACE, (v.trace.tags = NULL, v.trace.tag_count = 2), "tags");
    CHECK(RECORD_TRACE, v.trace.is_public = 2, "public");
    CHECK(RECORD_TRACE, v.trace.latency = INFINITY, "latency");
    CHECK(RECORD_TRACE, v.trace.latency = NAN, (const char *)NULL);
    CHECK(RECORD_OBSERVATION, v.observation.trace_id = NULL, "traceId");
    CHECK(RECORD_OBSERVATION, v.observation.parent_id = "x", "parentObservationId");
    CHECK(RECORD_OBSERVATION, v.observation.total_cost = -INFINITY, "calculatedTotalCost");
    CHECK(RECORD_METRIC, v.metric.value = NAN, "value");
    CHECK(RECORD_METRIC, v.metric.name = NULL, "name");
    CHECK(RECORD_METRIC, (v.metric.labels = &no_value, v.metric.label_count = 1), "labels");
    free(huge);
}

/* A structure of an older header is shorter; of a newer one longer. */
static void test_sizes(void **state) {
    xtrace_trace t;
    union any_record v;
    struct {
        xtrace_trace t;
        const char *newer;
    } longer;

    (void)state;
    xtrace_trace_init_sized(&t, offsetof(xtrace_trace, user_id));
    t.id = ID;
    t.name = "old";
    assert_true(record_take(RECORD_TRACE, &t, &v));
    assert_string_equal(v.trace.name, "old");
    assert_null(v.trace.user_id);
    assert_true(isnan(v.trace.total_cost));
    assert_int_equal(v.trace.is_public, -1);
    memset(&longer, 0x55, sizeof longer);
    xtrace_trace_init_sized(&longer.t, sizeof longer);
    longer.t.id = ID;
    assert_null(longer.newer);
    assert_true(record_take(RECORD_TRACE, &longer, &v));
    assert_string_equal(v.trace.id, ID);
    t.size = 0;
    assert_false(record_take(RECORD_TRACE, &t, &v));
}

/* ---- JSON out ---- */

static void expect_json(enum record_kind kind, const union any_record *v, const char *want) {
    struct record *r = record_copy(kind, v);
    struct json_writer w;
    struct buf b;

    assert_non_null(r);
    for (int copied = 0; copied < 2; copied++) { /* the original and its copy read the same */
        buf_init(&b, 1 << 20);
        jw_init(&w, &b);
        record_encode(&w, kind, copied ? &r->v : v, copied ? r : NULL);
        assert_true(jw_done(&w));
        assert_string_equal(b.p, want);
        buf_done(&b);
    }
    record_free(r);
}

static void test_encode(void **state) {
    const char *const tags[] = { "a", "\"b\"" };
    const xtrace_label labels[] = { { "k", "v" }, { "", "" } };
    union any_record v;

    (void)state;
    record_init(RECORD_TRACE, &v, sizeof v.trace);
    v.trace.id = ID;
    v.trace.timestamp = INT64_C(1767225600123456789);
    v.trace.tags = tags;
    v.trace.tag_count = 2;
    v.trace.bookmarked = 0;
    v.trace.total_cost = 0.1;
    v.trace.latency = 3;
    expect_json(RECORD_TRACE, &v,
                "{\"id\":\"" ID
                "\",\"timestamp\":\"2026-01-01T00:00:00.123456789+00:00\",\"tags\":[\"a\",\"\\\"b\\\"\"],"
                "\"bookmarked\":false,\"latency\":3.0,\"totalCost\":0.1}");
    v.trace.tag_count = 0;
    v.trace.timestamp = XTRACE_TIME_NONE;
    v.trace.latency = 1e300;
    v.trace.total_cost = NAN;
    expect_json(RECORD_TRACE, &v, "{\"id\":\"" ID "\",\"tags\":[],\"bookmarked\":false,\"latency\":1e+300}");
    record_init(RECORD_METRIC, &v, sizeof v.metric);
    v.metric.name = "m";
    v.metric.value = -0.0;
    v.metric.timestamp = 0;
    v.metric.labels = labels;
    v.metric.label_count = 2;
    expect_json(RECORD_METRIC, &v,
                "{\"name\":\"m\",\"labels\":{\"k\":\"v\",\"\":\"\"},\"value\":-0.0,\"timestamp\":\"1970-01-01T00:00:00+"
                "00:00\"}");
}

/* ---- answers ---- */

static void test_answers(void **state) {
    static const char page[] =
        "{\"data\":[{\"id\":\"x\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"new\":{\"field\":1},\"latency\":-1.0,"
        "\"metadata\":{\"a\":1.10,\"b\":123456789012345678901234567890,\"c\":\"1.5\",\"d\":-1e-7},\"tags\":[],"
        "\"observations\":[{\"id\":1}],\"name\":7}],\"meta\":{\"page\":1,\"limit\":50,\"totalItems\":1,\"totalPages\":"
        "1}}";
    xtrace_trace_list *list;
    xtrace_error e;

    (void)state;
    error_clear(&e);
    assert_int_equal(answer_trace_list(page, sizeof page - 1, &list, &e), XTRACE_OK);
    assert_int_equal(list->count, 1);
    assert_string_equal(list->items[0].metadata_json,
                        "{\"a\":1.10,\"b\":123456789012345678901234567890,\"c\":\"1.5\",\"d\":-1e-7}");
    assert_true(list->items[0].latency == -1);
    assert_null(list->items[0].name);       /* of another type: absent */
    assert_null(list->items[0].input_json); /* not there */
    assert_true(isnan(list->items[0].total_cost));
    assert_int_equal(list->items[0].created_at, XTRACE_TIME_NONE);
    xtrace_trace_list_free(list);
    /* Whatever is cut off or changed is an error or an answer, never a crash. */
    for (size_t n = 0; n < sizeof page - 1; n++) {
        char *copy = malloc(n ? n : 1); /* exactly as long, for the sanitizer */
        memcpy(copy, page, n);
        assert_int_equal(answer_trace_list(copy, n, &list, &e), XTRACE_EANSWER);
        assert_null(list);
        free(copy);
    }
    for (size_t n = 0; n < sizeof page - 1; n++) {
        char changed[sizeof page];
        memcpy(changed, page, sizeof page);
        changed[n] = (char)(changed[n] ^ 0x15);
        (void)answer_trace_list(changed, sizeof page - 1, &list, &e);
        xtrace_trace_list_free(list);
    }
    assert_int_equal(answer_trace_list(NULL, 0, &list, &e), XTRACE_EANSWER);
}

/* ---- arguments of the calls ---- */

static void test_arguments(void **state) {
    xtrace_options o;
    xtrace_error e;
    xtrace_client *c;
    xtrace_sender_options so;
    xtrace_tracer_options to;
    xtrace_metric m;
    xtrace_trace_list *list = (xtrace_trace_list *)&o;
    char tiny[] = "x";

    (void)state;
    xtrace_options_init(&o);
    static const struct {
        const char *url, *token, *argument;
    } rows[] = { { "ftp://x", "t", "base_url" },      { "http://x?y", "t", "base_url" },
                 { "http://x y", "t", "base_url" },   { "http://x", "a\r\nX: y", "token" },
                 { "http://x", "\xc3\xa4", "token" }, { "", "t", "base_url" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        o.base_url = rows[i].url;
        o.token = rows[i].token;
        assert_null(xtrace_client_new(&o, &e));
        assert_int_equal(e.code, XTRACE_EINVAL);
        assert_string_equal(e.argument, rows[i].argument);
    }
    o.base_url = "http://127.0.0.1:9/";
    o.token = "t";
    o.timeout_ms = 0;
    assert_null(xtrace_client_new(&o, &e));
    assert_string_equal(e.argument, "timeout_ms");
    o.timeout_ms = 1000;
    o.max_attempts = 1;
    c = xtrace_client_new(&o, &e);
    assert_non_null(c);

    assert_int_equal(xtrace_healthz(NULL, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "client");
    assert_int_equal(xtrace_list_traces(c, NULL, NULL, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "list");
    assert_int_equal(xtrace_list_traces(NULL, NULL, &list, NULL, NULL), XTRACE_EINVAL);
    assert_null(list);
    assert_int_equal(xtrace_push_metrics(c, NULL, 1, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "metrics");
    xtrace_metric_init(&m);
    m.name = tiny;
    assert_int_equal(xtrace_push_metrics(c, &m, 1, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "metrics[0].value");
    assert_int_equal(xtrace_healthz(c, NULL, &e), XTRACE_ENETWORK); /* nobody listens on the discard port */
    assert_int_equal(e.http_status, 0);

    xtrace_sender_options_init(&so);
    so.batch_records = 0;
    assert_null(xtrace_sender_new(c, &so, &e));
    assert_string_equal(e.argument, "batch_records");
    assert_null(xtrace_sender_new(NULL, NULL, &e));
    xtrace_tracer_options_init(&to);
    assert_null(xtrace_tracer_new(NULL, &to, &e));
    assert_int_equal(xtrace_sender_stop(NULL, 0, NULL), XTRACE_OK);
    xtrace_client_free(c);
    xtrace_client_free(NULL);
}

/* ---- spans ---- */

static struct xtrace_sender *sender(xtrace_client **ret_client) {
    xtrace_options o;
    xtrace_sender_options so;

    xtrace_options_init(&o);
    o.base_url = "http://127.0.0.1:9";
    o.token = "t";
    *ret_client = xtrace_client_new(&o, NULL);
    xtrace_sender_options_init(&so);
    so.max_delay_ms = 60000; /* what is handed over stays in the queue */
    return xtrace_sender_new(*ret_client, &so, NULL);
}

static void *end_span(void *span) {
    xtrace_span_end(span);
    return NULL;
}

static void test_spans(void **state) {
    xtrace_client *c;
    struct xtrace_sender *s = sender(&c);
    xtrace_tracer_options o;
    xtrace_tracer *t, *off;
    xtrace_span *root, *child, *other;
    xtrace_context a, b, remote;
    xtrace_sender_stats stats;
    pthread_t thread;

    (void)state;
    assert_non_null(s);
    t = xtrace_tracer_new(s, NULL, NULL);
    xtrace_tracer_options_init(&o);
    o.sample_rate = 0;
    off = xtrace_tracer_new(s, &o, NULL);

    root = xtrace_span_start(t, "root");
    assert_ptr_equal(xtrace_span_current(), root);
    child = xtrace_span_start(t, "child");
    xtrace_span_context(root, &a);
    xtrace_span_context(child, &b);
    assert_memory_equal(a.trace_id, b.trace_id, 16);
    assert_memory_not_equal(a.span_id, b.span_id, 8);
    assert_memory_equal(child->record->ids.parent, a.span_id, 8);
    assert_false(root->record->ids.has_parent);

    /* In any order; on any thread. */
    xtrace_span_end(root);
    assert_ptr_equal(xtrace_span_current(), child);
    other = xtrace_span_start_in(t, "other", &b);
    assert_ptr_equal(xtrace_span_current(), child); /* not entered */
    xtrace_span_enter(other);
    assert_ptr_equal(xtrace_span_current(), other);
    xtrace_span_leave(other);
    assert_ptr_equal(xtrace_span_current(), child);
    xtrace_span_enter(other);
    assert_int_equal(pthread_create(&thread, NULL, end_span, other), 0);
    pthread_join(thread, NULL);
    assert_ptr_equal(xtrace_span_current(), child); /* the one that ended elsewhere is gone */
    xtrace_span_end(child);
    assert_null(xtrace_span_current());

    /* A remote parent decides, and its trace is not renamed. */
    assert_int_equal(xtrace_context_parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &remote),
                     XTRACE_OK);
    root = xtrace_span_start_in(off, "server", &remote);
    assert_true(xtrace_span_is_recording(root));
    assert_memory_equal(root->record->ids.trace, remote.trace_id, 16);
    xtrace_sender_get_stats(s, &stats);
    const uint64_t before = stats.pending;
    xtrace_span_end(root);
    xtrace_sender_get_stats(s, &stats);
    assert_int_equal(stats.pending, before + 1); /* the span alone */
    remote.sampled = 0;
    root = xtrace_span_start_in(t, "server", &remote);
    assert_false(xtrace_span_is_recording(root));
    xtrace_span_context(root, &a);
    assert_memory_equal(&a, &remote, sizeof a); /* handed on as it came */
    xtrace_span_enter(root);
    child = xtrace_span_start(t, "child");
    assert_false(xtrace_span_is_recording(child));
    xtrace_span_end(child);
    xtrace_span_end(root);

    /* Not sampled: children are not, either; everything can be called. */
    root = xtrace_span_start(off, "root");
    child = xtrace_span_start(t, "child of another tracer");
    assert_false(xtrace_span_is_recording(root));
    assert_false(xtrace_span_is_recording(child));
    assert_int_equal(xtrace_span_set_input(child, "x"), XTRACE_OK);
    assert_int_equal(xtrace_span_event(child, "e", NULL, NULL), XTRACE_OK);
    xtrace_span_context(child, &a);
    assert_int_equal(a.valid, 1);
    assert_int_equal(a.sampled, 0);
    xtrace_span_end(child);
    xtrace_span_end(root);
    assert_null(xtrace_span_current());

    /* Nothing where there should be something. */
    xtrace_span_end(xtrace_span_start(NULL, "x"));
    xtrace_span_end(xtrace_span_start(t, NULL));
    xtrace_span_end(xtrace_span_start(t, "\xff"));
    xtrace_span_end(NULL);
    assert_int_equal(xtrace_span_set_input(NULL, "x"), XTRACE_EINVAL);
    root = xtrace_span_start(t, "root");
    assert_int_equal(xtrace_span_set_input(root, "\xff"), XTRACE_EINVAL);
    assert_int_equal(xtrace_span_set_input_json(root, "{"), XTRACE_EINVAL);
    assert_int_equal(xtrace_span_set_metadata(root, NULL, "x"), XTRACE_EINVAL);
    assert_int_equal(xtrace_span_set_cost(root, NAN), XTRACE_EINVAL);
    assert_int_equal(xtrace_span_set_usage(root, -1, 0, 0), XTRACE_EINVAL);
    assert_int_equal(xtrace_span_add_tag(root, NULL), XTRACE_EINVAL);
    for (int i = 0; i < 100; i++) { /* the last value of a key wins, and no key is there twice */
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        assert_int_equal(xtrace_span_set_metadata_json(root, i % 2 ? "odd" : "even", text), XTRACE_OK);
    }
    assert_string_equal(root->record->meta->json, "98");
    assert_ptr_equal(root->record->meta->next, root->record->meta_last);
    xtrace_span_end(root);

    xtrace_sender_get_stats(s, &stats);
    const uint64_t all = stats.pending;
    xtrace_tracer_free(t);
    xtrace_tracer_free(off);
    assert_int_equal(xtrace_sender_stop(s, 0, &stats), XTRACE_ETIMEOUT);
    assert_int_equal(stats.dropped_stopped, all);
    xtrace_client_free(c);
}

/* ---- memory that ends: arena and buf fail at the n-th allocation ---- */

static void test_no_memory(void **state) {
    static const char page[] =
        "{\"data\":[{\"id\":\"x\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"metadata\":{\"a\":[1,2.5]}}],"
        "\"meta\":{\"page\":1,\"limit\":50,\"totalItems\":1,\"totalPages\":1}}";
    bool succeeded = false;

    (void)state;
    for (uint64_t n = 1; n < 200 && !succeeded; n++) {
        xtrace_trace_list *list = NULL;
        xtrace_error e;
        error_clear(&e);
        alloc_fail_at(n);
        int code = answer_trace_list(page, sizeof page - 1, &list, &e);
        alloc_fail_at(0);
        succeeded = code == XTRACE_OK;
        if (!succeeded)
            assert_null(list);
        xtrace_trace_list_free(list);
    }
    assert_true(succeeded);
}

static void test_wait(void **state) {
    (void)state;
    for (uint64_t r = 0; r < 1000; r++) {
        assert_in_range(retry_wait_ms(200, 5000, 1, -1, r), 100, 200);
        assert_in_range(retry_wait_ms(200, 5000, 3, -1, r), 400, 800);
        assert_in_range(retry_wait_ms(200, 5000, 99, -1, r), 2500, 5000);
        assert_in_range(retry_wait_ms(200, 5000, 1, 7, r), 7000, 7250);
        assert_in_range(retry_wait_ms(200, 5000, 1, 86000, r), 60000, 60250);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_context), cmocka_unit_test(test_bad_records), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_encode),  cmocka_unit_test(test_answers),     cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_spans),   cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
