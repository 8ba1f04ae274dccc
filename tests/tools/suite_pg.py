#!/usr/bin/env python3
"""The clusters that tests of PostgreSQL run on: tests/lib/pg.py."""
# postgresql
# timeout: 60
import os
import sys
import threading
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import pg
from xt import *

T = Suite()
if pg.missing():
    T.report("skip", "clusters", pg.missing())
    T.done()
cluster = pg.Cluster()


def refused():
    try:
        pg.connect(cluster.url(), 1).close()
    except pg.Error:
        return True
    return False


@T.case("what a statement answers, and how it fails")
def _():
    assert cluster.sql("SELECT 1, NULL, 'a b'") == [("1", None, "a b")]
    try:
        cluster.sql("SELECT 1/0")
        raise Fail("no error")
    except pg.Error as e:
        assert e.state == "22012" and "division" in str(e), e


@T.case("a database is made, used and dropped while somebody is connected")
def _():
    url = cluster.create()
    c = pg.connect(url)
    c.sql("CREATE TABLE t(n int); INSERT INTO t VALUES (7)")
    assert cluster.sql("SELECT n FROM t", url) == [("7",)]
    cluster.drop(url)
    try:
        c.sql("SELECT 1")
        raise Fail("still connected")
    except pg.Error:
        c.close()
    assert cluster.sql("SELECT 1 FROM pg_database WHERE datname = '%s'" % pg.database_of(url)) == []


@T.case("stopped in each way and killed, it starts again on its port, with what was committed")
def _():
    cluster.sql("CREATE TABLE kept(n int)")
    port = cluster.port
    for i, end in enumerate((lambda: cluster.stop("fast"), lambda: cluster.stop("immediate"), cluster.kill)):
        cluster.sql("INSERT INTO kept VALUES (%d)" % i)
        end()
        assert refused() and cluster.processes() == []
        cluster.start()
        assert cluster.port == port and cluster.sql("SELECT count(*) FROM kept") == [(str(i + 1),)]


@T.case("frozen it answers nobody; thawed it goes on where it was")
def _():
    with pg.connect(cluster.url()) as c:
        cluster.freeze()
        got = []
        t = threading.Thread(target=lambda: got.append(c.one("SELECT 5")))
        t.start()
        assert refused() and not got
        cluster.thaw()
        t.join(20)
        assert got == ["5"], got


@T.case("removed it leaves neither files nor processes")
def _():
    home, processes = cluster.home, cluster.processes()
    cluster.remove()
    assert processes and not os.path.exists(home)
    wait(lambda: not any(os.path.exists("/proc/%d" % p) for p in processes), 5, "the processes to end")


T.done()
