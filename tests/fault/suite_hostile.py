#!/usr/bin/env python3
"""Hostile clients: others are served meanwhile, memory stays under a bound that follows from the configuration.

The bound (BOUND below), with the budgets that these servers are given:
    program, libraries, threads                          48 MiB
  + body-budget-bytes: bodies being read                 32 MiB, or one body of the largest size
  + queue-max-bytes: decoded batches                     16 MiB, or one batch
  + cache-bytes and the read connections' caches         8 + 4 x 2 MiB
  + decoding, on each HTTP thread                        2 x 2 x the largest body: text is cut out once, compressed once
  + the batch that is being written                      2 x the largest body
  + answers that wait for their readers                  256 MiB, or body-budget-bytes if that is more (only where
                                                         clients do not read), and 2 on each of the 4 query threads
  + 16 KiB a connection
"""
# timeout: 200
# alone
import json
import os
import random
import resource
import selectors
import socket
import struct
import sys
import threading
import time
sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "..", "lib"), os.path.join(here, "..", "crash")]
from facts import *

T = Suite()
MIB = 1 << 20
MAX_BODY = 20 * MIB
SETTINGS = {"XTRACE_BODY_BUDGET_BYTES": 32 * MIB, "XTRACE_QUEUE_MAX_BYTES": 16 * MIB, "XTRACE_CACHE_BYTES": 8 * MIB, "XTRACE_HTTP_THREADS": 2}
CONNECTIONS = 2500
UPLOADS = 60
# Seconds that a well-behaved client's requests may take while others misbehave. Writes: told to retry by then.
MOST = {"GET /healthz": 2.0, "POST /v1/l/batch": 5.0}
MOST_READ = 8.0         # within the query's time limit; reads wait for a free query thread


