#!/usr/bin/env python3
"""Bad input: the right status, a message that names the field, never a 500, bounded memory, and others unharmed."""
# engines: ci
# timeout: 300
import gzip
import json
import os
import random
import sys
import threading
import time
import zlib
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from xt import *

T = Suite()
B, M, OWN, STD, L = "/v1/l/batch", "/v1/metrics/batch", "/api/public/otel/v1/traces", "/v1/traces", "/api/public/traces/"
MB = 1 << 20
PB = "application/x-protobuf"


def bounded(s, most, what=""):
    got = s.peak()
    must(T.sanitized or got < most, "%speak of %d MB, bound %d MB" % (what, got // MB, most // MB))


def trace_json(member):
    return '{"trace":{"id":"%s",%s}}' % (uid(), member)


class Bystander:
    """Another client that writes and reads all the time; .check() fails if it was ever refused or waited long.
    `patience`: seconds after which the server may close a connection on which nothing comes; where this program itself
    was held up for that long, the client opens another one."""

    def __init__(self, s, patience=10):
        self.s, self.over, self.done, self.wrong, self.slowest = s, threading.Event(), 0, [], 0.0
        self.patience, self.load = patience, Load()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        conn = None
        try:
            while not self.over.is_set():
                if conn is None or time.monotonic() - heard > self.patience / 2:
                    conn = conn and conn.close()
                    conn, heard = self.s.conn(20), time.monotonic()
                a, t = uid(), time.monotonic()
                try:
                    r = conn.request("POST", B, {"trace": {"id": a, "name": "bystander"}}, auth=BEARER)
                    heard = time.monotonic()
                    q = conn.request("GET", L + a, auth=BEARER)
                except ConnectionError:
                    if time.monotonic() - heard < self.patience / 2:
                        raise
                    continue        # held up between the look at the clock and the request
                heard = time.monotonic()
                self.slowest = max(self.slowest, heard - t)
                if r.status != 200 or q.status != 200:
                    self.wrong.append((r, q))
                self.done += 1
                time.sleep(0.02)
        except Exception as e:
            self.wrong.append(e)
        finally:
            if conn:
                conn.close()

    def check(self, slowest=2.0):
        self.over.set()
        self.thread.join(60)
        must(not self.wrong, lambda: "the bystander saw %r" % (self.wrong[0],))
        factor = T.slow * self.load.factor()
        must(self.done > 0 and self.slowest < slowest * factor,
             "the bystander waited %.1f s (%d rounds), bound %.1f s" % (self.slowest, self.done, slowest * factor))


def sockets(s):
    """How many connections the server holds."""
    links = []
    for fd in os.listdir("/proc/%d/fd" % s.pid):
        try:
            links.append(os.readlink("/proc/%d/fd/%s" % (s.pid, fd)))
        except OSError:
            pass
    return sum(link.startswith("socket:") for link in links)


with T.server() as s:
    @T.case("every cut of a good body is refused, and the server lives")
    def _():
        good = json.dumps({"trace": {"id": uid(), "name": "é\n", "tags": ["a"], "timestamp": "2026-01-01T00:00:00Z", "metadata": {"k": [1.5, None]}},
                           "observations": [{"id": uid(), "traceId": uid(), "promptTokens": 5}]}).encode()
        with s.conn() as c:
            for n in range(len(good)):
                r = c.request("POST", B, good[:n], auth=BEARER)
                assert r.status == 400, (n, r)
        spans = otlp.request_pb([{"trace": otlp.new_trace(), "span": otlp.new_span(), "name": "x", "attrs": {"k": "v", "l": [1, 2]}}], {"r": 1})
        with s.conn() as c:
            for path in (OWN, STD):
                for n in range(1, len(spans)):
                    r = c.request("POST", path, spans[:n], auth=BEARER, ct=PB)
                    assert r.status in (200, 400), (path, n, r)

    @T.case("3,000 mutated bodies: no 500, no crash")
    def _():
        rnd = random.Random(20260101)
        trace = {"trace": {"id": uid(), "name": "n", "tags": ["a", "b"], "metadata": {"a": {"b": [1, 2.5, True, None, "x"]}}, "latency": 1.5},
                 "observations": [{"id": uid(), "traceId": uid(), "usage": {"input": 1}, "startTime": "2026-01-01T00:00:00Z", "model": "m"}]}
        metric = {"metrics": [{"name": "mut", "labels": {"a": "b"}, "value": 1.5, "timestamp": "2026-01-01T00:00:00Z"}]}
        span = [{"trace": otlp.new_trace(), "span": otlp.new_span(), "name": "x", "start": 1767225600000000000, "attrs": {
            "langfuse.observation.usage_details": '{"input":1}', "langfuse.trace.tags": ["a"], "d": {"k": [1.5, True]}}}]
        seeds = [(B, json.dumps(trace).encode(), "application/json"), (M, json.dumps(metric).encode(), "application/json"),
                 (OWN, json.dumps(otlp.request_json(span)).encode(), "application/json"), (STD, otlp.request_pb(span, {"r": 1}), PB),
                 (B, None, "application/json"), (OWN, None, PB)]
        seeds[4] = (B, gzip.compress(seeds[0][1]), "application/json")
        seeds[5] = (OWN, gzip.compress(seeds[3][1]), PB)
        with s.conn(20) as c:
            for i in range(3000):
                path, body, ct = seeds[i % len(seeds)]
                data = bytearray(body)
                for _ in range(rnd.choice((1, 1, 2, 5))):
                    at = rnd.randrange(len(data))
                    kind = rnd.randrange(5)
                    if kind == 0:
                        data[at] = rnd.randrange(256)
                    elif kind == 1:
                        data[at] ^= 1 << rnd.randrange(8)
                    elif kind == 2:
                        del data[at:at + rnd.randrange(1, 9)]
                    elif kind == 3:
                        data[at:at] = rnd.choice((b'"', b"\\", b"}", b"]", b",", b"null", b"\0", b"\xff", b"1e999", b"\x80" * 10, b"{}"))
                    else:
                        data[at:at] = data[at:at + rnd.randrange(1, 40)]
                r = c.request("POST", path, bytes(data), auth=BEARER, ct=ct, headers=[("Content-Encoding", "gzip")] if i % 6 > 3 else [])
                assert r.status in (200, 400, 413, 422), (path, r, bytes(data)[:300])
        assert s.get("/api/public/traces").status == 200

    @T.case("nesting: 127 levels are stored and read, 128 are 400")
    def _():
        for where in ('"input":%s', '"metadata":{"a":%s}', '"output":%s'):
            extra = where.count("{")
            for opener, closer in (("[", "]"), ('{"a":', "}")):
                for depth, want in ((127, 200), (128, 400), (100000, 400), (1000000, 400)):
                    n = depth - 2 - extra           # the body and the trace are levels themselves
                    id = uid()
                    body = '{"trace":{"id":"%s",%s}}' % (id, where % (opener * n + "1" + closer * n))
                    r = s.quick("POST", B, body, timeout=20)
                    assert r.status == want, (where, opener, depth, r)
                    if want == 200:
                        assert (opener * n + "1" + closer * n) in s.quick("GET", L + id).text
        for path in (M, OWN, STD, "/v1/l/traces", "/v1/l/observations"):
            r = s.quick("POST", path, "[" * 1000000, timeout=20)
            assert r.status == 400, (path, r)

    T.rows(s, [
        ("text that is no UTF-8 is 400",
            *[post(B, b'{"trace":{"id":"00000000-0000-0000-0000-000000000001","name":"' + bad + b'"}}', 400, err("BAD_REQUEST"))
              for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80b")],
            post(B, b'{"\xff":1}', 400), post(M, b'{"metrics":[{"name":"\xff","value":1,"timestamp":"2026-01-01T00:00:00Z"}]}', 400)),
        ("raw control characters and NUL bytes in JSON are 400",
            *[post(B, b'{"trace":{"id":"00000000-0000-0000-0000-000000000001","name":"a' + bytes([c]) + b'"}}', 400) for c in (0, 1, 10, 31)],
            post(B, b"\0", 400), post(B, b"{}\0", 400)),
        ("NaN and Infinity are no JSON",
            *[post(B, trace_json('"latency":' + x), 400, err("BAD_REQUEST")) for x in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "nan", "+1", "0x1")]),
        ("absurd times are refused by name or stored, never more",
            *[post(B, trace_json('"timestamp":"%s"' % t), (200, 422), lambda r: r.status == 200 or "timestamp" in r.json["message"]) for t in (
                "-9999-01-01T00:00:00Z", "+99999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "1677-09-21T00:12:43Z",
                "2262-04-11T23:47:17Z", "-262143-01-01T00:00:00Z")],
            *[post(B, trace_json('"timestamp":"%s"' % t), 422, err("UNPROCESSABLE_ENTITY"), Raw("timestamp")) for t in (
                "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "2026-00-01T00:00:00Z", "2026-01-32T00:00:00Z",
                "2026-01-01T00:00:00+99:00", "2026-01-01T00:00:00.Z", "x", "2026-01-01T00:00:00Z\\u0000", "+999999999999-01-01T00:00:00Z")],
            post(B, {"observations": [{"id": "$A", "traceId": "$B", "endTime": "soon"}]}, 422, Raw("endTime")),
            post(M, {"metrics": [{"name": "m", "value": 1, "timestamp": "soon"}]}, 422, Raw("timestamp"))),
        ("absurd numbers in OTLP times spoil nothing",
            *[post(p, '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"$A.hex","spanId":"$B.span","name":"n","startTimeUnixNano":%s,'
                      '"endTimeUnixNano":%s}]}]}]}' % (a, b), (200, 400)) for p in (OWN, STD) for a, b in (
                          ('"0"', '"0"'), ('"18446744073709551615"', '"18446744073709551615"'), ('"-1"', '"5"'), ('"x"', '"y"'), ("1e30", "-1e30"),
                          ('"9223372036854775807"', '"1"'), ("1.5", "2.5"), ("[]", "{}"), ("null", "true"))]),
        ("10,000 tags", post(B, {"trace": {"id": "$A", "userId": "$U", "tags": ["tag-%d" % i for i in range(10000)]}}, (200, 422)),
            get("/api/public/traces?tags=tag-9999&userId=$U", 200), get(L + "$A", (200, 404), timeout=20)),
        ("session ids, user ids, names, tags and environments of 100 kB",
            *[post(B, {"trace": {"id": "$A", "userId": "$U", k: ["x" * 100000] if k == "tags" else "x" * 100000}}, (200, 422),
                   lambda r, k=k: r.status == 200 or k in r.json["message"]) for k in ("sessionId", "name", "tags", "environment", "release",
                                                                                       "externalId", "projectId", "version")],
            post(B, {"trace": {"id": "$B", "userId": "y" * 100000}}, (200, 422)), get("/api/public/traces?userId=$U", 200),
            get("/api/public/metrics/daily?userId=$U", 200)),
        ("a name of 5 MB in every text field of an observation",
            *[post(B, {"observations": [{"id": "$A", "traceId": "$B", k: "x" * 5000000}]}, (200, 413, 422), timeout=20)
              for k in ("name", "model", "statusMessage", "level", "type", "promptVersion", "unit")], get("/healthz", 200)),
        ("token counts near 2^63: sums pass it, lists and the daily view answer",
            post(B, {"trace": {"id": "$A", "userId": "$U", "timestamp": "2026-01-01T00:00:00Z"},
                     "observations": [{"id": "$" + x, "traceId": "$A", "type": "GENERATION", "model": "m", "promptTokens": 9223372036854775807,
                                       "completionTokens": 9223372036854775807, "totalTokens": 9223372036854775807} for x in "BCDE"]}, 200),
            post(B, {"observations": [{"id": "$F", "traceId": "$A", "type": "GENERATION", "model": "n", "promptTokens": -9223372036854775808,
                                       "completionTokens": -9223372036854775808}]}, (200, 422)),
            get(L + "$A", 200), get("/api/public/traces?userId=$U", 200, {"meta": {"totalItems": 1}}),
            get("/api/public/metrics/daily?userId=$U&fromTimestamp=2025-12-31T00:00:00Z&toTimestamp=2026-01-02T00:00:00Z", 200,
                lambda r: r.json["data"][0]["usage"][0]["model"] in ("m", "n"), lambda r: len(r.json["data"][0]["usage"]) >= 1)),
        ("usage in odd forms",
            *[post(B, '{"observations":[{"id":"$A","traceId":"$B","usage":%s}]}' % u, (200, 422)) for u in (
                "null", "[]", "5", '"x"', '{"input":-1}', '{"input":1.5}', '{"input":"7"}', '{"input":9223372036854775808}', '{"input":1e300}',
                '{"input":null,"output":{}}', '{"input":9223372036854775807,"output":9223372036854775807}', '{"":1}')], get(L + "$B", (200, 404)),
            get("/api/public/metrics/daily", 200)),
        ("costs in odd forms",
            *[post(B, '{"trace":{"id":"$C","userId":"$U","timestamp":"2026-01-01T00:00:00Z"},"observations":[{"id":"$%s","traceId":"$C","calculatedTotalCost":%s}]}'
                   % (x, c), (200, 422)) for x, c in zip("DEFGHIJKL", ("-1", "1e300", "1e-300", "0.1234567890123456789012345", "123456789012345678901234567890",
                                                                     "1e18", "-0.0", "1.7976931348623157e308", "5e-324"))],
            get(L + "$C", 200), get("/api/public/traces?userId=$U&orderBy=totalCost.desc", 200),
            get("/api/public/metrics/daily?userId=$U&fromTimestamp=2025-12-31T00:00:00Z&toTimestamp=2026-01-02T00:00:00Z", 200)),
        ("odd but legal numbers", post(B, trace_json('"latency":-0.0,"totalCost":1E+2'), 200), post(B, trace_json('"latency":1e-400'), (200, 400)),
            post(B, trace_json('"input":' + "9" * 5000), (200, 400)), post(B, trace_json('"input":0.' + "1" * 5000), 200),
            post(B, trace_json('"latency":' + "1" * 400), 400)),
        ("queries with odd bytes, lengths and counts",
            get("/api/public/traces?name=" + "x" * 20000, (200, 414, 431)), get("/api/public/traces?" + "&".join("tags=t%d" % i for i in range(500)), 200),
            get("/api/public/traces?tags=" + ",".join("t%d" % i for i in range(2000)), (200, 400)),
            get("/api/public/traces?userId=%00%01%7f%80%ff", (200, 400)), get("/api/public/metrics/query?name=%00&labels=%7B%22%00%22:1%7D", (200, 400)),
            get("/api/public/metrics/query?name=x&labels=" + "[" * 5000, (400, 414)), get("/api/public/metrics/query?name=x&labels=" + "%5B" * 600, 400),
            get("/api/public/traces?fields=" + "io," * 2000, 200), get("/api/public/traces?orderBy=" + "x" * 5000, 400),
            get("/api/public/traces?userId=' OR 1=1 --".replace(" ", "%20"), 200, {"data": []}),
            get("/api/public/traces?limit=-9223372036854775808&page=-9223372036854775808", 200)),
        ("metric names and labels of every size",
            *[post(M, {"metrics": [{"name": n, "labels": l, "value": 1, "timestamp": "2026-01-01T00:00:00Z"}]}, (200, 422)) for n, l in (
                ("x" * 100000, {}), ("n", {"k" * 100000: "v"}), ("n", {"k": "v" * 1000000}), ("n\0", {"\0": "\0"}), ("n", {"k%d" % i: "v" for i in range(5000)}))],
            get("/api/public/metrics/names", 200), get("/api/public/metrics/query?name=n&from=2025-12-31T00:00:00Z&to=2026-01-02T00:00:00Z", 200)),
    ])

    @T.case("keys of free JSON: 100,000 of them, duplicated, empty, with dots and quotes")
    def _():
        id = uid()
        body = '{"trace":{"id":"%s","metadata":{%s}}}' % (id, ",".join('"k%d":%d' % (i % 50000, i) for i in range(100000)))
        r = s.quick("POST", B, body, timeout=20)
        assert r.status == 200, r
        got = s.trace(id, timeout=20)["metadata"]
        assert len(got) == 50000 and got["k7"] == 50007, (len(got), got.get("k7"))

    @T.case("after all of that the server is well, and its memory bounded")
    def _():
        s.batch({"id": uid()})
        bounded(s, 400 * MB)

with T.server() as s:
    @T.case("one point with a million label names; memory stays bounded")
    def _():
        s.batch({"id": uid()})
        labels = ",".join('"l%d":"v"' % i for i in range(1000000))
        body = '{"metrics":[{"name":"wide","labels":{%s},"value":1,"timestamp":"2026-01-01T00:00:00Z"}]}' % labels
        other = Bystander(s)
        r = s.post(M, body, timeout=60)
        assert r.status in (200, 413, 422), r
        q = s.get("/api/public/metrics/query?name=wide&from=2025-12-31T00:00:00Z&to=2026-01-02T00:00:00Z", timeout=60)
        assert q.status == 200, q.status
        other.check(5)
        bounded(s, 600 * MB)

    @T.case("100,000 spans and 1,000,000 empty values in one request")
    def _():
        t = otlp.new_trace()
        span = '{"traceId":"%s","spanId":"%%016x","name":"n"}' % t
        body = '{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % ",".join(span % (i + 1) for i in range(100000))
        r = s.post(OWN, body, timeout=60)
        assert r.status in (200, 413, 429, 503), r
        for body in ('{"observations":[%s]}' % ",".join(["{}"] * 1000000), '{"trace":{"id":"%s","tags":[%s]}}' % (uid(), ",".join(['""'] * 1000000)),
                     '{"metrics":[%s]}' % ",".join(["null"] * 1000000), '{"x":[%s]}' % ",".join(["[]"] * 5000000)):
            r = s.post(M if "metrics" in body[:12] else B, body, timeout=60)
            assert r.status in (200, 413, 422), (body[:30], r)
        r = s.post(STD, otlp.field(1, b"") * 5000000, ct=PB, timeout=60)
        assert r.status in (200, 400, 413), r
        bounded(s, 900 * MB)
        s.batch({"id": uid()})

with T.server() as s:
    @T.case("compression bombs of all kinds, others are served meanwhile, memory stays bounded")
    def _():
        s.batch({"id": uid()})
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        blank = b" " * MB
        bomb = b"".join(packer.compress(blank) for _ in range(500)) + packer.flush()
        thin = zlib.compress(blank * 200, 9)
        nested = gzip.compress(bomb)
        members = gzip.compress(b" " * 100000) * 2000
        other = Bystander(s)
        for path in (B, M, OWN, STD):
            for coding, body in (("gzip", bomb), ("zstd", zstd_rle(b" ", 500000)), ("gzip", members), ("deflate", thin)):
                r = s.post(path, body, headers=[("Content-Encoding", coding)], timeout=30)
                assert r.status == 413, (path, coding, r)
            r = s.post(path, nested, headers=[("Content-Encoding", "gzip")], timeout=30)
            assert r.status == 400, r
        other.check()
        bounded(s, 300 * MB)

    @T.case("8 large bodies at once are inflated within the budget")
    def _():
        body = gzip.compress(b"{}" + b" " * (70 * MB))

        def one(_):
            return s.post(B, body, headers=[("Content-Encoding", "gzip")], timeout=60).status
        got = threads(8, one)
        assert set(got) <= {200, 413, 429, 503}, got
        assert s.post(B, body, headers=[("Content-Encoding", "gzip")], timeout=60).status == 200
        bounded(s, 700 * MB)

with T.server({"XTRACE_HEADER_TIMEOUT_MS": 2000 * T.slow, "XTRACE_REQUEST_TIMEOUT_MS": 3000 * T.slow,
               "XTRACE_IDLE_TIMEOUT_MS": 2000 * T.slow}) as s:
    @T.case("half-open sockets, slow senders, resets and clients that do not read: others are served, all are let go")
    def _():
        s.batch({"id": uid()})
        big = uid()
        for i in range(20):
            s.batch({"id": uid(), "userId": big, "input": "x" * 500000})
        head = ("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %%d\r\n\r\n" % (B, BEARER))
        before = sockets(s)
        other, conns = Bystander(s, 2 * T.slow), []
        try:
            for i in range(300):
                c = s.conn(20, rcvbuf=4096 if i % 6 == 5 else None)
                conns.append(c)
                kind = i % 6
                if kind == 1:
                    c.send(b"POST /v1/l/ba")
                elif kind == 2:
                    c.send((head % 5000).encode() + b"{")
                elif kind == 3:
                    c.send((head % 1000000).encode() + b" " * 500000)
                elif kind == 4:
                    c.send((head % 5000).encode() + b"{")
                    c.reset()
                elif kind == 5 and i < 100:
                    c.send(encode_request("GET", "/api/public/traces?limit=20&userId=" + big, auth=BEARER))
            wait(lambda: sockets(s) <= before + 3, 30 * T.slow, "the connections are let go", 0.1)
        finally:
            for c in conns:
                c.close()
        other.check()
        bounded(s, 500 * MB)

    @T.case("twenty 19 MB uploads at once, slowly: bounded, and others are served")
    def _():
        other = Bystander(s, 2 * T.slow)

        def upload(i):
            body = b"{}" + b" " * (19 * MB)
            try:
                with s.conn(30) as c:
                    if i % 2:
                        return c.request("POST", B, body, auth=BEARER).status
                    c.send(encode_request("POST", B, body, auth=BEARER)[:10 * MB])
                    time.sleep(1)
                    return 0
            except OSError:
                return 0
        got = threads(20, upload)
        assert set(got) <= {0, 200, 413, 429, 503}, got
        other.check(4)
        bounded(s, 700 * MB)
        assert s.post(B, b"{}" + b" " * (19 * MB), timeout=30).status == 200

T.done()
