#!/usr/bin/env python3
"""OTLP traces on both paths, and the protocol's own demands on /v1/traces."""
# engines: ci
# timeout: 180
import gzip
import json
import os
import sys
import zlib
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from otlp import new_span, new_trace, uuid_of
from xt import *

T = Suite()
OWN, STD = "/api/public/otel/v1/traces", "/v1/traces"
PB, JSON = "application/x-protobuf", "application/json"
NS = 1767225600000000000                                # 2026-01-01T00:00:00Z


def span(name="work", trace=None, **more):
    return dict({"trace": new_trace() if trace is None else trace, "span": new_span(), "name": name, "start": NS, "end": NS + 1500000000}, **more)


def export(s, spans, path=OWN, form="json", resource=None, scope=("test", "1"), status=200, **opts):
    body = otlp.request_pb(spans, resource, scope) if form == "pb" else otlp.request_json(spans, resource, scope)
    r = s.quick("POST", path, body, ct=PB if form == "pb" else JSON, **opts)
    must(r.status == status, "%s %s answered %r" % (path, form, r))
    return r


def attr_value(v):
    """An attribute in raw JSON, for forms that a serialiser would not write."""
    return '{"key":"x","value":%s}' % v


def raw_request(trace, span, extra="", attributes=""):
    return ('{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"%s","name":"n",'
            '"startTimeUnixNano":"1767225600000000000"%s,"attributes":[%s]}]}]}]}' % (trace, span, extra, attributes))


def sent_attribute(observation, key):
    """An attribute that no rule took: it stands in metadata, at its top or under `attributes`."""
    meta = observation["metadata"] or {}
    return meta[key] if key in meta else (meta.get("attributes") or {}).get(key)


def only(s, trace):
    got = s.trace(trace)["observations"]
    must(len(got) == 1, "%d observations" % len(got))
    return got[0]


def status_of(r, form):
    """code and message of a google.rpc.Status in the request's encoding."""
    if form == "pb":
        must(r.h("content-type") == PB, "content-type %s" % r.h("content-type"))
        return otlp.status_answer(r.body)
    must(r.h("content-type").split(";")[0] == JSON, "content-type %s" % r.h("content-type"))
    return r.json.get("code"), r.json.get("message")


