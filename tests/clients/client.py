"""What the suites of tests/clients share: real clients from the package registries, against a real server.

Everything that is installed, built or cached goes below `clients/` of the build directory (XTRACE_TEST_BUILD, which
tests/run sets; else a temporary directory): HOME, the caches of pip, npm and cargo, virtual environments, node_modules.
A second run finds it there and only asks the registry whether something newer is out.

    tool("node", (20,))                   path of a program of that version or newer, or Skip
    venv("lf3", ["langfuse>=3,<4"])       python of a virtual environment with the newest of these, or Skip
    npm("js", folder)                     a copy of the folder with its packages installed, or Skip
    run(argv, seconds, ...) -> Ran        bounded; the whole process group is ended at the deadline
    with tap(server) as wire:             a forwarder in front of the server that keeps what went over it: wire.port,
                                          wire.calls() -> [Call(method, path, headers, body, reply)]
    program(T, wire, title, argv, env)    runs a client program: its lines `ok - x`, `not ok - x: why` become tests, and
                                          one test more says that it ended well, printed no error and met no failure

A registry that does not answer within these bounds makes a skip, never a failure and never a hang.
"""
import collections
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

from checks import Fail, Skip, must, short
from wire import Conn

HERE = os.path.dirname(os.path.abspath(__file__))
INSTALL_SECONDS = 240      # one installation, registry and all
PROGRAM_SECONDS = 90       # one client program

Ran = collections.namedtuple("Ran", "rc out err")
Call = collections.namedtuple("Call", "method path headers body reply")


# --- where things are kept ----------------------------------------------------------------------------------------

_temporary = []


def home(*parts):
    """A directory that outlives the run where there is a build directory."""
    build = os.environ.get("XTRACE_TEST_BUILD")
    if not build:
        if not _temporary:
            import tempfile
            _temporary.append(tempfile.TemporaryDirectory(prefix="xtrace-clients-"))
        build = _temporary[0].name
    path = os.path.join(build, "clients", *parts)
    os.makedirs(path, exist_ok=True)
    return path


