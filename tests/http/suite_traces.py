#!/usr/bin/env python3
"""Reading traces: lists (L) and details (T)."""
# engines
# timeout: 180
# store
import os
import re
import sys
import urllib.parse
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
L = "/api/public/traces"
DAY = "2026-01-01T00:00:0%dZ"


def batch(trace, *observations):
    return post("/v1/l/batch", {"trace": trace, "observations": list(observations)})


def three(**more):
    """Traces A, B, C of user $U, one second apart, named c, a, b."""
    return [batch(dict({"id": "$" + x, "userId": "$U", "name": n, "timestamp": DAY % i}, **more))
            for i, (x, n) in enumerate(zip("ABC", "cab"))]


def listed(query, names, *checks, mine="userId=$U", status=200):
    """The list of this row's user answers exactly these traces in this order ("" for none)."""
    def same(r, v):
        got, want = [t["id"] for t in r.json["data"]], [v[x] for x in names]
        return got == want or must(False, "order %s, wanted %s" % (
            "".join(next((k for k in v if v[k] == g), "?") for g in got), names))
    return get("%s?%s" % (L, "&".join(x for x in (mine, query) if x)), status, same, *checks)


def bad(query, *checks):
    return get("%s?%s" % (L, query), 400, err("BAD_REQUEST"), *checks)


def meta(page, limit, items, pages):
    return lambda r: r.json["meta"] == {"page": page, "limit": limit, "totalItems": items, "totalPages": pages}


q = urllib.parse.quote

with T.server() as s:
    T.rows(s, [("L01 an empty store",
                get(L, 200, '{"data":[],"meta":{"page":1,"limit":50,"totalItems":0,"totalPages":0}}',
                    Hdr("content-type", "application/json")))])

    T.rows(s, [
        ("L06 without parameters: newest first, all keys",
            *three(input={"i": 1}), batch(None, {"id": "$D", "traceId": "$A", "startTime": "2026-01-01T00:00:00Z"}),
            batch(None, {"id": "$E", "traceId": "$A", "startTime": "2026-01-01T00:00:09Z"}),
            listed("", "CBA", meta(1, 50, 3, 1), mine=""),
            get(L + "?foo=1&tags[x]=y", 200, lambda r: len(r.json["data"]) == 3,
                lambda r: [k for k in r.json["data"][0] if k in TRACE_KEYS] == TRACE_KEYS,
                {"data": [{"scores": []}, {"tags": []}, {
                    "id": "$A", "timestamp": "2026-01-01T00:00:00Z", "name": "c", "input": {"i": 1}, "output": ANY, "sessionId": None,
                    "release": None, "version": None, "userId": "$U", "metadata": None, "tags": [], "public": False,
                    "projectId": "default", "externalId": None, "bookmarked": False, "environment": "default",
                    "htmlPath": "/project/default/traces/$A", "scores": [],
                    "observations": lambda got: len(got) == 2 and all(isinstance(x, str) for x in got)}]},
                lambda r, v: sorted(r.json["data"][2]["observations"]) == sorted((v["D"], v["E"])))),
    ])

