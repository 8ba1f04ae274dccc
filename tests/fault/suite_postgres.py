#!/usr/bin/env python3
"""The PostgreSQL database in trouble under a server with load: stopped, ended backends, frozen, a network that hangs, read
only, locked, full, away at the start.  What was acknowledged is there and counted once, who waits is answered in time,
/readyz says so and recovers, /healthz stays 200, and nothing leaks."""
# postgresql
# timeout: 240
import contextlib
import ctypes
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import pg
from child import dies_with_parent, free_port
from xt import *

T = Suite()
if pg.missing():
    T.report("skip", "a database in trouble", pg.missing())
    T.done()
B, M, TRACES, QUERY = "/v1/l/batch", "/v1/metrics/batch", "/api/public/traces", "/api/public/metrics/query"
RANGE = "agg=sum&group_by=id&from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z"
CHUNK = 40              # points of one name; a query answers 50 series at most
CONNECTIONS = 12        # of one server, at most: readers, writer, keys, readiness, samples, housekeeping
CLIENTS = 4
READY = 2.0             # seconds within which /readyz tells of trouble under load
ENV = {"XTRACE_DATABASE_WRITE_TIMEOUT_MS": 1500 * T.slow, "XTRACE_QUERY_TIMEOUT_MS": 3000 * T.slow}
ANSWERED = 5.0          # seconds in which every request is answered: the deadline of ingest (4) and a bit


# --- the network --------------------------------------------------------------------------------------------------

