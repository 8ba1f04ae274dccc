#!/usr/bin/env python3
"""What was acknowledged stays."""
# engines: ci
# timeout: 240
import os
import signal
import sys
import threading
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from xt import *

T = Suite()
B, M, OTLP = "/v1/l/batch", "/v1/metrics/batch", "/v1/traces"


class Writers:
    """Clients that write until they are stopped; what was acknowledged stands in .traces, .spans and .points."""

    def __init__(self, s, n=6):
        s.start()
        self.s, self.traces, self.spans, self.points, self.odd, self.slowest = s, [], [], 0, [], 0.0
        self.metric, self.refused, self.lock, self.over = "m-" + uid(), [0] * n, threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def run(self, i):
        conn = None
        while not self.over.is_set():
            a, o, t, sp = uid(), uid(), otlp.new_trace(), otlp.new_span()
            path, body = [
                (B, {"trace": {"id": a, "name": "w", "output": "x" * (i * 300)}, "observations": [{"id": o, "traceId": a}]}),
                (OTLP, otlp.request_json([{"trace": t, "span": sp, "name": "w", "start": time.time_ns()}])),
                (M, {"metrics": [{"name": self.metric, "labels": {"w": str(i)}, "value": 1, "timestamp": "2026-02-12T10:00:00Z"}]})][i % 3]
            try:
                conn = conn or Conn(self.s._port, 20)
                r = conn.request("POST", path, body, auth=BEARER)
            except (OSError, AssertionError):
                if self.over.is_set() or self.s.proc is None:
                    return
                conn = None
                time.sleep(0.01)
                continue
            with self.lock:
                self.slowest = max(self.slowest, r.seconds)
                if r.status == 200:
                    if path == B:
                        self.traces.append((a, o))
                    elif path == OTLP:
                        self.spans.append((t, sp))
                    else:
                        self.points += 1
                elif r.status in (429, 503) and r.h("retry-after") == "1":
                    self.refused[i] += 1
                else:
                    self.odd.append("%s: %r %s" % (path, r, r.h("retry-after")))
            if r.status != 200:
                time.sleep(0.05)

    def wait_refused(self, seconds):
        """Until each client has been told to retry once more: what it gets after that was asked for after this call."""
        before = list(self.refused)
        wait(lambda: self.odd or all(a > b for a, b in zip(self.refused, before)), seconds, "each client to be told to retry")

    def acked(self):
        return len(self.traces) + len(self.spans) + self.points

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(30)

    def check(self):
        """Everything acknowledged is readable; points may be more than acknowledged (answers lost on the way)."""
        must(not self.odd, lambda: self.odd[0])
        for a, o in self.traces:
            holds({"observations": [{"id": o}]}, self.s.trace(a))
        for t, sp in self.spans:
            holds({"observations": [{"id": sp}]}, self.s.trace(t))
        if self.points:
            r = self.s.get("/api/public/metrics/query?name=%s&agg=sum&group_by=&from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z" % self.metric)
            have = r.json["data"][0]["values"][0]["value"]
            must(self.points <= have <= self.points + 50, "%d points acknowledged, %d stored" % (self.points, have))


def waits(s):
    """One request waits for its commit, and the writer has taken it: it waits for the lock."""
    text = s.get("/metrics").text
    return "\nxtrace_http_parked 1\n" in text and "\nxtrace_queue_batches 0\n" in text


with T.server() as s:
    for sig, name in ((signal.SIGTERM, "B32 kill -TERM after 200 acknowledgements and more under way: all are readable after a restart"),
                      (signal.SIGKILL, "B33 kill -9 likewise")):
        @T.case(name)
        def _():
            for _ in range(3):
                s.start()
                w = Writers(s)
                wait(lambda: w.acked() >= 200, 30 * T.slow, "200 acknowledgements")
                w.over.set()
                rc = s.stop(sig)
                assert rc == (0 if sig == signal.SIGTERM else -9), "ended with %s" % rc
                w.stop()
                s.start()
                w.check()

