#!/usr/bin/env python3
"""Several servers on one PostgreSQL database: one schema, each sees what the others acknowledged, one does the upkeep."""
# postgresql
# timeout: 240
import contextlib
import os
import signal
import sys
import threading
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import pg
from xt import *

T = Suite()
if pg.missing():
    T.report("skip", "several servers on one database", pg.missing())
    T.done()
B, M, TRACES, QUERY = "/v1/l/batch", "/v1/metrics/batch", "/api/public/traces", "/api/public/metrics/query"
RANGE = "agg=sum&group_by=&from=2026-02-12T00:00:00Z&to=2026-02-13T00:00:00Z"
QUICK_JOBS = {"XTRACE_RETENTION_FIRST_ROUND": "0", "XTRACE_RETENTION_INTERVAL": "1", "TRACES_RETENTION_DAYS": "30"}


@contextlib.contextmanager
def servers(n, env=None):
    """n servers that share an empty database, not started yet."""
    database = pg.Database()
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(T.server(env, database=database)) for _ in range(n)]


def start_together(group):
    """Starts them at the same moment.  A server ends with the thread that started it: these threads stay."""
    over, failed = [threading.Event() for _ in group], []

    def begin(s, done):
        try:
            s.start()
        except BaseException as e:      # kept for the main thread
            failed.append(e)
        done.set()
        threading.Event().wait()
    for s, done in zip(group, over):
        threading.Thread(target=begin, args=(s, done), daemon=True).start()
    for done in over:
        must(done.wait(30 * T.slow), "a server does not start")
    if failed:
        raise failed[0]


def point(name, value=1, **labels):
    return {"name": name, "labels": labels, "value": value, "timestamp": "2026-02-12T10:00:00Z"}


def total(s, name):
    """The sum of a metric's points, as this server sees them."""
    data = s.get("%s?name=%s&%s" % (QUERY, name, RANGE), timeout=20).json["data"]
    return data[0]["values"][0]["value"] if data else 0


def sound(s):
    """The deep check of the store finds nothing."""
    r = T.cli("check", "--deep", dir=s.dir, seconds=60)
    must(r.rc == 0, lambda: "check --deep: %s %s" % (r.rc, r.out[-600:] + r.err[-300:]))


def client(s, over, bodies, acked):
    """Sends bodies over one connection until it is told to end; acked(body) after each 200.  What is neither 200 nor a
    refusal that says when to retry is an error; a server that goes away ends it."""
    conn = None
    for path, body in bodies:
        while not over.is_set():
            try:
                conn = conn or Conn(s._port, 30)
                r = conn.request("POST", path, body, auth=BEARER)
            except OSError:
                return
            if r.status == 200:
                acked(body)
                break
            must(r.status in (429, 503) and r.h("retry-after"), lambda: "%s: %r" % (path, r))
            time.sleep(0.02)
        if over.is_set():
            break
    if conn:
        conn.close()


def run(fns):
    """Each function in a thread of its own; the first exception is raised."""
    failed = []

    def guarded(fn):
        try:
            fn()
        except BaseException as e:      # kept for the main thread
            failed.append(e)
    all = [threading.Thread(target=guarded, args=(fn,), daemon=True) for fn in fns]
    for t in all:
        t.start()
    return all, failed


def join(all, failed, seconds=60):
    end = time.monotonic() + seconds * T.slow
    for t in all:
        t.join(max(0.1, end - time.monotonic()))
    if failed:
        raise failed[0]
    must(not any(t.is_alive() for t in all), "a client hangs")


