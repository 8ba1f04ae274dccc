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
(T.sanitized) deadlines, the server's for commits and queries too, are three or four times longer and bounds of memory are not checked.  XTRACE_TEST_LONG=1 asks for
the long forms of slow tests (T.long).
"""
import atexit
import base64
import collections
import concurrent.futures
import contextlib
import ctypes
import ctypes.util
import datetime
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import pg

__all__ = """Suite Server Conn Reply Skip Fail Result get post req Exact Raw Hdr Like ANY err uid wait threads differ
             holds must bearer basic now iso zstd_raw zstd_rle unzstd encode_request locked Load TOKEN PK SK BEARER KEYS
             TRACE_KEYS OBSERVATION_KEYS""".split()

TOKEN, PK, SK = "tok-secret-123", "pk", "sk"
KEYS = (PK, SK)
BEARER = "Bearer " + TOKEN

TRACE_KEYS = """id timestamp name input output sessionId release version userId metadata tags public projectId externalId
    bookmarked environment htmlPath latency totalCost createdAt updatedAt observations scores""".split()
OBSERVATION_KEYS = """id traceId type name startTime endTime completionStartTime model modelParameters input version
    metadata output usage level statusMessage parentObservationId promptId promptName promptVersion modelId inputPrice
    outputPrice totalPrice calculatedInputCost calculatedOutputCost calculatedTotalCost latency timeToFirstToken
    promptTokens completionTokens totalTokens usageDetails costDetails environment""".split()


class Fail(AssertionError):
    """A check that did not hold."""


class Skip(Exception):
    """The test cannot be made here; the text says why."""


def must(condition, why):
    if not condition:
        raise Fail(why() if callable(why) else str(why))


def uid():
    return str(uuid.uuid4())


def bearer(token):
    return "Bearer " + token


def basic(user, password):
    return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def iso(text):
    """The time a text of the API means."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def short(value, most=300):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else text[:most] + "... (%d)" % len(text)


def wait(fn, seconds=5.0, what="", pause=0.02):
    """Calls fn until it returns something true; AssertionErrors count as not yet.  `seconds`: on a machine of our own."""
    begin, last, load = time.monotonic(), None, None
    while True:
        try:
            got = fn()
            if got:
                return got
        except AssertionError as e:
            last = e
        load = load or Load()
        spent = time.monotonic() - begin
        if spent > seconds and spent > seconds * load.factor():
            raise Fail("not within %.1f s: %s%s" % (spent, what, " (%s)" % last if last else ""))
        time.sleep(pause)


def threads(n, fn):
    """fn(0)..fn(n-1) at the same time; their results in order, the first exception raised."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(fn, range(n)))


class Load:
    """What share of our processors others have used since this was made: other programs, other machines on the same
    one.  A bound of time that holds on a machine of our own is multiplied by factor()."""

    def __init__(self):
        self.cpus = os.sched_getaffinity(0)
        self.begin = self._read()

    def _read(self):
        """(all, busy, ours) in ticks; ours: this session's processes, which tests/run starts for each suite."""
        total, busy, ours, session = 0, 0, 0, str(os.getsid(0))
        with open("/proc/stat") as f:
            for line in f:
                m = re.match(r"cpu(\d+) (.*)", line)
                if m and int(m[1]) in self.cpus:
                    user, nice, system, idle, iowait, *more = map(int, m[2].split())
                    used = user + nice + system + sum(more[:3])     # interrupts, and what the host took
                    total, busy = total + used + idle + iowait, busy + used
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as f:
                    words = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if words[3] == session:
                ours += sum(map(int, words[11:15]))
        return total, busy, ours

    def factor(self):
        total, busy, ours = (b - a for a, b in zip(self.begin, self._read()))
        others = (busy - ours) / total if total > 0 else 0
        return 1 / (1 - min(0.9, max(0.0, others)))


# --- comparing JSON -----------------------------------------------------------------------------------------------

class _Any:
    def __repr__(self):
        return "ANY"


ANY = _Any()


class Like:
    """In expected JSON: a string the expression matches as a whole."""
    def __init__(self, pattern):
        self.pattern = pattern

    def __call__(self, value):
        return isinstance(value, str) and re.fullmatch(self.pattern, value, re.S) is not None

    def __repr__(self):
        return "Like(%r)" % self.pattern


