#!/usr/bin/env python3
"""A database that the original (lipish/xtrace 0.1.0) filled is taken over: every answer is the original's, whatever ends the
server on the way, and the original's tables stay as they are.

data/original.tar.xz: original.sql, a dump of such a database (pg_dump --inserts --no-owner --schema=public, without
comments and psql's own commands), and answers.json, what the original answered from it: [{path, status, body}].
"""
# postgresql
# timeout: 240
import json
import math
import os
import random
import re
import sys
import tarfile
import time
import urllib.parse
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import pg
from xt import *

T = Suite()
if pg.missing():
    T.report("skip", "the original's database", pg.missing())
    T.done()
TRACES, QUERY = "/api/public/traces", "/api/public/metrics/query"
with tarfile.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "original.tar.xz")) as t:
    DUMP = t.extractfile("original.sql").read().decode()
    ANSWERS = json.loads(t.extractfile("answers.json").read())
TABLES = DUMP[:DUMP.index("INSERT INTO")]       # without rows
KEYS = DUMP[DUMP.index("ALTER TABLE ONLY public._sqlx_migrations\n"):]
MARKS = DUMP[DUMP.index("INSERT INTO public._sqlx_migrations"):]
MARKS = MARKS[:MARKS.index(";\n") + 1]
IGNORED = ("updatedAt", "htmlPath", "latest_ts")   # the last: ours is the newest point, not its step


def instant(text):
    """A time, as what it says of the moment: (days, ns); Python's own end at the year 9999."""
    m = re.fullmatch(r"([+-]?\d{4,6})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|\+00:00)", text) \
        if isinstance(text, str) else None
    if not m:
        return None
    return tuple(int(x) for x in m.groups()[:6]) + (int((m[7] or ".0")[1:].ljust(9, "0")),)


def same(want, got, at=""):
    """The first difference between what the original answered and what we do; None: none that counts."""
    if want is None:
        return None                             # may have been derived
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return "%s: %s is no object" % (at, repr(got))
        for k, v in want.items():
            if k in IGNORED or (k == "createdAt" and at == "data[0]"):
                continue
            if k not in got:
                if v == 0 and at.endswith(("usageDetails", "costDetails")):
                    continue                    # a zero that stands for nothing
                return "%s.%s is missing" % (at, k)
            why = same(v, got[k], "%s.%s" % (at, k) if at else k)
            if why:
                return why
        return None
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return "%s: %s, not %s" % (at, repr(got), repr(want))
        return next(filter(None, (same(w, g, "%s[%d]" % (at, i)) for i, (w, g) in enumerate(zip(want, got)))), None)
    if isinstance(want, bool) or isinstance(got, bool) or not isinstance(want, (int, float)):
        if want == got or (instant(want) and instant(want) == instant(got)):
            return None
        return "%s: %s, not %s" % (at, repr(got), repr(want))
    # What the original reads from its own jsonb may be one unit in the last place beside what stands there.
    near = isinstance(got, (int, float)) and math.isclose(want, got, rel_tol=3e-16)
    return None if near else "%s: %r, not %r" % (at, got, want)


def list_differs(s, want, got):
    """Of traces with one timestamp the original gives some order, and where a page ends among them, some of them."""
    if len(want["data"]) != len(got["data"]) or want["meta"] != got["meta"]:
        return "%d items, %s" % (len(got["data"]), got["meta"])
    for i, (w, g) in enumerate(zip(want["data"], got["data"])):
        if instant(w["timestamp"]) != instant(g["timestamp"]):
            return "data[%d].timestamp: %s, not %s" % (i, g["timestamp"], w["timestamp"])
        alone = sum(instant(x["timestamp"]) == instant(w["timestamp"]) for x in want["data"] + got["data"]) == 2
        if alone and w["id"] != g["id"]:
            return "data[%d].id: %s, not %s" % (i, g["id"], w["id"])
    ours = {x["id"]: x for x in s.get(TRACES + "?limit=200").json["data"]}
    for w in want["data"]:
        g = ours.get(w["id"])
        if not g or sorted(w["observations"]) != sorted(g["observations"]):
            return "%s: its observations" % w["id"]
        why = same(dict(w, observations=[]), dict(g, observations=[]), w["id"])
        if why:
            return why
    return None


