#!/usr/bin/env python3
"""HTTP itself: connections, bodies, encodings, CORS, request ids, order of checks, error shapes."""
# engines: ci
# timeout: 240
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import zlib
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
B, L, P = "/v1/l/batch", "/api/public/traces", "/api/public/projects"
ORIGIN = "https://app.example"
AUTH = b"Authorization: " + BEARER.encode() + b"\r\n"


def head(method, path, *lines, auth=True):
    """A raw request head."""
    return ("%s %s HTTP/1.1\r\nHost: x\r\n" % (method, path)).encode() + (AUTH if auth else b"") + \
        b"".join(l.encode() + b"\r\n" for l in lines) + b"\r\n"


def packed(body, coding, pack):
    def step(s, v):
        r = s.post(B, pack(v.fill(body).encode()), headers=[("Content-Encoding", coding)])
        must(r.status == 200, "%s: %r" % (coding, r))
    return step


with T.server() as s:
    T.rows(s, [
        ("order: path before auth, auth before method, method before body",
            get("/api/public/nope", 404, err("NOT_FOUND"), auth=None), req("PATCH", B, 401, auth=None),
            post(B, "{bad", 401, err("UNAUTHORIZED"), auth=None, ct="text/plain"), req("PUT", B, 405, body="{bad", ct="text/plain"),
            req("OPTIONS", L, (204, 405)), req("OPTIONS", L, (204, 401), auth=None)),
        ("order: content type before size before syntax",
            post(B, "x" * 20971521, 415, ct="text/plain"), post(B, "x" * 20971521, 413)),
        ("order: path parameter before the query", get(L + "/abc?page=x", 400, err("BAD_REQUEST", "Invalid URL"))),
        ("errors below /api and /v1 are JSON, elsewhere empty",
            get("/api", 404), get("/api/x", 404, err("NOT_FOUND", "Not Found"), auth=None), get("/v1/x", 404, err("NOT_FOUND"), auth=None),
            get("/v1/l/batch/", 404, err("NOT_FOUND")), get("/apix", 404, b""), get("/healthz/", 404, b""), get("//healthz", 404, b""),
            req("DELETE", "/readyz", 405, b"", Hdr("allow", "GET,HEAD")), req("PUT", "/v1/metrics/batch", 405, err("METHOD_NOT_ALLOWED"),
                                                                            Hdr("allow", "POST"))),
        ("a bad query names its parameter",
            get(L + "?page=abc", 400, err("BAD_REQUEST"), Raw("page")), get(L + "?fromTimestamp=x", 400, Raw("fromTimestamp")),
            get("/api/public/metrics/query", 400, Raw("name"))),
        ("paths are compared as they are", get("/api/public/%74races", 404), get("/API/public/traces", 404), get("/api//public/traces", 404),
            get("/api/public/traces?", 200), get("/api/public/./traces", 404)),
        ("%2F in a path segment does not split it", get(L + "/a%2Fb", 400), get(L + "/a%2fb%2Fc", 400), get("/api%2Fpublic/traces", 404),
            get("/v1%2Fl%2Fbatch", 404, b"")),
        ("odd queries are read", get(L + "?&&=&limit=1&=x&a&userId=%zz", 200, {"meta": {"limit": 1}}), get(L + "?userId=%", 200),
            get(L + "?%6cimit=3", 200, {"meta": {"limit": 3}}), get(L + "?" + "x=1&" * 2000, 200)),
        ("HEAD answers every GET route with the same head and no body",
            *[req("HEAD", p, 200, b"", Hdr("content-length", re.compile(r"\d+"))) for p in
              ("/readyz", P, L, "/api/public/metrics/names", "/api/public/metrics/daily", "/api/public/metrics/query?name=x", "/metrics",
               "/api/internal/rate_limit_stats")], req("HEAD", L + "/" + uid(), 404, b""), req("HEAD", B, 405, b"")),
        ("chunked bodies of any cut",
            *[post(B, {"trace": {"id": "$A", "name": "n%d" % n, "input": "x" * 3000}}, 200, chunked=n) for n in (2, 7, 1000, 100000)],
            get(L + "/$A", 200, {"name": "n100000"})),
        ("compressed bodies on the native routes",
            packed('{"trace":{"id":"$A","name":"g"}}', "gzip", gzip.compress), packed("{}", "x-gzip", gzip.compress),
            packed("{}", "deflate", zlib.compress), packed("{}", "zstd", zstd_raw), packed("{}", "GZIP", gzip.compress),
            packed("{}", "identity", bytes), post("/v1/metrics/batch", gzip.compress(b'{"metrics":[]}'), 200,
                                                  headers=[("Content-Encoding", "gzip")]),
            get(L + "/$A", 200, {"name": "g"})),
        ("compressed bodies that are broken or of an unknown kind",
            post(B, b"{}", 400, err("BAD_REQUEST"), headers=[("Content-Encoding", "gzip")]),
            post(B, gzip.compress(b"{}")[:-5], 400, headers=[("Content-Encoding", "gzip")]),
            post(B, b"", 400, headers=[("Content-Encoding", "gzip")]),
            post(B, zstd_raw(b"{}")[:-1], 400, headers=[("Content-Encoding", "zstd")]),
            post(B, b"\0\1\2", 400, headers=[("Content-Encoding", "deflate")]),
            post(B, b"{}", 415, err("UNSUPPORTED_MEDIA_TYPE"), headers=[("Content-Encoding", "br")]),
            post(B, gzip.compress(b"{}"), (400, 415), headers=[("Content-Encoding", "gzip, br")])),
        ("X-Request-Id: a sane one is echoed, else one is made, on every answer",
            get("/healthz", 200, Hdr("x-request-id", "abc-1.2_3"), auth=None, headers=[("X-Request-Id", "abc-1.2_3")]),
            get("/nope", 404, Hdr("x-request-id", "n"), headers=[("X-Request-Id", "n")]),
            get(P, 401, Hdr("x-request-id", re.compile(r"[\w.-]{8,}")), auth=None), get(P, 200, Hdr("x-request-id", re.compile(r"[\w.-]{8,}"))),
            post(B, "{bad", 400, Hdr("x-request-id", "q"), headers=[("X-Request-Id", "q")]),
            post(B, "{}", 200, Hdr("x-request-id", "w"), headers=[("X-Request-Id", "w")]),
            *[get(P, 200, Hdr("x-request-id", re.compile(r"[\w.-]{8,128}")), headers=[("X-Request-Id", bad)])
              for bad in ("", "a" * 5000, "a b", "x\xff", '"><script>')]),
        ("no origins are configured: no CORS headers",
            get(P, 200, Hdr("access-control-allow-origin", None), headers=[("Origin", ORIGIN)])),
        ("answers carry a length and no surprises", get(P, 200, Hdr("content-length", re.compile(r"\d+")), Hdr("content-type", "application/json"))),
    ])

    @T.case("request ids that are made differ")
    def _():
        assert len({s.quick("GET", "/healthz").h("x-request-id") for _ in range(50)}) == 50

    @T.case("keep-alive: 500 requests of all kinds on one connection")
    def _():
        with s.conn() as c:
            for i in range(100):
                assert c.request("GET", "/healthz").status == 200
                assert c.request("POST", B, {"trace": {"id": uid()}}, auth=BEARER).status == 200
                assert c.request("POST", B, "{bad", auth=BEARER).status == 400
                assert c.request("GET", P).status == 401
                assert c.request("POST", B, "{}", auth=BEARER, chunked=1 + i % 3).status == 200

    @T.case("keep-alive holds after refusals that left a body unread, or the connection is closed")
    def _():
        for method, path, opts in (("POST", B, {"auth": None}), ("POST", "/nope", {}), ("POST", B, {"ct": "text/plain", "auth": BEARER}),
                                   ("PUT", B, {"auth": BEARER})):
            with s.conn() as c:
                r = c.request(method, path, "x" * 300000, **opts)
                assert r.status in (401, 404, 405, 415), (path, r)
                if not r.early and (r.h("connection") or "").lower() != "close":
                    assert c.request("GET", "/healthz").status == 200

    @T.case("http.client, an HTTP implementation of its own, reads the answers")
    def _():
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=10)
        for path, want in (("/healthz", 200), (P, 200), ("/nope", 404), (L, 200)):
            c.request("GET", path, headers={"Authorization": BEARER})
            r = c.getresponse()
            body = r.read()
            assert r.status == want and (not body or json.loads(body))
        c.close()

    @T.case("pipelined requests are answered in order")
    def _():
        with s.conn() as c:
            c.send(head("GET", "/healthz") + head("GET", "/nope") + head("POST", B, "Content-Type: application/json", "Content-Length: 2") +
                   b"{}" + head("GET", "/readyz"))
            assert [c.reply().status for _ in range(4)] == [200, 404, 200, 200]

    @T.case("Connection: close and HTTP/1.0 end the connection")
    def _():
        for lines in (head("GET", "/healthz", "Connection: close"), b"GET /healthz HTTP/1.0\r\n\r\n"):
            with s.conn() as c:
                c.send(lines)
                assert c.reply().status == 200
                assert c.closed(5 * T.slow)

    @T.case("Expect: 100-continue")
    def _():
        def ask(path, length, auth=True):
            c = s.conn()
            c.send(head("POST", path, "Content-Type: application/json", "Content-Length: %d" % length, "Expect: 100-continue", auth=auth))
            return c
        with ask(B, 2) as c:
            status, _, headers = c._head()
            assert status == 100 and not headers, status
            c.send(b"{}")
            assert c.reply().status == 200
            assert c.request("GET", "/healthz").status == 200
        for path, length, auth, want in ((B, 2, False, 401), ("/nope", 2, True, 404), (B, 99999999, True, 413)):
            with ask(path, length, auth) as c:
                r = c.reply()
                assert r.status == want and not r.interim, (path, r, r.interim)

    @T.case("curl sends a large body with Expect and gets its answer")
    def _():
        if not shutil.which("curl"):
            raise Skip("no curl")
        path = os.path.join(T.tmp(), "body")
        a = uid()
        with open(path, "w") as f:
            json.dump({"trace": {"id": a, "input": "x" * 3000000}}, f)
        out = subprocess.run(["curl", "-sS", "-m", "20", "-w", "%{http_code}", "-H", "Authorization: " + BEARER, "-H",
                              "Content-Type: application/json", "-H", "Expect: 100-continue", "--data-binary", "@" + path,
                              "http://127.0.0.1:%d%s" % (s.port, B)], capture_output=True, text=True)
        assert out.stdout == '{"message":"Request Successful."}200', (out.stdout, out.stderr)
        assert len(s.trace(a)["input"]) == 3000000

    @T.case("large answers are compressed when asked for, and only then")
    def _():
        user = uid()
        for i in range(50):
            s.batch({"id": uid(), "userId": user, "input": {"text": "some words again and again %d " % i * 20}})
        url = L + "?userId=" + user
        plain = s.get(url)
        assert plain.h("content-encoding") is None and len(plain.body) > 20000
        for accept, want in (("gzip", "gzip"), ("zstd", "zstd"), ("gzip, deflate, zstd", ("gzip", "zstd")), ("gzip, deflate", "gzip"),
                             ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("identity", None), ("br", None), ("*;q=0, gzip", "gzip"),
                             ("GZIP", "gzip"), ("zstd;q=0, gzip;q=1.0", "gzip"), ("", None), (";;,,q=", None)):
            r = s.get(url, headers=[("Accept-Encoding", accept)])
            got = r.h("content-encoding")
            assert r.status == 200 and (got == want or (isinstance(want, tuple) and got in want)), (accept, got)
            body = gzip.decompress(r.body) if got == "gzip" else unzstd(r.body) if got == "zstd" else r.body
            assert body == plain.body, (accept, got)
            if got:
                assert "accept-encoding" in (r.h("vary") or "").lower(), r.headers
                assert len(r.body) < len(plain.body) / 3
        r = s.request("HEAD", url, headers=[("Accept-Encoding", "gzip")])
        assert r.status == 200 and r.body == b""

    @T.case("a body with both a length and chunks is not smuggled")
    def _():
        with s.conn(5) as c:
            c.send(head("POST", B, "Content-Type: application/json", "Content-Length: 4", "Transfer-Encoding: chunked") +
                   b"2\r\n{}\r\n0\r\n\r\n" + head("GET", "/healthz"))
            try:
                first = c.reply()
                assert first.status in (200, 400), first
                if first.status == 200:
                    assert c.closed(0.1) or c.reply().status == 200
            except (ConnectionError, socket.timeout):
                pass

    @T.case("very many and very long headers, a very long path")
    def _():
        for request, good in ((head("GET", "/healthz", *["X-%d: y" % i for i in range(90)]), (200,)),
                              (head("GET", "/healthz", *["X-%d: y" % i for i in range(5000)]), (200, 400, 413, 431)),
                              (head("GET", "/healthz", "X: " + "y" * 8000), (200,)),
                              (head("GET", "/healthz", "X: " + "y" * 5000000), (400, 413, 431)),
                              (head("GET", "/nope?" + "y" * 8000), (404,)), (head("GET", "/nope?" + "y" * 70000), (404, 414, 400, 431)),
                              (head("GET", "/" + "y" * 5000000), (414, 400, 431))):
            with s.conn() as c:
                try:
                    c._push(request)
                    r = c.reply()
                    assert r.status in good, (request[:30], len(request), r.status)
                except (ConnectionError, BrokenPipeError):
                    assert 200 not in good, "closed: %r %d" % (request[:30], len(request))

    @T.case("/metrics is well-formed Prometheus text and counts what happens")
    def _():
        def read():
            r = s.get("/metrics")
            assert r.status == 200 and re.match(r"text/plain; ?version=0\.0\.4", r.h("content-type")), r.headers
            types, values = {}, {}
            assert r.text.endswith("\n")
            for line in r.text.splitlines():
                m = re.fullmatch(r"# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)", line)
                if m:
                    if m[1] == "TYPE":
                        assert m[2] not in types and m[3] in ("counter", "gauge", "histogram", "summary", "untyped"), line
                        types[m[2]] = m[3]
                    continue
                m = re.fullmatch(r'([a-zA-Z_:][\w:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)', line)
                assert m, "no sample: %r" % line
                base = re.sub(r"_(bucket|sum|count)$", "", m[1])
                assert m[1] in types or base in types, "no TYPE before " + line
                assert m[1] + (m[2] or "") not in values, "twice: " + line
                values[m[1] + (m[2] or "")] = float(m[3])
            return values
        before = read()
        assert before and all(k.startswith(("xtrace_", "process_")) for k in before), list(before)[:5]
        s.batch({"id": uid()})
        after = read()
        grown = [k for k in after if after[k] > before.get(k, 0)]
        assert any("request" in k for k in grown), grown
        text = " ".join(after)
        for word in ("queue", "commit", "refused"):
            assert word in text, "no sample about " + word

