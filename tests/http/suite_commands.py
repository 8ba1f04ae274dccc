#!/usr/bin/env python3
"""The program's other commands, its options, and its data directory."""
# timeout: 180
import os
import re
import stat
import sys
import threading
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
P = "/api/public/projects"
# Every setting by its environment variable; a flag and a file key of a related name exist for each.
OPTIONS = """DATABASE_URL XTRACE_DATA_DIR API_BEARER_TOKEN XTRACE_PUBLIC_KEY XTRACE_SECRET_KEY DEFAULT_PROJECT_ID
    XTRACE_ALLOW_UNAUTHENTICATED_COMPAT RATE_LIMIT_QPS RATE_LIMIT_BURST BIND_ADDR XTRACE_MAX_REQUEST_BODY_BYTES
    XTRACE_CORS_ORIGINS XTRACE_TLS_CERT XTRACE_TLS_KEY XTRACE_MAX_CONNECTIONS XTRACE_IDLE_TIMEOUT_MS
    XTRACE_HEADER_TIMEOUT_MS XTRACE_REQUEST_TIMEOUT_MS XTRACE_INGEST_DEADLINE_MS XTRACE_STOP_TIMEOUT_MS
    XTRACE_QUERY_TIMEOUT_MS TRACES_RETENTION_DAYS METRICS_RETENTION_DAYS""".split()
FLAGS = """--config --data-dir --bind-addr --header-timeout-ms --request-timeout-ms --idle-timeout-ms""".split()


@T.case("version")
def _():
    r = T.cli("version")
    assert r.rc == 0 and re.match(r"xtrace \d+\.\d+", r.out), r
    assert T.cli("--version").out == r.out
    r = T.cli("version", "--nonsense")
    assert r.rc == 1 and "--nonsense" in r.err, r


@T.case("--help names every command and every option")
def _():
    r = T.cli("--help")
    assert r.rc == 0 and not r.err, r
    missing = [w for w in OPTIONS + FLAGS + "serve check migrate backup restore keys version".split() if w not in r.out]
    assert not missing, missing
    for args in (("help",), ("serve", "--help"), ("-h",)):
        assert T.cli(*args).rc == 0, args


@T.case("a name that is no command, a flag that is none, arguments too many: exit 1 and a line")
def _():
    for args in (("frobnicate",), ("serve", "--frobnicate"), ("--frobnicate",), ("serve", "extra"), ("backup",), ("restore",),
                 ("serve", "--data-dir"), ("serve", "--idle-timeout-ms", "x"), ("serve", "--idle-timeout-ms=-1")):
        r = T.cli(*args, dir=os.path.join(T.tmp(), "d"), seconds=5)
        assert r.rc in (1, 2) and r.err.strip() and len(r.err) < 4000, (args, r)
    assert "frobnicate" in T.cli("serve", "--frobnicate", dir=T.tmp()).err


@T.case("check on a fresh directory, on a used one, and on what it cannot use")
def _():
    d = os.path.join(T.tmp(), "data")
    r = T.cli("check", dir=d)
    assert r.rc in (0, 1) and (r.out + r.err).strip(), r
    assert T.cli("migrate", dir=d).rc == 0
    r = T.cli("check", dir=d)
    assert r.rc == 0 and r.out.strip(), r
    r = T.cli("check", dir=d, env={"RATE_LIMIT_QPS": "0"})
    assert r.rc == 1 and "RATE_LIMIT_QPS" in r.err, r
    used = os.path.join(T.tmp(), "file")
    with open(used, "w") as f:
        f.write("x")
    r = T.cli("check", dir=used)
    assert r.rc == 1 and r.err.strip(), r
    bad = T.tmp()
    with open(os.path.join(bad, "xtrace.db"), "w") as f:
        f.write("this is no database, and long enough to be looked at " * 100)
    r = T.cli("check", dir=bad)
    assert r.rc == 1 and r.err.strip(), r
    T.exits({"XTRACE_DATA_DIR": bad})
    with open(os.path.join(bad, "xtrace.db")) as f:
        assert f.read().startswith("this is no database"), "the file was overwritten"


