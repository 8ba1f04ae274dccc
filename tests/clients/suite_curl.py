#!/usr/bin/env python3
"""curl as the documents use it: health, batch, list, detail, metrics, Basic, chunked, gzip, a big body with Expect."""
# campaign
# timeout: 120
import gzip
import json
import os
import re
import sys
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import client
import otlp
from xt import *

T = Suite()
client.on_sigterm()
AUTH = ["-H", "Authorization: Bearer " + TOKEN]
JSON = ["-H", "Content-Type: application/json"]
found = []


@T.case("curl is here")
def _():
    found.append(client.tool("curl"))


class Curl:
    """curl's answer: the head it printed with -i, body, and what -v told on stderr."""

    def __init__(self, base, *argv, seconds=30):
        got = client.run([found[0], "-sS", "-i", "-v", "--max-time", str(seconds)] +
                         [a.replace("@BASE@", base) for a in argv], seconds + 5)
        must(got.rc == 0, lambda: "curl ended with %s: %s" % (got.rc, got.err[-500:]))
        self.log = got.err
        heads = got.out.replace("\r\n", "\n")
        self.interim = 0
        while True:
            head, _, heads = heads.partition("\n\n")
            m = re.match(r"HTTP/1\.1 (\d+)", head)
            must(m, lambda: "no answer: %r" % got.out[:200])
            self.status, self.head, self.body = int(m[1]), head, heads
            if self.status >= 200:
                break
            self.interim = self.status

    @property
    def json(self):
        return json.loads(self.body)


def good(c, status=200):
    must(c.status == status, lambda: "%d, wanted %d: %s" % (c.status, status, c.body[:300]))
    return c


def same(got, wanted):
    must(got == wanted, lambda: "got %r, wanted %r" % (got, wanted))


def batch(trace, name):
    return json.dumps({"trace": {"id": trace, "name": name, "tags": ["curl"], "userId": "alice"}, "observations": [
        {"id": uid(), "traceId": trace, "type": "GENERATION", "name": "answer", "model": "m", "input": {"q": "é"},
         "promptTokens": 5, "completionTokens": 7, "totalTokens": 12}]})


def file(text):
    path = os.path.join(T.tmp(), "body")
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


