#!/usr/bin/env python3
"""The load generator: every kind of body is accepted, and every kind of read finds what was stored."""
# timeout: 120
import json
import os
import subprocess
import sys
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from xt import *

T = Suite()
LOAD = os.path.join(os.environ.get("XTRACE_TEST_BUILD", "build"), "bench", "load")
NOW = time.time_ns()
SHAPE = ["--seed", "7", "--start", str(NOW - 10 * 86400 * 10**9), "--step", str(10**9), "--samples", str(NOW - 60 * 3600 * 10**9)]
WRITES = {"updates": 110, "native": 100, "otlp": 100, "lone": 1, "agent": 30}
POINTS = ["points-50", "points-1600", "points-5000", "points-once"]
READS = ["trace", "list", "user-common", "user-rare", "user-range", "session", "tag-common", "tag-once", "name", "range", "deep", "daily",
         "names", "query", "query-series", "group", "trace-id", "healthz"]
MAY_BE_EMPTY = {"user-common", "user-rare", "user-range", "deep"}
stored, first = [], 0


def load(s, mode, *args, requests=20):
    if not os.access(LOAD, os.X_OK):
        raise Skip("not built: make bench-programs")
    command = [LOAD, "--port", str(s.port), "--token", TOKEN, "--mode", mode, "--warm", "0", "--seconds", "30", "--conns", "4",
               "--requests", str(requests), *SHAPE, *args]
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    must(p.returncode == 0, "load ended with %d: %s" % (p.returncode, p.stderr))
    return json.loads(p.stdout)


with T.server() as s:
    for name, records in WRITES.items():
        @T.case("bodies of the kind %s are stored" % name)
        def _(mode=name, each=records):
            global first
            r = load(s, mode, "--first", str(first), "--size", "600")
            must(r["modes"][mode]["statuses"] == {"200": 20}, "answers: %s" % r["modes"][mode]["statuses"])
            must(r["acked_records"] == 20 * each, "records: %d" % r["acked_records"])
            stored.extend(["--stored", "%s:%d-%d" % (mode, first, r["next"])])
            first = r["next"]

    for name in POINTS:
        @T.case("bodies of the kind %s are stored" % name)
        def _(mode=name):
            r = load(s, mode)
            must(r["modes"][mode]["statuses"] == {"200": 20}, "answers: %s" % r["modes"][mode]["statuses"])

    @T.case("every kind of read finds what was stored")
    def _():
        r = load(s, ",".join(READS), "--points", "10000", *stored, requests=20 * len(READS))
        for mode, m in r["modes"].items():
            must(m["statuses"] == {"200": 20}, "%s was answered %s" % (mode, m["statuses"]))
            must(mode in MAY_BE_EMPTY or m["empty"] == 0, "%d answers to %s were empty" % (m["empty"], mode))

    @T.case("an observation is completed by a later body")
    def _():
        page = s.get("/api/public/traces?limit=50&orderBy=timestamp.asc").json["data"]
        for t in page:
            for o in s.get("/api/public/traces/" + t["id"]).json["observations"]:
                must(o["endTime"] and o["output"] and o["input"], "%s of %s is not complete" % (o["id"], t["id"]))

    @T.case("a fixed rate is kept")
    def _():
        r = load(s, "lone", "--rate", "100", "--first", str(first), requests=100)
        must(0.9 < r["seconds"] < 3 * (4 if T.sanitized else 1), "100 requests at 100/s took %.2f s" % r["seconds"])

T.done()
