"""Clients that write, and what the store must hold afterwards.

    clients = Clients(server, "run-1", seed)       # 8 threads write until stop() or until the server is gone
    clients.stop()
    problems = check(server, clients.facts, acknowledged)       # [] or texts

A write is one request.  It carries X-Request-Id, so that a journal of the server's answers can say which were
acknowledged.  What a write must leave is known exactly:

  Trace (native batch or OTLP JSON)  a list of writes.  Each brings observations of its own, replaces the trace's output
          (native) and the output of the first observation.  A write that was acknowledged is there, whole; one without
          an answer is there whole or not at all; what is replaced shows the last write that is there.
          A native write also moves the trace to another session, name and run; whatever a detail says must be what the lists
          by user, session, tag, name and run say (check_lists).
  Points (metrics batch)  a client's points carry its label; their sum is that of the acknowledged requests plus that of
          some of those without an answer.  Clients never send a request twice.
"""
import collections
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from xt import *

BATCH, OTLP, METRICS = "/v1/l/batch", "/v1/traces", "/v1/metrics/batch"
DATE = "2026-02-12"       # of points, where nothing else is said
DAY = DATE + "T%02d:%02d:%02dZ"
RANGE = "from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z&step=1d"

# One request.  `brings`: {observation id: output}, its own alone; `total`: sum of its points; answer: 0 none yet, the
# status, -1: the connection ended first.
# place: session and name of the trace from this write on.
Write = collections.namedtuple("Write", "rid brings total state place")


class State:
    __slots__ = ("answer",)

    def __init__(self):
        self.answer = 0


class Trace:
    """`shared`: the observation that every write replaces."""
    def __init__(self, id, native, user):
        self.id, self.native, self.user, self.writes, self.shared = id, native, user, [], None

    def output(self, n):
        return "trace output of " + self.writes[n].rid


class Points:
    def __init__(self, metric, label, day):
        self.metric, self.label, self.day, self.writes = metric, label, day, []


