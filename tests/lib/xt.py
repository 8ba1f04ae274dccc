"""Black-box test library for xtrace: the real binary, real sockets, Python's standard library only.

A suite is a program `suite_x.py --xtrace PATH [--filter TEXT]`.  It prints one line a test,
`ok - name`, `not ok - name: reason` or `skip - name: reason`, and exits 0 iff nothing failed.

    import os, sys; sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
    from xt import *

    T = Suite()                                        # reads the command line
    with T.server({"RATE_LIMIT_QPS": "5"}) as s:       # starts at its first use, is stopped and checked at the end
        T.rows(s, [                                    # one test a row: name, then steps in order
            ("A02 a wrong token is refused", get("/api/public/projects", 401, auth="Bearer wrong")),
            ("B02 what was posted is readable", post("/v1/l/batch", {"trace": {"id": "$A"}}),
                                                get("/api/public/traces/$A", 200, {"id": "$A", "tags": []})),
        ])
        @T.case("B30 a test that needs code")           # runs at once; an AssertionError makes it `not ok`
        def _():
            assert s.get("/healthz", auth=None).status == 200
    T.done()

Steps        get(path, status, *checks, **opts), post(path, body, status, ...), req(method, path, status, ...),
             or any callable(server, names).  `$A`..`$Z` anywhere in path, body, headers or checks is a fresh UUID of
             that row; `$A.hex` its 32 digits, `$A.up` upper case, `$A.span` its last 16 digits.
Checks       dict: the JSON answer holds it (extra keys are fine) | Exact(v): the JSON answer equals v |
             str, bytes: the whole body | Raw(text): the body contains it | Hdr(name, value) | err(CODE, prefix) |
             callable(reply) or callable(reply, names): false or AssertionError fails.
             Inside expected JSON: ANY, Like(regex), or a function of the value.
Options      auth=BEARER|None|"raw header"|("user","password"), headers=[(n, v)], ct=content type or None,
             chunked=True, timeout=seconds.  A body of dict or list is sent as JSON, str and bytes as they are.
Server       .port .pid .dir (XTRACE_DATA_DIR) .db .request() .get() .post() .batch() .trace() .conn() .stderr()
             .stdout() .sql(text) .rss() .peak() .start() .stop() .kill() .restart(); all times are bounded.
Processes    T.cli("keys", "list", dir=...) -> Result(rc, out, err); T.exits(env, args) for starts that must fail.
Files        T.tmp() gives a directory that is removed at the end.
Conn         one raw connection: send(bytes), reply(), request(), closed(), close().
Locked       `with locked(server):` another process' write transaction: the store cannot be written meanwhile, but read.
Engines      a suite marked `# engines` runs once on each engine of the store: XTRACE_TEST_ENGINE=postgresql gives each
             data directory an empty database, which its servers and T.cli(dir=...) use.  T.engine is "sqlite" or
             "postgresql"; T.only("sqlite", why) in a test skips it on others.  s.database is a pg.Database or None.
Load         how much of our processors others took since it was made: .factor() for bounds of time.
Others       uid(), wait(fn, seconds), threads(n, fn), differ(want, got), zstd_raw(), zstd_rle(), unzstd(), now().

No test accepts a 500: the library raises on it.  A server that dies in a test fails that test and is started again on
its directory.  Sanitizer reports on stderr and exit codes other than 0 after SIGTERM fail the suite.  Under a sanitizer
(T.sanitized) deadlines, the server's for commits and queries too, are three or four times longer and bounds of memory are
not checked.  XTRACE_TEST_LONG=1 asks for the long forms of slow tests (T.long).

Where each lives: Suite and the lists of keys here;
    checks.py   Fail, Skip, must, holds, differ, ANY, Like: what is expected
    steps.py    get, post, req, their checks, the names $A..$Z
    wire.py     the HTTP client: Conn, Reply, credentials, requests as bytes
    process.py  Server, locked, the environment of the program
    timing.py   wait, Load, threads, now, iso
    frames.py   zstd without a zstd module
    child.py    free ports, children that end with their parent; for pg.py, too
"""
import atexit
import collections
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pg
from checks import ANY, Fail, Like, Skip, differ, holds, must, short
from child import dies_with_parent, free_port
from frames import unzstd, zstd_raw, zstd_rle
from process import BEARER, KEYS, PK, SANITIZER, SK, TOKEN, Result, Server, base_env, locked
from steps import Exact, Hdr, Names, Raw, err, get, post, req, run_step, uid
from timing import Load, iso, now, threads, wait
from wire import Conn, Reply, basic, bearer, encode_request

