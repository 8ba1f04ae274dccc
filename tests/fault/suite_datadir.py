#!/usr/bin/env python3
"""Data directories that cannot be used, are used already, are locked by others, or hold damaged files."""
# timeout: 150
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "..", "lib"), os.path.join(here, "..", "crash")]
from child import dies_with_parent
from facts import *
from process import base_env

T = Suite()
SEED = int(os.environ.get("XTRACE_TEST_SEED", "0")) or random.randrange(1 << 30)
SEEDS = int(os.environ.get("XTRACE_TEST_DAMAGES", "0")) or (1000 if T.long else 60)
print("# seed %d, %d damages" % (SEED, SEEDS), flush=True)


def lines_of(r):
    return [x for x in r.err.splitlines() if x.strip()]


def one_line(r, text=""):
    must(r.rc == 1, "exit %s, wanted 1; stderr: %s" % (r.rc, r.err[-400:]))
    must(len(lines_of(r)) == 1, "not one line on stderr: %r" % r.err[-800:])
    must(text in r.err, "stderr lacks %r: %s" % (text, r.err[-400:]))


def as_nobody(args):
    """Wraps a command so that it runs without root's rights; None where that is not possible."""
    if os.geteuid() != 0:
        return args
    tool = shutil.which("setpriv")
    if not tool:
        return None
    return [tool, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"] + args


def run_plain(args, directory, seconds=10):
    """Runs the server's program as a plain user; a Result."""
    command = as_nobody([T.binary] + args)
    if not command:
        raise Skip("no setpriv to drop root's rights with")
    env = base_env("/")
    env.update(XTRACE_DATA_DIR=directory, API_BEARER_TOKEN=TOKEN, BIND_ADDR="127.0.0.1:0")
    if subprocess.run(as_nobody(["test", "-x", T.binary]), cwd="/").returncode != 0:
        raise Skip("a plain user may not run " + T.binary)
    p = subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         preexec_fn=dies_with_parent())
    try:
        out, errs = p.communicate(timeout=seconds * T.slow)
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise Fail("it runs") from None
    return Result(p.returncode, out.decode("utf-8", "replace"), errs.decode("utf-8", "replace"))


def open_up(path):
    """Lets other users reach `path` through this suite's own directories."""
    top = os.path.realpath(os.environ.get("TMPDIR") or "/tmp")
    while len(path) > 1 and path != os.path.dirname(top):
        if os.stat(path).st_uid == os.geteuid():
            os.chmod(path, os.stat(path).st_mode | 0o055)
        path = os.path.dirname(path)


@T.case("a directory that may not be written: one line, exit 1, nothing changed")
def _():
    base = os.path.realpath(T.tmp())
    directory = os.path.join(base, "data")
    os.mkdir(directory, 0o555)
    open_up(base)
    try:
        for command in (["serve"], ["migrate"]):
            one_line(run_plain(command, directory), directory)
            one_line(run_plain(command, os.path.join(directory, "below")), directory)
        must(os.listdir(directory) == [], os.listdir(directory))
    finally:
        os.chmod(directory, 0o755)


@T.case("a store whose files may not be written: one line, exit 1; its owner can still use it")
def _():
    with T.server() as s:
        t = uid()
        s.batch({"id": t})
        must(s.stop() == 0, "stop")
        names = os.listdir(s.dir)
        os.chmod(s.dir, 0o755)
        for n in names:
            os.chmod(os.path.join(s.dir, n), 0o444)
        open_up(s.dir)
        if os.geteuid() == 0:
            os.chmod(s.dir, 0o777)          # the directory may be written, the files may not
        one_line(run_plain(["serve"], s.dir), s.dir)
        os.chmod(s.dir, 0o700)
        for n in names:
            os.chmod(os.path.join(s.dir, n), 0o600)
        s.start()
        s.trace(t)