class Clients:
    """Threads that write.  `big`: bytes an observation's payload may have; `mix`: weights of new native traces, updates,
    OTLP traces and points; `day`: of the points."""

    def __init__(self, server, run, seed, n=8, big=3000, observations=4, mix=(50, 20, 15, 15), day=DATE):
        self.server, self.run, self.over, self.lock = server, run, threading.Event(), threading.Lock()
        self.facts, self.odd, self.slowest, self.acked, self.sent, self.refused = [], [], 0.0, 0, 0, [0] * n
        self.load = Load()
        self.big, self.observations, self.mix, self.day = big, observations, mix, day
        self.noise = random.Random(seed).randbytes(1 << 16).hex()       # compresses to half
        self.port = server.port
        self.threads = [threading.Thread(target=self._work, args=(i, random.Random("%s %d" % (seed, i))), daemon=True)
                        for i in range(n)]
        for t in self.threads:
            t.start()

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(30)
            must(not t.is_alive(), "a client hangs")

    def wait_refused(self, seconds):
        """Until each client has been told to retry once more: what it gets after that was asked for after this call."""
        before = list(self.refused)
        wait(lambda: self.odd or all(a > b for a, b in zip(self.refused, before)), seconds, "each client to be told to retry")

    def late(self, most):
        """Did an answer take longer?  `most`: seconds on a machine of our own."""
        return self.slowest > most * self.load.factor()

    def writes(self):
        return [w for f in self.facts for w in f.writes]

    def _pad(self, rng):
        n = rng.choice((0, 40, 400, self.big))
        at = rng.randrange(len(self.noise))
        return (self.noise[at:] + self.noise)[:n]

    def _work(self, i, rng):
        mine, points, number, conn = [], Points("m-" + self.run, "c%d" % i, self.day), 0, None
        with self.lock:
            self.facts.append(points)
        try:
            conn = Conn(self.port, 30)
            while not self.over.is_set():
                number += 1
                rid = "%s-c%d-%d" % (self.run, i, number)
                fact, write, path, body = self._make(rid, rng, mine, points)
                with self.lock:
                    if not fact.writes and fact is not points:
                        self.facts.append(fact)
                    fact.writes.append(write)
                    self.sent += 1
                write.state.answer = -1
                r = conn.request("POST", path, body, auth=BEARER, headers=[("X-Request-Id", rid)])
                write.state.answer = r.status
                with self.lock:
                    self._note(r, path, i)
        except OSError:
            pass                            # the server is gone, as intended
        except AssertionError as e:
            with self.lock:
                self.odd.append(str(e))
        finally:
            if conn:
                conn.close()

    def _note(self, r, path, i):
        self.slowest = max(self.slowest, r.seconds)
        if r.status == 200:
            self.acked += 1
        elif r.status in (429, 503) and r.h("retry-after") == "1":
            self.refused[i] += 1
        else:
            self.odd.append("%s answered %r, Retry-After %s" % (path, r, r.h("retry-after")))

    def _make(self, rid, rng, mine, points):
        """The next request: what it changes, the write, path, body."""
        kind = rng.choices(("new", "update", "otlp", "points"), self.mix)[0]
        if kind == "points":
            n = rng.choice((1, 3, 50))
            values = [rng.randrange(1, 1000) for _ in range(n)]
            body = {"metrics": [{"name": points.metric, "value": v, "timestamp": "%sT%02d:%02d:%02dZ" % (self.day, v % 24, v % 60, v % 59),
                                 "labels": {"w": points.label, **({"once": rid} if v % 3 == 0 else {})}} for v in values]}
            return points, Write(rid, {}, sum(values), State(), None), METRICS, body
        if kind == "update" and mine:
            trace = rng.choice(mine)
        else:
            trace = Trace(otlp.new_trace() if kind == "otlp" else uid(), kind != "otlp", "u-" + self.run)
            mine.append(trace)
        if trace.native:
            return self._native(trace, rid, rng)
        return self._otlp(trace, rid, rng)

    def _native(self, trace, rid, rng):
        brings = {uid(): "own %s %s" % (rid, self._pad(rng)) for _ in range(rng.randrange(1, self.observations + 1))}
        place = ("s%d-%s" % (rng.randrange(5), self.run), "n%d-%s" % (rng.randrange(3), self.run))
        head = {"id": trace.id, "output": "trace output of " + rid, "sessionId": place[0], "name": place[1],
                "metadata": {"run_id": "k%d-%s" % (rng.randrange(4), self.run)}}
        if not trace.writes:
            head.update(userId=trace.user, input={"q": self._pad(rng)}, tags=["t%d-%s" % (rng.randrange(2), self.run), trace.user])
            trace.shared = uid()
        observations = [{"id": o, "traceId": trace.id, "output": text, "type": "SPAN"} for o, text in brings.items()]
        observations.append({"id": trace.shared, "traceId": trace.id, "output": "shared " + rid, "type": "GENERATION",
                             "model": "gpt", "promptTokens": 1, "completionTokens": 2, "totalTokens": 3})
        return trace, Write(rid, brings, 0, State(), place), BATCH, {"trace": head, "observations": observations}

    def _otlp(self, trace, rid, rng):
        if not trace.writes:
            trace.shared = otlp.new_span()
        brings = {otlp.new_span(): "own %s %s" % (rid, self._pad(rng)) for _ in range(rng.randrange(1, self.observations + 1))}
        now = time.time_ns()
        spans = [{"trace": trace.id, "span": o, "name": "crash", "start": now, "end": now + 1000, "parent": trace.shared,
                  "attrs": {"langfuse.observation.output": text, "user.id": trace.user, "session.id": "so-" + self.run}} for o, text in brings.items()]
        spans.append({"trace": trace.id, "span": trace.shared, "name": "crash", "start": now, "end": now + 2000,
                      "attrs": {"langfuse.observation.output": "shared " + rid, "langfuse.trace.name": "no-" + self.run}})
        return trace, Write(rid, brings, 0, State(), None), OTLP, otlp.request_json(spans)