with servers(3) as group:
    a, b, c = group

    @T.case("three servers started at the same moment on an empty database make one schema and serve")
    def _():
        start_together(group)
        for s in group:
            s.batch({"id": uid()})
            assert s.get("/readyz", auth=None).status == 200
        assert a.sql("SELECT count(*) FROM {project} WHERE name = 'default'") == [("1",)]
        assert len(a.get(TRACES).json["data"]) == 3

    @T.case("what one acknowledged is there at the next request to another: traces, observations, lists, totals")
    def _():
        for i in range(40):
            one, other, t, o = group[i % 3], group[(i + 1) % 3], uid(), uid()
            one.batch({"id": t, "name": "n%d" % i, "sessionId": "s-%d" % (i // 4)}, [{"id": o, "traceId": t}])
            holds({"name": "n%d" % i, "observations": [{"id": o}]}, other.trace(t))
            r = other.quick("GET", TRACES + "?sessionId=s-%d" % (i // 4)).json
            assert r["meta"]["totalItems"] == i % 4 + 1 and t in [x["id"] for x in r["data"]], r["meta"]
            other.batch({"id": t, "userId": "u"}, [{"id": o, "traceId": t, "name": "later"}])
            holds({"userId": "u", "name": "n%d" % i, "observations": [{"id": o, "name": "later"}]}, one.trace(t))

    @T.case("likewise points: each server's count for all, at once")
    def _():
        name, sent = "m-" + uid(), 0
        for i in range(60):
            one, other = group[i % 3], group[(i + 1 + i // 3 % 2) % 3]
            assert one.post(M, {"metrics": [point(name, 2 ** (i % 7), server=str(i % 3), id=str(i % 5))]}).status == 200
            sent += 2 ** (i % 7)
            assert total(other, name) == sent, (i, total(other, name), sent)
        assert name in b.get("/api/public/metrics/names").text

    @T.case("a key made beside them works on each, and is refused by each when it was revoked")
    def _():
        made = T.cli("keys", "create", "--project", "p", "--rights", "read", dir=a.dir)
        assert made.rc == 0, made
        line = lambda name: next(l.split(": ")[1] for l in made.out.splitlines() if l.startswith(name + ": "))
        number, public, secret = line("id"), line("public key"), line("secret key")
        for s in group:
            wait(lambda: s.get(TRACES, auth=(public, secret)).status == 200, 5 * T.slow, "the key to work")
        assert T.cli("keys", "revoke", number, dir=b.dir).rc == 0
        for s in group:
            wait(lambda: s.get(TRACES, auth=(public, secret)).status == 401, 5 * T.slow, "the key to be refused")

    @T.case("two servers hammer the same 100 traces: no deadlock, nothing lost, nothing twice")
    def _():
        ids, rounds = [uid() for _ in range(100)], 12 if T.sanitized else 25
        shared, lock, acked = uid(), threading.Lock(), {}

        def bodies(worker):
            """Each time all traces, in an order of this worker's own: an observation of its own, and one that all share."""
            for r in range(rounds):
                order = [ids[(i * (1, 3, 7, 9, 11, 13)[worker] + r * 13) % 100] for i in range(100)]
                yield B, {"trace": {"id": order[0], "tags": ["w%d" % worker]}, "observations":
                          [{"id": uid(), "traceId": t, "calculatedTotalCost": 0.25, "model": "m"} for t in order] +
                          [{"id": shared, "traceId": t, "name": "w%d-%d" % (worker, r)} for t in order]}

        def done(body):
            with lock:
                for o in body["observations"]:
                    acked.setdefault(o["traceId"], set()).add(o["id"])
        over = threading.Event()
        join(*run([lambda w=w: client((a, b)[w % 2], over, bodies(w), done) for w in range(6)]), seconds=90)
        assert a.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [("0",)], "deadlocks"
        assert len(acked) == 100
        for i, t in enumerate(ids):
            got = (a, b, c)[i % 3].trace(t)
            have = [o["id"] for o in got["observations"]]
            assert len(have) == len(set(have)) and set(have) == acked[t], (len(have), len(acked[t]))
            assert got["totalCost"] == 0.25 * (len(have) - 1), got["totalCost"]
        sound(a)

    @T.case("what was acknowledged before a question is in its answer, whoever is asked, while both write")
    def _():
        name, lock, acked, over = "m-" + uid(), threading.Lock(), [0], threading.Event()

        def bodies(worker):
            for i in range(100000):
                yield M, {"metrics": [point(name, 1, w=str(worker), i=str(i % 17)) for _ in range(1 + i % 30)]}

        def done(body):
            with lock:
                acked[0] += len(body["metrics"])
        clients = run([lambda w=w: client(group[w % 2], over, bodies(w), done) for w in range(4)])
        try:
            end, asked = time.monotonic() + (20 if T.long else 4), 0
            while time.monotonic() < end:
                with lock:
                    least = acked[0]
                got = total(group[asked % 3], name)
                assert got >= least, "%d acknowledged, server %d says %d" % (least, asked % 3, got)
                asked += 1
        finally:
            over.set()
        join(*clients)
        assert asked > 20 and acked[0] > 0, (asked, acked)
        assert [total(s, name) for s in group] == [acked[0]] * 3, acked

with servers(2, QUICK_JOBS) as pair:
    def old_trace_goes(s):
        """Retention runs, whoever does it: a trace that is made old is gone after a while."""
        t = uid()
        s.batch({"id": t, "name": "old"})
        s.sql("UPDATE {trace} SET created = 1 WHERE tseq = (SELECT max(tseq) FROM {trace} WHERE name = 'old')")
        wait(lambda: s.get("%s/%s" % (TRACES, t)).status == 404, 40 * T.slow, "the old trace to go")

    @T.case("one is killed -9 under load: the other has all that was acknowledged, and takes over the upkeep")
    def _():
        start_together(pair)
        old_trace_goes(pair[0])
        for victim in (0, 1):
            dying, living = pair[victim], pair[1 - victim]
            name, lock, over, traces, points = "m-" + uid(), threading.Lock(), threading.Event(), [], [0]

            def bodies(worker):
                for i in range(100000):
                    t = uid()
                    yield B, {"trace": {"id": t}, "observations": [{"id": uid(), "traceId": t}]}
                    yield M, {"metrics": [point(name, 1, w=str(worker), i=str(i % 17))]}

            def done(body):
                with lock:
                    if "metrics" in body:
                        points[0] += 1
                    else:
                        traces.append((body["trace"]["id"], body["observations"][0]["id"]))
            clients = run([lambda w=w: client(dying, over, bodies(w), done) for w in range(4)])
            wait(lambda: len(traces) > 100 and points[0] > 100, 20 * T.slow, "acknowledgements")
            dying.kill()
            over.set()
            join(*clients)
            for t, o in traces:
                holds({"observations": [{"id": o}]}, living.trace(t))
            have = total(living, name)
            assert points[0] <= have <= points[0] + 4, (points, have)      # an answer may be lost on its way
            old_trace_goes(living)
            dying.start()
            assert total(dying, name) == have
            old_trace_goes(dying)
        sound(pair[0])

    @T.case("one after the other is restarted under load: clients lose nothing, each finds everything afterwards")
    def _():
        name, lock, over, points = "m-" + uid(), threading.Lock(), threading.Event(), [0]
        start_together(pair)

        def done(body):
            with lock:
                points[0] += len(body["metrics"])

        def write(worker):
            while not over.is_set():
                s = pair[worker % 2]
                try:
                    client(s, over, ((M, {"metrics": [point(name, 1, w=str(worker), i=str(i % 5))]}) for i in range(100000)), done)
                except AssertionError:      # an answer cut short at the end of a server
                    pass
                time.sleep(0.02)
        clients = run([lambda w=w: write(w) for w in range(4)])
        for s in pair * 2:
            n = points[0]
            wait(lambda: points[0] > n + 50, 20 * T.slow, "acknowledgements")
            s.restart()
        over.set()
        join(*clients)
        have = [total(s, name) for s in pair]
        assert have[0] == have[1] and points[0] <= have[0] <= points[0] + 16, (points, have)
        sound(pair[0])

T.done()