def raise_files():
    """Room for our ends of the connections; the server inherits it. Returns how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 20000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want) if soft != resource.RLIM_INFINITY else soft, hard))
    return min(CONNECTIONS, max(50, want - 400))


N = raise_files()
if N < CONNECTIONS:
    print("# only %d connections: the limit of open files is %d" % (N, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def bound(connections, bodies=True, answer=0):
    """Bytes. bodies: large ones are sent; answer: bytes of the large answers that are not read."""
    return (48 * MIB + 16 * MIB + connections * 16384
            + (max(32 * MIB, MAX_BODY) + max(16 * MIB, MAX_BODY) + 2 * 2 * MAX_BODY + 2 * MAX_BODY if bodies else 0)
            + (max(32 * MIB, 256 * MIB) + 4 * 2 * answer if answer else 0))


class Closing(Exception):
    """The server said that it ends the connection after this answer."""


class Probe:
    """A well-behaved client beside the others: probes, writes and reads, over new connections and a kept one (kept=False:
    over new ones alone; where idle connections are closed to make room, it asks again; it also does under the thread sanitizer, where a
    server may be too slow to see an answer off in time)."""

    def __init__(self, s, kept=True):
        self.keeps = kept
        self.s, self.over, self.problems, self.slow, self.count, self.told, self.written = s, threading.Event(), [], {}, 0, 0, []
        self.known = uid()
        s.batch({"id": self.known, "name": "probe"})
        self.port, self.load = s.port, Load()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _ask(self, c, method, path, body=None):
        r = c.request(method, path, body, auth=BEARER)
        what = method + " " + path.split("?")[0].replace(self.known, ":id")
        self.slow[what] = max(self.slow.get(what, 0), r.seconds)
        self.count += 1
        if (r.h("connection") or "").lower() == "close":
            raise Closing
        return r

    def _round(self, kept):
        with Conn(self.port, 60) as fresh:
            for c in (fresh, kept):
                must(self._ask(c, "GET", "/healthz").status == 200, "healthz")
                r = self._ask(c, "GET", "/api/public/traces/" + self.known)
                must(r.status in (200, 503), "a read answered %r" % r)
            t = uid()
            r = self._ask(kept, "POST", BATCH, {"trace": {"id": t}})
            must(r.status == 200 or r.status in (429, 503) and r.h("retry-after") == "1", "a write answered %r" % r)
            self.told += r.status != 200
            if r.status == 200:
                self.written.append(t)
            must(self._ask(fresh, "GET", "/api/public/traces?limit=5").status in (200, 503), "list")

    def _work(self):
        kept, closed = None, 0
        while not self.over.is_set():
            try:
                if kept is None:
                    kept = Conn(self.port, 60)
                    self._ask(kept, "GET", "/healthz")      # at once: a new connection may be silent for 10 s only
                self._round(kept)
                if not self.keeps:
                    kept.close()
                    kept = None
                self.over.wait(0.03)
                closed = 0
            except Closing:
                kept = None
            except (OSError, AssertionError) as e:
                kept, closed = None, closed + 1
                if isinstance(e, ConnectionError) and (not self.keeps or T.slow == 4) and closed < 3:
                    continue
                self.problems.append("%s: %s" % (type(e).__name__, e))
                if len(self.problems) > 5:
                    return
        if kept:
            kept.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if not kind:
            wait(lambda: self.problems or self.count >= 6, 20 * T.slow, "the probe's client to be served")
        self.over.set()
        self.thread.join(60 * T.slow)
        if kind:
            return
        must(not self.problems, lambda: "the probe's client: %s" % self.problems[:3])
        factor = T.slow * self.load.factor()
        late = {k: round(v, 2) for k, v in self.slow.items() if v > MOST.get(k, MOST_READ) * factor}
        must(not late, "slowest answers to others: %s s" % late)
        for t in self.written[-50:]:
            self.s.trace(t)


def forget_peak(s):
    with open("/proc/%d/clear_refs" % s.pid, "w") as f:
        f.write("5")


def memory(s, most, what):
    """Looks at the peak; sanitizers have their own ideas of memory."""
    rss, peak = s.rss(), s.peak()
    print("# %s: %d MiB now, peak %d MiB, bound %d MiB" % (what, rss >> 20, peak >> 20, most >> 20), flush=True)
    must(T.sanitized or peak < most, "%s: peak of %d MiB, bound %d MiB" % (what, peak >> 20, most >> 20))


def alive(s):
    t = uid()
    wait(lambda: s.post(BATCH, {"trace": {"id": t}}).status == 200, 10 * T.slow, "a write to succeed afterwards")
    s.trace(t)
    must(s.get("/readyz").status == 200, "ready")


def connect(port, rcvbuf=None):
    c = socket.socket()
    if rcvbuf:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    c.settimeout(10)
    c.connect(("127.0.0.1", port))
    return c


def close_all(socks, reset=False):
    for c in socks:
        try:
            if reset:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
        except OSError:
            pass


def announced(n):
    """The begin of a body of n bytes."""
    return (b"POST /v1/l/batch HTTP/1.1\r\nHost: x\r\nAuthorization: " + BEARER.encode()
            + b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % n + b'{"trace":{"id":"')


HALVES = [b"", b"G", b"GET /healthz HTTP/1.1\r\n", b"GET /api/public/traces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ", announced(5000),
          b"POST /v1/l/batch HTTP/1.1\r\nHost: x\r\nAuthorization: " + BEARER.encode()
          + b"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{"]

with T.server(SETTINGS) as s:
    @T.case("%d idle and half-sent connections" % N)
    def _():
        s.start()
        s.batch({"id": uid()})
        before, socks = s.rss(), []
        halves = HALVES + [announced(n) for n in (19000000, 400000, 30000, 2000, 200, 20)]
        with Probe(s) as probe:
            for i in range(N):
                socks.append(connect(s.port))
                socks[-1].sendall(halves[i % len(halves)])
            time.sleep(1.5)
            each = (s.rss() - before) / N
            memory(s, bound(N, bodies=False), "%d connections, %.1f KiB each" % (N, each / 1024))
            close_all(socks)
        must(probe.told == 0, "lengths that were only announced took others' room: %d writes were told to retry" % probe.told)
        alive(s)

    @T.case("resets in the middle of requests and answers")
    def _():
        body = encode_request("POST", BATCH, {"trace": {"id": uid(), "input": "x" * 300000}}, auth=BEARER)
        whole = encode_request("GET", "/api/public/traces?limit=50", auth=BEARER)
        rng = random.Random(7)
        end = time.monotonic() + 3
        with Probe(s):
            while time.monotonic() < end:
                socks = []
                for _ in range(40):
                    c = connect(s.port)
                    socks.append(c)
                    try:
                        c.sendall(rng.choice((body[:rng.randrange(len(body))], body, whole, whole * 5, rng.choice(HALVES))))
                    except OSError:
                        pass
                close_all(socks, reset=rng.random() < 0.8)
                time.sleep(0.03 * T.slow)       # no flood of connections: that is another test
        memory(s, bound(N, bodies=False) + 64 * MIB, "resets")
        alive(s)

with T.server({**SETTINGS, "XTRACE_MAX_CONNECTIONS": 300, "XTRACE_HEADER_TIMEOUT_MS": 1500, "XTRACE_IDLE_TIMEOUT_MS": 3000,
               "XTRACE_REQUEST_TIMEOUT_MS": 3000}) as s:
    @T.case("more connections than are allowed: idle ones make room, slow senders are ended in time")
    def _():
        s.start()
        socks = []
        try:
            with Probe(s, kept=False):
                for i in range(600):
                    try:
                        socks.append(connect(s.port))
                        socks[-1].sendall(HALVES[i % len(HALVES)])
                    except OSError:
                        pass
                load, begin = Load(), time.monotonic()  # a byte now and then keeps no connection for ever
                left = {c for c in socks if c.fileno() >= 0}
                while left and time.monotonic() - begin < 6 * T.slow * load.factor():
                    for c in list(left):
                        try:
                            c.settimeout(0)
                            c.send(b"a")
                            if c.recv(4096) == b"":
                                left.discard(c)
                        except BlockingIOError:
                            pass
                        except OSError:
                            left.discard(c)
                    time.sleep(0.2)
                must(not left, "%d of %d slow connections are still open" % (len(left), len(socks)))
        finally:
            close_all(socks)
        alive(s)


def upload(ports, prefix, rest, n, seconds):
    """n uploads at once, each with an id of its own; [(id, status or None, Retry-After)]."""
    sel, done, live = selectors.DefaultSelector(), [], {}
    for _ in range(n):
        c, t = connect(ports), uid()
        c.setblocking(False)
        head = prefix(t)
        live[c] = [t, [memoryview(head), memoryview(rest)], bytearray()]
        sel.register(c, selectors.EVENT_READ | selectors.EVENT_WRITE)
    end = time.monotonic() + seconds

    def finish(c, reply):
        sel.unregister(c)
        c.close()
        id = live.pop(c)[0]
        m = bytes(reply).split(b"\r\n\r\n")[0]
        status = int(m.split()[1]) if m.startswith(b"HTTP/1.1 ") else None
        retry = [x.split(b":")[1].strip() for x in m.split(b"\r\n") if x.lower().startswith(b"retry-after:")]
        done.append((id, status, retry[0].decode() if retry else None))

    while live:
        must(time.monotonic() < end, "%d of %d uploads have no answer after %d s" % (len(live), n, seconds))
        for key, events in sel.select(0.5):
            c = key.fileobj
            _, parts, reply = live[c]
            try:
                if events & selectors.EVENT_READ:
                    got = c.recv(65536)
                    reply += got
                    if not got or b"\r\n\r\n" in reply:
                        finish(c, reply)
                        continue
                if events & selectors.EVENT_WRITE and parts:
                    parts[0] = parts[0][c.send(parts[0][:262144]):]
                    if not parts[0]:
                        parts.pop(0)
                    if not parts:
                        sel.modify(c, selectors.EVENT_READ)
            except BlockingIOError:
                pass
            except OSError:
                finish(c, reply)
    sel.close()
    return done


def big_body(shape):
    """(function id -> head and start of the body, the rest): 19 MB of JSON."""
    size = 19000000
    if shape == "one text":
        start, rest = '{"trace":{"id":"%s","input":"', random.Random(1).randbytes(size // 2).hex()[:size - 200] + '"}}'
    elif shape == "many texts":
        start = '{"trace":{"id":"%s","input":['
        rest = ",".join('"%s"' % random.Random(i).randbytes(250).hex() for i in range(size // 503 - 10)) + "]}}"
    else:   # observations, 2.5 KB each
        start = '{"trace":{"id":"%s"},"observations":['
        rows, text = [], random.Random(2).randbytes(1200).hex()
        for _ in range(size // 2530):
            rows.append('{"id":"%s","traceId":"%s","output":"%s"}' % (uid(), big_body.trace, text))
        rest = ",".join(rows) + "]}"
    head = ("POST /v1/l/batch HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (BEARER, len(start) - 2 + 36 + len(rest))) + start
    return (lambda id: (head % id).encode()), rest.encode()


big_body.trace = uid()

with T.server(SETTINGS) as s:
    for shape in ("one text", "many texts", "observations"):
        @T.case("%d uploads of 19 MB at once (%s)" % (UPLOADS, shape))
        def _():
            s.start() if s.proc is None else None
            forget_peak(s)
            prefix, rest = big_body(shape)
            with Probe(s):
                t = time.monotonic()
                done = upload(s.port, prefix, rest, UPLOADS, 60 * T.slow)
            tally = {x: [d[1] for d in done].count(x) for x in {d[1] for d in done}}
            print("# %s: %s in %.1f s" % (shape, tally, time.monotonic() - t), flush=True)
            must(set(tally) <= {200, 413, 429, 503, None}, "statuses %s" % tally)
            must(413 not in tally, "19 MB are allowed: %s" % tally)
            must(tally.get(200, 0) >= 1, "none was accepted: %s" % tally)
            must(all(d[2] == "1" for d in done if d[1] in (429, 503)), "refused without Retry-After")
            must(tally.get(None, 0) <= UPLOADS // 2, "more than half ended without an answer: %s" % tally)
            memory(s, bound(UPLOADS), "uploads, " + shape)
            for id in [d[0] for d in done if d[1] == 200][:3]:
                s.trace(id, timeout=30)
            alive(s)

    @T.case("slow senders of large bodies hold the budget: others are told to retry or served, and it comes back")
    def _():
        forget_peak(s)
        prefix, rest = big_body("one text")
        socks = []
        try:
            with Probe(s) as probe:
                for _ in range(30):
                    c = connect(s.port)
                    socks.append(c)
                    try:
                        c.sendall(prefix(uid()) + rest[:3000000])
                    except OSError:
                        pass
                time.sleep(2)
                memory(s, bound(60), "slow large bodies")
        finally:
            close_all(socks)
        print("# the probe was told to retry %d times, wrote %d times" % (probe.told, len(probe.written)), flush=True)
        alive(s)

with T.server(SETTINGS) as s:
    big = uid()

    @T.case("64 clients ask for large answers and never read them")
    def _():
        s.start()
        for k in range(4):
            r = s.post(BATCH, {"trace": {"id": big}, "observations": [{"id": uid(), "traceId": big, "output": random.Random(k * 40 + i).randbytes(50000).hex()}
                                                                       for i in range(40)]}, timeout=30)
            must(r.status == 200, r)
        whole = s.trace(big, timeout=30)
        must(len(whole["observations"]) == 160, "%d observations" % len(whole["observations"]))
        del whole
        forget_peak(s)
        socks = []
        try:
            with Probe(s):
                for i in range(64):
                    c = connect(s.port, 4096)
                    socks.append(c)
                    path = "/api/public/traces/" + big if i % 4 else "/api/public/traces?limit=200"
                    c.sendall(encode_request("GET", path, auth=BEARER) * (3 if i % 8 == 0 else 1))
                time.sleep(4)
                memory(s, bound(64, False, 17 * MIB), "answers of 16 MB nobody reads")
        finally:
            close_all(socks)
        alive(s)
        must(len(s.trace(big, timeout=30)["observations"]) == 160, "read afterwards")

    @T.case("64 clients pipeline requests without reading an answer")
    def _():
        forget_peak(s)
        socks = []
        try:
            with Probe(s):
                many = encode_request("GET", "/api/public/traces?limit=50", auth=BEARER) * 200
                for _ in range(64):
                    c = connect(s.port, 4096)
                    socks.append(c)
                    c.settimeout(0.2)
                    try:
                        c.sendall(many)
                    except OSError:
                        pass
                time.sleep(1)
                memory(s, bound(64, False, MIB), "pipelined requests")
        finally:
            close_all(socks)
        alive(s)

T.done()
