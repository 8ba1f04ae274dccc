#!/usr/bin/env python3
"""POST /v1/l/batch (what happens at kill and with the store down: suite_durable.py)."""
# engines
# timeout: 240
# store
import json
import os
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
B = "/v1/l/batch"
DONE = '{"message":"Request Successful."}'


def batch(trace, *observations, status=200, **opts):
    return post(B, {"trace": trace, "observations": list(observations)}, status, **opts)


def detail(*checks, id="$A", status=200):
    return get("/api/public/traces/" + id, status, *checks)


def first(**want):
    """The trace's only observation holds these."""
    return lambda r, names: holds([names.fill(want)], r.json["observations"])


def recent(text, seconds=30):
    return abs((iso(text) - now()).total_seconds()) < seconds


def bad(body, *texts, status=422, code="UNPROCESSABLE_ENTITY"):
    """A refused body; its message names the given words."""
    return post(B, body, status, err(code), *[Raw(t) for t in texts])


def bad_trace(text, *words):
    return bad('{"trace":{"id":"$A",%s}}' % text, *words)


def bad_observation(text, *words):
    return bad('{"trace":null,"observations":[{"id":"$B","traceId":"$A",%s}]}' % text, *words)


FULL_TRACE = {
    "timestamp": "2026-01-01T00:00:00Z", "name": "n\u00e9 \"q\" \\ \n\u2028", "input": {"q": [1, 2.5, "x", None, True]},
    "output": "text", "sessionId": "s-1", "release": "r-1", "version": "v-1", "userId": "u-1",
    "metadata": {"k": {"deep": [1, {"x": None}]}}, "tags": ["b", "a"], "public": True, "environment": "prod",
    "externalId": "ext-1", "bookmarked": True, "latency": 1.25, "totalCost": 0.125, "projectId": "default"}
FULL_OBSERVATION = {
    "type": "GENERATION", "name": "chat", "startTime": "2026-01-01T00:00:01Z", "endTime": "2026-01-01T00:00:03.5Z",
    "completionStartTime": "2026-01-01T00:00:01.250Z", "model": "m-1", "modelParameters": {"temperature": 0.5},
    "input": [{"role": "user", "content": "hi"}], "output": {"role": "assistant", "content": "ho"},
    "usage": {"input": 5, "output": 12, "total": 17, "unit": "TOKENS"}, "level": "WARNING", "statusMessage": "careful",
    "parentObservationId": "$C", "promptId": "p-1", "promptName": "greet", "promptVersion": "3", "modelId": "mid",
    "inputPrice": 0.001, "outputPrice": 0.002, "totalPrice": 0.003, "calculatedInputCost": 0.25,
    "calculatedOutputCost": 0.5, "calculatedTotalCost": 0.75, "latency": 2.5, "timeToFirstToken": 0.25,
    "completionTokens": 12, "promptTokens": 5, "totalTokens": 17, "unit": "TOKENS", "metadata": {"step": "x"},
    "environment": "prod", "projectId": "default"}
# What the Python SDK 0.0.2 sends for a plain call: everything it does not know is null.
SDK_OBSERVATION = {
    "type": "GENERATION", "name": "chat", "startTime": "2026-01-01T00:00:00.000000Z",
    "endTime": "2026-01-01T00:00:01.500000Z", "completionStartTime": None, "model": "gpt", "modelParameters": None,
    "input": [{"role": "user", "content": "x"}], "output": "y",
    "usage": {"input": 10, "output": 20, "total": 30, "unit": "TOKENS"}, "level": "DEFAULT", "statusMessage": None,
    "parentObservationId": None, "promptId": None, "promptName": None, "promptVersion": None, "modelId": None,
    "inputPrice": None, "outputPrice": None, "totalPrice": None, "calculatedInputCost": None,
    "calculatedOutputCost": None, "calculatedTotalCost": None, "latency": 1.5, "timeToFirstToken": None,
    "completionTokens": 20, "promptTokens": 10, "totalTokens": 30, "unit": "TOKENS", "metadata": None, "projectId": "default"}