def differ(want, got, exact=False, at=""):
    """The first difference as text, or None.  Objects may hold more than wanted unless exact; lists may not."""
    if want is ANY:
        return None
    if callable(want):
        return None if want(got) else "%s: %s does not satisfy %r" % (at or "value", short(got), want)
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return "%s: wanted an object, got %s" % (at or "value", short(got))
        for key in want:
            if key not in got:
                return "%s.%s: missing" % (at, key)
            found = differ(want[key], got[key], exact, "%s.%s" % (at, key))
            if found:
                return found
        more = [k for k in got if k not in want]
        return "%s: unexpected keys %s" % (at, more) if exact and more else None
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return "%s: wanted %s, got %s" % (at or "value", short(want), short(got))
        for i, (w, g) in enumerate(zip(want, got)):
            found = differ(w, g, exact, "%s[%d]" % (at, i))
            if found:
                return found
        return None
    same = want == got and isinstance(want, bool) == isinstance(got, bool)
    return None if same else "%s: wanted %s, got %s" % (at or "value", short(want), short(got))


def holds(want, got):
    """Raises unless `got` holds `want`."""
    found = differ(want, got)
    must(not found, found)
    return True


# --- HTTP ---------------------------------------------------------------------------------------------------------

class Reply:
    def __init__(self, status, reason, headers, body, interim=()):
        self.status, self.reason, self.headers, self.body = status, reason, headers, body
        self.interim = list(interim)            # statuses of 1xx answers that came before
        self.seconds, self.early = 0.0, False   # early: answered before the request was sent to its end

    def h(self, name):
        """The first header of that name, or None."""
        return next(iter(self.all(name)), None)

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError as e:
            raise Fail("answer %d is no JSON (%s): %s" % (self.status, e, short(self.text))) from None

    def __repr__(self):
        return "%d %s" % (self.status, short(self.text))


def encode_request(method, path, body=None, auth=None, headers=(), ct="application/json", chunked=False, close=False):
    """The bytes of one request.  `path` is sent as it is."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body, ensure_ascii=False)
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if isinstance(auth, tuple):
        auth = basic(*auth)
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: localhost"]
    if auth is not None:
        lines.append("Authorization: " + auth)
    if body is not None and ct is not None:
        lines.append("Content-Type: " + ct)
    if close:
        lines.append("Connection: close")
    lines += ["%s: %s" % (n, v) for n, v in headers]
    if body is not None:
        lines.append("Transfer-Encoding: chunked" if chunked else "Content-Length: %d" % len(body))
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if body is None:
        return head
    if not chunked:
        return head + body
    size = chunked if isinstance(chunked, int) and chunked > 1 else 65536
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


class Conn:
    """One raw connection.  `rcvbuf` makes the receive buffer small, for clients that do not read; `tls`: a context."""

    def __init__(self, port, timeout=10.0, rcvbuf=None, tls=None):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", port))
        if tls:
            self.sock = tls.wrap_socket(self.sock)
        self.data = b""

    def send(self, data):
        self.sock.sendall(data)

    def _more(self):
        got = self.sock.recv(262144)
        self.data += got
        return bool(got)

    def _line(self):
        while b"\n" not in self.data:
            must(len(self.data) < 1 << 20, "endless header line")
            if not self._more():
                raise ConnectionError("closed before the answer was complete: %r" % self.data[:80])
        line, self.data = self.data.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")

    def _take(self, n):
        parts, have = [self.data], len(self.data)
        while have < n:
            got = self.sock.recv(min(262144, max(n - have, 4096)))
            if not got:
                raise ConnectionError("closed in the body, %d of %d bytes" % (have, n))
            parts.append(got)
            have += len(got)
        whole = b"".join(parts)
        self.data = whole[n:]
        return whole[:n]

    def _head(self):
        line = self._line()
        m = re.fullmatch(r"HTTP/1\.[01] (\d{3})(?: (.*))?", line)
        must(m, lambda: "no status line: %r" % line)
        headers = []
        while True:
            line = self._line()
            if not line:
                return int(m[1]), m[2] or "", headers
            name, colon, value = line.partition(":")
            must(colon and name and name == name.strip(), lambda: "bad header line: %r" % line)
            headers.append((name, value.strip()))

    def reply(self, head=False):
        """The next final answer; 1xx before it are noted in .interim."""
        interim = []
        while True:
            status, reason, headers = self._head()
            if status >= 200:
                break
            interim.append(status)
        must(status != 500, "a 500 was answered")   # whatever was asked: there is no good one
        r = Reply(status, reason, headers, b"", interim)
        length = r.h("content-length")
        if head or status in (204, 304):
            pass
        elif (r.h("transfer-encoding") or "").lower() == "chunked":
            parts = []
            while True:
                size = int(self._line().split(";")[0], 16)
                if size == 0:
                    break
                parts.append(self._take(size))
                must(self._line() == "", "no line end after a chunk")
            while self._line():
                pass
            r.body = b"".join(parts)
        elif length is not None:
            r.body = self._take(int(length))
        else:
            while self._more():
                pass
            r.body, self.data = self.data, b""
        return r

    def request(self, method, path, body=None, timeout=None, **opts):
        if timeout:
            self.sock.settimeout(timeout)
        t = time.monotonic()
        early = self._push(encode_request(method, path, body, **opts))
        r = self.reply(head=method == "HEAD")
        r.seconds, r.early = time.monotonic() - t, early
        return r

    def _push(self, data):
        """Sends; an answer that comes before the end stops it (then: True)."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.send(data)
            return False
        view, poll = memoryview(data), select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT)
        while view:
            events = poll.poll((self.sock.gettimeout() or 60) * 1000)
            if not events:
                raise socket.timeout("the peer stopped reading")
            if events[0][1] & ~select.POLLOUT:
                if not self._more():
                    raise ConnectionError("closed while the request was being sent")
                return True
            try:
                view = view[self.sock.send(view[:262144]):]
            except ConnectionError:             # ended since the poll; an answer may have come before that
                if not self._more():
                    raise
                return True
        return False

    def closed(self, seconds):
        """True when the peer closes within that time; what it sends before is kept."""
        end = time.monotonic() + seconds
        try:
            while True:
                self.sock.settimeout(max(0.01, end - time.monotonic()))
                if not self._more():
                    return True
                if time.monotonic() > end:
                    return False
        except socket.timeout:
            return False
        except ConnectionError:
            return True

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- zstd without a zstd module -----------------------------------------------------------------------------------

