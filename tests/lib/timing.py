"""Time and threads: waiting for something with a bound that allows for others on the machine, clocks, times as text."""
import concurrent.futures
import datetime
import os
import re
import time

from checks import Fail


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def iso(text):
    """The time a text of the API means."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def wait(fn, seconds=5.0, what="", pause=0.02):
    """Calls fn until it returns something true; AssertionErrors count as not yet.  `seconds`: on a machine of our own."""
    begin, last, load = time.monotonic(), None, None
    while True:
        try:
            got = fn()
            if got:
                return got
        except AssertionError as e:
            last = e
        load = load or Load()
        spent = time.monotonic() - begin
        if spent > seconds and spent > seconds * load.factor():
            raise Fail("not within %.1f s: %s%s" % (spent, what, " (%s)" % last if last else ""))
        time.sleep(pause)


def threads(n, fn):
    """fn(0)..fn(n-1) at the same time; their results in order, the first exception raised."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(fn, range(n)))


class Load:
    """What share of our processors others have used since this was made: other programs, other machines on the same
    one.  A bound of time that holds on a machine of our own is multiplied by factor()."""

    def __init__(self):
        self.cpus = os.sched_getaffinity(0)
        self.begin = self._read()

    def _read(self):
        """(all, busy, ours) in ticks; ours: this session's processes, which tests/run starts for each suite."""
        total, busy, ours, session = 0, 0, 0, str(os.getsid(0))
        with open("/proc/stat") as f:
            for line in f:
                m = re.match(r"cpu(\d+) (.*)", line)
                if m and int(m[1]) in self.cpus:
                    user, nice, system, idle, iowait, *more = map(int, m[2].split())
                    used = user + nice + system + sum(more[:3])     # interrupts, and what the host took
                    total, busy = total + used + idle + iowait, busy + used
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as f:
                    words = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if words[3] == session:
                ours += sum(map(int, words[11:15]))
        return total, busy, ours

    def factor(self):
        total, busy, ours = (b - a for a, b in zip(self.begin, self._read()))
        others = (busy - ours) / total if total > 0 else 0
        return 1 / (1 - min(0.9, max(0.0, others)))
