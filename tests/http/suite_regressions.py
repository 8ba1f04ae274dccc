#!/usr/bin/env python3
"""Faults once seen from outside, each in its smallest form: costs and counts sent piecemeal, times finer than shown, clients that vanish."""
# engines: ci
import os
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *
from otlp import new_span, new_trace, request_json, uuid_of

T = Suite()
BATCH, TRACES, DETAIL = "/v1/l/batch", "/api/public/traces", "/api/public/traces/"
MB = 1 << 20


def obs(**fields):
    return post(BATCH, {"observations": [{"id": "$B", "traceId": "$A", **fields}]}, 200)


def shown(trace, **observation):
    return get(DETAIL + "$A", 200, {**trace, "observations": [observation]})


with T.server() as s:
    T.rows(s, [
        ("a stated total cost outlives a later write of parts alone (an absent field keeps)", obs(calculatedTotalCost=1.5), obs(calculatedInputCost=0.25),
            shown({"totalCost": 1.5}, calculatedInputCost=0.25, calculatedTotalCost=1.5, costDetails={"input": 0.25, "total": 1.5})),
        ("parts of a cost that come one by one add up", obs(calculatedInputCost=0.25), obs(calculatedOutputCost=0.5),
            shown({"totalCost": 0.75}, calculatedTotalCost=0.75, costDetails={"input": 0.25, "output": 0.5, "total": 0.75})),
        ("a repeated part of a cost changes nothing", obs(calculatedInputCost=0.25, calculatedOutputCost=0.5), obs(calculatedInputCost=0.25),
            shown({"totalCost": 0.75}, calculatedTotalCost=0.75)),
        ("token counts that replace a usage map's are in usageDetails too", obs(usage={"input": 3, "output": 4, "total": 7}),
            obs(promptTokens=8, completionTokens=9, totalTokens=17),
            shown({}, promptTokens=8, usage={"input": 8, "output": 9, "total": 17}, usageDetails={"input": 8, "output": 9, "total": 17})),
        ("a cost of ten thousand millions and more is shown as it was stated", obs(calculatedTotalCost=10000000000.5),
            shown({}, calculatedTotalCost=10000000000.5)),
        ("a time as it is shown finds its trace, however fine it was sent",
            post(BATCH, {"trace": {"id": "$A", "name": "$A", "timestamp": "2026-01-01T00:00:00.123456789Z"}}, 200),
            *[get(TRACES + "?name=$A&" + q, 200, {"meta": {"totalItems": 1}}) for q in (
                "fromTimestamp=2026-01-01T00:00:00.123456Z", "toTimestamp=2026-01-01T00:00:00.123456Z")],
            get("/api/public/metrics/daily?traceName=$A&toTimestamp=2026-01-01T00:00:00.123456Z", 200, {"meta": {"totalItems": 1}})),
    ])

    @T.case("huge costs, sent twice, count once, and the store's sums stay those of its rows")
    def _():
        trace, o = uid(), uid()
        for _ in range(2):
            s.batch(None, [{"id": o, "traceId": trace, "calculatedInputCost": 5e9, "calculatedOutputCost": 5e9}])
        cost = s.get(DETAIL + trace).json["totalCost"]
        s.stop()
        r = T.cli("check", "--deep", dir=s.dir)
        s.start()
        must(r.rc == 0 and cost == 1e10, "check --deep: %s %s; totalCost %s" % (r.rc, r.out[:200], cost))

    @T.case("costDetails has the total wherever calculatedTotalCost is known, over OTLP too")
    def _():
        trace = new_trace()
        attrs = {"langfuse.observation.cost_details": '{"input":0.25,"output":0.5}'}
        span = {"trace": trace, "span": new_span(), "name": "x", "start": 1767225600000000000, "attrs": attrs}
        must(s.post("/v1/traces", request_json([span])).status == 200, "not taken")
        holds({"observations": [{"calculatedTotalCost": 0.75, "costDetails": {"input": 0.25, "output": 0.5, "total": 0.75}}]},
              s.get(DETAIL + trace).json)

    @T.case("costs that replace a map's are in costDetails too")
    def _():
        trace, span = new_trace(), new_span()
        attrs = {"langfuse.observation.cost_details": '{"input":0.25,"output":0.5,"audio":0.125}'}
        must(s.post("/v1/traces", request_json([{"trace": trace, "span": span, "name": "x", "attrs": attrs}])).status == 200, "not taken")
        for given, want in (({"name": "no news of costs"}, {"input": 0.25, "output": 0.5, "audio": 0.125, "total": 0.875}),
                            ({"calculatedInputCost": 2}, {"input": 2.0, "output": 0.5, "total": 0.875}),
                            ({"calculatedTotalCost": 3.5}, {"input": 2.0, "output": 0.5, "total": 3.5})):
            s.batch(None, [{"id": uuid_of(span), "traceId": uuid_of(trace), **given}])
            got = s.trace(trace)["observations"][0]
            must(got["costDetails"] == want, "%s: %s" % (given, got["costDetails"]))
            must(got["calculatedTotalCost"] == want["total"], "%s: total %s" % (given, got["calculatedTotalCost"]))

with T.server({"XTRACE_BODY_BUDGET_BYTES": str(40 * MB)}) as s:
    @T.case("uploads whose clients went away give their share of the body budget back within seconds")
    def _():
        s.start()
        for _ in range(6):
            c = s.conn()
            c.send(encode_request("POST", BATCH, auth=BEARER, headers=[("Content-Type", "application/json"), ("Content-Length", str(19 * MB))]))
            try:
                c.send(b" " * (18 * MB))
            except OSError:     # refused before it was read: then it holds nothing
                pass
            c.close()
        wait(lambda: s.post(BATCH, "{}" + " " * (19 * MB)).status == 200, 20 * s.slow, "a large upload is taken", pause=0.3)

@T.case("a bad log level in a file is refused with the value that was given")
def _():
    path = os.path.join(T.tmp(), "conf")
    with open(path, "w") as f:
        f.write("log = loud\n")
    T.exits({}, ("check", "--config", path), text='"loud"')

T.done()