with T.server() as s:
    for path in (OWN, STD):
        @T.case("O01 one span as JSON, readable under the hex id and its UUID (%s)" % path)
        def _():
            sp = span(parent=new_span())
            r = export(s, [sp], path)
            assert r.text == "{}" and r.h("content-type") == "application/json", (r, r.headers)
            for id in (sp["trace"], uuid_of(sp["trace"]), sp["trace"].upper()):
                holds({"id": sp["trace"], "timestamp": "2026-01-01T00:00:00Z", "environment": "default",
                       "observations": [{"id": sp["span"], "traceId": sp["trace"], "parentObservationId": sp["parent"], "name": "work",
                                         "type": "SPAN", "level": "DEFAULT", "startTime": "2026-01-01T00:00:00Z",
                                         "endTime": "2026-01-01T00:00:01.500Z", "latency": 1.5}]}, s.trace(id))

        for form, coding, pack in (("pb", None, bytes), ("pb", "gzip", gzip.compress), ("json", "gzip", gzip.compress),
                                   ("json", "deflate", zlib.compress), ("pb", "zstd", zstd_raw), ("json", "identity", bytes)):
            @T.case("O02 %s, %s gives the same result (%s)" % (form, coding, path))
            def _():
                t = new_trace()
                spans = [span(trace=t, attrs={"user.id": "u", "a": 1}), span("second", t, start=NS + 5, status=(2, "boom"))]
                body = otlp.request_pb(spans, {"r": "v"}) if form == "pb" else json.dumps(otlp.request_json(spans, {"r": "v"})).encode()
                r = s.quick("POST", path, pack(body), ct=PB if form == "pb" else JSON,
                            headers=[("Content-Encoding", coding)] if coding else [])
                assert r.status == 200, r
                if form == "pb":
                    assert r.body == b"" and r.h("content-type") == PB, (r, r.headers)
                else:
                    assert r.text == "{}", r
                holds({"userId": "u", "observations": [lambda o: o["id"] == spans[0]["span"] and sent_attribute(o, "a") == 1,
                                                       {"id": spans[1]["span"], "level": "ERROR", "statusMessage": "boom"}]}, s.trace(t))

        @T.case("O05 spans with bad ids among good ones are left out alone (%s)" % path)
        def _():
            t = new_trace()
            good = [span("g%d" % i, t) for i in range(3)]
            wrong = [span("b", t, span=new_span()[:14]), span("b", new_trace()[:30]), span("b", t, span=""), span("b", ""),
                     span("b", t, span="0" * 16), span("b", "0" * 32)]
            for form in ("pb", "json"):
                r = export(s, [good[0]] + wrong + good[1:], path, form)
                if path == STD:
                    if form == "pb":
                        rejected, text = otlp.export_answer(r.body)
                    else:
                        partial = r.json["partialSuccess"]
                        rejected, text = int(partial["rejectedSpans"]), partial["errorMessage"]
                    assert rejected == len(wrong) and text, (rejected, text)
            assert sorted(o["name"] for o in s.trace(t)["observations"]) == ["g0", "g1", "g2"]

    T.rows(s, [
        ("O03 what cannot be read is 400 with the original's words",
            post(OWN, "{}", 400, err("BAD_REQUEST", "unsupported content-type: text/plain"), ct="text/plain"),
            post(OWN, b"\x1f\x8bnot", 400, err("BAD_REQUEST", "gzip decode failed"), headers=[("Content-Encoding", "gzip")]),
            post(OWN, gzip.compress(b'{"resourceSpans":[]}')[:-9], 400, err("BAD_REQUEST", "gzip decode failed"),
                 headers=[("Content-Encoding", "gzip")]),
            post(OWN, "{bad", 400, err("BAD_REQUEST", "invalid json")), post(OWN, "{}", 400, err("BAD_REQUEST", "invalid json")),
            post(OWN, "", 400, err("BAD_REQUEST", "invalid json")), post(OWN, '{"resourceSpans":[]} x', 400, err("BAD_REQUEST", "invalid json")),
            post(OWN, b"\xff\xff\xff", 400, err("BAD_REQUEST", "invalid protobuf"), ct=PB),
            post(OWN, '{"resourceSpans":{}}', 400, err("BAD_REQUEST", "invalid json")),
            post(OWN, '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":5}]}]}]}', (200, 400))),
        ("O03 an empty request is a success",
            post(OWN, '{"resourceSpans":[]}', 200, "{}"), post(OWN, '{"resourceSpans":[]}', 200, "{}", ct=None),
            post(OWN, '{"resourceSpans":[]}', 200, "{}", ct="application/json; charset=utf-8"), post(OWN, b"", 200, b"", ct=PB),
            post(STD, "{}", 200, "{}"), post(STD, b"", 200, b"", ct=PB), post(STD, '{"resourceSpans":null}', 200, "{}"),
            post(STD, '{"resourceSpans":[{},{"scopeSpans":[{}]},{"scopeSpans":null}]}', 200, "{}")),
    ])

    @T.case("/v1/traces: errors are google.rpc.Status in the request's encoding")
    def _():
        bomb = gzip.compress(b" " * 95000000)
        for form, body, opts, status, code in [
                ("json", "{bad", {}, 400, 3), ("json", "", {}, 400, 3), ("pb", b"\xff\xff", {}, 400, 3),
                ("pb", otlp.request_pb([span()])[:-3], {}, 400, 3),
                ("json", "{}", {"auth": None}, 401, 16), ("pb", b"", {"auth": None}, 401, 16),
                ("json", gzip.compress(b"{}")[:-4], {"headers": [("Content-Encoding", "gzip")]}, 400, 3),
                ("pb", bomb, {"headers": [("Content-Encoding", "gzip")]}, 413, ANY),
                ("json", b" " * 20971521, {}, 413, ANY)]:
            r = s.quick("POST", STD, body, ct=PB if form == "pb" else JSON, **opts)
            assert r.status == status, (form, body[:20], r)
            got, message = status_of(r, form)
            assert (code is ANY and isinstance(got, int) and got) or got == code, (form, body[:20], got, r)
            assert message, r
        for ct in ("text/plain", "application/xml", None, "application/grpc"):
            assert s.quick("POST", STD, "{}", ct=ct).status == 415, ct
        r = s.quick("POST", STD, "{}", headers=[("Content-Encoding", "br")])
        assert r.status == 415, r
        r = s.quick("GET", STD)
        assert r.status == 405 and r.h("allow") == "POST", r

    @T.case("O04 64-bit numbers as text or as numbers")
    def _():
        for value, back in (('{"intValue":5}', 5), ('{"intValue":"5"}', 5), ('{"intValue":"-9223372036854775808"}', -9223372036854775808),
                            ('{"intValue":9223372036854775807}', 9223372036854775807), ('{"intValue":1e+300}', ANY),
                            ('{"doubleValue":1.5}', 1.5), ('{"doubleValue":1}', 1.0), ('{"doubleValue":"NaN"}', "NaN"),
                            ('{"doubleValue":"-Infinity"}', "-Infinity"), ('{"boolValue":false}', False), ('{"stringValue":""}', ""),
                            ('{"arrayValue":{"values":[{"intValue":1},{"stringValue":"a"},{"arrayValue":{"values":[{"boolValue":true}]}}]}}',
                             [1, "a", [True]]), ("{}", None), ("null", None),
                            ('{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}', {"k": "v"}),
                            ('{"bytesValue":"AAEC/w=="}', ANY)):
            t, i = new_trace(), new_span()
            r = s.quick("POST", OWN, raw_request(t, i, attributes=attr_value(value)))
            assert r.status == 200, (value, r)
            got = only(s, t)
            must(back is ANY or sent_attribute(got, "x") == back, "%s came back in %s" % (value, got["metadata"]))
        for start in ('"1767225600000000000"', "1767225600000000000", "1.7672256e18"):
            t, i = new_trace(), new_span()
            assert s.quick("POST", OWN, raw_request(t, i, ',"endTimeUnixNano":%s' % start)).status == 200, start
            assert only(s, t)["endTime"] == "2026-01-01T00:00:00Z", start

    @T.case("O04 snake_case is not read, unknown and null members are ignored")
    def _():
        t, i = new_trace(), new_span()
        r = s.quick("POST", OWN, raw_request(t, i, ',"future":{"a":[1]},"events":null,"links":[],"status":null,"parentSpanId":null,"kind":null,'
                                             '"flags":257,"traceState":""'))
        assert r.status == 200, r
        holds({"name": "n", "parentObservationId": None}, only(s, t))

    @T.case("O06 attributes of the trace on one span, a second export without them: kept")
    def _():
        t = new_trace()
        first = span(trace=t, attrs={"langfuse.trace.name": "tn", "user.id": "u", "session.id": "se", "langfuse.trace.tags": ["a", "b"],
                                     "langfuse.trace.metadata.k": "v", "langfuse.trace.public": True})
        export(s, [first])
        export(s, [span("late", t, start=NS + 9000000000, attrs={"langfuse.trace.tags": ["c"], "langfuse.trace.metadata.l": "w"})])
        got = s.trace(t)
        holds({"name": "tn", "userId": "u", "sessionId": "se", "timestamp": "2026-01-01T00:00:00Z", "public": True,
               "metadata": {"k": "v", "l": "w"}}, got)
        assert sorted(got["tags"]) == ["a", "b", "c"] and len(got["observations"]) == 2

    @T.case("O06 the trace's timestamp is the earliest start of all exports")
    def _():
        t = new_trace()
        for start, back in ((NS + 5000000000, "05Z"), (NS + 1000000000, "01Z"), (NS + 9000000000, "01Z")):
            export(s, [span(trace=t, start=start)])
            assert s.trace(t)["timestamp"] == "2026-01-01T00:00:" + back

    @T.case("O06 the same export twice changes nothing")
    def _():
        t = new_trace()
        spans = [span("a", t, attrs={"langfuse.observation.usage_details": '{"input":1,"output":2,"total":3}'}), span("b", t)]
        for _ in range(3):
            export(s, spans, form="pb")
        assert sorted(o["name"] for o in s.trace(t)["observations"]) == ["a", "b"]

    @T.case("O07 one span id in two traces: both keep their observation")
    def _():
        i, a, b = new_span(), new_trace(), new_trace()
        export(s, [span("in a", a, span=i), span("in b", b, span=i)])
        assert only(s, a)["name"] == "in a" and only(s, b)["name"] == "in b"

    @T.case("O08 a parent of zeros, empty or malformed is none")
    def _():
        for parent in ("0" * 16, "", "zz", "abcd"):
            t = new_trace()
            export(s, [span(trace=t, parent=parent)])
            assert only(s, t)["parentObservationId"] is None, parent
        t = new_trace()
        export(s, [span(trace=t, parent="0" * 16)], form="pb")
        assert only(s, t)["parentObservationId"] is None

    @T.case("O09 usage details in every spelling")
    def _():
        for details in ('{"promptTokens":1,"completionTokens":2,"totalTokens":3}', '{"input":1,"output":2,"total":3}',
                        '{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'):
            t = new_trace()
            export(s, [span(trace=t, attrs={"langfuse.observation.usage_details": details, "langfuse.observation.type": "generation"})])
            holds({"promptTokens": 1, "completionTokens": 2, "totalTokens": 3, "usageDetails": {"input": 1, "output": 2, "total": 3},
                   "type": "GENERATION"}, only(s, t))

    @T.case("O09 usage details without a total: it is the sum of the parts")
    def _():
        t = new_trace()
        export(s, [span(trace=t, attrs={"langfuse.observation.usage_details": '{"input":1,"output":2}'})])
        holds({"promptTokens": 1, "completionTokens": 2, "totalTokens": 3, "usageDetails": {"input": 1, "output": 2, "total": 3}}, only(s, t))

    @T.case("O10 1,500 traces in one request are all stored")
    def _():
        user = uid()
        for form in ("pb", "json"):
            export(s, [span(attrs={"user.id": user + form}) for _ in range(1500)], form=form, timeout=20)
            r = s.get("/api/public/traces?limit=1&userId=" + user + form)
            assert r.json["meta"]["totalItems"] == 1500, r.json["meta"]

    @T.case("a batch of small spans from a process with a large resource is stored")
    def _():
        resource = {"process.command_args.%d" % i: "x" * 100 for i in range(60)}
        for form in ("pb", "json"):
            t = new_trace()
            export(s, [span(trace=t) for _ in range(2048)], form=form, resource=resource, timeout=20)
            assert len(s.get("/api/public/traces/" + t).json["observations"]) == 2048

    @T.case("types: plain spans are SPAN, a model or usage makes a GENERATION, a stated type wins")
    def _():
        for attrs, want in (({}, "SPAN"), ({"gen_ai.request.model": "m"}, "GENERATION"),
                            ({"langfuse.observation.model.name": "m"}, "GENERATION"), ({"langfuse.generation.model": "m"}, "GENERATION"),
                            ({"langfuse.observation.usage_details": '{"input":1}'}, "GENERATION"),
                            *(({"langfuse.observation.type": t}, t.upper()) for t in (
                                "span generation event embedding agent tool chain retriever guardrail evaluator".split()))):
            t = new_trace()
            export(s, [span(trace=t, attrs=attrs)])
            assert only(s, t)["type"] == want, (attrs, only(s, t)["type"])

    @T.case("the attributes that Langfuse's SDKs send reach their fields")
    def _():
        t = new_trace()
        export(s, [span(trace=t, attrs={
            "langfuse.observation.type": "generation", "langfuse.observation.model.name": "m",
            "langfuse.observation.model.parameters": '{"temperature":0.5}', "langfuse.observation.level": "WARNING",
            "langfuse.observation.status_message": "careful", "langfuse.observation.input": '[{"role":"user","content":"hi"}]',
            "langfuse.observation.output": "plain text", "langfuse.observation.metadata.k": "v",
            "langfuse.observation.completion_start_time": '"2026-01-01T00:00:00.500Z"',
            "langfuse.observation.usage_details": '{"input":7,"output":3,"total":10}',
            "langfuse.observation.cost_details": '{"input":0.25,"output":0.5,"total":0.75}',
            "langfuse.observation.prompt.name": "greet", "langfuse.observation.prompt.version": 3,
            "langfuse.trace.name": "tn", "langfuse.trace.input": '{"q":1}', "langfuse.trace.output": "answer",
            "langfuse.environment": "prod", "langfuse.release": "r1", "langfuse.version": "v1", "user.id": "u", "session.id": "se",
            "langfuse.trace.tags": ["x"], "langfuse.trace.public": True, "my.own": "kept"})], scope=("langfuse-sdk", "5.0"))
        holds({"name": "tn", "userId": "u", "sessionId": "se", "tags": ["x"], "public": True, "environment": "prod", "release": "r1",
               "version": "v1", "input": {"q": 1}, "output": "answer",
               "observations": [{"type": "GENERATION", "version": "v1", "model": "m", "modelParameters": {"temperature": 0.5}, "level": "WARNING",
                                 "statusMessage": "careful", "input": [{"role": "user", "content": "hi"}], "output": "plain text",
                                 "completionStartTime": "2026-01-01T00:00:00.500Z", "timeToFirstToken": 0.5, "promptTokens": 7,
                                 "completionTokens": 3, "totalTokens": 10, "calculatedTotalCost": 0.75, "calculatedInputCost": 0.25,
                                 "promptName": "greet", "promptVersion": 3, "environment": "prod",
                                 "metadata": lambda m: "k" in m and "kept" in json.dumps(m)}]}, s.trace(t))

    @T.case("environment and release may stand on the resource")
    def _():
        t = new_trace()
        export(s, [span(trace=t)], form="pb", resource={"langfuse.environment": "stage", "langfuse.release": "r2", "service.name": "svc"})
        holds({"environment": "stage", "release": "r2"}, s.trace(t))
        assert "svc" in json.dumps(only(s, t)["metadata"])

    @T.case("nothing sent is lost: attributes, resource, scope, events, links and status stay readable")
    def _():
        t, linked = new_trace(), new_trace()
        for form in ("pb", "json"):
            export(s, [span(trace=t, attrs={"deep.key": {"a": [1, "needle1"]}, "n": -5, "d": 0.5, "b": True},
                            events=[(NS + 1, "exception", {"exception.message": "needle2"})], links=[(linked, new_span())],
                            status=(2, "needle3"))], form=form, resource={"svc": "needle4"}, scope=("needle5", "9"))
            got = json.dumps(s.trace(t)["observations"][-1])
            for needle in ("needle1", "needle2", "needle3", "needle4", "needle5", linked):
                assert needle in got, (form, needle, got[:600])
            holds({"level": "ERROR", "statusMessage": "needle3"}, s.trace(t)["observations"][-1])

    @T.case("what was left out before sending is told: counts of events, links, resource and scope, flags of links")
    def _():
        t, linked = new_trace(), new_trace()
        doc = otlp.request_json([span(trace=t, events=[(NS, "e", {})], links=[(linked, new_span())])], {"r": 1})
        doc = json.loads(doc) if not isinstance(doc, dict) else doc
        whole = doc["resourceSpans"][0]
        scope, sent = whole["scopeSpans"][0]["scope"], whole["scopeSpans"][0]["spans"][0]
        whole["resource"]["droppedAttributesCount"], scope["droppedAttributesCount"] = 2, "3"
        sent["events"][0]["droppedAttributesCount"], sent["links"][0]["droppedAttributesCount"], sent["links"][0]["flags"] = 4, 5, 769
        assert s.quick("POST", STD, doc).status == 200
        holds({"scope": {"droppedAttributesCount": 3}, "otel": {"droppedResourceAttributesCount": 2, "events": [{"droppedAttributesCount": 4}],
               "links": [{"droppedAttributesCount": 5, "flags": 769}]}}, only(s, t)["metadata"])

    @T.case("senders from before OTLP 0.19: scopes are called instrumentation libraries")
    def _():
        for form in ("pb", "json"):
            t = new_trace()
            if form == "pb":
                body = otlp.field(1, otlp.field(1000, otlp.field(1, otlp.field(1, "old") + otlp.field(2, "1")) + otlp.field(2, otlp.span_pb(span(trace=t)))))
            else:
                body = json.dumps(otlp.request_json([span(trace=t)], scope=("old", "1")))
                body = body.replace('"scopeSpans"', '"instrumentationLibrarySpans"').replace('"scope"', '"instrumentationLibrary"')
            r = s.quick("POST", STD, body, ct=PB if form == "pb" else JSON)
            assert r.status == 200, r
            holds({"name": "work", "metadata": {"scope": {"name": "old", "version": "1"}}}, only(s, t))

    @T.case("an environment, level or usage that does not fit its field stays readable as it was sent")
    def _():
        t = new_trace()
        sent = {"deployment.environment": "E" * 50, "langfuse.observation.level": "notice",
                "langfuse.observation.usage_details": '{"input":3,"tier":"flex"}'}
        export(s, [span(trace=t, attrs=sent)])
        holds({"environment": "e" * 40, "level": "DEFAULT", "promptTokens": 3, "metadata": {"attributes": sent}}, only(s, t))

    @T.case("the trace's fields on a span below the root stay on it: another span may say otherwise")
    def _():
        t, below = new_trace(), {"user.id": "inner", "langfuse.trace.metadata.step": "1"}
        for form in ("pb", "json"):
            root, child = span(trace=t, attrs={"user.id": "outer", "langfuse.trace.metadata.step": "2"}), span("in", t, attrs=below)
            child["parent"] = root["span"]
            export(s, [child], form=form, scope=("langfuse-sdk", "4"))
            export(s, [root], form=form, scope=("langfuse-sdk", "4"))
            got = s.trace(t)
            holds({"userId": "outer", "metadata": {"step": "2"}}, got)
            holds({"metadata": {"attributes": below}}, next(o for o in got["observations"] if o["id"] == child["span"]))

    @T.case("one trace over OTLP and over the native batch")
    def _():
        t, i = new_trace(), new_span()
        export(s, [span("otlp", t, span=i, attrs={"user.id": "u"})])
        s.batch({"id": uuid_of(t), "name": "native"}, [{"id": uuid_of(i), "traceId": uuid_of(t), "output": "added"}])
        holds({"id": t, "name": "native", "userId": "u", "observations": [{"id": i, "name": "otlp", "output": "added"}]}, s.trace(t))
        t, i = new_trace(), new_span()
        s.batch({"id": uuid_of(t), "name": "native"})
        export(s, [span("otlp", t, span=i)])
        holds({"id": uuid_of(t), "name": "native", "observations": [{"id": i}]}, s.trace(t))

    @T.case("strings with NUL, lone surrogates and bad UTF-8 spoil nothing")
    def _():
        t, i = new_trace(), new_span()
        r = s.quick("POST", OWN, raw_request(t, i, attributes=attr_value('{"stringValue":"a\\u0000b \\ud83d x"}')))
        assert r.status == 200, r
        only(s, t)
        t = new_trace()
        bad = otlp.request_pb([span("ok?", t, attrs={"x": "y"})]).replace(b"ok?", b"o\xff\xfe")
        r = s.quick("POST", OWN, bad, ct=PB)
        assert r.status in (200, 400), r
        assert s.get("/api/public/traces?limit=3").status == 200

    @T.case("JSON text in an attribute: 986 levels deep as the SDKs send, beyond that as text")
    def _():
        for depth in (127, 128, 500, 986):
            t = new_trace()
            deep = "[" * depth + "1" + "]" * depth
            export(s, [span(trace=t, attrs={"langfuse.observation.input": deep})], form="pb")
            r = s.get("/api/public/traces/" + t)
            assert r.status == 200 and ('"input":' + deep) in r.text, (depth, r.text[:200])
        for depth in (1001, 100000):
            t = new_trace()
            deep = "[" * depth + "]" * depth
            export(s, [span(trace=t, attrs={"langfuse.observation.input": deep})], form="pb")
            got = only(s, t)["input"]
            assert got == deep, (depth, str(got)[:100])

    @T.case("protobuf messages nested 10,000 deep are refused, not crashed on")
    def _():
        value = b""
        for _ in range(5000):
            value = otlp.field(5, otlp.field(1, value)) if len(value) < 120000 else value
        attribute = otlp.field(9, otlp.field(1, "k") + otlp.field(2, value))
        body = otlp.field(1, otlp.field(2, otlp.field(2, otlp.span_pb(span()) + attribute)))
        r = s.quick("POST", OWN, body, ct=PB)
        assert r.status in (200, 400), r
        assert s.get("/healthz").status == 200

