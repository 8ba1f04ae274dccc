#!/usr/bin/env python3
"""Metric points in and out: writing (M) and queries (Q)."""
# engines
# timeout: 240
# store
import datetime
import json
import os
import sys
import time
import urllib.parse
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
M, QUERY = "/v1/metrics/batch", "/api/public/metrics/query"
RANGE = "from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z"
BASE = datetime.datetime(2026, 2, 12, 10, 0, 0, tzinfo=datetime.timezone.utc)
HOUR = "2026-02-12T10:00:"


def point(value, second=0, labels=None, name="m-$M"):
    """`second`: seconds after 2026-02-12T10:00:00Z."""
    at = BASE + datetime.timedelta(seconds=second)
    return {"name": name, "labels": labels or {}, "value": value, "timestamp": at.isoformat().replace("+00:00", "Z")}


def push(*points):
    return post(M, {"metrics": list(points)}, 200, '{"message":"Request Successful."}')


def query(params="", *checks, status=200, range=RANGE):
    return get("%s?name=m-$M&%s" % (QUERY, "&".join(x for x in (range, params) if x)), status, *checks)


def values(*want):
    """One series with these values."""
    return lambda r: must([v["value"] for s in r.json["data"] for v in s["values"]] == list(want) and len(r.json["data"]) == 1,
                          "values %s, wanted %s" % (json.dumps(r.json["data"])[:300], list(want)))


def times(*want):
    return lambda r: must([v["timestamp"] for v in r.json["data"][0]["values"]] == [w + "+00:00" for w in want],
                          "times %s" % r.text[:300])


def series(*want):
    """The label sets of all series, in order."""
    return lambda r: must([s["labels"] for s in r.json["data"]] == list(want), "series %s" % [s["labels"] for s in r.json["data"]][:5])


def bad(params, message, *checks):
    return get("%s?name=x&%s" % (QUERY, params), 400, err("BAD_REQUEST", message), *checks)


def labels(value):
    return "labels=" + urllib.parse.quote(value if isinstance(value, str) else json.dumps(value))


STEP = "invalid step, must be one of: 1m, 5m, 1h, 1d"
AGG = "invalid agg, must be one of: avg, max, min, sum, last, p50, p90, p99"

