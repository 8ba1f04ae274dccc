/* test_edges.c -- arguments that are missing, short, cut or too much; spans that say a thing many times. No server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "answer.h"
#include "client.h"
#include "record.h"
#include "tracer.h"

/* ---- _init functions ---- */

static void test_init(void **state) {
    unsigned char short_one[sizeof(xtrace_observation)];

    (void)state;
#define INIT(name)                                                                  \
    do {                                                                            \
        size_t size;                                                                \
        name##_init_sized(NULL, sizeof(name));                                      \
        memset(short_one, 0x55, sizeof short_one);                                  \
        name##_init_sized((name *)(void *)short_one, sizeof(size_t) - 1);           \
        assert_int_equal(short_one[0], 0x55); /* no room for a size: not touched */ \
        name##_init_sized((name *)(void *)short_one, sizeof(size_t));               \
        memcpy(&size, short_one, sizeof size);                                      \
        assert_int_equal(size, sizeof(size_t));                                     \
        assert_int_equal(short_one[sizeof(size_t)], 0x55);                          \
    } while (0)
    INIT(xtrace_options);
    INIT(xtrace_call);
    INIT(xtrace_trace);
    INIT(xtrace_observation);
    INIT(xtrace_metric);
    INIT(xtrace_trace_query);
    INIT(xtrace_daily_query);
    INIT(xtrace_metric_query);
    INIT(xtrace_sender_options);
    INIT(xtrace_tracer_options);
    INIT(xtrace_metric_fields);
}

/* ---- NULL where something is wanted ---- */

