#!/usr/bin/env python3
"""A disk that is full, fails or hangs: callers are told to retry, reads go on, the server recovers by itself.

Full, the real way: a small tmpfs, where mounting is allowed (root), in a mount namespace of this program's own.  Full,
failing and hanging everywhere: a preloaded library (tests/preload/disk.c).
"""
# timeout: 120
import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
import time
sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "..", "lib"), os.path.join(here, "..", "crash")]
from facts import *

T = Suite()
NO_LIMIT = (1 << 64) - 1
RECOVERY = 5            # seconds


class Tmpfs:
    """A file system of `size` bytes; a filler file takes what is left."""

    def __init__(self, size):
        self.dir, self.size = T.tmp(), size
        if os.geteuid() != 0:
            raise Skip("only root may mount")
        libc = ctypes.CDLL(None, use_errno=True)
        clone_newns, ms_rec, ms_private = 0x20000, 0x4000, 1 << 18
        # A namespace of our own: whatever happens to this program, nothing stays mounted.
        if libc.unshare(clone_newns) != 0 or libc.mount(b"none", b"/", None, ms_rec | ms_private, None) != 0:
            raise Skip("no mount namespace: " + os.strerror(ctypes.get_errno()))
        if libc.mount(b"tmpfs", self.dir.encode(), b"tmpfs", 0, b"size=%d,mode=755" % size) != 0:
            raise Skip("mounting is not allowed: " + os.strerror(ctypes.get_errno()))
        self.filler = os.path.join(self.dir, "filler")
        self.data = os.path.join(self.dir, "data")

    def env(self):
        return {"XTRACE_DATA_DIR": self.data}

    def fill(self):
        with open(self.filler, "wb", buffering=0) as f:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError:
                    pass

    def free(self):
        os.unlink(self.filler)


class Preloaded:
    """The preloaded library's disk, for any user."""

    def __init__(self):
        self.library = preload(T, "disk")
        self.dir = os.path.realpath(T.tmp())
        self.data = os.path.join(self.dir, "data")
        self.control = os.path.join(self.dir, "control")
        with open(self.control, "wb") as f:
            f.write(struct.pack("<QQQ", NO_LIMIT, 0, 0))
        with open(self.control, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 24)

    def env(self):
        return {"XTRACE_DATA_DIR": self.data, "XTRACE_TEST_DIR": self.data, "XTRACE_TEST_DISK": self.control, **self.library}

    def set(self, space=NO_LIMIT, fail_syncs=0, hang=0):
        self.map[:] = struct.pack("<QQQ", space, fail_syncs, hang)

    def fill(self):
        self.set(space=sum(os.path.getsize(os.path.join(self.data, n)) for n in os.listdir(self.data)))

    def free(self):
        self.set()


def post_all(s):
    """One write of each kind; their answers."""
    t, o = otlp.new_trace(), otlp.new_span()
    return [s.post(BATCH, {"trace": {"id": uid()}, "observations": []}, timeout=20),
            s.post(OTLP, otlp.request_json([{"trace": t, "span": o, "name": "x", "start": time.time_ns()}]), timeout=20),
            s.post("/api/public/otel" + OTLP, otlp.request_json([{"trace": t, "span": o, "name": "x"}]), timeout=20),
            s.post(METRICS, {"metrics": [{"name": "probe", "value": 1, "timestamp": DAY % (1, 1, 1)}]}, timeout=20)]


def refused(s, why, most=6.0):
    """All kinds of writes are told to retry, readiness says so, everything else goes on."""
    load = Load()
    for r in post_all(s):
        must(r.status in (429, 503) and r.h("retry-after") == "1", "%s: a write answered %r, Retry-After %s" % (why, r, r.h("retry-after")))
        must(r.seconds < most * T.slow * load.factor(), "%s: %.1f s for %r" % (why, r.seconds, r))
    wait(lambda: s.get("/readyz").status == 503, 4 * T.slow, "503 from /readyz, " + why)
    r = s.get("/readyz")
    must(r.seconds < 2 * T.slow * load.factor(), "readyz took %.1f s" % r.seconds)
    must(s.get("/healthz").status == 200, "healthz")
    r = s.get("/metrics")
    must(r.status == 200 and "\nxtrace_ready 0" in r.text, "/metrics does not say that the store is not ready")
    must("\nxtrace_ready 1" not in r.text, "both")


