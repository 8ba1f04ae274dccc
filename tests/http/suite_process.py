#!/usr/bin/env python3
"""Starting, probing and stopping."""
# engines: ci
# timeout: 240
import os
import re
import signal
import stat
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
STATS = "/api/internal/rate_limit_stats"
NO_KEYS = {"XTRACE_PUBLIC_KEY": None, "XTRACE_SECRET_KEY": None}

with T.server({"XTRACE_CORS_ORIGINS": "https://app.example,http://localhost:8080"}) as s:
    T.rows(s, [
        ("P01 healthz is open and empty",
            get("/healthz", 200, b"", Hdr("content-type", None), auth=None),
            req("HEAD", "/healthz", 200, b"", auth=None)),
        ("P02 readyz is open and says ready", get("/readyz", 200, '{"status":"ready"}', auth=None)),
        ("P04 an unknown path is 404 without auth, empty", get("/nope", 404, b"", auth=None)),
        ("P05 a trailing slash is another path", get("/api/public/traces/", 404, err("NOT_FOUND"))),
        ("P06 a wrong method on an open path", post("/healthz", "", 405, b"", Hdr("allow", "GET,HEAD"), auth=None)),
        ("P07 auth comes before the method",
            req("DELETE", "/api/public/traces", 401, err("UNAUTHORIZED"), auth=None)),
        ("P08 a wrong method with auth; HEAD is a GET",
            req("DELETE", "/api/public/traces", 405, err("METHOD_NOT_ALLOWED"), Hdr("allow", "GET,HEAD")),
            get("/v1/l/batch", 405, err("METHOD_NOT_ALLOWED"), Hdr("allow", "POST")),
            req("HEAD", "/api/public/traces", 200, b"")),
        ("P11 preflight of an allowed origin needs no auth",
            req("OPTIONS", "/api/public/traces", 204, b"",
                Hdr("access-control-allow-origin", "https://app.example"),
                Hdr("access-control-allow-methods", re.compile(r".*\bGET\b.*")),
                Hdr("access-control-allow-headers", re.compile(r"(?i)(.*\bauthorization\b.*|\*)")),
                auth=None, headers=[("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET"),
                                    ("Access-Control-Request-Headers", "authorization")])),
    ])

with T.server({"XTRACE_INGEST_DEADLINE_MS": "1000"}) as s:
    @T.case("P03 readyz answers 503 within 2 s while the store cannot be written, and 200 afterwards")
    def _():
        s.batch({"id": uid()})
        load = Load()
        with locked(s):
            r = s.post("/v1/l/batch", {"trace": {"id": uid()}}, timeout=8)
            assert r.status in (429, 503), r
            assert r.h("retry-after") == "1", r.headers

            def down():
                r = s.get("/readyz", auth=None)
                assert r.seconds < 2 * T.slow * load.factor(), "readyz took %.1f s" % r.seconds
                return r.status == 503 and r.json == {"status": "not_ready"}
            wait(down, 4 * T.slow, "503 from /readyz")
            r = s.get("/healthz", auth=None)
            assert r.status == 200 and r.seconds < 2 * T.slow * load.factor()
        wait(lambda: s.get("/readyz", auth=None).status == 200, 10 * T.slow, "ready again by itself")
        s.batch({"id": uid()})


@T.case("P12 DATABASE_URL without API_BEARER_TOKEN ends the start with 1")
def _():
    T.exits({"DATABASE_URL": "sqlite:" + os.path.join(T.tmp(), "x.db"), "API_BEARER_TOKEN": None},
            text="missing env API_BEARER_TOKEN")


with T.server({"API_BEARER_TOKEN": None, **NO_KEYS}) as s:
    @T.case("P12 without either: a token is made, kept 0600, printed once, and works")
    def _():
        T.only("sqlite", "with a database a token is required")
        s.start()

        def token_file():
            """The file of the data directory whose text stands on stdout, and that text."""
            for name in os.listdir(s.dir):
                path = os.path.join(s.dir, name)
                if os.path.isfile(path) and os.path.getsize(path) < 300:
                    with open(path, errors="replace") as f:
                        text = f.read().strip()
                    if len(text) >= 16 and text in s.stdout():
                        return path, text
            return None
        found = wait(token_file, 3 * T.slow, "a file of the data directory holds a token that stdout shows")
        first = s.stdout()
        assert "http://127.0.0.1:%d" % s.port in first, "no URL on stdout: " + first
        path, token = found
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode)
        assert s.get("/api/public/projects", auth=bearer(token)).status == 200
        assert s.get("/api/public/projects", auth=None).status == 401
        assert token not in s.stderr()
        s.restart()
        wait(lambda: path in s.stdout()[len(first):], 3 * T.slow, "the token's file on stdout")
        assert token not in s.stdout()[len(first):]
        assert s.get("/api/public/projects", auth=bearer(token)).status == 200

with T.server({"RATE_LIMIT_QPS": "abc", "RATE_LIMIT_BURST": "-1"}) as s:
    T.rows(s, [("P13 an unreadable RATE_LIMIT_QPS gives the default",
                get(STATS, 200, {"rate_limit_qps": 20, "rate_limit_burst": 40}, auth=None))])

    @T.case("P13 and a warning names it")
    def _():
        assert s.port and "RATE_LIMIT_QPS" in s.stderr(), s.stderr()

