"""The program under test as a process: `xtrace serve` with its data directory, and others that lock its store."""
import atexit
import collections
import contextlib
import os
import re
import shutil
import signal
import sqlite3
import ssl
import subprocess
import tempfile
import time

import pg
from checks import Fail, must, short
from child import dies_with_parent, free_port
from wire import Conn


TOKEN, PK, SK = "tok-secret-123", "pk", "sk"
KEYS = (PK, SK)
BEARER = "Bearer " + TOKEN

Result = collections.namedtuple("Result", "rc out err")

SANITIZER = re.compile(r"[^\n]*(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:)[^\n]*")


def base_env(home):
    keep = ("PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS", "LD_LIBRARY_PATH")
    env = {k: os.environ[k] for k in keep if k in os.environ}
    env.update(HOME=home, LANG="C.UTF-8", TZ="Pacific/Chatham")     # no answer may depend on the local zone
    return env


class Server:
    """`xtrace serve` on a free loopback port with a data directory of its own.  Started at its first use."""

    def __init__(self, binary, env=None, args=(), dir=None, tmp=None, slow=1, database=None):
        self.binary, self.args, self.slow = binary, list(args), slow
        self.home = tmp
        if not tmp:
            self.home = tempfile.mkdtemp(prefix="xtrace-test-")
            atexit.register(shutil.rmtree, self.home, True)
        self.dir = dir or os.path.join(self.home, "data")
        self.db = os.path.join(self.dir, "xtrace.db")
        self.database = database
        self.env = {"XTRACE_DATA_DIR": self.dir, "API_BEARER_TOKEN": TOKEN, "XTRACE_PUBLIC_KEY": PK,
                    "XTRACE_SECRET_KEY": SK, "RATE_LIMIT_QPS": "100000", "RATE_LIMIT_BURST": "100000",
                    "METRICS_RETENTION_DAYS": "0", "TRACES_RETENTION_DAYS": "0"}
        if database:
            self.env["DATABASE_URL"] = database.url
        if slow > 1:    # what a user's server does in its default times, this one does in as many more
            self.env.update(XTRACE_INGEST_DEADLINE_MS=4000 * slow, XTRACE_QUERY_TIMEOUT_MS=10000 * slow)
        self.env.update(env or {})
        self.tls = ssl._create_unverified_context() if self.env.get("XTRACE_TLS_CERT") else None
        self.proc, self._port, self._conn, self.starts = None, None, None, 0

    # life
    def start(self, seconds=10.0, wait=True):
        """Starts, unless it runs, and waits until /readyz answers 200, unless told otherwise."""
        if self.proc is not None and self.proc.poll() is None:
            return self
        for attempt in range(4):
            self._port = free_port()
            env = base_env(self.home)
            env.update({k: str(v) for k, v in self.env.items() if v is not None})
            env["BIND_ADDR"] = "127.0.0.1:%d" % self._port
            self.starts += 1
            out, errf = open(self._log("out"), "ab"), open(self._log("err"), "ab")
            self.mark = errf.tell()
            with out, errf:
                self.proc = subprocess.Popen([self.binary, "serve"] + self.args, env=env, cwd=self.home, stdout=out,
                                             stderr=errf, stdin=subprocess.DEVNULL, preexec_fn=dies_with_parent())
            if not wait:
                return self
            t = time.monotonic()
            while time.monotonic() - t < seconds * self.slow:
                if self.proc.poll() is not None:
                    break
                try:
                    with Conn(self._port, 2, tls=self.tls) as c:
                        if c.request("GET", "/readyz").status == 200:
                            self.ready_seconds = time.monotonic() - t
                            return self
                except (OSError, Fail):
                    pass
                time.sleep(0.005)
            rc = self.proc.poll()
            if rc is not None and "in use" in self.stderr().lower() and attempt < 3:
                continue                        # somebody took the port; try another
            if rc is None:
                self.kill()
                raise Fail("not ready within %.0f s; stderr: %s" % (seconds * self.slow, short(self.stderr())))
            self.proc = None
            raise Fail("server ended at its start with %s; stderr: %s" % (rc, short(self.stderr()[-600:])))

    def _log(self, kind):
        return os.path.join(self.home, "server." + kind)

    def stderr(self):
        """What this start wrote to stderr so far."""
        with open(self._log("err"), "rb") as f:
            f.seek(self.mark)
            return f.read().decode("utf-8", "replace")

    def stdout(self):
        with open(self._log("out"), "rb") as f:
            return f.read().decode("utf-8", "replace")

    def _drop(self):
        if self._conn:
            self._conn.close()
        self._conn = None

    def stop(self, sig=signal.SIGTERM, seconds=10.0):
        """Signals, waits, returns the exit code (None: it had to be killed)."""
        if not self.proc:
            return 0
        self._drop()
        self.proc.send_signal(sig)
        try:
            rc = self.proc.wait(seconds * self.slow)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            rc = None
        self.proc = None
        return rc

    def kill(self):
        return self.stop(signal.SIGKILL)

    def restart(self, sig=signal.SIGTERM):
        rc = self.stop(sig)
        must(sig == signal.SIGKILL or rc == 0, "stop ended with %s" % rc)
        return self.start()

    def dead(self, seconds=0.0):
        """Why the server is gone, or None.  `seconds`: how long one that refuses connections may take to end."""
        if self.proc is None:
            return None
        end = time.monotonic() + seconds
        while self.proc.poll() is None:
            if time.monotonic() >= end or self._accepts():
                return None
            time.sleep(0.05)
        rc, self.proc = self.proc.returncode, None
        self._drop()
        text = self.stderr()
        m = SANITIZER.search(text)
        return "server ended with %s; stderr: %s" % (rc, short(text[m.start():] if m else text[-800:], 900))

    def _accepts(self):
        try:
            Conn(self._port, 1).close()
            return True
        except OSError:
            return False

    @property
    def port(self):
        if self.proc is None:
            self.start()
        return self._port

    @property
    def pid(self):
        return self.port and self.proc.pid

    def _status(self, key):
        with open("/proc/%d/status" % self.pid) as f:
            return int(re.search(key + r":\s+(\d+) kB", f.read())[1]) * 1024

    def rss(self):
        return self._status("VmRSS")

    def peak(self):
        return self._status("VmHWM")

    # requests
    def conn(self, timeout=10.0, **kw):
        return Conn(self.port, timeout * self.slow, tls=self.tls, **kw)

    def request(self, method, path, body=None, auth=BEARER, timeout=10.0, **opts):
        """One request on a connection of its own."""
        with self.conn(timeout) as c:
            return c.request(method, path, body, auth=auth, **opts)

    def quick(self, method, path, body=None, auth=BEARER, timeout=10.0, **opts):
        """As request(), on one kept connection (main thread only)."""
        for fresh in (False, True):
            if self._conn is None or fresh:
                self._drop()
                self._conn, fresh = self.conn(timeout), True
            try:
                r = self._conn.request(method, path, body, auth=auth, timeout=timeout * self.slow, **opts)
                if r.early or (r.h("connection") or "").lower() == "close":
                    self._drop()
                return r
            except ConnectionError:
                self._drop()
                if fresh:
                    raise
            except BaseException:
                self._drop()
                raise

    def get(self, path, **opts):
        return self.request("GET", path, **opts)

    def post(self, path, body, **opts):
        return self.request("POST", path, body, **opts)

    def batch(self, trace=None, observations=(), **opts):
        """Posts a batch that must be accepted."""
        r = self.quick("POST", "/v1/l/batch", {"trace": trace, "observations": list(observations)}, **opts)
        must(r.status == 200, "batch answered %r" % r)
        return r

    def trace(self, id, **opts):
        """The detail of a trace that must be there."""
        r = self.quick("GET", "/api/public/traces/" + id, **opts)
        must(r.status == 200, "trace %s answered %r" % (id, r))
        return r.json

    def sql(self, text):
        """Runs a statement in the store, by a connection that knows nothing of the engine; its rows.  {trace} is the table
        trace wherever the engine has it."""
        if self.database:
            return self.database.sql(re.sub(r"\{(\w+)\}", r"xtrace.\1", text))
        with contextlib.closing(sqlite3.connect(self.db, timeout=20)) as db, db:
            return db.execute(re.sub(r"\{(\w+)\}", r"\1", text)).fetchall()


@contextlib.contextmanager
def locked(server, seconds=20):
    """Holds the store's write lock, as another process would: all of the file, or every table."""
    if server.database:
        with pg.connect(server.database.url) as c:
            c.sql("SET lock_timeout = '%ds'" % seconds)
            tables = c.one("SELECT string_agg(oid::regclass::text, ', ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p')"
                           " AND NOT relispartition AND relnamespace = 'xtrace'::regnamespace")
            c.sql("BEGIN; LOCK TABLE %s IN EXCLUSIVE MODE" % tables)
            yield c
            c.sql("ROLLBACK")
        return
    db = sqlite3.connect(server.db, timeout=seconds, isolation_level=None)
    try:
        db.execute("BEGIN EXCLUSIVE")
        yield db
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.close()
