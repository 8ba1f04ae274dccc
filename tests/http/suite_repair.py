#!/usr/bin/env python3
"""`xtrace check --repair`: each table that follows from the rows is damaged; the check finds it, the repair makes it
anew, and every answer is what it was before."""
# timeout: 180
# store
import os
import shutil
import sqlite3
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import otlp
from xt import *

T = Suite()
TRACES = 60
DAYS = "fromTimestamp=2026-01-01T00:00:00Z&toTimestamp=2026-03-01T00:00:00Z"


def fill(s):
    """Traces over three days, of both protocols, some without a time of their own; some written again."""
    ids = []
    for i in range(TRACES):
        t = {"id": uid(), "name": "n%d" % (i % 4), "userId": "u%d" % (i % 7), "sessionId": "s%d" % (i // 6), "input": {"i": i},
             "tags": ["all", "t%d" % (i % 3)], "environment": ("default", "prod")[i % 2],
             "metadata": {"run_id": "r%d" % (i // 4), "turn_id": i} if i % 2 else {"a": 1}}
        if i % 3:
            t["timestamp"] = "2026-01-%02dT%02d:10:00Z" % (10 + i % 3, i % 24)
        obs = [{"id": uid(), "traceId": t["id"], "type": ("GENERATION", "SPAN")[k % 2], "model": "m%d" % (i % 2), "promptTokens": i,
                "completionTokens": k, "totalTokens": i + k, "calculatedTotalCost": 0.25, "output": "o" * (i * k), "metadata": {"step_id": "s%d" % k},
                "startTime": "2026-01-%02dT03:00:00Z" % (10 + i % 3), "endTime": "2026-01-%02dT03:00:01Z" % (10 + i % 3)}
               for k in range(i % 5)]
        s.batch(t, obs)
        ids.append(t["id"])
        if i % 4 == 0:
            s.batch({"id": t["id"], "name": "renamed", "userId": "mover"})
    trace = otlp.new_trace()
    r = s.post("/v1/traces", otlp.request_json([{"trace": trace, "span": otlp.new_span(), "name": "sp", "start": 1770000000000000000,
                                                 "end": 1770000001000000000, "attrs": {"user.id": "u1"}}]))
    must(r.status == 200, repr(r))
    ids.append(trace)
    points = [{"name": "m", "value": i, "timestamp": "2026-01-10T10:%02d:00Z" % i, "labels": {"k": str(i % 3)}} for i in range(50)]
    must(s.post("/v1/metrics/batch", {"metrics": points}).status == 200, "points")
    return ids


def answers(s, ids):
    """Everything that reads by an index, a rollup or a sum."""
    lists = ["limit=200", "limit=7&page=3", "limit=200&name=renamed", "limit=200&tags=t1", "limit=200&orderBy=latency.asc",
             "limit=200&orderBy=totalCost.desc", "limit=1&" + DAYS]
    lists += ["limit=200&userId=u%d" % i for i in range(7)] + ["userId=mover", "sessionId=s3", "sessionId=none", "run_id=r1", "turn_id=5", "limit=200&step_id=s2"]
    paths = ["/api/public/traces?" + q for q in lists] + ["/api/public/traces/" + i for i in ids]
    paths += ["/api/public/metrics/daily?" + DAYS, "/api/public/metrics/daily?traceName=renamed&" + DAYS,
              "/api/public/metrics/query?name=m&from=2026-01-10T00:00:00Z&to=2026-01-11T00:00:00Z&step=1h&agg=p90&group_by=k"]
    out = {}
    for path in paths:
        r = s.quick("GET", path)
        out[path] = (r.status, r.json)
    return out


def damage(db, *statements):
    c = sqlite3.connect(db, isolation_level=None)
    try:
        for sql in statements:
            c.execute(sql)
    finally:
        c.close()


def has_table(db, name):
    c = sqlite3.connect(db)
    try:
        return c.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0] == 1
    finally:
        c.close()


def lose_index_entries(db, index):
    """The index does not see a change of its table: for so long it says that it holds no row."""
    def schema(sql):
        damage(db, "PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql = '%s' WHERE name = '%s'" % (sql, index))
    c = sqlite3.connect(db)
    was = c.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()[0]
    c.close()
    schema(was + " WHERE 0")
    damage(db, "UPDATE trace SET ts = ts + 1 WHERE tseq % 3 = 0")
    schema(was)


# name, table, statements
DAMAGES = [
    ("a trace's count of observations", "trace", "UPDATE trace SET nobs = nobs + 1 WHERE tseq % 5 = 0"),
    ("first start and last end", "trace", "UPDATE trace SET t0 = 5, t1 = NULL WHERE nobs > 0 AND tseq % 2 = 0"),
    ("costs of traces", "trace", "UPDATE trace SET ocost_lo = ocost_lo + 1, ocost_n = 0 WHERE tseq % 7 = 3"),
    ("a time that does not follow from its source", "trace", "UPDATE trace SET ts = ts + 7200000000000 WHERE ts_source < 2"),
    ("sums by model that are wrong", "trace_model", "UPDATE trace_model SET in_lo = in_lo + 1, n = n + 1"),
    ("sums by model that are missing", "trace_model", "DELETE FROM trace_model WHERE tseq % 2 = 0"),
    ("sums of models and traces nobody has", "trace_model",
     "INSERT INTO trace_model SELECT tseq + 1000000, model, n, in_hi, in_lo, out_hi, out_lo, total_hi, total_lo, cost_hi, cost_lo"
     " FROM trace_model", "INSERT INTO trace_model SELECT tseq, '=none', 1, 0, 0, 0, 0, 0, 0, 0, 0 FROM trace"),
    ("rollups of traces", "rollup_trace", "UPDATE rollup_trace SET n = n + 1 WHERE name <> ''"),
    ("rollups of models, all gone", "rollup_model", "DELETE FROM rollup_model"),
    ("counts of traces, and some of no trace", "rollup_count", "UPDATE rollup_count SET n = 1000",
     "INSERT INTO rollup_count VALUES (1, 10, 0, 5)"),
    ("look-ups, a row of the log gone", "ixlog", "DELETE FROM ixlog WHERE seq = (SELECT max(seq) - 1 FROM ixlog)"),
    ("look-ups, a row of the log cut", "ixlog", "UPDATE ixlog SET z = substr(z, 1, length(z) - 1)"),
    ("look-ups, taken for sealed", "ixlog", "UPDATE state SET v = (SELECT max(seq) FROM ixlog) WHERE k = 'ix_sealed'",
     "UPDATE ixrun SET state = 2 WHERE run = (SELECT max(run) FROM ixrun)"),
    ("look-ups, their state", "ixlog", "UPDATE state SET v = 0 WHERE k IN ('ix_version', 'next_run')"),
    ("look-ups, the bits of their hashes", "ixlog", "UPDATE state SET v = 77 WHERE k = 'ix_bits'"),
    ("look-ups, no bits of their hashes", "ixlog", "DELETE FROM state WHERE k = 'ix_bits'"),
    ("look-ups, other bits of their hashes", "ixlog", "UPDATE state SET v = 3 WHERE k = 'ix_bits'"),
    ("generations of samples with numbers that can't be", "mgen",
     "INSERT INTO mgen SELECT v, 0, 1, 1, 1, 5, 4 FROM (SELECT 9223372036854775807 v UNION SELECT -9223372036854775807)"),
    ("turns, runs and steps: missing ones and strays", "record_key", "DELETE FROM record_key WHERE tseq % 2 = 0",
     "UPDATE record_key SET v = x'78' WHERE tseq % 3 = 0"),
    ("turns, runs and steps: some of no record", "record_key", "INSERT INTO record_key VALUES (1, 2, x'6e', 999999, x'')"),
    ("numbers that would be given out again", "state", "UPDATE state SET v = 3 WHERE k IN ('next_tseq', 'next_pid')"),
    ("everything at once", "trace", "UPDATE trace SET nobs = 0, t0 = NULL, t1 = NULL, ocost_n = 0, ocost_lo = 0",
     "DELETE FROM trace_model", "DELETE FROM rollup_trace", "DELETE FROM rollup_model", "DELETE FROM rollup_count"),
]


def copy(home):
    target = os.path.join(T.tmp(), "data")
    shutil.copytree(home, target)
    return target


def check(directory, *words):
    return T.cli("check", *words, dir=directory, env={"API_BEARER_TOKEN": TOKEN})


def repaired_and_the_same(directory, ids, before, word="repaired: "):
    r = check(directory, "--deep")
    must(r.rc == 1 and len(r.out.splitlines()) > 1, "the check found nothing: %s" % (r,))
    r = check(directory, "--repair")
    must(r.rc == 0 and word in r.out and "left: " not in r.out, "repair: %s" % (r,))
    r = check(directory, "--deep")
    must(r.rc == 0, "after the repair: %s" % (r,))
    with T.server(dir=directory) as other:
        now = answers(other, ids)
        for path in before:
            must(now[path] == before[path], lambda: "%s: %s" % (path, differ(before[path][1], now[path][1], True)))
        t, o = uid(), uid()     # and it goes on: numbers are free
        other.batch({"id": t, "name": "later"}, [{"id": o, "traceId": t, "output": "x"}])
        must([x["id"] for x in other.trace(t)["observations"]] == [o], "a new trace is not as written")
        for path in list(before)[-20:]:
            if "/traces/" in path:
                must(other.quick("GET", path).json == before[path][1], path)
        must(other.stop() == 0, "stop")
    r = check(directory, "--deep")
    must(r.rc == 0, "after more was written: %s" % (r,))


with T.server() as s:
    ids = fill(s)
    before = answers(s, ids)

    @T.case("beside a running server it is refused, and nothing changes")
    def _():
        r = check(s.dir, "--repair")
        must(r.rc == 1 and "in use" in r.err, r)
        must(answers(s, ids) == before, "answers changed")

    s.stop()

    @T.case("a sound store is left as it is")
    def _():
        d = copy(s.dir)
        r = check(d, "--repair")
        must(r.rc == 0 and "repaired" not in r.out and r.out.splitlines()[-1] == "ok", r)
        must(check(d, "--deep", "--repair").rc == 0, "with both words")

    @T.case("where there is no store none is made")
    def _():
        d = os.path.join(T.tmp(), "none")
        r = check(d, "--repair")
        must(r.rc == 1 and not os.path.exists(d), r)

    for name, table, *statements in DAMAGES:
        @T.case("damaged: " + name)
        def _():
            if not has_table(s.db, table):
                raise Skip("no table " + table)
            d = copy(s.dir)
            damage(os.path.join(d, "xtrace.db"), *statements)
            repaired_and_the_same(d, ids, before)

    @T.case("damaged: the file's own index over time")
    def _():
        d = copy(s.dir)
        lose_index_entries(os.path.join(d, "xtrace.db"), "trace_ts")
        r = check(d, "--deep")
        if r.rc == 0:
            raise Skip("the index could not be damaged")
        repaired_and_the_same(d, ids, before, "repaired: the file's own indexes")

    @T.case("a record that is gone is not made up: it is said, and the rest is repaired")
    def _():
        d = copy(s.dir)
        damage(os.path.join(d, "xtrace.db"), "DELETE FROM payload WHERE pid = (SELECT max(pid) FROM payload)",
               "DELETE FROM rollup_trace")
        r = check(d, "--repair")
        left = [line for line in r.out.splitlines() if line.startswith("left: ")]
        must(r.rc == 1 and left and "repaired: " in r.out and "are left" in r.err, r)
        again = check(d, "--deep")
        must(again.rc == 1 and "rollup" not in again.out, again)

T.done()
