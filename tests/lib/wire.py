"""The HTTP client: requests as bytes, answers, raw connections."""
import base64
import json
import re
import select
import socket
import ssl
import struct
import time

from checks import Fail, must, short


def bearer(token):
    return "Bearer " + token


def basic(user, password):
    return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()


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
