/* test_otlp_trace.c -- the traces that spans make: what they say together, and in which order. */
#include "otlp_spans.h"

static void the_root_wins_else_the_first(void **state) {
    (void)state;
    struct decoded d;
    /* clang-format off */
    decode(&d, "", "",
           SPAN(ID1, PARENT(ID3) ATTRS(TEXT("user.id", "u1") ","
                                       TEXT("session.id", "s1") "," TEXT("langfuse.trace.name", "n1"))) ","
           SPAN(ID2, PARENT(ID3) ATTRS(TEXT("user.id", "u2") "," TEXT("langfuse.release", "r2"))) ","
           SPAN(ID3, ATTRS(TEXT("user.id", "u3"))));
    /* clang-format on */
    const struct trace *t = &d.b->traces[0];
    assert_int_equal(d.b->ntraces, 1);
    assert_str(t->user, "u3");
    assert_str(t->session, "s1");
    assert_str(t->release, "r2");
    assert_str(t->name, "n1");
    assert_false(t->name_weak);
    /* What a span below the root said stays on it, whether it won or not. */
    assert_str(d.b->observations[0].metadata,
               "{\"attributes\":{\"user.id\":\"u1\",\"session.id\":\"s1\",\"langfuse.trace.name\":\"n1\"}}");
    assert_str(d.b->observations[1].metadata, "{\"attributes\":{\"user.id\":\"u2\",\"langfuse.release\":\"r2\"}}");
    assert_str(d.b->observations[2].metadata, NULL);
    decoded_done(&d);
    decode(&d, "", "", SPAN(ID1, PARENT(ID3)) "," SPAN(ID2, ""));
    assert_str(d.b->traces[0].name, "span " ID2);
    assert_true(d.b->traces[0].name_weak);
    decoded_done(&d);
    decode(&d, "", "", SPAN(ID1, PARENT(ID3)));
    assert_str(d.b->traces[0].name, NULL);
    assert_false(d.b->traces[0].name_weak);
    decoded_done(&d);
    decode(&d, "", "", SPAN(ID1, PARENT(ID3) ATTRS(ATTR("langfuse.internal.as_root", "\"boolValue\":true"))));
    assert_str(d.b->traces[0].name, "span " ID1);
    assert_true(id_has(&d.b->observations[0].parent_id));
    assert_str(d.b->observations[0].metadata, "{\"attributes\":{\"langfuse.internal.as_root\":true}}");
    decoded_done(&d);
}

static void tags_of_all_forms_are_united(void **state) {
    (void)state;
    static const char *const want[] = { "a", "b", "5", "c d", "e", "f", "g" };
    struct decoded d;
    /* clang-format off */
    decode(&d, "", "",
           SPAN(ID1, ATTRS(ATTR("langfuse.trace.tags",
                                "\"arrayValue\":{\"values\":[{\"stringValue\":\"a\"},{\"stringValue\":\"b\"},"
                                "{},{\"stringValue\":\"\"},{\"intValue\":5},{\"stringValue\":\"a\"}]}"))) ","
           SPAN(ID2, ATTRS(TEXT("langfuse.tags", " b ,c d,, e"))) ","
           SPAN(ID3, ATTRS(TEXT("langfuse.trace.tags", "[\\\"f\\\",\\\"a\\\",null,\\\"\\\"]"))) ","
           SPAN("b7ad6b7169203334", ATTRS(TEXT("langfuse.observation.metadata.langfuse_tags", "g"))));
    /* clang-format on */
    const struct trace *t = &d.b->traces[0];
    assert_true(t->tags_has);
    assert_int_equal(t->ntags, sizeof want / sizeof *want);
    for (size_t i = 0; i < t->ntags; i++) {
        assert_str(t->tags[i], want[i]);
    }
    decoded_done(&d);
    decode(&d, "", "", SPAN(ID1, ATTRS(ATTR("langfuse.trace.tags", "\"arrayValue\":{}"))));
    assert_false(d.b->traces[0].tags_has);
    decoded_done(&d);
}