def replay(s):
    wrong = []
    for a in ANSWERS:
        r = s.get(a["path"], timeout=20)
        if r.status != a["status"]:
            why = "%d, not %d" % (r.status, a["status"])
        elif a["path"].startswith(TRACES + "?"):
            why = list_differs(s, a["body"], r.json)
        else:
            why = same(a["body"], r.json)
        if why:
            wrong.append("%s: %s" % (a["path"], why))
    must(not wrong, lambda: "%d of %d answers differ: %s" % (len(wrong), len(ANSWERS), "; ".join(wrong[:5])))


def original(rows=DUMP):
    d = pg.Database()
    d.sql(rows)
    return d


def content(d):
    """Everything in the original's tables, as one number a table."""
    return d.sql("SELECT 1, md5(string_agg(t::text, E'\\n' ORDER BY version)) FROM public._sqlx_migrations t UNION ALL "
                 "SELECT 2, md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM public.traces t UNION ALL "
                 "SELECT 3, md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM public.observations t UNION ALL "
                 "SELECT 4, md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM public.metrics t ORDER BY 1")


@T.case("every answer comes back as the original gave it, also after a restart, and its tables are as they were")
def _():
    d = original()
    before = content(d)
    with T.server(database=d) as s:
        replay(s)
        assert d.sql("SELECT phase, traces, observations, points, skipped FROM xtrace.takeover") == \
            [("2", "116", "167", "422", "0")]
        s.restart()
        replay(s)
        assert content(d) == before
        s.batch({"id": uid()})                  # it is an ordinary store now
        assert s.get(TRACES).json["meta"]["totalItems"] == 117


POINTS = 3000


def generated(traces, points):
    """Rows by SQL: `traces` traces of four observations, one of 600, and `points` points."""
    return TABLES + MARKS + ";\n" + KEYS + """
INSERT INTO public.traces(id, project_id, timestamp, name, input, metadata, tags, total_cost, created_at, updated_at)
SELECT md5('t' || i)::uuid, 'default', at, 'name-' || i %% 5, jsonb_build_object('q', repeat(md5(i::text), 5)),
  jsonb_build_object('turn_id', 't' || i), ARRAY['a' || i %% 3], i / 1e6, at, at
FROM (SELECT i, timestamptz '2026-11-20' - i * interval '5 seconds' AS at FROM generate_series(1, %d) i) s;
INSERT INTO public.observations(id, trace_id, type, start_time, model, output, calculated_total_cost, prompt_tokens, project_id,
  created_at, updated_at)
SELECT md5('o' || i || '-' || j)::uuid, md5('t' || i)::uuid, 'GENERATION', at, 'm' || j %% 4,
  jsonb_build_object('a', repeat(md5(i::text || j), 4)), 0.001, 1, 'default', at, at
FROM (SELECT i, timestamptz '2026-11-20' - i * interval '5 seconds' AS at FROM generate_series(1, %d) i) s,
  LATERAL generate_series(1, CASE WHEN i = 7 THEN 9000 ELSE 4 END) j;
INSERT INTO public.metrics(project_id, name, labels, value, timestamp)
SELECT 'default', 'metric', jsonb_build_object('node', 'n' || i %% 20), 1, timestamptz '2026-11-20' - i %% 900 * interval '1 second'
FROM generate_series(1, %d) i;
""" % (traces, traces, points)


def ready(s, seconds=60):
    def asked():
        try:
            with Conn(s._port, 5) as c:
                return c.request("GET", "/readyz").status == 200
        except OSError:
            return False
    wait(asked, seconds * T.slow, "readiness", 0.05)
    return s


