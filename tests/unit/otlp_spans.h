/* otlp_spans.h -- spans for the tests of what they become, written down as OTLP JSON, which is shorter than structs; the
 * forms of the wire have tests of their own. */
#pragma once
#include "decoding.h"

#include "base/buf.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"

/* Decodes spans (JSON texts of an array's inside) below a scope and a resource. */
static inline void decode(struct decoded *d, const char *resource, const char *scope, const char *spans) {
    struct otlp_rejects rejects = { 0, "" };
    struct buf text;
    buf_init(&text, (size_t)1 << 28);
    buf_printf(&text, "{\"resourceSpans\":[{%s%s\"scopeSpans\":[{%s%s\"spans\":[", resource, resource[0] ? "," : "",
               scope, scope[0] ? "," : "");
    buf_add_c(&text, spans);
    buf_add_c(&text, "]}]}]}");
    assert_false(text.failed);
    decoded_init(d, buf_str(&text));
    d->code = decode_otlp_traces_json(&d->scratch, d->body, d->b, true, &rejects, &d->err);
    decoded_end_of_call(d);
    buf_done(&text);
    if (d->code != XT_OK) {
        fail_msg("%s: %s", spans, d->err.msg);
    }
}

/* {"key":k,"value":{...}} for each attribute given as k and the inside of its value. */
#define ATTR(key, value) "{\"key\":\"" key "\",\"value\":{" value "}}"
#define TEXT(key, text) ATTR(key, "\"stringValue\":\"" text "\"")
#define SPAN(id, more) "{\"traceId\":\"" TRACE "\",\"spanId\":\"" id "\",\"name\":\"span " id "\"" more "}"
#define ID1 "b7ad6b7169203331"
#define ID2 "b7ad6b7169203332"
#define ID3 "b7ad6b7169203333"
#define PARENT(id) ",\"parentSpanId\":\"" id "\""
#define ATTRS(list) ",\"attributes\":[" list "]"

static inline void decode_attributes(struct decoded *d, const char *scope, const char *attributes) {
    char spans[4096];
    snprintf(spans, sizeof spans, SPAN(ID1, ",\"attributes\":[%s]"), attributes);
    decode(d, "", scope, spans);
}
