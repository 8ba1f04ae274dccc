#!/usr/bin/env python3
"""Process death: 8 clients write, the server is killed, everything acknowledged is read back through every index.

A round ends with kill -9 at a random moment, at a chosen write or sync of the database or its log (tests/preload/crash.c: in
the middle of commits, seals and checkpoints), or with SIGTERM. A day passes with each five rounds, and records older than
two days are removed while the clients write. With small limits (make small) the store seals and merges all the time.
"""
# timeout: 200
# store
import datetime
import math
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from child import dies_with_parent
from facts import *
from process import base_env

T = Suite()
SMALL = os.environ.get("XTRACE_TEST_LIMITS") == "small"
ROUNDS = int(os.environ.get("XTRACE_TEST_ROUNDS", "25"))
if T.long and not SMALL:
    ROUNDS = max(25, ROUNDS // 5)      # the small limits have more to show
SEED = int(os.environ.get("XTRACE_TEST_SEED", "0")) or random.randrange(1 << 30)
BLOCK = 5           # rounds a test, and a day
FRESH = 50          # rounds after which a new directory is begun
if T.sanitized and not T.long:      # with hashes of 9 bits a deep check is quadratic in what is stored
    ROUNDS, FRESH = (min(ROUNDS, 10), 5) if T.slow > 3 else (min(ROUNDS, 15), 15)
SECONDS = 0.7       # at most so long a round writes
KEPT_DAYS = 2
rng = random.Random(SEED)
deaths = collections.Counter()
print("# seed %d, %d rounds" % (SEED, ROUNDS), flush=True)


class Crash:
    """The preloaded library's control. Where it cannot be loaded: deaths by signal only, and no calendar."""
    # kind, greatest count: of small limits, of the ordinary ones
    KINDS = (("write of the database", 1200, 300), ("sync of the database", 40, 10), ("write of the log", 4000, 4000), ("sync of the log", 250, 250))

    def __init__(self, s, days):
        self.map, self.day = None, -days
        s.env.update(TRACES_RETENTION_DAYS=str(KEPT_DAYS), METRICS_RETENTION_DAYS=str(KEPT_DAYS), XTRACE_RETENTION_FIRST_ROUND="0",
                     XTRACE_RETENTION_INTERVAL="1")
        try:
            s.env.update(preload(T, "crash"))
        except Skip:
            s.env.update(TRACES_RETENTION_DAYS="0", METRICS_RETENTION_DAYS="0")
            return
        os.mkdir(s.dir)
        file = os.path.join(s.home, "control")
        with open(file, "wb") as f:
            f.write(bytes(64))
        with open(file, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 64)
        s.env.update(XTRACE_TEST_DIR=os.path.realpath(s.dir), XTRACE_DATA_DIR=os.path.realpath(s.dir), XTRACE_TEST_CRASH=file)

    def set(self, kind=None, count=0):
        if self.map:
            left = [count if k == kind else 0 for k in range(4)]
            self.map[:] = struct.pack("<8q", *left, rng.randrange(2), self.day * 86400 * 10 ** 9, 0, 0)

    def choose(self):
        """Something to die at."""
        kind = rng.choice((0, 0, 1, 2, 2, 3) if SMALL else (0, 2, 2, 3))
        self.set(kind, int(math.exp(rng.uniform(0, math.log(self.KINDS[kind][1 if SMALL else 2])))))

    def hit(self):
        return struct.unpack("<8q", self.map[:])[6] if self.map else 0

    def today(self):
        day = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=self.day if self.map else 0)
        return day.strftime("%Y-%m-%d")


def killed_start(s, crash):
    """A start that does not come to its end: recovery must survive being interrupted."""
    env = base_env(s.home)
    env.update({k: str(v) for k, v in s.env.items() if v is not None}, BIND_ADDR="127.0.0.1:0")
    crash.choose()
    p = subprocess.Popen([s.binary, "serve"], env=env, cwd=s.home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, preexec_fn=dies_with_parent())
    time.sleep(rng.uniform(0, 0.04) * T.slow)
    p.kill()
    must(p.wait() == -signal.SIGKILL, lambda: "a start over the remains ended by itself with %s" % p.returncode)
    deaths["start"] += 1


