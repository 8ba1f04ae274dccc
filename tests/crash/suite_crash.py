#!/usr/bin/env python3
"""Process death: 8 clients write, the server is killed at random moments, everything acknowledged is read back."""
# timeout: 150
# store
import os
import random
import signal
import subprocess
import sys
import time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import xt
from facts import *

T = Suite()
ROUNDS = int(os.environ.get("XTRACE_TEST_ROUNDS", "25"))
SEED = int(os.environ.get("XTRACE_TEST_SEED", "0")) or random.randrange(1 << 30)
BLOCK = 5           # rounds a test, and between two deep checks
FRESH = 50          # rounds after which a new directory is begun
SECONDS = 0.7       # at most so long a round writes
rng = random.Random(SEED)
print("# seed %d, %d rounds" % (SEED, ROUNDS), flush=True)


def killed_start(s):
    """A start that does not come to its end: recovery must survive being interrupted."""
    env = xt.base_env(s.home)
    env.update({k: v for k, v in s.env.items() if v is not None}, BIND_ADDR="127.0.0.1:0")
    p = subprocess.Popen([s.binary, "serve"], env=env, cwd=s.home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, preexec_fn=xt._die_with_parent)
    time.sleep(rng.uniform(0, 0.04) * T.slow)
    p.kill()
    must(p.wait() == -signal.SIGKILL, lambda: "a start over the remains ended by itself with %s" % p.returncode)


def one_round(s, number, old):
    clients = Clients(s, "r%d-%s" % (number, uid()[:8]), rng.random())
    wait(lambda: clients.acked >= 20 or clients.odd, 20 * T.slow, "20 acknowledgements")
    time.sleep(rng.uniform(0, SECONDS) * T.slow)
    if number % BLOCK == 3:
        rc = s.stop(signal.SIGTERM)
        must(rc == 0, "SIGTERM: ended with %s" % rc)
    else:
        s.kill()
    clients.stop()
    must(not clients.odd, lambda: clients.odd[0])
    if rng.random() < 0.3:
        killed_start(s)
    s.start()
    seen = rng.sample(old, min(60, len(old)))
    problems = check(s, clients.facts) + check(s, seen, counts=False)
    must(not problems, lambda: "%d lost or damaged, first: %s" % (len(problems), problems[0]))
    old += [f for f in clients.facts if isinstance(f, Trace)]
    return clients.acked


def block(s, first, last, old):
    acked = 0
    for number in range(first, last + 1):
        try:
            acked += one_round(s, number, old)
        except AssertionError as e:
            raise Fail("round %d (seed %d): %s" % (number, SEED, e)) from None
    # One time beside the running server, the next time on what a kill has left.
    if last // BLOCK % 2 == 0:
        s.kill()
    wrong = deep_check(T, s.dir)
    must(not wrong, "after round %d (seed %d): %s" % (last, SEED, wrong))
    print("# rounds %d to %d: %d writes acknowledged, %d traces so far" % (first, last, acked, len(old)), flush=True)


for begin in range(1, ROUNDS + 1, FRESH):
    old = []
    with T.server() as s:
        for first in range(begin, min(begin + FRESH, ROUNDS + 1), BLOCK):
            last = min(first + BLOCK - 1, ROUNDS)

            @T.case("rounds %d to %d: killed while 8 clients write, nothing acknowledged is lost" % (first, last))
            def _():
                block(s, first, last, old)

        @T.case("after round %d: an orderly stop, and older rounds are still whole" % min(begin + FRESH - 1, ROUNDS))
        def _():
            s.start() if s.proc is None else None
            s.restart()
            seen = rng.sample(old, min(20000 if T.long else 600, len(old)))
            problems = check(s, seen, counts=False)
            must(not problems, lambda: "%d lost or damaged, first: %s" % (len(problems), problems[0]))

T.done()
