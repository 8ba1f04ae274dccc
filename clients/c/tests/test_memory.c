/* test_memory.c -- every n-th allocation of the library fails once: nothing crashes or leaks, and what was lost is
 * counted. The linker puts failing_* in the place of the library's calls of malloc and its kin (Makefile, --wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "xtrace.h"

static _Atomic long countdown; /* 0: nothing fails */

static int due(void) { return atomic_load(&countdown) > 0 && atomic_fetch_sub(&countdown, 1) == 1; }

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
void *__wrap_malloc(size_t n) { return due() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return due() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return due() ? NULL : __real_realloc(p, n); }
char *__wrap_strdup(const char *s) { return due() ? NULL : __real_strdup(s); }

/* What a program does with the library, whatever fails. Returns the records that it handed over. */
static void use_it(xtrace_sender_stats *stats) {
    const char *const tags[] = { "a", "b" };
    xtrace_options o;
    xtrace_sender_options so;
    xtrace_tracer_options to;
    xtrace_trace t;
    xtrace_error e;

    xtrace_options_init(&o);
    o.base_url = "http://127.0.0.1:9";
    o.token = "t";
    o.max_attempts = 1;
    xtrace_sender_options_init(&so);
    so.max_delay_ms = 60000;
    xtrace_tracer_options_init(&to);
    to.environment = "test";
    to.span_duration = 1;
    xtrace_client *c = xtrace_client_new(&o, &e);
    xtrace_sender *s = xtrace_sender_new(c, &so, &e);
    xtrace_tracer *tr = xtrace_tracer_new(s, &to, &e);

    xtrace_trace_init(&t);
    t.id = "11111111-2222-3333-4444-555555555555";
    t.tags = tags;
    t.tag_count = 2;
    t.metadata_json = "{\"a\":1}";
    (void)xtrace_ingest_batch(c, &t, NULL, 0, NULL, NULL, &e);
    (void)xtrace_send_trace(s, &t, &e);
    xtrace_span *root = xtrace_span_start(tr, "root");
    xtrace_span *child = xtrace_generation_start(tr, "child", "model");
    (void)xtrace_span_set_user(child, "u");
    (void)xtrace_span_add_tag(child, "tag");
    (void)xtrace_span_set_metadata(child, "k", "v");
    (void)xtrace_span_set_output(child, "text");
    (void)xtrace_span_event(child, "event", "DEFAULT", "message");
    (void)xtrace_metric_event(tr, "m", 1, NULL, &e);
    xtrace_span_end(child);
    xtrace_span_end(root);
    assert_null(xtrace_span_current());
    xtrace_tracer_free(tr);
    (void)xtrace_sender_stop(s, 0, stats);
    xtrace_client_free(c);
}

static void test_each_allocation(void **state) {
    xtrace_sender_stats all, some;
    long n = 1;

    (void)state;
    use_it(&all);
    assert_int_equal(all.dropped_stopped, 8); /* trace, root, child, event, point, their trace, two durations */
    for (long left = 0; left == 0 && n < 1000; n++) {
        atomic_store(&countdown, n);
        use_it(&some);
        left = atomic_exchange(&countdown, 0);
        assert_true(some.dropped_stopped + some.dropped_memory <= all.dropped_stopped);
    }
    assert_in_range(n, 20, 999); /* many failed, and the last run met no failure */
}

/* A span for which there is no memory is counted once; an event, too. */
static void test_lost_spans(void **state) {
    xtrace_options o;
    xtrace_sender_options so;
    xtrace_sender_stats stats;

    (void)state;
    xtrace_options_init(&o);
    o.base_url = "http://127.0.0.1:9";
    o.token = "t";
    xtrace_sender_options_init(&so);
    so.max_delay_ms = 60000;
    xtrace_client *c = xtrace_client_new(&o, NULL);
    xtrace_sender *s = xtrace_sender_new(c, &so, NULL);
    xtrace_tracer *t = xtrace_tracer_new(s, NULL, NULL);
    assert_non_null(t);
    xtrace_span *root = xtrace_span_start(t, "root");
    for (uint64_t n = 1; n <= 2; n++) { /* the span, its record */
        atomic_store(&countdown, (long)n);
        xtrace_span *child = xtrace_span_start(t, "child");
        assert_int_equal(atomic_exchange(&countdown, 0), 0);
        assert_int_equal(xtrace_span_is_recording(child), 0);
        xtrace_span_end(child);
        xtrace_sender_get_stats(s, &stats);
        assert_int_equal(stats.dropped_memory, 2 * n - 1);
        atomic_store(&countdown, (long)n);
        assert_int_equal(xtrace_span_event(root, "event", NULL, NULL), XTRACE_ENOMEM);
        assert_int_equal(atomic_exchange(&countdown, 0), 0);
        xtrace_sender_get_stats(s, &stats);
        assert_int_equal(stats.dropped_memory, 2 * n);
    }
    xtrace_span_end(root);
    xtrace_tracer_free(t);
    (void)xtrace_sender_stop(s, 0, &stats);
    assert_int_equal(stats.dropped_stopped, 2);
    xtrace_client_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_each_allocation), cmocka_unit_test(test_lost_spans) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
