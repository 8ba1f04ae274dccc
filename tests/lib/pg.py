"""Throw-away PostgreSQL clusters for tests, and databases in them.  Python's standard library and libpq only.

    from pg import Cluster, Database, connect
    with Cluster() as c:                    # initdb, a free loopback port, started; stopped and removed at the end
        url = c.create("some_name")         # an empty database: postgresql://xtrace@127.0.0.1:PORT/some_name
        c.sql("SELECT 1")                   # [("1",)], in the database `postgres`; c.sql(text, url) in another
        c.stop("immediate"), c.start()      # modes of the server: smart, fast, immediate
        c.kill()                            # SIGKILL to all of its processes
        c.freeze(), c.thaw()                # SIGSTOP, SIGCONT to all of its processes

Shared cluster: tests/run starts one and names it in XTRACE_TEST_PG_URL.  shared() gives that one's URL, or starts one for
this process; Database() is a database in it, dropped at the end.

The server refuses to run as root: as root it runs as `postgres`, or `nobody`.  No cluster outlives the process that
started it.  missing() says why none can be started here, or "".

As a program, for tests in C:  python3 pg.py serve   starts a cluster, prints its URL, and ends it when stdin ends.  Lines
on stdin are done to it, each answered with "ok": stop, stop immediate, start, kill, freeze, thaw.
"""
import atexit
import contextlib
import ctypes
import ctypes.util
import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid

from child import dies_with_parent, free_port

USER = "xtrace"     # the superuser of these clusters; no password on the loopback
# Speed, as nothing here must outlive the machine.  No fsync does not change what a killed server process loses: nothing.
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "full_page_writes": "off",
            "wal_level": "minimal", "max_wal_senders": "0", "shared_buffers": "64MB", "max_connections": "200",
            "max_wal_size": "256MB", "log_line_prefix": "%m [%p] ", "autovacuum_naptime": "10s",
            "cluster_name": "xtrace-test"}


class Error(Exception):
    """What libpq or a server program said; .state is the SQLSTATE, or ""."""

    def __init__(self, text, state=""):
        super().__init__(" ".join(text.split()))
        self.state = state


# --- programs -----------------------------------------------------------------------------------------------------

def programs():
    """The directory of the server programs of the newest version installed, or None."""
    found = [(tuple(map(int, re.findall(r"\d+", d.split("/")[-2]))), d) for d in glob.glob("/usr/lib/postgresql/*/bin")
             if os.access(os.path.join(d, "postgres"), os.X_OK) and os.access(os.path.join(d, "initdb"), os.X_OK)]
    return max(found)[1] if found else None


def missing():
    """Why no cluster can be started here, or ""."""
    return "" if programs() else "no PostgreSQL server is installed (package postgresql)"


def _account():
    """Who the server runs as: None (ourselves), or an entry of the user database."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Error("root, and there is neither a user postgres nor nobody")


def _open_to_all(path):
    """Can every user pass through this directory and those above it?"""
    while True:
        if not os.stat(path).st_mode & 0o001:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def _place():
    """A directory for the cluster's, which the account can enter."""
    account = _account()
    for path in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if not account or (os.path.isdir(path) and _open_to_all(os.path.realpath(path))):
            return path
    raise Error("no directory for temporary files that others may enter")


# --- libpq --------------------------------------------------------------------------------------------------------

_LIBPQ = None


def _libpq():
    global _LIBPQ
    if not _LIBPQ:
        lib = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
        p, s, i = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, result, args in (("PQconnectdb", p, [s]), ("PQstatus", i, [p]), ("PQerrorMessage", s, [p]),
                                   ("PQexec", p, [p, s]), ("PQresultStatus", i, [p]), ("PQresultErrorMessage", s, [p]),
                                   ("PQresultErrorField", s, [p, i]), ("PQntuples", i, [p]), ("PQnfields", i, [p]),
                                   ("PQgetisnull", i, [p, i, i]), ("PQgetvalue", s, [p, i, i]), ("PQclear", None, [p]),
                                   ("PQfinish", None, [p]), ("PQbackendPID", i, [p])):
            fn = getattr(lib, name)
            fn.restype, fn.argtypes = result, args
        _LIBPQ = lib
    return _LIBPQ


