/* test_otlp_pb.c -- the protobuf reader, and OTLP requests in protobuf: every field, every way to be malformed. */
#include "decoding.h"

#include "base/buf.h"
#include "ingest/pb.h"
#include "json/json_read.h"

static const uint8_t trace_id[16] = { 0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd,
                                      0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c };
static const uint8_t span_id[8] = { 0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31 };

/* ---- a writer ---- */

static void varint(struct buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) {
        buf_add_char(b, (char)(v | 0x80));
    }
    buf_add_char(b, (char)v);
}

static void fixed(struct buf *b, size_t n, uint64_t v) {
    for (size_t i = 0; i < n; i++) {
        buf_add_char(b, (char)(v >> (8 * i)));
    }
}

static void tag(struct buf *b, unsigned number, unsigned wire) { varint(b, number << 3 | wire); }

static void put_int(struct buf *b, unsigned number, uint64_t v) {
    tag(b, number, 0);
    varint(b, v);
}

static void put_fixed64(struct buf *b, unsigned number, uint64_t v) {
    tag(b, number, 1);
    fixed(b, 8, v);
}

static void put_bytes(struct buf *b, unsigned number, const void *p, size_t n) {
    tag(b, number, 2);
    varint(b, n);
    buf_add(b, p, n);
}

static void put_text(struct buf *b, unsigned number, const char *s) { put_bytes(b, number, s, strlen(s)); }

/* Writes `inner` as a message and empties it. */
static void put_message(struct buf *b, unsigned number, struct buf *inner) {
    put_bytes(b, number, inner->p ? inner->p : "", inner->n);
    buf_clear(inner);
}

/* A key and an AnyValue whose bytes are `value`. */
static void put_attribute(struct buf *b, unsigned number, const char *key, struct buf *value) {
    struct buf kv;
    buf_init(&kv, 1 << 20);
    put_text(&kv, 1, key);
    put_message(&kv, 2, value);
    put_message(b, number, &kv);
    buf_done(&kv);
}

static void put_text_attribute(struct buf *b, unsigned number, const char *key, const char *text) {
    struct buf value;
    buf_init(&value, 1 << 20);
    put_text(&value, 1, text);
    put_attribute(b, number, key, &value);
    buf_done(&value);
}

static void put_ids(struct buf *span) {
    put_bytes(span, 1, trace_id, sizeof trace_id);
    put_bytes(span, 2, span_id, sizeof span_id);
}

/* Request with one span in one scope of one resource. The buffers are emptied. */
static void put_request(struct buf *request, struct buf *resource, struct buf *scope, struct buf *span) {
    struct buf spans, resource_spans;
    buf_init(&spans, 1 << 24);
    buf_init(&resource_spans, 1 << 24);
    put_message(&spans, 2, span); /* the spans stand before what they share */
    if (scope) {
        put_message(&spans, 1, scope);
    }
    put_message(&resource_spans, 2, &spans);
    if (resource) {
        put_message(&resource_spans, 1, resource);
    }
    put_message(request, 1, &resource_spans);
    buf_done(&spans);
    buf_done(&resource_spans);
}

static void decode(struct decoded *d, struct str body, struct otlp_rejects *rejects) {
    *rejects = (struct otlp_rejects){ 0, "" };
    decoded_init(d, body);
    d->code = decode_otlp_traces_pb(&d->scratch, d->body, d->b, rejects, &d->err);
    decoded_end_of_call(d);
}

/* Decodes a request with this one span and expects success. */
static void decode_span(struct decoded *d, struct buf *span) {
    struct otlp_rejects rejects;
    struct buf request;
    buf_init(&request, 1 << 24);
    put_request(&request, NULL, NULL, span);
    decode(d, buf_str(&request), &rejects);
    if (d->code != XT_OK) {
        fail_msg("%s", d->err.msg);
    }
    assert_int_equal(rejects.spans, 0);
    assert_int_equal(d->b->nobservations, 1);
    buf_done(&request);
}

/* ---- the wire ---- */