with T.server() as s:
    @T.case("migrate makes the database; again it changes nothing; the server starts on it")
    def _():
        for _ in range(2):
            r = T.cli("migrate", dir=s.dir)
            assert r.rc == 0, r
        assert os.path.exists(s.db)
        s.batch({"id": uid()})

    @T.case("the data directory is for its owner alone")
    def _():
        s.start()
        for path in [s.dir, s.db]:
            assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, "%s %o" % (path, os.stat(path).st_mode)

    @T.case("a second server on the same directory is refused with a line that says so")
    def _():
        s.batch({"id": uid()})
        r = T.exits({"XTRACE_DATA_DIR": s.dir})
        assert re.search(r"(?i)(another|already|in use|locked|running)", r.err), r.err
        s.batch({"id": uid()})

    @T.case("check and version beside a running server")
    def _():
        s.batch({"id": uid()})
        assert T.cli("version", dir=s.dir).rc == 0
        r = T.cli("check", dir=s.dir)
        assert r.rc == 0 and r.out.strip(), r
        s.batch({"id": uid()})

    @T.case("restore over a running server's directory is refused")
    def _():
        t = uid()
        s.batch({"id": t})
        file = os.path.join(T.tmp(), "b")
        assert T.cli("backup", file, dir=s.dir).rc == 0
        r = T.cli("restore", file, dir=s.dir)
        assert r.rc == 1 and r.err.strip(), r
        s.trace(t)

with T.server() as s:
    @T.case("backup while clients write; restored elsewhere it holds all that was acknowledged before")
    def _():
        stop, acked, problems = threading.Event(), [], []

        def write(i):
            try:
                with s.conn() as c:
                    while not stop.is_set():
                        t, o = uid(), uid()
                        r = c.request("POST", "/v1/l/batch", {"trace": {"id": t, "name": "w%d" % i, "input": {"n": "x" * 500}},
                                                              "observations": [{"id": o, "traceId": t, "output": [1, 2, 3]}]}, auth=BEARER)
                        must(r.status == 200, repr(r))
                        acked.append((t, o))
            except Exception as e:
                problems.append(e)
        assert s.post("/v1/metrics/batch", {"metrics": [{"name": "kept", "value": 7, "timestamp": "2026-02-12T10:00:00Z"}]}).status == 200
        workers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for w in workers:
            w.start()
        try:
            wait(lambda: len(acked) > 200, 20 * T.slow, "some traces")
            file = os.path.join(T.tmp(), "backup.db")
            before = list(acked)
            r = T.cli("backup", file, dir=s.dir, seconds=30)
            assert r.rc == 0, r
            wait(lambda: len(acked) > len(before) + 20, 20 * T.slow, "writes go on")
        finally:
            stop.set()
            for w in workers:
                w.join()
        assert not problems, problems[0]
        assert stat.S_IMODE(os.stat(file).st_mode) & 0o077 == 0, "the backup may be read by others"
        again = T.cli("backup", file, dir=s.dir)
        assert again.rc == 1 and again.err.strip(), "an existing file was overwritten: %r" % (again,)
        new = os.path.join(T.tmp(), "data")
        r = T.cli("restore", file, dir=new)
        assert r.rc == 0, r
        with T.server(dir=new) as other:
            for t, o in before:
                holds({"input": {"n": "x" * 500}, "observations": [{"id": o, "output": [1, 2, 3]}]}, other.trace(t))
            r = other.get("/api/public/metrics/query?name=kept&from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z")
            assert r.json["data"][0]["values"][0]["value"] == 7.0, r
            other.batch({"id": uid()})

    @T.case("what is restored belongs to the directory's owner, whoever restores")
    def _():
        s.batch({"id": uid()})
        file, new = os.path.join(T.tmp(), "backup.db"), os.path.join(T.tmp(), "data")
        r = T.cli("backup", file, dir=s.dir)
        assert r.rc == 0, r
        os.mkdir(new)
        if os.geteuid() == 0:
            os.chown(new, 65534, 65534)
        r = T.cli("restore", file, dir=new)
        assert r.rc == 0, r
        owner = os.stat(new)
        made = {name: os.stat(os.path.join(new, name)) for name in os.listdir(new)}
        assert "xtrace.db" in made and "xtrace.lock" in made, made
        for name, st in made.items():
            assert (st.st_uid, st.st_gid, st.st_mode & 0o077) == (owner.st_uid, owner.st_gid, 0), (name, st)

    @T.case("restore refuses what is no backup, and leaves the directory as it was")
    def _():
        t = uid()
        s.batch({"id": t})
        assert s.stop() == 0
        junk = os.path.join(T.tmp(), "junk")
        with open(junk, "wb") as f:
            f.write(os.urandom(20000))
        for file in (junk, junk + "-missing", "/"):
            r = T.cli("restore", file, dir=s.dir)
            assert r.rc == 1 and r.err.strip(), (file, r)
            r = T.cli("restore", file, dir=os.path.join(T.tmp(), "new"))
            assert r.rc == 1 and r.err.strip(), (file, r)
        s.trace(t)

    @T.case("backup to where nothing can be written, and of no store")
    def _():
        s.start()
        assert T.cli("backup", "/nonexistent/dir/b", dir=s.dir).rc == 1
        assert T.cli("backup", os.path.join(T.tmp(), "b"), dir=os.path.join(T.tmp(), "none")).rc == 1