class Connection:
    """One connection, one thread at a time."""

    def __init__(self, url, seconds=10):
        self.lib = _libpq()
        mark = "&" if "?" in url else "?"
        self.conn = self.lib.PQconnectdb(("%s%sconnect_timeout=%d" % (url, mark, seconds)).encode())
        if self.lib.PQstatus(self.conn) != 0:
            text = self.lib.PQerrorMessage(self.conn).decode("utf-8", "replace")
            self.close()
            raise Error(text)
        self.pid = self.lib.PQbackendPID(self.conn)

    def sql(self, text):
        """Runs statements; the rows of the last one as tuples of text or None."""
        r = self.lib.PQexec(self.conn, text.encode())
        try:
            if self.lib.PQresultStatus(r) not in (1, 2):    # PGRES_COMMAND_OK, PGRES_TUPLES_OK
                state = (self.lib.PQresultErrorField(r, ord("C")) or b"").decode() if r else ""
                raise Error((self.lib.PQresultErrorMessage(r) if r else self.lib.PQerrorMessage(self.conn))
                            .decode("utf-8", "replace"), state)
            columns = range(self.lib.PQnfields(r))
            return [tuple(None if self.lib.PQgetisnull(r, row, c) else self.lib.PQgetvalue(r, row, c).decode("utf-8", "replace")
                          for c in columns) for row in range(self.lib.PQntuples(r))]
        finally:
            if r:
                self.lib.PQclear(r)

    def one(self, text):
        """The one value of a statement's answer, as text."""
        rows = self.sql(text)
        return rows[0][0] if rows else None

    def close(self):
        if self.conn:
            self.lib.PQfinish(self.conn)
            self.conn = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect(url, seconds=10):
    return Connection(url, seconds)


def with_database(url, name):
    """The URL with another database."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path="/" + name))


def database_of(url):
    return urllib.parse.urlsplit(url).path.lstrip("/")


def create(url, name=None, template="template0"):
    """An empty database beside the URL's own; its URL."""
    name = name or "t_" + uuid.uuid4().hex[:16]
    with connect(with_database(url, "postgres")) as c:
        c.sql('CREATE DATABASE "%s" TEMPLATE "%s"' % (name, template))
    return with_database(url, name)


def drop(url):
    """Removes a database and whoever is connected to it."""
    with connect(with_database(url, "postgres")) as c:
        c.sql('DROP DATABASE IF EXISTS "%s" WITH (FORCE)' % database_of(url))


# --- clusters -----------------------------------------------------------------------------------------------------

