#!/usr/bin/env python3
"""libxtrace (clients/c): its unit tests, its calls and its sender against the real server, and against servers that
refuse, stall, talk nonsense or die."""
# timeout: 240
# engines: ci
import base64
import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib")]
from xt import *

T = Suite()
# A build that has no client of its own: the ordinary one.
BUILD = os.path.join(os.environ.get("XTRACE_TEST_BUILD", ""), "clients", "c")
if not os.path.exists(os.path.join(BUILD, "tests")) or not os.environ.get("XTRACE_TEST_BUILD"):
    BUILD = os.path.join(HERE, "..", "..", "build", "clients", "c")
DRIVE = os.path.join(BUILD, "tests", "drive_client")
SOURCE = os.path.join(HERE, "..", "..", "clients", "c")
A, B, C = ("%d%d%d%d%d%d%d%d-0000-4000-8000-000000000000" % ((n,) * 8) for n in (1, 2, 3))


def run(argv, port, seconds=60, **env):
    seconds *= T.slow
    got = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds,
                         env={**os.environ, "XTRACE_BASE_URL": "http://127.0.0.1:%d" % port, "API_BEARER_TOKEN": TOKEN, **env})
    got.text, got.log = got.stdout.decode(), got.stderr.decode("utf-8", "replace")
    must("Sanitizer" not in got.log, lambda: "sanitizer: " + got.log[-3000:])
    must(got.returncode == 0, lambda: "%s ended with %d: %s" % (argv, got.returncode, got.log[-800:]))
    return got


def drive(port, *args, seconds=60, **env):
    got = run([DRIVE] + [str(a) for a in args], port, seconds, **{k: str(v) for k, v in env.items()})
    out = dict(line.split("=", 1) for line in got.text.splitlines() if "=" in line)
    out["log"] = got.log
    return out


def counts(out):
    return {k: int(out[k]) for k in ("delivered", "refused", "full", "memory", "stopped", "uncertain", "pending")}


def same(got, wanted):
    must(got == wanted, lambda: "got %r, wanted %r" % (got, wanted))


# ---- a server that does what a test says ----

class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.json = json.loads(body) if body else None


GOOD = b'{"message":"Request Successful."}'


def answer(status=200, body=GOOD, **headers):
    lines = ["HTTP/1.1 %d X" % status, "Content-Length: %d" % len(body)]
    lines += ["%s: %s" % (k.replace("_", "-"), v) for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Fake:
    """Answers every request with handle(n, request): bytes to send; None: never; b"": the connection is closed."""

    def __init__(self, handle):
        self.handle, self.requests, self.lock = handle, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open, self.over = [], False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.over:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with contextlib.suppress(OSError, ValueError):
            stream = conn.makefile("rb")
            while True:
                first = stream.readline().decode()
                if not first:
                    break
                method, path, _ = first.split(" ", 2)
                headers = {}
                while True:
                    line = stream.readline().decode().rstrip("\r\n")
                    if not line:
                        break
                    k, v = line.split(":", 1)
                    headers[k.strip().lower()] = v.strip()
                r = Request(method, path, headers, stream.read(int(headers.get("content-length", 0))))
                with self.lock:
                    n = len(self.requests)
                    self.requests.append(r)
                out = self.handle(n, r)
                if out is None:
                    return
                if out == b"":
                    break
                conn.sendall(out)
        with contextlib.suppress(OSError):
            conn.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over = True
        for s in [self.listener] + self.open:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


class Relay:
    """One address for a server that gets another port at each start: connections are passed on, or closed."""

    def __init__(self, server):
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.server._port), 5)
            except OSError:
                near.close()
                continue
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(source, target):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
        for s in (source, target):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


# ---- unit tests ----

