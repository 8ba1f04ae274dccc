"""The part of bench/run that measures xtrace on PostgreSQL: a throw-away cluster on this machine, with fsync, a server in front
of it and the load generator beside both.  Yardsticks of the same run: groups by COPY and upsert with nothing in front, and the
two statements an observation of the original.
"""
import os
import shutil
import sys
import time

import measure
from steps import DAY_NS, POINTS, STORED, Store

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "lib"))
import pg  # noqa: E402

HISTORY = 1200000   # observations that reads find
SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "1GB", "max_wal_size": "4GB",
            "wal_level": "replica", "autovacuum_naptime": "60s"}
READS = ["trace", "observation", "list", "user-common", "session", "tag-common", "tag-once", "name", "range", "daily"]


def part_postgres(bench):
    with bench.step("postgres"):
        if pg.missing():
            raise measure.BenchError(pg.missing())
        cluster = pg.Cluster(SETTINGS)
        try:
            yardsticks(bench, cluster)
            fresh(bench, cluster, "native", "pg native|0", 6, 600)
            fresh(bench, cluster, "native", "pg native 5 KB|0", 6, 5000)
            fresh(bench, cluster, "otlp", "pg otlp|0", 6, 600)
            fresh(bench, cluster, "points-1600", "pg points 1600|0", 5, 600)
            fresh(bench, cluster, "points-once", "pg points once|0", 5, 600)
            history(bench, cluster)
        finally:
            cluster.remove()


def yardsticks(bench, cluster):
    url = cluster.create()
    for size in (600, 5000):
        for what, stored in (("copy", STORED[size]), ("original", size)):
            with bench.step("postgres: %s, %d B" % (what, size)):
                r = bench.tools.run("pg_ceiling", what, url, 5 * bench.scale, stored)
                bench.note("pg %s %d" % (what, size), r["observations_per_second"])
    cluster.drop(url)


class PgStore(Store):
    """A database of the cluster and a server on it."""

    def __init__(self, bench, cluster, name, traces):
        super().__init__(bench, os.path.join(bench.tmp, name), traces)
        self.cluster, self.url = cluster, cluster.create()
        os.makedirs(self.dir, exist_ok=True)

    def __enter__(self):
        self.server = measure.Server(self.bench.build, self.dir, url=self.url)
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.cluster.drop(self.url)
        shutil.rmtree(self.dir, ignore_errors=True)

    def bytes(self):
        with pg.connect(self.url) as c:
            return int(c.one("SELECT pg_database_size(current_database())"))


def fresh(bench, cluster, mode, key, seconds, size):
    with bench.step(key), PgStore(bench, cluster, "pg", 100000) as s:
        empty = s.bytes()
        r = bench.window(s, mode, key, seconds * bench.scale, size)
        bench.note(key + "|bytes", (s.bytes() - empty) / max(r["acked_records"], 1))


def history(bench, cluster):
    with PgStore(bench, cluster, "pg", HISTORY // 10 + 100000) as s:
        with bench.step("postgres: filling"):
            bench.window(s, "otlp", "pg fill|0", 3000, warm=0, requests=HISTORY // 100)
        with bench.step("postgres: reads"):
            with pg.connect(s.url) as c:  # what autovacuum would do a minute later
                c.sql("VACUUM ANALYZE")
            bench.reads(s, READS, "pg", "1.2 M", 500, 20 * bench.scale)
        with bench.step("postgres: window"):
            bench.window(s, "native", "pg store|1.2 M", 6 * bench.scale)
            bench.window(s, "updates", "pg updates|1.2 M", 6 * bench.scale)
        with bench.step("postgres: points"):
            s.samples_ns = time.time_ns() - DAY_NS
            bench.window(s, "points-50", "pg points 50|0", 60, warm=0, requests=1000000 // POINTS)
            bench.reads(s, ["query"], "pg", "points", 100, 6 * bench.scale)
            bench.note("pg rss", s.server.memory("VmRSS"))
            s.server.stop()