def answered(write):
    """The usual `acknowledged`: True, None where it may or may not be there (False: it cannot be)."""
    return True if write.state.answer == 200 else None


# --- checking -----------------------------------------------------------------------------------------------------

def check_trace(fact, got, acknowledged):
    """What is wrong with the trace as it was read (None: 404); None if nothing."""
    wanted = [acknowledged(w) for w in fact.writes]
    if got is None:
        return "trace %s: %d acknowledged writes, and it is gone" % (fact.id, wanted.count(True)) if True in wanted else None
    have = {o["id"]: o["output"] for o in got["observations"]}
    last = None
    for n, w in enumerate(fact.writes):
        there = [o for o in w.brings if o in have]
        if there and wanted[n] is False:
            return "trace %s, write %s: it is there before it was sent" % (fact.id, w.rid)
        if len(there) != len(w.brings) and (there or wanted[n]):
            return "trace %s, write %s (%s): %d of its %d observations are there" % (
                fact.id, w.rid, "acknowledged" if wanted[n] else "no answer", len(there), len(w.brings))
        for o in there:
            if have[o] != w.brings[o]:
                return "trace %s, observation %s of %s: output %.60r (%d bytes), sent %.60r (%d)" % (
                    fact.id, o, w.rid, have[o], len(str(have[o])), w.brings[o], len(w.brings[o]))
        if there:
            last = n
    if last is None:
        return "trace %s: it is there without any of its observations" % fact.id
    if have.get(fact.shared) != "shared " + fact.writes[last].rid:
        return "trace %s: the shared observation says %.60r, last write there is %s" % (
            fact.id, have.get(fact.shared), fact.writes[last].rid)
    if fact.native and got["output"] != fact.output(last):
        return "trace %s: output %.60r, last write there is %s" % (fact.id, got["output"], fact.writes[last].rid)
    if fact.native and (got["sessionId"], got["name"]) != fact.writes[last].place:
        return "trace %s: session %s and name %s, last write there says %s" % (fact.id, got["sessionId"], got["name"], fact.writes[last].place)
    extra = set(have) - {fact.shared} - {o for w in fact.writes for o in w.brings}
    return "trace %s: observations nobody sent: %s" % (fact.id, sorted(extra)[:3]) if extra else None


def possible_sums(writes, acknowledged):
    sums = {sum(w.total for w in writes if acknowledged(w))}
    open_ones = [w for w in writes if acknowledged(w) is None]
    must(len(open_ones) < 15, "%d requests without an answer: more than can be told apart" % len(open_ones))
    for w in open_ones:
        sums |= {s + w.total for s in sums}
    return sums


def read_points(server, metric, day=DATE):
    """{label: sum} of one metric."""
    r = server.request("GET", "/api/public/metrics/query?name=%s&agg=sum&group_by=w&from=%sT00:00:00Z&to=%sT23:59:59Z&step=1d"
                       % (metric, day, day), timeout=30)
    must(r.status == 200, "metrics query answered %r" % r)
    return {s["labels"]["w"]: sum(v["value"] for v in s["values"]) for s in r.json["data"]}


def check_points(server, facts, acknowledged):
    problems = []
    for metric in sorted({f.metric for f in facts}):
        have = read_points(server, metric, next(f.day for f in facts if f.metric == metric))
        for f in facts:
            if f.metric == metric:
                sums = possible_sums(f.writes, acknowledged)
                if have.get(f.label, 0) not in sums:
                    problems.append("metric %s of %s: sum %s, possible: %s" % (metric, f.label, have.get(f.label), sorted(sums)[:8]))
    return problems