with T.server({"API_BEARER_TOKEN": None, "XTRACE_DATA_DIR": None, "RATE_LIMIT_QPS": None, "RATE_LIMIT_BURST": "9"}) as s:
    @T.case("settings come from a file, the environment wins over it, a flag over both")
    def _():
        file = os.path.join(T.tmp(), "xtrace.conf")
        data = os.path.join(T.tmp(), "from-flag")
        with open(file, "w") as f:
            f.write("# a comment\n\nbearer-token = file-token  \ndata-dir = /nonexistent/not-this\nrate-limit-qps = 7\n"
                    "  default-project=from-file\nbind-addr = 1.2.3.4:5\nrate-limit-burst = 3\n")
        s.args = ["--config", file, "--data-dir", data]
        s.start()
        assert s.get(P, auth="Bearer file-token").json["data"][0]["id"] == "from-file"
        r = s.get("/api/internal/rate_limit_stats").json
        assert (r["rate_limit_qps"], r["rate_limit_burst"]) == (7, 9), r
        assert os.path.exists(os.path.join(data, "xtrace.db")), os.listdir(os.path.dirname(data))

    @T.case("XTRACE_CONFIG names the file too, and --flag=value works")
    def _():
        assert s.stop() == 0
        s.args, s.env["XTRACE_CONFIG"] = ["--data-dir=" + os.path.join(T.tmp(), "d"), "--rate-limit-qps=8"], s.args[1]
        s.start()
        assert s.get("/api/internal/rate_limit_stats").json["rate_limit_qps"] == 8
        assert s.get(P, auth="Bearer file-token").status == 200


@T.case("a file with an unknown key, a bad value or no `=` is refused, naming it; so is a missing file")
def _():
    for text, word in (("frobnicate = 1\n", "frobnicate"), ("idle-timeout-ms = soon\n", "idle-timeout-ms"), ("just words\n", ":1"),
                       ("# x\ndata-dir\n", ":2")):
        file = os.path.join(T.tmp(), "c")
        with open(file, "w") as f:
            f.write(text)
        T.exits({}, ("serve", "--config", file), text=word)
    T.exits({}, ("serve", "--config", "/nonexistent/c"), text="/nonexistent/c")
    T.exits({}, ("serve", "--config", T.tmp()))


with T.server({"XTRACE_URL": "http://x", "XTRACE_TOKEN": "t", "XTRACE_API_KEY": "k", "XTRACE_FUTURE_THING": "1", "RUST_LOG": "debug"}) as s:
    T.rows(s, [("variables of clients that are no option are left alone", get("/healthz", 200), get(P, 200))])

with T.server() as s:
    @T.case("DATABASE_URL=sqlite:PATH")
    def _():
        path = os.path.join(s.home, "elsewhere.db")
        s.env["DATABASE_URL"] = "sqlite:" + path
        t = uid()
        s.batch({"id": t})
        assert os.path.exists(path)
        s.restart()
        s.trace(t)

with T.server({"XTRACE_DATA_DIR": None, "API_BEARER_TOKEN": None}) as s:
    @T.case("a bare start makes ./xtrace-data")
    def _():
        s.start()
        assert os.path.exists(os.path.join(s.home, "xtrace-data", "xtrace.db")), os.listdir(s.home)


@T.case("an unusable data directory: exit 1 and a line that names it")
def _():
    T.exits({"XTRACE_DATA_DIR": "/proc/xtrace"}, text="/proc/xtrace")
    T.exits({"XTRACE_DATA_DIR": "/dev/null/x"}, text="/dev/null")


with T.server() as s:
    @T.case("an address in use: exit 1 and a line that names it")
    def _():
        r = T.exits({"BIND_ADDR": "127.0.0.1:%d" % s.port})
        assert str(s.port) in r.err, r.err

with T.server() as s:
    @T.case("a database of a newer program is refused and left alone")
    def _():
        import sqlite3
        s.batch({"id": uid()})
        assert s.stop() == 0
        db = sqlite3.connect(s.db)
        tables = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        marks = [t for t in tables if "migration" in t]
        if not version and not marks:
            raise Skip("where the schema's number stands is not known here: " + " ".join(tables))
        if version:
            db.execute("PRAGMA user_version = %d" % (version + 1000))
        for t in marks:
            columns = [r[1] for r in db.execute("PRAGMA table_info(%s)" % t)]
            rows = db.execute("SELECT * FROM %s ORDER BY 1 DESC LIMIT 1" % t).fetchall()
            db.execute("INSERT INTO %s VALUES (%s)" % (t, ",".join("?" * len(columns))),
                       [v + 1000 if isinstance(v, int) and i == 0 else v for i, v in enumerate(rows[0])])
        db.commit()
        db.close()
        r = T.exits({"XTRACE_DATA_DIR": s.dir})
        assert re.search(r"(?i)newer|version|schema", r.err), r.err

T.done()