@T.case("the unit tests")
def _():
    programs = sorted(f for f in os.listdir(os.path.join(BUILD, "tests")) if re.fullmatch(r"test_\w+", f))
    must(programs, "no unit tests were built")
    for name in programs:
        got = subprocess.run([os.path.join(BUILD, "tests", name)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=60 * T.slow)
        must(got.returncode == 0, lambda: "%s: %s" % (name, got.stdout.decode("utf-8", "replace")[-2000:]))


# ---- the real server ----

with T.server() as s:
    @T.case("every call, against the real server")
    def _():
        out = drive(s.port, "calls", A, B, C)
        wanted = {
            "healthz": "0", "ingest": "0", "list": "0", "list.id": A, "list.total": "1",
            "list.timestamp": "1767225600123456000", "list.tag": "b, c & ä", "list.public": "1", "list.latency": "1",
            "list.cost": "0.25", "list.release": "(absent)", "list.metadata": '{"big":18446744073709551616,"x":[1,null]}',
            "list.observations": "2 " + B, "get": "0", "get.model": "m", "get.tokens": "7", "get.cost": "0.25",
            "get.latency": "1", "get.input": '"in"', "get.version": "2", "get.ttft": "1",
            "get.usage": '{"input":3,"output":4,"total":7}', "get.parent": B, "get.cost2": "1",
            "missing": "5 status=404 code=NOT_FOUND argument= retry=-1 message=Not Found",
            "daily": "0", "daily.day": "2026-01-01 1 2 0.25 m 7", "push": "0", "query": "0", "query.label": 'kä:v "q"',
            "query.value": "1.5", "query.latest": "1767225600123456789", "query.truncated": "0",
            "query.bucket": "1767225600000000000", "group": "0", "group.null": "1", "names": "0", "names.first": "c:calls",
        }
        same({k: out.get(k) for k in wanted}, wanted)

    @T.case("the examples, and the example of the README")
    def _():
        before = s.get("/api/public/traces").json["meta"]["totalItems"]
        same(run([os.path.join(BUILD, "examples", "tracing")], s.port).text, "5 records delivered\n")
        same(run([os.path.join(BUILD, "examples", "readme")], s.port).text, "%d traces\n" % (before + 1))
        if shutil.which("valgrind") and os.environ.get("XTRACE_TEST_MODE", "release") in ("release", "debug"):
            for program, said in (("tracing", "5 records delivered\n"), ("readme", "%d traces\n" % (before + 2))):
                same(run(["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=definite,possible",
                          "--errors-for-leak-kinds=definite,possible", os.path.join(BUILD, "examples", program)], s.port).text, said)
        with open(os.path.join(HERE, "..", "..", "README.md"), encoding="utf-8") as f:
            blocks = re.findall(r"^```c\n(.*?)^```$", f.read(), re.S | re.M)
        with open(os.path.join(SOURCE, "examples", "readme.c"), encoding="utf-8") as f:
            same(blocks, [f.read()])

    @T.case("a trace of spans is one trace, with parents, times, usage, events")
    def _():
        t = next(t for t in s.get("/api/public/traces").json["data"] if t["name"] == "answer")
        same((t["userId"], t["sessionId"], t["tags"], t["input"]), ("user-7", "session-3", ["example"], "What is 2 + 2?"))
        o = {x["name"]: x for x in s.get("/api/public/traces/" + t["id"]).json["observations"]}
        same(sorted(o), ["answer", "answered", "chat"])
        same((o["answer"]["parentObservationId"], o["chat"]["parentObservationId"], o["answered"]["parentObservationId"]),
             (None, o["answer"]["id"], o["answer"]["id"]))
        same((o["chat"]["type"], o["answered"]["type"], o["answer"]["type"]), ("GENERATION", "EVENT", "SPAN"))
        same((o["chat"]["model"], o["chat"]["totalTokens"], o["chat"]["output"]), ("small-model", 13, "4"))
        must(o["chat"]["timeToFirstToken"] >= 0 and o["chat"]["completionStartTime"], "no time to first token")
        must(o["answer"]["startTime"] <= o["chat"]["startTime"] <= o["chat"]["endTime"] <= o["answer"]["endTime"],
             "times do not nest")

    @T.case("eight threads lose no span")
    def _():
        before = s.get("/api/public/traces?limit=1").json["meta"]["totalItems"]
        each = 125000 if T.long else 5000
        out = drive(s.port, "spans", 8, each, "paced", seconds=150)
        same((out["flush"], out["stop"]), ("0", "0"))
        same(counts(out), {"delivered": 8 * (each + each // 10), "refused": 0, "full": 0, "memory": 0, "stopped": 0,
                           "uncertain": 0, "pending": 0})
        same(s.get("/api/public/traces?limit=1").json["meta"]["totalItems"] - before, 8 * each // 10)

    @T.case("what does not fit the queue is dropped and counted")
    def _():
        out = drive(s.port, "spans", 4, 20000, DRIVE_QUEUE=100, DRIVE_BATCH=10)
        c = counts(out)
        must(c["full"] > 0, "nothing was dropped from a queue of 100")
        same(sum(c.values()), 4 * 22000)

    @T.case("after fork each process sends its own")
    def _():
        if os.environ.get("XTRACE_TEST_MODE") == "tsan":
            raise Skip("the thread sanitizer's runtime does not let the child of a threaded process start a thread")
        out = drive(s.port, "fork")
        same((out["child"], out["stop"]), ("0", "0"))
        same(counts(out)["delivered"], 100 + 100 + 50 + 1 + 1)   # spans with their traces; the shared one's has 51 spans

    @T.case("a wrong token is named, and nothing is sent for ever")
    def _():
        out = drive(s.port, "get", DRIVE_TIMEOUT_MS=3000)
        must(out["get"].startswith("0 "), out["get"])
        got = subprocess.run([DRIVE, "get"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30 * T.slow,
                             env=dict(os.environ, XTRACE_BASE_URL="http://127.0.0.1:%d" % s.port, API_BEARER_TOKEN="wrong"))
        must(b"get=5 status=401 code=UNAUTHORIZED" in got.stdout, got.stdout.decode())

with T.server() as s:
    @T.case("a server that is killed and started again gets every record, once")
    def _():
        s.start()
        done, relay = [], Relay(s)
        t = threading.Thread(target=lambda: done.append(drive(relay.port, "trickle", 4000, A, seconds=120)))
        t.start()

        def stored():
            got = s.get("/api/public/traces/" + A)
            return len(got.json["observations"]) if got.status == 200 else 0
        for _ in range(3):
            before = stored()
            wait(lambda: before < stored() or not t.is_alive(), 30 * T.slow, "no progress")
            must(t.is_alive() or done, "the client failed")
            s.kill()
            s.start()
        t.join(120 * T.slow)
        relay.close()
        must(done, "the client failed")
        same(counts(done[0])["delivered"], 4000)
        ids = [o["id"] for o in s.trace(A)["observations"]]
        same(len(ids), len(set(ids)))
        same(len(ids), 4000)

@T.case("TLS is verified, by a CA file; or not, when told so")
def _():
    if not shutil.which("openssl"):
        raise Skip("no openssl to make a certificate")
    tls = T.tmp()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", tls + "/key.pem", "-out", tls + "/cert.pem"], check=True, capture_output=True)
    with T.server({"XTRACE_TLS_CERT": tls + "/cert.pem", "XTRACE_TLS_KEY": tls + "/key.pem"}) as s:
        https = {"XTRACE_BASE_URL": "https://127.0.0.1:%d/" % s.port}
        got = drive(s.port, "get", DRIVE_TIMEOUT_MS=int(1500 * T.slow), **https)["get"]
        must(got.startswith("3 status=0"), "an unknown certificate was taken: " + got)
        for env in ({"DRIVE_CA": tls + "/cert.pem"}, {"DRIVE_INSECURE": 1}):
            env.update(https)
            must(drive(s.port, "get", **env)["get"].startswith("0 "), env)
            same(counts(drive(s.port, "spans", 1, 20, **env))["delivered"], 22)
            same(counts(drive(s.port, "points", 10, "p", **env))["delivered"], 10)


@T.case("Basic, and a proxy")
def _():
    page = b'{"data":[],"meta":{"page":1,"limit":50,"totalItems":0,"totalPages":0}}'
    with Fake(lambda n, r: answer(200, page)) as f:
        drive(f.port, "get", API_BEARER_TOKEN="", XTRACE_PUBLIC_KEY="pk", XTRACE_SECRET_KEY="s:k")
        drive(1, "get", DRIVE_PROXY="http://127.0.0.1:%d" % f.port)
        same(f.requests[0].headers["authorization"], "Basic " + base64.b64encode(b"pk:s:k").decode())
        same(f.requests[1].path, "http://127.0.0.1:1/api/public/traces")
        same(f.requests[1].headers["authorization"], "Bearer " + TOKEN)


# ---- servers that are no help ----

def refusing(status, code, **headers):
    body = json.dumps({"message": "no", "code": code}).encode()
    return lambda n, r: answer(status, body, **headers)


for status, word, retried in ((400, "BAD_REQUEST", False), (401, "UNAUTHORIZED", False), (413, "PAYLOAD_TOO_LARGE", False),
                              (422, "UNPROCESSABLE_ENTITY", False), (500, "INTERNAL_ERROR", True),
                              (503, "SERVICE_UNAVAILABLE", True), (504, "QUERY_TIMEOUT", True)):
    @T.case("a call that is answered %d" % status)
    def _():
        with Fake(refusing(status, word)) as f:
            out = drive(f.port, "get")
            same(out["get"], "5 status=%d code=%s argument= retry=-1 message=no" % (status, word))
            same(len(f.requests), 4 if retried else 1)


@T.case("a call honours Retry-After")
def _():
    def handle(n, r):
        page = b'{"data":[],"meta":{"page":1,"limit":50,"totalItems":0,"totalPages":0}}'
        return answer(429, b"{}", Retry_After="1") if n == 0 else answer(200, page)
    with Fake(handle) as f:
        out = drive(f.port, "get")
        must(out["get"].startswith("0 "), out["get"])
        must(float(out["seconds"]) >= 1, "it did not wait: " + out["seconds"])


@T.case("a Retry-After beyond the call's time-out ends the call at once, and is told")
def _():
    with Fake(lambda n, r: answer(429, b'{"message":"no","code":"TOO_MANY_REQUESTS"}', Retry_After="100000")) as f:
        same(drive(f.port, "get")["get"], "5 status=429 code=TOO_MANY_REQUESTS argument= retry=100000 message=no")
        same(len(f.requests), 1)


for title, raw, code in (
        ("HTML", answer(200, b"<html>hello</html>"), 6), ("nothing", answer(200, b""), 6),
        ("half an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"data\":[", 3),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", 3), ("a list in place of an object", answer(200, b"[]"), 6),
        ("a shape of its own", answer(200, b'{"data":[{"id":1}],"meta":{}}'), 6),
        ("a million brackets", answer(200, b"[" * 1000000), 6), ("a closed connection", b"", 3)):
    @T.case("a call that is answered with " + title)
    def _():
        with Fake(lambda n, r: raw) as f:
            out = drive(f.port, "get", DRIVE_TIMEOUT_MS=1500)
            same((out["get"].split()[0] in (str(code), "4"), out["items"]), (True, "0"))


@T.case("a call that is never answered ends at its time-out")
def _():
    with Fake(lambda n, r: None) as f:
        out = drive(f.port, "get", DRIVE_TIMEOUT_MS=700)
        must(out["get"].startswith("4 "), out["get"])
        must(0.6 <= float(out["seconds"]) < 5 * T.slow, out["seconds"])


def records(r):
    j = r.json
    return [x for k in ("traces", "observations", "metrics") for x in j.get(k, [])] + ([j["trace"]] if j.get("trace") else [])


@T.case("a refused record does not sink its neighbours")
def _():
    kept = []

    def handle(n, r):
        if any(x.get("name") == "bad" for x in records(r)):
            return answer(422, b'{"message":"observations[0].name: bad","code":"UNPROCESSABLE_ENTITY"}')
        kept.extend(x["id"] for x in records(r))
        return answer()
    with Fake(handle) as f:
        out = drive(f.port, "mixed", A)
        same((counts(out)["delivered"], counts(out)["refused"], out["stop"]), (39, 1, "0"))
        same(len(kept), 39)
        same(len(set(kept)), 39)
        must("00000000-0000-4000-8000-000000000011" in out["log"], "the refused record is not named")


@T.case("207: what the server refused is counted and named")
def _():
    def handle(n, r):
        bad = [i for i, x in enumerate(r.json["observations"]) if x["name"] == "bad"]
        return answer(207, json.dumps({"message": "some", "code": "PARTIAL_SUCCESS", "errors": [
            {"kind": "observation", "index": i, "id": r.json["observations"][i]["id"], "message": "too bad"} for i in bad]}).encode())
    with Fake(handle) as f:
        out = drive(f.port, "mixed", A)
        same((counts(out)["delivered"], counts(out)["refused"]), (39, 1))
        must("too bad" in out["log"], "the reason is not logged")


@T.case("too large a batch is sent in parts")
def _():
    kept = []

    def handle(n, r):
        if len(records(r)) > 3:
            return answer(413, b'{"message":"too large","code":"PAYLOAD_TOO_LARGE"}')
        kept.extend(x["id"] for x in records(r))
        return answer()
    with Fake(handle) as f:
        out = drive(f.port, "mixed", A)
        same((counts(out)["delivered"], len(set(kept))), (40, 40))


@T.case("a server that does not inflate gets plain bodies")
def _():
    seen = []

    def handle(n, r):
        if r.headers.get("content-encoding"):
            return answer(400, b'{"message":"Failed to parse the request body as JSON","code":"BAD_REQUEST"}')
        seen.extend(x["id"] for x in records(r))
        return answer()
    with Fake(handle) as f:
        same(counts(drive(f.port, "mixed", A))["delivered"], 40)
        same(len(seen), 40)


@T.case("a server that takes one trace a request gets them one by one")
def _():
    traces = []

    def handle(n, r):
        must("traces" not in r.json, "a list of traces that was not asked for")
        traces.append(r.json.get("trace"))
        return answer()
    with Fake(handle) as f:
        out = drive(f.port, "spans", 1, 50)
        same((counts(out)["delivered"], len([t for t in traces if t])), (55, 5))


@T.case("a server that forgets that it takes several traces gets those again, one by one")
def _():
    traces = set()

    def handle(n, r):
        if r.json.get("trace"):
            traces.add(r.json["trace"]["id"])           # the list beside it is not known here
        return answer(X_Xtrace_Accepts="traces") if n == 0 else answer()
    with Fake(handle) as f:
        out = drive(f.port, "spans", 1, 50)
        same((counts(out)["delivered"], len(traces)), (55, 5))
        must(any("traces" in r.json for r in f.requests), "no list was sent")


@T.case("a refused record does not end compression")
def _():
    def handle(n, r):
        if any(x.get("name") == "bad" for x in records(r)):
            return answer(400, b'{"message":"bad","code":"BAD_REQUEST"}')
        return answer()
    with Fake(handle) as f:
        out = drive(f.port, "mixed", A)
        same((counts(out)["delivered"], counts(out)["refused"]), (39, 1))
        same(f.requests[-1].headers.get("content-encoding"), "gzip")


@T.case("a batch that is full by its bytes does not wait for company")
def _():
    with Fake(lambda n, r: answer()) as f:
        out = drive(f.port, "full", DRIVE_DELAY_MS=60000, DRIVE_BATCH_BYTES=2000)
        same((out["early"], counts(out)["delivered"]), ("1", 100))


@T.case("a flush waits for what was there before it, not for as many records")
def _():
    def handle(n, r):
        if n == 0:
            time.sleep(0.5)                             # the batch behind it gathers meanwhile
        return None if n > 0 and r.path == "/v1/metrics/batch" else answer()
    with Fake(handle) as f:
        out = drive(f.port, "order", A)
        same((out["flush"], out["stop"]), ("4", "4"))
        same((counts(out)["delivered"], counts(out)["uncertain"]), (2, 1))


@T.case("stop breaks a hanging request off at once")
def _():
    with Fake(lambda n, r: None) as f:
        least = 9.0
        for _ in range(5):                              # the machine may be busy
            least = min(least, float(drive(f.port, "stop", 50, DRIVE_TIMEOUT_MS=20000)["seconds"]))
            if least < 0.25:
                break
        must(least < 0.25 * T.slow, "stop took %s s after a deadline of 0.05 s" % least)


@T.case("back-pressure is waited out")
def _():
    def handle(n, r):
        return answer(503, b'{"message":"Service Unavailable","code":"SERVICE_UNAVAILABLE"}') if n < 3 else \
            answer(429, b"{}", Retry_After="1") if n == 3 else answer()
    with Fake(handle) as f:
        start = time.monotonic()
        out = drive(f.port, "mixed", A)
        same(counts(out)["delivered"], 40)
        must(time.monotonic() - start >= 1, "Retry-After was not honoured")
        must(int(out["retries"]) >= 4, out["retries"])


for title, handle, code in (("never answers", lambda n, r: None, "uncertain"),
                            ("says 503", refusing(503, "SERVICE_UNAVAILABLE"), "stopped"),
                            ("refuses the token", refusing(401, "UNAUTHORIZED"), "stopped")):
    @T.case("stop in the middle of trying, at a server that " + title)
    def _():
        with Fake(handle) as f:
            out = drive(f.port, "stop", 500, DRIVE_TIMEOUT_MS=20000)
            same(out["flush"], "4")
            same(sum(counts(out).values()), 1)
            same(counts(out)["delivered"], 0)
            same(counts(out)["stopped"] + counts(out)["uncertain"], 1)
            same(out["stop"], "4")
            must(float(out["seconds"]) < 4 * T.slow, "stop took %s s" % out["seconds"])


@T.case("points are not sent again when the server may have them")
def _():
    with Fake(lambda n, r: b"") as f:           # reads the request, then hangs up
        out = drive(f.port, "points", 10, "p")
        same((counts(out)["uncertain"], len(f.requests)), (10, 1))


@T.case("points are not sent again when their 2xx answer cannot be read")
def _():
    with Fake(lambda n, r: answer(200, b"<html>thanks</html>")) as f:
        out = drive(f.port, "points", 10, "p")
        same((counts(out)["uncertain"], len(f.requests)), (10, 1))


@T.case("points wait for a server that is not there")
def _():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        out = drive(free.getsockname()[1], "stop", 400)
        same((counts(out)["stopped"], counts(out)["uncertain"]), (1, 0))


@T.case("installed, it is found by pkg-config, and the README's example compiles without a warning")
def _():
    root = T.tmp()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    got = subprocess.run(["make", "-s", "-C", SOURCE, "MODE=release", "BUILD=" + os.path.join(root, "build"), "PREFIX=" + root, "install"],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, timeout=150 * T.slow)
    must(got.returncode == 0, lambda: got.stdout.decode()[-2000:])
    for f in ("include/xtrace.h", "lib/libxtrace.so.0", "lib/libxtrace.a", "lib/pkgconfig/xtrace.pc",
              "share/man/man3/xtrace_span_start.3"):
        must(os.path.exists(os.path.join(root, f)), f + " was not installed")
    env["PKG_CONFIG_PATH"] = os.path.join(root, "lib", "pkgconfig")
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "xtrace"], env=env, text=True).split()
    static = subprocess.check_output(["pkg-config", "--libs", "libcurl", "zlib", "jansson"], env=env, text=True).split()
    program = os.path.join(SOURCE, "examples", "readme.c")
    for cc in (["cc"], ["cc", "-std=c99"], ["c++", "-x", "c++", "-std=c++17"]):
        out = subprocess.run(cc + ["-Wall", "-Wextra", "-Werror", "-o", root + "/example", program] +
                             (["-x", "none"] if "-x" in cc else []) + flags,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        must(out.returncode == 0 and not out.stdout, lambda: "%s: %s" % (cc, out.stdout.decode()))
    with open(root + "/header.c", "w", encoding="utf-8") as f:
        f.write("#include <xtrace.h>\nint main(void) { return xtrace_version() == 0; }\n")
    for cc in ("gcc", "clang"):
        for language in ("c -std=c99", "c -std=c11", "c++ -std=c++11", "c++ -std=c++17"):
            if shutil.which(cc):
                out = subprocess.run([cc, "-x"] + language.split() + ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror",
                                     "-fsyntax-only", "-I" + root + "/include", root + "/header.c"], stderr=subprocess.PIPE)
                must(out.returncode == 0, lambda: "%s %s: %s" % (cc, language, out.stderr.decode()))
    pages = [os.path.join(root, "share/man/man3", f) for f in sorted(os.listdir(root + "/share/man/man3"))]
    with open(root + "/include/xtrace.h", encoding="utf-8") as f:
        functions = set(re.findall(r"\b(xtrace_\w+)\(", "".join(re.findall(r"^XTRACE_API[^;]*;|^#define xtrace_\w+\(", f.read(), re.M))))
    same({os.path.basename(p)[:-2] for p in pages}, functions)
    for p in pages:
        with open(p, encoding="utf-8") as f:
            text = f.read()
        must(".SH THREAD SAFETY" in text and ".SH DESCRIPTION\n.SH" not in text, p + " says too little")
    if shutil.which("man"):
        for p in pages:
            got = subprocess.run(["man", "--warnings", "-l", p], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            must(got.returncode == 0 and not got.stderr, lambda: p + ": " + got.stderr.decode())
    out = subprocess.run(["cc", "-o", root + "/static", program, "-I" + root + "/include", root + "/lib/libxtrace.a"] + static,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    must(out.returncode == 0, lambda: out.stdout.decode())
    defined = subprocess.check_output(["nm", "-D", "--defined-only", root + "/lib/libxtrace.so.0"], text=True)
    same([x for x in re.findall(r" [A-Z] (\S+)", defined) if not x.startswith("xtrace_") and not x.startswith("XTRACE_0")], [])


T.done()
