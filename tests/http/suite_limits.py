#!/usr/bin/env python3
"""The rate limiter: 20 a second, burst of 40."""
# engines: ci
import os
import re
import sys
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
NAMES, STATS = "/api/public/metrics/names", "/api/internal/rate_limit_stats"
LIMITS = {"RATE_LIMIT_QPS": "20", "RATE_LIMIT_BURST": "40"}
CLUB = {"RATE_LIMIT_QPS": "1", "RATE_LIMIT_BURST": "5"}


def volley(s, n, path=NAMES, auth=BEARER):
    """n requests down one connection; (answers, seconds)."""
    with s.conn() as c:
        t = time.monotonic()
        got = [c.request("GET", path, auth=auth) for _ in range(n)]
        return got, time.monotonic() - t


def drain(s, qps, burst, path=NAMES, auth=BEARER):
    """Requests until one is refused: the bucket is empty then.  No more pass than it may hold by that time, however slow
    we are.  Returns (answers, time before the refused one was sent, time when its answer was there)."""
    got, start = [], time.monotonic()
    with s.conn() as c:
        while not got or got[-1].status != 429:
            asked = time.monotonic()
            must(asked - start < 30 * T.slow, "never refused, %d requests" % len(got))
            got.append(c.request("GET", path, auth=auth))
            must(got[-1].status in (200, 400, 404, 429), got[-1])
    told = time.monotonic()
    must(len(got) - 1 <= burst + 1 + qps * (told - start), "%d passed in %.2f s" % (len(got) - 1, told - start))
    return got, asked, told


def count(replies, status):
    return sum(r.status == status for r in replies)


with T.server(LIMITS) as s:
    @T.case("R01 60 quick requests: at least 40 pass, then 429 with all it promises")
    def _():
        s.start()
        got, _, _ = drain(s, 20, 40)
        assert len(got) > 40 and all(r.status == 200 for r in got[:-1]), "%d passed" % (len(got) - 1)
        r = got[-1]
        assert r.h("retry-after") == "1" and r.h("content-type") == "application/json", r.headers
        assert re.fullmatch(r'\{"code":"TOO_MANY_REQUESTS","data":null,"message":"Too Many Requests","meta":\{"rate_limit":'
                            r'\{"remaining":0,"reset_at":"[^"]+\+00:00"\}\}\}', r.text), r.text
        ahead = (iso(r.json["meta"]["rate_limit"]["reset_at"]) - now()).total_seconds()
        assert -3 < ahead < 3, ahead

    @T.case("R02 a second later about 20 more pass")
    def _():
        _, empty, told = drain(s, 20, 40)
        time.sleep(1.0)
        got, asked, end = drain(s, 20, 40)
        passed = len(got) - 1
        assert 20 * min(asked - told, 2) - 2 <= passed <= 20 * (end - empty) + 2, "%d passed in %.2f s" % (passed, end - empty)

    @T.case("R06 the counts; credentials are masked")
    def _():
        r = s.get(STATS, auth=None)
        assert r.status == 200, r
        got = r.json
        assert list(got) == sorted(got) and sorted(got) == ["rate_limit_burst", "rate_limit_qps", "rejection_rate", "top_rejected_tokens",
                                                           "total_allowed", "total_rejected"], list(got)
        assert got["rate_limit_burst"] == 40 and got["rate_limit_qps"] == 20 and got["total_rejected"] > 0 and got["total_allowed"] >= 40
        assert abs(got["rejection_rate"] - got["total_rejected"] / (got["total_rejected"] + got["total_allowed"])) < 0.01
        top = got["top_rejected_tokens"]
        assert len(top) == 1 and sorted(top[0]) == ["count", "token"] and top[0]["count"] == got["total_rejected"], top
        assert re.fullmatch(r"bearer:.{0,4}\*\*\*", top[0]["token"]), top
        assert TOKEN not in r.text and "tok-s" not in r.text

with T.server(CLUB) as s:
    def exhaust(auth=BEARER):
        """An empty bucket; returns since when."""
        return drain(s, 1, 5, auth=auth)[1]

    def soon(ask):
        """ask() right after an exhausted bucket: again when it took so long that the bucket may have got a token."""
        for _ in range(50):
            empty = exhaust()
            got = ask()
            if time.monotonic() - empty < 0.9:
                return got
        raise Skip("this machine is too slow to ask twice in a second")

    @T.case("R03 writes, projects, probes, stats and OTLP are not limited")
    def _():
        for _ in range(3):
            exhaust()
            for method, path, body in [("POST", "/v1/l/batch", "{}"), ("GET", "/api/public/projects", None), ("GET", STATS, None),
                                       ("POST", "/api/public/otel/v1/traces", '{"resourceSpans":[]}'), ("POST", "/v1/traces", "{}"),
                                       ("POST", "/v1/metrics/batch", '{"metrics":[]}'), ("GET", "/healthz", None), ("GET", "/readyz", None),
                                       ("GET", "/metrics", None)]:
                r = s.quick(method, path, body)
                assert r.status == 200, (method, path, r)

    @T.case("R03 the five query routes share one bucket")
    def _():
        for path in ("/api/public/traces", "/api/public/traces/" + uid(), "/api/public/metrics/daily", NAMES,
                     "/api/public/metrics/query?name=x"):
            got = soon(lambda: s.quick("GET", path))
            assert got.status == 429, (path, got)

    @T.case("R03 the limit comes before method and parameters")
    def _():
        for method, path in (("DELETE", "/api/public/traces"), ("GET", "/api/public/traces?page=x"), ("GET", "/api/public/traces/abc")):
            got = soon(lambda: s.quick(method, path))
            assert got.status == 429, (method, path, got)

    @T.case("R04 the other credential has a bucket of its own")
    def _():
        exhaust()
        got, _ = volley(s, 5, auth=KEYS)
        assert count(got, 200) == 5, got
        exhaust(KEYS)

with T.server(CLUB) as s:
    @T.case("R05 refused credentials do not count")
    def _():
        got, _ = volley(s, 100, auth="Bearer wrong")
        assert count(got, 401) == 100
        got, _ = volley(s, 5)
        assert count(got, 200) == 5, got

    @T.case("R05 answers with 404 and 400 count")
    def _():
        for path in ("/api/public/traces/abc", "/api/public/traces/" + uid()):
            got, _, _ = drain(s, 1, 5, path, KEYS)
            assert all(r.status in (400, 404) for r in got[:-1]), got

with T.server({**LIMITS}) as s:
    T.rows(s, [("R06 an idle server's counts", get(STATS, 200, '{"rate_limit_burst":40,"rate_limit_qps":20,"rejection_rate":0.0,'
                                                               '"top_rejected_tokens":[],"total_allowed":0,"total_rejected":0}', auth=None))])

T.done()