with T.server() as s:
    T.rows(s, [
        ("M01 the names of an empty store", get("/api/public/metrics/names", 200, '{"data":[]}')),
        ("M01 a point; its name is listed, sorted bytewise",
            push(point(1, name="b-$M"), point(1, name="a-$M"), point(1, name="B-$M"), point(1, name="\u00e9-$M")),
            get("/api/public/metrics/names", 200, lambda r, v: r.json["data"] == [p + v["M"] for p in ("B-", "a-", "b-", "\u00e9-")])),
        ("M02 metrics is required and no null; an empty list is fine",
            post(M, "{}", 422, err("UNPROCESSABLE_ENTITY"), Raw("metrics")), post(M, '{"metrics":null}', 422, Raw("metrics")),
            post(M, '{"metrics":[]}', 200), post(M, "[]", 422), post(M, '{"metrics":{}}', 422), post(M, '{"metrics":[[]]}', 422)),
        ("M04 wrong types name the field, and nothing of the request is stored",
            *[post(M, {"metrics": [point(1), dict(point(2), **wrong)]}, 422, err("UNPROCESSABLE_ENTITY"), Raw(next(iter(wrong))))
              for wrong in ({"labels": {"k": 1}}, {"labels": []}, {"labels": {"k": None}}, {"value": "1"}, {"value": True}, {"timestamp": None},
                            {"timestamp": "2026-02-12"}, {"timestamp": 1}, {"name": None}, {"name": 1})],
            post(M, '{"metrics":[{"name":"m-$M","value":1}]}', 422, Raw("timestamp")),
            post(M, '{"metrics":[{"value":1,"timestamp":"2026-02-12T10:00:00Z"}]}', 422, Raw("name")),
            post(M, '{"metrics":[{"name":"m-$M","timestamp":"2026-02-12T10:00:00Z"}]}', 422, Raw("value")),
            post(M, '{"metrics":[{"name":"a","name":"b","value":1,"timestamp":"2026-02-12T10:00:00Z"}]}', 422, Raw("name")),
            post(M, '{"metrics":[{"name":"m-$M","value":NaN,"timestamp":"2026-02-12T10:00:00Z"}]}', 400),
            post(M, '{"metrics":[{"name":"m-$M","value":1e999,"timestamp":"2026-02-12T10:00:00Z"}]}', 400),
            query("", {"data": []})),
        ("M05 null labels are none; a point without a value is left out alone",
            post(M, '{"metrics":[{"name":"m-$M","labels":null,"value":1,"timestamp":"2026-02-12T10:00:00Z"}]}'),
            query("", series({}), values(1.0)),
            push(point(2), point(None), point(4)), query("agg=sum", values(7.0)), query("agg=max", values(4.0))),
        ("M05 missing labels, an empty name, a label twice, unknown members",
            post(M, '{"metrics":[{"name":"m-$M","value":3,"timestamp":"2026-02-12T10:00:00Z","x":[1]}]}'), query("", series({})),
            post(M, '{"metrics":[{"name":"","value":3,"timestamp":"2026-02-12T10:00:00Z"}]}'),
            get(QUERY + "?name=&" + RANGE, 200, values(3.0)),
            post(M, '{"metrics":[{"name":"d-$M","labels":{"k":"1","k":"2"},"value":3,"timestamp":"2026-02-12T10:00:00Z"}]}'),
            get(QUERY + "?name=d-$M&" + RANGE, 200, series({"k": "2"}))),
        ("M06 20,000 points in one request are all stored",
            push(*[point(1, i % 3600, {"s": str(i % 20)}) for i in range(20000)]),
            query("agg=sum&step=1d", lambda r: [x["values"][0]["value"] for x in r.json["data"]] == [1000.0] * 20)),
        ("a point sent twice counts twice", push(point(5)), push(point(5)), query("agg=sum", values(10.0))),

        ("Q01 the name is required", get(QUERY, 400, err("BAD_REQUEST"), Raw("name")), get(QUERY + "?agg=avg", 400, Raw("name"))),
        ("Q02 an unknown name", query("", '{"data":[],"meta":{"series_count":0,"truncated":false}}')),
        ("Q03 the average of a bucket",
            push(point(85, 10), point(87, 50)),
            query("agg=avg", Raw('"values":[{"timestamp":"2026-02-12T10:00:00+00:00","value":86.0}]')),
            query("", Exact({"data": [{"labels": {}, "values": [{"timestamp": HOUR + "00+00:00", "value": 86.0}]}],
                             "meta": {"latest_ts": HOUR + "50+00:00", "series_count": 1, "truncated": False}}))),
        ("Q04 the other aggregates",
            push(point(87, 50), point(85, 10)), query("agg=last", values(87.0)), query("agg=max", values(87.0)),
            query("agg=min", values(85.0)), query("agg=sum", values(172.0)), query("agg=%20P50%20", values(86.0)),
            query("agg=AVG", values(86.0))),
        ("Q04 last of equal times is the one that came last", push(point(1, 5)), push(point(3, 5), point(2, 5)), query("agg=last", values(2.0))),
        ("Q05 percentiles interpolate",
            push(*[point(v, v) for v in (4, 1, 3, 2)]), query("agg=p90", values(3.7), Raw("3.7")),
            query("agg=p99", Raw('"value":3.9699999999999998')), query("agg=p50", values(2.5)),
            push(point(9, name="one-$M")), get(QUERY + "?name=one-$M&agg=p99&" + RANGE, 200, values(9.0))),
        ("Q06 buckets start at multiples of the step",
            push(point(1, 0), point(2, 299), point(4, 300), point(8, 3600), point(16, 3600 * 14)),
            query("agg=sum&step=5m", values(3.0, 4.0, 8.0, 16.0), times("2026-02-12T10:00:00", "2026-02-12T10:05:00", "2026-02-12T11:00:00",
                                                                        "2026-02-13T00:00:00")),
            query("agg=sum&step=1h", values(7.0, 8.0, 16.0), times("2026-02-12T10:00:00", "2026-02-12T11:00:00", "2026-02-13T00:00:00")),
            query("agg=sum&step=%201d%20", values(15.0, 16.0), times("2026-02-12T00:00:00", "2026-02-13T00:00:00"))),
        ("Q06 before 1970 too",
            push(dict(point(1), timestamp="1969-12-31T23:59:59.5Z"), dict(point(2), timestamp="1969-12-31T23:58:00Z")),
            query("agg=sum", values(2.0, 1.0), times("1969-12-31T23:58:00", "1969-12-31T23:59:00"),
                  range="from=1969-12-31T00:00:00Z&to=1970-01-02T00:00:00Z")),
        ("Q07 bad parameters, first one first",
            bad("step=2m", STEP), bad("step=", STEP), bad("step=1M", STEP), bad("agg=median", AGG), bad("agg=", AGG),
            bad("from=2026-02-13T00:00:00Z&to=2026-02-12T00:00:00Z", "from must be <= to"),
            bad("from=2026-02-13T00:00:00Z&to=2026-02-12T00:00:00Z&step=x&agg=x&labels=x", "from must be <= to"),
            bad("step=x&agg=x&labels=x", STEP), bad("agg=x&labels=x", AGG), bad("from=9999-01-01T00:00:00Z", "from must be <= to"),
            bad("from=yesterday", ""), bad("step=1m&step=1m", ""), bad("to=", "")),
        ("Q09 points at both ends count",
            push(point(1, 0), point(2, 60), point(4, 120)),
            query("agg=sum&step=1d", values(7.0), range="from=2026-02-12T10:00:00Z&to=2026-02-12T10:02:00Z"),
            query("agg=sum&step=1d", values(2.0), range="from=2026-02-12T10:00:00.000001Z&to=2026-02-12T10:01:59.999999Z")),
        ("Q09 the default range is the last hour",
            lambda s, v: [must(s.post(M, {"metrics": [{"name": "m-" + v["M"], "value": n,
                                                       "timestamp": (now() - datetime.timedelta(minutes=m)).isoformat()}
                                                      for n, m in ((1, 0), (2, 59), (4, 62))]}).status == 200, "push")],
            query("agg=sum&step=1d", lambda r: sum(x["value"] for x in r.json["data"][0]["values"]) == 3.0, range="")),
        ("Q10 labels filter: all given pairs, the series' full labels come back",
            push(point(1, 0, {"a": "1", "b": "x"}), point(2, 0, {"a": "2"}), point(4, 0, {"b": "x"})),
            query(labels({"a": "1"}), series({"a": "1", "b": "x"}), values(1.0)), query(labels({"b": "x", "a": "1"}), series({"a": "1", "b": "x"})),
            query(labels({"b": "x"}), series({"a": "1", "b": "x"}, {"b": "x"})), query(labels({"a": "3"}), series()),
            query(labels({"c": "1"}), series())),
        ("Q11 labels: empty, blank, and JSON that can match nothing",
            push(point(1, 0, {"a": "1"}), point(2, 0, {})), query(labels({}), series({"a": "1"}, {})), query("labels=", series({"a": "1"}, {})),
            query("labels=%20", series({"a": "1"}, {})),
            *[query(labels(x), series()) for x in ('{"a":1}', "[]", "null", "1", '"a"', '{"a":null}', '{"a":["1"]}', '{"a":{"b":"1"}}')]),
        ("Q12 labels that are no JSON", bad("labels=%7Bbad", "invalid labels json"), bad(labels('{"a":"1"} x'), "invalid labels json"),
            bad(labels("{'a':'1'}"), "invalid labels json")),
        ("Q13 group_by: one series a value, one for those without",
            push(point(1, 0, {"b": "x", "i": "1"}), point(3, 1, {"b": "x", "i": "2"}), point(10, 2, {"i": "3"})),
            query("group_by=b&agg=sum", lambda r: sorted((s["labels"]["b"] or "", s["values"][0]["value"]) for s in r.json["data"]) ==
                  [("", 10.0), ("x", 4.0)], lambda r: all(list(s["labels"]) == ["b"] for s in r.json["data"]), {"meta": {"series_count": 2}}),
            query("group_by=b&agg=sum&" + labels({"b": "x"}), series({"b": "x"}), values(4.0)),
            query("group_by=&agg=sum", series({"": None}), values(14.0)), query("group_by=zz&agg=max", series({"zz": None}), values(10.0)),
            query("group_by=b&agg=p50&" + labels({"b": "x"}), values(2.0))),
        ("Q13 series are ordered by the text of their labels",
            push(*[point(1, 0, l) for l in ({"b": "1"}, {"a": "2"}, {}, {"a": "10"}, {"a": "1", "b": "1"}, {"a": "1"})]),
            query("", series({"a": "1", "b": "1"}, {"a": "1"}, {"a": "10"}, {"a": "2"}, {"b": "1"}, {}))),
        ("Q14 at most 50 series",
            push(*[point(1, 0, {"i": "%02d" % i}) for i in range(50)]), query("", {"meta": {"series_count": 50, "truncated": False}}),
            push(point(1, 0, {"i": "50"})), query("", {"meta": {"series_count": 50, "truncated": True}},
                                                  series(*[{"i": "%02d" % i} for i in range(50)]))),
        ("Q15 at most 1000 values a series, the newest",
            push(*[point(i, 60 * i) for i in range(1000)]),
            query("", {"meta": {"truncated": False}}, lambda r: len(r.json["data"][0]["values"]) == 1000,
                  range="from=2026-02-12T00:00:00Z&to=2026-02-14T00:00:00Z"),
            push(point(1000, 60000)),
            query("", {"meta": {"truncated": True, "series_count": 1}}, values(*[float(i) for i in range(1, 1001)]),
                  range="from=2026-02-12T00:00:00Z&to=2026-02-14T00:00:00Z")),
        ("Q16 latest_ts is the newest point's own time",
            push(point(1, 50), point(2, 10)), query("step=1h", {"meta": {"latest_ts": "2026-02-12T10:00:50+00:00"}}),
            push(dict(point(3), timestamp="2026-02-12T10:00:51.123456789Z")),
            query("step=1d", {"meta": {"latest_ts": Like(r"2026-02-12T10:00:51\.123456(789)?\+00:00")}})),
        ("Q16 latest_ts belongs to what was asked for",
            push(point(1, 10, {"a": "1"}), point(2, 50, {"a": "2"})),
            query(labels({"a": "1"}), {"meta": {"latest_ts": HOUR + "10+00:00"}}),
            query("", {"meta": {"latest_ts": HOUR + "10+00:00"}}, range="from=2026-02-12T10:00:00Z&to=2026-02-12T10:00:30Z")),
        ("numbers: shortest form, always a fraction or an exponent",
            *[step for n, (sent, back) in enumerate([("85", "85.0"), ("0.1", "0.1"), ("1e15", "1000000000000000.0"), ("1e16", "1e16"),
                                                     ("0.00001", "0.00001"), ("1e-6", "1e-6"), ("5e-324", "5e-324"),
                                                     ("1.7976931348623157e308", "1.7976931348623157e308"), ("123456789.125", "123456789.125"),
                                                     ("9007199254740993", "9007199254740992.0")])
              for step in (post(M, '{"metrics":[{"name":"%d-$M","value":%s,"timestamp":"2026-02-12T10:00:00Z"}]}' % (n, sent)),
                           get(QUERY + "?name=%d-$M&agg=last&%s" % (n, RANGE), 200, Raw('"value":%s}' % back)))]),
        ("a sum beyond double is no 500",
            push(point(1.7e308, 1), point(1.7e308, 2)), query("agg=sum", status=(200, 400, 422)), query("agg=avg", status=(200, 400, 422)),
            query("agg=max", values(1.7e308))),
        ("label values may hold anything",
            push(point(1, 0, {"k \u00e9\"\\\n": "v \u00e9\"\\\n\U0001f680", "": ""})),
            query("", series({"k \u00e9\"\\\n": "v \u00e9\"\\\n\U0001f680", "": ""})), query(labels({"": ""}), values(1.0)),
            query(labels({"k \u00e9\"\\\n": "v \u00e9\"\\\n\U0001f680"}), values(1.0))),
        ("absurd ranges are answered",
            push(point(1)), query("", {"meta": {"series_count": 1}}, range="from=-9999-01-01T00:00:00Z&to=%2B12345-01-01T00:00:00Z", status=(200, 400)),
            query("step=1d", status=(200, 400), range="to=-262143-01-01T00:00:00Z"),
            query("", series({}), range="from=1678-01-01T00:00:00Z&to=2261-01-01T00:00:00Z")),
    ])

    @T.case("Q17 fresh points make fresh latest_ts")
    def _():
        name = "m-" + uid()
        for i in range(2):
            if i:
                time.sleep(5 if T.long else 1)
            load = Load()
            r = s.post(M, {"metrics": [{"name": name, "value": i, "timestamp": now().isoformat()}]})
            assert r.status == 200
            r = s.get("%s?name=%s&agg=last&step=1m" % (QUERY, name)).json
            age = (now() - iso(r["meta"]["latest_ts"])).total_seconds()
            assert age < (15 if i == 0 else 3) * T.slow * load.factor(), "latest_ts is %.1f s old" % age
            assert r["data"][0]["values"][-1]["value"] == float(i)

    @T.case("Q18 group_by=span_name over 5,000 series of their own, under 500 ms")
    def _():
        name = "m-" + uid()
        for k in range(5):
            points = [point(i % 100 / 100, i % 3000, {"span_name": "s%d" % (i % 7), "trace_id": uid().replace("-", "")}, name)
                      for i in range(k * 1000, k * 1000 + 1000)]
            assert s.post(M, {"metrics": points}).status == 200
        best, load = 9, Load()
        for _ in range(5):
            r = s.quick("GET", "%s?name=%s&group_by=span_name&agg=p99&step=1d&%s" % (QUERY, name, RANGE))
            assert [x["labels"] for x in r.json["data"]] == [{"span_name": "s%d" % i} for i in range(7)], r.text[:200]
            best = min(best, r.seconds)
        assert best < 0.5 * T.slow * load.factor(), "%.0f ms" % (best * 1000)
        want = sorted(i % 100 / 100 for i in range(5000) if i % 7 == 3)
        pos = 0.99 * (len(want) - 1)
        exact = want[int(pos)] + (want[int(pos) + 1] - want[int(pos)]) * (pos - int(pos))
        got = r.json["data"][3]["values"][0]["value"]
        assert abs(got - exact) < 1e-12, (got, exact)

    @T.case("points survive an orderly restart and a kill")
    def _():
        name = "m-" + uid()
        for i, how in enumerate((15, 9)):
            assert s.post(M, {"metrics": [point(2 ** i, i, {"l": "x"}, name)]}).status == 200
            s.restart(how)
            r = s.get("%s?name=%s&agg=sum&step=1d&%s" % (QUERY, name, RANGE))
            assert [x["values"][0]["value"] for x in r.json["data"]] == [float(2 ** (i + 1) - 1)], r