static void public_stays_true(void **state) {
    (void)state;
    struct decoded d;
    /* clang-format off */
    decode(&d, "", "",
           SPAN(ID1, ATTRS(ATTR("langfuse.trace.public", "\"boolValue\":false"))) ","
           SPAN(ID2, ATTRS(TEXT("langfuse.public", "true"))) ","
           SPAN(ID3, ATTRS(ATTR("langfuse.trace.public", "\"boolValue\":false"))));
    /* clang-format on */
    assert_int_equal(d.b->traces[0].is_public, TRI_TRUE);
    decoded_done(&d);
    decode(&d, "", "", SPAN(ID1, ""));
    assert_int_equal(d.b->traces[0].is_public, TRI_NONE);
    decoded_done(&d);
}

static void trace_metadata_merges_by_key(void **state) {
    (void)state;
    struct decoded d;
    /* clang-format off */
    decode(&d, "", "",
           SPAN(ID1, ATTRS(TEXT("langfuse.trace.metadata.a", "1") "," TEXT("langfuse.trace.metadata.q", "\\\""))) ","
           SPAN(ID2, ATTRS(TEXT("langfuse.trace.metadata.b", "[1]") "," TEXT("langfuse.trace.metadata.a", "1"))) ","
           SPAN(ID3, ATTRS(TEXT("langfuse.trace.metadata.a", "2") "," TEXT("langfuse.trace.metadata.q", "\\\\\\\""))));
    /* clang-format on */
    assert_str(d.b->traces[0].metadata, "{\"a\":\"2\",\"q\":\"\\\\\\\"\",\"b\":[1]}");
    decoded_done(&d);
}

static void traces_come_in_order_of_appearance(void **state) {
    (void)state;
    struct decoded d;
    decode(&d, "", "",
           "{\"traceId\":\"00000000000000000000000000000002\",\"spanId\":\"" ID1 "\",\"name\":\"x\"},"
           "{\"traceId\":\"00000000000000000000000000000001\",\"spanId\":\"" ID1 "\",\"name\":\"y\"},"
           "{\"traceId\":\"00000000000000000000000000000002\",\"spanId\":\"" ID2 "\",\"parentSpanId\":\"" ID1 "\"}");
    assert_int_equal(d.b->ntraces, 2);
    assert_int_equal(d.b->nobservations, 3);
    assert_str(d.b->traces[0].name, "x");
    assert_str(d.b->traces[1].name, "y");
    assert_true(str_eq(d.b->observations[2].trace_id.key, d.b->traces[0].id.key));
    assert_str(d.b->observations[2].name, "");
    decoded_done(&d);
}

/* One trace, 20,000 spans, each with a metadata key, a tag and a session of its own: nothing may be quadratic. */
static void many_spans_of_one_trace(void **state) {
    (void)state;
    const int n = 20000;
    struct buf spans;
    struct decoded d;
    buf_init(&spans, (size_t)1 << 28);
    for (int i = 0; i < n; i++) {
        buf_printf(&spans,
                   "%s{\"traceId\":\"" TRACE "\",\"spanId\":\"%016x\"" ATTRS(
                       TEXT("langfuse.trace.metadata.k%d", "v%d") "," TEXT("langfuse.tags", "t%d")) "}",
                   i ? "," : "", (unsigned)i + 1, i, i, i);
    }
    decode(&d, "", "", spans.p);
    buf_done(&spans);
    assert_int_equal(d.b->nobservations, n);
    assert_int_equal(d.b->traces[0].ntags, n);
    assert_true(str_ends(d.b->traces[0].metadata, ",\"k19999\":\"v19999\"}"));
    decoded_done(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_root_wins_else_the_first),
        cmocka_unit_test(tags_of_all_forms_are_united),
        cmocka_unit_test(public_stays_true),
        cmocka_unit_test(trace_metadata_merges_by_key),
        cmocka_unit_test(traces_come_in_order_of_appearance),
        cmocka_unit_test(many_spans_of_one_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
