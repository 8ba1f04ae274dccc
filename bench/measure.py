"""What bench/run measures with: a server and what the system says about it, the programs beside it, the machine's load."""
import contextlib
import json
import os
import platform
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time

TOKEN = "bench-token"
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A step that could not be measured; the others still can."""


def read_text(path):
    with open(path, encoding="ascii", errors="replace") as f:
        return f.read()


class Server:
    """`xtrace serve` on a directory, or on a database's URL; what it used is read from /proc."""

    def __init__(self, build, directory, binary=None, url=None):
        self.dir = directory
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = {"PATH": os.environ["PATH"], "API_BEARER_TOKEN": TOKEN, "BIND_ADDR": "127.0.0.1:%d" % self.port,
               "XTRACE_DATA_DIR": directory, "RATE_LIMIT_QPS": "100000000", "RATE_LIMIT_BURST": "100000000", "XTRACE_LOG": "warn"}
        if url:
            env["DATABASE_URL"] = url
        start = time.monotonic()
        self.proc = subprocess.Popen([binary or os.path.join(build, "xtrace"), "serve"], env=env, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL)
        while not self._ready():
            if self.proc.poll() is not None or time.monotonic() - start > 60:
                self.kill()
                raise BenchError("the server does not start")
            time.sleep(0.0005)
        self.ready_ms = (time.monotonic() - start) * 1000
        self.peak = {"VmRSS": 0.0, "RssAnon": 0.0, "wal": 0}
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as c:
                c.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                return b" 200 " in c.recv(100)
        except OSError:
            return False

    def _sample(self):
        while not self._over.wait(0.2):
            with contextlib.suppress(OSError, TypeError):
                for key in ("VmRSS", "RssAnon"):
                    self.peak[key] = max(self.peak[key], self.memory(key))
                self.peak["wal"] = max(self.peak["wal"], os.path.getsize(os.path.join(self.dir, "xtrace.db-wal")))

    def forget_peak(self):
        self.peak.update({"VmRSS": 0.0, "RssAnon": 0.0})

    def memory(self, key):
        """MB."""
        return int(re.search(key + r":\s+(\d+) kB", read_text("/proc/%d/status" % self.proc.pid))[1]) / 1024

    def threads(self):
        """{name: (CPU seconds, voluntary and other switches)}, threads of one name added up."""
        got = {}
        base = "/proc/%d/task" % self.proc.pid
        for task in os.listdir(base):
            with contextlib.suppress(OSError):
                name = read_text("%s/%s/comm" % (base, task)).strip()
                fields = read_text("%s/%s/stat" % (base, task)).rsplit(")", 1)[1].split()
                switches = sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", read_text("%s/%s/status" % (base, task))))
                cpu, before = got.get(name, (0.0, 0))
                got[name] = (cpu + (int(fields[11]) + int(fields[12])) / TICKS, before + switches)
        return got

    def metrics(self):
        """/metrics as {"name{labels}": value}; empty if it cannot be read."""
        with contextlib.suppress(OSError, ValueError), socket.create_connection(("127.0.0.1", self.port), 5) as c:
            c.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode())
            text = b"".join(iter(lambda: c.recv(65536), b"")).decode()
            return {m[1]: float(m[2]) for m in re.finditer(r"^(\w+(?:\{[^}]*\})?) (\S+)\r?$", text, re.M)}
        return {}

    def kill(self):
        if hasattr(self, "_over"):
            self._over.set()
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()

    def stop(self):
        """Orderly. Returns the seconds it took."""
        self._over.set()
        start = time.monotonic()
        self.proc.send_signal(signal.SIGTERM)
        try:
            if self.proc.wait(30) != 0:
                raise BenchError("the server ended with %d" % self.proc.returncode)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BenchError("the server did not stop") from None
        return time.monotonic() - start


def size_of(directory):
    """Bytes of a stopped store, without the pages of its file that are free: the next rows go there."""
    total = sum(os.path.getsize(os.path.join(directory, n)) for n in os.listdir(directory))
    with contextlib.closing(sqlite3.connect("file:%s?mode=ro&immutable=1" % os.path.join(directory, "xtrace.db"), uri=True)) as db:
        free, page = (db.execute("PRAGMA " + what).fetchone()[0] for what in ("freelist_count", "page_size"))
    return total - free * page


def drop_cache(directory):
    """The files' pages leave the machine's page cache."""
    for name in os.listdir(directory):
        fd = os.open(os.path.join(directory, name), os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def times(name, before, after):
    """p50 and p99 of a histogram between two readings of /metrics: ends of its buckets, in ms."""
    rows = []
    for key, value in after.items():
        m = re.match(name + r'_bucket\{le="([^"]+)"\}', key)
        if m:
            rows.append((float(m[1].replace("+Inf", "inf")), value - before.get(key, 0)))
    rows.sort()
    total = rows[-1][1] if rows else 0
    if total <= 0:
        return None
    return tuple(next(le for le, n in rows if n >= total * share) * 1000 for share in (0.5, 0.99))


class Tools:
    """The programs in build/bench."""

    def __init__(self, build):
        self.build = build

    def command(self, name, args):
        return [os.path.join(self.build, "bench", name)] + [str(a) for a in args]

    def start(self, name, *args):
        return subprocess.Popen(self.command(name, args), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def finish(self, proc, timeout):
        try:
            out, _ = proc.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()
            raise BenchError("%s does not end" % proc.args[0]) from None
        if proc.returncode != 0:
            raise BenchError("%s failed" % " ".join(proc.args))
        return json.loads(out)

    def run(self, name, *args, timeout=120):
        return self.finish(self.start(name, *args), timeout)

    @contextlib.contextmanager
    def sink(self):
        """A server without a store; yields its port."""
        proc = self.start("sink")
        try:
            yield int(proc.stdout.readline())
        finally:
            proc.stdin.close()
            proc.wait(10)
            proc.stdout.close()


class Machine:
    """What else the machine did during a run: nobody's figures are better than its neighbours allow."""

    def __init__(self):
        self.began = self._now()

    @staticmethod
    def _now():
        cpu = [int(n) for n in read_text("/proc/stat").split("\n", 1)[0].split()[1:9]]
        mine = os.times()
        busy = cpu[0] + cpu[1] + cpu[2] + cpu[5] + cpu[6]
        return {"busy": busy / TICKS, "wait": cpu[4] / TICKS, "steal": cpu[7] / TICKS, "at": time.monotonic(),
                "mine": mine.user + mine.system + mine.children_user + mine.children_system, "load": os.getloadavg()[0]}

    def report(self):
        a, b = self.began, self._now()
        seconds = max(b["at"] - a["at"], 1e-6)
        return {"others": max(0.0, b["busy"] - a["busy"] - (b["mine"] - a["mine"])) / seconds,
                "steal": 100 * (b["steal"] - a["steal"]) / seconds / os.cpu_count(), "seconds": seconds,
                "load before": a["load"], "load after": b["load"]}


def describe_machine():
    m = re.search(r"model name\s*: (.*)", read_text("/proc/cpuinfo"))
    memory = int(read_text("/proc/meminfo").split()[1]) >> 20
    return "%d x %s, %d GB, Linux %s" % (os.cpu_count(), m[1] if m else platform.machine(), memory, platform.release())