# What `from xt import *` brings.
__all__ = """Suite Server Conn Reply Skip Fail Result get post req Exact Raw Hdr Like ANY err uid wait threads differ
             holds must bearer basic now iso zstd_raw zstd_rle unzstd encode_request locked Load TOKEN PK SK BEARER KEYS
             TRACE_KEYS OBSERVATION_KEYS""".split()

TRACE_KEYS = """id timestamp name input output sessionId release version userId metadata tags public projectId externalId
    bookmarked environment htmlPath latency totalCost createdAt updatedAt observations scores""".split()
OBSERVATION_KEYS = """id traceId type name startTime endTime completionStartTime model modelParameters input version
    metadata output usage level statusMessage parentObservationId promptId promptName promptVersion modelId inputPrice
    outputPrice totalPrice calculatedInputCost calculatedOutputCost calculatedTotalCost latency timeToFirstToken
    promptTokens completionTokens totalTokens usageDetails costDetails environment""".split()


class _Scope:
    """`with T.server() as s`: stops the server at the end and looks at how it went."""
    def __init__(self, suite, server):
        self.suite, self.server = suite, server

    def __enter__(self):
        return self.server

    def __exit__(self, kind, *_):
        if kind is None:
            self.suite.finish(self.server)
        else:
            self.server.kill()