class Proxy:
    """Stands between the server and the database.  hang(): takes connections and bytes no further, says nothing;
    cut(): ends all connections, new ones are fine."""

    def __init__(self, port):
        self.port_to, self.hanging, self.pairs, self.over = port, False, {}, False
        self.orders, self.done, self.lock = [], threading.Event(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.wake_r, self.wake_w = socket.socketpair()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _order(self, fn):
        with self.lock:
            self.done.clear()
            self.orders.append(fn)
            self.wake_w.send(b"x")
            must(self.done.wait(10), "the proxy does not obey")

    def hang(self):
        self._order(lambda: setattr(self, "hanging", True))

    def go_on(self):
        self._order(lambda: setattr(self, "hanging", False))

    def cut(self):
        self._order(self._cut)

    def end(self):
        self._order(lambda: setattr(self, "over", True))
        self.thread.join(5)

    def _cut(self):
        for s in list(self.pairs):
            self._drop(s)

    def _drop(self, s):
        other = self.pairs.pop(s, None)
        if other is not None:
            self.pairs.pop(other, None)
            other.close()
            s.close()

    def _accept(self):
        s, _ = self.listener.accept()
        try:
            other = socket.create_connection(("127.0.0.1", self.port_to), 5)
        except OSError:
            s.close()
            return
        for end in (s, other):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pairs[s], self.pairs[other] = other, s

    def _forward(self, s):
        if s not in self.pairs:
            return
        try:
            data = s.recv(65536)
            if data:
                self.pairs[s].sendall(data)
                return
        except OSError:
            pass
        self._drop(s)

    def _run(self):
        while not self.over:
            watched = [self.wake_r] + ([] if self.hanging else [self.listener, *self.pairs])
            for s in select.select(watched, [], [])[0]:
                if s is self.wake_r:
                    s.recv(1)
                    self.orders.pop(0)()
                    self.done.set()
                elif self.hanging or self.over:
                    break
                elif s is self.listener:
                    self._accept()
                else:
                    self._forward(s)
        self._cut()
        self.listener.close()


# --- load, and what it remembers ----------------------------------------------------------------------------------

class Watch(threading.Thread):
    """Asks /healthz and /readyz again and again; .states: (asked, answered, status of readyz)."""

    def __init__(self, s):
        super().__init__(daemon=True)
        self.s, self.over, self.failed, self.states, self.load = s, threading.Event(), None, [], Load()
        self.start()

    def run(self):
        try:
            while not self.over.wait(0.02):
                r = self.s.request("GET", "/healthz", auth=None)
                must(r.status == 200 and r.seconds < 1 * T.slow * self.load.factor(), "healthz: %r, %.1f s" % (r, r.seconds))
                asked = time.monotonic()
                r = self.s.request("GET", "/readyz", auth=None)
                must(r.seconds < 2 * T.slow * self.load.factor(), "readyz took %.1f s" % r.seconds)
                self.states.append((asked, time.monotonic(), r.status))
        except BaseException as e:      # for the main thread
            self.failed = e

    def unready(self, since, seconds=READY):
        """Waits until /readyz says 503; how long after `since` that was."""
        load = Load()
        got = wait(lambda: self.failed or [b for a, b, status in self.states if status == 503 and a >= since],
                   seconds + 10 * T.slow, "503 from /readyz")
        if self.failed:
            raise self.failed
        took = got[0] - since
        must(took < seconds * T.slow * load.factor(), "/readyz said 503 after %.2f s" % took)
        return took

    def ready(self, since, seconds):
        got = wait(lambda: self.failed or [b for a, b, status in self.states if status == 200 and a >= since],
                   seconds * T.slow, "/readyz to recover")
        if self.failed:
            raise self.failed
        return got[0] - since


class Work:
    """Clients that post traces with an observation, and points, each one once: nothing is sent again, so that every
    record is there once or, if it was not acknowledged, perhaps not at all.  One more client reads."""

    def __init__(self, s, clients=CLIENTS):
        self.s, self.tag, self.over, self.lock = s.start(), uid()[:8], threading.Event(), threading.Lock()
        self.traces, self.points, self.refused, self.reads, self.slowest, self.failed = {}, {}, 0, 0, 0.0, []
        self.acked, self.load = 0, Load()
        self.threads = [threading.Thread(target=self._guard, args=(self._write, i), daemon=True) for i in range(clients)]
        self.threads.append(threading.Thread(target=self._guard, args=(self._read, 0), daemon=True))
        for t in self.threads:
            t.start()

    def _guard(self, fn, i):
        try:
            fn(i)
        except BaseException as e:      # for the main thread
            self.failed.append(e)

    def _post(self, conn, path, body, note, key):
        with self.lock:
            note[key] = False
        r = conn.request("POST", path, body, auth=BEARER)
        must(r.status == 200 or (r.status in (429, 503) and r.h("retry-after")), "%s: %r" % (path, r))
        with self.lock:
            self.slowest = max(self.slowest, r.seconds)
            if r.status == 200:
                note[key] = True
                self.acked += 1
            else:
                self.refused += 1
        if r.status != 200:
            self.over.wait(0.02)

    def _write(self, w):
        n, conn = 0, Conn(self.s._port, 30 * T.slow)
        while not self.over.wait(0.004):
            t, o = uid(), uid()
            self._post(conn, B, {"trace": {"id": t, "name": self.tag, "sessionId": "%s-%d" % (self.tag, w), "tags": ["t"]},
                                 "observations": [{"id": o, "traceId": t, "calculatedTotalCost": 0.25}]}, self.traces, (t, o))
            name = "m-%s-%d-%d" % (self.tag, w, n // CHUNK)
            self._post(conn, M, {"metrics": [{"name": name, "labels": {"id": str(n)}, "value": 1,
                                              "timestamp": "2026-02-12T10:00:00Z"}]}, self.points, (name, str(n)))
            n += 1
        conn.close()

    def _read(self, _):
        conn = Conn(self.s._port, 30 * T.slow)
        while not self.over.wait(0.02):
            r = conn.request("GET", "%s?name=%s&limit=5" % (TRACES, self.tag), auth=BEARER)
            must(r.status in (200, 429, 503, 504), "a read: %r" % r)
            with self.lock:
                self.reads += r.status == 200
                self.slowest = max(self.slowest, r.seconds)
        conn.close()

    def progress(self, n=120, seconds=15):
        """Waits until n more were acknowledged, and a read succeeded."""
        acked, reads = self.acked, self.reads
        wait(lambda: self.failed or (self.acked >= acked + n and self.reads > reads), seconds * T.slow, "acknowledgements")
        if self.failed:
            raise self.failed[0]

    def finish(self):
        self.over.set()
        for t in self.threads:
            t.join(20 * T.slow)
        if self.failed:
            raise self.failed[0]
        must(not any(t.is_alive() for t in self.threads), "a client hangs")
        must(self.slowest < ANSWERED * T.slow * self.load.factor(), "an answer took %.1f s" % self.slowest)

    def check(self):
        """All that was acknowledged is there, nothing is there twice."""
        lost, doubled, there = [], [], 0
        for (t, o), acked in self.traces.items():
            r = self.s.quick("GET", "%s/%s" % (TRACES, t))
            must(r.status in (200, 404), "%r" % r)
            if r.status == 404:
                if acked:
                    lost.append(t)
                continue
            there += 1
            got = r.json
            must([x["id"] for x in got["observations"]] == [o] and got["totalCost"] == 0.25, "trace %s: %r" % (t, got))
        total = self.s.quick("GET", "%s?name=%s&limit=1" % (TRACES, self.tag)).json["meta"]["totalItems"]
        must(total == there, "the list has %d of %d traces" % (total, there))
        have = {}
        for name in {name for name, _ in self.points}:
            r = self.s.quick("GET", "%s?name=%s&%s" % (QUERY, name, RANGE))
            for series in r.json["data"]:
                have[name, series["labels"]["id"]] = sum(v["value"] for v in series["values"])
        for key, acked in self.points.items():
            if acked and key not in have:
                lost.append(key)
            if have.get(key, 1) != 1:
                doubled.append((key, have[key]))
        must(not lost, "%d lost of %d acknowledged: %r" % (len(lost), self.acked, lost[:3]))
        must(not doubled, "%d counted twice: %r" % (len(doubled), doubled[:3]))


@contextlib.contextmanager
def trouble(s, admin):
    """Load and a watch around what is done; afterwards everything is looked at, connections too."""
    s.start()
    watch, work = Watch(s), Work(s)
    try:
        work.progress()
        yield watch, work
        work.progress()
    finally:
        watch.over.set()
        watch.join(10 * T.slow)
        work.over.set()
    work.finish()
    if watch.failed:
        raise watch.failed
    work.check()
    connections(s, admin)
    print("#   %d acknowledged, %d refused, slowest answer %.2f s" % (work.acked, work.refused, work.slowest), flush=True)


def connections(s, admin):
    """The database has no more connections of the server's than it may have."""
    n = lambda: int(admin("SELECT count(*) FROM pg_stat_activity WHERE datname = '%s' AND backend_type = 'client backend'"
                          % pg.database_of(s.env["DATABASE_URL"]))[0][0])
    wait(lambda: n() <= CONNECTIONS, 10 * T.slow, "connections to be closed")


def files(s):
    return len(os.listdir("/proc/%d/fd" % s.pid))


def through(url, port):
    """The URL, by way of a port of ours."""
    return url.replace(url.rpartition(":")[2].partition("/")[0] + "/", "%d/" % port, 1)


class Own:
    """A database of the suite's cluster as Suite.server takes it; the server sees it through the proxy."""
    def __init__(self, url):
        self.url = url

    def drop(self):
        pass


def private_mounts():
    """What is mounted from now on is seen by our processes alone and ends with them.  False: not as this user."""
    libc = ctypes.CDLL(None)
    return (os.geteuid() == 0 and libc.unshare(0x20000) == 0 and                        # CLONE_NEWNS
            libc.mount(b"none", b"/", None, ctypes.c_ulong(0x4000 | 0x40000), None) == 0)   # MS_REC, MS_PRIVATE


MOUNTS = private_mounts()   # before there are threads and children
cluster = pg.Cluster()
proxy = Proxy(cluster.port)
proxied = lambda url: through(url, proxy.port)

with T.server(dict(ENV), database=Own(proxied(cluster.create("faults")))) as s:
    with_load = lambda: trouble(s, cluster.sql)

    for word, down in (("stopped at once", lambda: cluster.stop("immediate")), ("killed", cluster.kill)):
        @T.case("the database is %s and started again under load" % word)
        def _(down=down):
            with with_load() as (watch, work):
                for _ in range(2):
                    since = time.monotonic()
                    down()
                    watch.unready(since)
                    since = time.monotonic()
                    cluster.start()
                    watch.ready(since, 8)
                    work.progress(20)

    @T.case("every backend is ended again and again")
    def _():
        with with_load() as (watch, work):
            end, acked, ended = time.monotonic() + (10 if T.long else 4), work.acked, 0
            with pg.connect(cluster.url()) as c:
                while time.monotonic() < end:
                    ended += int(c.one("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> "
                                       "pg_backend_pid() AND backend_type = 'client backend'"))
                    time.sleep(0.05)
            must(ended > 30 and work.acked > acked, "%d ended, %d acknowledged" % (ended, work.acked - acked))
            watch.ready(time.monotonic(), 5)

    @T.case("the database is frozen for longer than a write may take")
    def _():
        with with_load() as (watch, work):
            since, refused = time.monotonic(), work.refused
            cluster.freeze()
            try:
                watch.unready(since)
                wait(lambda: work.refused >= refused + 2 * CLIENTS, 12 * T.slow, "refusals")
            finally:
                cluster.thaw()
            watch.ready(time.monotonic(), 8)

    @T.case("a network that hangs: requests are answered, /readyz tells, all goes on afterwards")
    def _():
        with with_load() as (watch, work):
            since, refused = time.monotonic(), work.refused
            proxy.hang()
            try:
                watch.unready(since)
                wait(lambda: work.refused >= refused + 2 * CLIENTS, 12 * T.slow, "refusals")
            finally:
                proxy.go_on()
            watch.ready(time.monotonic(), 8)

    @T.case("without load, too: /readyz tells of a network that hangs and of a database that is stopped")
    def _():
        for down, up in ((proxy.hang, proxy.go_on), (lambda: cluster.stop("immediate"), cluster.start)):
            watch = Watch(s)
            try:
                watch.ready(time.monotonic(), 8)
                since = time.monotonic()
                down()
                watch.unready(since)        # what proved itself a moment ago counts, then the answer takes 1.5 s at most
                up()
                watch.ready(time.monotonic(), 8)
            finally:
                watch.over.set()
                watch.join(10 * T.slow)
            must(not watch.failed, lambda: watch.failed)

    @T.case("the database turns read-only and back, as at a failover: reads are served, writes wait")
    def _():
        with with_load() as (watch, work):
            with pg.connect(cluster.url()) as c:
                c.sql("ALTER DATABASE faults SET default_transaction_read_only = on")
                since = time.monotonic()
                c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'faults'")
                watch.unready(since, 3)
                reads = work.reads
                wait(lambda: work.failed or work.reads > reads + 3, 10 * T.slow, "reads")
                c.sql("ALTER DATABASE faults RESET default_transaction_read_only")
                c.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'faults'")
            watch.ready(time.monotonic(), 8)

    @T.case("tables are locked by somebody for longer than a write may take")
    def _():
        with with_load() as (watch, work):
            with locked(s):
                refused, since = work.refused, time.monotonic()
                watch.unready(since, 2 + 1)     # the lock may have come between two writes
                wait(lambda: work.refused >= refused + 2 * CLIENTS, 12 * T.slow, "refusals")
            watch.ready(time.monotonic(), 8)

    @T.case("connections that break 500 times leave nothing behind: memory, files, connections")
    def _():
        work, marks = Work(s, 2), {}
        try:
            work.progress()
            for cycle in range(500):
                if cycle in (100, 499):
                    work.progress(4)
                    marks[cycle] = files(s), s.rss()
                acked = work.acked
                proxy.cut()
                if cycle % 10 == 0:
                    wait(lambda: work.failed or work.acked > acked, 10 * T.slow, "an acknowledgement")
                else:
                    time.sleep(0.002 * (cycle % 7))
        finally:
            work.over.set()
        work.finish()
        work.check()
        connections(s, cluster.sql)
        (f0, m0), (f1, m1) = marks[100], marks[499]
        print("#   files %d -> %d, memory %.1f -> %.1f MB" % (f0, f1, m0 / 1e6, m1 / 1e6), flush=True)
        must(f1 <= f0 + 4, "files: %d, then %d" % (f0, f1))
        if not T.sanitized:
            must(m1 - m0 < 8 << 20, "memory: %d, then %d bytes" % (m0, m1))

    @T.case("told to stop while the network hangs: it ends in order and in time, and has all when it is back")
    def _():
        work = Work(s)
        work.progress()
        proxy.hang()
        try:
            refused = work.refused
            wait(lambda: work.failed or work.refused > refused, 12 * T.slow, "a refusal")
            work.over.set()
            work.finish()
            since, load = time.monotonic(), Load()
            must(s.stop() == 0, "no orderly end")
            must(time.monotonic() - since < 6 * T.slow * load.factor(), "it took %.1f s" % (time.monotonic() - since))
        finally:
            work.over.set()
            proxy.go_on()
        s.start()
        work.check()
        connections(s, cluster.sql)

    @T.case("the store is sound after all this")
    def _():
        r = T.cli("check", "--deep", dir=s.dir, seconds=60)
        must(r.rc == 0, lambda: "check --deep: %s %s" % (r.rc, r.out[-600:] + r.err[-300:]))


# --- a disk that is full ------------------------------------------------------------------------------------------

@contextlib.contextmanager
def small_disk(megabytes):
    """A directory that holds no more than that, for the database's server.  Root only."""
    if not MOUNTS or not shutil.which("mount"):
        raise Skip("a disk of limited size can be mounted by root only")
    path = os.path.join(cluster.home, "small")
    os.mkdir(path)
    account = cluster.account
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=700,uid=%d,gid=%d"
                           % (megabytes, account.pw_uid, account.pw_gid), "xtrace-test", path], capture_output=True)
    if done.returncode != 0:
        raise Skip("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@T.case("the disk is full under load, and has room again")
def _():
    with small_disk(96) as path:
        cluster.sql("CREATE TABLESPACE small LOCATION '%s'" % path)
        cluster.sql("CREATE DATABASE small TEMPLATE template0 TABLESPACE small")
        with T.server(dict(ENV), database=Own(proxied(cluster.url("small")))) as full:
            with trouble(full, cluster.sql) as (watch, work):
                ballast = os.path.join(path, "ballast")
                with open(ballast, "wb", 0) as f, contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(4096))
                # Pages that have room are still written; a full table is what cannot grow.
                refused = work.refused
                wait(lambda: work.failed or work.refused > refused + CLIENTS, 20 * T.slow, "refusals")
                os.remove(ballast)
                watch.ready(time.monotonic(), 8)
        cluster.sql("DROP DATABASE small WITH (FORCE)")
        cluster.sql("DROP TABLESPACE small")


