#!/usr/bin/env python3
"""GET /api/public/metrics/daily."""
# engines
# store
import os
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
D = "/api/public/metrics/daily"
RANGE = "fromTimestamp=2026-01-01T00:00:00Z&toTimestamp=2026-03-01T00:00:00Z"


def batch(trace, *observations):
    return post("/v1/l/batch", {"trace": trace, "observations": list(observations)})


def trace(letter, at, **more):
    """A trace of user $U at 2026-01-<at>."""
    return dict({"id": "$" + letter, "userId": "$U", "timestamp": "2026-01-" + at}, **more)


def obs(letter, of, **more):
    return dict({"id": "$" + letter, "traceId": "$" + of, "startTime": "2026-01-10T00:00:00Z"}, **more)


def daily(query, *checks, status=200, range=RANGE, mine="userId=$U"):
    return get("%s?%s" % (D, "&".join(x for x in (mine, range, query) if x)), status, *checks)


def days(*want):
    return lambda r: must([d["date"] for d in r.json["data"]] == list(want), "days %s" % [d["date"] for d in r.json["data"]])


TOKENS = {"promptTokens": 1, "completionTokens": 2, "totalTokens": 4}

with T.server() as s:
    T.rows(s, [("Y02 an empty store", get(D, 200, '{"data":[],"meta":{"page":1,"limit":50,"totalItems":0,"totalPages":0}}'))])

    @T.case("Y02 a day: two traces, three generations of one model, one span")
    def _():
        a, b, today = uid(), uid(), now()
        s.batch({"id": a, "totalCost": 0.5}, [dict(TOKENS, id=uid(), traceId=a, type="GENERATION", model="m1") for _ in range(2)])
        s.batch({"id": b}, [dict(TOKENS, id=uid(), traceId=b, type="GENERATION", model="m1"), {"id": uid(), "traceId": b, "type": "SPAN"}])
        r = s.get(D)
        holds({"data": [{"date": today.strftime("%Y-%m-%d"), "countTraces": 2, "countObservations": 4, "totalCost": 0.5,
                         "usage": [{"model": "m1", "countObservations": 3, "countTraces": 2, "inputUsage": 3, "outputUsage": 6,
                                    "totalUsage": 12, "totalCost": 0}]}],
               "meta": {"page": 1, "limit": 50, "totalItems": 1, "totalPages": 1}}, r.json)
        assert '"totalCost":0.5' in r.text

    T.rows(s, [
        ("Y02 the usual numbers, their forms",
            batch(trace("A", "10T01:00:00Z"), obs("B", "A", type="GENERATION", model="m", **TOKENS)),
            daily("", Raw('"totalCost":0.0'), {"data": [{"countTraces": 1, "countObservations": 1}]},
                  lambda r: sorted(r.json["data"][0]["usage"][0]) == ["countObservations", "countTraces", "inputUsage", "model", "outputUsage",
                                                                      "totalCost", "totalUsage"])),
        ("Y03 a generation without model", batch(trace("A", "10T01:00:00Z"), obs("B", "A", type="GENERATION", **TOKENS)),
            daily("", {"data": [{"usage": [{"model": "unknown", "inputUsage": 1}]}]})),
        ("Y03 only the type GENERATION is usage, and all observations count",
            batch(trace("A", "10T01:00:00Z"), obs("B", "A", type="SPAN", model="m"), obs("C", "A", type="generation", model="m"),
                  obs("D", "A", type="EMBEDDING", model="m")),
            daily("", {"data": [{"countObservations": 3, "usage": []}]})),
        ("Y04 two days, newest first, paged",
            batch(trace("A", "10T01:00:00Z")), batch(trace("B", "11T01:00:00Z")), daily("", days("2026-01-11", "2026-01-10")),
            daily("limit=1&page=2", days("2026-01-10"), {"meta": {"page": 2, "limit": 1, "totalItems": 2, "totalPages": 2}}),
            daily("limit=0", days("2026-01-11"), {"meta": {"limit": 1}}), daily("limit=1000", {"meta": {"limit": 200}}),
            daily("page=9", days(), {"meta": {"totalItems": 2}}), daily("page=9223372036854775807&limit=200", days())),
        ("Y05 an observation counts on its trace's day",
            batch(trace("A", "10T23:30:00Z"), obs("B", "A", startTime="2026-01-11T00:10:00Z", type="GENERATION", model="m", **TOKENS)),
            daily("", days("2026-01-10"), {"data": [{"countObservations": 1, "usage": [{"inputUsage": 1}]}]})),
        ("Y05 and moves with it",
            batch(None, obs("B", "A", type="GENERATION", model="m", startTime="2026-01-10T01:00:00Z", calculatedTotalCost=0.25, **TOKENS)),
            batch(trace("A", "20T01:00:00Z", name="moved")),
            daily("", days("2026-01-20"), {"data": [{"countTraces": 1, "countObservations": 1, "totalCost": 0.25,
                                                    "usage": [{"inputUsage": 1, "totalCost": 0.25}]}]}),
            batch(trace("A", "21T01:00:00Z")), daily("", days("2026-01-21")), daily("traceName=moved", days("2026-01-21"))),
        ("Y05 an updated observation counts once, with its last values",
            batch(trace("A", "10T01:00:00Z"), obs("B", "A", type="GENERATION", model="m", **TOKENS)),
            batch(None, obs("B", "A", promptTokens=10, model="m2", calculatedTotalCost=0.5)),
            daily("", {"data": [{"countObservations": 1, "totalCost": 0.5,
                                 "usage": [{"model": "m2", "inputUsage": 10, "outputUsage": 2, "countObservations": 1}]}]},
                  lambda r: len(r.json["data"][0]["usage"]) == 1)),
        ("Y07 the first representable day drops no connection",
            get(D + "?toTimestamp=-262143-01-01T00:00:00Z", (200, 400)), get(D + "?toTimestamp=-9999-01-01T00:00:00Z", (200, 400)),
            get(D + "?fromTimestamp=%2B262142-12-31T00:00:00Z", (200, 400)), get("/healthz", 200)),
        ("models in order of cost, then name",
            batch(trace("A", "10T01:00:00Z"), obs("B", "A", type="GENERATION", model="z", calculatedTotalCost=1),
                  obs("C", "A", type="GENERATION", model="b"), obs("D", "A", type="GENERATION", model="a"),
                  obs("E", "A", type="GENERATION", model="c", calculatedTotalCost=2)),
            daily("", lambda r: [u["model"] for u in r.json["data"][0]["usage"]] == ["c", "z", "a", "b"])),
        ("filters: name, user, tags, version, release, range",
            batch(trace("A", "10T01:00:00Z", name="n1", tags=["a", "b"], version="1", release="r1")),
            batch(trace("B", "11T01:00:00Z", name="n2", tags=["a"], version="2", release="r2")),
            daily("traceName=n1", days("2026-01-10")), daily("tags=a", days("2026-01-11", "2026-01-10")),
            daily("tags=a&tags=b", days("2026-01-10")), daily("tags=a,b", days("2026-01-10")), daily("version=2", days("2026-01-11")),
            daily("release=r1", days("2026-01-10")), daily("traceName=n1&version=2", days()), daily("", days(), mine="userId=nobody"),
            daily("", days("2026-01-11"), range="fromTimestamp=2026-01-11T01:00:00Z&toTimestamp=2026-01-11T01:00:00Z"),
            daily("", days("2026-01-10"), range="fromTimestamp=2026-01-01T00:00:00%2B00:00&toTimestamp=2026-01-11T08:59:59%2B08:00"),
            daily("", days(), range="fromTimestamp=2026-02-01T00:00:00Z&toTimestamp=2026-01-01T00:00:00Z")),
        ("the default range is 30 days up to now", batch({"id": "$A", "userId": "$U"}), batch(trace("B", "10T01:00:00Z")),
            daily("", lambda r: len(r.json["data"]) == 1 and r.json["data"][0]["countTraces"] == 1, range="")),
        ("what cannot be read is 400",
            *[daily(x, err("BAD_REQUEST"), status=400, range="") for x in ("page=a", "limit=", "fromTimestamp=2026-01-01", "toTimestamp=x",
                                                                           "page=1&page=1")]),
        ("a trace counts on the day of a range that cuts it",
            batch(trace("A", "10T01:00:00Z", totalCost=1)), batch(trace("B", "10T23:00:00Z", totalCost=2)),
            daily("", {"data": [{"countTraces": 1, "totalCost": 2.0}]}, range="fromTimestamp=2026-01-10T12:00:00Z&toTimestamp=2026-01-11T00:00:00Z")),
        ("costs sum exactly", batch(trace("A", "10T01:00:00Z", totalCost=0.1)), batch(trace("B", "10T02:00:00Z", totalCost=0.2)),
            daily("", Raw('"totalCost":0.3'), Raw("0.30000", absent=True))),
    ])

T.done()
