"""The steps of bench/run: what is loaded, in which order, and what is noted.

Numbers are kept by name: "native|10 M|rate" (a writing window at that size), "trace|idle|10 M|p50" (a read), ...
"""
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

from measure import BenchError, Server, Tools, drop_cache, read_text, size_of, times

CONNS = 32
BODY = 100          # observations
POINTS = 500
DAY_NS = 86400 * 10**9
# What zstd with a dictionary leaves of the generator's text, about: the yardstick stores as many bytes.
STORED = {600: 170, 5000: 2300}
SMALL = 20000       # observations that reads find on a store that is nearly empty
READS = ["trace", "observation", "list", "user-common", "user-rare", "user-range", "session", "tag-common", "tag-once",
         "name", "range"]
HEAVY_READS = ["deep", "daily"]
BESIDE = ["trace", "observation", "list", "user-common", "session", "tag-common", "tag-once", "range", "daily"]
COLD = ["trace", "observation", "list", "user-common", "session", "tag-common", "tag-once", "name", "range", "daily"]
MAY_BE_EMPTY = {"user-rare", "user-range", "range", "deep", "trace", "observation"}
STEADY_RATE = 40000  # of the writer that leaves the cores some time


def size_label(n):
    if n >= 1000000:
        return "%g M" % (n / 1e6)
    return "%g k" % (n / 1e3) if n >= 1000 else str(n)


class Store:
    """A directory, the history in it, and the server on it while one runs."""

    def __init__(self, bench, directory, traces):
        self.bench, self.dir = bench, directory
        self.server, self.next, self.observations, self.ranges = None, 0, 0, []
        self.start_ns = time.time_ns() - 30 * DAY_NS
        self.step_ns = 30 * DAY_NS // max(traces, 1)
        self.samples_ns = time.time_ns() - 60 * 3600 * 10**9
        self.points = 0

    def shape(self):
        return ["--seed", self.bench.o.seed, "--start", self.start_ns, "--step", self.step_ns, "--samples", self.samples_ns]

    def stored(self):
        return [a for mode, a, b in self.ranges for a in ("--stored", "%s:%d-%d" % (mode, a, b))]

    def wrote(self, mode, r):
        last = self.ranges[-1] if self.ranges else ("", 0, 0)
        if last[0] == mode and last[2] == self.next:
            self.ranges[-1] = (mode, last[1], r["next"])
        elif r["next"] > self.next:
            self.ranges.append((mode, self.next, r["next"]))
        self.next = r["next"]
        bodies = r["acked_records"] // (BODY + 10) if mode == "updates" else r["acked_records"] / BODY
        self.observations += int(bodies * BODY)

    def state(self):
        return {"next": self.next, "observations": self.observations, "ranges": self.ranges, "start_ns": self.start_ns,
                "step_ns": self.step_ns, "samples_ns": self.samples_ns}