def environment(more=None):
    """The caller's environment without its settings of ours and with every cache below home()."""
    real = os.path.expanduser("~")
    env = {k: v for k, v in os.environ.items()
           if not re.match(r"XTRACE_|LANGFUSE_|OTEL_|NODE_OPTIONS|PYTHON(PATH|HOME)", k)}
    env.update(HOME=home("home"), XDG_CACHE_HOME=home("cache"), XDG_CONFIG_HOME=home("config"),
               PIP_CACHE_DIR=home("cache", "pip"), npm_config_cache=home("cache", "npm"), CARGO_HOME=home("cargo"),
               PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1", NO_COLOR="1", TZ="Pacific/Chatham",
               NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost", NO_UPDATE_NOTIFIER="1")
    # A mirror or certificate that the user has set for these tools is used, but only read.
    for variable, file in (("npm_config_userconfig", ".npmrc"), ("PIP_CONFIG_FILE", ".config/pip/pip.conf")):
        if variable not in env and os.path.exists(os.path.join(real, file)):
            env[variable] = os.path.join(real, file)
    if "RUSTUP_HOME" not in env and os.path.isdir(os.path.join(real, ".rustup")):
        env["RUSTUP_HOME"] = os.path.join(real, ".rustup")
    env.update(more or {})
    return env


# --- running ------------------------------------------------------------------------------------------------------

def run(argv, seconds, cwd=None, env=None):
    """Ran(rc, out, err); rc is None when it had to be ended."""
    child = subprocess.Popen(argv, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True)
    _running.add(child.pid)
    try:
        out, err = child.communicate(timeout=seconds)
        rc = child.returncode
    except subprocess.TimeoutExpired:
        _end(child.pid)
        out, err = child.communicate()
        rc = None
    finally:
        _running.discard(child.pid)
    return Ran(rc, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


_running = set()           # process groups of run() under way


def _end(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def on_sigterm():
    """A suite that is told to stop ends what it runs first.  Call after Suite()."""
    def stop(*_):
        for group in list(_running):
            _end(group)
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)


def tool(name, least=()):
    """Path of a program that runs and is at least of that version."""
    path = shutil.which(name)
    if not path:
        raise Skip("no %s here" % name)
    got = run([path, "--version"], 20)
    if got.rc != 0:
        raise Skip("%s does not run: %s" % (name, short((got.err or got.out).strip())))
    version = re.search(r"\d+(?:\.\d+)*", got.out)
    if least and (not version or tuple(map(int, version[0].split("."))) < least):
        raise Skip("%s is older than %s: %s" % (name, ".".join(map(str, least)), short(got.out.strip())))
    return path


def last_words(got):
    """The line of a failed installation that says most."""
    lines = [line.strip() for line in (got.err + "\n" + got.out).splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|ERR!|failed|could not|no matching", line, re.I)]
    return short((telling or lines or ["no output"])[-1])


def unreachable(what, got):
    if got.rc is None:
        return Skip("%s: no answer from the registry in time" % what)
    return Skip("%s cannot be installed here: %s" % (what, last_words(got)))


# --- Python -------------------------------------------------------------------------------------------------------

_silent = {}               # the outcome of the first attempt, where a registry gave no answer: it is not asked again


def venv(name, requirements, seconds=INSTALL_SECONDS):
    """The python of a virtual environment that holds the newest packages of `requirements`."""
    path = home("venv", name)
    python = os.path.join(path, "bin", "python")
    if not os.path.exists(os.path.join(path, "pyvenv.cfg")) or not os.path.exists(python):
        got = run([sys.executable, "-m", "venv", "--clear", path], 60)
        if got.rc != 0:
            shutil.rmtree(path, ignore_errors=True)
            raise Skip("no virtual environments here (python3-venv): %s" % last_words(got))
    done = os.path.join(path, "installed.json")
    got = _silent.get("pip") or run(
        [python, "-m", "pip", "install", "--quiet", "--upgrade", "--no-input", "--disable-pip-version-check",
         "--no-compile", "--only-binary", ":all:", "--retries", "1", "--timeout", "15"] + requirements, seconds)
    if got.rc is None or "from versions: none" in got.err:
        _silent["pip"] = got
    if got.rc == 0:
        with open(done, "w") as f:
            json.dump(requirements, f)
    elif not _same(done, requirements):
        raise unreachable(" ".join(requirements), got)
    return python


def _same(path, value):
    """An earlier installation of the same packages is good enough where the registry is away."""
    try:
        with open(path) as f:
            return json.load(f) == value
    except (OSError, ValueError):
        return False


def python_version(python, package):
    got = run([python, "-c", "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))", package], 20)
    must(got.rc == 0, lambda: "%s is not installed: %s" % (package, short(got.err)))
    return got.out.strip()


# --- Node ---------------------------------------------------------------------------------------------------------

def npm(name, folder, seconds=INSTALL_SECONDS):
    """A copy of `folder` (package.json and programs) with its packages in node_modules."""
    tool("node", (20,))
    program = tool("npm")
    path = home("npm", name)
    with open(os.path.join(folder, "package.json")) as f:
        wanted = json.load(f)["dependencies"]
    for file in os.listdir(folder):
        shutil.copy(os.path.join(folder, file), path)
    done = os.path.join(path, "installed.json")
    # npm tries for many minutes where nothing answers, so one small question comes first.
    got = run([program, "view", sorted(wanted)[0], "version", "--fetch-retries=0",
               "--fetch-timeout=20000"], 40, cwd=path)
    # Without a lock file, so that each run takes the newest of the wanted major version.
    if got.rc == 0:
        got = run([program, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save",
                   "--loglevel=error", "--fetch-retries=1", "--fetch-timeout=20000"], seconds, cwd=path)
    if got.rc == 0:
        with open(done, "w") as f:
            json.dump(wanted, f)
    elif not _same(done, wanted):
        raise unreachable(", ".join(sorted(wanted)), got)
    return path


def npm_version(path, package):
    with open(os.path.join(path, "node_modules", package, "package.json")) as f:
        return json.load(f)["version"]


# --- what goes over the wire --------------------------------------------------------------------------------------

class Tap:
    """Forwards connections to a server and keeps both directions, so that a failure can show what was sent."""

    def __init__(self, server):
        self.target = server.port
        self.lock = threading.Lock()
        self.streams = []          # [to the server, from the server] of each connection; guarded by lock
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def _accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = [bytearray(), bytearray()]
            with self.lock:
                self.streams.append(pair)
            for source, sink, kept in ((client, server, pair[0]), (server, client, pair[1])):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, sink, kept), daemon=True).start()

    def _pump(self, source, sink, kept):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                with self.lock:
                    kept += data
                sink.sendall(data)
        except OSError:
            pass
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def calls(self):
        """Every exchange so far, connection by connection; an answer that has not come is None."""
        with self.lock:
            streams = [(bytes(up), bytes(down)) for up, down in self.streams]
        out = []
        for up, down in streams:
            requests = _Kept(up).requests()
            answers = _Kept(down)
            for method, path, headers, body in requests:
                out.append(Call(method, path, headers, body, answers.answer(method == "HEAD")))
        return out

    def close(self):
        self.socket.close()


class _Kept(Conn):
    """Reads messages from kept bytes instead of a socket."""

    def __init__(self, data):
        self.data = data

    def _more(self):
        return False

    def _take(self, n):
        if len(self.data) < n:
            raise ConnectionError("cut off")
        out, self.data = self.data[:n], self.data[n:]
        return out

    def answer(self, head):
        try:
            return self.reply(head)
        except (ConnectionError, Fail):
            return None

    def requests(self):
        out = []
        try:
            while self.data:
                method, path, _ = self._line().split(" ", 2)
                headers = []
                while True:
                    line = self._line()
                    if not line:
                        break
                    name, _, value = line.partition(":")
                    headers.append((name.lower(), value.strip()))
                fields = dict(headers)
                if fields.get("transfer-encoding", "").lower() == "chunked":
                    parts = []
                    while True:
                        size = int(self._line().split(";")[0], 16)
                        if not size:
                            break
                        parts.append(self._take(size))
                        self._line()
                    while self._line():
                        pass
                    body = b"".join(parts)
                else:
                    body = self._take(int(fields.get("content-length", 0)))
                out.append((method, path, fields, body))
        except (ConnectionError, ValueError):
            pass
        return out


@contextlib.contextmanager
def tap(server):
    wire = Tap(server)
    try:
        yield wire
    finally:
        wire.close()


def shown(call):
    """One exchange in a line, without credentials."""
    fields = {k: v for k, v in call.headers.items()
              if k in ("content-type", "content-encoding", "user-agent", "accept")}
    return "%s %s %s, body %d bytes %s -> %s" % (call.method, call.path, fields, len(call.body),
                                                 short(repr(call.body[:200])), call.reply)


def refused(wire, allowed=()):
    """Exchanges that were answered with an error, or not at all."""
    def fine(c):
        return c.reply is not None and (c.reply.status < 400 or any(
            c.reply.status == status and re.fullmatch(path, c.path.split("?")[0]) for status, path in allowed))
    return [c for c in wire.calls() if not fine(c)]


def sent(wire, path, **headers):
    """The exchanges of one path whose headers contain these values; at least one."""
    found = [c for c in wire.calls() if c.path.split("?")[0] == path and
             all(v in c.headers.get(k.replace("_", "-"), "") for k, v in headers.items())]
    must(found, lambda: "no request to %s with %s; there were: %s" % (
        path, headers, "; ".join(shown(c) for c in wire.calls()) or "none"))
    return found


# --- client programs ----------------------------------------------------------------------------------------------

def program(T, wire, title, argv, env=None, cwd=None, seconds=PROGRAM_SECONDS, allowed=(), quiet=()):
    """Runs a client program and reports its tests.  Returns the facts it printed as `fact NAME JSON`.

    `allowed`: (status, expression of the path) of errors that the program provokes; `quiet`:
    expressions of stderr lines that are no error.
    """
    facts = {}
    before = len(wire.calls())

    @T.case(title + ": its program ends well, prints no error, meets no refusal")
    def _():
        got = run(argv, seconds * T.slow, cwd, env)
        for line in got.out.splitlines():
            m = re.match(r"fact (\S+) (.*)$", line)
            if m:
                facts[m[1]] = json.loads(m[2])
                continue
            m = re.match(r"(ok|not ok) - (.*?)(?:: (.*))?$", line)
            if m and T.wanted(title + ": " + m[2]):
                T.report(m[1], title + ": " + m[2], m[3] or "")
        wrong = refused(wire, allowed)
        on_wire = "; on the wire: " + "; ".join(shown(c) for c in wrong[:3]) if wrong else ""
        must(got.rc is not None,
             lambda: "ended after %d s; stderr: %s%s" % (seconds, short(got.err[-600:], 600), on_wire))
        noise = [line for line in got.err.splitlines() if line.strip() and not any(re.search(q, line) for q in quiet)]
        must(not noise, lambda: "it printed: %s%s" % (short(" | ".join(noise), 900), on_wire))
        must(got.rc == 0, lambda: "exit %s; stdout: %s%s" % (got.rc, short(got.out[-400:]), on_wire))
        must(not wrong, on_wire)
        must(len(wire.calls()) > before, "it sent nothing")
    return facts