def wait_ready(s, why):
    t = time.monotonic()
    wait(lambda: s.get("/readyz").status == 200, RECOVERY * T.slow, "ready again by itself, " + why)
    for r in post_all(s):
        must(r.status == 200, "%s: %.1f s later a write answers %r" % (why, time.monotonic() - t, r))


def whole(s, facts, why, counts=True):
    problems = check(s, facts, counts=counts)
    must(not problems, lambda: "%s: %d lost or damaged, first: %s" % (why, len(problems), problems[0]))


def log_of(s, word):
    must(word in s.stderr(), "no %s in the log: %s" % (word, s.stderr()[-400:]))


def use_up(s):
    """A large write that failed may leave room in the log into which small ones still fit, the server's own probe too;
    those are kept like any other. Room only shrinks: in the end nothing fits."""
    wait(lambda: all(r.status in (429, 503) for r in post_all(s)) and s.get("/readyz").status == 503, 40 * T.slow,
         "an end of the room on a full disk")


def full_disk(s, disk):
    s.start()
    clients = Clients(s, "full-" + uid()[:8], uid(), big=20000)
    wait(lambda: clients.acked > 80 or clients.odd, 20 * T.slow, "some acknowledgements")
    disk.fill()                                     # in the middle of it
    wait(lambda: clients.odd or sum(w.state.answer in (429, 503) for w in clients.writes()) > 20, 30 * T.slow, "refusals")
    clients.stop()
    must(not clients.odd, lambda: clients.odd[0])
    must(not clients.late(8 * T.slow), "an answer took %.1f s" % clients.slowest)
    use_up(s)
    refused(s, "full disk")
    log_of(s, "store_unavailable")
    whole(s, clients.facts, "while the disk is full")
    r = s.get("/api/public/traces?limit=50&orderBy=timestamp.desc")
    must(r.status == 200 and r.json["data"], "list: %r" % r)
    must(s.get("/api/public/metrics/daily").status == 200, "daily")
    disk.free()
    wait_ready(s, "after space returned")
    log_of(s, "store_recovered")
    whole(s, clients.facts, "after space returned")
    return clients.facts


def stop_when_full(s, disk, facts):
    for sig in (signal.SIGTERM, signal.SIGKILL):
        more = Clients(s, "stop-" + uid()[:8], uid(), big=20000)
        wait(lambda: more.acked > 30 or more.odd, 20 * T.slow, "some acknowledgements")
        disk.fill()
        wait(lambda: more.odd or any(w.state.answer in (429, 503) for w in more.writes()), 30 * T.slow, "refusals")
        rc = s.stop(sig)
        more.stop()
        must(rc == (0 if sig == signal.SIGTERM else -9), "%s with a full disk: %s" % (sig.name, rc))
        must(not more.odd, lambda: more.odd[0])
        # A start on a full disk serves what is there, or is refused with a line that says why.
        try:
            s.start(4)
        except Fail as e:
            must("ended at its start with 1" in str(e), e)
            lines = [x for x in s.stderr().splitlines() if x.strip()]
            must(len(lines) == 1, "a start on a full disk: %s" % lines)
        disk.free()
        if s.proc is None:
            s.start()
        wait_ready(s, "after %s with a full disk" % sig.name)
        whole(s, more.facts, "after %s with a full disk" % sig.name)
    whole(s, facts, "in the end")
    s.stop()
    wrong = deep_check(T, disk.data)
    must(not wrong, wrong)


for name, make in (("tmpfs", lambda: Tmpfs(24 << 20)), ("preloaded", Preloaded)):
    with T.server() as s:
        state = {}

        @T.case("full disk (%s): writes are told to retry, reads go on, ready again by itself, nothing is lost" % name)
        def _():
            disk = make()
            s.env.update(disk.env())
            s.dir, s.db = disk.data, os.path.join(disk.data, "xtrace.db")
            state["facts"] = full_disk(s, disk)
            state["disk"] = disk

        if "disk" in state:
            @T.case("full disk (%s): SIGTERM and kill -9 meanwhile, and a start on the full disk" % name)
            def _():
                stop_when_full(s, state["disk"], state["facts"])