with T.server() as s:
    T.rows(s, [
        ("B01 nothing to write is a success",
            post(B, "{}", 200, DONE, Hdr("content-type", "application/json")),
            post(B, '{"trace":null,"observations":[],"x":1}', 200, DONE), post(B, '{"observations":[]}', 200, DONE)),
        ("B02 a bare trace has all 23 keys and the defaults",
            batch({"id": "$A"}),
            detail(lambda r: [k for k in r.json if k in TRACE_KEYS] == TRACE_KEYS,
                   {"id": "$A", "name": None, "input": None, "output": None, "sessionId": None, "release": None, "version": None,
                    "userId": None, "metadata": None, "tags": [], "public": False, "projectId": "default", "externalId": None,
                    "bookmarked": False, "environment": "default", "htmlPath": "/project/default/traces/$A", "latency": None,
                    "totalCost": None, "observations": [], "scores": [], "timestamp": recent, "createdAt": recent,
                    "updatedAt": recent})),
        ("B04 every field of a trace comes back",
            batch(dict(FULL_TRACE, id="$A")), detail(dict(FULL_TRACE, id="$A"), Raw('"timestamp":"2026-01-01T00:00:00Z"'))),
        ("B04 every field of an observation comes back",
            batch({"id": "$A"}, dict(FULL_OBSERVATION, id="$B", traceId="$A")),
            detail(lambda r: [k for k in r.json["observations"][0] if k in OBSERVATION_KEYS] == OBSERVATION_KEYS,
                   lambda r, v: holds(v.fill(dict({k: x for k, x in FULL_OBSERVATION.items()
                                                   if k not in ("unit", "projectId", "usage", "promptVersion", "endTime",
                                                                "completionStartTime")},
                                                  id="$B", traceId="$A", version=None, promptVersion=3,
                                                  endTime="2026-01-01T00:00:03.500Z",
                                                  completionStartTime="2026-01-01T00:00:01.250Z",
                                                  usage={"input": 5, "output": 12, "total": 17, "unit": "TOKENS", "inputCost": 0.25,
                                                         "outputCost": 0.5, "totalCost": 0.75},
                                                  usageDetails={"input": 5, "output": 12, "total": 17},
                                                  costDetails={"input": 0.25, "output": 0.5, "total": 0.75})),
                                      r.json["observations"][0]))),
        ("B05 times: zones are converted, fractions come in groups of three, cut to microseconds",
            *[step for n, (given, back) in enumerate([
                ("2026-01-01T08:00:00.5+08:00", "2026-01-01T00:00:00.500Z"),
                ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456Z"),
                ("2026-01-01 00:00:00Z", "2026-01-01T00:00:00Z"), ("2026-01-01T08:00:00+0800", "2026-01-01T00:00:00Z"),
                ("2026-01-01T00:00:00.1234567890123456Z", "2026-01-01T00:00:00.123456Z"),
                ("2025-12-31T19:30:00-04:30", "2026-01-01T00:00:00Z"), ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.250Z"),
                ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z")])
              for step in (batch({"id": "$" + "ABCDEFGH"[n], "timestamp": given}),
                           detail({"timestamp": back}, id="$" + "ABCDEFGH"[n]))]),
        ("B07 session_id and sessionId",
            batch({"id": "$A", "session_id": "s"}), batch({"id": "$B", "sessionId": "s"}),
            detail({"sessionId": "s"}), detail({"sessionId": "s"}, id="$B")),
        ("B08 both spellings at once", bad_trace('"session_id":"a","sessionId":"b"', "session")),
        ("B09 null lists are empty lists",
            post(B, '{"trace":{"id":"$A","tags":null},"observations":null}'), detail({"tags": [], "observations": []})),
        ("B11 a trace without a readable id, a body that is no object",
            bad('{"trace":{}}', "id"), bad('{"trace":{"id":"zz"}}', "id"), bad('{"trace":{"id":5}}', "id"),
            bad('{"trace":{"id":null}}', "id"), bad('{"trace":{"id":"0123456789abcdef"}}', "id"), bad("null"), bad('"x"'),
            bad("1"), bad("[]"), bad('{"trace":[]}', "trace"), bad('{"observations":{}}', "observations"),
            bad('{"observations":[{"id":"$A"}]}', "traceId"), bad('{"observations":[{"traceId":"$A"}]}', "id"),
            bad('{"observations":[1]}', "observations")),
        ("B12 spellings of a UUID are one id",
            batch({"id": "$A.hex"}), detail({"id": "$A"}), batch({"id": "$B.up"}), detail({"id": "$B"}, id="$B"),
            batch({"id": "{$C}"}), detail({"id": "$C"}, id="$C"), batch({"id": "urn:uuid:$D"}), detail({"id": "$D"}, id="$D"),
            batch({"id": "$A.up", "name": "again"}), detail({"name": "again"}),
            get("/api/public/traces?name=again", 200, {"meta": {"totalItems": 1}})),
        ("B13 wrong types are 422 and the message names the field",
            bad_trace('"latency":"1"', "latency"), bad_trace('"public":1', "public"), bad_trace('"timestamp":"2026-01-01"', "timestamp"),
            bad_trace('"timestamp":1767225600', "timestamp"), bad_trace('"timestamp":""', "timestamp"),
            bad_trace('"timestamp":"2026-01-01T00:00:00"', "timestamp"), bad_trace('"timestamp":"2026-01-01T00:00Z"', "timestamp"),
            bad_trace('"timestamp":"2026-02-30T00:00:00Z"', "timestamp"), bad_trace('"name":5', "name"),
            bad_trace('"tags":"a"', "tags"), bad_trace('"tags":[1]', "tags"), bad_trace('"tags":[null]', "tags"),
            bad_trace('"userId":{}', "userId"), bad_trace('"bookmarked":"true"', "bookmarked"),
            bad_observation('"promptTokens":1.0', "promptTokens"), bad_observation('"promptTokens":"1"', "promptTokens"),
            bad_observation('"totalTokens":9223372036854775808', "totalTokens"), bad_observation('"startTime":"now"', "startTime"),
            bad_observation('"model":1', "model"), bad_observation('"parentObservationId":"x"', "parentObservationId"),
            bad_observation('"calculatedTotalCost":"1"', "calculatedTotalCost"), bad_observation('"level":3', "level"),
            detail(status=404)),
        ("B13 integers are numbers where a fraction is allowed",
            batch({"id": "$A", "latency": 2, "totalCost": 3}), detail(Raw('"latency":2.0,"totalCost":3.0'))),
        ("B14 promptVersion as text, number, other text",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "promptVersion": "2", "startTime": "2026-01-01T00:00:01Z"},
                  {"id": "$C", "traceId": "$A", "promptVersion": 2, "startTime": "2026-01-01T00:00:02Z"},
                  {"id": "$D", "traceId": "$A", "promptVersion": "v2", "startTime": "2026-01-01T00:00:03Z"}),
            detail(lambda r: [o["promptVersion"] for o in r.json["observations"]] == [2, 2, "v2"])),
        ("B15 bad JSON is 400",
            *[bad(body, status=400, code="BAD_REQUEST") for body in (
                "{", "", '{"observations":[1e999]}', '{"trace":{"id":"$A","name":"\\ud800"}}', '{"trace":NaN}', "{'a':1}",
                '{"a":1,}', '{"trace":{"id":"$A","input":01}}', '{"trace":{"id":"$A","input":[Infinity]}}', '{"a":"\t"}', "nul",
                '{"a":1 "b":2}', '{"trace":{"id":"$A","input":-}}', '{"trace":{"id":"$A","input":1.}}')],
            detail(status=404)),
        ("B17 the content type must be JSON",
            post(B, "{}", 415, err("UNSUPPORTED_MEDIA_TYPE"), ct=None), post(B, "{}", 415, ct="text/plain"),
            post(B, "{}", 415, ct="application/x-protobuf"), post(B, "{}", 415, ct="application/jsonx"),
            post(B, "{}", 200, ct="application/vnd.x+json; charset=utf-8"), post(B, "{}", 200, ct="application/json;charset=utf-8"),
            post(B, "{}", 200, ct="Application/JSON")),
        ("B19 a body over the limit, declared or streamed; the server keeps serving",
            post(B, "{}" + " " * 20971518, 200), post(B, "{}" + " " * 20971519, 413, err("PAYLOAD_TOO_LARGE")),
            post(B, "{}" + " " * 20971519, 413, err("PAYLOAD_TOO_LARGE"), chunked=True), post(B, "{}", 200)),
        ("B21 a known field twice",
            bad_trace('"name":"a","name":"b"', "name"), bad_trace('"tags":[],"tags":[]', "tags"),
            bad_observation('"model":"a","model":"b"', "model"), bad('{"trace":null,"trace":null}', "trace"),
            bad('{"observations":[],"observations":[]}', "observations")),
        ("B21 an unknown field twice, a key of free JSON twice: the last wins",
            post(B, '{"trace":{"id":"$A","x":1,"x":2,"metadata":{"k":1,"k":2}},"y":1,"y":2}'), detail({"metadata": {"k": 2}})),
        ("B22 an observation for an unknown trace makes the trace exist",
            batch(None, {"id": "$B", "traceId": "$A", "startTime": "2026-01-02T03:04:05Z", "environment": "e-$A"}),
            detail({"timestamp": "2026-01-02T03:04:05Z", "tags": [], "name": None, "environment": "e-$A", "createdAt": recent,
                    "observations": [{"id": "$B", "traceId": "$A"}]}),
            get("/api/public/traces?environment=e-$A", 200, {"meta": {"totalItems": 1},
                                                             "data": [{"id": "$A", "observations": ["$B"]}]})),
        ("B22 the earliest startTime is the timestamp, the first write where none has one",
            batch(None, {"id": "$B", "traceId": "$A", "startTime": "2026-01-02T00:00:05Z"}), detail({"timestamp": "2026-01-02T00:00:05Z"}),
            batch(None, {"id": "$C", "traceId": "$A", "startTime": "2026-01-02T00:00:01Z"}), detail({"timestamp": "2026-01-02T00:00:01Z"}),
            batch(None, {"id": "$D", "traceId": "$A", "startTime": "2026-01-02T00:00:09Z"}), detail({"timestamp": "2026-01-02T00:00:01Z"}),
            batch(None, {"id": "$F", "traceId": "$E"}), detail({"timestamp": recent}, id="$E")),
    ])

    @T.case("B23 the trace itself arrives later: filled in, same createdAt, later updatedAt")
    def _():
        a, o = uid(), uid()
        s.batch(None, [{"id": o, "traceId": a, "startTime": "2026-01-02T03:04:05Z", "environment": "prod"}])
        before = s.trace(a)
        s.batch({"id": a, "name": "n", "timestamp": "2026-01-02T03:00:00Z"})
        after = s.trace(a)
        holds({"name": "n", "timestamp": "2026-01-02T03:00:00Z", "createdAt": before["createdAt"], "environment": "prod",
               "observations": [{"id": o}]}, after)
        assert iso(after["updatedAt"]) > iso(before["updatedAt"]), (before["updatedAt"], after["updatedAt"])

    T.rows(s, [
        ("B24 same trace again with only output keeps name and timestamp",
            batch(dict(FULL_TRACE, id="$A", output=None)), batch({"id": "$A", "output": "later"}),
            detail(dict(FULL_TRACE, id="$A", output="later"))),
        ("B24 null keeps, a given value replaces whole: metadata, tags and public false included",
            batch(dict(FULL_TRACE, id="$A")), batch(dict({k: None for k in FULL_TRACE}, id="$A")), detail(dict(FULL_TRACE, id="$A")),
            batch({"id": "$A", "metadata": {"z": 1}, "tags": ["c"], "public": False, "bookmarked": False, "name": ""}),
            detail({"tags": ["c"], "public": False, "bookmarked": False, "name": "", "userId": "u-1"},
                   lambda r: r.json["metadata"] == {"z": 1}),
            batch({"id": "$A", "tags": []}), detail({"tags": []})),
        ("B24 an explicit timestamp may move, and an earlier observation does not move it",
            batch({"id": "$A", "timestamp": "2026-01-02T00:00:00Z"}), batch({"id": "$A", "timestamp": "2026-01-03T00:00:00Z"}),
            batch(None, {"id": "$B", "traceId": "$A", "startTime": "2026-01-01T00:00:00Z"}),
            detail({"timestamp": "2026-01-03T00:00:00Z"})),
        ("B25 same observation twice: one observation, both values",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "type": "SPAN", "name": "n", "input": "i", "model": "m", "level": "ERROR",
                                 "startTime": "2026-01-01T00:00:00Z"}),
            batch(None, {"id": "$B", "traceId": "$A", "output": {"o": 1}, "promptTokens": 1, "completionTokens": 2, "totalTokens": 3}),
            detail(first(id="$B", type="SPAN", name="n", input="i", output={"o": 1}, model="m", promptTokens=1, completionTokens=2,
                         totalTokens=3, level="ERROR", startTime="2026-01-01T00:00:00Z"))),
        ("B25 twice in one request: the last word wins, field by field",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "name": "one", "input": 1}, {"id": "$B.hex", "traceId": "$A.up", "name": "two"}),
            detail(first(id="$B", name="two", input=1))),
        ("B25 repeating a request changes nothing",
            *[batch(dict(FULL_TRACE, id="$A", name="r-$A"), dict(FULL_OBSERVATION, id="$B", traceId="$A")) for _ in range(3)],
            get("/api/public/traces?name=r-$A", 200, {"meta": {"totalItems": 1}, "data": [{"observations": ["$B"]}]}),
            get("/api/public/metrics/daily?traceName=r-$A&fromTimestamp=2025-12-31T00:00:00Z", 200,
                {"data": [{"countTraces": 1, "countObservations": 1, "totalCost": 0.125,
                           "usage": [{"inputUsage": 5, "outputUsage": 12, "totalUsage": 17, "totalCost": 0.75}]}]})),
        ("B25 the same observation id in two traces is two observations",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "name": "a"}), batch({"id": "$C"}, {"id": "$B", "traceId": "$C", "name": "c"}),
            detail(first(id="$B", name="a")), detail(first(id="$B", name="c"), id="$C")),
        ("B26 an observation without type",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A"}),
            detail(first(type="GENERATION", level="DEFAULT", modelParameters={}, startTime=recent, endTime=None, version=None,
                         usageDetails={}, promptTokens=0, completionTokens=0, totalTokens=0)),
            detail(Raw('"usageDetails":{}'), Raw('"modelParameters":{}'),
                   lambda r: r.json["observations"][0]["startTime"] == r.json["observations"][0]["createdAt"])),
        ("B26 any type and level are kept, ends before starts too",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "type": "weird", "level": "loud", "startTime": "2026-01-02T00:00:00Z",
                                 "endTime": "2026-01-01T00:00:00Z", "promptTokens": -5}),
            detail(first(type="weird", level="loud", endTime="2026-01-01T00:00:00Z", promptTokens=-5))),
        ("B27 the Python SDK's payload with its nulls",
            batch({"id": "$A", "timestamp": "2026-01-01T00:00:00.000000Z", "name": "chat", "userId": None, "session_id": "s", "tags": [],
                   "metadata": None, "projectId": "default", "latency": 1.5, "totalCost": None},
                  dict(SDK_OBSERVATION, id="$B", traceId="$A")),
            detail({"sessionId": "s", "latency": 1.5},
                   first(usage={"input": 10, "output": 20, "total": 30, "unit": "TOKENS", "inputCost": None, "outputCost": None,
                                "totalCost": None}, endTime="2026-01-01T00:00:01.500Z", parentObservationId=None))),
        ("B28 tokens and cost",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "promptTokens": 5, "completionTokens": 12, "totalTokens": 17,
                                 "calculatedTotalCost": 0.25}),
            detail(Raw('"usageDetails":{"input":5,"output":12,"total":17}'),
                   Raw('"costDetails":{"input":0.0,"output":0.0,"total":0.25}'))),
        ("B29 tokens out of usage, in every spelling",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "usage": {"input": 3, "output": 4, "total": 7}}),
            detail(first(promptTokens=3, completionTokens=4, totalTokens=7, usageDetails={"input": 3, "output": 4, "total": 7})),
            batch({"id": "$C"}, {"id": "$D", "traceId": "$C", "usage": {"promptTokens": 3, "completionTokens": 4, "totalTokens": 7}}),
            detail(first(promptTokens=3, completionTokens=4, totalTokens=7), id="$C"),
            batch({"id": "$E"}, {"id": "$F", "traceId": "$E", "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}),
            detail(first(promptTokens=3, completionTokens=4, totalTokens=7), id="$E")),
        ("B29 the token fields win over usage",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "promptTokens": 30, "completionTokens": 40, "totalTokens": 70,
                                 "usage": {"input": 3, "output": 4, "total": 7}}),
            detail(first(promptTokens=30, completionTokens=40, totalTokens=70))),
    ])

    def among_good_ones(name, body):
        """The bad request among 50 good ones at the same time: they are all kept; it is kept or refused alone."""
        @T.case(name)
        def _():
            ids = [uid() for _ in range(51)]

            def one(i):
                return s.post(B, body if i == 25 else {"trace": {"id": ids[i], "name": "good"}})
            for i, r in enumerate(threads(51, one)):
                if i != 25:
                    assert r.status == 200, r
                    holds({"name": "good"}, s.trace(ids[i]))
                elif r.status == 200:
                    s.trace(json.loads(body)["trace"]["id"])
                else:
                    err({400: "BAD_REQUEST", 422: "UNPROCESSABLE_ENTITY"}[r.status])(r)

    among_good_ones("B30 a NUL in a name hurts nobody else", '{"trace":{"id":"%s","name":"a\\u0000b"}}' % uid())
    among_good_ones("B30 a NUL in a tag, a key and free JSON hurts nobody else",
                    '{"trace":{"id":"%s","tags":["\\u0000"],"metadata":{"a\\u0000":"\\u0000"},"input":"\\u0000","userId":"\\u0000"}}' % uid())
    among_good_ones("B31 a userId of 100 kB hurts nobody else",
                    json.dumps({"trace": {"id": uid(), "userId": os.urandom(50000).hex(), "tags": [os.urandom(50000).hex()]}}))
    for time in ("-9999-01-01T00:00:00Z", "+12345-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:60Z"):
        among_good_ones("B31 the time %s hurts nobody else" % time, '{"trace":{"id":"%s","timestamp":"%s"}}' % (uid(), time))

    T.rows(s, [
        ("B30 what was stored with a NUL comes back with it, or was refused by name",
            post(B, '{"trace":{"id":"$A","name":"a\\u0000b"}}', (200, 400, 422)),
            get("/api/public/traces/$A", (200, 404), lambda r: r.status == 404 or r.json["name"] in ("a\0b", "a\\u0000b", "a\ufffdb"))),
        ("B35 free JSON is equal after parsing",
            post(B, '{"trace":{"id":"$A","input":{"b":1,"a":[1.0,1e3,"\u00e9",null]},"output":[],"metadata":{"":{}, "x":"\\ud83d\\ude80\\n"}}}'),
            detail({"input": {"b": 1, "a": [1.0, 1000.0, "\u00e9", None]}, "output": [], "metadata": {"": {}, "x": "\U0001f680\n"}})),
        ("B35 any JSON kind is an input; null is none",
            *[step for n, text in enumerate(("0", '"x"', "true", "false", '""', "[[]]", "-1.5e-7", "18446744073709551616"))
              for step in (post(B, '{"trace":{"id":"$%s","input":%s}}' % ("ABCDEFGH"[n], text)),
                           detail({"input": json.loads(text)}, id="$" + "ABCDEFGH"[n]))]),
        ("B36 text after the document", bad("{} xyz", status=400, code="BAD_REQUEST"), bad("{}{}", status=400, code="BAD_REQUEST"),
            post(B, " \r\n\t{} \n")),
        ("B37 two phases: the parent in one request, the child in another",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "type": "SPAN", "startTime": "2026-01-01T00:00:00Z"}),
            batch(None, {"id": "$C", "traceId": "$A", "parentObservationId": "$B", "startTime": "2026-01-01T00:00:01Z"}),
            detail({"observations": [{"id": "$B", "parentObservationId": None}, {"id": "$C", "parentObservationId": "$B"}]})),
        ("B37 children before parents, parents that never come",
            batch(None, {"id": "$C", "traceId": "$A", "parentObservationId": "$B", "startTime": "2026-01-01T00:00:01Z"}),
            batch(None, {"id": "$B", "traceId": "$A", "parentObservationId": "$D", "startTime": "2026-01-01T00:00:00Z"}),
            detail({"observations": [{"id": "$B", "parentObservationId": "$D"}, {"id": "$C", "parentObservationId": "$B"}]})),
        ("observations of several traces in one request",
            batch({"id": "$A", "name": "mine"}, {"id": "$B", "traceId": "$A"}, {"id": "$C", "traceId": "$D"}),
            detail(first(id="$B")), detail(first(id="$C"), {"name": None}, id="$D")),
        ("snake_case spellings other than session_id are ignored",
            batch({"id": "$A", "user_id": "u", "total_cost": 5, "external_id": "x"}), detail({"userId": None, "totalCost": None})),
    ])

    @T.case("B02 a 200 is readable at once, 200 times in a row")
    def _():
        with s.conn() as c:
            for _ in range(200):
                a = uid()
                r = c.request("POST", B, {"trace": {"id": a, "name": "now"}}, auth=BEARER)
                assert r.status == 200, r
                r = c.request("GET", "/api/public/traces/" + a, auth=BEARER)
                assert r.status == 200 and r.json["name"] == "now", r

    @T.case("one request of 5,000 observations")
    def _():
        a = uid()
        s.batch({"id": a}, [{"id": uid(), "traceId": a, "name": "o%d" % i, "startTime": "2026-01-01T00:%02d:%02dZ" % (i // 60 % 60, i % 60)}
                            for i in range(5000)])
        assert len(s.trace(a)["observations"]) == 5000

    @T.case("pieces of one trace from 16 clients at once meet in one trace")
    def _():
        a = uid()

        def piece(i):
            body = {"trace": {"id": a, **({"name": "n"} if i == 3 else {}), **({"userId": "u"} if i == 5 else {})},
                    "observations": [{"id": uid(), "traceId": a, "name": "o%d" % i}]}
            return s.request("POST", B, body).status
        assert threads(16, piece) == [200] * 16
        t = s.trace(a)
        holds({"name": "n", "userId": "u"}, t)
        assert sorted(o["name"] for o in t["observations"]) == sorted("o%d" % i for i in range(16))

T.done()