static void fields_of_the_wire(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        int fields; /* -1: malformed */
    } cases[] = {
        { "", 0, 0 },
        { "\x08\x01", 2, 1 },
        { "\x08\x81\x00", 3, 1 },                                       /* longer than needed */
        { "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, 1 },      /* -1 */
        { "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, -1 }, /* eleven bytes */
        { "\x08", 1, -1 },
        { "\x08\x80", 2, -1 },
        { "\x80", 1, -1 },
        { "\x09\1\2\3\4\5\6\7\x08", 9, 1 },
        { "\x09\1\2\3\4\5\6\7", 8, -1 },
        { "\x0d\1\2\3\4", 5, 1 },
        { "\x0d\1\2\3", 4, -1 },
        { "\x0a\x00", 2, 1 },
        { "\x0a\x01", 2, -1 },
        { "\x0a\x02zz\x08\x05", 6, 2 },
        { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, -1 }, /* a length of 2^64 - 1 */
        { "\x0a\xff\xff\xff\xff\x0f", 6, -1 },
        { "\x0b\x0c", 2, -1 }, /* a group */
        { "\x0c", 1, -1 },
        { "\x0e\x00", 2, -1 }, /* wire types 6 and 7 */
        { "\x0f\x00", 2, -1 },
        { "\x00\x00", 2, -1 },                 /* field number 0 */
        { "\xf8\xff\xff\xff\x0f\x00", 6, 1 },  /* the largest number */
        { "\x80\x80\x80\x80\x10\x00", 6, -1 }, /* beyond it */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pb_reader r = pb_open((struct str){ cases[i].bytes, cases[i].n });
        struct pb_field f;
        int fields = 0;
        while (pb_next(&r, &f)) {
            fields++;
        }
        if ((r.bad ? -1 : fields) != cases[i].fields) {
            fail_msg("case %zu: %d fields, bad %d", i, fields, r.bad);
        }
        assert_false(pb_next(&r, &f));
    }
    struct pb_reader none = pb_open(STR_NONE);
    struct pb_field f;
    assert_false(pb_next(&none, &f) || none.bad);
}

/* ---- requests ---- */

static void empty_requests(void **state) {
    (void)state;
    static const struct str bodies[] = {
        { "", 0 }, { "\x0a\x00", 2 }, { "\x0a\x02\x12\x00", 4 }, { "\xba\x3e\x01x", 4 }
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct otlp_rejects rejects;
        struct decoded d;
        decode(&d, bodies[i], &rejects);
        assert_int_equal(d.code, XT_OK);
        assert_int_equal(batch_records(d.b), 0);
        decoded_done(&d);
    }
}

static void every_value(void **state) {
    (void)state;
    struct decoded d;
    struct buf span, v, list, kv;
    buf_init(&span, 1 << 20);
    buf_init(&v, 1 << 20);
    buf_init(&list, 1 << 20);
    buf_init(&kv, 1 << 20);
    put_ids(&span);
    put_text_attribute(&span, 9, "text", "a\xc3\xa9");
    put_int(&v, 2, 1);
    put_attribute(&span, 9, "yes", &v);
    put_int(&v, 2, 0);
    put_attribute(&span, 9, "no", &v);
    put_int(&v, 3, (uint64_t)INT64_MIN);
    put_attribute(&span, 9, "min", &v);
    put_int(&v, 3, (uint64_t)-5);
    put_attribute(&span, 9, "minus", &v);
    put_fixed64(&v, 4, UINT64_C(0x3ff8000000000000));
    put_attribute(&span, 9, "1.5", &v);
    put_fixed64(&v, 4, UINT64_C(0x7ff8000000000000));
    put_attribute(&span, 9, "nan", &v);
    put_bytes(&v, 7, "\0\1\2\xff", 4);
    put_attribute(&span, 9, "bytes", &v);
    put_attribute(&span, 9, "empty", &v);
    put_int(&list, 1, 7); /* a packed or stray scalar among messages is passed over */
    put_text(&v, 1, "x");
    put_message(&list, 1, &v);
    put_message(&list, 1, &v);
    put_message(&v, 5, &list);
    put_attribute(&span, 9, "array", &v);
    put_text_attribute(&kv, 1, "k", "1");
    put_text_attribute(&kv, 1, "k", "2");
    put_message(&v, 6, &kv);
    put_attribute(&span, 9, "map", &v);
    put_message(&v, 5, &list);
    put_attribute(&span, 9, "nothing", &v);
    put_message(&span, 9, &v); /* no key, no value */
    decode_span(&d, &span);
    assert_str(
        d.b->observations[0].metadata,
        "{\"attributes\":{\"text\":\"a\xc3\xa9\",\"yes\":true,\"no\":false,\"min\":-9223372036854775808,\"minus\":-5,"
        "\"1.5\":1.5,\"nan\":\"NaN\",\"bytes\":\"AAEC/"
        "w==\",\"empty\":null,\"array\":[\"x\",null],\"map\":{\"k\":\"2\"},"
        "\"nothing\":[],\"\":null}}");
    decoded_done(&d);
    buf_done(&span);
    buf_done(&v);
    buf_done(&list);
    buf_done(&kv);
}

static void every_field_of_a_span(void **state) {
    (void)state;
    struct otlp_rejects rejects;
    struct decoded d;
    struct buf span, inner, resource, scope, request;
    buf_init(&span, 1 << 20);
    buf_init(&inner, 1 << 20);
    buf_init(&resource, 1 << 20);
    buf_init(&scope, 1 << 20);
    buf_init(&request, 1 << 20);
    put_ids(&span);
    put_text(&span, 3, "vendor=1");
    put_bytes(&span, 4, "\1\2\3\4\5\6\7\x08", 8);
    put_text(&span, 5, "old name");
    put_text(&span, 5, "name"); /* the last one counts */
    put_int(&span, 6, 3);
    put_fixed64(&span, 7, 1000);
    put_fixed64(&span, 8, 3000);
    put_int(&span, 10, 1);
    put_int(&span, 12, 2);
    put_int(&span, 14, 3);
    tag(&span, 16, 5);
    fixed(&span, 4, 257);
    put_fixed64(&inner, 1, 2000);
    put_text(&inner, 2, "e");
    put_text_attribute(&inner, 3, "k", "v");
    put_int(&inner, 4, 4);
    put_message(&span, 11, &inner);
    put_bytes(&inner, 1, trace_id, 16);
    put_bytes(&inner, 2, span_id, 8);
    put_text_attribute(&inner, 4, "l", "w");
    put_int(&inner, 5, 5);
    tag(&inner, 6, 5);
    fixed(&inner, 4, 769);
    put_message(&span, 13, &inner);
    put_text(&inner, 2, "broken");
    put_message(&span, 15, &inner);
    put_int(&inner, 3, 2); /* the status comes in two parts */
    put_message(&span, 15, &inner);
    put_int(&span, 999, 5);
    put_text(&span, 1000, "future");
    put_text_attribute(&resource, 1, "service.name", "svc");
    put_int(&resource, 2, 6);
    put_text(&scope, 1, "lib");
    put_text(&scope, 2, "1");
    put_text_attribute(&scope, 3, "s", "t");
    put_int(&scope, 4, 7);
    put_request(&request, &resource, &scope, &span);
    decode(&d, buf_str(&request), &rejects);
    assert_int_equal(d.code, XT_OK);
    const struct observation *o = &d.b->observations[0];
    assert_str(o->name, "name");
    assert_true(o->start == 1000 && o->end == 3000);
    assert_str(id_print(&d.b->arena, o->parent_id.key, o->parent_id.spell, o->parent_id.text), "0102030405060708");
    assert_str(o->level, "ERROR");
    assert_str(o->status_message, "broken");
    assert_str(
        o->metadata,
        "{\"attributes\":{},\"resourceAttributes\":{\"service.name\":\"svc\"},\"scope\":{\"name\":\"lib\",\"version\":"
        "\"1\",\"attributes\":{\"s\":\"t\"},\"droppedAttributesCount\":7},\"otel\":{\"kind\":\"CLIENT\",\"traceState\":"
        "\"vendor=1\",\"flags\":257,"
        "\"events\":[{\"time\":\"1970-01-01T00:00:00.000002+00:00\",\"name\":\"e\",\"attributes\":{\"k\":\"v\"},"
        "\"droppedAttributesCount\":4}],"
        "\"links\":[{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"b7ad6b7169203331\",\"attributes\":{"
        "\"l\":\"w\"},\"droppedAttributesCount\":5,\"flags\":769}],\"droppedAttributesCount\":1,\"droppedEventsCount\":"
        "2,"
        "\"droppedLinksCount\":3,\"droppedResourceAttributesCount\":6}}");
    decoded_done(&d);
    buf_done(&span);
    buf_done(&inner);
    buf_done(&resource);
    buf_done(&scope);
    buf_done(&request);
}

static void times_beyond_int64_are_absent(void **state) {
    (void)state;
    struct decoded d;
    struct buf span;
    buf_init(&span, 1 << 20);
    put_ids(&span);
    put_fixed64(&span, 7, UINT64_MAX);
    put_fixed64(&span, 8, 0);
    put_int(&span, 6, UINT64_MAX); /* kind -1 */
    decode_span(&d, &span);
    assert_true(d.b->observations[0].start == TIME_NONE && d.b->observations[0].end == TIME_NONE);
    assert_str(d.b->observations[0].metadata, NULL);
    decoded_done(&d);
    buf_done(&span);
}

static void bad_utf8_is_repaired(void **state) {
    (void)state;
    struct decoded d;
    struct buf span;
    buf_init(&span, 1 << 20);
    put_ids(&span);
    put_text(&span, 5,
             "a\xff"
             "b");
    put_text_attribute(&span, 9, "k\xc0", "\xed\xa0\x80v");
    put_text_attribute(&span, 9, "langfuse.observation.model.name", "m\x80");
    decode_span(&d, &span);
    assert_str(d.b->observations[0].name, "a\xef\xbf\xbd"
                                          "b");
    assert_str(d.b->observations[0].model, "m\xef\xbf\xbd");
    assert_true(json_valid(d.b->observations[0].metadata, 10));
    decoded_done(&d);
    buf_done(&span);
}

static void parts_of_a_value_are_one(void **state) {
    (void)state;
    struct decoded d;
    struct buf span, v, list, kv;
    buf_init(&span, 1 << 20);
    buf_init(&v, 1 << 20);
    buf_init(&list, 1 << 20);
    buf_init(&kv, 1 << 20);
    put_ids(&span);
    put_text(&kv, 1, "k");
    for (int i = 0; i < 3; i++) { /* the array value comes in three parts, the value itself in two of them */
        put_int(&v, 3, (uint64_t)i);
        put_message(&list, 1, &v);
        put_message(&v, 5, &list);
        put_message(&kv, 2, &v);
    }
    put_message(&span, 9, &kv);
    put_text(&kv, 1, "j");
    put_message(&v, 5, &list);
    put_message(&kv, 2, &v);
    put_int(&v, 3, 8); /* another kind replaces it */
    put_message(&kv, 2, &v);
    put_message(&span, 9, &kv);
    decode_span(&d, &span);
    assert_str(d.b->observations[0].metadata, "{\"attributes\":{\"k\":[0,1,2],\"j\":8}}");
    decoded_done(&d);
    buf_done(&span);
    buf_done(&v);
    buf_done(&list);
    buf_done(&kv);
}

/* A value of `depth` nested arrays. */
static enum xt_code nested(unsigned depth, bool map) {
    struct otlp_rejects rejects;
    struct decoded d;
    struct buf v, w, span, request;
    buf_init(&v, 1 << 20);
    buf_init(&w, 1 << 20);
    buf_init(&span, 1 << 20);
    buf_init(&request, 1 << 20);
    for (unsigned i = 1; i < depth; i++) {
        if (map) {
            struct buf kv;
            buf_init(&kv, 1 << 20);
            put_message(&kv, 2, &v);
            put_message(&w, 1, &kv);
            buf_done(&kv);
        } else {
            put_message(&w, 1, &v);
        }
        put_message(&v, map ? 6 : 5, &w);
    }
    put_ids(&span);
    put_attribute(&span, 9, "deep", &v);
    put_request(&request, NULL, NULL, &span);
    decode(&d, buf_str(&request), &rejects);
    if (d.code == XT_OK) {
        assert_true(json_valid(d.b->observations[0].metadata, 1000));
    }
    decoded_done(&d);
    buf_done(&v);
    buf_done(&w);
    buf_done(&span);
    buf_done(&request);
    return d.code;
}

static void nesting_is_limited(void **state) {
    (void)state;
    assert_int_equal(nested(99, false), XT_OK);
    assert_int_equal(nested(100, false), XT_OK);
    assert_int_equal(nested(101, false), XT_EINVAL);
    assert_int_equal(nested(100, true), XT_OK);
    assert_int_equal(nested(101, true), XT_EINVAL);
    assert_int_equal(nested(5000, false), XT_EINVAL);
}

/* A request cut at every byte, and with every byte changed: an answer, and JSON that is JSON. */
static void damaged_requests(void **state) {
    (void)state;
    struct buf span, v, kv, request, resource;
    buf_init(&span, 1 << 20);
    buf_init(&v, 1 << 20);
    buf_init(&kv, 1 << 20);
    buf_init(&request, 1 << 20);
    buf_init(&resource, 1 << 20);
    put_ids(&span);
    put_text(&span, 5, "name");
    put_text_attribute(&kv, 1, "k", "v");
    put_message(&v, 6, &kv);
    put_attribute(&span, 9, "map", &v);
    put_text_attribute(&span, 9, "langfuse.observation.usage_details", "{\"input\":1}");
    put_text_attribute(&span, 9, "langfuse.trace.tags", "a,b");
    put_text_attribute(&resource, 1, "langfuse.environment", "e");
    put_request(&request, &resource, NULL, &span);
    for (size_t i = 0; i < request.n; i++) {
        for (int change = 0; change < 9; change++) {
            struct otlp_rejects rejects;
            struct decoded d;
            char saved = request.p[i];
            unsigned bit = change == 0 ? 0 : 1U << (change - 1);
            request.p[i] = (char)((unsigned char)saved ^ bit);
            decode(&d, (struct str){ request.p, change == 0 ? i : request.n }, &rejects);
            request.p[i] = saved;
            assert_true(d.code == XT_OK || (d.code == XT_EINVAL && str_starts(str_c(d.err.msg), "invalid protobuf: ")));
            for (size_t k = 0; d.code == XT_OK && k < d.b->nobservations; k++) {
                struct str metadata = d.b->observations[k].metadata;
                assert_true(!str_has(metadata) || json_valid(metadata, 1000));
            }
            decoded_done(&d);
        }
    }
    buf_done(&span);
    buf_done(&v);
    buf_done(&kv);
    buf_done(&request);
    buf_done(&resource);
}

static void a_full_arena_is_too_big(void **state) {
    (void)state;
    struct buf span, request;
    buf_init(&span, 1 << 24);
    buf_init(&request, 1 << 24);
    put_ids(&span);
    for (int i = 0; i < 100000; i++) {
        put_bytes(&span, 9, "", 0);
    }
    put_request(&request, NULL, NULL, &span);
    struct otlp_rejects rejects;
    struct decoded d;
    decoded_init(&d, buf_str(&request));
    d.scratch.limit = 1 << 20;
    assert_int_equal(decode_otlp_traces_pb(&d.scratch, d.body, d.b, &rejects, &d.err), XT_ETOOBIG);
    decoded_done(&d);
    buf_done(&span);
    buf_done(&request);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_of_the_wire),
        cmocka_unit_test(empty_requests),
        cmocka_unit_test(every_value),
        cmocka_unit_test(every_field_of_a_span),
        cmocka_unit_test(times_beyond_int64_are_absent),
        cmocka_unit_test(bad_utf8_is_repaired),
        cmocka_unit_test(parts_of_a_value_are_one),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(damaged_requests),
        cmocka_unit_test(a_full_arena_is_too_big),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