class Bench:
    def __init__(self, o, tmp):
        self.o, self.tmp, self.build, self.scale = o, tmp, os.path.abspath(o.build), o.scale
        self.tools = Tools(self.build)
        self.numbers, self.failures = {}, []  # what: [value of each run]
        big = size_label(o.observations)
        self.facts = {"sizes": ["0"] + (["1 M"] if o.observations > 1000000 else []) + [big], "big": big}

    def note(self, what, value):
        self.numbers.setdefault(what, []).append(value)

    @contextlib.contextmanager
    def step(self, name):
        """What goes wrong inside is named, and the run goes on."""
        print("bench: %s" % name, file=sys.stderr)
        try:
            yield
        except (BenchError, OSError, KeyError, ValueError, IndexError, ZeroDivisionError) as e:
            self.failures.append("%s: %s" % (name, e))
            print("bench: %s: %s" % (name, e), file=sys.stderr)

    @contextlib.contextmanager
    def store(self, name, traces=100000):
        s = Store(self, os.path.join(self.tmp, name), traces)
        s.server = Server(self.build, s.dir)
        try:
            yield s
        finally:
            s.server.kill()
            shutil.rmtree(s.dir, ignore_errors=True)

    # ---- writing ----

    def load(self, port, mode, *args, seconds, warm=0.0, conns=CONNS):
        r = self.tools.run("load", "--port", port, "--token", "bench-token", "--mode", mode, "--conns", conns, "--seconds", seconds,
                           "--warm", warm, *args, timeout=seconds + warm + 60)
        for name, m in r["modes"].items():
            odd = {k: n for k, n in m["statuses"].items() if k != "200"}
            if odd and not (name == "observation" and set(odd) == {"404"}):
                self.failures.append("%s was answered %s" % (name, odd))
            if m["empty"] and name not in MAY_BE_EMPTY:
                self.failures.append("%d of %d answers to %s were empty" % (m["empty"], m["requests"], name))
        return r

    def writer_args(self, s, mode, size):
        return ["--first", s.next if not mode.startswith("points") else s.points // POINTS, "--size", size, *s.shape()]

    def window(self, s, mode, key, seconds, size=600, warm=1.0, requests=0):
        """A load of some seconds (or requests) with all figures about it."""
        server = s.server
        server.forget_peak()
        threads, metrics = server.threads(), server.metrics()
        more = ["--requests", requests] if requests else []
        r = self.load(server.port, mode, *self.writer_args(s, mode, size), *more, seconds=seconds, warm=warm)
        after = server.threads()
        m, n = r["modes"][mode], max(r["acked_records"], 1)
        if mode.startswith("points"):
            s.points += r["acked_records"]
        else:
            s.wrote(mode, r)
        self.note(key + "|rate", m["records_per_second"])
        for what in ("p50", "p99", "max"):
            self.note("%s|%s" % (key, what), m[what + "_ms"])
        self.note(key + "|slowest", r["slowest_second"])
        self.note(key + "|body", r["body"])
        self.note(key + "|generator", r["cpu"] * 1e6 / n)
        for name, (cpu, _) in after.items():
            self.note("%s|cpu %s" % (key, name), (cpu - threads.get(name, (0, 0))[0]) * 1e6 / n)
        self.note(key + "|cpu", sum(c - threads.get(t, (0, 0))[0] for t, (c, _) in after.items()) * 1e6 / n)
        server.peak["VmRSS"] = max(server.peak["VmRSS"], server.memory("VmRSS"))
        server.peak["RssAnon"] = max(server.peak["RssAnon"], server.memory("RssAnon"))
        self.note(key + "|rss", server.peak["VmRSS"])
        self.note(key + "|anon", server.peak["RssAnon"])
        metrics_after = server.metrics()
        for what, name in (("commit", "xtrace_commit_seconds"), ("tidy", "xtrace_tidy_seconds")):
            took = times(name, metrics, metrics_after)
            if took:
                self.note("%s|%s p50" % (key, what), took[0])
                self.note("%s|%s p99" % (key, what), took[1])
        return r

    def fresh_row(self, name, mode, key, seconds, size=600, traces=100000):
        """One mode on a store of its own, with the bytes it leaves."""
        with self.step(key), self.store(name, traces) as s:
            r = self.window(s, mode, key, seconds * self.scale, size)
            s.server.stop()
            self.note(key + "|wal", s.server.peak["wal"] / 1e6)
            self.note(key + "|bytes", size_of(s.dir) / r["acked_records"])

    # ---- reading ----

    def reads(self, s, modes, state, label, requests, seconds, warm=0.3):
        """Modes in turn on one connection, `requests` of each unless the seconds are over before."""
        r = self.load(s.server.port, ",".join(modes), *s.shape(), *s.stored(), "--first", s.next, "--points", s.points, "--requests",
                      requests * len(modes), seconds=seconds, warm=warm, conns=1)
        for mode, m in r["modes"].items():
            if mode == "observation" and "404" in m["statuses"]:
                self.facts["no observation route"] = True
                continue
            if not m["requests"]:
                continue
            key = "%s|%s|%s" % (mode, state, label)
            for what in ("p50", "p99", "max", "first"):
                self.note("%s|%s" % (key, what), m[what + "_ms"])
            self.note(key + "|n", m["requests"])

    @contextlib.contextmanager
    def writing(self, s, mode, state, label, rate=0):
        """A writer at work for as long as the block runs."""
        writer = self.tools.start("load", "--port", s.server.port, "--token", "bench-token", "--mode", mode, "--conns", CONNS, "--seconds",
                                  600, "--warm", 0.5, *self.writer_args(s, mode, 600), *(["--rate", rate] if rate else []))
        try:
            time.sleep(1.5)
            yield
        finally:
            writer.send_signal(signal.SIGTERM)
            r = self.tools.finish(writer, 60)
        if mode.startswith("points"):
            s.points += r["acked_records"]
        else:
            s.wrote(mode, r)
        m = r["modes"][mode]
        key = "writer|%s|%s" % (state, label)
        self.note(key + "|rate", m["records_per_second"])
        for what in ("p50", "p99", "max"):
            self.note("%s|%s" % (key, what), m[what + "_ms"])

    def reads_beside(self, s, state, label, rate):
        with self.writing(s, "native", state, label, rate):
            self.reads(s, BESIDE, state, label, 1000, 20 * self.scale)
            self.reads(s, ["deep"], state, label, 200, 4 * self.scale)

    # ---- parts ----

    def part_yardsticks(self):
        file = os.path.join(self.tmp, "ceiling")
        for size, stored in STORED.items():
            with self.step("SQLite alone, %d B" % size):
                self.note("ceiling %d" % size, self.tools.run("ceiling", "insert", file, 4 * self.scale, stored)["observations_per_second"])
            for n in os.listdir(self.tmp):
                if n.startswith("ceiling"):
                    os.unlink(os.path.join(self.tmp, n))
        with self.step("HTTP without a store"), self.tools.sink() as port:
            for mode, size in (("native", 600), ("native", 5000), ("otlp", 600), ("otlp", 5000), ("points-1600", 0), ("points-once", 0)):
                r = self.load(port, mode, "--size", size or 600, seconds=2 * self.scale, warm=0.3)
                self.note("sink %s %d" % (mode, size), r["modes"][mode]["records_per_second"])

    def fdatasync(self):
        file = os.path.join(self.tmp, "sync")
        r = self.tools.run("ceiling", "sync", file, 1)
        os.unlink(file)
        self.note("sync p50", r["p50_ms"])
        self.note("sync p99", r["p99_ms"])

    def part_idle(self):
        with self.step("idle"), self.store("idle") as s:
            self.note("start|empty", s.server.ready_ms)
            time.sleep(2)
            self.note("idle rss", s.server.memory("VmRSS"))
            self.note("idle anon", s.server.memory("RssAnon"))
            before = s.server.threads()
            time.sleep(5)
            after = s.server.threads()
            self.note("idle wakeups", sum(n - before.get(t, (0, 0))[1] for t, (_, n) in after.items()) / 5)
            self.note("idle cpu", sum(c - before.get(t, (0, 0))[0] for t, (c, _) in after.items()) / 5)
            r = self.load(s.server.port, "healthz", seconds=2 * self.scale, warm=0.3)
            self.note("healthz", r["modes"]["healthz"]["records_per_second"])
            self.fdatasync()
            r = self.load(s.server.port, "lone", *self.writer_args(s, "lone", 600), seconds=2 * self.scale, warm=0.3, conns=1)
            self.note("lone p50", r["modes"]["lone"]["p50_ms"])
            self.note("lone p99", r["modes"]["lone"]["p99_ms"])
        with self.step("size of the program"):
            stripped = os.path.join(self.tmp, "stripped")
            subprocess.run(["strip", "-o", stripped, os.path.join(self.build, "xtrace")], check=False)
            if os.path.exists(stripped):
                self.note("binary", os.path.getsize(stripped) / 1e6)
                os.unlink(stripped)

    def part_rows(self):
        self.fresh_row("native", "native", "native|0", 6)
        self.fresh_row("updates", "updates", "updates|0", 5)
        self.fresh_row("native5", "native", "native 5 KB|0", 5, 5000)
        self.fresh_row("otlp", "otlp", "otlp|0", 5)
        self.fresh_row("otlp5", "otlp", "otlp 5 KB|0", 4, 5000)
        self.fresh_row("agent", "agent", "agent|0", 3, 400)

    def part_points(self):
        self.fresh_row("p1600", "points-1600", "points 1600|0", 5)
        self.fresh_row("p5000", "points-5000", "points 5000|0", 5)
        million = 1000000 // POINTS
        with self.step("points of 50 series"), self.store("p50") as s:
            r = self.window(s, "points-50", "points 50|0", 60, warm=0, requests=million)
            self.reads(s, ["query"], "idle", "points", 300, 8 * self.scale)
            self.reads(s, ["query-series", "names"], "idle", "points", 1000, 5 * self.scale)
            s.server.stop()
            self.note("points 50|0|bytes", size_of(s.dir) / r["acked_records"])
        with self.step("points with a series each"), self.store("once") as s:
            self.window(s, "points-once", "points once|0", 60, warm=0, requests=million)
            self.reads(s, ["group"], "idle", "points", 200, 10 * self.scale)
            self.reads(s, ["trace-id"], "idle", "points", 1000, 6 * self.scale)
            with self.writing(s, "points-once", "full", "points"):
                self.reads(s, ["group"], "full", "points", 200, 5 * self.scale)
                self.reads(s, ["trace-id"], "full", "points", 1000, 3 * self.scale)
            self.window(s, "points-once", "points once|1 M", 4 * self.scale, warm=0.5)
            s.server.stop()
            self.note("points once|0|wal", s.server.peak["wal"] / 1e6)
            self.note("points once|0|bytes", size_of(s.dir) / s.points)

    def part_store(self):
        s = self.kept_store()
        fresh = not s.ranges
        try:
            with self.step("start"):
                s.server = Server(self.build, s.dir)
            if not s.server:
                return
            if fresh:
                self.grow(s)
            self.at_size(s, self.facts["big"], True)
            self.note("observations at the end", s.observations)
            self.restarts(s)
            self.cold(s)
            with self.step("%s: window of 5 KB" % self.facts["big"]):  # late: other rows are about 600 B
                self.window(s, "native", "native 5 KB|" + self.facts["big"], 6 * self.scale, 5000)
            self.kills(s)
            self.keep(s)
        finally:
            if s.server:
                s.server.kill()
            if not self.o.keep:
                shutil.rmtree(s.dir, ignore_errors=True)

    def kept_store(self):
        # A fifth more than is loaded: windows and writers beside reads add to the history.
        s = Store(self, os.path.join(self.o.keep or self.tmp, "store"), int(self.o.observations * 0.12) + 300000)
        path = os.path.join(self.o.keep, "bench.json") if self.o.keep else ""
        if path and os.path.exists(path):
            s.__dict__.update(json.loads(read_text(path)))
        else:
            os.makedirs(s.dir, exist_ok=True)
        return s

    def keep(self, s):
        if self.o.keep:
            with open(os.path.join(self.o.keep, "bench.json"), "w", encoding="ascii") as f:
                json.dump(s.state(), f)

    def fill(self, s, target, key):
        requests = (target - s.observations) // BODY
        if requests > 0:
            with self.step("%s: filling" % key):
                self.window(s, self.o.fill, "fill|" + key, 3000, warm=0, requests=requests)

    def grow(self, s):
        self.fill(s, SMALL, "0")
        with self.step("reads, nearly empty"):
            self.reads(s, READS + HEAVY_READS, "idle", "0", 1000, 12 * self.scale)
        with self.step("window, nearly empty"):
            self.window(s, "native", "store|0", 8 * self.scale)
        sizes = [n for n in (1000000, self.o.observations) if n <= self.o.observations] or [self.o.observations]
        for n in dict.fromkeys(sizes):
            self.fill(s, n, size_label(n))
            if n < self.o.observations:
                self.at_size(s, size_label(n), False)

    def at_size(self, s, label, last):
        with self.step("%s: window" % label):
            self.window(s, "native", "store|" + label, 8 * self.scale)
        if last:
            with self.step("%s: other windows" % label):
                self.window(s, "updates", "updates|" + label, 6 * self.scale)
                self.window(s, "otlp", "otlp|" + label, 6 * self.scale)
        with self.step("%s: reads, idle" % label):
            time.sleep(1)
            self.reads(s, READS, "idle", label, 1000, 25 * self.scale)
            self.reads(s, HEAVY_READS, "idle", label, 1000, 8 * self.scale)
        with self.step("%s: reads beside a writer at full rate" % label):
            self.reads_beside(s, "full", label, 0)
        if last:
            with self.step("%s: reads beside a writer at %d/s" % (label, STEADY_RATE)):
                self.reads_beside(s, "steady", label, STEADY_RATE)

    def restarts(self, s):
        with self.step("orderly stops"):
            self.note("memory after", s.server.memory("VmRSS"))
            self.note("memory after anon", s.server.memory("RssAnon"))
            self.note("wal", s.server.peak["wal"] / 1e6)
            self.note("stop", s.server.stop() * 1000)
            self.note("bytes", size_of(s.dir) / s.observations)
            took = []
            for _ in range(5):
                s.server = Server(self.build, s.dir)
                took.append(s.server.ready_ms)
                s.server.stop()
            self.note("start|orderly", statistics.median(took))
            self.note("start|orderly max", max(took))
            drop_cache(s.dir)
            s.server = Server(self.build, s.dir)
            self.note("start|cold", s.server.ready_ms)

    def cold(self, s):
        """Each kind on a server that just started, with nothing of the file in memory."""
        for mode in COLD:
            if mode == "observation" and self.facts.get("no observation route"):
                continue
            with self.step("cold: %s" % mode):
                s.server.stop()
                drop_cache(s.dir)
                s.server = Server(self.build, s.dir)
                self.reads(s, [mode], "cold", self.facts["big"], 200, 3 * self.scale, warm=0)

    def kills(self, s):
        with self.step("kill -9 beside a writer"):
            took = []
            for _ in range(3):
                writer = subprocess.Popen(self.tools.command("load", [
                    "--port", s.server.port, "--token", "bench-token", "--mode", "native", "--seconds", 60, "--warm", 0,
                    *self.writer_args(s, "native", 600)]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    time.sleep(2 + 0.4 * len(took))
                finally:
                    s.server.kill()
                    writer.wait(30)
                s.next += 4000  # what of it was stored is not known: never ask for it
                s.server = Server(self.build, s.dir)
                took.append(s.server.ready_ms)
            self.note("start|killed", statistics.median(took))
            self.note("start|killed max", max(took))
            s.server.stop()