@T.case("paths that cannot be a directory: one line each that names it")
def _():
    file = os.path.join(T.tmp(), "file")
    with open(file, "w") as f:
        f.write("x")
    loop = os.path.join(T.tmp(), "loop")
    os.symlink(loop, loop)
    for path in (file, file + "/below", "/proc/xtrace", "/dev/null/x", loop, T.tmp() + "/" + "x" * 300, T.tmp() + ("/" + "y" * 200) * 30):
        one_line(T.exits({"XTRACE_DATA_DIR": path}), path[:9])
    with open(file) as f:
        must(f.read() == "x", "the file was changed")


for name, kind in [(n, k) for n in ("xtrace.db", "xtrace.lock", "token", "xtrace.db-wal") for k in ("directory", "fifo", "dangling link")]:
    @T.case("%s is a %s: a refusal with one line, or service" % (name, kind))
    def _():
        d = os.path.join(T.tmp(), "data")
        os.mkdir(d)
        path = os.path.join(d, name)
        if kind == "directory":
            os.mkdir(path)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            os.symlink("/nonexistent/target", path)
        with T.server({"API_BEARER_TOKEN": None}, dir=d) as s:
            try:
                s.start(5)
                must(s.get("/readyz").status == 200, "readyz")
                must(s.stop() == 0, "stop")
            except Fail as e:
                must("ended at its start with 1;" in str(e), e)
                lines = [x for x in s.stderr().splitlines() if x.strip()]
                must(len(lines) == 1 and d in lines[0], "%r" % lines)
        must(os.path.lexists(path) or name.endswith("-wal"), "it was removed")    # SQLite ends its log with the store


@T.case("a token file that holds no whole token: one line that says what to do, exit 1")
def _():
    for text in (b"", b"short\n", bytes(48), b"a" * 20 + bytes(28), b"a" * 20 + b" " + b"b" * 20, b"\xff" * 48, b"a" * 500):
        d = os.path.join(T.tmp(), "data")
        os.mkdir(d)
        with open(os.path.join(d, "token"), "wb") as f:
            f.write(text)
        one_line(T.exits({"XTRACE_DATA_DIR": d, "API_BEARER_TOKEN": None}), "remove it to get a new one")
        with open(os.path.join(d, "token"), "rb") as f:
            must(f.read() == text, "it was changed")


@T.case("check on a database that was never filled in says so, or that all is well")
def _():
    for deep in ([], ["--deep"]):
        d = os.path.join(T.tmp(), "data")
        os.mkdir(d)
        open(os.path.join(d, "xtrace.db"), "w").close()
        r = T.cli("check", *deep, dir=d, env={"API_BEARER_TOKEN": TOKEN})
        must(r.rc == 0 or len(lines_of(r)) == 1, r)
        must("SQL" not in r.err + r.out, r)