def _zstd_block(kind, last, size, data):
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + data


def zstd_raw(data):
    """A zstd frame of stored blocks."""
    parts = [data[i:i + 131072] for i in range(0, len(data), 131072)] or [b""]
    blocks = [_zstd_block(0, i == len(parts) - 1, len(p), p) for i, p in enumerate(parts)]
    return b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little") + b"".join(blocks)


def zstd_rle(byte, count, prefix=b"", suffix=b""):
    """A small zstd frame that inflates to prefix + count times 128 KiB of one byte + suffix; no size is declared."""
    blocks = [_zstd_block(0, 0, len(prefix), prefix)] if prefix else []
    blocks += [_zstd_block(1, 0, 131072, byte)] * count
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(blocks) + _zstd_block(0, 1, len(suffix), suffix)


def unzstd(data):
    """Inflates a zstd frame with the system's library."""
    name = ctypes.util.find_library("zstd") or "libzstd.so.1"
    try:
        lib = ctypes.CDLL(name)
    except OSError:
        raise Skip("no libzstd to check with") from None
    lib.ZSTD_decompress.restype = ctypes.c_size_t
    lib.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    out = ctypes.create_string_buffer(64 << 20)
    n = lib.ZSTD_decompress(out, len(out), data, len(data))
    must(n <= len(out), "zstd answer does not inflate")
    return out.raw[:n]


# --- the server process -------------------------------------------------------------------------------------------

Result = collections.namedtuple("Result", "rc out err")


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no server outlives a killed suite


def _free_port():
    """Below the ephemeral range, so no outgoing connection takes it meanwhile."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


SANITIZER = re.compile(r"[^\n]*(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:)[^\n]*")


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
            self._port = _free_port()
            env = base_env(self.home)
            env.update({k: str(v) for k, v in self.env.items() if v is not None})
            env["BIND_ADDR"] = "127.0.0.1:%d" % self._port
            self.starts += 1
            out, errf = open(self._log("out"), "ab"), open(self._log("err"), "ab")
            self.mark = errf.tell()
            with out, errf:
                self.proc = subprocess.Popen([self.binary, "serve"] + self.args, env=env, cwd=self.home, stdout=out,
                                             stderr=errf, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
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


def base_env(home):
    keep = ("PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS", "LD_LIBRARY_PATH")
    env = {k: os.environ[k] for k in keep if k in os.environ}
    env.update(HOME=home, LANG="C.UTF-8", TZ="Pacific/Chatham")     # no answer may depend on the local zone
    return env


# --- rows ---------------------------------------------------------------------------------------------------------

class Exact:
    def __init__(self, value):
        self.value = value


class Raw:
    def __init__(self, text, absent=False):
        self.text, self.absent = text, absent


class Hdr:
    """A header's value: a text, a compiled expression, ANY (present) or None (absent)."""
    def __init__(self, name, value):
        self.name, self.value = name, value