@T.case("kill -9 again and again while it is taken over: every row is there once, points too; meanwhile 503 and Retry-After")
def _():
    d, rounds, seen = original(generated(6000, POINTS)), 0, set()
    with T.server(database=d) as s:
        while rounds < 40:
            rounds += 1
            s.start(wait=False)
            end = time.monotonic() + random.uniform(0.05, 0.7) * T.slow
            while time.monotonic() < end:
                try:
                    with Conn(s._port, 2) as c:
                        r = c.request("GET", "/readyz")
                        if r.status == 503 and r.json.get("records") is not None:
                            seen.add("records")
                            assert c.request("GET", "/healthz").status == 200
                            w = c.request("POST", "/v1/l/batch", {"trace": {"id": uid()}}, auth=BEARER)
                            if w.status == 503 and w.h("retry-after"):
                                seen.add("refused")
                except OSError:
                    time.sleep(0.01)
            s.kill()
            if d.one("SELECT coalesce(to_regclass('xtrace.takeover')::text, '')") and \
                    d.one("SELECT max(phase) FROM xtrace.takeover") == "2":
                break
        assert rounds > 2 and seen == {"records", "refused"}, (rounds, seen)
        ready(s.start(wait=False))
        assert d.sql("SELECT traces, observations, points, skipped FROM xtrace.takeover") == \
            [("6000", "32996", str(POINTS), "0")]
        assert d.sql("SELECT count(*), sum(nobs) FROM xtrace.trace") == [("6000", "32996")]
        assert d.one("SELECT count(*) FROM xtrace.observation") == "32996"
        days = s.get("/api/public/metrics/daily?limit=100&fromTimestamp=2026-11-01T00:00:00Z").json["data"]
        assert sum(x["countTraces"] for x in days) == 6000 and sum(x["countObservations"] for x in days) == 32996
        assert len(s.trace(d.one("SELECT md5('t7')::uuid"))["observations"]) == 9000
        if POINTS:
            r = s.get(QUERY + "?name=metric&agg=sum&step=1d&group_by=&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z").json
            assert sum(v["value"] for v in r["data"][0]["values"]) == POINTS, r
        r = T.cli("check", "--deep", dir=s.dir, seconds=60)
        assert r.rc == 0, r.out[-600:] + r.err[-300:]


@T.case("two servers started at once: one takes over, the other waits, both serve; one that dies is followed by the other")
def _():
    d = original(generated(3000, 0))
    with T.server(database=d) as a, T.server(database=d) as b:
        a.start(wait=False), b.start(wait=False)
        time.sleep(0.3)
        a.kill()
        ready(b)
        assert d.sql("SELECT count(*), sum(nobs) FROM xtrace.trace") == [("3000", "20996")]
        a.start()
        for s in (a, b):
            assert s.get(TRACES + "?limit=1").json["meta"]["totalItems"] == 3000
            assert s.get("/readyz", auth=None).status == 200