with T.server({"XTRACE_MAX_REQUEST_BODY_BYTES": "1048576"}) as s:
    @T.case("O11 compression bombs are 413 and memory stays flat")
    def _():
        s.batch({"id": uid()})
        before = s.peak()
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b"".join(packer.compress(b"\0" * 1000000) for _ in range(900)) + packer.flush()
        thin = zlib.compress(b" " * 100000000, 9)
        assert len(bomb) < 1048576
        for path in (OWN, STD, "/v1/l/batch", "/v1/metrics/batch"):
            for coding, body in (("gzip", bomb), ("zstd", zstd_rle(b" ", 100000)), ("deflate", thin)):
                r = s.post(path, body, headers=[("Content-Encoding", coding)])
                assert r.status == 413, (path, coding, r)
        grown = s.peak() - before
        assert T.sanitized or grown < 64 << 20, "peak grew by %d MB" % (grown >> 20)
        s.batch({"id": uid()})

    @T.case("O11 what inflates to the cap is accepted")
    def _():
        body = b'{"resourceSpans":[]}' + b" " * (3 << 20)
        for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", lambda b: zstd_rle(b" ", 24, b'{"resourceSpans":[]}'))):
            r = s.post(OWN, pack(body), headers=[("Content-Encoding", coding)])
            assert r.status == 200, (coding, r)

T.done()