def err(code, prefix=""):
    """An error of the service: {"message", "code"} in this order, as JSON."""
    def check(r):
        must((r.h("content-type") or "").split(";")[0] == "application/json", "content-type %s" % r.h("content-type"))
        body = r.json
        must(isinstance(body, dict) and list(body)[:2] == ["message", "code"], "no error object: %s" % short(r.text))
        must(body["code"] == code, "code %s, wanted %s" % (body["code"], code))
        must(isinstance(body["message"], str) and body["message"].startswith(prefix), "message %r" % body["message"])
        must("\n" not in body["message"] and len(body["message"]) < 2000, "unfit message")
        return True
    return check


Step = collections.namedtuple("Step", "method path body status checks opts")


def req(method, path, status=200, *checks, body=None, **opts):
    return Step(method, path, body, status, checks, opts)


def get(path, status=200, *checks, **opts):
    return Step("GET", path, None, status, checks, opts)


def post(path, body, status=200, *checks, **opts):
    return Step("POST", path, body, status, checks, opts)


class Names(dict):
    """The fresh UUIDs of one row: names["A"]; fill() puts them into texts."""
    def __missing__(self, key):
        self[key] = uid()
        return self[key]

    def _one(self, m):
        u = self[m[1]]
        return {None: u, ".hex": u.replace("-", ""), ".up": u.upper(), ".span": u.replace("-", "")[16:]}[m[2]]

    def fill(self, v):
        if isinstance(v, str):
            return re.sub(r"\$([A-Z])(\.hex|\.up|\.span)?(?![A-Za-z])", self._one, v) if "$" in v else v
        if isinstance(v, dict):
            return {self.fill(k): self.fill(x) for k, x in v.items()}
        if isinstance(v, list):
            return [self.fill(x) for x in v]
        if isinstance(v, tuple) and not isinstance(v, Step):
            return tuple(self.fill(x) for x in v)
        return v


def _check(check, r, names):
    if isinstance(check, dict):
        return holds(names.fill(check), r.json)
    if isinstance(check, Exact):
        found = differ(names.fill(check.value), r.json, True)
        return must(not found, found)
    if isinstance(check, (str, bytes)):
        want = names.fill(check).encode() if isinstance(check, str) else check
        return must(r.body == want, "body %s, wanted %s" % (short(r.text), short(want.decode("utf-8", "replace"))))
    if isinstance(check, Raw):
        text = names.fill(check.text)
        return must((text in r.text) != check.absent,
                    "%s in %s" % (text if check.absent else "no " + text, short(r.text, 900)))
    if isinstance(check, Hdr):
        got, want = r.h(check.name), check.value
        good = (got is not None if want is ANY else
                bool(got is not None and want.fullmatch(got)) if hasattr(want, "fullmatch") else got == want)
        return must(good, "header %s: %r, wanted %r" % (check.name, got, want))
    args = (r, names) if getattr(check, "__code__", None) and check.__code__.co_argcount == 2 else (r,)
    got = check(*args)
    return must(got is None or got, "check failed on %s" % short(r.text, 900))


def _step(server, step, names):
    if not isinstance(step, Step):
        step(server, names)
        return
    opts = {k: names.fill(v) for k, v in step.opts.items()}
    call = server.quick if not opts.pop("fresh", False) else server.request
    path, body = names.fill(step.path), names.fill(step.body)
    r = call(step.method, path, body, **opts)
    label = "%s %s %s" % (step.method, short(path, 120), short(body, 160) if body is not None else "")
    wanted = step.status if isinstance(step.status, tuple) else (step.status,)
    must(r.status in wanted, lambda: "%s -> %r, wanted %s" % (label.strip(), r, "/".join(map(str, wanted))))
    for check in step.checks:
        try:
            _check(check, r, names)
        except (AssertionError, KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
            raise Fail("%s: %s%s" % (label.strip(), "" if isinstance(e, Fail) else type(e).__name__ + " ", e)) from None


# --- the suite ----------------------------------------------------------------------------------------------------

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
                    _step(server, step, names)
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
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_die_with_parent)
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
        full = {"XTRACE_DATA_DIR": os.path.join(self.tmp(), "data"), "BIND_ADDR": "127.0.0.1:%d" % _free_port(),
                "API_BEARER_TOKEN": TOKEN}
        full.update(env)
        r = self.cli(*args, env={k: v for k, v in full.items() if v is not None}, seconds=seconds)
        must(r.rc == rc, "exit %s, wanted %s; stderr: %s" % (r.rc, rc, short(r.err)))
        must(text.lower() in r.err.lower(), "stderr lacks %r: %s" % (text, short(r.err)))
        return r