with T.server() as s:
    @T.case("a limit on the size of files is met: as a full disk, and no end of the process")
    def _():
        s.start()
        clients = Clients(s, "limit-" + uid()[:8], uid())
        wait(lambda: clients.acked > 50 or clients.odd, 20 * T.slow, "some acknowledgements")
        resource.prlimit(s.pid, resource.RLIMIT_FSIZE, (os.path.getsize(s.db + "-wal") + 20000, resource.RLIM_INFINITY))
        wait(lambda: clients.odd or sum(w.state.answer in (429, 503) for w in clients.writes()) > 8, 20 * T.slow, "refusals")
        clients.stop()
        must(not clients.odd, lambda: clients.odd[0])
        log_of(s, "store_unavailable")
        resource.prlimit(s.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_ready(s, "without the limit")
        whole(s, clients.facts, "after a limit on the size of files")

with T.server({"XTRACE_INGEST_DEADLINE_MS": "2000", "XTRACE_STOP_TIMEOUT_MS": "4000"}) as s:
    disk = None

    @T.case("syncs that fail: nothing is acknowledged on their word, and the server recovers")
    def _():
        global disk
        disk = Preloaded()
        s.env.update(disk.env())
        s.dir, s.db = disk.data, os.path.join(disk.data, "xtrace.db")
        s.start()
        clients = Clients(s, "eio-" + uid()[:8], uid())
        wait(lambda: clients.acked > 50 or clients.odd, 20 * T.slow, "some acknowledgements")
        for n in (1, 3, 10):
            disk.set(fail_syncs=n)
            wait(lambda: clients.odd or struct.unpack("<QQQ", disk.map[:])[1] == 0, 20 * T.slow, "%d syncs to fail" % n)
            before = clients.acked
            wait(lambda: clients.odd or clients.acked > before + 50, 10 * T.slow, "writes after failed syncs")
        clients.stop()
        must(not clients.odd, lambda: clients.odd[0])
        must(any(w.state.answer in (429, 503) for w in clients.writes()), "no write saw a failure")
        whole(s, clients.facts, "after failed syncs")
        s.kill()
        s.start()
        whole(s, clients.facts, "after failed syncs and a kill")
        s.stop()
        wrong = deep_check(T, disk.data)
        must(not wrong, wrong)
        s.start()

    if disk:
        @T.case("a disk that hangs: writes are told to retry in time, reads and probes go on, then all is well again")
        def _():
            clients = Clients(s, "hang-" + uid()[:8], uid())
            wait(lambda: clients.acked > 50 or clients.odd, 20 * T.slow, "some acknowledgements")
            disk.set(hang=1)
            try:
                clients.wait_refused(10 * T.slow)   # what had been synced has been answered by then
                before = clients.acked
                clients.wait_refused(10 * T.slow)
                must(clients.acked == before, "acknowledged without a sync")
                must(not clients.late(3.5 * T.slow), "an answer took %.1f s" % clients.slowest)
                refused(s, "hanging disk", 3.5)
                some = [f for f in clients.facts if isinstance(f, Trace) and answered(f.writes[0])][:20]
                whole(s, some, "while the disk hangs", counts=False)
            finally:
                disk.set()
            clients.stop()
            must(not clients.odd, lambda: clients.odd[0])
            wait_ready(s, "after the disk hung")
            whole(s, clients.facts, "after the disk hung")

        @T.case("SIGTERM while the disk hangs ends in time with 0")
        def _():
            s.batch({"id": uid()})
            disk.set(hang=1)
            try:
                with s.conn(20) as c:
                    c.send(encode_request("POST", BATCH, {"trace": {"id": uid()}}, auth=BEARER))
                    wait(lambda: "\nxtrace_http_parked 1\n" in s.get("/metrics").text, 10 * T.slow, "the request to wait")
                    t = time.monotonic()
                    rc = s.stop(seconds=14)
                    must(rc == 0, "ended with %s after %.1f s" % (rc, time.monotonic() - t))
            finally:
                disk.set()

T.done()
