"""Rows of a suite: steps (requests and what their answers must hold) and the fresh names of a row."""
import collections
import re
import uuid

from checks import ANY, Fail, differ, holds, must, short


def uid():
    return str(uuid.uuid4())


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


def run_step(server, step, names):
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