with T.server() as s:
    @T.case("a second server on the same directory: refused at once with one line, the first goes on")
    def _():
        s.batch({"id": uid()})
        link = os.path.join(T.tmp(), "link")
        os.symlink(s.dir, link)
        for directory in (s.dir, s.dir + "/", link, os.path.join(s.dir, "..", "data")):
            load, t = Load(), time.monotonic()
            r = T.exits({"XTRACE_DATA_DIR": directory})
            must(time.monotonic() - t < 3 * T.slow * load.factor(), "it took %.1f s" % (time.monotonic() - t))
            one_line(r)
            must(re.search(r"(?i)in use|already|another|locked", r.err), r.err)
            s.batch({"id": uid()})

    @T.case("twenty servers started at once on one directory: one serves, the others are refused")
    def _():
        directory = os.path.join(T.tmp(), "data")
        env = base_env(T.tmp())
        env.update(XTRACE_DATA_DIR=directory, API_BEARER_TOKEN=TOKEN, BIND_ADDR="127.0.0.1:0")
        procs = [subprocess.Popen([T.binary, "serve"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  preexec_fn=dies_with_parent()) for _ in range(20)]
        try:
            wait(lambda: sum(p.poll() is not None for p in procs) >= 19, 20 * T.slow, "19 to end")
            running = [p for p in procs if p.poll() is None]
            must(len(running) == 1, "%d serve" % len(running))
            for p in procs:
                if p is not running[0]:
                    out, errs = p.communicate()
                    one_line(Result(p.returncode, "", errs.decode()))
            line = running[0].stdout.readline().decode()
            must("http://127.0.0.1:" in line, "the one that serves says %r" % line)
            port = int(re.search(r":(\d+)", line.split("//")[1])[1])
            with Conn(port) as c:
                must(c.request("GET", "/readyz").status == 200, "readyz")
            running[0].terminate()
            must(running[0].wait(10 * T.slow) == 0, "stop")
        finally:
            for p in procs:
                if p.poll() is None:
                    p.kill()
                p.wait()
                p.stdout.close()
                p.stderr.close()

with T.server({"XTRACE_INGEST_DEADLINE_MS": "4000"}) as s:
    @T.case("the store locked by another process for 6 s: posts are told to retry within 4 s, reads go on, later all is fine")
    def _():
        old = uid()
        s.batch({"id": old})
        got, names = [], []

        def post(i):
            names.append(uid())
            got.append(s.post(BATCH, {"trace": {"id": names[-1]}}, timeout=20))
        with locked(s):
            load, t, posts = Load(), time.monotonic(), []
            while time.monotonic() - t < 6 or len(posts) < 12 or (len(got) < 6 and time.monotonic() - t < 60):
                if len(posts) < 12 and time.monotonic() - t > len(posts) * 0.3:
                    posts.append(threading.Thread(target=post, args=(len(posts),)))
                    posts[-1].start()
                must(s.trace(old)["id"] == old, "read")
                r = s.get("/readyz")
                must(r.seconds < 2 * T.slow * load.factor(), "readyz took %.1f s" % r.seconds)
                time.sleep(0.05)
            must(s.get("/readyz").status == 503, "ready without a store")
        for p in posts:
            p.join()
        must(len(got) == 12, "%d answers" % len(got))
        late = [r for r in got if r.seconds > 4.8 * T.slow * load.factor()]
        must(not late, lambda: "told after %.1f s" % late[0].seconds)
        told = [r for r in got if r.status in (429, 503)]
        must(len(told) >= 6 and all(r.h("retry-after") == "1" for r in told), got)
        must(all(r.status in (200, 429, 503) for r in got), got)
        wait(lambda: s.get("/readyz").status == 200, 5 * T.slow, "ready again")
        s.batch({"id": names[0]})
        s.trace(names[0])
        wait(lambda: s.post(BATCH, {"trace": {"id": uid()}}).status == 200, 5 * T.slow)


# --- files that go away -------------------------------------------------------------------------------------------

def copied(s):
    """The database is replaced by a copy of itself."""
    shutil.copy(s.db, s.db + ".copy")
    os.rename(s.db + ".copy", s.db)


# what is done, how it is undone (None: it cannot be), whether a stop and a start bring back what was acknowledged
AWAY = (("the data directory is moved away", lambda s: os.rename(s.dir, s.dir + ".away"), lambda s: os.rename(s.dir + ".away", s.dir), True),
        ("the data directory is removed", lambda s: shutil.rmtree(s.dir), None, False),
        ("the database is removed", lambda s: os.unlink(s.db), None, False),
        ("the database is replaced by a copy", copied, None, False),
        ("the log is removed", lambda s: os.unlink(s.db + "-wal"), None, True))

for what, do, undo, kept in AWAY:
    with T.server() as s:
        @T.case("%s while the server runs: nothing more is acknowledged, and readiness says so" % what)
        def _():
            old = [uid() for _ in range(3)]
            s.batch({"id": old[0]}, [{"id": old[0], "traceId": old[0]}])
            do(s)
            for path, body in ((BATCH, {"trace": {"id": old[1]}}), (METRICS, {"metrics": [{"name": "m", "value": 1, "timestamp": DAY % (1, 1, 1)}]})):
                r = s.post(path, body)
                must(r.status == 503 and r.h("retry-after") == "1", "a write answered %r" % r)
            must(s.get("/readyz").status == 503, "ready")
            must(s.trace(old[0])["id"] == old[0], "read")
            events = [x for x in s.stderr().splitlines() if "store_unavailable" in x]
            must(len(events) == 1 and "moved, removed or replaced" in events[0], events)
            if undo:
                undo(s)
                wait(lambda: s.get("/readyz").status == 200, 5 * T.slow, "ready again")
                s.batch({"id": old[2]}, [{"id": old[2], "traceId": old[2]}])
            s.restart()
            s.batch({"id": uid()})
            for id in old[:1] * kept + old[2:] * bool(undo):
                must(len(s.trace(id)["observations"]) == 1, "after a restart")
            wrong = deep_check(T, s.dir)
            must(not wrong, wrong)


# --- damaged files ------------------------------------------------------------------------------------------------

READS = ["/api/public/traces?limit=50", "/api/public/traces?userId=u&limit=10", "/api/public/metrics/daily", "/api/public/metrics/names",
         "/api/public/metrics/query?name=%s&group_by=w&agg=p90&" + RANGE, "/api/public/projects", "/metrics", "/readyz", "/healthz"]


def prepare():
    """A used store as kill -9 leaves it (log not copied back), and one after an orderly stop."""
    with T.server({"API_BEARER_TOKEN": None}) as s:
        s.start()
        with open(os.path.join(s.dir, "token")) as f:
            token = f.read().strip()
        ids = []

        def fill():
            for _ in range(30):
                t = uid()
                s.batch({"id": t, "userId": "u", "tags": ["x"], "input": "q" * 3000, "timestamp": "2026-02-12T10:00:00Z"},
                        [{"id": uid(), "traceId": t, "output": "a" * 2000, "startTime": "2026-02-12T10:00:00Z", "model": "m"} for _ in range(5)],
                        auth=bearer(token))
                ids.append(t)
            r = s.post(METRICS, {"metrics": [{"name": "m", "labels": {"w": str(i)}, "value": i, "timestamp": DAY % (i % 24, 0, 0)}
                                             for i in range(500)]}, auth=bearer(token))
            must(r.status == 200, r)
        fill()
        s.restart()
        fill()
        s.kill()
        dirs = []
        for life in range(2):
            dirs.append(os.path.join(T.tmp(), "data"))
            shutil.copytree(s.dir, dirs[-1])
            if life == 0:
                s.start()
                must(s.stop() == 0, "stop")
        return dirs, token, ids


def damage(rng, directory):
    """Changes one to three files; what was done, as text."""
    names = [n for n in sorted(os.listdir(directory)) if not n.endswith("-shm")]
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(names + ["xtrace.db"] * 3 + [n for n in names if n.endswith("-wal")] * 2)
        path = os.path.join(directory, name)
        with open(path, "rb") as f:
            data = bytearray(f.read())
        kind, size = rng.choice(("flip", "flip", "flips", "block", "zeros", "cut", "grow", "header", "empty", "swap")), len(data)
        if kind == "empty" or not size:
            data = bytearray()
        elif kind in ("flip", "flips", "header"):
            for _ in range({"flip": 1, "flips": 200, "header": 3}[kind]):
                data[rng.randrange(min(size, 100) if kind == "header" else size)] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del data[rng.randrange(size):]
        elif kind == "grow":
            data += rng.randbytes(rng.randrange(1, 10000))
        elif kind == "swap":        # a page in another's place: a write that went astray
            a, b = (rng.randrange(max(1, size // 4096)) * 4096 for _ in range(2))
            data[a:a + 4096] = data[b:b + 4096]
        else:
            at = rng.randrange(size) // 4096 * 4096
            n = min(4096, size - at)
            data[at:at + n] = bytes(n) if kind == "zeros" else rng.randbytes(n)
        with open(path, "wb") as f:
            f.write(data)
        done.append("%s %s" % (kind, name))
    return ", ".join(done)


def ask(c, method, path, body, token):
    """A request that may answer 500 here: the status."""
    try:
        return c.request(method, path, body, auth=bearer(token), timeout=20).status
    except Fail as e:
        must("a 500" in str(e), e)
        return 500


def use_damaged(directory, token, ids, rng):
    """Starts, reads, writes and stops; what came of it."""
    with T.server({"API_BEARER_TOKEN": None}, dir=directory) as s:
        try:
            s.start(15)
        except Fail as e:
            must("ended at its start with 1;" in str(e), "no clear refusal: %s" % e)
            lines = [x for x in s.stderr().splitlines() if x.strip()]
            must(len(lines) == 1 and 10 < len(lines[0]) < 500, "not one clear line: %r" % lines[:5])
            return "refused: " + lines[0]
        with open(os.path.join(directory, "token"), encoding="latin-1") as f:
            token = f.readline().strip()
        statuses = []
        for path in READS + ["/api/public/traces/" + i for i in rng.sample(ids, 12)]:
            with s.conn(20) as c:
                statuses.append(ask(c, "GET", path.replace("%s", "m"), None, token))
        for _ in range(6):
            with s.conn(20) as c:
                t = uid()
                statuses.append(ask(c, "POST", BATCH, {"trace": {"id": t, "userId": "u"}, "observations": [{"id": uid(), "traceId": rng.choice(ids + [t])}]}, token))
            with s.conn(20) as c:
                statuses.append(ask(c, "POST", METRICS, {"metrics": [{"name": "m", "value": 1, "timestamp": DAY % (1, 2, 3)}]}, token))
        must(s.proc.poll() is None, lambda: "it died: " + str(s.dead()))
        bad = [x for x in statuses if x not in (200, 207, 400, 401, 404, 422, 429, 500, 503)]
        must(not bad, "statuses %s" % bad)
        if 500 in statuses:
            must(re.search(r"(?i)level=error|level=warn| error | warn |ERROR|WARN", s.stderr()), "500 without a word in the log: %s" % s.stderr()[-300:])
        rc = s.stop(seconds=15)
        must(rc == 0, "after service on a damaged store SIGTERM ended with %s" % rc)
        must(len(s.stderr()) < 200000, "%d bytes of log" % len(s.stderr()))
        return "served: %s" % {x: statuses.count(x) for x in sorted(set(statuses))}


made = {}


@T.case("before files are damaged: copies of a used store, as kill -9 and as an orderly stop leave it, are served")
def _():
    dirs, token, ids = prepare()
    for d in dirs:
        copy = os.path.join(T.tmp(), "data")
        shutil.copytree(d, copy)
        got = use_damaged(copy, token, ids, random.Random(1))
        must(got.startswith("served") and "500" not in got, got)
    made.update(dirs=dirs, token=token, ids=ids)


def damages(first, last):
    tally = {"refused": 0, "served": 0}
    for n in range(first, last):
        rng = random.Random("%d %d" % (SEED, n))
        d = os.path.join(T.tmp(), "data")
        shutil.copytree(rng.choice(made["dirs"]), d)
        what = damage(rng, d)
        try:
            if n % 3 == 0:
                r = T.cli("check", *(["--deep"] if n % 2 else []), dir=d, env={"API_BEARER_TOKEN": TOKEN})
                must(r.rc in (0, 1), "check ended with %s: %s" % (r.rc, r.err[-300:]))
                must(r.rc == 0 or r.err.strip(), "check failed without a line")
                must(len(r.err) < 5000 and len(r.out) < 5 << 20, "check said %d bytes" % (len(r.err) + len(r.out)))
            got = use_damaged(d, made["token"], made["ids"], rng)
        except AssertionError as e:
            raise Fail("damage %d of seed %d (%s): %s" % (n, SEED, what, e)) from None
        tally[got.split(":")[0]] += 1
        shutil.rmtree(d, ignore_errors=True)
    print("# damages %d to %d: %s" % (first, last - 1, tally), flush=True)
    return tally


STEP = 20
for first in range(0, SEEDS, STEP):
    @T.case("damaged files %d to %d: a clear refusal or service, never a crash" % (first, min(first + STEP, SEEDS) - 1))
    def _():
        if not made:
            raise Skip("no store to damage")
        damages(first, min(first + STEP, SEEDS))

T.done()