# --- the start ----------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def waiting(url):
    """A server that is started while its database can't be used: it lives, is not ready, tells clients to retry."""
    port = free_port()
    home = T.tmp()
    full = {"PATH": os.environ["PATH"], "HOME": home, "XTRACE_DATA_DIR": home, "DATABASE_URL": url, "API_BEARER_TOKEN": TOKEN,
            "BIND_ADDR": "127.0.0.1:%d" % port, **{k: str(v) for k, v in ENV.items()}}
    with open(os.path.join(home, "err"), "wb") as err:
        proc = subprocess.Popen([T.binary, "serve"], env=full, cwd=home, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=err, preexec_fn=dies_with_parent())

    def ask(path, method="GET", body=None):
        with Conn(port, 10 * T.slow) as c:
            return c.request(method, path, body, auth=BEARER)

    def log():
        with open(os.path.join(home, "err"), encoding="utf-8") as f:
            return f.read()

    def alive(path, status):
        try:
            return ask(path).status == status
        except OSError:
            must(proc.poll() is None, lambda: "it ended: " + log())
            return False
    try:
        wait(lambda: alive("/healthz", 200), 10 * T.slow, "/healthz")
        yield ask, alive, log
        proc.terminate()
        must(proc.wait(10 * T.slow) == 0, "SIGTERM: exit %s" % proc.returncode)
    finally:
        if proc.poll() is None:
            proc.kill()
            proc.wait()