with T.server() as s:
    T.rows(s, [
        ("L02 pages", *three(), listed("limit=2&page=2", "A", meta(2, 2, 3, 2)), listed("limit=2", "CB", meta(1, 2, 3, 2)),
            listed("limit=3", "CBA", meta(1, 3, 3, 1)), listed("limit=1&page=2", "B", meta(2, 1, 3, 3))),
        ("L03 odd pages and limits are clamped",
            *three(), listed("limit=0", "C", meta(1, 1, 3, 3)), listed("limit=1000", "CBA", meta(1, 200, 3, 1)),
            listed("page=-5", "CBA", meta(1, 50, 3, 1)), listed("page=99", "", meta(99, 50, 3, 1)), listed("limit=-3", "C"),
            listed("page=0", "CBA", meta(1, 50, 3, 1)), listed("limit=%2B2", "CB")),
        ("L04 pages and limits that are no integers",
            bad("page=abc"), bad("page="), bad("limit=1.5"), bad("page=1&page=2"), bad("limit=1&limit=1"), bad("page=1x"),
            bad("page=%201"), bad("limit=99999999999999999999"), bad("userId=a&userId=b"), bad("orderBy=name&orderBy=name")),
        ("L05 a page beyond all sense",
            *three(), listed("page=9223372036854775807", "", {"meta": {"totalItems": 3}}),
            listed("page=9223372036854775807&limit=200", ""), bad("page=9223372036854775808")),
        ("L06 one item matches all filters together",
            batch({"id": "$A", "userId": "$U", "name": "n \u00e9&=+%", "sessionId": "s 1", "version": "v", "release": "r"}),
            batch({"id": "$B", "userId": "$U", "name": "n \u00e9&=+%", "sessionId": "s 1", "version": "v", "release": "r2"}),
            listed("name=%s&sessionId=s%%201&version=v&release=r" % q("n \u00e9&=+%"), "A"),
            listed("name=%s&sessionId=s+1&version=v&release=r" % q("n \u00e9&=+%"), "A"),
            listed("name=N", ""), listed("name=", ""), listed("sessionId=s%201&release=r2", "B"), listed("version=V", "")),
        ("L06 an empty filter asks for the empty text",
            batch({"id": "$A", "userId": "", "sessionId": "$U"}), batch({"id": "$B", "sessionId": "$U"}),
            listed("userId=", "A", mine="sessionId=$U"), listed("userId", "A", mine="sessionId=$U")),
        ("L07 orderBy with a direction, without, with odd ones",
            *three(), listed("orderBy=name.asc", "BCA"), listed("orderBy=name", "ACB"), listed("orderBy=name.x", "BCA"),
            listed("orderBy=timestamp.DESC", "CBA"), listed("orderBy=timestamp.asc", "ABC"), listed("orderBy=timestamp", "CBA"),
            listed("orderBy=%20name.desc%20", "ACB"), listed("orderBy=name.", "BCA"), listed("orderBy=timestamp.", "CBA"),
            listed("orderBy=name.desc.asc", "BCA")),
        ("L07 every field orders",
            batch({"id": "$A", "userId": "$U", "sessionId": "1", "release": "1", "version": "1", "public": False, "bookmarked": False,
                   "latency": 1, "totalCost": 1, "name": "1", "timestamp": DAY % 1}),
            batch({"id": "$B", "userId": "$U", "sessionId": "2", "release": "2", "version": "2", "public": True, "bookmarked": True,
                   "latency": 2, "totalCost": 2, "name": "2", "timestamp": DAY % 2}),
            *[listed("orderBy=%s.%s" % (f, d), "AB" if d == "asc" else "BA") for d in ("asc", "desc")
              for f in ("timestamp", "name", "release", "version", "public", "bookmarked", "sessionId", "session_id", "latency",
                        "totalCost", "total_cost")],
            get(L + "?userId=$U&orderBy=id.asc", 200, lambda r: r.json["data"][0]["id"] < r.json["data"][1]["id"]),
            get(L + "?userId=$U&orderBy=id.desc", 200, lambda r: r.json["data"][0]["id"] > r.json["data"][1]["id"])),
        ("L07 ids order as they read, those with a zero half too",
            *[batch({"id": i, "userId": "$U"}) for i in ("0000000000000000$A.span", "0100000000000000$A.span", "f000000000000000$A.span")],
            get(L + "?userId=$U&orderBy=id.asc", 200, lambda r: [t["id"][:2] for t in r.json["data"]] == ["00", "01", "f0"]),
            get(L + "?userId=$U&orderBy=id.desc", 200, lambda r: [t["id"][:2] for t in r.json["data"]] == ["f0", "01", "00"])),
        ("L07 userId orders", batch({"id": "$A", "userId": "1", "name": "$N"}), batch({"id": "$B", "userId": "2", "name": "$N"}),
            *[listed("orderBy=%s.%s" % (f, d), o, mine="name=$N") for f in ("userId", "user_id") for d, o in (("asc", "AB"), ("desc", "BA"))]),
        ("L07 the order holds over pages", *three(), listed("orderBy=name.asc&limit=1&page=1", "B"),
            listed("orderBy=name.asc&limit=1&page=2", "C"), listed("orderBy=name.asc&limit=1&page=3", "A")),
        ("L08 nothing comes first going down, last going up",
            batch({"id": "$A", "userId": "$U", "latency": 1, "totalCost": 1, "name": "x", "timestamp": DAY % 1}),
            batch({"id": "$B", "userId": "$U", "timestamp": DAY % 2}),
            batch({"id": "$C", "userId": "$U", "latency": 2, "totalCost": 2, "name": "y", "timestamp": DAY % 3}),
            listed("orderBy=latency.desc", "BCA"), listed("orderBy=latency.asc", "ACB"), listed("orderBy=totalCost.desc", "BCA"),
            listed("orderBy=totalCost.asc", "ACB"), listed("orderBy=name.desc", "BCA"), listed("orderBy=name.asc", "ACB")),
        ("L08 what is derived orders too",
            batch({"id": "$A", "userId": "$U"}, {"id": "$D", "traceId": "$A", "startTime": DAY % 0, "endTime": DAY % 5,
                                                 "calculatedTotalCost": 0.5}),
            batch({"id": "$B", "userId": "$U"}, {"id": "$E", "traceId": "$B", "startTime": DAY % 0, "endTime": DAY % 2,
                                                 "calculatedTotalCost": 0.25}),
            listed("orderBy=latency.desc", "AB"), listed("orderBy=latency.asc", "BA"), listed("orderBy=totalCost.desc", "AB"),
            listed("orderBy=totalCost.asc", "BA")),
        ("L09 orderBy that names no field",
            *[get(L + "?orderBy=" + o, 400, {"message": "invalid order_by", "code": "BAD_REQUEST"})
              for o in ("foo", "", "Name", "timestamp%20.asc", "input", "id;drop", ".asc")]),
        ("L11 fields without io, metrics and observations",
            batch({"id": "$A", "userId": "$U", "input": 1, "latency": 3, "totalCost": 4}, {"id": "$B", "traceId": "$A"}),
            *[listed("fields=" + f, "A", Raw('"latency":-1.0,"totalCost":-1.0'), {"data": [{"observations": [], "scores": []}]},
                     lambda r: not {"input", "output", "metadata"} & set(r.json["data"][0]),
                     lambda r: len(set(TRACE_KEYS) & set(r.json["data"][0])) == 20)
              for f in ("core", "", "IO", "core,scores", "nonsense")]),
        ("L12 fields=io,observations",
            batch({"id": "$A", "userId": "$U", "input": 1, "latency": 3}, {"id": "$B", "traceId": "$A"}),
            *[listed("fields=" + f, "A", {"data": [{"input": 1, "output": ANY, "metadata": None, "observations": ["$B"]}]},
                     Raw('"latency":-1.0,"totalCost":-1.0')) for f in ("io,observations", "%20io%20,core,observations,x")]),
        ("L12 fields=metrics",
            batch({"id": "$A", "userId": "$U", "input": 1, "latency": 3, "totalCost": 0.5}),
            listed("fields=metrics", "A", Raw('"latency":3.0,"totalCost":0.5'), lambda r: "input" not in r.json["data"][0])),
        ("L16 both ends of a time range count; from after to is empty",
            *three(), listed("fromTimestamp=2026-01-01T00:00:01%2B00:00", "CB"), listed("toTimestamp=2026-01-01T00:00:01%2B00:00", "BA"),
            listed("fromTimestamp=2026-01-01T00:00:01Z&toTimestamp=2026-01-01T00:00:01Z", "B", meta(1, 50, 1, 1)),
            listed("fromTimestamp=2026-01-01T08:00:02%2B08:00", "C"), listed("fromTimestamp=2026-01-01T00:00:01.000001Z", "C"),
            listed("fromTimestamp=2026-01-02T00:00:00Z&toTimestamp=2026-01-01T00:00:00Z", "", meta(1, 50, 0, 0)),
            listed("fromTimestamp=-9999-01-01T00:00:00Z&toTimestamp=%2B12345-01-01T00:00:00Z", "CBA")),
        ("L17 times that cannot be read",
            *[bad("%s=%s" % (k, v)) for k in ("fromTimestamp", "toTimestamp")
              for v in ("2026-01-01T00:00:00+00:00", "2026-01-01", "", "1767225600", "2026-01-01T00:00:00", "now", "2026-13-01T00:00:00Z")]),
        ("L19 tags: all of them, once, repeated, comma-joined, with brackets",
            batch({"id": "$A", "userId": "$U", "tags": ["a", "b"], "timestamp": DAY % 1}),
            batch({"id": "$B", "userId": "$U", "tags": ["a"], "timestamp": DAY % 2}),
            batch({"id": "$C", "userId": "$U", "tags": ["b,c", "A"], "timestamp": DAY % 3}),
            listed("tags=a", "BA"), listed("tags=a&tags=b", "A", meta(1, 50, 1, 1)), listed("tags=a,b", "A"), listed("tags[]=a&tags[]=b", "A"),
            listed("tags%5B%5D=a", "BA"), listed("tags=A", "C"), listed("tags=zz", ""), listed("tags=b%2Cc&tags=A", "C")),
        ("L20 environment: any of them",
            batch({"id": "$A", "userId": "$U", "environment": "prod", "timestamp": DAY % 1}),
            batch({"id": "$B", "userId": "$U", "timestamp": DAY % 2}),
            batch({"id": "$C", "userId": "$U", "environment": "dev", "timestamp": DAY % 3}),
            listed("environment=prod", "A"), listed("environment=prod&environment=default", "BA"), listed("environment=prod,default", "BA"),
            listed("environment=x", ""), listed("environment=dev&environment=prod&environment=default", "CBA", meta(1, 50, 3, 1))),
        ("L23 a foreign projectId is kept, shown and can be asked for",
            batch({"id": "$A", "userId": "$U", "projectId": "other", "timestamp": DAY % 1}),
            batch({"id": "$B", "userId": "$U", "timestamp": DAY % 2}),
            get(L + "/$A", 200, {"projectId": "other", "htmlPath": "/project/other/traces/$A"}),
            listed("", "BA"), listed("projectId=other", "A"), listed("projectId=default", "B"), listed("projectId=none", "")),
        ("L24 a NUL in a filter finds nothing",
            *three(), get(L + "?userId=%00", 200, {"data": [], "meta": {"totalItems": 0}}), get(L + "?tags=%00", 200, {"data": []}),
            get(L + "?userId=$U%00", 200, {"data": []})),
        ("L24 bytes that are no UTF-8 in a filter", get(L + "?userId=%ff%fe", (200, 400)), get(L + "?name=%c0%80", (200, 400))),
        ("L25 equal times: pages do not repeat or lose a trace",
            *[batch({"id": "$" + x, "userId": "$U", "timestamp": DAY % 1}) for x in "ABC"],
            *[lambda s, v, o=o: must(sorted(s.get("%s?userId=%s&limit=1&page=%d%s" % (L, v["U"], p, o)).json["data"][0]["id"]
                                            for p in (1, 2, 3)) == sorted(v[x] for x in "ABC"), "a trace repeats or is lost")
              for o in ("", "&orderBy=timestamp.asc", "&orderBy=name.asc", "&orderBy=latency.desc", "&orderBy=public")]),
        ("a list shows what the trace was updated to",
            *three(), batch({"id": "$A", "userId": "$V", "name": "z", "timestamp": DAY % 9, "tags": ["t-$U"]}),
            listed("", "CB", meta(1, 50, 2, 1)), listed("", "A", mine="userId=$V"), listed("name=z&tags=t-$U", "A", mine="userId=$V")),
        ("a list can be asked with a slash and blanks in its values",
            batch({"id": "$A", "userId": "$U/x y"}), listed("", "A", mine="userId=$U/x%20y"), listed("", "A", mine="userId=$U%2Fx+y")),
    ])

    T.rows(s, [
        ("T01 an unknown trace", get(L + "/$A", 404, '{"message":"Not Found","code":"NOT_FOUND"}')),
        ("T02 an id that is no UUID",
            get(L + "/abc", 400, err("BAD_REQUEST", "Invalid URL")), get(L + "/%20", 400, err("BAD_REQUEST", "Invalid URL")),
            get(L + "/a%2Fb", 400, err("BAD_REQUEST", "Invalid URL")), get(L + "/%ff", 400, err("BAD_REQUEST", "Invalid URL")),
            get(L + "/%00", 400, err("BAD_REQUEST")), get(L + "/a/b", 404, err("NOT_FOUND")), get(L + "/" + "a" * 900, (400, 404))),
        ("T02 a percent-encoded id is decoded", batch({"id": "$A"}),
            lambda s, v: must(s.get(L + "/" + "".join("%%%02x" % ord(c) for c in v["A"])).status == 200, "not found")),
        ("T03 spellings of the id; observations by start, the one without last",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "startTime": DAY % 3}, {"id": "$C", "traceId": "$A"},
                  {"id": "$D", "traceId": "$A", "startTime": DAY % 1}, {"id": "$E", "traceId": "$A", "startTime": DAY % 2}),
            *[get(L + "/" + a, 200, lambda r, v: [o["id"] for o in r.json["observations"]] == [v[x] for x in "DEBC"], {"id": "$A"})
              for a in ("$A", "$A.up", "$A.hex", "{$A}", "%7B$A%7D", "urn:uuid:$A")]),
        ("T03 io is always present in the detail", batch({"id": "$A"}),
            get(L + "/$A", 200, {"input": None, "output": None, "metadata": None})),
        ("derived on read: latency, first token, trace latency, cost, input and output",
            batch({"id": "$A"},
                  {"id": "$B", "traceId": "$A", "type": "SPAN", "startTime": DAY % 0, "endTime": DAY % 2, "input": "in", "output": "out"},
                  {"id": "$C", "traceId": "$A", "parentObservationId": "$B", "startTime": DAY % 1, "endTime": DAY % 4,
                   "completionStartTime": "2026-01-01T00:00:01.5Z", "calculatedTotalCost": 0.1, "input": "x"},
                  {"id": "$D", "traceId": "$A", "parentObservationId": "$B", "startTime": DAY % 2, "calculatedTotalCost": 0.2}),
            get(L + "/$A", 200, Raw('"latency":4.0,"totalCost":0.3'),
                {"input": "in", "output": "out", "observations": [{"latency": 2.0, "timeToFirstToken": None},
                                                                  {"latency": 3.0, "timeToFirstToken": 0.5}, {"latency": None}]}),
            get(L + "?fromTimestamp=2026-01-01T00:00:00Z&limit=200", 200,
                lambda r, v: holds({"latency": 4.0, "totalCost": 0.3}, [t for t in r.json["data"] if t["id"] == v["A"]][0]))),
        ("what was sent wins over what could be derived",
            batch({"id": "$A", "latency": 9, "totalCost": 8, "input": "mine", "output": "mine too"},
                  {"id": "$B", "traceId": "$A", "startTime": DAY % 0, "endTime": DAY % 2, "latency": 7, "timeToFirstToken": 6,
                   "completionStartTime": DAY % 1, "calculatedTotalCost": 5, "input": "i", "output": "o"}),
            get(L + "/$A", 200, {"latency": 9.0, "totalCost": 8.0, "input": "mine", "output": "mine too",
                                 "observations": [{"latency": 7.0, "timeToFirstToken": 6.0}]})),
        ("sums of costs are exact: ten times 0.1 is 1.0",
            batch({"id": "$A"}, *[{"id": "$" + x, "traceId": "$A", "calculatedTotalCost": 0.1} for x in "BCDEFGHIJK"]),
            get(L + "/$A", 200, Raw('"totalCost":1.0'))),
        ("only parts of a cost: the total is their sum; no cost: none is claimed",
            batch({"id": "$A"}, {"id": "$B", "traceId": "$A", "calculatedInputCost": 0.25, "calculatedOutputCost": 0.5, "promptTokens": 1,
                                 "startTime": DAY % 1},
                  {"id": "$C", "traceId": "$A", "promptTokens": 1, "completionTokens": 1, "totalTokens": 2, "startTime": DAY % 2}),
            get(L + "/$A", 200, lambda r: "total" not in r.json["observations"][1]["costDetails"],
                {"observations": [{"costDetails": {"input": 0.25, "output": 0.5}}, {"calculatedTotalCost": None}]})),
    ])

    @T.case("lists by turn_id, run_id, step_id and parent_step_id of metadata, the trace's or an observation's")
    def _():
        a, b, c, d, user = uid(), uid(), uid(), uid(), uid()
        n = {name: name + "-" + uid() for name in ("run", "turn", "step", "parent")}

        def send(trace, *observations):
            assert s.request("POST", "/v1/l/batch", {"trace": trace, "observations": list(observations)}).status == 200

        def listed(query, want, total=None):
            r = s.quick("GET", L + "?" + query)
            assert r.status == 200, r.status
            got = [t["id"] for t in r.json["data"]]
            assert got == want, (query[:80], got, want)
            assert r.json["meta"]["totalItems"] == (len(want) if total is None else total), r.json["meta"]
        send({"id": a, "timestamp": DAY % 1, "userId": user, "metadata": {"run_id": n["run"], "turn_id": n["turn"], "x": {"step_id": n["step"]}}})
        ob, oc = uid(), uid()
        send({"id": b, "timestamp": DAY % 2, "userId": user},
             {"id": ob, "traceId": b, "metadata": {"run_id": n["run"], "step_id": n["step"]}},
             {"id": oc, "traceId": b, "metadata": {"run_id": n["run"], "step_id": 7.5, "parent_step_id": n["step"]}})
        send({"id": c, "timestamp": DAY % 3, "userId": user, "metadata": {"run_id": [n["run"]], "turn_id": None, "step_id": "\u0000" + "x" * 100000}})
        send({"id": d, "timestamp": DAY % 4, "metadata": "run_id"})
        listed("run_id=" + n["run"], [b, a])
        listed("run_id=%s&orderBy=timestamp.asc" % n["run"], [a, b])
        listed("run_id=%s&limit=1&page=2" % n["run"], [a], 2)
        listed("run_id=%s&orderBy=id.asc" % n["run"], sorted([a, b]))
        listed("run_id=%s&userId=%s" % (n["run"], user), [b, a])
        listed("run_id=%s&userId=%s" % (n["run"], uid()), [])
        listed("turn_id=" + n["turn"], [a])
        listed("step_id=" + n["step"], [b])
        listed("step_id=7.5&userId=" + user, [b])
        listed("parent_step_id=%s&step_id=%s&run_id=%s" % (n["step"], n["step"], n["run"]), [b])
        listed("turn_id=%s&step_id=%s" % (n["turn"], n["step"]), [])
        listed("step_id=%00" + "x" * 3000, [])
        listed("run_id=%s&fromTimestamp=%s" % (n["run"], DAY % 2), [b])
        listed("run_id=" + n["run"].upper(), [])
        # What metadata no longer says is no longer found; what says it still is.
        send({"id": a, "metadata": {"turn_id": n["turn"] + "b"}})
        send(None, {"id": ob, "traceId": b, "metadata": {"step_id": n["step"] + "b"}})
        listed("turn_id=" + n["turn"], [])
        listed("turn_id=%sb" % n["turn"], [a])
        listed("run_id=" + n["run"], [b])
        listed("step_id=" + n["step"], [])
        send({"id": a, "name": "no metadata is no news"})
        listed("turn_id=%sb" % n["turn"], [a])

    @T.case("2,000 traces can be paged through, newest first, without a gap")
    def _():
        user, ids = uid(), [uid() for _ in range(2000)]

        def send(k):
            for i in range(k * 250, k * 250 + 250):
                r = s.request("POST", "/v1/l/batch", {"trace": {"id": ids[i], "userId": user, "timestamp": "2026-01-03T%02d:%02d:%02dZ"
                                                                % (i // 3600, i // 60 % 60, i % 60)}})
                assert r.status == 200
        threads(8, send)
        seen = []
        for page in range(1, 12):
            r = s.quick("GET", "%s?userId=%s&limit=200&page=%d&fields=core" % (L, user, page)).json
            assert r["meta"] == {"page": page, "limit": 200, "totalItems": 2000, "totalPages": 10}, r["meta"]
            seen += [t["id"] for t in r["data"]]
        assert seen == ids[::-1]
        # Of all traces, whose pages far down are found by the counts of hours: every page once, from either end.
        for way in ("desc", "asc"):
            far, page, pages = [], 0, 1
            while page < pages:
                page += 1
                r = s.quick("GET", "%s?limit=200&page=%d&fields=core&orderBy=timestamp.%s" % (L, page, way)).json
                pages, total = r["meta"]["totalPages"], r["meta"]["totalItems"]
                far += [t["id"] for t in r["data"]]
            assert len(far) == len(set(far)) == total, (way, len(far), len(set(far)), total)
            mine = set(ids)
            assert [i for i in far if i in mine] == (ids[::-1] if way == "desc" else ids), way

T.done()