def read_ids(server, query):
    """Ids of all pages of a list, and its totalItems."""
    ids, page, total = [], 1, None
    with server.conn(30) as c:
        while total is None or (page - 1) * 200 < total:
            r = c.request("GET", "/api/public/traces?limit=200&page=%d&fields=core&%s" % (page, query), auth=BEARER)
            must(r.status == 200, "list answered %r" % r)
            must(total in (None, r.json["meta"]["totalItems"]), "totalItems changes from page to page of " + query)
            total, page = r.json["meta"]["totalItems"], page + 1
            ids += [t["id"] for t in r.json["data"]]
    return ids, total


def check_lists(server, details):
    """Every user, session, tag, name and run that the details state lists exactly those traces, once each."""
    wanted = collections.defaultdict(set)
    for t in details:
        for key in ("userId", "sessionId", "name", "run_id"):
            if t[key]:
                wanted["%s=%s" % (key, t[key])].add(t["id"])
        for tag in t["tags"]:
            wanted["tags=" + tag].add(t["id"])
    problems = []
    for query, ids in sorted(wanted.items()):
        have, total = read_ids(server, query)
        if len(have) != len(ids) or set(have) != ids or total != len(ids):
            problems.append("list %s: totalItems %d, %d ids, %d different; by their details %d; missing: %s, strange: %s" % (
                query, total, len(have), len(set(have)), len(ids), sorted(ids - set(have))[:3], sorted(set(have) - ids)[:3]))
    return problems


def check_observations(server, details):
    """Some observations by their ids alone."""
    problems = []
    for t in details[:40]:
        for o in t["observations"][:2]:
            r = server.quick("GET", "/api/public/observations/" + o)
            if r.status != 200 or (r.json["id"], r.json["traceId"]) != (o, t["id"]):
                problems.append("observation %s of trace %s: %r" % (o, t["id"], r))
    return problems


def check(server, facts, acknowledged=answered, counts=True, workers=2):
    """Reads everything back.  counts: also the sums of points and the lists (all facts of a run are needed)."""
    problems, details = [], []
    traces = [f for f in facts if isinstance(f, Trace) and f.writes]

    def part(k):
        with server.conn(30) as c:
            for f in traces[k::workers]:
                r = c.request("GET", "/api/public/traces/" + f.id, auth=BEARER)
                must(r.status in (200, 404), "trace %s answered %r" % (f.id, r))
                got = r.json if r.status == 200 else None
                wrong = check_trace(f, got, acknowledged)
                if wrong:
                    problems.append(wrong)
                if got:
                    details.append({k: got[k] for k in ("id", "userId", "sessionId", "name", "tags")})
                    details[-1]["observations"] = [o["id"] for o in got["observations"]]
                    details[-1]["run_id"] = (got["metadata"] or {}).get("run_id")
    threads(workers, part)
    if counts:
        problems += check_points(server, [f for f in facts if isinstance(f, Points)], acknowledged)
        problems += check_lists(server, details) + check_observations(server, details)
    return problems


def preload(suite, name):
    """The environment that puts tests/preload/<name>.c before a server's libc."""
    build = os.path.abspath(os.environ.get("XTRACE_TEST_BUILD") or os.path.dirname(suite.binary))     # servers run elsewhere
    library = os.path.join(build, "tests", "preload", name + ".so")
    if not os.path.exists(library):
        raise Skip("no " + library)
    if suite.slow == 4:
        raise Skip("a preloaded library and the thread sanitizer's runtime do not go together")
    # The address sanitizer's runtime wants to be the first library; behind this one it works as well.
    return {"LD_PRELOAD": library, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}


def deep_check(suite, directory):
    """`xtrace check --deep`: None, or what it said."""
    r = suite.cli("check", "--deep", dir=directory, env={"API_BEARER_TOKEN": TOKEN}, seconds=120)
    return None if r.rc == 0 else "check --deep: exit %d, %s %s" % (r.rc, r.out[-300:], r.err[-300:])