def comes_up(url, mend, say, never=()):
    """Waits, says why once, serves as soon as the reason is gone."""
    with waiting(url) as (ask, alive, log):
        wait(lambda: "event=store_waiting" in log(), 10 * T.slow, "a line in the log")
        must(alive("/readyz", 503), "ready without a database")
        r = ask(B, "POST", {"trace": {"id": uid()}})
        must(r.status == 503 and r.h("retry-after"), "%r" % r)
        looked = time.monotonic()
        wait(lambda: time.monotonic() - looked > 2.5, 10 * T.slow, "some more tries")
        must(alive("/healthz", 200), "healthz")
        text = log()
        must(text.count("event=store_waiting") == 1, lambda: "not said once: " + text)
        must(say in text, lambda: "%r is not said: %s" % (say, text))
        must(not any(x in text for x in never), lambda: "a secret in " + text)
        mend()
        since = time.monotonic()
        wait(lambda: alive("/readyz", 200), 10 * T.slow, "the server to be ready")
        t = uid()
        must(ask(B, "POST", {"trace": {"id": t}}).status == 200 and ask("%s/%s" % (TRACES, t)).status == 200, "a trace")
        must("event=store_found" in log(), log)
        print("#   ready %.2f s after" % (time.monotonic() - since), flush=True)