@T.case("odd rows: every character, numbers at the edges, times far off, NULLs; one role may only read the original's tables")
def _():
    every = "".join(chr(c) for c in list(range(1, 0x250)) + [0x2028, 0xfffd, 0xffff, 0x1f600, 0x10ffff])
    sql = TABLES + MARKS + ";\n" + KEYS + r"""
INSERT INTO public.traces(id, project_id, timestamp, name, input, metadata, tags, session_id, user_id, latency, total_cost,
  created_at, updated_at, environment) VALUES
('10000000-0000-0000-0000-000000000001', 'default', '2026-01-01', %(every)s, to_jsonb(%(every)s::text), '{"n": 1e400, "m": 12345678901234567890123}',
  ARRAY[%(every)s, '', NULL, 'x'], repeat('s', 100000), '', 1.7976931348623157e308, 5e-324, '2020-01-01 00:00:00.123456+00', '2021-01-01', 'prod'),
('10000000-0000-0000-0000-000000000002', 'other', '1677-09-21 00:13:00+00', NULL, 'null', NULL, '{}', NULL, NULL, 'NaN', 'Infinity', '2262-04-11 23:00:00+00', '-infinity', ''),
('10000000-0000-0000-0000-000000000003', '', '4713-01-01 BC', '', '[]', '{}', '{{a,b},{c,d}}', NULL, NULL, -0.0, -1e300, 'infinity', 'infinity', 'default'),
('10000000-0000-0000-0000-000000000004', 'default', 'infinity', NULL, '1', NULL, '{}', NULL, NULL, NULL, 0.1, '294276-12-31 23:59:59.999999+00', now(), 'default');
INSERT INTO public.observations(id, trace_id, type, name, start_time, end_time, completion_tokens, prompt_tokens, total_tokens,
  input_price, calculated_total_cost, prompt_version, parent_observation_id, output, project_id) VALUES
('ffffffff-ffff-ffff-ffff-ffffffffffff', '10000000-0000-0000-0000-000000000001', '', %(every)s, '2026-01-01', '2025-01-01', 9223372036854775807, -9223372036854775808, 0,
  1e-300, 123456789.123456789, '2', 'ffffffff-ffff-ffff-ffff-ffffffffffff', to_jsonb(repeat(%(every)s, 2000)), 'default'),
('00000000-0000-0000-0000-000000000000', '10000000-0000-0000-0000-000000000001', 'SPAN', NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', '-Infinity', 'v2', NULL, '0.1', 'default');
""" % {"every": "E'" + every.replace("\\", "\\\\").replace("'", "''") + "'"}
    d = original(sql)
    role = "r" + uid()[:8]
    d.sql("CREATE ROLE %s LOGIN; GRANT CREATE, CONNECT ON DATABASE \"%s\" TO %s; GRANT USAGE ON SCHEMA public TO %s; "
          "GRANT SELECT ON public.traces, public.observations TO %s" % (role, pg.database_of(d.url), role, role, role))
    before = content(d)
    url = d.url.replace("://%s@" % pg.USER, "://%s@" % role)
    T.exits({"DATABASE_URL": url, "API_BEARER_TOKEN": TOKEN}, text="SELECT on table public.metrics")
    d.sql("GRANT SELECT ON public.metrics TO %s" % role)
    with T.server({"DATABASE_URL": url}, database=d) as s:
        one = s.trace("10000000-0000-0000-0000-000000000001")
        holds({"name": every, "input": every, "tags": [every, "", "x"], "sessionId": "s" * 100000, "userId": "",
               "environment": "prod", "createdAt": "2020-01-01T00:00:00.123456Z", "updatedAt": "2021-01-01T00:00:00Z",
               "latency": 1.7976931348623157e308, "totalCost": 5e-324, "projectId": "default"}, one)
        assert one["metadata"]["m"] == 1.2345678901234568e22 and one["metadata"]["n"] == 10 ** 400
        first, second = one["observations"]
        holds({"id": "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12, "type": "", "name": every, "output": every * 2000,
               "completionTokens": 2 ** 63 - 1, "promptTokens": -2 ** 63, "totalTokens": 0, "inputPrice": 1e-300,
               "calculatedTotalCost": 123456789.12345679, "promptVersion": 2, "endTime": "2025-01-01T00:00:00Z",
               "parentObservationId": "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12}, first)
        holds({"id": "00000000-0000-0000-0000-000000000000", "type": "SPAN", "inputPrice": None, "calculatedTotalCost": None,
               "promptTokens": 0, "output": 0.1}, second)
        two = s.trace("10000000-0000-0000-0000-000000000002")
        holds({"name": None, "input": None, "projectId": "other", "environment": "", "latency": None, "totalCost": None,
               "timestamp": "1677-09-21T00:13:00Z", "createdAt": "2262-04-11T23:00:00Z"}, two)
        three = s.trace("10000000-0000-0000-0000-000000000003")
        holds({"name": "", "input": [], "metadata": {}, "tags": ["a", "b", "c", "d"], "projectId": "", "totalCost": -1e300,
               "timestamp": "-4712-01-01T00:00:00Z"}, three)
        holds({"totalCost": 0.1, "createdAt": "+294276-12-31T23:59:59.999Z"}, s.trace("10000000-0000-0000-0000-000000000004"))
        order = [x["id"][-1] for x in s.get(TRACES + "?orderBy=timestamp.asc").json["data"]]
        assert order == ["3", "2", "1", "4"], order
        assert s.get(TRACES + "?limit=10").json["meta"]["totalItems"] == 4
        assert s.get(TRACES + "?name=" + urllib.parse.quote(every)).json["meta"]["totalItems"] == 1
    assert content(d) == before
    d.sql("DROP OWNED BY %s CASCADE; DROP ROLE %s" % (role, role))


@T.case("an older database without environments and points, and tables of others that only have the names")
def _():
    d = original(generated(20, 0) + """;DROP TABLE public.metrics;
        ALTER TABLE public.traces DROP COLUMN environment; ALTER TABLE public.observations DROP COLUMN environment""")
    with T.server(database=d) as s:
        items = s.get(TRACES + "?limit=200").json["data"]
        assert len(items) == 20 and all(x["environment"] == "default" for x in items)
    d = pg.Database()
    d.sql(TABLES[:TABLES.index("CREATE TABLE public.metrics")] + "CREATE TABLE public.traces(id serial, name text); CREATE TABLE public.observations(id uuid, trace_id uuid)")
    with T.server(database=d) as s:
        assert s.get(TRACES).json["data"] == [] and d.sql("SELECT * FROM xtrace.takeover") == []


T.done()
