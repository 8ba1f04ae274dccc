#!/usr/bin/env python3
"""GET /api/public/observations/{id}: an observation by its id alone."""
# engines
# store
import os
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from xt import *

T = Suite()
O = "/api/public/observations/"


def full(t, o):
    return {"id": o, "traceId": t, "type": "GENERATION", "name": "call", "startTime": "2026-02-12T10:00:00Z",
            "endTime": "2026-02-12T10:00:02.5Z", "model": "gpt", "modelParameters": {"t": 0.5}, "input": {"q": "x" * 3000},
            "output": ["y"], "metadata": {"m": 1}, "promptTokens": 3, "completionTokens": 4, "totalTokens": 7, "level": "ERROR",
            "statusMessage": "no", "parentObservationId": uid(), "calculatedTotalCost": 0.5, "environment": "prod"}


with T.server() as s:
    @T.case("it is what the trace's detail says, every key")
    def _():
        t, o = uid(), uid()
        s.batch({"id": t, "name": "n"}, [full(t, o), {"id": uid(), "traceId": t, "type": "SPAN"}])
        r = s.get(O + o)
        must(r.status == 200 and (r.h("content-type") or "").startswith("application/json"), r)
        must(set(OBSERVATION_KEYS) <= set(r.json), "missing: %s" % (set(OBSERVATION_KEYS) - set(r.json)))
        must(r.json == next(x for x in s.trace(t)["observations"] if x["id"] == o), "not as in the detail")
        holds({"id": o, "traceId": t, "latency": 2.5, "totalTokens": 7, "input": {"q": "x" * 3000}}, r.json)

    T.rows(s, [
        ("an update is seen at once", post("/v1/l/batch", {"trace": {"id": "$A"}, "observations": [{"id": "$B", "traceId": "$A", "output": 1}]}),
         post("/v1/l/batch", {"observations": [{"id": "$B", "traceId": "$A", "output": 2}]}), get(O + "$B", 200, {"output": 2, "traceId": "$A"})),
        ("in every spelling of a UUID", post("/v1/l/batch", {"trace": {"id": "$A"}, "observations": [{"id": "$B", "traceId": "$A"}]}),
         get(O + "$B.hex", 200, {"id": "$B"}), get(O + "$B.up", 200, {"id": "$B"})),
        ("the id of a trace is none of an observation", post("/v1/l/batch", {"trace": {"id": "$A"}}), get(O + "$A", 404, err("NOT_FOUND"))),
        ("unknown ids, UUID or not: 404", get(O + "$A", 404, err("NOT_FOUND", "Observation not found")),
         get(O + "no-such-step", 404, err("NOT_FOUND")), get(O + "0000000000000000", 404), get(O + "%00", (400, 404))),
        ("an id that is too long: 400", get(O + "x" * 3000, 400)),
        ("the same id in two traces: that of the trace that came last", post("/v1/l/batch", {"trace": {"id": "$A"}}),
         post("/v1/l/batch", {"trace": {"id": "$B"}, "observations": [{"id": "$C", "traceId": "$B", "name": "second"}]}),
         post("/v1/l/batch", {"observations": [{"id": "$C", "traceId": "$A", "name": "first"}]}),
         get(O + "$C", 200, {"traceId": "$B", "name": "second"})),
        ("without or with a wrong credential: 401", get(O + "$A", 401, auth=None), get(O + "$A", 401, auth="Bearer wrong")),
        ("other methods: 405", req("POST", O + "$A", 405, body={}), req("DELETE", O + "$A", 405)),
    ])

    @T.case("a span of OTLP, by its 16 digits and as a UUID")
    def _():
        t, o = otlp.new_trace(), otlp.new_span()
        r = s.post("/v1/traces", otlp.request_json([{"trace": t, "span": o, "name": "sp", "start": 1770000000000000000,
                                                      "end": 1770000001000000000}]))
        must(r.status == 200, r)
        for spelled in (o, o.upper(), otlp.uuid_of(o)):
            holds({"id": o, "traceId": t, "name": "sp"}, s.get(O + spelled).json)

    @T.case("a key sees its own project alone")
    def _():
        t, o = uid(), uid()
        s.batch({"id": t}, [{"id": o, "traceId": t}])
        r = T.cli("keys", "create", "--project", "other", dir=s.dir)
        if r.rc != 0:
            r = T.cli("keys", "create", "other", dir=s.dir)
        words = [w for w in r.out.split() if w.startswith(("pk-", "sk-"))]
        if r.rc != 0 or len(words) < 2:
            raise Skip("keys create: %s %s" % (r.out, r.err))
        pair = tuple(sorted(words)[:2])
        wait(lambda: s.get("/api/public/projects", auth=pair).status == 200, 10, "the key to be known")
        must(s.get(O + o, auth=pair).status == 404, "seen by another project")
        must(s.get(O + o).status == 200, "not seen by its own")

    @T.case("among many, and after a restart")
    def _():
        traces = [(uid(), [uid() for _ in range(5)]) for _ in range(60)]
        for t, ids in traces:
            s.batch({"id": t}, [{"id": o, "traceId": t, "name": "n" + o} for o in ids])
        for life in range(2):
            for t, ids in traces:
                for o in ids[life::2]:
                    holds({"id": o, "traceId": t, "name": "n" + o}, s.quick("GET", O + o).json)
            s.restart()

T.done()