for name, env, text in [
        ("RATE_LIMIT_QPS=0", {"RATE_LIMIT_QPS": "0"}, "RATE_LIMIT_QPS"),
        ("RATE_LIMIT_BURST=0", {"RATE_LIMIT_BURST": "0"}, "RATE_LIMIT_BURST"),
        ("BIND_ADDR=nonsense", {"BIND_ADDR": "nonsense"}, "BIND_ADDR"),
        ("BIND_ADDR=localhost:8742 (no IP)", {"BIND_ADDR": "localhost:8742"}, "BIND_ADDR"),
        ("BIND_ADDR with a port of 70000", {"BIND_ADDR": "127.0.0.1:70000"}, "BIND_ADDR"),
        ("a new option with a bad value", {"XTRACE_IDLE_TIMEOUT_MS": "soon"}, "soon"),
        ("an unknown scheme in DATABASE_URL", {"DATABASE_URL": "oracle://x"}, "oracle"),
        ("a TLS certificate without its key", {"XTRACE_TLS_CERT": "/nonexistent.pem"}, "tls")]:
    @T.case("P14 start refused: " + name)
    def _():
        r = T.exits(env, text=text)
        assert "panic" not in r.err and len(r.err.strip().splitlines()) <= 6, r.err

with T.server({**NO_KEYS, "LANGFUSE_PUBLIC_KEY": "lpk", "LANGFUSE_SECRET_KEY": "lsk"}) as s:
    T.rows(s, [("P16 the LANGFUSE_ names of the key pair work", get("/api/public/projects", 200, auth=("lpk", "lsk")))])

with T.server({"XTRACE_PUBLIC_KEY": "", "XTRACE_SECRET_KEY": "", "LANGFUSE_PUBLIC_KEY": "lpk",
               "LANGFUSE_SECRET_KEY": "lsk"}) as s:
    T.rows(s, [("P17 empty keys match nothing and block the fallback",
                get("/api/public/projects", 401, auth="Basic Og=="), get("/api/public/projects", 401, auth=("lpk", "lsk")),
                get("/api/public/projects", 200))])

with T.server({"XTRACE_PUBLIC_KEY": "only", "XTRACE_SECRET_KEY": None}) as s:
    T.rows(s, [("P17 half a pair matches nothing",
                get("/api/public/projects", 401, auth=("only", "")), get("/api/public/projects", 401, auth=("only", "x")))])

with T.server({"API_BEARER_TOKEN": ""}) as s:
    T.rows(s, [("P17 an empty token matches nothing",
                get("/api/public/projects", 401, auth="Bearer "), get("/api/public/projects", 401, auth="Bearer"),
                get("/api/public/projects", 200, auth=KEYS))])

    @T.case("P17 and a warning names it")
    def _():
        assert "API_BEARER_TOKEN is empty" in s.stderr(), s.stderr()

with T.server({"DEFAULT_PROJECT_ID": "acme", "XTRACE_MAX_REQUEST_BODY_BYTES": "1000"}) as s:
    T.rows(s, [
        ("DEFAULT_PROJECT_ID names the project",
            get("/api/public/projects", 200, {"data": [{"id": "acme", "name": "acme"}]}),
            post("/v1/l/batch", {"trace": {"id": "$A"}}),
            get("/api/public/traces/$A", 200, {"projectId": "acme", "htmlPath": "/project/acme/traces/$A"})),
        ("XTRACE_MAX_REQUEST_BODY_BYTES is exact",
            post("/v1/l/batch", "{}" + " " * 998, 200), post("/v1/l/batch", "{}" + " " * 999, 413),
            post("/v1/l/batch", "{}" + " " * 998, 200, chunked=100), post("/v1/l/batch", "{}" + " " * 999, 413, chunked=100),
            post("/v1/metrics/batch", " " * 1001, 413), post("/api/public/otel/v1/traces", " " * 1001, 413),
            post("/v1/traces", " " * 1001, 413)),
    ])

with T.server({"XTRACE_MAX_REQUEST_BODY_BYTES": "0"}) as s:
    T.rows(s, [("XTRACE_MAX_REQUEST_BODY_BYTES=0 refuses every body", post("/v1/l/batch", "{}", 413))])

with T.server({"XTRACE_MAX_REQUEST_BODY_BYTES": "20MB"}) as s:
    T.rows(s, [("an unreadable XTRACE_MAX_REQUEST_BODY_BYTES gives the default",
                post("/v1/l/batch", "{}" + " " * 1000000, 200))])

for sig in (signal.SIGTERM, signal.SIGINT):
    with T.server({"XTRACE_STOP_TIMEOUT_MS": "2000"}) as s:
        @T.case("%s ends the server with 0, half-sent requests or not" % sig.name)
        def _():
            s.batch({"id": uid()})
            with s.conn() as idle, s.conn() as half:
                assert idle.request("GET", "/healthz").status == 200
                half.send(b"POST /v1/l/batch HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\n"
                          b"Content-Length: 100\r\n\r\n{" % BEARER.encode())
                rc = s.stop(sig)
                assert rc == 0, "exit %s" % rc

with T.server() as s:
    @T.case("the log goes to stderr, names the address, and never shows a secret")
    def _():
        s.get("/api/public/projects", auth=("pk", "wrong-secret-value"))
        s.get("/api/public/projects", auth="Bearer wrong-token-value")
        s.batch({"id": uid()})
        rc = s.stop()
        assert rc == 0
        log = s.stderr()
        assert "127.0.0.1:%d" % s._port in log, log
        for secret in (TOKEN, "wrong-secret-value", "wrong-token-value"):
            assert secret not in log, "%s in the log" % secret

T.done()