with T.server({"XTRACE_INGEST_DEADLINE_MS": "1000"}) as s:
    @T.case("B34 store down while clients write, then up: refusals say when to retry, every 200 is readable, reads go on")
    def _():
        old = uid()
        s.batch({"id": old})
        w, load = Writers(s), Load()
        try:
            wait(lambda: w.acked() > 50, 20 * T.slow, "some acknowledgements")
            with locked(s):
                w.wait_refused(10 * T.slow)     # what was committed before the lock has been answered by then
                before, end = w.acked(), time.monotonic() + (60 if T.long else 6)
                while time.monotonic() < end:
                    assert s.trace(old)["id"] == old
                    assert s.get("/healthz").status == 200
                    assert s.get("/readyz").seconds < 2 * T.slow * load.factor()
                    time.sleep(0.1)
                assert w.acked() == before, "acknowledged without a store"
            wait(lambda: w.acked() > before + 50, 20 * T.slow, "writes again")
            wait(lambda: s.get("/readyz").status == 200, 10 * T.slow, "ready again")
        finally:
            w.stop()
        assert w.slowest < 3 * T.slow * load.factor(), "an answer took %.1f s" % w.slowest
        w.check()

    @T.case("B34 what was told to retry while it waited in the queue is not written later")
    def _():
        name = "m-" + uid()

        def push(label):
            return s.post(M, {"metrics": [{"name": name, "labels": {"l": label}, "value": 1, "timestamp": "2026-02-12T10:00:00Z"}]}, timeout=20)
        with locked(s):
            got = {}
            first = threading.Thread(target=lambda: got.update(a=push("in hand")))
            first.start()
            wait(lambda: waits(s), 10 * T.slow, "the writer to take it")
            got["b"] = push("queued")
            first.join()
        for r in got.values():
            assert r.status in (429, 503) and r.h("retry-after") == "1", r
            err("TOO_MANY_REQUESTS" if r.status == 429 else "SERVICE_UNAVAILABLE")(r)
        assert wait(lambda: push("after").status == 200, 10 * T.slow)
        r = s.get("/api/public/metrics/query?name=%s&from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z" % name).json
        labels = [x["labels"]["l"] for x in r["data"]]
        assert "after" in labels and "queued" not in labels, labels

with T.server({"XTRACE_STOP_TIMEOUT_MS": "3000", "XTRACE_INGEST_DEADLINE_MS": "4000"}) as s:
    @T.case("SIGTERM while the store is down: parked requests are told to retry, the end comes in time")
    def _():
        s.batch({"id": uid()})
        got = {}
        with locked(s):
            c = s.conn(20)
            c.send(encode_request("POST", B, {"trace": {"id": uid()}}, auth=BEARER))
            wait(lambda: waits(s), 10 * T.slow, "the request to wait")
            t = time.monotonic()
            reader = threading.Thread(target=lambda: got.update(r=c.reply()))
            reader.start()
            rc = s.stop(seconds=8)
            took = time.monotonic() - t
            reader.join(20)
        assert rc is not None, "still running after %.1f s" % took
        assert got and got["r"].status in (429, 503) and got["r"].h("retry-after"), got

with T.server() as s:
    @T.case("a second signal ends it at once")
    def _():
        s.batch({"id": uid()})
        with locked(s), s.conn(20) as c:
            c.send(encode_request("POST", B, {"trace": {"id": uid()}}, auth=BEARER))
            wait(lambda: waits(s), 10 * T.slow, "the request to wait")
            load = Load()
            s.proc.send_signal(signal.SIGTERM)
            wait(lambda: not s._accepts(), 10 * T.slow, "the first signal to be heeded")
            t = time.monotonic()
            s.stop(signal.SIGTERM)
            assert time.monotonic() - t < 1.5 * T.slow * load.factor(), "%.1f s" % (time.monotonic() - t)

with T.server() as s:
    @T.case("SIGTERM under load: every request gets an answer or a closed connection, none hangs")
    def _():
        w, load = Writers(s, 8), Load()
        wait(lambda: w.acked() > 100, 20 * T.slow)
        rc = s.stop()
        assert rc == 0, rc
        t = time.monotonic()
        w.stop()
        assert time.monotonic() - t < 5 * T.slow * load.factor()
        s.start()
        w.check()

T.done()