with T.server({"XTRACE_CORS_ORIGINS": ORIGIN + ", http://localhost:8080"}) as s:
    cors = [Hdr("access-control-allow-origin", ORIGIN), Hdr("vary", re.compile(r"(?i).*\borigin\b.*"))]
    ask = [("Origin", ORIGIN)]
    T.rows(s, [
        ("CORS: answers to an allowed origin carry its name, errors too",
            get(P, 200, *cors, headers=ask), get(P, 401, *cors, headers=ask, auth=None), get("/api/x", 404, *cors, headers=ask),
            post(B, "{bad", 400, *cors, headers=ask), post(B, "{}", 200, *cors, headers=ask),
            get(P, 200, Hdr("access-control-allow-origin", "http://localhost:8080"), headers=[("Origin", "http://localhost:8080")])),
        ("CORS: another origin gets nothing",
            *[get(P, 200, Hdr("access-control-allow-origin", None), headers=[("Origin", o)])
              for o in ("https://evil.example", "https://app.example.evil", "http://app.example", "null", "https://app.example:444", "")],
            req("OPTIONS", P, (204, 401, 403, 405), Hdr("access-control-allow-origin", None), auth=None,
                headers=[("Origin", "https://evil.example"), ("Access-Control-Request-Method", "GET")])),
        ("CORS: preflights of posts",
            req("OPTIONS", B, 204, b"", *cors, Hdr("access-control-allow-methods", re.compile(r".*\bPOST\b.*")),
                Hdr("access-control-allow-headers", re.compile(r"(?i)(.*content-type.*|\*)")), auth=None,
                headers=ask + [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization, content-type")]),
            req("OPTIONS", "/v1/traces", 204, *cors, auth=None, headers=ask + [("Access-Control-Request-Method", "POST")])),
        ("CORS: a client may read the request id and Retry-After",
            get(P, 200, Hdr("access-control-expose-headers", re.compile(r"(?i)(.*x-request-id.*|\*)")), headers=ask)),
    ])

with T.server({"XTRACE_CORS_ORIGINS": "*"}) as s:
    T.rows(s, [("CORS: every origin", get(P, 200, Hdr("access-control-allow-origin", re.compile(r"\*|https://x\.example")),
                                          headers=[("Origin", "https://x.example")]))])

with T.server({"XTRACE_HEADER_TIMEOUT_MS": 1000 * T.slow, "XTRACE_REQUEST_TIMEOUT_MS": 2000 * T.slow,
               "XTRACE_IDLE_TIMEOUT_MS": 1500 * T.slow}) as s:
    @T.case("timeouts: idle connections, slow heads and slow bodies are closed, others are served")
    def _():
        s.start()
        load, t = Load(), time.monotonic()
        conns = {"used": s.conn(15)}
        assert conns["used"].request("GET", "/healthz").status == 200
        conns.update({k: s.conn(15) for k in ("idle", "half head", "drip head", "half body", "drip body")})
        body = head("POST", B, "Content-Type: application/json", "Content-Length: 1000")
        conns["half head"].send(b"GET /healthz HTTP/1.1\r\nHos")
        conns["drip head"].send(b"GET /healthz HTTP/1.1\r\nX: ")
        conns["half body"].send(body + b"{")
        conns["drip body"].send(body)
        gone, answers = {}, {}
        while len(gone) < len(conns) and time.monotonic() - t < 30 * T.slow:
            for k, c in conns.items():
                if k in gone:
                    continue
                try:
                    if k.startswith("drip"):
                        c.send(b" ")
                    if c.closed(0.05):
                        gone[k], answers[k] = time.monotonic() - t, c.data
                except (BrokenPipeError, ConnectionResetError):
                    gone[k], answers[k] = time.monotonic() - t, c.data
            assert s.get("/healthz").status == 200
        for k, limit in (("idle", 5), ("used", 5), ("half head", 5), ("drip head", 5), ("half body", 6), ("drip body", 6)):
            assert k in gone and gone[k] < limit * T.slow * load.factor(), "%s: %s" % (k, gone.get(k, "still open"))
            first = answers[k].split(b"\r\n")[0]
            assert first == b"" or b" 408 " in first or k == "used", (k, first)

with T.server({"XTRACE_HEADER_TIMEOUT_MS": 1000 * T.slow, "XTRACE_REQUEST_TIMEOUT_MS": 1000 * T.slow}) as s:
    @T.case("malformed requests are refused and do no harm")
    def _():
        for data in (b"GARBAGE\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200, b"GET / HTTP/9.9\r\n\r\n",
                     head("POST", B, "Content-Length: -1"), head("POST", B, "Content-Length: abc"), head("POST", B, "Content-Length: 1e3"),
                     head("POST", B, "Content-Type: application/json", "Content-Length: 99999999999999999999999"),
                     head("POST", B, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"zz\r\n",
                     head("POST", B, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"ffffffffffffffff\r\nx\r\n",
                     head("POST", B, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"2\r\n{}xx0\r\n\r\n",
                     b"GET /healthz HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 100 + b"X\r\n\r\n",
                     head("POST", B, "Content-Type: application/json", "Content-Length: 2", "Content-Length: 20") + b"{}"):
            with s.conn(20) as c:
                c.send(data)
                try:
                    r = c.reply()
                    assert r.status in (400, 404, 405, 408, 413, 414, 431, 501, 505) or (r.status == 200 and b"bad header" in data), (data[:90], r)
                except ConnectionError:
                    pass
                except socket.timeout:
                    raise Fail("neither an answer nor an end: %r" % data[:90]) from None
            assert s.get("/healthz").status == 200

with T.server({"XTRACE_MAX_CONNECTIONS": "30"}) as s:
    @T.case("connections over the limit are turned away, room is given back")
    def _():
        s.start()
        conns = []

        def works(c):
            try:
                return c.request("GET", "/healthz").status == 200
            except OSError:
                return False
        try:
            for _ in range(60):                 # one by one: each was taken before the next comes
                conns.append(s.conn())
                assert works(conns[-1]), "a new connection was turned away although others are idle"
            served = sum(threads(len(conns), lambda i: works(conns[i])))
            assert 28 <= served <= 30, "%d of 60 connections were still served" % served
        finally:
            for c in conns:
                c.close()
        assert all(threads(15, lambda i: s.get("/healthz").status == 200)), "no room again"

if shutil.which("openssl"):
    tls = T.tmp()

    def certificate(name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + name, "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", tls + "/key.pem", "-out", tls + "/cert.pem"], check=True, capture_output=True)

    with T.server({"XTRACE_TLS_CERT": tls + "/cert.pem", "XTRACE_TLS_KEY": tls + "/key.pem"}) as s:
        def shown():
            """Does the server show the certificate of the file?"""
            with open(tls + "/cert.pem") as f:
                want = ssl.PEM_cert_to_DER_cert(f.read())
            with s.conn() as c:
                return c.sock.getpeercert(True) == want and c.request("GET", "/healthz").status == 200

        @T.case("TLS: served with the certificate of the files, which SIGHUP reads again")
        def _():
            certificate("first")
            assert shown()
            s.batch({"id": uid()})
            with Conn(s.port, 30) as c:
                c.send(head("GET", "/healthz"))
                assert c.closed(10 * T.slow) and not c.data.startswith(b"HTTP/1.1 200"), "plain HTTP on the TLS port"
            certificate("second")
            os.kill(s.pid, signal.SIGHUP)
            wait(shown, 10 * T.slow, "the new certificate")
            s.batch({"id": uid()})

        @T.case("TLS: bad files at SIGHUP keep the old certificate")
        def _():
            with open(tls + "/key.pem", "w") as f:
                f.write("nonsense")
            os.kill(s.pid, signal.SIGHUP)
            for _ in range(10):
                assert shown()

T.done()