class Cluster:
    """A cluster of its own, started at once.  `settings` go before those above.  Start it in the main thread: the end of
    the thread that started it ends it, too."""

    def __init__(self, settings=None):
        if missing():
            raise Error(missing())
        self.bin, self.account, self.owner = programs(), _account(), os.getpid()
        self.settings = dict(SETTINGS, **(settings or {}))
        self.proc = None
        self.home = tempfile.mkdtemp(prefix="xtrace-pg-", dir=_place())
        atexit.register(self.remove)
        self.data, self.log = os.path.join(self.home, "data"), os.path.join(self.home, "log")
        if self.account:
            os.chown(self.home, self.account.pw_uid, self.account.pw_gid)
        done = subprocess.run([os.path.join(self.bin, "initdb"), "--pgdata", self.data, "--username", USER, "--auth=trust",
                               "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self._as())
        if done.returncode != 0:
            raise Error("initdb: " + done.stdout.decode("utf-8", "replace")[-500:])
        self.port = free_port()
        self.start()

    def _as(self):
        """Arguments of subprocess for a program of the server."""
        args = {"cwd": self.home, "env": {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}}
        if self.account:
            args.update(user=self.account.pw_uid, group=self.account.pw_gid, extra_groups=[])
        return args

    def url(self, database="postgres"):
        return "postgresql://%s@127.0.0.1:%d/%s" % (USER, self.port, database)

    def start(self, seconds=30, wait=True):
        """Starts on the same port as before; waits until it takes connections, unless told otherwise."""
        if self.proc and self.proc.poll() is None:
            return self
        for attempt in range(4):
            argv = [os.path.join(self.bin, "postgres"), "-D", self.data, "-p", str(self.port)]
            for name, value in self.settings.items():
                argv += ["-c", "%s=%s" % (name, value)]
            # SIGQUIT is a server's immediate end.  A group of its own: signals to ours (Ctrl-C, the end of a suite) are for us
            # to pass on.
            with open(self.log, "ab") as log:
                self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                             preexec_fn=dies_with_parent(signal.SIGQUIT), **self._as())
            if not wait:
                return self
            end, why = time.monotonic() + seconds, ""
            while time.monotonic() < end and self.proc.poll() is None:
                try:
                    connect(self.url()).close()
                    return self
                except Error as e:
                    why = str(e)
                time.sleep(0.02)
            if self.proc.poll() is not None and "could not bind" in self.log_text() and attempt < 3 and not self.used():
                self.port = free_port()
                continue
            break
        raise Error("the server did not start: %s %s" % (why, self.log_text()[-600:]))

    def used(self):
        """Has it ever run?  Then others know its port."""
        return "database system is ready" in self.log_text()

    def log_text(self):
        with contextlib.suppress(OSError):
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        return ""

    def processes(self):
        """All of its processes, the first one first."""
        if not self.proc or self.proc.poll() is not None:
            return []
        found = [self.proc.pid]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % pid) as f:
                    if int(f.read().rpartition(")")[2].split()[1]) == self.proc.pid:
                        found.append(int(pid))
        return found

    def signal_all(self, number):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, mode="fast", seconds=30):
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if not self.proc or self.proc.poll() is not None:
            return
        self.proc.send_signal(number)
        try:
            self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Error("the server did not stop") from None

    def kill(self):
        """As when the machine's power goes, but for what the kernel holds."""
        self.signal_all(signal.SIGKILL)
        if self.proc:
            self.proc.wait()

    def freeze(self):
        self.signal_all(signal.SIGSTOP)

    def thaw(self):
        self.signal_all(signal.SIGCONT)

    def create(self, name=None, template="template0"):
        return create(self.url(), name, template)

    def drop(self, url):
        drop(url)

    def sql(self, text, url=None):
        with connect(url or self.url()) as c:
            return c.sql(text)

    def remove(self):
        """Ends it, whatever it does, and removes its files."""
        if os.getpid() != self.owner or not self.home:
            return
        if self.proc and self.proc.poll() is None:
            self.thaw()
            self.proc.send_signal(signal.SIGQUIT)
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
        self.home = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


_SHARED = None


def shared():
    """The URL of the run's cluster; without one (a suite alone) this process starts it and removes it at its end."""
    global _SHARED
    url = os.environ.get("XTRACE_TEST_PG_URL")
    if url:
        return url
    if not _SHARED:
        _SHARED = Cluster()
    return _SHARED.url()


class Database:
    """An empty database in the shared cluster: .url, .sql(text), .one(text); drop() at the end."""

    def __init__(self):
        self.url = create(shared())
        atexit.register(self.drop)

    def sql(self, text):
        with connect(self.url) as c:
            return c.sql(text)

    def one(self, text):
        with connect(self.url) as c:
            return c.one(text)

    def drop(self):
        if self.url:
            url, self.url = self.url, None
            with contextlib.suppress(Error):    # the cluster may be gone already
                drop(url)


def main():
    if sys.argv[1:] != ["serve"]:
        sys.exit("usage: pg.py serve")
    if missing():
        sys.exit(missing())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with Cluster() as cluster:
        print(cluster.url(), flush=True)
        for line in sys.stdin:
            word, *rest = line.split()
            if word in ("stop", "start", "kill", "freeze", "thaw"):
                getattr(cluster, word)(*rest)
                print("ok", flush=True)


if __name__ == "__main__":
    main()