# The cases above use points of long ago: none of them may meet this server.
with T.server({"XTRACE_RETENTION_FIRST_ROUND": "0", "XTRACE_RETENTION_INTERVAL": "1", "METRICS_RETENTION_DAYS": "30",
               "TRACES_RETENTION_DAYS": "30"}) as s:
    @T.case("old points and traces go while the server runs, young ones stay")
    def _():
        name, old, young = "m-" + uid(), uid(), uid()
        fresh = {"name": name, "labels": {"l": "fresh"}, "value": 1, "timestamp": now().isoformat()}
        assert s.post(M, {"metrics": [point(1, 0, {"l": "old"}, name), fresh]}).status == 200
        path = "%s?name=%s&from=2026-02-12T00:00:00Z" % (QUERY, name)
        wait(lambda: [x["labels"] for x in s.get(path).json["data"]] == [{"l": "fresh"}], 10 * T.slow, "the old point stays")
        for id in (old, young):
            s.batch({"id": id, "name": "n"})
        s.stop()
        assert s.sql("UPDATE {trace} SET created = 1 WHERE tseq = (SELECT min(tseq) FROM {trace}) RETURNING created") in ([(1,)], [("1",)])
        s.start()
        wait(lambda: s.get("/api/public/traces/" + old).status == 404, 10 * T.slow, "the old trace stays")
        assert s.get("/api/public/traces/" + young).status == 200

T.done()