static void test_null(void **state) {
    xtrace_sender_stats stats;
    xtrace_context context;
    xtrace_error e;

    (void)state;
    xtrace_context_format(NULL, NULL);
    memset(&context, 1, sizeof context);
    xtrace_context_format(&context, NULL);
    assert_int_equal(xtrace_context_parse(NULL, NULL), XTRACE_EINVAL);
    assert_int_equal(xtrace_sender_flush(NULL, 1), XTRACE_EINVAL);
    memset(&stats, 1, sizeof stats);
    xtrace_sender_get_stats(NULL, &stats);
    assert_int_equal(stats.pending, 0);
    xtrace_sender_get_stats(NULL, NULL);
    assert_int_equal(xtrace_send_trace(NULL, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "sender");
    assert_int_equal(xtrace_send_metric(NULL, NULL, NULL), XTRACE_EINVAL);
    assert_int_equal(xtrace_metric_event(NULL, "m", 1, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "tracer");
    xtrace_tracer_free(NULL);
    xtrace_span_enter(NULL);
    xtrace_span_leave(NULL);
    xtrace_span_context(NULL, &context);
    assert_int_equal(context.valid, 0);
    xtrace_span_context(NULL, NULL);
    assert_int_equal(xtrace_span_is_recording(NULL), 0);
    assert_int_equal(xtrace_span_event(NULL, "e", NULL, NULL), XTRACE_EINVAL);
    assert_int_equal(xtrace_ingest_batch(NULL, NULL, NULL, 0, NULL, NULL, &e), XTRACE_EINVAL);
    assert_int_equal(xtrace_get_trace(NULL, "x", NULL, NULL, &e), XTRACE_EINVAL);
    xtrace_trace_list_free(NULL);
    xtrace_ingest_result_free(NULL);
}

/* ---- credentials and parameters ---- */

static xtrace_client *client(void) {
    xtrace_options o;

    xtrace_options_init(&o);
    o.base_url = "http://127.0.0.1:9";
    o.token = "t";
    o.max_attempts = 1;
    return xtrace_client_new(&o, NULL);
}

static void test_half_a_pair(void **state) {
    xtrace_options o;
    xtrace_error e;

    (void)state;
    unsetenv("API_BEARER_TOKEN");
    unsetenv("XTRACE_PUBLIC_KEY");
    unsetenv("XTRACE_SECRET_KEY");
    xtrace_options_init(&o);
    o.public_key = "p";
    assert_null(xtrace_client_new(&o, &e));
    assert_string_equal(e.argument, "secret_key");
    o.public_key = NULL;
    o.secret_key = "s";
    assert_null(xtrace_client_new(&o, &e));
    assert_string_equal(e.argument, "public_key");
    o.token = "t"; /* wins */
    xtrace_client *c = xtrace_client_new(&o, &e);
    assert_non_null(c);
    xtrace_client_free(c);
}

/* The header line ends behind the credential, whatever stood in that memory before. */
static void test_basic(void **state) {
    xtrace_options o;
    volatile char *before = malloc(256);

    (void)state;
    assert_true(before != NULL);
    for (int i = 0; i < 256; i++)
        before[i] = 'x';
    free((void *)(uintptr_t)before);
    xtrace_options_init(&o);
    o.public_key = "pk";
    o.secret_key = "s:k";
    xtrace_client *c = xtrace_client_new(&o, NULL);
    assert_non_null(c);
    assert_string_equal(c->authorization, "Authorization: Basic cGs6czpr");
    xtrace_client_free(c);
}

static void test_parameters(void **state) {
    xtrace_client *c = client();
    char *huge = malloc((size_t)100 << 20);
    const char *const tags[] = { "good", "\xc3" };
    xtrace_trace_query q;
    xtrace_metric_query m;
    xtrace_trace_list *list;
    xtrace_metric_result *result;
    xtrace_error e;

    (void)state;
    assert_non_null(c);
    assert_non_null(huge);
    memset(huge, 'x', (size_t)100 << 20);
    huge[((size_t)100 << 20) - 1] = '\0';
    xtrace_trace_query_init(&q);
    q.user_id = huge;
    assert_int_equal(xtrace_list_traces(c, &q, &list, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "userId");
    q.user_id = "\xff";
    assert_int_equal(xtrace_list_traces(c, &q, &list, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "userId");
    q.user_id = NULL;
    q.tags = tags;
    q.tag_count = 2;
    assert_int_equal(xtrace_list_traces(c, &q, &list, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "tags");
    xtrace_metric_query_init(&m);
    m.name = huge;
    assert_int_equal(xtrace_query_metrics(c, &m, &result, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "name");
    free(huge);
    xtrace_client_free(c);
}

/* Two structures of one array that say different sizes: the second is not where it says. */
static void test_array(void **state) {
    xtrace_client *c = client();
    xtrace_metric m[2];
    xtrace_error e;

    (void)state;
    for (int i = 0; i < 2; i++) {
        xtrace_metric_init(&m[i]);
        m[i].name = "m";
        m[i].value = 1;
    }
    m[1].size += 64;
    assert_int_equal(xtrace_push_metrics(c, m, 2, NULL, &e), XTRACE_EINVAL);
    assert_string_equal(e.argument, "metrics");
    xtrace_client_free(c);
}

/* A list whose traces hold whole observations has no ids of observations. */
static void test_observations_of_a_list(void **state) {
    static const char page[] =
        "{\"data\":[{\"id\":\"x\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"observations\":[{},{}]}],"
        "\"meta\":{\"page\":1,\"limit\":50,\"totalItems\":1,\"totalPages\":1}}";
    xtrace_trace_list *list;

    (void)state;
    assert_int_equal(answer_trace_list(page, sizeof page - 1, &list, NULL), XTRACE_OK);
    assert_int_equal(list->items[0].observation_count, 0);
    assert_null(list->items[0].observation_ids);
    xtrace_trace_list_free(list);
}

static void test_no_hot_loop(void **state) {
    (void)state;
    assert_true(retry_wait_ms(1, 1, 1, -1, 0) >= 1);
}

/* ---- spans ---- */

static void test_span_texts(void **state) {
    enum { MOST = 10000 };
    xtrace_client *c = client();
    xtrace_sender_options so;
    char name[MOST + 8], text[4000];

    (void)state;
    xtrace_sender_options_init(&so);
    so.max_delay_ms = 60000;
    so.max_record_bytes = MOST;
    struct xtrace_sender *s = xtrace_sender_new(c, &so, NULL);
    xtrace_tracer *t = xtrace_tracer_new(s, NULL, NULL);
    assert_non_null(t);

    /* Each value takes the place of the one before, and its room. */
    xtrace_span *span = xtrace_span_start(t, "span");
    const size_t before = span->record->bytes;
    memset(text, 'x', sizeof text);
    for (size_t n = 0; n < 4000; n++) {
        text[n] = '\0';
        assert_int_equal(xtrace_span_set_output(span, text), XTRACE_OK);
        assert_int_equal(xtrace_span_set_metadata(span, "k", text), XTRACE_OK);
        text[n] = 'x';
    }
    assert_int_equal(strlen(span->record->v.observation.output_json), 3999 + 2);
    assert_int_equal(strlen(span->record->meta->json), 3999 + 2);
    assert_true(span->record->bytes < before + 8500);
    assert_null(span->record->meta->next);
    /* An entry that cannot be taken leaves nothing behind. */
    const size_t now = span->record->bytes;
    assert_int_equal(xtrace_span_set_metadata_json(span, "other", "{"), XTRACE_EINVAL);
    assert_int_equal(span->record->bytes, now);
    xtrace_span_end(span);

    /* A name that is too long is cut, but not within a character. */
    memset(name, 'x', sizeof name);
    memcpy(name + MOST - 1, "\xc3\xa4", 3);
    span = xtrace_span_start(t, name);
    assert_int_equal(strlen(span->record->v.observation.name), MOST - 1);
    xtrace_span_end(span);
    xtrace_tracer_free(t);
    (void)xtrace_sender_stop(s, 0, NULL);
    xtrace_client_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_half_a_pair),
        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_array),
        cmocka_unit_test(test_observations_of_a_list),
        cmocka_unit_test(test_no_hot_loop),
        cmocka_unit_test(test_span_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