@T.case("started while the database is away: lives, says so once, serves when it comes")
def _():
    url = cluster.create("away")
    cluster.stop("immediate")
    comes_up(url, cluster.start, "Connection refused")


@T.case("started while the network hangs: likewise")
def _():
    url = proxied(cluster.create("hangs")) + "?connect_timeout=2"
    proxy.hang()
    comes_up(url, proxy.go_on, "no connection in time")


@T.case("started with a wrong password: the log says that, not the password; serves when it fits")
def _():
    url = cluster.create("locked")
    cluster.sql("CREATE ROLE keeper LOGIN PASSWORD 'other-secret'; ALTER DATABASE locked OWNER TO keeper")
    hba = os.path.join(cluster.data, "pg_hba.conf")
    with open(hba, encoding="utf-8") as f:
        rules = f.read()
    with open(hba, "w", encoding="utf-8") as f:
        f.write("host all keeper 127.0.0.1/32 scram-sha-256\n" + rules)
    cluster.sql("SELECT pg_reload_conf()")
    url = url.replace(pg.USER + "@", "keeper:my-secret-1@")

    def refused():
        with contextlib.suppress(pg.Error):
            pg.connect(url).close()
            return False
        return True
    wait(refused, 10, "the rule to be read")
    comes_up(url, lambda: cluster.sql("ALTER ROLE keeper PASSWORD 'my-secret-1'"), "password authentication failed",
             never=("my-secret-1", "other-secret"))


@T.case("started before its database was made: the log names it; serves when it is there")
def _():
    comes_up(cluster.url("later"), lambda: cluster.create("later"), "database 'later' does not exist")


proxy.end()
cluster.remove()
T.done()