class Suite:
    def __init__(self):
        self.binary, self.filter = None, ""
        argv = sys.argv[1:]
        while argv:
            flag = argv.pop(0)
            flag, eq, value = flag.partition("=")
            if flag not in ("--xtrace", "--filter") or not (eq or argv):
                sys.exit("usage: %s --xtrace PATH [--filter TEXT]" % sys.argv[0])
            value = value if eq else argv.pop(0)
            if flag == "--xtrace":
                self.binary = os.path.abspath(value)
            else:
                self.filter = value
        if not self.binary or not os.access(self.binary, os.X_OK):
            sys.exit("no program at --xtrace %s" % self.binary)
        with open(self.binary, "rb") as f:
            image = f.read()
        self.slow = 4 if b"__tsan_init" in image else 3 if b"__asan_init" in image else 1
        self.sanitized = self.slow > 1
        self.long = os.environ.get("XTRACE_TEST_LONG") == "1"
        self.engine = os.environ.get("XTRACE_TEST_ENGINE") or "sqlite"
        if self.engine not in ("sqlite", "postgresql"):
            sys.exit("XTRACE_TEST_ENGINE: sqlite or postgresql")
        self.counts = collections.Counter()
        self.servers, self.dirs, self.databases = [], [], {}
        atexit.register(self._clean)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def _clean(self):
        for s in self.servers:
            if s.proc:
                s.kill()
        for database in self.databases.values():
            database.drop()
        for d in self.dirs:
            shutil.rmtree(d, ignore_errors=True)

    def tmp(self):
        d = tempfile.mkdtemp(prefix="xtrace-test-")
        self.dirs.append(d)
        return d

    def server(self, env=None, args=(), dir=None, database=None):
        """`database`: a pg.Database that others share, whatever the engine of this run."""
        home = self.tmp()
        if database:
            self.databases[os.path.abspath(dir or os.path.join(home, "data"))] = database
        s = Server(self.binary, env, args, dir, home, self.slow, self.database(dir or os.path.join(home, "data")))
        self.servers.append(s)
        return _Scope(self, s)

    def database(self, dir):
        """The database that stands for a data directory on PostgreSQL, made when it is first asked for; else None."""
        dir = os.path.abspath(dir)
        if dir not in self.databases and self.engine != "postgresql":
            return None
        if dir not in self.databases:
            self.databases[dir] = pg.Database()
        return self.databases[dir]

    def only(self, engine, why):
        """Skips the test on other engines; `why`: what the others do not have."""
        if self.engine != engine:
            raise Skip(why)

    def finish(self, s):
        """Stops a server that was started; anything but an orderly end is a failed test of its own."""
        if not s.starts:
            return
        why = s.dead()
        if not why and s.proc:
            rc = s.stop()
            if rc != 0:
                why = "SIGTERM: %s" % ("no end within 10 s" if rc is None else "exit %s" % rc)
        with open(s._log("err"), "rb") as f:
            m = SANITIZER.search(f.read().decode("utf-8", "replace"))
        if m:
            why = (why + "; " if why else "") + m[0]
        if why:
            self.report("not ok", "the server of these tests ends in good order", why)

    def report(self, verdict, name, why=""):
        self.counts[verdict] += 1
        why = " ".join(str(why).split())
        print("%s - %s%s" % (verdict, name, ": " + short(why, 1500) if why else ""), flush=True)

    def wanted(self, name):
        return self.filter in name

    def case(self, name):
        """Decorator: runs the function at once as the test `name`."""
        def run(fn):
            if not self.wanted(name):
                return fn
            why, verdict, patience = "", "ok", 0
            try:
                fn()
            except Skip as e:
                verdict, why = "skip", str(e)
            except AssertionError as e:
                verdict, why = "not ok", str(e) or self._where(e)
            except Exception as e:
                verdict, why = "not ok", "%s: %s (%s)" % (type(e).__name__, e, self._where(e))
                patience = 10 if isinstance(e, OSError) else 0     # a sanitizer writes its report for a while
            for s in self.servers:
                gone = s.dead(patience)
                if gone:
                    verdict, why = "not ok", (why + "; " if why else "") + gone
            self.report(verdict, name, why)
            return fn
        return run

    @staticmethod
    def _where(e):
        frame = [f for f in traceback.extract_tb(e.__traceback__) if "suite_" in f.filename]
        return "%s:%d %s" % (os.path.basename(frame[-1].filename), frame[-1].lineno, frame[-1].line) if frame else ""

    def rows(self, server, rows):
        for name, *steps in rows:
            def run(steps=steps):
                names = Names()
                for step in steps:
                    run_step(server, step, names)
            self.case(name)(run)

    def done(self):
        self._clean()
        c = self.counts
        print("# %d ok, %d not ok, %d skipped" % (c["ok"], c["not ok"], c["skip"]), flush=True)
        sys.exit(1 if c["not ok"] else 0)

    # other processes
    def cli(self, *args, dir=None, env=None, seconds=30, stdin=None):
        """Runs the program to its end; Result(rc, out, err)."""
        home = self.tmp()
        full = base_env(home)
        if dir:
            full["XTRACE_DATA_DIR"] = dir
            if self.database(dir):
                full["DATABASE_URL"] = self.database(dir).url
        full.update({k: str(v) for k, v in (env or {}).items()})
        p = subprocess.Popen([self.binary] + [str(a) for a in args], env=full, cwd=home, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=dies_with_parent())
        try:
            out, errs = p.communicate(timeout=seconds * self.slow)
        except subprocess.TimeoutExpired:
            p.kill()
            out, errs = p.communicate()
            raise Fail("%s did not end within %d s; stderr: %s"
                       % (" ".join(map(str, args)) or "xtrace", seconds * self.slow,
                          short(errs.decode("utf-8", "replace")[-400:]))) from None
        return Result(p.returncode, out.decode("utf-8", "replace"), errs.decode("utf-8", "replace"))

    def exits(self, env, args=("serve",), text="", rc=1, seconds=10):
        """A start that must be refused: exit code, and a line on stderr that holds `text`."""
        full = {"XTRACE_DATA_DIR": os.path.join(self.tmp(), "data"), "BIND_ADDR": "127.0.0.1:%d" % free_port(),
                "API_BEARER_TOKEN": TOKEN}
        full.update(env)
        r = self.cli(*args, env={k: v for k, v in full.items() if v is not None}, seconds=seconds)
        must(r.rc == rc, "exit %s, wanted %s; stderr: %s" % (r.rc, rc, short(r.err)))
        must(text.lower() in r.err.lower(), "stderr lacks %r: %s" % (text, short(r.err)))
        return r