def end(s, number, crash, clients):
    """One end of the server; what it was is counted."""
    if number % BLOCK == 3:
        time.sleep(rng.uniform(0, SECONDS) * T.slow)
        rc = s.stop(signal.SIGTERM)
        must(rc == 0, "SIGTERM: ended with %s" % rc)
        deaths["SIGTERM"] += 1
        return
    if rng.random() < 0.7:
        crash.choose()
    over = time.monotonic() + rng.uniform(0, SECONDS) * T.slow
    while time.monotonic() < over and s.proc.poll() is None and not clients.odd:
        time.sleep(0.005)
    hit = s.kill() == -signal.SIGKILL and crash.hit()
    deaths[Crash.KINDS[hit - 1][0] if hit else "any moment"] += 1


def check_old(s, facts):
    """Of records that retention may have removed each is there as it was, or gone whole."""
    problems = []
    with s.conn(30) as c:
        for f in facts:
            r = c.request("GET", "/api/public/traces/" + f.id, auth=BEARER)
            wrong = None if r.status == 404 else check_trace(f, r.json, answered)
            if wrong:
                problems.append(wrong)
    return problems


def one_round(s, number, crash, old):
    """`old`: (day, fact) of earlier rounds."""
    crash.set()     # a round that failed may have left its orders
    s.start()
    clients = Clients(s, "r%d-%s" % (number, uid()[:8]), rng.random(), day=crash.today())
    wait(lambda: clients.acked >= 20 or clients.odd or s.proc.poll() is not None, 20 * T.slow, "20 acknowledgements")
    must(s.proc.poll() is None, "the server ended by itself")
    end(s, number, crash, clients)
    clients.stop()
    must(not clients.odd, lambda: clients.odd[0])
    if rng.random() < 0.3:
        killed_start(s, crash)
    crash.set()
    stopped = rng.random() < 0.5
    wrong = deep_check(T, s.dir) if stopped else None
    s.start()
    seen = rng.sample(old, min(60, len(old)))
    problems = check(s, clients.facts)
    problems += check(s, [f for day, f in seen if day > crash.day - KEPT_DAYS], counts=False)
    problems += check_old(s, [f for day, f in seen if day <= crash.day - KEPT_DAYS])
    must(not problems, lambda: "%d lost or damaged, first: %s" % (len(problems), problems[0]))
    wrong = wrong or (None if stopped else deep_check(T, s.dir))
    must(not wrong, wrong)
    old += [(crash.day, f) for f in clients.facts if isinstance(f, Trace)]
    return clients.acked


def block(s, first, last, crash, old):
    acked = 0
    for number in range(first, last + 1):
        try:
            acked += one_round(s, number, crash, old)
        except AssertionError as e:
            raise Fail("round %d (seed %d): %s" % (number, SEED, e)) from None
    print("# rounds %d to %d: %d writes acknowledged, %d traces so far" % (first, last, acked, len(old)), flush=True)
    crash.day += 1
    crash.set()


def check_removed(s, crash, old):
    """Retention is not only harmless: what is too old goes."""
    gone = [f for day, f in old if day < crash.day - KEPT_DAYS - 1]
    if not crash.map or not gone:
        return
    some = rng.sample(gone, min(20, len(gone)))
    wait(lambda: all(s.quick("GET", "/api/public/traces/" + f.id).status == 404 for f in some), 20 * T.slow, "old traces to be removed")


for begin in range(1, ROUNDS + 1, FRESH):
    old, until = [], min(begin + FRESH - 1, ROUNDS)
    with T.server() as s:
        crash = Crash(s, (until - begin) // BLOCK + 1)
        crash.set()
        for first in range(begin, until + 1, BLOCK):
            last = min(first + BLOCK - 1, ROUNDS)

            @T.case("rounds %d to %d: killed while 8 clients write, nothing acknowledged is lost" % (first, last))
            def _():
                block(s, first, last, crash, old)

        @T.case("after round %d: an orderly stop, older rounds are still whole, what is too old is gone" % until)
        def _():
            s.start() if s.proc is None else None
            s.restart()
            young = [f for day, f in old if day > crash.day - KEPT_DAYS]
            seen = rng.sample(young, min(20000 if T.long else 600, len(young)))
            problems = check(s, seen, counts=False)
            must(not problems, lambda: "%d lost or damaged, first: %s" % (len(problems), problems[0]))
            check_removed(s, crash, old)
            wrong = deep_check(T, s.dir)
            must(not wrong, wrong)

print("# deaths: " + ", ".join("%s %d" % d for d in deaths.most_common()), flush=True)
T.done()