if found:
    with T.server() as s, client.tap(s) as wire:
        base = wire.url
        A, B, C, D, E = (uid() for _ in range(5))

        @T.case("health: curl -i /healthz")
        def _():
            c = good(Curl(base, "@BASE@/healthz"))
            same(c.body, "")

        @T.case("readiness: curl /readyz")
        def _():
            same(good(Curl(base, "@BASE@/readyz")).json, {"status": "ready"})

        @T.case("write: curl -X POST /v1/l/batch -d")
        def _():
            c = good(Curl(base, "-X", "POST", "@BASE@/v1/l/batch", *AUTH, *JSON, "-d", batch(A, "chat")))
            same(c.body, '{"message":"Request Successful."}')

        @T.case("write with Basic: curl -u public:secret")
        def _():
            good(Curl(base, "-u", "%s:%s" % KEYS, *JSON, "-d", batch(B, "basic"), "@BASE@/v1/l/batch"))
            same(s.trace(B)["name"], "basic")

        @T.case("list: curl /api/public/traces?limit=10&tags=..&tags=..")
        def _():
            c = good(Curl(base, *AUTH, "@BASE@/api/public/traces?limit=10&userId=alice&tags=curl&name=chat"))
            same([t["id"] for t in c.json["data"]], [A])
            same(c.json["meta"], {"page": 1, "limit": 10, "totalItems": 1, "totalPages": 1})
            c = good(Curl(base, "-G", *AUTH, "@BASE@/api/public/traces", "--data-urlencode", "tags=curl",
                          "--data-urlencode", "tags=no such"))
            same(c.json["data"], [])

        @T.case("detail: curl /api/public/traces/ID")
        def _():
            t = good(Curl(base, *AUTH, "@BASE@/api/public/traces/" + A)).json
            same((t["id"], t["observations"][0]["input"], t["observations"][0]["totalTokens"]), (A, {"q": "é"}, 12))

        @T.case("samples: curl -d @file /v1/metrics/batch, then -G /api/public/metrics/query")
        def _():
            points = [{"name": "gpu", "labels": {"node": "a"}, "value": v,
                       "timestamp": "2026-02-12T10:00:%02dZ" % second}
                      for v, second in ((85, 10), (87, 50))]
            good(Curl(base, *AUTH, *JSON, "-d", "@" + file(json.dumps({"metrics": points})), "@BASE@/v1/metrics/batch"))
            same(good(Curl(base, *AUTH, "@BASE@/api/public/metrics/names")).json, {"data": ["gpu"]})
            c = good(Curl(base, "-G", "@BASE@/api/public/metrics/query", *AUTH,
                          "-d", "name=gpu", "-d", "from=2026-02-12T10:00:00Z",
                          "-d", "to=2026-02-12T11:00:00Z", "-d", "step=1m", "-d", "agg=avg",
                          "--data-urlencode", 'labels={"node":"a"}'))
            same(c.json["data"], [{"labels": {"node": "a"},
                                   "values": [{"timestamp": "2026-02-12T10:00:00+00:00", "value": 86.0}]}])

        @T.case("days: curl /api/public/metrics/daily")
        def _():
            c = good(Curl(base, *AUTH, "@BASE@/api/public/metrics/daily"))
            same((c.json["data"][0]["countTraces"], c.json["data"][0]["usage"][0]["totalUsage"]), (2, 24))

        @T.case("errors: no credential 401, unknown id 404, bad JSON 400, no content type of curl's own 415")
        def _():
            same(good(Curl(base, "@BASE@/api/public/traces"), 401).json,
                 {"message": "Unauthorized", "code": "UNAUTHORIZED"})
            same(good(Curl(base, *AUTH, "@BASE@/api/public/traces/" + uid()), 404).json["code"], "NOT_FOUND")
            good(Curl(base, *AUTH, *JSON, "-d", "{", "@BASE@/v1/l/batch"), 400)
            good(Curl(base, *AUTH, "-d", "{}", "@BASE@/v1/l/batch"), 415)

        @T.case("HEAD: curl -I")
        def _():
            c = good(Curl(base, "-I", *AUTH, "@BASE@/api/public/traces"))
            same(c.body, "")

        @T.case("chunked: curl -H 'Transfer-Encoding: chunked'")
        def _():
            path = file(batch(C, "chunked"))
            good(Curl(base, "-X", "POST", *AUTH, *JSON, "-H", "Transfer-Encoding: chunked", "--data-binary", "@" + path,
                      "@BASE@/v1/l/batch"))
            must(client.sent(wire, "/v1/l/batch", transfer_encoding="chunked"), "curl did not send chunks")
            same(s.trace(C)["name"], "chunked")

        @T.case("gzip request: curl -H 'Content-Encoding: gzip' --data-binary @file")
        def _():
            path = file(gzip.compress(batch(D, "zipped").encode()))
            good(Curl(base, *AUTH, *JSON, "-H", "Content-Encoding: gzip",
                      "--data-binary", "@" + path, "@BASE@/v1/l/batch"))
            same(s.trace(D)["name"], "zipped")

        @T.case("gzip answer: curl --compressed")
        def _():
            long = s.get("/api/public/traces?limit=200").json
            c = good(Curl(base, "--compressed", *AUTH, "@BASE@/api/public/traces?limit=200"))
            same(c.json["meta"], long["meta"])
            same([t["id"] for t in c.json["data"]], [t["id"] for t in long["data"]])
            must(re.search(r"(?im)^content-encoding: (gzip|zstd|deflate)$", c.head), lambda: "head: %s" % c.head)

        @T.case("a body of 12 MB: curl sends Expect: 100-continue, is told to go on, and does not wait in vain")
        def _():
            body = {"trace": {"id": E, "name": "big"}, "observations": [
                {"id": uid(), "traceId": E, "name": "o%d" % i, "input": "x" * 100000} for i in range(120)]}
            c = good(Curl(base, "-X", "POST", *AUTH, *JSON, "--data-binary", "@" + file(json.dumps(body)),
                          "@BASE@/v1/l/batch",
                          "--expect100-timeout", "20"))
            must(client.sent(wire, "/v1/l/batch", expect="100-continue"), "curl did not ask")
            same(c.interim, 100)
            must("Done waiting for 100-continue" not in c.log, "curl waited in vain")
            same(len(s.trace(E)["observations"]), 120)

        @T.case("a body over the limit is 413 before it is sent, where curl asks first")
        def _():
            c = good(Curl(base, "-X", "POST", *AUTH, *JSON, "--data-binary", "@" + file(b" " * 21000000),
                          "@BASE@/v1/l/batch",
                          "--expect100-timeout", "20"), 413)
            same(c.interim, 0)

        @T.case("OTLP: curl --data-binary @file in protobuf")
        def _():
            trace = otlp.new_trace()
            path = file(otlp.request_pb([{"trace": trace, "span": otlp.new_span(), "name": "by curl",
                                          "start": 1767225600000000000,
                                          "end": 1767225601000000000}]))
            good(Curl(base, *AUTH, "-H", "Content-Type: application/x-protobuf",
                      "--data-binary", "@" + path, "@BASE@/v1/traces"))
            same(s.trace(trace)["observations"][0]["name"], "by curl")

        @T.case("several requests on one connection: curl URL URL URL")
        def _():
            before = len(wire.streams)
            got = client.run([found[0], "-sS", *AUTH] + [base + p for p in (
                "/healthz", "/readyz", "/api/public/projects", "/api/public/metrics/names")], 30)
            must(got.rc == 0 and got.out.count("{") >= 3, lambda: "%r" % (got,))
            same(len(wire.streams) - before, 1)
T.done()
